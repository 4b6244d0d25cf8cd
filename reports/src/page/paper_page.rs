//! The paper's tables as one self-contained page: printed numbers, derived numbers, and redrawn figures.
//!
//! The text and its order are in `templates/paper.html`; this module computes what fills it.

use super::analysis_section::{self, AnalysisSection, VisionSection};
use super::template;
use crate::figure::{self, AdapterRow, ChangeRow, family_class};
use crate::formatting;
use crate::paper::UnfreezingChange;
use crate::paper::{
    ADAPTER, COLUMNS, CheckCount, CorrelationDistance, EncoderFamily, FROZEN, PaperTables, PrintAgreement,
    RecomputedModel, RecomputedPaper, RecomputedTable, SCOPE_COLUMNS, SCOPES, UNFROZEN, number, short,
};
use burgess_base::{Category, Result, atomic};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The result of [`write()`].
#[derive(Debug, Clone)]
pub struct WrittenPaperPage {
    /// All results computed from the paper's tables.
    pub outcome: RecomputedPaper,
    /// Path of the page, `index.html`.
    pub page: PathBuf,
    /// Path of the outcome as JSON, `published.json`.
    pub data: PathBuf,
}

/// Computes all derived numbers of the paper's tables and writes page and JSON to a directory.
///
/// # Errors
/// An error is returned if a file cannot be written, or if a built-in table is malformed.
pub fn write(out: &Path) -> Result<WrittenPaperPage> {
    let outcome = RecomputedPaper::of(&PaperTables::load()?)?;
    let (page, data) = (out.join("index.html"), out.join("published.json"));
    atomic::write(&page, html(&outcome)?.as_bytes())?;
    atomic::write_json(&data, &outcome)?;
    Ok(WrittenPaperPage { outcome, page, data })
}

/// Renders the page.
///
/// # Errors
/// An error is returned if the template fails.
pub fn html(outcome: &RecomputedPaper) -> Result<String> {
    let class = |model: &str| {
        let of = |m: &&RecomputedModel| short(&m.model) == model;
        let mut frozen = outcome.tables.iter().filter(|t| t.file == FROZEN).flat_map(|t| &t.models);
        family_class(frozen.find(of).and_then(|m| m.family)).to_string()
    };
    let families = EncoderFamily::ALL.map(|f| (family_class(Some(f)), f.name()));
    template::render(
        "paper.html",
        &PaperPageValues {
            style: template::style(),
            version: env!("CARGO_PKG_VERSION"),
            families: families.to_vec(),
            scopes: SCOPES,
            tallies: outcome.tallies.iter().map(counted).collect(),
            differences: outcome
                .checks
                .iter()
                .filter(|c| c.agreement != PrintAgreement::Same)
                .map(|c| DifferenceRow {
                    what: format!("{}, {}", c.file, c.column),
                    row: c.row.clone(),
                    printed: c.printed.clone(),
                    computed: format!("{:.4}", c.computed),
                    mark: mark(c.agreement),
                    why: c.why.unwrap_or(""),
                })
                .collect(),
            tables: outcome.tables.iter().map(shown).collect(),
            adapter_broad: adapter(outcome, 800.0, ""),
            adapter_narrow: adapter(outcome, figure::PANEL, ", narrow"),
            means: (0..SCOPES.len()).filter_map(|s| means(outcome, s)).collect(),
            unfreezing: unfreezing(&outcome.unfreezing),
            unfrozen: unfrozen(outcome),
            measured: analysis_section::measured(&outcome.sights),
            analysed: analysis_section::analysed(&outcome.analysis, "encoder", &families, class),
            beside: outcome.correlations.iter().map(beside).collect(),
        },
    )
}

