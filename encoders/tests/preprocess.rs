//! Preprocessing against Pillow (golden pictures made by `tests/reference/preprocess.py`).

use burgess_encoders::preprocess::{Preprocess, decode};
use safetensors::SafeTensors;
use std::path::PathBuf;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/preprocess")
}

#[test]
fn every_picture_equals_pillows() {
    let bytes = std::fs::read(golden().join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(golden().join("cases.json")).unwrap()).unwrap();
    let mut unequal = Vec::new();
    for (i, case) in cases.into_iter().enumerate() {
        let mut settings = case.clone();
        let table = settings.as_object_mut().unwrap();
        let file = table.remove("file").unwrap();
        table.insert("mean".into(), serde_json::json!([0.48145466, 0.4578275, 0.40821073]));
        table.insert("std".into(), serde_json::json!([0.26862954, 0.26130258, 0.27577711]));
        let preprocess: Preprocess = serde_json::from_value(settings).unwrap();

        let picture = match decode(&golden().join(file.as_str().unwrap())) {
            Ok(picture) => picture,
            Err(error) => {
                unequal.push(format!("{file}: {error}"));
                continue;
            }
        };
        let ours = preprocess.resized(&picture);
        let theirs = expected.tensor(&i.to_string()).unwrap().data().to_vec();
        assert_eq!(ours.len(), theirs.len(), "{case}");
        let differences: Vec<u8> = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
        let largest = differences.iter().max().copied().unwrap();
        println!("{file} at {}: {largest}", case["size"]);
        // Where it takes black from the other inks, the reader of TIFF rounds down and Pillow to the nearest; the bicubic
        // kernel's overshoot makes two levels of the one.
        let allowed = if file == "cmyk.tiff" { 2 } else { 0 };
        if largest > allowed {
            unequal.push(format!("{case}: pixels differ by up to {largest}"));
        }

        if i == 0 {
            let pixels = expected.tensor("pixels").unwrap();
            let theirs = pixels.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            let worst = preprocess.apply(&picture).iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
            assert!(worst < 1e-6, "normalised pixels differ by {worst}");
        }
    }
    assert!(unequal.is_empty(), "{unequal:#?}");
}
