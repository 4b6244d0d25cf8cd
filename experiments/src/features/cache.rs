//! The feature cache: a frozen encoder encodes each image once, in whichever run, study or process needs it first, and
//! all others map the stored features into memory.
//!
//! `CACHE/features/<key>/<chunk>.safetensors` holds `features` [images, tokens, width] f32 and `grid` `[2]` u64. The key
//! is a digest of everything that can change a feature: weights and card (architecture, preprocessing, tap) or the
//! oracle's ground truth, data, device, and the version of this code. Chunks are written atomically, so an interrupted
//! pass resumes with the next chunk. Each chunk has a digest that is compared when it is opened; a chunk that is
//! damaged, or removed before it is opened, is encoded again.

use crate::data::DataDirectory;
use crate::features::card::ArmCard;
use crate::study::ORACLE;

use crate::features::encode::{self, FeatureExtractor};
use crate::features::image_set::ImageSet;
use crate::features::prepared::PreparedEncoder;
use crate::machine::progress::Progress;
use crate::machine::stop;
use crate::machine::workers;
use crate::machine::workers::Workers;
use burgess_base::temporary::{self, TemporaryPath};
use burgess_base::{Context, Error, ErrorKind, Result, atomic, digest};
use burn::tensor::{Device, Tensor, TensorData};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// Number of images in a chunk. An interruption loses a few seconds of work, and a chunk of the largest published
/// encoder (1024 tokens × 3520) takes less than 2 GB of memory.
const CHUNK: usize = 128;
/// Number of images in a forward pass.
const BATCH: usize = 16;
/// Version of the features; it must change when the code gives other features for the same key.
const VERSION: u32 = 1;
/// Largest number of times that a chunk is encoded because it disappeared before it was opened.
const ROUNDS: usize = 3;

/// A feature cache: its directory and size limit in bytes.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    root: PathBuf,
    limit: u64,
}

/// The memory-mapped features of one encoder for all images of a data directory.
pub struct CachedFeatures {
    chunks: Vec<CachedChunk>,
    /// Token grid, `[rows, columns]`.
    pub grid: [usize; 2],
    /// Number of tokens per image.
    pub tokens: usize,
    /// Number of channels of a token.
    pub width: usize,
    /// Encoding throughput when the features were computed, in images per second.
    pub images_per_second: f64,
    /// Shared lock of the entry, so that no other process evicts it.
    _in_use: File,
}

struct CachedChunk {
    map: Mmap,
    offset: usize,
    shape: [usize; 3],
    grid: [usize; 2],
    seconds: f64,
}

impl CachedFeatures {
    /// Features of some images: [images, tokens, width] f32 on `device`.
    pub fn batch(&self, images: &[usize], device: &Device) -> Result<Tensor<3>> {
        let size = self.tokens * self.width;
        let mut values = Vec::with_capacity(images.len() * size);
        for &image in images {
            let (chunk, row) = (image / CHUNK, image % CHUNK);
            let bytes = self
                .chunks
                .get(chunk)
                .filter(|c| row < c.shape[0])
                .and_then(|c| c.map.get(c.offset + row * size * 4..c.offset + (row + 1) * size * 4))
                .ok_or_else(|| Error::failed(format!("the feature cache has no image with index {image}")))?;
            values.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
        Ok(Tensor::from_data(TensorData::new(values, [images.len(), self.tokens, self.width]), device))
    }
}

impl FeatureCache {
    /// Opens the cache under `root`, creating it if needed, with a size limit of about `limit` bytes.
    pub fn open(root: &Path, limit: u64) -> Result<Self> {
        let root = root.join("features");
        fs::create_dir_all(&root).with_context(|| format!("making the feature cache {}", root.display()))?;
        temporary::remove_stale(&root, 1);
        Ok(Self { root, limit })
    }

