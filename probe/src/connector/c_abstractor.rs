//! Honeybee's C-Abstractor (arXiv 2312.06742): RegNet residual blocks with squeeze-and-excitation on the feature
//! grid, adaptive average pooling to a smaller grid, the same blocks again, and an MLP.
//!
//! Honeybee's checkpoints name the parameters by an `nn.Sequential` of timm's `RegStage`s:
//! `net.0.b1.conv1.conv.weight`, …, `net.2.b3.…`, `readout.0.weight`; `pos_emb` is the position embedding. This
//! module names block `b1` of a stage `1`. Norms are layer norms over the channels. (The class of this name in
//! Cambrian-1's repository has only a convolution with stride 2.)

use super::definition::{ConnectorModule, ConnectorProperties, ConnectorShape};
use super::image_tokens::ImageTokens;
use super::limits::{DEPTH, GRID, WIDTH, at_most};
use super::token_layout::{ImageSize, TokenLayout};
use super::{EncoderShape, joined};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{Dialect, Rule};
use burgess_encoders::features::FeatureMap;
use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{sigmoid, silu};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Options of the C-Abstractor. The defaults are those of Honeybee-7B.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CAbstractorOptions {
    /// Number of channels of the convolutions. Default 1024.
    pub hidden: usize,
    /// Number of residual blocks before the pooling, and as many after it. Default 3.
    pub depth: usize,
    /// Number of linear layers after the convolutions. Default 2.
    pub mlp_depth: usize,
    /// Side of the grid after pooling, in tokens; the image has `grid²` tokens. Default 12.
    pub grid: usize,
    /// Whether a learnable position embedding is added to the features. Default true.
    pub positions: bool,
}

impl Default for CAbstractorOptions {
    fn default() -> Self {
        Self { hidden: 1024, depth: 3, mlp_depth: 2, grid: 12, positions: true }
    }
}

/// The C-Abstractor; see the module documentation.
#[derive(Module, Debug)]
pub struct CAbstractor {
    /// Position embedding, `[1, tokens, feature width]`.
    pub pos_emb: Option<Param<Tensor<3>>>,
    /// Element 0 is the first stage of residual blocks, 1 is `None` for the pooling, 2 is the second stage. Element 0
    /// of a stage is `None`, because upstream counts blocks from 1.
    pub net: Vec<Option<Vec<Option<RegBlock>>>>,
    /// MLP after the stages: linear layers, and `None` for each SiLU between them.
    pub readout: Vec<Option<Linear>>,
    grid: usize,
    side: usize,
}

/// A residual block: 1×1 convolution, 3×3 depthwise convolution, squeeze-and-excitation, 1×1 convolution.
#[derive(Module, Debug)]
pub struct RegBlock {
    /// 1×1 convolution to the channels of the stage, with a norm.
    pub conv1: Pointwise,
    /// 3×3 depthwise convolution with a norm.
    pub conv2: Depthwise,
    /// Squeeze-and-excitation after `conv2`.
    pub se: Squeeze,
    /// 1×1 convolution with a norm.
    pub conv3: Pointwise,
    /// Projection on the shortcut; `None` if the number of channels stays the same.
    pub downsample: Option<Pointwise>,
}

/// A 1×1 convolution, computed as a linear layer per position, and a norm.
#[derive(Module, Debug)]
pub struct Pointwise {
    /// Weight of the convolution, `[in, out]`, without bias.
    pub conv: Linear,
    /// Layer norm over the channels.
    pub bn: LayerNorm,
}

/// A 3×3 depthwise convolution and a norm.
#[derive(Module, Debug)]
pub struct Depthwise {
    /// The depthwise convolution, without bias.
    pub conv: Conv2d,
    /// Layer norm over the channels.
    pub bn: LayerNorm,
}

/// Squeeze-and-excitation: multiplies each channel by a gate between 0 and 1 computed from the means of all channels.
#[derive(Module, Debug)]
pub struct Squeeze {
    /// Linear layer to a quarter of the block's input channels, `[channels, input channels / 4]`.
    pub fc1: Linear,
    /// Linear layer back to the channels of the stage, `[input channels / 4, channels]`.
    pub fc2: Linear,
}

