//! Detects a training run that diverges before its values stop being finite.

use burgess_base::{Error, Result};
use std::collections::VecDeque;

/// Watches the steps of a stage that trains encoders.
///
/// A step *explodes* if its gradient norm (before clipping) exceeds [`Divergence::NORM`] times the median of the last
/// [`Divergence::WINDOW`] steps that did not explode, or its loss exceeds both [`Divergence::LOSS`] times their median
/// loss and the loss of guessing tokens uniformly, ln(vocabulary). [`Divergence::STEPS`] exploding steps in a row are
/// an error. The first [`Divergence::LEAST`] steps only fill the window.
#[derive(Debug)]
pub struct Divergence {
    /// Loss of uniform guesses, in nats.
    uniform: f64,
    /// Loss and gradient norm of recent steps that did not explode.
    recent: VecDeque<[f64; 2]>,
    /// Number of exploding steps in a row.
    exploding: usize,
}

impl Divergence {
    /// Factor of the median gradient norm above which a step explodes.
    pub const NORM: f64 = 100.0;
    /// Factor of the median loss above which a step explodes.
    pub const LOSS: f64 = 4.0;
    /// Number of steps whose median is taken.
    pub const WINDOW: usize = 64;
    /// Number of steps before the first that can explode.
    pub const LEAST: usize = 8;
    /// Number of exploding steps in a row that end the training.
    pub const STEPS: usize = 5;

    /// Begins to watch a model with a vocabulary of `tokens`.
    pub fn new(tokens: usize) -> Self {
        Self { uniform: (tokens.max(2) as f64).ln(), recent: VecDeque::new(), exploding: 0 }
    }

    /// Adds a step with its loss and gradient norm.
    ///
    /// # Errors
    /// It is the last of [`Divergence::STEPS`] exploding steps in a row.
    pub fn add(&mut self, loss: f64, norm: f64) -> Result<()> {
        let [usual_loss, usual_norm] = [0, 1].map(|what| self.median(what));
        let steep = norm > Self::NORM * usual_norm;
        let wrong = loss > Self::LOSS * usual_loss && loss > self.uniform;
        if self.recent.len() < Self::LEAST || !(steep || wrong) {
            self.exploding = 0;
            self.recent.push_back([loss, norm]);
            if self.recent.len() > Self::WINDOW {
                self.recent.pop_front();
            }
            return Ok(());
        }
        self.exploding += 1;
        if self.exploding < Self::STEPS {
            return Ok(());
        }
        let steps = Self::STEPS;
        let what = if steep {
            format!("the gradient norm {norm:.3e} is more than {} times the median {usual_norm:.3e}", Self::NORM)
        } else {
            format!("the loss {loss:.3} is more than {} times the median {usual_loss:.3}", Self::LOSS)
        };
        Err(Error::failed(format!("{what} of the last steps, for {steps} steps in a row")))
    }

    fn median(&self, what: usize) -> f64 {
        let mut values: Vec<f64> = self.recent.iter().map(|step| step[what]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(steps: impl IntoIterator<Item = [f64; 2]>) -> Option<(usize, String)> {
        let mut watch = Divergence::new(100);
        steps
            .into_iter()
            .enumerate()
            .find_map(|(at, [loss, norm])| Some((at, watch.add(loss, norm).err()?.to_string())))
    }

    #[test]
    fn exploding_gradients_and_losses_end_the_training() {
        let usual = |at: usize| [2.0 - at as f64 * 0.01, 1.0 + (at % 3) as f64 * 0.1];
        let norms = (0..40).map(|at| if at < 20 { usual(at) } else { [2.0, 200.0 * at as f64] });
        let (at, said) = watched(norms).unwrap();
        assert!(at == 24 && said.contains("gradient norm"), "{at} {said}");
        let losses = (0..40).map(|at| if at < 20 { usual(at) } else { [9.0, 1.0] });
        let (at, said) = watched(losses).unwrap();
        assert!(at == 24 && said.contains("the loss 9.000"), "{at} {said}");
    }

    #[test]
    fn peaks_warm_up_and_slow_growth_do_not() {
        let peaks = (0..200).map(|at| [2.0, if at % 5 < 4 && at > 20 { 500.0 } else { 1.0 }]);
        assert_eq!(watched(peaks), None);
        let growing = (0..200).map(|at| [2.0, 1.03f64.powi(at)]);
        assert_eq!(watched(growing), None);
        let first = (0..5).map(|at| [4.0, 1e6 / f64::from(at + 1)]).chain((0..50).map(|_| [1.0, 0.1]));
        assert_eq!(watched(first), None);
        // Below the loss of uniform guesses, ln 100, nothing has diverged.
        let small = (0..60).map(|at| if at < 20 { [0.5, 1.0] } else { [4.0, 1.0] });
        assert_eq!(watched(small), None);
    }
}
