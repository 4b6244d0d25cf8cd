//! HRNet (Wang et al. 2019, arXiv:1908.07919): branches of several resolutions side by side, which are added to each
//! other after every module. Parameter paths are those of timm's `HighResolutionNet`.

use super::drop_path::DropPathMask;
use super::fields::yes;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{ActivationKind, Conv, ConvSpec, NormAct, NormActKind, Slot};
use super::resnet::{ResBlock, ResBlockKind, ResNetConfig, Walk};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Output channels of the stem.
const STEM: usize = 64;

/// Inner channels of the bottlenecks that join the branches, finest first.
const JOINED: [usize; 4] = [32, 64, 128, 256];

/// Channels of the last layer.
const LAST: usize = 2048;

/// A stage of a [`HrNetConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HrStageConfig {
    /// Kind of the residual blocks.
    pub block: ResBlockKind,
    /// Number of modules, each of which ends with an exchange between the branches.
    pub modules: usize,
    /// Number of blocks of a module, per branch.
    pub depths: Vec<usize>,
    /// Channels of the blocks' 3×3 convolutions, per branch.
    pub channels: Vec<usize>,
}

/// Hyper-parameters of an HRNet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HrNetConfig {
    /// Side of the square input images, in pixels; a multiple of 32.
    pub image_size: usize,
    /// Channels between the stem's two convolutions.
    pub stem_width: usize,
    /// The four stages, with one to four branches.
    pub stages: [HrStageConfig; 4],
    /// Whether the convolutions after the branches have biases. Default true.
    #[serde(default = "yes")]
    pub head_bias: bool,
}

/// An HRNet. A tap's layers are the joined branches, finest first, then the 1×1 convolution to 2048 channels.
#[derive(Module, Debug)]
pub struct HrNet {
    /// First convolution of the stem, of stride 2.
    pub conv1: Conv,
    /// Norm after `conv1`.
    pub bn1: NormAct,
    /// Second convolution of the stem, of stride 2.
    pub conv2: Conv,
    /// Norm after `conv2`.
    pub bn2: NormAct,
    /// Blocks of the first stage.
    pub layer1: Vec<ResBlock>,
    /// Links to the second stage's branches.
    pub transition1: Vec<Link>,
    /// Modules of the second stage.
    pub stage2: Vec<HrModule>,
    /// Links to the third stage's branches.
    pub transition2: Vec<Link>,
    /// Modules of the third stage.
    pub stage3: Vec<HrModule>,
    /// Links to the fourth stage's branches.
    pub transition3: Vec<Link>,
    /// Modules of the fourth stage.
    pub stage4: Vec<HrModule>,
    /// A bottleneck per branch.
    pub incre_modules: Vec<Vec<ResBlock>>,
    /// 3×3 convolutions of stride 2 from each branch to the next.
    pub downsamp_modules: Vec<(Conv, NormAct)>,
    /// 1×1 convolution to 2048 channels.
    pub final_layer: (Conv, NormAct),
    #[module(skip)]
    config: HrNetConfig,
}

/// Blocks on every branch, then links between all branches.
#[derive(Module, Debug)]
pub struct HrModule {
    /// Blocks per branch.
    pub branches: Vec<Vec<ResBlock>>,
    /// Links per output branch, one for each input branch.
    pub fuse_layers: Vec<Vec<Link>>,
}

/// A way from one branch to another.
// Most are convolutions.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Link {
    /// The same branch, unchanged.
    Keep(Slot),
    /// A convolution that keeps the grid or, with a scale, is followed by an enlargement.
    Point((Conv, NormAct, Enlarge)),
    /// Convolutions of stride 2.
    Down(Vec<(Conv, NormAct)>),
}

/// Repeats every position `scale` × `scale` times.
#[derive(Module, Debug)]
pub struct Enlarge {
    scale: usize,
}

fn layer(spec: ConvSpec, activation: ActivationKind, device: &Device) -> (Conv, NormAct) {
    (spec.bias(false).init(device), NormActKind::default().init(spec.to, activation, device))
}

impl Link {
    /// Convolutions of stride 2 from `from` channels to `to`; the last one has the activation `last`.
    fn down(from: usize, to: usize, count: usize, last: ActivationKind, device: &Device) -> Self {
        let step = |i: usize| {
            let end = i + 1 == count;
            let spec = ConvSpec::new(from, if end { to } else { from }, 3).stride(2);
            layer(spec, if end { last } else { ActivationKind::Relu }, device)
        };
        Self::Down((0..count).map(step).collect())
    }

