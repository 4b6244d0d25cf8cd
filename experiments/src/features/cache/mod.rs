//! The feature cache: a frozen encoder encodes each image once, in whichever run, study or process needs it first, and
//! all others map the stored features into memory.
//!
//! `CACHE/features/<key>/<chunk>.safetensors` holds `features` [images, tokens, width] f32 and `grid` `[2]` u64. The
//! key is a digest of everything that can change a feature: weights and card (architecture, preprocessing, tap) or the
//! oracle's ground truth, data, the device with its driver and libraries, and the version of this code; `what.json`
//! says it in words. Chunks are written atomically, so an interrupted pass resumes with the next chunk. Each chunk has
//! a digest that is compared when it is opened; a chunk that is damaged, or removed before it is opened, is encoded
//! again.
//!
//! Any number of processes, also on several machines that share a file system, use and fill the cache at once. A
//! process takes a lease on a chunk while it encodes it; the others take other chunks and wait for those of others at
//! the end. What another process wrote is compared with one image that is encoded again ([`sample_check`]).

mod entry;
mod in_use;
mod sample_check;

use crate::data::DataDirectory;
use crate::features::card::ArmCard;
use crate::features::encode::FeatureExtractor;
use crate::features::image_set::ImageSet;
use crate::features::prepared::PreparedEncoder;
use crate::machine::progress::{Bar, Progress};
use crate::machine::workers::{self, Workers};
use crate::machine::{heap, lease, stop};
use crate::study::ORACLE;
use burgess_base::{Context, Error, ErrorKind, Result, atomic, digest, temporary};
use burgess_encoders::transfer;
use burn::tensor::{Device, Tensor, TensorData};
use entry::{CacheEntry, CachedChunk, ChunkOutcome};
use in_use::InUse;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// Mark of the entry, so that no process evicts it.
    _in_use: InUse,
}

impl CachedFeatures {
    /// Number of images.
    pub fn images(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.shape[0]).sum()
    }

    /// Features of some images: [images, tokens, width] f32 on `device`.
    pub fn batch(&self, images: &[usize], device: &Device) -> Result<Tensor<3>> {
        let mut values = Vec::with_capacity(images.len() * self.tokens * self.width);
        for &image in images {
            let (chunk, row) = (image / CHUNK, image % CHUNK);
            let bytes = self
                .chunks
                .get(chunk)
                .and_then(|c| c.row(row))
                .ok_or_else(|| Error::failed(format!("the feature cache has no image with index {image}")))?;
            values.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
        Ok(transfer::to_device(TensorData::new(values, [images.len(), self.tokens, self.width]), device))
    }
}

