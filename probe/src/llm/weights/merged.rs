//! Writes a language model whose weights stay as their file stores them with merged adapters, in the layout of
//! `transformers`. One tensor at a time is in memory.

use super::Weights;
use super::adapters::BASE;
use crate::llm::stored::{Weight, WeightStorage};
use burgess_base::{Context, Error, Result, atomic};
use burgess_encoders::checkpoint::{self, Precision, TensorSource};
use burgess_encoders::transfer;
use burn::tensor::Device;
use serde_json::{Map, json};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Whether a directory refers to the files of a language model's weights instead of holding them, see
/// [`save_adapters`](super::save_adapters).
pub fn is_reference(dir: &Path) -> bool {
    dir.join(BASE).is_file()
}

/// The places of tensors in a safetensors file, and the parameters that they consist of.
struct MergedFile {
    sources: HashMap<String, TensorSource>,
    offsets: BTreeMap<String, u64>,
    precision: Precision,
}

/// Writes the language model in `dir`, which refers to the files of its weights, into `to` as `config.json`,
/// `tokenizer.json` and `model.safetensors`, with its adapters merged.
///
/// # Errors
/// The weights or adapters are missing or damaged, a value does not fit the precision, or a file cannot be written.
pub fn write_merged(dir: &Path, to: &Path, precision: Precision) -> Result<()> {
    let weights = Weights::open_path(dir)?;
    let (mut llm, _) = weights.load_as(WeightStorage::AsStored, &Device::flex())?;
    let config = weights.config();
    let parameters = checkpoint::parameters(&config.init(&Device::flex())?)?;
    let shapes: HashMap<&str, &[usize]> = parameters.iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
    let (mut sources, mut tensors) = (HashMap::new(), BTreeMap::new());
    for parameter in &parameters {
        let dialect = config.model_type.dialect;
        let source = dialect.source(&parameter.path, &parameter.shape, &|path| shapes.get(path).copied())?;
        let [key] = source.keys.as_slice() else {
            return Err(Error::failed(format!("the parameter `{}` is stored in several tensors", parameter.path)));
        };
        tensors.insert(key.clone(), source.shape.clone());
        sources.insert(parameter.path.clone(), source);
    }
    fs::create_dir_all(to).with_context(|| format!("writing {}", to.display()))?;
    for name in ["config.json", "tokenizer.json"] {
        let (from, to) = (dir.join(name), to.join(name));
        fs::copy(&from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    }
    let (header, offsets) = header(&tensors, precision)?;
    let file = MergedFile { sources, offsets, precision };
    atomic::write_with(&to.join("model.safetensors"), |out| {
        out.write_all(&header)?;
        checkpoint::visit_parameters(&llm, |parameter, values| match parameter.path.contains(".lora.") {
            true => Ok(()),
            false => file.put(out, &parameter.path, &values),
        })?;
        if let Weight::Stored(table) = &llm.model.embed_tokens.weight {
            file.put(out, "model.embed_tokens.weight", &table.matrix().unpack())?;
        }
        if let Some(head) = llm.lm_head.as_ref().and_then(|head| head.stored()) {
            file.put(out, "lm_head.weight", &head.matrix().unpack())?;
        }
        for (path, layer) in llm.projections() {
            let Some(stored) = layer.stored() else { continue };
            let mut values = stored.matrix().unpack();
            if let Some(lora) = &layer.lora {
                let change: Vec<f32> = transfer::to_host(lora.change().transpose())?;
                values.iter_mut().zip(change).for_each(|(value, change)| *value += change);
            }
            file.put(out, &format!("{path}.weight"), &values)?;
        }
        Ok(())
    })
}

impl MergedFile {
    /// Writes the values of a parameter to their place.
    fn put(&self, out: &mut (impl Write + Seek), path: &str, values: &[f32]) -> Result<()> {
        let source = self.sources.get(path);
        let place = source.and_then(|source| Some((source, self.offsets.get(source.keys.first()?)?)));
        let (source, offset) = place.ok_or_else(|| Error::failed(format!("the parameter `{path}` was not planned")))?;
        let bytes = self.precision.encode(values).map_err(|e| e.context(format!("parameter `{path}`")))?;
        let first = source.rows.as_ref().map_or(0, |rows| rows.start * (bytes.len() / rows.len().max(1)));
        out.seek(SeekFrom::Start(offset + first as u64))?;
        Ok(out.write_all(&bytes)?)
    }
}

/// Returns the header of a safetensors file with these tensors, and the position of each in the file.
fn header(tensors: &BTreeMap<String, Vec<usize>>, precision: Precision) -> Result<(Vec<u8>, BTreeMap<String, u64>)> {
    // transformers rejects files that do not state the framework of their layout.
    let mut fields = Map::from_iter([("__metadata__".to_string(), json!({"format": "pt"}))]);
    let (mut places, mut end) = (BTreeMap::new(), 0u64);
    for (key, shape) in tensors {
        let start = end;
        end += (shape.iter().product::<usize>() * precision.size()) as u64;
        places.insert(key.clone(), start);
        fields.insert(key.clone(), json!({"dtype": precision.name(), "shape": shape, "data_offsets": [start, end]}));
    }
    let mut json = serde_json::to_vec(&fields)?;
    // The data start at a multiple of eight bytes.
    json.resize(json.len().next_multiple_of(8), b' ');
    let data = 8 + json.len() as u64;
    places.values_mut().for_each(|place| *place += data);
    Ok(([&(json.len() as u64).to_le_bytes()[..], &json].concat(), places))
}
