//! How an answer is written, apart from whether it is right: its length in words, one-word answers, refusals and loops;
//! and what a question asks for: an explanation, or a short answer in a stated form.
//!
//! All rules read text alone, are the same for every benchmark, and are stated in the documentation of each function.
//! Their word lists are English; other languages are only measured by length and loops.

use crate::response_format;
use std::borrow::Cow;

/// Returns the text of an answer without its reasoning (`<think>…</think>` and similar, see [`crate::reasoning`]);
/// the whole text if it ends inside its reasoning.
pub fn without_reasoning(answer: &str) -> Cow<'_, str> {
    let split = crate::reasoning::split(answer);
    if split.unfinished { Cow::Borrowed(answer) } else { split.answer }
}

/// Returns the number of words: parts between white space that hold a letter or digit, and every letter of scripts that
/// are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese).
///
/// ```
/// use burgess_base::answer_text::word_count;
/// assert_eq!([word_count("A red car, isn't it?"), word_count(" - "), word_count("3.5%"), word_count("红色的车")], [5, 0, 1, 4]);
/// ```
pub fn word_count(text: &str) -> usize {
    let of = |part: &str| {
        let unspaced = part.chars().filter(|c| is_unspaced(*c)).count();
        let spaced = part.chars().any(|c| c.is_alphanumeric() && !is_unspaced(c));
        unspaced + usize::from(spaced)
    };
    text.split_whitespace().map(of).sum()
}

/// Returns whether the letter belongs to a script that is written without spaces between words.
pub fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF // Thai and Lao, Burmese, Khmer
        | 0x3040..=0x30FF | 0x31F0..=0x31FF // kana
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x2_0000..=0x3_134F // ideographs
    ) && c.is_alphanumeric()
}

/// Words with which a request for an explanation or a longer text begins.
const REQUESTS: [&str; 24] = [
    "analyse",
    "analyze",
    "compare",
    "comment",
    "compose",
    "describe",
    "discuss",
    "elaborate",
    "evaluate",
    "explain",
    "give",
    "illustrate",
    "imagine",
    "interpret",
    "justify",
    "narrate",
    "outline",
    "provide",
    "suggest",
    "summarise",
    "summarize",
    "tell",
    "walk",
    "write",
];

/// Words that may stand before the first word of a request.
const POLITE: [&str; 14] = [
    "please",
    "can",
    "could",
    "would",
    "will",
    "you",
    "briefly",
    "kindly",
    "now",
    "then",
    "first",
    "also",
    "and",
    "carefully",
];

/// Words after `how` that ask for a quantity.
const MEASURES: [&str; 24] = [
    "big", "close", "cold", "deep", "far", "fast", "few", "heavy", "high", "hot", "large", "late", "likely", "long",
    "many", "much", "often", "old", "small", "soon", "tall", "thick", "warm", "wide",
];

/// Phrases that ask for more than a word or a name.
const PHRASES: [&str; 20] = [
    "about this image",
    "about this photo",
    "about this picture",
    "be inferred",
    "do you think",
    "going on",
    "happening",
    "image about",
    "in detail",
    "photo about",
    "picture about",
    "reason",
    "what can you",
    "what challenges",
    "what could",
    "what do you see",
    "what does it mean",
    "what factors",
    "what might",
    "what would",
];

