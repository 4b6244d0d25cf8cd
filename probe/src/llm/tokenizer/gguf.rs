//! Reads the tokenizer from the metadata of a GGUF file (`tokenizer.*`).

use super::pre_tokenizer::PreTokenizer;
use super::proto::{ModelProto, Piece, PieceType, SegmentationAlgorithm};
use super::sentencepiece::{self, vocabulary};
use super::special::SpecialTokens;
use super::{Tokenizer, added, begins_with};
use burgess_base::{Error, Result, text};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The tokenizer metadata of a GGUF file; each field is named after its key under `tokenizer.ggml` (the chat template
/// is `tokenizer.chat_template`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufTokenizer {
    /// `gpt2` (byte-level BPE) or `llama` (SentencePiece's BPE).
    pub model: String,
    /// Name of the pre-tokeniser (`gpt2` only).
    pub pre: Option<String>,
    /// The vocabulary, in the order of ids.
    pub tokens: Vec<String>,
    /// Score of each entry (`llama` only).
    pub scores: Vec<f32>,
    /// Type of each entry: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; empty: all normal.
    pub token_type: Vec<u64>,
    /// BPE merges, each two tokens separated by a space (`gpt2` only).
    pub merges: Vec<String>,
    /// Id of the token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Id of the token that ends a text.
    pub eos_token_id: Option<u32>,
    /// Id of the token that ends a turn.
    pub eot_token_id: Option<u32>,
    /// Id of the token that ends a message.
    pub eom_token_id: Option<u32>,
    /// Id of the token for text outside the vocabulary.
    pub unknown_token_id: Option<u32>,
    /// Id of the padding token.
    pub padding_token_id: Option<u32>,
    /// Whether BOS is added before a text.
    pub add_bos_token: Option<bool>,
    /// Whether a space is added before a text and after a special token (`llama` only).
    pub add_space_prefix: Option<bool>,
    /// Whether repeated spaces are collapsed (`llama` only).
    pub remove_extra_whitespaces: Option<bool>,
    /// The Jinja chat template.
    pub chat_template: Option<String>,
    /// The model architecture (`general.architecture`).
    pub architecture: Option<String>,
}

/// Architectures whose special tokens strip the white space after them, which the format cannot express, with the
/// tokens that do not; as in the family's `tokenizer.json` and in llama.cpp.
const TAKE_SPACE: [(&str, [&str; 3]); 1] = [("phi3", ["<unk>", "<s>", "<|endoftext|>"])];

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file.
    ///
    /// Missing metadata are filled in as llama.cpp does: the pre-tokeniser is `default`; `llama` has BOS id 1, EOS id
    /// 2, unknown id 0, adds a space before a text and keeps repeated ones; whether `gpt2` adds BOS depends on the
    /// pre-tokeniser.
    ///
    /// # Errors
    /// When the tokenizer model or the pre-tokeniser is unknown, lists differ in length, entries repeat, or an id is
    /// outside the vocabulary.
    pub fn from_gguf(gguf: &GgufTokenizer) -> Result<Self> {
        let step = "reading the tokenizer in the GGUF metadata";
        Self::build(gguf).map_err(|e| e.context(step))
    }

    fn build(gguf: &GgufTokenizer) -> Result<Self> {
        gguf.check_ids()?;
        let model = GgufModel::named(&gguf.model).ok_or_else(|| {
            let supported: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
            Error::failed(format!(
                "`tokenizer.ggml.model` = `{}` is not supported; supported are {}",
                text::excerpt(&gguf.model, 60),
                supported.join(", ")
            ))
            .hint("use the model's directory with its tokenizer.json instead")
        })?;
        let (pipeline, mut special) = (model.pipeline)(gguf)?;
        special.pad = gguf.padding_token_id;
        special.chat_template.clone_from(&gguf.chat_template);
        let ends = [special.eos, gguf.eot_token_id, gguf.eom_token_id];
        special.ends = ends.into_iter().flatten().collect();
        special.ends.sort_unstable();
        special.ends.dedup();
        Self::from_pipeline(&pipeline, special, gguf.notes())
    }
}

