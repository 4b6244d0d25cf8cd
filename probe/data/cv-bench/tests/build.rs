//! Builds benchmarks from random scenes with known truth; an independent oracle checks every question and answer.

use burgess_bench::{self as bench, Rules};
use burgess_cv_bench::annotations::AnnotationFormat;
use burgess_cv_bench::balance::{AnswerBalance, in_turns};
use burgess_cv_bench::tasks::{self, CvBenchQuestion, CvBenchTask};
use burgess_cv_bench::{AnnotationSet, CvBenchOptions, annotations, build, words::plural};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

type Checked = Result<(), Box<dyn std::error::Error>>;

const CLASSES: [&str; 6] = ["chair", "bus", "traffic_light", "person", "knife", "box"];

/// A linear congruential generator, whose numbers are the same on every machine.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Returns annotations of `count` random scenes in COCO's format, or in Omni3D's if `space`.
fn scenes(count: u64, space: bool) -> Value {
    let mut draws = Draws(7);
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for image in 0..count {
        images.push(json!({"id": image, "file_name": format!("{image}.png"), "width": 96, "height": 64}));
        for _ in 0..2 + draws.below(7) {
            let (w, h) = (6 + draws.below(30), 6 + draws.below(24));
            let (x, y) = (draws.below(96 - w), draws.below(64 - h));
            let mut a = json!({"image_id": image, "category_id": draws.below(6), "bbox": [x, y, w, h], "iscrowd": u8::from(!space && draws.below(12) == 0)});
            if space {
                let centre = [draws.below(20) as f64 - 10.0, draws.below(4) as f64, 3.0 + draws.below(30) as f64];
                let half = 0.5 + draws.below(10) as f64 / 10.0;
                let corner = |k: usize| -> Vec<f64> {
                    (0..3).map(|d| centre[d] + if k >> d & 1 == 1 { half } else { -half }).collect()
                };
                a["bbox3D_cam"] = json!((0..8).map(corner).collect::<Vec<_>>());
                a["bbox2D_tight"] = json!([x, y, x + w, y + h]);
                a["visibility"] = json!(if draws.below(5) == 0 { 0.2 } else { 1.0 });
            }
            annotations.push(a);
        }
    }
    let categories: Vec<Value> = (0..6).map(|i| json!({"id": i, "name": CLASSES[i]})).collect();
    json!({"images": images, "annotations": annotations, "categories": categories})
}

fn input(dir: &Path, format: AnnotationFormat, data: &Value) -> Result<AnnotationSet, Box<dyn std::error::Error>> {
    let file = dir.join(format!("{format:?}.json"));
    fs::write(&file, data.to_string())?;
    Ok(AnnotationSet { format, annotations: file, images: dir.join("images") })
}

fn name(class: u64) -> String {
    CLASSES[class as usize].replace('_', " ")
}

/// Answers questions from the raw annotations and the question's text alone.
struct Oracle<'a> {
    of_image: BTreeMap<u64, Vec<&'a Value>>,
}

impl<'a> Oracle<'a> {
    fn new(data: &'a Value) -> Self {
        let mut of_image: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
        for a in data["annotations"].as_array().into_iter().flatten() {
            of_image.entry(a["image_id"].as_u64().unwrap_or(0)).or_default().push(a);
        }
        Self { of_image }
    }

    fn objects(&self, image: u64, class: &str) -> Vec<&&'a Value> {
        let all = self.of_image.get(&image).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|a| name(a["category_id"].as_u64().unwrap_or(0)) == class).collect()
    }

    fn count(&self, image: u64, question: &str) -> usize {
        let class =
            CLASSES.iter().map(|c| c.replace('_', " ")).find(|c| question.contains(&format!("many {} are", plural(c))));
        let found = self.objects(image, &class.expect("a class"));
        assert!(found.iter().all(|a| a["iscrowd"] == 0), "a crowd cannot be counted");
        found.len()
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn corners(a: &Value) -> Vec<Vec<f64>> {
    a["bbox3D_cam"].as_array().into_iter().flatten().map(numbers).collect()
}

fn distances(a: &[Vec<f64>], b: &[Vec<f64>]) -> (f64, f64) {
    let all: Vec<f64> = a
        .iter()
        .flat_map(|p| {
            b.iter().map(move |q| ((p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2) + (p[2] - q[2]).powi(2)).sqrt())
        })
        .collect();
    (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max))
}

