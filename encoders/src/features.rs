//! Patch features on a grid: resampling to another grid and concatenation of several encoders.

use crate::preprocess::Interpolation;
use crate::transfer;
use burgess_base::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// The features of a batch of images: patch tokens in row-major order, after the class token if the tap keeps it.
#[derive(Debug, Clone)]
pub struct FeatureMap {
    /// The tokens, `[batch, prefix + rows * columns, width]`, f32.
    pub tokens: Tensor<3>,
    /// Grid of the patch tokens, `[rows, columns]`.
    pub grid: [usize; 2],
}

impl FeatureMap {
    /// Builds a feature map whose tokens are the positions of `[batch, rows, columns, width]`.
    pub(crate) fn from_channels_last(map: Tensor<4>) -> Self {
        let [batch, rows, columns, width] = map.dims();
        Self { tokens: map.reshape([batch, rows * columns, width]), grid: [rows, columns] }
    }

    /// Builds a feature map whose tokens are the positions of `[batch, width, rows, columns]`.
    pub(crate) fn from_channels_first(map: Tensor<4>) -> Self {
        let [batch, width, rows, columns] = map.dims();
        let tokens: Tensor<3> = map.reshape([batch, width, rows * columns]);
        Self { tokens: tokens.swap_dims(1, 2), grid: [rows, columns] }
    }

    /// Number of tokens before the patches: 1 with a class token, otherwise 0.
    pub fn prefix(&self) -> usize {
        self.tokens.dims()[1].saturating_sub(self.grid[0] * self.grid[1])
    }

    /// Finds the first value that is not finite. All values are checked on the device; only one number per image is
    /// copied to the host.
    ///
    /// # Errors
    /// The device fails to copy its values to the host.
    fn first_not_finite(&self) -> Result<Option<NotFinite>> {
        let [batch, tokens, width] = self.tokens.dims();
        if batch * tokens * width == 0 {
            return Ok(None);
        }
        // The sum of 0 · x is 0 if all x are finite, otherwise NaN.
        let zeros = self.tokens.clone().detach().mul_scalar(0.0).reshape([batch, tokens * width]);
        let sums = transfer::to_host::<f32, _, _>(zeros.sum_dim(1).reshape([batch]))?;
        let Some(image) = sums.iter().position(|sum| *sum != 0.0) else { return Ok(None) };
        let one = self.tokens.clone().detach().slice([image..image + 1, 0..tokens, 0..width]);
        let values = transfer::to_host::<f32, _, _>(one.reshape([tokens * width]))?;
        let at = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
        let value = values.get(at).copied().unwrap_or(f32::NAN);
        Ok(Some(NotFinite { image, token: at / width, channel: at % width, value }))
    }

    /// Checks that all features are finite. `encoder` is the encoder's name and `name` maps an index in the batch to
    /// the image's name, both for the error.
    ///
    /// # Errors
    /// A feature is NaN or infinite: the error names the image, the patch and the channel.
    pub fn check_finite(&self, encoder: &str, name: &dyn Fn(usize) -> String) -> Result<()> {
        let Some(bad) = self.first_not_finite()? else { return Ok(()) };
        let position = match bad.token.checked_sub(self.prefix()) {
            None => "the class token".into(),
            Some(patch) => {
                let columns = self.grid[1].max(1);
                format!("row {}, column {}", patch / columns, patch % columns)
            }
        };
        Err(Error::failed(format!(
            "{encoder} computes features that are not finite for {}: {} at {position}, channel {}",
            name(bad.image),
            bad.value,
            bad.channel
        ))
        .hint("download the weights again, and check that the card's hyper-parameters belong to them"))
    }

    /// Resamples the patch tokens to another grid: bilinear, with half-pixel centres, without antialiasing, as
    /// Cambrian-1 brings its encoders to one token count (`F.interpolate(..., mode="bilinear", align_corners=False)` in
    /// `cambrian/model/multimodal_encoder`). Equal grids change nothing; a class token is kept unchanged.
    pub fn resample(self, grid: [usize; 2]) -> Result<Self> {
        self.resample_by(grid, Kernel::Bilinear)
    }

    fn resample_by(self, grid: [usize; 2], kernel: Kernel) -> Result<Self> {
        if grid == self.grid {
            return Ok(self);
        }
        check_grid(grid)?;
        let prefix = self.prefix();
        let [batch, tokens, width] = self.tokens.dims();
        let patches = self.tokens.clone().slice([0..batch, prefix..tokens, 0..width]);
        let patches = resample_tokens(patches, self.grid, grid, kernel, 0.0);
        let tokens = match prefix {
            0 => patches,
            _ => Tensor::cat(vec![self.tokens.slice([0..batch, 0..prefix, 0..width]), patches], 1),
        };
        Ok(Self { tokens, grid })
    }

