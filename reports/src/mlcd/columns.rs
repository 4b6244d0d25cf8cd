//! The benchmark columns of the table, and the means over them.

use burgess_base::Category;
use serde::Serialize;

/// One benchmark column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MlcdColumn {
    /// Name of the column in the README and in the CSV file.
    pub name: &'static str,
    /// Category of the benchmark.
    pub category: &'static Category,
    /// Maximum of its own scale; means are over percentages.
    pub highest: f64,
    /// Number of questions of the split that was evaluated.
    pub questions: u32,
    /// Name of the same benchmark in the Cambrian-1 paper's tables.
    pub cambrian: Option<&'static str>,
}

/// The five columns of the table.
pub const MLCD_COLUMNS: [MlcdColumn; 5] = [
    column("ChartQA", &Category::OCR_CHART, 100.0, 2500, Some("Chart")),
    column("DocVQA", &Category::OCR_CHART, 100.0, 5349, Some("DocV")),
    column("InfoVQA", &Category::OCR_CHART, 100.0, 2801, None),
    column("OCRBench", &Category::OCR_CHART, 1000.0, 1000, Some("OCRB")),
    column("MMMU", &Category::KNOWLEDGE, 100.0, 900, Some("MMMU")),
];

const fn column(
    name: &'static str,
    category: &'static Category,
    highest: f64,
    questions: u32,
    cambrian: Option<&'static str>,
) -> MlcdColumn {
    MlcdColumn { name, category, highest, questions, cambrian }
}

/// A mean over columns. The average is the mean of the categories, as in a study of Burgess, so a column of a small
/// category weighs more: MMMU half, each column of OCR & Chart an eighth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MlcdScope {
    /// Name of the scope.
    pub name: &'static str,
    /// Weight of each column in the mean; the weights sum to 1.
    pub weights: [f64; MLCD_COLUMNS.len()],
}

/// The average and the two categories.
pub const MLCD_SCOPES: [MlcdScope; 3] = [
    MlcdScope { name: "Average", weights: [0.125, 0.125, 0.125, 0.125, 0.5] },
    MlcdScope { name: Category::OCR_CHART.as_str(), weights: [0.25, 0.25, 0.25, 0.25, 0.0] },
    MlcdScope { name: Category::KNOWLEDGE.as_str(), weights: [0.0, 0.0, 0.0, 0.0, 1.0] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_the_mean_of_the_categories() {
        let [average, categories @ ..] = MLCD_SCOPES;
        for (i, column) in MLCD_COLUMNS.iter().enumerate() {
            let own = categories.iter().find(|c| c.name == column.category.as_str()).unwrap();
            let size = MLCD_COLUMNS.iter().filter(|c| c.category == column.category).count();
            assert_eq!(own.weights[i], 1.0 / size as f64, "{}", column.name);
            assert_eq!(average.weights[i], own.weights[i] / categories.len() as f64, "{}", column.name);
        }
    }
}
