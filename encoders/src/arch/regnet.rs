//! RegNet X, Y, V and Z (Radosavovic et al. 2020, arXiv:2003.13678; Dollár et al. 2021, arXiv:2103.06877). Parameter
//! paths are those of timm's `RegNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{
    ActivationKind, AverageDown, Conv, ConvNormAct, ConvSpec, Named, NormAct, NormActKind, ShortcutKind, SqueezeExcite,
    divisible_within, drop_branch, rounded,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a RegNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of the stem.
    pub stem_width: usize,
    /// Number of blocks per stage.
    pub depths: [usize; 4],
    /// Output channels per stage.
    pub widths: [usize; 4],
    /// Channels per group of the 3×3 convolutions, per stage.
    pub group_sizes: [usize; 4],
    /// Channels of the 3×3 convolutions divided by the output channels of a block. Default 1.
    #[serde(default = "one")]
    pub bottleneck_ratio: f64,
    /// Hidden channels of squeeze-and-excitation divided by the input channels of the block; 0 for blocks without it.
    /// Default 0.
    #[serde(default)]
    pub squeeze_ratio: f64,
    /// Shortcut of the first block of each stage. Default a convolution.
    #[serde(default)]
    pub shortcut: ShortcutKind,
    /// Whether blocks end without activation (RegNet-Z); the network then ends with one. Default false.
    #[serde(default)]
    pub linear_output: bool,
    /// Whether norms and activations come before the convolutions (RegNet-V). Default false.
    #[serde(default)]
    pub pre_activation: bool,
    /// Channels of a 1×1 convolution after the last stage; 0 for none. Default 0.
    #[serde(default)]
    pub final_width: usize,
    /// Activation of all layers. Default ReLU.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Norm of all layers. Default batch norm.
    #[serde(default)]
    pub norm: NormActKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn one() -> f64 {
    1.0
}

/// A RegNet; see the module documentation.
#[derive(Module, Debug)]
pub struct RegNet {
    /// The stem, of stride 2.
    pub stem: RegStem,
    /// The blocks of the first stage.
    pub s1: Named<RegBlock>,
    /// The blocks of the second stage.
    pub s2: Named<RegBlock>,
    /// The blocks of the third stage.
    pub s3: Named<RegBlock>,
    /// The blocks of the fourth stage.
    pub s4: Named<RegBlock>,
    /// The 1×1 convolution after the last stage.
    pub final_conv: Option<ConvNormAct>,
    #[module(skip)]
    config: RegNetConfig,
}

/// A 3×3 convolution of stride 2.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has one stem")]
pub enum RegStem {
    /// Followed by norm and activation.
    Normed(ConvNormAct),
    /// Alone, in a network with pre-activation.
    Plain(Conv),
}

/// A bottleneck block with norms after its convolutions, or before them.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has blocks of one kind")]
pub enum RegBlock {
    /// Norms after the convolutions.
    Post(PostBlock),
    /// Norms before the convolutions.
    Pre(PreBlock),
}

/// A bottleneck block with norms after its convolutions.
#[derive(Module, Debug)]
pub struct PostBlock {
    /// 1×1 convolution.
    pub conv1: ConvNormAct,
    /// Grouped 3×3 convolution.
    pub conv2: ConvNormAct,
    /// Squeeze-and-excitation.
    pub se: Option<SqueezeExcite>,
    /// 1×1 convolution without activation.
    pub conv3: ConvNormAct,
    /// Projection shortcut.
    pub downsample: Option<PostShortcut>,
    /// Whether the block has a shortcut.
    residual: bool,
    #[module(skip)]
    activation: ActivationKind,
}

/// The projection shortcut of a [`PostBlock`].
#[derive(Module, Debug)]
pub enum PostShortcut {
    /// A convolution.
    Convolution(ConvNormAct),
    /// Pooling and a convolution.
    Average((AverageDown, ConvNormAct)),
}

/// A bottleneck block with norms before its convolutions.
#[derive(Module, Debug)]
pub struct PreBlock {
    /// Norm and activation before `conv1`; the shortcut starts after it.
    pub norm1: NormAct,
    /// 1×1 convolution.
    pub conv1: Conv,
    /// Norm and activation before `conv2`.
    pub norm2: NormAct,
    /// Grouped 3×3 convolution.
    pub conv2: Conv,
    /// Squeeze-and-excitation.
    pub se: Option<SqueezeExcite>,
    /// Norm and activation before `conv3`.
    pub norm3: NormAct,
    /// 1×1 convolution.
    pub conv3: Conv,
    /// Projection shortcut.
    pub downsample: Option<PreShortcut>,
    /// Whether the block has a shortcut.
    residual: bool,
}

