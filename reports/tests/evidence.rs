//! Evidence beyond the runs of a ranking: direct probes of the encoders, and the learning curve of the evaluator.

mod fixture;

use burgess_base::{Category, atomic};
use burgess_reports::check::{ClaimVerdict, Claims, Measurements};
use burgess_reports::learning::{DataShare, LearningCurve};
use burgess_reports::load::StudyData;
use burgess_reports::page::{Evidence, StudyInfo, write_with};
use burgess_reports::ranking::{RankOptions, Ranking, rank};
use burgess_reports::schema::ArmRole;
use burgess_reports::validity::{EncoderProbes, Probe, ProbeAccuracy, ProbePair, ProbeValidity};
use std::path::{Path, PathBuf};

fn options() -> RankOptions {
    RankOptions { replicates: 200, ..Default::default() }
}

/// Writes the study to a temporary directory, or to a folder of BURGESS_KEEP_PAGE for inspection.
fn study(name: &str, seeds: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("BURGESS_KEEP_PAGE").map(|kept| PathBuf::from(kept).join(name));
    let path = kept.unwrap_or(dir.path().to_path_buf());
    fixture::write_study(&path, seeds, 60).unwrap();
    for seed in 0..seeds {
        let file = path.join(format!("oracle/seed-{seed}/results.json"));
        atomic::write_json(&file, &fixture::oracle(seed, 60)).unwrap();
    }
    (dir, path)
}

fn pair(attribute: &str, benchmark: &str, subtask: Option<&str>) -> ProbePair {
    let (benchmark, subtask) = (benchmark.to_string(), subtask.map(String::from));
    ProbePair { attribute: attribute.into(), level: None, benchmark, subtask }
}

fn accuracy(accuracy: f64) -> ProbeAccuracy {
    ProbeAccuracy { accuracy, low: accuracy - 0.03, high: accuracy + 0.03 }
}

/// Probes of every encoder of the fixture: the accuracy on things follows its ability in General; on colours it is
/// high.
fn probes() -> Vec<EncoderProbes> {
    let single = fixture::ARMS.iter().filter(|(name, ..)| !name.contains('+') && !name.contains("unfrozen"));
    single
        .map(|(name, _, _, ability)| {
            let probe = |attribute: &str, level: &str, share: f64| Probe {
                attribute: attribute.into(),
                level: level.into(),
                chance: 0.1,
                linear: accuracy(share),
                knn: accuracy(share - 0.05),
            };
            let thing = 0.2 + 0.6 * (ability[0] + 0.4) / 1.65;
            let probes = vec![
                probe("thing", "patch", 0.11),
                probe("thing", "picture", thing),
                probe("colour", "picture", 0.9 + 0.01 * ability[0]),
                probe("count", "picture", 0.4),
            ];
            EncoderProbes { encoder: name.to_string(), probes }
        })
        .collect()
}

fn pairs() -> Vec<ProbePair> {
    let thing = ProbePair { level: Some("picture".into()), ..pair("thing", "nano-gqa", Some("first")) };
    vec![
        thing,
        pair("colour", "nano-gqa", Some("second")),
        pair("count", "nano-cvbench-2d", None),
        pair("count", "nano-cvbench-3d", Some("no such subtask")),
        pair("smell", "nano-gqa", None),
        pair("thing", "not-asked", None),
    ]
}

fn validity_of(path: &Path) -> (Ranking, ProbeValidity) {
    let data = StudyData::load(path).unwrap();
    let ranking = rank(&data.results(), &[], &options()).unwrap();
    let validity = ProbeValidity::of(&data, &ranking, &pairs(), &probes()).unwrap().unwrap();
    (ranking, validity)
}

