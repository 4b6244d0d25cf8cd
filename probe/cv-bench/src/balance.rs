//! Which candidates are asked, and in which order their choices stand.
//!
//! Of a task, candidates lie in one heap for each right answer that cannot be exchanged: each number, each axis. Heaps take
//! turns, so that answers are as even as the annotations allow (0 has the share `absent`). What can be exchanged, left for
//! right and the order in which two things are named, is turned to the side that was right less often. The letter of the
//! right choice is the one that was right least often, the first of equals by the question's number.

use crate::Options;
use crate::tasks::{Ask, Axis, Candidate, Task};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The candidates of a task in the order in which they should be asked: heaps take turns.
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

/// What was asked so far, as far as it decides what comes next.
#[derive(Debug, Default)]
pub struct Balance {
    letters: HashMap<(Task, usize), BTreeMap<usize, usize>>,
    turned: HashMap<(Task, u8), i64>,
    lows: HashMap<usize, BTreeMap<usize, usize>>,
    per_image: HashMap<(Task, usize), usize>,
}

impl Balance {
    /// Whether another question of this task may be about this picture.
    pub fn room(&self, candidate: &Candidate, options: &Options) -> bool {
        self.per_image.get(&(candidate.task(), candidate.scene)).is_none_or(|n| *n < options.per_image)
    }

    /// Whether the two objects of a question are exchanged: to the side that had it less often.
    pub fn turn(&self, candidate: &Candidate) -> bool {
        self.turned.get(&side(candidate)).is_some_and(|more| *more > 0)
    }

    /// The least of the five numbers among which `number` stands: its place among them is the rarest so far.
    pub fn low(&self, number: usize) -> usize {
        let used = self.lows.get(&number);
        let lows = number.saturating_sub(4)..=number;
        lows.min_by_key(|low| used.and_then(|u| u.get(low)).copied().unwrap_or(0)).unwrap_or(number)
    }

    /// The place of the right choice among `choices`: the rarest so far.
    pub fn letter(&self, task: Task, choices: usize) -> usize {
        let used = self.letters.get(&(task, choices));
        (0..choices).min_by_key(|place| used.and_then(|u| u.get(place)).copied().unwrap_or(0)).unwrap_or(0)
    }

    /// Notes a question that is asked.
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
