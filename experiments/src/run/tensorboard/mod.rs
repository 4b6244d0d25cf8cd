//! TensorBoard event files: the training curves and scores of a run, for TensorBoard, trackio, Weights & Biases and the
//! hub's own viewer.
//!
//! A run has one file, `events.out.tfevents.<seconds>.<host>.burgess`, beside its `train.jsonl`. It is derived from
//! that log: each step of the log gives one event, with the wall time of the training alone (start of the file plus the
//! durations of the steps), so a run that was interrupted has no gap. When a stage begins or resumes, and when the
//! scores are added, the whole file is computed from the log: missing events are appended, and a file that differs is
//! replaced. So no step is missing or written twice, and a file that was cut off is repaired. Only the peak memory,
//! which the log does not hold, is taken over from the events that exist.
//!
//! | tag | value |
//! |---|---|
//! | `<stage>/loss`, `/lr`, `/grad_norm` | as in `train.jsonl`, rounded to f32 |
//! | `<stage>/tokens_per_second` | tokens of the step divided by its duration |
//! | `<stage>/peak_memory_gb` | peak resident memory of the process so far, in 10⁹ bytes |
//! | `eval/<benchmark>`, `eval/average`, `eval_blind/…`, `eval_chance/…`, `eval_category/…` | scores in percent; the step is the number of all steps |
//! | `cost/…` | training time and peak memory of the whole run |
//! | `config` | `config.json` of the run, as text |

mod event;
mod record;

use crate::machine::memory;
use burgess_base::{Context, Result, atomic, process};
use burgess_reports::schema::{RunResults, TrainStep};
use event::{Event, Value};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Beginning of the name of an event file.
const PREFIX: &str = "events.out.tfevents.";
/// End of the name of an event file of Burgess.
const SUFFIX: &str = ".burgess";

/// The event file of a run that is being trained.
pub struct EventLog {
    file: File,
    path: PathBuf,
    /// Wall time of the last event, in seconds since 1970.
    last_time: f64,
}

/// Peak memory in 10⁹ bytes after each step, by stage and step.
type PeakMemory = HashMap<(String, usize), f32>;

impl EventLog {
    /// Opens the event file of the run in `dir` after the training steps `steps`, which are the content of its
    /// `train.jsonl`. Creates the file, or repairs it so that it has exactly these steps.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(dir: &Path, steps: &[TrainStep]) -> Result<Self> {
        let (path, started) = locate(dir)?;
        let last_time = write(dir, &path, started, steps, None)?;
        let file = File::options().append(true).open(&path).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { file, path, last_time })
    }

    /// Appends the event of one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, step: &TrainStep) -> Result<()> {
        self.last_time += step.seconds;
        let peak = memory::peak();
        let record = record::framed(&of_step(step, self.last_time, (peak > 0).then_some(peak as f64 / 1e9)).encoded());
        self.file.write_all(&record).with_context(|| format!("writing {}", self.path.display()))
    }
}

/// Adds the scores of a finished run to its event file; `steps` is the content of its `train.jsonl`. A file that
/// already has them is not changed.
///
/// # Errors
/// The file cannot be read or written.
pub fn add_scores(dir: &Path, steps: &[TrainStep], results: &RunResults) -> Result<()> {
    let (path, started) = locate(dir)?;
    write(dir, &path, started, steps, Some(results)).map(drop)
}

