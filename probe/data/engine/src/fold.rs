//! Folding of texts for comparisons: case, diacritics, quotation marks, dashes and white space.

/// Letters with diacritics or ligatures, and what they are folded to.
const LETTERS: &[(&str, &str)] = &[
    ("àáâãäåāăąǎǻ", "a"),
    ("çćĉċč", "c"),
    ("ďđð", "d"),
    ("èéêëēĕėęěẽ", "e"),
    ("ĝğġģ", "g"),
    ("ĥħ", "h"),
    ("ìíîïĩīĭįı", "i"),
    ("ĵ", "j"),
    ("ķ", "k"),
    ("ĺļľŀł", "l"),
    ("ñńņňŋ", "n"),
    ("òóôõöøōŏőǒ", "o"),
    ("ŕŗř", "r"),
    ("śŝşšș", "s"),
    ("ţťŧț", "t"),
    ("ùúûüũūŭůűųǔ", "u"),
    ("ŵ", "w"),
    ("ýÿŷ", "y"),
    ("źżž", "z"),
    ("æǽ", "ae"),
    ("œ", "oe"),
    ("ß", "ss"),
    ("þ", "th"),
    ("‘’‚‛′`´", "'"),
    ("“”„‟″«»", "\""),
    ("‐‑‒–—―−", "-"),
    ("…", "..."),
    ("µ", "μ"),
];

/// Folds a text: lower case, no diacritics, plain quotation marks and dashes, one space between words, none at the
/// ends.
///
/// ```
/// assert_eq!(burgess_engine::fold::folded("  The “Café” –\nØrsted "), "the \"cafe\" - orsted");
/// ```
pub fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            // Combining marks, soft hyphens, zero-width characters.
            '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => {}
            c if c.is_whitespace() => {
                if !out.is_empty() && !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c if c.is_ascii() => out.push(c),
            c => match LETTERS.iter().find(|(from, _)| from.contains(c)) {
                Some((_, to)) => out.push_str(to),
                None => out.push(c),
            },
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The words of a folded text: runs of letters and digits, with apostrophes and hyphens inside them.
pub fn words(folded: &str) -> impl Iterator<Item = &str> {
    let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '-');
    folded.split(move |c| !is_inner(c)).map(|word| word.trim_matches(['\'', '-'])).filter(|word| !word.is_empty())
}

/// Counts words as white space separates them.
pub fn word_count(text: &str) -> usize {
    text.split_whitespace().count()
}
