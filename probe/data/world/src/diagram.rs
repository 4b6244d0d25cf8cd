//! Small diagrams: things with letters below them, or a chain of things with arrows.

use burgess_base::stream::Stream;
use image::RgbImage;
use resvg::tiny_skia::Transform;
use serde::{Deserialize, Serialize};

use crate::canvas::{Background, Canvas, Texture};
use crate::facts::pictograms;
use crate::grid::CELL_SIDE;
use crate::icons::outline;
use crate::{dice, palette};

/// The arrangement of the things in a diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiagramLayout {
    /// Four things with letters, without arrows.
    Labelled,
    /// Three things around a corner, joined by arrows.
    Chain {
        /// Whether the arrows run from the last thing to the first.
        reversed: bool,
        /// Orientation of the corner, 0 to 7: bit 0 mirrors it horizontally, bit 1 vertically, bit 2 exchanges rows and
        /// columns.
        way: u8,
        /// Offset of the whole chain in cells, to the right and down, 0 or 1 each.
        at: (u8, u8),
    },
}

impl DiagramLayout {
    /// Draws a chain of random orientation, direction and offset.
    pub fn chain(s: &mut Stream) -> Self {
        let at = (dice::below(s, 2) as u8, dice::below(s, 2) as u8);
        Self::Chain { reversed: dice::chance(s, 50), way: dice::below(s, 8) as u8, at }
    }
}

/// Distance in pixels from the middle of a thing down to the middle of its letter.
const LETTER: f32 = 24.0;

/// Letters that label things; none of them is a letter of answer options (A to D).
pub const LETTERS: [char; 10] = ['F', 'H', 'K', 'L', 'M', 'P', 'R', 'T', 'W', 'X'];

/// The contents of a diagram image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagramScene {
    /// Background of the image.
    pub background: Background,
    /// Arrangement of the things.
    pub layout: DiagramLayout,
    /// Numbers of the pictograms, all different, in the order of their positions.
    pub things: Vec<u16>,
    /// Numbers of the colours, one per thing.
    pub colours: Vec<u8>,
    /// One letter per thing, all different; empty for chains.
    pub letters: Vec<char>,
    /// Random displacement of each thing in pixels, to the right and down.
    pub shift: Vec<(i8, i8)>,
}

impl DiagramScene {
    /// Draws a random diagram.
    pub fn draw(s: &mut Stream) -> Self {
        let chain = dice::chance(s, 50);
        let layout = if chain { DiagramLayout::chain(s) } else { DiagramLayout::Labelled };
        Self::of(s, layout)
    }

    /// Draws a random diagram with the given layout.
    pub fn of(s: &mut Stream, layout: DiagramLayout) -> Self {
        let n = match layout {
            DiagramLayout::Chain { .. } => 3,
            DiagramLayout::Labelled => 4,
        };
        let all: Vec<u16> = (0..pictograms() as u16).collect();
        let things = dice::sample(s, &all, n);
        let colours = things.iter().map(|_| palette::draw(s)).collect();
        let letters = if layout == DiagramLayout::Labelled { dice::sample(s, &LETTERS, n) } else { Vec::new() };
        let labelled = layout == DiagramLayout::Labelled;
        let shift = things
            .iter()
            .map(|_| {
                let column = if labelled && dice::chance(s, 50) { CELL_SIDE as i8 } else { 0 };
                (column + dice::within(s, -3, 3) as i8, dice::within(s, -3, 3) as i8)
            })
            .collect();
        Self { background: Background::Plain(palette::pale(s)), layout, things, colours, letters, shift }
    }

    /// Returns the index of the thing that the arrow from thing `index` points to.
    pub fn next(&self, index: usize) -> Option<usize> {
        let n = self.things.len();
        match self.layout {
            DiagramLayout::Labelled => None,
            DiagramLayout::Chain { reversed: false, .. } => (index + 1 < n).then_some(index + 1),
            DiagramLayout::Chain { reversed: true, .. } => index.checked_sub(1),
        }
    }

