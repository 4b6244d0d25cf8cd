//! TextVQA: questions about text in photographs, scored by agreement with ten annotators ([`vqa`]).
//!
//! The official metric is the accuracy of the authors' evaluator (facebookresearch/mmf) on the validation split. The
//! authors publish no prompt, so it is the usual line for short answers: [`TEXTVQA`] gives the question alone,
//! [`TEXTVQA_OCR`] also the words that the authors' OCR system found in the image. The `cambrian-1` prompt always has
//! these words, even if the list is empty.
//!
//! VLMEvalKit's edition has no OCR tokens, so only [`TEXTVQA`] can be read from it.

use crate::benchmark::read;
use crate::table::TableColumns;
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, edition, lmms, score, vqa,
};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the TextVQA family.
pub struct TextVqa {
    card: BenchmarkCard<'static>,
    /// Whether the official prompt contains the OCR tokens.
    tokens: bool,
}

/// The benchmark with the question alone as prompt.
pub static TEXTVQA: TextVqa = TextVqa { card: card("textvqa"), tokens: false };

/// The benchmark with the question and the OCR tokens as prompt.
pub static TEXTVQA_OCR: TextVqa = TextVqa { card: card("textvqa-ocr"), tokens: true };

const fn card(id: &'static str) -> BenchmarkCard<'static> {
    BenchmarkCard {
        id,
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "textvqa_val", metric: "exact_match" }),
        category: &Category::OCR_CHART,
        metric: "VQA accuracy",
        version: "2",
        citation: "Singh et al. 2019, Towards VQA Models That Can Read, arXiv:1904.08920",
        form: AnswerForm::Open,
        max_new_tokens: 32,
        source: Some(DatasetSource {
            repository: "lmms-lab/textvqa",
            alias: Some("lmms-lab-encoder/textvqa"),
            cambrian_1: true,
            folder: "",
            split: "validation",
            questions: 5000,
            licence: "CC BY 4.0",
        }),
    }
}

impl Benchmark for TextVqa {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) = edition::open(data, source, "TextVQA_VAL.tsv")?;
        let values: &[&str] = match (from_vlmevalkit, self.tokens) {
            (true, true) => {
                let message = format!("{} needs OCR tokens, which VLMEvalKit's edition does not have", self.card.id);
                return Err(
                    Error::failed(message).hint("download the edition of the hub, or use the benchmark textvqa")
                );
            }
            (true, false) => &["index", "question", "answer"],
            (false, _) => &["image_id", "question_id", "question", "answers", "ocr_tokens"],
        };
        read::published(self, &table, TableColumns { values, images: &["image"] }, |row| {
            let image = row.image("image")?;
            let image_id = if from_vlmevalkit { image.name_in_table() } else { row.text("image_id")? };
            let accepted = vqa::ten_answers(row.list(if from_vlmevalkit { "answer" } else { "answers" })?)?;
            let tokens = if from_vlmevalkit { Vec::new() } else { row.list("ocr_tokens")? };
            Ok(Some(Question {
                id: row.text(if from_vlmevalkit { "index" } else { "question_id" })?,
                row: row.number,
                images: vec![image],
                unit: image_id.clone(),
                image_id,
                question: row.text("question")?,
                context: (!tokens.is_empty()).then(|| tokens.join(", ")),
                answer: vqa::best(&accepted).cloned().unwrap_or_default(),
                accepted,
                subtask: "all".into(),
                ..Question::default()
            }))
        })
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        let tokens = self.tokens;
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: match tokens {
                    true => {
                        "Question, \"Reference OCR token: …\" with the words that the authors' OCR found, \"Answer \
                            the question using a single word or phrase.\"; the authors publish no prompt."
                    }
                    false => {
                        "Question, then \"Answer the question using a single word or phrase.\"; the authors publish \
                            no prompt."
                    }
                },
                scoring: vqa::JUDGED,
                source: "the authors' evaluator: facebookresearch/mmf, mmf/utils/m4c_evaluators.py \
                    (TextVQAAccuracyEvaluator)",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question, \"Reference OCR tokens: …\" with the words that the authors' OCR found, \
                    \"Answer the question using a single word or phrase.\"",
                scoring: vqa::JUDGED,
                source: "cambrian-mllm/cambrian, eval/eval/textvqa/textvqa_test.py and m4c_evaluator.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: match tokens {
                    true => {
                        "Question with its first letter alone in upper case, \"Reference OCR token: …\", \"Answer \
                            the question using a single word or phrase.\""
                    }
                    false => {
                        "Question with its first letter alone in upper case, then \"Answer the question using a \
                            single word or phrase.\""
                    }
                },
                scoring: vqa::JUDGED,
                source: "lmms-eval 0.7.3, tasks/textvqa/textvqa_val.yaml, utils.py and \
                    tasks/_task_utils/vqa_eval_metric.py",
                difference: match tokens {
                    true => "OCR tokens are given where its option `ocr` is set; by default it is not.",
                    false => "",
                },
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        let tokens = q.context.as_deref().unwrap_or_default();
        let tokens = match rules {
            Rules::Official | Rules::Strict | Rules::LmmsEval if !self.tokens => String::new(),
            Rules::Official | Rules::Strict | Rules::LmmsEval => format!("\nReference OCR token: {tokens}"),
            Rules::Cambrian1 if tokens.is_empty() => "\nReference OCR tokens:".into(),
            Rules::Cambrian1 => format!("\nReference OCR tokens: {tokens}"),
        };
        let asked = if rules == Rules::LmmsEval { lmms::capitalised(&q.question) } else { q.question.clone() };
        score::short_answer_prompt(&format!("{asked}{tokens}"))
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        vqa::judge(q, answer, rules)
    }
}
