//! ResNet (He et al. 2016, arXiv:1512.03385) and ResNeXt (Xie et al. 2017, arXiv:1611.05431), with the stems and
//! shortcuts of "Bag of Tricks" (He et al. 2019, arXiv:1812.01187), channel attention (SE-ResNet, ECA-ResNet, SENet,
//! ResNet-RS), anti-aliasing, and the blocks of Res2Net, ResNeSt and SKNet. Parameter paths are those of timm's
//! `ResNet`, which are torchvision's.
//!
//! Batch norms always use their running statistics; see [`FrozenBatchNorm`](super::parts::FrozenBatchNorm).

mod block;
mod build;
mod config;
mod variants;

pub use block::PlainBlock;
pub(in crate::arch) use block::Walk;
pub use config::{PrunedChannels, ResBlockKind, ResBlockVariant, ResNetConfig, ResStemKind};
pub use variants::{MultiScaleBlock, SelectiveBlock, SplitBlock};

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::{AntiAlias, Conv, NormAct, Slot, max_pool};
use super::staged::{LayerShape, StagedNetwork};
use burgess_base::Result;
use burn::module::Module;
use burn::tensor::Tensor;

/// A ResNet or ResNeXt; see the module documentation.
#[derive(Module, Debug)]
pub struct ResNet {
    /// Stem: the convolutions before `bn1`, with a stride of 2 pixels.
    pub conv1: Stem,
    /// Norm and activation after `conv1`.
    pub bn1: NormAct,
    /// A 3×3 convolution of stride 2 in place of the stem's pooling, with norm and activation.
    pub maxpool: Option<(Conv, NormAct)>,
    /// The blocks of the first stage.
    pub layer1: Vec<ResBlock>,
    /// The blocks of the second stage.
    pub layer2: Vec<ResBlock>,
    /// The blocks of the third stage.
    pub layer3: Vec<ResBlock>,
    /// The blocks of the fourth and last stage.
    pub layer4: Vec<ResBlock>,
    #[module(skip)]
    config: ResNetConfig,
}

/// The stem convolutions, one variant per layout of [`ResStemKind`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has one stem")]
pub enum Stem {
    /// A single 7×7 convolution of stride 2.
    Plain(Conv),
    /// Three convolutions, each but the last followed by a norm and an activation.
    Deep((Conv, NormAct, Slot, Conv, NormAct, Slot, Conv)),
}

/// A residual block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has blocks of one kind")]
pub enum ResBlock {
    /// A basic block or a bottleneck.
    Plain(PlainBlock),
    /// A bottleneck of Res2Net.
    MultiScale(MultiScaleBlock),
    /// A bottleneck of ResNeSt.
    Split(SplitBlock),
    /// A block of SKNet.
    Selective(SelectiveBlock),
}

impl Stem {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Plain(conv) => conv.forward(pixels),
            Self::Deep((one, norm1, _, two, norm2, _, three)) => {
                let x = norm1.forward(one.forward(pixels));
                three.forward(norm2.forward(two.forward(x)))
            }
        }
    }

    fn walk(&self, walk: &mut Walk) {
        match self {
            Self::Plain(conv) => walk.conv(conv),
            Self::Deep((one, _, _, two, _, _, three)) => [one, two, three].into_iter().for_each(|conv| walk.conv(conv)),
        }
    }
}

impl ResBlock {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`.
    pub(in crate::arch) fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        match self {
            Self::Plain(block) => block.forward(x, factors),
            Self::MultiScale(block) => block.forward(x),
            Self::Split(block) => block.forward(x),
            Self::Selective(block) => block.forward(x, factors),
        }
    }

    pub(in crate::arch) fn walk(&self, walk: &mut Walk) {
        match self {
            Self::Plain(block) => block.walk(walk),
            Self::MultiScale(block) => block.walk(walk),
            Self::Split(block) => block.walk(walk),
            Self::Selective(block) => block.walk(walk),
        }
    }
}

impl ResNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    fn stages(&self) -> [&Vec<ResBlock>; 4] {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
    }

    /// Halves the output of the stem.
    fn pool(&self, x: Tensor<4>) -> Tensor<4> {
        match (&self.maxpool, self.config.anti_alias) {
            (Some((conv, norm)), _) => norm.forward(conv.forward(x)),
            (None, Some(AntiAlias::Average)) => AntiAlias::Average.forward(x),
            (None, Some(filter)) => filter.forward(max_pool(x, 3, 1, 1, false)),
            (None, None) => max_pool(x, 3, 2, 1, false),
        }
    }

    fn shapes(&self) -> Vec<LayerShape> {
        let mut walk = Walk { side: self.config.image_size, multiply_adds: 0 };
        self.conv1.walk(&mut walk);
        match (&self.maxpool, self.config.anti_alias) {
            (Some((conv, _)), _) => walk.conv(conv),
            (None, Some(filter)) => walk.filter(filter, self.config.stem_output()),
            (None, None) => walk.side = walk.side.div_ceil(2),
        }
        let mut shapes = Vec::new();
        for (stage, blocks) in self.stages().into_iter().enumerate() {
            blocks.iter().for_each(|block| block.walk(&mut walk));
            let Walk { side, multiply_adds } = walk;
            shapes.push(LayerShape { width: self.config.width(stage), side, multiply_adds });
            walk.multiply_adds = 0;
        }
        shapes
    }
}

impl StagedNetwork for ResNet {
    fn depth(&self) -> usize {
        self.config.depths.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let mut x = self.pool(self.bn1.forward(self.conv1.forward(pixels)));
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in self.stages().into_iter().take(count) {
            for block in stage {
                x = block.forward(x, drop_path.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}
