//! Estimate of the wall-clock time of a study: encoding, training and answering, over the workers.
//!
//! The time of a run comes, in this order, from finished runs of the study; from a stated throughput; from a few
//! training steps and one batch of questions on this device ([`super::speed`]); or, if a step would take too long, from
//! the operations of the run and the speed of a matrix product. Other arms are scaled by their operations.

use super::CostEstimate;
use super::arms::ArmModel;
use super::speed::{self, SpeedTest};
use crate::features::ArmCard;
use crate::machine::device_set::DeviceSet;
use crate::machine::workers::{self, Workers};
use crate::run::evaluator::Evaluator;
use crate::run::store::RunStore;
use crate::run::training;
use crate::study::{Arm, EvaluatorConfig, FeatureSourceKind, Freeze};
use burgess_base::{Error, ErrorKind, Result};
use burgess_probe::llm::LlmConfig;
use serde::Serialize;
use std::collections::BTreeMap;

/// Longest predicted duration of a training step that is measured, in seconds.
const LONGEST_STEP: f64 = 4.0;
/// Longest predicted duration of the encoding of images that is measured, in seconds.
const LONGEST_ENCODING: f64 = 2.0;
/// Operations beside matrix products and their waits, as a factor on the time of matrix products alone, where nothing
/// but a matrix product is measured: nano training steps and ViT-B features take 1.5 to 2 times as long on `flex`.
const OVERHEAD: f64 = 1.75;

/// One arm, as far as its time depends on it.
pub struct TimedArm<'a> {
    /// The arm.
    pub arm: &'a Arm,
    /// Encoders and connector.
    pub model: &'a ArmModel,
    /// Estimated cost of a run.
    pub cost: &'a CostEstimate,
    /// Stores of the arm's runs.
    pub runs: Vec<RunStore>,
    /// Whether a run fits into memory; one that does not is not measured.
    pub fits: bool,
}

/// What the estimate is made from, beside the arms.
pub struct TimeInputs<'a> {
    /// Configuration of the evaluator.
    pub config: &'a EvaluatorConfig,
    /// The evaluator, if the data are on this machine.
    pub evaluator: Option<&'a Evaluator>,
    /// Configuration of the language model.
    pub llm: &'a LlmConfig,
    /// Mean text tokens of a conversation of the align stage (0 without one) and of the tune stage.
    pub text_tokens: [usize; 2],
    /// Number of questions of all benchmarks, and number of texts that are asked without image.
    pub questions: [usize; 2],
    /// Number of images that are encoded into the cache.
    pub images: usize,
    /// Devices.
    pub devices: &'a DeviceSet,
    /// Workers of the study.
    pub workers: &'a Workers,
    /// Stated throughput in operations per second; `None` to measure.
    pub stated: Option<f64>,
}

/// Estimated time of one run of an arm, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmTime {
    /// Name of the arm.
    pub arm: String,
    /// Seconds of training.
    pub training: f64,
    /// Seconds of answering all benchmarks.
    pub answering: f64,
    /// Number of runs that are not finished.
    pub left: usize,
}

/// Estimated wall-clock time of a study.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StudyTime {
    /// Times of a run of each arm.
    pub arms: Vec<ArmTime>,
    /// Seconds of encoding all images with all encoders of unfinished arms, over all workers.
    pub encoding: f64,
    /// Seconds of the whole study from now on, over all workers.
    pub total: f64,
    /// How the times were obtained.
    pub basis: String,
}

/// Speeds from which times are computed.
struct Speeds {
    /// Seconds of training per operation, for frozen and unfrozen arms.
    training: BTreeMap<bool, f64>,
    /// Seconds of answering per run.
    answering: f64,
    basis: String,
}

