//! Reads prediction files: ours, lmms-eval's, VLMEvalKit's, LLaVA's, or any table with an id and an answer. The format
//! is detected by the field names.

use super::entries::{Harness, PredictedAnswer, Predictions};
use super::sheet;
use crate::json_value::describe;
use crate::rows;
use crate::skipped::SkippedRowsTally;
use crate::table::delimited::{Record, Records};
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, files, json};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;

/// Maximum size in bytes of a file that holds all answers as one object.
const LARGEST: u64 = 1 << 30;

/// The field names of one prediction format.
struct Fields {
    harness: Harness,
    id: &'static str,
    /// Names of the answer field, in order of preference.
    answer: &'static [&'static str],
    question: Option<&'static str>,
    target: Option<&'static str>,
}

/// The formats, more specific ones first. VLMEvalKit's tables have the right answer as `answer`.
const FORMS: [Fields; 6] = [
    Fields {
        harness: Harness::LmmsEval,
        id: "doc_id",
        answer: &["filtered_resps", "resps"],
        question: None,
        target: Some("target"),
    },
    Fields {
        harness: Harness::VlmEvalKit,
        id: "index",
        answer: &["prediction"],
        question: Some("question"),
        target: None,
    },
    Fields {
        harness: Harness::Llava,
        id: "question_id",
        answer: &["text", "prediction", "answer"],
        question: Some("prompt"),
        target: None,
    },
    Fields {
        harness: Harness::Llava,
        id: "questionId",
        answer: &["prediction", "text", "answer"],
        question: Some("prompt"),
        target: None,
    },
    Fields {
        harness: Harness::Burgess,
        id: "id",
        answer: &["prediction", "answer", "text", "response", "output"],
        question: None,
        target: None,
    },
    Fields {
        harness: Harness::Burgess,
        id: "index",
        answer: &["answer", "text", "response", "output"],
        question: None,
        target: None,
    },
];

const HINT: &str = "an id and an answer: id and answer, index and prediction (VLMEvalKit), question_id and text \
    (LLaVA), doc_id and filtered_resps (lmms-eval)";

/// Reads predictions. Unknown fields are ignored, so the sample files of a run can be read too. An entry whose answer
/// is empty, null or absent counts as an unparsed answer; [`Predictions::unanswered`] counts these entries. Numbers and
/// booleans are converted to text.
///
/// - JSON lines or one JSON list of objects: `{"id", "answer"}`, lmms-eval's samples (`doc_id`, `filtered_resps`,
///   `target`), LLaVA's answers (`question_id`, `text`, `prompt`), VLMEvalKit's records (`index`, `prediction`,
///   `question`);
/// - one JSON object that maps ids to answers;
/// - `.csv`, `.tsv`, `.xlsx` with a header of these names.
///
/// # Errors
/// An error is returned if the file cannot be read, or if no entry has an id and an answer. It names file, line and
/// field.
pub fn read_predictions(path: &Path) -> Result<Predictions> {
    let mut collected = Collected::default();
    match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("xlsx") => excel(path, &mut collected)?,
        Some("tsv") => delimited(path, b'\t', &mut collected)?,
        Some("csv") => delimited(path, b',', &mut collected)?,
        Some("json") => records(path, &mut collected)?,
        Some("xls" | "xlsb" | "ods") => {
            let message = format!("{} is a workbook in an unsupported format", path.display());
            return Err(Error::failed(message).hint("save it as .xlsx or .csv"));
        }
        _ => rows::for_each(path, &mut |row| collected.take(&row.value, &row.place, row.number))?,
    }
    collected.finish(path)
}

#[derive(Default)]
struct Collected {
    predictions: Predictions,
    conflicting: HashSet<String>,
    unanswered: SkippedRowsTally,
    unusable: SkippedRowsTally,
    /// Number of entries with an id; `usable` counts those among them whose answer is present, even if empty.
    named: usize,
    usable: usize,
    /// The error of the first entry that cannot be used.
    first: Option<Error>,
}

impl Collected {
    /// Takes an entry: its value, its place in the file, and its number.
    fn take(&mut self, value: &Value, place: &str, number: usize) -> Result<()> {
        match value {
            Value::Object(object) => self.add(object, place, number),
            other => {
                self.refuse(
                    "the entry is not an object",
                    Error::failed(format!("expected an object, found {}", describe(other))),
                    place,
                    number,
                );
                Ok(())
            }
        }
    }

    fn refuse(&mut self, why: &str, error: Error, place: &str, number: usize) {
        self.unusable.add(why, &format!("entry {number}"));
        self.first.get_or_insert_with(|| error.context(place.to_string()));
    }

