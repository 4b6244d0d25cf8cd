//! The kinds that a mix states for its sources: one rule for tables of published counts and for entries of pools.

use super::{Mix, MixSource, built_in_kinds_by_key};
use crate::names::source_key;
use burgess_base::Result;
use std::collections::{BTreeMap, HashMap};

/// The kinds of sources by the keys of their names ([`source_key`]).
pub(crate) struct StatedKinds {
    /// Those of the table `[kinds]` of the mix.
    own: BTreeMap<String, String>,
    built_in: HashMap<String, String>,
}

impl StatedKinds {
    /// Collects the kinds of `[kinds]` of a mix and the built-in ones.
    ///
    /// # Errors
    /// A built-in catalogue cannot be read.
    pub fn new(mix: &Mix) -> Result<Self> {
        let own = mix.kinds.iter().map(|(name, kind)| (source_key(name), kind.clone())).collect();
        Ok(Self { own, built_in: built_in_kinds_by_key()? })
    }

    /// Returns the kind of a listed source: that of `[kinds]`, else that of the source itself.
    pub fn of_listed(&self, source: &MixSource) -> Option<String> {
        self.own.get(&source_key(&source.name)).cloned().or_else(|| source.kind.clone())
    }

    /// Returns the kind for a name: that of `[kinds]`, else the built-in one.
    pub fn of_key(&self, key: &str) -> Option<&String> {
        self.own.get(key).or_else(|| self.built_in.get(key))
    }
}
