//! Separates a model's reasoning from its answer.
//!
//! A reasoning model writes its reasoning between tags, followed by the answer. [`split`] removes the reasoning before
//! an answer is read. It recognises these forms, in upper or lower case, with or without a namespace (`<seed:think>`)
//! and attributes:
//!
//! | form | written by |
//! |---|---|
//! | `<think>…</think>`, also `thinking`, `thought`, `reasoning`, `reflection`, `analysis`, `rationale`, `scratchpad`, … | DeepSeek-R1, Qwen3, GLM-4.1V, LLaVA-CoT, … |
//! | `◁think▷…◁/think▷` | Kimi-VL |
//! | `<\|begin_of_thought\|>…<\|end_of_thought\|>` | Sky-T1, OpenThinker |
//! | `<\|START_THINKING\|>…<\|END_THINKING\|>` | Command A |
//! | `[THINK]…[/THINK]` | Magistral |
//! | `<unused94>…<unused95>` | MedGemma |
//! | `<\|channel\|>analysis<\|message\|>…<\|channel\|>final<\|message\|>`, also without its special tokens | gpt-oss |
//!
//! Tags may be nested. A closing tag without an opening one ends reasoning that began in the prompt, because some chat
//! templates put the opening tag there. An answer that ends inside its reasoning has no answer.
//!
//! Tags around the answer are removed too: the content of the last `<answer>…</answer>` or similar pair is the
//! answer.

use std::borrow::Cow;

/// An answer without its reasoning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitAnswer<'a> {
    /// The text without reasoning; empty if it ends inside the reasoning.
    pub answer: Cow<'a, str>,
    /// Whether the text contains reasoning.
    pub reasoning: bool,
    /// Whether the text ends inside the reasoning.
    pub unfinished: bool,
}

/// Names of tags around reasoning.
const THOUGHTS: [&str; 20] = [
    "think",
    "thinking",
    "thinks",
    "thought",
    "thoughts",
    "thought_process",
    "thinking_process",
    "inner_thoughts",
    "inner_monologue",
    "reason",
    "reasoning",
    "reasoning_process",
    "reflection",
    "reflect",
    "analysis",
    "rationale",
    "scratchpad",
    "cot",
    "chain_of_thought",
    "longcat_think",
];

/// Names of tags around reasoning in square brackets; fewer, because square brackets are common in answers.
const SQUARE: [&str; 4] = ["think", "thinking", "thought", "reasoning"];

/// Names of tags around the answer.
const ANSWERS: [&str; 7] = ["answer", "answers", "final_answer", "final", "response", "solution", "conclusion"];

/// Name of a tag around the answer if it has a begin or end prefix (`<|begin_of_box|>`); a plain `<box>` holds
/// coordinates.
const BOX: &str = "box";

/// Maximum length of a tag, in bytes.
const LONGEST: usize = 96;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TagKind {
    Thought,
    Answer,
}

/// A tag in the text.
#[derive(Debug)]
struct Tag {
    start: usize,
    end: usize,
    opens: bool,
    kind: TagKind,
    /// Name by which an opening and a closing tag are matched.
    name: String,
}

