//! CoaT and CoaT-Lite (Xu et al. 2021, arXiv:2104.06399): four stages of attention whose cost is linear in the tokens,
//! with convolutional position encodings; in CoaT, blocks follow that exchange the features of the last three stages.
//! Parameter paths are those of timm's `CoaT`.
//!
//! The layers of a tap are the stages; in CoaT then the second and third stage after the parallel blocks and their
//! norms, and last the fourth stage after the parallel blocks. The norm of the fourth stage is the final norm.

mod config;

pub use config::CoatConfig;

use super::block::Mlp;
use super::drop_path::DropPathMask;
use super::parts::tokens::{by_row, project};
use super::parts::{Conv, ConvEmbed, to_map, to_tokens};
use super::staged::StagedNetwork;
use crate::features::FeatureMap;
use burgess_base::{Error, Result};
use burn::module::{Module, Param};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

/// A CoaT or CoaT-Lite; see the module documentation.
#[derive(Module, Debug)]
pub struct Coat {
    /// Patch embedding of the first stage.
    pub patch_embed1: ConvEmbed,
    /// Patch embedding of the second stage.
    pub patch_embed2: ConvEmbed,
    /// Patch embedding of the third stage.
    pub patch_embed3: ConvEmbed,
    /// Patch embedding of the fourth stage.
    pub patch_embed4: ConvEmbed,
    /// Class token of the first stage, `[1, 1, width]`.
    pub cls_token1: Param<Tensor<3>>,
    /// Class token of the second stage.
    pub cls_token2: Param<Tensor<3>>,
    /// Class token of the third stage.
    pub cls_token3: Param<Tensor<3>>,
    /// Class token of the fourth stage.
    pub cls_token4: Param<Tensor<3>>,
    /// Position encoding of the first stage, shared by its blocks.
    pub cpe1: PositionEncoding,
    /// Position encoding of the second stage.
    pub cpe2: PositionEncoding,
    /// Position encoding of the third stage.
    pub cpe3: PositionEncoding,
    /// Position encoding of the fourth stage.
    pub cpe4: PositionEncoding,
    /// Relative position encoding of the first stage, shared by its blocks.
    pub crpe1: RelativeEncoding,
    /// Relative position encoding of the second stage.
    pub crpe2: RelativeEncoding,
    /// Relative position encoding of the third stage.
    pub crpe3: RelativeEncoding,
    /// Relative position encoding of the fourth stage.
    pub crpe4: RelativeEncoding,
    /// Blocks of the first stage.
    pub serial_blocks1: Vec<SerialBlock>,
    /// Blocks of the second stage.
    pub serial_blocks2: Vec<SerialBlock>,
    /// Blocks of the third stage.
    pub serial_blocks3: Vec<SerialBlock>,
    /// Blocks of the fourth stage.
    pub serial_blocks4: Vec<SerialBlock>,
    /// Blocks that exchange the features of the last three stages; none in CoaT-Lite.
    pub parallel_blocks: Vec<ParallelBlock>,
    /// Norm of the second stage after the parallel blocks.
    pub norm2: Option<LayerNorm>,
    /// Norm of the third stage after the parallel blocks.
    pub norm3: Option<LayerNorm>,
    /// Norm of the fourth stage.
    pub norm4: LayerNorm,
    #[module(skip)]
    config: CoatConfig,
}

/// Position encoding: a depthwise 3×3 convolution added to its input.
#[derive(Module, Debug)]
pub struct PositionEncoding {
    /// The convolution.
    pub proj: Conv,
}

/// Relative position encoding: depthwise convolutions of the values, with a kernel of its own for each group of heads.
#[derive(Module, Debug)]
pub struct RelativeEncoding {
    /// The convolutions, in the order of the heads.
    pub conv_list: Vec<Conv>,
}

/// A block of a stage.
#[derive(Module, Debug)]
pub struct SerialBlock {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Factorised attention.
    pub factoratt_crpe: FactorAttention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: Mlp,
}

