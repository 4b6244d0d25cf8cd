//! Deep Layer Aggregation (Yu et al. 2018, arXiv:1707.06484): residual blocks as the leaves of trees whose roots join
//! their outputs. Parameter paths are those of timm's `DLA`, but for an index after each `tree1` and `tree2`.

use super::drop_path::DropPathMask;
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{Conv, ConvSpec, FrozenBatchNorm, Slot, avg_pool, max_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Epsilon of all batch norms.
const EPSILON: f64 = 1e-5;

/// Number of groups of channels of a `split` block's 3×3 convolutions, one of which has none.
const SCALE: usize = 4;

/// The kind of residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DlaBlockKind {
    /// Two 3×3 convolutions.
    Basic,
    /// Convolutions of 1×1, 3×3 and 1×1.
    Bottleneck,
    /// A bottleneck whose 3×3 convolution is a cascade over four groups of channels (Res2Net, arXiv:1904.01169).
    Split,
}

/// Hyper-parameters of a DLA.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DlaConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Kind of the residual blocks.
    pub block: DlaBlockKind,
    /// Per level: the number of convolutions of the first two, and the depth of the trees of the others.
    pub levels: [usize; 6],
    /// Channels per level.
    pub channels: [usize; 6],
    /// Groups of the 3×3 convolutions. Default 1.
    #[serde(default = "one")]
    pub groups: usize,
    /// Channels per group, relative to 64. Default 64.
    #[serde(default = "base_width")]
    pub base_width: usize,
    /// Whether the roots have a residual connection. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub root_shortcut: bool,
}

fn one() -> usize {
    1
}

fn base_width() -> usize {
    64
}

/// A DLA; see the module documentation.
#[derive(Module, Debug)]
pub struct Dla {
    /// 7×7 convolution at full resolution, and its norm.
    pub base_layer: (Conv, FrozenBatchNorm),
    /// Convolutions at full resolution.
    pub level0: Convs,
    /// Convolutions at half resolution.
    pub level1: Convs,
    /// Tree of stride 4.
    pub level2: Tree,
    /// Tree of stride 8.
    pub level3: Tree,
    /// Tree of stride 16.
    pub level4: Tree,
    /// Tree of stride 32.
    pub level5: Tree,
    #[module(skip)]
    config: DlaConfig,
}

/// 3×3 convolutions, each followed by a batch norm and a ReLU: a convolution, a norm and a placeholder for the
/// activation take an index each.
// A network has two.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Convs {
    /// One convolution.
    One((Conv, FrozenBatchNorm)),
    /// Two convolutions.
    Two((Conv, FrozenBatchNorm, Slot, Conv, FrozenBatchNorm)),
}

/// A tree of residual blocks.
#[derive(Module, Debug)]
pub struct Tree {
    /// First subtree or block: one node, in a list because a type cannot contain itself.
    pub tree1: Vec<Node>,
    /// Second subtree or block: one node.
    pub tree2: Vec<Node>,
    /// Projection of the shortcut to the tree's channels, where they differ.
    pub project: Option<(Conv, FrozenBatchNorm)>,
    /// Joins the outputs of both blocks and of the children; only in trees of depth 1.
    pub root: Option<Root>,
    stride: usize,
    /// Whether the tree's own input is joined at its root.
    keeps_input: bool,
}

/// A subtree or a block.
// There are few of them.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Node {
    /// A subtree.
    Tree(Tree),
    /// A residual block.
    Block(Block),
}

/// Joins feature maps by a 1×1 convolution.
#[derive(Module, Debug)]
pub struct Root {
    /// 1×1 convolution over the concatenated maps.
    pub conv: Conv,
    /// Batch norm after `conv`.
    pub bn: FrozenBatchNorm,
    shortcut: bool,
}

/// A residual block, one set of fields for all kinds.
#[derive(Module, Debug)]
pub struct Block {
    /// First convolution: 3×3 in a basic block, otherwise 1×1.
    pub conv1: Conv,
    /// Batch norm after `conv1`.
    pub bn1: FrozenBatchNorm,
    /// Second convolution, 3×3; absent in a split block.
    pub conv2: Option<Conv>,
    /// Batch norm after `conv2`.
    pub bn2: Option<FrozenBatchNorm>,
    /// The cascade of 3×3 convolutions of a split block.
    pub convs: Vec<Conv>,
    /// Batch norms after `convs`.
    pub bns: Vec<FrozenBatchNorm>,
    /// Third convolution, 1×1; absent in a basic block.
    pub conv3: Option<Conv>,
    /// Batch norm after `conv3`.
    pub bn3: Option<FrozenBatchNorm>,
    stride: usize,
}

