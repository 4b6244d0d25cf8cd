//! A row of a table, and the conversion of its cells.

use super::python_list::python_list;
use crate::image_location::ImageLocation;
use crate::json_value::describe;
use crate::labels::{MOST_CHOICES, choice_label};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A row of a table.
#[derive(Debug)]
pub struct TableRow {
    /// File and row number, for errors.
    pub place: String,
    /// Number of the row in the split, from 0.
    pub number: u64,
    pub(super) values: Map<String, Value>,
    pub(super) images: BTreeMap<String, Vec<ImageLocation>>,
}

impl TableRow {
    /// Creates a row from cells by column and images by column.
    pub(crate) fn new(
        place: String,
        number: u64,
        values: Map<String, Value>,
        images: BTreeMap<String, Vec<ImageLocation>>,
    ) -> Self {
        Self { place, number, values, images }
    }

    /// Returns the variables of templates over the row: every column by its name, the whole row as `row`, and the
    /// number of the row as `row_number`.
    pub(crate) fn variables(&self) -> minijinja::Value {
        let row = minijinja::Value::from(minijinja::value::Serde(&self.values));
        minijinja::context! { row => row.clone(), row_number => self.number, ..row }
    }

    /// Returns the cell if it exists and is not null.
    pub fn value(&self, column: &str) -> Option<&Value> {
        self.values.get(column).filter(|v| !v.is_null())
    }

    /// Returns whether the table has the column; in JSON, whether the row has the field.
    pub fn has(&self, column: &str) -> bool {
        self.values.contains_key(column)
    }

    /// Returns the row's own id in parentheses, such as ` (index 105)`; empty if no column holds one.
    pub fn name(&self) -> String {
        let columns = ["index", "idx", "id", "pid", "question_id", "questionId", "Index", "lndex"];
        let named = columns.iter().find_map(|column| Some((column, self.maybe(column)?)));
        named.map_or_else(String::new, |(column, name)| format!(" ({column} {})", excerpt(&name, 40)))
    }

    /// Returns text that must exist and not be blank; numbers are converted to text.
    pub fn text(&self, column: &str) -> Result<String> {
        match self.maybe(column) {
            Some(text) => Ok(text),
            None => Err(match self.value(column) {
                None => Error::failed(format!("the column `{column}` is empty")),
                Some(Value::String(_)) => Error::failed(format!("the column `{column}` is blank")),
                Some(other) => {
                    Error::failed(format!("the column `{column}` must hold text, found {}", describe(other)))
                }
            }),
        }
    }

    /// Returns optional text; numbers are converted to text, blank text and NaN count as missing.
    pub fn maybe(&self, column: &str) -> Option<String> {
        match self.value(column)? {
            Value::String(s) if s.trim().is_empty() => None,
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// Returns an integer, which may also be written as text or as 3.0.
    pub fn int(&self, column: &str) -> Result<i64> {
        let found = match self.value(column) {
            Some(Value::Number(n)) => n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64)),
            Some(Value::String(s)) => s.trim().parse().ok(),
            _ => None,
        };
        found.ok_or_else(|| {
            let found = self.value(column).map_or_else(|| "nothing".into(), describe);
            Error::failed(format!("the column `{column}` must hold a whole number, found {found}"))
        })
    }

    /// Returns the letter of the choice whose number, from 0, the cell holds.
    pub fn letter(&self, column: &str) -> Result<String> {
        let number = self.int(column)?;
        let number_of = usize::try_from(number).ok().filter(|n| *n < MOST_CHOICES);
        number_of.map(choice_label).ok_or_else(|| {
            Error::failed(format!("the column `{column}` must hold the number of a choice, found {number}"))
        })
    }

    /// Returns a list of texts (numbers are converted). A text in the form of a JSON or Python list is parsed.
    pub fn list(&self, column: &str) -> Result<Vec<String>> {
        let wrong = |value: Option<&Value>| {
            let found = value.map_or_else(|| "nothing".into(), describe);
            Error::failed(format!("the column `{column}` must hold a list of texts, found {found}"))
        };
        match self.value(column) {
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(s) => Ok(s.clone()),
                    Value::Number(n) => Ok(n.to_string()),
                    other => Err(wrong(Some(other))),
                })
                .collect(),
            Some(Value::String(s)) => python_list(s).ok_or_else(|| wrong(self.value(column))),
            other => Err(wrong(other)),
        }
    }

    /// Returns the choices that a column lists, in the order of their letters, without null or blank ones at the end.
    ///
    /// # Errors
    /// An error is returned if the cell is not a list of texts, or if a choice follows a null or blank one.
    pub fn choices(&self, column: &str) -> Result<Vec<String>> {
        match self.value(column) {
            Some(Value::Array(items)) => choices(items.iter().map(|item| match item {
                Value::Null => Ok(None),
                Value::String(s) => Ok(Some(s.clone())),
                Value::Number(n) => Ok(Some(n.to_string())),
                other => {
                    let found = describe(other);
                    Err(Error::failed(format!("the column `{column}` must hold a list of texts, found {found}")))
                }
            })),
            _ => choices(self.list(column)?.into_iter().map(|s| Ok(Some(s)))),
        }
    }

    /// Returns the images of a column; none if the cell is empty.
    pub fn images(&self, column: &str) -> &[ImageLocation] {
        self.images.get(column).map_or(&[], Vec::as_slice)
    }

    /// Returns the only image of a column.
    pub fn image(&self, column: &str) -> Result<ImageLocation> {
        match self.images(column) {
            [image] => Ok(image.clone()),
            found => Err(Error::failed(format!("the column `{column}` holds {} images instead of one", found.len()))),
        }
    }
}

/// Returns the choices up to the first that is missing or blank.
///
/// # Errors
/// An error is returned if another choice follows, because the letters would then be ambiguous.
pub fn choices(all: impl Iterator<Item = Result<Option<String>>>) -> Result<Vec<String>> {
    let mut there = Vec::new();
    let mut gap = None;
    for (choice, letter) in all.zip('A'..) {
        match (choice?.filter(|text| !text.trim().is_empty()), gap) {
            (Some(text), None) => there.push(text),
            (Some(_), Some(gap)) => {
                return Err(Error::failed(format!("the choice {gap} is empty, but {letter} is not")));
            }
            (None, _) => gap = gap.or(Some(letter)),
        }
    }
    Ok(there)
}
