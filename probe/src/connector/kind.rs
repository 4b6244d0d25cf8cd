//! The kind of a connector with its options, as written in a study or a saved model.
//!
//! A bare name (`connector = "mlp2x_gelu"`) means the default options; options are written in a table of that name
//! (`[evaluator.connector.sva]`).

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The kinds of connectors, named as in the `mm_projector_type` of LLaVA and Cambrian-1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectorKind {
    /// One linear layer.
    Linear(RowOptions),
    /// Two linear layers with a GELU between them.
    Mlp2xGelu(RowOptions),
    /// A gate over the channels (squeeze-and-excitation), then two linear layers with a GELU between them.
    SeMlp(RowOptions),
    /// Honeybee's C-Abstractor: convolutions and pooling.
    CAbstractor(CAbstractorOptions),
    /// Cross-attention of learnable queries to all tokens.
    Resampler(ResamplerOptions),
    /// The Spatial Vision Aggregator: cross-attention of learnable queries, each to its own window of the image.
    Sva(SvaOptions),
}

/// Options of a connector that keeps the feature grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowOptions {
    /// Whether a learnable newline follows each row and padding is masked. Default false, as in LLaVA-1.5.
    pub newline: bool,
    /// Whether each image token is brought to the length of word embeddings and gets a fixed two-dimensional position
    /// embedding. Default false, as in LLaVA-1.5.
    pub positions: bool,
    /// Whether features are standardised per channel, by the statistics of the first training images. Default false, as
    /// in LLaVA-1.5.
    pub standardise: bool,
}

/// Options of the C-Abstractor. The defaults are those of Honeybee-7B.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CAbstractorOptions {
    /// Number of channels of the convolutions.
    pub hidden: usize,
    /// Number of blocks before the pooling, and as many after it.
    pub depth: usize,
    /// Number of linear layers after the convolutions.
    pub mlp_depth: usize,
    /// Side of the grid after pooling.
    pub grid: usize,
    /// Whether a learnable position embedding is added to the features.
    pub positions: bool,
}

impl Default for CAbstractorOptions {
    fn default() -> Self {
        Self { hidden: 1024, depth: 3, mlp_depth: 2, grid: 12, positions: true }
    }
}

/// Options of the resampler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResamplerOptions {
    /// Width of queries, keys and values, in channels.
    pub hidden: usize,
    /// Number of attention heads. Default 16.
    #[serde(default = "heads")]
    pub heads: usize,
    /// Number of cross-attention layers.
    pub depth: usize,
    /// Number of queries, which is the number of image tokens.
    pub queries: usize,
    /// Side of the grid to which each encoder's features are resampled, in the arm's order. Default: their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tower_grids: Vec<usize>,
}

/// Options of the Spatial Vision Aggregator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SvaOptions {
    /// Width of queries, keys and values (`vision_hidden_size`; 1024 in the released models).
    pub hidden: usize,
    /// Number of attention heads. Default 16, as in the released models.
    #[serde(default = "heads")]
    pub heads: usize,
    /// D: number of cross-attention layers before the language model (`connector_depth`).
    pub depth: usize,
    /// Side of the query grid of each of the G groups (√ of `query_num_list`).
    pub query_grids: Vec<usize>,
    /// Side of the grid of image tokens (√ of `image_token_len`).
    pub grid: usize,
    /// Side of the grid to which each encoder's features are resampled, in the arm's order. Default: the largest
    /// multiple of all query grids that is not finer than the features, or else the smallest multiple.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tower_grids: Vec<usize>,
    /// Cross-attention between layers of the language model, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samplers: Option<SamplerOptions>,
    /// Whether a learnable newline follows each row and padding is masked. Default true.
    #[serde(default = "yes")]
    pub newline: bool,
}

/// The layers of the language model that samplers follow: `start`, `start + stride`, ….
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerOptions {
    /// The first such layer, counted from 0 (`start_of_vision_sampler_layers`).
    pub start: usize,
    /// The distance between two such layers (`stride_of_vision_sampler_layers`).
    pub stride: usize,
    /// The number of samplers (`num_of_vision_sampler_layers`).
    pub number: usize,
}

