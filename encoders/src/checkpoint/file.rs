//! Opens a checkpoint on disk: one file of safetensors, `torch.save` or GGUF, or several shards, mapped into memory.

use super::budget::MemoryBudget;
use super::entry::CheckpointEntry;
use super::gguf::{self, Metadata};
use super::index::Index;
use super::locate::{self, DIFFUSERS_FOLDERS, find_in, is_diffusers_model};
use super::{foreign, pytorch, safetensors};
use crate::kernel::stored::{SharedBytes, StoredMatrix};
use crate::number_format;
use burgess_base::{Error, Result, digest};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An opened checkpoint: tensor names, shapes and positions. Values stay on disk until [`Checkpoint::read`] reads them.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorLocation>,
    /// Prefix that [`Checkpoint::under`] prepended to all names.
    root: String,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Arc<Mmap>,
    metadata: gguf::MetadataTable,
}

impl Shard {
    fn metadata(&self) -> Metadata<'_> {
        self.metadata.view(&self.map)
    }

    /// Releases the memory of these bytes after they were copied, so that only one copy of the weights is resident.
    /// The operating system loads them from the file again if they are read again.
    fn release(&self, bytes: Range<usize>) {
        // SAFETY: a read-only mapping of a file keeps its contents under this advice.
        #[cfg(unix)]
        #[allow(unsafe_code, reason = "the file is not changed while it is mapped")]
        // If the system refuses, the pages stay in memory, which is harmless.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, bytes.start, bytes.len()) };
    }
}

/// The location of a tensor: its shard, and its bytes in it.
#[derive(Debug)]
struct TensorLocation {
    shard: usize,
    entry: CheckpointEntry,
    /// Name in the file, which differs from the key if a prefix was removed or added.
    stored_name: String,
}

impl Checkpoint {
    /// Opens a file of safetensors, `torch.save` or GGUF, an `.index.json` of shards, the first of several GGUF files,
    /// or a directory that contains one of these. The format is detected by content, not by name. In a directory of
    /// diffusers, each part of the model has a folder, whose name becomes the prefix of its tensors (`unet.`, `vae.`,
    /// `text_encoder.`).
    ///
    /// Only headers are read. The files are mapped into memory, so they must not be truncated while the checkpoint is
    /// open; all writers of this project replace files by renaming, which is safe.
    ///
    /// # Errors
    /// The path does not exist, a header is damaged, or an index and its shards disagree.
    pub fn open(path: &Path) -> Result<Self> {
        let mut checkpoint =
            Self { path: path.to_path_buf(), shards: Vec::new(), tensors: BTreeMap::new(), root: String::new() };
        if is_diffusers_model(path) {
            for part in DIFFUSERS_FOLDERS {
                checkpoint.add_file(&find_in(&path.join(part))?, &format!("{part}."))?;
            }
        } else {
            checkpoint.path = if path.is_dir() { find_in(path)? } else { path.to_path_buf() };
            checkpoint.add_file(&checkpoint.path.clone(), "")?;
        }
        Ok(checkpoint)
    }

    /// Adds a file or an index of files; `prefix` is prepended to the names in them.
    fn add_file(&mut self, file: &Path, prefix: &str) -> Result<()> {
        let sharded = file.extension().is_some_and(|e| e == "json");
        let added = if sharded { self.add_sharded(file, prefix) } else { self.add_with_parts(file, prefix) };
        added.map_err(|e| e.context(format!("opening weights {}", file.display())))
    }

    fn add_sharded(&mut self, index: &Path, prefix: &str) -> Result<()> {
        let listed = Index::read(index)?;
        let names = listed.shards()?;
        locate::check_shards(index, &names)?;
        for name in names {
            self.add(&index.with_file_name(name), prefix).map_err(|e| e.context(format!("shard {name}")))?;
        }
        let there = |key: &str| self.tensors.contains_key(&format!("{prefix}{}", unwrapped(key)));
        let absent: Vec<&String> = listed.weight_map.keys().filter(|k| !there(k) && !self.has_stored(k)).collect();
        if let Some(first) = absent.first() {
            return Err(Error::failed(format!(
                "{} tensors of the index are in no shard, first `{first}`",
                absent.len()
            ))
            .hint("download the whole directory again: the shards belong to another index"));
        }
        Ok(())
    }

