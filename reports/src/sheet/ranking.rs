//! A ranking as CSV, and as tables for Markdown and LaTeX.

use super::{Sheet, SheetCell, SheetRow, csv_number, csv_text};
use crate::answer_style::style_sheet;
use crate::formatting;
use crate::ranking::{AVERAGE, ArmScore, ComparedBenchmark, RankedArm, Ranking, TestFamily};
use crate::schema::ArmRole;
use crate::stats;

/// Columns of [`ranking_csv`].
const COLUMNS: &str = "study,arm,role,encoders,freeze,seeds,rank,rank_low,rank_high,p_best,scope,kind,category,score,low,\
    high,chance,blind,blind_low,blind_high,gain_low,gain_high,normalised,normalised_low,normalised_high,questions,units,\
    unparsed,published";

/// Formats rankings as CSV: one row per arm and scope (the average, the categories, the benchmarks); scores are in
/// percent. The baselines have the roles `random` and `oracle` and no rank.
pub fn ranking_csv(rankings: &[&Ranking]) -> String {
    let mut text = format!("{COLUMNS}\n");
    for r in rankings {
        for arm in &r.arms {
            let mut add = |scope: &str, kind: &str, category: &str, of: &[&ComparedBenchmark]| {
                if let Some(score) = arm.score(scope) {
                    text += &(csv_row(r, arm, score, [scope, kind, category], of).join(",") + "\n");
                }
            };
            let all: Vec<&ComparedBenchmark> = r.benchmarks.iter().collect();
            add(AVERAGE, "average", "", &all);
            for c in &r.categories {
                let of: Vec<&ComparedBenchmark> = all.iter().copied().filter(|b| b.category == *c).collect();
                add(c, "category", c, &of);
            }
            all.iter().for_each(|b| add(&b.name, "benchmark", &b.category, &[b]));
        }
    }
    text
}

fn role(arm: &RankedArm) -> &'static str {
    match arm.role {
        ArmRole::Trained => "trained",
        ArmRole::Random => "random",
        ArmRole::Oracle => "oracle",
    }
}

fn csv_row(
    r: &Ranking,
    arm: &RankedArm,
    s: &ArmScore,
    [scope, kind, category]: [&str; 3],
    benchmarks: &[&ComparedBenchmark],
) -> Vec<String> {
    let count = |n: Option<usize>| n.map_or(String::new(), |n| n.to_string());
    let number = |x: Option<f64>| x.map_or(String::new(), csv_number);
    let mut cells = vec![
        csv_text(&r.study),
        csv_text(&arm.arm),
        role(arm).to_string(),
        csv_text(&arm.encoders.join("+")),
        csv_text(&arm.freeze),
        arm.seeds.len().to_string(),
        count(arm.place.map(|p| p.rank)),
        count(arm.place.map(|p| p.rank_low)),
        count(arm.place.map(|p| p.rank_high)),
        number(arm.place.map(|p| p.p_best)),
        csv_text(scope),
        kind.to_string(),
        csv_text(category),
    ];
    cells.extend([s.score, s.low, s.high, s.chance, s.blind, s.blind_low, s.blind_high].map(csv_number));
    cells.extend([s.gain_low, s.gain_high].map(csv_number));
    let normalised = s.normalised;
    cells.extend([normalised.map(|n| n.value), normalised.map(|n| n.low), normalised.map(|n| n.high)].map(number));
    cells.push(benchmarks.iter().map(|b| b.n).sum::<usize>().to_string());
    cells.push(benchmarks.iter().map(|b| b.units).sum::<usize>().to_string());
    let unparsed = benchmarks.iter().filter_map(|b| arm.answers.get(&b.name)).map(|a| a.unparsed).sum::<usize>();
    cells.push(unparsed.to_string());
    cells.push(number(arm.published.filter(|_| scope == AVERAGE)));
    cells
}

/// Returns a ranking as tables: average and categories, then the benchmarks of each category, then how the models
/// answer open questions.
pub fn ranking_sheets(r: &Ranking) -> Vec<Sheet> {
    let mut sheets = vec![summary(r)];
    sheets.extend(r.categories.iter().map(|c| of_category(r, c)));
    sheets.extend(r.answer_style.as_ref().map(|style| style_sheet(style, &r.named_arms(), &r.study)));
    sheets
}

/// Formats a score with half the width of its interval, or with both ends if the interval is asymmetric (one side more
/// than twice the other).
fn score(s: &ArmScore) -> String {
    let (below, above) = (s.score - s.low, s.high - s.score);
    if above.max(below) > 2.0 * above.min(below) + 0.1 {
        return format!("{:.1} ({:.1}–{:.1})", s.score, s.low, s.high);
    }
    format!("{:.1} ± {:.1}", s.score, s.half_width())
}

