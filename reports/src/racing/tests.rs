use super::*;

/// Draws of arms with these averages, with independent noise of ±1 in each replicate.
fn draws(averages: &[f64]) -> AverageDraws {
    let noise = |r: usize, a: usize| ((r * 7919 + a * 104_729 + r * a * 31) % 2001) as f64 / 1000.0 - 1.0;
    let replicate = |r: usize| averages.iter().enumerate().map(|(a, x)| x + noise(r, a)).collect();
    AverageDraws {
        arms: (0..averages.len()).map(|a| format!("arm-{a}")).collect(),
        observed: averages.to_vec(),
        replicates: (0..999).map(replicate).collect(),
    }
}

fn rules(text: &str) -> RaceRules {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn rules_are_read_with_their_defaults() {
    assert_eq!(rules(""), RaceRules::default());
    let read = rules("k=2, level=0.1,margin=1.5,rungs=0.125:0.25:1,seeds=1:2:all,finish=false,replicates=4000");
    assert_eq!((read.k, read.level, read.margin, read.finish, read.replicates), (2, 0.1, 1.5, false, 4000));
    assert_eq!(read.rungs.iter().map(|r| (r.share, r.seeds)).collect::<Vec<_>>(), [(0.125, 1), (0.25, 2), (1.0, 0)]);
    // Two looks and two arms share the level.
    assert_eq!((read.threshold(0), read.threshold(1), read.threshold(2)), (Some(0.025), Some(0.025), None));
    assert!(read.correction().contains("2 rungs") && read.correction().contains("0.0250"), "{}", read.correction());
    // The same share again with more seeds is a rung of its own.
    rules("rungs=0.25:1:1,seeds=1:1:all");
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    for (wrong, expected) in [
        ("k=0", "`k` must be at least 1"),
        ("k=three", "`three` is no value of `k`"),
        ("level=1", "`level` = 1"),
        ("level=nan", "`level` = NaN"),
        ("margin=-1", "`margin` = -1"),
        ("rungs=1", "at least two fractions"),
        ("rungs=0.5:0.25:1", "the smallest first"),
        ("rungs=0.25:0.25:1", "more seeds"),
        ("rungs=0.25:0.5", "must be 1"),
        ("rungs=0:1", "0 is not a fraction"),
        ("rungs=0.5:1,seeds=1:0", "no value of `seeds`"),
        ("rungs=0.5:1,seeds=1", "`seeds` has 1 numbers for 2 rungs"),
        ("best=3", "no rule `best`"),
        ("level=0.0001,replicates=100", "cannot show a probability"),
    ] {
        let e = wrong.parse::<RaceRules>().expect_err(wrong);
        assert!(e.to_string().contains(expected) && e.exit_code() == 2 && e.hint_text().is_some(), "{wrong}: {e}");
    }
}

#[test]
fn arms_that_are_improbable_among_the_best_are_dropped() {
    let rules = rules("k=2,level=0.05,rungs=0.25:1,replicates=999");
    let judged = judgements(&rules, 0, &draws(&[50.0, 49.5, 49.0, 40.0, 30.0]));
    let dropped: Vec<&str> = judged.iter().filter(|j| j.is_dropped).map(|j| j.arm.as_str()).collect();
    assert_eq!(dropped, ["arm-3", "arm-4"]);
    assert_eq!(
        judged.iter().map(|j| j.arm.as_str()).collect::<Vec<_>>(),
        ["arm-0", "arm-1", "arm-2", "arm-3", "arm-4"]
    );
    assert_eq!(judged[4].p_best_k, 0.001, "no replicate of 999");
    assert!(judged[2].p_best_k > 0.1 && judged[0].p_best_k > judged[2].p_best_k);
    // After the last rung none is dropped.
    assert!(judgements(&rules, 1, &draws(&[50.0, 40.0, 30.0])).iter().all(|j| !j.is_dropped));
}

#[test]
fn a_margin_keeps_arms_within_it() {
    let averages = [50.0, 49.0, 45.0, 40.0];
    let dropped =
        |text: &str| judgements(&rules(text), 0, &draws(&averages)).into_iter().filter(|j| j.is_dropped).count();
    assert_eq!(dropped("k=2,rungs=0.25:1,replicates=999"), 2);
    assert_eq!(dropped("k=2,rungs=0.25:1,replicates=999,margin=4"), 1);
    assert_eq!(dropped("k=2,rungs=0.25:1,replicates=999,margin=9"), 0);
}

#[test]
fn at_least_k_arms_are_left() {
    // Three arms take turns as the best, so that none belongs to the best one with a probability above the threshold.
    let replicates = (0..999).map(|r| (0..3).map(|a| if r % 3 == a { 1.0 } else { 0.0 }).collect()).collect();
    let draws =
        AverageDraws { arms: ["a", "b", "c"].map(String::from).to_vec(), observed: vec![0.3, 0.2, 0.1], replicates };
    let judged = judgements(&rules("k=1,level=0.9,rungs=0.5:1,replicates=999"), 0, &draws);
    assert!(judged.iter().any(|j| !j.is_dropped), "{judged:?}");
}

#[test]
fn spending_adds_up_and_scales() {
    let run =
        Spending { runs: 1.0, samples: 100.0, tokens: 10.0, train_seconds: 4.0, answer_seconds: 2.0, petaflops: 0.5 };
    let both: Spending = [run, run].into_iter().sum();
    assert_eq!((both.runs, both.samples, both.answer_seconds), (2.0, 200.0, 4.0));
    let full = (run * 4.0).for_runs(3.0);
    assert_eq!((full.runs, full.samples, full.train_seconds, full.answer_seconds), (3.0, 1200.0, 48.0, 6.0));
    assert_eq!(run.times_less_than(&full), [Some(12.0), Some(12.0), Some(9.0)]);
    assert_eq!(Spending::default().times_less_than(&full), [None; 3]);
    assert_eq!(Spending::default().for_runs(3.0), Spending::default());
}

#[test]
fn rungs_agree_over_the_arms_of_both() {
    let scores = |list: &[(&str, f64)]| list.iter().map(|(a, s)| (a.to_string(), *s)).collect::<Vec<_>>();
    let before = scores(&[("a", 1.0), ("b", 2.0), ("c", 3.0)]);
    assert_eq!(rung_agreement(&before, &scores(&[("b", 5.0), ("c", 6.0)])), Some(1.0));
    assert_eq!(rung_agreement(&before, &scores(&[("b", 6.0), ("c", 5.0)])), Some(-1.0));
    assert_eq!(rung_agreement(&before, &scores(&[("b", 6.0)])), None);
}
