//! MMStar: 1,500 questions with four lettered choices that cannot be answered without the image; accuracy of the
//! letter.
//!
//! Official rules are those of the authors' script: the first character of the answer in lower case, or that after an
//! opening parenthesis, or after "option " or "the answer is " at the very beginning. The rule does not look at words,
//! so `dog` is D. `cambrian-1` compares the first word.
//!
//! In the authors' edition the choices are part of the question's text; VLMEvalKit's has one column per choice. The
//! prompt is the authors' in both cases.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, LmmsEvalTask,
    Question, QuestionSet, Rules, RulesDescription, ScoredItem, cambrian, explain, lmms, score, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A benchmark of the MMStar family.
pub struct MmStar {
    card: BenchmarkCard<'static>,
}

/// The published benchmark.
pub static MMSTAR: MmStar = MmStar {
    card: BenchmarkCard {
        id: "mmstar",
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "mmstar", metric: "average" }),
        category: &Category::GENERAL,
        metric: "accuracy",
        version: "2",
        citation: "Chen et al. 2024, Are We on the Right Way for Evaluating Large Vision-Language Models?, \
            arXiv:2403.20330",
        form: AnswerForm::Choice,
        max_new_tokens: 128,
        source: Some(DatasetSource {
            repository: "Lin-Chen/MMStar",
            alias: None,
            cambrian_1: true,
            folder: "",
            split: "val",
            questions: 1500,
            licence: "none given; the questions come from six other benchmarks",
        }),
    },
};

/// Name of the fact that is set if the choices are part of the question's text, so that they have no texts of their
/// own.
const INSIDE: &str = "choices-in-question";
/// Name of the fact that holds the finer category (`l2_category`, 18 values).
const KIND: &str = "l2_category";

fn question(row: &TableRow) -> Result<Option<Question>> {
    let image = row.image("image")?;
    let apart = vlmevalkit::choices(row)?;
    // If the table has columns for the choices, a row without any is damaged.
    if apart.is_empty() && row.has("A") {
        return Err(Error::failed("the question must have choices, but has none"));
    }
    let mut facts = if apart.is_empty() { vec![(INSIDE.to_string(), "true".to_string())] } else { Vec::new() };
    facts.extend(row.maybe("l2_category").map(|kind| (KIND.to_string(), kind)));
    Ok(Some(Question {
        id: row.text("index")?,
        row: row.number,
        image_id: image.to_string(),
        unit: image.to_string(),
        images: vec![image],
        question: row.text("question")?,
        options: if apart.is_empty() { ('A'..='D').map(String::from).collect() } else { apart },
        answer: row.text("answer")?,
        subtask: row.text("category")?,
        facts: facts.into_iter().collect(),
        ..Question::default()
    }))
}

/// Returns the character by which the authors' script judges.
fn character(answer: &str) -> Option<char> {
    let text = answer.trim().to_lowercase().replace('\n', " ");
    let after = ["(", "option ", "the answer is "].iter().find_map(|start| text.strip_prefix(start));
    after.unwrap_or(&text).chars().next()
}

