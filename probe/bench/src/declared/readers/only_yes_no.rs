//! Reads yes or no as VLMEvalKit does without a language model.

use super::AnswerReader;
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::{self, AnswerScore, decimal_digit};

/// The reader `only-yes-no`: exactly one of the words yes and no must occur in the answer.
pub(super) struct OnlyYesNo;

/// Signs that are removed, or replaced by a space.
const SIGNS: &str = ";/[]\"{}()=+\\_-><@`,?!";

/// Maximum number of full stops that are removed.
const STOPS: usize = 32;

fn digit(c: char) -> bool {
    c.is_ascii_digit() || decimal_digit(c).is_some()
}

/// Removes punctuation as the toolkit does: a sign that stands beside a space anywhere vanishes everywhere, any other
/// sign becomes a space; if a comma stands between digits, all signs vanish. Full stops vanish unless beside a digit.
fn without_punctuation(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let decimal_comma = chars.windows(3).any(|w| matches!(w, [a, ',', b] if digit(*a) && digit(*b)));
    let beside_space = |sign: char| chars.windows(2).any(|w| *w == [sign, ' '] || *w == [' ', sign]);
    let vanishing: Vec<char> = SIGNS.chars().filter(|sign| decimal_comma || beside_space(*sign)).collect();
    let plain: Vec<char> =
        chars.into_iter().filter(|c| !vanishing.contains(c)).map(|c| if SIGNS.contains(c) { ' ' } else { c }).collect();
    let mut stops = 0;
    let mut kept = String::with_capacity(text.len());
    for (i, c) in plain.iter().enumerate() {
        let near = |at: Option<usize>| at.and_then(|at| plain.get(at)).is_some_and(|c| digit(*c));
        if *c == '.' && stops < STOPS && !near(i.checked_sub(1)) && !near(Some(i + 1)) {
            stops += 1;
        } else {
            kept.push(*c);
        }
    }
    kept
}

/// Returns yes (`true`) or no if exactly one of the words occurs.
fn only(answer: &str) -> Option<bool> {
    let plain = without_punctuation(&answer.to_lowercase());
    let has = |word: &str| plain.split_whitespace().any(|w| w == word);
    match (has("yes"), has("no")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

impl AnswerReader for OnlyYesNo {
    fn name(&self) -> &'static str {
        "only-yes-no"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::YesNo
    }

    fn describe(&self, _: &AnswerTable) -> String {
        "Exactly one of the words \"yes\" and \"no\" must occur in the answer, in any case and after punctuation is \
            removed."
            .to_string()
    }

    fn verdict(&self, _: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        score::judge_yes_no(q, only(answer))
    }
}
