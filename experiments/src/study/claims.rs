//! Checks that the claims of a study refer to what it measures.

use burgess_base::{Error, Result};
use burgess_probe::bench;
use burgess_reports::check::Claims;
use burgess_reports::validity::ProbePair;

/// Checks that a study's claims, and its pairs of probes and questions, refer to benchmarks that it asks.
///
/// # Errors
/// One of them refers to a benchmark that the study does not ask; the error names table and key.
pub fn check(claims: &Claims, pairs: &[ProbePair], benchmarks: &[String]) -> Result<()> {
    let mut categories = Vec::new();
    for id in benchmarks {
        let category = bench::find(id)?.category().clone();
        if !categories.contains(&category) {
            categories.push(category);
        }
    }
    if let Some(unknown) = claims.every_arm_beats_random.iter().find(|c| !categories.contains(c)) {
        return Err(Error::usage(format!(
            "[check]: `every_arm_beats_random`: no benchmark of the study is of the category {unknown}"
        ))
        .hint(format!("its categories are {}", categories.join(", "))));
    }
    if let Some(pair) = pairs.iter().find(|pair| !benchmarks.contains(&pair.benchmark)) {
        return Err(Error::usage(format!("[[validity]]: the study does not ask the benchmark {}", pair.benchmark))
            .hint(format!("its benchmarks are {}", benchmarks.join(", "))));
    }
    let attributes: Vec<&str> = pairs.iter().map(|pair| pair.attribute.as_str()).collect();
    match claims.reads_of_probe.keys().find(|attribute| !attributes.contains(&attribute.as_str())) {
        Some(unknown) => Err(Error::usage(format!(
            "[check]: `reads_of_probe`: no [[validity]] table is about {unknown}"
        ))
        .hint(match attributes.is_empty() {
            true => "add [[validity]] with attribute, benchmark and subtask".to_string(),
            false => format!("their attributes are {}", attributes.join(", ")),
        })),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::study::config::{BUILT_IN, StudyConfig};

    #[test]
    fn claims_about_what_a_study_does_not_measure_are_refused() {
        let nano = BUILT_IN.iter().find(|(n, _)| *n == "nano").map_or("", |(_, t)| *t);
        for (from, to, said) in [
            (
                "[\"General\", ",
                "[\"Generl\", ",
                "[check]: `every_arm_beats_random`: no benchmark of the study is of the category Generl",
            ),
            (
                "attribute = \"colour\"",
                "attribute = \"hue\"",
                "[check]: `reads_of_probe`: no [[validity]] table is about colour",
            ),
            (
                "benchmark = \"nano-cvbench-3d\"",
                "benchmark = \"mme\"",
                "[[validity]]: the study does not ask the benchmark mme",
            ),
            ("oracle_reaches", "oracle_reach", "oracle_reach"),
        ] {
            assert!(nano.contains(from), "{from}");
            let e = StudyConfig::parse(&nano.replacen(from, to, 1)).expect_err(to);
            assert!(e.exit_code() == 2 && e.hint_text().is_some() && e.to_string().contains(said), "{to}: {e}");
        }
    }
}