/// The projection shortcut of a [`PreBlock`].
#[derive(Module, Debug)]
pub enum PreShortcut {
    /// A convolution.
    Convolution(Conv),
    /// Pooling and a convolution.
    Average((AverageDown, Conv)),
}

/// The channels and the stride of a block.
#[derive(Clone, Copy)]
struct BlockShape {
    before: usize,
    inner: usize,
    after: usize,
    groups: usize,
    stride: usize,
}

impl RegNetConfig {
    /// Channels of the 3×3 convolutions in blocks of `width` output channels.
    fn inner(&self, width: usize) -> usize {
        rounded(width as f64 * self.bottleneck_ratio)
    }

    /// Output channels of the last layer.
    fn last_width(&self) -> usize {
        if self.final_width > 0 { self.final_width } else { self.widths[3] }
    }

    /// Whether there is a layer after the last stage: a convolution, or the activation that all blocks lack.
    fn has_final_layer(&self) -> bool {
        self.final_width > 0 || self.linear_output || self.pre_activation
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> RegNet {
        let stem = ConvSpec::new(3, self.stem_width, 3).stride(2).bias(false);
        let stages: [Named<RegBlock>; 4] = std::array::from_fn(|stage| {
            let width = self.widths[stage];
            Named::counted(
                "b",
                (0..self.depths[stage]).map(|block| {
                    let first = block == 0;
                    let entering = stage.checked_sub(1).map_or(self.stem_width, |before| self.widths[before]);
                    let inner = self.inner(width);
                    let shape = BlockShape {
                        before: if first { entering } else { width },
                        inner,
                        after: width,
                        groups: inner / self.group_sizes[stage],
                        stride: if first { 2 } else { 1 },
                    };
                    if self.pre_activation {
                        RegBlock::Pre(self.pre_block(shape, device))
                    } else {
                        RegBlock::Post(self.post_block(shape, device))
                    }
                }),
            )
        });
        let [s1, s2, s3, s4] = stages;
        RegNet {
            stem: if self.pre_activation {
                RegStem::Plain(stem.init(device))
            } else {
                RegStem::Normed(self.conv(stem, self.activation, device))
            },
            s1,
            s2,
            s3,
            s4,
            final_conv: (self.final_width > 0).then(|| {
                self.conv(ConvSpec::new(self.widths[3], self.final_width, 1).bias(false), self.activation, device)
            }),
            config: self.clone(),
        }
    }

    fn conv(&self, spec: ConvSpec, activation: ActivationKind, device: &Device) -> ConvNormAct {
        ConvNormAct::new(spec, self.norm, activation, None, device)
    }

    fn squeeze(&self, shape: BlockShape, device: &Device) -> Option<SqueezeExcite> {
        let hidden = rounded(shape.before as f64 * self.squeeze_ratio);
        (self.squeeze_ratio > 0.0)
            .then(|| SqueezeExcite::new(shape.inner, hidden, self.activation, ActivationKind::Sigmoid, device))
    }

    fn post_block(&self, shape: BlockShape, device: &Device) -> PostBlock {
        let BlockShape { before, inner, after, groups, stride } = shape;
        let (linear, act) = (ActivationKind::Identity, self.activation);
        let conv = |from, to, kernel: usize| ConvSpec::new(from, to, kernel).bias(false);
        let projects = before != after || stride != 1;
        let projection = |stride: usize| self.conv(conv(before, after, 1).stride(stride), linear, device);
        PostBlock {
            conv1: self.conv(conv(before, inner, 1), act, device),
            conv2: self.conv(conv(inner, inner, 3).stride(stride).groups(groups), act, device),
            se: self.squeeze(shape, device),
            conv3: self.conv(conv(inner, after, 1), linear, device),
            downsample: match self.shortcut {
                ShortcutKind::Convolution if projects => Some(PostShortcut::Convolution(projection(stride))),
                ShortcutKind::Average if projects => {
                    Some(PostShortcut::Average((AverageDown::new(stride), projection(1))))
                }
                _ => None,
            },
            residual: !projects || self.shortcut != ShortcutKind::None,
            activation: if self.linear_output { linear } else { act },
        }
    }

    fn pre_block(&self, shape: BlockShape, device: &Device) -> PreBlock {
        let BlockShape { before, inner, after, groups, stride } = shape;
        let norm = |channels| self.norm.init(channels, self.activation, device);
        let conv = |from, to, kernel: usize| ConvSpec::new(from, to, kernel).bias(false);
        let projects = before != after || stride != 1;
        PreBlock {
            norm1: norm(before),
            conv1: conv(before, inner, 1).init(device),
            norm2: norm(inner),
            conv2: conv(inner, inner, 3).stride(stride).groups(groups).init(device),
            se: self.squeeze(shape, device),
            norm3: norm(inner),
            conv3: conv(inner, after, 1).init(device),
            downsample: match self.shortcut {
                ShortcutKind::Convolution if projects => {
                    Some(PreShortcut::Convolution(conv(before, after, 1).stride(stride).init(device)))
                }
                ShortcutKind::Average if projects => {
                    Some(PreShortcut::Average((AverageDown::new(stride), conv(before, after, 1).init(device))))
                }
                _ => None,
            },
            residual: !projects || self.shortcut != ShortcutKind::None,
        }
    }
}

impl RegBlock {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        match self {
            Self::Post(block) => block.forward(x, factors),
            Self::Pre(block) => block.forward(x, factors),
        }
    }

