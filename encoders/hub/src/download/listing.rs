//! The files of a repository of the hub, and their download into the hub's cache.

use super::client::NO_HUB;
use super::disk::disk_error;
use super::transfer::{FileIdentity, FilePaths, RemoteFile};
use super::{DownloadedFile, Session, present};
use crate::{FileSelection, Repository, SelectedFiles, cache, is_commit, is_plain};
use burgess_base::temporary::{self, TemporaryPath};
use burgess_base::{Error, Result, atomic};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The fields of `/api/models/OWNER/NAME/revision/REVISION` that are used.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A repository at one commit.
struct PinnedRepository<'a> {
    repository: &'a Repository,
    commit: String,
    names: BTreeSet<String>,
    /// Folder of the repository in the hub's cache.
    folder: PathBuf,
    /// Directory of the lock files in the hub's cache.
    locks: PathBuf,
}

impl Session {
    pub(super) fn repository(
        &self,
        repository: &Repository,
        file: Option<&str>,
        selection: &dyn FileSelection,
        report: &mut dyn FnMut(DownloadedFile) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(file) = file.filter(|file| !is_plain(file)) {
            return Err(Error::usage(format!("`{file}` cannot be a file of the repository {}", repository.name())));
        }
        let local = repository.snapshot().map(|root| file.map_or_else(|| root.clone(), |file| root.join(file)));
        let local = local.and_then(|path| Ok((selection.local_files(&path)?, path)));
        // A snapshot may lack a configuration that only the hub's list names; a single file is complete or absent.
        let enough = file.is_some() || self.client.settings.offline;
        if let (true, Ok((files, path))) = (enough && !self.update, &local) {
            let root = repository.snapshot()?;
            let mut damaged = None;
            for file in files {
                damaged = damaged.or(Some(file).filter(|_| !self.is_undamaged(file).unwrap_or(true)));
            }
            match damaged {
                Some(file) if self.client.settings.offline => {
                    return Err(Error::failed(format!("{} differs from the published file", file.display()))
                        .hint("unset HF_HUB_OFFLINE to download it again"));
                }
                // Damaged files are downloaded again below.
                Some(_) => {}
                None => {
                    for file in files {
                        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
                        report(present(&name, file))?;
                    }
                    return Ok(path.clone());
                }
            }
        }
        let step = || format!("downloading {} from {}", repository.name(), self.client.settings.endpoint);
        self.download_listed(repository, file, selection, report).map_err(|e| e.context(step()))
    }

    fn download_listed(
        &self,
        repository: &Repository,
        file: Option<&str>,
        selection: &dyn FileSelection,
        report: &mut dyn FnMut(DownloadedFile) -> Result<()>,
    ) -> Result<PathBuf> {
        let at = self.look_up(repository)?;
        let SelectedFiles { configurations, weights } = selection.select(repository, &at.names, file)?;
        // The indices come first: they name the shards.
        let indices = weights.iter().filter(|name| selection.is_index(name));
        let first: Vec<String> = configurations.iter().chain(indices).cloned().collect();
        self.files(&at, &first, report)?;
        let mut second = BTreeSet::new();
        for name in weights {
            match selection.is_index(&name) {
                false => second.extend([name]),
                true => second.extend(self.shards(&at, &name, selection)?),
            }
        }
        self.files(&at, &second.into_iter().collect::<Vec<_>>(), report)?;
        let snapshot = at.snapshot();
        if !self.dry_run && !is_commit(repository.revision()) {
            // Written last, so that a branch never refers to an incomplete snapshot.
            atomic::write(&at.folder.join("refs").join(repository.revision()), at.commit.as_bytes())?;
        }
        Ok(file.map_or_else(|| snapshot.clone(), |file| snapshot.join(file)))
    }

