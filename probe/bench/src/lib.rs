//! Benchmarks: from questions to prompts, from answers to scores.
//!
//! One file per benchmark family. A family says how its questions are read ([`Benchmark::read`]), how they are asked
//! ([`Benchmark::prompt`]), how one answer is judged ([`Benchmark::judge`]) and how judged answers become the published
//! number ([`Benchmark::items`]); aggregation with clustered standard errors, chance and the best constant answer follow
//! from these and are the same for all. Primitives that families share live in [`score`].
//!
//! The published benchmarks are read as they are published ([`table`]: parquet, JSON, CSV, TSV with pictures inside or
//! beside), from a plain directory or the hub's cache. Asking and judging follow [`Rules`]: those of the benchmark's
//! authors or, where there are none, our strict ones; those of the study's code; or those of lmms-eval. Each says in words
//! how it asks and judges, and by which source ([`Benchmark::explain`]). The `nano-*` benchmarks are the small siblings of the published ones: other pictures and questions, the same
//! prompt forms and the same judging code; the `field-*` benchmarks are made of real stamps and photographs. Their data are
//! `<data>/bench/<id>.jsonl`, a line per question (see [`read`]); they have one set of rules.
//!
//! Three rules hold everywhere. An answer that cannot be parsed is never guessed: it is counted
//! ([`Outcome::n_unparsed`]) and scores 0. A model's reasoning is removed before its answer is read ([`reasoning`]). And
//! questions about the same picture, or of the same pair, belong to one
//! [`Unit`], so that error bars come from independent units and not from questions.

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
pub mod picture;
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
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

pub use explain::{Explained, REASONING};
pub use left_out::{LeftOut, Questions, Tally};
pub use picture::Picture;
pub use predictions::{Predictions, ScoreReport, Verdict, judge_predictions, read_predictions, score_predictions};
pub use rules::Rules;
pub use score::Item;

/// Every benchmark: of each family the published ones and their small siblings, families in the order of the columns of
/// the published tables.
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

/// Every benchmark: families in the order of the columns of the published tables.
pub fn all() -> &'static [&'static dyn Benchmark] {
    &ALL
}

/// The benchmarks of the study's tables, in the order of their columns, by the ids that its study files use. The average is the
/// mean of the 16 (MME's perception score divided by 20).
pub const PUBLISHED: [(&str, Category); 16] = [
    ("mme", Category::General),
    ("mmbench-en", Category::General),
    ("seed-bench", Category::General),
    ("gqa", Category::General),
    ("scienceqa", Category::Knowledge),
    ("mmmu", Category::Knowledge),
    ("mathvista", Category::Knowledge),
    ("ai2d", Category::Knowledge),
    ("chartqa", Category::OcrChart),
    ("ocrbench", Category::OcrChart),
    ("textvqa", Category::OcrChart),
    ("docvqa", Category::OcrChart),
    ("mmvp", Category::VisionCentric),
    ("realworldqa", Category::VisionCentric),
    ("cv-bench-2d", Category::VisionCentric),
    ("cv-bench-3d", Category::VisionCentric),
];

/// The benchmark called `id`. An unknown id is a usage error that names the nearest ones.
pub fn find(id: &str) -> Result<&'static dyn Benchmark> {
    all().iter().copied().find(|b| b.id() == id).ok_or_else(|| {
        if PUBLISHED.iter().any(|(published, _)| *published == id) {
            return Error::failed(format!("the questions of {id} cannot be read by this version"))
                .hint("`burgess rank … --dry-run` shows the study without them");
        }
        let ids: Vec<&str> = all().iter().map(|b| b.id()).collect();
        let near = nearest(id, ids.iter().copied());
        let hint = match near.is_empty() {
            true => format!("there are {}", ids.join(", ")),
            false => format!("did you mean {}?", near.join(" or ")),
        };
        Error::usage(format!("no benchmark is called `{id}`")).hint(hint)
    })
}

/// How many texts are tried as the best constant answer.
const CONSTANTS: usize = 64;

