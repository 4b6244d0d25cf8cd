//! Aligned Xception (Chollet 2017, arXiv:1610.02357; Chen et al. 2018, arXiv:1802.02611): residual modules of three
//! separable convolutions. Parameter paths are those of timm's `XceptionAligned`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{ActivationKind, Conv, ConvNormAct, ConvSpec, Named, NormAct, NormActKind, drop_branch};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Channels of the stem's two convolutions.
const STEM: [usize; 2] = [32, 64];

/// A module of an [`XceptionConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XceptionModuleConfig {
    /// Output channels of the three separable convolutions.
    pub widths: [usize; 3],
    /// Stride of the last of them, 1 or 2.
    pub stride: usize,
    /// Whether there is no shortcut, and activations follow the convolutions instead of preceding them. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub plain: bool,
}

/// Hyper-parameters of an aligned Xception.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XceptionConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// The modules, in order of depth.
    pub modules: Vec<XceptionModuleConfig>,
    /// Whether norms and activations precede the convolutions. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub norm_first: bool,
    /// Epsilon of all batch norms. Default 1e-3.
    #[serde(default = "epsilon")]
    pub norm_eps: f64,
    /// Drop-path rate of the last module, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn epsilon() -> f64 {
    1e-3
}

/// An aligned Xception. A tap's layers are the outputs of the last modules of each grid.
#[derive(Module, Debug)]
pub struct Xception {
    /// Two 3×3 convolutions, the first of stride 2; with `norm_first` the second has no norm.
    pub stem: (ConvNormAct, SecondStem),
    /// The modules, in order of depth.
    pub blocks: Vec<XceptionModule>,
    #[module(skip)]
    config: XceptionConfig,
}

/// The second convolution of the stem.
// A network has one.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum SecondStem {
    /// With norm and activation.
    Normed(ConvNormAct),
    /// Without.
    Bare(Conv),
}

/// A module of three separable convolutions.
#[derive(Module, Debug)]
pub struct XceptionModule {
    /// Norm and ReLU before everything, with `norm_first`.
    pub norm: Option<NormAct>,
    /// Projection of the input, where the output has another shape.
    pub shortcut: Option<Projection>,
    /// The separable convolutions, `conv1`, `conv2`, `conv3`.
    pub stack: Named<Separable>,
    plain: bool,
    norm_first: bool,
}

/// A strided 1×1 convolution around a module.
// A module has one.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Projection {
    /// With a norm.
    Normed(ConvNormAct),
    /// Without.
    Bare(Conv),
}

/// A depthwise and a 1×1 convolution, with norms after each or one before both.
#[derive(Module, Debug)]
pub struct Separable {
    /// Norm and ReLU before the convolutions.
    pub norm: Option<NormAct>,
    /// Depthwise 3×3 convolution.
    pub conv_dw: Conv,
    /// Norm after `conv_dw`.
    pub bn_dw: Option<NormAct>,
    /// 1×1 convolution.
    pub conv_pw: Conv,
    /// Norm after `conv_pw`.
    pub bn_pw: Option<NormAct>,
}

fn maybe(norm: &Option<NormAct>, x: Tensor<4>) -> Tensor<4> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}

impl Separable {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = maybe(&self.bn_dw, self.conv_dw.forward(maybe(&self.norm, x)));
        maybe(&self.bn_pw, self.conv_pw.forward(x))
    }
}

impl XceptionModule {
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let x = maybe(&self.norm, x);
        // Activations precede the convolutions, unless norms with activations do, or they are part of the convolutions.
        let bare = !self.plain && !self.norm_first;
        let branch = self.stack.iter().fold(x.clone(), |x, conv| conv.forward(if bare { relu(x) } else { x }));
        if self.plain {
            return branch;
        }
        let shortcut = match &self.shortcut {
            Some(Projection::Normed(conv)) => conv.forward(x),
            Some(Projection::Bare(conv)) => conv.forward(x),
            None => x,
        };
        drop_branch(branch, factors) + shortcut
    }
}

