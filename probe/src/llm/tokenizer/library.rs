//! Guards the `tokenizers` library: its files are validated before it reads them, and where it would panic or exhaust
//! memory an error is returned instead.
//!
//! The library uses lengths, trie offsets and patterns that match the empty string unchecked.
//! `truncation`, `padding` and `dropout` are removed: they do not apply to encoding with a finished tokenizer, and
//! `transformers` disables the first two at every call.

use super::charsmap;
use base64::Engine;
use burgess_base::{Error, Result, guard, json, text};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use tokenizers::Tokenizer as Inner;

/// The maximum number of characters that one character may become over all steps; SentencePiece needs two.
const GROWTH: u64 = 1024;
/// Maximum length in bytes of a text that a step prepends or substitutes.
const LONGEST: usize = 1024;

/// Reads the contents of a `tokenizer.json`; parts that are ignored are reported in `notes`.
///
/// # Errors
/// When it is not JSON (line and column are named), or a part is damaged or beyond a limit (the part is named).
pub(super) fn read(bytes: &[u8], notes: &mut Vec<String>) -> Result<Inner> {
    let bytes = json::strict(bytes);
    let layout: Layout = serde_json::from_slice(&bytes).map_err(|e| {
        Error::failed(text::excerpt(&e.to_string(), 200)).hint("the file was cut off or damaged: get it again")
    })?;
    layout.check()?;
    let without = layout.without();
    let bytes = match without.is_empty() {
        true => bytes,
        false => {
            let mut whole: Value = serde_json::from_slice(&bytes)?;
            for path in &without {
                if let Some(value) = whole.pointer_mut(path) {
                    *value = Value::Null;
                }
            }
            let names: Vec<String> = without.iter().map(|path| format!("`{}`", path[1..].replace('/', "."))).collect();
            notes.push(format!(
                "tokenizer.json: {} ignored: texts are tokenised without truncation, padding or dropout",
                names.join(", ")
            ));
            serde_json::to_vec(&whole)?.into()
        }
    };
    let read = guarded(|| Inner::from_bytes(&bytes))?;
    let inner = read.map_err(|e| failed(&*e).hint("expected a tokenizer.json of the `tokenizers` library"))?;
    for token in layout.added_tokens.iter().filter(|t| !t.content.is_empty()) {
        let got = inner.token_to_id(&token.content);
        if got != u32::try_from(token.id).ok() {
            let got = got.map_or("none".to_string(), |g| g.to_string());
            let content = text::excerpt(&token.content, 60);
            return Err(Error::failed(format!(
                "the added token `{content}` should have id {}, the tokenizer gives it {got}",
                token.id
            ))
            .hint("ids must be consecutive: the file was edited, or belongs to another vocabulary"));
        }
    }
    Ok(inner)
}

/// Calls the library; a panic becomes an error.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T> {
    guard::third_party("the tokenizer", call)
}

/// Converts an error of the library to one line.
pub(super) fn failed(e: &(dyn std::error::Error + Send + Sync)) -> Error {
    Error::failed(text::excerpt(&e.to_string(), 300))
}

/// The parts of a `tokenizer.json` that are validated before the library reads it.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Layout {
    truncation: Value,
    padding: Value,
    added_tokens: Vec<Added>,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Model,
}

/// An added token with its id.
#[derive(Debug, serde::Deserialize)]
struct Added {
    id: u64,
    content: String,
}

/// Reads only whether the model has BPE dropout, so that the vocabulary is not parsed twice.
#[derive(Debug, Default)]
struct Model {
    dropout: bool,
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Model;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the model of a tokenizer")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model, A::Error> {
                let mut model = Model::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "dropout" => model.dropout = !map.next_value::<Value>()?.is_null(),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(model)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Layout {
    /// JSON pointers of the parts that are ignored.
    fn without(&self) -> Vec<&'static str> {
        let there = [
            ("/truncation", !self.truncation.is_null()),
            ("/padding", !self.padding.is_null()),
            ("/model/dropout", self.model.dropout),
        ];
        there.into_iter().filter(|(_, there)| *there).map(|(path, _)| path).collect()
    }

