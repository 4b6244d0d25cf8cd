//! The tune conversations of an arm with a mix: chosen once among those of the study, and kept in the cache.
//!
//! `CACHE/mixes/<key>/` holds the conversations, the manifest of the mix, and `record.json`, which runs refer to. The
//! key is a digest of the mix, the contents of the file of conversations and the version of this code, so that all
//! studies and processes share it.

use crate::data::DataDirectory;
use crate::data::digests::DigestCache;
use crate::data::directory::{check_file, verification_record};
use crate::machine::lease::Lease;
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::study::ArmMix;
use burgess_base::checksums;
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_mix::mix::{Mix, MixSource};
use burgess_mix::pool::PoolSpec;
use burgess_mix::{DATA_FILE, Manifest, MixPlan, MixTable, Step, WriteOptions};
use burgess_world::dataset::WorldSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the cached files; it must change when the same mix gives other conversations.
const VERSION: u32 = 1;
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

/// Opens the conversations that a mix chooses among the tune conversations of `data`; they are chosen now if they are
/// not in the cache, or if a file there is damaged.
///
/// # Errors
/// The file of conversations cannot be read, a rule cannot be applied, or no conversation is left.
pub fn open(mix: &Mix, data: &DataDirectory, progress: &Progress) -> Result<MixedTune> {
    check_file(&data.tune)?;
    let cache = paths::cache()?;
    let tune = DigestCache::open(&cache, &data.dir)?.files(&[("tune".to_string(), data.tune.clone())], progress)?;
    let key = digest::of_value(&("burgess-mix", VERSION, mix, &tune))?;
    let dir = cache.join("mixes").join(&key);
    let usable = || -> Result<bool> {
        // Written last: without it, the mix is not finished, and is continued.
        if !dir.join(RECORD).is_file() {
            return Ok(false);
        }
        let damage = match checksums::damaged(&dir, &verification_record(&key)?) {
            Ok((_, bad)) if bad.is_empty() => return Ok(true),
            Ok((_, bad)) => format!("{} is damaged", dir.join(bad.first().map_or("", String::as_str)).display()),
            Err(e) => e.to_string(),
        };
        progress.line(&format!("note: {damage}; the mix is made again"));
        Ok(false)
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
    Ok(MixedTune { file: dir.join(DATA_FILE), record })
}

/// Chooses the conversations and writes them to `dir`; an interrupted choice is continued, a damaged one made again.
fn make(mix: &Mix, data: &DataDirectory, dir: &Path, progress: &Progress) -> Result<()> {
    if dir.join(RECORD).is_file() {
        std::fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    let images = Some(data.dir.clone());
    let pool = PoolSpec { images, ..PoolSpec::new(data.tune.to_string_lossy()) };
    let mix = Mix { pools: vec![pool], ..mix.clone() };
    let bar = progress.bar("choosing the conversations of a mix", 0);
    let mut step = |step: Step| match step {
        Step::Reading { entries, .. } => bar.set(entries, 0),
        Step::Writing { entries, of } => bar.set(entries, of),
    };
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let plan = mix.plan(&MixPlan::work_directory(dir), &mut step)?;
    for line in plan.problems().lines() {
        progress.line(&format!("note: {}: {line}", data.tune.display()));
    }
    if plan.is_empty() {
        return Err(Error::failed("the mix leaves no conversation")
            .hint("relax its rules: the table of `burgess data mix --dry-run` shows what each leaves"));
    }
    let options = WriteOptions { name: "tune".into(), ..WriteOptions::default() };
    let written = plan.write(dir, &options, &mut step)?;
    let record = record(&dir.join(DATA_FILE), &written.manifest)?;
    atomic::write_json(&dir.join(RECORD), &record)?;
    checksums::record_all(dir)?;
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

/// Returns the number of conversations that a mix will choose from a world that is not rendered yet; filters, which
/// need the conversations, are not counted.
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
