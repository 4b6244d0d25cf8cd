//! The plan of a study (`burgess rank --dry-run`): the resolved study, the state and cost of every run, and missing
//! files.

use crate::data::{self, benchmarks, field};
use crate::features::ArmCard;
use crate::machine::progress::Progress;
use crate::machine::text_table;
use crate::machine::text_table::Align;
use crate::machine::{device, paths};
use crate::run::cost::{CorpusSize, CostEstimate, CostInputs, gigabytes, millions, petaflops};
use crate::run::evaluator::Evaluator;
use crate::run::llm_files::LlmFiles;
use crate::run::ranking::StudyOptions;
use crate::run::{checks, notes, training};
use crate::study::{Arm, DataSource, FeatureSourceKind, PublishedCorpus, StudyConfig};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint;
use burgess_probe::bench;
use burgess_probe::connector::ConnectorConfig;
use burgess_probe::llm::card::LlmCard;
use burgess_probe::llm::{LlmConfig, Weights, weights};
use burn::tensor::Device;
use serde::Serialize;
use std::path::PathBuf;

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
    /// Estimated cost of one run.
    pub cost: CostEstimate,
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
    let device = device::open(&options.device, progress)?;
    study.evaluator.check()?;
    let costs = costs(study)?;
    let directory = options.out.join(&study.name);
    checks::check_writable(&directory)?;
    let notes = fits(study, options, device, progress)?;
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
    let (device, workers) = (options.device.clone(), options.parallelism.workers);
    Ok(StudyPlan { directory, device, workers, study: study.clone(), runs, costs, missing, notes })
}

/// Makes the checks that a run makes before its first step, as far as weights and data exist; no data are rendered.
fn fits(study: &StudyConfig, options: &StudyOptions, device: Device, progress: &Progress) -> Result<Vec<String>> {
    let evaluator = &study.evaluator;
    if field::resolve(&evaluator.llm).and_then(|name| weights::locate(&name)).is_err() {
        return Ok(Vec::new());
    }
    let data = match &evaluator.data {
        DataSource::World(spec) if !data::is_rendered(spec)? => None,
        DataSource::Field(spec) if field::data_directory(spec).is_err() => None,
        DataSource::Published(_) if !missing(study).is_empty() => None,
        data => Some(data::open(data, progress)?),
    };
    let opened = match data {
        Some(data) => Some(Evaluator::open(&study.name, evaluator, data, &options.device, device.clone(), progress)?),
        None => None,
    };
    let llm = match &opened {
        Some(_) => None,
        None => Some(LlmFiles::open(evaluator)?),
    };
    let Some(llm) = opened.as_ref().map(|i| &i.llm).or(llm.as_ref()) else { return Ok(Vec::new()) };
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
        let positions = checks::check_arm(evaluator, llm, arm, &cards, &device)?;
        if let Some(opened) = &opened {
            opened.check_lengths(arm, positions)?;
            opened.check_truth(&cards).map_err(step)?;
        }
        all.extend(notes::of_cards(cards));
    }
    Ok(notes::distinct(all))
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

/// Sizes of the align and tune data, if they are known without reading the data.
fn corpora(study: &StudyConfig) -> Option<(Option<CorpusSize>, CorpusSize)> {
    let share = study.evaluator.share.unwrap_or(1.0);
    let part = |samples: u64| (samples as f64 * share).round() as u64;
    let of = |samples: usize, text_tokens: usize| CorpusSize { samples: part(samples as u64), text_tokens };
    match &study.evaluator.data {
        // Approximate token counts: a caption, and turns of a question and an answer.
        DataSource::World(spec) => Some((Some(of(spec.align, 30)), of(spec.tune, 20 * spec.turns))),
        DataSource::Field(spec) => Some((Some(of(spec.align, 40)), of(spec.tune, 40 + 30 * spec.turns))),
        DataSource::Published(data) => {
            let of = |c: &PublishedCorpus| CorpusSize { samples: part(c.samples), text_tokens: c.text_tokens };
            Some((data.align.as_ref().map(of), of(&data.tune)))
        }
        DataSource::Directory(_) | DataSource::Files(_) => None,
    }
}

