//! Questions and answers in replies of language models.

use crate::config::QuestionKind;
use crate::reply_json;
use serde_json::Value;

/// A question and an answer as a reply has them, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParsedPair {
    /// Kind of the question, by the reply's name.
    pub kind: Option<String>,
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// What supports the answer.
    pub evidence: Option<String>,
}

/// What a reply is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedReply {
    /// Questions and answers; an empty list if the model says that there is nothing to ask.
    Pairs(Vec<ParsedPair>),
    /// The model does not want to.
    Refusal,
    /// It is of another form; the text says what is wrong.
    Malformed(String),
}

/// Largest number of pairs that are read of a reply.
const MOST: usize = 100;
/// Names of lists of pairs.
const LISTS: [&str; 8] = ["pairs", "questions", "qa_pairs", "qa", "items", "data", "question_answer_pairs", "results"];

/// Reads a reply: JSON with a list of pairs or one pair, or lines `Question: …` and `Answer: …`.
pub fn parse(reply: &str) -> ParsedReply {
    if reply.trim().is_empty() {
        return ParsedReply::Malformed("the reply is empty".into());
    }
    if let Some(value) = reply_json::find(reply) {
        return from_json(&value);
    }
    if let Some(pair) = from_lines(reply) {
        return ParsedReply::Pairs(vec![pair]);
    }
    match is_refusal(reply) {
        true => ParsedReply::Refusal,
        false => ParsedReply::Malformed("it has neither JSON nor lines `Question:` and `Answer:`".into()),
    }
}

fn from_json(value: &Value) -> ParsedReply {
    let list = match value {
        Value::Array(items) => Some(items),
        Value::Object(entries) => {
            LISTS.iter().find_map(|name| entries.get(*name)).and_then(Value::as_array).or_else(|| {
                // An object with one list, whatever its name.
                match entries.len() {
                    1 => entries.values().find_map(Value::as_array),
                    _ => None,
                }
            })
        }
        _ => None,
    };
    let Some(list) = list else {
        return match pair(value) {
            Some(pair) => ParsedReply::Pairs(vec![pair]),
            None => ParsedReply::Malformed("its JSON has no `pairs`, and no `question` and `answer`".into()),
        };
    };
    let pairs: Vec<ParsedPair> = list.iter().take(MOST).filter_map(pair).collect();
    match pairs.is_empty() && !list.is_empty() {
        true => ParsedReply::Malformed("its pairs have no `question` and `answer`".into()),
        false => ParsedReply::Pairs(pairs),
    }
}

fn pair(value: &Value) -> Option<ParsedPair> {
    let text = |names: &[&str]| {
        let found = value.as_object()?.iter().find(|(key, _)| names.contains(&key.to_lowercase().as_str()))?.1;
        found.as_str().map(|text| text.trim().to_string())
    };
    Some(ParsedPair {
        kind: text(&["kind", "type", "category"]),
        question: text(&["question", "q", "query"])?,
        answer: text(&["answer", "a", "response"])?,
        evidence: text(&["evidence", "quote", "support"]).filter(|e| !e.is_empty()),
    })
}

/// Reads `Question: …` and `Answer: …`, also as `Q:` and `A:`, in bold, or numbered.
fn from_lines(reply: &str) -> Option<ParsedPair> {
    let (mut question, mut answer) = (String::new(), String::new());
    let mut part = 0;
    for line in reply.lines() {
        let plain = line.trim().trim_start_matches(['*', '#', '-', ' ', '>']);
        let after = |names: &[&str]| {
            let lower = plain.to_lowercase();
            let name = names.iter().find(|name| lower.starts_with(**name))?;
            let rest =
                plain.get(name.len()..)?.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ' ' | '*'));
            rest.strip_prefix(':').map(|rest| rest.trim_start_matches(['*', ' ']))
        };
        // A second question begins another pair, of which the prompt does not ask.
        if let Some(rest) = after(&["question", "q"]) {
            if part == 2 {
                break;
            }
            part = 1;
            question = rest.to_string();
        } else if let Some(rest) = after(&["answer", "a"]) {
            part = 2;
            answer = rest.to_string();
        } else {
            let text = match part {
                1 => &mut question,
                2 => &mut answer,
                _ => continue,
            };
            text.push(' ');
            text.push_str(line.trim());
        }
    }
    let clean = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").trim_matches('*').trim().to_string();
    let pair = ParsedPair { question: clean(&question), answer: clean(&answer), ..ParsedPair::default() };
    (!pair.question.is_empty() && !pair.answer.is_empty()).then_some(pair)
}

/// Whether a text without questions declines to write them.
fn is_refusal(text: &str) -> bool {
    let begin: String = text.trim().chars().take(200).collect::<String>().to_lowercase().replace('’', "'");
    let signs = ["i cannot", "i can't", "i'm sorry", "i am sorry", "i am unable", "i'm unable", "i won't", "as an ai"];
    signs.iter().any(|sign| begin.contains(sign))
}

/// Returns the kind with this name, however it is written.
pub fn kind_of(name: &str) -> Option<QuestionKind> {
    let plain = name.to_lowercase().replace(['_', ' ', '/'], "-");
    QuestionKind::ALL.into_iter().find(|kind| kind.as_str() == plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_many_forms_are_read() {
        let one = |question: &str, answer: &str| ParsedPair {
            question: question.into(),
            answer: answer.into(),
            ..ParsedPair::default()
        };
        let expected = ParsedReply::Pairs(vec![one("What?", "This.")]);
        for reply in [
            r#"{"pairs": [{"question": "What?", "answer": " This. "}]}"#,
            r#"[{"Question": "What?", "Answer": "This."}, 3]"#,
            r#"{"question": "What?", "answer": "This."}"#,
            "```json\n{\"qa\": [{\"q\": \"What?\", \"a\": \"This.\"},]}\n```",
            r#"Here: {"my list": [{"question": "What?", "answer": "This."}]} Good?"#,
            "Question: What?\nAnswer: This.",
            "**Question 1:** What?\n\n**Answer:** This.\n\n**Question 2:** Where?\nAnswer: There.",
            "Q: What?\nA:\nThis.",
        ] {
            assert_eq!(parse(reply), expected, "{reply}");
        }
        let full = r#"{"pairs": [{"kind": "explain", "question": "q", "answer": "a", "evidence": "e"}]}"#;
        let ParsedReply::Pairs(pairs) = parse(full) else { panic!("{full}") };
        assert_eq!((pairs[0].kind.as_deref(), pairs[0].evidence.as_deref()), (Some("explain"), Some("e")));
        assert_eq!(parse(r#"{"pairs": []}"#), ParsedReply::Pairs(Vec::new()));
        assert_eq!(parse("I'm sorry, but I can’t do that."), ParsedReply::Refusal);
        for reply in
            ["", "The image is nice.", r#"{"pairs": [{"question": 3}]}"#, r#"{"text": "x"}"#, "Question: What?"]
        {
            assert!(matches!(parse(reply), ParsedReply::Malformed(_)), "{reply}");
        }
        assert_eq!((kind_of("Yes/No"), kind_of("other")), (Some(QuestionKind::YesNo), None));
    }
}
