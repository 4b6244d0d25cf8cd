//! Benchmarks: from questions to prompts, from answers to scores.
//!
//! Each benchmark family is one file. A family defines how its questions are read ([`Benchmark::read`]), how they are
//! asked ([`Benchmark::prompt`]), how one answer is judged ([`Benchmark::judge`]) and how judged answers become the
//! published score ([`Benchmark::items`]). Aggregation with clustered standard errors, chance and the constant-answer
//! baseline follow from these and are the same for all families. Functions that families share are in [`score`].
//!
//! The published benchmarks are read in their published formats ([`table`]: parquet, JSON, CSV or TSV, with images
//! inside or in files beside them), from a plain directory or the hub's cache. Asking and judging follow [`Rules`]:
//! those of the benchmark's authors or, where there are none, our strict rules; those of the `cambrian-1` code; or
//! those of lmms-eval. Every set of rules is described in words, with its source ([`Benchmark::explain`]). The `nano-*`
//! benchmarks are small variants of the published ones: other images and questions, but the same prompt forms and the
//! same judging code. The `field-*` benchmarks are composed of stamps and photographs. The data of both are
//! `<data>/bench/<id>.jsonl`, one question per line (see [`read`]); they have one set of rules.
//!
//! Three rules hold for every benchmark. An answer that cannot be parsed is never guessed: it is counted
//! ([`Outcome::n_unparsed`]) and scores 0. The model's reasoning is removed before its answer is read ([`reasoning`]).
//! Questions about the same image, or of the same pair, form one [`Unit`], so that standard errors are computed over
//! independent units and not over questions.

pub mod ai2d;
pub mod blink;
pub mod chartqa;
pub mod cocoqa;
pub mod cvbench;
pub mod docvqa;
mod edition;
mod explain;
pub mod field;
pub mod gqa;
pub mod image_source;
mod left_out;
mod letter;
mod lmms;
pub mod mathvista;
pub mod mmbench;
pub mod mme;
pub mod mmmu;
pub mod mmstar;
pub mod mmvp;
pub mod ocrbench;
pub mod pope;
pub mod predictions;
pub mod qbench;
pub mod read;
pub mod realworldqa;
pub mod reasoning;
mod rows;
mod rules;
pub mod sample;
pub mod scienceqa;
pub mod score;
pub mod seed_bench;
mod study;
pub mod table;
pub mod textvqa;
pub mod vizwiz;
mod vlmevalkit;
pub mod vqa;
pub mod vstar;

use burgess_base::{Error, Result, nearest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

pub use burgess_base::Category;
pub use explain::{Explained, REASONING};
pub use image_source::Image;
pub use left_out::{LeftOut, Questions, Tally};
pub use predictions::{Predictions, ScoreReport, Verdict, judge_predictions, read_predictions, score_predictions};
pub use rules::Rules;
pub use score::Item;

/// Every benchmark, published and nano variants together per family; families follow the columns of the published
/// tables.
static ALL: LazyLock<Vec<&'static dyn Benchmark>> = LazyLock::new(|| {
    [
        mme::ALL,
        mmbench::ALL,
        seed_bench::ALL,
        gqa::ALL,
        scienceqa::ALL,
        mmmu::ALL,
        mathvista::ALL,
        ai2d::ALL,
        chartqa::ALL,
        ocrbench::ALL,
        textvqa::ALL,
        docvqa::ALL,
        vizwiz::ALL,
        mmvp::ALL,
        realworldqa::ALL,
        cvbench::ALL,
        vstar::ALL,
        cocoqa::ALL,
        pope::ALL,
        mmstar::ALL,
        blink::ALL,
        qbench::ALL,
        field::ALL,
    ]
    .concat()
});

/// Returns every benchmark, with the families in the order of the columns of the published tables.
pub fn all() -> &'static [&'static dyn Benchmark] {
    &ALL
}

/// Returns the benchmark called `id`. An unknown id is a usage error that suggests the nearest ids.
pub fn find(id: &str) -> Result<&'static dyn Benchmark> {
    all().iter().copied().find(|b| b.id() == id).ok_or_else(|| {
        let ids: Vec<&str> = all().iter().map(|b| b.id()).collect();
        let near = nearest(id, ids.iter().copied());
        let hint = match near.is_empty() {
            true => format!("there are {}", ids.join(", ")),
            false => format!("did you mean {}?", near.join(" or ")),
        };
        Error::usage(format!("no benchmark is called `{id}`")).hint(hint)
    })
}

