//! The benchmark columns of the paper's tables, and the scopes of its rankings.

use burgess_base::Category;
use serde::Serialize;

/// One of the sixteen benchmark columns that the paper averages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PaperColumn {
    /// Name of the column in the CSVs.
    pub name: &'static str,
    /// Name of the benchmark in text.
    pub benchmark: &'static str,
    /// Category of the benchmark.
    pub category: &'static Category,
    /// Maximum of its own scale; averages are over percentages.
    pub highest: f64,
}

const fn column(name: &'static str, benchmark: &'static str, category: &'static Category) -> PaperColumn {
    PaperColumn { name, benchmark, category, highest: 100.0 }
}

/// The sixteen columns, four of each category in the order of the categories.
pub const COLUMNS: [PaperColumn; 16] = [
    PaperColumn { highest: 2000.0, ..column("MME", "MME", &Category::GENERAL) },
    column("MMB", "MMBench", &Category::GENERAL),
    column("SEED", "SEED-I", &Category::GENERAL),
    column("GQA", "GQA", &Category::GENERAL),
    column("SQA", "ScienceQA", &Category::KNOWLEDGE),
    column("MMMU", "MMMU", &Category::KNOWLEDGE),
    column("MV", "MathVista", &Category::KNOWLEDGE),
    column("AI2D", "AI2D", &Category::KNOWLEDGE),
    column("Chart", "ChartQA", &Category::OCR_CHART),
    column("OCRB", "OCRBench", &Category::OCR_CHART),
    column("TextV", "TextVQA", &Category::OCR_CHART),
    column("DocV", "DocVQA", &Category::OCR_CHART),
    column("MMVP", "MMVP", &Category::VISION_CENTRIC),
    column("RWQA", "RealWorldQA", &Category::VISION_CENTRIC),
    column("2D", "CV-Bench 2D", &Category::VISION_CENTRIC),
    column("3D", "CV-Bench 3D", &Category::VISION_CENTRIC),
];

/// The scopes of a ranking: the average, then the categories.
pub const SCOPES: [&str; 5] = [
    "Average",
    Category::GENERAL.as_str(),
    Category::KNOWLEDGE.as_str(),
    Category::OCR_CHART.as_str(),
    Category::VISION_CENTRIC.as_str(),
];

/// Names of the scopes' columns in the CSVs.
pub const SCOPE_COLUMNS: [&str; 5] = ["Avg", "G", "K", "O", "V"];
