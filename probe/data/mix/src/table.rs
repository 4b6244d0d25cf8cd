//! The table of a mix: the number of entries of each source before and after each rule, beside the published counts.

use crate::mix::{Mix, StatedKinds};
use crate::names::source_key;
use crate::select::{RatioPlan, Ratios};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What the counts of a table are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Entries that were read from pools.
    Pools,
    /// The published counts of the sources alone: no data were read.
    PublishedCounts,
}

/// One source of a mix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRow {
    /// Name of the source.
    pub source: String,
    /// Its kind.
    pub kind: String,
    /// Published number of its entries.
    pub published: Option<u64>,
    /// Number of entries before any rule.
    pub before: u64,
    /// Number of entries after each rule of [`MixTable::rules`].
    pub after: Vec<u64>,
    /// Bytes of the entries of the mix as they stand in the pools; `None` if no data were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl TableRow {
    /// Number of entries in the mix.
    pub fn taken(&self) -> u64 {
        self.after.last().copied().unwrap_or(self.before)
    }
}

/// The counts of a mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixTable {
    /// What the counts are taken from.
    pub basis: Basis,
    /// Names of the rules that the mix has, in the order in which they are applied.
    pub rules: Vec<String>,
    /// The sources, by kind and name; those without entries and without a published count are left out.
    pub sources: Vec<TableRow>,
    /// Number of entries that a publication reports for the mix.
    pub reported: Option<u64>,
    /// Wanted and taken numbers of each kind, if the mix has ratios.
    pub ratios: Option<RatioPlan>,
    /// Sentences about what the numbers do not say by themselves.
    pub notes: Vec<String>,
}

impl MixTable {
    /// Number of entries before any rule.
    pub fn before(&self) -> u64 {
        self.sources.iter().map(|row| row.before).sum()
    }

    /// Number of entries in the mix.
    pub fn taken(&self) -> u64 {
        self.sources.iter().map(TableRow::taken).sum()
    }

    /// Returns the kinds with a row of sums for each, in the order of their names.
    pub fn kinds(&self) -> Vec<TableRow> {
        let mut kinds: BTreeMap<&str, TableRow> = BTreeMap::new();
        for row in &self.sources {
            let sum = kinds.entry(&row.kind).or_insert_with(|| TableRow {
                source: row.kind.clone(),
                kind: row.kind.clone(),
                published: None,
                before: 0,
                after: vec![0; self.rules.len()],
                bytes: None,
            });
            add(sum, row);
        }
        kinds.into_values().collect()
    }

    /// Returns the sums over all sources.
    pub fn total(&self) -> TableRow {
        let mut total = TableRow {
            source: "total".into(),
            kind: String::new(),
            published: None,
            before: 0,
            after: vec![0; self.rules.len()],
            bytes: None,
        };
        self.sources.iter().for_each(|row| add(&mut total, row));
        total
    }

