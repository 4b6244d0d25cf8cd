//! Locates the tensors of an encoder in a checkpoint. Training checkpoints can contain several models under different
//! prefixes, and a part of a model that was saved alone lacks the prefix of the whole model.
//!
//! A part of the checkpoint is accepted only if it has every parameter of the encoder with its shape, and every other
//! tensor there is listed as ignored. Of several such parts, one is chosen only by a documented precedence (timm's
//! averages before their weights); otherwise the error lists them.

use super::dialect::{Dialect, TensorSource};
use super::file::Checkpoint;
use super::module::Parameter;
use burgess_base::{Error, Result};
use std::collections::{BTreeSet, HashMap};

/// A part of a checkpoint, given by the prefix to remove from its names and the root to prepend to them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointPart {
    /// Prefix to remove from the names, with its final dot; empty for none.
    pub prefix: String,
    /// Prefix of the whole model to prepend after that, with its final dot; empty for none.
    pub root: String,
}

/// Prefixes in checkpoints of timm's training: averages (EMA), then weights. `timm.models.load_checkpoint` reads the
/// first one that exists.
const TIMM_PREFIXES: [&str; 4] = ["state_dict_ema.", "model_ema.", "state_dict.", "model."];
/// Number of prefixes of averages at the beginning of [`TIMM_PREFIXES`].
const AVERAGES: usize = 2;

impl CheckpointPart {
    /// Returns the whole checkpoint, with its names unchanged.
    pub fn whole() -> Self {
        Self { prefix: String::new(), root: String::new() }
    }

    /// Returns the parts of `checkpoint` that contain a tensor `name` (a name of `dialect`). Parts without a root come
    /// first; among these, those with the shortest prefix.
    pub fn all(checkpoint: &Checkpoint, dialect: &Dialect, name: &str) -> Vec<Self> {
        let root = dialect.root();
        let mut roots = vec![""];
        roots.extend(root.match_indices('.').map(|(dot, _)| &root[..=dot]));
        let mut parts = Vec::new();
        for lacking in roots {
            let Some(name) = name.strip_prefix(lacking) else { continue };
            let prefixes = checkpoint.keys().filter_map(|key| key.strip_suffix(name));
            let found: BTreeSet<&str> = prefixes.filter(|p| p.is_empty() || p.ends_with('.')).collect();
            // The prefix of the shorter name may end with the part that the longer one has there.
            let last = lacking.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            let has_it = |p: &str| !last.is_empty() && format!(".{p}").ends_with(&format!(".{last}."));
            let new = found.into_iter().filter(|p| !has_it(p));
            let mut new: Vec<Self> = new.map(|p| Self { prefix: p.into(), root: lacking.into() }).collect();
            new.sort_by_key(|part| part.prefix.len());
            parts.append(&mut new);
        }
        parts
    }

    /// Returns this part of `checkpoint`.
    ///
    /// # Errors
    /// The part has no tensors.
    pub fn of(&self, checkpoint: Checkpoint) -> Result<Checkpoint> {
        let inside = if self.prefix.is_empty() { checkpoint } else { checkpoint.inside(&self.prefix)? };
        Ok(if self.root.is_empty() { inside } else { inside.under(&self.root) })
    }

    /// Returns the name of the tensor `name` in the file; `None` if the name does not begin with the root.
    pub fn stored_name(&self, name: &str) -> Option<String> {
        Some(format!("{}{}", self.prefix, name.strip_prefix(&self.root)?))
    }
}

/// The tensors that a module needs from a file: their names and shapes in a dialect.
#[derive(Debug)]
pub struct ExpectedTensors<'a> {
    dialect: &'a Dialect,
    sources: Vec<TensorSource>,
}

impl<'a> ExpectedTensors<'a> {
    /// Computes the names and shapes of these parameters.
    ///
    /// # Errors
    /// The dialect has no name for one of the parameters.
    pub fn new(parameters: &[Parameter], dialect: &'a Dialect) -> Result<Self> {
        let shapes: HashMap<&str, &[usize]> =
            parameters.iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
        let source = |p: &Parameter| dialect.source(&p.path, &p.shape, &|path| shapes.get(path).copied());
        Ok(Self { dialect, sources: parameters.iter().map(source).collect::<Result<_>>()? })
    }

    /// Returns the name with the most parts, because it is unlikely to be the end of another tensor's name.
    fn rarest(&self) -> Option<&str> {
        let names = self.sources.iter().flat_map(|s| &s.keys).filter(|name| !name.is_empty());
        names.max_by_key(|name| (name.matches('.').count(), name.len())).map(String::as_str)
    }

