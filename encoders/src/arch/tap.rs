//! Feature taps: the layers whose outputs are the features, the tokens that are kept, and the grid for several layers.

use super::fields::is_default;
use crate::features::{FeatureMap, check_grid};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// The tokens that a tap returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Tokens {
    /// The patch tokens only.
    #[default]
    Patch,
    /// The class token, then the patch tokens.
    PatchAndClass,
}

impl std::str::FromStr for Tokens {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "patch" => Ok(Self::Patch),
            "patch-and-class" => Ok(Self::PatchAndClass),
            other => Err(Error::usage(format!("unknown tokens `{other}`")).hint("known: patch, patch-and-class")),
        }
    }
}

/// The layers and tokens from which features are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tap {
    /// Index of the block (ViT, SAM), stage (ConvNeXt, ResNet) or up block (Stable Diffusion) whose output is taken: 0
    /// is the first, -1 the last, -2 the one before it. The last layer of Stable Diffusion is not an up block but the
    /// concatenation of all, resampled to one grid. Default -1.
    #[serde(default = "last")]
    pub layer: i32,
    /// Indices of several layers instead of one, as for `layer`; their channels are concatenated in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub layers: Vec<i32>,
    /// The grid, `[rows, columns]`, to which each of `layers` is resampled (bilinear).
    /// Required if their grids differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<[usize; 2]>,
    /// Whether the final norm is applied to the tapped output. Default false.
    #[serde(default)]
    pub norm: bool,
    /// Whether the tower's own merger of neighbouring patches is applied to the tapped output (Qwen-VL: 2 × 2 patches
    /// become one token of the language model's width). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub merge: bool,
    /// The tokens that are kept. Default: the patch tokens.
    #[serde(default)]
    pub tokens: Tokens,
}

fn last() -> i32 {
    -1
}

impl Default for Tap {
    fn default() -> Self {
        Self { layer: last(), layers: Vec::new(), grid: None, norm: false, merge: false, tokens: Tokens::Patch }
    }
}

impl Tap {
    /// The layer indices as given; `layer` alone if `layers` is empty.
    fn listed(&self) -> &[i32] {
        if self.layers.is_empty() { std::slice::from_ref(&self.layer) } else { &self.layers }
    }

    /// The layer indices counted from the front, in the order given; at least one.
    ///
    /// # Errors
    /// A layer does not exist, or `layer`, `layers` and `grid` contradict each other.
    pub(super) fn indices(&self, layers: usize, what: &str) -> Result<Vec<usize>> {
        if !self.layers.is_empty() && self.layer != last() {
            return Err(Error::usage("the feature tap has both `layer` and `layers`").hint("remove one of them"));
        }
        if self.layers.is_empty() && self.grid.is_some() {
            return Err(Error::usage("the feature tap has a grid for several layers, but only one layer")
                .hint("set the card's own `grid` to resample the features of one layer"));
        }
        if self.grid.is_some_and(|grid| grid.contains(&0)) {
            return Err(Error::usage("both sides of the feature tap's grid must be positive"));
        }
        self.grid.map_or(Ok(()), check_grid)?;
        let n = layers as i64;
        let index = |layer: &i32| {
            let at = if *layer < 0 { n + i64::from(*layer) } else { i64::from(*layer) };
            usize::try_from(at).ok().filter(|at| *at < layers).ok_or_else(|| {
                Error::usage(format!("the feature tap asks for {what} {layer}, but there are {layers}"))
                    .hint(format!("choose a layer from -{layers} (the first) to -1 (the last)"))
            })
        };
        self.listed().iter().map(index).collect()
    }

    /// The largest of the layer indices, counted from the front.
    pub(super) fn deepest(&self, layers: usize, what: &str) -> Result<usize> {
        Ok(self.indices(layers, what)?.into_iter().max().unwrap_or(0))
    }

    /// The index of the one layer, for architectures that cannot join several.
    pub(super) fn only(&self, layers: usize, what: &str) -> Result<usize> {
        match self.indices(layers, what)?.as_slice() {
            [one] if self.layers.is_empty() => Ok(*one),
            _ => {
                Err(Error::usage("this architecture's feature tap takes one layer").hint("give `layer`, not `layers`"))
            }
        }
    }

    /// The grid of the joined features, where `grids` are those of the layers.
    pub(super) fn joined_grid(&self, grids: &[[usize; 2]]) -> Result<[usize; 2]> {
        if let (Some(grid), false) = (self.grid, self.layers.is_empty()) {
            return Ok(grid);
        }
        match grids {
            [first, rest @ ..] if rest.iter().all(|grid| grid == first) => Ok(*first),
            _ => Err(Error::usage(format!("the feature tap joins layers of the grids {grids:?}"))
                .hint("state the grid to which they are resampled: grid = [rows, columns] in the card's [tap]")),
        }
    }

    /// Resamples the feature maps of all layers to one grid and concatenates their channels.
    pub(super) fn join(&self, maps: Vec<FeatureMap>) -> Result<FeatureMap> {
        let grid = self.joined_grid(&maps.iter().map(|map| map.grid).collect::<Vec<_>>())?;
        match <[FeatureMap; 1]>::try_from(maps) {
            Ok([one]) => one.resample(grid),
            Err(maps) => {
                let maps: Result<Vec<_>> = maps.into_iter().map(|map| map.resample(grid)).collect();
                FeatureMap::concat(&maps?)
            }
        }
    }
}

/// Outputs of the layers with the indices `wanted`, in that order. The layers run one after the other on `x`, up to
/// the largest index wanted.
pub(super) fn outputs<L, T: Clone>(
    x: T,
    wanted: &[usize],
    layers: &[L],
    mut forward: impl FnMut(usize, &L, T) -> T,
) -> Vec<T> {
    let mut x = x;
    let mut outputs = vec![None; wanted.len()];
    for (i, layer) in layers.iter().enumerate().take(wanted.iter().max().map_or(0, |last| last + 1)) {
        x = forward(i, layer, x);
        for (_, output) in wanted.iter().zip(&mut outputs).filter(|(wanted, _)| **wanted == i) {
            *output = Some(x.clone());
        }
    }
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_from_both_ends() -> Result<()> {
        let tap = Tap { layers: vec![0, -1, 2], ..Tap::default() };
        assert_eq!(tap.indices(4, "stage")?, [0, 3, 2]);
        assert_eq!(tap.deepest(4, "stage")?, 3);
        assert_eq!(Tap::default().indices(4, "stage")?, [3]);
        assert!(tap.indices(2, "stage").is_err() && tap.only(4, "stage").is_err());
        Ok(())
    }

    #[test]
    fn contradictory_taps_are_errors() {
        let say = |tap: Tap| tap.indices(4, "stage").unwrap_err().to_string();
        assert!(say(Tap { layer: 1, layers: vec![0, 1], ..Tap::default() }).contains("`layer` and `layers`"));
        assert!(say(Tap { grid: Some([2, 2]), ..Tap::default() }).contains("one layer"));
        assert!(say(Tap { layers: vec![0], grid: Some([0, 2]), ..Tap::default() }).contains("positive"));
        let tap = Tap { layers: vec![0, 1], ..Tap::default() };
        assert!(
            tap.joined_grid(&[[4, 4], [2, 2]])
                .unwrap_err()
                .hint_text()
                .is_some_and(|h| h.contains("grid = [rows, columns]"))
        );
    }
}
