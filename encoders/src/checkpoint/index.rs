//! The index of a sharded checkpoint: `*.safetensors.index.json` or `*.bin.index.json` beside the shards.

use super::budget::MemoryBudget;
use burgess_base::{Error, Result};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// The relevant part of an index: the file name of each tensor's shard.
#[derive(Debug)]
pub(super) struct Index {
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    pub fn read(path: &Path) -> Result<Self> {
        /// Maximum size in bytes, because the index is read whole. A model of 600 layers needs a tenth of it.
        const MAX_LENGTH: u64 = 16 << 20;
        let length = std::fs::metadata(path)?.len();
        if length > MAX_LENGTH {
            return Err(Error::failed(format!(
                "the index has {length} bytes, which is more than a list of shards has"
            ))
            .hint("name the file with the weights, or the index of its shards"));
        }
        Self::parse(&std::fs::read(path)?)
    }

    /// Parses an index.
    ///
    /// # Errors
    /// The text is not an index, or describing its entries takes more memory than for any model.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let mut budget = MemoryBudget::of(json.len());
        // The text itself is in memory.
        budget.spend(json.len())?;
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let index = IndexFields(&mut budget).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(index)
    }

    /// The shards' file names. They must be in the index's directory: a path elsewhere is an error.
    pub fn shards(&self) -> Result<BTreeSet<&str>> {
        let names: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        let plain =
            |name: &str| Path::new(name).file_name() == Some(name.as_ref()) && !name.contains(['/', '\\', ':', '\0']);
        match names.iter().find(|name| !plain(name)) {
            None => Ok(names),
            Some(name) => {
                let shown = name.get(..name.floor_char_boundary(200)).unwrap_or_default();
                Err(Error::failed(format!("the index names `{shown}`, which is not a file beside it"))
                    .hint("the index is damaged or made to do harm: get the weights from another place"))
            }
        }
    }
}

/// Reads the fields of an index.
struct IndexFields<'a>(&'a mut MemoryBudget);

impl<'de> DeserializeSeed<'de> for IndexFields<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Index, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for IndexFields<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index of shards with a `weight_map`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Index, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            WeightMap,
            #[serde(other)]
            Other,
        }
        let mut found = None;
        while let Some(field) = map.next_key()? {
            match field {
                Field::WeightMap if found.is_some() => return Err(A::Error::duplicate_field("weight_map")),
                Field::WeightMap => found = Some(map.next_value_seed(WeightMap(self.0))?),
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let weight_map = found.ok_or_else(|| A::Error::missing_field("weight_map"))?;
        Ok(Index { weight_map })
    }
}

/// Reads the entries of a `weight_map` and charges each to the budget.
struct WeightMap<'a>(&'a mut MemoryBudget);

impl<'de> DeserializeSeed<'de> for WeightMap<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, file)) = map.next_entry::<String, String>()? {
            // Both texts, an entry in a tree whose nodes are half empty, and the file name once more in a list.
            let cost = 2 * (key.len() + file.len()) + 3 * size_of::<(String, String)>();
            self.0.spend(cost).map_err(A::Error::custom)?;
            entries.insert(key, file);
        }
        Ok(entries)
    }
}
