//! The files of a run. Field names follow lm-evaluation-harness where it has one.
//!
//! A run directory `OUT/<study>/<arm>/seed-<n>/` holds `results.json` ([`RunResults`]), `train.jsonl` (one [`Step`] per
//! line) and `samples/<benchmark>.jsonl` (one [`Sample`] per line), or `failed.json` ([`Missing`]) if the run failed.

mod ranges;

use crate::stats;
use burgess_base::Category;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use ranges::{out_of_range, sample_problem, step_problem};

/// Version of the file formats; files of another version are rejected.
pub const SCHEMA: u32 = 1;

/// The content of `results.json`: all measurements of one run (one arm, one seed).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResults {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    pub run: RunId,
    /// Results by benchmark name.
    pub results: BTreeMap<String, BenchmarkResult>,
    /// Mean score of each category's benchmarks, in percent.
    pub categories: BTreeMap<Category, f64>,
    /// Mean of the category means, in percent; equals the mean of all benchmarks if all categories have the same
    /// number.
    pub average: f64,
    pub cost: Cost,
    /// The resolved configuration of the run.
    pub config: serde_json::Value,
    /// Versions of the software (burgess, burn, …).
    pub versions: BTreeMap<String, String>,
    /// Digests of weights and data.
    pub digests: BTreeMap<String, String>,
    /// Time of completion, in RFC 3339.
    pub date: String,
    pub device: String,
    /// Assumptions made where the files of encoders and language model were incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Identification of a run: one arm of a study with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunId {
    pub id: String,
    pub study: String,
    pub arm: String,
    /// Ids of the encoders' cards, in the order of concatenation.
    pub encoders: Vec<String>,
    /// Freeze setting of the encoders: `frozen` or `unfrozen`.
    pub freeze: String,
    pub connector: String,
    pub llm: String,
    pub seed: u64,
    /// Input of the blind model: `omitted` (no image) or `grey` (a grey image).
    #[serde(default = "omitted")]
    pub blind: String,
    /// Average that was published for this arm, if the study gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<f64>,
    /// Role of the arm in the study; missing means trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// The role of an arm in a study: an encoder to rank, or one of the two baselines that bracket every score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A pretrained encoder, which is ranked.
    #[default]
    Trained,
    /// An encoder with random weights (random baseline).
    Random,
    /// An encoder that emits the ground truth of each image (oracle baseline).
    Oracle,
}

fn omitted() -> String {
    "omitted".into()
}

/// The result of one benchmark. Scores are percentages, 0 to 100.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkResult {
    pub category: Category,
    /// Name of the metric, such as `relaxed accuracy (5 %)`.
    pub metric: String,
    /// Rules that judged the answers: `official` (the benchmark's authors'), `strict` (ours, where the authors have
    /// none), `cambrian-1` (the paper's code) or `lmms-eval` (that harness).
    #[serde(default = "official")]
    pub scoring: String,
    /// Rules that built the prompts, with the same values.
    #[serde(default = "official")]
    pub prompts: String,
    /// Number of questions of the benchmark, if only a sample of them was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_of: Option<usize>,
    pub score: f64,
    /// Standard error of `score`, clustered by [`Unit`].
    pub stderr: f64,
    /// Expected score of uniform guessing; NaN (`null` in the file) if unknown.
    #[serde(default = "unknown", with = "unknown_as_null")]
    pub chance: f64,
    /// Score of the same model asked without the image.
    pub blind: f64,
    /// Number of questions.
    pub n: usize,
    /// Number of answers in which no choice, number or yes/no could be parsed; they count as wrong.
    pub n_unparsed: usize,
    /// The most frequent answer; `None` in results that predate this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constant: Option<ConstantAnswer>,
    /// Number of answers with reasoning (`<think>…</think>` and similar), which official and strict rules remove
    /// first.
    #[serde(default)]
    pub n_reasoning: usize,
    pub higher_is_better: bool,
    /// Wall-clock seconds of asking and scoring, with the image and without; 0 (`null` in the file) if not measured.
    #[serde(with = "unmeasured")]
    pub seconds: f64,
    /// Score of the option with the highest log-likelihood instead of the generated answer, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likelihood: Option<f64>,
    /// The units for resampling; empty only if the benchmark defines none.
    pub units: Vec<Unit>,
}

/// The answer that a model gave most often to a benchmark's questions, as the scorer parsed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConstantAnswer {
    pub answer: String,
    /// Fraction of all answers, 0 to 1.
    pub share: f64,
}