/// Sizes of a tree.
#[derive(Debug, Clone, Copy)]
struct TreeSpec {
    depth: usize,
    from: usize,
    to: usize,
    stride: usize,
    keeps_input: bool,
    /// Channels that are joined at the root; 0 for those of both blocks.
    root: usize,
}

impl Convs {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::One((conv, norm)) => relu(norm.forward(conv.forward(x))),
            Self::Two((one, norm1, _, two, norm2)) => {
                relu(norm2.forward(two.forward(relu(norm1.forward(one.forward(x))))))
            }
        }
    }
}

impl Block {
    /// Runs the block; the shortcut is the input unless another is given.
    fn forward(&self, x: Tensor<4>, shortcut: Option<Tensor<4>>) -> Tensor<4> {
        let shortcut = shortcut.unwrap_or_else(|| x.clone());
        let mut x = self.bn1.forward(self.conv1.forward(x));
        if let (Some(conv), Some(norm)) = (&self.conv2, &self.bn2) {
            x = norm.forward(conv.forward(relu(x)));
        }
        if !self.convs.is_empty() {
            x = self.cascade(relu(x));
        }
        if let (Some(conv), Some(norm)) = (&self.conv3, &self.bn3) {
            // A cascade ends with activations and with channels that have passed none.
            x = norm.forward(conv.forward(if self.convs.is_empty() { relu(x) } else { x }));
        }
        relu(x + shortcut)
    }

    /// Convolves all groups of channels but the last, each with the output of the one before; with a stride, each
    /// alone.
    fn cascade(&self, x: Tensor<4>) -> Tensor<4> {
        let mut groups = x.chunk(self.convs.len() + 1, 1);
        let last = groups.pop();
        let mut outputs: Vec<Tensor<4>> = Vec::with_capacity(groups.len() + 1);
        for (group, (conv, norm)) in groups.into_iter().zip(self.convs.iter().zip(&self.bns)) {
            let input = match outputs.last() {
                Some(before) if self.stride == 1 => group + before.clone(),
                _ => group,
            };
            outputs.push(relu(norm.forward(conv.forward(input))));
        }
        let pool = |x: Tensor<4>| if self.stride > 1 { avg_pool(x, 3, self.stride, 1, true, false) } else { x };
        outputs.extend(last.map(pool));
        Tensor::cat(outputs, 1)
    }
}

impl Node {
    /// Runs the only node of a list.
    fn only(nodes: &[Self], x: Tensor<4>, shortcut: Option<Tensor<4>>, children: Vec<Tensor<4>>) -> Tensor<4> {
        match nodes.first() {
            Some(node) => node.forward(x, shortcut, children),
            None => x,
        }
    }

    fn forward(&self, x: Tensor<4>, shortcut: Option<Tensor<4>>, children: Vec<Tensor<4>>) -> Tensor<4> {
        match self {
            Self::Tree(tree) => tree.forward(x, children),
            Self::Block(block) => block.forward(x, shortcut),
        }
    }
}

impl Tree {
    /// Runs the tree; `children` are the maps that its root joins besides those of its own blocks.
    fn forward(&self, x: Tensor<4>, mut children: Vec<Tensor<4>>) -> Tensor<4> {
        let bottom = if self.stride > 1 { max_pool(x.clone(), self.stride, self.stride, 0, false) } else { x.clone() };
        let shortcut = match &self.project {
            Some((conv, norm)) => norm.forward(conv.forward(bottom.clone())),
            None => bottom.clone(),
        };
        if self.keeps_input {
            children.push(bottom);
        }
        let first = Node::only(&self.tree1, x, Some(shortcut), Vec::new());
        match &self.root {
            Some(root) => {
                let second = Node::only(&self.tree2, first.clone(), None, Vec::new());
                let joined = [second.clone(), first].into_iter().chain(children).collect();
                let x = root.bn.forward(root.conv.forward(Tensor::cat(joined, 1)));
                relu(if root.shortcut { x + second } else { x })
            }
            None => {
                children.push(first.clone());
                Node::only(&self.tree2, first, None, children)
            }
        }
    }
}

impl TreeSpec {
    /// Channels that the tree's root joins.
    fn joined(self) -> usize {
        (if self.root == 0 { 2 * self.to } else { self.root }) + if self.keeps_input { self.from } else { 0 }
    }

    /// The two subtrees of a tree that is deeper than 1.
    fn subtrees(self) -> [Self; 2] {
        let first = Self { depth: self.depth - 1, keeps_input: false, root: 0, ..self };
        let second = Self { from: self.to, stride: 1, root: self.joined() + self.to, ..first };
        [first, second]
    }
}

impl DlaConfig {
    /// Channels of the 3×3 convolutions of a block of `to` output channels.
    fn inner(&self, to: usize) -> usize {
        to * self.base_width / 64 * self.groups / 2
    }

