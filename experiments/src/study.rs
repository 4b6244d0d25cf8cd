//! A study: arms × seeds × benchmarks under one evaluator, as a TOML file says it.
//!
//! The built-in studies are the files of `experiments/studies/`.

pub use crate::arm::{Arm, ArmEncoder, Freeze, Weights};
use crate::asking::Terms;
use crate::frozen::Kept;
use crate::published::Published;
use burgess_base::{Context, Error, Result, nearest};
use burgess_encoders::preprocess::Pipeline;
use burgess_field::FieldSpec;
use burgess_probe::bench::{self, Rules};
use burgess_probe::connector::ConnectorKind;
use burgess_probe::generate::Sampling;
use burgess_probe::recipe::Recipe;
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
    /// How pictures are prepared: `correct`, or `cambrian-1` to repeat the study's quirks. Default `correct`.
    #[serde(default, skip_serializing_if = "is_correct")]
    pub preprocess: Pipeline,
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

/// A name that an output directory can have.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !name.is_empty() && name.chars().all(fine) {
        true => Ok(()),
        false => {
            Err(Error::usage(format!("name = {name:?} cannot name a directory")).hint("use letters, digits, - and _"))
        }
    }
}

impl Evaluator {
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

impl Study {
    /// A built-in study by name, or a TOML file by path.
    pub fn open(name_or_path: &str) -> Result<Self> {
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
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::usage(e.to_string()))
            .context(format!("reading study {}", path.display()))?;
        Self::parse(&text).context(format!("reading study {}", path.display()))
    }

    /// Reads and checks the text of a study. Errors name line, column and key.
    pub fn parse(text: &str) -> Result<Self> {
        let study: Study = toml::from_str(text).map_err(|e| {
            Error::usage(e.to_string().trim_end().to_string())
                .hint("`burgess rank nano --dry-run` shows a complete study; experiments/studies/ has more")
        })?;
        study.check()?;
        Ok(study)
    }

    /// What TOML cannot check: ids that exist, arms that are not listed twice.
    pub fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.arms.is_empty() {
            return Err(Error::usage("the study has no arms").hint("add [[arms]] with encoders = [\"…\"]"));
        }
        if self.seeds.is_empty() {
            return Err(Error::usage("the study has no seeds").hint("seeds = [0]"));
        }
        let mut seen = std::collections::BTreeSet::new();
        for arm in &self.arms {
            arm.check()?;
            if !seen.insert(arm.name()) {
                return Err(Error::usage(format!("the arm {} is listed twice", arm.name())));
            }
        }
        let seeds: std::collections::BTreeSet<_> = self.seeds.iter().collect();
        if seeds.len() != self.seeds.len() {
            return Err(Error::usage("a seed is listed twice"));
        }
        if self.evaluator.benchmarks.is_empty() {
            return Err(Error::usage("the study has no benchmarks"));
        }
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
        if let Some(sampling) = &self.evaluator.sampling {
            sampling.check().map_err(|e| e.context("[evaluator.sampling]"))?;
        }
        if self.evaluator.limit == Some(0) {
            return Err(Error::usage("limit = 0 leaves no questions"));
        }
        Ok(())
    }
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
