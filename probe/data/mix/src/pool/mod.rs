//! Reads pools of conversations as they are published: Cambrian-10M's JSON lines, LLaVA's and ShareGPT4V's JSON arrays,
//! the parquet tables of LLaVA-OneVision, FineVision and The Cauldron, and webdataset shards; plain, gzip or zstd.
//!
//! Pools are streamed: memory does not grow with them. Entries are handed on in the order of the files, whatever the
//! number of threads. An entry that cannot be used is counted by reason and source with its place, and a damaged file
//! is reported with what could be read of it; the others are read.
//!
//! ```no_run
//! use burgess_mix::pool::{Pool, PoolSpec};
//! let pool = Pool::open(&PoolSpec::new("Cambrian10M.jsonl"))?;
//! let mut words = 0;
//! let report = pool.scan(&mut |entry| {
//!     words += entry.pairs().map(|(_, answer)| answer.split_whitespace().count()).sum::<usize>();
//!     Ok(())
//! })?;
//! for note in report.notes() {
//!     eprintln!("{note}");
//! }
//! println!("{} conversations, {words} words in answers", report.entries);
//! # Ok::<(), burgess_base::Error>(())
//! ```

mod array;
mod batch;
mod block;
mod entry;
mod fields;
mod parse;
mod pipeline;
mod ratings;
mod report;
mod shards;
mod spec;
mod split;
mod table;
mod turns;

pub use entry::{Entry, ImageRef, PoolImage, Position, Speaker, Turn, image_file};
pub use ratings::{RATINGS, Rating, Ratings};
pub use report::{DamagedFile, ScanReport};
pub use spec::{Format, PoolSpec};

use array::Elements;
use block::{Block, FileDefaults};
use burgess_base::{Error, Result, compressed};
use burgess_bench::ImageLocation;
use pipeline::Handling;
use rayon::prelude::*;
use split::{Lines, Splitter};
use std::path::{Path, PathBuf};

/// A file of a pool.
#[derive(Debug, Clone)]
struct PoolFile {
    path: PathBuf,
    /// The folder below the pool's directory in which the file lies; empty if there is none.
    folder: String,
    /// The format, or why the file cannot be read.
    format: std::result::Result<Format, String>,
}

/// A pool of conversations: files that are read as one.
#[derive(Debug, Clone)]
pub struct Pool {
    spec: PoolSpec,
    files: Vec<PoolFile>,
    others: u64,
}

impl Pool {
    /// Finds the files of a pool and recognises their formats.
    ///
    /// # Errors
    /// An error is returned if a stated path does not exist, if there is no data file in it, or if none of the files
    /// can be read.
    pub fn open(spec: &PoolSpec) -> Result<Self> {
        let (found, others) = spec.files()?;
        let mut first = None;
        let files: Vec<PoolFile> = found
            .into_iter()
            .map(|(path, folder)| {
                let recognised = match spec.format {
                    // An unreadable file is found out here in any case.
                    Some(format) => spec::recognise(&path).map(|_| format),
                    None => spec::recognise(&path),
                };
                let format = recognised.map_err(|e| {
                    let text = e.to_string();
                    first.get_or_insert_with(|| e.context(format!("reading {}", path.display())));
                    text
                });
                PoolFile { path, folder, format }
            })
            .collect();
        match first {
            Some(e) if files.iter().all(|f| f.format.is_err()) => Err(e),
            _ => Ok(Self { spec: spec.clone(), files, others }),
        }
    }

