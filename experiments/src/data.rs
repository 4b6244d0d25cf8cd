//! The pictures and questions of a study on this machine.

use crate::progress::Progress;
use crate::study::Data;
use crate::{field, inputs, paths, published};
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_world::dataset::DatasetSpec;
use std::path::{Path, PathBuf};

/// A data directory: `align.jsonl`, `tune.jsonl`, `bench/<benchmark>.jsonl` and the pictures they name.
#[derive(Clone, Debug)]
pub struct DataDir {
    pub dir: PathBuf,
    /// Conversations for the connector, if any are named.
    pub align: Option<PathBuf>,
    /// Conversations for connector and language model.
    pub tune: PathBuf,
    /// Changes with all that is read of the data. Empty where it follows from the contents of the files that are used,
    /// until these are known (see [`inputs`](crate::inputs)).
    pub digest: String,
    /// Where it follows from contents: what earlier versions took for it.
    pub earlier: Option<String>,
    /// Drawn here: every picture is whole.
    pub drawn: bool,
    /// At most this many conversations with a picture of each source are tuned on.
    pub per_source: Option<usize>,
}

/// The digest of a world: of its version and its specification, from which every byte follows.
pub fn world_digest(spec: &DatasetSpec) -> Result<String> {
    digest::of_value(&("burgess-world", burgess_world::VERSION, spec))
}

/// Whether a world is on this machine.
pub fn is_rendered(spec: &DatasetSpec) -> Result<bool> {
    Ok(paths::cache()?.join("worlds").join(world_digest(spec)?).is_dir())
}

/// Opens the data of a study; a world that is not on this machine yet is rendered into the cache.
pub fn open(data: &Data, progress: &Progress) -> Result<DataDir> {
    match data {
        Data::World(spec) => {
            let digest = world_digest(spec)?;
            let dir = paths::cache()?.join("worlds").join(&digest);
            if !dir.is_dir() {
                let bar = progress.bar("rendering the nano world", 0);
                atomic::create_dir_with(&dir, |tmp| {
                    burgess_world::dataset::write(tmp, spec, &|done, total| bar.set(done, total))
                })
                .context("rendering the nano world")?;
                bar.done("rendered the nano world");
            }
            let (align, tune) = (Some(dir.join("align.jsonl")), dir.join("tune.jsonl"));
            Ok(DataDir { dir, align, tune, digest, earlier: None, drawn: true, per_source: None })
        }
        Data::Field(spec) => {
            let (dir, digest) = field::data(spec)?;
            let (align, tune) = (Some(dir.join("align.jsonl")), dir.join("tune.jsonl"));
            Ok(DataDir { dir, align, tune, digest, earlier: None, drawn: true, per_source: None })
        }
        Data::Directory(dir) => {
            let hint = "it must hold align.jsonl, tune.jsonl and bench/<benchmark>.jsonl";
            check_directory(dir, "the data directory", hint)?;
            let (align, tune) = (Some(conversations(dir, "align")), conversations(dir, "tune"));
            let earlier = inputs::by_names(dir);
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
            let dir = files.pictures.clone();
            check_directory(&dir, "the directory of images", "the conversations' images are looked for below it")?;
            for file in files.align.iter().chain([&files.tune]) {
                check_file(file)?;
            }
            let of = |file: &PathBuf| digest::of_file(file).ok();
            let parts = (files.align.as_ref().and_then(of), of(&files.tune), inputs::by_names(&dir));
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

/// Checks that a file of conversations is one: what is read from a pipe cannot be read twice.
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

/// The file of a stage's conversations: JSON lines or an array, plain or compressed.
fn conversations(dir: &Path, stage: &str) -> PathBuf {
    let forms = ["jsonl", "json", "jsonl.gz", "json.gz", "jsonl.zst", "json.zst"];
    let mut files = forms.iter().map(|form| dir.join(format!("{stage}.{form}")));
    files.find(|f| f.is_file()).unwrap_or_else(|| dir.join(format!("{stage}.jsonl")))
}
