//! The image processors of transformers that apply the usual steps (resize, crop, rescale, normalise), with the
//! defaults of their classes in versions 4.57 and 5.24.

use super::super::{Colours, HALF, IMAGENET, OPENAI};
use crate::preprocess::Fit;

/// The side from which `ConvNextImageProcessor` resizes the whole image to a square without a crop, in pixels.
pub(super) const SQUASHED: usize = 384;

/// An image processor class and its defaults.
#[derive(Debug)]
pub(super) struct Class {
    /// Name of the class in version 5.
    pub name: &'static str,
    pub way: Way,
    size: usize,
    /// Side of the centre crop, if the class crops by default.
    crop: Option<usize>,
    /// Pillow's number of the filter.
    resample: u64,
    pub colours: Colours,
    /// Whether a single number for `size` is the shorter edge and not the side of a square.
    pub by_edge: bool,
    /// Size, crop and filter in version 4 where they differ (in the class without `Fast`).
    before: Option<(usize, Option<usize>, u64)>,
}

/// The special behaviour of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Usual,
    /// Small images are resized by `crop_pct` and cropped, large ones squashed.
    ConvNext,
    /// The shorter edge is resized to 256/224 of `size`.
    Levit,
    /// The image is padded to `pad_size`, which does not change a square.
    Pads,
}

const fn class(name: &'static str, size: usize, crop: Option<usize>, resample: u64, colours: Colours) -> Class {
    Class { name, way: Way::Usual, size, crop, resample, colours, by_edge: false, before: None }
}

static CLASSES: [Class; 17] = [
    Class { before: Some((256, Some(224), 3)), ..class("BeitImageProcessor", 224, None, 3, HALF) },
    Class { by_edge: true, ..class("BitImageProcessor", 224, Some(224), 3, OPENAI) },
    class("BlipImageProcessor", 384, None, 3, OPENAI),
    Class { by_edge: true, ..class("CLIPImageProcessor", 224, Some(224), 3, OPENAI) },
    Class { by_edge: true, ..class("ChineseCLIPImageProcessor", 224, Some(224), 3, OPENAI) },
    Class { way: Way::ConvNext, before: Some((384, None, 2)), ..class("ConvNextImageProcessor", 384, None, 3, HALF) },
    class("DPTImageProcessor", 384, None, 3, HALF),
    class("DeiTImageProcessor", 256, Some(224), 3, HALF),
    Class { way: Way::Levit, by_edge: true, ..class("LevitImageProcessor", 224, Some(224), 3, IMAGENET) },
    Class { by_edge: true, ..class("MobileNetV1ImageProcessor", 256, Some(224), 2, HALF) },
    Class { by_edge: true, ..class("MobileNetV2ImageProcessor", 256, Some(224), 2, HALF) },
    class("OwlViTImageProcessor", 768, None, 3, OPENAI),
    Class { before: Some((224, None, 2)), ..class("PvtImageProcessor", 224, None, 3, IMAGENET) },
    Class { way: Way::Pads, ..class("SamImageProcessor", 1024, None, 2, IMAGENET) },
    class("SegformerImageProcessor", 512, None, 2, IMAGENET),
    class("SiglipImageProcessor", 224, None, 3, HALF),
    class("ViTImageProcessor", 224, None, 2, HALF),
];

impl Class {
    /// Finds a class by name; the endings `Fast`, `Pil` and `FeatureExtractor` are equivalent.
    pub fn find(name: &str) -> Option<&'static Self> {
        let name = ["Fast", "Pil"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let base = name.strip_suffix("ImageProcessor").or_else(|| name.strip_suffix("FeatureExtractor"))?;
        CLASSES.iter().find(|class| class.name.strip_suffix("ImageProcessor") == Some(base))
    }

    /// The names of all classes.
    pub fn names() -> String {
        CLASSES.iter().map(|class| class.name).collect::<Vec<_>>().join(", ")
    }

    /// How the class makes an image square of `side` pixels by default.
    pub fn usual_fit(&self, side: usize) -> Fit {
        match self.way {
            Way::Pads => Fit::Corner,
            Way::ConvNext if side >= SQUASHED => Fit::Squash,
            Way::ConvNext => Fit::Shortest,
            Way::Usual | Way::Levit if self.by_edge => Fit::Shortest,
            Way::Usual | Way::Levit => Fit::Squash,
        }
    }

    /// Whether version 4 has other defaults.
    pub fn differs(&self) -> bool {
        self.before.is_some()
    }

    pub fn size(&self, version_4: bool) -> usize {
        self.before.filter(|_| version_4).map_or(self.size, |(size, ..)| size)
    }

    pub fn crop(&self, version_4: bool) -> Option<usize> {
        self.before.filter(|_| version_4).map_or(self.crop, |(_, crop, _)| crop)
    }

    pub fn resample(&self, version_4: bool) -> u64 {
        self.before.filter(|_| version_4).map_or(self.resample, |(.., resample)| resample)
    }
}
