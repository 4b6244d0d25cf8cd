//! Groups of questions by what they ask for.

use crate::schema::Sample;
use burgess_base::{answer_text, response_format};
use serde::{Deserialize, Serialize};

/// A group of questions by what wording and prompt ask for. A question belongs to several groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionGroup {
    /// All questions.
    All,
    /// Open questions.
    Open,
    /// Open questions whose wording asks for an explanation, and whose prompt asks for no short answer.
    Explanation,
    /// Open questions whose wording asks for an explanation, although their prompt asks for a short answer.
    ExplanationShortForm,
    /// Open questions whose prompt asks for no short answer.
    Free,
    /// Open questions whose prompt asks for a short answer.
    ShortForm,
}

impl QuestionGroup {
    /// The groups of open questions, in display order.
    pub const OPEN: [Self; 4] = [Self::Explanation, Self::ExplanationShortForm, Self::Free, Self::ShortForm];

    /// Returns what the questions of the group ask for, in a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all questions",
            Self::Open => "open questions",
            Self::Explanation => "asks for an explanation",
            Self::ExplanationShortForm => "asks for an explanation, prompt for a short answer",
            Self::Free => "open, without response-format prompt",
            Self::ShortForm => "open, with response-format prompt",
        }
    }
}

impl QuestionGroup {
    /// Returns the name of the group for a narrow table.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Open => "open",
            Self::Explanation => "explain",
            Self::ExplanationShortForm => "explain, short",
            Self::Free => "free form",
            Self::ShortForm => "short form",
        }
    }
}

/// Number of questions by group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCounts {
    /// All questions.
    pub all: usize,
    /// Open questions.
    pub open: usize,
    /// See [`QuestionGroup::Explanation`].
    pub explanation: usize,
    /// See [`QuestionGroup::ExplanationShortForm`].
    pub explanation_short_form: usize,
    /// See [`QuestionGroup::Free`].
    pub free: usize,
    /// See [`QuestionGroup::ShortForm`].
    pub short_form: usize,
}

impl GroupCounts {
    /// Returns the number of questions of a group.
    pub fn of(&self, group: QuestionGroup) -> usize {
        match group {
            QuestionGroup::All => self.all,
            QuestionGroup::Open => self.open,
            QuestionGroup::Explanation => self.explanation,
            QuestionGroup::ExplanationShortForm => self.explanation_short_form,
            QuestionGroup::Free => self.free,
            QuestionGroup::ShortForm => self.short_form,
        }
    }

    /// Counts a question that belongs to these groups.
    pub(super) fn add(&mut self, groups: &[QuestionGroup]) {
        for group in groups {
            *match group {
                QuestionGroup::All => &mut self.all,
                QuestionGroup::Open => &mut self.open,
                QuestionGroup::Explanation => &mut self.explanation,
                QuestionGroup::ExplanationShortForm => &mut self.explanation_short_form,
                QuestionGroup::Free => &mut self.free,
                QuestionGroup::ShortForm => &mut self.short_form,
            } += 1;
        }
    }
}

/// Returns the groups to which the question of a sample belongs.
pub(super) fn groups_of(sample: &Sample) -> Vec<QuestionGroup> {
    let format = response_format::of_prompt(&sample.prompt);
    let target = sample.target.trim().trim_end_matches('.');
    let yes_or_no = ["yes", "no"].iter().any(|word| target.eq_ignore_ascii_case(word));
    // Samples that predate `options` tell by their prompt that a letter or an option is expected.
    let chosen = format.is_some_and(|f| ["letter", "options", "yes or no"].iter().any(|word| f.text.contains(word)));
    if yes_or_no || chosen || !sample.options.is_empty() {
        return vec![QuestionGroup::All];
    }
    let short = format.is_some_and(|format| format.short);
    let explains = answer_text::asks_for_explanation(&sample.question);
    let mut groups = vec![QuestionGroup::All, QuestionGroup::Open];
    groups.push(if short { QuestionGroup::ShortForm } else { QuestionGroup::Free });
    if explains {
        groups.push(if short { QuestionGroup::ExplanationShortForm } else { QuestionGroup::Explanation });
    }
    groups
}
