//! The page of the synthetic study.

mod fixture;

use burgess_reports::load::StudyData;
use burgess_reports::page::{Evidence, StudyInfo, page, write_with};
use burgess_reports::ranking::{AVERAGE, RankOptions, TestFamily, rank};
use burgess_reports::series::{ArmSeries, SeriesPoint};

#[test]
fn a_study_directory_becomes_one_self_contained_page() {
    let dir = tempfile::tempdir().unwrap();
    // BURGESS_KEEP_PAGE=DIR keeps the written files for inspection.
    let kept = std::env::var_os("BURGESS_KEEP_PAGE").map(std::path::PathBuf::from);
    let dir = kept.as_deref().unwrap_or(dir.path());
    fixture::write_study(dir, 2, 60).unwrap();
    let about = StudyInfo {
        title: "The nano study".into(),
        question: "Which way of pretraining makes an encoder see best, when data and budget are the same?".into(),
        command: "burgess rank nano".into(),
        notes: vec!["Made of made-up numbers & <nothing> else.".into()],
        ..Default::default()
    };
    let written = write_with(dir, &about, &RankOptions { replicates: 300, ..Default::default() }).unwrap();
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    for external in ["src=\"http", "href=\"http", "@import", "url(", "<script"] {
        assert!(!html.contains(external), "{external}");
    }
    for said in [
        "The nano study",
        "made-up numbers &amp; &lt;nothing&gt; else",
        "data:image/png;base64,",
        "the loss is NaN",
        "not finished",
        "id=\"unfreezing\"",
        "id=\"analysis\"",
        "Clusters compared with the categories",
        "Vision-centric with and without the image",
        "id=\"recipe\"",
        "Stage tune: loss by step",
        "I think it is &lt;nothing&gt;",
    ] {
        assert!(html.contains(said), "{said}");
    }
    assert_eq!(html.matches("<svg xmlns").count(), html.matches("<desc").count(), "every figure is described");
    assert_eq!(html.matches("<img").count(), 27);
    assert!(html.len() < 1_500_000, "{} bytes", html.len());
    assert!(written.problems.is_empty());
    assert_eq!(written.ranking.missing.len(), 2);
    let svg = std::fs::read_to_string(&written.files.figure).unwrap();
    assert!(svg.contains("prefers-color-scheme: dark"));
    let found: serde_json::Value = burgess_base::atomic::read_json(&written.files.analysis).unwrap();
    assert_eq!(found["sights"].as_array().unwrap().len(), 9);
    assert_eq!(found["analysis"]["groups"]["group"].as_array().unwrap().len(), 9);
    assert!(found["missing"].is_null());
}

#[test]
fn series_are_drawn_and_compared_with_their_first_arm() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 2, 40).unwrap();
    let point = |arm: &str, x: f64| SeriesPoint { arm: arm.into(), x: Some(x), label: None, line: None };
    let series = vec![
        ArmSeries {
            title: "By size".into(),
            axis: "t".into(),
            logarithmic: true,
            points: vec![point("nano-random", 10.0), point("nano-mae", 100.0), point("nano-clip", 1000.0)],
        },
        ArmSeries {
            title: "By name".into(),
            axis: "names".into(),
            logarithmic: false,
            points: vec![
                SeriesPoint { x: None, label: Some("first".into()), ..point("nano-dinov2", 0.0) },
                SeriesPoint { x: None, ..point("no-such-arm", 0.0) },
                SeriesPoint { x: None, ..point("nano-siglip", 0.0) },
            ],
        },
    ];
    let about = StudyInfo { evidence: Evidence { series, ..Default::default() }, ..Default::default() };
    let options = RankOptions { replicates: 200, ..Default::default() };
    let written = write_with(dir.path(), &about, &options).unwrap();
    let tests: Vec<_> =
        written.ranking.tests(TestFamily::Series, AVERAGE).map(|t| (t.a.as_str(), t.b.as_str())).collect();
    assert_eq!(
        tests,
        [("nano-mae", "nano-random"), ("nano-clip", "nano-random"), ("nano-siglip", "nano-dinov2")],
        "an arm without results is left out"
    );
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    for said in [
        "id=\"series\"",
        "By size: Average of all",
        "On average: separable from 10",
        "no run of them is finished: no-such-arm",
    ] {
        let said = said.replace("Average of all", AVERAGE);
        assert!(html.contains(&said), "{said}");
    }
    assert_eq!(html.matches("<svg xmlns").count(), html.matches("<desc").count(), "every figure is described");
    let found: serde_json::Value = burgess_base::atomic::read_json(&written.files.series).unwrap();
    assert_eq!(found[0]["points"][2]["x"], 1000.0);
    assert_eq!(found[1]["points"][0]["label"], "first");
    assert!(std::fs::read_to_string(&written.files.series_figure).unwrap().contains("By name"));
    // Without series, no file of an earlier report is left.
    let written = write_with(dir.path(), &StudyInfo::default(), &options).unwrap();
    assert!(!written.files.series.exists() && !written.files.series_figure.exists());
}

