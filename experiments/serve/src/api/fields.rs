//! Fields of a JSON object, taken out one by one: what is left over is an error, not ignored.

use super::ApiError;
use burgess_base::{nearest, text};
use serde_json::{Map, Value};

/// The fields of a JSON object that were not yet looked at. `null` is the same as absent.
#[derive(Debug)]
pub(super) struct Fields {
    /// Where the object is in the request, such as `messages[0]`; empty for the request itself.
    path: String,
    left: Map<String, Value>,
}

impl Fields {
    pub fn new(path: impl Into<String>, mut object: Map<String, Value>) -> Self {
        object.retain(|_, value| !value.is_null());
        Self { path: path.into(), left: object }
    }

    /// Takes a value that must be an object.
    pub fn of(path: impl Into<String>, value: Value) -> Result<Self, ApiError> {
        let path = path.into();
        match value {
            Value::Object(object) => Ok(Self::new(path, object)),
            other => Err(wrong(&path, "an object", &other)),
        }
    }

    /// Returns where a field is in the request.
    pub fn at(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.left.shift_remove(name)
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(&self.at(name), "a string", &other)),
        }
    }

    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(&self.at(name), "true or false", &other)),
        }
    }

    /// Takes a number within a range.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(&self.at(name), &format!("a number from {least} to {most}"), &value)),
        }
    }

    /// Takes an integer of at least `least`. Clients whose language has one type of number may write `16.0`.
    pub fn integer(&mut self, name: &str, least: u64) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let whole = |number: f64| (number.fract() == 0.0 && (0.0..=9e15).contains(&number)).then_some(number as u64);
        match value.as_u64().or_else(|| value.as_f64().and_then(whole)).filter(|number| *number >= least) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(&self.at(name), &format!("an integer of at least {least}"), &value)),
        }
    }

    /// Takes a field that is not supported but has values that change nothing.
    pub fn neutral(&mut self, name: &str, is_neutral: impl Fn(&Value) -> bool, hint: &str) -> Result<(), ApiError> {
        match self.take(name) {
            Some(value) if !is_neutral(&value) => {
                let at = self.at(name);
                let message = format!("`{at}` = {} is not supported", shown(&value));
                Err(ApiError::unsupported(message).with_hint(hint).at(at))
            }
            _ => Ok(()),
        }
    }

    /// Takes fields that have no influence on an answer.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Fails if a field is left.
    pub fn finish(self, known: &[&str]) -> Result<(), ApiError> {
        let Some(name) = self.left.keys().next() else { return Ok(()) };
        let at = text::excerpt(&self.at(name), 200);
        let hint = match nearest(name, known.iter().copied()).first() {
            Some(near) => format!("did you mean `{near}`? Else leave it out"),
            None => "leave it out".to_owned(),
        };
        Err(ApiError::invalid(format!("`{at}` is not a field of this request"))
            .with_hint(hint)
            .at(at)
            .coded("unknown_parameter"))
    }
}

/// The error of a value of a wrong type or outside of its range.
pub(super) fn wrong(at: &str, expected: &str, found: &Value) -> ApiError {
    ApiError::invalid(format!("`{at}` is {}, must be {expected}", shown(found))).at(at).coded("invalid_value")
}

/// A value as an error shows it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(found) => format!("\"{}\"", text::excerpt(found, 60)),
        other => other.to_string(),
    }
}