/// A tokenizer model of GGUF (`tokenizer.ggml.model`).
struct GgufModel {
    name: &'static str,
    /// Builds the contents of a `tokenizer.json`.
    pipeline: fn(&GgufTokenizer) -> Result<(Value, SpecialTokens)>,
    /// The missing metadata, each with what is assumed instead.
    assumptions: fn(&GgufTokenizer) -> Vec<(&'static str, String)>,
}

/// The tokenizer models that are supported.
static MODELS: [GgufModel; 2] = [
    GgufModel { name: "gpt2", pipeline: byte_level, assumptions: byte_level_assumptions },
    GgufModel { name: "llama", pipeline: sentence_piece, assumptions: sentence_piece_assumptions },
];

impl GgufModel {
    fn named(name: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.name == name)
    }
}

impl GgufTokenizer {
    /// The special ids, each with the name in its key.
    fn ids(&self) -> [(&'static str, Option<u32>); 6] {
        [
            ("bos", self.bos_token_id),
            ("eos", self.eos_token_id),
            ("eot", self.eot_token_id),
            ("eom", self.eom_token_id),
            ("unknown", self.unknown_token_id),
            ("padding", self.padding_token_id),
        ]
    }

    fn check_ids(&self) -> Result<()> {
        let count = self.tokens.len();
        for (key, id) in self.ids() {
            if let Some(id) = id.filter(|id| usize::try_from(*id).is_ok_and(|id| id >= count)) {
                return Err(Error::failed(format!(
                    "`tokenizer.ggml.{key}_token_id` is {id}, must be below the number of entries, {count}"
                )));
            }
        }
        Ok(())
    }

    /// The name of the pre-tokeniser; `None` if the file names none.
    fn pre_tokenizer_name(&self) -> Option<&str> {
        self.pre.as_deref().filter(|pre| !pre.is_empty())
    }

    /// Notes on missing metadata and on what is assumed instead, as in llama.cpp.
    fn notes(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.token_type.is_empty() {
            let assumed = "all entries are assumed to be normal ones, so special tokens in a text are not recognised";
            missing.push(("token_type", assumed.to_string()));
        }
        if let Some(model) = GgufModel::named(&self.model) {
            missing.extend((model.assumptions)(self));
        }
        let note = |(key, assumed)| format!("the GGUF file has no `tokenizer.ggml.{key}`: {assumed}");
        missing.into_iter().map(note).collect()
    }
}

fn byte_level_assumptions(gguf: &GgufTokenizer) -> Vec<(&'static str, String)> {
    let mut missing = Vec::new();
    if gguf.pre_tokenizer_name().is_none() {
        missing.push((
            "pre",
            "llama.cpp's `default` pre-tokeniser is used, which is most likely not the one that the model was trained \
             with: WRONG TOKENS. Make the file again with a current convert_hf_to_gguf.py, or use the model's directory"
                .to_string(),
        ));
    }
    if gguf.eos_token_id.is_none() {
        missing.push(("eos_token_id", "an answer ends with what the chat template writes after it".to_string()));
    }
    missing
}

fn sentence_piece_assumptions(gguf: &GgufTokenizer) -> Vec<(&'static str, String)> {
    let ids = [
        ("bos_token_id", gguf.bos_token_id, 1),
        ("eos_token_id", gguf.eos_token_id, 2),
        ("unknown_token_id", gguf.unknown_token_id, 0),
    ];
    let missing = ids.into_iter().filter(|(_, id, _)| id.is_none());
    missing.map(|(key, _, assumed)| (key, format!("{assumed} is assumed, as in llama.cpp"))).collect()
}

/// The type of each entry.
fn piece_types(gguf: &GgufTokenizer) -> Result<Vec<PieceType>> {
    if gguf.token_type.is_empty() {
        return Ok(vec![PieceType::Normal; gguf.tokens.len()]);
    }
    same_length("token_type", gguf.token_type.len(), gguf)?;
    gguf.token_type.iter().map(|&t| PieceType::from_number(t)).collect()
}

/// Checks that a list has one element per entry.
fn same_length(what: &str, length: usize, gguf: &GgufTokenizer) -> Result<()> {
    if length == gguf.tokens.len() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "tokenizer.ggml.{what} has {length} elements, expected one per entry of tokens ({})",
        gguf.tokens.len()
    )))
}

