//! Configuration of an endpoint, and its checks.

use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use url::Url;

/// An OpenAI-compatible server and the limits that hold for requests to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// Base address such as `http://127.0.0.1:8000/v1`; `/chat/completions` is appended unless it ends with it.
    pub url: String,
    /// Name of the model, as the server calls it.
    pub model: String,
    /// Name of the environment variable that holds the key; without it no key is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub key_variable: Option<String>,
    /// Header that carries the key: `authorization` (as `Bearer KEY`), or another one such as `api-key`.
    pub key_header: String,
    /// How JSON is requested where a caller gives a schema.
    pub json: JsonMode,
    /// Sampling temperature, 0 to 2; without it that of the request or of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub temperature: Option<f64>,
    /// Seed of the sampling; without it that of the request or of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub seed: Option<u64>,
    /// Largest number of generated tokens of a reply, unless the request says another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub max_tokens: Option<u32>,
    /// Time limit of one attempt in seconds, from the connection to the last byte.
    pub timeout_seconds: f64,
    /// Largest size of a reply in bytes.
    pub max_reply_bytes: u64,
    /// Largest number of attempts of one request.
    pub attempts: u32,
    /// Wait before the second attempt in seconds; it doubles with each further attempt, and varies by up to a half.
    pub first_wait_seconds: f64,
    /// Longest wait between two attempts in seconds; a server that asks for a longer one gets no further attempt.
    pub longest_wait_seconds: f64,
    /// Largest number of requests per minute of this process; without it there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub requests_per_minute: Option<u32>,
    /// Further fields of the request's body, such as `top_p = 0.9`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// How an endpoint is asked for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JsonMode {
    /// By a schema; if the server refuses that, as `object`, and then as `none`.
    Auto,
    /// By `response_format` of type `json_schema`.
    Schema,
    /// By `response_format` of type `json_object`, without a schema.
    Object,
    /// By the text of the request only.
    None,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            url: String::new(),
            model: String::new(),
            key_variable: None,
            key_header: "authorization".into(),
            json: JsonMode::Auto,
            temperature: None,
            seed: None,
            max_tokens: None,
            timeout_seconds: 120.0,
            max_reply_bytes: 4 << 20,
            attempts: 6,
            first_wait_seconds: 1.0,
            longest_wait_seconds: 120.0,
            requests_per_minute: None,
            extra: BTreeMap::new(),
        }
    }
}

/// Fields of the body that the client sets itself.
const OWN_FIELDS: [&str; 9] = [
    "model",
    "messages",
    "response_format",
    "temperature",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "stream",
    "n",
];
/// Parts of names of query parameters that carry secrets.
const SECRET_WORDS: [&str; 5] = ["key", "token", "secret", "password", "signature"];

