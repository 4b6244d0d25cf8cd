//! SEED-Bench: questions with four lettered choices on nine kinds of perception in single images (the kinds that need
//! videos are left out); accuracy of the letter over all questions.
//!
//! The authors' script ranks the choices by likelihood and defines no rule for generated text, so strict rules read the
//! letter with the parser that all benchmarks share. `cambrian-1` takes the first character after the announcement.

use crate::benchmark::read;
use crate::table::{self, DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, cambrian, explain, lmms, score, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the SEED-Bench family.
pub struct SeedBench {
    card: BenchmarkCard<'static>,
}

/// The published questions about single images.
pub static SEED_BENCH: SeedBench = SeedBench {
    card: BenchmarkCard {
        id: "seed-bench",
        authors: false,
        lmms_eval: Some(LmmsEvalTask { task: "seedbench", metric: "seed_image" }),
        category: &Category::GENERAL,
        metric: "accuracy",
        version: "2",
        citation: "Li et al. 2023, SEED-Bench: Benchmarking Multimodal LLMs with Generative Comprehension, \
            arXiv:2307.16125",
        form: AnswerForm::Choice,
        max_new_tokens: 16,
        source: Some(DatasetSource {
            repository: "lmms-lab/SEED-Bench",
            alias: Some("lmms-lab-encoder/SEED-Bench"),
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 14_233,
            licence: "CC BY-NC 4.0, and the terms of use of OpenAI",
        }),
    },
};

/// The kinds of question about images, by their number from 1.
const KINDS: [&str; 9] = [
    "Scene Understanding",
    "Instance Identity",
    "Instance Attribute",
    "Instance Location",
    "Instance Counting",
    "Spatial Relation",
    "Instance Interaction",
    "Visual Reasoning",
    "Text Recognition",
];

/// Characters that `cambrian-1` strips from the end of an answer; for the other benchmarks also colon and comma.
const STOPS: [char; 1] = ['.'];

fn question(row: &TableRow) -> Result<Option<Question>> {
    if row.text("data_type")? != "image" {
        return Ok(None);
    }
    let number = row.int("question_type_id")?;
    let kind = usize::try_from(number - 1).ok().and_then(|i| KINDS.get(i));
    let kind = kind.ok_or_else(|| {
        Error::failed(format!("`question_type_id` is {number}, which is not a kind of question about images"))
    })?;
    let image_id = match row.list("data_id") {
        Ok(ids) => ids.join(","),
        Err(_) => row.text("data_id")?,
    };
    let choices = ["choice_a", "choice_b", "choice_c", "choice_d"];
    Ok(Some(Question {
        id: row.text("question_id")?,
        row: row.number,
        images: row.images("image").to_vec(),
        unit: image_id.clone(),
        image_id,
        question: row.text("question")?,
        options: table::choices(choices.iter().map(|column| Ok(row.maybe(column))))?,
        answer: row.text("answer")?,
        subtask: (*kind).into(),
        ..Question::default()
    }))
}

impl Benchmark for SeedBench {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(questions) = vlmevalkit::read(self, data, "SEEDBench_IMG.tsv", vlmevalkit::row) {
            return questions;
        }
        let columns = TableColumns {
            values: &[
                "question_id",
                "question",
                "choice_a",
                "choice_b",
                "choice_c",
                "choice_d",
                "answer",
                "data_id",
                "data_type",
                "question_type_id",
            ],
            images: &["image"],
        };
        read::published(self, &DatasetTable::open(data, source)?, columns, question)
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "Question, a line \"A. …\" for each choice, \"Answer with the option's letter from the \
                    given choices directly.\"",
                scoring: explain::STRICT_LETTER,
                source: "ours: the authors' script (AILab-CVC/SEED-Bench, eval.py) ranks choices by likelihood",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question, \" Options:\" with a line for each, \"Answer with the option's letter from the \
                    given choices directly.\"",
                scoring: "The first character after the last \"answer is\" or \"answer:\" is the letter.",
                source: "cambrian-mllm/cambrian, eval/eval/seed/seed_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, a line \"A. …\" for each choice, \"Answer with the option's letter from the \
                    given choices directly.\"",
                scoring: "The first character of the answer, in either case, is the letter.",
                source: "lmms-eval 0.7.3, tasks/seedbench/seedbench.yaml and utils.py; its number is `seed_image`",
                difference: "`seed_all` counts videos too, which are not part of this benchmark.",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match rules {
            Rules::Official | Rules::Strict => score::letter_prompt(q),
            Rules::LmmsEval => format!("{}\n{}\n{}", q.question, lmms::lines(&q.options), score::LETTER_LINE),
            Rules::Cambrian1 => cambrian::options_prompt(q, score::LETTER_LINE),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::Official | Rules::Strict => score::judge_letter(q, answer),
            Rules::LmmsEval => {
                let said = lmms::cleaned(answer);
                let first = said.chars().next().filter(char::is_ascii_alphabetic);
                score::judge_choice_letter(q, first.map(|c| c.to_ascii_uppercase()))
            }
            Rules::Cambrian1 => cambrian::judge_first_character(q, answer, &STOPS),
        }
    }
}
