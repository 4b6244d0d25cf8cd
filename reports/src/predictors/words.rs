//! The conclusions of a report on predictors, as sentences.

use super::content::{ComparedPredictor, PredictorReport};
use super::regression::fisher_interval;
use crate::formatting::{self, correlation, count, list};

/// Level below which an adjusted p-value counts as agreement.
const LEVEL: f64 = 0.05;
/// Number of arms up to which the report says what intervals they allow.
const FEW: usize = 30;

/// Formulates the conclusions of a report.
pub(super) fn conclusions(report: &PredictorReport) -> Vec<String> {
    let mut said = Vec::new();
    let arms = report.compared_arms();
    if arms.is_empty() {
        said.push(
            "No trained arm has results, so that the predictors are not compared with scores: run the study first."
                .to_string(),
        );
        said.extend(missing(report));
        return said;
    }
    said.extend(picks(report));
    said.extend(tests(report));
    said.extend(few(report, arms.len()));
    said.extend(missing(report));
    said
}

/// Which predictors would have picked the winner, and which another arm.
fn picks(report: &PredictorReport) -> Vec<String> {
    let (mut right, mut wrong, mut none) = (Vec::new(), Vec::new(), Vec::new());
    let mut winner = None;
    for compared in &report.predictors {
        let name = compared.values.predictor.name.clone();
        let Some(agreement) = &compared.agreement else { continue };
        let Some(pick) = &agreement.pick else {
            none.push(name);
            continue;
        };
        winner = winner.or_else(|| Some(pick.winner.clone()));
        match pick.regret <= 0.0 {
            true => right.push(name),
            false => {
                wrong.push(format!("{name} ({}, {:.1} points lower)", list(&pick.arms), pick.regret));
            }
        }
    }
    let mut said = Vec::new();
    if let Some(winner) = winner {
        said.push(match right.is_empty() {
            true => format!("No predictor would have picked the winner, {winner}."),
            false => format!("Would have picked the winner, {winner}: {}.", list(&right)),
        });
    }
    if !wrong.is_empty() {
        said.push(format!("Would have picked another arm: {}.", list(&wrong)));
    }
    if !none.is_empty() {
        said.push(format!("Pick no arm, because no direction is stated for them: {}.", list(&none)));
    }
    said
}

/// Which predictors agree with the ranking beyond chance.
fn tests(report: &PredictorReport) -> Option<String> {
    let compared = report.predictors.iter().filter_map(|c| Some((c, c.agreement.as_ref()?)));
    let compared: Vec<_> = compared.collect();
    if compared.is_empty() {
        return None;
    }
    let tested = count(compared.len(), "predictor");
    let agreeing: Vec<String> = compared
        .iter()
        .filter(|(_, a)| a.p_adjusted < LEVEL)
        .map(|(c, a)| format!("{} (τ {})", c.values.predictor.name, correlation(Some(a.kendall.value))))
        .collect();
    Some(match agreeing.is_empty() {
        true => format!(
            "No predictor is shown to order the arms better than chance: every permutation p, adjusted by Holm's \
             method for {tested}, is at least {LEVEL:.2}."
        ),
        false => format!(
            "Order the arms better than chance (permutation p, adjusted by Holm's method for {tested}, below \
             {LEVEL:.2}): {}.",
            list(&agreeing)
        ),
    })
}

/// What so few arms can show.
fn few(report: &PredictorReport, n: usize) -> Option<String> {
    if n >= FEW {
        return None;
    }
    let percent = 100.0 * report.confidence;
    let smallest = 1.0 / (1..=n).map(|k| k as f64).product::<f64>();
    let mut said = format!("{} with results {} few.", count(n, "trained arm"), if n == 1 { "is" } else { "are" });
    if n >= 2 && smallest > 0.001 {
        said += &format!(" Even a perfect order has {} before the adjustment.", formatting::p_value(smallest));
    }
    match fisher_interval(0.8, n, report.confidence) {
        Some((low, high)) => {
            said += &format!(
                " A correlation of 0.80 over {n} arms has a {percent:.0} % interval of {} to {}.",
                correlation(Some(low)),
                correlation(Some(high))
            );
        }
        None => said += " No interval of a correlation can be stated for fewer than four.",
    }
    said += " The intervals in the table are over arms (bootstrap), without the sampling error of the scores.";
    Some(said)
}

/// Values that are missing, with their reasons; predictors and arms with the same reason together.
fn missing(report: &PredictorReport) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for compared in &report.predictors {
        let mut of: Vec<(&str, Vec<String>)> = Vec::new();
        for (arm, value) in report.arms.iter().zip(&compared.values.values) {
            let Some(reason) = value.reason() else { continue };
            match of.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, arms)) => arms.push(arm.label.clone()),
                None => of.push((reason, vec![arm.label.clone()])),
            }
        }
        for (reason, arms) in of {
            let whom = if arms.len() == report.arms.len() { String::new() } else { format!(" of {}", list(&arms)) };
            let what = format!("{}{whom}", compared.values.predictor.name);
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, all)) => all.push(what),
                None => reasons.push((reason.to_string(), vec![what])),
            }
        }
    }
    let mut said: Vec<String> =
        reasons.into_iter().map(|(reason, what)| format!("Not computed: {}: {reason}.", what.join("; "))).collect();
    said.extend(report.predictors.iter().filter_map(not_compared));
    said
}

/// Why a predictor with values is not compared with the scores.
fn not_compared(compared: &ComparedPredictor) -> Option<String> {
    let reason = compared.no_agreement.as_ref()?;
    let has_values = compared.values.values.iter().any(|v| v.value().is_some());
    has_values.then(|| format!("Not compared: {}: {reason}.", compared.values.predictor.name))
}
