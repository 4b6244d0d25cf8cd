//! Reads yes or no.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::{self, AnswerScore};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};

/// The reader `yes-no`.
pub(super) struct YesNo;

/// Returns yes or no if exactly one of them is a word of the first sentence, else of the whole answer.
fn word(answer: &str) -> Option<bool> {
    let named = |text: &str| {
        let low = text.to_lowercase();
        let words = || low.split(|c: char| !c.is_alphanumeric());
        match (words().any(|w| w == "yes"), words().any(|w| w == "no")) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    };
    let sentence = answer.trim().split(['.', ',', '\n', '!', ';']).next().unwrap_or_default();
    named(sentence).or_else(|| named(answer))
}

impl AnswerReader for YesNo {
    fn name(&self) -> &'static str {
        "yes-no"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::YesNo
    }

    fn variants(&self) -> &'static [&'static str] {
        &["word", "first-four-characters"]
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        match q.answer.to_lowercase().as_str() {
            "yes" | "no" => Ok(()),
            other => {
                let error =
                    Error::failed(format!("the right answer {:?} is neither yes nor no", excerpt(&q.answer, 60)));
                Err(match other {
                    "1" | "0" | "true" | "false" => error.hint("set answer_is = \"boolean\" in [columns]"),
                    _ => error,
                })
            }
        }
    }

    fn describe(&self, table: &AnswerTable) -> String {
        match table.by.as_deref() {
            Some("first-four-characters") => {
                "\"yes\" or else \"no\" among the first four characters of the answer, in lower case."
            }
            _ => {
                "The first sentence, or else the whole answer, must contain exactly one of the words \"yes\" and \
                    \"no\", in any case."
            }
        }
        .to_string()
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        score::judge_yes_no(
            q,
            match table.by.as_deref() {
                Some("first-four-characters") => score::yes_no(answer),
                _ => word(answer),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn one_of_the_words_decides() {
        for (answer, said) in [
            ("Yes.", Some(true)),
            ("no", Some(false)),
            ("**No**, there is a yes-sign", Some(false)),
            ("The answer is yes.", Some(true)),
            ("I see nothing", None),
            ("yes and no", None),
            ("Maybe. I would say no.", Some(false)),
            ("", None),
        ] {
            assert_eq!(word(answer), said, "{answer}");
        }
    }
}
