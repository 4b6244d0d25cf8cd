//! Records of Every Eval Ever, a shared JSON format of evaluation results (arXiv 2606.14516).

use super::{Publication, timestamp};
use crate::ranking::{ArmScore, RankOptions, rank};
use crate::schema::{BenchmarkResult, RunResults};
use burgess_base::{Error, Result, digest};
use serde_json::{Map, Value, json};

/// Version of the format that is written.
pub const EVERY_EVAL_EVER_VERSION: &str = "0.3.0";

/// Returns the record of a run, with one result per benchmark.
///
/// Scores, standard errors and confidence intervals are in percent; the intervals are those of a ranking of this run
/// alone. The same run gives the same record, because its times are those of the run.
///
/// # Errors
/// A score contradicts its units, or the run's date is not a time in RFC 3339.
pub fn every_eval_ever(run: &RunResults, about: &Publication) -> Result<Value> {
    let seconds = timestamp::unix_seconds(&run.date).ok_or_else(|| {
        Error::failed(format!("{}: `date` is {:?}, expected a time such as 2026-01-31T12:00:00Z", run.run.id, run.date))
            .hint("the file was changed: delete its run and run the study again")
    })?;
    let options = RankOptions::default();
    let ranking = rank(std::slice::from_ref(run), &[], &options)?;
    let arm = ranking.arms.first();
    let id = &run.run;
    let model = about.model.clone().unwrap_or_else(|| format!("local/{}-{}-seed-{}", id.study, id.arm, id.seed));
    let results = run.results.iter().map(|(name, result)| {
        let score = arm.and_then(|a| a.benchmarks.get(name));
        benchmark(run, name, result, score, &options, about)
    });
    let mut source = json!({
        "source_name": format!("Burgess, study {}", id.study),
        "source_type": "evaluation_run",
        "source_organization_name": about.organization.as_deref().unwrap_or("unknown"),
        "evaluator_relationship": "other",
    });
    if let (Some(url), Some(source)) = (&about.url, source.as_object_mut()) {
        source.insert("additional_details".into(), json!({ "url": url }));
    }
    Ok(json!({
        "schema_version": EVERY_EVAL_EVER_VERSION,
        "evaluation_id": format!("{}/{model}/{seconds}", id.study),
        "evaluation_timestamp": run.date,
        "retrieved_timestamp": seconds.to_string(),
        "source_metadata": source,
        "eval_library": {
            "name": "burgess",
            "version": run.versions.get("burgess").map_or("unknown", String::as_str),
            "additional_details": texts(run.versions.iter().map(|(k, v)| (k.clone(), v.clone()))),
        },
        "model_info": model_info(run, &model, about),
        "evaluation_results": results.collect::<Vec<Value>>(),
    }))
}

/// Returns the path that the datastore of Every Eval Ever expects for a record,
/// `data/<collection>/<developer>/<model>/<uuid>.json`. The UUID is made from the record's digest, so that the same
/// record has the same path.
///
/// # Errors
/// The record was not made by [`every_eval_ever`].
pub fn datastore_path(record: &Value) -> Result<String> {
    let text = |pointer: &str| {
        let missing = || Error::failed(format!("the record of Every Eval Ever has no text at {pointer}"));
        record.pointer(pointer).and_then(Value::as_str).ok_or_else(missing)
    };
    let (id, evaluation) = (text("/model_info/id")?, text("/evaluation_id")?);
    let collection = evaluation.split('/').next().unwrap_or_default();
    let (developer, model) = id.split_once('/').unwrap_or(("local", id));
    let hex = digest::of_bytes(record.to_string().as_bytes());
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or("00000000");
    // Version 4 and variant 1 of RFC 9562, as the datastore's file names require.
    let uuid = format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32));
    Ok(format!("data/{}/{}/{}/{uuid}.json", portable(collection), portable(developer), portable(model)))
}

/// Returns a name as a component of a path on every file system.
fn portable(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+') { c } else { '_' };
    let plain: String = name.chars().map(safe).collect();
    let plain = plain.trim_end_matches('.').to_string();
    if matches!(plain.as_str(), "" | "data") { format!("{plain}_") } else { plain }
}

