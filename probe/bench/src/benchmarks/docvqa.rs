//! Questions about documents (DocVQA and its nano variant), infographics (InfographicVQA) and text in photographs
//! (ST-VQA), scored by ANLS: the string similarity of the answer to the nearest accepted one, 0 below one half
//! ([`score::anls`]).
//!
//! The rule is that of the scoring script of the Robust Reading Competition, which Qwen-VL and lmms-eval also use. The
//! authors publish no prompt, so the official prompt is the question and the line for short answers. `cambrian-1` asks
//! DocVQA for "the short answer" and leaves the scoring of all three to the competition's server.
//!
//! The answers of the test splits ([`DOCVQA_TEST`], [`ST_VQA`]) are not public. Their questions can be read and asked,
//! and [`Benchmark::submission`] writes the file for the server; scoring them is an error.

use crate::benchmark::read;
use crate::table::{TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, ScoredItem, edition, lmms, score,
};
use burgess_base::{Context, Error, Result};
use serde_json::json;
use std::path::Path;

/// A benchmark that is scored by ANLS.
pub struct Documents {
    card: BenchmarkCard<'static>,
    schema: Schema,
    /// The last line of the prompt under `cambrian-1` rules.
    cambrian_line: &'static str,
    /// URL of the server that scores the answers; `None` if they are scored here.
    server: Option<&'static str>,
    /// File name of VLMEvalKit's edition; empty if there is none.
    vlmevalkit_tsv: &'static str,
}

/// Names of the columns in the hub's edition.
struct Schema {
    /// Column of the question's number, which the server uses too.
    id: &'static str,
    /// Columns that together identify the image.
    image: &'static [&'static str],
    /// Column with the list of question kinds, if there is one.
    kinds: Option<&'static str>,
}

const DOCUMENTS: Schema =
    Schema { id: "questionId", image: &["ucsf_document_id", "ucsf_document_page_no"], kinds: Some("question_types") };

const DOCVQA_CITATION: &str = "Mathew et al. 2020, DocVQA: A Dataset for VQA on Document Images, arXiv:2007.00398";

/// DocVQA's validation split, scored here.
pub static DOCVQA: Documents = Documents {
    card: card("docvqa", LmmsEvalTask { task: "docvqa_val", metric: "anls" }, DOCVQA_CITATION, DOCVQA_SOURCE),
    schema: DOCUMENTS,
    cambrian_line: DIRECTLY,
    server: None,
    vlmevalkit_tsv: "DocVQA_VAL.tsv",
};

/// DocVQA's test split, scored by the server.
pub static DOCVQA_TEST: Documents = Documents {
    card: card(
        "docvqa-test",
        LmmsEvalTask { task: "docvqa_test", metric: "submission" },
        DOCVQA_CITATION,
        DatasetSource { split: "test", questions: 5188, ..DOCVQA_SOURCE },
    ),
    schema: DOCUMENTS,
    cambrian_line: DIRECTLY,
    server: Some("https://rrc.cvc.uab.es/?ch=17"),
    vlmevalkit_tsv: "DocVQA_TEST.tsv",
};

/// The nano variant: words, numbers, lines and table cells in images of the nano world. ANLS credits text of which most
/// letters are read, so that encoders that tell some letters apart are not at zero with those that tell none.
pub static NANO_DOCVQA: Documents = Documents {
    card: BenchmarkCard {
        id: "nano-docvqa",
        authors: false,
        lmms_eval: None,
        max_new_tokens: 12,
        source: None,
        ..DOCVQA.card
    },
    schema: DOCUMENTS,
    cambrian_line: score::SHORT_LINE,
    server: None,
    vlmevalkit_tsv: "",
};

