//! Directories of `tests/reference/vision_transformers.py`: pixels, features and gradients against the libraries that
//! write them, without a card.

#[path = "../../tests/compare_tensors.rs"]
mod compare_tensors;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::Result;
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{Checkpoint, Precision};
use burgess_encoders::encoder::Encoder;
use burgess_encoders::preprocess::decode;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use compare_tensors::{Gradients, difference};
use devices::{device, limit};
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// The directories, by name; those that `BURGESS_ONLY` names if it is set.
fn directories() -> Vec<(String, PathBuf)> {
    let only = std::env::var("BURGESS_ONLY").ok();
    let items = std::fs::read_dir(golden().join("vision-transformers")).unwrap().map(|item| item.unwrap().path());
    let named = items.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == name));
    let mut found: Vec<_> = named.filter(|(name, path)| path.is_dir() && wanted(name)).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn load(directory: &Path, device: &Device) -> Result<Encoder> {
    Encoder::load(EncoderCard::open(&directory.display().to_string())?, None, device)
}

#[test]
fn pixels_and_features_equal_the_reference() -> Result<()> {
    let image = decode(&golden().join("encoders/picture.png"))?;
    let mut wrong = Vec::new();
    for (name, directory) in directories() {
        let read = || -> Result<(f64, f64)> {
            let expected = Checkpoint::open(&directory.join("expected.safetensors"))?;
            let encoder = load(&directory, &device())?;
            assert!(encoder.card.notes.is_empty(), "{name}: {:?}", encoder.card.notes);
            let pixels = encoder.card.preprocess.apply(&image);
            let found = encoder.encode(std::slice::from_ref(&image), 1)?;
            assert_eq!(expected.shape("features"), Some(&[found.tokens, found.width][..]), "{name}");
            Ok((difference(&pixels, &expected.read("pixels")?), difference(&found.values, &expected.read("features")?)))
        };
        match read() {
            Ok((pixels, features)) => {
                println!("{name:26} pixels {pixels:.1e} features {features:.1e}");
                if pixels > 1e-6 || features > limit(1e-4, 1e-3) {
                    wrong.push(format!("{name}: pixels {pixels:.1e} features {features:.1e}"));
                }
            }
            Err(e) => wrong.push(format!("{name}: {e} ({})", e.hint_text().unwrap_or_default())),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The name in a file that Burgess saves of a tensor of the golden file: a tower that was saved alone gets the prefix
/// of the whole model, and AltCLIP, which transformers 5.24 saves under other names, those of its published file.
fn saved_name<'a>(name: &str, key: &str, found: &'a Checkpoint) -> &'a str {
    let key = if name == "altclip" { key.replace("encoder.layer.", "encoder.layers.") } else { key.to_string() };
    let whole = format!(".{key}");
    let saved = found.keys().find(|saved| *saved == key || saved.ends_with(&whole));
    saved.unwrap_or_else(|| panic!("{name}: no tensor `{key}` is saved"))
}

#[test]
fn gradients_equal_the_reference() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (name, directory) in directories() {
        let device = device().autodiff();
        let expected = Checkpoint::open(&directory.join("expected.safetensors"))?;
        let mut encoder = load(&directory, &device)?;
        let tensor = |key: &str, shape: [usize; 3]| -> Result<Tensor<3>> {
            Ok(Tensor::from_data(TensorData::new(expected.read(key)?, shape), &device))
        };
        let size = encoder.card.preprocess.size;
        let pixels = tensor("pixels", [3, size, size])?.unsqueeze();
        let features = encoder.arch.forward(pixels, &encoder.card.tap)?.tokens;
        let projection = tensor("projection", features.dims())?;
        let gradients = (features * projection).sum().backward();

        encoder.arch = encoder.arch.map(&mut Gradients(gradients));
        let path = dir.path().join(&name);
        encoder.save(Precision::F32, &path)?;
        let found = Checkpoint::open(&path)?;
        let keys: Vec<&str> = expected.keys().filter_map(|k| k.strip_prefix("gradient.")).collect();
        assert!(keys.len() >= 3, "{name}");
        for key in keys {
            let error =
                difference(&found.read(saved_name(&name, key, &found))?, &expected.read(&format!("gradient.{key}"))?);
            println!("{name:24} gradient {error:.1e} {key}");
            if error > 1e-3 {
                wrong.push(format!("{name}: gradient of {key} differs by {error:e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