/// The values that fill the template.
#[derive(Serialize)]
struct PaperPageValues {
    style: String,
    version: &'static str,
    /// Families as (CSS class, name).
    families: Vec<(&'static str, &'static str)>,
    scopes: [&'static str; 5],
    tallies: Vec<CountRow>,
    differences: Vec<DifferenceRow>,
    tables: Vec<ShownTable>,
    adapter_broad: String,
    adapter_narrow: String,
    means: Vec<String>,
    unfreezing: Vec<String>,
    unfrozen: Vec<[String; 5]>,
    measured: VisionSection,
    analysed: AnalysisSection,
    beside: Vec<[String; 4]>,
}

#[derive(Serialize)]
struct CountRow {
    kind: &'static str,
    numbers: usize,
    same: usize,
    within_rounding: usize,
    differ: usize,
}

fn counted(t: &CheckCount) -> CountRow {
    let CheckCount { kind, numbers, same, within_rounding, differ } = *t;
    CountRow { kind: kind.name(), numbers, same, within_rounding, differ }
}

#[derive(Serialize)]
struct DifferenceRow {
    what: String,
    row: String,
    printed: String,
    computed: String,
    mark: &'static str,
    why: &'static str,
}

/// Returns the mark that follows a number.
fn mark(agreement: PrintAgreement) -> &'static str {
    match agreement {
        PrintAgreement::Same => "",
        PrintAgreement::WithinRounding => "≈",
        PrintAgreement::Differs => "≠",
    }
}

#[derive(Serialize)]
struct ShownTable {
    about: String,
    number: String,
    file: String,
    rows: Vec<ShownRow>,
}

#[derive(Serialize)]
struct ShownRow {
    class: &'static str,
    model: String,
    printed: String,
    /// One cell per scope.
    cells: Vec<ScopeCell>,
}

#[derive(Serialize)]
struct ScopeCell {
    value: String,
    mark: &'static str,
    rank: String,
}

fn shown(table: &RecomputedTable) -> ShownTable {
    let cell = |m: &RecomputedModel, scope: usize| {
        let at = |of: &[Option<f64>; 5]| of.get(scope).copied().flatten();
        ScopeCell {
            value: at(&m.computed).map_or("–".into(), |v| format!("{v:.2}")),
            mark: m.agreement.get(scope).copied().flatten().map_or("", mark),
            rank: m.rank.get(scope).copied().flatten().map_or(String::new(), |r| r.to_string()),
        }
    };
    let row = |m: &RecomputedModel| ShownRow {
        class: family_class(m.family),
        model: short(&m.model).to_string(),
        printed: m.printed.first().cloned().flatten().unwrap_or("–".into()),
        cells: (0..SCOPES.len()).map(|s| cell(m, s)).collect(),
    };
    ShownTable {
        about: table.about.clone(),
        number: table.number.clone(),
        file: table.file.clone(),
        rows: table.models.iter().map(row).collect(),
    }
}

/// Returns a catalogue encoder of a table.
fn standing<'a>(outcome: &'a RecomputedPaper, file: &str, encoder: usize) -> Option<&'a RecomputedModel> {
    let table = outcome.tables.iter().find(|t| t.file == file)?;
    table.models.iter().find(|m| number(&m.model) == Some(encoder))
}

fn average(m: &RecomputedModel) -> Option<f64> {
    m.computed.first().copied().flatten()
}

/// Draws the encoders, ordered by their average with the most adapter data, best first.
fn adapter(outcome: &RecomputedPaper, width: f64, where_: &str) -> String {
    let mut encoders: Vec<AdapterRow> = (1..)
        .map_while(|n| EncoderFamily::of(n).map(|family| (n, family)))
        .filter_map(|(n, family)| {
            let rows = ADAPTER.map(|(_, file)| standing(outcome, file, n));
            let name = rows.iter().flatten().next().map(|m| short(&m.model).to_string())?;
            Some(AdapterRow { name, family, averages: rows.map(|m| m.and_then(average)) })
        })
        .collect();
    let best = |e: &AdapterRow| e.averages.iter().rev().flatten().next().copied().unwrap_or(0.0);
    encoders.sort_by(|a, b| best(b).total_cmp(&best(a)));
    let number = |n: Option<f64>| n.map_or("none".to_string(), |n| format!("{n:.1}"));
    let said: Vec<String> =
        encoders.iter().map(|e| format!("{} {}", e.name, e.averages.map(number).join(", "))).collect();
    let title = format!("Averages with 0, 0.5 and 1.2 million adapter samples{where_}");
    figure::adapter(&encoders, width).inline(&title, &said.join("; "))
}

