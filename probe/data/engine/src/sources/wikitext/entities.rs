//! Character references: `&nbsp;`, `&#233;`.

/// The references that articles use.
const NAMED: [(&str, char); 46] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("ensp", '\u{2002}'),
    ("emsp", '\u{2003}'),
    ("thinsp", '\u{2009}'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("minus", '−'),
    ("hellip", '…'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("laquo", '«'),
    ("raquo", '»'),
    ("deg", '°'),
    ("prime", '′'),
    ("Prime", '″'),
    ("times", '×'),
    ("divide", '÷'),
    ("plusmn", '±'),
    ("frac12", '½'),
    ("frac14", '¼'),
    ("frac34", '¾'),
    ("sup2", '²'),
    ("sup3", '³'),
    ("micro", 'µ'),
    ("middot", '·'),
    ("bull", '•'),
    ("sect", '§'),
    ("para", '¶'),
    ("copy", '©'),
    ("reg", '®'),
    ("trade", '™'),
    ("euro", '€'),
    ("pound", '£'),
    ("cent", '¢'),
    ("rarr", '→'),
    ("larr", '←'),
    ("shy", '\u{ad}'),
    ("zwj", '\u{200d}'),
    ("zwnj", '\u{200c}'),
];

/// Decodes the character references of a text; what is none stays.
pub(super) fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        // The longest reference has about ten characters.
        let end = after.bytes().take(12).position(|b| b == b';');
        let found = end.and_then(|end| Some((character(after.get(1..end)?)?, end)));
        match found {
            Some((c, end)) => {
                out.push(c);
                rest = after.get(end + 1..).unwrap_or_default();
            }
            None => {
                out.push('&');
                rest = after.get(1..).unwrap_or_default();
            }
        }
    }
    out + rest
}

fn character(name: &str) -> Option<char> {
    let number = name.strip_prefix('#');
    let code = number.map(|number| match number.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => number.parse().ok(),
    });
    match code {
        Some(code) => code.and_then(char::from_u32).filter(|c| *c != '\0'),
        None => NAMED.iter().find(|(known, _)| *known == name).map(|(_, c)| *c),
    }
}

/// Writes characters with a meaning as references, so that they stand for themselves.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '[' | ']' | '{' | '}' | '|' | '\'' | '=' | '*' | '#' | ':' | ';' | '<' | '_' => {
                out.push_str(&format!("&#{};", u32::from(c)));
            }
            '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
