//! Images that repeat others, by their difference hashes.

use crate::page::Page;
use burgess_base::{Context, Error, Result};
use burgess_images::DifferenceHash;
use burgess_leaks::HashIndex;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Side of the hashes in pixels.
pub(super) const SIDE: usize = 8;

/// The images of a shard so far, and those of other shards.
pub(super) struct NearIndex {
    distance: u32,
    known: HashIndex,
    /// Files of the known images, by their numbers in the index.
    known_from: Vec<(usize, String)>,
    files: Vec<PathBuf>,
    /// The hashes of this shard with the addresses of their images. A shard has thousands, so that comparing all takes
    /// less time than decoding one image.
    own: Vec<(DifferenceHash, String)>,
    digests: HashMap<String, String>,
}

impl std::fmt::Debug for NearIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NearIndex({} known, {} own)", self.known_from.len(), self.own.len())
    }
}

impl NearIndex {
    /// Reads the hashes in files of this stage.
    ///
    /// # Errors
    /// A file cannot be read, or a line is no page.
    pub fn read(files: &[PathBuf], distance: u32) -> Result<Self> {
        let mut hashed = Vec::new();
        let mut known_from = Vec::new();
        let mut digests = HashMap::new();
        for (number, path) in files.iter().enumerate() {
            each_page(path, &mut |page| {
                for figure in page.figures() {
                    let Some(stored) = &figure.stored else { continue };
                    let hash = DifferenceHash::from_hex(&stored.dhash, SIDE)?;
                    if !hash.is_zero() {
                        hashed.push((hash, u32::try_from(known_from.len()).unwrap_or(u32::MAX)));
                        known_from.push((number, figure.image.clone()));
                    }
                    digests.insert(stored.digest.clone(), figure.image.clone());
                }
                Ok(())
            })?;
        }
        let known = HashIndex::new(hashed, distance);
        Ok(Self { distance, known, known_from, files: files.to_vec(), own: Vec::new(), digests })
    }

    /// Returns the image that this one repeats. Images that appear blank at 9 × 8 pixels share a hash; of these only
    /// equal files repeat each other.
    pub fn repeats(&self, hash: &DifferenceHash, digest: &str) -> Option<String> {
        if let Some(other) = self.digests.get(digest) {
            return Some(other.clone());
        }
        if hash.is_zero() {
            return None;
        }
        let near = self.own.iter().find(|(other, _)| other.distance(hash) <= self.distance);
        if let Some((_, other)) = near {
            return Some(other.clone());
        }
        let first = self.known.near(hash).first().and_then(|(at, _)| self.known.images(*at).first().copied())?;
        let (file, image) = self.known_from.get(first as usize)?;
        let file = self.files.get(*file).map(|file| file.display().to_string()).unwrap_or_default();
        Some(format!("{image} in {file}"))
    }

    /// Adds an image of this shard.
    pub fn add(&mut self, hash: DifferenceHash, digest: String, address: String) {
        self.digests.insert(digest, address.clone());
        if !hash.is_zero() {
            self.own.push((hash, address));
        }
    }

    /// Adds the stored images of a page of this shard.
    ///
    /// # Errors
    /// A hash is malformed.
    pub fn add_page(&mut self, page: &Page) -> Result<()> {
        for figure in page.figures() {
            let Some(stored) = &figure.stored else { continue };
            let hash = DifferenceHash::from_hex(&stored.dhash, SIDE)?;
            self.add(hash, stored.digest.clone(), figure.image.clone());
        }
        Ok(())
    }
}

/// Reads the pages of a file.
fn each_page(path: &Path, each: &mut dyn FnMut(Page) -> Result<()>) -> Result<()> {
    let file = File::open(path).with_context(|| format!("reading {}", path.display()));
    let file = file.map_err(|e: Error| e.hint("check the paths in `known`"))?;
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("reading {}:{}", path.display(), at + 1);
        let line = line.with_context(place)?;
        if !line.trim().is_empty() {
            let page: Page = serde_json::from_str(&line).with_context(place)?;
            each(page).map_err(|e| e.context(place()))?;
        }
    }
    Ok(())
}
