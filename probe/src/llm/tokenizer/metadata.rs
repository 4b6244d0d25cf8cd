//! Opens the tokenizer of a language model, and reads the tokenizer metadata of a GGUF file.

use super::{GgufTokenizer, Tokenizer};
use crate::llm::weights::{TokenizerSource, Weights};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::Metadata;

impl Tokenizer {
    /// The tokenizer that ships with a language model, in whichever supported format.
    ///
    /// # Errors
    /// When there is none, or it is damaged or of an unknown kind.
    pub fn of_model(weights: &Weights) -> Result<Self> {
        match weights.tokenizer_source()? {
            TokenizerSource::Json(file) | TokenizerSource::SentencePiece(file) => Self::from_file(&file),
            TokenizerSource::Gguf(metadata) => {
                let step = || format!("reading {}", weights.path().display());
                let rows = weights.config().vocab_size;
                let count =
                    metadata.list("tokenizer.ggml.tokens").map_err(|e| e.context(step()))?.map_or(0, |l| l.len());
                if count > rows {
                    return Err(Error::failed(format!(
                        "`tokenizer.ggml.tokens` has {count} entries, but `token_embd.weight` only {rows} rows"
                    ))
                    .context(step()));
                }
                let fields = GgufTokenizer::of_metadata(&metadata).map_err(|e| e.context(step()))?;
                let mut tokenizer = Self::from_gguf(&fields).map_err(|e| e.context(step()))?;
                if count < rows {
                    tokenizer.notes.push(format!(
                        "`tokenizer.ggml.tokens` has {count} entries, but `token_embd.weight` {rows} rows: the rows \
                         without an entry are never generated (llama.cpp rejects such a file)"
                    ));
                }
                Ok(tokenizer)
            }
        }
    }
}

impl GgufTokenizer {
    /// Reads the fields under `tokenizer.*`.
    ///
    /// # Errors
    /// When a required field (`model`, `tokens`) is missing, or a field has another type.
    pub fn of_metadata(metadata: &Metadata) -> Result<Self> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let missing = |name: &str| Error::failed(format!("the metadata lack `{}`", key(name)));
        let text = |key: &str| Ok::<_, Error>(metadata.text(key)?.map(str::to_string));
        let flag = |name: &str| metadata.flag(&key(name));
        let id = |name: &str| -> Result<Option<u32>> {
            let key = key(&format!("{name}_token_id"));
            let Some(id) = metadata.size(&key)? else { return Ok(None) };
            u32::try_from(id)
                .map(Some)
                .map_err(|_| Error::failed(format!("metadata `{key}` is {id}, expected a 32-bit id")))
        };
        let texts = |name: &str| -> Result<Option<Vec<String>>> {
            let Some(list) = metadata.list(&key(name))? else { return Ok(None) };
            list.texts()?.map(|t| t.map(str::to_string)).collect::<Result<Vec<_>>>().map(Some)
        };
        // An entry without text gets a unique one, as in llama.cpp.
        let tokens = texts("tokens")?.ok_or_else(|| missing("tokens"))?.into_iter().enumerate();
        let tokens = tokens.map(|(i, token)| if token.is_empty() { format!("[EMPTY_{i}]") } else { token });
        let scores = match metadata.list(&key("scores"))? {
            None => Vec::new(),
            Some(list) => list.numbers()?.map(|n| n as f32).collect(),
        };
        let types = match metadata.list(&key("token_type"))? {
            None => Vec::new(),
            Some(list) => {
                let number = |n| {
                    u64::try_from(n).map_err(|_| {
                        Error::failed(format!("`tokenizer.ggml.token_type` has the type {n}, expected 1 to 6"))
                    })
                };
                list.integers()?.map(number).collect::<Result<_>>()?
            }
        };
        Ok(Self {
            model: text(&key("model"))?.ok_or_else(|| missing("model"))?,
            pre: text(&key("pre"))?,
            tokens: tokens.collect(),
            scores,
            token_type: types,
            merges: texts("merges")?.unwrap_or_default(),
            bos_token_id: id("bos")?,
            eos_token_id: id("eos")?,
            eot_token_id: id("eot")?,
            eom_token_id: id("eom")?,
            unknown_token_id: id("unknown")?,
            padding_token_id: id("padding")?,
            add_bos_token: flag("add_bos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
            chat_template: text("tokenizer.chat_template")?,
            architecture: text("general.architecture")?,
        })
    }
}
