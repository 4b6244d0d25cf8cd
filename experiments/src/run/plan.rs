//! The plan of a study (`burgess rank --dry-run`): the resolved study, the state and cost of every run, and missing
//! files.

use crate::data::{self, benchmarks, field, mixes};
use crate::features::ArmCard;
use crate::machine::device_set::{DeviceSet, MemoryNeed};
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::machine::text_table;
use crate::machine::text_table::Align;
use crate::machine::workers::Workers;
use crate::run::cost::arms::ArmModel;
use crate::run::cost::fit::{FreeMemory, PeakMemory};
use crate::run::cost::time::{self, StudyTime, TimeInputs, TimedArm, duration};
use crate::run::cost::{CorpusSize, CostEstimate, gigabytes, millions, petaflops};
use crate::run::evaluator::Evaluator;
use crate::run::llm_files::LlmFiles;
use crate::run::store::RunStore;
use crate::run::study_runs::StudyOptions;
use crate::run::{checks, notes, training};
use crate::study::{Arm, DataSource, PublishedCorpus, StudyConfig};
use burgess_base::{Error, Result};
use burgess_field::FieldSpec;
use burgess_probe::bench;
use burgess_probe::llm::card::LlmCard;
use burgess_probe::llm::{LlmConfig, Weights, weights};
use burgess_world::dataset::WorldSpec;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Plan of a study.
#[derive(Serialize)]
pub struct StudyPlan {
    /// Output directory of the study.
    pub directory: PathBuf,
    /// Name of the device.
    pub device: String,
    /// Number of parallel runs.
    pub workers: usize,
    /// The study, fully resolved.
    pub study: StudyConfig,
    /// All runs of the study.
    pub runs: Vec<PlannedRun>,
    /// Estimated cost of a run of each arm, if the size of the data is known beforehand.
    pub costs: Vec<PlannedCost>,
    /// Memory in which a run must fit.
    pub free_memory: FreeMemory,
    /// Estimated wall-clock time, if it was asked for and the size of the data is known beforehand.
    pub time: Option<StudyTime>,
    /// Weights and data that are not on this machine, and how to get them.
    pub missing: Vec<String>,
    /// Assumptions about encoders, language model and recipe.
    pub notes: Vec<String>,
}

/// Estimated cost of a run of one arm.
#[derive(Clone, Serialize)]
pub struct PlannedCost {
    /// Name of the arm.
    pub arm: String,
    /// Number of conversations of the tune stage.
    pub conversations: u64,
    /// Estimated cost of one run.
    pub cost: CostEstimate,
    /// Estimated memory of the part of the run that needs most, on the devices of the plan.
    pub memory: PeakMemory,
    /// Why a run does not fit into the free memory, and what would help; `None` if it fits.
    pub problem: Option<String>,
}

/// One run of a plan, with its state.
#[derive(Clone, Serialize)]
pub struct PlannedRun {
    /// Arm of the run.
    pub arm: Arm,
    /// Seed of the run.
    pub seed: u64,
    /// State of the run: `done`, `failed before`, `begun` or `to do`.
    pub state: &'static str,
}

/// Makes the plan of a study without running or rendering anything.
///
/// # Errors
/// Something on this machine is invalid or does not fit, so that a run would fail.
pub fn plan(study: &StudyConfig, options: &StudyOptions, progress: &Progress) -> Result<StudyPlan> {
    make(study, options, None, progress)
}

/// As [`plan`], with an estimate of the wall-clock time: from `stated`, the operations per second of each worker, or
/// from finished runs or a short measurement on the device.
///
/// # Errors
/// As [`plan`], or the measurement fails.
pub fn plan_with_time(
    study: &StudyConfig,
    options: &StudyOptions,
    stated: Option<f64>,
    progress: &Progress,
) -> Result<StudyPlan> {
    make(study, options, Some(stated), progress)
}

