//! Layers of self-attention that take the place of a 3×3 convolution in a bottleneck block: the attention of BoTNet
//! (Srinivas et al. 2021, arXiv:2101.11605), halo attention (Vaswani et al. 2021, arXiv:2103.12731) and lambda layers
//! (Bello 2021, arXiv:2102.08602).

use super::super::parts::{ActivationKind, Conv, ConvSpec, NormAct, NormActKind, avg_pool, divisible};
use super::config::SelfAttentionKind;
use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A layer of self-attention over the positions of a feature map.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "layers are stored one by one")]
pub enum SelfAttention {
    /// Attention over all positions.
    Bottleneck(BottleneckAttention),
    /// Attention over blocks of positions and their surroundings.
    Halo(HaloAttention),
    /// A lambda layer.
    Lambda(LambdaLayer),
}

/// Attention over all positions with relative position embeddings; the map must have the side it was built for.
#[derive(Module, Debug)]
pub struct BottleneckAttention {
    /// Queries, keys and values.
    pub qkv: Conv,
    /// Relative position embeddings.
    pub pos_embed: RelativePositions,
    heads: usize,
    key_width: usize,
    pool: usize,
}

/// Attention of each block of positions over the block and a halo around it.
#[derive(Module, Debug)]
pub struct HaloAttention {
    /// Queries; the convolution may be strided.
    pub q: Conv,
    /// Keys and values.
    pub kv: Conv,
    /// Relative position embeddings.
    pub pos_embed: RelativePositions,
    heads: usize,
    key_width: usize,
    block: usize,
    halo: usize,
    stride: usize,
    pool: usize,
}

/// A lambda layer: keys and values become linear maps that are applied to the queries, one for the content and one for
/// each position.
#[derive(Module, Debug)]
pub struct LambdaLayer {
    /// Queries, keys and values.
    pub qkv: Conv,
    /// Norm of the queries.
    pub norm_q: NormAct,
    /// Norm of the values.
    pub norm_v: NormAct,
    /// The maps of the positions as a convolution of the values.
    pub conv_lambda: Option<LambdaConv>,
    /// The maps of the positions as embeddings of their offsets, `[2 * rows - 1, 2 * columns - 1, key width]`.
    pub pos_emb: Option<Param<Tensor<3>>>,
    heads: usize,
    key_width: usize,
    pool: usize,
}

/// A convolution from one channel to `key width` channels.
#[derive(Module, Debug)]
pub struct LambdaConv {
    /// Kernel, `[key width, 1, size, size, 1]`.
    pub weight: Param<Tensor<5>>,
    /// Bias, `[key width]`.
    pub bias: Param<Tensor<1>>,
}

/// Embeddings of the offsets between query and key, by row and by column.
#[derive(Module, Debug)]
pub struct RelativePositions {
    /// Embedding of each vertical offset, `[2 * window - 1, key width]`.
    pub height_rel: Param<Tensor<2>>,
    /// Embedding of each horizontal offset, `[2 * window - 1, key width]`.
    pub width_rel: Param<Tensor<2>>,
}

