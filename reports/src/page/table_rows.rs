//! The formatted numbers of the page.

use crate::figure::{Curves, kind};
use crate::load::StudyData;
use crate::ranking::{AVERAGE, ArmRank, ArmScore, ComparedBenchmark, NormalisedScore, RankedArm, Ranking, TestFamily};
use crate::{formatting, stats};
use burgess_base::Category;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A score as shown in a table.
#[derive(Serialize)]
pub(super) struct ShownScore {
    score: String,
    interval: String,
    blind: String,
    normalised: String,
}

impl ShownScore {
    fn of(s: &ArmScore) -> Self {
        Self {
            score: format!("{:.1}", s.score),
            interval: format!("{:.1}–{:.1}", s.low, s.high),
            blind: format!("{:.1}", s.blind),
            normalised: s.normalised.map_or(String::new(), |n| format!("{} %", formatting::integer(n.value))),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ArmRow {
    label: String,
    kind: &'static str,
    ranks: String,
    average: ShownScore,
    published: String,
    categories: Vec<ShownScore>,
    unparsed: String,
    p_best: String,
    params: String,
    gflops: String,
    tokens: usize,
    train_seconds: String,
    images_per_second: String,
    memory: String,
    seeds: String,
}

/// Returns the rows of the trained arms.
pub(super) fn rows(r: &Ranking) -> Vec<ArmRow> {
    r.trained().map(|a| row(r, a)).collect()
}

/// Returns the rows of the baselines.
pub(super) fn baselines(r: &Ranking) -> Vec<ArmRow> {
    r.baselines().map(|a| row(r, a)).collect()
}

fn row(r: &Ranking, a: &RankedArm) -> ArmRow {
    let p_best = |p: ArmRank| if r.all_equal(AVERAGE) { "–".into() } else { formatting::probability(p.p_best) };
    ArmRow {
        label: a.row_name(),
        kind: kind(a).0,
        ranks: a.place.map_or(String::new(), |p| formatting::range(p.rank_low, p.rank_high)),
        average: ShownScore::of(&a.average),
        published: a.published.map_or(String::new(), |p| format!("{p:.2}")),
        categories: r.categories.iter().filter_map(|c| a.score(c)).map(ShownScore::of).collect(),
        unparsed: formatting::percent(a.unparsed_share()),
        p_best: a.place.map_or(String::new(), p_best),
        params: formatting::with_suffix(a.cost.encoder_params as f64),
        gflops: precise(a.cost.gflops_per_image),
        tokens: a.cost.tokens,
        train_seconds: formatting::measured(a.cost.train_seconds, |s| format!("{s:.0}")),
        images_per_second: formatting::measured(a.cost.images_per_second, formatting::with_suffix),
        memory: formatting::measured(a.cost.peak_memory_bytes as f64, |b| format!("{}B", formatting::with_suffix(b))),
        seeds: seeds(&a.seeds),
    }
}

/// An arm's normalised scores: average and categories, then benchmarks.
#[derive(Serialize)]
pub(super) struct NormalisedRow {
    label: String,
    kind: &'static str,
    /// Scores as (value, interval); a dash where there is none.
    scores: Vec<(String, String)>,
}

/// Returns the normalised scores; empty for a study without both baselines.
pub(super) fn normalised(r: &Ranking) -> Vec<NormalisedRow> {
    if !r.has_range() {
        return Vec::new();
    }
    let scopes = || {
        let categories = std::iter::once(AVERAGE).chain(r.categories.iter().map(|c| c.as_str()));
        categories.chain(r.benchmarks.iter().map(|b| b.name.as_str()))
    };
    let shown = |n: NormalisedScore| {
        let [value, low, high] = [n.value, n.low, n.high].map(formatting::integer);
        (value, format!("{low} to {high}"))
    };
    let score = |a: &RankedArm, scope: &str| {
        let normalised = a.score(scope).and_then(|s| s.normalised);
        normalised.map_or(("–".to_string(), String::new()), shown)
    };
    let row = |a: &RankedArm| NormalisedRow {
        label: a.label.clone(),
        kind: kind(a).0,
        scores: scopes().map(|s| score(a, s)).collect(),
    };
    r.trained().map(row).collect()
}

/// Formats seeds as "seed 0" or "seeds 0, 1, 2".
fn seeds(seeds: &[u64]) -> String {
    let numbers: Vec<String> = seeds.iter().map(u64::to_string).collect();
    format!("seed{} {}", if seeds.len() == 1 { "" } else { "s" }, numbers.join(", "))
}

/// Formats with about three significant digits.
fn precise(x: f64) -> String {
    match x {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 1.0 => format!("{x:.1}"),
        x => format!("{x:.3}"),
    }
}

#[derive(Serialize)]
pub(super) struct FootRow {
    name: &'static str,
    values: Vec<String>,
}

/// Returns the rows of chance, mean blind score and, with several seeds, their agreement, for the average and each
/// category.
pub(super) fn foot(r: &Ranking) -> Vec<FootRow> {
    let scopes = || std::iter::once(AVERAGE).chain(r.categories.iter().map(|c| c.as_str()));
    let row =
        |name, of: fn(&ArmScore) -> f64| FootRow { name, values: scopes().map(|s| mean_over_arms(r, s, of)).collect() };
    let mut rows = vec![row("chance", |s| s.chance), row("blind (mean of arms)", |s| s.blind)];
    rows.extend(r.stability.as_ref().map(|stability| FootRow {
        name: "agreement of seeds (Kendall τ)",
        values: scopes().map(|s| formatting::correlation(stability.tau_in(s))).collect(),
    }));
    rows
}

fn mean_over_arms(r: &Ranking, scope: &str, of: fn(&ArmScore) -> f64) -> String {
    let values: Vec<f64> = r.compared().iter().filter_map(|a| a.score(scope)).map(of).collect();
    stats::mean(&values).map_or(String::new(), formatting::score)
}

#[derive(Serialize)]
pub(super) struct TestRow {
    scope: String,
    arms: String,
    difference: String,
    interval: String,
    p: String,
    p_adjusted: String,
    separable: bool,
}

pub(super) fn neighbours(r: &Ranking) -> Vec<TestRow> {
    let label = |arm: &str| r.arm(arm).map_or_else(|| arm.to_string(), |a| a.label.clone());
    let of_p = |p: f64| if p < 0.001 { "<0.001".to_string() } else { format!("{p:.3}") };
    let tests = r.tests.iter().filter(|t| t.family == TestFamily::Neighbours);
    tests
        .map(|t| TestRow {
            scope: if t.scope == AVERAGE { "Average".to_string() } else { t.scope.clone() },
            arms: format!("{} over {}", label(&t.a), label(&t.b)),
            difference: formatting::signed(t.difference),
            interval: format!("{} to {}", formatting::signed(t.low), formatting::signed(t.high)),
            p: of_p(t.p),
            p_adjusted: of_p(t.p_adjusted),
            separable: t.separable,
        })
        .collect()
}

/// A coloured cell: the side of the mean, and the distance from it as a fraction from 0 to 1.
#[derive(Serialize)]
pub(super) struct HeatCell {
    side: &'static str,
    depth: String,
    text: String,
    title: String,
}

impl HeatCell {
    fn new(distance: f64, full: f64, text: String, title: String) -> Self {
        let depth = if full > 0.0 { (distance.abs() / full).min(1.0) } else { 0.0 };
        Self { side: if distance >= 0.0 { "up" } else { "down" }, depth: format!("{depth:.2}"), text, title }
    }
}

#[derive(Serialize)]
pub(super) struct HeatRow {
    label: String,
    cells: Vec<HeatCell>,
}

#[derive(Serialize)]
pub(super) struct HeatGroup {
    name: String,
    span: usize,
}

/// A heat map of arms × benchmarks.
#[derive(Serialize)]
pub(super) struct HeatMap {
    groups: Vec<HeatGroup>,
    rows: Vec<HeatRow>,
    /// Baselines as (name, scores).
    baselines: Vec<(String, Vec<String>)>,
    chance: Vec<String>,
    blind: Vec<String>,
    /// Distance from the benchmark's mean, in points, at which the colour is saturated.
    full: String,
}

pub(super) fn heat(r: &Ranking) -> HeatMap {
    let arms = r.compared();
    let mean = |b: &ComparedBenchmark| {
        stats::mean(&arms.iter().filter_map(|a| a.score(&b.name)).map(|s| s.score).collect::<Vec<_>>())
    };
    let means: Vec<f64> = r.benchmarks.iter().map(|b| mean(b).unwrap_or(0.0)).collect();
    let with_means = || r.benchmarks.iter().zip(&means);
    let distances =
        arms.iter().flat_map(|a| with_means().filter_map(|(b, m)| Some((a.score(&b.name)?.score - m).abs())));
    let full = (distances.fold(0.0, f64::max) / 5.0).ceil().max(1.0) * 5.0;
    let cell = |label: &str, name: &str, mean: f64, s: &ArmScore| {
        let distance = s.score - mean;
        let title = format!(
            "{label}, {name}: {:.1} ({:.1}–{:.1}), {} points from the mean",
            s.score,
            s.low,
            s.high,
            formatting::signed(distance)
        );
        HeatCell::new(distance, full, format!("{:.1}", s.score), title)
    };
    let rows = arms.iter().map(|a| HeatRow {
        label: a.label.clone(),
        cells: with_means().filter_map(|(b, m)| Some(cell(&a.label, &b.name, *m, a.score(&b.name)?))).collect(),
    });
    let scores = |a: &RankedArm| {
        let scores = r.benchmarks.iter().filter_map(|b| a.score(&b.name)).map(|s| formatting::score(s.score));
        (a.row_name(), scores.collect())
    };
    let size = |c: &Category| r.benchmarks.iter().filter(|b| b.category == *c).count();
    HeatMap {
        groups: r.categories.iter().map(|c| HeatGroup { name: c.to_string(), span: size(c) }).collect(),
        rows: rows.collect(),
        baselines: r.baselines().filter(|_| arms.len() < r.arms.len()).map(scores).collect(),
        chance: r.benchmarks.iter().map(|b| formatting::score(b.chance)).collect(),
        blind: r.benchmarks.iter().map(|b| mean_over_arms(r, &b.name, |s| s.blind)).collect(),
        full: format!("{full:.0}"),
    }
}

/// A table of arms × benchmarks: the fraction of unparsed answers, with the most frequent answer.
#[derive(Serialize)]
pub(super) struct UnparsedRow {
    label: String,
    /// Cells as (fraction, most frequent answer).
    cells: Vec<(String, String)>,
}

/// Returns the table; empty if every answer could be parsed.
pub(super) fn unparsed(r: &Ranking) -> Vec<UnparsedRow> {
    if r.arms.iter().all(|a| a.unparsed_share() == 0.0) {
        return Vec::new();
    }
    let cell = |a: &RankedArm, name: &str| match a.answers.get(name) {
        Some(answers) => {
            let most_frequent = answers.most_frequent.as_ref();
            let most = most_frequent.map_or(String::new(), |c| {
                format!("{} {}", formatting::percent(c.share), burgess_base::text::excerpt(&c.answer, 12))
            });
            (formatting::percent(answers.unparsed_share()), most)
        }
        None => Default::default(),
    };
    let row = |a: &RankedArm| UnparsedRow {
        label: a.label.clone(),
        cells: r.benchmarks.iter().map(|b| cell(a, &b.name)).collect(),
    };
    r.arms.iter().map(row).collect()
}

#[derive(Serialize)]
pub(super) struct LossRow {
    label: String,
    values: Vec<String>,
}

/// Returns, per arm, the last smoothed loss of each stage.
pub(super) fn last_losses(r: &Ranking, curves: &[Curves]) -> Vec<LossRow> {
    let of = |c: &Curves, label: &str| {
        c.last.iter().find(|(l, _)| l == label).map_or(String::new(), |(_, loss)| format!("{loss:.3}"))
    };
    let row = |label: &str| LossRow { label: label.to_string(), values: curves.iter().map(|c| of(c, label)).collect() };
    r.arms.iter().map(|a| row(&a.label)).collect()
}

/// Describes a panel of scores in words, for screen readers.
pub(super) fn in_words(r: &Ranking, scope: &str) -> String {
    let arms = r.rows(scope);
    let said = arms.iter().filter_map(|a| {
        let s = a.score(scope)?;
        Some(format!("{} {:.1} ({:.1} to {:.1}; blind {:.1})", a.row_name(), s.score, s.low, s.high, s.blind))
    });
    let chance = arms
        .first()
        .and_then(|a| a.score(scope))
        .map_or(String::new(), |s| format!("; chance {}", formatting::score(s.chance)));
    said.collect::<Vec<_>>().join(", ") + &chance
}

/// Describes the change by unfreezing in words, for screen readers.
pub(super) fn change_in_words(r: &Ranking, unfrozen: &str) -> String {
    let tests = r.tests.iter().filter(|t| t.family == TestFamily::Unfreezing && t.a == unfrozen);
    let said = tests.map(|t| {
        format!(
            "{} {} ({} to {})",
            t.scope,
            formatting::signed(t.difference),
            formatting::signed(t.low),
            formatting::signed(t.high)
        )
    });
    said.collect::<Vec<_>>().join(", ")
}

/// Returns notes on how the numbers were computed.
pub(super) fn notes(r: &Ranking) -> Vec<String> {
    let percent = 100.0 * r.confidence;
    let mut notes = vec![
        "A score is the percentage of a benchmark's points under its own metric. The score of a category is the mean \
         of its benchmarks, and the average is the mean of the categories. Scores are not rescaled."
            .to_string(),
        r.uncertainty.clone(),
        "Each bootstrap replicate draws images with replacement. All questions about one image are drawn together, \
         and the same images are drawn for all arms, so that differences between arms are paired. If an arm has \
         several seeds, seeds are drawn too; with two or three seeds, their variance is only roughly known. The \
         intervals do not cover another evaluator, other training data or other benchmarks."
            .to_string(),
        format!(
            "The p-value of a paired difference is that of a two-sided sign-flip test over images, adjusted by \
             Holm's method over the tests of the same kind within a scope; arms are separable if it is below {:.2} \
             and the interval of the difference excludes zero. The interval of a rank contains the ranks of the arm \
             in {percent:.0} % of the replicates.",
            1.0 - r.confidence
        ),
        "If an arm answers fewer than five images of a benchmark rightly, or fewer than five wrongly, the bootstrap \
         interval is too narrow. The interval of the score is then the union of the bootstrap interval and Wilson's \
         interval over the effective number of images: 0 of 60 gives 0 to 6, not 0 to 0. It is conservative for \
         scores between 0 and 1. The intervals of categories and of the average widen accordingly (MOVER)."
            .to_string(),
        "An unparsed answer is one in which no choice, number or yes/no was found; it counts as wrong.".to_string(),
    ];
    if r.stability.is_some() {
        notes.push(
            "The agreement of seeds is Kendall's τ-b of the order of the trained arms, averaged over pairs of seeds: \
             1 means the same order with each seed, 0 means agreement by chance."
                .to_string(),
        );
    }
    if r.has_range() {
        notes.push(
            "The random and the oracle baseline use the same connector, language model and recipe as all arms; they \
             are not ranked. A normalised score is (score − random) / (oracle − random), with the same images drawn \
             for all three. For a category or the average it is computed from the mean scores. It is missing where \
             the oracle is not separably above the random baseline."
                .to_string(),
        );
    }
    if r.categories.contains(&Category::CONVERSATION) && r.categories.len() > 1 {
        notes.push(
            "The category Conversation is not part of the average: its scores are overlaps of words with reference \
             answers, and the Cambrian-1 paper has no such category."
                .to_string(),
        );
    }
    if r.categories.iter().any(|c| !Category::CAMBRIAN.contains(c)) {
        notes.push("Some categories are not among the four of the Cambrian-1 paper.".to_string());
    }
    notes.extend(r.left_out.iter().map(|why| format!("{why}.")));
    notes
}

/// Returns versions, digests, devices and dates of the runs; where runs differ, every value.
pub(super) fn provenance(study: &StudyData) -> Vec<(String, String)> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |key: String, value: &str| {
        found.entry(key).or_default().insert(value.to_string());
    };
    for run in study.runs.iter().map(|r| &r.results) {
        add("connector".into(), &run.run.connector);
        add("language model".into(), &run.run.llm);
        add("device".into(), &run.device);
        run.versions.iter().for_each(|(k, v)| add(format!("version of {k}"), v));
        run.digests.iter().for_each(|(k, v)| add(format!("digest of {k}"), v));
    }
    let mut all: Vec<(String, String)> =
        found.into_iter().map(|(k, v)| (k, v.into_iter().collect::<Vec<_>>().join(", "))).collect();
    let dates: BTreeSet<&str> = study.runs.iter().map(|r| r.results.date.as_str()).collect();
    if let (Some(first), Some(last)) = (dates.first(), dates.last()) {
        all.push(("finished".into(), if first == last { first.to_string() } else { format!("{first} to {last}") }));
    }
    all
}
