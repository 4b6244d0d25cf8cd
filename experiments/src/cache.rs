//! The feature cache: what a frozen encoder makes of a picture is computed once, by whichever run, study
//! or process comes first, and mapped by all others.
//!
//! `CACHE/features/<key>/<chunk>.safetensors` holds `features` [pictures, tokens, width] f32 and `grid` [2].
//! The key is a digest of everything that can change a feature: weights, card (architecture, preprocessing,
//! tap), data, device, and the version of this code. Chunks appear whole or not at all, so an interrupted
//! pass continues with the next chunk.

use crate::arm::ArmEncoder;
use crate::data::DataDir;
use crate::features;
use crate::progress::Progress;
use crate::run::Instrument;
use crate::workers::{self, Share};
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::encoder::Encoder;
use burn::tensor::{Device, Tensor, TensorData};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Pictures a chunk holds: a few seconds of work are lost at an interruption, and the memory for the
/// largest real encoder (1024 tokens × 3520) stays under 2 GB.
const CHUNK: usize = 128;
/// Pictures a forward pass takes.
const BATCH: usize = 16;
/// Changes when this crate or the encoder code gives other features for the same key otherwise.
const VERSION: u32 = 1;

/// The cache's directory and size limit.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    root: PathBuf,
    limit: u64,
}

/// The features of one encoder for all pictures of a data directory, mapped.
pub struct Cached {
    chunks: Vec<Chunk>,
    index: HashMap<String, usize>,
    /// Rows and columns of the token grid.
    pub grid: [usize; 2],
    /// Tokens of a picture.
    pub tokens: usize,
    /// Width of a token.
    pub width: usize,
    /// Pictures encoded per second, when they were encoded.
    pub images_per_second: f64,
    /// Held so that no other process evicts what is being read.
    _in_use: File,
}

struct Chunk {
    map: Mmap,
    offset: usize,
    rows: usize,
    seconds: f64,
}

impl Cached {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The number of a picture by its path relative to the data directory.
    pub fn number(&self, picture: &str) -> Result<usize> {
        self.index.get(picture).copied().ok_or_else(|| {
            Error::failed(format!("there are no features of the picture {picture}"))
                .hint("the data directory changed while the study ran: run the command again")
        })
    }

    /// Features of some pictures: [pictures, tokens, width] f32 on `device`.
    pub fn batch(&self, pictures: &[usize], device: &Device) -> Result<Tensor<3>> {
        let size = self.tokens * self.width;
        let mut values = Vec::with_capacity(pictures.len() * size);
        for &picture in pictures {
            let (chunk, row) = (picture / CHUNK, picture % CHUNK);
            let bytes = self
                .chunks
                .get(chunk)
                .filter(|c| row < c.rows)
                .and_then(|c| c.map.get(c.offset + row * size * 4..c.offset + (row + 1) * size * 4))
                .ok_or_else(|| Error::failed(format!("there is no picture number {picture} in the feature cache")))?;
            values.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
        Ok(Tensor::from_data(TensorData::new(values, [pictures.len(), self.tokens, self.width]), device))
    }
}

/// One encoder whose features are wanted.
pub struct Wanted<'a> {
    pub encoder: &'a ArmEncoder,
    pub card: &'a EncoderCard,
    pub weights_digest: String,
}

impl FeatureCache {
    /// The cache under `root` (made when missing), holding at most about `limit` bytes.
    pub fn open(root: &Path, limit: u64) -> Result<Self> {
        let root = root.join("features");
        fs::create_dir_all(&root).with_context(|| format!("making the feature cache {}", root.display()))?;
        Ok(Self { root, limit })
    }

