//! GC ViT (Hatamizadeh et al. 2022, arXiv:2206.09959): attention within windows, whose queries come in every second
//! block from the whole image. Parameter paths are those of timm's `GlobalContextVit`.

use super::block::{LayerScale, Mlp};
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{check_multiple, check_sizes, check_stages, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped, project};
use super::parts::window::{partition, relative_bias, reverse};
use super::parts::{ActivationKind, Conv, ConvSpec, LayerNorm2d, SqueezeExcite, divisible_within, max_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::attention::attend;
use crate::operands::{Activation, Bias, gelu};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a GC ViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GcvitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of the first stage; every later stage has twice as many.
    pub width: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Number of attention heads per stage.
    pub heads: Vec<usize>,
    /// Side of the windows per stage, in tokens.
    pub windows: Vec<usize>,
    /// Hidden channels of the MLPs per channel. Default 3.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether the projections to queries, keys and values have a bias. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Initial value of the layer scale; 0 for none. Default 0.
    #[serde(default)]
    pub layer_scale: f64,
    /// Epsilon added to the variance in every norm. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_ratio() -> f64 {
    3.0
}

fn default_eps() -> f64 {
    1e-5
}

/// Sizes of one stage.
#[derive(Debug, Clone, Copy)]
struct StageSizes {
    width: usize,
    depth: usize,
    heads: usize,
    window: usize,
    side: usize,
    /// How often the map of global queries is halved.
    levels: usize,
}

/// Channels of squeeze-and-excitation: a quarter, rounded to a multiple of 8.
fn squeezed(width: usize) -> usize {
    divisible_within(width as f64 / 4.0, 8, 0.0)
}

impl GcvitConfig {
    fn stages(&self) -> Vec<StageSizes> {
        let each = self.depths.iter().zip(&self.heads).zip(&self.windows).enumerate();
        each.map(|(stage, ((depth, heads), window))| {
            let side = (self.image_size / 4) >> stage;
            let levels = side.checked_div(*window).unwrap_or(0).checked_ilog2().unwrap_or(0) as usize;
            StageSizes { width: self.width << stage, depth: *depth, heads: *heads, window: *window, side, levels }
        })
        .collect()
    }

    fn mbconv(width: usize, device: &Device) -> MbConv {
        let (hidden, gelu) = (squeezed(width), ActivationKind::Gelu);
        let mut se = SqueezeExcite::new(width, hidden, gelu, ActivationKind::Sigmoid, device);
        se.fc1 = ConvSpec::new(width, hidden, 1).bias(false).init(device);
        se.fc2 = ConvSpec::new(hidden, width, 1).bias(false).init(device);
        MbConv {
            conv_dw: ConvSpec::depthwise(width, 3).bias(false).init(device),
            se,
            conv_pw: ConvSpec::new(width, width, 1).bias(false).init(device),
        }
    }

