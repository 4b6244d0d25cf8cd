//! Sequences that are too long are cut at the right, as the paper's collator does: first the text (in which the picture
//! counts as one) to the longest length, then, the picture grown to its positions, the whole to the same length. A
//! text-only sample has as many masked positions for a picture, so it keeps no more text than one with a picture.

use super::Encoded;
use std::fmt;

/// What a cut took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Positions before, those of the picture (or of the place kept for one) included.
    pub length: usize,
    /// Positions it may have.
    pub max_length: usize,
    /// Ids taken away that are not learned.
    pub unlearned: usize,
    /// Learned ids taken away.
    pub learned: usize,
    /// Learned ids left.
    pub left: usize,
    /// Whether the picture, or a part of it, was beyond the end: then all of it is gone.
    pub picture: bool,
}

/// The worst that a cut did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// It fitted.
    Nothing,
    /// Only text that is not learned.
    Unlearned,
    /// A part of what was to be learned.
    PartOfAnswers,
    /// All that was to be learned: the sample is of no use.
    AllAnswers,
}

impl Cut {
    /// The worst that it did.
    pub fn loss(&self) -> Loss {
        match (self.learned, self.left) {
            (0, _) if self.unlearned == 0 && !self.picture => Loss::Nothing,
            (0, _) => Loss::Unlearned,
            (_, 0) => Loss::AllAnswers,
            _ => Loss::PartOfAnswers,
        }
    }
}

impl Loss {
    /// To count by; nothing if it fitted.
    pub fn what(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Unlearned => Some("too long: cut after the last answer"),
            Self::PartOfAnswers => Some("too long: a part of the answers cut"),
            Self::AllAnswers => Some("too long: nothing left to learn"),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = self.length.saturating_sub(self.max_length);
        write!(f, "{} positions, {over} more than {}", self.length, self.max_length)?;
        if self.loss() > Loss::Nothing {
            let picture = if self.picture { " and the picture" } else { "" };
            write!(f, ": cut {} learned and {} other tokens{picture}", self.learned, self.unlearned)?;
        }
        Ok(())
    }
}

impl Encoded {
    /// Cuts what is beyond `max_length` positions, where a picture takes `image_positions`; with 0 a text-only sample may
    /// use them all.
    pub fn truncate(&mut self, max_length: usize, image_positions: usize) -> Cut {
        let text = self.ids.len() - usize::from(self.image_at.is_some());
        let length = text + image_positions;
        let room = max_length.saturating_sub(image_positions);
        let (keep, picture) = match self.image_at {
            None => (room.min(max_length), false),
            // What stands before the picture has all positions to itself.
            Some(at) if at + image_positions > max_length || at >= max_length => (at.min(max_length), true),
            Some(_) => ((room + 1).min(max_length), false),
        };
        let before = self.learned.iter().filter(|l| **l).count();
        let ids = self.ids.len();
        self.ids.truncate(keep);
        self.learned.truncate(keep);
        let left = self.learned.iter().filter(|l| **l).count();
        if picture {
            self.image_at = None;
        }
        let learned = before - left;
        let unlearned = ids - self.ids.len() - learned - usize::from(picture);
        Cut { length, max_length, unlearned, learned, left, picture }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` ids with a picture at `image_at`, of which those from `learned` on are learned.
    fn encoded(n: usize, image_at: Option<usize>, learned: usize) -> Encoded {
        let ids = (0..n as u32).collect();
        Encoded { ids, learned: (0..n).map(|i| i >= learned).collect(), image_at, problem: None }
    }

    #[test]
    fn the_whole_is_cut_after_the_picture_has_grown() {
        // 3 + 600 + 1896 positions.
        let mut e = encoded(1900, Some(3), 1000);
        let cut = e.truncate(2048, 600);
        assert_eq!((e.ids.len(), cut.length, cut.left, cut.learned), (1449, 2499, 449, 451));
        assert_eq!(cut.loss(), Loss::PartOfAnswers);
        assert!(cut.to_string().contains("451 more than 2048"), "{cut}");
        // Text alone keeps as much text.
        let mut e = encoded(1900, None, 1000);
        e.truncate(2048, 600);
        assert_eq!(e.ids.len(), 1448);
        // Or all, if asked.
        let mut e = encoded(1900, None, 1000);
        assert_eq!(e.truncate(2048, 0).loss(), Loss::Nothing);
    }

    #[test]
    fn what_was_lost_is_told() {
        assert_eq!(encoded(10, Some(1), 5).truncate(13, 4).loss(), Loss::Nothing);
        assert_eq!(encoded(10, Some(1), 5).truncate(12, 4).loss(), Loss::PartOfAnswers);
        let cut = encoded(10, Some(1), 5).truncate(8, 4);
        assert_eq!((cut.loss(), cut.learned, cut.unlearned), (Loss::AllAnswers, 5, 0));
        let mut e = encoded(10, Some(8), 99);
        let cut = e.truncate(10, 4);
        assert_eq!(
            (cut.loss(), cut.picture, cut.unlearned, e.ids.len(), e.image_at),
            (Loss::Unlearned, true, 1, 8, None)
        );
        let mut e = encoded(10, Some(8), 0);
        e.truncate(0, 4);
        assert_eq!((e.ids.len(), e.image_at), (0, None));
    }
}