/// Whether an arm leads a scope, or is not separable from the leader.
fn leads(r: &Ranking, arm: &RankedArm, scope: &str) -> bool {
    let Some(first) = r.order(scope).first().map(|a| a.arm.clone()) else { return false };
    first == arm.arm || r.tests(TestFamily::Leader, scope).any(|t| t.b == arm.arm && !t.separable)
}

fn summary(r: &Ranking) -> Sheet {
    let mut header: Vec<String> = ["rank", "arm", "average"].map(String::from).to_vec();
    header.extend(r.has_published().then(|| "published".to_string()));
    header.extend(r.categories.iter().map(|c| c.to_string()));
    header.push("blind".into());
    let row = |arm: &RankedArm| -> SheetRow {
        let rank = arm.place.map_or_else(|| "–".to_string(), |p| formatting::range(p.rank_low, p.rank_high));
        let mut cells = vec![SheetCell::from(rank), SheetCell::from(arm.row_name())];
        let scored = |scope: &str| SheetCell {
            text: arm.score(scope).map_or("–".to_string(), score),
            bold: arm.role == ArmRole::Trained && r.trained().count() > 1 && leads(r, arm, scope),
        };
        cells.push(scored(AVERAGE));
        let published = arm.published.map_or("–".to_string(), |p| format!("{p:.2}"));
        cells.extend(r.has_published().then(|| SheetCell::from(published)));
        cells.extend(r.categories.iter().map(|c| scored(c)));
        cells.push(format!("{:.1}", arm.average.blind).into());
        cells.into_iter().collect()
    };
    let mean = |scope: &str, of: fn(&ArmScore) -> f64| mean(r, scope, of);
    let foot = |name: &str, of: fn(&ArmScore) -> f64| -> SheetRow {
        let mut cells = vec![SheetCell::from("–"), name.into(), mean(AVERAGE, of)];
        cells.extend(r.has_published().then(|| SheetCell::from("–")));
        cells.extend(r.categories.iter().map(|c| mean(c, of)));
        cells.push("–".into());
        cells.into_iter().collect()
    };
    let percent = 100.0 * r.confidence;
    let mut notes = vec![
        format!(
            "Rank: {percent:.0} % interval of the rank. ±: half the width of the interval. Bold: the highest score and \
             those that are not separable from it (separable: the interval of the paired difference excludes 0 and the \
             adjusted p of the sign-flip test is below {:.2}).",
            1.0 - r.confidence
        ),
        r.uncertainty.clone(),
    ];
    notes.extend(r.warnings.iter().map(|w| format!("Warning: {w}")));
    notes.extend(r.missing.iter().map(|m| format!("Not ranked: {} (seed {}): {}.", m.arm, m.seed, m.cause)));
    notes.extend(r.left_out.iter().map(|w| format!("{}.", formatting::capitalised(w))));
    Sheet {
        caption: format!("Ranking of the study {}: average and categories, in percent.", r.study),
        label: format!("{}-ranking", r.study),
        header,
        texts: 2,
        groups: vec![
            r.trained().map(row).collect(),
            r.baselines().map(row).collect(),
            vec![foot("chance", |s| s.chance), foot("blind (mean of arms)", |s| s.blind)],
        ],
        notes,
    }
}

/// Returns the mean of a value over the compared arms.
fn mean(r: &Ranking, scope: &str, of: fn(&ArmScore) -> f64) -> SheetCell {
    let values: Vec<f64> = r.compared().iter().filter_map(|a| a.score(scope)).map(of).collect();
    stats::mean(&values).map_or("–".to_string(), formatting::score).into()
}

fn of_category(r: &Ranking, category: &str) -> Sheet {
    let names: Vec<&str> =
        r.benchmarks.iter().filter(|b| b.category.as_str() == category).map(|b| b.name.as_str()).collect();
    let row = |arm: &&RankedArm| -> SheetRow {
        let scores = names.iter().map(|n| SheetCell::from(arm.score(n).map_or("–".to_string(), score)));
        std::iter::once(SheetCell::from(arm.row_name())).chain(scores).collect()
    };
    let foot = |name: &str, of: fn(&ArmScore) -> f64| -> SheetRow {
        std::iter::once(SheetCell::from(name)).chain(names.iter().map(|n| mean(r, n, of))).collect()
    };
    let trained: Vec<&RankedArm> = r.trained().collect();
    let baselines: Vec<&RankedArm> = r.baselines().collect();
    Sheet {
        caption: format!("Benchmarks of the category {category} in the study {}, in percent.", r.study),
        label: format!("{}-{category}", r.study),
        header: std::iter::once("arm".to_string()).chain(names.iter().map(ToString::to_string)).collect(),
        texts: 1,
        groups: vec![
            trained.iter().map(row).collect(),
            baselines.iter().map(row).collect(),
            vec![foot("chance", |s| s.chance), foot("blind (mean of arms)", |s| s.blind)],
        ],
        notes: Vec::new(),
    }
}
