//! MViT V2 (Li et al. 2022, arXiv:2112.01526): transformer stages whose queries, keys and values are pooled by
//! convolutions, with decomposed relative positions. Parameter paths are those of timm's `MultiScaleVit`.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{check_heads, check_multiple, check_sizes, check_stages, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped, project};
use super::parts::{Conv, ConvEmbed, ConvSpec, Padding, max_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::attention::attend;
use crate::json_values::{integer, side};
use crate::operands::{Activation, Bias};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use crate::transfer;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Hyper-parameters of an MViT V2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MvitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels per stage.
    pub widths: Vec<usize>,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Number of attention heads per stage.
    pub heads: Vec<usize>,
    /// Stride of the queries in the first block of each stage, 1 or 2.
    pub query_strides: Vec<usize>,
    /// Stride of keys and values in all blocks of each stage.
    pub key_strides: Vec<usize>,
    /// Side of the pooling convolutions, odd. Default 3.
    #[serde(default = "default_kernel")]
    pub kernel: usize,
    /// Hidden channels of the MLPs per channel. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether the projections to queries, keys and values have a bias. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Whether there is a class token. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub class_token: bool,
    /// Whether the channels grow in the attention of a stage's first block, and not in the MLP of the last block of the
    /// stage before. Default true.
    #[serde(default = "yes")]
    pub expand_attention: bool,
    /// Whether the pooled queries are added to the attention output. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub residual_pooling: bool,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_kernel() -> usize {
    3
}

fn default_ratio() -> f64 {
    4.0
}

fn default_eps() -> f64 {
    1e-6
}

/// Sizes of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockSizes {
    input: usize,
    /// Channels of the attention.
    width: usize,
    output: usize,
    heads: usize,
    query_stride: usize,
    key_stride: usize,
    /// Side of the block's input.
    side: usize,
}

impl BlockSizes {
    /// Side of the block's output.
    fn queries(&self) -> usize {
        self.side / self.query_stride
    }

    fn keys(&self) -> usize {
        self.side / self.key_stride
    }
}

impl MvitConfig {
    fn embed(&self) -> ConvSpec {
        let first = self.widths.first().copied().unwrap_or(1);
        ConvSpec::new(3, first, 7).stride(4).padding(Padding::Explicit(3))
    }

    /// The sizes of all blocks, per stage.
    fn sizes(&self) -> Vec<Vec<BlockSizes>> {
        let (mut input, mut side) = (self.widths.first().copied().unwrap_or(1), self.image_size / 4);
        let strides = self.query_strides.iter().zip(&self.key_strides);
        let each = self.depths.iter().zip(&self.heads).zip(strides).enumerate();
        each.map(|(stage, ((depth, heads), (query_stride, key_stride)))| {
            let own = self.widths.get(stage).copied().unwrap_or(1);
            let next = self.widths.get(stage + 1).copied().unwrap_or(own);
            let block = |i: usize| {
                let output = if self.expand_attention || i + 1 < *depth { own } else { next };
                let width = if self.expand_attention { own } else { input };
                let query_stride = if i == 0 { *query_stride } else { 1 };
                let sizes =
                    BlockSizes { input, width, output, heads: *heads, query_stride, key_stride: *key_stride, side };
                (input, side) = (output, sizes.queries());
                sizes
            };
            (0..*depth).map(block).collect()
        })
        .collect()
    }

