//! A race as tables and as terminal text.

use super::{RaceRecord, Spending};
use crate::formatting::{self, escaped};
use serde::Serialize;

/// A table of a race: its header, and rows with as many cells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RaceTable {
    /// Names of the columns.
    pub header: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// Makes the table of the rungs with their cost, the sum of the race, and the grid.
pub fn rungs_table(race: &RaceRecord) -> RaceTable {
    let header = ["rung", "data", "seeds", "arms", "dropped", "runs", "samples", "tokens", "PFLOP", "seconds", "τ"]
        .map(String::from);
    let mut rows = Vec::new();
    for (number, rung) in (1..).zip(&race.rungs) {
        let mut row = vec![number.to_string(), share(rung.share), rung.seeds.len().to_string(), rung.arms.to_string()];
        row.push(rung.threshold.map_or_else(|| "–".to_string(), |_| rung.dropped.len().to_string()));
        row.extend(spending(&rung.spent));
        row.push(rung.tau.map_or_else(|| "–".to_string(), |tau| format!("{tau:.2}")));
        rows.push(row);
    }
    for (name, spent) in [("race", &race.spent), ("grid", &race.grid)] {
        let mut row = vec![name.to_string(), String::new(), String::new(), String::new(), String::new()];
        row.extend(spending(spent));
        row.push(String::new());
        rows.push(row);
    }
    RaceTable { header: header.to_vec(), rows }
}

/// Makes the table of the arms: last rung, average with its interval, probability, and whether it was dropped.
pub fn arms_table(race: &RaceRecord) -> RaceTable {
    let best = format!("p(best {})", race.rules.k);
    let row = |arm: &super::RaceArm| {
        vec![
            escaped(&arm.arm, false).into_owned(),
            arm.rung.to_string(),
            share(arm.share),
            format!("{:.1} [{:.1}, {:.1}]", arm.average.value, arm.average.low, arm.average.high),
            probability(arm.p_best_k),
            if arm.is_dropped { format!("dropped after rung {}", arm.rung) } else { String::new() },
        ]
    };
    let header = ["arm".to_string(), "rung".into(), "data".into(), "average".into(), best, String::new()];
    RaceTable { header: header.to_vec(), rows: race.arms.iter().map(row).collect() }
}

/// Formats the rungs of a race with their cost, its arms and its conclusions; paragraphs are folded to `width`.
pub fn race_text(race: &RaceRecord, width: usize) -> String {
    let mut text = format!("Race for the best {} of {} arms\n\n", race.rules.k, race.arms.len());
    text += &aligned(&rungs_table(race), 0);
    text += "\n";
    crate::table::paragraph_into(
        &mut text,
        width,
        "",
        "",
        "τ: agreement with the order at the rung before. grid: every arm with every seed on all data; its tokens, \
         operations and seconds are estimated from the race.",
    );
    text += "\n";
    text += &aligned(&arms_table(race), 1);
    text += "\n";
    for sentence in race.conclusions() {
        crate::table::paragraph_into(&mut text, width, "- ", "  ", &sentence);
    }
    text
}

/// Formats a fraction of the data: `1/8`, `0.3`, `all`.
fn share(share: f64) -> String {
    let parts = 1.0 / share;
    match (parts - parts.round()).abs() < 1e-9 {
        true if parts == 1.0 => "all".to_string(),
        true => format!("1/{parts:.0}"),
        false => format!("{share}"),
    }
}

/// Formats a probability with two decimals, and the smallest as `<0.01`.
fn probability(p: f64) -> String {
    if p < 0.005 { "<0.01".to_string() } else { format!("{p:.2}") }
}

/// The columns runs, samples, tokens, PFLOP and seconds; a dash for what was not measured.
fn spending(s: &Spending) -> Vec<String> {
    let count = |x: f64| if x > 0.0 { formatting::thousands(x.round() as u64) } else { "–".to_string() };
    let petaflops = match s.petaflops {
        p if p <= 0.0 => "–".to_string(),
        p if p < 1.0 => format!("{p:.5}"),
        p => formatting::thousands(p.round() as u64),
    };
    vec![count(s.runs), count(s.samples), count(s.tokens), petaflops, count(s.train_seconds + s.answer_seconds)]
}

/// Aligns the first `left` columns and notes, which have no header, to the left, and the others to the right.
fn aligned(table: &RaceTable, left: usize) -> String {
    let rows = || std::iter::once(&table.header).chain(&table.rows);
    let length = |text: &String| text.chars().count();
    let width = |c: usize| rows().filter_map(|row| row.get(c)).map(length).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows() {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let space = " ".repeat(width(c).saturating_sub(length(cell)));
            let is_note = table.header.get(c).is_some_and(String::is_empty);
            match c < left || is_note {
                true => line += &format!("{cell}{space}  "),
                false => line += &format!("{space}{cell}  "),
            }
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}
