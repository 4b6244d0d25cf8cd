//! Towers for images of any size against transformers (made by `tests/reference/native.py`): pixels of three aspect
//! ratios, features at several taps, and gradients; all from a directory with the configuration of a whole multimodal
//! model. And tiling against s2wrapper and LLaVA-NeXT (`tests/reference/tiling.py`).

#[path = "../../tests/compare_tensors.rs"]
mod compare_tensors;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::Result;
use burgess_encoders::arch::{Tap, Tokens};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{Checkpoint, Precision};
use burgess_encoders::encoder::Encoder;
use burgess_encoders::features::FeatureNorm;
use burgess_encoders::preprocess::{NativeResize, Pipeline, decode};
use burgess_encoders::tiling::Tiling;
use burgess_encoders::{Device, RgbImage, directory};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use compare_tensors::{Gradients, difference};
use devices::{device, limit};
use std::path::PathBuf;

const TOWERS: [&str; 5] = ["siglip2", "qwen2_5_vl", "qwen3_vl", "kimi_k25", "vjepa2"];

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// The crops of `tests/reference/native.py`.
fn images() -> Result<Vec<RgbImage>> {
    let whole = decode(&golden("encoders/picture.png"))?;
    let crops = [(60, 41), (24, 41), (60, 12)];
    Ok(crops.iter().map(|(w, h)| image::imageops::crop_imm(&whole, 0, 0, *w, *h).to_image()).collect())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap()
}

fn card(name: &str) -> Result<EncoderCard> {
    directory::card(&golden("native").join(name))?.with_pipeline(Pipeline::Library)
}

/// The taps whose outputs the golden file has, with their names there.
fn taps(name: &str, own: &Tap) -> Vec<(&'static str, Tap)> {
    let plain = Tap { norm: false, ..own.clone() };
    let mut taps = vec![("features", own.clone()), ("first", Tap { layer: 0, ..plain.clone() })];
    if name.starts_with("qwen") {
        taps.push(("merged", Tap { merge: true, ..plain.clone() }));
    }
    if name == "qwen3_vl" {
        taps.push(("deepstack", Tap { merge: true, layers: vec![0, 1], ..plain }));
    }
    taps
}

