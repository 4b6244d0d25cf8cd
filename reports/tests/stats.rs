//! Statistics compared with SciPy (`tests/reference/stats_scipy.py`), and their invariants.

mod fixture;

use burgess_base::stream::stream;
use burgess_reports::ranking::{AVERAGE, PairTest, RankOptions, TestFamily, rank};
use burgess_reports::stats::*;
use fixture::made;
use proptest::prelude::*;
use rand::RngExt;
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/stats/stats.json");
    burgess_base::atomic::read_json(std::path::Path::new(path)).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b} ± {tolerance}");
}

#[test]
fn correlations_are_scipys() {
    for case in golden()["correlations"].as_array().unwrap() {
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        close(pearson(&x, &y).unwrap(), case["pearson"].as_f64().unwrap(), 1e-12);
        close(spearman(&x, &y).unwrap(), case["spearman"].as_f64().unwrap(), 1e-12);
        close(kendall_tau(&x, &y).unwrap(), case["kendall"].as_f64().unwrap(), 1e-12);
        assert_eq!(mean_ranks(&x), numbers(&case["ranks_x"]));
    }
    assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
    assert_eq!(kendall_tau(&[1.0], &[2.0]), None);
}

#[test]
fn quantiles_are_numpys() {
    let case = &golden()["quantiles"];
    let mut values = numbers(&case["values"]);
    values.sort_by(f64::total_cmp);
    for (q, expected) in numbers(&case["q"]).iter().zip(numbers(&case["expected"])) {
        close(quantile(&values, *q), expected, 1e-12);
    }
}

#[test]
fn standard_errors_are_those_of_scipy_and_of_the_jackknife() {
    let golden = golden();
    let values = numbers(&golden["sem"]["values"]);
    close(clustered_se(&values, &vec![1.0; values.len()]).unwrap(), golden["sem"]["expected"].as_f64().unwrap(), 1e-12);
    let case = &golden["ratio"];
    let (sums, weights) = (numbers(&case["sums"]), numbers(&case["weights"]));
    close(ratio(&sums, &weights).unwrap(), case["ratio"].as_f64().unwrap(), 1e-12);
    let se = clustered_se(&sums, &weights).unwrap();
    close(se, case["jackknife_se"].as_f64().unwrap(), 0.01 * se);
    close(se, case["bootstrap_se"].as_f64().unwrap(), 0.02 * se);
    assert_eq!(clustered_se(&[1.0], &[1.0]), None);
}

#[test]
fn the_bootstrap_interval_is_scipys_up_to_its_own_noise() {
    let case = &golden()["ratio"];
    let (sums, weights) = (numbers(&case["sums"]), numbers(&case["weights"]));
    let replicates = bootstrap_ratio(&sums, &weights, 4000, "golden", 0).unwrap();
    let (low, high) = interval(&replicates, 0.95);
    let se = case["bootstrap_se"].as_f64().unwrap();
    close(low, case["low"].as_f64().unwrap(), 0.12 * se);
    close(high, case["high"].as_f64().unwrap(), 0.12 * se);
}

/// Tests arm `a` against arm `b`, whose points on the units of one benchmark differ by `differences`.
fn paired_test(differences: &[f64], replicates: usize, seed: u64) -> PairTest {
    let most = differences.iter().fold(1.0, |most: f64, d| most.max(d.abs()));
    let units = |sign: f64| differences.iter().map(|d| ((sign * d).max(0.0), most, 0.0)).collect();
    let runs = [made("a", 0, &[("b", 0, 0.0, units(1.0))]), made("b", 0, &[("b", 0, 0.0, units(-1.0))])];
    let options = RankOptions { replicates, seed, ..Default::default() };
    let ranking = rank(&runs, &[], &options).unwrap();
    ranking.tests(TestFamily::Leader, AVERAGE).next().unwrap().clone()
}

#[test]
fn the_sign_flip_test_of_a_ranking_is_scipys() {
    for case in golden()["sign_flip"].as_array().unwrap() {
        let test = paired_test(&numbers(&case["differences"]), 4000, 0);
        // SciPy's p is exact or from 200,000 draws; the standard error of ours, from 4000 draws, is at most 0.008.
        close(test.p, case["p"].as_f64().unwrap(), 0.025);
    }
}

#[test]
fn holm_is_as_defined() {
    let case = &golden()["holm"];
    for (adjusted, expected) in holm(&numbers(&case["p"])).iter().zip(numbers(&case["expected"])) {
        close(*adjusted, expected, 1e-12);
    }
}

