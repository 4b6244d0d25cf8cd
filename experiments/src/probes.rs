//! Direct probes of an encoder on held-out images of the nano world: which attributes a linear classifier and k-NN read
//! from its frozen features, beside what they read from an untrained encoder.

use crate::columns::{self, Side};
use crate::progress::{Bar, Progress};
use burgess_base::{Error, Result, atomic, digest};
use burgess_encoders::card::{EncoderCard, Location};
use burgess_encoders::encoder::{Encoder, Features, weights_path};
use burgess_encoders::probe::{self, ProbeConfig, ProbeOutcome, Samples, features};
use burgess_reports::stats;
use burgess_world::probing::{ProbeLevel, ProbeTarget, ProbeTask, probe_sets};
use burgess_world::{CELLS, Scene};
use burn::tensor::Device;
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Seed of the scenes that probes are trained and tested on.
const SEED: u64 = 0;
/// Confidence of all intervals.
const CONFIDENCE: f64 = 0.95;
/// The untrained encoder to which others are compared.
pub const RANDOM: &str = "nano-random";
/// From this accuracy on, an untrained encoder counts as one that has the attribute already.
const INNATE: f64 = 0.8;
/// Images that are rendered and encoded at a time.
const CHUNK: usize = 64;
/// Images in a forward pass.
const BATCH: usize = 16;

/// What direct probes read of one attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// "thing", "colour", "count", "position", "depth", "word", "glyph" or "segmentation".
    pub attribute: String,
    /// Whether it is read from the vector of a whole image, or of a patch.
    pub level: ProbeLevel,
    /// Version of the nano world whose images are probed.
    pub world_version: u32,
    /// Number of classes.
    pub classes: usize,
    /// Number of training vectors.
    pub n_train: usize,
    /// Number of test vectors, each from an image of its own.
    pub n_test: usize,
    /// Expected accuracy of guessing, 1 / classes.
    pub chance: f64,
    /// Accuracy of the constant-answer baseline: always the most frequent class of training.
    pub constant: f64,
    /// Logistic regression on standardised features.
    pub linear: ProbeShare,
    /// k-NN with cosine similarity.
    pub knn: ProbeShare,
    /// The L2 penalty of the linear probe, chosen on a validation part.
    pub l2: f64,
}

/// An accuracy, 0 to 1, with its Wilson interval of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeShare {
    pub accuracy: f64,
    pub low: f64,
    pub high: f64,
}

impl ProbeShare {
    fn new(correct: usize, n: usize) -> Self {
        let accuracy = correct as f64 / n.max(1) as f64;
        let (low, high) = stats::wilson(accuracy, n as f64, CONFIDENCE);
        Self { accuracy, low, high }
    }

    fn triple(self) -> (f64, f64, f64) {
        (self.accuracy, self.low, self.high)
    }

    /// "93.1 (91–95)", in percent.
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
            linear: ProbeShare::new(outcome.linear_correct, n),
            knn: ProbeShare::new(outcome.knn_correct, n),
            l2: outcome.l2,
        }
    }

    /// Whether both are measured on the same test vectors.
    fn comparable(&self, other: &Self) -> bool {
        let key = |r: &Self| (r.attribute.clone(), r.level, r.world_version, r.classes, r.n_train, r.n_test);
        key(self) == key(other)
    }
}

/// Probes an encoder; `limit` bounds the training images and the test images of each attribute.
///
/// # Errors
/// A feature is not finite.
pub fn run(encoder: &Encoder, limit: Option<usize>, progress: &Progress) -> Result<Vec<ProbeRecord>> {
    let sets = probe_sets(SEED, limit);
    let images: usize = sets.iter().map(|s| s.train.len() + s.test.len()).sum();
    let bar = progress.bar(&format!("encoding images to probe {}", encoder.card.id), images as u64);
    let mut problems: Vec<(&ProbeTask, Samples, Samples)> = Vec::new();
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

/// The vectors of all targets of each task, in the order of the targets. Features are let go image by image: those of a
/// large encoder do not fit into memory together.
fn samples(
    encoder: &Encoder,
    scenes: &[Scene],
    tasks: &[(ProbeLevel, &[ProbeTarget])],
    bar: &Bar,
) -> Result<Vec<Samples>> {
    let mut all = vec![Samples::default(); tasks.len()];
    for (k, chunk) in scenes.chunks(CHUNK).enumerate() {
        let images: Vec<RgbImage> = chunk.par_iter().map(Scene::render).collect();
        let encoded = encoder.encode(&images, BATCH)?;
        let here = k * CHUNK..k * CHUNK + chunk.len();
        for ((_, targets), samples) in tasks.iter().zip(&mut all) {
            // Targets are in the order of their scenes.
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

/// The part of the record beside weights that concerns probes.
#[derive(Deserialize)]
struct WeightsRecord {
    digest: String,
    #[serde(default)]
    probes: Vec<ProbeRecord>,
}

/// The probes in the record beside a card's shipped weights; empty where there are none, or where the record is that of
/// other weights.
pub fn recorded(card: &EncoderCard) -> Vec<ProbeRecord> {
    let Location::Shipped { .. } = &card.source.location else { return Vec::new() };
    let Ok(weights) = weights_path(card) else { return Vec::new() };
    let record: Result<WeightsRecord> = atomic::read_json(&weights.with_extension("json"));
    let own = |record: &WeightsRecord| digest::of_file(&weights).is_ok_and(|digest| digest == record.digest);
    record.ok().filter(own).map(|record| record.probes).unwrap_or_default()
}

/// The recorded probes of [`RANDOM`], to which those of the encoder `id` are compared; empty for itself.
pub fn recorded_random(id: &str) -> Vec<ProbeRecord> {
    if id == RANDOM {
        return Vec::new();
    }
    EncoderCard::find(RANDOM).map(|card| recorded(&card)).unwrap_or_default()
}

/// Probes the weights at `weights` and keeps the results as `probes` in the record beside them, `limit` as in [`run`].
///
/// # Errors
/// There is no record, or it is that of other weights; as [`run`].
pub fn keep(
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
            "{} is not the record of {}: its digest is another",
            path.display(),
            weights.display()
        )));
    }
    // The weights as they are read back, in the precision that is shipped.
    let probes = run(&Encoder::load(card.clone(), Some(weights), device)?, limit, progress)?;
    record.insert("probes".into(), serde_json::to_value(&probes)?);
    atomic::write_json(&path, &record)?;
    Ok(probes)
}

