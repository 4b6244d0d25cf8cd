//! The choice of the next token of each row from its logits.

use super::Sampling;
use crate::text::ScoredToken;
use burgess_base::stream::{Stream, stream};
use burgess_base::{Error, Result, digest};
use burgess_encoders::transfer;
use burn::tensor::{Tensor, TensorData};

/// Sampling with the random stream of one prompt, whose draws depend only on prompt and seed.
#[derive(Debug)]
pub struct Draws {
    sampling: Sampling,
    random: Stream,
}

impl Draws {
    /// Makes the random stream for the prompt `ids`.
    ///
    /// # Errors
    /// When a sampling option is out of range.
    pub fn new(sampling: Sampling, ids: &[u32]) -> Result<Self> {
        sampling.check()?;
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let random = stream(&format!("answer/{}", digest::of_bytes(&bytes)), sampling.seed);
        Ok(Self { sampling, random })
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        self.sampling.draw(logits, &mut self.random) as u32
    }
}

/// How the tokens of a row are chosen.
#[derive(Debug, Default)]
pub(super) struct ChoiceRule {
    /// Sampling; `None` for greedy decoding.
    pub draws: Option<Draws>,
    /// Number of alternatives whose log-probabilities are listed with each token; `None` for no log-probabilities.
    pub alternatives: Option<usize>,
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Token id.
    pub id: u32,
    /// Log-probabilities, if they were asked for.
    pub scored: Option<ScoredToken>,
}

/// Returns the error for a logit or log-probability that is not finite.
pub(super) fn not_finite(place: &str, value: f32) -> Error {
    Error::failed(format!("the language model's output is {value} at {place}")).hint(
        "the weights are damaged, diverged in training (train again with a lower learning rate), or do not belong to \
             the configuration",
    )
}

/// Chooses the next token of each row of `logits` `[rows, vocabulary]`: sampled if its rule has draws, else the most
/// likely one. A row with a logit that is not finite gets this logit as error.
///
/// # Errors
/// When the device fails.
pub(super) fn next_tokens(logits: Tensor<2>, rules: &mut [&mut ChoiceRule]) -> Result<Vec<Result<Choice, f32>>> {
    if rules.iter().all(|rule| rule.draws.is_none() && rule.alternatives.is_none()) {
        let plain = |id: Result<u32, f32>| id.map(|id| Choice { id, scored: None });
        return Ok(most_likely_rows(logits)?.into_iter().map(plain).collect());
    }
    let v = logits.dims()[1];
    // A draw sorts the whole row, so the rows are copied to the host.
    let values: Vec<f32> = transfer::to_host(logits)?;
    values
        .chunks(v.max(1))
        .zip(rules)
        .map(|(row, rule)| {
            if let Some(bad) = first_not_finite(row) {
                return Ok(Err(bad));
            }
            let id = match &mut rule.draws {
                Some(draws) => draws.draw(row),
                None => {
                    let best = |best: (usize, f32), (i, &x): (usize, &f32)| if x > best.1 { (i, x) } else { best };
                    row.iter().enumerate().fold((0, f32::NEG_INFINITY), best).0 as u32
                }
            };
            let scored = rule.alternatives.map(|count| ScoredToken::with_alternatives(row, id, count)).transpose()?;
            Ok(Ok(Choice { id, scored }))
        })
        .collect()
}

/// Returns the most likely token of each row of `logits` `[rows, vocabulary]`; of equally likely ones that with the
/// lowest id, on every backend. A row with a logit that is not finite gets this logit as error.
///
/// The rows are reduced on the device: one id and one sum per row are copied to the host, in one transfer.
///
/// # Errors
/// When the device fails.
fn most_likely_rows(logits: Tensor<2>) -> Result<Vec<Result<u32, f32>>> {
    let (ids, sums) = (logits.clone().argmax(1), logits.clone().sum_dim(1));
    let read = transfer::Downloads::default().with(ids).with(sums).read()?;
    let [ids, sums] = <[TensorData; 2]>::try_from(read)
        .map_err(|read| Error::failed(format!("the device returned {} tensors, expected 2", read.len())))?;
    let converted = |e| Error::failed(format!("reading the most likely tokens: {e}"));
    let sums = sums.try_into_vec_as::<f32>().map_err(converted)?;
    let ids = ids.try_into_vec_as::<i64>().map_err(converted)?;
    let mut chosen: Vec<Result<u32, f32>> = ids.into_iter().map(|id| Ok(id as u32)).collect();
    // A sum is not finite if a logit is not, or if finite logits overflow it; the logits themselves tell.
    if sums.iter().any(|sum| !sum.is_finite()) {
        let v = logits.dims()[1];
        let values: Vec<f32> = transfer::to_host(logits)?;
        for (row, chosen) in values.chunks(v.max(1)).zip(&mut chosen) {
            if let Some(bad) = first_not_finite(row) {
                *chosen = Err(bad);
            }
        }
    }
    Ok(chosen)
}

