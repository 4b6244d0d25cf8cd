//! `burgess encoders --probe`, and the recorded probes that `burgess encoders ID` shows.

use burgess_tests::{TestDir, stderr, stdout};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../encoders/zoo/weights")
}

fn succeed(place: &TestDir, args: &[&str]) -> String {
    let output = place.run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn any_encoder_is_probed_beside_the_random_one() {
    let place = TestDir::new();
    let args = ["encoders", "nano-sup", "--probe", "--limit", "150", "--json"];
    let text = succeed(&place, &args);
    assert_eq!(text, succeed(&place, &args), "the same bits");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let probes = json["probes"].as_array().expect("a list");
    let of = |attribute: &str, level: &str| {
        let found = probes.iter().find(|p| p["attribute"] == attribute && p["level"] == level);
        found.unwrap_or_else(|| panic!("{attribute} {level}: {text}"))
    };
    for attribute in ["thing", "colour", "count", "position", "depth", "word"] {
        let probe = of(attribute, "picture");
        assert_eq!((&probe["n_train"], &probe["n_test"]), (&json!(150), &json!(150)), "{probe}");
        for kind in ["linear", "knn"] {
            let number = |key: &str| probe[kind][key].as_f64().expect("a number");
            assert!(number("low") <= number("accuracy") && number("accuracy") <= number("high"), "{probe}");
        }
        assert!(probe["random"]["accuracy"].is_f64() && probe["verdict"].is_string(), "{probe}");
    }
    for attribute in ["glyph", "depth", "segmentation", "colour", "position"] {
        of(attribute, "patch");
    }
    // Random weights preserve colours.
    assert!(of("colour", "picture")["random"]["accuracy"].as_f64() > Some(0.25), "{text}");

    // A directory without a card, with the results as a table.
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/directories/transformers-vit");
    std::fs::create_dir(place.path().join("vit")).expect("a folder");
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        std::fs::copy(directory.join(name), place.path().join("vit").join(name)).expect("a copy");
    }
    let table = succeed(&place, &["encoders", "./vit", "--probe", "--limit", "20"]);
    assert!(table.starts_with("direct probes on held-out images of the nano world"), "{table}");
    assert!(table.contains("linear, random") && table.contains("segmentation"), "{table}");

    for (wrong, said) in [
        (vec!["encoders", "nano-sup", "--probe", "--limit", "0"], "--limit must be at least 1"),
        (vec!["encoders", "nano-sup", "--limit", "5"], "--probe"),
        (vec!["encoders", "--probe"], "ID|DIR"),
        (vec!["pretrain", "nano/lm", "--probes-only"], "is for encoders"),
    ] {
        let output = place.run(&wrong);
        assert!(output.status.code() == Some(2) && stderr(&output).contains(said), "{wrong:?}: {}", stderr(&output));
    }
}

#[test]
fn recorded_probes_are_shown_with_what_was_not_learned() {
    let place = TestDir::new();
    let zoo = place.path().join("zoo");
    std::fs::create_dir_all(zoo.join("weights")).expect("a folder");
    let record = |id: &str, thing: f64, digest: Option<&str>| {
        let from = weights().join(format!("{id}.safetensors"));
        let to = zoo.join("weights").join(format!("{id}.safetensors"));
        std::fs::copy(&from, &to).expect("weights");
        let own = burgess_base::digest::of_file(&from).expect("a digest");
        let share = |p: f64| json!({"accuracy": p, "low": p - 0.03, "high": p + 0.03});
        let probe = |attribute: &str, p: f64| {
            json!({"attribute": attribute, "level": "picture", "world_version": 3, "classes": 50, "n_train": 1000,
                "n_test": 500, "chance": 0.02, "constant": 0.03, "linear": share(p), "knn": share(p / 2.0), "l2": 0.01})
        };
        let all =
            json!({"digest": digest.unwrap_or(&own), "probes": [probe("thing", thing), probe("word", 0.5 + thing)]});
        let text = serde_json::to_string(&all).expect("JSON");
        std::fs::write(to.with_extension("json"), text).expect("a record");
    };
    let show = |args: &[&str]| {
        let output = place.burgess(args).env("BURGESS_ZOO", &zoo).output().expect("burgess starts");
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    record("nano-random", 0.09, None);
    record("nano-clip", 0.12, None);
    let text = show(&["encoders", "nano-clip"]);
    assert!(text.contains("\n# thing 12 % (random 9 %): not learned\n"), "{text}");
    assert!(text.contains("# direct probes on held-out images of the nano world, version 3"), "{text}");
    let start = text.find("# weights:").expect("weights");
    assert!(text[start..].lines().all(|l| l.is_empty() || l.starts_with('#')), "comments of TOML: {text}");
    let json: Value = serde_json::from_str(&show(&["encoders", "nano-clip", "--json"])).expect("JSON");
    assert_eq!(
        (&json["probes"][0]["verdict"], &json["probes"][0]["random"]["accuracy"]),
        (&json!("not-learned"), &json!(0.09))
    );

    record("nano-clip", 0.4, None);
    assert!(!show(&["encoders", "nano-clip"]).contains("not learned"));
    // The untrained encoder itself is compared with nothing.
    let own = show(&["encoders", "nano-random"]);
    assert!(own.contains("# thing") && !own.contains("(random"), "{own}");
    // A record of other weights is ignored.
    record("nano-clip", 0.4, Some("0123"));
    assert!(!show(&["encoders", "nano-clip"]).contains("direct probes"));
}
