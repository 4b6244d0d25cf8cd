//! Descriptions in words of how each set of rules prompts and scores.

/// Description in words of how one set of rules asks and scores a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RulesDescription<'a> {
    /// How the prompt is built, and whose prompt it follows.
    pub prompt: &'a str,
    /// How an answer is parsed, when it is right, and how verdicts become the score.
    pub scoring: &'a str,
    /// The paper, or the repository and file, that defines these rules.
    pub source: &'a str,
    /// How this implementation differs from that source, and why; empty if it does not.
    pub difference: &'a str,
}

/// How official and strict rules treat reasoning, for every benchmark.
pub const REASONING: &str = "Reasoning (<think>…</think> and similar) is removed before the answer is read, and \
    counted; an answer that ends inside its reasoning is unparsed.";

/// How the strict parser finds a letter.
pub(crate) const STRICT_LETTER: &str = "The answer must name exactly one choice: by its letter, alone or at the \
    beginning (B, (b), B., **B**: …) or after \"answer is\", \"answer:\", \"option\" or \"choice\"; by label and \
    text (D. A); by the text of one choice (with its case where only the case distinguishes choices); or by one \
    letter in parentheses in an explanation. Letters within words, several named choices, negated choices and lists \
    of all choices are unparsed and score 0.";

/// The rules for nano-world questions whose choices are listed as words, without letters.
pub(crate) const NAMED: RulesDescription<'static> = RulesDescription {
    prompt: "Question, a line with the choices, \"Answer with one of the options.\"",
    scoring: STRICT_LETTER,
    source: "ours, for the nano world",
    difference: "",
};

/// How lmms-eval's shared parser (`mcq_extract.py`) finds a letter.
pub(crate) const EXTRACTED: &str = "A capital among the letters counts if it is at the beginning or end of the \
    answer, after a phrase such as \"the answer is\", in parentheses, or followed by . : ) or a space; the first of \
    these forms that occurs decides, and of several letters in that form the last. If no form occurs, any such \
    capital in the answer is taken.";

/// How lmms-eval's copy of MMMU's parser finds a letter.
pub(crate) const LAST_NAMED: &str = "The letter as (B); if there is none, any capital among the letters that is \
    followed by a space or else by a full stop, also at the end of a word, and of several the last that stands \
    alone; if there is none and the answer has more than five words, the choice whose text comes last.";

/// How this implementation differs where lmms-eval draws a random letter.
pub(crate) const NO_DRAW: &str = "lmms-eval draws a random letter if it finds none; here the answer is unparsed, \
    because a draw is not reproducible.";
