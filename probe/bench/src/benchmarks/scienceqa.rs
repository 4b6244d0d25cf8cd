//! ScienceQA: science questions about an image, with lettered choices; accuracy of the letter.
//!
//! The questions are those of the published test split that have an image (ScienceQA-IMG). The authors' script
//! recognises only the form of its own examples ("The answer is B.", or the letter) and draws a random letter for
//! everything else, so strict rules read the letter with the parser that all benchmarks share, which includes that
//! form. `cambrian-1` accepts the letter alone before the first full stop, or the text of the right choice up to
//! punctuation.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, cambrian, explain, labels, lmms, score, vlmevalkit,
};
use burgess_base::Result;
use std::path::Path;

/// A benchmark of the ScienceQA family.
pub struct ScienceQa {
    card: BenchmarkCard<'static>,
}

const CITATION: &str =
    "Lu et al. 2022, Learn to Explain: Multimodal Reasoning via Thought Chains for Science QA, arXiv:2209.09513";

/// The published questions that have an image.
pub static SCIENCEQA: ScienceQa = ScienceQa {
    card: BenchmarkCard {
        id: "scienceqa",
        authors: false,
        lmms_eval: Some(LmmsEvalTask { task: "scienceqa_img", metric: "exact_match" }),
        category: &Category::KNOWLEDGE,
        metric: "accuracy",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Choice,
        max_new_tokens: 16,
        source: Some(DatasetSource {
            repository: "derek-thomas/ScienceQA",
            alias: None,
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 2017,
            licence: "CC BY-NC-SA 4.0",
        }),
    },
};

/// The nano variant: images and facts of the nano world.
pub static NANO_SCIENCEQA: ScienceQa = ScienceQa {
    card: BenchmarkCard {
        id: "nano-scienceqa",
        authors: false,
        lmms_eval: None,
        category: &Category::KNOWLEDGE,
        metric: "accuracy",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Choice,
        max_new_tokens: 4,
        source: None,
    },
};

/// Reads a row that has an image; the right choice is given by its number, from 0.
fn question(row: &TableRow) -> Result<Option<Question>> {
    let Some(image) = row.images("image").first().cloned() else { return Ok(None) };
    Ok(Some(Question {
        id: row.number.to_string(),
        row: row.number,
        image_id: image.to_string(),
        unit: image.to_string(),
        images: vec![image],
        question: row.text("question")?,
        context: row.maybe("hint"),
        options: row.choices("choices")?,
        answer: row.letter("answer")?,
        subtask: row.maybe("subject").unwrap_or_else(|| "all".into()),
        ..Question::default()
    }))
}

/// Returns the text in lower case without ASCII punctuation.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_punctuation()).collect::<String>().to_lowercase().trim().to_string()
}

/// Judges an answer that is not blank by `cambrian-1` rules.
fn judge_as_cambrian(q: &Question, answer: &str) -> AnswerScore {
    let announced = cambrian::announced(answer);
    let text = announced.trim_end_matches('.');
    let before_stop = text.split_once('.').map_or(text, |(before, _)| before);
    let letter = cambrian::offered(before_stop, q);
    let same_text = |option: &&String| words(option) == words(text);
    let right = labels::choice_letter(&q.answer);
    let right_text = right.and_then(|l| q.options.get(l as usize - 'A' as usize));
    match right.filter(|_| right_text.is_some_and(|t| same_text(&t)) || letter == right) {
        Some(right) => AnswerScore::new(right, true),
        None => {
            let by_text = || ('A'..='Z').zip(&q.options).find(|(_, option)| same_text(option)).map(|(l, _)| l);
            score::judge_choice_letter(q, letter.or_else(by_text))
        }
    }
}

/// Judges by lmms-eval's rule: the letter alone in either case, or a capital followed by a full stop at the beginning.
fn lmms_verdict(q: &Question, answer: &str) -> AnswerScore {
    let alone = labels::choice_letter(answer).filter(|_| answer.len() == 1);
    let mut chars = answer.chars();
    let first = chars.next().filter(|c| c.is_uppercase());
    let labelled = first.filter(|_| chars.next() == Some('.')).filter(char::is_ascii_alphabetic);
    score::judge_choice_letter(q, alone.or(labelled))
}

impl Benchmark for ScienceQa {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(questions) = vlmevalkit::read(self, data, "ScienceQA_TEST.tsv", vlmevalkit::row) {
            return questions;
        }
        let columns =
            TableColumns { values: &["question", "choices", "answer", "hint?", "subject?"], images: &["image"] };
        read::published(self, &DatasetTable::open(data, source)?, columns, question)
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        const ASKED: &str = "\"Context: …\" where there is a hint, question, a line \"A. …\" for each choice, \
            \"Answer with the option's letter from the given choices directly.\"";
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: ASKED,
                scoring: explain::STRICT_LETTER,
                source: "ours; \"The answer is B.\", the form of the authors' script (lupantech/ScienceQA, \
                    models/run_gpt3.py), is one of those that are read",
                difference: "The script draws a choice at random for every other form; here more forms are read, and \
                    nothing is drawn.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Hint and question, a line \"A. …\" for each choice, \"Please answer directly with only \
                    the letter of the correct option and nothing else.\"",
                scoring: "The text before the first full stop, after \"answer is\" or \"answer:\", must be the \
                    letter, or the whole answer the text of the right choice, up to punctuation.",
                source: "cambrian-mllm/cambrian, eval/eval/scienceqa/scienceqa_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: ASKED,
                scoring: "The letter alone, in either case, or a capital followed by a full stop at the beginning.",
                source: "lmms-eval 0.7.3, tasks/scienceqa/scienceqa_img.yaml and utils.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match (rules, &q.context) {
            (Rules::Official | Rules::Strict | Rules::LmmsEval, None) => score::letter_prompt(q),
            (Rules::Official | Rules::Strict | Rules::LmmsEval, Some(hint)) => {
                format!("Context: {hint}\n{}", score::letter_prompt(q))
            }
            (Rules::Cambrian1, hint) => {
                let hint = hint.as_ref().map_or_else(String::new, |hint| format!("{hint} "));
                format!("{hint}{}{}\n{}", q.question, cambrian::choices(&q.options), cambrian::ONLY_LETTER_LINE)
            }
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::Official | Rules::Strict => score::judge_letter(q, answer),
            Rules::LmmsEval => lmms_verdict(q, &lmms::cleaned(answer)),
            Rules::Cambrian1 if answer.trim().is_empty() => AnswerScore::unparsed(),
            Rules::Cambrian1 => judge_as_cambrian(q, answer),
        }
    }
}
