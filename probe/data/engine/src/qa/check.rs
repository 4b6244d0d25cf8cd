//! Which questions and answers are kept.

use super::grounding::{Grounding, Ungrounded};
use super::item::QaPair;
use super::parse::{ParsedPair, kind_of};
use crate::config::{QaConfig, QaPrompt, QuestionKind};
use crate::fold::{folded, word_count, words};
use burgess_base::text::excerpt;

/// Why a pair is left out: the reason, the same words for all of its kind, and details.
pub(super) type Reason = (&'static str, String);

/// Texts by which a question or an answer mentions its source, folded.
const MENTIONS: &[&str] = &[
    "the caption",
    "this caption",
    "its caption",
    "image caption",
    "captioned",
    "the passage",
    "this passage",
    "the article",
    "this article",
    "the paragraph",
    "the excerpt",
    "the document",
    "the provided",
    "provided text",
    "provided context",
    "provided information",
    "the given text",
    "given text",
    "the given information",
    "the context",
    "accompanying text",
    "contextual text",
    "surrounding text",
    "section text",
    "according to the text",
    "based on the text",
    "in the text above",
    "from the text",
    "the text says",
    "the text states",
    "the text mentions",
    "the text describes",
    "the text explains",
    "the text provides",
    "the text notes",
    "as described in the text",
    "as stated in",
    "as mentioned in",
    "mentioned in the text",
    "described in the text",
    "the text,",
    "the text?",
    "wikipedia",
    "the author of the text",
    "this section",
];

/// Words with which polar questions begin.
const POLAR: &[&str] = &[
    "is", "are", "was", "were", "do", "does", "did", "can", "could", "has", "have", "had", "will", "would", "should",
    "may", "might", "must",
];

/// Words that say nothing by themselves.
const STOP: &str = " the and that this with from what which who whom whose where when why how are was were has have had \
been being does did not for its his her their they them these those there here into onto over under about image shown \
picture photograph photo show shows called name named term known type kind ";

/// Checks a pair.
pub(super) fn check(
    pair: ParsedPair,
    config: &QaConfig,
    kinds: &[QuestionKind],
    grounding: &Grounding,
) -> Result<QaPair, Reason> {
    let (question, answer) = (pair.question.trim(), pair.answer.trim());
    let shown = || format!("{} → {}", excerpt(question, 200), excerpt(answer, 300));
    let reason = |reason: &'static str| Err((reason, shown()));
    if question.is_empty() {
        return reason("empty question");
    }
    if answer.is_empty() {
        return reason("empty answer");
    }
    if question.chars().count() > config.max_question {
        return reason("question is too long");
    }
    if answer.chars().count() > config.max_answer {
        return reason("answer is too long");
    }
    let (asked, answered) = (folded(question), folded(answer));
    // A question from the reply that is the reply's own template.
    if asked.chars().all(|c| !c.is_alphanumeric()) || answered.chars().all(|c| !c.is_alphanumeric()) {
        return reason("no words");
    }
    let mentions = |text: &str| MENTIONS.iter().find(|phrase| text.contains(**phrase));
    if let Some(phrase) = mentions(&asked) {
        return Err(("question mentions its source", format!("`{phrase}`: {}", shown())));
    }
    if let Some(phrase) = mentions(&answered) {
        return Err(("answer mentions its source", format!("`{phrase}`: {}", shown())));
    }
    let kind = match config.prompt {
        QaPrompt::Paper => None,
        QaPrompt::Structured => match pair.kind.as_deref().map(|name| (name, kind_of(name))) {
            Some((_, Some(kind))) if kinds.contains(&kind) => Some(kind),
            Some((name, _)) => {
                return Err(("another kind of question", format!("`{}`: {}", excerpt(name, 40), shown())));
            }
            None => return reason("no kind of question"),
        },
    };
    let first = |text: &str| words(text).next().map(str::to_string).unwrap_or_default();
    let says_yes_or_no = ["yes", "no"].contains(&first(&answered).as_str());
    let may_be_polar = kind == Some(QuestionKind::YesNo);
    let is_polar = POLAR.contains(&first(&asked).as_str());
    if says_yes_or_no && !may_be_polar && is_polar {
        return reason("yes-no question");
    }
    if may_be_polar && !says_yes_or_no {
        return reason("yes-no question without yes or no");
    }
    if word_count(answer) < config.min_answer_words {
        return reason("answer is too short");
    }
    if !may_be_polar && answer_is_in(&asked, &answered) {
        return reason("question contains its answer");
    }
    let evidence = pair.evidence.map(|e| e.trim().to_string()).filter(|e| !e.is_empty());
    if config.evidence && config.prompt == QaPrompt::Structured {
        let Some(evidence) = &evidence else { return reason("no evidence") };
        let is_short = word_count(evidence) < 3 && evidence.chars().filter(|c| c.is_alphanumeric()).count() < 12;
        if is_short {
            return Err(("evidence is too short", format!("`{}`: {}", excerpt(evidence, 100), shown())));
        }
        if !grounding.quotes(evidence) {
            return Err(("evidence is not in caption or text", format!("`{}`: {}", excerpt(evidence, 300), shown())));
        }
    }
    if config.grounded
        && let Some(found) = grounding.first_ungrounded(answer)
    {
        let (reason, what) = match found {
            Ungrounded::Name(name, word) if name == word => ("ungrounded name", name),
            Ungrounded::Name(name, word) => ("ungrounded name", format!("{name} ({word})")),
            Ungrounded::Number(number) => ("ungrounded number", number),
            Ungrounded::Quotation(quotation) => ("ungrounded quotation", quotation),
        };
        return Err((reason, format!("`{}`: {}", excerpt(&what, 200), shown())));
    }
    Ok(QaPair { kind, question: question.to_string(), answer: answer.to_string(), evidence })
}

/// Whether all words of the answer that say something are in the question.
fn answer_is_in(question: &str, answer: &str) -> bool {
    let known: Vec<&str> = words(question).collect();
    let mut said = words(answer).filter(|w| w.chars().count() > 2 && !STOP.contains(&format!(" {w} "))).peekable();
    said.peek().is_some() && said.all(|word| known.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_found() {
        let config = QaConfig { max_question: 80, max_answer: 120, ..QaConfig::default() };
        let kinds = [QuestionKind::Explain, QuestionKind::YesNo];
        let grounding = Grounding::new(["A Fresnel lens in Skagen", "The lens bends light of 20 lamps into one beam."]);
        let pair = |kind: &str, question: &str, answer: &str, evidence: &str| ParsedPair {
            kind: Some(kind.into()).filter(|k: &String| !k.is_empty()),
            question: question.into(),
            answer: answer.into(),
            evidence: Some(evidence.into()),
        };
        let quote = "bends light of 20 lamps";
        let good =
            pair("explain", "Why does this shine far?", "The lens bends the light of 20 lamps in Skagen.", quote);
        assert!(check(good.clone(), &config, &kinds, &grounding).is_ok());
        assert!(
            check(pair("Yes-No", "Is it a lens?", "Yes, it is a Fresnel lens.", quote), &config, &kinds, &grounding)
                .is_ok()
        );
        let long = "x ".repeat(100);
        for (pair, reason) in [
            (pair("explain", "", "a", quote), "empty question"),
            (pair("explain", "a", " ", quote), "empty answer"),
            (pair("explain", &long, "a", quote), "question is too long"),
            (pair("explain", "a", &long, quote), "answer is too long"),
            (pair("explain", "???", "...", quote), "no words"),
            (pair("explain", "What does the caption say?", "It is a lens.", quote), "question mentions its source"),
            (
                pair("explain", "What is it?", "According to the text, it is a lens.", quote),
                "answer mentions its source",
            ),
            (pair("compare", "What is it?", "It is a lens.", quote), "another kind of question"),
            (pair("", "What is it?", "It is a lens.", quote), "no kind of question"),
            (pair("explain", "Is it a lens?", "Yes, it is one.", quote), "yes-no question"),
            (pair("yes-no", "Is it a lens?", "It is a lens.", quote), "yes-no question without yes or no"),
            (pair("explain", "What is it?", "Lens.", quote), "answer is too short"),
            (
                pair("explain", "Is this bright lens shown here?", "This is the bright lens.", quote),
                "question contains its answer",
            ),
            (pair("explain", "What is it?", "It is a lens.", ""), "no evidence"),
            (pair("explain", "What is it?", "It is a lens.", "A"), "evidence is too short"),
            (
                pair("explain", "What is it?", "It is a lens.", "It bends the light"),
                "evidence is not in caption or text",
            ),
            (pair("explain", "What is it?", "It is a lens of Paris.", quote), "ungrounded name"),
            (pair("explain", "What is it?", "It is a lens of 30 lamps.", quote), "ungrounded number"),
            (pair("explain", "What is it?", "It \"bends no light\" here.", quote), "ungrounded quotation"),
        ] {
            assert_eq!(check(pair.clone(), &config, &kinds, &grounding).expect_err(reason).0, reason, "{pair:?}");
        }
        let paper = QaConfig { prompt: QaPrompt::Paper, grounded: false, ..config };
        let free = ParsedPair { kind: None, evidence: None, answer: "It is a lens of Paris.".into(), ..good };
        assert!(check(free, &paper, &[], &grounding).is_ok());
    }
}
