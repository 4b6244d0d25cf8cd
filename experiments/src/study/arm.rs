//! The arms of a study: encoders, each with its tap and weights, and whether they are frozen.

use crate::data::field;
use crate::features::oracle;
use crate::study::Evaluator;
use crate::study::{names, paths};
use burgess_base::{Error, Result, digest};
use burgess_encoders::arch::Tap;
use burgess_encoders::card::EncoderCard;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::features::check_grid;
use burgess_encoders::hub::Repository;
use burgess_encoders::init::initialise;
use burgess_encoders::preprocess::Preparation;
use burgess_encoders::resolve;
use burgess_probe::connector::ConnectorKind;
use burn::tensor::Device;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// One encoder or a combination of encoders, frozen or unfrozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Name in tables and of the arm's directory; default: the names of the encoders.
    #[serde(default, rename = "name", skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// The encoders; the features of several are concatenated along the channels.
    pub encoders: Vec<ArmEncoder>,
    /// Whether the encoders are trained in the tune stage.
    #[serde(default)]
    pub freeze: Freeze,
    /// Connector of this arm instead of the evaluator's, for studies that compare connectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<ConnectorKind>,
    /// Published average score of this arm, which the report shows beside the measured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Hundredths>,
}

/// A published score, stored in hundredths of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Hundredths(i64);

impl From<f64> for Hundredths {
    fn from(score: f64) -> Self {
        Self((score * 100.0).round() as i64)
    }
}

impl From<Hundredths> for f64 {
    fn from(score: Hundredths) -> Self {
        score.0 as f64 / 100.0
    }
}

/// Whether the encoders of an arm are trained in the tune stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freeze {
    #[default]
    Frozen,
    Unfrozen,
}

impl Freeze {
    /// The name in TOML files: `frozen` or `unfrozen`.
    pub fn as_str(self) -> &'static str {
        match self {
            Freeze::Frozen => "frozen",
            Freeze::Unfrozen => "unfrozen",
        }
    }
}

/// Hint on how arms are written on the command line.
const ARMS: &str = "write arms as a, a+b or a:unfrozen, separated by commas; an encoder with another tap as a@7, random weights as a@random";

/// Hint on how the options of an encoder are written.
const OPTIONS: &str = "options of an encoder: @LAYER (as in vit@7 or vit@-2; @layer=7 is the same), \
    @norm=true, @norm=false, @grid=SIDE, @prefix=NAME, @random, @random=SEED";

impl Arm {
    /// Makes an arm of these encoders, named after them.
    pub fn new(encoders: Vec<ArmEncoder>, freeze: Freeze) -> Self {
        Self { called: None, encoders, freeze, connector: None, published: None }
    }

    /// Name of the arm and of its directory: `a`, `a+b`, `a-unfrozen`, or the name given in the study.
    pub fn name(&self) -> String {
        if let Some(name) = &self.called {
            return name.clone();
        }
        let joined = self.encoder_names().join("+");
        match self.freeze {
            Freeze::Frozen => joined,
            Freeze::Unfrozen => format!("{joined}-unfrozen"),
        }
    }

    /// Names of the encoders, see [`ArmEncoder::name`].
    pub fn encoder_names(&self) -> Vec<String> {
        self.encoders.iter().map(ArmEncoder::name).collect()
    }

    /// Returns the connector of this arm, or the evaluator's if the arm has none.
    pub fn connector_of<'a>(&'a self, evaluator: &'a Evaluator) -> &'a ConnectorKind {
        self.connector.as_ref().unwrap_or(&evaluator.connector)
    }

    /// Parses an arm as written on the command line: `a`, `a+b` or `a:unfrozen`; for encoders see [`ArmEncoder`].
    pub fn parse(text: &str) -> Result<Self> {
        let (encoders, freeze) = match text.rsplit_once(':') {
            None => (text, Freeze::Frozen),
            Some((e, "frozen")) => (e, Freeze::Frozen),
            Some((e, "unfrozen")) => (e, Freeze::Unfrozen),
            Some((_, other)) => {
                return Err(Error::usage(format!("`{other}` in `{text}` is neither frozen nor unfrozen")).hint(ARMS));
            }
        };
        let encoders = encoders.split('+').map(|e| e.trim().parse()).collect::<Result<_>>();
        Ok(Self::new(encoders.map_err(|e| e.context(format!("reading the arm `{text}`")))?, freeze))
    }

    /// Checks what needs no weights: that names are valid and encoders exist.
    pub fn check(&self) -> Result<()> {
        if self.encoders.is_empty() {
            return Err(
                Error::usage("an arm has no encoders").hint("encoders = [\"…\"]; `burgess encoders` lists them")
            );
        }
        oracle::check(self)?;
        self.encoders.iter().try_for_each(ArmEncoder::check)?;
        names::check_arm(&self.name())
    }
}

