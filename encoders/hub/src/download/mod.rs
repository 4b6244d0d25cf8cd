//! Downloads into the caches, with the rules of `huggingface_hub`: resumed after interruptions, verified by the
//! published digests, and renamed to their final names when complete.
//!
//! ```no_run
//! use burgess_hub::download::{Client, Session, Settings, Silent};
//! use burgess_hub::DownloadRequest;
//! # fn f(selection: &dyn burgess_hub::FileSelection) -> burgess_base::Result<()> {
//! let client = Client::new(Settings::from_environment()?, Silent)?;
//! let session = Session { client, dry_run: false, update: false };
//! let request = DownloadRequest::Url("https://example.org/model.pth".into());
//! let path = session.download(&request, selection, &mut |file| Ok(println!("{}", file.name)))?;
//! # Ok(()) }
//! ```
//!
//! - `settings`: settings from the environment.
//! - `client`: requests with token, redirects and retries, and error messages for refused requests.
//! - `transfer`: the download of one file.
//! - `verify`: the comparison of a local file with the published one.
//! - `listing`: the files of a repository, and their places in the hub's cache.

mod address;
mod client;
mod disk;
mod listing;
mod models;
mod progress;
mod settings;
mod transfer;
mod verify;

pub use client::Client;
pub use progress::{DownloadProgress, FileProgress, Silent};
pub use settings::{Limits, Settings, root_certificates};
pub use transfer::Verification;

use crate::{DownloadRequest, FileSelection, own_cache, url_path};
use burgess_base::{Error, Result};
use disk::disk_error;
use serde::Serialize;
use std::path::{Path, PathBuf};
use transfer::{FileIdentity, FilePaths, RemoteFile, Transfer, transfer};

/// A file that is on this machine, or would be after a download.
#[derive(Debug, Clone, Serialize)]
pub struct DownloadedFile {
    /// Name in the repository, or address.
    #[serde(rename = "file")]
    pub name: String,
    /// Size in bytes, if known.
    pub size: Option<u64>,
    /// Whether the file was downloaded now.
    #[serde(flatten)]
    pub state: FileState,
}

/// Whether a file is on this machine, and since when.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state")]
pub enum FileState {
    /// The file was on this machine before.
    #[serde(rename = "here")]
    Present,
    /// The file was downloaded now.
    #[serde(rename = "fetched")]
    Downloaded {
        /// Number of bytes received; an interrupted download had left the rest.
        received: u64,
        /// How the file was verified.
        #[serde(rename = "checked")]
        verification: Verification,
    },
    /// The file is absent; a dry run does not download it.
    #[serde(rename = "absent")]
    Absent,
}

/// A download: client and options.
pub struct Session {
    /// The client, with its settings.
    pub client: Client,
    /// Whether to only report the files that would be downloaded.
    pub dry_run: bool,
    /// Whether to ask the hub for the current commit of a branch even if its files are on this machine.
    pub update: bool,
}

impl Session {
    /// Downloads the files of a request; calls `report` for each file as soon as it is on this machine. Returns the
    /// local path of the requested file, or the directory of a repository's files.
    ///
    /// # Errors
    /// Network, server or disk fails, a received file is not the published one, or an error of `selection` or `report`.
    pub fn download(
        &self,
        request: &DownloadRequest,
        selection: &dyn FileSelection,
        report: &mut dyn FnMut(DownloadedFile) -> Result<()>,
    ) -> Result<PathBuf> {
        match request {
            DownloadRequest::Local(path) => report(present(&path.display().to_string(), path)).map(|()| path.clone()),
            DownloadRequest::Url(url) => self.url(url, report),
            DownloadRequest::Repository(repository, file) => {
                self.repository(repository, file.as_deref(), selection, report)
            }
        }
    }

