//! Opens the data of a study: a world is rendered if it is not on this machine, other data are found and checked.

use crate::data::directory::{DataDirectory, check_checksums, check_directory, check_file, verification_record};
use crate::data::{digests, field, published};
use crate::machine::lease::Lease;
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::study::DataSource;
use burgess_base::checksums::{self, Verification};
use burgess_base::{Context, Result, atomic, digest, temporary};
use burgess_world::dataset::WorldSpec;
use std::path::{Path, PathBuf};

/// Digest of the versions of the renderer and the benchmarks and of the specification of a world, which together
/// determine every byte of its files.
pub fn world_digest(spec: &WorldSpec) -> Result<String> {
    digest::of_value(&("burgess-world", burgess_world::VERSION, burgess_world::BENCHMARK_VERSION, spec))
}

/// Whether a world is rendered on this machine.
pub fn is_rendered(spec: &WorldSpec) -> Result<bool> {
    Ok(paths::cache()?.join("worlds").join(world_digest(spec)?).is_dir())
}

/// Directory to which the image names of a study are relative, if the data are on this machine.
///
/// # Errors
/// The cache directory cannot be determined.
pub fn image_directory(data: &DataSource) -> Result<Option<PathBuf>> {
    Ok(match data {
        DataSource::World(spec) => {
            Some(paths::cache()?.join("worlds").join(world_digest(spec)?)).filter(|dir| dir.is_dir())
        }
        DataSource::Field(spec) => field::data_directory(spec).ok().map(|(dir, _)| dir),
        DataSource::Directory(dir) => Some(dir.clone()),
        DataSource::Files(files) => Some(files.images.clone()),
        DataSource::Published(published) => published::open(published).ok().map(|data| data.dir),
    })
}

/// Opens the data of a study. A world that is not on this machine yet is rendered into the cache; one with damaged
/// files is rendered again.
///
/// # Errors
/// The data are missing or damaged, or cannot be rendered.
pub fn open(data: &DataSource, progress: &Progress) -> Result<DataDirectory> {
    // Remove temporary files that killed processes left in the cache.
    temporary::remove_stale(&paths::cache()?, 1);
    match data {
        DataSource::World(spec) => {
            let digest = world_digest(spec)?;
            let dir = paths::cache()?.join("worlds").join(&digest);
            match dir.is_dir() {
                true => repair(&dir, spec, &digest, progress)?,
                // Another process may have rendered the world while this one waited.
                false => alone(&dir, progress, || if dir.is_dir() { Ok(()) } else { render(&dir, spec, progress) })?,
            }
            let (align, tune) = (Some(dir.join("align.jsonl")), dir.join("tune.jsonl"));
            Ok(DataDirectory { dir, align, tune, digest, earlier: None, generated: true, per_source: None })
        }
        DataSource::Field(spec) => {
            let (dir, digest) = field::data_directory(spec)?;
            field::check(&dir, spec, &|text| progress.line(text))?;
            let (align, tune) = (Some(dir.join("align.jsonl")), dir.join("tune.jsonl"));
            Ok(DataDirectory { dir, align, tune, digest, earlier: None, generated: true, per_source: None })
        }
        DataSource::Directory(dir) => {
            let hint = "it must hold align.jsonl, tune.jsonl and bench/<benchmark>.jsonl";
            check_directory(dir, "the data directory", hint)?;
            check_checksums(dir)?;
            let (align, tune) = (Some(conversations(dir, "align")), conversations(dir, "tune"));
            let earlier = digests::digest_by_metadata(dir);
            Ok(DataDirectory {
                dir: dir.clone(),
                align,
                tune,
                digest: String::new(),
                earlier,
                generated: false,
                per_source: None,
            })
        }
        DataSource::Published(published) => published::open(published),
        DataSource::Files(files) => {
            let dir = files.images.clone();
            check_directory(&dir, "the directory of images", "image names in the conversations are relative to it")?;
            for file in files.align.iter().chain([&files.tune]) {
                check_file(file)?;
            }
            let file_digest = |file: &PathBuf| digest::of_file(file).ok();
            let (align, tune) = (files.align.as_ref().and_then(file_digest), file_digest(&files.tune));
            let images = digests::digest_by_metadata(&dir);
            let earlier = images.is_some().then(|| digest::of_value(&(align, tune, images))).transpose()?;
            Ok(DataDirectory {
                dir,
                align: files.align.clone(),
                tune: files.tune.clone(),
                digest: String::new(),
                earlier,
                generated: false,
                per_source: None,
            })
        }
    }
}

