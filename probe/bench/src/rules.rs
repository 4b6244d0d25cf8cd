//! Whose rules a question is asked by, or an answer judged by.

use super::Card;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Whose rules a question is asked by, or an answer judged by.
///
/// Not every benchmark has all of them: [`crate::Benchmark::rules`] says which are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// Those of the benchmark's authors. Where there are none, who asks for these gets [`Rules::Strict`].
    #[default]
    Official,
    /// Ours, where the authors publish no rule for answers in words, or one that guesses.
    Strict,
    /// Those of the study's released code, with its quirks: to lay our numbers beside the published ones.
    #[serde(rename = "cambrian-1")]
    Cambrian1,
    /// Those of lmms-eval 0.7.3, with its quirks: to lay our numbers beside those of that harness.
    LmmsEval,
}

impl Rules {
    /// All of them.
    pub const ALL: [Rules; 4] = [Rules::Official, Rules::Strict, Rules::Cambrian1, Rules::LmmsEval];

    /// `official`, `strict`, `cambrian-1` or `lmms-eval`.
    pub fn as_str(self) -> &'static str {
        match self {
            Rules::Official => "official",
            Rules::Strict => "strict",
            Rules::Cambrian1 => "cambrian-1",
            Rules::LmmsEval => "lmms-eval",
        }
    }

    /// Those that a benchmark has: its authors' or the strict ones first.
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

/// See [`crate::Benchmark::rules`].
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
        // Benchmarks that are made here have one set of rules.
        Rules::Cambrian1 if card.source.is_none() => Ok(own),
        Rules::Cambrian1 => Ok(Rules::Cambrian1),
        Rules::LmmsEval if card.lmms_eval.is_some() => Ok(Rules::LmmsEval),
        Rules::LmmsEval => Err(Error::usage(format!("{} is no task of lmms-eval 0.7.3", card.id))
            .hint("ask for `official`, or leave the benchmark out; `burgess prompts` lists the rules of each")),
    }
}
