//! Reads annotations as other programs write them: boxes outside of the image, fields of other types, missing fields.

use burgess_cv_bench::annotations::{self, AnnotationFormat, ReadAnnotations};
use burgess_cv_bench::tasks::{self, CvBenchQuestion, CvBenchTask, MAX_PAIR_OBJECTS};
use burgess_cv_bench::{AnnotationSet, CvBenchOptions, build};
use image::RgbImage;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

type Checked = Result<(), Box<dyn std::error::Error>>;

const SIZE: [u32; 2] = [400, 300];

/// Returns annotations of one image of 400 × 300 pixels, with the classes dog and cat.
fn coco(annotations: Value) -> Value {
    json!({
        "images": [{"id": 0, "file_name": "0.png", "width": SIZE[0], "height": SIZE[1]}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": annotations,
    })
}

fn dog(bbox: Value) -> Value {
    json!({"id": 17, "image_id": 0, "category_id": 1, "bbox": bbox, "iscrowd": 0})
}

fn input(dir: &Path, format: AnnotationFormat, text: &str) -> std::io::Result<AnnotationSet> {
    let annotations = dir.join("a.json");
    fs::write(&annotations, text)?;
    let image = dir.join("0.png");
    if !image.exists() {
        RgbImage::new(SIZE[0], SIZE[1]).save(&image).map_err(std::io::Error::other)?;
    }
    Ok(AnnotationSet { format, annotations, images: dir.into() })
}

fn read(data: &Value) -> Result<ReadAnnotations, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    // Python's `json` module writes these values without quotes.
    let text = data.to_string().replace("\"@NaN\"", "NaN").replace("\"@Infinity\"", "-Infinity");
    Ok(annotations::read(&input(dir.path(), AnnotationFormat::Coco, &text)?)?)
}

fn error(data: &Value) -> Result<String, Box<dyn std::error::Error>> {
    match read(data) {
        Err(e) => Ok(e.to_string().rsplit("a.json: ").next().unwrap_or_default().to_string()),
        Ok(found) => Err(format!("{data} is read: {:?}", found.refused).into()),
    }
}

type RefusedCounts = BTreeMap<String, BTreeMap<String, usize>>;

/// Returns the counts of dogs that can be asked for, and the refused candidates.
fn counts(found: &ReadAnnotations) -> (Vec<usize>, RefusedCounts) {
    let mut refused = RefusedCounts::new();
    let candidates = tasks::candidates(&found.scenes, &CvBenchOptions::default(), &mut refused);
    let number = |ask: &CvBenchQuestion| match ask {
        CvBenchQuestion::Count { class, number } if class == "dog" => Some(*number),
        _ => None,
    };
    (candidates.iter().filter_map(|c| number(&c.question)).collect(), refused)
}

#[test]
fn boxes_not_within_the_image_make_their_class_unaskable() -> Checked {
    let good = dog(json!([250, 150, 90, 90]));
    for (bbox, reason) in [
        (json!([500, 400, 50, 50]), "a box outside of the image"),
        (json!([-60, 10, 50, 50]), "a box outside of the image"),
        (json!([400, 0, 50, 50]), "a box outside of the image"),
        (json!([390, 10, 50, 50]), "a box mostly outside of the image"),
        (json!([10, 10, 0, 50]), "a box without extent"),
        (json!([60, 60, -50, -50]), "a box without extent"),
        (json!(["@NaN", 10, 50, 50]), "a box that is not four numbers"),
        (json!([10, 10, "@Infinity", 50]), "a box that is not four numbers"),
        (json!([10, 10, 1e300, 1e300]), "a box mostly outside of the image"),
        (json!([10, 10, 50]), "a box that is not four numbers"),
        (json!([]), "a box that is not four numbers"),
        (json!({"x": 1}), "a box that is not four numbers"),
        (json!("10 10 50 50"), "a box that is not four numbers"),
        (Value::Null, "a box without extent"),
    ] {
        let found = read(&coco(json!([good, dog(bbox.clone())])))?;
        assert_eq!(found.refused.get(reason), Some(&1), "{bbox}: {:?}", found.refused);
        assert_eq!(found.scenes[0].objects.len(), 1, "{bbox}");
        let (numbers, refused) = counts(&found);
        assert!(numbers.is_empty(), "{bbox}: neither 1 nor 2 dogs");
        assert_eq!(refused["Count"]["one of them has no usable box in the image"], 1, "{bbox}");
        // If it is the only object, it does not count as absent.
        let (numbers, refused) = counts(&read(&coco(json!([dog(bbox.clone())])))?);
        assert!(numbers.is_empty() && refused["Count"].len() == 1, "{bbox}");
    }
    // A box that is partly outside is clipped, and the clipped side is compared with the threshold.
    for (bbox, left) in [
        (json!([-20, 0, 100, 50]), [0.0, 0.0, 80.0, 50.0]),
        (json!(["390", 290.0, "12", 12]), [390.0, 290.0, 10.0, 10.0]),
    ] {
        let found = read(&coco(json!([good, dog(bbox)])))?;
        assert_eq!(found.scenes[0].objects[1].bbox, left);
        let (numbers, refused) = counts(&found);
        match left[2] >= 12.0 {
            true => assert_eq!(numbers, [2]),
            false => assert_eq!(refused["Count"]["one of them is smaller than min_side"], 1),
        }
    }
    Ok(())
}

