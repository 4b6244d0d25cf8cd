//! Descriptions of JSON values for error messages.

use burgess_base::text::excerpt;
use serde_json::Value;

/// Describes a JSON value in words, such as `the number 3` or `a list of 2`.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => format!("the boolean {b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) => format!("the string {:?}", excerpt(s, 60)),
        Value::Array(a) => format!("a list of {}", a.len()),
        Value::Object(_) => "an object".into(),
    }
}
