//! Images of writing: a word, a number, two lines, a sign or a table.

use burgess_base::stream::Stream;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::canvas::{Background, Canvas};
use crate::grid::{CELL_SIDE, CELLS, SIZE};
use crate::text::WORDS;
use crate::{dice, palette};

/// One line of writing. The middles of its letters are [`CELL_SIDE`] pixels apart, so that no two of them lie in the
/// same cell of the ground truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextLine {
    /// One to four capitals or digits.
    pub text: String,
    /// Number of the colour of the letters, as in [`palette::COLOURS`].
    pub colour: u8,
    /// Height of a capital, in pixels.
    pub height: u8,
    /// Middle of the first letter, in pixels from the left.
    pub x: u8,
    /// Base line, in pixels from the top.
    pub base: u8,
}

impl TextLine {
    /// Draws a line at a random position within a range of rows of cells (first and last, inclusive).
    fn draw(s: &mut Stream, text: String, rows: (i32, i32), colour: impl FnOnce(&mut Stream) -> u8) -> Self {
        let height = dice::within(s, 13, 17) as u8;
        let column = dice::within(s, 0, CELLS as i32 - text.len() as i32);
        let row = dice::within(s, rows.0, rows.1);
        let pitch = i32::from(CELL_SIDE);
        let middle = |at: i32, s: &mut Stream| at * pitch + pitch / 2 + dice::within(s, -4, 4);
        let (x, y) = (middle(column, s), middle(row, s));
        // At the edges the whole height of the letters must lie inside the image.
        let y = y.clamp(i32::from(height) / 2 + 1, SIZE as i32 - i32::from(height) / 2 - 1);
        Self { text, colour: colour(s), height, x: x as u8, base: (y + i32::from(height) / 2) as u8 }
    }

    /// Returns whether the text is a number.
    pub fn is_number(&self) -> bool {
        self.text.bytes().all(|b| b.is_ascii_digit())
    }

    /// Returns each letter with its middle, in pixels from the left and from the top.
    pub fn letters(&self) -> impl Iterator<Item = (char, f32, f32)> + '_ {
        let y = f32::from(self.base) - f32::from(self.height) / 2.0;
        self.text.chars().enumerate().map(move |(i, c)| (c, f32::from(self.x) + f32::from(CELL_SIDE) * i as f32, y))
    }
}

/// The contents of an image of text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WritingScene {
    /// Background of the image.
    pub background: Background,
    /// The lines, from top to bottom.
    pub lines: Vec<TextLine>,
    /// Number of the colour of the sign behind the text, if there is one.
    pub sign: Option<u8>,
}

/// The contents of an image of a table: headers of one letter, and cells of one digit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableScene {
    /// Background of the image.
    pub background: Background,
    /// Number of the colour of letters and digits.
    pub ink: u8,
    /// Headers of the columns.
    pub columns: Vec<String>,
    /// Headers of the rows.
    pub rows: Vec<String>,
    /// Digits in the cells, row by row.
    pub cells: Vec<Vec<u8>>,
    /// Number of the colour whose tint the header row has.
    pub head: u8,
    /// Cell of the ground truth at the upper left corner of the table: column and row.
    pub at: (u8, u8),
}

/// Draws a word of [`WORDS`], in capitals.
pub fn word(s: &mut Stream) -> String {
    dice::pick(s, &WORDS).to_uppercase()
}

/// Draws a number of two to four digits.
pub fn number(s: &mut Stream) -> String {
    match dice::below(s, 3) {
        0 => dice::within(s, 10, 99),
        1 => dice::within(s, 100, 999),
        _ => dice::within(s, 1000, 9999),
    }
    .to_string()
}

impl WritingScene {
    /// Draws a word, a number, two lines or a sign.
    pub fn draw(s: &mut Stream) -> Self {
        let texts = match dice::below(s, 4) {
            0 => vec![word(s)],
            1 => vec![number(s)],
            2 => vec![word(s), word(s)],
            _ => vec![word(s), number(s)],
        };
        Self::of(s, texts)
    }

    /// Draws an image with text in every row of cells.
    pub fn full(s: &mut Stream) -> Self {
        let lines = (0..CELLS as i32)
            .map(|row| {
                let text = if dice::chance(s, 50) { word(s) } else { number(s) };
                TextLine::draw(s, text, (row, row), ink)
            })
            .collect();
        Self { background: Background::draw(s), lines, sign: None }
    }

    /// Draws an image of these one or two lines, from top to bottom.
    pub fn of(s: &mut Stream, texts: Vec<String>) -> Self {
        let two = texts.len() > 1;
        let sign = (!two && dice::chance(s, 40)).then(|| dice::below(s, 6) as u8).map(|c| if c == 2 { 6 } else { c });
        let mut lines = Vec::new();
        let cells = CELLS as i32;
        for (i, text) in texts.into_iter().enumerate() {
            let rows = match (two, i) {
                (false, _) => (0, cells - 1),
                (true, 0) => (0, cells / 2 - 1),
                (true, _) => (cells / 2 + 1, cells - 1),
            };
            lines.push(TextLine::draw(s, text, rows, |s| if sign.is_some() { 8 } else { ink(s) }));
        }
        Self { background: Background::draw(s), lines, sign }
    }