/// Returns the most likely token of each row, as `most_likely_rows`; `bad` makes the error for a row with a logit that
/// is not finite.
///
/// # Errors
/// When a logit is not finite.
pub(crate) fn most_likely(logits: Tensor<2>, bad: &dyn Fn(usize, f32) -> Error) -> Result<Vec<u32>> {
    let rows = most_likely_rows(logits)?.into_iter().enumerate();
    rows.map(|(row, id)| id.map_err(|value| bad(row, value))).collect()
}

/// Returns the most likely token of each row of `logits` `[rows, vocabulary]`, as greedy decoding chooses it.
///
/// # Errors
/// When a logit is not finite.
pub fn most_likely_tokens(logits: Tensor<2>) -> Result<Vec<u32>> {
    most_likely(logits, &|row, bad| not_finite(&format!("row {row} of the logits"), bad))
}

/// Returns the first value that is not finite.
fn first_not_finite(row: &[f32]) -> Option<f32> {
    // No early exit in the first pass, so that the loop is vectorised.
    match row.iter().fold(true, |finite, x| finite & x.is_finite()) {
        true => None,
        false => row.iter().copied().find(|x| !x.is_finite()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Chooses one token per row, with these sampling options for all rows.
    fn choose(logits: Tensor<2>, sampling: Option<Sampling>) -> Result<Vec<Result<u32, f32>>> {
        let rule = |row: usize| -> Result<ChoiceRule> {
            let draws = sampling.map(|s| Draws::new(s, &[row as u32])).transpose()?;
            Ok(ChoiceRule { draws, alternatives: None })
        };
        let mut rules = (0..logits.dims()[0]).map(rule).collect::<Result<Vec<_>>>()?;
        let chosen = next_tokens(logits, &mut rules.iter_mut().collect::<Vec<_>>())?;
        Ok(chosen.into_iter().map(|c| c.map(|c| c.id)).collect())
    }

    #[test]
    fn a_logit_that_is_not_finite_is_an_error_of_its_row_only() -> Result<()> {
        let logits =
            |bad: f32| Tensor::from_data(TensorData::new(vec![0.0, 3.0, 1.0, 0.0, bad, 2.0], [2, 3]), &Device::flex());
        assert_eq!(choose(logits(1.0), None)?, [Ok(1), Ok(2)]);
        let sampling = Sampling { temperature: 1e-3, top_p: 1.0, top_k: None, seed: 0 };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for sampling in [None, Some(sampling)] {
                let chosen = choose(logits(bad), sampling)?;
                assert_eq!(chosen[0], Ok(1));
                assert!(chosen[1].is_err_and(|x| x.to_string() == bad.to_string()), "{chosen:?}");
            }
            let e = most_likely_tokens(logits(bad)).unwrap_err();
            assert!(e.to_string().contains(&format!("is {bad} at row 1")) && e.hint_text().is_some(), "{e}");
        }
        Ok(())
    }

    #[test]
    fn of_equally_likely_tokens_the_first_is_chosen() -> Result<()> {
        // Rows shorter and longer than those for which the backend changes its method; −0 equals 0.
        for v in [3usize, 64, 1000] {
            let row = |best: &[usize], top: f32| (0..v).map(|i| if best.contains(&i) { top } else { -1.0 }).collect();
            let rows: [Vec<f32>; 4] = [row(&[1, 2], 2.0), row(&[v - 1], 0.0), vec![0.5; v], {
                let mut zeros: Vec<f32> = row(&[1, 2], 0.0);
                zeros[1] = -0.0;
                zeros
            }];
            let logits = Tensor::from_data(TensorData::new(rows.concat(), [4, v]), &Device::flex());
            let expected = [Ok(1), Ok(v as u32 - 1), Ok(0), Ok(1)];
            assert_eq!(choose(logits.clone(), None)?, expected, "{v}");
            // The same on the host, where log-probabilities are computed.
            let mut rules: Vec<ChoiceRule> =
                (0..4).map(|_| ChoiceRule { draws: None, alternatives: Some(2) }).collect();
            let chosen = next_tokens(logits, &mut rules.iter_mut().collect::<Vec<_>>())?;
            for (chosen, expected) in chosen.into_iter().zip(expected) {
                let chosen = chosen.map_err(|x| Error::failed(x.to_string()))?;
                assert_eq!(Ok(chosen.id), expected);
                assert!(chosen.scored.is_some_and(|s| s.top.len() == 2 && s.token.id == chosen.id));
            }
        }
        // Finite logits may overflow their sum.
        let large = Tensor::from_data(TensorData::new(vec![3e38f32, 3.1e38, 1.0], [1, 3]), &Device::flex());
        assert_eq!(choose(large, None)?, [Ok(1)]);
        Ok(())
    }
}