    fn look_up<'a>(&self, repository: &'a Repository) -> Result<PinnedRepository<'a>> {
        let endpoint = &self.client.settings.endpoint;
        let revision = escape(repository.revision()).replace('/', "%2F");
        let url = format!("{endpoint}/api/models/{}/revision/{revision}", repository.id);
        let answer = self.client.read(&url)?;
        let strange = |what: &str| Error::failed(format!("{url} answered with {what}")).hint(NO_HUB);
        let listing: Listing =
            serde_json::from_slice(&answer).map_err(|e| strange(&format!("no list of files: {e}")))?;
        let names: BTreeSet<String> = listing.siblings.into_iter().map(|s| s.rfilename).collect();
        if !is_commit(&listing.sha) {
            return Err(strange(&format!("`{}` for a commit", listing.sha.escape_debug())));
        }
        if let Some(name) = names.iter().find(|name| !is_plain(name)) {
            return Err(strange(&format!("with a file `{}`, which no repository has", name.escape_debug())));
        }
        let cache = cache()?;
        let folder = repository.folder(&cache);
        let locks = cache.join(".locks").join(folder.file_name().unwrap_or_default());
        Ok(PinnedRepository { repository, commit: listing.sha, names, folder, locks })
    }

    /// Names of the shards that an index lists, with the index's folder.
    fn shards(&self, at: &PinnedRepository, index: &str, selection: &dyn FileSelection) -> Result<Vec<String>> {
        let local = at.snapshot().join(index);
        let listed = match local.is_file() {
            true => std::fs::read(&local)?,
            false => self.client.read(&self.address(at, index))?,
        };
        let folder = index.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let shards = selection.shards(&listed).map_err(|e| e.context(format!("reading {index}")))?;
        let shards: Vec<String> = shards.into_iter().map(|name| format!("{folder}{name}")).collect();
        match shards.iter().find(|name| !at.names.contains(*name)) {
            Some(absent) => Err(Error::failed(format!("{index} names {absent}, which {} lacks", at.repository.name()))
                .hint("the upload is incomplete: try another revision, owner/name@revision")),
            None => Ok(shards),
        }
    }

    fn address(&self, at: &PinnedRepository, name: &str) -> String {
        format!("{}/{}/resolve/{}/{}", self.client.settings.endpoint, at.repository.id, at.commit, escape(name))
    }

    /// Downloads files and links them into the snapshot.
    fn files(
        &self,
        at: &PinnedRepository,
        names: &[String],
        report: &mut dyn FnMut(DownloadedFile) -> Result<()>,
    ) -> Result<()> {
        let mut pending = Vec::new();
        for name in names {
            let link = at.snapshot().join(name);
            if link.is_file() && self.is_undamaged(&link)? {
                report(present(name, &link))?;
                continue;
            }
            let url = self.address(at, name);
            let head = self.client.head(&url).map_err(|e| e.context(format!("requesting {name}")))?;
            let fine = |etag: &String| {
                !etag.starts_with('.') && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            };
            let etag = head.etag.filter(fine).filter(|etag| (1..=128).contains(&etag.len()));
            let etag =
                etag.ok_or_else(|| Error::failed(format!("{url} gives no etag that can be a file name")).hint(NO_HUB))?;
            let blobs = at.folder.join("blobs");
            let paths = FilePaths {
                file: blobs.join(&etag),
                partial: blobs.join(format!("{etag}.incomplete")),
                lock: at.locks.join(format!("{etag}.lock")),
            };
            let remote = RemoteFile { name: name.clone(), url, size: head.size, identity: FileIdentity::Digest(etag) };
            pending.push((remote, paths));
        }
        self.check_space(&pending, &at.folder)?;
        for (remote, paths) in &pending {
            let fetched = self.file(remote, paths)?;
            if !self.dry_run {
                link(&paths.file, &at.snapshot().join(&remote.name), &remote.name)?;
            }
            report(fetched)?;
        }
        Ok(())
    }
}

impl PinnedRepository<'_> {
    fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshots").join(&self.commit)
    }
}

/// Links a blob into a snapshot under its name; the link is relative, so that the cache can be moved.
fn link(blob: &Path, place: &Path, name: &str) -> Result<()> {
    let (Some(parent), Some(etag)) = (place.parent(), blob.file_name()) else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|e| disk_error(&e, parent))?;
    // Up from the folders of the name, the commit's folder and `snapshots`.
    let target = PathBuf::from("../".repeat(name.matches('/').count() + 2)).join("blobs").join(etag);
    temporary::remove_stale_copies(place);
    let fresh = TemporaryPath::beside(place);
    put(&target, blob, fresh.path())
        .and_then(|()| std::fs::rename(fresh.path(), place))
        .map_err(|e| disk_error(&e, place))
}

#[cfg(unix)]
fn put(target: &Path, _blob: &Path, place: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, place)
}

/// Makes a hard link, or else a copy: symbolic links need a privilege on Windows.
#[cfg(not(unix))]
fn put(_target: &Path, blob: &Path, place: &Path) -> std::io::Result<()> {
    std::fs::hard_link(blob, place).or_else(|_| std::fs::copy(blob, place).map(|_| ()))
}

/// Escapes a path for an address: all characters but letters, digits and `-_.~/` become `%XX`.
pub(super) fn escape(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(escape("a b/ü?.json"), "a%20b/%C3%BC%3F.json");
    }
}