    /// Checks the steps before and after the model.
    fn check(&self) -> Result<()> {
        let mut growth = 1;
        for (name, part) in
            [("normalizer", &self.normalizer), ("pre_tokenizer", &self.pre_tokenizer), ("decoder", &self.decoder)]
        {
            check(part, &mut growth).map_err(|e| e.context(format!("`{name}`")))?;
        }
        Ok(())
    }
}

/// Checks one step, or a sequence of steps. `growth` is the factor by which earlier steps lengthen a text.
fn check(part: &Value, growth: &mut u64) -> Result<()> {
    let field = |name: &str| part.get(name).and_then(Value::as_str);
    let broken = |what: String| Err(Error::failed(what));
    for steps in ["normalizers", "pretokenizers", "decoders"] {
        for (i, step) in part.get(steps).and_then(Value::as_array).into_iter().flatten().enumerate() {
            check(step, growth).map_err(|e| e.context(format!("step {}", i + 1)))?;
        }
    }
    let short = |name: &str, text: &str| match text.len() <= LONGEST {
        true => Ok(()),
        false => Err(Error::failed(format!("`{name}` has {} bytes; at most {LONGEST} are supported", text.len()))),
    };
    match field("type").unwrap_or_default() {
        "Replace" => {
            let pattern = part.get("pattern");
            let fixed = pattern.and_then(|p| p.get("String")).and_then(Value::as_str);
            let regex = pattern.and_then(|p| p.get("Regex")).and_then(Value::as_str);
            if fixed == Some("") || regex == Some("") {
                return broken("`Replace` has an empty pattern, which matches everywhere".into());
            }
            let content = field("content").unwrap_or_default();
            short("content", content)?;
            let (long, least) = (content.chars().count(), fixed.map_or(1, |f| f.chars().count()));
            *growth = growth.saturating_mul(long.div_ceil(least).max(1) as u64);
            if *growth > GROWTH {
                return broken(format!(
                    "its steps make a text up to {growth} times as long; at most {GROWTH} times is supported"
                ));
            }
        }
        "Prepend" => short("prepend", field("prepend").unwrap_or_default())?,
        "Precompiled" => {
            let text = field("precompiled_charsmap");
            let text = text.ok_or_else(|| Error::failed("`precompiled_charsmap` is not a string"))?;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            charsmap::check(&bytes.map_err(|e| Error::failed(format!("`precompiled_charsmap` is not base64: {e}")))?)?;
        }
        "FixedLength" if part.get("length").and_then(Value::as_u64) == Some(0) => {
            return broken("`FixedLength` has the length 0, must be at least 1".into());
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A tokenizer with the letters a and b.
    fn small() -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [{"id": 2, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": {"a": 0, "b": 1},
                "merges": []},
        })
    }

    fn ids(file: &Value) -> Result<(Vec<u32>, Vec<String>)> {
        let mut notes = Vec::new();
        let inner = read(file.to_string().as_bytes(), &mut notes)?;
        let encoded = guarded(|| inner.encode_fast("ab<s>", false))?.map_err(|e| failed(&*e))?;
        Ok((encoded.get_ids().to_vec(), notes))
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_with_its_line() {
        let text = serde_json::to_string_pretty(&small()).unwrap_or_default();
        for at in 0..text.len() {
            let e = read(&text.as_bytes()[..at], &mut Vec::new()).unwrap_err();
            assert!(e.to_string().contains(" at line "), "{at}: {e}");
        }
        assert!(read(format!("\u{feff}{text}").as_bytes(), &mut Vec::new()).is_ok());
    }

    #[test]
    fn truncation_padding_and_dropout_are_ignored_with_a_note() -> Result<()> {
        let (whole, none) = ids(&small())?;
        assert_eq!((whole.as_slice(), none.is_empty()), (&[0, 1, 2][..], true));
        let truncation = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 5});
        let padding = json!({"strategy": {"Fixed": 100_000_000_000_u64}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "x"});
        for (path, value) in [("/truncation", truncation), ("/padding", padding), ("/model/dropout", json!(1.0))] {
            let mut file = small();
            if let Some(place) = file.pointer_mut(path) {
                *place = value;
            }
            let (found, notes) = ids(&file)?;
            assert_eq!((found, notes.len()), (whole.clone(), 1), "{path}");
        }
        Ok(())
    }

    #[test]
    fn parts_that_would_crash_the_library_are_named() {
        let replace =
            |pattern: Value, content: String| json!({"type": "Replace", "pattern": pattern, "content": content});
        let doubling =
            json!({"type": "Sequence", "normalizers": vec![replace(json!({"String": "a"}), "aa".into()); 60]});
        let charsmap = |text: Value| json!({"type": "Precompiled", "precompiled_charsmap": text});
        let cases = [
            ("normalizer", replace(json!({"String": ""}), "x".into()), "empty pattern"),
            ("decoder", replace(json!({"String": ""}), "x".into()), "empty pattern"),
            ("normalizer", replace(json!({"Regex": ""}), "x".into()), "empty pattern"),
            ("normalizer", replace(json!({"String": "a"}), "x".repeat(1 << 20)), "1048576 bytes"),
            ("normalizer", doubling, "as long"),
            ("normalizer", json!({"type": "Prepend", "prepend": "x".repeat(1 << 20)}), "1048576 bytes"),
            ("normalizer", charsmap(json!("AAAA")), "rules of replacement"),
            ("normalizer", charsmap(json!("/////wAA")), "rules of replacement"),
            ("normalizer", charsmap(json!("BAAAAP////8=")), "rules of replacement"),
            ("normalizer", charsmap(json!("")), "rules of replacement"),
            ("normalizer", charsmap(json!("?")), "base64"),
            ("normalizer", charsmap(Value::Null), "not a string"),
            ("pre_tokenizer", json!({"type": "FixedLength", "length": 0}), "FixedLength"),
            (
                "pre_tokenizer",
                json!({"type": "Split", "pattern": {"Regex": "(?:\\p{L}{1000}){1000}"},
                "behavior": "Isolated", "invert": false}),
                "",
            ),
            (
                "pre_tokenizer",
                json!({"type": "Split", "pattern": {"Regex": "(".repeat(10_000)},
                "behavior": "Isolated", "invert": false}),
                "",
            ),
            ("decoder", json!({"type": "Nothing"}), ""),
            ("model", json!(3), ""),
            ("model", json!({"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "q"]]}), "`q` out of vocabulary"),
            ("model", json!({"type": "BPE", "vocab": {"a": -1}, "merges": []}), ""),
            (
                "model",
                json!({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]],
                "continuing_subword_prefix": "####"}),
                "out of bounds",
            ),
            ("model", json!({"type": "Unigram", "unk_id": 100, "vocab": [["a", 0.0]], "byte_fallback": false}), ""),
            (
                "added_tokens",
                json!([{"id": 4_000_000_000_u64, "content": "<s>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}]),
                "4000000000",
            ),
            (
                "added_tokens",
                json!([{"id": 40_000_000_000_u64, "content": "<s>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}]),
                "",
            ),
        ];
        for (name, part, wanted) in cases {
            let mut file = small();
            file[name] = part;
            let e = ids(&file).unwrap_err().to_string();
            assert!(e.contains(wanted) && e.len() < 500, "{name}: {e}");
        }
        // A pattern that matches the empty string makes the library panic for some texts; an error is expected.
        let mut file = small();
        file["normalizer"] = replace(json!({"Regex": "x*"}), "yy".into());
        let inner = read(file.to_string().as_bytes(), &mut Vec::new()).unwrap();
        for text in ["ab", "xab", "é xx", ""] {
            let _ = guarded(|| inner.encode_fast(text, false).map(|_| ()));
        }
    }
}
