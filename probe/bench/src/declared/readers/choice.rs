//! Reads the letter of a choice.

use super::{AnswerReader, letter_rules};
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::labels::{choice_index, choice_label};
use crate::question::Question;
use crate::score::{self, AnswerScore};
use crate::{cambrian, explain, lmms};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use std::sync::LazyLock;

/// The reader `letter`.
pub(super) struct Letter;

/// The variants: those of this file, then those of [`letter_rules`].
static VARIANTS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let here = [
        "strict",
        "first-character",
        "first-word",
        "option-text",
        "lmms-extracted",
        "lmms-last-named",
        "cambrian-first-character",
        "cambrian-first-word",
    ];
    here.into_iter().chain(letter_rules::RULES.iter().map(|rule| rule.name)).collect()
});

/// The counts from 1 to 10 as words.
const NUMBERS: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// Returns the form in which answers and options are compared: lower case, no article, no full stop, counts as digits.
fn plain(answer: &str) -> String {
    let text = score::normalise(answer);
    let bare = ["a ", "an ", "the ", "some "].iter().find_map(|article| text.strip_prefix(article)).unwrap_or(&text);
    let digits = NUMBERS.iter().position(|n| *n == bare).map(|n| (n + 1).to_string());
    digits.unwrap_or_else(|| bare.to_string())
}

impl AnswerReader for Letter {
    fn name(&self) -> &'static str {
        "letter"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Choice
    }

    fn variants(&self) -> &'static [&'static str] {
        &VARIANTS
    }

    /// Checks that the right answer is a letter; the error says how to name another form of it.
    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        if choice_index(&q.answer).is_some() {
            return Ok(());
        }
        let error = Error::failed(format!("the right answer {:?} is not a letter such as B", excerpt(&q.answer, 60)));
        Err(match q.answer.parse::<usize>() {
            _ if q.options.iter().any(|option| option.trim() == q.answer.trim()) => {
                error.hint("it is the text of an option: set answer_is = \"text\" in [columns]")
            }
            Ok(_) => error.hint("for the number of an option, from 0, set answer_is = \"index\" in [columns]"),
            Err(_) => error,
        })
    }

    fn describe(&self, table: &AnswerTable) -> String {
        if let Some(rule) = letter_rules::find(table) {
            return rule.description.to_string();
        }
        match table.by.as_deref() {
            Some("first-character") => "The first character of the answer, in either case, is the letter.",
            Some("first-word") => "The first word, without . : , at its end, must be the letter.",
            Some("option-text") => {
                "The answer must be the text of one of the choices, in lower case, without an article and full stops; \
                    counts up to ten may be written out."
            }
            Some("lmms-extracted") => explain::EXTRACTED,
            Some("lmms-last-named") => explain::LAST_NAMED,
            Some("cambrian-first-character") => {
                "The first character after the last \"answer is\" or \"answer:\" is the letter."
            }
            Some("cambrian-first-word") => "The first word, without . : , at its end, must be the letter.",
            _ => explain::STRICT_LETTER,
        }
        .to_string()
    }

    fn filters_first(&self, table: &AnswerTable) -> bool {
        letter_rules::find(table).is_some_and(|rule| rule.filters_first)
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        if let Some(rule) = letter_rules::find(table) {
            return (rule.verdict)(q, answer);
        }
        let letters = || (0..q.options.len()).filter_map(|i| choice_label(i).chars().next()).collect::<Vec<char>>();
        match table.by.as_deref() {
            Some("first-character") => {
                let first = answer.trim().chars().next().filter(char::is_ascii_alphabetic);
                score::judge_choice_letter(q, first.map(|c| c.to_ascii_uppercase()))
            }
            Some("first-word" | "cambrian-first-word") => cambrian::judge_first_word(q, answer),
            Some("option-text") => {
                let said = plain(answer);
                let named = letters().into_iter().zip(&q.options).find(|(_, option)| plain(option) == said);
                score::judge_choice_letter(q, named.map(|(letter, _)| letter))
            }
            Some("lmms-extracted") => score::judge_choice_letter(q, lmms::extracted(answer, &letters())),
            Some("lmms-last-named") => score::judge_choice_letter(q, lmms::last_named(answer, &q.options)),
            Some("cambrian-first-character") => cambrian::judge_first_character(q, answer, &cambrian::STOPS),
            _ => score::judge_letter(q, answer),
        }
    }
}
