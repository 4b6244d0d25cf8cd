//! The tables of the Cambrian-1 paper, recomputed, as CSV, Markdown and LaTeX.

use super::{Sheet, SheetCell, SheetRow, csv_number, csv_text};
use crate::paper::{PrintAgreement, RecomputedModel, RecomputedPaper, RecomputedTable, SCOPES, short};

/// Formats the paper's tables as CSV: one row per table, model and scope, with the computed mean, the printed one, and
/// how they agree (`same`, `within rounding`, `differs`; empty if one is missing).
pub fn paper_csv(paper: &RecomputedPaper) -> String {
    let mut text = "table,file,model,scope,rank,computed,printed,agreement\n".to_string();
    for table in &paper.tables {
        for model in &table.models {
            let values = model.rank.iter().zip(&model.computed).zip(model.printed.iter().zip(&model.agreement));
            for (scope, ((rank, computed), (printed, agreement))) in SCOPES.iter().zip(values) {
                let cells = [
                    csv_text(&table.number),
                    csv_text(&table.file),
                    csv_text(short(&model.model)),
                    csv_text(scope),
                    rank.map_or(String::new(), |r| r.to_string()),
                    computed.map_or(String::new(), csv_number),
                    printed.clone().unwrap_or_default(),
                    agreement.map_or("", words).to_string(),
                ];
                text += &(cells.join(",") + "\n");
            }
        }
    }
    text
}

fn words(agreement: PrintAgreement) -> &'static str {
    match agreement {
        PrintAgreement::Same => "same",
        PrintAgreement::WithinRounding => "within rounding",
        PrintAgreement::Differs => "differs",
    }
}

/// Returns the paper's tables with computed averages and categories, and the printed averages beside them.
pub fn paper_sheets(paper: &RecomputedPaper) -> Vec<Sheet> {
    paper.tables.iter().map(sheet).collect()
}

fn sheet(table: &RecomputedTable) -> Sheet {
    let row = |m: &RecomputedModel| -> SheetRow {
        let [rank, ..] = m.rank;
        let [printed, ..] = &m.printed;
        let mut means = m.computed.iter().map(|v| SheetCell::from(v.map_or("–".to_string(), |v| format!("{v:.2}"))));
        let mut cells = vec![
            SheetCell::from(rank.map_or("–".to_string(), |r| r.to_string())),
            SheetCell::from(short(&m.model).to_string()),
        ];
        cells.extend(means.next());
        cells.push(printed.clone().unwrap_or_else(|| "–".to_string()).into());
        cells.extend(means);
        cells.into_iter().collect()
    };
    let mut header: Vec<String> = ["rank", "model", "average", "printed"].map(String::from).to_vec();
    header.extend(SCOPES.iter().skip(1).map(ToString::to_string));
    Sheet {
        caption: format!(
            "{} ({} of the Cambrian-1 paper), computed again from its columns.",
            table.about, table.number
        ),
        label: format!("cambrian-1-{}", table.file.trim_end_matches(".csv")),
        header,
        texts: 2,
        groups: vec![table.models.iter().map(row).collect()],
        notes: Vec::new(),
    }
}
