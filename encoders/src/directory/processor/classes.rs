//! The image processors of transformers that apply the usual steps (resize, crop, rescale, normalise), with the
//! defaults of their classes in versions 4.57 and 5.24.

use super::super::config_values::{ChannelStats, HALF, IMAGENET, OPENAI};
use crate::preprocess::Fit;

/// Side in pixels from which `ConvNextImageProcessor` resizes the whole image to a square without a crop.
pub(super) const SQUASHED: usize = 384;

/// An image processor class and its defaults.
#[derive(Debug)]
pub(super) struct ProcessorClass {
    /// Name of the class in version 5.
    pub name: &'static str,
    pub way: ResizeMode,
    size: usize,
    /// Side of the centre crop, if the class crops by default.
    crop: Option<usize>,
    /// Pillow's number of the filter.
    resample: u64,
    pub colours: ChannelStats,
    /// Whether a single number for `size` is the length of the shorter edge instead of the side of a square.
    pub by_edge: bool,
    /// Size, crop and filter in version 4 where they differ (in the class without `Fast`).
    before: Option<(usize, Option<usize>, u64)>,
}

/// How a class resizes and crops an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResizeMode {
    Usual,
    /// Images below 384 pixels are resized by `crop_pct` and cropped; others are resized to a square.
    ConvNext,
    /// The shorter edge is resized to 256/224 of `size`.
    Levit,
    /// The image is padded to `pad_size`, which does not change a square.
    Pads,
}

const fn class(
    name: &'static str,
    size: usize,
    crop: Option<usize>,
    resample: u64,
    colours: ChannelStats,
) -> ProcessorClass {
    ProcessorClass { name, way: ResizeMode::Usual, size, crop, resample, colours, by_edge: false, before: None }
}

static PROCESSOR_CLASSES: [ProcessorClass; 18] = [
    ProcessorClass { before: Some((256, Some(224), 3)), ..class("BeitImageProcessor", 224, None, 3, HALF) },
    ProcessorClass { by_edge: true, ..class("BitImageProcessor", 224, Some(224), 3, OPENAI) },
    class("BlipImageProcessor", 384, None, 3, OPENAI),
    ProcessorClass { by_edge: true, ..class("CLIPImageProcessor", 224, Some(224), 3, OPENAI) },
    ProcessorClass { by_edge: true, ..class("ChineseCLIPImageProcessor", 224, Some(224), 3, OPENAI) },
    ProcessorClass {
        way: ResizeMode::ConvNext,
        before: Some((384, None, 2)),
        ..class("ConvNextImageProcessor", 384, None, 3, HALF)
    },
    class("DPTImageProcessor", 384, None, 3, HALF),
    class("DeiTImageProcessor", 256, Some(224), 3, HALF),
    ProcessorClass {
        way: ResizeMode::Levit,
        by_edge: true,
        ..class("LevitImageProcessor", 224, Some(224), 3, IMAGENET)
    },
    ProcessorClass { by_edge: true, ..class("MobileNetV1ImageProcessor", 256, Some(224), 2, HALF) },
    ProcessorClass { by_edge: true, ..class("MobileNetV2ImageProcessor", 256, Some(224), 2, HALF) },
    class("OwlViTImageProcessor", 768, None, 3, OPENAI),
    ProcessorClass { before: Some((224, None, 2)), ..class("PvtImageProcessor", 224, None, 3, IMAGENET) },
    class("Sam2ImageProcessor", 1024, None, 2, IMAGENET),
    ProcessorClass { way: ResizeMode::Pads, ..class("SamImageProcessor", 1024, None, 2, IMAGENET) },
    class("SegformerImageProcessor", 512, None, 2, IMAGENET),
    class("SiglipImageProcessor", 224, None, 3, HALF),
    class("ViTImageProcessor", 224, None, 2, HALF),
];

impl ProcessorClass {
    /// Finds a class by name; the endings `Fast`, `Pil` and `FeatureExtractor` are equivalent.
    pub fn find(name: &str) -> Option<&'static Self> {
        let name = ["Fast", "Pil"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let base = name.strip_suffix("ImageProcessor").or_else(|| name.strip_suffix("FeatureExtractor"))?;
        PROCESSOR_CLASSES.iter().find(|class| class.name.strip_suffix("ImageProcessor") == Some(base))
    }

    /// Returns the names of all classes.
    pub fn names() -> String {
        PROCESSOR_CLASSES.iter().map(|class| class.name).collect::<Vec<_>>().join(", ")
    }

    /// Returns how the class makes an image a square of `side` pixels by default.
    pub fn usual_fit(&self, side: usize) -> Fit {
        match self.way {
            ResizeMode::Pads => Fit::Corner,
            ResizeMode::ConvNext if side >= SQUASHED => Fit::Squash,
            ResizeMode::ConvNext => Fit::Shortest,
            ResizeMode::Usual | ResizeMode::Levit if self.by_edge => Fit::Shortest,
            ResizeMode::Usual | ResizeMode::Levit => Fit::Squash,
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