/// Estimates the cost of a run of every arm.
fn costs(study: &StudyConfig) -> Result<Vec<PlannedCost>> {
    let evaluator = &study.evaluator;
    let llm = llm_config(&evaluator.llm)?;
    evaluator.recipe.check_llm(&llm).map_err(|e| e.context("[recipe]"))?;
    let mut costs = Vec::with_capacity(study.arms.len());
    for arm in &study.arms {
        let step = || format!("the arm {}", arm.name());
        let cards = arm.encoders.iter().map(|e| ArmCard::planned(e, evaluator)).collect::<Result<Vec<_>>>();
        let cards = cards.map_err(|e| e.context(step()))?;
        let mut shapes = Vec::with_capacity(cards.len());
        for card in &cards {
            shapes.push((card.width()?, card.used_grid()?));
        }
        let kind = evaluator.connector_of(arm).clone();
        let connector = ConnectorConfig::new(kind, &shapes, llm.hidden_size).map_err(|e| e.context(step()))?;
        let module = connector.init(&Device::flex())?;
        let parameters = checkpoint::parameters(&module)?.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        let grids: Vec<[usize; 2]> = shapes.iter().map(|t| t.1).collect();
        let inputs = CostInputs {
            cards: &cards,
            llm: &llm,
            connector_parameters: parameters,
            tokens: connector.image_tokens(&grids),
            cached: evaluator.features == FeatureSourceKind::Cached,
        };
        let Some((align, tune)) = corpora(study) else { continue };
        let tuned = training::tune_stage(&evaluator.recipe.tune, arm.freeze);
        let cost = inputs.cost(evaluator.recipe.align.as_ref().zip(align), (&tuned, tune))?;
        costs.push(PlannedCost { arm: arm.name(), cost });
    }
    Ok(costs)
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
    let published =
        evaluator.benchmarks.iter().filter_map(|id| bench::find(id).ok()).filter(|b| b.card().source.is_some());
    let absent: Vec<&str> = published
        .filter(|b| benchmarks::locate_in(*b, beside.as_deref()).is_err())
        .filter_map(|b| b.card().source.map(|s| s.repository))
        .collect();
    if !absent.is_empty() {
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
            let mut sides = [Align::Right; 8];
            (sides[0], sides[7]) = (Align::Left, Align::Left);
            text += &text_table::table(&rows, &sides, "#   ", width);
        }
        text += &self.missing.iter().map(|m| said(&format!("not on this machine: {m}"))).collect::<String>();
        text += &self.notes.iter().map(|n| said(&format!("note: {n}"))).collect::<String>();
        let study = toml::to_string(&self.study).map_err(|e| Error::failed(e.to_string()))?;
        Ok(format!("{text}\n{study}"))
    }
}

/// Table row of an arm's cost.
fn row(PlannedCost { arm, cost }: &PlannedCost) -> Vec<String> {
    let steps = match &cost.align {
        Some(align) => format!("{} + {}", align.steps, cost.tune.steps),
        None => cost.tune.steps.to_string(),
    };
    let flops = cost.align.as_ref().map_or(0.0, |s| s.flops) + cost.tune.flops + cost.encoding_flops;
    let memory = cost.tune.memory.iter().map(|(_, b)| gigabytes(*b)).collect::<Vec<_>>().join(" | ");
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
    use crate::machine::workers::Parallelism;
    use crate::study::BUILT_IN;

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
                let costs = costs(&study)?;
                let most = costs.iter().filter_map(|c| Some(c.cost.tune.memory.last()?.1 / 1e9));
                Ok(most.fold((f64::MAX, 0.0), |(least, most), gb| (gb.min(least), gb.max(most))))
            };
            let said = |before: &str| -> Option<(f64, f64)> {
                let words = text.replace("\n# ", " ");
                let numbers = words.split(before).nth(1)?.split(" GB").next()?.trim().to_string();
                let (least, most) = numbers.split_once(" to ").unwrap_or((&numbers, &numbers));
                Some((least.parse().ok()?, most.parse().ok()?))
            };
            let study = StudyConfig::open(name)?;
            for (lora, before, card) in [(false, "a tune step takes", 141.0), (true, "in addition it takes", 80.0)] {
                let (least, most) = range(study.clone(), lora)?;
                let rounded = (least.floor(), most.ceil());
                assert_eq!(said(before), Some(rounded), "{name}: {least} to {most}");
                assert!(most < card && (lora || least > 80.0), "{name}: {least} to {most}");
            }
        }
        Ok(())
    }

    #[test]
    fn the_papers_tables_are_resolved_without_weights() -> Result<()> {
        let options = StudyOptions {
            out: "runs".into(),
            device: "flex".into(),
            parallelism: Parallelism { workers: 1, threads: 1 },
            stage: None,
        };
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