    /// The convolutions of a block; those of a cascade are between the first and the last.
    fn block_layout(&self, from: usize, to: usize, stride: usize) -> Vec<ConvSpec> {
        let inner = self.inner(to);
        let middle = |width: usize| ConvSpec::new(width, width, 3).stride(stride).groups(self.groups).bias(false);
        let point = |from: usize, to: usize| ConvSpec::new(from, to, 1).bias(false);
        match self.block {
            DlaBlockKind::Basic => {
                vec![ConvSpec::new(from, to, 3).stride(stride).bias(false), ConvSpec::new(to, to, 3).bias(false)]
            }
            DlaBlockKind::Bottleneck => vec![point(from, inner), middle(inner), point(inner, to)],
            DlaBlockKind::Split => {
                let mut all = vec![point(from, SCALE * inner)];
                all.extend(std::iter::repeat_n(middle(inner), SCALE - 1));
                all.push(point(SCALE * inner, to));
                all
            }
        }
    }

    fn block(&self, from: usize, to: usize, stride: usize, device: &Device) -> Block {
        let layout = self.block_layout(from, to, stride);
        let conv = |at: usize| layout.get(at).map(|spec| spec.init(device));
        let norm = |at: usize| layout.get(at).map(|spec| FrozenBatchNorm::new(spec.to, EPSILON, device));
        let split = self.block == DlaBlockKind::Split;
        let cascade = if split { &layout[1..SCALE] } else { &[] };
        let last = layout.len() - 1;
        let third = self.block != DlaBlockKind::Basic;
        Block {
            conv1: layout[0].init(device),
            bn1: FrozenBatchNorm::new(layout[0].to, EPSILON, device),
            conv2: conv(1).filter(|_| !split),
            bn2: norm(1).filter(|_| !split),
            convs: cascade.iter().map(|spec| spec.init(device)).collect(),
            bns: cascade.iter().map(|spec| FrozenBatchNorm::new(spec.to, EPSILON, device)).collect(),
            conv3: conv(last).filter(|_| third),
            bn3: norm(last).filter(|_| third),
            stride,
        }
    }

    fn tree(&self, spec: TreeSpec, device: &Device) -> Tree {
        let TreeSpec { depth, from, to, stride, keeps_input, .. } = spec;
        let [tree1, tree2] = match depth {
            1 => [Node::Block(self.block(from, to, stride, device)), Node::Block(self.block(to, to, 1, device))],
            _ => spec.subtrees().map(|subtree| Node::Tree(self.tree(subtree, device))),
        };
        let norm = || FrozenBatchNorm::new(to, EPSILON, device);
        let point = |from: usize| ConvSpec::new(from, to, 1).bias(false).init(device);
        Tree {
            tree1: vec![tree1],
            tree2: vec![tree2],
            project: (depth == 1 && from != to).then(|| (point(from), norm())),
            root: (depth == 1).then(|| Root { conv: point(spec.joined()), bn: norm(), shortcut: self.root_shortcut }),
            stride,
            keeps_input,
        }
    }

    /// Multiply-adds of a tree for an input of `side`.
    fn tree_multiply_adds(&self, spec: TreeSpec, side: usize) -> u64 {
        let out = side / spec.stride;
        if spec.depth > 1 {
            let [first, second] = spec.subtrees();
            return self.tree_multiply_adds(first, side) + self.tree_multiply_adds(second, out);
        }
        let block = |from: usize, stride: usize, side: usize| {
            let mut at = side;
            let mut total = 0;
            for spec in self.block_layout(from, spec.to, stride) {
                // The convolutions of a cascade have the same input.
                total += spec.multiply_adds(if spec.stride > 1 { side } else { at });
                at = if spec.stride > 1 { side.div_ceil(spec.stride) } else { at };
            }
            total
        };
        let point = |from: usize| ConvSpec::new(from, spec.to, 1).multiply_adds(out);
        let project = if spec.from == spec.to { 0 } else { point(spec.from) };
        block(spec.from, spec.stride, side) + block(spec.to, 1, out) + project + point(spec.joined())
    }

    /// The trees of the levels from 2 on.
    fn trees(&self) -> [TreeSpec; 4] {
        std::array::from_fn(|i| TreeSpec {
            depth: self.levels[i + 2],
            from: self.channels[i + 1],
            to: self.channels[i + 2],
            stride: 2,
            keeps_input: i > 0,
            root: 0,
        })
    }

    /// The convolutions of level 0 or 1.
    fn level_layout(&self, level: usize) -> Vec<ConvSpec> {
        let (from, to) = (self.channels[0], self.channels[level]);
        let spec = |i| match i {
            0 => ConvSpec::new(from, to, 3).stride(level + 1).bias(false),
            _ => ConvSpec::new(to, to, 3).bias(false),
        };
        (0..self.levels[level]).map(spec).collect()
    }

