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
        // transformers resamples positions without the offset of DINOv2's authors, which the golden card has; timm smooths
        // them, which no picture of the golden card's size asks for.
        let found = vit(found);
        let position_antialias = found.position_antialias;
        assert_eq!(position_antialias, name == "mae");
        let expected = VitConfig { position_offset: 0.0, position_antialias, ..vit(expected) };
        assert_eq!(found, expected, "{name}");
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
            Ok((difference(&pixels, &expected.read("pixels")?), difference(&found.values, &expected.read("features")?)))
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
    assert!(say(r#"{"architecture": "swin_tiny"}"#, "mae").to_string().contains("`swin_tiny` is not known"));
    assert!(say("{}", "mae").to_string().contains("neither"));
    assert!(say(r#"{"model_type": "clip"}"#, "mae").to_string().contains("no `vision_model.embeddings"));
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("config.json") && error.hint_text().is_some(), "{error}");
    // Numbers that do not describe the weights are found when they are loaded.
    let error = say(r#"{"model_type": "dinov2", "num_attention_heads": 5}"#, "dinov2");
    assert!(error.to_string().contains("heads 5"), "{error}");
}

/// A copy of a golden directory with one of its files changed.
fn changed(name: &str, file: &str, change: impl Fn(String) -> Option<String>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden("../directories").join(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "expected.safetensors" {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = dir.path().join(file);
    match change(std::fs::read_to_string(&path).unwrap()) {
        Some(text) => std::fs::write(path, text).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
    dir
}

#[test]
fn nothing_about_pictures_is_assumed_silently() -> Result<()> {
    const FILE: &str = "preprocessor_config.json";
    let dir = changed("transformers-vit", FILE, |_| None);
    let card = open(dir.path())?;
    assert!(
        card.notes[0].contains("no preprocessor_config.json") && card.notes[0].contains("bilinear"),
        "{:?}",
        card.notes
    );
    assert_eq!(card.preprocess, open(&golden("../directories/transformers-vit"))?.preprocess);
    // The note is part of the card's text.
    assert_eq!(EncoderCard::parse(&toml::to_string(&card).unwrap(), "again")?.notes, card.notes);

    let say = |from: &str, to: &str| {
        let dir = changed("transformers-vit", FILE, |text| {
            assert!(text.contains(from), "{text}");
            Some(text.replacen(from, to, 1))
        });
        open(dir.path()).unwrap_err().to_string()
    };
    assert!(say("{", "").contains(FILE));
    assert!(say("\"resample\": 2", "\"resample\": 1").contains("resample = 1 is not known"));
    assert!(say("\"resample\": 2,", "").contains("no `resample`"));
    assert!(say("\"do_normalize\": true", "\"do_normalize\": false").contains("do_normalize = false"));
    assert!(say("0.00392156862745098", "1.0").contains("rescale_factor = 1.0"));
    assert!(say("\"height\": 32", "\"height\": 40").contains("size = "));
    assert!(say("image_mean", "image_means").contains("image_mean"));

    let dir = changed("timm-eva", "config.json", |text| Some(text.replacen("\"crop_mode\"", "\"no_mode\"", 1)));
    assert!(open(dir.path())?.notes.is_empty(), "timm's own default of a mode that makes no difference on a square");
    let say = |from: &str, to: &str| {
        let dir = changed("timm-eva", "config.json", |text| {
            assert!(text.contains(from), "{text}");
            Some(text.replacen(from, to, 1))
        });
        open(dir.path())
    };
    let refused = |from: &str, to: &str| say(from, to).unwrap_err().to_string();
    assert!(refused("\"center\"", "\"random\"").contains("crop_mode = \"random\""));
    assert!(refused("\"bicubic\"", "\"lanczos\"").contains("interpolation = \"lanczos\""));
    assert!(refused("\"crop_pct\": 1.0", "\"crop_pct\": \"all\"").contains("crop_pct = \"all\""));
    assert!(refused("\"depth\": 2", "\"depths\": 2").contains("depths = 2"));
    assert!(say("\"mean\"", "\"mien\"")?.notes[0].contains("no mean"));
    assert!(say("\"crop_pct\"", "\"crop\"")?.notes[0].contains("no crop_pct"));
    Ok(())
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let refused = |name: &str, file: &str, from: &str, to: &str| {
        let dir = changed(name, file, |text| {
            assert!(text.contains(from), "{text}");
            Some(text.replacen(from, to, 1))
        });
        let loaded = open(dir.path()).and_then(|card| Encoder::load(card, None, &Device::flex()));
        let error = loaded.unwrap_err();
        assert!(error.hint_text().is_some(), "{error}");
        error.to_string()
    };
    let vit = |from: &str, to: &str| refused("transformers-vit", "config.json", from, to);
    assert!(vit("\"hidden_size\": 16", "\"hidden_size\": 24").contains("hidden_size = 24, but the weights have 16"));
    assert!(vit("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3").contains("num_hidden_layers = 3"));
    assert!(vit("\"num_channels\": 3", "\"num_channels\": 1").contains("num_channels = 1"));
    let shared = ("\"use_shared_relative_position_bias\": false", "\"use_shared_relative_position_bias\": true");
    assert!(
        refused("transformers-beit", "config.json", shared.0, shared.1)
            .contains(shared.0.split(':').next().unwrap().trim_matches('"'))
    );

    let clip = |from: &str, to: &str| refused("openclip-pooled", "open_clip_config.json", from, to);
    assert!(clip("\"width\": 16", "\"wide\": 16").contains("vision_cfg.wide = 16"));
    assert!(clip("\"width\": 16", "\"qk_norm\": true, \"width\": 16").contains("qk_norm = true"));
    assert!(clip("\"squash\"", "\"stretch\"").contains("resize_mode = \"stretch\""));
    assert!(clip("\"layers\": 2", "\"layers\": 3").contains("missing in the file"));
    assert!(clip("\"width\": 16", "\"timm_model_name\": \"vitamin_small_224\"").contains("`vitamin_small_224`"));
    assert!(refused("timm-eva02", "config.json", "\"depth\": 2", "\"depth\": 1").contains("used by nothing"));
    assert!(refused("timm-sam", "config.json", "\"window_size\": 3", "\"window_size\": 2").contains("rel_pos_h"));
}
