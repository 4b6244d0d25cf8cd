//! Selects the weights among the files of a directory or of a repository of the hub.

use super::index::Index;
use super::{foreign, gguf};
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Usual file names of weights in transformers, timm, open_clip and diffusers, in order of preference.
const USUAL_NAMES: [&str; 10] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
];

/// Folders of a diffusers model whose weights the encoder uses.
pub const DIFFUSERS_FOLDERS: [&str; 3] = ["text_encoder", "unet", "vae"];

/// Whether `path` is the directory of a diffusers model.
pub fn is_diffusers_model(path: &Path) -> bool {
    path.join("model_index.json").is_file() || DIFFUSERS_FOLDERS.iter().all(|part| path.join(part).is_dir())
}

/// Returns the variant in a file name, such as `fp16` in `model.fp16.safetensors`; numbers of shards are not variants.
fn variant<'a>(name: &'a str, usual: &str) -> Option<&'a str> {
    let (front, ending) = usual.rsplit_once('.')?;
    let variant = name.strip_prefix(front)?.strip_prefix('.')?.strip_suffix(ending)?.strip_suffix('.')?;
    (!variant.is_empty() && !variant.contains('.') && !variant.contains("-of-")).then_some(variant)
}

/// File endings of weights.
const ENDINGS: [&str; 6] = ["safetensors", "bin", "pth", "pt", "tar", "gguf"];

/// Prefixes of GGUF files that contain a projector or a head of another model.
const SIDECARS: [&str; 2] = ["mmproj-", "mtp-"];

/// Selects the weights among the file names of a directory: a usual name, else a usual name with the only variant, else
/// the only file with an ending of weights.
///
/// # Errors
/// There are no weights, or several files of which none has a usual name.
pub fn choose_weights<'a>(names: &[&'a str]) -> Result<&'a str> {
    if let Some(name) = USUAL_NAMES.iter().find_map(|usual| names.iter().find(|name| *name == usual)) {
        return Ok(name);
    }
    let ending = |name: &str| Path::new(name).extension().is_some_and(|e| ENDINGS.iter().any(|w| e == *w));
    let whole = |name: &str| gguf::is_first(name) && !SIDECARS.iter().any(|start| name.starts_with(start));
    let found: Vec<&str> = names.iter().copied().filter(|name| ending(name) && whole(name)).collect();
    let mut variants: BTreeMap<&str, BTreeMap<usize, &'a str>> = BTreeMap::new();
    for name in names {
        for (rank, usual) in USUAL_NAMES.iter().enumerate() {
            if let Some(variant) = variant(name, usual) {
                variants.entry(variant).or_default().insert(rank, name);
            }
        }
    }
    if let (1, Some((variant, mut files))) = (variants.len(), variants.pop_first())
        && found.iter().all(|name| name.contains(&format!(".{variant}")))
        && let Some((_, preferred)) = files.pop_first()
    {
        return Ok(preferred);
    }
    // Shards without their index.
    if let Some(first) = found.iter().find(|name| part_of(name).is_some_and(|(_, count)| count > 1))
        && found.iter().all(|name| part_of(name).is_some())
    {
        let count = part_of(first).map_or(0, |(_, count)| count);
        let index =
            first.rsplit_once('-').and_then(|(front, _)| front.rsplit_once("-of")).map_or("", |(front, _)| front);
        let (stem, ending) = (
            index.rsplit_once('-').map_or("model", |(stem, _)| stem),
            first.rsplit_once('.').map_or("safetensors", |(_, ending)| ending),
        );
        return Err(Error::failed(format!(
            "there are {} of {count} shards ({}), but not {stem}.{ending}.index.json, which lists them",
            found.len(),
            found.iter().take(3).map(|name| excerpt(name, 100)).collect::<Vec<_>>().join(", "),
        ))
        .hint("download the index from the source of the shards, or download the whole repository"));
    }
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(match names.iter().find_map(|name| Some((name, foreign::by_ending(name)?))) {
            Some((name, what)) => Error::failed(format!(
                "there are no weights in a supported format (.safetensors, .bin, .pth, .pt, .gguf); {} is {what}",
                excerpt(name, 200)
            ))
            .hint(foreign::SAVE_STATE_DICT),
            None => Error::failed("there are no weights (.safetensors, .bin, .pth, .pt, .gguf)")
                .hint("add model.safetensors, or model.safetensors.index.json with its shards"),
        }),
        several => {
            Err(Error::failed(format!("there are {} files of weights: {}", several.len(), first_names(several)))
                .hint("give the path of the file to use instead of the directory"))
        }
    }
}

