//! Which files a pool consists of, and their formats.

use burgess_base::{Context, Error, Result, compressed, files, text::excerpt};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The format of a pool's file, apart from its compression (plain, gzip or zstd, recognised by content).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A tar archive in which a member `<key>.json` and the images `<key>.<ending>` that stand beside it are one entry.
    WebDataset,
    /// A parquet table of LLaVA-OneVision (`image`, `conversations`, `data_source`), FineVision or The Cauldron
    /// (`images`, `texts`).
    Parquet,
    /// JSON lines: one entry per line, as Cambrian-10M is published.
    #[serde(rename = "jsonl")]
    JsonLines,
    /// One JSON array of entries, as LLaVA's mixes and ShareGPT4V are published.
    #[serde(rename = "json")]
    JsonArray,
}

impl Format {
    /// Returns the name in a TOML file.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebDataset => "webdataset",
            Self::Parquet => "parquet",
            Self::JsonLines => "jsonl",
            Self::JsonArray => "json",
        }
    }

    /// Returns the format that a file name promises, without the ending of its compression.
    fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let plain = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        match plain.rsplit_once('.')?.1 {
            "tar" => Some(Self::WebDataset),
            "tgz" => Some(Self::WebDataset),
            "parquet" => Some(Self::Parquet),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::JsonArray),
            _ => None,
        }
    }
}

/// A pool as a mix or the command line states it.
///
/// ```
/// use burgess_mix::pool::PoolSpec;
/// let spec: PoolSpec = toml::from_str("path = 'jsons/*.jsonl'\nimages = 'images'").unwrap();
/// assert_eq!(spec.path, ["jsons/*.jsonl"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Files, directories, or patterns with `*` and `?`. A directory stands for the data files in it and below: those
    /// of the first of the formats webdataset, parquet, jsonl, json that a folder has.
    #[serde(with = "one_or_several")]
    #[schemars(with = "one_or_several::Stated")]
    pub path: Vec<String>,
    /// Format of all files; recognised by content if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub format: Option<Format>,
    /// Directory to which image paths are relative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub images: Option<PathBuf>,
    /// Source of entries that state none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub source: Option<String>,
    /// Kind of data (general, OCR, …) of entries that state none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub kind: Option<String>,
}

/// A text or a list of texts.
mod one_or_several {
    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged, expecting = "expected a path or a list of paths")]
    pub enum Stated {
        One(String),
        Several(Vec<String>),
    }

    pub fn serialize<S: Serializer>(paths: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        match paths {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        Ok(match Stated::deserialize(deserializer)? {
            Stated::One(path) => vec![path],
            Stated::Several(paths) => paths,
        })
    }
}

impl PoolSpec {
    /// Builds the specification of a pool whose format is recognised.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: vec![path.into()], ..Self::default() }
    }

    /// Returns the pool with relative paths joined to `dir`, the directory of the file that states them.
    #[must_use]
    pub fn below(mut self, dir: &Path) -> Self {
        for path in &mut self.path {
            *path = dir.join(&*path).to_string_lossy().into_owned();
        }
        self.images = self.images.map(|images| dir.join(images));
        self
    }

    /// Returns the files with the folder below the stated path in which each was found, and the number of data files
    /// that are not read because their folder has files of an earlier format.
    pub(super) fn files(&self) -> Result<(Vec<(PathBuf, String)>, u64)> {
        let (mut found, mut others) = (Vec::new(), 0);
        if self.path.is_empty() {
            return Err(Error::usage("the pool has no path"));
        }
        for stated in &self.path {
            let path = Path::new(stated);
            let before = found.len();
            if path.is_dir() {
                walk(path, path, 0, &mut found, &mut others)?;
            } else if path.symlink_metadata().is_ok() {
                found.push((path.to_path_buf(), String::new()));
            } else if stated.contains(['*', '?']) {
                for path in expand(stated)? {
                    match path.is_dir() {
                        true => {
                            let root = path.parent().unwrap_or(Path::new(""));
                            walk(root, &path, 0, &mut found, &mut others)?;
                        }
                        false => found.push((path, String::new())),
                    }
                }
            } else {
                return Err(Error::usage(format!("the pool `{stated}` does not exist"))
                    .hint("give a data file, a directory of data files, or a pattern such as jsons/*.jsonl"));
            }
            if found.len() == before {
                return Err(Error::usage(format!("there is no data file in {stated}"))
                    .hint("data files end in .jsonl, .json, .parquet or .tar, perhaps with .gz or .zst"));
            }
        }
        Ok((found, others))
    }
}

