//! The encoder of an arm, as studies and the command line write it.

use crate::study::input::{InputOverrides, Resolution, parse_tiling};
use crate::study::paths;
use crate::study::tap::TapOverrides;
use burgess_base::{Error, Result};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::features::check_grid;
use burgess_encoders::hub::Repository;
use burgess_encoders::precision::ComputePrecision;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The encoder source that stands for the oracle baseline in an arm; a directory of this name is written `./oracle`.
pub const ORACLE: &str = "oracle";

/// Hint on how arms are written on the command line.
pub(super) const ARMS: &str = "write arms as a, a+b or a:unfrozen, separated by commas; \
    an encoder with another tap as a@7, with random weights as a@random";

/// Hint on how the options of an encoder are written.
const OPTIONS: &str = "options of an encoder: @LAYER (as in vit@7 or vit@-2; @layer=7 is the same), \
    @norm=true, @norm=false, @merge=true, @grid=SIDE, @prefix=NAME, @random, @random=SEED, @resolution=native|square, \
    @max-patches=N, @tiling=s2|any-res, @normalise=layer|standard, @precision=f32|bf16";

/// One encoder of an arm. In studies and on the command line it is a string: the source, then options after `@`:
///
/// ```text
/// nano-clip                        a card
/// facebook/dinov2-base@main        owner/name[@revision] of the hub, once it was fetched
/// ./my-encoder@7                   a directory, tapped after block 7 (from the back: -2)
/// ./my-encoder@3@7                 tapped after blocks 3 and 7, whose channels are concatenated
/// dinov2-l14-518@-2@norm=false     without the final norm
/// nano-sup@grid=2                  features resampled to a grid of 2×2
/// ./my-encoder@random=1            the same network with random weights of seed 1 (@random: seed 0)
/// ./my-dino@prefix=teacher.        the weights under this prefix, in a file that holds several encoders
/// qwen2.5-vl-7b-vision@merge=true  after the tower's own merger of 2×2 patches
/// dinov2-l14-518@resolution=native images keep their aspect ratio (@max-patches=1024 limits their size)
/// nano-clip@tiling=s2=2            S²: the image at scales 1 and 2; any-res for the tiles of LLaVA-NeXT
/// nano-clip@normalise=layer        each token normalised before the connector; standard for the whole image
/// nano-clip@precision=bf16         matrix products in bf16, on processors that have it
/// oracle                           no network: the ground truth of the data, see [`ORACLE`]
/// ```
///
/// A study may also write a table:
/// `{ source = "…", layer = 7, norm = true, grid = 8, weights = "random", seed = 1 }`.
/// A leading `{field}/` of the source stands for the directory that `burgess data field` prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmEncoder {
    /// Source: the id of a card, a directory, a repository of the hub, or [`ORACLE`].
    pub source: String,
    /// What is tapped instead of the card's tap.
    pub tap: TapOverrides,
    /// How images are read and features scaled instead of what the card says.
    pub input: InputOverrides,
    /// Prefix of the weight names, for a file that holds several encoders.
    pub prefix: Option<String>,
    /// Whether the weights are the source's own or random.
    pub weights: EncoderWeights,
}

/// The weights of an arm's encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderWeights {
    /// The weights of the source.
    Own,
    /// Untrained weights drawn from this seed, for a random baseline.
    Random(u64),
}

impl ArmEncoder {
    /// Makes an encoder of this source without options.
    pub fn plain(source: impl Into<String>) -> Self {
        let (tap, input) = (TapOverrides::default(), InputOverrides::default());
        Self { source: source.into(), tap, input, prefix: None, weights: EncoderWeights::Own }
    }

    /// Whether the encoder is the oracle, whose features are the ground truth of the data.
    pub fn is_oracle(&self) -> bool {
        self.source == ORACLE
    }

    /// Name in tables and of directories: the last part of the source with the options; `-random` for random weights.
    pub fn name(&self) -> String {
        let source = self.source.trim_end_matches('/');
        let mut name = source.rsplit(['/', '\\']).next().unwrap_or(source).to_string();
        if let Some(prefix) = &self.prefix {
            name += &format!("@{}", prefix.trim_end_matches('.'));
        }
        name += &self.tap.name();
        name += &self.input.name();
        match self.weights {
            EncoderWeights::Own => {}
            EncoderWeights::Random(0) => name += "-random",
            EncoderWeights::Random(seed) => name += &format!("-seed{seed}-random"),
        }
        name
    }