/// The four groups of the study, each worth a quarter of the average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Category {
    /// Everyday perception.
    General,
    /// Facts about what is seen.
    Knowledge,
    /// Reading text and values.
    #[serde(rename = "OCR & Chart")]
    OcrChart,
    /// Where, how many, how near.
    #[serde(rename = "Vision-centric")]
    VisionCentric,
}

impl Category {
    /// All four, in the order of the tables.
    pub const ALL: [Category; 4] = [Self::General, Self::Knowledge, Self::OcrChart, Self::VisionCentric];
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::General => "General",
            Self::Knowledge => "Knowledge",
            Self::OcrChart => "OCR & Chart",
            Self::VisionCentric => "Vision-centric",
        })
    }
}

/// What an answer has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Yes or no.
    YesNo,
    /// The letter of one of [`Question::options`].
    Choice,
    /// A word, phrase or number; questions with [`Question::options`] among them want a letter.
    Open,
}

/// What is known of a benchmark apart from its code.
#[derive(Debug)]
pub struct Card {
    /// Name in files and on the command line.
    pub id: &'static str,
    /// The group of the study that it belongs to.
    pub category: Category,
    /// What the score measures, in a few words.
    pub metric: &'static str,
    /// Counts up whenever the same answers could score differently.
    pub version: &'static str,
    /// The publication that defines prompt and metric.
    pub citation: &'static str,
    /// Shape of the answers.
    pub form: Form,
    /// Tokens that an answer may have; enough for the longest right one.
    pub max_new_tokens: usize,
    /// Where the questions are published; none for those that are made on this machine.
    pub source: Option<Source>,
    /// Whether [`Rules::Official`] are the authors'. If not, there are [`Rules::Strict`] in their place.
    pub authors: bool,
    /// What lmms-eval 0.7.3 calls its task and metric; none if it has no such task.
    pub lmms_eval: Option<(&'static str, &'static str)>,
}

/// Where a benchmark is published.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Dataset on the hub, such as `lmms-lab/MME`.
    pub repository: &'static str,
    /// The folder in it that holds the files; empty for the whole.
    pub folder: &'static str,
    /// Its split, by which the files' names begin.
    pub split: &'static str,
    /// How many questions are scored; what has fewer or more is another edition, and the result says so.
    pub questions: usize,
    /// What its authors say of the terms of use.
    pub licence: &'static str,
}

/// One question about one picture, or several.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Unique within the benchmark.
    pub id: String,
    /// Number of the row in the published split that it was read from, from 0: by it other harnesses name their answers.
    pub row: u64,
    /// Its pictures in the order in which the text names them; most questions have one.
    pub images: Vec<Picture>,
    /// Questions with the same value are about the same picture.
    pub image_id: String,
    /// The question alone: no options, no format line, no image token.
    pub question: String,
    /// What the prompt may give beside the question: a hint, or text that was read from the picture by machine.
    pub context: Option<String>,
    /// The choices in the order of their letters; empty for open and yes/no questions.
    pub options: Vec<String>,
    /// The right answer: a letter (`B` or `(b)`), yes/no, or text.
    pub answer: String,
    /// All answers that people gave or that are accepted, where there are several; `answer` is one of them.
    pub accepted: Vec<String>,
    /// The benchmark's own division, e.g. `count`.
    pub subtask: String,
    /// What is resampled together for error bars: a picture, or a pair of pictures.
    pub unit: String,
    /// What else the rules of this benchmark need, by their own names for it.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

impl Question {
    /// A fact that the rules need; empty where the data have none.
    pub fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("", String::as_str)
    }
}

/// The verdict on one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What the answer was taken to say; `None` if it could not be parsed (then `score` is 0).
    pub parsed: Option<String>,
    /// 1 for right, 0 for wrong.
    pub score: f64,
}

impl Judged {
    /// An answer that says nothing the scorer can use.
    pub fn unparsed() -> Self {
        Self { parsed: None, score: 0.0 }
    }

