//! Predictors of the arms' scores without training a multimodal model, and their agreement with the study's ranking.

mod captions;
mod connector;
pub mod definitions;
mod keypoints;
mod networks;
mod probing;

use crate::data;
use crate::features::{self, PreparedEncoder, prepare_all};
use crate::machine::device_set::DeviceSet;
use crate::machine::progress::Progress;
use crate::machine::stop;
use crate::run::checks;
use crate::run::evaluator::Evaluator;
use crate::run::store::{RunStore, run_dir};
use crate::study::{Arm, DataSource, StudyConfig};
use burgess_base::{Error, ErrorKind, Result, atomic};
use burgess_encoders::probe::spread::SpreadSums;
use burgess_reports::figure::predictors_svg;
use burgess_reports::load::StudyData;
use burgess_reports::predictors::{ArmValue, Predictor, PredictorReport, PredictorValues};
use burgess_reports::ranking::{RankOptions, Ranking, rank};
use burgess_reports::schema::ArmRole;
use captions::{Captions, TextLayers, align};
use connector::{AlignLosses, ProjectedTokens, benchmark_images, check_references, mean_a_score, references};
use definitions::ALIGN_LOSS;
use keypoints::{PointPairs, c_score};
use networks::ArmNetworks;
use probing::{LabelledImages, ProbeChoice, probe_arm};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Number of patch vectors from which the spread of features is computed, at most.
const SPREAD_VECTORS: usize = 16_384;

/// What is computed, and on which data.
#[derive(Clone, Debug)]
pub struct PredictOptions {
    /// Output directory; results are read from and written to `out/<study>`.
    pub out: PathBuf,
    /// Device, as on the command line.
    pub device: String,
    /// Ids of the predictors; all if empty.
    pub predictors: Vec<String>,
    /// Number of images with captions.
    pub images: usize,
    /// Number of nearest neighbours of the mutual k-NN and CKNNA.
    pub neighbours: usize,
    /// Largest number of training images, and of test images, of the probes.
    pub probe_images: usize,
    /// Number of pairs of images with corresponding points.
    pub pairs: usize,
    /// Folder of labelled images; the nano world's probe sets for its studies if absent.
    pub labels: Option<PathBuf>,
    /// Pairs in the layout of SPair-71k; pairs of the nano world for its studies if absent.
    pub keypoints: Option<PathBuf>,
    /// Reference arms of the A score; those of one CLIP encoder if empty.
    pub references: Vec<String>,
    /// Numbers of steps at which the loss of the align stage is read; an eighth, half and all of them if empty.
    pub steps: Vec<usize>,
    /// Whether the align stage is trained where no run has logged it.
    pub train_align: bool,
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self {
            out: PathBuf::from("runs"),
            device: "flex".into(),
            predictors: Vec::new(),
            images: 1024,
            neighbours: 10,
            probe_images: 1000,
            pairs: 500,
            labels: None,
            keypoints: None,
            references: Vec::new(),
            steps: Vec::new(),
            train_align: false,
        }
    }
}

impl PredictOptions {
    fn check(&self) -> Result<()> {
        definitions::check(&self.predictors)?;
        for (flag, value, least) in [
            ("--images", self.images, self.neighbours + 1),
            ("--neighbours", self.neighbours, 2),
            ("--probe-images", self.probe_images, 10),
            ("--pairs", self.pairs, 1),
        ] {
            if value < least {
                return Err(Error::usage(format!("{flag} is {value}, must be at least {least}")));
            }
        }
        match self.steps.contains(&0) {
            true => Err(Error::usage("--steps: a number of steps is 0, must be at least 1")),
            false => Ok(()),
        }
    }
}

/// The report of [`predict_study`] and the files that it was written to.
pub struct PredictOutcome {
    /// Values, agreement and conclusions.
    pub report: PredictorReport,
    /// `predictors.json` in the study's directory.
    pub numbers: PathBuf,
    /// The figure, `report/predictors.svg`.
    pub figure: PathBuf,
}

