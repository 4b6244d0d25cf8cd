//! The rows of the table, as transcribed.

use super::MLCD_SOURCE;
use super::columns::{MLCD_COLUMNS, MlcdScope};
use crate::paper::{CsvSheet, PrintedNumber};
use burgess_base::Result;

const TEXT: &str = include_str!("../../published/mlcd/llava-next-qwen2.5-7b.csv");

/// One encoder of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct MlcdRow {
    /// Name of the encoder.
    pub model: String,
    /// Whether the encoder has two-dimensional rotary position embeddings.
    pub rope_2d: bool,
    /// Scores by [`MLCD_COLUMNS`], on their own scales.
    pub scores: [PrintedNumber; MLCD_COLUMNS.len()],
}

impl MlcdRow {
    /// Returns the scores by [`MLCD_COLUMNS`] in percent.
    pub fn percent(&self) -> [f64; MLCD_COLUMNS.len()] {
        let mut scores = self.scores.iter().zip(&MLCD_COLUMNS).map(|(s, c)| s.value / (c.highest / 100.0));
        std::array::from_fn(|_| scores.next().unwrap_or(f64::NAN))
    }

    /// Returns the mean over the columns of a scope, in percent.
    pub fn mean(&self, scope: &MlcdScope) -> f64 {
        self.percent().iter().zip(scope.weights).map(|(score, weight)| score * weight).sum()
    }

    /// Returns half the width of the 95 % interval of [`MlcdRow::mean`] in points, at most: it is exact for benchmarks
    /// whose questions score 0 or 1 and are independent, and an upper bound for the partial scores of DocVQA and
    /// InfoVQA. It contains neither the dependence of questions about one image nor the variance of training.
    pub fn sampling_error(&self, scope: &MlcdScope) -> f64 {
        let variance =
            self.percent().into_iter().zip(&MLCD_COLUMNS).zip(scope.weights).map(|((score, column), weight)| {
                weight * weight * score * (100.0 - score) / f64::from(column.questions)
            });
        1.96 * variance.sum::<f64>().sqrt()
    }
}

/// The table as transcribed.
#[derive(Debug, Clone, PartialEq)]
pub struct MlcdTable {
    /// The encoders, in the order of the README.
    pub rows: Vec<MlcdRow>,
}

impl MlcdTable {
    /// Parses the table, which is built into this program.
    ///
    /// # Errors
    /// An error is returned if the table is malformed; it names file, line and column.
    pub fn load() -> Result<Self> {
        Self::parse(MLCD_SOURCE.file, TEXT)
    }

    /// Parses a table of these columns; `file` is its name in errors.
    ///
    /// # Errors
    /// The errors are those of [`CsvSheet::parse`]; also, other columns, an empty cell, and scores outside their scale.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let sheet = CsvSheet::parse(file, text)?;
        let mut header = vec!["Model", "RoPE2D"];
        header.extend(MLCD_COLUMNS.iter().map(|c| c.name));
        sheet.expect(&header)?;
        let row = |(i, model): (usize, String)| -> Result<MlcdRow> {
            let rope_2d = match sheet.text(i, 1) {
                "yes" => true,
                "no" => false,
                other => return Err(sheet.wrong(i, 1, &format!("`{other}` is neither `yes` nor `no`"))),
            };
            let mut scores = [PrintedNumber { value: 0.0, digits: 0 }; MLCD_COLUMNS.len()];
            for (c, (score, column)) in scores.iter_mut().zip(&MLCD_COLUMNS).enumerate() {
                *score = sheet.needed(i, c + 2)?;
                if !(0.0..=column.highest).contains(&score.value) {
                    let what = format!("{} is not between 0 and {}", score.text(), column.highest);
                    return Err(sheet.wrong(i, c + 2, &what));
                }
            }
            Ok(MlcdRow { model, rope_2d, scores })
        };
        Ok(Self { rows: sheet.names(0)?.into_iter().enumerate().map(row).collect::<Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlcd::MLCD_SCOPES;

    #[test]
    fn malformed_tables_are_told_by_their_place() {
        let say = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            MlcdTable::parse("t.csv", &TEXT.replacen(from, to, 1)).unwrap_err().to_string()
        };
        assert!(say("OCRBench", "OCR").contains("t.csv, line 1, column 6: expected OCRBench, found OCR"));
        assert!(say("525.00", "1000.5").contains("line 2, column 6 (OCRBench): 1000.5 is not between 0 and 1000"));
        assert!(say("46.78", "").contains("line 3, column 7 (MMMU): a number is missing"));
        assert!(say("no,", "maybe,").contains("line 2, column 2 (RoPE2D): `maybe` is neither `yes` nor `no`"));
        assert!(say("DFN5B ViT-H/14@378", "CLIP ViT-L/14@336").contains("line 4, column 1 (Model): a second row"));
    }

    #[test]
    fn the_sampling_error_is_that_of_independent_questions() {
        let table = MlcdTable::load().unwrap();
        let [average, _, knowledge] = MLCD_SCOPES;
        // √(44.2 · 55.8 / 900) = 1.655 points.
        assert!((table.rows[0].sampling_error(&knowledge) - 1.96 * 1.655_43).abs() < 1e-4);
        // Half of MMMU's error, and eighths of the four others: √(1.6554²/4 + (0.944² + 0.590² + 0.921² +
        // 1.579²)/64).
        assert!((table.rows[0].sampling_error(&average) - 1.96 * 0.869_89).abs() < 1e-3);
    }
}
