//! What makes two arms unequal beyond what is compared: warnings, and a list of other differences.

use super::content::CompareOptions;
use super::matching::MatchedBenchmark;
use super::side::{ComparedArm, ComparedRun};
use crate::formatting::{count, list, short_list};
use crate::schema::BenchmarkResult;
use burgess_base::{Error, differences};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Number of benchmarks that a warning names.
const NAMES: usize = 4;

/// Number of differing keys of the recipe that are named.
const KEYS: usize = 8;

pub(super) fn no_common_benchmark(
    labels: &[String; 2],
    a: &BTreeSet<String>,
    b: &BTreeSet<String>,
    wanted: &[String],
) -> Error {
    let names = |set: &BTreeSet<String>| match set.is_empty() {
        true => "none that all its seeds have".to_string(),
        false => short_list(&set.iter().cloned().collect::<Vec<_>>(), 6),
    };
    let message = format!(
        "{} and {} have no benchmark in common{}: the first has {}, the second {}",
        labels[0],
        labels[1],
        if wanted.is_empty() { String::new() } else { format!(" among {}", list(wanted)) },
        names(a),
        names(b)
    );
    Error::failed(message).hint("evaluate both on the same benchmarks, or name benchmarks that both have")
}

/// Says which benchmarks only one arm has, and which wanted ones neither has.
pub(super) fn only_one_has(
    labels: &[String; 2],
    a: &BTreeSet<String>,
    b: &BTreeSet<String>,
    options: &CompareOptions,
) -> Vec<String> {
    let wanted = |name: &&String| options.benchmarks.is_empty() || options.benchmarks.contains(name);
    let only = |set: &BTreeSet<String>, other: &BTreeSet<String>, label: &str| {
        let names = set.difference(other).filter(wanted).map(|name| format!("{name}: only {label} has it"));
        names.collect::<Vec<_>>()
    };
    let mut said = only(a, b, &labels[0]);
    said.extend(only(b, a, &labels[1]));
    let neither = options.benchmarks.iter().filter(|name| !a.contains(*name) && !b.contains(*name));
    said.extend(neither.map(|name| format!("{name}: neither has it")));
    said
}

/// Returns the warnings about what makes the comparison unequal, and other differences.
pub(super) fn warnings(
    a: &ComparedArm,
    b: &ComparedArm,
    labels: &[String; 2],
    matched: &[MatchedBenchmark],
) -> (Vec<String>, Vec<String>) {
    let mut warnings: Vec<String> = a.notes.iter().chain(&b.notes).cloned().collect();
    for m in matched.iter().filter(|m| m.questions.left_out() + m.questions.without_answers > 0) {
        warnings.push(format!("{}: not compared: {}.", m.name, m.questions.left_out_text(labels)));
    }
    let some = |what: &str, holds: &dyn Fn(&MatchedBenchmark) -> bool| {
        let names: Vec<String> = matched.iter().filter(|m| holds(m)).map(|m| m.name.clone()).collect();
        (!names.is_empty()).then(|| format!("{what} on {}.", short_list(&names, NAMES)))
    };
    warnings.extend(some(
        "Stored answers are missing, so that only the ids of images or groups could be matched, not the questions,",
        &|m| m.questions.by_units,
    ));
    warnings.extend(some(
        "The points of an image or group depend on the sample of questions; those of the first are used",
        &|m| m.other_weights,
    ));
    let prompts: usize = matched.iter().map(|m| m.questions.differing_prompts).sum();
    warnings.extend(some(&format!("The prompts of {} differ,", count(prompts, "compared question")), &|m| {
        m.questions.differing_prompts > 0
    }));
    let unreadable: Vec<&String> = matched.iter().flat_map(|m| &m.unreadable).collect();
    if let Some(first) = unreadable.first() {
        let lines = count(unreadable.len(), "line");
        warnings.push(format!("{lines} of answers could not be read and are not compared (first: {first})."));
    }
    let Some((x, y)) = a.runs.first().zip(b.runs.first()) else { return (warnings, Vec::new()) };
    warnings.extend(of_benchmarks(x, y, matched));
    let (mut other, data) = of_runs(x, y, matched);
    warnings.extend(data);
    other.extend(within(a, &labels[0]));
    other.extend(within(b, &labels[1]));
    (warnings, other)
}

