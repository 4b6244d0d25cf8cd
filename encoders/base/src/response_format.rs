//! Response-format prompts: sentences in a prompt that say in which form to answer, such as "Answer the question using
//! a single word or phrase."
//!
//! Data with such sentences teach a model to answer shortly where it is asked to, and only there: they are the paper's
//! cure for models that answer every question with one word ("system prompts", arXiv 2406.16860, section 5.2).

/// A sentence that says in which form to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFormat {
    /// The sentence, without the full stop at its end.
    pub text: &'static str,
    /// Whether it asks for a letter, a word, a number, a phrase, or yes or no.
    pub short: bool,
}

const fn short(text: &'static str) -> ResponseFormat {
    ResponseFormat { text, short: true }
}

const fn other(text: &'static str) -> ResponseFormat {
    ResponseFormat { text, short: false }
}

/// The sentences of the Cambrian-1 paper's data, and those with which benchmarks ask.
pub const RESPONSE_FORMATS: [ResponseFormat; 23] = [
    short("Answer the question using a single word or phrase"),
    short("Answer the question using a single number or phrase"),
    short("Answer with the option's letter from the given choices directly"),
    short("Give the short answer directly"),
    short("When the provided information is insufficient, respond with <no answer>"),
    short("When the provided information is insufficient, respond with `<no answer>`"),
    short("When the provided information is insufficient, respond with 'Unanswerable'"),
    short("When the provided information is insufficient, respond with \"Unanswerable\""),
    short("Answer with the letter"),
    short("Answer with one of the options"),
    short("Please answer directly with only the letter of the correct option and nothing else"),
    short("Please answer directly with a single word or number"),
    short("Answer the question with a single word"),
    short("Answer the question using a single integer number"),
    short("Answer the question using a single floating-point number with one decimal place"),
    short("Answer the question using a single floating-point number with two decimal places"),
    short("Please answer yes or no"),
    short("Answer yes or no"),
    short("Answer with yes or no"),
    short("Answer using a single word or phrase"),
    other("Answer the question using a Python list"),
    other("Directly provide the HTML code"),
    other("First show your reasoning process and then give the final answer"),
];

/// Returns the first known response-format sentence in a prompt, wherever it stands; case is ignored.
pub fn of_prompt(prompt: &str) -> Option<&'static ResponseFormat> {
    let prompt = prompt.to_ascii_lowercase();
    RESPONSE_FORMATS.iter().find(|format| prompt.contains(&format.text.to_ascii_lowercase()))
}

/// Removes the response-format sentences at the ends of a prompt's lines, and lines that hold nothing else. Returns the
/// prompt and the sentences that were removed, in the order in which they stood; everything else stays as it is.
///
/// ```
/// use burgess_base::response_format::without;
/// let (prompt, removed) = without("Why?\nAnswer the question using a single word or phrase.");
/// assert_eq!((prompt.as_str(), removed), ("Why?", vec!["Answer the question using a single word or phrase"]));
/// ```
pub fn without(prompt: &str) -> (String, Vec<&'static str>) {
    let (mut lines, mut removed) = (Vec::new(), Vec::new());
    for line in prompt.split('\n') {
        let (mut rest, mut found) = (line, Vec::new());
        while let Some((before, text)) = without_last(rest) {
            rest = before;
            found.push(text);
        }
        if found.is_empty() || !rest.is_empty() {
            lines.push(rest);
        }
        removed.extend(found.into_iter().rev());
    }
    (lines.join("\n"), removed)
}

/// Removes the response-format sentence with which a line ends.
fn without_last(line: &str) -> Option<(&str, &'static str)> {
    let bare = line.trim_end();
    let bare = bare.strip_suffix(['.', '!']).unwrap_or(bare);
    RESPONSE_FORMATS.iter().find_map(|format| {
        let at = bare.len().checked_sub(format.text.len())?;
        let (before, end) = (bare.get(..at)?, bare.get(at..)?);
        let alone = before.is_empty() || before.ends_with(char::is_whitespace);
        (alone && end.eq_ignore_ascii_case(format.text)).then_some((before.trim_end(), format.text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_removed_from_the_ends_of_lines_only() {
        for (prompt, rest, removed) in [
            ("What?\nAnswer the question using a single word or phrase.", "What?", 1),
            (
                "What?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the \
                 question using a single word or phrase.",
                "What?",
                2,
            ),
            ("Is it? Please answer yes or no.", "Is it?", 1),
            ("A?\nA. x\nB. y\nAnswer with the option's letter from the given choices directly.", "A?\nA. x\nB. y", 1),
            ("Answer with the letter. Why?", "Answer with the letter. Why?", 0),
            ("Explain.\n", "Explain.\n", 0),
            ("", "", 0),
            ("What? ANSWER YES OR NO", "What?", 1),
            ("Do not Xanswer yes or no.", "Do not Xanswer yes or no.", 0),
        ] {
            let (found, texts) = without(prompt);
            assert_eq!((found.as_str(), texts.len()), (rest, removed), "{prompt}");
        }
        let two = "W? Answer yes or no. Answer with the letter.";
        assert_eq!(without(two).1, ["Answer yes or no", "Answer with the letter"]);
    }

    #[test]
    fn prompts_are_recognised_wherever_the_sentence_stands() {
        let short = |prompt: &str| of_prompt(prompt).map(|format| format.short);
        assert_eq!(short("Give the short answer directly. What?"), Some(true));
        assert_eq!(short("What?\nfirst show your reasoning process and then give the final answer."), Some(false));
        assert_eq!(short("Describe the image."), None);
    }
}
