//! One arm × one seed: align, tune, answer, score. Each step's outcome is kept in the run's directory, and a
//! step whose outcome is there is not done again.

use crate::cards;
use crate::data::DataDir;
use crate::examples::{self, Pictures, Set};
use crate::field;
use crate::memory;
use crate::progress::{Bar, Progress};
use crate::store::RunStore;
use crate::study::{Arm, Blind, Evaluator, Freeze};
use crate::training::{Job, KEEP, Part, common_grid, source, trained};
use crate::workers::Share;
use burgess_base::stream::stream;
use burgess_base::{Error, Result};
use burgess_probe::bench::{self, Benchmark, Judged, Question};
use burgess_probe::connector::{ConnectorKind, Seen};
use burgess_probe::data::collate;
use burgess_probe::generate::{self, Decoding, Prompt};
use burgess_probe::llm::chat::Turn;
use burgess_probe::llm::{ChatTemplate, LlmConfig, Tokenizer, Weights};
use burgess_probe::mllm::Mllm;
use burgess_probe::train::FeatureSource;
use burgess_reports::schema::{self, BenchmarkResult, Cost, Likelihoods, RunId, RunResults, Sample};
use burn::tensor::Device;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Instant;

/// Side of the grey picture; preparing it makes it as large as an encoder wants.
const GREY: u32 = 64;
/// Questions answered together.
const BATCH: usize = 32;

/// The measuring instrument, opened once and shared by all runs of a study.
pub struct Instrument {
    pub study: String,
    pub evaluator: Evaluator,
    pub data: DataDir,
    /// Every picture of the data, by its path relative to the data directory; features are numbered like this.
    pub pictures: Vec<String>,
    pub device: Device,
    pub device_name: String,
    /// Threads a run computes with: part of what makes its numbers.
    pub threads: usize,
    image_id: u32,
    pub(crate) llm: Llm,
    pub(crate) align: Option<Set>,
    pub(crate) tune: Set,
    benchmarks: Vec<Asked>,
}

/// The language model's directory, and what is known of it without its weights.
pub struct Llm {
    pub dir: PathBuf,
    pub config: LlmConfig,
    pub tokenizer: Tokenizer,
    pub chat: ChatTemplate,
    digest: String,
}

/// A benchmark with its questions as tokens.
struct Asked {
    benchmark: &'static dyn Benchmark,
    questions: Vec<Question>,
    /// Number of each question's picture.
    pictures: Vec<usize>,
    prompts: Vec<String>,
    /// With and without the picture's token.
    seeing: Vec<Vec<u32>>,
    blind: Vec<Vec<u32>>,
}

impl Instrument {
    /// Reads all conversations and questions of a study.
    pub fn open(
        study: &str,
        evaluator: &Evaluator,
        data: DataDir,
        device_name: &str,
        device: Device,
        progress: &Progress,
    ) -> Result<Self> {
        let evaluator = evaluator.clone();
        evaluator.recipe.check().map_err(|e| e.context("[recipe]"))?;
        let llm = Llm::open(&evaluator)?;
        let mut pictures = Pictures::default();
        let mut align = match &evaluator.recipe.align {
            Some(_) => {
                let file = data.align.as_ref().ok_or_else(|| {
                    Error::usage("the recipe has an align stage, but the data name no conversations for it")
                        .hint("set align = \"FILE\" in [evaluator.data.files], or leave out [evaluator.recipe.align]")
                })?;
                Some(examples::read(file, None, &llm, &mut pictures, progress)?)
            }
            None => None,
        };
        let mut tune = examples::read(&data.tune, data.per_source, &llm, &mut pictures, progress)?;
        let mut sets: Vec<&mut Set> = align.iter_mut().chain([&mut tune]).collect();
        examples::drop_unreadable(&mut sets, &mut pictures, &data, progress)?;
        let mut benchmarks = Vec::new();
        for id in &evaluator.benchmarks {
            // All pictures are numbered before the limit is applied: a smaller sample reuses the same features.
            benchmarks.push(Asked::read(bench::find(id)?, &data, evaluator.limit, &llm, &mut pictures)?);
        }
        Ok(Self {
            study: study.to_string(),
            evaluator,
            data,
            pictures: pictures.names,
            device,
            device_name: device_name.to_string(),
            threads: Share::of_this_machine(None).threads,
            image_id: llm.chat.image_id(&llm.tokenizer)?,
            llm,
            align,
            tune,
            benchmarks,
        })
    }

