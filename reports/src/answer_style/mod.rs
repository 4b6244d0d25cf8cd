//! How the models answer, apart from whether they are right: lengths, one-word answers, refusals, loops and answers
//! that were ended by the token limit.
//!
//! A model that was tuned on many questions with short answers may answer every question with one word, also "Describe
//! the image" (the *answering machine* of the Cambrian-1 paper). It is told from a model that answers shortly where it
//! is asked to by two properties of each question:
//!
//! - its *wording* asks for an explanation or not ([`answer_text::asks_for_explanation`]);
//! - its *prompt* holds a response-format sentence that asks for a short answer, or not
//!   ([`burgess_base::response_format`]).
//!
//! Open questions are those without choices whose right answer is neither yes nor no and whose prompt asks for no
//! letter. All numbers are computed from the samples of finished runs, also of those of earlier versions. Reasoning
//! between tags is removed first. The rules of words, refusals and loops are those of [`answer_text`].

mod groups;
mod measure;
mod said;
mod text;

pub use groups::{GroupCounts, QuestionGroup};
pub use text::style_block;
pub(crate) use text::{COLUMNS, cells, style_sheet};

use crate::load::{RunData, StudyData};
use crate::stats::Estimate;
use burgess_base::{Result, answer_text};
use measure::Answers;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How the arms of a study answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerStyle {
    /// Number of questions by group.
    pub questions: GroupCounts,
    /// The arms, by name.
    pub arms: BTreeMap<String, ArmStyle>,
    /// What the numbers show and what they do not, as sentences.
    pub said: Vec<String>,
}

/// How one arm answers, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmStyle {
    /// All answers by group of questions; groups without questions are missing.
    pub groups: BTreeMap<QuestionGroup, AnswerShape>,
    /// The answers to open questions by benchmark; benchmarks without open questions are missing.
    pub benchmarks: BTreeMap<String, AnswerShape>,
}

/// The form of a set of answers. Shares are in percent, with intervals over images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerShape {
    /// Number of questions.
    pub questions: usize,
    /// Number of answers: of each seed one to each question.
    pub answers: usize,
    /// Lengths in words.
    pub words: WordCounts,
    /// Answers of exactly one word.
    pub one_word: Estimate,
    /// Empty answers.
    pub empty: Estimate,
    /// Answers that refuse.
    pub refusals: Estimate,
    /// Answers that repeat themselves.
    pub loops: Estimate,
    /// Answers that were ended by the token limit; `None` if the runs of this arm did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_limit: Option<Estimate>,
}

/// The distribution of lengths of answers, in words.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WordCounts {
    /// Mean length.
    pub mean: f64,
    /// Tenth percentile.
    pub p10: f64,
    /// Median.
    pub median: f64,
    /// Ninetieth percentile.
    pub p90: f64,
    /// Longest answer.
    pub longest: usize,
    /// Number of answers of 0, 1, 2–3, 4–7, 8–15, 16–31, 32–63, 64–127 and at least 128 words.
    pub histogram: [usize; 9],
}

impl AnswerStyle {
    /// Measures the answers of a study with confidence intervals of level `confidence`; `None` if none of its questions
    /// is open.
    ///
    /// # Errors
    /// An error is returned if a file of samples cannot be read. Broken lines are left out; they are reported where the
    /// questions are shown.
    pub fn of_study(study: &StudyData, confidence: f64) -> Result<Option<Self>> {
        let mut arms: BTreeMap<&str, Vec<&RunData>> = BTreeMap::new();
        for run in &study.runs {
            arms.entry(run.results.run.arm.as_str()).or_default().push(run);
        }
        let arms: Vec<(&str, Vec<&RunData>)> = arms.into_iter().collect();
        let measured: Vec<(String, GroupCounts, ArmStyle)> = arms
            .par_iter()
            .map(|(arm, runs)| {
                let (questions, style) = of_arm(runs, confidence)?;
                Ok(((*arm).to_string(), questions, style))
            })
            .collect::<Result<_>>()?;
        // All arms of a study were asked the same questions; of an arm with unreadable lines some are missing.
        let questions = measured.iter().map(|(_, questions, _)| questions).max_by_key(|q| q.all).cloned();
        let Some(questions) = questions.filter(|q| q.open > 0) else { return Ok(None) };
        let mut style = Self {
            questions,
            arms: measured.into_iter().map(|(arm, _, style)| (arm, style)).collect(),
            said: Vec::new(),
        };
        style.said = said::sentences(&style);
        Ok(Some(style))
    }

    /// Returns the groups of open questions that the study has, in display order.
    pub fn groups(&self) -> Vec<QuestionGroup> {
        QuestionGroup::OPEN.into_iter().filter(|group| self.questions.of(*group) > 0).collect()
    }
}

/// Measures the answers of one arm.
fn of_arm(runs: &[&RunData], confidence: f64) -> Result<(GroupCounts, ArmStyle)> {
    let mut groups: BTreeMap<QuestionGroup, Answers> = BTreeMap::new();
    let mut benchmarks: BTreeMap<String, Answers> = BTreeMap::new();
    let mut counted = GroupCounts::default();
    let share = 1.0 / runs.len().max(1) as f64;
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.samples.keys()).collect();
    for name in names {
        // All seeds were asked the same questions, so that each is classified once.
        let mut known: BTreeMap<String, Vec<QuestionGroup>> = BTreeMap::new();
        for run in runs {
            for sample in run.read_samples(name)?.0 {
                let groups_of = match known.get(&sample.id) {
                    Some(groups) => groups,
                    None => {
                        let found = groups::groups_of(&sample);
                        counted.add(&found);
                        known.entry(sample.id.clone()).or_insert(found)
                    }
                };
                let text = answer_text::without_reasoning(&sample.answer);
                let unit = format!("{name}\n{}", sample.unit);
                let answer = measure::Answer::of(&text, sample.tokens.map(|_| sample.at_limit));
                for group in groups_of {
                    groups.entry(*group).or_default().add(&sample.id, &unit, &answer, share);
                }
                if groups_of.contains(&QuestionGroup::Open) {
                    benchmarks.entry(name.clone()).or_default().add(&sample.id, &unit, &answer, share);
                }
            }
        }
    }
    let style = ArmStyle {
        groups: groups.into_iter().map(|(group, answers)| (group, answers.shape(confidence))).collect(),
        benchmarks: benchmarks.into_iter().map(|(name, answers)| (name, answers.shape(confidence))).collect(),
    };
    Ok((counted, style))
}
