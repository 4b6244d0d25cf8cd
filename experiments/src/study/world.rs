//! Checks of the specification of a nano world with a pool of sources.

use crate::study::names;
use burgess_base::{Error, Result};
use burgess_world::dataset::WorldSpec;
use std::collections::BTreeSet;

/// The benchmark that asks the open questions of a world.
const OPEN: &str = "nano-conversation";

/// Checks the sources of a world's pool, and that it has open questions if they are asked.
///
/// # Errors
/// A source has no name, no kind or no conversations, or two have the same name; the error names source and key.
pub fn check(spec: &WorldSpec, benchmarks: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (i, source) in spec.pool.iter().enumerate() {
        let place = |e: Error| e.context(format!("[evaluator.data.world]: source {} of `pool`", i + 1));
        // Names are parts of paths.
        names::check(&source.source).map_err(place)?;
        if !seen.insert(source.source.to_lowercase()) {
            return Err(place(
                Error::usage(format!("the source {} is listed twice", source.source))
                    .hint("give it another name, or add up the two counts"),
            ));
        }
        if source.kind.trim().is_empty() {
            return Err(place(
                Error::usage(format!("`kind` of {} is empty", source.source)).hint("write a kind such as \"OCR\""),
            ));
        }
        if source.count == 0 {
            return Err(place(
                Error::usage(format!("`count` = 0 of {}: it must be at least 1", source.source))
                    .hint("leave the source out, or give a number of at least 1"),
            ));
        }
    }
    if spec.open_questions == 0 && benchmarks.iter().any(|id| id == OPEN) {
        return Err(Error::usage(format!("the study asks {OPEN}, but its world has no open questions"))
            .hint("set open_questions = 200 in [evaluator.data.world]"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_world::{PoolSource, QuestionFamily};

    #[test]
    fn pools_that_cannot_be_made_are_refused_with_their_source() {
        let source = |name: &str, kind: &str, count: usize| PoolSource {
            source: name.into(),
            kind: kind.into(),
            family: QuestionFamily::Count,
            count,
            prompted: false,
        };
        let checked = |pool: Vec<PoolSource>, benchmarks: &[&str]| {
            let spec = WorldSpec { seed: 0, align: 1, tune: 0, turns: 1, per_benchmark: 1, pool, open_questions: 0 };
            check(&spec, &benchmarks.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert!(checked(vec![source("a", "OCR", 1), source("b", "OCR", 1)], &["nano-mme"]).is_ok());
        for (pool, benchmarks, said) in [
            (vec![source("../a", "OCR", 1)], vec![], "source 1 of `pool`"),
            (vec![source("a", "OCR", 1), source("A", "OCR", 1)], vec![], "listed twice"),
            (vec![source("a", " ", 1)], vec![], "`kind` of a is empty"),
            (vec![source("a", "OCR", 0)], vec![], "`count` = 0 of a"),
            (vec![], vec![OPEN], "no open questions"),
        ] {
            let e = checked(pool, &benchmarks).expect_err(said);
            assert!(e.exit_code() == 2 && e.hint_text().is_some() && e.to_string().contains(said), "{e}");
        }
    }
}