/// Returns the path of the event file of a run, which may not exist yet, and the time in its name. If there are
/// several, as after a copy, the first is kept and the others are removed.
fn locate(dir: &Path) -> Result<(PathBuf, u64)> {
    let context = || format!("listing {}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(context)? {
        let entry = entry.with_context(context)?;
        if let Some(started) = entry.file_name().to_str().and_then(started) {
            found.push((entry.path(), started));
        }
    }
    found.sort();
    let mut found = found.into_iter();
    let first = found.next();
    for (path, _) in found {
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(first.unwrap_or_else(|| {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
        let host: String = process::host().chars().map(safe).collect();
        (dir.join(format!("{PREFIX}{started:010}.{host}{SUFFIX}")), started)
    }))
}

/// Returns the time in the name of an event file of Burgess; `None` for other files.
fn started(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split('.').next()?.parse().ok()
}

/// Brings the file `path` to its content for these steps and results: appends what is missing, or replaces a file with
/// other content. Returns the wall time of its last step.
fn write(dir: &Path, path: &Path, started: u64, steps: &[TrainStep], results: Option<&RunResults>) -> Result<f64> {
    let step = || format!("writing {}", path.display());
    let present = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.with_context(|| format!("reading {}", path.display()))?,
    };
    let (wanted, now) = content(dir, started, steps, &memory_of(&present), results)?;
    match wanted.strip_prefix(present.as_slice()) {
        Some([]) => {}
        Some(rest) if !present.is_empty() => {
            let mut file = File::options().append(true).open(path).with_context(step)?;
            file.write_all(rest).and_then(|()| file.sync_all()).with_context(step)?;
        }
        _ => atomic::write(path, &wanted)?,
    }
    Ok(now)
}

/// Computes the whole content of an event file, and the wall time of its last step.
fn content(
    dir: &Path,
    started: u64,
    steps: &[TrainStep],
    memory: &PeakMemory,
    results: Option<&RunResults>,
) -> Result<(Vec<u8>, f64)> {
    let mut now = started as f64;
    let mut bytes = record::framed(&Event::version(now).encoded());
    let config = dir.join("config.json");
    if config.is_file() {
        let text = fs::read_to_string(&config).with_context(|| format!("reading {}", config.display()))?;
        // TensorBoard shows texts as Markdown, in which four spaces make a line of code.
        let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
        bytes.extend(record::framed(&Event::new(now, 0, vec![Value::text("config", &lines)]).encoded()));
    }
    for step in steps {
        now += step.seconds;
        let peak = memory.get(&(step.stage.clone(), step.step)).map(|gb| f64::from(*gb));
        bytes.extend(record::framed(&of_step(step, now, peak).encoded()));
    }
    if let Some(results) = results {
        let mut last: HashMap<&str, usize> = HashMap::new();
        for step in steps {
            let number = last.entry(step.stage.as_str()).or_default();
            *number = step.step.max(*number);
        }
        bytes.extend(record::framed(&Event::new(now, last.values().sum(), scores(results)).encoded()));
    }
    Ok((bytes, now))
}

/// Makes the event of one training step.
fn of_step(step: &TrainStep, now: f64, peak_gb: Option<f64>) -> Event {
    let speed = (step.seconds > 0.0).then(|| step.tokens as f64 / step.seconds);
    let values = [
        ("loss", Some(step.loss)),
        ("lr", Some(step.lr)),
        ("grad_norm", Some(step.grad_norm)),
        ("tokens_per_second", speed),
        (PEAK, peak_gb),
    ];
    let values = values.iter().filter_map(|(name, value)| {
        let value = (*value)?;
        Some(Value::scalar(format!("{}/{name}", step.stage), value as f32))
    });
    Event::new(now, step.step, values.collect())
}

/// Name of the peak memory in a tag.
const PEAK: &str = "peak_memory_gb";

/// Returns the scores of a run and their costs, each with its tag.
fn scores(results: &RunResults) -> Vec<Value> {
    let mut values = vec![Value::scalar("eval/average", results.average as f32)];
    for (id, r) in &results.results {
        for (group, value) in [("eval", r.score), ("eval_blind", r.blind), ("eval_chance", r.chance)] {
            // An unknown chance level is NaN.
            if value.is_finite() {
                values.push(Value::scalar(format!("{group}/{id}"), value as f32));
            }
        }
    }
    let categories = results.categories.iter();
    values.extend(categories.map(|(name, score)| Value::scalar(format!("eval_category/{name}"), *score as f32)));
    let cost = &results.cost;
    let costs = [("train_seconds", cost.train_seconds), (PEAK, cost.peak_memory_bytes as f64 / 1e9)];
    let measured = costs.into_iter().filter(|(_, value)| *value > 0.0);
    values.extend(measured.map(|(name, value)| Value::scalar(format!("cost/{name}"), value as f32)));
    values
}

