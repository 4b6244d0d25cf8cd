//! The random and the oracle baseline, and normalised scores between them.
//!
//! The random baseline has an encoder with random weights, the oracle one that emits the ground truth of each image. In
//! a scope where the oracle is separably above the random baseline, an arm's *normalised score* is (score − random) /
//! (oracle − random). Elsewhere the evaluator cannot measure vision, and the ratio would be noise.

use super::at;
use super::edge::Edges;
use super::grid::{Arm, Grid};
use super::pairs::Draws;
use super::resample::Scores;
use super::{Family, Normalised, PairTest, RankOptions};
use crate::schema::Role;
use crate::stats;
use burgess_base::{Error, Result};

/// The roles of the arms of a grid.
pub(super) struct Baselines {
    roles: Vec<Role>,
    /// Index of the first arm of each role, if there is one.
    pub random: Option<usize>,
    pub oracle: Option<usize>,
    /// Whether the oracle is separably above the random baseline, by scope.
    separable: Vec<bool>,
}

impl Baselines {
    /// Determines the roles from the runs. If a run states none, its arm is random if the options name it, or if its
    /// only encoder's id ends in `-random`. An arm whose encoder was trained in the tune stage is not a random
    /// baseline.
    ///
    /// # Errors
    /// An error is returned if the arm named in the options is not among the runs.
    pub fn of(grid: &Grid, options: &RankOptions) -> Result<Self> {
        if let Some(name) = &options.random
            && !grid.arms.iter().any(|a| a.arm == *name)
        {
            let known: Vec<&str> = grid.arms.iter().map(|a| a.arm.as_str()).collect();
            return Err(Error::usage(format!("the random baseline {name} is not among the runs"))
                .hint(format!("the arms are {}", known.join(", "))));
        }
        let named = |arm: &Arm| match &options.random {
            Some(name) => arm.arm == *name,
            None => matches!(arm.encoders.as_slice(), [one] if one.rsplit('-').next() == Some("random")),
        };
        let role = |arm: &Arm| match arm.role {
            Some(Role::Oracle) => Role::Oracle,
            Some(Role::Random) if arm.freeze == "frozen" => Role::Random,
            None if arm.freeze == "frozen" && named(arm) => Role::Random,
            _ if options.random.as_deref() == Some(arm.arm.as_str()) => Role::Random,
            _ => Role::Trained,
        };
        let roles: Vec<Role> = grid.arms.iter().map(role).collect();
        let first = |role: Role| roles.iter().position(|r| *r == role);
        let named = grid.arms.iter().position(|a| options.random.as_deref() == Some(a.arm.as_str()));
        let (random, oracle) = (named.or_else(|| first(Role::Random)), first(Role::Oracle));
        Ok(Self { random, oracle, roles, separable: Vec::new() })
    }

    pub fn role(&self, arm: usize) -> Role {
        self.roles.get(arm).copied().unwrap_or_default()
    }

    /// Tests the oracle against the random baseline in every scope, including benchmarks.
    pub fn compare(&mut self, draws: &Draws, confidence: f64) -> Vec<PairTest> {
        let name = |arm: Option<usize>| arm.and_then(|a| draws.grid.arms.get(a)).map(|a| a.arm.as_str());
        let (Some(oracle), Some(random)) = (name(self.oracle), name(self.random)) else { return Vec::new() };
        let mut tests: Vec<PairTest> = (0..draws.grid.scopes.len())
            .filter_map(|s| draws.test(Family::Range, s, oracle, random, confidence))
            .collect();
        tests.iter_mut().for_each(|t| t.decide(confidence));
        self.separable = tests.iter().map(|t| t.separable && t.difference > 0.0).collect();
        tests
    }
}

/// The normalised scores of one arm.
pub(super) struct Between<'a> {
    draws: &'a Draws<'a>,
    confidence: f64,
    separable: &'a [bool],
    /// Indices of the arm, the random baseline and the oracle; `None` if one is missing or the arm is not trained.
    arms: Option<[usize; 3]>,
    /// Corrected intervals of the arm's score minus that of the random baseline.
    edges: Option<Edges>,
}

impl<'a> Between<'a> {
    pub fn new(draws: &'a Draws<'a>, baselines: &'a Baselines, arm: usize, confidence: f64) -> Self {
        let trained = baselines.role(arm) == Role::Trained;
        let arms = baselines.random.zip(baselines.oracle).filter(|_| trained).map(|(r, o)| [arm, r, o]);
        let edges = arms.map(|[arm, random, _]| {
            let read = |scores: &Scores, s: usize| at(&scores.image, arm, s) - at(&scores.image, random, s);
            Edges::of_difference(draws.grid, draws.observed, draws.replicates, confidence, &read)
        });
        Self { draws, confidence, separable: &baselines.separable, arms, edges }
    }

    /// Returns the normalised score in a scope. Replicates in which the oracle is not above the random baseline have no
    /// normalised score and are left out; as the two are separable, they are few.
    pub fn normalised(&self, s: usize) -> Option<Normalised> {
        let ([arm, random, oracle], edges) = (self.arms?, self.edges.as_ref()?);
        if !*self.separable.get(s)? {
            return None;
        }
        let gain = |scores: &Scores| at(&scores.image, arm, s) - at(&scores.image, random, s);
        let range = |scores: &Scores| at(&scores.image, oracle, s) - at(&scores.image, random, s);
        let (observed, width) = (gain(self.draws.observed), range(self.draws.observed));
        let replicates = self.draws.replicates.iter().filter(|r| range(r) > 0.0);
        // Values are in points of the observed range, so that corrected intervals can widen them.
        let drawn: Vec<f64> = replicates.map(|r| width * gain(r) / range(r)).collect();
        let (low, high) = edges.interval(self.draws.grid, s, observed, stats::interval(&drawn, self.confidence));
        let [value, low, high] = [observed, low, high].map(|points| 100.0 * points / width);
        Some(Normalised { value, low, high })
    }
}
