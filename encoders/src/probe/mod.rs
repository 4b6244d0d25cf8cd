//! Probes: simple classifiers on frozen features, which measure encoders without a language model.
//!
//! There are three probes. Two predict one class per feature vector, the third one class per image from all its tokens:
//!
//! - `linear`: multinomial logistic regression on standardised features, with the L2 penalty chosen on a validation
//!   part of the training vectors, as in the linear evaluation of CLIP (arXiv:2103.00020, appendix A.3);
//! - `knn`: weighted nearest neighbours on L2-normalised features, as in DINO (arXiv:2104.14294, appendix F.1).
//! - [`attentive`]: a learned query attends to the tokens, and a linear classifier reads the result, as in AIM
//!   (arXiv:2401.08541).
//!
//! [`features`] computes the vectors: one per image (mean and maximum over its patches) or one per cell of an image.
//! All are deterministic for any number of threads.
//!
//! What needs no labels: [`alignment`] compares two representations of the same items (CKA, CKNNA, mutual k-NN,
//! Gromov-Wasserstein), [`correspondence`] finds corresponding points in two images (C score) and compares projected
//! tokens (A score), [`spread`] measures mean, standard deviation and effective rank.
//!
//! ```
//! use burgess_encoders::probe::{self, ProbeConfig, ProbeSamples};
//! # fn f() -> burgess_base::Result<()> {
//! let samples = |shift: f32| ProbeSamples {
//!     values: (0..80).flat_map(|i| [(i % 2) as f32 + shift * (i % 7) as f32, 1.0]).collect(),
//!     width: 2,
//!     labels: (0..80).map(|i| i % 2).collect(),
//!     images: (0..80).collect(),
//! };
//! let outcome = probe::run(&samples(0.01), &samples(0.02), 2, &ProbeConfig::default())?;
//! assert_eq!((outcome.linear_correct, outcome.knn_correct, outcome.n_test), (80, 80, 80));
//! # Ok(()) }
//! # f().unwrap()
//! ```

pub mod alignment;
pub mod attentive;
pub mod correspondence;
pub mod features;
mod knn;
mod lbfgs;
mod linear;
pub mod spread;
mod vectors;

pub use vectors::{Vectors, clamp_outliers};

use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Labelled feature vectors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProbeSamples {
    /// All vectors, `[labels.len(), width]`, row-major.
    pub values: Vec<f32>,
    /// Length of a vector.
    pub width: usize,
    /// Class index of each vector; the first class is 0.
    pub labels: Vec<usize>,
    /// Index of the image of each vector. Vectors of one image stay together in the validation split.
    pub images: Vec<usize>,
}

impl ProbeSamples {
    /// Returns the number of vectors.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no vector.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the feature vector at `index`, `[width]`.
    pub fn row(&self, index: usize) -> &[f32] {
        self.values.get(index * self.width..(index + 1) * self.width).unwrap_or_default()
    }

    /// Selects the vectors of these indices, in this order.
    fn select(&self, indices: &[usize]) -> Self {
        Self {
            values: indices.iter().flat_map(|&i| self.row(i)).copied().collect(),
            width: self.width,
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
            images: indices.iter().map(|&i| self.images[i]).collect(),
        }
    }

    /// Checks that the lengths agree, all values are finite and all labels are below `classes`.
    fn check(&self, what: &str, classes: usize) -> Result<()> {
        let n = self.len();
        if n == 0 || self.width == 0 {
            return Err(Error::failed(format!(
                "the {what} data have {n} vectors of width {}, both must be at least 1",
                self.width
            )));
        }
        if self.values.len() != n * self.width || self.images.len() != n {
            return Err(Error::failed(format!(
                "the {what} data have {} values and {} image indices, expected {} and {n} for {n} labels and width {}",
                self.values.len(),
                self.images.len(),
                n * self.width,
                self.width
            )));
        }
        if let Some(label) = self.labels.iter().find(|l| **l >= classes) {
            return Err(Error::failed(format!(
                "a {what} label is {label}, must be below the number of classes, {classes}"
            )));
        }
        match self.values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(Error::failed(format!("{what} vector {} has a value that is not finite", at / self.width))),
            None => Ok(()),
        }
    }
}

/// Hyper-parameters of both probes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeConfig {
    /// Candidates for the L2 penalty λ of the linear probe, whose objective is mean loss + λ/2 · ‖W‖².
    pub l2: Vec<f64>,
    /// Fraction of the training images on which λ is chosen, between 0 and 1.
    pub validation: f64,
    /// Number of neighbours that vote in the k-NN probe.
    pub neighbours: usize,
    /// Temperature τ of the k-NN probe: a neighbour of cosine similarity c votes with weight exp(c / τ).
    pub temperature: f64,
    /// Seed of the choice of validation images.
    pub seed: u64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            l2: vec![1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5],
            validation: 0.2,
            neighbours: 20,
            temperature: 0.07,
            seed: 0,
        }
    }
}

/// The results of both probes and of the constant-answer baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeOutcome {
    /// Number of training vectors.
    pub n_train: usize,
    /// Number of test vectors.
    pub n_test: usize,
    /// Number of test vectors that the linear probe classifies correctly.
    pub linear_correct: usize,
    /// The L2 penalty that was chosen.
    pub l2: f64,
    /// Number of test vectors that the k-NN probe classifies correctly.
    pub knn_correct: usize,
    /// Number of test vectors of the most frequent training class: the constant-answer baseline.
    pub constant_correct: usize,
}

/// Trains both probes on `train` and counts their correct answers on `test`; labels are below `classes`.
///
/// # Errors
/// There are no vectors, lengths do not agree, a value is not finite, or a label is out of range.
pub fn run(train: &ProbeSamples, test: &ProbeSamples, classes: usize, config: &ProbeConfig) -> Result<ProbeOutcome> {
    train.check("training", classes)?;
    test.check("test", classes)?;
    if train.width != test.width {
        return Err(Error::failed(format!(
            "training vectors have width {}, test vectors have width {}",
            train.width, test.width
        )));
    }
    let (model, l2) = linear::fit_chosen(train, config)?;
    let neighbours = knn::predict(train, &test.values, classes, config.neighbours, config.temperature);
    let constant = vec![most_frequent(&train.labels, classes); test.len()];
    Ok(ProbeOutcome {
        n_train: train.len(),
        n_test: test.len(),
        linear_correct: correct(&model.predict(&test.values), &test.labels),
        l2,
        knn_correct: correct(&neighbours, &test.labels),
        constant_correct: correct(&constant, &test.labels),
    })
}

/// Returns the number of predictions that equal their label.
fn correct(predictions: &[usize], labels: &[usize]) -> usize {
    predictions.iter().zip(labels).filter(|(p, l)| p == l).count()
}

/// Returns the most frequent label; in a tie, the smallest.
fn most_frequent(labels: &[usize], classes: usize) -> usize {
    let mut counts = vec![0_usize; classes];
    for &label in labels {
        counts[label] += 1;
    }
    largest(&counts)
}

/// Returns the index of the largest value, in a tie the first; 0 if there are no values.
fn largest<T: PartialOrd + Copy>(values: &[T]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod predictor_tests;
#[cfg(test)]
mod tests;
