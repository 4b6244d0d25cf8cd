//! Runs in which asking stopped early (`until_ci`): they may have been asked different numbers of units.
//!
//! All runs are asked the units in the same random order, so the run with the fewest units was asked units that all
//! others were asked too. The runs are compared on these.

use crate::schema::{RunResults, UnitScore};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

/// Restricts the runs to the units that all of them were asked, if asking stopped early in one of them; also returns a
/// sentence for each benchmark that is restricted. Other runs stay as they are.
pub(super) fn on_common_units(runs: &[RunResults]) -> (Cow<'_, [RunResults]>, Vec<String>) {
    if runs.iter().all(|run| run.until_ci.is_empty()) {
        return (Cow::Borrowed(runs), Vec::new());
    }
    let mut runs = runs.to_vec();
    let mut notes = Vec::new();
    let names: BTreeSet<String> = runs.iter().flat_map(|run| run.results.keys().cloned()).collect();
    for name in names {
        let results = || runs.iter().filter_map(|run| run.results.get(&name));
        let Some(fewest) = results().min_by_key(|r| r.units.len()).cloned() else { continue };
        if results().all(|r| r.units.len() == fewest.units.len()) {
            continue;
        }
        let mut all = true;
        for result in runs.iter_mut().filter_map(|run| run.results.get_mut(&name)) {
            let units: HashMap<&str, &UnitScore> = result.units.iter().map(|u| (u.id.as_str(), u)).collect();
            // The weight of a unit may depend on which others were asked, as in means over subtasks.
            let restricted = |unit: &UnitScore| {
                let own = units.get(unit.id.as_str())?;
                let scale = if own.weight == 0.0 { 0.0 } else { unit.weight / own.weight };
                Some(UnitScore { sum: own.sum * scale, blind: own.blind * scale, ..unit.clone() })
            };
            match fewest.units.iter().map(restricted).collect::<Option<Vec<_>>>() {
                Some(units) => (result.units, result.chance) = (units, fewest.chance),
                None => all = false,
            }
            result.summarise();
        }
        if all {
            notes.push(format!("{name} is compared on the {} units that all runs were asked", fewest.units.len()));
        }
    }
    runs.iter_mut().for_each(RunResults::summarise);
    (Cow::Owned(runs), notes)
}