/// Computes the predictors for every arm of a study, compares them with its results, and writes `predictors.json` and
/// the figure into the study's directory.
///
/// # Errors
/// The study's data or language model cannot be used, an option is invalid, or a file cannot be written. A predictor
/// that cannot be computed for an arm is no error: its reason is in the report.
pub fn predict_study(study: &StudyConfig, options: &PredictOptions, progress: &Progress) -> Result<PredictOutcome> {
    options.check()?;
    check_references(study, &options.references)?;
    let dir = options.out.join(&study.name);
    checks::check_writable(&dir)?;
    let world = matches!(study.evaluator.data, DataSource::World(_));
    let inputs = Inputs::open(options, world)?;
    let devices = DeviceSet::open(&options.device, progress)?;
    let data = data::open(&study.evaluator.data, progress)?;
    let evaluator = Evaluator::open(&study.name, &study.evaluator, &study.arms, data, &devices, progress)?;
    let encoders = prepare_all(study, &evaluator.data.dir, progress);
    let steps = align_steps(&evaluator, options);
    let predictors = definitions::predictors(&options.predictors, &steps);
    let context = Context { study, options, evaluator: &evaluator, dir: &dir, steps: &steps, inputs: &inputs };
    let (values, mut notes) = context.values(&predictors, &encoders, progress)?;
    notes.splice(0..0, inputs.notes());
    let ranking = ranking_of(&dir, study)?;
    let arms: Vec<(String, String, ArmRole)> = study
        .arms
        .iter()
        .map(|arm| {
            let found = ranking.as_ref().and_then(|r| r.arm(&arm.name()));
            let label = found.map_or_else(|| arm.name(), burgess_reports::ranking::RankedArm::row_name);
            (arm.name(), label, role(arm, &encoders))
        })
        .collect();
    let values = predictors.into_iter().zip(values).map(|(predictor, values)| PredictorValues { predictor, values });
    let report = PredictorReport::new(&study.name, &arms, values.collect(), ranking.as_ref(), notes);
    let (numbers, figure) = (dir.join("predictors.json"), dir.join("report").join("predictors.svg"));
    atomic::write_json(&numbers, &report)?;
    atomic::write(&figure, predictors_svg(&report).as_bytes())?;
    Ok(PredictOutcome { report, numbers, figure })
}

/// The role of an arm; an arm whose encoders cannot be opened counts as trained.
fn role(arm: &Arm, encoders: &BTreeMap<String, Result<PreparedEncoder>>) -> ArmRole {
    let of = |e| Some((e, &encoders.get(&format!("{e}"))?.as_ref().ok()?.card));
    match arm.encoders.iter().map(of).collect::<Option<Vec<_>>>() {
        Some(cards) => features::role(cards, arm.freeze),
        None => ArmRole::Trained,
    }
}

/// Ranks the study's own arms and seeds from the results that exist; `None` without results.
fn ranking_of(dir: &Path, study: &StudyConfig) -> Result<Option<Ranking>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let mut data = StudyData::load(dir)?;
    let wanted: Vec<(String, u64)> = study.runs().iter().map(|(arm, seed)| (arm.name(), *seed)).collect();
    data.runs.retain(|run| wanted.contains(&(run.results.run.arm.clone(), run.results.run.seed)));
    if data.runs.is_empty() {
        return Ok(None);
    }
    let options = RankOptions { study: study.name.clone(), ..RankOptions::default() };
    rank(&data.results(), &[], &options).map(Some)
}

