//! The second pass: writes the chosen entries as JSON lines or webdataset shards.
//!
//! The output of a plan is the same bytes every time. An interrupted run goes on at its last checkpoint; what it needs
//! lies in the folder [`WORK`] of the output directory until the mix is complete.

mod line;
mod samples;
mod shuffle;

use crate::manifest::{MANIFEST, Manifest, ManifestInput, WriteCounts};
use crate::mix::{Order, SystemPromptRule};
use crate::output::{JsonLines, OutputFile, WebDataset, WebSample, image_ending};
use crate::plan::{MixPlan, Step};
use crate::pool::PoolImage;
use crate::pool::read_images;
use crate::system_prompts::SystemPrompts;
use burgess_base::skipped::SkippedEntries;
use burgess_base::{Context, Error, Result, atomic, digest, files, temporary, text};
use line::LineMaker;
use samples::Sample;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Name of the data file among JSON lines.
pub const DATA_FILE: &str = "mix.jsonl";
/// Folder of an unfinished mix in its output directory.
pub const WORK: &str = ".mix";
/// Name of the file in the folder that one process locks.
const LOCK: &str = "lock";
/// Folder of images that were copied out of tables and archives.
const IMAGES: &str = "images";
/// Largest number of places that are kept per reason and source.
const SHOWN: usize = 3;

/// The format of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// One file of JSON lines; images stay where they are, but for those inside tables and archives, which are copied.
    #[default]
    Jsonl,
    /// Webdataset shards with the images inside.
    WebDataset,
}

/// How a mix is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOptions {
    /// Name of the mix for its manifest.
    pub name: String,
    /// Format of the output.
    pub format: OutputFormat,
    /// Largest number of entries in a shard.
    pub per_shard: u64,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { name: "mix".into(), format: OutputFormat::Jsonl, per_shard: 5000 }
    }
}

/// A written mix.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenMix {
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether it was there already, complete and made of the same files.
    pub was_there: bool,
}

/// What is counted while a mix is written, and kept at each checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WriteState {
    /// Number of entries of the plan that are done: written or left out.
    next: usize,
    counts: WriteCounts,
}

impl WriteState {
    fn leave_out(&mut self, reason: &str, source: &str, place: &str, why: &str) {
        let place = format!("{place}: {}", text::excerpt(why, 300));
        let all = &mut self.counts.left_out;
        match all.iter_mut().find(|entries| entries.reason == reason && entries.source == source) {
            Some(entries) => {
                entries.count += 1;
                if entries.first.len() < SHOWN {
                    entries.first.push(place);
                }
            }
            None => {
                all.push(SkippedEntries { reason: reason.into(), source: source.into(), count: 1, first: vec![place] })
            }
        }
    }
}

enum Output {
    Lines(Box<JsonLines>),
    Shards(Box<WebDataset>),
}

impl Output {
    fn state(&self) -> WriteState {
        let state = match self {
            Self::Lines(lines) => lines.state(),
            Self::Shards(shards) => shards.state(),
        };
        serde_json::from_value(state.clone()).unwrap_or_default()
    }

    fn checkpoint_if_wanted(&mut self, state: &WriteState) -> Result<()> {
        match self {
            Self::Lines(lines) if lines.wants_checkpoint() => lines.checkpoint(serde_json::to_value(state)?),
            Self::Shards(shards) if shards.wants_checkpoint() => shards.checkpoint(serde_json::to_value(state)?),
            Self::Lines(_) | Self::Shards(_) => Ok(()),
        }
    }

    fn finish(self, state: &WriteState) -> Result<Vec<OutputFile>> {
        match self {
            Self::Lines(lines) => Ok(vec![lines.finish()?]),
            Self::Shards(shards) => shards.finish(serde_json::to_value(state)?),
        }
    }
}

impl MixPlan {
    /// Returns the directory for the temporary files of a mix that is written to `out`.
    pub fn work_directory(out: &Path) -> PathBuf {
        out.join(WORK)
    }

