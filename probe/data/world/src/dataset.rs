//! Writes captions, conversations and benchmarks to disk, in the formats of the full-size training data.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use burgess_base::stream::stream;
use burgess_base::{Context, Result, atomic};
use image::ImageFormat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::grid::CELLS;
use crate::pool::{self, PoolSource};
use crate::questions::{AnswerForm, BENCHMARKS, NanoBenchmark, QaPair};
use crate::scene::{Scene, SceneSplit};
use crate::{BENCHMARK_VERSION, VERSION, caption, dice};

/// Seed and sizes of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorldSpec {
    /// Seed of every image and text.
    pub seed: u64,
    /// Number of images with captions, for the align stage.
    pub align: usize,
    /// Number of images with conversations, for the tune stage.
    pub tune: usize,
    /// Maximum number of questions in a conversation.
    pub turns: usize,
    /// Number of units (images, or pairs of images) in each benchmark.
    pub per_benchmark: usize,
    /// Sources of further conversations for the tune stage, which follow the `tune` mixed ones in `tune.jsonl`. Their
    /// conversations also have up to `turns` questions, and state source and kind, so that a mix can balance them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub pool: Vec<PoolSource>,
    /// Number of images with an open question, for the benchmark `nano-conversation`. Default: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub open_questions: usize,
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl WorldSpec {
    /// Returns the number of conversations of the tune stage: the mixed ones and those of the pool.
    pub fn conversations(&self) -> usize {
        self.tune + self.pool.iter().map(|source| source.count).sum::<usize>()
    }
}

/// Name of the file with the ground truth, one line per image: `image`, `grid` (number of rows and columns) and
/// `cells`, one list of words per cell, row by row.
const TRUTH: &str = "truth.jsonl";

/// Name of the benchmark of open questions.
const OPEN: &str = "nano-conversation";

/// Writes a dataset to the existing directory `dir`:
///
/// - `align.jsonl`, `tune.jsonl`: conversations in LLaVA's format, with `images/align/*.png` and `images/tune/*.png`;
/// - `truth.jsonl`: the words of each cell of each image; a line has `image`, `grid` (number of rows and columns) and
///   `cells` (one list of words per cell, row by row);
/// - `bench/<name>.jsonl` for the nine benchmarks, with `images/<name>/*.png`;
/// - `bench/nano-conversation.jsonl`, if the specification has open questions: requests such as "Describe the image."
///   with a caption and a full description as reference answers;
/// - `manifest.json`: version, specification, numbers of lines, and for each benchmark the fraction of questions whose
///   answer is the most frequent one.
///
/// The same specification gives the same bytes, whatever the number of threads. `progress` receives the number of
/// finished images and of all images.
///
/// # Errors
/// An error is returned if a directory or file cannot be written; it names the path.
pub fn write(dir: &Path, spec: &WorldSpec, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
    let pool = spec.pool.iter().map(PoolSource::images).sum::<usize>();
    let images = spec.align + spec.tune + pool + spec.per_benchmark * (BENCHMARKS.len() + 1) + spec.open_questions;
    let done = AtomicU64::new(0);
    let tick = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, images as u64);
    for name in ["align", "tune"].into_iter().chain(BENCHMARKS.iter().map(|b| b.name)) {
        let folder = dir.join("images").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let (align, mut truths) = conversations(dir, spec, SceneSplit::Align, spec.align, &tick)?;
    save_lines(&dir.join("align.jsonl"), &align)?;
    let (mut tune, more) = conversations(dir, spec, SceneSplit::Tune, spec.tune, &tick)?;
    truths.extend(more);
    for source in &spec.pool {
        let (rows, more) = pool::write_source(dir, spec, source, &tick)?;
        tune.extend(rows);
        truths.extend(more);
    }
    save_lines(&dir.join("tune.jsonl"), &tune)?;
    let mut counts = json!({ "align": align.len(), "tune": tune.len() });
    let mut constant = json!({});
    for bench in &BENCHMARKS {
        let (rows, share, more) = benchmark(dir, spec, bench, &tick)?;
        counts[bench.name] = json!(rows);
        constant[bench.name] = json!(share);
        truths.extend(more);
    }
    if spec.open_questions > 0 {
        let (rows, more) = open_questions(dir, spec, &tick)?;
        counts[OPEN] = json!(rows);
        truths.extend(more);
    }
    save_lines(&dir.join(TRUTH), &truths)?;
    let manifest = json!({ "version": VERSION, "benchmark_version": BENCHMARK_VERSION, "spec": spec, "counts": counts, "best_constant_answer": constant });
    atomic::write_json(&dir.join("manifest.json"), &manifest)
}