impl SamplerOptions {
    /// The index of the sampler that follows this layer of the language model, if any.
    pub fn after(&self, layer: usize) -> Option<usize> {
        let beyond = layer.checked_sub(self.start)?;
        (self.stride > 0 && beyond % self.stride == 0).then(|| beyond / self.stride).filter(|i| *i < self.number)
    }

    /// The last layer that a sampler follows.
    pub fn last(&self) -> usize {
        self.start.saturating_add(self.stride.saturating_mul(self.number.saturating_sub(1)))
    }
}

fn heads() -> usize {
    16
}

fn yes() -> bool {
    true
}

/// [`ConnectorKind`] in the form in which serde reads and writes tables.
#[derive(Serialize, Deserialize)]
enum Table {
    #[serde(rename = "linear")]
    Linear(RowOptions),
    #[serde(rename = "mlp2x_gelu")]
    Mlp2xGelu(RowOptions),
    #[serde(rename = "se_mlp")]
    SeMlp(RowOptions),
    #[serde(rename = "c_abstractor")]
    CAbstractor(CAbstractorOptions),
    #[serde(rename = "resampler")]
    Resampler(ResamplerOptions),
    #[serde(rename = "sva")]
    Sva(SvaOptions),
}

impl From<Table> for ConnectorKind {
    fn from(table: Table) -> Self {
        match table {
            Table::Linear(o) => Self::Linear(o),
            Table::Mlp2xGelu(o) => Self::Mlp2xGelu(o),
            Table::SeMlp(o) => Self::SeMlp(o),
            Table::CAbstractor(o) => Self::CAbstractor(o),
            Table::Resampler(o) => Self::Resampler(o),
            Table::Sva(o) => Self::Sva(o),
        }
    }
}

impl From<ConnectorKind> for Table {
    fn from(kind: ConnectorKind) -> Self {
        match kind {
            ConnectorKind::Linear(o) => Self::Linear(o),
            ConnectorKind::Mlp2xGelu(o) => Self::Mlp2xGelu(o),
            ConnectorKind::SeMlp(o) => Self::SeMlp(o),
            ConnectorKind::CAbstractor(o) => Self::CAbstractor(o),
            ConnectorKind::Resampler(o) => Self::Resampler(o),
            ConnectorKind::Sva(o) => Self::Sva(o),
        }
    }
}

impl ConnectorKind {
    /// The name in studies and results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Mlp2xGelu(_) => "mlp2x_gelu",
            Self::SeMlp(_) => "se_mlp",
            Self::CAbstractor(_) => "c_abstractor",
            Self::Resampler(_) => "resampler",
            Self::Sva(_) => "sva",
        }
    }

    /// Whether the connector's parameters depend on the encoders' grids, so that a saved model must contain them.
    pub fn knows_towers(&self) -> bool {
        matches!(self, Self::CAbstractor(_) | Self::Resampler(_) | Self::Sva(_))
    }

    /// Whether the connector reads each encoder's features separately, on their own grid, instead of concatenated.
    pub fn reads_each_tower(&self) -> bool {
        matches!(self, Self::Resampler(_) | Self::Sva(_))
    }

    /// Whether the connector needs the grid of the features.
    pub fn reads_grid(&self) -> bool {
        self.knows_towers() || self.reads_sizes() || self.adds_positions()
    }

    /// Whether a fixed two-dimensional position embedding is added to each image token.
    pub fn adds_positions(&self) -> bool {
        match self {
            Self::Linear(o) | Self::Mlp2xGelu(o) | Self::SeMlp(o) => o.positions,
            Self::CAbstractor(_) | Self::Resampler(_) | Self::Sva(_) => false,
        }
    }

    /// Whether the connector standardises features, and so needs their statistics before it is trained.
    pub fn standardises(&self) -> bool {
        match self {
            Self::Linear(o) | Self::Mlp2xGelu(o) | Self::SeMlp(o) => o.standardise,
            Self::CAbstractor(_) | Self::Resampler(_) | Self::Sva(_) => false,
        }
    }

    /// Whether the connector masks padding, and so needs the image sizes.
    pub fn reads_sizes(&self) -> bool {
        match self {
            Self::Linear(o) | Self::Mlp2xGelu(o) | Self::SeMlp(o) => o.newline,
            Self::CAbstractor(_) => false,
            Self::Resampler(_) | Self::Sva(_) => true,
        }
    }

    /// The positions of samplers in the language model, if there are any.
    pub fn samplers(&self) -> Option<SamplerOptions> {
        match self {
            Self::Sva(options) => options.samplers,
            _ => None,
        }
    }
}

