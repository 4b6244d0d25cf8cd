//! VGG (Simonyan & Zisserman 2014, arXiv:1409.1556), with and without batch norms. Parameter paths are those of timm's
//! `VGG`.

use super::drop_path::DropPathMask;
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{Conv, ConvSpec, FrozenBatchNorm, Slot, max_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Hyper-parameters of a VGG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VggConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Output channels of the 3×3 convolutions of each stage; max pooling halves the grid after every stage.
    pub stages: Vec<Vec<usize>>,
    /// Whether a batch norm follows every convolution. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub norm: bool,
}

/// A VGG. A tap's layers are the stages' outputs before max pooling; the last layer is the output of the last pooling.
#[derive(Module, Debug)]
pub struct Vgg {
    /// All layers in order; those without parameters take an index, too.
    pub features: Vec<VggLayer>,
    #[module(skip)]
    config: VggConfig,
}

/// A layer of a VGG.
#[derive(Module, Debug)]
pub enum VggLayer {
    /// A 3×3 convolution.
    Conv(Conv),
    /// A batch norm.
    Norm(FrozenBatchNorm),
    /// A ReLU.
    Relu(Slot),
    /// Max pooling of 2×2 positions.
    Pool(Slot),
}

impl VggConfig {
    /// The convolutions of each stage.
    fn layout(&self) -> Vec<Vec<ConvSpec>> {
        let mut from = 3;
        let mut spec = |to: usize| ConvSpec::new(std::mem::replace(&mut from, to), to, 3);
        self.stages.iter().map(|stage| stage.iter().map(|to| spec(*to)).collect()).collect()
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Vgg {
        let mut features = Vec::new();
        for stage in self.layout() {
            for spec in stage {
                features.push(VggLayer::Conv(spec.init(device)));
                if self.norm {
                    features.push(VggLayer::Norm(FrozenBatchNorm::new(spec.to, 1e-5, device)));
                }
                features.push(VggLayer::Relu(Slot {}));
            }
            features.push(VggLayer::Pool(Slot {}));
        }
        Vgg { features, config: self.clone() }
    }
}

impl StagedConfig for VggConfig {
    fn check(&self) -> Result<()> {
        let all = || self.stages.iter().flatten();
        let positive = all().chain([&self.image_size]).all(|n| (1..=MAX_SIZE).contains(n));
        let full =
            !self.stages.is_empty() && self.stages.len() < 16 && self.stages.iter().all(|stage| !stage.is_empty());
        if !positive || !full || self.image_size >> self.stages.len() == 0 {
            return Err(Error::usage(format!(
                "invalid VGG: image_size {}, stages {:?}",
                self.image_size, self.stages
            ))
            .hint("every stage needs convolutions, all numbers must be positive and at most 65536, and the grid not empty"));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.stages.iter().map(Vec::len).sum()
    }

    fn layers(&self) -> Vec<LayerShape> {
        let (mut side, mut width, mut layers) = (self.image_size, 3, Vec::new());
        for stage in self.layout() {
            width = stage.last().map_or(width, |spec| spec.to);
            let multiply_adds = stage.iter().map(|spec| spec.multiply_adds(side)).sum();
            layers.push(LayerShape { width, side, multiply_adds });
            side /= 2;
        }
        layers.push(LayerShape { width, side, multiply_adds: 0 });
        layers
    }
}

impl Vgg {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &VggConfig {
        &self.config
    }
}

impl StagedNetwork for Vgg {
    fn depth(&self) -> usize {
        self.config.stages.len() + 1
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let mut x = pixels;
        let mut outputs = Vec::with_capacity(count);
        for layer in &self.features {
            x = match layer {
                VggLayer::Conv(conv) => conv.forward(x),
                VggLayer::Norm(norm) => norm.forward(x),
                VggLayer::Relu(_) => relu(x),
                VggLayer::Pool(_) => {
                    outputs.push(x.clone());
                    if outputs.len() == count {
                        return Ok(outputs);
                    }
                    max_pool(x, 2, 2, 0, false)
                }
            };
        }
        outputs.push(x);
        Ok(outputs)
    }
}

impl TimmModel for VggConfig {
    const CLASSES: &'static [&'static str] = &["VGG"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("act_layer", "\"ReLU\""), ("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "mlp_ratio"]);
        let norm = arguments.one_of("norm_layer", "", &[("", false), ("BatchNorm2d", true)])?;
        let stages = arguments.read("model_cfg", stages)?;
        let stages = stages.ok_or_else(|| arguments.invalid("model_cfg is missing"))?;
        Ok(TimmNetwork::new(Self { image_size, stages, norm }).with_dialect("timm-vgg"))
    }
}

/// Reads timm's list of numbers of channels and of poolings, `"M"`; it must end with one.
fn stages(value: &Value) -> Option<Vec<Vec<usize>>> {
    let mut stages = vec![Vec::new()];
    for item in value.as_array()? {
        match item.as_str() {
            Some("M") => stages.push(Vec::new()),
            Some(_) => return None,
            None => stages.last_mut()?.push(integer(item)?),
        }
    }
    stages.pop().filter(Vec::is_empty).map(|_| stages)
}