    /// Computes the table from the published counts of the sources, without data.
    ///
    /// Filters cannot be computed from counts and are left out with a note. `take`, a hard threshold and ratios are
    /// exact for these counts; of a soft threshold the expected number is given.
    ///
    /// # Errors
    /// No source has a published count, or the ratios cannot be met and say that this is an error.
    pub fn from_published(mix: &Mix) -> Result<Self> {
        let listed = mix.listed_sources()?;
        let counted: Vec<_> = listed.iter().filter_map(|s| s.count.map(|count| (s, count))).collect();
        if counted.is_empty() {
            return Err(Error::usage("the mix has no pools, and none of its sources has a published count")
                .hint("add pools to the mix, or `count` to its sources"));
        }
        let kinds = StatedKinds::new(mix)?;
        let kind_of = |source: &crate::mix::MixSource| {
            let by_name = || kinds.of_key(&source_key(&source.name)).cloned();
            kinds.of_listed(source).or_else(by_name).unwrap_or_else(|| UNKNOWN.into())
        };
        let mut table = Self {
            basis: Basis::PublishedCounts,
            rules: Vec::new(),
            sources: Vec::new(),
            reported: mix.reported,
            ratios: None,
            notes: vec!["No data were read: these are computed from the published counts alone.".into()],
        };
        if mix.filters != crate::mix::Filters::default() {
            table.notes.push("The filters are not applied: they need the entries.".into());
        }
        let without: Vec<String> =
            listed.iter().filter(|s| s.count.is_none()).map(|s| format!("`{}`", s.name)).collect();
        if !without.is_empty() {
            table.notes.push(format!("Without a published count, so not in this table: {}.", without.join(", ")));
        }
        for (source, count) in &counted {
            table.sources.push(TableRow {
                source: source.name.clone(),
                kind: kind_of(source),
                published: Some(*count),
                before: *count,
                after: Vec::new(),
                bytes: None,
            });
        }
        if listed.iter().any(|source| source.take.is_some()) {
            table.rules.push("take".into());
            for (row, (source, _)) in table.sources.iter_mut().zip(&counted) {
                row.after.push(row.taken().min(source.take.unwrap_or(u64::MAX)));
            }
        }
        if let Some(rule) = &mix.threshold {
            table.rules.push("threshold".into());
            for (row, (source, _)) in table.sources.iter_mut().zip(&counted) {
                let whole = rule.excepts(&row.source, &row.kind) || (rule.multimodal_only && source.text_only);
                row.after.push(if whole { row.taken() } else { rule.expected(row.taken()) });
            }
            if rule.how == crate::select::ThresholdForm::Soft {
                table.notes.push("The threshold is soft: its numbers are the expected ones.".into());
            }
        }
        if let Some(rule) = &mix.ratios {
            table.ratios = Some(table.apply_ratios(rule)?);
        }
        table.finish();
        Ok(table)
    }

    fn apply_ratios(&mut self, rule: &Ratios) -> Result<RatioPlan> {
        let kinds: Vec<&str> = self.sources.iter().map(|row| row.kind.as_str()).collect();
        let counts: Vec<u64> = self.sources.iter().map(TableRow::taken).collect();
        let (quotas, plan) = rule.quotas(&kinds, &counts)?;
        self.rules.push("ratios".into());
        for (row, quota) in self.sources.iter_mut().zip(quotas) {
            row.after.push(quota);
        }
        Ok(plan)
    }

    /// Sorts the sources, and adds the notes of the ratios and the difference to the reported number.
    pub(crate) fn finish(&mut self) {
        self.sources.sort_by(|a, b| {
            source_key(&a.kind).cmp(&source_key(&b.kind)).then(source_key(&a.source).cmp(&source_key(&b.source)))
        });
        if let Some(plan) = &self.ratios {
            let sentence = |note: String| {
                let mut letters = note.chars();
                let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
                format!("Ratios: {first}{}.", letters.as_str())
            };
            self.notes.extend(plan.notes().into_iter().map(sentence));
        }
        // A part of the pools, for a trial, says nothing about the reported number.
        // Entries of sources without a published count do not make up for missing ones.
        let published: u64 = self.sources.iter().filter_map(|row| row.published).sum();
        let counted: BTreeSet<&str> =
            self.sources.iter().filter(|row| row.published.is_some()).map(|row| row.source.as_str()).collect();
        let of_counted = self.sources.iter().filter(|row| counted.contains(row.source.as_str()));
        let found: u64 = of_counted.map(|row| row.before).sum();
        let is_part = self.basis == Basis::Pools && found < published / 10 * 9;
        if let Some(reported) = self.reported.filter(|_| is_part) {
            self.notes.push(format!(
                "The pools have {} of the {} published entries, so that the {} that the publication reports are not \
                 compared.",
                grouped(found),
                grouped(published),
                grouped(reported)
            ));
        } else if let Some(reported) = self.reported {
            let taken = self.taken();
            let (difference, sign) = (taken.abs_diff(reported), if taken < reported { "-" } else { "+" });
            let percent = 100.0 * difference as f64 / reported as f64;
            self.notes.push(match difference {
                0 => format!("The publication reports {} entries, as computed here.", grouped(reported)),
                _ => format!(
                    "The publication reports {} entries; here there are {}: {sign}{} ({sign}{percent:.1} %).",
                    grouped(reported),
                    grouped(taken),
                    grouped(difference)
                ),
            });
        }
    }

