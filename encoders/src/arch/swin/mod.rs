//! Swin Transformer (Liu et al. 2021, arXiv:2103.14030), Swin Transformer V2 (Liu et al. 2022, arXiv:2111.09883) and
//! timm's variant `cr` of the latter: window attention with cyclic shifts, and a feature map that halves between
//! stages. Parameter paths are those of timm's `SwinTransformer` and `SwinTransformerV2`.

mod config;

pub use config::{SwinConfig, SwinVersion};

use super::block::Mlp;
use super::drop_path::DropPathMask;
use super::parts::tokens::{by_row, check_size, dropped, project_with};
use super::parts::window::{LogScale, ShiftedWindow, log_coordinates, masked, pad, relative_bias};
use super::parts::{ConvEmbed, ConvSpec, Padding};
use super::staged::StagedNetwork;
use crate::attention::attend;
use crate::operands::Activation;
use burgess_base::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, Relu};
use burn::tensor::{Device, Tensor, activation::sigmoid};
use config::StageSizes;

/// The largest logarithm of the scale of cosine attention, ln(1 / 0.01).
const LARGEST_LOG_SCALE: f64 = 4.605_170_185_988_092;

/// A Swin Transformer; see the module documentation.
#[derive(Module, Debug)]
pub struct Swin {
    /// Patch embedding with its norm.
    pub patch_embed: ConvEmbed,
    /// The stages, in order of depth.
    pub layers: Vec<Stage>,
    /// Norm over the channels of the last feature map; `v2-cr` has none.
    pub norm: Option<LayerNorm>,
    #[module(skip)]
    config: SwinConfig,
}

/// A stage: blocks at one resolution, after a merging of patches in all stages but the first.
#[derive(Module, Debug)]
pub struct Stage {
    /// Merges 2×2 patches to one; `None` in the first stage.
    pub downsample: Option<PatchMerging>,
    /// The blocks.
    pub blocks: Vec<SwinBlock>,
}

/// Merges 2×2 tokens to one of twice the channels.
#[derive(Module, Debug)]
pub struct PatchMerging {
    /// Norm before the reduction (`v1`, `v2-cr`) or after it (`v2`).
    pub norm: LayerNorm,
    /// Projection `[4 * width, 2 * width]`.
    pub reduction: Linear,
    norm_last: bool,
}

/// A block of window attention and an MLP.
#[derive(Module, Debug)]
pub struct SwinBlock {
    /// Layer norm of the attention branch, at its beginning (`v1`) or its end.
    pub norm1: LayerNorm,
    /// Window attention.
    pub attn: WindowAttention,
    /// Layer norm of the MLP branch, at its beginning (`v1`) or its end.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    /// Norm after both branches, in some blocks of `v2-cr`.
    pub norm3: Option<LayerNorm>,
    #[module(skip)]
    windows: ShiftedWindow,
    post_norm: bool,
}

/// Multi-head attention within windows, with relative position biases.
#[derive(Module, Debug)]
pub struct WindowAttention {
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Bias of the queries (`v2`), `[width]`.
    pub q_bias: Option<Param<Tensor<1>>>,
    /// Bias of the values (`v2`), `[width]`.
    pub v_bias: Option<Param<Tensor<1>>>,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    /// Relative position biases (`v1`), `[offsets, heads]`.
    pub relative_position_bias_table: Option<Param<Tensor<2>>>,
    /// Logarithm of the scale of cosine attention per head (`v2`, `v2-cr`), `[heads]`.
    pub logit_scale: Option<Param<Tensor<1>>>,
    /// MLP from coordinates to position biases (`v2`, `v2-cr`).
    pub cpb_mlp: Option<(Linear, Relu, Linear)>,
    heads: usize,
    #[module(skip)]
    window: [usize; 2],
    #[module(skip)]
    scale: Option<LogScale>,
}

impl SwinConfig {
    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Swin {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let stages = self.stages();
        let last = stages.last().map_or(self.width, |stage| stage.width);
        let embed = ConvSpec::new(3, self.width, self.patch).stride(self.patch).padding(Padding::Explicit(0));
        let v2 = self.version == SwinVersion::V2;
        let layers = stages.iter().enumerate().map(|(i, stage)| Stage {
            downsample: (i > 0).then(|| PatchMerging {
                norm: norm(if v2 { stage.width } else { 2 * stage.width }),
                reduction: LinearConfig::new(2 * stage.width, stage.width).with_bias(false).init(device),
                norm_last: v2,
            }),
            blocks: (0..stage.depth)
                .map(|block| SwinBlock {
                    norm1: norm(stage.width),
                    attn: self.attention(stage, self.windows(stage, block), device),
                    norm2: norm(stage.width),
                    mlp: Mlp::new(stage.width, stage.mlp_hidden, stage.width, Activation::Gelu, device),
                    norm3: self.extra_norm(i, block).then(|| norm(stage.width)),
                    windows: self.windows(stage, block),
                    post_norm: self.version != SwinVersion::V1,
                })
                .collect(),
        });
        Swin {
            patch_embed: ConvEmbed::new(embed, Some(self.norm_eps), device),
            layers: layers.collect(),
            norm: (self.version != SwinVersion::V2Cr).then(|| norm(last)),
            config: self.clone(),
        }
    }