/// Splits a text into reasoning and answer.
pub fn split(text: &str) -> SplitAnswer<'_> {
    if let Some(found) = channels(text) {
        return found;
    }
    let tags = tags(text);
    let thoughts: Vec<&Tag> = tags.iter().filter(|t| t.kind == TagKind::Thought).collect();
    if thoughts.is_empty() {
        let answer = wrapped(text, &tags).map_or(Cow::Borrowed(text), Cow::Borrowed);
        return SplitAnswer { answer, reasoning: false, unfinished: false };
    }
    let mut left = String::new();
    let mut open: Vec<&str> = Vec::new();
    let mut from = 0;
    for tag in &thoughts {
        if open.is_empty() {
            left.push_str(text.get(from..tag.start).unwrap_or_default());
        }
        if tag.opens {
            open.push(&tag.name);
        } else if let Some(at) = open.iter().rposition(|name| *name == tag.name) {
            open.truncate(at);
        } else if open.pop().is_none() {
            // The opening tag is in the prompt, so all text before is reasoning.
            left.clear();
        }
        from = tag.end;
    }
    // An unclosed tag may only be mentioned in the reasoning; the text after the last closing tag is the answer.
    let last_closes = thoughts.last().is_some_and(|t| !t.opens);
    if !open.is_empty() && !last_closes {
        // The reasoning is not closed, but the text ends with a tagged answer.
        let rest = text.get(from..).unwrap_or_default();
        let inside = self::tags(rest);
        let ends = inside.last().is_some_and(|t| {
            t.kind == TagKind::Answer && !t.opens && rest.get(t.end..).is_some_and(|after| after.trim().is_empty())
        });
        if let Some(inner) = wrapped(rest, &inside).filter(|_| ends && inside.iter().any(|t| t.opens)) {
            return SplitAnswer { answer: Cow::Owned(inner.to_string()), reasoning: true, unfinished: false };
        }
        return SplitAnswer { answer: Cow::Borrowed(""), reasoning: true, unfinished: true };
    }
    if open.is_empty() {
        left.push_str(text.get(from..).unwrap_or_default());
    } else {
        left = text.get(from..).unwrap_or_default().to_string();
    }
    let answer = match wrapped(&left, &self::tags(&left)) {
        Some(inner) => inner.to_string(),
        None => left,
    };
    SplitAnswer { answer: Cow::Owned(answer.trim().to_string()), reasoning: true, unfinished: false }
}

/// Returns the content of the last pair of tags around an answer: to the end of the text if the closing tag is missing,
/// from its beginning if the opening one is.
fn wrapped<'a>(text: &'a str, tags: &[Tag]) -> Option<&'a str> {
    let answers = || tags.iter().filter(|t| t.kind == TagKind::Answer);
    let Some(opening) = answers().rfind(|t| t.opens) else {
        // The opening tag is in the prompt.
        return text.get(..answers().next()?.start).map(str::trim);
    };
    let closing = answers().find(|t| !t.opens && t.start >= opening.end && t.name == opening.name);
    let inner = text.get(opening.end..closing.map_or(text.len(), |t| t.start))?;
    Some(inner.trim())
}

/// Returns all tags in the text, in order.
fn tags(text: &str) -> Vec<Tag> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text.get(from..).and_then(|t| t.find(['<', '[', '◁', '＜'])).map(|at| from + at) {
        match tag_at(text, start) {
            Some((tag, empty)) => {
                from = tag.end;
                // An empty element `<think/>` opens and closes.
                let closing = empty.then(|| Tag { start: tag.end, opens: false, name: tag.name.clone(), ..tag });
                found.extend([Some(tag), closing].into_iter().flatten());
            }
            None => from = start + text.get(start..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8),
        }
    }
    found
}

/// Returns the tag that begins at `start`, and whether it is an empty element.
fn tag_at(text: &str, start: usize) -> Option<(Tag, bool)> {
    let rest = text.get(start..)?;
    let bracket = rest.chars().next()?;
    let closing = match bracket {
        '<' => '>',
        '[' => ']',
        '◁' => '▷',
        _ => '＞',
    };
    let inner = rest.get(bracket.len_utf8()..)?;
    let length = inner.char_indices().take_while(|(at, _)| *at <= LONGEST).find(|(_, c)| *c == closing)?.0;
    let end = start + bracket.len_utf8() + length + closing.len_utf8();
    let inner = inner.get(..length)?.trim().trim_matches('|').trim();
    let (inner, mut opens) = match inner.strip_prefix('/') {
        Some(inner) => (inner.trim(), false),
        None => (inner, true),
    };
    let (inner, empty) = match inner.strip_suffix('/') {
        Some(inner) => (inner.trim(), opens),
        None => (inner, false),
    };
    // Attributes are removed first, then the namespace.
    let name = inner.split_whitespace().next()?.to_ascii_lowercase().replace('-', "_");
    let mut name = name.rsplit_once(':').map_or(name.as_str(), |(_, name)| name);
    match name {
        "unused94" => return Some((Tag { start, end, opens, kind: TagKind::Thought, name: "unused94".into() }, false)),
        "unused95" => {
            return Some((Tag { start, end, opens: false, kind: TagKind::Thought, name: "unused94".into() }, false));
        }
        _ => {}
    }
    let whole = name;
    for (prefix, begins) in
        [("begin_of_", true), ("end_of_", false), ("start_", true), ("begin_", true), ("end_", false)]
    {
        if let Some(rest) = name.strip_prefix(prefix) {
            (name, opens) = (rest, begins && opens);
            break;
        }
    }
    let kind = match bracket {
        '[' => SQUARE.contains(&name).then_some(TagKind::Thought),
        _ if THOUGHTS.contains(&name) => Some(TagKind::Thought),
        _ if name == BOX && whole != BOX => Some(TagKind::Answer),
        _ => ANSWERS.contains(&name).then_some(TagKind::Answer),
    }?;
    Some((Tag { start, end, opens, kind, name: name.to_string() }, empty))
}

