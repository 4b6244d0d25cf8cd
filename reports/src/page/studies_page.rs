//! The page that lists studies, with the state of their runs and the average of each arm.

use super::template;
use burgess_base::Result;
use serde::Serialize;

/// A study in the list.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StudyEntry {
    /// Name of the study, as its directory is called.
    pub name: String,
    /// Title of the study; empty if it has none beside its name.
    pub title: String,
    /// Address of the study's page.
    pub address: String,
    /// Directory of the study.
    pub directory: String,
    /// How many runs are in each state, such as ("done", 6).
    pub states: Vec<(String, usize)>,
    /// Number of finished runs; without one the study has no page.
    pub finished: usize,
    /// The arms, best first.
    pub arms: Vec<ArmAverage>,
    /// What runs that are not finished are doing, and why runs failed, as sentences.
    pub notes: Vec<String>,
    /// Why the study cannot be read; empty if it can.
    pub problem: String,
}

/// An arm in the list, with the mean of its finished runs' averages.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ArmAverage {
    /// Name of the arm.
    pub arm: String,
    /// Mean of the averages of the finished runs, in percent; `None` if no run is finished.
    pub average: Option<f64>,
    /// Number of finished runs.
    pub seeds: usize,
}

#[derive(Serialize)]
struct PageValues<'a> {
    style: String,
    directory: &'a str,
    studies: &'a [StudyEntry],
    version: &'a str,
}

/// Renders the page that lists the studies below `directory`. It loads `/view.js`, which loads the page again after
/// changes.
///
/// # Errors
/// The template cannot be filled.
pub fn studies_page(directory: &str, studies: &[StudyEntry]) -> Result<String> {
    let style = format!("{}{}", template::style(), include_str!("../../templates/studies.css"));
    template::render("studies.html", &PageValues { style, directory, studies, version: env!("CARGO_PKG_VERSION") })
}
