//! Encoders against the libraries their weights come from (made by `tests/reference/encoders.py`):
//! the same file, the same image, the same features.

#[path = "../../tests/compare_tensors.rs"]
mod compare_tensors;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::Result;
use burgess_encoders::arch::{Architecture, Tap, Tokens};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{self, Checkpoint, Dialect, Parameter, Precision};
use burgess_encoders::encoder::Encoder;
use burgess_encoders::preprocess::decode;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use compare_tensors::{Gradients, difference};
use devices::{device, limit};
use std::path::PathBuf;

/// Every folder with a card and what is expected of it.
fn families() -> Vec<String> {
    let folders = std::fs::read_dir(golden("")).unwrap().map(|item| item.unwrap());
    let has = |name: &String, file: &str| golden(name).join(file).is_file();
    let names = folders.map(|folder| folder.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|n| has(n, "card.toml") && has(n, "expected.safetensors")).collect();
    names.sort();
    assert!(names.len() >= 16, "{names:?}");
    names
}

/// The files that hold nothing but what the encoder needs.
const BARE: [&str; 3] = ["mae", "ijepa", "beit"];

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/encoders").join(name)
}

fn card(name: &str) -> Result<EncoderCard> {
    EncoderCard::from_file(&golden(name).join("card.toml"))
}

/// The file of weights, or the directory of diffusers.
fn weights(name: &str) -> PathBuf {
    let file = golden(name).join("model.safetensors");
    if file.is_file() { file } else { golden(name) }
}

fn features(arch: &Architecture, pixels: Tensor<4>, tap: &Tap) -> Result<Vec<f32>> {
    Ok(arch.forward(pixels, tap)?.tokens.into_data().try_into_vec_as::<f32>().unwrap())
}

#[test]
fn features_equal_the_reference() -> Result<()> {
    let device = device();
    for name in families().iter().map(String::as_str) {
        let expected = Checkpoint::open(&golden(name).join("expected.safetensors"))?;
        let (encoder, report) = Encoder::load_reporting(card(name)?, Some(&weights(name)), &device)?;
        assert_eq!(report.ignored.is_empty(), BARE.contains(&name), "{name}: {:?}", report.ignored);

        // From the file to the features, through everything.
        let image = decode(&golden("picture.png"))?;
        let whole = encoder.encode(&[image.clone(), image], 1)?;
        let reference = expected.read("features")?;
        assert_eq!(expected.shape("features"), Some(&[whole.tokens, whole.width][..]), "{name}");
        assert_eq!(whole.grid, encoder.card.used_grid()?);
        for each in whole.values.chunks_exact(reference.len()) {
            let error = difference(each, &reference);
            println!("{name:24} features {error:.1e}");
            assert!(error < limit(1e-4, 1e-3), "{name}: features differ by {error:e}");
        }

        // At other taps, from the reference's own pixels.
        let size = encoder.card.preprocess.size;
        let data = TensorData::new(expected.read("pixels")?, [1, 3, size, size]);
        let pixels = Tensor::<4>::from_data(data, &device);
        let first = Tap { layer: 0, ..Tap::default() };
        let last = Tap { layer: -1, ..first.clone() };
        let class = Tap { tokens: Tokens::PatchAndClass, ..encoder.card.tap.clone() };
        for (key, tap) in [("first", first), ("last", last), ("cls", class)] {
            let key = format!("features.{key}");
            if expected.shape(&key).is_some() {
                let error = difference(&features(&encoder.arch, pixels.clone(), &tap)?, &expected.read(&key)?);
                println!("{name:24} {key} {error:.1e}");
                assert!(error < limit(1e-4, 1e-3), "{name}: {key} differ by {error:e}");
            }
        }
    }
    Ok(())
}

/// The gradients of a random projection of the features, as PyTorch has them, under the upstream names.
#[test]
fn gradients_equal_the_reference() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    for name in families().iter().map(String::as_str) {
        let device = device().autodiff();
        let expected = Checkpoint::open(&golden(name).join("expected.safetensors"))?;
        let mut encoder = Encoder::load(card(name)?, Some(&weights(name)), &device)?;
        let tensor = |key: &str, shape: [usize; 3]| -> Result<Tensor<3>> {
            Ok(Tensor::from_data(TensorData::new(expected.read(key)?, shape), &device))
        };
        let size = encoder.card.preprocess.size;
        let pixels = tensor("pixels", [3, size, size])?.unsqueeze();
        let features = encoder.arch.forward(pixels, &encoder.card.tap)?.tokens;
        let projection = tensor("projection", features.dims())?;
        let gradients = (features * projection).sum().backward();

        encoder.arch = encoder.arch.map(&mut Gradients(gradients));
        let path = dir.path().join(name);
        encoder.save(Precision::F32, &path)?;
        let found = Checkpoint::open(&path)?;
        let keys: Vec<&str> = expected.keys().filter_map(|k| k.strip_prefix("gradient.")).collect();
        assert!(keys.len() >= 3, "{name}");
        for key in keys {
            let error = difference(&found.read(key)?, &expected.read(&format!("gradient.{key}"))?);
            println!("{name:24} gradient {error:.1e} {key}");
            assert!(error < 1e-3, "{name}: gradient of {key} differs by {error:e}");
        }
    }
    Ok(())
}

