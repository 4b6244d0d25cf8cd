//! Throughput and peak memory of encoders at full size, with random weights: the speed does not depend on the values.

use crate::machine::memory;
use crate::throughput::measure::{Effort, median, noise, random_weights};
use burgess_base::{Error, Result};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::precision::ComputePrecision;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use std::time::Instant;

/// Measurement of one encoder at one batch size.
#[derive(Debug, Clone, Serialize)]
pub struct EncoderThroughput {
    /// Id of the encoder's card.
    pub encoder: String,
    /// Precision of the matrix products.
    pub precision: ComputePrecision,
    /// Number of images per forward pass.
    pub batch: usize,
    /// Median throughput, in images per second.
    pub images_per_second: f64,
    /// Median duration of a forward pass in seconds, including the transfer of features to the host.
    pub seconds: f64,
    /// Duration of the fastest forward pass in seconds.
    pub fastest: f64,
    /// Number of measured forward passes, after one warm-up pass.
    pub runs: usize,
    /// TFLOP/s of matrix products and convolutions, at the median duration.
    pub tflops: f64,
    /// Size of the weights in f32, in bytes.
    pub weight_bytes: u64,
    /// Peak memory of the process in bytes; 0 if the system does not report it.
    pub peak_bytes: u64,
}

/// Returns the published encoder with the fewest parameters for each checkpoint dialect.
///
/// # Errors
/// A card of the zoo is invalid.
pub fn representatives() -> Result<Vec<EncoderCard>> {
    let mut chosen: Vec<(String, EncoderCard)> = Vec::new();
    let mut cards = burgess_encoders::card::zoo()?;
    cards.retain(|c| c.pretrain.is_none() && !c.id.starts_with("nano-"));
    cards.sort_by_key(|c| c.source.parameters);
    for card in cards {
        // Dialects of one architecture differ in work (rotary position embeddings, relative position bias ...).
        let kind = card.source.dialect.clone();
        if !chosen.iter().any(|(k, _)| *k == kind) {
            chosen.push((kind, card));
        }
    }
    Ok(chosen.into_iter().map(|(_, card)| card).collect())
}

/// Measures `card` at each batch size.
///
/// # Errors
/// The network cannot be built, or a forward pass fails.
pub fn measure_encoder(
    card: &EncoderCard,
    batches: &[usize],
    device: &Device,
    effort: Effort,
) -> Result<Vec<EncoderThroughput>> {
    let network = random_weights(card.architecture.init(device)?)?.no_grad().in_precision(card.precision, device)?;
    let size = card.preprocess.size;
    let flops = card.architecture.flops(&card.tap)? as f64;
    let mut rows = Vec::with_capacity(batches.len());
    for &batch in batches {
        memory::reset_peak();
        let values: Vec<f32> = (0..batch * 3 * size * size).map(|i| noise(i as u64)).collect();
        let pixels = Tensor::<4>::from_data(TensorData::new(values, [batch, 3, size, size]), device);
        let pass = || -> Result<f64> {
            let start = Instant::now();
            let features = network.forward(pixels.clone(), &card.tap)?.tokens;
            features.try_into_data().map_err(|e| Error::failed(e.to_string()))?;
            Ok(start.elapsed().as_secs_f64())
        };
        let seconds = effort.measure(pass)?;
        let median = median(&seconds);
        rows.push(EncoderThroughput {
            encoder: card.id.clone(),
            precision: card.precision,
            batch,
            images_per_second: batch as f64 / median,
            seconds: median,
            fastest: seconds.first().copied().unwrap_or(f64::NAN),
            runs: seconds.len(),
            tflops: flops * batch as f64 / median / 1e12,
            weight_bytes: 4 * card.source.parameters,
            peak_bytes: memory::peak(),
        });
    }
    Ok(rows)
}
