//! Confidence intervals for asking that stops as soon as the interval of a category is narrow enough.
//!
//! The looks at the answers are planned before the first question: after the first [`FIRST`] units of every benchmark,
//! then after [`GROWTH`] times as many each time, the last when all are asked. Units are asked in a random order, so
//! those asked so far are a random sample at every look. An interval at each of K looks covers the true score with
//! probability 1 − α/K; by Bonferroni's inequality all K together cover it with probability at least 1 − α, and
//! so does the one at which asking stops, whatever the rule for stopping. These are repeated confidence intervals
//! (Jennison and Turnbull 1989, J. R. Stat. Soc. B 51, 305–361) with constant error spending. An interval for a
//! single look would be too narrow: asking stops where the answers so far happen to vary little.
//!
//! The interval of a benchmark is the union of the normal one, with the standard error clustered by unit, and Wilson's
//! over the effective number of units, so that 64 right answers of 64 do not end it. The distances of the ends from the
//! scores are combined over the benchmarks of a category as a root of summed squares (MOVER; Zou and Donner 2008).

use crate::schema::{BenchmarkResult, SequentialInterval};
use crate::stats;

/// Number of units of each benchmark at the first look.
pub const FIRST: usize = 64;
/// Ratio of the numbers of units at successive looks.
pub const GROWTH: f64 = 1.5;
/// Joint confidence of the intervals of all looks.
pub const CONFIDENCE: f64 = 0.95;

/// The looks that are planned for a category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookPlan {
    /// Number of units of each benchmark at each look, ascending; a benchmark with fewer units is asked as a whole.
    units: Vec<usize>,
}

impl LookPlan {
    /// Plans the looks for a category whose largest benchmark has `largest` units.
    pub fn new(largest: usize) -> Self {
        let mut units = Vec::new();
        let mut next = FIRST;
        while next < largest {
            units.push(next);
            next = (next as f64 * GROWTH).ceil() as usize;
        }
        units.push(largest);
        Self { units }
    }

    /// Number of looks; at least one.
    pub fn looks(&self) -> usize {
        self.units.len()
    }

    /// Number of units of each benchmark that are asked before look `look`, counted from 0.
    pub fn units(&self, look: usize) -> usize {
        self.units.get(look).or(self.units.last()).copied().unwrap_or(0)
    }

    /// Confidence of the interval of a single look.
    pub fn confidence(&self) -> f64 {
        1.0 - (1.0 - CONFIDENCE) / self.looks() as f64
    }

    /// Returns the interval of a category at look `look`, counted from 0, from the results of its benchmarks on the
    /// questions asked so far. `until` is the half-width, in points, at which asking stops; `all` is the number of
    /// questions of all the benchmarks. `None` if there are no results.
    pub fn interval(
        &self,
        results: &[&BenchmarkResult],
        look: usize,
        until: f64,
        all: usize,
    ) -> Option<SequentialInterval> {
        let count = results.len() as f64;
        let score = stats::mean(&results.iter().map(|r| r.score).collect::<Vec<_>>())?;
        let (mut below, mut above) = (0.0, 0.0);
        for result in results {
            let (low, high) = benchmark_interval(result, self.confidence());
            below += (result.score - low).powi(2);
            above += (high - result.score).powi(2);
        }
        let (below, above) = (f64::sqrt(below) / count, f64::sqrt(above) / count);
        let half_width = below.max(above);
        Some(SequentialInterval {
            until,
            score,
            low: (score - below).max(0.0),
            high: (score + above).min(100.0),
            half_width,
            confidence: CONFIDENCE,
            looks: look + 1,
            planned_looks: self.looks(),
            asked: results.iter().map(|r| r.n).sum(),
            questions: all,
            reached: half_width <= until,
        })
    }
}

