//! Seeded mutations: of bytes, of fields that look like lengths, of JSON values, of words, of whole pieces.

use burgess_base::stream::Stream;
use rand::Rng;
use std::ops::Range;

/// How an input is mutated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationForm {
    /// Mutates bytes and little- or big-endian numbers.
    Binary,
    /// Mutates numbers, words, lines and quoted values of a text.
    Text,
    /// As [`MutationForm::Text`], but half of the changes replace, remove or repeat a whole JSON value.
    Json,
    /// As [`MutationForm::Binary`], and in half of the inputs the checksums of the PNG chunks are corrected afterwards.
    Png,
}

/// Numbers that are close to overflow, or that are typical of headers.
const NUMBERS: [u64; 20] = [
    0,
    1,
    2,
    3,
    7,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0xe8_d4a5_1000,
    u64::MAX >> 1,
    u64::MAX,
];

/// Numbers as text, for mutations of text.
const WRITTEN: [&str; 22] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "255",
    "256",
    "1000",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967296",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551616",
    "1e18",
    "1e308",
    "1e999",
    "-0.0",
    "1e-320",
    "0.5",
];

/// JSON values, and what Python writes for some values.
const VALUES: [&str; 26] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "3",
    "1e12",
    "300000",
    "1e18",
    "1e999",
    "-0.0",
    "NaN",
    "-Infinity",
    "\"\"",
    "\"a\"",
    "\"None\"",
    "\"\\ud800\"",
    "\"\\u0000\\u001b[2J\\u202e\"",
    "\"\u{e9}\u{1f642}\u{300}\"",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "[1,2,3,4]",
    "{\"a\":1}",
];

/// Draws a number below `n`; 0 if `n` is 0.
pub fn below(random: &mut Stream, n: usize) -> usize {
    (random.next_u64() % n.max(1) as u64) as usize
}

fn one<'a, T>(random: &mut Stream, of: &'a [T]) -> Option<&'a T> {
    of.get(below(random, of.len()))
}

/// Makes an input from `seed` by one to six changes, which may insert pieces of `other` and words of `dictionary`.
pub fn mutated(random: &mut Stream, form: MutationForm, seed: &[u8], other: &[u8], dictionary: &[&str]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let most = 1 + below(random, 6);
    for _ in 0..=below(random, most) {
        match form {
            MutationForm::Binary | MutationForm::Png if below(random, 4) > 0 => of_bytes(random, &mut bytes),
            MutationForm::Json if below(random, 2) == 0 => of_value(random, &mut bytes),
            MutationForm::Text | MutationForm::Json if below(random, 3) > 0 => of_text(random, &mut bytes, dictionary),
            _ => of_piece(random, &mut bytes, other, dictionary),
        }
    }
    if form == MutationForm::Png && below(random, 2) == 0 {
        checksums(&mut bytes);
    }
    bytes
}

fn of_bytes(random: &mut Stream, bytes: &mut [u8]) {
    let at = below(random, bytes.len());
    let (bit, byte) = (1 << below(random, 8), below(random, 256) as u8);
    let number = *one(random, &NUMBERS).unwrap_or(&0);
    let width = [1, 2, 4, 8][below(random, 4)];
    let big = number.to_be_bytes();
    let (kind, small) = (below(random, 6), below(random, 35) as u64);
    let Some(place) = bytes.get_mut(at..) else { return };
    let width = width.min(place.len());
    let (Some(first), Some(field)) = (place.first().copied(), place.get_mut(..width)) else { return };
    match kind {
        0 => field.iter_mut().take(1).for_each(|b| *b ^= bit),
        1 => field.iter_mut().take(1).for_each(|b| *b = byte),
        2 => field.iter_mut().zip(number.to_le_bytes()).for_each(|(b, n)| *b = n),
        3 => field.iter_mut().zip(big.iter().skip(8 - width)).for_each(|(b, n)| *b = *n),
        // Changes the field by a small number, with its carry.
        4 => {
            let mut read = [0; 8];
            read.iter_mut().zip(field.iter()).for_each(|(r, b)| *r = *b);
            let near = u64::from_le_bytes(read).wrapping_add(small).wrapping_sub(17);
            field.iter_mut().zip(near.to_le_bytes()).for_each(|(b, n)| *b = n);
        }
        _ => field.iter_mut().take(1).for_each(|b| *b = first.wrapping_add(bit)),
    }
}

