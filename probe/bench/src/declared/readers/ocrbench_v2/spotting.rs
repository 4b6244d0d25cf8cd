//! Text spotting: boxes with their text, and the harmonic mean of precision and recall (end-to-end ICDAR protocol).

use super::literal::{self, Literal, int};
use crate::lmms::trimmed;
use regex::Regex;
use std::sync::LazyLock;

/// A box in thousandths of the image (left, top, right, bottom) with the text in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) corners: [i64; 4],
    pub(super) text: String,
}

/// Text of annotations that do not count.
pub(super) const IGNORED: &str = "###";

/// Characters that may be missing at the ends of an annotation.
const SPECIAL: &str = "!?.:,*\"()·[]/'";

static ITEM: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[\[\(][\s\x1c-\x1f]*([^\[\]\(\)]*?)[\s\x1c-\x1f]*[\]\)]").ok());

static QUOTED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"^[\s\x1c-\x1f]*"(.*)"[\s\x1c-\x1f]*$"#).ok());

/// Returns the boxes in an answer, without repetitions: a Python list, or every `(left, top, right, bottom, text)`.
pub(super) fn spots(answer: &str) -> Vec<Spot> {
    let mut found: Vec<Spot> = Vec::new();
    let mut add = |numbers: [Option<i64>; 4], text: &str| {
        let [Some(left), Some(top), Some(right), Some(bottom)] = numbers else { return };
        let text = text.replace('\n', "");
        let text = trimmed(&text).trim_matches('"').trim_matches('\'').to_string();
        let spot = Spot { corners: [left, top, right, bottom], text };
        if spot.corners.iter().all(|n| (0..=1000).contains(n)) && !found.contains(&spot) {
            found.push(spot);
        }
    };
    match literal::python(answer) {
        None | Some(Literal::None) => {
            let Some(pattern) = ITEM.as_ref() else { return Vec::new() };
            for item in pattern.captures_iter(answer).filter_map(|groups| groups.get(1)) {
                if let [left, top, right, bottom, text] = item.as_str().splitn(5, ',').collect::<Vec<_>>().as_slice() {
                    add([int(left), int(top), int(right), int(bottom)], text);
                }
            }
        }
        Some(value) => {
            for item in value.items().unwrap_or_default() {
                if let Some([left, top, right, bottom, text, ..]) = item.items() {
                    let whole = |value: &Literal| int(&value.text());
                    add([whole(left), whole(top), whole(right), whole(bottom)], &text.text());
                }
            }
        }
    }
    found
}

/// Returns the annotated boxes from their polygons (x and y in turn) and texts.
pub(super) fn annotated(polygons: &[Vec<i64>], texts: &[String]) -> Option<Vec<Spot>> {
    let spot = |(polygon, text): (&Vec<i64>, &String)| {
        let (xs, ys) = (polygon.iter().step_by(2), polygon.iter().skip(1).step_by(2));
        let corners = [*xs.clone().min()?, *ys.clone().min()?, *xs.max()?, *ys.max()?];
        Some(Spot { corners, text: text.clone() })
    };
    polygons.iter().zip(texts).map(spot).collect()
}

/// Returns the text as the evaluator reads it from a line of a file.
fn transcription(text: &str) -> String {
    let line = text.replace('\r', "");
    match QUOTED.as_ref().and_then(|p| p.captures(&line)).and_then(|groups| groups.get(1)) {
        Some(inner) => inner.as_str().replace("\\\\", "\\").replace("\\\"", "\""),
        None => line,
    }
}

fn area([left, top, right, bottom]: [i64; 4]) -> i64 {
    (right - left) * (bottom - top)
}

fn intersection(a: [i64; 4], b: [i64; 4]) -> i64 {
    let [width, height] = [a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1])];
    width.max(0) * height.max(0)
}

fn iou(a: [i64; 4], b: [i64; 4]) -> f64 {
    let both = intersection(a, b);
    let union = area(a) + area(b) - both;
    if union == 0 { 0.0 } else { both as f64 / union as f64 }
}

/// Returns whether a text fits an annotation, in upper case; special characters at the annotation's ends may be
/// missing.
fn fits(annotated: &str, said: &str) -> bool {
    let (annotated, said) = (annotated.to_uppercase(), said.to_uppercase());
    let special = |c: char| SPECIAL.contains(c);
    let (head, tail) = (annotated.strip_prefix(special), annotated.strip_suffix(special));
    let both = head.and(tail).map(|_| {
        let mut chars = annotated.chars();
        chars.next();
        chars.next_back();
        chars.as_str()
    });
    annotated == said || [head, tail, both].into_iter().flatten().any(|text| text == said)
}

/// Computes the harmonic mean of precision and recall. A box of the answer is right if it overlaps an annotated one
/// with an intersection over union above one half and has its text.
pub(super) fn hmean(said: &[Spot], annotated: &[Spot]) -> f64 {
    let said: Vec<Spot> = said
        .iter()
        .filter(|s| s.corners[0] < s.corners[2] && s.corners[1] < s.corners[3])
        .map(|s| Spot { corners: s.corners, text: transcription(&s.text) })
        .collect();
    let annotated: Vec<Spot> =
        annotated.iter().map(|s| Spot { corners: s.corners, text: transcription(&s.text) }).collect();
    if said.is_empty() || annotated.is_empty() {
        return 0.0;
    }
    let ignored = |spot: &&Spot| spot.text == IGNORED;
    let covers =
        |spot: &Spot, other: &Spot| intersection(spot.corners, other.corners) as f64 / area(spot.corners) as f64 > 0.5;
    let counted: Vec<&Spot> = annotated.iter().filter(|s| !ignored(s)).collect();
    let kept: Vec<&Spot> =
        said.iter().filter(|spot| !annotated.iter().filter(ignored).any(|other| covers(spot, other))).collect();
    let mut taken = vec![false; kept.len()];
    let mut right = 0.0;
    for spot in &counted {
        let free = kept.iter().zip(&taken).position(|(s, taken)| !taken && iou(spot.corners, s.corners) > 0.5);
        if let Some((at, found)) = free.and_then(|at| Some((at, kept.get(at)?))) {
            if let Some(mark) = taken.get_mut(at) {
                *mark = true;
            }
            right += f64::from(u8::from(fits(&spot.text, &found.text)));
        }
    }
    let share = |of: usize| if of == 0 { 0.0 } else { right / of as f64 };
    let (recall, precision) = (share(counted.len()), share(kept.len()));
    if recall + precision == 0.0 { 0.0 } else { 2.0 * recall * precision / (recall + precision) }
}
