//! The first pass over the pools: one record of 16 bytes per entry, with its source and the first filter that leaves it
//! out.

mod filters;
mod images;
mod registry;

pub use registry::{Group, Registry};

use crate::duplicates::{DuplicateFinder, MinHash, TextKey, hash_bytes, mix, words};
use crate::mix::{Comparison, Duplicates, ImageIdentity, KeepOrDrop, Mix};
use crate::pool::{Entry, ImageRef, Pool, PoolImage, ScanReport};
use crate::rule::Rule;
use burgess_base::skipped::SkippedReport;
use burgess_base::{Error, Result};
use filters::EntryFilters;
use images::{ImageStage, WaitingImages, duplicate_images};
use registry::Origin;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

/// What is remembered of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Byte offset or row in its file.
    pub offset: u64,
    /// Length as it stands in the pool, in bytes.
    pub bytes: u32,
    /// Its group.
    pub group: u16,
    /// 0 if it is in the mix, else 1 + the number of the rule that leaves it out.
    state: u8,
    flags: u8,
}

const HAS_IMAGE: u8 = 1;

impl Record {
    /// Length of a record in a file, in bytes.
    pub const BYTES: usize = 16;

    /// Returns the record as it stands in a file.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b, c, d, e, f, g, h] = self.offset.to_le_bytes();
        let [i, j, k, l] = self.bytes.to_le_bytes();
        let [m, n] = self.group.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, self.state, self.flags]
    }

    /// Reads a record from a file.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, state, flags] = bytes;
        Self {
            offset: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            bytes: u32::from_le_bytes([i, j, k, l]),
            group: u16::from_le_bytes([m, n]),
            state,
            flags,
        }
    }

    /// Returns whether no rule has left it out.
    pub fn is_alive(&self) -> bool {
        self.state == 0
    }

    /// Returns whether it has an image.
    pub fn has_image(&self) -> bool {
        self.flags & HAS_IMAGE != 0
    }

    /// Returns the rule that leaves it out.
    pub fn removed_by(&self) -> Option<Rule> {
        let number = usize::from(self.state).checked_sub(1)?;
        Rule::ALL.into_iter().find(|rule| *rule as usize == number)
    }

    /// Leaves the entry out, unless a rule has.
    pub fn remove(&mut self, rule: Rule) {
        if self.state == 0 {
            self.state = rule as u8 + 1;
        }
    }
}

/// The records of one file of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSpan {
    /// Index of the pool.
    pub pool: u32,
    /// Index of the file in the pool.
    pub file: u32,
    /// The first record.
    pub begin: usize,
}

/// What the first pass found.
pub struct Scan {
    /// The entries in the order of the pools.
    pub records: Vec<Record>,
    /// The files with entries, in their order.
    pub files: Vec<FileSpan>,
    /// Sources and groups.
    pub registry: Registry,
    /// What each pool's reading counted.
    pub reports: Vec<ScanReport>,
    /// Entries with images that could not be hashed.
    pub unreadable: SkippedReport,
    /// Sentences about what the filters found.
    pub notes: Vec<String>,
}

/// The part of an entry that leaves the threads that parse.
struct Scanned {
    offset: u64,
    file: u32,
    bytes: u32,
    group: std::result::Result<u16, Origin>,
    verdict: Option<Rule>,
    has_image: bool,
    text: Option<(u64, TextKey)>,
    images: Option<(String, std::result::Result<Vec<PoolImage>, String>)>,
}

/// What is read of each entry.
struct Reader<'a> {
    filters: EntryFilters,
    duplicates: Option<(&'a Duplicates, MinHash)>,
    images: bool,
}

impl Reader<'_> {
    fn read(&self, pool: &Pool, registry: &Registry, entry: &Entry<'_>) -> Scanned {
        let verdict = self.filters.verdict(entry);
        let alive = verdict.is_none();
        Scanned {
            offset: entry.at.offset,
            file: entry.at.file,
            bytes: u32::try_from(entry.raw.len()).unwrap_or(u32::MAX),
            group: registry.known(entry),
            verdict,
            has_image: !entry.images.is_empty(),
            text: self.duplicates.as_ref().filter(|_| alive).map(|(rule, minhash)| text_of(pool, entry, rule, minhash)),
            images: (self.images && alive && !entry.images.is_empty())
                .then(|| (pool.place(entry), pool.images(entry).map_err(|e| e.to_string()))),
        }
    }
}

