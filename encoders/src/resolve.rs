//! From a name to an encoder: the card that an id, a local directory, a card's file or a repository of the Hugging Face
//! hub stands for, and the local files that hold a card's weights.

use crate::card::{EncoderCard, WeightsLocation};
use crate::checkpoint::{self, Checkpoint};
use crate::directory;
use crate::hub::{self, Repository};
use crate::shipped;
use burgess_base::text::excerpt;
use burgess_base::{Error, Result, nearest};
use std::path::{Path, PathBuf};

impl EncoderCard {
    /// Opens the card with this id, the card of the directory at this path (see [`directory`]), the card in this TOML
    /// file, or the card of the downloaded repository `owner/name[@revision]` of the hub (see [`hub`]). A suffix such
    /// as `@prefix=teacher.` selects the encoder under that prefix.
    ///
    /// # Errors
    /// As [`EncoderCard::open_under`].
    pub fn open(name: &str) -> Result<Self> {
        match name.rsplit_once("@prefix=") {
            Some((name, prefix)) => Self::open_under(name, Some(prefix)),
            None => Self::open_under(name, None),
        }
    }

    /// As [`EncoderCard::open`], with the prefix of the weights as an argument of its own.
    ///
    /// # Errors
    /// There is no such encoder, or the weights have no tensor under the prefix.
    pub fn open_under(name: &str, prefix: Option<&str>) -> Result<Self> {
        let prefix = prefix.filter(|prefix| !prefix.is_empty()).map(|prefix| match prefix.ends_with('.') {
            true => prefix.to_string(),
            false => format!("{prefix}."),
        });
        let path = Path::new(name);
        if path.is_dir() {
            return directory::card_under(path, prefix.as_deref());
        }
        let mut card = match Repository::parse(name) {
            _ if path.is_file() && path.extension().is_some_and(|e| e == "toml") => Self::from_file(path)?,
            _ if is_path(name) || path.exists() => return Err(no_directory(name)),
            Some(repository) => return repository_card(&repository, prefix.as_deref()),
            None => Self::find(name)?,
        };
        card.source.prefix = prefix.or(card.source.prefix);
        Ok(card)
    }
}

/// Card of a repository's encoder, derived as for a [`directory`] from the weights under `prefix` (all weights if
/// absent), with the repository's name and pinned to the local commit.
///
/// # Errors
/// The repository was not downloaded completely, there is no tensor under the prefix, or an error of
/// [`directory::card`].
pub fn repository_card(repository: &Repository, prefix: Option<&str>) -> Result<EncoderCard> {
    let directory = repository_weights(repository, None)?;
    let mut card = directory::card_under(&directory, prefix)?;
    card.id = repository.id.clone();
    card.title = repository.id.rsplit('/').next().unwrap_or_default().to_string();
    let commit = directory.file_name().map(|c| c.to_string_lossy().into_owned());
    card.source.location = WeightsLocation::Hub { repository: repository.id.clone(), file: None, revision: commit };
    Ok(card)
}

/// Local path of a repository's weights: `file`, or the directory of all files if absent.
///
/// # Errors
/// The weights, or a shard of them, are absent.
pub fn repository_weights(repository: &Repository, file: Option<&str>) -> Result<PathBuf> {
    let directory = repository.snapshot()?;
    let path = match file {
        Some(file) if !hub::is_plain(file) => {
            return Err(Error::usage(format!("`{file}` cannot be a file of the repository {}", repository.id)));
        }
        Some(file) => directory.join(file),
        None => directory,
    };
    checkpoint::all_files(&path).map_err(|e| {
        Error::failed(format!("{} is not complete on this machine: {e}", repository.name()))
            .hint(format!("download {}", repository.name()))
            .downloadable(repository.name())
    })?;
    Ok(path)
}

/// Whether a name can only be a path: neither an id of a card nor a repository of the hub looks like it.
pub fn is_path(name: &str) -> bool {
    let starts = ["./", "../", "/", "~", ".\\", "..\\"].iter().any(|start| name.starts_with(start));
    let bare = name.split_once('@').map_or(name, |(name, _)| name);
    starts
        || matches!(name, "." | "..")
        || name.contains('\\')
        || (bare.contains('/') && Repository::parse(name).is_none())
}

