//! Values as Python and JSON write them, as far as answers and annotations of OCRBench v2 use them.

use crate::lmms::trimmed;
use serde_json::Value;

/// A value that was written as a Python literal or as JSON.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    None,
    Bool(bool),
    /// A whole number, in decimal digits.
    Int(String),
    Float(f64),
    Text(String),
    List(Vec<Literal>),
    Tuple(Vec<Literal>),
    Set(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

/// Maximum depth of nested values.
const DEEPEST: usize = 60;

/// Parses JSON.
pub(super) fn json(text: &str) -> Option<Literal> {
    serde_json::from_str(text).ok().map(of_json)
}

fn of_json(value: Value) -> Literal {
    match value {
        Value::Null => Literal::None,
        Value::Bool(b) => Literal::Bool(b),
        Value::Number(n) if n.is_f64() => Literal::Float(n.as_f64().unwrap_or(f64::NAN)),
        Value::Number(n) => Literal::Int(n.to_string()),
        Value::String(s) => Literal::Text(s),
        Value::Array(items) => Literal::List(items.into_iter().map(of_json).collect()),
        Value::Object(map) => Literal::Dict(map.into_iter().map(|(k, v)| (Literal::Text(k), of_json(v))).collect()),
    }
}

/// Parses a Python literal as `ast.literal_eval` does; complex numbers, bytes and calls are not supported.
pub(super) fn python(text: &str) -> Option<Literal> {
    let text = text.trim_start_matches([' ', '\t']);
    if text.contains('\0') {
        return None;
    }
    let mut parser = Parser { chars: text.chars().collect(), at: 0, open: 0 };
    parser.lines();
    let value = parser.tuple_or_value(0)?;
    parser.spaces();
    parser.lines();
    (parser.at == parser.chars.len()).then_some(value)
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    /// Number of open brackets, inside which line breaks are white space.
    open: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    /// Skips white space and comments; line breaks only inside brackets.
    fn spaces(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\u{c}' => self.at += 1,
                '\n' | '\r' if self.open > 0 => self.at += 1,
                '\\' if self.chars.get(self.at + 1) == Some(&'\n') => self.at += 2,
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
    }

    /// Skips blank lines.
    fn lines(&mut self) {
        while matches!(self.peek(), Some('\n' | '\r')) {
            self.at += 1;
            self.spaces();
        }
    }

    /// Parses a value, or several values that are separated by commas, which are a tuple.
    fn tuple_or_value(&mut self, depth: usize) -> Option<Literal> {
        let first = self.value(depth)?;
        self.spaces();
        if self.peek() != Some(',') {
            return Some(first);
        }
        let mut items = vec![first];
        while self.take(',') {
            self.spaces();
            if matches!(self.peek(), None | Some(')' | '\n')) {
                break;
            }
            items.push(self.value(depth)?);
            self.spaces();
        }
        Some(Literal::Tuple(items))
    }

    /// Parses values up to the closing bracket, which may follow a comma.
    fn items(&mut self, close: char, depth: usize) -> Option<Vec<Literal>> {
        let mut items = Vec::new();
        loop {
            self.spaces();
            if self.take(close) {
                self.open -= 1;
                return Some(items);
            }
            items.push(self.value(depth)?);
            self.spaces();
            if !self.take(',') && self.peek() != Some(close) {
                return None;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Literal> {
        if depth > DEEPEST {
            return None;
        }
        self.spaces();
        match self.peek()? {
            '[' => {
                self.at += 1;
                self.open += 1;
                Some(Literal::List(self.items(']', depth + 1)?))
            }
            '(' => {
                self.at += 1;
                self.open += 1;
                self.spaces();
                let inner =
                    if self.peek() == Some(')') { Literal::Tuple(Vec::new()) } else { self.tuple_or_value(depth + 1)? };
                self.spaces();
                self.open -= 1;
                self.take(')').then_some(inner)
            }
            '{' => {
                self.at += 1;
                self.open += 1;
                self.braces(depth + 1)
            }
            '\'' | '"' => self.texts(),
            sign @ ('-' | '+') => {
                self.at += 1;
                self.spaces();
                let negative = sign == '-';
                match self.number()? {
                    Literal::Int(n) if negative && n != "0" => Some(Literal::Int(format!("-{n}"))),
                    Literal::Float(f) if negative => Some(Literal::Float(-f)),
                    number => Some(number),
                }
            }
            c if c.is_ascii_digit() || c == '.' => self.number(),
            c if c.is_alphabetic() || c == '_' => self.named(),
            _ => None,
        }
    }

    fn braces(&mut self, depth: usize) -> Option<Literal> {
        let (mut pairs, mut items) = (Vec::new(), Vec::new());
        loop {
            self.spaces();
            if self.take('}') {
                self.open -= 1;
                return Some(if items.is_empty() { Literal::Dict(pairs) } else { Literal::Set(items) });
            }
            let key = self.value(depth)?;
            // Lists, sets and dictionaries cannot be keys.
            if matches!(key, Literal::List(_) | Literal::Set(_) | Literal::Dict(_)) {
                return None;
            }
            self.spaces();
            match self.take(':') {
                true if items.is_empty() => {
                    let value = self.value(depth)?;
                    match pairs.iter_mut().find(|(known, _): &&mut (Literal, Literal)| known.is_same_key(&key)) {
                        Some((_, known)) => *known = value,
                        None => pairs.push((key, value)),
                    }
                }
                false if pairs.is_empty() => items.push(key),
                _ => return None,
            }
            self.spaces();
            if !self.take(',') && self.peek() != Some('}') {
                return None;
            }
        }
    }

    fn named(&mut self) -> Option<Literal> {
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.at += 1;
        }
        let name: String = self.chars.get(from..self.at)?.iter().collect();
        match name.as_str() {
            "None" => Some(Literal::None),
            "True" => Some(Literal::Bool(true)),
            "False" => Some(Literal::Bool(false)),
            "r" | "R" | "u" | "U" if matches!(self.peek(), Some('\'' | '"')) => {
                self.at = from;
                self.texts()
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Literal> {
        let from = self.at;
        let radix = match (self.peek(), self.chars.get(from + 1).map(char::to_ascii_lowercase)) {
            (Some('0'), Some('x')) => 16,
            (Some('0'), Some('o')) => 8,
            (Some('0'), Some('b')) => 2,
            _ => 10,
        };
        if radix != 10 {
            self.at += 2;
            let digits = self.digits(radix)?;
            return self.ends().then_some(Literal::Int(i128::from_str_radix(&digits, radix).ok()?.to_string()));
        }
        let whole = self.digits(10).unwrap_or_default();
        let mut float = false;
        let mut text = whole.clone();
        if self.take('.') {
            float = true;
            let after = self.digits(10).unwrap_or_default();
            if whole.is_empty() && after.is_empty() {
                return None;
            }
            text = format!("{whole}.{after}");
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.at += 1;
            float = true;
            let sign = if self.take('-') { "-" } else { "" };
            if sign.is_empty() {
                self.take('+');
            }
            text = format!("{text}e{sign}{}", self.digits(10)?);
        }
        if !self.ends() || text.is_empty() {
            return None;
        }
        if float {
            return text.trim_end_matches('.').parse().ok().map(Literal::Float);
        }
        // A number that begins with 0 must be 0.
        let bare = whole.trim_start_matches('0');
        match (bare.is_empty(), bare.len() == whole.len()) {
            (true, _) => Some(Literal::Int("0".into())),
            (false, true) => Some(Literal::Int(whole)),
            (false, false) => None,
        }
    }

    /// Returns whether a number may end here.
    fn ends(&self) -> bool {
        !self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
    }

    /// Reads digits, with single underscores between them.
    fn digits(&mut self, radix: u32) -> Option<String> {
        let mut digits = String::new();
        loop {
            match self.peek() {
                Some(c) if c.is_digit(radix) => {
                    digits.push(c);
                    self.at += 1;
                }
                Some('_') if self.chars.get(self.at + 1).is_some_and(|c| c.is_digit(radix)) => self.at += 1,
                _ => return (!digits.is_empty()).then_some(digits),
            }
        }
    }

    /// Parses one or more adjacent strings.
    fn texts(&mut self) -> Option<Literal> {
        let mut text = String::new();
        loop {
            let raw = matches!(self.peek(), Some('r' | 'R'));
            if matches!(self.peek(), Some('r' | 'R' | 'u' | 'U')) {
                self.at += 1;
            }
            self.one_text(raw, &mut text)?;
            self.spaces();
            let prefixed = matches!(self.peek(), Some('r' | 'R' | 'u' | 'U'));
            let after = if prefixed { self.chars.get(self.at + 1).copied() } else { self.peek() };
            if !matches!(after, Some('\'' | '"')) {
                return Some(Literal::Text(text));
            }
        }
    }

    fn one_text(&mut self, raw: bool, text: &mut String) -> Option<()> {
        let quote = self.next().filter(|c| matches!(c, '\'' | '"'))?;
        let long = self.starts(&String::from_iter([quote; 2]));
        let end: String = if long { [quote; 3].iter().collect() } else { quote.to_string() };
        if long {
            self.at += 2;
        }
        loop {
            if self.starts(&end) {
                self.at += end.len();
                return Some(());
            }
            match self.next()? {
                '\n' if !long => return None,
                '\\' if raw => {
                    text.push('\\');
                    text.push(self.next()?);
                }
                '\\' => self.escape(text)?,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let c = self.next()?;
        let plain = match c {
            '\n' => return Some(()),
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '\'' | '"' => c,
            'x' => self.code(2)?,
            'u' => self.code(4)?,
            'U' => self.code(8)?,
            'N' => return None,
            '0'..='7' => {
                let mut code = c.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.at += 1;
                }
                char::from_u32(code)?
            }
            other => {
                text.push('\\');
                other
            }
        };
        text.push(plain);
        Some(())
    }

    fn code(&mut self, length: usize) -> Option<char> {
        let digits: String = self.chars.get(self.at..self.at + length)?.iter().collect();
        self.at += length;
        let code = u32::from_str_radix(&digits, 16).ok()?;
        Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

impl Literal {
    /// Returns the items of a list or tuple.
    pub(super) fn items(&self) -> Option<&[Literal]> {
        match self {
            Self::List(items) | Self::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Returns whether the two are the same key of a dictionary: numbers and truth values are if they are equal.
    fn is_same_key(&self, other: &Self) -> bool {
        let number = |value: &Self| match value {
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::Int(digits) => digits.parse().ok(),
            Self::Float(value) => Some(*value),
            _ => None,
        };
        self == other || number(self).zip(number(other)).is_some_and(|(a, b)| a == b)
    }

    /// Returns the text that Python's `str` gives.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => other.repr(),
        }
    }

    /// Returns the text that Python's `repr` gives.
    fn repr(&self) -> String {
        let joined = |items: &[Literal]| items.iter().map(Literal::repr).collect::<Vec<_>>().join(", ");
        match self {
            Self::None => "None".into(),
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Int(digits) => digits.clone(),
            Self::Float(value) => float(*value),
            Self::Text(text) => quoted(text),
            Self::List(items) => format!("[{}]", joined(items)),
            Self::Tuple(items) if items.len() == 1 => format!("({},)", joined(items)),
            Self::Tuple(items) => format!("({})", joined(items)),
            Self::Set(items) => format!("{{{}}}", joined(items)),
            Self::Dict(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{}: {}", k.repr(), v.repr())).collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }

    /// Returns the whole number that Python's `int` gives.
    pub(super) fn int(&self) -> Option<i64> {
        match self {
            Self::Bool(b) => Some(i64::from(*b)),
            Self::Int(digits) => digits.parse().ok(),
            Self::Float(value) => value.is_finite().then(|| value.trunc() as i64),
            Self::Text(text) => int(text),
            _ => None,
        }
    }
}

/// Parses a whole number as Python's `int` does.
pub(super) fn int(text: &str) -> Option<i64> {
    crate::lmms::integer(trimmed(text)).filter(|n| n.abs() < 9e15).map(|n| n as i64)
}

/// Formats a number as Python does: with an exponent below 1e-4 and from 1e16.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(e) if value != 0.0 && !(-4..16).contains(&e) => {
            format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
        }
        _ => format!("{value:?}"),
    }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_those_of_python() {
        for (text, shown) in [
            ("{'a': 1, \"b\": [1.0, -2e3, True, None]}", "{'a': 1, 'b': [1.0, -2000.0, True, None]}"),
            ("(1,)", "(1,)"),
            ("1, 2", "(1, 2)"),
            ("[0x64, 1_000]", "[100, 1000]"),
            ("'a' \"b'\"", "ab'"),
            ("[r'\\n', 'x\\x41\\n']", "['\\\\n', 'xA\\n']"),
            ("[1, # one\n 2]", "[1, 2]"),
            ("''", ""),
            ("'''it's'''", "it's"),
            ("[1e16, 1e-5, 0.0001, 1e15]", "[1e+16, 1e-05, 0.0001, 1000000000000000.0]"),
        ] {
            assert_eq!(python(text).map(|v| v.text()).as_deref(), Some(shown), "{text}");
        }
        for wrong in
            ["", "a", "[1, 2", "{1: 2, 3}", "1 2", "'a", "007", "f'a'", "b'a'", "--1", "{[1]: 2}", "1abc", "'a\nb'"]
        {
            assert_eq!(python(wrong), None, "{wrong}");
        }
    }
}