/// InfographicVQA's validation split, scored here.
pub static INFOVQA: Documents = Documents {
    card: card(
        "infovqa",
        LmmsEvalTask { task: "infovqa_val", metric: "anls" },
        "Mathew et al. 2021, InfographicVQA, arXiv:2104.12756",
        DatasetSource { folder: "InfographicVQA", questions: 2801, ..DOCVQA_SOURCE },
    ),
    schema: Schema { id: "questionId", image: &["image_url"], kinds: Some("answer_type") },
    cambrian_line: score::SHORT_LINE,
    server: None,
    vlmevalkit_tsv: "InfoVQA_VAL.tsv",
};

/// ST-VQA's test split (task 3, without a dictionary), scored by the server.
pub static ST_VQA: Documents = Documents {
    card: card(
        "st-vqa",
        LmmsEvalTask { task: "stvqa", metric: "submission" },
        "Biten et al. 2019, Scene Text Visual Question Answering, arXiv:1905.13648",
        DatasetSource {
            repository: "lmms-lab/ST-VQA",
            alias: Some("lmms-lab-encoder/ST-VQA"),
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 4070,
            licence: "terms of the Robust Reading Competition",
        },
    ),
    schema: Schema { id: "question_id", image: &[], kinds: None },
    cambrian_line: score::SHORT_LINE,
    server: Some("https://rrc.cvc.uab.es/?ch=11"),
    vlmevalkit_tsv: "",
};

const DOCVQA_SOURCE: DatasetSource<'static> = DatasetSource {
    repository: "lmms-lab/DocVQA",
    alias: Some("lmms-lab-encoder/DocVQA"),
    cambrian_1: true,
    folder: "DocVQA",
    split: "validation",
    questions: 5349,
    licence: "terms of the Robust Reading Competition; the hub's card says Apache-2.0",
};

const SCRIPT: &str = "the script that the organisers of the Robust Reading Competition distribute (rrc.cvc.uab.es), as \
    copied in Qwen-VL's eval_mm/infographicsvqa_eval.py";

const DIRECTLY: &str = "Give the short answer directly.";

const fn card(
    id: &'static str,
    lmms_eval: LmmsEvalTask<'static>,
    citation: &'static str,
    source: DatasetSource<'static>,
) -> BenchmarkCard<'static> {
    BenchmarkCard {
        id,
        authors: true,
        lmms_eval: Some(lmms_eval),
        category: &Category::OCR_CHART,
        metric: "ANLS",
        version: "2",
        citation,
        form: AnswerForm::Open,
        max_new_tokens: 32,
        source: Some(source),
    }
}

impl Documents {
    fn question(&self, row: &TableRow, from_vlmevalkit: bool) -> Result<Question> {
        let image = row.image("image")?;
        let accepted = match (self.server, from_vlmevalkit) {
            (Some(_), _) => Vec::new(),
            (None, true) => row.list("answer")?,
            (None, false) => row.list("answers")?,
        };
        if self.server.is_none() && accepted.is_empty() {
            return Err(Error::failed("the question has no accepted answer")
                .hint("check that this is the split whose answers are published"));
        }
        let parts: Vec<String> = match from_vlmevalkit {
            true => Vec::new(),
            false => self.schema.image.iter().map(|column| row.text(column)).collect::<Result<_>>()?,
        };
        let image_id = if parts.is_empty() { image.name_in_table() } else { parts.join("_") };
        // A question can have several kinds; their combination is the subtask.
        let kinds = match self.schema.kinds.filter(|_| !from_vlmevalkit) {
            Some(column) if row.value(column).is_some() => row.list(column)?.join(" + "),
            _ => String::new(),
        };
        Ok(Question {
            id: row.text(if from_vlmevalkit { "index" } else { self.schema.id })?,
            row: row.number,
            images: vec![image],
            unit: image_id.clone(),
            image_id,
            question: row.text("question")?,
            answer: accepted.first().cloned().unwrap_or_default(),
            accepted,
            subtask: if kinds.is_empty() { "all".into() } else { kinds },
            ..Question::default()
        })
    }
}

