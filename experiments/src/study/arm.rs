//! The arms of a study: encoders, each with its tap and weights, and whether they are frozen.

use crate::study::encoder::{ARMS, ArmEncoder, ORACLE};
use crate::study::mix::ArmMix;
use crate::study::names;
use burgess_base::{Error, Result};
use burgess_probe::connector::ConnectorKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One encoder or a combination of encoders, frozen or unfrozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Name in tables and of the arm's directory; default: the names of the encoders.
    #[serde(default, rename = "name", skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The encoders; the features of several are concatenated along the channels.
    pub encoders: Vec<ArmEncoder>,
    /// Whether the encoders are trained in the tune stage.
    #[serde(default)]
    pub freeze: Freeze,
    /// Connector of this arm instead of the evaluator's, for studies that compare connectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<ConnectorKind>,
    /// The tune conversations of this arm: rules that choose among those of the study, for studies that compare data.
    /// Default: all conversations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<ArmMix>,
    /// Published average score of this arm, which the report shows beside the measured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedScore>,
}

/// A published score, stored in hundredths of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "f64", into = "f64")]
pub struct PublishedScore(i64);

impl From<f64> for PublishedScore {
    fn from(score: f64) -> Self {
        Self((score * 100.0).round() as i64)
    }
}

impl From<PublishedScore> for f64 {
    fn from(score: PublishedScore) -> Self {
        score.0 as f64 / 100.0
    }
}

/// Whether the encoders of an arm are trained in the tune stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Freeze {
    /// The encoders keep their weights.
    #[default]
    Frozen,
    /// The encoders are trained together with connector and language model.
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

impl Arm {
    /// Makes an arm of these encoders, named after them.
    pub fn new(encoders: Vec<ArmEncoder>, freeze: Freeze) -> Self {
        Self { label: None, encoders, freeze, connector: None, mix: None, published: None }
    }

    /// Name of the arm and of its directory: `a`, `a+b`, `a-unfrozen`, or the name given in the study.
    pub fn name(&self) -> String {
        if let Some(name) = &self.label {
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

    /// Checks that names are valid and that the encoders have cards; the weights are not read.
    pub fn check(&self) -> Result<()> {
        if self.encoders.is_empty() {
            return Err(
                Error::usage("an arm has no encoders").hint("encoders = [\"…\"]; `burgess encoders` lists them")
            );
        }
        self.check_oracle()?;
        self.encoders.iter().try_for_each(ArmEncoder::check)?;
        if let Some(mix) = &self.mix {
            mix.check().map_err(|e| e.context(format!("[[arms]] {}: `mix`", self.name())))?;
        }
        names::check_arm(&self.name())
    }

    /// Checks that an arm with the oracle has no other encoder, no encoder options and frozen encoders.
    ///
    /// # Errors
    /// The oracle has options, is combined with an encoder, or is unfrozen.
    fn check_oracle(&self) -> Result<()> {
        let Some(oracle) = self.encoders.iter().find(|e| e.is_oracle()) else { return Ok(()) };
        if oracle.to_string() != ORACLE {
            return Err(Error::usage(format!(
                "{oracle}: the oracle takes no options: it has no layers and no weights, and the grid of truth.jsonl"
            ))
            .hint(format!("write encoders = [\"{ORACLE}\"]; a directory of this name is ./{ORACLE}")));
        }
        if self.encoders.len() > 1 {
            return Err(Error::usage(format!(
                "{}: the oracle cannot be combined with an encoder: it already has the whole ground truth, so that the \
                 other encoder would not be measured",
                self.encoder_names().join("+")
            ))
            .hint(format!("give it an arm of its own: encoders = [\"{ORACLE}\"]")));
        }
        if self.freeze == Freeze::Unfrozen {
            return Err(Error::usage(format!(
                "{ORACLE}: the oracle cannot be unfrozen: it has no parameters to train"
            ))
            .hint("leave out freeze = \"unfrozen\" (`:unfrozen` on the command line)"));
        }
        Ok(())
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
        assert!(say("[[arms]]\nencoders = [7]").contains("an encoder: a string"));
        for name in ["a/b", "x.tmp", "", "NUL", ".."] {
            assert!(Arm { label: Some(name.into()), ..Arm::parse("nano-clip")? }.check().is_err(), "{name}");
        }
        let e = Arm::parse("./vit-tiny")?.check().unwrap_err();
        assert!(e.to_string().contains("./vit-tiny does not exist: looked for /"), "{e}");
        assert!(Arm::parse("nano-clp")?.check().is_err());
        Ok(())
    }

    #[test]
    fn arms_that_ask_too_much_of_the_oracle_are_refused() -> Result<()> {
        Arm::parse("oracle")?.check()?;
        for (text, expected) in [
            ("oracle:unfrozen", "no parameters to train"),
            ("oracle+nano-clip", "cannot be combined"),
            ("nano-clip+oracle", "cannot be combined"),
            ("oracle@7", "takes no options"),
            ("oracle@random", "takes no options"),
            ("oracle@grid=3", "takes no options"),
        ] {
            let e = Arm::parse(text)?.check().expect_err(text);
            assert!(e.to_string().contains(expected) && e.hint_text().is_some() && e.exit_code() == 2, "{e}");
        }
        Ok(())
    }
}
