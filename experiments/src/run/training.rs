//! The training of a run (align, then tune), which resumes after an interruption.

use crate::data::examples::ExampleSet;
use crate::features::{EncoderFeatures, VisualSource, model_cards};
use crate::machine::progress::Bar;
use crate::machine::stop;
use crate::run::aligned;
use crate::run::evaluator::Evaluator;
use crate::run::store::RunStore;
use crate::study::{Arm, Freeze};
use burgess_base::{Error, Result, atomic, checksums};
use burgess_encoders::checkpoint::{self, Checkpoint, IDENTITY, Precision};
use burgess_probe::connector::ConnectorConfig;
use burgess_probe::data::{Examples, PackedExamples};
use burgess_probe::llm::{Llm, LlmConfig, WeightStorage};
use burgess_probe::mllm::{EncoderConfig, Mllm, MllmConfig, load_frozen_llm, load_llm};
use burgess_probe::recipe::{ParameterGroup, Recipe, Stage};
use burgess_probe::train::{self, FeatureSource, SavePermit, SavedState, StageOutcome, StateSaver, StepLog};
use burgess_reports::schema::TrainStep;
use burn::tensor::Device;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

/// The run that is trained.
#[derive(Clone, Copy)]
pub struct TrainJob<'a> {
    /// Evaluator that trains the model.
    pub evaluator: &'a Evaluator,
    /// Device that computes.
    pub device: &'a Device,
    /// Arm of the run.
    pub arm: &'a Arm,
    /// Seed of the run.
    pub seed: u64,
    /// Everything on which the result depends ([`Evaluator::resolved_config`]).
    pub config: &'a Value,
    /// Time between two saved training states of a stage.
    pub save_interval: Duration,
}

impl TrainJob<'_> {
    /// Name of the run, for messages.
    pub fn title(&self) -> String {
        format!("{} (seed {})", self.arm.name(), self.seed)
    }
}

/// Number of images, from the beginning of the training data, whose features give the mean and standard deviation of
/// each channel to a connector that standardises features.
const STATISTICS_IMAGES: usize = 1024;
/// Number of images that are read at a time for the statistics.
const STATISTICS_BATCH: usize = 64;

/// File name of the aligned connector in its directory.
pub const ALIGNED: &str = "connector.safetensors";

/// File of the number of steps of each stage, in order, for whoever watches the training.
pub const STEPS: &str = "steps.json";

/// Reads the number of steps of each stage of the run in a directory, in order; empty before its training begins.
pub fn planned_steps(dir: &Path) -> Vec<(String, usize)> {
    let path = dir.join(STEPS);
    if path.is_file() { atomic::read_json(&path).unwrap_or_default() } else { Vec::new() }
}

/// Writes the number of steps of each stage of a run.
fn write_planned_steps(job: &TrainJob<'_>, store: &RunStore) -> Result<()> {
    let (recipe, sets) = (&job.evaluator.config.recipe, (&job.evaluator.align, job.evaluator.tune_of(job.arm)?));
    let align = recipe.align.as_ref().zip(sets.0.as_ref());
    let stages =
        align.into_iter().map(|(stage, set)| (STAGES[0], stage, set)).chain([(STAGES[1], &recipe.tune, sets.1)]);
    let steps: Vec<(String, usize)> =
        stages.map(|(name, stage, set)| (name.to_string(), stage.total_steps(set.examples.len()))).collect();
    if planned_steps(store.dir()) == steps { Ok(()) } else { atomic::write_json(&store.dir().join(STEPS), &steps) }
}

