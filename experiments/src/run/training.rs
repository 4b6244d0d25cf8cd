//! The training of a run (align, then tune), which resumes after an interruption.

use crate::features::card::ArmCard;
use crate::features::frozen::Features;
use crate::features::model_cards;
use crate::features::visual_source::{Source, Towers};
use crate::machine::progress::Bar;
use crate::machine::stop;
use crate::run::instrument::Instrument;
use crate::run::store::RunStore;
use crate::study::{Arm, ArmEncoder, Freeze};
use burgess_base::{Error, Result, atomic, checksums};
use burgess_encoders::checkpoint::{self, Checkpoint, IDENTITY, Precision};
use burgess_probe::connector::ConnectorConfig;
use burgess_probe::data::{Examples, PackedExamples};
use burgess_probe::mllm::{EncoderConfig, Mllm, MllmConfig, load_llm};
use burgess_probe::recipe::{ParameterGroup, Stage};
use burgess_probe::train::{self, FeatureSource, SavedState, StageOutcome, StateSaver, StepLog};
use burgess_reports::schema::TrainStep;
use burn::tensor::Device;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The run that is trained.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub place: &'a Instrument,
    pub arm: &'a Arm,
    pub seed: u64,
    /// Everything on which the result depends ([`Instrument::config`]).
    pub config: &'a Value,
    /// Time between two saved training states of a stage.
    pub keep: Duration,
}

/// Time between two saved states, and so the most work that an interruption loses.
pub const KEEP: Duration = Duration::from_secs(60);

impl Job<'_> {
    /// Name of the run, for messages.
    pub fn title(&self) -> String {
        format!("{} (seed {})", self.arm.name(), self.seed)
    }
}

/// Number of images over which the channels of features are standardised, the first of the training, and how many of them
/// are read at a time.
const STATISTICS: usize = 1024;
const BATCH: usize = 64;

/// File name of the aligned connector in its directory.
const ALIGNED: &str = "connector.safetensors";

/// One encoder of an arm with its card and features.
pub struct Part {
    pub encoder: ArmEncoder,
    pub card: ArmCard,
    pub features: Arc<Features>,
}

/// Trains the model of a run, starting from the last saved state, and saves the model.
pub fn trained(job: &Job, parts: &[Part], store: &RunStore, bar: &Bar) -> Result<Mllm> {
    // After a signal, the state of the stage is saved before the process ends.
    let _section = stop::section()?;
    let Job { place, arm, seed, .. } = *job;
    let device = &place.device;
    let recipe = &place.evaluator.recipe;
    bar.message(&format!("{}: loading the language model", job.title()));
    let (llm, _) = load_llm(&place.llm.dir, device)?;
    let grid = common_grid(parts)?;
    let connector = place.connector(arm);
    let joined = !connector.properties().reads_each_encoder;
    let config = MllmConfig {
        connector: ConnectorConfig::new(
            connector.clone(),
            &parts.iter().map(|p| (p.features.width(), p.features.grid())).collect::<Vec<_>>(),
            place.llm.config.hidden_size,
        )?,
        llm: llm.config().clone(),
        chat: place.llm.chat.clone(),
        encoders: Vec::new(),
        grid: None,
    };
    let mut model = Mllm::assemble(config.clone(), Vec::new(), llm, seed, device)?;
    let frozen = source(place, arm, parts, Freeze::Frozen);

    let aligned = store.aligned().join(ALIGNED);
    if let (Some(stage), Some(set)) = (&recipe.align, &place.align) {
        if store.has_aligned(&|text| bar.line(text))? && aligned.exists() {
            model.connector = checkpoint::load(model.connector, &Checkpoint::open(&aligned)?, &IDENTITY)?.0;
        } else {
            standardise(&mut model, &set.examples, &frozen, device)?;
            model = train_stage(job, "align", stage, model, &set.examples, &frozen, store, bar)?;
            atomic::create_dir_with(&store.aligned(), |dir| {
                checkpoint::save(&model.connector, &IDENTITY, "", Precision::F32, &dir.join(ALIGNED))?;
                checksums::record_all(dir)
            })?;
        }
    } else {
        standardise(&mut model, &place.tune.examples, &frozen, device)?;
    }
    let tune = tune_stage(&recipe.tune, arm.freeze);
    let examples = &place.tune.examples;
    let model = match arm.freeze {
        Freeze::Frozen => train_stage(job, "tune", &tune, model, examples, &frozen, store, bar)?,
        Freeze::Unfrozen => {
            let (mut encoders, mut configs) = (Vec::new(), Vec::new());
            for part in parts {
                let card = part.card.encoder()?;
                encoders.push(part.encoder.load(card.clone(), device)?.arch);
                configs.push(EncoderConfig {
                    id: card.id.clone(),
                    architecture: card.architecture.clone(),
                    tap: card.tap.clone(),
                });
            }
            let config = MllmConfig { encoders: configs, grid: joined.then_some(grid), ..config };
            let connector = model.connector;
            let mut model = Mllm::assemble(config, encoders, model.llm, seed, device)?;
            model.connector = connector;
            let pixels = source(place, arm, parts, Freeze::Unfrozen);
            train_stage(job, "tune", &tune, model, examples, &pixels, store, bar)?
        }
    };
    // Saved in f32, so that a resumed run answers with exactly the same weights.
    model.save(&place.llm.tokenizer, &store.model(), Precision::F32)?;
    model_cards::write(&store.model(), parts)?;
    Ok(model)
}

