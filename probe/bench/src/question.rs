//! Questions of a benchmark, and the result of reading them.

use crate::image_location::ImageLocation;
use crate::skipped::SkippedRows;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// One question about one or several images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Id, unique within the benchmark.
    pub id: String,
    /// Row number in the published split, from 0; other harnesses identify answers by it.
    pub row: u64,
    /// The images, in the order in which the text refers to them; most questions have one.
    pub images: Vec<ImageLocation>,
    /// Id of the image; questions with the same value are about the same image.
    pub image_id: String,
    /// The text of the question alone: no options, no format line, no image token.
    pub question: String,
    /// Further text that the prompt may contain: a hint, or text read from the image by OCR.
    pub context: Option<String>,
    /// The choices, in the order of their letters; empty for open and yes/no questions.
    pub options: Vec<String>,
    /// The right answer: a letter (`B` or `(b)`), yes/no, or text.
    pub answer: String,
    /// All accepted answers, or all answers that annotators gave, where there are several; `answer` is one of them.
    pub accepted: Vec<String>,
    /// The benchmark's own subtask, such as `count`.
    pub subtask: String,
    /// Id of the unit that is resampled as a whole for standard errors: an image, or a pair of images.
    pub unit: String,
    /// Further values that the rules of this benchmark need, by benchmark-specific names.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

impl Question {
    /// Returns the fact called `name`; empty if the question has none.
    pub fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("", String::as_str)
    }

    /// Returns the accepted answers: those of `accepted`, or `answer` alone if that is empty.
    pub fn accepted_answers(&self) -> &[String] {
        if self.accepted.is_empty() { std::slice::from_ref(&self.answer) } else { &self.accepted }
    }
}

/// The questions of a benchmark and the rows that cannot be asked. It dereferences to the list of questions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuestionSet {
    /// The questions to ask.
    pub questions: Vec<Question>,
    /// The rows that are skipped, per reason.
    pub skipped: Vec<SkippedRows>,
}

impl QuestionSet {
    /// Returns the number of rows that are skipped.
    pub fn skipped_count(&self) -> usize {
        self.skipped.iter().map(|s| s.count).sum()
    }
}

impl From<Vec<Question>> for QuestionSet {
    fn from(questions: Vec<Question>) -> Self {
        Self { questions, skipped: Vec::new() }
    }
}

impl Deref for QuestionSet {
    type Target = Vec<Question>;

    fn deref(&self) -> &Vec<Question> {
        &self.questions
    }
}

impl DerefMut for QuestionSet {
    fn deref_mut(&mut self) -> &mut Vec<Question> {
        &mut self.questions
    }
}

impl IntoIterator for QuestionSet {
    type Item = Question;
    type IntoIter = std::vec::IntoIter<Question>;

    fn into_iter(self) -> Self::IntoIter {
        self.questions.into_iter()
    }
}

impl<'a> IntoIterator for &'a QuestionSet {
    type Item = &'a Question;
    type IntoIter = std::slice::Iter<'a, Question>;

    fn into_iter(self) -> Self::IntoIter {
        self.questions.iter()
    }
}