/// Renders an image and writes it to `name` below `dir`.
pub(crate) fn save(dir: &Path, name: &str, scene: &Scene) -> Result<()> {
    let path = dir.join(name);
    let mut bytes = std::io::Cursor::new(Vec::new());
    scene
        .render()
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| burgess_base::Error::failed(e.to_string()))
        .with_context(|| format!("encoding {}", path.display()))?;
    fs::write(&path, bytes.into_inner()).with_context(|| format!("writing {}", path.display()))
}

/// Writes values as JSON lines.
fn save_lines(path: &Path, rows: &[Value]) -> Result<()> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    atomic::write(path, text.as_bytes())
}

fn conversations(
    dir: &Path,
    spec: &WorldSpec,
    split: SceneSplit,
    n: usize,
    tick: &(dyn Fn() + Sync),
) -> Result<(Vec<Value>, Vec<Value>)> {
    let name = split.as_str();
    let rows: Vec<(Value, Value)> = (0..n)
        .into_par_iter()
        .map(|i| {
            let mut s = stream(&format!("world/{name}/turns/{i}"), spec.seed);
            // Every image has at least one question; a few, such as a sign with one word, have fewer than `turns`.
            let scene = Scene::draw(split, spec.seed, i as u64);
            let turns = match split {
                // Maps of words, and for a quarter of the images a caption in sentences.
                SceneSplit::Align => {
                    let mut turns = crate::map::some(&scene, 2, &mut s);
                    if dice::chance(&mut s, 25) {
                        let question = caption::request(&mut s).to_string();
                        turns.push(QaPair { question, answer: scene.caption(&mut s) });
                    }
                    turns
                }
                // Half of the conversations begin with a caption, because every word of it is a supervised token.
                _ if dice::chance(&mut s, 50) => {
                    let question = caption::request(&mut s).to_string();
                    let mut turns = vec![QaPair { question, answer: scene.caption(&mut s) }];
                    turns.extend(scene.turns(spec.turns.saturating_sub(1), &mut s));
                    turns
                }
                _ => scene.turns(spec.turns, &mut s),
            };
            let image = format!("images/{name}/{i:06}.png");
            save(dir, &image, &scene)?;
            tick();
            Ok((row(&format!("{name}-{i:06}"), Some(&image), &turns), truth(&image, &scene)))
        })
        .collect::<Result<_>>()?;
    Ok(rows.into_iter().unzip())
}

/// Returns the line of an image in [`TRUTH`], which the oracle baseline reads.
pub(crate) fn truth(image: &str, scene: &Scene) -> Value {
    json!({ "image": image, "grid": [CELLS, CELLS], "cells": scene.cells() })
}

/// Returns a conversation in LLaVA's format.
pub(crate) fn row(id: &str, image: Option<&str>, turns: &[QaPair]) -> Value {
    let mut conversations = Vec::new();
    for (k, turn) in turns.iter().enumerate() {
        let start = if k == 0 && image.is_some() { "<image>\n" } else { "" };
        conversations.push(json!({ "from": "human", "value": format!("{start}{}", turn.question) }));
        conversations.push(json!({ "from": "gpt", "value": turn.answer }));
    }
    match image {
        Some(image) => json!({ "id": id, "image": image, "conversations": conversations }),
        None => json!({ "id": id, "conversations": conversations }),
    }
}