    fn pool(&self, channels: usize, stride: usize) -> ConvSpec {
        ConvSpec::depthwise(channels, self.kernel).stride(stride).bias(false)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Mvit {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let block = |sizes: &BlockSizes| {
            let (input, width, output) = (sizes.input, sizes.width, sizes.output);
            let head_dim = width / sizes.heads;
            let relative = 2 * sizes.queries().max(sizes.keys()) - 1;
            let pool = |stride: usize| self.pool(head_dim, stride).init(device);
            let linear = |to: usize| LinearConfig::new(input, to).init(device);
            let grows = input != output;
            MvitBlock {
                norm1: norm(input),
                shortcut_proj_attn: (grows && self.expand_attention).then(|| linear(output)),
                attn: PoolingAttention {
                    qkv: LinearConfig::new(input, 3 * width).with_bias(self.qkv_bias).init(device),
                    proj: LinearConfig::new(width, width).init(device),
                    pool_q: pool(sizes.query_stride),
                    norm_q: norm(head_dim),
                    pool_k: pool(sizes.key_stride),
                    norm_k: norm(head_dim),
                    pool_v: pool(sizes.key_stride),
                    norm_v: norm(head_dim),
                    rel_pos_h: Initializer::Zeros.init([relative, head_dim], device),
                    rel_pos_w: Initializer::Zeros.init([relative, head_dim], device),
                    residual: self.residual_pooling,
                },
                norm2: norm(width),
                shortcut_proj_mlp: (grows && !self.expand_attention).then(|| linear(output)),
                mlp: Mlp::new(width, times(width, self.mlp_ratio), output, Activation::Gelu, device),
                sizes: *sizes,
            }
        };
        let (sizes, first) = (self.sizes(), self.widths.first().copied().unwrap_or(1));
        let last = sizes.last().and_then(|stage| stage.last()).map_or(1, |sizes| sizes.output);
        Mvit {
            patch_embed: ConvEmbed::new(self.embed(), None, device),
            cls_token: self.class_token.then(|| Initializer::Zeros.init([1, 1, first], device)),
            stages: sizes.iter().map(|stage| Stage { blocks: stage.iter().map(block).collect() }).collect(),
            norm: norm(last),
            config: self.clone(),
        }
    }
}

impl StagedConfig for MvitConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "an MViT V2";
        check_sizes(WHAT, &[("image_size", self.image_size), ("kernel", self.kernel)])?;
        let lists: [(&str, &[usize]); 5] = [
            ("widths", &self.widths),
            ("depths", &self.depths),
            ("heads", &self.heads),
            ("query_strides", &self.query_strides),
            ("key_strides", &self.key_strides),
        ];
        check_stages(WHAT, &lists)?;
        check_multiple(WHAT, self.image_size, 4)?;
        if self.kernel.is_multiple_of(2)
            || !is_ratio(self.mlp_ratio)
            || self.query_strides.iter().any(|stride| ![1, 2].contains(stride))
        {
            return Err(Error::usage(format!(
                "{WHAT} with kernel = {}, mlp_ratio = {} and query_strides = {:?}",
                self.kernel, self.mlp_ratio, self.query_strides
            ))
            .hint("the kernel must be odd, the ratio positive, the strides 1 or 2"));
        }
        for sizes in self.sizes().iter().flatten() {
            check_heads(WHAT, &[sizes.width], &[sizes.heads])?;
            let (queries, keys) = (sizes.queries(), sizes.keys());
            let whole = sizes.side.is_multiple_of(sizes.query_stride)
                && sizes.side.is_multiple_of(sizes.key_stride)
                && keys > 0
                && (queries.is_multiple_of(keys) || keys.is_multiple_of(queries));
            if !whole {
                return Err(Error::usage(format!(
                    "{WHAT} whose map of side {} has strides of {} and {}",
                    sizes.side, sizes.query_stride, sizes.key_stride
                ))
                .hint("choose an image size that the strides of all stages divide"));
            }
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let (class, mut embed) = (usize::from(self.class_token), self.embed().multiply_adds(self.image_size));
        let block = |sizes: &BlockSizes| {
            let BlockSizes { input, width, output, side, .. } = *sizes;
            let (queries, keys) = (sizes.queries(), sizes.keys());
            let [before, positions, after, reach] =
                [side * side + class, queries * queries, queries * queries + class, keys * keys + class];
            let pooling = self.kernel.pow(2) * width * (positions + 2 * keys * keys);
            let relative = positions * 2 * keys * width;
            let attention = before * 3 * input * width + 2 * after * reach * width + after * width * width;
            let hidden = times(width, self.mlp_ratio);
            let shortcut = match (input == output, self.expand_attention) {
                (true, _) => 0,
                (false, true) => before * input * output,
                (false, false) => after * input * output,
            };
            (pooling + relative + attention + shortcut + after * hidden * (width + output)) as u64
        };
        let stages = self.sizes();
        stages
            .iter()
            .map(|stage| {
                let last = stage.last();
                LayerShape {
                    width: last.map_or(0, |sizes| sizes.output),
                    side: last.map_or(0, BlockSizes::queries),
                    multiply_adds: std::mem::take(&mut embed) + stage.iter().map(block).sum::<u64>(),
                }
            })
            .collect()
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl TimmModel for MvitConfig {
    const CLASSES: &'static [&'static str] = &["MultiScaleVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let drop_path = arguments.real("drop_path_rate")?.unwrap_or(0.0);
        let Some(Value::Object(mut model)) = arguments.take("model_cfg") else {
            return Err(arguments.invalid("there is no model_cfg"));
        };
        let fixed: [(&str, Value); 9] = [
            ("mode", "conv".into()),
            ("pool_first", false.into()),
            ("rel_pos_type", "spatial".into()),
            ("use_abs_pos", false.into()),
            ("act_layer", "gelu".into()),
            ("norm_layer", "layernorm".into()),
            ("patch_kernel", vec![7, 7].into()),
            ("patch_stride", vec![4, 4].into()),
            ("patch_padding", vec![3, 3].into()),
        ];
        for (key, supported) in fixed {
            if let Some(value) = model.remove(key).filter(|value| *value != supported) {
                return Err(arguments.unsupported(&format!("model_cfg.{key}"), &value));
            }
        }
        // The strides of keys and values follow from `stride_kv_adaptive`; timm has computed them.
        model.remove("stride_kv_adaptive");
        model.remove("pool_type");
        let config = {
            let mut read = Fields { model: &mut model, arguments };
            Self {
                image_size,
                widths: read.value("embed_dim", |value| list(value, integer))?,
                depths: read.value("depths", |value| list(value, integer))?,
                heads: read.value("num_heads", |value| list(value, integer))?,
                query_strides: read.value("stride_q", |value| list(value, side))?,
                key_strides: read.value("stride_kv", |value| list(value, side))?,
                kernel: read.value("kernel_qkv", side)?,
                mlp_ratio: read.value("mlp_ratio", Value::as_f64)?,
                qkv_bias: read.value("qkv_bias", Value::as_bool)?,
                class_token: read.value("use_cls_token", Value::as_bool)?,
                expand_attention: read.value("expand_attn", Value::as_bool)?,
                residual_pooling: read.value("residual_pooling", Value::as_bool)?,
                norm_eps: read.value("norm_eps", Value::as_f64)?,
                drop_path,
            }
        };
        match model.iter().next() {
            Some((key, value)) => Err(arguments.unsupported(&format!("model_cfg.{key}"), value)),
            None => Ok(TimmNetwork::new(config)),
        }
    }
}

/// The fields of timm's dataclass that have not been read.
struct Fields<'a> {
    model: &'a mut Map<String, Value>,
    arguments: &'a TimmArguments,
}