/// Estimates the time of a study.
///
/// # Errors
/// The device fails during a measurement, or results of the study cannot be read.
pub fn estimate(inputs: &TimeInputs<'_>, arms: &[TimedArm<'_>]) -> Result<StudyTime> {
    let finished = arms.iter().map(finished_times).collect::<Result<Vec<_>>>()?;
    let side = side_by_side(inputs);
    let rate = match inputs.stated {
        Some(rate) => rate,
        None => product_rate(inputs, side)?,
    };
    let speeds = speeds(inputs, arms, &finished, rate, side)?;
    let mut times = Vec::with_capacity(arms.len());
    for (arm, known) in arms.iter().zip(&finished) {
        let unfrozen = arm.arm.freeze == Freeze::Unfrozen;
        let per_operation = speeds.training.get(&unfrozen).or(speeds.training.values().next());
        let computed = per_operation.map_or(0.0, |s| s * training_operations(arm, inputs));
        let (done, [training, answering]) = match known.len() {
            0 => (0, [computed, speeds.answering]),
            n => (n, [0, 1].map(|i| known.iter().map(|times| times[i]).sum::<f64>() / n as f64)),
        };
        times.push(ArmTime { arm: arm.arm.name(), training, answering, left: arm.runs.len() - done });
    }
    let encoding = match inputs.config.features {
        FeatureSourceKind::Cached => encoding_seconds(inputs, arms, &times, rate)? / side as f64,
        FeatureSourceKind::Computed => 0.0,
    };
    let runs: Vec<f64> = times.iter().flat_map(|t| std::iter::repeat_n(t.training + t.answering, t.left)).collect();
    let total = encoding + makespan(&runs, inputs.workers.devices.len(), side);
    Ok(StudyTime { arms: times, encoding, total, basis: speeds.basis })
}

/// Number of runs that do not slow each other down: cores of a CPU, or devices.
fn side_by_side(inputs: &TimeInputs<'_>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = if inputs.devices.is_cpu() { cores } else { inputs.devices.names().len() };
    inputs.workers.devices.len().clamp(1, most)
}

/// Seconds of training and of answering of the arm's finished runs.
fn finished_times(arm: &TimedArm<'_>) -> Result<Vec<[f64; 2]>> {
    let mut times = Vec::new();
    for run in &arm.runs {
        let Some(results) = run.results(&|_| {}) else { continue };
        let answering = results.results.values().map(|benchmark| benchmark.seconds).sum();
        times.push([results.cost.train_seconds, answering]);
    }
    Ok(times)
}

/// Operations of the training of a run; features that are computed each time are part of it.
fn training_operations(arm: &TimedArm<'_>, inputs: &TimeInputs<'_>) -> f64 {
    let stages = arm.cost.align.as_ref().map_or(0.0, |stage| stage.flops) + arm.cost.tune.flops;
    match inputs.config.features {
        FeatureSourceKind::Cached => stages,
        FeatureSourceKind::Computed => stages + arm.cost.encoding_flops,
    }
}

/// Does a measurement on as many workers at once as there will be, and returns the mean of their values.
fn measured(side: usize, work: impl Fn(usize) -> Result<f64> + Sync) -> Result<f64> {
    let workers = Workers::over(side, side, 1);
    let values = workers::each_on(&workers, (0..side).collect(), |_, worker| work(worker))?;
    let values = values.into_iter().collect::<Result<Vec<f64>>>()?;
    Ok(values.iter().sum::<f64>() / values.len().max(1) as f64)
}

/// Speed of the language model's widest matrix product on this device, in operations per second.
fn product_rate(inputs: &TimeInputs<'_>, side: usize) -> Result<f64> {
    let (width, inner) = (inputs.llm.hidden_size, inputs.llm.intermediate_size);
    measured(side, |worker| speed::product_rate(width, inner, &inputs.devices.get(worker)))
}

