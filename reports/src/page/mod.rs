//! The ranking as one self-contained HTML file: style sheet, figures and images are embedded; no script, no network.
//! All questions and answers are in the folder of [`answers`] beside it.
//!
//! The text and its order are in `templates/page.html`; this module computes what fills it.

mod analysis_section;
mod examples_section;
pub mod mix_page;
pub mod mlcd_page;
pub mod paper_page;
mod race_section;
mod recipe_section;
pub mod studies_page;
mod style_section;
mod table_rows;
pub(crate) mod template;
mod validity_section;

use crate::analysis::StudyAnalysis;
use crate::answer_style::AnswerStyle;
use crate::answers::{self, AnswerOptions, WrittenAnswers};
use crate::check::{ClaimVerdict, Claims, Measurements, TextAccuracy};
use crate::figure::{self, COSTS};
use crate::learning::LearningCurve;
use crate::load::{StudyData, UnreadableLine};
use crate::racing::RaceRecord;
use crate::ranking::{self, AVERAGE, RankOptions, Ranking};
use crate::series::{ArmSeries, SHOWN_GROUPS, SeriesScores};
use crate::validity::{EncoderProbes, ProbePair, ProbeValidity};
use burgess_base::{Context, Result, atomic};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Texts that the page shows about the study, and evidence beyond its runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StudyInfo {
    /// Title of the page; if empty, one is made of the study's name.
    pub title: String,
    /// The question that the study answers, in one or two sentences.
    pub question: String,
    /// The command that created the report, as it can be typed.
    pub command: String,
    /// Further notes, shown after the notes on method.
    pub notes: Vec<String>,
    /// Claims and measurements beyond the study's runs.
    pub evidence: Evidence,
}

/// A study's claims about its evaluator, and measurements of its parts beyond its runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Thresholds that the study states for its evaluator.
    pub claims: Claims,
    /// Accuracy of the language model alone on text.
    pub reading: Vec<TextAccuracy>,
    /// Direct probes of the encoders.
    pub probes: Vec<EncoderProbes>,
    /// Pairs of a direct probe and the questions about the same attribute.
    pub pairs: Vec<ProbePair>,
    /// Series of arms that differ in one thing.
    pub series: Vec<ArmSeries>,
}

/// Paths of the files that [`write_study`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFiles {
    /// Path of `ranking.json`.
    pub ranking: PathBuf,
    /// Path of the HTML page.
    pub page: PathBuf,
    /// Path of the SVG figure of the ranking.
    pub figure: PathBuf,
    /// Path of the benchmark analysis.
    pub analysis: PathBuf,
    /// Path of direct probes compared with answers; written only if the encoders have probes.
    pub validity: PathBuf,
    /// Path of the figure of direct probes.
    pub validity_figure: PathBuf,
    /// Path of scores by number of training samples; written only if arms were trained on fractions of the data.
    pub learning: PathBuf,
    /// Path of the figure of the learning curve.
    pub learning_figure: PathBuf,
    /// Path of the scores of series of arms; written only if the study has series.
    pub series: PathBuf,
    /// Path of the figure of the series.
    pub series_figure: PathBuf,
    /// Folder of the answer browser, beside the page.
    pub answers: PathBuf,
}

impl ReportFiles {
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
        let [series, series_figure, answers] = ["series.json", "series.svg", "answers"].map(|file| dir.join(file));
        Self {
            ranking,
            page,
            figure,
            analysis,
            validity,
            validity_figure,
            learning,
            learning_figure,
            series,
            series_figure,
            answers,
        }
    }
}

/// The result of [`write_study`].
#[derive(Debug, Clone)]
pub struct WrittenReport {
    /// The ranking that was written.
    pub ranking: Ranking,
    /// Verdicts on the study's claims, in the order in which they are stated; empty for a study without claims.
    pub verdicts: Vec<ClaimVerdict>,
    /// Paths of the written files.
    pub files: ReportFiles,
    /// The answer browser.
    pub answers: WrittenAnswers,
    /// Lines of `train.jsonl` that could not be read; those of samples are reported on the page.
    pub problems: Vec<UnreadableLine>,
}

/// Renders the ranking as one self-contained HTML file.
///
/// # Errors
/// An error is returned if a file of samples cannot be opened, or if the runs are not those of the ranking. Broken
/// lines and missing images are reported on the page instead.
pub fn page(study: &StudyData, ranking: &Ranking, about: &StudyInfo) -> Result<String> {
    filled_page(study, ranking, &Findings::of(study, ranking, &about.evidence)?, about, Links::default())
}

