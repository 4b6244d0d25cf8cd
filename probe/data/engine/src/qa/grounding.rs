//! Whether an answer says only what its source says: names, numbers with their units, quotations.
//!
//! The rule, on texts with case, diacritics, quotation marks, dashes and white space folded ([`crate::fold`]):
//!
//! - **Names.** A name is a run of words that begin with a capital letter, with small words such as *of*, *de*, *van*
//!   between two of them. A capital at the beginning of a sentence says nothing, so a single word there is a name only
//!   if it has a second capital or a digit (*NASA*, *CO2*), or occurs with a capital inside another sentence of the
//!   answer; of a longer run the first word is left out if it is a common word (*The*, *In*). Each word of a name,
//!   except the small ones, must be a word of the source; a final *'s* or plural *s* is ignored.
//! - **Numbers.** Each number, in digits (with separators of thousands, as an ordinal) or as an English word up to
//!   *twenty* and the tens, must occur in the source in one of these forms. If a unit follows it, it must follow one of
//!   its occurrences there too; *%* and *percent*, *km* and *kilometres* and so on are the same unit. *One* is not a
//!   number.
//! - **Quotations.** What stands between double quotation marks, if it is more than one word, must be a part of the
//!   source.
//!
//! Scripts without capital letters have no names in this sense; numbers and quotations are checked there too.

use crate::fold::{folded, words};
use std::collections::HashSet;

/// The source of answers, prepared for comparisons.
#[derive(Debug)]
pub struct Grounding {
    text: String,
    words: HashSet<String>,
    numbers: HashSet<(String, Option<&'static str>)>,
}

/// What an answer says and its source does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ungrounded {
    /// A name, with the word that does not occur.
    Name(String, String),
    /// A number, with its unit.
    Number(String),
    /// A quotation.
    Quotation(String),
}

/// Small words inside names.
const INNER: [&str; 24] = [
    "of", "the", "and", "de", "la", "le", "les", "du", "des", "di", "da", "del", "della", "van", "von", "der", "den",
    "zu", "al", "el", "bin", "ibn", "y", "e",
];

/// Words that begin sentences and are no names.
const COMMON: &str = " a about above across after again against all almost along already also although always among an \
and another any are around as at away back because been before behind being below beneath beside besides between beyond \
both but by can could despite did do does down due during each early either every few first for from further had has have \
having he her here hers his how however i if in indeed inside instead into is it its itself just large last later less \
like made many may might more moreover most much must my near nearly neither never next no none nor not now of off often \
on once one only onto or other others our out outside over own part perhaps rather same see several shall she should \
since small so some sometimes soon still such than that the their them then there therefore these they this those though \
three through throughout thus to today together too toward towards two under unlike until up upon us used using usually \
various very via was we were what when where whereas which while who whom whose why will with within without would yes \
yet you your ";