fn speeds(
    inputs: &TimeInputs<'_>,
    arms: &[TimedArm<'_>],
    finished: &[Vec<[f64; 2]>],
    rate: f64,
    side: usize,
) -> Result<Speeds> {
    let mut training = BTreeMap::new();
    let known: Vec<(&TimedArm<'_>, [f64; 2])> =
        arms.iter().zip(finished).flat_map(|(arm, times)| times.iter().map(move |t| (arm, *t))).collect();
    let questions = inputs.questions[0] + inputs.questions[1];
    if !known.is_empty() {
        for unfrozen in [false, true] {
            let alike = known.iter().filter(|(arm, _)| (arm.arm.freeze == Freeze::Unfrozen) == unfrozen);
            let each: Vec<f64> = alike.map(|(arm, t)| t[0] / training_operations(arm, inputs).max(1.0)).collect();
            if !each.is_empty() {
                training.insert(unfrozen, each.iter().sum::<f64>() / each.len() as f64);
            }
        }
        let answering = known.iter().map(|(_, times)| times[1]).sum::<f64>() / known.len() as f64;
        let basis = format!("the seconds of {} finished runs; other arms by their operations", known.len());
        return Ok(Speeds { training, answering, basis });
    }
    if let Some(stated) = inputs.stated {
        let per_operation = 1.0 / stated;
        let answering = questions as f64 * question_operations(inputs, arms) * per_operation;
        let basis = format!("the stated {:.3} TFLOP/s of each worker", stated / 1e12);
        let training = BTreeMap::from([(false, per_operation), (true, per_operation)]);
        return Ok(Speeds { training, answering, basis });
    }
    let from_products = OVERHEAD / rate;
    let mut basis = String::new();
    let mut answering = questions as f64 * question_operations(inputs, arms) * from_products;
    for unfrozen in [false, true] {
        let Some(arm) = arms.iter().find(|arm| (arm.arm.freeze == Freeze::Unfrozen) == unfrozen) else { continue };
        let predicted = step_operations(arm) * from_products;
        let found = match (arm.fits, predicted <= LONGEST_STEP) {
            (true, true) => steps(inputs, arm, side),
            (false, _) => Err(Error::failed("it does not fit into memory")),
            (true, false) => Err(Error::failed(format!("it would take about {predicted:.0} s"))),
        };
        let (per_operation, question) = match found {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                training.insert(unfrozen, from_products);
                basis = format!(
                    "operations, {:.3} TFLOP/s of a matrix product on this device, and a factor of {OVERHEAD} for all \
                     other work; a training step was not measured: {e}",
                    rate / 1e12
                );
                continue;
            }
        };
        training.insert(unfrozen, per_operation);
        if let Some(question) = question.filter(|_| !unfrozen || training.len() == 1) {
            answering = question * questions as f64;
        }
        let at_once = if side > 1 { format!(", on {side} workers at once") } else { String::new() };
        basis = format!(
            "training steps and questions measured on this device with random weights{at_once}; other arms by their \
             operations"
        );
    }
    Ok(Speeds { training, answering, basis })
}

/// Operations of the longest stage's step.
fn step_operations(arm: &TimedArm<'_>) -> f64 {
    let of = |stage: &super::StageCost| stage.flops / stage.steps.max(1) as f64;
    arm.cost.align.as_ref().map_or(0.0, of).max(of(&arm.cost.tune))
}

/// Operations of the prompt of a question; new tokens are few.
fn question_operations(inputs: &TimeInputs<'_>, arms: &[TimedArm<'_>]) -> f64 {
    let tokens = arms.iter().map(|arm| arm.cost.tokens).max().unwrap_or(0) + prompt_tokens(inputs);
    inputs.llm.forward_flops(tokens) + 2.0 * (speed::ANSWER_TOKENS * inputs.llm.parameters()) as f64
}

/// Number of text tokens of a prompt: as many as the median question has, or of a short one.
fn prompt_tokens(inputs: &TimeInputs<'_>) -> usize {
    const SHORT: usize = 30;
    let lengths = inputs.evaluator.iter().flat_map(|e| &e.benchmarks).flat_map(|task| task.image_prompts.iter());
    let mut lengths: Vec<usize> = lengths.map(Vec::len).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(SHORT)
}

/// Measures an arm: seconds of training per operation, and seconds per question.
fn steps(inputs: &TimeInputs<'_>, arm: &TimedArm<'_>, side: usize) -> Result<(f64, Option<f64>)> {
    let recipe = &inputs.config.recipe;
    let tune = training::tune_stage(&recipe.tune, arm.arm.freeze);
    let test = |worker: usize| SpeedTest {
        model: arm.model,
        arm: arm.arm,
        llm: inputs.llm,
        evaluator: inputs.evaluator,
        device: inputs.devices.get(worker),
    };
    let tuning = measured(side, |worker| test(worker).step("tune", &tune, inputs.text_tokens[1]))?;
    let mut seconds = tuning * arm.cost.tune.steps as f64;
    if let (Some(stage), Some(cost)) = (&recipe.align, &arm.cost.align) {
        let aligning = measured(side, |worker| test(worker).step("align", stage, inputs.text_tokens[0]))?;
        seconds += aligning * cost.steps as f64;
    }
    let question = match inputs.questions {
        [0, 0] => None,
        _ => Some(measured(side, |worker| test(worker).question(prompt_tokens(inputs)))?),
    };
    let operations = arm.cost.align.as_ref().map_or(0.0, |stage| stage.flops) + arm.cost.tune.flops;
    Ok((seconds / operations.max(1.0), question))
}

