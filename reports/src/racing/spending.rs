//! What runs cost: samples, tokens, time and operations.

use serde::{Deserialize, Serialize};
use std::iter::Sum;
use std::ops::{Add, Mul};

/// The cost of some runs. Quantities that were not measured are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// Number of runs, each one arm with one seed at one rung.
    pub runs: f64,
    /// Number of training samples of both stages, with repetitions.
    pub samples: f64,
    /// Number of tokens of the training steps.
    pub tokens: f64,
    /// Wall-clock seconds of the training steps.
    pub train_seconds: f64,
    /// Wall-clock seconds of asking and scoring, with the image and without.
    pub answer_seconds: f64,
    /// Floating-point operations of training, in 10¹⁵, estimated from the shapes of the models.
    pub petaflops: f64,
}

impl Add for Spending {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            samples: self.samples + other.samples,
            tokens: self.tokens + other.tokens,
            train_seconds: self.train_seconds + other.train_seconds,
            answer_seconds: self.answer_seconds + other.answer_seconds,
            petaflops: self.petaflops + other.petaflops,
        }
    }
}

impl Sum for Spending {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Scales what grows with the training data; the number of runs and the time for answers stay.
impl Mul<f64> for Spending {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self {
            runs: self.runs,
            samples: self.samples * factor,
            tokens: self.tokens * factor,
            train_seconds: self.train_seconds * factor,
            answer_seconds: self.answer_seconds,
            petaflops: self.petaflops * factor,
        }
    }
}

impl Spending {
    /// Returns the same cost for each of `runs` runs instead of those that were counted; zero if none were.
    pub fn for_runs(self, runs: f64) -> Self {
        if self.runs == 0.0 {
            return Self::default();
        }
        let times = runs / self.runs;
        Self { runs, answer_seconds: self.answer_seconds * times, ..self * times }
    }

    /// Returns how many times more samples, training operations and seconds (training and answers) `whole` has; `None`
    /// for what was not measured.
    pub fn times_less_than(&self, whole: &Self) -> [Option<f64>; 3] {
        let ratio = |of: fn(&Self) -> f64| (of(self) > 0.0 && of(whole) > 0.0).then(|| of(whole) / of(self));
        [ratio(|s| s.samples), ratio(|s| s.petaflops), ratio(|s| s.train_seconds + s.answer_seconds)]
    }
}
