//! Tests of timm's ConvNeXts and ResNets against the models that timm builds (`tests/reference/convnets.py`).

use super::{Model, model};
use crate::checkpoint::parameters;
use burgess_base::Result;
use burn::tensor::Device;
use serde_json::Value;
use std::collections::BTreeMap;

/// Arguments that are not supported, with the number of timm's ConvNeXts and ResNets that have them.
const REFUSED: [(&str, usize); 4] =
    [("aa_layer = ", 11), ("block = [", 1), ("block_args = ", 35), ("norm_layer = \"groupnorm\"", 1)];

#[test]
fn every_name_of_timm_is_read_or_refused() -> Result<()> {
    let (mut refused, mut read, mut wrong) = (BTreeMap::new(), 0, Vec::new());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/timm-convnets.tsv");
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let [name, tensors, numbers] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        match model(name, &Value::Null, &Value::Null, 224) {
            Ok(Model { config: architecture, .. }) => {
                let found = parameters(&architecture.init(&Device::flex())?)?;
                let size: usize = found.iter().map(|p| p.shape.iter().product::<usize>()).sum();
                if (found.len().to_string().as_str(), size.to_string().as_str()) != (tensors, numbers) {
                    wrong.push(format!("{line}: found {} and {size}", found.len()));
                }
                read += 1;
            }
            Err(e) => {
                assert!(e.hint_text().is_some(), "{e}");
                match REFUSED.iter().find(|(reason, _)| e.to_string().contains(reason)) {
                    Some((reason, _)) => *refused.entry(*reason).or_insert(0) += 1,
                    None => wrong.push(format!("{name}: {e}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), REFUSED);
    assert_eq!(read, 64);
    Ok(())
}
