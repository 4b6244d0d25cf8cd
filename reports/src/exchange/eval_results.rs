//! The `.eval_results/*.yaml` files of the Hugging Face hub, which show scores on a model's page and on the leaderboard
//! of a benchmark's dataset.

use super::{HubDataset, Publication, timestamp};
use crate::formatting;
use crate::schema::{BenchmarkResult, RunResults};

/// Returns the name and the content of one file per benchmark that was read from a dataset on the hub.
///
/// The hub identifies a benchmark by its dataset, so benchmarks without an entry in [`Publication::datasets`], such as
/// those of generated worlds, have no file. Values are percentages; the notes name the rules, the standard error and
/// the number of questions.
pub fn eval_results_yaml(run: &RunResults, about: &Publication) -> Vec<(String, String)> {
    let file = |(name, result): (&String, &BenchmarkResult)| {
        let dataset = about.datasets.get(name)?;
        let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
        let stem: String = name.chars().map(safe).collect();
        Some((format!("{}.yaml", stem.trim_start_matches('.')), entry(run, name, result, dataset, about)))
    };
    run.results.iter().filter_map(file).collect()
}

fn entry(run: &RunResults, name: &str, result: &BenchmarkResult, dataset: &HubDataset, about: &Publication) -> String {
    let task = dataset.task.as_deref().unwrap_or("default");
    let mut text = format!("- dataset:\n    id: {}\n    task_id: {}\n", quoted(&dataset.repository), quoted(task));
    if let Some(revision) = &dataset.revision {
        text += &format!("    revision: {}\n", quoted(revision));
    }
    text += &format!("  value: {}\n", value(result.score));
    if timestamp::unix_seconds(&run.date).is_some() {
        text += &format!("  date: {}\n", quoted(&run.date));
    }
    if let Some(url) = &about.url {
        text += &format!("  source:\n    url: {}\n    name: \"Burgess\"\n", quoted(url));
        if let Some(organization) = &about.organization {
            text += &format!("    org: {}\n", quoted(organization));
        }
    }
    text + &format!("  notes: {}\n", quoted(&notes(run, name, result)))
}

/// Describes how the score was measured.
fn notes(run: &RunResults, name: &str, result: &BenchmarkResult) -> String {
    let version = run.versions.get("burgess").map_or_else(String::new, |v| format!(" {v}"));
    let mut notes = format!(
        "{name}: {}, {} scoring, {} prompts, standard error {:.2}, {}",
        result.metric,
        result.scoring,
        result.prompts,
        result.stderr,
        formatting::count(result.n, "question")
    );
    if let Some(all) = result.sample_of {
        notes += &format!(" (a sample of {all})");
    }
    notes + &format!(", seed {}, evaluated by Burgess{version}", run.run.seed)
}

/// Formats a number that YAML reads as a number, with at most four decimals.
fn value(score: f64) -> String {
    let rounded = (score * 1e4).round() / 1e4;
    if rounded.fract() == 0.0 { format!("{rounded:.1}") } else { rounded.to_string() }
}

/// Formats text as a double-quoted YAML string. Control characters are escaped first, because YAML forbids some that
/// JSON allows.
fn quoted(text: &str) -> String {
    serde_json::Value::from(formatting::escaped(text, false)).to_string()
}
