//! Text and number formatting shared by tables, figures, pages and conclusions.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns whether XML 1.0 forbids the character (Rust strings have no surrogates), or whether it is a direction mark
/// beyond those of [`burgess_base::text::escaped`].
fn unprintable(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{61c}')
}

/// Escapes text from results for terminal, page and figures: control characters, direction marks and characters that
/// XML forbids, and line feeds unless `lines`.
pub(crate) fn escaped(text: &str, lines: bool) -> Cow<'_, str> {
    let escaped = if lines { burgess_base::text::escaped_lines(text) } else { burgess_base::text::escaped(text) };
    if !escaped.chars().any(unprintable) {
        return escaped;
    }
    let mut out = String::with_capacity(escaped.len() + 16);
    for c in escaped.chars() {
        match unprintable(c) {
            // Writing into a string cannot fail.
            true => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Joins names as "a", "a and b" or "a, b and c".
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Joins names as [`list`] does, but counts those beyond `most` names.
pub(crate) fn short_list(names: &[String], most: usize) -> String {
    if names.len() <= most + 1 {
        return list(names);
    }
    let mut shown: Vec<String> = names.iter().take(most).cloned().collect();
    shown.push(format!("{} more", names.len() - most));
    list(&shown)
}

/// Formats a count with its noun, such as "3 seeds" or "1 seed".
pub(crate) fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Formats a count with commas between thousands, such as "13,200".
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns the text with a capital first letter.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Formats a change with its sign, such as "+1.2" or "−0.3".
pub(crate) fn signed(x: f64) -> String {
    // Rounded first, so that −0.04 is "+0.0" and not "−0.0".
    let rounded = (x * 10.0).round() / 10.0;
    if rounded < 0.0 { format!("−{:.1}", -rounded) } else { format!("+{:.1}", rounded.abs()) }
}

/// Formats a correlation with two decimals; a dash for `None`.
pub(crate) fn correlation(r: Option<f64>) -> String {
    r.map_or("–".to_string(), |r| format!("{r:.2}").replace('-', "−"))
}

/// Formats a number without decimals, with a true minus sign.
pub(crate) fn integer(x: f64) -> String {
    let rounded = x.round();
    if rounded < 0.0 { format!("−{:.0}", -rounded) } else { format!("{:.0}", rounded.abs()) }
}

/// Formats a fraction from 0 to 1 as "5 %" or "7.1 %"; values near 0 and 1 become "<0.1 %" and ">99.9 %".
pub(crate) fn percent(share: f64) -> String {
    let tenths = (1000.0 * share).round() / 10.0;
    match share {
        s if s > 0.0 && tenths == 0.0 => "<0.1 %".to_string(),
        s if s < 1.0 && tenths == 100.0 => ">99.9 %".to_string(),
        _ => format!("{tenths} %"),
    }
}

/// Formats a p-value, such as "p = 0.013" or "p < 0.001".
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_string() } else { format!("p = {p:.3}") }
}

/// Formats a probability with two decimals; values near 0 and 1 become "<0.01" and ">0.99".
pub(crate) fn probability(p: f64) -> String {
    match p {
        p if p > 0.995 && p < 1.0 => ">0.99".to_string(),
        p if p < 0.005 && p > 0.0 => "<0.01".to_string(),
        p => format!("{p:.2}"),
    }
}

/// Formats a large number, such as "865M", "1.2M" or "340k".
pub(crate) fn with_suffix(n: f64) -> String {
    let (scaled, suffix) = match n {
        n if n >= 1e9 => (n / 1e9, "G"),
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e3 => (n / 1e3, "k"),
        n => (n, ""),
    };
    if scaled >= 10.0 || suffix.is_empty() { format!("{scaled:.0}{suffix}") } else { format!("{scaled:.1}{suffix}") }
}

/// Formats a score; a dash if it is not finite.
pub(crate) fn score(value: f64) -> String {
    if value.is_finite() { format!("{value:.1}") } else { "–".to_string() }
}

/// Formats a cost; a dash if it was not measured.
pub(crate) fn measured(value: f64, format: impl Fn(f64) -> String) -> String {
    if value > 0.0 && value.is_finite() { format(value) } else { "–".to_string() }
}

/// Returns the number of terminal columns of a character: 0 for combining marks, 2 for East Asian scripts and emoji,
/// else 1.
pub(crate) fn column_width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Formats a range, such as "1" or "1–3".
pub(crate) fn range(low: usize, high: usize) -> String {
    if low == high { low.to_string() } else { format!("{low}–{high}") }
}

/// Wraps text into lines of at most `width` columns between words, and within words that are longer than a line.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let length = |text: &str| text.chars().map(column_width).sum::<usize>();
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let long = length(word);
        match lines.last_mut() {
            Some(line) if used + 1 + long <= width => {
                line.push(' ');
                line.push_str(word);
                used += 1 + long;
            }
            _ => {
                lines.push(String::new());
                used = 0;
                for c in word.chars() {
                    if used + column_width(c) > width.max(2) {
                        lines.push(String::new());
                        used = 0;
                    }
                    if let Some(line) = lines.last_mut() {
                        line.push(c);
                        used += column_width(c);
                    }
                }
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_as_in_english() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        assert_eq!(list(&names[..1]), "a");
        assert_eq!(list(&names[..2]), "a and b");
        assert_eq!(list(&names), "a, b, c and d");
        assert_eq!(short_list(&names, 2), "a, b and 2 more");
        assert_eq!(short_list(&names, 3), "a, b, c and d", "one more is as short by its name");
    }

    #[test]
    fn numbers_are_short_and_honest() {
        assert_eq!((signed(-0.04).as_str(), signed(-1.26).as_str()), ("+0.0", "−1.3"));
        assert_eq!(
            [0.05, 0.0712, 0.0, 1e-5, 0.9999, 1.0].map(percent),
            ["5 %", "7.1 %", "0 %", "<0.1 %", ">99.9 %", "100 %"]
        );
        assert_eq!((probability(0.9999).as_str(), probability(1.0).as_str()), (">0.99", "1.00"));
        assert_eq!(
            (with_suffix(865_900_000.0).as_str(), with_suffix(1_230.0).as_str(), with_suffix(12.0).as_str()),
            ("866M", "1.2k", "12")
        );
    }

    #[test]
    fn control_characters_and_characters_that_xml_forbids_are_escaped() {
        assert!(matches!(escaped("größer 图 🙂\n", true), Cow::Borrowed(_)));
        assert_eq!(escaped("a\u{ffff}\u{61c}\x1b[31m\n", false), "a\\u{ffff}\\u{61c}\\x1b[31m\\n");
        assert_eq!(escaped("a\nb\u{202e}\0", true), "a\nb\\u{202e}\\x00");
    }

    #[test]
    fn wrapping_keeps_words_whole() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("longword a", 5), ["longw", "ord a"], "but no line is longer than there is room");
        assert_eq!(wrap("图图图 a", 4), ["图图", "图 a"]);
    }
}
