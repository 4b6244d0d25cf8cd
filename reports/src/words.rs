//! Small pieces of English and of number formatting that table, figures, page and conclusions share.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that XML 1.0 forbids (Rust's texts have no surrogates), and marks of direction beyond those of
/// [`burgess_base::text::escaped`].
fn unprintable(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{61c}')
}

/// Text from results as terminal, page and figures show it: control characters, marks of direction and what XML forbids as
/// escapes; line feeds too unless `lines`.
pub(crate) fn shown(text: &str, lines: bool) -> Cow<'_, str> {
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

/// "a", "a and b", "a, b and c".
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// [`list`], with what is beyond `most` names only counted.
pub(crate) fn short_list(names: &[String], most: usize) -> String {
    if names.len() <= most + 1 {
        return list(names);
    }
    let mut shown: Vec<String> = names.iter().take(most).cloned().collect();
    shown.push(format!("{} more", names.len() - most));
    list(&shown)
}

/// "3 seeds", "1 seed".
pub(crate) fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// With a capital letter at its head.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A change with its sign, "+1.2" or "−0.3".
pub(crate) fn signed(x: f64) -> String {
    // Rounded first: −0.04 is "0.0", not "−0.0".
    let rounded = (x * 10.0).round() / 10.0;
    if rounded < 0.0 { format!("−{:.1}", -rounded) } else { format!("+{:.1}", rounded.abs()) }
}

/// A correlation in two digits, a dash where there is none.
pub(crate) fn correlation(r: Option<f64>) -> String {
    r.map_or("–".to_string(), |r| format!("{r:.2}").replace('-', "−"))
}

/// A number without decimals, with a minus sign.
pub(crate) fn whole(x: f64) -> String {
    let rounded = x.round();
    if rounded < 0.0 { format!("−{:.0}", -rounded) } else { format!("{:.0}", rounded.abs()) }
}

/// A share of 0 to 1 as "5 %", "7.1 %"; never "0 %" or "100 %" for what is only nearly so.
pub(crate) fn percent(share: f64) -> String {
    let tenths = (1000.0 * share).round() / 10.0;
    match share {
        s if s > 0.0 && tenths == 0.0 => "<0.1 %".to_string(),
        s if s < 1.0 && tenths == 100.0 => ">99.9 %".to_string(),
        _ => format!("{tenths} %"),
    }
}

/// "p = 0.013", "p < 0.001".
pub(crate) fn p(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_string() } else { format!("p = {p:.3}") }
}

/// A probability in two digits: never "1.00" or "0.00" for what is only nearly so.
pub(crate) fn probability(p: f64) -> String {
    match p {
        p if p > 0.995 && p < 1.0 => ">0.99".to_string(),
        p if p < 0.005 && p > 0.0 => "<0.01".to_string(),
        p => format!("{p:.2}"),
    }
}

/// "865M", "1.2M", "340k".
pub(crate) fn big(n: f64) -> String {
    let (scaled, suffix) = match n {
        n if n >= 1e9 => (n / 1e9, "G"),
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e3 => (n / 1e3, "k"),
        n => (n, ""),
    };
    if scaled >= 10.0 || suffix.is_empty() { format!("{scaled:.0}{suffix}") } else { format!("{scaled:.1}{suffix}") }
}

/// A score, or a dash where it is not known.
pub(crate) fn score(value: f64) -> String {
    if value.is_finite() { format!("{value:.1}") } else { "–".to_string() }
}

/// A cost, or a dash where it was not measured.
pub(crate) fn measured(value: f64, format: impl Fn(f64) -> String) -> String {
    if value > 0.0 && value.is_finite() { format(value) } else { "–".to_string() }
}

/// Columns that a character takes in a terminal: none for marks on the character before, two for East Asian scripts and
/// emoji.
pub(crate) fn columns(c: char) -> usize {
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

/// "1" or "1–3".
pub(crate) fn range(low: usize, high: usize) -> String {
    if low == high { low.to_string() } else { format!("{low}–{high}") }
}

/// Lines of at most `width` columns, broken between words, and within a word that is longer than a line.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let length = |text: &str| text.chars().map(columns).sum::<usize>();
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
                    if used + columns(c) > width.max(2) {
                        lines.push(String::new());
                        used = 0;
                    }
                    if let Some(line) = lines.last_mut() {
                        line.push(c);
                        used += columns(c);
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
        assert_eq!((big(865_900_000.0).as_str(), big(1_230.0).as_str(), big(12.0).as_str()), ("866M", "1.2k", "12"));
    }

    #[test]
    fn what_steers_a_terminal_or_breaks_xml_is_shown_as_escapes() {
        assert!(matches!(shown("größer 图 🙂\n", true), Cow::Borrowed(_)));
        assert_eq!(shown("a\u{ffff}\u{61c}\x1b[31m\n", false), "a\\u{ffff}\\u{61c}\\x1b[31m\\n");
        assert_eq!(shown("a\nb\u{202e}\0", true), "a\nb\\u{202e}\\x00");
    }

    #[test]
    fn wrapping_keeps_words_whole() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("longword a", 5), ["longw", "ord a"], "but no line is longer than there is room");
        assert_eq!(wrap("图图图 a", 4), ["图图", "图 a"]);
    }
}