fn make(
    study: &StudyConfig,
    options: &StudyOptions,
    time: Option<Option<f64>>,
    progress: &Progress,
) -> Result<StudyPlan> {
    let devices = DeviceSet::open(&options.device, progress)?;
    study.evaluator.check()?;
    let free_memory = devices.free_for_runs()?;
    let llm = llm_config(&study.evaluator.llm)?;
    let models = models(study, &llm)?;
    let directory = options.out.join(&study.name);
    checks::check_writable(&directory)?;
    let (notes, opened) = fits(study, &devices, progress)?;
    let corpora = match &opened {
        Some(evaluator) => Some(study.arms.iter().map(|arm| evaluator.corpora(arm)).collect::<Result<Vec<_>>>()?),
        None => study.arms.iter().map(|arm| corpora(study, arm)).collect::<Result<Option<Vec<_>>>>()?,
    };
    let view = PlanView { study, llm: &llm, evaluator: opened.as_ref(), devices: &devices };
    let costs = match &corpora {
        Some(corpora) => view.costs(&models, corpora, free_memory)?,
        None => Vec::new(),
    };
    let runs = study
        .runs()
        .into_iter()
        .map(|(arm, seed)| {
            let dir = directory.join(arm.name()).join(format!("seed-{seed}"));
            let state = if dir.join("results.json").exists() {
                "done"
            } else if dir.join("failed.json").exists() {
                "failed before"
            } else if dir.exists() {
                "begun"
            } else {
                "to do"
            };
            PlannedRun { arm, seed, state }
        })
        .collect();
    let missing = missing(study);
    let device = devices.names().join(", ");
    let largest = costs.iter().map(|c: &PlannedCost| c.memory.estimate.device).fold(0.0, f64::max);
    let need = free_memory.map(|free| MemoryNeed { run: largest as u64, free });
    let workers = devices.workers(options.jobs, study.arms.len() * study.seeds.len(), need);
    let time = match (time, &corpora) {
        (Some(stated), Some(corpora)) => {
            let _bar = progress.bar("measuring the speed of this device", 0);
            Some(view.time(&models, &costs, corpora, &workers, stated, &directory)?)
        }
        _ => None,
    };
    let (workers, study) = (workers.devices.len(), study.clone());
    Ok(StudyPlan { directory, device, workers, study, runs, costs, free_memory, time, missing, notes })
}

/// What the estimates of a plan are made from.
struct PlanView<'a> {
    study: &'a StudyConfig,
    llm: &'a LlmConfig,
    /// The opened evaluator, if weights and data are on this machine.
    evaluator: Option<&'a Evaluator>,
    devices: &'a DeviceSet,
}

impl PlanView<'_> {
    /// Estimates cost and memory of a run of every arm.
    fn costs(&self, models: &[ArmModel], corpora: &[Corpora], free: FreeMemory) -> Result<Vec<PlannedCost>> {
        let evaluator = &self.study.evaluator;
        let mut costs = Vec::with_capacity(models.len());
        for ((arm, model), corpora) in self.study.arms.iter().zip(models).zip(corpora.iter().copied()) {
            let asked = self.evaluator.and_then(|e| e.longest_question(model));
            let memory = model.run_memory(evaluator, arm, self.llm, corpora, asked, self.devices);
            let tuned = training::tune_stage(&evaluator.recipe.tune, arm.freeze);
            let cost = memory.inputs.cost(evaluator.recipe.align.as_ref().zip(corpora.0), (&tuned, corpora.1))?;
            let peak = memory.peak()?;
            let said = |e: Error| e.hint_text().map_or_else(|| e.to_string(), |hint| format!("{e}; {hint}"));
            costs.push(PlannedCost {
                arm: arm.name(),
                conversations: corpora.1.samples,
                cost,
                memory: peak,
                problem: memory.check(free).err().map(said),
            });
        }
        Ok(costs)
    }

    /// Estimates the wall-clock time of the study.
    fn time(
        &self,
        models: &[ArmModel],
        costs: &[PlannedCost],
        corpora: &[Corpora],
        workers: &Workers,
        stated: Option<f64>,
        directory: &Path,
    ) -> Result<StudyTime> {
        let run = |arm: &Arm, seed: &u64| RunStore::at(&directory.join(arm.name()).join(format!("seed-{seed}")));
        let arms = self.study.arms.iter().zip(models).zip(costs).map(|((arm, model), cost)| TimedArm {
            arm,
            model,
            cost: &cost.cost,
            runs: self.study.seeds.iter().map(|seed| run(arm, seed)).collect(),
            fits: cost.problem.is_none(),
        });
        let arms: Vec<TimedArm<'_>> = arms.collect();
        let config = &self.study.evaluator;
        let questions = match (self.evaluator, &config.data) {
            (Some(evaluator), _) => evaluator.question_counts(),
            (None, DataSource::World(WorldSpec { per_benchmark, .. }))
            | (None, DataSource::Field(FieldSpec { per_benchmark, .. })) => {
                [per_benchmark * config.benchmarks.len(); 2]
            }
            _ => [0, 0],
        };
        // The arm with most conversations: times of the others follow from their operations.
        let largest = corpora.iter().max_by_key(|(_, tune)| tune.samples).copied();
        let (align, tune) = largest.map_or((None, None), |(align, tune)| (align, Some(tune)));
        let samples = [align, tune].iter().flatten().map(|corpus| corpus.samples).sum::<u64>();
        let text_tokens = [align, tune].map(|corpus| corpus.map_or(0, |corpus| corpus.text_tokens));
        let inputs = TimeInputs {
            config,
            evaluator: self.evaluator,
            llm: self.llm,
            text_tokens,
            questions,
            images: self.evaluator.map_or(samples as usize + questions[0], |e| e.images.len()),
            devices: self.devices,
            workers,
            stated,
        };
        time::estimate(&inputs, &arms)
    }
}