fn model_info(run: &RunResults, model: &str, about: &Publication) -> Value {
    let id = &run.run;
    let mut details = vec![
        ("deployment_type".to_string(), "self_deployed".to_string()),
        (
            "model_availability".to_string(),
            match about.open_weights {
                Some(true) => "open_weights",
                Some(false) => "closed_weights",
                None => "unknown",
            }
            .to_string(),
        ),
        ("encoders".to_string(), id.encoders.join(" + ")),
        ("freeze".to_string(), id.freeze.clone()),
        ("connector".to_string(), id.connector.clone()),
        ("language_model".to_string(), id.llm.clone()),
        ("seed".to_string(), id.seed.to_string()),
        ("device".to_string(), run.device.clone()),
        ("encoder_parameters".to_string(), run.cost.encoder_params.to_string()),
        ("image_tokens".to_string(), run.cost.tokens.to_string()),
    ];
    details.extend(run.digests.iter().map(|(name, value)| (format!("digest_{name}"), value.clone())));
    json!({
        "name": id.arm,
        "id": model,
        "inference_platform": "local",
        "inference_engine": {
            "name": "burgess",
            "version": run.versions.get("burgess").map_or("unknown", String::as_str),
        },
        "additional_details": texts(details),
    })
}

fn benchmark(
    run: &RunResults,
    name: &str,
    result: &BenchmarkResult,
    score: Option<&ArmScore>,
    options: &RankOptions,
    about: &Publication,
) -> Value {
    let mut details = vec![
        ("category".to_string(), result.category.to_string()),
        ("scoring".to_string(), result.scoring.clone()),
        ("prompts".to_string(), result.prompts.clone()),
        ("questions".to_string(), result.n.to_string()),
        ("unparsed_answers".to_string(), result.n_unparsed.to_string()),
        ("blind_score".to_string(), result.blind.to_string()),
        ("blind_input".to_string(), run.run.blind.clone()),
    ];
    details.extend(result.chance.is_finite().then(|| ("chance".to_string(), result.chance.to_string())));
    details.extend(result.sample_of.map(|all| ("sample_of".to_string(), all.to_string())));
    details.extend(result.likelihood.map(|l| ("score_by_log_likelihood".to_string(), l.to_string())));
    details.extend(run.versions.get(name).map(|v| ("benchmark_version".to_string(), v.clone())));
    let mut uncertainty = json!({
        "standard_error": {"value": result.stderr, "method": "analytic: linearised ratio, clustered by image or group"},
        "num_samples": result.units.len(),
    });
    if let (Some(score), Some(fields)) = (score, uncertainty.as_object_mut()) {
        fields.insert(
            "confidence_interval".into(),
            json!({
                "lower": score.low,
                "upper": score.high,
                "confidence_level": options.confidence,
                "method": "percentile bootstrap over images or groups, united with Wilson's interval near 0 and 100",
            }),
        );
        fields.insert("num_bootstrap_samples".into(), options.replicates.into());
    }
    let mut metric = json!({
        "metric_name": result.metric,
        "metric_id": if result.metric == "accuracy" { "accuracy".to_string() } else { format!("burgess.{name}") },
        "metric_unit": "percent",
        "lower_is_better": !result.higher_is_better,
        "score_type": "continuous",
        "min_score": 0,
        "max_score": 100,
    });
    if let (true, Some(metric)) = (result.metric == "accuracy", metric.as_object_mut()) {
        metric.insert("metric_kind".into(), "accuracy".into());
    }
    json!({
        "evaluation_result_id": format!("{name}/{}", result.scoring),
        "evaluation_name": name,
        "source_data": source_data(name, result, about),
        "evaluation_timestamp": run.date,
        "metric_config": metric,
        "score_details": {"score": result.score, "details": texts(details), "uncertainty": uncertainty},
    })
}

fn source_data(name: &str, result: &BenchmarkResult, about: &Publication) -> Value {
    let Some(dataset) = about.datasets.get(name) else {
        return json!({"dataset_name": name, "source_type": "other"});
    };
    let mut source = json!({
        "dataset_name": name,
        "source_type": "hf_dataset",
        "hf_repo": dataset.repository,
        "samples_number": result.n,
    });
    if let Some(fields) = source.as_object_mut() {
        if !dataset.split.is_empty() {
            fields.insert("hf_split".into(), dataset.split.clone().into());
        }
        if let Some(revision) = &dataset.revision {
            fields.insert("additional_details".into(), json!({ "revision": revision }));
        }
    }
    source
}

/// Returns an object of texts.
fn texts(pairs: impl IntoIterator<Item = (String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(key, value)| (key, Value::from(value))).collect::<Map<String, Value>>())
}