    /// Formats the table as text: the sources by kind, sums per kind, the total, the ratios, and the notes.
    pub fn text(&self) -> String {
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut header = vec!["kind".to_string(), "source".to_string(), "published".to_string()];
        let from_pools = self.basis == Basis::Pools;
        if from_pools {
            header.push("in pools".into());
        }
        header.extend(self.rules.iter().cloned());
        header.push("share".into());
        let total = self.total();
        let share = |count: u64| match total.taken() {
            0 => "-".to_string(),
            all => format!("{:.1} %", 100.0 * count as f64 / all as f64),
        };
        let cells = |kind: &str, name: &str, row: &TableRow| {
            let mut cells = vec![kind.to_string(), burgess_base::text::excerpt(name, 48)];
            cells.push(row.published.map_or_else(|| "-".into(), grouped));
            if from_pools {
                cells.push(grouped(row.before));
            }
            cells.extend(row.after.iter().map(|count| grouped(*count)));
            cells.push(share(row.taken()));
            cells
        };
        for kind in self.kinds() {
            let name = burgess_base::text::excerpt(&kind.kind, 24);
            let of_kind: Vec<&TableRow> = self.sources.iter().filter(|row| row.kind == kind.kind).collect();
            let mut sizes: Vec<u64> = of_kind.iter().map(|row| row.before).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            // The largest, in the order of their names; of those as large as the last one the first.
            let least = sizes.get(SHOWN - 1).copied().filter(|_| sizes.len() > SHOWN).unwrap_or(0);
            let mut ties = SHOWN.saturating_sub(sizes.iter().filter(|size| **size > least).count());
            let mut left_out = 0;
            for row in of_kind {
                let tied = row.before == least;
                if row.before > least || (tied && ties > 0) {
                    ties -= usize::from(tied);
                    rows.push(cells(&name, &row.source, row));
                } else {
                    left_out += 1;
                }
            }
            if left_out > 0 {
                rows.push(vec![name.clone(), format!("({left_out} more sources, none larger)")]);
            }
            rows.push(cells(&name, "(all)", &kind));
            rows.push(Vec::new());
        }
        rows.push(cells("total", "", &total));
        let mut text = aligned(&header, &rows);
        if let Some(plan) = &self.ratios {
            let rows: Vec<Vec<String>> = plan
                .kinds
                .iter()
                .map(|kind| {
                    let share = (kind.share * 1e9).round() / 1e9;
                    vec![
                        kind.kind.clone(),
                        share.to_string(),
                        grouped(kind.wanted),
                        grouped(kind.available),
                        grouped(kind.taken),
                    ]
                })
                .collect();
            let header = ["ratio", "share", "wanted", "available", "taken"].map(String::from);
            let _ = write!(text, "\n{}", aligned(&header, &rows));
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}");
        }
        text.push('\n');
        text
    }

    /// Returns the cumulative counts of the sources sorted by size, before the rules or in the mix: the curve by which
    /// the paper shows how a threshold cuts the tail.
    pub fn curve(&self, after: bool) -> Vec<(String, u64)> {
        let count = |row: &TableRow| if after { row.taken() } else { row.before };
        let mut rows: Vec<&TableRow> = self.sources.iter().collect();
        rows.sort_by(|a, b| a.before.cmp(&b.before).then(a.source.cmp(&b.source)));
        let mut sum = 0;
        let cumulate = |row: &TableRow| {
            sum += count(row);
            (row.source.clone(), sum)
        };
        rows.into_iter().map(cumulate).collect()
    }
}