/// Replaces, repeats or removes a number, a word, a line or a quoted text.
fn of_text(random: &mut Stream, bytes: &mut Vec<u8>, dictionary: &[&str]) {
    let at = below(random, bytes.len());
    let span = match below(random, 5) {
        0 | 1 => near(bytes, at, |b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E')),
        2 => near(bytes, at, |b| b.is_ascii_alphanumeric() || b == b'_'),
        3 => near(bytes, at, |b| b != b'\n'),
        _ => near(bytes, at, |b| !matches!(b, b'"' | b'\'' | b'\n')),
    };
    let with: Vec<u8> = match below(random, 6) {
        0 | 1 => one(random, &WRITTEN).map_or(Vec::new(), |n| n.as_bytes().to_vec()),
        2 => one(random, dictionary).map_or(Vec::new(), |w| w.as_bytes().to_vec()),
        3 => one(random, &VALUES).map_or(Vec::new(), |v| v.as_bytes().to_vec()),
        4 => {
            let again = bytes.get(span.clone()).unwrap_or_default();
            let often = 2 + below(random, 3);
            again.iter().copied().cycle().take(again.len() * often).collect()
        }
        _ => Vec::new(),
    };
    bytes.splice(span, with);
}

/// Range of the bytes accepted by `inside` at or after `at`.
fn near(bytes: &[u8], at: usize, inside: impl Fn(u8) -> bool) -> Range<usize> {
    let tail = bytes.get(at..).unwrap_or_default();
    let from = at + tail.iter().position(|b| inside(*b)).unwrap_or(tail.len());
    let head = bytes.get(..from).unwrap_or_default();
    let start = head.iter().rposition(|b| !inside(*b)).map_or(0, |i| i + 1);
    let length = bytes.get(from..).unwrap_or_default().iter().take_while(|b| inside(**b)).count();
    start..from + length
}

/// Replaces, repeats or wraps a JSON value, or removes it.
fn of_value(random: &mut Stream, bytes: &mut Vec<u8>) {
    let at = below(random, bytes.len());
    let starts = |b: &u8| matches!(b, b':' | b'[' | b',');
    let tail = bytes.get(at..).unwrap_or_default();
    let Some(mark) = tail.iter().position(starts).map(|i| at + i + 1) else { return };
    let value = value_at(bytes, mark);
    let old = bytes.get(value.clone()).unwrap_or_default().to_vec();
    let new = match below(random, 8) {
        0 => Vec::new(),
        1 => [&old[..], b",", &old].concat(),
        2 => [b"[", &old[..], b"]"].concat(),
        3 => {
            let deep = [1, 10, 120, 200, 3000][below(random, 5)];
            [b"[".repeat(deep), old, b"]".repeat(deep)].concat()
        }
        4 => [b"\"", old.trim_ascii(), b"\""].concat(),
        _ => one(random, &VALUES).map_or(Vec::new(), |v| v.as_bytes().to_vec()),
    };
    bytes.splice(value, new);
}

/// Range of the value that begins at `start`: a quoted text, balanced brackets, or anything up to a comma.
fn value_at(bytes: &[u8], start: usize) -> Range<usize> {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (i, b) in bytes.get(start..).unwrap_or_default().iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' | b',' if depth == 0 => return start..start + i,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    start..bytes.len()
}

/// Removes, repeats, moves or copies pieces, also from another file; truncates; inserts words.
fn of_piece(random: &mut Stream, bytes: &mut Vec<u8>, other: &[u8], dictionary: &[&str]) {
    let longest = [8, 64, 512, 4096][below(random, 4)];
    let at = below(random, bytes.len());
    let end = (at + 1 + below(random, longest)).min(bytes.len());
    let to = below(random, bytes.len() + 1);
    match below(random, 8) {
        0 => drop(bytes.drain(at..end)),
        1 => {
            let copy = bytes.get(at..end).unwrap_or_default().to_vec();
            bytes.splice(to..to, copy);
        }
        2 => {
            let copy = bytes.get(at..end).unwrap_or_default().to_vec();
            let over = to.min(bytes.len() - copy.len());
            bytes.splice(over..over + copy.len(), copy);
        }
        3 => {
            let from = below(random, other.len());
            let until = (from + 1 + below(random, longest)).min(other.len());
            bytes.splice(at..end, other.get(from..until).unwrap_or_default().iter().copied());
        }
        4 => {
            let from = below(random, other.len() + 1);
            bytes.splice(to.., other.get(from..).unwrap_or_default().iter().copied());
        }
        5 if below(random, 4) == 0 => bytes.truncate(at),
        6 => {
            let fill = [0, 0xff, b' ', b'0'][below(random, 4)];
            bytes.splice(to..to, std::iter::repeat_n(fill, end - at));
        }
        _ => {
            let word = one(random, dictionary).map_or(&[][..], |w| w.as_bytes());
            bytes.splice(to..to, word.iter().copied());
        }
    }
}

/// Corrects the checksum of every chunk of a PNG file.
fn checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 4).and_then(|l| <[u8; 4]>::try_from(l).ok()) {
        let length = u32::from_be_bytes(head) as usize;
        let Some(end) = at.checked_add(8 + length).filter(|end| end + 4 <= bytes.len()) else { return };
        let mut crc = flate2::Crc::new();
        crc.update(bytes.get(at + 4..end).unwrap_or_default());
        if let Some(field) = bytes.get_mut(end..end + 4) {
            field.copy_from_slice(&crc.sum().to_be_bytes());
        }
        at = end + 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_most_differ() {
        let seed = br#"{"a": [1, 2, {"b": "text"}], "c": null, "d": 12}"#;
        for form in [MutationForm::Binary, MutationForm::Text, MutationForm::Json, MutationForm::Png] {
            let all = |n| {
                let mut random = stream("mutate", n);
                (0..500).map(|_| mutated(&mut random, form, seed, b"other file", &["word"])).collect::<Vec<_>>()
            };
            assert_eq!(all(1), all(1));
            let different: std::collections::BTreeSet<_> = all(1).into_iter().collect();
            // A short text has few words and numbers to change.
            assert!(different.len() > 350, "{form:?}: {}", different.len());
            // No mutation may panic on an empty input.
            let mut random = stream("empty", 0);
            (0..500).for_each(|_| drop(mutated(&mut random, form, b"", b"", &[])));
        }
    }

    #[test]
    fn values_end_where_they_end() {
        let text = br#"{"a":"x,\"]","b":[1,{"c":2}],"d":3}"#;
        let at = |mark: usize| std::str::from_utf8(&text[value_at(text, mark)]).unwrap();
        assert_eq!((at(5), at(17), at(33)), (r#""x,\"]""#, r#"[1,{"c":2}]"#, "3"));
    }
}
