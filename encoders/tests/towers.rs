//! Where an encoder's weights are in files that hold more, or less, than the model's own: towers that transformers
//! saved alone, models with heads, states of training. Goldens: `tests/reference/towers.py`.

#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::Result;
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::Checkpoint;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::preprocess::PreparedImages;
use burn::tensor::{Device, Tensor, TensorData};
use devices::{device, limit};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/towers").join(name)
}

fn open(dir: &Path) -> Result<EncoderCard> {
    EncoderCard::open(&dir.display().to_string())
}

/// The features of `reference.st`' pixels, and those that it expects.
fn features(encoder: &Encoder, reference: &Path) -> Result<(Vec<f32>, Vec<f32>)> {
    let expected = Checkpoint::open(reference)?;
    let shape = expected.shape("pixels").unwrap().to_vec();
    let pixels = TensorData::new(expected.read("pixels")?, [1, shape[0], shape[1], shape[2]]);
    let map = encoder.forward(Tensor::from_data(pixels, &device()))?;
    Ok((map.tokens.into_data().try_into_vec_as().unwrap(), expected.read("features")?))
}

/// ‖a − b‖ / ‖b‖.
fn difference((a, b): &(Vec<f32>, Vec<f32>)) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b))) / norm(&mut b.iter().map(|b| f64::from(*b)))
}

