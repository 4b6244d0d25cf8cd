//! A study: arms × seeds × benchmarks under one evaluator, as a TOML file says it.
//!
//! The built-in studies are the files of `experiments/studies/`.

pub use crate::arm::{Arm, ArmEncoder, Freeze, Weights};
use crate::asking::Terms;
use crate::frozen::Kept;
use crate::published::Published;
use crate::{beside, evidence, names};
use burgess_base::{Context, Error, Result, nearest};
use burgess_encoders::preprocess::{Pipeline, Preparation};
use burgess_field::FieldSpec;
use burgess_probe::bench::{self, Rules};
use burgess_probe::connector::ConnectorKind;
use burgess_probe::generate::Sampling;
use burgess_probe::recipe::Recipe;
use burgess_reports::check::Claims;
use burgess_reports::validity::ProbePair;
use burgess_world::dataset::DatasetSpec;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name and text of every built-in study.
pub const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/studies.rs"));

/// A study as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Names the output directory.
    pub name: String,
    /// One line for the report's head.
    pub title: String,
    /// What the study asks, in a sentence or two.
    pub question: String,
    /// Random seeds; each is a run of every arm.
    pub seeds: Vec<u64>,
    /// What is compared.
    pub arms: Vec<Arm>,
    /// What it is measured with; the same for all arms.
    pub evaluator: Evaluator,
    /// What the study promises of its evaluator; `burgess rank --check` compares it with what was measured.
    #[serde(default, rename = "check", skip_serializing_if = "Claims::is_empty")]
    pub claims: Claims,
    /// Which questions ask for what direct probes of the encoders read, to lay their answers beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validity: Vec<ProbePair>,
}

/// The measuring instrument of a study: everything that all its arms share. Runs made under different
/// evaluators are never put into one ranking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluator {
    /// A language model of `probe/zoo`, or a directory in Hugging Face layout; `{field}/` stands for what `burgess data field`
    /// prepared.
    pub llm: String,
    /// Its chat template by name: `vicuna_v1`, `llama_3`, `chatml_direct` or `phi3` of the paper. Default: the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// Another system message than the template's own; `""` is the shortest. Default: the template's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Patch features → embeddings of the language model.
    pub connector: ConnectorKind,
    /// How pictures are prepared: `correct` (default) pads them to a square, `cambrian-1` repeats the study's quirks,
    /// `library` does what each encoder's own library does to pictures that are not square: crop or distort them.
    #[serde(default, skip_serializing_if = "is_correct")]
    pub preprocess: Pipeline,
    /// Pictures are turned upright as the orientation in their EXIF data says, as `load_image` of transformers does. Default
    /// `false`: they are taken as they are stored, as by Pillow's `open`, timm, open_clip and the study.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exif_orientation: bool,
    /// Benchmarks by id; a study has some, `burgess train` asks none.
    #[serde(default)]
    pub benchmarks: Vec<String>,
    /// At most this many units (images, or pairs scored together) of each benchmark, drawn by a fixed seed, of every subtask
    /// its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Whose rules judge the answers: `official` (default), those of the benchmarks' authors, or the strict ones where there
    /// are none; `strict`, for benchmarks that have these; `cambrian-1`, those of the study's code, to lay the numbers beside
    /// the published ones; `lmms-eval`, those of that harness (0.7.3). Results name the rules that were followed.
    #[serde(default, skip_serializing_if = "is_official")]
    pub scoring: Rules,
    /// Whose prompts ask the questions, likewise.
    #[serde(default, skip_serializing_if = "is_official")]
    pub prompts: Rules,
    /// What becomes of the features of frozen encoders: `cached` on disk (default), or `computed` whenever a picture is seen.
    #[serde(default, skip_serializing_if = "is_cached")]
    pub features: Kept,
    /// What the blind model is shown. Default `omitted`: as text-only data, no picture at all.
    #[serde(default, skip_serializing_if = "is_omitted")]
    pub blind: Blind,
    /// Weighs the possible answers of multiple-choice and yes/no questions too, beside generating one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub likelihoods: bool,
    /// Answers are drawn by this; absent = greedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Share of the align and tune conversations that is used, above 0 to 1, drawn by a fixed seed: a smaller share is part of a
    /// larger one. All are used if absent. `burgess rank --learning-curve` sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Where pictures and questions come from.
    pub data: Data,
    /// How the model is trained.
    pub recipe: Recipe,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_correct(pipeline: &Pipeline) -> bool {
    *pipeline == Pipeline::Correct
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_official(rules: &Rules) -> bool {
    *rules == Rules::Official
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_cached(kept: &Kept) -> bool {
    *kept == Kept::Cached
}

/// What stands in the place of the picture when the model is asked blind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blind {
    /// Nothing.
    #[default]
    Omitted,
    /// A grey picture.
    Grey,
}

impl Blind {
    /// `omitted` or `grey`.
    pub fn as_str(self) -> &'static str {
        match self {
            Blind::Omitted => "omitted",
            Blind::Grey => "grey",
        }
    }
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_omitted(blind: &Blind) -> bool {
    *blind == Blind::Omitted
}

/// Where training data and benchmarks come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Data {
    /// The nano world, rendered on this machine from a seed.
    World(DatasetSpec),
    /// Real stamps and photographs, as `burgess data field` prepares them.
    Field(FieldSpec),
    /// A directory with `align.jsonl`, `tune.jsonl` (or `.json`, also with `.gz` or `.zst`) and `bench/`.
    Directory(PathBuf),
    /// Conversations and pictures wherever they lie; no benchmarks.
    Files(Files),
    /// Those of a published study, by their names on the hub.
    Published(Published),
}