    fn add(&mut self, object: &Map<String, Value>, place: &str, number: usize) -> Result<()> {
        let there = |field: &str| object.contains_key(field);
        let whole = FORMS.iter().find(|f| there(f.id) && f.answer.iter().any(|a| there(a)));
        let Some(form) = whole.or_else(|| FORMS.iter().find(|f| there(f.id))) else {
            let fields: Vec<String> = object.keys().take(12).map(|k| excerpt(k, 40)).collect();
            let error =
                Error::failed(format!("field `id` is missing; the fields are {}", fields.join(", "))).hint(HINT);
            self.refuse("field `id` is missing", error, place, number);
            return Ok(());
        };
        let name = match identifier(object.get(form.id)) {
            Ok(name) => name,
            Err(why) => {
                self.refuse(
                    &format!("field `{}` {why}", form.id),
                    Error::failed(format!("field `{}` {why}", form.id)),
                    place,
                    number,
                );
                return Ok(());
            }
        };
        if self.named > 0 && self.predictions.harness != form.harness {
            let earlier = self.predictions.harness.as_str();
            return Err(Error::failed(format!(
                "an entry in the format of {} follows entries in the format of {earlier}",
                form.harness.as_str()
            ))
            .context(place.to_string()));
        }
        self.predictions.harness = form.harness;
        self.named += 1;
        let field = form.answer.iter().copied().find(|a| there(a)).or(form.answer.first().copied()).unwrap_or_default();
        let text = match said(object.get(field), 0) {
            Ok(text) => {
                self.usable += 1;
                if text.trim().is_empty() {
                    self.unanswered.add(&format!("`{field}` is empty"), &name);
                }
                text
            }
            Err(why) => {
                self.usable += usize::from(why == NULL);
                self.unanswered.add(&format!("`{field}` {why}"), &name);
                self.first.get_or_insert_with(|| {
                    let error = Error::failed(format!("field `{field}` {why}")).context(place.to_string());
                    match form.harness {
                        Harness::LmmsEval => error.hint("the samples of likelihood tasks contain no answers"),
                        _ => error.hint(HINT),
                    }
                });
                String::new()
            }
        };
        let answer = PredictedAnswer {
            text,
            question: form.question.and_then(|f| optional_text(object, f)),
            target: form.target.and_then(|f| optional_text(object, f)),
        };
        let predictions = &mut self.predictions;
        if let Some(earlier) = predictions.answers.insert(name.clone(), answer.clone()) {
            if earlier.text != answer.text {
                self.conflicting.insert(name.clone());
            }
            predictions.duplicates.insert(name);
        }
        Ok(())
    }

    fn finish(mut self, path: &Path) -> Result<Predictions> {
        if self.usable == 0 {
            let all = self.named + self.unusable.count();
            return Err(match self.first {
                Some(e) if all > 1 => e.context(format!("none of the {all} entries of {} can be used", path.display())),
                Some(e) => e,
                None => Error::failed(format!("{} holds no predictions", path.display())),
            });
        }
        self.predictions.answers.retain(|name, _| !self.conflicting.contains(name));
        self.predictions.unanswered = self.unanswered.into_reasons();
        self.predictions.unusable = self.unusable.into_reasons();
        Ok(self.predictions)
    }
}

/// Returns the question's id as text, without the `.0` that a column with gaps adds to integers.
pub(super) fn identifier(value: Option<&Value>) -> Result<String, String> {
    let whole = |text: &str| {
        let text = text.trim();
        let number = text.strip_suffix(".0").filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        number.unwrap_or(text).to_string()
    };
    match value {
        Some(Value::String(s)) if s.trim().is_empty() => Err("is empty".into()),
        Some(Value::String(s)) => Ok(whole(s)),
        Some(Value::Number(n)) if n.is_f64() && n.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() >= 9e15) => {
            Err(format!("is {n}, which is too large to be exact: write it as a string"))
        }
        Some(Value::Number(n)) => Ok(whole(&n.to_string())),
        Some(other) => Err(format!("must be a string or a number, found {}", describe(other))),
        None => Err("is missing".into()),
    }
}

const NULL: &str = "is null";

/// Returns the answer as text: numbers and booleans are converted, and a list of one item gives that item.
pub(super) fn said(value: Option<&Value>, depth: usize) -> Result<String, &'static str> {
    match value {
        Some(Value::String(s)) => Ok(s.clone()),
        Some(Value::Number(n)) => Ok(n.to_string()),
        Some(Value::Bool(b)) => Ok(b.to_string()),
        Some(Value::Null) => Err(NULL),
        Some(Value::Array(list)) => match list.as_slice() {
            [] => Err("is an empty list"),
            [one] if depth < 4 => said(Some(one), depth + 1),
            _ => Err("is a list of several values, not one answer"),
        },
        Some(Value::Object(_)) => Err("is an object"),
        None => Err("is missing"),
    }
}

/// Returns an optional field as text; a list as JSON.
pub(super) fn optional_text(object: &Map<String, Value>, field: &str) -> Option<String> {
    match object.get(field)? {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        list @ Value::Array(_) => Some(list.to_string()),
        _ => None,
    }
}