/// Trains the model of a run, starting from the last saved state, and saves the model.
pub fn train(job: &TrainJob<'_>, encoders: &[EncoderFeatures], store: &RunStore, bar: &Bar) -> Result<Mllm> {
    // After a signal, the state of the stage is saved before the process ends.
    let _section = stop::section()?;
    let TrainJob { evaluator, device, arm, seed, .. } = *job;
    write_planned_steps(job, store)?;
    let (recipe, examples) = (&evaluator.config.recipe, &evaluator.tune_of(arm)?.examples);
    let (mut model, config) = untrained(job, encoders, bar)?;
    let (grid, joined) = (common_grid(encoders)?, !evaluator.connector(arm).properties().reads_each_encoder);
    let frozen = evaluator.visual_source(arm, encoders, Freeze::Frozen);

    let aligned = store.aligned().join(ALIGNED);
    if let (Some(stage), Some(set)) = (&recipe.align, &evaluator.align) {
        if (store.has_aligned(&|text| bar.line(text))? && aligned.exists())
            || take_aligned(job, stage, set, store, bar)?
        {
            model.connector = checkpoint::load(model.connector, &Checkpoint::open(&aligned)?, &IDENTITY)?.0;
        } else {
            standardise(&mut model, &set.examples, &frozen, device)?;
            model = train_stage(job, "align", stage, model, &set.examples, &frozen, store, bar)?;
            store.check_owned()?;
            atomic::create_dir_with(&store.aligned(), |dir| {
                checkpoint::save(&model.connector, &IDENTITY, "", Precision::F32, &dir.join(ALIGNED))?;
                checksums::record_all(dir)
            })?;
        }
    } else {
        standardise(&mut model, examples, &frozen, device)?;
    }
    let tune = tune_stage(&recipe.tune, arm.freeze);
    let model = match arm.freeze {
        Freeze::Frozen => train_stage(job, "tune", &tune, model, examples, &frozen, store, bar)?,
        Freeze::Unfrozen => {
            let (mut networks, mut configs) = (Vec::new(), Vec::new());
            for encoder in encoders {
                let card = encoder.card.encoder()?;
                card.check_trainable()?;
                networks.push(encoder.encoder.load(card.clone(), device)?.arch);
                configs.push(EncoderConfig {
                    id: card.id.clone(),
                    architecture: card.architecture.clone(),
                    tap: card.tap.clone(),
                    normalise: card.normalise,
                });
            }
            let config = MllmConfig { encoders: configs, grid: joined.then_some(grid), ..config };
            let connector = model.connector;
            let mut model = Mllm::assemble(config, networks, model.llm, seed, device)?;
            model.connector = connector;
            let pixels = evaluator.visual_source(arm, encoders, Freeze::Unfrozen);
            train_stage(job, "tune", &tune, model, examples, &pixels, store, bar)?
        }
    };
    store.check_owned()?;
    // Saved in f32, so that a resumed run answers with exactly the same weights.
    model.save(&evaluator.llm.tokenizer, &store.model(), Precision::F32)?;
    model_cards::write(&store.model(), encoders)?;
    Ok(model)
}

/// Makes the model of a run before its training: the language model with a connector that reads features.
fn untrained(job: &TrainJob<'_>, encoders: &[EncoderFeatures], bar: &Bar) -> Result<(Mllm, MllmConfig)> {
    let TrainJob { evaluator, device, arm, seed, .. } = *job;
    bar.message(&format!("{}: loading the language model", job.title()));
    let llm = language_model(evaluator, device)?;
    let connector = evaluator.connector(arm);
    let config = MllmConfig {
        connector: ConnectorConfig::new(
            connector.clone(),
            &encoders.iter().map(|e| (e.features.width(), e.features.grid())).collect::<Vec<_>>(),
            evaluator.llm.config.hidden_size,
        )?,
        llm: llm.config().clone(),
        chat: evaluator.llm.chat.clone(),
        encoders: Vec::new(),
        grid: None,
    };
    Ok((Mllm::assemble(config.clone(), Vec::new(), llm, seed, device)?, config))
}

/// Whether the weights of a language model stay as its file stores them: no stage of the recipe trains them, and the
/// device and the model's size allow it ([`WeightStorage::of_frozen`]).
pub fn stays_stored(recipe: &Recipe, llm: &LlmConfig, device: &Device) -> bool {
    !recipe.trains_llm_weights() && WeightStorage::of_frozen(llm, device) == WeightStorage::AsStored
}

