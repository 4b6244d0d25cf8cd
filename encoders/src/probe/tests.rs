//! Tests of both probes against scikit-learn (`tests/reference/probes.py`), and on problems with a known answer.

use super::*;
use burgess_base::stream::{Stream, normal_pair, stream};
use safetensors::SafeTensors;
use std::time::Instant;

struct Goldens(Vec<u8>);

impl Goldens {
    fn open() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/probes/problem.safetensors");
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = file.tensor(name).unwrap().data().to_vec();
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn samples(&self, name: &str) -> ProbeSamples {
        let labels: Vec<usize> = self.get(&format!("{name}.labels")).iter().map(|l| *l as usize).collect();
        let values = self.get(name);
        ProbeSamples { width: values.len() / labels.len(), images: (0..labels.len()).collect(), values, labels }
    }
}

/// The largest absolute difference.
fn off(ours: &[f64], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max)
}

#[test]
fn the_linear_probe_is_scikit_learns_logistic_regression() {
    let goldens = Goldens::open();
    let (train, test) = (goldens.samples("train"), goldens.samples("test"));
    for (name, l2) in [("l2=0.1", 1e-1), ("l2=0.001", 1e-3)] {
        let model = linear::LinearProbe::fit(&train, l2, 1e-10).unwrap();
        let theirs = goldens.get(&format!("{name}.probabilities"));
        assert!(off(&model.probabilities(&test.values), &theirs) < 1e-6, "{name}");
        assert!(off(model.weights(), &goldens.get(&format!("{name}.weights"))) < 1e-5, "{name}");
        let predicted: Vec<usize> = theirs.chunks_exact(5).map(largest).collect();
        assert_eq!(model.predict(&test.values), predicted, "{name}");
    }
}

#[test]
fn the_knn_probe_is_scikit_learns_with_dinos_weights() {
    let goldens = Goldens::open();
    let (train, test) = (goldens.samples("train"), goldens.samples("test"));
    let theirs = goldens.get("knn.shares");
    let votes = knn::votes(&train, &test.values, 5, 20, 0.07);
    let shares: Vec<f64> = votes.chunks_exact(5).flat_map(|v| v.iter().map(|x| x / v.iter().sum::<f64>())).collect();
    assert!(off(&shares, &theirs) < 1e-4, "{}", off(&shares, &theirs));
    let predicted: Vec<usize> = theirs.chunks_exact(5).map(largest).collect();
    assert_eq!(knn::predict(&train, &test.values, 5, 20, 0.07), predicted);
}

/// Draws a standard normal number.
fn normal(s: &mut Stream) -> f64 {
    normal_pair(s)[0]
}

/// Draws vectors around one mean per class; with `spread` 0 all equal their mean.
fn clusters(n: usize, width: usize, classes: usize, spread: f64, name: &str) -> ProbeSamples {
    let mut s = stream("probe/means", 0);
    let means: Vec<f64> = (0..classes * width).map(|_| normal(&mut s)).collect();
    let mut s = stream(name, 0);
    let labels: Vec<usize> = (0..n).map(|i| i * 7 % classes).collect();
    let values = labels.iter().flat_map(|l| &means[l * width..(l + 1) * width]).map(|m| *m + spread * normal(&mut s));
    let values: Vec<f32> = values.map(|v| v as f32).collect();
    ProbeSamples { values, width, labels, images: (0..n).map(|i| i / 2).collect() }
}

#[test]
fn clusters_are_told_apart_and_noise_is_not() {
    let config = ProbeConfig::default();
    let easy = run(&clusters(300, 16, 10, 0.3, "a"), &clusters(200, 16, 10, 0.3, "b"), 10, &config).unwrap();
    assert!(easy.linear_correct > 195 && easy.knn_correct > 195, "{easy:?}");
    assert_eq!((easy.n_train, easy.n_test, easy.constant_correct), (300, 200, 20));
    let noise = run(&clusters(300, 16, 10, 60.0, "a"), &clusters(200, 16, 10, 60.0, "b"), 10, &config).unwrap();
    assert!(noise.linear_correct < 40 && noise.knn_correct < 40, "{noise:?}");
    // The weakest penalty would follow the noise.
    assert!(noise.l2 > 1e-4, "{noise:?}");
    let again = run(&clusters(300, 16, 10, 60.0, "a"), &clusters(200, 16, 10, 60.0, "b"), 10, &config).unwrap();
    assert_eq!(noise, again);
}

#[test]
fn classes_without_training_vectors_are_never_predicted() {
    let mut train = clusters(100, 6, 4, 1.0, "a");
    train.labels.iter_mut().for_each(|l| *l = if *l == 2 { 3 } else { *l });
    let model = linear::LinearProbe::fit(&train, 1e-3, 1e-8).unwrap();
    assert_eq!(model.probabilities(&train.values).len(), 300);
    assert!(!model.predict(&train.values).contains(&2));
    train.labels.fill(1);
    assert!(linear::LinearProbe::fit(&train, 1e-3, 1e-8).unwrap().predict(&train.values).iter().all(|p| *p == 1));
    let outcome = run(&train, &train, 2, &ProbeConfig::default()).unwrap();
    assert_eq!((outcome.linear_correct, outcome.knn_correct, outcome.constant_correct), (100, 100, 100));
}

#[test]
fn malformed_samples_are_refused() {
    let good = clusters(20, 3, 2, 1.0, "a");
    let config = ProbeConfig::default();
    let refused = |train: &ProbeSamples| run(train, &good, 2, &config).unwrap_err().to_string();
    let mut bad = good.clone();
    bad.values[7] = f32::NAN;
    assert_eq!(refused(&bad), "training vector 2 has a value that is not finite");
    assert!(refused(&ProbeSamples::default()).contains("the training data have 0 vectors"));
    assert!(refused(&ProbeSamples { labels: vec![2; 20], ..good.clone() }).contains("label is 2"));
    assert!(refused(&ProbeSamples { labels: vec![0; 19], ..good.clone() }).contains("expected 57 and 19"));
    let wide = ProbeSamples { width: 6, values: vec![0.5; 120], ..good.clone() };
    assert!(refused(&wide).contains("width 6"));
    assert!(run(&good, &good, 2, &ProbeConfig { l2: Vec::new(), ..config }).is_err());
}

/// A problem as large as the nano world's largest; `--nocapture` prints the time.
#[test]
fn a_large_problem_takes_seconds() {
    let (train, test) = (clusters(3000, 256, 100, 4.0, "large/train"), clusters(600, 256, 100, 4.0, "large/test"));
    let started = Instant::now();
    let outcome = run(&train, &test, 100, &ProbeConfig::default()).unwrap();
    eprintln!("{outcome:?} in {:.2} s", started.elapsed().as_secs_f64());
    assert!(outcome.linear_correct > 200, "{outcome:?}");
}
