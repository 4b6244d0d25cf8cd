//! What encoders do in training only: stochastic depth, against the libraries it comes from (made by
//! `tests/reference/convnets.py`), and gradients for everything that is trained.

#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::Result;
use burgess_base::stream::stream;
use burgess_encoders::arch::{ArchitectureConfig, DropPathMask, DropPathSpec};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{self, Checkpoint};
use burgess_encoders::encoder::Encoder;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use devices::limit;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/encoders").join(name)
}

/// The golden encoder, with this rate of stochastic depth.
fn encoder(name: &str, rate: f64, device: &Device) -> Result<Encoder> {
    let mut card = EncoderCard::from_file(&golden(name).join("card.toml"))?;
    match &mut card.architecture {
        ArchitectureConfig::Vit(config) => config.drop_path = rate,
        ArchitectureConfig::ConvNext(config) => config.drop_path = rate,
        ArchitectureConfig::ResNet(config) => config.drop_path = rate,
        _ => assert_eq!(rate, 0.0, "{name}"),
    }
    let file = golden(name).join("model.safetensors");
    Encoder::load(card, Some(if file.is_file() { &file } else { file.parent().unwrap() }), device)
}

/// The golden pixels `[1, 3, size, size]`.
fn pixels(encoder: &Encoder, name: &str, device: &Device) -> Result<Tensor<4>> {
    let size = encoder.card.preprocess.size;
    let values = Checkpoint::open(&golden(name).join("expected.safetensors"))?.read("pixels")?;
    Ok(Tensor::from_data(TensorData::new(values, [1, 3, size, size]), device))
}

fn values(features: Tensor<3>) -> Vec<f32> {
    features.into_data().try_into_vec_as::<f32>().unwrap()
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// ‖a − b‖ / ‖b‖.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(a.iter().zip(b).map(|(a, b)| a - b)) / norm(b.iter().copied())
}

/// The rate of the golden features.
const RATE: f64 = 0.4;

#[test]
fn stochastic_depth_leaves_out_what_the_reference_leaves_out() -> Result<()> {
    let expected = Checkpoint::open(&golden("drop-path.safetensors"))?;
    let names: Vec<&str> = expected.keys().filter_map(|key| key.strip_suffix(".kept")).collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        for device in [devices::device(), devices::device().autodiff()] {
            let encoder = encoder(name, RATE, &device)?;
            let one = pixels(&encoder, name, &device)?;
            let three = Tensor::cat(vec![one.clone(), one.clone().flip([3]), one.neg()], 0);
            let shape = expected.shape(&format!("{name}.kept")).unwrap();
            let kept = expected.read(&format!("{name}.kept"))?;
            let kept: Vec<Vec<bool>> =
                kept.chunks(shape[1]).map(|row| row.iter().map(|k| *k > 0.5).collect()).collect();
            let spec = encoder.arch.config().drop_path().unwrap();
            let spec = DropPathSpec { blocks: shape[0] / spec.branches, ..spec };
            let drop_path = DropPathMask::of(spec, &kept, &device);

            let found = encoder.arch.forward_with_drop_path(three.clone(), &encoder.card.tap, &drop_path)?.tokens;
            let error = difference(&values(found), &expected.read(&format!("{name}.features"))?);
            println!("{name:24} with stochastic depth {error:.1e}");
            assert!(error < limit(1e-4, 1e-3), "{name}: features differ by {error:e}");

            // Nothing is left out unless it is said, whatever the rate and the device.
            let plain = values(encoder.arch.forward(three.clone(), &encoder.card.tap)?.tokens);
            let mut still = self::encoder(name, 0.0, &device)?;
            assert_eq!(plain, values(still.arch.forward(three.clone(), &still.card.tap)?.tokens), "{name}");
            // And a rate of 0 leaves nothing out in training.
            still.card = encoder.card.clone();
            let none = still.arch.draw_drop_path(3, &mut stream("drop-path", 0), &device);
            let rateless = still.arch.forward_with_drop_path(three.clone(), &still.card.tap, &none)?.tokens;
            assert_eq!(plain, values(rateless), "{name}");
        }
    }
    Ok(())
}

