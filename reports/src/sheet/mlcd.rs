//! The encoder table of MLCD's README, with means, as CSV, Markdown and LaTeX.

use super::{Sheet, SheetCell, SheetRow, csv_number, csv_text};
use crate::mlcd::{RecomputedMlcd, RecomputedMlcdModel};

/// Formats the table as CSV: one row per encoder and scope with the computed mean and its sampling error, and one per
/// encoder and benchmark with the printed score.
pub fn mlcd_csv(table: &RecomputedMlcd) -> String {
    let mut text = "file,encoder,scope,rank,computed,sampling_error,printed\n".to_string();
    for m in &table.models {
        let mut push = |scope: &str, rank: String, computed: String, error: String, printed: String| {
            let cells =
                [csv_text(table.source.file), csv_text(&m.model), csv_text(scope), rank, computed, error, printed];
            text += &(cells.join(",") + "\n");
        };
        let values = m.ranks.iter().zip(&m.means).zip(&m.sampling_errors);
        for (scope, ((rank, mean), error)) in table.scopes.iter().zip(values) {
            let rank = rank.map_or(String::new(), |r| r.to_string());
            push(scope, rank, csv_number(*mean), csv_number(*error), String::new());
        }
        for (column, printed) in table.columns.iter().zip(&m.printed) {
            push(column.name, String::new(), String::new(), String::new(), printed.clone());
        }
    }
    text
}

/// Returns the table with computed means and printed scores.
pub fn mlcd_sheet(table: &RecomputedMlcd) -> Sheet {
    let row = |m: &RecomputedMlcdModel| -> SheetRow {
        let [rank, ..] = m.ranks;
        let first = [rank.map_or("–".to_string(), |r| r.to_string()), m.model.clone()];
        let means = m.means.iter().map(|v| format!("{v:.2}"));
        first.into_iter().chain(means).chain(m.printed.iter().cloned()).map(SheetCell::from).collect()
    };
    let mut header: Vec<String> = ["rank", "encoder", "average"].map(String::from).to_vec();
    header.extend(table.scopes.iter().skip(1).map(ToString::to_string));
    header.extend(table.columns.iter().map(|c| c.name.to_string()));
    Sheet {
        caption: "Encoders under one recipe, from the README of MLCD; means computed from its columns.".to_string(),
        label: "mlcd-llava-next".to_string(),
        header,
        texts: 2,
        groups: vec![table.models.iter().map(row).collect()],
        notes: table.sentences(),
    }
}
