//! Direct probes of an encoder on held-out images of the nano world: how accurately a linear classifier and k-NN read
//! attributes from its frozen features, compared with the features of an untrained encoder.

use crate::machine::progress::{Bar, Progress};
use crate::machine::text_table;
use crate::machine::text_table::Align;
use burgess_base::{Error, Result, atomic, digest};
use burgess_encoders::card::{EncoderCard, WeightsLocation};
use burgess_encoders::encoder::{Encoder, Features};
use burgess_encoders::probe::{self, ProbeConfig, ProbeOutcome, ProbeSamples, features};
use burgess_encoders::resolve::weights_path;
use burgess_reports::stats;
use burgess_world::probing::{ProbeLevel, ProbeTarget, ProbeTask, probe_sets};
use burgess_world::{CELLS, Scene};
use burn::tensor::Device;
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Seed of the scenes on which probes are trained and tested.
const SEED: u64 = 0;
/// Confidence level of all intervals.
const CONFIDENCE: f64 = 0.95;
/// Card id of the untrained encoder with which others are compared.
pub const RANDOM: &str = "nano-random";
/// Linear-probe accuracy of the untrained encoder from which an attribute needs no training.
const INNATE: f64 = 0.8;
/// Number of images that are rendered and encoded at a time.
const CHUNK: usize = 64;
/// Number of images in a forward pass.
const BATCH: usize = 16;

/// Results of the direct probes of one attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// Name of the attribute: "thing", "colour", "count", "position", "depth", "word", "glyph" or "segmentation".
    pub attribute: String,
    /// Whether the probe reads the feature vector of a whole image or of a patch.
    pub level: ProbeLevel,
    /// Version of the nano world that rendered the images.
    pub world_version: u32,
    /// Number of classes.
    pub classes: usize,
    /// Number of training vectors.
    pub n_train: usize,
    /// Number of test vectors, each from a different image.
    pub n_test: usize,
    /// Expected accuracy of uniform guessing, 1 / classes.
    pub chance: f64,
    /// Accuracy of the constant-answer baseline, which always gives the most frequent class of the training vectors.
    pub constant: f64,
    /// Accuracy of logistic regression on standardised features.
    pub linear: AccuracyInterval,
    /// Accuracy of k-NN with cosine similarity.
    pub knn: AccuracyInterval,
    /// L2 penalty of the linear probe, chosen on a validation part.
    pub l2: f64,
}

/// An accuracy, 0 to 1, with its Wilson interval of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyInterval {
    /// The accuracy, 0 to 1.
    pub accuracy: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl AccuracyInterval {
    fn new(correct: usize, n: usize) -> Self {
        let accuracy = correct as f64 / n.max(1) as f64;
        let (low, high) = stats::wilson(accuracy, n as f64, CONFIDENCE);
        Self { accuracy, low, high }
    }

    fn triple(self) -> (f64, f64, f64) {
        (self.accuracy, self.low, self.high)
    }

    /// Formats the accuracy and its interval in percent: "93.1 (91–95)".
    fn shown(self) -> String {
        let share = format!("{:.1}", self.accuracy * 100.0);
        let share = if share == "100.0" { "100" } else { share.as_str() };
        format!("{share} ({:.0}–{:.0})", self.low * 100.0, self.high * 100.0)
    }
}

impl ProbeRecord {
    fn new(task: &ProbeTask, outcome: &ProbeOutcome) -> Self {
        let n = outcome.n_test;
        Self {
            attribute: task.attribute.to_string(),
            level: task.level,
            world_version: burgess_world::VERSION,
            classes: task.classes.len(),
            n_train: outcome.n_train,
            n_test: n,
            chance: 1.0 / task.classes.len().max(1) as f64,
            constant: outcome.constant_correct as f64 / n.max(1) as f64,
            linear: AccuracyInterval::new(outcome.linear_correct, n),
            knn: AccuracyInterval::new(outcome.knn_correct, n),
            l2: outcome.l2,
        }
    }

    /// Whether both records were measured on the same test vectors.
    fn comparable(&self, other: &Self) -> bool {
        let key = |r: &Self| (r.attribute.clone(), r.level, r.world_version, r.classes, r.n_train, r.n_test);
        key(self) == key(other)
    }
}