/// Makes the checks that a run makes before its first step, as far as weights and data exist; no data are rendered.
/// Returns the assumptions, and the evaluator if its data are on this machine.
fn fits(study: &StudyConfig, devices: &DeviceSet, progress: &Progress) -> Result<(Vec<String>, Option<Evaluator>)> {
    let evaluator = &study.evaluator;
    if field::resolve(&evaluator.llm).and_then(|name| weights::locate(&name)).is_err() {
        return Ok((Vec::new(), None));
    }
    let data = match &evaluator.data {
        DataSource::World(spec) if !data::is_rendered(spec)? => None,
        DataSource::Field(spec) if field::data_directory(spec).is_err() => None,
        DataSource::Published(_) if !missing(study).is_empty() => None,
        data => Some(data::open(data, progress)?),
    };
    let opened = match data {
        Some(data) => Some(Evaluator::open(&study.name, evaluator, &study.arms, data, devices, progress)?),
        None => None,
    };
    let llm = match &opened {
        Some(_) => None,
        None => Some(LlmFiles::open(evaluator)?),
    };
    let Some(llm) = opened.as_ref().map(|i| &i.llm).or(llm.as_ref()) else { return Ok((Vec::new(), None)) };
    let mut all = notes::of_llm(&llm.notes, &evaluator.recipe);
    for arm in &study.arms {
        let step = |e: Error| e.context(format!("the arm {}", arm.name()));
        let cards = arm.encoders.iter().map(|e| ArmCard::planned(e, evaluator)).collect::<Result<Vec<_>>>();
        let cards = cards.map_err(step)?;
        for (encoder, card) in arm.encoders.iter().zip(&cards) {
            // Missing weights are reported by `missing`.
            if let ArmCard::Encoder(card) = card
                && encoder.find(card).is_ok()
            {
                encoder.check_weights(card).map_err(step)?;
            }
        }
        let cards: Vec<&ArmCard> = cards.iter().collect();
        let positions = checks::check_arm(evaluator, llm, arm, &cards, &devices.get(0))?;
        if let Some(opened) = &opened {
            opened.check_lengths(arm, positions)?;
            opened.check_truth(&cards).map_err(step)?;
        }
        all.extend(notes::of_cards(cards));
    }
    Ok((notes::distinct(all), opened))
}

