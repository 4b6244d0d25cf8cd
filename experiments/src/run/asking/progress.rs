//! The answers to the questions of one benchmark so far.

use super::queue::AskedSide;
use crate::run::eval_task::EvalTask;
use crate::run::store::{PartialAnswers, RunStore};
use crate::study::EvalOptions;
use burgess_base::{Result, digest};
use burgess_reports::schema::Likelihoods;
use std::collections::BTreeSet;

/// The answers to the questions of one benchmark so far, which are stored from time to time.
pub struct TaskProgress<'a> {
    /// The benchmark.
    pub task: &'a EvalTask,
    /// The answers so far.
    pub now: PartialAnswers,
    store: &'a RunStore,
    /// Indices of the questions to ask; `None` for all.
    wanted: Option<BTreeSet<usize>>,
    /// Whether there are answers that are not stored yet.
    changed: bool,
}

impl<'a> TaskProgress<'a> {
    /// Starts from stored answers if they belong to the same questions and options.
    ///
    /// # Errors
    /// The options cannot be written as JSON.
    pub fn open(store: &'a RunStore, task: &'a EvalTask, options: EvalOptions) -> Result<Self> {
        let how =
            (&task.prompts, task.benchmark.max_new_tokens(), options.blind, options.likelihoods, options.sampling);
        let of = digest::of_value(&(&task.digest, how, "by question"))?;
        let now = store.read_partial(task.benchmark.id(), &of);
        Ok(Self { task, now, store, wanted: None, changed: false })
    }

    /// Sets the questions to ask, by their indices.
    pub fn want(&mut self, questions: BTreeSet<usize>) {
        self.wanted = Some(questions);
    }

    /// Returns the indices of the questions to ask.
    pub(super) fn wanted(&self) -> Vec<usize> {
        match &self.wanted {
            Some(wanted) => wanted.iter().copied().collect(),
            None => (0..self.task.questions.len()).collect(),
        }
    }

    /// Returns whether a question has its answer.
    pub(super) fn has(&self, question: usize, side: AskedSide) -> bool {
        match side {
            AskedSide::Image => self.now.answers.contains_key(&question),
            AskedSide::Blind => self.now.blind.contains_key(&question),
        }
    }

    /// Returns whether all questions to ask have both answers.
    pub(super) fn is_complete(&self) -> bool {
        let both = |i: &usize| self.has(*i, AskedSide::Image) && self.has(*i, AskedSide::Blind);
        // Counted first, because this is asked after every answer.
        let wanted = self.wanted.as_ref().map_or(self.task.questions.len(), BTreeSet::len);
        self.now.answers.len().min(self.now.blind.len()) >= wanted && self.wanted().iter().all(both)
    }

    /// Number of answers that are wanted, and number of those that are there.
    pub fn counts(&self) -> [u64; 2] {
        let wanted = self.wanted();
        let count = |side| wanted.iter().filter(|i| self.has(**i, side)).count() as u64;
        [2 * wanted.len() as u64, count(AskedSide::Image) + count(AskedSide::Blind)]
    }

    /// Adds the answer to a question, as far as the benchmark's limit of tokens, with the seconds that it took.
    pub(super) fn add(&mut self, question: usize, side: AskedSide, answer: &[u32], seconds: f64) {
        let answer = answer.get(..self.task.benchmark.max_new_tokens()).unwrap_or(answer).to_vec();
        match side {
            AskedSide::Image => self.now.answers.insert(question, answer),
            AskedSide::Blind => self.now.blind.insert(question, answer),
        };
        self.now.seconds += seconds;
        self.changed = true;
    }

    /// Adds the log-likelihoods of a question's options.
    pub(super) fn add_options(&mut self, question: usize, scores: Likelihoods) {
        self.now.option_scores.insert(question, scores);
    }

    /// Stores the answers so far, if there are new ones.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn save(&mut self) -> Result<()> {
        if std::mem::take(&mut self.changed) {
            self.store.write_partial(self.task.benchmark.id(), &self.now)?;
        }
        Ok(())
    }

    /// Marks the answers as stored elsewhere, and removes the file of the answers so far.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn close(&mut self) -> Result<()> {
        self.changed = false;
        self.store.remove_partial(self.task.benchmark.id())
    }
}
