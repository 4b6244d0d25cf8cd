//! Preparing batches ahead changes nothing.

use super::*;
use crate::connector::{ConnectorConfig, ConnectorKind};
use crate::llm::{ChatTemplate, LlmConfig};
use crate::mllm::MllmConfig;
use burgess_encoders::init::initialise;
use burn::tensor::TensorData;

const FEATURES: usize = 8;

/// Features that depend on the image; the image with the index `bad` cannot be read.
struct Images {
    bad: Option<usize>,
}

impl FeatureSource for Images {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        self.prepare(images, device)?()
    }

    fn prepare(&self, images: &[usize], device: &Device) -> Result<PendingImages<'_>> {
        if let Some(bad) = images.iter().find(|image| Some(**image) == self.bad) {
            return Err(Error::failed(format!("image {bad} is damaged")));
        }
        let value = |image: usize, i: usize| ((image * 31 + i * 7919) % 1009) as f32 / 504.5 - 1.0;
        let values = images.iter().flat_map(|&image| (0..4 * FEATURES).map(move |i| value(image, i))).collect();
        let data: Vec<f32> = values;
        let tokens = transfer::to_device(TensorData::new(data, [images.len(), 4, FEATURES]), device);
        Ok(Box::new(move || Ok(ImageBatch::Features(tokens))))
    }
}

fn model(device: &Device) -> Result<Mllm> {
    let llm = LlmConfig::nano(16, 2, 64);
    let config = MllmConfig {
        connector: ConnectorConfig {
            kind: ConnectorKind::default(),
            feature_width: FEATURES,
            llm_width: 16,
            towers: Vec::new(),
        },
        llm: llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    Mllm::assemble(config, Vec::new(), initialise(llm.init(device)?, "test", 0), 0, device)
}

/// Trains for seven steps over epochs of three; stops before the step `stop`. Returns the losses and gradient norms.
fn losses(more: &str, prefetches: bool, bad: Option<usize>, stop: usize) -> Result<Vec<[u64; 2]>> {
    let device = Device::flex();
    let text = format!("steps = 7\nbatch = 4\nlr = 1e-2\ntrainable = [\"connector\", \"llm\"]\n{more}");
    let stage: Stage = toml::from_str(&text).map_err(|e| Error::failed(e.to_string()))?;
    // Every third example has no image; the last batch of an epoch is short.
    let examples: Vec<Example> = (0..10)
        .map(|i| {
            let ids = (0..9).map(|k| 5 + ((i * 31 + k * 17) % 50) as u32).collect();
            let image = (i % 3 > 0).then_some(i);
            Example { image, ids, loss_mask: (0..9).map(|k| k > 4).collect(), image_at: image.map(|_| 0) }
        })
        .collect();
    let (mut log, steps) = (Vec::new(), std::cell::Cell::new(0));
    let mut run = StageRun {
        name: "tune",
        stage: &stage,
        seed: 3,
        device: &device,
        on_step: &mut |s: &StepLog| {
            steps.set(s.step);
            log.push([s.loss.to_bits(), s.grad_norm.to_bits()]);
        },
        stop: &|| steps.get() >= stop,
        saver: None,
        resume: None,
    };
    let outcome = train(model(&device)?, &examples, &Images { bad }, &mut run, prefetches)?;
    assert_eq!(matches!(outcome, StageOutcome::Interrupted), stop < 7);
    Ok(log)
}

#[test]
fn batches_that_are_prepared_ahead_give_the_same_bits() -> Result<()> {
    for more in ["", "accumulate = 3", "order = \"grouped_by_length\""] {
        let log = losses(more, false, None, 7)?;
        assert_eq!((log.len(), losses(more, true, None, 7)?), (7, log), "{more}");
    }
    Ok(())
}

#[test]
fn a_stop_or_an_error_ends_the_second_thread_too() -> Result<()> {
    for prefetches in [false, true] {
        assert_eq!(losses("", prefetches, None, 2)?.len(), 2);
        let e = losses("", prefetches, Some(4), 7).unwrap_err();
        assert!(e.to_string().contains("image 4 is damaged"), "{e}");
    }
    Ok(())
}
