//! A study: arms × seeds × benchmarks under one evaluator, read from a TOML file.
//!
//! The built-in studies are the files in `experiments/studies/`.

use crate::data::published::Published;
use crate::features::frozen::Kept;
use crate::run::evaluation::Terms;
use crate::run::evidence;
pub use crate::study::arm::{Arm, ArmEncoder, Freeze, Weights};
use crate::study::{names, paths};
use burgess_base::{Context, Error, Result, nearest};
use burgess_encoders::preprocess::{Pipeline, Preparation};
use burgess_field::FieldSpec;
use burgess_probe::bench::{self, Rules};
use burgess_probe::connector::ConnectorKind;
use burgess_probe::generate::Sampling;
use burgess_probe::recipe::Recipe;
use burgess_reports::check::Claims;
use burgess_reports::validity::ProbePair;
use burgess_world::dataset::WorldSpec;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name and text of every built-in study.
pub const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/studies.rs"));

/// A study, as its TOML file describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Name of the study and of its output directory.
    pub name: String,
    /// Title of the report, one line.
    pub title: String,
    /// The question that the study answers, in one or two sentences.
    pub question: String,
    /// Random seeds; every arm is run once per seed.
    pub seeds: Vec<u64>,
    /// The arms that the study compares.
    pub arms: Vec<Arm>,
    /// The evaluator, which is the same for all arms.
    pub evaluator: Evaluator,
    /// Claims of the study about its evaluator, which `burgess rank --check` compares with the measurements.
    #[serde(default, rename = "check", skip_serializing_if = "Claims::is_empty")]
    pub claims: Claims,
    /// Pairs of a direct probe and questions about the same attribute, for the validity analysis of the report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validity: Vec<ProbePair>,
}

/// Everything that all arms of a study share: language model, connector, recipe, data and benchmarks. Runs under
/// different evaluators are never ranked together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluator {
    /// Language model: a name of `probe/zoo`, or a directory in Hugging Face layout. A leading `{field}/` stands for
    /// the directory that `burgess data field` prepared.
    pub llm: String,
    /// Chat template by name: `vicuna_v1`, `llama_3`, `chatml_direct` or `phi3` of the paper. Default: the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// System message that replaces the template's own; `""` for an empty one. Default: the template's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Connector, which maps patch features to embeddings of the language model.
    pub connector: ConnectorKind,
    /// Preprocessing of images: `correct` (default) pads them to a square, `cambrian-1` repeats the deviations of the
    /// paper's code, and `library` does what each encoder's own library does with images that are not square (crops or
    /// distorts them).
    #[serde(default, skip_serializing_if = "is_correct")]
    pub preprocess: Pipeline,
    /// Whether images are rotated by the orientation in their EXIF data, as by `load_image` of transformers. Default
    /// `false`: pixels are used as stored, as by Pillow's `open`, timm, open_clip and the paper.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exif_orientation: bool,
    /// Benchmarks by id. A study needs at least one; `burgess train` takes none.
    #[serde(default)]
    pub benchmarks: Vec<String>,
    /// Largest number of units (images, or pairs scored together) of each benchmark. They are drawn with a fixed seed,
    /// stratified by subtask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Scoring rules: `official` (default) are those of the benchmark's authors, or the strict ones if there are none;
    /// `strict`, for benchmarks that have strict rules; `cambrian-1`, those of the paper's code, for comparison with
    /// the published scores; `lmms-eval`, those of that harness (0.7.3). Results name the rules that were applied.
    #[serde(default, skip_serializing_if = "is_official")]
    pub scoring: Rules,
    /// Whose prompts are used, with the same values as `scoring`.
    #[serde(default, skip_serializing_if = "is_official")]
    pub prompts: Rules,
    /// Feature source of frozen encoders: `cached` on disk (default), or `computed` each time an image is used.
    #[serde(default, skip_serializing_if = "is_cached")]
    pub features: Kept,
    /// What replaces the image for the blind baseline. Default `omitted`: a text-only prompt.
    #[serde(default, skip_serializing_if = "is_omitted")]
    pub blind: Blind,
    /// Whether options of multiple-choice and yes/no questions are scored by log-likelihood, beside generated answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub likelihoods: bool,
    /// Sampling of generated answers; greedy decoding if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Fraction of the align and tune conversations that is used, above 0 and at most 1, drawn with a fixed seed so
    /// that smaller fractions are subsets of larger ones. All are used if absent. `burgess rank --learning-curve` sets
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Source of images and questions.
    pub data: Data,
    /// Training recipe: the align and tune stages.
    pub recipe: Recipe,
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_correct(pipeline: &Pipeline) -> bool {
    *pipeline == Pipeline::Correct
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_official(rules: &Rules) -> bool {
    *rules == Rules::Official
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_cached(kept: &Kept) -> bool {
    *kept == Kept::Cached
}

/// What replaces the image in the blind baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blind {
    /// No image: the prompt is text only.
    #[default]
    Omitted,
    /// A uniform grey image.
    Grey,
}

impl Blind {
    /// The name in TOML files: `omitted` or `grey`.
    pub fn as_str(self) -> &'static str {
        match self {
            Blind::Omitted => "omitted",
            Blind::Grey => "grey",
        }
    }
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_omitted(blind: &Blind) -> bool {
    *blind == Blind::Omitted
}

/// The source of training data and benchmarks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Data {
    /// The nano world, rendered on this machine from a seed.
    World(WorldSpec),
    /// Images composed from real stamps and photographs, as `burgess data field` prepares them.
    Field(FieldSpec),
    /// A directory with `align.jsonl`, `tune.jsonl` (or `.json`, also with `.gz` or `.zst`) and `bench/`.
    Directory(PathBuf),
    /// Conversations and images in any place; without benchmarks.
    Files(Files),
    /// The data of a published study, by their names on the hub.
    Published(Published),
}

