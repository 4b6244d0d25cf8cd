//! Tables as LaTeX, with the rules of the package `booktabs`.

use super::{Sheet, SheetCell};
use crate::formatting;

/// Largest width of a table, in characters, that a page of an article holds without scaling.
const WIDEST: usize = 70;

/// Formats a table as a LaTeX `table` with caption and label. The document needs the package `booktabs`, and for wide
/// tables `graphicx`; texts in scripts that its fonts lack are written unchanged and need other fonts.
pub fn latex(sheet: &Sheet) -> String {
    let columns: String = (0..sheet.header.len()).map(|i| if i < sheet.texts { 'l' } else { 'r' }).collect();
    // Wider tables than a column of text are scaled to its width.
    let (packages, open, close) = match width(sheet) > WIDEST {
        true => ("booktabs,graphicx", "  \\resizebox{\\linewidth}{!}{%\n", "}"),
        false => ("booktabs", "", ""),
    };
    let mut text = format!("% needs \\usepackage{{{packages}}}\n\\begin{{table}}\n  \\centering\n");
    if !sheet.caption.is_empty() {
        text += &format!("  \\caption{{{}}}\n", plain(&sheet.caption));
    }
    if !sheet.label.is_empty() {
        text += &format!("  \\label{{tab:{}}}\n", label(&sheet.label));
    }
    text += &format!("{open}  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n");
    let header: Vec<String> = sheet.header.iter().map(|h| plain(h)).collect();
    text += &format!("    {} \\\\\n", header.join(" & "));
    for group in sheet.groups.iter().filter(|g| !g.is_empty()) {
        text += "    \\midrule\n";
        for row in group {
            let cells: Vec<String> = row.cells.iter().map(cell).collect();
            text += &format!("    {} \\\\\n", cells.join(" & "));
        }
    }
    text += &format!("    \\bottomrule\n  \\end{{tabular}}{close}\n");
    if !sheet.notes.is_empty() {
        let notes: Vec<String> = sheet.notes.iter().map(|n| plain(n)).collect();
        text += &format!("\n  \\smallskip\n  {{\\footnotesize {}\\par}}\n", notes.join(" "));
    }
    text + "\\end{table}\n"
}

/// Returns the width of a table in characters, with the space between columns.
fn width(sheet: &Sheet) -> usize {
    let length = |text: &str| text.chars().count();
    let cells = |i: usize| sheet.groups.iter().flatten().filter_map(move |row| row.cells.get(i));
    let column =
        |(i, name): (usize, &String)| cells(i).map(|c| length(&c.text)).max().unwrap_or(0).max(length(name)) + 2;
    sheet.header.iter().enumerate().map(column).sum()
}

fn cell(cell: &SheetCell) -> String {
    let text = plain(&cell.text);
    if cell.bold && !text.is_empty() { format!("\\textbf{{{text}}}") } else { text }
}

/// Returns a label without characters that `\label` does not take.
fn label(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Escapes LaTeX's special characters, and writes signs that its default fonts lack as mathematics; line breaks become
/// blanks.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for c in formatting::escaped(&one_line, false).chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '±' => out.push_str("$\\pm$"),
            '−' => out.push_str("$-$"),
            '×' => out.push_str("$\\times$"),
            '–' => out.push_str("--"),
            '…' => out.push_str("\\dots{}"),
            'τ' => out.push_str("$\\tau$"),
            '≥' => out.push_str("$\\ge$"),
            '≤' => out.push_str("$\\le$"),
            _ => out.push(c),
        }
    }
    out
}
