//! A small study without any model: result files, samples and images, made so that every filter has a known answer.

use burgess_base::{Category, atomic};
use burgess_reports::schema::{
    ArmRole, BenchmarkResult, Likelihoods, RunCost, RunId, RunResults, SCHEMA, Sample, UnitScore,
};
use std::collections::BTreeMap;
use std::path::Path;

/// What a model could say to harm the page.
pub const HARM: &str = "</script><img src=x onerror=\"document.title='harmed'\">\u{202e}<b>";

/// Scores of the runs a/0, a/1, b/0, b/1 with the image and without it, for each question of `alpha`.
const ALPHA: [(&str, [f64; 4], [f64; 4]); 8] = [
    ("q1", [1.0; 4], [0.0; 4]),
    ("q2", [1.0, 1.0, 0.0, 0.0], [0.0; 4]),
    ("q3", [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]),
    ("q4", [0.0; 4], [1.0, 0.0, 0.0, 0.0]),
    ("q5", [0.0; 4], [0.0; 4]),
    ("q6", [0.5; 4], [0.0; 4]),
    ("q7", [1.0, 0.0, 0.0, 0.0], [0.0; 4]),
    ("q8", [1.0; 4], [1.0; 4]),
];

fn said(score: f64) -> String {
    match score {
        s if s >= 1.0 => "yes".into(),
        s if s > 0.0 => "maybe".into(),
        _ => "no".into(),
    }
}

fn sample(id: &str, score: f64, blind: f64) -> Sample {
    Sample {
        id: id.into(),
        unit: id.into(),
        subtask: if id < "q5" { "first" } else { "second" }.into(),
        question: format!("Is this a picture of thing {id}?"),
        options: Vec::new(),
        prompt: format!("Is this a picture of thing {id}? Answer yes or no."),
        image: format!("images/{id}.png"),
        target: "yes".into(),
        answer: said(score),
        parsed: Some(said(score)),
        score,
        blind_answer: said(blind),
        blind_score: blind,
        likelihoods: None,
        tokens: None,
        at_limit: false,
        judge: None,
    }
}

/// The samples of `alpha` for one run; `run` is `None` for the oracle, which is always right with the image.
fn alpha(run: Option<usize>) -> Vec<Sample> {
    let with = |scores: &[f64; 4], other: f64| run.map_or(other, |run| scores[run]);
    ALPHA
        .iter()
        .map(|(id, scores, blind)| {
            let mut sample = sample(id, with(scores, 1.0), with(blind, 0.0));
            match *id {
                "q5" if run == Some(0) => {
                    sample.answer = "no idea".into();
                    sample.parsed = None;
                }
                "q6" => sample.image = "images/q1.png\nimages/q2.png".into(),
                "q7" => sample.image = "/etc/hostname.png".into(),
                _ => {}
            }
            sample
        })
        .collect()
}

/// The samples of `beta`: one question with choices and log-likelihoods, and one of harmful texts.
fn beta(run: usize) -> Vec<Sample> {
    let mut choice = sample("b1", f64::from(u8::from(run != 2)), 0.0);
    choice.subtask = "colour".into();
    choice.question = "What colour is the umbrella?".into();
    choice.options = vec!["red".into(), "green".into()];
    choice.target = "B".into();
    choice.answer = if run == 2 { "A" } else { "(B) green" }.into();
    choice.parsed = Some(if run == 2 { "A" } else { "B" }.into());
    choice.image = "images/q3.png".into();
    choice.likelihoods =
        Some(Likelihoods { options: vec![("A".into(), -1.5), ("B".into(), -0.5)], answer: "B".into(), score: 1.0 });
    let mut harm = sample("b2", 0.0, 0.0);
    harm.subtask = HARM.into();
    harm.question = format!("Harm {HARM}");
    harm.answer = HARM.into();
    harm.parsed = None;
    harm.blind_answer = "\u{1b}[2J\u{0}".into();
    harm.target = HARM.into();
    harm.image = "images/q4.png".into();
    vec![choice, harm]
}

fn result(category: Category, samples: &[Sample]) -> BenchmarkResult {
    let unit = |s: &Sample| UnitScore { id: s.unit.clone(), sum: s.score, weight: 1.0, blind: s.blind_score };
    BenchmarkResult {
        category,
        metric: "accuracy".into(),
        scoring: "strict".into(),
        prompts: "strict".into(),
        sample_of: None,
        score: 0.0,
        stderr: 0.0,
        chance: 50.0,
        blind: 0.0,
        n: samples.len(),
        n_unparsed: samples.iter().filter(|s| s.parsed.is_none()).count(),
        most_frequent_answer: None,
        n_reasoning: 0,
        several_images: None,
        n_without_image: 0,
        higher_is_better: true,
        seconds: 1.0,
        likelihood: None,
        judge: None,
        units: samples.iter().map(unit).collect(),
    }
}

/// Writes the study into a directory: arms `a` and `b` and the oracle with two seeds each, and a failed run. The image
/// of `q8` does not exist.
pub fn write(dir: &Path) {
    for (n, id) in ["q1", "q2", "q3", "q4", "q5"].iter().enumerate() {
        let path = dir.join(format!("images/{id}.png"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let shade = 40 * n as u8;
        image::RgbImage::from_pixel(40 + 10 * n as u32, 30, image::Rgb([200, shade, 120])).save(path).unwrap();
    }
    for (arm, role, runs) in [
        ("a", ArmRole::Trained, [Some(0), Some(1)]),
        ("b", ArmRole::Trained, [Some(2), Some(3)]),
        ("oracle", ArmRole::Oracle, [None; 2]),
    ] {
        for (seed, run) in runs.into_iter().enumerate() {
            let place = dir.join(format!("{arm}/seed-{seed}"));
            let samples =
                [("alpha", Category::GENERAL, alpha(run)), ("beta", Category::KNOWLEDGE, beta(run.unwrap_or(0)))];
            let mut results = BTreeMap::new();
            for (name, category, samples) in samples {
                let lines: Vec<String> = samples.iter().map(|s| serde_json::to_string(s).unwrap() + "\n").collect();
                atomic::write(&place.join(format!("samples/{name}.jsonl")), lines.concat().as_bytes()).unwrap();
                results.insert(name.to_string(), result(category, &samples));
            }
            let mut run = RunResults {
                schema: SCHEMA,
                run: RunId {
                    id: format!("made/{arm}/seed-{seed}"),
                    study: "made".into(),
                    arm: arm.into(),
                    encoders: vec![arm.into()],
                    freeze: "frozen".into(),
                    connector: "mlp2x_gelu".into(),
                    llm: "none".into(),
                    seed: seed as u64,
                    blind: "omitted".into(),
                    published: None,
                    role: Some(role),
                },
                results,
                categories: BTreeMap::new(),
                average: 0.0,
                until_ci: BTreeMap::new(),
                cost: RunCost { encoder_params: 1000, gflops_per_image: 0.5, tokens: 16, ..Default::default() },
                config: serde_json::Value::Null,
                versions: BTreeMap::new(),
                digests: BTreeMap::new(),
                date: "2026-11-30T00:00:00Z".into(),
                device: "flex".into(),
                notes: Vec::new(),
            };
            run.summarise();
            atomic::write_json(&place.join("results.json"), &run).unwrap();
        }
    }
    let failed = serde_json::json!({"arm": "c", "seed": 0, "cause": "the disk is full", "hint": null});
    atomic::write_json(&dir.join("c/seed-0/failed.json"), &failed).unwrap();
}
