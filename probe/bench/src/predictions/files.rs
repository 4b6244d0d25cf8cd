//! Files of answers: ours, lmms-eval's, VLMEvalKit's. Which one it is follows from the name's end and the fields.

use super::{Answer, Harness, Predictions};
use crate::read::{for_each_object, kind};
use burgess_base::{Context, Error, Result};
use calamine::{Data, Reader, open_workbook_auto};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;

/// Reads predictions. Other fields than those of the format are left alone, so the sample files of a run can be read too;
/// an empty answer is an answer. Errors name file, line and field.
///
/// - `.jsonl`: `{"id", "answer"}` a line, or lmms-eval's samples (`doc_id`, `filtered_resps`, `target`);
/// - `.xlsx`, `.tsv`, `.csv`, `.json`: VLMEvalKit's tables (`index`, `prediction`, `question`).
pub fn read_predictions(path: &Path) -> Result<Predictions> {
    let mut collected = Collected::default();
    match path.extension().and_then(|e| e.to_str()) {
        Some("xlsx") => excel(path, &mut collected)?,
        Some("tsv") => delimited(path, b'\t', &mut collected)?,
        Some("csv") => delimited(path, b',', &mut collected)?,
        Some("json") => records(path, &mut collected)?,
        _ => for_each_object(path, |_, object| {
            let harness = match object.contains_key("doc_id") {
                true => Harness::LmmsEval,
                false => Harness::Burgess,
            };
            collected.add(harness, object)
        })?,
    }
    if collected.predictions.answers.is_empty() && collected.predictions.duplicates.is_empty() {
        return Err(Error::failed(format!("{} holds no predictions", path.display())));
    }
    Ok(collected.finish())
}

#[derive(Default)]
struct Collected {
    predictions: Predictions,
    conflicting: HashSet<String>,
}

