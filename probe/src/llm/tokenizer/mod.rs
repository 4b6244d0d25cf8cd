//! Converts text to token ids and back. Reads a `tokenizer.json`, a SentencePiece `tokenizer.model` or the metadata
//! of a GGUF file, or trains a byte-level BPE. All become a pipeline of the `tokenizers` library.

mod charsmap;
pub mod gguf;
mod library;
mod metadata;
pub mod pre_tokenizer;
pub mod proto;
pub mod sentencepiece;
pub mod special;
mod token_bytes;

pub use gguf::GgufTokenizer;
pub use special::SpecialTokens;

use burgess_base::{Context, Error, Result, atomic};
use library::guarded;
use proto::ModelProto;
use serde_json::{Value, json};
use special::TokenizerFiles;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner};

/// Token that begins a text.
pub const BOS: &str = "<|bos|>";
/// Token that ends a text or an answer.
pub const EOS: &str = "<|eos|>";
/// Token that begins a question.
pub const USER: &str = "<|user|>";
/// Token that begins an answer.
pub const ASSISTANT: &str = "<|assistant|>";
/// Padding token after the end of a shorter sequence.
pub const PAD: &str = "<|pad|>";
/// The image placeholder; never a text token, always replaced by image tokens.
pub const IMAGE: &str = "<image>";

/// The special tokens of tokenizers trained here, in the order of their ids from 0.
pub const SPECIALS: [&str; 6] = [PAD, BOS, EOS, USER, ASSISTANT, IMAGE];

/// A tokenizer: converts text to token ids and back.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
    special: SpecialTokens,
    /// The sentences that [`Tokenizer::notes`] returns.
    notes: Vec<String>,
}

/// Token ids, and the byte range of the text that each token stands for.
pub type TokensWithOffsets = (Vec<u32>, Vec<Range<usize>>);

impl Tokenizer {
    /// Opens the tokenizer of a model directory: its `tokenizer.json`, or else its `tokenizer.model`.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`]; also when neither file exists.
    pub fn open(dir: &Path) -> Result<Self> {
        let files = ["tokenizer.json", "tokenizer.model"].map(|name| dir.join(name));
        match files.iter().find(|f| f.is_file()) {
            Some(file) => Self::from_file(file),
            None => Err(Error::failed(format!("{} has neither tokenizer.json nor tokenizer.model", dir.display()))
                .hint("copy the tokenizer of the model that it was made from into the directory")),
        }
    }

