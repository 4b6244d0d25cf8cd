//! Reads the files that accompany a tokenizer: `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`,
//! `generation_config.json`, `chat_template.jinja`.

use burgess_base::{Context, Error, Result, atomic, json as foreign, text as shown};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::{AddedToken, Tokenizer as Inner};

/// The special token ids of a tokenizer, and whether a text begins with BOS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Id of BOS, which begins a text.
    pub bos: Option<u32>,
    /// Id of EOS, which ends a text.
    pub eos: Option<u32>,
    /// Id of the padding token.
    pub pad: Option<u32>,
    /// Id of the token for text outside the vocabulary.
    pub unk: Option<u32>,
    /// Whether `bos` is added before a text ([`super::Tokenizer::encode_text`]).
    pub add_bos: bool,
    /// All ids that end an answer, sorted: `eos` and others that the model's files name.
    pub ends: Vec<u32>,
    /// `legacy` of the LLaMA tokenizer: whether text after a special token gets its own space prefix.
    pub legacy: Option<bool>,
    /// The Jinja chat template that ships with the tokenizer.
    pub chat_template: Option<String>,
    /// Whether a text that begins with a space gets another one: SentencePiece adds a prefix to the whole text
    /// (`legacy` false), but the library's step skips texts that begin with a space.
    pub(super) space_before_space: bool,
}

/// Maximum length of a chat template in bytes.
const LONGEST_TEMPLATE: u64 = 1 << 20;

/// Key of our own fields in a `tokenizer_config.json`.
const OURS: &str = "burgess";

/// Keys of the four special tokens in the files.
const NAMES: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// The contents of the files that accompany a tokenizer; missing files are empty.
#[derive(Debug, Default)]
pub struct TokenizerFiles {
    config: Map<String, Value>,
    map: Map<String, Value>,
    added: Map<String, Value>,
    generation: Map<String, Value>,
    template: Option<String>,
}

impl TokenizerFiles {
    /// Reads the files from the directory `dir`.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let object = |name: &str| -> Result<Map<String, Value>> {
            let path = dir.join(name);
            if path.is_file() { foreign::read(&path) } else { Ok(Map::new()) }
        };
        let jinja = dir.join("chat_template.jinja");
        let step = || format!("reading {}", jinja.display());
        let template = match std::fs::metadata(&jinja) {
            Ok(file) if file.is_file() && file.len() > LONGEST_TEMPLATE => {
                return Err(Error::failed(format!(
                    "the chat template has {} bytes, expected at most {LONGEST_TEMPLATE}",
                    file.len()
                ))
                .context(step()));
            }
            Ok(file) if file.is_file() => Some(std::fs::read_to_string(&jinja).with_context(step)?),
            _ => None,
        };
        Ok(Self {
            config: object("tokenizer_config.json")?,
            map: object("special_tokens_map.json")?,
            added: object("added_tokens.json")?,
            generation: object("generation_config.json")?,
            template,
        })
    }

    /// A boolean of `tokenizer_config.json`; `None` if the key is absent.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key)?.as_bool()
    }

    /// The token under `key` in `tokenizer_config.json` or `special_tokens_map.json`.
    pub fn token(&self, key: &str) -> Option<&str> {
        text(self.config.get(key)).or_else(|| text(self.map.get(key)))
    }

    /// Added tokens with fixed ids, from `added_tokens_decoder` and `added_tokens.json`.
    ///
    /// # Errors
    /// When an id is not a 32-bit number.
    pub fn with_ids(&self) -> Result<BTreeMap<u32, AddedToken>> {
        let mut all = BTreeMap::new();
        let id = |value: Option<u64>, token: &str| {
            let id = value.and_then(|v| u32::try_from(v).ok());
            let content = || shown::excerpt(token, 60);
            id.ok_or_else(|| Error::failed(format!("the id of the added token `{}` is not a 32-bit number", content())))
        };
        for (token, value) in &self.added {
            let plain = AddedToken { content: token.clone(), normalized: false, ..AddedToken::default() };
            all.insert(id(value.as_u64(), token)?, plain);
        }
        let decoder = self.config.get("added_tokens_decoder").and_then(Value::as_object);
        for (key, value) in decoder.into_iter().flatten() {
            let Some(content) = text(Some(value)) else { continue };
            let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
            let token = AddedToken {
                content: content.to_string(),
                single_word: flag("single_word"),
                lstrip: flag("lstrip"),
                rstrip: flag("rstrip"),
                normalized: flag("normalized"),
                special: flag("special"),
            };
            all.insert(id(key.parse().ok(), content)?, token);
        }
        Ok(all)
    }

    /// Adds the tokens that the files name to a tokenizer and returns their roles. `known` holds the tokenizer's own
    /// settings, which the files override. Assumptions are added to `notes`.
    ///
    /// # Errors
    /// When an added token cannot get the id that a file gives it, or the chat template has an unknown form.
    pub fn complete(&self, inner: &mut Inner, known: SpecialTokens, notes: &mut Vec<String>) -> Result<SpecialTokens> {
        for (id, token) in self.with_ids()? {
            let content = token.content.clone();
            let there = inner.get_added_vocabulary().get_added_tokens_decoder().values().any(|t| *t == token);
            if !there {
                match token.special {
                    true => inner.add_special_tokens(&[token]),
                    false => inner.add_tokens(&[token]),
                };
            }
            let got = inner.token_to_id(&content);
            if got != Some(id) {
                let got = got.map_or("none".to_string(), |g| g.to_string());
                return Err(Error::failed(format!(
                    "the added token `{}` should have id {id}, the tokenizer gives it {got}",
                    shown::excerpt(&content, 60)
                ))
                .hint("take tokenizer_config.json and added_tokens.json from the same model as the tokenizer"));
            }
        }
        let mut ids = [known.bos, known.eos, known.pad, known.unk];
        for (key, id) in NAMES.iter().zip(&mut ids) {
            if let Some(token) = self.token(key) {
                *id = Some(special_id(inner, token)?);
            }
        }
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            let list = self.config.get(key).or_else(|| self.map.get(key)).and_then(Value::as_array);
            for token in list.into_iter().flatten().filter_map(|v| text(Some(v))) {
                special_id(inner, token)?;
            }
        }
        let [bos, eos, pad, unk] = ids;
        let add_bos = self.flag("add_bos_token").unwrap_or(known.add_bos) && bos.is_some();
        let ours = self.config.get(OURS);
        let mut ends = known.ends;
        ends.extend(eos);
        ends.extend(numbers(self.generation.get("eos_token_id")));
        ends.extend(numbers(ours.and_then(|o| o.get("ends"))));
        ends.sort_unstable();
        ends.dedup();
        ends.retain(|id| {
            let there = inner.id_to_token(*id).is_some();
            if !there {
                notes.push(format!(
                    "generation_config.json: `eos_token_id` {id} is not in the tokenizer's vocabulary and is ignored"
                ));
            }
            there
        });
        if self.generation.is_empty() && !self.config.is_empty() && ours.is_none() {
            notes.push(
                "no generation_config.json: an answer ends with `eos_token` and with what the chat template writes"
                    .into(),
            );
        }
        Ok(SpecialTokens {
            bos,
            eos,
            pad,
            unk,
            add_bos,
            ends,
            legacy: self.flag("legacy").or(known.legacy),
            chat_template: self.chat_template()?.or(known.chat_template),
            space_before_space: ours
                .and_then(|o| o.get("space_before_space"))
                .and_then(Value::as_bool)
                .unwrap_or(false)
                || known.space_before_space,
        })
    }

    /// The chat template: that of `chat_template.jinja`, or else of `tokenizer_config.json`.
    fn chat_template(&self) -> Result<Option<String>> {
        if self.template.is_some() {
            return Ok(self.template.clone());
        }
        match self.config.get("chat_template") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(template)) => Ok(Some(template.clone())),
            // Several named templates: the one for plain conversations is called `default`.
            Some(Value::Array(all)) => {
                let name = |t: &&Value| t.get("name").and_then(Value::as_str) == Some("default");
                let template = all.iter().find(name).and_then(|t| t.get("template")).and_then(Value::as_str);
                template.map(|t| Some(t.to_string())).ok_or_else(|| {
                    Error::failed("tokenizer_config.json: `chat_template` has no template named `default`")
                })
            }
            Some(_) => Err(Error::failed("tokenizer_config.json: `chat_template` is neither a string nor a list")),
        }
    }
}

