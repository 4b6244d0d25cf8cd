//! The authors' parser for questions with lettered choices, without its random draw.

/// Characters that are stripped from both ends, one after the other.
const SIGNS: [char; 7] = [',', '.', '!', '?', ';', ':', '\''];

/// Returns the letter that the answer names last: as `(B)`; if there is none, between spaces; if there is none and the
/// answer has more than five words, by the text of its choice.
pub(super) fn last_named(answer: &str, options: &[String]) -> Option<char> {
    let stripped = SIGNS.iter().fold(answer, |text, sign| text.trim_matches(*sign));
    let text = format!(" {stripped} ");
    let low = text.to_lowercase();
    let letters = || ('A'..='Z').zip(options);
    let last = |place: &dyn Fn(char, &str) -> Option<usize>| {
        let places = letters().filter_map(|(letter, option)| Some((place(letter, option)?, letter)));
        // Of two choices at the same position the first counts.
        places.reduce(|best, found| if found.0 > best.0 { found } else { best }).map(|(_, letter)| letter)
    };
    last(&|letter, _| text.rfind(&format!("({letter})")))
        .or_else(|| last(&|letter, _| text.rfind(&format!(" {letter} "))))
        .or_else(|| {
            let long = text.split_whitespace().count() > 5;
            last(&|_, option| low.rfind(&option.to_lowercase()).filter(|_| long))
        })
}