/// Splits gpt-oss's format: reasoning in the channels `analysis` and `commentary`, the answer in `final`.
fn channels(text: &str) -> Option<SplitAnswer<'_>> {
    const CHANNEL: &str = "<|channel|>";
    const MESSAGE: &str = "<|message|>";
    let split = |answer: &'_ str, unfinished| SplitAnswer {
        answer: Cow::Owned(answer.trim().to_string()),
        reasoning: true,
        unfinished,
    };
    if text.contains(CHANNEL) {
        let mut parts = text.split(CHANNEL);
        parts.next();
        let mut thought = false;
        let mut answer = None;
        for part in parts {
            let (name, said) = part.split_once(MESSAGE).unwrap_or((part, ""));
            match name.split_whitespace().next() {
                Some("final") => answer = said.split("<|").next(),
                _ => thought = true,
            }
        }
        return Some(match answer {
            Some(answer) => SplitAnswer { reasoning: thought, ..split(answer, false) },
            None => split("", true),
        });
    }
    // The format decoded without special tokens: "analysis…assistantfinal…".
    let rest = text.trim_start().strip_prefix("analysis")?;
    let (_, answer) = rest.rsplit_once("assistantfinal")?;
    Some(split(answer, false))
}

/// Returns the content of the last `\boxed{…}`, without a font command such as `\text{…}` around it.
pub fn boxed(answer: &str) -> Option<&str> {
    let (at, command) = ["\\boxed", "\\fbox"].iter().filter_map(|c| Some((answer.rfind(c)?, *c))).max()?;
    let inner = braced(answer.get(at + command.len()..)?.trim_start())?.trim();
    let text = FONTS.iter().find_map(|font| {
        let rest = inner.strip_prefix(font)?.trim_start();
        braced(rest).filter(|text| text.len() + 2 == rest.len())
    });
    Some(text.unwrap_or(inner).trim())
}

/// LaTeX font commands, which do not change the content.
const FONTS: [&str; 8] = ["\\text", "\\textbf", "\\textit", "\\mathrm", "\\mathbf", "\\mathit", "\\mbox", "\\textrm"];