impl Endpoint {
    /// Makes the configuration of a server and a model with the default limits and without a key.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self { url: url.into(), model: model.into(), ..Self::default() }
    }

    /// Checks all values.
    ///
    /// # Errors
    /// A value is missing or out of its range; the message names the key.
    pub fn check(&self) -> Result<()> {
        self.address()?;
        let wrong = |key: &str, found: String, expected: &str| {
            Err(Error::usage(format!("`{key}` is {found}, must be {expected}")))
        };
        if self.model.trim().is_empty() {
            return Err(Error::usage("`model` is empty, must be the name of a model of the server")
                .hint("ask the server for its models: GET URL/models"));
        }
        if let Some(name) = &self.key_variable
            && (name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        {
            // The value is not repeated: it may be the key itself.
            return Err(Error::usage("`key_variable` is not the name of an environment variable").hint(
                "write the name of a variable such as OPENAI_API_KEY, and put the key into that variable, not into the file",
            ));
        }
        let token = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if self.key_header.is_empty() || !self.key_header.bytes().all(token) {
            return wrong("key_header", format!("`{}`", self.key_header), "the name of an HTTP header");
        }
        if let Some(t) = self.temperature
            && !(0.0..=2.0).contains(&t)
        {
            return wrong("temperature", t.to_string(), "between 0 and 2");
        }
        if self.max_tokens == Some(0) {
            return wrong("max_tokens", "0".into(), "at least 1");
        }
        if !(self.timeout_seconds >= 0.01 && self.timeout_seconds <= 86_400.0) {
            return wrong("timeout_seconds", self.timeout_seconds.to_string(), "between 0.01 and 86400");
        }
        if !(1024..=1 << 30).contains(&self.max_reply_bytes) {
            return wrong("max_reply_bytes", self.max_reply_bytes.to_string(), "between 1024 and 1073741824");
        }
        if !(1..=100).contains(&self.attempts) {
            return wrong("attempts", self.attempts.to_string(), "between 1 and 100");
        }
        for (key, value) in
            [("first_wait_seconds", self.first_wait_seconds), ("longest_wait_seconds", self.longest_wait_seconds)]
        {
            if !(0.0..=86_400.0).contains(&value) {
                return wrong(key, value.to_string(), "between 0 and 86400");
            }
        }
        if self.requests_per_minute == Some(0) {
            return wrong("requests_per_minute", "0".into(), "at least 1");
        }
        match self.extra.keys().find(|key| OWN_FIELDS.contains(&key.as_str())) {
            Some(key) => Err(Error::usage(format!("`extra.{key}` is a field that the client sets itself"))
                .hint("use the key of the endpoint with this name, or leave it out")),
            None => Ok(()),
        }
    }

    /// Returns the address to which requests are sent.
    ///
    /// # Errors
    /// The address is missing, not of the web, or holds a secret.
    pub fn address(&self) -> Result<String> {
        if self.url.trim().is_empty() {
            return Err(Error::usage("`url` is empty, must be the address of a server")
                .hint("write the base address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"));
        }
        let mut url = Url::parse(self.url.trim()).map_err(|e| {
            Error::usage(format!("`url` is not an address: {e}"))
                .hint("write it as http://HOST:PORT/v1 or https://HOST/v1")
        })?;
        if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
            return Err(Error::usage(format!("`url` has the scheme `{}`, must be http or https", url.scheme())));
        }
        let secret = !url.username().is_empty()
            || url.password().is_some()
            || url.query_pairs().any(|(name, _)| SECRET_WORDS.iter().any(|word| name.to_lowercase().contains(word)));
        if secret {
            return Err(Error::usage("`url` holds a user name, a password or a key").hint(
                "put the key into an environment variable and its name into `key_variable`: addresses are written to files",
            ));
        }
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/').to_string();
        if !path.ends_with("/chat/completions") {
            url.set_path(&format!("{path}/chat/completions"));
        }
        Ok(url.into())
    }

    /// Returns what of the configuration may change replies: not the address, the key and the limits of time.
    pub fn identity(&self) -> serde_json::Value {
        let Self { model, json, temperature, seed, max_tokens, extra, .. } = self;
        serde_json::json!({
            "model": model, "json": json, "temperature": temperature, "seed": seed, "max_tokens": max_tokens,
            "extra": extra,
        })
    }

    /// Reads the key from its environment variable; `None` if the configuration names none.
    ///
    /// # Errors
    /// The variable is not set, or holds what no header may contain.
    pub(super) fn key(&self) -> Result<Option<String>> {
        let Some(name) = &self.key_variable else { return Ok(None) };
        let key = std::env::var(name).unwrap_or_default().trim().to_string();
        if key.is_empty() {
            return Err(Error::usage(format!(
                "the environment variable {name}, which should hold the key, is not set"
            ))
            .hint(format!("set it: export {name}=…, or remove `key_variable` if the server needs no key")));
        }
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(
                Error::usage(format!("the key in {name} holds spaces or control characters")).hint("copy it again")
            );
        }
        Ok(Some(key))
    }
}
