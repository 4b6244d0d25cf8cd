//! The answer browser: a folder with a page that shows every question of a study with its image, the right answer, and
//! every run's answer with the image and without it.
//!
//! The folder works from a disk without any network, for tens of thousands of questions and tens of arms: the page
//! loads packs ([`packs`]) as it needs them. It holds `index.html`, `data-<digest>/` with the packs and the script,
//! and, if images are copied, `images/`. A new version is written beside the old one; replacing `index.html` switches
//! to it.

mod collect;
mod images;
mod packs;

use crate::figure;
use crate::formatting;
use crate::images::ImageRoots;
use crate::load::{RunData, StudyData};
use crate::page::template;
use crate::ranking::Ranking;
use crate::schema::ArmRole;
use burgess_base::temporary::{self, TemporaryPath};
use burgess_base::{Category, Context, Result, atomic, files};
use images::ImageTable;
use packs::{BenchmarkEntry, PackWriter, shown};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub use images::{CellReader, ImageCounts, ImageMode, MOST_COPIED, ServedImage};

/// The script of the page, in the order of its parts.
const SCRIPT: [&str; 5] = [
    include_str!("../../templates/answers/data.js"),
    include_str!("../../templates/answers/filter.js"),
    include_str!("../../templates/answers/list.js"),
    include_str!("../../templates/answers/detail.js"),
    include_str!("../../templates/answers/app.js"),
];

/// How an answer browser is written.
#[derive(Clone, Copy, Default)]
pub struct AnswerOptions<'a> {
    /// How the page refers to images.
    pub images: ImageMode,
    /// Reads images that are stored in tables; without it they are not shown.
    pub cells: Option<&'a dyn CellReader>,
    /// Address of the list of studies, relative to the study's page; empty if there is none.
    pub home: &'a str,
}

/// The result of [`write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenAnswers {
    /// Path of the page.
    pub page: PathBuf,
    /// Number of questions.
    pub questions: usize,
    /// Number of answers with the image.
    pub answers: usize,
    /// How the page refers to images; never [`ImageMode::Auto`].
    pub mode: ImageMode,
    /// How many images there are and are shown.
    pub images: ImageCounts,
    /// With [`ImageMode::Served`] the images by number; `None` for those that are not shown.
    pub served: Vec<Option<ServedImage>>,
    /// Name of this version of the data; the page adds it to the addresses of served images.
    pub generation: String,
    /// What could not be read or does not fit, as sentences, which the page shows too.
    pub problems: Vec<String>,
}

impl WrittenAnswers {
    /// Says how images are shown, such as "2,000 images copied, 3.1 MB".
    pub fn images_in_words(&self) -> String {
        let ImageCounts { all, shown, bytes } = self.images;
        let how = match self.mode {
            ImageMode::None => return "without images".into(),
            ImageMode::Copy => "copied",
            ImageMode::Served => "served",
            ImageMode::Link | ImageMode::Auto => "linked",
        };
        let size = if bytes > 0 { format!(", {}", files::format_bytes(bytes)) } else { String::new() };
        let missing = if shown < all { format!("; {} not shown", all - shown) } else { String::new() };
        format!("{} {how}{size}{missing}", grouped(shown, "image"))
    }
}

/// The list of contents: `index.js`.
#[derive(Serialize)]
struct Index<'a> {
    study: &'a str,
    runs: Vec<RunEntry<'a>>,
    benchmarks: &'a [BenchmarkEntry],
    missing: Vec<MissingEntry>,
    problems: &'a [String],
    images: ImageNote,
}

#[derive(Serialize)]
struct ImageNote {
    mode: ImageMode,
    #[serde(flatten)]
    counts: ImageCounts,
}

#[derive(Serialize)]
struct RunEntry<'a> {
    arm: String,
    label: String,
    seed: u64,
    role: ArmRole,
    /// CSS class of the arm's colour.
    kind: &'a str,
}

#[derive(Serialize)]
struct MissingEntry {
    arm: String,
    seed: u64,
    cause: String,
}

/// The values that fill the page.
#[derive(Serialize)]
struct PageValues<'a> {
    title: &'a str,
    counts: String,
    style: String,
    several_seeds: bool,
    /// Directory of the packs, relative to the page.
    data: &'a str,
    /// Address of the list of studies, relative to the study's page.
    home: &'a str,
}