    /// The connector of an arm: the evaluator's, unless the arm has one of its own.
    pub fn connector<'a>(&'a self, arm: &'a Arm) -> &'a ConnectorKind {
        arm.connector_of(&self.evaluator)
    }

    /// Everything a run's numbers depend on, for `config.json`.
    pub fn config(&self, arm: &Arm, seed: u64, encoders: &BTreeMap<String, String>) -> Result<Value> {
        let mut config = json!({
            "burgess": env!("CARGO_PKG_VERSION"),
            "study": self.study,
            "arm": arm.name(),
            "freeze": arm.freeze.as_str(),
            "seed": seed,
            "encoders": encoders,
            "llm": {"name": self.evaluator.llm, "digest": self.llm.digest},
            "data": self.data.digest,
            "benchmarks": self.benchmarks.iter().map(|b| (b.benchmark.id(), b.benchmark.version())).collect::<BTreeMap<_, _>>(),
            "evaluator": serde_json::to_value(&self.evaluator)?,
            "device": self.device_name,
            "threads": self.threads,
        });
        if let (Some(connector), Some(fields)) = (&arm.connector, config.as_object_mut()) {
            fields.insert("connector".into(), serde_json::to_value(connector)?);
        }
        Ok(config)
    }
}

impl Llm {
    fn open(evaluator: &Evaluator) -> Result<Self> {
        let weights = Weights::open(&field::resolve(&evaluator.llm)?)?;
        let dir = weights.path().to_path_buf();
        let tokenizer = Tokenizer::of_model(&weights)?;
        let chat = match &evaluator.chat {
            Some(name) => ChatTemplate::named(name)?,
            None => ChatTemplate::of_model(&weights, &tokenizer)?,
        };
        let chat = match &evaluator.system {
            Some(system) => chat.with_system(system)?,
            None => chat,
        };
        Ok(Self { digest: weights.digest()?, config: weights.config().clone(), dir, tokenizer, chat })
    }
}

impl Asked {
    fn read(
        benchmark: &'static dyn Benchmark,
        data: &DataDir,
        limit: Option<usize>,
        llm: &Llm,
        pictures: &mut Pictures,
    ) -> Result<Self> {
        let mut questions = benchmark.read(&data.dir)?;
        let mut numbers = Vec::with_capacity(questions.len());
        for q in &questions {
            let image = q.image.as_ref().ok_or_else(|| Error::failed(format!("question {} has no picture", q.id)))?;
            let name = image.strip_prefix(&data.dir).unwrap_or(image).to_string_lossy();
            numbers.push(pictures.number(&name));
        }
        if let Some(limit) = limit {
            let kept = sample(&questions, limit, benchmark.id());
            let mut keep = questions.iter().map(|q| kept.contains(&q.unit)).collect::<Vec<_>>().into_iter();
            numbers.retain(|_| keep.next().unwrap_or(true));
            questions.retain(|q| kept.contains(&q.unit));
        }
        let prompts: Vec<String> = questions.iter().map(|q| benchmark.prompt(q)).collect();
        let encode = |image: bool| -> Result<Vec<Vec<u32>>> {
            prompts.iter().map(|p| llm.chat.prompt(&llm.tokenizer, p, image)).collect()
        };
        Ok(Self { benchmark, pictures: numbers, seeing: encode(true)?, blind: encode(false)?, questions, prompts })
    }
}

