//! Reads files of `torch.save` (`.pth`, `.pt`, `.bin`, `.pth.tar`): the zip archive of PyTorch 1.6 and later, and the
//! older sequence of pickles. Only tensors are read, and in place: nothing is executed (see [`pickle`]), unpacked or
//! copied, and memory use is bounded by the file's size (see [`MemoryBudget`]).
//!
//! Nested dictionaries become dots in names: the encoder of a MoCo v3 checkpoint is under
//! `state_dict.module.base_encoder.`, a card's prefix. Source of the formats: `torch/serialization.py`.

mod archive;
mod pickle;

use super::budget::MemoryBudget;
use super::entry::{CheckpointEntry, MAX_DIMENSIONS, MAX_NAME};
use super::foreign;
use crate::number_format::NumberFormat;
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use pickle::{Heap, Id, Node};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

const TRUNCATED: &str =
    "delete the file and download it again: the download or copy was truncated, or the file is damaged";
/// Maximum depth of nested dictionaries; known checkpoints have fewer levels.
const MAX_DEPTH: usize = 16;

/// Whether `file` begins like one of `torch.save`. The header length of a safetensors file may equal the first bytes of
/// a pickle, but then its JSON follows.
pub(super) fn is_pytorch(file: &[u8]) -> bool {
    file.starts_with(b"PK\x03\x04") || (matches!(file, [0x80, 2..=5, ..]) && file.get(8) != Some(&b'{'))
}

/// Parses the names and positions of all tensors of a file in memory.
///
/// # Errors
/// The file is truncated, damaged, compressed or big-endian, or contains objects instead of tensors.
pub(super) fn parse(file: &[u8], budget: &mut MemoryBudget) -> Result<BTreeMap<String, CheckpointEntry>> {
    let parsed = if file.starts_with(b"PK") { zipped(file, budget) } else { legacy(file, budget) };
    parsed.map_err(|e| e.hint(TRUNCATED))
}

/// Byte ranges of the storages, by key.
type Storages<'a> = HashMap<&'a str, Range<usize>>;

/// Reads the zip format: `<any>/data.pkl` and one uncompressed member `<any>/data/<key>` per storage.
fn zipped(file: &[u8], budget: &mut MemoryBudget) -> Result<BTreeMap<String, CheckpointEntry>> {
    let members = archive::members(file, budget)?;
    let mut pickles = members.keys().filter(|n| n.ends_with("data.pkl") && n.matches('/').count() <= 1);
    let (Some(main), None) = (pickles.next(), pickles.next()) else {
        return Err(Error::failed("the zip archive was not written by torch.save: it has no data.pkl")
            .hint("if it contains weights, unpack it and give the path of their file"));
    };
    let root = main.strip_suffix("data.pkl").unwrap_or_default();
    let content = |name: &str| members.get(name).and_then(|r| file.get(r.clone()));
    if content(&format!("{root}byteorder")).is_some_and(|order| order != b"little") {
        return Err(
            Error::failed("the weights were saved on a big-endian machine").hint("save the weights as safetensors")
        );
    }
    let (heap, top, _) = pickle::read(content(main).unwrap_or_default(), budget)?;
    let folder = format!("{root}data/");
    budget.grow::<(&str, Range<usize>)>(members.len())?;
    let storages = members.iter().filter_map(|(name, range)| Some((name.strip_prefix(&folder)?, range.clone())));
    tensors(&heap, top, &storages.collect(), budget)
}

