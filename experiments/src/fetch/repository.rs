//! Repositories of the hub: which files an encoder or language model needs, and their download into the hub's cache.

use super::client::NO_HUB;
use super::download::{Identity, Places, Remote, disk};
use super::{Fetched, Session, here};
use burgess_base::temporary::{self, TemporaryPath};
use burgess_base::{Error, Result, atomic, nearest};
use burgess_encoders::checkpoint::{self, DIFFUSERS_FOLDERS};
use burgess_encoders::hub::{self, Repository};
use burgess_encoders::resolve::repository_weights;
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
struct At<'a> {
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
        report: &mut dyn FnMut(Fetched) -> Result<()>,
    ) -> Result<PathBuf> {
        let local = repository_weights(repository, file);
        // A snapshot may lack a configuration that only the hub's list names; a single file is complete or absent.
        let enough = file.is_some() || self.client.settings.offline;
        if let (true, Ok(path)) = (enough && !self.update, &local) {
            let root = repository.snapshot()?;
            let files = checkpoint::all_files(path)?;
            let mut damaged = None;
            for file in &files {
                damaged = damaged.or(Some(file).filter(|_| !self.is_whole(file).unwrap_or(true)));
            }
            match damaged {
                Some(file) if self.client.settings.offline => {
                    return Err(Error::failed(format!("{} is not what was published", file.display()))
                        .hint("run the same command where there is a network, without HF_HUB_OFFLINE"));
                }
                // Damaged files are fetched again below.
                Some(_) => {}
                None => {
                    for file in &files {
                        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
                        report(here(&name, file))?;
                    }
                    return local;
                }
            }
        }
        let step = || format!("fetching {} from {}", repository.name(), self.client.settings.endpoint);
        self.ask_hub(repository, file, report).map_err(|e| e.context(step()))
    }

    fn ask_hub(
        &self,
        repository: &Repository,
        file: Option<&str>,
        report: &mut dyn FnMut(Fetched) -> Result<()>,
    ) -> Result<PathBuf> {
        let at = self.look_up(repository)?;
        let (small, weights) = at.needed(file)?;
        // The indices come first: they name the shards.
        let indices = weights.iter().filter(|name| checkpoint::is_index(name));
        let first: Vec<String> = small.iter().chain(indices).cloned().collect();
        self.files(&at, &first, report)?;
        let mut second = BTreeSet::new();
        for name in weights {
            match checkpoint::is_index(&name) {
                false => second.extend([name]),
                true => second.extend(self.shards(&at, &name)?),
            }
        }
        self.files(&at, &second.into_iter().collect::<Vec<_>>(), report)?;
        let snapshot = at.snapshot();
        if !self.dry_run && !hub::is_commit(repository.revision()) {
            // Written last, so that a branch never refers to an incomplete snapshot.
            atomic::write(&at.folder.join("refs").join(repository.revision()), at.commit.as_bytes())?;
        }
        Ok(file.map_or_else(|| snapshot.clone(), |file| snapshot.join(file)))
    }

    fn look_up<'a>(&self, repository: &'a Repository) -> Result<At<'a>> {
        let endpoint = &self.client.settings.endpoint;
        let revision = escape(repository.revision()).replace('/', "%2F");
        let url = format!("{endpoint}/api/models/{}/revision/{revision}", repository.id);
        let answer = self.client.read(&url)?;
        let strange = |what: &str| Error::failed(format!("{url} answers {what}")).hint(NO_HUB);
        let listing: Listing =
            serde_json::from_slice(&answer).map_err(|e| strange(&format!("no list of files: {e}")))?;
        let names: BTreeSet<String> = listing.siblings.into_iter().map(|s| s.rfilename).collect();
        if !hub::is_commit(&listing.sha) {
            return Err(strange(&format!("`{}` for a commit", listing.sha.escape_debug())));
        }
        if let Some(name) = names.iter().find(|name| !hub::is_plain(name)) {
            return Err(strange(&format!("with a file `{}`, which no repository has", name.escape_debug())));
        }
        let cache = hub::cache()?;
        let folder = repository.folder(&cache);
        let locks = cache.join(".locks").join(folder.file_name().unwrap_or_default());
        Ok(At { repository, commit: listing.sha, names, folder, locks })
    }

    /// Names of the shards that an index lists, with the index's folder.
    fn shards(&self, at: &At, index: &str) -> Result<Vec<String>> {
        let local = at.snapshot().join(index);
        let listed = match local.is_file() {
            true => std::fs::read(&local)?,
            false => self.client.read(&self.address(at, index))?,
        };
        let folder = index.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let shards = checkpoint::index_shards(&listed).map_err(|e| e.context(format!("reading {index}")))?;
        let shards: Vec<String> = shards.into_iter().map(|name| format!("{folder}{name}")).collect();
        match shards.iter().find(|name| !at.names.contains(*name)) {
            Some(absent) => {
                Err(Error::failed(format!("{index} names {absent}, which {} has not", at.repository.name()))
                    .hint("it was not uploaded whole: try another revision, owner/name@revision"))
            }
            None => Ok(shards),
        }
    }

    fn address(&self, at: &At, name: &str) -> String {
        format!("{}/{}/resolve/{}/{}", self.client.settings.endpoint, at.repository.id, at.commit, escape(name))
    }

    /// Downloads files and links them into the snapshot.
    fn files(&self, at: &At, names: &[String], report: &mut dyn FnMut(Fetched) -> Result<()>) -> Result<()> {
        let mut pending = Vec::new();
        for name in names {
            let link = at.snapshot().join(name);
            if link.is_file() && self.is_whole(&link)? {
                report(here(name, &link))?;
                continue;
            }
            let url = self.address(at, name);
            let head = self.client.head(&url).map_err(|e| e.context(format!("asking for {name}")))?;
            let fine = |etag: &String| {
                !etag.starts_with('.') && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            };
            let etag = head.etag.filter(fine).filter(|etag| (1..=128).contains(&etag.len()));
            let etag =
                etag.ok_or_else(|| Error::failed(format!("{url} names no etag that could name a file")).hint(NO_HUB))?;
            let blobs = at.folder.join("blobs");
            let places = Places {
                file: blobs.join(&etag),
                part: blobs.join(format!("{etag}.incomplete")),
                lock: at.locks.join(format!("{etag}.lock")),
            };
            let remote = Remote { name: name.clone(), url, size: head.size, identity: Identity::Digest(etag) };
            pending.push((remote, places));
        }
        self.check_space(&pending, &at.folder)?;
        for (remote, places) in &pending {
            let fetched = self.get(remote, places)?;
            if !self.dry_run {
                link(&places.file, &at.snapshot().join(&remote.name), &remote.name)?;
            }
            report(fetched)?;
        }
        Ok(())
    }
}