    /// A parsed answer, right or wrong.
    pub fn new(parsed: impl Into<String>, right: bool) -> Self {
        Self { parsed: Some(parsed.into()), score: if right { 1.0 } else { 0.0 } }
    }
}

/// Questions that are not independent of each other. A score is `100 · Σ sum / Σ weight` over units, so a
/// bootstrap resamples these and needs nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// [`Question::unit`].
    pub id: String,
    /// Weighted score of its questions or pairs.
    pub sum: f64,
    /// Weight of its questions or pairs.
    pub weight: f64,
}

/// The result of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The metric, 0 to 100.
    pub score: f64,
    /// Its standard error, clustered by unit (the linearised variance of a ratio), in the same scale.
    /// A single unit says nothing of the spread: then it is 50, the largest standard deviation that a score
    /// between 0 and 100 can have.
    pub stderr: f64,
    /// Number of questions.
    pub n: usize,
    /// Number of answers that could not be parsed.
    pub n_unparsed: usize,
    /// What to resample, sorted by id.
    pub units: Vec<Unit>,
    /// The same metric for each subtask alone.
    pub subtasks: BTreeMap<String, f64>,
}

/// A benchmark: how to read, ask, judge and sum up.
pub trait Benchmark: Sync {
    /// Everything about it that is not code.
    fn card(&self) -> &Card;

    /// Name in files and on the command line.
    fn id(&self) -> &str {
        self.card().id
    }
    /// The group of the study that it belongs to.
    fn category(&self) -> Category {
        self.card().category
    }
    /// What the score measures under these rules, in a few words.
    fn metric(&self, _: Rules) -> &str {
        self.card().metric
    }
    /// Counts up whenever the same answers could score differently.
    fn version(&self) -> &str {
        self.card().version
    }
    /// The publication that defines prompt and metric.
    fn citation(&self) -> &str {
        self.card().citation
    }
    /// Tokens that an answer may have.
    fn max_new_tokens(&self) -> usize {
        self.card().max_new_tokens
    }

    /// Reads the questions under the data directory `data`. Rows of a published table that cannot be asked (no answer, no
    /// picture, an answer that is none of the choices, an id that came before) are left out and counted
    /// ([`Questions::left_out`]). Data made on this machine have to be whole: there each of these is an error, which names
    /// file, line and field.
    fn read(&self, data: &Path) -> Result<Questions> {
        read::drawn(self, data)
    }

    /// What questions are scored together with that of a row ([`Question::unit`]), where one that is left out takes the
    /// others with it although they would be complete without.
    fn scored_together(&self, _: &table::Row) -> Option<String> {
        None
    }