/// Configuration of the language model: from its files, or from its card if they are not on this machine.
fn llm_config(name: &str) -> Result<LlmConfig> {
    let opened = field::resolve(name).and_then(|name| Weights::open(&name));
    match (opened, LlmCard::find(name)?) {
        (Ok(weights), _) => Ok(weights.config().clone()),
        (Err(_), Some(card)) => Ok(card.config),
        (Err(e), None) => Err(e),
    }
}

/// Sizes of the data of the align stage, if there is one, and of the tune stage.
type Corpora = (Option<CorpusSize>, CorpusSize);

/// Sizes of the align data and of an arm's tune data, if they are known without reading the data.
///
/// # Errors
/// The arm's mix cannot be applied.
fn corpora(study: &StudyConfig, arm: &Arm) -> Result<Option<Corpora>> {
    let share = study.evaluator.share.unwrap_or(1.0);
    let part = |samples: u64| (samples as f64 * share).round() as u64;
    let of = |samples: usize, text_tokens: usize| CorpusSize {
        samples: part(samples as u64),
        text_tokens,
        longest: Some(text_tokens),
        supervised: text_tokens as f64 / 2.0,
    };
    Ok(match (&study.evaluator.data, &arm.mix) {
        // Approximate token counts of the longer conversations: a caption, and turns of a question and an answer.
        (DataSource::World(spec), mix) => {
            let tune = match mix {
                Some(mix) => mixes::planned(mix.rules()?, spec)?,
                None => spec.conversations(),
            };
            Some((Some(of(spec.align, 30)), of(tune, 20 * spec.turns)))
        }
        (_, Some(_)) => None,
        (DataSource::Field(spec), None) => Some((Some(of(spec.align, 40)), of(spec.tune, 40 + 30 * spec.turns))),
        (DataSource::Published(data), None) => {
            let of = |c: &PublishedCorpus| CorpusSize {
                samples: part(c.samples),
                text_tokens: c.text_tokens,
                longest: None,
                supervised: c.text_tokens as f64,
            };
            Some((data.align.as_ref().map(of), of(&data.tune)))
        }
        (DataSource::Directory(_) | DataSource::Files(_), None) => None,
    })
}

/// Describes the models of all arms.
fn models(study: &StudyConfig, llm: &LlmConfig) -> Result<Vec<ArmModel>> {
    let evaluator = &study.evaluator;
    evaluator.recipe.check_llm(llm).map_err(|e| e.context("[recipe]"))?;
    let model = |arm: &Arm| {
        let cards = arm.encoders.iter().map(|e| ArmCard::planned(e, evaluator)).collect::<Result<Vec<_>>>()?;
        ArmModel::new(evaluator, arm, cards, llm)
    };
    study.arms.iter().map(|arm| model(arm).map_err(|e| e.context(format!("the arm {}", arm.name())))).collect()
}

/// Lists the weights and data of a study that are not on this machine.
fn missing(study: &StudyConfig) -> Vec<String> {
    let evaluator = &study.evaluator;
    let mut missing = Vec::new();
    if let Err(e) = field::resolve(&evaluator.llm).and_then(|name| weights::locate(&name)) {
        missing.push(format!("the language model {}: {}", evaluator.llm, e.hint_text().unwrap_or("not found")));
    }
    let mut absent: Vec<String> = Vec::new();
    for encoder in study.arms.iter().flat_map(|arm| &arm.encoders).filter(|e| !e.is_oracle()) {
        let there = encoder.card(evaluator.preparation()).and_then(|card| encoder.find(&card));
        if there.is_err() && !absent.contains(&encoder.source) {
            absent.push(encoder.source.clone());
        }
    }
    if !absent.is_empty() {
        missing.push(format!("{} encoders: burgess fetch {}", absent.len(), absent.join(" ")));
    }
    if let DataSource::Published(data) = &evaluator.data {
        for corpus in data.align.iter().chain([&data.tune]) {
            if let Err(e) = corpus.locate() {
                missing.push(format!("{}: {}", corpus.file, e.hint_text().unwrap_or("not found")));
            }
        }
    }
    let beside = match &evaluator.data {
        DataSource::Published(data) => data.images.clone().or_else(|| Some(paths::cache().ok()?.join("published"))),
        DataSource::Directory(dir) => Some(dir.clone()),
        DataSource::Files(files) => Some(files.images.clone()),
        DataSource::World(_) | DataSource::Field(_) => None,
    };
    let published = evaluator.benchmarks.iter().filter_map(|id| bench::find(id).ok());
    let absent = published.filter(|b| benchmarks::locate_in(*b, beside.as_deref()).is_err());
    let absent = absent.filter_map(|b| Some((b.id(), b.card().source?)));
    let (elsewhere, absent): (Vec<_>, Vec<_>) = absent.partition(|(_, source)| source.url().is_some());
    for (id, source) in elsewhere {
        missing.push(format!("{id}: download {} to bench/{id}/ of the data directory", source.repository));
    }
    if !absent.is_empty() {
        let absent: Vec<&str> = absent.iter().map(|(_, source)| source.repository).collect();
        missing.push(format!("{} benchmarks: hf download --repo-type dataset {}", absent.len(), absent.join(" | ")));
    }
    missing
}

