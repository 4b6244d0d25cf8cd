//! Stores many examples in little memory, in a temporary memory-mapped file.
//!
//! The tokens of all examples are stored consecutively in the file, four bytes per token, whose highest bit is the loss
//! mask. Each example takes 24 bytes of memory: seven million (Cambrian-7M) take 170 MB, where lists of about 250 ids
//! each would take 9 GB. No conversation is tokenised twice, and files that can only be read sequentially (JSON arrays,
//! gzip, zstd) are read once.

use super::example::{Example, Examples, absent};
use burgess_base::{Context, Error, Result};
use memmap2::Mmap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The bit that marks a supervised token; no vocabulary has 2³¹ entries.
const SUPERVISED: u32 = 1 << 31;
/// The value for a missing image or placeholder index.
const NONE: u32 = u32::MAX;
/// Size of a token in bytes.
const WIDTH: usize = 4;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// The location of one example in the file.
#[derive(Debug, Clone, Copy)]
struct ExampleLocation {
    /// Index of its first token.
    start: u64,
    length: u32,
    image: u32,
    image_at: u32,
    supervised: bool,
}

/// Examples stored in a temporary file, which exists as long as this value.
#[derive(Debug)]
pub struct PackedExamples {
    locations: Vec<ExampleLocation>,
    /// The mapped tokens; `None` if there are none, because an empty file cannot be mapped.
    tokens: Option<Mmap>,
    _file: Temporary,
}

/// Builds [`PackedExamples`] from examples that are added one by one.
#[derive(Debug)]
pub struct ExamplePacker {
    locations: Vec<ExampleLocation>,
    end: u64,
    out: BufWriter<File>,
    file: Temporary,
}

/// A file that is removed when this value is dropped. On Unix the name is removed at once, so that not even a killed
/// process leaves a file behind.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // On Unix the name is removed already.
        let _ = fs::remove_file(&self.0);
    }
}

impl ExamplePacker {
    /// Creates an empty store with a temporary file in `dir`, which is created if missing.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn new(dir: &Path) -> Result<Self> {
        let step = || format!("creating a temporary file for the training examples in {}", dir.display());
        fs::create_dir_all(dir).with_context(step)?;
        let name = format!("examples-{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = dir.join(name);
        let file = File::options().create_new(true).read(true).write(true).open(&path).with_context(step)?;
        if cfg!(unix) {
            fs::remove_file(&path).with_context(step)?;
        }
        let out = BufWriter::new(file);
        Ok(Self { locations: Vec::new(), end: 0, out, file: Temporary(path) })
    }

    /// Adds an example to the end.
    ///
    /// # Errors
    /// When the disk is full, or a number is too large for the format.
    pub fn push(&mut self, example: &Example) -> Result<()> {
        let small = |n: Option<usize>| match n.map(u32::try_from) {
            None => Ok(NONE),
            Some(Ok(n)) if n != NONE => Ok(n),
            Some(_) => Err(Error::failed(format!(
                "an example has an image, placeholder or length above the maximum of {}",
                NONE - 1
            ))),
        };
        let length = example.ids.len().min(example.loss_mask.len());
        for (id, supervised) in example.ids.iter().zip(&example.loss_mask) {
            if id & SUPERVISED != 0 {
                return Err(Error::failed(format!("token id {id} is too large, must be below 2^31")));
            }
            let word = if *supervised { id | SUPERVISED } else { *id };
            self.out.write_all(&word.to_le_bytes()).context("writing the temporary file of training examples")?;
        }
        self.locations.push(ExampleLocation {
            start: self.end,
            length: small(Some(length))?,
            image: small(example.image)?,
            image_at: small(example.image_at)?,
            supervised: example.has_supervised_tokens(),
        });
        self.end += length as u64;
        Ok(())
    }