    fn point(spec: ConvSpec, activation: ActivationKind, scale: usize, device: &Device) -> Self {
        let (conv, norm) = layer(spec, activation, device);
        Self::Point((conv, norm, Enlarge { scale }))
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Keep(_) => x,
            Self::Point((conv, norm, enlarge)) => enlarge.forward(norm.forward(conv.forward(x))),
            Self::Down(layers) => layers.iter().fold(x, |x, (conv, norm)| norm.forward(conv.forward(x))),
        }
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        let mut walk = Walk { side, multiply_adds: 0 };
        match self {
            Self::Keep(_) => {}
            Self::Point((conv, ..)) => walk.conv(conv),
            Self::Down(layers) => layers.iter().for_each(|(conv, _)| walk.conv(conv)),
        }
        walk.multiply_adds
    }
}

impl Enlarge {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let ([batch, channels, rows, columns], scale) = (x.dims(), self.scale);
        if scale == 1 {
            return x;
        }
        let x: Tensor<6> = x.reshape([batch, channels, rows, 1, columns, 1]);
        x.repeat(&[1, 1, 1, scale, 1, scale]).reshape([batch, channels, rows * scale, columns * scale])
    }
}

fn run(blocks: &[ResBlock], x: Tensor<4>) -> Tensor<4> {
    blocks.iter().fold(x, |x, block| block.forward(x, None))
}

impl HrModule {
    fn forward(&self, branches: Vec<Tensor<4>>) -> Vec<Tensor<4>> {
        let branches: Vec<_> = branches.into_iter().zip(&self.branches).map(|(x, blocks)| run(blocks, x)).collect();
        let fused = self.fuse_layers.iter().map(|links| {
            let parts = links.iter().zip(&branches).map(|(link, x)| link.forward(x.clone()));
            parts.reduce(|sum, part| sum + part).map(relu)
        });
        fused.flatten().collect()
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        let mut total = 0;
        for (i, blocks) in self.branches.iter().enumerate() {
            let mut walk = Walk { side: side >> i, multiply_adds: 0 };
            blocks.iter().for_each(|block| block.walk(&mut walk));
            total += walk.multiply_adds;
        }
        let links = self.fuse_layers.iter().flat_map(|links| links.iter().enumerate());
        total + links.map(|(from, link)| link.multiply_adds(side >> from)).sum::<u64>()
    }
}

impl HrStageConfig {
    /// Output channels of the branches.
    fn widths(&self) -> Vec<usize> {
        let factor = if self.block == ResBlockKind::Bottleneck { 4 } else { 1 };
        self.channels.iter().map(|channels| channels * factor).collect()
    }

    /// Blocks of a branch, for `before` input channels.
    fn blocks(&self, branch: usize, before: usize, device: &Device) -> Vec<ResBlock> {
        blocks(self.block, self.channels[branch], self.depths[branch], before, device)
    }

    /// The modules of a stage whose input branches have the channels of its output.
    fn modules(&self, device: &Device) -> Vec<HrModule> {
        let widths = self.widths();
        let link = |to: usize, from: usize| match from.cmp(&to) {
            std::cmp::Ordering::Equal => Link::Keep(Slot {}),
            std::cmp::Ordering::Greater => {
                let spec = ConvSpec::new(widths[from], widths[to], 1);
                Link::point(spec, ActivationKind::Identity, 1 << (from - to), device)
            }
            std::cmp::Ordering::Less => {
                Link::down(widths[from], widths[to], to - from, ActivationKind::Identity, device)
            }
        };
        let module = |_| HrModule {
            branches: (0..widths.len()).map(|branch| self.blocks(branch, widths[branch], device)).collect(),
            fuse_layers: (0..widths.len()).map(|to| (0..widths.len()).map(|from| link(to, from)).collect()).collect(),
        };
        (0..self.modules).map(module).collect()
    }
}

/// `depth` blocks of `channels`, for `before` input channels.
fn blocks(kind: ResBlockKind, channels: usize, depth: usize, before: usize, device: &Device) -> Vec<ResBlock> {
    let config = ResNetConfig { channels: [channels; 4], ..ResNetConfig::plain(32, kind, [1; 4]) };
    let mut before = before;
    (0..depth).map(|_| config.block(0, std::mem::replace(&mut before, config.width(0)), 1, device)).collect()
}