/// A block over the second, third and fourth stage, with one MLP for all.
#[derive(Module, Debug)]
pub struct ParallelBlock {
    /// Norm of the second stage before attention.
    pub norm12: LayerNorm,
    /// Norm of the third stage before attention.
    pub norm13: LayerNorm,
    /// Norm of the fourth stage before attention.
    pub norm14: LayerNorm,
    /// Attention of the second stage.
    pub factoratt_crpe2: FactorAttention,
    /// Attention of the third stage.
    pub factoratt_crpe3: FactorAttention,
    /// Attention of the fourth stage.
    pub factoratt_crpe4: FactorAttention,
    /// Norm of the second stage before the MLP.
    pub norm22: LayerNorm,
    /// Norm of the third stage before the MLP.
    pub norm23: LayerNorm,
    /// Norm of the fourth stage before the MLP.
    pub norm24: LayerNorm,
    /// The MLP.
    pub mlp2: Mlp,
}

/// Attention that first mixes values by the softmax of the keys over all tokens, and then reads the mixture with the
/// queries.
#[derive(Module, Debug)]
pub struct FactorAttention {
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

/// A class token, then patches: `[batch, 1 + rows * columns, width]`, and their grid.
type Stage = FeatureMap;

/// Splits the class token from the patches.
fn split(x: &Stage) -> (Tensor<3>, Tensor<3>) {
    let patches = x.tokens.dims()[1] - 1;
    (x.tokens.clone().narrow(1, 0, 1), x.tokens.clone().narrow(1, 1, patches))
}

fn add(x: Stage, branch: Tensor<3>) -> Stage {
    Stage { tokens: x.tokens + branch, grid: x.grid }
}

impl PositionEncoding {
    fn forward(&self, x: Stage) -> Stage {
        let (class, patches) = split(&x);
        let map = to_map(patches, x.grid);
        let patches = to_tokens(self.proj.forward(map.clone()) + map);
        Stage { tokens: Tensor::cat(vec![class, patches], 1), grid: x.grid }
    }
}

impl RelativeEncoding {
    /// Encodes values `[batch, heads, 1 + patches, channels]`: the convolved patches,
    /// `[batch, heads, patches, channels]`.
    fn forward(&self, v: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<4> {
        let [batch, heads, tokens, channels] = v.dims();
        let map = v.narrow(2, 1, tokens - 1).swap_dims(2, 3).reshape([batch, heads * channels, rows, columns]);
        let mut from = 0;
        let parts = self.conv_list.iter().map(|conv| {
            let count = conv.spec().to;
            from += count;
            conv.forward(map.clone().narrow(1, from - count, count))
        });
        Tensor::cat(parts.collect(), 1).reshape([batch, heads, channels, tokens - 1]).swap_dims(2, 3)
    }
}

impl FactorAttention {
    /// Runs attention on a class token and patches, `[batch, 1 + patches, width]`.
    fn forward(&self, x: Tensor<3>, encoding: &RelativeEncoding, grid: [usize; 2]) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let [q, k, v] = project::<3>(&self.qkv, x, self.heads);
        let head_dim = width / self.heads;
        let mixture = softmax(k, 2).swap_dims(2, 3).matmul(v.clone());
        let read = q.clone().matmul(mixture).mul_scalar((head_dim as f64).powf(-0.5));
        let relative = q.narrow(2, 1, tokens - 1) * encoding.forward(v, grid);
        // The class token has no position.
        let relative = Tensor::cat(vec![read.clone().narrow(2, 0, 1).zeros_like(), relative], 2);
        let mixed = (read + relative).swap_dims(1, 2).reshape([batch, tokens, width]);
        by_row(mixed, |x| self.proj.forward(x))
    }
}

impl SerialBlock {
    fn forward(&self, x: Stage, positions: &PositionEncoding, relative: &RelativeEncoding) -> Stage {
        let x = positions.forward(x);
        let branch = self.factoratt_crpe.forward(self.norm1.forward(x.tokens.clone()), relative, x.grid);
        let x = add(x, branch);
        let branch = by_row(self.norm2.forward(x.tokens.clone()), |x| self.mlp.forward(x));
        add(x, branch)
    }
}

impl ParallelBlock {
    /// Runs the block on the second, third and fourth stage.
    fn forward(&self, stages: [Stage; 3], relative: [&RelativeEncoding; 3]) -> Result<[Stage; 3]> {
        let norms = [&self.norm12, &self.norm13, &self.norm14];
        let attentions = [&self.factoratt_crpe2, &self.factoratt_crpe3, &self.factoratt_crpe4];
        let mut attended = Vec::with_capacity(3);
        for (((x, norm), attention), relative) in stages.iter().zip(norms).zip(attentions).zip(relative) {
            let tokens = attention.forward(norm.forward(x.tokens.clone()), relative, x.grid);
            attended.push(Stage { tokens, grid: x.grid });
        }
        let norms = [&self.norm22, &self.norm23, &self.norm24];
        let mut outputs = Vec::with_capacity(3);
        for (x, norm) in stages.into_iter().zip(norms) {
            let mut sum = x.tokens;
            for other in &attended {
                sum = sum + other.clone().resample(x.grid)?.tokens;
            }
            let branch = by_row(norm.forward(sum.clone()), |x| self.mlp2.forward(x));
            outputs.push(Stage { tokens: sum + branch, grid: x.grid });
        }
        <[Stage; 3]>::try_from(outputs).map_err(|_| Error::failed("a parallel block has three stages"))
    }
}

impl Coat {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &CoatConfig {
        &self.config
    }

