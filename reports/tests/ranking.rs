//! The ranking of the synthetic study.

mod fixture;

use burgess_reports::ranking::{AVERAGE, RankOptions, Ranking, TestFamily, rank};
use burgess_reports::schema::RunResults;
use burgess_reports::stats;
use burgess_reports::table::ranking_table;

fn options() -> RankOptions {
    RankOptions { study: "nano".into(), replicates: 600, ..Default::default() }
}

fn ranked(runs: &[RunResults]) -> Ranking {
    rank(runs, &[fixture::missing()], &options()).unwrap()
}

#[test]
fn the_table_and_its_conclusions() {
    let one = ranked(&fixture::runs(1, 150));
    let two = ranked(&fixture::runs(2, 150));
    let text = ranking_table(&two, 100, false);
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    assert!(!text.contains('\u{1b}'));
    assert!(ranking_table(&two, 100, true).contains('\u{1b}'));
    insta::assert_snapshot!("one_seed", ranking_table(&one, 100, false));
    insta::assert_snapshot!("two_seeds", text);
}

#[test]
fn a_narrow_terminal_is_respected() {
    let text = ranking_table(&ranked(&fixture::runs(1, 40)), 80, false);
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
}

#[test]
fn it_depends_neither_on_order_nor_on_threads() {
    let mut runs = fixture::runs(2, 40);
    let forward = ranked(&runs);
    runs.reverse();
    for run in &mut runs {
        run.results.values_mut().for_each(|r| r.units.reverse());
    }
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one_thread.install(|| ranked(&runs)), forward);
}

#[test]
fn it_survives_being_written_and_read() {
    let ranking = ranked(&fixture::runs(2, 30));
    let text = serde_json::to_string(&ranking).unwrap();
    assert_eq!(serde_json::from_str::<Ranking>(&text).unwrap(), ranking);
}

#[test]
fn more_images_and_seeds_narrow_the_intervals() {
    let width = |r: &Ranking| r.arms.iter().map(|a| a.average.half_width()).sum::<f64>();
    assert!(width(&ranked(&fixture::runs(1, 200))) < 0.7 * width(&ranked(&fixture::runs(1, 50))));
}

#[test]
fn runs_in_which_asking_stopped_early_are_compared_on_common_units() {
    let mut runs = fixture::runs(1, 60);
    let whole = ranked(&runs);
    let fewer = |runs: &mut [RunResults], count: usize| {
        for result in runs.iter_mut().flat_map(|run| run.results.values_mut()) {
            result.units.truncate(count);
            result.n = count;
        }
        runs.iter_mut().for_each(RunResults::summarise);
    };
    fewer(&mut runs[1..2], 20);
    let refused = rank(&runs, &[fixture::missing()], &options()).unwrap_err().to_string();
    assert!(refused.contains("cannot be compared"), "{refused}");
    let interval = serde_json::json!({"until": 1.0, "score": 50.0, "low": 49.0, "high": 51.0, "half_width": 1.0,
        "confidence": 0.95, "looks": 1, "planned_looks": 3, "asked": 20, "questions": 60, "reached": true});
    let interval: burgess_reports::schema::SequentialInterval = serde_json::from_value(interval).unwrap();
    runs[1].until_ci.insert(burgess_base::Category::GENERAL, interval);
    let common = ranked(&runs);
    assert!(common.benchmarks.iter().all(|b| (b.units, b.n) == (20, 20)), "{:?}", common.benchmarks);
    assert!(common.left_out.iter().all(|why| why.contains("compared on the 20 units")), "{:?}", common.left_out);
    assert_eq!(common.left_out.len(), common.benchmarks.len());
    // The same as if all had been asked these units only.
    fewer(&mut runs, 20);
    runs[1].until_ci.clear();
    let cut = ranked(&runs);
    let scores = |r: &Ranking| -> Vec<String> {
        r.arms.iter().map(|a| format!("{} {:?} {:?}", a.arm, a.average, a.categories)).collect()
    };
    assert_eq!(scores(&common), scores(&cut));
    assert_ne!(scores(&common), scores(&whole));
}

#[test]
fn the_scores_are_those_of_the_runs() {
    let runs = fixture::runs(1, 50);
    let ranking = ranked(&runs);
    for run in &runs {
        let arm = ranking.arm(&run.run.arm).unwrap();
        assert!((arm.average.score - run.average).abs() < 1e-9);
        for (category, score) in &run.categories {
            assert!((arm.categories[category.as_str()].score - score).abs() < 1e-9);
        }
        for (benchmark, result) in &run.results {
            assert!((arm.benchmarks[benchmark].score - result.score).abs() < 1e-9);
            assert!((arm.benchmarks[benchmark].blind - result.blind).abs() < 1e-9);
        }
    }
    let p_best: f64 = ranking.trained().filter_map(|a| a.place).map(|p| p.p_best).sum();
    assert!((p_best - 1.0).abs() < 1e-9);
}