    /// Whether the part has all expected tensors with their shapes, and no unknown tensors.
    pub fn fits(&self, checkpoint: &Checkpoint, part: &CheckpointPart) -> bool {
        let shape = |name: &str| checkpoint.shape(&part.stored_name(name)?);
        let mut used = BTreeSet::new();
        for source in &self.sources {
            let source = source.clone().found_by(|name| shape(name).is_some());
            for key in source.keys.into_iter().filter(|key| !key.is_empty()) {
                if shape(&key) != Some(source.shape.as_slice()) {
                    return false;
                }
                used.extend(part.stored_name(&key));
            }
        }
        checkpoint.keys().filter(|key| !used.contains(*key)).all(|key| match key.strip_prefix(&part.prefix) {
            Some(rest) => self.dialect.ignores_under(&part.root, &format!("{}{rest}", part.root)),
            None => true,
        })
    }

    /// Finds the part that matches; also returns a note for the user if there was a choice. `None` if no part matches.
    ///
    /// # Errors
    /// Several parts match; the error lists them.
    pub fn find(&self, checkpoint: &Checkpoint) -> Result<Option<(CheckpointPart, Option<String>)>> {
        let fitting = self.parts(checkpoint).into_iter().filter(|part| self.fits(checkpoint, part)).collect();
        choose_part(fitting, checkpoint)
    }

    /// Returns the parts that may match, found by the name of one of the tensors.
    pub fn parts(&self, checkpoint: &Checkpoint) -> Vec<CheckpointPart> {
        self.rarest().map_or_else(Vec::new, |name| CheckpointPart::all(checkpoint, self.dialect, name))
    }

    /// Returns the part with the prefix `prefix` if it matches, with or without the root of the whole model.
    pub fn fitting_at(&self, checkpoint: &Checkpoint, prefix: &str) -> Option<CheckpointPart> {
        let root = self.dialect.root();
        let roots = std::iter::once("").chain(root.match_indices('.').map(|(dot, _)| &root[..=dot]));
        let mut parts = roots.map(|root| CheckpointPart { prefix: prefix.into(), root: root.into() });
        parts.find(|part| self.fits(checkpoint, part))
    }
}

/// Chooses one of several parts that match; also returns a note for the user if there was a choice. `None` if `parts`
/// is empty.
///
/// # Errors
/// No precedence applies.
pub fn choose_part(
    parts: Vec<CheckpointPart>,
    checkpoint: &Checkpoint,
) -> Result<Option<(CheckpointPart, Option<String>)>> {
    // Two prefixes of the same tensors count as one part.
    let mut different: Vec<CheckpointPart> = Vec::new();
    for part in parts {
        if !different.iter().any(|other| checkpoint.same(&other.prefix, &part.prefix)) {
            different.push(part);
        }
    }
    let rank = |part: &CheckpointPart| TIMM_PREFIXES.iter().position(|start| part.prefix.starts_with(start));
    match different.as_slice() {
        [] => return Ok(None),
        [one] => {
            let average = rank(one).filter(|rank| *rank < AVERAGES);
            let note = average.map(|_| format!("the weights are the averages (EMA) under `{}`", one.prefix));
            return Ok(Some((one.clone(), note)));
        }
        _ => {}
    }
    let ranks: Option<BTreeSet<usize>> = different.iter().map(rank).collect();
    if let Some(ranks) = ranks.filter(|ranks| ranks.len() == different.len())
        && ranks.first().is_some_and(|first| *first < AVERAGES)
        && let Some(best) = different.iter().min_by_key(|part| rank(part))
    {
        let others: Vec<String> = different.iter().filter(|p| *p != best).map(|p| format!("`{}`", p.prefix)).collect();
        let note = format!(
            "the weights are the averages (EMA) under `{}`, which timm prefers, not those under {}; select others with \
             @prefix=…",
            best.prefix,
            others.join(", ")
        );
        return Ok(Some((best.clone(), Some(note))));
    }
    let shown = |part: &CheckpointPart| {
        if part.prefix.is_empty() { "no prefix".to_string() } else { format!("`{}`", part.prefix) }
    };
    let list: Vec<String> = different.iter().map(shown).collect();
    let example = different.iter().map(|p| p.prefix.as_str()).find(|p| !p.is_empty()).unwrap_or_default();
    Err(Error::usage(format!(
        "{} has {} sets of weights that match, under {}",
        checkpoint.path().display(),
        list.len(),
        list.join(", ")
    ))
    .hint(format!(
        "choose one: DIR@prefix={example} as the encoder's name, or prefix = \"{example}\" in a study's table or a \
         card's [source]"
    )))
}
