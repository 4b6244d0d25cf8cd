//! Expressions and templates of a benchmark file, over the columns of a row or over a question.

use crate::labels::choice_label;
use crate::lmms;
use burgess_base::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, Expression, UndefinedBehavior};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Maximum number of steps of one evaluation, so that a loop in a file ends.
const FUEL: u64 = 1_000_000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// Returns an environment with the filters of benchmark files; an undefined variable is an error.
fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    // Python's defaults for line breaks after blocks, as in chat templates.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        env.set_syntax(syntax);
    }
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("letter", |number: usize| choice_label(number));
    env.add_filter("lettered", lettered);
    env.add_filter("fromjson", from_json);
    env.add_filter("capitalised", |text: String| lmms::capitalised(&text));
    env
}

/// Formats options one per line, with `form` for the label: `{}. ` (the default) gives `A. dog`.
fn lettered(options: Vec<String>, form: Option<String>) -> std::result::Result<String, minijinja::Error> {
    let form = form.unwrap_or_else(|| "{}. ".into());
    let Some((before, after)) = form.split_once("{}") else {
        return Err(minijinja::Error::new(
            ErrorKind::InvalidOperation,
            format!("the form {form:?} of `lettered` must contain {{}}, where the letter stands"),
        ));
    };
    let line = |(i, option): (usize, &String)| format!("{before}{}{after}{option}", choice_label(i));
    Ok(options.iter().enumerate().map(line).collect::<Vec<_>>().join("\n"))
}

/// Parses a text that is JSON, such as a cell of a CSV file that holds an object.
fn from_json(text: String) -> std::result::Result<Value, minijinja::Error> {
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => Ok(Value::from(Serde(value))),
        Err(e) => Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{text:.80?} is not JSON: {e}"))),
    }
}

/// An expression, or a template that is rendered as text.
#[derive(Debug)]
pub(super) enum Formula {
    /// An expression, whose value keeps its type.
    Expression { expression: Expression<'static, 'static>, text: String },
    /// A template.
    Template { env: Environment<'static>, variables: BTreeSet<String> },
}

/// Name of the only template of an environment.
const NAME: &str = "template";

impl Formula {
    /// Parses an expression such as `subtask == 'x'`.
    pub(super) fn expression(text: &str) -> Result<Self> {
        let expression = ENVIRONMENT.compile_expression_owned(text.to_string()).map_err(|e| invalid(&e))?;
        Ok(Self::Expression { expression, text: text.trim().to_string() })
    }

    /// Parses a template; `{{ … }}` alone is an expression.
    pub(super) fn template(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let only = trimmed.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        if let Some(inner) = only.filter(|inner| !inner.contains("{{") && !inner.contains("{%")) {
            return Self::expression(inner.trim_start_matches('-').trim_end_matches('-'));
        }
        Self::text(text)
    }

    /// Parses a template that is always rendered as text.
    pub(super) fn text(text: &str) -> Result<Self> {
        let mut env = environment();
        env.add_template_owned(NAME, text.to_string()).map_err(|e| invalid(&e))?;
        let variables = env.get_template(NAME).map_err(|e| invalid(&e))?.undeclared_variables(false);
        Ok(Self::Template { env, variables: variables.into_iter().collect() })
    }

    /// Returns the names of the variables that the formula uses.
    pub(super) fn variables(&self) -> BTreeSet<String> {
        match self {
            Self::Expression { expression, .. } => expression.undeclared_variables(false).into_iter().collect(),
            Self::Template { variables, .. } => variables.clone(),
        }
    }

    /// Evaluates the formula with these variables.
    pub(super) fn value(&self, variables: &Value) -> Result<Value> {
        match self {
            Self::Expression { expression, text } => {
                expression.eval(variables.clone()).and_then(|value| match value.is_undefined() {
                    true => Err(minijinja::Error::new(ErrorKind::UndefinedError, format!("`{text}`"))),
                    false => Ok(value),
                })
            }
            Self::Template { env, .. } => {
                env.get_template(NAME).and_then(|template| template.render(variables.clone())).map(Value::from)
            }
        }
        .map_err(|e| invalid(&e))
    }

