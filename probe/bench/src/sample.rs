//! Draws a fixed, seeded, stratified sample of a benchmark.

use crate::question::Question;
use burgess_base::stream::stream;
use rand::seq::SliceRandom;
use std::collections::{BTreeMap, BTreeSet};

/// Returns the ids of `limit` sampled units; a unit (image, pair or group) is never split. Every subtask has a
/// proportional number of units, rounded by less than one. The seed is the benchmark's name, so that everyone draws the
/// same questions. A unit with questions of several subtasks belongs to the subtask of its first question.
pub fn sample(questions: &[Question], limit: usize, benchmark: &str) -> BTreeSet<String> {
    let mut subtask_of: BTreeMap<&str, &str> = BTreeMap::new();
    for q in questions {
        subtask_of.entry(&q.unit).or_insert(&q.subtask);
    }
    let mut strata: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (unit, subtask) in &subtask_of {
        strata.entry(subtask).or_default().push(unit);
    }
    let total = subtask_of.len();
    let limit = limit.min(total);
    let mut draw = stream(&format!("limit/{benchmark}"), 0);
    let mut chosen = BTreeSet::new();
    let (mut seen, mut taken) = (0, 0);
    for units in strata.values_mut() {
        units.shuffle(&mut draw);
        seen += units.len();
        // Cumulative target for all strata so far, minus the units already taken, so that rounding errors do not add
        // up.
        let upto = (limit * seen + total / 2) / total.max(1);
        let share = upto.saturating_sub(taken).min(units.len());
        chosen.extend(units.iter().take(share).map(|unit| (*unit).to_string()));
        taken += share;
    }
    chosen
}

/// Returns the ids of all units in a fixed random order. The seed is the benchmark's name, so that everyone asks the
/// same questions first. The first units of the order are a simple random sample of all of them, whatever their number.
pub fn order(questions: &[Question], benchmark: &str) -> Vec<String> {
    let units: BTreeSet<&str> = questions.iter().map(|q| q.unit.as_str()).collect();
    let mut units: Vec<String> = units.into_iter().map(String::from).collect();
    units.shuffle(&mut stream(&format!("order/{benchmark}"), 0));
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(sizes: &[usize]) -> Vec<Question> {
        let of = |(s, n): (usize, &usize)| {
            (0..*n).map(move |i| Question { unit: format!("{s}/{i}"), subtask: s.to_string(), ..Question::default() })
        };
        sizes.iter().enumerate().flat_map(of).collect()
    }

    #[test]
    fn the_order_is_fixed_and_names_each_unit_once() {
        let mut qs = questions(&[30, 20]);
        qs.extend(questions(&[30]));
        let found = order(&qs, "b");
        assert_eq!((found.len(), found.iter().collect::<BTreeSet<_>>().len()), (50, 50));
        let mut back = qs.clone();
        back.reverse();
        assert_eq!(order(&back, "b"), found, "whatever the order of the questions");
        assert_ne!(order(&qs, "c"), found, "other for another benchmark");
        assert!(!found.is_sorted() && found[..25].iter().any(|unit| unit.starts_with("1/")));
    }

    #[test]
    fn every_subtask_has_its_share() {
        let qs = questions(&[100, 50, 50, 3]);
        let kept = sample(&qs, 40, "b");
        assert_eq!(kept.len(), 40);
        let of = |s: &str| kept.iter().filter(|u| u.starts_with(s)).count();
        assert!((19..=20).contains(&of("0/")) && (9..=11).contains(&of("1/")) && of("3/") <= 1, "{kept:?}");
        assert_eq!(sample(&qs, 40, "b"), kept, "the same again");
        assert_ne!(sample(&qs, 40, "c"), kept, "other for another benchmark");
        assert_eq!(sample(&qs, 1000, "b").len(), 203);
        let mut back = qs.clone();
        back.reverse();
        assert_eq!(sample(&back, 40, "b"), kept, "whatever the order");
    }
}