impl FeatureCache {
    /// Opens the cache under `root`, creating it if needed, with a size limit of about `limit` bytes.
    pub fn open(root: &Path, limit: u64) -> Result<Self> {
        let root = root.join("features");
        fs::create_dir_all(&root).with_context(|| format!("making the feature cache {}", root.display()))?;
        temporary::remove_stale(&root, 2);
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
        let ImageSet { data, images, fingerprint, .. } = set;
        let mut entries: Vec<Result<CacheEntry>> =
            encoders.iter().map(|e| self.entry(e, data, images, fingerprint)).collect();
        if entries.iter().flatten().any(|entry| !entry.in_use.is_marked()) {
            progress.line(&format!(
                "note: {} cannot be written: its features are used, and another process does not know it when it \
                 removes old ones",
                self.root.display()
            ));
        }
        // Chunks that this process encoded, by encoder, each with the number of times.
        let mut own: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
        let (_section, clock) = (stop::section()?, Instant::now());
        let mut waiting = Waiting::new(progress);
        for round in 0.. {
            let mut tasks = Vec::new();
            for (number, entry) in entries.iter_mut().enumerate() {
                let Ok(entry) = entry else { continue };
                let left = entry.open_chunks(images.len());
                if let (true, Some(note)) = (round == 0, damaged(&left)) {
                    progress.line(&format!("note: features of {}: {note}", encoders[number].encoder.name()));
                }
                tasks.extend(left.iter().map(|(chunk, _)| (number, *chunk)));
            }
            let times = |number, chunk| own.get(&number).and_then(|o| o.get(&chunk)).copied().unwrap_or(0);
            tasks.retain(|(number, chunk)| times(*number, *chunk) < ROUNDS);
            if tasks.is_empty() {
                break;
            }
            let mut busy = waiting.still_busy(&entries, &mut tasks)?;
            for (number, chunk, outcome) in encode_chunks(encoders, &entries, tasks, set, workers, progress)? {
                match outcome {
                    Ok(ChunkOutcome::Encoded) => *own.entry(number).or_default().entry(chunk).or_default() += 1,
                    Ok(ChunkOutcome::Found) => {}
                    Ok(ChunkOutcome::Busy(owner)) => busy.push(owner),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => {
                        let step = format!("encoding images with {}", encoders[number].encoder.name());
                        entries[number] = Err(e.context(step));
                    }
                }
            }
            waiting.pause(&entries, busy)?;
        }
        drop(waiting);
        if !own.is_empty() {
            let images: usize =
                own.values().flatten().map(|(chunk, times)| times * rows_of(*chunk, images.len())).sum();
            let (encoders, seconds) = (own.len(), clock.elapsed().as_secs_f64());
            progress.line(&format!("encoded {images} images with {encoders} encoders in {seconds:.1} s"));
            heap::return_freed_memory();
        }
        check_samples(encoders, &mut entries, &own, set, workers)?;
        let found = entries.into_iter().map(|entry| entry?.open(images)).collect();
        self.evict(progress);
        Ok(found)
    }

    /// Returns the features of an encoder for all images if they are in the cache already; computes nothing.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn find(&self, encoder: &PreparedEncoder, set: ImageSet<'_>) -> Result<Option<CachedFeatures>> {
        let ImageSet { data, images, fingerprint, .. } = set;
        let key = digest::of_value(&describe(encoder, data, images, fingerprint)?)?;
        if !self.root.join(key).is_dir() {
            return Ok(None);
        }
        let mut entry = self.entry(encoder, data, images, fingerprint)?;
        if entry.open_chunks(images.len()).is_empty() { entry.open(images).map(Some) } else { Ok(None) }
    }

    fn entry(
        &self,
        encoder: &PreparedEncoder,
        data: &DataDirectory,
        images: &[String],
        fingerprint: &str,
    ) -> Result<CacheEntry> {
        let what = describe(encoder, data, images, fingerprint)?;
        let key = digest::of_value(&what)?;
        let dir = self.root.join(&key);
        let in_use = InUse::mark(&self.root, &dir)
            .map_err(|e| e.context(format!("opening the cached features {}", dir.display())))?;
        // The modification time of this file is the time of last use, by which entries are evicted.
        if in_use.is_marked() {
            atomic::write_json(&dir.join("what.json"), &what)?;
        }
        let chunks = (0..images.len().div_ceil(CHUNK)).map(|_| None).collect();
        Ok(CacheEntry { key, dir, in_use, device: fingerprint.to_string(), chunks })
    }
}

/// Describes what an entry of the cache holds; its digest is the entry's name.
fn describe(encoder: &PreparedEncoder, data: &DataDirectory, images: &[String], fingerprint: &str) -> Result<Value> {
    // Features are addressed by image index, so other benchmarks, or another order, need another entry.
    let (data, images_digest) = (&data.digest, digest::of_value(&images)?);
    Ok(match &encoder.card {
        ArmCard::Encoder(card) => {
            let mut what = json!({
                "version": VERSION,
                "encoder": card.id,
                "weights": encoder.weights_digest,
                "architecture": card.architecture,
                "preprocess": card.preprocess,
                "tap": card.tap,
                "grid": card.grid,
                "data": data,
                "pictures": images_digest,
                "device": fingerprint,
            });
            // Absent unless set, so that entries of other encoders keep their keys.
            if let Some(tiling) = &card.tiling {
                what["tiling"] = json!(tiling);
            }
            if let Some(norm) = card.normalise {
                what["normalise"] = json!(norm);
            }
            if !card.precision.is_f32() {
                what["precision"] = json!(card.precision);
            }
            what
        }
        // The oracle's card holds the digest of the ground truth.
        ArmCard::Oracle(card) => json!({
            "version": VERSION,
            "encoder": ORACLE,
            "oracle": card,
            "data": data,
            "pictures": images_digest,
            "device": fingerprint,
        }),
    })
}

