//! Reads the questions of a benchmark: from a published table, or from a question file.
//!
//! A question file has one JSON object per line, without unknown, missing or duplicate entries.
//!
//! ```json
//! {"id": "7", "image": "images/7.png", "image_id": "7", "question": "Which is nearer?",
//!  "options": ["the ball", "the box"], "answer": "B", "subtask": "depth", "unit": "7"}
//! ```
//!
//! `options` is omitted where the answer is open or yes/no; `image` may be null for a question without an image. Paths
//! are relative to the data directory.

use super::Benchmark;
use crate::card::AnswerForm;
use crate::image_location::ImageLocation;
use crate::json_value::describe;
use crate::labels::{MOST_CHOICES, choice_index};
use crate::question::{Question, QuestionSet};
use crate::rows;
use crate::rules::Rules;
use crate::skipped::SkippedRowsTally;
use crate::table::{DatasetTable, TableColumns, TableRow};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

const FIELDS: [&str; 8] = ["id", "image", "image_id", "question", "options", "answer", "subtask", "unit"];

/// Reads the questions of a benchmark that is generated on this machine, in the data directory `data`.
pub(crate) fn generated<B: Benchmark + ?Sized>(benchmark: &B, data: &Path) -> Result<QuestionSet> {
    let path = data.join("bench").join(format!("{}.jsonl", benchmark.id()));
    let questions = read_jsonl(&path, data, benchmark.card().form)?;
    check_complete(benchmark, &questions).map_err(|e| e.context(format!("reading {}", path.display())))?;
    Ok(questions.into())
}

/// Reads the questions of a published benchmark from the rows of a table. `each` converts a row to its question or
/// questions; to none if the row is not part of the benchmark.
///
/// A published table cannot be edited by its user, so a row that `each` or a check rejects is skipped and counted,
/// with the questions that are scored together with it.
///
/// # Errors
/// An error is returned if the table cannot be read, or if no row is a usable question; then it reports the problem of
/// the first row.
pub(crate) fn published<B: Benchmark + ?Sized, Q: IntoIterator<Item = Question>>(
    benchmark: &B,
    table: &DatasetTable,
    columns: TableColumns<'_>,
    each: impl FnMut(&TableRow) -> Result<Q>,
) -> Result<QuestionSet> {
    let read = published_without_answers(benchmark, table, columns, each)?;
    let step = || format!("reading {}", table.files().first().map_or_else(String::new, |f| f.display().to_string()));
    check_complete(benchmark, &read.questions).map_err(|e| e.context(step()))?;
    Ok(read)
}

/// Reads a published table as [`published`] does, but does not check that its questions can be scored, for benchmarks
/// whose right answers are not public.
pub(crate) fn published_without_answers<B: Benchmark + ?Sized, Q: IntoIterator<Item = Question>>(
    benchmark: &B,
    table: &DatasetTable,
    columns: TableColumns<'_>,
    mut each: impl FnMut(&TableRow) -> Result<Q>,
) -> Result<QuestionSet> {
    let mut collected = Collected::default();
    table.rows(columns, |place, row| {
        match row {
            Ok(row) => collected.take(benchmark, row, &place.short(), &place.to_string(), &mut each),
            Err(e) => collected.skip(&e, &place.short(), &place.to_string()),
        }
        Ok(())
    })?;
    collected.finish(benchmark)
}

/// Reads the questions of a benchmark from rows that are no table, as [`published`] does; `place` names them in errors.
pub(crate) fn rows<B: Benchmark + ?Sized, Q: IntoIterator<Item = Question>>(
    benchmark: &B,
    rows: impl Iterator<Item = TableRow>,
    place: &str,
    mut each: impl FnMut(&TableRow) -> Result<Q>,
) -> Result<QuestionSet> {
    let mut collected = Collected::default();
    for row in rows {
        collected.take(benchmark, &row, &row.place, &row.place, &mut each);
    }
    let read = collected.finish(benchmark)?;
    check_complete(benchmark, &read.questions).map_err(|e| e.context(format!("reading {place}")))?;
    Ok(read)
}

/// The questions that were read so far, and the rows that were skipped.
#[derive(Default)]
struct Collected {
    questions: Vec<Question>,
    ids: HashSet<String>,
    skipped: SkippedRowsTally,
    broken: BTreeSet<String>,
    first: Option<Error>,
}