    /// Resolves the source if it is a path: a directory in `folder` precedes a card or repository of the same name.
    ///
    /// # Errors
    /// The source is written as a path, and the path does not exist or is no directory.
    pub fn resolve_path(&mut self, folder: Option<&Path>) -> Result<()> {
        if paths::is_in_field(&self.source) || self.is_oracle() {
            return Ok(());
        }
        let path = Path::new(&self.source);
        if paths::is_path(&self.source) || folder.is_some_and(|f| f.join(path).is_dir()) {
            let found = paths::locate(folder, path, "the encoder")?;
            if !found.is_dir() {
                return Err(Error::usage(format!("the encoder {} is not a directory", found.display())).hint(
                    "an arm's encoder is a directory with weights and config.json; \
                     `burgess encode --encoder ID --weights FILE` takes a file",
                ));
            }
            self.source = found.to_string_lossy().into_owned();
        }
        Ok(())
    }

    /// Checks that the options are valid and that the source is a card, a directory or the name of a repository.
    ///
    /// # Errors
    /// They are not; the error names the source.
    pub fn check(&self) -> Result<()> {
        if self.is_oracle() {
            return Ok(());
        }
        if self.tap.grid == Some(0) {
            return Err(Error::usage(format!("{self}: the grid must be at least 1")).hint(OPTIONS));
        }
        self.clone().resolve_path(None)?;
        if let Some(side) = self.tap.grid {
            check_grid([side; 2]).map_err(|e| e.context(self.to_string()))?;
        }
        let elsewhere = paths::is_in_field(&self.source)
            || Repository::parse(&self.source).is_some()
            || Path::new(&self.source).is_dir();
        // For a string that is written as a path, the error names the missing directory and not a missing card.
        if elsewhere { Ok(()) } else { EncoderCard::open(&self.source).map(|_| ()) }
    }
}

/// Writes the string from which [`FromStr`] reads the same encoder.
impl fmt::Display for ArmEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(prefix) = &self.prefix {
            write!(f, "@prefix={prefix}")?;
        }
        for layer in &self.tap.layers {
            write!(f, "@{layer}")?;
        }
        if let Some(norm) = self.tap.norm {
            write!(f, "@norm={norm}")?;
        }
        if let Some(merge) = self.tap.merge {
            write!(f, "@merge={merge}")?;
        }
        if let Some(grid) = self.tap.grid {
            write!(f, "@grid={grid}")?;
        }
        write!(f, "{}", self.input)?;
        match self.weights {
            EncoderWeights::Own => Ok(()),
            EncoderWeights::Random(0) => f.write_str("@random"),
            EncoderWeights::Random(seed) => write!(f, "@random={seed}"),
        }
    }
}

impl FromStr for ArmEncoder {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut encoder = Self::plain(text);
        // Text after an `@` that is no option belongs to the source, as a revision.
        while let Some((source, option)) = encoder.source.clone().rsplit_once('@') {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let invalid =
                || Error::usage(format!("`{text}`: `{value}` is no value of the option `@{key}`")).hint(OPTIONS);
            match (key, option.parse::<i32>()) {
                (_, Ok(layer)) => encoder.tap.layers.insert(0, layer),
                ("layer", _) => encoder.tap.layers.insert(0, value.parse().map_err(|_| invalid())?),
                ("prefix", _) if !value.is_empty() => encoder.prefix = Some(value.to_string()),
                ("merge", _) => encoder.tap.merge = Some(value.parse().map_err(|_| invalid())?),
                ("norm", _) => encoder.tap.norm = Some(value.parse().map_err(|_| invalid())?),
                ("grid", _) => encoder.tap.grid = Some(value.parse().map_err(|_| invalid())?),
                ("random", _) if value.is_empty() => encoder.weights = EncoderWeights::Random(0),
                ("random", _) => encoder.weights = EncoderWeights::Random(value.parse().map_err(|_| invalid())?),
                _ if !value.is_empty() && encoder.input.set(key, value)? => {}
                // Revisions contain no `=`, but a directory in the path may.
                _ if option.contains('=') && !option.contains('/') => {
                    return Err(Error::usage(format!("`{text}`: encoders have no option `@{key}`")).hint(OPTIONS));
                }
                _ => break,
            }
            encoder.source = source.to_string();
        }
        if encoder.source.is_empty() {
            return Err(Error::usage(format!("`{text}` names no encoder before its options")).hint(ARMS));
        }
        Ok(encoder)
    }
}

