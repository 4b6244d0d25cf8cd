//! Overlap of an answer with a reference: of their content words, and ROUGE-L.

use burgess_base::answer_text::is_unspaced;
use std::collections::BTreeMap;

/// Precision, recall and their harmonic mean, each 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overlap {
    /// Fraction of the answer that is in the reference.
    pub precision: f64,
    /// Fraction of the reference that is in the answer.
    pub recall: f64,
    /// Harmonic mean of both; 0 if both are.
    pub f1: f64,
}

impl Overlap {
    /// Computes the shares of `common` in an answer of length `answer` and a reference of length `reference`.
    fn of(common: usize, answer: usize, reference: usize) -> Self {
        if common == 0 {
            return Self::default();
        }
        let (precision, recall) = (common as f64 / answer as f64, common as f64 / reference as f64);
        Self { precision, recall, f1: 2.0 * precision * recall / (precision + recall) }
    }
}

/// Function words of English, which carry no information about an image. Negations are not among them.
#[rustfmt::skip]
const FUNCTION_WORDS: [&str; 97] = [
    "a", "about", "also", "am", "an", "and", "are", "as", "at", "be", "because", "been", "being", "but", "by", "can",
    "could", "did", "do", "does", "doing", "for", "from", "had", "has", "have", "having", "he", "her", "here", "hers",
    "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "itself", "may", "me", "might", "must", "my",
    "of", "on", "or", "our", "ours", "s", "shall", "she", "should", "so", "some", "such", "t", "than", "that", "the",
    "their", "theirs", "them", "then", "there", "these", "they", "this", "those", "to", "too", "us", "very", "was",
    "we", "were", "what", "when", "where", "which", "while", "who", "whom", "whose", "why", "will", "with", "would",
    "you", "your", "yours", "ve", "re", "ll",
];

/// Number words that count as digits, as in the normalisation of VQA.
const NUMBERS: [&str; 11] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// A text as the multiset of its content words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContentWords {
    counts: BTreeMap<String, usize>,
    total: usize,
}

impl ContentWords {
    /// Splits a text into its words (runs of letters and digits in lower case; every letter of a script without spaces
    /// is a word), writes `zero` to `ten` as digits, and leaves out function words; all words are kept if nothing else
    /// is there.
    pub fn of(text: &str) -> Self {
        let all = words(text);
        let content: Vec<String> = all.iter().filter(|w| !FUNCTION_WORDS.contains(&w.as_str())).cloned().collect();
        let mut counted = Self::default();
        for word in if content.is_empty() { all } else { content } {
            let digits = NUMBERS.iter().position(|n| *n == word).map(|n| n.to_string());
            *counted.counts.entry(digits.unwrap_or(word)).or_default() += 1;
            counted.total += 1;
        }
        counted
    }

    /// Returns the overlap of this text, an answer, with a reference. A word counts as often as it stands in both.
    pub fn overlap(&self, reference: &Self) -> Overlap {
        let in_both = |(word, n): (&String, &usize)| reference.counts.get(word).map_or(0, |m| *n.min(m));
        Overlap::of(self.counts.iter().map(in_both).sum(), self.total, reference.total)
    }
}

/// Returns the words of a text: runs of letters and digits in lower case, and single letters of scripts without spaces.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let lower = text.to_lowercase();
    for c in lower.chars() {
        let unspaced = is_unspaced(c);
        if (unspaced || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if unspaced {
            words.push(c.to_string());
        } else if c.is_alphanumeric() {
            word.push(c);
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
    words
}

/// Computes ROUGE-L of an answer against a reference: the longest common subsequence of their words, as by
/// `RougeScorer(["rougeL"], use_stemmer=False)` of the Python package rouge-score 0.1.2. Words are runs of ASCII
/// letters and digits in lower case.
pub fn rouge_l(answer: &str, reference: &str) -> Overlap {
    let (answer, reference) = (answer.to_lowercase(), reference.to_lowercase());
    let split = |text: &'_ str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).map(String::from).collect()
    };
    let (answer, reference) = (split(&answer), split(&reference));
    Overlap::of(longest_common_subsequence(&answer, &reference), answer.len(), reference.len())
}

/// Returns the length of the longest common subsequence, in memory linear in the second sequence.
fn longest_common_subsequence<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let mut row = vec![0_usize; b.len()];
    for x in a {
        let (mut diagonal, mut left) = (0, 0);
        for (y, above) in b.iter().zip(row.iter_mut()) {
            let best = if x == y { diagonal + 1 } else { left.max(*above) };
            (diagonal, left) = (*above, best);
            *above = best;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f1(answer: &str, reference: &str) -> f64 {
        ContentWords::of(answer).overlap(&ContentWords::of(reference)).f1
    }

    #[test]
    fn content_words_decide() {
        let reference = "The image shows two dogs on a red sofa.";
        assert_eq!(f1(reference, reference), 1.0);
        assert_eq!(f1("THE IMAGE SHOWS 2 DOGS, on a red sofa", reference), 1.0);
        // image, shows, 2, dogs, red, sofa: one of one word, one of six.
        assert_eq!(f1("dogs", reference), 2.0 / 7.0);
        assert_eq!(f1("It is on the.", reference), 0.0);
        assert_eq!(f1("", reference), 0.0);
        assert_eq!(f1("a cat", ""), 0.0);
        // A repeated word counts once: precision 1/4, recall 1/6.
        assert_eq!(f1("dogs dogs dogs dogs", reference), 0.2);
        // References of function words alone, and scripts without spaces.
        assert_eq!(f1("It is.", "it is"), 1.0);
        assert_eq!(f1("红色的车", "红色的猫"), 0.75);
        assert!(f1("no dogs", "dogs") < 1.0, "negations are content");
    }
}
