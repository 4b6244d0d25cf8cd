//! Sampling of tokens from the predicted distribution.

use burgess_base::stream::{Stream, uniform};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Options of sampling tokens from the predicted distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Temperature by which logits are divided, above 0.
    pub temperature: f64,
    /// Top-p (nucleus) sampling: draws only from the most likely tokens that together reach this probability, in (0,
    /// 1]. Default 1.
    #[serde(default = "one")]
    pub top_p: f64,
    /// Top-k sampling: draws only from this many of the most likely tokens, at least 1; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Random seed. The draws for a prompt depend only on the seed and the prompt, not on the batch. Default 0.
    #[serde(default)]
    pub seed: u64,
}

fn one() -> f64 {
    1.0
}

impl Sampling {
    /// Checks the ranges of the options.
    ///
    /// # Errors
    /// When an option is out of range; the error names the field.
    pub fn check(&self) -> Result<()> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Error::usage(format!("`temperature` is {}, must be above 0", self.temperature))
                .hint("leave the sampling options out for greedy decoding"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::usage(format!("`top_p` is {}, must be above 0 and at most 1", self.top_p)));
        }
        if self.top_k == Some(0) {
            return Err(Error::usage("`top_k` is 0, must be at least 1").hint("leave `top_k` out to allow all tokens"));
        }
        Ok(())
    }

    /// Samples the index of a token from one row of logits, `[vocabulary]`.
    pub(crate) fn draw(&self, logits: &[f32], random: &mut Stream) -> usize {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // Ties are broken by the lower index, so that every machine draws the same token.
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        order.truncate(self.top_k.unwrap_or(usize::MAX));
        let most = order.first().map_or(0.0, |&i| f64::from(logits[i]));
        let mut weights: Vec<f64> =
            order.iter().map(|&i| ((f64::from(logits[i]) - most) / self.temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        // The token at which the probability is reached is included.
        let mut sum = 0.0;
        let kept = weights.iter().take_while(|w| {
            let before = sum;
            sum += **w / total;
            before < self.top_p
        });
        let kept = kept.count();
        weights.truncate(kept.max(1));
        let mut left = uniform(random) * weights.iter().sum::<f64>();
        let place = weights.iter().position(|w| {
            left -= w;
            left < 0.0
        });
        order.get(place.unwrap_or(weights.len() - 1)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    #[test]
    fn draws_follow_the_probabilities_that_are_left() -> Result<()> {
        let logits = [0.0, 2.0, 1.0, -1.0, 1.0];
        let shares = |s: Sampling| {
            let mut random = stream("test", 0);
            let mut counts = [0usize; 5];
            for _ in 0..20_000 {
                counts[s.draw(&logits, &mut random)] += 1;
            }
            counts.map(|c| c as f64 / 20_000.0)
        };
        let expected = |temperature: f64, kept: &[usize]| {
            let weight = |i: usize| if kept.contains(&i) { (f64::from(logits[i]) / temperature).exp() } else { 0.0 };
            let total: f64 = (0..5).map(weight).sum();
            (0..5).map(|i| weight(i) / total).collect::<Vec<_>>()
        };
        let all = Sampling { temperature: 0.7, top_p: 1.0, top_k: None, seed: 0 };
        let cases = [
            (all, expected(0.7, &[0, 1, 2, 3, 4])),
            (Sampling { top_k: Some(2), ..all }, expected(0.7, &[1, 2])),
            // The most likely token has probability 0.52 at temperature 1, the first two 0.71.
            (Sampling { temperature: 1.0, top_p: 0.6, ..all }, expected(1.0, &[1, 2])),
            (Sampling { temperature: 1.0, top_p: 0.4, ..all }, expected(1.0, &[1])),
        ];
        for (sampling, expected) in cases {
            for (a, b) in shares(sampling).iter().zip(&expected) {
                assert!((a - b).abs() < 0.015, "{sampling:?}: {a} {b}");
            }
        }
        assert!(Sampling { temperature: 0.0, ..all }.check().is_err());
        assert!(Sampling { top_p: 1.5, ..all }.check().is_err());
        Ok(())
    }
}