    /// Resamples the patch tokens to another grid as [`FeatureMap::resample`] does, but with antialiasing where the
    /// grid shrinks: for features on the grid of the image itself, which may be much larger.
    pub fn resample_antialiased(self, grid: [usize; 2]) -> Result<Self> {
        self.resample_by(grid, Kernel::AntialiasedBilinear)
    }

    /// Resamples the patch tokens of an image of `size`, `[height, width]` in pixels, to the part of `grid` that the
    /// image covers when it is centred and padded to the grid's aspect ratio; the tokens of the padding are zero. The
    /// part is that of Cambrian-1's `unpad_image`, by which connectors mask padding.
    pub fn letterboxed(self, size: [usize; 2], grid: [usize; 2]) -> Result<Self> {
        check_grid(grid)?;
        let margins = letterbox_margins(size, grid);
        let inner = [0, 1].map(|axis| grid[axis] - 2 * margins[axis]);
        let map = self.resample_antialiased(inner)?;
        if margins == [0, 0] {
            return Ok(map);
        }
        let (prefix, [batch, tokens, width], device) = (map.prefix(), map.tokens.dims(), map.tokens.device());
        let zeros = |rows, columns| Tensor::<4>::zeros([batch, rows, columns, width], &device);
        let patches = map.tokens.clone().narrow(1, prefix, tokens - prefix).reshape([batch, inner[0], inner[1], width]);
        let patches = match margins {
            [0, side] => Tensor::cat(vec![zeros(inner[0], side), patches, zeros(inner[0], side)], 2),
            [side, _] => Tensor::cat(vec![zeros(side, inner[1]), patches, zeros(side, inner[1])], 1),
        };
        let patches: Tensor<3> = patches.reshape([batch, grid[0] * grid[1], width]);
        let tokens = match prefix {
            0 => patches,
            _ => Tensor::cat(vec![map.tokens.narrow(1, 0, prefix), patches], 1),
        };
        Ok(Self { tokens, grid })
    }

    /// Normalises the features; see [`FeatureNorm`].
    #[must_use]
    pub fn normalised(self, norm: FeatureNorm) -> Self {
        let [batch, tokens, width] = self.tokens.dims();
        let tokens = match norm {
            FeatureNorm::Layer => {
                let centred = self.tokens.clone() - self.tokens.mean_dim(2);
                let variance = centred.clone().powf_scalar(2.0).mean_dim(2);
                centred / variance.add_scalar(FeatureNorm::EPSILON).sqrt()
            }
            FeatureNorm::Standard => {
                let prefix = self.prefix();
                let patches = self.tokens.clone().narrow(1, prefix, tokens - prefix);
                let patches: Tensor<3> = patches.reshape([batch, 1, (tokens - prefix) * width]);
                let mean = patches.clone().mean_dim(2);
                let variance = (patches - mean.clone()).powf_scalar(2.0).mean_dim(2);
                (self.tokens - mean) / variance.add_scalar(FeatureNorm::EPSILON).sqrt()
            }
        };
        Self { tokens, ..self }
    }

    /// Concatenates the channels of several feature maps, token by token. Batch size, grid and prefix must be equal.
    pub fn concat(maps: &[FeatureMap]) -> Result<Self> {
        let Some(first) = maps.first() else {
            return Err(Error::usage("no features to concatenate"));
        };
        let [batch, tokens, _] = first.tokens.dims();
        for map in maps {
            let [b, t, _] = map.tokens.dims();
            if map.grid != first.grid || b != batch || t != tokens {
                return Err(Error::failed(format!(
                    "cannot concatenate features of {b} images on a {}x{} grid ({t} tokens) with {batch} images on {}x{} ({tokens} tokens)",
                    map.grid[0], map.grid[1], first.grid[0], first.grid[1],
                ))
                .hint("resample all features to one grid first, and keep the class token for all or none"));
            }
        }
        Ok(Self { tokens: Tensor::cat(maps.iter().map(|m| m.tokens.clone()).collect(), 2), grid: first.grid })
    }
}

/// Tokens of padding above and on the left of an image of `size`, `[height, width]`, on `grid`; one of the two is 0.
/// The order of operations is that of upstream's `get_padding_offset`, because it determines the rounding.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn letterbox_margins([height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> [usize; 2] {
    let (height, width) = (height.max(1) as f64, width.max(1) as f64);
    // At least one token remains.
    let margin = |cells: usize, across: usize, other: f64, side: f64| {
        let covered = (other * (across as f64 / side)) as usize;
        (cells.saturating_sub(covered) / 2).min((cells - 1) / 2)
    };
    if width / height > columns as f64 / rows as f64 {
        [margin(rows, columns, height, width), 0]
    } else {
        [0, margin(columns, rows, width, height)]
    }
}