/// Training data in LLaVA's format, as separate paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// File of the align stage's conversations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<PathBuf>,
    /// File of the tune stage's conversations.
    pub tune: PathBuf,
    /// Directory to which the image names in the conversations are relative.
    #[serde(alias = "pictures")]
    pub images: PathBuf,
}

impl Evaluator {
    /// Returns how the images of all encoders are preprocessed.
    pub fn preparation(&self) -> Preparation {
        Preparation { pipeline: self.preprocess, upright: self.exif_orientation }
    }

    /// Returns how questions are asked and answers scored.
    pub fn terms(&self) -> Terms {
        Terms {
            scoring: self.scoring,
            prompts: self.prompts,
            limit: self.limit,
            blind: self.blind,
            likelihoods: self.likelihoods,
            sampling: self.sampling,
        }
    }
}

impl Evaluator {
    /// Checks what needs neither data nor weights: limits, sizes, sampling and recipe.
    pub fn check(&self) -> Result<()> {
        if let Some(sampling) = &self.sampling {
            sampling.check().map_err(|e| e.context("[evaluator.sampling]"))?;
        }
        if self.limit == Some(0) {
            return Err(Error::usage("limit = 0 leaves no questions").hint("leave `limit` out to ask all of them"));
        }
        if let Some(share) = self.share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err(Error::usage(format!("`share` = {share} must be above 0 and at most 1"))
                .hint("leave `share` out to use all conversations"));
        }
        let sizes = match &self.data {
            Data::World(WorldSpec { align, tune, turns, per_benchmark, .. })
            | Data::Field(FieldSpec { align, tune, turns, per_benchmark, .. }) => {
                // `burgess train` also accepts a world without an align stage or without questions.
                let align = self.recipe.align.as_ref().map_or(1, |_| *align);
                let asked = if self.benchmarks.is_empty() { 1 } else { *per_benchmark };
                [("align", align), ("tune", *tune), ("turns", *turns), ("per_benchmark", asked)]
            }
            Data::Published(data) => {
                let least = |c: &crate::data::published::Corpus| c.per_source.unwrap_or(1);
                [("align", data.align.as_ref().map_or(1, least)), ("per_source", least(&data.tune)), ("", 1), ("", 1)]
            }
            Data::Directory(_) | Data::Files(_) => [("", 1); 4],
        };
        if let Some((key, _)) = sizes.iter().find(|(_, n)| *n == 0) {
            return Err(Error::usage(format!("[evaluator.data]: `{key}` = 0 leaves no data"))
                .hint("give a number of at least 1"));
        }
        self.recipe.check().map_err(|e| e.context("[evaluator.recipe]").hint(RECIPE_HINT))
    }
}