#[test]
fn stochastic_depth_follows_its_seed() -> Result<()> {
    let device = devices::device().autodiff();
    for name in ["dinov2", "convnext", "resnet"] {
        let encoder = encoder(name, 0.9, &device)?;
        let pixels = pixels(&encoder, name, &device)?.repeat_dim(0, 8);
        let run = |seed: u64| -> Result<Vec<f32>> {
            let drop_path = encoder.arch.draw_drop_path(8, &mut stream("drop-path", seed), &device);
            Ok(values(encoder.arch.forward_with_drop_path(pixels.clone(), &encoder.card.tap, &drop_path)?.tokens))
        };
        let (one, again, other) = (run(0)?, run(0)?, run(1)?);
        assert_eq!(one, again, "{name}");
        assert_ne!(one, other, "{name}");
        // Equal images fare differently.
        assert!(one.chunks(one.len() / 8).any(|image| *image != one[..one.len() / 8]), "{name}");
    }
    Ok(())
}

/// Puts each parameter's gradient in its place, and NaN where there is none.
struct InPlace(Gradients);

impl ModuleMapper for InPlace {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = param.val();
        let gradient = value.grad(&self.0).unwrap_or_else(|| value.inner().mul_scalar(0.0).add_scalar(f32::NAN));
        Param::initialized(param.id, gradient)
    }
}

/// Parameters without a gradient at the card's tap, and why that is so in the reference too: the families (all if none
/// is named), a part of the path, the reason.
const UNTRAINED: &[(&[&str], &str, &str)] = &[
    (&[], "running_mean", "it is a statistic, not a parameter"),
    (&[], "running_var", "it is a statistic, not a parameter"),
    (&["stable-diffusion", "stable-diffusion-1"], ".text_encoder.", "the prompt is a constant"),
    (&["clip"], ".blocks.2.", "the tap is the block before the last"),
    (&["clip"], ".norm.", "the tap lies before the final norm"),
    (
        &["convnext", "convnext-stem2", "convnext-multi-stage", "convnext-rms", "convnext-simple", "convnextv2"],
        ".head.norm.",
        "the tap lies before the final norm",
    ),
];

#[test]
fn every_parameter_that_the_reference_trains_gets_a_gradient() -> Result<()> {
    let device = devices::device().autodiff();
    let mut wrong = Vec::new();
    let mut excused = std::collections::BTreeSet::new();
    let folders = std::fs::read_dir(golden("")).unwrap().map(|item| item.unwrap().file_name());
    let names = folders.map(|name| name.to_string_lossy().into_owned());
    for name in names.filter(|name| golden(name).join("card.toml").is_file()) {
        let mut encoder = encoder(&name, 0.0, &device)?;
        let pixels = pixels(&encoder, &name, &device)?;
        let features = encoder.arch.forward(pixels, &encoder.card.tap)?.tokens;
        let [_, tokens, width] = features.dims();
        // A projection of no symmetry, so that no gradient cancels.
        let weights = (0..tokens * width).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect::<Vec<_>>();
        let weights = Tensor::<3>::from_data(TensorData::new(weights, [1, tokens, width]), &device);
        encoder.arch = encoder.arch.map(&mut InPlace((features * weights).sum().backward()));
        checkpoint::visit_parameters(&encoder.arch, |parameter, gradient| {
            let trained = gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0);
            let excuse = UNTRAINED.iter().find(|(families, path, _)| {
                (families.is_empty() || families.contains(&name.as_str()))
                    && format!(".{}", parameter.path).contains(path)
            });
            match (trained, excuse) {
                (true, None) => {}
                (false, Some((families, path, _))) => drop(excused.insert((families, path))),
                (true, Some((_, _, why))) => {
                    wrong.push(format!("{name}: {} has a gradient, but {why}", parameter.path))
                }
                (false, None) => wrong.push(format!("{name}: {} has no gradient", parameter.path)),
            }
            Ok(())
        })?;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(excused.len(), UNTRAINED.len(), "an exception that is none: {excused:?}");
    Ok(())
}
