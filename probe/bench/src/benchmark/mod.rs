//! The trait of a benchmark: what its file defines, and what follows from that for every benchmark.

pub mod read;

use crate::card::{AnswerForm, BenchmarkCard, DatasetSource};
use crate::declared::BenchmarkDefinition;
use crate::explain::RulesDescription;
use crate::image_location::ImageLocation;
use crate::labels::choice_label;
use crate::question::{Question, QuestionSet};
use crate::reasoning;
use crate::rules::Rules;
use crate::score::{self, AnswerScore, BenchmarkOutcome, ScoredItem};
use crate::table::TableRow;
use burgess_base::{Category, Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Maximum number of texts that are tried as constant answers.
pub(crate) const CONSTANTS: usize = 64;

/// A benchmark: how to read, ask, judge and aggregate its questions.
///
/// A benchmark implements the required methods, and those of the others whose default is not its rule. Where a method
/// takes [`Rules`], they are resolved ([`Benchmark::rules`]).
pub trait Benchmark: Sync {
    // ---------------------------------------------------------------------------------- what a benchmark defines

    /// Returns the description of the benchmark.
    fn card(&self) -> BenchmarkCard<'_>;

    /// Describes in words how these rules ask and judge, and from which source they are.
    fn explain(&self, rules: Rules) -> RulesDescription<'_>;

    /// Builds the prompt by these rules; the same as [`Benchmark::prompt`], which resolves the rules first.
    fn build_prompt(&self, q: &Question, rules: Rules) -> String;

    /// Judges an answer whose reasoning is already removed where the rules ask for it; see [`Benchmark::judge`].
    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore;

    /// Reads the questions in the published data in `data`. A benchmark with a [`BenchmarkCard::source`] must implement
    /// this method; the default is an error.
    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let message = format!("{} has no reader for the dataset {}", self.id(), source.repository);
        Err(Error::failed(message).context(format!("reading {}", data.display())))
    }

    /// Returns the metric: what the score measures under these rules, in a few words.
    fn metric(&self, _: Rules) -> &str {
        self.card().metric
    }

    /// Returns the scored items; by default one per question. `p[i]` is the score of question i, or the probability
    /// that it is answered rightly (answers taken as independent), so that the same code computes scores and chance. It
    /// is an error if questions that are scored together are incomplete.
    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<ScoredItem>> {
        Ok(score::one_item_per_question(qs, p))
    }

    /// Returns the id of the group of questions that the row is scored with ([`Question::unit`]), if leaving out one
    /// row of the group must leave out the whole group; otherwise `None`.
    fn scored_together(&self, _: &TableRow) -> Option<String> {
        None
    }

    /// Returns further numbers by name, in percent, that are reported with the subtasks under all rules but
    /// lmms-eval's.
    fn further_numbers(&self, _: &[Question], _: &[AnswerScore]) -> Vec<(String, f64)> {
        Vec::new()
    }

    /// Returns the numbers that lmms-eval prints for these verdicts, by its names and on its scales; by default the
    /// score as a fraction. They are reported with the subtasks.
    fn lmms_eval_numbers(&self, _: &[Question], _: &[AnswerScore], outcome: &BenchmarkOutcome) -> Vec<(String, f64)> {
        let task = self.card().lmms_eval;
        task.map(|task| (task.metric.to_string(), outcome.score / 100.0)).into_iter().collect()
    }

    /// Returns the URL of the server that scores the answers, if the right answers are not public. Then
    /// [`Benchmark::aggregate`] is an error and [`Benchmark::submission`] returns the file for the server.
    fn server(&self) -> Option<&str> {
        None
    }

    /// Returns the content of the file to submit to [`Benchmark::server`], where `answers[i]` answers `qs[i]`; `None`
    /// if answers are scored here.
    fn submission(&self, _: &[Question], _: &[String]) -> Result<Option<String>> {
        Ok(None)
    }

    /// Returns the table or folder of the questions, if the benchmark's own file says where they are.
    fn own_data(&self) -> Option<PathBuf> {
        None
    }

    /// Returns the file that declares the benchmark, if it is not compiled in.
    fn definition(&self) -> Option<BenchmarkDefinition<'_>> {
        None
    }

    /// Returns whether questions without an image are asked, without one.
    fn allows_no_image(&self) -> bool {
        false
    }

    /// Returns the possible answers to a question in their expected spelling; empty for open questions.
    fn possible_answers(&self, q: &Question) -> Vec<String> {
        match self.card().form {
            AnswerForm::YesNo => ["Yes", "No"].map(String::from).into(),
            AnswerForm::Choice | AnswerForm::Open => (0..q.options.len()).map(choice_label).collect(),
        }
    }

    /// Returns the probability, 0 to 1, that a uniform guess among the possible answers is right; 0 for open questions.
    fn guess_probability(&self, q: &Question) -> f64 {
        match self.card().form {
            AnswerForm::YesNo => 0.5,
            _ if q.options.is_empty() => 0.0,
            AnswerForm::Choice | AnswerForm::Open => 1.0 / q.options.len() as f64,
        }
    }

    /// Returns the candidates for the constant-answer baseline: every letter, and the 64 most frequent right answers
    /// and option texts. For metrics other than exact match a rare answer may fit many questions, so the best candidate
    /// is a lower bound.
    fn constant_candidates(&self, qs: &[Question]) -> BTreeSet<String> {
        let mut set: BTreeSet<String> = match self.card().form {
            AnswerForm::YesNo => ["yes", "no"].map(String::from).into(),
            AnswerForm::Choice | AnswerForm::Open => {
                let most = qs.iter().map(|q| q.options.len()).max().unwrap_or(0);
                (0..most).map(choice_label).collect()
            }
        };
        let texts = qs.iter().flat_map(|q| q.options.iter().chain([&q.answer]));
        set.extend(score::most_frequent(texts.map(String::as_str), CONSTANTS));
        set
    }

    // ---------------------------------------------------------------------------------- what follows from it

    /// Returns the id of the benchmark in files and on the command line.
    fn id(&self) -> &str {
        self.card().id
    }

    /// Returns the category that the benchmark belongs to.
    fn category(&self) -> &Category {
        self.card().category
    }

    /// Returns the version, which is incremented whenever the same answers could score differently.
    fn version(&self) -> &str {
        self.card().version
    }

    /// Returns the publication that defines prompt and metric.
    fn citation(&self) -> &str {
        self.card().citation
    }

    /// Returns the maximum number of generated tokens per answer.
    fn max_new_tokens(&self) -> usize {
        self.card().max_new_tokens
    }

    /// Resolves the requested rules to those that are applied: `official` means the authors' rules or, where there are
    /// none, the strict ones. A benchmark whose questions are generated on this machine, or asked in conversation, has
    /// one set of rules, which also takes the place of `cambrian-1`. It is a usage error if this benchmark has no such
    /// rules.
    fn rules(&self, requested: Rules) -> Result<Rules> {
        self.card().resolve_rules(requested)
    }

    /// Returns the rules to apply: `rules`, or the benchmark's own where it has only one set.
    fn applied_rules(&self, rules: Rules) -> Rules {
        let card = self.card();
        if !card.has_cambrian_rules() && rules == Rules::Cambrian1 { card.own_rules() } else { rules }
    }

    /// Reads the questions in the data directory `data`. Rows of a published table that cannot be asked (no answer, no
    /// image, an answer that is none of the choices, a repeated id) are skipped and counted ([`QuestionSet::skipped`]).
    /// In data that were generated on this machine each of these is an error that names file, line and field.
    fn read(&self, data: &Path) -> Result<QuestionSet> {
        match &self.card().source {
            Some(source) => self.read_published(data, source),
            None => read::generated(self, data),
        }
    }

    /// Returns the whole user turn, without the image token.
    fn prompt(&self, q: &Question, rules: Rules) -> String {
        self.build_prompt(q, self.applied_rules(rules))
    }

    /// Returns the images that accompany the prompt: all of them, or only the first under `cambrian-1` rules.
    fn prompt_images<'a>(&self, q: &'a Question, rules: Rules) -> &'a [ImageLocation] {
        match rules {
            Rules::Cambrian1 => q.images.get(..1).unwrap_or_default(),
            Rules::Official | Rules::Strict | Rules::LmmsEval => &q.images,
        }
    }

    /// Judges one raw answer. Official and strict rules remove the reasoning first, and an answer that ends inside its
    /// reasoning is unparsed; strict rules also open `\boxed{…}`. The rules of `cambrian-1` and lmms-eval get the raw
    /// answer, as the original code does.
    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match self.applied_rules(rules) {
            rules @ (Rules::Cambrian1 | Rules::LmmsEval) => self.verdict(q, answer, rules),
            Rules::Official | Rules::Strict => {
                let rules = self.card().own_rules();
                let split = reasoning::split(answer);
                match reasoning::boxed(&split.answer).filter(|_| rules == Rules::Strict) {
                    _ if split.unfinished => AnswerScore::unparsed(),
                    Some(inner) => self.verdict(q, inner, rules),
                    None => self.verdict(q, &split.answer, rules),
                }
            }
        }
    }

    /// Aggregates the verdicts, where `judged[i]` is the verdict on `qs[i]`: sums [`Benchmark::items`], computes the
    /// standard error, and adds the further numbers of the rules.
    fn aggregate(&self, qs: &[Question], judged: &[AnswerScore], rules: Rules) -> Result<BenchmarkOutcome> {
        if qs.len() != judged.len() {
            let message = format!("{}: {} questions but {} verdicts", self.id(), qs.len(), judged.len());
            return Err(Error::failed(message));
        }
        let p: Vec<f64> = judged.iter().map(|j| j.score).collect();
        let n_unparsed = judged.iter().filter(|j| j.parsed.is_none()).count();
        let items = self.items(qs, &p, rules);
        let outcome = items.and_then(|items| score::aggregate_items(items, qs.len(), n_unparsed));
        let mut outcome = outcome.map_err(|e| e.context(format!("scoring {}", self.id())))?;
        let numbers = match rules {
            Rules::LmmsEval => {
                let numbers = self.lmms_eval_numbers(qs, judged, &outcome);
                numbers.into_iter().map(|(name, value)| (format!("lmms-eval {name}"), value)).collect()
            }
            Rules::Official | Rules::Strict | Rules::Cambrian1 => self.further_numbers(qs, judged),
        };
        outcome.subtasks.extend(numbers);
        Ok(outcome)
    }

    /// Returns the expected score (0 to 100) of guessing uniformly among the possible answers to these questions:
    /// 1/options per question, the probability that both are right for pairs, and 0 for open questions. It is NaN where
    /// [`Benchmark::aggregate`] would fail: no questions, or an incomplete pair.
    fn chance(&self, qs: &[Question], rules: Rules) -> f64 {
        let p: Vec<f64> = qs.iter().map(|q| self.guess_probability(q)).collect();
        let items = self.items(qs, &p, rules);
        items.and_then(|items| score::aggregate_items(items, qs.len(), 0)).map_or(f64::NAN, |o| o.score)
    }

    /// Returns the score (0 to 100) of the constant-answer baseline: the best answer among
    /// [`Benchmark::constant_candidates`], given to every question without looking at image or question. It is NaN
    /// where [`Benchmark::aggregate`] would fail.
    fn constant_baseline(&self, qs: &[Question], rules: Rules) -> f64 {
        let of = |answer: &String| {
            let judged: Vec<AnswerScore> = qs.iter().map(|q| self.judge(q, answer, rules)).collect();
            self.aggregate(qs, &judged, rules).map_or(f64::NAN, |o| o.score)
        };
        self.constant_candidates(qs).iter().map(of).fold(f64::NAN, f64::max)
    }
}