/// Hint that names complete example recipes.
const RECIPE_HINT: &str = "`burgess train --help` shows a complete recipe, `burgess rank nano --dry-run` another";

impl Study {
    /// Opens a built-in study by name, or a TOML file by path.
    pub fn open(name_or_path: &str) -> Result<Self> {
        Self::open_with(name_or_path, true)
    }

    /// As [`Study::open`], but does not require the data to exist: for commands that fetch what a study needs.
    pub fn open_without_data(name_or_path: &str) -> Result<Self> {
        Self::open_with(name_or_path, false)
    }

    fn open_with(name_or_path: &str, data: bool) -> Result<Self> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(text).context(format!("reading the built-in study {name}"));
        }
        let path = Path::new(name_or_path);
        let looks_like_path = name_or_path.ends_with(".toml") || name_or_path.contains(['/', '\\']);
        if !looks_like_path && !path.is_file() {
            let names = BUILT_IN.iter().map(|(n, _)| *n);
            let near = nearest(name_or_path, names.clone());
            let list: Vec<&str> = names.collect();
            return Err(Error::usage(format!("there is no study called `{name_or_path}`")).hint(match near.first() {
                Some(n) => {
                    format!("did you mean `{n}`? Built in: {}; or give the path of a TOML file", list.join(", "))
                }
                None => format!("built in: {}; or give the path of a TOML file", list.join(", ")),
            }));
        }
        let step = || format!("reading study {}", path.display());
        let mut study: Self = read_toml(path, STUDY_HINT).with_context(step)?;
        let folder = paths::folder(path);
        if data {
            paths::evaluator(folder.as_deref(), &mut study.evaluator).with_context(step)?;
        }
        let mut encoders = study.arms.iter_mut().flat_map(|arm| &mut arm.encoders);
        encoders.try_for_each(|encoder| paths::encoder(folder.as_deref(), encoder)).with_context(step)?;
        study.check().with_context(step)?;
        Ok(study)
    }

    /// Parses and checks the text of a study. Errors name line, column and key.
    pub fn parse(text: &str) -> Result<Self> {
        let study: Self = parse_toml(text, STUDY_HINT)?;
        study.check()?;
        Ok(study)
    }

    /// Checks what TOML cannot express: ids exist, names are valid, no arm, seed or benchmark is listed twice.
    pub fn check(&self) -> Result<()> {
        names::check(&self.name)?;
        if self.arms.is_empty() {
            return Err(Error::usage("the study has no arms").hint("add [[arms]] with encoders = [\"…\"]"));
        }
        if self.seeds.is_empty() {
            return Err(Error::usage("the study has no seeds").hint("seeds = [0]"));
        }
        self.arms.iter().try_for_each(Arm::check)?;
        let arms: Vec<String> = self.arms.iter().map(Arm::name).collect();
        names::check_distinct(arms.iter().map(String::as_str))?;
        for (i, arm) in self.arms.iter().enumerate() {
            let same = |other: &&Arm| {
                Arm { called: None, published: None, ..(**other).clone() }
                    == Arm { called: None, published: None, ..arm.clone() }
            };
            if let Some(other) = self.arms.iter().take(i).find(same) {
                return Err(Error::usage(format!("the arms {} and {} are the same", other.name(), arm.name()))
                    .hint("leave one out: a second run of the same arm is another seed"));
            }
        }
        if let Some(seed) = twice(&self.seeds) {
            return Err(Error::usage(format!("the seed {seed} is listed twice")).hint("seeds = [0, 1, 2]"));
        }
        if self.evaluator.benchmarks.is_empty() {
            return Err(Error::usage("the study has no benchmarks")
                .hint("benchmarks = [\"…\"] in [evaluator]; `burgess prompts` lists them"));
        }
        check_benchmarks(&self.evaluator.benchmarks)?;
        for id in &self.evaluator.benchmarks {
            bench::find(id)?.rules(self.evaluator.scoring).map_err(|e| e.context("evaluator.scoring"))?;
            bench::find(id)?.rules(self.evaluator.prompts).map_err(|e| e.context("evaluator.prompts"))?;
            if let Some(server) = bench::find(id)?.server() {
                return Err(Error::usage(format!(
                    "{id} cannot rank: its right answers are secret, {server} scores it"
                ))
                .hint("`burgess eval` asks it and writes the file for the server"));
            }
        }
        evidence::check(self)?;
        self.evaluator.check()
    }
}

