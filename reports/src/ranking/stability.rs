//! How well the seeds of a study agree on the order of its arms.

use super::Ranking;
use crate::stats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Agreement of the seeds on the order of the arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// Mean Kendall τ-b over pairs of seeds.
    pub tau: f64,
    /// Per pair of seeds.
    pub pairs: Vec<(u64, u64, f64)>,
    /// Whether the same arm is first under every seed.
    pub same_best: bool,
}

pub(super) fn stability(ranking: &Ranking) -> Option<Stability> {
    let seeds: Vec<u64> =
        ranking.trained().flat_map(|a| &a.seeds).copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut pairs = Vec::new();
    for (i, s) in seeds.iter().enumerate() {
        for t in seeds.iter().skip(i + 1) {
            let both = ranking.trained().filter_map(|a| Some((*a.per_seed.get(s)?, *a.per_seed.get(t)?)));
            let (x, y): (Vec<f64>, Vec<f64>) = both.unzip();
            if let Some(tau) = stats::kendall_tau(&x, &y) {
                pairs.push((*s, *t, tau));
            }
        }
    }
    let best = |seed: &u64| {
        let scored = ranking.trained().filter_map(|a| Some((a.arm.as_str(), *a.per_seed.get(seed)?)));
        scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(arm, _)| arm)
    };
    let same_best = seeds.iter().map(best).collect::<BTreeSet<_>>().len() == 1;
    let tau = stats::mean(&pairs.iter().map(|(_, _, tau)| *tau).collect::<Vec<_>>())?;
    Some(Stability { tau, pairs, same_best })
}