    /// Runs the serial blocks of `stage` on a feature map, `[batch, channels, rows, columns]`.
    fn serial(&self, stage: usize, map: Tensor<4>) -> Stage {
        let (embed, class, positions, relative, blocks) = match stage {
            0 => (&self.patch_embed1, &self.cls_token1, &self.cpe1, &self.crpe1, &self.serial_blocks1),
            1 => (&self.patch_embed2, &self.cls_token2, &self.cpe2, &self.crpe2, &self.serial_blocks2),
            2 => (&self.patch_embed3, &self.cls_token3, &self.cpe3, &self.crpe3, &self.serial_blocks3),
            _ => (&self.patch_embed4, &self.cls_token4, &self.cpe4, &self.crpe4, &self.serial_blocks4),
        };
        let x = embed.forward(map);
        let [batch, rows, columns, width] = x.dims();
        let class = class.val().expand([batch, 1, width]);
        let tokens = Tensor::cat(vec![class, x.reshape([batch, rows * columns, width])], 1);
        let x = Stage { tokens, grid: [rows, columns] };
        blocks.iter().fold(x, |x, block| block.forward(x, positions, relative))
    }
}

/// The patches as a feature map, `[batch, channels, rows, columns]`.
fn map(x: &Stage) -> Tensor<4> {
    to_map(split(x).1, x.grid)
}

impl StagedNetwork for Coat {
    fn depth(&self) -> usize {
        if self.parallel_blocks.is_empty() { 4 } else { 7 }
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let (mut x, mut stages, mut outputs) = (pixels, Vec::new(), Vec::with_capacity(count));
        for stage in 0..count.min(4) {
            let found = self.serial(stage, x);
            x = map(&found);
            outputs.push(x.clone());
            stages.push(found);
        }
        if count > 4
            && let Ok([_, second, third, fourth]) = <[Stage; 4]>::try_from(stages)
        {
            let mut last = [second, third, fourth];
            for block in &self.parallel_blocks {
                let [second, third, fourth] = last;
                let placed = [self.cpe2.forward(second), self.cpe3.forward(third), self.cpe4.forward(fourth)];
                last = block.forward(placed, [&self.crpe2, &self.crpe3, &self.crpe4])?;
            }
            for (x, norm) in last.into_iter().zip([&self.norm2, &self.norm3, &None]) {
                let tokens = match norm {
                    Some(norm) => norm.forward(x.tokens),
                    None => x.tokens,
                };
                outputs.push(map(&Stage { tokens, grid: x.grid }));
            }
        }
        outputs.truncate(count);
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm4.forward(tokens)
    }
}
