//! `burgess fetch`: downloads published weights into the caches where every command looks for them (see
//! [`burgess_encoders::hub`]).
//!
//! - [`settings`]: settings from the environment.
//! - [`client`]: requests with token, redirects and retries, and error messages for refused requests.
//! - [`download`]: the download of one file, which is resumed, verified, and renamed to its final name when complete.
//! - [`whole`]: checks that a local file is the published one.
//! - [`repository`]: the files of a repository that are needed, and the hub's cache.

pub mod client;
pub mod download;
pub mod repository;
pub mod settings;
pub mod whole;

use crate::progress::Progress;
use burgess_base::{Error, Result};
use burgess_encoders::card::{EncoderCard, Location};
use burgess_encoders::hub::{self, Repository};
use burgess_encoders::resolve;
use client::Client;
use download::{Checked, Identity, Places, Remote, disk, download};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What to fetch.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// A repository of the hub: one file (and its shards), or all files that an encoder needs.
    Repository(Repository, Option<String>),
    /// A file on its maker's server.
    Url(String),
    /// Weights that are always on this machine: shipped ones, or those of a directory.
    Here(PathBuf),
}

impl Wanted {
    /// Parses the id of a card, `owner/name[@revision][:file]`, or the address of a file.
    ///
    /// # Errors
    /// The text is none of them.
    pub fn parse(text: &str) -> Result<Self> {
        match Repository::parse_with_file(text) {
            _ if text.starts_with("https://") || text.starts_with("http://") => Ok(Self::Url(text.to_string())),
            Some((repository, file)) => Ok(Self::Repository(repository, file)),
            None => Self::of_card(&EncoderCard::find(text)?),
        }
    }

    /// Returns what to fetch for the weights of a card.
    ///
    /// # Errors
    /// The weights cannot be fetched and are not on this machine.
    pub fn of_card(card: &EncoderCard) -> Result<Self> {
        match &card.source.location {
            Location::Hub { repository, file, revision } => {
                Ok(Self::Repository(Repository::new(repository, revision.as_deref())?, file.clone()))
            }
            Location::Url(url) => Ok(Self::Url(url.clone())),
            Location::Shipped { .. } | Location::Directory(_) => Ok(Self::Here(resolve::weights_path(card)?)),
        }
    }
}

/// A fetched file and its state.
#[derive(Debug, Clone, Serialize)]
pub struct Fetched {
    /// Name in the repository, or address.
    pub file: String,
    /// Size in bytes, if known.
    pub size: Option<u64>,
    #[serde(flatten)]
    pub state: State,
}

/// Whether a file is on this machine, and since when.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// It was on this machine before.
    Here,
    /// It was fetched now.
    Fetched {
        /// Number of bytes received; an interrupted download had left the rest.
        received: u64,
        /// How the file was verified.
        checked: Checked,
    },
    /// It is absent, and would be fetched without `--dry-run`.
    Absent,
}

/// A fetch command: client, progress display and options.
pub struct Session {
    pub client: Client,
    pub progress: Progress,
    /// Whether to only report what would be fetched.
    pub dry_run: bool,
    /// Whether to ask the hub for the current commit of a branch even if its files are on this machine.
    pub update: bool,
}

impl Session {
    /// Fetches; calls `report` for each file as soon as it is on this machine. Returns the path of the weights.
    ///
    /// # Errors
    /// Network, server or disk fails, or a received file is not the published one.
    pub fn fetch(&self, wanted: &Wanted, report: &mut dyn FnMut(Fetched) -> Result<()>) -> Result<PathBuf> {
        match wanted {
            Wanted::Here(path) => report(here(&path.display().to_string(), path)).map(|()| path.clone()),
            Wanted::Url(url) => self.url(url, report),
            Wanted::Repository(repository, file) => self.repository(repository, file.as_deref(), report),
        }
    }

    fn url(&self, url: &str, report: &mut dyn FnMut(Fetched) -> Result<()>) -> Result<PathBuf> {
        let file = hub::place_of_url(url)?;
        if file.is_file() && self.is_whole(&file)? {
            report(here(url, &file))?;
            return Ok(file);
        }
        let head = self.client.head(url).map_err(|e| e.context(format!("asking for {url}")))?;
        let remote = Remote {
            name: url.to_string(),
            url: url.to_string(),
            size: head.size,
            identity: Identity::Validator(head.validator),
        };
        let beside = |ending: &str| {
            let mut name = file.file_name().unwrap_or_default().to_os_string();
            name.push(ending);
            file.with_file_name(name)
        };
        let places = Places { part: beside(".incomplete"), lock: beside(".lock"), file: file.clone() };
        let pending = [(remote, places)];
        self.check_space(&pending, &hub::own_cache()?)?;
        for (remote, places) in &pending {
            report(self.get(remote, places)?)?;
        }
        Ok(file)
    }

    /// Downloads a file; with `dry_run`, only reports whether it is absent.
    fn get(&self, remote: &Remote, places: &Places) -> Result<Fetched> {
        let state = match self.dry_run {
            true if places.file.is_file() && whole::damage(&places.file, remote.size)?.is_none() => State::Here,
            true => State::Absent,
            false => {
                let came = download(&self.client, remote, places, &self.progress)?;
                match came.checked {
                    Some(checked) => State::Fetched { received: came.bytes, checked },
                    None => State::Here,
                }
            }
        };
        let size = places.file.metadata().map(|m| m.len()).ok().or(remote.size);
        Ok(Fetched { file: remote.name.clone(), size, state })
    }

    /// Whether a local file is undamaged, as far as that can be checked; reports the damage otherwise.
    fn is_whole(&self, file: &Path) -> Result<bool> {
        let damage = whole::damage(file, None)?;
        if let Some(damage) = &damage {
            self.progress.line(&format!("note: {} is here, but {damage}", file.display()));
        }
        Ok(damage.is_none())
    }

    /// Checks before the download that the disk has enough free space.
    fn check_space(&self, pending: &[(Remote, Places)], cache: &Path) -> Result<()> {
        let missing = |(remote, places): &(Remote, Places)| match places.file.is_file() {
            true => 0,
            false => remote.size.unwrap_or(0).saturating_sub(places.part.metadata().map_or(0, |m| m.len())),
        };
        let needed: u64 = pending.iter().map(missing).sum();
        let Some(there) = cache.ancestors().find(|dir| dir.is_dir()) else { return Ok(()) };
        let free = fs4::available_space(there).map_err(|e| disk(&e, there))?;
        match needed > free && !self.dry_run {
            true => Err(Error::failed(format!(
                "{} are needed in {}, and only {} are free",
                bytes(needed),
                cache.display(),
                bytes(free)
            ))
            .hint("free some disk space, or set HF_HUB_CACHE (BURGESS_CACHE for files of makers' servers) to a directory on another disk")),
            false => Ok(()),
        }
    }
}

/// Makes the report for a file that is on this machine already.
fn here(name: &str, path: &Path) -> Fetched {
    Fetched { file: name.to_string(), size: path.metadata().map(|m| m.len()).ok(), state: State::Here }
}

/// Formats a size with a decimal unit: `1.22 GB`.
pub fn bytes(n: u64) -> String {
    indicatif::DecimalBytes(n).to_string()
}