impl Fields<'_> {
    fn value<T>(&mut self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let value = self.model.remove(key).unwrap_or_default();
        read(&value).ok_or_else(|| self.arguments.unsupported(&format!("model_cfg.{key}"), &value))
    }
}

fn list(value: &Value, read: impl Fn(&Value) -> Option<usize>) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(read).collect()
}

/// An MViT V2; see the module documentation.
#[derive(Module, Debug)]
pub struct Mvit {
    /// Overlapping patch embedding.
    pub patch_embed: ConvEmbed,
    /// Class token, `[1, 1, width]`.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    /// Final layer norm.
    pub norm: LayerNorm,
    #[module(skip)]
    config: MvitConfig,
}

/// A stage of blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// The blocks.
    pub blocks: Vec<MvitBlock>,
}

/// A pre-norm block of pooling attention and an MLP.
#[derive(Module, Debug)]
pub struct MvitBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Projection of the shortcut of attention, where the channels grow in attention.
    pub shortcut_proj_attn: Option<Linear>,
    /// Attention.
    pub attn: PoolingAttention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// Projection of the shortcut of the MLP, where the channels grow in the MLP.
    pub shortcut_proj_mlp: Option<Linear>,
    /// The two-layer MLP.
    pub mlp: Mlp,
    #[module(skip)]
    sizes: BlockSizes,
}

