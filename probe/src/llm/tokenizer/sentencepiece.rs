//! Converts a SentencePiece model to a pipeline of the `tokenizers` library that gives the same ids.
//!
//! As in `transformers` (`SpmConverter.build_tokenizer_from_spm_proto`), all settings come from the model, not from
//! the family's name: normalisation rules, removal of spaces, the dummy prefix, merges ranked by the score of their
//! product, unsplit user-defined pieces, byte fallback.
//!
//! Text after a special token: with `legacy` (the default of the LLaMA tokenizer that the paper's code used) it gets
//! its own space prefix, without it only the start of the whole text does.

use super::proto::{ModelProto, Piece, PieceType, SegmentationAlgorithm};
use super::{added, charsmap};
use base64::Engine;
use burgess_base::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};

/// SentencePiece's symbol for a space, U+2581.
const SPACE: char = '\u{2581}';

/// A Unigram score so low that no segmentation uses the piece.
const NEVER: f64 = -1e4;

/// Matches the last digit of a spelled-out byte piece such as `<0x0A>`; pre_tokenizer there keeps it text.
const SPELLED_BYTE: &str = "(?<=<0x[0-9A-F])[0-9A-F](?=>)";

/// Number of leading spaces to strip: more than any text has.
const ALL_SPACES: usize = 1 << 20;

/// The tokenizer of `model` as the contents of a `tokenizer.json`.
///
/// # Errors
/// When pieces repeat, or the normalisation rules are damaged.
pub fn pipeline(model: &ModelProto, legacy: bool, add_bos: bool) -> Result<Value> {
    let mut ids: HashMap<&str, usize> = HashMap::with_capacity(model.pieces.len());
    for (id, piece) in model.pieces.iter().enumerate() {
        if let Some(before) = ids.insert(&piece.text, id) {
            let text = burgess_base::text::excerpt(&piece.text, 60);
            return Err(Error::failed(format!("pieces {before} and {id} have the same text `{text}`")));
        }
    }
    let user_defined = || model.pieces.iter().filter(|p| p.piece_type == PieceType::UserDefined);
    let unk = usize::try_from(model.unk).ok().and_then(|i| model.pieces.get(i)).map_or("", |p| p.text.as_str());
    let words = match model.algorithm {
        SegmentationAlgorithm::Bpe => json!({
            "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": model.byte_fallback,
            // User-defined pieces are not products of merges.
            "ignore_merges": user_defined().next().is_some(),
            "vocab": vocabulary(model.pieces.iter().map(|p| p.text.as_str())),
            "merges": merges(&model.pieces),
        }),
        SegmentationAlgorithm::Unigram => json!({
            "type": "Unigram", "unk_id": model.unk, "byte_fallback": model.byte_fallback,
            "vocab": model.pieces.iter().map(|p| json!([p.text, lattice_score(p)])).collect::<Vec<_>>(),
        }),
    };
    let special = model
        .pieces
        .iter()
        .enumerate()
        .filter(|(_, p)| matches!(p.piece_type, PieceType::Control | PieceType::Unknown));
    let specials: Vec<Value> = special.map(|(id, p)| added(id, &p.text, true)).collect();
    let bos = model.bos.filter(|_| add_bos).and_then(|id| Some((id, model.pieces.get(usize::try_from(id).ok()?)?)));
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": specials,
        "normalizer": normalizer(model, legacy)?,
        "pre_tokenizer": pre_tokenizer(model, legacy, user_defined()),
        "post_processor": bos.map(|(id, piece)| super::begins_with(id, &piece.text)),
        "decoder": decoder(model),
        "model": words,
    }))
}

/// The vocabulary as a JSON object from token to id.
pub fn vocabulary<'a>(tokens: impl Iterator<Item = &'a str>) -> Value {
    Value::Object(tokens.enumerate().map(|(id, t)| (t.to_string(), json!(id))).collect::<Map<_, _>>())
}

