//! Chooses which candidates are asked, and the order of their choices, so that right answers and letters are balanced.
//!
//! The candidates of a task are grouped into queues, one per right answer that cannot be swapped (each number, each
//! axis). Questions are taken from the queues in turn, so that answers are as even as the annotations allow (0 has the
//! fraction `absent`). Answers that can be swapped (left and right, or the order in which two objects are named) get
//! the side that was right less often. The letter of the right choice is the one that was right least often; ties go to
//! the first letter.

use crate::options::CvBenchOptions;
use crate::tasks::{Candidate, CvBenchQuestion, CvBenchTask, RelationAxis};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Returns the candidates of a task in the order in which they should be asked, taken from the queues in turn.
pub fn in_turns(candidates: &[Candidate], task: CvBenchTask, options: &CvBenchOptions) -> Vec<usize> {
    let mut queues: BTreeMap<(u8, usize), VecDeque<usize>> = BTreeMap::new();
    for (i, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.task() == task) {
        let queue = match &candidate.question {
            CvBenchQuestion::Count { number, .. } => (0, *number),
            CvBenchQuestion::Relation { axis: RelationAxis::Across, .. } => (0, 0),
            CvBenchQuestion::Relation { axis: RelationAxis::Upright, .. } => (1, 0),
            CvBenchQuestion::Depth { .. } | CvBenchQuestion::Distance { .. } => (0, 0),
        };
        queues.entry(queue).or_default().push_back(i);
    }
    let mut zeros =
        if task == CvBenchTask::Count { queues.remove(&(0, 0)).unwrap_or_default() } else { VecDeque::new() };
    let mut order: Vec<usize> = Vec::new();
    let mut absent = 0;
    while queues.values().any(|queue| !queue.is_empty()) {
        for queue in queues.values_mut() {
            order.extend(queue.pop_front());
            if (absent as f64) < options.absent * order.len() as f64 && !zeros.is_empty() {
                order.extend(zeros.pop_front());
                absent += 1;
            }
        }
    }
    order
}

/// Counts of the questions asked so far, which balance the next ones.
#[derive(Debug, Default)]
pub struct AnswerBalance {
    letters: HashMap<(CvBenchTask, usize), BTreeMap<usize, usize>>,
    swapped: HashMap<(CvBenchTask, u8), i64>,
    lows: HashMap<usize, BTreeMap<usize, usize>>,
    per_image: HashMap<(CvBenchTask, usize), usize>,
}

impl AnswerBalance {
    /// Returns whether another question of this task may be about this image.
    pub fn has_room(&self, candidate: &Candidate, options: &CvBenchOptions) -> bool {
        self.per_image.get(&(candidate.task(), candidate.scene)).is_none_or(|n| *n < options.per_image)
    }

    /// Returns whether to swap the two objects of a question, so that both sides are right equally often.
    pub fn is_swapped(&self, candidate: &Candidate) -> bool {
        self.swapped.get(&side(candidate)).is_some_and(|more| *more > 0)
    }

    /// Returns the smallest of the five consecutive numbers that are offered for `number`, so that its rank among them
    /// is the rarest so far.
    pub fn lowest_choice(&self, number: usize) -> usize {
        let used = self.lows.get(&number);
        let lows = number.saturating_sub(4)..=number;
        lows.min_by_key(|low| used.and_then(|u| u.get(low)).copied().unwrap_or(0)).unwrap_or(number)
    }

    /// Returns the position of the right choice among `choices` that was used least often so far.
    pub fn letter(&self, task: CvBenchTask, choices: usize) -> usize {
        let used = self.letters.get(&(task, choices));
        (0..choices).min_by_key(|place| used.and_then(|u| u.get(place)).copied().unwrap_or(0)).unwrap_or(0)
    }

    /// Records a question that is asked.
    pub fn record(&mut self, candidate: &Candidate, swapped: bool, low: usize, choices: usize, letter: usize) {
        let task = candidate.task();
        *self.letters.entry((task, choices)).or_default().entry(letter).or_default() += 1;
        *self.swapped.entry(side(candidate)).or_default() += if swapped { -1 } else { 1 };
        *self.per_image.entry((task, candidate.scene)).or_default() += 1;
        if let CvBenchQuestion::Count { number, .. } = candidate.question {
            *self.lows.entry(number).or_default().entry(low).or_default() += 1;
        }
    }
}

fn side(candidate: &Candidate) -> (CvBenchTask, u8) {
    let axis = matches!(candidate.question, CvBenchQuestion::Relation { axis: RelationAxis::Upright, .. });
    (candidate.task(), u8::from(axis))
}