#[test]
fn one_arm_alone_has_a_page_too() {
    let run = fixture::run(0, 0, 10);
    let ranking = rank(std::slice::from_ref(&run), &[], &RankOptions { replicates: 50, ..Default::default() }).unwrap();
    assert!(ranking.conclusions.iter().any(|c| c.contains("nothing to rank")));
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("nano-clip/seed-0");
    burgess_base::atomic::write_json(&run_dir.join("results.json"), &run).unwrap();
    let study = StudyData::load(dir.path()).unwrap();
    let html = page(&study, &ranking, &StudyInfo::default()).unwrap();
    assert!(html.contains("Ranking of the") && !html.contains("Clusters compared with the categories"));
    assert!(
        html.contains("they need at least 8 arms that answered at least 3 benchmarks, and here 1 arm has answered 9")
    );
}

#[test]
fn the_page_states_the_recipe_the_notes_and_what_it_does_not_show() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 1, 12).unwrap();
    let edit = |file: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let path = dir.path().join(file);
        let mut value = burgess_base::atomic::read_json(&path).unwrap();
        change(&mut value);
        burgess_base::atomic::write_json(&path, &value).unwrap();
    };
    edit("nano-mae/seed-0/results.json", &|v| {
        v["notes"] = serde_json::json!(["no tokenizer.ggml.pre: \"default\" assumed"]);
        v["results"]["nano-mmvp"]["n_unparsed"] = 3.into();
        v["config"] = serde_json::json!({
            "data": "d1635", "threads": 2,
            "evaluator": {
                "llm": "nano-lm", "connector": {"sva": {"depth": 3}}, "preprocess": "cambrian-1",
                "data": {"world": {"seed": 5, "tune": 16}},
                "recipe": {"tune": {"steps": 600, "batch": 16, "lr": 0.001, "llm_lr": 2e-5, "trainable": ["connector", "llm"],
                    "clip": 1.0}}
            }
        });
    });
    // Samples without stored options, an image outside the study, and text with control characters.
    for arm in fixture::ARMS.map(|a| a.0) {
        let file = dir.path().join(arm).join("seed-0/samples/nano-ai2d.jsonl");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("images/nano-ai2d", "/etc/nano-ai2d").replace("I think", "\\u001b[2J\\u202eI think");
        let text = text.replace("USER: <image>\\n", "What?\\nA. the root\\nB. the leaf\\nC. the stem\\n");
        std::fs::write(&file, text).unwrap();
    }
    let options = RankOptions { replicates: 50, ..Default::default() };
    let about = StudyInfo { command: "burgess rank 'my study.toml' --out x".into(), ..Default::default() };
    let written = write_with(dir.path(), &about, &options).unwrap();
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    for said in [
        "Created with <code>burgess rank &#x27;my study.toml&#x27; --out x</code>",
        "no tokenizer.ggml.pre: &quot;default&quot; assumed (nano-mae)",
        "world (seed 5, tune 16) (nano-mae)",
        "<dt>tune: length</dt><dd>steps 600, batch 16",
        "<dt>tune: learning rates</dt><dd>lr 0.001, llm_lr 0.00002",
        "<dt>tune: trained parts</dt><dd>connector, llm",
        "sva (depth 3)",
        "preprocess cambrian-1",
        "nano-llama",
        "Unparsed answers</th>",
        "Warning: more than 5 % of the answers could not be parsed",
        "nano-mmvp (nano-mae 25 %)",
        "3 images are not shown: they lie outside the study&#x27;s data.",
        "the image lies outside the study&#x27;s data and is not shown",
        "<li class=\"right\">C. the stem</li>",
        r"\x1b[2J\u{202e}I think",
    ] {
        assert!(html.contains(said), "{said}");
    }
    assert!(!html.contains("/etc/") && !html.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn a_study_without_results_says_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("nano-clip/seed-0")).unwrap();
    let error = write_with(dir.path(), &StudyInfo::default(), &RankOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no finished run"));
    assert!(!dir.path().join("ranking.json").exists());
}

#[test]
fn published_averages_stand_beside_ours() {
    let mut runs = fixture::runs(1, 20);
    let options = RankOptions { replicates: 50, ..Default::default() };
    let text = |runs: &[_]| {
        let ranking = rank(runs, &[], &options).unwrap();
        burgess_reports::table::ranking_table(&ranking, 110, false)
    };
    assert!(!text(&runs).contains("lished"));
    runs[2].run.published = Some(50.5);
    let with = text(&runs);
    assert_eq!(with.matches("50.50").count(), 1, "{with}");
    assert!(with.lines().all(|l| l.chars().count() <= 110), "{with}");
    let dir = tempfile::tempdir().unwrap();
    for run in &runs {
        let file = dir.path().join(&run.run.arm).join("seed-0/results.json");
        burgess_base::atomic::write_json(&file, run).unwrap();
    }
    let written = write_with(dir.path(), &StudyInfo::default(), &options).unwrap();
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    assert!(html.contains("<th>Published</th>") && html.matches("<td>50.50</td>").count() == 1);
    assert_eq!(written.ranking.arms.iter().filter(|a| a.published == Some(50.5)).count(), 1);
}
