//! The benchmarks of grounding, OCR, charts, VQA and space of 2024 to 2026 against their references: prompts, verdicts
//! and numbers of the authors' code and of lmms-eval 0.7.3 (goldens of `tests/reference/scorers_open_2026.py`).

use burgess_bench::{self as bench, AnswerScore, Benchmark, Question, QuestionSet, Rules};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

type Checked = Result<(), Box<dyn std::error::Error>>;

/// Every benchmark, and the number of questions in its fixture.
const BENCHMARKS: [(&str, usize); 14] = [
    ("refcoco-testa", 9),
    ("refcoco-testb", 9),
    ("refcoco-plus-testa", 9),
    ("refcoco-plus-testb", 9),
    ("refcocog", 9),
    ("screenspot-v2", 5),
    ("vqav2", 6),
    ("ok-vqa", 6),
    ("vsi-bench", 12),
    ("vsi-bench-debiased", 11),
    ("charxiv-reasoning", 5),
    ("charxiv-descriptive", 20),
    ("ocrbench-v2-en", 22),
    ("ocrbench-v2-cn", 7),
];

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

fn goldens(id: &str) -> Value {
    let path = golden(&format!("scorers/open_2026/{id}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

fn questions(id: &str) -> QuestionSet {
    of(id).read(&golden("benchmarks").join(id)).unwrap_or_else(|e| panic!("{e}\nhint: {:?}", e.hint_text()))
}

fn rules(name: &str) -> Rules {
    name.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn by_row<'a>(qs: &'a QuestionSet, row: &str) -> &'a Question {
    qs.iter().find(|q| q.row.to_string() == row).unwrap_or_else(|| panic!("no question of row {row}"))
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[test]
fn rows_become_questions_and_rows_without_a_rule_are_counted() {
    for (id, n) in BENCHMARKS {
        let qs = questions(id);
        assert_eq!((qs.len(), qs.skipped_count()), (n, 0), "{id}: {:?}", qs.skipped);
        assert!(qs.iter().all(|q| !q.images.is_empty() && !q.answer.is_empty()), "{id}");
    }
    for (id, n, skipped) in [("ocrbench-v2-en", 22, 3), ("ocrbench-v2-cn", 7, 4)] {
        let all = of(id).read(&golden("benchmarks/ocrbench-v2")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((all.len(), all.skipped_count()), (n, skipped), "{id}: {:?}", all.skipped);
        assert!(all.skipped.iter().all(|s| s.why.contains("has no rule here")), "{:?}", all.skipped);
    }
    let frames = questions("vsi-bench");
    assert!(frames.iter().all(|q| q.images.len() == 3), "three frames of each video are asked about");
}

#[test]
fn prompts_are_those_of_the_references() {
    let mut wrong = Vec::new();
    for (id, n) in BENCHMARKS {
        let (qs, golden) = (questions(id), goldens(id));
        for (name, prompts) in entries(&golden["prompts"]) {
            assert_eq!(prompts.as_object().map(serde_json::Map::len), Some(n), "{id} {name}");
            for (row, theirs) in entries(prompts) {
                let ours = of(id).prompt(by_row(&qs, row), rules(name));
                if theirs.as_str() != Some(&ours) {
                    wrong.push(format!("{id} {name} {row}: {ours:?}\n  not {theirs}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn verdicts_are_those_of_the_references() {
    let (mut wrong, mut table) = (Vec::new(), String::new());
    for (id, ..) in BENCHMARKS {
        let (qs, golden) = (questions(id), goldens(id));
        let mut agree = std::collections::BTreeMap::<String, (usize, usize)>::new();
        for case in golden["cases"].as_array().into_iter().flatten() {
            let (row, answer) = (case[0].to_string(), case[1].as_str().unwrap_or_default());
            for (name, theirs) in entries(&case[2]) {
                let AnswerScore { parsed, score } = of(id).judge(by_row(&qs, &row), answer, rules(name));
                let same = match theirs.as_f64() {
                    Some(theirs) => (score - theirs).abs() <= 1e-9,
                    // The reference fails on the answer.
                    None => score == 0.0,
                };
                let count = agree.entry(name.clone()).or_default();
                *count = (count.0 + usize::from(same), count.1 + 1);
                if !same {
                    wrong.push(format!("{id} {name} {row}: {score} for {parsed:?}, not {theirs}: {answer:?}"));
                }
            }
        }
        for (name, (same, all)) in agree {
            assert!(all >= 80, "{id} {name}: {all}");
            table += &format!("{id:<20} {name:<10} {same:>5} of {all:>5}\n");
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{table}{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn numbers_are_those_that_the_references_print() -> Checked {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (id, ..) in BENCHMARKS {
        let (qs, golden) = (questions(id), goldens(id));
        for run in golden["runs"].as_array().into_iter().flatten() {
            for (name, numbers) in entries(&run["numbers"]) {
                let said = |q: &Question| run["answers"][q.row.to_string()].as_str().unwrap_or_default().to_string();
                let judged: Vec<AnswerScore> = qs.iter().map(|q| of(id).judge(q, &said(q), rules(name))).collect();
                let outcome = of(id).aggregate(&qs, &judged, rules(name))?;
                for (key, theirs) in entries(numbers) {
                    let ours = match (key.as_str(), name.as_str()) {
                        ("", _) => Some(outcome.score),
                        (key, "lmms-eval") => outcome.subtasks.get(&format!("lmms-eval {key}")).copied(),
                        (key, _) => outcome.subtasks.get(key).copied(),
                    };
                    let (ours, theirs) = (ours.unwrap_or(f64::NAN), theirs.as_f64().unwrap_or(f64::NAN));
                    // lmms-eval rounds the numbers of VSI-Bench.
                    let most = if id.starts_with("vsi-bench") && name == "lmms-eval" { 1e-6 } else { 1e-7 };
                    compared += 1;
                    if (ours - theirs).abs() > most || ours.is_nan() {
                        wrong.push(format!("{id} {name}: {key:?} is {ours}, not {theirs}: {}", run["answers"]));
                    }
                }
            }
        }
    }
    println!("{compared} numbers are equal");
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 500, "{compared}");
    Ok(())
}

#[test]
fn chance_is_that_of_guessing_letters() {
    for (id, ..) in BENCHMARKS {
        let qs = questions(id);
        let chance = of(id).chance(&qs, Rules::Official);
        match id {
            // Five of eight tasks have letters: a half, a third and a quarter are one task's mean.
            "vsi-bench" => {
                let directions = (1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 4.0) / 3.0;
                let expected = 100.0 * (directions + 1.0 / 4.0 + 1.0 / 3.0 + 1.0 / 4.0) / 8.0;
                assert!((chance - expected).abs() < 1e-9, "{chance} {expected}");
            }
            "vsi-bench-debiased" => assert!(chance > 0.0 && chance < 50.0, "{chance}"),
            _ => assert_eq!(chance, 0.0, "{id}"),
        }
    }
}

/// Kind of question, right answer, response, and whether it is right by the rubric of the judge as far as rules go.
const CHARXIV: &str = r#"
d1|Loss over time|Loss over time|1
d1|Loss over time|loss over time.|1
d1|Loss over time|The title is "Loss over time".|1
d1|Loss over time|(a) Loss over time|1
d1|(a) Loss over time|Loss over time|1
d1|(a) Loss over time|a) loss over time|1
d1|Loss over time|Loss over epochs|0
d1|Loss over time|Loss|0
d1|Loss over time|Not Applicable|0
d1|Not Applicable|Not Applicable|1
d1|Not Applicable|It is not applicable to this plot.|1
d1|Not Applicable|N/A|1
d1|Not Applicable|Loss over time|0
d1|Loss|"Loss" and "Time"|0
d2|Time (s)|time (s)|1
d2|Time (s)|The label of the x-axis is Time (s).|1
d2|Time (s)|Time|0
d2|α|alpha|1
d2|$\\alpha$|α|1
d2|$R^2_{t,h}$|R^2_t,h|1
d2|A_v^t|A^t_v|1
d2|W_H|W_{H}|1
d2|W_H|W_h|1
d2|W_H|W_L|0
d2|ACC+|ACC|0
d4|-1.0|-1|1
d4|-1.0|−1.0|1
d4|-1.0|1.0|0
d4|2015|The leftmost tick is 2015.|1
d4|2015|2016|0
d4|Jan|January|0
d5|10^3|1000|1
d5|10^3|10^{3}|1
d5|10^3|$10^3$|1
d5|10^3|1e3|1
d5|10^3|10|0
d6|0.12|.12|1
d6|0.12|0.120|1
d6|0.12|0.1|0
d7|60|60|1
d7|60|60%|1
d7|60|about 60|1
d8|0.5|The difference is 0.5|1
d8|0.5|1.5 - 1.0 = 0.5|1
d8|0.5|0.50|1
d8|0.5|0.25|0
d8|0.5|five|0
d10|4|4|1
d10|4|There are 4 lines.|1
d10|4|5 lines, no, 4|1
d10|4|four|0
d10|4|5|0
d10|4|Not Applicable|0
d11|Yes|Yes|1
d11|Yes|yes, they do|1
d11|Yes|No|0
d11|No|No, they do not.|1
d11|No|They do|0
d11|Not Applicable|Yes|0
d12|3|3|1
d12|3|3.0|1
d13|A-net, B*, C|A-net, B*, C|1
d13|A-net, B*, C|The labels are A-net, B*, C.|1
d13|A-net, B*, C|a-net,b*,c|1
d13|A-net, B*, C|B*, A-net, C|0
d13|A-net, B*, C|A-net, B*|0
d13|A-net, B*, C|A-net\nB*\nC|1
d14|1.2|1.2|1
d14|1.2|12|0
d15|1,500|1500|1
d15|1500|1.5 x 10^3|1
d16|increases|increases|1
d16|increases|It increases|0
d16|increases|The trend is increases|1
d16|increases|decreases|0
d17|14|14 ticks|1
d18|1 by 2|1 by 2|1
d18|1 by 2|1x2|1
d18|1 by 2|one row and two columns|1
d18|2 by 3|two rows and three columns|1
d18|1 by 2|2 by 1|0
d18|1 by 2|2|0
d19|2|2|1
r1|Joint-CNN|The answer is Joint-CNN|1
r1|Joint-CNN|**Joint-CNN**|0
r1|(b)|b|1
r1|A, B|B, A|1
r1|A, B|A|0
r2|rising|rising|1
r2|[50, 100]|The interval is [50, 100].|1
r3|0.75|The value at 3 is 0.75|1
r3|0.75|3/4|0
r4|2.50|2.5|1
r4|2.50|2.51|0
r4|3||0
"#;

#[test]
fn the_approximation_of_charxivs_judge_follows_its_rubrics() {
    let cases: Vec<&str> = CHARXIV.lines().filter(|line| !line.is_empty()).collect();
    assert!(cases.len() >= 80, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let [kind, right, answer, expected] = case.split('|').collect::<Vec<_>>()[..] else { panic!("{case}") };
        let q = Question {
            answer: right.replace(r"\n", "\n"),
            facts: [("kind".to_string(), kind.to_string())].into(),
            ..Question::default()
        };
        let id = if kind.starts_with('d') { "charxiv-descriptive" } else { "charxiv-reasoning" };
        let score = of(id).judge(&q, &answer.replace(r"\n", "\n"), Rules::Official).score;
        if score.to_string() != expected {
            wrong.push(format!("{case}: {score}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// Writes a benchmark file and a table of two boxes in pixels beside an image of 10 by 8 pixels.
fn own(name: &str, more: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("burgess-open-2026-{}-{name}", std::process::id()));
    fs::create_dir_all(dir.join("frames/a"))?;
    let image = of("refcoco-testa").read(&golden("benchmarks/refcoco-testa"))?;
    let image = image.first().and_then(|q| q.images.first()).ok_or("no image")?.bytes()?;
    for file in ["10x8.png", "frames/a/1.png", "frames/a/0.png"] {
        fs::write(dir.join(file), &image)?;
    }
    let rows = [
        r#"{"image": "10x8.png", "video": "frames/a", "names": ["dog", "brown dog"], "box": [2, 1, 4, 4]}"#,
        r#"{"image": "10x8.png", "video": "frames/a", "names": ["cup"], "box": [0, 0, 10, 8]}"#,
    ];
    fs::write(dir.join("rows.jsonl"), rows.join("\n"))?;
    let text = format!(
        r#"category = "Vision-centric"
[data]
path = "rows.jsonl"
[columns]
each = "names"
question = "{{{{ item_index }}}} {{{{ item }}}}"
answer = "{{{{ [box[0], box[1], box[0] + box[2], box[1] + box[3]] }}}}"
{more}
"#
    );
    let path = dir.join(format!("{name}.toml"));
    fs::write(&path, text)?;
    Ok(path)
}

#[test]
fn boxes_of_ones_own_are_read_in_every_convention() -> Checked {
    for (coordinates, right, half, outside) in [
        ("unit", "[0.2, 0.125, 0.6, 0.625]", "[0.2, 0.125, 0.4, 0.625]", "[2, 1, 6, 5]"),
        ("thousand", "[200, 125, 600, 625]", "(200,125),(400,625)", "[200, 125, 1600, 625]"),
        ("pixels", "[2, 1, 6, 5]", "[2, 1, 4, 5]", "[2, 1, 16, 5]"),
    ] {
        let name = format!("own-boxes-{coordinates}");
        let rest = format!(
            r#"image = "image"
image_size = true
[prompt]
template = "Where is {{{{ question }}}}?"
[answer]
read = "bbox"
coordinates = "{coordinates}"
threshold = 0.5
[score]
numbers = [{{ name = "mean IoU", measure = "iou" }}, {{ name = "at 0.6", measure = "iou 0.6" }}]"#
        );
        let b = bench::load(&own(&name, &rest)?)?;
        let qs = b.read(&b.own_data().ok_or("no data")?)?;
        let ids: Vec<(&str, u64)> = qs.iter().map(|q| (q.id.as_str(), q.row)).collect();
        assert_eq!(ids, [("0-0", 0), ("0-1", 1), ("1-0", 2)]);
        let first = qs.first().ok_or("no question")?;
        assert_eq!((first.question.as_str(), first.answer.as_str()), ("0 dog", right));
        assert_eq!((first.fact("width"), first.fact("height")), ("10", "8"));
        for (answer, score) in [(right, 1.0), (half, 1.0), ("[0, 0, 0.1, 0.1]", 0.0)] {
            assert_eq!(b.judge(first, answer, Rules::Official).score, score, "{coordinates} {answer}");
        }
        for answer in [outside, "", "here", "[1, 1, 0, 0]"] {
            assert_eq!(b.judge(first, answer, Rules::Official), AnswerScore::unparsed(), "{coordinates} {answer}");
        }
        let judged: Vec<AnswerScore> = qs.iter().map(|q| b.judge(q, half, Rules::Official)).collect();
        let outcome = b.aggregate(&qs, &judged, Rules::Official)?;
        // The first two boxes are half covered; a tenth of the third is covered.
        assert!((outcome.subtasks["mean IoU"] - 100.0 * (0.5 + 0.5 + 0.1) / 3.0).abs() < 1e-9, "{outcome:?}");
        assert_eq!(outcome.subtasks["at 0.6"], 0.0);
        assert!((outcome.score - 100.0 * 2.0 / 3.0).abs() < 1e-9, "{outcome:?}");
    }
    Ok(())
}

#[test]
fn a_folder_of_frames_is_asked_about_as_several_images() -> Checked {
    let rest = r#"image = "{{ video }}"
[prompt]
template = "{{ question }}?"
[answer]
read = "point"
coordinates = "pixels"
[columns.facts]
width = "{{ 10 }}"
height = "{{ 8 }}""#;
    let b = bench::load(&own("own-frames", rest)?)?;
    let qs = b.read(&b.own_data().ok_or("no data")?)?;
    for q in &qs {
        let names: Vec<String> = q.images.iter().map(bench::ImageLocation::name_in_table).collect();
        assert_eq!(names, ["0.png", "1.png"]);
    }
    let first = qs.first().ok_or("no question")?;
    for (answer, score) in [("[4, 3]", 1.0), ("x=4, y=3", 1.0), ("[2, 1, 6, 5]", 1.0), ("(7, 3)", 0.0)] {
        assert_eq!(b.judge(first, answer, Rules::Official).score, score, "{answer}");
    }
    Ok(())
}

#[test]
fn wrong_keys_of_boxes_are_errors_that_say_what_to_write() -> Checked {
    let answer = |keys: &str| format!("image = \"image\"\n[prompt]\ntemplate = \"?\"\n[answer]\n{keys}");
    for (name, rest, expected) in [
        ("own-wrong-convention", answer("read = \"bbox\"\ncoordinates = \"percent\""), "unit, thousand, pixels"),
        (
            "own-wrong-measure",
            answer("read = \"bbox\"\n[score]\nnumbers = [{ name = \"n\", measure = \"dice\" }]"),
            "its measures are iou, centre",
        ),
        (
            "own-no-measure",
            answer("read = \"exact\"\n[score]\nnumbers = [{ name = \"n\", measure = \"iou\" }]"),
            "measures only the score",
        ),
        ("own-no-size", answer("read = \"bbox\""), "image_size = true"),
    ] {
        let loaded = bench::load(&own(name, &rest)?);
        let error = match loaded.and_then(|b| b.read(&b.own_data().unwrap_or_default()).map(drop)) {
            Err(e) => format!("{e} {}", e.hint_text().unwrap_or_default()),
            Ok(()) => String::new(),
        };
        assert!(error.contains(expected), "{name}: {error}");
    }
    Ok(())
}
