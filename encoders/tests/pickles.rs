//! Files of `torch.save`: every tensor under its dotted name, as PyTorch has it; nothing executed; no panic.
//! Goldens: `tests/reference/pickles.py`.

use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{self, Checkpoint};
use burgess_encoders::encoder::Encoder;
use burn::tensor::Device;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/pickles").join(name)
}

#[test]
fn both_formats_give_pytorchs_tensors() {
    let expected = Checkpoint::open(&golden("expected.safetensors")).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> =
        serde_json::from_slice(&std::fs::read(golden("shapes.json")).unwrap()).unwrap();
    for name in ["zip.pth", "legacy.pth"] {
        let file = Checkpoint::open(&golden(name)).unwrap();
        let found: BTreeMap<String, Vec<usize>> =
            file.keys().map(|k| (k.to_string(), file.shape(k).unwrap().to_vec())).collect();
        assert_eq!(found, shapes, "{name}");
        for key in expected.keys() {
            assert_eq!(file.read(key).unwrap(), expected.read(key).unwrap(), "{name}: {key}");
        }
        assert!(file.read("rng").unwrap_err().to_string().contains("not stored as floating-point"));
    }
}

#[test]
fn a_table_within_a_checkpoint_is_a_prefix() {
    let file = Checkpoint::open(&golden("zip.pth")).unwrap().inside("state_dict.module.").unwrap();
    assert_eq!(file.shape("transposed"), Some(&[6, 4][..]));
    assert!(file.keys().all(|k| !k.starts_with("optimizer")));
    let error = Checkpoint::open(&golden("zip.pth")).unwrap().inside("model.").unwrap_err();
    assert!(error.hint_text().is_some_and(|h| h.contains("`state_dict.`")), "{error}");
}

#[test]
fn objects_and_other_files_are_refused_with_a_hint() {
    let say = |path: &Path| {
        let error = Checkpoint::open(path).unwrap_err();
        assert!(error.hint_text().is_some(), "{error}");
        error.to_string()
    };
    assert!(say(&golden("object.pth")).contains("no dictionary of tensors"));
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    assert!(say(&write("plain.pkl", b"\x80\x04N.")).contains("not written by torch.save"));
    assert!(say(&write("cut.pth", b"PK\x03\x04")).contains("cannot be read"));
    // What a malicious file does in Python: posix.system("touch ...").
    let target = dir.path().join("touched");
    let order = format!("touch {}", target.display());
    let mut bytes =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02cposix\nsystem\nX".to_vec();
    bytes.extend(u32::try_from(order.len()).unwrap().to_le_bytes());
    bytes.extend(order.as_bytes());
    bytes.extend(b"\x85R.\x80\x02].");
    assert!(say(&write("malicious.pth", &bytes)).contains("no dictionary of tensors"));
    assert!(!target.exists());
}

/// An encoder whose weights come as transformers and timm wrote them before safetensors.
#[test]
fn an_encoder_loads_from_a_directory_with_a_pickle() {
    let card = EncoderCard::from_file(&golden("../encoders/mae/card.toml")).unwrap();
    let plain = Encoder::load(card.clone(), Some(&golden("../encoders/mae")), &Device::flex()).unwrap();
    let pickled = Encoder::load(card, Some(&golden("mae")), &Device::flex()).unwrap();
    let values = |encoder: &Encoder| {
        let mut all = Vec::new();
        checkpoint::visit_parameters(&encoder.arch, |_, values| {
            all.extend(values);
            Ok(())
        })
        .unwrap();
        all
    };
    assert_eq!(values(&plain), values(&pickled));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damaged_files_never_panic(legacy in any::<bool>(), changes in proptest::collection::vec((0.0..1.0f64, any::<u8>()), 1..8), cut in 0.5..1.5f64) {
        let mut bytes = std::fs::read(golden(if legacy { "legacy.pth" } else { "zip.pth" })).unwrap();
        for (place, value) in changes {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] = value;
        }
        bytes.truncate((cut * bytes.len() as f64) as usize);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged.pth");
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(file) = Checkpoint::open(&path) {
            for key in file.keys() {
                let _ = file.read(key);
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused(legacy in any::<bool>(), part in 0.0..1.0f64) {
        let bytes = std::fs::read(golden(if legacy { "legacy.pth" } else { "zip.pth" })).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.pth");
        std::fs::write(&path, &bytes[..(part * bytes.len() as f64) as usize]).unwrap();
        let error = Checkpoint::open(&path).unwrap_err();
        prop_assert!(error.to_string().contains("cut.pth") && error.hint_text().is_some(), "{}", error);
    }
}

/// A zip archive of empty members that are stored (method 0) or said to be compressed (8).
fn archive(members: &[(&str, u16)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, method) in members {
        let (at, length) = (file.len() as u32, name.len() as u16);
        file.extend(b"PK\x03\x04\x14\0\0\0");
        file.extend(method.to_le_bytes());
        file.extend([0; 16]);
        file.extend(length.to_le_bytes());
        file.extend([0; 2]);
        file.extend(name.as_bytes());
        directory.extend(b"PK\x01\x02\x14\0\x14\0\0\0");
        directory.extend(method.to_le_bytes());
        directory.extend([0; 16]);
        directory.extend(length.to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (at, count) = (file.len() as u32, members.len() as u16);
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(at.to_le_bytes());
    file.extend([0; 2]);
    file
}

#[test]
fn archives_of_other_kinds_are_called_by_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let say = |members: &[(&str, u16)]| {
        let path = dir.path().join("x.pt");
        std::fs::write(&path, archive(members)).unwrap();
        let error = Checkpoint::open(&path).unwrap_err();
        (error.to_string(), error.hint_text().unwrap_or_default().to_string())
    };
    let (text, hint) = say(&[("m/data.pkl", 0), ("m/code/__torch__/net.py", 8), ("m/constants.pkl", 0)]);
    assert!(text.contains("the file is a TorchScript archive"), "{text}");
    assert!(hint.contains("torch.jit.load") && hint.contains("torch.save(model.state_dict()"), "{hint}");
    assert!(say(&[("m/data.pkl", 0), ("m/code/__torch__/net.py", 0)]).0.contains("a TorchScript archive"));
    assert!(say(&[("config.json", 8), ("model.weights.h5", 8)]).0.contains("a model of Keras"));
    assert!(say(&[("a.npy", 0), ("b.npy", 0)]).0.contains("several arrays of NumPy"));
    assert!(say(&[("x/model.safetensors", 8)]).1.contains("unpack it"));
    assert!(say(&[("m/archive_format", 0), ("m/models/model.json", 0)]).0.contains("torch.export"));
    assert!(say(&[("readme.txt", 0)]).0.contains("not written by torch.save"));
    assert!(say(&[("m/data.pkl", 8)]).0.contains("is compressed"));
}

#[test]
fn whole_modules_are_named_by_their_class() {
    let dir = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(&golden("object.pth")).unwrap_err();
    assert!(error.hint_text().is_some_and(|h| h.contains("torch.save(model.state_dict()")), "{error:?}");
    // The old format: magic number, version, machine, then an object made by a call of its class, no storages.
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    bytes.extend(b"\x80\x02cnets.vit\nTiny\n)\x81}(X\x08\x00\x00\x00trainingK\x01ub.\x80\x02].");
    let path = dir.path().join("module.pth");
    std::fs::write(&path, bytes).unwrap();
    let text = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(text.contains("a Python object of the class `nets.vit.Tiny`"), "{text}");
}