impl ConstantAnswer {
    /// Counts parsed answers, where `None` is an unparsed one. Ties go to the alphabetically first answer; `None` if no
    /// answer was parsed.
    pub fn of<'a>(parsed: impl IntoIterator<Item = Option<&'a str>>) -> Option<Self> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut all = 0;
        for answer in parsed {
            all += 1;
            if let Some(answer) = answer {
                *counts.entry(answer).or_default() += 1;
            }
        }
        let (answer, count) = counts.into_iter().rev().max_by_key(|(_, count)| *count)?;
        Some(Self { answer: answer.to_string(), share: count as f64 / all as f64 })
    }
}

fn unknown() -> f64 {
    f64::NAN
}

/// Serialises an unknown number: NaN in memory, `null` in the file.
pub(crate) mod unknown_as_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { to.serialize_f64(*value) } else { to.serialize_none() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

/// Serialises a measurement that was not taken: 0 in memory, `null` in the file.
mod unmeasured {
    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() && *value > 0.0 { to.serialize_f64(*value) } else { to.serialize_none() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(0.0))
    }
}

/// Serialises integers as [`unmeasured`] does.
mod uncounted {
    use super::{Deserialize, Deserializer, Serializer};

    // serde requires a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        if *value > 0 { to.serialize_u64(*value) } else { to.serialize_none() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.unwrap_or(0))
    }
}

fn official() -> String {
    "official".into()
}

/// A unit that is scored and resampled as a whole: an image, or a pair of images.
///
/// `score = 100·Σsum/Σweight` and `blind = 100·Σblind/Σweight` over a benchmark's units. Written as the array
/// `[id, sum, weight, blind]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "(String, f64, f64, f64)", into = "(String, f64, f64, f64)")]
pub struct Unit {
    pub id: String,
    /// Points scored with the image.
    pub sum: f64,
    /// Maximum number of points.
    pub weight: f64,
    /// Points scored without the image.
    pub blind: f64,
}

impl From<(String, f64, f64, f64)> for Unit {
    fn from((id, sum, weight, blind): (String, f64, f64, f64)) -> Self {
        Self { id, sum, weight, blind }
    }
}

impl From<Unit> for (String, f64, f64, f64) {
    fn from(u: Unit) -> Self {
        (u.id, u.sum, u.weight, u.blind)
    }
}

/// The cost of a run. Times, throughput and memory that were not measured are 0, and `null` in the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    pub encoder_params: u64,
    pub gflops_per_image: f64,
    /// Number of image tokens per image that the language model reads.
    pub tokens: usize,
    /// Wall-clock seconds of the training steps; 0 for a model whose training is unknown.
    #[serde(with = "unmeasured")]
    pub train_seconds: f64,
    /// Throughput of the encoders in images per second; 0 if they were trained with the model.
    #[serde(with = "unmeasured")]
    pub images_per_second: f64,
    /// Peak resident memory of the process, in bytes.
    #[serde(with = "uncounted")]
    pub peak_memory_bytes: u64,
}

/// One question with its answers: a line of `samples/<benchmark>.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub id: String,
    /// Id of the [`Unit`] to which it belongs.
    pub unit: String,
    /// The benchmark's own subtask, such as `count`; empty in files that predate this field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subtask: String,
    pub question: String,
    /// The choices in the order of their letters; empty for other questions and in files that predate this field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The text given to the model, as formatted by the benchmark.
    pub prompt: String,
    /// Path of the image, absolute or relative to the study's directory; several are separated by line breaks.
    pub image: String,
    pub target: String,
    pub answer: String,
    /// The answer as the scorer parsed it.
    pub parsed: Option<String>,
    /// Score of the answer, 0 to 1.
    pub score: f64,
    pub blind_answer: String,
    /// Score of the blind answer, 0 to 1.
    pub blind_score: f64,
    /// Log-likelihoods of the possible answers, if requested and if the answers can be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likelihoods: Option<Likelihoods>,
}

/// The possible answers to a question, scored by log-likelihood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Likelihoods {
    /// Each possible answer with the log-probability of its whole text and end token, in nats.
    pub options: Vec<(String, f64)>,
    /// The answer with the highest log-likelihood.
    pub answer: String,
    /// Score of that answer, 0 to 1.
    pub score: f64,
}

/// One optimiser step: a line of `train.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Training stage: `align` or `tune`.
    pub stage: String,
    pub step: usize,
    pub loss: f64,
    pub lr: f64,
    pub grad_norm: f64,
    pub tokens: usize,
    pub seconds: f64,
}

/// A run without results, and the cause: the content of `failed.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    pub arm: String,
    pub seed: u64,
    pub cause: String,
    pub hint: Option<String>,
}

