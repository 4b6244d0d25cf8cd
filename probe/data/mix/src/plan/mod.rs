//! The plan of a mix: which entries of the pools are in it, and the counts after each rule.

mod balance;
mod stored;

use crate::mix::Mix;
use crate::pool::{Pool, PoolSpec, ScanReport};
use crate::rule::Rule;
use crate::scan::{FileSpan, Record, Registry, scan};
use crate::select::RatioPlan;
use crate::table::{Basis, MixTable, TableRow};
use burgess_base::skipped::SkippedEntries;
use burgess_base::{Context, Error, Result, digest};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A file of a pool as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Its path as the pool names it.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its modification time in nanoseconds since 1970.
    modified: u64,
}

impl InputFile {
    fn of(path: &Path) -> Result<Self> {
        let step = || format!("reading {}", path.display());
        let meta = std::fs::metadata(path).with_context(step)?;
        let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(0);
        Ok(Self { path: path.to_path_buf(), bytes: meta.len(), modified })
    }
}

/// Conversations of the pools that were skipped or are irregular, and files that could not be read to their end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolProblems {
    /// Conversations that cannot be used, by reason and source, with the places of the first.
    pub skipped: Vec<SkippedEntries>,
    /// Conversations that were read but are irregular, such as two turns in a row of one speaker.
    pub odd: Vec<SkippedEntries>,
    /// Entries with images that could not be read for the filters about images; these filters keep them.
    pub unreadable_images: Vec<SkippedEntries>,
    /// Damaged files: what was wrong, and how many conversations were read before it.
    pub damaged: Vec<String>,
}

impl PoolProblems {
    fn new(reports: &[ScanReport], unreadable: &burgess_base::skipped::SkippedReport) -> Self {
        Self {
            skipped: reports.iter().flat_map(|report| report.skipped.by_source().cloned()).collect(),
            odd: reports.iter().flat_map(|report| report.odd.by_source().cloned()).collect(),
            unreadable_images: unreadable.by_source().cloned().collect(),
            damaged: reports
                .iter()
                .flat_map(|report| &report.damaged)
                .map(|d| format!("{} after {} conversations: {}", d.file.display(), d.entries, d.what))
                .collect(),
        }
    }

    /// Returns a line for each problem, for the user.
    pub fn lines(&self) -> Vec<String> {
        let counted = |what: &'static str| {
            move |entries: &SkippedEntries| {
                let of = if entries.source.is_empty() { String::new() } else { format!(" of {}", entries.source) };
                let more = if entries.count > entries.first.len() { ", …" } else { "" };
                format!("{}{of} {what}: {} ({}{more})", entries.count, entries.reason, entries.first.join(", "))
            }
        };
        let mut lines: Vec<String> = self.damaged.iter().map(|file| format!("damaged: {file}")).collect();
        lines.extend(self.skipped.iter().map(counted("skipped")));
        lines.extend(self.odd.iter().map(counted("odd but read")));
        lines.extend(self.unreadable_images.iter().map(counted("kept without a comparison of images")));
        lines
    }
}

/// The origin of an entry of a mix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanGroup {
    /// Name of the source in the mix.
    pub source: String,
    /// Its kind.
    pub kind: String,
}

/// Which entries are in a mix.
pub struct MixPlan {
    pub(crate) mix: Mix,
    pub(crate) pools: Vec<Pool>,
    pub(crate) inputs: Vec<InputFile>,
    /// The chosen entries in the order of the pools.
    pub(crate) entries: Vec<Record>,
    /// The files with chosen entries.
    pub(crate) files: Vec<FileSpan>,
    pub(crate) groups: Vec<PlanGroup>,
    pub(crate) table: MixTable,
    pub(crate) problems: PoolProblems,
    pub(crate) key: String,
}

/// A step of making a mix, with its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Entries and bytes that the first pass has read.
    Reading {
        /// Number of entries.
        entries: u64,
        /// Number of bytes, after decompression.
        bytes: u64,
    },
    /// Entries that are written, of all.
    Writing {
        /// Number of entries.
        entries: u64,
        /// Number of entries of the mix.
        of: u64,
    },
}

