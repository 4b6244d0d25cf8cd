//! Cells of CSV (RFC 4180).

/// Returns a text as a cell: quoted if it holds a comma, a quote or a line break.
pub(crate) fn csv_text(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) || text.trim() != text {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

/// Returns a number as a cell, with at most six decimals; empty if it is not finite.
pub(crate) fn csv_number(x: f64) -> String {
    if !x.is_finite() {
        return String::new();
    }
    let rounded = (x * 1e6).round() / 1e6;
    // Adding 0 turns −0 into 0.
    (rounded + 0.0).to_string()
}
