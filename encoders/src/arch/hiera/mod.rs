//! Hiera (Ryali et al. 2023, arXiv:2306.00989) and its variant in SAM 2 (Ravi et al. 2024, arXiv:2408.00714): attention
//! within windows or over the whole feature map, in stages that pool the queries of their first block. Parameter paths
//! are those of timm's `Hiera` and `HieraDet`.
//!
//! timm's `Hiera` keeps the tokens of a window next to each other; here they stay in the order of the feature map.

mod config;

pub use config::{HieraConfig, HieraPositions};

use super::block::{LayerScale, Mlp};
use super::drop_path::DropPathMask;
use super::parts::ConvEmbed;
use super::parts::tokens::{by_row, check_size, dropped, project};
use super::parts::window::{partition, reverse};
use super::staged::StagedNetwork;
use crate::attention::attend;
use crate::features::{Kernel, resample_tokens};
use crate::operands::{Activation, Bias};
use burgess_base::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use config::BlockSizes;

/// A Hiera; see the module documentation.
#[derive(Module, Debug)]
pub struct Hiera {
    /// Patch embedding from pixels to tokens.
    pub patch_embed: ConvEmbed,
    /// Position embeddings.
    pub pos_embed: PosEmbed,
    /// Position embeddings within a window (`windows`), `[1, width, window, window]`.
    pub pos_embed_win: Option<Param<Tensor<4>>>,
    /// Position embeddings within a window (`plain-windows`), `[1, width, window, window]`.
    pub pos_embed_window: Option<Param<Tensor<4>>>,
    /// The blocks of all stages, in order.
    pub blocks: Vec<HieraBlock>,
    #[module(skip)]
    config: HieraConfig,
}

/// Position embeddings, per token or as a small map.
#[derive(Module, Debug)]
pub enum PosEmbed {
    /// One embedding per token, `[1, tokens, width]`.
    Tokens(Param<Tensor<3>>),
    /// A map that is resampled, `[1, width, rows, columns]`.
    Map(Param<Tensor<4>>),
}

/// A pre-norm block, which in the first position of a stage halves the feature map and doubles the channels.
#[derive(Module, Debug)]
pub struct HieraBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Projection of the normalised input to the shortcut, if the number of channels changes.
    pub proj: Option<Linear>,
    /// Attention.
    pub attn: Attention,
    /// Layer scale of attention.
    pub ls1: Option<LayerScale>,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    /// Layer scale of the MLP.
    pub ls2: Option<LayerScale>,
    #[module(skip)]
    sizes: BlockSizes,
}

/// Multi-head attention whose queries may be pooled.
#[derive(Module, Debug)]
pub struct Attention {
    /// Projection to queries, keys and values in this order, `[input, 3 * output]`.
    pub qkv: Linear,
    /// Output projection, `[output, output]`.
    pub proj: Linear,
}

impl HieraConfig {
    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Hiera {
        let (side, width, window) = (self.side(), self.width, self.windows.first().copied().unwrap_or(1));
        let zeros = |shape: [usize; 4]| Initializer::Zeros.init(shape, device);
        let within = |kind: HieraPositions| (self.positions == kind).then(|| zeros([1, width, window, window]));
        Hiera {
            patch_embed: ConvEmbed::new(self.embed(), None, device),
            pos_embed: match self.positions {
                HieraPositions::Absolute => PosEmbed::Tokens(Initializer::Zeros.init([1, side * side, width], device)),
                _ => PosEmbed::Map(zeros([1, width, self.position_grid, self.position_grid])),
            },
            pos_embed_win: within(HieraPositions::Windows),
            pos_embed_window: within(HieraPositions::PlainWindows),
            blocks: self.sizes().iter().flatten().map(|sizes| self.block(sizes, device)).collect(),
            config: self.clone(),
        }
    }

    fn block(&self, sizes: &BlockSizes, device: &Device) -> HieraBlock {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let (input, output) = (sizes.input, sizes.output);
        let scale = || {
            let value = self.layer_scale;
            (value != 0.0).then(|| LayerScale { gamma: Initializer::Constant { value }.init([output], device) })
        };
        HieraBlock {
            norm1: norm(input),
            proj: (input != output && self.expand_projection).then(|| LinearConfig::new(input, output).init(device)),
            attn: Attention {
                qkv: LinearConfig::new(input, 3 * output).init(device),
                proj: LinearConfig::new(output, output).init(device),
            },
            ls1: scale(),
            norm2: norm(output),
            mlp: Mlp::new(output, self.mlp_hidden(sizes), output, Activation::Gelu, device),
            ls2: scale(),
            sizes: *sizes,
        }
    }
}