    /// Where answers are scored whose right ones are kept secret: the address of the server. Then there is no score here
    /// ([`Benchmark::aggregate`] is an error), but [`Benchmark::submission`].
    fn server(&self) -> Option<&'static str> {
        None
    }

    /// The file in which answers are handed in at [`Benchmark::server`], `answers[i]` being that to `qs[i]`; none where
    /// answers are scored here.
    fn submission(&self, _: &[Question], _: &[String]) -> Result<Option<String>> {
        Ok(None)
    }

    /// The rules that are followed where these are asked for, by their right name: `official` are the authors' rules, or
    /// the strict ones where there are none. A usage error if this benchmark has no such rules.
    fn rules(&self, asked: Rules) -> Result<Rules> {
        rules::settle(self.card(), asked)
    }

    /// In words: how these rules ask and judge, by which source.
    fn explain(&self, rules: Rules) -> Explained;

    /// The whole user turn, without the image token.
    fn prompt(&self, q: &Question, rules: Rules) -> String;

    /// The pictures that go with the prompt: all of them, or the first, which is all that the study's code gives.
    fn shown<'a>(&self, q: &'a Question, rules: Rules) -> &'a [Picture] {
        match rules {
            Rules::Cambrian1 => q.images.get(..1).unwrap_or_default(),
            Rules::Official | Rules::Strict | Rules::LmmsEval => &q.images,
        }
    }

    /// Judges one raw answer. By official and strict rules its reasoning is removed before, and an answer that ends inside
    /// its reasoning is unparsed; strict rules also open `\boxed{…}`. The study's and lmms-eval's rules get the answer as it
    /// is, and do what that code does.
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

    /// The rule itself: judges an answer without its reasoning.
    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> Judged;

    /// What is counted: by default each question once. `p[i]` is the score of question i, or the probability
    /// that it is answered rightly (answers taken as independent), so that the same code gives scores and chance.
    /// Errors when questions that belong together are not complete.
    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<Item>> {
        Ok(qs.iter().zip(p).map(|(q, &score)| Item::new(q, score)).collect())
    }

    /// The possible answers to a question, as they should be written; none for open questions.
    fn answers(&self, q: &Question) -> Vec<String> {
        match self.card().form {
            Form::YesNo => ["Yes", "No"].map(String::from).into(),
            Form::Choice | Form::Open => (0..q.options.len()).map(score::name).collect(),
        }
    }

    /// Probability that a uniform guess among the possible answers is right; 0 for open questions.
    fn guess(&self, q: &Question) -> f64 {
        match self.card().form {
            Form::YesNo => 0.5,
            _ if q.options.is_empty() => 0.0,
            Form::Choice | Form::Open => 1.0 / q.options.len() as f64,
        }
    }

    /// Sums up the verdicts, `judged[i]` being that on `qs[i]`.
    fn aggregate(&self, qs: &[Question], judged: &[Judged], rules: Rules) -> Result<Outcome> {
        let mut outcome = self.sum_up(qs, judged, rules)?;
        if rules == Rules::LmmsEval {
            let numbers = self.harness_numbers(qs, judged, &outcome);
            outcome.subtasks.extend(numbers.into_iter().map(|(name, value)| (format!("lmms-eval {name}"), value)));
        }
        Ok(outcome)
    }

    /// The numbers that lmms-eval prints for these verdicts, by its names and in its scales: by default the score as a share.
    /// They are shown among the subtasks.
    fn harness_numbers(&self, _: &[Question], _: &[Judged], outcome: &Outcome) -> Vec<(String, f64)> {
        let metric = self.card().lmms_eval.map(|(_, metric)| metric);
        metric.map(|metric| (metric.to_string(), outcome.score / 100.0)).into_iter().collect()
    }

    /// The sum of [`Benchmark::items`] and its error; part of [`Benchmark::aggregate`] where that says more.
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

    /// The expected score (0 to 100) of guessing uniformly among the possible answers, computed from these
    /// questions: 1/options, under pairs both right by chance; 0 for open questions. NaN where
    /// [`Benchmark::aggregate`] would fail: no questions, or an incomplete pair.
    fn chance(&self, qs: &[Question], rules: Rules) -> f64 {
        let p: Vec<f64> = qs.iter().map(|q| self.guess(q)).collect();
        self.items(qs, &p, rules).and_then(|items| score::sum_up(items, qs.len(), 0)).map_or(f64::NAN, |o| o.score)
    }

    /// Answers worth giving to every question alike: every letter, and of the right answers and option texts the most
    /// frequent ones ([`CONSTANTS`]): beyond exact match, where a rare answer may fit many questions, the best of them is
    /// a lower bound.
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

    /// The score (0 to 100) of the best constant answer among [`Benchmark::constants`]: what can be had without
    /// looking at the picture or even the question. NaN where [`Benchmark::aggregate`] would fail.
    fn majority(&self, qs: &[Question], rules: Rules) -> f64 {
        let of = |answer: &String| {
            let judged: Vec<Judged> = qs.iter().map(|q| self.judge(q, answer, rules)).collect();
            self.aggregate(qs, &judged, rules).map_or(f64::NAN, |o| o.score)
        };
        self.constants(qs).iter().map(of).fold(f64::NAN, f64::max)
    }
}