    /// Adds a file, and all other files of the model if it is the first of several GGUF files.
    fn add_with_parts(&mut self, path: &Path, prefix: &str) -> Result<()> {
        let before = self.tensors.len();
        let first = self.shards.len();
        self.add(path, prefix)?;
        let shard = |number: usize| self.shards.get(number).map_or(Metadata::EMPTY, Shard::metadata);
        let others = gguf::other_parts(shard(first), path)?;
        let promised = shard(first).size("split.tensors.count")?;
        for name in &others {
            let other = path.with_file_name(name);
            self.add(&other, prefix).map_err(|e| {
                e.context(format!("part {name}"))
                    .hint("copy all files of the model into the directory of the first one")
            })?;
        }
        let found = self.tensors.len() - before;
        match promised {
            Some(promised) if !others.is_empty() && promised != found => {
                Err(Error::failed(format!("the model has {promised} tensors, its files {found}"))
                    .hint("download all files again: they do not belong together"))
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, path: &Path, prefix: &str) -> Result<()> {
        let file = locate::open_regular(path)?;
        // SAFETY: the mapping is read-only and private to this value; its bytes are only copied out. Another process
        // that truncates the file cannot be prevented; our own writers replace files by renaming.
        #[allow(unsafe_code, reason = "the file is not changed while it is mapped")]
        let map = unsafe { Mmap::map(&file) }?;
        let shard = self.shards.len();
        let mut budget = MemoryBudget::of(map.len());
        let (entries, metadata) = if gguf::is_gguf(&map) {
            gguf::parse(&map, &mut budget)?
        } else if pytorch::is_pytorch(&map) {
            (pytorch::parse(&map, &mut budget)?, gguf::MetadataTable::default())
        } else if let Some(error) = foreign::unsupported(&map) {
            return Err(error);
        } else {
            (safetensors::parse(&map, &mut budget)?, gguf::MetadataTable::default())
        };
        let cleared = clear_names(&entries);
        for (key, entry) in entries {
            let name = match cleared.get(&key) {
                Some(name) => format!("{prefix}{name}"),
                None => format!("{prefix}{key}"),
            };
            if self.tensors.contains_key(&name) {
                return Err(Error::failed(format!("tensor `{key}` is in two shards")));
            }
            self.tensors.insert(name, TensorLocation { shard, entry, stored_name: key });
        }
        self.shards.push(Shard { path: path.to_path_buf(), map: Arc::new(map), metadata });
        Ok(())
    }

    /// Whether one of the files has a tensor with this stored name.
    fn has_stored(&self, name: &str) -> bool {
        self.tensors.values().any(|location| location.stored_name == name)
    }

    /// Keeps only the tensors whose names start with `prefix` (with its final dot) and removes the prefix from their
    /// names; for example, to select the vision tower of a larger model.
    ///
    /// # Errors
    /// No name starts with `prefix`; the hint lists the prefixes that exist.
    pub fn inside(mut self, prefix: &str) -> Result<Self> {
        let all = std::mem::take(&mut self.tensors);
        let heads: BTreeSet<String> =
            all.keys().filter_map(|k| k.split_once('.')).map(|(h, _)| format!("`{h}.`")).collect();
        self.tensors =
            all.into_iter().filter_map(|(k, location)| Some((k.strip_prefix(prefix)?.to_string(), location))).collect();
        if self.tensors.is_empty() {
            let heads: Vec<String> = heads.into_iter().take(8).collect();
            return Err(Error::failed(format!("{} has no tensor under `{prefix}`", self.path.display()))
                .hint(format!("choose one of the prefixes that exist: {}", heads.join(", "))));
        }
        Ok(self)
    }

    /// Prepends `root` to every name, so that a part of a model that was saved alone has the names of the whole model.
    #[must_use]
    pub fn under(mut self, root: &str) -> Self {
        self.tensors = std::mem::take(&mut self.tensors)
            .into_iter()
            .map(|(k, location)| (format!("{root}{k}"), location))
            .collect();
        self.root = root.into();
        self
    }

    /// Keeps only the first `rows` rows of a tensor, for a table to which rows were added.
    ///
    /// # Errors
    /// There is no such tensor, or it has fewer rows.
    pub fn first_rows(mut self, key: &str, rows: usize) -> Result<Self> {
        let entry = self.tensors.get_mut(key).map(|location| &mut location.entry);
        let count = entry.as_ref().and_then(|e| e.shape.first()).copied().unwrap_or(0);
        let Some(entry) = entry.filter(|e| rows <= count && e.strides.is_none()) else {
            return Err(Error::failed(format!(
                "{}: the tensor `{key}` has {count} rows, expected at least {rows}",
                self.path.display()
            )));
        };
        let length = (entry.bytes.end - entry.bytes.start) / count.max(1) * rows;
        entry.bytes.end = entry.bytes.start + length;
        entry.shape.splice(..1, [rows]);
        Ok(self)
    }

    /// Returns the prefix that [`Checkpoint::under`] prepended to all names; usually empty.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Whether the same tensors are stored under two prefixes: equal names, and the same bytes of the same file.
    pub(super) fn same(&self, one: &str, other: &str) -> bool {
        let part = |prefix: &str| {
            let within =
                self.tensors.iter().filter_map(|(k, location)| Some((k.strip_prefix(prefix)?.to_string(), location)));
            within.map(|(k, location)| (k, location.shard, location.entry.clone())).collect::<Vec<_>>()
        };
        one == other || (!one.is_empty() && !other.is_empty() && part(one) == part(other))
    }

    /// Returns the path that was opened: a file, the index of a sharded checkpoint, or the directory of a diffusers
    /// model.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Iterates over the names of all tensors, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns the shape of a tensor, outermost dimension first; `None` if there is no tensor with this name.
    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.get(key).map(|p| p.entry.shape.as_slice())
    }

    /// Reads the values of a tensor as f32, row-major in the shape of [`Checkpoint::shape`].
    ///
    /// # Errors
    /// There is no such tensor, it is not stored as floating-point numbers, or a value is NaN or infinite (weights that
    /// diverged in training, or a damaged file).
    pub fn read(&self, key: &str) -> Result<Vec<f32>> {
        let all = self.shape(key).and_then(<[usize]>::first).copied().unwrap_or(1);
        self.read_rows(key, 0..all)
    }

    /// Reads the given rows of a tensor, that is, a range of its first dimension, as [`Checkpoint::read`] does.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; or the tensor has fewer rows.
    pub fn read_rows(&self, key: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let location = self
            .tensors
            .get(key)
            .ok_or_else(|| Error::failed(format!("{} has no tensor `{key}`", self.path.display())))?;
        let name = || format!("tensor `{}` of {}", location.stored_name, self.path.display());
        let CheckpointEntry { stored, shape, strides, bytes } = &location.entry;
        let count = shape.first().copied().unwrap_or(1);
        if rows.start > rows.end || rows.end > count {
            return Err(Error::failed(format!("{} has {count} rows, but rows {rows:?} are requested", name())));
        }
        let width: usize = shape.iter().skip(1).product();
        let (together, size) = stored.unit();
        // The rows of a strided view are scattered, and a block may span several rows of a vector.
        let direct = strides.is_none() && width.is_multiple_of(together);
        let row = width / together * size;
        let range = if direct { bytes.start + rows.start * row..bytes.start + rows.end * row } else { bytes.clone() };
        let outside = || Error::failed(format!("{} is outside of its file", name()));
        let shard = self.shards.get(location.shard).ok_or_else(outside)?;
        let data = shard.map.get(range.clone()).ok_or_else(outside)?;
        let Some((values, finite)) = number_format::decode(*stored, data) else {
            return Err(Error::failed(format!("{} is not stored as floating-point numbers", name())));
        };
        shard.release(range);
        let mut values = match strides {
            Some(strides) => row_major(values, shape, strides),
            None => values,
        };
        if !direct {
            values.truncate(rows.end * width);
            values.drain(..rows.start * width);
        }
        if finite {
            return Ok(values);
        }
        // Gaps between the rows of a view do not count.
        let Some(first) = values.iter().position(|v| !v.is_finite()) else { return Ok(values) };
        let nan = values.iter().filter(|v| v.is_nan()).count();
        let infinite = values.iter().filter(|v| v.is_infinite()).count();
        Err(Error::failed(format!(
            "{} has values that are not finite: {nan} NaN and {infinite} infinite of {}, the first at element {first}",
            name(),
            values.len()
        ))
        .hint("download the weights or train them again: they diverged in training, or the file is damaged"))
    }

    /// Returns a range of rows of a two-dimensional tensor as its file stores them, without reading them: the file
    /// stays mapped for as long as the matrix exists. `None` if there is no such tensor, it is not a matrix of 16-bit
    /// floats or quantised blocks, or its rows are not contiguous in the file.
    pub fn stored_rows(&self, key: &str, rows: Range<usize>) -> Option<StoredMatrix> {
        let location = self.tensors.get(key)?;
        let CheckpointEntry { stored, shape, strides: None, bytes } = &location.entry else { return None };
        let &[count, columns] = shape.as_slice() else { return None };
        let row = (bytes.end - bytes.start).checked_div(count)?;
        if rows.start > rows.end || rows.end > count {
            return None;
        }
        let range = bytes.start + rows.start * row..bytes.start + rows.end * row;
        let map = Arc::clone(&self.shards.get(location.shard)?.map);
        StoredMatrix::new(SharedBytes::new(map, range)?, *stored, [rows.len(), columns])
    }

    /// As [`Checkpoint::stored_rows`], after checking that all values of these rows are finite. Only the exponents of
    /// values, or of the scales of blocks, are looked at, and no copy is kept.
    ///
    /// # Errors
    /// A value is NaN or infinite.
    pub fn finite_stored_rows(&self, key: &str, rows: Range<usize>) -> Result<Option<StoredMatrix>> {
        let Some(matrix) = self.stored_rows(key, rows.clone()) else { return Ok(None) };
        match matrix.is_finite() {
            true => Ok(Some(matrix)),
            // Reading the values gives an error that says which of them are not finite.
            false => self.read_rows(key, rows).map(|_| Some(matrix)),
        }
    }

    /// Returns the metadata of a GGUF model (of its first file); empty for other formats.
    pub fn metadata(&self) -> Metadata<'_> {
        self.shards.first().map_or(Metadata::EMPTY, Shard::metadata)
    }