/// Multi-head attention whose queries, keys and values are pooled by depthwise convolutions.
#[derive(Module, Debug)]
pub struct PoolingAttention {
    /// Projection to queries, keys and values in this order, `[input, 3 * width]`.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    /// Pooling of the queries.
    pub pool_q: Conv,
    /// Layer norm of the pooled queries.
    pub norm_q: LayerNorm,
    /// Pooling of the keys.
    pub pool_k: Conv,
    /// Layer norm of the pooled keys.
    pub norm_k: LayerNorm,
    /// Pooling of the values.
    pub pool_v: Conv,
    /// Layer norm of the pooled values.
    pub norm_v: LayerNorm,
    /// Relative position embeddings of row offsets, `[offsets, head_dim]`.
    pub rel_pos_h: Param<Tensor<2>>,
    /// Relative position embeddings of column offsets, `[offsets, head_dim]`.
    pub rel_pos_w: Param<Tensor<2>>,
    residual: bool,
}

/// Pools the patches of `[batch, heads, prefix + side², head_dim]` by `conv` and normalises all tokens.
fn pooled(x: Tensor<4>, conv: &Conv, norm: &LayerNorm, side: usize) -> Tensor<4> {
    let [batch, heads, tokens, channels] = x.dims();
    let prefix = tokens - side * side;
    let map = x.clone().narrow(2, prefix, side * side).reshape([batch * heads, side, side, channels]);
    let map = conv.forward(map.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
    let [_, rows, columns, _] = map.dims();
    let patches: Tensor<4> = map.reshape([batch, heads, rows * columns, channels]);
    let all = if prefix == 0 { patches } else { Tensor::cat(vec![x.narrow(2, 0, prefix), patches], 2) };
    norm.forward(all)
}

/// Dot products of queries `[batch, heads, along, other, head_dim]` with the embeddings of the offsets between their
/// position on the third axis and all `keys` positions: `[batch, heads, along, other, keys]`.
fn by_offset(queries: Tensor<5>, table: &Param<Tensor<2>>, keys: usize) -> Tensor<5> {
    let [batch, heads, along, other, head_dim] = queries.dims();
    // Positions are compared on the finer of both grids.
    let (query_step, key_step) = ((keys / along).max(1), (along / keys).max(1));
    let row = |i: usize| (i / keys * query_step + (keys - 1) * key_step - i % keys * key_step) as i64;
    let rows: Vec<i64> = (0..along * keys).map(row).collect();
    let rows = transfer::to_device::<1, Int>(TensorData::new(rows, [along * keys]), &queries.device());
    let vectors = table.val().select(0, rows).reshape([along, keys, head_dim]);
    let queries = queries.permute([2, 0, 1, 3, 4]).reshape([along, batch * heads * other, head_dim]);
    let products = queries.matmul(vectors.swap_dims(1, 2));
    products.reshape([along, batch, heads, other, keys]).permute([1, 2, 0, 3, 4])
}

impl PoolingAttention {
    /// Attention of `[batch, prefix + side², input]` to `[batch, prefix + queries², width]`.
    fn forward(&self, x: Tensor<3>, sizes: &BlockSizes) -> Tensor<3> {
        let [q, k, v] = project(&self.qkv, x, sizes.heads);
        let q = pooled(q, &self.pool_q, &self.norm_q, sizes.side);
        let k = pooled(k, &self.pool_k, &self.norm_k, sizes.side);
        let v = pooled(v, &self.pool_v, &self.norm_v, sizes.side);
        let ([batch, heads, tokens, channels], device) = (q.dims(), q.device());
        let (queries, keys) = (sizes.queries(), sizes.keys());
        let prefix = tokens - queries * queries;
        let grid = q.clone().narrow(2, prefix, queries * queries);
        let grid: Tensor<5> = grid.reshape([batch, heads, queries, queries, channels]);
        let down = by_offset(grid.clone(), &self.rel_pos_h, keys);
        let across = by_offset(grid.swap_dims(2, 3), &self.rel_pos_w, keys).swap_dims(2, 3);
        let whole = |part: Tensor<5>| part.reshape([batch, heads, queries * queries, keys]);
        let bias = Bias::ByAxis { down: whole(down), across: whole(across) };
        // A class token has no position: its scores have no bias.
        let bias = match bias.whole() {
            Some(bias) if prefix > 0 => {
                let zeros = |rows: usize, columns: usize| Tensor::zeros([batch, heads, rows, columns], &device);
                let bias = Tensor::cat(vec![zeros(queries * queries, prefix), bias], 3);
                Bias::Full(Tensor::cat(vec![zeros(prefix, prefix + keys * keys), bias], 2))
            }
            Some(bias) => Bias::Full(bias),
            None => Bias::None,
        };
        let mixed = attend(q.clone(), k, v, bias, None);
        let mixed =
            if self.residual { mixed + q.swap_dims(1, 2).reshape([batch, tokens, heads * channels]) } else { mixed };
        by_row(mixed, |x| self.proj.forward(x))
    }
}

impl MvitBlock {
    /// Runs the block on `[batch, prefix + side², channels]`.
    fn forward(&self, x: Tensor<3>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<3> {
        let normed = self.norm1.forward(x.clone());
        let shortcut = match &self.shortcut_proj_attn {
            Some(layer) => by_row(normed.clone(), |x| layer.forward(x)),
            None => x,
        };
        let x = self.pool(shortcut) + dropped(self.attn.forward(normed, &self.sizes), factors[0]);
        let normed = self.norm2.forward(x.clone());
        let shortcut = match &self.shortcut_proj_mlp {
            Some(layer) => by_row(normed.clone(), |x| layer.forward(x)),
            None => x,
        };
        shortcut + dropped(by_row(normed, |x| self.mlp.forward(x)), factors[1])
    }

    /// Halves the feature map of the shortcut by maximum pooling, if the block does.
    fn pool(&self, x: Tensor<3>) -> Tensor<3> {
        let BlockSizes { query_stride: stride, side, .. } = self.sizes;
        if stride == 1 {
            return x;
        }
        let [batch, tokens, width] = x.dims();
        let prefix = tokens - side * side;
        let map: Tensor<4> = x.clone().narrow(1, prefix, side * side).reshape([batch, side, side, width]);
        let kernel = stride + 1;
        let map = max_pool(map.permute([0, 3, 1, 2]), kernel, stride, kernel / 2, false).permute([0, 2, 3, 1]);
        let [_, rows, columns, _] = map.dims();
        let patches: Tensor<3> = map.reshape([batch, rows * columns, width]);
        if prefix == 0 { patches } else { Tensor::cat(vec![x.narrow(1, 0, prefix), patches], 1) }
    }
}

impl Mvit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &MvitConfig {
        &self.config
    }
}

impl StagedNetwork for Mvit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let map = self.patch_embed.forward(pixels);
        let [batch, mut side, _, width] = map.dims();
        let mut x: Tensor<3> = map.reshape([batch, side * side, width]);
        if let Some(class) = &self.cls_token {
            x = Tensor::cat(vec![class.val().repeat_dim(0, batch), x], 1);
        }
        let (mut index, mut outputs) = (0, Vec::new());
        for stage in self.stages.iter().take(count) {
            for block in &stage.blocks {
                x = block.forward(x, [drop_path.factors(index, 0), drop_path.factors(index, 1)]);
                side = block.sizes.queries();
                index += 1;
            }
            let [_, tokens, width] = x.dims();
            let patches = side * side;
            let map: Tensor<4> = x.clone().narrow(1, tokens - patches, patches).reshape([batch, side, side, width]);
            outputs.push(map.permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}