/// Maximum number of texts that are tried as constant answers.
const CONSTANTS: usize = 64;

/// The form that an answer must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The answer is yes or no.
    YesNo,
    /// The answer is the letter of one of [`Question::options`].
    Choice,
    /// The answer is a word, phrase or number; questions that have [`Question::options`] expect a letter.
    Open,
}

/// Static description of a benchmark.
#[derive(Debug)]
pub struct Card {
    /// Id of the benchmark in files and on the command line.
    pub id: &'static str,
    /// The category that the benchmark belongs to.
    pub category: &'static Category,
    /// What the score measures, in a few words.
    pub metric: &'static str,
    /// Version, which is incremented whenever the same answers could score differently.
    pub version: &'static str,
    /// The publication that defines prompt and metric.
    pub citation: &'static str,
    /// The form of the answers.
    pub form: Form,
    /// Maximum number of generated tokens per answer; enough for the longest right one.
    pub max_new_tokens: usize,
    /// Where the questions are published; `None` for those that are generated on this machine.
    pub source: Option<Source>,
    /// Whether [`Rules::Official`] are the authors' rules; if not, [`Rules::Strict`] take their place.
    pub authors: bool,
    /// The names of task and metric in lmms-eval 0.7.3; `None` if it has no such task.
    pub lmms_eval: Option<(&'static str, &'static str)>,
}

/// The published source of a benchmark.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Name of the dataset on the hub, such as `lmms-lab/MME`.
    pub repository: &'static str,
    /// The folder of the dataset that holds the files; empty for the root.
    pub folder: &'static str,
    /// Name of the split, with which the names of its files begin.
    pub split: &'static str,
    /// Number of scored questions. Any other number means another edition, which the result reports.
    pub questions: usize,
    /// The terms of use that its authors state.
    pub licence: &'static str,
}

/// One question about one or several images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Id, unique within the benchmark.
    pub id: String,
    /// Row number in the published split, from 0; other harnesses identify answers by it.
    pub row: u64,
    /// The images, in the order in which the text refers to them; most questions have one.
    pub images: Vec<Image>,
    /// Id of the image; questions with the same value are about the same image.
    pub image_id: String,
    /// The text of the question alone: no options, no format line, no image token.
    pub question: String,
    /// Further text that the prompt may contain: a hint, or text read from the image by OCR.
    pub context: Option<String>,
    /// The choices, in the order of their letters; empty for open and yes/no questions.
    pub options: Vec<String>,
    /// The right answer: a letter (`B` or `(b)`), yes/no, or text.
    pub answer: String,
    /// All accepted answers, or all answers that annotators gave, where there are several; `answer` is one of them.
    pub accepted: Vec<String>,
    /// The benchmark's own subtask, such as `count`.
    pub subtask: String,
    /// Id of the unit that is resampled as a whole for standard errors: an image, or a pair of images.
    pub unit: String,
    /// Further values that the rules of this benchmark need, by benchmark-specific names.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

impl Question {
    /// Returns the fact called `name`; empty if the question has none.
    pub fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("", String::as_str)
    }
}

/// The verdict on one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The parsed answer; `None` if the answer could not be parsed (then `score` is 0).
    pub parsed: Option<String>,
    /// The score, from 0 (wrong) to 1 (right).
    pub score: f64,
}

impl Judged {
    /// Returns the verdict on an answer that could not be parsed.
    pub fn unparsed() -> Self {
        Self { parsed: None, score: 0.0 }
    }

    /// Returns the verdict on a parsed answer.
    pub fn new(parsed: impl Into<String>, right: bool) -> Self {
        Self { parsed: Some(parsed.into()), score: if right { 1.0 } else { 0.0 } }
    }
}

/// A group of questions that are not independent of each other. A score is `100 · Σ sum / Σ weight` over units, so
/// bootstrap resampling needs only the units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// The [`Question::unit`] of its questions.
    pub id: String,
    /// Weighted sum of the scores of its questions or pairs.
    pub sum: f64,
    /// Sum of the weights of its questions or pairs.
    pub weight: f64,
}

/// The result of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Value of the metric, 0 to 100.
    pub score: f64,
    /// Standard error of the score, clustered by unit (the linearised variance of a ratio), on the same scale. It
    /// cannot be estimated from a single unit; then it is 50, the largest standard deviation of a score between 0 and
    /// 100.
    pub stderr: f64,
    /// Number of questions.
    pub n: usize,
    /// Number of answers that could not be parsed.
    pub n_unparsed: usize,
    /// The units for resampling, sorted by id.
    pub units: Vec<Unit>,
    /// The same metric on each subtask alone.
    pub subtasks: BTreeMap<String, f64>,
}