impl StudyPlan {
    /// Formats the plan in lines of at most `width` characters, followed by the study as TOML.
    ///
    /// # Errors
    /// The study cannot be written as TOML.
    pub fn text(&self, width: usize) -> Result<String> {
        let head = format!(
            "{}: {} runs into {} on {}, {} at once",
            self.study.name,
            self.runs.len(),
            self.directory.display(),
            self.device,
            self.workers
        );
        let said = |text: &str| {
            let lines = text_table::wrap(text, width.saturating_sub(2));
            lines.iter().map(|line| format!("# {line}\n")).collect::<String>()
        };
        let mut text = said(&head);
        let runs = self.runs.iter();
        let runs = runs.map(|run| vec![run.arm.name(), format!("seed {}", run.seed), run.state.to_string()]);
        text += &text_table::table(&runs.collect::<Vec<_>>(), &[Align::Left; 3], "#   ", width);
        if let Some(first) = self.costs.first() {
            let devices = first.cost.tune.memory.iter().map(|(device, _)| *device).collect::<Vec<_>>().join(" | ");
            text += "#\n";
            text += &said(&format!("Estimates for one run; memory is that of a tune step: {devices}"));
            let head = ["arm", "encoders", "connect", "tokens", "steps", "PFLOP", "features", "memory"];
            let mut rows = vec![head.map(String::from).to_vec()];
            rows.extend(self.costs.iter().map(row));
            if self.study.arms.iter().any(|arm| arm.mix.is_some()) {
                text += &said(&self.mixes_text());
            }
            let mut sides = [Align::Right; 8];
            (sides[0], sides[7]) = (Align::Left, Align::Left);
            text += &text_table::table(&rows, &sides, "#   ", width);
            text += "#\n";
            text += &self.memory_text(&said, width);
        }
        if let Some(time) = &self.time {
            text += "#\n";
            text += &time_text(time, &said, width);
        }
        text += &self.missing.iter().map(|m| said(&format!("not on this machine: {m}"))).collect::<String>();
        text += &self.notes.iter().map(|n| said(&format!("note: {n}"))).collect::<String>();
        let study = toml::to_string(&self.study).map_err(|e| Error::failed(e.to_string()))?;
        Ok(format!("{text}\n{study}"))
    }

    /// Names the number of tune conversations of each arm, for studies whose arms have mixes.
    fn mixes_text(&self) -> String {
        let size = |planned: &PlannedCost| format!("{} {}", planned.arm, planned.conversations);
        format!("Tune conversations: {}", self.costs.iter().map(size).collect::<Vec<_>>().join(", "))
    }