/// The steps at which the align loss is read: those of the options, or an eighth, half and all steps of the stage.
fn align_steps(evaluator: &Evaluator, options: &PredictOptions) -> Vec<usize> {
    let total = match (&evaluator.config.recipe.align, &evaluator.align) {
        (Some(stage), Some(set)) => {
            use burgess_probe::data::Examples;
            stage.total_steps(set.examples.len())
        }
        _ => 0,
    };
    let mut steps = match options.steps.as_slice() {
        [] => vec![total / 8, total / 2, total],
        given => given.to_vec(),
    };
    steps.retain(|n| *n > 0);
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Labelled images and pairs of images, or why there are none.
struct Inputs {
    labels: std::result::Result<LabelledImages, String>,
    pairs: std::result::Result<PointPairs, String>,
}

impl Inputs {
    fn open(options: &PredictOptions, world: bool) -> Result<Self> {
        let wanted = |ids: &[&str]| is_wanted(&options.predictors, ids);
        let labels = match (&options.labels, world) {
            _ if !wanted(&PROBES) => Err(NOT_WANTED.to_string()),
            (Some(dir), _) => Ok(LabelledImages::of_folder(dir, options.probe_images)?),
            (None, true) => Ok(LabelledImages::of_world(options.probe_images)),
            (None, false) => Err("there are no labelled images: --labels DIR gives them".to_string()),
        };
        let pairs = match (&options.keypoints, world) {
            _ if !wanted(&["c-score"]) => Err(NOT_WANTED.to_string()),
            (Some(dir), _) => Ok(PointPairs::of_spair(dir, options.pairs)?),
            (None, true) => Ok(PointPairs::of_world(options.pairs)),
            (None, false) => Err("there are no pairs with corresponding points: --keypoints DIR gives them".into()),
        };
        Ok(Self { labels, pairs })
    }

    fn notes(&self) -> Vec<String> {
        let labels = self.labels.as_ref().ok().map(|l| l.about.clone());
        labels.into_iter().chain(self.pairs.as_ref().ok().map(|p| p.about.clone())).collect()
    }
}

const NOT_WANTED: &str = "it was not asked for";
const PROBES: [&str; 4] = ["knn", "linear", "attentive", "linear-patch"];
const ALIGNMENTS: [&str; 5] = ["cka", "cka-unbiased", "cknna", "mutual-knn", "gromov-wasserstein"];
const SPREADS: [&str; 3] = ["effective-rank", "feature-mean", "feature-std"];

fn is_wanted(chosen: &[String], ids: &[&str]) -> bool {
    chosen.is_empty() || ids.iter().any(|id| chosen.iter().any(|c| c == id))
}

/// What the predictors are computed from.
struct Context<'a> {
    study: &'a StudyConfig,
    options: &'a PredictOptions,
    evaluator: &'a Evaluator,
    dir: &'a Path,
    steps: &'a [usize],
    inputs: &'a Inputs,
}

/// Values of an arm by predictor id.
type ArmValues = BTreeMap<String, ArmValue>;

