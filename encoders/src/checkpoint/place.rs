//! Where in a file the tensors of an encoder are: files of training hold several models, with what a wrapper put before
//! their names, and a part of a model that was saved by itself lacks what the whole has before its names.
//!
//! A place is taken only if every parameter of the encoder is there with its shape and every other tensor there is known.
//! Of several such places one is taken only where it is said which (timm's averages before the weights they are of);
//! otherwise the error lists them.

use super::dialect::{Dialect, Source};
use super::file::Checkpoint;
use super::module::Parameter;
use burgess_base::{Error, Result};
use std::collections::{BTreeSet, HashMap};

/// Part of a file: what stands before the names of the encoder, and what they lack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Taken off the names, with its final dot.
    pub prefix: String,
    /// Put before them then, as in the whole model.
    pub root: String,
}

/// timm's own training writes averages beside the weights they are of, and `timm.models.load_checkpoint` reads the first
/// of these that is there.
const TIMM: [&str; 4] = ["state_dict_ema.", "model_ema.", "state_dict.", "model."];
/// How many of them are averages.
const AVERAGES: usize = 2;

impl Place {
    /// The names as they are.
    pub fn whole() -> Self {
        Self { prefix: String::new(), root: String::new() }
    }

    /// The places of `checkpoint` in which a tensor is called `name` in the terms of `dialect`; those that lack nothing
    /// first, and of these those with the shortest prefix.
    pub fn all(checkpoint: &Checkpoint, dialect: &Dialect, name: &str) -> Vec<Self> {
        let root = dialect.root();
        let mut roots = vec![""];
        roots.extend(root.match_indices('.').map(|(dot, _)| &root[..=dot]));
        let mut places = Vec::new();
        for lacking in roots {
            let Some(name) = name.strip_prefix(lacking) else { continue };
            let prefixes = checkpoint.keys().filter_map(|key| key.strip_suffix(name));
            let found: BTreeSet<&str> = prefixes.filter(|p| p.is_empty() || p.ends_with('.')).collect();
            // What stands before the shorter name may be what the longer one has there.
            let last = lacking.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            let has_it = |p: &str| !last.is_empty() && format!(".{p}").ends_with(&format!(".{last}."));
            let new = found.into_iter().filter(|p| !has_it(p));
            let mut new: Vec<Self> = new.map(|p| Self { prefix: p.into(), root: lacking.into() }).collect();
            new.sort_by_key(|place| place.prefix.len());
            places.append(&mut new);
        }
        places
    }

    /// The part of the checkpoint that is here.
    ///
    /// # Errors
    /// Nothing is.
    pub fn of(&self, checkpoint: Checkpoint) -> Result<Checkpoint> {
        let inside = if self.prefix.is_empty() { checkpoint } else { checkpoint.inside(&self.prefix)? };
        Ok(if self.root.is_empty() { inside } else { inside.under(&self.root) })
    }

    /// The name in the file of what is called `name` here.
    pub fn stored(&self, name: &str) -> Option<String> {
        Some(format!("{}{}", self.prefix, name.strip_prefix(&self.root)?))
    }
}

/// The names and shapes that a module's parameters have in files of a dialect.
#[derive(Debug)]
pub struct Needed<'a> {
    dialect: &'a Dialect,
    sources: Vec<Source>,
}

impl<'a> Needed<'a> {
    /// For these parameters.
    ///
    /// # Errors
    /// The dialect has no name for one of them.
    pub fn new(parameters: &[Parameter], dialect: &'a Dialect) -> Result<Self> {
        let shapes: HashMap<&str, &[usize]> =
            parameters.iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
        let source = |p: &Parameter| dialect.source(&p.path, &p.shape, &|path| shapes.get(path).copied());
        Ok(Self { dialect, sources: parameters.iter().map(source).collect::<Result<_>>()? })
    }

    /// A name that is unlikely to be the end of another tensor's: that with the most parts.
    fn rarest(&self) -> Option<&str> {
        let names = self.sources.iter().flat_map(|s| &s.keys).filter(|name| !name.is_empty());
        names.max_by_key(|name| (name.matches('.').count(), name.len())).map(String::as_str)
    }

    /// Whether everything at the place is what is needed or known, and all that is needed is there.
    pub fn fits(&self, checkpoint: &Checkpoint, place: &Place) -> bool {
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

    /// The place at which the encoder is, and what to say of the choice, if there was one. `None`: nowhere, as far as can
    /// be told.
    ///
    /// # Errors
    /// There are several places at which it could be; the error lists them.
    pub fn find(&self, checkpoint: &Checkpoint) -> Result<Option<(Place, Option<String>)>> {
        let fitting = self.places(checkpoint).into_iter().filter(|place| self.fits(checkpoint, place)).collect();
        choose(fitting, checkpoint)
    }

    /// Where the encoder may be, by the name of one of its tensors.
    pub fn places(&self, checkpoint: &Checkpoint) -> Vec<Place> {
        self.rarest().map_or_else(Vec::new, |name| Place::all(checkpoint, self.dialect, name))
    }

    /// The place `prefix`, if everything fits there, whether or not the names lack what the whole model has before them.
    pub fn fitting_at(&self, checkpoint: &Checkpoint, prefix: &str) -> Option<Place> {
        let root = self.dialect.root();
        let roots = std::iter::once("").chain(root.match_indices('.').map(|(dot, _)| &root[..=dot]));
        let mut places = roots.map(|root| Place { prefix: prefix.into(), root: root.into() });
        places.find(|place| self.fits(checkpoint, place))
    }
}

/// The one of several places that fit, and what to say of the choice; `None` if there are none.
///
/// # Errors
/// Nothing says which.
pub fn choose(places: Vec<Place>, checkpoint: &Checkpoint) -> Result<Option<(Place, Option<String>)>> {
    // Two names of the same tensors are no choice.
    let mut different: Vec<Place> = Vec::new();
    for place in places {
        if !different.iter().any(|other| checkpoint.same(&other.prefix, &place.prefix)) {
            different.push(place);
        }
    }
    let rank = |place: &Place| TIMM.iter().position(|start| place.prefix.starts_with(start));
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
    let shown =
        |place: &Place| if place.prefix.is_empty() { "no prefix".to_string() } else { format!("`{}`", place.prefix) };
    let list: Vec<String> = different.iter().map(shown).collect();
    let example = different.iter().map(|p| p.prefix.as_str()).find(|p| !p.is_empty()).unwrap_or_default();
    Err(Error::usage(format!(
        "{} holds {} sets of weights that fit, under {}",
        checkpoint.path().display(),
        list.len(),
        list.join(", ")
    ))
    .hint(format!(
        "name one behind the encoder, as in --encoder DIR@prefix={example}; in a study's table or a card's [source]: prefix = \"{example}\""
    )))
}
