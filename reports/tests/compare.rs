//! The paired comparison: golden values of SciPy and statsmodels, simulations, matching of questions, and output.

mod fixture;

use burgess_base::stream::stream;
use burgess_base::{Category, atomic};
use burgess_reports::compare::*;
use burgess_reports::ranking::{AVERAGE, RankOptions, TestFamily, rank};
use burgess_reports::schema::{BenchmarkResult, RunResults, Sample, UnitScore};
use burgess_reports::sheet;
use burgess_reports::stats;
use rand::RngExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/compare/compare.json");
    atomic::read_json(Path::new(path)).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b} ± {tolerance}");
}

/// An answer to a question: its unit, its score, and its score without the image.
type Answer = (String, f64, f64);

/// Makes a run of one benchmark from answers; questions are numbered.
fn given(seed: u64, answers: &[Answer]) -> GivenAnswers {
    let mut units: BTreeMap<String, UnitScore> = BTreeMap::new();
    let mut samples = Vec::new();
    for (i, (unit, score, blind)) in answers.iter().enumerate() {
        let of = units.entry(unit.clone()).or_insert(UnitScore { id: unit.clone(), sum: 0.0, weight: 0.0, blind: 0.0 });
        of.sum += score;
        of.weight += 1.0;
        of.blind += blind;
        samples.push(sample(&format!("q{i:04}"), unit, *score, *blind));
    }
    let mut results = fixture::made("arm", seed, &[("bench", 0, 0.0, vec![])]);
    let result: &mut BenchmarkResult = results.results.get_mut("bench").unwrap();
    (result.units, result.n) = (units.into_values().collect(), answers.len());
    results.summarise();
    GivenAnswers {
        results,
        samples: BTreeMap::from([("bench".to_string(), samples)]),
        has_blind: true,
        notes: Vec::new(),
    }
}

fn sample(id: &str, unit: &str, score: f64, blind: f64) -> Sample {
    let text = |score: f64| if score > 0.5 { "yes" } else { "no" }.to_string();
    Sample {
        id: id.into(),
        unit: unit.into(),
        subtask: String::new(),
        question: format!("Is {id} right?"),
        options: vec![],
        prompt: format!("Is {id} right? Answer."),
        image: format!("images/{unit}.png"),
        target: "yes".into(),
        answer: text(score),
        parsed: Some(text(score)),
        score,
        blind_answer: text(blind),
        blind_score: blind,
        likelihoods: None,
        tokens: None,
        at_limit: false,
        judge: None,
    }
}

fn side(name: &str, runs: Vec<GivenAnswers>) -> ComparedSide {
    ComparedSide::of_answers(name, Path::new(&format!("/nowhere/{name}.jsonl")), runs)
}

/// One image per question.
fn single(scores: &[f64]) -> Vec<Answer> {
    scores.iter().enumerate().map(|(i, s)| (format!("u{i:04}"), *s, 0.0)).collect()
}

fn options(replicates: usize) -> CompareOptions {
    CompareOptions { replicates, ..CompareOptions::default() }
}

fn compared(a: Vec<GivenAnswers>, b: Vec<GivenAnswers>, options: &CompareOptions) -> Comparison {
    compare(&side("first", a), &side("second", b), options).unwrap()
}

#[test]
fn tests_and_intervals_are_those_of_scipy_and_statsmodels() {
    for case in golden()["paired"].as_array().unwrap() {
        let images = numbers(&case["image"]);
        let answers = |key: &str| -> Vec<Answer> {
            images.iter().zip(numbers(&case[key])).map(|(image, score)| (format!("{image:03}"), score, 0.0)).collect()
        };
        let found = compared(vec![given(0, &answers("a"))], vec![given(0, &answers("b"))], &options(4000));
        let s = found.pairs[0].summary().unwrap();
        let of = |key: &str| case[key].as_f64().unwrap();
        let error = of("standard_error");
        close(s.difference, of("difference"), 1e-9);
        close(s.power.as_ref().unwrap().standard_error, error, 1e-9);
        close(s.p, of("p_sign_flip"), 0.025);
        close(s.low, of("low"), 0.12 * error);
        close(s.high, of("high"), 0.12 * error);
        let binary = s.outcomes.binary.unwrap();
        let table: Vec<Vec<f64>> = case["table"].as_array().unwrap().iter().map(numbers).collect();
        let counts = [binary.both_right, binary.only_a, binary.only_b, binary.both_wrong].map(|n| n as f64);
        assert_eq!(counts.to_vec(), table.concat());
        assert_eq!((s.outcomes.won, s.outcomes.lost), (binary.only_a, binary.only_b));
        match s.questions == s.units {
            true => close(binary.mcnemar_p.unwrap(), of("mcnemar_p"), 1e-9),
            false => assert_eq!(binary.mcnemar_p, None, "questions about one image are not independent"),
        }
    }
}

