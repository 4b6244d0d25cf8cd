//! Error messages about weights that do not fit: what is wrong, where, and a hint. The snapshots lie in `snapshots/`.

use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::Checkpoint;
use burgess_encoders::encoder::Encoder;
use burn::tensor::{Device, Int, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/encoders").join(name)
}

/// Returns the error of loading `path` as the golden encoder `name`, with the path replaced.
fn complaint(name: &str, path: &Path) -> String {
    let card = EncoderCard::from_file(&golden(name).join("card.toml")).unwrap();
    let error = Encoder::load(card, Some(path), &Device::flex()).unwrap_err();
    let text = format!("{error}\nhint: {}", error.hint_text().unwrap_or("none"));
    text.replace(&path.display().to_string(), &format!("HERE/{}", path.file_name().unwrap().to_string_lossy()))
}

/// Returns the error after the tensors of a golden encoder were renamed (`None` removes one) and changed.
fn after(name: &str, rename: impl Fn(&str) -> Option<String>, change: impl Fn(&str, &mut [f32])) -> String {
    let (_dir, path) = written(name, rename, change);
    complaint(name, &path)
}

/// Writes the weights of a golden encoder, renamed and changed, to a file.
fn written(
    name: &str,
    rename: impl Fn(&str) -> Option<String>,
    change: impl Fn(&str, &mut [f32]),
) -> (tempfile::TempDir, PathBuf) {
    let file = Checkpoint::open(&golden(name).join("model.safetensors")).unwrap();
    let mut changed: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for key in file.keys() {
        let (Some(new), Ok(mut values)) = (rename(key), file.read(key)) else { continue };
        change(key, &mut values);
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        changed.insert(new, (file.shape(key).unwrap().to_vec(), bytes));
    }
    let views = changed.iter().map(|(k, (s, b))| (k, TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    (dir, path)
}

/// Checks that the renamed weights are all found and loaded like the encoder's own.
fn found(name: &str, rename: impl Fn(&str) -> Option<String>) {
    let (_dir, path) = written(name, rename, |_, _| {});
    let card = EncoderCard::from_file(&golden(name).join("card.toml")).unwrap();
    let load = |path: &Path| Encoder::load(card.clone(), Some(path), &Device::flex()).unwrap();
    let size = card.preprocess.size;
    let pixels = || Tensor::<1, Int>::arange(0..(3 * size * size) as i64, &Device::flex()).float();
    let pixels = || pixels().div_scalar(1e4).sin().reshape([1, 3, size, size]);
    let features = |encoder: Encoder| encoder.forward(pixels()).unwrap().tokens.into_data();
    assert_eq!(features(load(&path)), features(load(&golden(name).join("model.safetensors"))));
}

fn cut(name: &str, from: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(from.file_name().unwrap());
    let bytes = std::fs::read(from).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    complaint(name, &path)
}

#[test]
fn weights_that_do_not_fit() {
    let same = |key: &str| Some(key.to_string());
    let nothing = |_: &str, _: &mut [f32]| {};
    // SAM's image encoder without its prefix: a non-strict loader would find no weights in it and report no error.
    found("sam", |key| key.strip_prefix("image_encoder.").map(str::to_string));
    found("mae", |key| Some(format!("module.{key}")));
    let bias = |key: &str| (key != "blocks.1.attn.proj.bias").then(|| key.replace("blocks.0.norm1", "blocks.9.norm1"));
    insta::assert_snapshot!("missing-and-extra", after("mae", bias, nothing));
    let diverged = |key: &str, values: &mut [f32]| {
        if key == "blocks.1.mlp.fc1.weight" {
            values[5..9].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NAN, f32::NAN]);
        }
    };
    insta::assert_snapshot!("not-finite", after("mae", same, diverged));
    insta::assert_snapshot!("other-dialect", complaint("mae", &golden("clip/model.safetensors")));
    insta::assert_snapshot!("other-architecture", complaint("clip", &golden("convnext/model.safetensors")));
    insta::assert_snapshot!("other-numbers", complaint("dinov2-giant", &golden("dinov2/model.safetensors")));
    insta::assert_snapshot!("cut-safetensors", cut("mae", &golden("mae/model.safetensors")));
    insta::assert_snapshot!("cut-pickle", cut("mae", &golden("../pickles/mae/pytorch_model.bin")));
}
