//! Formatting of tables and paragraphs within a given width.

/// Alignment of a cell in its column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Text begins at the left edge of the column.
    Left,
    /// Text ends at the right edge of the column.
    Right,
}

/// Number of spaces between two columns.
const GAP: usize = 2;
/// Smallest width to which a column is reduced, in characters.
const LEAST: usize = 6;

/// Formats rows as lines of at most `width` characters, including the `margin` before each. Columns are as wide as
/// their widest cell; if the table is too wide, cells of the widest columns are wrapped. `sides` aligns the columns; those
/// without an entry are aligned left.
///
/// The first row is the header. If `width` is too small for all columns, lines are longer.
pub fn table(rows: &[Vec<String>], sides: &[Align], margin: &str, width: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let natural = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| length(c)).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..count).map(natural).collect();
    let available = width.saturating_sub(length(margin) + GAP * count.saturating_sub(1));
    while widths.iter().sum::<usize>() > available {
        match widths.iter_mut().filter(|w| **w > LEAST).max() {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    let mut out = String::new();
    for row in rows {
        let wrapped: Vec<Vec<String>> = row.iter().zip(&widths).map(|(cell, w)| wrap(cell, *w)).collect();
        for line in 0..wrapped.iter().map(Vec::len).max().unwrap_or(0) {
            let mut text = margin.to_string();
            for (i, (cell, width)) in wrapped.iter().zip(&widths).enumerate() {
                let cell = cell.get(line).map_or("", String::as_str);
                let padding = " ".repeat(width.saturating_sub(length(cell)));
                if i > 0 {
                    text += &" ".repeat(GAP);
                }
                text += &match sides.get(i) {
                    Some(Align::Right) => padding + cell,
                    _ => cell.to_string() + &padding,
                };
            }
            out += text.trim_end();
            out.push('\n');
        }
    }
    out
}

/// Wraps a paragraph into lines of at most `width` characters.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut room = width;
    for piece in pieces(text) {
        let (piece, bare) = (piece.as_str(), piece.trim_end());
        if length(bare) > room && room < width {
            lines.push(String::new());
            room = width;
        }
        // A word that is longer than a line is split at the end of the line.
        let mut rest: Vec<char> = bare.chars().collect();
        while rest.len() > width {
            let tail = rest.split_off(room);
            append(&mut lines, &rest);
            lines.push(String::new());
            (rest, room) = (tail, width);
        }
        append(&mut lines, &rest);
        room = room.saturating_sub(rest.len());
        // Spaces after a word stay on its line; if they do not fit, the line is full.
        let spaces = (length(piece) - length(bare)).min(room);
        append(&mut lines, &vec![' '; spaces]);
        room -= spaces;
    }
    lines.iter().map(|line| line.trim_end().to_string()).collect()
}

fn append(lines: &mut [String], text: &[char]) {
    if let Some(last) = lines.last_mut() {
        last.extend(text);
    }
}

/// Splits a text after the characters at which a line may end.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut ended = false;
    for c in text.chars() {
        if ended && c != ' ' {
            pieces.push(String::new());
        }
        // No line ends inside the dashes of an option such as `--release`.
        let inside = pieces.last().is_some_and(|p| p.ends_with(char::is_alphanumeric));
        ended = matches!(c, ' ' | '/' | ',' | '|') || (c == '-' && inside);
        if let Some(last) = pieces.last_mut() {
            last.push(c);
        }
    }
    pieces
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        vec![
            row(["id", "kind", "tokens"]),
            row(["openclip-convnext-xxl-1024-multi-stage", "self-supervised", "1024"]),
            row(["nano", "language", "36"]),
        ]
    }

    #[test]
    fn a_table_that_fits_is_not_folded() {
        let text = table(&rows(), &[Align::Left, Align::Left, Align::Right], "# ", 200);
        assert_eq!(
            text,
            "# id                                      kind             tokens\n\
             # openclip-convnext-xxl-1024-multi-stage  self-supervised    1024\n\
             # nano                                    language             36\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_nothing_is_lost() {
        for width in 26..120 {
            let text = table(&rows(), &[Align::Left; 3], "", width);
            assert!(text.lines().all(|l| length(l) <= width), "{width}:\n{text}");
            let letters = |t: &str| {
                let mut letters: Vec<char> = t.chars().filter(|c| !c.is_whitespace()).collect();
                letters.sort_unstable();
                letters
            };
            assert_eq!(letters(&text), letters(&rows().concat().concat()), "{width}:\n{text}");
        }
        assert_eq!(
            table(&rows(), &[Align::Left; 3], "", 50),
            "id                         kind             tokens\n\
             openclip-convnext-xxl-     self-supervised  1024\n\
             1024-multi-stage\n\
             nano                       language         36\n"
        );
    }

    #[test]
    fn paragraphs_are_folded_at_words_or_cut() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a bcdefghijk", 4), ["a", "bcde", "fghi", "jk"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("self-supervised by us", 8), ["self-", "supervis", "ed by us"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
