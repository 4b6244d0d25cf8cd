//! Helpers for reading published tables: detecting whose edition of a benchmark lies in a directory (the authors', the
//! hub's or VLMEvalKit's), and finding choices within a question's text.

use crate::card::DatasetSource;
use crate::table::{self, DatasetTable};
use crate::vlmevalkit;
use burgess_base::Result;
use std::path::Path;

/// Opens the table of a split; the flag is `true` for VLMEvalKit's edition (`root` is the file `tsv` or contains it) and
/// `false` for another: the hub's, or for [`open_named`] the authors'.
pub fn open(root: &Path, source: &DatasetSource<'_>, tsv: &str) -> Result<(DatasetTable, bool)> {
    match vlmevalkit::table(root, tsv) {
        Some(table) => Ok((table, true)),
        None => Ok((DatasetTable::open(root, source)?, false)),
    }
}

/// Opens the table as [`open`] does, where the authors' own edition is a single file called `name`.
pub fn open_named(root: &Path, source: &DatasetSource<'_>, tsv: &str, name: &str) -> Result<(DatasetTable, bool)> {
    match vlmevalkit::table(root, tsv) {
        None if root.is_file() || table::is_there(&root.join(name)) => Ok((DatasetTable::named(root, &[name])?, false)),
        _ => open(root, source, tsv),
    }
}

/// Splits a text into its stem and its choices: the texts after the labels `label('A')`, `label('B')` and so on, each
/// at the beginning of a word, up to the next label or the end of the line.
pub fn choices_within(text: &str, label: impl Fn(char) -> String) -> (String, Vec<String>) {
    let find = |letter: char, from: usize| {
        let label = label(letter);
        let rest = text.get(from..)?;
        let fresh = |at: &usize| text.get(..from + at).is_none_or(|t| t.is_empty() || t.ends_with(char::is_whitespace));
        let at = rest.match_indices(&label).map(|(at, _)| at).find(fresh)?;
        Some((from + at, from + at + label.len()))
    };
    let mut places: Vec<(usize, usize)> = Vec::new();
    for letter in 'A'..='Z' {
        match find(letter, places.last().map_or(0, |p| p.1)) {
            Some(place) => places.push(place),
            None => break,
        }
    }
    let ends = places.iter().skip(1).map(|p| p.0).chain([text.len()]);
    let choice = |(&(_, from), to): (&(usize, usize), usize)| {
        let choice = text.get(from..to).unwrap_or_default();
        choice.lines().next().unwrap_or_default().trim().to_string()
    };
    let choices: Vec<String> = places.iter().zip(ends).map(choice).collect();
    let stem = places.first().map_or(text, |p| text.get(..p.0).unwrap_or_default());
    (stem.trim().to_string(), choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_found_in_lines_and_in_the_line() {
        let lines = "Which way?\n\nA. Left\nB. To the right\nPlease answer directly.";
        let found = choices_within(lines, |l| format!("{l}. "));
        assert_eq!(found, ("Which way?".into(), vec!["Left".into(), "To the right".into()]));
        let inline = "Which way? (A) left (B) right (C) on, (B) or not\nAnswer";
        let (stem, choices) = choices_within(inline, |l| format!("({l})"));
        assert_eq!(
            (stem.as_str(), choices),
            ("Which way?", vec!["left".into(), "right".into(), "on, (B) or not".into()])
        );
        let empty = choices_within("Q?\nA. Left\nB. \nPlease answer directly.", |l| format!("{l}. "));
        assert_eq!(empty.1, ["Left", ""]);
        assert_eq!(choices_within("How many in the U.S.A. today?", |l| format!("{l}. ")).1.len(), 0);
    }
}
