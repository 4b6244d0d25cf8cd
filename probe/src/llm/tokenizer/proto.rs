//! Parses the parts of SentencePiece's `ModelProto` that define a tokenizer, directly from the protobuf bytes
//! (`sentencepiece_model.proto`; other fields are skipped).

use burgess_base::protobuf::{ProtobufField, ProtobufMessage, ProtobufValue};
use burgess_base::{Error, Result};

/// The type of a piece; numbers as in the file and in GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceType {
    /// An ordinary piece, produced by segmentation.
    Normal,
    /// The piece for characters outside the vocabulary.
    Unknown,
    /// A control symbol such as `<s>` or `</s>`; SentencePiece never produces it from text.
    Control,
    /// A user-defined symbol, never split.
    UserDefined,
    /// An unused piece, never produced.
    Unused,
    /// A byte, `<0x00>` to `<0xFF>`.
    Byte,
}

impl PieceType {
    /// The type with this number, 1 to 6.
    ///
    /// # Errors
    /// When there is no such type.
    pub fn from_number(number: u64) -> Result<Self> {
        const TYPES: [PieceType; 6] = [
            PieceType::Normal,
            PieceType::Unknown,
            PieceType::Control,
            PieceType::UserDefined,
            PieceType::Unused,
            PieceType::Byte,
        ];
        let kind = usize::try_from(number).ok().and_then(|n| TYPES.get(n.checked_sub(1)?)).copied();
        kind.ok_or_else(|| {
            Error::failed(format!("piece type {number} is not supported, expected 1 to {}", TYPES.len()))
        })
    }
}

/// One entry of the vocabulary; its index is its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The text in the vocabulary, with `▁` for a space.
    pub text: String,
    /// Log-probability (Unigram), or minus the rank of its merge (BPE).
    pub score: f32,
    /// The type of the piece.
    pub piece_type: PieceType,
}

/// The segmentation algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentationAlgorithm {
    /// The most likely segmentation under a unigram model.
    Unigram,
    /// Byte-pair encoding: the best-scored pair is merged first.
    Bpe,
}

/// The parts of a SentencePiece model that define a tokenizer.
#[derive(Debug, Clone)]
pub struct ModelProto {
    /// The vocabulary, in the order of ids.
    pub pieces: Vec<Piece>,
    /// The segmentation algorithm.
    pub algorithm: SegmentationAlgorithm,
    /// Whether characters without a piece become byte pieces.
    pub byte_fallback: bool,
    /// Id of the unknown piece.
    pub unk: u32,
    /// Id of the piece that begins a text, if there is one.
    pub bos: Option<u32>,
    /// Id of the piece that ends a text, if there is one.
    pub eos: Option<u32>,
    /// Id of the padding piece, if there is one.
    pub pad: Option<u32>,
    /// Normalisation rules as a compiled trie; empty without any.
    pub charsmap: Vec<u8>,
    /// Whether a space is added before a text.
    pub add_dummy_prefix: bool,
    /// Whether spaces at both ends are removed and repeated ones collapsed.
    pub remove_extra_whitespaces: bool,
    /// Whether a space becomes `▁`.
    pub escape_whitespaces: bool,
}

