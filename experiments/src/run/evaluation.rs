//! Asking a model the questions of benchmarks, with and without the image, in batches, and scoring its answers.

use crate::data::benchmarks;
use crate::data::examples::Images;
use crate::data::image_files;
use crate::features::model_cards;
use crate::features::model_cards::Tower;
use crate::machine::progress::Bar;
use crate::machine::stop;
use crate::run::store::{Answered, RunStore};
use crate::run::training::KEEP;
use crate::study::Blind;
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_probe::bench::{self, Benchmark, Judged, Question, Rules};
use burgess_probe::connector::Seen;
use burgess_probe::generate::{self, Decoding, Prompt, Sampling};
use burgess_probe::llm::chat::Turn;
use burgess_probe::llm::{ChatTemplate, Tokenizer};
use burgess_probe::mllm::Mllm;
use burgess_probe::train::FeatureSource;
use burgess_reports::schema::{self, BenchmarkResult, ConstantAnswer, Likelihoods, Sample};
use burn::tensor::Device;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Side of the grey image in pixels; preprocessing scales it to the encoder's input size.
const GREY: u32 = 64;
/// Number of questions answered in one batch.
const BATCH: usize = 32;

/// How questions are asked and answers scored.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Rules by which answers are scored.
    pub scoring: Rules,
    /// Rules by which prompts are written.
    pub prompts: Rules,
    /// Largest number of units of each benchmark; `None` for all.
    pub limit: Option<usize>,
    /// What replaces the image for the blind baseline.
    pub blind: Blind,
    /// Whether options are also scored by log-likelihood.
    pub likelihoods: bool,
    /// Sampling of generated answers; greedy decoding if absent.
    pub sampling: Option<Sampling>,
}

/// A model to evaluate, with the sources of its images.
pub struct Asking<'a> {
    pub model: &'a Mllm,
    pub chat: &'a ChatTemplate,
    pub tokenizer: &'a Tokenizer,
    pub device: &'a Device,
    /// Features or pixels of images, by image index.
    pub source: &'a dyn FeatureSource,
    /// The encoders of the model.
    pub towers: &'a [Tower],
    pub terms: Terms,
    /// Directory to which image names are relative; `images` holds the names by index.
    pub dir: &'a Path,
    pub images: &'a [String],
}

/// Asks the benchmarks that have no samples in `store` yet, stores the samples, and scores all benchmarks.
///
/// # Errors
/// As [`ask`]; samples of finished benchmarks are kept.
pub fn results(
    asking: &Asking<'_>,
    benchmarks: &[Asked],
    store: &RunStore,
    title: &str,
    bar: &Bar,
) -> Result<BTreeMap<String, BenchmarkResult>> {
    // The embeddings of the grey image are computed on first use.
    let mut blind = None;
    let mut results = BTreeMap::new();
    for asked in benchmarks {
        let id = asked.benchmark.id();
        bar.message(&format!("{title}: {id}"));
        let samples = match store.read_samples(id, &|text| bar.line(text))? {
            Some(samples) => samples,
            None => {
                if blind.is_none() && asking.terms.blind == Blind::Grey {
                    blind = Some(grey(asking)?);
                }
                let clock = Instant::now();
                let samples = ask(asking, asked, blind.as_ref(), store, bar)?;
                // The time is written first, so that samples never exist without it.
                atomic::write_json(&seconds(store, id), &clock.elapsed().as_secs_f64())?;
                store.write_samples(id, &samples)?;
                store.forget_answered(id)?;
                samples
            }
        };
        let answers: Vec<String> = samples.iter().map(|s| s.answer.clone()).collect();
        match asked.benchmark.submission(&asked.questions, &answers)? {
            // The right answers are secret: write the submission file for the benchmark's server.
            Some(submission) => {
                let file = store.samples(id).with_extension("submission.json");
                atomic::write(&file, submission.as_bytes())?;
                bar.line(&format!("{id} is scored by its server; the answers for it are in {}", file.display()));
            }
            None => {
                // Samples of an earlier version have no recorded time.
                let file = seconds(store, id);
                let seconds = if file.is_file() { atomic::read_json(&file)? } else { f64::default() };
                results.insert(id.to_string(), score(asked, &samples, seconds)?);
            }
        }
    }
    Ok(results)
}

