//! The configuration of a connector: everything except its weights.

use super::arrangement::ImageSize;
use super::kind::{ConnectorKind, RowOptions, SvaOptions};
use super::{Connector, LinearConnector, Mlp2xGelu, SeMlp, Standardise, normal};
use burgess_base::{Error, Result};
use burgess_encoders::features::FeatureMap;
use burgess_encoders::init::initialise;
use burn::module::{Initializer, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The configuration of a connector: its kind, and the shapes of its input and output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectorConfig {
    /// The kind of connector, with its options.
    #[serde(default)]
    pub kind: ConnectorKind,
    /// Width of the input features, summed over all encoders.
    pub feature_width: usize,
    /// Width of the language model, which is that of the image tokens.
    pub llm_width: usize,
    /// The shape of each encoder's features; only for connectors whose parameters depend on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub towers: Vec<TowerShape>,
}

/// The shape of one encoder's features as a connector reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerShape {
    /// Number of channels per token.
    pub width: usize,
    /// Side of the square grid.
    pub grid: usize,
}

impl ConnectorConfig {
    /// Builds the configuration for encoders whose features have these widths and grids `[rows, columns]`.
    ///
    /// # Errors
    /// When the options do not match the encoders.
    pub fn new(kind: ConnectorKind, towers: &[(usize, [usize; 2])], llm_width: usize) -> Result<Self> {
        kind.check_limits()?;
        let chosen: &[usize] = match &kind {
            ConnectorKind::Sva(o) => &o.tower_grids,
            ConnectorKind::Resampler(o) => &o.tower_grids,
            _ => &[],
        };
        if !chosen.is_empty() && chosen.len() != towers.len() {
            return Err(Error::usage(format!(
                "connector {kind}: `tower_grids` names {} grids for {} encoders",
                chosen.len(),
                towers.len()
            )));
        }
        let shapes = towers.iter().enumerate().map(|(i, &(width, grid))| {
            // A grid that is not square is resampled to a square with about as many tokens.
            let own = (grid[0] * grid[1]).isqrt();
            let side = match (chosen.get(i), &kind) {
                (Some(side), _) => *side,
                (None, ConnectorKind::Sva(options)) => options.nearest(own),
                (None, _) => own,
            };
            TowerShape { width, grid: side }
        });
        let shapes: Vec<TowerShape> = if kind.knows_towers() { shapes.collect() } else { Vec::new() };
        let shapes = match kind {
            // The features are concatenated before the connector, on the finest grid.
            ConnectorKind::CAbstractor(_) => {
                let side = shapes.iter().map(|s| s.grid).max().unwrap_or(0);
                shapes.into_iter().map(|s| TowerShape { grid: side, ..s }).collect()
            }
            _ => shapes,
        };
        let config = Self { kind, feature_width: towers.iter().map(|t| t.0).sum(), llm_width, towers: shapes };
        config.check()?;
        Ok(config)
    }