/// A fixed random sample of the units of a benchmark: whole pictures or pairs, never single questions.
fn sample(questions: &[Question], limit: usize, benchmark: &str) -> BTreeSet<String> {
    let units: BTreeSet<&str> = questions.iter().map(|q| q.unit.as_str()).collect();
    let mut units: Vec<&str> = units.into_iter().collect();
    collate::shuffle(&mut units, &mut stream(&format!("limit/{benchmark}"), 0));
    units.into_iter().take(limit).map(String::from).collect()
}

/// Does what is left of a run.
pub fn run(
    place: &Instrument,
    arm: &Arm,
    seed: u64,
    parts: &[Part],
    encoders: &BTreeMap<String, String>,
    store: &RunStore,
    progress: &Progress,
) -> Result<()> {
    let config = place.config(arm, seed, encoders)?;
    let job = Job { place, arm, seed, config: &config, keep: KEEP };
    let name = job.title();
    let bar = progress.bar(&name, 0);
    let started = Instant::now();
    let model = match store.model().is_dir() {
        true => {
            cards::write(&store.model(), parts)?;
            Mllm::load(&store.model(), &place.device)?.0
        }
        false => trained(&job, parts, store, &bar)?,
    };
    store.forget_states()?;
    let source = source(place, arm, parts)?;
    // What the blind model is shown, made when it is first needed.
    let mut grey = None;
    let mut results = BTreeMap::new();
    for asked in &place.benchmarks {
        bar.message(&format!("{name}: {}", asked.benchmark.id()));
        let samples = match store.read_samples(asked.benchmark.id())? {
            Some(samples) => samples,
            None => {
                if place.evaluator.blind == Blind::Grey && grey.is_none() {
                    let picture = image::RgbImage::from_pixel(GREY, GREY, image::Rgb([128; 3]));
                    let encoders = parts.iter().map(|p| (&p.encoder, &p.card));
                    let visual = cards::visual(&picture, encoders, arm.freeze == Freeze::Unfrozen, &place.device)?;
                    grey = Some(model.see(visual)?);
                }
                let samples = ask(place, &model, source.as_ref(), grey.as_ref(), asked, &bar)?;
                store.write_samples(asked.benchmark.id(), &samples)?;
                samples
            }
        };
        results.insert(asked.benchmark.id().to_string(), score(asked, &samples)?);
    }
    let mut results = RunResults {
        schema: schema::SCHEMA,
        run: RunId {
            id: format!("{}/{}/seed-{seed}", place.study, arm.name()),
            study: place.study.clone(),
            arm: arm.name(),
            encoders: arm.encoder_names(),
            freeze: arm.freeze.as_str().into(),
            connector: place.connector(arm).name().into(),
            llm: place.evaluator.llm.clone(),
            seed,
            blind: place.evaluator.blind.as_str().into(),
        },
        results,
        categories: BTreeMap::new(),
        average: 0.0,
        cost: cost(parts, store)?,
        config,
        versions: versions(place),
        digests: digests(place, encoders),
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        device: place.device_name.clone(),
    };
    results.summarise();
    store.finish(&results)?;
    drop(bar);
    progress.line(&format!("{name}: average {:.1} in {:.0} s", results.average, started.elapsed().as_secs_f64()));
    Ok(())
}

