//! Every decoder family against `transformers` (goldens of `tests/reference/llm.py`).

mod common;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::{Error, Result, atomic};
use burgess_probe::llm::{KvCache, Llm, LlmConfig, Weights};
use burn::tensor::Tensor;
use common::{difference, values};
use devices::{device, limit};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/llm")
}

fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(golden())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn load(name: &str) -> Result<Llm> {
    Ok(Weights::open_path(&golden().join(name))?.load(&device())?.0)
}

struct Golden {
    ids: Vec<Vec<u32>>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
    /// Logits through a cache in three pieces, for models where these differ.
    pieces: Option<Vec<f32>>,
}

fn golden_of(name: &str) -> PathBuf {
    golden().join(name).join("golden.safetensors")
}

fn expected(name: &str) -> Result<Golden> {
    let bytes = std::fs::read(golden_of(name))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::failed(e.to_string()))?;
    let words = |key: &str| -> Result<Vec<[u8; 4]>> {
        let data = file.tensor(key).map_err(|e| Error::failed(e.to_string()))?;
        Ok(data.data().as_chunks::<4>().0.to_vec())
    };
    let ids: Vec<u32> = words("ids")?.into_iter().map(u32::from_le_bytes).collect();
    Ok(Golden {
        ids: ids.chunks(ids.len() / 3).map(<[u32]>::to_vec).collect(),
        logits: words("logits")?.into_iter().map(f32::from_le_bytes).collect(),
        greedy: words("greedy")?.into_iter().map(u32::from_le_bytes).collect(),
        pieces: words("pieces").ok().map(|words| words.into_iter().map(f32::from_le_bytes).collect()),
    })
}

/// Logits of the last eight positions of rows of equal length.
fn last_logits(llm: &Llm, hidden: Tensor<3>) -> Result<Vec<f32>> {
    let [b, t, d] = hidden.dims();
    values(llm.logits(hidden.narrow(1, t - 8, 8).reshape([b * 8, d])))
}

#[test]
fn logits_are_those_of_transformers() -> Result<()> {
    let device = device();
    for name in names()? {
        let (llm, golden) = (load(&name)?, expected(&name)?);
        let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
        let whole = last_logits(&llm, llm.hidden(llm.embed_rows(&rows, &device)?)?)?;
        let d = difference(&whole, &golden.logits);
        // The same sequence in three pieces through a cache.
        let mut cache = KvCache::new();
        let t = rows[0].len();
        let cuts = [0, t / 3, t - 4, t];
        let mut pieces = Vec::new();
        for (from, to) in cuts.iter().zip(&cuts[1..]) {
            let part: Vec<&[u32]> = rows.iter().map(|r| &r[*from..*to]).collect();
            pieces.push(llm.extend(llm.embed_rows(&part, &device)?, &[to - from; 3], &mut cache, None)?);
        }
        let e =
            difference(&last_logits(&llm, Tensor::cat(pieces, 1))?, golden.pieces.as_ref().unwrap_or(&golden.logits));
        println!("{name:<20} {d:.1e} {e:.1e}");
        let most = limit(1e-5, 1e-4);
        assert!(d < most && e < most, "{name}: relative difference {d}, with a cache {e}");
    }
    Ok(())
}

#[test]
fn the_portable_way_gives_the_same() -> Result<()> {
    // On an autodiff device the cache stores tensors instead of rows, and some steps use the portable kernels.
    let device = device().autodiff();
    for name in names()? {
        let (llm, golden) = (burn::module::Module::train(load(&name)?), expected(&name)?);
        let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
        let mut cache = KvCache::new();
        let t = rows[0].len();
        let hidden = llm.extend(llm.embed_rows(&rows, &device)?, &[t; 3], &mut cache, None)?;
        let d = difference(&last_logits(&llm, hidden)?, &golden.logits);
        let hidden = llm.hidden(llm.embed_rows(&rows, &device)?)?;
        let e = difference(&last_logits(&llm, hidden)?, &golden.logits);
        let most = limit(1e-5, 1e-4);
        assert!(d < most && e < most, "{name}: relative difference {d}, whole {e}");
    }
    Ok(())
}

