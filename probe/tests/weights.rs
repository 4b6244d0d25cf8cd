//! Language models from files: every family from GGUF as from Hugging Face's layout (goldens of
//! `tests/reference/llm_gguf.py` and `llm.py`), the layouts of the hub, and error messages for files that do not fit.

mod common;

use burgess_base::{Error, Result, digest};
use burgess_encoders::checkpoint::{self, Checkpoint, Precision};
use burgess_probe::llm::{Llm, Tokenizer, TokenizerSource, Weights};
use burn::tensor::{Device, Tensor};
use common::difference;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// All parameters by path, as f32 values.
fn values(llm: &Llm) -> Result<BTreeMap<String, Vec<f32>>> {
    let mut all = BTreeMap::new();
    checkpoint::visit_parameters(llm, |parameter, values| {
        all.insert(parameter.path, values);
        Ok(())
    })?;
    Ok(all)
}

fn load(path: &Path) -> Result<Llm> {
    Ok(Weights::open_path(path)?.load(&Device::flex())?.0)
}

/// Logits of the last eight positions of a golden's ids.
fn last_logits(llm: &Llm, name: &str) -> Result<Vec<f32>> {
    let bytes = std::fs::read(golden("llm").join(name).join("golden.safetensors"))?;
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| Error::failed(e.to_string()))?;
    let ids = file.tensor("ids").map_err(|e| Error::failed(e.to_string()))?;
    let ids: Vec<u32> = ids.data().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let rows: Vec<&[u32]> = ids.chunks(ids.len() / 3).collect();
    let hidden = llm.hidden(llm.embed_rows(&rows, &Device::flex())?)?;
    let [b, t, d] = hidden.dims();
    let logits: Tensor<2> = llm.logits(hidden.narrow(1, t - 8, 8).reshape([b * 8, d]));
    logits.try_into_vec_as().map_err(|e| Error::failed(e.to_string()))
}

fn expected_logits(file: &Path) -> Result<Vec<f32>> {
    Checkpoint::open(file)?.read("logits")
}

