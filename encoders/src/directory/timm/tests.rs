//! Tests of what is refused, and of the hints.

use super::*;
use serde_json::{Value, json};

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
    assert!(say("vit_bas_patch16_224", Value::Null).contains("no architecture `vit_bas_patch16_224`"));
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
