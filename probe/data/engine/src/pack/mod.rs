//! The stage `pack`: training data, with a card and the attribution of all images.
//!
//! A shard becomes `shard-NNNNN.jsonl` in LLaVA's form beside the folder `images/`, or webdataset archives in the
//! folder `shard-NNNNN/`. When all shards are packed, [`publish`] reads them back, and writes `README.md` (the data
//! card), `attribution.csv` and `manifest.json`.

mod attribution;
mod card;
mod publish;
#[cfg(test)]
mod tests;

pub use publish::{Published, publish};

use crate::config::{PackConfig, PackFormat};
use crate::pipeline::{DoneMarker, ShardContext, Stage, Workspace, read_records, shard_name};
use crate::qa::QaRecord;
use crate::topics::{Rejection, finish};
use attribution::AttributionWriter;
use burgess_base::{Context, Error, Result, atomic, temporary::TemporaryPath};
use burgess_mix::output::{WebDataset, WebSample};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// Number of entries of a webdataset archive.
const PER_ARCHIVE: u64 = 10_000;

/// An entry in LLaVA's form; `image` is the path of its image.
fn entry(record: &QaRecord, config: &PackConfig, image: &str) -> Value {
    let mut turns = Vec::new();
    for (at, pair) in record.pairs.iter().enumerate() {
        let question = if at == 0 { format!("<image>\n{}", pair.question) } else { pair.question.clone() };
        turns.push(json!({"from": "human", "value": question}));
        turns.push(json!({"from": "gpt", "value": pair.answer}));
    }
    let mut entry = json!({
        "id": format!("{}-{}", config.name, record.id),
        "image": image,
        "source": config.source,
        "kind": config.kind,
        "conversations": turns,
    });
    if let Some(fields) = entry.as_object_mut() {
        for (name, value) in
            [("field", &record.field), ("subfield", &record.subfield), ("topic", &record.topic), ("page", &record.page)]
        {
            if !value.is_empty() {
                fields.insert(name.to_string(), json!(value));
            }
        }
        if let Some(licence) = &record.licence {
            fields.insert("licence".into(), json!(licence.name));
        }
    }
    entry
}

/// Whether a difference hash tells images apart: those of nearly blank images do not.
fn tells(dhash: &str) -> bool {
    u64::from_str_radix(dhash, 16).is_ok_and(|hash| (8..=56).contains(&hash.count_ones()))
}

/// The images of a shard's records by which others are the same.
fn marks(record: &QaRecord) -> impl Iterator<Item = String> {
    let dhash = tells(&record.image.dhash).then(|| format!("dhash {}", record.image.dhash));
    std::iter::once(record.image.digest.clone()).chain(dhash)
}

/// Returns the records of a shard without those that are left out.
fn chosen(context: &ShardContext<'_>) -> Result<(Vec<QaRecord>, Vec<Rejection>)> {
    let (workspace, shard) = (context.workspace, context.task.shard);
    let config = &workspace.config().pack;
    let directory = workspace.stage_directory(Stage::Qa);
    let records = |shard: usize| -> Result<Vec<QaRecord>> {
        read_records(&directory, &context.marker_of(Stage::Qa, shard)?, &(shard_name(shard) + ".jsonl"))
    };
    let own = records(shard)?;
    let mut known = HashSet::new();
    if config.unique_images {
        // Only marks of this shard are kept, so that memory does not grow with the number of shards.
        let wanted: HashSet<String> = own.iter().flat_map(marks).collect();
        for earlier in 0..shard {
            for record in records(earlier)? {
                known.extend(marks(&record).filter(|mark| wanted.contains(mark)));
            }
        }
    }
    let (mut kept, mut rejected) = (Vec::new(), Vec::new());
    for record in own {
        let reject = |reason: &str, detail: &str| Rejection {
            item: record.id.clone(),
            reason: reason.to_string(),
            detail: detail.to_string(),
            count: 1,
        };
        if config.require_licence && record.licence.as_ref().is_none_or(|l| l.name.trim().is_empty()) {
            rejected.push(reject("no licence", &record.image_url));
        } else if config.unique_images && marks(&record).any(|mark| known.contains(&mark)) {
            rejected.push(reject("image is there already", &record.image_url));
        } else {
            known.extend(marks(&record).filter(|_| config.unique_images));
            kept.push(record);
        }
    }
    Ok((kept, rejected))
}