/// Returns the text between the brace with which `text` begins and the matching closing brace.
fn braced(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('{')?;
    let mut depth = 1_usize;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return inner.get(..at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_is_removed_in_every_form() {
        for (text, answer) in [
            ("<think>The user asks for the smallest. Maybe the answer is A. No: plankton.</think>\n\nC", "C"),
            ("<THINK>A</THINK>C", "C"),
            ("<Thinking>A</Thinking> C.", "C."),
            ("< think >A< / think >C", "C"),
            ("<think type=\"deep\">A</think>C", "C"),
            ("<thought>A</thought>C", "C"),
            ("<reasoning>A</reasoning><answer>C</answer>", "C"),
            ("<reflection>A</reflection>C", "C"),
            ("<analysis>A</analysis>C", "C"),
            ("<seed:think>A</seed:think>C", "C"),
            ("◁think▷A◁/think▷C", "C"),
            ("<|begin_of_thought|>A<|end_of_thought|><|begin_of_solution|>C<|end_of_solution|>", "C"),
            ("<|START_THINKING|>A<|END_THINKING|><|START_RESPONSE|>C<|END_RESPONSE|>", "C"),
            ("[THINK]A[/THINK]C", "C"),
            ("[think]A[/think]\nC", "C"),
            ("<unused94>thought\nA<unused95>C", "C"),
            ("<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>C<|return|>", "C"),
            ("analysisThe answer may be A.assistantfinalC", "C"),
            // The opening tag is in the prompt.
            ("The answer may be A.\n</think>\n\nC", "C"),
            ("A</think>B</think>C", "C"),
            // Tags that are nested, closed by another name, empty, or between parts of the answer.
            ("<think>a<think>B</think>A</think>C", "C"),
            ("<think>a<reflection>B</reflection>A</think>C", "C"),
            ("<think>A</thinking>C", "C"),
            ("<think>I shall use the tag <think> well. A</think>C", "C"),
            ("<think></think>C", "C"),
            ("<think>\n\n</think>\n\nC", "C"),
            ("<think>A</think>The answer <think>B</think>is C", "The answer is C"),
            ("C<think>or A?</think>", "C"),
            ("<think>A</think><answer> C", "C"),
            ("<think>A</think><answer>B</answer> no, <answer>C</answer>", "C"),
            ("<think>A</think><|begin_of_box|>C<|end_of_box|>", "C"),
            ("A</think> C</answer>", "C"),
            ("<think>Maybe A. <answer>C</answer>", "C"),
            ("<think/>C", "C"),
            ("<think />C", "C"),
            ("＜think＞A＜/think＞C", "C"),
            ("<think>A</think>the dog<box>(1,2)</box>", "the dog<box>(1,2)</box>"),
        ] {
            let split = split(text);
            assert!(split.reasoning && !split.unfinished, "{text}: {split:?}");
            assert_eq!(split.answer, answer, "{text}");
        }
    }

    #[test]
    fn an_answer_that_ends_inside_its_reasoning_is_empty() {
        for text in [
            "<think>The answer may be A",
            "<think>A</think><think>B",
            "B <think>wait, or A?",
            "◁think▷A",
            "[THINK]A",
            "<think>",
            "<|channel|>analysis<|message|>A",
            "<|begin_of_thought|>A",
            "<think>Maybe <answer>A</answer>, or rather",
            "<think>A</answer>",
        ] {
            let split = split(text);
            assert!(split.reasoning && split.unfinished && split.answer.is_empty(), "{text}: {split:?}");
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in [
            "C",
            " C\n",
            "",
            "a < b and b > c",
            "<b>C</b>",
            "[C]",
            "[1, 2]",
            "I think it is C",
            "<3",
            "x <= think >= y",
            "[Analysis]",
            "<think",
            "analysis",
            "{think}",
        ] {
            assert_eq!(
                split(text),
                SplitAnswer { answer: Cow::Borrowed(text), reasoning: false, unfinished: false },
                "{text}"
            );
        }
        assert_eq!(split("<answer>C</answer>").answer, "C");
        assert!(!split("<answer>C</answer>").reasoning);
    }

    #[test]
    fn boxes_are_opened() {
        for (text, inner) in [
            ("\\boxed{C}", Some("C")),
            ("so $\\boxed{\\text{C}}$.", Some("C")),
            ("\\boxed{A} or rather \\boxed{ B }", Some("B")),
            ("\\boxed{\\frac{1}{2}}", Some("\\frac{1}{2}")),
            ("\\boxed{\\textbf{C}}", Some("C")),
            ("\\boxed{a{b}c}", Some("a{b}c")),
            ("\\boxed{C", None),
            ("C", None),
        ] {
            assert_eq!(boxed(text), inner, "{text}");
        }
    }
}
