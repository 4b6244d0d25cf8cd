//! The small causal text tower of the contrastive objectives, after CLIP's (Radford et al. 2021, arXiv:2103.00020,
//! section 2.4): pre-norm blocks and learned position embeddings; the output is that of the end-of-text token.

use super::{DataShape, TokenizedCaptions};
use crate::arch::{AttentionPositions, Block, blocks};
use crate::attention::causal_bias;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of the text tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// Channels of a token. Default 128.
    pub width: usize,
    /// Number of blocks. Default 2.
    pub depth: usize,
    /// Attention heads. Default 4.
    pub heads: usize,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self { width: 128, depth: 2, heads: 4 }
    }
}

impl TextConfig {
    /// Builds a tower with placeholder weights for captions of the given vocabulary and length.
    pub fn init(&self, data: &DataShape, device: &Device) -> Result<TextTower> {
        if data.vocab == 0 || data.context == 0 {
            return Err(Error::usage(format!(
                "the text tower has a vocabulary of {} and a context of {} tokens, both must be at least 1",
                data.vocab, data.context
            )));
        }
        Ok(TextTower {
            token_embedding: EmbeddingConfig::new(data.vocab, self.width).init(device),
            positional_embedding: Initializer::Zeros.init([data.context, self.width], device),
            blocks: blocks(self.width, self.depth, self.heads, device)?,
            ln_final: LayerNormConfig::new(self.width).init(device),
        })
    }
}

/// A causal text transformer.
#[derive(Module, Debug)]
pub struct TextTower {
    /// Token embeddings, `[vocabulary, width]`.
    pub token_embedding: Embedding,
    /// Position embeddings, `[context, width]`.
    pub positional_embedding: Param<Tensor<2>>,
    /// Transformer blocks with causal attention.
    pub blocks: Vec<Block>,
    /// Final layer norm.
    pub ln_final: LayerNorm,
}

impl TextTower {
    /// Returns the output at the end-of-text token of each caption, `[batch, width]`.
    pub fn forward(&self, texts: &TokenizedCaptions) -> Result<Tensor<2>> {
        let tokens = self.blocks(texts)?;
        let [batch, length, width] = tokens.dims();
        let starts = Tensor::<1, Int>::arange(0..batch as i64, &tokens.device()).mul_scalar(length as i64);
        let ends = texts.lengths.clone().clamp(1, length as i64).sub_scalar(1) + starts;
        Ok(self.ln_final.forward(tokens.reshape([batch * length, width]).select(0, ends)))
    }

    /// Returns the output at every token, `[batch, length, width]`; outputs after the end-of-text token are
    /// meaningless.
    pub fn tokens(&self, texts: &TokenizedCaptions) -> Result<Tensor<3>> {
        Ok(self.ln_final.forward(self.blocks(texts)?))
    }

    /// Returns the output of the last block, `[batch, length, width]`.
    fn blocks(&self, texts: &TokenizedCaptions) -> Result<Tensor<3>> {
        let [batch, length] = texts.ids.dims();
        let [context, width] = self.positional_embedding.val().dims();
        let [lengths] = texts.lengths.dims();
        if length == 0 || length > context || lengths != batch {
            return Err(Error::failed(format!(
                "the captions have ids of shape [{batch}, {length}] and {lengths} lengths, expected {batch} lengths \
                 and from 1 to {context} tokens"
            ))
            .hint("truncate the captions to the context length, including the end-of-text token"));
        }
        let device = texts.ids.device();
        let positions = self.positional_embedding.val().slice([0..length, 0..width]);
        let tokens = self.token_embedding.forward(texts.ids.clone()) + positions.unsqueeze();
        let places = AttentionPositions { bias: Some(causal_bias(length, &device)), ..AttentionPositions::default() };
        Ok(self.blocks.iter().fold(tokens, |x, block| block.forward(x, &places)))
    }
}
