//! Writes GGUF files: of given tensors, or made-up LLaMA models with random blocks, which are read and multiplied like
//! real ones of the same size.
//!
//! Test files and examples include this file with `#[path]`.

// Not every file uses every function.
#![allow(dead_code)]

use burgess_encoders::number_format::{GgmlBlock, NumberFormat};
use half::f16;
use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

/// A value of the metadata.
pub enum Value {
    U32(u32),
    F32(f32),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<f32>),
    Integers(Vec<i32>),
}

/// A tensor that will be written: its name, its shape with the outermost dimension first, and its number format.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub format: NumberFormat,
}

impl Tensor {
    pub fn new(name: impl Into<String>, shape: &[usize], format: NumberFormat) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), format }
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        let (numbers, bytes) = self.format.unit();
        self.shape.iter().product::<usize>() / numbers * bytes
    }
}

/// Number of a type in ggml.
fn type_number(format: NumberFormat) -> u32 {
    match format {
        NumberFormat::F16 => 1,
        NumberFormat::Bf16 => 30,
        NumberFormat::Block(block) => match block {
            GgmlBlock::Q4_0 => 2,
            GgmlBlock::Q4_1 => 3,
            GgmlBlock::Q5_0 => 6,
            GgmlBlock::Q5_1 => 7,
            GgmlBlock::Q8_0 => 8,
            GgmlBlock::Q2K => 10,
            GgmlBlock::Q3K => 11,
            GgmlBlock::Q4K => 12,
            GgmlBlock::Q5K => 13,
            GgmlBlock::Q6K => 14,
        },
        _ => 0,
    }
}

const ALIGNMENT: usize = 32;

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn array<T>(kind: u32, all: &[T], bytes: impl Fn(&T) -> Vec<u8>) -> (u32, Vec<u8>) {
    let head = [&kind.to_le_bytes()[..], &(all.len() as u64).to_le_bytes()].concat();
    (9, head.into_iter().chain(all.iter().flat_map(bytes)).collect())
}

/// Writes a file; `data` writes the bytes of each tensor in turn.
pub fn write(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[Tensor],
    mut data: impl FnMut(&Tensor, &mut dyn Write) -> Result<()>,
) -> Result<()> {
    let mut header = [b"GGUF", &3u32.to_le_bytes()[..], &(tensors.len() as u64).to_le_bytes()].concat();
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        header.extend(text(key));
        let (kind, bytes) = match value {
            Value::U32(n) => (4, n.to_le_bytes().to_vec()),
            Value::F32(n) => (6, n.to_le_bytes().to_vec()),
            Value::Text(t) => (8, text(t)),
            Value::Texts(all) => array(8, all, |t| text(t)),
            Value::Numbers(all) => array(6, all, |n| n.to_le_bytes().to_vec()),
            Value::Integers(all) => array(5, all, |n| n.to_le_bytes().to_vec()),
        };
        header.extend(kind.to_le_bytes());
        header.extend(bytes);
    }
    let mut offset = 0;
    for tensor in tensors {
        header.extend(text(&tensor.name));
        header.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|n| header.extend((*n as u64).to_le_bytes()));
        header.extend(type_number(tensor.format).to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        offset += tensor.size().next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&header)?;
    for tensor in tensors {
        data(tensor, &mut file)?;
        let size = tensor.size();
        file.write_all(&vec![0; size.next_multiple_of(ALIGNMENT) - size])?;
    }
    file.flush()
}

/// Sizes of a made-up LLaMA.
#[derive(Clone, Copy)]
pub struct Llama {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub mlp: usize,
    pub vocabulary: usize,
    pub context: usize,
    /// Whether the output head is the token table.
    pub tied: bool,
    /// Format of the matrices in the blocks.
    pub format: NumberFormat,
    /// Format of the token table and of the output head.
    pub table: NumberFormat,
}

impl Llama {
    /// The metadata without a tokenizer.
    pub fn metadata(&self) -> Vec<(String, Value)> {
        let mut all = vec![("general.architecture".into(), Value::Text("llama".into()))];
        let sizes = [
            ("block_count", self.layers),
            ("embedding_length", self.width),
            ("feed_forward_length", self.mlp),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("context_length", self.context),
            ("rope.dimension_count", self.width / self.heads),
        ];
        all.extend(sizes.map(|(key, n)| (format!("llama.{key}"), Value::U32(n as u32))));
        all.push(("llama.attention.layer_norm_rms_epsilon".into(), Value::F32(1e-5)));
        all.push(("llama.rope.freq_base".into(), Value::F32(1e4)));
        all
    }

    /// The metadata of a tokenizer: three special tokens, all bytes, and words of made-up letters.
    pub fn tokenizer(&self) -> Vec<(String, Value)> {
        let special = ["<unk>", "<s>", "</s>"].map(String::from).into_iter();
        let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
        let letters = "▁etaoinshrdlcumwfgypbvk,.?".chars().map(String::from);
        let words = (0..).map(|n| format!("▁word{n}"));
        let tokens: Vec<String> = special.chain(bytes).chain(letters).chain(words).take(self.vocabulary).collect();
        let kind = |i: usize| match i {
            0 => 2,
            1 | 2 => 3,
            3..259 => 6,
            _ => 1,
        };
        vec![
            ("tokenizer.ggml.model".into(), Value::Text("llama".into())),
            ("tokenizer.ggml.scores".into(), Value::Numbers((0..tokens.len()).map(|i| -(i as f32)).collect())),
            ("tokenizer.ggml.token_type".into(), Value::Integers((0..tokens.len()).map(kind).collect())),
            ("tokenizer.ggml.tokens".into(), Value::Texts(tokens)),
            ("tokenizer.ggml.bos_token_id".into(), Value::U32(1)),
            ("tokenizer.ggml.eos_token_id".into(), Value::U32(2)),
        ]
    }

