//! Chart parsing: similarity of two Python dictionaries as tables of two columns (TEDS).

use super::literal::{self, Literal};
use super::tree;
use crate::lmms::trimmed;
use crate::score::edit_distance;
use regex::Regex;
use std::sync::LazyLock;

static FENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?is)```(?:python|json)?\n(.*?)\n```").ok());
static ASSIGNED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[\s\x1c-\x1f]*\w+[\s\x1c-\x1f]*=[\s\x1c-\x1f]*").ok());
static COMMENT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"#.*").ok());

/// The rows of a table: key, and value with spaces between its characters.
pub(super) type Rows = Vec<(String, String)>;

/// Returns the rows of the dictionary in a text: that of the longest code fence, or of the text itself, without an
/// assignment before it, comments, and what follows its last brace.
pub(super) fn rows(text: &str) -> Option<Rows> {
    let fenced = FENCE.as_ref()?.captures_iter(text).filter_map(|groups| Some(groups.get(1)?.as_str()));
    // The first of several of the same length.
    let longest = fenced.reduce(|best, next| if next.chars().count() > best.chars().count() { next } else { best });
    let content = trimmed(longest.unwrap_or(text));
    let content = ASSIGNED.as_ref()?.replace(content, "");
    let content = COMMENT.as_ref()?.replace_all(&content, "");
    let content = content.rfind('}').and_then(|at| content.get(..=at)).unwrap_or(&content);
    let Some(Literal::Dict(pairs)) = literal::python(content) else { return None };
    let spaced = |value: &Literal| value.text().chars().map(String::from).collect::<Vec<_>>().join(" ");
    let rows: Rows = pairs.iter().map(|(key, value)| (key.text(), spaced(value))).collect();
    (!rows.is_empty()).then_some(rows)
}

/// Returns whether a text is only text in HTML, so that the table does not depend on how a parser repairs it.
pub(super) fn is_plain(rows: &Rows) -> bool {
    let plain =
        |text: &String| !text.contains(['<', '&', '\0', '\r']) && (text.is_empty() || !trimmed(text).is_empty());
    rows.iter().all(|(key, value)| plain(key) && plain(value))
}

/// Computes the similarity of two tables: 1 − tree edit distance / number of nodes of the larger one, where a
/// changed cell costs its edit distance divided by the longer length.
pub(super) fn similarity(said: &Rows, right: &Rows) -> f64 {
    // In postorder a row is two cells and the row itself; the table comes last.
    let leaves = |rows: &Rows| -> Vec<usize> {
        (0..rows.len()).flat_map(|row| [3 * row, 3 * row + 1, 3 * row]).chain([0]).collect()
    };
    let cells = |rows: &Rows| -> Vec<Option<Vec<char>>> {
        let of = |(key, value): &(String, String)| [Some(key.chars().collect()), Some(value.chars().collect()), None];
        rows.iter().flat_map(of).chain([None]).collect()
    };
    let (a, b) = (cells(said), cells(right));
    let kind = |cells: &[Option<Vec<char>>], node: usize| match cells.get(node) {
        Some(Some(_)) => 0,
        _ if node + 1 == cells.len() => 2,
        _ => 1,
    };
    let change = |i: usize, j: usize| match (a.get(i).and_then(Option::as_ref), b.get(j).and_then(Option::as_ref)) {
        (Some(x), Some(y)) if x.is_empty() && y.is_empty() => 0.0,
        (Some(x), Some(y)) => edit_distance(x, y) as f64 / x.len().max(y.len()) as f64,
        _ if kind(&a, i) == kind(&b, j) => 0.0,
        _ => 1.0,
    };
    let nodes = 3 * said.len().max(right.len());
    1.0 - tree::distance(&leaves(said), &leaves(right), change) / nodes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_compared_by_cells() {
        let of = |text: &str| rows(text).unwrap_or_default();
        let right = of("{'a': 'bc', 'd': 1}");
        assert_eq!(similarity(&right, &right), 1.0);
        assert_eq!(similarity(&of("x = {'a': 'bc'} # done }"), &of("{'a': 'bc'}")), 1.0);
        assert_eq!(similarity(&of("{'a': 'bd', 'd': 1}"), &right), 1.0 - (1.0 / 3.0) / 6.0);
        assert_eq!(similarity(&of("{'a': 'bc'}"), &right), 0.5);
        assert_eq!(rows("[1, 2]"), None);
    }
}