impl SelfAttentionKind {
    /// Builds the layer for `channels` and maps of `side`, with a stride of 1 or 2.
    pub(super) fn init(self, channels: usize, side: usize, stride: usize, device: &Device) -> SelfAttention {
        let conv = |to| ConvSpec::new(channels, to, 1).bias(false);
        let zeros = Initializer::Zeros;
        let keys = self.key_width(channels);
        let positions = |window: usize| RelativePositions {
            height_rel: zeros.init([2 * window - 1, keys], device),
            width_rel: zeros.init([2 * window - 1, keys], device),
        };
        match self {
            Self::Bottleneck { heads, .. } => SelfAttention::Bottleneck(BottleneckAttention {
                qkv: conv(2 * heads * keys + channels).init(device),
                pos_embed: positions(side),
                heads,
                key_width: keys,
                pool: stride,
            }),
            Self::Halo { heads, block_size, halo_size, .. } => {
                let pooled = stride > 1 && block_size % stride != 0;
                let strided = if pooled { 1 } else { stride };
                SelfAttention::Halo(HaloAttention {
                    q: conv(heads * keys).stride(strided).init(device),
                    kv: conv(heads * keys + channels).init(device),
                    pos_embed: positions(block_size + 2 * halo_size),
                    heads,
                    key_width: keys,
                    block: block_size,
                    halo: halo_size,
                    stride: strided,
                    pool: stride / strided,
                })
            }
            Self::Lambda { heads, kernel, .. } => {
                let norm = |channels| NormActKind::default().init(channels, ActivationKind::Identity, device);
                SelfAttention::Lambda(LambdaLayer {
                    qkv: conv(heads * keys + keys + channels / heads).init(device),
                    norm_q: norm(heads * keys),
                    norm_v: norm(channels / heads),
                    conv_lambda: kernel.map(|size| LambdaConv {
                        weight: zeros.init([keys, 1, size, size, 1], device),
                        bias: zeros.init([keys], device),
                    }),
                    pos_emb: kernel.is_none().then(|| zeros.init([2 * side - 1, 2 * side - 1, keys], device)),
                    heads,
                    key_width: keys,
                    pool: stride,
                })
            }
        }
    }

    /// Channels of keys and queries per head.
    fn key_width(self, channels: usize) -> usize {
        let by_ratio = |ratio: f64, heads: usize| divisible(channels as f64 * ratio, 8) / heads;
        match self {
            Self::Bottleneck { heads, key_width, key_ratio } | Self::Halo { heads, key_width, key_ratio, .. } => {
                key_width.unwrap_or_else(|| by_ratio(key_ratio, heads))
            }
            Self::Lambda { key_width, .. } => key_width,
        }
    }
}

impl SelfAttention {
    /// Applies the layer to `[batch, channels, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (out, pool) = match self {
            Self::Bottleneck(layer) => (layer.forward(x), layer.pool),
            Self::Halo(layer) => (layer.forward(x), layer.pool),
            Self::Lambda(layer) => (layer.forward(x), layer.pool),
        };
        if pool == 1 { out } else { avg_pool(out, pool, pool, 0, true, false) }
    }

    /// Side of the output for a map of `side`.
    pub fn out_side(&self, side: usize) -> usize {
        match self {
            Self::Bottleneck(layer) => side / layer.pool,
            Self::Halo(layer) => side / layer.stride / layer.pool,
            Self::Lambda(layer) => side / layer.pool,
        }
    }

    /// Multiply-adds for one image whose map has `side` rows and columns.
    pub fn multiply_adds(&self, side: usize) -> u64 {
        match self {
            Self::Bottleneck(layer) => layer.multiply_adds(side),
            Self::Halo(layer) => layer.multiply_adds(side),
            Self::Lambda(layer) => layer.multiply_adds(side),
        }
    }
}

impl BottleneckAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, rows, columns] = x.dims();
        let positions = rows * columns;
        let qkv = self.qkv.forward(x);
        let keys = self.heads * self.key_width;
        let values = qkv.dims()[1] - 2 * keys;
        let part = |from: usize, channels: usize| -> Tensor<3> {
            qkv.clone().narrow(1, from, channels).reshape([batch * self.heads, channels / self.heads, positions])
        };
        let (q, k, v) = (part(0, keys).swap_dims(1, 2), part(keys, keys), part(2 * keys, values).swap_dims(1, 2));
        let bias = self.pos_embed.logits(q.clone().reshape([batch * self.heads, rows, columns, self.key_width]));
        let scores = q.matmul(k).mul_scalar((self.key_width as f64).powf(-0.5)) + bias;
        softmax(scores, 2).matmul(v).swap_dims(1, 2).reshape([batch, values, rows, columns])
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        let positions = side * side;
        let keys = self.heads * self.key_width;
        let values = self.qkv.spec().to - 2 * keys;
        let offsets = 2 * keys * positions * (2 * side - 1);
        self.qkv.spec().multiply_adds(side) + (positions * positions * (keys + values) + offsets) as u64
    }
}

