//! The difference of two tables of results, as timm's `generate_csv_results.py` computes it, with intervals.

use super::csv::CsvTable;
use crate::formatting::{self, escaped};
use crate::sheet::csv_text;
use crate::stats;
use burgess_base::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The difference of two tables of results in one column.
///
/// Models are matched by name and image size, as in timm. Ranks are places in the whole tables, sorted by the column,
/// highest first, then by model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ZooDiff {
    /// Name of the first table.
    pub base: String,
    /// Name of the second table.
    pub test: String,
    /// The compared column.
    pub column: String,
    /// Models that only the second table has, by rank.
    pub new: Vec<String>,
    /// Models that only the first table has, by rank.
    pub missing: Vec<String>,
    /// Models that both tables have, by their rank in the second.
    pub rows: Vec<DiffRow>,
}

/// A model that both tables have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffRow {
    /// Name of the model.
    pub model: String,
    /// Image size.
    pub img_size: String,
    /// Rank in the first table, from 1.
    pub base_rank: usize,
    /// Rank in the second table, from 1.
    pub rank: usize,
    /// Places gained: positive if the model ranks higher in the second table.
    pub rank_diff: i64,
    /// Score in the first table.
    pub base_score: f64,
    /// Score in the second table.
    pub score: f64,
    /// Score in the second table minus that in the first.
    pub difference: f64,
    /// Confidence interval of the difference, if both tables have intervals.
    pub interval: Option<[f64; 2]>,
    /// Whether the difference is beyond the intervals.
    pub verdict: DiffVerdict,
}

/// Whether a difference is larger than the intervals of both scores explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiffVerdict {
    /// The interval of the difference excludes 0.
    Beyond,
    /// The interval of the difference includes 0.
    Within,
    /// A table has no intervals for this column.
    NoInterval,
    /// The scores were measured after different fractions of the training data.
    OtherShare,
}

impl DiffVerdict {
    /// The verdict in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Beyond => "beyond the intervals",
            Self::Within => "within the intervals",
            Self::NoInterval => "no intervals",
            Self::OtherShare => "other share of the training data",
        }
    }
}

/// A model of a table.
struct Entry {
    model: String,
    img_size: String,
    score: f64,
    bounds: Option<[f64; 2]>,
    share: Option<String>,
    /// Number of the row in the file.
    row: usize,
}

impl ZooDiff {
    /// Compares two tables in a column; `base` and `test` are names and texts of CSV files. Without a column, the first
    /// of `average` and `top1` that the second table has is compared.
    ///
    /// The interval of a difference is Newcombe's, from the intervals of both scores. Both scores are of the same
    /// questions, which correlate positively, so that the interval is conservative.
    ///
    /// # Errors
    /// A table lacks a column, lists a model twice, or has a score that is not a number.
    pub fn of(base: (&str, &str), test: (&str, &str), column: Option<&str>) -> Result<Self> {
        let tables = [CsvTable::parse(base.0, base.1)?, CsvTable::parse(test.0, test.1)?];
        let [first, second] = &tables;
        let column = match column {
            Some(column) => column,
            None => ["average", "top1"].into_iter().find(|c| second.find(c).is_some()).unwrap_or("average"),
        };
        let (old, now) = (entries(first, column)?, entries(second, column)?);
        let key = |e: &Entry| (e.model.clone(), e.img_size.clone());
        let places: BTreeMap<_, usize> = old.iter().enumerate().map(|(place, e)| (key(e), place)).collect();
        let (mut rows, mut new) = (Vec::new(), Vec::new());
        for (place, entry) in now.iter().enumerate() {
            let Some((before, earlier)) = places.get(&key(entry)).and_then(|at| Some((*at, old.get(*at)?))) else {
                new.push(shown(entry));
                continue;
            };
            let interval = earlier.bounds.zip(entry.bounds).map(|(a, b)| {
                let (low, high) = stats::newcombe((entry.score, b[0], b[1]), (earlier.score, a[0], a[1]));
                [low, high]
            });
            let verdict = match interval {
                _ if earlier.share != entry.share => DiffVerdict::OtherShare,
                None => DiffVerdict::NoInterval,
                Some([low, high]) if low > 0.0 || high < 0.0 => DiffVerdict::Beyond,
                Some(_) => DiffVerdict::Within,
            };
            rows.push(DiffRow {
                model: entry.model.clone(),
                img_size: entry.img_size.clone(),
                base_rank: before + 1,
                rank: place + 1,
                rank_diff: before as i64 - place as i64,
                base_score: earlier.score,
                score: entry.score,
                difference: entry.score - earlier.score,
                interval,
                verdict,
            });
        }
        let there: Vec<_> = now.iter().map(key).collect();
        let missing = old.iter().filter(|e| !there.contains(&key(e))).map(shown).collect();
        let (base, test) = (base.0.to_string(), test.0.to_string());
        Ok(Self { base, test, column: column.to_string(), new, missing, rows })
    }

