//! Construction of a ResNet from its configuration.

use super::super::parts::{ActivationKind, AverageDown, Conv, ConvNormAct, ConvSpec, NormAct, Slot, divisible};
use super::block::{PlainBlock, Shortcut};
use super::config::ResBlockVariant;
use super::variants::{
    MultiScaleBlock, SelectiveAttention, SelectiveBlock, SelectiveConv, SelectiveKernel, SplitAttention, SplitBlock,
};
use super::{ResBlock, ResBlockKind, ResNet, ResNetConfig, ResStemKind, Stem};
use burn::tensor::Device;

/// The channels and the stride of a block.
#[derive(Clone, Copy)]
struct BlockShape {
    before: usize,
    /// Output channels of the first convolution.
    first: usize,
    /// Output channels of the second convolution.
    inner: usize,
    after: usize,
    /// Output channels before pruning.
    usual: usize,
    stride: usize,
}

impl ResNetConfig {
    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> ResNet {
        let conv = |from, to, kernel, stride| self.conv(ConvSpec::new(from, to, kernel).stride(stride), device);
        let (width, output) = (self.stem_width, self.stem_output());
        let deep = |first: usize| {
            Stem::Deep((
                conv(3, first, 3, 2),
                self.norm(first, true, device),
                Slot {},
                conv(first, width, 3, 1),
                self.norm(width, true, device),
                Slot {},
                conv(width, output, 3, 1),
            ))
        };
        let (mut before, mut run) = (output, 0);
        let [layer1, layer2, layer3, layer4] = [0, 1, 2, 3].map(|stage| {
            let blocks = (0..self.depths[stage]).map(|block| {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let made = self.numbered_block(stage, Some(run), before, stride, device);
                run += 1;
                before = self.width(stage);
                made
            });
            blocks.collect::<Vec<_>>()
        });
        ResNet {
            conv1: match self.stem {
                ResStemKind::Plain => Stem::Plain(conv(3, output, 7, 2)),
                ResStemKind::Deep => deep(width),
                ResStemKind::DeepTiered => deep(width / 4 * 3),
            },
            bn1: self.norm(output, true, device),
            maxpool: self.convolved_pool.then(|| (conv(output, output, 3, 2), self.norm(output, true, device))),
            layer1,
            layer2,
            layer3,
            layer4,
            config: self.clone(),
        }
    }

    fn conv(&self, spec: ConvSpec, device: &Device) -> Conv {
        spec.bias(false).init(device)
    }

    fn norm(&self, channels: usize, activated: bool, device: &Device) -> NormAct {
        let activation = if activated { self.activation } else { ActivationKind::Identity };
        self.norm_kind().init(channels, activation, device)
    }

    /// Builds a block of a stage for `before` input channels.
    pub(in crate::arch) fn block(&self, stage: usize, before: usize, stride: usize, device: &Device) -> ResBlock {
        self.numbered_block(stage, None, before, stride, device)
    }

    /// Builds a block of a stage; `run` is its number in a network whose channels were pruned.
    fn numbered_block(
        &self,
        stage: usize,
        run: Option<usize>,
        before: usize,
        stride: usize,
        device: &Device,
    ) -> ResBlock {
        let (channels, kind, after) = (self.channels[stage], self.kinds()[stage], self.width(stage));
        let inner = if kind == ResBlockKind::Basic { channels } else { self.inner(channels) };
        let pruned = self.pruned.as_ref().zip(run).and_then(|(pruned, run)| pruned.inner.get(run));
        let [first, inner] = pruned.copied().unwrap_or([inner / self.reduce_first, inner]);
        let shape = BlockShape { before, first, inner, after, usual: self.usual_width(stage), stride };
        match self.variant {
            None => ResBlock::Plain(self.plain_block(kind, shape, device)),
            Some(ResBlockVariant::MultiScale { scale }) => {
                ResBlock::MultiScale(self.multi_scale_block(scale, shape, device))
            }
            Some(ResBlockVariant::Split { radix, pool_first }) => {
                ResBlock::Split(self.split_block(radix, pool_first, shape, device))
            }
            Some(ResBlockVariant::Selective { ratio, divisor, split_input }) => {
                let hidden = divisible(ratio * inner as f64, divisor);
                ResBlock::Selective(self.selective_block(kind, hidden, split_input, shape, device))
            }
        }
    }

    fn shortcut(&self, shape: BlockShape, device: &Device) -> Option<Shortcut> {
        let BlockShape { before, after, stride, .. } = shape;
        let kernel = if stride == 1 { 1 } else { self.shortcut_kernel };
        let norm = || self.norm(after, false, device);
        (stride > 1 || before != after).then(|| match self.average_down {
            true => {
                let conv = self.conv(ConvSpec::new(before, after, 1), device);
                Shortcut::Average((AverageDown::new(stride), conv, norm()))
            }
            false => {
                let conv = self.conv(ConvSpec::new(before, after, kernel).stride(stride), device);
                Shortcut::Skip((conv, norm()))
            }
        })
    }

