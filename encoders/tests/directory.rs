//! Directories without a card: what `config.json` and the shapes say must be what the golden card says.

use burgess_base::{Error, Result};
use burgess_encoders::arch::{ArchitectureConfig, VitConfig};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::Checkpoint;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::preprocess::decode;
use burn::tensor::Device;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/encoders").join(name)
}

fn open(directory: &std::path::Path) -> Result<EncoderCard> {
    EncoderCard::open(&directory.display().to_string())
}

fn vit(card: EncoderCard) -> VitConfig {
    match card.architecture {
        ArchitectureConfig::Vit(config) => config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn configurations_of_transformers_and_timm_amount_to_the_card() -> Result<()> {
    for name in ["clip", "siglip", "dinov2", "dinov2-giant", "ijepa", "mae"] {
        let expected = EncoderCard::from_file(&golden(name).join("card.toml"))?;
        let found = open(&golden(name))?;
        assert_eq!(found.source.dialect, expected.source.dialect, "{name}");
        assert_eq!(found.preprocess.mean, expected.preprocess.mean, "{name}");
        assert_eq!((found.preprocess.size, found.preprocess.crop_pct), (expected.preprocess.size, 1.0), "{name}");
        assert_eq!((&found.tap.layer, found.tap.norm), (&expected.tap.layer, expected.tap.norm), "{name}");
        Encoder::load(found.clone(), None, &Device::flex())?;
        // transformers resamples positions without the offset of DINOv2's authors, which the golden card has.
        let expected = VitConfig { position_offset: 0.0, ..vit(expected) };
        assert_eq!(vit(found), expected, "{name}");
    }
    Ok(())
}

/// Every directory of `tests/reference/directories.py`: the library's pixels and features from the picture.
#[test]
fn features_of_directories_equal_the_reference() -> Result<()> {
    let picture = decode(&golden("picture.png"))?;
    let (mut wrong, mut count) = (Vec::new(), 0);
    let mut directories: Vec<PathBuf> =
        std::fs::read_dir(golden("../directories")).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    for directory in directories {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let read = || -> Result<(f64, f64)> {
            let expected = Checkpoint::open(&directory.join("expected.safetensors"))?;
            let card = open(&directory)?;
            assert!(card.notes.is_empty(), "{name}: {:?}", card.notes);
            let encoder = Encoder::load(card, None, &Device::flex())?;
            let pixels = encoder.card.preprocess.apply(&picture);
            let found = encoder.encode(std::slice::from_ref(&picture), 1)?;
            assert_eq!(expected.shape("features"), Some(&[found.tokens, found.width][..]), "{name}");
            Ok((
                difference(&pixels, &expected.read("pixels")?),
                difference(&found.values, &expected.read("features")?),
            ))
        };
        count += 1;
        match read() {
            Ok((pixels, features)) => {
                println!("{name:26} pixels {pixels:.1e} features {features:.1e}");
                if pixels > 1e-6 || features > 1e-4 {
                    wrong.push(format!("{name}: pixels {pixels:.1e} features {features:.1e}"));
                }
            }
            Err(e) => wrong.push(format!("{name}: {e}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(count, 36);
    Ok(())
}

/// ‖a − b‖ / ‖b‖.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b))) / norm(&mut b.iter().map(|b| f64::from(*b)))
}

#[test]
fn what_is_not_known_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let say = |config: &str, weights: &str| -> Error {
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        std::fs::copy(golden(weights).join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(error.hint_text().is_some(), "{error}");
        error
    };
    assert!(say(r#"{"model_type": "llama"}"#, "clip").to_string().contains("`llama` model"));
    assert!(say(r#"{"architecture": "resnet50", "pretrained_cfg": {"input_size": [3, 48, 48], "mean": [0, 0, 0], "std": [1, 1, 1]}}"#, "mae").to_string().contains("`resnet50`"));
    assert!(say("{}", "mae").to_string().contains("neither"));
    assert!(say(r#"{"model_type": "clip"}"#, "mae").to_string().contains("no `vision_model.embeddings"));
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("config.json") && error.hint_text().is_some(), "{error}");
    // Numbers that do not describe the weights are found when they are loaded.
    let error = say(r#"{"model_type": "dinov2", "num_attention_heads": 5}"#, "dinov2");
    assert!(error.to_string().contains("heads 5"), "{error}");
}