/// File of the time that a benchmark took, in seconds.
fn seconds(store: &RunStore, benchmark: &str) -> PathBuf {
    store.samples(benchmark).with_extension("seconds.json")
}

/// Encodes the grey image as image tokens.
fn grey(asking: &Asking<'_>) -> Result<Seen> {
    let image = image::RgbImage::from_pixel(GREY, GREY, image::Rgb([128; 3]));
    asking.model.see(model_cards::blank(&image, asking.towers, !asking.model.encoders.is_empty(), asking.device)?)
}

/// A benchmark with its questions and tokenised prompts.
pub struct Asked {
    pub benchmark: &'static dyn Benchmark,
    questions: Vec<Question>,
    /// Digest of the text of the questions.
    pub digest: String,
    /// Rows of the data that cannot be asked, grouped by reason.
    pub left_out: Vec<bench::LeftOut>,
    /// Number of questions of the whole benchmark, if `questions` is a sample.
    sample_of: Option<usize>,
    /// Image index of each question.
    images: Vec<usize>,
    prompts: Vec<String>,
    /// Rules that are applied, with `official` resolved: `scoring` for answers and `asking` for prompts.
    scoring: Rules,
    asking: Rules,
    /// Tokens of the prompts with the image token.
    seeing: Vec<Vec<u32>>,
    /// Tokens of the prompts without the image token.
    blind: Vec<Vec<u32>>,
}

impl Asked {
    /// Reads the questions of a benchmark from a data directory `dir` and assigns indices to their images.
    ///
    /// # Errors
    /// The questions are not on this machine, or are malformed.
    pub fn read(
        benchmark: &'static dyn Benchmark,
        dir: &Path,
        terms: &Terms,
        chat: &ChatTemplate,
        tokenizer: &Tokenizer,
        images: &mut Images,
    ) -> Result<Self> {
        let (scoring, asking) = (benchmark.rules(terms.scoring)?, benchmark.rules(terms.prompts)?);
        let bench::Questions { mut questions, left_out } =
            benchmark.read(&benchmarks::locate(benchmark, Some(dir))?)?;
        let digest = digest::of_value(
            &questions.iter().map(|q| (&q.id, &q.question, &q.options, &q.answer)).collect::<Vec<_>>(),
        )?;
        let mut numbers = Vec::with_capacity(questions.len());
        for q in &questions {
            numbers.push(images.number(&image_files::name(dir, benchmark.shown(q, asking))));
        }
        let all = questions.len();
        if let Some(limit) = terms.limit {
            let kept = bench::sample::sample(&questions, limit, benchmark.id());
            let mut keep = questions.iter().map(|q| kept.contains(&q.unit)).collect::<Vec<_>>().into_iter();
            numbers.retain(|_| keep.next().unwrap_or(true));
            questions.retain(|q| kept.contains(&q.unit));
        }
        let prompts: Vec<String> = questions.iter().map(|q| benchmark.prompt(q, asking)).collect();
        let encode = |image: bool| -> Result<Vec<Vec<u32>>> {
            prompts.iter().map(|p| chat.prompt(tokenizer, p, image)).collect()
        };
        let sample_of = (questions.len() < all).then_some(all);
        Ok(Self {
            benchmark,
            digest,
            left_out,
            sample_of,
            images: numbers,
            seeing: encode(true)?,
            blind: encode(false)?,
            questions,
            prompts,
            scoring,
            asking,
        })
    }

