//! A study: arms × seeds × benchmarks under one evaluator, read from a TOML file.
//!
//! The built-in studies are the files in `experiments/studies/`.

use crate::study::arm::Arm;
use crate::study::data::DataSource;
use crate::study::evaluator::{EvaluatorConfig, check_benchmarks, duplicate};
use crate::study::toml_file::{parse_toml, read_toml};
use crate::study::{benchmark_files, claims, names, paths};
use burgess_base::{Context, Error, Result, nearest};
use burgess_probe::bench;
use burgess_reports::check::Claims;
use burgess_reports::series::ArmSeries;
use burgess_reports::validity::ProbePair;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name and text of every built-in study.
pub const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/studies.rs"));

/// A study, as its TOML file describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StudyConfig {
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
    pub evaluator: EvaluatorConfig,
    /// Claims of the study about its evaluator, which `burgess rank --check` compares with the measurements.
    #[serde(default, rename = "check", skip_serializing_if = "Claims::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub claims: Claims,
    /// Pairs of a direct probe and questions about the same attribute, for the validity analysis of the report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub validity: Vec<ProbePair>,
    /// Series of arms that differ in one thing, which the report shows as curves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(!skip_serializing_if)]
    pub series: Vec<ArmSeries>,
}

impl StudyConfig {
    /// Opens a built-in study by name, or a TOML file by path.
    pub fn open(name_or_path: &str) -> Result<Self> {
        Self::open_with(name_or_path, true)
    }

    /// As [`StudyConfig::open`], but does not require the data to exist: for commands that fetch what a study needs.
    pub fn open_without_data(name_or_path: &str) -> Result<Self> {
        Self::open_with(name_or_path, false)
    }

    /// Returns the TOML text of a built-in study.
    ///
    /// # Errors
    /// There is no such study; the hint lists those that exist.
    pub fn built_in(name: &str) -> Result<&'static str> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| *text).ok_or_else(|| {
            Error::usage(format!("there is no built-in study called `{name}`")).hint(built_in_names(name))
        })
    }

    fn open_with(name_or_path: &str, data: bool) -> Result<Self> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(text).context(format!("reading the built-in study {name}"));
        }
        let path = Path::new(name_or_path);
        let looks_like_path = name_or_path.ends_with(".toml") || name_or_path.contains(['/', '\\']);
        if !looks_like_path && !path.is_file() {
            let names = built_in_names(name_or_path);
            return Err(Error::usage(format!("there is no study called `{name_or_path}`"))
                .hint(format!("{names}; or give the path of a TOML file")));
        }
        let step = || format!("reading study {}", path.display());
        let mut study: Self = read_toml(path, STUDY_HINT).with_context(step)?;
        let folder = paths::folder(path);
        if data {
            study.evaluator.resolve_paths(folder.as_deref()).with_context(step)?;
        }
        let mut encoders = study.arms.iter_mut().flat_map(|arm| &mut arm.encoders);
        encoders.try_for_each(|encoder| encoder.resolve_path(folder.as_deref())).with_context(step)?;
        study.resolve_mixes(folder.as_deref()).with_context(step)?;
        let beside = folder.as_deref().unwrap_or(Path::new(""));
        study.resolve_benchmarks(Some(beside), data).with_context(step)?;
        study.check().with_context(step)?;
        Ok(study)
    }

    /// Parses and checks the text of a study. Errors name line, column and key.
    pub fn parse(text: &str) -> Result<Self> {
        let mut study: Self = parse_toml(text, STUDY_HINT)?;
        study.resolve_mixes(None)?;
        study.check()?;
        Ok(study)
    }

    /// Loads the benchmark files that the study names or that lie beside it, and checks that their questions exist.
    fn resolve_benchmarks(&mut self, folder: Option<&Path>, data: bool) -> Result<()> {
        let ids = &mut self.evaluator.benchmarks;
        benchmark_files::resolve(ids, folder).map_err(|e| e.context("[evaluator]: `benchmarks`"))?;
        for id in ids.iter().filter(|_| data) {
            benchmark_files::own_data(bench::find(id)?)?;
        }
        Ok(())
    }

    /// Reads the mixes that arms name.
    fn resolve_mixes(&mut self, folder: Option<&Path>) -> Result<()> {
        self.arms.iter_mut().try_for_each(|arm| {
            let name = arm.name();
            let read = arm.mix.iter_mut().try_for_each(|mix| mix.resolve(folder));
            read.map_err(|e| e.context(format!("[[arms]] {name}: `mix`")))
        })
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
                Arm { label: None, published: None, ..(**other).clone() }
                    == Arm { label: None, published: None, ..arm.clone() }
            };
            if let Some(other) = self.arms.iter().take(i).find(same) {
                return Err(Error::usage(format!("the arms {} and {} are the same", other.name(), arm.name()))
                    .hint("leave one out; to repeat an arm, add a seed"));
            }
        }
        if let Some(seed) = duplicate(&self.seeds) {
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
                    "{id} cannot be used in a study: its right answers are not published, {server} scores it"
                ))
                .hint("`burgess eval` writes the submission file for the server"));
            }
        }
        self.check_mixes()?;
        self.series.iter().try_for_each(|series| series.check(&arms))?;
        claims::check(&self.claims, &self.validity, &self.evaluator.benchmarks)?;
        self.evaluator.check()
    }

    /// Checks that the data leave the choice of conversations to the arms, if arms have mixes.
    fn check_mixes(&self) -> Result<()> {
        let Some(arm) = self.arms.iter().find(|arm| arm.mix.is_some()) else { return Ok(()) };
        match &self.evaluator.data {
            DataSource::Published(data) if data.tune.per_source.is_some() => Err(Error::usage(format!(
                "[evaluator.data.published.tune]: `per_source` and the mix of the arm {} both limit the sources",
                arm.name()
            ))
            .hint("leave out `per_source`, and give every arm a mix with a threshold")),
            _ => Ok(()),
        }
    }

    /// Lists the runs: every arm with every seed. All arms of the first seed come first, so that a ranking of all arms
    /// exists as early as possible.
    pub fn runs(&self) -> Vec<(Arm, u64)> {
        self.seeds.iter().flat_map(|seed| self.arms.iter().map(|arm| (arm.clone(), *seed))).collect()
    }
}

