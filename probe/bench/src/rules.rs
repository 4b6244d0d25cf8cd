//! The sets of rules by which questions are asked and answers judged.

use super::Card;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// A set of rules by which questions are asked and answers judged.
///
/// Not every benchmark has all of them: [`crate::Benchmark::rules`] resolves which ones apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// The rules of the benchmark's authors; where there are none, [`Rules::Strict`] applies instead.
    #[default]
    Official,
    /// Our own rules, where the authors publish no rule for generated answers, or one that guesses.
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

    /// Returns the rules that a benchmark has, its authors' or the strict ones first.
    pub fn of(card: &Card) -> Vec<Rules> {
        Self::ALL.into_iter().filter(|rules| settle(card, *rules).is_ok_and(|settled| settled == *rules)).collect()
    }
}

impl std::str::FromStr for Rules {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Rules::ALL.into_iter().find(|r| r.as_str() == name).ok_or_else(|| {
            Error::usage(format!("there are no rules called `{name}`"))
                .hint("there are official, strict, cambrian-1 and lmms-eval")
        })
    }
}

/// Resolves the requested rules; see [`crate::Benchmark::rules`].
pub(crate) fn settle(card: &Card, asked: Rules) -> Result<Rules> {
    let own = if card.authors { Rules::Official } else { Rules::Strict };
    match asked {
        Rules::Official => Ok(own),
        Rules::Strict if card.authors => Err(Error::usage(format!(
            "{} has no strict rules: its authors publish a rule, and that is followed",
            card.id
        ))
        .hint("ask for `official`: the authors' rules, or the strict ones where there are none")),
        Rules::Strict => Ok(Rules::Strict),
        // Benchmarks that are generated on this machine have one set of rules.
        Rules::Cambrian1 if card.source.is_none() => Ok(own),
        Rules::Cambrian1 => Ok(Rules::Cambrian1),
        Rules::LmmsEval if card.lmms_eval.is_some() => Ok(Rules::LmmsEval),
        Rules::LmmsEval => Err(Error::usage(format!("{} is no task of lmms-eval 0.7.3", card.id))
            .hint("ask for `official`, or leave the benchmark out; `burgess prompts` lists the rules of each")),
    }
}
