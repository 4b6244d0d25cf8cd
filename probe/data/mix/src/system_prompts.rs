//! Response-format prompts ("system prompts") that Cambrian-1 appends to questions whose answers are short
//! (arXiv:2406.16860, section 4.3 and its appendix), so that a model does not learn to answer every question by a word.
//!
//! [`SystemPrompts::paper`] has the paper's texts and its map from sources to texts. Where the paper names two texts
//! for a source (Q-Instruct, IconQA), the text about options is used for questions that list options, the other one for
//! all others; the paper does not say how it chose.

use crate::names::source_key;
use burgess_base::{Error, Result};
use std::collections::BTreeMap;

/// The paper's texts, by its numbers; 1 and 5 are the same.
const WORD_OR_PHRASE: &str = "Answer the question using a single word or phrase.";
const NUMBER_OR_PHRASE: &str = "Answer the question using a single number or phrase.";
const OPTION_LETTER: &str = "Answer with the option's letter from the given choices directly.";
const SHORT_ANSWER: &str = "Give the short answer directly.";
const NO_ANSWER: &str = "When the provided information is insufficient, respond with <no answer>.";
const HTML: &str = "Directly provide the HTML code.";
const REASONING: &str = "First show your reasoning process and then give the final answer.";
const UNANSWERABLE: &str = "When the provided information is insufficient, respond with 'Unanswerable'. \
                            Answer the question using a single word or phrase.";
const LETTER: &str = "Answer with the letter.";

/// The token that stands for an image in a question.
const IMAGE_TOKEN: &str = "<image>";

/// What is appended to the questions of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseFormat {
    /// These texts, in this order.
    Texts(Vec<String>),
    /// One text for questions that list options, another one for all others.
    ByOptions {
        /// For questions with options.
        with_options: String,
        /// For all other questions.
        without_options: String,
    },
}

impl ResponseFormat {
    fn text(text: &str) -> Self {
        Self::Texts(vec![text.to_string()])
    }

    fn texts(&self, question: &str) -> Vec<&str> {
        match self {
            Self::Texts(texts) => texts.iter().map(String::as_str).collect(),
            Self::ByOptions { with_options, .. } if lists_options(question) => vec![with_options],
            Self::ByOptions { without_options, .. } => vec![without_options],
        }
    }
}

/// Names of a source, and what is appended to its questions.
type PaperSource = (&'static [&'static str], fn() -> ResponseFormat);