    /// Writes the mix to the directory `out`: the data, `mix.toml` with all rules, and `manifest.json`.
    ///
    /// # Errors
    /// The mix has no entries, the directory holds something else, a file of the pools changed since the plan was made,
    /// or an error of the file system. Entries with images that cannot be read are left out and counted.
    pub fn write(&self, out: &Path, options: &WriteOptions, progress: &mut dyn FnMut(Step)) -> Result<WrittenMix> {
        if self.is_empty() {
            return Err(Error::failed("no entry is left for the mix")
                .hint("look at the counts after each rule, and at what could not be read of the pools"));
        }
        let key = digest::of_value(&(&self.key, options.format, options.per_shard))?;
        if let Some(manifest) = Manifest::read(out)? {
            if manifest.key == key && manifest.is_complete(out) {
                // A run that was killed right before its end has left it.
                remove_work(out)?;
                return Ok(WrittenMix { manifest, was_there: true });
            }
            return Err(Error::usage(format!("{} holds another mix, `{}`", out.display(), manifest.name))
                .hint("choose another directory, or remove this one"));
        }
        let work = out.join(WORK);
        // The first pass may have made the folder for its temporary files.
        if !work.join(LOCK).exists() {
            let there = [DATA_FILE, MANIFEST, "mix.toml", "000000.tar"].map(|name| out.join(name));
            if let Some(foreign) = there.iter().find(|path| path.symlink_metadata().is_ok()) {
                return Err(Error::usage(format!("{} exists and is not part of a mix", foreign.display()))
                    .hint("choose another directory, or move the file away"));
            }
        }
        fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
        let _lock = lock(&work)?;
        temporary::remove_stale(out, 1);
        self.check_space(out, options)?;
        if Self::stored(&work, &self.mix, &self.key)?.is_none() {
            self.store(&work)?;
        }
        let (written, inputs) = std::thread::scope(|scope| {
            let inputs = scope.spawn(|| self.input_digests());
            let written = self.write_entries(out, &work, options, &key, progress);
            (written, inputs.join().unwrap_or_else(|_| Err(Error::failed("the digests of the pools failed"))))
        });
        let (outputs, counts) = written?;
        let mut manifest =
            Manifest::new(&options.name, self.mix.clone(), key, self.table.clone(), self.problems.clone());
        manifest.inputs = inputs?;
        self.check_inputs()?;
        let data = |file: &&OutputFile| !file.file.ends_with(".parquet");
        manifest.entries = outputs.iter().filter(data).map(|file| file.entries).sum();
        manifest.outputs = outputs;
        manifest.counts = counts;
        manifest.images = self.image_directories();
        // Its paths are absolute: the file lies in another directory than the one in which they were stated.
        let here = std::env::current_dir().context("finding the working directory")?;
        let mut rules = self.mix.clone();
        rules.resolve_paths(&here);
        let toml = toml::to_string(&rules).map_err(|e| Error::failed(format!("writing mix.toml: {e}")))?;
        atomic::write(&out.join("mix.toml"), toml.as_bytes())?;
        atomic::write_json(&out.join(MANIFEST), &manifest)?;
        remove_work(out)?;
        Ok(WrittenMix { manifest, was_there: false })
    }

    fn input_digests(&self) -> Result<Vec<ManifestInput>> {
        let input = |input: &crate::plan::InputFile| {
            let digest = digest::of_file(&input.path)?;
            Ok(ManifestInput { path: input.path.clone(), bytes: input.bytes, digest })
        };
        self.inputs.iter().map(input).collect()
    }

