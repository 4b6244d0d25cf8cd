//! Notes on settings that the files of a language model lack, and on what is assumed instead.

use super::Weights;
use crate::llm::{ChatTemplate, Tokenizer};
use burgess_base::Result;

impl Weights {
    /// Assumptions made about the model, without those about tokenizer and chat template ([`Weights::all_notes`]).
    ///
    /// # Errors
    /// When GGUF metadata have the wrong type.
    pub fn notes(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let metadata = self.checkpoint().metadata();
        if let Some(architecture) = metadata.text("general.architecture")? {
            for (key, assumed) in [
                ("rope.freq_base", "the family's default is assumed, as in llama.cpp"),
                ("attention.head_count_kv", "the number of query heads is assumed, as in llama.cpp"),
            ] {
                let key = format!("{architecture}.{key}");
                if metadata.get(&key).is_none() {
                    notes.push(format!("the GGUF file has no `{key}`: {assumed}"));
                }
            }
        }
        // Our own models state everything in `chat.json`.
        let lacks = |dir: &std::path::Path, name: &str| !dir.join(name).is_file();
        if self.directory().is_some_and(|dir| lacks(dir, "tokenizer_config.json") && lacks(dir, "chat.json")) {
            notes.push(
                "no tokenizer_config.json: only the special tokens that the tokenizer's own file names are known"
                    .into(),
            );
        }
        Ok(notes)
    }

    /// All assumptions about the model, its tokenizer and the given chat template, without duplicates.
    ///
    /// # Errors
    /// As [`Weights::notes`].
    pub fn all_notes(&self, tokenizer: &Tokenizer, chat: &ChatTemplate) -> Result<Vec<String>> {
        let mut all = self.notes()?;
        all.extend(tokenizer.notes().iter().cloned());
        all.extend(chat.notes());
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|note| seen.insert(note.clone()));
        Ok(all)
    }
}
