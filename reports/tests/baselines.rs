//! The random and the oracle baseline, which are not ranked, and normalised scores between them.

mod fixture;

use burgess_reports::page::{StudyInfo, write_with};
use burgess_reports::ranking::{AVERAGE, RankOptions, Ranking, TestFamily, rank};
use burgess_reports::schema::{ArmRole, RunResults};
use burgess_reports::table::ranking_table;
use fixture::{Made, made, yes_no};

fn options() -> RankOptions {
    RankOptions { study: "nano".into(), replicates: 600, ..Default::default() }
}

fn ranked(runs: &[RunResults]) -> Ranking {
    rank(runs, &[], &options()).unwrap()
}

fn close(a: f64, b: f64, within: f64) {
    assert!((a - b).abs() <= within, "{a} is not {b}");
}

/// An arm with `general` and `ocr` right answers of 200, on one benchmark of each of two categories.
fn arm(name: &str, role: Option<ArmRole>, general: usize, ocr: usize) -> RunResults {
    let benchmarks: [Made; 2] = [("gqa", 0, 0.0, yes_no(200, general, 5)), ("ocr", 2, 0.0, yes_no(200, ocr, 0))];
    let mut run = made(name, 0, &benchmarks);
    run.run.role = role;
    run
}

#[test]
fn the_table_shows_the_baselines_at_its_foot() {
    let r = ranked(&fixture::runs_with_oracle(1, 150));
    let text = ranking_table(&r, 100, false);
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    insta::assert_snapshot!("with_oracle", text);
    for width in [60, 80, 120, 200] {
        assert!(ranking_table(&r, width, false).lines().all(|l| l.chars().count() <= width));
    }
}

#[test]
fn baselines_have_no_rank_and_take_none() {
    let r = ranked(&fixture::runs_with_oracle(1, 100));
    let roles: Vec<ArmRole> = r.arms.iter().map(|a| a.role).collect();
    assert_eq!(roles[..8], [ArmRole::Trained; 8]);
    assert_eq!(roles[8..], [ArmRole::Random, ArmRole::Oracle]);
    assert_eq!((r.random.as_deref(), r.oracle.as_deref()), (Some("nano-random"), Some("oracle")));
    assert!(r.arms.iter().all(|a| a.place.is_some() == (a.role == ArmRole::Trained)));
    let ranks: Vec<usize> = r.trained().filter_map(|a| a.place).map(|p| p.rank).collect();
    assert_eq!(ranks, (1..=8).collect::<Vec<_>>());
    for family in [TestFamily::Neighbours, TestFamily::Leader, TestFamily::Unfreezing] {
        assert!(r.tests(family, AVERAGE).all(|t| ![&t.a, &t.b].iter().any(|n| *n == "oracle" || *n == "nano-random")));
    }
    let value = serde_json::to_value(&r).unwrap();
    assert_eq!((&value["arms"][0]["rank"], &value["arms"][9]["role"]), (&1.into(), &"oracle".into()));
    assert!(value["arms"][9].get("rank").is_none());
    assert_eq!(serde_json::from_value::<Ranking>(value).unwrap(), r);
}

#[test]
fn a_study_without_baselines_is_as_it_was() {
    let runs = fixture::runs(1, 60);
    let without: Vec<RunResults> = runs.iter().filter(|r| r.run.arm != "nano-random").cloned().collect();
    let r = ranked(&without);
    assert!(r.random.is_none() && r.oracle.is_none() && !r.has_range() && r.baselines().next().is_none());
    assert!(r.arms.iter().all(|a| a.place.is_some() && a.average.normalised.is_none()));
    let text = serde_json::to_string(&r).unwrap();
    assert!(!text.contains("normalised"));
    assert!(!ranking_table(&r, 100, false).contains("ormalised"));
    // With baselines only there is nothing to rank, but the table is still shown.
    let only = ranked(&[arm("x-random", Some(ArmRole::Random), 50, 0), arm("oracle", Some(ArmRole::Oracle), 150, 100)]);
    let table = ranking_table(&only, 100, false);
    assert!(table.contains("random (x-random)") && table.contains("there is nothing to rank"), "{table}");
}

#[test]
fn a_normalised_score_is_the_share_of_the_way_from_random_to_oracle() {
    let runs = [
        arm("a", None, 100, 3),
        arm("b", None, 60, 0),
        arm("x-random", Some(ArmRole::Random), 40, 2),
        arm("oracle", Some(ArmRole::Oracle), 160, 6),
    ];
    let r = ranked(&runs);
    let general = |name: &str| r.arm(name).unwrap().categories["General"].normalised.unwrap();
    close(general("a").value, 50.0, 1e-9);
    close(general("b").value, 100.0 / 6.0, 1e-9);
    // Units are right in the same order for all: of a − random 60 of 200 differ, of oracle − random 120. The delta
    // method gives the standard error of the ratio.
    let (p, q): (f64, f64) = (0.3, 0.6);
    let se = (p * (1.0 - p / q) / 200.0).sqrt() / q;
    close((general("a").high - general("a").low) / 2.0, 100.0 * 1.96 * se, 1.0);
    assert!(general("a").low < 50.0 && general("a").high > 50.0 && general("b").low > 0.0);
    // An oracle with 6 of 200 is not separable from a random baseline with 2 of 200.
    assert!(r.arm("a").unwrap().categories["OCR & Chart"].normalised.is_none());
    assert!(!r.range("OCR & Chart").unwrap().above());
    let said = r.conclusions.join("\n");
    assert!(said.contains(
        "Normalised scores are missing where the oracle is not separably above the random baseline: OCR & Chart"
    ));
    assert!(r.arms[2..].iter().all(|a| a.average.normalised.is_none()), "baselines have none");
    // An arm with the same answers as the random baseline has a normalised score of 0 with an interval around it.
    let twin = ranked(&[arm("a", None, 40, 2), arm("x-random", Some(ArmRole::Random), 40, 2), runs[3].clone()]);
    let n = twin.arms[0].categories["General"].normalised.unwrap();
    assert!(n.value == 0.0 && n.low < -0.5 && n.high > 0.5, "{n:?}");
}

