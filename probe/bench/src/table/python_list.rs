//! Lists as Python prints them.

/// Parses a list as Python prints it, such as `['a', "it's", 'x\n', 3]`; numbers are returned as written. `None` if
/// the text is anything else, such as a nested list, `None`, `True` or a NumPy array without commas.
pub fn python_list(text: &str) -> Option<Vec<String>> {
    let mut chars = text.trim().strip_prefix('[')?.strip_suffix(']')?.chars().peekable();
    let mut items = Vec::new();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.next() {
            None => return Some(items),
            Some(quote @ ('\'' | '"')) => items.push(quoted(&mut chars, quote)?),
            Some(first) => {
                let mut bare = String::from(first);
                while let Some(c) = chars.next_if(|c| *c != ',') {
                    bare.push(c);
                }
                let bare = bare.trim().to_string();
                bare.parse::<f64>().ok()?;
                items.push(bare);
            }
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.next() {
            None => return Some(items),
            Some(',') => {}
            // Adjacent texts without a comma, as in printed NumPy arrays, or other text.
            Some(_) => return None,
        }
    }
}

/// Reads a string up to its closing `quote` and resolves escapes; `None` if it does not end or an escape is invalid.
fn quoted(chars: &mut impl Iterator<Item = char>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                kind @ ('x' | 'u' | 'U') => {
                    let digits = match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let code: String = chars.by_ref().take(digits).collect();
                    text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                }
                other @ ('\\' | '\'' | '"') => text.push(other),
                other => text.extend(['\\', other]),
            },
            c => text.push(c),
        }
    }
}
