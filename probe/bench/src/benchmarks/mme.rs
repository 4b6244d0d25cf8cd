//! MME: two yes/no questions about each image, one with the answer yes and one with the answer no.
//!
//! The published score of a subtask is acc% + acc⁺% (0–200), where acc counts questions and acc⁺ images with both
//! questions right; the total is the sum over subtasks. Here every score lies between 0 and 100: a subtask scores
//! (acc + acc⁺) / 2 and the total is the mean over subtasks, which equals the published total divided by 2 · number
//! of subtasks. (`cambrian-1` divides the perception total of 2000 by 20, which is the same number.) The score covers
//! the 10 perception subtasks of the published 14; the 4 cognition subtasks are reported separately.
//!
//! Chance is (50 + 25) / 2 = 37.5; the constant-answer baseline is 25.
//!
//! Official rules are those of the authors' evaluation tool (yes or no among the first four characters). `cambrian-1`
//! compares the whole answer, and asks for a word or phrase after the authors' own request for yes or no. It forms
//! pairs by position in the file, which gives the pairs with the same image.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, LmmsEvalTask,
    Question, QuestionSet, Rules, RulesDescription, ScoredItem, lmms, score, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the MME family.
pub struct Mme {
    card: BenchmarkCard<'static>,
}

const CITATION: &str =
    "Fu et al. 2023, MME: A Comprehensive Evaluation Benchmark for Multimodal LLMs, arXiv:2306.13394";

const METRIC: &str = "(acc + acc+) / 2, mean of subtasks";

/// The published benchmark.
pub static MME: Mme = Mme {
    card: BenchmarkCard {
        id: "mme",
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "mme", metric: "mme_perception_score" }),
        category: &Category::GENERAL,
        metric: "(acc + acc+) / 2, mean of the perception subtasks",
        version: "2",
        citation: CITATION,
        form: AnswerForm::YesNo,
        max_new_tokens: 32,
        source: Some(DatasetSource {
            repository: "lmms-lab/MME",
            alias: Some("lmms-lab-encoder/MME"),
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 2374,
            licence: "for academic research, commercial use is prohibited; not to be passed on without approval",
        }),
    },
};

/// The nano variant: questions about images of the nano world.
pub static NANO_MME: Mme = Mme {
    card: BenchmarkCard {
        id: "nano-mme",
        authors: false,
        lmms_eval: None,
        category: &Category::GENERAL,
        metric: METRIC,
        version: "2",
        citation: CITATION,
        form: AnswerForm::YesNo,
        max_new_tokens: 4,
        source: None,
    },
};

/// The published subtasks, and whether they are perception subtasks.
const SUBTASKS: [(&str, bool); 14] = [
    ("existence", true),
    ("count", true),
    ("position", true),
    ("color", true),
    ("posters", true),
    ("celebrity", true),
    ("scene", true),
    ("landmark", true),
    ("artwork", true),
    ("OCR", true),
    ("commonsense_reasoning", false),
    ("numerical_calculation", false),
    ("text_translation", false),
    ("code_reasoning", false),
];

/// The text with which every published question ends.
const REQUEST: &str = " Please answer yes or no.";

fn question(row: &TableRow, pair: &str) -> Result<Option<Question>> {
    let (subtask, text) = (row.text("category")?, row.text("question")?);
    if !SUBTASKS.iter().any(|(known, _)| *known == subtask) {
        let known: Vec<&str> = SUBTASKS.iter().map(|(name, _)| *name).collect();
        return Err(Error::failed(format!("`{subtask}` is not a subtask of MME"))
            .hint(format!("the subtasks are {}", known.join(", "))));
    }
    let image_id = row.text(pair)?;
    Ok(Some(Question {
        id: row.number.to_string(),
        row: row.number,
        images: row.images("image").to_vec(),
        unit: format!("{subtask}/{image_id}"),
        image_id,
        question: text.strip_suffix(REQUEST).unwrap_or(&text).to_string(),
        answer: row.text("answer")?,
        subtask,
        ..Question::default()
    }))
}

