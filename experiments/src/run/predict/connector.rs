//! Predictors that need an aligned connector: the A score (alignment of image tokens with those of CLIP; Law of Vision
//! Representation, arXiv:2408.16357) and the loss of the align stage.

use super::networks::ArmNetworks;
use crate::features::{ArmCard, EncoderFeatures};
use crate::machine::progress::Bar;
use crate::machine::stop;
use crate::run::evaluator::Evaluator;
use crate::run::store::{RunStore, run_dir};
use crate::run::training::{ALIGNED, AlignRun, TrainJob, align_losses};
use crate::study::{Arm, Freeze, StudyConfig};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{self, Checkpoint, IDENTITY};
use burgess_encoders::probe::correspondence::a_score;
use burgess_encoders::transfer;
use burgess_probe::connector::{Connector, ConnectorConfig};
use burgess_probe::mllm::ImageBatch;
use burgess_probe::train::FeatureSource;
use burgess_reports::predictors::ArmValue;
use burn::tensor::Device;
use std::path::Path;
use std::time::Duration;

/// Number of benchmark images whose tokens are compared, as in the paper's code.
const IMAGES: usize = 100;
/// Number of images in a forward pass of the connector.
const BATCH: usize = 20;
/// Family of the encoders that are the reference by default.
const REFERENCE_FAMILY: &str = "CLIP";

/// Returns the indices of at most 100 benchmark images of the study, evenly spaced in ascending order.
pub fn benchmark_images(evaluator: &Evaluator) -> Vec<usize> {
    let mut all: Vec<usize> = evaluator.benchmarks.iter().flat_map(|b| b.images()).collect();
    all.sort_unstable();
    all.dedup();
    let n = all.len();
    let keep = |i: usize| n <= IMAGES || (i * IMAGES / n) != ((i + 1) * IMAGES / n);
    all.into_iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, image)| image).collect()
}

/// Checks the names of reference arms.
///
/// # Errors
/// The study has no arm with one of the names; the hint lists its arms.
pub fn check_references(study: &StudyConfig, named: &[String]) -> Result<()> {
    let known: Vec<String> = study.arms.iter().map(Arm::name).collect();
    match named.iter().find(|name| !known.contains(name)) {
        Some(unknown) => {
            Err(Error::usage(format!("--reference: the study {} has no arm called `{unknown}`", study.name))
                .hint(format!("its arms: {}", known.join(", "))))
        }
        None => Ok(()),
    }
}

/// Chooses the reference arms of the A score: those with the given names, or those of one frozen CLIP encoder.
pub fn references<'a>(study: &'a StudyConfig, named: &[String], arms: &[Option<ArmNetworks>]) -> Vec<&'a Arm> {
    let is_clip = |networks: &Option<ArmNetworks>| {
        let cards: Vec<&ArmCard> = networks.iter().flat_map(ArmNetworks::cards).collect();
        matches!(cards.as_slice(), [ArmCard::Encoder(card)] if card.family == REFERENCE_FAMILY)
    };
    let chosen = study.arms.iter().zip(arms).filter(|(arm, networks)| match named {
        [] => arm.freeze == Freeze::Frozen && is_clip(networks),
        named => named.contains(&arm.name()),
    });
    chosen.map(|(arm, _)| arm).collect()
}

/// The image tokens of an arm after its aligned connector.
pub struct ProjectedTokens {
    /// Tokens of each image, `[tokens · width]`.
    images: Vec<Vec<f32>>,
    width: usize,
}

impl ProjectedTokens {
    /// Projects the features of images with the aligned connector of a run.
    ///
    /// # Errors
    /// The run has no aligned connector, or its files are damaged.
    pub fn compute(
        evaluator: &Evaluator,
        arm: &Arm,
        encoders: &[EncoderFeatures],
        run: &RunStore,
        images: &[usize],
        device: &Device,
    ) -> Result<Self> {
        let file = run.aligned().join(ALIGNED);
        if !run.has_aligned(&|_| ())? || !file.exists() {
            return Err(Error::failed(format!(
                "{} is missing: the run has not finished the align stage",
                file.display()
            ))
            .hint("train the arm first"));
        }
        let shapes: Vec<_> = encoders.iter().map(|e| (e.features.width(), e.features.grid())).collect();
        let width = evaluator.llm.config.hidden_size;
        let config = ConnectorConfig::new(evaluator.connector(arm).clone(), &shapes, width)?;
        let connector: Connector = checkpoint::load(config.init(device)?, &Checkpoint::open(&file)?, &IDENTITY)?.0;
        let source = evaluator.visual_source(arm, encoders, Freeze::Frozen);
        let mut out = Vec::with_capacity(images.len());
        for batch in images.chunks(BATCH) {
            stop::check()?;
            let sizes = source.sizes(batch)?;
            let ImageBatch::FeatureMaps(maps) = source.batch(batch, device)? else {
                return Err(Error::failed(format!(
                    "arm {}: expected the feature maps of frozen encoders, found images",
                    arm.name()
                )));
            };
            let tokens = connector.forward(&config.gather(maps)?, sizes.as_deref())?.tokens;
            let [n, count, width] = tokens.dims();
            let values = transfer::to_host::<f32, _, _>(tokens)?;
            out.extend(values.chunks_exact((count * width).max(1)).take(n).map(<[f32]>::to_vec));
        }
        Ok(Self { images: out, width })
    }

