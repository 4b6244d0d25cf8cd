use super::*;
use crate::data::ImageIndex;
use crate::machine::progress::Progress;
use crate::run::asked_tasks::AskedTasks;
use crate::run::eval_task::EvalTask;
use crate::run::store::{PartialAnswers, RunStore};
use crate::study::{BlindInput, EvalOptions, ResponsePromptUse, SeveralImagesInput};
use burgess_encoders::features::FeatureMap;
use burgess_encoders::init::initialise;
use burgess_probe::bench::{self, ImageLocation, Question, Rules};
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::generate::{self, Decoding, Prompt, Sampling};
use burgess_probe::llm::tokenizer::SPECIALS;
use burgess_probe::llm::{ChatTemplate, LlmConfig, Tokenizer};
use burgess_probe::mllm::{ImageBatch, Mllm, MllmConfig};
use burn::tensor::{Tensor, TensorData};
use std::path::Path;
use std::sync::Mutex;

/// Features in memory; it notes which images were read.
#[derive(Default)]
struct Held(Mutex<Vec<usize>>);

impl FeatureSource for Held {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        self.0.lock().expect("the list").extend(images);
        let value = |i: usize| ((i * 7919) % 1009) as f32 / 252.0 - 2.0;
        let values: Vec<f32> = images.iter().flat_map(|i| (0..16 * 6).map(move |k| value(i * 96 + k))).collect();
        let tokens = Tensor::from_data(TensorData::new(values, [images.len(), 16, 6]), device);
        Ok(ImageBatch::FeatureMaps(vec![FeatureMap { tokens, grid: [4, 4] }]))
    }
}

struct Asked {
    model: Mllm,
    tokenizer: Tokenizer,
    tasks: Vec<EvalTask>,
    images: Vec<String>,
    source: Held,
    options: EvalOptions,
    device: Device,
}

fn question(i: usize, images: &[usize], text: &str, options: &[&str], answer: &str) -> Question {
    Question {
        id: format!("q{i}"),
        images: images.iter().map(|i| ImageLocation::File(format!("{i}.png").into())).collect(),
        image_id: format!("{images:?}"),
        question: text.into(),
        options: options.iter().map(|o| (*o).to_string()).collect(),
        answer: answer.into(),
        accepted: vec![answer.into()],
        subtask: "all".into(),
        unit: format!("{images:?}"),
        ..Question::default()
    }
}

