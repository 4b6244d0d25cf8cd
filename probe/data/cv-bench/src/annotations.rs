//! Reads annotated images: COCO's instances, ADE20K (in COCO's format, or its full edition with a JSON file per image),
//! and Omni3D (COCO's format with 3D boxes).

use crate::{ade20k, coco};
use burgess_base::Result;

pub use crate::annotated::{AnnotatedImage, AnnotatedObject, AnnotationFormat, AnnotationSet, ReadAnnotations};

/// Reads one set of annotations.
///
/// Boxes are clipped to the image. A box that lies outside the image, completely or mostly, or has no extent is
/// refused, and objects of its class are not counted in that image.
///
/// # Errors
/// An error is returned if the file does not exist or has another format, or if an annotation lacks its image or
/// category; it names line or index, and field.
pub fn read(input: &AnnotationSet) -> Result<ReadAnnotations> {
    match input.format {
        AnnotationFormat::Ade20k if input.annotations.is_dir() => ade20k::read(input),
        _ => coco::read(input),
    }
}