/// The goldens in GGUF, each as `(model, quantisation, path)`.
fn gguf_goldens() -> Result<Vec<(String, String, PathBuf)>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(golden("llm-gguf"))? {
        let path = item?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((model, how)) = name.strip_suffix(".gguf").and_then(|name| name.split_once('.')) {
            found.push((model.to_string(), how.to_string(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn gguf_gives_the_weights_and_logits_of_transformers() -> Result<()> {
    for (model, how, path) in gguf_goldens()? {
        let llm = load(&path)?;
        let same = load(&golden("llm").join(&model))?;
        let (found, wanted) = (values(&llm)?, values(&same)?);
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{model}");
        let mut most = 0f64;
        for (name, wanted) in &wanted {
            most = most.max(difference(&found[name], wanted));
        }
        let logits = match how.as_str() {
            "f32" => golden("llm").join(&model).join("golden.safetensors"),
            _ => path.with_extension("safetensors"),
        };
        let d = difference(&last_logits(&llm, &model)?, &expected_logits(&logits)?);
        println!("{model:<18} {how} weights {most:.1e} logits {d:.1e}");
        assert!(d < 1e-5, "{model} {how}: logits differ by {d}");
        // f32 weights are equal bit by bit; quantised ones differ by rounding.
        assert!(most <= if how == "f32" { 0.0 } else { 1e-2 }, "{model} {how}: weights differ by {most}");
    }
    Ok(())
}

#[test]
fn the_metadata_of_gguf_are_the_configuration() -> Result<()> {
    for (model, how, path) in gguf_goldens()? {
        let (found, same) = (Weights::open_path(&path)?, Weights::open_path(&golden("llm").join(&model))?);
        let (a, b) = (found.config(), same.config());
        assert_eq!(a.parameters(), b.parameters(), "{model}");
        assert_eq!((a.model_type, a.activation), (b.model_type, b.activation), "{model}");
        assert_eq!(
            (a.rms_norm_eps, a.rope_theta, a.rope_local_base_freq),
            (b.rms_norm_eps, b.rope_theta, b.rope_local_base_freq)
        );
        assert_eq!((a.head_width(), a.rotated_width()), (b.head_width(), b.rotated_width()), "{model}");
        assert_eq!((a.kv_heads(), a.max_position_embeddings), (b.kv_heads(), b.max_position_embeddings), "{model}");
        // GGUF has no key for StarCoder 2's window.
        for layer in (0..a.num_hidden_layers).filter(|_| model != "starcoder2") {
            assert_eq!(a.window(layer), b.window(layer), "{model} {how} layer {layer}");
        }
        // The scalings of Llama 3 and of long contexts are stored in another form; equal logits show that they mean the
        // same.
        if !["llama-3", "phi3-long"].contains(&model.as_str()) {
            assert_eq!(a.rope_scaling, b.rope_scaling, "{model}");
        }
        assert_eq!(
            (0..a.num_hidden_layers).map(|i| a.rotates(i)).collect::<Vec<_>>(),
            (0..b.num_hidden_layers).map(|i| b.rotates(i)).collect::<Vec<_>>(),
            "{model}"
        );
        let id = |weights: &Weights, name: &str| weights.json()[name].as_u64();
        for name in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            assert_eq!(id(&found, name), id(&same, name), "{model}: {name}");
        }
    }
    Ok(())
}

/// Tensors by name: shape and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of a golden model.
fn tensors(model: &str) -> Result<Tensors> {
    let file = Checkpoint::open(&golden("llm").join(model))?;
    let one = |key: &str| Ok((key.to_string(), (file.shape(key).unwrap_or_default().to_vec(), file.read(key)?)));
    file.keys().map(one).collect()
}

fn write(tensors: &Tensors, dtype: Dtype, path: &Path) -> Result<()> {
    let bytes = |v: &f32| match dtype {
        Dtype::F16 => f16::from_f32(*v).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f32(*v).to_le_bytes().to_vec(),
        _ => v.to_le_bytes().to_vec(),
    };
    let data: Vec<(&String, &[usize], Vec<u8>)> =
        tensors.iter().map(|(k, (shape, v))| (k, shape.as_slice(), v.iter().flat_map(bytes).collect())).collect();
    let views = data.iter().map(|(k, shape, data)| (k, TensorView::new(dtype, shape.to_vec(), data).expect("fits")));
    std::fs::write(path, safetensors::serialize(views, None).map_err(|e| Error::failed(e.to_string()))?)?;
    Ok(())
}

/// A directory with the configuration of a golden model.
fn directory(model: &str) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    std::fs::copy(golden("llm").join(model).join("config.json"), dir.path().join("config.json"))?;
    Ok(dir)
}

#[test]
fn every_layout_of_the_hub_is_read() -> Result<()> {
    for model in ["llama-3", "qwen2-yarn", "qwen3", "phi3-mini", "gemma3", "glm4", "starcoder2", "mixtral", "olmo2"] {
        let (all, exact) = (tensors(model)?, values(&load(&golden("llm").join(model))?)?);
        for dtype in [Dtype::F16, Dtype::BF16] {
            let dir = directory(model)?;
            write(&all, dtype, &dir.path().join("model.safetensors"))?;
            let found = values(&load(dir.path())?)?;
            let round =
                |v: &f32| if dtype == Dtype::F16 { f16::from_f32(*v).to_f32() } else { bf16::from_f32(*v).to_f32() };
            for (name, exact) in &exact {
                assert_eq!(found[name], exact.iter().map(round).collect::<Vec<_>>(), "{model} {dtype:?}: {name}");
            }
        }
        // In shards, and with tensors that older versions saved in addition.
        let dir = directory(model)?;
        let mut shards = [BTreeMap::new(), BTreeMap::new()];
        let mut all = all.clone();
        let table = |n: f32| (vec![2], vec![1.0, n]);
        all.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), table(0.1));
        all.insert("model.layers.1.self_attn.rotary_emb.inv_freq".into(), table(0.1));
        let tied = !all.contains_key("lm_head.weight");
        if tied {
            all.insert("lm_head.weight".into(), all["model.embed_tokens.weight"].clone());
        }
        let mut index = BTreeMap::new();
        for (number, (name, tensor)) in all.into_iter().enumerate() {
            index.insert(name.clone(), format!("model-{:05}-of-00002.safetensors", number % 2 + 1));
            shards[number % 2].insert(name, tensor);
        }
        for (number, shard) in shards.iter().enumerate() {
            write(shard, Dtype::F32, &dir.path().join(format!("model-{:05}-of-00002.safetensors", number + 1)))?;
        }
        let index = serde_json::json!({"metadata": {}, "weight_map": index});
        std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string())?;
        let (llm, report) = Weights::open_path(dir.path())?.load(&Device::flex())?;
        assert_eq!(values(&llm)?, exact, "{model}");
        assert_eq!(report.ignored.len(), 2 + usize::from(tied), "{model}: {:?}", report.ignored);
    }
    Ok(())
}