impl At<'_> {
    fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshots").join(&self.commit)
    }

    /// Returns the configurations, and the weights (or the index of their shards), that are needed: `file` alone, or
    /// what an encoder's directory must have (see [`burgess_encoders::directory`]).
    fn needed(&self, file: Option<&str>) -> Result<(Vec<String>, Vec<String>)> {
        if let Some(file) = file {
            return match self.names.contains(file) {
                true => Ok((Vec::new(), checkpoint::gguf_parts(file))),
                false => {
                    let near = nearest(file, self.names.iter().map(String::as_str));
                    Err(Error::failed(format!("{} has no file {file}", self.repository.name())).hint(
                        match near.len() {
                            0 => format!("it has {} other files", self.names.len()),
                            _ => format!("it has {}", near.join(", ")),
                        },
                    ))
                }
            };
        }
        let names_in = |folder: &str| -> Vec<&str> {
            let inside = |name: &'_ String| name.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
            self.names.iter().filter(|name| inside(name)).filter_map(|name| name.rsplit('/').next()).collect()
        };
        let pipeline = self.names.contains("model_index.json");
        let folders: &[&str] = if pipeline { &DIFFUSERS_FOLDERS } else { &[""] };
        let mut weights = Vec::new();
        for folder in folders {
            let chosen = checkpoint::choose_weights(&names_in(folder)).map_err(|e| {
                e.context(format!("looking for weights in {} {folder}", self.repository.name()).trim().to_string())
            })?;
            for part in checkpoint::gguf_parts(chosen) {
                weights.push(if folder.is_empty() { part } else { format!("{folder}/{part}") });
            }
        }
        let small = |name: &&String| {
            let depth = name.matches('/').count();
            // Language models also need `tokenizer.model` and `chat_template.jinja`.
            let text = [".json", ".txt", ".model", ".jinja"].iter().any(|ending| name.ends_with(ending));
            text && !checkpoint::is_index(name) && depth <= usize::from(pipeline)
        };
        Ok((self.names.iter().filter(small).cloned().collect(), weights))
    }
}

