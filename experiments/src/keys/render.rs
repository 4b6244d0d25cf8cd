//! The reference of keys as plain text and as Markdown.

use super::{Key, Section};
use crate::machine::text_table::{self, Align};
use burgess_base::{Error, Result, nearest};

/// Returns the reference as plain text: of all keys, or of those whose name or path begins with `prefix`.
///
/// # Errors
/// No key begins with `prefix`; the hint names similar ones.
pub fn text(sections: &[Section], prefix: Option<&str>, width: usize) -> Result<String> {
    let mut out = String::new();
    let mut file = None;
    for section in sections {
        let keys: Vec<&Key> =
            section.keys.iter().filter(|key| prefix.is_none_or(|p| begins(section, key, p))).collect();
        if keys.is_empty() {
            continue;
        }
        if file.replace(section.file) != Some(section.file) {
            out += &format!("{}# {}\n", if out.is_empty() { "" } else { "\n" }, section.file.title());
        }
        out += &format!("\n{}\n", heading(section));
        if !section.about.is_empty() {
            out += &text_table::wrap(&section.about, width).join("\n");
            out.push('\n');
        }
        let row = |key: &&Key| vec![key.name.clone(), key.kind.clone(), key.default.clone(), key.about.clone()];
        let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
        out += &text_table::table(&rows, &[Align::Left; 4], "  ", width);
    }
    match (out.is_empty(), prefix) {
        (true, Some(prefix)) => Err(unknown(sections, prefix)),
        _ => Ok(out),
    }
}

/// Whether a key's name, its path in a file, or the value that tells its table apart begins with `prefix`.
fn begins(section: &Section, key: &Key, prefix: &str) -> bool {
    let prefix = prefix.trim_matches(['[', ']']);
    let value = section.variant.as_ref().and_then(|variant| variant.split('"').nth(1));
    key.name.starts_with(prefix)
        || value == Some(prefix)
        || section.places.iter().any(|place| place.path_of(&key.name).starts_with(prefix))
}

fn unknown(sections: &[Section], prefix: &str) -> Error {
    let last = prefix.trim_matches(['[', ']']).rsplit('.').next().unwrap_or(prefix);
    let mut names: Vec<&str> = sections.iter().flat_map(|s| &s.keys).map(|key| key.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let near: Vec<String> = nearest(last, names).into_iter().map(|name| format!("`{name}`")).collect();
    Error::usage(format!("no key begins with `{prefix}`")).hint(match near.is_empty() {
        true => "`burgess study --keys` prints all".to_string(),
        false => format!("did you mean {}? `burgess study --keys` prints all", near.join(" or ")),
    })
}

/// The headers of a table in all its places: `[evaluator.recipe.align], [evaluator.recipe.tune]`.
fn heading(section: &Section) -> String {
    let place = |place: &super::reference::Place| {
        let header = place.header().unwrap_or_else(|| "Top of the file".into());
        if place.file == section.file { header } else { format!("{header} ({})", place.file.name()) }
    };
    let places: Vec<String> = section.places.iter().map(place).collect();
    let variant = section.variant.as_ref().map_or_else(String::new, |variant| format!(" with {variant}"));
    format!("{}{variant}", places.join(", "))
}

/// Introduction of the reference in Markdown.
const INTRODUCTION: &str = "# All keys

Generated from the types by `cargo run --release -- study --keys --markdown > experiments/KEYS.md`: do not edit, change the doc
comments instead. A test compares this file with the types. `burgess study --keys PREFIX` prints a part of it, and
`burgess study --schema` the same as a JSON schema for editors.

A default of `-` means that the key is absent by default, and `required` that it must be set. Tables that stand in several places are
described once.
";

/// Returns the reference of all keys as Markdown.
pub fn markdown(sections: &[Section]) -> String {
    let mut out = INTRODUCTION.to_string();
    let mut file = None;
    for section in sections {
        if file.replace(section.file) != Some(section.file) {
            out += &format!("\n## {}\n", section.file.title());
        }
        out += &format!("\n### {}\n", heading(section).replace('[', "\\[").replace(']', "\\]"));
        if !section.about.is_empty() {
            out += &format!("\n{}\n", section.about);
        }
        out += "\n| key | type | default | meaning |\n|---|---|---|---|\n";
        for key in &section.keys {
            let [kind, about] = [&key.kind, &key.about].map(|text| text.replace('|', "\\|"));
            let default = match key.default.as_str() {
                words @ ("required" | "-" | "one of these" | "see its table" | "the family's") => words.to_string(),
                value => format!("`{value}`"),
            };
            out += &format!("| `{}` | {kind} | {default} | {about} |\n", key.name);
        }
    }
    out
}