#[test]
fn distributions_are_those_of_scipy_and_statsmodels() {
    let golden = golden();
    for case in golden["normal"].as_array().unwrap() {
        let expected = case["cdf"].as_f64().unwrap();
        close(stats::normal_cdf(case["x"].as_f64().unwrap()), expected, 1e-14);
    }
    close(stats::normal_cdf(-9.0) / golden["normal"][0]["cdf"].as_f64().unwrap(), 1.0, 1e-9);
    for case in golden["mcnemar"].as_array().unwrap() {
        let of = |key: &str| case[key].as_u64().unwrap() as usize;
        close(stats::mcnemar(of("b"), of("c")), case["p"].as_f64().unwrap(), 1e-9);
    }
    let case = &golden["holm"];
    stats::holm(&numbers(&case["p"])).iter().zip(numbers(&case["adjusted"])).for_each(|(x, y)| close(*x, y, 1e-12));
}

#[test]
fn power_is_that_of_statsmodels() {
    let n = 400;
    for case in golden()["power"].as_array().unwrap() {
        let of = |key: &str| case[key].as_f64().unwrap();
        // Scores whose differences have the wanted standard error: ±x in turn, so that it is x / √(n − 1).
        let x = of("error") / 100.0 * f64::from(n - 1).sqrt();
        let scores = |sign: f64| -> Vec<f64> {
            (0..n).map(|i| 0.5 + sign * x / 2.0 * if i % 2 == 0 { 1.0 } else { -1.0 }).collect()
        };
        let options =
            CompareOptions { detect: of("detect"), confidence: 1.0 - of("alpha"), power: of("wanted"), ..options(100) };
        let found = compared(vec![given(0, &single(&scores(1.0)))], vec![given(0, &single(&scores(-1.0)))], &options);
        let power = found.pairs[0].scopes[0].power.clone().unwrap();
        close(power.standard_error, of("error"), 1e-9);
        close(power.power.unwrap(), of("power"), 1e-6);
        close(power.detectable.unwrap() / of("detectable"), 1.0, 1e-3);
        close(power.questions_needed.unwrap() as f64 / f64::from(n) / of("times"), 1.0, 5e-3);
        assert_eq!(power.seeds_needed, None);
    }
}