/// Units by their spellings; the first is the canonical one.
const UNITS: &[&[&str]] = &[
    &["%", "percent", "per cent", "percentage"],
    &["km", "kilometre", "kilometres", "kilometer", "kilometers"],
    &["m", "metre", "metres", "meter", "meters"],
    &["cm", "centimetre", "centimetres", "centimeter", "centimeters"],
    &["mm", "millimetre", "millimetres", "millimeter", "millimeters"],
    &["μm", "micrometre", "micrometres", "micrometer", "micrometers", "um", "micron", "microns"],
    &["nm", "nanometre", "nanometres", "nanometer", "nanometers"],
    &["mi", "mile", "miles"],
    &["ft", "foot", "feet"],
    &["in", "inch", "inches"],
    &["yd", "yard", "yards"],
    &["kg", "kilogram", "kilograms", "kilogramme", "kilogrammes"],
    &["g", "gram", "grams", "gramme", "grammes"],
    &["mg", "milligram", "milligrams"],
    &["t", "tonne", "tonnes", "ton", "tons"],
    &["lb", "lbs", "pound", "pounds"],
    &["l", "litre", "litres", "liter", "liters"],
    &["ml", "millilitre", "millilitres", "milliliter", "milliliters"],
    &["s", "sec", "second", "seconds"],
    &["min", "minute", "minutes"],
    &["h", "hr", "hour", "hours"],
    &["day", "days"],
    &["week", "weeks"],
    &["month", "months"],
    &["year", "years", "yr", "yrs"],
    &["century", "centuries"],
    &["°c", "degrees celsius", "celsius"],
    &["°f", "degrees fahrenheit", "fahrenheit"],
    &["k", "kelvin", "kelvins"],
    &["°", "degree", "degrees"],
    &["hz", "hertz"],
    &["khz", "kilohertz"],
    &["mhz", "megahertz"],
    &["ghz", "gigahertz"],
    &["w", "watt", "watts"],
    &["kw", "kilowatt", "kilowatts"],
    &["mw", "megawatt", "megawatts"],
    &["v", "volt", "volts"],
    &["kv", "kilovolt", "kilovolts"],
    &["j", "joule", "joules"],
    &["ev", "electronvolt", "electronvolts"],
    &["pa", "pascal", "pascals"],
    &["bar", "bars"],
    &["n", "newton", "newtons"],
    &["km/h", "kilometres per hour", "kilometers per hour", "kph"],
    &["mph", "miles per hour"],
    &["m/s", "metres per second", "meters per second"],
    &["km2", "km²", "square kilometres", "square kilometers"],
    &["m2", "m²", "square metres", "square meters"],
    &["ha", "hectare", "hectares"],
    &["acre", "acres"],
    &["thousand", "thousands"],
    &["million", "millions", "mio"],
    &["billion", "billions", "bn"],
    &["trillion", "trillions"],
    &["usd", "dollar", "dollars"],
    &["eur", "euro", "euros"],
];

const NUMBER_WORDS: &[(&str, &str)] = &[
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("thirteen", "13"),
    ("fourteen", "14"),
    ("fifteen", "15"),
    ("sixteen", "16"),
    ("seventeen", "17"),
    ("eighteen", "18"),
    ("nineteen", "19"),
    ("twenty", "20"),
    ("thirty", "30"),
    ("forty", "40"),
    ("fifty", "50"),
    ("sixty", "60"),
    ("seventy", "70"),
    ("eighty", "80"),
    ("ninety", "90"),
    ("third", "3"),
    ("fourth", "4"),
    ("fifth", "5"),
    ("sixth", "6"),
    ("seventh", "7"),
    ("eighth", "8"),
    ("ninth", "9"),
    ("tenth", "10"),
    ("eleventh", "11"),
    ("twelfth", "12"),
    ("thirteenth", "13"),
    ("fourteenth", "14"),
    ("fifteenth", "15"),
    ("sixteenth", "16"),
    ("seventeenth", "17"),
    ("eighteenth", "18"),
    ("nineteenth", "19"),
    ("twentieth", "20"),
];

