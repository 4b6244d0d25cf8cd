//! The columns of a zoo's table.

use crate::racing::RaceArm;
use crate::ranking::{ArmScore, RankedArm};
use crate::schema::ArmRole;
use crate::sheet::csv_text;
use burgess_base::Category;
use serde::{Deserialize, Serialize};

/// What timm's columns say about the encoders of an arm; for a combination the values of its encoders, joined by `+`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZooModel {
    /// Name of the arm.
    pub arm: String,
    /// Side of the square input of each encoder, in pixels.
    pub img_size: Vec<usize>,
    /// Number of parameters of all encoders.
    pub param_count: u64,
    /// Fraction of the side that remains after the crop, of each encoder.
    pub crop_pct: Vec<f64>,
    /// Resampling filter of each encoder.
    pub interpolation: Vec<String>,
}

/// A row of a zoo's table.
#[derive(Debug, Clone, PartialEq)]
pub struct ZooRow {
    /// What timm's columns say.
    pub model: ZooModel,
    /// Scores, from the ranking of the runs on this fraction of the training data.
    pub arm: RankedArm,
    /// Fraction of the training data of these runs.
    pub share: f64,
    /// Place in the race, if there was one.
    pub race: Option<RaceArm>,
    /// Wall-clock seconds of asking and scoring, with the image and without; the mean over seeds.
    pub answer_seconds: f64,
}

/// Formats rows as CSV. They are sorted by share, largest first, because scores after different amounts of training
/// are not comparable, then as timm sorts them: by average, highest first, then by model. A study without a race has
/// one share, so that its order is timm's.
pub fn zoo_csv(rows: &[ZooRow], categories: &[Category]) -> String {
    let mut rows: Vec<&ZooRow> = rows.iter().collect();
    rows.sort_by(|a, b| {
        let share = b.share.total_cmp(&a.share);
        share.then(b.arm.average.score.total_cmp(&a.arm.average.score)).then_with(|| a.model.arm.cmp(&b.model.arm))
    });
    let mut header = vec!["model".to_string(), "img_size".into()];
    let bounds = |name: &str| [name.to_string(), format!("{name}_low"), format!("{name}_high")];
    header.extend(bounds("average"));
    for category in categories {
        header.extend(bounds(&column(category)));
    }
    let others = [
        "blind",
        "p_best",
        "rank_low",
        "rank_high",
        "param_count",
        "crop_pct",
        "interpolation",
        "freeze",
        "role",
        "seeds",
        "share",
        "dropped_after",
        "p_best_k",
        "gflops",
        "tokens",
        "train_seconds",
        "answer_seconds",
        "images_per_second",
        "peak_memory_gb",
    ];
    header.extend(others.map(String::from));
    let mut text = line(&header);
    for row in rows {
        text += &line(&cells(row, categories));
    }
    text
}

fn cells(row: &ZooRow, categories: &[Category]) -> Vec<String> {
    let (model, arm, cost) = (&row.model, &row.arm, &row.arm.cost);
    let score = |s: Option<&ArmScore>| match s {
        Some(s) => [s.score, s.low, s.high].map(three),
        None => Default::default(),
    };
    let mut cells = vec![model.arm.clone(), joined(&model.img_size, ToString::to_string)];
    cells.extend(score(Some(&arm.average)));
    for category in categories {
        cells.extend(score(arm.categories.get(category.as_str())));
    }
    // A rank among the arms of a smaller rung is no rank of the study.
    let place = arm.place.filter(|_| !row.race.as_ref().is_some_and(|race| race.is_dropped));
    let measured = |x: f64, digits: usize| if x > 0.0 { format!("{x:.digits$}") } else { String::new() };
    cells.extend([
        three(arm.average.blind),
        place.map_or_else(String::new, |p| three(p.p_best)),
        place.map_or_else(String::new, |p| p.rank_low.to_string()),
        place.map_or_else(String::new, |p| p.rank_high.to_string()),
        millions(model.param_count),
        joined(&model.crop_pct, |pct| three(*pct)),
        joined(&model.interpolation, Clone::clone),
        arm.freeze.clone(),
        match arm.role {
            ArmRole::Trained => "trained",
            ArmRole::Random => "random",
            ArmRole::Oracle => "oracle",
        }
        .to_string(),
        arm.seeds.len().to_string(),
        row.share.to_string(),
        row.race.as_ref().filter(|race| race.is_dropped).map_or_else(String::new, |race| race.rung.to_string()),
        row.race.as_ref().map_or_else(String::new, |race| format!("{:.4}", race.p_best_k)),
        measured(cost.gflops_per_image, 3),
        cost.tokens.to_string(),
        measured(cost.train_seconds, 1),
        measured(row.answer_seconds, 1),
        measured(cost.images_per_second, 1),
        measured(cost.peak_memory_bytes as f64 / 1e9, 2),
    ]);
    cells
}

fn line(cells: &[String]) -> String {
    cells.iter().map(|cell| csv_text(cell)).collect::<Vec<_>>().join(",") + "\n"
}

/// Name of a category's column: lower-case letters and digits, with `_` for the rest, as in `ocr_chart`.
fn column(category: &Category) -> String {
    let words = category.as_str().to_lowercase();
    let words: Vec<&str> = words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("_")
}

/// A number with three decimals, as pandas writes timm's with `float_format="%.3f"`.
fn three(x: f64) -> String {
    if x.is_finite() { format!("{x:.3}") } else { String::new() }
}

/// A number of parameters in millions as timm writes it: `{:,.2f}`.
fn millions(parameters: u64) -> String {
    // Python rounds half to even in binary, as Rust's formatting does.
    let text = format!("{:.2}", parameters as f64 / 1e6);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "00"));
    format!("{}.{fraction}", crate::formatting::thousands(whole.parse().unwrap_or(0)))
}

/// Values of the encoders, joined by `+`; one value if all are equal.
fn joined<T: PartialEq>(values: &[T], text: impl Fn(&T) -> String) -> String {
    match values {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => text(first),
        values => values.iter().map(text).collect::<Vec<_>>().join("+"),
    }
}