#[test]
fn variances_of_seeds_are_those_of_an_analysis_of_variance() {
    let golden = golden();
    let tables: Vec<Vec<Vec<f64>>> = golden["seeds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["table"].as_array().unwrap().iter().map(numbers).collect())
        .collect();
    for (case, table) in golden["seeds"].as_array().unwrap().iter().zip(&tables) {
        let (units, seeds) = (table.len(), table[0].len());
        let run = |seed: usize| given(seed as u64, &single(&table.iter().map(|row| row[seed]).collect::<Vec<_>>()));
        let constant = |seed: usize| given(seed as u64, &single(&vec![0.5; units]));
        let found = compared(
            (0..seeds).map(run).collect(),
            (0..seeds).map(constant).collect(),
            &CompareOptions { detect: 3.0, ..options(100) },
        );
        let power = found.pairs[0].scopes[0].power.clone().unwrap();
        let (residual, of_seed) = (case["residual"].as_f64().unwrap(), case["seed"].as_f64().unwrap());
        let observations = (units * seeds) as f64;
        close(power.interaction_variance.unwrap(), 1e4 * residual / observations, 1e-9);
        close(power.seed_variance.unwrap(), (1e4 * (of_seed - residual) / observations).max(0.0), 1e-9);
        let sum = power.question_variance + power.interaction_variance.unwrap() + power.seed_variance.unwrap();
        close(power.standard_error, sum.sqrt(), 1e-9);
    }
}

/// Answers of two models to `n` images with one to three questions: equal abilities, or the first better by `better`.
fn world(name: &str, world: u64, n: usize, better: f64) -> [Vec<Answer>; 2] {
    let mut rng = stream(name, world);
    let mut answers: [Vec<Answer>; 2] = Default::default();
    for image in 0..n {
        let (ease, questions) = (rng.random::<f64>(), 1 + (rng.random::<f64>() * 3.0) as usize);
        for _ in 0..questions {
            for (model, list) in answers.iter_mut().enumerate() {
                let p = 0.15 + 0.6 * ease + if model == 0 { better } else { 0.0 };
                list.push((format!("u{image:04}"), f64::from(u8::from(rng.random::<f64>() < p)), 0.0));
            }
        }
    }
    answers
}

#[test]
fn equal_models_are_separable_in_five_of_a_hundred_comparisons() {
    let worlds = 300;
    let mut rejected = 0;
    for w in 0..worlds {
        let [a, b] = world("compare/null", w, 60, 0.0).map(|answers| given(0, &answers));
        let options = CompareOptions { seed: w, ..options(200) };
        rejected += usize::from(compared(vec![a], vec![b], &options).pairs[0].scopes[0].p < 0.05);
    }
    // The standard error of the share is 0.013.
    let level = rejected as f64 / worlds as f64;
    assert!((0.02..=0.08).contains(&level), "a test at 5 % rejects in {level}");
}

#[test]
fn differences_are_found_as_often_as_predicted() {
    let (worlds, better) = (200, 0.1);
    let (mut found, mut predicted, mut errors) = (0, 0.0, Vec::new());
    for w in 0..worlds {
        let [a, b] = world("compare/power", w, 100, better).map(|answers| given(0, &answers));
        let options = CompareOptions { seed: w, detect: 100.0 * better, ..options(400) };
        let c = compared(vec![a], vec![b], &options);
        let s = &c.pairs[0].scopes[0];
        found += usize::from(s.separable && s.difference > 0.0);
        let power = s.power.as_ref().unwrap();
        predicted += power.power.unwrap() / worlds as f64;
        errors.push((s.difference, power.standard_error));
    }
    let share = found as f64 / worlds as f64;
    assert!((0.55..0.95).contains(&predicted), "a case in which power matters: {predicted}");
    // The standard error of the share is 0.035; the test by interval and p finds a little less than one by p alone.
    assert!((share - predicted).abs() < 0.1, "found in {share}, predicted in {predicted}");
    let mean = errors.iter().map(|(d, _)| d).sum::<f64>() / worlds as f64;
    let spread = (errors.iter().map(|(d, _)| (d - mean).powi(2)).sum::<f64>() / (worlds - 1) as f64).sqrt();
    let stated = errors.iter().map(|(_, e)| e).sum::<f64>() / worlds as f64;
    close(stated / spread, 1.0, 0.1);
}

/// The standard error covers seeds: over many studies with three seeds per arm it has the size of the real spread.
#[test]
fn standard_errors_cover_the_variance_between_seeds() {
    let (worlds, seeds, units) = (200, 3, 60);
    let (mut differences, mut variances) = (Vec::new(), 0.0);
    for w in 0..worlds {
        let mut rng = stream("compare/seeds", w);
        let mut normal = move || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let hard: Vec<f64> = (0..units).map(|_| normal()).collect();
        let mut arm = || -> Vec<GivenAnswers> {
            let own: Vec<f64> = (0..units).map(|_| normal()).collect();
            let one = |seed: u64, luck: f64, noise: Vec<f64>| {
                let score = |i: usize| 0.5 + 0.05 * hard[i] + 0.1 * own[i] + 0.03 * luck + 0.1 * noise[i];
                given(seed, &single(&(0..units).map(score).collect::<Vec<_>>()))
            };
            (0..seeds).map(|s| one(s, normal(), (0..units).map(|_| normal()).collect())).collect()
        };
        let (a, b) = (arm(), arm());
        let c = compared(a, b, &options(100));
        let s = &c.pairs[0].scopes[0];
        differences.push(s.difference);
        variances += s.power.as_ref().unwrap().standard_error.powi(2) / worlds as f64;
    }
    let spread = differences.iter().map(|d| d * d).sum::<f64>() / worlds as f64;
    // The relative standard error of a variance from 200 values is 0.1.
    close(variances / spread, 1.0, 0.25);
}

#[test]
fn numbers_are_those_of_a_ranking() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 2, 12).unwrap();
    let open = |arm: &str| ComparedSide::open(&dir.path().join(arm)).unwrap();
    let found = compare(&open("nano-clip"), &open("nano-siglip"), &options(300)).unwrap();
    let ranking = rank(&fixture::runs(2, 12), &[], &RankOptions { replicates: 300, ..Default::default() }).unwrap();
    let pair = &found.pairs[0];
    assert_eq!(pair.seeds, [vec![0, 1], vec![0, 1]]);
    for family in [TestFamily::Leader, TestFamily::Neighbours] {
        for test in &ranking.tests {
            if test.family == family && test.a == "nano-clip" && test.b == "nano-siglip" {
                let s = pair.scopes.iter().find(|s| s.scope == test.scope).unwrap();
                assert_eq!((s.difference, s.low, s.high, s.p), (test.difference, test.low, test.high, test.p));
            }
        }
    }
    let s = pair.summary().unwrap();
    assert_eq!(s.scope, AVERAGE);
    close(s.a, ranking.arm("nano-clip").unwrap().average.score, 1e-9);
    // Each benchmark has one stored answer for each of its units.
    assert!(pair.warnings.is_empty(), "{:?}", pair.warnings);
}

