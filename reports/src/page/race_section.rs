//! The page section on the race that chose the arms.

use crate::racing::{RaceRecord, RaceTable, arms_table, rungs_table};
use serde::Serialize;

/// The race: sentences, the rungs with their cost, and the arms.
#[derive(Serialize)]
pub(super) struct RaceSection {
    k: usize,
    said: Vec<String>,
    rungs: RaceTable,
    arms: RaceTable,
}

/// Prepares the section.
pub(super) fn shown(race: &RaceRecord) -> RaceSection {
    RaceSection { k: race.rules.k, said: race.conclusions(), rungs: rungs_table(race), arms: arms_table(race) }
}
