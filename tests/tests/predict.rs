//! `burgess predict` through the binary: on a tiny study before and after its runs, with labels and keypoints from
//! folders, and on the published tables.

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::{Value, json};
use std::path::Path;

const STUDY: &str = r#"
name = "small"
title = "A study of predictors"
question = "Does everything run?"
seeds = [3]
[[arms]]
encoders = ["nano-clip"]
[[arms]]
encoders = ["nano-sup"]
[[arms]]
encoders = ["nano-mae"]
[[arms]]
encoders = ["nano-clip", "nano-sam"]
[[arms]]
encoders = ["nano-random"]
[[arms]]
encoders = ["oracle"]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = ["nano-gqa", "nano-mmvp"]
[evaluator.data.world]
seed = 5
align = 40
tune = 8
turns = 1
per_benchmark = 12
[evaluator.recipe.align]
steps = 6
batch = 4
lr = 1e-3
trainable = ["connector"]
[evaluator.recipe.tune]
steps = 2
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
"#;

const SMALL: [&str; 8] = ["--images", "30", "--neighbours", "5", "--probe-images", "24", "--pairs", "6"];

fn succeed(place: &TestDir, args: &[&str]) -> String {
    let output = place.run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn predicted(place: &TestDir, more: &[&str]) -> Value {
    let args: Vec<&str> =
        ["predict", "small.toml", "--json"].into_iter().chain(SMALL).chain(more.iter().copied()).collect();
    serde_json::from_str(&succeed(place, &args)).expect("JSON")
}

/// The value, or the reason why there is none, of a predictor for an arm.
fn value(report: &Value, id: &str, arm: &str) -> Value {
    let arms = report["arms"].as_array().expect("arms");
    let at = arms.iter().position(|a| a["arm"] == arm).unwrap_or_else(|| panic!("{arm}: {report}"));
    let predictors = report["predictors"].as_array().expect("predictors");
    let found = predictors.iter().find(|p| p["id"] == id).unwrap_or_else(|| panic!("{id}: {report}"));
    found["values"][at].clone()
}

#[test]
fn a_study_is_predicted_before_and_after_its_runs() {
    let place = TestDir::new();
    place.file("small.toml", STUDY);
    // Before any run: values without agreement, and the reasons of what needs a connector.
    let before = predicted(&place, &[]);
    assert!(before["predictors"].as_array().is_some_and(|all| all.iter().all(|p| p["agreement"].is_null())));
    for id in ["knn", "linear", "attentive", "linear-patch", "c-score"] {
        for arm in ["nano-clip", "nano-clip+nano-sam", "nano-random"] {
            let share = value(&before, id, arm)["value"].as_f64();
            assert!(share.is_some_and(|share| (0.0..=100.0).contains(&share)), "{id} {arm}: {share:?}");
        }
        let reason = value(&before, id, "oracle")["missing"].to_string();
        assert!(reason.contains("no network"), "{id}: {reason}");
    }
    for id in ["cka", "cka-unbiased", "cknna", "mutual-knn", "gromov-wasserstein", "effective-rank", "feature-std"] {
        for arm in ["nano-sup", "nano-clip+nano-sam", "oracle"] {
            assert!(value(&before, id, arm)["value"].is_f64(), "{id} {arm}");
        }
    }
    let detail = value(&before, "mutual-knn", "nano-sup")["detail"].to_string();
    assert!(detail.contains("layer"), "{detail}");
    assert!(value(&before, "a-score", "nano-sup")["missing"].to_string().contains("align stage"));
    assert!(value(&before, "align-loss@6", "nano-sup")["missing"].to_string().contains("--train-align"));
    assert_eq!(before, predicted(&place, &[]), "the same bits");

    // The align stage alone, and after the runs the losses that they logged: the same numbers.
    let trained = predicted(&place, &["--predictors", "align-loss", "--train-align", "--steps", "2,6"]);
    let losses = |report: &Value| {
        ["nano-clip", "nano-mae", "oracle"].map(|arm| ["align-loss@2", "align-loss@6"].map(|id| value(report, id, arm)))
    };
    assert!(losses(&trained).iter().flatten().all(|loss| loss["value"].is_f64()), "{trained}");
    succeed(&place, &["rank", "small.toml", "--jobs", "1"]);
    let after = predicted(&place, &["--steps", "2,6"]);
    assert_eq!(losses(&after), losses(&trained));
    // CLIP is its own reference, and the combination has tokens of its own.
    assert!(value(&after, "a-score", "nano-clip")["value"].as_f64().is_some_and(|a| (a - 1.0).abs() < 1e-6));
    assert!(value(&after, "a-score", "nano-clip+nano-sam")["value"].as_f64().is_some_and(|a| a < 0.999));
    for predictor in after["predictors"].as_array().expect("predictors") {
        // The baselines are shown, but not compared.
        let n = &predictor["agreement"]["n"];
        assert!(*n == json!(4) || predictor["no_agreement"].is_string(), "{predictor}");
    }
    let said = after["conclusions"].to_string();
    assert!(said.contains("4 trained arms with results are few"), "{said}");
    let dir = place.path().join("runs/small");
    let written: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("predictors.json")).expect("a file")).expect("JSON");
    assert_eq!(written, after);
    assert!(std::fs::read_to_string(dir.join("report/predictors.svg")).is_ok_and(|svg| svg.contains("C score")));

    // Formats for people and papers.
    let table = |more: &[&str]| {
        let args = ["predict", "small.toml", "--predictors", "effective-rank,feature-std,parameters", "--images", "20"];
        succeed(&place, &args.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let text = table(&[]);
    assert!(text.contains("effective rank") && text.contains("numbers  ") && !text.contains("C score"), "{text}");
    assert!(text.contains("Pick no arm"), "{text}");
    assert!(table(&["--format", "latex"]).contains("\\begin{tabular}"));
    assert!(table(&["--format", "csv"]).starts_with("study,predictor,"));
    let reference = predicted(&place, &["--predictors", "a-score", "--reference", "nano-sup"]);
    assert!(value(&reference, "a-score", "nano-sup")["value"].as_f64().is_some_and(|a| (a - 1.0).abs() < 1e-6));
}

/// Writes images of two classes, red and blue, and a pair with a point on a white square, in the layout of SPair-71k.
fn folders(dir: &Path) {
    let labels = dir.join("labels");
    for (class, colour) in [("red", [220, 30, 30]), ("blue", [30, 30, 220])] {
        std::fs::create_dir_all(labels.join(class)).expect("a folder");
        for i in 0..12_u32 {
            let image =
                image::RgbImage::from_fn(48, 48, |x, y| image::Rgb(colour.map(|c| c ^ ((x * i + y) % 8) as u8)));
            image.save(labels.join(class).join(format!("{i}.png"))).expect("an image");
        }
    }
    let (pairs, images) = (dir.join("spair/PairAnnotation/test"), dir.join("spair/JPEGImages/cat"));
    std::fs::create_dir_all(&pairs).expect("a folder");
    std::fs::create_dir_all(&images).expect("a folder");
    for (name, at) in [("a.png", 10), ("b.png", 60)] {
        let white = |x: u32, y: u32| (at..at + 20).contains(&x) && (30..50).contains(&y);
        let colour = |x, y| if white(x, y) { [250; 3] } else { [40, 90, 40] };
        image::RgbImage::from_fn(96, 80, |x, y| image::Rgb(colour(x, y))).save(images.join(name)).expect("an image");
    }
    let pair = json!({
        "category": "cat", "src_imname": "a.png", "trg_imname": "b.png", "src_imsize": [96, 80, 3],
        "trg_imsize": [96, 80, 3], "trg_bndbox": [50, 20, 90, 60], "src_kps": [[20, 40]], "trg_kps": [[70, 40]],
    });
    std::fs::write(pairs.join("000001-a-b:cat.json"), pair.to_string()).expect("a file");
}

#[test]
fn labels_and_keypoints_come_from_folders() {
    let place = TestDir::new();
    place.file("small.toml", STUDY);
    folders(place.path());
    let arms = ["--encoders", "nano-sup,nano-random", "--predictors", "linear,linear-patch,c-score"];
    let from: Vec<&str> = arms.into_iter().chain(["--labels", "labels", "--keypoints", "spair"]).collect();
    let report = predicted(&place, &from);
    assert_eq!(value(&report, "linear", "nano-sup")["value"], json!(100.0), "{report}");
    let reason = value(&report, "linear-patch", "nano-sup")["missing"].to_string();
    assert!(reason.contains("whole images"), "{reason}");
    assert!(value(&report, "c-score", "nano-sup")["value"].is_f64(), "{report}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("2 classes of labels") && notes.contains("1 of 1 test pairs of spair"), "{notes}");
    for (wrong, said) in [
        (["--labels", "spair"], "at least 2 classes"),
        (["--keypoints", "labels"], "layout of SPair-71k"),
        (["--predictors", "luck"], "mutual-knn"),
        (["--steps", "0"], "at least 1"),
        (["--images", "3"], "--images is 3"),
        (["--reference", "nobody"], "nano-clip+nano-sam"),
        (["--published", "mlcd"], "cambrian-1"),
    ] {
        let output = place.run(&["predict", "small.toml", wrong[0], wrong[1]]);
        let text = stderr(&output);
        assert!(output.status.code() == Some(2) && text.contains(said), "{wrong:?}: {text}");
    }
}

#[test]
fn the_published_linear_probes_are_compared() {
    let place = TestDir::new();
    let text = succeed(&place, &["predict", "--published"]);
    assert!(text.contains("0.77 (0.68)") && text.contains("0.26 to 0.94"), "{text}");
    let json: Value = serde_json::from_str(&succeed(&place, &["predict", "--published", "--json"])).expect("JSON");
    assert_eq!(json["tables"][0]["n"], json!(10));
    assert!(succeed(&place, &["predict", "--published", "cambrian-1", "--format", "md"]).contains("| :-- |"));
}
