//! Relative position bias from an MLP over log-spaced coordinates (timm's `RelPosMlp` in its mode `cr`), as in
//! `VisionTransformerRelPos`.

use crate::transfer;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::relu};
use serde::{Deserialize, Serialize};

/// Options of the relative position bias from an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RelativeMlp {
    /// Hidden channels of the MLP.
    pub hidden: usize,
    /// Whether all blocks share one MLP. Default false.
    #[serde(default)]
    pub shared: bool,
}

/// An MLP from the relative position of two patches to a bias for each head.
#[derive(Module, Debug)]
pub struct RelativeBias {
    /// The two layers of the MLP.
    pub mlp: RelativeLayers,
}

/// The layers of the MLP, with ReLU between them.
#[derive(Module, Debug)]
pub struct RelativeLayers {
    /// First layer, `[2, hidden]`.
    pub fc1: Linear,
    /// Second layer, `[hidden, heads]`.
    pub fc2: Linear,
}

/// Relative positions of the patches of a grid, for [`RelativeBias`].
#[derive(Debug, Clone)]
pub struct LogCoordinates {
    /// Signed logarithms of the row and column offsets, `[offsets, 2]`.
    table: Tensor<2>,
    /// The row of `table` for each pair of patches, query-major, `[patches * patches]`.
    index: Tensor<1, Int>,
    /// Number of tokens before the patches, whose bias is 0.
    prefix: usize,
}

impl LogCoordinates {
    /// The relative positions of the patches of `grid`, after `prefix` other tokens.
    pub(super) fn new(grid: [usize; 2], prefix: usize, device: &Device) -> Self {
        let [rows, columns] = grid;
        let (down, across) = (2 * rows - 1, 2 * columns - 1);
        let log = |offset: usize, middle: usize| {
            let distance = offset as f64 - middle as f64;
            (distance.signum() * (1.0 + distance.abs()).ln()) as f32
        };
        let offsets = (0..down * across).flat_map(|i| [log(i / across, rows - 1), log(i % across, columns - 1)]);
        let table = TensorData::new(offsets.collect::<Vec<f32>>(), [down * across, 2]);
        let patches = rows * columns;
        let pairs = (0..patches * patches).map(|pair| {
            let (query, key) = (pair / patches, pair % patches);
            let row = query / columns + rows - 1 - key / columns;
            (row * across + query % columns + columns - 1 - key % columns) as i64
        });
        let index = TensorData::new(pairs.collect::<Vec<i64>>(), [patches * patches]);
        Self { table: transfer::to_device(table, device), index: transfer::to_device(index, device), prefix }
    }
}

impl RelativeBias {
    /// Builds an MLP with placeholder weights.
    pub(crate) fn new(hidden: usize, heads: usize, device: &Device) -> Self {
        let layer = |inputs: usize, outputs: usize| LinearConfig::new(inputs, outputs).init(device);
        Self { mlp: RelativeLayers { fc1: layer(2, hidden), fc2: layer(hidden, heads) } }
    }

    /// The bias of all pairs of tokens, `[1, heads, tokens, tokens]`.
    pub(crate) fn forward(&self, coordinates: &LogCoordinates) -> Tensor<4> {
        let biases = self.mlp.fc2.forward(relu(self.mlp.fc1.forward(coordinates.table.clone())));
        let [_, heads] = biases.dims();
        let [pairs] = coordinates.index.dims();
        let patches = pairs.isqrt();
        let biases = biases.select(0, coordinates.index.clone()).reshape([patches, patches, heads]);
        let biases: Tensor<4> = biases.permute([2, 0, 1]).unsqueeze();
        match coordinates.prefix {
            0 => biases,
            n => biases.pad((n, 0, n, 0), 0.0),
        }
    }
}
