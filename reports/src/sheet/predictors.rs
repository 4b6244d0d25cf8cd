//! Reports on predictors as CSV, Markdown and LaTeX.

use super::{Sheet, SheetCell, SheetRow, csv_number, csv_text};
use crate::predictors::published::{LINEAR_PROBE_TABLE, PublishedPrediction};
use crate::predictors::{ArmValue, PredictorReport};
use crate::predictors::{agreement_cells, value_cell};

/// Formats a report as CSV: one row per predictor and arm with its value or the reason why there is none, and one per
/// predictor with its agreement.
pub fn predictors_csv(report: &PredictorReport) -> String {
    let mut text = "study,predictor,better,arm,role,score,value,detail,missing,n,spearman,spearman_low,spearman_high,\
                    kendall,kendall_low,kendall_high,p,p_adjusted,regret,loo_r2\n"
        .to_string();
    for compared in &report.predictors {
        let predictor = &compared.values.predictor;
        let first = [csv_text(&report.study), csv_text(&predictor.id), predictor.better.as_str().replace('–', "")];
        for (arm, value) in report.arms.iter().zip(&compared.values.values) {
            let score = arm.score.map_or(String::new(), |s| csv_number(s.value));
            let (number, detail, missing) = match value {
                ArmValue::Known { value, detail } => (csv_exact(*value), csv_text(detail), String::new()),
                ArmValue::Missing { missing } => (String::new(), String::new(), csv_text(missing)),
            };
            let role = serde_json::to_value(arm.role).ok();
            let role = role.as_ref().and_then(|r| r.as_str()).unwrap_or_default().to_string();
            let cells = [csv_text(&arm.arm), role, score, number, detail, missing];
            let blank = std::iter::repeat_n(String::new(), 11);
            text += &(first.iter().cloned().chain(cells).chain(blank).collect::<Vec<_>>().join(",") + "\n");
        }
        let blank = std::iter::repeat_n(String::new(), 5);
        let missing = csv_text(compared.no_agreement.as_deref().unwrap_or_default());
        let numbers = compared.agreement.as_ref().map_or(vec![String::new(); 11], |a| {
            let (rho, tau) = (&a.spearman, &a.kendall);
            let regret = a.pick.as_ref().map_or(f64::NAN, |pick| pick.regret);
            let values = [rho.value, rho.low, rho.high, tau.value, tau.low, tau.high, a.p, a.p_adjusted, regret];
            let n = std::iter::once(a.n.to_string());
            n.chain(values.into_iter().chain([a.loo_r2.unwrap_or(f64::NAN)]).map(csv_number)).collect()
        });
        let cells = first.into_iter().chain(blank).chain([missing]).chain(numbers);
        text += &(cells.collect::<Vec<_>>().join(",") + "\n");
    }
    text
}

/// Formats a number with all its digits, because values of predictors differ in scale.
fn csv_exact(x: f64) -> String {
    if x.is_finite() { (x + 0.0).to_string() } else { String::new() }
}

/// Returns the agreement of the predictors with the ranking, and their values by arm.
pub fn predictors_sheets(report: &PredictorReport) -> Vec<Sheet> {
    let header = ["predictor", "better", "n", "ρ", "τ-b", "p", "picks", "regret", "LOO R²"];
    let rows = report.predictors.iter().filter_map(|c| {
        let agreement = c.agreement.as_ref()?;
        let bold = agreement.p_adjusted < 0.05;
        let cells = agreement_cells(c, agreement).into_iter();
        Some(cells.map(|text| SheetCell { text, bold }).collect::<SheetRow>())
    });
    let agreement = Sheet {
        caption: format!(
            "Predictors of the scores of {}: agreement with the ranking of the trained arms, with {:.0} % intervals \
             over arms.",
            report.study,
            100.0 * report.confidence
        ),
        label: format!("{}-predictors", report.study),
        header: header.map(String::from).to_vec(),
        texts: 2,
        groups: vec![rows.collect()],
        notes: report.conclusions.clone(),
    };
    let mut header: Vec<String> = vec!["predictor".into(), "better".into()];
    header.extend(report.arms.iter().map(|arm| arm.label.clone()));
    let scores = report.arms.iter().map(|arm| arm.score.map_or("–".to_string(), |s| format!("{:.1}", s.value)));
    let scores = ["score".to_string(), "higher".to_string()].into_iter().chain(scores).map(SheetCell::from).collect();
    let rows = report.predictors.iter().map(|c| {
        let first = [c.values.predictor.name.clone(), c.values.predictor.better.as_str().to_string()];
        first.into_iter().chain(c.values.values.iter().map(value_cell)).map(SheetCell::from).collect()
    });
    let values = Sheet {
        caption: format!("Values of the predictors for the arms of {}.", report.study),
        label: format!("{}-predictor-values", report.study),
        header,
        texts: 2,
        groups: vec![vec![scores], rows.collect()],
        notes: report.notes.clone(),
    };
    if report.predictors.iter().any(|c| c.agreement.is_some()) { vec![agreement, values] } else { vec![values] }
}

/// Formats the correlations with the published tables as CSV: one row per table and scope.
pub fn published_prediction_csv(p: &PublishedPrediction) -> String {
    let mut text = "file,scope,n,pearson,pearson_low,pearson_high,spearman,kendall,loo_r2,regret,winner\n".to_string();
    for table in &p.tables {
        for s in &table.scopes {
            let loo = s.loo_r2.unwrap_or(f64::NAN);
            let numbers = [s.pearson, s.interval.0, s.interval.1, s.spearman, s.kendall, loo, s.regret].map(csv_number);
            let first = [csv_text(&table.file), csv_text(s.scope), table.n.to_string()];
            let cells = first.into_iter().chain(numbers).chain([csv_text(&s.winner)]);
            text += &(cells.collect::<Vec<_>>().join(",") + "\n");
        }
    }
    text
}

/// Returns the correlations with the published tables: r and, in brackets, ρ.
pub fn published_prediction_sheet(p: &PublishedPrediction) -> Sheet {
    let mut header = vec!["table".to_string()];
    header.extend(p.tables.first().into_iter().flat_map(|t| t.scopes.iter().map(|s| s.scope.to_string())));
    let row = |t: &crate::predictors::published::TableCorrelations| {
        let cells = t.scopes.iter().map(|s| format!("{:.2} ({:.2})", s.pearson, s.spearman));
        std::iter::once(t.about.clone()).chain(cells).map(SheetCell::from).collect()
    };
    Sheet {
        caption: format!(
            "ImageNet-1k linear-probe accuracy ({LINEAR_PROBE_TABLE}) against the scores of Cambrian-1: Pearson r \
             (Spearman ρ), n = {}.",
            p.encoders.len()
        ),
        label: "cambrian-1-linear-probe".to_string(),
        header,
        texts: 1,
        groups: vec![p.tables.iter().map(row).collect()],
        notes: p.sentences(),
    }
}
