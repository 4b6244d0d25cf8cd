//! The encoders of the paper's catalogue (Table 6).

use serde::Serialize;

/// The kind of supervision of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum EncoderFamily {
    /// Trained on pairs of image and text, such as CLIP.
    #[serde(rename = "language-supervised")]
    LanguageSupervised,
    /// Trained on images alone, such as DINOv2.
    #[serde(rename = "self-supervised")]
    SelfSupervised,
    /// Trained in another way: class labels, segmentation, depth, diffusion.
    #[serde(rename = "other")]
    Other,
}

impl EncoderFamily {
    /// All families, in the order of the paper's catalogue.
    pub const ALL: [EncoderFamily; 3] =
        [EncoderFamily::LanguageSupervised, EncoderFamily::SelfSupervised, EncoderFamily::Other];

    /// Returns the family's name in the paper.
    pub fn name(self) -> &'static str {
        match self {
            EncoderFamily::LanguageSupervised => "Language-supervised",
            EncoderFamily::SelfSupervised => "Self-supervised",
            EncoderFamily::Other => "Other",
        }
    }

    /// Returns the family of the encoder with this number in the paper's catalogue (Table 6), which is grouped by
    /// family.
    pub fn of(number: usize) -> Option<Self> {
        match number {
            1..=9 => Some(EncoderFamily::LanguageSupervised),
            10..=16 => Some(EncoderFamily::SelfSupervised),
            17..=23 => Some(EncoderFamily::Other),
            _ => None,
        }
    }
}

/// Returns the catalogue number with which a model's name begins: 6 for `6 SigLIP-SO400M/14@384`.
pub fn number(model: &str) -> Option<usize> {
    model.split_once(' ').and_then(|(n, _)| n.parse().ok()).filter(|n| EncoderFamily::of(*n).is_some())
}

/// Returns a model's name without its catalogue number.
pub fn short(model: &str) -> &str {
    match (number(model), model.split_once(' ')) {
        (Some(_), Some((_, name))) => name,
        _ => model,
    }
}