/// Seconds of encoding all images with the encoders of unfinished arms, on one worker.
fn encoding_seconds(inputs: &TimeInputs<'_>, arms: &[TimedArm<'_>], times: &[ArmTime], rate: f64) -> Result<f64> {
    let mut seconds: BTreeMap<String, f64> = BTreeMap::new();
    for (arm, time) in arms.iter().zip(times) {
        if time.left == 0 {
            continue;
        }
        for (encoder, card) in arm.arm.encoders.iter().zip(arm.model.cards()) {
            let ArmCard::Encoder(card) = card else { continue };
            if seconds.contains_key(&encoder.to_string()) {
                continue;
            }
            let operations = card.flops()? as f64;
            let overhead = if inputs.stated.is_some() { 1.0 } else { OVERHEAD };
            let predicted = operations * overhead / rate.max(1.0);
            let each = match inputs.stated.is_none() && predicted <= LONGEST_ENCODING {
                true => {
                    let images = (LONGEST_ENCODING / predicted.max(1e-9)).min(1e6) as usize;
                    let device = inputs.devices.get(0);
                    measured(1, |_| speed::encoding(card, images, inputs.evaluator, &device))?
                }
                false => predicted,
            };
            seconds.insert(encoder.to_string(), each * inputs.images as f64);
        }
    }
    Ok(seconds.values().sum())
}

/// Duration of tasks that `workers` workers take in order, of which `side` compute at full speed at once.
fn makespan(tasks: &[f64], workers: usize, side: usize) -> f64 {
    if workers > side {
        // The tasks share the cores, so that all are done after the sum of their work.
        let longest = tasks.iter().copied().fold(0.0, f64::max);
        return longest.max(tasks.iter().sum::<f64>() / side.max(1) as f64);
    }
    let mut busy = vec![0.0f64; workers.max(1)];
    for task in tasks {
        if let Some(next) = busy.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *next += task;
        }
    }
    busy.into_iter().fold(0.0, f64::max)
}

/// Parses a throughput in TFLOP/s, and returns it in operations per second.
///
/// # Errors
/// It is not a number above 0.
pub fn throughput(tera: f64) -> Result<f64> {
    match tera > 0.0 && tera.is_finite() {
        true => Ok(tera * 1e12),
        false => Err(Error::usage(format!("a throughput of {tera} TFLOP/s: it must be above 0")).hint(
            "give the TFLOP/s that one device reaches in training, such as 150 for half of an A100's peak in bf16",
        )),
    }
}

/// Formats seconds in words: `40 s`, `4 min 17 s`, `12 min`, `3 h 20 min`, `4 days`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..100 => format!("{whole} s"),
        100..600 => format!("{} min {} s", whole / 60, whole % 60),
        600..6000 => format!("{} min", (whole + 30) / 60),
        6000..360_000 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} days", (whole + 43_200) / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_taken_by_the_next_free_worker() {
        assert_eq!(makespan(&[3.0, 1.0, 1.0, 1.0], 2, 2), 3.0);
        assert_eq!(makespan(&[1.0, 1.0, 1.0], 2, 2), 2.0);
        assert_eq!(makespan(&[1.0, 1.0, 1.0], 3, 2), 1.5, "three runs share two cores");
        assert_eq!(makespan(&[5.0], 3, 2), 5.0);
        assert_eq!(makespan(&[], 2, 2), 0.0);
    }

    #[test]
    fn durations_are_readable() {
        for (seconds, text) in [
            (0.4, "0 s"),
            (99.0, "99 s"),
            (257.0, "4 min 17 s"),
            (900.0, "15 min"),
            (7265.0, "2 h 1 min"),
            (1e6, "12 days"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert!(throughput(0.0).is_err() && throughput(f64::NAN).is_err());
        assert_eq!(throughput(2.5).ok(), Some(2.5e12));
    }
}
