//! The model of an arm as far as it determines the cost, and the size of the data that a study trains on.

use super::fit::{FreeMemory, RunMemory};
use super::{CorpusSize, CostInputs};
use crate::data::examples::ExampleSet;
use crate::data::field;
use crate::features::ArmCard;
use crate::machine::{device_set::DeviceSet, memory};
use crate::run::eval_task::EvalTask;
use crate::run::evaluator::Evaluator;
use crate::run::training;
use crate::study::{Arm, BlindInput, EvaluatorConfig, FeatureSourceKind};
use burgess_base::Result;
use burgess_encoders::checkpoint;
use burgess_probe::connector::ConnectorConfig;
use burgess_probe::data::Examples;
use burgess_probe::llm::{Compute, LlmConfig, Weights};
use burn::tensor::Device;
use std::collections::BTreeSet;

/// Encoders and connector of an arm.
pub struct ArmModel {
    cards: Vec<ArmCard>,
    connector: ConnectorConfig,
    connector_parameters: usize,
    tokens: usize,
    stored_llm: Option<f64>,
}

/// Size in memory of a language model's weights on the device flex, in bytes, if they stay as their file stores them.
/// `None` if they are f32, or if the model is not on this machine.
fn stored_llm(evaluator: &EvaluatorConfig, llm: &LlmConfig) -> Option<f64> {
    if !training::stays_stored(&evaluator.recipe, llm, &Device::flex()) {
        return None;
    }
    let weights = field::resolve(&evaluator.llm).and_then(|name| Weights::open(&name)).ok()?;
    Some(weights.stored_bytes() as f64)
}

impl ArmModel {
    /// Describes the model of an arm; `cards` are the cards of its encoders.
    ///
    /// # Errors
    /// The encoders do not fit the connector.
    pub fn new(evaluator: &EvaluatorConfig, arm: &Arm, cards: Vec<ArmCard>, llm: &LlmConfig) -> Result<Self> {
        let mut shapes = Vec::with_capacity(cards.len());
        for card in &cards {
            shapes.push((card.width()?, card.used_grid()?));
        }
        let connector = ConnectorConfig::new(evaluator.connector_of(arm).clone(), &shapes, llm.hidden_size)?;
        let module = connector.init(&Device::flex())?;
        let parameters = checkpoint::parameters(&module)?;
        let grids: Vec<[usize; 2]> = shapes.iter().map(|(_, grid)| *grid).collect();
        Ok(Self {
            cards,
            connector_parameters: parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum(),
            tokens: connector.image_tokens(&grids),
            stored_llm: stored_llm(evaluator, llm),
            connector,
        })
    }

    /// The cards of the encoders.
    pub fn cards(&self) -> &[ArmCard] {
        &self.cards
    }

    /// The configuration of the connector.
    pub fn connector(&self) -> &ConnectorConfig {
        &self.connector
    }

    /// Whether the connector has layers between the blocks of the language model.
    pub fn has_samplers(&self) -> bool {
        self.connector.kind.properties().samplers.is_some()
    }

    /// The inputs of the estimates; `cached` tells whether features of frozen encoders are cached.
    pub fn inputs<'a>(&'a self, llm: &'a LlmConfig, cached: bool) -> CostInputs<'a> {
        CostInputs {
            cards: &self.cards,
            llm,
            stored_llm: self.stored_llm,
            connector_parameters: self.connector_parameters,
            tokens: self.tokens,
            cached,
        }
    }
}

impl DeviceSet {
    /// The memory that is free for one run on one of the devices, or that the user allows.
    ///
    /// # Errors
    /// The environment variable with the user's limit is invalid.
    pub fn free_for_runs(&self) -> Result<FreeMemory> {
        Ok(memory::limit()?.or_else(|| self.free_memory()))
    }
}

impl Evaluator {
    /// The size of the data of the align stage, if there is one, and of an arm's tune stage.
    ///
    /// # Errors
    /// The tokenised conversations cannot be read.
    pub fn corpora(&self, arm: &Arm) -> Result<(Option<CorpusSize>, CorpusSize)> {
        let size = |set: &ExampleSet| -> Result<CorpusSize> {
            let counts = set.token_counts()?;
            Ok(CorpusSize {
                samples: set.examples.len() as u64,
                text_tokens: counts.mean.round() as usize,
                longest: Some(counts.longest),
                supervised: counts.supervised,
            })
        };
        Ok((self.align.as_ref().map(size).transpose()?, size(self.tune_of(arm)?)?))
    }

    /// Number of positions of the longest question for this model, and number of new tokens of its answer; `None` if no
    /// questions are asked.
    pub fn longest_question(&self, model: &ArmModel) -> Option<[usize; 2]> {
        let asked =
            self.benchmarks.iter().map(|task| [task.longest_prompt(model.tokens), task.benchmark.max_new_tokens()]);
        asked.max_by_key(|[length, answer]| length + answer)
    }

    /// Number of questions of all benchmarks, and of different texts that are asked without the image.
    pub fn question_counts(&self) -> [usize; 2] {
        let blind = |task: &EvalTask| match self.config.blind {
            BlindInput::Grey => task.image_prompts.iter().collect::<BTreeSet<_>>().len(),
            BlindInput::Omitted => task.blind_prompts.iter().collect::<BTreeSet<_>>().len(),
        };
        let all = self.benchmarks.iter().map(|task| task.questions.len()).sum();
        [all, self.benchmarks.iter().map(blind).sum()]
    }
}

impl ArmModel {
    /// What determines the memory of a run of an arm with this model. `asked` is the longest question, see
    /// [`Evaluator::longest_question`].
    pub fn run_memory<'a>(
        &'a self,
        evaluator: &EvaluatorConfig,
        arm: &Arm,
        llm: &'a LlmConfig,
        (align, tune): (Option<CorpusSize>, CorpusSize),
        asked: Option<[usize; 2]>,
        devices: &'a DeviceSet,
    ) -> RunMemory<'a> {
        let align = evaluator.recipe.align.clone().zip(align).map(|(stage, corpus)| ("align", stage, corpus));
        let tuned = training::tune_stage(&evaluator.recipe.tune, arm.freeze);
        RunMemory {
            inputs: self.inputs(llm, evaluator.features == FeatureSourceKind::Cached),
            stages: align.into_iter().chain([("tune", tuned, tune)]).collect(),
            asked,
            answering: evaluator.precision,
            device: devices.names().first().map_or("", String::as_str),
            computes_bf16: Compute::Bf16.check_device(&devices.get(0)).is_ok(),
            samplers: self.has_samplers(),
        }
    }
}
