//! What a model reads of numbered pictures: features of frozen encoders, or pixels for encoders that it trained itself.

use crate::frozen::Features;
use crate::pictures;
use burgess_base::{Error, Result};
use burgess_encoders::preprocess::{Orientation, Preprocess};
use burgess_probe::connector::PictureSize;
use burgess_probe::mllm::Visual;
use burgess_probe::train::FeatureSource;
use burn::tensor::{Device, Tensor, TensorData};
use std::path::Path;

/// Pictures as a model reads them.
pub struct Source<'a> {
    /// The directory to which names are relative, and the names by number.
    pub dir: &'a Path,
    pub pictures: &'a [String],
    /// Whether the connector asks for the pictures' sizes before they were padded.
    pub sizes: bool,
    /// What is done with the orientation in pictures' EXIF data.
    pub orientation: Orientation,
    pub towers: Towers<'a>,
}

/// Encoders in the order in which the model reads them.
pub enum Towers<'a> {
    /// Features, each on its grid.
    Frozen(Vec<&'a Features>),
    /// Pixels, as these prepare them.
    Trained(Vec<&'a Preprocess>),
}

impl Source<'_> {
    fn names(&self, images: &[usize]) -> Result<Vec<&String>> {
        let name =
            |image: &usize| self.pictures.get(*image).ok_or_else(|| Error::failed(format!("no picture {image}")));
        images.iter().map(name).collect()
    }
}

impl FeatureSource for Source<'_> {
    fn batch(&self, images: &[usize], device: &Device) -> Result<Visual> {
        match &self.towers {
            Towers::Frozen(features) => {
                features.iter().map(|f| f.batch(images, device)).collect::<Result<_>>().map(Visual::Towers)
            }
            Towers::Trained(preprocess) => {
                let opened = pictures::open_all(self.dir, &self.names(images)?, self.orientation);
                let opened = opened.into_iter().collect::<Result<Vec<_>>>()?;
                let pixels = |p: &&Preprocess| {
                    let all: Vec<f32> = opened.iter().flat_map(|picture| p.apply(picture)).collect();
                    Tensor::from_data(TensorData::new(all, [images.len(), 3, p.size, p.size]), device)
                };
                Ok(Visual::Pixels(preprocess.iter().map(pixels).collect()))
            }
        }
    }

    fn sizes(&self, images: &[usize]) -> Result<Option<Vec<PictureSize>>> {
        if !self.sizes {
            return Ok(None);
        }
        let size = |name: &String| {
            let (width, height) = pictures::dimensions(self.dir, name, self.orientation)?;
            Ok(PictureSize { width: width as usize, height: height as usize })
        };
        self.names(images)?.into_iter().map(size).collect::<Result<_>>().map(Some)
    }
}