/// Maximum depth of folders below a pool's directory.
const DEPTH: usize = 8;

/// Adds the data files of a directory, in the order of their names, each folder's files before its subfolders.
fn walk(root: &Path, dir: &Path, depth: usize, found: &mut Vec<(PathBuf, String)>, others: &mut u64) -> Result<()> {
    let step = || format!("listing {}", dir.display());
    let mut folders = Vec::new();
    let mut by_format: BTreeMap<Format, Vec<PathBuf>> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).with_context(step)? {
        let path = entry.with_context(step)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        match path.is_dir() {
            _ if hidden => {}
            true => folders.push(path),
            false => {
                if let Some(format) = Format::of_name(&path) {
                    by_format.entry(format).or_default().push(path);
                }
            }
        }
    }
    if let Some((_, mut files)) = by_format.pop_first() {
        files.sort();
        *others += by_format.values().map(|files| files.len() as u64).sum::<u64>();
        let below = dir.strip_prefix(root).ok().and_then(|below| below.iter().next());
        let folder = below.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        found.extend(files.into_iter().map(|file| (file, folder.clone())));
    }
    folders.sort();
    for folder in folders {
        if depth == DEPTH {
            return Err(Error::failed(format!("folders lie more than {DEPTH} deep")).context(step()));
        }
        walk(root, &folder, depth + 1, found, others)?;
    }
    Ok(())
}

/// Returns the existing paths that match a pattern, sorted.
fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    let mut places = vec![PathBuf::new()];
    for part in Path::new(pattern).components() {
        let name = part.as_os_str().to_string_lossy();
        if !name.contains(['*', '?']) {
            for place in &mut places {
                place.push(part);
            }
            continue;
        }
        let escaped = regex::escape(&name).replace(r"\*", ".*").replace(r"\?", ".");
        let wanted = Regex::new(&format!("(?s)^{escaped}$"))
            .map_err(|e| Error::usage(format!("the pattern `{}` cannot be used: {e}", excerpt(pattern, 200))))?;
        let mut matching = Vec::new();
        for place in places.iter().filter(|place| place.as_os_str().is_empty() || place.is_dir()) {
            let dir = if place.as_os_str().is_empty() { Path::new(".") } else { place };
            let step = || format!("listing {}", dir.display());
            for entry in std::fs::read_dir(dir).with_context(step)? {
                let entry = entry.with_context(step)?.file_name();
                let name = entry.to_string_lossy();
                if wanted.is_match(&name) && !name.starts_with('.') {
                    matching.push(place.join(&entry));
                }
            }
        }
        matching.sort();
        places = matching;
    }
    places.retain(|place| place.symlink_metadata().is_ok());
    Ok(places)
}

/// Number of bytes by which a format is recognised.
const HEAD: u64 = 4096;

/// Recognises the format of a file by its content.
///
/// # Errors
/// An error is returned if the file cannot be read or has none of the formats; it does not name the file.
pub(super) fn recognise(path: &Path) -> Result<Format> {
    let mut head = Vec::new();
    files::open(path)?.take(4).read_to_end(&mut head)?;
    if head == b"PAR1" {
        return Ok(Format::Parquet);
    }
    head.clear();
    let read = compressed::open(path)?.take(HEAD).read_to_end(&mut head);
    if head.is_empty() {
        read?;
        return Err(Error::failed("the file is empty"));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Ok(Format::WebDataset);
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = head.as_slice() {
        return Err(Error::failed("the file is UTF-16, expected UTF-8").hint("convert the file to UTF-8 with iconv"));
    }
    if head.starts_with(b"version https://git-lfs") {
        return Err(
            Error::failed("the file is a Git LFS pointer, not the data").hint("fetch the data with `git lfs pull`")
        );
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    match text.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'[') => Ok(Format::JsonArray),
        Some(b'{') => Ok(Format::JsonLines),
        // A first line that is broken does not decide about the others.
        _ if text.contains(&b'{') && Format::of_name(path).is_some() => Ok(Format::JsonLines),
        _ => Err(Error::failed("the file is neither JSON nor parquet nor a tar archive").hint(
            "data files hold LLaVA conversations: {\"id\", \"image\", \"conversations\": [{\"from\", \"value\"}]}",
        )),
    }
}