    /// Returns the digest of the contents of all files, for cache keys and run records.
    pub fn digest(&self) -> Result<String> {
        match self.shards.as_slice() {
            [one] => digest::of_file(&one.path),
            many => digest::of_value(&many.iter().map(|s| digest::of_file(&s.path)).collect::<Result<Vec<_>>>()?),
        }
    }
}

/// Parts of names that PyTorch inserts for compiled, sharded and checkpointed modules, at any depth.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

/// Removes the parts of [`WRAPPERS`] from a name.
fn unwrapped(name: &str) -> Cow<'_, str> {
    if !name.contains("_orig_mod") && !name.contains("_wrapped_module") {
        return Cow::Borrowed(name);
    }
    // Only whole parts of the name are removed.
    let parts: Vec<&str> = name.split_inclusive('.').filter(|part| !WRAPPERS.contains(part)).collect();
    Cow::Owned(parts.concat())
}

/// Maps the names of a file to those of the original model, where they differ: without the parts of wrappers (see
/// [`WRAPPERS`]) and without the block chunks of DINOv2's training (`blocks.1.7.` is block 7). Empty if two tensors
/// would get the same name.
fn clear_names(entries: &BTreeMap<String, CheckpointEntry>) -> BTreeMap<String, String> {
    let clear = |name: &str| {
        let plain = unwrapped(name);
        let grouped = ungrouped(&plain).unwrap_or_else(|| plain.into_owned());
        (grouped != name).then_some(grouped)
    };
    let changed: BTreeMap<String, String> =
        entries.keys().filter_map(|name| Some((name.clone(), clear(name)?))).collect();
    let mut names = BTreeSet::new();
    let unique = entries.keys().all(|name| names.insert(changed.get(name).unwrap_or(name)));
    if unique { changed } else { BTreeMap::new() }
}