/// A token with its id; `None` if there is no id or it is outside the vocabulary.
fn token(gguf: &GgufTokenizer, id: Option<u32>) -> Option<(u32, &str)> {
    let id = id?;
    Some((id, gguf.tokens.get(usize::try_from(id).ok()?)?))
}

/// Byte-level BPE as the contents of a `tokenizer.json`.
fn byte_level(gguf: &GgufTokenizer) -> Result<(Value, SpecialTokens)> {
    let pre_tokenizer = PreTokenizer::named(gguf.pre_tokenizer_name().unwrap_or("default"))?;
    if gguf.merges.is_empty() {
        return Err(Error::failed("`tokenizer.ggml.merges` is missing or empty").hint(
            "the file was made by another program than llama.cpp's converter: use the model's directory instead",
        ));
    }
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(gguf.tokens.len());
    for (id, token) in gguf.tokens.iter().enumerate() {
        if let Some(before) = seen.insert(token, id) {
            let token = text::excerpt(token, 60);
            return Err(Error::failed(format!("entries {before} and {id} are both `{token}`")));
        }
    }
    let mut merges = Vec::with_capacity(gguf.merges.len());
    for (i, merge) in gguf.merges.iter().enumerate() {
        let shown = || text::excerpt(merge, 60);
        let pair = merge.split_once(' ').ok_or_else(|| {
            Error::failed(format!("merge {i}, `{}`, is not two tokens separated by a space", shown()))
        })?;
        let made = [pair.0, pair.1].concat();
        if let Some(missing) = [pair.0, pair.1, made.as_str()].into_iter().find(|t| !seen.contains_key(t)) {
            let missing = text::excerpt(missing, 60);
            return Err(Error::failed(format!("merge {i}, `{}`: `{missing}` is not in the vocabulary", shown())));
        }
        merges.push([pair.0, pair.1]);
    }
    let types = piece_types(gguf)?;
    let add_bos = gguf.add_bos_token.unwrap_or(pre_tokenizer.add_bos);
    let bos = token(gguf, gguf.bos_token_id).filter(|_| add_bos);
    let pipeline = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added_tokens(gguf, &types),
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer.to_json(),
        "post_processor": bos.map(|(id, token)| begins_with(id, token)),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre_tokenizer.ignore_merges,
            "vocab": vocabulary(gguf.tokens.iter().map(String::as_str)),
            "merges": merges,
        },
    });
    let special = SpecialTokens {
        bos: gguf.bos_token_id,
        eos: gguf.eos_token_id,
        unk: gguf.unknown_token_id,
        add_bos: bos.is_some(),
        ..SpecialTokens::default()
    };
    Ok((pipeline, special))
}

