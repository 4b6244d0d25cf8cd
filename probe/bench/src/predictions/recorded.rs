//! Reads scores that another program recorded for each question: the samples of lmms-eval and of lm-evaluation-harness,
//! the judged tables of VLMEvalKit, and the verdicts and samples of Burgess.

use super::files::{delimited_rows, excel_rows, identifier, optional_text, said};
use crate::json_value::describe;
use crate::rows;
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Scores that a file records for its questions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordedScores {
    /// Name of the program whose format it is.
    pub writer: String,
    /// Name of the metric whose scores were read.
    pub metric: String,
    /// Names of further metrics in the file.
    pub other_metrics: Vec<String>,
    /// The questions, in the order of the file.
    pub entries: Vec<RecordedEntry>,
    /// Number of entries without a score of this metric.
    pub without_score: usize,
    /// Whether the file names the images or groups to which questions belong. If not, every question is its own unit.
    pub names_units: bool,
    /// Whether every entry has a blind score.
    pub has_blind: bool,
}

/// One question with its recorded score.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordedEntry {
    /// Id of the question.
    pub id: String,
    /// Id of the image or group; the id of the question if the file names none.
    pub unit: String,
    /// Subtask or category of the question; may be empty.
    pub subtask: String,
    /// Text of the question; empty if the file does not repeat it.
    pub question: String,
    /// The prompt; empty if the file does not repeat it.
    pub prompt: String,
    /// Path of the image; may be empty.
    pub image: String,
    /// The right answer; empty if the file does not repeat it.
    pub target: String,
    /// The answer.
    pub answer: String,
    /// The recorded score, 0 to 1.
    pub score: f64,
    /// The answer without the image; empty if there is none.
    pub blind_answer: String,
    /// Score without the image, 0 to 1; 0 if there is none.
    pub blind_score: f64,
}

/// Fields of the samples of lmms-eval and lm-evaluation-harness that are no metrics.
const NO_METRICS: [&str; 16] = [
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
    "input",
    "token_counts",
    "idx",
    "request_idx",
    "submission",
];

/// Fields of a question that name its image.
const IMAGE_FIELDS: [&str; 7] = ["image_id", "imageId", "img_id", "image_path", "img_path", "image", "file_name"];

/// Reads the scores of a metric; without a name, of the metric that most questions have. Returns `None` if the file
/// records no scores.
///
/// # Errors
/// The file cannot be read, a score is not a number from 0 to 1, an id occurs twice, or there is no such metric.
pub fn read_recorded_scores(path: &Path, metric: Option<&str>) -> Result<Option<RecordedScores>> {
    let mut collected = Collected::default();
    match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("xlsx") => excel_rows(path, &mut |object, place| collected.take(object, place))?,
        Some("tsv") => delimited_rows(path, b'\t', &mut |object, place| collected.take(object, place))?,
        Some("csv") => delimited_rows(path, b',', &mut |object, place| collected.take(object, place))?,
        _ => rows::for_each(path, &mut |row| match &row.value {
            Value::Object(object) => collected.take(object, &row.place),
            _ => Ok(()),
        })?,
    }
    collected.finish(path, metric)
}

#[derive(Default)]
struct Collected {
    writer: &'static str,
    /// Entries with the score of every metric; `score` of the entry is not set yet.
    entries: Vec<(RecordedEntry, Vec<(String, f64)>)>,
    /// Number of scores by metric, in the order of their first appearance.
    metrics: Vec<(String, usize)>,
    names_units: bool,
    without_blind: bool,
}