    /// Formats whether the runs fit into memory, a line for each arm.
    fn memory_text(&self, said: &dyn Fn(&str) -> String, width: usize) -> String {
        let mut text = said(&match self.free_memory {
            Some(free) => {
                format!("Peak memory of one run on {}, where {} are free", self.device, gigabytes(free as f64))
            }
            None => format!("Peak memory of one run on {}, whose free memory is not known", self.device),
        });
        let rows = self.costs.iter().map(|planned| {
            let PeakMemory { part, estimate } = planned.memory;
            let need = gigabytes(estimate.device);
            let verdict = match (&planned.problem, self.free_memory) {
                (Some(_), _) => "does not fit",
                (None, Some(_)) => "fits",
                (None, None) => "not checked",
            };
            vec![planned.arm.clone(), need, format!("in {part}"), verdict.to_string()]
        });
        text += &text_table::table(&rows.collect::<Vec<_>>(), &[Align::Left; 4], "#   ", width);
        let problems = self.costs.iter().filter_map(|c| Some((&c.arm, c.problem.as_ref()?)));
        text + &problems.map(|(arm, problem)| said(&format!("{arm} does not fit: {problem}"))).collect::<String>()
    }
}

/// Formats the estimate of the wall-clock time.
fn time_text(time: &StudyTime, said: &dyn Fn(&str) -> String, width: usize) -> String {
    let encoding = if time.encoding > 0.0 {
        format!(" ({} of it for encoding, unless the features are cached)", duration(time.encoding))
    } else {
        String::new()
    };
    let mut text =
        said(&format!("Estimated time from now on: {}{encoding}, from {}", duration(time.total), time.basis));
    let rows = time.arms.iter().map(|t| {
        let runs = if t.left == 0 { "done".to_string() } else { format!("{} to do", t.left) };
        let parts = format!("training {}, answering {}", duration(t.training), duration(t.answering));
        vec![t.arm.clone(), format!("{} a run", duration(t.training + t.answering)), parts, runs]
    });
    let sides = [Align::Left, Align::Right, Align::Left, Align::Left];
    text += &text_table::table(&rows.collect::<Vec<_>>(), &sides, "#   ", width);
    text
}