/// SentencePiece's BPE as the contents of a `tokenizer.json`.
fn sentence_piece(gguf: &GgufTokenizer) -> Result<(Value, SpecialTokens)> {
    if gguf.scores.is_empty() {
        return Err(Error::failed("`tokenizer.ggml.scores`, which order the merges, is missing or empty").hint(
            "the file was made by another program than llama.cpp's converter: use the model's directory instead",
        ));
    }
    same_length("scores", gguf.scores.len(), gguf)?;
    // Default ids apply only if the vocabulary is large enough.
    let within = |id: u32| usize::try_from(id).is_ok_and(|id| id < gguf.tokens.len());
    let types = piece_types(gguf)?;
    if let Some(bad) = gguf.scores.iter().position(|s| !s.is_finite()) {
        return Err(Error::failed(format!("the score of entry {bad} is not finite")));
    }
    let entries = gguf.tokens.iter().zip(&gguf.scores).zip(&types);
    let model = ModelProto {
        pieces: entries
            .map(|((text, &score), &kind)| Piece {
                text: text.clone(),
                score,
                // User-defined entries are matched as added tokens and take no part in merges.
                piece_type: if kind == PieceType::UserDefined { PieceType::Unused } else { kind },
            })
            .collect(),
        algorithm: SegmentationAlgorithm::Bpe,
        byte_fallback: types.contains(&PieceType::Byte),
        unk: gguf.unknown_token_id.unwrap_or(0),
        bos: gguf.bos_token_id.or(Some(1).filter(|id| within(*id))),
        eos: gguf.eos_token_id.or(Some(2).filter(|id| within(*id))),
        pad: gguf.padding_token_id,
        charsmap: Vec::new(),
        add_dummy_prefix: gguf.add_space_prefix.unwrap_or(true),
        remove_extra_whitespaces: gguf.remove_extra_whitespaces.unwrap_or(false),
        escape_whitespaces: true,
    };
    let add_bos = gguf.add_bos_token.unwrap_or(true);
    let mut pipeline = sentencepiece::pipeline(&model, true, add_bos)?;
    if let Some(fields) = pipeline.as_object_mut() {
        fields.insert("added_tokens".into(), json!(added_tokens(gguf, &types)));
    }
    let special = SpecialTokens {
        bos: model.bos,
        eos: model.eos,
        unk: Some(model.unk),
        add_bos: add_bos && model.bos.is_some(),
        legacy: Some(true),
        ..SpecialTokens::default()
    };
    Ok((pipeline, special))
}