    /// Returns an error if there is less free space than the entries need.
    fn check_space(&self, out: &Path, options: &WriteOptions) -> Result<()> {
        let bytes: u64 = self.entries.iter().map(|record| u64::from(record.bytes) + 1).sum();
        // A shuffled mix is written twice. The sizes of images in shards are not known.
        let factor = if self.mix.order == Order::Shuffle { 2 } else { 1 };
        let begun = match options.format {
            OutputFormat::Jsonl => out.join(format!("{DATA_FILE}.partial")).metadata().map_or(0, |meta| meta.len()),
            OutputFormat::WebDataset => 0,
        };
        let needed = (factor * bytes).saturating_sub(begun);
        // Where the free space is not known, writing tells.
        let Ok(free) = fs4::available_space(out) else { return Ok(()) };
        if free < needed {
            return Err(Error::failed(format!(
                "the mix needs {} in {}, {} are free",
                files::format_bytes(needed),
                out.display(),
                files::format_bytes(free)
            ))
            .hint("free some disk space, or choose another directory"));
        }
        Ok(())
    }

    /// Returns the directories to which the image paths of the entries are relative, with the numbers of entries.
    fn image_directories(&self) -> BTreeMap<PathBuf, u64> {
        let mut directories = BTreeMap::new();
        for (at, span) in self.files.iter().enumerate() {
            let images = self.pools.get(span.pool as usize).and_then(|pool| pool.spec().images.clone());
            let end = self.files.get(at + 1).map_or(self.entries.len(), |next| next.begin);
            let entries = self.entries.get(span.begin..end).unwrap_or_default();
            let count = entries.iter().filter(|record| record.has_image()).count() as u64;
            if let Some(images) = images.filter(|_| count > 0) {
                *directories.entry(images).or_default() += count;
            }
        }
        directories
    }

    fn write_entries(
        &self,
        out: &Path,
        work: &Path,
        options: &WriteOptions,
        key: &str,
        progress: &mut dyn FnMut(Step),
    ) -> Result<(Vec<OutputFile>, WriteCounts)> {
        let output = match options.format {
            OutputFormat::Jsonl => {
                WebDataset::discard(out)?;
                Output::Lines(Box::new(JsonLines::open(&out.join(DATA_FILE), key)?))
            }
            OutputFormat::WebDataset => {
                JsonLines::discard(&out.join(DATA_FILE))?;
                Output::Shards(Box::new(WebDataset::open(out, key, options.per_shard)?))
            }
        };
        let state = output.state();
        let of = self.entries.len() as u64;
        let prompts = self.mix.system_prompts.as_ref().map(SystemPromptRule::prompts).transpose()?;
        let lines =
            LineMaker { plan: self, prompts: prompts.as_ref().map(|prompts: &SystemPrompts| (prompts, self.turns())) };
        let begin = state.next;
        let mut sink = Sink { plan: self, out, output, state, waiting: Vec::new() };
        progress(Step::Writing { entries: begin as u64, of });
        let mut done = begin as u64;
        let mut each = |sample: Sample| {
            sink.add(sample)?;
            done += 1;
            if done.is_multiple_of(4096) {
                progress(Step::Writing { entries: done, of });
            }
            Ok(())
        };
        match self.mix.order {
            Order::Pools => samples::in_order(self, &lines, options.format, begin, &mut each)?,
            Order::Shuffle => shuffle::shuffled(self, &lines, options.format, work, begin, &mut each)?,
        }
        sink.flush()?;
        progress(Step::Writing { entries: of, of });
        let Sink { output, state, .. } = sink;
        Ok((output.finish(&state)?, state.counts))
    }

    fn turns(&self) -> crate::mix::PromptTurns {
        self.mix.system_prompts.as_ref().map(|rule| rule.turns).unwrap_or_default()
    }
}

/// Number of images that are read at a time.
const BATCH: usize = 64;

/// Takes the samples in the order of the output, reads their images and writes them.
struct Sink<'a> {
    plan: &'a MixPlan,
    out: &'a Path,
    output: Output,
    state: WriteState,
    waiting: Vec<Sample>,
}

