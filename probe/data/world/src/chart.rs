//! Bar, line and pie charts of small integers, on grid lines.

use std::f32::consts::PI;

use burgess_base::stream::Stream;
use image::RgbImage;
use resvg::tiny_skia::PathBuilder;
use serde::{Deserialize, Serialize};

use crate::canvas::{Background, Canvas};
use crate::grid::{CELL_SIDE, CELLS, cell_middle};
use crate::page::short_labels;
use crate::{dice, palette};

/// The type of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChartKind {
    /// Values as bars.
    Bar,
    /// Line chart with a point per value.
    Line,
    /// Values as slices of a circle.
    Pie,
}

impl ChartKind {
    /// Returns "bar chart", "line chart" or "pie chart".
    pub fn name(self) -> &'static str {
        match self {
            Self::Bar => "bar chart",
            Self::Line => "line chart",
            Self::Pie => "pie chart",
        }
    }

    /// Returns the name of the mark that shows one value: "bar", "point" or "slice".
    pub fn mark(self) -> &'static str {
        match self {
            Self::Bar => "bar",
            Self::Line => "point",
            Self::Pie => "slice",
        }
    }
}

/// The highest value of a chart, and of the vertical axis.
pub const TOP: u8 = 8;

/// The contents of a chart image. A pie has label and value written into each slice; bars and points have their labels
/// below the axis and show their values by height.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChartScene {
    /// Type of the chart.
    pub kind: ChartKind,
    /// Background of the image.
    pub background: Background,
    /// One label per value, all different.
    pub labels: Vec<String>,
    /// The values, 1 to [`TOP`], all different.
    pub values: Vec<u8>,
    /// One colour number per bar or slice; a single one for line charts.
    pub colours: Vec<u8>,
}

impl ChartScene {
    /// Draws a random chart of three or four values.
    pub fn draw(s: &mut Stream) -> Self {
        let kind = match dice::below(s, 10) {
            0..=4 => ChartKind::Bar,
            5..=6 => ChartKind::Line,
            _ => ChartKind::Pie,
        };
        Self::of(s, kind)
    }

    /// Draws a random chart of the given type.
    pub fn of(s: &mut Stream, kind: ChartKind) -> Self {
        let n = dice::within(s, 3, 4) as usize;
        let mut colours = palette::draw_different(s, n);
        if kind == ChartKind::Line {
            colours.truncate(1);
        } else if kind == ChartKind::Bar && dice::chance(s, 40) {
            colours = vec![colours[0]; n];
        }
        let background = Background::Plain(palette::pale(s));
        let labels = short_labels(s, n);
        let values = loop {
            let values = dice::sample(s, &(1..=TOP).collect::<Vec<_>>(), n);
            let total: u32 = values.iter().map(|v| u32::from(*v)).sum();
            // A slice of less than one eighth has no room for its label.
            if kind != ChartKind::Pie || values.iter().all(|v| u32::from(*v) * 8 >= total) {
                break values;
            }
        };
        Self { kind, background, labels, values, colours }
    }

