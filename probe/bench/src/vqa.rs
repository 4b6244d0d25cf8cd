//! VQA accuracy: agreement with ten annotators, after the normalisation of EvalAI's server (TextVQA, VizWiz).
//!
//! The rule is that of `m4c_evaluators.py` in facebookresearch/mmf, with which the TextVQA authors score; the copies in
//! `cambrian-1` and lmms-eval are identical. Its quirks are reproduced: commas and question marks are removed first, so
//! that `1,000` is `1000`; `'s` becomes a word of its own; a punctuation character is removed everywhere if it occurs
//! beside a space anywhere, and replaced by a space otherwise; only the first 32 full stops are removed, and none
//! before a digit.

use crate::lmms;
use crate::question::Question;
use crate::rules::Rules;
use crate::score::AnswerScore;
use crate::score::decimal_digit;
use burgess_base::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Number of annotators who answered each question.
const ANNOTATORS: usize = 10;

/// Characters that are removed or replaced by a space.
const PUNCTUATION: &str = ";/[]\"{}()=+\\_-><@`,?!";

/// Maximum number of removed full stops; the original passes a regex flag in place of the count.
const STOPS: usize = 32;

const ARTICLES: [&str; 3] = ["a", "an", "the"];

const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// Contractions in which a single missing apostrophe is restored.
const CONTRACTIONS: &str = "'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't \
    hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've \
    mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't \
    shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd \
    something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've \
    wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've \
    who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd \
    you'd've you'll you're you've";

/// The replacements of words: numbers and contractions.
static WORDS: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let mut words: HashMap<String, &str> = NUMBERS.iter().map(|(word, digit)| ((*word).to_string(), *digit)).collect();
    for whole in CONTRACTIONS.split_whitespace() {
        for (at, apostrophe) in whole.match_indices('\'') {
            let (before, after) = whole.split_at(at);
            words.insert([before, after.strip_prefix(apostrophe).unwrap_or(after)].concat(), whole);
        }
    }
    // The one entry of the original table that removes an apostrophe.
    words.insert("somebody'd".into(), "somebodyd");
    words
});

/// Returns the form in which answers are compared.
pub fn normalise(answer: &str) -> String {
    let lower = match answer.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        true => Cow::Borrowed(answer),
        false => Cow::Owned(answer.to_lowercase()),
    };
    let mut text: Cow<'_, str> = match lower.contains([',', '?']) {
        true => Cow::Owned(lower.replace([',', '?'], "")),
        false => lower,
    };
    if text.contains("'s") {
        text = Cow::Owned(text.replace("'s", " 's"));
    }
    let plain = without_punctuation(text.trim(), false);
    replaced(plain.split_whitespace(), plain.len())
}

/// Joins words without articles, with numbers as digits and the apostrophes of contractions restored.
fn replaced<'a>(words: impl Iterator<Item = &'a str>, length: usize) -> String {
    let mut normal = String::with_capacity(length);
    for word in words.filter(|word| !ARTICLES.contains(word)) {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(WORDS.get(word).copied().unwrap_or(word));
    }
    normal
}