    /// Returns the index of the thing whose arrow points to thing `index`.
    pub fn before(&self, index: usize) -> Option<usize> {
        (0..self.things.len()).find(|&i| self.next(i) == Some(index))
    }

    /// Returns each letter with its middle, in pixels from the left and from the top.
    pub fn letters_at(&self) -> impl Iterator<Item = (char, f32, f32)> + '_ {
        self.letters.iter().enumerate().map(|(i, &letter)| {
            let (x, y, _) = self.spot(i);
            (letter, x, y + LETTER)
        })
    }

    /// Returns the middle of each arrow in pixels, and its direction: "left", "right", "up" or "down".
    pub fn arrows(&self) -> impl Iterator<Item = (f32, f32, &'static str)> + '_ {
        (0..self.things.len()).filter_map(|i| {
            let ((x, y, _), (tx, ty, _)) = (self.spot(i), self.spot(self.next(i)?));
            let way = if (tx - x).abs() > (ty - y).abs() {
                ["left", "right"][usize::from(tx > x)]
            } else {
                ["up", "down"][usize::from(ty > y)]
            };
            Some(((x + tx) / 2.0, (y + ty) / 2.0, way))
        })
    }

    /// Returns the middle of a thing in pixels from the left and from the top, and the length of its longer side.
    pub fn spot(&self, index: usize) -> (f32, f32, f32) {
        let (dx, dy) = self.shift.get(index).map_or((0.0, 0.0), |&(x, y)| (f32::from(x), f32::from(y)));
        match self.layout {
            DiagramLayout::Labelled => {
                let (x, y) = [(12.0, 13.0), (60.0, 13.0), (12.0, 61.0), (60.0, 61.0)][index % 4];
                (x + dx, y + dy * 0.5, 23.0)
            }
            DiagramLayout::Chain { way, at, .. } => {
                let (mut column, mut row) = [(0, 0), (2, 0), (2, 2)][index % 3];
                if way & 4 != 0 {
                    (column, row) = (row, column);
                }
                if way & 1 != 0 {
                    column = 2 - column;
                }
                if way & 2 != 0 {
                    row = 2 - row;
                }
                let middle = |cell: u8| (f32::from(cell) + 0.5) * f32::from(CELL_SIDE);
                (middle(column + at.0) + dx * 0.5, middle(row + at.1) + dy * 0.5, 23.0)
            }
        }
    }

    /// Returns the index of the thing whose bounding square contains a point of the image.
    pub fn at(&self, x: f32, y: f32) -> Option<usize> {
        (0..self.things.len()).find(|&i| {
            let (cx, cy, size) = self.spot(i);
            (x - cx).abs() <= size / 2.0 && (y - cy).abs() <= size / 2.0
        })
    }

    /// Renders the image.
    pub fn render(&self) -> RgbImage {
        let mut canvas = Canvas::new(&self.background);
        let ink = [30, 30, 35];
        for (i, (&thing, &colour)) in self.things.iter().zip(&self.colours).enumerate() {
            let (x, y, size) = self.spot(i);
            for (path, rule) in &outline(thing).parts {
                canvas.fill(
                    path,
                    *rule,
                    Transform::from_row(size, 0.0, 0.0, size, x, y),
                    palette::rgb(colour),
                    Texture::Plain,
                );
            }
            if let Some(letter) = self.letters.get(i) {
                canvas.text(&letter.to_string(), x, y + LETTER + 7.0, 14.0, ink);
            }
            if let Some(to) = self.next(i) {
                let (tx, ty, _) = self.spot(to);
                let (dx, dy) = (tx - x, ty - y);
                let length = dx.hypot(dy).max(1.0);
                let gap = 14.0 / length;
                let part = |t: f32| (x + dx * t, y + dy * t);
                canvas.arrow(part(gap), part(1.0 - gap), 2.4, ink);
            }
        }
        canvas.finish()
    }
}
