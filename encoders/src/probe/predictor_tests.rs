//! Tests of the predictors against the authors' code (`tests/reference/predictors.py`).

use super::alignment::{Alignment, Representation};
use super::attentive::{AttentiveConfig, AttentiveParameters, AttentiveProbe, TokenSamples, run_attentive};
use super::correspondence::{PatchGrid, a_score, correspond, pck};
use super::spread::SpreadSums;
use super::{ProbeSamples, Vectors, clamp_outliers, knn};
use burgess_base::stream::{normal_pair, stream};
use safetensors::SafeTensors;
use serde_json::Value;

struct Goldens {
    tensors: Vec<u8>,
    numbers: Value,
}

impl Goldens {
    fn open() -> Self {
        let read = |name: &str| {
            let path = format!("{}/../tests/golden/probes/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
        };
        let numbers = serde_json::from_slice(&read("predictors.json")).unwrap();
        Self { tensors: read("predictors.safetensors"), numbers }
    }

    fn tensor(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let view = file.tensor(name).unwrap();
        let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (values, view.shape().to_vec())
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        serde_json::from_value(self.numbers[name].clone()).unwrap()
    }
}

fn close(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() <= 1e-6 * theirs.abs().max(1.0), "{what}: {ours}, expected {theirs}");
}

#[test]
fn alignment_is_that_of_platonic_rep() {
    let goldens = Goldens::open();
    let prepared = ["vision", "text"].map(|name| {
        let (values, shape) = goldens.tensor(&format!("alignment.{name}"));
        let layer = |l: usize| {
            let rows = values.chunks_exact(shape[2]).skip(l).step_by(shape[1]);
            Vectors::new(rows.flatten().map(|v| f64::from(*v)).collect(), shape[0]).unwrap()
        };
        let mut layers: Vec<Vectors> = (0..shape[1]).map(layer).collect();
        clamp_outliers(&mut layers, 0.95).unwrap();
        layers.iter().map(|layer| Representation::new(layer, 10).unwrap()).collect::<Vec<_>>()
    });
    let expected: Vec<[f64; 5]> = serde_json::from_value(goldens.numbers["alignment"].clone()).unwrap();
    let pairs = prepared[0].iter().flat_map(|x| prepared[1].iter().map(move |y| (x, y)));
    for (pair, ((x, y), theirs)) in pairs.zip(expected).enumerate() {
        let Alignment { cka, cka_unbiased, cknna, mutual_knn, gromov_wasserstein } = x.compare(y).unwrap();
        for (ours, (theirs, what)) in [cka, cka_unbiased, cknna, mutual_knn, gromov_wasserstein]
            .into_iter()
            .zip(theirs.into_iter().zip(["CKA", "unbiased CKA", "CKNNA", "mutual k-NN", "Gromov-Wasserstein"]))
        {
            close(ours, theirs, &format!("{what} of pair {pair}"));
        }
    }
    // A representation agrees with itself.
    let own = prepared[0][0].compare(&prepared[0][0]).unwrap();
    close(own.cka, 1.0, "own CKA");
    assert_eq!((own.mutual_knn, own.gromov_wasserstein), (1.0, 0.0));
    let few = Vectors::new(vec![1.0; 30], 10).unwrap();
    assert!(Representation::new(&few, 10).is_err_and(|e| e.to_string().contains("too few")));
}

#[test]
fn spread_is_that_of_numpy() {
    let goldens = Goldens::open();
    let (values, shape) = goldens.tensor("spread");
    let mut sums = SpreadSums::new(shape[1]);
    values.chunks_exact(shape[1]).for_each(|row| sums.add(row).unwrap());
    let spread = sums.spread().unwrap();
    let theirs = goldens.numbers("spread");
    close(spread.mean, theirs[0], "mean");
    close(spread.std, theirs[1], "standard deviation");
    close(spread.effective_rank, theirs[2], "effective rank");
    assert!(SpreadSums::new(2).spread().is_err());
    let mut equal = SpreadSums::new(2);
    (0..3).for_each(|_| equal.add(&[1.0, 2.0]).unwrap());
    assert!(equal.spread().is_err_and(|e| e.to_string().contains("equal")));
    assert!(equal.add(&[f32::NAN, 0.0]).is_err() && equal.add(&[0.0]).is_err());
}