impl HrNetConfig {
    /// Links from branches of the channels `before` to branches of the channels `after`.
    fn transition(before: &[usize], after: &[usize], device: &Device) -> Vec<Link> {
        let last = before.last().copied().unwrap_or_default();
        let link = |(i, to): (usize, &usize)| match before.get(i) {
            Some(from) if from == to => Link::Keep(Slot {}),
            Some(from) => Link::point(ConvSpec::new(*from, *to, 3), ActivationKind::Relu, 1, device),
            None => Link::down(last, *to, i + 1 - before.len(), ActivationKind::Relu, device),
        };
        after.iter().enumerate().map(link).collect()
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> HrNet {
        let [first, second, third, fourth] = &self.stages;
        let relu = ActivationKind::Relu;
        let (conv1, bn1) = layer(ConvSpec::new(3, self.stem_width, 3).stride(2), relu, device);
        let (conv2, bn2) = layer(ConvSpec::new(self.stem_width, STEM, 3).stride(2), relu, device);
        let head = |spec: ConvSpec| {
            (spec.bias(self.head_bias).init(device), NormActKind::default().init(spec.to, relu, device))
        };
        let joins = fourth.widths().into_iter().zip(JOINED);
        let down = |i: usize| head(ConvSpec::new(4 * JOINED[i], 4 * JOINED[i + 1], 3).stride(2));
        HrNet {
            conv1,
            bn1,
            conv2,
            bn2,
            layer1: first.blocks(0, STEM, device),
            transition1: Self::transition(&first.widths(), &second.widths(), device),
            stage2: second.modules(device),
            transition2: Self::transition(&second.widths(), &third.widths(), device),
            stage3: third.modules(device),
            transition3: Self::transition(&third.widths(), &fourth.widths(), device),
            stage4: fourth.modules(device),
            incre_modules: joins
                .map(|(width, inner)| blocks(ResBlockKind::Bottleneck, inner, 1, width, device))
                .collect(),
            downsamp_modules: (0..3).map(down).collect(),
            final_layer: head(ConvSpec::new(4 * JOINED[3], LAST, 1)),
            config: self.clone(),
        }
    }
}

impl StagedConfig for HrNetConfig {
    fn check(&self) -> Result<()> {
        let all = self.stages.iter().flat_map(|s| s.depths.iter().chain(&s.channels).chain([&s.modules]));
        let positive = all.chain([&self.image_size, &self.stem_width]).all(|n| (1..=MAX_SIZE).contains(n));
        let branches = self.stages.iter().enumerate();
        let branches = branches.into_iter().all(|(i, s)| s.depths.len() == i + 1 && s.channels.len() == i + 1);
        if !positive || !branches || !self.image_size.is_multiple_of(32) {
            return Err(Error::usage(format!(
                "invalid HRNet: image_size {}, stem_width {}, stages {:?}",
                self.image_size, self.stem_width, self.stages
            ))
            .hint(
                "image_size must be a multiple of 32, the stages have one to four branches, and all numbers are positive \
                 and at most 65536",
            ));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        let blocks = |s: &HrStageConfig| s.depths.iter().sum::<usize>().saturating_mul(s.modules);
        self.stages.iter().map(blocks).fold(0, usize::saturating_add)
    }

    fn layers(&self) -> Vec<LayerShape> {
        // Placeholders are lazy: they take no memory.
        self.init(&Device::flex()).shapes()
    }
}

impl HrNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &HrNetConfig {
        &self.config
    }

