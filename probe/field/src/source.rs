//! The raw material of the pictures, read once: stamps by what they may be used for, photographs, COCO-QA's folder.

use std::path::{Path, PathBuf};

use burgess_base::Result;
use image::RgbImage;

use crate::kinds::KINDS;
use crate::raw::{Package, Raw};
use crate::split::{self, Split};
use crate::stamps::{self, Stamp};

/// Shortest side in pixels that a stamp needs to stand among others, where it is shown about twice as large at most.
const SMALLEST: u32 = 40;

/// One photograph in so many is kept for the benchmarks.
const ONE_IN: usize = 4;

/// Everything that pictures are made of.
pub struct Source {
    /// All stamps.
    pub stamps: Vec<Stamp>,
    /// Which of them are learned from.
    pub split: Split,
    /// The two sides of the split.
    pub train: Side,
    /// What benchmarks show.
    pub test: Side,
    /// COCO-QA's questions and photographs.
    pub cocoqa: Option<PathBuf>,
}

/// Stamps and photographs of one side of the split.
#[derive(Default)]
pub struct Side {
    /// With a caption, whether or not it gives a name.
    pub captioned: Vec<usize>,
    /// With a name, to be shown alone.
    pub named: Vec<usize>,
    /// With a name and transparent surroundings, to be shown among others.
    pub among: Vec<usize>,
    /// Those of `among` that have a kind, by kind.
    pub kinds: Vec<Vec<usize>>,
    /// Those of `kinds` that show one thing, so that they can be counted.
    pub single: Vec<Vec<usize>>,
    /// Photographs.
    pub photographs: Vec<RgbImage>,
}

impl Source {
    /// Reads stamps and photographs. What was damaged is added to `problems`.
    ///
    /// # Errors
    /// There are no stamps, or too few for a held-out part.
    pub fn read(raw: &Raw, seed: u64, problems: &mut Vec<String>) -> Result<Self> {
        let mut read = stamps::read(raw.path(Package::Stamps)?)?;
        problems.append(&mut read.problems);
        let photographs = match raw.path(Package::Photographs) {
            Ok(dir) => photographs(dir, problems)?,
            Err(_) => Vec::new(),
        };
        Ok(Self::new(read.all, photographs, raw.path(Package::CocoQa).ok().map(Path::to_path_buf), seed))
    }

    /// Material at hand.
    pub fn new(stamps: Vec<Stamp>, photographs: Vec<RgbImage>, cocoqa: Option<PathBuf>, seed: u64) -> Self {
        let split = split::split(&stamps, seed);
        let mut train = Side::new(&stamps, &split.train);
        let mut test = Side::new(&stamps, &split.test);
        for (i, photograph) in photographs.into_iter().enumerate() {
            let side = if i % ONE_IN == 0 { &mut test } else { &mut train };
            side.photographs.push(photograph);
        }
        Self { stamps, split, train, test, cocoqa }
    }
}

impl Side {
    fn new(stamps: &[Stamp], numbers: &[usize]) -> Self {
        let lists = vec![Vec::new(); KINDS.len()];
        let mut side = Self { kinds: lists.clone(), single: lists, ..Self::default() };
        for &number in numbers {
            let Some(stamp) = stamps.get(number) else { continue };
            side.captioned.push(number);
            if stamp.name.is_none() {
                continue;
            }
            side.named.push(number);
            if stamp.cut_out && stamp.side() >= SMALLEST {
                side.among.push(number);
                if let Some(list) = stamp.kind.and_then(|k| side.kinds.get_mut(k)) {
                    list.push(number);
                }
                if let Some(list) = stamp.kind.filter(|_| stamp.is_single()).and_then(|k| side.single.get_mut(k)) {
                    list.push(number);
                }
            }
        }
        side
    }

    /// Kinds that are there.
    pub fn present(&self) -> Vec<usize> {
        with_at_least(&self.kinds, 1)
    }

    /// Kinds of which there are enough single things for counting.
    pub fn countable(&self) -> Vec<usize> {
        with_at_least(&self.single, 3)
    }
}

fn with_at_least(lists: &[Vec<usize>], n: usize) -> Vec<usize> {
    lists.iter().enumerate().filter(|(_, list)| list.len() >= n).map(|(kind, _)| kind).collect()
}

/// The ImageNet photographs of foolbox, by name; damaged ones are left out and said.
fn photographs(dir: &Path, problems: &mut Vec<String>) -> Result<Vec<RgbImage>> {
    let mut photographs = Vec::new();
    for path in crate::raw::photographs(dir)? {
        match burgess_encoders::preprocess::decode(&path) {
            Ok(picture) => photographs.push(picture),
            Err(e) => problems.push(e.to_string()),
        }
    }
    Ok(photographs)
}
