//! Fuzz targets for weights: safetensors, files of `torch.save`, GGUF, indexes of shards.

use super::zip;
use crate::FuzzTarget;
use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{Checkpoint, MetadataValue};
use burgess_probe::llm::Weights;
use burgess_probe::llm::chat::{ChatTemplate, Turn};
use burgess_probe::llm::tokenizer::{GgufTokenizer, Tokenizer};
use std::path::Path;

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "safetensors",
        about: "weights in safetensors",
        corpus: &[
            "tests/golden/directories/*/model.safetensors",
            "tests/golden/connectors/mlp2x_gelu.safetensors",
            "tests/golden/llm/*/golden.safetensors",
        ],
        words: &["\"F64\"", "\"F8_E4M3\"", "\"BF16\"", "\"I64\"", "\"BOOL\"", "data_offsets", "shape", "__metadata__"],
        form: MutationForm::Json,
        share: 100,
        run: |input, place| opened(&place.file("model.safetensors", input.bytes)?),
    },
    FuzzTarget {
        name: "torch",
        about: "files of torch.save, zip archives and the older form",
        corpus: &["tests/golden/pickles/*.pth", "tests/golden/pickles/mae/*.bin"],
        words: &["archive/data.pkl", "PK\x01\x02", "PK\x05\x06", "PK\x06\x06", "byteorder"],
        form: MutationForm::Binary,
        share: 60,
        run: |input, place| opened(&place.file("pytorch_model.bin", input.bytes)?),
    },
    FuzzTarget {
        name: "pickle",
        about: "the pickle inside a file of torch.save",
        corpus: &[],
        words: &[
            "ctorch._utils\n_rebuild_tensor_v2\n",
            "ctorch\nFloatStorage\n",
            "ccollections\nOrderedDict\n",
            "X\x05\0\0\0state",
            "\u{1}\0\0\0",
            "N",
            ")",
            "}",
            "]",
            "(",
            "t",
            "R",
            "b",
            "s",
            "u",
            "e",
            "h\0",
            "q\0",
            "Q",
            ".",
        ],
        form: MutationForm::Binary,
        share: 100,
        run: |input, place| {
            let numbers = [0u8; 400];
            let members = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"].map(|n| format!("archive/data/{n}"));
            let mut all: Vec<(&str, &[u8])> = vec![("archive/data.pkl", input.bytes), ("archive/version", b"3\n")];
            all.extend(members.iter().map(|name| (name.as_str(), &numbers[..])));
            opened(&place.file("pytorch_model.bin", &zip::stored(&all))?)
        },
    },
    FuzzTarget {
        name: "gguf",
        about: "weights and metadata in GGUF",
        corpus: &["tests/golden/gguf/*.gguf", "tests/golden/llm-gguf/*.gguf"],
        words: &["general.architecture", "general.alignment", "split.count", "llama", "GGUF"],
        form: MutationForm::Binary,
        share: 60,
        run: |input, place| opened(&place.file("model.gguf", input.bytes)?),
    },
    FuzzTarget {
        name: "gguf-model",
        about: "a language model in GGUF: configuration, tokenizer, chat template",
        corpus: &["tests/golden/llm-gguf/*.gguf"],
        words: &["tokenizer.ggml.model", "tokenizer.ggml.pre", "gpt2", "llama", "block_count", "rope.scaling.type"],
        form: MutationForm::Binary,
        share: 6,
        run: |input, place| model(&place.file("model.gguf", input.bytes)?, place),
    },
    FuzzTarget {
        name: "gguf-tokenizer",
        about: "tokenizer and chat template in the metadata of GGUF",
        corpus: &[],
        words: &[
            "tokenizer.ggml.model",
            "tokenizer.ggml.pre",
            "gpt2",
            "llama",
            "llama-bpe",
            "\u{120}",
            "<0x41>",
            "scores",
        ],
        form: MutationForm::Binary,
        share: 30,
        run: |input, place| {
            let file = Checkpoint::open(&place.file("model.gguf", input.bytes)?)?;
            let tokenizer = Tokenizer::from_gguf(&GgufTokenizer::of_metadata(&file.metadata())?)?;
            tokenizer.notes().iter().for_each(|note| place.tell(note));
            tokenizer.decode(&tokenizer.encode(super::tokenizers::TEXT)?)?;
            ChatTemplate::from_model(&tokenizer)?.open(&tokenizer, &[Turn::user("Hello")], true).map(drop)
        },
    },
    FuzzTarget {
        name: "shards",
        about: "the index of sharded weights",
        corpus: &[],
        words: &["weight_map", "model.safetensors", "../model.safetensors", "/dev/zero", "total_size"],
        form: MutationForm::Json,
        share: 60,
        run: |input, place| opened(&place.beside(input.origin, input.bytes)?.join(input.name())),
    },
    FuzzTarget {
        name: "llm-directory",
        about: "config.json of a language model beside its weights",
        corpus: &["tests/golden/llm/*/config.json"],
        words: super::configs::KEYS,
        form: MutationForm::Json,
        share: 6,
        run: |input, place| model(&place.beside(input.origin, input.bytes)?, place),
    },
];

/// Opens a file of weights and reads all tensors.
fn opened(path: &Path) -> Result<()> {
    let file = Checkpoint::open(path)?;
    let mut failed = None;
    for key in file.keys() {
        let shape = file.shape(key).ok_or_else(|| Error::failed("a key without a shape"))?;
        let count: usize = shape.iter().product();
        match file.read(key) {
            Ok(values) => assert_eq!(values.len(), count, "{key}"),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    let metadata = file.metadata();
    for key in metadata.keys() {
        if let Some(MetadataValue::List(list)) = metadata.get(key) {
            drop(list.texts().map(Iterator::count));
            drop(list.numbers().map(Iterator::count));
            drop(list.flags().map(Iterator::count));
        }
        let (_, _) = (metadata.text(key), metadata.size(key));
    }
    failed.map_or(Ok(()), Err)
}

/// Reads everything of a language model except the network itself.
fn model(path: &Path, place: &InputDir) -> Result<()> {
    let weights = Weights::open_path(path)?;
    weights.notes()?.into_iter().for_each(|note| place.tell(note));
    weights.check()?;
    if weights.tokenizer_source().is_err() {
        return Ok(());
    }
    let tokenizer = Tokenizer::of_model(&weights)?;
    tokenizer.notes().iter().for_each(|note| place.tell(note));
    weights.check_tokenizer(&tokenizer)?;
    tokenizer.decode(&tokenizer.encode(super::tokenizers::TEXT)?)?;
    let chat = ChatTemplate::of_model(&weights, &tokenizer)?;
    chat.open(&tokenizer, &[Turn::user("Hello")], true).map(drop)
}
