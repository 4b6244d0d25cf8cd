//! Agreement of a study's seeds on the order of its trained arms.

use super::{AVERAGE, Ranking};
use crate::stats;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Agreement of the seeds on the order of the trained arms. Baselines are left out, because they are nearly always
/// first and last and would inflate it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// Mean Kendall τ-b over pairs of seeds, of the order by average, −1 to 1.
    pub tau: f64,
    /// Kendall τ-b of each pair of seeds, as (seed, seed, τ).
    pub pairs: Vec<(u64, u64, f64)>,
    /// Mean Kendall τ-b over pairs of seeds by category, of the order in it; a category is missing if all arms score
    /// the same.
    #[serde(default)]
    pub categories: BTreeMap<String, f64>,
    /// Whether the same arm is first under every seed.
    pub same_best: bool,
}

impl Stability {
    /// Returns the mean τ-b in a scope: the average or a category.
    pub fn tau_in(&self, scope: &str) -> Option<f64> {
        if scope == AVERAGE { Some(self.tau) } else { self.categories.get(scope).copied() }
    }
}

/// Computes the agreement; `None` for fewer than two seeds, or fewer than two arms that have both.
pub(super) fn stability(ranking: &Ranking) -> Option<Stability> {
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
    Some(Stability { tau: mean(&pairs)?, pairs, categories: categories.collect(), same_best })
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
