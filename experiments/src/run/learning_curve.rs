//! Learning curve of a study: its arms trained on fractions of the training data. Each fraction has a directory below
//! the study's and is resumed like any study; all use the cached features of the whole study.

use crate::machine::progress::Progress;
use crate::run::ranking::{self, StudyOutcome};
use crate::run::study_runs::{self, StudyOptions};
use crate::study::StudyConfig;
use burgess_base::{Error, Result};
use burgess_reports::answers::ImageMode;
use burgess_reports::learning::DataShare;

/// Checks and sorts the fractions, and adds 1, which stands for the study's own runs.
///
/// # Errors
/// A fraction is not above 0 and at most 1.
pub fn fractions(given: &[f64]) -> Result<Vec<f64>> {
    if let Some(wrong) = given.iter().find(|share| !(**share > 0.0 && **share <= 1.0)) {
        return Err(Error::usage(format!("learning curve: {wrong} is not a fraction above 0 and at most 1"))
            .hint("give fractions as in 0.125,0.25,0.5,1"));
    }
    let mut shares: Vec<f64> = given.iter().copied().chain([1.0]).collect();
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    Ok(shares)
}

/// Returns the study with a fraction of its training data.
pub fn with_fraction(study: &StudyConfig, share: f64) -> StudyConfig {
    let mut part = study.clone();
    part.evaluator.share = Some(share * study.evaluator.share.unwrap_or(1.0)).filter(|share| *share < 1.0);
    part
}

/// Runs the study's arms on every fraction, continuing where an earlier call stopped, and writes the report.
///
/// # Errors
/// As [`ranking::rank_study`].
pub fn rank_fractions(
    study: &StudyConfig,
    given: &[f64],
    options: &StudyOptions,
    progress: &Progress,
) -> Result<StudyOutcome> {
    if let Some(arm) = study.arms.iter().find(|arm| arm.mix.is_some()) {
        return Err(Error::usage(format!(
            "learning curve: the arm {} has a mix, so that the arms have no common number of samples",
            arm.name()
        ))
        .hint("give the arms mixes with another `total` in their ratios, and compare these"));
    }
    let dir = options.out.join(&study.name);
    let (mut runs, mut failed) = (0, 0);
    for share in fractions(given)? {
        let directory = if share < 1.0 { DataShare::dir(&dir, share) } else { dir.clone() };
        progress.line(&format!("learning curve: {share} of the training data, in {}", directory.display()));
        let counts = study_runs::run_study(&directory, &with_fraction(study, share), options, progress)?;
        (runs, failed) = (runs + counts.runs, failed + counts.failures.len());
        let (align, tune) = counts.samples;
        DataShare { share, align, tune }.write(&dir)?;
    }
    let mut outcome = ranking::report(&dir, None, None, ImageMode::Auto)?;
    (outcome.runs, outcome.failed) = (runs, failed);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_reports::learning::DataShare;
    use std::path::Path;

    #[test]
    fn shares_are_fractions_and_all_of_the_data_is_one() -> Result<()> {
        assert_eq!(fractions(&[0.5, 0.125, 0.5])?, [0.125, 0.5, 1.0]);
        assert_eq!(fractions(&[1.0])?, [1.0]);
        for wrong in [0.0, -0.5, 1.5, f64::NAN] {
            assert_eq!(fractions(&[0.5, wrong]).unwrap_err().exit_code(), 2, "{wrong}");
        }
        let study = StudyConfig::open("nano")?;
        assert_eq!(with_fraction(&study, 0.25).evaluator.share, Some(0.25));
        assert_eq!(with_fraction(&study, 1.0).evaluator.share, None, "the study's own runs");
        assert_eq!(DataShare::dir(Path::new("runs/nano"), 0.125), Path::new("runs/nano/learning-curve/0.125"));
        Ok(())
    }
}