/// Reads the format before PyTorch 1.6: five pickles (magic number, version, machine, values, keys of storages), then
/// per key the number of elements in 8 bytes and the elements.
fn legacy(file: &[u8], budget: &mut MemoryBudget) -> Result<BTreeMap<String, CheckpointEntry>> {
    const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    let mut at = MAGIC.len();
    if !file.starts_with(MAGIC) {
        return Err(Error::failed("the file is a Python pickle that was not written by torch.save")
            .hint("load it in Python and save its tensors as safetensors"));
    }
    let mut next = || {
        let read = pickle::read(file.get(at..).unwrap_or_default(), budget);
        read.inspect(|(_, _, length)| at += length)
    };
    let (version, machine) = (next()?, next()?);
    if version.0.size(version.1) != Some(1001) {
        return Err(Error::failed("the version of torch.save's format is unknown, expected 1001"));
    }
    if let Node::Dict(pairs) = machine.0.get(machine.1)
        && pairs
            .iter()
            .any(|(k, v)| machine.0.text(*k) == Some("little_endian") && machine.0.get(*v) == &Node::Bool(false))
    {
        return Err(
            Error::failed("the weights were saved on a big-endian machine").hint("save the weights as safetensors")
        );
    }
    let ((heap, top, _), (names, keys, _)) = (next()?, next()?);
    let mut sizes = HashMap::new();
    for storage in heap.all().filter_map(|node| Storage::of(&heap, node)) {
        budget.grow::<(&str, usize)>(1)?;
        sizes.insert(storage.key, storage.stored?.size());
    }
    let mut storages = Storages::new();
    for key in names.parts(keys).unwrap_or_default() {
        budget.grow::<(&str, Range<usize>)>(1)?;
        let key = names.text(*key).ok_or_else(|| Error::failed("the list of storages is damaged"))?;
        let count = file.get(at..).and_then(|rest| rest.first_chunk::<8>()).map(|n| u64::from_le_bytes(*n));
        let bytes = count.and_then(|n| usize::try_from(n).ok()?.checked_mul(*sizes.get(key)?));
        let end = bytes.and_then(|n| n.checked_add(at + 8)).filter(|end| *end <= file.len());
        let end = end.ok_or_else(|| Error::failed(format!("storage `{key}` lies beyond the end of the file")))?;
        storages.insert(key, at + 8..end);
        at = end;
    }
    tensors(&heap, top, &storages, budget)
}

/// The description that `torch.save` writes for a storage: `("storage", type, key, device, elements)`.
struct Storage<'a> {
    stored: Result<NumberFormat>,
    key: &'a str,
}

impl<'a> Storage<'a> {
    fn of(heap: &'a Heap, node: &Node) -> Option<Self> {
        let Node::Storage(description) = node else { return None };
        let parts = heap.parts(*description)?;
        let (&class, &key) = (parts.get(1)?, parts.get(2)?);
        let Node::Global(class) = heap.get(class) else { return None };
        // `None`, or the position of a view in another storage.
        if parts.get(5).is_some_and(|view| heap.get(*view) != &Node::Opaque) {
            let stored = Err(Error::failed("a storage is a view of another one, as PyTorch before 0.4 wrote them")
                .hint("save the weights again with a later PyTorch, or as safetensors"));
            return Some(Self { stored, key: heap.text(key)? });
        }
        let stored = match class.strip_prefix("torch ").or(class.strip_prefix("torch.cuda ")).unwrap_or(class) {
            "DoubleStorage" => Ok(NumberFormat::F64),
            "FloatStorage" => Ok(NumberFormat::F32),
            "HalfStorage" => Ok(NumberFormat::F16),
            "BFloat16Storage" => Ok(NumberFormat::Bf16),
            "LongStorage" | "ComplexFloatStorage" => Ok(NumberFormat::Other { size: 8 }),
            "IntStorage" => Ok(NumberFormat::Other { size: 4 }),
            "ShortStorage" => Ok(NumberFormat::Other { size: 2 }),
            "CharStorage" | "ByteStorage" | "BoolStorage" => Ok(NumberFormat::Other { size: 1 }),
            other => Err(Error::failed(format!("the storage type `{other}` is not supported"))
                .hint("save the weights as safetensors, in f32, f16 or bf16")),
        };
        Some(Self { stored, key: heap.text(key)? })
    }
}

/// A traversal of nested dictionaries and lists: the values that are still to be visited, with name and depth.
struct Walk<'a> {
    left: Vec<(String, Id, usize)>,
    budget: &'a mut MemoryBudget,
}

impl Walk<'_> {
    /// Adds a value to be visited. A few bytes can reference one dictionary a billion times, so every visit is charged
    /// to the budget.
    fn enter(&mut self, name: &str, part: &str, value: Id, depth: usize) -> Result<()> {
        self.budget.grow::<(String, Id, usize)>(1)?;
        self.budget.spend(name.len() + part.len() + 1)?;
        if depth > MAX_DEPTH || name.len() + part.len() >= MAX_NAME {
            return Err(Error::failed("the file's dictionaries contain themselves or are nested too deeply"));
        }
        let whole = if name.is_empty() { part.to_string() } else { [name, ".", part].concat() };
        self.left.push((whole, value, depth));
        Ok(())
    }
}