#[test]
fn a_fused_model_is_written_as_it_was_read() -> Result<()> {
    for model in
        ["phi3-mini", "phi3-long", "glm", "glm4", "starcoder2", "mixtral", "qwen2-moe", "qwen3-moe", "olmoe", "olmo"]
    {
        let llm = load(&golden("llm").join(model))?;
        let dir = directory(model)?;
        let path = dir.path().join("model.safetensors");
        checkpoint::save(&llm, llm.config().model_type.dialect, "", Precision::F32, &path)?;
        let (written, original) = (Checkpoint::open(&path)?, Checkpoint::open(&golden("llm").join(model))?);
        assert_eq!(written.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>());
        for key in original.keys() {
            assert_eq!((written.shape(key), written.read(key)?), (original.shape(key), original.read(key)?), "{key}");
        }
        assert_eq!(values(&load(dir.path())?)?, values(&llm)?);
    }
    Ok(())
}

fn complaint(dir: &Path) -> (String, String) {
    let error = load(dir).unwrap_err();
    (error.to_string(), error.hint_text().unwrap_or("none").to_string())
}

#[test]
fn what_does_not_fit_is_listed() -> Result<()> {
    let dir = directory("phi3-mini")?;
    let mut all = tensors("phi3-mini")?;
    all.remove("model.layers.1.self_attn.qkv_proj.weight");
    all.insert("model.norm.weight".into(), (vec![3], vec![0.0; 3]));
    all.insert("model.layers.2.mlp.down_proj.weight".into(), (vec![1], vec![0.0]));
    write(&all, Dtype::F32, &dir.path().join("model.safetensors"))?;
    let (text, _) = complaint(dir.path());
    assert!(text.contains("1 tensor missing in the file: model.layers.1.self_attn.qkv_proj.weight"), "{text}");
    assert!(text.contains("1 tensor not used by the module: model.layers.2.mlp.down_proj.weight"), "{text}");
    assert!(text.contains("1 tensor with a wrong shape: model.norm.weight: expected [32], found [3]"), "{text}");

    // A configuration with other sizes.
    let dir = directory("qwen3")?;
    write(&tensors("llama-tied")?, Dtype::F32, &dir.path().join("model.safetensors"))?;
    let (text, _) = complaint(dir.path());
    assert!(text.contains("q_norm.weight") && text.contains("does not match"), "{text}");

    let dir = directory("qwen3")?;
    let (text, hint) = complaint(dir.path());
    assert!(text.contains("there are no weights") && hint.contains("model.safetensors"), "{text} {hint}");
    write(&tensors("qwen3")?, Dtype::F32, &dir.path().join("model.safetensors"))?;
    std::fs::remove_file(dir.path().join("config.json"))?;
    assert!(complaint(dir.path()).0.contains("config.json"));
    assert!(complaint(&dir.path().join("model.safetensors")).1.contains(".gguf"));
    std::fs::write(dir.path().join("config.json"), r#"{"model_type":"mamba"}"#)?;
    assert!(complaint(dir.path()).0.contains("mamba"));
    Ok(())
}

#[test]
fn sizes_are_compared_with_the_file_before_anything_is_built() -> Result<()> {
    let config = std::fs::read_to_string(golden("llm/llama-tied/config.json"))?;
    let cases = [
        ("num_hidden_layers", "1000000000000000000", "the file has 2 layers"),
        ("num_hidden_layers", "300000", "the file has 2 layers"),
        ("num_hidden_layers", "3", "the file has 2 layers"),
        ("hidden_size", "4096", "the file has 32 columns of embeddings"),
        ("hidden_size", "1e12", "the file has 32 columns of embeddings"),
        ("vocab_size", "1000000000000", "the file has 71 rows of embeddings"),
        ("intermediate_size", "47", "the file has 48 inputs"),
    ];
    for (key, value, found) in cases {
        let dir = tempfile::tempdir()?;
        std::fs::copy(golden("llm/llama-tied/model.safetensors"), dir.path().join("model.safetensors"))?;
        let mut json: serde_json::Value = serde_json::from_str(&config)?;
        json[key] = serde_json::from_str(value)?;
        std::fs::write(dir.path().join("config.json"), json.to_string())?;
        let (text, hint) = complaint(dir.path());
        assert!(
            text.contains(&format!("`{key}`")) && text.contains(found) && hint.contains("different models"),
            "{text}"
        );
    }
    // In GGUF a value follows its key, after four bytes for the type.
    let mut bytes = std::fs::read(golden("llm-gguf/llama-tied.q8.gguf"))?;
    let key = b"llama.block_count";
    let at = bytes.windows(key.len()).position(|w| w == key).expect("the key is in the file") + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&300_000u32.to_le_bytes());
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, bytes)?;
    let (text, _) = complaint(&path);
    assert!(text.contains("`llama.block_count` is 300000, but the file has 2 layers"), "{text}");
    Ok(())
}

