//! Annotated images, in the form that all annotation formats are converted to.

use burgess_base::files;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The format of an annotation file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnotationFormat {
    /// COCO: `images`, `annotations`, `categories`; every object of every category has a box.
    Coco,
    /// ADE20K: COCO's format, or a directory of ADE20K's own JSON files.
    Ade20k,
    /// Omni3D: COCO's format with `bbox3D_cam` and `bbox2D_*`.
    Omni3d,
}

impl AnnotationFormat {
    /// Returns the name as in the published column `source`.
    pub fn source(self) -> &'static str {
        match self {
            Self::Coco => "COCO",
            Self::Ade20k => "ADE20K",
            Self::Omni3d => "Omni3D",
        }
    }
}

/// An image with its annotated objects.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotatedImage {
    /// The format of the annotations.
    pub format: AnnotationFormat,
    /// The dataset's own name, such as `nuScenes` in Omni3D.
    pub dataset: String,
    /// Path of the image.
    pub file: PathBuf,
    /// Name of the image in the annotations.
    pub name: String,
    /// Width and height in pixels.
    pub size: [f64; 2],
    /// The annotated objects.
    pub objects: Vec<AnnotatedObject>,
    /// Classes with a crowd annotation, whose members have no boxes of their own.
    pub crowds: BTreeSet<String>,
    /// Classes with an object in the image that has no usable box.
    pub unclear: BTreeSet<String>,
}

/// An object in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotatedObject {
    /// Class of the object, in lower case.
    pub class: String,
    /// Bounding box: left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// The eight corners of the 3D box, `[x, y, z]` in camera coordinates.
    pub corners: Option<[[f64; 3]; 8]>,
    /// The visible fraction of the object, 0 to 1; 1 if unknown.
    pub visible: f64,
}

/// Scenes, and the annotations that cannot be used, per reason.
#[derive(Debug, Default)]
pub struct ReadAnnotations {
    /// The scenes, in the order of the file.
    pub scenes: Vec<AnnotatedImage>,
    /// Number of unusable annotations per reason.
    pub refused: BTreeMap<&'static str, usize>,
}

/// One set of annotations with its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationSet {
    /// Format of the annotations.
    pub format: AnnotationFormat,
    /// The JSON file; for ADE20K's full edition the directory with a JSON file beside each image.
    pub annotations: PathBuf,
    /// The directory to which image paths are relative.
    pub images: PathBuf,
}

/// Minimum fraction of a box that must lie within the image.
const INSIDE: f64 = 0.5;

/// Maximum size in bytes of the annotations of one image.
pub(crate) const LARGEST_IMAGE: u64 = 1 << 30;

/// Returns width and height of an image file in pixels, if it can be read.
pub(crate) fn size_of(file: &Path) -> Option<[f64; 2]> {
    if !files::is_regular(file) {
        return None;
    }
    // Some formats must be decoded to find their size.
    let decoded = || burgess_images::decode(file).map(|image| image.dimensions());
    let (width, height) = burgess_images::dimensions(file).or_else(|_| decoded()).ok()?;
    Some([f64::from(width), f64::from(height)])
}

/// Reason why a box without a width or a height is refused.
pub(crate) const NO_EXTENT: &str = "a box without extent";

/// Returns the part of a box that lies within an image of this size.
pub(crate) fn clipped([x, y, w, h]: [f64; 4], [width, height]: [f64; 2]) -> Result<[f64; 4], &'static str> {
    let (left, top, right, bottom) = (x.max(0.0), y.max(0.0), (x + w).min(width), (y + h).min(height));
    if right <= left || bottom <= top {
        return Err("a box outside of the image");
    }
    // Fractions of the sides are used because the areas of absurd boxes are infinite.
    if (right - left) / w * ((bottom - top) / h) < INSIDE {
        return Err("a box mostly outside of the image");
    }
    let whole = x >= 0.0 && y >= 0.0 && x + w <= width && y + h <= height;
    Ok(if whole { [x, y, w, h] } else { [left, top, right - left, bottom - top] })
}

/// Returns a class as plain words: `traffic_light` becomes "traffic light", and ADE20K's synonyms are reduced to the
/// first.
pub(crate) fn plain(name: &str) -> String {
    name.split(',').next().unwrap_or(name).trim().replace('_', " ").to_lowercase()
}