    /// Features of every wanted encoder for all `pictures` (paths relative to the data directory), encoding
    /// what is not there yet, several chunks at once. One encoder's failure leaves the others alone.
    pub fn features(
        &self,
        wanted: &[Wanted<'_>],
        place: &Instrument,
        share: Share,
        progress: &Progress,
    ) -> Result<Vec<Result<Cached>>> {
        let Instrument { data, pictures, device, device_name, .. } = place;
        let entries: Vec<Result<Entry>> =
            wanted.iter().map(|w| self.entry(w, data, pictures.len(), device_name)).collect();
        let mut tasks = Vec::new();
        let mut failures: BTreeMap<usize, Error> = BTreeMap::new();
        for (number, entry) in entries.iter().enumerate() {
            if let Ok(entry) = entry {
                for chunk in 0..pictures.len().div_ceil(CHUNK) {
                    if entry.open_chunk(chunk, pictures.len()).is_err() {
                        tasks.push((number, chunk));
                    }
                }
            }
        }
        if !tasks.is_empty() {
            let images: usize = tasks.iter().map(|(_, c)| rows_of(*c, pictures.len())).sum();
            let bar = progress.bar("encoding pictures", images as u64);
            let encoders: std::collections::BTreeSet<usize> = tasks.iter().map(|(n, _)| *n).collect();
            let loaded: Vec<Mutex<Loaded>> = (0..wanted.len())
                .map(|n| Mutex::new(Loaded { left: tasks.iter().filter(|(m, _)| *m == n).count(), encoder: None }))
                .collect();
            let outcomes = workers::each(share, tasks.clone(), |(number, chunk)| {
                let (w, Ok(entry)) = (&wanted[number], &entries[number]) else {
                    return Err(Error::failed("no cache entry"));
                };
                bar.message(&format!("encoding pictures with {}", w.encoder.name()));
                let encoder = Loaded::take(&loaded[number], w, device)?;
                entry.compute(&encoder, chunk, data, pictures, &|n| bar.add(n))
            })?;
            for ((number, _), outcome) in tasks.iter().zip(outcomes) {
                if let Err(e) = outcome {
                    failures.entry(*number).or_insert(e);
                }
            }
            bar.done(&format!("encoded {images} pictures with {} encoders", encoders.len()));
        }
        let found = entries
            .into_iter()
            .enumerate()
            .map(|(number, entry)| {
                let entry = entry?;
                match failures.remove(&number) {
                    Some(e) => Err(e.context(format!("encoding pictures with {}", wanted[number].encoder.name()))),
                    None => entry.open(pictures),
                }
            })
            .collect();
        self.evict(progress);
        Ok(found)
    }

    fn entry(&self, wanted: &Wanted<'_>, data: &DataDir, pictures: usize, device_name: &str) -> Result<Entry> {
        let what = json!({
            "version": VERSION,
            "encoder": wanted.card.id,
            "weights": wanted.weights_digest,
            "architecture": wanted.card.architecture,
            "preprocess": wanted.card.preprocess,
            "tap": wanted.card.tap,
            "grid": wanted.card.grid,
            "data": data.digest,
            "pictures": pictures,
            "device": device_name,
        });
        let dir = self.root.join(digest::of_value(&what)?);
        let step = || format!("opening the cached features {}", dir.display());
        fs::create_dir_all(&dir).with_context(step)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(dir.join(".lock")).with_context(step)?;
        lock.lock_shared().with_context(step)?;
        // The time of this file is the time of the last use, by which entries are evicted.
        atomic::write_json(&dir.join("what.json"), &what)?;
        Ok(Entry { dir, lock })
    }

    /// Bytes the cache holds.
    pub fn size(&self) -> u64 {
        self.entries().iter().map(|(_, size, _)| size).sum()
    }

    /// Time of the last use, size and directory of every entry, oldest first. Entries that another process
    /// is just removing count as empty.
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

    /// Removes the entries not used for the longest time until the cache is within its limit. Entries in use
    /// by any process stay.
    fn evict(&self, progress: &Progress) {
        let entries = self.entries();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, dir) in entries {
            if total <= self.limit {
                return;
            }
            let unused = File::options().write(true).open(dir.join(".lock")).is_ok_and(|lock| lock.try_lock().is_ok());
            if unused && fs::remove_dir_all(&dir).is_ok() {
                total -= size;
            }
        }
        if total > self.limit {
            progress.line(&format!(
                "note: the feature cache holds {:.1} GB in use, more than its limit of {:.1} GB (BURGESS_CACHE_GB)",
                total as f64 / 1e9,
                self.limit as f64 / 1e9
            ));
        }
    }
}

fn rows_of(chunk: usize, pictures: usize) -> usize {
    (pictures - chunk * CHUNK).min(CHUNK)
}

/// An encoder between its first and its last chunk; the others take no memory.
struct Loaded {
    /// Chunks not yet begun.
    left: usize,
    encoder: Option<Arc<Encoder>>,
}

