//! The ranking as one self-contained HTML file: style sheet, figures and images are embedded; no script, no network.
//!
//! The text and its order are in `templates/page.html`; this module computes what fills it.

mod analysis;
mod examples;
pub mod published;
mod recipe;
mod tables;
mod validity;

use crate::analysis::StudyAnalysis;
use crate::check::{Claims, Measured, Reading, Verdict};
use crate::figure::{self, COSTS};
use crate::learning::LearningCurve;
use crate::load::{Problem, StudyData};
use crate::ranking::{self, AVERAGE, RankOptions, Ranking};
use crate::validity::{EncoderProbes, ProbePair, Validity};
use crate::words;
use burgess_base::{Context, Error, Result, atomic};
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Texts that the page shows about the study.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    pub title: String,
    /// The question that the study answers, in one or two sentences.
    pub question: String,
    /// The command that made it, as it can be typed.
    pub command: String,
    /// Further notes, shown after the notes on method.
    pub notes: Vec<String>,
    /// Claims and measurements beyond the study's runs.
    pub evidence: Evidence,
}

/// A study's claims about its evaluator, and measurements of its parts beyond its runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    pub claims: Claims,
    /// Accuracy of the language model alone on text.
    pub reading: Vec<Reading>,
    /// Direct probes of the encoders; `pairs` says which questions ask for the probed attributes.
    pub probes: Vec<EncoderProbes>,
    pub pairs: Vec<ProbePair>,
}

/// Paths of the files that [`write_study`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub ranking: PathBuf,
    pub page: PathBuf,
    pub figure: PathBuf,
    /// Path of the benchmark analysis.
    pub analysis: PathBuf,
    /// Paths of direct probes compared with answers, and of their figure; written only if the encoders have probes.
    pub validity: PathBuf,
    pub validity_figure: PathBuf,
    /// Paths of scores by number of training samples, and of their figure; written only if arms were trained on shares
    /// of the data.
    pub learning: PathBuf,
    pub learning_figure: PathBuf,
}

impl Files {
    /// Returns the paths in a study's own directory: `ranking.json`, and in `report/` `index.html`, `ranking.svg`,
    /// `analysis.json` and the optional files.
    pub fn of_study(dir: &Path) -> Self {
        Self { ranking: dir.join("ranking.json"), ..Self::together(&dir.join("report")) }
    }

    /// Returns the paths with all files in one directory.
    pub fn together(dir: &Path) -> Self {
        let [ranking, page, figure, analysis] =
            ["ranking.json", "index.html", "ranking.svg", "analysis.json"].map(|file| dir.join(file));
        let [validity, validity_figure, learning, learning_figure] =
            ["validity.json", "validity.svg", "learning-curve.json", "learning-curve.svg"].map(|file| dir.join(file));
        Self { ranking, page, figure, analysis, validity, validity_figure, learning, learning_figure }
    }
}

/// The result of [`write()`].
#[derive(Debug, Clone)]
pub struct Written {
    pub ranking: Ranking,
    /// Verdicts on the study's claims, in the order in which they are stated; empty for a study without claims.
    pub verdicts: Vec<Verdict>,
    pub files: Files,
    /// Lines of `train.jsonl` that could not be read; those of samples are reported on the page.
    pub problems: Vec<Problem>,
}

/// Renders the ranking as one self-contained HTML file.
///
/// # Errors
/// An error is returned if a file of samples cannot be opened, or if the runs are not those of the ranking. Broken
/// lines and missing images are reported on the page instead.
pub fn page(study: &StudyData, ranking: &Ranking, about: &About) -> Result<String> {
    filled_page(study, ranking, &Findings::of(study, ranking, &about.evidence)?, about)
}

/// Findings derived from a ranking and its study.
struct Findings {
    analysis: StudyAnalysis,
    validity: Option<Validity>,
    learning: Option<LearningCurve>,
    verdicts: Vec<Verdict>,
}

impl Findings {
    fn of(study: &StudyData, ranking: &Ranking, evidence: &Evidence) -> Result<Self> {
        let analysis = StudyAnalysis::of(&study.results(), ranking).context("analysing the benchmarks")?;
        let validity = Validity::of(study, ranking, &evidence.pairs, &evidence.probes)?;
        let learning = LearningCurve::load(&study.dir, ranking).context("reading the learning curve")?;
        let measured = Measured { ranking, validity: validity.as_ref(), reading: &evidence.reading };
        let verdicts = evidence.claims.check(&measured);
        Ok(Self { analysis, validity, learning, verdicts })
    }

    /// Writes the files of the findings, and removes the optional ones that no longer apply.
    fn write(&self, files: &Files, ranking: &Ranking) -> Result<()> {
        atomic::write_json(&files.analysis, &self.analysis)?;
        let figure = |path: &Path, svg: Option<String>| match svg {
            Some(svg) => atomic::write(path, svg.as_bytes()),
            None => forget(path),
        };
        match &self.validity {
            Some(validity) => atomic::write_json(&files.validity, validity)?,
            None => forget(&files.validity)?,
        }
        match &self.learning {
            Some(learning) => atomic::write_json(&files.learning, learning)?,
            None => forget(&files.learning)?,
        }
        figure(&files.validity_figure, self.validity.as_ref().map(figure::validity_svg))?;
        figure(&files.learning_figure, self.learning.as_ref().map(|l| figure::learning_svg(l, ranking)))
    }
}