/// Opens a regular file. Opening a pipe would block, and a directory cannot be mapped.
pub(super) fn open_regular(path: &Path) -> Result<File> {
    let what = std::fs::metadata(path).with_context(|| format!("opening {}", path.display()))?;
    if !what.is_file() {
        let kind = if what.is_dir() { "a directory" } else { "not a regular file" };
        return Err(Error::failed(format!("{} is {kind}", path.display())).hint("give the path of a file with weights"));
    }
    if what.len() == 0 {
        return Err(Error::failed(format!("{} is empty", path.display()))
            .hint("delete the file and download it again: the download or copy was truncated"));
    }
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// Checks that all shards that the index lists exist.
///
/// # Errors
/// A shard does not exist.
pub(super) fn check_shards(index: &Path, shards: &BTreeSet<&str>) -> Result<()> {
    const SHOWN: usize = 5;
    let absent: Vec<&str> = shards.iter().copied().filter(|name| !index.with_file_name(name).exists()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let shown = absent.iter().take(SHOWN).map(|name| excerpt(name, 200)).collect::<Vec<_>>().join(", ");
    let more = absent.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (verb, named) = if absent.len() == 1 { ("is", "it") } else { ("are", "them") };
    let error = Error::failed(format!(
        "{} of the {} shards that {} lists {verb} not there: {shown}{more}",
        absent.len(),
        shards.len(),
        index.file_name().unwrap_or_default().to_string_lossy(),
    ));
    Err(match repository_of(index) {
        Some(id) => error.hint(format!("download {id} again")).downloadable(id),
        None => error.hint(format!(
            "copy {named} into {} from the source of the other files, or download the whole repository",
            index.parent().unwrap_or(Path::new(".")).display()
        )),
    })
}

/// Returns the repository `owner/name` of a file in a Hugging Face cache.
fn repository_of(file: &Path) -> Option<String> {
    let folder = file.parent()?.parent()?.parent()?.file_name()?.to_str()?;
    let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
    Some(format!("{owner}/{name}"))
}

/// Parses number and total of a shard, such as 1 and 2 for `model-00001-of-00002.safetensors`.
fn part_of(name: &str) -> Option<(usize, usize)> {
    let (front, ending) = name.rsplit_once('.')?;
    let (front, count) = front.rsplit_once("-of-")?;
    let (_, number) = front.rsplit_once('-')?;
    (ending != "gguf").then_some((number.parse().ok()?, count.parse().ok()?))
}

/// Finds the weights in a directory with [`choose_weights`].
pub(super) fn find_in(dir: &Path) -> Result<PathBuf> {
    let step = || format!("looking for weights in {}", dir.display());
    let mut names = Vec::new();
    for item in std::fs::read_dir(dir).with_context(step)? {
        let path = item.with_context(step)?.path();
        names.extend(path.file_name().filter(|_| path.is_file()).map(|n| n.to_string_lossy().into_owned()));
    }
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    choose_weights(&names).map(|name| dir.join(name)).map_err(|e| e.context(step()))
}

/// Formats the first names of a list.
fn first_names(names: &[&str]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).map(|name| excerpt(name, 100)).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Whether this is the file name of an index of shards.
pub fn is_index(name: &str) -> bool {
    name.ends_with(".index.json")
}

/// Returns the file names of the shards that an index lists; they are in the index's directory.
///
/// # Errors
/// The text is not an index, or it lists files outside of its directory.
pub fn index_shards(index: &[u8]) -> Result<Vec<String>> {
    let listed = Index::parse(index)?;
    Ok(listed.shards()?.into_iter().map(str::to_string).collect())
}

/// Returns all files that [`Checkpoint::open`](super::Checkpoint::open) would open for this file, index or directory.
///
/// # Errors
/// One of the files does not exist.
pub fn all_files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = match path.is_dir() {
        true if is_diffusers_model(path) => {
            DIFFUSERS_FOLDERS.iter().map(|part| find_in(&path.join(part))).collect::<Result<Vec<_>>>()?
        }
        true => vec![find_in(path)?],
        false => vec![path.to_path_buf()],
    };
    for index in files.clone().iter().filter(|file| is_index(&file.to_string_lossy())) {
        let step = || format!("reading {}", index.display());
        let listed = Index::read(index).with_context(step)?;
        files.extend(listed.shards().with_context(step)?.into_iter().map(|name| index.with_file_name(name)));
    }
    for file in files.clone() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        files.extend(gguf::gguf_parts(&name).into_iter().skip(1).map(|part| file.with_file_name(part)));
    }
    match files.iter().find(|file| !file.is_file()) {
        Some(absent) => Err(Error::failed(format!("{} does not exist", absent.display()))),
        None => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_found_by_their_usual_names() {
        let chosen = |names: &[&str]| choose_weights(names).map(str::to_string).map_err(|e| e.to_string());
        assert_eq!(chosen(&["pytorch_model.bin", "model.safetensors", "config.json"]), Ok("model.safetensors".into()));
        assert_eq!(chosen(&["x.pth", "readme.md"]), Ok("x.pth".into()));
        assert_eq!(chosen(&["model.fp16.safetensors", "config.json"]), Ok("model.fp16.safetensors".into()));
        assert_eq!(
            chosen(&["pytorch_model.bin.index.json", "pytorch_model-1.bin"]),
            Ok("pytorch_model.bin.index.json".into())
        );
        let parts = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "mmproj-a.gguf"];
        assert_eq!(chosen(&parts), Ok("a-00001-of-00002.gguf".into()));
        assert!(chosen(&["a.pth", "b.pth"]).is_err_and(|e| e.contains("a.pth, b.pth")));
        assert!(chosen(&["config.json"]).is_err());
    }

    #[test]
    fn an_index_that_reaches_outside_its_directory_is_refused() {
        let index = |name: &str| format!("{{\"weight_map\":{{\"a\":\"{name}\",\"b\":\"s2\"}}}}");
        assert_eq!(index_shards(index("s1").as_bytes()).ok(), Some(vec!["s1".to_string(), "s2".to_string()]));
        for name in ["../s1", "/s1", "a/b", "..", "", "C:s"] {
            assert!(index_shards(index(name).as_bytes()).is_err(), "{name}");
        }
    }
}