#[test]
fn the_bootstrap_agrees_with_the_clustered_standard_error() {
    let runs = fixture::runs(1, 300);
    let ranking = ranked(&runs);
    for run in &runs {
        for (benchmark, result) in &run.results {
            let half = ranking.arm(&run.run.arm).unwrap().benchmarks[benchmark].half_width();
            let expected = 1.96 * result.stderr;
            assert!((half - expected).abs() < 0.2 * expected, "{benchmark}: {half} for {expected}");
        }
    }
}

#[test]
fn an_arm_is_not_separable_from_its_twin() {
    let mut runs = vec![fixture::run(0, 0, 80)];
    let mut twin = runs[0].clone();
    twin.run.arm = "twin".into();
    runs.push(twin);
    let ranking = ranked(&runs);
    assert!(ranking.tests.iter().all(|t| !t.separable && t.p == 1.0 && t.difference == 0.0));
    let places: Vec<_> = ranking.arms.iter().filter_map(|a| a.place).collect();
    assert!(places.len() == 2 && places.iter().all(|p| p.p_best == 0.5 && (p.rank_low, p.rank_high) == (1, 1)));
}

#[test]
fn the_random_baseline_is_found_and_tested() {
    let ranking = ranked(&fixture::runs(1, 150));
    assert_eq!(ranking.random.as_deref(), Some("nano-random"));
    assert_eq!(ranking.tests(TestFamily::Random, AVERAGE).count(), 7, "every other frozen arm");
    assert!(ranking.tests(TestFamily::Random, AVERAGE).all(|t| t.separable));
    assert_eq!(ranking.tests(TestFamily::Unfreezing, AVERAGE).count(), 1);
    let wrong = RankOptions { random: Some("nano-rnd".into()), ..options() };
    assert_eq!(rank(&fixture::runs(1, 5), &[], &wrong).unwrap_err().exit_code(), 2);
}

#[test]
fn seeds_agree_by_category_and_without_the_baselines() {
    let r = ranked(&fixture::runs_with_oracle(3, 60));
    let stability = r.stability.as_ref().unwrap();
    assert_eq!(stability.pairs.len(), 3);
    assert_eq!(
        stability.categories.keys().collect::<Vec<_>>(),
        r.categories.iter().map(|c| c.as_str()).collect::<Vec<_>>()
    );
    let scores = |seed: u64| -> Vec<f64> { r.trained().map(|a| a.categories_per_seed["OCR & Chart"][&seed]).collect() };
    let taus = [(0, 1), (0, 2), (1, 2)].map(|(s, t)| stats::kendall_tau(&scores(s), &scores(t)).unwrap());
    assert!((stability.categories["OCR & Chart"] - taus.iter().sum::<f64>() / 3.0).abs() < 1e-12);
    let arm = r.trained().next().unwrap();
    for category in &r.categories {
        let mean = arm.categories_per_seed[category.as_str()].values().sum::<f64>() / 3.0;
        assert!((mean - arm.categories[category.as_str()].score).abs() < 1e-9);
    }
    assert!(ranking_table(&r, 100, false).contains("Kendall τ of seeds"));
    assert!(ranked(&fixture::runs(1, 20)).stability.is_none());
}

#[test]
fn runs_that_cannot_be_compared_are_refused() {
    let refused = |change: fn(&mut RunResults)| {
        let mut runs = fixture::runs(1, 20);
        change(&mut runs[3]);
        rank(&runs, &[], &options()).unwrap_err().to_string()
    };
    let message = refused(|r| {
        let result = r.results.get_mut("nano-gqa").unwrap();
        result.units[4].id = "other".into();
    });
    assert!(message.contains("nano-gqa") && message.contains("nano-dinov2 (seed 0)"), "{message}");
    let message = refused(|r| {
        r.results.get_mut("nano-gqa").unwrap().units.pop();
        r.summarise();
    });
    assert!(message.contains("19 and 20 units"), "{message}");
    assert!(refused(|r| r.results.get_mut("nano-gqa").unwrap().score += 1.0).contains("does not follow"));
    assert!(refused(|r| r.results.get_mut("nano-gqa").unwrap().units[0].sum = f64::NAN).contains("not finite"));
    assert!(refused(|r| r.results.get_mut("nano-gqa").unwrap().chance = 12.0).contains("chance"));
    assert!(refused(|r| r.run.arm = "nano-clip".into()).contains("two runs with seed"));
    assert!(rank(&[], &[], &options()).unwrap_err().to_string().contains("no finished run"));
}

#[test]
fn a_benchmark_that_an_arm_lacks_is_left_out_and_said() {
    let mut runs = fixture::runs(1, 20);
    runs[2].results.remove("nano-mmvp");
    let ranking = ranked(&runs);
    assert_eq!(ranking.benchmarks.len(), 8);
    assert!(ranking.conclusions.iter().any(|c| c == "nano-mmvp is not compared: nano-convnext lacks it."));
}