#[test]
fn an_evaluator_that_measures_little_is_warned_of() {
    let said = |runs: &[RunResults]| ranked(runs).warnings.join("\n");
    let (random, oracle) = (Some(ArmRole::Random), Some(ArmRole::Oracle));
    let blunt = [arm("a", None, 100, 3), arm("b", None, 40, 4), arm("x-random", random, 40, 2)];
    let with = |general: usize, ocr: usize| {
        let mut runs = blunt.to_vec();
        runs.push(arm("oracle", oracle, general, ocr));
        runs
    };
    let found = said(&with(160, 82));
    assert!(
        found.contains(
            "the oracle scores 41.0 on OCR & Chart, which is less than 70 % of the distance from chance (0.0) to \
             100: this evaluator cannot measure this category."
        ),
        "{found}"
    );
    assert!(found.contains("on ocr (41.0, chance 0.0): this evaluator cannot measure this benchmark."), "{found}");
    assert!(!found.contains("on General, less") && !found.contains("gqa"), "{found}");
    assert!(found.contains("no two trained arms are separable on OCR & Chart."), "{found}");
    assert!(found.contains("not separably above the random baseline: General (b), OCR & Chart (all arms)."), "{found}");
    assert!(!said(&with(160, 145)).contains("the oracle"), "72 % is enough");
    // Without an oracle or with a single arm, there is no warning about them.
    assert!(!said(&blunt).contains("oracle"));
    let alone = said(&[arm("a", None, 100, 3), arm("x-random", random, 40, 2)]);
    assert!(
        !alone.contains("no two") && alone.contains("not separably above the random baseline: OCR & Chart (a)."),
        "{alone}"
    );
    // If chance is unknown or 100, the oracle's reach is undefined.
    let unknown = |chance: f64| {
        let mut run = made("oracle", 0, &[("b", 0, chance, yes_no(60, 30, 3))]);
        run.run.role = oracle;
        said(&[made("a", 0, &[("b", 0, chance, yes_no(60, 20, 3))]), run])
    };
    assert!(!unknown(f64::NAN).contains("oracle") && !unknown(100.0).contains("oracle"));
    // The terminal shows the warnings too.
    let table = ranking_table(&ranked(&with(160, 82)), 100, false);
    assert!(table.contains("- Warning: the oracle scores 41.0 on OCR & Chart"), "{table}");
}

#[test]
fn pairs_that_are_told_apart_are_counted() {
    let r = ranked(&[arm("a", None, 100, 3), arm("b", None, 40, 4), arm("c", None, 102, 3)]);
    let of = |scope: &str| (r.pairs[scope].pairs, r.pairs[scope].separable);
    assert_eq!([of(AVERAGE), of("General"), of("OCR & Chart")], [(3, 2), (3, 2), (3, 0)]);
}

/// With many images, the interval covers the true normalised score about as often as its confidence level.
#[test]
fn the_interval_of_a_normalised_score_covers_the_truth() {
    use burgess_base::stream::stream;
    use rand::RngExt;
    const WORLDS: u64 = 200;
    let covered = (0..WORLDS)
        .filter(|world| {
            let mut rng = stream("normalised/truth", *world);
            let n = 120;
            let mut draw = |p: f64| -> Vec<(f64, f64, f64)> {
                (0..n).map(|_| (f64::from(u8::from(rng.random::<f64>() < p)), 1.0, 0.0)).collect()
            };
            let runs = [("a", 0.5, None), ("r", 0.2, Some(ArmRole::Random)), ("o", 0.9, Some(ArmRole::Oracle))].map(
                |(name, p, role)| {
                    let mut run = made(name, 0, &[("gqa", 0, 0.0, draw(p))]);
                    run.run.role = role;
                    run
                },
            );
            let options = RankOptions { replicates: 300, seed: *world, ..Default::default() };
            let n = rank(&runs, &[], &options).unwrap().arms[0].average.normalised.unwrap();
            let truth = 100.0 * 0.3 / 0.7;
            n.low <= truth && truth <= n.high
        })
        .count();
    let coverage = covered as f64 / WORLDS as f64;
    assert!((0.9..=1.0).contains(&coverage), "{coverage}");
}

#[test]
fn the_page_shows_baselines_range_and_normalised_scores() {
    let dir = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("BURGESS_KEEP_PAGE").map(|d| std::path::PathBuf::from(d).join("with-oracle"));
    let dir = kept.as_deref().unwrap_or(dir.path());
    fixture::write_study(dir, 2, 60).unwrap();
    for seed in 0..2 {
        let file = dir.join(format!("oracle/seed-{seed}/results.json"));
        burgess_base::atomic::write_json(&file, &fixture::oracle(seed, 60)).unwrap();
    }
    let options = RankOptions { replicates: 300, ..Default::default() };
    let written = write_with(dir, &StudyInfo::default(), &options).unwrap();
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    for said in [
        "random (nano-random)",
        "Normalised scores of all benchmarks, with confidence intervals",
        "class=\"range\"",
        "between random and oracle baseline",
        "oracle baseline",
    ] {
        assert!(html.contains(said), "{said}");
    }
    assert_eq!(html.matches("<svg xmlns").count(), html.matches("<desc").count());
    assert!(std::fs::read_to_string(&written.files.figure).unwrap().contains("class=\"range\""));
}
