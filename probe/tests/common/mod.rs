//! A small model and functions to compare tensors, for several test files.

// Not every test file uses every function.
#![allow(dead_code)]

use burgess_base::{Error, Result};
use burgess_encoders::init::initialise;
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::llm::{ChatTemplate, LlmConfig};
use burgess_probe::mllm::{Mllm, MllmConfig};
use burn::tensor::{Device, Tensor};

/// ‖a − b‖ / ‖b‖.
pub fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// The elements of a tensor, in row-major order.
pub fn values<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
    x.try_into_vec_as().map_err(|e| Error::failed(e.to_string()))
}

/// A model of width 32 that reads the features of two encoders, of widths 6 and 5 on grids of 4 × 4 and 8 × 8.
pub fn two_encoder_model(kind: ConnectorKind, llm: LlmConfig, device: &Device) -> Result<Mllm> {
    let config = MllmConfig {
        connector: ConnectorConfig::new(kind, &[(6, [4, 4]), (5, [8, 8])], 32)?,
        llm: llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    // Larger weights than those of training, so that answers differ between images.
    let llm = initialise(llm.init(device)?, "llm", 3);
    Mllm::assemble(config, Vec::new(), llm, 3, device)
}
