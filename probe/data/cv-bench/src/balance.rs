//! Chooses which candidates are asked, and the order of their choices, so that right answers and letters are balanced.
//!
//! The candidates of a task are grouped into queues, one per right answer that cannot be swapped (each number, each
//! axis). Questions are taken from the queues in turn, so that answers are as even as the annotations allow (0 has the
//! fraction `absent`). Answers that can be swapped (left and right, or the order in which two objects are named) get
//! the side that was right less often. The letter of the right choice is the one that was right least often; ties go to
//! the first letter.

use crate::Options;
use crate::tasks::{Ask, Axis, Candidate, Task};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Returns the candidates of a task in the order in which they should be asked, taken from the queues in turn.
pub fn in_turns(candidates: &[Candidate], task: Task, options: &Options) -> Vec<usize> {
    let mut heaps: BTreeMap<(u8, usize), VecDeque<usize>> = BTreeMap::new();
    for (i, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.task() == task) {
        let heap = match &candidate.ask {
            Ask::Count { number, .. } => (0, *number),
            Ask::Relation { axis: Axis::Across, .. } => (0, 0),
            Ask::Relation { axis: Axis::Upright, .. } => (1, 0),
            Ask::Depth { .. } | Ask::Distance { .. } => (0, 0),
        };
        heaps.entry(heap).or_default().push_back(i);
    }
    let mut zeros = if task == Task::Count { heaps.remove(&(0, 0)).unwrap_or_default() } else { VecDeque::new() };
    let mut order: Vec<usize> = Vec::new();
    let mut absent = 0;
    while heaps.values().any(|heap| !heap.is_empty()) {
        for heap in heaps.values_mut() {
            order.extend(heap.pop_front());
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
pub struct Balance {
    letters: HashMap<(Task, usize), BTreeMap<usize, usize>>,
    turned: HashMap<(Task, u8), i64>,
    lows: HashMap<usize, BTreeMap<usize, usize>>,
    per_image: HashMap<(Task, usize), usize>,
}

impl Balance {
    /// Returns whether another question of this task may be about this image.
    pub fn room(&self, candidate: &Candidate, options: &Options) -> bool {
        self.per_image.get(&(candidate.task(), candidate.scene)).is_none_or(|n| *n < options.per_image)
    }

    /// Returns whether the two objects of a question are swapped, which evens out the right sides.
    pub fn turn(&self, candidate: &Candidate) -> bool {
        self.turned.get(&side(candidate)).is_some_and(|more| *more > 0)
    }

    /// Returns the smallest of the five consecutive numbers that are offered for `number`, so that its rank among them
    /// is the rarest so far.
    pub fn low(&self, number: usize) -> usize {
        let used = self.lows.get(&number);
        let lows = number.saturating_sub(4)..=number;
        lows.min_by_key(|low| used.and_then(|u| u.get(low)).copied().unwrap_or(0)).unwrap_or(number)
    }

    /// Returns the position of the right choice among `choices` that was used least often so far.
    pub fn letter(&self, task: Task, choices: usize) -> usize {
        let used = self.letters.get(&(task, choices));
        (0..choices).min_by_key(|place| used.and_then(|u| u.get(place)).copied().unwrap_or(0)).unwrap_or(0)
    }

    /// Records a question that is asked.
    pub fn asked(&mut self, candidate: &Candidate, turned: bool, low: usize, choices: usize, letter: usize) {
        let task = candidate.task();
        *self.letters.entry((task, choices)).or_default().entry(letter).or_default() += 1;
        *self.turned.entry(side(candidate)).or_default() += if turned { -1 } else { 1 };
        *self.per_image.entry((task, candidate.scene)).or_default() += 1;
        if let Ask::Count { number, .. } = candidate.ask {
            *self.lows.entry(number).or_default().entry(low).or_default() += 1;
        }
    }
}

fn side(candidate: &Candidate) -> (Task, u8) {
    let axis = matches!(candidate.ask, Ask::Relation { axis: Axis::Upright, .. });
    (candidate.task(), u8::from(axis))
}
