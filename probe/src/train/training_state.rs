//! The training state of a stage on disk: weights of the trained parts, optimiser moments, and the step number. The
//! order of the examples and all random draws follow from seed and step, so nothing else needs to be saved.
//!
//! There is one safetensors file per stage: `weights/<path>`, `first/<path>`, `second/<path>` in f32 with the
//! modules' shapes; `__metadata__` holds the step, the identity of the run, and a digest of the whole file. The file
//! is written beside the old one, tensor by tensor, and replaces it when complete.

use crate::optimiser::{Moments, Optimiser, host};
use crate::recipe::Stage;
use burgess_base::digest::Digest;
use burgess_base::{Context, Error, Result, atomic, differences};
use burgess_encoders::checkpoint::Checkpoint;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Version of the format; increase it when the contents change under the same names.
const FORMAT: u32 = 1;
/// Maximum fraction of the training time spent on saving states.
const SHARE: f64 = 0.02;
/// Maximum length in bytes of a header that is read; a hundred thousand parameters need less.
const MAX_HEADER: u64 = 100 << 20;
/// Placeholder of the digest in the header, also while the digest is computed.
const NO_DIGEST: &str = "00000000000000000000000000000000";
/// The bytes before the digest in the header.
const DIGEST_KEY: &[u8] = b"\"blake3\":\"";

/// Where and how often the training state of a stage is saved.
#[derive(Debug, Clone)]
pub struct StateSaver {
    /// The path of the state file.
    pub path: PathBuf,
    /// Settings, data and weights that must be equal for a state to be reused.
    pub identity: Value,
    /// Minimum time between two states; longer if writing takes more than 2 % of it.
    pub every: Duration,
    /// If set, a state is also saved every this many steps.
    pub every_steps: Option<usize>,
}

/// The contents of `__metadata__`, stored as one string.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    /// Number of completed steps of the stage.
    step: usize,
    /// Number of optimiser steps; smaller than `step` if a batch had no supervised token.
    updates: i32,
    identity: Value,
}

/// A saved training state of an interrupted stage.
#[derive(Debug)]
pub struct SavedState {
    state: State,
    tensors: Checkpoint,
    checked: bool,
}

impl StateSaver {
    /// Saves to the file `path` once a minute.
    pub fn new(path: &Path, identity: Value) -> Self {
        Self { path: path.to_path_buf(), identity, every: Duration::from_mins(1), every_steps: None }
    }

    /// Opens the saved state, if there is one.
    ///
    /// # Errors
    /// When it belongs to other settings, data or weights (the error lists the differences), or is damaged.
    pub fn open(&self) -> Result<Option<SavedState>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let step = || format!("reading the training state {}", self.path.display());
        let again = || format!("remove {} to begin the stage anew", self.path.display());
        let tensors = Checkpoint::open(&self.path).map_err(|e| e.context(step()).hint(again()))?;
        let (state, checked) = State::read(&self.path).map_err(|e| e.context(step()).hint(again()))?;
        let there = json!({"format": state.format, "run": state.identity});
        let here = json!({"format": FORMAT, "run": self.identity});
        let differences = differences(&there, &here);
        if differences.is_empty() {
            return Ok(Some(SavedState { state, tensors, checked }));
        }
        let shown: Vec<String> = differences.iter().take(8).map(|d| format!("\n  {d}")).collect();
        let more = differences.len().saturating_sub(8);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        Err(Error::failed(format!(
            "{} was left by a training with other inputs:{}{more}",
            self.path.display(),
            shown.concat()
        ))
        .hint(again()))
    }

    /// Removes the state file, once the result of the stage is saved.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn begin(&self) -> SaveTimer<'_> {
        SaveTimer { saver: self, last: Instant::now(), cost: Duration::ZERO }
    }
}

/// A [`StateSaver`] during training, with its timers.
pub(super) struct SaveTimer<'a> {
    saver: &'a StateSaver,
    last: Instant,
    /// Time that the last state took to write.
    cost: Duration,
}

