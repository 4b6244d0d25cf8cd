//! Example questions of each benchmark, with image, right answer and every arm's answer.

use crate::choices::{self, Choice};
use crate::images::{ImageProblem, ImageRoots, image_type};
use crate::load::{RunData, StudyData, UnreadableLine};
use crate::ranking::Ranking;
use crate::schema::Sample;
use base64::Engine;
use burgess_base::{Category, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// Maximum size in bytes of an embedded image; larger ones are only named, to keep the page small.
const LARGEST_IMAGE: u64 = 1_000_000;

/// Maximum length of answers and choices, and of questions, in characters.
const LONGEST_ANSWER: usize = 160;
const LONGEST_QUESTION: usize = 2000;

#[derive(Serialize)]
pub(super) struct BenchmarkExamples {
    benchmark: String,
    category: Category,
    metric: String,
    /// Fragment of the answer browser's address that shows this benchmark.
    fragment: String,
    questions: Vec<ExampleQuestion>,
}

#[derive(Serialize)]
struct ExampleQuestion {
    id: String,
    question: String,
    target: String,
    choices: Vec<Choice>,
    /// The images as data URIs.
    images: Vec<String>,
    /// Why an image is not shown.
    no_image: Option<String>,
    answers: Vec<ExampleAnswer>,
}

#[derive(Serialize)]
struct ExampleAnswer {
    label: String,
    answer: String,
    mark: &'static str,
    class: &'static str,
    said: &'static str,
}

/// Selects three questions per benchmark from those that all arms answered, ordered by mean score: those at one sixth,
/// one half and five sixths. Also returns the lines that could not be read, and the number of images that were refused
/// for their location. Only one benchmark is in memory at a time.
pub(super) fn examples(study: &StudyData, r: &Ranking) -> Result<(Vec<BenchmarkExamples>, Vec<UnreadableLine>, usize)> {
    let roots = ImageRoots::of(study);
    let mut refused = 0;
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
        let questions: Vec<ExampleQuestion> =
            chosen(&answers).iter().filter_map(|id| question(&roots, &answers, id, &mut refused)).collect();
        if !questions.is_empty() {
            all.push(BenchmarkExamples {
                benchmark: benchmark.name.clone(),
                category: benchmark.category.clone(),
                metric: benchmark.metric.clone(),
                fragment: crate::answers::fragment(&benchmark.name),
                questions,
            });
        }
    }
    Ok((all, problems, refused))
}

/// Returns the ids of an easy, a medium and a hard question, about different images.
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
    let roots: BTreeSet<usize> = [1, 3, 5].iter().map(|sixths| ordered.len() * sixths / 6).collect();
    roots.into_iter().filter_map(|i| ordered.get(i).map(|(_, id)| id.to_string())).collect()
}

fn question(
    roots: &ImageRoots,
    answers: &[(&str, BTreeMap<String, Sample>)],
    id: &str,
    refused: &mut usize,
) -> Option<ExampleQuestion> {
    let sample = answers.first()?.1.get(id)?;
    let (mut images, mut no_image) = (Vec::new(), None);
    // The images of a question are separated by line breaks.
    for name in sample.image.lines() {
        match embedded(roots, name) {
            Ok(uri) => images.push(uri),
            Err(why) => {
                *refused += usize::from(why == OUTSIDE);
                no_image = Some(why);
            }
        }
    }
    let answer = |(label, samples): &(&str, BTreeMap<String, Sample>)| {
        let s = samples.get(id)?;
        let (mark, class, said) = match s.score {
            x if x >= 1.0 => ("✓", "yes", "right"),
            x if x > 0.0 => ("~", "part", "partly right"),
            _ => ("✗", "no", "wrong"),
        };
        Some(ExampleAnswer { label: label.to_string(), answer: shortened(&s.answer), mark, class, said })
    };
    Some(ExampleQuestion {
        id: id.to_string(),
        question: cut(&sample.question, LONGEST_QUESTION),
        target: cut(&sample.target, LONGEST_ANSWER),
        choices: shortened_choices(sample),
        images,
        no_image,
        answers: answers.iter().filter_map(answer).collect(),
    })
}

fn shortened_choices(sample: &Sample) -> Vec<Choice> {
    let choices = choices::of(sample).into_iter();
    choices.map(|choice| Choice { text: cut(&choice.text, LONGEST_ANSWER), ..choice }).collect()
}

fn shortened(answer: &str) -> String {
    let line = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { "(empty)".to_string() } else { cut(&line, LONGEST_ANSWER) }
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => text.get(..end).unwrap_or(text).to_string() + "…",
        None => text.to_string(),
    }
}

/// Message for an image outside the allowed directories.
const OUTSIDE: &str = "the image lies outside the study's data and is not shown";

/// Returns the image as a data URI, or why it is not shown.
fn embedded(roots: &ImageRoots, name: &str) -> std::result::Result<String, String> {
    let file = roots.find(name).map_err(|problem| match problem {
        // The name of such an image is not shown either.
        ImageProblem::Outside => OUTSIDE.to_string(),
        other => format!("image {name} {other}"),
    })?;
    if file.bytes > LARGEST_IMAGE {
        return Err(format!("image {name} is too large to embed"));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&file.path).and_then(|f| f.take(LARGEST_IMAGE).read_to_end(&mut bytes));
    read.map_err(|e| format!("image {name} cannot be read: {e}"))?;
    let Some(image_type) = image_type(&bytes) else {
        return Err(format!("image {name} has a type that browsers do not show"));
    };
    Ok(format!("data:image/{image_type};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}
