//! Difference hashes equal to those of Python's imagehash (`tests/reference/dhash.py`).

use burgess_images::{decode, dhash};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[test]
fn every_bit_is_imagehashs() -> Result<(), Box<dyn std::error::Error>> {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let text = std::fs::read_to_string(golden.join("dhash/hashes.json"))?;
    let expected: BTreeMap<String, BTreeMap<usize, String>> = serde_json::from_str(&text)?;
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, sizes) in expected {
        let image = decode(&golden.join(&name))?;
        for (size, hash) in sizes {
            let ours = dhash(&image, size)?.to_string();
            compared += 1;
            if ours != hash {
                wrong.push(format!("{name} {size}: {ours} instead of {hash}"));
            }
        }
    }
    assert!(compared > 500, "{compared}");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
