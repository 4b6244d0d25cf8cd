//! All results computed from the paper's tables: for a page, a terminal, or (as JSON) another program.

use super::checks::{NumberCheck, NumberKind};
use super::columns::SCOPES;
use super::correlation_distance::CorrelationDistance;
use super::csv_sheet::PrintAgreement;
use super::encoder_family::{EncoderFamily, number};
use super::score_table::{ScoreTable, TableRow};
use super::tables::{FROZEN, PaperTables};
use super::unfreezing;
use crate::analysis::{CorrelationAnalysis, VisionShare, analyse};
use burgess_base::Result;
use serde::Serialize;

/// A model of a table, recomputed. Arrays are by [`SCOPES`]: the average, then the four categories.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecomputedModel {
    /// Name of the model.
    pub model: String,
    /// Family of the encoder, if the model is one encoder of the paper's catalogue.
    pub family: Option<EncoderFamily>,
    /// Means as the paper prints them; `None` if it does not.
    pub printed: [Option<String>; 5],
    /// Computed means; `None` if the paper lacks one of the columns.
    pub computed: [Option<f64>; 5],
    /// Agreement of computed and printed means; `None` if one is missing.
    pub agreement: [Option<PrintAgreement>; 5],
    /// Rank within the table, 1 for the highest.
    pub rank: [Option<usize>; 5],
}

/// A table with its models, the highest average first and those without an average last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecomputedTable {
    /// Name of the CSV file.
    pub file: String,
    /// Number of the table in the paper, such as `Table 9`.
    pub number: String,
    /// Subject of the table.
    pub about: String,
    /// The models, best first.
    pub models: Vec<RecomputedModel>,
}

impl RecomputedTable {
    fn of(table: &ScoreTable) -> Self {
        let ranks: Vec<Vec<Option<usize>>> = (0..SCOPES.len()).map(|scope| table.ranks(scope)).collect();
        let rank = |scope: usize, row: usize| ranks.get(scope).and_then(|r| r.get(row)).copied().flatten();
        let standing = |(i, row): (usize, &TableRow)| {
            let printed = |scope: usize| row.printed.get(scope).copied().flatten();
            RecomputedModel {
                model: row.model.clone(),
                family: number(&row.model).and_then(EncoderFamily::of),
                printed: std::array::from_fn(|s| printed(s).map(|p| p.text())),
                computed: std::array::from_fn(|s| row.mean(s)),
                agreement: std::array::from_fn(|s| Some(printed(s)?.compare(row.mean(s)?, row.rounding_error(s)))),
                rank: std::array::from_fn(|s| rank(s, i)),
            }
        };
        let mut models: Vec<RecomputedModel> = table.rows.iter().enumerate().map(standing).collect();
        models.sort_by_key(|m| m.rank.first().copied().flatten().unwrap_or(usize::MAX));
        Self { file: table.file.clone(), number: table.number.clone(), about: table.about.clone(), models }
    }
}

/// Number of checks of one kind, by agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CheckCount {
    /// Kind of the numbers.
    pub kind: NumberKind,
    /// Number of checks.
    pub numbers: usize,
    /// Numbers that are equal to the last printed digit.
    pub same: usize,
    /// Numbers that differ, but by no more than the rounding of the columns allows.
    pub within_rounding: usize,
    /// Numbers that differ by more than rounding allows.
    pub differ: usize,
}

/// The change by unfreezing in a group of models, in one column of the paper's figure, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnfreezingChange {
    /// Name of the group of models, or of one model.
    pub group: String,
    /// Name of the column in the CSV file.
    pub column: String,
    /// The change that the paper prints.
    pub printed: f64,
    /// The computed change; `None` if it needs V\*Star, which is in no table.
    pub computed: Option<f64>,
}

/// All results computed from the paper's tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecomputedPaper {
    /// The tables of scores with their rankings.
    pub tables: Vec<RecomputedTable>,
    /// Number of checks by kind and agreement.
    pub tallies: Vec<CheckCount>,
    /// Every check of a printed number.
    pub checks: Vec<NumberCheck>,
    /// Scores with the image, without it and at chance.
    pub sights: Vec<VisionShare>,
    /// Analysis over the frozen encoders with 1.2M adapter samples.
    pub analysis: CorrelationAnalysis,
    /// The printed correlations, compared with those over several sets of models.
    pub correlations: Vec<CorrelationDistance>,
    /// Changes by unfreezing, by group and column.
    pub unfreezing: Vec<UnfreezingChange>,
}

impl RecomputedPaper {
    /// Computes all results.
    ///
    /// # Errors
    /// An error is returned if a table is missing.
    pub fn of(published: &PaperTables) -> Result<Self> {
        let checks = published.checks()?;
        Ok(Self {
            tables: published.tables.iter().map(RecomputedTable::of).collect(),
            tallies: tallies(&checks),
            checks,
            sights: published.vision_shares()?,
            analysis: analyse(&published.table(FROZEN)?.matrix()?)?,
            correlations: published.correlation_checks()?,
            unfreezing: changes(published)?,
        })
    }
}

fn tallies(checks: &[NumberCheck]) -> Vec<CheckCount> {
    let mut kinds: Vec<NumberKind> = checks.iter().map(|c| c.kind).collect();
    kinds.sort();
    kinds.dedup();
    let tally = |kind: NumberKind| {
        let count =
            |agreement: PrintAgreement| checks.iter().filter(|c| c.kind == kind && c.agreement == agreement).count();
        let (same, within_rounding, differ) =
            (count(PrintAgreement::Same), count(PrintAgreement::WithinRounding), count(PrintAgreement::Differs));
        CheckCount { kind, numbers: same + within_rounding + differ, same, within_rounding, differ }
    };
    kinds.into_iter().map(tally).collect()
}

fn changes(published: &PaperTables) -> Result<Vec<UnfreezingChange>> {
    let mut changes = Vec::new();
    for group in &published.unfreezing {
        for (column, printed) in &group.values {
            // The figure's Vision-centric and average scores include V*Star; those of the tables do not.
            let computed = match unfreezing::HAS_VSTAR.contains(&column.as_str()) {
                true => None,
                false => unfreezing::change(published, &group.name, column)?.map(|c| c.value),
            };
            let (group, column) = (group.name.clone(), column.clone());
            changes.push(UnfreezingChange { group, column, printed: printed.value, computed });
        }
    }
    Ok(changes)
}