/// The sources of the paper's map, with further names under which they are published.
const PAPER: &[PaperSource] = &[
    (&["SketchyVQA"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["OODVQA"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["DVQA", "random_3rd_dvqa"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["AI2D"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["CLEVR"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["TallyQA"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["PathVQA"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["HiTab"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["WTQ", "robut_wtq"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["WikiSQL", "robut_wikisql"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["RAVEN"], || ResponseFormat::text(WORD_OR_PHRASE)),
    (&["VizWiz"], || ResponseFormat::text(UNANSWERABLE)),
    (&["Q-Instruct", "qalign"], || ResponseFormat::ByOptions {
        with_options: OPTION_LETTER.into(),
        without_options: WORD_OR_PHRASE.into(),
    }),
    (&["ChartQA"], || ResponseFormat::text(NUMBER_OR_PHRASE)),
    (&["DocVQA"], || ResponseFormat::text(SHORT_ANSWER)),
    (&["ScreenQA"], || ResponseFormat::Texts(vec![WORD_OR_PHRASE.into(), NO_ANSWER.into()])),
    (&["MathInstruct"], || ResponseFormat::text(REASONING)),
    (&["Design2Code"], || ResponseFormat::text(HTML)),
    (&["IconQA"], || ResponseFormat::ByOptions { with_options: LETTER.into(), without_options: WORD_OR_PHRASE.into() }),
    (&["Inter-GPS"], || ResponseFormat::text(LETTER)),
    (&["TQA"], || ResponseFormat::text(LETTER)),
    (&["Visual7W"], || ResponseFormat::text(OPTION_LETTER)),
];

/// What happened to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The source has no text: the question stays.
    NotListed,
    /// The question has the text already: it stays.
    Present,
    /// The question with the text.
    Appended(String),
}

/// Texts by source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemPrompts {
    by_source: BTreeMap<String, ResponseFormat>,
}

impl SystemPrompts {
    /// Returns the paper's texts and sources.
    pub fn paper() -> Self {
        let entries = PAPER.iter().flat_map(|(names, format)| names.iter().map(|name| (source_key(name), format())));
        Self { by_source: entries.collect() }
    }

    /// Returns the names of the paper's sources with the texts of each.
    pub fn paper_sources() -> Vec<(&'static str, ResponseFormat)> {
        PAPER.iter().filter_map(|(names, format)| Some((*names.first()?, format()))).collect()
    }

    /// Sets the text of a source, instead of one that it may have.
    ///
    /// # Errors
    /// The name or the text is empty.
    pub fn set(&mut self, source: &str, format: ResponseFormat) -> Result<()> {
        let empty = match &format {
            ResponseFormat::Texts(texts) => texts.is_empty() || texts.iter().any(|text| text.trim().is_empty()),
            ResponseFormat::ByOptions { with_options, without_options } => {
                with_options.trim().is_empty() || without_options.trim().is_empty()
            }
        };
        if empty || source.trim().is_empty() {
            let text = format!("the system prompt of source `{source}` is empty, expected a name and a text");
            return Err(Error::usage(text).hint("write the text, or remove the source"));
        }
        self.by_source.insert(source_key(source), format);
        Ok(())
    }

    /// Removes the text of a source; returns whether it had one.
    pub fn remove(&mut self, source: &str) -> bool {
        self.by_source.remove(&source_key(source)).is_some()
    }

    /// Returns the text of a source, whose name may be written with other cases, `-`, `_`, spaces, or a size at its
    /// end.
    pub fn of(&self, source: &str) -> Option<&ResponseFormat> {
        self.by_source.get(&source_key(source))
    }

    /// Appends the text of a source to a question: on a line of its own, before an image token that ends the question.
    /// A text that the question has already, in any case and spacing, is not appended again.
    pub fn apply(&self, source: &str, question: &str) -> Applied {
        match self.of(source) {
            Some(format) => append(format, question),
            None => Applied::NotListed,
        }
    }
}

/// Appends texts to a question; see [`SystemPrompts::apply`].
pub fn append(format: &ResponseFormat, question: &str) -> Applied {
    let present = plain(question);
    let missing: Vec<&str> =
        format.texts(question).into_iter().filter(|text| !present.contains(&plain(text))).collect();
    if missing.is_empty() {
        return Applied::Present;
    }
    let (mut body, mut images) = (question.trim_end(), 0);
    while let Some(before) = body.strip_suffix(IMAGE_TOKEN) {
        images += 1;
        body = before.trim_end();
    }
    if body.is_empty() {
        // Only images: the text follows them.
        return Applied::Appended(format!("{}\n{}", question.trim_end(), missing.join(" ")));
    }
    let tail = format!("\n{IMAGE_TOKEN}").repeat(images);
    Applied::Appended(format!("{body}\n{}{tail}", missing.join(" ")))
}

/// The form in which texts are compared: lower case, only letters, digits and `<`, one space between words and around
/// them.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(' ');
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() || c == '<' {
            out.push(c);
        } else if c != '\'' && c != '’' && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    if !out.ends_with(' ') {
        out.push(' ');
    }
    out
}

/// Returns whether a question lists options: at least `A` and `B`, each at the start of a line or after a space, as in
/// `A. a cup`, `(A) a cup`, `A: a cup`, `A) a cup`.
fn lists_options(question: &str) -> bool {
    let has = |letter: char| {
        question.match_indices(letter).any(|(at, _)| {
            let (before, after) = (question.get(..at).unwrap_or(""), question.get(at + 1..).unwrap_or(""));
            let opened = before.ends_with('(') && after.starts_with(')');
            let starts = before.is_empty() || before.ends_with(|c: char| c.is_whitespace() || c == ',' || c == ';');
            opened || (starts && after.starts_with(['.', ')', ':']))
        })
    };
    has('A') && has('B')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(source: &str, question: &str) -> String {
        match SystemPrompts::paper().apply(source, question) {
            Applied::Appended(text) => text,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_source_of_the_paper_gets_its_text_under_all_its_names() {
        for (source, text) in [
            ("sketchyvqa_8k.json", WORD_OR_PHRASE),
            ("oodvqa", WORD_OR_PHRASE),
            ("random_3rd_dvqa_2325k.json", WORD_OR_PHRASE),
            ("dvqa-2325k", WORD_OR_PHRASE),
            ("AI 2D", WORD_OR_PHRASE),
            ("clevr_700k.json", WORD_OR_PHRASE),
            ("TALLY-QA", WORD_OR_PHRASE),
            ("pathvqa_32k.json", WORD_OR_PHRASE),
            ("hitab", WORD_OR_PHRASE),
            ("robut_wtq", WORD_OR_PHRASE),
            ("wiki_sql", WORD_OR_PHRASE),
            ("raven", WORD_OR_PHRASE),
            ("vizwiz_20k", UNANSWERABLE),
            ("chartqa_28k.jsonl", NUMBER_OR_PHRASE),
            ("docvqa_39k.json", SHORT_ANSWER),
            ("mathinstruct_262k.json", REASONING),
            ("design2code_0k.json", HTML),
            ("inter_gps", LETTER),
            ("tqa", LETTER),
            ("visual7w", OPTION_LETTER),
        ] {
            assert_eq!(appended(source, "What is it?"), format!("What is it?\n{text}"), "{source}");
        }
        let both = format!("What?\n{WORD_OR_PHRASE} {NO_ANSWER}");
        assert_eq!(appended("screen-qa", "What?"), both);
        assert_eq!(SystemPrompts::paper_sources().len(), 22);
        for source in ["gqa", "", "llava", "st_vqa", "textvqa"] {
            assert_eq!(SystemPrompts::paper().apply(source, "What?"), Applied::NotListed, "{source}");
        }
    }

    #[test]
    fn options_choose_the_text_where_the_paper_names_two() {
        let letters = ["Is it good?\nA. Yes\nB. No", "Which? (A) red (B) blue", "A: a\nB: b", "Pick: A) one, B) two"];
        for question in letters {
            assert_eq!(appended("q-instruct_200k.json", question), format!("{question}\n{OPTION_LETTER}"));
            assert_eq!(appended("iconqa", question), format!("{question}\n{LETTER}"));
        }
        for question in ["What does A. Smith see?", "Is vitamin A or B shown?", "Größe A"] {
            assert_eq!(appended("q_instruct", question), format!("{question}\n{WORD_OR_PHRASE}"));
        }
    }

    #[test]
    fn a_text_is_appended_once_and_before_the_image_token() {
        let prompts = SystemPrompts::paper();
        for question in [
            "What?\nAnswer the question using a single word or phrase.",
            "What? answer the  question using\na single word or phrase",
            &appended("dvqa", "What?\n<image>"),
        ] {
            assert_eq!(prompts.apply("dvqa", question), Applied::Present, "{question}");
        }
        assert_eq!(appended("dvqa", "What?\n<image>"), format!("What?\n{WORD_OR_PHRASE}\n<image>"));
        assert_eq!(appended("dvqa", "<image>\nWhat? "), format!("<image>\nWhat?\n{WORD_OR_PHRASE}"));
        assert_eq!(appended("dvqa", "<image>\n"), format!("<image>\n{WORD_OR_PHRASE}"));
        assert_eq!(appended("dvqa", "What? <image>\n<image>"), format!("What?\n{WORD_OR_PHRASE}\n<image>\n<image>"));
        // Of two texts only the missing one.
        let half = format!("What?\n{WORD_OR_PHRASE}");
        assert_eq!(appended("screenqa", &half), format!("{half}\n{NO_ANSWER}"));
        // VizWiz's text contains that of others.
        assert_eq!(appended("vizwiz", &half), format!("{half}\n{UNANSWERABLE}"));
        let letter = "Which?\nAnswer with the option’s letter from the given choices directly.";
        assert_eq!(prompts.apply("visual7w", letter), Applied::Present);
    }

    #[test]
    fn own_texts_replace_the_papers() -> Result<()> {
        let mut prompts = SystemPrompts::paper();
        prompts.set("DVQA", ResponseFormat::text("Be brief."))?;
        prompts.set("my source", ResponseFormat::text("One word."))?;
        assert!(prompts.remove("CLEVR") && !prompts.remove("CLEVR"));
        assert_eq!(prompts.apply("dvqa_2325k", "A?"), Applied::Appended("A?\nBe brief.".into()));
        assert_eq!(prompts.apply("my-source", "A?"), Applied::Appended("A?\nOne word.".into()));
        assert_eq!(prompts.apply("clevr", "A?"), Applied::NotListed);
        for (source, text) in [("", "x"), ("x", " ")] {
            assert_eq!(prompts.set(source, ResponseFormat::text(text)).unwrap_err().exit_code(), 2);
        }
        Ok(())
    }
}