impl Grounding {
    /// Prepares a source from its parts, such as caption, text, heading and title.
    pub fn new<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let parts: Vec<String> = parts.into_iter().map(folded).collect();
        let text = parts.join(" \n ");
        let words = words(&text).flat_map(forms).collect();
        let mut numbers = HashSet::new();
        for number in numbers_in(&text) {
            numbers.insert((number.value.clone(), number.unit));
            numbers.insert((number.value, None));
        }
        Self { text, words, numbers }
    }

    /// Whether a quotation is a part of the source. Dots at an omission divide it into parts that must follow one
    /// another.
    pub fn quotes(&self, quotation: &str) -> bool {
        let quotation = folded(quotation);
        let mut rest = self.text.as_str();
        let mut found = false;
        for part in quotation.split("...").flat_map(|part| part.split("[...]")) {
            let part =
                part.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '.' | '[' | ']' | ','));
            if part.is_empty() {
                continue;
            }
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
            found = true;
        }
        found
    }

    /// Returns the first name, number or quotation of an answer that its source does not have.
    pub fn first_ungrounded(&self, answer: &str) -> Option<Ungrounded> {
        let quotation = quotations(answer).find(|q| q.split_whitespace().count() > 1 && !self.quotes(q));
        if let Some(quotation) = quotation {
            return Some(Ungrounded::Quotation(quotation.to_string()));
        }
        for name in names(answer) {
            let is_missing = |word: &&String| {
                let word = folded(word);
                !INNER.contains(&word.as_str())
                    && !forms(&word).any(|form| self.words.contains(&form))
                    && !number_value(&word).is_some_and(|n| self.numbers.contains(&(n, None)))
            };
            if let Some(word) = name.iter().find(is_missing) {
                return Some(Ungrounded::Name(name.join(" "), word.clone()));
            }
        }
        let number = numbers_in(&folded(answer)).find(|n| !self.numbers.contains(&(n.value.clone(), n.unit)));
        number.map(|n| Ungrounded::Number([n.value.as_str(), n.unit.unwrap_or_default()].join(" ").trim().to_string()))
    }
}

/// The forms of a folded word by which it is found: as it is, without a final `'s` or `s`, and its parts at hyphens.
fn forms(word: &str) -> impl Iterator<Item = String> {
    let stem = word.strip_suffix("'s").or_else(|| word.strip_suffix('\'')).unwrap_or(word);
    let singular = stem.strip_suffix('s').filter(|stem| stem.len() > 2).unwrap_or(stem);
    let mut all = vec![word.to_string(), stem.to_string(), singular.to_string()];
    if word.contains('-') {
        all.extend(word.split('-').filter(|part| part.len() > 2).map(str::to_string));
    }
    all.into_iter()
}

/// The texts between double quotation marks.
fn quotations(text: &str) -> impl Iterator<Item = &str> {
    let is_mark = |c: char| matches!(c, '"' | '“' | '”' | '„' | '«' | '»');
    text.split(is_mark).skip(1).step_by(2)
}

