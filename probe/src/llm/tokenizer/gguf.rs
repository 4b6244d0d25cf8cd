//! The tokenizer inside a GGUF file: its metadata under `tokenizer.*`.

use super::proto::{Algorithm, Kind, ModelProto, Piece};
use super::sentencepiece::{self, vocabulary};
use super::special::Special;
use super::split::Splitting;
use super::{Tokenizer, added, begins_with};
use burgess_base::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What a GGUF file says about its tokenizer, each field named after its key under `tokenizer.ggml` (the template's
/// is `tokenizer.chat_template`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufTokenizer {
    /// `gpt2` (byte-level BPE) or `llama` (SentencePiece's BPE).
    pub model: String,
    /// How text is cut before it is merged (`gpt2` only).
    pub pre: Option<String>,
    /// The vocabulary.
    pub tokens: Vec<String>,
    /// A score for each entry (`llama` only).
    pub scores: Vec<f32>,
    /// What each entry is: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; empty: all normal.
    pub token_type: Vec<u64>,
    /// Pairs with a space in between (`gpt2` only).
    pub merges: Vec<String>,
    /// Begins a text.
    pub bos_token_id: Option<u32>,
    /// Ends a text.
    pub eos_token_id: Option<u32>,
    /// Ends a turn.
    pub eot_token_id: Option<u32>,
    /// Ends a message.
    pub eom_token_id: Option<u32>,
    /// Stands for what cannot be written.
    pub unknown_token_id: Option<u32>,
    /// Filler.
    pub padding_token_id: Option<u32>,
    /// Whether a text begins with BOS.
    pub add_bos_token: Option<bool>,
    /// Whether a space is put before a text, and after a special token (`llama` only).
    pub add_space_prefix: Option<bool>,
    /// Whether repeated spaces are one (`llama` only).
    pub remove_extra_whitespaces: Option<bool>,
    /// The Jinja template of conversations.
    pub chat_template: Option<String>,
    /// The kind of network (`general.architecture`).
    pub architecture: Option<String>,
}

/// Networks whose special tokens take the white space after them, which the format has no field for, and the tokens that
/// do not; as in the family's `tokenizer.json`, and in llama.cpp.
const TAKE_SPACE: [(&str, [&str; 3]); 1] = [("phi3", ["<unk>", "<s>", "<|endoftext|>"])];

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// Where the file is silent, llama.cpp's choices are made: text is cut as under `default`; `llama` begins with BOS
    /// (id 1), ends with id 2, has its unknown piece at 0, puts a space before a text and keeps repeated ones; whether
    /// `gpt2` begins with BOS depends on how it cuts.
    ///
    /// # Errors
    /// When the kind or the way of cutting is not known, lists have different lengths, entries repeat, or an id is
    /// outside the vocabulary.
    pub fn from_gguf(gguf: &GgufTokenizer) -> Result<Self> {
        let step = "reading the tokenizer in the GGUF metadata";
        Self::assembled(gguf).map_err(|e| e.context(step))
    }

    fn assembled(gguf: &GgufTokenizer) -> Result<Self> {
        let (pipeline, mut special) = match gguf.model.as_str() {
            "gpt2" => byte_level(gguf)?,
            "llama" => sentence_piece(gguf)?,
            other => {
                return Err(Error::failed(format!(
                    "a tokenizer of kind `{other}` (tokenizer.ggml.model); known are gpt2, llama"
                ))
                .hint("use the model's directory with its tokenizer.json instead"));
            }
        };
        special.pad = gguf.padding_token_id;
        special.chat_template.clone_from(&gguf.chat_template);
        let ends = [special.eos, gguf.eot_token_id, gguf.eom_token_id];
        special.ends = ends.into_iter().flatten().collect();
        special.ends.sort_unstable();
        special.ends.dedup();
        let named = [special.bos, special.pad, special.unk].into_iter().flatten().chain(special.ends.iter().copied());
        for id in named {
            if usize::try_from(id).is_ok_and(|id| id >= gguf.tokens.len()) {
                let n = gguf.tokens.len();
                return Err(Error::failed(format!("a special id is {id}, but there are only {n} entries")));
            }
        }
        Self::from_pipeline(&pipeline, special)
    }
}

fn kinds(gguf: &GgufTokenizer) -> Result<Vec<Kind>> {
    if gguf.token_type.is_empty() {
        return Ok(vec![Kind::Normal; gguf.tokens.len()]);
    }
    same_length("token_type", gguf.token_type.len(), gguf)?;
    gguf.token_type.iter().map(|&t| Kind::from_number(t)).collect()
}

fn same_length(what: &str, length: usize, gguf: &GgufTokenizer) -> Result<()> {
    if length == gguf.tokens.len() {
        return Ok(());
    }
    Err(Error::failed(format!("tokenizer.ggml.{what} has {length} elements, tokens has {}", gguf.tokens.len())))
}

