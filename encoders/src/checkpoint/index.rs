//! Reads the index of a sharded checkpoint: `*.safetensors.index.json` or `*.bin.index.json` beside the shards.

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
            return Err(Error::failed(format!("the index has {length} bytes, must have at most {MAX_LENGTH}"))
                .hint("open the file with the weights, or the index of its shards"));
        }
        Self::parse(&std::fs::read(path)?)
    }

    /// Parses an index.
    ///
    /// # Errors
    /// The text is not an index, or its entries exceed the memory budget.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let mut budget = MemoryBudget::of(json.len());
        // The text itself is in memory, too.
        budget.spend(json.len())?;
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let index = IndexFields(&mut budget).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(index)
    }

    /// Returns the file names of the shards. A path outside of the index's directory is an error.
    pub fn shards(&self) -> Result<BTreeSet<&str>> {
        let names: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        let plain =
            |name: &str| Path::new(name).file_name() == Some(name.as_ref()) && !name.contains(['/', '\\', ':', '\0']);
        match names.iter().find(|name| !plain(name)) {
            None => Ok(names),
            Some(name) => {
                let shown = name.get(..name.floor_char_boundary(200)).unwrap_or_default();
                Err(Error::failed(format!("the index lists `{shown}`, expected the name of a file in its directory"))
                    .hint("download the weights from another source: the index is damaged or malicious"))
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
            // Both strings, an entry of a tree whose nodes are half empty, and the file name once more in a list.
            let cost = 2 * (key.len() + file.len()) + 3 * size_of::<(String, String)>();
            self.0.spend(cost).map_err(A::Error::custom)?;
            entries.insert(key, file);
        }
        Ok(entries)
    }
}