/// Describes chunks that exist but cannot be used; `None` if there are none.
fn damaged(left: &[(usize, Option<Error>)]) -> Option<String> {
    let bad: Vec<&Error> = left.iter().filter_map(|(_, e)| e.as_ref()).collect();
    let first = bad.first()?;
    Some(format!("{} files of the cache cannot be used and are computed again (first: {first})", bad.len()))
}

/// Computes chunks, several at once, except those that other processes compute; returns the outcome of each.
fn encode_chunks(
    encoders: &[&PreparedEncoder],
    entries: &[Result<CacheEntry>],
    tasks: Vec<(usize, usize)>,
    set: ImageSet<'_>,
    workers: &Workers,
    progress: &Progress,
) -> Result<Vec<(usize, usize, Result<ChunkOutcome>)>> {
    let ImageSet { data, images, devices, .. } = set;
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let left: usize = tasks.iter().map(|(_, c)| rows_of(*c, images.len())).sum();
    let bar = progress.bar("encoding images", left as u64);
    let loaded: Vec<LoadedEncoder> = (0..encoders.len())
        .map(|n| LoadedEncoder::new(tasks.iter().filter(|(m, _)| *m == n).count(), devices.len()))
        .collect();
    let outcomes = workers::each_on(workers, tasks.clone(), |on, (number, chunk)| {
        stop::check()?;
        let (encoder, Ok(entry)) = (&encoders[number], &entries[number]) else {
            return Err(Error::failed(format!("the feature cache has no entry for encoder number {number}")));
        };
        bar.message(&format!("encoding images with {}", encoder.encoder.name()));
        let _counted = loaded[number].count();
        let extractor = || loaded[number].get(encoder, &data.dir, devices, on);
        entry.compute(chunk, extractor, data, images, &|n| bar.add(n))
    })?;
    // Encoded chunks are kept; the next start of the command encodes the rest.
    stop::check()?;
    Ok(tasks.into_iter().zip(outcomes).map(|((number, chunk), outcome)| (number, chunk, outcome)).collect())
}

/// Waits for chunks that other processes encode, and says so.
struct Waiting<'a> {
    progress: &'a Progress,
    /// Display of the wait; `None` while there is something else to do.
    bar: Option<Bar>,
    told: bool,
    pause: Duration,
}

impl<'a> Waiting<'a> {
    /// Longest time between two looks.
    const LONGEST: Duration = Duration::from_secs(1);

    fn new(progress: &'a Progress) -> Self {
        Self { progress, bar: None, told: false, pause: Duration::from_millis(20) }
    }

    /// While this process waits, removes the chunks from `tasks` that others still encode; returns who does.
    fn still_busy(&self, entries: &[Result<CacheEntry>], tasks: &mut Vec<(usize, usize)>) -> Result<Vec<String>> {
        let mut owners = Vec::new();
        if self.bar.is_some() {
            let mut free = Vec::new();
            for (number, chunk) in tasks.drain(..) {
                match entries.get(number).and_then(|e| e.as_ref().ok()).map(|e| e.owner(chunk)).transpose()?.flatten() {
                    Some(owner) => owners.push(owner.to_string()),
                    None => free.push((number, chunk)),
                }
            }
            *tasks = free;
        }
        Ok(owners)
    }