#[test]
fn points_and_tokens_are_those_of_the_law_of_vision_representation() {
    let goldens = Goldens::open();
    for case in goldens.numbers["points"].as_array().unwrap() {
        let (side, patches) = (case["side"].as_f64().unwrap(), case["patches"].as_u64().unwrap() as usize);
        let (values, shape) = goldens.tensor(&format!("points.{patches}.features"));
        let grid = |n: usize| PatchGrid {
            values: &values[n * shape[1] * shape[2]..(n + 1) * shape[1] * shape[2]],
            grid: [patches; 2],
        };
        let list = |name: &str| -> Vec<[f64; 2]> { serde_json::from_value(case[name].clone()).unwrap() };
        let found = correspond(grid(0), grid(1), &list("points"), side).unwrap();
        for (ours, theirs) in found.iter().flatten().zip(list("found").iter().flatten()) {
            close(*ours, *theirs, &format!("a point on {patches} patches"));
        }
        let theirs: Vec<f64> = serde_json::from_value(case["pck"].clone()).unwrap();
        for (alpha, theirs) in [0.1, 0.05, 0.01].into_iter().zip(theirs) {
            assert_eq!(pck(&found, &list("right"), 0.7 * side, alpha), Some(theirs), "PCK at {alpha}");
        }
    }
    let ((tokens, shape), (reference, _)) = (goldens.tensor("a.tokens"), goldens.tensor("a.reference"));
    let ours = a_score(&tokens, &reference, shape[1]).unwrap();
    close(ours, goldens.numbers["a_score"].as_f64().unwrap(), "A score");
    assert_eq!((a_score(&[], &reference, 7), a_score(&tokens, &reference, 0)), (None, None));
    let bad = PatchGrid { values: &tokens[..7], grid: [2, 2] };
    assert!(correspond(bad, bad, &[[0.0, 0.0]], 96.0).is_err());
}

#[test]
fn neighbours_vote_as_in_dino() {
    let goldens = Goldens::open();
    let ((values, shape), (labels, _)) = (goldens.tensor("knn.values"), goldens.tensor("knn.labels"));
    let labels: Vec<usize> = labels.iter().map(|l| *l as usize).collect();
    let (width, train) = (shape[1], 200);
    let samples = ProbeSamples {
        values: values[..train * width].to_vec(),
        width,
        labels: labels[..train].to_vec(),
        images: (0..train).collect(),
    };
    let predicted = knn::predict(&samples, &values[train * width..], 6, 20, 0.07);
    let right = predicted.iter().zip(&labels[train..]).filter(|(p, l)| p == l).count();
    close(100.0 * right as f64 / predicted.len() as f64, goldens.numbers["knn"].as_f64().unwrap(), "k-NN accuracy");
}

#[test]
fn the_attentive_probe_is_that_of_aim() {
    let goldens = Goldens::open();
    let (values, shape) = goldens.tensor("attentive.tokens");
    let (images, tokens, width, classes, heads) = (shape[0], shape[1], shape[2], 5, 3);
    let samples = TokenSamples { values, tokens, width, labels: (0..images).map(|i| i % classes).collect() };
    let part = |name: &str| goldens.numbers(&format!("attentive.{name}"));
    let parameters = AttentiveParameters {
        query: part("query"),
        key: part("key"),
        value: part("value"),
        classifier: part("classifier"),
    };
    let all: Vec<usize> = (0..images).collect();
    let (mean, factor) = super::attentive::statistics(&samples, &all);
    let probe = AttentiveProbe { parameters, mean, factor, heads, classes };
    let logits = samples.values.chunks_exact(tokens * width).flat_map(|image| probe.logits(image));
    for (i, (ours, theirs)) in logits.zip(part("logits")).enumerate() {
        close(ours, theirs, &format!("logit {i}"));
    }
    let (loss, gradient) = probe.gradient(&samples, &all);
    close(loss, goldens.numbers["attentive.loss"].as_f64().unwrap(), "loss");
    let AttentiveParameters { query, key, value, classifier } = gradient;
    for (name, ours) in [("query", query), ("key", key), ("value", value), ("classifier", classifier)] {
        for (i, (ours, theirs)) in ours.iter().zip(part(&format!("{name}.gradient"))).enumerate() {
            close(*ours, theirs, &format!("gradient {i} of {name}"));
        }
    }
}

/// Images of four tokens, one of which carries the class in its sign; the others are noise, and the mean says nothing.
fn hidden_class(n: usize, seed: u64) -> TokenSamples {
    let mut s = stream("attentive test", seed);
    let width = 6;
    let mut samples = TokenSamples { tokens: 4, width, ..TokenSamples::default() };
    for i in 0..n {
        let (class, at) = (i % 2, (i / 2) % 4);
        let mut tokens = vec![0.0_f32; 4 * width];
        tokens.iter_mut().for_each(|v| *v = normal_pair(&mut s)[0] as f32);
        for (t, token) in tokens.chunks_exact_mut(width).enumerate() {
            // The last channel marks the token that counts.
            token[width - 1] = if t == at { 4.0 } else { 0.0 };
        }
        tokens[at * width] = if class == 0 { 1.0 } else { -1.0 };
        samples.values.extend(tokens);
        samples.labels.push(class);
    }
    samples
}

#[test]
fn the_attentive_probe_finds_the_token_that_counts() {
    let (train, test) = (hidden_class(400, 0), hidden_class(200, 1));
    let config = AttentiveConfig { heads: 2, epochs: 30, ..AttentiveConfig::default() };
    let right = run_attentive(&train, &test, 2, &config).unwrap();
    assert!(right > 190, "{right} of 200");
    assert_eq!(run_attentive(&train, &test, 2, &config).unwrap(), right);
    let broken = TokenSamples { labels: vec![2; 400], ..train.clone() };
    assert!(run_attentive(&broken, &test, 2, &config).is_err());
    assert!(run_attentive(&train, &TokenSamples::default(), 2, &config).is_err());
}