/// The probes of [`RANDOM`] that `probes` are compared to: recorded where those fit, else computed now.
///
/// # Errors
/// Its weights are not on this machine.
pub fn random_for(
    probes: &[ProbeRecord],
    limit: Option<usize>,
    device: &Device,
    progress: &Progress,
) -> Result<Vec<ProbeRecord>> {
    let recorded = recorded_random("");
    if probes.iter().all(|p| recorded.iter().any(|r| r.comparable(p))) {
        return Ok(recorded);
    }
    run(&Encoder::load(EncoderCard::find(RANDOM)?, None, device)?, limit, progress)
}

/// How an encoder's linear probe compares to that of the untrained encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeVerdict {
    /// Separably better: the interval of the difference is above 0.
    AboveRandom,
    /// Not separable.
    NotLearned,
    /// Separably worse.
    BelowRandom,
}

/// A probe beside that of the untrained encoder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedProbe {
    #[serde(flatten)]
    pub record: ProbeRecord,
    /// The linear probe of the untrained encoder.
    pub random: Option<ProbeShare>,
    /// Nothing where there is no untrained encoder to compare to.
    pub verdict: Option<ProbeVerdict>,
}

/// Each probe beside that of the untrained encoder on the same images.
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
    /// What was not learned, in words; nothing where the probe is above the untrained encoder's.
    fn words(&self) -> Option<String> {
        let percent = |share: ProbeShare| format!("{:.0} %", share.accuracy * 100.0);
        let random = self.random?;
        let said = match self.verdict? {
            ProbeVerdict::AboveRandom => return None,
            ProbeVerdict::NotLearned if random.accuracy >= INNATE => "untrained features have it already",
            ProbeVerdict::NotLearned => "not learned",
            ProbeVerdict::BelowRandom => "untrained features have more of it",
        };
        Some(format!("{} {} (random {}): {said}", self.name(), percent(self.record.linear), percent(random)))
    }

    /// "colour" of an image, "colour of patches" of a patch.
    fn name(&self) -> String {
        match self.record.level {
            ProbeLevel::Picture => self.record.attribute.clone(),
            ProbeLevel::Patch => format!("{} of patches", self.record.attribute),
        }
    }
}

/// A table of probes with what was not learned in words, each line after `margin`, within `width` characters.
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
                ProbeLevel::Picture => "image".into(),
                ProbeLevel::Patch => "patch".into(),
            },
            r.classes.to_string(),
            r.n_test.to_string(),
            format!("{:.1}", r.chance * 100.0),
            format!("{:.1}", r.constant * 100.0),
            r.linear.shown(),
            r.knn.shown(),
        ];
        row.extend(probe.random.map(ProbeShare::shown));
        rows.push(row);
    }
    let title = format!(
        "direct probes on held-out images of the nano world, version {world_version}: accuracy in %, 95 % intervals"
    );
    let mut sides = [Side::Right; 9];
    sides[..2].fill(Side::Left);
    let mut out = String::new();
    let words = probes.iter().filter_map(ComparedProbe::words);
    let room = width.saturating_sub(margin.chars().count());
    for line in columns::fold(&title, room) {
        out += &format!("{margin}{line}\n");
    }
    out += &columns::table(&rows, &sides, margin, width);
    for line in words.flat_map(|said| columns::fold(&said, room)) {
        out += &format!("{margin}{line}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(attribute: &str, level: ProbeLevel, correct: usize) -> ProbeRecord {
        let linear = ProbeShare::new(correct, 200);
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
            knn: ProbeShare::new(correct / 2, 200),
            l2: 0.01,
        }
    }

    #[test]
    fn what_an_encoder_did_not_learn_is_said() {
        let level = ProbeLevel::Picture;
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
            "# colour 96 % (random 95 %): untrained features have it already",
            "# depth 50 % (random 75 %): untrained features have more of it",
        ] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
        assert!(!text.contains("count 80 %") && text.contains("80.0 (74–85)"), "{text}");
        // Another number of images is no comparison.
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
        let probes = run(&encoder, Some(40), &Progress::silent())?;
        assert_eq!(probes, run(&encoder, Some(40), &Progress::silent())?);
        assert_eq!(probes.len(), 11);
        for p in &probes {
            let within = |s: ProbeShare| s.low <= s.accuracy && s.accuracy <= s.high && s.high <= 1.0;
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
            keep(&card, &weights, Some(12), &Device::flex(), &Progress::silent())
        };
        assert!(kept("other").is_err_and(|e| e.to_string().contains("its digest is another")));
        let probes = kept(&digest::of_file(&weights)?)?;
        let record: serde_json::Value = atomic::read_json(&weights.with_extension("json"))?;
        assert_eq!(record["probes"], serde_json::to_value(&probes)?);
        assert!(record["id"] == RANDOM && record["seconds"] == 1.5, "{record}");
        Ok(())
    }
}