/// Returns whether the wording of an open question asks for an explanation or a description, and not for a word, a name
/// or a number.
///
/// That is so if one of its sentences begins with a request ("Describe …", "Can you explain …", "Write …";
/// `give`, `provide` and `tell` count too), if it holds the word `why`, or `how` without a measure after it ("How does
/// …", but not "How many …"), or one of these phrases: what might, what could, what would, what factors, what
/// challenges, what can you, what do you see, do you think, what does it mean, going on, happening, reason, be
/// inferred, in detail, (image, photo, picture) about, about this (image, photo, picture). A question with choices or
/// with the answer yes or no asks for no explanation, whatever its wording; the caller knows that.
///
/// ```
/// use burgess_base::answer_text::asks_for_explanation as asks;
/// assert!(asks("Why is the man smiling?") && asks("Can you describe this image?") && asks("How does it work?"));
/// assert!(!asks("How many dogs are there?") && !asks("What color is the bus?"));
/// ```
pub fn asks_for_explanation(question: &str) -> bool {
    let text = plain(question);
    let sentences = text.split(['.', '?', '!', ';', ':', ',', '\n']);
    let begins = |sentence: &str| {
        let first = words(sentence).find(|word| !POLITE.contains(word));
        first.is_some_and(|word| REQUESTS.contains(&word))
    };
    if sentences.into_iter().any(begins) {
        return true;
    }
    let all: Vec<&str> = words(&text).collect();
    let how = |pair: &[&str]| matches!(pair, ["how", next] if !MEASURES.contains(next));
    if all.contains(&"why") || all.windows(2).any(how) {
        return true;
    }
    let joined = format!(" {} ", all.join(" "));
    // `reason` also stands for `reasons`, so only the beginning of a phrase is that of a word.
    PHRASES.iter().any(|phrase| joined.contains(&format!(" {phrase}")))
}

/// Phrases of refusals, in plain form.
const REFUSALS: [&str; 28] = [
    "as a language model",
    "as an ai",
    "cannot answer",
    "cannot assist",
    "cannot help with",
    "can't answer",
    "can't assist",
    "can't help with",
    "i am not able",
    "i am sorry",
    "i am unable",
    "i apologise",
    "i apologize",
    "i can not",
    "i cannot",
    "i can't",
    "i do not have access",
    "i do not know",
    "i don't have access",
    "i don't know",
    "i'm not able",
    "i'm not sure",
    "i'm sorry",
    "i'm unable",
    "it is impossible to",
    "it is not possible to",
    "not enough information",
    "unable to answer",
];

/// Number of characters at the beginning of an answer in which a refusal is looked for.
const REFUSAL_HEAD: usize = 200;

/// Returns whether an answer refuses: whether its first 200 characters hold a phrase such as "I cannot", "I'm sorry",
/// "I don't know", "as an AI" or "it is not possible to". "I can't help but …" is no refusal. "Unanswerable" is none
/// either, because some prompts offer it as an answer.
pub fn is_refusal(answer: &str) -> bool {
    let head: String = answer.trim_start().chars().take(REFUSAL_HEAD).collect();
    let text = plain(&head).replace("can't help but", "").replace("cannot help but", "");
    let joined = format!(" {} ", words(&text).collect::<Vec<_>>().join(" "));
    REFUSALS.iter().any(|phrase| joined.contains(&format!(" {phrase} ")))
}

/// Longest group of words or letters whose repetition is a loop.
const LONGEST_GROUP: usize = 16;

/// Returns whether an answer repeats itself: a group of one to three words stands at least four times in a row, one of
/// four to sixteen words at least three times, or a group of up to sixteen letters at least eight times in a row inside
/// a word of more than sixteen letters. Case and punctuation are ignored.
///
/// ```
/// use burgess_base::answer_text::has_loop;
/// assert!(has_loop("a dog and a cat and a cat and a cat and a cat") && has_loop("ahahahahahahahahahahaha"));
/// assert!(!has_loop("a very, very good dog") && !has_loop("the cat sat on the mat and the cat sat on the mat"));
/// ```
pub fn has_loop(answer: &str) -> bool {
    let text = plain(answer);
    let all: Vec<&str> = words(&text).collect();
    let enough = |group: usize| if group <= 3 { 4 } else { 3 };
    if repeats(&all, enough) {
        return true;
    }
    let long = all.iter().filter(|word| word.len() > LONGEST_GROUP);
    long.into_iter().any(|word| {
        let letters: Vec<char> = word.chars().collect();
        letters.len() > LONGEST_GROUP && repeats(&letters, |_| 8)
    })
}

