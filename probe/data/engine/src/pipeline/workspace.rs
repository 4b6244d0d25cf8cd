//! A workspace: a directory with `engine.toml` and a directory of shards for each stage.

use super::marker::DoneMarker;
use super::stage::{Stage, shard_name, shard_of};
use crate::config::{self, EngineConfig};
use crate::topics::TopicInput;
use burgess_base::{Context, Error, Result, differences, digest};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// A workspace and its settings.
#[derive(Debug)]
pub struct Workspace {
    directory: PathBuf,
    config: EngineConfig,
    input: TopicInput,
}

/// Where a shard of a stage stands.
#[derive(Debug, Clone, PartialEq)]
pub enum ShardState {
    /// The previous stage has not finished its shard.
    Waiting(Stage),
    /// Nothing is done.
    Open,
    /// A part is done.
    Partial,
    /// It is finished.
    Done(Box<DoneMarker>),
    /// It is finished, but was made with other settings, or of other data; each line says what differs.
    Stale(Vec<String>),
}

impl Workspace {
    /// Opens a workspace: reads `engine.toml` and the fields or topics that it names.
    ///
    /// # Errors
    /// A file cannot be read, or is wrong.
    pub fn open(directory: &Path) -> Result<Self> {
        let file = directory.join(config::FILE);
        if !file.is_file() {
            return Err(Error::usage(format!("{} has no {}", directory.display(), config::FILE))
                .hint("give the directory of a workspace, or make a new one"));
        }
        let config = EngineConfig::read(&file)?;
        let input = TopicInput::read(directory, &config)?;
        Ok(Self { directory: directory.to_path_buf(), config, input })
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the settings.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Returns the fields or topics from which the shards are made.
    pub fn input(&self) -> &TopicInput {
        &self.input
    }

    /// Returns the number of shards, which is the same in all stages.
    pub fn shards(&self) -> usize {
        self.input.shards()
    }

    /// Returns the directory of a stage.
    pub fn stage_directory(&self, stage: Stage) -> PathBuf {
        self.directory.join(stage.as_str())
    }

    /// Returns the path of a file of a shard: `STAGE/shard-NNNNN` with an ending such as `.jsonl`.
    pub fn path(&self, stage: Stage, shard: usize, ending: &str) -> PathBuf {
        self.stage_directory(stage).join(shard_name(shard) + ending)
    }

    /// Returns the settings that determine what a stage writes.
    ///
    /// # Errors
    /// The stage needs an endpoint, and the settings name none.
    pub fn settings(&self, stage: Stage) -> Result<Value> {
        let config = &self.config;
        Ok(match stage {
            Stage::Topics => crate::topics::settings(config, &self.input)?,
            Stage::Pages => crate::collect::page_settings(self)?,
            Stage::Images => crate::collect::image_settings(self)?,
            Stage::Qa => crate::qa::settings(config)?,
            Stage::Pack => serde_json::to_value(&config.pack)?,
        })
    }

    /// Returns the digest of what a shard is made of; `None` if the previous stage has not finished it.
    ///
    /// # Errors
    /// The marker of the previous stage cannot be read.
    pub fn input_digest(&self, stage: Stage, shard: usize) -> Result<Option<String>> {
        let Some(previous) = stage.previous() else { return digest::of_value(&self.input.of_shard(shard)).map(Some) };
        let ShardState::Done(marker) = self.state(previous, shard)? else { return Ok(None) };
        let name = |shard: usize| shard_name(shard) + ".jsonl";
        let own = marker.files.get(&name(shard)).map(|file| file.digest.clone());
        if stage != Stage::Pack || !self.config.pack.unique_images {
            return Ok(own);
        }
        // Images of earlier shards are left out, so that these are part of what a shard is made of.
        let mut all = Vec::new();
        for earlier in 0..shard {
            let Some(marker) = DoneMarker::read(&self.path(previous, earlier, ".done"))? else { return Ok(None) };
            all.push(marker.files.get(&name(earlier)).map(|file| file.digest.clone()));
        }
        all.push(own);
        digest::of_value(&all).map(Some)
    }

    /// Returns where a shard stands.
    ///
    /// # Errors
    /// A marker cannot be read, or the settings of a stage are wrong.
    pub fn state(&self, stage: Stage, shard: usize) -> Result<ShardState> {
        let marker = DoneMarker::read(&self.path(stage, shard, ".done"))?;
        let Some(input) = self.input_digest(stage, shard)? else {
            let previous = stage.previous().unwrap_or(stage);
            return Ok(match (&marker, self.state(previous, shard)?) {
                (Some(_), ShardState::Stale(_)) => {
                    ShardState::Stale(vec![format!("its {previous} are to be done again")])
                }
                _ => ShardState::Waiting(previous),
            });
        };
        let Some(marker) = marker else {
            let partial = [".replies.jsonl", ".journal"].iter().any(|end| self.path(stage, shard, end).exists());
            return Ok(if partial { ShardState::Partial } else { ShardState::Open });
        };
        let mut why = differences(&marker.settings, &self.settings(stage)?);
        if marker.input != input {
            why.push(match stage.previous() {
                Some(previous) => format!("its {previous} have changed since"),
                None => "its fields or topics have changed since".to_string(),
            });
        }
        Ok(if why.is_empty() { ShardState::Done(Box::new(marker)) } else { ShardState::Stale(why) })
    }

    /// Returns the numbers of shards that lie in a stage's directory although there are fewer now.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn left_over(&self, stage: Stage) -> Result<Vec<usize>> {
        let directory = self.stage_directory(stage);
        let listed = match fs::read_dir(&directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("reading {}", directory.display()))?,
        };
        let mut found = Vec::new();
        for entry in listed {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".done")
                && let Some(shard) = shard_of(&name)
                && shard >= self.shards()
            {
                found.push(shard);
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Reads the records of a file that another stage wrote, after a comparison with its marker.
///
/// # Errors
/// The file is missing, damaged, or a line is no record of this type.
pub fn read_records<T: DeserializeOwned>(directory: &Path, marker: &DoneMarker, name: &str) -> Result<Vec<T>> {
    marker.verify(directory, name)?;
    let path = directory.join(name);
    let step = || format!("reading {}", path.display());
    let reader = BufReader::new(File::open(&path).with_context(step)?);
    let mut records = Vec::new();
    for (at, line) in reader.lines().enumerate() {
        let line = line.with_context(step)?;
        let record = serde_json::from_str(&line).with_context(|| format!("reading {}:{}", path.display(), at + 1))?;
        records.push(record);
    }
    Ok(records)
}
