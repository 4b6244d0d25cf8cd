//! The language model inside LLaVA: which models fit, and how its tensors are copied.

use crate::export::shards::{PlannedTensor, Shards};
use burgess_base::{Context, Error, Result, atomic};
use burgess_probe::exported::{EMBEDDING, HEAD, LLM};
use burgess_probe::llm::LlmConfig;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;

/// Returns in words why LLaVA of `transformers` does not compute this language model; `None` if it does.
pub fn obstacle(config: &LlmConfig) -> Option<String> {
    let family = config.model_type;
    let obstacles = [
        (family.scaled_embeddings, "scales its embeddings, image tokens included"),
        (config.final_logit_softcapping.is_some(), "caps its logits"),
        (config.logit_scale.is_some_and(|s| (s - 1.0).abs() > 0.0), "scales its logits"),
        (config.logits_scaling.is_some_and(|s| (s - 1.0).abs() > 0.0), "scales its logits"),
        (config.embedding_multiplier.is_some_and(|s| (s - 1.0).abs() > 0.0), "scales its embeddings"),
        (config.experts.is_some(), "is a mixture of experts, whose tensors have other names inside LLaVA"),
    ];
    let found = obstacles.into_iter().find(|(is, _)| *is);
    found.map(|(_, what)| format!("its language model ({}) {what}", family.name))
}

/// The file of a language model, mapped into memory: its tensors are copied as they are.
pub struct LanguageModel {
    map: Mmap,
    path: std::path::PathBuf,
    /// `text_config` of LLaVA.
    pub config: Value,
}

impl LanguageModel {
    /// Opens the language model of a model directory, whose embedding table will have `rows` rows.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn open(dir: &Path, rows: usize) -> Result<Self> {
        let path = dir.join("model.safetensors");
        let step = || format!("reading {}", path.display());
        let file = File::open(&path).with_context(step)?;
        // SAFETY: the mapping is read-only; all writers of this project replace files by renaming.
        #[allow(unsafe_code, reason = "the file is not changed while it is mapped")]
        let map = unsafe { Mmap::map(&file) }.with_context(step)?;
        let mut config: Value = atomic::read_json(&dir.join("config.json"))?;
        if let Some(fields) = config.as_object_mut() {
            fields.insert("vocab_size".into(), json!(rows));
        }
        Ok(Self { map, path, config })
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.map)
            .map_err(|e| Error::failed(e.to_string()).context(format!("reading {}", self.path.display())))
    }

    /// Lists the tensors, or says in words why LLaVA has no place for one.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn planned(&self, rows: usize) -> Result<std::result::Result<Vec<PlannedTensor>, String>> {
        let tensors = self.tensors()?;
        let mut planned = Vec::new();
        for (name, view) in tensors.iter() {
            if !name.starts_with("model.") && name != HEAD {
                return Ok(Err(format!("its language model has the tensor `{name}`, for which LLaVA has no place")));
            }
            let mut shape = view.shape().to_vec();
            let mut zero_rows = 0;
            if let (true, Some(first)) = (name == EMBEDDING || name == HEAD, shape.first_mut()) {
                zero_rows = rows.saturating_sub(*first);
                *first += zero_rows;
            }
            let (dtype, element) = match view.dtype() {
                Dtype::F32 => ("F32", 4),
                Dtype::F16 => ("F16", 2),
                Dtype::BF16 => ("BF16", 2),
                other => return Ok(Err(format!("its tensor `{name}` is stored as {other:?}"))),
            };
            planned.push(PlannedTensor {
                name: format!("{LLM}{name}"),
                dtype: dtype.into(),
                shape,
                element,
                zero_rows,
            });
        }
        planned.sort_by(|a, b| a.name.cmp(&b.name));
        match planned.iter().any(|tensor| tensor.name.strip_prefix(LLM) == Some(EMBEDDING)) {
            true => Ok(Ok(planned)),
            false => Ok(Err(format!("its language model has no tensor `{EMBEDDING}`"))),
        }
    }

    /// Copies all tensors.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn write(&self, shards: &mut Shards) -> Result<()> {
        for (name, view) in self.tensors()?.iter() {
            shards.put(&format!("{LLM}{name}"), view.data())?;
        }
        Ok(())
    }
}