fn render(dir: &Path, spec: &WorldSpec, progress: &Progress) -> Result<()> {
    let bar = progress.bar("rendering the nano world", 0);
    atomic::create_dir_with(dir, |tmp| {
        burgess_world::dataset::write(tmp, spec, &|done, total| bar.set(done, total))?;
        checksums::record_all(tmp)
    })
    .context("rendering the nano world")?;
    bar.done("rendered the nano world");
    Ok(())
}

/// Renders a world again if any of its files is missing or damaged, and replaces all its files. They are replaced by
/// renaming, because other processes may read them.
fn repair(dir: &Path, spec: &WorldSpec, digest: &str, progress: &Progress) -> Result<()> {
    let bad = match checksums::damaged(dir, &verification_record(digest)?) {
        Ok((Verification::NoChecksum, _)) => {
            progress.line(&format!(
                "note: {} was rendered by an earlier version without checksums and is used unchecked; to render it \
                 again, remove it",
                dir.display()
            ));
            return Ok(());
        }
        Ok((Verification::Matches, bad)) => bad,
        Err(e) => {
            // The list of checksums itself is damaged.
            progress.line(&format!("note: {e}"));
            vec![checksums::FILE.to_string()]
        }
    };
    let Some(first) = bad.first() else { return Ok(()) };
    alone(dir, progress, || replace(dir, spec, digest, (bad.len(), first), progress))
}

/// Does work on a world while no other process does; says so if it has to wait.
fn alone(dir: &Path, progress: &Progress, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut told = false;
    let lease = Lease::acquire(dir, &mut |owner| {
        if !std::mem::replace(&mut told, true) {
            progress.line(&format!("waiting for {owner}, which renders the nano world"));
        }
        Ok(())
    })?;
    let outcome = work();
    lease.remove();
    outcome
}

/// Renders a world again and replaces its files, unless another process has done so; `bad` is the number of damaged
/// files and the first of them.
fn replace(dir: &Path, spec: &WorldSpec, digest: &str, bad: (usize, &String), progress: &Progress) -> Result<()> {
    if checksums::damaged(dir, &verification_record(digest)?).is_ok_and(|(_, bad)| bad.is_empty()) {
        return Ok(());
    }
    progress.line(&format!(
        "note: files of {1} are missing or differ from their checksums ({0}, first: {first}); the world is rendered \
         again",
        bad.0,
        dir.display(),
        first = bad.1
    ));
    let fresh = dir.with_file_name(format!("{digest}-again"));
    render(&fresh, spec, progress)?;
    for file in checksums::files(&fresh)?.iter().chain([&fresh.join(checksums::FILE)]) {
        // If an earlier repair was killed, its directory was kept, and the files that it had moved are missing there.
        if !file.exists() {
            continue;
        }
        let path = dir.join(file.strip_prefix(&fresh).unwrap_or(file));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        std::fs::rename(file, &path).with_context(|| format!("replacing {}", path.display()))?;
    }
    match std::fs::remove_dir_all(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", fresh.display()))
        }
        _ => Ok(()),
    }
}

/// File of a stage's conversations: JSON lines or an array, plain or compressed.
fn conversations(dir: &Path, stage: &str) -> PathBuf {
    let forms = ["jsonl", "json", "jsonl.gz", "json.gz", "jsonl.zst", "json.zst"];
    let mut files = forms.iter().map(|form| dir.join(format!("{stage}.{form}")));
    files.find(|f| f.is_file()).unwrap_or_else(|| dir.join(format!("{stage}.jsonl")))
}