impl Loaded {
    /// The encoder for one more chunk, loaded for the first and let go with the last.
    fn take(place: &Mutex<Self>, wanted: &Wanted<'_>, device: &Device) -> Result<Arc<Encoder>> {
        let mut this = place.lock().unwrap_or_else(PoisonError::into_inner);
        this.left = this.left.saturating_sub(1);
        let encoder = match this.encoder.take() {
            Some(encoder) => encoder,
            None => Arc::new(wanted.encoder.load(wanted.card.clone(), device)?),
        };
        if this.left > 0 {
            this.encoder = Some(encoder.clone());
        }
        Ok(encoder)
    }
}

/// The directory of one key, in use while this value lives.
struct Entry {
    dir: PathBuf,
    lock: File,
}

impl Entry {
    fn path(&self, chunk: usize) -> PathBuf {
        self.dir.join(format!("{chunk:05}.safetensors"))
    }

    fn open_chunk(&self, chunk: usize, pictures: usize) -> Result<(Chunk, [usize; 3], [usize; 2])> {
        let path = self.path(chunk);
        let step = || format!("reading {}", path.display());
        let file = File::open(&path).with_context(step)?;
        // SAFETY: cache files are only ever replaced by renaming and removed by unlinking, so a mapped file
        // never changes under the map.
        let map = unsafe { Mmap::map(&file) }.with_context(step)?;
        let invalid = |e: String| Error::failed(e).context(step());
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| invalid(e.to_string()))?;
        let tensors = SafeTensors::deserialize(&map).map_err(|e| invalid(e.to_string()))?;
        let features = tensors.tensor("features").map_err(|e| invalid(e.to_string()))?;
        let grid = tensors.tensor("grid").map_err(|e| invalid(e.to_string()))?;
        let (&[rows, tokens, width], Dtype::F32, &[g0, g1, ..]) =
            (features.shape(), features.dtype(), grid.data().as_chunks::<8>().0)
        else {
            return Err(invalid("this is not a chunk of features".into()));
        };
        if rows != rows_of(chunk, pictures) {
            return Err(invalid(format!("{rows} pictures instead of {}", rows_of(chunk, pictures))));
        }
        let info = metadata.info("features").map(|i| i.data_offsets.0).unwrap_or(0);
        let seconds = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get("seconds"))
            .and_then(|s| s.parse().ok())
            .unwrap_or(f64::NAN);
        let grid = [u64::from_le_bytes(g0) as usize, u64::from_le_bytes(g1) as usize];
        let offset = 8 + header + info;
        Ok((Chunk { map, offset, rows, seconds }, [rows, tokens, width], grid))
    }

    fn compute(
        &self,
        encoder: &Encoder,
        chunk: usize,
        data: &DataDir,
        pictures: &[String],
        advance: &dyn Fn(u64),
    ) -> Result<()> {
        let first = chunk * CHUNK;
        let names = &pictures[first..first + rows_of(chunk, pictures.len())];
        let encoded = features::encode(encoder, &data.dir, names, BATCH, advance)?;
        let bytes = encoded.pack(HashMap::from([
            ("encoder".to_string(), encoder.card.id.clone()),
            ("seconds".to_string(), encoded.seconds.to_string()),
        ]))?;
        atomic::write(&self.path(chunk), &bytes)
    }

    fn open(self, pictures: &[String]) -> Result<Cached> {
        let mut chunks = Vec::new();
        let mut shape = [0, 0, 0];
        let mut grid = [0, 0];
        for chunk in 0..pictures.len().div_ceil(CHUNK) {
            let (c, s, g) = self.open_chunk(chunk, pictures.len())?;
            if chunk > 0 && (s[1..] != shape[1..] || g != grid) {
                return Err(Error::failed(format!("the chunks in {} differ in shape", self.dir.display()))
                    .hint("remove this directory and run the command again"));
            }
            (shape, grid) = (s, g);
            chunks.push(c);
        }
        let seconds: f64 = chunks.iter().map(|c| c.seconds).sum();
        Ok(Cached {
            index: pictures.iter().enumerate().map(|(i, p)| (p.clone(), i)).collect(),
            images_per_second: pictures.len() as f64 / seconds,
            chunks,
            grid,
            tokens: shape[1],
            width: shape[2],
            _in_use: self.lock,
        })
    }
}