/// Checks that each benchmark exists and is listed once.
pub(crate) fn check_benchmarks(ids: &[String]) -> Result<()> {
    ids.iter().try_for_each(|id| bench::find(id).map(|_| ()))?;
    match twice(ids) {
        Some(id) => Err(Error::usage(format!("the benchmark {id} is listed twice")).hint("name it once")),
        None => Ok(()),
    }
}

fn twice<T: Ord>(items: &[T]) -> Option<&T> {
    let mut seen = std::collections::BTreeSet::new();
    items.iter().find(|item| !seen.insert(*item))
}

const STUDY_HINT: &str = "`burgess rank nano --dry-run` shows a complete study; experiments/studies/ has more";

/// Reads and parses a TOML file of a study or a run.
pub(crate) fn read_toml<T: serde::de::DeserializeOwned>(path: &Path, hint: &str) -> Result<T> {
    let hinted = |e: Error| e.hint("give the path of a TOML file; `burgess rank nano --dry-run` shows one");
    if path.is_dir() {
        return Err(hinted(Error::usage("it is a directory")));
    }
    let bytes = std::fs::read(path).map_err(|e| hinted(Error::usage(e.to_string())))?;
    let text = String::from_utf8(bytes).map_err(|_| hinted(Error::usage("it is not UTF-8 text")))?;
    parse_toml(text.strip_prefix('\u{feff}').unwrap_or(&text), hint)
}

