//! Tables as Markdown (GitHub's dialect).

use super::{Sheet, SheetCell};
use crate::formatting;

/// Formats a table as Markdown, with the caption above and the notes below.
pub fn markdown(sheet: &Sheet) -> String {
    let mut text = String::new();
    if !sheet.caption.is_empty() {
        text += &format!("**{}**\n\n", plain(&sheet.caption));
    }
    let header: Vec<String> = sheet.header.iter().map(|h| plain(h)).collect();
    text += &format!("| {} |\n", header.join(" | "));
    let rules = (0..sheet.header.len()).map(|i| if i < sheet.texts { ":--" } else { "--:" });
    text += &format!("| {} |\n", rules.collect::<Vec<_>>().join(" | "));
    for row in sheet.groups.iter().flatten() {
        let cells: Vec<String> = row.cells.iter().map(cell).collect();
        text += &format!("| {} |\n", cells.join(" | "));
    }
    for note in &sheet.notes {
        text += &format!("\n{}\n", plain(note));
    }
    text
}

fn cell(cell: &SheetCell) -> String {
    let text = plain(&cell.text);
    if cell.bold && !text.is_empty() { format!("**{text}**") } else { text }
}

/// Escapes what Markdown would read as markup; line breaks become blanks.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for c in formatting::escaped(&one_line, false).chars() {
        if matches!(c, '\\' | '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '~') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