#[test]
fn direct_probes_stand_beside_answers() {
    let (_dir, path) = study("validity", 2);
    let (ranking, v) = validity_of(&path);
    let names: Vec<&str> = v.attributes.iter().map(|a| a.attribute.as_str()).collect();
    assert_eq!(names, ["thing", "colour", "count"]);
    let thing = &v.attributes[0];
    assert_eq!((thing.questions.as_str(), thing.n, thing.category.as_str()), ("nano-gqa/first", 6, "General"));
    // Only arms of one frozen encoder are compared: not the combination, the unfrozen arm or the oracle. Random is
    // last.
    let arms: Vec<&str> = thing.arms.iter().map(|a| a.arm.as_str()).collect();
    assert_eq!(arms.len(), 7, "{arms:?}");
    assert!(thing.arms[6].role == ArmRole::Random && thing.arms.iter().all(|a| !a.arm.contains('+')));
    let order: Vec<&str> = ranking.arms.iter().map(|a| a.arm.as_str()).filter(|a| arms.contains(a)).collect();
    assert_eq!(arms, order);
    // The probe has the level that the study names, not the first level.
    assert!(thing.arms.iter().all(|a| a.probe.value > 15.0 && (a.probe.high - a.probe.low - 6.0).abs() < 1e-9));
    let clip = thing.arms.iter().find(|a| a.arm == "nano-clip").unwrap();
    let answers = |seed: u64| -> f64 {
        let units = &fixture::run(0, seed, 60).results["nano-gqa"].units;
        units.iter().take(12).step_by(2).map(|u| u.sum / u.weight).sum::<f64>() / 6.0
    };
    assert!((clip.answers.value - 50.0 * (answers(0) + answers(1))).abs() < 1e-9);
    assert!(clip.answers.low < clip.answers.value || clip.answers.value == 0.0);
    let of = |f: fn(&burgess_reports::validity::ProbedArm) -> f64| thing.arms[..6].iter().map(f).sum::<f64>();
    let read = of(|a| a.answers.value) / of(|a| a.probe.value);
    assert!((thing.read.unwrap() - read).abs() < 1e-12, "of the trained arms");
    // If the probe is equally accurate for all arms, they have no order.
    assert!(v.attributes[2].tau.is_none() && thing.tau.is_some());
    let tau = v.tau.unwrap();
    assert!(tau.arms == 7 && tau.low <= tau.tau && tau.tau <= tau.high, "{tau:?}");
    assert_eq!(
        v.left_out,
        [
            "count: no arm has both a direct probe and answers to nano-cvbench-3d/no such subtask",
            "smell: no arm has both a direct probe and answers to nano-gqa"
        ]
    );
    let said = v.conclusions().join("\n");
    assert!(said.starts_with("Over 7 arms and 3 attributes, Kendall τ between the order by answers"), "{said}");
    assert!(
        said.contains("Accuracy of the trained arms' answers as a fraction of the linear probe's: thing "),
        "{said}"
    );
}

#[test]
fn a_claim_about_probes_is_checked_and_probes_excuse_what_features_lack() {
    let (_dir, path) = study("excuse", 1);
    let (ranking, mut v) = validity_of(&path);
    let check = |claims: &Claims, v: Option<&ProbeValidity>| -> ClaimVerdict {
        claims.check(&Measurements { ranking: &ranking, validity: v, reading: &[] }).remove(0)
    };
    let read = v.attributes[0].read.unwrap();
    let least = |least: f64| Claims { reads_of_probe: [("thing".to_string(), least)].into(), ..Default::default() };
    assert!(check(&least(read - 0.01), Some(&v)).holds && !check(&least(read + 0.01), Some(&v)).holds);
    assert!(check(&least(0.1), None).measured.starts_with("not measured"));
    let mut claims = Claims { every_arm_beats_random: vec![Category::KNOWLEDGE], ..Default::default() };
    let failing = check(&claims, Some(&v));
    assert!(!failing.holds && failing.measured.contains("nano-mae on Knowledge"), "{failing:?}");
    claims.probes_may_excuse = true;
    assert!(!check(&claims, Some(&v)).holds, "no probe belongs to Knowledge");
    // Now one probe belongs to it, and is not better for any encoder than for random weights.
    v.attributes[2].category = Category::KNOWLEDGE;
    let excused = check(&claims, Some(&v)).measured;
    let said = "; excused, because direct probes are no better than on random weights: ";
    let (failing, excused) = excused.split_once(said).unwrap_or_else(|| panic!("{excused}"));
    assert!(excused.contains("nano-mae on Knowledge") && !failing.contains("nano-mae"), "{failing}, {excused}");
    assert!(failing.contains("nano-clip+nano-dinov2"), "a combination has no probes: {failing}");
    // The probe of things is better for every encoder.
    v.attributes[0].category = Category::KNOWLEDGE;
    assert!(!check(&claims, Some(&v)).measured.contains(said));
}

