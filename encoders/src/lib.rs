//! Pixels to patch features: cards, preprocessing, checkpoints, architectures.
