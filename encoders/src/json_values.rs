//! Readers of single values of JSON configurations.

use burgess_base::Result;
use serde_json::Value;

/// Keys for which only one value (JSON) is supported; a missing key is accepted, too.
pub(crate) type SupportedValues = [(&'static str, &'static str)];

/// Returns the first key of `fixed` for which `get` returns an unsupported value.
pub(crate) fn first_unsupported<'a>(
    fixed: &SupportedValues,
    get: impl Fn(&str) -> Option<&'a Value>,
) -> Result<Option<&'static str>> {
    for (key, only) in fixed {
        let only: Value = serde_json::from_str(only)?;
        let same = |found: &Value| *found == only || found.as_f64().is_some_and(|n| Some(n) == only.as_f64());
        if get(key).is_some_and(|found| !same(found)) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Parses a non-negative integer.
pub(crate) fn integer(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// Parses the side of a square: an integer, or two equal integers.
pub(crate) fn side(value: &Value) -> Option<usize> {
    match value.as_array().map(Vec::as_slice) {
        None => integer(value),
        Some([a, b]) if a == b => integer(a),
        Some(_) => None,
    }
}