    /// Notes on the rows that are not asked, by reason.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.left_out.iter().map(|left| format!("{}: not asked: {}", self.benchmark.id(), left.text("rows")))
    }

    /// Id of a question about the image with this index, if one is asked.
    pub fn question_about(&self, image: usize) -> Option<&str> {
        let at = self.images.iter().position(|p| *p == image)?;
        self.questions.get(at).map(|q| q.id.as_str())
    }

    /// Checks that all questions fit into `most` positions of the language model; an image takes `image` of them.
    ///
    /// # Errors
    /// A question is too long; the error names the first.
    pub fn check_lengths(&self, image: usize, most: usize) -> Result<()> {
        let longest = self.seeing.iter().zip(&self.questions).find(|(ids, _)| ids.len() + image > most + 1);
        match longest {
            None => Ok(()),
            Some((ids, question)) => Err(Error::failed(format!(
                "question {} of {} has {} tokens with its image, the language model reads {most}",
                question.id,
                self.benchmark.id(),
                ids.len() + image - 1
            ))
            .hint("use fewer image tokens (another connector or a smaller @grid), or leave the benchmark out")),
        }
    }
}

/// Asks every question of a benchmark, with its image and blind.
///
/// # Errors
/// An image cannot be read, a question is too long for the model, or a signal asked to stop; answers so far are kept.
fn ask(asking: &Asking<'_>, asked: &Asked, grey: Option<&Seen>, store: &RunStore, bar: &Bar) -> Result<Vec<Sample>> {
    let _section = stop::section()?;
    let Asking { model, chat, tokenizer, device, source, terms, .. } = *asking;
    let stop = chat.stop(tokenizer)?;
    let image_id = chat.image_id(tokenizer)?;
    let how = Decoding { max_new_tokens: asked.benchmark.max_new_tokens(), stop: &stop, sampling: terms.sampling };
    let total = asked.questions.len() as u64;
    let mut done = Kept::open(store, asked, terms)?;
    for first in (done.now.answers.len()..asked.questions.len()).step_by(BATCH) {
        done.keep_or_stop()?;
        let range = first..(first + BATCH).min(asked.questions.len());
        // An image with several consecutive questions is encoded once.
        let mut images: Vec<usize> = asked.images[range.clone()].to_vec();
        images.dedup();
        let sizes = source.sizes(&images)?;
        let step = || format!("asking {}, {}", asked.benchmark.id(), named(asked, range.clone()));
        let seen = source.batch(&images, device).and_then(|visual| model.look(visual, sizes.as_deref(), None));
        let seen = seen.with_context(step)?;
        let prompts: Vec<Prompt<'_>> = range
            .clone()
            .map(|i| {
                let at = asked.seeing[i].iter().position(|id| *id == image_id);
                let image = images.iter().position(|p| *p == asked.images[i]).zip(at);
                Prompt { ids: &asked.seeing[i], image }
            })
            .collect();
        if terms.likelihoods {
            done.now.weighed.extend(weigh(asking, &seen, &prompts, asked, first).with_context(step)?);
        }
        let found = generate::answer(model, Some(&seen), &prompts, &how, device);
        done.now.answers.extend(found.map_err(|e| {
            // Ask each question of the batch alone to find the one that fails.
            let one =
                |p: &Prompt<'_>| generate::answer(model, Some(&seen), std::slice::from_ref(p), &how, device).err();
            let culprit = prompts.iter().zip(range.clone()).find_map(|(p, i)| Some((one(p)?, i)));
            let (e, range) = culprit.map_or((e, range.clone()), |(e, i)| (e, i..i + 1));
            e.context(format!("asking {}, {}", asked.benchmark.id(), named(asked, range)))
        })?);
        bar.set(done.now.answers.len() as u64, 2 * total);
    }
    // Blind prompts of many questions have the same text: each text is asked once.
    let asked_blind = if grey.is_some() { &asked.seeing } else { &asked.blind };
    let texts: BTreeSet<&Vec<u32>> = asked_blind.iter().collect();
    let texts: Vec<&Vec<u32>> = texts.into_iter().collect();
    for chunk in texts.chunks(BATCH).skip(done.now.blind.len().div_ceil(BATCH)) {
        done.keep_or_stop()?;
        let place_of = |ids: &[u32]| ids.iter().position(|id| *id == image_id);
        let image = |ids: &[u32]| grey.and_then(|_| Some((0, place_of(ids)?)));
        let prompts: Vec<Prompt<'_>> = chunk.iter().map(|ids| Prompt { ids, image: image(ids) }).collect();
        let found = generate::answer(model, grey, &prompts, &how, device);
        let found = found.with_context(|| {
            let first = asked_blind.iter().position(|ids| chunk.first() == Some(&ids)).unwrap_or(0);
            format!(
                "asking {} without images, {} or one of the next",
                asked.benchmark.id(),
                named(asked, first..first + 1)
            )
        })?;
        done.now.blind.extend(found);
        bar.add(chunk.len() as u64);
    }
    let Answered { answers, mut weighed, blind, .. } = done.now;
    let blind: HashMap<&Vec<u32>, Vec<u32>> = texts.into_iter().zip(blind).collect();
    let rules = asked.scoring;
    let text = |ids: &[u32]| tokenizer.decode(ids).map(|t| t.trim().to_string());
    let mut samples = Vec::with_capacity(answers.len());
    for (i, question) in asked.questions.iter().enumerate() {
        let answer = text(&answers[i])?;
        let blind_answer = text(blind.get(&asked_blind[i]).map_or(&[], Vec::as_slice))?;
        let judged = asked.benchmark.judge(question, &answer, rules);
        let blind_judged = asked.benchmark.judge(question, &blind_answer, rules);
        samples.push(Sample {
            id: question.id.clone(),
            unit: question.unit.clone(),
            subtask: question.subtask.clone(),
            question: question.question.clone(),
            options: question.options.clone(),
            prompt: asked.prompts[i].clone(),
            image: shown(asking, asked.images[i]),
            target: question.answer.clone(),
            answer,
            parsed: judged.parsed,
            score: judged.score,
            blind_answer,
            blind_score: blind_judged.score,
            likelihoods: weighed.get_mut(i).and_then(Option::take),
        });
    }
    Ok(samples)
}