/// Findings derived from a ranking and its study.
struct Findings {
    analysis: StudyAnalysis,
    validity: Option<ProbeValidity>,
    learning: Option<LearningCurve>,
    series: Vec<SeriesScores>,
    verdicts: Vec<ClaimVerdict>,
}

impl Findings {
    fn of(study: &StudyData, ranking: &Ranking, evidence: &Evidence) -> Result<Self> {
        let analysis = StudyAnalysis::of(&study.results(), ranking).context("analysing the benchmarks")?;
        let validity = ProbeValidity::of(study, ranking, &evidence.pairs, &evidence.probes)?;
        let learning = LearningCurve::load(&study.dir, ranking).context("reading the learning curve")?;
        let series = evidence.series.iter().filter_map(|series| SeriesScores::of(series, ranking)).collect();
        let measured = Measurements { ranking, validity: validity.as_ref(), reading: &evidence.reading };
        let verdicts = evidence.claims.check(&measured);
        Ok(Self { analysis, validity, learning, series, verdicts })
    }

    /// Writes the files of the findings, and removes the optional ones that no longer apply.
    fn write(&self, files: &ReportFiles, ranking: &Ranking) -> Result<()> {
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
        match self.series.is_empty() {
            false => atomic::write_json(&files.series, &self.series)?,
            true => forget(&files.series)?,
        }
        let series = (!self.series.is_empty()).then(|| figure::series_svg(&self.series, ranking));
        figure(&files.series_figure, series)?;
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

/// Addresses of other pages, relative to the study's; empty if there are none.
#[derive(Clone, Copy, Default, Serialize)]
struct Links<'a> {
    /// The answer browser.
    answers: &'a str,
    /// The list of studies.
    home: &'a str,
}

fn filled_page(
    study: &StudyData,
    ranking: &Ranking,
    findings: &Findings,
    about: &StudyInfo,
    links: Links<'_>,
) -> Result<String> {
    let Findings { analysis: found, validity, learning, series, verdicts } = findings;
    let (examples, sample_problems, refused) = examples_section::examples(study, ranking)?;
    let problems: Vec<String> = study.problems.iter().chain(&sample_problems).map(UnreadableLine::to_string).collect();
    let curves = figure::curves(study, ranking);
    let overall = |width: f64, where_: &str| {
        let title = format!("Average score of each arm{where_}");
        figure::ranking_panel(ranking, AVERAGE, width).inline(&title, &table_rows::in_words(ranking, AVERAGE))
    };
    let category_panels: Vec<String> = ranking
        .categories
        .iter()
        .map(|c| {
            let panel = figure::ranking_panel(ranking, c, figure::PANEL);
            panel.inline(&format!("Score of each arm on {c}"), &table_rows::in_words(ranking, c))
        })
        .collect();
    let benchmark_panels: Vec<String> = ranking
        .benchmarks
        .iter()
        .map(|b| {
            let title = format!("{} with and without the image", b.name);
            figure::benchmark_panel(ranking, &b.name).inline(&title, &table_rows::in_words(ranking, &b.name))
        })
        .collect();
    let unfreezing: Vec<String> = ranking::unfrozen_pairs(ranking)
        .iter()
        .map(|(unfrozen, frozen)| {
            let title = format!("Effect of unfreezing {frozen}");
            figure::unfreezing_panel(ranking, unfrozen, frozen)
                .inline(&title, &table_rows::change_in_words(ranking, unfrozen))
        })
        .collect();
    let scatters: Vec<String> = COSTS.iter().filter_map(|(what, cost)| figure::scatter(ranking, what, *cost)).collect();
    let mut sections = vec![("ranking", "Ranking"), ("intervals", "Intervals"), ("heat", "Benchmarks")];
    if !series.is_empty() {
        sections.insert(1, ("series", "Series"));
    }
    if ranking.race.is_some() {
        sections.insert(1, ("race", "Race"));
    }
    sections.push(("blind", "With and without image"));
    for (there, section) in [
        (ranking.answer_style.is_some(), ("style", "How the models answer")),
        (!unfreezing.is_empty(), ("unfreezing", "Unfreezing")),
        (true, ("analysis", "Correlations")),
        (!scatters.is_empty(), ("cost", "Cost")),
        (!curves.is_empty(), ("training", "Training loss")),
        (validity.is_some(), ("validity", "Direct probes")),
        (learning.is_some(), ("learning", "Learning curve")),
        (!examples.is_empty(), ("examples", "Examples")),
        (!verdicts.is_empty(), ("check", "Claims")),
        (!ranking.missing.is_empty(), ("missing", "Missing runs")),
        (true, ("recipe", "Configuration")),
        (true, ("method", "Method")),
    ] {
        if there {
            sections.push(section);
        }
    }

    let filled = PageValues {
        title: title(ranking, about),
        links,
        question: &about.question,
        command: &about.command,
        notes: table_rows::notes(ranking).into_iter().chain(about.notes.iter().cloned()).collect(),
        style: template::style(),
        sections,
        version: env!("CARGO_PKG_VERSION"),
        percent: format!("{:.0}", 100.0 * ranking.confidence),
        alpha: format!("{:.2}", 1.0 - ranking.confidence),
        has_published: ranking.has_published(),
        several_seeds: ranking.arms.iter().any(|a| a.seeds.len() > 1),
        ranking,
        rows: table_rows::rows(ranking),
        baselines: table_rows::baselines(ranking),
        normalised: table_rows::normalised(ranking),
        verdicts,
        validity: validity.as_ref().map(validity_section::shown),
        learning: learning.as_ref().map(|curve| learning_shown(curve, ranking)),
        race: ranking.race.as_ref().map(race_section::shown),
        series: series.iter().map(|series| series_shown(series, ranking)).collect(),
        foot: table_rows::foot(ranking),
        kinds: figure::kinds(ranking),
        overall_broad: overall(800.0, ""),
        overall_narrow: overall(figure::PANEL, ", narrow"),
        category_panels,
        neighbours: table_rows::neighbours(ranking),
        heat: table_rows::heat(ranking),
        unparsed: table_rows::unparsed(ranking),
        measured: analysis_section::measured(&found.sights),
        benchmark_panels,
        style_section: ranking.answer_style.as_ref().map(|style| style_section::shown(style, ranking)),
        unfreezing,
        analysed: found.analysis.as_ref().map(|a| analysis_section::of_arms(a, ranking)),
        not_analysed: found.missing.as_deref().unwrap_or(""),
        scatters,
        legend: figure::legend(ranking),
        last_losses: table_rows::last_losses(ranking, &curves),
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
        recipe: recipe_section::recipe(study),
        assumed: recipe_section::notes(study),
        provenance: table_rows::provenance(study),
    };
    template::render("page.html", &filled)
}

fn title(ranking: &Ranking, about: &StudyInfo) -> String {
    match about.title.as_str() {
        "" => format!("Ranking of the {} study", ranking.study),
        title => title.to_string(),
    }
}

/// The values that fill the template.
#[derive(Serialize)]
struct PageValues<'a> {
    title: String,
    #[serde(flatten)]
    links: Links<'a>,
    question: &'a str,
    command: &'a str,
    notes: Vec<String>,
    style: String,
    /// Sections as (id, name).
    sections: Vec<(&'a str, &'a str)>,
    version: &'a str,
    /// Confidence level in percent.
    percent: String,
    /// Significance level of the tests, 1 − confidence.
    alpha: String,
    several_seeds: bool,
    has_published: bool,
    ranking: &'a Ranking,
    rows: Vec<table_rows::ArmRow>,
    baselines: Vec<table_rows::ArmRow>,
    normalised: Vec<table_rows::NormalisedRow>,
    verdicts: &'a [ClaimVerdict],
    validity: Option<validity_section::ValiditySection>,
    learning: Option<LearningSection>,
    race: Option<race_section::RaceSection>,
    series: Vec<SeriesSection>,
    foot: Vec<table_rows::FootRow>,
    /// Kinds of arms as (CSS class, name).
    kinds: Vec<(&'a str, &'a str)>,
    overall_broad: String,
    overall_narrow: String,
    category_panels: Vec<String>,
    neighbours: Vec<table_rows::TestRow>,
    heat: table_rows::HeatMap,
    unparsed: Vec<table_rows::UnparsedRow>,
    measured: analysis_section::VisionSection,
    benchmark_panels: Vec<String>,
    style_section: Option<style_section::StyleSection>,
    unfreezing: Vec<String>,
    analysed: Option<analysis_section::AnalysisSection>,
    /// Why there is no benchmark analysis; empty if there is one.
    not_analysed: &'a str,
    scatters: Vec<String>,
    /// Lines of the training curves as (CSS class, label).
    legend: Vec<(String, String)>,
    last_losses: Vec<table_rows::LossRow>,
    curves: Vec<figure::Curves>,
    examples: Vec<examples_section::BenchmarkExamples>,
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
struct LearningSection {
    said: Vec<String>,
    panels: Vec<String>,
}

fn learning_shown(curve: &LearningCurve, ranking: &Ranking) -> LearningSection {
    let scopes = std::iter::once(AVERAGE).chain(ranking.categories.iter().map(|c| c.as_str()));
    let panel = |scope: &str| {
        let title = format!("Score by number of training samples: {scope}");
        figure::learning_panel(curve, scope, figure::chance(ranking, scope), figure::PANEL)
            .inline(&title, &figure::learning_in_words(curve, scope))
    };
    LearningSection { said: curve.conclusions(), panels: scopes.map(panel).collect() }
}

/// A series of arms: its title, sentences, and one panel for the average and each category.
#[derive(Serialize)]
struct SeriesSection {
    title: String,
    said: Vec<String>,
    panels: Vec<String>,
}

fn series_shown(series: &SeriesScores, ranking: &Ranking) -> SeriesSection {
    let scopes = std::iter::once(AVERAGE).chain(ranking.categories.iter().map(|c| c.as_str()));
    let panel = |scope: &str| {
        let title = format!("{}: {scope}", series.title);
        figure::series_panel(series, scope, figure::PANEL).inline(&title, &figure::series_in_words(series, scope))
    };
    let answers = SHOWN_GROUPS.iter().filter_map(|group| {
        let title = format!("{}: answers of one word, {}", series.title, group.name());
        let words = figure::series_answers_in_words(series, *group);
        Some(figure::series_answers_panel(series, *group, figure::PANEL)?.inline(&title, &words))
    });
    let panels = scopes.map(panel).chain(answers).collect();
    SeriesSection { title: series.title.clone(), said: series.said.clone(), panels }
}

/// Loads a study's directory, ranks its runs, and writes the files of [`ReportFiles::of_study`].
///
/// # Errors
/// An error is returned if the directory cannot be read, if its runs cannot be ranked (see [`ranking::rank`]), or if a
/// file cannot be written.
pub fn write_with(dir: &Path, info: &StudyInfo, options: &RankOptions) -> Result<WrittenReport> {
    write_study(StudyData::load(dir)?, info, options, &AnswerOptions::default(), ReportFiles::of_study(dir))
}

/// Ranks the runs of a loaded study, all or some of them, and writes ranking, page, figures, analysis and the answer
/// browser. An empty title or study name is filled from the runs.
///
/// # Errors
/// As [`write_with`].
pub fn write_study(
    mut study: StudyData,
    about: &StudyInfo,
    options: &RankOptions,
    browser: &AnswerOptions<'_>,
    files: ReportFiles,
) -> Result<WrittenReport> {
    let mut options = options.clone();
    if options.study.is_empty() {
        options.study.clone_from(&study.study);
    }
    options.series = about.evidence.series.iter().flat_map(ArmSeries::lines).collect();
    study.count_constant_answers()?;
    let runs = study.results();
    let mut ranking = ranking::rank(&runs, &study.missing, &options)?;
    ranking.answer_style = AnswerStyle::of_study(&study, ranking.confidence)?;
    ranking.race = RaceRecord::read(&study.dir)?;
    let findings = Findings::of(&study, &ranking, &about.evidence)?;
    let links = Links { answers: "answers/index.html", home: browser.home };
    let html = filled_page(&study, &ranking, &findings, about, links).context("making the report")?;
    atomic::write_json(&files.ranking, &ranking)?;
    findings.write(&files, &ranking)?;
    // Before the page, which links to it.
    let answers = answers::write(&study, &ranking, &title(&ranking, about), &files.answers, browser)?;
    atomic::write(&files.page, html.as_bytes())?;
    atomic::write(&files.figure, figure::ranking_svg(&ranking).as_bytes())?;
    Ok(WrittenReport { ranking, verdicts: findings.verdicts, files, answers, problems: study.problems })
}