impl Default for ConnectorKind {
    fn default() -> Self {
        Self::Mlp2xGelu(RowOptions::default())
    }
}

impl fmt::Display for ConnectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ConnectorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Written as a bare name where the options are defaults, which is also the format of earlier versions.
        match self {
            Self::Linear(o) | Self::Mlp2xGelu(o) | Self::SeMlp(o) if *o == RowOptions::default() => {
                serializer.serialize_str(self.name())
            }
            _ => Table::from(self.clone()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ConnectorKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = ConnectorKind;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the name of a connector, or a table of its name with its options")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let no_options = BTreeMap::<String, String>::new();
        let table = MapDeserializer::new(std::iter::once((name, no_options)));
        Table::deserialize(MapAccessDeserializer::new(table)).map(Into::into)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        connector: ConnectorKind,
    }

    fn read(text: &str) -> Result<ConnectorKind, String> {
        toml::from_str::<Holder>(text).map(|h| h.connector).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_tables_are_read() {
        assert_eq!(read("connector = \"mlp2x_gelu\""), Ok(ConnectorKind::default()));
        assert_eq!(
            read("[connector.mlp2x_gelu]\nnewline = true"),
            Ok(ConnectorKind::Mlp2xGelu(RowOptions { newline: true, ..RowOptions::default() }))
        );
        assert_eq!(read("connector = \"c_abstractor\""), Ok(ConnectorKind::CAbstractor(CAbstractorOptions::default())));
        let sva = read(
            "[connector.sva]\nhidden = 1024\ndepth = 3\nquery_grids = [24]\ngrid = 24\nsamplers = { start = 0, stride = 3, number = 10 }",
        );
        let Ok(ConnectorKind::Sva(options)) = &sva else { panic!("{sva:?}") };
        assert!(options.newline && options.heads == 16);
        assert_eq!(options.samplers.and_then(|s| s.after(27)), Some(9));
        assert_eq!(options.samplers.and_then(|s| s.after(28).or(s.after(30))), None);
    }

    #[test]
    fn what_is_written_is_read_again() -> Result<(), Box<dyn std::error::Error>> {
        for text in [
            "connector = \"linear\"",
            "[connector.se_mlp]\nnewline = true",
            "[connector.resampler]\nhidden = 8\ndepth = 1\nqueries = 4",
            "[connector.sva]\nhidden = 8\ndepth = 1\nquery_grids = [2, 4]\ngrid = 4\nnewline = false",
        ] {
            let kind = read(text)?;
            let json = serde_json::to_string(&kind)?;
            assert_eq!(serde_json::from_str::<ConnectorKind>(&json)?, kind, "{json}");
            let toml = toml::to_string(&Holder { connector: kind.clone() })?;
            assert_eq!(read(&toml)?, kind, "{toml}");
        }
        assert_eq!(serde_json::to_string(&ConnectorKind::default())?, "\"mlp2x_gelu\"");
        Ok(())
    }

    #[test]
    fn wrong_names_and_missing_options_are_said() {
        let e = read("connector = \"mlp\"").unwrap_err();
        assert!(e.contains("mlp2x_gelu") && e.contains("sva"), "{e}");
        let e = read("connector = \"sva\"").unwrap_err();
        assert!(e.contains("missing field `hidden`"), "{e}");
        let e = read("[connector.linear]\nnew_line = true").unwrap_err();
        assert!(e.contains("new_line") && e.contains("newline"), "{e}");
    }
}