impl Asked {
    fn new(blind: BlindInput, sampling: Option<Sampling>) -> Result<Self> {
        let device = Device::flex();
        let text = ["How many red cups? three", "Which is nearer, the ball or the box? A. B. C. <image 1>"];
        let tokenizer = Tokenizer::train(text.iter(), 300, &SPECIALS)?;
        let chat = ChatTemplate::nano();
        let kind: ConnectorKind = serde_json::from_str(r#""mlp2x_gelu""#)?;
        let llm = LlmConfig::nano(32, 3, tokenizer.vocab_size());
        let config = MllmConfig {
            connector: ConnectorConfig::new(kind, &[(6, [4, 4])], 32)?,
            llm: llm.clone(),
            chat: chat.clone(),
            encoders: Vec::new(),
            grid: None,
        };
        let model = Mllm::assemble(config, Vec::new(), initialise(llm.init(&device)?, "llm", 3), 3, &device)?;
        let options = EvalOptions {
            scoring: Rules::Official,
            prompts: Rules::Official,
            response_prompt: ResponsePromptUse::Keep,
            several_images: SeveralImagesInput::Blocks,
            limit: None,
            until_ci: None,
            blind,
            likelihoods: true,
            sampling,
        };
        let open = |n: usize| -> Vec<Question> {
            let text = |i: usize| format!("How many {}cups?", "red ".repeat(i % 5));
            (0..n).map(|i| question(i, &[i % 7], &text(i), &[], "three")).collect()
        };
        let choice = (0..9).map(|i| question(i, &[i], "Which is nearer?", &["the ball", "the box"], "A")).collect();
        let several = vec![
            question(0, &[2, 3], "Which is nearer, <image 2> or <image 1>?", &["a", "b", "c"], "A"),
            question(1, &[2, 3], "Which is nearer?", &["a", "b"], "B"),
            question(2, &[4, 4, 9], "Which is nearer?", &["a", "b"], "B"),
            question(3, &[2], "Which is nearer, <image 1>?", &["a", "b"], "B"),
            question(4, &[], "Which is nearer?", &["a", "b"], "B"),
            question(5, &[], "How many?", &[], "3"),
        ];
        let mut images = ImageIndex::default();
        let lists: [(&str, Vec<Question>); 4] =
            [("nano-gqa", open(40)), ("nano-cvbench-3d", choice), ("mmmu", several), ("nano-docvqa", open(12))];
        let tasks = lists.into_iter().map(|(id, questions)| {
            let found = bench::find(id)?;
            EvalTask::of_questions(found, questions.into(), Path::new(""), &options, &chat, &tokenizer, &mut images)
        });
        let tasks = tasks.collect::<Result<_>>()?;
        Ok(Self { model, tokenizer, tasks, images: images.names, source: Held::default(), options, device })
    }

    fn context(&self) -> EvalContext<'_> {
        EvalContext {
            model: &self.model,
            chat: &self.model.config().chat,
            tokenizer: &self.tokenizer,
            device: &self.device,
            source: &self.source,
            encoders: &[],
            options: self.options,
            judge: None,
            dir: Path::new(""),
            images: &self.images,
        }
    }

    /// A grey image, if blind questions have one.
    fn grey(&self) -> Result<Option<ImageTokens>> {
        let grey = || self.model.encode_images(Held::default().batch(&[1000], &self.device)?);
        (self.options.blind == BlindInput::Grey).then(grey).transpose()
    }

    /// Answers all questions that `before` lacks; returns the answers and the number of finished benchmarks.
    fn ask(&self, before: &[PartialAnswers]) -> Result<(Vec<PartialAnswers>, usize)> {
        let place = tempfile::tempdir()?;
        let store = RunStore::at(place.path()).claim_alone()?;
        let mut work = Vec::new();
        for (i, task) in self.tasks.iter().enumerate() {
            let mut progress = TaskProgress::open(&store, task, self.options)?;
            if let Some(before) = before.get(i) {
                progress.now = before.clone();
            }
            work.push(progress);
        }
        let progress = Progress::silent();
        let mut finished = 0;
        ask_questions(&self.context(), &mut work, self.grey()?.as_ref(), &progress.bar("", 0), &mut |_, progress| {
            assert!(progress.is_complete());
            finished += 1;
            Ok(())
        })?;
        Ok((work.into_iter().map(|progress| progress.now).collect(), finished))
    }

