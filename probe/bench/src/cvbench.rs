//! CV-Bench: counting and spatial relations (2D), depth order and relative distance (3D), with lettered choices.
//!
//! The published 2D score is the mean of the accuracies on its two image sources (ADE20K, COCO), with all tasks pooled
//! within a source; 3D has one source (Omni3D) and plain accuracy. The authors of CV-Bench are those of Cambrian-1: the
//! prompt is their `prompt` column plus the line that asks for a letter, and the metric is the dataset card's. Strict
//! rules accept an answer that names a choice; the `cambrian-1` scripts (`ade_test.py`, `coco_test.py`, `omni_test.py`)
//! take the first letter of any answer.
//!
//! The nano world is a single source, so the scores of both nano halves are accuracies over all questions; the tasks
//! (`count`, `relation`; `depth`, `distance`) are their subtasks.

use super::score::{self, Item};
use super::table::{Columns, Row};
use super::{
    Benchmark, Card, Category, Explained, Form, Judged, Question, Questions, Rules, Source, blink, edition, explain,
    lmms, read, study, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// A benchmark of the CV-Bench family.
pub struct CvBench {
    card: Card,
    /// The half of the published benchmark; `None` for the nano variants.
    part: Option<Part>,
}

/// The 2D or the 3D half of the published benchmark.
struct Part {
    /// Value of the column `type` in its rows.
    kind: &'static str,
    /// Values of the column `task` in its rows.
    tasks: [&'static str; 2],
    /// File name of VLMEvalKit's edition.
    kit: &'static str,
}

const CITATION: &str =
    "Tong et al. 2024, Cambrian-1: A Fully Open, Vision-Centric Exploration of Multimodal LLMs, arXiv:2406.16860";

/// Every benchmark of this family.
pub const ALL: &[&dyn Benchmark] = &[&TWO_D, &THREE_D, &NANO_2D, &NANO_3D];

/// The published 2D half: counting and spatial relations.
pub static TWO_D: CvBench = CvBench {
    card: card(
        "cv-bench-2d",
        Some(("cv_bench_2d", "cv_bench_acc")),
        "mean of the accuracies on its sources",
        16,
        Some(source("test_2d", 1438)),
    ),
    part: Some(Part { kind: "2D", tasks: ["Count", "Relation"], kit: "CV-Bench-2D.tsv" }),
};

/// The published 3D half: depth order and relative distance.
pub static THREE_D: CvBench = CvBench {
    card: card("cv-bench-3d", Some(("cv_bench_3d", "cv_bench_acc")), "accuracy", 16, Some(source("test_3d", 1200))),
    part: Some(Part { kind: "3D", tasks: ["Depth", "Distance"], kit: "CV-Bench-3D.tsv" }),
};

/// The nano variant of the 2D half: counting and spatial relations.
pub static NANO_2D: CvBench = CvBench { card: card("nano-cvbench-2d", None, "accuracy", 8, None), part: None };

/// The nano variant of the 3D half: depth order and relative distance.
pub static NANO_3D: CvBench = CvBench { card: card("nano-cvbench-3d", None, "accuracy", 8, None), part: None };

const fn source(split: &'static str, questions: usize) -> Source {
    Source { repository: "nyu-visionx/CV-Bench", folder: "", split, questions, licence: "Apache-2.0" }
}

const fn card(
    id: &'static str,
    lmms_eval: Option<(&'static str, &'static str)>,
    metric: &'static str,
    max_new_tokens: usize,
    source: Option<Source>,
) -> Card {
    Card {
        id,
        authors: false,
        lmms_eval,
        category: &Category::VISION_CENTRIC,
        metric,
        // The small siblings name their choices since version 3.
        version: if source.is_none() { "3" } else { "2" },
        citation: CITATION,
        form: Form::Choice,
        max_new_tokens,
        source,
    }
}

/// The columns that are read or checked in the authors' edition.
const COLUMNS: [&str; 11] = [
    "idx",
    "type",
    "task",
    "question",
    "choices",
    "answer",
    "prompt",
    "filename",
    "source",
    "source_dataset",
    "source_filename",
];

/// The columns that are read in VLMEvalKit's edition.
const KIT: [&str; 12] =
    ["index", "question", "answer", "prompt", "source", "task?", "category?", "A", "B", "C?", "D?", "E?"];

impl CvBench {
    fn question(&self, row: &Row, kit: bool) -> Result<Question> {
        let image = row.image("image")?;
        let options = if kit { vlmevalkit::choices(row)? } else { row.choices("choices")? };
        let answer = row.text("answer")?;
        if !score::label(&answer).is_some_and(|l| ('A'..='Z').take(options.len()).any(|offered| offered == l)) {
            let message = format!("the answer {answer:?} is none of the {} choices", options.len());
            return Err(Error::failed(message).hint("answers are letters such as (A)"));
        }
        let task = match (&self.part, kit) {
            (Some(Part { kind, tasks, .. }), false) => {
                let (found, task) = (row.text("type")?, row.text("task")?);
                if found != *kind || !tasks.contains(&task.as_str()) {
                    let message = format!("the row is of type `{found}` and task `{task}`");
                    let hint = format!("{} has {} questions: {}", self.id(), kind, tasks.join(", "));
                    return Err(Error::failed(message).hint(hint));
                }
                task
            }
            _ => row.maybe("task").or_else(|| row.maybe("category")).unwrap_or_else(|| "all".into()),
        };
        let source = row.text("source")?;
        // Rows with different drawn boxes have different files, although they show the same source image.
        let image_id = match kit {
            true => edition::image_name(&image),
            false => row.maybe("source_filename").map_or_else(|| row.text("filename"), Ok)?,
        };
        Ok(Question {
            id: row.text(if kit { "index" } else { "idx" })?,
            row: row.number,
            images: vec![image],
            unit: image_id.clone(),
            image_id,
            question: row.text("question")?,
            options,
            answer,
            subtask: format!("{source} {task}"),
            facts: [("prompt".to_string(), row.text("prompt")?), ("source".to_string(), source)].into(),
            ..Question::default()
        })
    }
}

impl Benchmark for CvBench {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let (Some(source), Some(part)) = (&self.card.source, &self.part) else { return read::drawn(self, data) };
        let (table, kit) = edition::open(data, source, part.kit)?;
        let values: &[&str] = if kit { &KIT } else { &COLUMNS };
        read::published(self, &table, Columns { values, images: &["image"] }, |row| Ok(Some(self.question(row, kit)?)))
    }

    fn metric(&self, rules: Rules) -> &str {
        match rules {
            Rules::LmmsEval => "accuracy",
            Rules::Official | Rules::Strict | Rules::Cambrian1 => self.card.metric,
        }
    }

    fn explain(&self, rules: Rules) -> Explained {
        if self.card.source.is_none() {
            return explain::NAMED;
        }
        match rules {
            Rules::Official | Rules::Strict => Explained {
                asked: "The authors' `prompt` as published (question and choices as \"(A) …\"), then \"Answer with the option's letter from the given choices directly.\"",
                judged: explain::STRICT_LETTER,
                source: "prompt and metric: the dataset card of nyu-visionx/CV-Bench (2D: the mean of the accuracies on ADE20K and COCO; 3D: accuracy); reading the letter: ours, as the authors' script takes the first character of anything",
                unlike: "",
            },
            Rules::Cambrian1 => Explained {
                asked: "As by the strict rules.",
                judged: "The first character behind the last \"answer is\" or \"answer:\", without parentheses, is the letter.",
                source: "the authors' script: cambrian-mllm/cambrian, eval/eval/{ade,coco,omni}/*_test.py",
                unlike: "",
            },
            Rules::LmmsEval => Explained {
                asked: "\"Note: You only need to respond with A, B, … without providing any additional information.\", an empty line, then the authors' `prompt`.",
                judged: "The first character behind white space and opening parentheses is the letter. Accuracy over all questions, whatever their source.",
                source: "lmms-eval 0.7.3, tasks/cv_bench/_default_template_yaml and utils.py",
                unlike: "",
            },
        }
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        match &self.card.source {
            None => score::named_prompt(q),
            Some(_) if rules == Rules::LmmsEval => {
                let letters: Vec<String> = lmms::labels(q.options.len()).map(String::from).collect();
                format!("{}\n\n{}", blink::lmms_note(&letters.join(", ")), q.fact("prompt"))
            }
            Some(_) => format!("{}\n{}", q.fact("prompt"), score::LETTER_LINE),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        match (&self.card.source, rules) {
            (Some(_), Rules::LmmsEval) => {
                let said = lmms::cleaned(answer);
                let first = said.trim_start_matches(|c: char| c == '(' || c.is_whitespace()).chars().next();
                let letter = first.filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase());
                lmms::on_letter(q, letter)
            }
            (Some(_), Rules::Cambrian1) => study::judge_first_character(q, answer, &['.']),
            _ => score::judge_letter(q, answer),
        }
    }

    /// Weights items so that every source counts equally; under lmms-eval's rules every question counts equally.
    fn items(&self, qs: &[Question], p: &[f64], rules: Rules) -> Result<Vec<Item>> {
        if rules == Rules::LmmsEval {
            return Ok(qs.iter().zip(p).map(|(q, &score)| Item::new(q, score)).collect());
        }
        let mut sizes: BTreeMap<&str, f64> = BTreeMap::new();
        for q in qs {
            *sizes.entry(q.fact("source")).or_default() += 1.0;
        }
        let mean = qs.len() as f64 / sizes.len() as f64;
        let item = |(q, &score): (&Question, &f64)| {
            let weight = sizes.get(q.fact("source")).map_or(1.0, |size| mean / size);
            Item { weight, ..Item::new(q, score) }
        };
        Ok(qs.iter().zip(p).map(item).collect())
    }
}
