//! Weights that are damaged or belong to something else: always an error that says what is wrong,
//! never a panic, never a half-loaded encoder.

use burgess_base::{Error, Result};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::Checkpoint;
use burgess_encoders::encoder::Encoder;
use burn::tensor::Device;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/encoders").join(name)
}

/// Name → (shape, f32 values) of a golden checkpoint's floating-point tensors.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(name: &str) -> Tensors {
    let file = Checkpoint::open(&golden(name).join("model.safetensors")).unwrap();
    let keys = file.keys().filter(|k| !k.ends_with("position_ids"));
    keys.map(|k| (k.to_string(), (file.shape(k).unwrap().to_vec(), file.read(k).unwrap()))).collect()
}

fn write(tensors: &Tensors, path: &Path) {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(k, (s, v))| (k.clone(), s.clone(), v.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(k, s, b)| (k, TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn load(name: &str, path: &Path) -> Result<Encoder> {
    Encoder::load(EncoderCard::from_file(&golden(name).join("card.toml"))?, Some(path), &Device::flex())
}

/// The error after `change`.
fn after(name: &str, change: impl FnOnce(&mut Tensors)) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let mut changed = tensors(name);
    change(&mut changed);
    write(&changed, &path);
    load(name, &path).unwrap_err()
}

#[test]
fn what_does_not_fit_is_listed() {
    let error = after("supervised", |t| {
        t.remove("blocks.1.norm2.bias");
        t.remove("cls_token");
        t.insert("surplus".into(), (vec![1], vec![0.0]));
        t.insert("norm.weight".into(), (vec![4], vec![0.0; 4]));
        t.insert("blocks.0.attn.proj.weight".into(), (vec![16, 64], vec![0.0; 1024]));
    });
    let text = error.to_string();
    assert!(text.contains("2 tensors missing in the file: cls_token, blocks.1.norm2.bias"), "{text}");
    assert!(text.contains("1 tensor not used by the module: surplus"), "{text}");
    assert!(text.contains("norm.weight: expected [32], found [4]"), "{text}");
    assert!(text.contains("blocks.0.attn.proj.weight: expected [32, 32], found [16, 64]"), "{text}");
    assert_eq!(error.exit_code(), 1);
    assert!(error.hint_text().is_some_and(|h| h.contains("[architecture]")));
}

#[test]
fn a_part_of_fused_weights_may_be_missing() {
    let key = "vision_model.encoder.layers.1.self_attn.k_proj.bias";
    let error = after("clip", |t| drop(t.remove(key)));
    assert!(error.to_string().contains(&format!("1 tensor missing in the file: {key}")), "{error}");
}

#[test]
fn long_lists_are_cut() {
    let error = after("clip", |t| {
        for i in 0..25 {
            t.insert(format!("surplus.{i}"), (vec![1], vec![0.0]));
        }
    });
    assert!(
        error.to_string().contains("25 tensors not used by the module") && error.to_string().ends_with("and 15 more"),
        "{error}"
    );
    assert!(error.hint_text().is_some_and(|h| h.contains("more layers or parts")));
}

#[test]
fn another_familys_weights_are_recognised() {
    let error = load("mae", &golden("clip").join("model.safetensors")).unwrap_err();
    assert!(error.hint_text().is_some_and(|h| h.contains("\"transformers-clip\"")), "{error}");
    let error = load("clip", &golden("convnext").join("model.safetensors")).unwrap_err();
    assert!(
        error.hint_text().is_some_and(|h| h.contains("those of `nano-convnext` in dialect `open-clip`")),
        "{error:?}"
    );
}

/// transformers 5 saves a tower without what stands before its names in the whole model.
#[test]
fn a_tower_saved_by_itself_is_read() {
    let bare = |dir: &Path, more: &[(&str, usize)]| {
        let path = dir.join("model.safetensors");
        let mut tower: Tensors =
            tensors("clip").into_iter().map(|(k, v)| (k.trim_start_matches("vision_model.").to_string(), v)).collect();
        tower.extend(more.iter().map(|(key, n)| (key.to_string(), (vec![*n], vec![0.5; *n]))));
        write(&tower, &path);
        load("clip", &path)
    };
    let dir = tempfile::tempdir().unwrap();
    let values = |encoder: &Encoder| {
        let image = burgess_encoders::preprocess::decode(&golden("picture.png")).unwrap();
        encoder.encode(&[image], 1).unwrap().values
    };
    let whole = load("clip", &golden("clip").join("model.safetensors")).unwrap();
    let tower = bare(dir.path(), &[("classifier.weight", 4), ("classifier.bias", 4)]).unwrap();
    assert_eq!(values(&whole), values(&tower));
    // Strict all the same.
    let error = bare(dir.path(), &[("encoder.layers.7.layer_norm1.weight", 4)]).unwrap_err().to_string();
    assert!(error.contains("layers.7.layer_norm1.weight"), "{error}");
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let key = "encoder.layer.1.mlp.fc2.weight";
    let error = after("dinov2", |t| {
        t.get_mut(key).unwrap().1[7..10].copy_from_slice(&[f32::NEG_INFINITY, f32::NAN, f32::NAN]);
    });
    let text = error.to_string();
    assert!(text.contains(&format!("tensor `{key}`")), "{text}");
    assert!(text.contains("2 NaN and 1 infinite of") && text.ends_with("the first at element 7"), "{text}");
}

#[test]
fn integers_are_no_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let bytes = std::fs::read(golden("mae").join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views = file.tensors().into_iter().map(|(k, v)| {
        let dtype = if k == "pos_embed" { Dtype::I16 } else { v.dtype() };
        (k, TensorView::new(dtype, v.shape().to_vec(), v.data()).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let error = load("mae", &path).unwrap_err();
    assert!(
        error.to_string().contains("`pos_embed`") && error.to_string().contains("not stored as floating-point"),
        "{error}"
    );
}

#[test]
fn shards_are_one_checkpoint_and_their_index_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    let all = tensors("mae");
    let (first, second): (Tensors, Tensors) = all.clone().into_iter().partition(|(k, _)| k.starts_with("blocks.0"));
    write(&first, &dir.path().join("a.safetensors"));
    write(&second, &dir.path().join("b.safetensors"));
    let map = |extra: &[(&str, &str)]| {
        let own =
            all.keys().map(|k| (k.as_str(), if first.contains_key(k) { "a.safetensors" } else { "b.safetensors" }));
        let map: BTreeMap<&str, &str> = own.chain(extra.iter().copied()).collect();
        std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    };
    map(&[]);
    assert!(load("mae", dir.path()).is_ok());
    let digest = Checkpoint::open(&index).unwrap().digest().unwrap();
    map(&[("ghost", "a.safetensors")]);
    assert!(load("mae", &index).unwrap_err().to_string().contains("first `ghost`"));
    map(&[("x", "../b.safetensors")]);
    assert!(load("mae", &index).unwrap_err().to_string().contains("expected the name of a file in its directory"));
    map(&[("x", "c.safetensors")]);
    assert!(load("mae", &index).unwrap_err().to_string().contains("1 of the 3 shards that"));
    write(&all, &dir.path().join("b.safetensors"));
    map(&[]);
    assert!(load("mae", &index).unwrap_err().to_string().contains("in two shards"));
    write(&second, &dir.path().join("b.safetensors"));
    assert_eq!(Checkpoint::open(&index).unwrap().digest().unwrap(), digest);
    std::fs::remove_file(&index).unwrap();
    assert!(load("mae", dir.path()).unwrap_err().to_string().contains("2 files of weights"));
}

#[test]
fn absent_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(load("mae", &dir.path().join("none.safetensors")).unwrap_err().to_string().contains("none.safetensors"));
    assert!(load("mae", dir.path()).unwrap_err().to_string().contains("no weights (.safetensors"));
    std::fs::write(dir.path().join("model.safetensors"), b"").unwrap();
    assert!(load("mae", dir.path()).unwrap_err().to_string().contains("is empty"));
}

#[test]
fn an_absent_shard_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let say = |dir: &Path| {
        let error = load("mae", dir).unwrap_err();
        (error.to_string(), error.hint_text().unwrap_or_default().to_string())
    };
    let all = tensors("mae");
    let name = |i: usize| format!("model-{i:05}-of-00003.safetensors");
    write(&all, &dir.path().join(name(1)));
    // Without the index.
    let (text, hint) = say(dir.path());
    assert!(text.contains("1 of 3 shards") && text.contains("not model.safetensors.index.json"), "{text}");
    assert!(hint.contains("download the whole repository"), "{hint}");
    let map: BTreeMap<&str, String> = all.keys().enumerate().map(|(i, k)| (k.as_str(), name(1 + i % 3))).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(dir.path().join("model.safetensors.index.json"), &index).unwrap();
    let (text, hint) = say(dir.path());
    assert!(text.contains("2 of the 3 shards that model.safetensors.index.json lists are not there"), "{text}");
    assert!(text.contains(&name(2)) && text.contains(&name(3)), "{text}");
    assert!(hint.contains("copy them into"), "{hint}");
    // In a cache of the hub it is known where they are from.
    let cache = dir.path().join("models--owner--my-vit/snapshots/0123");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::write(cache.join("model.safetensors.index.json"), &index).unwrap();
    assert_eq!(say(&cache).1, "download owner/my-vit again");
    // A truncated shard is named.
    for i in 1..=3 {
        let part = all.iter().enumerate().filter(|(n, _)| 1 + n % 3 == i).map(|(_, (k, v))| (k.clone(), v.clone()));
        write(&part.collect(), &dir.path().join(name(i)));
    }
    assert!(load("mae", dir.path()).is_ok());
    let bytes = std::fs::read(dir.path().join(name(2))).unwrap();
    std::fs::write(dir.path().join(name(2)), &bytes[..bytes.len() - 8]).unwrap();
    let (text, hint) = say(dir.path());
    assert!(text.contains(&format!("shard {}", name(2))) && hint.contains("truncated"), "{text} {hint}");
}

#[test]
fn files_of_other_kinds_are_called_by_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let say = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = load("mae", &path).unwrap_err();
        assert!(error.hint_text().is_some() && error.to_string().contains(name), "{error}");
        error.to_string()
    };
    assert!(say("a.h5", b"\x89HDF\r\n\x1a\n0000000000").contains("an HDF5 file"));
    assert!(say("a.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.9.0").contains("an ONNX model"));
    assert!(say("a.onnx", b"\x08\x07\x3a\x85\x02rest of the graph").contains("an ONNX model"));
    assert!(say("flax_model.msgpack", b"\x84\xaalayer_norm\x82\xa5scale").contains("a msgpack file"));
    assert!(say("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr'").contains("an array of NumPy"));
    assert!(say("a.bin", b"<!DOCTYPE html><html><head>").contains("a web page"));
    assert!(say("a.bin", b"{\"error\": \"not found\", \"code\": 404}").contains("a JSON text"));
    assert!(say("a.pth", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03").contains("a gzip archive"));
    assert!(say("a.pth", b"\x89PNG\r\n\x1a\n").contains("a PNG image"));
    assert!(say("a.pth", b"").contains("is empty"));
    assert!(say("a.tflite", b"\x1c\x00\x00\x00TFL3\x14\x00").contains("a TensorFlow Lite model"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever a file is cut, the error comes and names the file.
    #[test]
    fn a_file_cut_anywhere_is_refused(part in 0.0..1.0f64) {
        let bytes = std::fs::read(golden("convnext").join("model.safetensors")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.safetensors");
        std::fs::write(&path, &bytes[..(part * bytes.len() as f64) as usize]).unwrap();
        let error = load("convnext", &path).unwrap_err();
        prop_assert!(error.to_string().contains("cut.safetensors") && error.hint_text().is_some(), "{}", error);
    }

    /// Flipped bytes in the header: refused, or read as what they now say; never a panic.
    #[test]
    fn a_damaged_header_never_panics(at in 0usize..4000, byte in any::<u8>()) {
        let mut bytes = std::fs::read(golden("convnext").join("model.safetensors")).unwrap();
        bytes[at] = byte;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged.safetensors");
        std::fs::write(&path, &bytes).unwrap();
        let _ = load("convnext", &path);
    }
}
