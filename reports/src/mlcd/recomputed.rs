//! What is computed from the table: for a page, a terminal, or (as JSON) another program.

use super::columns::{MLCD_COLUMNS, MLCD_SCOPES, MlcdColumn};
use super::rows::{MlcdRow, MlcdTable};
use super::{MLCD_SOURCE, MlcdSource};
use crate::paper::{COLUMNS, EncoderFamily, FROZEN, PaperTables, ranks};
use crate::stats;
use burgess_base::{Error, Result};
use serde::Serialize;

/// The encoders that are in both publications: name in this table, catalogue number in the Cambrian-1 paper.
const SHARED: [(&str, usize); 3] =
    [("CLIP ViT-L/14@336", 1), ("SigLIP ViT-SO400M/14@384", 6), ("DFN5B ViT-H/14@378", 3)];

/// An encoder of the table, with means and ranks. Arrays of scopes are by [`MLCD_SCOPES`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecomputedMlcdModel {
    /// Name of the encoder.
    pub model: String,
    /// Kind of supervision: MLCD's encoders learn clusters of images, the others pairs of image and text.
    pub family: EncoderFamily,
    /// Whether the encoder has two-dimensional rotary position embeddings.
    pub rope_2d: bool,
    /// Scores by [`MLCD_COLUMNS`], as printed.
    pub printed: [String; MLCD_COLUMNS.len()],
    /// Means in percent.
    pub means: [f64; MLCD_SCOPES.len()],
    /// Half the widths of the means' 95 % intervals in points, at most ([`MlcdRow::sampling_error`]).
    pub sampling_errors: [f64; MLCD_SCOPES.len()],
    /// Ranks, 1 for the highest.
    pub ranks: [Option<usize>; MLCD_SCOPES.len()],
}

/// One encoder in both publications.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedEncoder {
    /// Name of the encoder.
    pub model: String,
    /// Mean of the shared benchmarks in this table, in percent.
    pub here: f64,
    /// Mean of the same benchmarks in the Cambrian-1 paper's table, in percent.
    pub cambrian: f64,
}

/// The encoders that the Cambrian-1 paper compares too, on the benchmarks that both have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CambrianComparison {
    /// File of the Cambrian-1 paper's table.
    pub file: &'static str,
    /// Names of the shared benchmarks.
    pub benchmarks: Vec<&'static str>,
    /// The encoders, the highest mean in this table first.
    pub encoders: Vec<ComparedEncoder>,
    /// Kendall's τ of the two means.
    pub kendall: Option<f64>,
}

/// Everything that is computed from the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecomputedMlcd {
    /// Source of the table.
    pub source: MlcdSource,
    /// The columns, with their categories and numbers of questions.
    pub columns: [MlcdColumn; MLCD_COLUMNS.len()],
    /// Names of the scopes.
    pub scopes: [&'static str; MLCD_SCOPES.len()],
    /// The encoders, the highest average first.
    pub models: Vec<RecomputedMlcdModel>,
    /// The same encoders in the Cambrian-1 paper.
    pub cambrian: CambrianComparison,
}

impl RecomputedMlcd {
    /// Computes means, ranks and the comparison.
    ///
    /// # Errors
    /// An error is returned if an encoder that both publications have is missing in one of them.
    pub fn of(table: &MlcdTable, paper: &PaperTables) -> Result<Self> {
        let means = |scope: usize| -> Vec<Option<f64>> {
            table.rows.iter().map(|r| MLCD_SCOPES.get(scope).map(|s| r.mean(s))).collect()
        };
        let places: [Vec<Option<usize>>; MLCD_SCOPES.len()] = std::array::from_fn(|scope| ranks(&means(scope)));
        let model = |(i, row): (usize, &MlcdRow)| RecomputedMlcdModel {
            model: row.model.clone(),
            family: if row.model.starts_with("MLCD") {
                EncoderFamily::Other
            } else {
                EncoderFamily::LanguageSupervised
            },
            rope_2d: row.rope_2d,
            printed: row.scores.map(|s| s.text()),
            means: MLCD_SCOPES.map(|s| row.mean(&s)),
            sampling_errors: MLCD_SCOPES.map(|s| row.sampling_error(&s)),
            ranks: std::array::from_fn(|s| places.get(s).and_then(|p| p.get(i)).copied().flatten()),
        };
        let mut models: Vec<RecomputedMlcdModel> = table.rows.iter().enumerate().map(model).collect();
        models.sort_by_key(|m| m.ranks);
        Ok(Self {
            source: MLCD_SOURCE,
            columns: MLCD_COLUMNS,
            scopes: MLCD_SCOPES.map(|s| s.name),
            models,
            cambrian: compared(table, paper)?,
        })
    }

