//! AI2D: questions about labelled diagrams, answered by the letter of a choice and scored by accuracy.
//!
//! The authors rank choices with a model of their own and publish no rule for generated text, so strict rules read the
//! letter with the parser that all benchmarks share. `cambrian-1` takes the first character and also accepts digits: an
//! answer that begins with `1` names the second choice.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, cambrian, explain, lmms, score, vlmevalkit,
};
use burgess_base::Result;
use std::path::Path;

/// A benchmark of the AI2D family.
pub struct Ai2d {
    card: BenchmarkCard<'static>,
}

const CITATION: &str = "Kembhavi et al. 2016, A Diagram Is Worth a Dozen Images, arXiv:1603.07396";

/// The published benchmark as used for generating models: the labels in the diagrams are boxed letters.
pub static AI2D: Ai2d = Ai2d {
    card: BenchmarkCard {
        id: "ai2d",
        authors: false,
        lmms_eval: Some(LmmsEvalTask { task: "ai2d", metric: "exact_match" }),
        category: &Category::KNOWLEDGE,
        metric: "accuracy",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Choice,
        max_new_tokens: 16,
        source: Some(DatasetSource {
            repository: "lmms-lab/ai2d",
            alias: Some("lmms-lab-encoder/ai2d"),
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 3088,
            licence: "CC BY-SA (annotations; the diagrams belong to their makers)",
        }),
    },
};

/// The nano variant: questions about diagrams of the nano world.
pub static NANO_AI2D: Ai2d = Ai2d {
    card: BenchmarkCard {
        id: "nano-ai2d",
        authors: false,
        lmms_eval: None,
        category: &Category::KNOWLEDGE,
        metric: "accuracy",
        version: "3",
        citation: CITATION,
        form: AnswerForm::Choice,
        max_new_tokens: 8,
        source: None,
    },
};

/// Reads one row; the column `answer` holds the number of the right choice, from 0.
fn question(row: &TableRow) -> Result<Option<Question>> {
    let image = row.image("image")?;
    Ok(Some(Question {
        id: row.number.to_string(),
        row: row.number,
        image_id: image.to_string(),
        unit: image.to_string(),
        images: vec![image],
        question: row.text("question")?,
        options: row.choices("options")?,
        answer: row.letter("answer")?,
        subtask: "all".into(),
        ..Question::default()
    }))
}

impl Benchmark for Ai2d {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(questions) = vlmevalkit::read(self, data, "AI2D_TEST.tsv", vlmevalkit::row) {
            return questions;
        }
        let columns = TableColumns { values: &["question", "options", "answer"], images: &["image"] };
        read::published(self, &DatasetTable::open(data, source)?, columns, question)
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        if self.card.source.is_none() {
            return explain::NAMED;
        }
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "Question, a line \"A. …\" for each choice, \"Answer with the option's letter from the \
                    given choices directly.\"",
                scoring: explain::STRICT_LETTER,
                source: "ours: the authors (the paper, section 6) rank choices by a model of their own and publish \
                    no rule for answers in words",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "As under the other rules.",
                scoring: "The first character after the last \"answer is\" or \"answer:\", without parentheses, is \
                    the letter or the number (from 0) of the choice.",
                source: "cambrian-mllm/cambrian, eval/eval/ai2d/ai2d_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "As under the other rules.",
                scoring: "A capital followed by a full stop at the very beginning is the letter; otherwise the whole \
                    answer must be the letter, up to case and ASCII punctuation.",
                source: "lmms-eval 0.7.3, tasks/ai2d/ai2d.yaml and utils.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, _: Rules) -> String {
        match self.card.source {
            Some(_) => score::letter_prompt(q),
            None => score::named_prompt(q),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            _ if self.card.source.is_none() => score::judge_letter(q, answer),
            Rules::Official | Rules::Strict => score::judge_letter(q, answer),
            Rules::LmmsEval => {
                // lmms-eval applies this filter before it removes reasoning.
                let raw = lmms::trimmed(answer);
                let labelled = raw.chars().next().filter(|c| c.is_ascii_uppercase() && raw.get(1..2) == Some("."));
                let said = labelled.map_or_else(|| lmms::cleaned(answer), String::from);
                lmms::on_text(&said, lmms::exact(&said, &q.answer))
            }
            Rules::Cambrian1 => {
                let said = cambrian::first_character(answer, &cambrian::STOPS).map(|c| match c.to_digit(4) {
                    Some(number) => char::from(b'a' + number as u8),
                    None => c,
                });
                score::judge_choice_letter(q, said.and_then(|c| cambrian::offered(&c.to_string(), q)))
            }
        }
    }
}
