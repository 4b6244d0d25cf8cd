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

use crate::benchmark::read;
use crate::table::{TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, ScoredItem, cambrian, edition, explain, labels, lmms, score, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// A benchmark of the CV-Bench family.
pub struct CvBench {
    card: BenchmarkCard<'static>,
    /// The half of the published benchmark; `None` for the nano variants.
    half: Option<PublishedHalf>,
}

/// The 2D or the 3D half of the published benchmark.
struct PublishedHalf {
    /// Value of the column `type` in its rows.
    kind: &'static str,
    /// Values of the column `task` in its rows.
    tasks: [&'static str; 2],
    /// File name of VLMEvalKit's edition.
    vlmevalkit_tsv: &'static str,
}

const CITATION: &str =
    "Tong et al. 2024, Cambrian-1: A Fully Open, Vision-Centric Exploration of Multimodal LLMs, arXiv:2406.16860";

/// The published 2D half: counting and spatial relations.
pub static CV_BENCH_2D: CvBench = CvBench {
    card: card(
        "cv-bench-2d",
        Some(LmmsEvalTask { task: "cv_bench_2d", metric: "cv_bench_acc" }),
        "mean of the accuracies on its sources",
        16,
        Some(source("test_2d", 1438)),
    ),
    half: Some(PublishedHalf { kind: "2D", tasks: ["Count", "Relation"], vlmevalkit_tsv: "CV-Bench-2D.tsv" }),
};

/// The published 3D half: depth order and relative distance.
pub static CV_BENCH_3D: CvBench = CvBench {
    card: card(
        "cv-bench-3d",
        Some(LmmsEvalTask { task: "cv_bench_3d", metric: "cv_bench_acc" }),
        "accuracy",
        16,
        Some(source("test_3d", 1200)),
    ),
    half: Some(PublishedHalf { kind: "3D", tasks: ["Depth", "Distance"], vlmevalkit_tsv: "CV-Bench-3D.tsv" }),
};

/// The nano variant of the 2D half: counting and spatial relations.
pub static NANO_CVBENCH_2D: CvBench = CvBench { card: card("nano-cvbench-2d", None, "accuracy", 8, None), half: None };

/// The nano variant of the 3D half: depth order and relative distance.
pub static NANO_CVBENCH_3D: CvBench = CvBench { card: card("nano-cvbench-3d", None, "accuracy", 8, None), half: None };

const fn source(split: &'static str, questions: usize) -> DatasetSource<'static> {
    DatasetSource {
        repository: "nyu-visionx/CV-Bench",
        alias: None,
        cambrian_1: true,
        folder: "",
        split,
        questions,
        licence: "Apache-2.0",
    }
}

const fn card(
    id: &'static str,
    lmms_eval: Option<LmmsEvalTask<'static>>,
    metric: &'static str,
    max_new_tokens: usize,
    source: Option<DatasetSource<'static>>,
) -> BenchmarkCard<'static> {
    BenchmarkCard {
        id,
        authors: false,
        lmms_eval,
        category: &Category::VISION_CENTRIC,
        metric,
        // The small siblings name their choices since version 3.
        version: if source.is_none() { "3" } else { "2" },
        citation: CITATION,
        form: AnswerForm::Choice,
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
const VLMEVALKIT_COLUMNS: [&str; 12] =
    ["index", "question", "answer", "prompt", "source", "task?", "category?", "A", "B", "C?", "D?", "E?"];

impl CvBench {
    fn question(&self, row: &TableRow, from_vlmevalkit: bool) -> Result<Question> {
        let image = row.image("image")?;
        let options = if from_vlmevalkit { vlmevalkit::choices(row)? } else { row.choices("choices")? };
        let answer = row.text("answer")?;
        if !labels::choice_letter(&answer).is_some_and(|l| ('A'..='Z').take(options.len()).any(|offered| offered == l))
        {
            let message = format!("the answer {answer:?} is not one of the {} choices", options.len());
            return Err(Error::failed(message).hint("answers are letters such as (A)"));
        }
        let task = match (&self.half, from_vlmevalkit) {
            (Some(PublishedHalf { kind, tasks, .. }), false) => {
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
        let image_id = match from_vlmevalkit {
            true => image.name_in_table(),
            false => row.maybe("source_filename").map_or_else(|| row.text("filename"), Ok)?,
        };
        Ok(Question {
            id: row.text(if from_vlmevalkit { "index" } else { "idx" })?,
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
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) =
            edition::open(data, source, self.half.as_ref().map_or("", |half| half.vlmevalkit_tsv))?;
        let values: &[&str] = if from_vlmevalkit { &VLMEVALKIT_COLUMNS } else { &COLUMNS };
        read::published(self, &table, TableColumns { values, images: &["image"] }, |row| {
            Ok(Some(self.question(row, from_vlmevalkit)?))
        })
    }

    fn metric(&self, rules: Rules) -> &str {
        match rules {
            Rules::LmmsEval => "accuracy",
            Rules::Official | Rules::Strict | Rules::Cambrian1 => self.card.metric,
        }
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        if self.card.source.is_none() {
            return explain::NAMED;
        }
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "The authors' `prompt` as published (question and choices as \"(A) …\"), then \"Answer \
                    with the option's letter from the given choices directly.\"",
                scoring: explain::STRICT_LETTER,
                source: "prompt and metric: the dataset card of nyu-visionx/CV-Bench (2D: the mean of the accuracies \
                    on ADE20K and COCO; 3D: accuracy); reading the letter: ours, as the authors' script takes the \
                    first character of anything",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "As under the strict rules.",
                scoring: "The first character after the last \"answer is\" or \"answer:\", without parentheses, is \
                    the letter.",
                source: "the authors' script: cambrian-mllm/cambrian, eval/eval/{ade,coco,omni}/*_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "\"Note: You only need to respond with A, B, … without providing any additional \
                    information.\", an empty line, then the authors' `prompt`.",
                scoring: "The first character after white space and opening parentheses is the letter. Accuracy over \
                    all questions, whatever their source.",
                source: "lmms-eval 0.7.3, tasks/cv_bench/_default_template_yaml and utils.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match &self.card.source {
            None => score::named_prompt(q),
            Some(_) if rules == Rules::LmmsEval => {
                let letters: Vec<String> = lmms::labels(q.options.len()).map(String::from).collect();
                format!("{}\n\n{}", lmms::note_line(&letters.join(", ")), q.fact("prompt"))
            }
            Some(_) => format!("{}\n{}", q.fact("prompt"), score::LETTER_LINE),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match (&self.card.source, rules) {
            (Some(_), Rules::LmmsEval) => {
                let said = lmms::cleaned(answer);
                let first = said.trim_start_matches(|c: char| c == '(' || c.is_whitespace()).chars().next();
                let letter = first.filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase());
                score::judge_choice_letter(q, letter)
            }
            (Some(_), Rules::Cambrian1) => cambrian::judge_first_character(q, answer, &['.']),
            _ => score::judge_letter(q, answer),
        }
    }

    /// Weights items so that every source counts equally; under lmms-eval's rules every question counts equally.
    fn items(&self, qs: &[Question], p: &[f64], rules: Rules) -> Result<Vec<ScoredItem>> {
        if rules == Rules::LmmsEval {
            return Ok(score::one_item_per_question(qs, p));
        }
        let mut sizes: BTreeMap<&str, f64> = BTreeMap::new();
        for q in qs {
            *sizes.entry(q.fact("source")).or_default() += 1.0;
        }
        let mean = qs.len() as f64 / sizes.len() as f64;
        let item = |(q, &score): (&Question, &f64)| {
            let weight = sizes.get(q.fact("source")).map_or(1.0, |size| mean / size);
            ScoredItem { weight, ..ScoredItem::new(q, score) }
        };
        Ok(qs.iter().zip(p).map(item).collect())
    }
}