    fn plain_block(&self, kind: ResBlockKind, shape: BlockShape, device: &Device) -> PlainBlock {
        let BlockShape { before, first, inner, after, usual, stride } = shape;
        let anti_alias = self.anti_alias.filter(|_| stride > 1);
        let strided = if anti_alias.is_some() { 1 } else { stride };
        let conv = |spec: ConvSpec| self.conv(spec, device);
        let norm = |channels, activated| self.norm(channels, activated, device);
        let bottleneck = kind == ResBlockKind::Bottleneck;
        PlainBlock {
            conv1: if bottleneck {
                conv(ConvSpec::new(before, first, 1))
            } else {
                conv(ConvSpec::new(before, first, 3).stride(strided))
            },
            bn1: norm(first, true),
            conv2: if bottleneck {
                conv(ConvSpec::new(first, inner, 3).stride(strided).groups(self.groups))
            } else {
                conv(ConvSpec::new(first, after, 3))
            },
            bn2: if bottleneck { norm(inner, true) } else { norm(after, false) },
            conv3: bottleneck.then(|| conv(ConvSpec::new(inner, after, 1))),
            bn3: bottleneck.then(|| norm(after, false)),
            // Pruning keeps the kernels of efficient channel attention.
            se: self.attention.map(|kind| kind.init(usual, device)),
            downsample: self.shortcut(shape, device),
            activation: self.activation,
            anti_alias,
        }
    }

    fn multi_scale_block(&self, scale: usize, shape: BlockShape, device: &Device) -> MultiScaleBlock {
        let BlockShape { before, inner, after, stride, .. } = shape;
        let cascade = ConvSpec::new(inner, inner, 3).stride(stride).groups(self.groups);
        MultiScaleBlock {
            conv1: self.conv(ConvSpec::new(before, inner * scale, 1), device),
            bn1: self.norm(inner * scale, true, device),
            convs: (1..scale).map(|_| self.conv(cascade, device)).collect(),
            bns: (1..scale).map(|_| self.norm(inner, true, device)).collect(),
            conv3: self.conv(ConvSpec::new(inner * scale, after, 1), device),
            bn3: self.norm(after, false, device),
            se: self.attention.map(|kind| kind.init(after, device)),
            stride,
            downsample: self.shortcut(shape, device),
            activation: self.activation,
        }
    }

    fn split_block(&self, radix: usize, pool_first: bool, shape: BlockShape, device: &Device) -> SplitBlock {
        let BlockShape { before, inner, after, stride, .. } = shape;
        let hidden = divisible((inner * radix) as f64 / 4.0, 8).max(32);
        let dense = |from, to| ConvSpec::new(from, to, 1).groups(self.groups).init(device);
        SplitBlock {
            conv1: self.conv(ConvSpec::new(before, inner, 1), device),
            bn1: self.norm(inner, true, device),
            conv2: SplitAttention {
                conv: self.conv(ConvSpec::new(inner, inner * radix, 3).groups(self.groups * radix), device),
                bn0: self.norm(inner * radix, true, device),
                fc1: dense(inner, hidden),
                bn1: self.norm(hidden, true, device),
                fc2: dense(hidden, inner * radix),
                radix,
                groups: self.groups,
            },
            conv3: self.conv(ConvSpec::new(inner, after, 1), device),
            bn3: self.norm(after, false, device),
            downsample: self.shortcut(shape, device),
            stride,
            pool_first,
            activation: self.activation,
        }
    }

    fn selective_block(
        &self,
        kind: ResBlockKind,
        hidden: usize,
        split_input: bool,
        shape: BlockShape,
        device: &Device,
    ) -> SelectiveBlock {
        let BlockShape { before, inner, after, stride, .. } = shape;
        let conv = |spec: ConvSpec, activated: bool| {
            let activation = if activated { self.activation } else { ActivationKind::Identity };
            ConvNormAct::new(spec, self.norm_kind(), activation, None, device)
        };
        let kernel = |from: usize, groups: usize| {
            let part = if split_input { from / 2 } else { from };
            let path = ConvSpec::new(part, inner, 3).stride(stride).groups(groups.min(inner));
            SelectiveConv::Kernel(SelectiveKernel {
                paths: [1, 2].map(|dilation| conv(path.dilation(dilation), true)).into(),
                attn: SelectiveAttention {
                    fc_reduce: self.conv(ConvSpec::new(inner, hidden, 1), device),
                    bn: NormAct::batch(hidden, ActivationKind::Relu, device),
                    fc_select: self.conv(ConvSpec::new(hidden, 2 * inner, 1), device),
                },
                split_input,
            })
        };
        let plain = |spec: ConvSpec, activated: bool| SelectiveConv::Plain(conv(spec, activated));
        let (conv1, conv2, conv3) = match kind {
            ResBlockKind::Basic => (kernel(before, 1), plain(ConvSpec::new(inner, after, 3), false), None),
            ResBlockKind::Bottleneck => (
                plain(ConvSpec::new(before, inner, 1), true),
                kernel(inner, self.groups),
                Some(conv(ConvSpec::new(inner, after, 1), false)),
            ),
        };
        SelectiveBlock {
            conv1,
            conv2,
            conv3,
            se: self.attention.map(|kind| kind.init(after, device)),
            downsample: self.shortcut(shape, device),
            activation: self.activation,
        }
    }
}
