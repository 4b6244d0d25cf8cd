//! The entry of one key: its directory, and the chunks in it.

use super::in_use::InUse;
use super::{BATCH, CHUNK, CachedFeatures, ROUNDS, rows_of};
use crate::data::DataDirectory;
use crate::features::encode::{self, FeatureExtractor};
use crate::machine::lease::{Attempt, Lease, Owner};
use burgess_base::{Context, Error, Result, atomic, process};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A chunk that is mapped into memory and whose digest is right.
pub(super) struct CachedChunk {
    pub(super) map: Mmap,
    pub(super) offset: usize,
    pub(super) shape: [usize; 3],
    pub(super) grid: [usize; 2],
    pub(super) seconds: f64,
    /// Process and device that wrote it; empty if an earlier version wrote it.
    pub(super) writer: String,
}

impl CachedChunk {
    /// The features of the image in this row as little-endian f32; `None` if there is no such row.
    pub(super) fn row(&self, row: usize) -> Option<&[u8]> {
        let size = self.shape[1] * self.shape[2] * 4;
        let first = self.offset + row * size;
        if row < self.shape[0] { self.map.get(first..first + size) } else { None }
    }
}

/// What became of a chunk that was missing.
pub(super) enum ChunkOutcome {
    /// This process encoded it.
    Encoded,
    /// Another process has written it since this one looked.
    Found,
    /// Another process is encoding it; its name.
    Busy(String),
}

/// The directory of one key, which is not evicted while this value lives.
pub(super) struct CacheEntry {
    pub(super) key: String,
    pub(super) dir: PathBuf,
    pub(super) in_use: InUse,
    /// What determines the bits of the features beside the encoder: the device ([`crate::machine::device`]).
    pub(super) device: String,
    /// Chunks by index; `None` if not opened yet.
    pub(super) chunks: Vec<Option<CachedChunk>>,
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
    pub(super) fn open_chunks(&mut self, images: usize) -> Vec<(usize, Option<Error>)> {
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
        let grid = [u64::from_le_bytes(g0) as usize, u64::from_le_bytes(g1) as usize];
        let shape = [rows, tokens, width];
        let named = |name: &str| metadata.metadata().as_ref().and_then(|m| m.get(name)).cloned();
        let seconds = named("seconds").and_then(|s| s.parse().ok()).unwrap_or(f64::NAN);
        let (written, writer) = (named("blake3"), named("writer").unwrap_or_default());
        let written = written.ok_or_else(|| invalid("it has no digest, as files of earlier versions".into()))?;
        if encode::digest(&self.chunk_id(chunk), shape, grid, features.data()) != written {
            return Err(invalid("its digest differs from the one that was written: the file is damaged".into()));
        }
        let offset = 8 + header + info;
        Ok(CachedChunk { map, offset, shape, grid, seconds, writer })
    }

    /// Path of the lease of the process that encodes a chunk.
    fn writer(&self, chunk: usize) -> PathBuf {
        self.dir.join("writers").join(format!("{chunk:05}"))
    }

    /// Returns the process that encodes a chunk at present.
    pub(super) fn owner(&self, chunk: usize) -> Result<Option<Owner>> {
        Lease::owner(&self.writer(chunk))
    }

    /// Encodes a chunk, unless another process is encoding it or has written it. `extractor` is called only if this
    /// process encodes it. If two processes encode the same chunk nevertheless, the file of the first stays: a file
    /// that other machines have mapped into memory is never replaced.
    pub(super) fn compute(
        &self,
        chunk: usize,
        extractor: impl FnOnce() -> Result<Arc<FeatureExtractor>>,
        data: &DataDirectory,
        images: &[String],
        advance: &dyn Fn(u64),
    ) -> Result<ChunkOutcome> {
        let lease = match Lease::attempt(&self.writer(chunk))? {
            Attempt::Busy(owner) => return Ok(ChunkOutcome::Busy(owner.to_string())),
            Attempt::Acquired(lease) => lease,
        };
        let found = self.open_chunk(chunk, images.len()).is_ok();
        if !found {
            let first = chunk * CHUNK;
            let names = &images[first..first + rows_of(chunk, images.len())];
            let extractor = extractor()?;
            let encoded = extractor.encode(&data.dir, names, BATCH, advance)?;
            let writer = format!("{}:{} on {}", process::host(), std::process::id(), self.device);
            let bytes = encoded.pack(HashMap::from([
                ("blake3".to_string(), encoded.digest(&self.chunk_id(chunk))),
                ("encoder".to_string(), extractor.id().to_string()),
                ("seconds".to_string(), encoded.seconds.to_string()),
                ("writer".to_string(), writer),
            ]))?;
            let created = atomic::create(&self.path(chunk), &bytes)?;
            if !created && self.open_chunk(chunk, images.len()).is_err() {
                // A damaged file, which nobody has mapped.
                atomic::write(&self.path(chunk), &bytes)?;
            }
        }
        // The chunk is there: nobody takes this lease again.
        lease.remove();
        Ok(if found { ChunkOutcome::Found } else { ChunkOutcome::Encoded })
    }

    /// Makes the features of all chunks, which must be open.
    ///
    /// # Errors
    /// A chunk is not open, or chunks differ in shape.
    pub(super) fn open(self, images: &[String]) -> Result<CachedFeatures> {
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
            _in_use: self.in_use,
        })
    }
}