/// Loads the language model of an evaluator: as f32 parameters if a stage trains them, else with weights that may stay as
/// their file stores them.
///
/// # Errors
/// Its files are damaged, or the recipe has LoRA in both stages and the weights cannot take the first.
pub fn language_model(evaluator: &Evaluator, device: &Device) -> Result<Llm> {
    let (recipe, dir) = (&evaluator.config.recipe, &evaluator.llm.dir);
    let llm = match recipe.trains_llm_weights() {
        true => load_llm(dir, device)?.0,
        false => load_frozen_llm(dir, device)?.0,
    };
    // Checked before the training, although both are for the answers after it.
    llm.clone()
        .with_activations(evaluator.config.activations)
        .map_err(|e| e.context("`activations` of [evaluator]"))?;
    llm.clone().with_compute(evaluator.config.precision).map_err(|e| e.context("`precision` of [evaluator]"))?;
    let has_lora = |stage: &Stage| stage.lora.is_some();
    match llm.has_stored_weights() && recipe.align.as_ref().is_some_and(has_lora) && has_lora(&recipe.tune) {
        false => Ok(llm),
        true => Err(Error::usage(
            "both stages have `lora`, but the weights of the language model stay as their file stores them, so the \
             factors of the first stage cannot be merged into them",
        )
        .hint("set `lora` in one stage only")),
    }
}

/// The first steps of the align stage of a run.
#[derive(Clone, Copy)]
pub struct AlignRun<'a> {
    /// The run.
    pub job: TrainJob<'a>,
    /// Number of steps, at most those of the stage.
    pub steps: usize,
}

/// Trains the connector of a run for the first steps of its align stage and returns the loss of each step. The losses
/// are those that the whole run logs, because learning rates follow the schedule of the whole stage. Nothing is saved.
///
/// # Errors
/// The recipe has no align stage, the training fails, or a signal asked to stop.
pub fn align_losses(run: &AlignRun<'_>, encoders: &[EncoderFeatures], bar: &Bar) -> Result<Vec<f64>> {
    let (job, evaluator) = (&run.job, run.job.evaluator);
    let (Some(stage), Some(set)) = (&evaluator.config.recipe.align, &evaluator.align) else {
        return Err(Error::failed("the study has no align stage"));
    };
    let (mut model, _) = untrained(job, encoders, bar)?;
    let source = evaluator.visual_source(job.arm, encoders, Freeze::Frozen);
    standardise(&mut model, &set.examples, &source, job.device)?;
    let losses = RefCell::new(Vec::new());
    bar.begin(0, run.steps as u64);
    bar.message(&format!("{}: align", job.title()));
    let mut on_step = |s: &StepLog| {
        bar.set(s.step as u64, run.steps as u64);
        losses.borrow_mut().push(s.loss);
    };
    let mut settings = train::StageRun {
        name: STAGES[0],
        stage,
        seed: job.seed,
        device: job.device,
        on_step: &mut on_step,
        stop: &|| stop::requested() || losses.borrow().len() >= run.steps,
        saver: None,
        resume: None,
    };
    let outcome = train::train_stage(model, &set.examples, &source, &mut settings)?;
    if matches!(outcome, StageOutcome::Interrupted) {
        stop::check()?;
    }
    Ok(losses.into_inner())
}