impl BenchmarkResult {
    /// Computes `score`, `stderr` and `blind` from the units; unchanged if there are none.
    pub fn summarise(&mut self) {
        let column = |f: fn(&Unit) -> f64| -> Vec<f64> { self.units.iter().map(f).collect() };
        let (sums, weights, blinds) = (column(|u| u.sum), column(|u| u.weight), column(|u| u.blind));
        if let (Some(score), Some(blind)) = (stats::ratio(&sums, &weights), stats::ratio(&blinds, &weights)) {
            self.score = 100.0 * score;
            self.blind = 100.0 * blind;
            self.stderr = 100.0 * stats::clustered_se(&sums, &weights).unwrap_or(0.0);
        }
    }
}

impl RunResults {
    /// Computes each benchmark's scores from its units ([`BenchmarkResult::summarise`]), then `categories` and
    /// `average`.
    pub fn summarise(&mut self) {
        self.results.values_mut().for_each(BenchmarkResult::summarise);
        self.categories = category_means(self.results.values().map(|r| (&r.category, r.score)));
        self.average = stats::mean(&self.categories.values().copied().collect::<Vec<_>>()).unwrap_or(0.0);
    }
}

/// Returns the fields of `results.json` that no run sets: `null`, 0, false, empty, or missing in every run and for
/// every benchmark. Keys that are names (of benchmarks, categories, versions) are written `*`; `config` is not
/// inspected.
///
/// A measurement whose field is returned here is not measured by any run.
pub fn never_set(runs: &[RunResults]) -> BTreeSet<String> {
    let (mut known, mut set) = (BTreeSet::new(), BTreeSet::new());
    for run in runs {
        // Serialisation cannot fail, because the value contains only numbers, texts and maps.
        if let Ok(value) = serde_json::to_value(run) {
            note_fields(&value, "", &mut known, &mut set);
        }
    }
    known.extend(OPTIONAL.map(String::from));
    known.into_iter().filter(|path| !set.contains(path)).collect()
}

/// Fields that are omitted from the file if they have no value.
const OPTIONAL: [&str; 4] = ["results.*.constant", "results.*.likelihood", "results.*.sample_of", "run.published"];

/// Keys whose members are names chosen by the study.
const NAMED: [&str; 4] = ["results", "categories", "versions", "digests"];

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

/// Returns the mean score per category of (category, score) pairs.
pub fn category_means<'a>(scores: impl IntoIterator<Item = (&'a Category, f64)>) -> BTreeMap<Category, f64> {
    let mut sums: BTreeMap<&Category, (f64, f64)> = BTreeMap::new();
    for (category, score) in scores {
        let entry = sums.entry(category).or_default();
        entry.0 += score;
        entry.1 += 1.0;
    }
    sums.into_iter().map(|(category, (sum, n))| (category.clone(), sum / n)).collect()
}

/// Returns categories in display order: the four of the Cambrian-1 paper first, then others by name.
pub fn in_display_order<'a>(categories: impl IntoIterator<Item = &'a Category>) -> Vec<Category> {
    let mut categories: Vec<Category> = categories.into_iter().cloned().collect();
    categories.sort_by(|a, b| a.rank().cmp(&b.rank()).then_with(|| a.cmp(b)));
    categories.dedup();
    categories
}