/// A benchmark: how to read, ask, judge and aggregate its questions.
pub trait Benchmark: Sync {
    /// Returns the static description of the benchmark.
    fn card(&self) -> &Card;

    /// Returns the id of the benchmark in files and on the command line.
    fn id(&self) -> &str {
        self.card().id
    }
    /// Returns the category that the benchmark belongs to.
    fn category(&self) -> &Category {
        self.card().category
    }
    /// Returns what the score measures under these rules, in a few words.
    fn metric(&self, _: Rules) -> &str {
        self.card().metric
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

    /// Reads the questions in the data directory `data`. Rows of a published table that cannot be asked (no answer, no
    /// image, an answer that is none of the choices, a repeated id) are left out and counted ([`Questions::left_out`]).
    /// In data that were generated on this machine each of these is an error that names file, line and field.
    fn read(&self, data: &Path) -> Result<Questions> {
        read::drawn(self, data)
    }

    /// Returns the id of the group of questions that the row is scored with ([`Question::unit`]), if leaving out one
    /// row of the group must leave out the whole group; otherwise `None`.
    fn scored_together(&self, _: &table::Row) -> Option<String> {
        None
    }

    /// Returns the URL of the server that scores the answers, if the right answers are not public. Then
    /// [`Benchmark::aggregate`] is an error and [`Benchmark::submission`] returns the file for the server.
    fn server(&self) -> Option<&'static str> {
        None
    }

    /// Returns the content of the file to submit to [`Benchmark::server`], where `answers[i]` answers `qs[i]`; `None`
    /// if answers are scored here.
    fn submission(&self, _: &[Question], _: &[String]) -> Result<Option<String>> {
        Ok(None)
    }

    /// Resolves the requested rules to those that are applied: `official` means the authors' rules or, where there are
    /// none, the strict ones. It is a usage error if this benchmark has no such rules.
    fn rules(&self, asked: Rules) -> Result<Rules> {
        rules::settle(self.card(), asked)
    }

    /// Describes in words how these rules ask and judge, and from which source they are.
    fn explain(&self, rules: Rules) -> Explained;

    /// Returns the whole user turn, without the image token.
    fn prompt(&self, q: &Question, rules: Rules) -> String;

