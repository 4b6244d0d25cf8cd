//! Groups of similar texts, with signatures and bands in temporary files.

use super::minhash::{Bands, PERMUTATIONS, Signature, mix, similarity};
use burgess_base::temporary::TemporaryPath;
use burgess_base::{Context, Result};
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Size of a signature in its file, in bytes.
const SIGNATURE_BYTES: usize = PERMUTATIONS * 4;
/// Number of different texts with one band to which a further one is compared; more are rare at any useful similarity,
/// and comparing all would take a time that is quadratic in their number.
const MOST_COMPARED: usize = 32;

/// Texts whose similar ones are found.
pub struct SimilarTexts {
    similarity: f64,
    bands: Bands,
    // Before `directory`, so that the files are closed when it is removed.
    signatures: BufWriter<File>,
    keys: Vec<BufWriter<File>>,
    /// The number of each text's entry.
    entries: Vec<u32>,
    path: PathBuf,
    _directory: TemporaryPath,
}

impl SimilarTexts {
    /// Creates the temporary files below `scratch`; they are removed with this value.
    ///
    /// # Errors
    /// They cannot be created.
    pub fn create(similarity: f64, scratch: &Path) -> Result<Self> {
        let directory = TemporaryPath::beside(&scratch.join("minhash"));
        let path = directory.path().to_path_buf();
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        let bands = Bands::new(similarity);
        let create = |name: String| {
            let file = path.join(name);
            // Small buffers: there is one per band.
            File::create(&file)
                .map(|file| BufWriter::with_capacity(1 << 15, file))
                .with_context(|| format!("creating {}", file.display()))
        };
        let signatures = create("signatures".into())?;
        let keys = (0..bands.count).map(|band| create(format!("band-{band}"))).collect::<Result<_>>()?;
        Ok(Self { similarity, bands, signatures, keys, entries: Vec::new(), path, _directory: directory })
    }

    /// Adds a text; only those with the same `scope` are compared.
    ///
    /// # Errors
    /// A temporary file cannot be written.
    pub fn add(&mut self, entry: u32, scope: u64, signature: &Signature) -> Result<()> {
        let step = || format!("writing {}", self.path.display());
        let mut bytes = [0u8; SIGNATURE_BYTES];
        for (to, number) in bytes.chunks_exact_mut(4).zip(signature) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        self.signatures.write_all(&bytes).with_context(step)?;
        let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        for (file, key) in self.keys.iter_mut().zip(self.bands.keys(signature)) {
            file.write_all(&mix(key ^ mix(scope)).to_le_bytes()).with_context(step)?;
            file.write_all(&number.to_le_bytes()).with_context(step)?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Returns the entries that are similar to an earlier one, ascending; only those for which `alive` is true are
    /// compared. Of texts that are connected by similar pairs the first stays.
    ///
    /// # Errors
    /// A temporary file cannot be read.
    pub fn finish(mut self, alive: impl Fn(u32) -> bool) -> Result<Vec<u32>> {
        let step = || format!("reading {}", self.path.display());
        self.signatures.flush().with_context(step)?;
        let signatures = File::open(self.path.join("signatures")).with_context(step)?;
        let mut groups = Groups::new(self.entries.len());
        for (band, file) in self.keys.iter_mut().enumerate() {
            file.flush().with_context(step)?;
            let mut keys = read_keys(&self.path.join(format!("band-{band}"))).with_context(step)?;
            keys.retain(|(_, text)| self.entries.get(*text as usize).is_some_and(|entry| alive(*entry)));
            keys.sort_unstable();
            for run in keys.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
                let mut different: Vec<(u32, Signature)> = Vec::new();
                for (_, text) in run {
                    let known = different.iter().any(|(other, _)| groups.first(*other) == groups.first(*text));
                    if known || different.len() >= MOST_COMPARED {
                        continue;
                    }
                    let own = read_signature(&signatures, *text).with_context(step)?;
                    let similar = different.iter().find(|(_, other)| similarity(other, &own) >= self.similarity);
                    match similar.map(|(other, _)| *other) {
                        Some(other) => groups.join(other, *text),
                        None => different.push((*text, own)),
                    }
                }
            }
        }
        let later =
            (0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)).filter(|text| groups.first(*text) != *text);
        let mut removed: Vec<u32> = later.filter_map(|text| self.entries.get(text as usize)).copied().collect();
        removed.sort_unstable();
        Ok(removed)
    }
}

fn read_keys(path: &Path) -> std::io::Result<Vec<(u64, u32)>> {
    let file = File::open(path)?;
    let count = usize::try_from(file.metadata()?.len() / 12).unwrap_or(0);
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut keys = Vec::with_capacity(count);
    let mut record = [0u8; 12];
    loop {
        match reader.read_exact(&mut record) {
            Ok(()) => {
                let [a, b, c, d, e, f, g, h, i, j, k, l] = record;
                keys.push((u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l])));
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(keys),
            Err(e) => return Err(e),
        }
    }
}

fn read_signature(file: &File, text: u32) -> std::io::Result<Signature> {
    let mut bytes = [0u8; SIGNATURE_BYTES];
    file.read_exact_at(&mut bytes, u64::from(text) * SIGNATURE_BYTES as u64)?;
    let mut signature = [0; PERMUTATIONS];
    for (number, from) in signature.iter_mut().zip(bytes.chunks_exact(4)) {
        if let [a, b, c, d] = from {
            *number = u32::from_le_bytes([*a, *b, *c, *d]);
        }
    }
    Ok(signature)
}

/// Disjoint groups of numbers; the first of a group stands for it.
struct Groups(Vec<u32>);

impl Groups {
    fn new(count: usize) -> Self {
        Self((0..u32::try_from(count).unwrap_or(u32::MAX)).collect())
    }

    fn first(&mut self, of: u32) -> u32 {
        let mut at = of;
        loop {
            let parent = self.0.get(at as usize).copied().unwrap_or(at);
            if parent == at {
                return at;
            }
            // Halves the path for later calls.
            let above = self.0.get(parent as usize).copied().unwrap_or(parent);
            if let Some(own) = self.0.get_mut(at as usize) {
                *own = above;
            }
            at = above;
        }
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.first(a), self.first(b));
        if let Some(later) = self.0.get_mut(a.max(b) as usize) {
            *later = a.min(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MinHash, words};
    use super::*;

    #[test]
    fn the_first_of_similar_texts_stays() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let text = |changed: usize, of: &str| -> String {
            (0..40).map(|i| if i < changed { format!("{of}x{i} ") } else { format!("{of}{i} ") }).collect()
        };
        let texts =
            [text(0, "a"), text(0, "b"), text(1, "a"), text(2, "a"), text(30, "a"), text(0, "b"), String::new()];
        let minhash = MinHash::new(3);
        let mut found = SimilarTexts::create(0.8, dir.path())?;
        for (i, text) in texts.iter().enumerate() {
            let mut hashed = Vec::new();
            words(text, &mut hashed);
            found.add(10 * i as u32, 0, &minhash.signature(&hashed))?;
            // Another scope is not compared.
            found.add(10 * i as u32 + 1, 1 + i as u64, &minhash.signature(&hashed))?;
        }
        assert_eq!(found.finish(|_| true)?, [20, 30, 50]);
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 0, "temporary files are removed");
        Ok(())
    }
}
