//! OCRBench: reading text in images; an answer is right if it contains one of the expected texts.
//!
//! Official rules (`OCRBench/example.py` of Yuliang-Liu/MultimodalOCR): both texts are lower-cased and trimmed, line
//! breaks become spaces, then containment is tested; formulas (dataset HME100k) are compared with their case and
//! without spaces. The rule ignores words around the text, and digits around a number (`12` is contained in `3120`).
//! The published score of 1000 is ten times ours. The authors' prompt is the question alone.
//!
//! `cambrian-1` asks for "the short answer". Its scorer has two rules. As its scripts run it, it is the official rule
//! (formulas are recognised by their category); with the flag `--extra_penalization` nothing may surround the text
//! (edit distance 0), which is [`OCRBENCH_STRICT`] here.

use crate::benchmark::read;
use crate::table::TableColumns;
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, LmmsEvalTask,
    Question, QuestionSet, Rules, RulesDescription, edition, lmms, score,
};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the OCRBench family.
pub struct OcrBench {
    card: BenchmarkCard<'static>,
    /// Whether the answer must be exactly the expected text.
    strict: bool,
}

/// The published benchmark.
pub static OCRBENCH: OcrBench = OcrBench {
    card: card(
        "ocrbench",
        Some(LmmsEvalTask { task: "ocrbench", metric: "ocrbench_accuracy" }),
        "containment",
        128,
        Some(SOURCE),
    ),
    strict: false,
};

/// The same questions, scored by `cambrian-1`'s rule of edit distance 0.
pub static OCRBENCH_STRICT: OcrBench =
    OcrBench { card: card("ocrbench-strict", None, "same text (edit distance 0)", 128, Some(SOURCE)), strict: true };

const SOURCE: DatasetSource<'static> = DatasetSource {
    repository: "echo840/OCRBench",
    alias: None,
    cambrian_1: true,
    folder: "",
    split: "test",
    questions: 1000,
    licence: "MIT (authors' repository); images under the terms of the 29 datasets that they come from",
};

const fn card(
    id: &'static str,
    lmms_eval: Option<LmmsEvalTask<'static>>,
    metric: &'static str,
    max_new_tokens: usize,
    source: Option<DatasetSource<'static>>,
) -> BenchmarkCard<'static> {
    BenchmarkCard {
        id,
        authors: lmms_eval.is_some(),
        lmms_eval,
        category: &Category::OCR_CHART,
        metric,
        version: "2",
        citation: "Liu et al. 2023, OCRBench: On the Hidden Mystery of OCR in Large Multimodal Models, \
            arXiv:2305.07895",
        form: AnswerForm::Open,
        max_new_tokens,
        source,
    }
}

/// The category whose answers are LaTeX formulas, and the dataset that they are from.
const FORMULAS: (&str, &str) = ("Handwritten Mathematical Expression Recognition", "HME100k");

/// Returns the ASCII character for a full-width one, as lmms-eval normalises them.
fn half_width(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        c => c,
    }
}

impl Benchmark for OcrBench {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) = edition::open(data, source, "OCRBench.tsv")?;
        let values: &[&str] = match from_vlmevalkit {
            true => &["index", "question", "answer", "category"],
            false => &["dataset", "question", "question_type", "answer"],
        };
        read::published(self, &table, TableColumns { values, images: &["image"] }, |row| {
            let image = row.image("image")?;
            let name = image.name_in_table();
            let id = if from_vlmevalkit { row.text("index")? } else { row.number.to_string() };
            let accepted = row.list("answer")?;
            let Some(answer) = accepted.first().filter(|_| !accepted.iter().any(|a| a.trim().is_empty())) else {
                return Err(Error::failed("the column `answer` holds no text, or an empty text"));
            };
            Ok(Some(Question {
                unit: if from_vlmevalkit { name.clone() } else { id.clone() },
                id,
                row: row.number,
                images: vec![image],
                image_id: name,
                question: row.text("question")?,
                answer: answer.clone(),
                accepted,
                subtask: row.text(if from_vlmevalkit { "category" } else { "question_type" })?,
                facts: row.maybe("dataset").map(|d| ("dataset".to_string(), d)).into_iter().collect(),
                ..Question::default()
            }))
        })
    }

    /// Returns the number of right answers divided by 1000, the number of questions of the published benchmark.
    fn lmms_eval_numbers(&self, _: &[Question], judged: &[AnswerScore], _: &BenchmarkOutcome) -> Vec<(String, f64)> {
        vec![("ocrbench_accuracy".into(), judged.iter().map(|j| j.score).sum::<f64>() / 1000.0)]
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: match &self.card.source {
                    None => "Question, then \"Answer the question using a single word or phrase.\"",
                    Some(_) => "The authors' question alone.",
                },
                scoring: match self.strict {
                    true => {
                        "The answer must be one of the expected texts and nothing else, up to case, white space \
                            around it and line breaks; formulas are compared with their case and without spaces."
                    }
                    false => {
                        "One of the expected texts must be contained in the answer, up to case and line breaks; \
                            formulas (HME100k) with their case and without spaces. The published score of 1000 is \
                            ten times ours."
                    }
                },
                source: match (&self.card.source, self.strict) {
                    (None, _) => "ours, after OCRBench",
                    (Some(_), true) => {
                        "cambrian-mllm/cambrian, eval/eval/ocrbench/ocrbench_test.py --extra_penalization"
                    }
                    (Some(_), false) => "the authors' script: Yuliang-Liu/MultimodalOCR, OCRBench/example.py",
                },
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question, then \"Give the short answer directly.\"",
                scoring: match self.strict {
                    true => "The answer must be one of the expected texts and nothing else.",
                    false => {
                        "One of the expected texts must be contained in the answer; formulas are recognised by their \
                            category."
                    }
                },
                source: "cambrian-mllm/cambrian, eval/eval/ocrbench/ocrbench_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "The authors' question alone.",
                scoring: "As the official rule, but full-width characters are the same as ASCII ones. Its number is \
                    the count of right answers divided by 1000.",
                source: "lmms-eval 0.7.3, tasks/ocrbench/ocrbench.yaml and utils.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match (&self.card.source, rules) {
            (None, _) => score::short_answer_prompt(&q.question),
            (Some(_), Rules::LmmsEval) => lmms::trimmed(&q.question).to_string(),
            (Some(_), Rules::Official | Rules::Strict) => q.question.clone(),
            (Some(_), Rules::Cambrian1) => format!("{}\nGive the short answer directly.", q.question),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        let cleaned = (rules == Rules::LmmsEval).then(|| lmms::cleaned(answer));
        let said = cleaned.as_deref().unwrap_or_else(|| answer.trim());
        if said.is_empty() {
            return AnswerScore::unparsed();
        }
        let formula = match (q.fact("dataset"), rules) {
            ("", _) | (_, Rules::Cambrian1) => q.subtask == FORMULAS.0,
            (dataset, Rules::Official | Rules::Strict | Rules::LmmsEval) => dataset == FORMULAS.1,
        };
        let plain = |text: &str| match formula {
            true => text.trim().replace(['\n', ' '], ""),
            false if rules == Rules::LmmsEval => {
                text.chars().map(half_width).collect::<String>().to_lowercase().trim().replace('\n', " ")
            }
            false => text.to_lowercase().trim().replace('\n', " "),
        };
        let compared = plain(said);
        let fits = |expected: &str| match self.strict {
            true => compared == plain(expected),
            false => compared.contains(&plain(expected)),
        };
        AnswerScore::new(said, q.accepted_answers().iter().any(|a| fits(a)))
    }
}