impl Collected {
    fn take(&mut self, object: &Map<String, Value>, place: &str) -> Result<()> {
        let there = |field: &str| object.contains_key(field);
        let (writer, id) = match () {
            () if there("doc_id") => (if there("metrics") { "lm-eval" } else { "lmms-eval" }, "doc_id"),
            () if there("id") && there("score") => ("burgess", "id"),
            () if there("index") && there("prediction") => ("VLMEvalKit", "index"),
            () => return Ok(()),
        };
        let id = identifier(object.get(id))
            .map_err(|why| Error::failed(format!("field `{id}` {why}")).context(place.to_string()))?;
        let mut scores = Vec::new();
        let mut unit = None;
        for (name, value) in candidates(writer, object) {
            let (value, group) = match value {
                Value::Object(fields) => {
                    let group = ["image_id", "question_id"].iter().find_map(|f| optional_text(fields, f));
                    (fields.get("score").unwrap_or(&Value::Null), group)
                }
                other => (other, None),
            };
            // NaN is null in the JSON that is read. Where every field is a candidate, null is no score.
            let stated = writer != "lmms-eval";
            let score = match value {
                Value::Null if stated => f64::NAN,
                value => match number(value) {
                    Some(score) => score,
                    None => continue,
                },
            };
            if !score.is_finite() {
                return Err(Error::failed(format!("the score `{name}` of question `{}` is not a number", short(&id)))
                    .context(place.to_string())
                    .hint("remove the question, or give a score from 0 to 1"));
            }
            unit = unit.or(group);
            scores.push((name, score));
        }
        let entry = entry(writer, id, unit, object);
        self.names_units |= entry.unit != entry.id;
        self.without_blind |= number(object.get("blind_score").unwrap_or(&Value::Null)).is_none();
        for (name, _) in &scores {
            match self.metrics.iter_mut().find(|(known, _)| known == name) {
                Some((_, count)) => *count += 1,
                None => self.metrics.push((name.clone(), 1)),
            }
        }
        self.writer = writer;
        self.entries.push((entry, scores));
        Ok(())
    }

    fn finish(self, path: &Path, wanted: Option<&str>) -> Result<Option<RecordedScores>> {
        let names = || self.metrics.iter().map(|(name, _)| name.as_str());
        let metric = match wanted {
            Some(wanted) => match names().find(|name| *name == wanted) {
                Some(name) => name.to_string(),
                None => {
                    let known: Vec<&str> = names().collect();
                    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
                    let message = format!("{} has no metric `{wanted}`", path.display());
                    return Err(Error::usage(message).hint(format!("the metrics in the file are: {known}")));
                }
            },
            // Of metrics with as many scores, the first one.
            None => match self.metrics.iter().rev().max_by_key(|(_, count)| *count) {
                Some((name, _)) => name.clone(),
                None => return Ok(None),
            },
        };
        let mut found = RecordedScores {
            writer: self.writer.to_string(),
            other_metrics: names().filter(|name| *name != metric).map(String::from).collect(),
            names_units: self.names_units,
            has_blind: !self.without_blind,
            ..RecordedScores::default()
        };
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (mut entry, scores) in self.entries {
            let Some((_, score)) = scores.into_iter().find(|(name, _)| *name == metric) else {
                found.without_score += 1;
                continue;
            };
            if !(0.0..=1.0).contains(&score) {
                let message =
                    format!("the score `{metric}` of question `{}` is {score}, expected 0 to 1", short(&entry.id));
                return Err(Error::failed(message)
                    .context(format!("reading {}", path.display()))
                    .hint("choose another metric of the file, or score the answers again with a benchmark's rules"));
            }
            if places.insert(entry.id.clone(), found.entries.len()).is_some() {
                return Err(Error::failed(format!(
                    "the id `{}` occurs twice with a score `{metric}` in {}",
                    short(&entry.id),
                    path.display()
                ))
                .hint("keep one answer per question: the file may hold several runs"));
            }
            entry.score = score;
            found.entries.push(entry);
        }
        found.metric = metric;
        Ok(Some(found))
    }
}

fn short(id: &str) -> String {
    excerpt(id, 60)
}

/// Returns the fields that may hold scores, with the names of their metrics.
fn candidates<'a>(writer: &str, object: &'a Map<String, Value>) -> Vec<(String, &'a Value)> {
    let named = |names: &[&str]| names.iter().filter_map(|n| Some(((*n).to_string(), object.get(*n)?))).collect();
    match writer {
        "burgess" => named(&["score"]),
        "VLMEvalKit" => named(&["hit", "score"]),
        _ => {
            let listed: Option<Vec<&str>> =
                object.get("metrics").and_then(Value::as_array).map(|l| l.iter().filter_map(Value::as_str).collect());
            // lm-evaluation-harness repeats a question for every filter of its answer.
            let filter = object.get("filter").and_then(Value::as_str).filter(|f| *f != "none");
            let metric = |name: &str| match filter {
                Some(filter) => format!("{name},{filter}"),
                None => name.to_string(),
            };
            let is_metric = |name: &str| match &listed {
                Some(listed) => listed.contains(&name),
                None => !NO_METRICS.contains(&name),
            };
            object.iter().filter(|(name, _)| is_metric(name)).map(|(name, value)| (metric(name), value)).collect()
        }
    }
}

