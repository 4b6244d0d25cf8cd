//! Reports on predictors as terminal text.

use super::agreement::Agreement;
use super::content::{ArmValue, ComparedPredictor, PredictorReport};
use super::published::PublishedPrediction;
use crate::formatting::{self, correlation};
use crate::stats::Estimate;
use crate::table::{align, paragraph_into, ruled, styled};
use comfy_table::Attribute;

/// Width of a name of an arm in the table of values.
const NAME: usize = 26;
/// Width from which the table of agreement has room for both intervals.
const WIDE: usize = 120;
/// Column of Spearman's ρ in [`agreement_cells`].
const RHO: usize = 3;
/// Width of a column of the table of values.
const COLUMN: usize = 11;

/// Formats a report as text of at most `width` columns: the agreement of each predictor with the ranking, the values,
/// and the conclusions. `color` makes agreement beyond chance bold.
pub fn predictors_text(report: &PredictorReport, width: usize, color: bool) -> String {
    let mut text = String::new();
    if report.predictors.iter().any(|c| c.agreement.is_some()) {
        let n = report.compared_arms().len();
        let title = format!(
            "Agreement with the ranking of {} trained arms; intervals: {:.0} %, over arms",
            n,
            100.0 * report.confidence
        );
        paragraph_into(&mut text, width, "", "", &title);
        text += &agreement_table(report, width, color);
        let legend = "ρ: Spearman, τ-b: Kendall, positive if the predictor is right about the better direction; p: \
                      permutation test of τ-b; regret: points lost by taking the arm that the predictor picks; LOO R²: \
                      of leave-one-out predictions, below 0 if the mean predicts better.";
        paragraph_into(&mut text, width, "", "", legend);
        text.push('\n');
    }
    text += &value_tables(report, width, color);
    for note in &report.notes {
        paragraph_into(&mut text, width, "", "  ", note);
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for sentence in &report.conclusions {
        paragraph_into(&mut text, width, "- ", "  ", sentence);
    }
    text
}

fn agreement_table(report: &PredictorReport, width: usize, color: bool) -> String {
    let mut table = ruled(Some(width), color);
    table.set_header(["predictor", "better", "n", "ρ", "τ-b", "p", "picks", "regret", "LOO R²"]);
    for compared in &report.predictors {
        let Some(agreement) = &compared.agreement else { continue };
        let bold = color && agreement.p_adjusted < 0.05;
        let mut cells = agreement_cells(compared, agreement);
        if let (true, Some(rho)) = (width < WIDE, cells.get_mut(RHO)) {
            *rho = correlation(Some(agreement.spearman.value));
        }
        table.add_row(cells.into_iter().map(|text| styled(text, bold.then_some(Attribute::Bold))));
    }
    align(&mut table, 0);
    table.trim_fmt() + "\n"
}

/// Cells of a predictor's row in tables of agreement.
pub(crate) fn agreement_cells(compared: &ComparedPredictor, agreement: &Agreement) -> Vec<String> {
    let predictor = &compared.values.predictor;
    let (picked, regret) = match &agreement.pick {
        Some(pick) => (formatting::short_list(&pick.arms, 1), format!("{:.1}", pick.regret)),
        None => ("–".into(), "–".into()),
    };
    vec![
        predictor.name.clone(),
        predictor.better.as_str().to_string(),
        agreement.n.to_string(),
        estimate(&agreement.spearman),
        estimate(&agreement.kendall),
        if agreement.p < 0.001 { "<0.001".into() } else { format!("{:.3}", agreement.p) },
        picked,
        regret,
        match agreement.loo_r2 {
            // A regression on nearly equal values can be off by any factor.
            Some(r2) if r2 < -9.99 => "<−9.99".to_string(),
            r2 => correlation(r2),
        },
    ]
}

fn estimate(e: &Estimate) -> String {
    match e.low.is_finite() && e.high.is_finite() {
        true => {
            format!("{} [{}, {}]", correlation(Some(e.value)), correlation(Some(e.low)), correlation(Some(e.high)))
        }
        false => correlation(Some(e.value)),
    }
}

/// Formats the value of a predictor; a dash if it is missing.
pub(crate) fn value_cell(value: &ArmValue) -> String {
    let Some(v) = value.value() else { return "–".to_string() };
    let text = match v.abs() {
        a if a >= 1000.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 0.1 || a == 0.0 => format!("{v:.3}"),
        a if a >= 0.001 => format!("{v:.4}"),
        _ => format!("{v:.1e}"),
    };
    text.replace('-', "−")
}

/// The values of all predictors by arm, in as many tables below one another as the width needs.
fn value_tables(report: &PredictorReport, width: usize, color: bool) -> String {
    let side = (width.saturating_sub(NAME + 10) / COLUMN).max(1);
    let shown: Vec<&ComparedPredictor> =
        report.predictors.iter().filter(|c| c.values.values.iter().any(|v| v.value().is_some())).collect();
    let mut text = String::new();
    for part in shown.chunks(side) {
        let mut table = ruled(Some(width), color);
        let names = part.iter().map(|c| c.values.predictor.name.clone());
        table.set_header(["arm".to_string(), "score".to_string()].into_iter().chain(names));
        for (i, arm) in report.arms.iter().enumerate() {
            let score = arm.score.map_or("–".to_string(), |s| format!("{:.1}", s.value));
            let values = part.iter().map(|c| c.values.values.get(i).map_or("–".to_string(), value_cell));
            table.add_row([arm.label.clone(), score].into_iter().chain(values).map(|text| styled(text, None)));
        }
        align(&mut table, 0);
        text += &(table.trim_fmt() + "\n\n");
    }
    text
}

/// Formats the correlations of linear-probe accuracies with the published tables: r and, in brackets, ρ.
pub fn published_text(p: &PublishedPrediction, width: usize, color: bool) -> String {
    let mut text = String::new();
    let title = format!(
        "ImageNet-1k linear-probe accuracy of {} encoders ({}) against their scores in Cambrian-1: Pearson r \
         (Spearman ρ)",
        p.encoders.len(),
        super::published::LINEAR_PROBE_TABLE
    );
    paragraph_into(&mut text, width, "", "", &title);
    let mut table = ruled(Some(width), color);
    let scopes = p.tables.first().map(|t| t.scopes.iter().map(|s| s.scope.to_string()).collect::<Vec<_>>());
    table.set_header(["table".to_string()].into_iter().chain(scopes.unwrap_or_default()));
    for t in &p.tables {
        let cells = t.scopes.iter().map(|s| format!("{:.2} ({:.2})", s.pearson, s.spearman));
        table.add_row([t.about.clone()].into_iter().chain(cells).map(|text| styled(text, None)));
    }
    align(&mut table, 0);
    text += &(table.trim_fmt() + "\n\n");
    for sentence in p.sentences() {
        paragraph_into(&mut text, width, "- ", "  ", &sentence);
    }
    text
}