impl Benchmark for Documents {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn server(&self) -> Option<&str> {
        self.server
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) = edition::open(data, source, self.vlmevalkit_tsv)?;
        let kinds = self.schema.kinds.map(|column| format!("{column}?"));
        let mut values = match from_vlmevalkit {
            true => vec!["index", "question"],
            false => [&[self.schema.id, "question"], self.schema.image].concat(),
        };
        values.extend(kinds.as_deref().filter(|_| !from_vlmevalkit));
        if self.server.is_none() {
            values.push(if from_vlmevalkit { "answer" } else { "answers" });
        }
        read::published_without_answers(self, &table, TableColumns { values: &values, images: &["image"] }, |row| {
            self.question(row, from_vlmevalkit).map(Some)
        })
    }

    fn submission(&self, qs: &[Question], answers: &[String]) -> Result<Option<String>> {
        if self.server.is_none() {
            return Ok(None);
        }
        if qs.len() != answers.len() {
            let message = format!("{}: {} questions but {} answers", self.id(), qs.len(), answers.len());
            return Err(Error::failed(message));
        }
        let line = |(q, answer): (&Question, &String)| {
            let number: u64 =
                q.id.parse()
                    .map_err(|_| Error::failed(format!("the id `{}` is not a number, as the server expects", q.id)))?;
            Ok(json!({ self.schema.id: number, "answer": answer.trim() }))
        };
        let lines: Vec<serde_json::Value> = qs.iter().zip(answers).map(line).collect::<Result<_>>()?;
        let text = serde_json::to_string(&lines).with_context(|| format!("writing answers to {}", self.id()))?;
        Ok(Some(text + "\n"))
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        let (scoring, secret) = match self.server {
            None => (
                "ANLS: 1 less the edit distance to the nearest accepted answer, divided by the longer one's length; \
                    below one half it is 0. Case is ignored, and runs of white space count as one space.",
                "",
            ),
            Some(_) => (
                "By the organisers' server, which has the right answers; Burgess writes the file to submit.",
                "Nothing is scored here.",
            ),
        };
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "Question, then \"Answer the question using a single word or phrase.\"; the authors publish \
                    no prompt.",
                scoring,
                source: match self.card.source {
                    None => "ours, after DocVQA",
                    Some(_) => SCRIPT,
                },
                difference: secret,
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: match self.cambrian_line {
                    DIRECTLY => "Question, then \"Give the short answer directly.\"",
                    _ => "Question, then \"Answer the question using a single word or phrase.\"",
                },
                scoring,
                source: "prompts: cambrian-mllm/cambrian, eval/eval/{docvqa,infovqa,stvqa}/*_eval.py; the server \
                    scores all three",
                difference: secret,
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, then \"Answer the question using a single word or phrase.\"",
                scoring,
                source: "lmms-eval 0.7.3, tasks/{docvqa,infovqa,stvqa} and api/metrics.py (anls)",
                difference: match self.server {
                    None => "",
                    Some(_) => "Its task also writes a file for the server.",
                },
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        let line = match rules {
            Rules::Official | Rules::Strict | Rules::LmmsEval => score::SHORT_LINE,
            Rules::Cambrian1 => self.cambrian_line,
        };
        format!("{}\n{line}", q.question)
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        let cleaned = (rules == Rules::LmmsEval).then(|| lmms::cleaned(answer));
        let answer = cleaned.as_deref().unwrap_or(answer);
        match answer.trim() {
            "" => AnswerScore::unparsed(),
            said => AnswerScore { parsed: Some(said.to_string()), score: score::anls(said, q.accepted_answers()) },
        }
    }

    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<ScoredItem>> {
        match self.server {
            None => Ok(score::one_item_per_question(qs, p)),
            Some(server) => Err(Error::failed(format!("the right answers of {} are not public", self.id()))
                .hint(format!("write the answers to a file and submit it to {server}"))),
        }
    }
}
