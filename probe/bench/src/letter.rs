//! The strict parser for questions with choices: finds the choice that an answer names.
//!
//! The published scorers differ (first character of any text; only `X.`; only the bare letter), and some draw a random
//! letter if they find none. All of them accept the form that the prompts ask for. This parser accepts the union of the
//! forms in which an answer *names* a choice, and is the same for all benchmarks:
//!
//! - the letter alone or as a label in front: `B`, `b`, `(B)`, `B.`, `B) cup`, `**B**: because …`;
//! - the same after the last "answer is", "answer:", "option", "choice": `The correct answer is (B).`;
//! - the text of exactly one choice, alone or after these words: `a red cup`. Case counts where it tells choices apart:
//!   of `AA`, `Aa` and `aa` each is named by itself;
//! - label and text: `D. A` names D if its text is A;
//! - one parenthesised letter in an explanation: `So (B) fits best.`
//!
//! The parser never takes the first letter of a word for a choice (`Dog` is not D, `a dog` is not A), nor one of
//! several named letters (`A or B`, a list of all choices), nor a negated one (`not (B)`): these answers are unparsed.
//! So are answers in another language than the question's, unless they begin with the letter. A letter that is the
//! label of one choice and the text of another (`A` where B's text is A) is read as the label, because prompts ask for
//! the label.
//!
//! Choices after the 26th have the labels AA, AB, … ([`crate::labels::choice_label`]), which must be written in
//! capitals.

use crate::labels::{choice_index, choice_label};

/// Returns the number, from 0, of the choice that `answer` names; `None` if it names none or several.
pub fn letter(answer: &str, options: &[String]) -> Option<usize> {
    let whole = answer.trim();
    match after_announcement(whole) {
        Some(said) => label_in_front(said, options)
            .or_else(|| option_text(said, options))
            .or_else(|| label_in_front(whole, options))
            .or_else(|| option_text(whole, options)),
        None => label_in_front(whole, options)
            .or_else(|| option_text(whole, options))
            .or_else(|| only_parenthesised(whole, options)),
    }
}

/// Returns whether `c` may surround a label or a text: white space, quotes, emphasis, or the colon after "answer is".
fn decoration(c: char) -> bool {
    c.is_whitespace() || matches!(c, '*' | '_' | '`' | '"' | '\'' | '“' | '”' | '‘' | '’' | ':' | '：')
}

/// Returns whether `c` may end a label.
fn closes(c: char) -> bool {
    decoration(c) || matches!(c, ')' | ']' | '.' | ',' | ';' | '!' | '?' | '。' | '）' | '、' | '，')
}

/// Lower-cases ASCII letters only, so that byte positions stay the same.
fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// Returns the rest of the answer after the last phrase that announces a choice.
fn after_announcement(answer: &str) -> Option<&str> {
    const PHRASES: [&str; 4] = ["answer is", "answer:", "option", "choice"];
    let low = lower(answer);
    let ends = |phrase: &'static str| low.rmatch_indices(phrase).map(move |(at, _)| at + phrase.len());
    let is_word_end = |end: &usize| !low.get(*end..).is_some_and(|rest| rest.starts_with(char::is_alphanumeric));
    let end = PHRASES.iter().flat_map(|p| ends(p)).filter(is_word_end).max()?;
    let rest = answer.get(end..)?.trim_start();
    // "The correct option is B."
    match lower(rest).strip_prefix("is") {
        Some(after) if !after.starts_with(char::is_alphanumeric) => rest.get(2..),
        _ => Some(rest),
    }
}

/// Returns whether `text` begins with the text of the option, as whole words.
fn begins_with(text: &str, option: &str) -> bool {
    let text = text.trim_start_matches(decoration);
    match text.get(..option.len()) {
        Some(head) if head.to_lowercase() == option.to_lowercase() => {
            !text.get(option.len()..).is_some_and(|rest| rest.starts_with(char::is_alphanumeric))
        }
        _ => false,
    }
}

/// Returns the choice with this label, as number (from 0) and text.
fn option_of<'a>(label: &str, options: &'a [String]) -> Option<(usize, &'a String)> {
    let number = choice_index(label).filter(|_| !label.starts_with('('))?;
    Some((number, options.get(number)?))
}

/// Returns the run of ASCII letters with which a text begins.
fn leading_letters(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// Returns the choice whose label the text begins with.
fn label_in_front(text: &str, options: &[String]) -> Option<usize> {
    let text = text.trim_start_matches(decoration);
    let opened = text.strip_prefix(['(', '[', '（']);
    let text = opened.unwrap_or(text);
    let label = leading_letters(text);
    let (number, option) = option_of(label, options)?;
    let rest = text.get(label.len()..)?;
    let named = match (rest.chars().next(), opened) {
        (None, _) => true,
        (Some(c), Some(_)) => matches!(c, ')' | ']' | '）'),
        (Some(c), None) if c.is_whitespace() => is_label_before_words(label, rest, option),
        (Some(c), None) if closes(c) => {
            // `B.` or `B.cup`, but not "e.g." or "d'accord".
            let after = rest.get(c.len_utf8()..).unwrap_or_default();
            !after.starts_with(char::is_alphanumeric) || begins_with(after, option)
        }
        _ => false,
    };
    (named && !names_another(number, without_own_text(rest, option), options)).then_some(number)
}

/// Returns the text after a label without the text of its choice, so that "D. A" does not also name A if D's text is A.
fn without_own_text<'a>(rest: &'a str, option: &str) -> &'a str {
    let signs = |c: char| matches!(c, '.' | ')' | ':' | ']' | '）' | '：' | '-' | '–') || decoration(c);
    let text = rest.trim_start_matches(signs);
    if !begins_with(text, option) {
        return rest;
    }
    let after = text.get(option.len()..).unwrap_or_default();
    let labelled = rest.starts_with(['.', ')', ':', ']', '）', '：']);
    // "A B" is a label and its text only if nothing follows.
    if labelled || after.trim_matches(closes).is_empty() { after } else { rest }
}

