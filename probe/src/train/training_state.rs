//! Checkpoints of the training state of a stage: weights of the trained parameters, optimiser moments, and step number.
//! The order of the examples and all random draws are functions of seed and step, so nothing else needs to be saved.
//!
//! There is one safetensors file per stage, with tensors `weights/<path>`, `first/<path>` and `second/<path>` in f32;
//! `__metadata__` contains the step, the identity of the run, and a digest of the whole file. A new state is written to
//! a temporary file, tensor by tensor, which replaces the old one when complete.

use crate::optimiser::{Moments, Optimiser};
use crate::recipe::Stage;
use burgess_base::digest::Digest;
use burgess_base::{Context, Error, Result, atomic, differences};
use burgess_encoders::checkpoint::Checkpoint;
use burgess_encoders::transfer;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Float, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Version of the format; increase it when the contents change under the same names.
const FORMAT: u32 = 1;
/// Maximum fraction of the training time spent on saving states.
const MAX_SAVING_FRACTION: f64 = 0.02;
/// Maximum length in bytes of a header that is read; a hundred thousand parameters need less.
const MAX_HEADER: u64 = 100 << 20;
/// Placeholder of the digest in the header. The digest is that of the file with this placeholder.
const NO_DIGEST: &str = "00000000000000000000000000000000";
/// The bytes before the digest in the header.
const DIGEST_KEY: &[u8] = b"\"blake3\":\"";

/// Configuration of saving the training state of a stage: the file and the intervals.
#[derive(Debug, Clone)]
pub struct StateSaver {
    /// Path of the state file.
    pub path: PathBuf,
    /// Settings and digests of data and weights, which must be equal for a state to be reused.
    pub identity: Value,
    /// Minimum time between two states. It is extended if writing would take more than 2 % of the time.
    pub every: Duration,
    /// Number of steps between two states, in addition to `every`; `None` = by time only.
    pub every_steps: Option<usize>,
    /// Whether the state may be written, asked before each write; `None` = always.
    pub permit: Option<SavePermit>,
}

/// A check that is made before a training state is written: its error prevents the write and ends the training.
#[derive(Clone)]
pub struct SavePermit(Arc<dyn Fn() -> Result<()> + Send + Sync>);

impl SavePermit {
    /// Makes a permit of a check.
    pub fn new(check: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }
}

impl fmt::Debug for SavePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SavePermit")
    }
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
    /// Creates a saver that writes to the file `path` once a minute.
    pub fn new(path: &Path, identity: Value) -> Self {
        Self { path: path.to_path_buf(), identity, every: Duration::from_mins(1), every_steps: None, permit: None }
    }

    /// Opens the saved state; `None` if there is none.
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
            "the training state {} belongs to a run with other inputs:{}{more}",
            self.path.display(),
            shown.concat()
        ))
        .hint(again()))
    }

    /// Removes the state file; to be called when the result of the stage is saved.
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

/// A [`StateSaver`] during training, with its timer.
pub(super) struct SaveTimer<'a> {
    saver: &'a StateSaver,
    last: Instant,
    /// Time that writing the last state took.
    cost: Duration,
}

impl SaveTimer<'_> {
    /// Saves the state after `step` steps if an interval of the [`StateSaver`] has passed.
    pub(super) fn save_if_due<M: Module>(
        &mut self,
        step: usize,
        model: &M,
        stage: &Stage,
        optimiser: &Optimiser,
    ) -> Result<()> {
        let counted = self.saver.every_steps.is_some_and(|n| step.is_multiple_of(n.max(1)));
        let wait = self.saver.every.max(self.cost.div_f64(MAX_SAVING_FRACTION));
        if !counted && self.last.elapsed() < wait {
            return Ok(());
        }
        self.save(step, model, stage, optimiser)
    }

    /// Saves the state after `step` steps.
    pub(super) fn save<M: Module>(
        &mut self,
        step: usize,
        model: &M,
        stage: &Stage,
        optimiser: &Optimiser,
    ) -> Result<()> {
        let clock = Instant::now();
        self.saver.permit.as_ref().map_or(Ok(()), |permit| (permit.0)())?;
        let state = State { format: FORMAT, step, updates: optimiser.steps(), identity: self.saver.identity.clone() };
        write(&self.saver.path, model, stage, optimiser, &state).context("saving the training state")?;
        (self.last, self.cost) = (Instant::now(), clock.elapsed());
        Ok(())
    }
}

