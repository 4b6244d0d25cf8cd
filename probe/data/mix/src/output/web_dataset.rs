//! Webdataset shards: tar archives in which the files of an entry stand together under one key, with a parquet table of
//! metadata beside each.

use super::{Journal, OutputFile, remove};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use burgess_base::digest::Digest;
use burgess_base::temporary::TemporaryPath;
use burgess_base::{Context, Error, Result, atomic};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const JOURNAL: &str = "shards.journal";
/// Largest size of a shard in bytes; a further entry begins a new one.
const LARGEST: u64 = 1 << 30;

/// An entry of a shard.
#[derive(Debug, Clone, Copy)]
pub struct WebSample<'a> {
    /// The entry as JSON.
    pub json: &'a [u8],
    /// Its images: the ending of the file name, and the contents.
    pub images: &'a [(&'a str, &'a [u8])],
    /// Its id, for the metadata.
    pub id: &'a str,
    /// Its source, for the metadata.
    pub source: &'a str,
    /// Its kind, for the metadata; may be empty.
    pub kind: &'a str,
    /// Number of its turns, for the metadata.
    pub turns: usize,
}

/// The metadata of the entries of a shard, by column.
#[derive(Default)]
struct Metadata {
    keys: Vec<String>,
    ids: Vec<String>,
    sources: Vec<String>,
    kinds: Vec<String>,
    turns: Vec<i64>,
    images: Vec<i64>,
    json_bytes: Vec<i64>,
    image_bytes: Vec<i64>,
}

/// A shard that is being written.
struct Shard {
    tar: tar::Builder<Hashing>,
    // After `tar`, so that the file is closed when its name is removed.
    temporary: TemporaryPath,
    metadata: Metadata,
    bytes: u64,
}

/// Writes a file and computes its digest.
struct Hashing {
    file: BufWriter<File>,
    digest: Digest,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A directory of shards, `000000.tar` with `000000.parquet` and so on. The key of an entry is its number in the whole
/// dataset. A shard appears when it is complete.
pub struct WebDataset {
    dir: PathBuf,
    per_shard: u64,
    journal: Journal,
    shard: Option<Shard>,
    entries: u64,
}

impl WebDataset {
    /// Opens a directory for shards of at most `per_shard` entries and one gigabyte. Shards that an interrupted run
    /// with the same key has finished are kept; those of another key are removed.
    ///
    /// # Errors
    /// The directory cannot be created, or a shard cannot be removed.
    pub fn open(dir: &Path, key: &str, per_shard: u64) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let path = dir.join(JOURNAL);
        let whole = |file: &OutputFile| dir.join(&file.file).metadata().is_ok_and(|meta| meta.len() == file.bytes);
        let journal = Journal::read(&path, key).filter(|journal| journal.files.iter().all(whole));
        let journal = match journal {
            Some(journal) => journal,
            None => {
                Self::discard(dir)?;
                Journal { key: key.to_string(), ..Journal::default() }
            }
        };
        Ok(Self { dir: dir.to_path_buf(), per_shard: per_shard.max(1), entries: journal.entries, journal, shard: None })
    }