#[test]
fn what_lies_outside_is_asked_for_in_no_task() -> Checked {
    let cat = json!({"id": 3, "image_id": 0, "category_id": 2, "bbox": [10, 10, 50, 50]});
    let relation = |annotations: Value| -> Result<usize, Box<dyn std::error::Error>> {
        let mut refused = RefusedCounts::new();
        let found = read(&coco(annotations))?;
        let candidates = tasks::candidates(&found.scenes, &CvBenchOptions::default(), &mut refused);
        Ok(candidates.iter().filter(|c| c.task() == CvBenchTask::Relation).count())
    };
    assert_eq!(relation(json!([cat, dog(json!([250, 150, 90, 90]))]))?, 2);
    assert_eq!(relation(json!([cat, dog(json!([500, 150, 90, 90]))]))?, 0);
    // With one dog inside and one outside of the image, a question about "the dog" would be ambiguous.
    assert_eq!(relation(json!([cat, dog(json!([250, 150, 90, 90])), dog(json!([500, 150, 90, 90]))]))?, 0);
    // 3D boxes.
    let solid = |class: u8, x: f64, z: f64| {
        let corner = |k: usize| [0, 1, 2].map(|d| [0.0, 0.0, z][d] + if k >> d & 1 == 1 { 0.4 } else { -0.4 });
        json!({"id": class, "image_id": 0, "category_id": class, "bbox2D_tight": [x, 10.0, x + 60.0, 80.0], "bbox2D_trunc": [-1, -1, -1, -1],
               "bbox3D_cam": (0..8).map(corner).collect::<Vec<_>>(), "valid3D": 1, "behind_camera": "false", "visibility": "1.0"})
    };
    let dir = tempfile::tempdir()?;
    let depth = |x: f64, broken: bool| -> Result<(usize, ReadAnnotations), Box<dyn std::error::Error>> {
        let (mut near, far) = (solid(1, x, 5.0), solid(2, 200.0, 20.0));
        if broken {
            near["bbox3D_cam"][3][1] = json!("@NaN");
        }
        let text = coco(json!([near, far])).to_string().replace("\"@NaN\"", "NaN");
        let found = annotations::read(&input(dir.path(), AnnotationFormat::Omni3d, &text)?)?;
        let candidates = tasks::candidates(&found.scenes, &CvBenchOptions::default(), &mut RefusedCounts::new());
        Ok((candidates.iter().filter(|c| c.task() == CvBenchTask::Depth).count(), found))
    };
    assert_eq!(depth(20.0, false)?.0, 1);
    let (none, found) = depth(420.0, false)?;
    assert_eq!((none, found.refused.get("a box outside of the image")), (0, Some(&1)));
    let (none, found) = depth(-50.0, false)?;
    assert_eq!((none, found.refused.get("a box mostly outside of the image")), (0, Some(&1)));
    let (none, found) = depth(20.0, true)?;
    assert_eq!((none, found.refused.get("a box in space without eight corners")), (0, Some(&1)));
    Ok(())
}

