//! What a step is made of: conversations as tokens.

use crate::llm::chat::Encoded;
use burgess_base::{Error, Result};

/// One training example: a conversation as tokens, and the picture it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Index of its picture in the feature source.
    pub image: Option<usize>,
    /// Token ids; the picture's token is among them once if there is a picture.
    pub ids: Vec<u32>,
    /// Which ids are learned.
    pub learned: Vec<bool>,
    /// Index in `ids` of the picture's token.
    pub image_at: Option<usize>,
}

impl Example {
    /// An encoded conversation about picture `image`; a picture without a place in the text, or a place without a
    /// picture, makes no example.
    pub fn new(encoded: Encoded, image: Option<usize>) -> Option<Self> {
        (encoded.image_at.is_some() == image.is_some()).then_some(Self {
            image,
            ids: encoded.ids,
            learned: encoded.learned,
            image_at: encoded.image_at,
        })
    }

    /// Whether there is something to learn; nothing predicts the first token.
    pub fn learnable(&self) -> bool {
        self.learned.iter().skip(1).any(|l| *l)
    }

    /// The example cut on the right to `most` positions, where its picture takes `image` of them.
    ///
    /// # Errors
    /// When the picture itself would be cut.
    pub fn truncated(&self, most: usize, image: usize) -> Result<Self> {
        let (mut cut, mut ids) = (self.clone(), most);
        if let Some(at) = self.image_at {
            // The picture's token is one id.
            ids = (most + 1).saturating_sub(image);
            if at + image > most {
                return Err(Error::usage(format!(
                    "a picture at position {at} takes {image} positions, max_length = {most} has {} left for it",
                    most.saturating_sub(at)
                ))
                .hint(format!("raise `max_length` to {} at the least", at + image)));
            }
        }
        cut.ids.truncate(ids);
        cut.learned.truncate(ids);
        Ok(cut)
    }
}

/// Examples that are made or fetched when a batch needs them.
pub trait Examples: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of the example with this index, 0 if there is none.
    fn length(&self, index: usize) -> usize;

    /// Whether it has a picture.
    fn pictured(&self, index: usize) -> bool;

    /// Whether any example has something to learn.
    fn learnable(&self) -> bool;

    /// The example with this index.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    fn get(&self, index: usize) -> Result<Example>;
}

pub(super) fn absent(index: usize, len: usize) -> Error {
    Error::failed(format!("there is no example {index} of {len}"))
}

impl Examples for Vec<Example> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn length(&self, index: usize) -> usize {
        self.as_slice().get(index).map_or(0, |e| e.ids.len())
    }

    fn pictured(&self, index: usize) -> bool {
        self.as_slice().get(index).is_some_and(|e| e.image.is_some())
    }

    fn learnable(&self) -> bool {
        self.iter().any(Example::learnable)
    }

    fn get(&self, index: usize) -> Result<Example> {
        self.as_slice().get(index).cloned().ok_or_else(|| absent(index, Vec::len(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(image_at: Option<usize>) -> Example {
        Example { image: image_at, ids: (0..10).collect(), learned: vec![true; 10], image_at }
    }

    #[test]
    fn what_is_too_long_is_cut_on_the_right() -> Result<()> {
        // Ten ids, of which one becomes five positions: fourteen.
        assert_eq!(example(Some(2)).truncated(14, 5)?, example(Some(2)));
        assert_eq!(example(Some(2)).truncated(12, 5)?.ids, (0..8).collect::<Vec<_>>());
        assert_eq!(example(Some(2)).truncated(7, 5)?.ids, [0, 1, 2]);
        assert_eq!(example(None).truncated(4, 5)?.learned.len(), 4);
        let e = example(Some(2)).truncated(6, 5).unwrap_err();
        assert!(e.hint_text().is_some_and(|h| h.contains("to 7")), "{e}");
        Ok(())
    }
}
