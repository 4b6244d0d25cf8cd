//! Continuous batching: prompts join a batch while others are decoded, and each row leaves when it is done.

use super::choose::{Choice, ChoiceRule, Draws, next_tokens, not_finite};
use super::prefill::{Prefilled, STREAMED_ROWS, extend};
use crate::llm::KvCache;
use crate::mllm::Mllm;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::tensor::{Device, Tensor};

/// Options of one row of a [`LiveBatch`].
#[derive(Debug)]
pub struct RowOptions {
    /// Number by which the caller knows the row; no other row of the batch has it.
    pub id: u64,
    /// What is answered, for error messages: "prompt 3".
    pub name: String,
    /// Sampling; `None` for greedy decoding.
    pub draws: Option<Draws>,
    /// Number of alternatives whose log-probabilities are listed with each token; `None` for no log-probabilities.
    pub alternatives: Option<usize>,
    /// Maximum number of tokens of the answer; the caller retires the row when it is reached.
    pub max_new_tokens: usize,
}

/// The next token of each row after a step, and the rows that failed.
#[derive(Debug, Default)]
pub struct StepOutcome {
    /// The rows' numbers and next tokens.
    pub tokens: Vec<(u64, Choice)>,
    /// Rows that failed and left the batch.
    pub failures: Vec<RowFailure>,
}

/// Rows that failed together.
#[derive(Debug)]
pub struct RowFailure {
    /// The rows' numbers.
    pub rows: Vec<u64>,
    /// Why they failed.
    pub error: Error,
}

impl StepOutcome {
    /// Returns the tokens if no row failed.
    ///
    /// # Errors
    /// The first failure.
    pub fn complete(self) -> Result<Vec<(u64, Choice)>> {
        match self.failures.into_iter().next() {
            Some(failure) => Err(failure.error),
            None => Ok(self.tokens),
        }
    }
}

/// A batch of answers in progress. Rows join at any time with [`LiveBatch::admit`] and leave with
/// [`LiveBatch::retire`]; [`LiveBatch::step`] computes the next token of all of them.
///
/// The tokens of a row do not depend on the other rows; on the CPU backend not even the bits of its logits do, if
/// prompts were processed in the groups of [`prefill_groups`](super::prefill_groups).
pub struct LiveBatch<'a> {
    model: &'a Mllm,
    device: &'a Device,
    /// Rows that are computed together.
    cohorts: Vec<Cohort>,
}

/// Rows with one cache.
struct Cohort {
    cache: KvCache,
    rows: Vec<LiveRow>,
    /// Whether a row may grow past the length at which the rotary angles change (LongRoPE): it is recomputed then,
    /// which is not possible after it joined others.
    apart: bool,
}

struct LiveRow {
    id: u64,
    name: String,
    rule: ChoiceRule,
    /// Number of tokens chosen so far.
    count: usize,
    /// The newest token, which is processed in the next step.
    last: u32,
    retired: bool,
}

impl<'a> LiveBatch<'a> {
    /// Makes an empty batch; `device` is that of the model.
    pub fn new(model: &'a Mllm, device: &'a Device) -> Self {
        Self { model, device, cohorts: Vec::new() }
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.cohorts.iter().flat_map(|cohort| &cohort.rows).filter(|row| !row.retired).count()
    }

