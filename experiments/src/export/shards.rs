//! Writes safetensors files tensor by tensor, so that no more than one tensor is in memory. Models beyond
//! [`SHARD_BYTES`] become several files with an index, as `transformers` writes them.

use burgess_base::{Context, Error, Result, atomic};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Largest size of a file of weights in bytes; a larger tensor has a file of its own.
const SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor that will be written: its name, number format and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTensor {
    /// Name in the file.
    pub name: String,
    /// Number format with the name of safetensors, such as `F32`.
    pub dtype: String,
    /// Shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Number of bytes per element.
    pub element: usize,
    /// Number of rows at the end that are zero and need not be written.
    pub zero_rows: usize,
}

impl PlannedTensor {
    /// Plans a tensor of 32-bit floats.
    pub fn f32(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), dtype: "F32".into(), shape: shape.to_vec(), element: 4, zero_rows: 0 }
    }

    /// Size in bytes.
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.element as u64
    }

    /// Size in bytes without the rows of zeros.
    fn written_bytes(&self) -> u64 {
        let rows = self.shape.first().copied().unwrap_or(1);
        self.bytes() / rows.max(1) as u64 * rows.saturating_sub(self.zero_rows) as u64
    }
}

/// The place of a tensor: its file, and its first byte there.
struct Place {
    file: usize,
    offset: u64,
    left: u64,
}

/// Files of weights whose headers are written and whose tensors follow one by one.
pub struct Shards {
    files: Vec<(PathBuf, File)>,
    places: BTreeMap<String, Place>,
}

impl Shards {
    /// Creates the files for these tensors in `dir`, in this order: `model.safetensors`, or several files and
    /// `model.safetensors.index.json`.
    ///
    /// # Errors
    /// Two tensors have the same name, or a file cannot be written.
    pub fn create(dir: &Path, planned: &[PlannedTensor]) -> Result<Self> {
        Self::create_with(dir, planned, SHARD_BYTES)
    }