#[test]
fn studies_are_paired_by_arm() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    fixture::write_study(&dirs[0].path().join("nano"), 1, 12).unwrap();
    fixture::write_study(&dirs[1].path().join("nano"), 2, 12).unwrap();
    std::fs::remove_dir_all(dirs[1].path().join("nano/nano-mae")).unwrap();
    let open = |i: usize| ComparedSide::open(&dirs[i].path().join("nano")).unwrap();
    let found = compare(&open(0), &open(1), &options(200)).unwrap();
    assert_eq!((found.pairs.len(), found.unpaired.clone()), (8, [vec!["nano-mae".to_string()], vec![]]));
    assert!(found.conclusion.starts_with("Of 8 arms, on average: "), "{}", found.conclusion);
    assert!(
        found.warnings.iter().any(|w| w.starts_with("nano-mae-unfrozen (seed 0) of") && w.contains("not compared"))
    );
    // Both directories are called `nano`.
    assert!(found.a.name.ends_with("/nano") && found.a.name != found.b.name, "{}", found.a.name);
    // All averages are one family of tests.
    let mut averages: Vec<&ScopeComparison> = found.pairs.iter().map(|p| &p.scopes[0]).collect();
    averages.sort_by(|x, y| x.p.total_cmp(&y.p));
    close(averages[0].p_adjusted, (8.0 * averages[0].p).min(1.0), 1e-12);
    let text = comparison_text(&found, 100, false);
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
}

