//! Writes the field study's data: captions, conversations and benchmarks, in the formats of the full-size training
//! data.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use burgess_base::stream::{Stream, stream};
use burgess_base::{Context, Error, Result, atomic};
use image::{ImageFormat, RgbImage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::examples::{self, FieldBenchmark};
use crate::material::Material;
use crate::question::{ExpectedAnswer, FieldQuestion};

/// Sizes and seed of the field study's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// Seed of the split and of every image and question.
    pub seed: u64,
    /// Number of single-object images for the align stage: five of six ask for the kind, one has its caption.
    pub align: usize,
    /// Number of images with conversations for the tune stage.
    pub tune: usize,
    /// Maximum number of questions in a conversation; an image has at most four.
    pub turns: usize,
    /// Number of images per benchmark (`field-cocoqa` always has all).
    pub per_benchmark: usize,
}

/// A summary of the files that were written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DatasetSummary {
    /// Number of lines of each file.
    pub counts: BTreeMap<String, usize>,
    /// Fraction, 0 to 1, of each benchmark's questions whose answer is the most frequent one.
    pub most_frequent_answer: BTreeMap<String, f64>,
}

/// Writes to the existing directory `dir`: `align.jsonl`, `tune.jsonl`, `bench/<name>.jsonl` for the benchmarks that
/// `source` has the material for, and `images/<name>/*.png`. The same source and specification give the same bytes,
/// whatever the number of threads. `progress` receives the number of finished images and of all images.
pub fn write(
    dir: &Path,
    material: &Material,
    spec: &FieldSpec,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<DatasetSummary> {
    let benchmarks: Vec<&FieldBenchmark> = examples::BENCHMARKS.iter().filter(|b| (b.possible)(material)).collect();
    let images = spec.align + spec.tune + spec.per_benchmark * benchmarks.len();
    let done = AtomicU64::new(0);
    let tick = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, images as u64);
    let mut written = DatasetSummary::default();

    let align = rows(dir, "align", spec.align, spec.seed, &tick, |s, i| {
        let (image, question) = examples::aligned(s, material, i)?;
        Some((image, vec![(question.prompt(), question.reply())]))
    })?;
    save_lines(&dir.join("align.jsonl"), &conversations(align))?;
    written.counts.insert("align".into(), spec.align);

    let tune = rows(dir, "tune", spec.tune, spec.seed, &tick, |s, i| {
        let (image, questions) = examples::conversation(s, material, i, spec.turns)?;
        Some((image, questions.iter().map(|q| (q.prompt(), q.reply())).collect()))
    })?;
    save_lines(&dir.join("tune.jsonl"), &conversations(tune))?;
    written.counts.insert("tune".into(), spec.tune);

    for part in benchmarks {
        let images = rows(dir, part.name, spec.per_benchmark, spec.seed, &tick, |s, i| {
            let (image, unit, questions) = (part.draw)(s, material, i)?;
            Some((image, (unit, questions)))
        })?;
        let rows: Vec<Value> = images
            .into_iter()
            .enumerate()
            .flat_map(|(i, (image, (unit, questions)))| question_rows(part.name, i, &image, &unit, &questions))
            .collect();
        finish(dir, part.name, &rows, &mut written)?;
    }
    if let Some(mock_data) = &material.cocoqa {
        finish(dir, "field-cocoqa", &crate::cocoqa::rows(mock_data, dir)?, &mut written)?;
    }
    Ok(written)
}

/// Draws and saves `n` images. A failed draw is repeated from the same stream, so that the number of draws of one image
/// does not change another.
fn rows<T: Send>(
    dir: &Path,
    name: &str,
    n: usize,
    seed: u64,
    tick: &(dyn Fn() + Sync),
    draw: impl Fn(&mut Stream, usize) -> Option<(RgbImage, T)> + Sync,
) -> Result<Vec<(String, T)>> {
    /// Far more draws than any image needs; the limit ends the loop if the material is insufficient.
    const DRAWS: usize = 2000;
    let folder = dir.join("images").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    (0..n)
        .into_par_iter()
        .map(|i| {
            let mut s = stream(&format!("field/{name}/{i}"), seed);
            let (pixels, rest) = (0..DRAWS).find_map(|_| draw(&mut s, i)).ok_or_else(|| {
                Error::failed(format!("no image for {name} could be composed in {DRAWS} tries"))
                    .hint("the package has too few stamps: prepare the data from the complete package")
            })?;
            let image = format!("images/{name}/{i:06}.png");
            save(&dir.join(&image), &pixels)?;
            tick();
            Ok((image, rest))
        })
        .collect()
}

fn save(path: &Path, image: &RgbImage) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::failed(e.to_string()))
        .with_context(|| format!("encoding {}", path.display()))?;
    fs::write(path, bytes.into_inner()).with_context(|| format!("writing {}", path.display()))
}

fn save_lines(path: &Path, rows: &[Value]) -> Result<()> {
    atomic::write_with(path, |w| {
        for row in rows {
            serde_json::to_writer(&mut *w, row)?;
            std::io::Write::write_all(w, b"\n")?;
        }
        Ok(())
    })
}

/// Converts questions and answers to LLaVA's conversation format.
fn conversations(images: Vec<(String, Vec<(String, String)>)>) -> Vec<Value> {
    let row = |(image, turns): (String, Vec<(String, String)>)| {
        let mut list = Vec::new();
        for (k, (question, answer)) in turns.into_iter().enumerate() {
            let start = if k == 0 { "<image>\n" } else { "" };
            list.push(json!({"from": "human", "value": format!("{start}{question}")}));
            list.push(json!({"from": "gpt", "value": answer}));
        }
        let id = image.trim_start_matches("images/").trim_end_matches(".png").replace('/', "-");
        json!({"id": id, "image": image, "conversations": list})
    };
    images.into_iter().map(row).collect()
}

/// Returns the benchmark lines about one image.
fn question_rows(name: &str, number: usize, image: &str, unit: &str, questions: &[FieldQuestion]) -> Vec<Value> {
    let row = |(k, q): (usize, &FieldQuestion)| {
        let id =
            if questions.len() > 1 { format!("{name}-{number:05}-q{}", k + 1) } else { format!("{name}-{number:05}") };
        let mut row = json!({"id": id, "image": image, "image_id": format!("{number:05}"), "question": q.text});
        if let ExpectedAnswer::Choice { options, right, .. } = &q.answer {
            row["options"] = json!(options);
            row["answer"] = json!(char::from(b'A' + (*right).min(25) as u8).to_string());
        } else {
            row["answer"] = json!(q.reply());
        }
        row["subtask"] = json!(q.about);
        row["unit"] = json!(unit);
        row
    };
    questions.iter().enumerate().map(row).collect()
}

fn finish(dir: &Path, name: &str, rows: &[Value], written: &mut DatasetSummary) -> Result<()> {
    save_lines(&dir.join("bench").join(format!("{name}.jsonl")), rows)?;
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        *answers.entry(row["answer"].to_string()).or_default() += 1;
    }
    let most = answers.values().max().copied().unwrap_or(0);
    written.counts.insert(name.to_string(), rows.len());
    written.most_frequent_answer.insert(name.to_string(), most as f64 / rows.len().max(1) as f64);
    Ok(())
}
