//! The content of `results.json`.

use super::categories::{averaged, category_means};
use super::optional_numbers::{uncounted, unknown_as_null, unmeasured};
use super::records::{JudgeVerdict, Sample};
use crate::stats;
use burgess_base::Category;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the file formats; files of another version are rejected.
pub const SCHEMA: u32 = 1;

/// The content of `results.json`: all measurements of one run (one arm, one seed).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResults {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// Study, arm and seed of the run.
    pub run: RunId,
    /// Results by benchmark name.
    pub results: BTreeMap<String, BenchmarkResult>,
    /// Mean score of each category's benchmarks, in percent.
    pub categories: BTreeMap<Category, f64>,
    /// Mean of the category means, in percent. It equals the mean over all benchmarks if every category has the same
    /// number of benchmarks. The category `Conversation` is part of it only if there is no other.
    pub average: f64,
    /// For each category in which asking stops early, the interval at which it stopped; empty if all questions were
    /// asked (see [`crate::sequential`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub until_ci: BTreeMap<Category, SequentialInterval>,
    /// Cost of the run.
    pub cost: RunCost,
    /// The resolved configuration of the run.
    pub config: serde_json::Value,
    /// Versions of the software (burgess, burn, …).
    pub versions: BTreeMap<String, String>,
    /// Digests of weights and data.
    pub digests: BTreeMap<String, String>,
    /// Time of completion, in RFC 3339.
    pub date: String,
    /// Name of the device, such as `flex` or `cuda:0`.
    pub device: String,
    /// Assumptions made where the files of encoders and language model were incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The interval of a category's score at the look at which asking stopped (see [`crate::sequential`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequentialInterval {
    /// Half-width, in points, at which asking stops.
    pub until: f64,
    /// Score of the category on the questions asked, in percent.
    pub score: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// The larger distance of an end from the score, in points.
    pub half_width: f64,
    /// Joint confidence of the intervals of all planned looks.
    pub confidence: f64,
    /// Number of looks at the answers.
    pub looks: usize,
    /// Number of looks that were planned; the interval is corrected for all of them.
    pub planned_looks: usize,
    /// Number of questions that were asked.
    pub asked: usize,
    /// Number of questions of the category's benchmarks.
    pub questions: usize,
    /// Whether the interval is narrow enough; otherwise all questions were asked.
    pub reached: bool,
}

/// Identification of a run: one arm of a study with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunId {
    /// Id of the run, such as `nano-clip/seed-0`.
    pub id: String,
    /// Name of the study.
    pub study: String,
    /// Name of the arm.
    pub arm: String,
    /// Ids of the encoders' cards, in the order of concatenation.
    pub encoders: Vec<String>,
    /// Freeze setting of the encoders: `frozen` or `unfrozen`.
    pub freeze: String,
    /// Name of the connector.
    pub connector: String,
    /// Name of the language model.
    pub llm: String,
    /// Seed of the run.
    pub seed: u64,
    /// Input of the blind model: `omitted` (no image) or `grey` (a grey image).
    #[serde(default = "omitted")]
    pub blind: String,
    /// Average that was published for this arm, if the study gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<f64>,
    /// Role of the arm in the study; missing means trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ArmRole>,
}

/// The role of an arm in a study: an encoder to rank, or one of the two baselines that bracket every score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArmRole {
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
    /// Category of the benchmark.
    pub category: Category,
    /// Name of the metric, such as `relaxed accuracy (5 %)`.
    pub metric: String,
    /// Rules that judged the answers: `official` (of the benchmark's authors), `strict` (of Burgess, where the authors
    /// have none), `cambrian-1` (of the Cambrian-1 paper's code) or `lmms-eval` (of that harness).
    #[serde(default = "official")]
    pub scoring: String,
    /// Rules that built the prompts; the values are those of `scoring`.
    #[serde(default = "official")]
    pub prompts: String,
    /// Number of questions of the benchmark, if only a sample of them was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_of: Option<usize>,
    /// Score with the image.
    pub score: f64,
    /// Standard error of `score`, clustered by [`UnitScore`]; 50 if there is only one unit.
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
    #[serde(rename = "constant")]
    pub most_frequent_answer: Option<MostFrequentAnswer>,
    /// Number of answers with reasoning (`<think>…</think>` and similar), which official and strict rules remove
    /// first.
    #[serde(default)]
    pub n_reasoning: usize,
    /// The questions with several images, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub several_images: Option<SeveralImages>,
    /// Number of questions without an image, which are asked blind.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_without_image: usize,
    /// Whether a higher score is better; a ranking rejects other benchmarks.
    pub higher_is_better: bool,
    /// Wall-clock seconds of asking and scoring, with the image and without; 0 (`null` in the file) if not measured.
    #[serde(with = "unmeasured")]
    pub seconds: f64,
    /// Score of the option with the highest log-likelihood instead of the generated answer, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likelihood: Option<f64>,
    /// The marks of a judge, if one was asked; they are not part of `score`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgedScore>,
    /// The units for resampling; empty only if the benchmark defines none.
    pub units: Vec<UnitScore>,
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The questions with several images of a benchmark, and how their images were put into the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeveralImages {
    /// Number of questions with several images.
    pub questions: usize,
    /// Number of images of these questions.
    pub images: usize,
    /// `blocks` (each image is a block of image tokens) or `side-by-side` (joined into one image).
    pub put: String,
}