    /// Returns the features of every requested encoder for all images (paths relative to the data directory). Encodes
    /// missing chunks, several at once. If one encoder fails, the others are still encoded.
    pub fn features(
        &self,
        encoders: &[&PreparedEncoder],
        set: ImageSet<'_>,
        workers: &Workers,
        progress: &Progress,
    ) -> Result<Vec<Result<CachedFeatures>>> {
        let ImageSet { data, images, device_name, .. } = set;
        let mut entries: Vec<Result<CacheEntry>> =
            encoders.iter().map(|e| self.entry(e, data, images, device_name)).collect();
        let mut encoded: BTreeMap<usize, usize> = BTreeMap::new();
        let (_section, clock) = (stop::section()?, Instant::now());
        for round in 0..=ROUNDS {
            let mut tasks = Vec::new();
            for (number, entry) in entries.iter_mut().enumerate() {
                let Ok(entry) = entry else { continue };
                let left = entry.open_chunks(images.len());
                if let (true, Some(note)) = (round == 0, damaged(&left)) {
                    progress.line(&format!("note: features of {}: {note}", encoders[number].encoder.name()));
                }
                tasks.extend(left.iter().map(|(chunk, _)| (number, *chunk)));
            }
            if tasks.is_empty() || round == ROUNDS {
                break;
            }
            for (number, chunk) in &tasks {
                *encoded.entry(*number).or_default() += rows_of(*chunk, images.len());
            }
            let failures = encode_chunks(encoders, &entries, &tasks, set, workers, progress)?;
            for (number, e) in failures {
                entries[number] = Err(e.context(format!("encoding images with {}", encoders[number].encoder.name())));
            }
        }
        if !encoded.is_empty() {
            let images: usize = encoded.values().sum();
            let (encoders, seconds) = (encoded.len(), clock.elapsed().as_secs_f64());
            progress.line(&format!("encoded {images} images with {encoders} encoders in {seconds:.1} s"));
        }
        let found = entries.into_iter().map(|entry| entry?.open(images)).collect();
        self.evict(progress);
        Ok(found)
    }

    fn entry(
        &self,
        encoder: &PreparedEncoder,
        data: &DataDirectory,
        images: &[String],
        device_name: &str,
    ) -> Result<CacheEntry> {
        // Features are addressed by image index, so other benchmarks, or another order, need another entry.
        let (data, images_digest) = (&data.digest, digest::of_value(&images)?);
        let what = match &encoder.card {
            ArmCard::Encoder(card) => json!({
                "version": VERSION,
                "encoder": card.id,
                "weights": encoder.weights_digest,
                "architecture": card.architecture,
                "preprocess": card.preprocess,
                "tap": card.tap,
                "grid": card.grid,
                "data": data,
                "pictures": images_digest,
                "device": device_name,
            }),
            // The oracle's card holds the digest of the ground truth.
            ArmCard::Oracle(card) => json!({
                "version": VERSION,
                "encoder": ORACLE,
                "oracle": card,
                "data": data,
                "pictures": images_digest,
                "device": device_name,
            }),
        };
        let key = digest::of_value(&what)?;
        let dir = self.root.join(&key);
        let lock = lock_entry(&dir).with_context(|| format!("opening the cached features {}", dir.display()))?;
        // The modification time of this file is the time of last use, by which entries are evicted.
        atomic::write_json(&dir.join("what.json"), &what)?;
        let chunks = (0..images.len().div_ceil(CHUNK)).map(|_| None).collect();
        Ok(CacheEntry { key, dir, lock, chunks })
    }

    /// Total size of the cache, in bytes.
    pub fn size(&self) -> u64 {
        self.entries().iter().map(|(_, size, _)| size).sum()
    }

    /// Returns time of last use, size in bytes and directory of every entry, oldest first. Entries that another process
    /// is removing count as empty.
    fn entries(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        let mut entries: Vec<_> = fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| {
                let dir = entry.path();
                let used =
                    fs::metadata(dir.join("what.json")).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                let files = fs::read_dir(&dir).into_iter().flatten().flatten();
                let size = files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
                (used, size, dir)
            })
            .collect();
        entries.sort();
        entries
    }

    /// Removes the least recently used entries until the cache is within its limit. Entries in use by any process are
    /// kept.
    fn evict(&self, progress: &Progress) {
        let entries = self.entries();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, dir) in entries {
            if total <= self.limit {
                return;
            }
            if remove_unused(&dir) {
                total = total.saturating_sub(size);
            }
        }
        if total > self.limit {
            progress.line(&format!(
                "note: {:.1} GB of the feature cache are in use, more than its limit of {:.1} GB (BURGESS_CACHE_GB)",
                total as f64 / 1e9,
                self.limit as f64 / 1e9
            ));
        }
    }
}