impl SpecialTokens {
    /// Writes `tokenizer_config.json` into the directory `dir`, unless all settings are defaults.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, inner: &Inner, dir: &Path) -> Result<()> {
        if *self == Self::default() {
            return Ok(());
        }
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        for (key, id) in NAMES.iter().zip([self.bos, self.eos, self.pad, self.unk]) {
            config.insert((*key).into(), json!(id.and_then(|id| inner.id_to_token(id))));
        }
        config.insert("add_bos_token".into(), json!(self.add_bos));
        if let Some(legacy) = self.legacy {
            config.insert("legacy".into(), json!(legacy));
        }
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".into(), json!(template));
        }
        config.insert(OURS.into(), json!({"ends": self.ends, "space_before_space": self.space_before_space}));
        atomic::write_json(&dir.join("tokenizer_config.json"), &config)
    }
}

/// A token's text, given as a string or as an object with flags.
fn text(value: Option<&Value>) -> Option<&str> {
    let value = value?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// A list of ids from one id or several.
fn numbers(value: Option<&Value>) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|v| u32::try_from(v).ok());
    match value {
        Some(Value::Array(all)) => all.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The id of a special token; adds it, or marks it as special, if needed.
fn special_id(inner: &mut Inner, token: &str) -> Result<u32> {
    let known = inner.get_added_vocabulary();
    if !known.get_vocab().get(token).is_some_and(|_| known.is_special_token(token)) {
        let there = known.get_added_tokens_decoder().values().find(|t| t.content == token);
        let made = match there {
            Some(there) => AddedToken { special: true, ..there.clone() },
            None => {
                AddedToken { content: token.to_string(), normalized: false, special: true, ..AddedToken::default() }
            }
        };
        inner.add_special_tokens(&[made]);
    }
    let content = || shown::excerpt(token, 60);
    inner
        .token_to_id(token)
        .ok_or_else(|| Error::failed(format!("the special token `{}` could not be added", content())))
}