#[test]
fn features_of_saved_towers_and_models_with_heads_equal_the_reference() -> Result<()> {
    let (mut wrong, mut count) = (Vec::new(), 0);
    // More of them may be named for a check by hand.
    let root = std::env::var_os("BURGESS_TOWERS").map_or_else(|| golden(""), PathBuf::from);
    let mut directories: Vec<PathBuf> = std::fs::read_dir(&root)?.map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    for dir in directories.iter().filter(|dir| dir.is_dir()) {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let read = || -> Result<f64> {
            let encoder = Encoder::load(open(dir)?, None, &device())?;
            Ok(difference(&features(&encoder, &dir.join("reference.st"))?))
        };
        count += 1;
        match read() {
            Ok(far) if far <= limit(1e-4, 1e-3) => println!("{name:26} {far:.1e}"),
            Ok(far) => wrong.push(format!("{name}: {far:.1e}")),
            Err(e) => wrong.push(format!("{name}: {e}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {count}: {wrong:#?}", wrong.len());
    assert!(count >= 21, "{count}");
    Ok(())
}

#[test]
fn timms_averages_are_taken_and_said() -> Result<()> {
    let card = open(&golden("timm-train"))?;
    assert_eq!(card.source.prefix.as_deref(), Some("state_dict_ema.module."));
    let note = card.notes.iter().find(|note| note.contains("EMA")).unwrap();
    assert!(note.contains("`state_dict_ema.module.`") && note.contains("`state_dict.`"), "{note}");
    let named = EncoderCard::open_under(&golden("timm-train").display().to_string(), Some("state_dict"))?;
    assert_eq!(named.source.prefix.as_deref(), Some("state_dict."));
    let encoder = Encoder::load(named, None, &device())?;
    assert!(difference(&features(&encoder, &golden("timm-train/reference.st"))?) > 1e-2);
    let again = EncoderCard::open(&format!("{}@prefix=state_dict_ema.module.", golden("timm-train").display()))?;
    assert_eq!(again.source, card.source);
    let none = EncoderCard::open_under(&golden("timm-train").display().to_string(), Some("teacher.")).unwrap_err();
    assert!(none.to_string().contains("no tensor under `teacher.`") && none.hint_text().is_some(), "{none}");
    Ok(())
}

/// The tensors of the golden encoder `mae` (timm's names).
fn mae() -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let file = Checkpoint::open(&golden("../encoders/mae/model.safetensors")).unwrap();
    file.keys().map(|k| (k.to_string(), (file.shape(k).unwrap().to_vec(), file.read(k).unwrap()))).collect()
}

/// A directory with the golden encoder's configuration and weights under each of `prefixes` (times 1, 2, …), with
/// tensors of these names and one number beside them.
fn written(prefixes: &[&str], beside: &[&str], rename: impl Fn(&str) -> String) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(golden("../encoders/mae/config.json"), dir.path().join("config.json")).unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (times, prefix) in (1u8..).zip(prefixes) {
        for (key, (shape, values)) in mae() {
            let bytes = values.iter().flat_map(|v| (v * f32::from(times)).to_le_bytes()).collect();
            tensors.push((format!("{prefix}{}", rename(&key)), shape, bytes));
        }
    }
    tensors.extend(beside.iter().map(|key| (key.to_string(), vec![1], 1f32.to_le_bytes().to_vec())));
    let views = tensors.iter().map(|(k, s, b)| (k, TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    std::fs::write(dir.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    dir
}

#[test]
fn wrappers_are_found_where_one_choice_fits() -> Result<()> {
    let plain = |key: &str| key.to_string();
    let expected = open(written(&[""], &[], plain).path())?;
    for prefix in [
        "module.",
        "backbone.",
        "model.",
        "encoder.",
        "visual.",
        "_orig_mod.",
        "teacher.backbone.",
        "net.",
        "student.module.",
        "state_dict.model.",
        "state_dict.module.backbone.",
        "model._orig_mod.",
        "module._orig_mod.",
    ] {
        // What is beside the model does not matter where the model has a prefix.
        let beside: &[&str] = match prefix {
            "_orig_mod." => &[],
            _ => &["optimizer.0", "teacher.dino_head.last_layer.weight", "loss.centre"],
        };
        let dir = written(&[prefix], beside, plain);
        let card = open(dir.path()).map_err(|e| e.context(prefix))?;
        let found = card.source.prefix.clone().unwrap_or_default();
        assert_eq!(found, prefix.replace("_orig_mod.", ""), "{prefix}");
        assert_eq!(card.architecture, expected.architecture, "{prefix}");
        Encoder::load(card, None, &Device::flex())?;
    }
    // Wrappers within the names, and the groups of blocks of DINOv2's training.
    for rename in [
        |key: &str| key.replacen("blocks.1.", "blocks.1._orig_mod.", 1),
        |key: &str| key.replacen("blocks.0.", "blocks.0._fsdp_wrapped_module.", 1),
        |key: &str| key.replacen("blocks.1.", "blocks.3.1.", 1).replacen("blocks.0.", "blocks.2.0.", 1),
    ] {
        Encoder::load(open(written(&["teacher.backbone."], &[], rename).path())?, None, &Device::flex())?;
    }
    // Heads of every kind are left alone.
    let heads =
        ["head.mlp.0.weight", "projector.0.bias", "dino_head.x", "decoder_blocks.0.y", "mask_token", "fc.weight"];
    Encoder::load(open(written(&[""], &heads, plain).path())?, None, &Device::flex())?;
    // Anything else is not.
    let error = open(written(&["model."], &["model.surplus"], plain).path())
        .and_then(|card| Encoder::load(card, None, &Device::flex()))
        .unwrap_err();
    assert!(error.to_string().contains("not used by the module: surplus"), "{error}");
    Ok(())
}

#[test]
fn several_choices_are_listed() -> Result<()> {
    let plain = |key: &str| key.to_string();
    let dir = written(&["teacher.backbone.", "student.module.backbone."], &[], plain);
    let error = open(dir.path()).unwrap_err();
    let (text, hint) = (error.to_string(), error.hint_text().unwrap_or_default().to_string());
    assert!(text.contains("`teacher.backbone.`") && text.contains("`student.module.backbone.`"), "{text}");
    assert!(hint.contains("@prefix=") && error.exit_code() == 2, "{hint}");
    let named = EncoderCard::open(&format!("{}@prefix=student.module.backbone", dir.path().display()))?;
    assert_eq!(named.source.prefix.as_deref(), Some("student.module.backbone."));
    Encoder::load(named, None, &Device::flex())?;
    // The averages of timm's training come first, and of no others.
    for (prefixes, chosen) in [
        (["state_dict.", "state_dict_ema."], Some("state_dict_ema.")),
        (["model.", "model_ema."], Some("model_ema.")),
        (["state_dict.", "model."], None),
        (["ema.", "model."], None),
    ] {
        let found = open(written(&prefixes, &[], plain).path());
        match chosen {
            Some(chosen) => {
                let card = found?;
                assert_eq!(card.source.prefix.as_deref(), Some(chosen));
                assert!(card.notes.iter().any(|n| n.contains("EMA") && n.contains(chosen)), "{:?}", card.notes);
            }
            None => assert!(found.unwrap_err().to_string().contains("2 sets of weights"), "{prefixes:?}"),
        }
    }
    Ok(())
}

#[test]
fn features_that_are_not_finite_name_their_image() -> Result<()> {
    let dir = golden("v5-clip-tower");
    let encoder = Encoder::load(open(&dir)?, None, &device())?;
    let good = Tensor::<4>::ones([1, 3, 32, 32], &device());
    assert!(encoder.forward(good.clone()).is_ok());
    for bad in [f32::NAN, f32::INFINITY] {
        let batch = Tensor::cat(vec![good.clone(), good.clone().mul_scalar(bad)], 0);
        let names = ["a.png", "b.png"];
        let error =
            encoder.forward_prepared(PreparedImages::of_one_size(batch), &|n| names[n].to_string()).unwrap_err();
        assert!(error.to_string().contains("not finite for b.png: ") && error.hint_text().is_some(), "{error}");
        assert!(error.to_string().contains("row 0, column 0, channel 0"), "{error}");
    }
    Ok(())
}
