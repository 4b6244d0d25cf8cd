//! What `burgess rank` would do: every id resolved, every run's state, what it will cost, what is missing.

use crate::estimate::{Corpus, Cost, Parts, gigabytes, millions, petaflops};
use crate::frozen::Kept;
use crate::rank::{Options, expand};
use crate::study::{Arm, Data, Study};
use crate::{benchmarks, device, field, paths, published, training};
use burgess_base::Result;
use burgess_encoders::checkpoint;
use burgess_probe::bench;
use burgess_probe::connector::ConnectorConfig;
use burgess_probe::llm::card::LlmCard;
use burgess_probe::llm::{LlmConfig, Weights, weights};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// What would be done.
#[derive(Serialize)]
pub struct Plan {
    pub directory: PathBuf,
    pub device: String,
    pub workers: usize,
    pub study: Study,
    pub runs: Vec<PlannedRun>,
    /// What a run of each arm will cost, where the size of the data is known beforehand.
    pub costs: Vec<PlannedCost>,
    /// What is not on this machine, and how to get it.
    pub missing: Vec<String>,
}

/// What a run of an arm will cost.
#[derive(Clone, Serialize)]
pub struct PlannedCost {
    pub arm: String,
    pub cost: Cost,
}

/// One run of a plan.
#[derive(Clone, Serialize)]
pub struct PlannedRun {
    pub arm: Arm,
    pub seed: u64,
    pub state: &'static str,
}

/// Resolves a study without doing anything: every id, every file, and what is done already.
pub fn plan(study: &Study, options: &Options) -> Result<Plan> {
    device::parse(&options.device)?;
    let costs = costs(study)?;
    let directory = options.out.join(&study.name);
    let runs = expand(study)
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
    let (device, workers) = (options.device.clone(), options.share.workers);
    Ok(Plan { directory, device, workers, study: study.clone(), runs, costs, missing })
}

/// The numbers of the evaluator's language model: of its files, or of its card if they are not here.
fn llm_config(name: &str) -> Result<LlmConfig> {
    let opened = field::resolve(name).and_then(|name| Weights::open(&name));
    match (opened, LlmCard::find(name)?) {
        (Ok(weights), _) => Ok(weights.config().clone()),
        (Err(_), Some(card)) => Ok(card.config),
        (Err(e), None) => Err(e),
    }
}

/// Conversations of each stage, where they are known without reading them.
fn corpora(study: &Study) -> Option<(Option<Corpus>, Corpus)> {
    let of = |samples: usize, text_tokens: usize| Corpus { samples: samples as u64, text_tokens };
    match &study.evaluator.data {
        // A caption, and turns of a question and an answer of about these lengths.
        Data::World(spec) => Some((Some(of(spec.align, 30)), of(spec.tune, 20 * spec.turns))),
        Data::Field(spec) => Some((Some(of(spec.align, 40)), of(spec.tune, 40 + 30 * spec.turns))),
        Data::Published(data) => {
            let of = |c: &published::Corpus| of(c.samples as usize, c.text_tokens);
            Some((data.align.as_ref().map(of), of(&data.tune)))
        }
        Data::Directory(_) | Data::Files(_) => None,
    }
}

/// Every arm resolved: cards, connector, language model, steps.
fn costs(study: &Study) -> Result<Vec<PlannedCost>> {
    let evaluator = &study.evaluator;
    let llm = llm_config(&evaluator.llm)?;
    evaluator.recipe.check_llm(&llm).map_err(|e| e.context("[recipe]"))?;
    let mut costs = Vec::with_capacity(study.arms.len());
    for arm in &study.arms {
        let step = || format!("the arm {}", arm.name());
        let cards = arm.encoders.iter().map(|e| e.card(evaluator.preprocess)).collect::<Result<Vec<_>>>();
        let cards = cards.map_err(|e| e.context(step()))?;
        let mut towers = Vec::with_capacity(cards.len());
        for card in &cards {
            towers.push((card.architecture.width(&card.tap)?, card.used_grid()?));
        }
        let kind = arm.connector_of(evaluator).clone();
        let connector = ConnectorConfig::new(kind, &towers, llm.hidden_size).map_err(|e| e.context(step()))?;
        let module = connector.init(&burn::tensor::Device::flex())?;
        let parameters = checkpoint::parameters(&module)?.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        let grids: Vec<[usize; 2]> = towers.iter().map(|t| t.1).collect();
        let parts = Parts {
            cards: &cards,
            llm: &llm,
            connector_parameters: parameters,
            tokens: connector.positions(&grids),
            cached: evaluator.features == Kept::Cached,
        };
        let Some((align, tune)) = corpora(study) else { continue };
        let tuned = training::tune_stage(&evaluator.recipe.tune, arm.freeze);
        let cost = parts.cost(evaluator.recipe.align.as_ref().zip(align), (&tuned, tune))?;
        costs.push(PlannedCost { arm: arm.name(), cost });
    }
    Ok(costs)
}