    /// Side of the output, and multiply-adds, for a map of `side`.
    fn cost(&self, side: usize) -> (usize, u64) {
        match self {
            Self::Post(block) => {
                let out = block.conv2.out_side(side);
                let squeeze = block.se.as_ref().map_or(0, SqueezeExcite::multiply_adds);
                let shortcut = block.downsample.as_ref().map_or(0, |way| match way {
                    PostShortcut::Convolution(conv) => conv.multiply_adds(side),
                    PostShortcut::Average((pool, conv)) => conv.multiply_adds(pool.out_side(side)),
                });
                let convs =
                    block.conv1.multiply_adds(side) + block.conv2.multiply_adds(side) + block.conv3.multiply_adds(out);
                (out, convs + squeeze + shortcut)
            }
            Self::Pre(block) => {
                let out = block.conv2.spec().out_side(side);
                let squeeze = block.se.as_ref().map_or(0, SqueezeExcite::multiply_adds);
                let shortcut = block.downsample.as_ref().map_or(0, |way| match way {
                    PreShortcut::Convolution(conv) => conv.spec().multiply_adds(side),
                    PreShortcut::Average((pool, conv)) => conv.spec().multiply_adds(pool.out_side(side)),
                });
                let convs = block.conv1.spec().multiply_adds(side)
                    + block.conv2.spec().multiply_adds(side)
                    + block.conv3.spec().multiply_adds(out);
                (out, convs + squeeze + shortcut)
            }
        }
    }
}

impl PostBlock {
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mut branch = self.conv2.forward(self.conv1.forward(x.clone()));
        if let Some(se) = &self.se {
            branch = se.forward(branch);
        }
        let branch = self.conv3.forward(branch);
        if !self.residual {
            return self.activation.forward(branch);
        }
        let shortcut = match &self.downsample {
            None => x,
            Some(PostShortcut::Convolution(conv)) => conv.forward(x),
            Some(PostShortcut::Average((pool, conv))) => conv.forward(pool.forward(x)),
        };
        self.activation.forward(shortcut + drop_branch(branch, factors))
    }
}

impl PreBlock {
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let x = self.norm1.forward(x);
        let mut branch = self.conv2.forward(self.norm2.forward(self.conv1.forward(x.clone())));
        if let Some(se) = &self.se {
            branch = se.forward(branch);
        }
        let branch = self.conv3.forward(self.norm3.forward(branch));
        if !self.residual {
            return branch;
        }
        let shortcut = match &self.downsample {
            None => x,
            Some(PreShortcut::Convolution(conv)) => conv.forward(x),
            Some(PreShortcut::Average((pool, conv))) => conv.forward(pool.forward(x)),
        };
        shortcut + drop_branch(branch, factors)
    }
}