    /// Checks with sample variables that filters, tests and functions exist; other errors depend on the values.
    pub(super) fn check_names(&self, sample: &Value) -> Result<()> {
        let Self::Template { env, .. } = self else { return Ok(()) };
        match env.get_template(NAME).and_then(|template| template.render(sample.clone())) {
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::UnknownFilter
                        | ErrorKind::UnknownTest
                        | ErrorKind::UnknownFunction
                        | ErrorKind::UnknownMethod
                ) =>
            {
                Err(invalid(&e))
            }
            _ => Ok(()),
        }
    }

    /// Evaluates the formula to text; none and undefined are empty.
    pub(super) fn render(&self, variables: &Value) -> Result<String> {
        Ok(as_text(&self.value(variables)?))
    }

    /// Evaluates the formula to a truth value.
    pub(super) fn is_true(&self, variables: &Value) -> Result<bool> {
        Ok(self.value(variables)?.is_true())
    }
}

/// Returns a value as text; none and undefined are empty.
pub(super) fn as_text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => String::new(),
        _ => value.to_string(),
    }
}

/// Describes an error of the template engine with its cause and, in a template of several lines, its line.
fn invalid(e: &minijinja::Error) -> Error {
    let detail = e.detail().map_or_else(|| e.kind().to_string(), |detail| format!("{}: {detail}", e.kind()));
    let error = Error::failed(match e.line() {
        Some(line) if line > 1 => format!("line {line} of the template: {detail}"),
        _ => detail,
    });
    match e.kind() {
        ErrorKind::SyntaxError => {
            error.hint("in a template, text stands as it is, a value as {{ value }} and a statement as {% statement %}")
        }
        ErrorKind::UnknownFilter => {
            error.hint("besides the filters of minijinja there are letter, lettered, capitalised and fromjson")
        }
        ErrorKind::UndefinedError => error.hint("check the names of columns, and of the facts in [columns.facts]"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn an_expression_alone_keeps_its_type() -> Result<()> {
        let variables = context! { index => 9, names => ["a", "b"], name => "Dog" };
        assert_eq!(Formula::template("{{ index // 4 }}")?.value(&variables)?, Value::from(2));
        assert_eq!(Formula::template("{{ names }}")?.value(&variables)?.len(), Some(2));
        assert_eq!(Formula::template("{{ name.lower() }}/{{ index }}")?.render(&variables)?, "dog/9");
        let cell = context! { meta => "{\"thing\": \"sign\"}" };
        assert_eq!(Formula::template("{{ (meta | fromjson).thing }}")?.render(&cell)?, "sign");
        assert_eq!(Formula::text("{{ names | lettered('({}) ') }}")?.render(&variables)?, "(A) a\n(B) b");
        assert!(Formula::expression("index == 9 and name != 'x'")?.is_true(&variables)?);
        Ok(())
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let error = |text: &str| match Formula::template(text).and_then(|f| f.render(&context! { a => 1 })) {
            Ok(text) => text,
            Err(e) => e.to_string(),
        };
        assert!(error("{{ b }}").contains("undefined"), "{}", error("{{ b }}"));
        assert!(error("x {{ a }").contains("syntax error"), "{}", error("x {{ a }"));
        assert!(error("{% for i in range(9999999) %}{{ i }}{% endfor %}x").contains("range"));
        let endless = "{% for i in range(9000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}x";
        assert!(error(endless).contains("fuel"), "{}", error(endless));
    }

    #[test]
    fn variables_are_found() -> Result<()> {
        let names = |f: Formula| f.variables().into_iter().collect::<Vec<_>>();
        assert_eq!(names(Formula::template("{{ a }}/{{ b.c | upper }}")?), ["a", "b"]);
        assert_eq!(names(Formula::expression("a == 1 or row['x y']")?), ["a", "row"]);
        Ok(())
    }
}