    /// Formats the difference as terminal text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let width = self.rows.iter().map(|row| row.model.chars().count()).max().unwrap_or(5).max(5);
        if !self.rows.is_empty() {
            let column = escaped(&self.column, false);
            out += &format!(
                "{:>4} {:>5}  {:width$}  {:>4}  {:>8}  {:>8}\n",
                "rank", "diff", "model", "size", column, "diff"
            );
        }
        for row in &self.rows {
            let interval = row.interval.map_or_else(String::new, |[low, high]| format!(" [{low:+.3}, {high:+.3}]"));
            let model = escaped(&row.model, false);
            let (size, diff) = (escaped(&row.img_size, false), rank_diff(row.rank_diff));
            let line = format!(
                "{:>4} {diff:>5}  {model:width$}  {size:>4}  {:>8.3}  {:>8}{interval}  {}",
                row.rank,
                row.score,
                signed(row.difference),
                row.verdict.as_str()
            );
            out += line.trim_end();
            out += "\n";
        }
        for (what, models) in [("new", &self.new), ("missing", &self.missing)] {
            for model in models {
                // Writing into a string cannot fail.
                let _ = writeln!(out, "{what}: {}", escaped(model, false));
            }
        }
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        let moved = self.rows.iter().filter(|row| row.rank_diff != 0).count();
        let _ = writeln!(
            out,
            "{}: {} in both tables, {} new, {} missing; {moved} changed rank, {} differ beyond the intervals, {} \
             within{}",
            escaped(&self.column, false),
            formatting::count(self.rows.len(), "model"),
            self.new.len(),
            self.missing.len(),
            count(DiffVerdict::Beyond),
            count(DiffVerdict::Within),
            match count(DiffVerdict::NoInterval) + count(DiffVerdict::OtherShare) {
                0 => String::new(),
                n => format!(", {n} cannot be told"),
            }
        );
        out
    }

    /// Formats the second table with the columns `<column>_diff` and `rank_diff`, as timm writes its result files; both
    /// are empty for new models.
    ///
    /// # Errors
    /// `test` is not the text of the second table.
    pub fn csv(&self, test: &str) -> Result<String> {
        let table = CsvTable::parse(&self.test, test)?;
        let line = |cells: &[String]| cells.iter().map(|cell| csv_text(cell)).collect::<Vec<_>>().join(",") + "\n";
        let with = |cells: &[String], more: [String; 2]| cells.iter().cloned().chain(more).collect::<Vec<_>>();
        let mut text = line(&with(&table.header, [format!("{}_diff", self.column), "rank_diff".into()]));
        for entry in entries(&table, &self.column)? {
            let row = self.rows.iter().find(|row| row.model == entry.model && row.img_size == entry.img_size);
            let more = row.map_or_else(Default::default, |row| [signed(row.difference), rank_diff(row.rank_diff)]);
            text += &line(&with(table.rows.get(entry.row).map_or(&[], Vec::as_slice), more));
        }
        Ok(text)
    }
}

/// Reads the models of a table, sorted by the column, highest first, then by model.
fn entries(table: &CsvTable, column: &str) -> Result<Vec<Entry>> {
    let (model, size, score) = (table.column("model")?, table.find("img_size"), table.column(column)?);
    let bounds = table.find(&format!("{column}_low")).zip(table.find(&format!("{column}_high")));
    let share = table.find("share");
    let mut entries: Vec<Entry> = Vec::new();
    for (row, cells) in table.rows.iter().enumerate() {
        let cell = |at: usize| cells.get(at).map_or("", String::as_str);
        let number = |at: usize| cell(at).replace(',', "").parse::<f64>().ok().filter(|x| x.is_finite());
        let value = number(score).ok_or_else(|| {
            Error::failed(format!("{}: `{column}` of {} is `{}`, no number", table.file, cell(model), cell(score)))
                .hint("choose another column, or leave the row out")
        })?;
        let entry = Entry {
            model: cell(model).to_string(),
            img_size: size.map_or("", cell).to_string(),
            score: value,
            bounds: bounds.and_then(|(low, high)| Some([number(low)?, number(high)?])),
            share: share.map(|at| cell(at).to_string()),
            row,
        };
        if entries.iter().any(|e| e.model == entry.model && e.img_size == entry.img_size) {
            return Err(Error::failed(format!("{} lists {} twice", table.file, shown(&entry)))
                .hint("each model and image size may occur once"));
        }
        entries.push(entry);
    }
    entries.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.model.cmp(&b.model)));
    Ok(entries)
}

fn shown(entry: &Entry) -> String {
    match entry.img_size.as_str() {
        "" => entry.model.clone(),
        size => format!("{} ({size})", entry.model),
    }
}

/// A difference of scores as timm writes it: a sign and three decimals, `+` for zero.
fn signed(x: f64) -> String {
    if x >= 0.0 { format!("+{x:.3}") } else { format!("-{:.3}", x.abs()) }
}

/// A difference of ranks as timm writes it: `0`, `+2` or `-1`.
fn rank_diff(places: i64) -> String {
    if places == 0 { "0".to_string() } else { format!("{places:+}") }
}
