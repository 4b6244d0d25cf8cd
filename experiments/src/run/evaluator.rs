//! The evaluator of a study with its data, opened once and shared by all runs.

use crate::data::digests::{self, DigestCache, Manifest};
use crate::data::examples::{self, ExampleSet, ReadOptions};
use crate::data::mix_reference::{self, MixReference};
use crate::data::mixes::{self, MixRecord};
use crate::data::{DataDirectory, ImageIndex, benchmarks, image_files};
use crate::features::{ArmCard, EncoderFeatures, EncoderInputs, ImageSet, VisualSource, model_cards};
use crate::machine::device_set::DeviceSet;
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::machine::workers::Parallelism;
use crate::run::eval_task::EvalTask;
use crate::run::llm_files::LlmFiles;
use crate::run::notes;
use crate::run::store::RunStore;
use crate::study::{Arm, ArmMix, EvaluatorConfig, FeatureSourceKind, Freeze};
use burgess_base::{Error, Result, atomic, digest};
use burgess_probe::bench;
use burgess_probe::connector::ConnectorKind;
use burgess_probe::data::Examples;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The evaluator of a study with its data, opened once and shared by all runs.
pub struct Evaluator {
    /// Name of the study.
    pub study: String,
    /// Configuration of the evaluator.
    pub config: EvaluatorConfig,
    /// Data of the study.
    pub data: DataDirectory,
    /// Names of all images, relative to the data directory; features use the same indices.
    pub images: Vec<String>,
    /// Devices that compute; each run uses one of them.
    pub devices: DeviceSet,
    /// Name of the devices in configurations and results, see [`DeviceSet::label`].
    pub device_name: String,
    /// Number of threads of a run, which can affect the numerical results.
    pub threads: usize,
    pub(crate) llm: LlmFiles,
    pub(crate) align: Option<ExampleSet>,
    /// All tune conversations, for arms without a mix.
    tune: ExampleSet,
    /// The tune conversations of arms with a mix.
    mixed: Vec<MixedSet>,
    /// The mixes of which the conversations of the stages are the output.
    mixes: BTreeMap<String, MixReference>,
    pub(crate) benchmarks: Vec<EvalTask>,
    /// Assumptions that hold for all runs.
    pub notes: Vec<String>,
}

/// The tune conversations that a mix chooses.
struct MixedSet {
    mix: ArmMix,
    examples: ExampleSet,
    record: MixRecord,
}

/// Reads the tune conversations of each mix of the arms, once for arms with the same mix.
fn read_mixed(
    arms: &[Arm],
    data: &DataDirectory,
    evaluator: &EvaluatorConfig,
    llm: &LlmFiles,
    images: &mut ImageIndex,
    progress: &Progress,
) -> Result<Vec<MixedSet>> {
    let mut mixed: Vec<MixedSet> = Vec::new();
    for arm in arms {
        let Some(mix) = arm.mix.as_ref().filter(|mix| mixed.iter().all(|known| known.mix != **mix)) else { continue };
        let mut read = || -> Result<MixedSet> {
            let chosen = mixes::open(mix.rules()?, data, progress)?;
            let (chat, tokenizer) = (&llm.chat, &llm.tokenizer);
            let prompts = &evaluator.recipe.tune.response_prompts;
            let options = ReadOptions { per_source: None, share: evaluator.share, prompts, is_selection: true };
            let examples = examples::read(&chosen.file, options, chat, tokenizer, images, progress)?;
            Ok(MixedSet { mix: mix.clone(), examples, record: chosen.record })
        };
        mixed.push(read().map_err(|e| e.context(format!("the mix of the arm {}", arm.name())))?);
    }
    Ok(mixed)
}

/// Manifest entry of a file: its name relative to the data directory, and its path.
fn manifest_entry(data: &DataDirectory, file: &Path) -> (String, PathBuf) {
    (image_files::encode_name(file.strip_prefix(&data.dir).unwrap_or(file)), file.to_path_buf())
}

/// Digest that changes with the images of the conversations.
fn contents(data: &DataDirectory, manifest: &Manifest) -> Result<String> {
    if data.digest.is_empty() { digest::of_value(manifest) } else { Ok(data.digest.clone()) }
}