    fn create_with(dir: &Path, planned: &[PlannedTensor], most: u64) -> Result<Self> {
        let mut groups: Vec<Vec<&PlannedTensor>> = Vec::new();
        let mut size = most;
        for tensor in planned {
            if size.saturating_add(tensor.bytes()) > most || groups.is_empty() {
                groups.push(Vec::new());
                size = 0;
            }
            size += tensor.bytes();
            if let Some(group) = groups.last_mut() {
                group.push(tensor);
            }
        }
        let (mut files, mut places, mut map) = (Vec::new(), BTreeMap::new(), Map::new());
        let count = groups.len();
        for (number, group) in groups.iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".to_string(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
            };
            let path = dir.join(&name);
            let (file, start, end) = with_header(&path, group)?;
            let mut offset = start;
            for tensor in group {
                let place = Place { file: number, offset, left: tensor.written_bytes() };
                offset += tensor.bytes();
                map.insert(tensor.name.clone(), name.clone().into());
                if places.insert(tensor.name.clone(), place).is_some() {
                    return Err(Error::failed(format!("two tensors have the name `{}`", tensor.name)));
                }
            }
            file.set_len(end).with_context(|| format!("writing {}", path.display()))?;
            files.push((path, file));
        }
        if count > 1 {
            let total: u64 = planned.iter().map(PlannedTensor::bytes).sum();
            let index = json!({"metadata": {"total_size": total}, "weight_map": map});
            atomic::write_json(&dir.join("model.safetensors.index.json"), &index)?;
        }
        Ok(Self { files, places })
    }

    /// Appends bytes to a tensor, whose parts may follow one another.
    ///
    /// # Errors
    /// The tensor was not planned or is smaller, or the file cannot be written.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        let place = self.places.get_mut(name);
        let place = place.ok_or_else(|| Error::failed(format!("the tensor `{name}` was not planned")))?;
        if length > place.left {
            return Err(Error::failed(format!(
                "the tensor `{name}` has {length} bytes, but only {} are left in its place",
                place.left
            )));
        }
        let (path, file) =
            self.files.get_mut(place.file).ok_or_else(|| Error::failed("a file of weights is missing"))?;
        let write = file.seek(SeekFrom::Start(place.offset)).and_then(|_| file.write_all(bytes));
        write.with_context(|| format!("writing {}", path.display()))?;
        place.offset += length;
        place.left -= length;
        Ok(())
    }

    /// Appends 32-bit floats to a tensor.
    ///
    /// # Errors
    /// As [`Shards::put`]; or a value is not finite.
    pub fn put_f32(&mut self, name: &str, values: &[f32]) -> Result<()> {
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(Error::failed(format!("the tensor `{name}` has the value {bad}, must be finite")));
        }
        for block in values.chunks(1 << 18) {
            let bytes: Vec<u8> = block.iter().flat_map(|v| v.to_le_bytes()).collect();
            self.put(name, &bytes)?;
        }
        Ok(())
    }

    /// Checks that every tensor was written, and flushes the files to disk.
    ///
    /// # Errors
    /// A tensor is not complete, or a file cannot be flushed.
    pub fn finish(self) -> Result<()> {
        if let Some((name, place)) = self.places.iter().find(|(_, place)| place.left > 0) {
            return Err(Error::failed(format!("{} bytes of the tensor `{name}` were not written", place.left)));
        }
        for (path, file) in &self.files {
            file.sync_all().with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// Creates a file with the header of these tensors; returns it with the position of the first tensor and its length.
fn with_header(path: &Path, tensors: &[&PlannedTensor]) -> Result<(File, u64, u64)> {
    // transformers rejects files that do not state the framework of their layout.
    let mut header = Map::from_iter([("__metadata__".to_string(), json!({"format": "pt"}))]);
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.bytes();
        let entry: Value = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]});
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    // The data start at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let write = || -> std::io::Result<File> {
        let mut file = File::create_new(path)?;
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        Ok(file)
    };
    let start = 8 + header.len() as u64;
    Ok((write().with_context(|| format!("writing {}", path.display()))?, start, start + end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_encoders::checkpoint::Checkpoint;

    fn planned() -> Vec<PlannedTensor> {
        let mut table = PlannedTensor::f32("table", &[3, 2]);
        table.zero_rows = 1;
        vec![table, PlannedTensor::f32("b", &[4]), PlannedTensor::f32("c", &[1])]
    }

    #[test]
    fn tensors_are_written_in_parts_and_in_any_order() -> Result<()> {
        for most in [SHARD_BYTES, 24, 1] {
            let dir = tempfile::tempdir()?;
            let mut shards = Shards::create_with(dir.path(), &planned(), most)?;
            shards.put_f32("c", &[9.0])?;
            shards.put_f32("table", &[1.0, 2.0])?;
            shards.put_f32("b", &[5.0; 4])?;
            shards.put_f32("table", &[3.0, 4.0])?;
            shards.finish()?;
            let checkpoint = Checkpoint::open(dir.path())?;
            assert_eq!(checkpoint.read("table")?, [1.0, 2.0, 3.0, 4.0, 0.0, 0.0], "{most}");
            assert_eq!((checkpoint.read("b")?, checkpoint.read("c")?), (vec![5.0; 4], vec![9.0]));
            assert_eq!(checkpoint.first_rows("table", 2)?.read("table")?, [1.0, 2.0, 3.0, 4.0]);
        }
        Ok(())
    }

    #[test]
    fn a_tensor_that_is_missing_or_too_long_is_an_error() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let mut shards = Shards::create(dir.path(), &planned())?;
        shards.put_f32("c", &[0.0])?;
        assert!(shards.put_f32("c", &[0.0]).is_err_and(|e| e.to_string().contains("only 0 are left")));
        assert!(shards.put_f32("d", &[0.0]).is_err_and(|e| e.to_string().contains("not planned")));
        assert!(shards.put_f32("b", &[f32::NAN]).is_err_and(|e| e.to_string().contains("finite")));
        assert!(shards.finish().is_err_and(|e| e.to_string().contains("were not written")));
        Ok(())
    }
}