    /// Removes the finished shards of an interrupted run, and its journal.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn discard(dir: &Path) -> Result<()> {
        let path = dir.join(JOURNAL);
        let begun: Option<Journal> = atomic::read_json(&path).ok();
        for file in begun.iter().flat_map(|journal| &journal.files) {
            // Only names, so that a damaged journal removes no other file.
            if Path::new(&file.file).components().count() == 1 {
                remove(&dir.join(&file.file))?;
            }
        }
        remove(&path)
    }

    /// Returns the number of entries so far; after [`WebDataset::open`] those that an earlier run has finished.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Returns what the caller had counted at the last checkpoint; null at the beginning.
    pub fn state(&self) -> &Value {
        &self.journal.state
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn add(&mut self, sample: &WebSample<'_>) -> Result<()> {
        let step = || format!("writing shard {} in {}", self.journal.files.len() / 2, self.dir.display());
        let shard = match &mut self.shard {
            Some(shard) => shard,
            None => {
                let temporary = TemporaryPath::beside(&self.dir.join(self.shard_name("tar")));
                let file = File::create(temporary.path()).with_context(step)?;
                let file = BufWriter::with_capacity(1 << 20, file);
                let hashing = Hashing { file, digest: Digest::default(), bytes: 0 };
                let shard =
                    Shard { tar: tar::Builder::new(hashing), temporary, metadata: Metadata::default(), bytes: 0 };
                self.shard.insert(shard)
            }
        };
        let key = format!("{:09}", self.entries);
        let mut put = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // The same bytes every time: no date, no owner.
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            shard.bytes += bytes.len() as u64 + 512;
            shard.tar.append_data(&mut header, name, bytes).with_context(step)
        };
        put(&format!("{key}.json"), sample.json)?;
        for (at, (ending, bytes)) in sample.images.iter().enumerate() {
            match sample.images.len() {
                1 => put(&format!("{key}.{ending}"), bytes)?,
                _ => put(&format!("{key}.{at}.{ending}"), bytes)?,
            }
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let metadata = &mut shard.metadata;
        metadata.keys.push(key);
        metadata.ids.push(sample.id.to_string());
        metadata.sources.push(sample.source.to_string());
        metadata.kinds.push(sample.kind.to_string());
        metadata.turns.push(number(sample.turns));
        metadata.images.push(number(sample.images.len()));
        metadata.json_bytes.push(number(sample.json.len()));
        metadata.image_bytes.push(number(sample.images.iter().map(|(_, bytes)| bytes.len()).sum()));
        self.entries += 1;
        Ok(())
    }

    /// Returns whether the shard is full, so that a checkpoint must follow before the next entry.
    pub fn wants_checkpoint(&self) -> bool {
        self.shard
            .as_ref()
            .is_some_and(|shard| shard.metadata.keys.len() as u64 >= self.per_shard || shard.bytes >= LARGEST)
    }

    fn shard_name(&self, ending: &str) -> String {
        // Two files per shard.
        format!("{:06}.{ending}", self.journal.files.len() / 2)
    }

    /// Completes the present shard, with what the caller has counted.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn checkpoint(&mut self, state: Value) -> Result<()> {
        let Some(shard) = self.shard.take() else { return Ok(()) };
        let (tar_name, table_name) = (self.shard_name("tar"), self.shard_name("parquet"));
        let step = || format!("writing {}", self.dir.join(&tar_name).display());
        let count = shard.metadata.keys.len() as u64;
        let table = shard.metadata.table().map_err(|e| e.context(format!("writing {table_name}")))?;
        atomic::write(&self.dir.join(&table_name), &table)?;
        let mut hashing = shard.tar.into_inner().with_context(step)?;
        hashing.flush().with_context(step)?;
        let Hashing { file, digest, bytes } = hashing;
        file.get_ref().sync_all().with_context(step)?;
        fs::rename(shard.temporary.path(), self.dir.join(&tar_name)).with_context(step)?;
        let table_digest = burgess_base::digest::of_bytes(&table);
        self.journal.files.push(OutputFile { file: tar_name, bytes, digest: digest.finish(), entries: count });
        self.journal.files.push(OutputFile {
            file: table_name,
            bytes: table.len() as u64,
            digest: table_digest,
            entries: count,
        });
        self.journal.entries = self.entries;
        self.journal.state = state;
        self.journal.write(&self.dir.join(JOURNAL))
    }

    /// Completes the last shard and returns all files, with the tables of metadata.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn finish(mut self, state: Value) -> Result<Vec<OutputFile>> {
        self.checkpoint(state)?;
        remove(&self.dir.join(JOURNAL))?;
        Ok(self.journal.files)
    }
}

impl Metadata {
    /// Returns the columns as a parquet file.
    fn table(self) -> Result<Vec<u8>> {
        let text = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
        let number = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            ("key", text(self.keys)),
            ("id", text(self.ids)),
            ("source", text(self.sources)),
            ("kind", text(self.kinds)),
            ("turns", number(self.turns)),
            ("images", number(self.images)),
            ("json_bytes", number(self.json_bytes)),
            ("image_bytes", number(self.image_bytes)),
        ])
        .map_err(|e| Error::failed(e.to_string()))?;
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let failed = |e: parquet::errors::ParquetError| Error::failed(e.to_string());
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).map_err(failed)?;
        writer.write(&batch).map_err(failed)?;
        writer.close().map_err(failed)?;
        Ok(bytes)
    }
}