/// Removes a file of an earlier report, if it exists.
fn forget(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn filled_page(study: &StudyData, ranking: &Ranking, findings: &Findings, about: &About) -> Result<String> {
    let Findings { analysis: found, validity, learning, verdicts } = findings;
    let (examples, sample_problems, refused) = examples::examples(study, ranking)?;
    let problems: Vec<String> = study.problems.iter().chain(&sample_problems).map(Problem::to_string).collect();
    let curves = figure::curves(study, ranking);
    let overall = |width: f64, where_: &str| {
        let title = format!("Average score of every arm{where_}");
        figure::ranking_panel(ranking, AVERAGE, width).inline(&title, &tables::in_words(ranking, AVERAGE))
    };
    let category_panels: Vec<String> = ranking
        .categories
        .iter()
        .map(|c| {
            let panel = figure::ranking_panel(ranking, c, figure::PANEL);
            panel.inline(&format!("Score of every arm on {c}"), &tables::in_words(ranking, c))
        })
        .collect();
    let benchmark_panels: Vec<String> = ranking
        .benchmarks
        .iter()
        .map(|b| {
            let title = format!("{} with and without the image", b.name);
            figure::benchmark_panel(ranking, &b.name).inline(&title, &tables::in_words(ranking, &b.name))
        })
        .collect();
    let unfreezing: Vec<String> = ranking::unfrozen_pairs(ranking)
        .iter()
        .map(|(unfrozen, frozen)| {
            let title = format!("What unfreezing {frozen} changes");
            figure::unfreezing_panel(ranking, unfrozen, frozen)
                .inline(&title, &tables::change_in_words(ranking, unfrozen))
        })
        .collect();
    let scatters: Vec<String> = COSTS.iter().filter_map(|(what, cost)| figure::scatter(ranking, what, *cost)).collect();
    let mut sections = vec![("ranking", "Ranking"), ("intervals", "Intervals"), ("heat", "Heat map")];
    sections.push(("blind", "Blind and chance"));
    for (there, section) in [
        (!unfreezing.is_empty(), ("unfreezing", "Unfreezing")),
        (true, ("analysis", "Which benchmarks agree")),
        (!scatters.is_empty(), ("cost", "Cost")),
        (!curves.is_empty(), ("training", "Training")),
        (validity.is_some(), ("validity", "Direct probes")),
        (learning.is_some(), ("learning", "Learning curve")),
        (!examples.is_empty(), ("examples", "Questions")),
        (!verdicts.is_empty(), ("check", "Claims")),
        (!ranking.missing.is_empty(), ("missing", "Missing runs")),
        (true, ("recipe", "Recipe")),
        (true, ("method", "Method")),
    ] {
        if there {
            sections.push(section);
        }
    }

    let title = match about.title.as_str() {
        "" => format!("Ranking of the {} study", ranking.study),
        title => title.to_string(),
    };
    let filled = Filled {
        title,
        question: &about.question,
        command: &about.command,
        notes: tables::notes(ranking).into_iter().chain(about.notes.iter().cloned()).collect(),
        style: style(),
        sections,
        version: env!("CARGO_PKG_VERSION"),
        percent: format!("{:.0}", 100.0 * ranking.confidence),
        has_published: ranking.has_published(),
        several_seeds: ranking.arms.iter().any(|a| a.seeds.len() > 1),
        ranking,
        rows: tables::rows(ranking),
        baselines: tables::baselines(ranking),
        normalised: tables::normalised(ranking),
        verdicts,
        validity: validity.as_ref().map(validity::shown),
        learning: learning.as_ref().map(|curve| learning_shown(curve, ranking)),
        foot: tables::foot(ranking),
        kinds: figure::kinds(ranking),
        overall_broad: overall(800.0, ""),
        overall_narrow: overall(figure::PANEL, ", narrow"),
        category_panels,
        neighbours: tables::neighbours(ranking),
        heat: tables::heat(ranking),
        unparsed: tables::unparsed(ranking),
        measured: analysis::measured(&found.sights),
        benchmark_panels,
        unfreezing,
        analysed: found.analysis.as_ref().map(|a| analysis::of_arms(a, ranking)),
        not_analysed: found.missing.as_deref().unwrap_or(""),
        scatters,
        legend: figure::legend(ranking),
        last_losses: tables::last_losses(ranking, &curves),
        curves,
        examples,
        problems,
        refused: match refused {
            0 => String::new(),
            n => format!(
                "{} not shown: {} outside the study's data.",
                if n == 1 { "1 image is".to_string() } else { format!("{n} images are") },
                if n == 1 { "it lies" } else { "they lie" }
            ),
        },
        recipe: recipe::recipe(study),
        assumed: recipe::notes(study),
        provenance: tables::provenance(study),
    };
    render("page.html", &filled)
}

/// The values that fill the template.
#[derive(Serialize)]
struct Filled<'a> {
    title: String,
    question: &'a str,
    command: &'a str,
    notes: Vec<String>,
    style: String,
    /// Sections as (id, name).
    sections: Vec<(&'a str, &'a str)>,
    version: &'a str,
    percent: String,
    several_seeds: bool,
    has_published: bool,
    ranking: &'a Ranking,
    rows: Vec<tables::Row>,
    baselines: Vec<tables::Row>,
    normalised: Vec<tables::NormalisedRow>,
    verdicts: &'a [Verdict],
    validity: Option<validity::Shown>,
    learning: Option<Learning>,
    foot: Vec<tables::Foot>,
    /// Kinds of arms as (CSS class, name).
    kinds: Vec<(&'a str, &'a str)>,
    overall_broad: String,
    overall_narrow: String,
    category_panels: Vec<String>,
    neighbours: Vec<tables::Test>,
    heat: tables::Heat,
    unparsed: Vec<tables::Unparsed>,
    measured: analysis::Measured,
    benchmark_panels: Vec<String>,
    unfreezing: Vec<String>,
    analysed: Option<analysis::Analysed>,
    /// Why there is no benchmark analysis; empty if there is one.
    not_analysed: &'a str,
    scatters: Vec<String>,
    /// Lines of the training curves as (CSS class, label).
    legend: Vec<(String, String)>,
    last_losses: Vec<tables::Losses>,
    curves: Vec<figure::Curves>,
    examples: Vec<examples::Examples>,
    problems: Vec<String>,
    /// How many images are not shown because of their location, as a sentence.
    refused: String,
    recipe: Vec<(String, String)>,
    /// Assumptions made where files were incomplete.
    assumed: Vec<String>,
    provenance: Vec<(String, String)>,
}