    /// The answers one question at a time, with each image encoded every time.
    fn one_by_one(&self) -> Result<Vec<PartialAnswers>> {
        let (chat, device) = (&self.model.config().chat, &self.device);
        let (image_id, stop) = (chat.image_id(&self.tokenizer)?, chat.stop(&self.tokenizer)?);
        let mut all = Vec::new();
        for task in &self.tasks {
            let decoding = Decoding {
                max_new_tokens: task.benchmark.max_new_tokens(),
                stop: &stop,
                sampling: self.options.sampling,
            };
            let mut now = PartialAnswers::default();
            for i in 0..task.questions.len() {
                let images = task.images_of(i);
                let tokens = match images.is_empty() {
                    true => None,
                    false => Some(self.model.encode_images(Held::default().batch(images, device)?)?),
                };
                let ids = task.image_prompt(i);
                let places = || ids.iter().enumerate().filter(|(_, id)| **id == image_id).map(|(at, _)| at);
                let prompt = Prompt { ids, images: (0..images.len()).zip(places()).collect() };
                let answer = |tokens: Option<&ImageTokens>, prompt: &Prompt<'_>| {
                    generate::answer(&self.model, tokens, std::slice::from_ref(prompt), &decoding, device)
                };
                now.answers.insert(i, answer(tokens.as_ref(), &prompt)?.remove(0));
                let names = task.possible_answers(i);
                let options = names.iter().map(|o| task.answer_tokens(chat, &self.tokenizer, i, o));
                let options = options.collect::<Result<Vec<_>>>()?;
                let scores = generate::score_options(&self.model, tokens.as_ref(), &[prompt], &[options], device)?;
                if !names.is_empty() {
                    let options = names.into_iter().zip(scores.into_iter().flatten()).collect();
                    now.option_scores.insert(i, Likelihoods { options, answer: String::new(), score: 0.0 });
                }
                let grey = self.grey()?.filter(|_| !images.is_empty());
                let blind = match &grey {
                    Some(_) => Prompt { ids, images: places().map(|at| (0, at)).collect() },
                    None => Prompt::text(task.blind_prompt(i)),
                };
                now.blind.insert(i, answer(grey.as_ref(), &blind)?.remove(0));
            }
            all.push(now);
        }
        Ok(all)
    }
}