/// Checks that the image files of the benchmarks that will be used can be decoded.
fn check_question_images(
    benchmarks: &[EvalTask],
    names: &[String],
    first: usize,
    evaluator: &EvaluatorConfig,
    data: &DataDirectory,
    progress: &Progress,
) -> Result<()> {
    let files: Vec<String> = names.iter().filter(|name| image_files::is_file(name)).cloned().collect();
    let bad = examples::unreadable(&files, data, &data.digest, progress)?;
    for (i, name) in names.iter().enumerate() {
        let Some(cause) = bad.get(name) else { continue };
        let question = benchmarks.iter().find_map(|b| Some((b.benchmark.id(), b.question_about(first + i)?)));
        let error = Error::failed(cause.clone()).hint(format!("images are looked for under {}", data.dir.display()));
        match question {
            Some((id, question)) => return Err(error.context(format!("the image of question {question} of {id}"))),
            // The cache encodes all images, also those of questions that the limit leaves out.
            None if evaluator.features == FeatureSourceKind::Cached => {
                return Err(error
                    .context("an image of the benchmarks")
                    .hint("repair the file, or set features = \"computed\""));
            }
            None => {}
        }
    }
    Ok(())
}

impl Evaluator {
    /// Opens the evaluator of a study: reads all conversations, those of the arms' mixes, and all questions.
    pub fn open(
        study: &str,
        evaluator: &EvaluatorConfig,
        arms: &[Arm],
        mut data: DataDirectory,
        devices: &DeviceSet,
        progress: &Progress,
    ) -> Result<Self> {
        let evaluator = evaluator.clone();
        evaluator.check()?;
        let bar = progress.bar(&format!("checking the language model {}", evaluator.llm), 0);
        let llm = LlmFiles::open(&evaluator)?;
        drop(bar);
        evaluator.recipe.check_llm(&llm.config).map_err(|e| e.context("[recipe]"))?;
        let cache = paths::cache()?;
        // If the digest of the data does not follow from their specification, it is computed from the files that are
        // used.
        let mut used = data.digest.is_empty().then(|| DigestCache::open(&cache, &data.dir)).transpose()?;
        let mut manifest = Manifest::new();
        let mut images = ImageIndex::default();
        let mut align = match &evaluator.recipe.align {
            Some(stage) => {
                let file = data.align.as_ref().ok_or_else(|| {
                    Error::usage("the recipe has an align stage, but the data have no conversations for it")
                        .hint("set align = \"FILE\" in [evaluator.data.files], or leave out [evaluator.recipe.align]")
                })?;
                let prompts = &stage.response_prompts;
                let options = ReadOptions { per_source: None, share: evaluator.share, prompts, is_selection: false };
                Some(examples::read(file, options, &llm.chat, &llm.tokenizer, &mut images, progress)?)
            }
            None => None,
        };
        let options = ReadOptions {
            per_source: data.per_source,
            share: evaluator.share,
            prompts: &evaluator.recipe.tune.response_prompts,
            is_selection: data.per_source.is_some(),
        };
        let mut tune = examples::read(&data.tune, options, &llm.chat, &llm.tokenizer, &mut images, progress)?;
        if let Some(used) = &mut used {
            let files: Vec<(String, PathBuf)> =
                align.iter().chain([&tune]).map(|set| manifest_entry(&data, set.file())).collect();
            manifest.extend(used.files(&files, progress)?);
            manifest.extend(used.images(&images.names, progress)?);
        }
        // All conversations are read, so that images have the same numbers, and features are shared, whatever the
        // mixes.
        let mixes = mix_reference::of_data(&data, &manifest, |file| manifest_entry(&data, file).0)?;
        let mut mixed = read_mixed(arms, &data, &evaluator, &llm, &mut images, progress)?;
        let contents = contents(&data, &manifest)?;
        let chosen = mixed.iter_mut().map(|mixed| &mut mixed.examples);
        let mut sets: Vec<&mut ExampleSet> = align.iter_mut().chain([&mut tune]).chain(chosen).collect();
        examples::drop_unreadable(&mut sets, &mut images, &data, &contents, progress)?;
        let chosen = mixed.iter().map(|mixed| ("tune", &mixed.examples));
        for (stage, set) in align.iter().map(|set| ("align", set)).chain([("tune", &tune)]).chain(chosen) {
            set.check(stage)?;
        }
        let trained = images.names.len();
        let mut benchmarks = Vec::new();
        // Images of benchmarks whose own files say where they are.
        let mut own = Vec::new();
        let bar = progress.bar("reading questions", evaluator.benchmarks.len() as u64);
        for id in &evaluator.benchmarks {
            bar.message(&format!("reading the questions of {id}"));
            // Images get their indices before the limit is applied, so that a smaller sample reuses the same features.
            let (benchmark, before) = (bench::find(id)?, images.names.len());
            let asked = EvalTask::read(
                benchmark,
                &data.dir,
                &evaluator.eval_options(),
                &llm.chat,
                &llm.tokenizer,
                &mut images,
            )?;
            benchmarks.push(asked);
            if benchmark.own_data().is_some() {
                own.extend(images.names.get(before..).unwrap_or_default().iter().cloned());
            }
            bar.add(1);
        }
        drop(bar);
        let asked = images.names.get(trained..).unwrap_or_default();
        if let Some(used) = &mut used {
            manifest.extend(used.images(asked, progress)?);
            for asked in &benchmarks {
                let file = data.dir.join("bench").join(format!("{}.jsonl", asked.benchmark.id()));
                manifest.extend(match file.is_file() {
                    true => used.files(&[manifest_entry(&data, &file)], progress)?,
                    false => Manifest::from([(format!("questions of {}", asked.benchmark.id()), asked.digest.clone())]),
                });
            }
            data.digest = digests::store_manifest(&cache, &manifest)?;
        } else if !own.is_empty() {
            // The digest of generated or published data does not cover these images.
            let mut manifest = DigestCache::open(&cache, &data.dir)?.images(&own, progress)?;
            manifest.insert("data of the study".into(), data.digest.clone());
            data.digest = digests::store_manifest(&cache, &manifest)?;
        }
        check_question_images(&benchmarks, asked, trained, &evaluator, &data, progress)?;
        let mut notes = notes::of_llm(&llm.notes, &evaluator.recipe);
        let chosen = mixed.iter().map(|mixed| &mixed.examples);
        notes.extend(align.iter().chain([&tune]).chain(chosen).flat_map(ExampleSet::notes));
        notes.extend(benchmarks.iter().flat_map(EvalTask::notes));
        Ok(Self {
            study: study.to_string(),
            config: evaluator,
            data,
            images: images.names,
            device_name: devices.label(None),
            devices: devices.clone(),
            threads: Parallelism::of_this_machine(None).threads,
            llm,
            align,
            tune,
            mixed,
            mixes,
            benchmarks,
            notes,
        })
    }

