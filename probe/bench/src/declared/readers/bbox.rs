//! Reads boxes and points, and compares them with the right box.
//!
//! The right answer is a box, `[left, top, right, bottom]`, in fractions of the image or, where the question has the
//! facts `width` and `height`, in pixels. It is kept as the fact `box`, in fractions, and as the right answer in the
//! coordinates that answers have.

use super::AnswerReader;
use crate::boxes::{self, Coordinates, Corners, Point};
use crate::card::AnswerForm;
use crate::declared::format::AnswerTable;
use crate::question::Question;
use crate::score::AnswerScore;
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};

/// The reader `bbox`: intersection over union of the box in the answer and the right one.
pub(super) struct Bbox;

/// The reader `point`: whether the point in the answer is in the right box.
pub(super) struct PointInBox;

/// The fact that holds the right box in fractions of the image.
const BOX: &str = "box";

/// Keeps the right box in fractions, and writes the right answer in the coordinates of answers.
fn complete_box(table: &AnswerTable, q: &mut Question) {
    let (Some(corners), Some([x, y])) = (right(q), coordinates(table).scale(size(q))) else { return };
    q.facts.insert(BOX.into(), boxes::written(&corners));
    q.answer = boxes::written(&[corners[0] * x, corners[1] * y, corners[2] * x, corners[3] * y]);
}

/// Returns width and height of the image in pixels, if the question states them.
fn size(q: &Question) -> Option<Point> {
    let of = |name| q.fact(name).parse().ok().filter(|pixels| *pixels > 0.0);
    Some([of("width")?, of("height")?])
}

/// Returns the right box in fractions of the image.
fn right(q: &Question) -> Option<Corners> {
    if let Some(known) = boxes::corners(q.fact(BOX)) {
        return Some(known);
    }
    let [left, top, right, bottom] = boxes::corners(&q.answer)?;
    let [width, height] = size(q).unwrap_or([1.0, 1.0]);
    Some([left / width, top / height, right / width, bottom / height])
}

/// Returns the box as lmms-eval stores it, in single precision.
fn rounded(corners: Corners) -> Corners {
    corners.map(|value| f64::from(value as f32))
}

fn coordinates(table: &AnswerTable) -> Coordinates {
    table.coordinates.as_deref().and_then(Coordinates::parse).unwrap_or(Coordinates::Unit)
}

/// Checks the key `coordinates`, and that the right answer is a box.
fn check_table(table: &AnswerTable) -> Result<()> {
    match &table.coordinates {
        Some(name) if Coordinates::parse(name).is_none() => {
            Err(Error::usage(format!("no convention of coordinates is called `{name}`"))
                .hint(format!("the conventions are {}", Coordinates::NAMES.join(", "))))
        }
        _ => Ok(()),
    }
}

fn check_box(table: &AnswerTable, q: &Question) -> Result<()> {
    if boxes::corners(&q.answer).is_none() {
        let message = format!("the right answer {:?} is not a box of four numbers", excerpt(&q.answer, 60));
        return Err(Error::failed(message).hint("a box is [left, top, right, bottom]"));
    }
    let box_of = right(q).filter(|c| c[0] < c[2] && c[1] < c[3] && c.iter().all(|v| (-0.01..=1.01).contains(v)));
    if box_of.is_none() {
        let message = format!("the right box {} is empty or not within the image", excerpt(&q.answer, 60));
        return Err(Error::failed(message).hint(
            "boxes in pixels need the size of the image: set `image_size = true` in [columns], or give the facts \
                `width` and `height`",
        ));
    }
    if coordinates(table) == Coordinates::Pixels && size(q).is_none() {
        return Err(Error::failed("answers are in pixels, but the size of the image is not known")
            .hint("set `image_size = true` in [columns], or give the facts `width` and `height`"));
    }
    Ok(())
}

fn convention(table: &AnswerTable) -> &'static str {
    match coordinates(table) {
        Coordinates::Unit => "fractions of the image (0 to 1)",
        Coordinates::Thousand => "thousandths of the image (0 to 1000)",
        Coordinates::Pixels => "pixels",
    }
}

/// Returns the box in an answer by the rules of the table.
fn read_box(table: &AnswerTable, q: &Question, answer: &str) -> Option<Corners> {
    match table.by.as_deref() {
        Some("lmms-eval") => boxes::lmms::first_box(answer),
        _ => boxes::strict_box(answer, coordinates(table).scale(size(q))?),
    }
}