/// The kind of a source of which none is known.
pub(crate) const UNKNOWN: &str = "unknown";

/// Largest number of sources of a kind that the text lists.
const SHOWN: usize = 100;

/// Adds the counts of a row to a sum.
fn add(sum: &mut TableRow, row: &TableRow) {
    sum.published = match (sum.published, row.published) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    sum.bytes = match (sum.bytes, row.bytes) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    sum.before += row.before;
    for (sum, count) in sum.after.iter_mut().zip(&row.after) {
        *sum += count;
    }
}

/// Formats a number with commas between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Aligns cells in columns: text to the left, numbers (all columns but the first two, or the first) to the right.
fn aligned(header: &[String], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).chain(header.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let left = if header.get(1).is_some_and(|name| name == "source") { 2 } else { 1 };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
            let gap = if at > 0 { "  " } else { "" };
            let _ = match at < left {
                true => write!(text, "{gap}{cell}{fill}"),
                false => write!(text, "{gap}{fill}{cell}"),
            };
        }
        text.trim_end().to_string() + "\n"
    };
    let rule = "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{rule}\n{body}", line(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of this test is written out in the reference: the published counts, their sums after a cut, and the
    /// paper's shares.
    #[test]
    fn built_in_mixes_give_the_published_sums() -> Result<()> {
        for (name, before, taken, reported) in [
            ("cambrian-10m", 9_745_500, 9_745_500, Some(9_784_000)),
            ("cambrian-7m", 9_745_500, 7_055_500, None),
            ("cambrian-10m-t150k", 9_745_500, 3_861_500, Some(4_015_000)),
            ("cambrian-10m-t250k", 9_745_500, 5_012_500, Some(5_218_000)),
            ("cambrian-10m-t350k", 9_745_500, 5_776_500, Some(5_883_000)),
            ("cambrian-10m-t450k", 9_745_500, 6_426_500, Some(6_383_000)),
            ("cambrian-5m", 9_745_500, 4_867_500, None),
            ("cambrian-737k", 737_097, 737_097, None),
        ] {
            let table = MixTable::from_published(&Mix::builtin(name)?)?;
            assert_eq!((table.before(), table.taken(), table.reported), (before, taken, reported), "{name}");
        }
        let kinds = |name: &str| -> Result<Vec<(String, u64)>> {
            let table = MixTable::from_published(&Mix::builtin(name)?)?;
            Ok(table.kinds().into_iter().map(|row| (row.kind.clone(), row.taken())).collect())
        };
        let seven = [
            ("code", 57_500),
            ("counting", 600_000),
            ("general", 2_347_000),
            ("language", 1_676_000),
            ("math", 226_000),
            ("ocr", 1_944_000),
            ("science", 205_000),
        ];
        assert_eq!(kinds("cambrian-7m")?, seven.map(|(kind, count)| (kind.to_string(), count)));
        let five = MixTable::from_published(&Mix::builtin("cambrian-5m")?)?;
        let language: u64 = five.sources.iter().filter(|row| row.kind == "language").map(TableRow::taken).sum();
        assert_eq!((language, five.taken() - language), (1_676_000, 3_191_500));
        Ok(())
    }

    #[test]
    fn ratio_experiments_have_the_papers_shares_of_1350k() -> Result<()> {
        // Code, counting, general, language, math, ocr, science. The rows sum to 100 but for the last: 100.4, by which
        // each share is divided; largest remainders make the sum exact.
        for (number, counts) in [
            (1, [59_400, 27_000, 270_000, 270_000, 135_000, 527_850, 60_750]),
            (2, [67_500, 67_500, 337_500, 270_000, 67_500, 337_500, 202_500]),
            (3, [67_500, 67_500, 405_000, 135_000, 67_500, 405_000, 202_500]),
            (4, [59_400, 27_000, 472_500, 67_500, 135_000, 527_850, 60_750]),
            (5, [11_698, 117_117, 464_163, 282_370, 96_813, 366_006, 11_833]),
        ] {
            let table = MixTable::from_published(&Mix::builtin(&format!("cambrian-ratio-{number}"))?)?;
            let found: Vec<u64> = table.kinds().iter().map(TableRow::taken).collect();
            assert_eq!(found, counts, "{number}");
            assert_eq!(table.taken(), 1_350_000);
            let said = table.notes.iter().any(|note| note.contains("The shares sum to 100.4"));
            assert_eq!(said, number == 5, "{:?}", table.notes);
        }
        Ok(())
    }

    #[test]
    fn of_many_sources_the_largest_are_listed() -> Result<()> {
        let sources: String =
            (0..150).map(|i| format!("[[sources]]\nname = \"s{i}\"\nkind = \"k\"\ncount = {}\n", i + 1)).collect();
        let text = MixTable::from_published(&Mix::read(&sources, "many.toml")?)?.text();
        assert!(
            text.contains("(50 more sources, none larger)") && text.contains("s149 ") && !text.contains("s49 "),
            "{text}"
        );
        assert!(text.contains("(all)"));
        // Many equal ones before it in the order of names do not hide a larger one.
        let equal: String = (0..100).map(|i| format!("[[sources]]\nname = \"a{i:03}\"\ncount = 1\n")).collect();
        let sources = equal + "[[sources]]\nname = \"z\"\ncount = 1000\n";
        let text = MixTable::from_published(&Mix::read(&sources, "ties.toml")?)?.text();
        assert!(text.contains("(1 more sources, none larger)") && text.contains(" z "), "{text}");
        Ok(())
    }

    #[test]
    fn kinds_are_those_that_entries_would_have() -> Result<()> {
        let mix = "[kinds]\nmine = \"ocr\"\ndvqa = \"math\"\n[[sources]]\nname = \"mine\"\ncount = 7\n\
            [[sources]]\nname = \"DVQA\"\nkind = \"general\"\ncount = 5\n[[sources]]\nname = \"Design2Code\"\ncount = 3\n";
        let table = MixTable::from_published(&Mix::read(mix, "kinds.toml")?)?;
        let mut kinds: Vec<(&str, &str)> =
            table.sources.iter().map(|row| (row.source.as_str(), row.kind.as_str())).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, [("DVQA", "math"), ("Design2Code", "code"), ("mine", "ocr")]);
        Ok(())
    }

    #[test]
    fn the_text_has_sums_shares_and_the_difference_to_the_reported_number() -> Result<()> {
        let text = MixTable::from_published(&Mix::builtin("cambrian-10m-t150k")?)?.text();
        for part in [
            "ocr       DVQA",
            "2,325,000",
            "9,745,500  3,861,500  100.0 %",
            "reports 4,015,000 entries; here there are 3,861,500: -153,500 (-3.8 %)",
            "No data were read",
            "Without a published count, so not in this table: `VQAv2, A-OKVQA, RefCOCO, OKVQA`.",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let ratios = MixTable::from_published(&Mix::builtin("cambrian-ratio-5")?)?;
        assert!(ratios.text().contains("27.22  366,006  3,494,000  366,006"), "{}", ratios.text());
        let curve = MixTable::from_published(&Mix::builtin("cambrian-10m-t150k")?)?;
        let (before, after) = (curve.curve(false), curve.curve(true));
        assert_eq!(before.last().map(|(name, sum)| (name.as_str(), *sum)), Some(("DVQA", 9_745_500)));
        assert_eq!(after.last().map(|(_, sum)| *sum), Some(3_861_500));
        assert_eq!(before.first().map(|(name, _)| name.as_str()), Some("Design2Code"));
        Ok(())
    }
}
