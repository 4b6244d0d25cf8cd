//! Language models as a reference to the files of their weights, with LoRA factors in the layout of PEFT.
//!
//! | file | contents |
//! |---|---|
//! | `base.json` | path and digest of the weights |
//! | `adapter_config.json` | rank, alpha and targets, as PEFT writes them |
//! | `adapter_model.safetensors` | the factors, as `base_model.model.<path>.lora_A.weight` and `lora_B.weight` |
//!
//! The two files of adapters are absent if the language model was not trained. Where a family's files fuse projections
//! (Phi-3), the names are those of our separate projections, which PEFT cannot apply.

use super::Weights;
use crate::llm::config::LlmConfig;
use crate::llm::decoder::Llm;
use crate::llm::linear::Lora;
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_encoders::checkpoint::{Checkpoint, Precision, save_tensors};
use burgess_encoders::transfer;
use burn::tensor::{Device, Float, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// File name of the reference to the weights.
pub(super) const BASE: &str = "base.json";
/// File name of PEFT's configuration.
const CONFIG: &str = "adapter_config.json";
/// File name of the LoRA factors.
const FACTORS: &str = "adapter_model.safetensors";
/// Prefix that PEFT adds to the names of the model's modules.
const PREFIX: &str = "base_model.model.";
/// Version of the format of `base.json`.
const FORMAT: u32 = 1;

/// The contents of `base.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseReference {
    /// Version of this format.
    format: u32,
    /// Directory or GGUF file of the weights; a relative path starts at the directory of `base.json`.
    path: PathBuf,
    /// Digest of the weights and of the files beside them ([`Weights::digest`]).
    digest: String,
}

/// A directory with a reference to weights, and with adapters if there are any.
#[derive(Debug)]
pub(super) struct AdapterFiles {
    dir: PathBuf,
    base: BaseReference,
}

/// Writes a reference to the files of a language model's weights, and its LoRA factors, into `dir`.
///
/// # Errors
/// When the model does not come from files, these cannot be read, a factor is not finite, or `dir` is not writable.
pub fn save_adapters(llm: &Llm, dir: &Path) -> Result<()> {
    let base = llm.base.as_deref().ok_or_else(|| {
        Error::failed("the weights of the language model stay as their file stores them, so they cannot be saved alone")
    })?;
    let path = base.canonicalize().with_context(|| format!("opening {}", base.display()))?;
    let digest = Weights::open_path(base)?.digest()?;
    let mut tensors = BTreeMap::new();
    let (mut targets, mut scales) = (BTreeSet::new(), BTreeSet::new());
    let mut llm = llm.clone();
    let config = llm.config().clone();
    for (path, layer) in llm.projections() {
        let Some(lora) = &layer.lora else { continue };
        let name = name(&config, &path);
        targets.extend(name.rsplit('.').next().map(str::to_string));
        let (rank, alpha) = lora.rank_and_alpha();
        scales.insert((rank, alpha.to_bits()));
        for (part, factor) in [("lora_A", &lora.a), ("lora_B", &lora.b)] {
            // PEFT's factors are weights of linear layers, `[out, in]`.
            let factor = factor.val().transpose();
            let shape = factor.dims().to_vec();
            tensors.insert(format!("{PREFIX}{name}.{part}.weight"), (shape, transfer::to_host(factor)?));
        }
    }
    atomic::write_json(&dir.join(BASE), &BaseReference { format: FORMAT, path: path.clone(), digest })?;
    let mut scales = scales.into_iter();
    match (scales.next(), scales.next()) {
        (None, _) => Ok(()),
        (Some((rank, alpha)), None) => {
            let config = json!({
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": path,
                "r": rank,
                "lora_alpha": f64::from_bits(alpha),
                "target_modules": targets,
                "lora_dropout": 0.0,
                "bias": "none",
                "fan_in_fan_out": false,
                "inference_mode": true,
            });
            atomic::write_json(&dir.join(CONFIG), &config)?;
            save_tensors(&tensors, Precision::F32, &dir.join(FACTORS))
        }
        (Some(_), Some(_)) => Err(Error::failed("the LoRA factors of the language model differ in rank or alpha")),
    }
}

/// Returns the name of a projection in the files of the model's family, from its module path.
fn name(config: &LlmConfig, path: &str) -> String {
    let whole = format!("{path}.weight");
    let source = config.model_type.dialect.source(&whole, &[0, 0], &|_| None);
    // The names of fused tensors stand for several projections.
    let key = source.ok().filter(|s| s.rows.is_none()).and_then(|s| <[String; 1]>::try_from(s.keys).ok());
    key.map_or(path.to_string(), |[key]| key.strip_suffix(".weight").unwrap_or(&key).to_string())
}