    fn shapes(&self) -> Vec<LayerShape> {
        let mut walk = Walk { side: self.config.image_size, multiply_adds: 0 };
        walk.conv(&self.conv1);
        walk.conv(&self.conv2);
        let side = walk.side;
        self.layer1.iter().for_each(|block| block.walk(&mut walk));
        let mut total = walk.multiply_adds;
        let mut before = 1;
        for (links, modules) in self.stages() {
            // A link to a new branch starts at the coarsest of the branches before.
            let from = |i: usize| side >> i.min(before - 1);
            total += links.iter().enumerate().map(|(i, link)| link.multiply_adds(from(i))).sum::<u64>();
            total += modules.iter().map(|module| module.multiply_adds(side)).sum::<u64>();
            before = links.len();
        }
        let mut layers = Vec::with_capacity(5);
        for (i, (blocks, inner)) in self.incre_modules.iter().zip(JOINED).enumerate() {
            let mut walk = Walk { side: side >> i, multiply_adds: std::mem::take(&mut total) };
            blocks.iter().for_each(|block| block.walk(&mut walk));
            if let Some((conv, _)) = i.checked_sub(1).and_then(|at| self.downsamp_modules.get(at)) {
                walk.multiply_adds += conv.spec().multiply_adds(side >> (i - 1));
            }
            layers.push(LayerShape { width: 4 * inner, side: side >> i, multiply_adds: walk.multiply_adds });
        }
        let (conv, _) = &self.final_layer;
        layers.push(LayerShape { width: LAST, side: side >> 3, multiply_adds: conv.spec().multiply_adds(side >> 3) });
        layers
    }

    /// The stages of several branches, each with the links that lead to it.
    fn stages(&self) -> [(&Vec<Link>, &Vec<HrModule>); 3] {
        [(&self.transition1, &self.stage2), (&self.transition2, &self.stage3), (&self.transition3, &self.stage4)]
    }
}

impl StagedNetwork for HrNet {
    fn depth(&self) -> usize {
        5
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 32)?;
        let x = self.bn2.forward(self.conv2.forward(self.bn1.forward(self.conv1.forward(pixels))));
        let mut branches = vec![run(&self.layer1, x)];
        for (links, modules) in self.stages() {
            // Where the channels change or a branch is new, timm takes the coarsest branch.
            let entries = links.iter().enumerate().map(|(i, link)| match link {
                Link::Keep(_) => branches.get(i).cloned(),
                _ => branches.last().map(|last| link.forward(last.clone())),
            });
            let entered = entries.flatten().collect();
            branches = modules.iter().fold(entered, |branches, module| module.forward(branches));
        }
        let mut outputs: Vec<Tensor<4>> = Vec::with_capacity(count);
        for (i, (x, blocks)) in branches.into_iter().zip(&self.incre_modules).enumerate().take(count) {
            let joined = run(blocks, x);
            let finer = i.checked_sub(1).and_then(|at| outputs.get(at).zip(self.downsamp_modules.get(at)));
            outputs.push(match finer {
                Some((finer, (conv, norm))) => joined + norm.forward(conv.forward(finer.clone())),
                None => joined,
            });
        }
        if let (true, Some(last)) = (count == 5, outputs.last()) {
            let (conv, norm) = &self.final_layer;
            outputs.push(norm.forward(conv.forward(last.clone())));
        }
        Ok(outputs)
    }
}

impl TimmModel for HrNetConfig {
    const CLASSES: &'static [&'static str] = &["HighResolutionNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("head", "\"classification\""), ("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let head_bias = arguments.flag("head_conv_bias", true)?;
        let found = arguments.read("model_cfg", model_cfg)?;
        let (stem_width, stages) = found.ok_or_else(|| arguments.invalid("model_cfg is missing"))?;
        Ok(TimmNetwork::new(Self { image_size, stem_width, stages, head_bias }))
    }
}

/// A stage of timm's `model_cfg`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimmStage {
    block_type: String,
    fuse_method: String,
    num_blocks: Vec<usize>,
    num_branches: usize,
    num_channels: Vec<usize>,
    num_modules: usize,
}

/// Reads timm's `model_cfg`: the stem's width and the stages.
fn model_cfg(value: &Value) -> Option<(usize, [HrStageConfig; 4])> {
    let stage = |key: &str| -> Option<HrStageConfig> {
        let stage = TimmStage::deserialize(value.get(key)?).ok()?;
        let block = match stage.block_type.as_str() {
            "BASIC" => ResBlockKind::Basic,
            "BOTTLENECK" => ResBlockKind::Bottleneck,
            _ => return None,
        };
        let fits = stage.fuse_method == "SUM" && stage.num_branches == stage.num_channels.len();
        let TimmStage { num_blocks: depths, num_channels: channels, num_modules: modules, .. } = stage;
        fits.then_some(HrStageConfig { block, modules, depths, channels })
    };
    let stem_width = crate::json_values::integer(value.get("stem_width")?)?;
    Some((stem_width, [stage("stage1")?, stage("stage2")?, stage("stage3")?, stage("stage4")?]))
}