    /// Returns the images that accompany the prompt: all of them, or only the first under `cambrian-1` rules.
    fn shown<'a>(&self, q: &'a Question, rules: Rules) -> &'a [Image] {
        match rules {
            Rules::Cambrian1 => q.images.get(..1).unwrap_or_default(),
            Rules::Official | Rules::Strict | Rules::LmmsEval => &q.images,
        }
    }

    /// Judges one raw answer. Official and strict rules remove the reasoning first, and an answer that ends inside its
    /// reasoning is unparsed; strict rules also open `\boxed{…}`. The rules of `cambrian-1` and lmms-eval get the raw
    /// answer, as the original code does.
    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        match rules {
            Rules::Cambrian1 if self.card().source.is_some() => self.verdict(q, answer, rules),
            Rules::LmmsEval => self.verdict(q, answer, rules),
            Rules::Official | Rules::Strict | Rules::Cambrian1 => {
                let rules = if self.card().authors { Rules::Official } else { Rules::Strict };
                let split = reasoning::split(answer);
                match reasoning::boxed(&split.answer).filter(|_| rules == Rules::Strict) {
                    _ if split.unfinished => Judged::unparsed(),
                    Some(inner) => self.verdict(q, inner, rules),
                    None => self.verdict(q, &split.answer, rules),
                }
            }
        }
    }

    /// Judges an answer whose reasoning is already removed where the rules ask for it.
    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> Judged;

    /// Returns the scored items; by default one per question. `p[i]` is the score of question i, or the probability
    /// that it is answered rightly (answers taken as independent), so that the same code computes scores and chance. It
    /// is an error if questions that are scored together are incomplete.
    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<Item>> {
        Ok(qs.iter().zip(p).map(|(q, &score)| Item::new(q, score)).collect())
    }

    /// Returns the possible answers to a question in their expected spelling; empty for open questions.
    fn answers(&self, q: &Question) -> Vec<String> {
        match self.card().form {
            Form::YesNo => ["Yes", "No"].map(String::from).into(),
            Form::Choice | Form::Open => (0..q.options.len()).map(score::name).collect(),
        }
    }

    /// Returns the probability that a uniform guess among the possible answers is right; 0 for open questions.
    fn guess(&self, q: &Question) -> f64 {
        match self.card().form {
            Form::YesNo => 0.5,
            _ if q.options.is_empty() => 0.0,
            Form::Choice | Form::Open => 1.0 / q.options.len() as f64,
        }
    }

    /// Aggregates the verdicts, where `judged[i]` is the verdict on `qs[i]`.
    fn aggregate(&self, qs: &[Question], judged: &[Judged], rules: Rules) -> Result<Outcome> {
        let mut outcome = self.sum_up(qs, judged, rules)?;
        if rules == Rules::LmmsEval {
            let numbers = self.harness_numbers(qs, judged, &outcome);
            outcome.subtasks.extend(numbers.into_iter().map(|(name, value)| (format!("lmms-eval {name}"), value)));
        }
        Ok(outcome)
    }

    /// Returns the numbers that lmms-eval prints for these verdicts, by its names and on its scales; by default the
    /// score as a fraction. They are reported with the subtasks.
    fn harness_numbers(&self, _: &[Question], _: &[Judged], outcome: &Outcome) -> Vec<(String, f64)> {
        let metric = self.card().lmms_eval.map(|(_, metric)| metric);
        metric.map(|metric| (metric.to_string(), outcome.score / 100.0)).into_iter().collect()
    }

    /// Sums [`Benchmark::items`] and computes the standard error; the part of [`Benchmark::aggregate`] that is the same
    /// for every benchmark.
    fn sum_up(&self, qs: &[Question], judged: &[Judged], rules: Rules) -> Result<Outcome> {
        if qs.len() != judged.len() {
            let message = format!("{}: {} questions but {} verdicts", self.id(), qs.len(), judged.len());
            return Err(Error::failed(message));
        }
        let p: Vec<f64> = judged.iter().map(|j| j.score).collect();
        let n_unparsed = judged.iter().filter(|j| j.parsed.is_none()).count();
        let step = || format!("scoring {}", self.id());
        let items = self.items(qs, &p, rules).map_err(|e| e.context(step()))?;
        score::sum_up(items, qs.len(), n_unparsed).map_err(|e| e.context(step()))
    }

    /// Returns the expected score (0 to 100) of guessing uniformly among the possible answers to these questions:
    /// 1/options per question, the probability that both are right for pairs, and 0 for open questions. It is NaN where
    /// [`Benchmark::aggregate`] would fail: no questions, or an incomplete pair.
    fn chance(&self, qs: &[Question], rules: Rules) -> f64 {
        let p: Vec<f64> = qs.iter().map(|q| self.guess(q)).collect();
        self.items(qs, &p, rules).and_then(|items| score::sum_up(items, qs.len(), 0)).map_or(f64::NAN, |o| o.score)
    }

    /// Returns the candidates for the constant-answer baseline: every letter, and the most frequent right answers and
    /// option texts (at most [`CONSTANTS`]). For metrics other than exact match a rare answer may fit many questions,
    /// so the best candidate is a lower bound.
    fn constants(&self, qs: &[Question]) -> BTreeSet<String> {
        let mut set: BTreeSet<String> = match self.card().form {
            Form::YesNo => ["yes", "no"].map(String::from).into(),
            Form::Choice | Form::Open => {
                let most = qs.iter().map(|q| q.options.len()).max().unwrap_or(0);
                (0..most).map(score::name).collect()
            }
        };
        let texts = qs.iter().flat_map(|q| q.options.iter().chain([&q.answer]));
        set.extend(score::frequent(texts.map(String::as_str), CONSTANTS));
        set
    }

    /// Returns the score (0 to 100) of the constant-answer baseline: the best answer among [`Benchmark::constants`],
    /// given to every question without looking at image or question. It is NaN where [`Benchmark::aggregate`] would
    /// fail.
    fn majority(&self, qs: &[Question], rules: Rules) -> f64 {
        let of = |answer: &String| {
            let judged: Vec<Judged> = qs.iter().map(|q| self.judge(q, answer, rules)).collect();
            self.aggregate(qs, &judged, rules).map_or(f64::NAN, |o| o.score)
        };
        self.constants(qs).iter().map(of).fold(f64::NAN, f64::max)
    }
}
