//! The two sides of a comparison: studies, arms, single runs, or files of scored answers.

use crate::load::{RunData, StudyData, UnreadableLine, seed_of};
use crate::schema::{MissingRun, RunResults, Sample};
use burgess_base::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One side of a comparison.
#[derive(Debug, Clone)]
pub struct ComparedSide {
    /// Name in tables.
    pub name: String,
    /// Path as it was given.
    pub source: String,
    /// The arms with finished runs.
    pub arms: Vec<ComparedArm>,
    /// Whether the side is a whole study, whose arms are paired by name.
    pub is_study: bool,
    /// Failed and unfinished runs.
    pub missing: Vec<MissingRun>,
    /// Canonical paths of the runs or the file, to recognise the same one on both sides.
    identities: BTreeSet<PathBuf>,
}

/// An arm with its runs.
#[derive(Debug, Clone)]
pub struct ComparedArm {
    /// Name of the arm or of the evaluated model.
    pub name: String,
    /// The runs, by seed.
    pub runs: Vec<ComparedRun>,
    /// What was left out when the answers were read, as sentences.
    pub notes: Vec<String>,
}

/// One run with its results and answers.
#[derive(Debug, Clone)]
pub struct ComparedRun {
    /// Results of the run.
    pub results: RunResults,
    /// Whether the questions were also asked without the image.
    pub has_blind: bool,
    answers: AnswerSource,
}

#[derive(Debug, Clone)]
enum AnswerSource {
    Stored(Box<RunData>),
    Given(BTreeMap<String, Vec<Sample>>),
}

/// Scored answers that were not made by a run, such as those of another harness.
#[derive(Debug, Clone)]
pub struct GivenAnswers {
    /// Results with the units of every benchmark.
    pub results: RunResults,
    /// The answers, by benchmark.
    pub samples: BTreeMap<String, Vec<Sample>>,
    /// Whether the blind scores of units and answers are real.
    pub has_blind: bool,
    /// What was left out when the answers were read, as sentences.
    pub notes: Vec<String>,
}

impl ComparedSide {
    /// Opens the directory of a study, of an arm or of a run, or the `results.json` of a run.
    ///
    /// # Errors
    /// The path is none of these, or none of its runs is finished.
    pub fn open(path: &Path) -> Result<Self> {
        let dir = match path.file_name().is_some_and(|n| n == "results.json") && path.is_file() {
            true => path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            false => path,
        };
        let (data, is_study) = match DirectoryKind::of(dir)? {
            DirectoryKind::Study => (StudyData::load(dir)?, true),
            DirectoryKind::Arm => (StudyData::load_arm(dir)?, false),
            DirectoryKind::Run => (StudyData::load_single(dir)?, false),
        };
        if data.runs.is_empty() {
            let causes: Vec<String> =
                data.missing.iter().take(5).map(|m| format!("{} seed {}: {}", m.arm, m.seed, m.cause)).collect();
            let hint = data.missing.iter().find_map(|m| m.hint.clone());
            return Err(Error::failed(format!("no run in {} is finished: {}", path.display(), causes.join("; ")))
                .hint(hint.unwrap_or_else(|| "run the study first".into())));
        }
        let mut arms: Vec<ComparedArm> = Vec::new();
        let mut identities = BTreeSet::new();
        for run in data.runs {
            identities.insert(canonical(&run.dir));
            let name = run.results.run.arm.clone();
            let run = ComparedRun {
                results: run.results.clone(),
                has_blind: true,
                answers: AnswerSource::Stored(Box::new(run)),
            };
            match arms.iter_mut().find(|arm| arm.name == name) {
                Some(arm) => arm.runs.push(run),
                None => arms.push(ComparedArm { name, runs: vec![run], notes: Vec::new() }),
            }
        }
        let source = path.display().to_string();
        Ok(Self { name: last_name(dir), source, arms, is_study, missing: data.missing, identities })
    }

    /// Makes a side of scored answers from a file, one for each seed.
    pub fn of_answers(name: &str, file: &Path, seeds: Vec<GivenAnswers>) -> Self {
        let mut arm = ComparedArm { name: name.to_string(), runs: Vec::new(), notes: Vec::new() };
        for GivenAnswers { results, samples, has_blind, notes } in seeds {
            arm.runs.push(ComparedRun { results, has_blind, answers: AnswerSource::Given(samples) });
            arm.notes.extend(notes);
        }
        Self {
            name: name.to_string(),
            source: file.display().to_string(),
            arms: vec![arm],
            is_study: false,
            missing: Vec::new(),
            identities: BTreeSet::from([canonical(file)]),
        }
    }

