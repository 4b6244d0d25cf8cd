//! Questions in the forms of the benchmarks, and the conversation turns that they become.

use serde::{Deserialize, Serialize};

/// One exchange of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QaPair {
    /// With its options and, the first time, the line that says how to answer.
    pub question: String,
    /// As a model should give it.
    pub answer: String,
}

/// How an answer is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// "Yes" or "No", as in MME.
    YesNo,
    /// The letter of an option.
    Choice,
    /// The text of an option. What has to be found is then learned by itself; a letter adds a step that a small language
    /// model does not learn on top of looking something up.
    Named,
    /// A word, a number or a short phrase.
    Short,
    /// "(a)" or "(b)", as in MMVP.
    Pair,
}

/// A question with its right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub form: AnswerForm,
    /// Part of the benchmark it belongs to.
    pub subtask: &'static str,
    /// Without options and without the line that says how to answer.
    pub text: String,
    /// Two for [`AnswerForm::Pair`], two to four for [`AnswerForm::Choice`] and [`AnswerForm::Named`], otherwise none.
    pub options: Vec<String>,
    /// As a model should give it, "Yes", "B", "red", "(a)"; of [`AnswerForm::Named`] the letter of the option.
    pub answer: String,
}

impl Question {
    /// A question with answer yes or no.
    pub fn yes_no(subtask: &'static str, text: String, yes: bool) -> Self {
        let answer = if yes { "Yes" } else { "No" }.to_string();
        Self { form: AnswerForm::YesNo, subtask, text, options: Vec::new(), answer }
    }

    /// An open question.
    pub fn short(subtask: &'static str, text: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { form: AnswerForm::Short, subtask, text: text.into(), options: Vec::new(), answer: answer.into() }
    }

    /// A multiple choice with the right option at a given place (cut to the number of options).
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

    /// The same multiple choice, to be answered with the text of an option.
    #[must_use]
    pub fn named(self) -> Self {
        Self { form: AnswerForm::Named, ..self }
    }

    /// The option that the letter of the answer stands for, if it is the letter of one.
    fn right_option(&self) -> Option<&String> {
        let right = match self.answer.as_bytes() {
            [b'(', letter, ..] => letter.checked_sub(b'a')?,
            [letter @ b'A'..=b'D'] => letter - b'A',
            _ => return None,
        };
        self.options.get(usize::from(right))
    }

    /// A choice of two in MMVP's form.
    pub fn pair(subtask: &'static str, text: impl Into<String>, options: [String; 2], right: usize) -> Self {
        let answer = if right == 0 { "(a)" } else { "(b)" }.to_string();
        Self { form: AnswerForm::Pair, subtask, text: text.into(), options: options.into(), answer }
    }

    /// The same question without options, to be answered in words: what has to be found is then learned by itself, before
    /// which letter stands for it. Where the options say what is compared, the question names them.
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

    /// The exchange it makes; `explained` adds the line that says how to answer.
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

/// The exchanges of a conversation; the first of each form carries the line that says how to answer.
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
