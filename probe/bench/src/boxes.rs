//! Boxes and points in answers: how they are written, and how they are compared.
//!
//! A box is `[left, top, right, bottom]`, a point `[x, y]`. Right boxes are in fractions of the image (0 to 1); answers
//! may be in fractions, in thousandths or in pixels ([`Coordinates`]).
//!
//! The strict forms accept what names one box or point without doubt. The functions of [`lmms`] and [`seeclick`]
//! reproduce the parsers of lmms-eval 0.7.3 and of the authors of ScreenSpot.

use crate::score::plain_number;
use regex::Regex;
use std::sync::LazyLock;

/// A box: left, top, right and bottom.
pub type Corners = [f64; 4];

/// A point: x and y.
pub type Point = [f64; 2];

/// The convention of coordinates in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinates {
    /// Fractions of the image, 0 to 1.
    Unit,
    /// Thousandths of the image, 0 to 1000.
    Thousand,
    /// Pixels of the image.
    Pixels,
}

impl Coordinates {
    /// The names in benchmark files.
    pub const NAMES: [&'static str; 3] = ["unit", "thousand", "pixels"];

    /// Returns the convention with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Unit, Self::Thousand, Self::Pixels]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, n)| *n == name)
            .map(|(c, _)| c)
    }

    /// Returns what x and y of an answer are divided by; `size` is width and height of the image in pixels.
    pub fn scale(self, size: Option<Point>) -> Option<Point> {
        match self {
            Self::Unit => Some([1.0, 1.0]),
            Self::Thousand => Some([1000.0, 1000.0]),
            Self::Pixels => size,
        }
    }
}

/// Computes intersection over union; `None` if the union is empty. The area of a box whose corners are in the wrong
/// order is taken with its sign, as lmms-eval does.
pub fn iou(a: &Corners, b: &Corners) -> Option<f64> {
    let [width, height] = [(a[2].min(b[2]) - a[0].max(b[0])).max(0.0), (a[3].min(b[3]) - a[1].max(b[1])).max(0.0)];
    let area = |c: &Corners| (c[2] - c[0]) * (c[3] - c[1]);
    let both = width * height;
    let union = area(a) + area(b) - both;
    (union != 0.0).then(|| both / union)
}

/// Returns the centre of a box.
pub fn centre(c: &Corners) -> Point {
    [(c[0] + c[2]) / 2.0, (c[1] + c[3]) / 2.0]
}

/// Returns whether a point is in a box or on its edge.
pub fn inside(point: &Point, c: &Corners) -> bool {
    c[0] <= point[0] && point[0] <= c[2] && c[1] <= point[1] && point[1] <= c[3]
}

/// Parses a box or point as it is written by [`written`]: numbers in square brackets.
pub fn numbers(text: &str) -> Option<Vec<f64>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    inner.split(',').map(|number| plain_number(number).filter(|n| n.is_finite())).collect()
}

/// Parses four numbers in square brackets.
pub fn corners(text: &str) -> Option<Corners> {
    numbers(text)?.try_into().ok()
}

/// Formats a box or point: `[0.1, 0.2]`.
pub fn written(values: &[f64]) -> String {
    format!("[{}]", values.iter().map(f64::to_string).collect::<Vec<_>>().join(", "))
}

