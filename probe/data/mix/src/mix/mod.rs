//! A mix: which entries of which pools become a training set, as a TOML file states it.

mod built_in;
mod check;
mod filters;
mod kinds;

pub use built_in::{BUILT_IN, CATALOGUES};
pub use filters::{
    Bounds, Comparison, DuplicateImages, Duplicates, Filters, ImageIdentity, KeepOrDrop, Leaks, TextOnly,
};

pub(crate) use kinds::StatedKinds;

use crate::names::source_key;
use crate::pool::PoolSpec;
use crate::select::{Ratios, Threshold};
use burgess_base::toml_error::{self, KeyHints};
use burgess_base::{Context, Error, Result, nearest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What errors of the parser advise.
const KEY_HINTS: KeyHints = KeyHints {
    unknown: "remove the key: experiments/KEYS.md lists all keys",
    value: "correct the line: experiments/KEYS.md lists the keys with their types",
};

/// A mix: pools, the sources in them, and the rules by which their entries are chosen.
///
/// The rules are applied in a fixed order: the filters in the order of their keys (per entry, then missing images,
/// duplicate conversations, duplicate images, leaks), `take` of the sources, `threshold`, `ratios`, `system_prompts`,
/// `order`. A rule sees only the entries that earlier ones have left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// What the mix is, for readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub about: Option<String>,
    /// Random seed of all draws and of the order.
    pub seed: u64,
    /// Number of entries that a publication reports for this mix, which is printed beside the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub reported: Option<u64>,
    /// Name of a built-in list of sources with kinds and published counts: `cambrian-10m`. An entry of `sources` with the
    /// same name overrides its keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub catalogue: Option<String>,
    /// The files from which entries are read, in this order.
    pub pools: Vec<PoolSpec>,
    /// The sources; those of the catalogue are refined key by key.
    pub sources: Vec<MixSource>,
    /// Kinds of sources by name. They override those in `sources`, in the catalogue and in the entries of the pools.
    pub kinds: BTreeMap<String, String>,
    /// Whether entries of sources that are not listed stay: `keep` or `drop`.
    pub unlisted: KeepOrDrop,
    /// Rules that leave out single entries.
    pub filters: Filters,
    /// Largest number of entries per source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub threshold: Option<Threshold>,
    /// Shares of kinds at a fixed total.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub ratios: Option<Ratios>,
    /// Response-format prompts ("system prompts" in Cambrian-1): texts that are appended to the questions of sources with
    /// short answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub system_prompts: Option<SystemPromptRule>,
    /// Order of the output: that of the pools, or shuffled by the seed.
    pub order: Order,
}

/// A source of a mix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MixSource {
    /// Name of the source in tables and in the manifest.
    pub name: String,
    /// Kind of its entries: general, ocr, counting, code, math, science, language, or any other word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub kind: Option<String>,
    /// Further names under which pools have it: the entry's `source`, or `SOURCE:FOLDER` with the first folder or the
    /// first two of its image's path, or `SOURCE:` for its entries without an image. Case, `-`, `_` and sizes (`_200k`)
    /// do not matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub from: Vec<String>,
    /// Published number of its entries, which tables show beside that of the pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub count: Option<u64>,
    /// Largest number of its entries in the mix, before threshold and ratios; a seeded sample is drawn. 0 leaves the
    /// source out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub take: Option<u64>,
    /// Whether its entries have no image; only needed where counts are computed without pools.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub text_only: bool,
}

/// A set of response-format texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PromptSet {
    /// The texts and sources of Cambrian-1.
    #[default]
    #[serde(rename = "cambrian-1")]
    Cambrian1,
    /// None: only the texts of `sources`.
    None,
}

/// Which questions of a conversation get the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PromptTurns {
    /// Every question.
    #[default]
    All,
    /// Only the first.
    First,
}

/// The rule that appends a text about the form of the answer to the questions of some sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SystemPromptRule {
    /// The texts: `cambrian-1` are those of the paper for 22 sources, `none` leaves only those of `sources`.
    pub texts: PromptSet,
    /// Own texts by source; an empty text removes that of the source.
    pub sources: BTreeMap<String, String>,
    /// Which questions of a conversation get the text: `all`, or the `first`.
    pub turns: PromptTurns,
}

/// The order of the entries of a mix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// That of the pools.
    #[default]
    Pools,
    /// A random permutation of the seed.
    Shuffle,
}

/// A catalogue of sources.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    /// What it is, for readers of the file.
    #[serde(rename = "about")]
    _about: String,
    sources: Vec<MixSource>,
}

impl Mix {
    /// Parses a mix; `file` is its name in messages. Paths stay as they are written.
    ///
    /// # Errors
    /// A key is unknown, missing, of the wrong type or has a wrong value: the error names file, line and key.
    pub fn read(text: &str, file: &str) -> Result<Self> {
        let mix: Self = toml::from_str(text).map_err(|e| toml_error::parse_error(&e, text, file, KEY_HINTS))?;
        mix.check().map_err(|wrong| toml_error::value_error(wrong, text, file))?;
        Ok(mix)
    }