#[test]
fn only_questions_that_agree_are_compared_and_the_others_are_counted() {
    let answers: Vec<Answer> = (0..12).map(|i| (format!("u{}", i / 2), f64::from(u8::from(i % 3 == 0)), 0.0)).collect();
    let (mut a, mut b) = (given(0, &answers), given(0, &answers));
    let samples = |side: &mut GivenAnswers| side.samples.remove("bench").unwrap();
    let (mut x, mut y) = (samples(&mut a), samples(&mut b));
    // q0000 has another right answer; q0004 is missing in the second, q0011 in the first; the rest of u5 remains.
    y[0].target = "no".into();
    y.retain(|s| s.id != "q0004");
    x.retain(|s| s.id != "q0011");
    y[6].prompt = "another prompt".into();
    a.samples.insert("bench".into(), x);
    b.samples.insert("bench".into(), y);
    let found = compared(vec![a], vec![b], &options(200));
    let pair = &found.pairs[0];
    let matches = &pair.matches["bench"];
    assert_eq!((matches.compared, matches.units), (6, 3), "u1, u3 and u4");
    assert_eq!((matches.only_a, matches.only_b, matches.differing, matches.left_with_unit), (1, 1, 1, 3));
    assert_eq!((pair.scopes[0].questions, matches.differing_prompts), (6, 1));
    let warnings = pair.warnings.join("\n");
    for part in ["1 answered by first only", "1 answered by second only", "3 whose image or group", "prompts of 1 "] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}

#[test]
fn without_stored_answers_images_are_matched() {
    let scores = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0];
    let (a, mut b) = (given(0, &single(&scores)), given(0, &single(&[0.0; 6])));
    b.samples.clear();
    let found = compared(vec![a], vec![b], &options(200));
    let pair = &found.pairs[0];
    assert!(pair.matches["bench"].by_units && pair.warnings[0].contains("only the ids of images"));
    assert_eq!((pair.scopes[0].outcomes.won, pair.scopes[0].outcomes.of_units), (4, true));
}

#[test]
fn unequal_conditions_are_warnings() {
    let scores: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i % 3 == 0))).collect();
    let (a, mut b) = (given(0, &single(&scores)), given(0, &single(&scores)));
    let result = b.results.results.get_mut("bench").unwrap();
    (result.scoring, result.prompts, result.sample_of) = ("strict".into(), "cambrian-1".into(), Some(50));
    b.results.digests.insert("data".into(), "other".into());
    b.results.run.llm = "vicuna".into();
    let mut a = a;
    a.results.digests.insert("data".into(), "one".into());
    let pair = &compared(vec![a], vec![b], &options(200)).pairs[0];
    let warnings = pair.warnings.join("\n");
    for part in [
        "The scoring rules differ: official and strict (bench)",
        "The rules of the prompts differ: official and cambrian-1",
        "The samples of questions differ: all and 20 of 50",
        "The data differ (digests of `data`)",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(pair.differences.iter().any(|d| d == "language model: nano-llama and vicuna"), "{:?}", pair.differences);
    assert!(pair.conclusion.contains("have the same score on every one of the 20 questions"), "{}", pair.conclusion);
    assert!(pair.power_note.contains("cannot be estimated"), "{}", pair.power_note);
}

fn refused(a: &ComparedSide, b: &ComparedSide) -> String {
    let error = compare(a, b, &options(200)).unwrap_err();
    format!("{error} | {}", error.hint_text().unwrap_or("NO HINT"))
}