    fn attention(&self, stage: &StageSizes, windows: ShiftedWindow, device: &Device) -> WindowAttention {
        let (width, heads, [rows, columns]) = (stage.width, stage.heads, windows.window);
        let scale = self.log_scale(stage, windows);
        let separate = self.version == SwinVersion::V2;
        let zeros = || Initializer::Zeros.init([width], device);
        WindowAttention {
            qkv: LinearConfig::new(width, 3 * width).with_bias(self.qkv_bias && !separate).init(device),
            q_bias: (self.qkv_bias && separate).then(zeros),
            v_bias: (self.qkv_bias && separate).then(zeros),
            proj: LinearConfig::new(width, width).init(device),
            relative_position_bias_table: scale
                .is_none()
                .then(|| Initializer::Zeros.init([(2 * rows - 1) * (2 * columns - 1), heads], device)),
            logit_scale: scale.map(|_| Initializer::Constant { value: 10f64.ln() }.init([heads], device)),
            cpb_mlp: scale.map(|_| {
                let out = LinearConfig::new(self.position_hidden, heads).with_bias(!separate);
                (LinearConfig::new(2, self.position_hidden).init(device), Relu::new(), out.init(device))
            }),
            heads,
            window: windows.window,
            scale,
        }
    }
}

impl WindowAttention {
    /// Position biases of a window, `[1, heads, tokens, tokens]`.
    fn bias(&self, device: &Device) -> Option<Tensor<4>> {
        if let Some(table) = &self.relative_position_bias_table {
            return Some(relative_bias(table.val(), self.window));
        }
        let ((first, relu, second), scale) = (self.cpb_mlp.as_ref()?, self.scale?);
        let coordinates = log_coordinates(self.window, scale, device);
        let table = second.forward(relu.forward(first.forward(coordinates)));
        let table = match scale {
            LogScale::Normalised(_) => sigmoid(table).mul_scalar(16.0),
            LogScale::Plain => table,
        };
        Some(relative_bias(table, self.window))
    }

    /// Attention of windows `[batch * windows, tokens, width]` with the mask of the shift.
    fn forward(&self, x: Tensor<3>, mask: Option<Tensor<3>>) -> Tensor<3> {
        let device = x.device();
        let [count, _, width] = x.dims();
        let bias = match (&self.q_bias, &self.v_bias) {
            (Some(q), Some(v)) => Some(Tensor::cat(vec![q.val(), Tensor::zeros([width], &device), v.val()], 0)),
            _ => self.qkv.bias.as_ref().map(Param::val),
        };
        let [q, k, v] = project_with(self.qkv.weight.val(), bias, x, self.heads);
        let (q, k) = match &self.logit_scale {
            None => (q, k),
            Some(scale) => {
                let head_dim = q.dims()[3];
                let scale = scale.val().clamp_max(LARGEST_LOG_SCALE).exp();
                // `attend` divides the scores by the root of the head's channels.
                let scale = scale.mul_scalar((head_dim as f64).sqrt()).reshape([1, self.heads, 1, 1]);
                (unit(q) * scale, unit(k))
            }
        };
        let windows = mask.as_ref().map_or(count, |mask| mask.dims()[0]);
        let bias = masked(self.bias(&device), mask, count / windows);
        by_row(attend(q, k, v, bias, None), |x| self.proj.forward(x))
    }
}

/// Divides each vector on the last axis by its length, which is at least 1e-12.
fn unit(x: Tensor<4>) -> Tensor<4> {
    // The square is clamped before the root, whose gradient at 0 is infinite.
    let length = (x.clone() * x.clone()).sum_dim(3).clamp_min(1e-24).sqrt();
    x / length
}

impl SwinBlock {
    /// Runs the block on `x`, `[batch, rows, columns, width]`; `block` is its number in the network.
    fn forward(&self, x: Tensor<4>, block: usize, drop_path: &DropPathMask) -> Tensor<4> {
        let (first, second) = (drop_path.factors(block, 0), drop_path.factors(block, 1));
        let attention = |x: Tensor<4>| self.windows.apply(x, |windows, mask| self.attn.forward(windows, mask));
        let mlp = |x: Tensor<4>| by_row(x, |x| self.mlp.forward(x));
        if !self.post_norm {
            let x = x.clone() + dropped(attention(self.norm1.forward(x)), first);
            return x.clone() + dropped(mlp(self.norm2.forward(x)), second);
        }
        let x = x.clone() + dropped(self.norm1.forward(attention(x)), first);
        let x = x.clone() + dropped(self.norm2.forward(mlp(x)), second);
        match &self.norm3 {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}

impl PatchMerging {
    /// Maps `[batch, rows, columns, width]` to half the rows and columns and twice the channels. Odd sides are padded.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, rows, columns, width] = x.dims();
        let [down, across] = [rows.div_ceil(2), columns.div_ceil(2)];
        let x: Tensor<6> = pad(x, [2 * down, 2 * across]).reshape([batch, down, 2, across, 2, width]);
        let x: Tensor<4> = x.permute([0, 1, 3, 4, 2, 5]).reshape([batch, down, across, 4 * width]);
        if self.norm_last {
            return self.norm.forward(by_row(x, |x| self.reduction.forward(x)));
        }
        by_row(self.norm.forward(x), |x| self.reduction.forward(x))
    }
}

impl Swin {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &SwinConfig {
        &self.config
    }
}

impl StagedNetwork for Swin {
    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let mut x = self.patch_embed.forward(pixels);
        let (mut block, mut outputs) = (0, Vec::new());
        for stage in self.layers.iter().take(count) {
            if let Some(merge) = &stage.downsample {
                x = merge.forward(x);
            }
            for layer in &stage.blocks {
                x = layer.forward(x, block, drop_path);
                block += 1;
            }
            outputs.push(x.clone().permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}