/// Reads the peak memory after each step from an event file, as far as it is intact.
fn memory_of(bytes: &[u8]) -> PeakMemory {
    let mut found = PeakMemory::new();
    for record in record::Records::new(bytes) {
        let Ok(event) = Event::decoded(record) else { return found };
        for value in event.values {
            if let (Some(stage), Some(peak)) = (value.tag.strip_suffix(&format!("/{PEAK}")), value.number()) {
                found.insert((stage.to_string(), event.step), peak);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(stage: &str, step: usize) -> TrainStep {
        let loss = 2.0 / step as f64;
        TrainStep { stage: stage.into(), step, loss, lr: 1e-3, grad_norm: 0.5, tokens: 100, seconds: 0.25 }
    }

    /// The only event file in a directory, with its content.
    fn file(dir: &Path) -> Result<(PathBuf, Vec<u8>)> {
        let paths = fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
        let found: Vec<PathBuf> = paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "burgess")).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        Ok((found[0].clone(), fs::read(&found[0])?))
    }

    /// Tag, step and value of all scalars of an event file.
    fn scalars(bytes: &[u8]) -> Result<Vec<(String, usize, f32)>> {
        let mut found = Vec::new();
        for record in record::Records::new(bytes) {
            let event = Event::decoded(record)?;
            found.extend(event.values.iter().filter_map(|v| Some((v.tag.clone(), event.step, v.number()?))));
        }
        Ok(found)
    }

    fn losses(bytes: &[u8]) -> Result<Vec<(String, usize, f32)>> {
        Ok(scalars(bytes)?.into_iter().filter(|(tag, ..)| tag.ends_with("/loss")).collect())
    }

    #[test]
    fn an_interrupted_run_has_each_step_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("config.json"), "{\n  \"seed\": 0\n}\n")?;
        let mut log = EventLog::open(dir.path(), &[])?;
        let all: Vec<TrainStep> = (1..=3).map(|i| step("align", i)).chain((1..=4).map(|i| step("tune", i))).collect();
        for step in &all {
            log.add(step)?;
        }
        let (path, whole) = file(dir.path())?;
        let expected: Vec<_> = all.iter().map(|s| (format!("{}/loss", s.stage), s.step, s.loss as f32)).collect();
        assert_eq!(losses(&whole)?, expected);
        let has_memory = memory::peak() > 0;
        assert_eq!(
            scalars(&whole)?.iter().filter(|(tag, ..)| tag.ends_with(PEAK)).count(),
            7 * usize::from(has_memory)
        );

        // A run that resumes at an earlier step: its file has the bytes of one that was never interrupted, apart from
        // the memory of the steps that are done again.
        let mut resumed = EventLog::open(dir.path(), &all[..5])?;
        let cut = file(dir.path())?.1;
        assert!(whole.starts_with(&cut) && losses(&cut)? == expected[..5]);
        // A second process of a study has a file of its own in its own directory; this one keeps its name.
        for step in &all[5..] {
            resumed.add(step)?;
        }
        let (same, again) = file(dir.path())?;
        assert_eq!((losses(&again)?, same), (expected.clone(), path.clone()));

        // Every truncation is repaired: the file ends where a record ends, and no step is missing.
        for cut in [0, 3, 11, 13, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut])?;
            EventLog::open(dir.path(), &all)?;
            assert_eq!(losses(&file(dir.path())?.1)?, expected, "{cut}");
        }
        // So is a damaged byte, and the copy of a file.
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(&path, &damaged)?;
        fs::write(dir.path().join("events.out.tfevents.9999999999.copy.burgess"), &whole)?;
        EventLog::open(dir.path(), &all)?;
        assert_eq!(losses(&file(dir.path())?.1)?, expected);
        Ok(())
    }

    #[test]
    fn the_wall_time_is_that_of_the_training() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let mut log = EventLog::open(dir.path(), &[step("tune", 1)])?;
        log.add(&step("tune", 2))?;
        let (path, bytes) = file(dir.path())?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let started = started(name).unwrap_or_default() as f64;
        let times: Vec<f64> =
            record::Records::new(&bytes).map(|r| Ok(Event::decoded(r)?.wall_time)).collect::<Result<_>>()?;
        assert_eq!(times, [started, started + 0.25, started + 0.5]);
        Ok(())
    }
}
