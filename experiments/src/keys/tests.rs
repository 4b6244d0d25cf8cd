//! The reference is that of the types, and every file of this repository has only keys that the schemas describe.

use super::*;
use crate::study::BUILT_IN;
use burgess_base::Context;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Checks a value against a schema: types, allowed values, required keys, and that every key is described.
fn check(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    let Some(keywords) = schema.as_object() else {
        return if *schema == json!(false) { Err("is not allowed".into()) } else { Ok(()) };
    };
    for (keyword, rule) in keywords {
        match (keyword.as_str(), rule) {
            ("$ref", Value::String(path)) => {
                let target = root.pointer(path.trim_start_matches('#')).ok_or(format!("{path} is not defined"))?;
                check(value, target, root)?;
            }
            ("allOf", Value::Array(all)) => all.iter().try_for_each(|rule| check(value, rule, root))?,
            ("anyOf" | "oneOf", Value::Array(forms)) => {
                let tried: Result<Vec<String>, ()> =
                    forms.iter().map(|form| check(value, form, root).err().ok_or(())).collect();
                if let Ok(errors) = tried {
                    return Err(format!("has none of the forms: {}", errors.join("; ")));
                }
            }
            ("const", rule) if value != rule => return Err(format!("is {value}, not {rule}")),
            ("enum", Value::Array(values)) if !values.contains(value) => return Err(format!("{value} is unknown")),
            ("type", rule) if !has_type(value, rule) => return Err(format!("{value} is not of type {rule}")),
            ("items", rule) => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(item, rule, root).map_err(|e| format!("[{i}] {e}"))?;
                }
            }
            ("minimum", Value::Number(least)) if value.as_f64() < least.as_f64() => {
                return Err(format!("{value} is below {least}"));
            }
            _ => {}
        }
    }
    let (Some(table), Some(properties)) = (value.as_object(), schema.get("properties")) else { return Ok(()) };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if let Some(missing) = required.filter_map(Value::as_str).find(|key| !table.contains_key(*key)) {
        return Err(format!("{missing} is missing"));
    }
    for (key, value) in table {
        if let Some(rule) = properties.get(key).or_else(|| schema.get("additionalProperties")) {
            check(value, rule, root).map_err(|e| format!("{key}: {e}"))?;
        }
    }
    Ok(())
}

fn has_type(value: &Value, rule: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    rule.as_str().is_some_and(is) || rule.as_array().is_some_and(|names| names.iter().filter_map(Value::as_str).any(is))
}

/// The schema, with tables that accept unknown keys because their readers ignore them closed.
fn closed(mut schema: Value) -> Value {
    let definitions = schema.get_mut("definitions").and_then(Value::as_object_mut);
    for definition in definitions.into_iter().flat_map(|all| all.values_mut()).filter_map(Value::as_object_mut) {
        if definition.contains_key("properties") && !definition.contains_key("additionalProperties") {
            definition.insert("additionalProperties".into(), json!(false));
        }
    }
    schema
}

fn check_text(text: &str, kind: FileKind, origin: &str) -> Result<()> {
    let value: Value = toml::from_str(text).map_err(|e| Error::failed(e.to_string())).context(origin.to_string())?;
    let schema = closed(kind.schema());
    check(&value, &schema, &schema).map_err(|e| Error::failed(format!("{origin}: {e}")))
}

fn check_folder(folder: &str, kind: FileKind) -> Result<usize> {
    let mut count = 0;
    for file in std::fs::read_dir(repository().join(folder)).context(folder.to_string())? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            check_text(&std::fs::read_to_string(&path)?, kind, &path.display().to_string())?;
            count += 1;
        }
    }
    Ok(count)
}

