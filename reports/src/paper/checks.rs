//! Checks of the paper: numbers computed from its tables, compared with the printed ones.

use super::columns::SCOPE_COLUMNS;
use super::csv_sheet::{PrintAgreement, PrintedNumber};
use super::score_table::ranks;
use super::tables::{FROZEN, PRINTS_MEANS, PaperTables};
use super::unfreezing;
use burgess_base::Result;
use serde::Serialize;

/// Kinds of computed numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberKind {
    /// The mean of the sixteen columns.
    Average,
    /// The mean of a category's four columns, where the paper prints it.
    CategoryMean,
    /// A category mean that was computed when the file was transcribed. This checks the files, not the paper.
    FileMean,
    /// A category mean, compared with the full-precision number of the project page's figure.
    ExactMean,
    /// The rank in one of the paper's two lists.
    Rank,
    /// The change by unfreezing, in percent.
    PrintedChange,
}

impl NumberKind {
    /// Returns the name in text, as a plural.
    pub fn name(self) -> &'static str {
        match self {
            NumberKind::Average => "averages",
            NumberKind::CategoryMean => "category means",
            NumberKind::FileMean => "category means of the transcribed files (not printed in the paper)",
            NumberKind::ExactMean => "category means at full precision (project page)",
            NumberKind::Rank => "ranks",
            NumberKind::PrintedChange => "changes by unfreezing",
        }
    }
}

/// The check of one printed number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NumberCheck {
    /// Kind of the number.
    pub kind: NumberKind,
    /// Name of the CSV file.
    pub file: String,
    /// Name of the row, which is a model or a group of models.
    pub row: String,
    /// Name of the column in the CSV file.
    pub column: String,
    /// The number as the paper prints it.
    pub printed: String,
    /// The number computed from other printed numbers.
    pub computed: f64,
    /// Agreement of the two numbers.
    pub agreement: PrintAgreement,
    /// The known reason for a difference; `None` if the numbers are equal to the last digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
}

/// Contradictions within the paper: file, row, column, explanation.
const CONTRADICTIONS: [(&str, &str, &str, &str); 3] = [
    (
        "ranks-1.2m-frozen.csv",
        "21 SD2.1/16@512",
        "K",
        "a misprint: SupViT-L has the same rank 9 and, by the paper's own numbers, a lower mean (45.35, here 45.72)",
    ),
    (
        "unfreezing-change.csv",
        "All models",
        "CV",
        "at least one language-supervised model must have another CV-Bench score in the figure than in the tables: the \
         other two groups agree",
    ),
    (
        "unfreezing-change.csv",
        "Language-supervised",
        "CV",
        "at least one of its six models must have another CV-Bench score in the figure than in the tables",
    ),
];

/// The explanation of differences that are within rounding.
const ROUNDED: &str = "both numbers are possible, because the columns were rounded before they were printed";

impl NumberCheck {
    fn new(
        kind: NumberKind,
        at: (&str, &str, &str),
        printed: PrintedNumber,
        computed: f64,
        rounding_error: f64,
    ) -> Self {
        let (file, row, column) = at;
        let agreement = printed.compare(computed, rounding_error);
        let known = CONTRADICTIONS.iter().find(|(f, r, c, _)| (*f, *r, *c) == at).map(|(.., why)| *why);
        let why = match agreement {
            PrintAgreement::Same => None,
            PrintAgreement::WithinRounding => Some(ROUNDED),
            PrintAgreement::Differs => known,
        };
        let [file, row, column] = [file, row, column].map(String::from);
        Self { kind, file, row, column, printed: printed.text(), computed, agreement, why }
    }
}

impl PaperTables {
    /// Computes every check, in the order of the tables.
    ///
    /// # Errors
    /// An error is returned if a table is missing.
    pub fn checks(&self) -> Result<Vec<NumberCheck>> {
        let mut checks = Vec::new();
        for table in &self.tables {
            for row in &table.rows {
                for (scope, column) in SCOPE_COLUMNS.iter().enumerate() {
                    if let (Some(printed), Some(computed)) =
                        (row.printed.get(scope).copied().flatten(), row.mean(scope))
                    {
                        let kind = match scope {
                            0 => NumberKind::Average,
                            _ if table.file == PRINTS_MEANS => NumberKind::CategoryMean,
                            _ => NumberKind::FileMean,
                        };
                        checks.push(NumberCheck::new(
                            kind,
                            (&table.file, &row.model, column),
                            printed,
                            computed,
                            row.rounding_error(scope),
                        ));
                    }
                }
            }
        }
        self.exact_means(&mut checks)?;
        self.rank_checks(&mut checks);
        for printed in &self.unfreezing {
            for (column, number) in &printed.values {
                // These columns need V*Star, and rows of single models have no group; neither can be computed.
                if unfreezing::HAS_VSTAR.contains(&column.as_str()) {
                    continue;
                }
                if let Some(c) = unfreezing::change(self, &printed.name, column)? {
                    let at = ("unfreezing-change.csv", printed.name.as_str(), column.as_str());
                    checks.push(NumberCheck::new(NumberKind::PrintedChange, at, *number, c.value, c.rounding_error));
                }
            }
        }
        Ok(checks)
    }

    /// Compares with the project page, which has more digits; the computed mean may differ by the table's own rounding.
    fn exact_means(&self, checks: &mut Vec<NumberCheck>) -> Result<()> {
        let table = self.table(FROZEN)?;
        for exact in &self.exact {
            let Some(row) = table.rows.iter().find(|r| r.model == exact.model) else { continue };
            for (scope, (printed, column)) in (1..).zip(exact.means.iter().zip(SCOPE_COLUMNS.iter().skip(1))) {
                if let Some(computed) = row.mean(scope) {
                    let at = ("categories-1.2m-frozen.csv", exact.model.as_str(), *column);
                    checks.push(NumberCheck::new(
                        NumberKind::ExactMean,
                        at,
                        *printed,
                        computed,
                        row.rounding_error(scope),
                    ));
                }
            }
        }
        Ok(())
    }

    fn rank_checks(&self, checks: &mut Vec<NumberCheck>) {
        for printed in &self.ranks {
            let list: Vec<&str> =
                self.ranks.iter().filter(|r| r.list == printed.list).map(|r| r.model.as_str()).collect();
            for (scope, (rank, column)) in printed.ranks.iter().zip(SCOPE_COLUMNS).enumerate() {
                let mean = |model: &str| self.exact.iter().find(|e| e.model == model).map(|e| e.mean(scope));
                let computed = ranks(&list.iter().map(|m| mean(m)).collect::<Vec<_>>());
                let place =
                    list.iter().position(|m| *m == printed.model).and_then(|i| computed.get(i).copied().flatten());
                if let Some(place) = place {
                    let at = ("ranks-1.2m-frozen.csv", printed.model.as_str(), column);
                    checks.push(NumberCheck::new(NumberKind::Rank, at, *rank, place as f64, -rank.half_unit()));
                }
            }
        }
    }
}