/// Saving writes the names and shapes that were read; loading that again gives the same features.
#[test]
fn saving_and_loading_changes_nothing() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    // Where a library has changed its names, today's are written.
    for name in families().iter().map(String::as_str).filter(|name| *name != "stable-diffusion-1") {
        let device = device();
        let prefix = card(name)?.source.prefix.unwrap_or_default();
        let open = |path: &std::path::Path| {
            let file = Checkpoint::open(path)?;
            if prefix.is_empty() { Ok(file) } else { file.inside(&prefix) }
        };
        let original = open(&weights(name))?;
        let (encoder, report) = Encoder::load_reporting(card(name)?, Some(&weights(name)), &device)?;
        for precision in [Precision::F32, Precision::F16] {
            let path = dir.path().join(format!("{name}-{precision:?}.safetensors"));
            encoder.save(precision, &path)?;
            let saved = open(&path)?;
            let kept: Vec<&str> = original.keys().filter(|k| !report.ignored.iter().any(|i| i == k)).collect();
            assert_eq!(saved.keys().collect::<Vec<_>>(), kept, "{name}");
            for key in kept {
                assert_eq!(saved.shape(key), original.shape(key), "{name}: {key}");
                // The golden weights are f16 numbers, so neither precision loses anything.
                assert_eq!(saved.read(key)?, original.read(key)?, "{name}: {key}");
            }
            let bytes = std::fs::read(&path).unwrap();
            encoder.save(precision, &path)?;
            assert_eq!(bytes, std::fs::read(&path).unwrap(), "{name}: the same weights give the same bytes");
        }
    }
    Ok(())
}

/// Every parameter with its values.
fn contents(arch: &Architecture) -> Result<Vec<(Parameter, Vec<f32>)>> {
    let mut all = Vec::new();
    checkpoint::visit_parameters(arch, |parameter, values| {
        all.push((parameter, values));
        Ok(())
    })?;
    Ok(all)
}

/// Any encoder's weights can be written in our own names and read back.
#[test]
fn our_own_dialect_holds_every_module() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    for name in families().iter().map(String::as_str) {
        let card = card(name)?;
        let encoder = Encoder::load(card.clone(), Some(&weights(name)), &device())?;
        let path = dir.path().join(name);
        checkpoint::save(&encoder.arch, &checkpoint::IDENTITY, "", Precision::F32, &path)?;
        let empty = card.architecture.init(&device())?;
        let (again, report) = checkpoint::load(empty, &Checkpoint::open(&path)?, Dialect::find("burgess")?)?;
        assert!(report.ignored.is_empty());
        let (before, after) = (contents(&encoder.arch)?, contents(&again)?);
        assert_eq!(before, after, "{name}");
    }
    Ok(())
}

#[test]
fn a_prefix_on_the_card_finds_the_tower_in_a_larger_model() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let mut card = card("mae")?;
    let bytes = std::fs::read(weights("mae")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let renamed = tensors.tensors().into_iter().map(|(k, v)| (format!("image_encoder.{k}"), v));
    std::fs::write(dir.path().join("model.safetensors"), safetensors::serialize(renamed, None).unwrap()).unwrap();

    let found = Encoder::load(card.clone(), Some(dir.path()), &device())?;
    assert!(found.card.notes[0].contains("those under `image_encoder.`"), "{:?}", found.card.notes);
    card.source.prefix = Some("image_encoder.".into());
    let told = Encoder::load(card.clone(), Some(dir.path()), &device())?;
    assert!(told.card.notes.is_empty());
    // The card's own weights must be where it says.
    card.source.prefix = Some("nothing.".into());
    card.source.location = burgess_encoders::card::WeightsLocation::Directory(dir.path().into());
    let error = Encoder::load(card, None, &device()).unwrap_err();
    assert!(error.hint_text().is_some_and(|h| h.contains("`image_encoder.`")), "{error}");
    Ok(())
}