impl Collected {
    fn add(&mut self, harness: Harness, object: &Map<String, Value>) -> Result<()> {
        if !self.predictions.answers.is_empty() && self.predictions.harness != harness {
            let earlier = self.predictions.harness.as_str();
            return Err(Error::failed(format!("a line of {} after lines of {earlier}", harness.as_str())));
        }
        self.predictions.harness = harness;
        let (name, answer) = match harness {
            Harness::Burgess => (name(object, "id")?, Answer { text: said(object, "answer")?, ..Answer::default() }),
            Harness::LmmsEval => {
                let answer = Answer { text: response(object)?, question: None, target: maybe(object, "target") };
                (name(object, "doc_id")?, answer)
            }
            Harness::VlmEvalKit => {
                let text = said(object, "prediction")?;
                (name(object, "index")?, Answer { text, question: maybe(object, "question"), target: None })
            }
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

    fn finish(mut self) -> Predictions {
        self.predictions.answers.retain(|name, _| !self.conflicting.contains(name));
        self.predictions
    }
}

/// What a question is called; numbers as text.
fn name(object: &Map<String, Value>, field: &str) -> Result<String> {
    match object.get(field) {
        Some(Value::String(s)) if !s.trim().is_empty() => Ok(s.clone()),
        Some(Value::String(_)) => Err(Error::failed(format!("field `{field}` is empty"))),
        Some(Value::Number(n)) => Ok(n.to_string()),
        Some(other) => {
            Err(Error::failed(format!("field `{field}` must be a string or a number, found {}", kind(other))))
        }
        None => Err(Error::failed(format!("field `{field}` is missing"))),
    }
}

fn said(object: &Map<String, Value>, field: &str) -> Result<String> {
    match object.get(field) {
        Some(Value::String(s)) => Ok(s.clone()),
        Some(other) => {
            let message = format!("field `{field}` must be a string, found {}", kind(other));
            Err(Error::failed(message).hint("write every answer as text, numbers too"))
        }
        None => Err(Error::failed(format!("field `{field}` is missing"))),
    }
}

fn maybe(object: &Map<String, Value>, field: &str) -> Option<String> {
    match object.get(field)? {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// The one answer of a sample of lmms-eval: `filtered_resps` is a text, or a list with one.
fn response(object: &Map<String, Value>) -> Result<String> {
    const FIELD: &str = "filtered_resps";
    let mut value = object.get(FIELD).ok_or_else(|| Error::failed(format!("field `{FIELD}` is missing")))?;
    while let Value::Array(list) = value {
        match list.as_slice() {
            [one] => value = one,
            _ => {
                return Err(Error::failed(format!(
                    "field `{FIELD}` holds {} responses instead of one answer",
                    list.len()
                ))
                .hint("samples of likelihood tasks hold no answers"));
            }
        }
    }
    match value {
        Value::String(s) => Ok(s.clone()),
        other => Err(Error::failed(format!("field `{FIELD}` must hold text, found {}", kind(other)))),
    }
}

/// VLMEvalKit's `.json`: a list of records.
fn records(path: &Path, collected: &mut Collected) -> Result<()> {
    let step = || format!("reading {}", path.display());
    let list: Vec<Map<String, Value>> =
        serde_json::from_slice(&std::fs::read(path).with_context(step)?).with_context(step).map_err(|e| {
            e.hint("VLMEvalKit writes a list of objects; a file with a line for each answer ends in .jsonl")
        })?;
    for (i, object) in list.iter().enumerate() {
        collected
            .add(Harness::VlmEvalKit, object)
            .map_err(|e| e.context(format!("{} item {}", path.display(), i + 1)))?;
    }
    Ok(())
}

fn delimited(path: &Path, delimiter: u8, collected: &mut Collected) -> Result<()> {
    let step = || format!("reading {}", path.display());
    let failed = |e: csv::Error| Error::failed(e.to_string());
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).from_path(path).map_err(failed).with_context(step)?;
    let header: Vec<String> = reader
        .headers()
        .map_err(failed)
        .with_context(step)?
        .iter()
        .map(|h| h.trim_start_matches('\u{feff}').into())
        .collect();
    for (i, record) in reader.records().enumerate() {
        let place = || format!("{} row {}", path.display(), i + 1);
        let record = record.map_err(failed).with_context(place)?;
        let cells = record.iter().map(|cell| Value::String(cell.to_string()));
        let object: Map<String, Value> = header.iter().cloned().zip(cells).collect();
        collected.add(Harness::VlmEvalKit, &object).map_err(|e| e.context(place()))?;
    }
    Ok(())
}

fn excel(path: &Path, collected: &mut Collected) -> Result<()> {
    let step = || format!("reading {}", path.display());
    let failed = |e: calamine::Error| Error::failed(e.to_string()).hint("the file is incomplete or no workbook");
    let mut book = open_workbook_auto(path).map_err(failed).with_context(step)?;
    let sheet =
        book.worksheet_range_at(0).ok_or_else(|| Error::failed("the workbook has no sheet")).with_context(step)?;
    let sheet = sheet.map_err(failed).with_context(step)?;
    let mut rows = sheet.rows();
    let header: Vec<String> = rows.next().unwrap_or_default().iter().map(ToString::to_string).collect();
    for (i, row) in rows.enumerate() {
        let object: Map<String, Value> = header.iter().cloned().zip(row.iter().map(cell)).collect();
        collected
            .add(Harness::VlmEvalKit, &object)
            .map_err(|e| e.context(format!("{} row {}", path.display(), i + 2)))?;
    }
    Ok(())
}

/// A cell as text: an answer `3` is a number to a workbook.
fn cell(data: &Data) -> Value {
    match data {
        Data::Float(f) if f.fract() == 0.0 && f.abs() < 1e15 => Value::String(format!("{f:.0}")),
        Data::Empty => Value::String(String::new()),
        other => Value::String(other.to_string()),
    }
}