/// Returns a score: a number, a truth value, or a number as text; NaN for texts such as `nan`.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        Value::String(s) => match s.trim().to_ascii_lowercase().as_str() {
            "true" => Some(1.0),
            "false" => Some(0.0),
            text => text.parse().ok(),
        },
        _ => None,
    }
}

fn entry(writer: &str, id: String, unit: Option<String>, object: &Map<String, Value>) -> RecordedEntry {
    let text = |field: &str| optional_text(object, field).unwrap_or_default();
    let answer = |fields: &[&str]| {
        let present = fields.iter().find(|f| object.contains_key(**f)).copied().unwrap_or_default();
        said(object.get(present), 0).unwrap_or_else(|_| object.get(present).map(describe).unwrap_or_default())
    };
    let mut found = RecordedEntry { unit: id.clone(), id, ..RecordedEntry::default() };
    match writer {
        "burgess" => {
            let unit = text("unit");
            found.unit = if unit.is_empty() { found.unit } else { unit };
            (found.subtask, found.question, found.prompt) = (text("subtask"), text("question"), text("prompt"));
            (found.image, found.target) = (text("image"), text("target"));
            found.answer = object.get("answer").and_then(Value::as_str).unwrap_or_default().to_string();
            found.blind_answer = text("blind_answer");
            found.blind_score = number(object.get("blind_score").unwrap_or(&Value::Null)).unwrap_or(0.0);
        }
        "VLMEvalKit" => {
            found.subtask = text("category");
            (found.question, found.target) = (text("question"), text("answer"));
            found.answer = answer(&["prediction"]);
        }
        _ => {
            let doc = object.get("doc").and_then(Value::as_object);
            let of_doc = |field: &str| doc.and_then(|d| optional_text(d, field)).filter(|t| t.len() <= 300);
            let image = IMAGE_FIELDS.iter().find_map(|f| of_doc(f));
            found.unit = unit.or_else(|| image.clone()).unwrap_or(found.unit);
            found.image = image.unwrap_or_default();
            found.question = of_doc("question").unwrap_or_default();
            found.subtask = of_doc("category").unwrap_or_default();
            (found.prompt, found.target) = (text("input"), text("target"));
            found.answer = answer(&["filtered_resps", "resps"]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, metric: Option<&str>) -> Result<Option<RecordedScores>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_recorded_scores(&path, metric)
    }

    #[test]
    fn samples_of_lmms_eval_have_the_scores_that_it_recorded() {
        let text = r#"{"doc_id":0,"doc":{"question":"How?","image_id":7},"target":"a","filtered_resps":["a"],"input":"How?\nShort.","exact_match":1.0,"doc_hash":"x"}
            {"doc_id":1,"doc":{"question":"Who?","image_id":7},"target":["b","c"],"filtered_resps":["z"],"input":"Who?\nShort.","exact_match":0.3,"doc_hash":"y"}"#;
        let found = read("a_samples_x.jsonl", text, None).unwrap().unwrap();
        assert_eq!((found.writer.as_str(), found.metric.as_str()), ("lmms-eval", "exact_match"));
        assert!(found.names_units && !found.has_blind && found.other_metrics.is_empty());
        let [first, second] = found.entries.as_slice() else { panic!("{found:?}") };
        assert_eq!((first.id.as_str(), first.unit.as_str(), first.score), ("0", "7", 1.0));
        assert_eq!((first.question.as_str(), first.prompt.as_str()), ("How?", "How?\nShort."));
        assert_eq!((second.target.as_str(), second.answer.as_str(), second.score), ("[\"b\",\"c\"]", "z", 0.3));
        // MME records an object, and belongs to pairs of questions about one image.
        let text = r#"{"doc_id":0,"target":"Yes","filtered_resps":["Yes"],"mme_perception_score":{"question_id":"a/1.png","category":"a","score":1.0}}
            {"doc_id":1,"target":"No","filtered_resps":["Yes"],"mme_perception_score":{"question_id":"a/1.png","category":"a","score":0.0}}
            {"doc_id":2,"target":"No","filtered_resps":["Yes"],"mme_cognition_score":{"question_id":"b/1.png","category":"a","score":0.0}}"#;
        let found = read("mme.jsonl", text, None).unwrap().unwrap();
        assert_eq!((found.metric.as_str(), found.entries.len(), found.without_score), ("mme_perception_score", 2, 1));
        assert_eq!(found.other_metrics, ["mme_cognition_score"]);
        assert!(found.entries.iter().all(|e| e.unit == "a/1.png"));
        assert_eq!(read("mme.jsonl", text, Some("mme_cognition_score")).unwrap().unwrap().entries.len(), 1);
    }

    #[test]
    fn filters_of_lm_eval_are_metrics_of_their_own() {
        let line = |id: usize, filter: &str, score: f64| {
            format!(
                r#"{{"doc_id":{id},"doc":{{"question":"q{id}"}},"target":"1","resps":[["1"]],"filtered_resps":["1"],"filter":"{filter}","metrics":["exact_match"],"exact_match":{score},"other":3}}"#
            )
        };
        let text = [line(0, "strict", 0.0), line(0, "flexible", 1.0), line(1, "strict", 0.0)].join("\n");
        let found = read("samples_gsm8k.jsonl", &text, None).unwrap().unwrap();
        assert_eq!((found.metric.as_str(), found.entries.len()), ("exact_match,strict", 2));
        let found = read("samples_gsm8k.jsonl", &text, Some("exact_match,flexible")).unwrap().unwrap();
        assert_eq!((found.entries.len(), found.entries[0].score, found.without_score), (1, 1.0, 2));
        let twice = [line(0, "none", 0.0), line(0, "none", 0.0)].join("\n");
        let error = read("x.jsonl", &twice, None).unwrap_err().to_string();
        assert!(error.contains("the id `0` occurs twice with a score `exact_match`"), "{error}");
    }

    #[test]
    fn verdicts_samples_and_judged_tables_are_read() {
        let text = r#"{"id":"q1","unit":"u","subtask":"s","state":"answered","answer":"a","parsed":"a","target":"b","score":0.5}"#;
        let found = read("verdicts.jsonl", text, None).unwrap().unwrap();
        assert_eq!((found.writer.as_str(), found.entries[0].unit.as_str(), found.has_blind), ("burgess", "u", false));
        let sample = text.replace("\"score\"", "\"blind_answer\":\"c\",\"blind_score\":1.0,\"score\"");
        let found = read("samples.jsonl", &sample, None).unwrap().unwrap();
        assert!(found.has_blind && found.entries[0].blind_score == 1.0);
        let table = "index\tquestion\tanswer\tprediction\thit\tcategory\n3\tWhat?\tA\tA\t1\tx\n4\tWhy?\tB\tA\t0\tx\n";
        let found = read("model_DATA_result.tsv", table, None).unwrap().unwrap();
        assert_eq!((found.writer.as_str(), found.metric.as_str(), found.entries.len()), ("VLMEvalKit", "hit", 2));
        assert_eq!((found.entries[0].target.as_str(), found.entries[0].score), ("A", 1.0));
    }

    #[test]
    fn what_is_no_score_is_an_error_or_no_score() {
        assert_eq!(read("a.jsonl", "{\"id\":\"1\",\"answer\":\"x\"}", None).unwrap(), None);
        assert_eq!(read("a.jsonl", "", None).unwrap(), None);
        assert_eq!(read("a.tsv", "index\tprediction\n1\tA\n", None).unwrap(), None);
        let error = |text: &str| {
            let error = read("a.jsonl", text, None).unwrap_err();
            format!("{error} {}", error.hint_text().unwrap_or_default())
        };
        let nan = error("{\"id\":\"1\",\"score\":NaN}");
        assert!(nan.contains("a.jsonl:1: the score `score` of question `1` is not a number"), "{nan}");
        let large = error("{\"id\":\"1\",\"score\":57}");
        assert!(large.contains("is 57, expected 0 to 1"), "{large}");
        let metric = read("a.jsonl", "{\"id\":\"1\",\"score\":1}", Some("acc")).unwrap_err();
        assert!(metric.hint_text().unwrap().contains("score"));
    }
}
