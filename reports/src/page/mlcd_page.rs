//! The encoder table of MLCD's README as one self-contained page: printed scores, means, ranks, and the same encoders
//! in the Cambrian-1 paper.
//!
//! The text and its order are in `templates/mlcd.html`; this module computes what fills it.

use super::template;
use crate::figure::{self, family_class};
use crate::mlcd::{MlcdTable, RecomputedMlcd, RecomputedMlcdModel};
use crate::paper::{EncoderFamily, PaperTables};
use burgess_base::{Result, atomic};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The result of [`write()`].
#[derive(Debug, Clone)]
pub struct WrittenMlcdPage {
    /// All results computed from the table.
    pub outcome: RecomputedMlcd,
    /// Path of the page, `index.html`.
    pub page: PathBuf,
    /// Path of the outcome as JSON, `published.json`.
    pub data: PathBuf,
}

/// Computes means, ranks and the comparison, and writes page and JSON to a directory.
///
/// # Errors
/// An error is returned if a file cannot be written, or if a built-in table is malformed.
pub fn write(out: &Path) -> Result<WrittenMlcdPage> {
    let outcome = RecomputedMlcd::of(&MlcdTable::load()?, &PaperTables::load()?)?;
    let (page, data) = (out.join("index.html"), out.join("published.json"));
    atomic::write(&page, html(&outcome)?.as_bytes())?;
    atomic::write_json(&data, &outcome)?;
    Ok(WrittenMlcdPage { outcome, page, data })
}

/// Renders the page.
///
/// # Errors
/// An error is returned if the template fails.
pub fn html(outcome: &RecomputedMlcd) -> Result<String> {
    template::render(
        "mlcd.html",
        &MlcdPageValues {
            style: template::style(),
            version: env!("CARGO_PKG_VERSION"),
            url: outcome.source.url,
            file: outcome.source.file,
            sentences: outcome.sentences(),
            families: [EncoderFamily::LanguageSupervised, EncoderFamily::Other]
                .map(|f| (family_class(Some(f)), if f == EncoderFamily::Other { "MLCD" } else { f.name() })),
            scopes: outcome.scopes,
            columns: outcome.columns.map(|c| c.name),
            rows: outcome.models.iter().map(shown).collect(),
            means: (0..outcome.scopes.len()).filter_map(|s| means(outcome, s)).collect(),
            cambrian: outcome
                .cambrian
                .encoders
                .iter()
                .map(|e| [e.model.clone(), format!("{:.1}", e.here), format!("{:.1}", e.cambrian)])
                .collect(),
            shared: outcome.cambrian.benchmarks.join(", "),
        },
    )
}

/// The values that fill the template.
#[derive(Serialize)]
struct MlcdPageValues {
    style: String,
    version: &'static str,
    url: &'static str,
    file: &'static str,
    sentences: Vec<String>,
    /// Kinds of encoders as (CSS class, name).
    families: [(&'static str, &'static str); 2],
    scopes: [&'static str; 3],
    columns: [&'static str; 5],
    rows: Vec<ShownEncoder>,
    means: Vec<String>,
    cambrian: Vec<[String; 3]>,
    shared: String,
}

#[derive(Serialize)]
struct ShownEncoder {
    class: &'static str,
    model: String,
    rope: &'static str,
    printed: Vec<String>,
    /// Mean with sampling error, and rank, per scope.
    means: Vec<(String, String)>,
}

fn shown(m: &RecomputedMlcdModel) -> ShownEncoder {
    let values = m.means.iter().zip(&m.sampling_errors).zip(&m.ranks);
    ShownEncoder {
        class: family_class(Some(m.family)),
        model: m.model.clone(),
        rope: if m.rope_2d { "yes" } else { "no" },
        printed: m.printed.to_vec(),
        means: values
            .map(|((mean, error), rank)| {
                (format!("{mean:.2} ±{error:.1}"), rank.map_or(String::new(), |r| r.to_string()))
            })
            .collect(),
    }
}

/// Draws the encoders in a scope, best first.
fn means(outcome: &RecomputedMlcd, scope: usize) -> Option<String> {
    let name = outcome.scopes.get(scope)?;
    let mut rows: Vec<(String, Option<EncoderFamily>, f64)> =
        outcome.models.iter().filter_map(|m| Some((m.model.clone(), Some(m.family), *m.means.get(scope)?))).collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    let said: Vec<String> = rows.iter().map(|(model, _, v)| format!("{model} {v:.1}")).collect();
    Some(figure::means_panel(name, &rows, figure::PANEL).inline(&format!("Encoders: {name}"), &said.join("; ")))
}