    /// Returns the files in the order in which they are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|f| f.path.as_path())
    }

    /// Returns the number of data files that are not read, because their folder has files of a format that comes before
    /// theirs: the parquet tables beside webdataset shards, a JSON file beside JSON lines.
    pub fn other_files(&self) -> u64 {
        self.others
    }

    /// Returns what the pool was opened with.
    pub fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    /// Returns the place of an entry for messages: `FILE:LINE`.
    pub fn place(&self, entry: &Entry<'_>) -> String {
        let file = self.files.get(entry.at.file as usize).map_or(Path::new(""), |f| &f.path);
        format!("{}:{}", file.display(), entry.number)
    }

    /// Returns the images of an entry in a form that can be kept and read later.
    ///
    /// # Errors
    /// An error is returned if the pool has image paths but no directory of images, or if a path leads out of it.
    pub fn images(&self, entry: &Entry<'_>) -> Result<Vec<PoolImage>> {
        let file = self.files.get(entry.at.file as usize).map_or(Path::new(""), |f| &f.path);
        let images = self.spec.images.as_deref();
        entry.images.iter().map(|image| PoolImage::new(image, file, entry.at, images)).collect()
    }

    /// Calls `each` with every entry, in the order of the files. Parsing runs on several threads (those of rayon's
    /// pool are the limit), `each` on the caller's.
    ///
    /// # Errors
    /// An error of `each` ends the reading. Unusable entries and damaged files are counted instead.
    pub fn scan(&self, each: &mut dyn FnMut(Entry<'_>) -> Result<()>) -> Result<ScanReport> {
        self.read(None, &|_, _| (), &mut |block, defaults, ()| block_entries(block, defaults, each))
    }

    /// Calls `map` with every entry on the threads that parse, and `each` with the results in the order of the files.
    ///
    /// # Errors
    /// As [`Pool::scan`].
    pub fn scan_map<T: Send>(
        &self,
        map: &(dyn Fn(&Entry<'_>) -> T + Sync),
        each: &mut dyn FnMut(T) -> Result<()>,
    ) -> Result<ScanReport> {
        let add = |all: &mut Vec<T>, entry: &Entry<'_>| all.push(map(entry));
        self.scan_chunks(&Vec::new, &add, &mut |all| all.into_iter().try_for_each(&mut *each))
    }

    /// Calls `add` with every entry on the threads that parse. Each stretch of a file begins with `new`, and `each` is
    /// called with what its entries were added to, in the order of the files. Stretches are those of the file, not of
    /// the threads, so the results are the same for any number of threads.
    ///
    /// # Errors
    /// As [`Pool::scan`].
    pub fn scan_chunks<A: Send>(
        &self,
        new: &(dyn Fn() -> A + Sync),
        add: &(dyn Fn(&mut A, &Entry<'_>) + Sync),
        each: &mut dyn FnMut(A) -> Result<()>,
    ) -> Result<ScanReport> {
        let work = |block: &Block, defaults: &FileDefaults| {
            let mut chunk = new();
            block.each(defaults, &mut |entry| {
                add(&mut chunk, &entry);
                true
            });
            chunk
        };
        self.read(None, &work, &mut |_, _, chunk| each(chunk))
    }

    /// Calls `each` with the entries at these positions, in the order of the files (not of `positions`). The files are
    /// read again, but only these entries are parsed.
    ///
    /// # Errors
    /// An error of `each`; or a position has no entry, because a file changed since it was scanned.
    pub fn read_at(&self, positions: &[Position], each: &mut dyn FnMut(Entry<'_>) -> Result<()>) -> Result<ScanReport> {
        let mut wanted = positions.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let report =
            self.read(Some(&wanted), &|_, _| (), &mut |block, defaults, ()| block_entries(block, defaults, each))?;
        if report.entries != wanted.len() as u64 {
            return Err(Error::failed(format!(
                "{} of {} conversations are not found again",
                wanted.len() as u64 - report.entries.min(wanted.len() as u64),
                wanted.len()
            ))
            .hint("read the pool again from the beginning: its files changed while they were read"));
        }
        Ok(report)
    }

    /// Calls `each` with the entries of one file at these offsets, which are sorted, without a copy of them.
    ///
    /// # Errors
    /// As [`Pool::read_at`].
    pub fn read_file_at(
        &self,
        file: u32,
        offsets: &[u64],
        each: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<ScanReport> {
        let Some(known) = self.files.get(file as usize) else {
            return Err(Error::failed(format!("the pool has no file number {file}")));
        };
        let defaults = FileDefaults {
            file,
            name: known.path.display().to_string(),
            source: self.spec.source.clone(),
            folder: known.folder.clone(),
            kind: self.spec.kind.clone(),
        };
        let mut report = ScanReport { files: 1, ..ScanReport::default() };
        let mut entries = |block: &Block, defaults: &FileDefaults, ()| block_entries(block, defaults, each);
        let outcome = self.read_file(known, &defaults, Some(offsets), &|_, _| (), &mut entries, &mut report)?;
        if report.entries != offsets.len() as u64 {
            let what = outcome.err().map_or_else(String::new, |what| format!(": {what}"));
            return Err(Error::failed(format!(
                "{} of {} conversations of {} are not found again{what}",
                (offsets.len() as u64).saturating_sub(report.entries),
                offsets.len(),
                known.path.display()
            ))
            .hint("read the pool again from the beginning: its files changed while they were read"));
        }
        Ok(report)
    }

    /// Reads all files, or those that have wanted entries.
    fn read<T: Send>(
        &self,
        wanted: Option<&[Position]>,
        work: &(dyn Fn(&Block, &FileDefaults) -> T + Sync),
        each: &mut dyn FnMut(&Block, &FileDefaults, T) -> Result<()>,
    ) -> Result<ScanReport> {
        let mut all = ScanReport::default();
        for (index, file) in self.files.iter().enumerate() {
            let offsets: Option<Vec<u64>> = wanted.map(|wanted| {
                let of_file = |p: &&Position| p.file as usize == index;
                wanted.iter().filter(of_file).map(|p| p.offset).collect()
            });
            if offsets.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let defaults = FileDefaults {
                file: index as u32,
                name: file.path.display().to_string(),
                source: self.spec.source.clone(),
                folder: file.folder.clone(),
                kind: self.spec.kind.clone(),
            };
            let mut report = ScanReport { files: 1, ..ScanReport::default() };
            let outcome = self.read_file(file, &defaults, offsets.as_deref(), work, each, &mut report)?;
            if let Err(what) = outcome {
                let (file, entries) = (file.path.clone(), report.entries);
                report.damaged.push(DamagedFile { file, entries, read: report.bytes, what });
            }
            all.append(report);
        }
        Ok(all)
    }

    /// Reads one file; returns what is wrong with it, if it could not be read to its end.
    fn read_file<T: Send>(
        &self,
        file: &PoolFile,
        defaults: &FileDefaults,
        wanted: Option<&[u64]>,
        work: &(dyn Fn(&Block, &FileDefaults) -> T + Sync),
        each: &mut dyn FnMut(&Block, &FileDefaults, T) -> Result<()>,
        report: &mut ScanReport,
    ) -> Result<std::result::Result<(), String>> {
        let format = match &file.format {
            Ok(format) => *format,
            Err(what) => return Ok(Err(what.clone())),
        };
        let mut count = |block: &Block| {
            report.entries += block.entries.len() as u64;
            report.skipped.append(block.skipped.clone());
            report.odd.append(block.odd.clone());
        };
        if let Format::Parquet | Format::WebDataset = format {
            let produce = |out: &mut batch::BatchSender<'_>| match format {
                Format::Parquet => table::read(&file.path, out),
                _ => shards::read(&file.path, out),
            };
            let (bytes, outcome) = batch::run(defaults, wanted, &produce, &mut |block| {
                count(block);
                each(block, defaults, work(block, defaults))
            })?;
            report.bytes = bytes;
            return Ok(outcome);
        }
        let reader = match compressed::open(&file.path) {
            Ok(reader) => reader,
            Err(e) => return Ok(Err(e.to_string())),
        };
        let mut splitter: Box<dyn Splitter> = match format {
            Format::JsonArray => Box::new(Elements::new(reader)),
            _ => Box::new(Lines::new(reader)),
        };
        let small = file.path.metadata().is_ok_and(|m| m.len() < split::BLOCK as u64 / 4);
        let threads = if small { 1 } else { rayon::current_num_threads().clamp(1, MOST_THREADS) };
        let handling = Handling {
            defaults,
            wanted,
            work: &|block: &Block| work(block, defaults),
            each: &mut |block: &Block, out: T| {
                count(block);
                each(block, defaults, out)
            },
        };
        handling.run(splitter.as_mut(), threads)?;
        report.bytes = splitter.read();
        Ok(splitter.damage().map_or(Ok(()), Err))
    }
}

/// Reads the encoded bytes of several images, in their order, on several threads; those of one table column in a single
/// pass.
pub fn read_images(images: &[&PoolImage]) -> Vec<Result<Vec<u8>>> {
    let cell = |image: &&PoolImage| match image {
        PoolImage::Located(location @ ImageLocation::Cell(_)) => Some(location.clone()),
        PoolImage::Located(ImageLocation::File(_)) | PoolImage::Member { .. } => None,
    };
    let located: Vec<ImageLocation> = images.iter().filter_map(cell).collect();
    let mut cells = burgess_bench::read_images(&located.iter().collect::<Vec<_>>()).into_iter();
    let work: Vec<(&PoolImage, Option<Result<Vec<u8>>>)> =
        images.iter().map(|image| (*image, cell(image).and_then(|_| cells.next()))).collect();
    let bytes = |image: &PoolImage| match image {
        PoolImage::Located(location) => location.bytes(),
        PoolImage::Member { file, offset, size, .. } => {
            shards::member(file, *offset, *size).map_err(|e| e.context(format!("reading {image}")))
        }
    };
    work.into_par_iter().map(|(image, cell)| cell.unwrap_or_else(|| bytes(image))).collect()
}

/// Maximum number of threads that parse; more would wait for the one that reads.
const MOST_THREADS: usize = 16;

/// Calls `each` with the entries of a block.
fn block_entries(block: &Block, defaults: &FileDefaults, each: &mut dyn FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
    let mut outcome = Ok(());
    block.each(defaults, &mut |entry| {
        outcome = each(entry);
        outcome.is_ok()
    });
    outcome
}

#[cfg(test)]
mod tests;