    /// Renders the image.
    pub fn render(&self) -> RgbImage {
        let mut canvas = Canvas::new(&self.background);
        for line in &self.lines {
            let height = f32::from(line.height);
            let (x, base) = (f32::from(line.x), f32::from(line.base));
            let mut colour = palette::rgb(line.colour);
            if let Some(board) = self.sign {
                let (half, width) = (f32::from(CELL_SIDE) / 2.0, f32::from(CELL_SIDE) * line.text.len() as f32);
                canvas.rect(x - half - 1.0, base - height - 4.0, width + 2.0, height + 8.0, palette::rgb(board));
                colour = [255; 3];
            }
            for (letter, x, _) in line.letters() {
                canvas.text(&letter.to_string(), x, base, height, colour);
            }
        }
        canvas.finish()
    }
}

/// Draws a colour that is dark enough for thin strokes: black in place of yellow.
pub fn ink(s: &mut Stream) -> u8 {
    let c = palette::draw(s);
    if c == 2 { 7 } else { c }
}

impl TableScene {
    /// Draws a table of two or three rows and two columns.
    pub fn draw(s: &mut Stream) -> Self {
        let n = dice::within(s, 2, 3) as usize;
        let mut rows = short_labels(s, n + 2);
        let columns = rows.split_off(n);
        let mut values: Vec<u8> = dice::sample(s, &(1..=9).collect::<Vec<u8>>(), n * 2);
        let cells = (0..n).map(|_| vec![values.pop().unwrap_or(1), values.pop().unwrap_or(2)]).collect();
        let at = (dice::below(s, CELLS - 2) as u8, dice::below(s, CELLS - n) as u8);
        Self {
            background: Background::Plain(palette::pale(s)),
            ink: 7,
            columns,
            rows,
            cells,
            head: palette::draw(s),
            at,
        }
    }

    /// Returns every letter and digit with its middle, in pixels from the left and from the top.
    pub fn glyphs(&self) -> Vec<(String, f32, f32)> {
        let (left, top) = self.corner();
        let x = |column: usize| left + f32::from(CELL_SIDE) * (column as f32 + 0.5);
        let y = |row: usize| top + f32::from(CELL_SIDE) * (row as f32 + 0.5);
        let mut out: Vec<_> = self.columns.iter().enumerate().map(|(c, l)| (l.clone(), x(c + 1), y(0))).collect();
        for (r, (label, cells)) in self.rows.iter().zip(&self.cells).enumerate() {
            out.push((label.clone(), x(0), y(r + 1)));
            out.extend(cells.iter().enumerate().map(|(c, v)| (v.to_string(), x(c + 1), y(r + 1))));
        }
        out
    }

    /// Returns the upper left corner, in pixels from the left and from the top.
    fn corner(&self) -> (f32, f32) {
        (f32::from(self.at.0 * CELL_SIDE), f32::from(self.at.1 * CELL_SIDE))
    }

    /// Renders the image.
    pub fn render(&self) -> RgbImage {
        let mut canvas = Canvas::new(&self.background);
        let (left, top) = self.corner();
        let (pitch, rows) = (f32::from(CELL_SIDE), self.rows.len() + 1);
        let (wide, high) = (pitch * 3.0, pitch * rows as f32);
        let tint = palette::mix(palette::rgb(self.head), [255; 3], 0.7);
        canvas.rect(left, top, wide, pitch, tint);
        let (grid, ink) = ([90, 90, 95], palette::rgb(self.ink));
        // Where the table reaches the edge of the image, half of the line's width lies outside.
        for r in 0..=rows {
            let y = top + pitch * r as f32;
            canvas.line((left, y), (left + wide, y), 1.0, grid);
        }
        for c in 0..=3 {
            let x = left + pitch * c as f32;
            canvas.line((x, top), (x, top + high), 1.0, grid);
        }
        for (glyph, x, y) in self.glyphs() {
            canvas.text(&glyph, x, y + 7.5, 15.0, ink);
        }
        canvas.finish()
    }
}

/// Labels of charts and tables; none of them is a letter of answer options (A to D).
pub const LABELS: [&str; 12] = ["F", "H", "K", "L", "M", "P", "R", "S", "T", "V", "X", "Z"];

/// Draws `k` different labels.
pub fn short_labels(s: &mut Stream, k: usize) -> Vec<String> {
    dice::sample(s, &LABELS, k).into_iter().map(str::to_string).collect()
}
