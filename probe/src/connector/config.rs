//! The configuration of a connector: everything except its weights.

use super::definition::ConnectorShape;
use super::encoder_shape::EncoderShape;
use super::registry::{Connector, ConnectorKind};
use burgess_base::{Error, Result};
use burgess_encoders::features::FeatureMap;
use burgess_encoders::init::initialise;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// The configuration of a connector: its type with options, and the shapes of its input and output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectorConfig {
    /// The type of connector, with its options.
    #[serde(default)]
    pub kind: ConnectorKind,
    /// Width of the input features in channels, summed over all encoders.
    pub feature_width: usize,
    /// Width of the language model, which is that of the image tokens.
    pub llm_width: usize,
    /// The shape of each encoder's features; empty for connectors whose parameters do not depend on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub towers: Vec<EncoderShape>,
}

impl ConnectorConfig {
    /// Builds the configuration for encoders whose features have these widths and grids `[rows, columns]`.
    ///
    /// # Errors
    /// When an option is too large, or the options do not fit the encoders; the error names the option.
    pub fn new(kind: ConnectorKind, towers: &[(usize, [usize; 2])], llm_width: usize) -> Result<Self> {
        kind.check_limits()?;
        // A grid that is not square is resampled to a square with about as many tokens.
        let own = |&(width, grid): &(usize, [usize; 2])| EncoderShape { width, grid: (grid[0] * grid[1]).isqrt() };
        let own: Vec<EncoderShape> = towers.iter().map(own).collect();
        let shapes = kind.encoder_shapes(&own)?;
        let config = Self { kind, feature_width: own.iter().map(|e| e.width).sum(), llm_width, towers: shapes };
        config.check()?;
        Ok(config)
    }

    /// Checks that widths, grids and options are consistent and within limits.
    ///
    /// # Errors
    /// When they are not; the error names the option.
    pub fn check(&self) -> Result<()> {
        self.check_limits()?;
        if self.kind.properties().needs_encoder_shapes {
            let width = self.towers.iter().fold(0_usize, |all, t| all.saturating_add(t.width));
            if width != self.feature_width || self.towers.is_empty() || self.towers.iter().any(|t| t.grid == 0) {
                return Err(Error::usage(format!(
                    "connector {}: `towers` describes {} encoders of width {width} together, `feature_width` is {}",
                    self.kind,
                    self.towers.len(),
                    self.feature_width
                )));
            }
        }
        self.kind.check(&self.towers)
    }

    /// Returns the number of tokens of one image, newlines included, for encoders with these grids `[rows, columns]`.
    pub fn image_tokens(&self, grids: &[[usize; 2]]) -> usize {
        self.kind.image_tokens(grids)
    }

    /// Prepares the features of all encoders, each `[images, tokens, width]` on its own grid, for
    /// [`Connector::forward`]: unchanged if the connector reads them separately, else resampled to the finest grid and
    /// concatenated along the channels.
    ///
    /// # Errors
    /// When they cannot be resampled or concatenated, for example because only some have a class token.
    pub fn gather(&self, maps: Vec<FeatureMap>) -> Result<Vec<FeatureMap>> {
        if self.kind.properties().reads_each_encoder || maps.len() < 2 {
            return Ok(maps);
        }
        let Some(grid) = maps.iter().map(|m| m.grid).max_by_key(|g| g[0] * g[1]) else {
            return Ok(maps);
        };
        let maps: Vec<FeatureMap> = maps.into_iter().map(|m| m.resample(grid)).collect::<Result<_>>()?;
        Ok(vec![FeatureMap::concat(&maps)?])
    }

    /// Builds a connector with weights from Burn's own generator, to be replaced by those of a checkpoint.
    ///
    /// # Errors
    /// When the configuration fails [`ConnectorConfig::check`].
    pub fn init(&self, device: &Device) -> Result<Connector> {
        self.check()?;
        self.kind.init(self.shape(), device)
    }

    /// Builds a connector with weights drawn from `seed`, which are the same on every machine.
    ///
    /// # Errors
    /// When the configuration fails [`ConnectorConfig::check`].
    pub fn draw(&self, seed: u64, device: &Device) -> Result<Connector> {
        Ok(initialise(self.init(device)?, "connector", seed).redraw(self.llm_width, seed))
    }

    pub(super) fn shape(&self) -> ConnectorShape<'_> {
        ConnectorShape { feature_width: self.feature_width, llm_width: self.llm_width, encoders: &self.towers }
    }
}
