//! Text to token ids and back: a `tokenizer.json` as the Hugging Face hub ships it, or a byte-level BPE trained here.

use burgess_base::{Context, Error, Result, atomic};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner};

/// Begin of a text.
pub const BOS: &str = "<|bos|>";
/// End of a text or an answer.
pub const EOS: &str = "<|eos|>";
/// Begin of a question.
pub const USER: &str = "<|user|>";
/// Begin of an answer.
pub const ASSISTANT: &str = "<|assistant|>";
/// Filler after the end of a shorter sequence.
pub const PAD: &str = "<|pad|>";
/// The place of the picture; never a text token, always replaced by image features.
pub const IMAGE: &str = "<image>";

/// The special tokens of tokenizers trained here, in the order of their ids from 0.
pub const SPECIALS: [&str; 6] = [PAD, BOS, EOS, USER, ASSISTANT, IMAGE];

/// A tokenizer: text ↔ ids.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self> {
        let step = || format!("reading {}", path.display());
        let bytes = std::fs::read(path).with_context(step)?;
        Self::from_bytes(&bytes).map_err(|e| e.context(step()))
    }

    /// The same from memory.
    ///
    /// # Errors
    /// When the bytes are not a tokenizer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let inner = Inner::from_bytes(bytes)
            .map_err(|e| Error::failed(e.to_string()).hint("expected a tokenizer.json of the `tokenizers` library"))?;
        Ok(Self { inner })
    }

    /// Trains a byte-level BPE (GPT-2's pre-tokeniser: words with their leading space, which the first word gets too,
    /// numbers, punctuation) with at most `vocab_size` entries, the `specials` first; pairs seen once are not merged.
    /// The same texts give the same tokenizer whatever their order and the number of threads: words are counted, and
    /// ties between pairs are broken by id.
    ///
    /// # Errors
    /// When `vocab_size` has no room for the 256 bytes and the specials.
    pub fn train<S: AsRef<str> + Send>(
        texts: impl Iterator<Item = S> + Send,
        vocab_size: usize,
        specials: &[&str],
    ) -> Result<Self> {
        if vocab_size < 256 + specials.len() {
            return Err(Error::usage(format!(
                "a vocabulary of {vocab_size} has no room for 256 bytes and {} special tokens",
                specials.len()
            )));
        }
        let failed = |e: tokenizers::Error| Error::failed(e.to_string()).context("training the tokenizer");
        let mut inner = Inner::new(BPE::default());
        // A space is put before the first word, as LLaMA's tokenizer does: an answer is made of the same tokens as the
        // words of the text it was found in. Without it a small model has to learn every word's spelling twice.
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
        Ok(Self { inner })
    }

    /// Writes a `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        atomic::write(path, self.to_json()?.as_bytes())
    }

    /// The contents of its `tokenizer.json`; equal tokenizers give equal text.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn to_json(&self) -> Result<String> {
        let mut text = self.inner.to_string(true).map_err(|e| Error::failed(e.to_string()))?;
        text.push('\n');
        Ok(text)
    }

    /// Token ids of a text, without any special token added around it; special tokens written out in the text are
    /// recognised.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text (never with a byte-level one).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| Error::failed(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of some ids, special tokens left out.
    ///
    /// # Errors
    /// When the decoder of the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|e| Error::failed(e.to_string()))
    }

    /// Number of entries, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Id of a token that has to exist.
    ///
    /// # Errors
    /// When the tokenizer has no such token.
    pub fn id(&self, token: &str) -> Result<u32> {
        self.inner.token_to_id(token).ok_or_else(|| {
            Error::failed(format!("the tokenizer has no token `{token}`"))
                .hint("the tokenizer does not belong to this chat template")
        })
    }

    /// The text of one entry, in the byte alphabet of the tokenizer.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// All entries with their ids, by token.
    pub fn vocabulary(&self) -> BTreeMap<String, u32> {
        self.inner.get_vocab(true).into_iter().collect()
    }
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
        // Merges seen once are not made, so such a small text does not fill the vocabulary.
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
    fn it_survives_its_file() -> Result<()> {
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
            // The space before the first word is the tokenizer's, unless there was one.
            prop_assert!(back == text || back.strip_prefix(' ') == Some(&text), "{:?}", back);
        }
    }
}