impl SaveTimer<'_> {
    /// Saves the state after `step` steps, if one is due.
    pub(super) fn step<M: Module>(
        &mut self,
        step: usize,
        model: &M,
        stage: &Stage,
        optimiser: &Optimiser,
    ) -> Result<()> {
        let counted = self.saver.every_steps.is_some_and(|n| step.is_multiple_of(n.max(1)));
        let wait = self.saver.every.max(self.cost.div_f64(SHARE));
        if !counted && self.last.elapsed() < wait {
            return Ok(());
        }
        self.now(step, model, stage, optimiser)
    }

    /// Saves the state after `step` steps.
    pub(super) fn now<M: Module>(
        &mut self,
        step: usize,
        model: &M,
        stage: &Stage,
        optimiser: &Optimiser,
    ) -> Result<()> {
        let clock = Instant::now();
        let state = State { format: FORMAT, step, updates: optimiser.steps(), identity: self.saver.identity.clone() };
        write(&self.saver.path, model, stage, optimiser, &state).context("keeping the state of the training")?;
        (self.last, self.cost) = (Instant::now(), clock.elapsed());
        Ok(())
    }
}

impl SavedState {
    /// Number of completed steps.
    pub fn step(&self) -> usize {
        self.state.step
    }

    /// Whether the file has a digest, which was then verified; files of earlier versions have none.
    pub fn checked(&self) -> bool {
        self.checked
    }

    /// Loads the weights into `model` and the moments into `optimiser`.
    pub(super) fn restore<M: Module>(self, model: M, stage: &Stage, optimiser: &mut Optimiser) -> Result<M> {
        let mut restored = Restored {
            trail: Trail { stage, path: Vec::new() },
            tensors: &self.tensors,
            moments: HashMap::new(),
            used: 0,
            outcome: Ok(()),
        };
        let model = model.map(&mut restored);
        let Restored { moments, used, outcome, .. } = restored;
        let unused = self.tensors.keys().count().saturating_sub(used);
        outcome
            .and_then(|()| match unused {
                0 => Ok(()),
                n => Err(Error::failed(format!("{n} tensors belong to no trained parameter"))),
            })
            .with_context(|| format!("reading the training state {}", self.tensors.path().display()))?;
        optimiser.restore(self.state.updates, moments);
        Ok(model)
    }
}

impl State {
    /// Reads the metadata; also returns whether the file has a digest, which is then verified.
    fn read(path: &Path) -> Result<(Self, bool)> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        (&mut file).take(u64::from_le_bytes(length).min(MAX_HEADER)).read_to_end(&mut header)?;
        let checked = match digest_in(&header) {
            None => false,
            Some(at) => {
                let written = header.splice(at..at + NO_DIGEST.len(), NO_DIGEST.bytes()).collect::<Vec<u8>>();
                let mut digest = Digest::default();
                digest.update(&length);
                digest.update(&header);
                let mut block = vec![0; 1 << 20];
                loop {
                    match file.read(&mut block)? {
                        0 => break,
                        n => digest.update(block.get(..n).unwrap_or_default()),
                    }
                }
                if digest.finish().as_bytes() != written {
                    return Err(Error::failed("its digest is not the one that was written: the file is damaged"));
                }
                true
            }
        };
        let header: Map<String, Value> = serde_json::from_slice(&header)?;
        let text = header.get("__metadata__").and_then(|m| m.get("state")).and_then(Value::as_str);
        let text = text.ok_or_else(|| Error::failed("this is not the state of a training"))?;
        Ok((serde_json::from_str(text)?, checked))
    }
}

/// The position of the digest in a header, if there is one.
fn digest_in(header: &[u8]) -> Option<usize> {
    let at = header.windows(DIGEST_KEY.len()).position(|w| w == DIGEST_KEY)? + DIGEST_KEY.len();
    header.get(at..at + NO_DIGEST.len()).map(|_| at)
}

/// A writer that computes the digest of what it writes.
struct Digested<'a, W> {
    out: &'a mut W,
    digest: Digest,
}

impl<W: Write> Write for Digested<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The path of a module traversal, which tells whether the stage trains the parameter there.
struct Trail<'a> {
    stage: &'a Stage,
    path: Vec<String>,
}

impl Trail<'_> {
    fn trained(&self) -> Option<String> {
        self.stage.peak_lr(&self.path).map(|_| self.path.join("."))
    }
}

/// Size of an f32 in bytes.
const WIDTH: usize = 4;