    /// Finishes writing and maps the file for reading.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn finish(self) -> Result<PackedExamples> {
        let step = "writing the temporary file of training examples";
        let file = self.out.into_inner().map_err(|e| Error::from(e.into_error())).context(step)?;
        let tokens = match self.end {
            0 => None,
            // SAFETY: this value owns the file exclusively, so nothing changes it while it is mapped.
            #[allow(unsafe_code, reason = "the file is not changed while it is mapped")]
            _ => Some(unsafe { Mmap::map(&file) }.context(step)?),
        };
        let Self { mut locations, file, .. } = self;
        locations.shrink_to_fit();
        Ok(PackedExamples { locations, tokens, _file: file })
    }
}

impl PackedExamples {
    /// Renumbers the images with `new`, and removes the examples whose image gets no number; returns the old numbers of
    /// their images.
    pub fn renumber(&mut self, new: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
        let mut lost = Vec::new();
        self.locations.retain_mut(|location| {
            if location.image == NONE {
                return true;
            }
            let number = new(location.image as usize).and_then(|n| u32::try_from(n).ok());
            match number {
                Some(number) => location.image = number,
                None => lost.push(location.image as usize),
            }
            number.is_some()
        });
        lost
    }
}

impl Examples for PackedExamples {
    fn len(&self) -> usize {
        self.locations.len()
    }

    fn length(&self, index: usize) -> usize {
        self.locations.get(index).map_or(0, |p| p.length as usize)
    }

    fn has_image(&self, index: usize) -> bool {
        self.locations.get(index).is_some_and(|p| p.image != NONE)
    }

    fn has_supervised_tokens(&self) -> bool {
        self.locations.iter().any(|p| p.supervised)
    }

    fn get(&self, index: usize) -> Result<Example> {
        let missing = || absent(index, self.locations.len());
        let location = self.locations.get(index).ok_or_else(missing)?;
        let start = location.start as usize * WIDTH;
        let bytes = match &self.tokens {
            Some(map) => map.get(start..start + location.length as usize * WIDTH).ok_or_else(missing)?,
            None => &[],
        };
        let words = || bytes.as_chunks::<WIDTH>().0.iter().map(|b| u32::from_le_bytes(*b));
        let number = |n: u32| (n != NONE).then_some(n as usize);
        Ok(Example {
            image: number(location.image),
            ids: words().map(|w| w & !SUPERVISED).collect(),
            loss_mask: words().map(|w| w & SUPERVISED != 0).collect(),
            image_at: number(location.image_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_come_back_as_they_were() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let one = |n: u32, image: Option<usize>| Example {
            image,
            ids: (0..n).map(|i| i * 1000 + n).collect(),
            loss_mask: (0..n).map(|i| i % 3 == 1).collect(),
            image_at: image.map(|_| 0),
        };
        let all = vec![one(5, Some(7)), one(0, None), one(9, None), one(1, Some(0))];
        let mut packing = ExamplePacker::new(dir.path())?;
        for e in &all {
            packing.push(e)?;
        }
        let mut packed = packing.finish()?;
        assert_eq!(packed.len(), 4);
        for (i, e) in all.iter().enumerate() {
            assert_eq!((&packed.get(i)?, packed.length(i)), (e, e.ids.len()));
            assert_eq!(packed.has_image(i), e.image.is_some());
        }
        assert!(packed.has_supervised_tokens() && packed.get(4).is_err());
        // Image 7 gets no number, so the first example is removed.
        assert_eq!(packed.renumber(|i| (i == 0).then_some(3)), [7]);
        assert_eq!((packed.len(), packed.get(1)?.ids, packed.get(2)?.image), (3, all[2].ids.clone(), Some(3)));
        let empty = ExamplePacker::new(dir.path())?.finish()?;
        assert!(empty.is_empty() && !empty.has_supervised_tokens());
        let large = Example { image: None, ids: vec![u32::MAX], loss_mask: vec![true], image_at: None };
        assert!(ExamplePacker::new(dir.path())?.push(&large).is_err());
        drop((packed, empty));
        assert_eq!(fs::read_dir(dir.path())?.count(), 0);
        Ok(())
    }
}
