//! The description of a benchmark: what is known without reading its data.

use crate::rules::Rules;
use burgess_base::{Category, Error, Result};

/// The form that an answer must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// The answer is yes or no.
    YesNo,
    /// The answer is the letter of one of [`crate::Question::options`].
    Choice,
    /// The answer is a word, phrase or number; questions that have [`crate::Question::options`] expect a letter.
    Open,
}

/// The description of a benchmark. A benchmark that is compiled in stores one; a benchmark that is declared in a file
/// lends its own texts.
#[derive(Debug, Clone, Copy)]
pub struct BenchmarkCard<'a> {
    /// Id of the benchmark in files and on the command line.
    pub id: &'a str,
    /// The category that the benchmark belongs to.
    pub category: &'a Category,
    /// Name of the metric: what the score measures, in a few words.
    pub metric: &'a str,
    /// Version, which is incremented whenever the same answers could score differently.
    pub version: &'a str,
    /// The publication that defines prompt and metric.
    pub citation: &'a str,
    /// The form of the answers.
    pub form: AnswerForm,
    /// Maximum number of generated tokens per answer; it suffices for the longest right answer.
    pub max_new_tokens: usize,
    /// Where the questions are published; `None` for questions that are generated on this machine. A benchmark without
    /// a source has one set of rules.
    pub source: Option<DatasetSource<'a>>,
    /// Whether [`Rules::Official`] are rules of the benchmark's authors; if not, [`Rules::Strict`] take their place.
    pub authors: bool,
    /// The task of lmms-eval 0.7.3 that asks the same questions; `None` if it has no such task.
    pub lmms_eval: Option<LmmsEvalTask<'a>>,
}

/// The published source of a benchmark.
#[derive(Debug, Clone, Copy)]
pub struct DatasetSource<'a> {
    /// Name of the dataset on the hub, such as `lmms-lab/MME`, or the address of its file if it is not on the hub.
    pub repository: &'a str,
    /// Another name under which the hub has, or had, the same dataset; it is tried if the first is not there.
    pub alias: Option<&'a str>,
    /// Whether the `cambrian-1` code evaluates these questions, or could.
    pub cambrian_1: bool,
    /// The folder of the dataset that holds the files; empty for the root.
    pub folder: &'a str,
    /// Name of the split, with which the names of its files begin.
    pub split: &'a str,
    /// Number of scored questions, 0 if it is not known. If the data have another number, they are another edition,
    /// which the report notes.
    pub questions: usize,
    /// The terms of use that its authors state.
    pub licence: &'a str,
}

/// A task of lmms-eval 0.7.3.
#[derive(Debug, Clone, Copy)]
pub struct LmmsEvalTask<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// Name of its main metric.
    pub metric: &'a str,
}

impl<'a> DatasetSource<'a> {
    /// Returns the names under which the hub has, or had, the dataset; none if it is published elsewhere.
    pub fn hub_names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let on_hub = self.url().is_none();
        std::iter::once(self.repository).chain(self.alias).filter(move |_| on_hub)
    }

    /// Returns the address of the dataset's file, if it is not on the hub.
    pub fn url(&self) -> Option<&'a str> {
        Some(self.repository).filter(|name| name.contains("://"))
    }
}

impl BenchmarkCard<'_> {
    /// Returns the benchmark's own rules: its authors' or, where there are none, the strict ones.
    pub fn own_rules(&self) -> Rules {
        if self.authors { Rules::Official } else { Rules::Strict }
    }

    /// Returns the sets of rules that the benchmark has, its own first.
    pub fn rule_sets(&self) -> Vec<Rules> {
        let has = |rules: &Rules| self.resolve_rules(*rules).is_ok_and(|resolved| resolved == *rules);
        Rules::ALL.into_iter().filter(has).collect()
    }

    /// Returns whether the `cambrian-1` code evaluates the benchmark, or could.
    pub(crate) fn has_cambrian_rules(&self) -> bool {
        self.source.is_some_and(|source| source.cambrian_1)
    }

    /// Resolves the requested rules to those that are applied; see [`crate::Benchmark::rules`].
    pub(crate) fn resolve_rules(&self, requested: Rules) -> Result<Rules> {
        match requested {
            Rules::Official => Ok(self.own_rules()),
            Rules::Strict if self.authors => Err(Error::usage(format!(
                "{} has no strict rules, because its authors publish a rule for generated answers",
                self.id
            ))
            .hint("use `official`: the authors' rules or, where there are none, the strict ones")),
            Rules::Strict => Ok(Rules::Strict),
            Rules::Cambrian1 if !self.has_cambrian_rules() => Ok(self.own_rules()),
            Rules::Cambrian1 => Ok(Rules::Cambrian1),
            Rules::LmmsEval if self.lmms_eval.is_some() => Ok(Rules::LmmsEval),
            Rules::LmmsEval if *self.category == Category::CONVERSATION => Err(Error::usage(format!(
                "{} is not a task of lmms-eval 0.7.3 that is scored without a judge",
                self.id
            ))
            .hint("use `official`, which compares words; a judge may be asked beside it")),
            Rules::LmmsEval => Err(Error::usage(format!("{} is not a task of lmms-eval 0.7.3", self.id))
                .hint("use `official`, or leave the benchmark out; `burgess prompts` lists the rules of each")),
        }
    }
}
