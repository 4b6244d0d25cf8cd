//! Connectors: map patch features to image tokens of the language model's width.
//!
//! There is one file per connector. To add one, write its file with its module and options, implement `ConnectorModule`
//! for the module (if it keeps the feature grid, only [`TokenProjection`] for its layers), and add a row to the list in
//! `registry.rs`, which gives it its name in studies.

mod c_abstractor;
mod config;
mod definition;
mod encoder_shape;
mod grid;
mod image_tokens;
mod limits;
mod linear;
mod mlp2x_gelu;
pub(crate) mod position_embedding;
mod registry;
mod resampler;
mod se_mlp;
mod standardise;
mod sva;
mod token_layout;

pub use c_abstractor::{CAbstractor, CAbstractorOptions};
pub use config::ConnectorConfig;
pub use definition::ConnectorProperties;
pub use encoder_shape::EncoderShape;
pub use grid::{GridConnector, GridOptions, LayerWidths, TokenProjection};
pub use image_tokens::ImageTokens;
pub use linear::LinearConnector;
pub use mlp2x_gelu::Mlp2xGelu;
pub use registry::{Connector, ConnectorKind};
pub use resampler::{Resampler, ResamplerOptions};
pub use se_mlp::SeMlp;
pub use standardise::{ChannelStatistics, Standardise};
pub use sva::{BoundSvaContext, ImagePositions, SamplerOptions, Sva, SvaContext, SvaOptions};
pub use token_layout::{ImageRegion, ImageSize, TokenLayout};

use burgess_base::{Error, Result};
use burgess_encoders::features::FeatureMap;
use burgess_encoders::init;
use burn::module::Param;
use burn::tensor::Tensor;

impl Connector {
    /// Sets the statistics by which a connector with `standardise` standardises its features.
    ///
    /// # Errors
    /// When the connector does not standardise, or the statistics have another width than its features.
    pub fn set_statistics(&mut self, statistics: ChannelStatistics) -> Result<()> {
        let width = self.feature_width();
        let Some(own) = self.standardise_mut() else {
            return Err(Error::failed("feature statistics were given to a connector without the option `standardise`"));
        };
        let (mean, deviation) = statistics.finish();
        if mean.len() != width {
            return Err(Error::failed(format!(
                "feature statistics have {} channels, the connector reads features of width {width}",
                mean.len()
            )));
        }
        own.mean = standardise::with_values(own.mean.clone(), mean);
        own.deviation = standardise::with_values(own.deviation.clone(), deviation);
        Ok(())
    }
}

/// Concatenates the features of all encoders to the width `expected` that a connector reads.
///
/// # Errors
/// When they are on different grids, or have another width.
fn joined(encoders: &[FeatureMap], expected: usize) -> Result<FeatureMap> {
    let joined = match encoders {
        [one] => one.clone(),
        several => FeatureMap::concat(several)?,
    };
    let width = joined.tokens.dims()[2];
    if width != expected {
        return Err(Error::failed(format!(
            "the connector reads features of width {expected}, the encoders gave {width}"
        ))
        .hint("the model was trained with another encoder"));
    }
    Ok(joined)
}

/// Checks the widths of the encoders' features and resamples them to square grids of the given sides.
///
/// # Errors
/// When the number of encoders or a width differs, or a tensor has a class token.
fn towers_of(
    towers: &[FeatureMap],
    widths: impl ExactSizeIterator<Item = usize>,
    grids: &[usize],
) -> Result<Vec<FeatureMap>> {
    if towers.len() != widths.len() || towers.len() != grids.len() {
        return Err(Error::failed(format!(
            "the connector reads the features of {} encoders, got those of {}",
            widths.len(),
            towers.len()
        )));
    }
    let images = towers.first().map_or(0, |t| t.tokens.dims()[0]);
    let each = towers.iter().zip(widths.zip(grids)).enumerate().map(|(i, (tower, (width, &side)))| {
        let [count, _, given] = tower.tokens.dims();
        if given != width {
            return Err(Error::failed(format!(
                "the connector reads features of width {width} from encoder {}, got {given}",
                i + 1
            ))
            .hint("the model was trained with another encoder"));
        }
        if tower.prefix() > 0 || count != images {
            return Err(Error::failed(format!(
                "encoder {} gave {count} images with {} tokens before the patches; expected {images} and none",
                i + 1,
                tower.prefix()
            ))
            .hint("leave the class token out of the features"));
        }
        tower.clone().resample([side, side])
    });
    each.collect()
}

/// Replaces a parameter by one drawn from a normal distribution with mean 0 and the given standard deviation.
fn normal<const D: usize>(name: &str, seed: u64, param: Param<Tensor<D>>, deviation: f64) -> Param<Tensor<D>> {
    init::normal(&format!("connector/{name}"), seed, param, deviation)
}
