//! Features of made-up images.
//!
//! Tests, benchmarks and examples of `burgess-probe` include this file with `#[path]`.

use burgess_base::Result;
use burgess_probe::mllm::ImageBatch;
use burgess_probe::train::FeatureSource;
use burn::tensor::{Device, Tensor, TensorData};

/// Features `[tokens, width]` of each image, between −1 and 1.
pub struct MadeFeatures {
    pub tokens: usize,
    pub width: usize,
}

impl FeatureSource for MadeFeatures {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        let value = |image: usize, i: usize| ((image * 31 + i * 7919) % 1009) as f32 / 504.5 - 1.0;
        let values = images.iter().flat_map(|&image| (0..self.tokens * self.width).map(move |i| value(image, i)));
        let data = TensorData::new(values.collect::<Vec<f32>>(), [images.len(), self.tokens, self.width]);
        Ok(ImageBatch::Features(Tensor::from_data(data, device)))
    }
}