fn benchmark(
    dir: &Path,
    spec: &WorldSpec,
    bench: &NanoBenchmark,
    tick: &(dyn Fn() + Sync),
) -> Result<(usize, f64, Vec<Value>)> {
    let name = bench.name;
    let units: Vec<(Vec<Value>, Vec<Value>)> = (0..spec.per_benchmark)
        .into_par_iter()
        .map(|i| {
            let mut s = stream(&format!("world/{}/{name}/{i}", SceneSplit::Test.as_str()), spec.seed);
            let unit = (bench.unit)(&mut s, i);
            let several = unit.images.len() > 1;
            let (mut rows, mut truths) = (Vec::new(), Vec::new());
            for (p, (scene, questions)) in unit.images.iter().enumerate() {
                let image_id = if several { format!("{i:05}-{}", p + 1) } else { format!("{i:05}") };
                let image = format!("images/{name}/{image_id}.png");
                save(dir, &image, scene)?;
                truths.push(truth(&image, scene));
                for (k, q) in questions.iter().enumerate() {
                    let id = if questions.len() > 1 {
                        format!("{name}-{image_id}-q{}", k + 1)
                    } else {
                        format!("{name}-{image_id}")
                    };
                    let mut row = json!({ "id": id, "image": image, "image_id": image_id, "question": q.text });
                    if matches!(q.form, AnswerForm::Choice | AnswerForm::Pair | AnswerForm::Named) {
                        row["options"] = json!(q.options);
                    }
                    row["answer"] = json!(q.answer);
                    row["subtask"] = json!(q.subtask);
                    row["unit"] = json!(format!("{i:05}"));
                    rows.push(row);
                }
                tick();
            }
            Ok((rows, truths))
        })
        .collect::<Result<_>>()?;
    let (rows, truths): (Vec<_>, Vec<_>) = units.into_iter().unzip();
    let (rows, truths) = (rows.concat(), truths.concat());
    save_lines(&dir.join("bench").join(format!("{name}.jsonl")), &rows)?;
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows {
        *answers.entry(row["answer"].to_string()).or_default() += 1;
    }
    let most = answers.values().max().copied().unwrap_or(0);
    Ok((rows.len(), most as f64 / rows.len().max(1) as f64, truths))
}

