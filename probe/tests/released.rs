//! Small models in the format of released Cambrian-1 models (goldens of `tests/reference/released.py`), and the
//! configurations of the real ones.

mod common;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::{Error, Result, atomic};
use burgess_encoders::checkpoint::{self, Checkpoint};
use burgess_encoders::features::FeatureMap;
use burgess_probe::connector::ImageSize;
use burgess_probe::llm::ChatTemplate;
use burgess_probe::mllm::{ImageBatch, Mllm, Sequence};
use burgess_probe::released::ReleasedModel;
use burn::tensor::{Device, Tensor, TensorData};
use common::difference;
use devices::{device, limit};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const NAMES: [&str; 2] = ["llama", "phi3"];

#[derive(Deserialize)]
struct Golden {
    ids: Vec<Vec<i64>>,
    sizes: Vec<(usize, usize)>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/released").join(name)
}

/// The reference's features of both images.
fn towers(released: &ReleasedModel) -> Vec<FeatureMap> {
    let each = released.connector.towers.iter().enumerate().map(|(k, tower)| {
        let count = tower.grid * tower.grid * tower.width;
        let value = |b: usize, i: usize| ((i * 7919 + 31 * k + 57 * b) % 1009) as f32 / 504.5 - 1.0;
        let values: Vec<f32> = (0..2).flat_map(|b| (0..count).map(move |i| value(b, i))).collect();
        let shape = [2, tower.grid * tower.grid, tower.width];
        FeatureMap {
            tokens: Tensor::from_data(TensorData::new(values, shape), &device()),
            grid: [tower.grid, tower.grid],
        }
    });
    each.collect()
}

fn open(name: &str) -> Result<(ReleasedModel, Mllm)> {
    let released = ReleasedModel::open(&folder(name))?;
    let model = released.load(ChatTemplate::nano(), &device())?;
    Ok((released, model))
}

#[test]
fn logits_are_the_reference_ones() -> Result<()> {
    for name in NAMES {
        let (released, model) = open(name)?;
        let golden: Golden = atomic::read_json(&folder(name).join("golden.json"))?;
        let expected = Checkpoint::open(&folder(name).join("golden.safetensors"))?;
        let sizes: Vec<ImageSize> = golden.sizes.iter().map(|&(width, height)| ImageSize { width, height }).collect();
        let seen = model.encode_images_with(ImageBatch::FeatureMaps(towers(&released)), Some(&sizes), None)?;
        let rows: Vec<(Vec<u32>, usize)> = golden
            .ids
            .iter()
            .map(|ids| {
                let at = ids.iter().position(|id| *id < 0).unwrap();
                (ids.iter().map(|&id| id.max(0) as u32).collect(), at)
            })
            .collect();
        let sequences: Vec<Sequence> = rows.iter().map(|(ids, at)| Sequence { ids, image_at: Some(*at) }).collect();
        // All positions at once, with the padding masked; the reference left it out.
        let hidden = model.hidden(model.splice(&sequences, Some(seen.clone()), &device())?)?;
        for (b, (ids, at)) in rows.iter().enumerate() {
            let shown = seen.visible_tokens(b);
            let n = seen.tokens_per_image();
            let kept: Vec<usize> =
                (0..*at).chain(shown.iter().map(|p| at + p)).chain(at + n..ids.len() - 1 + n).collect();
            let row = hidden.clone().narrow(0, b, 1);
            let row = Tensor::cat(kept.iter().map(|&p| row.clone().narrow(1, p, 1)).collect(), 1);
            let [_, t, d] = row.dims();
            let logits = model.llm.logits(row.reshape([t, d]));
            let logits = logits.try_into_vec_as::<f32>().map_err(|e| Error::failed(e.to_string()))?;
            let off = difference(&logits, &expected.read(&format!("logits.{b}"))?);
            println!("{name} image {b}: logits {off:.1e}");
            assert!(off < limit(1e-4, 1e-3), "{name} image {b}: logits differ by {off:e}");
        }
    }
    Ok(())
}

/// A copy of a golden directory whose configuration has some fields changed.
fn changed(name: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let mut config: Value = atomic::read_json(&folder(name).join("config.json"))?;
    change(config.as_object_mut().unwrap());
    atomic::write_json(&dir.path().join("config.json"), &config)?;
    std::fs::copy(folder(name).join("model.safetensors"), dir.path().join("model.safetensors"))?;
    Ok(dir)
}

