//! Batches of pretraining documents.

use super::{PretrainConfig, PretrainRow};
use crate::data::collate::shuffle;
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};

/// Groups documents of similar length into batches, which keeps padding short; the order of the batches is random.
pub(super) struct Batches<'a, D> {
    documents: D,
    config: &'a PretrainConfig,
    random: Stream,
    ready: Vec<Vec<PretrainRow>>,
    rest: Vec<PretrainRow>,
}

/// Number of batches whose documents are sorted by length together.
const POOL: usize = 24;

impl<'a, D: Iterator<Item = Result<PretrainRow>>> Batches<'a, D> {
    /// Batches of `documents`, whose order is drawn from `random`.
    pub fn new(documents: D, config: &'a PretrainConfig, random: Stream) -> Self {
        Self { documents, config, random, ready: Vec::new(), rest: Vec::new() }
    }

    /// Returns the rows of the next step.
    ///
    /// # Errors
    /// When the documents run out, or one of them cannot be tokenised.
    pub fn next(&mut self) -> Result<Vec<PretrainRow>> {
        if let Some(batch) = self.ready.pop() {
            return Ok(batch);
        }
        let mut pool = std::mem::take(&mut self.rest);
        let mut size: usize = pool.iter().map(|row: &PretrainRow| row.ids.len()).sum();
        while size < POOL * self.config.tokens {
            let Some(document) = self.documents.next() else { break };
            let mut row = document?;
            row.ids.truncate(self.config.context);
            row.loss_mask.truncate(self.config.context);
            // The first token is never predicted, so it does not count as supervised.
            if row.loss_mask.iter().skip(1).any(|supervised| *supervised) {
                size += row.ids.len();
                pool.push(row);
            }
        }
        pool.sort_by_key(|row| std::cmp::Reverse(row.ids.len()));
        let mut batch: Vec<PretrainRow> = Vec::new();
        for row in pool {
            let longest = batch.first().unwrap_or(&row).ids.len();
            if (batch.len() + 1) * longest > self.config.tokens {
                self.ready.push(std::mem::take(&mut batch));
            }
            batch.push(row);
        }
        shuffle(&mut self.ready, &mut self.random);
        // The incomplete last batch is kept for the next pool; at the end of the documents it is returned as it is.
        if self.ready.is_empty() && !batch.is_empty() {
            return Ok(batch);
        }
        self.rest = batch;
        self.ready.pop().ok_or_else(|| Error::failed("there are no documents left"))
    }
}