/// A word of an answer, and whether a sentence begins with it.
struct Token<'a> {
    text: &'a str,
    begins: bool,
    /// Whether a comma, bracket or other mark separates it from the word before.
    apart: bool,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut begins, mut apart) = (Vec::new(), true, true);
    let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '-' | '‐' | '‑');
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric()) {
        let (gap, from) = rest.split_at(start);
        // A period after a single capital letter, as in "J. S. Bach", does not end a sentence.
        let after_initial = tokens.last().is_some_and(|t: &Token<'_>| t.text.chars().count() == 1);
        begins |= gap.contains(['!', '?', ':', ';', '\n', '•']) || (gap.contains('.') && !after_initial);
        begins |= gap.contains(['"', '“', '”', '„', '«']);
        apart |= !gap.chars().all(|c| c.is_whitespace() || c == '.');
        let end = from.find(|c| !is_inner(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        tokens.push(Token { text: word.trim_end_matches(['\'', '’', '-', '‐', '‑']), begins, apart });
        (begins, apart) = (false, false);
        rest = after;
    }
    tokens
}

fn is_capitalised(word: &str) -> bool {
    word.chars().next().is_some_and(char::is_uppercase)
}

fn is_common(word: &str) -> bool {
    COMMON.contains(&format!(" {} ", word.to_lowercase()))
}

/// Whether a word is a name wherever it stands: it has a second capital, or a capital and a digit.
fn is_marked(word: &str) -> bool {
    let rest = word.chars().skip(1);
    is_capitalised(word) && rest.clone().any(|c| c.is_uppercase() || c.is_ascii_digit()) && word.chars().count() > 1
}

/// The names of an answer, each as its words; see the [module](self).
fn names(answer: &str) -> Vec<Vec<String>> {
    let tokens = tokens(answer);
    let inside: HashSet<&str> = tokens.iter().filter(|t| !t.begins && is_capitalised(t.text)).map(|t| t.text).collect();
    let (mut names, mut at) = (Vec::new(), 0);
    while let Some(first) = tokens.get(at) {
        if !is_capitalised(first.text) {
            at += 1;
            continue;
        }
        let mut end = at + 1;
        while let Some(next) = tokens.get(end) {
            if next.begins || next.apart {
                break;
            }
            if is_capitalised(next.text) {
                end += 1;
                continue;
            }
            // Up to two small words, if a capital follows: "University of the Arts".
            let small = tokens.get(end..).unwrap_or_default().iter().take(2);
            let count = small.take_while(|t| !t.begins && !t.apart && INNER.contains(&t.text)).count();
            let continues =
                count > 0 && tokens.get(end + count).is_some_and(|t| !t.begins && !t.apart && is_capitalised(t.text));
            if !continues {
                break;
            }
            end += count + 1;
        }
        let mut run = tokens.get(at..end).unwrap_or_default();
        at = end;
        if first.begins {
            let counts = match run.len() {
                1 => is_marked(first.text) || (inside.contains(first.text) && !is_common(first.text)),
                _ => true,
            };
            if !counts {
                continue;
            }
            if run.len() > 1 && is_common(first.text) {
                run = run.get(1..).unwrap_or_default();
                // "In of" cannot remain; "The of" neither.
                while run.first().is_some_and(|t| !is_capitalised(t.text)) {
                    run = run.get(1..).unwrap_or_default();
                }
            }
        } else if run.len() == 1 && (is_common(first.text) || first.text == "I") {
            continue;
        }
        let name: Vec<String> = run.iter().map(|t| t.text.to_string()).collect();
        if !name.is_empty() {
            names.push(name);
        }
    }
    names
}

/// A number of a folded text.
struct Number {
    value: String,
    unit: Option<&'static str>,
}

/// Returns the canonical form of a number: digits without separators and without trailing zeros after the point.
fn number_value(word: &str) -> Option<String> {
    if let Some((_, value)) = NUMBER_WORDS.iter().find(|(name, _)| *name == word) {
        return Some((*value).to_string());
    }
    let plain = ["st", "nd", "rd", "th", "s"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
    let plain = if plain.bytes().next_back().is_some_and(|b| b.is_ascii_digit()) { plain } else { word };
    let is_number = plain.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && plain.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'.');
    is_number.then(|| canonical(plain))
}

fn canonical(digits: &str) -> String {
    let groups: Vec<&str> = digits.split(',').collect();
    // 12,345 has separators; 3,5 is a decimal number.
    let separated =
        groups.len() > 1 && groups.iter().skip(1).all(|group| group.split('.').next().is_some_and(|g| g.len() == 3));
    let plain = if separated { groups.concat() } else { digits.replace(',', ".") };
    let plain = plain.trim_end_matches('.');
    match plain.split_once('.') {
        Some((whole, part)) if !part.contains('.') => {
            let part = part.trim_end_matches('0');
            if part.is_empty() { whole.to_string() } else { format!("{whole}.{part}") }
        }
        _ => plain.to_string(),
    }
}

/// The numbers of a folded text with their units. Digits inside words such as `co2` are part of the word.
fn numbers_in(text: &str) -> impl Iterator<Item = Number> {
    let mut numbers = Vec::new();
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        if !c.is_alphanumeric() || before.is_alphanumeric() {
            before = c;
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            continue;
        }
        let end = match c.is_ascii_digit() {
            true => rest.find(|c: char| !(c.is_ascii_digit() || c == ',' || c == '.')).unwrap_or(rest.len()),
            false => rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        let word = word.trim_end_matches(['.', ',']);
        let value = number_value(word);
        if let Some(value) = value {
            numbers.push(Number { value, unit: unit_at(after) });
        }
        before = word.chars().next_back().unwrap_or(' ');
        rest = rest.get(word.len().max(1)..).unwrap_or_default();
        if c.is_ascii_digit() {
            // A unit that touches the number, as in `5km`, begins a new word.
            before = ' ';
        }
    }
    numbers.into_iter()
}

/// The unit at the beginning of what follows a number.
fn unit_at(after: &str) -> Option<&'static str> {
    let after = after.trim_start_matches([' ', '-', '\u{a0}']);
    let mut best: Option<(&'static str, usize)> = None;
    for spellings in UNITS {
        for spelling in *spellings {
            let Some(rest) = after.strip_prefix(spelling) else { continue };
            let ends = !rest.chars().next().is_some_and(char::is_alphanumeric);
            // "in" is the inch only in "5 in." or before a mark: elsewhere it is the preposition.
            let is_word = matches!(*spelling, "in" | "a" | "t" | "second") && rest.starts_with(' ');
            if ends && !is_word && best.is_none_or(|(_, length)| spelling.len() > length) {
                best = spellings.first().map(|unit| (*unit, spelling.len()));
            }
        }
    }
    best.map(|(unit, _)| unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The lighthouse of Østervig was designed by Émile Saint-Clair in 1874. Its Fresnel lens weighs \
        1,250 kg and is 36.5 metres above the sea; about 12 percent of its light is lost. Three keepers lived there until \
        the twentieth century. NASA photographed it. He called it “a candle in the dark”.";

    #[test]
    fn answers_are_grounded_in_their_source() {
        let source = Grounding::new(["Lighthouse seen from the north", TEXT, "Light sources", "Ostervig Lighthouse"]);
        for answer in [
            "The Ostervig lighthouse was designed by Emile Saint-Clair.",
            "Lighthouses guide ships. Fresnel's lens weighs 1250 kilograms, and it stands 36.50 m above the sea.",
            "About 12% of the light is lost; 3 keepers lived there until the 20th century.",
            "It shows the tower. In 1874 Saint-Clair built it. NASA took the photograph.",
            "It is \"a candle in the dark\", as he said.",
            "One keeper is seen. I think it is white. However, the sea is calm.",
            "海の灯台。",
        ] {
            assert_eq!(source.first_ungrounded(answer), None, "{answer}");
        }
        let name = |name: &str, word: &str| Ungrounded::Name(name.into(), word.into());
        for (answer, found) in [
            ("It was designed by Augustin Fresnel.", name("Augustin Fresnel", "Augustin")),
            ("Designed by the University of the Arts.", name("University of the Arts", "University")),
            ("ESA photographed it.", name("ESA", "ESA")),
            ("Denmark owns it, and it stands in Denmark.", name("Denmark", "Denmark")),
            ("It was built in 1875.", Ungrounded::Number("1875".into())),
            ("It weighs 1,250 tons.", Ungrounded::Number("1250 t".into())),
            ("Four keepers lived there.", Ungrounded::Number("4".into())),
            ("It weighs 1.25 kg.", Ungrounded::Number("1.25 kg".into())),
            ("He called it \"a star in the dark\".", Ungrounded::Quotation("a star in the dark".into())),
            ("Seen by The Queen of Sheba", name("Queen of Sheba", "Queen")),
        ] {
            let given = source.first_ungrounded(answer);
            let same = match (&given, &found) {
                // "The" before a name may stay with it.
                (Some(Ungrounded::Name(a, x)), Ungrounded::Name(b, y)) => a.ends_with(b.as_str()) && x == y,
                (Some(a), b) => a == b,
                (None, _) => false,
            };
            assert!(same, "{answer}: {given:?}");
        }
    }

    #[test]
    fn quotations_are_parts_of_the_source() {
        let source = Grounding::new(["A caption.", TEXT]);
        for good in
            ["designed by  Emile\nSaint-Clair in 1874.", "Its Fresnel lens ... above the sea", "a candle in the dark"]
        {
            assert!(source.quotes(good), "{good}");
        }
        for bad in ["", "...", "designed in 1874", "above the sea ... Its Fresnel lens", "caption. designed"] {
            assert!(!source.quotes(bad), "{bad}");
        }
    }
}
