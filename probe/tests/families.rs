//! Every family of decoders against `transformers` (goldens of `tests/reference/llm.py`).

mod common;

use burgess_base::{Error, Result, atomic};
use burgess_probe::llm::{KvCache, Llm, LlmConfig, Weights};
use burn::tensor::{Device, Tensor};
use common::{difference, values};
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
    Ok(Weights::open_path(&golden().join(name))?.load(&Device::flex())?.0)
}

struct Golden {
    ids: Vec<Vec<u32>>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

fn expected(name: &str) -> Result<Golden> {
    let bytes = std::fs::read(golden().join(name).join("golden.safetensors"))?;
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
    })
}

/// Logits of the last eight positions of rows of equal length.
fn last_logits(llm: &Llm, hidden: Tensor<3>) -> Result<Vec<f32>> {
    let [b, t, d] = hidden.dims();
    values(llm.logits(hidden.narrow(1, t - 8, 8).reshape([b * 8, d])))
}

#[test]
fn logits_are_those_of_transformers() -> Result<()> {
    let device = Device::flex();
    for name in names()? {
        let (llm, golden) = (load(&name)?, expected(&name)?);
        let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
        let whole = last_logits(&llm, llm.hidden(llm.embed_rows(&rows, &device)?)?)?;
        let d = difference(&whole, &golden.logits);
        // The same through a cache, in three pieces.
        let mut cache = KvCache::new();
        let t = rows[0].len();
        let cuts = if name == "phi3-long" { vec![0, t] } else { vec![0, t / 3, t - 4, t] };
        let mut pieces = Vec::new();
        for (from, to) in cuts.iter().zip(&cuts[1..]) {
            let part: Vec<&[u32]> = rows.iter().map(|r| &r[*from..*to]).collect();
            pieces.push(llm.extend(llm.embed_rows(&part, &device)?, &[to - from; 3], &mut cache, None)?);
        }
        let e = difference(&last_logits(&llm, Tensor::cat(pieces, 1))?, &golden.logits);
        println!("{name:<20} {d:.1e} {e:.1e}");
        assert!(d < 1e-5 && e < 1e-5, "{name}: relative difference {d}, with a cache {e}");
    }
    Ok(())
}

#[test]
fn the_portable_way_gives_the_same() -> Result<()> {
    // A differentiating device has no rows of its own in the cache, and steps of the portable kind where it must.
    let device = Device::flex().autodiff();
    for name in names()? {
        let (llm, golden) = (burn::module::Module::train(load(&name)?), expected(&name)?);
        let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
        let mut cache = KvCache::new();
        let t = rows[0].len();
        let hidden = llm.extend(llm.embed_rows(&rows, &device)?, &[t; 3], &mut cache, None)?;
        let d = difference(&last_logits(&llm, hidden)?, &golden.logits);
        let hidden = llm.hidden(llm.embed_rows(&rows, &device)?)?;
        let e = difference(&last_logits(&llm, hidden)?, &golden.logits);
        assert!(d < 1e-5 && e < 1e-5, "{name}: relative difference {d}, whole {e}");
    }
    Ok(())
}

#[test]
fn greedy_tokens_are_those_of_transformers() -> Result<()> {
    let device = Device::flex();
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

#[test]
fn a_sequence_cannot_grow_past_where_its_angles_change() -> Result<()> {
    let device = Device::flex();
    let llm = load("phi3-long")?;
    let mut cache = KvCache::new();
    llm.extend(llm.embed_rows(&[&[3; 47]], &device)?, &[47], &mut cache, None)?;
    llm.extend(llm.embed_rows(&[&[3]], &device)?, &[1], &mut cache, None)?;
    let e = llm.extend(llm.embed_rows(&[&[3]], &device)?, &[1], &mut cache, None).unwrap_err();
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
fn adapters_change_nothing_until_they_learn_and_merge_without_a_trace() -> Result<()> {
    let device = Device::flex();
    let (llm, golden) = (load("qwen2-yarn")?, expected("qwen2-yarn")?);
    let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
    let read = |llm: &Llm| values(llm.hidden(llm.embed_rows(&rows, &device)?)?);
    let plain = read(&llm)?;
    let targets = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"].map(String::from);
    let mut adapted = llm.clone().with_lora(3, 6.0, &targets, 1)?;
    assert!(difference(&read(&adapted)?, &plain) < 1e-6);
    for block in &mut adapted.model.layers {
        for layer in [&mut block.self_attn.q_proj, &mut block.self_attn.v_proj, &mut block.mlp.down_proj] {
            if let Some(lora) = &mut layer.lora {
                lora.b = lora.b.clone().map(|b| b.add_scalar(0.05));
            }
        }
    }
    let changed = read(&adapted)?;
    assert!(difference(&changed, &plain) > 1e-2);
    assert!(difference(&read(&adapted.merged())?, &changed) < 1e-5);
    let bad = llm.with_lora(3, 6.0, &["lm_head".to_string()], 1);
    assert!(bad.err().is_some_and(|e| e.hint_text().is_some_and(|h| h.contains("gate_proj"))));
    Ok(())
}