/// What is written of one benchmark.
struct BenchmarkPart {
    entry: BenchmarkEntry,
    /// For each question, the names of its images, one per line.
    images: Vec<String>,
    /// Number of answers.
    answers: usize,
    problems: Vec<String>,
    digest: String,
}

/// Writes the answer browser of a study into `dir`. Arms are in the order of the ranking, benchmarks in that of their
/// categories. A directory that a page may still be reading is removed only after the page refers to the new one.
///
/// # Errors
/// A file of samples cannot be opened, or a file cannot be written. Broken lines and missing images are shown on the
/// page instead.
pub fn write(
    study: &StudyData,
    ranking: &Ranking,
    title: &str,
    dir: &Path,
    options: &AnswerOptions<'_>,
) -> Result<WrittenAnswers> {
    let step = || format!("writing {}", dir.display());
    fs::create_dir_all(dir).with_context(step)?;
    temporary::remove_stale(dir, 2);
    let data = TemporaryPath::beside(&dir.join("data"));
    fs::create_dir_all(data.path()).with_context(step)?;
    let (runs, run_entries) = runs(study, ranking);
    let benchmarks = benchmarks(study);
    let parts: Vec<BenchmarkPart> = benchmarks
        .par_iter()
        .enumerate()
        .map(|(b, (name, category, metric))| benchmark(study, &runs, data.path(), b, name, category, metric))
        .collect::<Result<_>>()?;

    let mut table = ImageTable::new(options.images);
    let images: Vec<Vec<Vec<usize>>> =
        parts.iter().map(|part| part.images.iter().map(|names| table.add(names)).collect()).collect();
    table.prepare(&ImageRoots::of(study), options.cells, &dir.join("images"))?;
    let mut writer = PackWriter::new(data.path());
    for (b, (part, images)) in parts.iter().zip(&images).enumerate() {
        writer.note(&part.digest);
        let ends = part.entry.starts.iter().skip(1).copied().chain([images.len()]);
        for (i, (start, end)) in part.entry.starts.iter().zip(ends).enumerate() {
            let images = images.get(*start..end).unwrap_or_default();
            writer.write(&format!("b{b}-image-{i}"), &table.pack(images, &study.dir, dir))?;
        }
    }

    let problems: Vec<String> = parts.iter().flat_map(|part| &part.problems).map(|p| shown(p).into_owned()).collect();
    let (questions, answers) = parts.iter().fold((0, 0), |sum, p| (sum.0 + p.entry.n, sum.1 + p.answers));
    let missing = |m: &crate::schema::MissingRun| MissingEntry {
        arm: shown(&m.arm).into_owned(),
        seed: m.seed,
        cause: shown(&m.cause).into_owned(),
    };
    let entries: Vec<BenchmarkEntry> = parts.into_iter().map(|part| part.entry).collect();
    let index = Index {
        study: &shown(&study.study),
        runs: run_entries,
        benchmarks: &entries,
        missing: study.missing.iter().map(missing).collect(),
        problems: &problems,
        images: ImageNote { mode: table.mode, counts: table.counts() },
    };
    writer.write("index", &index)?;
    let script = SCRIPT.join("\n");
    writer.file("app.js", format!("\"use strict\";\n(() => {{\n{script}\n}})();\n").as_bytes())?;
    let generation = writer.digest().chars().take(16).collect::<String>();
    let name = format!("data-{generation}");
    let target = dir.join(&name);
    if !target.is_dir() {
        fs::rename(data.path(), &target).with_context(step)?;
    }
    drop(data);

    let mut seeds = study.runs.iter().map(|run| run.results.run.seed);
    let first = seeds.next();
    let several_seeds = seeds.any(|seed| Some(seed) != first);
    let counts = format!(
        "{} of {}, {} of {}",
        grouped(questions, "question"),
        grouped(entries.len(), "benchmark"),
        grouped(answers, "answer"),
        grouped(runs.len(), "run")
    );
    let style = format!("{}{}", template::style(), include_str!("../../templates/answers.css"));
    let html = template::render(
        "answers.html",
        &PageValues { title, counts, style, several_seeds, data: &name, home: options.home },
    )?;
    let page = dir.join("index.html");
    atomic::write(&page, html.as_bytes())?;
    remove_old(dir, &name, &table);
    let (mode, images, served) = (table.mode, table.counts(), table.served());
    Ok(WrittenAnswers { page, questions, answers, mode, images, served, generation, problems })
}