/// Returns the tune stage of an arm, in which the encoders are trained if and only if the arm is unfrozen.
pub fn tune_stage(stage: &Stage, freeze: Freeze) -> Stage {
    let mut stage = stage.clone();
    stage.trainable.retain(|p| *p != ParameterGroup::Encoder);
    if freeze == Freeze::Unfrozen {
        stage.trainable.push(ParameterGroup::Encoder);
    }
    stage
}

/// Names of the stages, in order.
const STAGES: [&str; 2] = ["align", "tune"];

#[allow(clippy::too_many_arguments)]
fn train_stage(
    job: &Job,
    name: &str,
    stage: &Stage,
    model: Mllm,
    examples: &PackedExamples,
    source: &dyn FeatureSource,
    store: &RunStore,
    bar: &Bar,
) -> Result<Mllm> {
    let identity = json!({"stage": stage, "examples": examples.len(), "of": job.config});
    let saver = StateSaver { every: job.keep, ..StateSaver::new(&store.state(name), identity) };
    let saved = saver.open()?;
    let done = saved.as_ref().map_or(0, SavedState::step);
    if saved.as_ref().is_some_and(|s| !s.checked()) {
        bar.line(&format!(
            "note: {} was kept by an earlier version, without a digest: it is used unchecked",
            saver.path.display()
        ));
    }
    // Keep the log lines of earlier stages, and those of this stage up to the saved state.
    let earlier = STAGES.iter().take_while(|s| **s != name).map(|s| (*s, usize::MAX));
    let mut log = store.train_log(&earlier.chain([(name, done)]).collect::<Vec<_>>())?;
    if let Some(note) = too_long(stage, &model, examples, source, &job.place.device)? {
        bar.line(&format!("note: {}, {name}: {note}", job.title()));
    }
    bar.begin(done as u64, stage.total_steps(examples.len()) as u64);
    bar.message(&format!("{}: {name}", job.title()));
    let (mut failure, mut pace) = (None, Pace::default());
    let mut on_step = |s: &StepLog| {
        bar.set(s.step as u64, s.steps as u64);
        let speed = pace.add(stage.batch as f64, s.seconds);
        bar.note(&format!("loss {:.3}, {speed:.1} samples/s, ", s.loss));
        let left = humantime::format_duration(Duration::from_secs(
            ((s.steps - s.step) as f64 * stage.batch as f64 / speed) as u64,
        ));
        bar.report(|| {
            format!(
                "{}: {name} step {} of {}, loss {:.3}, {speed:.1} samples/s, {left} left",
                job.title(),
                s.step,
                s.steps,
                s.loss
            )
        });
        let step = TrainStep {
            stage: s.stage.clone(),
            step: s.step,
            loss: s.loss,
            lr: s.lr,
            grad_norm: s.grad_norm,
            tokens: s.tokens,
            seconds: s.seconds,
        };
        if let Err(e) = log.write(&step) {
            failure.get_or_insert(e);
        }
    };
    let mut settings = train::StageRun {
        name,
        stage,
        seed: job.seed,
        device: &job.place.device,
        on_step: &mut on_step,
        stop: &stop::requested,
        saver: Some(&saver),
        resume: saved,
    };
    stop::check()?;
    let outcome = train::train_stage(model, examples, source, &mut settings)?;
    bar.note("");
    bar.message(&format!("{}: {name} is done", job.title()));
    match (outcome, failure) {
        (_, Some(e)) => Err(e),
        (StageOutcome::Done(model), None) => Ok(model),
        (StageOutcome::Interrupted, None) => Err(Error::interrupted()),
    }
}