/// Returns whether a letter followed by a space is a label and not a word ("a dog", "I see").
fn is_label_before_words(label: &str, rest: &str, option: &str) -> bool {
    let words = rest.trim_start();
    let line_ends = rest.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\n');
    let verb = ["is", "because", "since"].iter().any(|v| begins_with(words, v));
    // "a dog or a cup" names two things, not A and its text.
    let own_text =
        begins_with(words, option) && joining(words.get(option.len()..).unwrap_or_default().trim_start()).is_none();
    words.is_empty()
        || line_ends
        || own_text
        || (label.bytes().all(|b| b.is_ascii_uppercase())
            && (!matches!(label, "A" | "I") || verb || !words.starts_with(char::is_alphanumeric)))
}

/// Returns the length of the word or sign with which the text begins and that joins two choices; `None` if it begins
/// with none.
fn joining(text: &str) -> Option<usize> {
    let low = lower(text);
    ["or", "and"]
        .iter()
        .find_map(|w| low.strip_prefix(w).filter(|r| !r.starts_with(char::is_alphanumeric)).map(|_| w.len()))
        .or_else(|| text.starts_with(['/', '&', '|']).then_some(1))
}

/// Returns whether the text after a label also names another choice ("or B", ", C", "B. cup").
fn names_another(number: usize, rest: &str, options: &[String]) -> bool {
    let rest = rest.trim_start_matches(closes);
    // Labels that are joined by a word or a sign are both named.
    let joined = joining(rest);
    let next = rest.get(joined.unwrap_or(0)..).unwrap_or_default();
    let next = next.trim_start_matches(|c: char| decoration(c) || c == '(');
    let label = leading_letters(next);
    let other = option_of(label, options).is_some_and(|(other, _)| other != number);
    let beside = other
        && match next.get(label.len()..).and_then(|after| after.chars().next()) {
            None => true,
            Some(after) if after.is_whitespace() => joined.is_some() && label.bytes().all(|b| b.is_ascii_uppercase()),
            Some(after) => closes(after) && after != '\'' && after != '’',
        };
    let listed = |(i, option): (usize, &String)| {
        let label = choice_label(i);
        i != number && (lists(rest, &label, option) || lists(rest, &label.to_ascii_lowercase(), option))
    };
    beside || options.iter().enumerate().any(listed)
}

/// Returns whether the text contains `X. <text of option X>`, with the label in the given case.
fn lists(text: &str, label: &str, option: &str) -> bool {
    text.match_indices(label).any(|(at, _)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + label.len()..).unwrap_or_default();
        let fresh = before.is_none_or(|c| !c.is_alphanumeric());
        fresh && after.starts_with(['.', ')', ':']) && begins_with(after.get(1..).unwrap_or_default(), option)
    })
}

/// Returns the choice whose text this is, ignoring decoration, a full stop and, if then only one choice is left, case;
/// `None` if several choices have the text.
fn option_text(text: &str, options: &[String]) -> Option<usize> {
    fn plain(text: &str) -> &str {
        text.trim_matches(decoration).trim_end_matches('.').trim_matches(decoration)
    }
    let text = plain(text);
    let only = |same: &dyn Fn(&str) -> bool| {
        let mut found = options.iter().enumerate().filter(|(_, o)| !text.is_empty() && same(plain(o)));
        found.next().map(|(first, _)| (first, found.next().is_none()))
    };
    match only(&|option| option == text) {
        Some((first, alone)) => alone.then_some(first),
        None => only(&|option| option.to_lowercase() == text.to_lowercase()).and_then(|(n, alone)| alone.then_some(n)),
    }
}

/// Returns the only choice that stands in parentheses in the text, unless the text contains a negation.
fn only_parenthesised(text: &str, options: &[String]) -> Option<usize> {
    let denies =
        |w: &str| matches!(w, "not" | "no" | "neither" | "nor" | "never") || w.ends_with("n't") || w.ends_with("n’t");
    if lower(text).split(|c: char| c.is_whitespace() || matches!(c, '.' | ',' | ';' | '(')).any(denies) {
        return None;
    }
    let named = text.match_indices('(').filter_map(|(at, _)| {
        let inner = text.get(at + 1..)?;
        let label = leading_letters(inner);
        let (number, _) = option_of(label, options)?;
        inner.get(label.len()..)?.starts_with(')').then_some(number)
    });
    let mut distinct: Vec<usize> = named.collect();
    distinct.sort_unstable();
    distinct.dedup();
    match distinct.as_slice() {
        [label] => Some(*label),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_article_before_the_text_of_a_choice_is_no_label() {
        let options = ["dog", "cup", "tree"].map(String::from);
        for (answer, named) in [
            ("a dog or a cup", None),
            ("a dog and a tree", None),
            ("a dog / a cup", None),
            ("a cup", None),
            ("a dog", Some(0)),
            ("a dog.", Some(0)),
            ("A dog, because it barks", Some(0)),
            ("B cup", Some(1)),
        ] {
            assert_eq!(letter(answer, &options), named, "{answer}");
        }
    }
}
