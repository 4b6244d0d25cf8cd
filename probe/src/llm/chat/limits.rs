//! Limits on a model's chat template, which is untrusted code: its length, the size of its expressions, its
//! computation and output. Published templates stay far below all of them.
//!
//! The engine's fuel bounds instructions and most data. This module bounds what fuel does not count: the parser's
//! stack and constant folding, widths in `str.format`, lists that contain themselves many times.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};
use std::time::Duration;

/// Fuel of one rendering, in instructions (64 bytes of data also cost one); a hundred turns take some ten thousand.
pub const FUEL: u64 = 500_000;
/// Maximum length of a template in bytes; the longest published ones have about 30,000.
const LENGTH: usize = 128 << 10;
/// Maximum number of words and symbols in one tag.
const TOKENS: usize = 4096;
/// Stack of the thread that parses a template, in bytes: enough for every template within the two limits above.
pub const STACK: usize = 64 << 20;
/// Time limit for rendering two turns of one letter, which normally takes microseconds.
pub const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 4 } else { 10 });
/// Maximum width or precision in `str.format`, and maximum indentation.
pub const WIDTH: usize = 10_000;
/// Maximum nesting depth and maximum number of values that are written at once.
const DEPTH: usize = 200;
const VALUES: usize = 100_000;

/// Checks the source of a template before it is parsed.
///
/// # Errors
/// When a limit is exceeded; the error names the limit and the line.
pub fn check(template: &str) -> burgess_base::Result<()> {
    use burgess_base::Error;
    if template.len() > LENGTH {
        return Err(Error::failed(format!("it has {} bytes; at most {LENGTH} are supported", template.len())));
    }
    let mut rest = template;
    let line = |rest: &str| template.len().checked_sub(rest.len()).and_then(|at| template.get(..at));
    let line = |rest: &str| line(rest).map_or(0, |before| before.matches('\n').count() + 1);
    while let Some(at) = rest.find('{') {
        rest = rest.get(at + 1..).unwrap_or_default();
        let close = match rest.as_bytes().first() {
            Some(b'{') => b'}',
            Some(b'%') => b'%',
            Some(b'#') => {
                rest = rest.split_once("#}").map_or("", |(_, after)| after);
                continue;
            }
            _ => continue,
        };
        let start = rest;
        rest = tag(rest.get(1..).unwrap_or_default(), close)
            .map_err(|what| Error::failed(format!("line {}: {what}", line(start))))?;
    }
    Ok(())
}

/// Scans one tag and returns the text after it.
fn tag(text: &str, close: u8) -> Result<&str, String> {
    let bytes = text.as_bytes();
    let (mut at, mut count, mut open) = (0, 0, 0_usize);
    // The last word, and whether a plus follows it.
    let (mut word, mut plus) = ("", false);
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            _ if open == 0 && byte == close && bytes.get(at + 1) == Some(&b'}') => {
                return Ok(text.get(at + 2..).unwrap_or_default());
            }
            b'\'' | b'"' => quoted(bytes.get(at..).unwrap_or_default()),
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b if is_word(b) => bytes.get(at..).unwrap_or_default().iter().take_while(|b| is_word(**b)).count(),
            _ => 1,
        };
        let token = text.get(at..at + length).unwrap_or_default();
        let parts = if is_word(byte) { token.matches('.').count() } else { 0 };
        count += 1 + parts;
        if count > TOKENS {
            return Err(format!("a tag of more than {TOKENS} words and symbols"));
        }
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if is_word(byte) && plus && token == word && !byte.is_ascii_digit() {
            return Err(format!("`{word} + {word}` doubles a list, whose length is then unbounded"));
        }
        (word, plus) = match byte {
            b if is_word(b) => (token, false),
            b'+' if !word.is_empty() && !plus => (word, true),
            _ => ("", false),
        };
        at += length;
    }
    Ok("")
}

/// Whether a byte belongs to a name or a dotted path.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') || byte >= 0x80
}