    /// Returns the tune conversations of an arm: those that its mix chooses, or all.
    ///
    /// # Errors
    /// The evaluator was opened without this arm.
    pub fn tune_of(&self, arm: &Arm) -> Result<&ExampleSet> {
        Ok(self.mixed_of(arm)?.map_or(&self.tune, |mixed| &mixed.examples))
    }

    /// Returns whether an arm has a mix.
    pub fn has_mixes(&self) -> bool {
        !self.mixed.is_empty()
    }

    /// Returns the number of all tune conversations.
    pub fn tune_len(&self) -> usize {
        self.tune.examples.len()
    }

    fn mixed_of(&self, arm: &Arm) -> Result<Option<&MixedSet>> {
        let Some(mix) = &arm.mix else { return Ok(None) };
        let found = self.mixed.iter().find(|mixed| mixed.mix == *mix);
        found.map(Some).ok_or_else(|| Error::failed(format!("the mix of the arm {} was not read", arm.name())))
    }

    /// Assumptions made for a run with these encoders.
    pub fn notes<'a>(&self, cards: impl IntoIterator<Item = &'a ArmCard>) -> Vec<String> {
        notes::distinct(notes::of_cards(cards).into_iter().chain(self.notes.iter().cloned()))
    }

    /// Writes `config.json` of a run, or checks that the existing one has the same inputs.
    ///
    /// # Errors
    /// The inputs differ; the error names the first difference, and for data the files that changed.
    pub fn write_or_compare_config(&self, store: &RunStore, config: &Value, notes: &[String]) -> Result<()> {
        digests::compare(&paths::cache()?, store.dir(), &["data"], &self.data.digest, self.data.earlier.as_deref())?;
        store.write_or_compare_config(&self.noted(store, config, notes))
    }

    /// The configuration of a run with notes, and with what determines the bits of its device.
    fn noted(&self, store: &RunStore, config: &Value, notes: &[String]) -> Value {
        let mut config = notes::with_notes(config, notes);
        // Runs of earlier versions have no fingerprint, and those on flex need none.
        let file = store.dir().join("config.json");
        let recorded = || Ok::<_, Error>(atomic::read_json::<Value>(&file)?.get("fingerprint").is_some());
        if self.devices.fingerprint() != self.device_name
            && (!file.exists() || recorded().unwrap_or(true))
            && let Some(fields) = config.as_object_mut()
        {
            fields.insert("fingerprint".into(), self.devices.fingerprint().into());
        }
        config
    }

    /// Checks that `config.json` of a run, if it exists, has the same inputs. Another device is no error for a finished
    /// run: `note` receives what differs.
    ///
    /// # Errors
    /// As [`write_or_compare_config`](Self::write_or_compare_config).
    pub fn compare_config(&self, store: &RunStore, config: &Value, finished: bool, note: &dyn Fn(&str)) -> Result<()> {
        digests::compare(&paths::cache()?, store.dir(), &["data"], &self.data.digest, self.data.earlier.as_deref())?;
        store.compare_config(&self.noted(store, config, &[]), finished.then_some(note)).map(drop)
    }

    /// Returns the images of the study, for features of its encoders.
    pub fn image_set(&self) -> ImageSet<'_> {
        let fingerprint = self.devices.fingerprint();
        ImageSet { data: &self.data, images: &self.images, devices: self.devices.all(), fingerprint }
    }

    /// Returns the connector of an arm: its own, or the evaluator's.
    pub fn connector<'a>(&'a self, arm: &'a Arm) -> &'a ConnectorKind {
        self.config.connector_of(arm)
    }

    /// Makes `config.json`: everything on which a run's results depend.
    pub fn resolved_config(&self, arm: &Arm, seed: u64, encoders: &BTreeMap<String, String>) -> Result<Value> {
        let versions = self.benchmarks.iter().map(|b| (b.benchmark.id(), b.benchmark.version()));
        let versions: BTreeMap<_, _> = versions.collect();
        let mut config = json!({
            "burgess": env!("CARGO_PKG_VERSION"),
            "study": self.study,
            "arm": arm.name(),
            "freeze": arm.freeze.as_str(),
            "seed": seed,
            "encoders": encoders,
            "llm": {"name": self.config.llm, "digest": self.llm.digest},
            "data": self.data.digest,
            "benchmarks": versions,
            "evaluator": serde_json::to_value(&self.config)?,
            "device": self.device_name,
            "threads": self.threads,
        });
        // Generated questions are determined by the digest of the data.
        let published = self.benchmarks.iter().filter(|b| benchmarks::has_own_digest(b.benchmark));
        let published: BTreeMap<&str, &String> = published.map(|b| (b.benchmark.id(), &b.digest)).collect();
        if let (false, Some(fields)) = (published.is_empty(), config.as_object_mut()) {
            fields.insert("questions".into(), serde_json::to_value(published)?);
        }
        let files = self.benchmarks.iter().filter_map(|b| Some((b.benchmark.id(), b.benchmark.definition()?.digest)));
        let files: BTreeMap<&str, &str> = files.collect();
        if let (false, Some(fields)) = (files.is_empty(), config.as_object_mut()) {
            fields.insert("benchmark_files".into(), serde_json::to_value(files)?);
        }
        // Studies without such questions, and runs of earlier versions, have no such key.
        let several = self.benchmarks.iter().any(EvalTask::has_several_images);
        if let (true, Some(fields)) = (several, config.as_object_mut()) {
            fields.insert("several_images".into(), serde_json::to_value(self.config.several_images)?);
        }
        if let (Some(connector), Some(fields)) = (&arm.connector, config.as_object_mut()) {
            fields.insert("connector".into(), serde_json::to_value(connector)?);
        }
        if let (false, Some(fields)) = (self.mixes.is_empty(), config.as_object_mut()) {
            fields.insert("mixes".into(), serde_json::to_value(&self.mixes)?);
        }
        if let (Some(mixed), Some(fields)) = (self.mixed_of(arm)?, config.as_object_mut()) {
            fields.insert("mix".into(), mixed.record.with_rules(&mixed.mix)?);
        }
        Ok(config)
    }

    /// Returns the source of the study's images for a model: features of frozen encoders, or pixels for unfrozen ones.
    pub fn visual_source<'a>(
        &'a self,
        arm: &'a Arm,
        encoders: &'a [EncoderFeatures],
        freeze: Freeze,
    ) -> VisualSource<'a> {
        let inputs = match freeze {
            Freeze::Frozen => EncoderInputs::Frozen(encoders.iter().map(|e| e.features.as_ref()).collect()),
            // The oracle has no network and is never unfrozen.
            Freeze::Unfrozen => EncoderInputs::Trained(
                encoders.iter().filter_map(|e| e.card.encoder().ok()).map(|card| &card.preprocess).collect(),
            ),
        };
        let sizes = self.connector(arm).properties().needs_image_sizes;
        let orientation = model_cards::orientation(encoders.iter().map(|e| &e.card));
        VisualSource { dir: &self.data.dir, images: &self.images, sizes, orientation, encoders: inputs }
    }
}
