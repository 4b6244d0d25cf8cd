//! The features of encoders for the images of a study: cached, computed, or the ground truth of the oracle.

pub mod cache;
mod card;
pub mod encode;
mod encoder;
mod frozen;
mod image_set;
pub mod model_cards;
pub mod oracle;
mod prepared;
pub mod scale;
mod visual_source;

pub use card::{ArmCard, role};
pub use encode::{EncodedImages, FeatureExtractor};
pub use frozen::{ComputedFeatures, EncoderFeatures, FrozenFeatures};
pub use image_set::ImageSet;
pub use prepared::{PreparedEncoder, prepare_all};
pub use visual_source::{EncoderInputs, VisualSource};