#[test]
fn ten_thousand_questions_are_right_and_balanced() -> Checked {
    let dir = tempfile::tempdir()?;
    let options = CvBenchOptions { per_image: 6, ..CvBenchOptions::default() };
    let mut asked = 0;
    for (format, space) in [(AnnotationFormat::Coco, false), (AnnotationFormat::Omni3d, true)] {
        let data = scenes(1800, space);
        let scenes = annotations::read(&input(dir.path(), format, &data)?)?.scenes;
        let oracle = Oracle::new(&data);
        let candidates = tasks::candidates(&scenes, &options, &mut BTreeMap::new());
        for task in [CvBenchTask::Count, CvBenchTask::Relation, CvBenchTask::Depth, CvBenchTask::Distance] {
            let mut balance = AnswerBalance::default();
            let (mut letters, mut answers) = (BTreeMap::<usize, usize>::new(), BTreeMap::<String, usize>::new());
            for i in in_turns(&candidates, task, &options) {
                let c = &candidates[i];
                if !balance.has_room(c, &options) {
                    continue;
                }
                let turned = balance.is_swapped(c);
                let low = if let CvBenchQuestion::Count { number, .. } = c.question {
                    balance.lowest_choice(number)
                } else {
                    0
                };
                let worded = tasks::word(&scenes[c.scene], &c.question, turned, low);
                let letter = balance.letter(task, worded.choices.len());
                balance.record(c, turned, low, worded.choices.len(), letter);
                *letters.entry(letter).or_default() += 1;
                let (right, scene, image) = (&worded.choices[0], &scenes[c.scene], c.scene as u64);
                let raw = |n: usize| {
                    let object = &scene.objects[worded.boxes[n]];
                    let same = |a: &&&&Value| numbers(&a["bbox"]) == object.bbox;
                    let found = oracle.objects(image, &object.class);
                    **found.iter().find(same).expect("the object is in the annotations")
                };
                match &c.question {
                    CvBenchQuestion::Count { .. } => {
                        assert_eq!(right, &oracle.count(image, &worded.question).to_string(), "{}", worded.question);
                        assert_eq!(worded.choices.len(), 5);
                        *answers.entry(right.clone()).or_default() += 1;
                    }
                    CvBenchQuestion::Relation { first, second, axis: _, boxes } => {
                        let at = |i: &usize| numbers(&json!(scene.objects[*i].bbox));
                        let (mut x, mut y) = (at(first), at(second));
                        if turned {
                            std::mem::swap(&mut x, &mut y);
                        }
                        let holds = match right.as_str() {
                            "left" => x[0] + x[2] < y[0],
                            "right" => x[0] > y[0] + y[2],
                            "above" => x[1] + x[3] < y[1],
                            _ => x[1] > y[1] + y[3],
                        };
                        assert!(holds, "{}: {right}", worded.question);
                        let several = [first, second]
                            .iter()
                            .any(|i| scene.objects.iter().filter(|o| o.class == scene.objects[**i].class).count() > 1);
                        assert_eq!(*boxes, several, "boxes if a class occurs more than once");
                        *answers.entry(right.clone()).or_default() += 1;
                    }
                    CvBenchQuestion::Depth { .. } => {
                        let eye = vec![vec![0.0; 3]];
                        let (x, y) = (distances(&corners(raw(0)), &eye), distances(&corners(raw(1)), &eye));
                        let first = name(raw(0)["category_id"].as_u64().unwrap_or(0));
                        assert_eq!(*right == first, x.1 + 0.5 < y.0, "{}", worded.question);
                        assert_eq!(*right != first, y.1 + 0.5 < x.0, "{}", worded.question);
                        *answers.entry((*right == first).to_string()).or_default() += 1;
                    }
                    CvBenchQuestion::Distance { .. } => {
                        let anchor = corners(raw(0));
                        let (x, y) = (distances(&corners(raw(1)), &anchor), distances(&corners(raw(2)), &anchor));
                        let first = name(raw(1)["category_id"].as_u64().unwrap_or(0));
                        assert_eq!(*right == first, x.1 + 0.5 < y.0, "{}", worded.question);
                        assert_eq!(*right != first, y.1 + 0.5 < x.0, "{}", worded.question);
                        *answers.entry((*right == first).to_string()).or_default() += 1;
                    }
                }
                asked += 1;
            }
            let spread = |counts: Vec<usize>| counts.iter().max().zip(counts.iter().min()).map_or(0, |(a, b)| a - b);
            assert!(spread(letters.values().copied().collect()) <= 1, "{task:?}: {letters:?}");
            if task != CvBenchTask::Count {
                // Two exchangeable answers must be equally frequent, on each axis.
                let pairs: Vec<Vec<usize>> = match task {
                    CvBenchTask::Relation => [["left", "right"], ["above", "below"]]
                        .map(|p| p.map(|a| answers.get(a).copied().unwrap_or(0)).to_vec())
                        .to_vec(),
                    _ => vec![answers.values().copied().collect()],
                };
                assert!(pairs.into_iter().all(|p| spread(p) <= 1), "{task:?}: {answers:?}");
            }
        }
    }
    assert!(asked >= 10_000, "{asked}");
    Ok(())
}