/// Reads a `.json` file: a list of objects, an object per line, or one object that maps ids to answers.
fn records(path: &Path, collected: &mut Collected) -> Result<()> {
    let step = || format!("reading {}", path.display());
    let bytes = files::read(path, LARGEST).with_context(step)?;
    let begin = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    if begin.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
        && let Ok(Value::Object(object)) = json::from_slice::<Value>(&bytes)
    {
        drop(bytes);
        if FORMS.iter().any(|f| object.contains_key(f.id) && f.answer.iter().any(|a| object.contains_key(*a))) {
            return collected.add(&object, &path.display().to_string(), 1);
        }
        for (number, (id, answer)) in object.into_iter().enumerate() {
            let entry = Map::from_iter([("id".to_string(), Value::String(id)), ("answer".to_string(), answer)]);
            collected.add(&entry, &format!("{} entry {}", path.display(), number + 1), number + 1)?;
        }
        return Ok(());
    }
    drop(bytes);
    rows::for_each(path, &mut |row| collected.take(&row.value, &row.place, row.number))
}

fn delimited(path: &Path, delimiter: u8, collected: &mut Collected) -> Result<()> {
    let mut records = Records::open(path, delimiter)?;
    let header = records.header.clone();
    fields(path, header.iter().map(String::as_str))?;
    let mut number = 0;
    records.for_each(path, &mut |record| {
        number += 1;
        let place = format!("{} row {number}", path.display());
        match cells(&header, record) {
            Ok(object) => collected.add(&object, &place, number),
            Err(e) => {
                let why = e.to_string();
                // Blank rows at the end are ignored.
                if why != BLANK {
                    collected.refuse(&why, e, &place, number);
                }
                Ok(())
            }
        }
    })
}

/// Returns the cells of a record, by the names of their columns.
fn cells(header: &[String], record: &Record<'_>) -> Result<Map<String, Value>> {
    record.check()?;
    header.iter().enumerate().map(|(i, name)| Ok((name.clone(), record.cell(i)?.into()))).collect()
}

/// Receives a row, by the names of its columns, and its place in the file.
pub(super) type TakeRow<'a> = &'a mut dyn FnMut(&Map<String, Value>, &str) -> Result<()>;

/// As [`TakeRow`], with the number of the row.
type TakeNumberedRow<'a> = &'a mut dyn FnMut(&Map<String, Value>, &str, usize) -> Result<()>;

/// Calls `take` with every row of a CSV or TSV file that is not blank.
///
/// # Errors
/// The file cannot be read, a row has another number of cells than the header, or `take` fails.
pub(super) fn delimited_rows(path: &Path, delimiter: u8, take: TakeRow<'_>) -> Result<()> {
    let mut records = Records::open(path, delimiter)?;
    let header = records.header.clone();
    let mut number = 0;
    records.for_each(path, &mut |record| {
        number += 1;
        let place = format!("{} row {number}", path.display());
        match cells(&header, record) {
            Ok(object) => take(&object, &place),
            Err(e) if e.to_string() == BLANK => Ok(()),
            Err(e) => Err(e.context(place)),
        }
    })
}

const BLANK: &str = "the row is blank";

/// Checks that the header matches one of the formats.
fn fields<'a>(path: &Path, header: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    let there = |field: &str| header.clone().any(|h| h == field);
    if FORMS.iter().any(|f| there(f.id) && f.answer.iter().any(|a| there(a))) {
        return Ok(());
    }
    let names: Vec<String> = header.take(12).map(|h| excerpt(h, 40)).collect();
    let message = format!("no columns with an id and an answer; the columns are {}", names.join(", "));
    Err(Error::failed(message).context(format!("reading {}", path.display())).hint(HINT))
}

fn excel(path: &Path, collected: &mut Collected) -> Result<()> {
    let check = &mut |header: &[String]| fields(path, header.iter().map(String::as_str));
    excel_table(path, check, &mut |object, place, row| collected.add(object, place, row))
}

/// Calls `take` with every row of the first sheet of a workbook.
///
/// # Errors
/// The file cannot be read, or `take` fails.
pub(super) fn excel_rows(path: &Path, take: TakeRow<'_>) -> Result<()> {
    excel_table(path, &mut |_| Ok(()), &mut |object, place, _| take(object, place))
}

/// Calls `check` with the names of the columns, then `take` with every row, its place and its number.
fn excel_table(path: &Path, check: &mut dyn FnMut(&[String]) -> Result<()>, take: TakeNumberedRow<'_>) -> Result<()> {
    let mut rows = sheet::rows(path)?.into_iter();
    let Some((_, header)) = rows.next() else { return Ok(()) };
    let header: Vec<(u32, String)> = header
        .into_iter()
        .map(|(column, name)| (column, name.as_str().unwrap_or_default().trim().to_string()))
        .collect();
    check(&header.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>())?;
    for (row, cells) in rows {
        let mut object: Map<String, Value> =
            header.iter().map(|(_, name)| (name.clone(), Value::String(String::new()))).collect();
        for (column, value) in cells {
            if let Some((_, name)) = header.iter().find(|(c, _)| *c == column) {
                object.insert(name.clone(), value);
            }
        }
        let place = format!("{} row {}", path.display(), row + 1);
        take(&object, &place, row as usize + 1)?;
    }
    Ok(())
}