/// Probes an encoder; `limit` bounds the number of training images and of test images of each attribute.
///
/// # Errors
/// A feature is not finite.
pub fn probe_encoder(encoder: &Encoder, limit: Option<usize>, progress: &Progress) -> Result<Vec<ProbeRecord>> {
    let sets = probe_sets(SEED, limit);
    let images: usize = sets.iter().map(|s| s.train.len() + s.test.len()).sum();
    let bar = progress.bar(&format!("encoding images to probe {}", encoder.card.id), images as u64);
    let mut problems: Vec<(&ProbeTask, ProbeSamples, ProbeSamples)> = Vec::new();
    for set in &sets {
        let train: Vec<_> = set.tasks.iter().map(|t| (t.level, t.train.as_slice())).collect();
        let test: Vec<_> = set.tasks.iter().map(|t| (t.level, t.test.as_slice())).collect();
        let train = samples(encoder, &set.train, &train, &bar)?;
        let test = samples(encoder, &set.test, &test, &bar)?;
        problems.extend(set.tasks.iter().zip(train).zip(test).map(|((task, train), test)| (task, train, test)));
    }
    bar.message(&format!("training the probes of {}", encoder.card.id));
    let config = ProbeConfig::default();
    let outcomes: Result<Vec<_>> = problems
        .par_iter()
        .map(|(task, train, test)| {
            let outcome = probe::run(train, test, task.classes.len(), &config);
            let outcome =
                outcome.map_err(|e| e.context(format!("probing {} for {}", encoder.card.id, task.attribute)))?;
            Ok(ProbeRecord::new(task, &outcome))
        })
        .collect();
    bar.done(&format!("probed {}", encoder.card.id));
    outcomes
}

/// Returns the feature vectors and labels of all targets of each task, in the order of the targets. Features are
/// dropped after each chunk of images: all features of a large encoder do not fit into memory.
fn samples(
    encoder: &Encoder,
    scenes: &[Scene],
    tasks: &[(ProbeLevel, &[ProbeTarget])],
    bar: &Bar,
) -> Result<Vec<ProbeSamples>> {
    let mut all = vec![ProbeSamples::default(); tasks.len()];
    for (k, chunk) in scenes.chunks(CHUNK).enumerate() {
        let images: Vec<RgbImage> = chunk.par_iter().map(Scene::render).collect();
        let encoded = encoder.encode(&images, BATCH)?;
        let here = k * CHUNK..k * CHUNK + chunk.len();
        for ((_, targets), samples) in tasks.iter().zip(&mut all) {
            // Targets are sorted by scene.
            let first = targets.partition_point(|t| t.scene < here.start);
            for target in targets.iter().skip(first).take_while(|t| t.scene < here.end) {
                let vector = vector(&encoded, target.scene - here.start, target.cell);
                samples.width = vector.len();
                samples.values.extend(vector);
                samples.labels.push(target.class);
                samples.images.push(target.scene);
            }
        }
        bar.add(chunk.len() as u64);
    }
    Ok(all)
}

fn vector(encoded: &Features, image: usize, cell: Option<usize>) -> Vec<f32> {
    match cell {
        None => features::image(encoded, image),
        Some(cell) => features::cell(encoded, image, CELLS, [cell / CELLS, cell % CELLS]),
    }
}

/// The fields of the record beside a weights file that concern probes.
#[derive(Deserialize)]
struct WeightsRecord {
    digest: String,
    #[serde(default)]
    probes: Vec<ProbeRecord>,
}

/// Reads the probes from the record beside a card's shipped weights; empty if there are none, or if the record belongs
/// to other weights.
pub fn recorded(card: &EncoderCard) -> Vec<ProbeRecord> {
    let WeightsLocation::Shipped { .. } = &card.source.location else { return Vec::new() };
    let Ok(weights) = weights_path(card) else { return Vec::new() };
    let record: Result<WeightsRecord> = atomic::read_json(&weights.with_extension("json"));
    let own = |record: &WeightsRecord| digest::of_file(&weights).is_ok_and(|digest| digest == record.digest);
    record.ok().filter(own).map(|record| record.probes).unwrap_or_default()
}

/// Reads the recorded probes of [`RANDOM`] for comparison with those of the encoder `id`; empty for `RANDOM` itself.
pub fn recorded_random(id: &str) -> Vec<ProbeRecord> {
    if id == RANDOM {
        return Vec::new();
    }
    EncoderCard::find(RANDOM).map(|card| recorded(&card)).unwrap_or_default()
}

/// Probes the weights at `weights` and stores the results as `probes` in the record beside them; for `limit` see
/// [`probe_encoder`].
///
/// # Errors
/// There is no record, the record belongs to other weights, or the probing fails as in [`probe_encoder`].
pub fn store_probes(
    card: &EncoderCard,
    weights: &Path,
    limit: Option<usize>,
    device: &Device,
    progress: &Progress,
) -> Result<Vec<ProbeRecord>> {
    let path = weights.with_extension("json");
    let mut record: serde_json::Map<String, serde_json::Value> = atomic::read_json(&path)?;
    let digest = digest::of_file(weights)?;
    if record.get("digest").and_then(serde_json::Value::as_str) != Some(digest.as_str()) {
        return Err(Error::failed(format!(
            "{} is not the record of {}: their digests differ",
            path.display(),
            weights.display()
        )));
    }
    // Load the weights from the file, to probe them in the precision in which they are shipped.
    let probes = probe_encoder(&Encoder::load(card.clone(), Some(weights), device)?, limit, progress)?;
    record.insert("probes".into(), serde_json::to_value(&probes)?);
    atomic::write_json(&path, &record)?;
    Ok(probes)
}

