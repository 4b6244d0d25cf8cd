//! The parsers of MMMU's authors and of those who adapted them, without their random draw: the letter that an answer
//! names last.

use crate::lmms;

/// Characters that are stripped from both ends, one after the other.
const SIGNS: [char; 7] = [',', '.', '!', '?', ';', ':', '\''];

/// Returns the letter by the rule of MMMU and MuirBench: the last one as `(B)`; if there is none, the last between
/// spaces; if there is none and the answer has more than five words, the choice whose text comes last.
pub(crate) fn last_named(answer: &str, options: &[String]) -> Option<char> {
    let text = padded(answer);
    last(options, |letter, _| text.rfind(&format!("({letter})"))).or_else(|| bare_or_text(&text, options))
}

/// Strips the signs from both ends, and adds a space at both ends.
fn padded(answer: &str) -> String {
    format!(" {} ", SIGNS.iter().fold(answer, |text, sign| text.trim_matches(*sign)))
}

/// Returns the letter of the choice with the greatest place; of two choices at the same place the first.
fn last<P: PartialOrd>(options: &[String], place: impl Fn(char, &str) -> Option<P>) -> Option<char> {
    let places = lmms::labels(options.len()).zip(options).filter_map(|(l, option)| Some((place(l, option)?, l)));
    places.reduce(|best, found| if found.0 > best.0 { found } else { best }).map(|(_, letter)| letter)
}

/// Returns the last letter between spaces or, in an answer of more than five words, of the choice whose text is last.
fn bare_or_text(text: &str, options: &[String]) -> Option<char> {
    last(options, |letter, _| text.rfind(&format!(" {letter} "))).or_else(|| {
        let long = text.split_whitespace().count() > 5;
        let low = text.to_lowercase();
        last(options, |_, option| low.rfind(&option.to_lowercase()).filter(|_| long))
    })
}
