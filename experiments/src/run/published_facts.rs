//! What a record of results for other tools says about a model beyond its results: the published datasets of its
//! benchmarks.

use burgess_probe::bench;
use burgess_reports::exchange::{HubDataset, Publication};
use burgess_reports::schema::RunResults;

/// Returns the datasets of a run's benchmarks that are on the hub. Their revisions are left out, because results do not
/// state them.
pub fn publication(run: &RunResults) -> Publication {
    let mut about = Publication::default();
    for name in run.results.keys() {
        // A benchmark of another version may be unknown to this one; then its dataset is unknown too.
        let source = bench::find(name).ok().and_then(|benchmark| benchmark.card().source);
        let Some(source) = source.filter(|source| source.url().is_none()) else { continue };
        let dataset = HubDataset {
            repository: source.repository.to_string(),
            split: source.split.to_string(),
            ..HubDataset::default()
        };
        about.datasets.insert(name.clone(), dataset);
    }
    about
}
