//! The encoder table of MLCD's README (`reports/published/mlcd/`), with averages, ranks and sampling errors computed.
//!
//! The table compares six encoders under one recipe (LLaVA-NeXT with Qwen2.5-7B). The README prints no averages:
//! [`MlcdScope`] says how they are defined here. Three of the encoders are also in the Cambrian-1 paper's table, with
//! four of the benchmarks; [`CambrianComparison`] puts the two side by side.

mod columns;
mod recomputed;
mod rows;

pub use columns::{MLCD_COLUMNS, MLCD_SCOPES, MlcdColumn, MlcdScope};
pub use recomputed::{CambrianComparison, ComparedEncoder, RecomputedMlcd, RecomputedMlcdModel};
pub use rows::{MlcdRow, MlcdTable};

/// The source of the table: file, publication and licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MlcdSource {
    /// Path of the CSV file in `reports/published/`.
    pub file: &'static str,
    /// Address of the README at the commit from which the table is transcribed.
    pub url: &'static str,
    /// Date of that commit.
    pub date: &'static str,
    /// Licence of the repository.
    pub licence: &'static str,
    /// The recipe under which the encoders were trained, as the README states it.
    pub recipe: &'static str,
    /// How the benchmarks were evaluated, as the repository states it.
    pub evaluation: &'static str,
}

/// The source of the table.
pub const MLCD_SOURCE: MlcdSource = MlcdSource {
    file: "mlcd/llava-next-qwen2.5-7b.csv",
    url: "https://github.com/deepglint/unicom/blob/ae7141123532a471f082753b993e8d504104a6fb/README.md",
    date: "2025-09-28",
    licence: "MIT",
    recipe: "LLaVA-NeXT, trained on LLaVA-NeXT-Data, language model Qwen2.5-7B",
    evaluation: "lmms-eval 0.2.0: chartqa, docvqa_val, infovqa_val, ocrbench, mmmu",
};
