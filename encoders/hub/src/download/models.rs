//! The models of an owner of the hub, by name.

use super::Session;
use super::client::NO_HUB;
use super::listing::escape;
use burgess_base::{Error, Result};
use serde::Deserialize;

/// Largest number of models that one answer of the hub lists.
const MOST: usize = 1000;

/// The fields of an entry of `/api/models` that are used.
#[derive(Deserialize)]
struct Entry {
    id: String,
}

impl Session {
    /// Lists the names of an owner's models that contain `part`, without the owner, sorted.
    ///
    /// # Errors
    /// The network fails, the hub answers with something else, or it has more models than one answer lists.
    pub fn models_of(&self, owner: &str, part: &str) -> Result<Vec<String>> {
        let endpoint = &self.client.settings.endpoint;
        let url = format!("{endpoint}/api/models?author={}&search={}&limit={MOST}", escape(owner), escape(part));
        let answer = self.client.read(&url)?;
        let entries: Vec<Entry> = serde_json::from_slice(&answer)
            .map_err(|e| Error::failed(format!("{url} answered with no list of models: {e}")).hint(NO_HUB))?;
        if entries.len() >= MOST {
            return Err(Error::failed(format!(
                "the hub has at least {MOST} models of {owner} with `{part}` in their name, more than it lists at once"
            ))
            .hint("give a narrower pattern, with a longer text between its wildcards"));
        }
        let name = |entry: &Entry| entry.id.strip_prefix(owner)?.strip_prefix('/').map(String::from);
        let mut names: Vec<String> = entries.iter().filter_map(name).collect();
        names.sort();
        Ok(names)
    }
}
