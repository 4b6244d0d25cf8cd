//! How byte-level BPE cuts a text before it merges: by the names that GGUF files give (`tokenizer.ggml.pre`). The
//! expressions are those of the families' own `tokenizer.json`.

use burgess_base::{Error, Result, nearest};
use serde_json::{Value, json};

/// GPT-2's: contractions, words with the space before them, numbers, the rest.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Digits one by one.
const DIGIT: &str = r"\p{N}";
/// Llama 3's: numbers in threes, line breaks apart.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's: the same with digits one by one.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 3.5's: marks belong to their letters.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: a capital begins a word.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o's: the same with contractions, and numbers in threes.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// DeepSeek 3's two parts beside the numbers.
const CJK: &str = r"[一-龥぀-ゟ゠-ヿ]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Falcon's, and what llama.cpp does when a file does not say.
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const DEFAULT_PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
const NUMBER: &str = r"\p{N}+";
const TRIPLE: &str = r"[0-9][0-9][0-9]";

/// How one family cuts.
#[derive(Debug)]
pub struct Splitting {
    names: &'static [&'static str],
    /// Applied one after another, each to what the one before left.
    patterns: &'static [&'static str],
    /// A piece of text that is an entry is taken whole.
    pub ignore_merges: bool,
    /// Whether a text begins with BOS if the file does not say.
    pub add_bos: bool,
}

const fn plain(names: &'static [&'static str], patterns: &'static [&'static str]) -> Splitting {
    Splitting { names, patterns, ignore_merges: false, add_bos: false }
}

const TABLE: [Splitting; 11] = [
    plain(&["default"], &[DEFAULT_PUNCTUATION, GPT2, NUMBER, TRIPLE]),
    plain(&["gpt-2", "phi-2", "mpt", "olmo", "jais"], &[GPT2]),
    plain(&["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"], &[DIGIT, GPT2]),
    Splitting {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    plain(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[LLAMA3]),
    plain(&["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"], &[QWEN2]),
    plain(&["qwen35"], &[QWEN35]),
    Splitting { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    plain(&["gpt-4o", "llama4"], &[GPT4O]),
    plain(&["deepseek-v3", "hunyuan-dense"], &[r"\p{N}{1,3}", CJK, DEEPSEEK3]),
    plain(&["falcon"], &[PUNCTUATION, GPT2, TRIPLE]),
];

impl Splitting {
    /// The one with this name.
    ///
    /// # Errors
    /// There is none: the known names are listed.
    pub fn named(name: &str) -> Result<&'static Self> {
        TABLE.iter().find(|s| s.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> = TABLE.iter().flat_map(|s| s.names.iter().copied()).collect();
            let like = nearest(name, known.iter().copied());
            let error = Error::failed(format!(
                "text is cut by `{}` (tokenizer.ggml.pre), which is not known; known are {}",
                burgess_base::text::excerpt(name, 60),
                known.join(", ")
            ));
            match like.first() {
                Some(like) => {
                    error.hint(format!("is it `{like}`? use the model's directory with its tokenizer.json instead"))
                }
                None => error.hint("use the model's directory with its tokenizer.json instead"),
            }
        })
    }

    /// As the `pre_tokenizer` of a `tokenizer.json`.
    pub fn pre_tokenizer(&self) -> Value {
        let split =
            |p: &&str| json!({"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": false});
        let mut steps: Vec<Value> = self.patterns.iter().map(split).collect();
        steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}));
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}