    /// Names of the arms, for messages.
    fn arm_names(&self) -> String {
        self.arms.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl ComparedRun {
    /// Reads the answers to one benchmark; empty if there are none.
    ///
    /// # Errors
    /// A file cannot be read. Lines that cannot be read are returned.
    pub(super) fn answers(&self, benchmark: &str) -> Result<(Vec<Sample>, Vec<UnreadableLine>)> {
        match &self.answers {
            AnswerSource::Stored(run) => run.read_samples(benchmark),
            AnswerSource::Given(samples) => Ok((samples.get(benchmark).cloned().unwrap_or_default(), Vec::new())),
        }
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

fn last_name(path: &Path) -> String {
    canonical(path).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What a directory of results is.
enum DirectoryKind {
    Study,
    Arm,
    Run,
}

impl DirectoryKind {
    fn of(dir: &Path) -> Result<Self> {
        const HINT: &str = "give a study (runs/nano), an arm (runs/nano/nano-siglip), a run \
            (runs/nano/nano-siglip/seed-0), an evaluated model (runs/eval/cambrian-8b) or a file of answers";
        if !dir.exists() {
            return Err(Error::usage(format!("{} does not exist", dir.display())).hint(HINT));
        }
        if !dir.is_dir() {
            return Err(Error::usage(format!("{} is not a directory of results", dir.display())).hint(HINT));
        }
        if dir.join("results.json").is_file() || is_seed(dir) {
            return Ok(Self::Run);
        }
        let children = |dir: &Path| -> Result<Vec<PathBuf>> {
            let step = |e: std::io::Error| Error::from(e).context(format!("reading {}", dir.display()));
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(dir).map_err(step)? {
                paths.push(entry.map_err(step)?.path());
            }
            Ok(paths.into_iter().filter(|p| p.is_dir()).collect())
        };
        let below = children(dir)?;
        if below.iter().any(|p| is_seed(p)) {
            return Ok(Self::Arm);
        }
        for child in &below {
            // A directory that cannot be read is reported when the study is loaded.
            if children(child).unwrap_or_default().iter().any(|p| is_seed(p)) {
                return Ok(Self::Study);
            }
        }
        let error = Error::usage(format!(
            "{} is neither a study, an arm nor a run: there is no results.json and no seed-<n> in it",
            dir.display()
        ));
        Err(match dir.file_name().is_some_and(|n| n == "model") {
            true => error.hint("this is the directory of a model: give the run above it, or evaluate it first"),
            false => error.hint(HINT),
        })
    }
}

/// Whether a directory is that of a run, `seed-<n>`.
fn is_seed(dir: &Path) -> bool {
    seed_of(&last_name(dir)).is_some()
}

/// Returns a name for each side: the last parts of their paths, as many as it takes to tell them apart.
pub(super) fn distinct_names(a: &ComparedSide, b: &ComparedSide) -> [String; 2] {
    let parts = |side: &ComparedSide| -> Vec<String> {
        let path = canonical(Path::new(&side.source));
        path.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let (x, y) = (parts(a), parts(b));
    let last = |parts: &[String], n: usize| parts.get(parts.len().saturating_sub(n)..).unwrap_or_default().join("/");
    let tell_apart = |n: &usize| last(&x, *n) != last(&y, *n);
    match (1..=x.len().max(y.len())).find(tell_apart) {
        Some(1) | None => [a.name.clone(), b.name.clone()],
        Some(n) => [last(&x, n), last(&y, n)],
    }
}

/// Checks that the sides are not the same.
pub(super) fn check_different(a: &ComparedSide, b: &ComparedSide) -> Result<()> {
    let Some(same) = a.identities.intersection(&b.identities).next() else { return Ok(()) };
    Err(Error::usage(format!("{} and {} are the same: both contain {}", a.source, b.source, same.display()))
        .hint("give two different studies, arms, runs or files"))
}

/// Pairs of arms, and the names of those that only the first and only the second side has.
type PairedArmsOfSides<'a> = (Vec<(&'a ComparedArm, &'a ComparedArm)>, [Vec<String>; 2]);

/// Pairs the arms of two sides: by name if both are studies, else the only arm of each. If one side is a study and the
/// other one arm, the study's arm of that name is taken.
///
/// # Errors
/// No arm of two studies has the same name, or one side is a study with several arms.
pub(super) fn pair_arms<'a>(a: &'a ComparedSide, b: &'a ComparedSide) -> Result<PairedArmsOfSides<'a>> {
    if a.is_study && b.is_study {
        let find = |side: &'a ComparedSide, name: &str| side.arms.iter().find(|arm| arm.name == name);
        let pairs: Vec<_> = a.arms.iter().filter_map(|arm| Some((arm, find(b, &arm.name)?))).collect();
        let only = |side: &ComparedSide, other: &'a ComparedSide| -> Vec<String> {
            side.arms.iter().filter(|arm| find(other, &arm.name).is_none()).map(|arm| arm.name.clone()).collect()
        };
        if pairs.is_empty() {
            let message = format!(
                "{} and {} have no arm in common: the arms are {}, and {}",
                a.source,
                b.source,
                a.arm_names(),
                b.arm_names()
            );
            return Err(Error::failed(message).hint("name one arm of each, such as runs/nano/nano-siglip"));
        }
        return Ok((pairs, [only(a, b), only(b, a)]));
    }
    let single = |side: &'a ComparedSide| -> Result<&'a ComparedArm> {
        match side.arms.as_slice() {
            [arm] => Ok(arm),
            _ => Err(Error::usage(format!(
                "{} has {} arms, but the other side has one: {}",
                side.source,
                side.arms.len(),
                side.arm_names()
            ))
            .hint(format!(
                "name an arm, such as {}/{}",
                side.source.trim_end_matches('/'),
                side.arms.first().map_or("ARM", |arm| arm.name.as_str())
            ))),
        }
    };
    Ok((vec![(single(a)?, single(b)?)], Default::default()))
}

/// Describes the runs of a side that are not compared, because they have no results: one sentence per arm and cause.
pub(super) fn missing_runs(side: &ComparedSide) -> Vec<String> {
    let mut seeds: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for m in &side.missing {
        seeds.entry((&m.arm, m.cause.trim_end_matches('.'))).or_default().push(m.seed.to_string());
    }
    let said = |((arm, cause), seeds): (&(&str, &str), &Vec<String>)| {
        let seed = if seeds.len() == 1 { "seed" } else { "seeds" };
        format!("{arm} ({seed} {}) of {} is not compared: {cause}.", seeds.join(", "), side.source)
    };
    seeds.iter().map(said).collect()
}