fn write<M: Module>(path: &Path, model: &M, stage: &Stage, optimiser: &Optimiser, state: &State) -> Result<()> {
    let trail = || Trail { stage, path: Vec::new() };
    let text = serde_json::to_string(state)?;
    let header = Map::from_iter([("__metadata__".to_string(), json!({"blake3": NO_DIGEST, "state": text}))]);
    let mut listed = Listed { trail: trail(), optimiser, header, end: 0 };
    model.visit(&mut listed);
    let mut header = serde_json::to_vec(&listed.header)?;
    // The data start at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let place = digest_in(&header).ok_or_else(|| Error::failed("the header has no place for the digest"))?;
    atomic::write_with(path, |file| {
        let mut out = Digested { out: file, digest: Digest::default() };
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut written = Written { trail: trail(), optimiser, out: &mut out, outcome: Ok(()) };
        model.visit(&mut written);
        written.outcome?;
        let digest = out.digest.finish();
        file.seek(SeekFrom::Start(8 + place as u64))?;
        Ok(file.write_all(digest.as_bytes())?)
    })
}

/// First pass: lists names, shapes and offsets in the header.
struct Listed<'a> {
    trail: Trail<'a>,
    optimiser: &'a Optimiser,
    header: Map<String, Value>,
    end: usize,
}

impl Listed<'_> {
    fn list(&mut self, kind: &str, path: &str, shape: &[usize], count: usize) {
        let start = self.end;
        self.end += count * WIDTH;
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, self.end]});
        self.header.insert(format!("{kind}/{path}"), entry);
    }
}

impl ModuleVisitor for Listed<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.trail.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.trail.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(path) = self.trail.trained() else { return };
        let shape = param.lazy_shape();
        self.list("weights", &path, &shape, shape.iter().product());
        if let Some(moments) = self.optimiser.moments(param.id) {
            self.list("first", &path, &[moments.first.len()], moments.first.len());
            self.list("second", &path, &[moments.second.len()], moments.second.len());
        }
    }
}

/// Second pass: writes the values in the same order.
struct Written<'a, W> {
    trail: Trail<'a>,
    optimiser: &'a Optimiser,
    out: &'a mut W,
    outcome: Result<()>,
}

impl<W: Write> Written<'_, W> {
    fn put(&mut self, values: &[f32]) {
        for block in values.chunks(4096) {
            let bytes: Vec<u8> = block.iter().flat_map(|v| v.to_le_bytes()).collect();
            if self.outcome.is_ok() {
                self.outcome = self.out.write_all(&bytes).map_err(Error::from);
            }
        }
    }
}

impl<W: Write> ModuleVisitor for Written<'_, W> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.trail.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.trail.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(path) = self.trail.trained().filter(|_| self.outcome.is_ok()) else { return };
        let values = host(param.val().inner());
        // No early exit, so that the loop is vectorised.
        if !values.iter().fold(true, |finite, v| finite & v.is_finite()) {
            let e = Error::failed(format!("the weights `{path}` are not finite; the state kept before stays as it is"));
            self.outcome = Err(super::diverged(e));
            return;
        }
        self.put(&values);
        if let Some(moments) = self.optimiser.moments(param.id) {
            self.put(&moments.first);
            self.put(&moments.second);
        }
    }
}

struct Restored<'a> {
    trail: Trail<'a>,
    tensors: &'a Checkpoint,
    moments: HashMap<ParamId, Moments>,
    used: usize,
    outcome: Result<()>,
}

impl Restored<'_> {
    /// The values of a tensor; `None` if the file does not have it.
    fn read(&mut self, kind: &str, path: &str) -> Result<Option<Vec<f32>>> {
        let key = format!("{kind}/{path}");
        if self.tensors.shape(&key).is_none() {
            return Ok(None);
        }
        self.used += 1;
        self.tensors.read(&key).map(Some)
    }

    fn parameter(&mut self, id: ParamId, path: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = self.tensors.shape(&format!("weights/{path}"));
        if found != Some(shape) {
            return Err(Error::failed(format!("`{path}` has the shape {shape:?} in the model, {found:?} in the file")));
        }
        let values = self.read("weights", path)?.unwrap_or_default();
        if let (Some(first), Some(second)) = (self.read("first", path)?, self.read("second", path)?) {
            let fits = first.len() == values.len() && [0, values.len()].contains(&second.len());
            if !fits {
                return Err(Error::failed(format!("the moments of `{path}` are not as many as its numbers")));
            }
            self.moments.insert(id, Moments { first, second });
        }
        Ok(values)
    }
}

impl ModuleMapper for Restored<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.trail.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.trail.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(path) = self.trail.trained().filter(|_| self.outcome.is_ok()) else {
            return param;
        };
        let shape: [usize; D] = param.lazy_shape().dims();
        match self.parameter(param.id, &path, &shape) {
            Ok(values) => param.map(|tensor| {
                let device = tensor.device();
                Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
            }),
            Err(e) => {
                self.outcome = Err(e);
                param
            }
        }
    }
}
