//! The page section that compares direct probes with answers.

use crate::figure;
use crate::formatting;
use crate::stats::Estimate;
use crate::validity::ProbeValidity;
use serde::Serialize;

/// The values that fill the template.
#[derive(Serialize)]
pub(super) struct ValiditySection {
    said: Vec<String>,
    broad: String,
    narrow: String,
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
    n: usize,
    arms: usize,
    tau: String,
    interval: String,
    read: String,
}

/// One attribute of one arm.
#[derive(Serialize)]
struct ProbeRow {
    attribute: String,
    label: String,
    linear: (String, String),
    knn: (String, String),
    answers: (String, String),
}

pub(super) fn shown(v: &ProbeValidity) -> ValiditySection {
    let said: Vec<String> = v.attributes.iter().map(figure::validity_in_words).collect();
    let overall = |width: f64, where_: &str| {
        let title = format!("Direct probes and answers{where_}");
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