#[test]
fn answers_equal_those_of_one_question_at_a_time() -> Result<()> {
    let drawn = Sampling { temperature: 1.5, top_p: 0.9, top_k: None, seed: 1 };
    for (blind, sampling) in [(BlindInput::Omitted, None), (BlindInput::Grey, None), (BlindInput::Omitted, Some(drawn))]
    {
        let asked = Asked::new(blind, sampling)?;
        let (made, finished) = asked.ask(&[])?;
        assert_eq!(finished, asked.tasks.len());
        let mut read = asked.source.0.lock().expect("the list").clone();
        read.sort_unstable();
        assert_eq!(read, (0..asked.images.len()).collect::<Vec<_>>(), "each image once");
        for ((one, all), task) in asked.one_by_one()?.iter().zip(&made).zip(&asked.tasks) {
            let id = task.benchmark.id();
            assert_eq!(one.answers, all.answers, "{id}");
            assert_eq!(one.blind, all.blind, "{id}");
            assert_eq!(one.option_scores.len(), all.option_scores.len(), "{id}");
            for (a, b) in one.option_scores.values().zip(all.option_scores.values()) {
                let close = |(a, b): (&(String, f64), &(String, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-4;
                assert!(a.options.iter().zip(&b.options).all(close), "{id}: {a:?} and {b:?}");
            }
            assert!(all.seconds > 0.0, "{id}");
        }
        // Answers differ between images, so the test can fail.
        let distinct: std::collections::BTreeSet<_> = made[0].answers.values().collect();
        assert!(distinct.len() > 3, "{distinct:?}");
    }
    Ok(())
}

#[test]
fn an_interrupted_evaluation_gives_the_same_answers() -> Result<()> {
    let asked = Asked::new(BlindInput::Omitted, None)?;
    let (whole, _) = asked.ask(&[])?;
    let mut before = whole.clone();
    for (t, now) in before.iter_mut().enumerate() {
        now.answers.retain(|i, _| (i + t) % 3 == 0);
        now.option_scores.retain(|i, _| (i + t) % 3 == 0);
        now.blind.retain(|i, _| (i + t) % 2 == 0);
    }
    before[3] = whole[3].clone();
    let (again, finished) = asked.ask(&before)?;
    assert_eq!(finished, asked.tasks.len());
    for (a, b) in whole.iter().zip(&again) {
        assert_eq!((&a.answers, &a.blind), (&b.answers, &b.blind));
        // To the last bit, on the CPU backend.
        assert_eq!(a.option_scores, b.option_scores);
    }
    Ok(())
}

#[test]
fn questions_with_several_images_and_without_are_put_as_asked() -> Result<()> {
    let asked = Asked::new(BlindInput::Omitted, None)?;
    let task = &asked.tasks[2];
    assert_eq!(task.images_of(0), [asked.number("3.png"), asked.number("2.png")], "in the order of the references");
    assert_eq!(task.images_of(1), [asked.number("2.png"), asked.number("3.png")]);
    assert_eq!(task.images_of(2).len(), 3);
    assert!(task.images_of(4).is_empty() && task.image_prompt(4) == task.blind_prompt(4));
    assert!(task.prompts[0].starts_with("Which is nearer, <image> or <image>?"), "{}", task.prompts[0]);
    assert!(task.prompts[1].starts_with("<image>\n<image>\nWhich"), "{}", task.prompts[1]);
    assert!(task.prompts[3].starts_with("Which is nearer, <image 1>?"), "as before: {}", task.prompts[3]);
    assert!(task.has_several_images() && !asked.tasks[0].has_several_images());
    // 16 tokens per image; the longest question has three images.
    let longest = task.image_prompt(2).len() + 3 * 15;
    task.check_lengths(16, longest)?;
    let e = task.check_lengths(16, longest - 1).unwrap_err();
    assert!(e.to_string().contains("question q2 of mmmu") && e.to_string().contains("3 images of 16 tokens"), "{e}");
    assert!(e.hint_text().is_some_and(|hint| hint.contains("side-by-side")), "{e}");
    Ok(())
}

#[test]
fn asking_stops_when_the_interval_is_narrow_and_resumes_at_the_same_questions() -> Result<()> {
    let mut asked = Asked::new(BlindInput::Omitted, None)?;
    (asked.options.likelihoods, asked.options.until_ci) = (false, Some(6.5));
    // No answer is right, so that Wilson's interval of 0 decides: it needs 96 of the 150 units.
    let questions: Vec<Question> = (0..150)
        .map(|i| Question { unit: format!("u{i}"), ..question(i, &[i % 7], "How many?", &[], "no such answer") })
        .collect();
    let mut images = ImageIndex::default();
    let (chat, found) = (ChatTemplate::nano(), bench::find("nano-gqa")?);
    let read = questions.into();
    let task =
        EvalTask::of_questions(found, read, Path::new(""), &asked.options, &chat, &asked.tokenizer, &mut images)?;
    (asked.tasks, asked.images) = (vec![task], images.names);
    let place = tempfile::tempdir()?;
    let store = RunStore::at(place.path()).claim_alone()?;
    let bar = Progress::silent().bar("", 0);
    let first: Vec<String> = bench::sample::order(&asked.tasks[0].questions, "nano-gqa").into_iter().take(96).collect();
    // The second time, the samples are read from the store.
    for reads in [7, 0] {
        asked.source.0.lock().expect("the list").clear();
        let mut tasks = AskedTasks::open(&asked.context(), &asked.tasks, &store, &bar)?;
        let intervals = tasks.ask_until(&asked.context(), 6.5, "test", &bar)?;
        let interval = intervals.values().next().ok_or_else(|| Error::failed("no interval"))?;
        assert!(interval.reached && interval.score == 0.0 && interval.low == 0.0, "{interval:?}");
        assert_eq!((interval.looks, interval.planned_looks, interval.asked, interval.questions), (2, 4, 96, 150));
        let (task, samples) = tasks.finished()?.remove(0);
        assert_eq!((task.questions.len(), samples.len()), (96, 96));
        assert!(samples.iter().all(|s| first.contains(&s.unit)));
        assert_eq!(task.score(&samples, 1.0)?.sample_of, Some(150));
        let mut read = asked.source.0.lock().expect("the list").clone();
        read.sort_unstable();
        read.dedup();
        assert_eq!(read.len(), reads);
    }
    Ok(())
}

impl Asked {
    fn number(&self, name: &str) -> usize {
        self.images.iter().position(|n| n == name).unwrap_or(usize::MAX)
    }
}
