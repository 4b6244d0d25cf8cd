//! Counts of the entries of one source or kind.

use super::SHORT;
use super::chunk::{EntryFacts, Said};
use super::lengths::{LengthCounts, LengthSummary};
use serde::Serialize;
use std::collections::HashMap;

/// Maximum number of sources that are counted by name; all others are counted as one.
const NAMED: usize = 1000;
const OTHERS: &str = "other sources";

/// The counts of one group so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub conversations: u64,
    text_only: u64,
    several_images: u64,
    images: u64,
    missing: u64,
    questions: LengthCounts,
    answers: LengthCounts,
    question_tokens: LengthCounts,
    answer_tokens: LengthCounts,
}

impl Group {
    pub fn add(&mut self, entry: &EntryFacts, texts: &[Said]) {
        self.conversations += 1;
        self.text_only += u64::from(entry.images == 0);
        self.several_images += u64::from(entry.images > 1);
        self.images += u64::from(entry.images);
        self.missing += u64::from(entry.missing);
        for said in texts {
            let (words, tokens) = match said.answer {
                true => (&mut self.answers, &mut self.answer_tokens),
                false => (&mut self.questions, &mut self.question_tokens),
            };
            words.add(said.words);
            tokens.add(said.tokens);
        }
    }

    pub fn finish(&self, name: &str, total: u64) -> GroupSummary {
        let counted = |tokens: &LengthCounts| tokens.summary().filter(|s| s.total > 0);
        GroupSummary {
            name: name.to_string(),
            conversations: self.conversations,
            share: self.conversations as f64 / total.max(1) as f64,
            text_only: self.text_only,
            several_images: self.several_images,
            images: self.images,
            missing: self.missing,
            short_answers: self.answers.at_most(SHORT),
            one_word_answers: self.answers.at_most(1),
            question_words: self.questions.summary(),
            answer_words: self.answers.summary(),
            question_tokens: counted(&self.question_tokens),
            answer_tokens: counted(&self.answer_tokens),
        }
    }
}

/// Groups by name.
#[derive(Debug, Default)]
pub(super) struct Groups {
    index: HashMap<String, usize>,
    groups: Vec<(String, Group)>,
    spare: Group,
}

impl Groups {
    /// Returns the index of a group, which is created if there is none.
    pub fn index(&mut self, name: &str) -> usize {
        if let Some(at) = self.index.get(name) {
            return *at;
        }
        let name = if self.groups.len() < NAMED { name } else { OTHERS };
        if let Some(at) = self.index.get(name) {
            return *at;
        }
        self.groups.push((name.to_string(), Group::default()));
        self.index.insert(name.to_string(), self.groups.len() - 1);
        self.groups.len() - 1
    }

    /// Returns a group by its index.
    pub fn get(&mut self, index: usize) -> &mut Group {
        match self.groups.get_mut(index) {
            Some((_, group)) => group,
            None => &mut self.spare,
        }
    }

    /// Returns the number of entries in all groups.
    pub fn conversations(&self) -> u64 {
        self.groups.iter().map(|(_, group)| group.conversations).sum()
    }

    /// Returns the groups, largest first.
    pub fn finish(self, total: u64) -> Vec<GroupSummary> {
        let mut all: Vec<GroupSummary> = self.groups.iter().map(|(name, group)| group.finish(name, total)).collect();
        all.sort_by(|a, b| b.conversations.cmp(&a.conversations).then_with(|| a.name.cmp(&b.name)));
        all
    }
}

/// Counts of the entries of one source or kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupSummary {
    /// Name of the source or kind; may be empty.
    pub name: String,
    /// Number of conversations.
    pub conversations: u64,
    /// Share of all conversations, from 0 to 1.
    pub share: f64,
    /// Number of conversations without an image.
    pub text_only: u64,
    /// Number of conversations with more than one image.
    pub several_images: u64,
    /// Number of images.
    pub images: u64,
    /// Number of images that do not exist; 0 if they were not looked for.
    pub missing: u64,
    /// Number of answers of at most three words.
    pub short_answers: u64,
    /// Number of answers of one word.
    pub one_word_answers: u64,
    /// Lengths of questions in words, without image marks.
    pub question_words: Option<LengthSummary>,
    /// Lengths of answers in words.
    pub answer_words: Option<LengthSummary>,
    /// Lengths of questions in tokens, if they were counted.
    pub question_tokens: Option<LengthSummary>,
    /// Lengths of answers in tokens, if they were counted.
    pub answer_tokens: Option<LengthSummary>,
}

impl GroupSummary {
    /// Returns the share of answers of at most three words, from 0 to 1.
    pub fn short_share(&self) -> f64 {
        self.short_answers as f64 / self.answers().max(1) as f64
    }

    /// Returns the number of answers.
    pub fn answers(&self) -> u64 {
        self.answer_words.as_ref().map_or(0, |words| words.count)
    }

    /// The entries whose kind is not known.
    pub(super) fn rest(conversations: u64, total: u64) -> Self {
        Self { conversations, share: conversations as f64 / total.max(1) as f64, ..Group::default().finish("", total) }
    }
}

/// Counts of one quality's lowest ratings.
#[derive(Debug, Clone, Default)]
pub(super) struct RatingCounts {
    counts: [u64; 6],
    rated: u64,
    sum: f64,
}

impl RatingCounts {
    pub fn add(&mut self, rating: Option<f32>) {
        let Some(rating) = rating else { return };
        self.rated += 1;
        self.sum += f64::from(rating);
        // Ratings outside of 1 to 5 count at the nearest.
        if let Some(count) = self.counts.get_mut(rating.round().clamp(1.0, 5.0) as usize) {
            *count += 1;
        }
    }

    pub fn finish(self, name: &str) -> Option<RatingSummary> {
        let [_, counts @ ..] = self.counts;
        (self.rated > 0).then(|| RatingSummary {
            name: name.to_string(),
            rated: self.rated,
            mean: self.sum / self.rated as f64,
            counts,
        })
    }
}

/// The ratings of one quality: the lowest of each conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RatingSummary {
    /// Name of the quality.
    pub name: String,
    /// Number of conversations that are rated.
    pub rated: u64,
    /// Mean of the lowest ratings.
    pub mean: f64,
    /// Number of conversations whose lowest rating is 1, 2, …, 5.
    pub counts: [u64; 5],
}
