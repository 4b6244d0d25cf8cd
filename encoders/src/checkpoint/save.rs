//! Saves a module as a safetensors file with the tensor names of a dialect.

use super::dialect::Dialect;
use super::module;
use burgess_base::{Error, Result, atomic};
use burn::module::Module;
use half::f16;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Number format of saved weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 16-bit floats (f16): half the size, 11 bits of precision.
    F16,
    /// 32-bit floats (f32), without loss.
    F32,
}

impl Precision {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Name of the number format in safetensors.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::F32 => "F32",
        }
    }

    /// Encodes values as little-endian bytes.
    ///
    /// # Errors
    /// A value is not finite, or does not fit into f16.
    pub fn encode(self, values: &[f32]) -> Result<Vec<u8>> {
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(Error::failed(format!("has the value {bad}, must be finite"))
                .hint("lower the learning rate: the training diverged"));
        }
        match self {
            Self::F32 => Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Self::F16 => {
                if let Some(large) = values.iter().find(|v| f16::from_f32(**v).is_infinite()) {
                    return Err(Error::failed(format!("has the value {large}, which is too large for f16"))
                        .hint("save the weights as f32"));
                }
                Ok(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect())
            }
        }
    }
}

/// Saves all parameters of `module` to the safetensors file `path`, with the names of `dialect` after `prefix` (usually
/// empty), so that the upstream library can load them. The write is atomic, and equal weights give equal bytes.
///
/// # Errors
/// A parameter is not finite, does not fit into f16 or has no name in the dialect, or the directory is not writable.
pub fn save<M: Module>(module: &M, dialect: &Dialect, prefix: &str, precision: Precision, path: &Path) -> Result<()> {
    let step = || format!("saving weights to {}", path.display());
    let parameters = module::parameters(module).map_err(|e| e.context(step()))?;
    let shapes: HashMap<&str, &[usize]> = parameters.iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    module::visit_parameters(module, |parameter, values| {
        let source = dialect.source(&parameter.path, &parameter.shape, &|path| shapes.get(path).copied())?;
        if let (Some(rows), [key]) = (&source.rows, source.keys.as_slice()) {
            let bytes = precision.encode(&values).map_err(|e| e.context(format!("parameter `{}`", parameter.path)))?;
            let key = format!("{prefix}{key}");
            // The parts of a fused tensor are visited one by one.
            let (_, whole) = tensors.entry(key).or_insert_with(|| {
                let length = source.shape.iter().product::<usize>() * precision.size();
                (source.shape.clone(), vec![0; length])
            });
            let from = rows.start * (bytes.len() / rows.len().max(1));
            let place = whole.get_mut(from..from + bytes.len());
            return place.map(|place| place.copy_from_slice(&bytes)).ok_or_else(|| {
                Error::failed(format!("parameter `{}` is outside of its fused tensor", parameter.path))
            });
        }
        let size: usize = source.shape.iter().product();
        for (part, key) in source.keys.into_iter().enumerate().filter(|(_, key)| !key.is_empty()) {
            let values = values.get(part * size..(part + 1) * size).unwrap_or_default();
            let bytes = precision.encode(values).map_err(|e| e.context(format!("parameter `{}`", parameter.path)))?;
            let key = format!("{prefix}{key}");
            if tensors.insert(key.clone(), (source.shape.clone(), bytes)).is_some() {
                return Err(Error::failed(format!(
                    "two parameters have the name `{key}` in dialect `{}`",
                    dialect.name
                )));
            }
        }
        Ok(())
    })
    .map_err(|e| e.context(step()))?;
    write(&tensors, precision, path).map_err(|e| e.context(step()))
}

/// Saves tensors, each with its shape and its row-major values, to the safetensors file `path`, as [`save`] does.
///
/// # Errors
/// As [`save`].
pub fn save_tensors(
    tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    precision: Precision,
    path: &Path,
) -> Result<()> {
    let mut all = BTreeMap::new();
    for (key, (shape, values)) in tensors {
        let bytes = precision.encode(values).map_err(|e| e.context(format!("tensor `{key}`")))?;
        all.insert(key.clone(), (shape.clone(), bytes));
    }
    write(&all, precision, path).map_err(|e| e.context(format!("saving weights to {}", path.display())))
}

/// Writes a file of these tensors, each with its shape and bytes.
fn write(tensors: &BTreeMap<String, (Vec<usize>, Vec<u8>)>, precision: Precision, path: &Path) -> Result<()> {
    let dtype = if precision == Precision::F16 { Dtype::F16 } else { Dtype::F32 };
    let foreign = |e: safetensors::SafeTensorError| Error::failed(e.to_string());
    let mut views = Vec::with_capacity(tensors.len());
    for (key, (shape, bytes)) in tensors {
        views.push((key, TensorView::new(dtype, shape.clone(), bytes).map_err(foreign)?));
    }
    // transformers rejects files that do not state the framework of their layout.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(foreign)?;
    atomic::write(path, &bytes)
}