impl XceptionConfig {
    fn norm(&self, channels: usize, activation: ActivationKind, device: &Device) -> NormAct {
        NormActKind::Batch { eps: self.norm_eps }.init(channels, activation, device)
    }

    fn conv(&self, spec: ConvSpec, activation: ActivationKind, device: &Device) -> ConvNormAct {
        ConvNormAct::new(spec, NormActKind::Batch { eps: self.norm_eps }, activation, None, device)
    }

    fn stem_layout() -> [ConvSpec; 2] {
        [ConvSpec::new(3, STEM[0], 3).stride(2).bias(false), ConvSpec::new(STEM[0], STEM[1], 3).bias(false)]
    }

    /// The depthwise and the 1×1 convolutions of a module with `from` input channels.
    fn layout(module: &XceptionModuleConfig, from: usize) -> Vec<[ConvSpec; 2]> {
        let mut from = from;
        let pair = |(i, to): (usize, &usize)| {
            let before = std::mem::replace(&mut from, *to);
            let depthwise = ConvSpec::depthwise(before, 3).stride(if i == 2 { module.stride } else { 1 });
            [depthwise.bias(false), ConvSpec::new(before, *to, 1).bias(false)]
        };
        module.widths.iter().enumerate().map(pair).collect()
    }

    /// The projection of a module's input, if it needs one.
    fn projection(module: &XceptionModuleConfig, from: usize) -> Option<ConvSpec> {
        let [.., to] = module.widths;
        let needed = !module.plain && (to != from || module.stride != 1);
        needed.then(|| ConvSpec::new(from, to, 1).stride(module.stride).bias(false))
    }

    fn module(&self, module: &XceptionModuleConfig, from: usize, device: &Device) -> XceptionModule {
        let after = if module.plain { ActivationKind::Relu } else { ActivationKind::Identity };
        let stack = Self::layout(module, from).into_iter().enumerate().map(|(i, [depthwise, point])| Separable {
            norm: (self.norm_first && i > 0).then(|| self.norm(depthwise.from, ActivationKind::Relu, device)),
            conv_dw: depthwise.init(device),
            bn_dw: (!self.norm_first).then(|| self.norm(depthwise.to, after, device)),
            conv_pw: point.init(device),
            bn_pw: (!self.norm_first).then(|| self.norm(point.to, after, device)),
        });
        XceptionModule {
            norm: self.norm_first.then(|| self.norm(from, ActivationKind::Relu, device)),
            shortcut: Self::projection(module, from).map(|spec| match self.norm_first {
                true => Projection::Bare(spec.init(device)),
                false => Projection::Normed(self.conv(spec, ActivationKind::Identity, device)),
            }),
            stack: Named::counted("conv", stack),
            plain: module.plain,
            norm_first: self.norm_first,
        }
    }

