//! The windows to which queries attend: for each cell of the query grid a window of every encoder's grid, or the whole
//! image.

use super::super::token_layout::{ImageRegion, ImageSize};
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Epsilon of all layer norms of the aggregator: PyTorch's default.
pub(crate) const EPSILON: f64 = 1e-5;

/// Added to the scores of masked tokens before the softmax. It is finite, so that no score becomes NaN.
const MASKED: f32 = -1e9;

/// The features of all encoders, arranged in windows of queries.
///
/// A group is the `queries` of one image. Each query has its own window, or all queries of a group share one.
#[derive(Debug, Clone)]
pub struct Windows {
    /// Number of groups, one per image.
    pub groups: usize,
    /// Number of queries per group.
    pub queries: usize,
    /// Whether all queries of a group share one window.
    pub shared: bool,
    /// Features of each encoder, `[windows, tokens in a window, hidden]`.
    pub towers: Vec<Keys>,
    /// Additive mask, `[windows, tokens of all encoders in a window]`: 0, or a large negative number for padding;
    /// `None` if nothing is masked.
    pub bias: Option<Tensor<2>>,
    /// Mean of the first encoder's features, `[groups, hidden]`.
    pub context: Tensor<2>,
}

/// The features of one encoder, arranged in windows `[windows, tokens in a window, hidden]`.
#[derive(Debug, Clone)]
pub enum Keys {
    /// One token per window. No position embedding is added, so the normalised features are the same for all layers
    /// and are stored here.
    Single(Tensor<3>),
    /// Several tokens per window, to which each layer adds its position embedding.
    Several(Tensor<3>),
}

/// Normalises features to mean 0 and variance 1 along the last axis.
pub(crate) fn normalised(x: Tensor<3>) -> Tensor<3> {
    let width = x.dims()[2];
    let ones = Tensor::ones([width], &x.device());
    layer_norm(x, ones, None, EPSILON)
}

/// Returns for each encoder the side, in tokens, of the window of one cell of a query grid of side `grid`.
///
/// # Errors
/// When an encoder's grid is not a multiple of the query grid.
pub(crate) fn window_sides(tower_grids: &[usize], grid: usize) -> Result<Vec<usize>> {
    let each = tower_grids.iter().enumerate().map(|(i, &side)| match grid {
        1.. if side > 0 && side % grid == 0 => Ok(side / grid),
        _ => Err(Error::usage(format!(
            "the features of encoder {} are on a grid of {side}x{side}, which is not a multiple of the query grid of \
                 {grid}x{grid}",
            i + 1
        ))
        .hint("set `tower_grids` of the connector to multiples of `grid` and of all `query_grids`")),
    });
    each.collect()
}

impl Windows {
    /// Builds one window per cell of a query grid of side `grid` from the encoders' `maps` `[images, side * side,
    /// hidden]`.
    ///
    /// # Errors
    /// When an encoder's grid is not a multiple of the query grid.
    pub fn cells(
        maps: &[Tensor<3>],
        tower_grids: &[usize],
        grid: usize,
        context: Tensor<2>,
        images: Option<&[ImageSize]>,
    ) -> Result<Self> {
        let sides = window_sides(tower_grids, grid)?;
        let groups = context.dims()[0];
        let towers = maps.iter().zip(&sides).map(|(map, &m)| {
            let [images, _, width] = map.dims();
            if m == 1 {
                return Keys::Single(normalised(map.clone()).reshape([images * grid * grid, 1, width]));
            }
            let rows = map.clone().reshape([images * grid, m, grid, m * width]);
            Keys::Several(rows.swap_dims(1, 2).reshape([images * grid * grid, m * m, width]))
        });
        let bias = match images {
            None => None,
            Some(images) => cell_bias(images, tower_grids, &sides, grid, &context.device())?,
        };
        Ok(Self { groups, queries: grid * grid, shared: false, towers: towers.collect(), bias, context })
    }

    /// Builds one window per image, which contains the whole image and is shared by its `queries`.
    ///
    /// # Errors
    /// When an image or a grid has size 0.
    pub fn whole(
        maps: &[Tensor<3>],
        tower_grids: &[usize],
        queries: usize,
        context: Tensor<2>,
        images: Option<&[ImageSize]>,
    ) -> Result<Self> {
        let towers = maps.iter().map(|map| match map.dims()[1] {
            1 => Keys::Single(normalised(map.clone())),
            _ => Keys::Several(map.clone()),
        });
        let bias = match images {
            None => None,
            Some(images) => {
                // One cell whose window is the whole image.
                cell_bias(images, tower_grids, tower_grids, 1, &context.device())?
            }
        };
        Ok(Self { groups: context.dims()[0], queries, shared: true, towers: towers.collect(), bias, context })
    }

    /// Selects the windows of these queries, each as its own group; `chosen` indexes the queries of all groups.
    pub fn select(&self, chosen: &[usize], device: &Device) -> Self {
        let index = |values: Vec<i32>| {
            let count = values.len();
            transfer::to_device::<1, Int>(TensorData::new(values, [count]), device)
        };
        let windows = index(chosen.iter().map(|&i| i as i32).collect());
        let groups = index(chosen.iter().map(|&i| (i / self.queries.max(1)) as i32).collect());
        let towers = self.towers.iter().map(|keys| match keys {
            Keys::Single(x) => Keys::Single(x.clone().select(0, windows.clone())),
            Keys::Several(x) => Keys::Several(x.clone().select(0, windows.clone())),
        });
        Self {
            groups: chosen.len(),
            queries: 1,
            shared: false,
            towers: towers.collect(),
            bias: self.bias.clone().map(|bias| bias.select(0, windows.clone())),
            context: self.context.clone().select(0, groups),
        }
    }
}

/// Returns the additive mask on the scores of each window's tokens, encoder after encoder, `[windows, tokens]`; `None`
/// if no image has padding. A window that is all padding is not masked.
fn cell_bias(
    images: &[ImageSize],
    tower_grids: &[usize],
    sides: &[usize],
    grid: usize,
    device: &Device,
) -> Result<Option<Tensor<2>>> {
    let keys: usize = sides.iter().map(|m| m * m).sum();
    let mut values = Vec::with_capacity(images.len() * grid * grid * keys);
    for &size in images {
        let regions: Vec<ImageRegion> =
            tower_grids.iter().map(|&side| ImageRegion::of(size, [side, side])).collect::<Result<_>>()?;
        for cell in 0..grid * grid {
            for (region, &m) in regions.iter().zip(sides) {
                let (top, left) = (cell / grid * m, cell % grid * m);
                let visible = |i: usize| region.contains(top + i / m, left + i % m);
                let padding = !(0..m * m).any(visible);
                values.extend((0..m * m).map(|i| if padding || visible(i) { 0.0 } else { MASKED }));
            }
        }
    }
    if values.iter().all(|v| *v == 0.0) {
        return Ok(None);
    }
    let shape = [images.len() * grid * grid, keys];
    Ok(Some(transfer::to_device(TensorData::new(values, shape), device)))
}
