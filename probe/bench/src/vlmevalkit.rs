//! Reads VLMEvalKit's editions: one TSV with the columns index, image (base64, or the index of the row that holds it),
//! question, A, B, … for the choices, answer, and a few more.
//!
//! The questions are those of the authors' editions; prompts and rules do not depend on the edition.

use crate::benchmark::{Benchmark, read};
use crate::question::{Question, QuestionSet};
use crate::table::{self, DatasetTable, TableColumns, TableRow};
use burgess_base::Result;
use std::path::Path;

/// The columns that are read, if they exist.
pub(crate) const COLUMNS: TableColumns<'static> = TableColumns {
    values: &[
        "index",
        "question",
        "answer",
        "hint?",
        "A?",
        "B?",
        "C?",
        "D?",
        "E?",
        "F?",
        "G?",
        "H?",
        "I?",
        "category?",
        "l2-category?",
        "source?",
        "split?",
        "image_path?",
        "id?",
        "question_type?",
    ],
    images: &["image"],
};

/// Returns the TSV called `name` in `root`, or `root` if it is a TSV itself.
pub(crate) fn table(root: &Path, name: &str) -> Option<DatasetTable> {
    let file = if root.is_file() { root.to_path_buf() } else { root.join(name) };
    let tsv = table::is_there(&file) && file.extension().is_some_and(|e| e == "tsv");
    tsv.then(|| DatasetTable::of_file(file))
}

/// Reads the edition with `row` if `data` is the TSV called `name` or holds it; otherwise returns `None`.
pub(crate) fn read<B: Benchmark + ?Sized>(
    benchmark: &B,
    data: &Path,
    name: &str,
    row: impl FnMut(&TableRow) -> Result<Option<Question>>,
) -> Option<Result<QuestionSet>> {
    table(data, name).map(|table| read::published(benchmark, &table, COLUMNS, row))
}

/// Returns optional text; VLMEvalKit and editions made from its files write missing values as `nan`.
pub(crate) fn present(row: &TableRow, column: &str) -> Option<String> {
    row.maybe(column).filter(|text| text.trim() != "nan")
}

/// Returns the choices in the columns A, B, …, up to the first that is missing. A choice after a gap is an error.
pub(crate) fn choices(row: &TableRow) -> Result<Vec<String>> {
    table::choices(('A'..='I').map(|letter| Ok(present(row, &letter.to_string()))))
}

/// Reads a row, with or without lettered choices, as [`read()`] takes it.
pub(crate) fn row(row: &TableRow) -> Result<Option<Question>> {
    question(row).map(Some)
}

/// Reads a row, with or without lettered choices.
pub(crate) fn question(row: &TableRow) -> Result<Question> {
    let image_id = row.images("image").first().map(ToString::to_string).unwrap_or_default();
    Ok(Question {
        id: row.text("index")?,
        row: row.number,
        images: row.images("image").to_vec(),
        question: row.text("question")?,
        context: present(row, "hint"),
        options: choices(row)?,
        answer: row.text("answer")?,
        subtask: present(row, "category").unwrap_or_else(|| "all".into()),
        unit: image_id.clone(),
        image_id,
        ..Question::default()
    })
}