/// Entries that are matched before pre-tokenisation, in the order of their ids.
fn added_tokens(gguf: &GgufTokenizer, types: &[PieceType]) -> Vec<Value> {
    let entries = gguf.tokens.iter().zip(types).enumerate();
    let takes = TAKE_SPACE.iter().find(|(network, _)| gguf.architecture.as_deref() == Some(network));
    entries
        .filter_map(|(id, (token, kind))| {
            let mut entry = match kind {
                PieceType::Control | PieceType::Unknown => added(id, token, true),
                PieceType::UserDefined => added(id, token, false),
                PieceType::Normal | PieceType::Unused | PieceType::Byte => return None,
            };
            if let (Some((_, not)), Some(fields)) = (takes, entry.as_object_mut()) {
                fields.insert("rstrip".into(), json!(!not.contains(&token.as_str())));
            }
            Some(entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary of the 256 bytes and the words `ab` and `abc`.
    fn byte_level() -> GgufTokenizer {
        let mut tokens: Vec<String> =
            ["a", "b", "c", "1", "2", "3", "4", "Ġ", "!", "12", "123", "1234"].map(String::from).to_vec();
        tokens.extend(["ab", "abc", "<|end|>"].map(String::from));
        GgufTokenizer {
            model: "gpt2".into(),
            token_type: tokens.iter().map(|t| if t.starts_with('<') { 3 } else { 1 }).collect(),
            tokens,
            merges: ["a b", "ab c", "1 2", "12 3", "123 4"].map(String::from).to_vec(),
            eos_token_id: Some(14),
            ..GgufTokenizer::default()
        }
    }

    #[test]
    fn a_file_that_does_not_say_how_it_cuts_is_read_as_llama_cpp_does_and_says_so() -> Result<()> {
        // Numbers are split into threes from the left before merging.
        for (pre, wanted, notes) in [
            (None, vec![13, 10, 6], 1),
            (Some(""), vec![13, 10, 6], 1),
            (Some("default"), vec![13, 10, 6], 0),
            (Some("gpt-2"), vec![13, 11], 0),
            (Some("qwen2"), vec![13, 3, 4, 5, 6], 0),
        ] {
            let tokenizer = Tokenizer::from_gguf(&GgufTokenizer { pre: pre.map(String::from), ..byte_level() })?;
            assert_eq!(tokenizer.encode("abc1234")?, wanted, "{pre:?}");
            assert_eq!(tokenizer.notes().len(), notes, "{pre:?}: {:?}", tokenizer.notes());
            assert!(tokenizer.notes().iter().all(|n| n.contains("tokenizer.ggml.pre") && n.contains("default")));
        }
        Ok(())
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let cases: Vec<(GgufTokenizer, &[&str])> = vec![
            (GgufTokenizer { merges: Vec::new(), ..byte_level() }, &["tokenizer.ggml.merges"]),
            (GgufTokenizer { pre: Some("new".into()), ..byte_level() }, &["`new`", "tokenizer.ggml.pre"]),
            (GgufTokenizer { model: "t5".into(), ..byte_level() }, &["`t5`", "tokenizer.ggml.model"]),
            (
                GgufTokenizer { eos_token_id: Some(15), ..byte_level() },
                &["eos_token_id", "15", "number of entries, 15"],
            ),
            (GgufTokenizer { padding_token_id: Some(u32::MAX), ..byte_level() }, &["padding_token_id", "4294967295"]),
            (GgufTokenizer { merges: vec!["a q".into()], ..byte_level() }, &["merge 0", "`q`"]),
            (GgufTokenizer { merges: vec!["aq".into()], ..byte_level() }, &["merge 0", "two tokens"]),
            (GgufTokenizer { token_type: vec![1; 3], ..byte_level() }, &["token_type has 3", "15"]),
            (GgufTokenizer { token_type: vec![9; 15], ..byte_level() }, &["type 9"]),
            (GgufTokenizer { model: "llama".into(), ..byte_level() }, &["tokenizer.ggml.scores"]),
            (GgufTokenizer { model: "llama".into(), scores: vec![0.0; 3], ..byte_level() }, &["scores has 3", "15"]),
            (
                GgufTokenizer { model: "llama".into(), scores: vec![f32::NAN; 15], ..byte_level() },
                &["score of entry 0"],
            ),
        ];
        for (gguf, wanted) in cases {
            let e = Tokenizer::from_gguf(&gguf).unwrap_err();
            let message = format!("{e} {}", e.hint_text().unwrap_or_default());
            assert!(wanted.iter().all(|w| message.contains(w)), "{wanted:?}: {message}");
        }
    }

    #[test]
    fn llama_cpp_choices_are_noted() -> Result<()> {
        let tokens = ["<unk>", "<s>", "</s>", "a", "b", "▁", "ab"].map(String::from).to_vec();
        let llama = GgufTokenizer {
            model: "llama".into(),
            scores: vec![0.0; tokens.len()],
            tokens,
            ..GgufTokenizer::default()
        };
        let tokenizer = Tokenizer::from_gguf(&llama)?;
        let notes = tokenizer.notes().join("\n");
        assert!(
            ["token_type", "bos_token_id", "eos_token_id", "unknown_token_id"].iter().all(|k| notes.contains(k)),
            "{notes}"
        );
        assert_eq!((tokenizer.special().bos, tokenizer.special().eos), (Some(1), Some(2)));
        let complete = GgufTokenizer {
            token_type: vec![2, 3, 3, 1, 1, 1, 1],
            bos_token_id: Some(1),
            eos_token_id: Some(2),
            unknown_token_id: Some(0),
            ..llama
        };
        assert_eq!(Tokenizer::from_gguf(&complete)?.notes(), [""; 0]);
        Ok(())
    }
}
