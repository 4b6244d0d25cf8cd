//! Rules by which published scorers read a letter: one entry per variant of the reader `letter`.

use super::lmms_letters;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::{self, AnswerScore};
use crate::{mmmu_letters, vlmevalkit};

/// A variant of the reader `letter`.
pub(super) struct LetterRule {
    /// Name in `answer.by`.
    pub name: &'static str,
    /// The rule in words.
    pub description: &'static str,
    /// Whether lmms-eval applies the rule before it removes reasoning from the answer.
    pub filters_first: bool,
    /// Judges an answer.
    pub verdict: fn(&Question, &str) -> AnswerScore,
}

/// Returns the rule that the table names, if it is one of these.
pub(super) fn find(table: &AnswerTable) -> Option<&'static LetterRule> {
    let by = table.by.as_deref()?;
    RULES.iter().find(|rule| rule.name == by)
}

/// Every rule.
pub(super) static RULES: &[LetterRule] = &[
    LetterRule {
        name: "bare",
        description: "The whole answer must be one character: the capital letter.",
        filters_first: false,
        verdict: |q, answer| {
            let mut chars = answer.trim().chars();
            let only = chars.next().filter(|_| chars.next().is_none());
            score::judge_choice_letter(q, only)
        },
    },
    LetterRule {
        name: "vlmevalkit",
        description: "One letter among the last five words; else the letter after \"answer is\", by which \"the answer \
            is a dog\" is A; else the text of exactly one choice in a short answer.",
        filters_first: false,
        verdict: |q, answer| score::judge_choice_letter(q, vlmevalkit::matched(answer.trim(), &q.options)),
    },
    LetterRule {
        name: "mmmu",
        description: "The last letter as (B); if there is none, the last one between spaces; if there is none and the \
            answer has more than five words, the choice whose text comes last.",
        filters_first: false,
        verdict: |q, answer| score::judge_choice_letter(q, mmmu_letters::last_named(answer.trim(), &q.options)),
    },
    LetterRule {
        name: "vmcbench",
        description: "The letter as (B) or before a full stop and a space, and of several the last in parentheses; if \
            there is none, the last one between spaces; if there is none and the answer has more than five words, the \
            choice whose text comes last.",
        filters_first: false,
        verdict: |q, answer| score::judge_choice_letter(q, mmmu_letters::vmcbench(answer.trim(), &q.options)),
    },
    LetterRule {
        name: "lmms-ai2d",
        description: "A capital followed by a full stop at the very beginning is the letter; otherwise the whole answer \
            must be the letter, up to case and ASCII punctuation.",
        filters_first: true,
        verdict: lmms_letters::ai2d,
    },
    LetterRule {
        name: "lmms-muirbench",
        description: "A capital followed by a full stop at the very beginning is the letter; otherwise the whole answer \
            must be the letter, up to case.",
        filters_first: true,
        verdict: lmms_letters::muirbench,
    },
    LetterRule {
        name: "lmms-crpe",
        description: "The choice whose text comes first in the answer without its punctuation; if there is none, the \
            whole answer must be the letter, up to case.",
        filters_first: true,
        verdict: lmms_letters::crpe,
    },
    LetterRule {
        name: "lmms-3dsrbench",
        description: "A capital from A to D at the beginning; else after \"answer\" or \"the answer is\"; else in \
            parentheses; else before a full stop; else any that stands alone.",
        filters_first: false,
        verdict: lmms_letters::spatial,
    },
];