/// Table row of an arm's cost.
fn row(PlannedCost { arm, cost, .. }: &PlannedCost) -> Vec<String> {
    let steps = match &cost.align {
        Some(align) => format!("{} + {}", align.steps, cost.tune.steps),
        None => cost.tune.steps.to_string(),
    };
    let flops = cost.align.as_ref().map_or(0.0, |s| s.flops) + cost.tune.flops + cost.encoding_flops;
    let memory = cost.tune.memory.iter().map(|(_, estimate)| gigabytes(estimate.device));
    let memory = memory.collect::<Vec<_>>().join(" | ");
    vec![
        arm.clone(),
        if cost.encoder_parameters == 0 { "none".into() } else { millions(cost.encoder_parameters) },
        millions(cost.connector_parameters),
        cost.tokens.to_string(),
        steps,
        petaflops(flops),
        gigabytes(cost.feature_bytes),
        memory,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{BUILT_IN, Freeze, PublishedScore};
    use burgess_reports::mlcd::{MlcdTable, RecomputedMlcd};
    use burgess_reports::paper::PaperTables;

    /// Checks the memory figures in the comments of the paper's studies against the estimates.
    #[test]
    fn the_papers_studies_say_what_fits_where() -> Result<()> {
        for (name, text) in BUILT_IN.iter().filter(|(name, _)| name.starts_with("cambrian-1/")) {
            let range = |mut study: StudyConfig, lora: bool| -> Result<(f64, f64)> {
                let tune = &mut study.evaluator.recipe.tune;
                tune.lora = lora
                    .then(|| toml::from_str("rank = 128\nalpha = 256"))
                    .transpose()
                    .map_err(|e| Error::failed(e.to_string()))?;
                let (llm, devices) = (llm_config(&study.evaluator.llm)?, DeviceSet::open("flex", &Progress::silent())?);
                let corpora = study.arms.iter().map(|arm| corpora(&study, arm)).collect::<Result<Option<Vec<_>>>>()?;
                let corpora = corpora.ok_or_else(|| Error::failed("the sizes of the data are not known"))?;
                let view = PlanView { study: &study, llm: &llm, evaluator: None, devices: &devices };
                let costs = view.costs(&models(&study, &llm)?, &corpora, None)?;
                let most = costs.iter().filter_map(|c| Some(c.cost.tune.memory.last()?.1.device / 1e9));
                Ok(most.fold((f64::MAX, 0.0), |(least, most), gb| (gb.min(least), gb.max(most))))
            };
            let words = text.replace("\n# ", " ");
            let said = |before: &str| -> Option<(f64, f64)> {
                let numbers = words.split(before).nth(1)?.split(" GB").next()?.trim().to_string();
                let (least, most) = numbers.split_once(" to ").unwrap_or((&numbers, &numbers));
                Some((least.parse().ok()?, most.parse().ok()?))
            };
            let study = StudyConfig::open(name)?;
            for (lora, before, card) in [(false, "of 2,048 tokens takes", 141), (true, "in addition it takes", 80)] {
                let (least, most) = range(study.clone(), lora)?;
                let rounded = (least.floor(), most.ceil());
                assert_eq!(said(before), Some(rounded), "{name}: {least} to {most}");
                let fits = words.contains(&format!("which fits a GPU with {card} GB"));
                assert!(fits == (most < f64::from(card)) && (lora || least > 80.0), "{name}: {least} to {most}");
            }
        }
        Ok(())
    }

    #[test]
    fn mlcds_table_is_resolved_with_the_averages_of_its_columns() -> Result<()> {
        let options = StudyOptions { out: "runs".into(), device: "flex".into(), jobs: Some(1), stage: None };
        let study = StudyConfig::open("mlcd/llava-next")?;
        let plan = plan(&study, &options, &Progress::silent())?;
        assert_eq!(plan.costs.len(), study.arms.len());
        assert!(plan.costs.iter().all(|c| c.cost.tune.steps == 738_590_u64.div_ceil(128) && c.cost.tune.flops > 1e19));
        assert!(plan.missing.iter().any(|m| m.contains("5 benchmarks")), "{:?}", plan.missing);
        let outcome = RecomputedMlcd::of(&MlcdTable::load()?, &PaperTables::load()?)?;
        let rows = ["CLIP ViT-L/14@336", "SigLIP ViT-SO400M/14@384", "DFN5B ViT-H/14@378"];
        for (arm, row) in study.arms.iter().zip(rows) {
            let computed = outcome.models.iter().find(|m| m.model == row).map(|m| PublishedScore::from(m.means[0]));
            assert_eq!((arm.published, arm.freeze), (computed, Freeze::Unfrozen), "{row}");
        }
        Ok(())
    }

    #[test]
    fn the_papers_tables_are_resolved_without_weights() -> Result<()> {
        let options = StudyOptions { out: "runs".into(), device: "flex".into(), jobs: Some(1), stage: None };
        let papers: Vec<&str> =
            BUILT_IN.iter().map(|(name, _)| *name).filter(|name| name.starts_with("cambrian-1/")).collect();
        assert_eq!(papers.len(), 8);
        for name in papers {
            let study = StudyConfig::open(name)?;
            let plan = plan(&study, &options, &Progress::silent()).map_err(|e| e.context(name))?;
            assert_eq!(plan.costs.len(), study.arms.len(), "{name}");
            assert!(plan.costs.iter().all(|c| c.cost.tune.steps >= 1439 && c.cost.tune.flops > 1e19), "{name}");
            assert!(plan.missing.iter().any(|m| m.contains("16 benchmarks")), "{name}");
            for width in [80, 100, 200] {
                let text = plan.text(width)?;
                let table = text.lines().filter(|l| l.starts_with('#') && !l.contains("hf download"));
                assert!(table.clone().count() > plan.costs.len() && text.contains("PFLOP"), "{text}");
                assert!(table.clone().all(|l| l.chars().count() <= width), "{text}");
            }
        }
        // Cambrian-8B's connector, for a language model of width 4096, has as many parameters as published.
        let sva = plan(&StudyConfig::open("cambrian-1/sva")?, &options, &Progress::silent())?;
        let released = sva.costs.iter().find(|c| c.arm == "sva").map(|c| c.cost.connector_parameters);
        assert!(released.is_some_and(|n| (300_000_000..305_000_000).contains(&n)), "{released:?}");
        Ok(())
    }
}
