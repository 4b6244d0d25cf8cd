//! Paths in a TOML file: they are relative to the file or, if nothing exists there, to the working directory, like
//! paths on the command line.

use burgess_base::{Error, Result};
use std::path::{Path, PathBuf};

/// Prefix of paths in studies that stands for the directory that `burgess data field` prepared.
pub const FIELD: &str = "{field}/";

/// Whether a path begins with [`FIELD`].
pub fn is_in_field(name: &str) -> bool {
    name.starts_with(FIELD)
}

/// Whether a string can only be a path: `./a`, `../a`, `/a`, `~/a`, `a/`, `a/b/c`, `C:\a`.
pub fn is_path(text: &str) -> bool {
    let named = text.starts_with(['.', '/', '~']) || text.ends_with('/') || text.contains('\\');
    // The revision or file of a repository may contain more slashes.
    named || text.split(['@', ':']).next().is_some_and(|name| name.matches('/').count() > 1)
}

/// Directory of a TOML file; `None` if it is the working directory.
pub fn folder(file: &Path) -> Option<PathBuf> {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty())?;
    let whole = parent.canonicalize().ok()?;
    let here = std::env::current_dir().and_then(|d| d.canonicalize()).ok();
    (here.as_ref() != Some(&whole)).then_some(whole)
}

/// Resolves `path`: below `folder` if it exists there, else as it is written, relative to the working directory.
///
/// # Errors
/// It exists at neither place; the error names both.
pub fn locate(folder: Option<&Path>, path: &Path, what: &str) -> Result<PathBuf> {
    let beside = folder.map(|folder| folder.join(path));
    if let Some(found) = beside.iter().find(|p| p.exists()) {
        return Ok(found.clone());
    }
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    Err(absent(folder, path, what))
}

/// Makes the error for a path that does not exist, with the places where it was looked for.
fn absent(folder: Option<&Path>, path: &Path, what: &str) -> Error {
    let shown = burgess_base::text::excerpt(&path.display().to_string(), 200);
    if path.starts_with("~") {
        return Error::usage(format!("{what} {shown} does not exist"))
            .hint("~ stands for the home directory only in a shell: write the whole path");
    }
    let here = std::env::current_dir().map(|d| d.join(path).display().to_string()).unwrap_or_default();
    let beside = folder.map(|f| f.join(path).display().to_string()).filter(|p| *p != here);
    let tried = match beside {
        _ if path.is_absolute() => String::new(),
        Some(beside) => format!(": neither {beside} nor {here} exists"),
        None => format!(": looked for {here}"),
    };
    Error::usage(format!("{what} {shown} does not exist{tried}"))
        .hint("paths in a study or run are relative to its file, or else to the working directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_looked_for_beside_the_file_and_then_here() -> Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("data"))?;
        let folder = Some(dir.path());
        assert_eq!(locate(folder, Path::new("data"), "x")?, dir.path().join("data"));
        // Tests run in the crate's directory.
        assert_eq!(locate(folder, Path::new("Cargo.toml"), "x")?, Path::new("Cargo.toml"));
        let e = locate(folder, Path::new("away"), "the data directory").unwrap_err();
        let here = std::env::current_dir()?.join("away");
        for place in [dir.path().join("away"), here] {
            assert!(e.to_string().contains(&place.display().to_string()), "{e}");
        }
        assert!(e.exit_code() == 2 && e.hint_text().is_some());
        assert!(locate(None, Path::new("~/x"), "x").unwrap_err().hint_text().is_some_and(|h| h.contains("whole path")));
        Ok(())
    }

    #[test]
    fn what_can_only_be_a_path() {
        for text in ["./a", "../a", "/a", "~/a", "a/", "a/b/c", "a\\b"] {
            assert!(is_path(text), "{text}");
        }
        for text in ["a", "owner/name", "nano-clip", "a.gguf", "owner/name@refs/pr/1", "owner/name:sub/a.gguf"] {
            assert!(!is_path(text), "{text}");
        }
    }
}