#[test]
fn what_cannot_be_compared_is_an_error_with_a_hint() {
    let one = || given(0, &single(&[1.0, 0.0, 1.0]));
    let a = side("a", vec![one()]);
    let same = refused(&a, &a);
    assert!(same.contains("are the same") && same.contains("give two different"), "{same}");
    let mut other = one();
    let result = other.results.results.remove("bench").unwrap();
    other.results.results.insert("else".into(), result);
    let none = refused(&a, &side("b", vec![other]));
    assert!(none.contains("no benchmark in common: the first has bench, the second else"), "{none}");
    let mut shifted = one();
    for sample in shifted.samples.get_mut("bench").unwrap() {
        sample.id.push('x');
    }
    let none = refused(&a, &side("b", vec![shifted]));
    assert!(none.contains("no question in common") && none.contains("q0000"), "{none}");
    let mut twice = one();
    let list = twice.samples.get_mut("bench").unwrap();
    list.push(list[0].clone());
    let twice = refused(&a, &side("b", vec![twice]));
    assert!(twice.contains("contain the id `q0000` twice") && !twice.contains("NO HINT"), "{twice}");
    let mut nan = one();
    nan.results.results.get_mut("bench").unwrap().units[0].sum = f64::NAN;
    let nan = refused(&a, &side("b", vec![nan]));
    assert!(nan.contains("not finite"), "{nan}");

    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 1, 12).unwrap();
    let open = |path: &str| ComparedSide::open(&dir.path().join(path));
    let study = open("").unwrap();
    let arms = refused(&study, &a);
    assert!(arms.contains("has 9 arms, but the other side has one") && arms.contains("name an arm"), "{arms}");
    let unfinished = open("nano-sup-unfrozen").unwrap_err();
    assert!(unfinished.to_string().contains("not finished") && unfinished.hint_text().is_some(), "{unfinished}");
    for (path, part) in [
        ("nowhere", "does not exist"),
        ("images", "neither a study, an arm nor a run"),
        ("nano-clip/seed-0/train.jsonl", "is not a directory of results"),
    ] {
        let error = open(path).unwrap_err();
        assert!(error.to_string().contains(part) && error.hint_text().is_some(), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    assert!(open("nano-clip/seed-0").is_ok() && open("nano-clip/seed-0/results.json").is_ok());
    let bad = CompareOptions { detect: 0.0, ..options(200) };
    assert_eq!(compare(&a, &side("b", vec![one()]), &bad).unwrap_err().exit_code(), 2);
}

/// A comparison of two arms of the synthetic study, with answers that try to break the output.
fn study_comparison(questions: usize) -> Comparison {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 1, 12).unwrap();
    let open = |arm: &str| ComparedSide::open(&dir.path().join(arm)).unwrap();
    let options = CompareOptions { questions, ..options(500) };
    let mut found = compare(&open("nano-clip"), &open("nano-random"), &options).unwrap();
    for side in [&mut found.a, &mut found.b] {
        side.source = side.source.replace(&dir.path().display().to_string(), "runs/nano");
    }
    found
}

#[test]
fn output_for_people() {
    let found = study_comparison(2);
    let text = comparison_text(&found, 110, false);
    assert!(text.lines().all(|l| l.chars().count() <= 110) && !text.contains('\u{1b}'), "{text}");
    insta::assert_snapshot!("compare_text", text);
    let narrow = comparison_text(&found, 70, false);
    assert!(narrow.lines().all(|l| l.chars().count() <= 70), "{narrow}");
    assert!(comparison_text(&found, 110, true).contains('\u{1b}'));
}

#[test]
fn output_for_papers_and_programs() {
    let found = study_comparison(0);
    insta::assert_snapshot!("compare_csv", comparison_csv(&found));
    let sheets = comparison_sheets(&found);
    insta::assert_snapshot!("compare_markdown", sheets.iter().map(sheet::markdown).collect::<String>());
    insta::assert_snapshot!("compare_latex", sheets.iter().map(sheet::latex).collect::<String>());
    let csv = comparison_csv(&found);
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().all(|l| l.split(',').count() == columns), "no cell needs quotes here");
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["pairs"][0]["scopes"][0]["scope"], "average");
    assert!(questions_csv(&study_comparison(1)).lines().count() > 1);
}

#[test]
fn the_same_input_gives_the_same_numbers_on_any_number_of_threads() {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| study_comparison(1)), study_comparison(1));
}

#[test]
fn categories_of_given_answers_need_not_be_known() {
    let mut a = given(0, &single(&[1.0, 0.0, 1.0, 1.0]));
    let mut b = given(0, &single(&[0.0, 0.0, 1.0, 0.0]));
    let own = |results: &mut RunResults| {
        results.results.get_mut("bench").unwrap().category = Category::new("Other");
    };
    own(&mut a.results);
    own(&mut b.results);
    let (mut a, mut b) = (a, b);
    (a.has_blind, b.has_blind) = (false, false);
    let found = compared(vec![a], vec![b], &options(200));
    let pair = &found.pairs[0];
    assert_eq!((pair.scopes.len(), pair.scopes[0].kind), (1, ScopeKind::Benchmark));
    assert!(pair.scopes[0].blind.is_none() && pair.conclusion.contains("on bench"), "{}", pair.conclusion);
}
