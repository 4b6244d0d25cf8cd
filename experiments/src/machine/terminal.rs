//! Output to the terminal: control characters are escaped, and a closed pipe or a full disk causes no panic.

use burgess_base::text::{escaped, escaped_lines};
use burgess_base::{Context, Result};
use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};

/// Largest length of a line of a message, in characters; longer lines are shortened in the middle.
const LONGEST: usize = 600;
/// Number of characters kept at the end of a shortened line.
const END: usize = 200;
/// Largest number of lines of a message.
const LINES: usize = 100;

/// Writes lines to stderr. Write errors are ignored, because results do not depend on these lines.
pub fn eprint_line(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(format!("{}\n", escaped_lines(text)).as_bytes()).and_then(|()| out.flush());
}

/// Shortens a message to at most 100 lines of about 600 characters and escapes control characters.
pub fn message(text: &str) -> String {
    let escaped = escaped_lines(text);
    let mut lines: Vec<Cow<'_, str>> = escaped.lines().take(LINES).map(shortened).collect();
    match escaped.lines().count() {
        all if all > LINES => lines.push(Cow::Owned(format!("… and {} more lines", all - LINES))),
        _ => {}
    }
    lines.join("\n")
}

fn shortened(line: &str) -> Cow<'_, str> {
    let count = line.chars().count();
    if count <= LONGEST {
        return Cow::Borrowed(line);
    }
    let start: String = line.chars().take(LONGEST - END).collect();
    let end: String = line.chars().skip(count - END).collect();
    Cow::Owned(format!("{start} … {end}"))
}

/// Writes a result to stdout, with control characters escaped. A closed pipe (`| head`) is not an error.
///
/// # Errors
/// Writing fails, as on a full disk.
pub fn print(text: &str) -> Result<()> {
    print_raw(&shown(text, colours()))
}

/// As [`print()`], without escaping, for output that programs read.
///
/// # Errors
/// As [`print()`].
pub fn print_raw(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e).context("writing to standard output"),
        _ => Ok(()),
    }
}

/// Writes text that a model generated: unchanged to a file or pipe, with control characters escaped on a terminal.
///
/// # Errors
/// As [`print()`].
pub fn print_foreign(text: &str) -> Result<()> {
    match std::io::stdout().is_terminal() {
        true => print_raw(&shown(text, false)),
        false => print_raw(text),
    }
}

/// Writes a value as JSON; control characters outside ASCII are escaped too.
///
/// # Errors
/// As [`print()`].
pub fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    print_raw(&json_text(value)?)
}

/// Returns a value as the JSON that [`print_json`] writes.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json_text<T: serde::Serialize>(value: &T) -> Result<String> {
    Ok(safe_json(&serde_json::to_string_pretty(value)?) + "\n")
}

/// Returns a value as one line of JSON.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json_line<T: serde::Serialize>(value: &T) -> Result<String> {
    Ok(safe_json(&serde_json::to_string(value)?) + "\n")
}

/// Replaces characters that `escaped` would change by `\u` escapes; in JSON they occur only inside strings.
pub fn safe_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        let mut buffer = [0; 4];
        let one: &str = c.encode_utf8(&mut buffer);
        match c != '\n' && matches!(escaped(one), Cow::Owned(_)) {
            true => out += &format!("\\u{:04x}", u32::from(c)),
            false => out.push(c),
        }
    }
    out
}

/// Whether stdout is a terminal and `NO_COLOR` is not set.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Escapes control characters except line feeds and tabs and, with `colours`, except the escape sequences that choose a
/// colour.
fn shown(text: &str, colours: bool) -> String {
    let plain = |text: &str| text.split('\t').map(escaped_lines).collect::<Vec<_>>().join("\t");
    if !colours {
        return plain(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let (before, sequence) = rest.split_at(at);
        out += &plain(before);
        let body = &sequence[2..];
        let end = body.find(|c: char| !c.is_ascii_digit() && c != ';').filter(|end| body[*end..].starts_with('m'));
        let length = end.map_or(1, |end| 2 + end + 1);
        let (taken, after) = sequence.split_at(length);
        out += &if end.is_some() { taken.to_string() } else { plain(taken) };
        rest = after;
    }
    out + &plain(rest)
}

/// Width of the terminal in characters: `COLUMNS` if it is set, else as stdout reports it; `None` without a terminal.
fn columns() -> Option<usize> {
    let columns: Option<usize> = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c > 0);
    columns.or_else(|| terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0)))
}

/// Width for reports in characters, 60 to 200; 100 without a terminal.
pub fn width() -> usize {
    columns().unwrap_or(100).clamp(60, 200)
}

/// Width for lists in characters, 60 to 200; unlimited without a terminal, where programs read one entry per line.
pub fn list_width() -> usize {
    columns().map_or(usize::MAX, |columns| columns.clamp(60, 200))
}

/// The hint of an error as a user of the command reads it: with the command that downloads what is missing.
pub fn hint(error: &burgess_base::Error) -> Option<String> {
    let download = error.download_name().map(|name| format!("`burgess fetch {name}`"));
    match (error.hint_text(), download) {
        (Some(hint), Some(download)) => Some(format!("{hint}: {download}")),
        (hint, download) => hint.map(str::to_string).or(download),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(shown("a\tb\n\x1b[2Jc\x07\u{9b}1m", false), "a\tb\n\\x1b[2Jc\\x07\\x9b1m");
        assert_eq!(
            shown("\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;t\x07", true),
            "\x1b[1;31mred\x1b[0m \\x1b[2J\\x1b]0;t\\x07"
        );
        assert_eq!(shown("ends in \x1b[", true), "ends in \\x1b[");
    }

    #[test]
    fn json_stays_the_same_value() -> Result<()> {
        let value = "\x1b[2J\u{9b}\u{7f}\u{202e}é\n\"";
        let text = safe_json(&serde_json::to_string_pretty(&[value])?);
        assert!(!text.chars().any(|c| c != '\n' && c.is_control()) && !text.contains('\u{202e}'), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text)?, [value]);
        Ok(())
    }

    #[test]
    fn messages_show_no_more_than_fits() {
        let long = message(&format!("reading {} x: end", "é".repeat(100_000)));
        assert!(long.starts_with("reading éé") && long.ends_with("x: end") && long.chars().count() < 700);
        let many = message(&"line\n".repeat(5000));
        assert!(many.lines().count() == LINES + 1 && many.ends_with("… and 4900 more lines"), "{many}");
        assert_eq!(message("a\x1b[2J\nb"), "a\\x1b[2J\nb");
    }
}