    fn downsample(&self, from: usize, to: usize, device: &Device) -> Downsample {
        Downsample {
            norm1: LayerNorm2d::new(from, self.norm_eps, device),
            conv_block: Self::mbconv(from, device),
            reduction: ConvSpec::new(from, to, 3).stride(2).bias(false).init(device),
            norm2: LayerNorm2d::new(to, self.norm_eps, device),
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Gcvit {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let sizes = self.stages();
        let stages = sizes.iter().enumerate().map(|(stage, sizes)| {
            let width = sizes.width;
            let block = |from: usize| (from < sizes.levels.max(1)).then(|| Self::mbconv(width, device));
            Stage {
                downsample: (stage > 0).then(|| self.downsample(width / 2, width, device)),
                global_block: FeatureBlock {
                    blocks: FeatureLayers { conv1: block(0), conv2: block(1), conv3: block(2), conv4: block(3) },
                    pools: sizes.levels,
                },
                blocks: (0..sizes.depth).map(|i| self.block(sizes, i % 2 == 1, device)).collect(),
                norm: (stage + 1 == self.depths.len()).then(|| norm(width)),
            }
        });
        Gcvit {
            stem: Stem {
                conv1: ConvSpec::new(3, self.width, 3).stride(2).init(device),
                down: self.downsample(self.width, self.width, device),
            },
            stages: stages.collect(),
            config: self.clone(),
        }
    }

    fn block(&self, sizes: &StageSizes, global: bool, device: &Device) -> GcBlock {
        let norm = || LayerNormConfig::new(sizes.width).with_epsilon(self.norm_eps).init(device);
        let scale = || {
            let value = self.layer_scale;
            (value != 0.0).then(|| LayerScale { gamma: Initializer::Constant { value }.init([sizes.width], device) })
        };
        let (width, offsets) = (sizes.width, (2 * sizes.window - 1).pow(2));
        let parts = if global { 2 } else { 3 };
        GcBlock {
            norm1: norm(),
            attn: GlobalWindowAttention {
                rel_pos: BiasTable {
                    relative_position_bias_table: Initializer::Zeros.init([offsets, sizes.heads], device),
                },
                qkv: LinearConfig::new(width, parts * width).with_bias(self.qkv_bias).init(device),
                proj: LinearConfig::new(width, width).init(device),
                heads: sizes.heads,
                window: sizes.window,
                global,
            },
            ls1: scale(),
            norm2: norm(),
            mlp: Mlp::new(width, times(width, self.mlp_ratio), width, Activation::Gelu, device),
            ls2: scale(),
        }
    }
}

/// Multiply-add operations of an inverted bottleneck on a map of `side`.
fn mbconv_multiply_adds(width: usize, side: usize) -> u64 {
    (side * side * width * (9 + width) + 2 * width * squeezed(width)) as u64
}

impl StagedConfig for GcvitConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a GC ViT";
        check_sizes(WHAT, &[("image_size", self.image_size), ("width", self.width)])?;
        check_stages(WHAT, &[("depths", &self.depths), ("heads", &self.heads), ("windows", &self.windows)])?;
        check_multiple(WHAT, self.image_size, 2 << self.depths.len())?;
        for sizes in self.stages() {
            let StageSizes { width, heads, window, side, levels, .. } = sizes;
            // The map of global queries is halved, rounding up, until it is a window.
            let queries = (0..levels).fold(side, |side, _| side.div_ceil(2));
            if !width.is_multiple_of(heads) || !side.is_multiple_of(window) || queries != window || levels > 4 {
                return Err(Error::usage(format!(
                    "{WHAT} with {width} channels, {heads} heads and windows of {window} on a map of side {side}"
                ))
                .hint("heads must divide the channels, and the map must be 1, 2, 4, 8 or 16 windows wide"));
            }
        }
        if !is_ratio(self.mlp_ratio) {
            return Err(Error::usage(format!("{WHAT} with mlp_ratio = {}", self.mlp_ratio)));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let each = self.stages().into_iter().enumerate();
        each.map(|(stage, sizes)| {
            let StageSizes { width, depth, window, side, levels, .. } = sizes;
            let (tokens, hidden) = (side * side, times(width, self.mlp_ratio));
            let halve = |from: usize| {
                let conv = ConvSpec::new(from, width, 3).stride(2).multiply_adds(2 * side);
                mbconv_multiply_adds(from, 2 * side) + conv
            };
            let entry = match stage {
                0 => ConvSpec::new(3, width, 3).stride(2).multiply_adds(self.image_size) + halve(width),
                _ => halve(width / 2),
            };
            let queries: u64 = (0..levels.max(1)).map(|level| mbconv_multiply_adds(width, side >> level)).sum();
            let block = |i: usize| {
                let projections = if i % 2 == 1 { 3 } else { 4 };
                tokens * width * (projections * width + 2 * window * window + 2 * hidden)
            };
            let blocks = (0..depth).map(block).sum::<usize>() as u64;
            LayerShape { width, side, multiply_adds: entry + queries + blocks }
        })
        .collect()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl TimmModel for GcvitConfig {
    const CLASSES: &'static [&'static str] = &["GlobalContextVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        arguments.only(&[
            ("act_layer", "\"gelu\""),
            ("norm_layer", "\"layernorm2d\""),
            ("norm_layer_cl", "\"layernorm\""),
        ])?;
        let ratios = arguments.numbers("window_ratio")?.unwrap_or_else(|| vec![32, 32, 16, 32]);
        let windows = arguments.numbers("window_size")?;
        let windows =
            windows.unwrap_or_else(|| ratios.iter().map(|ratio| image_size.checked_div(*ratio).unwrap_or(0)).collect());
        Ok(TimmNetwork::new(Self {
            image_size,
            width: arguments.number("embed_dim", 64)?,
            depths: arguments.numbers("depths")?.unwrap_or_else(|| vec![3, 4, 19, 5]),
            heads: arguments.numbers("num_heads")?.unwrap_or_else(|| vec![2, 4, 8, 16]),
            windows,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(3.0),
            qkv_bias: arguments.flag("qkv_bias", true)?,
            layer_scale: arguments.real("layer_scale")?.unwrap_or(0.0),
            norm_eps: arguments.real("norm_eps")?.unwrap_or(1e-5),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

/// A GC ViT; see the module documentation.
#[derive(Module, Debug)]
pub struct Gcvit {
    /// Convolutions from pixels to a quarter of their resolution.
    pub stem: Stem,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    #[module(skip)]
    config: GcvitConfig,
}

/// The stem.
#[derive(Module, Debug)]
pub struct Stem {
    /// Convolution of stride 2.
    pub conv1: Conv,
    /// Halves the feature map once more.
    pub down: Downsample,
}

/// Halves a feature map.
#[derive(Module, Debug)]
pub struct Downsample {
    /// Norm of the input.
    pub norm1: LayerNorm2d,
    /// Inverted bottleneck.
    pub conv_block: MbConv,
    /// Convolution of stride 2.
    pub reduction: Conv,
    /// Norm of the output.
    pub norm2: LayerNorm2d,
}

/// A depthwise convolution, squeeze-and-excitation and a 1×1 convolution, with a shortcut around them.
#[derive(Module, Debug)]
pub struct MbConv {
    /// Depthwise 3×3 convolution.
    pub conv_dw: Conv,
    /// Squeeze-and-excitation.
    pub se: SqueezeExcite,
    /// 1×1 convolution.
    pub conv_pw: Conv,
}

/// A stage of blocks at one resolution.
#[derive(Module, Debug)]
pub struct Stage {
    /// Halves the feature map; `None` in the first stage.
    pub downsample: Option<Downsample>,
    /// Layers from the feature map to global queries.
    pub global_block: FeatureBlock,
    /// The blocks.
    pub blocks: Vec<GcBlock>,
    /// Norm of the last stage's output.
    pub norm: Option<LayerNorm>,
}

/// Inverted bottlenecks with pooling between them.
#[derive(Module, Debug)]
pub struct FeatureBlock {
    /// The bottlenecks.
    pub blocks: FeatureLayers,
    pools: usize,
}

/// Up to four inverted bottlenecks.
#[derive(Module, Debug)]
pub struct FeatureLayers {
    /// The first.
    pub conv1: Option<MbConv>,
    /// The second.
    pub conv2: Option<MbConv>,
    /// The third.
    pub conv3: Option<MbConv>,
    /// The fourth.
    pub conv4: Option<MbConv>,
}

/// A pre-norm block of window attention and an MLP.
#[derive(Module, Debug)]
pub struct GcBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: GlobalWindowAttention,
    /// Layer scale of attention.
    pub ls1: Option<LayerScale>,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    /// Layer scale of the MLP.
    pub ls2: Option<LayerScale>,
}

/// Attention within windows with queries of their own or of the whole image.
#[derive(Module, Debug)]
pub struct GlobalWindowAttention {
    /// Relative position biases.
    pub rel_pos: BiasTable,
    /// Projection to queries (not with global ones), keys and values, in this order.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
    window: usize,
    global: bool,
}

/// Relative position biases per offset of the query from the key.
#[derive(Module, Debug)]
pub struct BiasTable {
    /// The biases, `[offsets, heads]`.
    pub relative_position_bias_table: Param<Tensor<2>>,
}

impl MbConv {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = self.se.forward(gelu(self.conv_dw.forward(x.clone())));
        x + self.conv_pw.forward(hidden)
    }
}

impl Downsample {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv_block.forward(self.norm1.forward(x));
        self.norm2.forward(self.reduction.forward(x))
    }
}

impl FeatureBlock {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let FeatureLayers { conv1, conv2, conv3, conv4 } = &self.blocks;
        let layers = [conv1, conv2, conv3, conv4].into_iter().flatten();
        layers.enumerate().fold(x, |x, (i, layer)| {
            let x = layer.forward(x);
            if i < self.pools { max_pool(x, 3, 2, 1, false) } else { x }
        })
    }
}

impl GlobalWindowAttention {
    /// Attention of `[batch, rows, columns, width]` with global queries `[batch, window, window, width]`.
    fn forward(&self, x: Tensor<4>, queries: &Tensor<4>) -> Tensor<4> {
        let ([batch, rows, columns, width], window) = (x.dims(), [self.window; 2]);
        let windows = partition(x, window);
        let [count, tokens, _] = windows.dims();
        let (q, k, v) = if self.global {
            let [k, v] = project(&self.qkv, windows, self.heads);
            // All windows of an image have the same queries. (timm mixes up the images of a batch here.)
            let shape = [batch, tokens, self.heads, width / self.heads];
            let q: Tensor<5> = queries.clone().reshape(shape).swap_dims(1, 2).unsqueeze_dim(1);
            let q = q.repeat_dim(1, count / batch);
            (q.reshape([count, self.heads, tokens, width / self.heads]), k, v)
        } else {
            let [q, k, v] = project(&self.qkv, windows, self.heads);
            (q, k, v)
        };
        let bias = Bias::Full(relative_bias(self.rel_pos.relative_position_bias_table.val(), window));
        let mixed = by_row(attend(q, k, v, bias, None), |x| self.proj.forward(x));
        reverse(mixed, window, [rows, columns])
    }
}

impl GcBlock {
    /// Runs the block on `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>, queries: &Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let scaled = |x: Tensor<4>, scale: &Option<LayerScale>| match scale {
            Some(scale) => x * scale.gamma.val().unsqueeze(),
            None => x,
        };
        let branch = self.attn.forward(self.norm1.forward(x.clone()), queries);
        let x = x + dropped(scaled(branch, &self.ls1), factors[0]);
        let mlp = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        x + dropped(scaled(mlp, &self.ls2), factors[1])
    }
}

impl Gcvit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &GcvitConfig {
        &self.config
    }
}

impl StagedNetwork for Gcvit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let mut x = self.stem.down.forward(self.stem.conv1.forward(pixels));
        let (mut block, mut outputs) = (0, Vec::new());
        for stage in self.stages.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.forward(x);
            }
            let queries = stage.global_block.forward(x.clone()).permute([0, 2, 3, 1]);
            x = x.permute([0, 2, 3, 1]);
            for layer in &stage.blocks {
                x = layer.forward(x, &queries, [drop_path.factors(block, 0), drop_path.factors(block, 1)]);
                block += 1;
            }
            if let Some(norm) = &stage.norm {
                x = norm.forward(x);
            }
            x = x.permute([0, 3, 1, 2]);
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}