/// Collects all tensors that are reachable from `top` through dictionaries and lists.
fn tensors(
    heap: &Heap,
    top: Id,
    storages: &Storages,
    budget: &mut MemoryBudget,
) -> Result<BTreeMap<String, CheckpointEntry>> {
    let mut entries = BTreeMap::new();
    let mut walk = Walk { left: vec![(String::new(), top, 0)], budget };
    while let Some((name, id, depth)) = walk.left.pop() {
        match heap.get(id) {
            Node::Dict(pairs) => {
                // Pairs whose key cannot be part of a name cost a visit, too.
                walk.budget.spend(pairs.len())?;
                for (key, value) in pairs {
                    match heap.get(*key) {
                        Node::Text(text) => walk.enter(&name, text, *value, depth + 1)?,
                        Node::Int(n) => walk.enter(&name, &n.to_string(), *value, depth + 1)?,
                        _ => {}
                    }
                }
            }
            Node::List(parts) | Node::Tuple(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    walk.enter(&name, &i.to_string(), *part, depth + 1)?;
                }
            }
            Node::Tensor(arguments) => {
                let dimensions = arguments.get(2).and_then(|shape| heap.parts(*shape)).unwrap_or_default().len();
                walk.budget.spend(CheckpointEntry::cost(&name, 2 * dimensions))?;
                let entry = tensor(heap, arguments, storages).map_err(|e| e.context(format!("tensor `{name}`")))?;
                if entries.insert(name.clone(), entry).is_some() {
                    return Err(Error::failed(format!("tensor `{name}` is in the file twice")));
                }
            }
            _ => {}
        }
    }
    if entries.is_empty() || entries.contains_key("") {
        let what = match heap.object() {
            Some(class) => format!("a Python object of the class `{}`", excerpt(class, 200)),
            None => "a single tensor or some other Python object".into(),
        };
        return Err(Error::failed(format!("the file contains no dictionary of tensors, but {what}"))
            .hint(foreign::CONVERT_OBJECT));
    }
    Ok(entries)
}

/// Reads the arguments of `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata)`; offset
/// and stride are in elements.
fn tensor(heap: &Heap, arguments: &[Id], storages: &Storages) -> Result<CheckpointEntry> {
    let odd = || Error::failed("its description is damaged");
    let [storage, offset, shape, strides, ..] = arguments else { return Err(odd()) };
    let storage = Storage::of(heap, heap.get(*storage)).ok_or_else(odd)?;
    let sizes = |id: Id| {
        let parts = heap.parts(id).filter(|parts| parts.len() <= MAX_DIMENSIONS)?;
        parts.iter().map(|n| heap.size(*n)).collect::<Option<Vec<usize>>>()
    };
    let (offset, shape, strides) =
        (|| Some((heap.size(*offset)?, sizes(*shape)?, sizes(*strides)?)))().ok_or_else(odd)?;
    if arguments.get(6).is_some_and(|metadata| heap.get(*metadata) != &Node::Opaque) {
        return Err(Error::failed("it is a negated or conjugated view").hint("save it after `.resolve_neg()`"));
    }
    let stored = storage.stored?;
    let data = storages.get(storage.key);
    let data = data.ok_or_else(|| Error::failed(format!("its storage `{}` is not in the file", storage.key)))?;

    // One past the last element: 1 for a scalar, 0 if a dimension is empty.
    let reach = if shape.contains(&0) {
        Some(0)
    } else {
        shape.iter().zip(&strides).try_fold(1usize, |end, (n, stride)| end.checked_add((n - 1).checked_mul(*stride)?))
    };
    let range = reach.and_then(|reach| {
        let from = data.start.checked_add(offset.checked_mul(stored.size())?)?;
        let to = from.checked_add(reach.checked_mul(stored.size())?)?;
        (to <= data.end && shape.len() == strides.len()).then_some(from..to)
    });
    let bytes = range.ok_or_else(|| {
        Error::failed(format!("shape {shape:?} at offset {offset} exceeds its storage `{}`", storage.key))
    })?;
    let entry = CheckpointEntry { stored, shape, strides: Some(strides), bytes };
    // An expanded tensor (stride 0) would have more elements than the file.
    let size = entry.shape.iter().try_fold(stored.size(), |size, n| size.checked_mul(*n));
    if size.is_none_or(|size| size > data.len()) {
        return Err(Error::failed(format!("shape {:?} is larger than its storage `{}`", entry.shape, storage.key)));
    }
    Ok(entry)
}