/// Pairs of pieces whose concatenation is a piece, the best-scored first. Only normal pieces are merged.
pub fn merges(pieces: &[Piece]) -> Vec<[&str; 2]> {
    let normal: HashMap<&str, (f32, usize)> = pieces
        .iter()
        .enumerate()
        .filter(|(_, p)| p.piece_type == PieceType::Normal)
        .map(|(id, p)| (p.text.as_str(), (p.score, id)))
        .collect();
    // Only splits into lengths that occur are looked up; trying all of a piece of a million letters would take hours.
    let lengths: HashSet<usize> = normal.keys().map(|text| text.len()).collect();
    let mut ranked: Vec<(f32, usize, &str, &str)> = Vec::new();
    for (&text, &(score, id)) in &normal {
        for (at, _) in text.char_indices().skip(1) {
            if !lengths.contains(&at) || !lengths.contains(&(text.len() - at)) {
                continue;
            }
            let (left, right) = text.split_at(at);
            if normal.contains_key(left) && normal.contains_key(right) {
                ranked.push((score, id, left, right));
            }
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    ranked.into_iter().map(|(_, _, left, right)| [left, right]).collect()
}

/// The score of a piece in the `Unigram` model of the library.
fn lattice_score(piece: &Piece) -> f64 {
    match piece.piece_type {
        PieceType::Normal | PieceType::UserDefined => f64::from(piece.score),
        PieceType::Unused => NEVER,
        // Never produced from text. The lowest score in the vocabulary determines that of unknown characters, so
        // these must not be the lowest.
        PieceType::Unknown | PieceType::Control | PieceType::Byte => 0.0,
    }
}

/// The value of `normalizer` in a `tokenizer.json`.
fn normalizer(model: &ModelProto, legacy: bool) -> Result<Value> {
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let regex = |pattern: &str, content: &str| replace(json!({"Regex": pattern}), content);
    let mut steps = Vec::new();
    if !model.charsmap.is_empty() {
        charsmap::check(&model.charsmap)?;
        let text = base64::engine::general_purpose::STANDARD.encode(&model.charsmap);
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": text}));
    }
    if model.remove_extra_whitespaces {
        // Spaces only: SentencePiece keeps line breaks.
        steps.push(regex(r"\A +| +\z", ""));
        steps.push(regex(" {2,}", " "));
    }
    if model.escape_whitespaces {
        steps.push(replace(json!({"String": " "}), &SPACE.to_string()));
    }
    if model.add_dummy_prefix && legacy {
        // The next step skips a text that begins with a space; SentencePiece adds its prefix before that too.
        steps.push(regex(&format!(r"\A{SPACE}"), &format!("{SPACE}{SPACE}")));
    }
    Ok(json!({"type": "Sequence", "normalizers": steps}))
}

/// The value of `pre_tokenizer` in a `tokenizer.json`; null without any step.
fn pre_tokenizer<'a>(model: &ModelProto, legacy: bool, user_defined: impl Iterator<Item = &'a Piece>) -> Value {
    let mut steps = Vec::new();
    if model.add_dummy_prefix {
        let scheme = if legacy { "always" } else { "first" };
        steps.push(json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false}));
    }
    let split = |pattern: &str| {
        let pattern = json!({"Regex": pattern});
        json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
    };
    if model.algorithm == SegmentationAlgorithm::Unigram && model.byte_fallback {
        steps.push(split(SPELLED_BYTE));
    }
    let mut whole: Vec<&str> = user_defined.map(|p| p.text.as_str()).collect();
    if !whole.is_empty() {
        // Longer pieces first, so that the longest match wins.
        whole.sort_by_key(|text| std::cmp::Reverse(text.chars().count()));
        let pattern: Vec<String> = whole.into_iter().map(escaped).collect();
        steps.push(split(&pattern.join("|")));
    }
    if steps.is_empty() { Value::Null } else { json!({"type": "Sequence", "pretokenizers": steps}) }
}

/// Escapes a text so that a regular expression matches it literally.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() || c.is_ascii_whitespace() {
            pattern.push_str(&format!("\\x{:02X}", u32::from(c)));
        } else {
            pattern.push(c);
        }
    }
    pattern
}

/// The value of `decoder` in a `tokenizer.json`.
fn decoder(model: &ModelProto) -> Value {
    let mut steps = vec![json!({"type": "Replace", "pattern": {"String": SPACE.to_string()}, "content": " "})];
    if model.byte_fallback {
        steps.push(json!({"type": "ByteFallback"}));
    }
    if model.byte_fallback || model.add_dummy_prefix || model.remove_extra_whitespaces {
        steps.push(json!({"type": "Fuse"}));
    }
    if model.add_dummy_prefix || model.remove_extra_whitespaces {
        let start = if model.remove_extra_whitespaces { ALL_SPACES } else { 1 };
        steps.push(json!({"type": "Strip", "content": " ", "start": start, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_of_a_very_long_piece_are_found_quickly() {
        let piece = |text: String, score: f32| Piece { text, score, piece_type: PieceType::Normal };
        let long = "ab".repeat(1 << 20);
        let pieces =
            [piece("a".into(), -1.0), piece("b".into(), -2.0), piece("ab".into(), -3.0), piece(long.clone(), -4.0)];
        assert_eq!(merges(&pieces), [["a", "b"]]);
        let pieces = [piece(long.clone(), -1.0), piece("a".into(), -2.0), piece(format!("a{long}"), -3.0)];
        assert_eq!(merges(&pieces), [["a", long.as_str()]]);
    }
}
