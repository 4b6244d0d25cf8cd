//! ResNet (He et al. 2016, arXiv:1512.03385) and ResNeXt (Xie et al. 2017, arXiv:1611.05431), with the stems and
//! shortcuts of "Bag of Tricks" (He et al. 2019, arXiv:1812.01187), channel attention (SE-ResNet, ECA-ResNet, SENet,
//! ResNet-RS) and anti-aliasing. Parameter paths are those of timm's `ResNet`, which are torchvision's.
//!
//! Batch norms always use their running statistics; see [`FrozenBatchNorm`](super::parts::FrozenBatchNorm).

mod config;

pub use config::{ResBlockKind, ResNetConfig, ResStemKind};

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::{ActivationKind, AntiAlias, AverageDown, ChannelAttention, Conv, NormAct, drop_branch, max_pool};
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
    Deep((Conv, NormAct, Activated, Conv, NormAct, Activated, Conv)),
}

/// The place of an activation in a sequence of layers; the norm before it applies the activation.
#[derive(Module, Debug, Default)]
pub struct Activated;

/// A residual block: a basic block of two convolutions, or a bottleneck block of three.
#[derive(Module, Debug)]
pub struct ResBlock {
    /// First convolution: 3×3 in a basic block, 1×1 in a bottleneck.
    pub conv1: Conv,
    /// Norm and activation after `conv1`.
    pub bn1: NormAct,
    /// Second convolution, 3×3.
    pub conv2: Conv,
    /// Norm after `conv2`, with an activation in a bottleneck.
    pub bn2: NormAct,
    /// Third convolution, 1×1; only in a bottleneck.
    pub conv3: Option<Conv>,
    /// Norm after `conv3`; only in a bottleneck.
    pub bn3: Option<NormAct>,
    /// Channel attention at the end of the branch.
    pub se: Option<ChannelAttention>,
    /// Projection shortcut, where the block's output has another shape than its input.
    pub downsample: Option<Shortcut>,
    #[module(skip)]
    activation: ActivationKind,
    /// Filter that takes the place of the stride.
    #[module(skip)]
    anti_alias: Option<AntiAlias>,
}

/// A projection shortcut around a residual block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "few blocks have a projection")]
pub enum Shortcut {
    /// A strided convolution.
    Skip((Conv, NormAct)),
    /// Average pooling, then a 1×1 convolution.
    Average((AverageDown, Conv, NormAct)),
}

/// Side of the map and multiply-adds so far, on the way through the layers of a network.
pub(in crate::arch) struct Walk {
    pub side: usize,
    pub multiply_adds: u64,
}

impl Walk {
    pub fn conv(&mut self, conv: &Conv) {
        self.multiply_adds += conv.spec().multiply_adds(self.side);
        self.side = conv.spec().out_side(self.side);
    }

    fn filter(&mut self, filter: AntiAlias, channels: usize) {
        self.multiply_adds += filter.multiply_adds(channels, self.side);
        self.side = filter.out_side(self.side);
    }
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

impl Shortcut {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Skip((conv, norm)) => norm.forward(conv.forward(x)),
            Self::Average((pool, conv, norm)) => norm.forward(conv.forward(pool.forward(x))),
        }
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        match self {
            Self::Skip((conv, _)) => conv.spec().multiply_adds(side),
            Self::Average((pool, conv, _)) => conv.spec().multiply_adds(pool.out_side(side)),
        }
    }
}

impl ResBlock {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`.
    pub(in crate::arch) fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let filter = |x: Tensor<4>| match self.anti_alias {
            Some(filter) => filter.forward(x),
            None => x,
        };
        let first = self.bn1.forward(self.conv1.forward(x.clone()));
        let mut branch = match (&self.conv3, &self.bn3) {
            (Some(conv), Some(norm)) => {
                let second = filter(self.bn2.forward(self.conv2.forward(first)));
                norm.forward(conv.forward(second))
            }
            _ => self.bn2.forward(self.conv2.forward(filter(first))),
        };
        if let Some(attention) = &self.se {
            branch = attention.forward(branch);
        }
        let shortcut = self.downsample.as_ref().map_or(x.clone(), |way| way.forward(x));
        self.activation.forward(shortcut + drop_branch(branch, factors))
    }

    pub(in crate::arch) fn walk(&self, walk: &mut Walk) {
        walk.multiply_adds += self.downsample.as_ref().map_or(0, |way| way.multiply_adds(walk.side));
        let filtered = if self.conv3.is_some() { &self.conv2 } else { &self.conv1 };
        for conv in [&self.conv1, &self.conv2].into_iter().chain(&self.conv3) {
            walk.conv(conv);
            if let Some(filter) = self.anti_alias.filter(|_| std::ptr::eq(conv, filtered)) {
                walk.filter(filter, conv.spec().to);
            }
        }
        walk.multiply_adds += self.se.as_ref().map_or(0, |attention| attention.multiply_adds(walk.side));
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
