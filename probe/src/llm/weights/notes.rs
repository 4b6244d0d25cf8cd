//! What the files of a language model leave open and is assumed.

use super::Weights;
use crate::llm::{ChatTemplate, Tokenizer};
use burgess_base::Result;

impl Weights {
    /// What its files leave open and is assumed, but for tokenizer and chat template ([`Weights::all_notes`]).
    ///
    /// # Errors
    /// The metadata of GGUF hold something of another kind than they should.
    pub fn notes(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let metadata = self.checkpoint().metadata();
        if let Some(architecture) = metadata.text("general.architecture")? {
            for (key, assumed) in [
                ("rope.freq_base", "the base of the family's angles is assumed, as in llama.cpp"),
                ("attention.head_count_kv", "as many heads of keys as of queries are assumed, as in llama.cpp"),
            ] {
                let key = format!("{architecture}.{key}");
                if metadata.get(&key).is_none() {
                    notes.push(format!("the GGUF file has no `{key}`: {assumed}"));
                }
            }
        }
        // Ours say everything in `chat.json`.
        let lacks = |dir: &std::path::Path, name: &str| !dir.join(name).is_file();
        if self.directory().is_some_and(|dir| lacks(dir, "tokenizer_config.json") && lacks(dir, "chat.json")) {
            notes.push(
                "no tokenizer_config.json: no token begins or ends a text but those that the tokenizer's own file names".into(),
            );
        }
        Ok(notes)
    }

    /// Everything that was assumed of the model, of the tokenizer and of the chat template that it is used with, each once.
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
