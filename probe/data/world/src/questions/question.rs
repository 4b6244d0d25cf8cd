//! Questions in the forms of the benchmarks, and their conversion to question-answer pairs of a conversation.

use serde::{Deserialize, Serialize};

/// A question and its answer, as one exchange of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QaPair {
    /// The question with its options; the first one of each form ends with the line that says how to answer.
    pub question: String,
    /// The answer that a model should give.
    pub answer: String,
}

/// The form in which a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// "Yes" or "No", as in MME.
    YesNo,
    /// The letter of an option.
    Choice,
    /// The text of an option. A letter would add a step that a small language model does not learn in addition to
    /// looking something up.
    Named,
    /// A word, a number or a short phrase.
    Short,
    /// "(a)" or "(b)", as in MMVP.
    Pair,
}

/// A question with its right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Form of the answer.
    pub form: AnswerForm,
    /// Subtask of the benchmark.
    pub subtask: &'static str,
    /// Text without options and without the line that says how to answer.
    pub text: String,
    /// The options: two for [`AnswerForm::Pair`], two to four for [`AnswerForm::Choice`] and [`AnswerForm::Named`],
    /// else none.
    pub options: Vec<String>,
    /// The right answer, such as "Yes", "B", "red" or "(a)"; for [`AnswerForm::Named`] the letter of the option.
    pub answer: String,
}

impl Question {
    /// Creates a yes/no question.
    pub fn yes_no(subtask: &'static str, text: String, yes: bool) -> Self {
        let answer = if yes { "Yes" } else { "No" }.to_string();
        Self { form: AnswerForm::YesNo, subtask, text, options: Vec::new(), answer }
    }

    /// Creates a question that is answered with a word or short phrase.
    pub fn short(subtask: &'static str, text: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { form: AnswerForm::Short, subtask, text: text.into(), options: Vec::new(), answer: answer.into() }
    }

    /// Creates a multiple-choice question with the right option at index `place` (modulo the number of options).
    pub fn choice(
        subtask: &'static str,
        text: impl Into<String>,
        right: String,
        wrong: Vec<String>,
        place: usize,
    ) -> Self {
        let mut options = wrong;
        let place = place % (options.len() + 1);
        options.insert(place, right);
        Self {
            form: AnswerForm::Choice,
            subtask,
            text: text.into(),
            options,
            answer: char::from(b'A' + place as u8).to_string(),
        }
    }

    /// Returns the multiple-choice question with an answer by the text of the option instead of its letter.
    #[must_use]
    pub fn named(self) -> Self {
        Self { form: AnswerForm::Named, ..self }
    }

    /// Returns the right option, if the answer is the letter of one.
    fn right_option(&self) -> Option<&String> {
        let right = match self.answer.as_bytes() {
            [b'(', letter, ..] => letter.checked_sub(b'a')?,
            [letter @ b'A'..=b'D'] => letter - b'A',
            _ => return None,
        };
        self.options.get(usize::from(right))
    }

    /// Creates a question with two options in MMVP's form; `right` is the index of the right one.
    pub fn pair(subtask: &'static str, text: impl Into<String>, options: [String; 2], right: usize) -> Self {
        let answer = if right == 0 { "(a)" } else { "(b)" }.to_string();
        Self { form: AnswerForm::Pair, subtask, text: text.into(), options: options.into(), answer }
    }

    /// Returns the question without options, answered with a word or short phrase. Training on both forms separates
    /// finding the answer from mapping it to a letter. Where the options are the things to compare, the text names
    /// them.
    #[must_use]
    pub fn opened(mut self) -> Self {
        let Some(answer) = self.right_option().cloned() else { return self };
        if let ([a, b], Some(text)) = (self.options.as_slice(), self.text.strip_suffix('?'))
            && text.starts_with("Which is")
        {
            self.text = format!("{text}, the {a} or the {b}?");
        }
        Self { form: AnswerForm::Short, options: Vec::new(), answer, ..self }
    }

    /// Returns the question-answer pair; `explained` appends the line that says how to answer.
    pub fn turn(&self, explained: bool) -> QaPair {
        let mut question = self.text.clone();
        match self.form {
            AnswerForm::Choice => {
                for (i, option) in self.options.iter().enumerate() {
                    question.push_str(&format!("\n{}. {option}", char::from(b'A' + i as u8)));
                }
            }
            AnswerForm::Pair => {
                let list: Vec<String> =
                    self.options.iter().zip(["(a)", "(b)"]).map(|(o, l)| format!("{l} {o}")).collect();
                question.push_str(&format!("\n{}", list.join(" ")));
            }
            AnswerForm::Named => question.push_str(&format!("\n{}", self.options.join(", "))),
            AnswerForm::YesNo | AnswerForm::Short => {}
        }
        if explained {
            question.push_str(match self.form {
                AnswerForm::YesNo => " Please answer yes or no.",
                AnswerForm::Choice | AnswerForm::Pair => {
                    "\nAnswer with the option's letter from the given choices directly."
                }
                AnswerForm::Named => "\nAnswer with one of the options.",
                AnswerForm::Short => "\nAnswer the question using a single word or phrase.",
            });
        }
        let answer = match self.form {
            AnswerForm::Named => self.right_option().unwrap_or(&self.answer),
            _ => &self.answer,
        };
        QaPair { question, answer: answer.clone() }
    }
}

/// Returns the question-answer pairs of a conversation, where the first question of each form has the line that says
/// how to answer.
pub fn explained(questions: &[Question]) -> Vec<QaPair> {
    let mut seen: Vec<AnswerForm> = Vec::new();
    questions
        .iter()
        .map(|q| {
            let first = !seen.contains(&q.form);
            seen.push(q.form);
            q.turn(first)
        })
        .collect()
}