/// Compares rules, prompts, samples and versions by benchmark; one sentence for all benchmarks with the same
/// difference.
fn of_benchmarks(a: &ComparedRun, b: &ComparedRun, matched: &[MatchedBenchmark]) -> Vec<String> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for m in matched {
        let (Some(x), Some(y)) = (a.results.results.get(&m.name), b.results.results.get(&m.name)) else { continue };
        let mut note = |what: &str, x: String, y: String| {
            if x != y {
                said.entry(format!("{what}: {x} and {y}")).or_default().push(m.name.clone());
            }
        };
        let text = |f: fn(&BenchmarkResult) -> String| (f(x), f(y));
        for (what, (x, y)) in [
            ("The scoring rules differ", text(|r| r.scoring.clone())),
            ("The rules of the prompts differ", text(|r| r.prompts.clone())),
            ("The metrics differ", text(|r| r.metric.clone())),
            ("The categories differ", text(|r| r.category.to_string())),
            (
                "The samples of questions differ",
                text(|r| r.sample_of.map_or("all".to_string(), |all| format!("{} of {all}", r.n))),
            ),
        ] {
            note(what, x, y);
        }
        let version = |run: &ComparedRun| run.results.versions.get(&m.name).cloned();
        if let (Some(x), Some(y)) = (version(a), version(b)) {
            note("The versions of the benchmark differ", x, y);
        }
        let digest = |run: &ComparedRun| run.results.digests.get(&m.name).cloned();
        if let (Some(x), Some(y)) = (digest(a), digest(b))
            && x != y
        {
            said.entry("The data differ (digests)".to_string()).or_default().push(m.name.clone());
        }
    }
    said.into_iter().map(|(what, names)| format!("{what} ({}).", short_list(&names, NAMES))).collect()
}

/// Compares two runs beyond their scores: differences that are expected, and warnings about data.
fn of_runs(a: &ComparedRun, b: &ComparedRun, matched: &[MatchedBenchmark]) -> (Vec<String>, Vec<String>) {
    let (x, y) = (&a.results, &b.results);
    let (mut said, mut data) = (Vec::new(), Vec::new());
    let mut note = |what: &str, x: &str, y: &str| {
        if x != y && !x.is_empty() && !y.is_empty() {
            said.push(format!("{what}: {x} and {y}"));
        }
    };
    note("encoders", &x.run.encoders.join(" + "), &y.run.encoders.join(" + "));
    note("freeze", &x.run.freeze, &y.run.freeze);
    note("connector", &x.run.connector, &y.run.connector);
    note("language model", &x.run.llm, &y.run.llm);
    note("blind input", &x.run.blind, &y.run.blind);
    let mix = |run: &crate::schema::RunResults| match run.config.get("mix") {
        Some(mix) => {
            let number = mix.get("entries").and_then(Value::as_u64).unwrap_or(0);
            format!("{number} with digest {}", mix.get("digest").and_then(Value::as_str).unwrap_or("?"))
        }
        None => "all".into(),
    };
    note("tune conversations", &mix(x), &mix(y));
    let device = |run: &crate::schema::RunResults| run.versions.get("device").unwrap_or(&run.device).clone();
    note("device", &device(x), &device(y));
    for (name, version) in x.versions.iter().filter(|(name, _)| *name != "device") {
        if let Some(other) = y.versions.get(name).filter(|_| !matched.iter().any(|m| m.name == *name)) {
            note(&format!("version of {name}"), version, other);
        }
    }
    for (name, digest) in &x.digests {
        let Some(other) = y.digests.get(name).filter(|other| *other != digest) else { continue };
        match name.as_str() {
            "data" => data.push("The data differ (digests of `data`).".to_string()),
            _ if matched.iter().any(|m| m.name == *name) => {}
            _ => note(&format!("digest of {name}"), digest, other),
        }
    }
    let evaluator = |run: &crate::schema::RunResults| run.config.get("evaluator").cloned();
    if let (Some(x), Some(y)) = (evaluator(x), evaluator(y)) {
        let keys: Vec<String> = differences(&x, &y)
            .iter()
            .map(|d| d.replace(" stored, ", " and ").trim_end_matches(" now").to_string())
            .collect();
        if !keys.is_empty() {
            said.push(format!("evaluator: {}", short_list(&keys, KEYS)));
        }
    }
    (said, data)
}

/// Says what differs between the seeds of one arm, which should differ in the seed only.
fn within(arm: &ComparedArm, label: &str) -> Option<String> {
    let first = &arm.runs.first()?.results;
    let other = arm
        .runs
        .iter()
        .map(|r| &r.results)
        .find(|r| r.digests != first.digests || r.config.get("evaluator") != first.config.get("evaluator"))?;
    Some(format!("within {label}: digests or evaluator differ between seeds {} and {}", first.run.seed, other.run.seed))
}