impl Benchmark for MmStar {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        // The name of the hub's file does not begin with the split.
        let table = DatasetTable::named(data, &["mmstar.parquet", "MMStar.tsv"])
            .or_else(|_| DatasetTable::open(data, source))?;
        let columns = TableColumns {
            values: &["index", "question", "answer", "category", "l2_category?", "A?", "B?", "C?", "D?"],
            images: &["image"],
        };
        read::published(self, &table, columns, question)
    }

    fn metric(&self, rules: Rules) -> &str {
        match rules {
            Rules::LmmsEval => "accuracy, mean of the 18 kinds",
            Rules::Official | Rules::Strict | Rules::Cambrian1 => self.card.metric,
        }
    }

    /// Weights items; under lmms-eval's rules each of the 18 finer categories counts equally.
    fn items(&self, qs: &[Question], p: &[f64], rules: Rules) -> Result<Vec<ScoredItem>> {
        let mut items: Vec<ScoredItem> = score::one_item_per_question(qs, p);
        if rules == Rules::LmmsEval {
            if qs.iter().any(|q| q.fact(KIND).is_empty()) {
                return Err(Error::failed(
                    "lmms-eval's number is the mean over the column `l2_category`, which is missing",
                )
                .hint("download the edition of the hub, Lin-Chen/MMStar"));
            }
            // Items are weighted by finer category but reported by category.
            let mut kinds: Vec<ScoredItem> = qs
                .iter()
                .zip(p)
                .map(|(q, &p)| ScoredItem { subtask: q.fact(KIND).into(), ..ScoredItem::new(q, p) })
                .collect();
            score::equal_subtasks(&mut kinds);
            for (item, kind) in items.iter_mut().zip(kinds) {
                item.weight = kind.weight;
            }
        }
        Ok(items)
    }

    /// Returns the mean over the finer categories, for each category and overall.
    fn lmms_eval_numbers(
        &self,
        qs: &[Question],
        judged: &[AnswerScore],
        outcome: &BenchmarkOutcome,
    ) -> Vec<(String, f64)> {
        let mut kinds: BTreeMap<(&str, &str), (f64, f64)> = BTreeMap::new();
        for (q, j) in qs.iter().zip(judged) {
            let (n, sum) = kinds.entry((&q.subtask, q.fact(KIND))).or_default();
            (*n, *sum) = (*n + 1.0, *sum + j.score);
        }
        let categories: BTreeSet<&str> = kinds.keys().map(|(category, _)| *category).collect();
        let of = |category: &&str| {
            score::mean(kinds.iter().filter(|((c, _), _)| c == category).map(|(_, (n, sum))| sum / n))
        };
        let mut numbers: Vec<(String, f64)> =
            categories.iter().filter_map(|c| Some(((*c).to_string(), of(c)?))).collect();
        numbers.push(("average".into(), outcome.score / 100.0));
        numbers
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "Question with its choices as published, then \"Answer with the option's letter from the \
                    given choices directly.\"",
                scoring: "The first character in lower case, or that after \"(\", \"option \" or \"the answer is \" \
                    at the very beginning, is the letter, also of a word: \"dog\" is D. Accuracy over all \
                    questions.",
                source: "the authors' script: MMStar-Benchmark/MMStar, eval/vlmeval/evaluate/mmstar.py",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question with its choices, then \"Please answer directly with only the letter of the \
                    correct option and nothing else.\"",
                scoring: "The first word, without . : , at its end, must be the letter.",
                source: "cambrian-mllm/cambrian, eval/eval/mmstar/mmstar_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question with its choices, then \"Answer with the option's letter from the given choices \
                    directly\" without a full stop.",
                scoring: explain::EXTRACTED,
                source: "lmms-eval 0.7.3, tasks/mmstar/mmstar.yaml, utils.py and tasks/_task_utils/mcq_extract.py; \
                    its numbers are means over the 18 kinds (l2_category)",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        let choices = if q.fact(INSIDE).is_empty() { cambrian::choices(&q.options) } else { String::new() };
        let line = match rules {
            Rules::Official | Rules::Strict => score::LETTER_LINE,
            Rules::Cambrian1 => cambrian::ONLY_LETTER_LINE,
            Rules::LmmsEval => {
                let asked = format!("{}{choices}{}", lmms::trimmed(&q.question), "\n");
                return asked.replace(" Please answer yes or no.", "") + lmms::MMSTAR_LINE;
            }
        };
        format!("{}{choices}\n{line}", q.question)
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::LmmsEval => {
                score::judge_choice_letter(q, lmms::extracted(&lmms::cleaned(answer), &['A', 'B', 'C', 'D']))
            }
            Rules::Official | Rules::Strict => {
                score::judge_choice_letter(q, character(answer).and_then(|c| cambrian::offered(&c.to_string(), q)))
            }
            Rules::Cambrian1 => cambrian::judge_first_word(q, answer),
        }
    }
}