    /// Checks the values of a mix that was read as a part of another file.
    ///
    /// # Errors
    /// A key has a wrong value: the error names the key.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|wrong| wrong.what.context(format!("`{}`", wrong.path.join("."))))
    }

    /// Reads a mix from a TOML file; relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// The file cannot be read, or as [`Mix::read`].
    pub fn open(path: &Path) -> Result<Self> {
        let step = || format!("reading {}", path.display());
        if path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            return Err(Error::usage(format!("the mix {} does not exist", path.display()))
                .hint("give the path of a TOML file, or the name of a built-in mix"));
        }
        let bytes = burgess_base::files::read(path, 16 << 20).with_context(step)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::usage(format!("{} is not UTF-8 text", path.display())).hint("save it as UTF-8"))?;
        let mut mix = Self::read(text.strip_prefix('\u{feff}').unwrap_or(&text), &path.display().to_string())?;
        if let Some(dir) = path.parent() {
            mix.resolve_paths(dir);
        }
        Ok(mix)
    }

    /// Joins relative paths to a directory.
    pub fn resolve_paths(&mut self, dir: &Path) {
        self.pools = std::mem::take(&mut self.pools).into_iter().map(|pool| pool.below(dir)).collect();
        for benchmark in self.filters.leaks.iter_mut().flat_map(|leaks| leaks.benchmarks.values_mut()) {
            *benchmark = dir.join(&*benchmark);
        }
    }

    /// Returns a built-in mix by its name.
    ///
    /// # Errors
    /// There is no such mix; the hint lists the nearest names.
    pub fn builtin(name: &str) -> Result<Self> {
        let names = BUILT_IN.iter().map(|(name, _)| *name);
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((name, text)) => Self::read(text, &format!("{name}.toml")),
            None => {
                let near = nearest(name, names.clone());
                let list = names.collect::<Vec<_>>().join(", ");
                let hint = match near.first() {
                    Some(near) => format!("did you mean `{near}`? Built in: {list}; or give the path of a TOML file"),
                    None => format!("built in: {list}; or give the path of a TOML file"),
                };
                Err(Error::usage(format!("there is no mix called `{name}`")).hint(hint))
            }
        }
    }

    /// Returns the text of a built-in mix, which can be a start for an own one.
    pub fn builtin_text(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// Returns the sources of the catalogue, refined by those of the mix, then the mix's others, in this order.
    ///
    /// # Errors
    /// The catalogue does not exist.
    pub fn listed_sources(&self) -> Result<Vec<MixSource>> {
        let mut all = match &self.catalogue {
            Some(name) => catalogue(name)?,
            None => Vec::new(),
        };
        for own in &self.sources {
            let key = source_key(&own.name);
            match all.iter_mut().find(|known| source_key(&known.name) == key) {
                Some(known) => {
                    known.kind = own.kind.clone().or(known.kind.take());
                    known.count = own.count.or(known.count);
                    known.take = own.take.or(known.take);
                    known.text_only |= own.text_only;
                    known.from.extend(own.from.iter().cloned());
                }
                None => all.push(own.clone()),
            }
        }
        Ok(all)
    }
}

/// Returns the sources of a catalogue.
fn catalogue(name: &str) -> Result<Vec<MixSource>> {
    let names = || CATALOGUES.iter().map(|(name, _)| *name);
    let Some((_, text)) = CATALOGUES.iter().find(|(known, _)| *known == name) else {
        return Err(Error::usage(format!("there is no catalogue called `{name}`"))
            .hint(format!("known: {}", names().collect::<Vec<_>>().join(", "))));
    };
    let file = format!("{name}.toml");
    let catalogue: Catalogue = toml::from_str(text).map_err(|e| toml_error::parse_error(&e, text, &file, KEY_HINTS))?;
    Ok(catalogue.sources)
}

/// Splits a name of a pool into the key of its source and the folder of its images: `SOURCE`, `SOURCE:FOLDER`, or
/// `SOURCE:` for entries without an image, whose folder is empty.
pub(crate) fn split_name(name: &str) -> (String, Option<String>) {
    match name.split_once(':') {
        Some((source, folder)) => (source_key(source), Some(folder.trim_matches(['/', ' ']).to_string())),
        None => (source_key(name), None),
    }
}

/// Returns the kinds of the sources in the catalogues by the keys of their names.
pub(crate) fn built_in_kinds_by_key() -> Result<HashMap<String, String>> {
    let mut kinds = HashMap::new();
    for (known, _) in CATALOGUES {
        for MixSource { name, kind, from, .. } in catalogue(known)? {
            let Some(kind) = kind else { continue };
            for name in std::iter::once(&name).chain(&from).filter(|name| !name.contains(':')) {
                kinds.insert(source_key(name), kind.clone());
            }
        }
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests;