/// Writes test images, each with a request for a caption and two reference answers.
fn open_questions(dir: &Path, spec: &WorldSpec, tick: &(dyn Fn() + Sync)) -> Result<(usize, Vec<Value>)> {
    let folder = dir.join("images").join(OPEN);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let rows: Vec<(Value, Value)> = (0..spec.open_questions)
        .into_par_iter()
        .map(|i| {
            let mut s = stream(&format!("world/{}/{OPEN}/{i}", SceneSplit::Test.as_str()), spec.seed);
            let scene = Scene::draw_from(&mut s, true);
            let image = format!("images/{OPEN}/{i:05}.png");
            let (caption, description) = (scene.caption(&mut s), scene.description(&mut s));
            save(dir, &image, &scene)?;
            tick();
            let row = json!({
                "id": format!("{OPEN}-{i:05}"),
                "image": image,
                "question": caption::REQUESTS[i % caption::REQUESTS.len()],
                "answers": [caption, description],
                "subtask": scene.kind(),
            });
            Ok((row, truth(&image, &scene)))
        })
        .collect::<Result<_>>()?;
    let (rows, truths): (Vec<Value>, Vec<Value>) = rows.into_iter().unzip();
    save_lines(&dir.join("bench").join(format!("{OPEN}.jsonl")), &rows)?;
    Ok((rows.len(), truths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::questions::QuestionFamily;

    fn files(dir: &Path) -> Result<BTreeMap<String, String>> {
        let mut out = BTreeMap::new();
        let mut open = vec![dir.to_path_buf()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
                    out.insert(name, burgess_base::digest::of_file(&path)?);
                }
            }
        }
        Ok(out)
    }

    fn lines(path: &Path) -> Result<Vec<Value>> {
        fs::read_to_string(path)?.lines().map(|l| Ok(serde_json::from_str(l)?)).collect()
    }

    #[test]
    fn the_dataset_is_whole_and_the_same_on_any_number_of_threads() -> Result<()> {
        let spec = WorldSpec {
            seed: 3,
            align: 12,
            tune: 12,
            turns: 4,
            per_benchmark: 14,
            pool: Vec::new(),
            open_questions: 0,
        };
        let mut all = Vec::new();
        for threads in [1, 3] {
            let dir = tempfile::tempdir()?;
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .map_err(|e| burgess_base::Error::failed(e.to_string()))?;
            let last = AtomicU64::new(0);
            pool.install(|| {
                write(dir.path(), &spec, &|done, of| {
                    assert!(done <= of && of == 12 + 12 + 14 * 10);
                    last.fetch_max(done, Ordering::Relaxed);
                })
            })?;
            assert_eq!(last.into_inner(), 164);
            all.push((files(dir.path())?, dir));
        }
        assert_eq!(all[0].0, all[1].0);
        let dir = all[0].1.path();
        for name in ["align", "tune"] {
            let rows = lines(&dir.join(format!("{name}.jsonl")))?;
            assert_eq!(rows.len(), 12);
            for row in &rows {
                assert!(dir.join(row["image"].as_str().unwrap_or("none")).is_file());
                let talk = row["conversations"].as_array().cloned().unwrap_or_default();
                assert!(talk.len() >= 2 && talk.len() % 2 == 0 && talk.len() <= 10);
                assert!(talk[0]["value"].as_str().is_some_and(|v| v.starts_with("<image>\n")));
                assert!(
                    talk.iter()
                        .skip(1)
                        .all(|t| t["value"].as_str().is_some_and(|v| !v.contains("<image>") && !v.is_empty()))
                );
            }
        }
        for bench in &BENCHMARKS {
            let rows = lines(&dir.join("bench").join(format!("{}.jsonl", bench.name)))?;
            let two = matches!(bench.name, "nano-mme" | "nano-mmvp");
            assert_eq!(rows.len(), if two { 28 } else { 14 });
            let mut ids: Vec<_> = rows.iter().map(|r| r["id"].to_string()).collect();
            ids.dedup();
            assert_eq!(ids.len(), rows.len());
            for row in &rows {
                assert!(dir.join(row["image"].as_str().unwrap_or("none")).is_file());
                assert!(row["question"].as_str().is_some_and(|q| !q.contains('\n')));
            }
        }
        Ok(())
    }

    #[test]
    fn open_questions_have_two_reference_answers() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let spec =
            WorldSpec { seed: 3, align: 1, tune: 1, turns: 1, per_benchmark: 1, pool: Vec::new(), open_questions: 9 };
        write(dir.path(), &spec, &|_, _| ())?;
        let rows = lines(&dir.path().join("bench/nano-conversation.jsonl"))?;
        assert_eq!(rows.len(), 9);
        for row in &rows {
            assert!(dir.path().join(row["image"].as_str().unwrap_or("none")).is_file());
            let answers: Vec<&str> =
                row["answers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            assert!(answers.len() == 2 && answers.iter().all(|a| a.ends_with('.')), "{row}");
        }
        assert_eq!(rows[0]["question"], rows[4]["question"]);
        assert_ne!(rows[0]["question"], rows[1]["question"]);
        Ok(())
    }

    #[test]
    fn a_pool_follows_the_mixed_conversations_and_changes_nothing_else() -> Result<()> {
        let plain =
            WorldSpec { seed: 3, align: 3, tune: 5, turns: 2, per_benchmark: 2, pool: vec![], open_questions: 0 };
        let text = serde_json::to_string(&plain)?;
        assert!(!text.contains("pool") && !text.contains("open"), "a world without them keeps its digest: {text}");
        let source = |source: &str, family: QuestionFamily, count: usize, prompted: bool| PoolSource {
            source: source.into(),
            kind: "OCR".into(),
            family,
            count,
            prompted,
        };
        let pool = vec![
            source("charts", QuestionFamily::ChartValue, 7, false),
            source("facts", QuestionFamily::Fact, 4, false),
            source("counts", QuestionFamily::Count, 3, true),
        ];
        let pooled = WorldSpec { pool, ..plain.clone() };
        assert_eq!((plain.conversations(), pooled.conversations()), (5, 19));
        let (old, new) = (tempfile::tempdir()?, tempfile::tempdir()?);
        write(old.path(), &plain, &|_, _| ())?;
        let last = AtomicU64::new(0);
        write(new.path(), &pooled, &|done, of| {
            assert!(done <= of && of == 3 + 5 + 10 + 2 * 10);
            last.fetch_max(done, Ordering::Relaxed);
        })?;
        assert_eq!(last.into_inner(), 38);
        let (old_files, new_files) = (files(old.path())?, files(new.path())?);
        let changed: Vec<&String> =
            old_files.iter().filter(|(k, v)| new_files.get(*k) != Some(v)).map(|f| f.0).collect();
        assert_eq!(changed, ["manifest.json", "truth.jsonl", "tune.jsonl"]);
        let (before, rows) = (lines(&old.path().join("tune.jsonl"))?, lines(&new.path().join("tune.jsonl"))?);
        assert_eq!((rows.len(), &rows[..5]), (19, &before[..]));
        let field = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_string();
        let sources: Vec<String> = rows[5..].iter().map(|row| field(row, "source")).collect();
        assert_eq!(sources, [vec!["charts"; 7], vec!["facts"; 4], vec!["counts"; 3]].concat());
        for row in &rows[5..] {
            assert_eq!(field(row, "kind"), "OCR");
            let asked = row["conversations"][0]["value"].as_str().unwrap_or_default();
            assert_eq!(row.get("image").is_some(), asked.starts_with("<image>\n"), "{row}");
            assert_eq!(field(row, "source") == "counts", asked.contains("Answer with one of the options."), "{row}");
            if let Some(image) = row.get("image").and_then(Value::as_str) {
                assert!(new.path().join(image).is_file());
            }
        }
        Ok(())
    }
}