/// Returns whether a group of up to [`LONGEST_GROUP`] items stands at least `enough(size)` times in a row.
fn repeats<T: PartialEq>(items: &[T], enough: impl Fn(usize) -> usize) -> bool {
    (1..=LONGEST_GROUP).any(|group| {
        let needed = group * (enough(group) - 1);
        let mut equal = 0;
        items.iter().zip(items.iter().skip(group)).any(|(a, b)| {
            equal = if a == b { equal + 1 } else { 0 };
            equal >= needed
        })
    })
}

/// Returns whether the prompt of a question says that the answer shall be short, see [`response_format`].
pub fn asks_for_short_answer(prompt: &str) -> bool {
    response_format::of_prompt(prompt).is_some_and(|format| format.short)
}

/// Returns the text in lower case with straight apostrophes.
fn plain(text: &str) -> String {
    text.to_lowercase().replace(['\u{2019}', '\u{2018}', '\u{02bc}'], "'")
}

/// Returns the runs of letters, digits and apostrophes inside words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let word = text.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    word.map(|word| word.trim_matches('\'')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_asked_for_by_wording() {
        for question in [
            "Describe the following image.",
            "Analyze the image in a comprehensive and detailed manner.",
            "Can you elaborate on the elements of the picture provided?",
            "What's happening in the scene?",
            "What is this photo about'?",
            "What could be a reason for the cat's interest in the laptop?",
            "Imagine you are walking down this street; how would you know the time?",
            "WHY might these giraffes be gathering?",
            "In the picture, how does the machine work?",
            "There is a sign. Please explain it briefly.",
            "What might have happened prior to this moment?",
            "What can be inferred about the traffic situation in the area?",
            "Look at the chart and then describe the trend, please: describe it.",
        ] {
            assert!(asks_for_explanation(question), "{question}");
        }
        for question in [
            "What is the color of the two suitcases in the image?",
            "How many pizzas are there in the image?",
            "How often does it rain?",
            "What is this?",
            "Which bar is the largest?",
            "Where is the cart with luggage bags located?",
            "What word is on the sign?",
            "What covers its body?",
            "Is the person riding a motorbike or scooter?",
            "Who wrote this?",
            "",
        ] {
            assert!(!asks_for_explanation(question), "{question}");
        }
    }

    #[test]
    fn refusals_are_found_at_the_beginning_and_as_words() {
        for answer in [
            "I'm sorry, but I can't assist with that.",
            "I’m unable to see the image.",
            "As an AI, I see no picture.",
            "Unfortunately it is not possible to say.",
            "  I do not know.",
        ] {
            assert!(is_refusal(answer), "{answer}");
        }
        let late = format!("{} I cannot say more.", "A dog sits there. ".repeat(20));
        for answer in
            ["Hawaii cannot be seen.", "I can't help but notice a dog.", "unanswerable", "No.", "", late.as_str()]
        {
            assert!(!is_refusal(answer), "{answer}");
        }
    }

    #[test]
    fn loops_are_repetitions_in_a_row() {
        for answer in [
            "no no no no",
            "The man is here. The man is here. The man is here.",
            "red, blue, red, blue, red, blue, red, blue",
            "猫在这里猫在这里猫在这里猫在这里猫在这里猫在这里猫在这里猫在这里猫在这里",
            "x1111111111111111111111",
        ] {
            assert!(has_loop(answer), "{answer}");
        }
        for answer in ["", "dog", "1000000000", "no no no", "a b a b a b", "The man is here. The man is here."] {
            assert!(!has_loop(answer), "{answer}");
        }
        // Long texts are measured in linear time.
        assert!(!has_loop(&(0..200_000).map(|i: u64| format!("{} ", i * i)).collect::<String>()));
    }

    #[test]
    fn words_of_other_scripts_and_of_signs_are_counted() {
        assert_eq!(word_count("ein Haus — groß"), 3);
        assert_eq!(word_count("これは犬です"), 6);
        assert_eq!(word_count("... ✓"), 0);
        assert_eq!(without_reasoning("<think>a long thought</think>cat"), "cat");
        assert_eq!(without_reasoning("<think>a long"), "<think>a long");
    }
}