impl AdapterFiles {
    /// Reads the reference in a directory; `None` if there is none.
    ///
    /// # Errors
    /// When it is damaged or of another version.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(BASE);
        if !path.is_file() {
            return Ok(None);
        }
        let base: BaseReference = atomic::read_json(&path)?;
        match base.format == FORMAT {
            true => Ok(Some(Self { dir: dir.to_path_buf(), base })),
            false => Err(Error::failed(format!("{} has format {}, expected {FORMAT}", path.display(), base.format))
                .hint("update Burgess, or train the model again")),
        }
    }

    /// Opens the weights with `open` and compares their digest.
    ///
    /// # Errors
    /// When they are not there, are other weights, or refer to other weights themselves.
    pub fn base(&self, open: impl Fn(&Path) -> Result<Weights>) -> Result<Weights> {
        let path = self.dir.join(&self.base.path);
        let reference = self.dir.join(BASE);
        if !path.exists() {
            return Err(Error::failed(format!(
                "the weights of the language model are not at {}, to which {} refers",
                path.display(),
                reference.display()
            ))
            .hint("put the weights back there, or write their path into that file and remove the file of checksums"));
        }
        let base = open(&path)?;
        if base.adapters.is_some() {
            return Err(Error::failed(format!(
                "{} refers to a directory that has adapters itself",
                reference.display()
            )));
        }
        match base.digest()? == self.base.digest {
            true => Ok(base),
            false => Err(Error::failed(format!(
                "{} is not the language model with which the adapters in {} were trained: its digest differs",
                path.display(),
                self.dir.display()
            ))
            .hint("put the original weights back, or train the model again")),
        }
    }

    /// Digests of the files of adapters; none if the language model was not trained.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digests(&self) -> Result<Vec<String>> {
        let files = [CONFIG, FACTORS].map(|name| self.dir.join(name));
        files.iter().filter(|file| file.is_file()).map(|file| digest::of_file(file)).collect()
    }

    /// Adds the LoRA factors to a model.
    ///
    /// # Errors
    /// When a file is damaged, or a factor does not fit the model.
    pub fn attach(&self, llm: Llm, device: &Device) -> Result<Llm> {
        if !self.dir.join(FACTORS).is_file() {
            return Ok(llm);
        }
        self.read_factors(llm, device).map_err(|e| {
            e.context(format!("reading {}", self.dir.join(FACTORS).display()))
                .hint("the adapters are damaged: get them again, or train the model again")
        })
    }

    fn read_factors(&self, mut llm: Llm, device: &Device) -> Result<Llm> {
        let written: Value = atomic::read_json(&self.dir.join(CONFIG))?;
        let number = |key: &str| {
            let number = written.get(key).and_then(Value::as_f64).filter(|n| *n > 0.0 && n.is_finite());
            number.ok_or_else(|| Error::failed(format!("`{key}` in {CONFIG} is not a number above 0")))
        };
        let (rank, alpha) = (number("r")?, number("lora_alpha")?);
        let factors = Checkpoint::open(&self.dir.join(FACTORS))?;
        let mut unused: BTreeSet<&str> = factors.keys().collect();
        let config = llm.config().clone();
        for (path, layer) in llm.projections() {
            let keys = ["lora_A", "lora_B"].map(|part| format!("{PREFIX}{}.{part}.weight", name(&config, &path)));
            if !keys.iter().any(|key| unused.remove(key.as_str())) {
                continue;
            }
            let [inputs, outputs] = layer.shape();
            let rank = rank as usize;
            let mut read = |key: &str, shape: [usize; 2]| {
                unused.remove(key);
                if factors.shape(key) != Some(&shape) {
                    let found = factors.shape(key);
                    return Err(Error::failed(format!("`{key}` has the shape {found:?}, expected {shape:?}")));
                }
                let ([rows, columns], values) = (shape, factors.read(key)?);
                // Transposed here and not as a view, so that products have the bits of the model that was saved.
                let transposed = (0..columns).flat_map(|c| values.iter().skip(c).step_by(columns).copied());
                let data = TensorData::new(transposed.collect::<Vec<f32>>(), [columns, rows]);
                Ok(transfer::to_device::<2, Float>(data, device))
            };
            let [a, b] = &keys;
            let (a, b) = (read(a, [rank, inputs])?, read(b, [outputs, rank])?);
            layer.lora = Some(Lora::new(a, b, alpha / rank as f64));
        }
        match unused.first() {
            None => Ok(llm),
            Some(key) => Err(Error::failed(format!("`{key}` belongs to no projection of the language model"))),
        }
    }
}