/// Returns the hash of what must be equal beside the text, and the text's key.
fn text_of(pool: &Pool, entry: &Entry<'_>, rule: &Duplicates, minhash: &MinHash) -> (u64, TextKey) {
    let mut hashed = Vec::new();
    let mut hash = 0;
    let mut begin = 0;
    for turn in entry.turns {
        words(turn.text, &mut hashed);
        hash = mix(hash ^ turn.from as u64 ^ 0x5151);
        for word in hashed.get(begin..).unwrap_or_default() {
            hash = mix(hash ^ word);
        }
        begin = hashed.len();
    }
    let scope = match rule.images {
        ImageIdentity::Any => 0,
        ImageIdentity::Same => entry.images.iter().fold(1, |scope, image| mix(scope ^ image_place(pool, entry, image))),
    };
    let signature = (rule.how == Comparison::Minhash).then(|| Box::new(minhash.signature(&hashed)));
    (scope, TextKey { hash, signature })
}

/// Returns a hash of an image's place.
fn image_place(pool: &Pool, entry: &Entry<'_>, image: &ImageRef<'_>) -> u64 {
    match image {
        ImageRef::Path(path) => hash_bytes(path.as_bytes()),
        ImageRef::Cell { column, item } => {
            let file = pool.files().nth(entry.at.file as usize).unwrap_or(Path::new(""));
            let cell = format!("{}#{column}/{}/{item:?}", file.display(), entry.at.offset);
            hash_bytes(cell.as_bytes())
        }
        ImageRef::Member { name, .. } => {
            let file = pool.files().nth(entry.at.file as usize).unwrap_or(Path::new(""));
            hash_bytes(format!("{}#{name}", file.display()).as_bytes())
        }
    }
}

