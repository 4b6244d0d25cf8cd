//! Pre-tokenisers of byte-level BPE by their names in GGUF files (`tokenizer.ggml.pre`). The regular expressions are
//! those of the families' own `tokenizer.json`.

use burgess_base::{Error, Result, nearest};
use serde_json::{Value, json};

/// GPT-2: contractions, words with their leading space, numbers, everything else.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Splits numbers into single digits.
const DIGIT: &str = r"\p{N}";
/// Llama 3: numbers in groups of three digits, line breaks separate.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2: Llama 3's expression with single digits.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 3.5: Qwen 2's expression with combining marks joined to their letters.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: a capital letter begins a word.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o: Tekken's expression with contractions and numbers in groups of three digits.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Runs of Chinese characters and Japanese kana.
const CJK: &str = r"[一-龥぀-ゟ゠-ヿ]+";
/// DeepSeek 3: words, punctuation and line breaks; numbers and [`CJK`] are split off before.
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Falcon: runs of punctuation.
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
/// The default of llama.cpp, for files without `tokenizer.ggml.pre`: Falcon's expression without the backtick.
const DEFAULT_PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
/// Runs of digits.
const NUMBER: &str = r"\p{N}+";
/// Three ASCII digits.
const TRIPLE: &str = r"[0-9][0-9][0-9]";

/// The pre-tokeniser of one or several families.
#[derive(Debug)]
pub struct PreTokenizer {
    /// The names in `tokenizer.ggml.pre`.
    names: &'static [&'static str],
    /// Regular expressions, each applied to the pieces that the previous one left.
    patterns: &'static [&'static str],
    /// Whether a piece that is a vocabulary entry becomes one token without merging.
    pub ignore_merges: bool,
    /// Whether BOS is added if the file does not say.
    pub add_bos: bool,
}

const fn plain(names: &'static [&'static str], patterns: &'static [&'static str]) -> PreTokenizer {
    PreTokenizer { names, patterns, ignore_merges: false, add_bos: false }
}

/// All pre-tokenisers; names and grouping as in llama.cpp (`llama-vocab.cpp`).
const TABLE: [PreTokenizer; 11] = [
    plain(&["default"], &[DEFAULT_PUNCTUATION, GPT2, NUMBER, TRIPLE]),
    plain(&["gpt-2", "phi-2", "mpt", "olmo", "jais"], &[GPT2]),
    plain(&["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"], &[DIGIT, GPT2]),
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    plain(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[LLAMA3]),
    plain(&["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"], &[QWEN2]),
    plain(&["qwen35"], &[QWEN35]),
    PreTokenizer { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    plain(&["gpt-4o", "llama4"], &[GPT4O]),
    plain(&["deepseek-v3", "hunyuan-dense"], &[r"\p{N}{1,3}", CJK, DEEPSEEK3]),
    plain(&["falcon"], &[PUNCTUATION, GPT2, TRIPLE]),
];

impl PreTokenizer {
    /// The pre-tokeniser with this name.
    ///
    /// # Errors
    /// When the name is unknown; the known names are listed.
    pub fn named(name: &str) -> Result<&'static Self> {
        TABLE.iter().find(|s| s.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> = TABLE.iter().flat_map(|s| s.names.iter().copied()).collect();
            let like = nearest(name, known.iter().copied());
            let error = Error::failed(format!(
                "`tokenizer.ggml.pre` = `{}` is not supported; supported are {}",
                burgess_base::text::excerpt(name, 60),
                known.join(", ")
            ));
            match like.first() {
                Some(like) => {
                    error.hint(format!("did you mean `{like}`? Or use the model's directory with its tokenizer.json"))
                }
                None => error.hint("use the model's directory with its tokenizer.json"),
            }
        })
    }

    /// The value of `pre_tokenizer` in a `tokenizer.json`.
    pub fn to_json(&self) -> Value {
        let split =
            |p: &&str| json!({"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": false});
        let mut steps: Vec<Value> = self.patterns.iter().map(split).collect();
        steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}));
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}
