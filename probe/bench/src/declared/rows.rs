//! Converts the rows of a table to questions, by the columns that a benchmark file names.

use super::folder;
use super::format::{AnswerIs, ColumnTable, DataTable};
use super::template::{Formula, as_text};
use crate::image_location::ImageLocation;
use crate::labels::choice_label;
use crate::question::Question;
use crate::table::{self, TableColumns, TableRow, python_list};
use burgess_base::text::excerpt;
use burgess_base::toml_error::WrongValue;
use burgess_base::{Error, Result};
use minijinja::value::{Value, ValueKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The names that a template sees besides the columns: the whole row, for columns whose names are not identifiers, the
/// number of the row, from 0, and an item of `each` with its number.
const COMPUTED: [&str; 4] = ["row", "row_number", "item", "item_index"];

/// Returns whether a variable of a template is no column.
fn is_no_column(name: &str) -> bool {
    COMPUTED.contains(&name)
}

/// A part of a question: a column, or a formula over columns.
#[derive(Debug)]
enum Part {
    Column { name: String, optional: bool },
    Formula(Box<Formula>),
}

impl Part {
    fn parse(text: &str) -> Result<Self> {
        if text.contains("{{") || text.contains("{%") {
            return Formula::template(text).map(|formula| Self::Formula(Box::new(formula)));
        }
        match text.strip_suffix('?') {
            _ if text.trim().is_empty() || text == "?" => Err(Error::failed("the name of the column is empty")),
            Some(name) => Ok(Self::Column { name: name.into(), optional: true }),
            None => Ok(Self::Column { name: text.into(), optional: false }),
        }
    }

    /// Returns the columns that must be read, with `?` at the end of those that may be missing.
    fn columns(&self) -> Vec<String> {
        match self {
            Self::Column { name, optional: true } => vec![format!("{name}?")],
            Self::Column { name, optional: false } => vec![name.clone()],
            Self::Formula(formula) => formula.variables().into_iter().filter(|name| !is_no_column(name)).collect(),
        }
    }

    /// Returns the text of the part; `None` if it is missing or blank.
    fn text(&self, row: &TableRow, variables: &Value) -> Result<Option<String>> {
        match self {
            Self::Column { name, .. } => match row.value(name) {
                Some(serde_json::Value::Bool(truth)) => Ok(Some(if *truth { "yes" } else { "no" }.into())),
                _ => Ok(row.maybe(name).filter(|text| text.trim() != "nan")),
            },
            Self::Formula(formula) => Ok(Some(formula.render(variables)?).filter(|text| !text.trim().is_empty())),
        }
    }

    /// Returns the text of a part that must be there.
    fn required(&self, row: &TableRow, variables: &Value) -> Result<String> {
        self.text(row, variables)?.ok_or_else(|| match self {
            // The row's own error says what the cell holds.
            Self::Column { name, .. } => match row.text(name) {
                Err(e) => e,
                Ok(_) => Error::failed(format!("the column `{name}` is empty")),
            },
            Self::Formula(_) => Error::failed("the template gives an empty text"),
        })
    }

    /// Returns the texts of a part that holds a list, or one text.
    fn list(&self, row: &TableRow, variables: &Value) -> Result<Vec<String>> {
        match self {
            Self::Column { name, .. } => match row.value(name) {
                None => Ok(Vec::new()),
                Some(serde_json::Value::String(text)) if text.trim().is_empty() => Ok(Vec::new()),
                Some(serde_json::Value::String(text)) if !text.trim_start().starts_with('[') => Ok(vec![text.clone()]),
                Some(serde_json::Value::Number(number)) => Ok(vec![number.to_string()]),
                Some(serde_json::Value::String(text)) => match serde_json::from_str::<Vec<serde_json::Value>>(text) {
                    Ok(items) => Ok(items.iter().map(plain).collect()),
                    Err(_) => row.list(name),
                },
                Some(_) => row.list(name),
            },
            Self::Formula(formula) => {
                let value = formula.value(variables)?;
                match value.kind() {
                    ValueKind::Seq | ValueKind::Iterable => match value.try_iter() {
                        Ok(items) => Ok(items.map(|item| as_text(&item)).collect()),
                        Err(e) => Err(Error::failed(e.to_string())),
                    },
                    _ => {
                        let text = as_text(&value);
                        let list = text.trim_start().starts_with('[').then(|| python_list(&text)).flatten();
                        Ok(list.unwrap_or_else(|| if text.is_empty() { Vec::new() } else { vec![text] }))
                    }
                }
            }
        }
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// Where the images of a question are.
#[derive(Debug)]
enum Images {
    /// Columns that hold images, in the formats of the tables.
    Cells(Vec<String>),
    /// Parts that hold paths relative to a folder.
    Paths(Vec<Part>),
}

/// The parts of a question, as a benchmark file names them.
#[derive(Debug)]
pub(super) struct QuestionColumns {
    filter: Option<Formula>,
    images_below: Option<String>,
    id: Option<Part>,
    images: Images,
    image_optional: bool,
    image_id: Option<Part>,
    question: Part,
    context: Option<Part>,
    options: Vec<Part>,
    /// Whether `options` is one part that holds a list.
    one_list: bool,
    answer: Option<Part>,
    answer_is: AnswerIs,
    answers: Option<Part>,
    subtask: Option<Part>,
    unit: Option<Part>,
    facts: BTreeMap<String, Part>,
    extra: Vec<String>,
    each: Option<Part>,
    image_size: bool,
}

/// Parses the value of a key; an error names the table and the key.
fn part(table: &str, key: &str, text: &str) -> Result<Part, WrongValue> {
    Part::parse(text).map_err(|e| WrongValue::new(&[table, key], e))
}

impl QuestionColumns {
    /// Checks and parses the table called `table` (`columns` or `vlmevalkit`).
    pub(super) fn parse(table: &str, columns: &ColumnTable, data: &DataTable) -> Result<Self, WrongValue> {
        let maybe = |key: &str, text: &Option<String>| text.as_deref().map(|t| part(table, key, t)).transpose();
        let missing = |key: &str, what: &str| {
            WrongValue::new(&[table], Error::failed(format!("the key `{key}` is missing: {what}")))
        };
        if let Some(text) = columns.question.as_deref().filter(|text| text.ends_with('?') && !text.contains("{{")) {
            let what =
                Error::failed("the column of the question must exist in every row, so its name cannot end in `?`")
                    .hint(format!("for the same text in every row write \"{{{{ '{text}' }}}}\""));
            return Err(WrongValue::new(&[table, "question"], what));
        }
        let question = maybe("question", &columns.question)?
            .ok_or_else(|| missing("question", "name the column with the text of the question"))?;
        let image = columns.image.as_ref();
        if image.is_none() && !columns.image_optional {
            return Err(missing("image", "name the column with the image, or set image_optional = true"));
        }
        let names = image.map_or(&[][..], |image| image.texts());
        let parts = names.iter().map(|name| part(table, "image", name)).collect::<Result<Vec<_>, _>>()?;
        let computed = parts.iter().any(|part| matches!(part, Part::Formula(_)));
        let images = match computed || data.images.is_some() {
            true => Images::Paths(parts),
            false => {
                let several = names.len() > 1 || columns.image_optional;
                let optional = |name: &String| match several && !name.ends_with('?') {
                    true => format!("{name}?"),
                    false => name.clone(),
                };
                Images::Cells(names.iter().map(optional).collect())
            }
        };
        let options = columns.options.as_ref();
        let one_list = options.is_some_and(|options| options.texts().len() == 1);
        let options = options.map_or(&[][..], |options| options.texts());
        // A question may have fewer choices than there are columns for them.
        let option = |(i, text): (usize, &String)| match i {
            _ if one_list || text.ends_with('?') || text.contains("{{") => part(table, "options", text),
            0 | 1 => part(table, "options", text),
            _ => part(table, "options", &format!("{text}?")),
        };
        if columns.answer.is_none() && columns.answers.is_none() {
            return Err(missing("answer", "name the column with the right answer, or `answers` with a list of them"));
        }
        let wrong = |key: &'static str| move |e| WrongValue::new(&["data", key], e);
        Ok(Self {
            filter: data.filter.as_deref().map(Formula::expression).transpose().map_err(wrong("where"))?,
            images_below: data.images.clone(),
            id: maybe("id", &columns.id)?,
            images,
            image_optional: columns.image_optional,
            image_id: maybe("image_id", &columns.image_id)?,
            question,
            context: maybe("context", &columns.context)?,
            options: options.iter().enumerate().map(option).collect::<Result<_, _>>()?,
            one_list,
            answer: maybe("answer", &columns.answer)?,
            answer_is: columns.answer_is,
            answers: maybe("answers", &columns.answers)?,
            subtask: maybe("subtask", &columns.subtask)?,
            unit: maybe("unit", &columns.unit)?,
            facts: columns
                .facts
                .iter()
                .map(|(name, text)| {
                    let parsed = Part::parse(text).map_err(|e| WrongValue::new(&[table, "facts", name], e));
                    Ok((name.clone(), parsed?))
                })
                .collect::<Result<_, WrongValue>>()?,
            extra: columns.extra.clone(),
            each: maybe("each", &columns.each)?,
            image_size: columns.image_size,
        })
    }

    /// Returns the names of the columns to read: those of values and those of images.
    pub(super) fn columns(&self) -> (Vec<String>, Vec<String>) {
        let parts = [
            &self.id,
            &self.image_id,
            &self.context,
            &self.answer,
            &self.answers,
            &self.subtask,
            &self.unit,
            &self.each,
        ];
        let mut names: BTreeSet<String> = parts.into_iter().flatten().flat_map(Part::columns).collect();
        names.extend(self.question.columns());
        names.extend(self.options.iter().chain(self.facts.values()).flat_map(Part::columns));
        names.extend(self.filter.iter().flat_map(|f| f.variables()).filter(|name| !is_no_column(name)));
        names.extend(self.extra.iter().cloned());
        let images = match &self.images {
            Images::Cells(names) => names.clone(),
            Images::Paths(parts) => {
                names.extend(parts.iter().flat_map(Part::columns));
                Vec::new()
            }
        };
        // A column that one part requires is required.
        let all = names.clone();
        names.retain(|name| name.strip_suffix('?').is_none_or(|required| !all.contains(required)));
        (names.into_iter().collect(), images)
    }

    /// Returns the unit that the row's question belongs to, if a part gives it.
    pub(super) fn unit(&self, row: &TableRow) -> Option<String> {
        self.unit.as_ref().and_then(|part| part.text(row, &row.variables()).ok().flatten())
    }

    /// Returns whether the facts `width` and `height` are read from the images.
    pub(super) fn with_image_size(&self) -> bool {
        self.image_size
    }

    /// Converts a row to its question, or to one for each item; to none if it does not belong to the benchmark. `dir`
    /// is the folder of the table, and `next` the number of questions before, which is increased.
    pub(super) fn questions(&self, row: &TableRow, dir: &Path, next: &mut u64) -> Result<Vec<Question>> {
        let variables = row.variables();
        if let Some(filter) = &self.filter
            && !filter.is_true(&variables).map_err(|e| e.context("data.where"))?
        {
            return Ok(Vec::new());
        }
        let Some(each) = &self.each else { return Ok(vec![self.question(row, &variables, dir)?]) };
        let items = each.list(row, &variables).map_err(|e| e.context("columns.each"))?;
        let first = *next;
        *next += items.len() as u64;
        let question = |(index, item): (usize, &String)| {
            let with_item = minijinja::context! { item => item, item_index => index, ..variables.clone() };
            let q = self.question(row, &with_item, dir)?;
            Ok(Question { id: format!("{}-{index}", q.id), row: first + index as u64, ..q })
        };
        items.iter().enumerate().map(question).collect()
    }

    fn question(&self, row: &TableRow, variables: &Value, dir: &Path) -> Result<Question> {
        let named = |key: &'static str| move |e: Error| e.context(format!("columns.{key}"));
        let text = |key: &'static str, part: &Option<Part>| -> Result<Option<String>> {
            part.as_ref().map_or(Ok(None), |part| part.text(row, variables)).map_err(named(key))
        };
        let required = |key: &'static str, part: &Option<Part>| -> Result<Option<String>> {
            part.as_ref().map(|part| part.required(row, variables)).transpose().map_err(named(key))
        };
        let id = required("id", &self.id)?.unwrap_or_else(|| row.number.to_string());
        let images = self.images_of(row, variables, dir).map_err(named("image"))?;
        if images.is_empty() && !self.image_optional {
            return Err(Error::failed("the question has no image").context("columns.image"));
        }
        // Relative to the table, so that it is the same on every machine.
        let first = images.first().map(|image| {
            let name = image.to_string();
            Path::new(&name).strip_prefix(dir).map_or_else(|_| name.clone(), |below| below.display().to_string())
        });
        let image_id = required("image_id", &self.image_id)?.or(first).unwrap_or_else(|| id.clone());
        let options = self.options_of(row, variables).map_err(named("options"))?;
        let answers = match &self.answers {
            None => Vec::new(),
            Some(part) => part.list(row, variables).map_err(named("answers"))?,
        };
        let given = required("answer", &self.answer)?;
        let answer = match (given, self.answer_is) {
            (Some(given), AnswerIs::Answer) => given.trim().to_string(),
            (Some(given), is) => labelled(&given, is, &options).map_err(named("answer"))?,
            (None, _) => crate::vqa::best(&answers)
                .cloned()
                .ok_or_else(|| Error::failed("the list of answers is empty").context("columns.answers"))?,
        };
        let mut facts = BTreeMap::new();
        for (name, part) in &self.facts {
            let fact = part.text(row, variables).map_err(|e| e.context(format!("columns.facts.{name}")))?;
            facts.insert(name.clone(), fact.unwrap_or_default());
        }
        Ok(Question {
            row: row.number,
            unit: required("unit", &self.unit)?.unwrap_or_else(|| image_id.clone()),
            image_id,
            images,
            question: self.question.required(row, variables).map_err(named("question"))?,
            context: text("context", &self.context)?,
            options,
            answer,
            accepted: answers,
            subtask: text("subtask", &self.subtask)?.unwrap_or_else(|| "all".into()),
            facts,
            id,
        })
    }

    fn images_of(&self, row: &TableRow, variables: &Value, dir: &Path) -> Result<Vec<ImageLocation>> {
        match &self.images {
            Images::Cells(names) => {
                let name = |name: &String| name.strip_suffix('?').unwrap_or(name).to_string();
                Ok(names.iter().flat_map(|column| row.images(&name(column)).to_vec()).collect())
            }
            Images::Paths(parts) => {
                let below: PathBuf = self.images_below.as_ref().map_or_else(|| dir.into(), |images| dir.join(images));
                let mut found = Vec::new();
                for part in parts {
                    let paths = part.list(row, variables)?;
                    for path in paths.iter().filter(|path| !path.trim().is_empty()) {
                        let place = below.join(path);
                        // A path without an extension is a folder, unless there is such a file.
                        match place.extension().is_some() || place.is_file() {
                            true => found.push(ImageLocation::File(place)),
                            false => found.extend(folder::images(&place)?.into_iter().map(ImageLocation::File)),
                        }
                    }
                }
                Ok(found)
            }
        }
    }

    fn options_of(&self, row: &TableRow, variables: &Value) -> Result<Vec<String>> {
        match self.options.as_slice() {
            [] => Ok(Vec::new()),
            [list] if self.one_list => {
                let mut options = list.list(row, variables)?;
                while options.last().is_some_and(|option| option.trim().is_empty()) {
                    options.pop();
                }
                match options.iter().position(|option| option.trim().is_empty()) {
                    Some(gap) => Err(Error::failed(format!("the choice {} is empty", choice_label(gap)))),
                    None => Ok(options),
                }
            }
            parts => table::choices(parts.iter().map(|part| part.text(row, variables))),
        }
    }
}

/// Returns the letter of the option that an answer gives by its number or by its text.
fn labelled(given: &str, is: AnswerIs, options: &[String]) -> Result<String> {
    let given = given.trim();
    let place = match is {
        AnswerIs::Answer => return Ok(given.to_string()),
        AnswerIs::Boolean => {
            return match given.to_ascii_lowercase().as_str() {
                "1" | "1.0" | "true" | "yes" => Ok("yes".into()),
                "0" | "0.0" | "false" | "no" => Ok("no".into()),
                _ => Err(Error::failed(format!("{:?} is none of yes, no, true, false, 1, 0", excerpt(given, 60)))),
            };
        }
        AnswerIs::Index => {
            let number = given.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as usize);
            number.filter(|n| *n < options.len())
        }
        AnswerIs::Text => options.iter().position(|option| option.trim() == given),
    };
    place.map(choice_label).ok_or_else(|| {
        let what = if is == AnswerIs::Index { "the number, from 0, of" } else { "the text of" };
        Error::failed(format!("{:?} is not {what} one of the {} choices", excerpt(given, 60), options.len()))
    })
}

impl QuestionColumns {
    /// Calls `use_columns` with the columns to read.
    pub(super) fn with_columns<T>(&self, use_columns: impl FnOnce(TableColumns<'_>) -> T) -> T {
        let (values, images) = self.columns();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        use_columns(TableColumns { values: &values, images: &images })
    }
}