/// Replaces the short names in a pattern by their parts: `N` a number, `S` a separator, `O` and `C` brackets.
fn pattern(short: &str) -> Option<Regex> {
    let parts = [
        ("N", r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"),
        ("S", r"(?:\s*[,;]\s*|\s+)"),
        ("O", r"[\[({]\s*"),
        ("C", r"\s*[\])}]"),
    ];
    // None of the parts contains the name of another.
    let long = parts.iter().fold(short.to_string(), |text, (name, part)| text.replace(name, part));
    Regex::new(&long).ok()
}

/// A compiled pattern; the tests compile all of them.
macro_rules! patterns {
    ($($(#[$doc:meta])* $name:ident = $make:expr;)*) => {
        $($(#[$doc])* static $name: LazyLock<Option<Regex>> = LazyLock::new(|| $make);)*

        #[cfg(test)]
        fn patterns() -> Vec<&'static LazyLock<Option<Regex>>> {
            vec![$(&$name),*]
        }
    };
}

/// A number as Python's `\d+(?:\.\d+)?` matches it; white space as Python's `\s` does.
fn python(text: &str) -> Option<Regex> {
    Regex::new(&text.replace("NUM", r"\d+(?:\.\d+)?").replace(r"\s", r"[\s\x1c-\x1f]")).ok()
}

patterns! {
    BRACKETED = pattern("ONSNSNSNC");
    CORNER_PAIRS = pattern("ONSNC(?:S|\\s*)ONSNC");
    BARE = pattern("^NSNSNSN$");
    POINT = pattern("ONSNC");
    BARE_POINT = pattern("^NSN$");
    KEYED = pattern(r#"(?:^|[^A-Za-z])["']?x["']?\s*[:=]\s*NS["']?y["']?\s*[:=]\s*N"#);
    LMMS_BOX = python(r"\[\s*(-?NUM),\s*(-?NUM),\s*(-?NUM),\s*(-?NUM)\s*\]");
    LMMS_TAG = python(r"(?is)<\s*bbox[^>]*>(.*?)<\s*/\s*bbox\s*>");
    LMMS_POINT = python(r"[\[\(]\s*(-?NUM%?)\s*(?:,|\s)\s*(-?NUM%?)\s*[\]\)]");
    LMMS_KEYED = python(r#"(?is)['"]?x['"]?\s*[:=]\s*(-?NUM%?).*?['"]?y['"]?\s*[:=]\s*(-?NUM%?)"#);
    LMMS_NUMBER = python(r"-?NUM%?");
    SEECLICK_BOX = python(r"<box>\((\d+,\d+)\),\((\d+,\d+)\)</box>");
    SEECLICK_NUMBER = python(r"-?\d+\.?\d*");
}

/// Returns the groups of every match as numbers.
fn matches<const N: usize>(pattern: &LazyLock<Option<Regex>>, text: &str) -> Vec<[f64; N]> {
    let Some(pattern) = pattern.as_ref() else { return Vec::new() };
    let found = pattern.captures_iter(text).filter_map(|groups| {
        let numbers: Option<Vec<f64>> = (1..=N).map(|i| plain_number(groups.get(i)?.as_str())).collect();
        numbers?.try_into().ok()
    });
    found.collect()
}

/// Returns the only value; `None` if there are none, or different ones.
fn only<T: PartialEq + Copy>(found: &[T]) -> Option<T> {
    let (first, rest) = found.split_first()?;
    rest.iter().all(|other| other == first).then_some(*first)
}

/// Returns the first list that is not empty.
fn first<T>(lists: impl IntoIterator<Item = Vec<T>>) -> Vec<T> {
    lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

/// Returns the box that an answer names, divided by `scale`: four numbers in brackets, two points in brackets, or four
/// numbers and nothing else. All boxes in the answer must be the same, within the image, and have their corners in
/// order.
pub fn strict_box(answer: &str, scale: Point) -> Option<Corners> {
    let bare = answer.trim().trim_end_matches('.');
    let found: Vec<Corners> =
        first([matches(&BRACKETED, answer), matches(&CORNER_PAIRS, answer), matches(&BARE, bare)]);
    let [left, top, right, bottom] = only(&found)?;
    let corners = [left / scale[0], top / scale[1], right / scale[0], bottom / scale[1]];
    let within = corners.iter().all(|value| (0.0..=1.0).contains(value));
    (within && corners[0] <= corners[2] && corners[1] <= corners[3]).then_some(corners)
}

/// Returns the point that an answer names, divided by `scale`: two numbers in brackets, `x=…, y=…`, or two numbers
/// and nothing else; or the centre of the box that it names. All points in the answer must be the same and within the
/// image.
pub fn strict_point(answer: &str, scale: Point) -> Option<Point> {
    if let Some(corners) = strict_box(answer, scale) {
        return Some(centre(&corners));
    }
    let bare = answer.trim().trim_end_matches('.');
    let found: Vec<Point> = first([matches(&POINT, answer), matches(&KEYED, answer), matches(&BARE_POINT, bare)]);
    let [x, y] = only(&found)?;
    let point = [x / scale[0], y / scale[1]];
    point.iter().all(|value| (0.0..=1.0).contains(value)).then_some(point)
}

/// Parsers of lmms-eval 0.7.3.
pub mod lmms {
    use super::{
        Corners, LMMS_BOX, LMMS_KEYED, LMMS_NUMBER, LMMS_POINT, LMMS_TAG, LazyLock, Point, Regex, centre, matches,
        plain_number,
    };

    /// Returns the first four numbers in square brackets, with commas between them (`refcoco/utils_rec.py`).
    pub fn first_box(answer: &str) -> Option<Corners> {
        matches(&LMMS_BOX, answer).first().copied()
    }

    /// Parses a number; one with a percent sign is divided by 100.
    fn number(token: &str) -> Option<f64> {
        match token.strip_suffix('%') {
            Some(number) => plain_number(number).map(|n| n / 100.0),
            None => plain_number(token),
        }
    }

    fn all_numbers(text: &str) -> Vec<f64> {
        let found = LMMS_NUMBER.as_ref().map(|p| p.find_iter(text).filter_map(|m| number(m.as_str())).collect());
        found.unwrap_or_default()
    }

    fn pair(pattern: &LazyLock<Option<Regex>>, text: &str) -> Option<Point> {
        let groups = pattern.as_ref()?.captures(text)?;
        Some([number(groups.get(1)?.as_str())?, number(groups.get(2)?.as_str())?])
    }

    fn centre_of_first(found: &[f64]) -> Option<Point> {
        let corners: Corners = found.get(..4)?.try_into().ok()?;
        Some(centre(&corners))
    }

    /// Returns the point that `screenspot_v2/utils.py` finds: the centre of a box in `<bbox>` tags, the first two
    /// numbers in brackets, `x` and `y` as keys, the centre of the first four numbers if the answer speaks of a box,
    /// or the first two numbers.
    pub fn point(answer: &str) -> Option<Point> {
        let tagged = LMMS_TAG.as_ref().and_then(|p| p.captures(answer)).and_then(|groups| groups.get(1));
        let found = tagged.and_then(|inner| centre_of_first(&all_numbers(inner.as_str())));
        found.or_else(|| pair(&LMMS_POINT, answer)).or_else(|| pair(&LMMS_KEYED, answer)).or_else(|| {
            let found = all_numbers(answer);
            let low = answer.to_lowercase();
            let of_box = ["box", "rect"].iter().any(|word| low.contains(word));
            centre_of_first(&found).filter(|_| of_box).or_else(|| found.get(..2)?.try_into().ok())
        })
    }
}

/// The parser of the authors of ScreenSpot (`pretrain/screenspot_test.py` of SeeClick).
pub mod seeclick {
    use super::{Point, SEECLICK_BOX, SEECLICK_NUMBER, centre, plain_number};

    /// Returns the point: if the answer contains `box`, the centre of the first box in Qwen's form, in thousandths;
    /// else its only two numbers, or the centre of its only four.
    pub fn point(answer: &str) -> Option<Point> {
        if answer.contains("box") {
            let groups = SEECLICK_BOX.as_ref()?.captures(answer)?;
            let corner = |i| -> Option<Point> {
                let (x, y) = groups.get(i)?.as_str().split_once(',')?;
                Some([plain_number(x)?, plain_number(y)?])
            };
            let ([left, top], [right, bottom]) = (corner(1)?, corner(2)?);
            return Some(centre(&[left, top, right, bottom]).map(|value| value / 1000.0));
        }
        let numbers = SEECLICK_NUMBER.as_ref()?.find_iter(answer).filter_map(|m| plain_number(m.as_str()));
        match numbers.collect::<Vec<f64>>().as_slice() {
            [x, y] => Some([*x, *y]),
            [left, top, right, bottom] => Some(centre(&[*left, *top, *right, *bottom])),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Point = [1.0, 1.0];

    #[test]
    fn every_pattern_is_a_regular_expression() {
        assert!(patterns().iter().all(|p| p.is_some()));
    }

    #[test]
    fn a_strict_box_is_named_once() {
        for answer in [
            "[0.1, 0.2, 0.5, 0.6]",
            "(0.1,0.2,0.5,0.6)",
            "0.1 0.2 0.5 0.6",
            "The box is [0.1, 0.2, 0.5, 0.6].",
            "<box>(0.1,0.2),(0.5,0.6)</box>",
            "[[0.1, 0.2], [0.5, 0.6]]",
            "[[.1, .2, .5, .6]]",
            "```json\n[{\"bbox_2d\": [0.1, 0.2, 0.5, 0.6], \"label\": \"1 dog\"}]\n```",
            "[0.1, 0.2, 0.5, 0.6] and again [0.10, 0.20, 0.5, 0.6]",
        ] {
            assert_eq!(strict_box(answer, UNIT), Some([0.1, 0.2, 0.5, 0.6]), "{answer}");
        }
        for answer in [
            "",
            "[0.1, 0.2, 0.5]",
            "[0.1, 0.2, 0.5, 0.6, 0.7]",
            "[0.1, 0.2, 0.5, 0.6] or [0.2, 0.2, 0.5, 0.6]",
            "[100, 200, 500, 600]",
            "[0.5, 0.6, 0.1, 0.2]",
            "[-0.1, 0.2, 0.5, 0.6]",
            "[10%, 20%, 50%, 60%]",
            "[nan, 0.2, 0.5, 0.6]",
            "0.1 0.2 0.5 0.6 0.7",
        ] {
            assert_eq!(strict_box(answer, UNIT), None, "{answer}");
        }
        assert_eq!(strict_box("[100, 200, 500, 600]", [1000.0, 1000.0]), Some([0.1, 0.2, 0.5, 0.6]));
        assert_eq!(strict_box("[1, 2, 5, 6]", [10.0, 10.0]), Some([0.1, 0.2, 0.5, 0.6]));
    }

    #[test]
    fn a_strict_point_is_named_once() {
        for answer in [
            "[0.5, 0.25]",
            "(0.5,0.25)",
            "0.5, 0.25",
            "pyautogui.click(x=0.5, y=0.25)",
            "{\"x\": 0.5, \"y\": 0.25}",
            "Click (0.5, 0.25).",
            "[0.4, 0.2, 0.6, 0.3]",
        ] {
            assert_eq!(strict_point(answer, UNIT), Some([0.5, 0.25]), "{answer}");
        }
        for answer in ["", "0.5", "[0.5]", "(0.5, 0.25) or (0.1, 0.1)", "[500, 250]", "y=0.25, x=0.5", "0.5 0.25 1"] {
            assert_eq!(strict_point(answer, UNIT), None, "{answer}");
        }
    }

    #[test]
    fn overlap_and_centres() {
        assert_eq!(iou(&[0.0, 0.0, 2.0, 2.0], &[1.0, 0.0, 3.0, 2.0]), Some(1.0 / 3.0));
        assert_eq!(iou(&[0.0, 0.0, 1.0, 1.0], &[2.0, 2.0, 3.0, 3.0]), Some(0.0));
        assert_eq!(iou(&[0.0; 4], &[0.0; 4]), None);
        assert!(inside(&centre(&[0.0, 0.0, 1.0, 1.0]), &[0.5, 0.5, 1.0, 1.0]));
        assert_eq!(corners("[1, 2.5, 3, 4]"), Some([1.0, 2.5, 3.0, 4.0]));
        assert_eq!(corners("[1, 2.5, 3]"), None);
        assert_eq!(
            corners(&written(&[0.1, 0.2, 0.30000000000000004, 1e-7])),
            Some([0.1, 0.2, 0.30000000000000004, 1e-7])
        );
    }
}