impl SavedState {
    /// Returns the number of completed steps.
    pub fn step(&self) -> usize {
        self.state.step
    }

    /// Returns whether the file has a digest, which is then verified; files of earlier versions have none.
    pub fn checked(&self) -> bool {
        self.checked
    }

    /// Loads the weights into `model` and the moments into `optimiser`.
    pub(super) fn restore<M: Module>(self, model: M, stage: &Stage, optimiser: &mut Optimiser) -> Result<M> {
        let mut restored = StateReader {
            trained_path: TrainedPath { stage, path: Vec::new() },
            tensors: &self.tensors,
            moments: HashMap::new(),
            used: 0,
            outcome: Ok(()),
        };
        let model = model.map(&mut restored);
        let StateReader { moments, used, outcome, .. } = restored;
        let unused = self.tensors.keys().count().saturating_sub(used);
        outcome
            .and_then(|()| match unused {
                0 => Ok(()),
                n => Err(Error::failed(format!("{n} tensors of the file do not belong to a trained parameter"))),
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
                    return Err(Error::failed("its digest differs from the one that was written: the file is damaged"));
                }
                true
            }
        };
        let header: Map<String, Value> = serde_json::from_slice(&header)?;
        let text = header.get("__metadata__").and_then(|m| m.get("state")).and_then(Value::as_str);
        let text = text.ok_or_else(|| Error::failed("this is not a training state: `__metadata__` has no `state`"))?;
        Ok((serde_json::from_str(text)?, checked))
    }
}

/// Returns the position of the digest in a header; `None` if there is none.
fn digest_in(header: &[u8]) -> Option<usize> {
    let at = header.windows(DIGEST_KEY.len()).position(|w| w == DIGEST_KEY)? + DIGEST_KEY.len();
    header.get(at..at + NO_DIGEST.len()).map(|_| at)
}

/// A writer that computes the digest of what it writes.
struct DigestWriter<'a, W> {
    out: &'a mut W,
    digest: Digest,
}

impl<W: Write> Write for DigestWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The module path during a traversal, with the stage that trains some of the parameters.
struct TrainedPath<'a> {
    stage: &'a Stage,
    path: Vec<String>,
}

impl TrainedPath<'_> {
    /// Returns the path of the current parameter, joined by dots; `None` if the stage does not train it.
    fn parameter(&self) -> Option<String> {
        self.stage.peak_lr(&self.path).map(|_| self.path.join("."))
    }
}

/// Size of an f32 in bytes.
const F32_BYTES: usize = 4;

fn write<M: Module>(path: &Path, model: &M, stage: &Stage, optimiser: &Optimiser, state: &State) -> Result<()> {
    let trained_path = || TrainedPath { stage, path: Vec::new() };
    let text = serde_json::to_string(state)?;
    let header = Map::from_iter([("__metadata__".to_string(), json!({"blake3": NO_DIGEST, "state": text}))]);
    let mut lister = HeaderWriter { trained_path: trained_path(), optimiser, header, end: 0 };
    model.visit(&mut lister);
    let mut header = serde_json::to_vec(&lister.header)?;
    // The data start at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let place = digest_in(&header).ok_or_else(|| Error::failed("the header of the training state has no digest"))?;
    atomic::write_with(path, |file| {
        let mut out = DigestWriter { out: file, digest: Digest::default() };
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut written = ValueWriter { trained_path: trained_path(), optimiser, out: &mut out, outcome: Ok(()) };
        model.visit(&mut written);
        written.outcome?;
        let digest = out.digest.finish();
        file.seek(SeekFrom::Start(8 + place as u64))?;
        Ok(file.write_all(digest.as_bytes())?)
    })
}