    /// Checks that widths, grids and options are consistent and within limits.
    ///
    /// # Errors
    /// When they are not; the error names the option.
    pub fn check(&self) -> Result<()> {
        self.check_limits()?;
        if self.kind.knows_towers() {
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
        let grids: Vec<usize> = self.towers.iter().map(|t| t.grid).collect();
        match &self.kind {
            ConnectorKind::Linear(_) | ConnectorKind::Mlp2xGelu(_) | ConnectorKind::SeMlp(_) => Ok(()),
            ConnectorKind::CAbstractor(options) => options.check(),
            ConnectorKind::Resampler(options) => options.check(),
            ConnectorKind::Sva(options) => options.check(&grids),
        }
    }

    /// Number of image tokens of one image, newlines included, for encoders with these grids.
    pub fn positions(&self, grids: &[[usize; 2]]) -> usize {
        let rows = |side: usize, newline: bool| side * (side + usize::from(newline));
        let finest = grids.iter().max_by_key(|g| g[0] * g[1]).copied().unwrap_or_default();
        match &self.kind {
            ConnectorKind::Linear(o) | ConnectorKind::Mlp2xGelu(o) | ConnectorKind::SeMlp(o) => {
                finest[0] * (finest[1] + usize::from(o.newline))
            }
            ConnectorKind::CAbstractor(o) => o.grid * o.grid,
            ConnectorKind::Resampler(o) => o.queries,
            ConnectorKind::Sva(o) => rows(o.grid, o.newline),
        }
    }

    /// Prepares the features of all encoders `[images, …]`, each on its own grid: unchanged if the connector reads
    /// them separately, else concatenated along the channels on the finest grid.
    ///
    /// # Errors
    /// When they cannot be concatenated.
    pub fn gather(&self, maps: Vec<FeatureMap>) -> Result<Vec<FeatureMap>> {
        if self.kind.reads_each_tower() || maps.len() < 2 {
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
        let (from, to) = (self.feature_width, self.llm_width);
        let newline = |newline: bool| newline.then(|| Initializer::Zeros.init([to], device));
        let standardise = |o: &RowOptions| o.standardise.then(|| Standardise::new(from, device));
        Ok(match &self.kind {
            ConnectorKind::Linear(o) => Connector::Linear(LinearConnector {
                standardise: standardise(o),
                ..LinearConnector::new(from, to, newline(o.newline), device)
            }),
            ConnectorKind::Mlp2xGelu(o) => Connector::Mlp2xGelu(Mlp2xGelu {
                standardise: standardise(o),
                ..Mlp2xGelu::new(from, to, newline(o.newline), device)
            }),
            ConnectorKind::SeMlp(o) => Connector::SeMlp(SeMlp {
                standardise: standardise(o),
                ..SeMlp::new(from, to, newline(o.newline), device)
            }),
            ConnectorKind::CAbstractor(o) => Connector::CAbstractor(o.init(&self.towers, to, device)?),
            ConnectorKind::Resampler(o) => Connector::Resampler(o.init(&self.towers, to, device)?),
            ConnectorKind::Sva(o) => Connector::Sva(o.init(&self.towers, to, device)?),
        })
    }

    /// Builds a connector with weights drawn from `seed`, which are the same on every machine.
    ///
    /// # Errors
    /// When the configuration fails [`ConnectorConfig::check`].
    pub fn draw(&self, seed: u64, device: &Device) -> Result<Connector> {
        let newline = |p: Option<Param<Tensor<1>>>| {
            p.map(|p| normal("image_newline", seed, p, (self.llm_width as f64).powf(-0.5)))
        };
        Ok(match initialise(self.init(device)?, "connector", seed) {
            Connector::Linear(mut c) => {
                c.image_newline = newline(c.image_newline);
                Connector::Linear(c)
            }
            Connector::Mlp2xGelu(mut c) => {
                c.image_newline = newline(c.image_newline);
                Connector::Mlp2xGelu(c)
            }
            Connector::SeMlp(mut c) => {
                c.image_newline = newline(c.image_newline);
                Connector::SeMlp(c)
            }
            Connector::Resampler(c) => Connector::Resampler(c.draw(seed)),
            Connector::Sva(c) => Connector::Sva(c.draw(self.llm_width, seed)),
            other @ Connector::CAbstractor(_) => other,
        })
    }
}

impl SvaOptions {
    /// The default of [`SvaOptions::tower_grids`] for features on a grid of side `own`.
    fn nearest(&self, own: usize) -> usize {
        let grids = self.query_grids.iter().chain(self.samplers.iter().map(|_| &self.grid));
        let step = grids.fold(1, |a, &b| lcm(a, b.max(1)));
        (own / step).max(1).saturating_mul(step)
    }
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b)
}

/// Checks that there is one size per image of the batch.
pub(super) fn check_sizes(images: Option<&[ImageSize]>, count: usize) -> Result<()> {
    match images {
        Some(sizes) if sizes.len() != count => {
            Err(Error::failed(format!("{} image sizes for the features of {count} images", sizes.len())))
        }
        _ => Ok(()),
    }
}
