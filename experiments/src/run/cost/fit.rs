//! Whether a run fits into the free memory of its device, and what would make it fit.

use super::memory::MemoryEstimate;
use super::{CorpusSize, CostInputs, DeviceProfile, gigabytes};
use crate::machine::memory::LIMIT_VARIABLE;
use burgess_base::{Error, Result};
use burgess_probe::llm::Compute;
use burgess_probe::recipe::{LoraConfig, ParameterGroup, Stage};
use serde::Serialize;
use std::collections::BTreeSet;

/// Ranks of LoRA that are offered, largest first.
const RANKS: [usize; 5] = [128, 64, 32, 16, 8];

/// A run, as far as it determines the memory that it needs.
pub struct RunMemory<'a> {
    /// Encoders, language model and connector.
    pub inputs: CostInputs<'a>,
    /// The training stages: name, settings of the arm, data.
    pub stages: Vec<(&'static str, Stage, CorpusSize)>,
    /// Number of positions of the longest question and number of new tokens of the longest answer; `None` if the run
    /// answers no questions.
    pub asked: Option<[usize; 2]>,
    /// Precision of the language model while questions are answered.
    pub answering: Compute,
    /// Name of the device.
    pub device: &'a str,
    /// Whether the device computes in bf16.
    pub computes_bf16: bool,
    /// Whether the connector has layers between the blocks of the language model, which exclude gradient checkpointing.
    pub samplers: bool,
}

/// Free memory of a device in bytes; `None` if it is not known.
pub type FreeMemory = Option<u64>;

/// The part of a run that needs most memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PeakMemory {
    /// `align`, `tune` or `answering`.
    pub part: &'static str,
    /// The memory that it needs.
    pub estimate: MemoryEstimate,
}

/// Whether an estimate fits; memory that is not known is taken to be enough.
fn fits(free: FreeMemory, estimate: &MemoryEstimate) -> bool {
    free.is_none_or(|free| estimate.device <= free as f64)
}

