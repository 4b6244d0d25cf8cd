//! The scale of features: mean, standard deviation and effective rank over some of their tokens.

use crate::features::FrozenFeatures;
use burgess_base::{Error, Result};
use burgess_encoders::probe::spread::SpreadSums;
use burgess_encoders::transfer;
use burgess_reports::schema::FeatureScale;
use burn::tensor::Device;

/// The largest number of images whose features are read.
const IMAGES: usize = 16;
/// The largest number of tokens that are measured; every n-th token is taken.
const TOKENS: usize = 1024;
/// The largest number of channels for which the effective rank is computed, which takes time cubic in it.
const CHANNELS: usize = 2048;

/// The scale of the features of up to 16 images, evenly spaced in the order of the study.
///
/// # Errors
/// An image cannot be read, or a feature is not finite.
pub fn of_features(encoder: String, features: &FrozenFeatures) -> Result<FeatureScale> {
    let count = features.images();
    let step = count.div_ceil(IMAGES).max(1);
    let images: Vec<usize> = (0..count).step_by(step).collect();
    let map = features.batch(&images, &Device::flex())?;
    let [images, tokens, width] = map.tokens.dims();
    let patches = map.grid[0] * map.grid[1];
    let values: Vec<f32> = transfer::to_host(map.tokens)?;
    // The class token has a scale of its own.
    let each = (0..images).flat_map(|image| (tokens - patches..tokens).map(move |token| image * tokens + token));
    let all: Vec<&[f32]> = each.filter_map(|at| values.get(at * width..(at + 1) * width)).collect();
    of_tokens(encoder, &all)
}

/// The scale of these tokens, each with the values of its channels.
///
/// # Errors
/// There is no token, or a value is not finite.
pub fn of_tokens(encoder: String, tokens: &[&[f32]]) -> Result<FeatureScale> {
    let width = tokens.first().map_or(0, |token| token.len());
    if width == 0 {
        return Err(Error::failed(format!("{encoder}: there are no features to measure")));
    }
    let step = tokens.len().div_ceil(TOKENS).max(1);
    let chosen: Vec<&[f32]> = tokens.iter().step_by(step).copied().collect();
    let count = (chosen.len() * width) as f64;
    let values = || chosen.iter().flat_map(|token| token.iter().map(|v| f64::from(*v)));
    let mean = values().sum::<f64>() / count;
    let std = (values().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    if !std.is_finite() {
        return Err(Error::failed(format!("{encoder}: a feature is not finite")));
    }
    // Tokens that are all equal have no rank.
    let equal = chosen.windows(2).all(|pair| pair[0] == pair[1]);
    let effective_rank = if width > CHANNELS || equal {
        None
    } else {
        let mut sums = SpreadSums::new(width);
        chosen.iter().try_for_each(|token| sums.add(token))?;
        Some(sums.spread()?.effective_rank)
    };
    Ok(FeatureScale { encoder, mean, std, effective_rank })
}

/// Formats a scale for messages.
pub fn words(scale: &FeatureScale) -> String {
    let rank = scale.effective_rank.map_or_else(String::new, |rank| format!(", effective rank {rank:.1}"));
    format!("mean {:.4}, standard deviation {:.4}{rank}", scale.mean, scale.std)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_those_of_the_tokens() -> Result<()> {
        // Two directions of equal strength around a mean: the effective rank is 2.
        let tokens = [[3.0f32, 1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, -1.0, 1.0]];
        let slices: Vec<&[f32]> = tokens.iter().map(<[f32; 3]>::as_slice).collect();
        let scale = of_tokens("a".into(), &slices)?;
        assert!((scale.mean - 1.0).abs() < 1e-12 && (scale.std - (16.0f64 / 12.0).sqrt()).abs() < 1e-12, "{scale:?}");
        assert!(scale.effective_rank.is_some_and(|rank| (rank - 2.0).abs() < 1e-6), "{scale:?}");
        let equal: Vec<&[f32]> = vec![&[1.0, 2.0]; 3];
        assert_eq!(of_tokens("a".into(), &equal)?.effective_rank, None);
        assert!(of_tokens("a".into(), &[]).is_err());
        Ok(())
    }
}
