//! Categories of benchmarks.

use serde::{Deserialize, Serialize};
use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;

/// The category of a benchmark, identified by its name. The average of a run is the mean over the categories that
/// count ([`Category::is_averaged`]), in which every category has the same weight.
///
/// Four categories are those of the Cambrian-1 paper ([`Category::CAMBRIAN`]); any other name is a category of one's
/// own.
///
/// ```
/// use burgess_base::Category;
/// let own = Category::new("Medical");
/// assert_eq!(own.as_str(), "Medical");
/// assert!(Category::VISION_CENTRIC.rank() < own.rank());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Category(Cow<'static, str>);

impl Category {
    /// Benchmarks of everyday perception.
    pub const GENERAL: Self = Self(Cow::Borrowed("General"));
    /// Benchmarks that need knowledge about what the image shows.
    pub const KNOWLEDGE: Self = Self(Cow::Borrowed("Knowledge"));
    /// Benchmarks of reading text, charts and documents.
    pub const OCR_CHART: Self = Self(Cow::Borrowed("OCR & Chart"));
    /// Benchmarks of position, number and depth.
    pub const VISION_CENTRIC: Self = Self(Cow::Borrowed("Vision-centric"));

    /// Benchmarks of open questions whose answers are compared with reference answers by their words. They are shown
    /// beside the others and are not part of the average, because the paper has no such category and an overlap of
    /// words is not an accuracy.
    pub const CONVERSATION: Self = Self(Cow::Borrowed("Conversation"));

    /// The four categories of the Cambrian-1 paper, in the order of its tables.
    pub const CAMBRIAN: [Self; 4] = [Self::GENERAL, Self::KNOWLEDGE, Self::OCR_CHART, Self::VISION_CENTRIC];

    /// Creates the category called `name`.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name of the category, as it is written in files and tables.
    pub const fn as_str(&self) -> &str {
        match &self.0 {
            Cow::Borrowed(name) => name,
            Cow::Owned(name) => name.as_str(),
        }
    }

    /// Returns whether the category is part of an average over categories: all are but [`Category::CONVERSATION`].
    pub fn is_averaged(&self) -> bool {
        *self != Self::CONVERSATION
    }

    /// Returns the rank of the category in display order: its index in [`Category::CAMBRIAN`], or 4 for a category of
    /// one's own. Categories of the same rank are ordered by name.
    pub fn rank(&self) -> usize {
        Self::CAMBRIAN.iter().position(|known| known == self).unwrap_or(Self::CAMBRIAN.len())
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A category is used where its name is wanted, for example as a scope of a ranking.
impl Deref for Category {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Category {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Category {
    fn eq(&self, name: &str) -> bool {
        self.0 == name
    }
}

impl PartialEq<&str> for Category {
    fn eq(&self, name: &&str) -> bool {
        self.0 == *name
    }
}

impl PartialEq<String> for Category {
    fn eq(&self, name: &String) -> bool {
        self.0 == *name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_is_written_as_its_name() -> serde_json::Result<()> {
        for category in Category::CAMBRIAN.into_iter().chain([Category::new("Audio")]) {
            let text = serde_json::to_string(&category)?;
            assert_eq!(text, format!("\"{category}\""));
            assert_eq!(serde_json::from_str::<Category>(&text)?, category);
        }
        assert_eq!(format!("[{:>9}]", Category::GENERAL), "[  General]");
        Ok(())
    }

    #[test]
    fn own_categories_rank_behind_the_four() {
        assert_eq!(Category::CAMBRIAN.map(|c| c.rank()), [0, 1, 2, 3]);
        assert_eq!(Category::new("Audio").rank(), 4);
        assert!(Category::new("Audio").is_averaged() && !Category::new("Conversation").is_averaged());
    }
}