#[test]
fn what_is_built_is_read_again_by_the_benchmark() -> Checked {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("images"))?;
    for i in 0..30 {
        RgbImage::from_pixel(96, 64, Rgb([120, 130, 140])).save(dir.path().join(format!("images/{i}.png")))?;
    }
    fs::write(dir.path().join("images/3.png"), b"no image")?;
    fs::remove_file(dir.path().join("images/4.png"))?;
    RgbImage::new(5, 5).save(dir.path().join("images/5.png"))?;
    let inputs = [
        input(dir.path(), AnnotationFormat::Coco, &scenes(30, false))?,
        input(dir.path(), AnnotationFormat::Omni3d, &scenes(30, true))?,
    ];
    let options = CvBenchOptions { min_side: 6.0, ..CvBenchOptions::default() };
    let out = dir.path().join("made");
    let manifest = build(&inputs, &options, &out, &|_| ())?;
    for why in
        ["the image is damaged", "the image's file cannot be read", "the annotations are for an image of another size"]
    {
        assert!(manifest.refused.values().any(|reasons| reasons.contains_key(why)), "{why}: {:?}", manifest.refused);
    }
    for (id, tasks) in [
        ("cv-bench-2d", [CvBenchTask::Count, CvBenchTask::Relation]),
        ("cv-bench-3d", [CvBenchTask::Depth, CvBenchTask::Distance]),
    ] {
        let b = bench::find(id)?;
        let qs = b.read(&out)?;
        let made: usize = tasks.iter().filter_map(|t| manifest.questions.get(t)).flat_map(|m| m.values()).sum();
        assert_eq!(qs.len(), made, "{id}");
        assert!(qs.len() > 20, "{id}: {}", qs.len());
        let judged: Vec<_> = qs.iter().map(|q| b.judge(q, &q.answer, Rules::Official)).collect();
        assert!((b.aggregate(&qs, &judged, Rules::Official)?.score - 100.0).abs() < 1e-9);
        for q in &qs {
            let bytes = q.images[0].bytes()?;
            assert_eq!(image::load_from_memory(&bytes)?.width(), 96);
        }
    }
    let again = dir.path().join("again");
    build(&inputs, &options, &again, &|_| ())?;
    assert_eq!(fs::read(out.join("test_2d.parquet"))?, fs::read(again.join("test_2d.parquet"))?, "the same bytes");
    assert!(build(&inputs, &options, &out, &|_| ()).unwrap_err().to_string().contains("already exists"));
    Ok(())
}

