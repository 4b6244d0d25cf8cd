//! The raw material of the images, read once: stamps by their use, photographs, and COCO-QA's folder.

use std::path::{Path, PathBuf};

use burgess_base::Result;
use image::RgbImage;

use crate::kinds::KINDS;
use crate::raw::{Package, RawDirectory};
use crate::split::{self, StampSplit};
use crate::stamps::{self, Stamp};

/// Minimum longer side in pixels of a stamp that is shown with others, where it is enlarged about twice at most.
const SMALLEST: u32 = 40;

/// One photograph in this many is reserved for the benchmarks.
const ONE_IN: usize = 4;

/// All material that images are composed of.
pub struct Material {
    /// All stamps of the package, to which the indices refer.
    pub stamps: Vec<Stamp>,
    /// The split of the stamps into training and test.
    pub split: StampSplit,
    /// Material for training.
    pub train: SplitMaterial,
    /// Material for the benchmarks.
    pub test: SplitMaterial,
    /// Folder with COCO-QA's questions and photographs, if its package was found.
    pub cocoqa: Option<PathBuf>,
}

/// Stamps (as indices) and photographs of one side of the split.
#[derive(Default)]
pub struct SplitMaterial {
    /// Stamps with a caption, whether or not it contains a name.
    pub captioned: Vec<usize>,
    /// Stamps with a name, which can be shown alone.
    pub named: Vec<usize>,
    /// Stamps with a name and transparent surroundings, which can be shown with others.
    pub among: Vec<usize>,
    /// The stamps of `among` that have a kind, by kind.
    pub kinds: Vec<Vec<usize>>,
    /// The stamps of `kinds` that show a single object, so that they can be counted.
    pub single: Vec<Vec<usize>>,
    /// Photographs for backgrounds and text.
    pub photographs: Vec<RgbImage>,
}

impl Material {
    /// Reads stamps and photographs; damaged files are added to `problems`.
    ///
    /// # Errors
    /// An error is returned if there are no stamps, or if a folder cannot be read.
    pub fn read(raw: &RawDirectory, seed: u64, problems: &mut Vec<String>) -> Result<Self> {
        let mut read = stamps::read(raw.path(Package::Stamps)?)?;
        problems.append(&mut read.problems);
        let photographs = match raw.path(Package::Photographs) {
            Ok(dir) => photographs(dir, problems)?,
            Err(_) => Vec::new(),
        };
        Ok(Self::new(read.all, photographs, raw.path(Package::CocoQa).ok().map(Path::to_path_buf), seed))
    }

    /// Creates a source from material that is already in memory.
    pub fn new(stamps: Vec<Stamp>, photographs: Vec<RgbImage>, cocoqa: Option<PathBuf>, seed: u64) -> Self {
        let split = split::split(&stamps, seed);
        let mut train = SplitMaterial::new(&stamps, &split.train);
        let mut test = SplitMaterial::new(&stamps, &split.test);
        for (i, photograph) in photographs.into_iter().enumerate() {
            let side = if i % ONE_IN == 0 { &mut test } else { &mut train };
            side.photographs.push(photograph);
        }
        Self { stamps, split, train, test, cocoqa }
    }
}

impl SplitMaterial {
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

    /// Returns the kinds that have stamps.
    pub fn present(&self) -> Vec<usize> {
        with_at_least(&self.kinds, 1)
    }

    /// Returns the kinds that have enough single objects for counting questions.
    pub fn countable(&self) -> Vec<usize> {
        with_at_least(&self.single, 3)
    }
}

fn with_at_least(lists: &[Vec<usize>], n: usize) -> Vec<usize> {
    lists.iter().enumerate().filter(|(_, list)| list.len() >= n).map(|(kind, _)| kind).collect()
}

/// Reads the ImageNet photographs of foolbox, by name; damaged ones are added to `problems`.
fn photographs(dir: &Path, problems: &mut Vec<String>) -> Result<Vec<RgbImage>> {
    let mut photographs = Vec::new();
    for path in crate::raw::photographs(dir)? {
        match burgess_encoders::preprocess::decode(&path) {
            Ok(image) => photographs.push(image),
            Err(e) => problems.push(e.to_string()),
        }
    }
    Ok(photographs)
}