impl RunMemory<'_> {
    /// Estimates the part of the run that needs most memory.
    ///
    /// # Errors
    /// A card's tap does not fit its architecture.
    pub fn peak(&self) -> Result<PeakMemory> {
        let mut parts = Vec::with_capacity(self.stages.len() + 1);
        for (name, stage, corpus) in &self.stages {
            parts.push(PeakMemory { part: name, estimate: self.training(stage, *corpus)? });
        }
        if let Some([length, answer]) = self.asked {
            let profile = DeviceProfile::of(self.device, self.answering);
            parts.push(PeakMemory {
                part: "answering",
                estimate: self.inputs.answering_memory(length, answer, profile)?,
            });
        }
        let most = parts.into_iter().max_by(|a, b| a.estimate.device.total_cmp(&b.estimate.device));
        Ok(most.unwrap_or(PeakMemory { part: "nothing", estimate: MemoryEstimate::default() }))
    }

    fn training(&self, stage: &Stage, corpus: CorpusSize) -> Result<MemoryEstimate> {
        let shape = self.inputs.shape(stage, corpus);
        self.inputs.training_memory(stage, shape, DeviceProfile::of(self.device, stage.precision))
    }

    /// Checks that the run fits, and returns the memory that it needs.
    ///
    /// # Errors
    /// It does not fit; the error says what needs how much, and the hint which settings would fit.
    pub fn check(&self, free: FreeMemory) -> Result<PeakMemory> {
        let peak = self.peak()?;
        let e = peak.estimate;
        let Some(there) = free.filter(|_| !fits(free, &e)) else { return Ok(peak) };
        let detail: Vec<String> = [
            ("weights", e.weights),
            ("moments of the optimiser", e.moments),
            ("gradients", e.gradients),
            ("activations", e.activations),
            ("logits", e.logits),
        ]
        .into_iter()
        .filter(|(_, bytes)| *bytes >= 0.01 * e.device)
        .map(|(what, bytes)| format!("{what} {}", gigabytes(bytes)))
        .collect();
        let what =
            if peak.part == "answering" { "answering needs".into() } else { format!("the stage {} needs", peak.part) };
        Err(Error::failed(format!(
            "{what} about {} of memory on {}, {} are free ({}; they do not all reach their peak at once)",
            gigabytes(e.device),
            self.device,
            gigabytes(there as f64),
            detail.join(", ")
        ))
        .hint(self.advice(peak.part, free)?))
    }

    /// Settings of the stage with this name that would fit, in words.
    fn advice(&self, part: &str, free: FreeMemory) -> Result<String> {
        let overrule = format!("if the estimate is wrong, set {LIMIT_VARIABLE} to the memory in GB that a run may use");
        let Some((name, stage, corpus)) = self.stages.iter().find(|(name, ..)| *name == part) else {
            return Ok(format!("use a device with more memory; {overrule}"));
        };
        let (mut offered, mut seen, mut single, mut least) = (Vec::new(), BTreeSet::new(), false, f64::MAX);
        for (settings, changed) in self.alternatives(stage) {
            let keys: Vec<String> = settings.iter().map(|s| s.split(' ').next().unwrap_or_default().into()).collect();
            // Of several values of one key, the first that fits changes least; pairs are offered only if no single
            // setting fits.
            if seen.contains(&keys) || (single && settings.len() > 1) {
                continue;
            }
            let estimate = self.training(&changed, *corpus)?;
            least = least.min(estimate.device);
            if fits(free, &estimate) {
                single |= settings.len() == 1;
                seen.insert(keys);
                offered.push(format!("{} ({})", settings.join(" and "), gigabytes(estimate.device)));
            }
        }
        Ok(match offered.is_empty() {
            false => format!("in the stage {name}, any of these fits: {}; {overrule}", offered.join(", ")),
            true => format!(
                "no gradient accumulation, checkpointing, bf16 or LoRA makes the stage {name} fit (the least is {}): \
                 use a smaller language model or a device with more memory; {overrule}",
                gigabytes(least)
            ),
        })
    }

    /// Changes of a stage that save memory, each with its keys and values: single ones first.
    fn alternatives(&self, stage: &Stage) -> Vec<(Vec<String>, Stage)> {
        let mut single: Vec<(Vec<String>, Stage)> = Vec::new();
        let parts = std::iter::successors(Some(2 * stage.accumulate), |n| Some(2 * n)).take_while(|n| *n < stage.batch);
        let parts: Vec<usize> = parts.chain([stage.batch]).filter(|n| *n > stage.accumulate).collect();
        let accumulated = |stage: &Stage, n: usize| Stage { accumulate: n, ..stage.clone() };
        single.extend(parts.iter().map(|n| (vec![format!("accumulate = {n}")], accumulated(stage, *n))));
        if !stage.checkpointing && !self.samplers {
            single.push((vec!["checkpointing = true".into()], Stage { checkpointing: true, ..stage.clone() }));
        }
        if stage.precision == Compute::F32 && self.computes_bf16 {
            single.push((vec!["precision = \"bf16\"".into()], Stage { precision: Compute::Bf16, ..stage.clone() }));
        }
        if stage.trains(ParameterGroup::Llm) && stage.lora.is_none() {
            let targets = burgess_probe::llm::PROJECTIONS.map(String::from).to_vec();
            for rank in RANKS {
                let lora = LoraConfig { rank, alpha: 2.0 * rank as f64, targets: targets.clone() };
                let changed = Stage { lora: Some(lora), ..stage.clone() };
                if changed.check_llm(self.inputs.llm).is_ok() {
                    single.push((vec![format!("lora = {{ rank = {rank}, alpha = {} }}", 2 * rank)], changed));
                }
            }
        }
        // Pairs: checkpointing, bf16 or LoRA with accumulation, and checkpointing with bf16 or LoRA.
        let mut pairs = Vec::new();
        let others: Vec<_> = single.iter().filter(|(keys, _)| !keys[0].starts_with("accumulate")).cloned().collect();
        for (keys, changed) in &others {
            if !changed.checkpointing && !stage.checkpointing && !self.samplers {
                let both = Stage { checkpointing: true, ..changed.clone() };
                pairs.push(([keys.clone(), vec!["checkpointing = true".into()]].concat(), both));
            }
        }
        for (keys, changed) in &others {
            for n in &parts {
                pairs.push(([keys.clone(), vec![format!("accumulate = {n}")]].concat(), accumulated(changed, *n)));
            }
        }
        single.into_iter().chain(pairs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::ArmCard;
    use crate::run::cost::arms::ArmModel;
    use crate::study::{Arm, StudyConfig};
    use burgess_probe::llm::LlmConfig;

    /// Does `work` with the memory of a run that trains a language model of width 512 in this stage.
    fn with_run<R>(stage: &str, work: impl FnOnce(RunMemory<'_>) -> Result<R>) -> Result<R> {
        let stage: Stage =
            toml::from_str(&format!("steps = 4\nlr = 1e-5\n{stage}")).map_err(|e| Error::failed(e.to_string()))?;
        let llm = LlmConfig::nano(512, 8, 16_384);
        let (evaluator, arm) = (StudyConfig::open("nano")?.evaluator, Arm::parse("nano-clip")?);
        let cards = arm.encoders.iter().map(|e| ArmCard::planned(e, &evaluator)).collect::<Result<Vec<_>>>()?;
        let model = ArmModel::new(&evaluator, &arm, cards, &llm)?;
        let corpus = CorpusSize { samples: 100, text_tokens: 200, longest: Some(300), supervised: 50.0 };
        work(RunMemory {
            inputs: model.inputs(&llm, true),
            stages: vec![("tune", stage, corpus)],
            asked: Some([100, 20]),
            device: "flex",
            answering: Compute::F32,
            computes_bf16: false,
            samplers: false,
        })
    }

    fn free(gb: f64) -> FreeMemory {
        Some((gb * 1e9) as u64)
    }

    const BOTH: &str = "batch = 32\ntrainable = [\"connector\", \"llm\"]";

    #[test]
    fn what_does_not_fit_says_what_would() -> Result<()> {
        with_run(BOTH, |run| {
            let peak = run.check(free(100.0))?;
            assert_eq!(peak.part, "tune");
            let need = peak.estimate.device / 1e9;
            assert!(run.check(None).is_ok(), "not known is no refusal");
            // A little less than is needed: the smallest change of each kind is offered.
            let e = run.check(free(0.95 * need)).unwrap_err();
            assert!(e.to_string().contains("the stage tune needs about") && e.to_string().contains("on flex"), "{e}");
            let hint = e.hint_text().unwrap_or_default();
            for part in ["accumulate = 2 (", "checkpointing = true (", "lora = { rank = ", LIMIT_VARIABLE] {
                assert!(hint.contains(part), "{hint}");
            }
            assert!(!hint.contains("accumulate = 4") && !hint.contains("bf16") && !hint.contains(" and "), "{hint}");
            // Each setting that is offered fits when it is made.
            let (name, stage, corpus) = &run.stages[0];
            let changed = Stage { accumulate: 2, ..stage.clone() };
            assert!(run.training(&changed, *corpus)?.device <= 0.95e9 * need, "{name}");
            // Weights and moments alone do not fit: only LoRA helps, alone or with another setting.
            let least = run.check(free(0.45)).unwrap_err();
            let hint = least.hint_text().unwrap_or_default();
            assert!(
                hint.contains("lora = {") && hint.contains(" and ") && !hint.contains("fits: accumulate"),
                "{hint}"
            );
            let none = run.check(free(0.01)).unwrap_err();
            assert!(none.hint_text().is_some_and(|h| h.contains("no gradient accumulation")), "{none}");
            Ok(())
        })
    }

    #[test]
    fn what_is_set_already_is_not_offered() -> Result<()> {
        let stage = format!("{BOTH}\naccumulate = 32\ncheckpointing = true");
        with_run(&stage, |run| {
            let need = run.peak()?.estimate.device / 1e9;
            let e = run.check(free(0.9 * need)).unwrap_err();
            let hint = e.hint_text().unwrap_or_default();
            assert!(
                hint.contains("lora") && !hint.contains("accumulate =") && !hint.contains("checkpointing ="),
                "{hint}"
            );
            Ok(())
        })
    }

    #[test]
    fn a_run_that_only_answers_needs_less() -> Result<()> {
        with_run(BOTH, |mut run| {
            let before = run.peak()?.estimate.device;
            run.stages.clear();
            assert!(run.peak()?.estimate.device < before);
            assert_eq!(run.peak()?.part, "answering");
            Ok(())
        })
    }
}
