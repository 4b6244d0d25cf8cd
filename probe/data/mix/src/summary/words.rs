//! Counts of words.

/// Counts words: texts between white space. A character of a script without spaces (Chinese, Japanese, Thai) counts as
/// one word, or else a Chinese paragraph would be a short answer.
pub fn count_words(text: &str) -> u32 {
    if text.is_ascii() {
        let mut words = 0;
        let mut before = true;
        for byte in text.bytes() {
            // As `char::is_whitespace` for ASCII.
            let space = matches!(byte, b' ' | b'\t'..=b'\r');
            words += u32::from(before && !space);
            before = space;
        }
        return words;
    }
    let mut words = 0;
    let mut inside = false;
    for c in text.chars() {
        if c.is_whitespace() {
            inside = false;
        } else if is_own_word(c) {
            words += 1;
            inside = false;
        } else if !inside {
            // Full-width punctuation after such a character is no word.
            inside = true;
            words += u32::from(!matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ffef}'));
        }
    }
    words
}

/// Whether words of the character's script are not separated by spaces.
fn is_own_word(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{e00}'..='\u{e7f}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_every_script() {
        for (text, words) in [
            ("", 0),
            (" \n\t", 0),
            ("one", 1),
            (" two  words\n", 2),
            ("a\u{b}b\u{c}c", 3),
            ("größe und café", 3),
            ("猫", 1),
            ("这是一只猫。", 5),
            ("答案是 cup", 4),
            ("\u{a0}x\u{2003}y", 2),
        ] {
            assert_eq!(count_words(text), words, "{text:?}");
        }
    }
}
