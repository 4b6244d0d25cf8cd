//! The readers of answers that a benchmark file can name: one file per kind of answer, and the table that lists them.
//!
//! To add a reader, write its file and list it below.

mod bbox;
mod blind_test;
mod charxiv;
mod choice;
mod count;
mod first_capital;
mod first_named;
mod inferred_letter;
mod letter_rules;
mod lmms_letters;
mod number;
mod ocrbench_v2;
mod only_option;
mod only_yes_no;
mod spatial;
mod text;
mod yes_no;

use super::format::AnswerTable;
use crate::card::AnswerForm;
use crate::question::Question;
use crate::score::AnswerScore;
use burgess_base::{Error, Result, nearest};

/// A reader: how an answer is read, compared with the right one, and described.
pub(crate) trait AnswerReader: Sync {
    /// Returns the name in `answer.read`.
    fn name(&self) -> &'static str;

    /// Returns the form of the answers.
    fn form(&self) -> AnswerForm;

    /// Returns the variants that `answer.by` can name, the default first; empty if there is only one.
    fn variants(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the further keys of the table `answer` that the reader uses.
    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks the values of these keys.
    fn check(&self, _: &AnswerTable) -> Result<()> {
        Ok(())
    }

    /// Checks that the right answer of a question can be read; an error names what is wrong with it.
    fn check_question(&self, _: &AnswerTable, _: &Question) -> Result<()> {
        Ok(())
    }

    /// Completes a question that was read and checked, such as by writing its right answer in the form of an answer.
    fn complete(&self, _: &AnswerTable, _: &mut Question) {}

    /// Returns what numbers beside the score can average instead of it (`numbers.measure`).
    fn measures(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns a measure, 0 to 1, of a judged answer; `None` if the reader has no measure of that name.
    fn measure(&self, _: &AnswerTable, _: &Question, _: &AnswerScore, _: &str) -> Option<f64> {
        None
    }

    /// Describes the rule in words.
    fn describe(&self, answer: &AnswerTable) -> String;

    /// Returns whether the reader gets the answer before lmms-eval's rules remove the reasoning from it.
    fn filters_first(&self, _: &AnswerTable) -> bool {
        false
    }

    /// Judges an answer.
    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore;
}

/// Every reader.
static READERS: &[&dyn AnswerReader] = &[
    &choice::Letter,
    &yes_no::YesNo,
    &number::Number,
    &number::Relaxed,
    &text::Exact,
    &text::Normalised,
    &text::Contains,
    &text::Anls,
    &text::Vqa,
    &first_named::FirstNamed,
    &only_yes_no::OnlyYesNo,
    &only_option::OnlyOption,
    &count::Count,
    &blind_test::BlindTest,
    &first_capital::FirstCapital,
    &inferred_letter::InferredLetter,
    &bbox::Bbox,
    &bbox::PointInBox,
    &spatial::Spatial,
    &charxiv::CharXiv,
    &ocrbench_v2::OcrBenchV2,
];

/// Keys of the table `answer` that only some readers use.
const KEYS: [&str; 4] = ["relative", "absolute", "threshold", "coordinates"];

/// Returns the reader that a table names, after checking the table's keys.
///
/// # Errors
/// An error is returned with the key that is wrong.
pub(crate) fn find(table: &AnswerTable) -> Result<&'static dyn AnswerReader, (&'static str, Error)> {
    let names = || READERS.iter().map(|r| r.name());
    let reader = READERS.iter().copied().find(|r| r.name() == table.read).ok_or_else(|| {
        let error = Error::usage(format!("no reader is called `{}`", table.read));
        let hint = match nearest(&table.read, names()).first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the readers are {}", names().collect::<Vec<_>>().join(", ")),
        };
        ("read", error.hint(hint))
    })?;
    if let Some(by) = &table.by {
        let variants = reader.variants();
        if !variants.contains(&by.as_str()) {
            let error = Error::usage(format!("the reader `{}` has no variant `{by}`", reader.name()));
            let hint = match variants {
                [] => "remove the key: the reader has only one variant".into(),
                _ => format!("its variants are {}", variants.join(", ")),
            };
            return Err(("by", error.hint(hint)));
        }
    }
    let given =
        [table.relative.is_some(), table.absolute.is_some(), table.threshold.is_some(), table.coordinates.is_some()];
    for (key, given) in KEYS.into_iter().zip(given) {
        if given && !reader.keys().contains(&key) {
            let error = Error::usage(format!("the reader `{}` has no key `{key}`", reader.name()));
            let users = READERS.iter().filter(|r| r.keys().contains(&key)).map(|r| r.name()).collect::<Vec<_>>();
            return Err((key, error.hint(format!("remove it; it belongs to {}", users.join(", ")))));
        }
    }
    for (key, value) in [("relative", table.relative), ("absolute", table.absolute)] {
        if value.is_some_and(|v| !(v.is_finite() && v >= 0.0)) {
            return Err((key, Error::usage("must be a number of at least 0")));
        }
    }
    if table.threshold.is_some_and(|v| !(0.0..=1.0).contains(&v)) {
        return Err(("threshold", Error::usage("must be between 0 and 1")));
    }
    reader.check(table).map_err(|e| ("read", e))?;
    Ok(reader)
}
