//! A race: its record, what users see of it, and its table of results.

mod fixture;

use burgess_reports::page::{StudyInfo, write_with};
use burgess_reports::racing::{
    RaceArm, RaceRecord, RaceRules, RecordedScores, RungRecord, Simulation, SimulationOptions, Spending, race_text,
};
use burgess_reports::ranking::{RankOptions, rank};
use burgess_reports::schema::SCHEMA;
use burgess_reports::stats::Estimate;
use burgess_reports::zoo::{ZooModel, ZooRow, zoo_csv};

fn spent(runs: f64, samples: f64) -> Spending {
    let (seconds, answers) = (samples / 50.0, runs * 13.0);
    Spending {
        runs,
        samples,
        tokens: samples * 40.0,
        train_seconds: seconds,
        answer_seconds: answers,
        petaflops: samples * 4e-7,
    }
}

fn race() -> RaceRecord {
    let rules: RaceRules = "k=2,rungs=0.125:0.5:1,seeds=1:1:2,margin=1".parse().unwrap();
    let rung = |share, seeds: &[u64], arms, threshold, dropped: &[&str], tau, spent| RungRecord {
        share,
        seeds: seeds.to_vec(),
        arms,
        threshold,
        dropped: dropped.iter().map(ToString::to_string).collect(),
        tau,
        spent,
    };
    let arm = |arm: &str, rung, share, is_dropped, average: [f64; 3], p_best_k| RaceArm {
        arm: arm.into(),
        rung,
        share,
        is_dropped,
        average: Estimate { value: average[0], low: average[1], high: average[2] },
        p_best_k,
    };
    let mut race = RaceRecord {
        schema: SCHEMA,
        correction: rules.correction(),
        seeds: vec![0, 1],
        samples: 7168,
        rungs: vec![
            rung(0.125, &[0], 5, rules.threshold(0), &["b", "clip"], None, spent(5.0, 4480.0)),
            rung(0.5, &[0], 3, rules.threshold(1), &["c"], Some(0.333), spent(3.0, 10752.0)),
            rung(1.0, &[0, 1], 2, None, &[], Some(1.0), spent(4.0, 28672.0)),
        ],
        arms: vec![
            arm("c", 2, 0.5, true, [30.0, 27.5, 32.5], 0.0061),
            arm("a+b", 3, 1.0, false, [61.25, 59.0, 63.5], 1.0),
            arm("b", 1, 0.125, true, [24.0, 22.0, 26.0], 0.0001),
            arm("clip", 1, 0.125, true, [25.0, 23.0, 27.0], 0.0011),
            arm("a", 3, 1.0, false, [58.0, 56.0, 60.0], 0.998),
        ],
        spent: spent(12.0, 43904.0),
        grid: spent(10.0, 71680.0),
        rules,
    };
    race.sort();
    race
}

#[test]
fn what_users_see_of_a_race() {
    let text = race_text(&race(), 100);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    insta::assert_snapshot!("race", text);
}

#[test]
fn the_record_reads_back_and_other_versions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(RaceRecord::read(dir.path()).unwrap(), None);
    race().write(dir.path()).unwrap();
    assert_eq!(RaceRecord::read(dir.path()).unwrap(), Some(race()));
    let file = dir.path().join("race.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"schema\": 1", "\"schema\": 9").replace("\"schema\":1", "\"schema\":9"))
        .unwrap();
    assert!(RaceRecord::read(dir.path()).unwrap_err().to_string().contains("schema 9"));
}

#[test]
fn ranking_and_page_show_the_race() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 1, 20).unwrap();
    race().write(dir.path()).unwrap();
    let options = RankOptions { replicates: 100, ..RankOptions::default() };
    let written = write_with(dir.path(), &StudyInfo::default(), &options).unwrap();
    assert_eq!(written.ranking.race, Some(race()));
    let page = std::fs::read_to_string(&written.files.page).unwrap();
    for shown in
        ["<section id=\"race\">", "dropped after rung 1", "p(best 2)", "<th>PFLOP</th>", "href=\"#race\"", "43,904"]
    {
        assert!(page.contains(shown), "{shown}");
    }
    std::fs::remove_file(dir.path().join("race.json")).unwrap();
    let written = write_with(dir.path(), &StudyInfo::default(), &options).unwrap();
    assert!(written.ranking.race.is_none());
    assert!(!std::fs::read_to_string(&written.files.page).unwrap().contains("id=\"race\""));
}

#[test]
fn the_table_has_timms_columns_and_order() {
    let ranking = rank(&fixture::runs(1, 60), &[], &RankOptions { replicates: 200, ..RankOptions::default() }).unwrap();
    let rows: Vec<ZooRow> = ranking
        .arms
        .iter()
        .enumerate()
        .map(|(i, arm)| {
            let race = (i == 0).then(|| RaceArm { arm: arm.arm.clone(), ..race().arms[3].clone() });
            ZooRow {
                model: ZooModel {
                    arm: arm.arm.clone(),
                    img_size: if i == 1 { vec![224, 384] } else { vec![224; arm.encoders.len().max(1)] },
                    param_count: [1_014_450_000, 5_717_416][i % 2],
                    crop_pct: if i == 1 { vec![0.9, 1.0] } else { vec![0.875] },
                    interpolation: vec!["bicubic".into()],
                },
                arm: arm.clone(),
                share: if race.is_some() { 0.125 } else { 1.0 },
                race,
                answer_seconds: 13.25,
            }
        })
        .collect();
    insta::assert_snapshot!("results_mllm", zoo_csv(&rows, &ranking.categories));
}

/// The rules on recorded scores of the nano study (`reports/examples/race_simulation.rs` prints more of them). Few
/// repetitions and replicates keep the test short.
#[test]
fn races_on_recorded_scores_keep_the_best_arms() {
    let text = include_str!("../../tests/golden/racing/nano.json");
    let scores: RecordedScores = serde_json::from_str(text).unwrap();
    let simulated = |rules: &str| {
        let rules: RaceRules = format!("replicates=400,rungs=0.125:0.25:1,{rules}").parse().unwrap();
        let options = SimulationOptions { repetitions: 5, answering: 13.0 / 89.0, seed: 0 };
        Simulation::of(&scores, &rules, &options).unwrap()
    };
    let best = simulated("k=1,finish=false");
    assert_eq!((best.found, best.kept), (5, 5), "{best:?}");
    assert!(best.training_ratio > 4.5 && best.total_ratio < best.training_ratio, "{best:?}");
    // A margin that no arm is beyond keeps all of them, and the race costs more than the grid.
    let all = simulated("k=3,margin=100");
    assert_eq!((all.found, all.arms_at_rungs[2].round() as usize), (5, scores.arms().len()), "{all:?}");
    assert!(all.training_ratio < 1.0, "{all:?}");
    assert_eq!(best, simulated("k=1,finish=false"), "the same seed gives the same races");
}