/// 400 synthetic benchmarks of 60 images with two to four correlated questions each: intervals must cover the truth as
/// often as they claim. Treating questions as independent would cover it in fewer than 90 % of the cases here.
#[test]
fn intervals_cover_the_truth_as_often_as_they_say() {
    let (worlds, mut covered, mut rejected) = (400, 0, 0);
    for world in 0..worlds {
        let mut rng = stream("coverage", world);
        let (mut sums, mut others, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..60 {
            // Ability for an image is uniform, so the truth is 1/2 whatever the number of questions.
            let (ability, questions) = (rng.random::<f64>(), 2 + (rng.random::<f64>() * 3.0) as usize);
            let mut right = || (0..questions).filter(|_| rng.random::<f64>() < ability).count() as f64;
            sums.push(right());
            others.push(right());
            weights.push(questions as f64);
        }
        let (low, high) = interval(&bootstrap_ratio(&sums, &weights, 300, "coverage", world).unwrap(), 0.95);
        covered += usize::from(low <= 0.5 && 0.5 <= high);
        // The two columns differ by luck only.
        let differences: Vec<f64> = sums.iter().zip(&others).map(|(a, b)| a - b).collect();
        rejected += usize::from(paired_test(&differences, 300, world).p < 0.05);
    }
    let (coverage, level) = (covered as f64 / worlds as f64, rejected as f64 / worlds as f64);
    assert!((0.91..=0.975).contains(&coverage), "95 % intervals cover in {coverage}");
    assert!(level <= 0.08, "a test at 5 % rejects in {level}");
}

#[test]
fn replicates_do_not_depend_on_threads() {
    let values: Vec<f64> = (0..50).map(|i| f64::from(i % 7)).collect();
    let compute = || bootstrap_ratio(&values, &[1.0; 50], 200, "threads", 3).unwrap();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(compute), compute());
}

proptest! {
    #[test]
    fn adjusted_p_values_keep_the_order_and_only_grow(p in prop::collection::vec(0.0..=1.0f64, 0..12)) {
        let adjusted = holm(&p);
        for (i, a) in adjusted.iter().enumerate() {
            prop_assert!(*a >= p[i] && *a <= 1.0);
            for (j, b) in adjusted.iter().enumerate() {
                prop_assert!(p[i] > p[j] || a <= b);
            }
        }
    }

    #[test]
    fn the_order_of_units_does_not_matter(mut units in prop::collection::vec((0.0..3.0f64, 1.0..3.0f64), 2..30)) {
        let of = |u: &[(f64, f64)]| {
            let (s, w): (Vec<f64>, Vec<f64>) = u.iter().copied().unzip();
            (ratio(&s, &w).unwrap(), clustered_se(&s, &w).unwrap())
        };
        let before = of(&units);
        units.reverse();
        let after = of(&units);
        prop_assert!((before.0 - after.0).abs() < 1e-12 && (before.1 - after.1).abs() < 1e-12);
    }

    #[test]
    fn quantiles_lie_within_the_values_and_rise(mut v in prop::collection::vec(-1e6..1e6f64, 1..50), q in 0.0..=1.0f64) {
        v.sort_by(f64::total_cmp);
        let x = quantile(&v, q);
        prop_assert!(v[0] <= x && x <= v[v.len() - 1]);
        prop_assert!(quantile(&v, q / 2.0) <= x);
    }

    #[test]
    fn correlations_stay_within_one(pairs in prop::collection::vec((-1e3..1e3f64, -1e3..1e3f64), 2..20)) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        for r in [pearson(&x, &y), spearman(&x, &y), kendall_tau(&x, &y)].into_iter().flatten() {
            prop_assert!((-1.0 - 1e-12..=1.0 + 1e-12).contains(&r));
        }
        let negated: Vec<f64> = y.iter().map(|v| -v).collect();
        if let (Some(a), Some(b)) = (kendall_tau(&x, &y), kendall_tau(&x, &negated)) {
            prop_assert!((a + b).abs() < 1e-12);
        }
    }

    #[test]
    fn as_many_are_drawn_as_there_are(n in 1usize..200, seed in 0u64..50) {
        let counts = resample(n, &mut stream("draws", seed));
        prop_assert_eq!(counts.iter().sum::<f64>(), n as f64);
        prop_assert!(signs(n, &mut stream("draws", seed)).iter().all(|s| s.abs() == 1.0));
    }
}