    /// The A score: mean over images of the mean over tokens of the highest cosine with a token of the reference.
    fn score(&self, reference: &Self) -> Option<f64> {
        let pairs = self.images.iter().zip(&reference.images);
        let scores = pairs.map(|(a, b)| a_score(a, b, self.width)).collect::<Option<Vec<_>>>()?;
        let same = self.width == reference.width && self.images.len() == reference.images.len();
        (same && !scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// Computes the A score of an arm: the mean over the references, named with their values. There is at least one.
pub fn mean_a_score(tokens: &ProjectedTokens, references: &[(String, ProjectedTokens)]) -> ArmValue {
    let scores: Option<Vec<f64>> = references.iter().map(|(_, reference)| tokens.score(reference)).collect();
    match scores {
        Some(scores) => {
            let named: Vec<String> =
                references.iter().zip(&scores).map(|((name, _), score)| format!("with {name} {score:.4}")).collect();
            ArmValue::known(scores.iter().sum::<f64>() / scores.len() as f64, named.join(", "))
        }
        None if tokens.images.is_empty() => ArmValue::missing("the study has no benchmark images"),
        None => {
            let widths = references.iter().map(|(name, reference)| format!("those of {name} {}", reference.width));
            let widths = widths.collect::<Vec<_>>().join(", ");
            ArmValue::missing(format!("image tokens have {} channels, {widths}", tokens.width))
        }
    }
}

/// Losses of the align stage of an arm, step by step, for each seed.
pub struct AlignLosses(Vec<(u64, Vec<f64>)>);

impl AlignLosses {
    /// Reads the losses from the training logs of an arm's runs. Runs without a log are left out.
    pub fn read(dir: &Path, arm: &Arm, seeds: &[u64]) -> Self {
        let of = |seed: &u64| {
            let steps = RunStore::at(&run_dir(dir, &arm.name(), *seed)).train_steps().ok()?;
            let losses: Vec<f64> = steps.iter().filter(|s| s.stage == "align").map(|s| s.loss).collect();
            (!losses.is_empty()).then_some((*seed, losses))
        };
        Self(seeds.iter().filter_map(of).collect())
    }

    /// Trains the connector of an arm, with the recipe of the study, for `steps` steps of the align stage, for every seed
    /// whose log has fewer steps.
    ///
    /// # Errors
    /// The training fails, or a signal asked to stop.
    pub fn complete(
        &mut self,
        evaluator: &Evaluator,
        arm: &Arm,
        encoders: &[EncoderFeatures],
        seeds: &[u64],
        steps: usize,
        bar: &Bar,
    ) -> Result<()> {
        for &seed in seeds {
            if self.0.iter().any(|(known, losses)| *known == seed && losses.len() >= steps) {
                continue;
            }
            let config = serde_json::Value::Null;
            let device = &evaluator.devices.get(0);
            let job = TrainJob { evaluator, device, arm, seed, config: &config, save_interval: Duration::MAX };
            let losses = align_losses(&AlignRun { job, steps }, encoders, bar)?;
            self.0.retain(|(known, _)| *known != seed);
            self.0.push((seed, losses));
        }
        Ok(())
    }

    /// The loss after `steps` steps: the mean over the last tenth of them, then over the seeds whose logs have as many.
    pub fn at(&self, steps: usize) -> ArmValue {
        let window = (steps / 10).max(1);
        let of = |losses: &Vec<f64>| {
            let last = losses.get(steps.checked_sub(window)?..steps)?;
            Some(last.iter().sum::<f64>() / window as f64)
        };
        let found: Vec<f64> = self.0.iter().filter_map(|(_, losses)| of(losses)).collect();
        match found.len() {
            0 => {
                let most = self.0.iter().map(|(_, losses)| losses.len()).max().unwrap_or(0);
                ArmValue::missing(format!(
                    "no run of the arm has logged {steps} steps of the align stage, the longest log has {most}: \
                     --train-align trains them"
                ))
            }
            n => {
                let seeds = if n == 1 { "1 seed".to_string() } else { format!("{n} seeds") };
                ArmValue::known(found.iter().sum::<f64>() / n as f64, seeds)
            }
        }
    }
}
