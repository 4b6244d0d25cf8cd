//! Small files of weights, and functions that damage them.

mod images;
pub mod zip;

pub use images::claims;

use burgess_base::stream;
use rand::Rng;

/// Bytes of four f32 ones.
pub fn float() -> Vec<u8> {
    1f32.to_le_bytes().repeat(4)
}

/// Makes a safetensors file.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Makes an index of shards with one entry.
pub fn index(key: &str, shard: &str) -> String {
    format!(r#"{{"metadata":{{}},"weight_map":{{"{key}":"{shard}"}}}}"#)
}

/// Makes the pickle that `torch.save` writes for `{"w": torch.ones(4), "x": …}`; `beside` makes the second value.
pub fn pickled(beside: &[u8]) -> Vec<u8> {
    let front = b"\x80\x02}q\x00(X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x04tq\x07QK\x00K\x04\x85q\x08K\x01\x85q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0d";
    let beside = if beside.is_empty() { b"N" } else { beside };
    [&front[..], b"X\x01\x00\x00\x00x", beside, b"u."].concat()
}

/// Makes a GGUF file from the bytes of its metadata and table of tensors, with their claimed counts, and four ones.
pub fn gguf(pairs: u64, metadata: &[u8], tensors: u64, table: &[u8]) -> Vec<u8> {
    let front = [b"GGUF", &3u32.to_le_bytes()[..], &tensors.to_le_bytes(), &pairs.to_le_bytes()].concat();
    let mut bytes = [&front[..], metadata, table].concat();
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    [bytes, float()].concat()
}

/// Makes a GGUF string with its length, followed by `rest` (as in a metadata pair or a line of the table).
pub fn counted(text: &str, rest: &[&[u8]]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &rest.concat()].concat()
}

/// Makes the line for `w` in a GGUF table of tensors.
pub fn line(shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let shape: Vec<u8> =
        [&(shape.len() as u32).to_le_bytes()[..], &shape.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>()]
            .concat();
    counted("w", &[&shape, &kind.to_le_bytes(), &offset.to_le_bytes()])
}

/// Makes a zip archive of these members.
pub fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    zip::Archive::new(members).bytes()
}

/// Makes a file of `torch.save` with this pickle and four ones.
pub fn torch(pickle: &[u8]) -> Vec<u8> {
    zip_of(&[("archive/data.pkl", pickle), ("archive/version", b"3\n"), ("archive/data/0", &float())])
}

/// A seeded source of random damage.
pub struct Stream(stream::Stream);

impl Stream {
    pub fn new(name: &str) -> Self {
        Self(stream::stream(name, 0))
    }

    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n.max(1) as u64) as usize
    }

    /// Returns `bytes` with one to six changes.
    pub fn damaged(&mut self, bytes: &[u8]) -> Vec<u8> {
        /// Numbers that are close to overflow, and numbers that are typical of headers.
        const ODD: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1, u64::MAX];
        const TEXT: &[u8] = b"0123456789{}[]\",:.(tRbuesqhjQcX)\x80\x81\x85\x8a\x93\x94";
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(6) {
            let (at, length) = (self.below(bytes.len()), 1 + self.below(12));
            let end = (at + length).min(bytes.len());
            match self.below(8) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.below(256) as u8,
                2 => bytes[at] = TEXT[self.below(TEXT.len())],
                3 => {
                    let number = ODD[self.below(ODD.len())].to_le_bytes();
                    let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
                    bytes[at..at + width].copy_from_slice(&number[..width]);
                }
                4 => drop(bytes.drain(at..end)),
                5 => {
                    let copy = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                6 => {
                    let copy = bytes[at..end].to_vec();
                    let to = self.below(bytes.len() - copy.len() + 1);
                    bytes[to..to + copy.len()].copy_from_slice(&copy);
                }
                _ if self.below(8) == 0 => bytes.truncate(at.max(1)),
                _ => bytes[at] = bytes[at].wrapping_add(1),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        bytes
    }
}
