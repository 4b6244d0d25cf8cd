//! Encoder architectures, one file or folder per family, behind one interface: [`NetworkConfig`] and [`Network`].
//!
//! To add an architecture, write its module (a configuration, a network, and the traits [`StagedConfig`],
//! [`StagedNetwork`] and `TimmModel`, or [`NetworkConfig`] and [`Network`]; see CONTRIBUTING.md), and add its line to
//! the table `architectures!` below. Module paths mirror timm's checkpoint keys, so that a checkpoint needs no
//! translation table.

mod block;
mod byobnet;
mod channel_norm;
mod convit;
mod convnext;
mod crossvit;
mod cspnet;
mod davit;
mod densenet;
mod dla;
mod dpn;
mod drop_path;
mod edgenext;
mod efficientformer;
mod efficientformer_v2;
mod efficientnet;
mod efficientvit_mit;
mod efficientvit_msra;
mod fasternet;
mod fields;
mod focalnet;
mod gcvit;
mod ghostnet;
mod hgnet;
mod hiera;
mod hrnet;
mod hybrid_vit;
mod levit;
mod limits;
mod maxxvit;
mod mvit;
mod native;
mod nest;
mod network;
mod nfnet;
pub mod parts;
mod pvt;
mod rdnet;
mod regnet;
mod repvit;
mod resnet;
mod resnetv2;
mod rexnet;
mod rotary;
mod sam;
mod shvit;
mod stable_diffusion;
mod staged;
mod starnet;
mod swiftformer;
mod swin;
mod tap;
mod tiny_vit;
mod tnt;
mod tresnet;
mod twins;
mod vgg;
mod vit;
mod volo;
mod vovnet;
mod xception;

mod cait;
mod coat;
mod convmixer;
mod fastvit;
mod inception_next;
mod mambaout;
mod metaformer;
mod mixer;
mod nextvit;
mod pit;
mod sequencer;
mod visformer;
mod vitamin;
mod xcit;

pub use crate::operands::Activation;
pub(crate) use block::blocks;
pub use block::{AttentionPositions, Block, Mlp, QkNorm};
pub use byobnet::{
    ByobBlockConfig, ByobBlockKind, ByobStemConfig, ByobStemKind, ByobStemPool, ByobTransformerConfig,
    SelfAttentionKind,
};
pub use channel_norm::{ChannelNorm, NormKind};
pub use convnext::StemKind;
pub use cspnet::{CspBlockKind, CspStageConfig, CspStageKind};
pub use dla::DlaBlockKind;
pub use drop_path::{DropPathMask, DropPathSpec};
pub use edgenext::EdgeStemKind;
pub use efficientnet::{MobileBlockConfig, MobileBlockKind, PaddingKind, SqueezeKind};
pub use ghostnet::{GhostBlockConfig, GhostVersion};
pub use hgnet::{HgStageConfig, HgVersion};
pub use hiera::HieraPositions;
pub use hrnet::HrStageConfig;
pub use maxxvit::{
    MaxxVitAttentionConfig, MaxxVitBlockKind, MaxxVitConvConfig, MaxxVitConvKind, MaxxVitPool, MaxxVitPositions,
    MaxxVitStride,
};
pub use native::{NativeRotary, PatchWeight, PositionResampling};
pub use network::{Network, NetworkConfig, TapSupport};
pub use nfnet::NfStemKind;
pub use rdnet::RdStageConfig;
pub use resnet::{PrunedChannels, ResBlockKind, ResBlockVariant, ResStemKind};
pub use resnetv2::{PoolPadding, ResNetV2StemKind};
pub use rotary::Rotary;
pub use stable_diffusion::{PromptConfig, Schedule, SchedulerConfig, UnetConfig, VaeConfig};
pub use staged::{LayerShape, StagedConfig, StagedNetwork};
pub use swin::SwinVersion;
pub use tap::{Tap, Tokens};
pub use vit::{LogCoordinates, PositionKernel, RelativeBias, RelativeMlp};
pub use xception::XceptionModuleConfig;

pub use fastvit::FastVitMixerKind;
pub use metaformer::{MetaFormerNorm, TokenMixerKind};
pub use mixer::MixerBlockKind;