    /// Waits a little if `owners` encode what is left.
    fn pause(&mut self, entries: &[Result<CacheEntry>], mut owners: Vec<String>) -> Result<()> {
        owners.sort();
        owners.dedup();
        if owners.is_empty() {
            return Ok(());
        }
        let what = format!("waiting for images that other processes encode: {}", owners.join(", "));
        if !std::mem::replace(&mut self.told, true) {
            self.progress.line(&what);
        }
        self.bar.get_or_insert_with(|| self.progress.bar(&what, 0)).message(&what);
        std::thread::sleep(self.pause);
        self.pause = (2 * self.pause).min(Self::LONGEST);
        for entry in entries.iter().flatten() {
            lease::refresh(&entry.dir)?;
        }
        stop::check()
    }
}

/// Encodes an image of each entry that another process wrote again; an entry whose features differ becomes an error.
fn check_samples(
    encoders: &[&PreparedEncoder],
    entries: &mut [Result<CacheEntry>],
    own: &BTreeMap<usize, BTreeMap<usize, usize>>,
    set: ImageSet<'_>,
    workers: &Workers,
) -> Result<()> {
    let none = BTreeMap::new();
    let mut samples = Vec::new();
    for (number, (encoder, entry)) in encoders.iter().zip(entries.iter()).enumerate() {
        let Ok(entry) = entry else { continue };
        let sample = sample_check::choose(entry, encoder, own.get(&number).unwrap_or(&none));
        samples.extend(sample.map(|sample| (number, entry, sample)));
    }
    let numbers: Vec<usize> = samples.iter().map(|(number, ..)| *number).collect();
    let outcomes = workers::each_on(workers, samples, |on, (number, entry, sample)| {
        stop::check()?;
        sample_check::check(entry, encoders[number], &sample, set, on)
    })?;
    stop::check()?;
    for (number, outcome) in numbers.into_iter().zip(outcomes) {
        if let Err(e) = outcome {
            entries[number] = Err(e);
        }
    }
    Ok(())
}

fn rows_of(chunk: usize, images: usize) -> usize {
    (images - chunk * CHUNK).min(CHUNK)
}

/// An encoder that is loaded only between its first and its last chunk, to save memory.
struct LoadedEncoder {
    /// Number of chunks not yet done, on any device.
    left: AtomicUsize,
    /// The encoder on each device; `None` where it is not loaded.
    extractors: Vec<Mutex<Option<Arc<FeatureExtractor>>>>,
}

impl LoadedEncoder {
    fn new(chunks: usize, devices: usize) -> Self {
        Self { left: AtomicUsize::new(chunks), extractors: (0..devices).map(|_| Mutex::default()).collect() }
    }

    /// Counts a chunk. Once the returned value of the last one is dropped, so is the encoder, on all devices.
    fn count(&self) -> CountedChunk<'_> {
        CountedChunk(self)
    }

    /// Returns the encoder on the device with index `on`; loads it for the device's first chunk.
    fn get(
        &self,
        encoder: &PreparedEncoder,
        data: &Path,
        devices: &[Device],
        on: usize,
    ) -> Result<Arc<FeatureExtractor>> {
        let (Some(device), Some(slot)) = (devices.get(on), self.extractors.get(on)) else {
            return Err(Error::failed(format!("there is no device number {on} for the encoder")));
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let extractor = match slot.take() {
            Some(extractor) => extractor,
            None => Arc::new(FeatureExtractor::open(&encoder.encoder, &encoder.card, data, device)?),
        };
        *slot = Some(extractor.clone());
        Ok(extractor)
    }
}

/// A chunk that is begun, whether this process encodes it or another one does.
struct CountedChunk<'a>(&'a LoadedEncoder);

impl Drop for CountedChunk<'_> {
    fn drop(&mut self) {
        if self.0.left.fetch_sub(1, Ordering::Relaxed) <= 1 {
            for slot in &self.0.extractors {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