    /// Whether a module is the last one of its grid.
    fn ends_grid(&self, module: usize) -> bool {
        self.modules.get(module + 1).is_none_or(|next| next.stride > 1)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Xception {
        let [first, second] = Self::stem_layout();
        let second = match self.norm_first {
            true => SecondStem::Bare(second.init(device)),
            false => SecondStem::Normed(self.conv(second, ActivationKind::Relu, device)),
        };
        let mut from = STEM[1];
        let blocks = self.modules.iter().map(|module| {
            let [.., to] = module.widths;
            self.module(module, std::mem::replace(&mut from, to), device)
        });
        Xception {
            stem: (self.conv(first, ActivationKind::Relu, device), second),
            blocks: blocks.collect(),
            config: self.clone(),
        }
    }
}

impl StagedConfig for XceptionConfig {
    fn check(&self) -> Result<()> {
        let sizes = self.modules.iter().flat_map(|module| module.widths);
        let positive = sizes.chain([self.image_size]).all(|n| (1..=MAX_SIZE).contains(&n));
        let strides = self.modules.iter().all(|module| [1, 2].contains(&module.stride));
        if !positive || !strides || self.modules.is_empty() {
            return Err(Error::usage(format!(
                "invalid Xception: image_size {}, modules {:?}",
                self.image_size, self.modules
            ))
            .hint("there must be modules, all sizes positive and at most 65536, and strides 1 or 2"));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        3 * self.modules.len()
    }

    fn layers(&self) -> Vec<LayerShape> {
        let (mut side, mut from, mut carried) = (self.image_size, STEM[1], 0);
        for spec in Self::stem_layout() {
            carried += spec.multiply_adds(side);
            side = spec.out_side(side);
        }
        let mut layers = Vec::new();
        for (i, module) in self.modules.iter().enumerate() {
            carried += Self::projection(module, from).map_or(0, |spec| spec.multiply_adds(side));
            for spec in Self::layout(module, from).into_iter().flatten() {
                carried += spec.multiply_adds(side);
                side = spec.out_side(side);
            }
            [.., from] = module.widths;
            if self.ends_grid(i) {
                layers.push(LayerShape { width: from, side, multiply_adds: std::mem::take(&mut carried) });
            }
        }
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.modules.len(), branches: 1 })
    }
}

impl Xception {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &XceptionConfig {
        &self.config
    }
}

impl StagedNetwork for Xception {
    fn depth(&self) -> usize {
        (0..self.config.modules.len()).filter(|module| self.config.ends_grid(*module)).count()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let (first, second) = &self.stem;
        let x = first.forward(pixels);
        let mut x = match second {
            SecondStem::Normed(conv) => conv.forward(x),
            SecondStem::Bare(conv) => conv.forward(x),
        };
        let mut outputs = Vec::with_capacity(count);
        for (i, module) in self.blocks.iter().enumerate() {
            x = module.forward(x, drop_path.factors(i, 0));
            if self.config.ends_grid(i) {
                // With `norm_first`, an activation follows the last module.
                let last = i + 1 == self.blocks.len() && self.config.norm_first;
                outputs.push(if last { relu(x.clone()) } else { x.clone() });
            }
            if outputs.len() == count {
                break;
            }
        }
        Ok(outputs)
    }
}

impl TimmModel for XceptionConfig {
    const CLASSES: &'static [&'static str] = &["XceptionAligned"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("act_layer", "\"ReLU\""), ("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let norm = NormActKind::from_timm(arguments, "norm_layer", NormActKind::default())?;
        let NormActKind::Batch { eps: norm_eps } = norm else {
            return Err(arguments.invalid("only batch norms are supported"));
        };
        let modules = arguments.read("block_cfg", modules)?;
        Ok(TimmNetwork::new(Self {
            image_size,
            modules: modules.ok_or_else(|| arguments.invalid("block_cfg is missing"))?,
            norm_first: arguments.flag("preact", false)?,
            norm_eps,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

/// A module in timm's `block_cfg`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimmModule {
    in_chs: usize,
    out_chs: Value,
    stride: usize,
    #[serde(default)]
    no_skip: bool,
    start_with_relu: Option<bool>,
}

/// Reads timm's `block_cfg`; the input channels of a module must be the output channels of the one before.
fn modules(value: &Value) -> Option<Vec<XceptionModuleConfig>> {
    let mut from = STEM[1];
    let module = |item: &Value| {
        let TimmModule { in_chs, out_chs, stride, no_skip, start_with_relu } = TimmModule::deserialize(item).ok()?;
        let widths = match out_chs.as_array() {
            Some(list) => list.iter().map(integer).collect::<Option<Vec<_>>>()?.try_into().ok()?,
            None => [integer(&out_chs)?; 3],
        };
        let fits =
            std::mem::replace(&mut from, widths[2]) == in_chs && start_with_relu.is_none_or(|relu| relu != no_skip);
        fits.then_some(XceptionModuleConfig { widths, stride, plain: no_skip })
    };
    value.as_array()?.iter().map(module).collect()
}