/// Names of the built-in studies for a hint, the one nearest to `name` first.
fn built_in_names(name: &str) -> String {
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    match nearest(name, names.iter().copied()).first() {
        Some(near) => format!("did you mean `{near}`? Built in: {}", names.join(", ")),
        None => format!("built in: {}", names.join(", ")),
    }
}

/// Hint that names complete example studies.
const STUDY_HINT: &str = "`burgess rank nano --dry-run` shows a complete study; experiments/studies/ has more";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::arm::Freeze;
    use crate::study::encoder::ArmEncoder;

    #[test]
    fn every_built_in_study_is_sound_and_named_after_its_file() -> Result<()> {
        for (name, text) in BUILT_IN {
            let study = StudyConfig::parse(text).context(*name)?;
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
        let e = StudyConfig::parse(&text).unwrap_err().to_string();
        assert!(e.contains("sedes") && e.contains("line"), "{e}");
        assert_eq!(StudyConfig::open("nono").unwrap_err().hint_text().map(|h| h.contains("`nano`")), Some(true));
        assert_eq!(StudyConfig::open("/no/such/study.toml").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_their_key() {
        let nano = BUILT_IN.iter().find(|(n, _)| *n == "nano").map_or("", |(_, t)| *t);
        let wrong = |from: &str, to: &str| {
            assert!(nano.contains(from), "{from}");
            let e = StudyConfig::parse(&nano.replacen(from, to, 1)).expect_err(to);
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
        let mut study = StudyConfig::parse(nano)?;
        study.evaluator.data = DataSource::Directory("data".into());
        study.arms = vec![Arm::new(vec![ArmEncoder::plain("vit")], Freeze::Frozen)];
        let text = toml::to_string(&study).map_err(|e| Error::failed(e.to_string()))?;
        let file = dir.path().join("mine.toml");
        std::fs::write(&file, format!("\u{feff}{text}"))?;
        let folder = dir.path().canonicalize()?;
        let read = StudyConfig::open(&file.display().to_string())?;
        assert_eq!(read.evaluator.data, DataSource::Directory(folder.join("data")));
        assert_eq!(
            (read.arms[0].encoders[0].source.clone(), read.arms[0].name()),
            (folder.join("vit").display().to_string(), "vit".into())
        );
        assert_eq!(read.evaluator.llm, study.evaluator.llm);
        std::fs::write(&file, text.replace("\"data\"", "\"away\""))?;
        let e = StudyConfig::open(&file.display().to_string()).unwrap_err();
        assert!(e.to_string().contains(&folder.join("away").display().to_string()), "{e}");
        assert!(
            StudyConfig::open(&dir.path().display().to_string()).is_err_and(|e| e.to_string().contains("directory"))
        );
        Ok(())
    }

    #[test]
    fn rules_that_a_benchmark_does_not_have_are_refused() -> Result<()> {
        let nano = BUILT_IN.iter().find(|(name, _)| *name == "nano").map(|(_, text)| *text).unwrap_or_default();
        for key in ["scoring", "prompts"] {
            for rules in ["official", "strict", "cambrian-1"] {
                StudyConfig::parse(&nano.replacen("[evaluator]", &format!("[evaluator]\n{key} = \"{rules}\""), 1))
                    .context(rules)?;
            }
            let text = nano.replacen("[evaluator]", &format!("[evaluator]\n{key} = \"lmms-eval\""), 1);
            let error = StudyConfig::parse(&text).unwrap_err();
            let told = error.chain().join(": ");
            assert!(told.contains(&format!("evaluator.{key}")) && told.contains("not a task of lmms-eval"), "{told}");
            assert_eq!(error.exit_code(), 2);
        }
        Ok(())
    }
}