#[test]
fn towers_equal_transformers_at_every_aspect_ratio() -> Result<()> {
    let images = images()?;
    for name in TOWERS {
        let expected = Checkpoint::open(&golden("native").join(name).join("expected.safetensors"))?;
        let encoder = Encoder::load(card(name)?, None, &device())?;
        for (i, image) in images.iter().enumerate() {
            let (pixels, [height, width]) = encoder.card.preprocess.apply_sized(image);
            let key = format!("pixels.{i}");
            assert_eq!(expected.shape(&key), Some(&[3, height, width][..]), "{name} {i}");
            let reference = expected.read(&key)?;
            // These processors are torchvision's only, which rounds bytes otherwise than Pillow in some pixels.
            let most = if ["kimi_k25", "vjepa2"].contains(&name) { 1e-3 } else { 1e-6 };
            let pixels = difference(&pixels, &reference);
            assert!(pixels < most, "{name}: pixels of image {i} differ by {pixels:e}");
            let data = TensorData::new(reference, [1, 3, height, width]);
            let pixels_tensor = Tensor::<4>::from_data(data, &device());
            for (tap, selected) in taps(name, &encoder.card.tap) {
                let map = encoder.arch.forward(pixels_tensor.clone(), &selected)?;
                let key = format!("{tap}.{i}");
                assert_eq!(expected.shape(&key), Some(&map.tokens.dims()[1..]), "{name} {key}");
                let error = difference(&values(map.tokens), &expected.read(&key)?);
                println!("{name:12} image {i} pixels {pixels:.1e} {tap} {error:.1e}");
                assert!(error < limit(1e-4, 1e-3), "{name}: {key} differ by {error:e}");
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_equal_transformers_over_three_aspect_ratios() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    for name in TOWERS {
        let device = device().autodiff();
        let expected = Checkpoint::open(&golden("native").join(name).join("expected.safetensors"))?;
        let mut encoder = Encoder::load(card(name)?, None, &device)?;
        // The script projects what the language model reads: merged tokens, in Qwen3-VL after the DeepStack ones.
        let own = encoder.card.tap.clone();
        let tap = match name {
            "qwen2_5_vl" => Tap { merge: true, ..own },
            "qwen3_vl" => Tap { merge: true, layers: vec![0, 1, 2], ..own },
            _ => own,
        };
        let mut loss = Tensor::<1>::zeros([1], &device);
        for i in 0..3 {
            let shape = expected.shape(&format!("pixels.{i}")).unwrap().to_vec();
            let data = TensorData::new(expected.read(&format!("pixels.{i}"))?, [1, 3, shape[1], shape[2]]);
            let features = encoder.arch.forward(Tensor::<4>::from_data(data, &device), &tap)?.tokens;
            let data = TensorData::new(expected.read(&format!("projection.{i}"))?, features.dims());
            loss = loss + (features * Tensor::<3>::from_data(data, &device)).sum();
        }
        encoder.arch = encoder.arch.map(&mut Gradients(loss.backward()));
        let path = dir.path().join(name);
        encoder.save(Precision::F32, &path)?;
        let found = Checkpoint::open(&path)?;
        let keys: Vec<&str> = expected.keys().filter_map(|key| key.strip_prefix("gradient.")).collect();
        assert!(keys.len() >= 3, "{name}");
        for key in keys {
            let error = difference(&found.read(key)?, &expected.read(&format!("gradient.{key}"))?);
            println!("{name:12} gradient {error:.1e} {key}");
            assert!(error < 1e-3, "{name}: gradient of {key} differs by {error:e}");
        }
    }
    Ok(())
}

#[test]
fn a_batch_of_several_sizes_gives_the_features_of_each_image() -> Result<()> {
    let images = images()?;
    let mixed: Vec<RgbImage> = [0, 1, 0, 2].into_iter().map(|i| images[i].clone()).collect();
    for name in TOWERS {
        let encoder = Encoder::load(card(name)?, None, &Device::flex())?;
        let together = encoder.encode(&mixed, 4)?;
        assert_eq!(together.grid, encoder.card.used_grid()?);
        for (i, image) in mixed.iter().enumerate() {
            let alone = encoder.encode(std::slice::from_ref(image), 1)?;
            assert_eq!(Some(alone.values.as_slice()), together.image(i), "{name} {i}");
        }
        if encoder.has_own_grids() {
            let own = encoder.encode_own_grids(encoder.prepare(&mixed), &|i| i.to_string())?;
            assert_eq!((own.len(), own[0].values == own[2].values), (4, true));
            let [rows, columns] = own[3].grids[0];
            assert!(columns > rows && own[3].values.len() == rows * columns * together.width, "{name}");
        }
    }
    Ok(())
}

#[test]
fn saving_keeps_the_published_names_and_bits() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    for name in TOWERS {
        let original = Checkpoint::open(&golden("native").join(name).join("model.safetensors"))?;
        let (encoder, report) = Encoder::load_reporting(card(name)?, None, &Device::flex())?;
        let path = dir.path().join(name);
        encoder.save(Precision::F16, &path)?;
        let saved = Checkpoint::open(&path)?;
        assert!(saved.keys().count() >= 20, "{name}");
        for key in saved.keys() {
            assert_eq!(
                (saved.shape(key), saved.read(key)?),
                (original.shape(key), original.read(key)?),
                "{name} {key}"
            );
            assert!(!report.ignored.iter().any(|ignored| ignored == key));
        }
    }
    Ok(())
}

#[test]
fn cards_of_towers_are_checked() -> Result<()> {
    let say = |card: EncoderCard| card.validate().unwrap_err().to_string();
    let mut qwen = card("qwen2_5_vl")?;
    qwen.validate()?;
    assert!(matches!(qwen.preprocess.native, Some(NativeResize::Range { patch: 4, merge: 2, .. })));
    qwen.tap = Tap { merge: true, layer: 0, ..qwen.tap };
    assert!(say(qwen.clone()).contains("block 0 has no merger"));
    qwen.tap = Tap { merge: true, layer: -1, norm: true, ..qwen.tap };
    assert!(say(qwen).contains("no final norm"));
    let mut naflex = card("siglip2")?;
    naflex.tap = Tap { merge: true, norm: false, ..naflex.tap };
    assert!(say(naflex.clone()).contains("no merger"));
    naflex.tap = Tap::default();
    naflex.tiling = Some(Tiling::S2 { scales: 2 });
    assert!(say(naflex).contains("cannot be tiled"));
    let mut mae = EncoderCard::from_file(&golden("encoders/mae/card.toml"))?;
    mae.preprocess.native = Some(NativeResize::Fill { patch: 8, max_patches: 9 });
    assert!(say(mae).contains("do not divide into units of 16"));
    Ok(())
}

fn mae(change: impl Fn(&mut EncoderCard)) -> Result<Encoder> {
    let mut card = EncoderCard::from_file(&golden("encoders/mae/card.toml"))?;
    change(&mut card);
    card.validate()?;
    Encoder::load(card, Some(&golden("encoders/mae/model.safetensors")), &device())
}

/// Plain ViTs, whose position embeddings are resampled, for pixels of 2 × 5 patches.
#[test]
fn plain_vits_equal_transformers_on_rectangles() -> Result<()> {
    let expected = Checkpoint::open(&golden("native/rectangles.safetensors"))?;
    for (name, patch) in [("dinov2", 14), ("siglip", 8)] {
        let folder = golden("encoders").join(name);
        let card = EncoderCard::from_file(&folder.join("card.toml"))?;
        let encoder = Encoder::load(card, Some(&folder.join("model.safetensors")), &device())?;
        let values: Vec<f32> = (0..3 * 10 * patch * patch).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
        let pixels = Tensor::<4>::from_data(TensorData::new(values, [1, 3, 2 * patch, 5 * patch]), &device());
        let map = encoder.arch.forward(pixels, &encoder.card.tap)?;
        assert_eq!((map.grid, encoder.card.architecture.takes_any_grid()), ([2, 5], Some(patch)));
        let error = difference(&self::values(map.tokens), &expected.read(name)?);
        println!("{name} {error:.1e}");
        assert!(error < limit(1e-4, 1e-3), "{name} differs by {error:e}");
    }
    Ok(())
}

#[test]
fn multi_scale_features_equal_s2wrapper() -> Result<()> {
    let expected = Checkpoint::open(&golden("tiling/expected.safetensors"))?;
    let numbers = |side: usize| {
        let values: Vec<f32> = (0..3 * side * side).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
        Tensor::<4>::from_data(TensorData::new(values, [1, 3, side, side]), &device())
    };
    for (key, scales, tokens) in [("s2.features", 3, Tokens::Patch), ("s2.class", 2, Tokens::PatchAndClass)] {
        let encoder = mae(|card| {
            card.tiling = Some(Tiling::S2 { scales });
            card.tap.tokens = tokens;
        })?;
        let map = encoder.forward(numbers(48 * scales))?;
        assert_eq!(expected.shape(key), Some(&map.tokens.dims()[1..]));
        assert_eq!((map.tokens.dims()[2], map.grid), (encoder.card.width()?, encoder.card.used_grid()?));
        let error = difference(&values(map.tokens), &expected.read(key)?);
        println!("{key} {error:.1e}");
        assert!(error < limit(1e-5, 1e-3), "{key} differ by {error:e}");
    }
    Ok(())
}

#[test]
fn any_res_tiles_and_tokens_equal_llava_next() -> Result<()> {
    let expected = Checkpoint::open(&golden("tiling/expected.safetensors"))?;
    let encoder = mae(|card| card.tiling = Some(Tiling::any_res()))?;
    let images = images()?;
    for (i, image) in images.iter().enumerate() {
        let prepared = encoder.prepare(std::slice::from_ref(image));
        let pixels: Vec<f32> = values(prepared.groups[0].pixels.clone()).into_iter().step_by(37).collect();
        let pixels = difference(&pixels, &expected.read(&format!("anyres.pixels.{i}"))?);
        let own = encoder.encode_own_grids(prepared, &|i| i.to_string())?;
        let features = difference(&own[0].values, &expected.read(&format!("anyres.features.{i}"))?);
        println!("image {i} {:?} pixels {pixels:.1e} features {features:.1e}", own[0].grids);
        assert!(pixels < 1e-6 && features < limit(1e-5, 1e-3), "image {i}: {pixels:e} {features:e}");
    }
    // On a common grid, the whole image and its tiles follow each other.
    let features = encoder.encode(&images, 3)?;
    assert_eq!((features.grid, features.tokens, features.images), ([6, 3], 18, 3));
    Ok(())
}

#[test]
fn normalised_features_have_mean_0_and_variance_1() -> Result<()> {
    let images = images()?;
    let moments = |values: &[f32]| {
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        (mean.abs(), values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n)
    };
    let check = |values: &[f32]| {
        let (mean, variance) = moments(values);
        assert!(mean < 1e-5 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
    };
    let layer = mae(|card| card.normalise = Some(FeatureNorm::Layer))?.encode(&images, 2)?;
    layer.values.chunks_exact(layer.width).for_each(check);
    let standard = mae(|card| card.normalise = Some(FeatureNorm::Standard))?.encode(&images, 2)?;
    (0..3).for_each(|i| check(standard.image(i).unwrap()));
    Ok(())
}