/// Describes questions by their ids, for messages.
fn named(asked: &Asked, range: Range<usize>) -> String {
    let id = |i: usize| asked.questions.get(i).map_or_else(String::new, |q| excerpt(&q.id, 80));
    match range.len() {
        0 | 1 => format!("question {}", id(range.start)),
        n => format!("one of the {n} questions from {} to {}", id(range.start), id(range.end - 1)),
    }
}

/// The answers to a benchmark so far, which are written once a minute and when a signal asks to stop.
struct Kept<'a> {
    store: &'a RunStore,
    id: &'static str,
    now: Answered,
    last: Instant,
}

impl<'a> Kept<'a> {
    /// Starts from stored answers if they belong to the same questions asked in the same way.
    fn open(store: &'a RunStore, asked: &Asked, terms: Terms) -> Result<Self> {
        let how = (&asked.prompts, asked.benchmark.max_new_tokens(), terms.blind, terms.likelihoods, terms.sampling);
        let of = digest::of_value(&(&asked.digest, how))?;
        let id = asked.benchmark.id();
        Ok(Self { store, id, now: store.answered(id, &of), last: Instant::now() })
    }

    fn keep_or_stop(&mut self) -> Result<()> {
        if stop::requested() || self.last.elapsed() >= KEEP {
            self.store.keep_answered(self.id, &self.now)?;
            self.last = Instant::now();
        }
        stop::check()
    }
}

/// Full paths of an image, for samples.
fn shown(asking: &Asking<'_>, image: usize) -> String {
    image_files::places(asking.dir, asking.images.get(image).map_or("", String::as_str))
}