/// Draws the frozen encoders in a scope, best first.
fn means(outcome: &RecomputedPaper, scope: usize) -> Option<String> {
    let table = outcome.tables.iter().find(|t| t.file == FROZEN)?;
    let mut rows: Vec<(String, Option<EncoderFamily>, f64)> = table
        .models
        .iter()
        .filter_map(|m| Some((short(&m.model).to_string(), m.family, m.computed.get(scope).copied().flatten()?)))
        .collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    let said: Vec<String> = rows.iter().map(|(name, _, v)| format!("{name} {v:.1}")).collect();
    let name = SCOPES.get(scope).copied()?;
    Some(figure::means_panel(name, &rows, figure::PANEL).inline(&format!("Frozen encoders: {name}"), &said.join("; ")))
}

/// Draws one panel for each group of models in the paper's figure, all with the same axis.
fn unfreezing(changes: &[UnfreezingChange]) -> Vec<String> {
    let mut groups: Vec<&str> = Vec::new();
    for change in changes.iter().filter(|c| c.column == "G") {
        groups.push(&change.group);
    }
    let of = |group: &str| changes.iter().filter(|c| c.group == group).map(change_row).collect::<Vec<ChangeRow>>();
    let rows: Vec<Vec<ChangeRow>> = groups.iter().map(|g| of(g)).collect();
    let values = || rows.iter().flatten().flat_map(|r| [Some(r.printed), r.computed]).flatten();
    // Steps of 5, with room for a ring at the end.
    let (least, most) = values().fold((0.0f64, 0.0f64), |(l, m), v| (l.min(v - 1.5), m.max(v + 1.5)));
    let reach = ((least / 5.0).floor() * 5.0, (most / 5.0).ceil() * 5.0);
    let panel = |(group, rows): (&&str, &Vec<ChangeRow>)| {
        let said: Vec<String> = rows.iter().map(|r| format!("{} {}", r.name, formatting::signed(r.printed))).collect();
        let title = format!("Effect of unfreezing, in percent: {group}");
        figure::unfreezing_group(group, rows, reach).inline(&title, &said.join("; "))
    };
    groups.iter().zip(&rows).map(panel).collect()
}

/// Converts a column of the figure to a row with full name and category.
fn change_row(change: &UnfreezingChange) -> ChangeRow {
    let column = change.column.as_str();
    let scope = SCOPE_COLUMNS.iter().position(|s| *s == column);
    let benchmark = COLUMNS.iter().find(|c| c.name == column);
    let (name, category) = match (scope, benchmark) {
        (Some(scope), _) => {
            (SCOPES.get(scope).copied().unwrap_or(column), scope.checked_sub(1).and_then(|c| Category::CAMBRIAN.get(c)))
        }
        (None, Some(benchmark)) => (benchmark.benchmark, Some(benchmark.category)),
        // CV-Bench as a whole, and V*, which no table has.
        (None, None) => (if column == "CV" { "CV-Bench" } else { "V*" }, Some(&Category::VISION_CENTRIC)),
    };
    ChangeRow {
        name: name.to_string(),
        category,
        heading: scope.is_some(),
        computed: change.computed,
        printed: change.printed,
    }
}

/// Returns the rows of frozen and unfrozen encoders: name, two averages, difference in points, printed change in
/// percent.
fn unfrozen(outcome: &RecomputedPaper) -> Vec<[String; 5]> {
    let Some(table) = outcome.tables.iter().find(|t| t.file == UNFROZEN) else { return Vec::new() };
    let row = |m: &RecomputedModel| {
        let before = average(standing(outcome, FROZEN, number(&m.model)?)?)?;
        let after = average(m)?;
        let printed = outcome.unfreezing.iter().find(|c| c.group == m.model && c.column == "Avg");
        Some([
            short(&m.model).to_string(),
            format!("{before:.2}"),
            format!("{after:.2}"),
            formatting::signed(after - before),
            printed.map_or("–".to_string(), |c| formatting::signed(c.printed)),
        ])
    };
    table.models.iter().filter_map(row).collect()
}

fn beside(b: &CorrelationDistance) -> [String; 4] {
    let [x, y] = &b.pair;
    [b.models.clone(), b.count.to_string(), format!("{:.3}", b.mean), format!("{:.2} ({x} and {y})", b.largest)]
}
