//! The parts of Python that chat templates rely on: white space, JSON, dates.

use super::limits;
use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind, State};

/// Strips white space at both ends, as Python's `str.strip`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

/// The `tojson` filter of `transformers`: `json.dumps` with `ensure_ascii=False` by default. The caller has checked
/// the value's size ([`limits::check_size`]).
pub fn to_json(state: &State, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let indent = options.get::<Option<usize>>("indent")?;
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    options.assert_all_used()?;
    let (comma, colon) = match separators.as_deref() {
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
        Some([comma, colon]) => (comma.as_str(), colon.as_str()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: `separators` must be two strings")),
    };
    let longest = [comma.len(), colon.len(), indent.unwrap_or(0)].into_iter().max();
    if longest > Some(limits::WIDTH) {
        return Err(limits::refused(format!(
            "tojson: `indent` and `separators` must be at most {} characters",
            limits::WIDTH
        )));
    }
    let json = serde_json::to_value(value).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let mut text = String::new();
    let spent = Json { ascii, indent, sorted, comma, colon, most: MOST }.write(&json, 0, &mut text);
    spent.ok_or_else(|| limits::refused(format!("tojson: the output exceeds {MOST} bytes")))?;
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(Value::from_safe_string(text))
}

/// The maximum output of one `tojson`, in bytes.
const MOST: usize = 16 << 20;

struct Json<'a> {
    ascii: bool,
    indent: Option<usize>,
    sorted: bool,
    comma: &'a str,
    colon: &'a str,
    /// Writing stops when `out` exceeds this number of bytes.
    most: usize,
}

impl Json<'_> {
    /// Writes `value`; `None` if the output exceeds the limit.
    fn write(&self, value: &serde_json::Value, depth: usize, out: &mut String) -> Option<()> {
        match value {
            serde_json::Value::Array(all) => {
                let items = all.iter().map(|v| (None, v));
                self.items(['[', ']'], items, depth, out)?;
            }
            serde_json::Value::Object(all) => {
                let mut items: Vec<_> = all.iter().map(|(k, v)| (Some(k.as_str()), v)).collect();
                if self.sorted {
                    items.sort_by_key(|(k, _)| *k);
                }
                self.items(['{', '}'], items.into_iter(), depth, out)?;
            }
            serde_json::Value::String(text) => self.text(text, out),
            other => out.push_str(&other.to_string()),
        }
        (out.len() <= self.most).then_some(())
    }

    fn items<'v>(
        &self,
        around: [char; 2],
        items: impl ExactSizeIterator<Item = (Option<&'v str>, &'v serde_json::Value)>,
        depth: usize,
        out: &mut String,
    ) -> Option<()> {
        let empty = items.len() == 0;
        let new_line = |depth: usize, out: &mut String| {
            if let (Some(indent), false) = (self.indent, empty) {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent * depth));
            }
        };
        out.push(around[0]);
        for (i, (key, value)) in items.enumerate() {
            if i > 0 {
                out.push_str(self.comma);
            }
            new_line(depth + 1, out);
            if let Some(key) = key {
                self.text(key, out);
                out.push_str(self.colon);
            }
            self.write(value, depth + 1, out)?;
        }
        new_line(depth, out);
        out.push(around[1]);
        Some(())
    }

    fn text(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A date without a time, for templates that write the date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    year: u32,
    month: u32,
    day: u32,
}

impl Day {
    /// Parses a date of the form `2024-07-26`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(str::parse::<u32>);
        let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        let fits = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        (fits && parts.next().is_none()).then_some(Self { year, month, day })
    }

    /// Formats the date at midnight like `strftime` in the C locale.
    ///
    /// # Errors
    /// When a conversion character is unknown.
    pub fn format(self, format: &str) -> Result<String, Error> {
        let Self { year, month, day } = self;
        let month_name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
        let day_name = DAYS.get(self.weekday()).copied().unwrap_or_default();
        let short = |name: &'static str| name.get(..3).unwrap_or(name);
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(c) = letters.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut letter = letters.next();
            let bare = letter == Some('-');
            if bare {
                letter = letters.next();
            }
            let two = |n: u32| if bare { n.to_string() } else { format!("{n:02}") };
            let text = match letter {
                Some('Y') => format!("{year:04}"),
                Some('y') => two(year % 100),
                Some('m') => two(month),
                Some('d') => two(day),
                Some('e') => format!("{day:2}"),
                Some('B') => month_name.into(),
                Some('b' | 'h') => short(month_name).into(),
                Some('A') => day_name.into(),
                Some('a') => short(day_name).into(),
                Some('F') => format!("{year:04}-{month:02}-{day:02}"),
                Some('H' | 'M' | 'S') => two(0),
                Some('I') => "12".into(),
                Some('p') => "AM".into(),
                Some('%') => "%".into(),
                other => {
                    let other = other.map_or_else(String::new, String::from);
                    return Err(Error::new(
                        ErrorKind::InvalidOperation,
                        format!("strftime_now: the conversion `%{other}` is not supported"),
                    ));
                }
            };
            out.push_str(&text);
        }
        Ok(out)
    }

    /// Days since Sunday, 0 to 6 (Sakamoto's method).
    fn weekday(self) -> usize {
        const SHIFT: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        let shift = SHIFT.get(self.month as usize - 1).copied().unwrap_or(0);
        ((year + year / 4 - year / 100 + year / 400 + shift + self.day) % 7) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_strftimes() -> Result<(), Error> {
        let day = Day::parse("2024-07-06").ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "day"))?;
        assert_eq!(day.format("%d %b %Y, %A %-d %B %y %%")?, "06 Jul 2024, Saturday 6 July 24 %");
        assert!(day.format("%Q").is_err() && day.format("%").is_err());
        assert_eq!(Day::parse("2026-11-25").map(Day::weekday), Some(3));
        assert!(Day::parse("2024-13-01").is_none() && Day::parse("today").is_none());
        Ok(())
    }
}
