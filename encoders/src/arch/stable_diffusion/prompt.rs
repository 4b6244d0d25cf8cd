//! CLIP's text encoder (Radford et al. 2021; `CLIPTextModel`), which encodes one prompt for all images.

use super::config::PromptConfig;
use crate::arch::block::{AttentionPositions, Block, BlockConfig};
use crate::attention::causal_bias;
use burgess_base::{Error, Result};
use burn::module::{
    Content, Devices, Initializer, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::sync::OnceLock;

/// The text encoder. As in Cambrian-1, the encoded prompt is a constant through which no gradient flows.
#[derive(Module, Debug)]
pub struct PromptEncoder {
    /// Token embeddings, `[vocabulary, width]`.
    pub token_embed: Param<Tensor<2>>,
    /// Position embeddings, `[positions, width]`.
    pub pos_embed: Param<Tensor<2>>,
    /// The transformer blocks, in order.
    pub blocks: Vec<Block>,
    /// Layer norm after the last block.
    pub norm: LayerNorm,
    /// Cached output.
    cached: Memo,
    #[module(skip)]
    config: PromptConfig,
}

impl PromptConfig {
    /// Builds an encoder with placeholder weights; the configuration must be valid.
    pub(super) fn init(&self, device: &Device) -> PromptEncoder {
        let block = BlockConfig {
            mlp_hidden: self.mlp_hidden,
            activation: self.activation,
            norm_eps: self.norm_eps,
            ..BlockConfig::plain(self.width, self.heads)
        };
        PromptEncoder {
            token_embed: Initializer::Zeros.init([self.vocabulary, self.width], device),
            pos_embed: Initializer::Zeros.init([self.positions, self.width], device),
            blocks: (0..self.depth).map(|_| block.init(device)).collect(),
            norm: LayerNormConfig::new(self.width).with_epsilon(self.norm_eps).init(device),
            cached: Memo::default(),
            config: self.clone(),
        }
    }
}

impl PromptEncoder {
    /// The last hidden state of the padded prompt, `[positions, width]`, on `device`. It is computed at the first call
    /// and cached until the weights change. Padding is not masked, only the causal mask is applied.
    pub(super) fn encoded_prompt(&self, device: &Device) -> Result<Tensor<2>> {
        let data = match self.cached.0.get() {
            Some(data) => data.clone(),
            None => {
                let data = self
                    .run()
                    .try_into_data()
                    .map_err(|e| Error::failed(e.to_string()).context("copying the encoded prompt to the host"))?;
                self.cached.0.get_or_init(|| data).clone()
            }
        };
        Ok(Tensor::from_data(data, device))
    }

    fn run(&self) -> Tensor<2> {
        let (length, width) = (self.config.positions, self.config.width);
        let padding = std::iter::repeat(self.config.pad);
        let ids: Vec<i64> =
            self.config.prompt.iter().copied().chain(padding).take(length).map(|id| id as i64).collect();
        let table = self.token_embed.val();
        let device = table.device();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [length]), &device);
        let tokens = (table.select(0, ids) + self.pos_embed.val()).unsqueeze::<3>();
        let positions =
            AttentionPositions { bias: Some(causal_bias(length, &device)), ..AttentionPositions::default() };
        let tokens = self.blocks.iter().fold(tokens, |x, block| block.forward(x, &positions));
        self.norm.forward(tokens.reshape([length, width]))
    }
}

/// A cached network output. Mapping the module that holds it clears the cache, because weights change by mapping
/// (loading, initialising, an optimiser step); so the output never belongs to other weights.
#[derive(Debug, Clone, Default)]
struct Memo(OnceLock<TensorData>);

impl Module for Memo {
    fn visit<V: ModuleVisitor>(&self, _visitor: &mut V) {}

    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        Self::default()
    }

    fn to_device(self, _device: &Device) -> Self {
        self
    }

    fn fork(self, _device: &Device) -> Self {
        self
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }

    fn materialize(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn train(self) -> Self {
        self
    }
}

impl ModuleDisplayDefault for Memo {
    fn content(&self, content: Content) -> Option<Content> {
        content.optional()
    }
}

impl ModuleDisplay for Memo {}