/// The marks that a language model as judge gave to a benchmark's answers beside the reference answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedScore {
    /// Name of the judge.
    pub model: String,
    /// Sum of the answers' marks in percent of the sum of the references' marks, over the judged answers; it may exceed
    /// 100. `None` if no reply could be read.
    pub relative: Option<f64>,
    /// Number of answers whose marks could be read.
    pub judged: usize,
    /// Number of replies in which no two marks could be read.
    pub unparsed: usize,
    /// Tokens that the judge read; some are estimated if its server does not give them.
    pub prompt_tokens: u64,
    /// Tokens that the judge wrote; some are estimated if its server does not give them.
    pub completion_tokens: u64,
}

impl JudgedScore {
    /// Sums the verdicts of one judge, the one that is named first; `None` if there are none.
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let model = &samples.iter().find_map(|s| s.judge.as_ref())?.model;
        let verdicts: Vec<&JudgeVerdict> =
            samples.iter().filter_map(|s| s.judge.as_ref()).filter(|v| v.model == *model).collect();
        let marks: Vec<[f64; 2]> = verdicts.iter().filter_map(|v| v.marks).collect();
        let (references, answers) = marks.iter().fold((0.0, 0.0), |(r, a), [x, y]| (r + x, a + y));
        Some(Self {
            model: model.clone(),
            relative: (references > 0.0).then(|| 100.0 * answers / references),
            judged: marks.len(),
            unparsed: verdicts.len() - marks.len(),
            prompt_tokens: verdicts.iter().map(|v| v.prompt_tokens).sum(),
            completion_tokens: verdicts.iter().map(|v| v.completion_tokens).sum(),
        })
    }
}

/// The answer that a model gave most often to a benchmark's questions, as the scorer parsed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MostFrequentAnswer {
    /// The answer as the scorer parsed it.
    pub answer: String,
    /// Fraction of all answers, 0 to 1.
    pub share: f64,
}

impl MostFrequentAnswer {
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

fn official() -> String {
    "official".into()
}

/// The points of one unit, which is scored and resampled as a whole: an image, or a pair of images.
///
/// `score = 100·Σsum/Σweight` and `blind = 100·Σblind/Σweight` over a benchmark's units. Written as the array
/// `[id, sum, weight, blind]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "(String, f64, f64, f64)", into = "(String, f64, f64, f64)")]
pub struct UnitScore {
    /// Id of the unit, such as that of the image.
    pub id: String,
    /// Points scored with the image.
    pub sum: f64,
    /// Maximum number of points.
    pub weight: f64,
    /// Points scored without the image.
    pub blind: f64,
}

impl From<(String, f64, f64, f64)> for UnitScore {
    fn from((id, sum, weight, blind): (String, f64, f64, f64)) -> Self {
        Self { id, sum, weight, blind }
    }
}

impl From<UnitScore> for (String, f64, f64, f64) {
    fn from(u: UnitScore) -> Self {
        (u.id, u.sum, u.weight, u.blind)
    }
}

/// The cost of a run. Times, throughput and memory that were not measured are 0, and `null` in the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunCost {
    /// Number of parameters of all encoders.
    pub encoder_params: u64,
    /// Floating-point operations of all encoders for one image, in 10⁹.
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
    /// Scale of the features of each frozen encoder; empty if it was not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureScale>,
}

/// The scale of an encoder's features as the connector reads them, over patch tokens of some images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureScale {
    /// Name of the encoder.
    pub encoder: String,
    /// Mean over all tokens and channels.
    pub mean: f64,
    /// Standard deviation over all tokens and channels.
    pub std: f64,
    /// Effective rank of the tokens (Roy and Vetterli 2007), 1 to the number of channels; absent for very wide
    /// features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_rank: Option<f64>,
}

