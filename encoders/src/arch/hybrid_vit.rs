//! Hybrid vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929): a ViT on the feature map of a ResNetV2 or of
//! convolutions. Parameter paths are `backbone` and `vit`, each with timm's own (dialects `timm-hybrid-vit` and
//! `timm-hybrid-vit-conv`). The layers that a tap can select are the blocks.

use super::drop_path::{DropPathMask, DropPathSpec};
use super::fields::{is_default, yes};
use super::limits::check_sizes;
use super::network::NetworkConfig;
use super::parts::tokens::check_size;
use super::parts::{ActivationKind, ChannelGroups, ConvNormAct, ConvSpec, NormActKind, Padding};
use super::resnetv2::{PoolPadding, ResNetV2, ResNetV2Config, ResNetV2Stem, ResNetV2StemKind};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use super::tap::Tap;
use super::vit::{Vit, VitConfig};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Output channels of the stages of a ResNetV2.
const WIDTHS: [usize; 4] = [256, 512, 1024, 2048];

/// Hyper-parameters of a hybrid vision transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HybridVitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Number of blocks per stage of the ResNetV2, at most four; empty for its stem alone. Absent for two convolutions
    /// of stride 8 in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resnet: Option<Vec<usize>>,
    /// Side of a patch, in positions of the feature map. Default 1.
    #[serde(default = "one")]
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Hidden channels of the MLPs.
    pub mlp_hidden: usize,
    /// Whether the class token has a position embedding. Default true.
    #[serde(default = "yes")]
    pub pos_embed_class: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn one() -> usize {
    1
}

impl HybridVitConfig {
    /// Channels of the feature map.
    fn channels(&self) -> usize {
        match self.resnet.as_deref() {
            None => self.width / 4,
            Some([]) => 64,
            Some(depths) => WIDTHS.get(depths.len() - 1).copied().unwrap_or(1),
        }
    }

    /// Stride of the feature map, in pixels.
    fn stride(&self) -> usize {
        self.resnet.as_deref().map_or(8, |depths| 4 << depths.len().saturating_sub(1).min(3))
    }

    /// The vision transformer, whose patches are those of the image.
    fn vit(&self) -> VitConfig {
        let patch = self.stride().saturating_mul(self.patch);
        let plain = VitConfig::plain(self.image_size, patch, self.width, self.depth, self.heads, self.mlp_hidden);
        VitConfig { pos_embed_class: self.pos_embed_class, drop_path: self.drop_path, ..plain }
    }

    /// The ResNetV2 of BiT with norms after the convolutions; stages that the hybrid lacks have one block.
    fn resnet(&self, depths: &[usize]) -> ResNetV2Config {
        let mut four = [1; 4];
        four.iter_mut().zip(depths).for_each(|(four, depth)| *four = *depth);
        ResNetV2Config {
            image_size: self.image_size,
            depths: four,
            widths: WIDTHS,
            bottleneck_ratio: 0.25,
            stem_width: 64,
            stem: ResNetV2StemKind::Plain,
            pool_padding: PoolPadding::Same,
            basic: false,
            pre_activation: false,
            average_down: false,
            standardised: Some(1e-8),
            same_padding: true,
            norm: NormActKind::Group { groups: ChannelGroups::Count(32), eps: 1e-5 },
            activation: ActivationKind::Relu,
            drop_path: 0.0,
        }
    }

    /// The two convolutions of a feature map without ResNetV2.
    fn convolutions(&self) -> [ConvSpec; 2] {
        let conv = |from: usize, kernel: usize| {
            ConvSpec::new(from, self.width / 4, kernel).stride(kernel).padding(Padding::Explicit(0)).bias(false)
        };
        [conv(3, 4), conv(self.width / 4, 2)]
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> HybridVit {
        let mut vit = self.vit().init(device);
        let patch = [self.patch; 2];
        vit.patch_embed.proj = Conv2dConfig::new([self.channels(), self.width], patch).with_stride(patch).init(device);
        let backbone = match self.resnet.as_deref() {
            None => {
                let [one, two] = self.convolutions().map(|spec| {
                    ConvNormAct::new(spec, NormActKind::Batch { eps: 1e-5 }, ActivationKind::Gelu, None, device)
                });
                Backbone::Convolutions((one, two))
            }
            Some([]) => Backbone::Stem(self.resnet(&[]).init(device).stem),
            Some(depths) => {
                let mut network = self.resnet(depths).init(device);
                network.stages.truncate(depths.len());
                Backbone::ResNet(network)
            }
        };
        HybridVit { backbone, vit, config: self.clone() }
    }

    /// Multiply-add operations of the feature map and the embedding of its patches.
    fn embedding_multiply_adds(&self) -> u64 {
        let side = self.image_size / self.stride();
        let map = match self.resnet.as_deref() {
            None => {
                let [one, two] = self.convolutions();
                one.multiply_adds(self.image_size) + two.multiply_adds(self.image_size / 4)
            }
            Some([]) => ConvSpec::new(3, 64, 7).stride(2).multiply_adds(self.image_size),
            Some(depths) => {
                self.resnet(depths).layers().iter().take(depths.len()).map(|layer| layer.multiply_adds).sum()
            }
        };
        let patch = ConvSpec::new(self.channels(), self.width, self.patch).stride(self.patch);
        map + patch.padding(Padding::Explicit(0)).multiply_adds(side)
    }
}

impl StagedConfig for HybridVitConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a hybrid vision transformer";
        check_sizes(WHAT, &[("image_size", self.image_size), ("patch", self.patch), ("width", self.width)])?;
        let patch = self.stride() * self.patch;
        if self.resnet.as_ref().is_some_and(|depths| depths.len() > 4)
            || !self.image_size.is_multiple_of(patch)
            || !self.width.is_multiple_of(4)
        {
            return Err(Error::usage(format!(
                "{WHAT} with resnet = {:?}, image_size = {} and width = {}",
                self.resnet, self.image_size, self.width
            ))
            .hint(format!("at most four stages, images of a multiple of {patch} pixels, a multiple of 4 channels")));
        }
        if let Some(depths) = &self.resnet {
            self.resnet(depths).check()?;
        }
        self.vit().validate()
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depth
    }

    fn layers(&self) -> Vec<LayerShape> {
        let vit = self.vit();
        let [side, _] = vit.grid();
        let plain = (side * side * self.width * 3 * vit.patch * vit.patch) as u64;
        let first = vit.tap_multiply_adds(&Tap { layer: 0, ..Tap::default() }).unwrap_or(plain);
        let layer = |i: usize| LayerShape {
            width: self.width,
            side,
            multiply_adds: first - plain + if i == 0 { self.embedding_multiply_adds() } else { 0 },
        };
        (0..self.depth).map(layer).collect()
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        self.vit().drop_path()
    }
}