/// Length in bytes of the string literal at the start of `bytes`, its quotes included.
fn quoted(bytes: &[u8]) -> usize {
    let quote = bytes.first();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'\\' => 2,
            b if Some(b) == quote => return at + 1,
            _ => 1,
        };
    }
    bytes.len()
}

/// Checks widths and precisions in the format of a `str.format`, which the engine pads before it counts fuel.
pub fn check_format(format: &str) -> Result<(), Error> {
    for digits in format.split(|c: char| !c.is_ascii_digit()) {
        let significant = digits.trim_start_matches('0');
        if significant.len() > 9 || significant.parse::<usize>().is_ok_and(|n| n > WIDTH) {
            return Err(refused(format!("a width of {} in `format`, must be at most {WIDTH}", excerpt(digits))));
        }
    }
    Ok(())
}

/// Checks that a value is neither too deep nor too large to be written; a value contained several times counts as
/// often. The traversal consumes fuel.
pub fn check_size(state: &State, value: &Value) -> Result<(), Error> {
    if !holds_others(value) {
        return Ok(());
    }
    let mut open = vec![members(value)?];
    let mut count = 0;
    while let Some(members) = open.last_mut() {
        let Some(value) = members.next() else {
            open.pop();
            continue;
        };
        count += 1;
        if count > VALUES {
            return Err(refused(format!("a list of more than {VALUES} values cannot be written")));
        }
        if holds_others(&value) {
            if open.len() >= DEPTH {
                return Err(refused(format!("a list nested more than {DEPTH} levels deep cannot be written")));
            }
            open.push(self::members(&value)?);
        }
    }
    state.consume_fuel(count as u64)
}

/// Whether the value is a list or a map.
fn holds_others(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
}

/// The elements of a list, or the values of a map.
fn members(value: &Value) -> Result<Box<dyn Iterator<Item = Value>>, Error> {
    let keys = value.try_iter()?;
    if value.kind() != ValueKind::Map {
        return Ok(Box::new(keys));
    }
    let map = value.clone();
    Ok(Box::new(keys.map(move |key| map.get_item(&key).unwrap_or_default())))
}

/// An error about an exceeded limit.
pub fn refused(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn excerpt(digits: &str) -> String {
    burgess_base::text::excerpt(digits, 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_beyond_the_limits_are_named_with_their_line() {
        let message = |text: &str| check(text).unwrap_err().to_string();
        assert!(message(&"a".repeat(LENGTH + 1)).contains("bytes"));
        for unit in ["-", "not ", "x.", "x|", "[0]", "1+", "(", "a if b else "] {
            let text = format!("a\nb{{% set y = {} %}}", unit.repeat((LENGTH - 40) / unit.len()));
            assert!(message(&text).contains("line 2: a tag of more than"), "{unit}");
        }
        for text in [
            "{% set ns.x = ns.x + ns.x %}",
            "{{ x+x }}",
            "{{ {'a': {}} }}\n{{ '}}' ~ f(x +\n x) }}",
            "{%- set x = x + x -%}",
        ] {
            assert!(message(text).contains("doubles"), "{text}");
        }
    }

    #[test]
    fn ordinary_templates_pass() -> burgess_base::Result<()> {
        check("{{ 1 + 1 }}{{ a + b }}{{ a ~ a }}{{ 'x + x' }}{# {{ x + x }} #}{ x + x }{{ x + xs }}{{ n.a + n.b }}")?;
        check("{% for m in messages[1:] + [x] %}{{ m['role'] + '\n' + m['content'] + '\\'' }}{% endfor %} { %")?;
        check("{{ unfinished 'string")?;
        check("")
    }

    #[test]
    fn widths_are_bounded_and_texts_are_not() {
        for good in ["{:>10}", "{0} {1:.3f}", "10000", "{:05d} 000000000000000012"] {
            assert!(check_format(good).is_ok(), "{good}");
        }
        for bad in ["{:>100000000000}", "{:.99999f}", "{:>18446744073709551616}"] {
            assert!(check_format(bad).is_err(), "{bad}");
        }
    }
}