impl HaloAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, rows, columns] = x.dims();
        let (down, across) = (rows / self.block, columns / self.block);
        let (each, window) = (self.block / self.stride, self.block + 2 * self.halo);
        let (heads, keys) = (batch * self.heads, self.key_width);
        let q: Tensor<6> = self.q.forward(x.clone()).reshape([heads, keys, down, each, across, each]);
        let q: Tensor<4> = q.permute([0, 2, 4, 3, 5, 1]).reshape([heads, down * across, each * each, keys]);

        let border = (self.halo, self.halo, self.halo, self.halo);
        let kv = self.kv.forward(x).pad(border, PadMode::Constant(0.0));
        let values = kv.dims()[1] / self.heads - keys;
        let starts = |count: usize| self.windows(count, window, &kv.device());
        let kv = kv.clone().select(2, starts(down)).select(3, starts(across));
        let kv: Tensor<6> = kv.reshape([heads, keys + values, down, window, across, window]);
        let kv: Tensor<4> =
            kv.permute([0, 2, 4, 3, 5, 1]).reshape([heads, down * across, window * window, keys + values]);
        let (k, v) = (kv.clone().narrow(3, 0, keys), kv.narrow(3, keys, values));

        let bias = self.pos_embed.logits(q.clone().reshape([heads * down * across, each, each, keys]));
        let bias = bias.reshape([heads, down * across, each * each, window * window]);
        let scores = q.matmul(k.swap_dims(2, 3)).mul_scalar((keys as f64).powf(-0.5)) + bias;
        let out: Tensor<6> = softmax(scores, 3).matmul(v).reshape([heads, down, across, each, each, values]);
        out.permute([0, 5, 1, 3, 2, 4]).reshape([batch, self.heads * values, down * each, across * each])
    }

    /// Indices of the rows (or columns) of `count` overlapping windows.
    fn windows(&self, count: usize, window: usize, device: &Device) -> Tensor<1, Int> {
        let indices = (0..count).flat_map(|i| (0..window).map(move |j| i * self.block + j));
        let indices: Vec<i64> = indices.map(|i| i as i64).collect();
        Tensor::from_data(TensorData::new(indices, [count * window]), device)
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        let window = self.block + 2 * self.halo;
        let (keys, queries) = (self.heads * self.key_width, (side / self.stride).pow(2));
        let values = self.kv.spec().to - keys;
        let attention = queries * (window * window * (keys + values) + 2 * keys * (2 * window - 1));
        self.q.spec().multiply_adds(side) + self.kv.spec().multiply_adds(side) + attention as u64
    }
}

impl LambdaLayer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, rows, columns] = x.dims();
        let (positions, keys, heads) = (rows * columns, self.key_width, self.heads);
        let qkv = self.qkv.forward(x);
        let values = qkv.dims()[1] - (heads + 1) * keys;
        let q = self.norm_q.forward(qkv.clone().narrow(1, 0, heads * keys));
        let q: Tensor<4> = q.reshape([batch, heads, keys, positions]).swap_dims(2, 3);
        let k: Tensor<3> = qkv.clone().narrow(1, heads * keys, keys).reshape([batch, keys, positions]);
        let v: Tensor<4> = self.norm_v.forward(qkv.narrow(1, (heads + 1) * keys, values));
        let flat: Tensor<3> = v.clone().reshape([batch, values, positions]);

        let content = softmax(k, 2).matmul(flat.clone().swap_dims(1, 2));
        let content = q.clone().matmul(content.unsqueeze_dim(1));
        // One map for each position, `[batch * positions, keys, values]`.
        let maps: Tensor<3> = match (&self.conv_lambda, &self.pos_emb) {
            (Some(conv), _) => {
                let maps = conv.forward(v.reshape([batch * values, 1, rows, columns]));
                let maps: Tensor<4> = maps.reshape([batch, values, keys, positions]);
                maps.permute([0, 3, 2, 1]).reshape([batch * positions, keys, values])
            }
            (None, Some(embeddings)) => {
                let offsets = offsets(rows, columns, &flat.device());
                let table: Tensor<2> = embeddings.val().reshape([(2 * rows - 1) * (2 * columns - 1), keys]);
                let table: Tensor<3> = table.select(0, offsets).reshape([positions, positions, keys]);
                let table: Tensor<3> = table.swap_dims(1, 2).reshape([1, positions * keys, positions]);
                table.matmul(flat.swap_dims(1, 2)).reshape([batch * positions, keys, values])
            }
            (None, None) => Tensor::zeros([batch * positions, keys, values], (&flat.device(), flat.dtype())),
        };
        let queries: Tensor<3> = q.swap_dims(1, 2).reshape([batch * positions, heads, keys]);
        let placed: Tensor<4> = queries.matmul(maps).reshape([batch, positions, heads, values]);
        let out = content + placed.swap_dims(1, 2);
        out.swap_dims(2, 3).reshape([batch, heads * values, rows, columns])
    }

    fn multiply_adds(&self, side: usize) -> u64 {
        let (positions, keys, heads) = (side * side, self.key_width, self.heads);
        let values = self.qkv.spec().to - (heads + 1) * keys;
        let content = positions * keys * values * (1 + heads);
        let maps = match &self.conv_lambda {
            Some(conv) => conv.weight.lazy_shape()[2].pow(2),
            None => positions,
        } * positions
            * keys
            * values;
        self.qkv.spec().multiply_adds(side) + (content + maps + positions * heads * keys * values) as u64
    }
}

