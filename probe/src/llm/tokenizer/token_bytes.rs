//! The bytes of text that a single token stands for.

use super::Tokenizer;
use std::collections::HashMap;
use std::sync::OnceLock;
use tokenizers::DecoderWrapper;

impl Tokenizer {
    /// The bytes of text that a token stands for, which may be a part of a character; `None` if the id does not exist.
    /// The texts of special tokens are their names.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let piece = self.inner.id_to_token(id)?;
        if self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) {
            return Some(piece.into_bytes());
        }
        if self.inner.get_decoder().is_some_and(is_byte_level) {
            let bytes: Option<Vec<u8>> = piece.chars().map(|c| byte_of(c).copied()).collect();
            return Some(bytes.unwrap_or_else(|| piece.into_bytes()));
        }
        if let Some(byte) = fallback_byte(&piece) {
            return Some(vec![byte]);
        }
        Some(piece.replace('\u{2581}', " ").into_bytes())
    }

    /// Whether a token is a single byte of SentencePiece's byte fallback. Bytes in a row are decoded together: if they
    /// are not valid UTF-8 as a whole, each becomes a replacement character, also those that were valid before.
    pub fn is_fallback_byte(&self, id: u32) -> bool {
        !self.inner.get_decoder().is_some_and(is_byte_level)
            && self.inner.id_to_token(id).is_some_and(|piece| fallback_byte(&piece).is_some())
    }
}

/// The byte of a piece such as `<0x0A>`.
fn fallback_byte(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 2)
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(all) => all.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// The byte that a character of GPT-2's byte alphabet stands for: printable characters of Latin-1 stand for themselves,
/// characters from 256 on for the other bytes in order.
fn byte_of(c: char) -> Option<&'static u8> {
    static BYTES: OnceLock<HashMap<char, u8>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let mut next = 256;
        let mut char_of = |byte: u8| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap_or_default()
            }
        };
        (0..=u8::MAX).map(|byte| (char_of(byte), byte)).collect()
    });
    bytes.get(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::tokenizer::{EOS, SPECIALS};
    use burgess_base::Result;
    use std::path::Path;

    #[test]
    fn the_bytes_of_all_tokens_together_are_the_text() -> Result<()> {
        let text = "Zwölf große Äpfel, 12 € — 日本語 🦊\tende";
        let own = Tokenizer::train([text].iter(), 300, &SPECIALS)?;
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizers");
        let mut all = vec![("own".to_string(), own.clone())];
        for entry in std::fs::read_dir(goldens)?.flatten() {
            if let Ok(tokenizer) = Tokenizer::open(&entry.path()) {
                all.push((entry.file_name().to_string_lossy().into_owned(), tokenizer));
            }
        }
        assert!(all.len() > 2);
        for (name, tokenizer) in &all {
            let ids = tokenizer.encode(text)?;
            if tokenizer.decode(&ids)?.trim() != text {
                continue;
            }
            let bytes: Vec<u8> = ids.iter().filter_map(|id| tokenizer.token_bytes(*id)).flatten().collect();
            assert_eq!(String::from_utf8_lossy(&bytes).trim(), text, "{name}");
        }
        assert_eq!(own.token_bytes(own.id(EOS)?), Some(EOS.as_bytes().to_vec()));
        assert_eq!(own.token_bytes(90_000), None);
        Ok(())
    }
}
