//! A comparison as terminal text.

use super::content::{ArmComparison, Comparison, ScopeComparison, ScopeKind};
use super::questions::{AnswersOfSide, DifferingQuestion};
use super::rows::{excerpt, p_cell, power_cells};
use crate::formatting::{self, signed};
use crate::table::{align, paragraph_into, ruled, styled, widest};
use comfy_table::Attribute;

/// Columns that are left out one after the other if the terminal is too narrow.
#[derive(Clone, Copy, PartialEq)]
enum Column {
    Scope,
    A,
    B,
    Difference,
    Interval,
    P,
    Won,
    Lost,
    Tied,
    Blind,
    Detectable,
    Questions,
}

const ALL: [Column; 12] = [
    Column::Scope,
    Column::A,
    Column::B,
    Column::Difference,
    Column::Interval,
    Column::P,
    Column::Won,
    Column::Lost,
    Column::Tied,
    Column::Blind,
    Column::Detectable,
    Column::Questions,
];

/// Formats a comparison as text of at most `width` columns: the conclusion, a table, and what limits it. `color` makes
/// separable differences bold; without it the text has no escape codes, whatever the answers contain.
pub fn comparison_text(c: &Comparison, width: usize, color: bool) -> String {
    let mut text = String::new();
    let say = |text: &mut String, sentence: &str| paragraph_into(text, width, "", "", sentence);
    if !c.is_single() {
        say(&mut text, &c.conclusion);
        text.push('\n');
        text += &overview(c, width, color);
        text.push('\n');
        for (names, side) in c.unpaired.iter().zip([&c.a, &c.b]) {
            if !names.is_empty() {
                say(&mut text, &format!("Only in {}: {}.", side.name, names.join(", ")));
            }
        }
    }
    for warning in &c.warnings {
        paragraph_into(&mut text, width, "", "  ", &format!("Warning: {warning}"));
    }
    for (i, pair) in c.pairs.iter().enumerate() {
        if i > 0 || !text.is_empty() {
            text.push('\n');
        }
        say(&mut text, &pair.conclusion);
        text.push('\n');
        let (table, columns) = table(c, pair, width, color);
        text += &table;
        text.push('\n');
        let percent = 100.0 * c.options.confidence;
        let adjusted = match pair.scopes.len() {
            1 => "p",
            _ => "p, adjusted by Holm's method over all benchmarks (and over all categories),",
        };
        let mut legend = format!(
            "Differences are {} minus {}, in points, with paired {percent:.0} % intervals, which are not adjusted; * \
             separable: the interval excludes 0 and {adjusted} is below {:.2}. Won, lost: questions on which the first \
             scores higher, lower. Detectable: the true difference that these questions show with {:.0} % probability.",
            pair.labels[0],
            pair.labels[1],
            1.0 - c.options.confidence,
            100.0 * c.options.power
        );
        if columns.contains(&Column::Blind) {
            legend += " Blind: the same difference without the images.";
        }
        for sentence in [legend, formatting::capitalised(&pair.uncertainty), pair.power_note.clone()] {
            say(&mut text, &sentence);
        }
        for warning in &pair.warnings {
            paragraph_into(&mut text, width, "- ", "  ", &format!("Warning: {warning}"));
        }
        for why in &pair.not_compared {
            paragraph_into(&mut text, width, "- ", "  ", &format!("Not compared: {why}."));
        }
        for what in &pair.differences {
            paragraph_into(&mut text, width, "- ", "  ", &format!("Also different: {what}."));
        }
        text += &questions(pair, width);
    }
    text
}

/// Returns the name of the arm that a pair of two studies has in common.
pub(super) fn arm_of(pair: &ArmComparison) -> String {
    pair.labels[0].split(" (").next().unwrap_or_default().to_string()
}

/// Formats the averages of all pairs.
fn overview(c: &Comparison, width: usize, color: bool) -> String {
    let mut table = ruled(Some(width), color);
    table.set_header(["arm", &c.a.name, &c.b.name, "difference", "interval", "adj. p"].map(shown));
    for pair in &c.pairs {
        let Some(s) = pair.summary() else { continue };
        let columns = [Column::A, Column::B, Column::Difference, Column::Interval, Column::P];
        let cells = std::iter::once(shown(&arm_of(pair))).chain(columns.iter().map(|column| cell(*column, s, false)));
        table.add_row(cells.map(|text| styled(text, (color && s.separable).then_some(Attribute::Bold))));
    }
    align(&mut table, 0);
    table.trim_fmt() + "\n"
}

fn shown(text: &str) -> String {
    formatting::escaped(text, false).into_owned()
}

