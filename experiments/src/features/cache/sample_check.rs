//! The sample check: before a process uses features that another process wrote, it encodes one of their images again
//! and compares. A wrong build or driver is found when its features are used elsewhere, instead of spoiling results.
//!
//! The image differs from process to process, so the processes of a study together check many. Features of the same
//! device and versions differ in rounding at most, because the image is encoded alone, not in a batch of others: not at
//! all on flex and on the software driver lavapipe, and in the order of sums where a device chooses its kernels by
//! size. Wrong kernels differ by 1e-1 and more (‖a−b‖/‖b‖). Which of the two is wrong cannot be decided here,
//! so a difference is an error that names both, and nothing is encoded again silently.
//!
//! The check costs the loading of the encoder and a forward pass of one image. Encoders with more than [`LARGE`]
//! parameters, whose loading takes seconds to minutes, are checked once for each machine, program and entry, instead of
//! for each process. The oracle is not checked: no device computes its features.

use super::CHUNK;
use super::entry::{CacheEntry, CachedChunk};
use crate::features::card::ArmCard;
use crate::features::encode::FeatureExtractor;
use crate::features::image_set::ImageSet;
use crate::features::prepared::PreparedEncoder;
use burgess_base::{Context, Error, Result, atomic, digest, process};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Largest accepted difference of the features of an image, ‖a−b‖/‖b‖.
const LIMIT: f64 = 1e-3;
/// Number of parameters above which an encoder is not loaded for a check by every process.
const LARGE: u64 = 100_000_000;

/// Entries that this process has checked.
static CHECKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The image to be checked: its index in the data, and the stored features with their writer.
pub(super) struct Sample<'a> {
    image: usize,
    stored: &'a [u8],
    writer: &'a str,
}

/// Chooses an image of the entry that another process encoded; `own` are the chunks that this process encoded. `None`
/// if there is nothing to check.
pub(super) fn choose<'a>(
    entry: &'a CacheEntry,
    encoder: &PreparedEncoder,
    own: &BTreeMap<usize, usize>,
) -> Option<Sample<'a>> {
    let checked = || CHECKED.lock().unwrap_or_else(PoisonError::into_inner).contains(&entry.dir);
    if matches!(encoder.card, ArmCard::Oracle(_)) || checked() {
        return None;
    }
    let opened = entry.chunks.iter().enumerate().filter_map(|(n, chunk)| Some((n, chunk.as_ref()?)));
    let others: Vec<(usize, &CachedChunk)> = opened.filter(|(n, _)| !own.contains_key(n)).collect();
    if others.is_empty() {
        CHECKED.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.dir.clone());
        return None;
    }
    if is_large(encoder) && record(entry).exists() {
        return None;
    }
    let images: usize = others.iter().map(|(_, chunk)| chunk.shape[0]).sum();
    let seed = digest::of_bytes(format!("{} {} {}", process::machine(), std::process::id(), entry.key).as_bytes());
    let number = u64::from_str_radix(seed.get(..16)?, 16).ok()? as usize % images.max(1);
    // All chunks but the last have the same size, so the chunk is found by counting.
    let mut before = 0;
    for (n, chunk) in others {
        if number < before + chunk.shape[0] {
            let row = number - before;
            return Some(Sample { image: n * CHUNK + row, stored: chunk.row(row)?, writer: &chunk.writer });
        }
        before += chunk.shape[0];
    }
    None
}

/// Encodes the image again, on the device with index `on`, and compares.
///
/// # Errors
/// The image cannot be encoded, or its features differ by more than [`LIMIT`]; the error names both devices.
pub(super) fn check(
    entry: &CacheEntry,
    encoder: &PreparedEncoder,
    sample: &Sample<'_>,
    set: ImageSet<'_>,
    on: usize,
) -> Result<()> {
    let ImageSet { data, images, devices, .. } = set;
    let device = devices.get(on).ok_or_else(|| Error::failed(format!("there is no device number {on}")))?;
    let name = images.get(sample.image).ok_or_else(|| Error::failed(format!("no image {}", sample.image)))?;
    let step = || format!("comparing a sample of the cached features {}", entry.dir.display());
    let extractor = FeatureExtractor::open(&encoder.encoder, &encoder.card, &data.dir, device).with_context(step)?;
    let encoded = extractor.encode(&data.dir, &[name], 1, &|_| ()).with_context(step)?;
    let difference = encoded.difference(sample.stored);
    if difference <= LIMIT {
        CHECKED.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.dir.clone());
        if is_large(encoder) && entry.in_use.is_marked() {
            atomic::write(&record(entry), format!("{difference:e}\n").as_bytes())?;
        }
        return Ok(());
    }
    let writer = if sample.writer.is_empty() { "an earlier version" } else { sample.writer };
    Err(Error::failed(format!(
        "the features of the image {name} that {writer} wrote differ by {difference:.1e} from those that {}:{} on {} \
         computes, at most {LIMIT:.0e} is rounding",
        process::host(),
        std::process::id(),
        entry.device,
    ))
    .context(step())
    .hint(format!(
        "run `burgess doctor` on both machines to find which device computes wrong; if it is the one that wrote them, \
         remove {}",
        entry.dir.display()
    )))
}

fn is_large(encoder: &PreparedEncoder) -> bool {
    encoder.card.parameters() > LARGE
}

/// File that says that this machine has checked the entry with this program.
fn record(entry: &CacheEntry) -> PathBuf {
    let program = std::env::current_exe().and_then(std::fs::metadata);
    let program = program.map(|m| (m.len(), m.modified().ok())).ok();
    let who = digest::of_bytes(format!("{} {program:?} {}", process::machine(), entry.device).as_bytes());
    entry.dir.join("checked").join(who.get(..16).unwrap_or(&who))
}

/// Forgets that an entry was checked, as in a new process.
#[cfg(test)]
pub(super) fn forget(dir: &std::path::Path) {
    CHECKED.lock().unwrap_or_else(PoisonError::into_inner).remove(dir);
}