/// Asks every question of a benchmark, with its picture and without.
fn ask(
    place: &Instrument,
    model: &Mllm,
    source: &dyn FeatureSource,
    grey: Option<&Seen>,
    asked: &Asked,
    bar: &Bar,
) -> Result<Vec<Sample>> {
    let device = &place.device;
    let stop = place.llm.chat.stop(&place.llm.tokenizer)?;
    let how =
        Decoding { max_new_tokens: asked.benchmark.max_new_tokens(), stop: &stop, sampling: place.evaluator.sampling };
    let total = asked.questions.len() as u64;
    let mut answers = Vec::with_capacity(asked.questions.len());
    let mut weighed = Vec::new();
    for first in (0..asked.questions.len()).step_by(BATCH) {
        let range = first..(first + BATCH).min(asked.questions.len());
        // A picture with several questions is seen once.
        let mut images: Vec<usize> = asked.pictures[range.clone()].to_vec();
        images.dedup();
        let sizes = source.sizes(&images)?;
        let seen = model.look(source.batch(&images, device)?, sizes.as_deref(), None)?;
        let prompts: Vec<Prompt<'_>> = range
            .map(|i| {
                let at = asked.seeing[i].iter().position(|id| *id == place.image_id);
                let image = images.iter().position(|p| *p == asked.pictures[i]).zip(at);
                Prompt { ids: &asked.seeing[i], image }
            })
            .collect();
        if place.evaluator.likelihoods {
            weighed.extend(weigh(place, model, &seen, &prompts, asked, first)?);
        }
        answers.extend(generate::answer(model, Some(&seen), &prompts, &how, device)?);
        bar.set(answers.len() as u64, 2 * total);
    }
    // Without pictures, or with one for all, many questions are the same text: each text is asked once.
    let asked_blind = if grey.is_some() { &asked.seeing } else { &asked.blind };
    let texts: BTreeSet<&Vec<u32>> = asked_blind.iter().collect();
    let texts: Vec<&Vec<u32>> = texts.into_iter().collect();
    let mut blind: HashMap<&Vec<u32>, Vec<u32>> = HashMap::new();
    for chunk in texts.chunks(BATCH) {
        let place_of = |ids: &[u32]| ids.iter().position(|id| *id == place.image_id);
        let image = |ids: &[u32]| grey.and_then(|_| Some((0, place_of(ids)?)));
        let prompts: Vec<Prompt<'_>> = chunk.iter().map(|ids| Prompt { ids, image: image(ids) }).collect();
        let found = generate::answer(model, grey, &prompts, &how, device)?;
        blind.extend(chunk.iter().copied().zip(found));
        bar.add(chunk.len() as u64);
    }
    let text = |ids: &[u32]| place.llm.tokenizer.decode(ids).map(|t| t.trim().to_string());
    let mut samples = Vec::with_capacity(answers.len());
    for (i, question) in asked.questions.iter().enumerate() {
        let answer = text(&answers[i])?;
        let blind_answer = text(blind.get(&asked_blind[i]).map_or(&[], Vec::as_slice))?;
        let judged = asked.benchmark.judge(question, &answer);
        let blind_judged = asked.benchmark.judge(question, &blind_answer);
        samples.push(Sample {
            id: question.id.clone(),
            unit: question.unit.clone(),
            question: question.question.clone(),
            prompt: asked.prompts[i].clone(),
            image: place.data.dir.join(&place.pictures[asked.pictures[i]]).display().to_string(),
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

/// The possible answers to the questions from number `first` on as the model weighs them; nothing for open questions.
fn weigh(
    place: &Instrument,
    model: &Mllm,
    seen: &Seen,
    prompts: &[Prompt<'_>],
    asked: &Asked,
    first: usize,
) -> Result<Vec<Option<Likelihoods>>> {
    let (chat, tokenizer) = (&place.llm.chat, &place.llm.tokenizer);
    let mut names = Vec::with_capacity(prompts.len());
    let mut ids = Vec::with_capacity(prompts.len());
    for (question, prompt) in asked.questions.iter().zip(&asked.prompts).skip(first).take(prompts.len()) {
        let options = asked.benchmark.answers(question);
        let whole = |answer: &String| -> Result<Vec<u32>> {
            // As it would be learned: the answer with what ends it.
            let turns = [Turn::user(prompt.clone()), Turn::assistant(answer.clone())];
            let encoded = chat.encode(tokenizer, &turns, true)?;
            let learned = encoded.ids.iter().zip(&encoded.learned).filter(|(_, learned)| **learned);
            Ok(learned.map(|(id, _)| *id).collect())
        };
        ids.push(options.iter().map(whole).collect::<Result<Vec<_>>>()?);
        names.push(options);
    }
    let scores = generate::likelihoods(model, Some(seen), prompts, &ids, &place.device)?;
    let questions = asked.questions.iter().skip(first);
    Ok(questions
        .zip(names.into_iter().zip(scores))
        .map(|(question, (names, scores))| {
            let options: Vec<(String, f64)> = names.into_iter().zip(scores).collect();
            // Of equal ones the first.
            let best = options.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1))?.0.clone();
            let score = asked.benchmark.judge(question, &best).score;
            Some(Likelihoods { options, answer: best, score })
        })
        .collect())
}

/// The benchmark's number from its samples, with the image and blind.
fn score(asked: &Asked, samples: &[Sample]) -> Result<BenchmarkResult> {
    let b = asked.benchmark;
    if samples.len() != asked.questions.len() || samples.iter().zip(&asked.questions).any(|(s, q)| s.id != q.id) {
        return Err(Error::failed(format!("the samples of {} are of other questions", b.id()))
            .hint("remove the run's samples/ directory and run the command again"));
    }
    let judged: Vec<Judged> = samples.iter().map(|s| Judged { parsed: s.parsed.clone(), score: s.score }).collect();
    // Whether a blind answer could be parsed is not kept; only its score counts.
    let blind: Vec<Judged> =
        samples.iter().map(|s| Judged { parsed: Some(s.blind_answer.clone()), score: s.blind_score }).collect();
    let outcome = b.aggregate(&asked.questions, &judged)?;
    let blind = b.aggregate(&asked.questions, &blind)?;
    // Open questions among them keep their generated answers' scores.
    let likelihood = samples
        .iter()
        .any(|s| s.likelihoods.is_some())
        .then(|| {
            let taken = |s: &Sample| match &s.likelihoods {
                Some(l) => Judged { parsed: Some(l.answer.clone()), score: l.score },
                None => Judged { parsed: s.parsed.clone(), score: s.score },
            };
            b.aggregate(&asked.questions, &samples.iter().map(taken).collect::<Vec<_>>())
        })
        .transpose()?
        .map(|o| o.score);
    let units = outcome
        .units
        .iter()
        .zip(&blind.units)
        .map(|(u, v)| schema::Unit { id: u.id.clone(), sum: u.sum, weight: u.weight, blind: v.sum })
        .collect();
    Ok(BenchmarkResult {
        category: b.category().to_string(),
        metric: b.metric().to_string(),
        score: outcome.score,
        stderr: outcome.stderr,
        chance: b.chance(&asked.questions),
        blind: blind.score,
        n: outcome.n,
        n_unparsed: outcome.n_unparsed,
        higher_is_better: true,
        seconds: 0.0,
        likelihood,
        units,
    })
}

fn cost(parts: &[Part], store: &RunStore) -> Result<Cost> {
    let mut flops = 0.0;
    for part in parts {
        flops += part.card.architecture.flops(&part.card.tap)? as f64;
    }
    Ok(Cost {
        encoder_params: parts.iter().map(|p| p.card.source.parameters).sum(),
        gflops_per_image: flops / 1e9,
        tokens: common_grid(parts)?.iter().product(),
        train_seconds: store.train_seconds()?,
        images_per_second: 1.0 / parts.iter().map(|p| 1.0 / p.features.images_per_second).sum::<f64>(),
        peak_memory_bytes: memory::peak(),
    })
}

fn versions(place: &Instrument) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([
        ("burgess".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("burgess-world".to_string(), burgess_world::VERSION.to_string()),
        ("burn".to_string(), "0.22.1".to_string()),
    ]);
    versions.extend(place.benchmarks.iter().map(|b| (b.benchmark.id().to_string(), b.benchmark.version().to_string())));
    versions
}

fn digests(place: &Instrument, encoders: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut digests = encoders.clone();
    digests.insert(place.evaluator.llm.clone(), place.llm.digest.clone());
    digests.insert("data".into(), place.data.digest.clone());
    digests
}