    fn url(&self, url: &str, report: &mut dyn FnMut(DownloadedFile) -> Result<()>) -> Result<PathBuf> {
        let file = url_path(url)?;
        if file.is_file() && self.is_undamaged(&file)? {
            report(present(url, &file))?;
            return Ok(file);
        }
        let head = self.client.head(url).map_err(|e| e.context(format!("requesting {url}")))?;
        let remote = RemoteFile {
            name: url.to_string(),
            url: url.to_string(),
            size: head.size,
            identity: FileIdentity::Validator(head.validator),
        };
        let beside = |ending: &str| {
            let mut name = file.file_name().unwrap_or_default().to_os_string();
            name.push(ending);
            file.with_file_name(name)
        };
        let paths = FilePaths { partial: beside(".incomplete"), lock: beside(".lock"), file: file.clone() };
        let pending = [(remote, paths)];
        self.check_space(&pending, &own_cache()?)?;
        for (remote, paths) in &pending {
            report(self.file(remote, paths)?)?;
        }
        Ok(file)
    }

    /// Downloads a file; a dry run only reports whether it is absent.
    fn file(&self, remote: &RemoteFile, paths: &FilePaths) -> Result<DownloadedFile> {
        let state = match self.dry_run {
            true if paths.file.is_file() && verify::damage(&paths.file, remote.size)?.is_none() => FileState::Present,
            true => FileState::Absent,
            false => match transfer(&self.client, remote, paths)? {
                Some(Transfer { received, verification }) => FileState::Downloaded { received, verification },
                None => FileState::Present,
            },
        };
        let size = paths.file.metadata().map(|m| m.len()).ok().or(remote.size);
        Ok(DownloadedFile { name: remote.name.clone(), size, state })
    }

    /// Whether a local file is undamaged, as far as that can be checked; reports the damage otherwise.
    fn is_undamaged(&self, file: &Path) -> Result<bool> {
        let damage = verify::damage(file, None)?;
        if let Some(damage) = &damage {
            self.client.progress.message(&format!("note: {} is damaged: {damage}", file.display()));
        }
        Ok(damage.is_none())
    }

    /// Checks before the download that the disk has enough free space.
    fn check_space(&self, pending: &[(RemoteFile, FilePaths)], cache: &Path) -> Result<()> {
        let missing = |(remote, paths): &(RemoteFile, FilePaths)| match paths.file.is_file() {
            true => 0,
            false => remote.size.unwrap_or(0).saturating_sub(paths.partial.metadata().map_or(0, |m| m.len())),
        };
        let needed: u64 = pending.iter().map(missing).sum();
        let Some(existing) = cache.ancestors().find(|dir| dir.is_dir()) else { return Ok(()) };
        let free = fs4::available_space(existing).map_err(|e| disk_error(&e, existing))?;
        match needed > free && !self.dry_run {
            true => Err(Error::failed(format!(
                "the download needs {} in {}, but only {} are free",
                decimal_size(needed),
                cache.display(),
                decimal_size(free)
            ))
            .hint("free some disk space, or set HF_HUB_CACHE (BURGESS_CACHE for files of other servers) to a directory on another disk")),
            false => Ok(()),
        }
    }
}

/// Makes the report for a file that is on this machine already.
fn present(name: &str, path: &Path) -> DownloadedFile {
    DownloadedFile { name: name.to_string(), size: path.metadata().map(|m| m.len()).ok(), state: FileState::Present }
}

/// Formats a size with a decimal unit, such as `1.22 GB`.
pub fn decimal_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1000.0, unit + 1);
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.2} {unit_name}") }
}

#[cfg(test)]
mod tests {
    use super::decimal_size;

    #[test]
    fn sizes_have_decimal_units() {
        let sizes = [0, 999, 1000, 5000, 30_000, 1_220_000_000];
        assert_eq!(sizes.map(decimal_size), ["0 B", "999 B", "1.00 kB", "5.00 kB", "30.00 kB", "1.22 GB"]);
    }
}