#[test]
fn ambiguous_scenes_are_not_asked() -> Checked {
    let dir = tempfile::tempdir()?;
    let scene = |annotations: Value| {
        json!({"images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 64}], "annotations": annotations,
               "categories": [{"id": 0, "name": "chair"}, {"id": 1, "name": "bus"}]})
    };
    let found = |annotations: Value, space: bool| -> Result<Vec<CvBenchQuestion>, Box<dyn std::error::Error>> {
        let format = if space { AnnotationFormat::Omni3d } else { AnnotationFormat::Coco };
        let scenes = annotations::read(&input(dir.path(), format, &scene(annotations))?)?.scenes;
        let options = CvBenchOptions { absent: 0.0, ..CvBenchOptions::default() };
        Ok(tasks::candidates(&scenes, &options, &mut BTreeMap::new()).into_iter().map(|c| c.question).collect())
    };
    let object = |class: u8, bbox: [i32; 4]| json!({"image_id": 1, "category_id": class, "bbox": bbox});
    // Overlapping boxes have no relation, but both objects can be counted.
    let asks = found(json!([object(0, [10, 10, 30, 30]), object(1, [20, 20, 30, 30])]), false)?;
    assert_eq!(asks.len(), 2, "{asks:?}");
    // An object below the minimum size is neither counted nor asked about.
    let asks = found(json!([object(0, [10, 10, 5, 5]), object(1, [60, 10, 20, 20])]), false)?;
    assert!(matches!(asks.as_slice(), [CvBenchQuestion::Count { class, number: 1 }] if class == "bus"), "{asks:?}");
    // The class of a degenerate box is not counted either.
    let asks = found(json!([object(0, [10, 10, 0, 5]), object(0, [30, 10, 20, 20])]), false)?;
    assert!(asks.is_empty(), "{asks:?}");
    // 3D: boxes that overlap in depth, corners that are not numbers, an object behind the camera.
    let solid = |class: u8, x: i32, near: f64, far: f64| {
        let corner = |k: usize| [f64::from(k as u8 & 1), f64::from(k as u8 >> 1 & 1), if k > 3 { far } else { near }];
        json!({"image_id": 1, "category_id": class, "bbox2D_tight": [x, 5, x + 20, 30], "bbox3D_cam": (0..8).map(corner).collect::<Vec<_>>()})
    };
    assert!(found(json!([solid(0, 5, 3.0, 6.0), solid(1, 50, 5.0, 8.0)]), true)?.is_empty());
    assert_eq!(found(json!([solid(0, 5, 3.0, 4.0), solid(1, 50, 9.0, 10.0)]), true)?.len(), 1);
    let mut behind = solid(0, 5, 3.0, 4.0);
    behind["behind_camera"] = json!(true);
    let mut broken = solid(0, 5, 3.0, 4.0);
    broken["bbox3D_cam"][0] = json!([1.0, 2.0]);
    let with = |key: &str, value: Value| {
        let mut object = solid(0, 5, 3.0, 4.0);
        object[key] = value;
        object
    };
    let unmeasured = ["lidar_pts", "segmentation_pts"].map(|key| with(key, json!(0)));
    let doubtful = [with("depth_error", json!(0.6)), with("truncation", json!(0.6)), with("valid3D", json!(0))];
    let unknown = ["lidar_pts", "segmentation_pts", "depth_error", "truncation", "visibility"];
    for known in unknown.map(|key| with(key, json!(-1))) {
        assert_eq!(found(json!([known, solid(1, 50, 9.0, 10.0)]), true)?.len(), 1);
    }
    for odd in [behind, broken].into_iter().chain(unmeasured).chain(doubtful) {
        assert!(found(json!([odd, solid(1, 50, 9.0, 10.0)]), true)?.is_empty());
    }
    Ok(())
}