use crate::features::FeatureMap;
use crate::precision::ComputePrecision;
use crate::timm::{TimmArguments, TimmModel, TimmNetwork};
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Generates [`ArchitectureConfig`] and [`Architecture`] from one table: name in cards, module, network, configuration.
macro_rules! architectures {
    ($($(#[$doc:meta])* $name:literal => $module:ident::{$network:ident, $config:ident},)+) => {
        $(pub use $module::{$network, $config};)+

        /// Hyper-parameters of an architecture, as an encoder card states them under `architecture = "vit"` and so on.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "architecture")]
        pub enum ArchitectureConfig {
            $($(#[$doc])* #[serde(rename = $name)] $network($config),)+
        }

        /// The network of an encoder.
        ///
        /// Burn adds the variant's name to parameter paths when this enum is traversed; load and save checkpoints
        /// through the inner module to keep timm's keys.
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant)]
        pub enum Architecture {
            $($(#[$doc])* $network($network),)+
        }

        impl ArchitectureConfig {
            /// The names of all architectures in cards.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The name of the architecture in cards.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$network(_) => $name,)+
                }
            }

            /// The configuration as its interface.
            fn inner(&self) -> &dyn NetworkConfig {
                match self {
                    $(Self::$network(config) => config,)+
                }
            }

            /// Describes the network that timm builds from `arguments`, for images of `image_size` pixels; `None` if no
            /// architecture reads the arguments' class.
            ///
            /// # Errors
            /// An argument has a value that is not supported.
            pub(crate) fn from_timm(
                arguments: &mut TimmArguments,
                image_size: usize,
            ) -> Result<Option<TimmNetwork<Self>>> {
                $(if <$config as TimmModel>::reads(arguments) {
                    return Ok(Some(<$config>::from_timm(arguments, image_size)?.map(Self::$network)));
                })+
                Ok(None)
            }

            /// Builds a network with placeholder weights; load a checkpoint or call [`crate::init::initialise`] next.
            ///
            /// # Errors
            /// As [`ArchitectureConfig::validate`].
            pub fn init(&self, device: &Device) -> Result<Architecture> {
                self.validate()?;
                Ok(match self {
                    $(Self::$network(config) => Architecture::$network(config.init(device)),)+
                })
            }
        }

        impl Architecture {
            /// The network as its interface.
            fn inner(&self) -> &dyn Network {
                match self {
                    $(Self::$network(network) => network,)+
                }
            }

            /// Returns the configuration that this network was built from.
            pub fn config(&self) -> ArchitectureConfig {
                match self {
                    $(Self::$network(network) => ArchitectureConfig::$network(network.config().clone()),)+
                }
            }
        }
    };
}

architectures! {
    /// A ViTamin; timm's class is that of `vit`.
    "vitamin" => vitamin::{Vitamin, VitaminConfig},
    /// A plain vision transformer (ViT).
    "vit" => vit::{Vit, VitConfig},
    /// A vision transformer for images of any size and aspect ratio.
    "native-vit" => native::{NativeVit, NativeVitConfig},
    /// A ConvNeXt or ConvNeXt V2.
    "convnext" => convnext::{ConvNext, ConvNextConfig},
    /// A ResNet or ResNeXt.
    "resnet" => resnet::{ResNet, ResNetConfig},
    /// A ResNetV2, with norms before the convolutions.
    "resnetv2" => resnetv2::{ResNetV2, ResNetV2Config},
    /// A normaliser-free network.
    "nfnet" => nfnet::{NfNet, NfNetConfig},
    /// A RegNet.
    "regnet" => regnet::{RegNet, RegNetConfig},
    /// A ByobNet of timm: GENet, RepVGG, MobileOne, the ResNets of CLIP and others.
    "byobnet" => byobnet::{ByobNet, ByobNetConfig},
    /// A PoolFormer, ConvFormer or CAFormer.
    "metaformer" => metaformer::{MetaFormer, MetaFormerConfig},
    /// An XCiT.
    "xcit" => xcit::{Xcit, XcitConfig},
    /// A FastViT or an image tower MCi of MobileCLIP.
    "fastvit" => fastvit::{FastVit, FastVitConfig},
    /// A network of MLPs: MLP-Mixer, gMixer, ResMLP or gMLP.
    "mixer" => mixer::{Mixer, MixerConfig},
    /// A MambaOut.
    "mambaout" => mambaout::{MambaOut, MambaOutConfig},
    /// A CaiT.
    "cait" => cait::{Cait, CaitConfig},
    /// A CoaT or CoaT-Lite.
    "coat" => coat::{Coat, CoatConfig},
    /// A PiT.
    "pit" => pit::{Pit, PitConfig},
    /// A Next-ViT.
    "next-vit" => nextvit::{NextVit, NextVitConfig},
    /// An InceptionNeXt.
    "inception-next" => inception_next::{InceptionNext, InceptionNextConfig},
    /// A ConvMixer.
    "convmixer" => convmixer::{ConvMixer, ConvMixerConfig},
    /// A Sequencer.
    "sequencer" => sequencer::{Sequencer, SequencerConfig},
    /// A Visformer.
    "visformer" => visformer::{Visformer, VisformerConfig},
    /// The image encoder of SAM.
    "sam" => sam::{Sam, SamConfig},
    /// A Swin Transformer, version 1 or 2.
    "swin" => swin::{Swin, SwinConfig},
    /// A Hiera, also that of SAM 2.
    "hiera" => hiera::{Hiera, HieraConfig},
    /// A FocalNet.
    "focalnet" => focalnet::{FocalNet, FocalNetConfig},
    /// A PVT V2.
    "pvt-v2" => pvt::{Pvt, PvtConfig},
    /// A Twins, PCPVT or SVT.
    "twins" => twins::{Twins, TwinsConfig},
    /// A DaViT.
    "davit" => davit::{Davit, DavitConfig},
    /// An MViT V2.
    "mvit-v2" => mvit::{Mvit, MvitConfig},
    /// A CrossViT.
    "crossvit" => crossvit::{Crossvit, CrossvitConfig},
    /// A TNT, transformer in transformer.
    "tnt" => tnt::{Tnt, TntConfig},
    /// A ConViT.
    "convit" => convit::{Convit, ConvitConfig},
    /// A vision transformer on the feature map of a ResNetV2 or of convolutions.
    "hybrid-vit" => hybrid_vit::{HybridVit, HybridVitConfig},
    /// A GC ViT.
    "gcvit" => gcvit::{Gcvit, GcvitConfig},
    /// A NesT.
    "nest" => nest::{Nest, NestConfig},
    /// A VOLO.
    "volo" => volo::{Volo, VoloConfig},
    /// A CoAtNet, a MaxViT, or one of their variants.
    "maxxvit" => maxxvit::{MaxxVit, MaxxVitConfig},
    /// A PP-HGNet or PP-HGNetV2.
    "hgnet" => hgnet::{HgNet, HgNetConfig},
    /// A DLA, also with the cascades of Res2Net.
    "dla" => dla::{Dla, DlaConfig},
    /// A DenseNet.
    "densenet" => densenet::{DenseNet, DenseNetConfig},
    /// A DPN.
    "dpn" => dpn::{Dpn, DpnConfig},
    /// A VGG.
    "vgg" => vgg::{Vgg, VggConfig},
    /// A VoVNet V1 or V2.
    "vovnet" => vovnet::{VovNet, VovNetConfig},
    /// A network of cross stages (CSPNet) or a DarkNet.
    "cspnet" => cspnet::{CspNet, CspNetConfig},
    /// A TResNet.
    "tresnet" => tresnet::{TResNet, TResNetConfig},
    /// An HRNet.
    "hrnet" => hrnet::{HrNet, HrNetConfig},
    /// An RDNet.
    "rdnet" => rdnet::{RdNet, RdNetConfig},
    /// A mobile network of inverted residual blocks: EfficientNet, MobileNet V1 to V4 and their like.
    "efficientnet" => efficientnet::{EfficientNet, EfficientNetConfig},
    /// An EfficientViT of MIT.
    "efficientvit-mit" => efficientvit_mit::{EfficientVitMit, EfficientVitMitConfig},
    /// A GhostNet V1 to V3 or RepGhost.
    "ghostnet" => ghostnet::{GhostNet, GhostNetConfig},
    /// A LeViT.
    "levit" => levit::{Levit, LevitConfig},
    /// A FasterNet.
    "fasternet" => fasternet::{FasterNet, FasterNetConfig},
    /// A RepViT.
    "repvit" => repvit::{RepVit, RepVitConfig},
    /// A ReXNet.
    "rexnet" => rexnet::{RexNet, RexNetConfig},
    /// A StarNet.
    "starnet" => starnet::{StarNet, StarNetConfig},
    /// A TinyViT.
    "tiny-vit" => tiny_vit::{TinyVit, TinyVitConfig},
    /// An SHViT.
    "shvit" => shvit::{ShVit, ShVitConfig},
    /// A SwiftFormer.
    "swiftformer" => swiftformer::{SwiftFormer, SwiftFormerConfig},
    /// An EfficientFormer.
    "efficientformer" => efficientformer::{EfficientFormer, EfficientFormerConfig},
    /// An EdgeNeXt.
    "edgenext" => edgenext::{EdgeNext, EdgeNextConfig},
    /// An EfficientViT of Microsoft.
    "efficientvit-msra" => efficientvit_msra::{EfficientVitMsra, EfficientVitMsraConfig},
    /// An aligned Xception.
    "xception" => xception::{Xception, XceptionConfig},
    /// An EfficientFormerV2.
    "efficientformer-v2" => efficientformer_v2::{EfficientFormerV2, EfficientFormerV2Config},
    /// Stable Diffusion: VAE encoder, U-Net and text encoder.
    "stable-diffusion" => stable_diffusion::{StableDiffusion, StableDiffusionConfig},
}

impl ArchitectureConfig {
    /// Checks the hyper-parameters; [`ArchitectureConfig::init`] relies on it.
    ///
    /// # Errors
    /// The first invalid value or combination of values.
    pub fn validate(&self) -> Result<()> {
        self.inner().validate()
    }

    /// Checks before a network is built that a file of `tensors` tensors can hold the weights of all layers.
    ///
    /// # Errors
    /// The configuration has more layers than the file has tensors.
    pub fn check_layers(&self, tensors: usize) -> Result<()> {
        let layers = self.inner().min_layers();
        if layers > tensors {
            return Err(Error::failed(format!(
                "the configuration asks for {layers} layers (depth), but the file has {tensors} tensors in all"
            ))
            .hint("the configuration and the weights belong to different models"));
        }
        Ok(())
    }

    /// Checks that this architecture can provide the features that `tap` selects.
    ///
    /// # Errors
    /// As [`NetworkConfig::check_tap`].
    pub fn check_tap(&self, tap: &Tap) -> Result<()> {
        self.inner().check_tap(tap)
    }

    /// Grid of the features at `tap`, `[rows, columns]`, for the image size of the configuration.
    ///
    /// # Errors
    /// As [`NetworkConfig::tap_grid`].
    pub fn grid(&self, tap: &Tap) -> Result<[usize; 2]> {
        self.inner().tap_grid(tap)
    }

    /// Number of channels of the features at `tap`.
    ///
    /// # Errors
    /// As [`NetworkConfig::tap_support`].
    pub fn width(&self, tap: &Tap) -> Result<usize> {
        self.inner().tap_width(tap)
    }

    /// Number of channels of the pooled output, [`Architecture::pooled`].
    pub fn pooled_width(&self) -> usize {
        self.inner().pooled_width()
    }

    /// Side of the square images that the network is built for, in pixels.
    pub fn image_size(&self) -> usize {
        self.inner().image_size()
    }

    /// Floating-point operations for the features of one image up to `tap`. A multiply-add counts as two operations;
    /// only matrix products and convolutions are counted, as is usual in the papers.
    ///
    /// # Errors
    /// As [`NetworkConfig::tap_support`].
    pub fn flops(&self, tap: &Tap) -> Result<u64> {
        Ok(2 * self.inner().tap_multiply_adds(tap)?)
    }

    /// Whether the network applies its final norm to every token of the last layer, and not only to the pooled output.
    pub fn norms_last_tokens(&self) -> bool {
        self.inner().norms_last_tokens()
    }

    /// The number of pixels of which both sides of an image must be multiples, if the network accepts images of any
    /// size and aspect ratio; `None` if it does not.
    pub fn takes_any_grid(&self) -> Option<usize> {
        self.inner().takes_any_grid()
    }

    /// Checks that the network computes in this precision.
    ///
    /// # Errors
    /// It does not.
    pub fn check_precision(&self, precision: ComputePrecision) -> Result<()> {
        if precision.is_f32() || self.inner().computes_bf16() {
            return Ok(());
        }
        let name = self.name();
        Err(Error::usage(format!("the architecture `{name}` computes in f32 only, not in {precision}"))
            .hint("leave `precision` out: f32 is the default"))
    }

    /// Drop path in training; `None` if the architecture has none upstream.
    pub fn drop_path(&self) -> Option<DropPathSpec> {
        self.inner().drop_path()
    }
}

impl Architecture {
    /// Features of normalised images `[batch, 3, height, width]` at `tap`; no branch is dropped.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn forward(&self, pixels: Tensor<4>, tap: &Tap) -> Result<FeatureMap> {
        self.forward_with_drop_path(pixels, tap, &DropPathMask::none())
    }

    /// Features as from [`Architecture::forward`], with the drop-path mask of a training step.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn forward_with_drop_path(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        self.config().check_tap(tap)?;
        self.inner().features(pixels, tap, drop_path)
    }

    /// Draws the drop-path mask for `batch` images from the stream, with the configuration's rate; a rate of 0 draws
    /// no random numbers, and the mask of an architecture without drop path is empty.
    pub fn draw_drop_path(&self, batch: usize, stream: &mut Stream, device: &Device) -> DropPathMask {
        self.config().inner().draw_drop_path(batch, stream, device)
    }

    /// Pooled output, one vector per image, `[batch, width]`, for image-level objectives. A ViT returns the class token
    /// after the final norm (without class token the mean of the patch tokens), a ConvNeXt the normalised mean, and
    /// ResNet, SAM and Stable Diffusion the mean of the last feature map.
    ///
    /// # Errors
    /// As [`Network::pooled`].
    pub fn pooled(&self, pixels: Tensor<4>) -> Result<Tensor<2>> {
        self.pooled_with_drop_path(pixels, &DropPathMask::none())
    }

    /// Pooled output as from [`Architecture::pooled`], with the drop-path mask of a training step.
    ///
    /// # Errors
    /// As [`Network::pooled`].
    pub fn pooled_with_drop_path(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        self.inner().pooled(pixels, drop_path)
    }
}
