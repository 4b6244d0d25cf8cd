//! The features of encoders for the images of a study: cached, computed, or the ground truth of the oracle.

pub mod cache;
pub mod card;
pub mod encode;
pub mod frozen;
pub mod model_cards;
pub mod oracle;
pub mod visual_source;

pub use encode::*;
