//! Joins the samples of all runs on one benchmark by question.

use crate::choices;
use crate::load::{RunData, StudyData};
use crate::schema::{Likelihoods, Sample};
use burgess_base::Result;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The questions of one benchmark with the answers of all runs.
pub(super) struct BenchmarkAnswers {
    /// The questions in the order of the first run's file, then those that only other runs have.
    pub(super) questions: Vec<Question>,
    /// For each run, its answer to each question; `None` if it has none.
    pub(super) runs: Vec<Vec<Option<Answer>>>,
    /// The texts of the answers, to which [`Answer`] refers by index.
    pub(super) texts: Vec<String>,
    /// What could not be read or does not fit, as sentences.
    pub(super) problems: Vec<String>,
}

/// What a benchmark says about one question.
pub(super) struct Question {
    pub(super) id: String,
    pub(super) unit: String,
    pub(super) subtask: String,
    pub(super) question: String,
    /// The choices and, for each, whether it is right; empty for other questions.
    pub(super) options: Vec<(String, bool)>,
    pub(super) prompt: String,
    pub(super) image: String,
    pub(super) target: String,
}

/// The answers of one run to one question, with the image and without. Texts are indices into
/// [`BenchmarkAnswers::texts`].
pub(super) struct Answer {
    pub(super) text: u32,
    pub(super) parsed: Option<u32>,
    pub(super) score: f64,
    pub(super) blind_text: u32,
    pub(super) blind_score: f64,
    pub(super) likelihoods: Option<Box<Likelihoods>>,
}

/// Texts without duplicates.
#[derive(Default)]
struct Texts {
    texts: Vec<String>,
    known: HashMap<String, u32>,
}

impl Texts {
    fn add(&mut self, text: String) -> u32 {
        match self.known.entry(text) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let index = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
                self.texts.push(new.key().clone());
                *new.insert(index)
            }
        }
    }
}

/// A count of questions with the id of the first.
#[derive(Default)]
struct Few {
    count: usize,
    first: String,
}

impl Few {
    fn add(&mut self, id: &str) {
        if self.count == 0 {
            self.first = burgess_base::text::excerpt(id, 80);
        }
        self.count += 1;
    }
}

/// Reads the samples of `runs` on a benchmark. Only one run's samples are in memory at a time, apart from what is kept
/// of them.
pub(super) fn collect(study: &StudyData, runs: &[&RunData], benchmark: &str) -> Result<BenchmarkAnswers> {
    let mut questions: Vec<Question> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut texts = Texts::default();
    let mut columns = Vec::with_capacity(runs.len());
    let mut problems = Vec::new();
    for run in runs {
        let (samples, broken) = run.read_samples(benchmark)?;
        problems.extend(broken.iter().map(|line| {
            let within = line.file.strip_prefix(&study.dir).unwrap_or(&line.file);
            format!("{}:{}: {}", within.display(), line.line, line.cause)
        }));
        let (mut twice, mut differs) = (Few::default(), Few::default());
        let mut column: Vec<Option<Answer>> = Vec::with_capacity(samples.len().max(questions.len()));
        column.resize_with(questions.len(), || None);
        for sample in samples {
            let place = match places.entry(sample.id.clone()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    questions.push(question(&sample));
                    column.push(None);
                    *new.insert(questions.len() - 1)
                }
            };
            if let Some(known) = questions.get(place)
                && (known.question != sample.question || known.target != sample.target)
            {
                differs.add(&sample.id);
            }
            match column.get_mut(place) {
                Some(answer @ None) => *answer = Some(answered(sample, &mut texts)),
                _ => twice.add(&sample.id),
            }
        }
        let name = format!("{}, seed {}", run.results.run.arm, run.results.run.seed);
        if twice.count > 0 {
            problems.push(format!(
                "{benchmark}: {name} has {} answers to questions that it answered before (first: {}); the first answer \
                 is shown",
                twice.count, twice.first
            ));
        }
        if differs.count > 0 {
            problems.push(format!(
                "{benchmark}: {name} was asked {} questions whose text or right answer differs from that of an earlier \
                 run with the same id (first: {}); the earlier run's text is shown",
                differs.count, differs.first
            ));
        }
        columns.push(column);
    }
    for column in &mut columns {
        column.resize_with(questions.len(), || None);
    }
    Ok(BenchmarkAnswers { questions, runs: columns, texts: texts.texts, problems })
}

fn question(sample: &Sample) -> Question {
    let options = choices::of(sample);
    Question {
        id: sample.id.clone(),
        unit: sample.unit.clone(),
        subtask: sample.subtask.clone(),
        question: sample.question.clone(),
        options: options.into_iter().map(|choice| (choice.text, choice.right)).collect(),
        prompt: sample.prompt.clone(),
        image: sample.image.clone(),
        target: sample.target.clone(),
    }
}

fn answered(sample: Sample, texts: &mut Texts) -> Answer {
    Answer {
        text: texts.add(sample.answer),
        parsed: sample.parsed.map(|parsed| texts.add(parsed)),
        score: sample.score,
        blind_text: texts.add(sample.blind_answer),
        blind_score: sample.blind_score,
        likelihoods: sample.likelihoods.map(Box::new),
    }
}