impl Collected {
    /// Converts a row; `short` and `place` name it in counts and in errors.
    fn take<B: Benchmark + ?Sized, Q: IntoIterator<Item = Question>>(
        &mut self,
        benchmark: &B,
        row: &TableRow,
        short: &str,
        place: &str,
        each: &mut impl FnMut(&TableRow) -> Result<Q>,
    ) {
        let broken = |collected: &mut Self, e: &Error| {
            collected.broken.extend(benchmark.scored_together(row));
            collected.skip(e, &format!("{short}{}", row.name()), place);
        };
        let questions = match each(row) {
            Ok(questions) => questions,
            Err(e) => return broken(self, &e),
        };
        for q in questions {
            let checked = check_one(&q, benchmark.allows_no_image());
            match checked.and_then(|()| check_answer(&q, benchmark.card().form)) {
                Ok(()) if !self.ids.insert(q.id.clone()) => {
                    self.skipped.add("an earlier row has the same id", &format!("{short} with the id `{}`", q.id))
                }
                Ok(()) => self.questions.push(q),
                Err(e) => broken(self, &e),
            }
        }
    }

    /// Counts a row that cannot be asked.
    fn skip(&mut self, e: &Error, example: &str, place: &str) {
        self.skipped.add(&e.to_string(), example);
        self.first.get_or_insert_with(|| {
            let short = Error::failed(excerpt(&e.to_string(), 300)).context(place);
            match e.hint_text() {
                Some(hint) => short.hint(hint),
                None => short,
            }
        });
    }

    /// Returns the questions without those that are scored together with skipped rows; an error if none is usable.
    fn finish<B: Benchmark + ?Sized>(mut self, benchmark: &B) -> Result<QuestionSet> {
        if !self.skipped.is_empty() {
            complete(benchmark, &mut self.questions, &self.broken, &mut self.skipped);
        }
        match self.first {
            Some(e) if self.questions.is_empty() => Err(match self.skipped.count() {
                0 | 1 => e,
                all => e.context(format!("none of the {all} rows is a usable question")),
            }),
            _ => Ok(QuestionSet { questions: self.questions, skipped: self.skipped.into_reasons() }),
        }
    }
}

/// Removes the questions that are scored together with skipped rows: units in `broken`, and incomplete
/// units.
fn complete<B: Benchmark + ?Sized>(
    benchmark: &B,
    questions: &mut Vec<Question>,
    broken: &BTreeSet<String>,
    skipped: &mut SkippedRowsTally,
) {
    let whole = |qs: &[Question]| benchmark.items(qs, &vec![0.0; qs.len()], Rules::Official).is_ok();
    let mut gone = broken.clone();
    if !whole(questions) {
        let mut units: BTreeMap<&str, Vec<Question>> = BTreeMap::new();
        for q in questions.iter() {
            units.entry(&q.unit).or_default().push(q.clone());
        }
        gone.extend(units.iter().filter(|(_, qs)| !whole(qs)).map(|(unit, _)| (*unit).to_string()));
    }
    questions.retain(|q| {
        let stays = !gone.contains(&q.unit);
        if !stays {
            skipped.add("a question that is scored together with it was skipped", &format!("question {}", q.id));
        }
        stays
    });
}

/// Reads the questions in `path`, whose answers have the given form; image paths are relative to `data`.
///
/// Errors name file, line and field. All image files must exist; otherwise the error says how many are missing.
pub fn read_jsonl(path: &Path, data: &Path, form: AnswerForm) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    let mut lines_of: HashMap<String, usize> = HashMap::new();
    for_each_object(path, |line, object| {
        let question = question(object, data, form)?;
        if let Some(first) = lines_of.insert(question.id.clone(), line) {
            return Err(Error::failed(format!("field `id`: `{}` is already on line {first}", question.id)));
        }
        questions.push(question);
        Ok(())
    })?;
    if questions.is_empty() {
        return Err(Error::failed(format!("{} holds no questions", path.display())));
    }
    check_images(path, &questions)?;
    Ok(questions)
}

/// Checks what must hold for the questions of every benchmark: ids are unique, choices have labels, and questions
/// that are scored together are complete.
fn check_complete<B: Benchmark + ?Sized>(benchmark: &B, questions: &[Question]) -> Result<()> {
    check_questions(questions, benchmark.allows_no_image())?;
    benchmark.items(questions, &vec![0.0; questions.len()], Rules::Official).map(drop)
}

/// Checks that ids are unique and that every question has a permitted number of choices and, unless `no_image`, an
/// image.
fn check_questions(questions: &[Question], no_image: bool) -> Result<()> {
    let mut ids = BTreeSet::new();
    for q in questions {
        if !ids.insert(&q.id) {
            return Err(Error::failed(format!("two questions have the id `{}`", q.id)));
        }
        check_one(q, no_image).map_err(|e| e.context(format!("question `{}`", q.id)))?;
    }
    Ok(())
}

fn check_one(q: &Question, no_image: bool) -> Result<()> {
    match (q.options.len(), q.images.is_empty()) {
        (1, _) => Err(Error::failed("the question has only one choice")),
        (n, _) if n > MOST_CHOICES => {
            Err(Error::failed(format!("the question has {n} choices; at most {MOST_CHOICES} are supported")))
        }
        (_, true) if !no_image => Err(Error::failed("the question has no image")),
        _ => Ok(()),
    }
}