impl Sink<'_> {
    fn add(&mut self, sample: Sample) -> Result<()> {
        if self.waiting.is_empty() && sample.images.is_empty() {
            return self.write(sample, Vec::new());
        }
        self.waiting.push(sample);
        let images: usize = self.waiting.iter().map(|sample| sample.images.len().max(1)).sum();
        if images >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let images: Vec<&PoolImage> = waiting.iter().flat_map(|sample| &sample.images).collect();
        let mut bytes = read_images(&images).into_iter();
        let read: Vec<Vec<Result<Vec<u8>>>> =
            waiting.iter().map(|sample| bytes.by_ref().take(sample.images.len()).collect()).collect();
        for (sample, images) in waiting.into_iter().zip(read) {
            match images.into_iter().collect::<Result<Vec<_>>>() {
                Ok(images) => self.write(sample, images)?,
                Err(e) => {
                    self.state.next += 1;
                    self.state.leave_out("an image cannot be read", &sample.source, &sample.place, &e.to_string());
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, mut sample: Sample, images: Vec<Vec<u8>>) -> Result<()> {
        self.state.next += 1;
        if let Some(why) = &sample.failed {
            self.state.leave_out("the entry cannot be edited", &sample.source, &sample.place, why);
            return self.output.checkpoint_if_wanted(&self.state);
        }
        let mut endings = Vec::with_capacity(images.len());
        for (image, bytes) in sample.images.iter().zip(&images) {
            match image_ending(bytes) {
                Some(ending) => endings.push(ending),
                None => {
                    let why = format!("{image} begins with none of the bytes of JPEG, PNG, GIF, WebP, BMP, TIFF");
                    self.state.leave_out("an image has no known format", &sample.source, &sample.place, &why);
                    return self.output.checkpoint_if_wanted(&self.state);
                }
            }
        }
        if let Some(counted) = sample.prompts {
            let count = self.state.counts.system_prompts.entry(sample.source.clone()).or_default();
            count.appended += counted.appended;
            count.present += counted.present;
        }
        self.state.counts.sources_added += u64::from(sample.source_added);
        match &mut self.output {
            Output::Lines(lines) => {
                for (at, (bytes, ending)) in images.iter().zip(&endings).enumerate() {
                    let name = format!("{IMAGES}/{}.{ending}", digest::of_bytes(bytes));
                    let path = self.out.join(&name);
                    if path.metadata().is_ok_and(|meta| meta.len() == bytes.len() as u64) {
                        // Another entry, or an interrupted run, has the same image.
                    } else {
                        atomic::write(&path, bytes)?;
                    }
                    self.state.counts.images_copied += 1;
                    sample.line = line::replace(&sample.line, &line::placeholder(&self.plan.key, at), &name);
                }
                lines.write(&sample.line)?;
            }
            Output::Shards(shards) => {
                let images: Vec<(&str, &[u8])> =
                    endings.iter().zip(&images).map(|(ending, bytes)| (*ending, bytes.as_slice())).collect();
                shards.add(&WebSample {
                    json: &sample.line,
                    images: &images,
                    id: &sample.id,
                    source: &sample.source,
                    kind: &sample.kind,
                    turns: sample.turns,
                })?;
            }
        }
        self.output.checkpoint_if_wanted(&self.state)
    }
}

/// Locks the folder of an unfinished mix for this process.
fn lock(work: &Path) -> Result<File> {
    let path = work.join(LOCK);
    let step = || format!("locking {}", path.display());
    let file = File::options().create(true).write(true).truncate(false).open(&path).with_context(step)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            let out = work.parent().unwrap_or(work);
            Err(Error::failed(format!("another process is writing the mix in {}", out.display()))
                .hint("wait for it, or choose another directory"))
        }
        Err(fs::TryLockError::Error(e)) => Err(e).with_context(step),
    }
}

fn remove_work(out: &Path) -> Result<()> {
    let work = out.join(WORK);
    match fs::remove_dir_all(&work) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", work.display()))
        }
        _ => Ok(()),
    }
}