/// The error for a path that is not an encoder's directory.
fn no_directory(name: &str) -> Error {
    let path = Path::new(name);
    if path.is_file() {
        return Error::usage(format!("{} is a file, not the directory of an encoder", excerpt(name, 300)))
            .hint("give the directory that holds it beside its config.json, or a card and this file as its weights");
    }
    let shown = excerpt(name, 300);
    let message = match name.starts_with('~') {
        true => format!("{shown} does not exist: `~` is not replaced by the home directory here"),
        false => match std::path::absolute(path) {
            Ok(whole) if !path.is_absolute() => {
                format!("{shown} does not exist: there is no {}", excerpt(&whole.display().to_string(), 400))
            }
            _ => format!("{shown} does not exist"),
        },
    };
    let beside = path.parent().filter(|parent| parent.is_dir() && !parent.as_os_str().is_empty());
    let names = beside.and_then(|parent| std::fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let names: Vec<String> = names
        .filter(|entry| {
            entry.path().join("config.json").is_file() || entry.path().join("open_clip_config.json").is_file()
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let near = nearest(&wanted, names.iter().map(String::as_str));
    Error::usage(message).hint(match (near.is_empty(), beside) {
        (false, Some(parent)) => {
            let near: Vec<String> = near.iter().map(|n| parent.join(n).display().to_string()).collect();
            format!("did you mean {}?", near.join(" or "))
        }
        _ => "give a directory with weights and a config.json; a card's id is written without `./`".into(),
    })
}

/// Returns the local file or directory that holds a card's weights.
///
/// Shipped weights are searched where [`shipped::weights`] says, published weights in the caches of [`hub`], where this
/// project's downloads and other programs store them.
///
/// # Errors
/// The weights are not on this machine.
pub fn weights_path(card: &EncoderCard) -> Result<PathBuf> {
    match &card.source.location {
        WeightsLocation::Shipped { file } => {
            shipped::weights(file).map_err(|e| e.context(format!("looking for the weights of {}", card.id)))
        }
        WeightsLocation::Directory(path) if path.is_dir() => Ok(path.clone()),
        WeightsLocation::Directory(path) => {
            Err(Error::failed(format!("the weights of {} should be in {}, which is absent", card.id, path.display()))
                .hint("correct `directory` in the card's [source], or give a file or directory with its weights"))
        }
        WeightsLocation::Url(url) => hub::url_file(url).map_err(|e| not_fetched(card, &e)),
        WeightsLocation::Hub { repository, file, revision } => Repository::new(repository, revision.as_deref())
            .and_then(|r| repository_weights(&r, file.as_deref()))
            .map_err(|e| not_fetched(card, &e)),
    }
}

/// The message names the card, because the user asked for it and not for its repository.
fn not_fetched(card: &EncoderCard, why: &Error) -> Error {
    Error::failed(format!("the weights of {} are not on this machine: {why}", card.id))
        .hint(format!("give a file or directory with its weights, or download {}", card.id))
        .downloadable(&card.id)
}

/// Whether a card's weights are on this machine.
pub fn is_available(card: &EncoderCard) -> bool {
    match &card.source.location {
        WeightsLocation::Shipped { file } => shipped::has_weights(file),
        _ => weights_path(card).is_ok(),
    }
}

/// Digest of the weights that [`Encoder::load`](crate::encoder::Encoder::load) would use with the same arguments.
pub fn weights_digest(card: &EncoderCard, weights: Option<&Path>) -> Result<String> {
    let path = weights.map_or_else(|| weights_path(card), |w| Ok(w.to_path_buf()))?;
    Checkpoint::open(&path)?.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_is_said_to() {
        for name in ["./vit-tiny", "../x/vit", "/nowhere/vit", "~/vit", "a/b/c", "vit/", ".\\vit", "a\\b"] {
            assert!(is_path(name), "{name}");
            let error = EncoderCard::open(name).unwrap_err();
            assert!(error.to_string().contains("does not exist"), "{name}: {error}");
            assert!(
                error.exit_code() == 2 && error.hint_text().is_some_and(|h| !h.contains("nano-")),
                "{name}: {error:?}"
            );
        }
        for name in ["nano-clip", "facebook/dinov2-base", "owner/name@refs/pr/1"] {
            assert!(!is_path(name), "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("vit-tiny")).unwrap();
        std::fs::write(dir.path().join("vit-tiny/config.json"), "{}").unwrap();
        let error = EncoderCard::open(&dir.path().join("vit-tny").display().to_string()).unwrap_err();
        assert!(error.hint_text().is_some_and(|h| h.contains("did you mean") && h.contains("vit-tiny?")), "{error:?}");
        let file = EncoderCard::open(&dir.path().join("vit-tiny/config.json").display().to_string()).unwrap_err();
        assert!(file.to_string().contains("is a file"), "{file}");
    }
}