    /// Whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds processed prompts, one row each, and chooses their first tokens.
    ///
    /// # Errors
    /// When the number of rows differs from the number of prompts; nothing is added then.
    pub fn admit(&mut self, prefilled: Prefilled, rows: Vec<RowOptions>) -> Result<StepOutcome> {
        let Prefilled { cache, logits } = prefilled;
        let lengths = cache.lengths();
        if lengths.len() != rows.len() {
            return Err(Error::failed(format!("got options for {} rows, {} prompts", rows.len(), lengths.len())));
        }
        self.sweep();
        let switch = self.model.llm.config().length_switch();
        // The last token of an answer is not processed.
        let grows_past = |(length, row): (&usize, &RowOptions)| {
            switch.is_some_and(|switch| *length <= switch && length + row.max_new_tokens > switch + 1)
        };
        let apart = lengths.iter().zip(&rows).any(grows_past);
        let rows = rows.into_iter().map(|row| LiveRow {
            id: row.id,
            name: row.name,
            rule: ChoiceRule { draws: row.draws, alternatives: row.alternatives },
            count: 0,
            last: 0,
            retired: false,
        });
        let mut new = Cohort { cache, rows: rows.collect(), apart };
        let mut outcome = StepOutcome::default();
        new.choose(Ok(logits), &mut outcome);
        new.sweep(self.model);
        if new.rows.is_empty() {
            return Ok(outcome);
        }
        let room = if transfer::is_host(self.device) { STREAMED_ROWS } else { usize::MAX };
        let fits = |other: &Cohort| !new.apart && !other.apart && other.rows.len() + new.rows.len() <= room;
        match self.cohorts.iter().position(fits) {
            Some(place) => {
                let old = self.cohorts.swap_remove(place);
                match KvCache::join(vec![old.cache, new.cache]) {
                    Ok(cache) => {
                        let rows = old.rows.into_iter().chain(new.rows).collect();
                        self.cohorts.push(Cohort { cache, rows, apart: false });
                    }
                    Err(error) => {
                        let rows = old.rows.iter().chain(&new.rows).map(|row| row.id).collect();
                        outcome.failures.push(RowFailure { rows, error });
                    }
                }
            }
            None => self.cohorts.push(new),
        }
        Ok(outcome)
    }

    /// Removes rows by their numbers; unknown numbers are ignored.
    pub fn retire(&mut self, ids: &[u64]) {
        for row in self.cohorts.iter_mut().flat_map(|cohort| &mut cohort.rows) {
            row.retired |= ids.contains(&row.id);
        }
    }

    /// Computes the next token of every row. Rows that fail are listed in the outcome and leave the batch.
    pub fn step(&mut self) -> StepOutcome {
        self.sweep();
        let mut outcome = StepOutcome::default();
        for cohort in &mut self.cohorts {
            let logits = cohort.push(self.model, self.device);
            cohort.choose(logits, &mut outcome);
        }
        outcome
    }

    /// Drops the rows that were retired.
    fn sweep(&mut self) {
        self.cohorts.iter_mut().for_each(|cohort| cohort.sweep(self.model));
        self.cohorts.retain(|cohort| !cohort.rows.is_empty());
    }
}

impl Cohort {
    /// Processes the newest token of each row; returns the logits of the next, `[rows, vocabulary]`.
    fn push(&mut self, model: &Mllm, device: &Device) -> Result<Tensor<2>> {
        let tokens: Vec<Vec<u32>> = self.rows.iter().map(|row| vec![row.last]).collect();
        let hidden = extend(&model.llm, &mut self.cache, &tokens, &vec![1; tokens.len()], device)?;
        let [b, t, d] = hidden.dims();
        Ok(model.llm.logits(hidden.reshape([b * t, d])))
    }

    /// Chooses the next token of each row. If there are no logits, all rows fail.
    fn choose(&mut self, logits: Result<Tensor<2>>, outcome: &mut StepOutcome) {
        let chosen = logits.and_then(|logits| {
            next_tokens(logits, &mut self.rows.iter_mut().map(|row| &mut row.rule).collect::<Vec<_>>())
        });
        let chosen = match chosen {
            Ok(chosen) => chosen,
            Err(error) => {
                self.rows.iter_mut().for_each(|row| row.retired = true);
                let rows = self.rows.iter().map(|row| row.id).collect();
                outcome.failures.push(RowFailure { rows, error });
                return;
            }
        };
        for (row, choice) in self.rows.iter_mut().zip(chosen) {
            row.count += 1;
            match choice {
                Ok(choice) => {
                    row.last = choice.id;
                    outcome.tokens.push((row.id, choice));
                }
                Err(value) => {
                    row.retired = true;
                    let error = not_finite(&format!("token {} of the answer to {}", row.count, row.name), value);
                    outcome.failures.push(RowFailure { rows: vec![row.id], error });
                }
            }
        }
    }

    fn sweep(&mut self, model: &Mllm) {
        let kept: Vec<usize> =
            self.rows.iter().enumerate().filter(|(_, row)| !row.retired).map(|(place, _)| place).collect();
        if kept.len() < self.rows.len() {
            self.rows.retain(|row| !row.retired);
            if !kept.is_empty() {
                self.cache = self.cache.select(&kept, model.llm.config().kv_heads());
            }
        }
    }
}