#[test]
fn broken_annotations_say_what_and_where() -> Checked {
    let dir = tempfile::tempdir()?;
    let error = |text: &str| -> Result<String, Box<dyn std::error::Error>> {
        let file = dir.path().join("a.json");
        fs::write(&file, text)?;
        let input = AnnotationSet { format: AnnotationFormat::Coco, annotations: file, images: dir.path().into() };
        Ok(annotations::read(&input).expect_err(text).to_string())
    };
    assert!(error("{\"images\": [")?.contains("line 1 column 12"));
    assert!(error("{\"images\": [], \"annotations\": []}")?.contains("categories"));
    let unknown = json!({"images": [{"id": 1, "file_name": "a", "width": 4, "height": 4}], "categories": [],
                         "annotations": [{"image_id": 1, "category_id": 9, "bbox": [0, 0, 1, 1]}]});
    assert!(error(&unknown.to_string())?.contains("annotation 0 is of the category 9, which is not listed"));
    let out = dir.path().join("out");
    let none = build(
        &[input(dir.path(), AnnotationFormat::Coco, &scenes(1, false))?],
        &CvBenchOptions::default(),
        &out,
        &|_| (),
    );
    assert!(none.is_err() && !out.exists(), "nothing is written if there are no images");
    assert!(build(&[], &CvBenchOptions { gap: 2.0, ..CvBenchOptions::default() }, &out, &|_| ()).is_err());
    Ok(())
}

/// Reads the layout of ADE20K_2021_17_01: a JSON file beside each image, with parts among the objects.
#[test]
fn ade20k_is_read_in_its_own_layout() -> Checked {
    let dir = tempfile::tempdir()?;
    let street = dir.path().join("training/urban/street");
    fs::create_dir_all(&street)?;
    let object = |id: u32, name: Value, level: u32, x: Value| {
        json!({"id": id, "name": name, "name_ndx": 1, "hypernym": [], "raw_name": "caf\u{e9} chair", "attributes": [],
               "depth_ordering_rank": 1, "occluded": [], "crop": "0", "saved_date": "18-Dec-2005 06:56:48",
               "parts": {"hasparts": [], "ispartof": if level == 0 { json!([]) } else { json!(0) }, "part_level": level},
               "instance_mask": "ADE_train_1/instance_000_ADE_train_1.png",
               "polygon": {"x": x, "y": [5, 5, 25, 25], "click_date": []}})
    };
    let file = json!({"annotation": {"filename": "ADE_train_1.jpg", "folder": "images/ADE/training/urban/street",
        "imsize": [64, 96, 3], "source": {"folder": "static"}, "scene": ["urban", "street"], "object": [
        object(0, json!("car, auto, automobile, machine, motorcar"), 0, json!([10, 40, 40, 10])),
        object(1, json!("wheel"), 1, json!([12, 20, 20, 12])),
        object(2, json!([]), 0, json!([50, 80, 80, 50])),
        object(3, json!("tree"), 0, json!(7)),
    ]}});
    let latin: Vec<u8> = file.to_string().chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    fs::write(street.join("ADE_train_1.json"), latin)?;
    let input =
        AnnotationSet { format: AnnotationFormat::Ade20k, annotations: dir.path().into(), images: dir.path().into() };
    let read = annotations::read(&input)?;
    let [scene] = read.scenes.as_slice() else { return Err(format!("{} scenes", read.scenes.len()).into()) };
    let objects: Vec<(&str, [f64; 4])> = scene.objects.iter().map(|o| (o.class.as_str(), o.bbox)).collect();
    assert_eq!(objects, [("car", [10.0, 5.0, 30.0, 20.0]), ("caf\u{e9} chair", [50.0, 5.0, 30.0, 20.0])]);
    assert_eq!((scene.size, scene.name.as_str()), ([96.0, 64.0], "training/urban/street/ADE_train_1.jpg"));
    assert!(scene.unclear.contains("tree"), "a class with an object without a box is not counted");
    assert_eq!(read.refused.get("a box without extent"), Some(&1));
    fs::write(street.join("ADE_train_2.json"), "{}")?;
    let error = annotations::read(&input).expect_err("no annotation");
    assert!(error.to_string().contains("ADE_train_2.json") && error.to_string().contains("annotation"), "{error}");
    Ok(())
}
