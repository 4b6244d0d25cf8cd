//! Example questions of each benchmark, with image, right answer and every arm's answer.

use crate::load::{RunData, StudyData, UnreadableLine};
use crate::ranking::Ranking;
use crate::schema::Sample;
use base64::Engine;
use burgess_base::{Category, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

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

/// A choice of a multiple-choice question.
#[derive(Debug, PartialEq, Serialize)]
struct Choice {
    letter: char,
    text: String,
    right: bool,
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
        match roots.image(name) {
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
        choices: choices(sample),
        images,
        no_image,
        answers: answers.iter().filter_map(answer).collect(),
    })
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

/// Returns the choices of a multiple-choice question: those that were stored, or those in the lines of the prompt.
fn choices(sample: &Sample) -> Vec<Choice> {
    let kept: Vec<(char, String)> = ('A'..='Z').zip(sample.options.iter().cloned()).collect();
    let choices = if kept.is_empty() { in_prompt(&sample.prompt) } else { kept };
    // "B", "(b)" and "b." are letters; any other target is compared as text.
    let mut letters = sample.target.chars().filter(char::is_ascii_alphanumeric);
    let right = letters.next().filter(|_| letters.next().is_none()).map(|c| c.to_ascii_uppercase());
    let is_right = |letter: char, text: &str| Some(letter) == right || (right.is_none() && text == sample.target);
    let choice = |(letter, text): (char, String)| Choice {
        letter,
        right: is_right(letter, &text),
        text: cut(&text, LONGEST_ANSWER),
    };
    choices.into_iter().map(choice).collect()
}

/// Returns the choices in lines `A. …`, `(B) …`, `C: …` of a prompt, if there are at least two and they are in
/// order.
fn in_prompt(prompt: &str) -> Vec<(char, String)> {
    let mut found: Vec<(char, String)> = Vec::new();
    for line in prompt.lines() {
        let line = line.trim();
        let rest = line.strip_prefix('(').unwrap_or(line);
        let mut chars = rest.chars();
        let (letter, mark) = (chars.next().map(|c| c.to_ascii_uppercase()), chars.next());
        let next = char::from(b'A' + u8::try_from(found.len()).unwrap_or(u8::MAX).min(25));
        if letter == Some(next) && mark.is_some_and(|m| ".):".contains(m)) && !chars.as_str().trim().is_empty() {
            found.push((next, chars.as_str().trim().to_string()));
        }
    }
    if found.len() < 2 { Vec::new() } else { found }
}

/// Message for an image outside the allowed directories.
const OUTSIDE: &str = "the image lies outside the study's data and is not shown";

/// The directories from which images may be shown. Results are untrusted files and must not embed other files of this
/// machine into a page that is shared.
struct ImageRoots {
    /// Directory to which names are relative.
    dir: PathBuf,
    /// Allowed directories, both as given and with links resolved.
    roots: Vec<PathBuf>,
}

impl ImageRoots {
    fn of(study: &StudyData) -> Self {
        let given = || std::iter::once(&study.dir).chain(&study.image_dirs);
        let absolute = given().filter_map(|d| std::path::absolute(d).ok()).map(|d| lexical(&d));
        let resolved = given().filter_map(|d| std::fs::canonicalize(d).ok());
        Self { dir: study.dir.clone(), roots: absolute.chain(resolved).collect() }
    }

    fn holds(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    /// Returns the image as a data URI, or why it is not shown. For a file outside the allowed directories the message
    /// does not even say whether it exists.
    fn image(&self, name: &str) -> std::result::Result<String, String> {
        // Joining an absolute path gives that path.
        let full = std::path::absolute(self.dir.join(name)).map_err(|_| OUTSIDE.to_string())?;
        if !self.holds(&lexical(&full)) {
            return Err(OUTSIDE.into());
        }
        let Ok(real) = std::fs::canonicalize(&full) else {
            return Err(match name.contains('#') {
                true => format!("image {name} is stored inside a table file and is not shown"),
                false => format!("image {name} does not exist"),
            });
        };
        if !self.holds(&real) {
            return Err(OUTSIDE.into());
        }
        match std::fs::metadata(&real) {
            Ok(found) if !found.is_file() => return Err(format!("image {name} is not a file")),
            Ok(found) if found.len() > LARGEST_IMAGE => return Err(format!("image {name} is too large to embed")),
            Err(e) => return Err(format!("image {name} cannot be read: {e}")),
            Ok(_) => {}
        }
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&real).and_then(|f| f.take(LARGEST_IMAGE).read_to_end(&mut bytes));
        read.map_err(|e| format!("image {name} cannot be read: {e}"))?;
        let Some(image_type) = image_type(&bytes) else {
            return Err(format!("image {name} has a type that browsers do not show"));
        };
        Ok(format!("data:image/{image_type};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
    }
}

/// Returns the path without `.` and `..`.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// Returns the type of an image that browsers support, by its first bytes.
fn image_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("gif"),
        // BMP has four reserved zero bytes, which text that begins with these letters does not.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some("bmp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

    fn sample(prompt: &str, options: &[&str], target: &str) -> Sample {
        let options: Vec<&str> = options.to_vec();
        serde_json::from_value(serde_json::json!({
            "id": "q", "unit": "u", "question": "?", "options": options, "prompt": prompt, "image": "", "target": target,
            "answer": "", "parsed": null, "score": 0.0, "blind_answer": "", "blind_score": 0.0
        }))
        .unwrap()
    }

    #[test]
    fn choices_are_those_kept_or_those_of_the_prompt() {
        let of = |prompt: &str, options: &[&str], target: &str| -> Vec<String> {
            let mark = |c: Choice| format!("{}{} {}", if c.right { "*" } else { "" }, c.letter, c.text);
            choices(&sample(prompt, options, target)).into_iter().map(mark).collect()
        };
        assert_eq!(of("", &["cat", "dog"], "B"), ["A cat", "*B dog"]);
        assert_eq!(of("", &["cat", "dog"], "(a)"), ["*A cat", "B dog"]);
        assert_eq!(of("", &["cat", "dog"], "dog"), ["A cat", "*B dog"]);
        assert_eq!(of("What?\nA. cat\n B. dog\nAnswer with the letter.", &[], "A"), ["*A cat", "B dog"]);
        assert_eq!(of("What?\n(a) cat\n(b) dog", &[], "b"), ["A cat", "*B dog"]);
        assert!(of("A: is this so?\nYes or no", &[], "yes").is_empty());
    }

    #[test]
    fn images_are_shown_from_the_data_only() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let study = data.path().join("runs/mine");
        let images = data.path().join("images");
        for dir in [&study, &images] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let put = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
        put(&study.join("in.png"), PNG);
        put(&images.join("a"), PNG);
        put(&images.join("text.png"), b"root:x:0:0");
        put(&data.path().join("secret.png"), PNG);
        put(&other.path().join("x.png"), PNG);
        let link = |to: &Path, at: &Path| std::os::unix::fs::symlink(to, at).unwrap();
        link(&other.path().join("x.png"), &images.join("link.png"));
        link(&images.join("a"), &images.join("inner.png"));
        link(other.path(), &images.join("folder"));
        let mut loaded = StudyData::load(&study).unwrap();
        loaded.image_dirs.push(images.clone());
        let roots = ImageRoots::of(&loaded);
        let full = |name: &str| images.join(name).display().to_string();
        for shown in ["in.png", "./in.png", "../mine/in.png", &full("a"), &full("inner.png"), &full("../images/a")] {
            assert!(roots.image(shown).is_ok_and(|uri| uri.starts_with("data:image/png;base64,")), "{shown}");
        }
        for refused in [
            "/etc/passwd",
            "../../secret.png",
            "../../../nothing.png",
            "/nonexistent/x.png",
            &full("link.png"),
            &full("folder/x.png"),
            &full("../secret.png"),
        ] {
            assert_eq!(roots.image(refused).unwrap_err(), OUTSIDE, "{refused}");
        }
        assert!(roots.image(&full("text.png")).unwrap_err().contains("type that browsers do not show"));
        assert!(roots.image(&full("absent.png")).unwrap_err().contains("does not exist"));
        assert!(roots.image(&full("")).unwrap_err().contains("not a file"));
    }
}