fn token(gguf: &GgufTokenizer, id: Option<u32>) -> Option<(u32, &str)> {
    let id = id?;
    Some((id, gguf.tokens.get(usize::try_from(id).ok()?)?))
}

fn byte_level(gguf: &GgufTokenizer) -> Result<(Value, Special)> {
    let splitting = Splitting::named(gguf.pre.as_deref().unwrap_or("default"))?;
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(gguf.tokens.len());
    for (id, token) in gguf.tokens.iter().enumerate() {
        if let Some(before) = seen.insert(token, id) {
            return Err(Error::failed(format!("entries {before} and {id} are both `{token}`")));
        }
    }
    let mut merges = Vec::with_capacity(gguf.merges.len());
    for (i, merge) in gguf.merges.iter().enumerate() {
        let pair = merge.split_once(' ').ok_or_else(|| Error::failed(format!("merge {i}, `{merge}`, is no pair")))?;
        let made = [pair.0, pair.1].concat();
        if let Some(missing) = [pair.0, pair.1, made.as_str()].into_iter().find(|t| !seen.contains_key(t)) {
            return Err(Error::failed(format!("merge {i}, `{merge}`: there is no entry `{missing}`")));
        }
        merges.push([pair.0, pair.1]);
    }
    let kinds = kinds(gguf)?;
    let add_bos = gguf.add_bos_token.unwrap_or(splitting.add_bos);
    let bos = token(gguf, gguf.bos_token_id).filter(|_| add_bos);
    let pipeline = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": whole(gguf, &kinds),
        "normalizer": null,
        "pre_tokenizer": splitting.pre_tokenizer(),
        "post_processor": bos.map(|(id, token)| begins_with(id, token)),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": splitting.ignore_merges,
            "vocab": vocabulary(gguf.tokens.iter().map(String::as_str)),
            "merges": merges,
        },
    });
    let special = Special {
        bos: gguf.bos_token_id,
        eos: gguf.eos_token_id,
        unk: gguf.unknown_token_id,
        add_bos: bos.is_some(),
        ..Special::default()
    };
    Ok((pipeline, special))
}

fn sentence_piece(gguf: &GgufTokenizer) -> Result<(Value, Special)> {
    same_length("scores", gguf.scores.len(), gguf)?;
    let kinds = kinds(gguf)?;
    if let Some(bad) = gguf.scores.iter().position(|s| !s.is_finite()) {
        return Err(Error::failed(format!("the score of entry {bad} is no number")));
    }
    let entries = gguf.tokens.iter().zip(&gguf.scores).zip(&kinds);
    let model = ModelProto {
        pieces: entries
            .map(|((text, &score), &kind)| Piece {
                text: text.clone(),
                score,
                // Found in the text as it is written, as special tokens are; nothing is merged into them.
                kind: if kind == Kind::UserDefined { Kind::Unused } else { kind },
            })
            .collect(),
        algorithm: Algorithm::Bpe,
        byte_fallback: kinds.contains(&Kind::Byte),
        unk: gguf.unknown_token_id.unwrap_or(0),
        bos: gguf.bos_token_id.or(Some(1)),
        eos: gguf.eos_token_id.or(Some(2)),
        pad: gguf.padding_token_id,
        charsmap: Vec::new(),
        add_dummy_prefix: gguf.add_space_prefix.unwrap_or(true),
        remove_extra_whitespaces: gguf.remove_extra_whitespaces.unwrap_or(false),
        escape_whitespaces: true,
    };
    let add_bos = gguf.add_bos_token.unwrap_or(true);
    let mut pipeline = sentencepiece::pipeline(&model, true, add_bos)?;
    if let Some(fields) = pipeline.as_object_mut() {
        fields.insert("added_tokens".into(), json!(whole(gguf, &kinds)));
    }
    let special = Special {
        bos: model.bos,
        eos: model.eos,
        unk: Some(model.unk),
        add_bos: add_bos && model.bos.is_some(),
        legacy: Some(true),
        ..Special::default()
    };
    Ok((pipeline, special))
}

/// Entries that are found in the text before it is cut, in the order of their ids.
fn whole(gguf: &GgufTokenizer, kinds: &[Kind]) -> Vec<Value> {
    let entries = gguf.tokens.iter().zip(kinds).enumerate();
    let takes = TAKE_SPACE.iter().find(|(network, _)| gguf.architecture.as_deref() == Some(network));
    entries
        .filter_map(|(id, (token, kind))| {
            let mut entry = match kind {
                Kind::Control | Kind::Unknown => added(id, token, true),
                Kind::UserDefined => added(id, token, false),
                Kind::Normal | Kind::Unused | Kind::Byte => return None,
            };
            if let (Some((_, not)), Some(fields)) = (takes, entry.as_object_mut()) {
                fields.insert("rstrip".into(), json!(!not.contains(&token.as_str())));
            }
            Some(entry)
        })
        .collect()
}
