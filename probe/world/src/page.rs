//! Pictures of writing: a word, a number, two lines, a sign, a table.

use burgess_base::stream::Stream;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::canvas::{Anchor, Background, Canvas};
use crate::text::{self, WORDS};
use crate::{SIZE, dice, palette};

/// One line of writing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub text: String,
    pub colour: u8,
    /// Height of a capital in pixels.
    pub height: u8,
    /// Middle of the line.
    pub x: u8,
    /// Base line.
    pub base: u8,
}

impl Line {
    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        self.text.bytes().all(|b| b.is_ascii_digit())
    }
}

/// One line or two, the upper first; `sign` is the colour of a board behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Writing {
    pub background: Background,
    pub lines: Vec<Line>,
    pub sign: Option<u8>,
}

/// A small table; the first row and column hold labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub background: Background,
    pub ink: u8,
    pub columns: Vec<String>,
    pub rows: Vec<String>,
    /// Row by row.
    pub cells: Vec<Vec<u8>>,
    /// Tint of the head row.
    pub head: u8,
}

/// A word to be read, in small letters or capitals.
pub fn word(s: &mut Stream) -> String {
    let word = (*dice::pick(s, &WORDS)).to_string();
    if dice::chance(s, 50) { word.to_uppercase() } else { word }
}

/// A number of one to four digits without leading zero.
pub fn number(s: &mut Stream) -> String {
    match dice::below(s, 3) {
        0 => dice::within(s, 10, 99),
        1 => dice::within(s, 100, 999),
        _ => dice::within(s, 1000, 9999),
    }
    .to_string()
}

impl Writing {
    /// A word, a number, two lines or a sign.
    pub fn draw(s: &mut Stream) -> Self {
        let texts = match dice::below(s, 4) {
            0 => vec![word(s)],
            1 => vec![number(s)],
            2 => vec![word(s), word(s)],
            _ => vec![word(s), number(s)],
        };
        Self::of(s, texts)
    }

    /// These lines, in any order they are given.
    pub fn of(s: &mut Stream, texts: Vec<String>) -> Self {
        let two = texts.len() > 1;
        let sign = (!two && dice::chance(s, 40)).then(|| dice::below(s, 6) as u8).map(|c| if c == 2 { 6 } else { c });
        let mut lines = Vec::new();
        for (i, text) in texts.into_iter().enumerate() {
            let most = (80.0 / text::width(&text, 1.0)).min(if two { 24.0 } else { 30.0 });
            let height = dice::within(s, 12, most as i32) as u8;
            let half = (text::width(&text, f32::from(height)) / 2.0).ceil() as i32 + 6;
            let x = dice::within(s, half, SIZE as i32 - half) as u8;
            let (top, bottom) = if !two {
                (6, 88)
            } else if i == 0 {
                (6, 43)
            } else {
                (54, 91)
            };
            let base = dice::within(s, top + i32::from(height) + 2, bottom - 6) as u8;
            let colour = if sign.is_some() { 8 } else { ink(s) };
            lines.push(Line { text, colour, height, x, base });
        }
        Self { background: Background::draw(s), lines, sign }
    }

    /// The picture.
    pub fn render(&self) -> RgbImage {
        let mut canvas = Canvas::new(&self.background);
        for line in &self.lines {
            let height = f32::from(line.height);
            let (x, base) = (f32::from(line.x), f32::from(line.base));
            let mut colour = palette::rgb(line.colour);
            if let Some(board) = self.sign {
                let half = text::width(&line.text, height) / 2.0 + 5.0;
                canvas.rect(x - half, base - height - 6.0, half * 2.0, height + 12.0, palette::rgb(board));
                colour = [255; 3];
            }
            canvas.text(&line.text, x, base, height, Anchor::Middle, colour);
        }
        canvas.finish()
    }
}

/// A colour dark enough for thin strokes: anything but yellow.
pub fn ink(s: &mut Stream) -> u8 {
    let c = palette::draw(s);
    if c == 2 { 7 } else { c }
}

impl Table {
    /// Two or three rows, two columns of numbers.
    pub fn draw(s: &mut Stream) -> Self {
        let rows = short_labels(s, 2);
        let n = dice::within(s, 2, 3) as usize;
        let columns = rows[..2].to_vec();
        let rows = short_labels(s, n + 2).into_iter().filter(|r| !columns.contains(r)).take(n).collect::<Vec<_>>();
        let mut values: Vec<u8> = dice::sample(s, &(1..=99).collect::<Vec<u8>>(), rows.len() * 2);
        let cells = (0..rows.len()).map(|_| vec![values.pop().unwrap_or(1), values.pop().unwrap_or(2)]).collect();
        Self { background: Background::Plain(palette::pale(s)), ink: 7, columns, rows, cells, head: palette::draw(s) }
    }

    /// The picture.
    pub fn render(&self) -> RgbImage {
        let mut canvas = Canvas::new(&self.background);
        let (left, top, width) = (4.0, 6.0, 88.0);
        let high = 84.0 / (self.rows.len() + 1) as f32;
        let (first, other) = (width * 0.38, width * 0.31);
        let tint = palette::mix(palette::rgb(self.head), [255; 3], 0.7);
        canvas.rect(left, top, width, high, tint);
        let grid = [90, 90, 95];
        let ink = palette::rgb(self.ink);
        for r in 0..=self.rows.len() + 1 {
            let y = top + high * r as f32;
            canvas.line((left, y), (left + width, y), 1.0, grid);
        }
        for x in [left, left + first, left + first + other, left + width] {
            canvas.line((x, top), (x, top + 84.0), 1.0, grid);
        }
        let base = |r: usize| top + high * r as f32 + high / 2.0 + 4.5;
        for (c, label) in self.columns.iter().enumerate() {
            canvas.text(label, left + first + other * (c as f32 + 0.5), base(0), 8.5, Anchor::Middle, ink);
        }
        for (r, label) in self.rows.iter().enumerate() {
            canvas.text(label, left + first / 2.0, base(r + 1), 8.5, Anchor::Middle, ink);
            for (c, value) in self.cells.get(r).into_iter().flatten().enumerate() {
                canvas.text(
                    &value.to_string(),
                    left + first + other * (c as f32 + 0.5),
                    base(r + 1),
                    9.5,
                    Anchor::Middle,
                    ink,
                );
            }
        }
        canvas.finish()
    }
}

/// Labels of charts and tables: three letters each, none so wide that four would not fit under an axis.
pub const LABELS: [&str; 24] = [
    "ant", "bat", "bus", "cap", "car", "cat", "cup", "fan", "fox", "hat", "ice", "ink", "jar", "jet", "key", "leg",
    "net", "nut", "oil", "pie", "pig", "sun", "tea", "van",
];

/// `k` different labels.
pub fn short_labels(s: &mut Stream, k: usize) -> Vec<String> {
    dice::sample(s, &LABELS, k).into_iter().map(str::to_string).collect()
}