    /// Says in sentences where the numbers come from, how the means are defined, and what they can show.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = vec![
            format!(
                "Printed scores: README of github.com/deepglint/unicom ({}, {}). Recipe: {}. Evaluated with {}.",
                self.source.date, self.source.licence, self.source.recipe, self.source.evaluation
            ),
            "The README prints no means. Here OCRBench is divided by 10; OCR & Chart is the mean of ChartQA, DocVQA, \
             InfoVQA and OCRBench; Knowledge is MMMU alone; the average is the mean of the two categories."
                .to_string(),
        ];
        let largest = |scope: usize| {
            self.models.iter().filter_map(|m| m.sampling_errors.get(scope)).fold(0.0f64, |most, e| most.max(*e))
        };
        let errors = self.scopes.iter().enumerate().map(|(i, s)| format!("{s} ±{:.1}", largest(i)));
        sentences.push(format!(
            "The README prints one number per encoder, without intervals. Sampling of questions alone makes each score \
             uncertain by at most (95 %, independent questions): {}.",
            errors.collect::<Vec<_>>().join(", ")
        ));
        let c = &self.cambrian;
        let means = c.encoders.iter().map(|e| format!("{} {:.1} ({:.1})", e.model, e.here, e.cambrian));
        sentences.push(format!(
            "Mean of {} here (and in Table 11 of Cambrian-1, frozen encoders): {}. Kendall τ of the {} means: {}.",
            c.benchmarks.join(", "),
            means.collect::<Vec<_>>().join(", "),
            c.encoders.len(),
            c.kendall.map_or("undefined".to_string(), |t| format!("{t:.2}"))
        ));
        sentences
    }
}

fn compared(table: &MlcdTable, paper: &PaperTables) -> Result<CambrianComparison> {
    let published = paper.table(FROZEN)?;
    let shared: Vec<(usize, usize)> = MLCD_COLUMNS
        .iter()
        .enumerate()
        .filter_map(|(here, c)| Some((here, COLUMNS.iter().position(|p| Some(p.name) == c.cambrian)?)))
        .collect();
    let compare = |(model, number): &(&str, usize)| -> Result<ComparedEncoder> {
        let missing = |file: &str| Error::failed(format!("{file} has no complete row of {model}"));
        let row = table.rows.iter().find(|r| r.model == *model).ok_or_else(|| missing(MLCD_SOURCE.file))?;
        let percent = row.percent();
        let here: Option<Vec<f64>> = shared.iter().map(|(h, _)| percent.get(*h).copied()).collect();
        let cambrian: Option<Vec<f64>> =
            published.encoder(*number).and_then(|r| shared.iter().map(|(_, p)| r.percent(*p)).collect());
        Ok(ComparedEncoder {
            model: model.to_string(),
            here: here.and_then(|v| stats::mean(&v)).ok_or_else(|| missing(MLCD_SOURCE.file))?,
            cambrian: cambrian.and_then(|v| stats::mean(&v)).ok_or_else(|| missing(FROZEN))?,
        })
    };
    let mut encoders = SHARED.iter().map(compare).collect::<Result<Vec<_>>>()?;
    encoders.sort_by(|a, b| b.here.total_cmp(&a.here));
    let (here, there): (Vec<f64>, Vec<f64>) = encoders.iter().map(|e| (e.here, e.cambrian)).unzip();
    Ok(CambrianComparison {
        file: FROZEN,
        benchmarks: shared.iter().filter_map(|(h, _)| MLCD_COLUMNS.get(*h)).map(|c| c.name).collect(),
        kendall: stats::kendall_tau(&here, &there),
        encoders,
    })
}
