//! Tokenizer, chat template and generation settings for `transformers`.

use burgess_base::{Error, Result};
use burgess_probe::llm::chat::{IMAGE_ID, JinjaTemplate, Turn};
use burgess_probe::llm::tokenizer::{PAD, SpecialTokens};
use burgess_probe::llm::{ChatTemplate, Tokenizer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The files about text of an exported model.
#[derive(Debug)]
pub struct TextFiles {
    /// `tokenizer.json`, with a token for the image.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Value,
    /// `chat_template.jinja`.
    pub chat_template: String,
    /// `generation_config.json`.
    pub generation: Value,
    /// Text of the image token.
    pub image_token: String,
    /// Id of the image token.
    pub image_id: u32,
    /// Number of rows that the embedding table needs.
    pub rows: usize,
}

impl TextFiles {
    /// Plans the files for a model with `vocabulary` rows in its embedding table; an error says in words why
    /// `transformers` would tokenise otherwise.
    ///
    /// # Errors
    /// The tokenizer cannot be serialised, or the chat template does not fit it.
    pub fn plan(
        tokenizer: &Tokenizer,
        chat: &ChatTemplate,
        vocabulary: usize,
    ) -> Result<std::result::Result<Self, String>> {
        let image_token = chat.image_token().to_string();
        let (json, image_id) = with_image_token(tokenizer, &image_token)?;
        let rows = vocabulary.max(image_id as usize + 1);
        let special = tokenizer.special();
        let stop = chat.stop(tokenizer)?;
        let names = names(tokenizer, special, &stop);
        let chat_template = chat.to_jinja();
        let read = Tokenizer::from_bytes(json.as_bytes())?;
        if let Some(difference) = difference(tokenizer, &read, chat, &chat_template, &names, image_id)? {
            return Ok(Err(difference));
        }
        let mut config = Map::from_iter([
            ("tokenizer_class".to_string(), json!("PreTrainedTokenizerFast")),
            ("processor_class".to_string(), json!("LlavaProcessor")),
            ("clean_up_tokenization_spaces".to_string(), json!(false)),
            ("extra_special_tokens".to_string(), json!({"image_token": image_token})),
        ]);
        config.extend(names.into_iter().map(|(name, token)| (name, json!(token))));
        let mut generation = json!({"do_sample": false, "max_new_tokens": 128, "eos_token_id": stop});
        if let Some(fields) = generation.as_object_mut() {
            let pad = config.get("pad_token").and_then(Value::as_str).and_then(|t| tokenizer.id(t).ok());
            if let Some(pad) = pad {
                fields.insert("pad_token_id".into(), json!(pad));
            }
            if rows > vocabulary {
                // The added row of the output head is zero; its token is never an answer.
                fields.insert("suppress_tokens".into(), json!([image_id]));
            }
        }
        let tokenizer_config = Value::Object(config);
        Ok(Ok(Self { tokenizer: json, tokenizer_config, chat_template, generation, image_token, image_id, rows }))
    }
}

/// Returns the `tokenizer.json` with a special token for the image, and the token's id.
fn with_image_token(tokenizer: &Tokenizer, image: &str) -> Result<(String, u32)> {
    let text = tokenizer.to_json()?;
    if let (Ok(id), true) = (tokenizer.id(image), tokenizer.is_special(image)) {
        return Ok((text, id));
    }
    let mut json: Value = serde_json::from_str(&text)?;
    let id = tokenizer.vocabulary().values().max().map_or(0, |id| id + 1);
    let token = json!({
        "id": id, "content": image, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    });
    let list = json.get_mut("added_tokens").and_then(Value::as_array_mut);
    list.ok_or_else(|| Error::failed("the tokenizer has no list of added tokens"))?.push(token);
    let mut text = serde_json::to_string_pretty(&json)?;
    text.push('\n');
    Ok((text, id))
}

/// Returns the special tokens by the names of `tokenizer_config.json`.
fn names(tokenizer: &Tokenizer, special: &SpecialTokens, stop: &[u32]) -> BTreeMap<String, String> {
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
    let eos = text(special.eos).or_else(|| text(stop.first().copied()));
    let pad = text(special.pad).or_else(|| tokenizer.id(PAD).is_ok().then(|| PAD.to_string())).or_else(|| eos.clone());
    let all =
        [("bos_token", text(special.bos)), ("eos_token", eos), ("pad_token", pad), ("unk_token", text(special.unk))];
    all.into_iter().filter_map(|(name, token)| Some((name.to_string(), token?))).collect()
}

/// Compares the tokens of some conversations with those that `transformers` gets from the exported files; returns the
/// first difference in words.
fn difference(
    own: &Tokenizer,
    exported: &Tokenizer,
    chat: &ChatTemplate,
    template: &str,
    names: &BTreeMap<String, String>,
    image: u32,
) -> Result<Option<String>> {
    let jinja = JinjaTemplate::new(template, names.clone())?;
    let placeholder = chat.image_id(own)?;
    let bos = names.get("bos_token");
    let conversations = [
        vec![Turn::user("How many cups are there?")],
        vec![Turn::user("<image>\nWhat is this?\nA. a cup\nB. größer – 24 × 3")],
        vec![Turn::user("<image>  Which word?  "), Turn::assistant("the red one"), Turn::user("Why, 'it's' odd?")],
    ];
    for mut turns in conversations {
        for turn in &mut turns {
            turn.text = turn.text.replace("<image>", chat.image_token());
        }
        let wanted: Vec<u32> = chat.open(own, &turns, false)?.ids;
        let wanted: Vec<u32> =
            wanted.into_iter().map(|id| if id == placeholder || id == IMAGE_ID { image } else { id }).collect();
        let text = jinja.text(&turns, true)?;
        // A processor adds BOS as the tokenizer says, unless the text begins with it.
        let begins = bos.is_some_and(|bos| text.starts_with(bos.as_str()));
        let found = if begins { exported.encode(&text)? } else { exported.encode_text(&text)? };
        if found != wanted {
            let at = found.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
            return Ok(Some(format!(
                "transformers would tokenise its prompts otherwise (token {at} of {}, {:?} instead of {:?})",
                wanted.len(),
                found.get(at).and_then(|id| exported.token(*id)).unwrap_or_default(),
                wanted.get(at).and_then(|id| exported.token(*id)).unwrap_or_default(),
            )));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_probe::llm::tokenizer::SPECIALS;

    const TEXTS: [&str; 2] = ["How many cups are there? There are 3 cups.", "Which word? the red one"];

    #[test]
    fn the_nano_tokenizer_has_its_own_image_token() -> Result<()> {
        let tokenizer = Tokenizer::train(TEXTS.iter(), 300, &SPECIALS)?;
        let files = TextFiles::plan(&tokenizer, &ChatTemplate::nano(), 512)?.map_err(Error::failed)?;
        assert_eq!((files.image_id, files.rows, files.image_token.as_str()), (5, 512, "<image>"));
        assert_eq!(files.tokenizer, tokenizer.to_json()?);
        assert_eq!(files.generation["eos_token_id"], json!([2]));
        assert_eq!(files.tokenizer_config["pad_token"], "<|pad|>");
        assert!(files.generation.get("suppress_tokens").is_none());
        Ok(())
    }

    #[test]
    fn other_vocabularies_get_one() -> Result<()> {
        let tokenizer = Tokenizer::train(TEXTS.iter(), 290, &["<|bos|>", "<|eos|>", "<|user|>"])?;
        let template = "{% for message in messages %}<|user|>{{ message['content'] }}<|eos|>{% endfor %}";
        let jinja = JinjaTemplate::new(template, BTreeMap::new())?;
        let chat = ChatTemplate::Jinja(Box::new(jinja));
        let size = tokenizer.vocab_size();
        let files = TextFiles::plan(&tokenizer, &chat, size)?.map_err(Error::failed)?;
        assert_eq!((files.image_id as usize, files.rows), (size, size + 1));
        assert_eq!(files.generation["suppress_tokens"], json!([size]));
        let read = Tokenizer::from_bytes(files.tokenizer.as_bytes())?;
        assert_eq!(read.id("<image>")?, files.image_id);
        // Rows that no token uses are taken first.
        let files = TextFiles::plan(&tokenizer, &chat, size + 64)?.map_err(Error::failed)?;
        assert_eq!((files.rows, files.generation.get("suppress_tokens")), (size + 64, None));
        Ok(())
    }
}
