//! A study's claims about its evaluator, checked on results that meet them, miss them, or do not measure them.

mod fixture;

use burgess_base::Category;
use burgess_reports::check::{ClaimVerdict, Claims, Measurements, TextAccuracy};
use burgess_reports::page::{Evidence, StudyInfo, write_with};
use burgess_reports::ranking::{RankOptions, Ranking, rank};
use burgess_reports::schema::RunResults;
use burgess_reports::table::check_table;

fn ranked(runs: &[RunResults]) -> Ranking {
    rank(runs, &[], &RankOptions { replicates: 400, ..Default::default() }).unwrap()
}

/// One claim of every kind.
fn claims() -> Claims {
    Claims {
        oracle_reaches: Some(0.7),
        best_above_blind: Some(25.0),
        every_arm_beats_random: vec![Category::GENERAL, Category::KNOWLEDGE],
        separates_in_every_category: true,
        seeds_agree: Some(0.8),
        reads_from_text: Some(0.9),
        ..Default::default()
    }
}

fn reading(r: &Ranking) -> Vec<TextAccuracy> {
    let share = |name: &str| if name == "nano-ai2d" { 0.29 } else { 0.95 };
    r.benchmarks.iter().map(|b| TextAccuracy { benchmark: b.name.clone(), read: share(&b.name) }).collect()
}

#[test]
fn every_claim_is_a_line_with_what_was_measured() {
    let r = ranked(&fixture::runs_with_oracle(2, 100));
    let verdicts = claims().check(&Measurements { ranking: &r, validity: None, reading: &reading(&r) });
    assert_eq!(verdicts.len(), 6);
    let table = check_table(&verdicts, 100, false);
    assert!(table.lines().all(|l| l.chars().count() <= 100), "{table}");
    assert!(check_table(&verdicts, 100, true).contains('\u{1b}'));
    insta::assert_snapshot!("verdicts", table);
}

#[test]
fn what_was_not_measured_does_not_hold() {
    let runs: Vec<RunResults> = fixture::runs(1, 60).into_iter().filter(|r| r.run.arm != "nano-random").collect();
    let r = ranked(&runs);
    let verdicts = claims().check(&Measurements { ranking: &r, validity: None, reading: &[] });
    let unmeasured: Vec<&ClaimVerdict> = verdicts.iter().filter(|v| v.measured.contains("not measured")).collect();
    assert_eq!(unmeasured.len(), 4, "{verdicts:#?}");
    assert!(unmeasured.iter().all(|v| !v.holds));
    assert!(unmeasured.iter().any(|v| v.measured == "not measured: the study has no oracle"));
    assert!(Claims::default().is_empty() && !claims().is_empty());
    assert!(Claims::default().check(&Measurements { ranking: &r, validity: None, reading: &[] }).is_empty());
}

#[test]
fn a_threshold_that_is_just_reached_is_reached() {
    let r = ranked(&fixture::runs(1, 40));
    let best = r.trained().next().unwrap();
    let gain = best.average.score - best.average.blind;
    let holds = |least: f64| {
        let claims = Claims { best_above_blind: Some(least), ..Default::default() };
        claims.check(&Measurements { ranking: &r, validity: None, reading: &[] })[0].holds
    };
    assert!(holds(gain) && !holds(gain + 0.01));
}

#[test]
fn the_page_states_the_claims() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 1, 20).unwrap();
    let evidence = Evidence { claims: claims(), ..Default::default() };
    let about = StudyInfo { evidence, ..Default::default() };
    let written = write_with(dir.path(), &about, &RankOptions { replicates: 50, ..Default::default() }).unwrap();
    assert_eq!(written.verdicts.len(), 6);
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    assert!(html.contains("id=\"check\"") && html.contains("not measured: the study has no oracle"));
}