/// Translation between the keys of Honeybee's checkpoints and the parameter paths of [`CAbstractor`].
const DIALECT: Dialect = Dialect {
    name: "connector",
    rules: &[
        Rule::same("net.{s}.{i}.conv2.conv.weight", &["net.{s}.b{i}.conv2.conv.weight"]),
        Rule::pointwise("net.{s}.{i}.conv{c}.conv.weight", &["net.{s}.b{i}.conv{c}.conv.weight"], 2),
        Rule::pointwise("net.{s}.{i}.downsample.conv.weight", &["net.{s}.b{i}.downsample.conv.weight"], 2),
        Rule::pointwise("net.{s}.{i}.se.fc{c}.weight", &["net.{s}.b{i}.se.fc{c}.weight"], 2),
        Rule::same("net.{s}.{i}.{rest}", &["net.{s}.b{i}.{rest}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &[],
};

impl ConnectorModule for CAbstractor {
    type Options = CAbstractorOptions;

    const DIALECT: &'static Dialect = &DIALECT;

    fn properties(_options: &CAbstractorOptions) -> ConnectorProperties {
        ConnectorProperties {
            needs_encoder_shapes: true,
            reads_each_encoder: false,
            needs_image_sizes: false,
            needs_statistics: false,
            // The option `positions` concerns the learnable embedding of the input, not one of the image tokens.
            adds_positions: false,
            samplers: None,
        }
    }

    fn check_limits(name: &str, options: &CAbstractorOptions) -> Result<()> {
        at_most(name, "hidden", options.hidden, WIDTH)?;
        at_most(name, "depth", options.depth, DEPTH)?;
        at_most(name, "mlp_depth", options.mlp_depth, DEPTH)?;
        at_most(name, "grid", options.grid, GRID)
    }

    fn check(name: &str, options: &CAbstractorOptions, _encoders: &[EncoderShape]) -> Result<()> {
        let CAbstractorOptions { hidden, depth, mlp_depth, grid, .. } = options;
        for (key, value) in [("hidden", hidden), ("depth", depth), ("mlp_depth", mlp_depth), ("grid", grid)] {
            if *value == 0 {
                return Err(Error::usage(format!("connector {name}: `{key}` is 0, must be at least 1")));
            }
        }
        Ok(())
    }

    /// Returns the finest grid for all encoders, because their features are concatenated before the connector.
    fn encoder_shapes(
        _name: &str,
        _options: &CAbstractorOptions,
        encoders: &[EncoderShape],
    ) -> Result<Vec<EncoderShape>> {
        let grid = encoders.iter().map(|e| e.grid).max().unwrap_or(0);
        Ok(encoders.iter().map(|e| EncoderShape { grid, ..*e }).collect())
    }

    fn image_tokens(options: &CAbstractorOptions, _grids: &[[usize; 2]]) -> usize {
        options.grid * options.grid
    }

    fn parameters(options: &CAbstractorOptions, shape: ConnectorShape<'_>) -> f64 {
        let (from, to) = (shape.feature_width as f64, shape.llm_width as f64);
        let (hidden, depth) = (options.hidden as f64, options.depth as f64);
        let blocks = from * hidden + 4.0 * depth * hidden * hidden;
        let positions = shape.encoders.first().map_or(0.0, EncoderShape::tokens) * from;
        blocks + hidden * to + options.mlp_depth as f64 * to * to + positions
    }

    fn init(options: &CAbstractorOptions, shape: ConnectorShape<'_>, device: &Device) -> Result<Self> {
        let Some(&EncoderShape { grid: side, .. }) = shape.encoders.first() else {
            return Err(Error::usage("connector c_abstractor: `towers` is empty, needs at least one encoder"));
        };
        if shape.encoders.iter().any(|e| e.grid != side) {
            return Err(Error::usage("connector c_abstractor: the encoders in `towers` are on different grids")
                .hint("give all the same `grid`: their features are concatenated before this connector"));
        }
        let from: usize = shape.encoders.iter().map(|e| e.width).sum();
        let block = |inputs: usize| RegBlock::new(inputs, options.hidden, device);
        let stage = |inputs: usize| {
            let blocks = (0..options.depth).map(|i| Some(block(if i == 0 { inputs } else { options.hidden })));
            Some(std::iter::once(None).chain(blocks).collect())
        };
        let linear = |i: usize| {
            let from = if i == 0 { options.hidden } else { shape.llm_width };
            // Odd indices are the SiLUs, which have no parameters.
            i.is_multiple_of(2).then(|| LinearConfig::new(from, shape.llm_width).init(device))
        };
        let positions = Initializer::Normal { mean: 0.0, std: 0.02 };
        Ok(CAbstractor {
            pos_emb: options.positions.then(|| positions.init([1, side * side, from], device)),
            net: vec![stage(from), None, stage(options.hidden)],
            readout: (0..2 * options.mlp_depth - 1).map(linear).collect(),
            grid: options.grid,
            side,
        })
    }

    fn feature_width(&self) -> usize {
        let first = self.net.iter().flatten().flatten().flatten().next();
        first.map_or(0, |block| block.conv1.conv.weight.dims()[0])
    }

    fn forward(&self, encoders: &[FeatureMap], _images: Option<&[ImageSize]>) -> Result<ImageTokens> {
        let joined = joined(encoders, self.feature_width())?;
        let FeatureMap { tokens: x, grid } = joined.resample([self.side, self.side])?;
        let [images, tokens, width] = x.dims();
        if tokens != self.side * self.side {
            return Err(Error::failed(format!(
                "the c_abstractor connector reads {0}x{0} patches, got {tokens} tokens of a {1}x{2} grid",
                self.side, grid[0], grid[1]
            ))
            .hint("leave the class token out of the features"));
        }
        let x = match &self.pos_emb {
            Some(positions) => x + positions.val(),
            None => x,
        };
        let mut x = x.reshape([images, self.side, self.side, width]);
        for stage in &self.net {
            x = match stage {
                Some(blocks) => blocks.iter().flatten().fold(x, |x, block| block.forward(x)),
                None => {
                    let pooled = adaptive_avg_pool2d(x.permute([0, 3, 1, 2]), [self.grid, self.grid]);
                    pooled.permute([0, 2, 3, 1])
                }
            };
        }
        let hidden = x.dims()[3];
        let mut y = x.reshape([images * self.grid * self.grid, hidden]);
        for layer in &self.readout {
            y = match layer {
                Some(linear) => linear.forward(y),
                None => silu(y),
            };
        }
        let to = y.dims()[1];
        let layout = TokenLayout { rows: self.grid, columns: self.grid, newline: false };
        // Convolutions mix padding and image, so no token is masked.
        ImageTokens::new(y.reshape([images, self.grid * self.grid, to]), layout, None, None)
    }
}

impl RegBlock {
    fn new(from: usize, to: usize, device: &Device) -> Self {
        let norm = || LayerNormConfig::new(to).with_epsilon(1e-5).init(device);
        let pointwise =
            |from: usize| Pointwise { conv: LinearConfig::new(from, to).with_bias(false).init(device), bn: norm() };
        let depthwise = Conv2dConfig::new([to, to], [3, 3])
            .with_groups(to)
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_bias(false)
            .init(device);
        // A quarter, with ties rounded to even as in Python.
        let squeezed = (from as f64 * 0.25).round_ties_even() as usize;
        Self {
            conv1: pointwise(from),
            conv2: Depthwise { conv: depthwise, bn: norm() },
            se: Squeeze {
                fc1: LinearConfig::new(to, squeezed).init(device),
                fc2: LinearConfig::new(squeezed, to).init(device),
            },
            conv3: pointwise(to),
            downsample: (from != to).then(|| pointwise(from)),
        }
    }

    /// Applies the block: `[images, rows, columns, input channels]` → `[images, rows, columns, channels]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = silu(self.conv1.forward(x.clone()));
        let y = self.conv2.conv.forward(y.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
        let y = self.se.forward(silu(self.conv2.bn.forward(y)));
        let y = self.conv3.forward(y);
        let shortcut = match &self.downsample {
            Some(layer) => layer.forward(x),
            None => x,
        };
        silu(y + shortcut)
    }
}

impl Pointwise {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [images, rows, columns, channels] = x.dims();
        let y = self.bn.forward(self.conv.forward(x.reshape([images * rows * columns, channels])));
        let to = y.dims()[1];
        y.reshape([images, rows, columns, to])
    }
}

impl Squeeze {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [images, _, _, channels] = x.dims();
        let means = x.clone().mean_dim(2).mean_dim(1).reshape([images, channels]);
        let gate = sigmoid(self.fc2.forward(silu(self.fc1.forward(means))));
        x * gate.reshape([images, 1, 1, channels])
    }
}