impl AnswerReader for Bbox {
    fn name(&self) -> &'static str {
        "bbox"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn variants(&self) -> &'static [&'static str] {
        &["strict", "lmms-eval"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["threshold", "coordinates"]
    }

    fn check(&self, table: &AnswerTable) -> Result<()> {
        check_table(table)
    }

    fn check_question(&self, table: &AnswerTable, q: &Question) -> Result<()> {
        check_box(table, q)
    }

    fn complete(&self, table: &AnswerTable, q: &mut Question) {
        complete_box(table, q);
    }

    fn describe(&self, table: &AnswerTable) -> String {
        let read = match table.by.as_deref() {
            Some("lmms-eval") => {
                "The first four numbers in square brackets, with commas between them, are the box in fractions of the \
                    image; if there are none, the box is [0, 0, 0, 0]."
                    .to_string()
            }
            _ => format!(
                "The answer must name one box in {}: left, top, right, bottom in brackets, two corners in brackets, or \
                    four numbers alone. Several different boxes, corners in the wrong order and boxes outside the \
                    image are unparsed.",
                convention(table)
            ),
        };
        match table.threshold {
            Some(least) => {
                format!("{read} It is right if its intersection over union with the right box is at least {least}.")
            }
            None => format!("{read} The score is the intersection over union with the right box."),
        }
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let Some(said) = read_box(table, q, answer) else { return AnswerScore::unparsed() };
        let parsed = Some(boxes::written(&said));
        let measure = match table.threshold {
            Some(least) => format!("iou {least}"),
            None => "iou".into(),
        };
        let judged = AnswerScore { parsed, score: 0.0 };
        let score = self.measure(table, q, &judged, &measure).unwrap_or(0.0);
        AnswerScore { score, ..judged }
    }

    fn measures(&self) -> &'static [&'static str] {
        &["iou", "centre"]
    }

    fn measure(&self, table: &AnswerTable, q: &Question, judged: &AnswerScore, name: &str) -> Option<f64> {
        let as_lmms = table.by.as_deref() == Some("lmms-eval");
        let right = if as_lmms { rounded(right(q)?) } else { right(q)? };
        let said = judged.parsed.as_deref().and_then(boxes::corners);
        // lmms-eval scores an answer without a box as an empty box at the corner of the image.
        let said = if as_lmms { Some(said.unwrap_or([0.0; 4])) } else { said };
        let overlap = said.and_then(|said| boxes::iou(&right, &said)).unwrap_or(0.0);
        match name.split_once(' ') {
            None if name == "iou" => Some(overlap.clamp(0.0, 1.0)),
            None if name == "centre" => {
                Some(f64::from(u8::from(said.is_some_and(|said| boxes::inside(&boxes::centre(&said), &right)))))
            }
            Some(("iou", least)) => {
                let least: f64 = least.parse().ok().filter(|least| (0.0..=1.0).contains(least))?;
                Some(f64::from(u8::from(overlap >= least)))
            }
            _ => None,
        }
    }
}

impl AnswerReader for PointInBox {
    fn name(&self) -> &'static str {
        "point"
    }

    fn form(&self) -> AnswerForm {
        AnswerForm::Open
    }

    fn variants(&self) -> &'static [&'static str] {
        &["strict", "seeclick", "lmms-eval"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["coordinates"]
    }

    fn check(&self, table: &AnswerTable) -> Result<()> {
        check_table(table)
    }

    fn check_question(&self, table: &AnswerTable, q: &Question) -> Result<()> {
        check_box(table, q)
    }

    fn complete(&self, table: &AnswerTable, q: &mut Question) {
        complete_box(table, q);
    }

    fn describe(&self, table: &AnswerTable) -> String {
        let read = match table.by.as_deref() {
            Some("seeclick") => {
                "The only two numbers in the answer are the point, in fractions of the image; of four numbers it is \
                    the centre of the box. An answer that contains the word box must have the form \
                    <box>(left,top),(right,bottom)</box> in thousandths. Anything else is unparsed."
                    .to_string()
            }
            Some("lmms-eval") => {
                "The point is the centre of four numbers in <bbox> tags, the first two numbers in brackets, those \
                    after x and y, the centre of the first four numbers if the answer contains box or rect, or else \
                    the first two numbers; numbers may be percentages."
                    .to_string()
            }
            _ => format!(
                "The answer must name one point in {}: x and y in brackets, x=… and y=…, two numbers alone, or \
                    one box, \
                    whose centre is taken. Several different points and points outside the image are unparsed.",
                convention(table)
            ),
        };
        format!("{read} It is right if it is in the right box or on its edge.")
    }

    fn verdict(&self, table: &AnswerTable, q: &Question, answer: &str) -> AnswerScore {
        let said = match table.by.as_deref() {
            Some("seeclick") => boxes::seeclick::point(answer),
            Some("lmms-eval") => boxes::lmms::point(answer),
            _ => coordinates(table).scale(size(q)).and_then(|scale| boxes::strict_point(answer, scale)),
        };
        match said {
            Some(said) => {
                let hit = right(q).is_some_and(|right| boxes::inside(&said, &right));
                AnswerScore::new(boxes::written(&said), hit)
            }
            None => AnswerScore::unparsed(),
        }
    }
}