/// Reads all pools once. `scratch` is a directory for temporary files; `progress` receives the number of entries and of
/// bytes that were read.
///
/// # Errors
/// No pool can be read, an image of a benchmark cannot be read, there are too many entries, or the temporary files
/// cannot be written.
pub fn scan(mix: &Mix, pools: &[Pool], scratch: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Scan> {
    let mut images = ImageStage::new(&mix.filters)?;
    let rule = mix.filters.duplicates.as_ref();
    let mut finder = rule.map(|rule| DuplicateFinder::new(rule, scratch)).transpose()?;
    let words_of_shingle = |rule: &Duplicates| usize::try_from(rule.shingle).unwrap_or(1);
    let reader = Reader {
        filters: EntryFilters::new(&mix.filters)?,
        duplicates: rule.map(|rule| (rule, MinHash::new(words_of_shingle(rule)))),
        images: images.is_some(),
    };
    let registry = RwLock::new(Registry::new(mix)?);
    let mut scan = Scan {
        records: Vec::new(),
        files: Vec::new(),
        registry: Registry::new(mix)?,
        reports: Vec::new(),
        unreadable: SkippedReport::default(),
        notes: Vec::new(),
    };
    let drop_unlisted = mix.unlisted == KeepOrDrop::Drop;
    let mut read_bytes = 0u64;
    for (at, pool) in (0u32..).zip(pools) {
        let report = pool.scan_map(
            &|entry| reader.read(pool, &registry.read().unwrap_or_else(PoisonError::into_inner), entry),
            &mut |scanned: Scanned| {
                let number = u32::try_from(scan.records.len()).ok().filter(|number| *number < u32::MAX);
                let number = number.ok_or_else(|| {
                    Error::failed(format!("the pools have more than {} entries", u32::MAX))
                        .hint("make several mixes, each from some of the pools")
                })?;
                if scan.files.last().is_none_or(|span| (span.pool, span.file) != (at, scanned.file)) {
                    scan.files.push(FileSpan { pool: at, file: scanned.file, begin: scan.records.len() });
                }
                let group = match scanned.group {
                    Ok(group) => group,
                    Err(origin) => registry.write().unwrap_or_else(PoisonError::into_inner).register(origin),
                };
                let mut record = Record {
                    offset: scanned.offset,
                    bytes: scanned.bytes,
                    group,
                    state: 0,
                    flags: if scanned.has_image { HAS_IMAGE } else { 0 },
                };
                let (source, name) = if drop_unlisted || scanned.images.is_some() || scanned.text.is_some() {
                    let registry = registry.read().unwrap_or_else(PoisonError::into_inner);
                    let index = registry.groups.get(usize::from(group)).map_or(0, |group| group.source);
                    let source = registry.sources.get(index);
                    if drop_unlisted && source.is_some_and(|source| !source.listed) {
                        record.remove(Rule::Unlisted);
                    }
                    let name = scanned.images.as_ref().and(source).map(|source| source.name.clone());
                    (index as u64, name.unwrap_or_default())
                } else {
                    (0, String::new())
                };
                if let Some(rule) = scanned.verdict {
                    record.remove(rule);
                }
                if record.is_alive() {
                    if let (Some(finder), Some((scope, text))) = (&mut finder, &scanned.text) {
                        let within = rule.is_some_and(|rule| rule.within_source);
                        let scope = if within { mix_scope(*scope, source) } else { *scope };
                        finder.add(number, scope, text)?;
                    }
                    if let (Some(stage), Some((place, images))) = (&mut images, scanned.images) {
                        stage.add(WaitingImages { entry: number, source: name, place, images });
                    }
                }
                read_bytes += u64::from(scanned.bytes);
                scan.records.push(record);
                if number.is_multiple_of(8192) {
                    progress(u64::from(number), read_bytes);
                }
                Ok(())
            },
        )?;
        scan.reports.push(report);
    }
    progress(scan.records.len() as u64, read_bytes);
    scan.registry = registry.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(stage) = &mut images {
        stage.flush();
        scan.remove(std::mem::take(&mut stage.missing), Rule::MissingImages);
    }
    if let Some(finder) = finder {
        let removed = finder.finish(|entry| scan.is_alive(entry))?;
        scan.remove(removed, Rule::Duplicates);
    }
    if let Some(stage) = images {
        scan.apply_images(mix, stage);
    }
    Ok(scan)
}

/// Adds the source to what must be equal.
fn mix_scope(scope: u64, source: u64) -> u64 {
    mix(scope ^ mix(source + 1))
}

impl Scan {
    fn is_alive(&self, entry: u32) -> bool {
        self.records.get(entry as usize).is_some_and(Record::is_alive)
    }

    /// Leaves entries out by a rule.
    pub fn remove(&mut self, entries: Vec<u32>, rule: Rule) {
        for entry in entries {
            if let Some(record) = self.records.get_mut(entry as usize) {
                record.remove(rule);
            }
        }
    }

    /// Applies the rules about the contents of images.
    fn apply_images(&mut self, mix: &Mix, stage: ImageStage) {
        let mut stage = stage;
        if let Some(rule) = &mix.filters.duplicate_images {
            let hashes: Vec<_> =
                std::mem::take(&mut stage.hashes).into_iter().filter(|image| self.is_alive(image.entry)).collect();
            let scope = |entry: u32| {
                let group = self.records.get(entry as usize).map_or(0, |record| usize::from(record.group));
                let source = self.registry.groups.get(group).map_or(0, |group| group.source);
                if rule.within_source { u32::try_from(source).unwrap_or(0) } else { 0 }
            };
            let removed = duplicate_images(hashes, rule.distance, rule.same_file, scope);
            self.remove(removed, Rule::DuplicateImages);
        }
        let leaked = std::mem::take(&mut stage.leaked);
        self.remove(leaked, Rule::Leaks);
        let by: BTreeMap<String, u64> = std::mem::take(&mut stage.leaked_by_benchmark);
        for (benchmark, count) in by {
            self.notes.push(format!("{count} images have the hash of an image of {benchmark}."));
        }
        if stage.benchmark_images_unreadable() > 0 {
            let count = stage.benchmark_images_unreadable();
            self.notes.push(format!("{count} images of the benchmarks could not be read and were not compared."));
        }
        if stage.blank > 0 {
            self.notes.push(format!("{} images are blank (their hash is 0) and were not compared.", stage.blank));
        }
        self.unreadable = stage.unreadable;
    }
}
