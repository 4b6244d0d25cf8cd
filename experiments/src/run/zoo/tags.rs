//! timm's tags: those in the hub's cache on this machine and, if downloads are allowed, those on the hub.

use super::glob;
use burgess_base::{Context, Result};
use burgess_encoders::hub;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Owner of timm's models on the hub.
const OWNER: &str = "timm";

/// Lists the names of timm's models on the hub that contain a text.
type HubList = dyn Fn(&str) -> Result<Vec<String>>;

/// Where names of timm's models are searched: the hub's cache on this machine and, optionally, the hub.
pub struct TagSource {
    hub: Option<Box<HubList>>,
}

impl TagSource {
    /// The hub's cache on this machine alone.
    pub fn cache() -> Self {
        Self { hub: None }
    }

    /// Also the hub; `list` names timm's models that contain a text.
    pub fn hub(list: impl Fn(&str) -> Result<Vec<String>> + 'static) -> Self {
        Self { hub: Some(Box::new(list)) }
    }

    /// Lists the repositories `timm/TAG` whose tag matches a pattern, sorted.
    ///
    /// # Errors
    /// The cache cannot be read, or an error of the hub.
    pub fn timm(&self, pattern: &str) -> Result<Vec<String>> {
        let mut tags: BTreeSet<String> = cached(&hub::cache()?)?.into_iter().collect();
        if let Some(list) = &self.hub {
            tags.extend(list(&glob::longest_literal(pattern))?);
        }
        let matching = tags.into_iter().filter(|tag| glob::matches(pattern, tag));
        Ok(matching.map(|tag| format!("{OWNER}/{tag}")).collect())
    }

    /// Where tags were looked for, for the error about a pattern without matches.
    pub fn place(&self) -> String {
        let cache = hub::cache().map_or_else(|_| "the hub's cache".to_string(), |dir| dir.display().to_string());
        match self.hub {
            Some(_) => format!("neither {cache} nor the hub has such a model of timm"),
            None => format!("{cache} has no such model of timm; --fetch also looks on the hub and downloads them"),
        }
    }
}

/// The tags of timm's models in the hub's cache.
fn cached(cache: &Path) -> Result<Vec<String>> {
    if !cache.is_dir() {
        return Ok(Vec::new());
    }
    let step = || format!("reading {}", cache.display());
    let prefix = format!("models--{OWNER}--");
    let mut tags = Vec::new();
    for entry in fs::read_dir(cache).with_context(step)? {
        let entry = entry.with_context(step)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A folder without snapshots is one of a download that did not begin.
        if let Some(tag) = name.strip_prefix(&prefix).filter(|_| entry.path().join("snapshots").is_dir()) {
            tags.push(tag.to_string());
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_from_the_cache_and_from_the_hub() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for name in ["models--timm--vit_a.x/snapshots", "models--timm--begun", "models--facebook--dinov2/snapshots"] {
            fs::create_dir_all(dir.path().join(name))?;
        }
        assert_eq!(cached(dir.path())?, ["vit_a.x"]);
        assert_eq!(cached(&dir.path().join("away"))?, Vec::<String>::new());
        let source = TagSource::hub(|part| Ok(vec![format!("{part}b.y"), format!("{part}c.z"), "deit.x".to_string()]));
        let found = source.timm("zzz_*.[xy]")?;
        assert_eq!(found, ["timm/zzz_b.y"]);
        assert!(source.place().contains("nor the hub") && TagSource::cache().place().contains("--fetch"));
        Ok(())
    }
}
