//! The small causal text tower that the contrastive objectives share, after CLIP's (Radford et al. 2021,
//! arXiv:2103.00020, section 2.4): pre-norm blocks, learned positions, read at the end-of-text token.

use super::{DataShape, Texts};
use crate::arch::{AttentionPositions, Block, blocks};
use crate::attention::causal_bias;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

/// The numbers of the text tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// A tower with placeholder weights for captions of the given vocabulary and length.
    pub fn init(&self, data: &DataShape, device: &Device) -> Result<TextTower> {
        if data.vocab == 0 || data.context == 0 {
            return Err(Error::usage("a text tower needs a vocabulary and a caption length above zero"));
        }
        Ok(TextTower {
            token_embedding: EmbeddingConfig::new(data.vocab, self.width).init(device),
            positional_embedding: Initializer::Zeros.init([data.context, self.width], device),
            blocks: blocks(self.width, self.depth, self.heads, device)?,
            ln_final: LayerNormConfig::new(self.width).init(device),
        })
    }
}

/// The text tower.
#[derive(Module, Debug)]
pub struct TextTower {
    /// `[vocabulary, width]`.
    pub token_embedding: Embedding,
    /// `[context, width]`.
    pub positional_embedding: Param<Tensor<2>>,
    /// The transformer.
    pub blocks: Vec<Block>,
    /// Over the token that is read.
    pub ln_final: LayerNorm,
}

impl TextTower {
    /// One vector per text, `[batch, width]`.
    pub fn forward(&self, texts: &Texts) -> Result<Tensor<2>> {
        let tokens = self.blocks(texts)?;
        let [batch, length, width] = tokens.dims();
        let starts = Tensor::<1, Int>::arange(0..batch as i64, &tokens.device()).mul_scalar(length as i64);
        let ends = texts.lengths.clone().clamp(1, length as i64).sub_scalar(1) + starts;
        Ok(self.ln_final.forward(tokens.reshape([batch * length, width]).select(0, ends)))
    }

    /// One vector per token, `[batch, length, width]`; those behind the end of a text mean nothing.
    pub fn tokens(&self, texts: &Texts) -> Result<Tensor<3>> {
        Ok(self.ln_final.forward(self.blocks(texts)?))
    }

    /// What the blocks make of the texts, `[batch, length, width]`.
    fn blocks(&self, texts: &Texts) -> Result<Tensor<3>> {
        let [batch, length] = texts.ids.dims();
        let [context, width] = self.positional_embedding.val().dims();
        let [lengths] = texts.lengths.dims();
        if length == 0 || length > context || lengths != batch {
            return Err(Error::failed(format!(
                "{batch} captions of {length} tokens with {lengths} lengths do not fit a text tower of {context} tokens"
            ))
            .hint("cut the captions to the context length, end-of-text token included"));
        }
        let device = texts.ids.device();
        let positions = self.positional_embedding.val().slice([0..length, 0..width]);
        let tokens = self.token_embedding.forward(texts.ids.clone()) + positions.unsqueeze();
        let places = AttentionPositions { bias: Some(causal_bias(length, &device)), ..AttentionPositions::default() };
        Ok(self.blocks.iter().fold(tokens, |x, block| block.forward(x, &places)))
    }
}
