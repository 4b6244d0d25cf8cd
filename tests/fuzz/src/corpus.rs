//! Seed files from the repository, found by patterns.

use std::fs;
use std::path::{Path, PathBuf};

/// Largest size of a seed file in bytes; larger files consist mostly of weights.
const LARGEST: u64 = 320 << 10;

/// A seed file.
#[derive(Debug, Clone)]
pub struct SeedFile {
    /// Contents of the file.
    pub bytes: Vec<u8>,
    /// Path of the file; files that belong to it lie beside it.
    pub origin: PathBuf,
}

/// Path of the repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Loads the files that match `patterns` below the root (`*` is any part of a name, `**` any folders), and those in the
/// target's own folder in `corpus/`, sorted by path. A file `NAME.beside` holds the path of the repository file beside
/// which `NAME` belongs.
///
/// # Errors
/// A directory or a file cannot be read.
pub fn load(target: &str, patterns: &[&str]) -> std::io::Result<Vec<SeedFile>> {
    let root = root();
    let own = format!("tests/fuzz/corpus/{target}/*");
    let mut files = Vec::new();
    for pattern in patterns.iter().copied().chain([own.as_str()]) {
        let parts: Vec<&str> = pattern.split('/').collect();
        let mut found = Vec::new();
        matching(&root, &parts, &mut found)?;
        found.sort();
        files.extend(found);
    }
    let mut seeds = Vec::new();
    for file in files {
        if fs::metadata(&file)?.len() > LARGEST || file.extension().is_some_and(|e| e == "beside") {
            continue;
        }
        let mut note = file.clone().into_os_string();
        note.push(".beside");
        let origin = match fs::read_to_string(note) {
            Ok(beside) => root.join(beside.trim()),
            Err(_) => file.clone(),
        };
        seeds.push(SeedFile { bytes: fs::read(&file)?, origin });
    }
    Ok(seeds)
}

fn matching(dir: &Path, parts: &[&str], found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let Some((first, rest)) = parts.split_first() else { return Ok(()) };
    if !first.contains('*') {
        let next = dir.join(first);
        return match rest {
            [] if next.is_file() => {
                found.push(next);
                Ok(())
            }
            [] => Ok(()),
            _ => matching(&next, rest, found),
        };
    }
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match (*first == "**", path.is_dir()) {
            (true, true) => {
                matching(&path, parts, found)?;
            }
            (true, false) if rest.len() == 1 && rest.first().is_some_and(|last| fits(&name, last)) => found.push(path),
            (false, true) if fits(&name, first) => matching(&path, rest, found)?,
            (false, false) if rest.is_empty() && fits(&name, first) => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a name matches a pattern with at most one `*`.
fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
    }
}
