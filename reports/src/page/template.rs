//! Templates and style sheet of the pages.

use crate::{figure, formatting};
use burgess_base::{Error, Result};
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

/// Returns the style sheet of all pages.
pub(crate) fn style() -> String {
    format!("{}{}", figure::STYLE, include_str!("../../templates/page.css"))
}

/// The templates, by the names with which they include each other. Text is escaped because the names end in .html.
const TEMPLATES: [(&str, &str); 10] = [
    ("page.html", include_str!("../../templates/page.html")),
    ("answers.html", include_str!("../../templates/answers.html")),
    ("studies.html", include_str!("../../templates/studies.html")),
    ("mix.html", include_str!("../../templates/mix.html")),
    ("data.html", include_str!("../../templates/data.html")),
    ("paper.html", include_str!("../../templates/paper.html")),
    ("mlcd.html", include_str!("../../templates/mlcd.html")),
    ("analysis.html", include_str!("../../templates/analysis.html")),
    ("validity.html", include_str!("../../templates/validity.html")),
    ("style.html", include_str!("../../templates/style.html")),
];

pub(crate) fn render<T: Serialize>(template: &str, filled: &T) -> Result<String> {
    let failed = |e: minijinja::Error| Error::failed(e.to_string()).context("writing the page");
    let mut env = Environment::new();
    // Names, questions and answers are untrusted: characters that would affect a browser or mislead a reader are shown
    // as escapes.
    env.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => minijinja::escape_formatter(
            out,
            state,
            &minijinja::Value::from(formatting::escaped(text, true).into_owned()),
        ),
        _ => minijinja::escape_formatter(out, state, value),
    });
    env.add_filter("thousands", formatting::thousands);
    for (name, text) in TEMPLATES {
        env.add_template(name, text).map_err(failed)?;
    }
    env.get_template(template).map_err(failed)?.render(Serde(filled)).map_err(failed)
}