/// Links a blob into a snapshot under its name; the link is relative, so that the cache can be moved.
fn link(blob: &Path, place: &Path, name: &str) -> Result<()> {
    let (Some(parent), Some(etag)) = (place.parent(), blob.file_name()) else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|e| disk(&e, parent))?;
    // Up from the folders of the name, the commit's folder and `snapshots`.
    let target = PathBuf::from("../".repeat(name.matches('/').count() + 2)).join("blobs").join(etag);
    temporary::remove_stale_copies(place);
    let fresh = TemporaryPath::beside(place);
    put(&target, blob, fresh.path()).and_then(|()| std::fs::rename(fresh.path(), place)).map_err(|e| disk(&e, place))
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
fn escape(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(names: &[&str], file: Option<&str>) -> Result<(Vec<String>, Vec<String>)> {
        let repository = Repository::new("a/b", None)?;
        let names = names.iter().map(ToString::to_string).collect();
        let nowhere = PathBuf::new();
        At { repository: &repository, commit: String::new(), names, folder: nowhere.clone(), locks: nowhere }
            .needed(file)
    }

    #[test]
    fn one_copy_of_the_weights_and_the_configurations_are_needed() -> Result<()> {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "pytorch_model.bin",
            "model.safetensors",
            "onnx/config.json",
        ];
        assert_eq!(needed(&names, None)?, (vec!["config.json".into()], vec!["model.safetensors".into()]));
        assert_eq!(needed(&names, Some("pytorch_model.bin"))?, (vec![], vec!["pytorch_model.bin".into()]));
        let error = needed(&names, Some("model.bin")).unwrap_err();
        assert!(error.hint_text().is_some_and(|h| h.contains("pytorch_model.bin")), "{error}");
        Ok(())
    }

    #[test]
    fn of_language_models_tokenizers_and_all_parts_are_needed() -> Result<()> {
        let names =
            ["chat_template.jinja", "config.json", "tokenizer.model", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf"];
        let parts = ["a-00001-of-00002.gguf".to_string(), "a-00002-of-00002.gguf".to_string()];
        let (small, weights) = needed(&names, None)?;
        assert_eq!(small, ["chat_template.jinja", "config.json", "tokenizer.model"]);
        assert_eq!(weights, parts);
        assert_eq!(needed(&names, Some(&parts[0]))?.1, parts);
        Ok(())
    }

    #[test]
    fn of_diffusers_the_parts_with_features_are_needed() -> Result<()> {
        let names = [
            "model_index.json",
            "v2-1_768-ema-pruned.safetensors",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/merges.txt",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.bin",
            "safety_checker/model.safetensors",
        ];
        let (small, weights) = needed(&names, None)?;
        assert_eq!(
            small,
            ["model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "tokenizer/merges.txt"]
        );
        let expected = [
            "text_encoder/model.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.bin",
        ];
        assert_eq!(weights, expected);
        Ok(())
    }

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(escape("a b/ü?.json"), "a%20b/%C3%BC%3F.json");
    }
}