#[test]
fn fields_are_read_in_any_type() -> Checked {
    let with = |field: &str, value: Value| {
        let mut a = dog(json!([250, 150, 90, 90]));
        a[field] = value;
        coco(json!([a]))
    };
    for (value, crowd) in [
        (json!(false), false),
        (json!(0), false),
        (json!(0.0), false),
        (json!("0"), false),
        (json!("false"), false),
        (Value::Null, false),
        (json!("@NaN"), false),
        (json!(true), true),
        (json!(1), true),
        (json!(7), true),
        (json!("1"), true),
        (json!("True"), true),
    ] {
        let found = read(&with("iscrowd", value.clone()))?;
        assert_eq!(
            (found.scenes[0].objects.len(), found.scenes[0].crowds.len()),
            (usize::from(!crowd), usize::from(crowd)),
            "{value}"
        );
    }
    assert_eq!(
        error(&with("iscrowd", json!([1])))?,
        "annotation 0 (id 17): `iscrowd` must be 0 or 1, found a list of 1"
    );
    assert_eq!(
        error(&with("iscrowd", json!("perhaps")))?,
        "annotation 0 (id 17): `iscrowd` must be 0 or 1, found the text \"perhaps\""
    );
    // Segmentations of every form are ignored.
    for outline in [
        json!([[1, 2, 3, 4]]),
        json!([]),
        json!({"counts": [1, 2], "size": [4, 4]}),
        json!({"counts": "ab"}),
        json!(null),
        json!("x"),
    ] {
        assert_eq!(read(&with("segmentation", outline))?.scenes[0].objects.len(), 1);
    }
    // The ids 7, 7.0 and "7" are equal; text is also a valid id.
    for (image, of) in [
        (json!(7), json!("7")),
        (json!("7"), json!(7.0)),
        (json!("a/b"), json!("a/b")),
        (json!(9_007_199_254_740_993_u64), json!("9007199254740993")),
    ] {
        let mut data = with("image_id", of.clone());
        data["images"][0]["id"] = image.clone();
        data["categories"][0]["id"] = json!("1");
        assert_eq!(read(&data)?.scenes[0].objects.len(), 1, "{image} {of}");
    }
    for (field, value, message) in [
        ("image_id", Value::Null, "`image_id` must be a number or text, found null"),
        ("image_id", json!([1]), "`image_id` must be a number or text, found a list of 1"),
        ("category_id", json!({}), "`category_id` must be a number or text, found an object"),
        ("category_id", json!(true), "`category_id` must be a number or text, found the boolean true"),
    ] {
        assert_eq!(error(&with(field, value))?, format!("annotation 0 (id 17): {message}"));
    }
    let text = with("image_id", json!("@big")).to_string().replace("\"@big\"", "100000000000000000001");
    let dir = tempfile::tempdir()?;
    let large =
        annotations::read(&input(dir.path(), AnnotationFormat::Coco, &text)?).map(drop).expect_err("large").to_string();
    assert!(large.contains("too large to be exact"), "{large}");
    // No message contains the name of a Rust type.
    for data in [
        json!([]),
        json!({"images": 1}),
        json!({"images": [], "annotations": {}, "categories": []}),
        json!(null),
        json!({"images": {}}),
    ] {
        let error = read(&data).map(drop).expect_err("no annotations").to_string();
        assert!(["f64", "u64", "i64", "u8", "struct", "Vec"].iter().all(|t| !error.contains(t)), "{error}");
    }
    Ok(())
}

#[test]
fn sizes_are_taken_from_the_image_where_they_are_missing() -> Checked {
    let dir = tempfile::tempdir()?;
    for size in [json!(null), json!("@NaN"), json!(0), json!(-1), json!("?"), json!([400])] {
        let mut data = coco(json!([dog(json!([250, 150, 90, 90])), dog(json!([500, 400, 50, 50]))]));
        data["images"][0]["width"] = size.clone();
        let text = data.to_string().replace("\"@NaN\"", "NaN");
        let found = annotations::read(&input(dir.path(), AnnotationFormat::Coco, &text)?)?;
        assert_eq!(found.scenes[0].size, [400.0, 300.0], "{size}");
        assert_eq!((found.scenes[0].objects.len(), found.refused["a box outside of the image"]), (1, 1), "{size}");
    }
    let mut data = coco(json!([dog(json!([250, 150, 90, 90]))]));
    data["images"][0] = json!({"id": "0", "coco_url": "http://images.cocodataset.org/val2017/0.png"});
    assert_eq!(read(&data)?.scenes[0].size, [400.0, 300.0], "LVIS gives only the URL");
    data["images"] = json!([{"id": 0, "file_name": "0.png", "width": "400", "height": "300.0"}]);
    assert_eq!(read(&data)?.scenes[0].size, [400.0, 300.0]);
    data["images"] = json!([{"id": 0, "file_name": "absent.png"}, {"id": 1}, null, 7, {"id": 2, "file_name": "0.png"}, {"id": 2, "file_name": "0.png"}]);
    let found = read(&data)?;
    let refused: Vec<(&str, usize)> = found.refused.iter().map(|(why, n)| (*why, *n)).collect();
    assert_eq!(
        refused,
        [
            ("an image entry that is no object", 2),
            ("an image that is listed again", 1),
            ("an image without a file name", 1),
            ("an image without a size", 1),
            ("an object of an image that is not listed", 1)
        ]
    );
    Ok(())
}

