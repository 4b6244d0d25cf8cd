//! Reads which of some words stands first in an answer.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::AnswerScore;
use burgess_base::{Error, Result};

/// The reader `first-named`: which of the words in `facts.words` stands first. The right answer is one of them.
pub(super) struct FirstNamed;

/// The name of the fact that lists the words, separated by commas.
const WORDS: &str = "words";

/// Returns the position of a word in a text, ignoring upper and lower case, and not inside a longer word.
fn position(text: &str, word: &str) -> Option<usize> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    // The regular expressions of the original treat the long s as an s.
    let same = |a: char, b: char| a.to_lowercase().eq(b.to_lowercase()) || (a == 'ſ' && b.eq_ignore_ascii_case(&'s'));
    text.char_indices().map(|(at, _)| at).find(|at| {
        let (before, rest) = text.split_at(*at);
        let mut chars = rest.chars();
        word.chars().all(|c| chars.next().is_some_and(|found| same(found, c)))
            && !before.chars().next_back().is_some_and(inside)
            && !chars.next().is_some_and(inside)
    })
}

impl AnswerReader for FirstNamed {
    fn name(&self) -> &'static str {
        "first-named"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        match q.fact(WORDS).split(',').any(|word| word == q.answer) {
            true => Ok(()),
            false => {
                Err(Error::failed(format!("the right answer {:?} is none of the words {:?}", q.answer, q.fact(WORDS)))
                    .hint("add the right answer to `facts.words`, separated by commas"))
            }
        }
    }

    fn describe(&self, _: &AnswerTable) -> String {
        "The first of the possible words in the answer, ignoring upper and lower case, and not inside a longer word."
            .to_string()
    }

    fn verdict(&self, _: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let found = q.fact(WORDS).split(',').filter_map(|word| Some((position(answer, word)?, word)));
        match found.min() {
            Some((_, said)) => AnswerScore::new(said, said == q.answer),
            None => AnswerScore::unparsed(),
        }
    }
}