    /// Reads a `tokenizer.json` or SentencePiece model (`*.model`), and the files files it on special tokens.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn from_file(path: &Path) -> Result<Self> {
        let step = || format!("reading {}", path.display());
        let bytes = std::fs::read(path).with_context(step)?;
        let files = TokenizerFiles::read(path.parent().unwrap_or(Path::new("")))?;
        match path.extension().is_some_and(|e| e == "model") {
            true => Self::from_sentencepiece(&bytes, &files),
            false => Self::from_json(&bytes, &files),
        }
        .map_err(|e| e.context(step()))
    }

    /// Reads a `tokenizer.json` from memory, without the files files it.
    ///
    /// # Errors
    /// When the bytes are not a `tokenizer.json`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_json(bytes, &TokenizerFiles::default())
    }

    fn from_json(bytes: &[u8], files: &TokenizerFiles) -> Result<Self> {
        let mut notes = Vec::new();
        let mut inner = library::read(bytes, &mut notes)?;
        let mut special = guarded(|| files.complete(&mut inner, SpecialTokens::default(), &mut notes))??;
        // The pipeline decides whether BOS is added, unless a file says otherwise.
        if let (Some(bos), None) = (special.bos, files.flag("add_bos_token")) {
            let empty = guarded(|| inner.encode_fast("", true))?.map_err(|e| library::failed(&*e))?;
            special.add_bos = empty.get_ids().first() == Some(&bos);
        }
        Ok(Self { inner, special, notes })
    }

    /// Reads a SentencePiece model with `tokenizer_config.json` and the other files: `legacy` (default true, as in
    /// the library version with which the paper's code ran), `add_bos_token` (default true), `add_prefix_space`.
    fn from_sentencepiece(bytes: &[u8], files: &TokenizerFiles) -> Result<Self> {
        let mut model = ModelProto::parse(bytes).map_err(|e| {
            e.context("as a SentencePiece model")
                .hint("for another kind of tokenizer.model, provide its tokenizer.json")
        })?;
        let tokens = files.with_ids()?;
        for (id, token) in &tokens {
            if let Some(piece) = usize::try_from(*id).ok().and_then(|i| model.pieces.get_mut(i)) {
                piece.text.clone_from(&token.content);
            }
        }
        if let Some(flag) = files.flag("add_prefix_space") {
            model.add_dummy_prefix = flag;
        }
        let mut notes = Vec::new();
        let mut assumed = |key: &str, meaning: &str| {
            notes.push(format!("tokenizer_config.json has no `{key}`: true is assumed ({meaning})"));
            true
        };
        let legacy = files.flag("legacy");
        let legacy = legacy.unwrap_or_else(|| {
            assumed("legacy", "text after a special token gets a leading space, as in LlamaTokenizer")
        });
        let add_bos = files.flag("add_bos_token");
        let add_bos =
            add_bos.unwrap_or_else(|| assumed("add_bos_token", "a text begins with BOS, as in LlamaTokenizer"));
        let mut pipeline = sentencepiece::pipeline(&model, legacy, add_bos)?;
        if let Some(Value::Array(list)) = pipeline.get_mut("added_tokens") {
            let known = |token: &Value| token.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            list.retain(|t| known(t).is_none_or(|id| !tokens.contains_key(&id)));
            for (id, token) in &tokens {
                let mut value = serde_json::to_value(token)?;
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("id".into(), json!(id));
                }
                list.push(value);
            }
            list.sort_by_key(known);
        }
        let known = SpecialTokens {
            bos: model.bos,
            eos: model.eos,
            pad: model.pad,
            unk: Some(model.unk),
            add_bos: add_bos && model.bos.is_some(),
            legacy: Some(legacy),
            space_before_space: model.add_dummy_prefix && !legacy,
            ..SpecialTokens::default()
        };
        let mut inner = library::read(&serde_json::to_vec(&pipeline)?, &mut notes)?;
        let special = guarded(|| files.complete(&mut inner, known, &mut notes))??;
        Ok(Self { inner, special, notes })
    }

    /// Builds a tokenizer from the contents of a `tokenizer.json`.
    fn from_pipeline(pipeline: &Value, special: SpecialTokens, mut notes: Vec<String>) -> Result<Self> {
        let inner = library::read(&serde_json::to_vec(pipeline)?, &mut notes)?;
        Ok(Self { inner, special, notes })
    }

    /// Assumptions made where the files lack a setting, and parts of them that are ignored, as sentences for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Trains a byte-level BPE with at most `vocab_size` entries, `specials` first; pairs seen once are not merged.
    ///
    /// The pre-tokeniser is GPT-2's (words with their leading space, numbers, punctuation); the first word gets a
    /// leading space too. The result does not depend on the order of texts or the number of threads: words are
    /// counted, and ties between pairs are broken by id.
    ///
    /// # Errors
    /// When `vocab_size` has no room for the 256 bytes and the special tokens.
    pub fn train<S: AsRef<str> + Send>(
        texts: impl Iterator<Item = S> + Send,
        vocab_size: usize,
        specials: &[&str],
    ) -> Result<Self> {
        if vocab_size < 256 + specials.len() {
            return Err(Error::usage(format!(
                "`vocab_size` is {vocab_size}, must be at least {} (256 bytes and {} special tokens)",
                256 + specials.len(),
                specials.len()
            )));
        }
        let failed = |e: tokenizers::Error| Error::failed(e.to_string()).context("training the tokenizer");
        let mut inner = Inner::new(BPE::default());
        // A space is added before the first word, as in LLaMA's tokenizer, so that an answer has the same tokens as
        // the same words inside a text. Otherwise a small model would have to learn two spellings of every word.
        inner.with_pre_tokenizer(Some(ByteLevel::new(true, true, true)));
        inner.with_decoder(Some(ByteLevel::new(true, true, true)));
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(vocab_size)
            .min_frequency(2)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(specials.iter().map(|s| AddedToken::from(*s, true)).collect())
            .build();
        inner.train(&mut TrainerWrapper::BpeTrainer(trainer), texts).map_err(failed)?;
        Ok(Self { inner, special: SpecialTokens::default(), notes: Vec::new() })
    }

    /// Writes a `tokenizer.json` atomically, and `tokenizer_config.json` files it if special tokens have a role.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.special.save(&self.inner, path.parent().unwrap_or(Path::new("")))?;
        atomic::write(path, self.to_json()?.as_bytes())
    }

    /// The special token ids and how a text begins.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Whether this token is special: matched before pre-tokenisation, and omitted when ids are decoded.
    pub fn is_special(&self, token: &str) -> bool {
        self.inner.get_added_vocabulary().is_special_token(token)
    }

    /// The texts of all special tokens.
    pub fn special_texts(&self) -> impl Iterator<Item = &str> {
        let all = self.inner.get_added_vocabulary().get_added_tokens_decoder().values();
        all.filter(|t| t.special).map(|t| t.content.as_str())
    }

    /// The contents of the `tokenizer.json`; equal tokenizers give equal text.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn to_json(&self) -> Result<String> {
        let mut text = self.inner.to_string(true).map_err(|e| Error::failed(e.to_string()))?;
        text.push('\n');
        Ok(text)
    }

    /// Token ids of a text without special tokens added around it; special tokens within the text are recognised.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text (impossible for a byte-level one).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(|| match self.spaced(text) {
            Some(text) => self.inner.encode_fast(text, false),
            None => self.inner.encode_fast(text, false),
        })?;
        Ok(encoding.map_err(|e| library::failed(&*e))?.get_ids().to_vec())
    }

    /// Token ids of a text, with BOS in front if the tokenizer adds it, as `tokenizer(text).input_ids` of
    /// `transformers`. An EOS that the tokenizer would add is left to the chat template.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.special.bos.filter(|_| self.special.add_bos).into_iter().collect();
        ids.extend(self.encode(text)?);
        Ok(ids)
    }

    /// As [`Tokenizer::encode`], with the byte range of the text that each token stands for.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_offsets(&self, text: &str) -> Result<TokensWithOffsets> {
        let (encoding, shift) = guarded(|| match self.spaced(text) {
            Some(text) => (self.inner.encode(text, false), 1),
            None => (self.inner.encode(text, false), 0),
        })?;
        let encoding = encoding.map_err(|e| library::failed(&*e))?;
        let offsets = encoding.get_offsets().iter();
        let places = offsets.map(|(a, b)| a.saturating_sub(shift)..b.saturating_sub(shift)).collect();
        Ok((encoding.get_ids().to_vec(), places))
    }

    /// The text with a space in front, where the tokenizer needs one (`space_before_space`).
    fn spaced(&self, text: &str) -> Option<String> {
        let wanted = self.special.space_before_space && text.starts_with([' ', '\u{2581}']);
        wanted.then(|| format!(" {text}"))
    }

    /// Decodes ids to text, without special tokens.
    ///
    /// # Errors
    /// When the decoder of the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.inner.decode(ids, true))?.map_err(|e| library::failed(&*e))
    }

    /// Number of entries, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token that must exist.
    ///
    /// # Errors
    /// When the tokenizer has no such token.
    pub fn id(&self, token: &str) -> Result<u32> {
        self.inner.token_to_id(token).ok_or_else(|| {
            Error::failed(format!("the tokenizer has no token `{token}`"))
                .hint("use the tokenizer and the chat template of the same model")
        })
    }

    /// The text of one entry, in the byte alphabet of the tokenizer; `None` if the id does not exist.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// All entries with their ids, ordered by token.
    pub fn vocabulary(&self) -> BTreeMap<String, u32> {
        self.inner.get_vocab(true).into_iter().collect()
    }
}

