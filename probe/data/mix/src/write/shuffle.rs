//! The chosen entries in a random order, by way of buckets on disk.
//!
//! Each entry gets a place in the order from the seed. Entries whose places are near each other go to one bucket, which
//! fits in memory and is sorted there.

use super::OutputFormat;
use super::line::LineMaker;
use super::samples::{Sample, in_order};
use crate::manifest::PromptCount;
use crate::plan::MixPlan;
use crate::pool::PoolImage;
use burgess_base::stream::stream;
use burgess_base::{Context, Error, Result, atomic};
use burgess_bench::ImageLocation;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Wanted size of a bucket in bytes.
const BUCKET: u64 = 48 << 20;
/// Largest number of buckets, which are all open at once.
const MOST: usize = 400;

/// A sample in a bucket, apart from its line.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: String,
    source: String,
    kind: String,
    turns: usize,
    images: Vec<StoredImage>,
    place: String,
    prompts: Option<(u64, u64)>,
    source_added: bool,
    failed: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum StoredImage {
    Located(ImageLocation),
    Member { file: PathBuf, name: String, offset: u64, size: u64 },
}

/// Calls `each` with the samples of the plan in the order of the seed, from number `begin` of this order on.
pub fn shuffled(
    plan: &MixPlan,
    lines: &LineMaker<'_>,
    format: OutputFormat,
    work: &Path,
    begin: usize,
    each: &mut dyn FnMut(Sample) -> Result<()>,
) -> Result<()> {
    let dir = work.join("buckets");
    let done = work.join("buckets.done");
    let count = plan.entries.len();
    let bytes: u64 = plan.entries.iter().map(|record| u64::from(record.bytes)).sum();
    let buckets = usize::try_from(bytes / BUCKET + 1).unwrap_or(MOST).min(MOST);
    let size = count.div_ceil(buckets).max(1);
    let mark = format!("{} {format:?} {buckets}", plan.key);
    if fs::read_to_string(&done).ok().as_deref() != Some(mark.as_str()) {
        fill(plan, lines, format, &dir, buckets, size)?;
        atomic::write(&done, mark.as_bytes())?;
    }
    for bucket in begin / size..buckets {
        let path = dir.join(bucket.to_string());
        let mut samples = read(&path)?;
        samples.sort_by_key(|(rank, _)| *rank);
        for (rank, sample) in samples {
            if rank as usize >= begin {
                each(sample)?;
            }
        }
    }
    Ok(())
}

/// Returns the place of each entry in the order of the seed (Fisher and Yates' shuffle).
fn ranks(count: usize, seed: u64) -> Vec<u32> {
    let mut draws = stream("mix order", seed);
    let mut ranks: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    for last in (1..ranks.len()).rev() {
        // A 128-bit product: its bias is below 2⁻³² for 2³² entries.
        let other = (u128::from(draws.next_u64()) * (last as u128 + 1)) >> 64;
        ranks.swap(last, other as usize);
    }
    ranks
}

fn fill(
    plan: &MixPlan,
    lines: &LineMaker<'_>,
    format: OutputFormat,
    dir: &Path,
    buckets: usize,
    size: usize,
) -> Result<()> {
    let step = || format!("writing {}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(step)?;
    }
    fs::create_dir_all(dir).with_context(step)?;
    let mut files: Vec<BufWriter<File>> = (0..buckets)
        .map(|bucket| File::create(dir.join(bucket.to_string())).map(|file| BufWriter::with_capacity(1 << 16, file)))
        .collect::<std::io::Result<_>>()
        .with_context(step)?;
    let mut places = ranks(plan.entries.len(), plan.mix.seed).into_iter();
    in_order(plan, lines, format, 0, &mut |sample| {
        let rank = places.next().ok_or_else(|| Error::failed("there are more entries than the plan has"))?;
        let file = files.get_mut(rank as usize / size).ok_or_else(|| Error::failed("an entry has no bucket"))?;
        write(file, rank, sample).with_context(step)
    })?;
    for file in files {
        file.into_inner()
            .map_err(|e| Error::from(e.into_error()))
            .and_then(|file| Ok(file.sync_all()?))
            .with_context(step)?;
    }
    Ok(())
}

fn write(to: &mut impl Write, rank: u32, sample: Sample) -> Result<()> {
    let image = |image: PoolImage| match image {
        PoolImage::Located(location) => StoredImage::Located(location),
        PoolImage::Member { file, name, offset, size } => StoredImage::Member { file, name, offset, size },
    };
    let stored = Stored {
        id: sample.id,
        source: sample.source,
        kind: sample.kind,
        turns: sample.turns,
        images: sample.images.into_iter().map(image).collect(),
        place: sample.place,
        prompts: sample.prompts.map(|count| (count.appended, count.present)),
        source_added: sample.source_added,
        failed: sample.failed,
    };
    let head = serde_json::to_vec(&stored)?;
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| Error::failed("an entry is longer than 4 GB"));
    to.write_all(&rank.to_le_bytes())?;
    to.write_all(&length(&head)?.to_le_bytes())?;
    to.write_all(&length(&sample.line)?.to_le_bytes())?;
    to.write_all(&head)?;
    to.write_all(&sample.line)?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<(u32, Sample)>> {
    let step = || format!("reading {}", path.display());
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path).with_context(step)?);
    let mut samples = Vec::new();
    loop {
        let mut start = [0u8; 12];
        match reader.read_exact(&mut start) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(samples),
            other => other.with_context(step)?,
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l] = start;
        let number = |bytes| u32::from_le_bytes(bytes);
        let mut take = |length: u32| {
            let mut bytes = Vec::new();
            let read = reader.by_ref().take(u64::from(length)).read_to_end(&mut bytes).with_context(step)?;
            match read == length as usize {
                true => Ok(bytes),
                false => Err(Error::failed(format!("{} is cut off", path.display()))
                    .hint("remove the directory of the unfinished mix and run the same command again")),
            }
        };
        let head = take(number([e, f, g, h]))?;
        let line = take(number([i, j, k, l]))?;
        let stored: Stored = serde_json::from_slice(&head).with_context(step)?;
        let image = |image: StoredImage| match image {
            StoredImage::Located(location) => PoolImage::Located(location),
            StoredImage::Member { file, name, offset, size } => PoolImage::Member { file, name, offset, size },
        };
        let sample = Sample {
            line,
            id: stored.id,
            source: stored.source,
            kind: stored.kind,
            turns: stored.turns,
            images: stored.images.into_iter().map(image).collect(),
            place: stored.place,
            prompts: stored.prompts.map(|(appended, present)| PromptCount { appended, present }),
            source_added: stored.source_added,
            failed: stored.failed,
        };
        samples.push((number([a, b, c, d]), sample));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_permutation_of_the_seed() {
        let mut order = ranks(1000, 3);
        assert_eq!(order, ranks(1000, 3));
        assert_ne!(order, ranks(1000, 4));
        let fixed = order.iter().zip(0..).filter(|(rank, at)| *rank == at).count();
        assert!(fixed < 10, "{fixed}");
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1000));
        assert_eq!((ranks(0, 1), ranks(1, 1)), (vec![], vec![0]));
    }
}
