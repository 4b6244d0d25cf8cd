//! Sequencer (Tatsunami & Taki 2022, arXiv:2205.01972): blocks whose tokens are mixed by bidirectional LSTMs along
//! columns and rows. Parameter paths are those of timm's `Sequencer2d`. Activations are channels-last.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_patches};
use super::parts::tokens::by_row;
use super::parts::{
    Conv, ConvSpec, Padding, add_branch, channels_first, channels_last, constant_drop_path, constant_factors,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::Activation;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Epsilon of all norms.
const EPS: f64 = 1e-6;

/// Hyper-parameters of a Sequencer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SequencerConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Channels per stage.
    pub dims: Vec<usize>,
    /// Side of the patches that the convolution before each stage joins.
    pub patches: Vec<usize>,
    /// Channels of the state of each LSTM per stage.
    pub hidden: Vec<usize>,
    /// Hidden channels of the MLPs divided by the channels of their stage, per stage.
    pub mlp_ratios: Vec<f64>,
    /// Drop-path rate of all blocks, at least 0 and below 1. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// A Sequencer; see the module documentation.
#[derive(Module, Debug)]
pub struct Sequencer {
    /// Patch embedding.
    pub stem: Stem,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    /// Layer norm after the last stage.
    pub norm: LayerNorm,
    #[module(skip)]
    config: SequencerConfig,
}

/// The patch embedding.
#[derive(Module, Debug)]
pub struct Stem {
    /// Convolution whose kernel equals its stride.
    pub proj: Conv,
}

/// A stage: a convolution (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Downsampling layer.
    pub downsample: Option<Downsample>,
    /// The blocks.
    pub blocks: Vec<SequencerBlock>,
}

/// A convolution whose kernel equals its stride.
#[derive(Module, Debug)]
pub struct Downsample {
    /// The convolution.
    pub down: Conv,
}

/// A block: LSTMs over tokens, then an MLP over channels.
#[derive(Module, Debug)]
pub struct SequencerBlock {
    /// Norm before the LSTMs.
    pub norm1: LayerNorm,
    /// The LSTMs.
    pub rnn_tokens: Lstm2d,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp_channels: Mlp,
}

/// Bidirectional LSTMs along columns and rows, and a linear layer that joins them.
#[derive(Module, Debug)]
pub struct Lstm2d {
    /// LSTM along each column.
    pub rnn_v: Lstm,
    /// LSTM along each row.
    pub rnn_h: Lstm,
    /// Linear layer, `[4 * hidden, channels]`.
    pub fc: Linear,
}

/// A bidirectional LSTM with PyTorch's names; gates are in the order input, forget, cell, output.
#[derive(Module, Debug)]
pub struct Lstm {
    /// Weights of the input, `[4 * hidden, channels]`.
    pub weight_ih_l0: Param<Tensor<2>>,
    /// Weights of the state, `[4 * hidden, hidden]`.
    pub weight_hh_l0: Param<Tensor<2>>,
    /// First bias, `[4 * hidden]`.
    pub bias_ih_l0: Param<Tensor<1>>,
    /// Second bias, `[4 * hidden]`.
    pub bias_hh_l0: Param<Tensor<1>>,
    /// Weights of the input, backward direction.
    pub weight_ih_l0_reverse: Param<Tensor<2>>,
    /// Weights of the state, backward direction.
    pub weight_hh_l0_reverse: Param<Tensor<2>>,
    /// First bias, backward direction.
    pub bias_ih_l0_reverse: Param<Tensor<1>>,
    /// Second bias, backward direction.
    pub bias_hh_l0_reverse: Param<Tensor<1>>,
}

impl Lstm {
    fn new(channels: usize, hidden: usize, device: &Device) -> Self {
        let bound = (hidden as f64).powf(-0.5);
        let uniform = Initializer::Uniform { min: -bound, max: bound };
        let input = || uniform.init([4 * hidden, channels], device);
        let state = || uniform.init([4 * hidden, hidden], device);
        let bias = || Initializer::Zeros.init([4 * hidden], device);
        Self {
            weight_ih_l0: input(),
            weight_hh_l0: state(),
            bias_ih_l0: bias(),
            bias_hh_l0: bias(),
            weight_ih_l0_reverse: input(),
            weight_hh_l0_reverse: state(),
            bias_ih_l0_reverse: bias(),
            bias_hh_l0_reverse: bias(),
        }
    }

