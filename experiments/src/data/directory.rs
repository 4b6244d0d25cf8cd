//! The images and questions of a study on this machine.

use crate::data::{digests, field, published};
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::study::Data;
use burgess_base::checksums::{self, Verification};
use burgess_base::{Context, Error, Result, atomic, digest, temporary};
use burgess_world::dataset::WorldSpec;
use std::path::{Path, PathBuf};

/// A data directory: `align.jsonl`, `tune.jsonl`, `bench/<benchmark>.jsonl` and the images they name.
#[derive(Clone, Debug)]
pub struct DataDir {
    pub dir: PathBuf,
    /// Conversations of the align stage, if there are any.
    pub align: Option<PathBuf>,
    /// Conversations of the tune stage.
    pub tune: PathBuf,
    /// Digest of all data that are read. Empty for data whose digest follows from the contents of the files that are
    /// used, until these are known (see [`inputs`](crate::inputs)).
    pub digest: String,
    /// Digest that earlier versions computed from file names, sizes and times, for data whose digest follows from
    /// contents.
    pub earlier: Option<String>,
    /// Whether the images were rendered or composed by Burgess, so that all can be decoded.
    pub drawn: bool,
    /// Largest number of tune conversations with an image per source; `None` for all.
    pub per_source: Option<usize>,
}

/// Digest of a world's version and specification, which determine every byte.
pub fn world_digest(spec: &WorldSpec) -> Result<String> {
    digest::of_value(&("burgess-world", burgess_world::VERSION, spec))
}

/// Whether a world is rendered on this machine.
pub fn is_rendered(spec: &WorldSpec) -> Result<bool> {
    Ok(paths::cache()?.join("worlds").join(world_digest(spec)?).is_dir())
}

/// Directory to which the image names of a study are relative, if the data are on this machine.
///
/// # Errors
/// The cache directory cannot be determined.
pub fn directory(data: &Data) -> Result<Option<PathBuf>> {
    Ok(match data {
        Data::World(spec) => Some(paths::cache()?.join("worlds").join(world_digest(spec)?)).filter(|dir| dir.is_dir()),
        Data::Field(spec) => field::data(spec).ok().map(|(dir, _)| dir),
        Data::Directory(dir) => Some(dir.clone()),
        Data::Files(files) => Some(files.images.clone()),
        Data::Published(published) => published::open(published).ok().map(|data| data.dir),
    })
}

/// Opens the data of a study; a world that is not on this machine yet is rendered into the cache.
pub fn open(data: &Data, progress: &Progress) -> Result<DataDir> {
    // Sweeps the cache and its folders for worlds, examples and others.
    temporary::remove_stale(&paths::cache()?, 1);
    match data {
        Data::World(spec) => {
            let digest = world_digest(spec)?;
            let dir = paths::cache()?.join("worlds").join(&digest);
            match dir.is_dir() {
                true => mend(&dir, spec, &digest, progress)?,
                false => render(&dir, spec, progress)?,
            }
            let (align, tune) = (Some(dir.join("align.jsonl")), dir.join("tune.jsonl"));
            Ok(DataDir { dir, align, tune, digest, earlier: None, drawn: true, per_source: None })
        }
        Data::Field(spec) => {
            let (dir, digest) = field::data(spec)?;
            field::check(&dir, spec, &|text| progress.line(text))?;
            let (align, tune) = (Some(dir.join("align.jsonl")), dir.join("tune.jsonl"));
            Ok(DataDir { dir, align, tune, digest, earlier: None, drawn: true, per_source: None })
        }
        Data::Directory(dir) => {
            let hint = "it must hold align.jsonl, tune.jsonl and bench/<benchmark>.jsonl";
            check_directory(dir, "the data directory", hint)?;
            check_sealed(dir)?;
            let (align, tune) = (Some(conversations(dir, "align")), conversations(dir, "tune"));
            let earlier = digests::by_names(dir);
            Ok(DataDir {
                dir: dir.clone(),
                align,
                tune,
                digest: String::new(),
                earlier,
                drawn: false,
                per_source: None,
            })
        }
        Data::Published(published) => published::open(published),
        Data::Files(files) => {
            let dir = files.images.clone();
            check_directory(&dir, "the directory of images", "the conversations' images are looked for below it")?;
            for file in files.align.iter().chain([&files.tune]) {
                check_file(file)?;
            }
            let of = |file: &PathBuf| digest::of_file(file).ok();
            let parts = (files.align.as_ref().and_then(of), of(&files.tune), digests::by_names(&dir));
            let earlier = parts.2.is_some().then(|| digest::of_value(&parts)).transpose()?;
            Ok(DataDir {
                dir,
                align: files.align.clone(),
                tune: files.tune.clone(),
                digest: String::new(),
                earlier,
                drawn: false,
                per_source: None,
            })
        }
    }
}

