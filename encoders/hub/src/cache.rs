//! The local directories: the Hugging Face cache, shared with all programs that use the hub, and Burgess's own cache.

use burgess_base::{Error, Result, digest};
use std::path::{Path, PathBuf};

/// Whether a revision is a full commit hash, which unlike a branch or tag never changes its meaning.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a relative path with slashes stays below the directory it is joined to, on every operating system.
pub fn is_plain(name: &str) -> bool {
    let fine = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    name.split('/').all(fine)
}

/// The Hugging Face cache: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
pub fn cache() -> Result<PathBuf> {
    match directory("HF_HUB_CACHE").or_else(|| directory("HUGGINGFACE_HUB_CACHE")) {
        Some(cache) => Ok(cache),
        None => Ok(home()?.join("hub")),
    }
}

/// The home directory of Hugging Face programs: `HF_HOME`, else `~/.cache/huggingface`.
pub fn home() -> Result<PathBuf> {
    directory("HF_HOME")
        .or_else(|| user_cache().map(|d| d.join("huggingface")))
        .ok_or_else(|| Error::failed("no Hugging Face cache is known: HOME is not set").hint("set HF_HOME"))
}

/// Burgess's own cache (worlds, features, files from other servers): `BURGESS_CACHE`, else `~/.cache/burgess`.
pub fn own_cache() -> Result<PathBuf> {
    directory("BURGESS_CACHE").or_else(|| user_cache().map(|d| d.join("burgess"))).ok_or_else(|| {
        Error::failed("no cache directory is known: HOME is not set").hint("set BURGESS_CACHE to a directory")
    })
}

/// Local path of a file from a server other than the hub: `weights/HOST/PATH` in [`own_cache`]. If the address has a
/// query, a folder named by the query's digest precedes the path.
///
/// # Errors
/// The address does not name a file.
pub fn url_path(url: &str) -> Result<PathBuf> {
    let no_file = || Error::usage(format!("`{url}` is not the address of a file"));
    let (_, rest) = url.split('#').next().and_then(|url| url.split_once("://")).ok_or_else(no_file)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = path.split_once('/').ok_or_else(no_file)?;
    let host = host.replace(':', "_");
    if !is_plain(&host) || !is_plain(path) {
        return Err(no_file());
    }
    let folder = own_cache()?.join("weights").join(host);
    Ok(if query.is_empty() { folder.join(path) } else { folder.join(digest::of_bytes(query.as_bytes())).join(path) })
}

/// Local path of the downloaded file from this address.
///
/// # Errors
/// The address does not name a file, or the file was not downloaded.
pub fn url_file(url: &str) -> Result<PathBuf> {
    let path = url_path(url)?;
    let absent = || Error::failed(format!("{} is absent; it comes from {url}", path.display()));
    if path.is_file() { Ok(path) } else { Err(absent()) }
}

fn user_cache() -> Option<PathBuf> {
    directory("XDG_CACHE_HOME")
        .or_else(|| directory("HOME").map(|home| home.join(".cache")))
        .or_else(|| directory("LOCALAPPDATA"))
}

/// A directory from an environment variable; `~/` is replaced by the home directory, as in Python.
fn directory(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from)?;
    match (value.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Some(Path::new(&home).join(rest)),
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_directory_are_detected() {
        assert!(is_plain("unet/config.json") && is_plain("a..b"));
        for name in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", "C:x", "a/./b", "a\0b"] {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(url_path("https://host:80/a/b.pth").is_ok_and(|p| p.ends_with("weights/host_80/a/b.pth")));
        let two = ["x=1", "x=2"].map(|query| url_path(&format!("https://host/b.pth?{query}")).ok());
        assert!(two[0].as_ref().is_some_and(|p| p.ends_with("b.pth")) && two[0] != two[1]);
        assert!(url_path("https://host/../../b.pth").is_err() && url_path("https://host").is_err());
    }
}
