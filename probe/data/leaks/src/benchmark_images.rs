//! The images of the benchmarks, which are searched for in the training data.

use crate::files::{FileKind, walk};
use crate::hashing::{UnreadableImage, hashes};
use crate::options::{LeakOptions, NamedDataset};
use burgess_base::{Error, Result};
use burgess_bench::{ImageLocation, SkippedRows, all};
use burgess_images::DifferenceHash;
use std::collections::HashSet;

/// Number of images that are read at a time.
const BATCH: usize = 128;

/// The images of all benchmarks.
pub struct BenchmarkImages {
    /// The benchmarks, in the given order.
    pub benchmarks: Vec<BenchmarkTally>,
    /// The images, ordered by benchmark.
    pub images: Vec<BenchmarkImage>,
    /// The hash and index of each image that could be read.
    pub hashed: Vec<(DifferenceHash, u32)>,
    /// The images that could not be read, with the index of their benchmark.
    pub unreadable: Vec<(usize, UnreadableImage)>,
}

/// The counts of one benchmark.
pub struct BenchmarkTally {
    pub name: String,
    /// Number of its images that could be read.
    pub images: usize,
    pub unreadable: usize,
    /// Number of distinct hashes.
    pub hashes: usize,
    /// Number of images whose hash has no bit set.
    pub blank: usize,
    /// Rows of its table that cannot be asked, so that their images are not searched.
    pub left_out: Vec<SkippedRows>,
}

/// An image of a benchmark.
pub struct BenchmarkImage {
    /// Index of the benchmark.
    pub benchmark: usize,
    /// Id of the first question about it, or its path in the directory.
    pub id: String,
    /// Location of the image.
    pub image: ImageLocation,
}

impl BenchmarkImages {
    pub fn read(benchmarks: &[NamedDataset], options: &LeakOptions) -> Result<Self> {
        let mut tested =
            Self { benchmarks: Vec::new(), images: Vec::new(), hashed: Vec::new(), unreadable: Vec::new() };
        for (number, named) in benchmarks.iter().enumerate() {
            tested.add(number, named, options)?;
        }
        Ok(tested)
    }

    fn add(&mut self, number: usize, named: &NamedDataset, options: &LeakOptions) -> Result<()> {
        let (images, left_out) = images_of(named).map_err(|e| e.context(format!("the benchmark {}", named.name)))?;
        let (first, failed) = (self.hashed.len(), self.unreadable.len());
        for batch in images.chunks(BATCH) {
            let read: Vec<&ImageLocation> = batch.iter().map(|(_, image)| image).collect();
            for ((id, image), hash) in batch.iter().zip(hashes(&read, options.side)) {
                match hash {
                    Ok(hash) => self.hashed.push((hash, self.images.len() as u32)),
                    Err(why) => self.unreadable.push((number, why)),
                }
                self.images.push(BenchmarkImage { benchmark: number, id: id.clone(), image: image.clone() });
            }
        }
        let hashed = self.hashed.get(first..).unwrap_or_default();
        if let ([], Some((_, why))) = (hashed, self.unreadable.get(failed)) {
            return Err(Error::failed(format!("none of the {} images of {} can be read", images.len(), named.name))
                .hint(format!("the first: {}", why.detail)));
        }
        self.benchmarks.push(BenchmarkTally {
            name: named.name.clone(),
            images: hashed.len(),
            unreadable: self.unreadable.len() - failed,
            hashes: hashed.iter().map(|(hash, _)| hash).collect::<HashSet<_>>().len(),
            blank: hashed.iter().filter(|(hash, _)| hash.is_zero()).count(),
            left_out,
        });
        Ok(())
    }
}

/// Images with their ids, and the rows that were left out.
type Images = (Vec<(String, ImageLocation)>, Vec<SkippedRows>);

/// Returns the distinct images of a benchmark.
fn images_of(named: &NamedDataset) -> Result<Images> {
    let (mut images, mut left_out) = (Vec::new(), Vec::new());
    if let Some(benchmark) = all().iter().find(|b| b.id() == named.name) {
        let questions =
            benchmark.read(&named.path).map_err(|e| e.hint("a folder of images can be given under another name"))?;
        left_out.clone_from(&questions.skipped);
        let mut seen: HashSet<ImageLocation> = HashSet::new();
        for question in questions {
            for image in question.images {
                if seen.insert(image.clone()) {
                    images.push((question.id.clone(), image));
                }
            }
        }
    } else if named.path.is_dir() {
        walk(&named.path, &mut |path, kind| {
            if kind == FileKind::Image {
                let below = path.strip_prefix(&named.path).unwrap_or(path);
                images.push((below.display().to_string(), ImageLocation::File(path.to_path_buf())));
            }
            Ok(())
        })?;
        images.sort();
    } else {
        let known: Vec<&str> = all().iter().map(|b| b.id()).collect();
        let near = burgess_base::nearest(&named.name, known);
        let guess = near.first().map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
        return Err(Error::usage(format!("{} is not a directory of images", named.path.display()))
            .hint(format!("a benchmark's published data are read if it is called by its id{guess}")));
    }
    match images.len() {
        0 => Err(Error::failed(format!("there are no images in {}", named.path.display()))),
        _ => Ok((images, left_out)),
    }
}
