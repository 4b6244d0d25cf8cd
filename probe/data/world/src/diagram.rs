//! Small diagrams: things with letters below them, and chains with arrows.

use burgess_base::stream::Stream;
use image::RgbImage;
use resvg::tiny_skia::Transform;
use serde::{Deserialize, Serialize};

use crate::canvas::{Background, Canvas, Texture};
use crate::facts::pictograms;
use crate::grid::CELL_SIDE;
use crate::icons::outline;
use crate::{dice, palette};

/// How the things are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiagramLayout {
    /// Letters beside things, no arrows.
    Labelled,
    /// Three round a corner, joined by arrows.
    Chain {
        /// Arrows run from the last to the first.
        reversed: bool,
        /// Which of the eight ways to lay the corner: bit 0 mirrors it left to right, bit 1 upside down, bit 2 exchanges
        /// rows and columns.
        way: u8,
        /// Cells by which all of it is moved: right and down.
        at: (u8, u8),
    },
}

impl DiagramLayout {
    /// A chain laid any way.
    pub fn chain(s: &mut Stream) -> Self {
        let at = (dice::below(s, 2) as u8, dice::below(s, 2) as u8);
        Self::Chain { reversed: dice::chance(s, 50), way: dice::below(s, 8) as u8, at }
    }
}

/// Pixels from the middle of a thing down to the middle of its letter.
const LETTER: f32 = 24.0;

/// Letters that label things; far from the A to D of answer options.
pub const LETTERS: [char; 10] = ['F', 'H', 'K', 'L', 'M', 'P', 'R', 'T', 'W', 'X'];

/// A whole diagram. `things` are different pictograms in the order of their places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagramScene {
    pub background: Background,
    pub layout: DiagramLayout,
    pub things: Vec<u16>,
    pub colours: Vec<u8>,
    /// One a thing, all different; empty unless labelled.
    pub letters: Vec<char>,
    /// How far each place is moved, in pixels right and down.
    pub shift: Vec<(i8, i8)>,
}

impl DiagramScene {
    /// Any diagram.
    pub fn draw(s: &mut Stream) -> Self {
        let chain = dice::chance(s, 50);
        let layout = if chain { DiagramLayout::chain(s) } else { DiagramLayout::Labelled };
        Self::of(s, layout)
    }

    /// A diagram of one layout.
    pub fn of(s: &mut Stream, layout: DiagramLayout) -> Self {
        let n = match layout {
            DiagramLayout::Chain { .. } => 3,
            _ => 4,
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

    /// The thing that the arrow from `index` leads to.
    pub fn next(&self, index: usize) -> Option<usize> {
        let n = self.things.len();
        match self.layout {
            DiagramLayout::Labelled => None,
            DiagramLayout::Chain { reversed: false, .. } => (index + 1 < n).then_some(index + 1),
            DiagramLayout::Chain { reversed: true, .. } => index.checked_sub(1),
        }
    }

    /// The thing whose arrow leads to `index`.
    pub fn before(&self, index: usize) -> Option<usize> {
        (0..self.things.len()).find(|&i| self.next(i) == Some(index))
    }

    /// Each letter with its middle: pixels from the left and from the top.
    pub fn letters_at(&self) -> impl Iterator<Item = (char, f32, f32)> + '_ {
        self.letters.iter().enumerate().map(|(i, &letter)| {
            let (x, y, _) = self.spot(i);
            (letter, x, y + LETTER)
        })
    }

    /// Each arrow's middle and where it points.
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

    /// Middle of a thing in pixels from the left and from the top, and its longer side.
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

    /// The thing at a point of the image, taken as a square.
    pub fn at(&self, x: f32, y: f32) -> Option<usize> {
        (0..self.things.len()).find(|&i| {
            let (cx, cy, size) = self.spot(i);
            (x - cx).abs() <= size / 2.0 && (y - cy).abs() <= size / 2.0
        })
    }

    /// The image.
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