/// Returns the name of an arm in text: `nano-clip-unfrozen` becomes `nano-clip (unfrozen)`; other names stay unchanged.
pub fn label(arm: &str, encoders: &[String], freeze: &str) -> String {
    let joined = encoders.join("+");
    if freeze == "unfrozen" && arm == format!("{joined}-unfrozen") {
        format!("{joined} (unfrozen)")
    } else {
        arm.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(category: &'static str, units: &[(f64, f64, f64)]) -> BenchmarkResult {
        let units = units.iter().enumerate();
        BenchmarkResult {
            category: Category::new(category),
            metric: "accuracy".into(),
            scoring: official(),
            prompts: official(),
            sample_of: None,
            score: 0.0,
            stderr: 0.0,
            chance: 25.0,
            blind: 0.0,
            n: 4,
            n_unparsed: 0,
            constant: None,
            n_reasoning: 0,
            higher_is_better: true,
            seconds: 0.0,
            likelihood: None,
            units: units.map(|(i, u)| Unit { id: i.to_string(), sum: u.0, weight: u.1, blind: u.2 }).collect(),
        }
    }

    #[test]
    fn a_unit_is_an_array() {
        let unit = Unit { id: "p7".into(), sum: 1.5, weight: 2.0, blind: 0.0 };
        let text = serde_json::to_string(&unit).unwrap();
        assert_eq!(text, r#"["p7",1.5,2.0,0.0]"#);
        assert_eq!(serde_json::from_str::<Unit>(&text).unwrap(), unit);
    }

    #[test]
    fn what_was_not_measured_is_null_and_older_files_are_read() {
        let result = result("General", &[(1.0, 2.0, 0.0)]);
        let mut value = serde_json::to_value(&result).unwrap();
        assert!(value["seconds"].is_null() && value.get("constant").is_none());
        assert_eq!(serde_json::from_value::<BenchmarkResult>(value.clone()).unwrap(), result);
        value["seconds"] = serde_json::json!(0.0);
        assert_eq!(serde_json::from_value::<BenchmarkResult>(value).unwrap(), result);
        let cost = Cost { images_per_second: f64::INFINITY, ..Default::default() };
        let text = serde_json::to_string(&cost).unwrap();
        assert!(text.ends_with(r#""train_seconds":null,"images_per_second":null,"peak_memory_bytes":null}"#), "{text}");
        assert_eq!(serde_json::from_str::<Cost>(&text).unwrap(), Cost::default());
    }

    #[test]
    fn the_most_frequent_answer_is_counted_over_all_answers() {
        let of = |answers: &[Option<&str>]| ConstantAnswer::of(answers.iter().copied());
        let found = of(&[Some("B"), None, Some("A"), Some("B"), Some("A")]);
        assert_eq!(found, Some(ConstantAnswer { answer: "A".into(), share: 0.4 }));
        assert_eq!(of(&[Some("B"), Some("B"), None]).map(|c| c.share), Some(2.0 / 3.0));
        assert_eq!((of(&[None, None]), of(&[])), (None, None));
    }

    #[test]
    fn a_field_that_nobody_sets_is_found() {
        let json = serde_json::json!({
            "schema": 1, "run": {"id": "r", "study": "s", "arm": "a", "encoders": ["e"], "freeze": "frozen",
            "connector": "mlp", "llm": "l", "seed": 1}, "results": {}, "categories": {"General": 1.0}, "average": 1.0,
            "cost": {"encoder_params": 1, "gflops_per_image": 1, "tokens": 1, "train_seconds": 1, "images_per_second": 0,
            "peak_memory_bytes": 1}, "config": {"empty": ""}, "versions": {"burn": ""}, "digests": {"d": "1"}, "date": "now",
            "device": "flex"
        });
        let mut run: RunResults = serde_json::from_value(json).unwrap();
        run.results.insert("b".into(), BenchmarkResult { score: 1.0, ..result("General", &[(1.0, 2.0, 0.0)]) });
        let mut other = run.clone();
        other.results.insert("c".into(), BenchmarkResult { seconds: 2.0, blind: 3.0, ..run.results["b"].clone() });
        let unset: Vec<String> = never_set(&[run, other]).into_iter().collect();
        assert_eq!(
            unset,
            [
                "cost.images_per_second",
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

    #[test]
    fn summaries_follow_from_units() {
        let mut r = result("General", &[(1.0, 2.0, 0.0), (2.0, 2.0, 1.0)]);
        r.summarise();
        assert_eq!((r.score, r.blind), (75.0, 25.0));
        // Two residuals of ±0.5 points: sqrt(2/1 · (0.25 + 0.25)) / 4.
        assert!((r.stderr - 25.0).abs() < 1e-12);
    }

    #[test]
    fn the_average_weighs_categories_equally() {
        let means =
            category_means([(&Category::GENERAL, 10.0), (&Category::GENERAL, 30.0), (&Category::KNOWLEDGE, 50.0)]);
        assert_eq!(means.values().copied().collect::<Vec<_>>(), [20.0, 50.0]);
    }

    #[test]
    fn categories_are_shown_in_the_order_of_the_study() {
        let named = ["Vision-centric", "General", "Audio", "OCR & Chart", "General"].map(Category::new);
        let shown = in_display_order(&named);
        assert_eq!(shown, ["General", "OCR & Chart", "Vision-centric", "Audio"]);
    }

    #[test]
    fn unfrozen_arms_are_labelled() {
        let one = ["nano-clip".to_string()];
        assert_eq!(label("nano-clip-unfrozen", &one, "unfrozen"), "nano-clip (unfrozen)");
        assert_eq!(label("nano-clip", &one, "frozen"), "nano-clip");
        assert_eq!(label("mine", &one, "unfrozen"), "mine");
    }
}