impl Mix {
    /// Reads the pools of the mix and chooses its entries.
    ///
    /// `scratch` is a directory for temporary files, which only `duplicates` by MinHash and an order by shuffling need.
    /// A plan that an interrupted run of the same mix over the same files has left there is used again.
    ///
    /// # Errors
    /// The mix has no pools, a pool cannot be opened, or a rule cannot be applied.
    pub fn plan(&self, scratch: &Path, progress: &mut dyn FnMut(Step)) -> Result<MixPlan> {
        if self.pools.is_empty() {
            return Err(Error::usage("the mix has no pools").hint("add `[[pools]]` with a `path` to the mix"));
        }
        let pools: Vec<Pool> = self.pools.iter().map(Pool::open).collect::<Result<_>>()?;
        let files: Vec<&Path> = pools.iter().flat_map(Pool::files).collect();
        let mut seen = std::collections::BTreeSet::new();
        for file in &files {
            if !seen.insert(file.canonicalize().unwrap_or_else(|_| file.to_path_buf())) {
                return Err(Error::usage(format!("{} is in the pools twice", file.display()))
                    .hint("remove it from one of the pools: its entries would be counted twice"));
            }
        }
        let inputs: Vec<InputFile> = files.into_iter().map(InputFile::of).collect::<Result<_>>()?;
        let key = plan_key(self, &self.pools, &inputs)?;
        if let Some(plan) = MixPlan::stored(scratch, self, &key)? {
            return Ok(MixPlan { pools, inputs, ..plan });
        }
        let mut scan = scan(self, &pools, scratch, &mut |entries, bytes| progress(Step::Reading { entries, bytes }))?;
        let (rules, ratios) = balance::balance(self, &mut scan)?;
        let table = table(self, &rules, ratios, &scan.registry, &scan.records, scan.notes);
        let problems = PoolProblems::new(&scan.reports, &scan.unreadable);
        let (entries, files) = chosen(scan.records, &scan.files);
        let Registry { sources, groups, .. } = scan.registry;
        let group = |group: crate::scan::Group| PlanGroup {
            source: sources.get(group.source).map_or_else(String::new, |source| source.name.clone()),
            kind: group.kind,
        };
        let groups = groups.into_iter().map(group).collect();
        Ok(MixPlan { mix: self.clone(), pools, inputs, entries, files, groups, table, problems, key })
    }
}

/// Returns the digest of everything that a plan depends on.
fn plan_key(mix: &Mix, pools: &[PoolSpec], inputs: &[InputFile]) -> Result<String> {
    digest::of_value(&(env!("CARGO_PKG_VERSION"), stored::FORMAT, mix, pools, inputs))
}

/// Keeps the records of the chosen entries, in place, and returns where the records of each file begin.
fn chosen(mut records: Vec<Record>, files: &[FileSpan]) -> (Vec<Record>, Vec<FileSpan>) {
    let mut spans = Vec::new();
    let mut before = 0;
    for (at, span) in files.iter().enumerate() {
        let end = files.get(at + 1).map_or(records.len(), |next| next.begin);
        let count = records.get(span.begin..end).unwrap_or_default().iter().filter(|record| record.is_alive()).count();
        if count > 0 {
            spans.push(FileSpan { begin: before, ..*span });
        }
        before += count;
    }
    records.retain(Record::is_alive);
    records.shrink_to_fit();
    (records, spans)
}

/// Counts the entries after each rule.
fn table(
    mix: &Mix,
    rules: &[Rule],
    ratios: Option<RatioPlan>,
    registry: &Registry,
    records: &[Record],
    notes: Vec<String>,
) -> MixTable {
    let mut removed = vec![[0u64; Rule::ALL.len()]; registry.groups.len()];
    let mut counts = vec![(0u64, 0u64); registry.groups.len()];
    for record in records {
        let group = usize::from(record.group);
        let (Some(removed), Some((count, bytes))) = (removed.get_mut(group), counts.get_mut(group)) else { continue };
        *count += 1;
        match record.removed_by() {
            Some(rule) => {
                if let Some(count) = removed.get_mut(rule as usize) {
                    *count += 1;
                }
            }
            None => *bytes += u64::from(record.bytes),
        }
    }
    let mut rows: Vec<TableRow> = Vec::new();
    let mut shown = vec![false; registry.sources.len()];
    for ((group, removed), (before, bytes)) in registry.groups.iter().zip(&removed).zip(&counts) {
        let Some(source) = registry.sources.get(group.source) else { continue };
        let first = shown.get_mut(group.source).is_some_and(|shown| !std::mem::replace(shown, true));
        let mut left = *before;
        let after = rules.iter().map(|rule| {
            left -= removed.get(*rule as usize).copied().unwrap_or(0);
            left
        });
        rows.push(TableRow {
            source: source.name.clone(),
            kind: group.kind.clone(),
            published: source.published.filter(|_| first),
            before: *before,
            after: after.collect(),
            bytes: Some(*bytes),
        });
    }
    let absent = registry
        .sources
        .iter()
        .enumerate()
        .filter(|(at, source)| source.published.is_some() && !shown.get(*at).copied().unwrap_or(true));
    for (at, source) in absent {
        rows.push(TableRow {
            source: source.name.clone(),
            kind: registry.kind_of(at).unwrap_or(crate::table::UNKNOWN).to_string(),
            published: source.published,
            before: 0,
            after: vec![0; rules.len()],
            bytes: Some(0),
        });
    }
    let rules = rules.iter().map(|rule| rule.name().to_string()).collect();
    let mut table = MixTable { basis: Basis::Pools, rules, sources: rows, reported: mix.reported, ratios, notes };
    table.finish();
    table
}

impl MixPlan {
    /// Returns the counts after each rule.
    pub fn table(&self) -> &MixTable {
        &self.table
    }

    /// Returns what could not be read of the pools.
    pub fn problems(&self) -> &PoolProblems {
        &self.problems
    }

    /// Returns the mix.
    pub fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Returns the number of entries of the mix.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the mix has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns an error if a file of the pools is not as it was when it was read.
    pub(crate) fn check_inputs(&self) -> Result<()> {
        for input in &self.inputs {
            if InputFile::of(&input.path)? != *input {
                return Err(Error::failed(format!("{} changed while the mix was made", input.path.display()))
                    .hint("run the same command again: the pools are read from the beginning"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
