//! One run (one arm × one seed): align, tune, answer, score. The result of each step is stored in the run's directory,
//! and a step with a stored result is not repeated.

use crate::data::benchmarks;
use crate::features::{self, EncoderFeatures, model_cards};
use crate::machine::heap;
use crate::machine::progress::Progress;
use crate::run::evaluation::{self, EvalContext};
use crate::run::evaluator::Evaluator;
use crate::run::results::Measurements;
use crate::run::stages::StudyStage;
use crate::run::store::{RunStore, SAVE_INTERVAL};
use crate::run::training::{TrainJob, train};
use crate::study::Arm;
use burgess_base::Result;
use burgess_probe::mllm::Mllm;
use burgess_reports::schema::RunId;
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::time::Instant;

/// Does a run on `device`, continuing where an earlier call stopped; in the stage `train` only up to the saved model.
#[allow(clippy::too_many_arguments)]
pub fn run_arm(
    evaluator: &Evaluator,
    device: &Device,
    arm: &Arm,
    seed: u64,
    encoders: &[EncoderFeatures],
    digests: &BTreeMap<String, String>,
    store: &RunStore,
    stage: Option<StudyStage>,
    progress: &Progress,
) -> Result<()> {
    let config = evaluator.resolved_config(arm, seed, digests)?;
    let job = TrainJob { evaluator, device, arm, seed, config: &config, save_interval: SAVE_INTERVAL };
    let name = job.title();
    let bar = progress.bar(&name, 0);
    let started = Instant::now();
    let mut model = match store.has_model(&|text| bar.line(text))? {
        true => {
            bar.message(&format!("{name}: loading the model"));
            store.check_owned()?;
            model_cards::write(&store.model(), encoders)?;
            Mllm::load(&store.model(), device)?.0
        }
        false => train(&job, encoders, store, &bar)?,
    };
    store.remove_states()?;
    if stage == Some(StudyStage::Train) {
        // An earlier attempt may have failed; the run now waits for its evaluation.
        store.remove_failure()?;
        drop(bar);
        progress.line(&format!("{name}: trained in {:.0} s", started.elapsed().as_secs_f64()));
        return Ok(());
    }
    heap::return_freed_memory();
    model.llm = model.llm.with_activations(evaluator.config.activations)?.with_compute(evaluator.config.precision)?;
    let source = evaluator.visual_source(arm, encoders, arm.freeze);
    let model_encoders = model_cards::model_encoders(encoders);
    let context = EvalContext {
        model: &model,
        chat: &evaluator.llm.chat,
        tokenizer: &evaluator.llm.tokenizer,
        device,
        source: &source,
        encoders: &model_encoders,
        options: evaluator.config.eval_options(),
        judge: None,
        dir: &evaluator.data.dir,
        images: &evaluator.images,
    };
    let evaluated = evaluation::evaluate(&context, &evaluator.benchmarks, store, &name, &bar)?;
    heap::return_freed_memory();
    let notes = evaluator.notes(encoders.iter().map(|e| &e.card));
    let measurements = Measurements {
        run: RunId {
            id: format!("{}/{}/seed-{seed}", evaluator.study, arm.name()),
            study: evaluator.study.clone(),
            arm: arm.name(),
            encoders: arm.encoder_names(),
            freeze: arm.freeze.as_str().into(),
            connector: evaluator.connector(arm).name().into(),
            llm: evaluator.config.llm.clone(),
            seed,
            blind: evaluator.config.blind.as_str().into(),
            published: arm.published.map(f64::from),
            role: Some(features::role(encoders.iter().map(|e| (&e.encoder, &e.card)), arm.freeze)),
        },
        results: evaluated.results,
        until_ci: evaluated.until_ci,
        tasks: &evaluator.benchmarks,
        encoders: &model_encoders,
        features: encoders.iter().map(|e| e.features.as_ref()).collect(),
        connector: &model.config().connector,
        training: Some(store),
        config,
        digests: all_digests(evaluator, digests),
        device: &evaluator.device_name,
        fingerprint: evaluator.devices.fingerprint(),
        notes,
    };
    let results = measurements.results()?;
    store.write_results(&results)?;
    drop(bar);
    progress.line(&format!("{name}: average {:.1} in {:.0} s", results.average, started.elapsed().as_secs_f64()));
    Ok(())
}

/// Adds the digests of the language model, the data and the published benchmarks to those of the encoders.
fn all_digests(evaluator: &Evaluator, encoders: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut digests = encoders.clone();
    digests.insert(evaluator.config.llm.clone(), evaluator.llm.digest.clone());
    digests.insert("data".into(), evaluator.data.digest.clone());
    let published = evaluator.benchmarks.iter().filter(|b| benchmarks::has_own_digest(b.benchmark));
    digests.extend(published.map(|b| (b.benchmark.id().to_string(), b.digest.clone())));
    let dir = Some(evaluator.data.dir.as_path());
    digests.extend(evaluator.benchmarks.iter().flat_map(|b| benchmarks::recorded(b.benchmark, dir)));
    digests
}
