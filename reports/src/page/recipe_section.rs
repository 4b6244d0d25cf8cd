//! The page section on how the runs were made, from their stored configurations: data, steps, learning rates, trainable
//! parts, connector, language model, seeds, device, versions; and the notes on incomplete files.

use crate::load::{RunData, StudyData};
use crate::schema;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of names that are listed; further ones are counted.
const MOST_NAMES: usize = 6;

/// Fields of a stage about its length and its learning rates; other fields follow them.
const LENGTH: [&str; 4] = ["steps", "epochs", "batch", "accumulate"];
const RATES: [&str; 7] = ["lr", "connector_lr", "sampler_lr", "llm_lr", "encoder_lr", "warmup", "schedule"];

/// Configuration fields that have rows of their own.
const ELSEWHERE: [&str; 6] = ["data", "recipe", "connector", "llm", "benchmarks", "device"];

/// Returns rows of name and value; where runs differ, every value with its arms.
pub(super) fn recipe(study: &StudyData) -> Vec<(String, String)> {
    let mut rows: Vec<(String, BTreeMap<String, BTreeSet<String>>)> = Vec::new();
    for run in &study.runs {
        let arm = schema::label(&run.results.run.arm, &run.results.run.encoders, &run.results.run.freeze);
        for (name, value) in of_run(run).into_iter().filter(|(_, value)| !value.is_empty()) {
            let place = rows.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                rows.push((name.clone(), BTreeMap::new()));
                rows.len() - 1
            });
            if let Some((_, values)) = rows.get_mut(place) {
                values.entry(value).or_default().insert(arm.clone());
            }
        }
    }
    let arms: BTreeSet<&String> = rows.iter().flat_map(|(_, values)| values.values().flatten()).collect();
    let all = arms.len();
    rows.iter().map(|(name, values)| (name.clone(), values_of(values, all))).collect()
}

/// Returns every note, with the arms whose runs have it unless these are all.
pub(super) fn notes(study: &StudyData) -> Vec<String> {
    let mut notes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for run in &study.runs {
        let id = &run.results.run;
        let arm = schema::label(&id.arm, &id.encoders, &id.freeze);
        all.insert(arm.clone());
        let configured = run.results.config.get("notes").and_then(Value::as_array).into_iter().flatten();
        let configured = configured.filter_map(Value::as_str).map(String::from);
        for note in run.notes.iter().cloned().chain(configured) {
            notes.entry(note).or_default().insert(arm.clone());
        }
    }
    let said = |(note, arms): (&String, &BTreeSet<String>)| match arms.len() == all.len() {
        true => note.clone(),
        false => format!("{note} ({})", names(arms)),
    };
    notes.iter().map(said).collect()
}

fn names(arms: &BTreeSet<String>) -> String {
    crate::formatting::short_list(&arms.iter().cloned().collect::<Vec<_>>(), MOST_NAMES)
}

/// Formats a single value, or each value with its arms.
fn values_of(values: &BTreeMap<String, BTreeSet<String>>, all: usize) -> String {
    let said = |(value, arms): (&String, &BTreeSet<String>)| match values.len() == 1 && arms.len() == all {
        true => value.clone(),
        false => format!("{value} ({})", names(arms)),
    };
    // Seeds and similar values differ within an arm, so arms are not listed.
    match values.len() > 1 && values.values().all(|arms| arms.len() == all) {
        true => values.keys().cloned().collect::<Vec<_>>().join("; "),
        false => values.iter().map(said).collect::<Vec<_>>().join("; "),
    }
}