/// The first pass, which lists names, shapes and offsets in the header.
struct HeaderWriter<'a> {
    trained_path: TrainedPath<'a>,
    optimiser: &'a Optimiser,
    header: Map<String, Value>,
    end: usize,
}

impl HeaderWriter<'_> {
    fn list(&mut self, kind: &str, path: &str, shape: &[usize], count: usize) {
        let start = self.end;
        self.end += count * F32_BYTES;
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, self.end]});
        self.header.insert(format!("{kind}/{path}"), entry);
    }
}

impl ModuleVisitor for HeaderWriter<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.trained_path.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.trained_path.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(path) = self.trained_path.parameter() else { return };
        let shape = param.lazy_shape();
        self.list("weights", &path, &shape, shape.iter().product());
        if let Some([first, second]) = self.optimiser.moment_counts(param.id) {
            self.list("first", &path, &[first], first);
            self.list("second", &path, &[second], second);
        }
    }
}

/// The second pass, which writes the values in the same order.
struct ValueWriter<'a, W> {
    trained_path: TrainedPath<'a>,
    optimiser: &'a Optimiser,
    out: &'a mut W,
    outcome: Result<()>,
}

impl<W: Write> ValueWriter<'_, W> {
    fn put(&mut self, values: &[f32]) {
        for block in values.chunks(4096) {
            let bytes: Vec<u8> = block.iter().flat_map(|v| v.to_le_bytes()).collect();
            if self.outcome.is_ok() {
                self.outcome = self.out.write_all(&bytes).map_err(Error::from);
            }
        }
    }
}

impl<W: Write> ModuleVisitor for ValueWriter<'_, W> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.trained_path.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.trained_path.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(path) = self.trained_path.parameter().filter(|_| self.outcome.is_ok()) else { return };
        let read = transfer::to_host::<f32, _, _>(param.val().inner())
            .and_then(|values| Ok((values, self.optimiser.moments(param.id)?)));
        let (values, moments) = match read {
            Ok(read) => read,
            Err(e) => {
                self.outcome = Err(e.context(format!("reading `{path}`")));
                return;
            }
        };
        // No early exit, so that the loop is vectorised.
        if !values.iter().fold(true, |finite, v| finite & v.is_finite()) {
            let e = Error::failed(format!(
                "the weights `{path}` are not finite; the state that was saved before is unchanged"
            ));
            self.outcome = Err(super::diverged(e));
            return;
        }
        self.put(&values);
        if let Some(moments) = moments {
            self.put(&moments.first);
            self.put(&moments.second);
        }
    }
}

/// Reads weights and moments of the trained parameters from a saved state.
struct StateReader<'a> {
    trained_path: TrainedPath<'a>,
    tensors: &'a Checkpoint,
    moments: HashMap<ParamId, Moments>,
    used: usize,
    outcome: Result<()>,
}

impl StateReader<'_> {
    /// Reads the values of a tensor; `None` if the file does not have it.
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
                return Err(Error::failed(format!(
                    "`{path}` has {} values, but {} first and {} second moments",
                    values.len(),
                    first.len(),
                    second.len()
                )));
            }
            self.moments.insert(id, Moments { first, second });
        }
        Ok(values)
    }
}

impl ModuleMapper for StateReader<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.trained_path.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.trained_path.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(path) = self.trained_path.parameter().filter(|_| self.outcome.is_ok()) else {
            return param;
        };
        let shape: [usize; D] = param.lazy_shape().dims();
        match self.parameter(param.id, &path, &shape) {
            Ok(values) => param.map(|tensor| {
                let device = tensor.device();
                transfer::to_device::<D, Float>(TensorData::new(values, shape), &device).require_grad()
            }),
            Err(e) => {
                self.outcome = Err(e);
                param
            }
        }
    }
}
