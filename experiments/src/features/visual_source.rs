//! The images of a study as input of a model, by index: features of frozen encoders, or pixels for trained ones.

use crate::data::image_files;
use crate::features::frozen::FrozenFeatures;
use burgess_base::{Error, Result};
use burgess_encoders::preprocess::{Orientation, Preprocess};
use burgess_encoders::transfer;
use burgess_probe::connector::ImageSize;
use burgess_probe::mllm::ImageBatch;
use burgess_probe::train::{FeatureSource, PendingImages};
use burn::tensor::{Device, TensorData};
use std::path::Path;

/// Source of the visual input of a model.
pub struct VisualSource<'a> {
    /// Directory to which image names are relative; `images` holds the names by index.
    pub dir: &'a Path,
    /// Names of the images, by index.
    pub images: &'a [String],
    /// Whether the connector needs the sizes of images before padding.
    pub sizes: bool,
    /// How the orientation in images' EXIF data is applied.
    pub orientation: Orientation,
    /// Inputs of the model for each encoder.
    pub encoders: EncoderInputs<'a>,
}

/// Encoders in the order in which the connector reads them.
pub enum EncoderInputs<'a> {
    /// Frozen encoders: their features, each on its own grid.
    Frozen(Vec<&'a FrozenFeatures>),
    /// Trained encoders: pixels, preprocessed for each of them.
    Trained(Vec<&'a Preprocess>),
}

impl VisualSource<'_> {
    fn names(&self, images: &[usize]) -> Result<Vec<&String>> {
        let name = |image: &usize| self.images.get(*image).ok_or_else(|| Error::failed(format!("no image {image}")));
        images.iter().map(name).collect()
    }
}

impl FeatureSource for VisualSource<'_> {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        self.prepare(images, device)?()
    }

    fn prepare(&self, images: &[usize], device: &Device) -> Result<PendingImages<'_>> {
        match &self.encoders {
            EncoderInputs::Frozen(features) => {
                let pending: Vec<_> = features.iter().map(|f| f.prepare(images, device)).collect::<Result<_>>()?;
                Ok(Box::new(move || {
                    pending.into_iter().map(|f| f()).collect::<Result<_>>().map(ImageBatch::FeatureMaps)
                }))
            }
            EncoderInputs::Trained(preprocess) => {
                let opened = image_files::open_all(self.dir, &self.names(images)?, self.orientation);
                let opened = opened.into_iter().collect::<Result<Vec<_>>>()?;
                let pixels = |p: &&Preprocess| {
                    let all: Vec<f32> = opened.iter().flat_map(|image| p.apply(image)).collect();
                    transfer::to_device(TensorData::new(all, [images.len(), 3, p.size, p.size]), device)
                };
                let pixels = ImageBatch::Pixels(preprocess.iter().map(pixels).collect());
                Ok(Box::new(move || Ok(pixels)))
            }
        }
    }

    fn sizes(&self, images: &[usize]) -> Result<Option<Vec<ImageSize>>> {
        if !self.sizes {
            return Ok(None);
        }
        let size = |name: &String| {
            let (width, height) = image_files::dimensions(self.dir, name, self.orientation)?;
            Ok(ImageSize { width: width as usize, height: height as usize })
        };
        self.names(images)?.into_iter().map(size).collect::<Result<_>>().map(Some)
    }
}