fn parse_toml<T: serde::de::DeserializeOwned>(text: &str, hint: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| Error::usage(e.to_string().trim_end().to_string()).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_study_is_sound_and_named_after_its_file() -> Result<()> {
        for (name, text) in BUILT_IN {
            let study = Study::parse(text).context(*name)?;
            assert_eq!(study.name, name.replace('/', "-"));
            assert!(text.starts_with('#'), "{name} opens with its command, runtime and expected numbers");
        }
        Ok(())
    }

    #[test]
    fn malformed_studies_name_the_line_and_the_key() {
        let text = BUILT_IN
            .iter()
            .find(|(n, _)| *n == "nano")
            .map(|(_, t)| t.replacen("seeds", "sedes", 1))
            .unwrap_or_default();
        let e = Study::parse(&text).unwrap_err().to_string();
        assert!(e.contains("sedes") && e.contains("line"), "{e}");
        assert_eq!(Study::open("nono").unwrap_err().hint_text().map(|h| h.contains("`nano`")), Some(true));
        assert_eq!(Study::open("/no/such/study.toml").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_their_key() {
        let nano = BUILT_IN.iter().find(|(n, _)| *n == "nano").map_or("", |(_, t)| *t);
        let wrong = |from: &str, to: &str| {
            assert!(nano.contains(from), "{from}");
            let e = Study::parse(&nano.replacen(from, to, 1)).expect_err(to);
            assert!(e.exit_code() == 2 && e.hint_text().is_some(), "{to}: {e}");
            e.to_string()
        };
        let line = |key: &str| {
            let key = format!("{key} = ");
            nano.lines().find(|l| l.starts_with(&key)).unwrap_or_default().to_string()
        };
        for (from, to, key) in [
            (line("lr"), "lr = -4e-3", "`lr` is negative"),
            (line("lr"), "lr = nan", "`lr` is not a finite number"),
            (line("epochs"), "steps = 0", "`steps` = 0"),
            (line("epochs"), "steps = 1\nepochs = 1.0", "either `steps` or `epochs`"),
            (line("epochs"), "epochs = 0", "`epochs` = 0"),
            (line("batch"), "batch = 0", "`batch` = 0"),
            (line("per_benchmark"), "per_benchmark = 0", "`per_benchmark` = 0"),
            (line("tune"), "tune = 0", "`tune` = 0"),
            (line("name"), "name = \"..\"", "cannot name a directory"),
            (line("name"), "name = \"a/b\"", "cannot name a directory"),
            (line("seeds"), "seeds = [0, 1, 0]", "the seed 0 is listed twice"),
            (line("seeds"), "seeds = []", "no seeds"),
        ] {
            let e = wrong(&from, to);
            assert!(e.contains(key), "{to}: {e}");
        }
        let arms = |text: &str| format!("{text}\n[[arms]]");
        let e = wrong(
            "[[arms]]",
            &arms(
                "[[arms]]\nname = \"A\"\nencoders = [\"nano-sup\"]\n[[arms]]\nname = \"a\"\nencoders = [\"nano-mae\"]",
            ),
        );
        assert!(e.contains("upper and lower case"), "{e}");
        let e = wrong(
            "[[arms]]",
            &arms(
                "[[arms]]\nname = \"x\"\nencoders = [\"nano-mae\"]\n[[arms]]\nname = \"y\"\nencoders = [\"nano-mae\"]",
            ),
        );
        assert!(e.contains("the arms x and y are the same"), "{e}");
        assert!(check_benchmarks(&["mme".into(), "mme".into()]).is_err_and(|e| e.to_string().contains("twice")));
    }

    #[test]
    fn paths_of_a_study_file_are_relative_to_it() -> Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir_all(dir.path().join("data"))?;
        std::fs::create_dir_all(dir.path().join("vit"))?;
        let nano = BUILT_IN.iter().find(|(n, _)| *n == "nano").map_or("", |(_, t)| *t);
        let mut study = Study::parse(nano)?;
        study.evaluator.data = Data::Directory("data".into());
        study.arms = vec![Arm::new(vec![ArmEncoder::plain("vit")], Freeze::Frozen)];
        let text = toml::to_string(&study).map_err(|e| Error::failed(e.to_string()))?;
        let file = dir.path().join("mine.toml");
        std::fs::write(&file, format!("\u{feff}{text}"))?;
        let folder = dir.path().canonicalize()?;
        let read = Study::open(&file.display().to_string())?;
        assert_eq!(read.evaluator.data, Data::Directory(folder.join("data")));
        assert_eq!(
            (read.arms[0].encoders[0].source.clone(), read.arms[0].name()),
            (folder.join("vit").display().to_string(), "vit".into())
        );
        assert_eq!(read.evaluator.llm, study.evaluator.llm);
        std::fs::write(&file, text.replace("\"data\"", "\"away\""))?;
        let e = Study::open(&file.display().to_string()).unwrap_err();
        assert!(e.to_string().contains(&folder.join("away").display().to_string()), "{e}");
        assert!(Study::open(&dir.path().display().to_string()).is_err_and(|e| e.to_string().contains("directory")));
        Ok(())
    }

    #[test]
    fn rules_that_a_benchmark_does_not_have_are_refused() -> Result<()> {
        let nano = BUILT_IN.iter().find(|(name, _)| *name == "nano").map(|(_, text)| *text).unwrap_or_default();
        for key in ["scoring", "prompts"] {
            for rules in ["official", "strict", "cambrian-1"] {
                Study::parse(&nano.replacen("[evaluator]", &format!("[evaluator]\n{key} = \"{rules}\""), 1))
                    .context(rules)?;
            }
            let text = nano.replacen("[evaluator]", &format!("[evaluator]\n{key} = \"lmms-eval\""), 1);
            let error = Study::parse(&text).unwrap_err();
            let told = error.chain().join(": ");
            assert!(told.contains(&format!("evaluator.{key}")) && told.contains("no task of lmms-eval"), "{told}");
            assert_eq!(error.exit_code(), 2);
        }
        Ok(())
    }
}