fn check_directory(dir: &Path, what: &str, hint: &str) -> Result<()> {
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::usage(format!("{what} {} is no directory", dir.display())).hint(hint)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::usage(format!("{what} {} does not exist", dir.display())).hint(hint))
        }
        Err(e) => Err(e).with_context(|| format!("opening {what} {}", dir.display())),
    }
}

/// Checks that a file of conversations is a regular file: a pipe cannot be read twice.
pub(crate) fn check_file(file: &Path) -> Result<()> {
    let hint = "conversations are JSON lines or an array, plain or compressed (.gz, .zst)";
    match std::fs::metadata(file) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(Error::usage(format!("{} is no regular file", file.display())).hint(hint)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::usage(format!("the file of conversations {} does not exist", file.display())).hint(hint))
        }
        Err(e) => Err(e).with_context(|| format!("opening {}", file.display())),
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

/// File that records which data files were compared with their checksums, and when.
pub(crate) fn remembered(name: &str) -> Result<PathBuf> {
    Ok(paths::cache()?.join("checked").join(format!("{name}.json")))
}

/// Renders the damaged files of a world again. Files are replaced by renaming, because other processes may read them.
fn mend(dir: &Path, spec: &WorldSpec, digest: &str, progress: &Progress) -> Result<()> {
    let bad = match checksums::damaged(dir, &remembered(digest)?) {
        Ok((Verification::NoChecksum, _)) => {
            progress.line(&format!(
                "note: {} was rendered by an earlier version, without checksums: it is used unchecked; remove it to render it again",
                dir.display()
            ));
            return Ok(());
        }
        Ok((Verification::Matches, bad)) => bad,
        Err(e) => {
            progress.line(&format!("note: {e}"));
            vec![checksums::FILE.to_string()]
        }
    };
    let Some(first) = bad.first() else { return Ok(()) };
    progress.line(&format!(
        "note: {} files of {} are not what was written (first: {first}): they are rendered again",
        bad.len(),
        dir.display()
    ));
    let again = dir.with_file_name(format!("{digest}-again"));
    render(&again, spec, progress)?;
    for file in checksums::files(&again)?.iter().chain([&again.join(checksums::FILE)]) {
        // An earlier attempt may have been killed after some files were moved.
        if !file.exists() {
            continue;
        }
        let place = dir.join(file.strip_prefix(&again).unwrap_or(file));
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        std::fs::rename(file, &place).with_context(|| format!("replacing {}", place.display()))?;
    }
    match std::fs::remove_dir_all(&again) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", again.display()))
        }
        _ => Ok(()),
    }
}

/// Compares the files of a directory with their checksums, if it has any: it may be a copy of a world, or a world given
/// by its path.
///
/// # Errors
/// A file is missing or damaged.
pub fn check_sealed(dir: &Path) -> Result<()> {
    let name = digest::of_bytes(std::path::absolute(dir).unwrap_or_default().to_string_lossy().as_bytes());
    let (_, bad) = checksums::damaged(dir, &remembered(&name)?)?;
    match bad.first() {
        None => Ok(()),
        Some(first) => {
            let place = dir.join(first);
            Err(Error::failed(format!("{} is missing or not what was written, one of {}", place.display(), bad.len()))
                .hint(format!("if the change was meant, remove {}", dir.join(checksums::FILE).display())))
        }
    }
}

/// File of a stage's conversations: JSON lines or an array, plain or compressed.
fn conversations(dir: &Path, stage: &str) -> PathBuf {
    let forms = ["jsonl", "json", "jsonl.gz", "json.gz", "jsonl.zst", "json.zst"];
    let mut files = forms.iter().map(|form| dir.join(format!("{stage}.{form}")));
    files.find(|f| f.is_file()).unwrap_or_else(|| dir.join(format!("{stage}.jsonl")))
}