#[test]
fn one_odd_annotation_does_not_refuse_the_others() -> Checked {
    let found = read(&coco(json!([null, 7, "x", [], true, dog(json!([250, 150, 90, 90]))])))?;
    assert_eq!((found.scenes[0].objects.len(), found.refused["an annotation that is no object"]), (1, 5));
    Ok(())
}

#[test]
fn many_boxes_in_one_image_are_not_compared() -> Checked {
    let boxes = |n: usize| -> Vec<Value> {
        (0..n).map(|i| json!({"image_id": 0, "category_id": 1 + i % 2, "bbox": [i % 300, i % 200, 20, 20]})).collect()
    };
    let mut refused = RefusedCounts::new();
    let found = read(&coco(json!(boxes(100_000))))?;
    let candidates = tasks::candidates(&found.scenes, &CvBenchOptions::default(), &mut refused);
    assert!(candidates.is_empty());
    assert_eq!(refused["Relation"]["more objects in the image than are compared in pairs (500)"], 1);
    assert_eq!(refused["Count"]["more than max_count"], 2);
    let mut refused = RefusedCounts::new();
    let found = read(&coco(json!(boxes(MAX_PAIR_OBJECTS))))?;
    assert!(!tasks::candidates(&found.scenes, &CvBenchOptions::default(), &mut refused).is_empty());
    Ok(())
}

#[test]
fn a_build_says_why_nothing_can_be_asked() -> Checked {
    let dir = tempfile::tempdir()?;
    let data = coco(json!([dog(json!([250, 150, 90, 90])), dog(json!([500, 400, 50, 50]))]));
    let input = input(dir.path(), AnnotationFormat::Coco, &data.to_string())?;
    let error =
        build(&[input], &CvBenchOptions::default(), &dir.path().join("out"), &|_| ()).expect_err("nothing").to_string();
    assert!(error.contains("1 times: a box outside of the image"), "{error}");
    assert!(error.contains("1 times: one of them has no usable box in the image"), "{error}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_named_and_not_waited_for() -> Checked {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir()?;
    let fifo =
        |name: &str| std::process::Command::new("mkfifo").arg(dir.path().join(name)).status().map(|s| s.success());
    assert!(fifo("fifo.json")? && fifo("1.png")?);
    let of =
        |name: &str, format| AnnotationSet { format, annotations: dir.path().join(name), images: dir.path().into() };
    let error = annotations::read(&of("fifo.json", AnnotationFormat::Coco)).map(drop).expect_err("a FIFO").to_string();
    assert!(error.ends_with("fifo.json: it is a FIFO, not a file"), "{error}");
    // The directory of ADE20K files contains a link to itself.
    symlink(dir.path(), dir.path().join("again"))?;
    symlink(dir.path(), dir.path().join("and-again"))?;
    let error = annotations::read(&of("", AnnotationFormat::Ade20k)).map(drop).expect_err("a FIFO").to_string();
    assert!(error.ends_with("fifo.json: it is a FIFO, not a file"), "{error}");
    fs::remove_file(dir.path().join("fifo.json"))?;
    // If an image is unreadable, another image is used.
    let images = json!([{"id": 0, "file_name": "0.png", "width": 400, "height": 300}, {"id": 1, "file_name": "1.png", "width": 400, "height": 300}]);
    let mut data =
        coco(json!([dog(json!([250, 150, 90, 90])), {"image_id": 1, "category_id": 1, "bbox": [1, 1, 50, 50]}]));
    data["images"] = images;
    let input = input(dir.path(), AnnotationFormat::Coco, &data.to_string())?;
    let manifest = build(
        &[input],
        &CvBenchOptions { absent: 0.0, ..CvBenchOptions::default() },
        &dir.path().join("out"),
        &|_| (),
    )?;
    assert_eq!(manifest.questions[&CvBenchTask::Count]["1"], 1);
    assert_eq!(manifest.refused["Count"]["the image's file cannot be read"], 1);
    Ok(())
}