impl RegNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &RegNetConfig {
        &self.config
    }

    fn stages(&self) -> [&Named<RegBlock>; 4] {
        [&self.s1, &self.s2, &self.s3, &self.s4]
    }

    fn shapes(&self) -> Vec<LayerShape> {
        let config = &self.config;
        let (mut side, mut multiply_adds) = match &self.stem {
            RegStem::Normed(conv) => (conv.out_side(config.image_size), conv.multiply_adds(config.image_size)),
            RegStem::Plain(conv) => {
                (conv.spec().out_side(config.image_size), conv.spec().multiply_adds(config.image_size))
            }
        };
        let mut shapes = Vec::new();
        for (stage, width) in self.stages().into_iter().zip(config.widths) {
            for block in stage.iter() {
                let (out, adds) = block.cost(side);
                (side, multiply_adds) = (out, multiply_adds + adds);
            }
            shapes.push(LayerShape { width, side, multiply_adds });
            multiply_adds = 0;
        }
        if config.has_final_layer() {
            let multiply_adds = self.final_conv.as_ref().map_or(0, |conv| conv.multiply_adds(side));
            shapes.push(LayerShape { width: config.last_width(), side, multiply_adds });
        }
        shapes
    }
}

impl StagedConfig for RegNetConfig {
    fn check(&self) -> Result<()> {
        let numbers = [&self.depths, &self.widths, &self.group_sizes];
        let sizes = numbers.into_iter().flatten().chain([&self.image_size, &self.stem_width]);
        let ratios = [(self.bottleneck_ratio, true), (self.squeeze_ratio, self.squeeze_ratio != 0.0)];
        let ratios = ratios.into_iter().all(|(ratio, given)| !given || (1e-3..=64.0).contains(&ratio));
        if !sizes.into_iter().all(|n| (1..=MAX_SIZE).contains(n)) || !ratios || self.final_width > MAX_SIZE {
            return Err(Error::usage(format!(
                "invalid RegNet: image_size {}, stem_width {}, depths {:?}, widths {:?}, group_sizes {:?}, \
                 bottleneck_ratio {}, squeeze_ratio {}, final_width {}",
                self.image_size,
                self.stem_width,
                self.depths,
                self.widths,
                self.group_sizes,
                self.bottleneck_ratio,
                self.squeeze_ratio,
                self.final_width
            ))
            .hint("sizes are from 1 to 65536, ratios from 0.001 to 64"));
        }
        for (width, group) in self.widths.iter().zip(self.group_sizes) {
            let inner = self.inner(*width);
            if !inner.is_multiple_of(group) || inner == 0 {
                return Err(Error::usage(format!(
                    "group size {group} does not divide the {inner} channels of a stage's 3×3 convolutions"
                ))
                .hint("change group_sizes or widths"));
            }
            self.norm.check(*width)?;
            self.norm.check(inner)?;
        }
        self.norm.check(self.stem_width)?;
        self.norm.check(self.last_width())?;
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        self.init(&Device::flex()).shapes()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 1 })
    }
}

