//! The text of an element as a reader wants it.

use super::walk::is_left_out;
use crate::outline::{Line, ReadOptions};
use scraper::{ElementRef, Node};

/// Returns the text of an element on one line, without what is left out.
pub(super) fn of(element: ElementRef<'_>, options: &ReadOptions) -> String {
    let mut line = Line::default();
    append(element, options, &mut line);
    line.finish()
}

/// Appends the text below an element. The parser limits its nesting.
pub(super) fn append(element: ElementRef<'_>, options: &ReadOptions, line: &mut Line) {
    for child in element.children() {
        match child.value() {
            Node::Text(text) => line.push(text),
            Node::Element(found) => {
                let Some(inner) = ElementRef::wrap(child) else { continue };
                match found.name() {
                    "br" | "hr" => line.push(" "),
                    _ if is_formula(inner) => match tex(inner).filter(|_| options.formulas) {
                        Some(formula) => {
                            line.push(&formula);
                            line.leave_out();
                        }
                        None => line.leave_out(),
                    },
                    "sup" if is_reference(inner) => line.leave_out(),
                    _ if is_left_out(inner) => line.leave_out(),
                    // Blocks inside, as in a caption, are apart.
                    "p" | "div" | "li" | "dd" | "dt" | "tr" | "blockquote" => {
                        line.push(" ");
                        append(inner, options, line);
                        line.push(" ");
                    }
                    _ => append(inner, options, line),
                }
            }
            _ => {}
        }
    }
}

/// Whether an element is the mark of a reference, `[1]`.
fn is_reference(element: ElementRef<'_>) -> bool {
    let mut classes = element.value().classes();
    classes.any(|class| matches!(class, "reference" | "mw-ref" | "noprint" | "Template-Fact"))
        || element.value().attr("typeof").is_some_and(|kind| kind.contains("mw:Extension/ref"))
}

/// Whether an element is a formula: its image, its MathML, or what wraps both.
fn is_formula(element: ElementRef<'_>) -> bool {
    let class = |class: &str| class.starts_with("mwe-math") || matches!(class, "tex" | "katex" | "MathJax");
    element.value().name() == "math" || element.value().classes().any(class)
}

/// Returns a formula as TeX: its annotation, or the alternative text of its image.
fn tex(element: ElementRef<'_>) -> Option<String> {
    let below = || element.descendants().filter_map(ElementRef::wrap);
    let annotation = below().find(|inner| {
        inner.value().name() == "annotation"
            && inner.value().attr("encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("application/x-tex"))
    });
    let text: String = match annotation {
        Some(annotation) => annotation.text().collect(),
        None => below().find_map(|inner| inner.value().attr("alt").filter(|_| inner.value().name() == "img"))?.into(),
    };
    let text = text.trim();
    let inner = text.strip_prefix("{\\displaystyle").and_then(|rest| rest.strip_suffix('}'));
    let inner = inner.or_else(|| text.strip_prefix("{\\textstyle").and_then(|rest| rest.strip_suffix('}')));
    Some(inner.unwrap_or(text).trim().to_string()).filter(|text| !text.is_empty())
}