/// Parses yes or no as lmms-eval does: full stops are removed, then the single letter y or n, or the authors' rule.
fn lmms_yes_no(answer: &str) -> Option<bool> {
    let plain = lmms::trimmed(&answer.to_lowercase()).replace('.', "");
    match plain.as_str() {
        "y" => return Some(true),
        "n" => return Some(false),
        _ => {}
    }
    let head: String = plain.chars().take(4).collect();
    match (head.contains("yes"), head.contains("no")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

impl Benchmark for Mme {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    /// Reads the questions; the two questions about an image share `question_id` or, in VLMEvalKit's edition,
    /// `image_path`.
    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(questions) = vlmevalkit::read(self, data, "MME.tsv", |row| question(row, "image_path")) {
            return questions;
        }
        let columns = TableColumns { values: &["question_id", "question", "answer", "category"], images: &["image"] };
        read::published(self, &DatasetTable::open(data, source)?, columns, |row| question(row, "question_id"))
    }

    /// Returns the sums of acc% + acc⁺% over the perception and over the cognition subtasks.
    fn lmms_eval_numbers(&self, _: &[Question], _: &[AnswerScore], outcome: &BenchmarkOutcome) -> Vec<(String, f64)> {
        [("mme_perception_score", true), ("mme_cognition_score", false)]
            .into_iter()
            .filter_map(|(name, kind)| {
                let of_kind = |s: &&String| SUBTASKS.contains(&(s.as_str(), kind));
                let scores: Vec<f64> =
                    outcome.subtasks.iter().filter(|(s, _)| of_kind(s)).map(|(_, score)| 2.0 * score).collect();
                (!scores.is_empty()).then(|| (name.to_string(), scores.iter().sum()))
            })
            .collect()
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        const SCORE: &str = "\"yes\" or else \"no\" among the first four characters of the answer, in lower case. A \
            subtask's score is the mean of acc (questions) and acc+ (images with both questions right), each in \
            percent; the score is the mean over the perception subtasks: the published total divided by 20.";
        match rules {
            Rules::Official | Rules::Strict if self.card.source.is_none() => RulesDescription {
                prompt: "Question with \"Please answer yes or no.\"",
                scoring: SCORE,
                source: "ours, after MME",
                difference: "",
            },
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "The authors' question, which ends with \"Please answer yes or no.\"",
                scoring: SCORE,
                source: "the authors' evaluation tool, calculation.py, as copied in QwenLM/Qwen-VL, \
                    eval_mm/mme/calculation.py",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "The authors' question, then \"Answer the question using a single word or phrase.\"",
                scoring: "The whole answer must be yes or no, in lower case and without full stops at its end. \
                    Scored as under the official rule.",
                source: "cambrian-mllm/cambrian, eval/eval/mme/mme_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "The question without \"Please answer yes or no.\", then \"Answer the question using a \
                    single word or phrase.\"",
                scoring: "Without full stops: a single y or n, or \"yes\" or else \"no\" among the first four \
                    characters, in lower case. Its numbers are the sums over the subtasks of perception (to 2000) \
                    and cognition (to 800); the score is that of perception divided by 20.",
                source: "lmms-eval 0.7.3, tasks/mme/mme.yaml and utils.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        let asked = format!("{}{REQUEST}", q.question);
        match rules {
            Rules::Official | Rules::Strict => asked,
            Rules::Cambrian1 => score::short_answer_prompt(&asked),
            Rules::LmmsEval => score::short_answer_prompt(&q.question.replace(REQUEST, "")),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        let said = match rules {
            Rules::Official | Rules::Strict => score::yes_no(answer),
            Rules::LmmsEval => lmms_yes_no(&lmms::cleaned(answer)),
            Rules::Cambrian1 => match answer.trim().to_lowercase().trim_end_matches('.') {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
        };
        score::judge_yes_no(q, said)
    }

    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<ScoredItem>> {
        let counted = |q: &Question| !SUBTASKS.contains(&(&*q.subtask, false));
        let mut items: Vec<ScoredItem> = score::pairs(qs, p, |q| (&q.subtask, &q.image_id))?
            .into_iter()
            .map(|(q, [a, b])| ScoredItem { counted: counted(q), ..ScoredItem::new(q, ((a + b) / 2.0 + a * b) / 2.0) })
            .collect();
        score::equal_subtasks(&mut items);
        Ok(items)
    }
}