    /// Runs both directions on sequences `[sequences, steps, channels]`: `[sequences, steps, 2 * hidden]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let forward = direction(
            x.clone(),
            self.weight_ih_l0.val(),
            self.weight_hh_l0.val(),
            self.bias_ih_l0.val() + self.bias_hh_l0.val(),
            false,
        );
        let backward = direction(
            x,
            self.weight_ih_l0_reverse.val(),
            self.weight_hh_l0_reverse.val(),
            self.bias_ih_l0_reverse.val() + self.bias_hh_l0_reverse.val(),
            true,
        );
        Tensor::cat(vec![forward, backward], 2)
    }
}

/// Runs one direction of an LSTM on `[sequences, steps, channels]`; the outputs keep the order of the steps.
fn direction(x: Tensor<3>, input: Tensor<2>, state: Tensor<2>, bias: Tensor<1>, reverse: bool) -> Tensor<3> {
    let [sequences, steps, _] = x.dims();
    let [gates, hidden] = state.dims();
    let gated = by_row(x, |x| linear(x, input.transpose(), Some(bias)));
    let state = state.transpose();
    let (mut h, mut c): (Option<Tensor<2>>, Option<Tensor<2>>) = (None, None);
    let mut outputs: Vec<Tensor<3>> = Vec::with_capacity(steps);
    for step in 0..steps {
        let at = if reverse { steps - 1 - step } else { step };
        let mut all = gated.clone().narrow(1, at, 1).reshape([sequences, gates]);
        if let Some(h) = h {
            all = all + h.matmul(state.clone());
        }
        let part = |i: usize| all.clone().narrow(1, i * hidden, hidden);
        let entered = sigmoid(part(0)) * tanh(part(2));
        let cell = match c {
            Some(c) => sigmoid(part(1)) * c + entered,
            None => entered,
        };
        let output = sigmoid(part(3)) * tanh(cell.clone());
        outputs.push(output.clone().unsqueeze_dim(1));
        (h, c) = (Some(output), Some(cell));
    }
    if reverse {
        outputs.reverse();
    }
    Tensor::cat(outputs, 1)
}

impl Lstm2d {
    /// Mixes the tokens of `[batch, rows, columns, channels]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, rows, columns, channels] = x.dims();
        let down = x.clone().swap_dims(1, 2).reshape([batch * columns, rows, channels]);
        let down = self.rnn_v.forward(down);
        let width = down.dims()[2];
        let down = down.reshape([batch, columns, rows, width]).swap_dims(1, 2);
        let across = self.rnn_h.forward(x.reshape([batch * rows, columns, channels]));
        let across = across.reshape([batch, rows, columns, width]);
        by_row(Tensor::cat(vec![down, across], 3), |x| self.fc.forward(x))
    }
}

impl SequencerBlock {
    /// Runs block number `index` on `[batch, rows, columns, channels]`.
    fn forward(&self, x: Tensor<4>, drop_path: &DropPathMask, index: usize) -> Tensor<4> {
        let branch = self.rnn_tokens.forward(self.norm1.forward(x.clone()));
        let x = add_branch(x, branch, constant_factors(drop_path, 2 * index));
        let branch = by_row(self.norm2.forward(x.clone()), |x| self.mlp_channels.forward(x));
        add_branch(x, branch, constant_factors(drop_path, 2 * index + 1))
    }
}

impl SequencerConfig {
    /// The convolution before `stage`.
    fn embedding(&self, stage: usize) -> Option<ConvSpec> {
        let from = match stage.checked_sub(1) {
            None => 3,
            Some(before) => *self.dims.get(before)?,
        };
        let side = *self.patches.get(stage)?;
        Some(ConvSpec::new(from, *self.dims.get(stage)?, side).stride(side).padding(Padding::Explicit(0)))
    }