/// Creates the directory of an entry and takes a shared lock on it against eviction.
fn lock_entry(dir: &Path) -> std::io::Result<File> {
    loop {
        fs::create_dir_all(dir)?;
        let path = dir.join(".lock");
        let lock = match File::options().create(true).truncate(false).write(true).open(&path) {
            // Another process has just evicted the entry.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        lock.lock_shared()?;
        // Another process may have evicted the entry, with its lock file, before the lock was acquired.
        if same_file(&lock, &path) {
            return Ok(lock);
        }
    }
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn same_file(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Removes an entry that no process uses. It is renamed first, so that no process can open it half removed.
fn remove_unused(dir: &Path) -> bool {
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join(".lock"));
    let Ok(lock) = lock else { return false };
    let gone = TemporaryPath::beside(dir);
    lock.try_lock().is_ok() && fs::rename(dir, gone.path()).is_ok()
}

/// Describes chunks that exist but cannot be used; `None` if there are none.
fn damaged(left: &[(usize, Option<Error>)]) -> Option<String> {
    let bad: Vec<&Error> = left.iter().filter_map(|(_, e)| e.as_ref()).collect();
    let first = bad.first()?;
    Some(format!("{} files of the cache cannot be used and are computed again (first: {first})", bad.len()))
}

/// Computes chunks, several at once; returns the errors by encoder index.
fn encode_chunks(
    encoders: &[&PreparedEncoder],
    entries: &[Result<CacheEntry>],
    tasks: &[(usize, usize)],
    set: ImageSet<'_>,
    workers: &Workers,
    progress: &Progress,
) -> Result<BTreeMap<usize, Error>> {
    let ImageSet { data, images, devices, .. } = set;
    let left: usize = tasks.iter().map(|(_, c)| rows_of(*c, images.len())).sum();
    let bar = progress.bar("encoding images", left as u64);
    let loaded: Vec<LoadedEncoder> = (0..encoders.len())
        .map(|n| LoadedEncoder::new(tasks.iter().filter(|(m, _)| *m == n).count(), devices.len()))
        .collect();
    let outcomes = workers::each_on(workers, tasks.to_vec(), |on, (number, chunk)| {
        stop::check()?;
        let (encoder, Ok(entry)) = (&encoders[number], &entries[number]) else {
            return Err(Error::failed(format!("the feature cache has no entry for encoder number {number}")));
        };
        bar.message(&format!("encoding images with {}", encoder.encoder.name()));
        let extractor = loaded[number].take(encoder, &data.dir, devices, on)?;
        entry.compute(&extractor, chunk, data, images, &|n| bar.add(n))
    })?;
    // Encoded chunks are kept; the next start of the command encodes the rest.
    stop::check()?;
    let mut failures = BTreeMap::new();
    for ((number, _), outcome) in tasks.iter().zip(outcomes) {
        match outcome {
            Err(e) if e.kind() != ErrorKind::Interrupted => drop(failures.entry(*number).or_insert(e)),
            _ => {}
        }
    }
    Ok(failures)
}

fn rows_of(chunk: usize, images: usize) -> usize {
    (images - chunk * CHUNK).min(CHUNK)
}

/// An encoder that is loaded only between its first and its last chunk, to save memory.
struct LoadedEncoder {
    /// Number of chunks not yet begun, on any device.
    left: AtomicUsize,
    /// The encoder on each device; `None` where it is not loaded.
    extractors: Vec<Mutex<Option<Arc<FeatureExtractor>>>>,
}

impl LoadedEncoder {
    fn new(chunks: usize, devices: usize) -> Self {
        Self { left: AtomicUsize::new(chunks), extractors: (0..devices).map(|_| Mutex::default()).collect() }
    }

    /// Returns the encoder on the device with index `on` for one more chunk: loads it for the device's first chunk and
    /// drops it, on all devices, after the last chunk of all.
    fn take(
        &self,
        encoder: &PreparedEncoder,
        data: &Path,
        devices: &[Device],
        on: usize,
    ) -> Result<Arc<FeatureExtractor>> {
        let (Some(device), Some(slot)) = (devices.get(on), self.extractors.get(on)) else {
            return Err(Error::failed(format!("there is no device number {on} for the encoder")));
        };
        let extractor = {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            let open = || FeatureExtractor::open(&encoder.encoder, &encoder.card, data, device).map(Arc::new);
            let extractor = slot.take().map_or_else(open, Ok);
            if let Ok(extractor) = &extractor {
                *slot = Some(extractor.clone());
            }
            extractor
        };
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 1 {
            for slot in &self.extractors {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
        extractor
    }
}

/// The directory of one key, with a shared lock while this value lives.
struct CacheEntry {
    key: String,
    dir: PathBuf,
    lock: File,
    /// Chunks by index; `None` if not opened yet.
    chunks: Vec<Option<CachedChunk>>,
}

impl CacheEntry {
    fn path(&self, chunk: usize) -> PathBuf {
        self.dir.join(format!("{chunk:05}.safetensors"))
    }

    /// Identifier of a chunk, which is part of its digest.
    fn chunk_id(&self, chunk: usize) -> String {
        format!("{}/{chunk}", self.key)
    }

    /// Opens the chunks that are not open yet. Returns those that fail to open; without an error if there is no file.
    fn open_chunks(&mut self, images: usize) -> Vec<(usize, Option<Error>)> {
        let missing: Vec<usize> = (0..self.chunks.len()).filter(|c| self.chunks[*c].is_none()).collect();
        let opened: Vec<_> = missing.into_par_iter().map(|c| (c, self.open_chunk(c, images))).collect();
        let mut left = Vec::new();
        for (chunk, outcome) in opened {
            match outcome {
                Ok(opened) => self.chunks[chunk] = Some(opened),
                Err(e) => left.push((chunk, Some(e).filter(|_| self.path(chunk).exists()))),
            }
        }
        left
    }

    fn open_chunk(&self, chunk: usize, images: usize) -> Result<CachedChunk> {
        let path = self.path(chunk);
        let step = || format!("reading {}", path.display());
        let file = File::open(&path).with_context(step)?;
        // SAFETY: cache files are only ever replaced by renaming and removed by unlinking, so a mapped file
        // never changes under the map.
        #[allow(unsafe_code, reason = "files of the cache are replaced, never changed in place")]
        let map = unsafe { Mmap::map(&file) }.with_context(step)?;
        let invalid = |e: String| Error::failed(e).context(step());
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| invalid(e.to_string()))?;
        let tensors = SafeTensors::deserialize(&map).map_err(|e| invalid(e.to_string()))?;
        if tensors.len() != 2 {
            return Err(invalid(format!("it holds {} tensors, expected `features` and `grid`", tensors.len())));
        }
        let features = tensors.tensor("features").map_err(|e| invalid(e.to_string()))?;
        let grid = tensors.tensor("grid").map_err(|e| invalid(e.to_string()))?;
        let (&[rows, tokens, width], Dtype::F32, Dtype::U64, &[g0, g1]) =
            (features.shape(), features.dtype(), grid.dtype(), grid.data().as_chunks::<8>().0)
        else {
            return Err(invalid("expected `features` [images, tokens, width] f32 and `grid` [2] u64".into()));
        };
        if rows != rows_of(chunk, images) {
            return Err(invalid(format!("it holds {rows} images, expected {}", rows_of(chunk, images))));
        }
        let info = metadata.info("features").map(|i| i.data_offsets.0).unwrap_or(0);
        let seconds = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get("seconds"))
            .and_then(|s| s.parse().ok())
            .unwrap_or(f64::NAN);
        let grid = [u64::from_le_bytes(g0) as usize, u64::from_le_bytes(g1) as usize];
        let shape = [rows, tokens, width];
        let written = metadata.metadata().as_ref().and_then(|m| m.get("blake3"));
        let written = written.ok_or_else(|| invalid("it has no digest, as files of earlier versions".into()))?;
        if encode::digest(&self.chunk_id(chunk), shape, grid, features.data()) != *written {
            return Err(invalid("its digest differs from the one that was written: the file is damaged".into()));
        }
        let offset = 8 + header + info;
        Ok(CachedChunk { map, offset, shape, grid, seconds })
    }

    fn compute(
        &self,
        extractor: &FeatureExtractor,
        chunk: usize,
        data: &DataDirectory,
        images: &[String],
        advance: &dyn Fn(u64),
    ) -> Result<()> {
        let first = chunk * CHUNK;
        let names = &images[first..first + rows_of(chunk, images.len())];
        let encoded = extractor.encode(&data.dir, names, BATCH, advance)?;
        let bytes = encoded.pack(HashMap::from([
            ("blake3".to_string(), encoded.digest(&self.chunk_id(chunk))),
            ("encoder".to_string(), extractor.id().to_string()),
            ("seconds".to_string(), encoded.seconds.to_string()),
        ]))?;
        atomic::write(&self.path(chunk), &bytes)
    }

    fn open(self, images: &[String]) -> Result<CachedFeatures> {
        let mut chunks: Vec<CachedChunk> = Vec::with_capacity(self.chunks.len());
        for (number, chunk) in self.chunks.into_iter().enumerate() {
            let chunk = chunk.ok_or_else(|| {
                Error::failed(format!(
                    "file {number} of the cached features {} was removed {ROUNDS} times before it was opened",
                    self.dir.display()
                ))
                .hint("another program removes files from the cache: set BURGESS_CACHE to another directory")
            })?;
            if chunks.first().is_some_and(|first| chunk.shape[1..] != first.shape[1..] || chunk.grid != first.grid) {
                return Err(Error::failed(format!("the features in {} differ in shape", self.dir.display()))
                    .hint("remove this directory and run the command again"));
            }
            chunks.push(chunk);
        }
        let seconds: f64 = chunks.iter().map(|c| c.seconds).sum();
        let ([_, tokens, width], grid) = chunks.first().map_or(([0; 3], [0; 2]), |c| (c.shape, c.grid));
        Ok(CachedFeatures {
            images_per_second: images.len() as f64 / seconds,
            chunks,
            grid,
            tokens,
            width,
            _in_use: self.lock,
        })
    }
}