#[test]
fn greedy_tokens_are_those_of_transformers() -> Result<()> {
    let device = device();
    for name in names()? {
        let (llm, golden) = (load(&name)?, expected(&name)?);
        let mut cache = KvCache::new();
        let mut next = golden.ids[0].clone();
        let mut made = Vec::new();
        for _ in 0..golden.greedy.len() {
            let hidden = llm.extend(llm.embed_rows(&[&next], &device)?, &[next.len()], &mut cache, None)?;
            let [_, t, d] = hidden.dims();
            let logits = values(llm.logits(hidden.narrow(1, t - 1, 1).reshape([1, d])))?;
            let best = logits.iter().enumerate().fold(0, |best, (i, x)| if *x > logits[best] { i } else { best });
            next = vec![best as u32];
            made.push(best as u32);
        }
        assert_eq!(made, golden.greedy, "{name}");
    }
    Ok(())
}

/// Greedy decoding of each row by itself, after prompts of different lengths that are read in one batch.
fn continued(llm: &Llm, prompts: &[&[u32]], steps: usize) -> Result<Vec<Vec<u32>>> {
    let device = llm.model.norm.weight.as_ref().map_or_else(device, |w| w.val().device());
    let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
    let padded: Vec<Vec<u32>> = prompts
        .iter()
        .map(|p| {
            let mut row = p.to_vec();
            row.resize(longest, 0);
            row
        })
        .collect();
    let mut real: Vec<usize> = prompts.iter().map(|p| p.len()).collect();
    let (mut next, mut cache) = (padded, KvCache::new());
    let mut made = vec![Vec::new(); prompts.len()];
    for _ in 0..steps {
        let rows: Vec<&[u32]> = next.iter().map(Vec::as_slice).collect();
        let hidden = llm.extend(llm.embed_rows(&rows, &device)?, &real, &mut cache, None)?;
        let d = hidden.dims()[2];
        next = Vec::new();
        for (row, (real, made)) in real.iter().zip(&mut made).enumerate() {
            let last = hidden.clone().narrow(0, row, 1).narrow(1, real - 1, 1).reshape([1, d]);
            let logits = values(llm.logits(last))?;
            let best = logits.iter().enumerate().fold(0, |best, (i, x)| if *x > logits[best] { i } else { best });
            made.push(best as u32);
            next.push(vec![best as u32]);
        }
        real = vec![1; prompts.len()];
    }
    Ok(made)
}

#[test]
fn a_sequence_that_grows_past_where_its_angles_change_goes_on_as_in_transformers() -> Result<()> {
    // `generate` of transformers 4.57 and 5.24, with and without a cache, from the first 30 ids
    // (tests/reference/llm.py).
    let (llm, golden) = (load("phi3-long")?, expected("phi3-long")?);
    let bytes = std::fs::read(golden_of("phi3-long"))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::failed(e.to_string()))?;
    let grown = file.tensor("grown").map_err(|e| Error::failed(e.to_string()))?;
    let grown: Vec<u32> = grown.data().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let prompt = &golden.ids[0][..30];
    assert_eq!(continued(&llm, &[prompt], grown.len())?, std::slice::from_ref(&grown));
    // In a batch with rows that cross the length at another step, that are already beyond it, and that never cross it.
    let rows = [&golden.ids[1][..45], prompt, &golden.ids[2][..60], &golden.ids[0][..3]];
    let together = continued(&llm, &rows, grown.len())?;
    assert_eq!(together[1], grown);
    for (row, together) in rows.iter().zip(&together) {
        assert_eq!(&continued(&llm, &[row], grown.len())?[0], together);
    }
    // A row that is selected from its batch before it crosses the length.
    let device = device();
    let mut cache = KvCache::new();
    llm.extend(llm.embed_rows(&[&golden.ids[1][..30], prompt], &device)?, &[30; 2], &mut cache, None)?;
    let mut picked = cache.select(&[1], llm.config().kv_heads());
    let hidden = llm.extend(llm.embed_rows(&[&grown[..30]], &device)?, &[30], &mut picked, None)?;
    let whole = [prompt, &grown[..30]].concat();
    let wanted = llm.hidden(llm.embed_rows(&[&whole], &device)?)?.narrow(1, 52, 8);
    assert!(difference(&values(hidden.narrow(1, 22, 8))?, &values(wanted)?) < limit(1e-5, 1e-4));
    // Changes by a connector between the blocks cannot be recomputed.
    let mut cache = KvCache::new();
    let mut after = |_: usize, x: Tensor<3>| Ok(x);
    llm.extend(llm.embed_rows(&[&[3; 47]], &device)?, &[47], &mut cache, Some(&mut after))?;
    let e = llm.extend(llm.embed_rows(&[&[3, 3]], &device)?, &[2], &mut cache, None).unwrap_err();
    assert!(e.to_string().contains("48") && e.hint_text().is_some(), "{e}");
    Ok(())
}