/// Returns the probes of [`RANDOM`] to compare with `probes`: the recorded ones if comparable, else computed now.
///
/// # Errors
/// The weights of [`RANDOM`] are not on this machine, or the probing fails.
pub fn random_baseline(
    probes: &[ProbeRecord],
    limit: Option<usize>,
    device: &Device,
    progress: &Progress,
) -> Result<Vec<ProbeRecord>> {
    let recorded = recorded_random("");
    if probes.iter().all(|p| recorded.iter().any(|r| r.comparable(p))) {
        return Ok(recorded);
    }
    probe_encoder(&Encoder::load(EncoderCard::find(RANDOM)?, None, device)?, limit, progress)
}

/// Result of comparing an encoder's linear probe with that of the untrained encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeVerdict {
    /// Significantly better: the confidence interval of the difference lies above 0.
    AboveRandom,
    /// No significant difference.
    NotLearned,
    /// Significantly worse: the confidence interval of the difference lies below 0.
    BelowRandom,
}

/// A probe with the comparison to the untrained encoder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedProbe {
    /// The probe's record, as it is stored with the weights.
    #[serde(flatten)]
    pub record: ProbeRecord,
    /// Linear-probe accuracy of the untrained encoder, if known.
    pub random: Option<AccuracyInterval>,
    /// Result of the comparison; `None` if `random` is `None`.
    pub verdict: Option<ProbeVerdict>,
}

/// Compares each probe with that of the untrained encoder on the same images.
pub fn compare(probes: &[ProbeRecord], random: &[ProbeRecord]) -> Vec<ComparedProbe> {
    let one = |record: &ProbeRecord| {
        let random = random.iter().find(|r| r.comparable(record)).map(|r| r.linear);
        let verdict = random.map(|random| match stats::newcombe(record.linear.triple(), random.triple()) {
            (low, _) if low > 0.0 => ProbeVerdict::AboveRandom,
            (_, high) if high < 0.0 => ProbeVerdict::BelowRandom,
            _ => ProbeVerdict::NotLearned,
        });
        ComparedProbe { record: record.clone(), random, verdict }
    };
    probes.iter().map(one).collect()
}

impl ComparedProbe {
    /// Describes a probe that is not better than the untrained encoder's; `None` if it is better or not compared.
    fn description(&self) -> Option<String> {
        let percent = |share: AccuracyInterval| format!("{:.0} %", share.accuracy * 100.0);
        let random = self.random?;
        let said = match self.verdict? {
            ProbeVerdict::AboveRandom => return None,
            ProbeVerdict::NotLearned if random.accuracy >= INNATE => "the untrained encoder is as accurate",
            ProbeVerdict::NotLearned => "not learned",
            ProbeVerdict::BelowRandom => "the untrained encoder is more accurate",
        };
        Some(format!("{} {} (random {}): {said}", self.name(), percent(self.record.linear), percent(random)))
    }

    /// Name with its level: "colour" for an image, "colour of patches" for a patch.
    fn name(&self) -> String {
        match self.record.level {
            ProbeLevel::Image => self.record.attribute.clone(),
            ProbeLevel::Patch => format!("{} of patches", self.record.attribute),
        }
    }
}

