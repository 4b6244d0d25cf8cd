//! Reads the only option that an answer contains, as VisOnlyQA's authors do before they ask a language model.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::AnswerScore;
use burgess_base::{Error, Result};

/// The reader `only-option`: the only one of the options in `facts.options`, which are separated by commas, that occurs
/// in the answer. If `facts.type` is `multiple_answers`, the right answer is a list of options.
pub(super) struct OnlyOption;

fn options(q: &Question) -> impl Iterator<Item = &str> + Clone {
    q.fact("options").split(',').filter(|option| !option.is_empty())
}

fn has_several(q: &Question) -> bool {
    q.fact("type") == "multiple_answers"
}

/// Returns the only option that occurs in parentheses; else the only one that occurs, also within words.
fn only(answer: &str, q: &Question) -> Option<String> {
    let only_as = |form: &dyn Fn(&str) -> String| {
        let mut found = options(q).filter(|option| answer.contains(&form(option)));
        found.next().filter(|_| found.next().is_none()).map(String::from)
    };
    only_as(&|option| format!("({option})")).or_else(|| only_as(&str::to_string))
}

/// Returns the options that an answer lists, in their order, if it is nothing but a list of options.
fn listed(answer: &str, q: &Question) -> Option<String> {
    let between = |c: char| {
        c.is_whitespace()
            || matches!(c, ',' | ';' | '/' | '&' | '.' | '(' | ')' | '[' | ']' | '{' | '}' | '*' | '"' | '\'')
    };
    let low = answer.to_lowercase();
    let words: Vec<&str> = low.split(between).filter(|word| !word.is_empty() && *word != "and").collect();
    let all = words.iter().all(|word| options(q).any(|option| option == *word));
    let found: Vec<&str> = options(q).filter(|option| words.contains(option)).collect();
    (all && !found.is_empty()).then(|| found.join(","))
}

impl AnswerReader for OnlyOption {
    fn name(&self) -> &'static str {
        "only-option"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn check_question(&self, _: &AnswerTable, q: &Question) -> Result<()> {
        let known = |answer: &str| options(q).any(|option| option == answer);
        match has_several(q) {
            true if q.answer.split(',').all(known) => Ok(()),
            false if known(&q.answer) => Ok(()),
            _ => Err(Error::failed(format!(
                "the right answer {:?} is none of the options {:?}",
                q.answer,
                q.fact("options")
            ))),
        }
    }

    fn describe(&self, _: &AnswerTable) -> String {
        "The only option that occurs in the answer in parentheses, else the only one that occurs at all, also within \
            words. Where several options can be right, the answer must be a list of options and nothing else."
            .to_string()
    }

    fn verdict(&self, _: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        match if has_several(q) { listed(answer, q) } else { only(answer, q) } {
            Some(said) => AnswerScore::new(&*said, said == q.answer),
            None => AnswerScore::unparsed(),
        }
    }
}
