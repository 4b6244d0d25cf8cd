//! Fuzz targets for tokenizers: tokenizer.json, SentencePiece, and their companion files.

use crate::FuzzTarget;
use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use burgess_base::Result;
use burgess_probe::llm::tokenizer::Tokenizer;

/// Text that is encoded with each tokenizer.
pub const TEXT: &str = "Hello <image> w\u{f6}rld,  it's 12345!\n\t\u{4f60}\u{597d} \u{1f642}</s><|im_end|>";

const WORDS: &[&str] = &[
    "\"normalizer\"",
    "\"pre_tokenizer\"",
    "\"post_processor\"",
    "\"decoder\"",
    "\"Replace\"",
    "\"Prepend\"",
    "\"Strip\"",
    "\"Sequence\"",
    "\"ByteLevel\"",
    "\"Split\"",
    "\"Regex\"",
    "\"TemplateProcessing\"",
    "\"truncation\"",
    "\"padding\"",
    "{\"max_length\":4,\"stride\":4,\"strategy\":\"LongestFirst\",\"direction\":\"Right\"}",
    "\"Precompiled\"",
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"aa\"}",
    "\"Metaspace\"",
    "\"unk_id\"",
    "\"Unigram\"",
    "{\"type\":\"Digits\",\"individual_digits\":true}",
    "\"WordPiece\"",
    "\"merges\"",
    "\"(a+)+$\"",
    "\"(?=(.*))\"",
    "\"byte_fallback\"",
    "\"added_tokens\"",
    "\"dropout\"",
    "\"fuse_unk\"",
    "\"ignore_merges\"",
    "\"pad_to_multiple_of\"",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "tokenizer-json",
        about: "tokenizer.json of Hugging Face",
        corpus: &["tests/golden/tokenizers/*/tokenizer.json"],
        words: WORDS,
        form: MutationForm::Json,
        share: 20,
        run: |input, place| used(&Tokenizer::from_bytes(input.bytes)?, place),
    },
    FuzzTarget {
        name: "sentencepiece",
        about: "tokenizer.model of SentencePiece",
        corpus: &["tests/golden/tokenizers/*/tokenizer.model"],
        words: &["\u{2581}", "<0x41>", "<unk>", "</s>"],
        form: MutationForm::Binary,
        share: 20,
        run: |input, place| used(&Tokenizer::from_file(&place.file("sp/tokenizer.model", input.bytes)?)?, place),
    },
    FuzzTarget {
        name: "tokenizer-config",
        about: "tokenizer_config.json beside a tokenizer",
        corpus: &[
            "tests/golden/tokenizers/*/tokenizer_config.json",
            "tests/golden/tokenizers/*/generation_config.json",
        ],
        words: &[
            "\"added_tokens_decoder\"",
            "\"bos_token\"",
            "\"eos_token\"",
            "\"chat_template\"",
            "\"add_bos_token\"",
            "\"legacy\"",
            "\"content\"",
            "\"lstrip\"",
            "\"special\"",
            "\"4294967295\"",
            "\"0\"",
            "\"eos_token_id\"",
        ],
        form: MutationForm::Json,
        share: 20,
        run: |input, place| used(&Tokenizer::open(&place.beside(input.origin, input.bytes)?)?, place),
    },
];

fn used(tokenizer: &Tokenizer, place: &InputDir) -> Result<()> {
    tokenizer.notes().iter().for_each(|note| place.tell(note));
    tokenizer.encode_with_offsets(TEXT)?;
    tokenizer.encode("")?;
    let ids = tokenizer.encode_text(TEXT)?;
    tokenizer.decode(&ids)?;
    let last = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    tokenizer.decode(&[0, 1, 2, last.wrapping_sub(1), last, u32::MAX])?;
    Ok(())
}
