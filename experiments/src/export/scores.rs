//! The scores of an exported model in the formats of other tools: `.eval_results/*.yaml` of the hub, and the JSON of
//! Every Eval Ever.

use crate::run::published_facts::publication;
use burgess_base::{Result, atomic};
use burgess_reports::exchange::{Publication, eval_results_yaml, every_eval_ever};
use burgess_reports::schema::RunResults;
use std::path::Path;

/// File name of the record in the format of Every Eval Ever.
pub const EVERY_EVAL_EVER: &str = "every_eval_ever.json";
/// Folder of the hub's files of scores.
pub const EVAL_RESULTS: &str = ".eval_results";

/// Writes the scores into `dir`; `repository` is the name of the model on the hub, if it is known.
///
/// # Errors
/// The results contradict themselves, or a file cannot be written.
pub fn write(results: &RunResults, repository: Option<&str>, dir: &Path) -> Result<()> {
    let about = Publication { model: repository.map(String::from), ..publication(results) };
    atomic::write_json(&dir.join(EVERY_EVAL_EVER), &every_eval_ever(results, &about)?)?;
    for (name, text) in eval_results_yaml(results, &about) {
        atomic::write(&dir.join(EVAL_RESULTS).join(name), text.as_bytes())?;
    }
    Ok(())
}
