//! The tune conversations of an arm with a mix: chosen once among those of the study, and kept in the cache.
//!
//! `CACHE/mixes/<key>/` holds `tune.jsonl` and `manifest.json`. The key is a digest of the mix, the contents of the file of
//! conversations and the version of this code, so that all studies and processes share it.

use crate::data::DataDirectory;
use crate::data::digests::DigestCache;
use crate::data::directory::{check_file, verification_record};
use crate::machine::lease::Lease;
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::study::ArmMix;
use burgess_base::checksums::{self, Verification};
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_mix::mix::{Mix, MixSource};
use burgess_mix::pool::PoolSpec;
use burgess_mix::{Manifest, MixTable, Step};
use burgess_world::dataset::WorldSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the cached files; it must change when the same mix gives other conversations.
const VERSION: u32 = 1;
/// Name of the file of conversations.
const TUNE: &str = "tune.jsonl";
/// Name of the record of the choice.
const RECORD: &str = "record.json";

/// What a mix chose, for the configuration of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixRecord {
    /// Digest of the file of the chosen conversations.
    pub digest: String,
    /// Number of chosen conversations.
    pub entries: u64,
    /// Number of chosen conversations by source; sources of which none is chosen are left out.
    pub sources: BTreeMap<String, u64>,
    /// Number of chosen conversations by kind.
    pub kinds: BTreeMap<String, u64>,
}

/// The conversations that a mix chose.
pub struct MixedTune {
    /// File of the conversations.
    pub file: PathBuf,
    /// What was chosen.
    pub record: MixRecord,
}

impl MixRecord {
    /// Returns the record with the rules, as they stand in the configuration of a run.
    ///
    /// # Errors
    /// The rules cannot be written as JSON.
    pub fn with_rules(&self, mix: &ArmMix) -> Result<Value> {
        let mut value = serde_json::to_value(self)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("rules".into(), serde_json::to_value(mix)?);
        }
        Ok(value)
    }
}

/// Opens the conversations that a mix chooses among the tune conversations of `data`; they are chosen now if they are not
/// in the cache, or if a file there is damaged.
///
/// # Errors
/// The file of conversations cannot be read, a rule cannot be applied, or no conversation is left.
pub fn open(mix: &Mix, data: &DataDirectory, progress: &Progress) -> Result<MixedTune> {
    check_file(&data.tune)?;
    let cache = paths::cache()?;
    let tune = DigestCache::open(&cache, &data.dir)?.files(&[(TUNE.to_string(), data.tune.clone())], progress)?;
    let key = digest::of_value(&("burgess-mix", VERSION, mix, &tune))?;
    let dir = cache.join("mixes").join(&key);
    let usable = || -> Result<bool> {
        if !dir.is_dir() {
            return Ok(false);
        }
        match checksums::damaged(&dir, &verification_record(&key)?) {
            Ok((Verification::Matches, bad)) if bad.is_empty() => Ok(true),
            Ok((_, bad)) => {
                let first = bad.first().map_or(checksums::FILE, String::as_str);
                progress.line(&format!("note: {} is damaged: the mix is made again", dir.join(first).display()));
                Ok(false)
            }
            Err(e) => {
                progress.line(&format!("note: {e}; the mix is made again"));
                Ok(false)
            }
        }
    };
    if !usable()? {
        let mut told = false;
        let lease = Lease::acquire(&dir, &mut |owner| {
            if !std::mem::replace(&mut told, true) {
                progress.line(&format!("waiting for {owner}, which makes the mix"));
            }
            Ok(())
        })?;
        // Another process may have made it while this one waited.
        let outcome = usable().and_then(|usable| if usable { Ok(()) } else { make(mix, data, &dir, progress) });
        lease.remove();
        outcome?;
    }
    let record: MixRecord = atomic::read_json(&dir.join(RECORD))?;
    Ok(MixedTune { file: dir.join(TUNE), record })
}

/// Chooses the conversations and writes them to `dir`, which replaces a damaged one.
fn make(mix: &Mix, data: &DataDirectory, dir: &Path, progress: &Progress) -> Result<()> {
    let bar = progress.bar("choosing the conversations of a mix", 0);
    if dir.is_dir() {
        std::fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    let images = Some(data.dir.clone());
    let pool = PoolSpec { images, ..PoolSpec::new(data.tune.to_string_lossy()) };
    let mix = Mix { pools: vec![pool], ..mix.clone() };
    atomic::create_dir_with(dir, |tmp| {
        let mut step = |_: Step| {};
        let plan = mix.plan(tmp, &mut step)?;
        for line in plan.problems().lines() {
            progress.line(&format!("note: {}: {line}", data.tune.display()));
        }
        if plan.is_empty() {
            return Err(Error::failed("the mix leaves no conversation")
                .hint("relax its rules: the table of `burgess data mix --dry-run` shows what each leaves"));
        }
        let manifest: Manifest = plan.write(tmp, &mut step)?;
        let record = record(&tmp.join(TUNE), &manifest)?;
        atomic::write_json(&tmp.join(RECORD), &record)?;
        checksums::record_all(tmp)
    })?;
    bar.done("chose the conversations of a mix");
    Ok(())
}

fn record(file: &Path, manifest: &Manifest) -> Result<MixRecord> {
    let taken = |rows: &[burgess_mix::TableRow]| -> BTreeMap<String, u64> {
        rows.iter().filter(|row| row.taken() > 0).map(|row| (row.source.clone(), row.taken())).collect()
    };
    Ok(MixRecord {
        digest: digest::of_file(file)?,
        entries: manifest.entries,
        sources: taken(&manifest.table.sources),
        kinds: taken(&manifest.table.kinds()),
    })
}

/// Returns the number of conversations that a mix will choose from a world that is not rendered yet; filters, which need
/// the conversations, are not counted.
///
/// # Errors
/// A rule cannot be applied.
pub fn planned(mix: &Mix, spec: &WorldSpec) -> Result<usize> {
    let pool = spec.pool.iter().map(|source| (source.source.clone(), source.kind.clone(), source.count as u64));
    // The mixed conversations of a world state no source: that of their images' paths stands for it.
    let mixed = (spec.tune > 0).then(|| ("images".to_string(), String::new(), spec.tune as u64));
    let counted = |(name, kind, count): (String, String, u64)| {
        let own = mix.sources.iter().find(|own| burgess_mix::source_key(&own.name) == burgess_mix::source_key(&name));
        let own = own.cloned().unwrap_or_default();
        let kind = own.kind.clone().or(Some(kind).filter(|kind| !kind.is_empty()));
        let text_only = spec.pool.iter().any(|source| source.source == name && !source.family.has_image());
        MixSource { name, kind, count: Some(count), text_only, ..own }
    };
    let sources = pool.chain(mixed).map(counted).collect();
    let taken = MixTable::from_published(&Mix { sources, catalogue: None, ..mix.clone() })?.taken();
    Ok(usize::try_from(taken).unwrap_or(usize::MAX))
}