impl BenchmarkResult {
    /// Computes `score`, `stderr` and `blind` from the units; unchanged if there are none.
    pub fn summarise(&mut self) {
        let column = |f: fn(&UnitScore) -> f64| -> Vec<f64> { self.units.iter().map(f).collect() };
        let (sums, weights, blinds) = (column(|u| u.sum), column(|u| u.weight), column(|u| u.blind));
        if let (Some(score), Some(blind)) = (stats::ratio(&sums, &weights), stats::ratio(&blinds, &weights)) {
            self.score = 100.0 * score;
            self.blind = 100.0 * blind;
            // As in `burgess-bench`: unknown for a single unit, so the largest standard deviation of a score.
            self.stderr = 100.0 * stats::clustered_se(&sums, &weights).unwrap_or(0.5);
        }
    }
}

impl RunResults {
    /// Computes each benchmark's scores from its units ([`BenchmarkResult::summarise`]), then `categories` and
    /// `average`.
    pub fn summarise(&mut self) {
        self.results.values_mut().for_each(BenchmarkResult::summarise);
        self.categories = category_means(self.results.values().map(|r| (&r.category, r.score)));
        let counted = averaged(self.categories.keys());
        let means: Vec<f64> = counted.into_iter().filter_map(|c| self.categories.get(c)).copied().collect();
        self.average = stats::mean(&means).unwrap_or(0.0);
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
            most_frequent_answer: None,
            n_reasoning: 0,
            several_images: None,
            n_without_image: 0,
            higher_is_better: true,
            seconds: 0.0,
            likelihood: None,
            judge: None,
            units: units.map(|(i, u)| UnitScore { id: i.to_string(), sum: u.0, weight: u.1, blind: u.2 }).collect(),
        }
    }

    #[test]
    fn a_unit_is_an_array() {
        let unit = UnitScore { id: "p7".into(), sum: 1.5, weight: 2.0, blind: 0.0 };
        let text = serde_json::to_string(&unit).unwrap();
        assert_eq!(text, r#"["p7",1.5,2.0,0.0]"#);
        assert_eq!(serde_json::from_str::<UnitScore>(&text).unwrap(), unit);
    }

    #[test]
    fn what_was_not_measured_is_null_and_older_files_are_read() {
        let result = result("General", &[(1.0, 2.0, 0.0)]);
        let mut value = serde_json::to_value(&result).unwrap();
        assert!(value["seconds"].is_null() && value.get("constant").is_none());
        assert_eq!(serde_json::from_value::<BenchmarkResult>(value.clone()).unwrap(), result);
        value["seconds"] = serde_json::json!(0.0);
        assert_eq!(serde_json::from_value::<BenchmarkResult>(value).unwrap(), result);
        let cost = RunCost { images_per_second: f64::INFINITY, ..Default::default() };
        let text = serde_json::to_string(&cost).unwrap();
        assert!(text.ends_with(r#""train_seconds":null,"images_per_second":null,"peak_memory_bytes":null}"#), "{text}");
        assert_eq!(serde_json::from_str::<RunCost>(&text).unwrap(), RunCost::default());
    }

    #[test]
    fn the_most_frequent_answer_is_counted_over_all_answers() {
        let of = |answers: &[Option<&str>]| MostFrequentAnswer::of(answers.iter().copied());
        let found = of(&[Some("B"), None, Some("A"), Some("B"), Some("A")]);
        assert_eq!(found, Some(MostFrequentAnswer { answer: "A".into(), share: 0.4 }));
        assert_eq!(of(&[Some("B"), Some("B"), None]).map(|c| c.share), Some(2.0 / 3.0));
        assert_eq!((of(&[None, None]), of(&[])), (None, None));
    }

    #[test]
    fn summaries_follow_from_units() {
        let mut r = result("General", &[(1.0, 2.0, 0.0), (2.0, 2.0, 1.0)]);
        r.summarise();
        assert_eq!((r.score, r.blind), (75.0, 25.0));
        // Two residuals of ±0.5 points: sqrt(2/1 · (0.25 + 0.25)) / 4.
        assert!((r.stderr - 25.0).abs() < 1e-12);
        let mut single = result("General", &[(1.0, 2.0, 0.0)]);
        single.summarise();
        assert_eq!(single.stderr, 50.0);
    }
}
