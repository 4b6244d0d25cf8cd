//! Agreement of a study's seeds on the order of its trained arms.

use super::content::{AVERAGE, Ranking, SeedAgreement};
use crate::stats;
use std::collections::BTreeSet;

/// Computes the agreement; `None` for fewer than two seeds, or fewer than two arms that have both.
pub(super) fn stability(ranking: &Ranking) -> Option<SeedAgreement> {
    let seeds: Vec<u64> =
        ranking.trained().flat_map(|a| &a.seeds).copied().collect::<BTreeSet<_>>().into_iter().collect();
    let pairs = taus(ranking, &seeds, AVERAGE);
    let mean = |pairs: &[(u64, u64, f64)]| stats::mean(&pairs.iter().map(|(_, _, tau)| *tau).collect::<Vec<_>>());
    let categories = ranking.categories.iter().filter_map(|c| Some((c.to_string(), mean(&taus(ranking, &seeds, c))?)));
    let best = |seed: &u64| {
        let scored = ranking.trained().filter_map(|a| Some((a.arm.as_str(), *a.per_seed.get(seed)?)));
        scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(arm, _)| arm)
    };
    let same_best = seeds.iter().map(best).collect::<BTreeSet<_>>().len() == 1;
    Some(SeedAgreement { tau: mean(&pairs)?, pairs, categories: categories.collect(), same_best })
}

/// Returns τ-b of each pair of seeds over the arms that have both.
fn taus(ranking: &Ranking, seeds: &[u64], scope: &str) -> Vec<(u64, u64, f64)> {
    let mut pairs = Vec::new();
    for (i, s) in seeds.iter().enumerate() {
        for t in seeds.iter().skip(i + 1) {
            let both = ranking.trained().filter_map(|a| {
                let scores = a.seed_scores(scope)?;
                Some((*scores.get(s)?, *scores.get(t)?))
            });
            let (x, y): (Vec<f64>, Vec<f64>) = both.unzip();
            pairs.extend(stats::kendall_tau(&x, &y).map(|tau| (*s, *t, tau)));
        }
    }
    pairs
}
