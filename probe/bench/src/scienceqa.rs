//! ScienceQA: science questions about an image, with lettered choices; accuracy of the letter.
//!
//! The questions are those of the published test split that have an image (ScienceQA-IMG). The authors' script
//! recognises only the form of its own examples ("The answer is B.", or the letter) and draws a random letter for
//! everything else, so strict rules read the letter with the parser that all families share, which includes that form.
//! `cambrian-1` accepts the letter alone before the first full stop, or the text of the right choice up to punctuation.

use super::score;
use super::table::{Columns, Row, Table};
use super::{
    Benchmark, Card, Category, Explained, Form, Judged, Question, Questions, Rules, Source, explain, lmms, read, study,
    vlmevalkit,
};
use burgess_base::Result;
use std::path::Path;

/// A benchmark of the ScienceQA family.
pub struct ScienceQa {
    card: Card,
}

/// Every benchmark of this family.
pub const ALL: &[&dyn Benchmark] = &[&SCIENCEQA, &NANO];

const CITATION: &str =
    "Lu et al. 2022, Learn to Explain: Multimodal Reasoning via Thought Chains for Science QA, arXiv:2209.09513";

/// The published questions that have an image.
pub static SCIENCEQA: ScienceQa = ScienceQa {
    card: Card {
        id: "scienceqa",
        authors: false,
        lmms_eval: Some(("scienceqa_img", "exact_match")),
        category: &Category::KNOWLEDGE,
        metric: "accuracy",
        version: "2",
        citation: CITATION,
        form: Form::Choice,
        max_new_tokens: 16,
        source: Some(Source {
            repository: "derek-thomas/ScienceQA",
            folder: "",
            split: "test",
            questions: 2017,
            licence: "CC BY-NC-SA 4.0",
        }),
    },
};

/// The nano variant: images and facts of the nano world.
pub static NANO: ScienceQa = ScienceQa {
    card: Card {
        id: "nano-scienceqa",
        authors: false,
        lmms_eval: None,
        category: &Category::KNOWLEDGE,
        metric: "accuracy",
        version: "2",
        citation: CITATION,
        form: Form::Choice,
        max_new_tokens: 4,
        source: None,
    },
};

/// Reads a row that has an image; the right choice is given by its number, from 0.
fn question(row: &Row) -> Result<Option<Question>> {
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
fn study_choice(q: &Question, answer: &str) -> Judged {
    let announced = study::announced(answer);
    let text = announced.trim_end_matches('.');
    let before_stop = text.split_once('.').map_or(text, |(before, _)| before);
    let letter = study::offered(before_stop, q);
    let same_text = |option: &&String| words(option) == words(text);
    let right = score::label(&q.answer);
    let right_text = right.and_then(|l| q.options.get(l as usize - 'A' as usize));
    match right.filter(|_| right_text.is_some_and(|t| same_text(&t)) || letter == right) {
        Some(right) => Judged::new(right, true),
        None => {
            let by_text = || ('A'..='Z').zip(&q.options).find(|(_, option)| same_text(option)).map(|(l, _)| l);
            study::judge(q, letter.or_else(by_text))
        }
    }
}

/// Judges by lmms-eval's rule: the letter alone in either case, or a capital followed by a full stop at the beginning.
fn lmms_verdict(q: &Question, answer: &str) -> Judged {
    let alone = score::label(answer).filter(|_| answer.len() == 1);
    let mut chars = answer.chars();
    let first = chars.next().filter(|c| c.is_uppercase());
    let labelled = first.filter(|_| chars.next() == Some('.')).filter(char::is_ascii_alphabetic);
    lmms::on_letter(q, alone.or(labelled))
}

impl Benchmark for ScienceQa {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        if let Some(table) = vlmevalkit::table(data, "ScienceQA_TEST.tsv") {
            return read::published(self, &table, vlmevalkit::COLUMNS, |row| vlmevalkit::question(row).map(Some));
        }
        let columns = Columns { values: &["question", "choices", "answer", "hint?", "subject?"], images: &["image"] };
        read::published(self, &Table::open(data, source)?, columns, question)
    }

    fn explain(&self, rules: Rules) -> Explained {
        const ASKED: &str = "\"Context: …\" where there is a hint, question, a line \"A. …\" for each choice, \"Answer with the option's letter from the given choices directly.\"";
        match rules {
            Rules::Official | Rules::Strict => Explained {
                asked: ASKED,
                judged: explain::STRICT_LETTER,
                source: "ours; \"The answer is B.\", the form of the authors' script (lupantech/ScienceQA, models/run_gpt3.py), is one of those that are read",
                unlike: "The script draws a choice at random for every other form; here more forms are read, and nothing is drawn.",
            },
            Rules::Cambrian1 => Explained {
                asked: "Hint and question, a line \"A. …\" for each choice, \"Please answer directly with only the letter of the correct option and nothing else.\"",
                judged: "What stands in front of the first full stop, behind \"answer is\" or \"answer:\", has to be the letter, or the whole the text of the right choice up to punctuation.",
                source: "cambrian-mllm/cambrian, eval/eval/scienceqa/scienceqa_test.py",
                unlike: "",
            },
            Rules::LmmsEval => Explained {
                asked: ASKED,
                judged: "The letter alone, in either case, or a capital with a full stop behind it in front.",
                source: "lmms-eval 0.7.3, tasks/scienceqa/scienceqa_img.yaml and utils.py",
                unlike: "",
            },
        }
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        match (rules, &q.context) {
            (Rules::Official | Rules::Strict | Rules::LmmsEval, None) => score::letter_prompt(q),
            (Rules::Official | Rules::Strict | Rules::LmmsEval, Some(hint)) => {
                format!("Context: {hint}\n{}", score::letter_prompt(q))
            }
            (Rules::Cambrian1, hint) => {
                let hint = hint.as_ref().map_or_else(String::new, |hint| format!("{hint} "));
                format!("{hint}{}{}\n{}", q.question, study::choices(&q.options), study::ONLY_LETTER_LINE)
            }
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        match rules {
            Rules::Official | Rules::Strict => score::judge_letter(q, answer),
            Rules::LmmsEval => lmms_verdict(q, &lmms::cleaned(answer)),
            Rules::Cambrian1 if answer.trim().is_empty() => Judged::unparsed(),
            Rules::Cambrian1 => study_choice(q, answer),
        }
    }
}