#[test]
fn the_schemas_describe_every_file() -> Result<()> {
    for (name, text) in BUILT_IN {
        check_text(text, FileKind::Study, name)?;
    }
    assert!(check_folder("probe/bench/benchmarks", FileKind::Benchmark)? > 0);
    assert!(check_folder("probe/data/mix/mixes", FileKind::Mix)? > 10);
    check_text(burgess_engine::init::ENGINE, FileKind::Engine, "engine.toml")?;
    assert!(check_folder("encoders/zoo", FileKind::Card)? > 30);
    assert!(check_folder("probe/zoo/llms", FileKind::LlmCard)? > 4);
    assert!(check_folder("probe/zoo/nano-lm", FileKind::LlmRecipe)? > 0);
    assert!(check_folder("probe/zoo/nano-lm/base", FileKind::LlmRecipe)? > 0);
    Ok(())
}

#[test]
fn the_schemas_refuse_unknown_keys_and_values() {
    let nano = StudyConfig::built_in("nano").unwrap_or_default();
    for (from, to) in [
        ("seeds = ", "sedes = "),
        ("[evaluator.recipe.tune]", "[evaluator.recipe.tuna]"),
        ("optimiser = \"muon\"", "optimiser = \"sgd\""),
        ("mlp2x_gelu", "mlp3x_gelu"),
        ("positions = true", "position = true"),
        ("epochs = 1.0", "epochs = \"1\""),
    ] {
        assert!(nano.contains(from), "{from}");
        assert!(check_text(&nano.replacen(from, to, 1), FileKind::Study, to).is_err(), "{to}");
    }
    let encoders = "encoders = [{ source = \"d\", layer = 7, weights = \"random\" }, \"e@7\"]";
    let text = nano.replacen("encoders = [\"nano-siglip\"]", encoders, 1);
    assert_eq!(check_text(&text, FileKind::Study, "tables").map_err(|e| e.to_string()), Ok(()));
}

#[test]
fn the_reference_in_the_repository_is_that_of_the_types() -> Result<()> {
    let path = repository().join("experiments/KEYS.md");
    let found = std::fs::read_to_string(&path).context("reading experiments/KEYS.md")?;
    let expected = markdown(&sections());
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "experiments/KEYS.md is not that of the types; write it again:\n\
         cargo run --release -- study --keys --markdown > experiments/KEYS.md\nfirst difference: {differs:#?}"
    );
    Ok(())
}

/// serde leaves out default values when it writes a file, and schemars then leaves them out of the schema.
#[test]
fn every_key_has_a_description_and_a_default() {
    for section in sections() {
        for key in &section.keys {
            let name = format!("{:?}: {}", section.places.first().map(|place| &place.path), key.name);
            assert!(!key.about.is_empty(), "{name} has no doc comment");
            assert!(!key.about.contains("[`") && !key.about.contains("None"), "{name}: {}", key.about);
            let has_none = key.default != "-" || key.is_optional;
            assert!(has_none, "{name}: add schemars(!skip_serializing_if), so that its default is known");
        }
    }
}

#[test]
fn a_part_of_the_reference_is_chosen_by_prefix() -> Result<()> {
    let sections = sections();
    let part = |prefix: &str| text(&sections, Some(prefix), usize::MAX);
    let recipe = part("evaluator.recipe.tune")?;
    assert!(recipe.contains("[evaluator.recipe.align], [evaluator.recipe.tune]\n"), "{recipe}");
    assert!(recipe.lines().any(|line| line.starts_with("  warmup ") && line.contains(" 0.03 ")), "{recipe}");
    assert!(!recipe.contains("per_benchmark"));
    assert_eq!(part("[evaluator.recipe.tune]")?, recipe);
    assert!(part("vit")?.contains("with architecture = \"vit\"\n"));
    assert!(part("sampler_lr")?.contains("vision_query"));
    assert!(part("warmpu").is_err_and(|e| e.exit_code() == 2 && e.hint_text().is_some_and(|h| h.contains("`warmup`"))));
    Ok(())
}

#[test]
fn links_in_doc_comments_become_names() {
    assert_eq!(without_links("A [`Tap`](crate::Tap), as [`super::clip`]\nsays.\n\nMore."), "A `Tap`, as `clip` says.");
}