/// Training data in LLaVA's format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Conversations of the align stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<PathBuf>,
    /// Conversations of the tune stage.
    pub tune: PathBuf,
    /// The directory below which the conversations' pictures lie.
    pub pictures: PathBuf,
}

impl Evaluator {
    /// How the pictures of all encoders are prepared.
    pub fn preparation(&self) -> Preparation {
        Preparation { pipeline: self.preprocess, upright: self.exif_orientation }
    }

    /// How questions are asked and answers judged.
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
    /// What can be checked without reading data or weights.
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
            Data::World(DatasetSpec { align, tune, turns, per_benchmark, .. })
            | Data::Field(FieldSpec { align, tune, turns, per_benchmark, .. }) => {
                // `burgess train` reads the data of a world that has no align stage or no questions too.
                let align = self.recipe.align.as_ref().map_or(1, |_| *align);
                let asked = if self.benchmarks.is_empty() { 1 } else { *per_benchmark };
                [("align", align), ("tune", *tune), ("turns", *turns), ("per_benchmark", asked)]
            }
            Data::Published(data) => {
                let least = |c: &crate::published::Corpus| c.per_source.unwrap_or(1);
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

/// Where the keys of a stage are explained.
const RECIPE_HINT: &str = "`burgess train --help` shows a complete recipe, `burgess rank nano --dry-run` another";

impl Study {
    /// A built-in study by name, or a TOML file by path.
    pub fn open(name_or_path: &str) -> Result<Self> {
        Self::open_with(name_or_path, true)
    }

    /// As [`Study::open`], but the data need not be here: for who gets what a study needs.
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
        let folder = beside::folder(path);
        if data {
            beside::evaluator(folder.as_deref(), &mut study.evaluator).with_context(step)?;
        }
        let mut encoders = study.arms.iter_mut().flat_map(|arm| &mut arm.encoders);
        encoders.try_for_each(|encoder| beside::encoder(folder.as_deref(), encoder)).with_context(step)?;
        study.check().with_context(step)?;
        Ok(study)
    }

    /// Reads and checks the text of a study. Errors name line, column and key.
    pub fn parse(text: &str) -> Result<Self> {
        let study: Self = parse_toml(text, STUDY_HINT)?;
        study.check()?;
        Ok(study)
    }

    /// What TOML cannot check: ids that exist, arms that are not listed twice.
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

/// Checks that each benchmark is known and named once.
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

/// Reads a TOML file of a study or run.
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