/// What a study needs that is not on this machine.
fn missing(study: &Study) -> Vec<String> {
    let evaluator = &study.evaluator;
    let mut missing = Vec::new();
    if let Err(e) = field::resolve(&evaluator.llm).and_then(|name| weights::locate(&name)) {
        missing.push(format!("the language model {}: {}", evaluator.llm, e.hint_text().unwrap_or("it is not here")));
    }
    let mut absent: Vec<String> = Vec::new();
    for encoder in study.arms.iter().flat_map(|arm| &arm.encoders) {
        let there = encoder.card(evaluator.preprocess).and_then(|card| encoder.find(&card));
        if there.is_err() && !absent.contains(&encoder.source) {
            absent.push(encoder.source.clone());
        }
    }
    if !absent.is_empty() {
        missing.push(format!("{} encoders: burgess fetch {}", absent.len(), absent.join(" ")));
    }
    if let Data::Published(data) = &evaluator.data {
        for corpus in data.align.iter().chain([&data.tune]) {
            if let Err(e) = corpus.locate() {
                missing.push(format!("{}: {}", corpus.file, e.hint_text().unwrap_or("it is not here")));
            }
        }
    }
    let beside = match &evaluator.data {
        Data::Published(data) => data.pictures.clone().or_else(|| Some(paths::cache().ok()?.join("published"))),
        Data::Directory(dir) => Some(dir.clone()),
        Data::Files(files) => Some(files.pictures.clone()),
        Data::World(_) | Data::Field(_) => None,
    };
    let published =
        evaluator.benchmarks.iter().filter_map(|id| bench::find(id).ok()).filter(|b| b.card().source.is_some());
    let absent: Vec<&str> = published
        .filter(|b| benchmarks::locate(*b, beside.as_deref()).is_err())
        .filter_map(|b| b.card().source.map(|s| s.repository))
        .collect();
    if !absent.is_empty() {
        missing.push(format!("{} benchmarks: hf download --repo-type dataset {}", absent.len(), absent.join(" | ")));
    }
    missing
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# {}: {} runs into {} on {}, {} at once",
            self.study.name,
            self.runs.len(),
            self.directory.display(),
            self.device,
            self.workers
        )?;
        for run in &self.runs {
            writeln!(f, "#   {:<40} seed {:<4} {}", run.arm.name(), run.seed, run.state)?;
        }
        if let Some(first) = self.costs.first() {
            let memory = first.cost.tune.memory.iter().map(|(device, _)| *device).collect::<Vec<_>>().join(" | ");
            writeln!(f, "#")?;
            writeln!(f, "# Estimates for one run; memory is that of a tune step: {memory}")?;
            writeln!(
                f,
                "#   {:<40} {:>8} {:>7} {:>7} {:>13} {:>8} {:>9}  memory",
                "arm", "encoders", "connect", "tokens", "steps", "PFLOP", "features"
            )?;
            for PlannedCost { arm, cost } in &self.costs {
                let steps = match &cost.align {
                    Some(align) => format!("{} + {}", align.steps, cost.tune.steps),
                    None => cost.tune.steps.to_string(),
                };
                let flops = cost.align.as_ref().map_or(0.0, |s| s.flops) + cost.tune.flops + cost.encoding_flops;
                let memory = cost.tune.memory.iter().map(|(_, b)| gigabytes(*b)).collect::<Vec<_>>().join(" | ");
                writeln!(
                    f,
                    "#   {:<40} {:>8} {:>7} {:>7} {:>13} {:>8} {:>9}  {memory}",
                    arm,
                    millions(cost.encoder_parameters),
                    millions(cost.connector_parameters),
                    cost.tokens,
                    steps,
                    petaflops(flops),
                    gigabytes(cost.feature_bytes),
                )?;
            }
        }
        for missing in &self.missing {
            writeln!(f, "# not on this machine: {missing}")?;
        }
        let text = toml::to_string(&self.study).map_err(|_| fmt::Error)?;
        write!(f, "\n{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::BUILT_IN;
    use crate::workers::Share;

    #[test]
    fn the_papers_tables_are_resolved_without_weights() -> Result<()> {
        let options = Options { out: "runs".into(), device: "flex".into(), share: Share { workers: 1, threads: 1 } };
        let papers: Vec<&str> =
            BUILT_IN.iter().map(|(name, _)| *name).filter(|name| name.starts_with("cambrian-1/")).collect();
        assert_eq!(papers.len(), 8);
        for name in papers {
            let study = Study::open(name)?;
            let plan = plan(&study, &options).map_err(|e| e.context(name))?;
            assert_eq!(plan.costs.len(), study.arms.len(), "{name}");
            assert!(plan.costs.iter().all(|c| c.cost.tune.steps >= 1439 && c.cost.tune.flops > 1e19), "{name}");
            assert!(plan.missing.iter().any(|m| m.contains("16 benchmarks")), "{name}");
            assert!(plan.to_string().contains("PFLOP"));
        }
        // The connector of Cambrian-8B's kind has as many numbers as the fact sheet says for 4096 channels.
        let sva = plan(&Study::open("cambrian-1/sva")?, &options)?;
        let released = sva.costs.iter().find(|c| c.arm == "sva").map(|c| c.cost.connector_parameters);
        assert!(released.is_some_and(|n| (300_000_000..305_000_000).contains(&n)), "{released:?}");
        Ok(())
    }
}
