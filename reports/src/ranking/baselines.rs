//! The random and the oracle baseline, and normalised scores between them.
//!
//! The random baseline has an encoder with random weights, the oracle one that emits the ground truth of each image. In
//! a scope where the oracle is separably above the random baseline, an arm's *normalised score* is (score − random) /
//! (oracle − random). Elsewhere the evaluator cannot measure vision, and the ratio would be noise.

use super::boundary_correction::BoundaryCorrections;
use super::content::{NormalisedScore, PairTest, TestFamily};
use super::options::RankOptions;
use super::pairs::Resamples;
use super::resample::{ScopeScores, at};
use super::run_grid::{GridArm, RunGrid};
use crate::schema::ArmRole;
use crate::stats;
use burgess_base::{Error, Result};

/// The roles of the arms of a grid.
pub(super) struct Baselines {
    roles: Vec<ArmRole>,
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
    pub fn of(grid: &RunGrid, options: &RankOptions) -> Result<Self> {
        if let Some(name) = &options.random
            && !grid.arms.iter().any(|a| a.arm == *name)
        {
            let known: Vec<&str> = grid.arms.iter().map(|a| a.arm.as_str()).collect();
            return Err(Error::usage(format!("the random baseline {name} is not among the runs"))
                .hint(format!("the arms are {}", known.join(", "))));
        }
        let named = |arm: &GridArm| match &options.random {
            Some(name) => arm.arm == *name,
            None => matches!(arm.encoders.as_slice(), [one] if one.rsplit('-').next() == Some("random")),
        };
        let role = |arm: &GridArm| match arm.role {
            Some(ArmRole::Oracle) => ArmRole::Oracle,
            Some(ArmRole::Random) if arm.freeze == "frozen" => ArmRole::Random,
            None if arm.freeze == "frozen" && named(arm) => ArmRole::Random,
            _ if options.random.as_deref() == Some(arm.arm.as_str()) => ArmRole::Random,
            _ => ArmRole::Trained,
        };
        let roles: Vec<ArmRole> = grid.arms.iter().map(role).collect();
        let first = |role: ArmRole| roles.iter().position(|r| *r == role);
        let named = grid.arms.iter().position(|a| options.random.as_deref() == Some(a.arm.as_str()));
        let (random, oracle) = (named.or_else(|| first(ArmRole::Random)), first(ArmRole::Oracle));
        Ok(Self { random, oracle, roles, separable: Vec::new() })
    }

    pub fn role(&self, arm: usize) -> ArmRole {
        self.roles.get(arm).copied().unwrap_or_default()
    }

    /// Tests the oracle against the random baseline in every scope, including benchmarks.
    pub fn compare(&mut self, draws: &Resamples, confidence: f64) -> Vec<PairTest> {
        let name = |arm: Option<usize>| arm.and_then(|a| draws.grid.arms.get(a)).map(|a| a.arm.as_str());
        let (Some(oracle), Some(random)) = (name(self.oracle), name(self.random)) else { return Vec::new() };
        let mut tests: Vec<PairTest> = (0..draws.grid.scopes.len())
            .filter_map(|s| draws.test(TestFamily::Range, s, oracle, random, confidence))
            .collect();
        tests.iter_mut().for_each(|t| t.decide(confidence));
        self.separable = tests.iter().map(|t| t.separable && t.difference > 0.0).collect();
        tests
    }
}

/// The normalised scores of one arm.
pub(super) struct Normaliser<'a> {
    draws: &'a Resamples<'a>,
    confidence: f64,
    separable: &'a [bool],
    /// Indices of the arm, the random baseline and the oracle; `None` if one is missing or the arm is not trained.
    arms: Option<[usize; 3]>,
    /// Corrected intervals of the arm's score minus that of the random baseline.
    corrections: Option<BoundaryCorrections>,
}

impl<'a> Normaliser<'a> {
    pub fn new(draws: &'a Resamples<'a>, baselines: &'a Baselines, arm: usize, confidence: f64) -> Self {
        let trained = baselines.role(arm) == ArmRole::Trained;
        let arms = baselines.random.zip(baselines.oracle).filter(|_| trained).map(|(r, o)| [arm, r, o]);
        let corrections = arms.map(|[arm, random, _]| {
            let read = |scores: &ScopeScores, s: usize| at(&scores.image, arm, s) - at(&scores.image, random, s);
            BoundaryCorrections::of_difference(draws.grid, draws.observed, draws.replicates, confidence, &read)
        });
        Self { draws, confidence, separable: &baselines.separable, arms, corrections }
    }

    /// Returns the normalised score in a scope. Replicates in which the oracle is not above the random baseline have no
    /// normalised score and are left out; as the two are separable, they are few.
    pub fn normalised(&self, s: usize) -> Option<NormalisedScore> {
        let ([arm, random, oracle], corrections) = (self.arms?, self.corrections.as_ref()?);
        if !*self.separable.get(s)? {
            return None;
        }
        let gain = |scores: &ScopeScores| at(&scores.image, arm, s) - at(&scores.image, random, s);
        let range = |scores: &ScopeScores| at(&scores.image, oracle, s) - at(&scores.image, random, s);
        let (observed, width) = (gain(self.draws.observed), range(self.draws.observed));
        let replicates = self.draws.replicates.iter().filter(|r| range(r) > 0.0);
        // Values are in points of the observed range, so that corrected intervals can widen them.
        let drawn: Vec<f64> = replicates.map(|r| width * gain(r) / range(r)).collect();
        let (low, high) = corrections.interval(self.draws.grid, s, observed, stats::interval(&drawn, self.confidence));
        let [value, low, high] = [observed, low, high].map(|points| 100.0 * points / width);
        Some(NormalisedScore { value, low, high })
    }
}