/// Removes punctuation; `all` removes it everywhere instead of replacing it by spaces.
fn without_punctuation(text: &str, all: bool) -> Cow<'_, str> {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'\'')) {
        return Cow::Borrowed(text);
    }
    let space = |b: u8| matches!(b, b' ' | b'\n' | b'\t');
    let mut beside_space = [false; 256];
    for (a, b) in text.bytes().zip(text.bytes().skip(1)) {
        for (sign, other) in [(a, b), (b, a)] {
            if space(other)
                && let Some(mark) = beside_space.get_mut(usize::from(sign))
            {
                *mark = true;
            }
        }
    }
    let spaced = |c: char| match c {
        c if PUNCTUATION.contains(c) => {
            let vanishes = beside_space.get(c as usize).copied().unwrap_or_default();
            (!vanishes && !all).then_some(' ')
        }
        c => Some(c),
    };
    let mut chars = text.chars().filter_map(spaced).peekable();
    let (mut plain, mut stops) = (String::with_capacity(text.len()), 0);
    while let Some(c) = chars.next() {
        let goes = c == '.' && stops < STOPS && !chars.peek().is_some_and(|next| is_decimal(*next));
        match goes {
            true => stops += 1,
            false => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

fn is_decimal(c: char) -> bool {
    c.is_ascii_digit() || decimal_digit(c).is_some()
}

/// Computes the score, 0 to 1, of a normalised answer: the mean over annotators of min(1, n/3), where n is the number
/// of other annotators who gave the same answer.
pub fn consensus(said: &str, accepted: &[String]) -> f64 {
    agreement(accepted.iter().filter(|a| normalise(a) == said).count(), accepted.len())
}

/// Computes the score of an answer that `same` of `people` annotators gave.
fn agreement(same: usize, people: usize) -> f64 {
    let (same, people) = (same as f64, people as f64);
    let seen = |others: f64| (others / 3.0).min(1.0);
    match same {
        0.0 => 0.0,
        _ => (same * seen(same - 1.0) + (people - same) * seen(same)) / people,
    }
}

/// Description of the rule in words.
pub(crate) const JUDGED: &str = "The answer and the answers of ten annotators are normalised (lower case; no \
    articles, punctuation or commas; counts as digits; apostrophes of contractions restored). The score is the mean \
    over the ten annotators of min(1, n/3), where n of the other nine annotators gave the same answer. An empty \
    answer that no annotator gave is unparsed.";

/// Judges by consensus. An empty answer that no annotator gave is unparsed.
pub fn judge(q: &Question, answer: &str, rules: Rules) -> AnswerScore {
    let cleaned = (rules == Rules::LmmsEval).then(|| lmms::cleaned(answer));
    let answer = cleaned.as_deref().unwrap_or(answer);
    let said = normalise(answer);
    let score = consensus(&said, &q.accepted);
    match answer.trim().is_empty() && score == 0.0 {
        true => AnswerScore::unparsed(),
        false => AnswerScore { parsed: Some(said), score },
    }
}

/// The evaluators of VQA whose normalisation differs from that of TextVQA: answers are not put in lower case first, and
/// a comma between digits removes all punctuation without leaving spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VqaEvaluator {
    /// The authors' (`vqaEval.py`): one comma between digits counts; if all annotators gave the same answer, nothing is
    /// normalised, so that case and punctuation matter.
    Authors,
    /// That of lmms-eval's task VQAv2: several commas between digits count too, and everything is normalised.
    LmmsEval,
}

impl VqaEvaluator {
    /// Description of the rule in words.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Authors => {
                "If the ten annotators gave different answers, the answer and theirs are normalised (punctuation \
                    removed, or replaced by a space within words; lower case; no articles; counts as digits; \
                    apostrophes of contractions restored). If they all gave the same, the answer must be the same, \
                    with its case and punctuation. The score is the mean over the annotators of min(1, n/3), where n of \
                    the other nine gave the same answer. An empty answer that no annotator gave is unparsed."
            }
            Self::LmmsEval => {
                "The answer and those of ten annotators are normalised (punctuation removed, or replaced by a space \
                    within words; lower case; no articles; counts as digits; apostrophes of contractions restored). The \
                    score is the mean over the annotators of min(1, n/3), where n of the other nine gave the same \
                    answer. An empty answer that no annotator gave is unparsed."
            }
        }
    }

    fn normalise(self, line: &str) -> String {
        let digits: Vec<char> = line.chars().collect();
        let between = |at: usize| {
            let before = at.checked_sub(1).and_then(|at| digits.get(at));
            let rest = digits.get(at..).unwrap_or_default();
            let after = match self {
                Self::Authors => rest.get(1),
                Self::LmmsEval => rest.iter().find(|c| **c != ','),
            };
            before.is_some_and(|c| is_decimal(*c)) && after.is_some_and(|c| is_decimal(*c))
        };
        let all = digits.iter().enumerate().any(|(at, c)| *c == ',' && between(at));
        let plain = without_punctuation(line, all).to_lowercase();
        replaced(plain.split(lmms::blank).filter(|word| !word.is_empty()), plain.len())
    }

    /// Judges by consensus.
    pub fn judge(self, q: &Question, answer: &str) -> AnswerScore {
        let line = |text: &str| lmms::trimmed(&text.replace(['\n', '\t'], " ")).to_string();
        let (mut said, mut accepted) = (line(answer), q.accepted.iter().map(|a| line(a)).collect::<Vec<_>>());
        let differ = accepted.iter().any(|a| Some(a) != accepted.first());
        if self == Self::LmmsEval || differ {
            said = self.normalise(&said);
            accepted = accepted.iter().map(|a| self.normalise(a)).collect();
        }
        let score = agreement(accepted.iter().filter(|a| **a == said).count(), accepted.len());
        match answer.trim().is_empty() && score == 0.0 {
            true => AnswerScore::unparsed(),
            false => AnswerScore { parsed: Some(said), score },
        }
    }
}

/// Returns the answer with the highest score, which is the most frequent one; ties go to the first.
pub fn best(accepted: &[String]) -> Option<&String> {
    let score = |answer: &&String| consensus(&normalise(answer), accepted);
    accepted.iter().rev().max_by(|a, b| score(a).total_cmp(&score(b)))
}

/// Checks that there are the answers of ten annotators, which the metric needs.
pub fn ten_answers(answers: Vec<String>) -> Result<Vec<String>> {
    match answers.len() {
        ANNOTATORS => Ok(answers),
        n => Err(Error::failed(format!("the question has {n} annotated answers, expected {ANNOTATORS}"))
            .hint("check that this is the split whose answers are published")),
    }
}