#[test]
fn a_configuration_survives_its_file() -> Result<()> {
    for name in names()? {
        let config: LlmConfig = atomic::read_json(&golden().join(&name).join("config.json"))?;
        let again: LlmConfig = serde_json::from_str(&serde_json::to_string(&config)?)?;
        assert_eq!(config, again, "{name}");
        let llm = load(&name)?;
        assert_eq!(burn::module::Module::num_params(&llm), config.parameters(), "{name}");
    }
    Ok(())
}

#[test]
fn both_versions_of_the_library_write_the_same_model() -> Result<()> {
    // Files of `transformers` 4.57 (tests/reference/llm_v4.py) against those of 5.24.
    for name in names()? {
        let mut four: LlmConfig = atomic::read_json(&golden().with_file_name("llm-v4").join(format!("{name}.json")))?;
        let mut five: LlmConfig = atomic::read_json(&golden().join(&name).join("config.json"))?;
        if ["cohere", "olmo3"].contains(&name.as_str()) {
            // Their files omit the bases of the angles, whose defaults differ in version 5.
            (five.rope_theta, five.rope_local_base_freq) = (four.rope_theta, four.rope_local_base_freq);
        }
        for layer in 0..five.num_hidden_layers {
            assert_eq!((four.window(layer), four.rotates(layer)), (five.window(layer), five.rotates(layer)), "{name}");
        }
        // One version writes this key, the other derives it.
        for config in [&mut four, &mut five] {
            (config.head_dim, config.layer_types) = (Some(config.head_width()), None);
        }
        assert_eq!(four, five, "{name}");
    }
    Ok(())
}

#[test]
fn adapters_change_nothing_until_they_learn_and_merge_without_a_trace() -> Result<()> {
    let device = device();
    let (llm, golden) = (load("qwen2-yarn")?, expected("qwen2-yarn")?);
    let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
    let read = |llm: &Llm| values(llm.hidden(llm.embed_rows(&rows, &device)?)?);
    let plain = read(&llm)?;
    let targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"].map(String::from);
    let mut adapted = llm.clone().with_lora(3, 6.0, &targets, 1)?;
    assert!(difference(&read(&adapted)?, &plain) < limit(1e-6, 1e-5));
    for block in &mut adapted.model.layers {
        let inner = block.mlp.iter_mut().map(|mlp| &mut mlp.down_proj);
        for layer in [&mut block.self_attn.q_proj, &mut block.self_attn.v_proj].into_iter().chain(inner) {
            if let Some(lora) = &mut layer.lora {
                lora.b = lora.b.clone().map(|b| b.add_scalar(0.05));
            }
        }
    }
    let changed = read(&adapted)?;
    assert!(difference(&changed, &plain) > 1e-2);
    assert!(difference(&read(&adapted.merge_lora())?, &changed) < limit(1e-5, 1e-4));
    let bad = llm.with_lora(3, 6.0, &["lm_head".to_string()], 1);
    assert!(bad.err().is_some_and(|e| e.hint_text().is_some_and(|h| h.contains("gate_proj"))));
    Ok(())
}
