//! Labels of choices: A to Z, then AA, AB and so on.

/// Maximum number of choices that can be labelled: A to Z, then AA to ZZ.
pub const MOST_CHOICES: usize = 26 + 26 * 26;

/// Returns the label of choice number `index`, from 0: `A` to `Z`, then `AA`, `AB` and so on, like spreadsheet columns.
pub fn choice_label(index: usize) -> String {
    let letter = |i: usize| char::from(b'A' + u8::try_from(i % 26).unwrap_or_default());
    match index / 26 {
        0 => letter(index).to_string(),
        tens => choice_label(tens - 1) + &letter(index).to_string(),
    }
}

/// Returns the number, from 0, of the choice that an expected answer gives by its label: `B`, `b`, `(B)`, or `AA` and
/// so on.
pub fn choice_index(answer: &str) -> Option<usize> {
    match without_parentheses(answer).as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(usize::from(letter.to_ascii_uppercase() - b'A')),
        [tens, letter] if tens.is_ascii_uppercase() && letter.is_ascii_uppercase() => {
            Some(26 * usize::from(tens - b'A' + 1) + usize::from(letter - b'A'))
        }
        _ => None,
    }
}

/// Returns the letter, in upper case, that an expected answer gives: `B`, `b`, `(B)` or `(b)`.
pub fn choice_letter(answer: &str) -> Option<char> {
    let mut chars = without_parentheses(answer).chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if c.is_ascii_alphabetic() => Some(c.to_ascii_uppercase()),
        _ => None,
    }
}

fn without_parentheses(answer: &str) -> &str {
    answer.strip_prefix('(').and_then(|a| a.strip_suffix(')')).unwrap_or(answer)
}