/// One encoder of an arm. In studies and on the command line it is a string: the source, then options after `@`:
///
/// ```text
/// nano-clip                        a card
/// facebook/dinov2-base@main        owner/name[@revision] of the hub, once it was fetched
/// ./my-encoder@7                   a directory, tapped after block 7 (from the back: -2)
/// dinov2-l14-518@-2@norm=false     without the final norm
/// nano-sup@grid=2                  features brought to a grid of 3×3
/// ./my-encoder@random=1            the same network with random weights of seed 1 (@random: seed 0)
/// ./my-dino@prefix=teacher.        the weights under this prefix, where a file holds several
/// oracle                           no network: the ground truth of the data (see [`oracle`])
/// ```
///
/// A study may also write a table:
/// `{ source = "…", layer = 7, norm = true, grid = 8, weights = "random", seed = 1 }`.
/// A leading `{field}/` of the source stands for the directory that `burgess data field` prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmEncoder {
    /// Source: the id of a card, a directory, a repository of the hub, or `oracle`.
    pub source: String,
    /// Layer that is tapped instead of the card's; negative numbers count from the last layer.
    pub layer: Option<i32>,
    /// Whether the final norm is applied, if not as the card says.
    pub norm: Option<bool>,
    /// Side of the square grid to which the features are resampled, instead of the card's.
    pub grid: Option<usize>,
    /// Prefix of the weight names, for a file that holds several encoders.
    pub prefix: Option<String>,
    /// Whether the weights are the source's own or random.
    pub weights: Weights,
}

/// The weights of an arm's encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// The weights of the source.
    Own,
    /// Untrained weights drawn from this seed, for a random baseline.
    Random(u64),
}

impl ArmEncoder {
    /// Makes an encoder of this source without options.
    pub fn plain(source: impl Into<String>) -> Self {
        Self { source: source.into(), layer: None, norm: None, grid: None, prefix: None, weights: Weights::Own }
    }

    /// Whether the encoder is the oracle, whose features are the ground truth of the data.
    pub fn is_oracle(&self) -> bool {
        self.source == oracle::NAME
    }

    /// Name in tables and of directories: the last part of the source with the options. Names of encoders with random
    /// weights end in `-random`, by which results without a role are recognised as the random baseline.
    pub fn name(&self) -> String {
        let source = self.source.trim_end_matches('/');
        let mut name = source.rsplit(['/', '\\']).next().unwrap_or(source).to_string();
        if let Some(prefix) = &self.prefix {
            name += &format!("@{}", prefix.trim_end_matches('.'));
        }
        if let Some(layer) = self.layer {
            name += &format!("@{layer}");
        }
        if let Some(norm) = self.norm {
            name += if norm { "-norm" } else { "-bare" };
        }
        if let Some(grid) = self.grid {
            name += &format!("-grid{grid}");
        }
        match self.weights {
            Weights::Own => {}
            Weights::Random(0) => name += "-random",
            Weights::Random(seed) => name += &format!("-seed{seed}-random"),
        }
        name
    }

    fn check(&self) -> Result<()> {
        if self.is_oracle() {
            return Ok(());
        }
        if self.grid == Some(0) {
            return Err(Error::usage(format!("{self}: a grid of 0 leaves no features")).hint(OPTIONS));
        }
        paths::encoder(None, &mut self.clone())?;
        if let Some(side) = self.grid {
            check_grid([side; 2]).map_err(|e| e.context(self.to_string()))?;
        }
        let elsewhere = field::is_inside(&self.source)
            || Repository::parse(&self.source).is_some()
            || Path::new(&self.source).is_dir();
        // For a string that is written as a path, the error names the missing directory and not a missing card.
        if elsewhere { Ok(()) } else { EncoderCard::open(&self.source).map(|_| ()) }
    }

    /// Opens the encoder's card and applies its tap and grid.
    ///
    /// # Errors
    /// There is no such encoder or no such layer, or the encoder is the oracle.
    pub fn card(&self, how: Preparation) -> Result<EncoderCard> {
        if self.is_oracle() {
            return Err(oracle::no_encoder());
        }
        let source = field::resolve(&self.source)?;
        let mut card = EncoderCard::open_under(&source, self.prefix.as_deref())?.prepared(how)?;
        if let Some(layer) = self.layer {
            card.tap = Tap { layer, layers: Vec::new(), grid: None, ..card.tap };
        }
        card.tap.norm = self.norm.unwrap_or(card.tap.norm);
        card.grid = self.grid.map(|side| [side; 2]).or(card.grid);
        card.architecture.check_tap(&card.tap).map_err(|e| e.context(format!("tapping {self}")))?;
        Ok(card)
    }