/// The learning curve: sentences, and one panel for the average and each category.
#[derive(Serialize)]
struct Learning {
    said: Vec<String>,
    panels: Vec<String>,
}

fn learning_shown(curve: &LearningCurve, ranking: &Ranking) -> Learning {
    let scopes = std::iter::once(AVERAGE).chain(ranking.categories.iter().map(|c| c.as_str()));
    let panel = |scope: &str| {
        let title = format!("Score by number of training samples: {scope}");
        figure::learning_panel(curve, scope, figure::chance(ranking, scope), figure::PANEL)
            .inline(&title, &figure::learning_in_words(curve, scope))
    };
    Learning { said: curve.conclusions(), panels: scopes.map(panel).collect() }
}

/// Returns the style sheet of all pages.
fn style() -> String {
    format!("{}{}", figure::STYLE, include_str!("../../templates/page.css"))
}

/// The templates, by the names with which they include each other. Text is escaped because the names end in .html.
const TEMPLATES: [(&str, &str); 4] = [
    ("page.html", include_str!("../../templates/page.html")),
    ("published.html", include_str!("../../templates/published.html")),
    ("analysis.html", include_str!("../../templates/analysis.html")),
    ("validity.html", include_str!("../../templates/validity.html")),
];

fn render<T: Serialize>(template: &str, filled: &T) -> Result<String> {
    let failed = |e: minijinja::Error| Error::failed(e.to_string()).context("writing the page");
    let mut env = Environment::new();
    // Names, questions and answers are untrusted: characters that would affect a browser or mislead a reader are shown
    // as escapes.
    env.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => {
            minijinja::escape_formatter(out, state, &minijinja::Value::from(words::shown(text, true).into_owned()))
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    for (name, text) in TEMPLATES {
        env.add_template(name, text).map_err(failed)?;
    }
    env.get_template(template).map_err(failed)?.render(Serde(filled)).map_err(failed)
}

/// Loads a study's directory, ranks its runs, and writes the files of [`Files::of_study`].
pub fn write(dir: &Path) -> Result<Written> {
    write_with(dir, &About::default(), &RankOptions::default())
}

/// Writes as [`write()`] does, with texts and ranking options.
pub fn write_with(dir: &Path, about: &About, options: &RankOptions) -> Result<Written> {
    write_study(StudyData::load(dir)?, about, options, Files::of_study(dir))
}

/// Ranks the runs of a loaded study, all or some of them, and writes ranking, page, figures and analysis. An empty
/// title or study name is filled from the runs.
pub fn write_study(mut study: StudyData, about: &About, options: &RankOptions, files: Files) -> Result<Written> {
    let mut options = options.clone();
    if options.study.is_empty() {
        options.study.clone_from(&study.study);
    }
    study.count_constant_answers()?;
    let runs = study.results();
    let ranking = ranking::rank(&runs, &study.missing, &options)?;
    let findings = Findings::of(&study, &ranking, &about.evidence)?;
    let html = filled_page(&study, &ranking, &findings, about).context("making the report")?;
    atomic::write_json(&files.ranking, &ranking)?;
    findings.write(&files, &ranking)?;
    atomic::write(&files.page, html.as_bytes())?;
    atomic::write(&files.figure, figure::ranking_svg(&ranking).as_bytes())?;
    Ok(Written { ranking, verdicts: findings.verdicts, files, problems: study.problems })
}