/// How features are normalised before the connector reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FeatureNorm {
    /// Layer norm without parameters: each token has mean 0 and variance 1 over its channels,
    /// (x - mean) / √(variance + 1e-6).
    Layer,
    /// One shift and one scale per image: its patch tokens have mean 0 and variance 1 over all tokens and channels,
    /// (x - mean) / √(variance + 1e-6). A class token is shifted and scaled by the same numbers.
    Standard,
}

impl FeatureNorm {
    /// Added to the variance.
    const EPSILON: f64 = 1e-6;

    /// The name in cards and studies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Standard => "standard",
        }
    }
}

impl std::str::FromStr for FeatureNorm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "layer" => Ok(Self::Layer),
            "standard" => Ok(Self::Standard),
            other => Err(Error::usage(format!("unknown normalisation `{other}`")).hint("known: layer, standard")),
        }
    }
}

/// The position and value of a feature that is not finite.
#[derive(Debug, Clone, Copy)]
struct NotFinite {
    /// Index of the image in its batch.
    image: usize,
    /// Index of the token, counted with the class token.
    token: usize,
    /// Index of the channel.
    channel: usize,
    /// The value: NaN or infinite.
    value: f32,
}

/// The largest side of a feature grid in tokens; it prevents huge allocations.
pub const LARGEST_GRID: usize = 512;

/// Checks that both sides of a feature grid are between 1 and [`LARGEST_GRID`].
///
/// # Errors
/// A side is 0 or larger than that.
pub fn check_grid(grid: [usize; 2]) -> Result<()> {
    let [rows, columns] = grid;
    if grid.contains(&0) {
        return Err(Error::usage(format!("a feature grid of {rows}x{columns} has no tokens"))
            .hint(format!("both sides must be between 1 and {LARGEST_GRID}")));
    }
    if grid.iter().any(|side| *side > LARGEST_GRID) {
        let tokens = rows.saturating_mul(columns);
        return Err(Error::usage(format!(
            "a feature grid of {rows}x{columns} has {tokens} tokens for each image, which is too much"
        ))
        .hint(format!("both sides must be between 1 and {LARGEST_GRID}")));
    }
    Ok(())
}

/// The interpolation kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Linear interpolation of the two nearest points per axis.
    Bilinear,
    /// As `Bilinear`, widened by the scale where the grid shrinks, as PyTorch's `antialias` and Pillow.
    AntialiasedBilinear,
    /// Linear interpolation with the corners of both grids on each other, as PyTorch's `align_corners`.
    BilinearCorners,
    /// Mean of the old points that a new point covers, as PyTorch's `mode="area"`.
    Area,
    /// Keys' cubic with a = -0.75 over the four nearest points per axis, as in PyTorch.
    Bicubic,
    /// Keys' cubic with a = -0.5, widened by the scale where the grid shrinks, as PyTorch's `antialias` and Pillow.
    AntialiasedBicubic,
}

/// Resamples `[batch, rows * columns, width]` tokens to another grid with one matrix product per axis:
/// differentiable, equal on every backend, and without moving channels to the front. `offset` is added to the new sides
/// when the scale is computed, as DINOv2's `interpolate_offset` (0.1); otherwise it is 0.
pub(crate) fn resample_tokens(
    tokens: Tensor<3>,
    from: [usize; 2],
    to: [usize; 2],
    kernel: Kernel,
    offset: f64,
) -> Tensor<3> {
    let [batch, _, width] = tokens.dims();
    let device = tokens.device();
    let across = axis_weights(from[1], to[1], kernel, offset, &device).unsqueeze::<3>();
    let down = axis_weights(from[0], to[0], kernel, offset, &device).unsqueeze::<3>();
    let rows = tokens.reshape([batch * from[0], from[1], width]);
    let rows = across.matmul(rows).reshape([batch, from[0], to[1] * width]);
    down.matmul(rows).reshape([batch, to[0] * to[1], width])
}

