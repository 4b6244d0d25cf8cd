//! Quality ratings of conversations, as FineVision has them.

use burgess_base::{Error, Result};

/// The names of the four ratings, as in the columns `<name>_ratings` and `<name>_min`.
pub const RATINGS: [&str; 4] = ["relevance", "image_correspondence", "visual_dependency", "formatting"];

/// One quality of a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rating {
    /// The rating of each question and answer, 1 to 5; empty if there are none.
    pub each: Vec<f32>,
    /// The lowest rating: the one that is stated, else the minimum of `each`.
    pub least: Option<f32>,
}

/// The qualities of a conversation, in the order of [`RATINGS`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ratings([Rating; 4]);

impl Ratings {
    /// The ratings of an entry that has none.
    pub const NONE: &'static Self = &Self([EMPTY, EMPTY, EMPTY, EMPTY]);

    /// Returns the rating called `name`, which is one of [`RATINGS`].
    pub fn get(&self, name: &str) -> Option<&Rating> {
        RATINGS.iter().position(|r| *r == name).and_then(|at| self.0.get(at))
    }

    /// Returns the names and ratings in the order of [`RATINGS`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Rating)> {
        RATINGS.into_iter().zip(&self.0)
    }

    /// Returns whether there is no rating.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|r| r.each.is_empty() && r.least.is_none())
    }

    /// Returns the rating to which a key of an entry belongs, and whether the key is that of the minimum.
    pub(super) fn of_key(&mut self, key: &str) -> Option<(&mut Rating, bool)> {
        let (name, least) = match key.strip_suffix("_ratings") {
            Some(name) => (name, false),
            None => (key.strip_suffix("_min")?, true),
        };
        let at = RATINGS.iter().position(|r| *r == name)?;
        self.0.get_mut(at).map(|rating| (rating, least))
    }

    /// Fills in the minima that are not stated.
    pub(super) fn finish(&mut self) {
        for rating in &mut self.0 {
            if rating.least.is_none() {
                rating.least = rating.each.iter().copied().reduce(f32::min);
            }
        }
    }

    /// Appends the ratings as fields of a JSON object that already has fields.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        for (name, rating) in self.iter() {
            if !rating.each.is_empty() {
                out.extend_from_slice(format!(", \"{name}_ratings\": ").as_bytes());
                serde_json::to_writer(&mut *out, &rating.each).map_err(Error::from)?;
            }
            if let Some(least) = rating.least {
                out.extend_from_slice(format!(", \"{name}_min\": {least}").as_bytes());
            }
        }
        Ok(())
    }
}

const EMPTY: Rating = Rating { each: Vec::new(), least: None };