/// Formats the table of one pair, without the columns that do not fit, and returns the columns that do.
fn table(c: &Comparison, pair: &ArmComparison, width: usize, color: bool) -> (String, Vec<Column>) {
    let blind = pair.scopes.iter().any(|s| s.blind.is_some());
    let mut columns: Vec<Column> = ALL.into_iter().filter(|c| *c != Column::Blind || blind).collect();
    let mut text = table_of(c, pair, &columns, None, color);
    let mut left_out = Vec::new();
    for droppable in [Column::Tied, Column::Questions, Column::Blind, Column::Detectable] {
        if widest(&text) <= width {
            break;
        }
        if let Some(at) = columns.iter().position(|c| *c == droppable) {
            columns.remove(at);
            left_out.push(header(c, pair, droppable).replace('\n', " "));
            text = table_of(c, pair, &columns, None, color);
        }
    }
    if widest(&text) > width {
        text = table_of(c, pair, &columns, Some(width), color);
    }
    text.push('\n');
    if !left_out.is_empty() {
        let said = format!("Columns that do not fit this width: {} (JSON and CSV have them).", left_out.join(", "));
        paragraph_into(&mut text, width, "", "", &said);
    }
    (text, columns)
}

fn table_of(c: &Comparison, pair: &ArmComparison, columns: &[Column], width: Option<usize>, color: bool) -> String {
    let mut table = ruled(width, color);
    table.set_header(columns.iter().map(|column| header(c, pair, *column)));
    let mut add = |s: &ScopeComparison, indented: bool| {
        let bold = (color && s.separable).then_some(Attribute::Bold);
        table.add_row(columns.iter().map(|column| styled(cell(*column, s, indented), bold)));
    };
    pair.of_kind(ScopeKind::Average).for_each(|s| add(s, false));
    for category in pair.of_kind(ScopeKind::Category) {
        add(category, false);
        pair.of_kind(ScopeKind::Benchmark).filter(|s| s.category == category.category).for_each(|s| add(s, true));
    }
    if pair.of_kind(ScopeKind::Category).next().is_none() {
        pair.of_kind(ScopeKind::Benchmark).for_each(|s| add(s, false));
    }
    align(&mut table, 0);
    table.trim_fmt()
}

/// Largest width of a label in the header; longer ones are wrapped.
const LABEL: usize = 9;

fn header(c: &Comparison, pair: &ArmComparison, column: Column) -> String {
    let label =
        |i: usize| formatting::wrap(&shown(&pair.labels[i]).replace('-', "- "), LABEL).join("\n").replace("- ", "-");
    match column {
        Column::Scope => String::new(),
        Column::A => label(0),
        Column::B => label(1),
        Column::Difference => "differ-\nence".into(),
        Column::Interval => "interval".into(),
        Column::P => "adj. p".into(),
        Column::Won => "won".into(),
        Column::Lost => "lost".into(),
        Column::Tied => "tied".into(),
        Column::Blind => "blind".into(),
        Column::Detectable => "detect-\nable".into(),
        Column::Questions => format!("questions\nfor {}", c.options.detect),
    }
}

fn cell(column: Column, s: &ScopeComparison, indented: bool) -> String {
    let mark = if s.separable { " *" } else { "  " };
    match column {
        Column::Scope => format!("{}{}", if indented { "  " } else { "" }, shown(&s.scope)),
        Column::A => formatting::score(s.a),
        Column::B => formatting::score(s.b),
        Column::Difference => format!("{}{mark}", signed(s.difference)),
        Column::Interval => format!("{} to {}", signed(s.low), signed(s.high)),
        Column::P => p_cell(s.p_adjusted),
        Column::Won => s.outcomes.won.to_string(),
        Column::Lost => s.outcomes.lost.to_string(),
        Column::Tied => s.outcomes.tied.to_string(),
        Column::Blind => s.blind.map_or("–".into(), |b| signed(b.difference)),
        Column::Detectable => power_cells(s)[0].clone(),
        Column::Questions => power_cells(s)[1].clone(),
    }
}

/// Formats the differing questions: what was asked, what is right, what both answered.
fn questions(pair: &ArmComparison, width: usize) -> String {
    let mut text = String::new();
    let [a, b] = &pair.labels;
    for (won, title) in [(true, format!("Won by {a}")), (false, format!("Won by {b}"))] {
        let chosen: Vec<&DifferingQuestion> = pair.questions.iter().filter(|q| (q.difference > 0.0) == won).collect();
        if chosen.is_empty() {
            continue;
        }
        text.push('\n');
        paragraph_into(&mut text, width, "", "", &format!("{title} (the largest differences):"));
        for q in chosen {
            let subtask = if q.subtask.is_empty() { String::new() } else { format!(" ({})", q.subtask) };
            paragraph_into(&mut text, width, "- ", "  ", &format!("{} {}{subtask}: {}", q.benchmark, q.id, asked(q)));
            let answers = |side: &AnswersOfSide| {
                let all: Vec<String> = side.answers.iter().map(|a| quoted(a)).collect();
                format!("{} ({:.2})", all.join(" / "), side.score)
            };
            let line = format!("right: {}; {a}: {}; {b}: {}", quoted(&q.right()), answers(&q.a), answers(&q.b));
            paragraph_into(&mut text, width, "  ", "  ", &line);
        }
    }
    text
}

fn asked(q: &DifferingQuestion) -> String {
    if q.question.is_empty() { "(the question is not in the file)".to_string() } else { excerpt(&q.question, 200) }
}

fn quoted(text: &str) -> String {
    format!("“{}”", excerpt(text, 80))
}
