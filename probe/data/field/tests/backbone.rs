//! Compares the encoder extracted from an ONNX file with the tensors it was exported from
//! (`tests/reference/onnx_backbone.py`), and
//! checks that truncated and damaged files are refused.

use burgess_encoders::card::EncoderCard;
use burgess_field::{backbone, onnx};
use safetensors::SafeTensors;
use std::fs;
use std::path::PathBuf;

type Checked = Result<(), Box<dyn std::error::Error>>;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/onnx").join(name)
}

#[test]
fn every_tensor_is_found_again() -> Checked {
    let dir = tempfile::tempdir()?;
    backbone::write(&golden("backbone.onnx"), dir.path())?;
    let (ours, theirs) = (fs::read(dir.path().join("model.safetensors"))?, fs::read(golden("backbone.safetensors"))?);
    let (ours, theirs) = (SafeTensors::deserialize(&ours)?, SafeTensors::deserialize(&theirs)?);
    let mut names = [ours.names(), theirs.names()];
    names.iter_mut().for_each(|n| n.sort_unstable());
    assert_eq!(names[0], names[1]);
    for name in theirs.names() {
        let (a, b) = (ours.tensor(name)?, theirs.tensor(name)?);
        assert_eq!((a.shape(), a.data()), (b.shape(), b.data()), "{name}");
    }
    // The directory opens as an encoder.
    let card = EncoderCard::open(&dir.path().to_string_lossy())?;
    assert_eq!((card.preprocess.size, card.native_grid()?), (224, [56, 56]));
    let config: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("config.json"))?)?;
    assert_eq!(
        (&config["num_hidden_layers"], &config["image_size"], &config["num_attention_heads"]),
        (&2.into(), &12.into(), &1.into())
    );
    Ok(())
}

#[test]
fn cut_and_damaged_models_are_errors() -> Checked {
    let whole = fs::read(golden("backbone.onnx"))?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("cut.onnx");
    for cut in (0..whole.len()).step_by(4099).chain([1, 2, 3, whole.len() - 1]) {
        fs::write(&path, &whole[..cut])?;
        let error = backbone::write(&path, dir.path()).expect_err("a cut file").to_string();
        assert!(error.contains("cut.onnx"), "{cut}: {error}");
        assert!(!dir.path().join("config.json").exists(), "{cut}");
    }
    // Single bytes changed: read or refused, never a panic, and never more memory than the file holds.
    for at in (0..whole.len()).step_by(101) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        if let Ok(graph) = onnx::read(&damaged) {
            for tensor in &graph.tensors {
                if let Ok(floats) = tensor.floats() {
                    assert!(floats.len() * 4 <= whole.len());
                }
            }
        }
    }
    assert!(onnx::read(b"").expect_err("nothing").to_string().contains("no graph"));
    Ok(())
}
