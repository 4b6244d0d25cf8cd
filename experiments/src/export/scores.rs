//! The scores of an exported model in the formats of other tools: `.eval_results/*.yaml` of the hub, and the JSON of
//! Every Eval Ever.

use burgess_base::{Result, atomic};
use burgess_probe::bench;
use burgess_reports::exchange::{HubDataset, Publication, eval_results_yaml, every_eval_ever};
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
    let dataset = |id: &String| {
        // Benchmarks of generated worlds are not published, and those that this version does not know are left out.
        let source = bench::find(id).ok()?.card().source?;
        let (repository, split) = (source.repository.to_string(), source.split.to_string());
        Some((id.clone(), HubDataset { repository, split, ..HubDataset::default() }))
    };
    let about = Publication {
        model: repository.map(String::from),
        datasets: results.results.keys().filter_map(dataset).collect(),
        ..Publication::default()
    };
    atomic::write_json(&dir.join(EVERY_EVAL_EVER), &every_eval_ever(results, &about)?)?;
    for (name, text) in eval_results_yaml(results, &about) {
        atomic::write(&dir.join(EVAL_RESULTS).join(name), text.as_bytes())?;
    }
    Ok(())
}