    /// Digest of the weights that [`ArmEncoder::load`] loads.
    pub fn weights_digest(&self, card: &EncoderCard) -> Result<String> {
        match self.weights {
            Weights::Own => resolve::weights_digest(card, None),
            Weights::Random(seed) => digest::of_value(&("random", seed, &card.architecture)),
        }
    }

    /// Checks that the weights exist on this machine.
    ///
    /// # Errors
    /// They do not exist; the error says where they are expected and how to get them.
    pub fn find(&self, card: &EncoderCard) -> Result<()> {
        match self.weights {
            Weights::Own => resolve::weights_path(card).map(|_| ()),
            Weights::Random(_) => Ok(()),
        }
    }

    /// Checks that the weights fit the card, without loading them.
    ///
    /// # Errors
    /// As [`ArmEncoder::load`], except for values that are not finite, which are not detected.
    pub fn check_weights(&self, card: &EncoderCard) -> Result<()> {
        match self.weights {
            Weights::Own => Encoder::check(card, None),
            Weights::Random(_) => Ok(()),
        }
    }

    /// Loads the encoder onto a device; `card` must be the encoder's own.
    pub fn load(&self, card: EncoderCard, device: &Device) -> Result<Encoder> {
        match self.weights {
            Weights::Own => Encoder::load(card, None, device),
            Weights::Random(seed) => {
                let network = initialise(card.architecture.init(device)?, "control", seed);
                Ok(Encoder::new(card, network, device))
            }
        }
    }
}

/// Writes the string from which [`FromStr`] reads the same encoder.
impl fmt::Display for ArmEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(prefix) = &self.prefix {
            write!(f, "@prefix={prefix}")?;
        }
        if let Some(layer) = self.layer {
            write!(f, "@{layer}")?;
        }
        if let Some(norm) = self.norm {
            write!(f, "@norm={norm}")?;
        }
        if let Some(grid) = self.grid {
            write!(f, "@grid={grid}")?;
        }
        match self.weights {
            Weights::Own => Ok(()),
            Weights::Random(0) => f.write_str("@random"),
            Weights::Random(seed) => write!(f, "@random={seed}"),
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
            let number = || Error::usage(format!("`{value}` in `{text}` is not what `{key}` takes")).hint(OPTIONS);
            match (key, option.parse::<i32>()) {
                (_, Ok(layer)) => encoder.layer = Some(layer),
                ("layer", _) => encoder.layer = Some(value.parse().map_err(|_| number())?),
                ("prefix", _) if !value.is_empty() => encoder.prefix = Some(value.to_string()),
                ("norm", _) => encoder.norm = Some(value.parse().map_err(|_| number())?),
                ("grid", _) => encoder.grid = Some(value.parse().map_err(|_| number())?),
                ("random", _) if value.is_empty() => encoder.weights = Weights::Random(0),
                ("random", _) => encoder.weights = Weights::Random(value.parse().map_err(|_| number())?),
                // Revisions contain no `=`, but a directory in the path may.
                _ if option.contains('=') && !option.contains('/') => {
                    return Err(
                        Error::usage(format!("`{text}`: there is no option `@{key}` of an encoder")).hint(OPTIONS)
                    );
                }
                _ => break,
            }
            encoder.source = source.to_string();
        }
        if encoder.source.is_empty() {
            return Err(Error::usage(format!("`{text}` names an empty encoder")).hint(ARMS));
        }
        Ok(encoder)
    }
}