impl TimmModel for HybridVitConfig {
    /// The name in our table for timm's `VisionTransformer` with another stem.
    const CLASSES: &'static [&'static str] = &["HybridVisionTransformer"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let stem = |layer: &Value| {
            let embed = layer.get("HybridEmbed")?;
            let backbone = embed.get("backbone")?;
            if let Some(depths) = backbone.get("ResNetV2") {
                return depths.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>().map(Some);
            }
            (backbone.get("module")? == "ConvStem" && embed.get("proj")? == false).then_some(None)
        };
        let resnet = arguments.read("embed_layer", stem)?;
        let resnet = resnet.ok_or_else(|| arguments.invalid("there is no embed_layer"))?;
        let patch = arguments.number("patch_size", 1)?;
        let (patch, dialect) = match &resnet {
            Some(_) => (patch, "timm-hybrid-vit"),
            // The last convolution of this stem embeds patches of 2×2 positions.
            None if patch == 1 => (2, "timm-hybrid-vit-conv"),
            None => return Err(arguments.invalid("a stem of convolutions with larger patches is not supported")),
        };
        let width = arguments.number("embed_dim", 768)?;
        let config = Self {
            image_size,
            resnet,
            patch,
            width,
            depth: arguments.number("depth", 12)?,
            heads: arguments.number("num_heads", 12)?,
            mlp_hidden: times(width, arguments.real("mlp_ratio")?.unwrap_or(4.0)),
            pos_embed_class: !arguments.flag("no_embed_class", false)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        };
        Ok(TimmNetwork::new(config).with_dialect(dialect))
    }
}

/// A hybrid vision transformer; see the module documentation.
#[derive(Module, Debug)]
pub struct HybridVit {
    /// Layers from pixels to the feature map.
    pub backbone: Backbone,
    /// The vision transformer; its patch embedding reads the feature map.
    pub vit: Vit,
    #[module(skip)]
    config: HybridVitConfig,
}

/// Layers from pixels to a feature map.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Backbone {
    /// A ResNetV2 without its last stages.
    ResNet(ResNetV2),
    /// The stem of a ResNetV2.
    Stem(ResNetV2Stem),
    /// Two convolutions with batch norms.
    Convolutions((ConvNormAct, ConvNormAct)),
}

impl HybridVit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &HybridVitConfig {
        &self.config
    }
}

impl StagedNetwork for HybridVit {
    fn depth(&self) -> usize {
        self.vit.blocks.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let map = match &self.backbone {
            Backbone::Convolutions((one, two)) => two.forward(one.forward(pixels)),
            Backbone::Stem(stem) => PoolPadding::Same.pool(stem.forward(pixels)),
            Backbone::ResNet(network) => {
                let last = network.outputs(pixels, network.stages.len(), &DropPathMask::none())?.pop();
                last.ok_or_else(|| Error::failed("a ResNetV2 without stages has no feature map"))?
            }
        };
        let patches = self.vit.patch_embed.forward(map);
        let ([batch, _, width], grid) = (patches.dims(), self.vit.config().grid());
        let positions = self.vit.attention_positions(grid, &patches.device())?;
        let mut x = self.vit.prepare(patches, grid);
        let mut outputs = Vec::new();
        for (i, block) in self.vit.blocks.iter().enumerate().take(count) {
            x = block.forward_with_drop_path(x, &positions, drop_path, i);
            let (_, patches) = self.vit.split(x.clone());
            outputs.push(patches.reshape([batch, grid[0], grid[1], width]).permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.vit.final_norm(tokens)
    }
}