impl Serialize for ArmEncoder {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One encoder of an arm as a table. The same as a string is the source with options after `@`: `vit@7@norm=true`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ArmEncoderTable")]
struct Table {
    /// Source: the id of a card, a directory, `owner/name[@revision]` of the hub, or `oracle`. A leading `{field}/`
    /// stands for the directory that `burgess data field` prepared.
    source: String,
    /// Index of the layer whose output is the feature, from 0, or from the back from -1. Default: the card's tap.
    layer: Option<i32>,
    /// Whether the encoder's final norm is applied. Default: as the card says.
    norm: Option<bool>,
    /// Whether the tower's own merger of neighbouring patches is applied. Default: as the card says.
    merge: Option<bool>,
    /// Side of the square grid to which the features are resampled, in tokens, at least 1. Default: the card's grid.
    grid: Option<usize>,
    /// Whether images keep their aspect ratio. Default: as the card says.
    resolution: Option<Resolution>,
    /// The largest number of patches of an image that keeps its aspect ratio. Default: as the card says.
    max_patches: Option<usize>,
    /// How images are cut into tiles: `s2`, `s2=3` (scales 1, 2 and 3), `any-res` (the grids of LLaVA-NeXT),
    /// `any-res=6` (all grids of up to 6 tiles) or `any-res=1x2,2x1`. Default: as the card says, most often not at all.
    tiling: Option<String>,
    /// How features are normalised before the connector reads them: `layer` (each token has mean 0 and variance 1 over
    /// its channels) or `standard` (the tokens of each image have mean 0 and variance 1 together). Default: not at all.
    normalise: Option<String>,
    /// The precision of the matrix products: `f32`, or `bf16` on processors with AVX-512 BF16. Default: as the card
    /// says, most often f32.
    precision: Option<ComputePrecision>,
    /// Prefix of the weight names, for a file that holds several encoders.
    prefix: Option<String>,
    /// Whether the weights are the source's own or random. Default `own`.
    #[serde(default)]
    weights: TableWeights,
    /// Seed of random weights; only with `weights = "random"`. Default 0.
    seed: Option<u64>,
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TableWeights {
    /// The weights of the source.
    #[default]
    Own,
    /// Untrained weights, for a random baseline.
    Random,
}

impl JsonSchema for ArmEncoder {
    fn schema_name() -> Cow<'static, str> {
        "ArmEncoder".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One encoder of an arm: a string, or a table.",
            "anyOf": [
                {
                    "description": "The source, then options after `@`: `@LAYER` (a number, as in `vit@7` or `vit@-2`), \
                        `@norm=true`, `@norm=false`, `@grid=SIDE`, `@prefix=NAME`, `@random`, `@random=SEED`.",
                    "type": "string",
                },
                generator.subschema_for::<Table>(),
            ],
        })
    }
}