#[test]
fn a_tokenizer_larger_than_its_embedding_is_noticed_when_it_is_opened() -> Result<()> {
    let weights = Weights::open_path(&golden("llm/llama-tied"))?;
    let small = Tokenizer::from_bytes(words(71, &[]).as_bytes())?;
    weights.check_tokenizer(&small)?;
    let error = weights.check_tokenizer(&Tokenizer::from_bytes(words(72, &[]).as_bytes())?).unwrap_err();
    assert!(error.to_string().contains("72 entries") && error.to_string().contains("71"), "{error}");
    // A special token beyond the embedding table is allowed.
    weights.check_tokenizer(&Tokenizer::from_bytes(words(71, &["<image>"]).as_bytes())?)
}

/// A `tokenizer.json` of `n` words, followed by special tokens.
fn words(n: usize, specials: &[&str]) -> String {
    let vocabulary: BTreeMap<String, usize> = (0..n).map(|i| (format!("w{i}"), i)).collect();
    let special = |(i, text): (usize, &&str)| {
        serde_json::json!({"id": n + i, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    serde_json::json!({
        "version": "1.0", "added_tokens": specials.iter().enumerate().map(special).collect::<Vec<_>>(),
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    })
    .to_string()
}

/// A golden file with one text replaced by another of the same length.
fn replaced(from: &str, to: &str) -> Result<(String, String)> {
    let mut bytes = std::fs::read(golden("llm-gguf/llama-tied.q8.gguf"))?;
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("the text is in the file");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, bytes)?;
    Ok(complaint(&path))
}

#[test]
fn gguf_of_other_networks_is_refused() -> Result<()> {
    // The first occurrence is the architecture's name.
    let (text, hint) = replaced("llama", "mamba")?;
    assert!(text.contains("architecture `mamba`") && hint.contains("llama, qwen2"), "{text} {hint}");
    let (text, hint) = replaced("llama.block_count", "llama.block_kount")?;
    assert!(text.contains("the metadata lack `llama.block_count`") && hint.contains("converter"), "{text} {hint}");
    let (text, _) = replaced("blk.1.attn_q.weight", "blk.1.attn_x.weight")?;
    assert!(text.contains("missing in the file: blk.1.attn_q.weight"), "{text}");
    assert!(text.contains("not used by the module: blk.1.attn_x.weight"), "{text}");
    Ok(())
}

#[test]
fn numbers_of_gguf_that_are_not_finite_are_named() -> Result<()> {
    let whole = std::fs::read(golden("llm-gguf/llama-tied.q8.gguf"))?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("model.gguf");
    let key = b"llama.rope.freq_base";
    let at = whole.windows(key.len()).position(|w| w == key).expect("the key is in the file") + key.len() + 4;
    for bad in [f32::NAN, f32::INFINITY] {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
        std::fs::write(&path, bytes)?;
        let (text, _) = complaint(&path);
        assert!(text.contains(&format!("`llama.rope.freq_base` is {bad}")), "{text}");
    }
    // Scales of blocks: these bytes are NaN as 16-bit floats and a large number as 32-bit ones.
    let mut bytes = whole.clone();
    let from = whole.len() * 3 / 4 / 2 * 2;
    bytes[from..].chunks_exact_mut(2).for_each(|two| two.copy_from_slice(&[0, 0x7e]));
    std::fs::write(&path, bytes)?;
    let (text, hint) = complaint(&path);
    assert!(text.contains("tensor `blk.") && text.contains("not finite") && hint.contains("damaged"), "{text}");
    // Missing metadata are assumed, and a note says so.
    std::fs::write(&path, &whole)?;
    let of_rope =
        |weights: &Weights| Ok::<_, Error>(weights.notes()?.iter().filter(|n| n.contains("freq_base")).count());
    assert_eq!(of_rope(&Weights::open_path(&path)?)?, 0);
    let mut bytes = whole;
    bytes[at - 5] = b'X';
    std::fs::write(&path, bytes)?;
    assert_eq!(of_rope(&Weights::open_path(&path)?)?, 1);
    Ok(())
}

#[test]
fn models_are_found_by_every_kind_of_name() -> Result<()> {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo/nano-lm");
    let named = Weights::open("nano-lm")?;
    assert_eq!(named.config(), Weights::open_path(&zoo)?.config());
    assert!(matches!(named.tokenizer_source()?, TokenizerSource::Json(path) if path.ends_with("tokenizer.json")));
    let files = ["config.json", "chat.json", "tokenizer.json", "model.safetensors"].map(|f| zoo.join(f));
    let parts: Result<Vec<String>> = files.iter().map(|f| digest::of_file(f)).collect();
    assert_eq!(named.digest()?, digest::of_value(&parts?)?);

    let file = golden("llm-gguf/qwen3.q8.gguf");
    let weights = Weights::open(&file.display().to_string())?;
    assert!(weights.tokenizer_source().unwrap_err().hint_text().is_some_and(|h| h.contains("tokenizer.model")));
    // The only GGUF file of a directory, which may contain files of other kinds.
    let dir = tempfile::tempdir()?;
    std::fs::copy(&file, dir.path().join("a.gguf"))?;
    std::fs::write(dir.path().join("mmproj-a.gguf"), b"")?;
    std::fs::write(dir.path().join("tokenizer.model"), b"")?;
    let inside = Weights::open_path(dir.path())?;
    assert_eq!(inside.config(), weights.config());
    assert!(matches!(inside.tokenizer_source()?, TokenizerSource::SentencePiece(_)));
    std::fs::copy(&file, dir.path().join("b.gguf"))?;
    let (text, hint) = complaint(dir.path());
    assert!(text.contains("a.gguf, b.gguf") && hint.contains("the path of the file"), "{text} {hint}");

    let error = Weights::open("nobody/no-such-model").unwrap_err();
    assert_eq!(error.download_name(), Some("nobody/no-such-model"), "{error}");
    let error = Weights::open("smollm2-135m-instruct").unwrap_err();
    assert!(error.to_string().contains("HuggingFaceTB/SmolLM2-135M-Instruct is not on this machine"), "{error}");
    let error = Weights::open("nano-ml").unwrap_err();
    assert!(error.hint_text().is_some_and(|h| h.contains("nano-lm")), "{error}");
    assert_eq!(error.exit_code(), 2);
    Ok(())
}
