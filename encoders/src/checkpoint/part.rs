//! Locates the tensors of an encoder in a file. Files of training hold several models, with prefixes that wrappers add
//! to their names, and a part of a model that was saved alone lacks the prefix of the whole.
//!
//! A place is accepted only if it has every parameter of the encoder with its shape, and every other tensor there is
//! known. Among several such places, only one with documented precedence is chosen (timm's averages before their
//! weights); otherwise the error lists them.

use super::dialect::{Dialect, TensorSource};
use super::file::Checkpoint;
use super::module::Parameter;
use burgess_base::{Error, Result};
use std::collections::{BTreeSet, HashMap};

/// A part of a file, given by the prefix to remove from names and the root to prepend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointPart {
    /// Prefix to remove from the names, with its final dot.
    pub prefix: String,
    /// Prefix to prepend after that, as in the whole model.
    pub root: String,
}

/// The prefixes that timm's training writes: averages (EMA) beside the weights. `timm.models.load_checkpoint` reads the
/// first one that exists.
const TIMM: [&str; 4] = ["state_dict_ema.", "model_ema.", "state_dict.", "model."];
/// The number of prefixes of averages at the beginning of [`TIMM`].
const AVERAGES: usize = 2;

impl CheckpointPart {
    /// The whole file, with its names unchanged.
    pub fn whole() -> Self {
        Self { prefix: String::new(), root: String::new() }
    }

    /// The places of `checkpoint` that have a tensor `name` (a name of `dialect`). Places without a root come first,
    /// and then those with the shortest prefix.
    pub fn all(checkpoint: &Checkpoint, dialect: &Dialect, name: &str) -> Vec<Self> {
        let root = dialect.root();
        let mut roots = vec![""];
        roots.extend(root.match_indices('.').map(|(dot, _)| &root[..=dot]));
        let mut places = Vec::new();
        for lacking in roots {
            let Some(name) = name.strip_prefix(lacking) else { continue };
            let prefixes = checkpoint.keys().filter_map(|key| key.strip_suffix(name));
            let found: BTreeSet<&str> = prefixes.filter(|p| p.is_empty() || p.ends_with('.')).collect();
            // The prefix of the shorter name may end with the part that the longer one has there.
            let last = lacking.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            let has_it = |p: &str| !last.is_empty() && format!(".{p}").ends_with(&format!(".{last}."));
            let new = found.into_iter().filter(|p| !has_it(p));
            let mut new: Vec<Self> = new.map(|p| Self { prefix: p.into(), root: lacking.into() }).collect();
            new.sort_by_key(|place| place.prefix.len());
            places.append(&mut new);
        }
        places
    }

    /// The tensors of the checkpoint at this place.
    ///
    /// # Errors
    /// There are no tensors at this place.
    pub fn of(&self, checkpoint: Checkpoint) -> Result<Checkpoint> {
        let inside = if self.prefix.is_empty() { checkpoint } else { checkpoint.inside(&self.prefix)? };
        Ok(if self.root.is_empty() { inside } else { inside.under(&self.root) })
    }

    /// The name in the file of the tensor `name`; `None` if the name does not begin with the root.
    pub fn stored(&self, name: &str) -> Option<String> {
        Some(format!("{}{}", self.prefix, name.strip_prefix(&self.root)?))
    }
}

/// The names and shapes that a module's parameters have in files of a dialect.
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

    /// The name with the most parts, which is unlikely to be the end of another tensor's name.
    fn rarest(&self) -> Option<&str> {
        let names = self.sources.iter().flat_map(|s| &s.keys).filter(|name| !name.is_empty());
        names.max_by_key(|name| (name.matches('.').count(), name.len())).map(String::as_str)
    }

    /// Whether the place has all needed tensors with their shapes, and no tensors that are unknown.
    pub fn fits(&self, checkpoint: &Checkpoint, place: &CheckpointPart) -> bool {
        let shape = |name: &str| checkpoint.shape(&place.stored(name)?);
        let mut used = BTreeSet::new();
        for source in &self.sources {
            let source = source.clone().found_by(|name| shape(name).is_some());
            for key in source.keys.into_iter().filter(|key| !key.is_empty()) {
                if shape(&key) != Some(source.shape.as_slice()) {
                    return false;
                }
                used.extend(place.stored(&key));
            }
        }
        checkpoint.keys().filter(|key| !used.contains(*key)).all(|key| match key.strip_prefix(&place.prefix) {
            Some(rest) => self.dialect.ignores_under(&place.root, &format!("{}{rest}", place.root)),
            None => true,
        })
    }

    /// The place of the encoder, and a note for the user if there was a choice; `None` if there is no place.
    ///
    /// # Errors
    /// The encoder matches in several places; the error lists them.
    pub fn find(&self, checkpoint: &Checkpoint) -> Result<Option<(CheckpointPart, Option<String>)>> {
        let fitting = self.places(checkpoint).into_iter().filter(|place| self.fits(checkpoint, place)).collect();
        choose_part(fitting, checkpoint)
    }

    /// Candidate places of the encoder, found by the name of one of its tensors.
    pub fn places(&self, checkpoint: &Checkpoint) -> Vec<CheckpointPart> {
        self.rarest().map_or_else(Vec::new, |name| CheckpointPart::all(checkpoint, self.dialect, name))
    }

    /// The place with the prefix `prefix`, if everything is there, with or without the root of the whole model.
    pub fn fitting_at(&self, checkpoint: &Checkpoint, prefix: &str) -> Option<CheckpointPart> {
        let root = self.dialect.root();
        let roots = std::iter::once("").chain(root.match_indices('.').map(|(dot, _)| &root[..=dot]));
        let mut places = roots.map(|root| CheckpointPart { prefix: prefix.into(), root: root.into() });
        places.find(|place| self.fits(checkpoint, place))
    }
}

/// Chooses among several places that match, with a note for the user; `None` if there are none.
///
/// # Errors
/// No rule says which of the places to choose.
pub fn choose_part(
    places: Vec<CheckpointPart>,
    checkpoint: &Checkpoint,
) -> Result<Option<(CheckpointPart, Option<String>)>> {
    // Two names of the same tensors are one place.
    let mut different: Vec<CheckpointPart> = Vec::new();
    for place in places {
        if !different.iter().any(|other| checkpoint.same(&other.prefix, &place.prefix)) {
            different.push(place);
        }
    }
    let rank = |place: &CheckpointPart| TIMM.iter().position(|start| place.prefix.starts_with(start));
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
        && let Some(best) = different.iter().min_by_key(|place| rank(place))
    {
        let others: Vec<String> = different.iter().filter(|p| *p != best).map(|p| format!("`{}`", p.prefix)).collect();
        let note = format!(
            "the weights are the averages (EMA) under `{}`, as timm takes them, and not those under {}; @prefix=… names others",
            best.prefix,
            others.join(", ")
        );
        return Ok(Some((best.clone(), Some(note))));
    }
    let shown = |place: &CheckpointPart| {
        if place.prefix.is_empty() { "no prefix".to_string() } else { format!("`{}`", place.prefix) }
    };
    let list: Vec<String> = different.iter().map(shown).collect();
    let example = different.iter().map(|p| p.prefix.as_str()).find(|p| !p.is_empty()).unwrap_or_default();
    Err(Error::usage(format!(
        "{} holds {} sets of weights that fit, under {}",
        checkpoint.path().display(),
        list.len(),
        list.join(", ")
    ))
    .hint(format!(
        "choose one: DIR@prefix={example} as the encoder's name, or prefix = \"{example}\" in a study's table or a card's [source]"
    )))
}
