//! Results in the formats of other tools: the JSON of Every Eval Ever, and the `.eval_results/*.yaml` of the Hugging
//! Face hub.
//!
//! Both state only what `results.json` holds and what the caller adds in a [`Publication`]; unknown facts are left out
//! or called unknown.

mod eval_results;
mod every_eval_ever;
mod timestamp;

pub use eval_results::eval_results_yaml;
pub use every_eval_ever::{EVERY_EVAL_EVER_VERSION, datastore_path, every_eval_ever};

use std::collections::BTreeMap;

/// Facts about a model's publication that `results.json` does not hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Publication {
    /// Name of the model's repository, `owner/name`; default `local/<study>-<arm>-seed-<n>`.
    pub model: Option<String>,
    /// Name of the organisation that evaluated the model; default `unknown`.
    pub organization: Option<String>,
    /// Web page that describes the evaluation.
    pub url: Option<String>,
    /// Whether the weights can be downloaded by everybody; `None` if that is not known.
    pub open_weights: Option<bool>,
    /// Published datasets of the benchmarks, by benchmark name. Others are described as not published.
    pub datasets: BTreeMap<String, HubDataset>,
}

/// A dataset on the Hugging Face hub from which a benchmark's questions were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubDataset {
    /// Repository of the dataset, `owner/name`.
    pub repository: String,
    /// Split of the dataset; empty if unknown.
    pub split: String,
    /// Id of the task within the hub's benchmark; default `default`.
    pub task: Option<String>,
    /// Commit of the dataset, if known.
    pub revision: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::RunResults;
    use serde_json::Value;

    /// A run with two benchmarks, of which one is published.
    fn run() -> RunResults {
        let results = |category: &str, metric: &str, chance: &str| {
            format!(
                r#"{{"category":"{category}","metric":"{metric}","score":75.0,"stderr":25.0,"chance":{chance},
                "blind":25.0,"n":4,"n_unparsed":1,"higher_is_better":true,"seconds":1.0,"sample_of":9,
                "units":[["a",1.0,2.0,0.0],["b",2.0,2.0,1.0]]}}"#
            )
        };
        let text = format!(
            r#"{{"schema":1,"run":{{"id":"s/a/seed-3","study":"s","arm":"a","encoders":["e","f"],"freeze":"frozen",
            "connector":"mlp","llm":"l","seed":3}},"results":{{"mme":{},"../odd \"name\"":{}}},
            "categories":{{"General":75.0}},"average":75.0,"cost":{{"encoder_params":1,"gflops_per_image":1,"tokens":16,
            "train_seconds":null,"images_per_second":null,"peak_memory_bytes":null}},"config":null,
            "versions":{{"burgess":"0.1.0"}},"digests":{{"data":"d"}},"date":"2026-11-29T18:32:02Z","device":"flex"}}"#,
            results("General", "accuracy", "null"),
            results("General", "a\\u001bb: 'c'", "25.0")
        );
        serde_json::from_str(&text).unwrap()
    }

    fn about() -> Publication {
        let dataset = HubDataset { repository: "lmms-lab/MME".into(), split: "test".into(), ..HubDataset::default() };
        let odd = HubDataset { repository: "o/d".into(), revision: Some("1".repeat(40)), ..HubDataset::default() };
        Publication {
            url: Some("https://example.org/a".into()),
            datasets: [("mme".to_string(), dataset), ("../odd \"name\"".to_string(), odd)].into(),
            ..Publication::default()
        }
    }

    #[test]
    fn a_record_states_what_is_known_and_only_that() {
        let record = every_eval_ever(&run(), &Publication::default()).unwrap();
        assert_eq!(record["retrieved_timestamp"], "1795977122");
        assert_eq!(record["model_info"]["id"], "local/s-a-seed-3");
        assert_eq!(record["model_info"]["additional_details"]["model_availability"], "unknown");
        let results = record["evaluation_results"].as_array().unwrap();
        let mme = results.iter().find(|r| r["evaluation_name"] == "mme").unwrap();
        assert_eq!(mme["source_data"], serde_json::json!({"dataset_name": "mme", "source_type": "other"}));
        assert!(mme["score_details"]["details"].get("chance").is_none(), "unknown chance is not stated");
        assert_eq!(mme["score_details"]["details"]["sample_of"], "9");
        let interval = &mme["score_details"]["uncertainty"]["confidence_interval"];
        assert!(interval["lower"].as_f64().unwrap() < 75.0 && interval["upper"].as_f64().unwrap() > 75.0);
        // All details are texts, as the schema requires.
        fn details(value: &Value, inside: bool) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(key, v)| {
                    assert!(!inside || v.is_string(), "{key}: {v}");
                    details(v, key == "additional_details" || key == "details");
                }),
                Value::Array(items) => items.iter().for_each(|v| details(v, false)),
                _ => {}
            }
        }
        details(&record, false);
        assert_eq!(record, every_eval_ever(&run(), &Publication::default()).unwrap());
        let published = every_eval_ever(&run(), &about()).unwrap();
        let mme = published["evaluation_results"].as_array().unwrap().iter().find(|r| r["evaluation_name"] == "mme");
        assert_eq!(mme.unwrap()["source_data"]["hf_repo"], "lmms-lab/MME");
    }

    #[test]
    fn a_record_has_one_path_in_the_datastore() {
        let record = every_eval_ever(&run(), &Publication::default()).unwrap();
        let path = datastore_path(&record).unwrap();
        let uuid = path.strip_prefix("data/s/local/s-a-seed-3/").and_then(|p| p.strip_suffix(".json")).unwrap();
        let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(uuid[14..].starts_with('4') && uuid[19..].starts_with('8'));
        assert!(datastore_path(&Value::Null).is_err());
    }

    #[test]
    fn a_wrong_date_is_an_error_that_names_the_run() {
        let mut run = run();
        run.date = "yesterday".into();
        let error = every_eval_ever(&run, &Publication::default()).unwrap_err();
        assert!(error.to_string().contains("s/a/seed-3: `date` is \"yesterday\""), "{error}");
        assert!(!eval_results_yaml(&run, &about())[0].1.contains("date:"), "the hub takes the time of the commit");
    }

    #[test]
    fn the_hub_gets_a_file_for_each_published_benchmark() {
        assert!(eval_results_yaml(&run(), &Publication::default()).is_empty());
        let files = eval_results_yaml(&run(), &about());
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["_odd__name_.yaml", "mme.yaml"]);
        let expected = "- dataset:\n    id: \"lmms-lab/MME\"\n    task_id: \"default\"\n  value: 75.0\n  \
            date: \"2026-11-29T18:32:02Z\"\n  source:\n    url: \"https://example.org/a\"\n    name: \"Burgess\"\n  \
            notes: \"mme: accuracy, official scoring, official prompts, standard error 25.00, 4 questions (a sample of \
            9), seed 3, evaluated by Burgess 0.1.0\"\n";
        assert_eq!(files[1].1, expected);
        assert!(files[0].1.contains(r"a\\x1bb: 'c'") && !files[0].1.contains('\u{1b}'), "{}", files[0].1);
    }
}