impl<'de> Deserialize<'de> for ArmEncoder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ArmEncoder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an encoder: a string such as \"nano-clip\" or a table with `source`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<ArmEncoder, E> {
                text.parse().map_err(|e: Error| {
                    let hint = e.hint_text().map_or_else(String::new, |hint| format!("; {hint}"));
                    E::custom(format!("{e}{hint}"))
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<ArmEncoder, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                let Table { source, layer, norm, merge, grid, prefix, weights, seed, .. } = &table;
                let weights = match (weights, seed) {
                    (TableWeights::Random, seed) => EncoderWeights::Random(seed.unwrap_or(0)),
                    (TableWeights::Own, None) => EncoderWeights::Own,
                    (TableWeights::Own, Some(_)) => {
                        return Err(serde::de::Error::custom("`seed` belongs to weights = \"random\""));
                    }
                };
                let tap = TapOverrides {
                    layers: layer.iter().copied().collect(),
                    norm: *norm,
                    merge: *merge,
                    grid: *grid,
                    tokens: None,
                };
                let invalid =
                    |e: Error| serde::de::Error::custom(format!("{e}: {}", e.hint_text().unwrap_or_default()));
                let input = InputOverrides {
                    resolution: table.resolution,
                    max_patches: table.max_patches,
                    tiling: table.tiling.as_deref().map(parse_tiling).transpose().map_err(invalid)?,
                    normalise: table.normalise.as_deref().map(str::parse).transpose().map_err(invalid)?,
                    precision: table.precision,
                };
                Ok(ArmEncoder { source: source.clone(), tap, input, prefix: prefix.clone(), weights })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_have_taps_grids_and_random_weights() -> Result<()> {
        let layers = |layers: &[i32]| TapOverrides { layers: layers.to_vec(), ..TapOverrides::default() };
        let tapped = ArmEncoder {
            tap: TapOverrides { norm: Some(false), ..layers(&[-2]) },
            ..ArmEncoder::plain("owner/name@main")
        };
        for (text, encoder, name) in [
            ("owner/name@main@-2@norm=false", tapped, "name@main@-2-bare"),
            ("a@3@-1", ArmEncoder { tap: layers(&[3, -1]), ..ArmEncoder::plain("a") }, "a@3@-1"),
            ("a@main", ArmEncoder::plain("a@main"), "a@main"),
            ("/a@b=c/vit", ArmEncoder::plain("/a@b=c/vit"), "vit"),
            (
                "dir/vit/@7@grid=8",
                ArmEncoder { tap: TapOverrides { grid: Some(8), ..layers(&[7]) }, ..ArmEncoder::plain("dir/vit/") },
                "vit@7-grid8",
            ),
            (
                "{field}/vit@random",
                ArmEncoder { weights: EncoderWeights::Random(0), ..ArmEncoder::plain("{field}/vit") },
                "vit-random",
            ),
            (
                "d@prefix=teacher.backbone.@7",
                ArmEncoder { prefix: Some("teacher.backbone.".into()), tap: layers(&[7]), ..ArmEncoder::plain("d") },
                "d@teacher.backbone@7",
            ),
            (
                "a@random=3",
                ArmEncoder { weights: EncoderWeights::Random(3), ..ArmEncoder::plain("a") },
                "a-seed3-random",
            ),
        ] {
            assert_eq!(
                (text.parse::<ArmEncoder>()?, encoder.to_string(), encoder.name()),
                (encoder.clone(), text.into(), name.into())
            );
        }
        assert_eq!("./vit@layer=2@grid=8".parse::<ArmEncoder>()?, "./vit@2@grid=8".parse()?);
        assert_eq!("vit@layer=-2".parse::<ArmEncoder>()?.tap.layers, [-2]);
        Ok(())
    }

    #[test]
    fn an_encoder_that_is_written_as_a_path_is_one() -> Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("vit"))?;
        std::fs::write(dir.path().join("f.safetensors"), "")?;
        let read = |text: &str| -> Result<String> {
            let mut e: ArmEncoder = text.parse()?;
            e.resolve_path(Some(dir.path()))?;
            Ok(e.source)
        };
        assert_eq!(read("vit@7")?, dir.path().join("vit").display().to_string());
        assert_eq!(read("./vit")?, dir.path().join("./vit").display().to_string());
        assert_eq!((read("nano-clip")?, read("owner/name@main")?), ("nano-clip".into(), "owner/name@main".into()));
        assert_eq!(read("{field}/vit")?, "{field}/vit");
        for text in ["./vit-tiny", "../a/b", "/no/such", "a/b/c", "vits/"] {
            assert!(read(text).is_err_and(|e| e.to_string().contains("does not exist")), "{text}");
        }
        assert!(read("./f.safetensors").is_err_and(|e| e.to_string().contains("is not a directory")));
        Ok(())
    }
}
