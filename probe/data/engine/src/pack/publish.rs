//! The last step: reads the packed data back, and writes the card, the attribution and the manifest.

use super::attribution::AttributionWriter;
use super::card;
use crate::config::PackFormat;
use crate::pipeline::{DoneMarker, FileMark, Session, ShardState, Stage, Workspace, claims, ledger_of, shard_name};
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_mix::pool::{Pool, PoolSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::copy;
use std::path::Path;

/// The contents of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Name of the data set.
    pub name: String,
    /// Number of conversations.
    pub entries: u64,
    /// Number of questions.
    pub pairs: u64,
    /// Digest of all shards' markers: another one means that the data set must be published again.
    pub of: String,
    /// All files of the data with sizes and digests, except the images of LLaVA's form, whose names are their digests.
    pub files: BTreeMap<String, FileMark>,
}

/// Publishes the packed data; `None` if a shard is not packed yet. Does nothing if it was done for the same shards.
///
/// # Errors
/// A file is missing or damaged, the data do not read back as they were written, or an error of the file system.
pub fn publish(workspace: &Workspace, session: &Session<'_>) -> Result<Option<Published>> {
    let directory = workspace.stage_directory(Stage::Pack);
    let mut markers: Vec<DoneMarker> = Vec::new();
    for shard in 0..workspace.shards() {
        match workspace.state(Stage::Pack, shard)? {
            ShardState::Done(marker) => markers.push(*marker),
            _ => return Ok(None),
        }
    }
    let of = digest::of_value(&markers)?;
    let stopped = || (session.stopped)();
    let claim = claims::wait(session.claims, &directory.join("manifest"), &stopped)?;
    let manifest = directory.join("manifest.json");
    let listed = ["README.md", "attribution.csv"].iter().all(|name| directory.join(name).exists());
    if let Ok(known) = atomic::read_json::<Published>(&manifest)
        && known.of == of
        && listed
    {
        return Ok(Some(known));
    }
    for marker in &markers {
        for name in marker.files.keys() {
            marker.verify(&directory, name)?;
        }
    }
    let entries: u64 = markers.iter().map(|marker| marker.records).sum();
    let pairs = markers.iter().filter_map(|marker| marker.counts.get("pairs")).sum();
    read_back(workspace, &directory, entries)?;
    claim.check()?;
    attribution(&directory, &markers)?;
    let stages = earlier(workspace)?;
    let text = card::card(workspace, &markers, &stages, &ledger_of(workspace)?)?;
    atomic::write(&directory.join("README.md"), text.as_bytes())?;
    let mut files: BTreeMap<String, FileMark> = BTreeMap::new();
    for marker in &markers {
        files.extend(
            marker
                .files
                .iter()
                .filter(|(name, _)| !name.ends_with(Stage::Pack.rejected_ending()))
                .map(|(n, m)| (n.clone(), m.clone())),
        );
    }
    for name in ["README.md", "attribution.csv"] {
        let path = directory.join(name);
        let bytes = fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
        files.insert(name.to_string(), FileMark { bytes, digest: digest::of_file(&path)? });
    }
    let name = workspace.config().pack.name.clone();
    let published = Published { name, entries, pairs, of, files };
    atomic::write_json(&manifest, &published)?;
    Ok(Some(published))
}

/// The markers of the stages before, in their order.
fn earlier(workspace: &Workspace) -> Result<Vec<(Stage, Vec<DoneMarker>)>> {
    let stages = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Pack);
    let markers = |stage: Stage| -> Result<Vec<DoneMarker>> {
        let all = (0..workspace.shards()).map(|shard| DoneMarker::read(&workspace.path(stage, shard, ".done")));
        Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    stages.map(|stage| Ok((stage, markers(stage)?))).collect()
}

/// Joins the attribution of all shards.
fn attribution(directory: &Path, markers: &[DoneMarker]) -> Result<()> {
    atomic::write_with(&directory.join("attribution.csv"), |w| {
        AttributionWriter::new(&mut *w, true)?.finish()?;
        for marker in markers {
            let path = directory.join(shard_name(marker.shard) + ".attribution.csv");
            let step = || format!("reading {}", path.display());
            copy(&mut File::open(&path).with_context(step)?, w).with_context(step)?;
        }
        Ok(())
    })
}

/// Reads the data as a training program would, and compares counts; each entry must have its image.
fn read_back(workspace: &Workspace, directory: &Path, entries: u64) -> Result<()> {
    if entries == 0 {
        return Ok(());
    }
    let pattern = match workspace.config().pack.format {
        PackFormat::Llava => "shard-?????.jsonl",
        PackFormat::Webdataset => "shard-?????/*.tar",
    };
    let spec =
        PoolSpec { images: Some(directory.to_path_buf()), ..PoolSpec::new(directory.join(pattern).to_string_lossy()) };
    let (mut found, mut wrong) = (0u64, None);
    let pool = Pool::open(&spec).context("reading the packed data back")?;
    let report = pool.scan(&mut |entry| {
        found += 1;
        let complete = entry.images.len() == 1 && entry.pairs().count() > 0;
        if !complete || pool.images(&entry).is_err() {
            wrong.get_or_insert_with(|| pool.place(&entry));
        }
        Ok(())
    })?;
    let notes = report.notes();
    if found != entries || wrong.is_some() || !notes.is_empty() {
        let mut message = format!("{found} of {entries} packed entries were read back");
        if let Some(place) = wrong {
            message += &format!("; {place} has no image or no question");
        }
        for note in notes.iter().take(3) {
            message += &format!("; {note}");
        }
        return Err(Error::failed(message)
            .context("reading the packed data back")
            .hint("have the stage pack done again; if it stays, this is an error of the program"));
    }
    Ok(())
}