#[test]
fn unsupported_configurations_and_weights_are_errors() -> Result<()> {
    let said = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| -> Result<String> {
        let dir = changed("llama", |c| change(c))?;
        let found = ReleasedModel::open(dir.path()).and_then(|r| r.load(ChatTemplate::nano(), &Device::flex()));
        let e = found.err().ok_or_else(|| Error::failed("it was loaded"))?;
        Ok(format!("{e} {}", e.hint_text().unwrap_or_default()))
    };
    type Change<'a> = &'a dyn Fn(&mut serde_json::Map<String, Value>);
    let cases: [(Change, &str); 7] = [
        (&|c| c["mm_vision_tower_aux_list"][2] = json!("facebook/dinov2-giant-res518"), "facebook/dinov2-giant-res378"),
        (&|c| c["model_type"] = json!("cambrian_cohere"), "cambrian_llama"),
        (
            &|c| c["mm_vision_tower_aux_token_len_list"][3] = json!(60),
            "60 is not the number of tokens of a square grid",
        ),
        (&|c| drop(c.remove("connector_depth")), "`connector_depth` is missing"),
        (&|c| c["connector_depth"] = json!(2), "vision_sampler_0.layers.2."),
        (&|c| c["connector_only"] = json!(true), "vision_sampler_layers.0."),
        (&|c| c["num_hidden_layers"] = json!(5), "model.layers.4."),
    ];
    for (change, expected) in cases {
        let said = said(change)?;
        assert!(said.contains(expected), "expected {expected}: {said}");
    }
    assert!(
        ReleasedModel::is_model_dir(&folder("llama"))
            && !ReleasedModel::is_model_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
    );
    Ok(())
}

#[test]
fn absurd_numbers_are_errors_before_anything_is_allocated() -> Result<()> {
    let huge = json!(10_u64.pow(18));
    for (key, value, wanted) in [
        ("connector_depth", huge.clone(), "`depth`"),
        ("vision_hidden_size", huge.clone(), "`hidden`"),
        ("image_token_len", huge.clone(), "`grid`"),
        ("num_of_vision_sampler_layers", huge.clone(), "`samplers.number`"),
        ("start_of_vision_sampler_layers", huge.clone(), "`samplers.start`"),
        ("query_num_list", json!([10_u64.pow(18)]), "`query_grids`"),
        ("image_token_len", json!(-1), "config.json"),
        ("mm_projector_type", json!("mlp1000000x_gelu"), "`mlp1000000x_gelu`"),
        ("model_type", json!("x".repeat(10_000)), "is not supported"),
    ] {
        let dir = changed("llama", |fields| {
            fields.insert(key.into(), value);
        })?;
        let e = ReleasedModel::open(dir.path()).unwrap_err().to_string();
        assert!(e.contains(wanted) && e.len() < 1000, "{key}: {e}");
    }
    // Values that Python writes but JSON does not allow, in fields that are not read.
    let dir = changed("llama", |_| {})?;
    let file = dir.path().join("config.json");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("\u{feff}{}", text.replacen('{', "{\"final_loss\": NaN,", 1)))?;
    assert!(ReleasedModel::is_model_dir(dir.path()));
    ReleasedModel::open(dir.path())?;
    Ok(())
}

#[test]
fn the_real_models_have_the_published_numbers_of_parameters() -> Result<()> {
    // hidden size, layers, heads, key/value heads, gated layer, vocabulary; stride and number of samplers; millions.
    let models = [
        ("8b", [4096, 32, 32, 8, 14336, 128_256], [3, 10], 302.8),
        ("13b", [5120, 40, 40, 40, 13824, 32_000], [4, 10], 334.2),
        ("34b", [7168, 60, 56, 8, 20480, 64_000], [7, 9], 375.1),
    ];
    for (name, [hidden, layers, heads, kv, gated, vocabulary], [stride, number], millions) in models {
        let dir = changed("llama", |c| {
            for (key, value) in [
                ("hidden_size", hidden),
                ("num_hidden_layers", layers),
                ("num_attention_heads", heads),
                ("num_key_value_heads", kv),
                ("intermediate_size", gated),
                ("vocab_size", vocabulary),
                ("max_position_embeddings", 4096),
                ("vision_hidden_size", 1024),
                ("image_token_len", 576),
                ("stride_of_vision_sampler_layers", stride),
                ("num_of_vision_sampler_layers", number),
            ] {
                c.insert(key.into(), json!(value));
            }
            c.remove("head_dim");
            c.insert("query_num_list".into(), json!([576]));
            c.insert("mm_vision_tower_aux_token_len_list".into(), json!([576, 576, 576, 9216]));
        })?;
        let released = ReleasedModel::open(dir.path())?;
        let ids: Vec<&str> = released.encoders.iter().map(|c| c.id.as_str()).collect();
        let cards =
            ["siglip-so400m14-384", "openai-clip-l14-336", "dinov2-g14-378", "openclip-convnext-xxl-1024-multi-stage"];
        assert_eq!(ids, cards);
        // Parameters are lazy: no memory is allocated here.
        let connector = released.connector.init(&Device::flex())?;
        let count: usize = checkpoint::parameters(&connector)?.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        assert!((count as f64 / 1e6 - millions).abs() < 0.06, "{name}: {count} parameters, published {millions} M");
    }
    Ok(())
}
