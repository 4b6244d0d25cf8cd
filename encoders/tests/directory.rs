//! Directories without a card: what `config.json` and the shapes say must be what the golden card says.

#[path = "../../tests/compare_tensors.rs"]
mod compare_tensors;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::{Error, Result};
use burgess_encoders::arch::{ArchitectureConfig, VitConfig};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::Checkpoint;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::preprocess::decode;
use burn::tensor::Device;
use compare_tensors::difference;
use devices::{device, limit};
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
        // transformers resamples positions without the offset of DINOv2's authors, which the golden card has; timm
        // smooths them, which no image of the golden card's size asks for.
        let found = vit(found);
        let position_antialias = found.position_antialias;
        assert_eq!(position_antialias, name == "mae");
        let expected = VitConfig { position_offset: 0.0, position_antialias, ..vit(expected) };
        assert_eq!(found, expected, "{name}");
    }
    Ok(())
}

/// Every directory of `tests/reference/directories.py`: the library's pixels and features from the image.
#[test]
fn features_of_directories_equal_the_reference() -> Result<()> {
    let image = decode(&golden("picture.png"))?;
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
            let encoder = Encoder::load(card, None, &device())?;
            let pixels = encoder.card.preprocess.apply(&image);
            let found = encoder.encode(std::slice::from_ref(&image), 1)?;
            assert_eq!(expected.shape("features"), Some(&[found.tokens, found.width][..]), "{name}");
            Ok((difference(&pixels, &expected.read("pixels")?), difference(&found.values, &expected.read("features")?)))
        };
        count += 1;
        match read() {
            Ok((pixels, features)) => {
                println!("{name:26} pixels {pixels:.1e} features {features:.1e}");
                if pixels > 1e-6 || features > limit(1e-4, 1e-3) {
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
    assert!(say(r#"{"architecture": "swin_tiny"}"#, "mae").to_string().contains("no architecture `swin_tiny`"));
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
fn nothing_about_images_is_assumed_silently() -> Result<()> {
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
    assert!(say("\"resample\": 2", "\"resample\": 0").contains("resample = 0 is not supported"));
    assert!(say("\"do_normalize\": true", "\"do_normalize\": \"yes\"").contains("do_normalize = \"yes\""));
    assert!(say("\"do_resize\": true", "\"do_resize\": false").contains("do_resize = false"));
    assert!(say("0.00392156862745098", "-1.0").contains("rescale_factor = -1.0"));
    assert!(say("\"height\": 32", "\"height\": 40").contains("size = "));
    assert!(say("image_mean", "image_means").contains("image_means = ["));
    assert!(say("\"resample\"", "\"crop_pct\": 0.9, \"resample\"").contains("crop_pct = 0.9"));
    assert!(say("\"resample\"", "\"do_flip_channel_order\": true, \"resample\"").contains("do_flip_channel_order"));
    assert!(say("\"resample\"", "\"do_pad\": true, \"size_divisor\": 24, \"resample\"").contains("are padded"));
    assert!(say("ViTImageProcessor", "ViTMatteImageProcessor").contains("ViTMatteImageProcessor\" is not supported"));
    // What is left out has the default of the class, and a note says which.
    let left_out = |key: &str| {
        let dir = changed("transformers-vit", FILE, |text| {
            let mut settings: serde_json::Value = serde_json::from_str(&text).unwrap();
            settings.as_object_mut().unwrap().remove(key).unwrap();
            Some(settings.to_string())
        });
        open(dir.path())
    };
    for (key, said) in [
        ("resample", "resample = 2"),
        ("image_mean", "image_mean = [0.5, 0.5, 0.5]"),
        ("image_std", "image_std = [0.5, 0.5, 0.5]"),
        ("do_rescale", "do_rescale = true"),
        ("rescale_factor", "rescale_factor = 1/255"),
        ("do_normalize", "do_normalize = true"),
        ("do_resize", "do_resize = true"),
        ("size", "size = 224"),
    ] {
        let notes = left_out(key)?.notes;
        assert!(
            notes.len() == 1 && notes[0].contains(&format!("has no {said}")) && notes[0].contains("ViTImageProcessor"),
            "{key}: {notes:?}"
        );
    }
    assert!(left_out("image_processor_type")?.notes.is_empty(), "nothing was taken from the class");

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

/// `processor_config.json` holds the settings of models of images and text, and transformers 5 takes them first.
#[test]
fn settings_within_a_whole_processor_are_read() -> Result<()> {
    const OWN: &str = "preprocessor_config.json";
    let dir = changed("transformers-vit", OWN, Some);
    let path = |name: &str| dir.path().join(name);
    let settings: serde_json::Value = serde_json::from_slice(&std::fs::read(path(OWN))?).unwrap();
    let plain = open(dir.path())?.preprocess;
    let mut other = settings.clone();
    other["image_mean"] = serde_json::json!([0.25, 0.5, 0.75]);
    let whole = serde_json::json!({
        "image_processor": other,
        "video_processor": {"image_mean": [9, 9, 9], "resample": 7},
        "processor_class": "CLIPProcessor",
    });
    std::fs::write(path("processor_config.json"), whole.to_string())?;
    let both = open(dir.path())?;
    assert_eq!(both.preprocess.mean, [0.25, 0.5, 0.75]);
    assert!(both.notes[0].contains("differs from processor_config.json"), "{:?}", both.notes);
    std::fs::remove_file(path(OWN))?;
    let nested = open(dir.path())?;
    assert_eq!((nested.preprocess.mean, nested.notes.len()), ([0.25, 0.5, 0.75], 0));
    // One that says nothing about images leaves the other file its word.
    std::fs::write(path("processor_config.json"), r#"{"processor_class": "CLIPProcessor", "image_processor": null}"#)?;
    assert!(open(dir.path())?.notes[0].contains("there is no preprocessor_config.json"));
    std::fs::write(path(OWN), settings.to_string())?;
    let own = open(dir.path())?;
    assert_eq!((own.preprocess, own.notes.len()), (plain, 0));
    std::fs::write(path(OWN), "[1, 2]")?;
    assert!(open(dir.path()).unwrap_err().to_string().contains("preprocessor_config.json contains [1,2]"));
    Ok(())
}

/// Every case of `tests/reference/processors.py`: the pixels that the class makes in its version of transformers.
#[test]
fn pixels_equal_those_of_the_classes_of_transformers() -> Result<()> {
    let image = decode(&golden("picture.png"))?;
    // What lies beyond the borders is black, as in the script; halves are rounded down there.
    let offset = |side: u32| (i64::from(side) - 60).div_euclid(2);
    let mut square = image::RgbImage::new(60, 60);
    image::imageops::replace(&mut square, &image, -offset(image.width()), -offset(image.height()));
    let image = square;
    let (mut wrong, mut count, mut refused) = (Vec::new(), 0, 0);
    for file in ["v4.json", "v5.json"] {
        let cases: serde_json::Value =
            serde_json::from_slice(&std::fs::read(golden("../processors").join(file))?).unwrap();
        let version = cases["version"].as_str().unwrap();
        for case in cases["cases"].as_array().unwrap() {
            let dir = changed("transformers-vit", "preprocessor_config.json", |_| Some(case["settings"].to_string()));
            let config = dir.path().join("config.json");
            let mut text: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?).unwrap();
            text["transformers_version"] = version.into();
            std::fs::write(&config, text.to_string())?;
            count += 1;
            let card = match open(dir.path()) {
                Ok(card) => card,
                // The library pads such images with black up to the crop: refused here.
                Err(e) if e.to_string().contains("images of 40 pixels are cropped to 224") => {
                    refused += 1;
                    continue;
                }
                Err(e) => {
                    wrong.push(format!("{version} {}: {e}", case["settings"]));
                    continue;
                }
            };
            let pixels = card.preprocess.apply(&image);
            let values = case["values"].as_array().unwrap().iter().enumerate();
            let far = values.map(|(k, v)| (pixels[k * 7919 % pixels.len()] - v.as_f64().unwrap() as f32).abs());
            let far = far.fold(0f32, f32::max);
            // An eighth of a step of 255 after normalisation.
            let step = 1.0 / 255.0 / card.preprocess.std.iter().copied().fold(1.0, f32::min);
            if Some(card.preprocess.size as u64) != case["side"].as_u64() || far > step / 8.0 {
                wrong.push(format!("{version} {}: {} {far}", case["settings"], card.preprocess.size));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}: {wrong:#?}", wrong.len());
    assert_eq!((count, refused), (96, 2));
    Ok(())
}

#[test]
fn absurd_numbers_are_refused_before_anything_is_made() {
    let refused = |name: &str, file: &str, from: &str, to: &str| {
        let dir = changed(name, file, |text| {
            assert!(text.contains(from), "{text}");
            Some(text.replacen(from, to, 1))
        });
        let error = open(dir.path()).unwrap_err();
        assert!(error.hint_text().is_some(), "{error}");
        error.to_string()
    };
    let timm = |to: &str| refused("timm-deit3", "config.json", "\"depth\": 2", to);
    assert!(timm("\"depth\": 60000").contains("asks for 60000 layers (depth), but the file has"));
    assert!(timm("\"depth\": 300000").contains("depth 300000"));
    assert!(timm("\"depth\": 2, \"embed_dim\": 1000000000").contains("width 1000000000"));
    let vit = |to: &str| refused("transformers-vit", "config.json", "\"num_hidden_layers\": 2", to);
    assert!(vit("\"num_hidden_layers\": 300000").contains("num_hidden_layers = 300000, but the weights have 2"));
    assert!(vit("\"num_hidden_layers\": 1e18").contains("num_hidden_layers"));
    let clip = |to: &str| refused("openclip-pooled", "open_clip_config.json", "\"layers\": 2", to);
    assert!(clip("\"layers\": 50000").contains("50000 layers"));
    let size = |to: &str| refused("transformers-vit", "preprocessor_config.json", "\"height\": 32", to);
    assert!(size("\"height\": 1000000000000, \"width\": 1000000000000, \"w\": 32").contains("10000000000"));
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
    assert!(clip("\"width\": 16", "\"timm_model_name\": \"vitamin_tiny_224\"").contains("`vitamin_tiny_224`"));
    assert!(refused("timm-eva02", "config.json", "\"depth\": 2", "\"depth\": 1").contains("not used by the module"));
    assert!(refused("timm-sam", "config.json", "\"window_size\": 3", "\"window_size\": 2").contains("rel_pos_h"));
}
