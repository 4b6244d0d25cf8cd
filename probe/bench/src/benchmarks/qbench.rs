//! Q-Bench (perception): questions about low-level image properties such as sharpness, light and noise, with two to
//! four lettered choices.
//!
//! The authors let a language model match answers to choices and publish no rule without one, so strict rules read the
//! letter with the parser that all benchmarks share. `cambrian-1` compares the text before the first full stop with the
//! letter.

use crate::benchmark::read;
use crate::table::{self, DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, ImageLocation,
    LmmsEvalTask, Question, QuestionSet, Rules, RulesDescription, cambrian, explain, lmms, score, vlmevalkit,
};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the Q-Bench family.
pub struct QBench {
    card: BenchmarkCard<'static>,
}

/// The dev split; the answers of the test split are not public.
pub static Q_BENCH: QBench = QBench {
    card: BenchmarkCard {
        id: "q-bench",
        authors: false,
        lmms_eval: Some(LmmsEvalTask { task: "qbench_dev", metric: "qbench_acc" }),
        category: &Category::VISION_CENTRIC,
        metric: "accuracy",
        version: "2",
        citation: "Wu et al. 2023, Q-Bench: A Benchmark for General-Purpose Foundation Models on Low-level Vision, \
            arXiv:2309.14181",
        form: AnswerForm::Choice,
        max_new_tokens: 32,
        source: Some(DatasetSource {
            repository: "q-future/Q-Bench-HF",
            alias: None,
            cambrian_1: true,
            folder: "",
            split: "dev",
            questions: 1495,
            licence: "S-Lab License 1.0: for non-commercial use",
        }),
    },
};

/// The kinds of question, by their number.
const KINDS: [&str; 3] = ["Yes/No", "What", "How"];

/// The text of the option columns that have no choice.
const NONE: &str = "N/A";

fn kind(number: i64) -> Result<String> {
    let kind = usize::try_from(number).ok().and_then(|i| KINDS.get(i));
    kind.map(|k| (*k).to_string())
        .ok_or_else(|| Error::failed(format!("{number} is not a kind of question; expected 0 to {}", KINDS.len() - 1)))
}

fn question(row: &TableRow) -> Result<Option<Question>> {
    let image = row.image("image")?;
    let columns = ["option0", "option1", "option2", "option3"];
    let options = table::choices(columns.iter().map(|column| Ok(row.maybe(column).filter(|o| o != NONE))))?;
    Ok(Some(Question {
        id: row.text("id")?,
        row: row.number,
        image_id: image.to_string(),
        unit: image.to_string(),
        images: vec![image],
        question: row.text("question")?,
        options,
        answer: row.text("correct_choice")?,
        subtask: kind(row.int("question_type")?)?,
        ..Question::default()
    }))
}

/// Reads a row of the authors' own file, whose images are in a folder beside it; the right choice is given by its text.
fn of_json(row: &TableRow, images: &Path) -> Result<Option<Question>> {
    let (name, right, options) = (row.text("img_path")?, row.text("correct_ans")?, row.choices("candidates")?);
    let letter = ('A'..='Z').zip(&options).filter(|(_, option)| **option == right).map(|(l, _)| l).last();
    let letter = letter.ok_or_else(|| {
        Error::failed(format!("`correct_ans` {:?} is not one of the candidates", excerpt(&right, 60)))
    })?;
    Ok(Some(Question {
        id: row.number.to_string(),
        row: row.number,
        images: vec![ImageLocation::File(images.join(&name))],
        unit: name.clone(),
        image_id: name,
        question: row.text("question")?,
        options,
        answer: letter.into(),
        subtask: kind(row.int("type")?)?,
        ..Question::default()
    }))
}

impl Benchmark for QBench {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    /// Reads the hub's parquet edition, VLMEvalKit's, or the authors' `llvisionqa_dev.json` beside a folder `images`.
    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(questions) = vlmevalkit::read(self, data, "Q-Bench1_VAL.tsv", vlmevalkit::row) {
            return questions;
        }
        let json = if data.is_file() { data.to_path_buf() } else { data.join("llvisionqa_dev.json") };
        if json.is_file() && json.extension().is_some_and(|e| e == "json") {
            let images = json.parent().unwrap_or(data).join("images");
            let columns =
                TableColumns { values: &["img_path", "question", "correct_ans", "candidates", "type"], images: &[] };
            return read::published(self, &DatasetTable::find(&json, "", "")?, columns, |row| of_json(row, &images));
        }
        let columns = TableColumns {
            values: &["id", "question", "option0", "option1", "option2", "option3", "question_type", "correct_choice"],
            images: &["image"],
        };
        read::published(self, &DatasetTable::open(data, source)?, columns, question)
    }

    /// Returns lmms-eval's accuracy, rounded to five decimals.
    fn lmms_eval_numbers(&self, _: &[Question], _: &[AnswerScore], outcome: &BenchmarkOutcome) -> Vec<(String, f64)> {
        vec![("qbench_acc".into(), (outcome.score * 1000.0).round_ties_even() / 1e5)]
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "Question, \"Choose between one of the options as follows:\", a line \"A. …\" for each \
                    choice.",
                scoring: explain::STRICT_LETTER,
                source: "prompt: the authors' (Q-Future/Q-Bench); reading the letter: ours, as the authors let GPT \
                    match answers to choices",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question, \" Options:\" with a line for each, \"Please answer directly with only the letter \
                    of the correct option and nothing else.\"",
                scoring: "The text before the first full stop must be the letter.",
                source: "cambrian-mllm/cambrian, eval/eval/qbench/qbench_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, a line \"A. …\" for each choice, \"Answer with the option's letter from the \
                    given choices directly.\"",
                scoring: explain::LAST_NAMED,
                source: "lmms-eval 0.7.3, tasks/qbench/qbench_dev.yaml and utils.py",
                difference: explain::NO_DRAW,
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match rules {
            Rules::LmmsEval => format!("{}\n{}\n{}\n", q.question, lmms::lines(&q.options), score::LETTER_LINE),
            Rules::Official | Rules::Strict => {
                format!(
                    "{}\nChoose between one of the options as follows:{}\n",
                    q.question,
                    cambrian::choices(&q.options)
                )
            }
            Rules::Cambrian1 => cambrian::options_prompt(q, cambrian::ONLY_LETTER_LINE),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::Official | Rules::Strict => score::judge_letter(q, answer),
            Rules::LmmsEval => score::judge_choice_letter(q, lmms::last_named(&lmms::cleaned(answer), &q.options)),
            Rules::Cambrian1 => {
                let sentence = answer.trim().split('.').next().unwrap_or_default().to_lowercase();
                score::judge_choice_letter(q, cambrian::offered(sentence.trim(), q))
            }
        }
    }
}