/// Formats a count with its noun, such as "13,200 answers".
fn grouped(n: usize, thing: &str) -> String {
    format!("{} {thing}{}", formatting::thousands(n as u64), if n == 1 { "" } else { "s" })
}

/// Returns the fragment of the page's address that shows one benchmark.
pub(crate) fn fragment(benchmark: &str) -> String {
    format!("#benchmark={}", images::encoded(benchmark.as_bytes()))
}

/// Returns the runs in the order of the ranking's arms, then by seed.
fn runs<'a>(study: &'a StudyData, ranking: &'a Ranking) -> (Vec<&'a RunData>, Vec<RunEntry<'a>>) {
    let place = |run: &RunData| ranking.arms.iter().position(|arm| arm.arm == run.results.run.arm);
    let mut runs: Vec<&RunData> = study.runs.iter().collect();
    runs.sort_by_key(|run| (place(run).unwrap_or(usize::MAX), run.results.run.seed));
    let entry = |run: &&'a RunData| {
        let id = &run.results.run;
        let arm = place(run).and_then(|place| ranking.arms.get(place));
        RunEntry {
            arm: shown(&id.arm).into_owned(),
            label: shown(arm.map_or(&id.arm, |arm| &arm.label)).into_owned(),
            seed: id.seed,
            role: arm.map(|arm| arm.role).or(id.role).unwrap_or_default(),
            kind: arm.map_or("frozen", |arm| figure::kind(arm).0),
        }
    };
    let entries = runs.iter().map(entry).collect();
    (runs, entries)
}

/// Returns name, category and metric of all benchmarks that any run answered, by category.
fn benchmarks(study: &StudyData) -> Vec<(String, Category, String)> {
    let mut all: BTreeMap<&String, (&Category, &str)> = BTreeMap::new();
    let mut unknown: Vec<&String> = Vec::new();
    for run in &study.runs {
        for name in run.samples.keys() {
            match run.results.results.get(name) {
                Some(result) => drop(all.entry(name).or_insert((&result.category, &result.metric))),
                None => unknown.push(name),
            }
        }
    }
    // Samples without a result, as while a run is being evaluated again.
    let none = Category::new("no result");
    for name in unknown {
        all.entry(name).or_insert((&none, ""));
    }
    let mut benchmarks: Vec<(String, Category, String)> =
        all.into_iter().map(|(name, (category, metric))| (name.clone(), category.clone(), metric.into())).collect();
    let order = crate::schema::in_display_order(benchmarks.iter().map(|b| &b.1));
    benchmarks.sort_by_key(|(_, category, _)| order.iter().position(|c| c == category));
    benchmarks
}

fn benchmark(
    study: &StudyData,
    runs: &[&RunData],
    data: &Path,
    b: usize,
    name: &str,
    category: &Category,
    metric: &str,
) -> Result<BenchmarkPart> {
    let mut answers = collect::collect(study, runs, name)?;
    let mut writer = PackWriter::new(data);
    let entry = packs::write(&mut writer, b, name, category.as_str(), metric, &answers)?;
    let count = answers.runs.iter().flatten().flatten().count();
    let images = answers.questions.iter_mut().map(|q| std::mem::take(&mut q.image)).collect();
    Ok(BenchmarkPart { entry, images, answers: count, problems: answers.problems, digest: writer.digest() })
}

/// Removes data and images that the page does not refer to any more. What cannot be removed does no harm.
fn remove_old(dir: &Path, data: &str, table: &ImageTable) {
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    for name in names(dir) {
        if name != data && name.strip_prefix("data-").is_some_and(hex) {
            let _ = fs::remove_dir_all(dir.join(name));
        }
    }
    let (folder, copies) = (dir.join("images"), table.copies());
    for name in names(&folder) {
        if !copies.contains(name.as_str()) && name.rsplit_once('.').is_some_and(|(stem, _)| hex(stem)) {
            let _ = fs::remove_file(folder.join(name));
        }
    }
    // Succeeds only if it is empty.
    let _ = fs::remove_dir(folder);
}
