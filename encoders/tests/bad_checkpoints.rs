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
    assert!(text.contains("1 tensor used by nothing: surplus"), "{text}");
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
        error.to_string().contains("25 tensors used by nothing") && error.to_string().ends_with("and 15 more"),
        "{error}"
    );
    assert!(error.hint_text().is_some_and(|h| h.contains("more layers or parts")));
}

#[test]
fn another_familys_weights_are_recognised() {
    let error = load("mae", &golden("clip").join("model.safetensors")).unwrap_err();
    assert!(error.hint_text().is_some_and(|h| h.contains("`transformers-clip`")), "{error}");
    let error = load("clip", &golden("convnext").join("model.safetensors")).unwrap_err();
    assert!(
        error.hint_text().is_some_and(|h| h.contains("those of `nano-convnext` in dialect `open-clip`")),
        "{error:?}"
    );
}

#[test]
fn a_tower_saved_by_itself_is_recognised() {
    let error = after("clip", |t| {
        *t = std::mem::take(t)
            .into_iter()
            .map(|(k, v)| (k.trim_start_matches("vision_model.").to_string(), v))
            .collect();
    });
    assert!(error.hint_text().is_some_and(|h| h.contains("without `vision_model.`")), "{error}");
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
    assert!(load("mae", &index).unwrap_err().to_string().contains("not a file beside it"));
    map(&[("x", "c.safetensors")]);
    assert!(load("mae", &index).unwrap_err().to_string().contains("shard c.safetensors"));
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
    assert!(load("mae", dir.path()).unwrap_err().to_string().contains("0 bytes long"));
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
