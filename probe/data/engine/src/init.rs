//! A new workspace: `engine.toml` with comments, and an example of fields.

use crate::config;
use burgess_base::{Error, Result, atomic};
use std::path::{Path, PathBuf};

/// The `engine.toml` of a new workspace.
pub const ENGINE: &str = include_str!("init/engine.toml");
/// The fields of a new workspace: ours, 30 fields with six subfields each.
pub const FIELDS: &str = include_str!("init/fields.toml");

/// Writes `engine.toml` and `fields.toml` into a directory, which is made if needed; returns their paths.
///
/// # Errors
/// One of the files exists, or the directory cannot be written.
pub fn init(directory: &Path) -> Result<Vec<PathBuf>> {
    let files = [(config::FILE, ENGINE), ("fields.toml", FIELDS)];
    for (name, _) in files {
        let path = directory.join(name);
        if path.exists() {
            return Err(Error::usage(format!("{} exists already", path.display()))
                .hint("change this file, or give another directory"));
        }
    }
    let mut written = Vec::new();
    for (name, text) in files {
        let path = directory.join(name);
        if !atomic::create(&path, text.as_bytes())? {
            return Err(Error::usage(format!("{} exists already", path.display())));
        }
        written.push(path);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineConfig;
    use crate::pipeline::Workspace;

    #[test]
    fn a_new_workspace_opens_and_states_the_defaults() -> Result<()> {
        let dir = tempfile::tempdir()?;
        init(&dir.path().join("a"))?;
        let workspace = Workspace::open(&dir.path().join("a"))?;
        assert_eq!(workspace.shards(), 18);
        assert!(init(&dir.path().join("a")).expect_err("twice").to_string().contains("exists already"));
        // Keys that are commented out show their defaults.
        let all: String = ENGINE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.contains(" = ") && !key.contains("  ") => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let shown = EngineConfig::parse(&all, "engine.toml")?;
        let default = EngineConfig::default();
        assert_eq!((&shown.qa, &shown.pack), (&default.qa, &default.pack));
        assert_eq!((&shown.fetch, &shown.images), (&default.fetch, &default.images));
        assert_eq!((shown.pages.keep, shown.pages.workers), (default.pages.keep, default.pages.workers));
        let topics = config::TopicsConfig { fields: Some("fields.toml".into()), at_least: Some(10), ..default.topics };
        assert_eq!(shown.topics, topics);
        Ok(())
    }
}