/// Calls `each` with the line number and object of every line that is not blank; errors are extended by file and line.
pub(crate) fn for_each_object(
    path: &Path,
    mut each: impl FnMut(usize, &Map<String, Value>) -> Result<()>,
) -> Result<()> {
    rows::for_each_line(path, &mut |row| match &row.value {
        Value::Object(object) => each(row.number, object).map_err(|e| e.context(row.place)),
        other => Err(Error::failed(format!("expected an object, found {}", describe(other))).context(row.place)),
    })
}

/// Returns a field that must be a string and not blank.
pub(crate) fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Result<&'a str> {
    match object.get(field) {
        Some(Value::String(s)) if !s.trim().is_empty() => Ok(s),
        Some(Value::String(_)) => Err(Error::failed(format!("field `{field}` is empty"))),
        Some(other) => Err(Error::failed(format!("field `{field}` must be a string, found {}", describe(other)))),
        None => Err(Error::failed(format!("field `{field}` is missing"))),
    }
}

fn question(object: &Map<String, Value>, data: &Path, form: AnswerForm) -> Result<Question> {
    if let Some(unknown) = object.keys().find(|k| !FIELDS.contains(&k.as_str())) {
        let message = format!("field `{unknown}` is unknown");
        return Err(Error::failed(message).hint(format!("the fields are {}", FIELDS.join(", "))));
    }
    let owned = |field: &str| text(object, field).map(String::from);
    let images = match object.get("image") {
        Some(Value::Null) => Vec::new(),
        _ => vec![ImageLocation::File(data.join(text(object, "image")?))],
    };
    let question = Question {
        id: owned("id")?,
        images,
        image_id: owned("image_id")?,
        question: owned("question")?,
        options: options(object, form)?,
        answer: owned("answer")?,
        subtask: owned("subtask")?,
        unit: owned("unit")?,
        ..Question::default()
    };
    check_answer(&question, form)?;
    Ok(question)
}

fn options(object: &Map<String, Value>, form: AnswerForm) -> Result<Vec<String>> {
    let value = match (object.get("options"), form) {
        (None, AnswerForm::Choice) => return Err(Error::failed("field `options` is missing")),
        (None, _) => return Ok(Vec::new()),
        (Some(_), AnswerForm::Open | AnswerForm::YesNo) => {
            return Err(Error::failed(
                "field `options` is not allowed, because answers of this benchmark are not letters of choices",
            ));
        }
        (Some(value), AnswerForm::Choice) => value,
    };
    let Value::Array(list) = value else {
        return Err(Error::failed(format!("field `options` must be a list of strings, found {}", describe(value))));
    };
    let mut options = Vec::with_capacity(list.len());
    let mut seen = BTreeSet::new();
    for value in list {
        match value {
            Value::String(s) if s.trim().is_empty() => {
                return Err(Error::failed("field `options` holds an empty text"));
            }
            Value::String(s) if !seen.insert(s.trim().to_string()) => {
                return Err(Error::failed(format!("field `options` holds {:?} twice", excerpt(s, 60))));
            }
            Value::String(s) => options.push(s.clone()),
            other => {
                return Err(Error::failed(format!("field `options` must hold strings, found {}", describe(other))));
            }
        }
    }
    match options.len() {
        2..=MOST_CHOICES => Ok(options),
        n => Err(Error::failed(format!("field `options` holds {n} choices; expected 2 to {MOST_CHOICES}"))),
    }
}

fn check_answer(q: &Question, form: AnswerForm) -> Result<()> {
    let problem = match form {
        AnswerForm::Open => return Ok(()),
        AnswerForm::YesNo if matches!(q.answer.to_lowercase().as_str(), "yes" | "no") => return Ok(()),
        AnswerForm::YesNo => "is neither yes nor no".to_string(),
        AnswerForm::Choice => match choice_index(&q.answer) {
            Some(number) if number < q.options.len() => return Ok(()),
            Some(_) => format!("is not among the letters of the {} choices", q.options.len()),
            None => "is not a letter such as B or (B)".to_string(),
        },
    };
    Err(Error::failed(format!("field `answer`: {:?} {problem}", excerpt(&q.answer, 60))))
}

/// Checks that all image files exist.
pub(crate) fn check_images(path: &Path, questions: &[Question]) -> Result<()> {
    let wanted: BTreeSet<&Path> = questions.iter().flat_map(|q| q.images.iter().map(ImageLocation::file)).collect();
    let missing: Vec<&Path> = wanted.iter().copied().filter(|p| !p.is_file()).collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(Error::failed(format!(
            "{}: field `image`: {} of {} image files are missing, the first is {}",
            path.display(),
            missing.len(),
            wanted.len(),
            first.display()
        ))
        .hint("make or copy the data again; image paths are relative to the data directory")),
    }
}
