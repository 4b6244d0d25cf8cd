//! Shape and cost of feature maps, followed layer by layer without computing the features.
//!
//! A network is walked through once more beside its forward pass: every layer states what it does to the number of
//! channels and to the side of the map, and how many multiply-adds it takes. Parameters of a network that was just
//! built are not allocated until they are used, so that this costs next to nothing.

use super::{Conv, ConvSpec, SqueezeExcite};
use crate::arch::staged::LayerShape;
use burn::nn::Linear;

/// The feature map at the current place of a network, and what it cost to get there.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Channels of the map.
    pub channels: usize,
    /// Side of the square map.
    pub side: usize,
    /// Multiply-adds since the last layer that a tap can select.
    pub multiply_adds: u64,
    layers: Vec<LayerShape>,
}

impl Trace {
    /// Starts with an RGB image of `side` pixels per side.
    pub fn image(side: usize) -> Self {
        Self { channels: 3, side, multiply_adds: 0, layers: Vec::new() }
    }

    /// Passes through a convolution.
    pub fn conv(&mut self, conv: &Conv) {
        self.spec(&conv.spec());
    }

    /// Passes through a convolution of these hyper-parameters.
    pub fn spec(&mut self, spec: &ConvSpec) {
        self.multiply_adds += spec.multiply_adds(self.side);
        self.side = spec.out_side(self.side);
        self.channels = spec.to;
    }

    /// Adds the cost of a convolution on the side of the main path.
    pub fn beside(&mut self, conv: &Conv) {
        self.multiply_adds += conv.spec().multiply_adds(self.side);
    }

    /// Adds the cost of a convolution that is applied to one position, as in squeeze-and-excitation.
    pub fn at_one_position(&mut self, conv: &Conv) {
        self.multiply_adds += conv.spec().multiply_adds(1);
    }

    /// Adds the cost of squeeze-and-excitation.
    pub fn squeeze_excite(&mut self, layer: &SqueezeExcite) {
        self.at_one_position(&layer.fc1);
        self.at_one_position(&layer.fc2);
    }

    /// Passes through a linear layer at every position.
    pub fn linear(&mut self, linear: &Linear) {
        let [from, to] = linear.weight.lazy_shape().dims();
        self.multiply_adds += (self.positions() * from * to) as u64;
        self.channels = to;
    }

    /// Number of positions of the map.
    pub fn positions(&self) -> usize {
        self.side * self.side
    }

    /// Adds the two products of attention: scores over `keys` with `key` channels, and sums of `value` channels.
    pub fn attention(&mut self, queries: usize, keys: usize, key: usize, value: usize) {
        self.multiply_adds += (queries * keys * (key + value)) as u64;
    }

    /// Ends a layer that a tap can select.
    pub fn end_layer(&mut self) {
        let multiply_adds = std::mem::take(&mut self.multiply_adds);
        self.layers.push(LayerShape { width: self.channels, side: self.side, multiply_adds });
    }

    /// The layers that have ended, first to last.
    pub fn layers(self) -> Vec<LayerShape> {
        self.layers
    }
}
