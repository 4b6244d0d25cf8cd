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

/// Returns the letter by the rule of VMCBench: as [`last_named`], but `B. ` is worth as much as `(B)`. Of several
/// letters in these two forms the last one in parentheses counts or, if none has them, the first by label.
pub(crate) fn vmcbench(answer: &str, options: &[String]) -> Option<char> {
    let text = padded(answer);
    let labelled = |letter: char, _: &str| {
        let parenthesised = text.rfind(&format!("({letter})"));
        (parenthesised.is_some() || text.contains(&format!("{letter}. "))).then_some(parenthesised)
    };
    last(options, labelled).or_else(|| bare_or_text(&text, options))
}

/// Returns the letter by the rule of MMMU-Pro: the only letter of a choice in the text after the last "Answer:", also
/// within a word; if there is none or several, the letter that lmms-eval's copy of MMMU's parser finds in the answer.
pub(crate) fn mmmu_pro(answer: &str, options: &[String]) -> Option<char> {
    let announced = answer.rsplit_once("Answer:").map_or("", |(_, after)| after);
    let mut named = lmms::labels(options.len()).filter(|letter| announced.contains(*letter));
    match (named.next(), named.next()) {
        (Some(letter), None) => Some(letter),
        _ => lmms::last_named(answer, options),
    }
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