    /// Returns the position of each mark in pixels from the left and from the top: the middle of a bar's upper end, a
    /// point, or the middle of the text in a slice.
    pub fn marks(&self) -> Vec<(f32, f32)> {
        let n = self.values.len();
        if self.kind == ChartKind::Pie {
            let total = self.values.iter().map(|v| f32::from(*v)).sum::<f32>().max(1.0);
            let mut from = -PI / 2.0;
            return self
                .values
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    let angle = from + PI * f32::from(*v) / total;
                    from += 2.0 * PI * f32::from(*v) / total;
                    let ideal = (PIE.0 + PIE.2 * 0.64 * angle.cos(), PIE.1 + PIE.2 * 0.64 * angle.sin());
                    self.middle_near(i, ideal)
                })
                .collect();
        }
        self.values.iter().enumerate().map(|(i, v)| (column(i, n), height(f32::from(*v)))).collect()
    }

    /// Returns the middle of the cell nearest to a point, among the cells whose middles lie in slice `i`, or the point
    /// itself if there is none. The text of a slice therefore never crosses a border between cells.
    fn middle_near(&self, i: usize, (x, y): (f32, f32)) -> (f32, f32) {
        (0..CELLS * CELLS)
            .map(cell_middle)
            .filter(|&(x, y)| self.slice_at(x, y) == Some(i))
            .min_by(|a, b| (a.0 - x).hypot(a.1 - y).total_cmp(&(b.0 - x).hypot(b.1 - y)))
            .unwrap_or((x, y))
    }

    /// Returns the middle of each label below the axis, in pixels; empty for pies.
    pub fn labels_at(&self) -> Vec<(f32, f32)> {
        let n = if self.kind == ChartKind::Pie { 0 } else { self.values.len() };
        (0..n).map(|i| (column(i, n), 84.0)).collect()
    }

    /// Returns the width of a bar in pixels.
    pub fn bar_width(&self) -> f32 {
        f32::from(CELL_SIDE) * 0.64
    }

    /// Returns the index of the slice at a point of the image; `None` outside of the pie and in other charts.
    pub fn slice_at(&self, x: f32, y: f32) -> Option<usize> {
        let (dx, dy) = (x - PIE.0, y - PIE.1);
        if self.kind != ChartKind::Pie || dx.hypot(dy) > PIE.2 {
            return None;
        }
        let total: f32 = self.values.iter().map(|v| f32::from(*v)).sum();
        let share = (dy.atan2(dx) + PI / 2.0).rem_euclid(2.0 * PI) / (2.0 * PI) * total;
        let mut end = 0.0;
        self.values.iter().position(|v| {
            end += f32::from(*v);
            share < end
        })
    }

    /// Returns the index of the largest value.
    pub fn largest(&self) -> usize {
        (0..self.values.len()).max_by_key(|&i| self.values[i]).unwrap_or(0)
    }

    /// Returns the index of the smallest value.
    pub fn smallest(&self) -> usize {
        (0..self.values.len()).min_by_key(|&i| self.values[i]).unwrap_or(0)
    }

    /// Returns whether each mark has its own colour.
    pub fn coloured(&self) -> bool {
        self.colours.len() == self.values.len() && self.colours.windows(2).all(|w| w[0] != w[1])
    }

    /// Renders the image.
    pub fn render(&self) -> RgbImage {
        let mut canvas = Canvas::new(&self.background);
        if self.kind == ChartKind::Pie {
            self.pie(&mut canvas)
        } else {
            self.axes(&mut canvas)
        }
        canvas.finish()
    }

    fn pie(&self, canvas: &mut Canvas) {
        let (cx, cy, r) = PIE;
        let total = self.values.iter().map(|v| f32::from(*v)).sum::<f32>().max(1.0);
        let mut from = -PI / 2.0;
        for (i, value) in self.values.iter().enumerate() {
            let to = from + 2.0 * PI * f32::from(*value) / total;
            let mut b = PathBuilder::new();
            b.move_to(cx, cy);
            let steps = 48;
            for k in 0..=steps {
                let a = from + (to - from) * k as f32 / steps as f32;
                b.line_to(cx + r * a.cos(), cy + r * a.sin());
            }
            b.close();
            if let Some(path) = b.finish() {
                canvas.shape(&path, palette::rgb(self.colours[i]));
                canvas.stroke(&path, 1.2, [255; 3]);
            }
            from = to;
        }
        for (i, (x, y)) in self.marks().into_iter().enumerate() {
            let ink = if matches!(self.colours[i], 1 | 2) { [0; 3] } else { [255; 3] };
            canvas.text(&format!("{}{}", self.labels[i], self.values[i]), x, y + 5.5, 11.0, ink);
        }
    }

    fn axes(&self, canvas: &mut Canvas) {
        let ink = [30, 30, 35];
        let left = column(0, self.values.len()) - f32::from(CELL_SIDE) / 2.0 + 0.6;
        for tick in 1..=TOP {
            let y = height(f32::from(tick));
            canvas.line((left, y), (RIGHT, y), 0.7, if tick % 2 == 0 { [150; 3] } else { [200; 3] });
        }
        let marks = self.marks();
        for (i, &at) in marks.iter().enumerate() {
            match self.kind {
                ChartKind::Line => {
                    let colour = palette::rgb(self.colours[0]);
                    if let Some(&next) = marks.get(i + 1) {
                        canvas.line(at, next, 2.0, colour);
                    }
                    canvas.disc(at.0, at.1, 4.0, colour);
                }
                _ => {
                    let wide = self.bar_width();
                    canvas.rect(at.0 - wide / 2.0, at.1, wide, FLOOR - at.1, palette::rgb(self.colours[i]));
                }
            }
        }
        for (label, (x, y)) in self.labels.iter().zip(self.labels_at()) {
            canvas.text(label, x, y + 7.5, 15.0, ink);
        }
        canvas.line((left, height(f32::from(TOP))), (left, FLOOR), 1.2, ink);
        canvas.line((left, FLOOR), (RIGHT, FLOOR), 1.2, ink);
    }
}

/// Right end of the horizontal axis, in pixels from the left.
const RIGHT: f32 = 96.0;

/// Vertical position of the horizontal axis, in pixels from the top: the lower border of the third row of cells.
pub const FLOOR: f32 = 72.0;
/// Centre (x, y) and radius of a pie, in pixels.
const PIE: (f32, f32, f32) = (48.0, 48.0, 44.0);

/// Returns the middle of column `i` of `n`, in pixels; columns are one cell wide, and the last one ends at the right
/// edge.
fn column(i: usize, n: usize) -> f32 {
    f32::from(CELL_SIDE) * ((i + CELLS.saturating_sub(n)) as f32 + 0.5)
}

/// Returns the vertical position of a value in pixels: 8.5 pixels per unit, so that no value lies on a border between
/// rows of cells.
fn height(value: f32) -> f32 {
    FLOOR - 8.5 * value
}