    /// Channels, LSTM state, MLP channels and number of blocks of each stage.
    fn stages(&self) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let sizes = self.dims.iter().zip(&self.hidden).zip(&self.mlp_ratios).zip(&self.depths);
        sizes.map(|(((width, hidden), ratio), depth)| (*width, *hidden, times(*width, *ratio), *depth))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Sequencer {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(EPS).init(device);
        let block = |width: usize, hidden: usize, mlp: usize| SequencerBlock {
            norm1: norm(width),
            rnn_tokens: Lstm2d {
                rnn_v: Lstm::new(width, hidden, device),
                rnn_h: Lstm::new(width, hidden, device),
                fc: LinearConfig::new(4 * hidden, width).init(device),
            },
            norm2: norm(width),
            mlp_channels: Mlp::new(width, mlp, width, Activation::Gelu, device),
        };
        let first = self.embedding(0).unwrap_or_else(|| ConvSpec::new(3, 1, 1));
        let stages = self.stages().enumerate().map(|(stage, (width, hidden, mlp, depth))| Stage {
            downsample: self.embedding(stage).filter(|_| stage > 0).map(|conv| Downsample { down: conv.init(device) }),
            blocks: (0..depth).map(|_| block(width, hidden, mlp)).collect(),
        });
        Sequencer {
            stem: Stem { proj: first.init(device) },
            stages: stages.collect(),
            norm: norm(self.dims.last().copied().unwrap_or_default()),
            config: self.clone(),
        }
    }
}

impl StagedConfig for SequencerConfig {
    fn check(&self) -> Result<()> {
        check_patches(self.image_size, self.patches.first().copied().unwrap_or_default())?;
        let sizes = self.depths.iter().chain(&self.dims).chain(&self.patches).chain(&self.hidden);
        let positive = sizes.chain([&self.image_size]).all(|n| (1..=MAX_SIZE).contains(n));
        let ratios = self.mlp_ratios.iter().all(|ratio| (0.1..=64.0).contains(ratio));
        let lengths = [self.depths.len(), self.patches.len(), self.hidden.len(), self.mlp_ratios.len()];
        let stages = !self.dims.is_empty() && lengths.iter().all(|n| *n == self.dims.len());
        let whole = positive
            && self
                .patches
                .iter()
                .try_fold(self.image_size, |side, patch| side.is_multiple_of(*patch).then(|| side / patch))
                .is_some();
        if !ratios || !stages || !whole {
            return Err(Error::usage(format!(
                "invalid Sequencer: image_size {}, depths {:?}, dims {:?}, patches {:?}, hidden {:?}, mlp_ratios {:?}",
                self.image_size, self.depths, self.dims, self.patches, self.hidden, self.mlp_ratios
            ))
            .hint("all must be positive with one number per stage, and patches divide the sides of their input"));
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
        let mut side = self.image_size;
        let mut layers = Vec::new();
        for (stage, (width, hidden, mlp, depth)) in self.stages().enumerate() {
            let mut multiply_adds = 0;
            if let Some(conv) = self.embedding(stage) {
                multiply_adds += conv.multiply_adds(side);
                side = conv.out_side(side);
            }
            let lstms = 4 * 4 * hidden * (width + hidden);
            let position = lstms + 4 * hidden * width + 2 * width * mlp;
            multiply_adds += (depth * side * side * position) as u64;
            layers.push(LayerShape { width, side, multiply_adds });
        }
        layers
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(constant_drop_path(self.drop_path, 2 * self.depths.iter().sum::<usize>()))
    }
}

impl Sequencer {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &SequencerConfig {
        &self.config
    }
}

impl StagedNetwork for Sequencer {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let mut x = channels_last(self.stem.proj.forward(pixels));
        let (mut outputs, mut index) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(Downsample { down }) = &stage.downsample {
                x = channels_last(down.forward(channels_first(x)));
            }
            for block in &stage.blocks {
                x = block.forward(x, drop_path, index);
                index += 1;
            }
            outputs.push(channels_first(x.clone()));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}

impl TimmModel for SequencerConfig {
    const CLASSES: &'static [&'static str] = &["Sequencer2d"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[
            ("in_chans", "3"),
            ("bidirectional", "true"),
            ("nlhb", "false"),
            ("num_rnn_layers", "1"),
            ("rnn_layer", "\"LSTM2d\""),
            ("stem_norm", "false"),
            ("union", "\"cat\""),
            ("with_fc", "true"),
        ])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let dims = arguments.numbers("embed_dims")?.unwrap_or_else(|| vec![192, 384, 384, 384]);
        Ok(TimmNetwork::new(Self {
            image_size,
            depths: arguments.numbers("layers")?.unwrap_or_else(|| vec![4, 3, 8, 3]),
            patches: arguments.numbers("patch_sizes")?.unwrap_or_else(|| vec![7, 2, 2, 1]),
            hidden: arguments.numbers("hidden_sizes")?.unwrap_or_else(|| vec![48, 96, 96, 96]),
            mlp_ratios: arguments.per_stage("mlp_ratios", dims.len(), 3.0, Value::as_f64)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
            dims,
        }))
    }
}
