//! Entries whose images stand outside of their JSON: rows of tables, and members of webdataset shards.
//!
//! One thread reads the file and hands batches on; the caller's thread parses them.

use super::block::{Block, FileDefaults, ParsedImage};
use super::parse::EntryParser;
use burgess_base::skipped::SkippedEntry;
use burgess_base::{Error, Result, guard};
use std::ops::Range;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Number of bytes of JSON after which a batch is handed on.
const FULL: usize = 1 << 20;

/// Number of batches that wait at most.
const WAITING: usize = 2;

/// An image that stands outside of the entry's JSON.
#[derive(Debug, Clone)]
pub(super) enum BesideImage {
    Cell { column: String, item: Option<u32> },
    Member { name: String, offset: u64, size: u64 },
}

/// An entry of a batch.
struct BatchEntry {
    json: Range<usize>,
    offset: u64,
    number: u64,
    images: Range<usize>,
}

/// Entries that were read but not parsed.
#[derive(Default)]
struct Batch {
    text: String,
    entries: Vec<BatchEntry>,
    images: Vec<BesideImage>,
    skipped: Vec<(u64, SkippedEntry)>,
}

/// Takes the entries of a file from the thread that reads it.
pub(super) struct BatchSender<'s> {
    batch: Batch,
    sender: &'s SyncSender<Batch>,
    /// Offsets of the wanted entries, sorted; `None` for all.
    wanted: Option<&'s [u64]>,
    /// Number of bytes of JSON that were handed on.
    pub bytes: u64,
}

impl BatchSender<'_> {
    /// Returns whether the entry at this offset is wanted.
    pub fn wants(&self, offset: u64) -> bool {
        self.wanted.is_none_or(|wanted| wanted.binary_search(&offset).is_ok())
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// An error is returned if nobody takes entries any more.
    pub fn entry(&mut self, offset: u64, number: u64, json: &str, images: Vec<BesideImage>) -> Result<()> {
        let (start, first) = (self.batch.text.len(), self.batch.images.len());
        self.batch.text.push_str(json);
        self.batch.images.extend(images);
        let (json, images) = (start..self.batch.text.len(), first..self.batch.images.len());
        self.bytes += json.len() as u64;
        self.batch.entries.push(BatchEntry { json, offset, number, images });
        if self.batch.text.len() >= FULL { self.flush() } else { Ok(()) }
    }

    /// Counts an entry that cannot be used.
    ///
    /// # Errors
    /// As [`BatchSender::entry`].
    pub fn skip(&mut self, number: u64, reason: &'static str, detail: String) -> Result<()> {
        if self.wanted.is_none() {
            self.batch.skipped.push((number, SkippedEntry { reason, detail, source: String::new() }));
        }
        if self.batch.skipped.len() >= 1000 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.sender.send(batch).map_err(|_| Error::failed("the reading was stopped"))
    }
}

/// Runs `produce` on a thread of its own and hands the parsed blocks to `each`. Returns the number of bytes of JSON,
/// and what is wrong with the file.
///
/// # Errors
/// Any error of `each`, which ends the reading.
pub(super) fn run(
    defaults: &FileDefaults,
    wanted: Option<&[u64]>,
    produce: &(dyn Fn(&mut BatchSender<'_>) -> Result<()> + Sync),
    each: &mut dyn FnMut(&Block) -> Result<()>,
) -> Result<(u64, std::result::Result<(), String>)> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Batch>(WAITING);
        let reading = scope.spawn(move || {
            let mut batches = BatchSender { batch: Batch::default(), sender: &sender, wanted, bytes: 0 };
            let produced = guard::third_party(&defaults.name, || produce(&mut batches)).and_then(|done| done);
            // What stands before the damage is handed on.
            let flushed = batches.flush();
            (batches.bytes, produced.and(flushed))
        });
        let mut block = Block::default();
        for batch in &receiver {
            parse(batch, &mut block, defaults);
            each(&block)?;
        }
        // The loop ends when the sender is dropped.
        drop(receiver);
        match reading.join() {
            Ok((bytes, produced)) => Ok((bytes, produced.map_err(|e| e.to_string()))),
            Err(_) => Err(Error::failed(format!("reading {} failed", defaults.name))),
        }
    })
}

fn parse(batch: Batch, block: &mut Block, defaults: &FileDefaults) {
    block.clear();
    for (number, skipped) in batch.skipped {
        block.skip(defaults, number, skipped);
    }
    let mut beside: Vec<ParsedImage> = Vec::new();
    // The images of a batch mostly stand in one column, whose name is stored once.
    let mut last_column = (String::new(), None);
    for entry in batch.entries {
        beside.clear();
        for image in batch.images.get(entry.images).unwrap_or_default() {
            beside.push(match image {
                BesideImage::Cell { column, item } => {
                    if last_column.1.is_none() || last_column.0 != *column {
                        last_column = (column.clone(), Some(block.store(column)));
                    }
                    ParsedImage::Cell { column: last_column.1.unwrap_or_default(), item: *item }
                }
                BesideImage::Member { name, offset, size } => {
                    ParsedImage::Member { name: block.store(name), offset: *offset, size: *size }
                }
            });
        }
        let mut parser = EntryParser { text: &batch.text, block, defaults };
        parser.entry(entry.json, entry.offset, entry.number, &beside);
    }
    block.text = batch.text;
}