impl LambdaConv {
    /// Maps `[batch, 1, rows, columns]` to `[batch, key width, rows, columns]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val();
        let [keys, _, size, ..] = weight.dims();
        let options = ConvOptions::new([1, 1], [size / 2; 2], [1, 1], 1);
        conv2d(x, weight.reshape([keys, 1, size, size]), Some(self.bias.val()), options)
    }
}

/// For each pair of positions, query and key, the index of their offset in a table `[2 * rows - 1, 2 * columns - 1]`.
fn offsets(rows: usize, columns: usize, device: &Device) -> Tensor<1, Int> {
    let places = || (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let pairs = places().flat_map(|query| places().map(move |key| (query, key)));
    let indices: Vec<i64> = pairs
        .map(|((row, column), (key_row, key_column))| {
            ((key_row + rows - 1 - row) * (2 * columns - 1) + key_column + columns - 1 - column) as i64
        })
        .collect();
    let count = indices.len();
    Tensor::from_data(TensorData::new(indices, [count]), device)
}

impl RelativePositions {
    /// Scores of each query for each key of its window, `[maps, rows * columns, window * window]`, from queries `[maps,
    /// rows, columns, key width]`.
    fn logits(&self, q: Tensor<4>) -> Tensor<3> {
        let [maps, rows, columns, _] = q.dims();
        let across = along_columns(q.clone(), self.width_rel.val());
        let down = along_columns(q.swap_dims(1, 2), self.height_rel.val()).swap_dims(1, 2);
        let window = across.dims()[3];
        let sum: Tensor<5> = down.unsqueeze_dim(4) + across.unsqueeze_dim(3);
        sum.reshape([maps, rows * columns, window * window])
    }
}

/// Scores of each query for each column of its window, `[maps, rows, columns, window]`: the product with the embedding
/// of the column's offset.
fn along_columns(q: Tensor<4>, embeddings: Tensor<2>) -> Tensor<4> {
    let [maps, rows, columns, keys] = q.dims();
    let [offsets, _] = embeddings.dims();
    let window = offsets.div_ceil(2);
    let scores = q.reshape([maps * rows * columns, keys]).matmul(embeddings.transpose());
    // Query i needs the offsets from window - 1 - i on: appending a column shifts each row by one more than the last.
    let scores: Tensor<3> = scores.reshape([maps * rows, columns, offsets]);
    let padded: Tensor<2> =
        scores.pad((0, 1, 0, 0), PadMode::Constant(0.0)).reshape([maps * rows, columns * (offsets + 1)]);
    let padded = padded.pad((0, offsets - columns, 0, 0), PadMode::Constant(0.0));
    let shifted: Tensor<3> = padded.reshape([maps * rows, columns + 1, offsets]);
    shifted.narrow(1, 0, columns).narrow(2, window - 1, window).reshape([maps, rows, columns, window])
}