/// The JSON of an added token in a `tokenizer.json`.
fn added(id: usize, text: &str, special: bool) -> Value {
    json!({
        "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": special,
    })
}

/// The post-processor of a `tokenizer.json` that puts a token before a text.
fn begins_with(id: u32, token: &str) -> Value {
    let special = |part: u32| json!({"SpecialToken": {"id": token, "type_id": part}});
    let text = |name: &str, part: u32| json!({"Sequence": {"id": name, "type_id": part}});
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), text("A", 0)],
        "pair": [special(0), text("A", 0), special(1), text("B", 1)],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXTS: [&str; 4] = [
        "What colour is the cup? The cup is red.",
        "How many cups are there? There are 3 cups.",
        "The red cup is left of the blue cup.",
        "Is there a dog? no",
    ];

    fn trained() -> Result<Tokenizer> {
        Tokenizer::train(TEXTS.iter(), 300, &SPECIALS)
    }

    #[test]
    fn training_does_not_depend_on_the_order_of_texts() -> Result<()> {
        let reversed = Tokenizer::train(TEXTS.iter().rev(), 300, &SPECIALS)?;
        assert_eq!(trained()?.to_json()?, reversed.to_json()?);
        // Pairs seen once are not merged, so such a small text does not fill the vocabulary.
        assert!((270..=300).contains(&trained()?.vocab_size()));
        Ok(())
    }

    #[test]
    fn specials_come_first_and_are_single_tokens() -> Result<()> {
        let t = trained()?;
        for (i, s) in SPECIALS.iter().enumerate() {
            assert_eq!(t.id(s)?, i as u32);
        }
        assert_eq!(t.encode("<|user|>The")?[0], 3);
        assert!(t.id("<none>").unwrap_err().hint_text().is_some());
        Ok(())
    }

    #[test]
    fn a_word_is_the_same_tokens_as_an_answer_and_in_a_text() -> Result<()> {
        let t = trained()?;
        let text = t.encode("<|user|>The cup is red.")?;
        let answer = t.encode("red<|eos|>")?;
        let (end, word) = answer.split_last().ok_or_else(|| Error::failed("no tokens"))?;
        assert_eq!(*end, t.id(EOS)?);
        assert!(text.windows(word.len()).any(|w| w == word), "{text:?} {answer:?}");
        Ok(())
    }

    #[test]
    fn a_tokenizer_survives_saving() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("tokenizer.json");
        let t = trained()?;
        t.save(&path)?;
        let again = Tokenizer::from_file(&path)?;
        assert_eq!(t.to_json()?, again.to_json()?);
        assert_eq!(t.encode(TEXTS[2])?, again.encode(TEXTS[2])?);
        std::fs::write(&path, "{\"model\": 3}")?;
        let e = Tokenizer::from_file(&path).unwrap_err();
        assert!(e.to_string().contains("tokenizer.json") && e.hint_text().is_some());
        Ok(())
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC{0,40}") {
            let t = trained().map_err(|e| TestCaseError::fail(e.to_string()))?;
            let ids = t.encode(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let back = t.decode(&ids).map_err(|e| TestCaseError::fail(e.to_string()))?;
            // The tokenizer adds a space before the first word, unless there is one.
            prop_assert!(back == text || back.strip_prefix(' ') == Some(&text), "{:?}", back);
        }
    }
}