/// Scores the options of the questions from index `first` on by log-likelihood; `None` for open questions.
fn weigh(
    asking: &Asking<'_>,
    seen: &Seen,
    prompts: &[Prompt<'_>],
    asked: &Asked,
    first: usize,
) -> Result<Vec<Option<Likelihoods>>> {
    let Asking { model, chat, tokenizer, device, .. } = *asking;
    let mut names = Vec::with_capacity(prompts.len());
    let mut ids = Vec::with_capacity(prompts.len());
    for (question, prompt) in asked.questions.iter().zip(&asked.prompts).skip(first).take(prompts.len()) {
        let options = asked.benchmark.answers(question);
        let whole = |answer: &String| -> Result<Vec<u32>> {
            // Supervised tokens as in training: the answer and the end-of-turn token.
            let turns = [Turn::user(prompt.clone()), Turn::assistant(answer.clone())];
            let encoded = chat.encode(tokenizer, &turns, true)?;
            let learned = encoded.ids.iter().zip(&encoded.learned).filter(|(_, learned)| **learned);
            Ok(learned.map(|(id, _)| *id).collect())
        };
        ids.push(options.iter().map(whole).collect::<Result<Vec<_>>>()?);
        names.push(options);
    }
    let scores = generate::likelihoods(model, Some(seen), prompts, &ids, device)?;
    let questions = asked.questions.iter().skip(first);
    Ok(questions
        .zip(names.into_iter().zip(scores))
        .map(|(question, (names, scores))| {
            let options: Vec<(String, f64)> = names.into_iter().zip(scores).collect();
            // Ties go to the first option.
            let best = options.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1))?.0.clone();
            let score = asked.benchmark.judge(question, &best, asked.scoring).score;
            Some(Likelihoods { options, answer: best, score })
        })
        .collect())
}

/// Computes the result of a benchmark from its samples, with the image and blind.
///
/// # Errors
/// The samples do not belong to these questions.
fn score(asked: &Asked, samples: &[Sample], seconds: f64) -> Result<BenchmarkResult> {
    let (b, rules) = (asked.benchmark, asked.scoring);
    if samples.len() != asked.questions.len() || samples.iter().zip(&asked.questions).any(|(s, q)| s.id != q.id) {
        return Err(Error::failed(format!("the samples of {} are of other questions", b.id()))
            .hint("remove the run's samples/ directory and run the command again"));
    }
    let judged: Vec<Judged> = samples.iter().map(|s| Judged { parsed: s.parsed.clone(), score: s.score }).collect();
    // Samples do not record whether a blind answer could be parsed; only its score counts.
    let blind: Vec<Judged> =
        samples.iter().map(|s| Judged { parsed: Some(s.blind_answer.clone()), score: s.blind_score }).collect();
    let outcome = b.aggregate(&asked.questions, &judged, rules)?;
    let blind = b.aggregate(&asked.questions, &blind, rules)?;
    // Open questions have no options and keep the score of the generated answer.
    let likelihood = samples
        .iter()
        .any(|s| s.likelihoods.is_some())
        .then(|| {
            let taken = |s: &Sample| match &s.likelihoods {
                Some(l) => Judged { parsed: Some(l.answer.clone()), score: l.score },
                None => Judged { parsed: s.parsed.clone(), score: s.score },
            };
            b.aggregate(&asked.questions, &samples.iter().map(taken).collect::<Vec<_>>(), rules)
        })
        .transpose()?
        .map(|o| o.score);
    let units = outcome
        .units
        .iter()
        .zip(&blind.units)
        .map(|(u, v)| schema::UnitScore { id: u.id.clone(), sum: u.sum, weight: u.weight, blind: v.sum })
        .collect();
    Ok(BenchmarkResult {
        category: b.category().clone(),
        metric: b.metric(rules).to_string(),
        scoring: rules.as_str().into(),
        prompts: asked.asking.as_str().into(),
        sample_of: asked.sample_of,
        score: outcome.score,
        stderr: outcome.stderr,
        chance: b.chance(&asked.questions, rules),
        blind: blind.score,
        n: outcome.n,
        n_unparsed: outcome.n_unparsed,
        constant: ConstantAnswer::of(samples.iter().map(|s| s.parsed.as_deref())),
        n_reasoning: samples.iter().filter(|s| bench::reasoning::split(&s.answer).reasoning).count(),
        higher_is_better: true,
        seconds,
        likelihood,
        units,
    })
}