/// Returns the interval of one benchmark's score in percent.
fn benchmark_interval(result: &BenchmarkResult, confidence: f64) -> (f64, f64) {
    let weights: Vec<f64> = result.units.iter().map(|unit| unit.weight).collect();
    let sums: Vec<f64> = result.units.iter().map(|unit| unit.sum).collect();
    let distance =
        stats::normal_quantile((1.0 + confidence) / 2.0) * 100.0 * stats::clustered_se(&sums, &weights).unwrap_or(0.0);
    let (low, high) = stats::wilson(result.score / 100.0, stats::effective_units(&weights), confidence);
    ((100.0 * low).min(result.score - distance), (100.0 * high).max(result.score + distance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::UnitScore;
    use burgess_base::stream::{Stream, stream, uniform};

    /// A result without units.
    fn empty() -> BenchmarkResult {
        serde_json::from_value(serde_json::json!({
            "category": "General", "metric": "accuracy", "score": 0.0, "stderr": 0.0, "blind": 0.0, "n": 0,
            "n_unparsed": 0, "higher_is_better": true, "seconds": null, "units": [],
        }))
        .unwrap()
    }

    /// A result with these scores of units, each `(sum, weight)`.
    fn result(units: &[(f64, f64)]) -> BenchmarkResult {
        let unit = |u: &(f64, f64)| UnitScore { id: String::new(), sum: u.0, weight: u.1, blind: 0.0 };
        let units: Vec<UnitScore> = units.iter().map(unit).collect();
        let mut result = BenchmarkResult { n: units.len(), units, ..empty() };
        result.summarise();
        result
    }

    #[test]
    fn looks_are_planned_up_to_all_units() {
        assert_eq!(LookPlan::new(40).units, [40]);
        assert_eq!(LookPlan::new(64).units, [64]);
        assert_eq!(LookPlan::new(300).units, [64, 96, 144, 216, 300]);
        let plan = LookPlan::new(300);
        assert_eq!((plan.units(1), plan.units(9)), (96, 300));
        assert!((plan.confidence() - 0.99).abs() < 1e-12);
        assert!((LookPlan::new(40).confidence() - 0.95).abs() < 1e-12, "one look needs no correction");
    }

    #[test]
    fn an_interval_does_not_close_on_equal_answers() {
        let plan = LookPlan::new(10_000);
        let all_right = result(&[(1.0, 1.0); 64]);
        let interval = plan.interval(&[&all_right], 0, 1.0, 10_000).unwrap();
        assert!(interval.half_width > 10.0 && !interval.reached && interval.high <= 100.0, "{interval:?}");
        // Two benchmarks: the mean, with half the root of the summed squares.
        let half: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i % 2), 1.0)).collect();
        let one = plan.interval(&[&result(&half)], 3, 5.0, 2000).unwrap();
        let two = plan.interval(&[&result(&half), &result(&half)], 3, 5.0, 2000).unwrap();
        assert!((two.half_width - one.half_width / 2f64.sqrt()).abs() < 1e-9);
        assert_eq!((two.score, two.looks, two.asked, two.questions), (50.0, 4, 2000, 2000));
        let z = stats::normal_quantile((1.0 + plan.confidence()) / 2.0);
        let expected = 100.0 * z * (0.25f64 / 999.0).sqrt();
        assert!((one.half_width - expected).abs() < 1e-6, "{one:?} {expected}");
        assert!(plan.interval(&[], 0, 1.0, 0).is_none());
    }

    /// Asks units until the interval is narrow; returns the interval at which asking stopped.
    fn asked(plan: &LookPlan, until: f64, draw: &mut dyn FnMut() -> Vec<(f64, f64)>, all: usize) -> SequentialInterval {
        let mut units: Vec<Vec<(f64, f64)>> = Vec::new();
        let mut look = 0;
        loop {
            while units.first().map_or(0, Vec::len) < plan.units(look) {
                let next = draw();
                units.resize(next.len(), Vec::new());
                units.iter_mut().zip(next).for_each(|(units, unit)| units.push(unit));
            }
            let results: Vec<BenchmarkResult> = units.iter().map(|units| result(units)).collect();
            let found = plan.interval(&results.iter().collect::<Vec<_>>(), look, until, all).unwrap();
            if found.reached || look + 1 == plan.looks() {
                return found;
            }
            look += 1;
        }
    }

    #[test]
    fn the_interval_at_which_asking_stops_covers_the_true_score() {
        const REPEATS: usize = 400;
        let plan = LookPlan::new(1200);
        let yes = |random: &mut Stream, p: f64| f64::from(u8::from(uniform(random) < p));
        // The true score, the half-width, and a draw of a unit of each benchmark: binary answers of several rates,
        // images with four correlated questions, and two benchmarks.
        type Draw = Box<dyn Fn(&mut Stream) -> Vec<(f64, f64)>>;
        let cases: Vec<(f64, f64, Draw)> = vec![
            (50.0, 6.0, Box::new(move |r| vec![(yes(r, 0.5), 1.0)])),
            (90.0, 4.0, Box::new(move |r| vec![(yes(r, 0.9), 1.0)])),
            (98.5, 3.0, Box::new(move |r| vec![(yes(r, 0.985), 1.0)])),
            (
                60.0,
                6.0,
                Box::new(move |r| {
                    let p = if uniform(r) < 0.5 { 0.9 } else { 0.3 };
                    vec![((0..4).map(|_| yes(r, p)).sum(), 4.0)]
                }),
            ),
            (57.5, 4.0, Box::new(move |r| vec![(yes(r, 0.8), 1.0), (yes(r, 0.35), 1.0)])),
        ];
        for (case, (truth, until, draw)) in cases.iter().enumerate() {
            let mut random = stream("sequential", case as u64);
            let (mut covered, mut early) = (0, 0);
            for _ in 0..REPEATS {
                let found = asked(&plan, *until, &mut || draw(&mut random), 1200);
                covered += usize::from((found.low..=found.high).contains(truth));
                early += usize::from(found.looks < plan.looks());
            }
            let share = covered as f64 / REPEATS as f64;
            // Two standard errors of the simulation below 95 %.
            assert!(share >= 0.95 - 2.0 * (0.95f64 * 0.05 / REPEATS as f64).sqrt(), "case {case}: {share}");
            assert!(early * 10 > REPEATS * 9, "case {case}: asking stopped early in {early} of {REPEATS}");
        }
    }
}