/// Removes the chunk from a block's name: `blocks.1.7.x` becomes `blocks.7.x`.
fn ungrouped(name: &str) -> Option<String> {
    let at = if name.starts_with("blocks.") { 0 } else { name.find(".blocks.")? + 1 };
    let (front, rest) = name.split_at(at + "blocks.".len());
    let mut parts = rest.splitn(3, '.');
    let number = |part: Option<&str>| part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let (group, block, last) = (parts.next(), parts.next(), parts.next()?);
    (number(group) && number(block)).then(|| format!("{front}{}.{last}", block.unwrap_or_default()))
}

/// Copies `values` with the given strides into row-major order.
fn row_major(values: Vec<f32>, shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let mut size = 1;
    // The stride of a dimension of length one is arbitrary.
    let plain = shape.iter().zip(strides).rev().all(|(n, stride)| {
        let fits = *n == 1 || *stride == size;
        size *= n;
        fits
    });
    if plain || values.is_empty() {
        return values;
    }
    let mut out = Vec::with_capacity(shape.iter().product());
    let mut index = vec![0usize; shape.len()];
    let mut location = 0;
    loop {
        // The tensor's byte range was computed from the same shape and strides, so every index is inside.
        out.push(values.get(location).copied().unwrap_or(f32::NAN));
        // The next index: the last dimension that is not at its end advances, later ones restart.
        let mut dimension = shape.len();
        loop {
            let Some(d) = dimension.checked_sub(1) else { return out };
            dimension = d;
            if index[d] + 1 < shape[d] {
                index[d] += 1;
                location += strides[d];
                break;
            }
            location -= index[d] * strides[d];
            index[d] = 0;
        }
    }
}
