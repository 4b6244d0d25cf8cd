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

/// Returns the letter that the toolkit finds in an answer without a language model (`can_infer` in `matching_util.py`):
/// one letter among the last five words; else the letter after "answer is"; else the text of exactly one choice in a
/// short answer.
pub(crate) fn matched(answer: &str, options: &[String]) -> Option<char> {
    const REFUSALS: [&str; 4] = [
        "Sorry, I can't help with images of people yet.",
        "I can't process this file.",
        "I'm sorry, but without the image provided",
        "Cannot determine the answer",
    ];
    if REFUSALS.iter().any(|refusal| answer.contains(refusal)) {
        return None;
    }
    let letters = || ('A'..='Z').zip(options).map(|(letter, _)| letter);
    // The toolkit reads no letter after a failed request, but looks for texts of choices all the same.
    if !answer.contains("Failed to obtain answer via API") {
        let plain = answer.replace(['.', '(', ')', '[', ']', ',', ':', ';', '!', '*', '#', '{', '}'], " ");
        let words: Vec<&str> = plain.split_whitespace().collect();
        let place = |letter: char| words.iter().position(|w| w.chars().eq([letter]));
        let named: Vec<(char, usize)> = letters().filter_map(|l| Some((l, place(l)?))).collect();
        match named.as_slice() {
            // Only a letter near the end counts, because an "A" at the beginning may be an article.
            [(letter, at)] if at + 5 > words.len() => return Some(*letter),
            // The toolkit uses "Z" for "none of them".
            [] if words.contains(&"Z") => return None,
            _ => {}
        }
        if let Some(letter) = after_answer_is(answer).filter(|found| letters().any(|l| l == *found)) {
            return Some(letter);
        }
    }
    let low = answer.to_lowercase();
    let lengths: usize = options.iter().map(|o| o.chars().count()).sum();
    if answer.chars().count() > 2 * lengths {
        return None;
    }
    let mut contained = letters().zip(options).filter(|(_, o)| low.contains(&o.to_lowercase()));
    match (contained.next(), contained.next()) {
        (Some((letter, _)), None) => Some(letter),
        _ => None,
    }
}

/// Returns the first letter from A to D, in either case, after "answer is" and any number of asterisks.
fn after_answer_is(answer: &str) -> Option<char> {
    let low = answer.to_ascii_lowercase();
    low.match_indices("answer").find_map(|(at, word)| {
        let rest = low.get(at + word.len()..)?;
        let is = rest.trim_start();
        let rest = is.strip_prefix("is").filter(|_| is.len() < rest.len())?;
        let letter = rest.trim_start();
        let spaced = letter.len() < rest.len();
        let letter = letter.trim_start_matches('*').chars().next()?;
        (spaced && ('a'..='d').contains(&letter)).then(|| letter.to_ascii_uppercase())
    })
}