/// Weights of each old point for each new point, `[to, from]` (half-pixel centres, borders repeated).
pub(crate) fn axis_weights(from: usize, to: usize, kernel: Kernel, offset: f64, device: &Device) -> Tensor<2> {
    let mut weights = vec![0f32; to * from];
    let scale = from as f64 / (to as f64 + offset);
    for (new, row) in weights.chunks_exact_mut(from).enumerate() {
        let middle = (new as f64 + 0.5) * scale;
        let centre = match kernel {
            Kernel::Bilinear => (middle - 0.5).max(0.0),
            Kernel::BilinearCorners => new as f64 * (from - 1) as f64 / (to - 1).max(1) as f64,
            Kernel::AntialiasedBilinear | Kernel::Area | Kernel::Bicubic | Kernel::AntialiasedBicubic => middle - 0.5,
        };
        let base = centre.floor();
        let t = centre - base;
        let (first, taps) = match kernel {
            Kernel::Bilinear | Kernel::BilinearCorners => (base as i64, vec![1.0 - t, t]),
            Kernel::Area => {
                let (first, end) = (new * from / to, ((new + 1) * from).div_ceil(to));
                (first as i64, vec![1.0 / (end - first) as f64; end - first])
            }
            Kernel::Bicubic => (base as i64 - 1, vec![cubic(t + 1.0), cubic(t), cubic(1.0 - t), cubic(2.0 - t)]),
            Kernel::AntialiasedBilinear | Kernel::AntialiasedBicubic => {
                let bicubic = kernel == Kernel::AntialiasedBicubic;
                let smooth = if bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
                let (first, weights) = smooth.weights(from, middle, scale);
                (first as i64, weights)
            }
        };
        for (old, weight) in (first..).zip(taps) {
            let old = old.clamp(0, from as i64 - 1) as usize;
            if let Some(w) = row.get_mut(old) {
                *w += weight as f32;
            }
        }
    }
    transfer::to_device(TensorData::new(weights, [to, from]), device)
}

/// Keys' cubic convolution kernel at distance `x` in 0..2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    if x <= 1.0 { ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0 } else { ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::interpolate::{Interpolate2dConfig, InterpolateMode};
    use burn::tensor::Tolerance;

    fn map(batch: usize, grid: [usize; 2], prefix: usize, width: usize) -> FeatureMap {
        let tokens = grid[0] * grid[1] + prefix;
        let values: Vec<f32> = (0..batch * tokens * width).map(|i| ((i * 31 + 7) % 97) as f32 / 97.0).collect();
        FeatureMap { tokens: Tensor::from_data(TensorData::new(values, [batch, tokens, width]), &Device::flex()), grid }
    }

    #[test]
    fn resampling_equals_interpolate() -> Result<()> {
        for (kernel, mode) in [(Kernel::Bilinear, InterpolateMode::Linear), (Kernel::Bicubic, InterpolateMode::Cubic)] {
            for (from, to) in [([6, 6], [4, 4]), ([3, 5], [7, 6]), ([4, 4], [8, 2])] {
                let m = map(2, from, 0, 3);
                let ours = resample_tokens(m.tokens.clone(), from, to, kernel, 0.0);
                let planes = m.tokens.swap_dims(1, 2).reshape([2, 3, from[0], from[1]]);
                let theirs = Interpolate2dConfig::new()
                    .with_output_size(Some(to))
                    .with_mode(mode.clone())
                    .with_align_corners(false)
                    .init()
                    .forward(planes);
                let theirs = theirs.reshape([2, 3, to[0] * to[1]]).swap_dims(1, 2);
                ours.into_data().assert_approx_eq::<f32>(&theirs.into_data(), Tolerance::absolute(2e-5));
            }
        }
        Ok(())
    }

    #[test]
    fn letterboxes_leave_zeros_where_a_padded_square_has_padding() -> Result<()> {
        let out = map(1, [2, 6], 1, 3).letterboxed([20, 60], [6, 6])?;
        assert_eq!((out.tokens.dims(), out.grid, out.prefix()), ([1, 37, 3], [6, 6], 1));
        let rows: Vec<bool> = (0..6)
            .map(|row| out.tokens.clone().narrow(1, 1 + 6 * row, 6).abs().sum().into_scalar::<f32>() > 0.0)
            .collect();
        assert_eq!(rows, [false, false, true, true, false, false]);
        assert_eq!(letterbox_margins([60, 20], [6, 6]), [0, 2]);
        assert_eq!(letterbox_margins([1, 1000], [6, 6]), [2, 0]);
        assert_eq!(letterbox_margins([60, 60], [6, 6]), [0, 0]);
        Ok(())
    }

    #[test]
    fn the_class_token_survives_resampling() -> Result<()> {
        let m = map(2, [4, 4], 1, 3);
        let out = m.clone().resample([2, 2])?;
        assert_eq!(out.tokens.dims(), [2, 5, 3]);
        assert_eq!(out.prefix(), 1);
        assert_eq!(out.tokens.slice([0..2, 0..1]).into_data(), m.tokens.slice([0..2, 0..1]).into_data());
        Ok(())
    }

    #[test]
    fn concatenation_joins_channels_and_rejects_other_grids() -> Result<()> {
        let both = FeatureMap::concat(&[map(2, [3, 3], 0, 4), map(2, [3, 3], 0, 5)])?;
        assert_eq!(both.tokens.dims(), [2, 9, 9]);
        let error = FeatureMap::concat(&[map(2, [3, 3], 0, 4), map(2, [2, 2], 0, 5)]).err();
        assert!(error.is_some_and(|e| e.to_string().contains("2x2") && e.hint_text().is_some()));
        assert!(FeatureMap::concat(&[]).is_err());
        Ok(())
    }
}