    /// All tensors in the order of llama.cpp's converter.
    pub fn tensors(&self) -> Vec<Tensor> {
        let (d, kv) = (self.width, self.width / self.heads * self.kv_heads);
        let norm = |name: String| Tensor::new(name, &[d], NumberFormat::F32);
        let mut all = vec![Tensor::new("token_embd.weight", &[self.vocabulary, d], self.table)];
        for i in 0..self.layers {
            all.push(norm(format!("blk.{i}.attn_norm.weight")));
            all.push(norm(format!("blk.{i}.ffn_norm.weight")));
            for (name, shape) in [
                ("attn_q", [d, d]),
                ("attn_k", [kv, d]),
                ("attn_v", [kv, d]),
                ("attn_output", [d, d]),
                ("ffn_gate", [self.mlp, d]),
                ("ffn_up", [self.mlp, d]),
                ("ffn_down", [d, self.mlp]),
            ] {
                all.push(Tensor::new(format!("blk.{i}.{name}.weight"), &shape, self.format));
            }
        }
        all.push(norm("output_norm.weight".into()));
        all.extend((!self.tied).then(|| Tensor::new("output.weight", &[self.vocabulary, d], self.table)));
        all
    }

    /// Writes the model with random weights and norms of one.
    pub fn write(&self, path: &Path, with_tokenizer: bool) -> Result<()> {
        let mut metadata = self.metadata();
        metadata.extend(with_tokenizer.then(|| self.tokenizer()).into_iter().flatten());
        let mut random = Random(1);
        write(path, &metadata, &self.tensors(), |tensor, file| {
            let mut left = tensor.size();
            if tensor.format == NumberFormat::F32 {
                return file.write_all(&1f32.to_le_bytes().repeat(left / 4));
            }
            // Outputs of a layer have the size of its inputs.
            let size = 1.0 / (tensor.shape[1] as f32).sqrt();
            let mut tile = vec![0; (1 << 20) / tensor.format.size() * tensor.format.size()];
            while left > 0 {
                let count = left.min(tile.len());
                random.fill(&mut tile[..count], tensor.format, size);
                file.write_all(&tile[..count])?;
                left -= count;
            }
            Ok(())
        })
    }
}

/// A generator of random bytes (xorshift).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Fills `out` with random values or blocks whose root mean square is about `size`.
    pub fn fill(&mut self, out: &mut [u8], format: NumberFormat, size: f32) {
        for bytes in out.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            bytes.copy_from_slice(&random[..bytes.len()]);
        }
        let NumberFormat::Block(block) = format else {
            for value in out.as_chunks_mut::<2>().0 {
                let uniform = f32::from(u16::from_le_bytes(*value)) / 32767.5 - 1.0;
                let number = uniform * size * 3f32.sqrt();
                *value = match format {
                    NumberFormat::Bf16 => half::bf16::from_f32(number).to_le_bytes(),
                    _ => f16::from_f32(number).to_le_bytes(),
                };
            }
            return;
        };
        // Positions of the scales, each with its size relative to the first, so that values are around zero, and the
        // root mean square of values with a first scale of one.
        let (scales, one): (&[(usize, f32)], f32) = match block {
            GgmlBlock::Q4_0 => (&[(0, 1.0)], 4.6),
            GgmlBlock::Q4_1 => (&[(0, 1.0), (2, -7.5)], 4.6),
            GgmlBlock::Q5_0 => (&[(0, 1.0)], 9.2),
            GgmlBlock::Q5_1 => (&[(0, 1.0), (2, -15.5)], 9.2),
            GgmlBlock::Q8_0 => (&[(0, 1.0)], 74.0),
            GgmlBlock::Q2K => (&[(80, 1.0), (82, 1.5)], 17.0),
            GgmlBlock::Q3K => (&[(108, 1.0)], 42.0),
            GgmlBlock::Q4K => (&[(0, 1.0), (2, 7.5)], 260.0),
            GgmlBlock::Q5K => (&[(0, 1.0), (2, 15.5)], 530.0),
            GgmlBlock::Q6K => (&[(208, 1.0)], 1370.0),
        };
        for bytes in out.chunks_exact_mut(block.unit().1) {
            for (at, relative) in scales {
                bytes[*at..at + 2].copy_from_slice(&f16::from_f32(size / one * relative).to_le_bytes());
            }
        }
    }
}

/// Quantises rows of 32 values each to `Q8_0` or `Q4_0`, as ggml does.
pub fn quantised(values: &[f32], block: GgmlBlock) -> Vec<u8> {
    let mut out = Vec::new();
    for values in values.chunks_exact(32) {
        let most = values.iter().copied().fold(0f32, |most, v| if v.abs() > most.abs() { v } else { most });
        if block == GgmlBlock::Q8_0 {
            let d = most.abs() / 127.0;
            out.extend(f16::from_f32(d).to_le_bytes());
            out.extend(values.iter().map(|v| if d > 0.0 { (v / d).round() as i8 as u8 } else { 0 }));
        } else {
            let d = most / -8.0;
            let code = |v: f32| if d == 0.0 { 8 } else { ((v / d + 8.5) as u8).min(15) };
            out.extend(f16::from_f32(d).to_le_bytes());
            out.extend((0..16).map(|i| code(values[i]) | code(values[i + 16]) << 4));
        }
    }
    out
}
