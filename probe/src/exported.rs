//! Multimodal models in the layout of `transformers`' LLaVA (`LlavaForConditionalGeneration`): the names of their
//! tensors, and the loading of the models that Burgess exports in it.
//!
//! | prefix | part | names below it |
//! |---|---|---|
//! | [`TOWER`] | the encoder | those of `CLIPVisionModel` or `SiglipVisionModel` |
//! | [`PROJECTOR`] | the connector | `linear_1`, `linear_2` |
//! | [`LLM`] | the language model | those of its class, such as `LlamaForCausalLM` |

use crate::connector::{ConnectorKind, GridOptions};
use crate::llm::WeightStorage;
use crate::llm::weights::load_network;
use crate::mllm::{Mllm, MllmConfig};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{self, Checkpoint, Dialect, Rule};
use burn::tensor::Device;
use std::path::Path;

/// Prefix of the encoder's tensors.
pub const TOWER: &str = "vision_tower.";
/// Prefix of the connector's tensors.
pub const PROJECTOR: &str = "multi_modal_projector.";
/// Prefix of the language model's tensors.
pub const LLM: &str = "language_model.";

/// Name of the embedding table below [`LLM`].
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the output head below [`LLM`], if it is not tied to the embedding table.
pub const HEAD: &str = "lm_head.weight";

/// Names of the two linear layers of the connector `mlp2x_gelu`.
const MLP: Dialect = Dialect {
    name: "llava-projector",
    rules: &[Rule::same("mm_projector.0.{p}", &["linear_1.{p}"]), Rule::same("mm_projector.2.{p}", &["linear_2.{p}"])],
    ignored: &[],
};

/// Names of the connector `linear`; LLaVA's second layer is the identity.
const LINEAR: Dialect = Dialect {
    name: "llava-projector",
    rules: &[Rule::same("mm_projector.{p}", &["linear_1.{p}"])],
    ignored: &["linear_2.{p}"],
};

/// Returns the tensor names of a connector below [`PROJECTOR`]; `None` unless it is one or two linear layers on each
/// patch without options, which is all that LLaVA's projector can compute.
pub fn projector_dialect(kind: &ConnectorKind) -> Option<&'static Dialect> {
    let plain = GridOptions::default();
    match kind {
        ConnectorKind::Mlp2xGelu(options) if *options == plain => Some(&MLP),
        ConnectorKind::Linear(options) if *options == plain => Some(&LINEAR),
        _ => None,
    }
}

/// Loads the connector and the language model of an exported model from its directory, and its encoders if they belong
/// to the model (`config.encoders`), whose tensors have the names of the dialect `tower`.
///
/// # Errors
/// The weights do not match the configuration, or the connector is none of LLaVA's.
pub fn load(dir: &Path, config: MllmConfig, tower: &Dialect, device: &Device) -> Result<Mllm> {
    let step = || format!("loading {}", dir.display());
    let part = |prefix: &str| Checkpoint::open(dir)?.inside(prefix);
    let load = || {
        config.check()?;
        let names = projector_dialect(&config.connector.kind).ok_or_else(|| {
            Error::failed(format!("the connector {} is not one of LLaVA's", config.connector.kind))
                .hint("export the model again")
        })?;
        let (connector, _) = checkpoint::load(config.connector.init(device)?, &part(PROJECTOR)?, names)?;
        // The tables may have one more row, for the image token.
        let vocabulary = config.llm.vocab_size;
        let mut weights = part(LLM)?.first_rows(EMBEDDING, vocabulary)?;
        if !config.llm.tie_word_embeddings {
            weights = weights.first_rows(HEAD, vocabulary)?;
        }
        let storage = WeightStorage::of_frozen(&config.llm, device);
        let (llm, _) = load_network(&config.llm, &weights, config.llm.model_type.dialect, storage, device)?;
        let mut encoders = Vec::with_capacity(config.encoders.len());
        for encoder in &config.encoders {
            let (network, _) = checkpoint::load(encoder.architecture.init(device)?, &part(TOWER)?, tower)?;
            encoders.push(network);
        }
        let mut model = Mllm::assemble(config, encoders, llm, 0, device)?;
        model.connector = connector;
        Ok(model)
    };
    load().map_err(|e: Error| e.context(step()))
}