/// Gives a connector that standardises features their statistics, over the first images of the first stage. An aligned
/// connector is saved with them.
fn standardise(model: &mut Mllm, examples: &PackedExamples, source: &Source, device: &Device) -> Result<()> {
    if !model.config().connector.kind.properties().needs_statistics {
        return Ok(());
    }
    let first = has_image(examples, STATISTICS)?;
    if first.is_empty() {
        return Err(Error::usage("`standardise` of the connector needs images, and the training data have none")
            .hint("leave `standardise` out, or give the first stage conversations with images"));
    }
    model.standardise(first.chunks(BATCH).map(|images| source.batch(images, device)))
}

/// The images of the first `count` examples that have one.
fn has_image(examples: &PackedExamples, count: usize) -> Result<Vec<usize>> {
    let with_image = (0..examples.len()).filter(|i| examples.has_image(*i)).take(count);
    let images: Vec<Option<usize>> = with_image.map(|i| Ok(examples.get(i)?.image)).collect::<Result<_>>()?;
    Ok(images.into_iter().flatten().collect())
}

/// Describes how many examples `max_length` cuts; `None` if it cuts none.
fn too_long(
    stage: &Stage,
    model: &Mllm,
    examples: &PackedExamples,
    source: &dyn FeatureSource,
    device: &Device,
) -> Result<Option<String>> {
    let Some(most) = stage.max_length else { return Ok(None) };
    // The connector determines the number of positions of an image: measure it on one image.
    let tokens = match (0..examples.len()).find(|i| examples.has_image(*i)) {
        Some(i) => {
            let image: Vec<usize> = examples.get(i)?.image.into_iter().collect();
            let sizes = source.sizes(&image)?;
            model.encode_images_with(source.batch(&image, device)?, sizes.as_deref(), None)?.tokens_per_image()
        }
        None => 0,
    };
    let (mut cut, mut longest, mut lost) = (0, 0, 0);
    for i in 0..examples.len() {
        let positions = examples.length(i) + if examples.has_image(i) { tokens.saturating_sub(1) } else { 0 };
        if positions > most {
            cut += 1;
            longest = positions.max(longest);
            lost += usize::from(!examples.get(i)?.truncated(most, tokens)?.has_supervised_tokens());
        }
    }
    Ok((cut > 0).then(|| {
        format!(
            "{cut} of {} conversations are longer than max_length = {most}, by {} tokens at the most, and are cut; {lost} of them lose all answers",
            examples.len(),
            longest - most
        )
    }))
}

/// Training throughput in samples per second, as an exponential moving average over about a dozen steps.
#[derive(Default)]
struct Pace {
    samples: f64,
    seconds: f64,
}

impl Pace {
    const FADE: f64 = 0.92;

    fn add(&mut self, samples: f64, seconds: f64) -> f64 {
        self.samples = Self::FADE * self.samples + samples;
        self.seconds = Self::FADE * self.seconds + seconds;
        self.samples / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Grid to which the features of several encoders are resampled: the largest among them, so that no detail is lost.
pub fn common_grid(parts: &[Part]) -> Result<[usize; 2]> {
    parts
        .iter()
        .map(|p| p.features.grid())
        .max_by_key(|g| g[0] * g[1])
        .ok_or_else(|| Error::failed("an arm has no encoders"))
}

/// Returns the source of the study's images for a model: features of frozen encoders, or pixels for unfrozen ones.
pub fn source<'a>(place: &'a Instrument, arm: &'a Arm, parts: &'a [Part], freeze: Freeze) -> Source<'a> {
    let towers = match freeze {
        Freeze::Frozen => Towers::Frozen(parts.iter().map(|p| p.features.as_ref()).collect()),
        // The oracle has no network and is never unfrozen.
        Freeze::Unfrozen => {
            Towers::Trained(parts.iter().filter_map(|p| p.card.encoder().ok()).map(|card| &card.preprocess).collect())
        }
    };
    let sizes = place.connector(arm).properties().needs_image_sizes;
    let orientation = model_cards::orientation(parts.iter().map(|p| &p.card));
    Source { dir: &place.data.dir, images: &place.images, sizes, orientation, towers }
}
