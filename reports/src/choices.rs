//! The choices of a multiple-choice question, and which of them is right.

use crate::schema::Sample;
use serde::Serialize;

/// A choice of a multiple-choice question.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Choice {
    pub(crate) letter: char,
    pub(crate) text: String,
    pub(crate) right: bool,
}

/// Returns the choices of a question: those that were stored, or those in the lines of the prompt.
pub(crate) fn of(sample: &Sample) -> Vec<Choice> {
    let kept: Vec<(char, String)> = ('A'..='Z').zip(sample.options.iter().cloned()).collect();
    let choices = if kept.is_empty() { in_prompt(&sample.prompt) } else { kept };
    // "B", "(b)" and "b." are letters; any other target is compared as text.
    let mut letters = sample.target.chars().filter(char::is_ascii_alphanumeric);
    let right = letters.next().filter(|_| letters.next().is_none()).map(|c| c.to_ascii_uppercase());
    let is_right = |letter: char, text: &str| Some(letter) == right || (right.is_none() && text == sample.target);
    choices.into_iter().map(|(letter, text)| Choice { letter, right: is_right(letter, &text), text }).collect()
}

/// Returns the choices in lines `A. …`, `(B) …`, `C: …` of a prompt, if there are at least two and they are in
/// order.
fn in_prompt(prompt: &str) -> Vec<(char, String)> {
    let mut found: Vec<(char, String)> = Vec::new();
    for line in prompt.lines() {
        let line = line.trim();
        let rest = line.strip_prefix('(').unwrap_or(line);
        let mut chars = rest.chars();
        let (letter, mark) = (chars.next().map(|c| c.to_ascii_uppercase()), chars.next());
        let next = char::from(b'A' + u8::try_from(found.len()).unwrap_or(u8::MAX).min(25));
        if letter == Some(next) && mark.is_some_and(|m| ".):".contains(m)) && !chars.as_str().trim().is_empty() {
            found.push((next, chars.as_str().trim().to_string()));
        }
    }
    if found.len() < 2 { Vec::new() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(prompt: &str, options: &[&str], target: &str) -> Sample {
        let options: Vec<&str> = options.to_vec();
        serde_json::from_value(serde_json::json!({
            "id": "q", "unit": "u", "question": "?", "options": options, "prompt": prompt, "image": "", "target": target,
            "answer": "", "parsed": null, "score": 0.0, "blind_answer": "", "blind_score": 0.0
        }))
        .unwrap()
    }

    #[test]
    fn choices_are_those_kept_or_those_of_the_prompt() {
        let of = |prompt: &str, options: &[&str], target: &str| -> Vec<String> {
            let mark = |c: Choice| format!("{}{} {}", if c.right { "*" } else { "" }, c.letter, c.text);
            of(&sample(prompt, options, target)).into_iter().map(mark).collect()
        };
        assert_eq!(of("", &["cat", "dog"], "B"), ["A cat", "*B dog"]);
        assert_eq!(of("", &["cat", "dog"], "(a)"), ["*A cat", "B dog"]);
        assert_eq!(of("", &["cat", "dog"], "dog"), ["A cat", "*B dog"]);
        assert_eq!(of("What?\nA. cat\n B. dog\nAnswer with the letter.", &[], "A"), ["*A cat", "B dog"]);
        assert_eq!(of("What?\n(a) cat\n(b) dog", &[], "b"), ["A cat", "*B dog"]);
        assert!(of("A: is this so?\nYes or no", &[], "yes").is_empty());
    }
}