impl Serialize for ArmEncoder {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The form of [`ArmEncoder`] as a TOML table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    source: String,
    layer: Option<i32>,
    norm: Option<bool>,
    grid: Option<usize>,
    prefix: Option<String>,
    #[serde(default)]
    weights: TableWeights,
    seed: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TableWeights {
    #[default]
    Own,
    Random,
}

impl<'de> Deserialize<'de> for ArmEncoder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ArmEncoder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an encoder: a text such as \"nano-clip\" or a table with `source`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<ArmEncoder, E> {
                text.parse().map_err(|e: Error| {
                    let hint = e.hint_text().map_or_else(String::new, |hint| format!("; {hint}"));
                    E::custom(format!("{e}{hint}"))
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<ArmEncoder, A::Error> {
                let Table { source, layer, norm, grid, prefix, weights, seed } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                let weights = match (weights, seed) {
                    (TableWeights::Random, seed) => Weights::Random(seed.unwrap_or(0)),
                    (TableWeights::Own, None) => Weights::Own,
                    (TableWeights::Own, Some(_)) => {
                        return Err(serde::de::Error::custom("`seed` belongs to weights = \"random\""));
                    }
                };
                Ok(ArmEncoder { source, layer, norm, grid, prefix, weights })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_read_back_as_written() -> Result<()> {
        assert_eq!(Arm::parse("a")?.name(), "a");
        assert_eq!(Arm::parse("a+b")?.name(), "a+b");
        assert_eq!(Arm::parse("a:unfrozen")?.name(), "a-unfrozen");
        for wrong in ["a+", "a:thawed", "a@grid=x", "a@norm", "@7", "a@layer=x", "a@layers=2", "a@Layer=2"] {
            assert!(Arm::parse(wrong).is_err_and(|e| e.hint_text().is_some()), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn encoders_have_taps_grids_and_random_weights() -> Result<()> {
        let tapped = ArmEncoder { layer: Some(-2), norm: Some(false), ..ArmEncoder::plain("owner/name@main") };
        for (text, encoder, name) in [
            ("owner/name@main@-2@norm=false", tapped, "name@main@-2-bare"),
            ("a@main", ArmEncoder::plain("a@main"), "a@main"),
            ("/a@b=c/vit", ArmEncoder::plain("/a@b=c/vit"), "vit"),
            (
                "dir/vit/@7@grid=8",
                ArmEncoder { layer: Some(7), grid: Some(8), ..ArmEncoder::plain("dir/vit/") },
                "vit@7-grid8",
            ),
            (
                "{field}/vit@random",
                ArmEncoder { weights: Weights::Random(0), ..ArmEncoder::plain("{field}/vit") },
                "vit-random",
            ),
            (
                "d@prefix=teacher.backbone.@7",
                ArmEncoder { prefix: Some("teacher.backbone.".into()), layer: Some(7), ..ArmEncoder::plain("d") },
                "d@teacher.backbone@7",
            ),
            ("a@random=3", ArmEncoder { weights: Weights::Random(3), ..ArmEncoder::plain("a") }, "a-seed3-random"),
        ] {
            assert_eq!(
                (text.parse::<ArmEncoder>()?, encoder.to_string(), encoder.name()),
                (encoder.clone(), text.into(), name.into())
            );
        }
        assert_eq!("./vit@layer=2@grid=8".parse::<ArmEncoder>()?, "./vit@2@grid=8".parse()?);
        assert_eq!("vit@layer=-2".parse::<ArmEncoder>()?.layer, Some(-2));
        Ok(())
    }

    #[test]
    fn studies_write_encoders_as_texts_or_tables() -> Result<()> {
        #[derive(Deserialize)]
        struct Arms {
            arms: Vec<Arm>,
        }
        let read = |text: &str| toml::from_str::<Arms>(text).map(|a| a.arms);
        let arms = read("[[arms]]\nname = \"mid\"\nencoders = [{ source = \"d\", layer = 7 }, \"d@random=2\"]\n")
            .map_err(|e| Error::failed(e.to_string()))?;
        assert_eq!(arms[0].name(), "mid");
        assert_eq!(arms[0].encoders, ["d@7".parse()?, "d@random=2".parse()?]);
        let say = |text: &str| read(text).unwrap_err().to_string();
        assert!(say("[[arms]]\nencoders = [{ source = \"d\", layers = 7 }]").contains("unknown field `layers`"));
        assert!(say("[[arms]]\nencoders = [{ source = \"d\", seed = 7 }]").contains("`seed` belongs to"));
        assert!(say("[[arms]]\nencoders = [7]").contains("an encoder: a text"));
        for name in ["a/b", "x.tmp", "", "NUL", ".."] {
            assert!(Arm { called: Some(name.into()), ..Arm::parse("nano-clip")? }.check().is_err(), "{name}");
        }
        let e = Arm::parse("./vit-tiny")?.check().unwrap_err();
        assert!(e.to_string().contains("./vit-tiny does not exist: there is no /"), "{e}");
        assert!(Arm::parse("nano-clp")?.check().is_err());
        Ok(())
    }

    #[test]
    fn random_weights_are_those_of_their_seed() -> Result<()> {
        let device = Device::flex();
        let features = |text: &str| -> Result<Vec<f32>> {
            let encoder: ArmEncoder = text.parse()?;
            let card = encoder.card(Preparation::default())?;
            let image = image::RgbImage::from_fn(96, 96, |x, y| image::Rgb([x as u8, y as u8, 90]));
            Ok(encoder.load(card, &device)?.encode(&[image], 1)?.values)
        };
        let own = features("nano-sup")?;
        let (zero, again, one) =
            (features("nano-sup@random")?, features("nano-sup@random=0")?, features("nano-sup@random=1")?);
        assert!(own != zero && zero == again && zero != one);
        let digest = |text: &str| -> Result<String> {
            let encoder: ArmEncoder = text.parse()?;
            encoder.weights_digest(&encoder.card(Preparation::default())?)
        };
        assert_ne!(digest("nano-sup@random")?, digest("nano-sup@random=1")?);
        assert_ne!(digest("nano-sup@random")?, digest("nano-sup")?);
        assert_eq!(features("nano-sup@grid=2")?.len() * 4, own.len());
        assert!(features("nano-sup@99").is_err());
        Ok(())
    }
}