/// Does a shard.
pub(crate) fn work(context: &ShardContext<'_>) -> Result<DoneMarker> {
    let (workspace, shard) = (context.workspace, context.task.shard);
    let config = &workspace.config().pack;
    let (kept, rejected) = chosen(context)?;
    let total = kept.len() as u64;
    let mut marker = context.marker()?;
    marker.items = total + rejected.len() as u64;
    for record in &kept {
        let licence = record.licence.as_ref().map_or("unknown", |licence| licence.name.as_str());
        let field = if record.field.is_empty() { "(none)" } else { &record.field };
        marker.count(&format!("field/{field}"), 1);
        marker.count(&format!("licence/{licence}"), 1);
        marker.count(&format!("model/{}", record.model), 1);
        marker.count("pairs", record.pairs.len() as u64);
        for pair in &record.pairs {
            marker.count(&format!("kind/{}", pair.kind.map_or("any", |kind| kind.as_str())), 1);
        }
    }
    let directory = workspace.stage_directory(Stage::Pack);
    let paths: Vec<String> = kept.iter().map(|record| image_path(record, shard)).collect();
    context.claim.check()?;
    let progress = |done: usize| context.session.progress.items(Stage::Pack, shard, done as u64, total);
    let mut extra = Vec::new();
    let entries: Vec<Value> = match config.format {
        PackFormat::Llava => {
            for (at, (record, path)) in kept.iter().zip(&paths).enumerate() {
                place_image(workspace, record, &directory.join(path))?;
                progress(at + 1);
            }
            kept.iter().zip(&paths).map(|(record, path)| entry(record, config, path)).collect()
        }
        PackFormat::Webdataset => {
            extra = archives(context, &kept, &paths, &progress)?;
            Vec::new()
        }
    };
    let is_empty = entries.is_empty();
    let mut marker = finish(context, marker, entries.into_iter(), &rejected)?;
    marker.records = total;
    if is_empty {
        // An empty file would count as a damaged one of the data set.
        let name = shard_name(shard) + ".jsonl";
        let path = directory.join(&name);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        marker.files.remove(&name);
    }
    for name in extra {
        marker.add_file(&directory, &name)?;
    }
    let name = shard_name(shard) + ".attribution.csv";
    atomic::write_with(&directory.join(&name), |w| {
        let mut writer = AttributionWriter::new(w, false)?;
        for (record, path) in kept.iter().zip(&paths) {
            writer.write(record, path)?;
        }
        writer.finish()
    })?;
    marker.add_file(&directory, &name)?;
    Ok(marker)
}

/// Path of a record's image in the data set: by shard and digest, so that equal images are one file.
fn image_path(record: &QaRecord, shard: usize) -> String {
    let ending = record.image.path.extension().and_then(|e| e.to_str()).unwrap_or("png").to_lowercase();
    format!("images/{}/{}.{ending}", shard_name(shard), record.image.digest)
}

/// Places an image in the data set: as a hard link where the file system has them, else as a copy.
fn place_image(workspace: &Workspace, record: &QaRecord, to: &Path) -> Result<()> {
    let from = workspace.stage_directory(Stage::Images).join(&record.image.path);
    let step = || format!("placing {}", to.display());
    let size = fs::metadata(&from).with_context(|| format!("reading {}", from.display()))?.len();
    if size != record.image.bytes {
        return Err(Error::failed(format!("{} has {size} bytes, expected {}", from.display(), record.image.bytes))
            .hint("the stage images must do this shard again: delete its file ending with .done"));
    }
    if fs::metadata(to).is_ok_and(|there| there.len() == size) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(step)?;
    }
    let temporary = TemporaryPath::beside(to);
    if fs::hard_link(&from, temporary.path()).is_err() {
        fs::copy(&from, temporary.path()).with_context(step)?;
    }
    fs::rename(temporary.path(), to).with_context(step)
}

/// Writes the archives of a shard; returns their names.
fn archives(
    context: &ShardContext<'_>,
    kept: &[QaRecord],
    paths: &[String],
    progress: &dyn Fn(usize),
) -> Result<Vec<String>> {
    let (workspace, config) = (context.workspace, &context.workspace.config().pack);
    let folder = shard_name(context.task.shard);
    let directory = workspace.stage_directory(Stage::Pack).join(&folder);
    let key = burgess_base::digest::of_value(&(workspace.settings(Stage::Pack)?, &context.input))?;
    let mut data = WebDataset::open(&directory, &key, PER_ARCHIVE)?;
    let done = usize::try_from(data.entries()).unwrap_or(usize::MAX);
    for (at, (record, path)) in kept.iter().zip(paths).enumerate().skip(done) {
        let file = workspace.stage_directory(Stage::Images).join(&record.image.path);
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let ending = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or("png");
        let json = serde_json::to_vec(&entry(record, config, path))?;
        data.add(&WebSample {
            json: &json,
            images: &[(ending, &bytes)],
            id: &record.id,
            source: &config.source,
            kind: &config.kind,
            turns: 2 * record.pairs.len(),
        })?;
        if data.wants_checkpoint() {
            if (context.session.stopped)() {
                return Err(Error::interrupted());
            }
            context.claim.check()?;
            data.checkpoint(Value::Null)?;
        }
        progress(at + 1);
    }
    Ok(data.finish(Value::Null)?.into_iter().map(|file| format!("{folder}/{}", file.file)).collect())
}