fn of_run(run: &RunData) -> Vec<(String, String)> {
    let (results, config) = (&run.results, &run.results.config);
    let evaluator = config.get("evaluator").or_else(|| config.pointer("/config/shared/evaluator"));
    let evaluator = evaluator.or_else(|| config.pointer("/shared/evaluator"));
    let field = |key: &str| evaluator.and_then(|e| e.get(key));
    let mut rows = vec![("Data".to_string(), field("data").map_or(String::new(), text))];
    rows.push(("Digest of the data".into(), config.get("data").map_or(String::new(), text)));
    if let Some(mix) = config.get("mix") {
        let number = |key: &str| mix.get(key).map_or(String::new(), text);
        rows.push((
            "Tune conversations chosen by the arm's mix".into(),
            format!("{}: {}", number("entries"), number("kinds")),
        ));
    }
    for (stage, recipe) in field("recipe").and_then(Value::as_object).into_iter().flatten() {
        let Some(recipe) = recipe.as_object() else { continue };
        let some = |keys: &[&str]| {
            let of = recipe.iter().filter(|(key, _)| keys.contains(&key.as_str()));
            pairs(of)
        };
        let rest = recipe.iter().filter(|(key, _)| {
            !LENGTH.contains(&key.as_str()) && !RATES.contains(&key.as_str()) && *key != "trainable"
        });
        let mut trained = recipe.get("trainable").map_or(String::new(), text);
        if results.run.freeze == "unfrozen" && stage == "tune" && !trained.contains("encoder") {
            trained += ", encoder";
        }
        rows.push((format!("{stage}: length"), some(&LENGTH)));
        rows.push((format!("{stage}: learning rates"), some(&RATES)));
        rows.push((format!("{stage}: trained parts"), trained));
        rows.push((format!("{stage}: other settings"), pairs(rest)));
    }
    let connector = match config.get("connector").or(field("connector")) {
        Some(Value::Object(options)) => pairs(options.iter()),
        _ => results.run.connector.clone(),
    };
    rows.push(("Connector".into(), connector));
    let digest = results.digests.get(&results.run.llm).map_or(String::new(), |d| format!(", digest {d}"));
    rows.push(("Language model".into(), format!("{}{digest}", results.run.llm)));
    rows.push(("Freeze setting of the encoders".into(), results.run.freeze.clone()));
    let asked: BTreeSet<String> = results
        .results
        .iter()
        .map(|(name, r)| match r.sample_of {
            Some(all) => format!("{name} ({} of {all})", r.n),
            None => format!("{name} ({})", r.n),
        })
        .collect();
    rows.push(("Benchmarks (questions)".into(), asked.into_iter().collect::<Vec<_>>().join(", ")));
    let rules: BTreeSet<String> =
        results.results.values().map(|r| format!("{} scoring, {} prompts", r.scoring, r.prompts)).collect();
    rows.push(("Scoring and prompts".into(), rules.into_iter().collect::<Vec<_>>().join("; ")));
    rows.push(("Input of the blind baseline".into(), format!("image {}", results.run.blind)));
    let rest = evaluator.and_then(Value::as_object).into_iter().flatten();
    let rest = rest.filter(|(key, _)| !ELSEWHERE.contains(&key.as_str()));
    let rest = rest.filter(|(key, _)| !["scoring", "prompts", "blind"].contains(&key.as_str()));
    rows.push(("Other settings".into(), pairs(rest)));
    rows.push(("Seed".into(), results.run.seed.to_string()));
    let threads = config.get("threads").map_or(String::new(), |t| format!(", {} threads", text(t)));
    rows.push(("Device".into(), format!("{}{threads}", results.device)));
    let versions = results.versions.iter().map(|(what, version)| format!("{what} {version}"));
    rows.push(("Versions".into(), versions.collect::<Vec<_>>().join(", ")));
    rows
}

fn pairs<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    fields
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| match value {
            Value::Object(inner) => format!("{key} ({})", of_map(inner)),
            other => format!("{key} {}", text(other)),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn of_map(map: &Map<String, Value>) -> String {
    pairs(map.iter())
}

/// Formats a configuration value on one line.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Array(values) if values.len() > MOST_NAMES && values.iter().all(Value::is_object) => {
            format!("{} entries", values.len())
        }
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(map) => of_map(map),
        other => other.to_string(),
    }
}
