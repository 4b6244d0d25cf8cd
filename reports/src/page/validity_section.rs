//! The page section that compares direct probes with answers.

use crate::figure;
use crate::formatting;
use crate::stats::Estimate;
use crate::validity::ProbeValidity;
use serde::Serialize;

/// The values that fill the template.
#[derive(Serialize)]
pub(super) struct ValiditySection {
    /// Conclusions, one sentence each.
    said: Vec<String>,
    /// Figure of all attributes for wide screens, as SVG.
    broad: String,
    /// The same figure for narrow screens.
    narrow: String,
    /// One figure per attribute, as SVG.
    panels: Vec<String>,
    attributes: Vec<AttributeRow>,
    rows: Vec<ProbeRow>,
}

/// One attribute over all arms.
#[derive(Serialize)]
struct AttributeRow {
    /// CSS class of its points.
    class: String,
    attribute: String,
    questions: String,
    /// Number of questions.
    n: usize,
    /// Number of arms.
    arms: usize,
    /// Kendall's τ between the orders of the arms by probe and by answers.
    tau: String,
    /// Confidence interval of `tau`.
    interval: String,
    /// Fraction of the probe's accuracy that the answers reach, in percent.
    read: String,
}

/// One attribute of one arm.
#[derive(Serialize)]
struct ProbeRow {
    attribute: String,
    label: String,
    /// Accuracy of the linear probe, and its interval.
    linear: (String, String),
    /// Accuracy of the nearest-neighbour probe, and its interval.
    knn: (String, String),
    /// Accuracy of the answers, and its interval.
    answers: (String, String),
}

/// Formats the comparison for the template.
pub(super) fn shown(v: &ProbeValidity) -> ValiditySection {
    let said: Vec<String> = v.attributes.iter().map(figure::validity_in_words).collect();
    let overall = |width: f64, suffix: &str| {
        let title = format!("Direct probes and answers{suffix}");
        figure::validity_figure(v, width).inline(&title, &said.join(". "))
    };
    let panels = v.attributes.iter().enumerate().zip(&said).map(|((n, a), said)| {
        figure::attribute_panel(a, n).inline(&format!("Probe and answers: {} by {}", a.attribute, a.questions), said)
    });
    let two = |p: &Estimate| (format!("{:.1}", p.value), format!("{:.1}–{:.1}", p.low, p.high));
    let attributes = v.attributes.iter().enumerate().map(|(n, a)| AttributeRow {
        class: figure::attribute_classes(n).0,
        attribute: a.attribute.clone(),
        questions: a.questions.clone(),
        n: a.n,
        arms: a.arms.len(),
        tau: formatting::correlation(a.tau.map(|t| t.tau)),
        interval: a.tau.map_or(String::new(), |t| {
            format!("{} to {}", formatting::correlation(Some(t.low)), formatting::correlation(Some(t.high)))
        }),
        read: a.read.map_or("–".to_string(), formatting::percent),
    });
    let rows = v.attributes.iter().flat_map(|a| {
        a.arms.iter().map(move |arm| ProbeRow {
            attribute: a.attribute.clone(),
            label: arm.label.clone(),
            linear: two(&arm.probe),
            knn: two(&arm.knn),
            answers: two(&arm.answers),
        })
    });
    ValiditySection {
        said: v.conclusions(),
        broad: overall(640.0, ""),
        narrow: overall(figure::PANEL, ", narrow"),
        panels: panels.collect(),
        attributes: attributes.collect(),
        rows: rows.collect(),
    }
}
