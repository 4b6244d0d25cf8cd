//! Training examples: tokenised conversations with a loss mask.

use crate::llm::chat::EncodedChat;
use burgess_base::{Error, Result};

/// One training example: a tokenised conversation and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Index of the image in the feature source; `None` for text only.
    pub image: Option<usize>,
    /// Token ids, with one image placeholder if the example has an image.
    pub ids: Vec<u32>,
    /// Loss mask: `true` for supervised tokens; as long as `ids`.
    pub loss_mask: Vec<bool>,
    /// Index of the image placeholder in `ids`; `None` for text only.
    pub image_at: Option<usize>,
}

impl Example {
    /// Builds an example from an encoded conversation and the index of its image; `None` if only one of placeholder
    /// and image exists.
    pub fn new(encoded: EncodedChat, image: Option<usize>) -> Option<Self> {
        (encoded.image_at.is_some() == image.is_some()).then_some(Self {
            image,
            ids: encoded.ids,
            loss_mask: encoded.loss_mask,
            image_at: encoded.image_at,
        })
    }

    /// Whether any token is supervised. The first does not count, because it is never predicted.
    pub fn has_supervised_tokens(&self) -> bool {
        self.loss_mask.iter().skip(1).any(|l| *l)
    }

    /// Returns the example truncated on the right to `most` positions, of which its image takes `image`.
    ///
    /// # Errors
    /// When the image itself would be truncated.
    pub fn truncated(&self, most: usize, image: usize) -> Result<Self> {
        let (mut cut, mut ids) = (self.clone(), most);
        if let Some(at) = self.image_at {
            // The image placeholder is one id but takes `image` positions.
            ids = (most + 1).saturating_sub(image);
            if at + image > most {
                return Err(Error::usage(format!(
                    "an image at position {at} takes {image} positions, but `max_length` = {most} leaves {} for it",
                    most.saturating_sub(at)
                ))
                .hint(format!("raise `max_length` to at least {}", at + image)));
            }
        }
        cut.ids.truncate(ids);
        cut.loss_mask.truncate(ids);
        Ok(cut)
    }
}

/// A collection of examples with random access, which may be created or read on demand.
pub trait Examples: Sync {
    /// Returns the number of examples.
    fn len(&self) -> usize;

    /// Whether there are no examples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of token ids of the example at this index; 0 if there is none.
    fn length(&self, index: usize) -> usize;

    /// Whether the example at this index has an image.
    fn has_image(&self, index: usize) -> bool;

    /// Whether any example has a supervised token.
    fn has_supervised_tokens(&self) -> bool;

    /// Returns the example at this index.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    fn get(&self, index: usize) -> Result<Example>;
}

pub(super) fn absent(index: usize, len: usize) -> Error {
    Error::failed(format!("there is no example {index} (counted from 0), only {len} examples"))
}

impl Examples for Vec<Example> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn length(&self, index: usize) -> usize {
        self.as_slice().get(index).map_or(0, |e| e.ids.len())
    }

    fn has_image(&self, index: usize) -> bool {
        self.as_slice().get(index).is_some_and(|e| e.image.is_some())
    }

    fn has_supervised_tokens(&self) -> bool {
        self.iter().any(Example::has_supervised_tokens)
    }

    fn get(&self, index: usize) -> Result<Example> {
        self.as_slice().get(index).cloned().ok_or_else(|| absent(index, Vec::len(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(image_at: Option<usize>) -> Example {
        Example { image: image_at, ids: (0..10).collect(), loss_mask: vec![true; 10], image_at }
    }

    #[test]
    fn long_examples_are_truncated_on_the_right() -> Result<()> {
        // Ten ids, of which one becomes five positions: fourteen positions.
        assert_eq!(example(Some(2)).truncated(14, 5)?, example(Some(2)));
        assert_eq!(example(Some(2)).truncated(12, 5)?.ids, (0..8).collect::<Vec<_>>());
        assert_eq!(example(Some(2)).truncated(7, 5)?.ids, [0, 1, 2]);
        assert_eq!(example(None).truncated(4, 5)?.loss_mask.len(), 4);
        let e = example(Some(2)).truncated(6, 5).unwrap_err();
        assert!(e.hint_text().is_some_and(|h| h.contains("at least 7")), "{e}");
        Ok(())
    }
}
