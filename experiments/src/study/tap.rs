//! Overrides of an encoder's tap, as arms, studies and `burgess encode` write them.

use burgess_encoders::arch::{Tap, Tokens};
use burgess_encoders::card::EncoderCard;

/// The parts of a feature tap that replace those of the encoder's card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapOverrides {
    /// Layers to tap instead of the card's; negative numbers count from the last layer. The channels of several are
    /// concatenated in this order. The card's layers if empty.
    pub layers: Vec<i32>,
    /// Whether the encoder's final norm is applied; as the card says if absent.
    pub norm: Option<bool>,
    /// Whether the tower's own merger of patches is applied; as the card says if absent.
    pub merge: Option<bool>,
    /// Side of the square grid to which the features are resampled; the card's grid if absent.
    pub grid: Option<usize>,
    /// Tokens that are kept; the card's if absent. Arms always keep the card's.
    pub tokens: Option<Tokens>,
}

impl TapOverrides {
    /// Replaces the parts of the card's tap that are given.
    pub fn apply(&self, card: &mut EncoderCard) {
        let grid = self.grid.map(|side| [side; 2]);
        match self.layers.as_slice() {
            [] => {}
            [one] => card.tap = Tap { layer: *one, layers: Vec::new(), grid: None, ..card.tap },
            several => {
                let grid = grid.or(card.tap.grid).or(card.grid);
                card.tap = Tap { layer: Tap::default().layer, layers: several.to_vec(), grid, ..card.tap };
            }
        }
        card.grid = grid.or(card.grid);
        card.tap.norm = self.norm.unwrap_or(card.tap.norm);
        card.tap.merge = self.merge.unwrap_or(card.tap.merge);
        card.tap.tokens = self.tokens.unwrap_or(card.tap.tokens);
    }

    /// If the card taps several layers, sets the grid to which each of them is resampled before their channels are
    /// concatenated: the override, else the tap's own, else the card's.
    pub fn resample_each_layer(&self, card: &mut EncoderCard) {
        if !card.tap.layers.is_empty() {
            card.tap.grid = self.grid.map(|side| [side; 2]).or(card.tap.grid).or(card.grid);
        }
    }

    /// Formats the overrides as a suffix of directory names, such as `@7-bare-grid8`; empty without overrides.
    pub fn name(&self) -> String {
        let layers: String = self.layers.iter().map(|layer| format!("@{layer}")).collect();
        let norm = self.norm.map_or("", |norm| if norm { "-norm" } else { "-bare" });
        let merge = self.merge.map_or("", |merge| if merge { "-merged" } else { "-unmerged" });
        let grid = self.grid.map_or_else(String::new, |grid| format!("-grid{grid}"));
        format!("{layers}{norm}{merge}{grid}")
    }
}