impl Context<'_> {
    fn wants(&self, ids: &[&str]) -> bool {
        is_wanted(&self.options.predictors, ids)
    }

    /// Computes the values of all predictors, `[predictors][arms]`, and notes on how they were computed.
    fn values(
        &self,
        predictors: &[Predictor],
        encoders: &BTreeMap<String, Result<PreparedEncoder>>,
        progress: &Progress,
    ) -> Result<(Vec<Vec<ArmValue>>, Vec<String>)> {
        let (evaluator, options) = (self.evaluator, self.options);
        let (set, source) = (evaluator.image_set(), evaluator.config.features);
        let opened: Vec<Result<ArmNetworks>> =
            self.study.arms.iter().map(|arm| ArmNetworks::new(arm, encoders, set, source)).collect();
        let reasons: Vec<Option<String>> = opened.iter().map(|o| o.as_ref().err().map(sentence)).collect();
        let arms: Vec<Option<ArmNetworks>> = opened.into_iter().map(Result::ok).collect();
        let mut notes = Vec::new();
        let text = self.text(&mut notes, progress)?;
        let references = match self.wants(&["a-score"]) {
            true => self.reference_tokens(&arms, progress)?,
            false => Err(NOT_WANTED.to_string()),
        };
        let mut by_arm: Vec<ArmValues> = Vec::new();
        for ((arm, networks), reason) in self.study.arms.iter().zip(&arms).zip(&reasons) {
            stop::check()?;
            let mut values = ArmValues::new();
            match (networks, reason) {
                (Some(networks), _) => {
                    self.of_arm(arm, networks, &text, &references, &mut values, &mut notes, progress)?;
                }
                (None, reason) => {
                    let reason = reason.clone().unwrap_or_default();
                    values.extend(predictors.iter().map(|p| (p.id.clone(), ArmValue::missing(reason.clone()))));
                }
            }
            by_arm.push(values);
        }
        if self.wants(&ALIGNMENTS) && text.is_ok() {
            notes.push(format!("Neighbours of the mutual k-NN and CKNNA: {}.", options.neighbours));
        }
        let column = |p: &Predictor| {
            let value = |values: &ArmValues| values.get(&p.id).cloned();
            by_arm.iter().map(|v| value(v).unwrap_or_else(|| ArmValue::missing("it was not computed"))).collect()
        };
        notes.dedup();
        Ok((predictors.iter().map(column).collect(), notes))
    }

    /// The captions and the language model's features of them, or why there are none.
    fn text(
        &self,
        notes: &mut Vec<String>,
        progress: &Progress,
    ) -> Result<std::result::Result<(Captions, TextLayers), String>> {
        let (evaluator, options) = (self.evaluator, self.options);
        if !self.wants(&ALIGNMENTS) {
            return Ok(Err(NOT_WANTED.to_string()));
        }
        let compute = || -> Result<(Captions, TextLayers)> {
            let captions = Captions::read(evaluator, options.images, options.neighbours + 2)?;
            let bar = progress.bar(&format!("reading captions with {}", evaluator.config.llm), captions.len() as u64);
            let device = evaluator.devices.get(0);
            let layers = TextLayers::compute(&captions, &evaluator.llm.dir, options.neighbours, &device, &bar)?;
            Ok((captions, layers))
        };
        let text = attempt(compute())?;
        if let Ok((captions, _)) = &text {
            notes.push(format!(
                "Alignment: {} images of the align stage with their captions; features averaged over tokens, clamped \
                 at the mean 95 % quantile and scaled to norm 1; best pair of layers.",
                captions.len()
            ));
        }
        Ok(text)
    }

    /// Image tokens of the reference arms, or why there are none.
    fn reference_tokens(
        &self,
        arms: &[Option<ArmNetworks>],
        progress: &Progress,
    ) -> Result<std::result::Result<Vec<(String, ProjectedTokens)>, String>> {
        let chosen = references(self.study, &self.options.references, arms);
        if chosen.is_empty() {
            return Ok(
                Err("the study has no arm of a CLIP encoder as reference: --reference ARM names another".into()),
            );
        }
        let bar = progress.bar("image tokens of the reference", 0);
        let mut tokens = Vec::new();
        for arm in chosen {
            let networks = self.study.arms.iter().zip(arms).find(|(a, _)| a.name() == arm.name());
            let Some((_, Some(networks))) = networks else {
                return Ok(Err(format!("the encoders of the reference {} are not on this machine", arm.name())));
            };
            match attempt(self.tokens(arm, networks))? {
                Ok(t) => tokens.push((arm.name(), t)),
                Err(reason) => return Ok(Err(format!("the reference {}: {reason}", arm.name()))),
            }
        }
        drop(bar);
        Ok(Ok(tokens))
    }

    /// Image tokens of an arm after the aligned connector of its first run that has one.
    fn tokens(&self, arm: &Arm, networks: &ArmNetworks) -> Result<ProjectedTokens> {
        let images = benchmark_images(self.evaluator);
        let stores = self.study.seeds.iter().map(|seed| RunStore::at(&run_dir(self.dir, &arm.name(), *seed)));
        let run = stores.into_iter().find(|run| run.has_aligned(&|_| ()).unwrap_or(false));
        let run = run.ok_or_else(|| Error::failed("no run of this arm has finished the align stage"))?;
        let device = self.evaluator.devices.get(0);
        ProjectedTokens::compute(self.evaluator, arm, networks.features()?, &run, &images, &device)
    }

    /// Computes the predictors of one arm.
    #[allow(clippy::too_many_arguments)]
    fn of_arm(
        &self,
        arm: &Arm,
        networks: &ArmNetworks,
        text: &std::result::Result<(Captions, TextLayers), String>,
        references: &std::result::Result<Vec<(String, ProjectedTokens)>, String>,
        values: &mut ArmValues,
        notes: &mut Vec<String>,
        progress: &Progress,
    ) -> Result<()> {
        let name = arm.name();
        let mut put = |id: &str, value: ArmValue| drop(values.insert(id.to_string(), value));
        if self.wants(&PROBES) {
            let probed = match &self.inputs.labels {
                Ok(labels) => {
                    let bar = progress.bar(&format!("probing {name}"), labels.len() as u64);
                    let choice = ProbeChoice {
                        vectors: self.wants(&["knn", "linear", "linear-patch"]),
                        attentive: self.wants(&["attentive"]),
                    };
                    attempt(probe_arm(networks, labels, choice, &bar))?
                }
                Err(reason) => Err(reason.clone()),
            };
            let values = match probed {
                Ok(p) => [p.knn, p.linear, p.attentive, p.linear_patch],
                Err(reason) => PROBES.map(|_| ArmValue::missing(reason.clone())),
            };
            PROBES.into_iter().zip(values).for_each(|(id, value)| put(id, value));
        }
        if self.wants(&["c-score"]) {
            let value = match &self.inputs.pairs {
                Ok(pairs) => {
                    let bar = progress.bar(&format!("corresponding points of {name}"), 2 * pairs.len() as u64);
                    attempt(c_score(networks, pairs, &bar))?
                }
                Err(reason) => Err(reason.clone()),
            };
            put("c-score", value.unwrap_or_else(ArmValue::missing));
        }
        if self.wants(&ALIGNMENTS) {
            let aligned = match text {
                Ok((captions, text)) => {
                    let bar = progress.bar(&format!("layers of {name}"), captions.len() as u64);
                    let neighbours = self.options.neighbours;
                    attempt(align(networks, captions, text, self.evaluator, neighbours, &bar))?
                }
                Err(reason) => Err(reason.clone()),
            };
            let values = match aligned {
                Ok(aligned) => {
                    notes.extend(aligned.note.map(|note| format!("Alignment of {name}: {note}.")));
                    aligned.values
                }
                Err(reason) => ALIGNMENTS.map(|_| ArmValue::missing(reason.clone())),
            };
            ALIGNMENTS.into_iter().zip(values).for_each(|(id, value)| put(id, value));
        }
        if self.wants(&SPREADS) {
            let values = match attempt(self.spread(networks))? {
                Ok(values) => values.map(|value| ArmValue::known(value, "")),
                Err(reason) => SPREADS.map(|_| ArmValue::missing(reason.clone())),
            };
            SPREADS.into_iter().zip(values).for_each(|(id, value)| put(id, value));
        }
        if self.wants(&["parameters"]) {
            let value = match attempt(parameters(networks))? {
                Ok(millions) => ArmValue::known(millions, ""),
                Err(reason) => ArmValue::missing(reason),
            };
            put("parameters", value);
        }
        if self.wants(&["a-score"]) {
            let value = match references {
                Ok(references) => {
                    let own = attempt(self.tokens(arm, networks))?;
                    own.map_or_else(ArmValue::missing, |own| mean_a_score(&own, references))
                }
                Err(reason) => ArmValue::missing(reason.clone()),
            };
            put("a-score", value);
        }
        if self.wants(&[ALIGN_LOSS]) {
            let mut losses = AlignLosses::read(self.dir, arm, &self.study.seeds);
            let mut failed = None;
            if let (true, Some(most)) = (self.options.train_align, self.steps.last()) {
                let bar = progress.bar(&format!("{name}: align"), 0);
                let encoders = networks.features()?;
                let trained = losses.complete(self.evaluator, arm, encoders, &self.study.seeds, *most, &bar);
                failed = attempt(trained)?.err();
            }
            for n in self.steps {
                let value = match (losses.at(*n), &failed) {
                    (ArmValue::Missing { .. }, Some(reason)) => ArmValue::missing(reason.clone()),
                    (value, _) => value,
                };
                put(&format!("{ALIGN_LOSS}@{n}"), value);
            }
            if self.steps.is_empty() {
                put(ALIGN_LOSS, ArmValue::missing("the study has no align stage"));
            }
        }
        if networks.is_cached() {
            progress.line(&format!("{name}: the features of the study's images are those of the cache"));
        }
        Ok(())
    }

    /// Effective rank, mean and standard deviation of the patch features of the study's first images.
    fn spread(&self, networks: &ArmNetworks) -> Result<[f64; 3]> {
        let images: Vec<usize> = (0..self.evaluator.images.len().min(self.options.images)).collect();
        let features = networks.of_study(&images)?;
        let vectors = features.values.len() / features.width.max(1);
        let every = vectors.div_ceil(SPREAD_VECTORS).max(1);
        let mut sums = SpreadSums::new(features.width);
        for vector in features.values.chunks_exact(features.width.max(1)).step_by(every) {
            sums.add(vector)?;
        }
        let spread = sums.spread()?;
        Ok([spread.effective_rank, spread.mean, spread.std])
    }
}

/// Number of parameters of an arm's encoders, in millions.
fn parameters(networks: &ArmNetworks) -> Result<f64> {
    use burn::module::Module;
    let all: usize = networks.networks()?.iter().map(|network| network.arch.num_params()).sum();
    Ok(all as f64 / 1e6)
}

/// Turns a failure into the reason of a missing value; a signal to stop stays an error.
fn attempt<T>(outcome: Result<T>) -> Result<std::result::Result<T, String>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(e) if e.kind() == ErrorKind::Interrupted => Err(e),
        Err(e) => Ok(Err(sentence(&e))),
    }
}

/// The whole chain of an error, as the reason of a missing value.
fn sentence(e: &Error) -> String {
    e.chain().join(": ")
}
