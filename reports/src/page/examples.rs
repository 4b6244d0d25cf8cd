//! A few questions of each benchmark, with picture, right answer and every arm's answer.

use crate::load::{Problem, RunData, StudyData};
use crate::ranking::Ranking;
use crate::schema::Sample;
use base64::Engine;
use burgess_base::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Pictures above this many bytes are named, not embedded, to keep the page small.
const LARGEST_PICTURE: u64 = 1_000_000;

/// Answers are cut at this many characters.
const LONGEST_ANSWER: usize = 160;

#[derive(Serialize)]
pub(super) struct Examples {
    benchmark: String,
    category: String,
    metric: String,
    questions: Vec<Question>,
}

#[derive(Serialize)]
struct Question {
    id: String,
    question: String,
    target: String,
    /// A data URI.
    image: Option<String>,
    /// Why there is none.
    no_image: Option<String>,
    answers: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    label: String,
    answer: String,
    mark: &'static str,
    class: &'static str,
    said: &'static str,
}

/// Three questions per benchmark: of those that all arms answered, ordered by how many got them right, the ones a sixth,
/// a half and five sixths of the way down. Also the lines that could not be read. One benchmark is held at a time.
pub(super) fn examples(study: &StudyData, r: &Ranking) -> Result<(Vec<Examples>, Vec<Problem>)> {
    let runs: Vec<(&str, &RunData)> = r
        .arms
        .iter()
        .filter_map(|arm| {
            let seed = arm.seeds.first()?;
            let of_arm = |run: &&RunData| run.results.run.arm == arm.arm && run.results.run.seed == *seed;
            Some((arm.label.as_str(), study.runs.iter().find(of_arm)?))
        })
        .collect();
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for benchmark in &r.benchmarks {
        let mut answers: Vec<(&str, BTreeMap<String, Sample>)> = Vec::new();
        for (label, run) in &runs {
            let (samples, broken) = run.read_samples(&benchmark.name)?;
            problems.extend(broken);
            if !samples.is_empty() {
                answers.push((label, samples.into_iter().map(|s| (s.id.clone(), s)).collect()));
            }
        }
        let questions: Vec<Question> = chosen(&answers).iter().filter_map(|id| question(study, &answers, id)).collect();
        if !questions.is_empty() {
            all.push(Examples {
                benchmark: benchmark.name.clone(),
                category: benchmark.category.clone(),
                metric: benchmark.metric.clone(),
                questions,
            });
        }
    }
    Ok((all, problems))
}

/// Ids of an easy, a middling and a hard question, about different images where there are enough.
fn chosen(answers: &[(&str, BTreeMap<String, Sample>)]) -> Vec<String> {
    let Some((_, first)) = answers.first() else { return Vec::new() };
    let score = |id: &String| -> Option<f64> {
        let scores: Option<Vec<f64>> = answers.iter().map(|(_, a)| a.get(id).map(|s| s.score)).collect();
        crate::stats::mean(&scores?)
    };
    let mut seen = BTreeSet::new();
    let mut ordered: Vec<(f64, &String)> = first
        .iter()
        .filter(|(_, sample)| seen.insert(sample.unit.as_str()))
        .filter_map(|(id, _)| Some((score(id)?, id)))
        .collect();
    ordered.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let places: BTreeSet<usize> = [1, 3, 5].iter().map(|sixths| ordered.len() * sixths / 6).collect();
    places.into_iter().filter_map(|i| ordered.get(i).map(|(_, id)| id.to_string())).collect()
}

fn question(study: &StudyData, answers: &[(&str, BTreeMap<String, Sample>)], id: &str) -> Option<Question> {
    let sample = answers.first()?.1.get(id)?;
    let (image, no_image) = match picture(&study.dir, &sample.image) {
        Ok(uri) => (Some(uri), None),
        Err(why) => (None, Some(why)),
    };
    let answer = |(label, samples): &(&str, BTreeMap<String, Sample>)| {
        let s = samples.get(id)?;
        let (mark, class, said) = match s.score {
            x if x >= 1.0 => ("✓", "yes", "right"),
            x if x > 0.0 => ("~", "part", "partly right"),
            _ => ("✗", "no", "wrong"),
        };
        Some(Answer { label: label.to_string(), answer: shortened(&s.answer), mark, class, said })
    };
    Some(Question {
        id: id.to_string(),
        question: sample.question.clone(),
        target: sample.target.clone(),
        image,
        no_image,
        answers: answers.iter().filter_map(answer).collect(),
    })
}

fn shortened(answer: &str) -> String {
    let line = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "(nothing)".to_string();
    }
    if line.chars().count() <= LONGEST_ANSWER {
        return line;
    }
    line.chars().take(LONGEST_ANSWER).collect::<String>() + "…"
}

/// The picture as a data URI, or why it is not there.
fn picture(dir: &Path, path: &str) -> std::result::Result<String, String> {
    // Joining an absolute path gives that path.
    let full = dir.join(path);
    let kind = match full.extension().map(|e| e.to_string_lossy().to_lowercase()).as_deref() {
        Some("png") => "png",
        Some("jpg" | "jpeg") => "jpeg",
        Some("webp") => "webp",
        Some("gif") => "gif",
        Some("bmp") => "bmp",
        _ => return Err(format!("picture {path} is of a kind that browsers do not show")),
    };
    match std::fs::metadata(&full) {
        Ok(found) if found.len() > LARGEST_PICTURE => return Err(format!("picture {path} is too large to embed")),
        Err(_) => return Err(format!("picture {path} is not there")),
        Ok(_) => {}
    }
    let bytes = std::fs::read(&full).map_err(|e| format!("picture {path} cannot be read: {e}"))?;
    Ok(format!("data:image/{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}
