//! Everything that is computed from the published tables: for a page, a terminal, or (as JSON) another program.

use super::{Agreement, Beside, Check, FROZEN, Family, Kind, Published, Row, SCOPES, Table, number, unfreezing};
use crate::analysis::{Analysis, Sight, analyse};
use burgess_base::Result;
use serde::Serialize;

/// A model of a table, computed again. Arrays are by [`SCOPES`]: the average, then the four categories.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    pub model: String,
    /// Where the model is one encoder of the paper's catalogue.
    pub family: Option<Family>,
    pub printed: [Option<String>; 5],
    /// `None` where the paper lacks one of the columns.
    pub computed: [Option<f64>; 5],
    /// `None` where there is nothing to compare.
    pub agreement: [Option<Agreement>; 5],
    /// Within the table, 1 for the highest.
    pub rank: [Option<usize>; 5],
}

/// A table, the model with the highest average first; those without one last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standings {
    pub file: String,
    pub number: String,
    pub about: String,
    pub models: Vec<Standing>,
}

impl Standings {
    fn of(table: &Table) -> Self {
        let ranks: Vec<Vec<Option<usize>>> = (0..SCOPES.len()).map(|scope| table.ranks(scope)).collect();
        let rank = |scope: usize, row: usize| ranks.get(scope).and_then(|r| r.get(row)).copied().flatten();
        let standing = |(i, row): (usize, &Row)| {
            let printed = |scope: usize| row.printed.get(scope).copied().flatten();
            Standing {
                model: row.model.clone(),
                family: number(&row.model).and_then(Family::of),
                printed: std::array::from_fn(|s| printed(s).map(|p| p.text())),
                computed: std::array::from_fn(|s| row.mean(s)),
                agreement: std::array::from_fn(|s| Some(printed(s)?.compare(row.mean(s)?, row.doubt(s)))),
                rank: std::array::from_fn(|s| rank(s, i)),
            }
        };
        let mut models: Vec<Standing> = table.rows.iter().enumerate().map(standing).collect();
        models.sort_by_key(|m| m.rank.first().copied().flatten().unwrap_or(usize::MAX));
        Self { file: table.file.clone(), number: table.number.clone(), about: table.about.clone(), models }
    }
}

/// How many numbers of a kind are what was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub kind: Kind,
    pub numbers: usize,
    /// To the last printed digit.
    pub same: usize,
    /// Not the same, but no further off than the rounding of the columns allows.
    pub within_rounding: usize,
    pub differ: usize,
}

/// What unfreezing changes in a group of models, in one column of the paper's figure, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unfrozen {
    pub group: String,
    pub column: String,
    pub printed: f64,
    /// `None` where V\*Star, which is in no table, is a part of it.
    pub computed: Option<f64>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub tables: Vec<Standings>,
    pub tallies: Vec<Tally>,
    pub checks: Vec<Check>,
    /// With the picture, without it, by guessing.
    pub sights: Vec<Sight>,
    /// Over the frozen encoders with 1.2M adapter samples.
    pub analysis: Analysis,
    /// The printed correlations beside those of several sets of models.
    pub correlations: Vec<Beside>,
    pub unfreezing: Vec<Unfrozen>,
}

impl Outcome {
    /// Computes it.
    ///
    /// # Errors
    /// A table is missing.
    pub fn of(published: &Published) -> Result<Self> {
        let checks = published.checks()?;
        Ok(Self {
            tables: published.tables.iter().map(Standings::of).collect(),
            tallies: tallies(&checks),
            checks,
            sights: published.sights()?,
            analysis: analyse(&published.table(FROZEN)?.matrix()?)?,
            correlations: published.correlation_checks()?,
            unfreezing: changes(published)?,
        })
    }
}

fn tallies(checks: &[Check]) -> Vec<Tally> {
    let mut kinds: Vec<Kind> = checks.iter().map(|c| c.kind).collect();
    kinds.sort();
    kinds.dedup();
    let tally = |kind: Kind| {
        let count = |agreement: Agreement| checks.iter().filter(|c| c.kind == kind && c.agreement == agreement).count();
        let (same, within_rounding, differ) =
            (count(Agreement::Same), count(Agreement::WithinRounding), count(Agreement::Differs));
        Tally { kind, numbers: same + within_rounding + differ, same, within_rounding, differ }
    };
    kinds.into_iter().map(tally).collect()
}

fn changes(published: &Published) -> Result<Vec<Unfrozen>> {
    let mut changes = Vec::new();
    for group in &published.unfreezing {
        for (column, printed) in &group.values {
            // The figure's Vision-centric and average have V*Star in them, those of the tables have not.
            let computed = match unfreezing::HAS_VSTAR.contains(&column.as_str()) {
                true => None,
                false => unfreezing::change(published, &group.name, column)?.map(|c| c.value),
            };
            let (group, column) = (group.name.clone(), column.clone());
            changes.push(Unfrozen { group, column, printed: printed.value, computed });
        }
    }
    Ok(changes)
}