#[test]
fn the_page_has_a_section_and_files_for_direct_probes() {
    let (_dir, path) = study("validity-page", 1);
    let evidence = Evidence { pairs: pairs(), probes: probes(), ..Default::default() };
    let about = StudyInfo { evidence, ..Default::default() };
    let first = write_with(&path, &about, &options()).unwrap();
    // A report without probes removes the files of an earlier report.
    let without = write_with(&path, &StudyInfo::default(), &options()).unwrap();
    assert!(!without.files.validity.exists() && !without.files.validity_figure.exists());
    assert!(!std::fs::read_to_string(&without.files.page).unwrap().contains("id=\"validity\""));
    let written = write_with(&path, &about, &options()).unwrap();
    assert_eq!(first.ranking, written.ranking);
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    for said in ["id=\"validity\"", "nano-gqa/first", "accuracy of the linear probe", "random (nano-random)"] {
        assert!(html.contains(said), "{said}");
    }
    assert_eq!(html.matches("<svg xmlns").count(), html.matches("<desc").count());
    assert!(std::fs::read_to_string(&written.files.validity_figure).unwrap().contains("prefers-color-scheme"));
    let json: serde_json::Value = atomic::read_json(&written.files.validity).unwrap();
    assert_eq!(json["attributes"].as_array().unwrap().len(), 3);
}

/// Writes runs of three arms on fractions of the data; `left` is the fraction of units that keep their points.
fn write_shares(path: &Path, shares: &[(f64, f64)]) {
    let whole = DataShare { share: 1.0, align: 8192, tune: 2304 };
    for (share, left) in shares {
        let part = DataShare { share: *share, align: (8192.0 * share) as usize, tune: (2304.0 * share) as usize };
        part.write(path).unwrap();
        let dir = DataShare::dir(path, *share);
        for mut run in [fixture::run(0, 0, 60), fixture::run(6, 0, 60), fixture::oracle(0, 60)] {
            for result in run.results.values_mut() {
                let n = result.units.len() as f64;
                for (i, unit) in result.units.iter_mut().enumerate() {
                    if i as f64 >= left * n {
                        unit.sum = 0.0;
                    }
                }
            }
            run.summarise();
            atomic::write_json(&dir.join(&run.run.arm).join("seed-0/results.json"), &run).unwrap();
        }
    }
    whole.write(path).unwrap();
}

#[test]
fn the_learning_curve_is_that_of_the_shares() {
    let (_dir, path) = study("learning", 1);
    write_shares(&path, &[(0.5, 0.8), (0.125, 0.5)]);
    let written = write_with(&path, &StudyInfo::default(), &options()).unwrap();
    assert_eq!(written.ranking.arms.len(), 10, "shares are no arms");
    let curve = LearningCurve::load(&path, &written.ranking).unwrap().unwrap();
    let arms: Vec<(&str, ArmRole)> = curve.arms.iter().map(|a| (a.arm.as_str(), a.role)).collect();
    assert_eq!(arms, [("nano-clip", ArmRole::Trained), ("nano-random", ArmRole::Random), ("oracle", ArmRole::Oracle)]);
    let clip = &curve.arms[0].points;
    assert_eq!(clip.iter().map(|p| p.samples).collect::<Vec<_>>(), [1312, 5248, 10496]);
    let averages: Vec<f64> = clip.iter().map(|p| p.scores["average"].value).collect();
    assert!(averages[0] < averages[1] && averages[1] < averages[2], "{averages:?}");
    let last = written.ranking.arm("nano-clip").unwrap().average;
    assert_eq!(clip[2].scores["average"].low, last.low);
    assert_eq!(clip[0].scores.len(), 5, "the average and four categories");
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    for said in [
        "id=\"learning\"",
        "training samples, align + tune (logarithmic)",
        "From 5248 to 10496 training samples, the average changes as follows: nano-clip from",
    ] {
        assert!(html.contains(said), "{said}");
    }
    assert!(written.files.learning.is_file() && written.files.learning_figure.is_file());
}

#[test]
fn shares_that_cannot_be_compared_are_left_out_and_said() {
    let (_dir, path) = study("learning-broken", 1);
    write_shares(&path, &[(0.5, 0.8)]);
    DataShare { share: 0.25, align: 1, tune: 1 }.write(&path).unwrap();
    let other = fixture::run(0, 0, 30);
    DataShare { share: 0.125, align: 1, tune: 1 }.write(&path).unwrap();
    let place = DataShare::dir(&path, 0.125).join("nano-clip/seed-0/results.json");
    atomic::write_json(&place, &other).unwrap();
    let written = write_with(&path, &StudyInfo::default(), &options()).unwrap();
    let curve = LearningCurve::load(&path, &written.ranking).unwrap().unwrap();
    assert_eq!(
        curve.left_out,
        [
            "the runs on a fraction of 0.125 of the training data were asked other questions",
            "no run on a fraction of 0.25 of the training data is finished"
        ]
    );
    assert_eq!(curve.arms[0].points.len(), 2);
    assert!(LearningCurve::load(Path::new("/nonexistent"), &written.ranking).unwrap().is_none());
}
