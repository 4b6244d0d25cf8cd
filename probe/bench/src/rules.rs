//! The sets of rules by which questions are asked and answers judged.

use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// A set of rules by which questions are asked and answers judged.
///
/// Not every benchmark has all of them: [`crate::Benchmark::rules`] resolves which ones apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// The rules of the benchmark's authors; where there are none, `strict` applies instead.
    #[default]
    Official,
    /// The rules of this project, where the authors publish no rule for generated answers, or a rule that guesses.
    Strict,
    /// The rules of the released `cambrian-1` code, with its quirks, for comparison with the published scores.
    #[serde(rename = "cambrian-1")]
    Cambrian1,
    /// The rules of lmms-eval 0.7.3, with its quirks, for comparison with that harness.
    LmmsEval,
}

impl Rules {
    /// All sets of rules.
    pub const ALL: [Rules; 4] = [Rules::Official, Rules::Strict, Rules::Cambrian1, Rules::LmmsEval];

    /// Returns the name: `official`, `strict`, `cambrian-1` or `lmms-eval`.
    pub fn as_str(self) -> &'static str {
        match self {
            Rules::Official => "official",
            Rules::Strict => "strict",
            Rules::Cambrian1 => "cambrian-1",
            Rules::LmmsEval => "lmms-eval",
        }
    }
}

impl std::str::FromStr for Rules {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Rules::ALL.into_iter().find(|r| r.as_str() == name).ok_or_else(|| {
            let names = Rules::ALL.map(Rules::as_str).join(", ");
            Error::usage(format!("no set of rules is called `{name}`")).hint(format!("the sets of rules are {names}"))
        })
    }
}
