//! A layer without parameters that takes an index in a sequence of layers.

use burn::module::Module;

/// A place in a tuple or vector of layers for an activation, pooling or dropout, which has no parameters.
#[derive(Module, Debug, Default)]
pub struct Slot {}