    fn convs(&self, level: usize, device: &Device) -> Convs {
        let layout = self.level_layout(level);
        let norm = || FrozenBatchNorm::new(self.channels[level], EPSILON, device);
        match layout[..] {
            [one, two] => Convs::Two((one.init(device), norm(), Slot {}, two.init(device), norm())),
            _ => Convs::One((layout[0].init(device), norm())),
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Dla {
        let [level2, level3, level4, level5] = self.trees().map(|spec| self.tree(spec, device));
        let base = ConvSpec::new(3, self.channels[0], 7).bias(false);
        Dla {
            base_layer: (base.init(device), FrozenBatchNorm::new(self.channels[0], EPSILON, device)),
            level0: self.convs(0, device),
            level1: self.convs(1, device),
            level2,
            level3,
            level4,
            level5,
            config: self.clone(),
        }
    }
}

impl StagedConfig for DlaConfig {
    fn check(&self) -> Result<()> {
        let numbers = self.levels.iter().chain(&self.channels);
        let positive =
            numbers.chain([&self.image_size, &self.groups, &self.base_width]).all(|n| (1..=MAX_SIZE).contains(n));
        // A tree has two to the power of its depth blocks.
        let depths = self.levels.iter().all(|n| *n <= 6) && self.levels.iter().take(2).all(|n| *n <= 2);
        let inner = self.channels.iter().skip(2).all(|c| self.inner(*c) > 0);
        let grouped = self.block != DlaBlockKind::Basic || self.groups == 1;
        if !positive || !depths || !inner || !grouped || !self.image_size.is_multiple_of(32) {
            return Err(Error::usage(format!(
                "invalid DLA: image_size {}, levels {:?}, channels {:?}, groups {}, base_width {}",
                self.image_size, self.levels, self.channels, self.groups, self.base_width
            ))
            .hint(
                "32 must divide image_size; the first two levels have one or two convolutions, trees are at most 6 deep, \
                 and basic blocks have one group",
            ));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.levels.iter().map(|depth| 1_usize << depth.min(&20)).sum()
    }

    fn layers(&self) -> Vec<LayerShape> {
        let mut side = self.image_size;
        let mut carried = ConvSpec::new(3, self.channels[0], 7).multiply_adds(side);
        let mut layers = Vec::with_capacity(6);
        for level in 0..2 {
            for spec in self.level_layout(level) {
                carried += spec.multiply_adds(side);
                side = spec.out_side(side);
            }
            layers.push(LayerShape { width: self.channels[level], side, multiply_adds: std::mem::take(&mut carried) });
        }
        for spec in self.trees() {
            let multiply_adds = self.tree_multiply_adds(spec, side);
            side /= spec.stride;
            layers.push(LayerShape { width: spec.to, side, multiply_adds });
        }
        layers
    }
}

impl Dla {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &DlaConfig {
        &self.config
    }
}

impl StagedNetwork for Dla {
    fn depth(&self) -> usize {
        6
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 32)?;
        let (conv, norm) = &self.base_layer;
        let mut x = relu(norm.forward(conv.forward(pixels)));
        let mut outputs = Vec::with_capacity(count);
        for level in [&self.level0, &self.level1].into_iter().take(count) {
            x = level.forward(x);
            outputs.push(x.clone());
        }
        let trees = [&self.level2, &self.level3, &self.level4, &self.level5];
        for tree in trees.into_iter().take(count.saturating_sub(2)) {
            x = tree.forward(x, Vec::new());
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for DlaConfig {
    const CLASSES: &'static [&'static str] = &["DLA"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let blocks = [
            ("DlaBasic", DlaBlockKind::Basic),
            ("DlaBottleneck", DlaBlockKind::Bottleneck),
            ("DlaBottle2neck", DlaBlockKind::Split),
        ];
        let mut six = |key: &str| -> Result<[usize; 6]> {
            let read = arguments.read(key, |value| {
                value.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>()?.try_into().ok()
            })?;
            read.ok_or_else(|| arguments.invalid(&format!("{key} is missing")))
        };
        let (levels, channels) = (six("levels")?, six("channels")?);
        let config = Self {
            image_size,
            block: arguments.one_of("block", "DlaBottle2neck", &blocks)?,
            levels,
            channels,
            groups: arguments.number("cardinality", 1)?,
            base_width: arguments.number("base_width", 64)?,
            root_shortcut: arguments.flag("shortcut_root", false)?,
        };
        Ok(TimmNetwork::new(config).with_dialect("timm-dla"))
    }
}