impl StagedNetwork for RegNet {
    fn depth(&self) -> usize {
        4 + usize::from(self.config.has_final_layer())
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let mut x = match &self.stem {
            RegStem::Normed(conv) => conv.forward(pixels),
            RegStem::Plain(conv) => conv.forward(pixels),
        };
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in self.stages().into_iter().take(count) {
            for block in stage.iter() {
                x = block.forward(x, drop_path.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        if count > outputs.len() && self.config.has_final_layer() {
            outputs.push(match &self.final_conv {
                Some(conv) => conv.forward(x),
                None => self.config.activation.forward(x),
            });
        }
        Ok(outputs)
    }
}

/// The parameters that generate a RegNet's stages.
struct Generator {
    slope: f64,
    initial: usize,
    factor: f64,
    depth: usize,
    group_size: usize,
    bottleneck_ratio: f64,
    min_ratio: f64,
}

/// The stages of a RegNet.
struct Stages {
    depths: Vec<usize>,
    widths: Vec<usize>,
    group_sizes: Vec<usize>,
}

impl Generator {
    /// Widths of the blocks on a line, rounded to powers of `factor` and then to multiples of 8; equal widths are a
    /// stage. The numbers are single-precision, as in timm.
    #[allow(clippy::cast_possible_truncation, reason = "timm computes in single precision")]
    fn stages(&self) -> Stages {
        let (initial, factor) = (self.initial as f32, self.factor as f32);
        let mut stages = Stages { depths: Vec::new(), widths: Vec::new(), group_sizes: Vec::new() };
        for block in 0..self.depth {
            let line = block as f32 * self.slope as f32 + initial;
            let power = ((line / initial).ln() / self.factor.ln() as f32).round_ties_even();
            let width = rounded(f64::from((initial * factor.powf(power) / 8.0).round_ties_even() * 8.0));
            match (stages.widths.last(), stages.depths.last_mut()) {
                (Some(last), Some(depth)) if *last == width => *depth += 1,
                _ => {
                    stages.widths.push(width);
                    stages.depths.push(1);
                }
            }
        }
        for width in &mut stages.widths {
            let (group, inner) = self.fitted(*width);
            stages.group_sizes.push(group);
            #[allow(clippy::cast_sign_loss, reason = "a positive number")]
            let fitted = (inner as f64 / self.bottleneck_ratio) as usize;
            *width = fitted;
        }
        stages
    }

    /// Group size and channels of the 3×3 convolutions in a stage of about `width` channels.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number")]
    fn fitted(&self, width: usize) -> (usize, usize) {
        let inner = (width as f64 * self.bottleneck_ratio) as usize;
        let group = self.group_size.min(inner).max(1);
        let inner = match self.min_ratio {
            0.0 => rounded(inner as f64 / group as f64) * group,
            ratio => divisible_within(inner as f64, group, ratio),
        };
        (group, inner)
    }
}

impl TimmModel for RegNetConfig {
    const CLASSES: &'static [&'static str] = &["RegNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.overlay("model_cfg")?;
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "zero_init_last"]);
        let usual = if arguments.is_none("downsample") { "" } else { "conv1x1" };
        let shortcut = arguments.one_of("downsample", usual, &ShortcutKind::TIMM)?;
        let depth = arguments.number("depth", 21)?;
        if depth > MAX_SIZE {
            return Err(arguments.unsupported("depth", &depth.into()));
        }
        let bottleneck_ratio = arguments.real("bottle_ratio")?.unwrap_or(1.0);
        let stages = Generator {
            slope: arguments.real("wa")?.unwrap_or(42.63),
            initial: arguments.number("w0", 80)?,
            factor: arguments.real("wm")?.unwrap_or(2.66),
            depth,
            group_size: arguments.number("group_size", 24)?,
            bottleneck_ratio,
            min_ratio: arguments.real("group_min_ratio")?.unwrap_or(0.0),
        }
        .stages();
        let count = stages.widths.len();
        let four = |numbers: Vec<usize>| {
            <[usize; 4]>::try_from(numbers)
                .map_err(|_| arguments.invalid(&format!("its widths make {count} stages, not 4")))
        };
        let (depths, widths, group_sizes) = (four(stages.depths)?, four(stages.widths)?, four(stages.group_sizes)?);
        Ok(TimmNetwork::new(Self {
            image_size,
            stem_width: arguments.number("stem_width", 32)?,
            depths,
            widths,
            group_sizes,
            bottleneck_ratio,
            squeeze_ratio: arguments.real("se_ratio")?.unwrap_or(0.0),
            shortcut,
            linear_output: arguments.flag("linear_out", false)?,
            pre_activation: arguments.flag("preact", false)?,
            final_width: arguments.number("num_features", 0)?,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            norm: NormActKind::from_timm(arguments, "norm_layer", NormActKind::default())?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(slope: f64, initial: usize, factor: f64, depth: usize, group_size: usize) -> Stages {
        Generator { slope, initial, factor, depth, group_size, bottleneck_ratio: 1.0, min_ratio: 0.0 }.stages()
    }

    #[test]
    fn stages_follow_from_the_parameters_of_the_papers() {
        let tiny = stages(36.44, 24, 2.49, 13, 8);
        assert_eq!((tiny.depths, tiny.widths), (vec![1, 1, 4, 7], vec![24, 56, 152, 368]));
        assert_eq!(tiny.group_sizes, [8; 4]);
        let wide = stages(53.0, 232, 2.53, 20, 232);
        assert!(wide.widths.iter().all(|width| width % 232 == 0));
    }
}
