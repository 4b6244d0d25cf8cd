//! Tests of every architecture of the table against the model that timm builds (`tests/reference/timm_table.py`).

use super::*;
use crate::checkpoint::{Dialect, parameters};
use burn::tensor::Device;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The number of tensors, and of their elements, that the network of `name` needs from a file.
fn contents(name: &str, input: usize) -> Result<(usize, usize)> {
    let model = model(name, &Value::Null, &Value::Null, input)?;
    let dialect = Dialect::find(model.dialect)?;
    let mut sizes = (0, 0);
    for parameter in parameters(&model.config.init(&Device::flex())?)? {
        let source = dialect.source(&parameter.path, &parameter.shape, &|_| None)?;
        let parts = source.keys.iter().filter(|key| !key.is_empty()).count();
        sizes.0 += parts;
        sizes.1 += parts * source.shape.iter().product::<usize>();
    }
    Ok(sizes)
}

/// Arguments that are not supported, with the number of architectures that have them.
const REFUSED: [(&str, usize); 3] = [
    ("block_fn = \"ParallelScalingBlock\"", 4),
    ("block_fn = \"ParallelThingsBlock\"", 2),
    ("rope_type = \"mixed\"", 6),
];

/// The number of architectures of each class that are supported.
const READ: [(&str, usize); 5] = [
    ("Beit", 7),
    ("Eva", 49),
    ("VisionTransformer", 156),
    ("VisionTransformerDistilled", 4),
    ("VisionTransformerSAM", 4),
];

#[test]
fn every_vision_transformer_of_timm_is_read_or_refused_by_name() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/timm/architectures.tsv");
    let golden = std::fs::read_to_string(path).unwrap();
    let mut expected = BTreeMap::new();
    for line in golden.lines() {
        let (name, numbers) = line.split_once('\t').unwrap();
        let numbers: Vec<usize> = numbers.split('\t').map(|n| n.parse().unwrap()).collect();
        expected.insert(name, (numbers[0], (numbers[1], numbers[2])));
    }
    let (mut read, mut refused, mut wrong) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (name, class, _) in crate::timm::table().filter(|(_, class, _)| READ.iter().any(|(one, _)| one == class)) {
        let (input, sizes) = expected.get(name).copied().unwrap_or((224, (0, 0)));
        match contents(name, input) {
            // Architectures that timm itself cannot build are not in the golden file.
            Ok(found) if found == sizes || sizes.0 == 0 => *read.entry(class).or_insert(0) += 1,
            Ok(found) => wrong.push(format!("{name}: {found:?} instead of {sizes:?}")),
            Err(e) => {
                let reason = REFUSED.iter().find(|(reason, _)| e.to_string().contains(reason));
                assert!(e.hint_text().is_some(), "{e}");
                *refused.entry(reason.unwrap_or_else(|| panic!("{name}: {e}")).0).or_insert(0) += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), REFUSED);
    assert_eq!(read.into_iter().collect::<Vec<_>>(), READ);
    Ok(())
}

#[test]
fn an_argument_that_is_not_known_is_refused_by_name() {
    let say = |name: &str, own: Value| {
        let error = model(name, &own, &Value::Null, 224).err().unwrap();
        assert!(error.hint_text().is_some(), "{error}");
        error.to_string()
    };
    let vit = "vit_base_patch16_224";
    assert!(say(vit, json!({"frobnicate": 3})).contains("`vit_base_patch16_224` has frobnicate = 3"));
    assert!(say(vit, json!({"depth": "twelve"})).contains("depth = \"twelve\""));
    assert!(say(vit, json!({"num_heads": -1})).contains("num_heads = -1"));
    assert!(say(vit, json!({"act_layer": "relu"})).contains("act_layer = \"relu\""));
    assert!(say(vit, json!({"norm_layer": "batchnorm"})).contains("norm_layer = \"batchnorm\""));
    assert!(say(vit, json!({"img_size": [224, 448]})).contains("img_size = [224,448]"));
    assert!(say(vit, json!({"in_chans": 1})).contains("in_chans = 1"));
    assert!(say(vit, json!({"depth": 1_000_000_000_000_u64})).contains("depth 1000000000000"));
    assert!(say("samvit_base_patch16", json!({"depth": 1_000_000})).contains("depth 1000000"));
    assert!(say(vit, json!({"num_heads": 7})).contains("heads 7"));
    assert!(say(vit, json!([1])).contains("model_args = [1]"));
    assert!(say("vit_bas_patch16_224", Value::Null).contains("`vit_bas_patch16_224` is not supported"));
    assert!(say("samvit_base_patch16", json!({"use_rope": true})).contains("use_rope = true"));
}

#[test]
fn hints_name_only_what_is_read() {
    for name in ["vit_base_patch16_rope", "vit_huge_paralel_patch14", "eva02_larg", "vit_relpos", "vit_base", "convnex"]
    {
        let Err(error) = model(name, &Value::Null, &Value::Null, 224) else { continue };
        let hint = error.hint_text().unwrap_or_default().to_string();
        let names = hint.trim_start_matches("use one of the nearest names: ").split(';').next().unwrap_or_default();
        for name in names.split(", ").filter(|n| n.contains('_')) {
            assert!(model(name, &Value::Null, &Value::Null, 224).is_ok(), "{hint}");
        }
    }
}
