//! The fields of `results.json` that no run of a study sets.

use burgess_reports::schema::RunResults;
use serde_json::Value;
use std::collections::BTreeSet;

/// Returns the paths of the fields of `results.json` that no run sets: those that are `null`, 0, false, empty or
/// missing in every run and for every benchmark. Keys that are names (of benchmarks, categories, versions) are written
/// `*`.
/// `config` is not inspected.
pub fn unset_fields(runs: &[RunResults]) -> BTreeSet<String> {
    let (mut known, mut set) = (BTreeSet::new(), BTreeSet::new());
    for run in runs {
        note_fields(&serde_json::to_value(run).expect("numbers, texts and maps"), "", &mut known, &mut set);
    }
    known.extend(OPTIONAL.map(String::from));
    known.into_iter().filter(|path| !set.contains(path)).collect()
}

/// Fields that are omitted from the file if they have no value.
const OPTIONAL: [&str; 6] =
    ["notes", "results.*.constant", "results.*.likelihood", "results.*.sample_of", "run.published", "run.role"];

/// Keys whose members are names chosen by the study.
const NAMED: [&str; 4] = ["results", "categories", "versions", "digests"];

/// Adds the paths of all fields below `path` to `known`, and those of the fields with a value to `set`.
fn note_fields(value: &Value, path: &str, known: &mut BTreeSet<String>, set: &mut BTreeSet<String>) {
    let empty = match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    };
    if !path.is_empty() {
        known.insert(path.to_string());
    }
    if empty {
        return;
    }
    // Parents are set too: `results` is set as soon as a field in it is.
    set.insert(path.to_string());
    if let (Value::Object(fields), true) = (value, path != "config") {
        for (key, inner) in fields {
            let key = if NAMED.contains(&path) { "*" } else { key };
            let inner_path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
            note_fields(inner, &inner_path, known, set);
        }
    }
}

#[test]
fn a_field_that_no_run_sets_is_found() {
    let json = serde_json::json!({
        "schema": 1, "run": {"id": "r", "study": "s", "arm": "a", "encoders": ["e"], "freeze": "frozen",
        "connector": "mlp", "llm": "l", "seed": 1, "role": "random"}, "results": {"b": {"category": "General",
        "metric": "accuracy", "score": 1, "stderr": 0, "chance": 25, "blind": 0, "n": 4, "n_unparsed": 0,
        "higher_is_better": true, "seconds": null, "units": [["u", 1, 2, 0]]}}, "categories": {"General": 1.0},
        "average": 1.0, "cost": {"encoder_params": 1, "gflops_per_image": 1, "tokens": 1, "train_seconds": 1,
        "images_per_second": 0, "peak_memory_bytes": 1}, "config": {"empty": ""}, "versions": {"burn": ""},
        "digests": {"d": "1"}, "date": "now", "device": "flex"
    });
    let run: RunResults = serde_json::from_value(json).expect("results of a run");
    let mut other = run.clone();
    let result = other.results.get_mut("b").expect("a benchmark");
    (result.seconds, result.blind) = (2.0, 3.0);
    let unset: Vec<String> = unset_fields(&[run, other]).into_iter().collect();
    assert_eq!(
        unset,
        [
            "cost.images_per_second",
            "notes",
            "results.*.constant",
            "results.*.likelihood",
            "results.*.n_reasoning",
            "results.*.n_unparsed",
            "results.*.sample_of",
            "results.*.stderr",
            "run.published",
            "versions.*"
        ]
    );
}