/// Groups the 2×2 neighbours of a feature map `[batch, rows, columns, channels]` along two axes of length two.
fn neighbours(x: Tensor<4>) -> Tensor<6> {
    let [batch, rows, columns, channels] = x.dims();
    x.reshape([batch, rows / 2, 2, columns / 2, 2, channels])
}

/// The maximum of each 2×2 neighbours of `[batch, rows, columns, channels]`.
fn pooled(x: Tensor<4>) -> Tensor<4> {
    let [batch, rows, columns, channels] = x.dims();
    neighbours(x).max_dim(4).max_dim(2).reshape([batch, rows / 2, columns / 2, channels])
}

impl Attention {
    /// Attention of windows `[windows, side * side, input]` to `[windows, tokens, output]`.
    fn forward(&self, x: Tensor<3>, sizes: &BlockSizes, side: usize) -> Tensor<3> {
        let [q, k, v] = project(&self.qkv, x, sizes.heads);
        let q = if sizes.pools {
            let [windows, heads, _, channels] = q.dims();
            let q = pooled(q.reshape([windows * heads, side, side, channels]));
            q.reshape([windows, heads, side * side / 4, channels])
        } else {
            q
        };
        by_row(attend(q, k, v, Bias::None, None), |x| self.proj.forward(x))
    }
}

impl HieraBlock {
    /// Runs the block on `[batch, rows, columns, channels]`.
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let sizes = &self.sizes;
        let normed = self.norm1.forward(x.clone());
        let shortcut = match &self.proj {
            _ if sizes.input == sizes.output => x,
            Some(proj) => by_row(normed.clone(), |x| proj.forward(x)),
            None => {
                let [batch, rows, columns, channels] = x.dims();
                let mean = neighbours(x.clone()).mean_dim(4).mean_dim(2);
                Tensor::cat(vec![pooled(x), mean.reshape([batch, rows / 2, columns / 2, channels])], 3)
            }
        };
        let shortcut = if sizes.pools && self.proj.is_some() { pooled(shortcut) } else { shortcut };
        let side = sizes.window.unwrap_or(sizes.side);
        let mixed = self.attn.forward(partition(normed, [side; 2]), sizes, side);
        let mixed = if sizes.pools {
            reverse(mixed, [side / 2; 2], [sizes.side / 2; 2])
        } else {
            reverse(mixed, [side; 2], [sizes.side; 2])
        };
        let scaled = |x: Tensor<4>, scale: &Option<LayerScale>| match scale {
            Some(scale) => x * scale.gamma.val().unsqueeze(),
            None => x,
        };
        let x = shortcut + dropped(scaled(mixed, &self.ls1), factors[0]);
        let mlp = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        x + dropped(scaled(mlp, &self.ls2), factors[1])
    }
}

impl Hiera {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &HieraConfig {
        &self.config
    }

    /// Position embeddings of all tokens, `[1, rows, columns, width]`.
    fn positions(&self) -> Tensor<4> {
        let (side, width) = (self.config.side(), self.config.width);
        let map = match &self.pos_embed {
            PosEmbed::Tokens(tokens) => return tokens.val().reshape([1, side, side, width]),
            PosEmbed::Map(map) => map.val(),
        };
        let [_, _, rows, columns] = map.dims();
        let kernel =
            if self.config.positions == HieraPositions::Windows { Kernel::AntialiasedBicubic } else { Kernel::Bicubic };
        let tokens = map.permute([0, 2, 3, 1]).reshape([1, rows * columns, width]);
        let tokens = resample_tokens(tokens, [rows, columns], [side; 2], kernel, 0.0);
        let tokens = tokens.reshape([1, side, side, width]);
        match self.pos_embed_win.as_ref().or(self.pos_embed_window.as_ref()) {
            Some(window) => {
                let window = window.val().permute([0, 2, 3, 1]);
                let [_, rows, columns, _] = window.dims();
                tokens + window.repeat(&[1, side / rows, side / columns, 1])
            }
            None => tokens,
        }
    }
}

impl StagedNetwork for Hiera {
    fn depth(&self) -> usize {
        self.config.depths.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let mut x = self.patch_embed.forward(pixels) + self.positions();
        let (mut blocks, mut outputs) = (self.blocks.iter().enumerate(), Vec::new());
        for depth in self.config.depths.iter().take(count) {
            for (i, block) in blocks.by_ref().take(*depth) {
                x = block.forward(x, [drop_path.factors(i, 0), drop_path.factors(i, 1)]);
            }
            outputs.push(x.clone().permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }
}