/// Takes the aligned connector of another run of the study, if the study's arms have mixes and the align stage of that
/// run had the same inputs; returns whether there is one. A stage that this run has begun is continued instead.
fn take_aligned(job: &TrainJob<'_>, stage: &Stage, set: &ExampleSet, store: &RunStore, bar: &Bar) -> Result<bool> {
    let (name, steps) = (STAGES[0], stage.total_steps(set.examples.len()));
    if !job.evaluator.has_mixes() || store.state(name).exists() {
        return Ok(false);
    }
    let Some(other) = aligned::find(store, job.config, name, steps)? else { return Ok(false) };
    other.copy_to(store)?;
    bar.line(&format!("{}: the aligned connector is that of {}, which had the same inputs", job.title(), other.arm));
    Ok(true)
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
    job: &TrainJob<'_>,
    name: &str,
    stage: &Stage,
    model: Mllm,
    examples: &PackedExamples,
    source: &dyn FeatureSource,
    store: &RunStore,
    bar: &Bar,
) -> Result<Mllm> {
    let identity = json!({"stage": stage, "examples": examples.len(), "of": job.config});
    let owned = store.clone();
    let permit = Some(SavePermit::new(move || owned.check_owned()));
    let saver = StateSaver { every: job.save_interval, permit, ..StateSaver::new(&store.state(name), identity) };
    let saved = saver.open()?;
    let done = saved.as_ref().map_or(0, SavedState::step);
    if saved.as_ref().is_some_and(|s| !s.checked()) {
        bar.line(&format!(
            "note: {} was saved by an earlier version without a digest and is used unchecked",
            saver.path.display()
        ));
    }
    // Keep the log lines of earlier stages, and those of this stage up to the saved state.
    let earlier = STAGES.iter().take_while(|s| **s != name).map(|s| (*s, usize::MAX));
    let mut log = store.train_log(&earlier.chain([(name, done)]).collect::<Vec<_>>())?;
    if let Some(note) = truncation_note(stage, &model, examples, source, job.device)? {
        bar.line(&format!("note: {}, {name}: {note}", job.title()));
    }
    bar.begin(done as u64, stage.total_steps(examples.len()) as u64);
    bar.message(&format!("{}: {name}", job.title()));
    let (mut failure, mut throughput) = (None, TrainingSpeed::default());
    let mut on_step = |s: &StepLog| {
        bar.set(s.step as u64, s.steps as u64);
        let speed = throughput.add(stage.batch as f64, s.seconds);
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
        device: job.device,
        on_step: &mut on_step,
        stop: &|| stop::requested() || store.is_lost(),
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

/// Computes the mean and standard deviation of each feature channel for a connector that standardises features, over
/// the first images of the first stage. The connector stores these statistics, so an aligned connector is saved with
/// them.
fn standardise(model: &mut Mllm, examples: &PackedExamples, source: &VisualSource, device: &Device) -> Result<()> {
    if !model.config().connector.kind.properties().needs_statistics {
        return Ok(());
    }
    let first = first_images(examples, STATISTICS_IMAGES)?;
    if first.is_empty() {
        return Err(Error::usage("`standardise` of the connector needs images, but the first stage has none")
            .hint("leave `standardise` out, or give the first stage conversations with images"));
    }
    model.standardise(first.chunks(STATISTICS_BATCH).map(|images| source.batch(images, device)))
}

/// Returns the images of the first `count` examples that have one.
fn first_images(examples: &PackedExamples, count: usize) -> Result<Vec<usize>> {
    let with_image = (0..examples.len()).filter(|i| examples.has_image(*i)).take(count);
    let images: Vec<Option<usize>> = with_image.map(|i| Ok(examples.get(i)?.image)).collect::<Result<_>>()?;
    Ok(images.into_iter().flatten().collect())
}

/// Describes how many examples `max_length` cuts; `None` if it cuts none.
fn truncation_note(
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
            "{cut} of {} conversations are longer than max_length = {most}, by at most {} tokens, and are truncated; \
             {lost} of them lose all answers",
            examples.len(),
            longest - most
        )
    }))
}

/// Training throughput in samples per second, as an exponential moving average over about a dozen steps.
#[derive(Default)]
struct TrainingSpeed {
    samples: f64,
    seconds: f64,
}

impl TrainingSpeed {
    const FADE: f64 = 0.92;

    fn add(&mut self, samples: f64, seconds: f64) -> f64 {
        self.samples = Self::FADE * self.samples + samples;
        self.seconds = Self::FADE * self.seconds + seconds;
        self.samples / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Returns the grid to which the features of several encoders are resampled: the largest of their grids, so that no
/// detail is lost.
pub fn common_grid(encoders: &[EncoderFeatures]) -> Result<[usize; 2]> {
    encoders
        .iter()
        .map(|e| e.features.grid())
        .max_by_key(|g| g[0] * g[1])
        .ok_or_else(|| Error::failed("an arm has no encoders"))
}
