//! Weights that this project made itself and ships: the folders that may hold them, and those inside a program.
//!
//! A zoo has encoders under `weights/` and language models under `llm/<name>/`. A source tree keeps the two apart, in
//! `encoders/zoo/weights/` and `probe/zoo/`. A program that contains the files registers them with [`embed`]; they are
//! written to the cache when they are first needed, so that they are memory-mapped like all weights.

use crate::hub::own_cache;
use burgess_base::{Error, Result, atomic, digest};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A file inside the program: path in the zoo, as in `weights/nano-clip.safetensors`, and contents.
pub type EmbeddedFile = (&'static str, &'static [u8]);

static EMBEDDED: OnceLock<&'static [EmbeddedFile]> = OnceLock::new();

/// Registers the zoo files that the program contains. Only the first call has an effect.
pub fn embed(files: &'static [EmbeddedFile]) {
    let _ = EMBEDDED.set(files);
}

/// The folder that the environment variable `BURGESS_ZOO` names. Language models are searched there first, encoders
/// only there.
fn named() -> Option<PathBuf> {
    std::env::var_os("BURGESS_ZOO").filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

/// The zoos that an installation may have beside the program.
fn installed() -> Vec<PathBuf> {
    let executable = std::env::current_exe().ok();
    let Some(dir) = executable.as_deref().and_then(Path::parent) else { return Vec::new() };
    let shared = dir.parent().map(|parent| parent.join("share/burgess/zoo"));
    [Some(dir.join("zoo")), shared].into_iter().flatten().collect()
}

/// The source tree that this library was built from.
fn source_tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folders of a zoo that hold encoders' weights: `dir` may be a source tree, its `encoders/zoo`, or a folder of
/// weights.
fn weights_folders(dir: &Path) -> Vec<PathBuf> {
    vec![dir.join("encoders/zoo/weights"), dir.join("weights"), dir.to_path_buf()]
}

/// The folders of a zoo that hold language models, one folder per model: `dir` may be a source tree, its
/// `encoders/zoo`, its `probe/zoo`, or a zoo with `llm/`.
fn llm_folders(dir: &Path) -> Vec<PathBuf> {
    vec![dir.join("probe/zoo"), dir.join("llm"), dir.to_path_buf(), dir.join("../../probe/zoo")]
}

/// Returns the file with these weights, as in `nano-clip.safetensors`.
///
/// Searched are, if `BURGESS_ZOO` is set, the source tree, zoo or folder of weights that it names; else `zoo/weights/`
/// beside the executable, `../share/burgess/zoo/weights/` relative to it, the files inside the program, and the source
/// tree of the build.
///
/// # Errors
/// The file is in none of these places, or the cache cannot be written.
pub fn weights(file: &str) -> Result<PathBuf> {
    let mut tried = Vec::new();
    let mut find = |dirs: Vec<PathBuf>| {
        let found = dirs.iter().map(|dir| dir.join(file)).find(|path| path.is_file());
        tried.extend(dirs);
        found
    };
    let path = match named() {
        Some(dir) => find(weights_folders(&dir)),
        None => match find(installed().into_iter().map(|dir| dir.join("weights")).collect()) {
            Some(path) => Some(path),
            None => match extract(&format!("weights/{file}"))? {
                Some(path) => Some(path),
                None => find(vec![source_tree().join("encoders/zoo/weights")]),
            },
        },
    };
    path.ok_or_else(|| {
        let list: Vec<String> = tried.iter().map(|dir| dir.display().to_string()).collect();
        Error::failed(format!("{file} is not on this machine; looked for it in {}", list.join(", "))).hint(
            "set BURGESS_ZOO to a checkout of Burgess, to its `encoders/zoo`, or to the folder that holds the file",
        )
    })
}

/// Whether [`weights`] would find the file. Nothing is written, so that lists of encoders do not unpack them.
pub fn has_weights(file: &str) -> bool {
    let is_in = |dir: PathBuf| dir.join(file).is_file();
    match named() {
        Some(dir) => weights_folders(&dir).into_iter().any(is_in),
        None => {
            let mut embedded = EMBEDDED.get().into_iter().flat_map(|files| files.iter());
            embedded.any(|(path, _)| path.strip_prefix("weights/") == Some(file))
                || installed().into_iter().map(|dir| dir.join("weights")).any(is_in)
                || is_in(source_tree().join("encoders/zoo/weights"))
        }
    }
}

/// Returns the directory of the shipped language model `name`; `None` if there is none of this name.
///
/// # Errors
/// The cache cannot be written.
pub fn language_model(name: &str) -> Result<Option<PathBuf>> {
    let find =
        |dirs: Vec<PathBuf>| dirs.into_iter().map(|dir| dir.join(name)).find(|dir| dir.join("config.json").is_file());
    if Path::new(name).file_name() != Some(name.as_ref()) {
        return Ok(None);
    }
    if let Some(found) = named().and_then(|dir| find(llm_folders(&dir))) {
        return Ok(Some(found));
    }
    if let Some(found) = find(installed().into_iter().map(|dir| dir.join("llm")).collect()) {
        return Ok(Some(found));
    }
    match extract(&format!("llm/{name}/"))? {
        Some(dir) => Ok(Some(dir)),
        None => Ok(find(vec![source_tree().join("probe/zoo")])),
    }
}

/// The names of the shipped language models, sorted.
pub fn language_models() -> Vec<String> {
    let mut folders = named().map_or_else(Vec::new, |dir| llm_folders(&dir));
    folders.extend(installed().into_iter().map(|dir| dir.join("llm")));
    folders.push(source_tree().join("probe/zoo"));
    let items = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let models = items.filter(|item| item.path().join("config.json").is_file());
    let mut names: Vec<String> = models.map(|item| item.file_name().to_string_lossy().into_owned()).collect();
    let inside = EMBEDDED.get().into_iter().flat_map(|files| files.iter());
    names.extend(inside.filter_map(|(path, _)| Some(path.strip_prefix("llm/")?.split_once('/')?.0.to_string())));
    names.sort();
    names.dedup();
    names
}

/// The folder in which newly made weights of encoders are kept: that of `BURGESS_ZOO`, or of the source tree.
///
/// # Errors
/// There is no such folder on this machine.
pub fn new_weights_folder() -> Result<PathBuf> {
    let folders = match named() {
        Some(dir) => weights_folders(&dir),
        None => vec![source_tree().join("encoders/zoo/weights")],
    };
    folders.into_iter().find(|dir| dir.is_dir()).ok_or_else(|| {
        Error::failed("there is no checkout of Burgess on this machine in which new weights could be kept")
            .hint("name the file to write, or set BURGESS_ZOO to a checkout")
    })
}

/// The directory in which the newly made language model `name` is kept, with the recipe that makes it: below the folder
/// of `BURGESS_ZOO`, or in the source tree.
///
/// # Errors
/// There is no such directory on this machine.
pub fn new_language_model_folder(name: &str) -> Result<PathBuf> {
    let folders = match named() {
        Some(dir) => llm_folders(&dir),
        None => vec![source_tree().join("probe/zoo")],
    };
    folders.into_iter().map(|dir| dir.join(name)).find(|dir| dir.is_dir()).ok_or_else(|| {
        Error::failed(format!("there is no checkout of Burgess on this machine in which a new {name} could be kept"))
            .hint("name the directory that holds its recipe, or set BURGESS_ZOO to a checkout")
    })
}

/// Writes the embedded files whose paths begin with `path` to the cache, unless they are there already, and returns the
/// path of the file or directory; `None` if the program contains none of them. A file's record (`.json`) is written
/// with it.
fn extract(path: &str) -> Result<Option<PathBuf>> {
    let Some(files) = EMBEDDED.get() else { return Ok(None) };
    extract_to(files, path, || Ok(own_cache()?.join("zoo")))
}

fn extract_to(files: &[EmbeddedFile], path: &str, root: impl Fn() -> Result<PathBuf>) -> Result<Option<PathBuf>> {
    let stem = path.strip_suffix(".safetensors").map_or_else(|| path.to_string(), |stem| format!("{stem}."));
    let wanted: Vec<&EmbeddedFile> = files.iter().filter(|(name, _)| name.starts_with(&stem)).collect();
    if !wanted.iter().any(|(name, _)| *name == path || path.ends_with('/')) {
        return Ok(None);
    }
    // The folder is named by its contents: another version of the program has another one.
    let digests: Vec<String> = wanted.iter().map(|(_, bytes)| digest::of_bytes(bytes)).collect();
    let all = digest::of_bytes(digests.concat().as_bytes());
    let root = root()?.join(all.get(..16).unwrap_or(&all));
    for (name, bytes) in &wanted {
        let file = root.join(name);
        if std::fs::metadata(&file).is_ok_and(|m| m.len() == bytes.len() as u64) {
            continue;
        }
        atomic::write(&file, bytes).map_err(|e| {
            e.context(format!("unpacking {name} from the program"))
                .hint("set BURGESS_CACHE to a directory that can be written, or BURGESS_ZOO to a checkout of Burgess")
        })?;
    }
    Ok(Some(root.join(path.trim_end_matches('/'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [EmbeddedFile; 5] = [
        ("weights/a.safetensors", b"one"),
        ("weights/a.json", b"{}"),
        ("weights/ab.safetensors", b"two"),
        ("llm/m/config.json", b"{}"),
        ("llm/m/model.safetensors", b"three"),
    ];

    #[test]
    fn embedded_files_are_written_once_and_again_when_they_are_cut() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let root = || Ok(dir.path().to_path_buf());
        let path = extract_to(&FILES, "weights/a.safetensors", root)?.ok_or_else(|| Error::failed("embedded"))?;
        assert_eq!(std::fs::read(&path)?, b"one");
        assert_eq!(std::fs::read(path.with_extension("json"))?, b"{}");
        assert!(!path.with_file_name("ab.safetensors").exists(), "only what is asked for");
        std::fs::write(&path, "o")?;
        assert_eq!(extract_to(&FILES, "weights/a.safetensors", root)?.as_ref(), Some(&path));
        assert_eq!(std::fs::read(&path)?, b"one");
        let model = extract_to(&FILES, "llm/m/", root)?.ok_or_else(|| Error::failed("embedded"))?;
        assert_eq!(std::fs::read(model.join("model.safetensors"))?, b"three");
        for absent in ["weights/c.safetensors", "llm/n/", "weights/b.safetensors"] {
            assert_eq!(extract_to(&FILES, absent, root)?, None, "{absent}");
        }
        Ok(())
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = extract_to(&FILES, "llm/m/", || Ok(file.path().to_path_buf())).expect_err("a file is no folder");
        assert!(error.to_string().contains("unpacking llm/m/config.json"), "{error}");
        assert!(error.hint_text().is_some_and(|h| h.contains("BURGESS_CACHE")), "{error:?}");
    }

    #[test]
    fn a_zoo_may_be_a_source_tree_a_zoo_or_a_folder_of_weights() {
        let tree = source_tree();
        for dir in [tree.clone(), tree.join("encoders/zoo"), tree.join("encoders/zoo/weights")] {
            let found = weights_folders(&dir).into_iter().any(|d| d.join("nano-random.safetensors").is_file());
            assert!(found, "{}", dir.display());
        }
        for dir in [tree.clone(), tree.join("encoders/zoo"), tree.join("probe/zoo")] {
            let found = llm_folders(&dir).into_iter().any(|d| d.join("nano-lm/config.json").is_file());
            assert!(found, "{}", dir.display());
        }
    }
}