impl ModelProto {
    /// Parses a `tokenizer.model`.
    ///
    /// # Errors
    /// When the bytes are not such a message (the error names the byte), or the model type is not supported.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            algorithm: SegmentationAlgorithm::Unigram,
            byte_fallback: false,
            unk: 0,
            bos: Some(1),
            eos: Some(2),
            pad: None,
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        for field in ProtobufMessage::new(bytes) {
            let ProtobufField { number, value } = field?;
            match (number, value) {
                (1, ProtobufValue::Bytes(piece)) => model.pieces.push(self::piece(piece, model.pieces.len())?),
                (2, ProtobufValue::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, ProtobufValue::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err(Error::failed("the model has no pieces"));
        }
        let unknown = usize::try_from(model.unk).ok().and_then(|i| model.pieces.get(i));
        if unknown.is_none_or(|p| p.piece_type != PieceType::Unknown) {
            return Err(Error::failed(format!("piece {} must be of type unknown (`unk_id`)", model.unk)));
        }
        Ok(model)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Result<()> {
        for field in ProtobufMessage::new(bytes) {
            let ProtobufField { number, value } = field?;
            match (number, value) {
                (3, ProtobufValue::Varint(1)) => self.algorithm = SegmentationAlgorithm::Unigram,
                (3, ProtobufValue::Varint(2)) => self.algorithm = SegmentationAlgorithm::Bpe,
                (3, ProtobufValue::Varint(other)) => {
                    return Err(Error::failed(format!(
                        "model type {other} is not supported, expected Unigram (1) or BPE (2)"
                    )));
                }
                (24, ProtobufValue::Varint(1)) => {
                    return Err(Error::failed("`treat_whitespace_as_suffix` is not supported"));
                }
                (35, ProtobufValue::Varint(flag)) => self.byte_fallback = flag != 0,
                (40, ProtobufValue::Varint(id)) => {
                    self.unk = self::id(id).ok_or_else(|| {
                        Error::failed("`unk_id` is negative; a model without unknown piece is not supported")
                    })?;
                }
                (41, ProtobufValue::Varint(id)) => self.bos = self::id(id),
                (42, ProtobufValue::Varint(id)) => self.eos = self::id(id),
                (43, ProtobufValue::Varint(id)) => self.pad = self::id(id),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Result<()> {
        for field in ProtobufMessage::new(bytes) {
            let ProtobufField { number, value } = field?;
            match (number, value) {
                (2, ProtobufValue::Bytes(map)) => self.charsmap = map.to_vec(),
                (3, ProtobufValue::Varint(flag)) => self.add_dummy_prefix = flag != 0,
                (4, ProtobufValue::Varint(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, ProtobufValue::Varint(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Converts an id field; negative numbers mean that there is none.
fn id(number: u64) -> Option<u32> {
    u32::try_from(number.cast_signed()).ok()
}

/// Parses one piece; `number` is its id.
fn piece(bytes: &[u8], number: usize) -> Result<Piece> {
    let step = || format!("piece {number}");
    let mut piece = Piece { text: String::new(), score: 0.0, piece_type: PieceType::Normal };
    for field in ProtobufMessage::new(bytes) {
        let ProtobufField { number, value } = field.map_err(|e| e.context(step()))?;
        match (number, value) {
            (1, ProtobufValue::Bytes(text)) => {
                let text =
                    std::str::from_utf8(text).map_err(|_| Error::failed("its text is not UTF-8").context(step()))?;
                piece.text = text.to_string();
            }
            (2, ProtobufValue::Fixed32(bytes)) => piece.score = f32::from_le_bytes(bytes),
            (3, ProtobufValue::Varint(kind)) => {
                piece.piece_type = PieceType::from_number(kind).map_err(|e| e.context(step()))?
            }
            _ => {}
        }
    }
    if !piece.score.is_finite() {
        return Err(Error::failed(format!("its score is {}, which is not finite", piece.score)).context(step()));
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A model with only the unknown piece.
    const SMALL: &[u8] = b"\x0a\x0c\x0a\x05<unk>\x15\0\0\0\0\x18\x02";

    #[test]
    fn wrong_lengths_are_errors() {
        let mut good = SMALL.to_vec();
        // Two bytes short: the type of piece 0 is cut off, so there is no unknown piece.
        good[1] = 12;
        let e = ModelProto::parse(&good).unwrap_err();
        assert!(e.to_string().contains("asks for") || e.to_string().contains("unknown"), "{e}");
        for bytes in [
            &b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"[..],
            b"\x0a",
            b"\x0b",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"",
        ] {
            assert!(ModelProto::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ModelProto::parse(&bytes);
            let _ = ModelProto::parse(&[SMALL, &bytes].concat());
        }
    }
}
