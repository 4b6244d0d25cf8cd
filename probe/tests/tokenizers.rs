//! Tokenizers against the reference: ids and decoded texts of difficult texts, from `tests/reference/tokenization.py`.

use burgess_base::{Error, Result};
use burgess_probe::llm::Tokenizer;
use burgess_probe::llm::tokenizer::GgufTokenizer;
use burgess_probe::llm::tokenizer::proto::{ModelProto, PieceType};
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Expected {
    ids: Vec<Vec<u32>>,
    /// Decoded texts: of all ids, and of those from the second on.
    texts: Vec<[String; 2]>,
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizers").join(name)
}

fn json<T: for<'de> Deserialize<'de>>(path: &str) -> Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(golden(path))?)?)
}

/// Every text as ids, with the byte ranges of its tokens, and decoded again.
fn same(name: &str, what: &str, tokenizer: &Tokenizer) -> Result<()> {
    let page: Vec<String> = json("page.json")?;
    let expected: Expected = json(&format!("{name}/expected.json"))?;
    assert_eq!(page.len(), expected.ids.len());
    let mut wrong = Vec::new();
    for ((text, ids), back) in page.iter().zip(&expected.ids).zip(&expected.texts) {
        let ours = tokenizer.encode(text)?;
        if ours != *ids {
            wrong.push(format!("{text:?}\n  {ours:?}\n  {ids:?}"));
            continue;
        }
        let (placed, places) = tokenizer.encode_with_offsets(text)?;
        assert_eq!(placed, *ids, "{text:?}");
        assert!(places.iter().all(|p| p.end <= text.len()), "{text:?}: {places:?}");
        for (part, back) in [Some(ids.as_slice()), ids.get(1..)].into_iter().zip(back) {
            let decoded = tokenizer.decode(part.unwrap_or_default())?;
            if decoded != *back {
                wrong.push(format!("decoded {text:?}\n  {decoded:?}\n  {back:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{what}: {} of {} texts differ\n{}", wrong.len(), page.len(), wrong.join("\n"));
    Ok(())
}

/// The same after the tokenizer was saved as a `tokenizer.json` and `tokenizer_config.json`.
fn same_and_saved(name: &str, what: &str, tokenizer: &Tokenizer) -> Result<()> {
    same(name, what, tokenizer)?;
    let dir = tempfile::tempdir()?;
    tokenizer.save(&dir.path().join("tokenizer.json"))?;
    let again = Tokenizer::open(dir.path())?;
    assert_eq!(tokenizer.special(), again.special(), "{what}");
    same(name, &format!("{what}, saved"), &again)
}

#[test]
fn every_kind_gives_the_ids_of_the_reference() -> Result<()> {
    for name in ["llama", "llama-new", "phi", "yi", "unigram", "gpt-2", "smollm", "llama-bpe", "qwen2"] {
        same_and_saved(name, name, &Tokenizer::open(&golden(name))?)?;
    }
    Ok(())
}

#[test]
fn special_ids_are_what_the_files_say() -> Result<()> {
    let all = |name: &str| -> Result<_> {
        let t = Tokenizer::open(&golden(name))?;
        let s = t.special().clone();
        Ok((s.bos, s.eos, s.pad, s.unk, s.add_bos, s.ends, s.legacy))
    };
    assert_eq!(all("llama")?, (Some(1), Some(2), None, Some(0), true, vec![2], Some(true)));
    assert_eq!(all("llama-new")?, (Some(1), Some(2), None, Some(0), true, vec![2], Some(false)));
    let t = Tokenizer::open(&golden("phi"))?;
    let end = t.id("<|endoftext|>")?;
    assert_eq!(all("phi")?, (Some(1), Some(end), Some(end), Some(0), true, vec![end], Some(false)));
    let t = Tokenizer::open(&golden("llama-bpe"))?;
    let (bos, end, eot) = (t.id("<|begin_of_text|>")?, t.id("<|end_of_text|>")?, t.id("<|eot_id|>")?);
    assert_eq!(all("llama-bpe")?, (Some(bos), Some(eot), None, None, true, vec![end, eot], None));
    assert_eq!(t.encode_text("a")?.first(), Some(&bos));
    assert_eq!(all("gpt-2")?, (None, None, None, None, false, vec![], None));
    Ok(())
}

/// GGUF fields that were made from a `tokenizer.json`.
fn gguf_of(name: &str) -> Result<GgufTokenizer> {
    let file: Value = json(&format!("{name}/tokenizer.json"))?;
    let missing = || Error::failed("not the expected tokenizer.json");
    let vocab = file.pointer("/model/vocab").and_then(Value::as_object).ok_or_else(missing)?;
    let added = file.pointer("/added_tokens").and_then(Value::as_array).ok_or_else(missing)?;
    let mut tokens: Vec<(u64, String, u64)> =
        vocab.iter().map(|(t, id)| (id.as_u64().unwrap_or(0), t.clone(), 1)).collect();
    for token in added {
        let text = token.get("content").and_then(Value::as_str).ok_or_else(missing)?;
        tokens.push((token.get("id").and_then(Value::as_u64).ok_or_else(missing)?, text.to_string(), 3));
    }
    tokens.sort();
    let merges = file.pointer("/model/merges").and_then(Value::as_array).ok_or_else(missing)?;
    let pair = |m: &Value| Some(format!("{} {}", m.get(0)?.as_str()?, m.get(1)?.as_str()?));
    Ok(GgufTokenizer {
        model: "gpt2".into(),
        pre: Some(name.into()),
        token_type: tokens.iter().map(|t| t.2).collect(),
        tokens: tokens.into_iter().map(|t| t.1).collect(),
        merges: merges.iter().map(pair).collect::<Option<_>>().ok_or_else(missing)?,
        ..GgufTokenizer::default()
    })
}

#[test]
fn byte_level_gguf_is_its_tokenizer_json() -> Result<()> {
    for name in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
        let mut gguf = gguf_of(name)?;
        gguf.bos_token_id = Some(460);
        gguf.eos_token_id = Some(461);
        let n = gguf.tokens.len() as u32;
        gguf.eot_token_id = Some(n - 1);
        gguf.chat_template = Some("{{ messages }}".into());
        if name == "gpt-2" {
            (gguf.eos_token_id, gguf.eot_token_id) = (Some(460), None);
        }
        let t = Tokenizer::from_gguf(&gguf)?;
        same_and_saved(name, &format!("{name} as GGUF"), &t)?;
        assert_eq!(t.special().add_bos, name == "llama-bpe");
        assert!(t.special().ends.contains(&gguf.eos_token_id.unwrap_or(0)));
        assert_eq!(t.special().chat_template.as_deref(), Some("{{ messages }}"));
    }
    Ok(())
}

/// GGUF fields that were made from a `tokenizer.model`.
fn gguf_of_model(name: &str) -> Result<GgufTokenizer> {
    let model = ModelProto::parse(&std::fs::read(golden(name).join("tokenizer.model"))?)?;
    let number = |piece_type: PieceType| match piece_type {
        PieceType::Normal => 1,
        PieceType::Unknown => 2,
        PieceType::Control => 3,
        PieceType::UserDefined => 4,
        PieceType::Unused => 5,
        PieceType::Byte => 6,
    };
    Ok(GgufTokenizer {
        model: "llama".into(),
        tokens: model.pieces.iter().map(|p| p.text.clone()).collect(),
        scores: model.pieces.iter().map(|p| p.score).collect(),
        token_type: model.pieces.iter().map(|p| number(p.piece_type)).collect(),
        ..GgufTokenizer::default()
    })
}

#[test]
fn sentencepiece_gguf_is_its_model() -> Result<()> {
    let t = Tokenizer::from_gguf(&gguf_of_model("llama")?)?;
    same_and_saved("llama", "llama as GGUF", &t)?;
    assert_eq!((t.special().bos, t.special().add_bos, t.special().ends.as_slice()), (Some(1), true, [2].as_slice()));
    // Phi-3's special tokens strip the white space after them.
    let mut gguf = gguf_of_model("llama")?;
    gguf.architecture = Some("phi3".into());
    gguf.tokens.push("<|user|>".into());
    gguf.scores.push(0.0);
    gguf.token_type.push(3);
    let t = Tokenizer::from_gguf(&gguf)?;
    assert_eq!(t.encode("<|user|>\n a")?, t.encode("<|user|>a")?);
    assert_ne!(t.encode("<s>\n a")?, t.encode("<s>a")?);
    Ok(())
}

#[test]
fn broken_vocabularies_say_what_is_wrong() -> Result<()> {
    let fails = |gguf: &GgufTokenizer, what: &str| match Tokenizer::from_gguf(gguf) {
        Ok(_) => panic!("accepted, although: {what}"),
        Err(e) => assert!(e.to_string().contains(what), "{e}"),
    };
    let good = gguf_of("qwen2")?;
    let mut bad = good.clone();
    bad.pre = Some("qwen3".into());
    fails(&bad, "supported are default, gpt-2");
    let mut bad = good.clone();
    bad.model = "bert".into();
    fails(&bad, "supported are gpt2, llama");
    let mut bad = good.clone();
    bad.merges[3] = "nospace".into();
    fails(&bad, "merge 3, `nospace`, is not two tokens");
    let mut bad = good.clone();
    bad.merges[3] = "a zzz".into();
    fails(&bad, "`zzz` is not in the vocabulary");
    let mut bad = good.clone();
    bad.tokens[300] = bad.tokens[299].clone();
    fails(&bad, "entries 299 and 300 are both");
    let mut bad = good.clone();
    bad.token_type[0] = 9;
    fails(&bad, "type 9");
    let mut bad = good.clone();
    bad.bos_token_id = Some(99_999);
    fails(&bad, "`tokenizer.ggml.bos_token_id` is 99999");
    let llama = gguf_of_model("llama")?;
    let mut bad = llama.clone();
    bad.scores.pop();
    fails(&bad, "scores has");
    let mut bad = llama;
    bad.scores[5] = f32::NAN;
    fails(&bad, "the score of entry 5");

    let dir = tempfile::tempdir()?;
    let e = Tokenizer::open(dir.path()).unwrap_err();
    assert!(e.to_string().contains("neither tokenizer.json nor tokenizer.model") && e.hint_text().is_some(), "{e}");
    let model = std::fs::read(golden("unigram").join("tokenizer.model"))?;
    let path = dir.path().join("tokenizer.model");
    for cut in [0, 1, 100, model.len() / 2, model.len() - 1] {
        std::fs::write(&path, &model[..cut])?;
        let e = Tokenizer::open(dir.path()).unwrap_err();
        assert!(e.to_string().contains("tokenizer.model"), "{e}");
    }
    std::fs::write(
        dir.path().join("tokenizer_config.json"),
        r#"{"added_tokens_decoder": {"9999": {"content": "<x>"}}}"#,
    )?;
    std::fs::write(&path, &model)?;
    let e = Tokenizer::open(dir.path()).unwrap_err();
    assert!(e.to_string().contains("`<x>` should have id 9999"), "{e}");
    Ok(())
}

/// Reading a damaged SentencePiece file, and tokenising with it, gives a result or an error and never crashes.
#[test]
fn damaged_models_are_read_or_refused() -> Result<()> {
    let model = std::fs::read(golden("unigram").join("tokenizer.model"))?;
    let page: Vec<String> = json("page.json")?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("tokenizer.model");
    // The normalisation rules are near the end of the file.
    let places = (0..60).map(|i| model.len() - 1 - i * model.len() / 400).chain((0..40).map(|i| i * model.len() / 40));
    for (n, place) in places.enumerate() {
        let mut bytes = model.clone();
        bytes[place] ^= [0xff, 0x80, 0x01][n % 3];
        std::fs::write(&path, &bytes)?;
        if let Ok(t) = Tokenizer::open(dir.path()) {
            for text in &page {
                let _ = t.encode(text);
            }
        }
    }
    Ok(())
}
