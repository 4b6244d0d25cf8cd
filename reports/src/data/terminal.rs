//! The summary of training conversations as terminal text.

use super::DataSummary;
use super::tables::{DataTable, facts, groups, languages, lengths, notes, ratings, turns};
use crate::formatting::{column_width, wrap};
use crate::table::{align, ruled, styled};
use comfy_table::Attribute;

/// Number of sources that the terminal shows.
const SOURCES: usize = 40;

/// Formats the summary for a terminal of `width` columns. Columns of tables that do not fit are dropped from the right
/// and named below.
pub fn data_text(s: &DataSummary, width: usize, color: bool) -> String {
    let mut text = String::new();
    let facts = facts(s);
    let widest = facts.iter().map(|(label, _, _)| label.len()).max().unwrap_or(0);
    let values = facts.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
    for (label, value, note) in &facts {
        text += format!("{label:<widest$}  {value:>values$}  {note}").trim_end();
        text.push('\n');
    }
    let mut tables = vec![groups("Sources", &s.sources, s, SOURCES)];
    if !s.kinds.is_empty() {
        tables.push(groups("Kinds", &s.kinds, s, SOURCES));
    }
    tables.push(lengths(s));
    tables.push(turns(s));
    tables.extend(languages(s));
    tables.extend(ratings(s));
    for table in tables {
        text.push('\n');
        text += &formatted(table, width, color);
    }
    let notes = notes(s);
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        for line in wrap(&format!("- {}", crate::formatting::escaped(&note, false)), width) {
            text += &line;
            text.push('\n');
        }
    }
    text
}

fn formatted(mut table: DataTable, width: usize, color: bool) -> String {
    let mut dropped: Vec<String> = Vec::new();
    let mut text = drawn(&table, None, color);
    while widest(&text) > width && table.columns.len() > 2 {
        dropped.extend(table.columns.pop().map(|name| name.replace("-\n", "").replace('\n', " ")));
        for row in &mut table.rows {
            row.cells.pop();
        }
        text = drawn(&table, None, color);
    }
    if widest(&text) > width {
        text = drawn(&table, Some(width), color);
    }
    text.push('\n');
    if table.more > 0 {
        text += &format!("{} more (the page and --json show them)\n", table.more);
    }
    if !dropped.is_empty() {
        dropped.reverse();
        for line in wrap(&format!("Columns that do not fit this width: {}", dropped.join(", ")), width) {
            text += &line;
            text.push('\n');
        }
    }
    text
}

fn drawn(table: &DataTable, width: Option<usize>, color: bool) -> String {
    let mut drawn = ruled(width, color);
    let bold = color.then_some(Attribute::Bold);
    let mut header = vec![styled(table.title.clone(), bold)];
    header.extend(table.columns.iter().map(|name| styled(name.clone(), None)));
    drawn.set_header(header);
    for row in &table.rows {
        let name = crate::formatting::escaped(&row.name, false).into_owned();
        drawn.add_row(std::iter::once(name).chain(row.cells.iter().cloned()).collect::<Vec<_>>());
    }
    align(&mut drawn, 0);
    drawn.trim_fmt()
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().map(column_width).sum()).max().unwrap_or(0)
}