/// Formats probes as a table and describes those not learned, in lines after `margin` of at most `width` characters.
pub fn table(probes: &[ComparedProbe], margin: &str, width: usize) -> String {
    let world_version = probes.first().map_or(burgess_world::VERSION, |p| p.record.world_version);
    let random = probes.iter().any(|p| p.random.is_some());
    let mut head = ["probe", "from", "classes", "test", "chance", "constant", "linear", "k-NN"].to_vec();
    if random {
        head.push("linear, random");
    }
    let mut rows = vec![head.into_iter().map(String::from).collect::<Vec<_>>()];
    for probe in probes {
        let r = &probe.record;
        let mut row = vec![
            r.attribute.clone(),
            match r.level {
                ProbeLevel::Image => "image".into(),
                ProbeLevel::Patch => "patch".into(),
            },
            r.classes.to_string(),
            r.n_test.to_string(),
            format!("{:.1}", r.chance * 100.0),
            format!("{:.1}", r.constant * 100.0),
            r.linear.shown(),
            r.knn.shown(),
        ];
        row.extend(probe.random.map(AccuracyInterval::shown));
        rows.push(row);
    }
    let title = format!(
        "direct probes on held-out images of the nano world, version {world_version}: accuracy in %, 95 % intervals"
    );
    let mut sides = [Align::Right; 9];
    sides[..2].fill(Align::Left);
    let mut out = String::new();
    let words = probes.iter().filter_map(ComparedProbe::description);
    let room = width.saturating_sub(margin.chars().count());
    for line in text_table::wrap(&title, room) {
        out += &format!("{margin}{line}\n");
    }
    out += &text_table::table(&rows, &sides, margin, width);
    for line in words.flat_map(|said| text_table::wrap(&said, room)) {
        out += &format!("{margin}{line}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(attribute: &str, level: ProbeLevel, correct: usize) -> ProbeRecord {
        let linear = AccuracyInterval::new(correct, 200);
        ProbeRecord {
            attribute: attribute.to_string(),
            level,
            world_version: 3,
            classes: 8,
            n_train: 400,
            n_test: 200,
            chance: 0.125,
            constant: 0.14,
            linear,
            knn: AccuracyInterval::new(correct / 2, 200),
            l2: 0.01,
        }
    }

    #[test]
    fn what_an_encoder_did_not_learn_is_said() {
        let level = ProbeLevel::Image;
        let random = [("thing", 18), ("colour", 190), ("count", 60), ("depth", 150)].map(|(a, c)| record(a, level, c));
        let mut probes =
            [("thing", 24), ("colour", 192), ("count", 160), ("depth", 100)].map(|(a, c)| record(a, level, c));
        let compared = compare(&probes, &random);
        let verdicts: Vec<_> = compared.iter().map(|p| p.verdict).collect();
        use ProbeVerdict::*;
        assert_eq!(verdicts, [NotLearned, NotLearned, AboveRandom, BelowRandom].map(Some));
        let text = table(&compared, "# ", 200);
        for line in [
            "# thing 12 % (random 9 %): not learned",
            "# colour 96 % (random 95 %): the untrained encoder is as accurate",
            "# depth 50 % (random 75 %): the untrained encoder is more accurate",
        ] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
        assert!(!text.contains("count 80 %") && text.contains("80.0 (74–85)"), "{text}");
        // Probes with different numbers of test images are not comparable.
        probes[0].n_test = 100;
        assert_eq!(compare(&probes, &random)[0].verdict, None);
        let json = serde_json::to_value(&compared[0]).unwrap_or_default();
        assert!(json["attribute"] == "thing" && json["verdict"] == "not-learned", "{json}");
        assert!(json["level"] == "picture" && json["linear"]["accuracy"] == 0.12, "{json}");
        let back: ProbeRecord = serde_json::from_value(json).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(back, compared[0].record);
    }

    #[test]
    fn a_small_probe_is_the_same_twice() -> Result<()> {
        let encoder = Encoder::load(EncoderCard::find("nano-sup")?, None, &Device::flex())?;
        let probes = probe_encoder(&encoder, Some(40), &Progress::silent())?;
        assert_eq!(probes, probe_encoder(&encoder, Some(40), &Progress::silent())?);
        assert_eq!(probes.len(), 11);
        for p in &probes {
            let within = |s: AccuracyInterval| s.low <= s.accuracy && s.accuracy <= s.high && s.high <= 1.0;
            assert!(within(p.linear) && within(p.knn) && p.n_train >= 40 && p.n_test <= 40, "{p:?}");
        }
        Ok(())
    }

    #[test]
    fn probes_are_kept_in_the_record_of_their_weights_only() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (card, weights) = (EncoderCard::find(RANDOM)?, dir.path().join("w.safetensors"));
        std::fs::copy(weights_path(&card)?, &weights)?;
        let kept = |digest: &str| {
            let record = serde_json::json!({"id": RANDOM, "digest": digest, "seconds": 1.5});
            atomic::write_json(&weights.with_extension("json"), &record)?;
            store_probes(&card, &weights, Some(12), &Device::flex(), &Progress::silent())
        };
        assert!(kept("other").is_err_and(|e| e.to_string().contains("their digests differ")));
        let probes = kept(&digest::of_file(&weights)?)?;
        let record: serde_json::Value = atomic::read_json(&weights.with_extension("json"))?;
        assert_eq!(record["probes"], serde_json::to_value(&probes)?);
        assert!(record["id"] == RANDOM && record["seconds"] == 1.5, "{record}");
        Ok(())
    }
}
