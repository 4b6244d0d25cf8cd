//! The list of connectors, and the enums over them that are generated from it.
//!
//! A bare name (`connector = "mlp2x_gelu"`) means the default options; options are written in a table of that name
//! (`[evaluator.connector.sva]`).

use super::definition::{ConnectorModule, ConnectorProperties, ConnectorShape};
use super::encoder_shape::{self, EncoderShape};
use super::grid::GridOptions;
use super::image_tokens::ImageTokens;
use super::standardise::Standardise;
use super::sva::BoundSvaContext;
use super::token_layout::ImageSize;
use crate::released::CambrianConfig;
use burgess_base::{Error, Result, text};
use burgess_encoders::checkpoint::Dialect;
use burgess_encoders::features::FeatureMap;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Generates [`ConnectorKind`], [`Connector`] and their matches from the list of connectors. A row has a description,
/// the name in studies and results, the variant, and the types of options and module with their files.
macro_rules! connectors {
    ($($(#[$doc:meta])* $name:literal => $variant:ident($of:ident::$options:ident, $file:ident::$module:ident),)+) => {
        /// A connector with its options, as written in a study or a saved model: a table of its name, or the name alone
        /// for the default options. The names are those of LLaVA's and
        /// Cambrian-1's `mm_projector_type`.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(!remote, transform = accept_names))]
        #[serde(remote = "Self")]
        pub enum ConnectorKind {
            $($(#[$doc])* #[serde(rename = $name)] $variant(super::$of::$options),)+
        }

        /// The module of a connector.
        ///
        /// The variants' names are part of parameter paths, and so of the random streams from which parameters are
        /// drawn and of the keys in saved training states.
        // A model has one connector, so the variants' sizes do not matter.
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant)]
        pub enum Connector {
            $($(#[$doc])* $variant(super::$file::$module),)+
        }

        impl ConnectorKind {
            /// The names of all connectors.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// Returns the name in studies and results.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// Returns the inputs of the connector besides the features, and what it adds to the model.
            pub fn properties(&self) -> ConnectorProperties {
                match self { $(Self::$variant(options) => super::$file::$module::properties(options),)+ }
            }

            /// Translates the configuration of a released Cambrian-1 model.
            ///
            /// # Errors
            /// When no released model has this connector, or a value is missing or invalid.
            pub(crate) fn from_cambrian(config: &CambrianConfig) -> Result<Self> {
                $(if config.mm_projector_type == $name && let Some(options) = super::$file::$module::FROM_CAMBRIAN {
                    return options(config).map(Self::$variant);
                })+
                let known = [$(($name, super::$file::$module::FROM_CAMBRIAN.is_some())),+];
                let known: Vec<&str> = known.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
                let found = text::excerpt(&config.mm_projector_type, 60);
                Err(Error::failed(format!("no connector for mm_projector_type `{found}`"))
                    .hint(format!("known: {}", known.join(", "))))
            }

            fn is_short(&self) -> bool {
                match self { $(Self::$variant(options) => super::$file::$module::is_short(options),)+ }
            }

            pub(super) fn check_limits(&self) -> Result<()> {
                match self { $(Self::$variant(options) => super::$file::$module::check_limits($name, options),)+ }
            }

            pub(super) fn check(&self, encoders: &[EncoderShape]) -> Result<()> {
                match self { $(Self::$variant(options) => super::$file::$module::check($name, options, encoders),)+ }
            }

            pub(super) fn encoder_shapes(&self, encoders: &[EncoderShape]) -> Result<Vec<EncoderShape>> {
                match self {
                    $(Self::$variant(options) => super::$file::$module::encoder_shapes($name, options, encoders),)+
                }
            }

            pub(super) fn image_tokens(&self, grids: &[[usize; 2]]) -> usize {
                match self { $(Self::$variant(options) => super::$file::$module::image_tokens(options, grids),)+ }
            }

            pub(super) fn parameters(&self, shape: ConnectorShape<'_>) -> f64 {
                match self { $(Self::$variant(options) => super::$file::$module::parameters(options, shape),)+ }
            }

            pub(super) fn init(&self, shape: ConnectorShape<'_>, device: &Device) -> Result<Connector> {
                Ok(match self {
                    $(Self::$variant(options) => {
                        Connector::$variant(super::$file::$module::init(options, shape, device)?)
                    })+
                })
            }
        }

        impl Connector {
            /// Returns the translation between the module's parameter paths and the keys of published checkpoints.
            pub fn dialect(&self) -> &'static Dialect {
                match self { $(Self::$variant(_) => super::$file::$module::DIALECT,)+ }
            }

            /// Width of the input features, summed over all encoders.
            pub fn feature_width(&self) -> usize {
                match self { $(Self::$variant(module) => module.feature_width(),)+ }
            }

            /// Maps the features of each encoder, `[images, tokens, width]`, to image tokens.
            ///
            /// Connectors that read concatenated features concatenate them here if they share a grid. `images` holds
            /// the image sizes before padding to squares; without it nothing counts as padding.
            ///
            /// # Errors
            /// When the features do not have the widths and grids that the connector expects.
            pub fn forward(&self, encoders: &[FeatureMap], images: Option<&[ImageSize]>) -> Result<ImageTokens> {
                encoder_shape::check_sizes(images, encoders.first().map_or(0, |map| map.tokens.dims()[0]))?;
                match self { $(Self::$variant(module) => module.forward(encoders, images),)+ }
            }

            /// Updates the hidden states `[rows, t, llm width]` after a layer of the language model; see
            /// [`Sva::apply`](super::sva::Sva::apply). Without a context nothing changes.
            ///
            /// # Errors
            /// As [`Sva::apply`](super::sva::Sva::apply); also when the connector has no samplers, but a context is
            /// given.
            pub fn after_layer(
                &self,
                layer: usize,
                hidden: Tensor<3>,
                context: Option<&BoundSvaContext>,
            ) -> Result<Tensor<3>> {
                let Some(context) = context else { return Ok(hidden) };
                match self { $(Self::$variant(module) => module.after_layer(layer, hidden, context),)+ }
            }

            pub(super) fn redraw(self, llm_width: usize, seed: u64) -> Self {
                match self { $(Self::$variant(module) => Self::$variant(module.redraw(llm_width, seed)),)+ }
            }

            pub(super) fn standardise_mut(&mut self) -> Option<&mut Standardise> {
                match self { $(Self::$variant(module) => module.standardise_mut(),)+ }
            }
        }
    };
}

connectors! {
    /// One linear layer.
    "linear" => Linear(grid::GridOptions, linear::LinearConnector),
    /// Two linear layers with a GELU between them.
    "mlp2x_gelu" => Mlp2xGelu(grid::GridOptions, mlp2x_gelu::Mlp2xGelu),
    /// A gate over the channels (squeeze-and-excitation), then two linear layers with a GELU between them.
    "se_mlp" => SeMlp(grid::GridOptions, se_mlp::SeMlp),
    /// Honeybee's C-Abstractor: convolutions and pooling.
    "c_abstractor" => CAbstractor(c_abstractor::CAbstractorOptions, c_abstractor::CAbstractor),
    /// Cross-attention of learnable queries to all tokens.
    "resampler" => Resampler(resampler::ResamplerOptions, resampler::Resampler),
    /// The Spatial Vision Aggregator: cross-attention of learnable queries, each to its own window of the image.
    "sva" => Sva(sva::SvaOptions, sva::Sva),
}

/// Adds to the JSON schema of the tables that a bare name is accepted, too.
#[cfg(feature = "schema")]
fn accept_names(schema: &mut schemars::Schema) {
    let names = serde_json::json!({
        "description": "The name alone: the connector with its default options.",
        "type": "string",
        "enum": ConnectorKind::NAMES,
    });
    if let Some(forms) = schema.get_mut("oneOf").and_then(serde_json::Value::as_array_mut) {
        forms.insert(0, names);
    }
}

impl Default for ConnectorKind {
    fn default() -> Self {
        Self::Mlp2xGelu(GridOptions::default())
    }
}

impl fmt::Display for ConnectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ConnectorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.is_short() {
            true => serializer.serialize_str(self.name()),
            false => Self::serialize(self, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ConnectorKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrTable)
    }
}

/// Reads a [`ConnectorKind`] from a bare name or from a table of one name.
struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = ConnectorKind;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the name of a connector, or a table of its name with its options")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let no_options = BTreeMap::<String, String>::new();
        let table = MapDeserializer::new(std::iter::once((name, no_options)));
        ConnectorKind::deserialize(MapAccessDeserializer::new(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        ConnectorKind::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::CAbstractorOptions;

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
            Ok(ConnectorKind::Mlp2xGelu(GridOptions { newline: true, ..GridOptions::default() }))
        );
        assert_eq!(read("connector = \"c_abstractor\""), Ok(ConnectorKind::CAbstractor(CAbstractorOptions::default())));
        let sva = read(
            "[connector.sva]\nhidden = 1024\ndepth = 3\nquery_grids = [24]\ngrid = 24\nsamplers = { start = 0, stride \
                 = 3, number = 10 }",
        );
        let Ok(ConnectorKind::Sva(options)) = &sva else { panic!("{sva:?}") };
        assert!(options.newline && options.heads == 16);
        assert_eq!(options.samplers.and_then(|s| s.after(27)), Some(9));
        assert_eq!(options.samplers.and_then(|s| s.after(28).or(s.after(30))), None);
    }

    #[test]
    fn options_survive_serialisation() -> Result<(), Box<dyn std::error::Error>> {
        for text in [
            "connector = \"linear\"",
            "[connector.se_mlp]\nnewline = true",
            "[connector.mlp2x_gelu]\nhidden = 16",
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
    fn wrong_names_and_missing_options_are_errors() {
        let e = read("connector = \"mlp\"").unwrap_err();
        assert!(e.contains("mlp2x_gelu") && e.contains("sva"), "{e}");
        let e = read("connector = \"sva\"").unwrap_err();
        assert!(e.contains("missing field `hidden`"), "{e}");
        let e = read("[connector.linear]\nnew_line = true").unwrap_err();
        assert!(e.contains("new_line") && e.contains("newline"), "{e}");
    }
}
