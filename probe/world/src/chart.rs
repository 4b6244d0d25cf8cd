//! Bar, line and pie charts with small whole values on grid lines.

use std::f32::consts::PI;

use burgess_base::stream::Stream;
use image::RgbImage;
use resvg::tiny_skia::PathBuilder;
use serde::{Deserialize, Serialize};

use crate::canvas::{Anchor, Background, Canvas};
use crate::page::short_labels;
use crate::{dice, palette};

/// The kinds of charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Bar,
    Line,
    Pie,
}

impl Kind {
    /// "bar chart", "line chart", "pie chart".
    pub fn name(self) -> &'static str {
        match self {
            Self::Bar => "bar chart",
            Self::Line => "line chart",
            Self::Pie => "pie chart",
        }
    }

    /// What one value is drawn as: "bar", "point", "slice".
    pub fn mark(self) -> &'static str {
        match self {
            Self::Bar => "bar",
            Self::Line => "point",
            Self::Pie => "slice",
        }
    }
}

/// The highest value of bar and line charts, and of the axis.
pub const TOP: u8 = 8;

/// A whole chart. In pies the values are written into the slices; in bars and lines they are read from the axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    pub kind: Kind,
    pub background: Background,
    /// Different labels.
    pub labels: Vec<String>,
    /// Different values, 1 to 8.
    pub values: Vec<u8>,
    /// A colour a bar or slice; lines use the first alone.
    pub colours: Vec<u8>,
    /// Labels beside coloured squares instead of under the bars. Always so in pies, never in lines.
    pub legend: bool,
}

impl Chart {
    /// Three or four values.
    pub fn draw(s: &mut Stream) -> Self {
        let kind = match dice::below(s, 10) {
            0..=4 => Kind::Bar,
            5..=6 => Kind::Line,
            _ => Kind::Pie,
        };
        Self::of(s, kind)
    }

    /// A chart of one kind.
    pub fn of(s: &mut Stream, kind: Kind) -> Self {
        let n = dice::within(s, 3, 4) as usize;
        let legend = kind == Kind::Pie || (kind == Kind::Bar && dice::chance(s, 25));
        let mut colours = palette::draw_different(s, n);
        if kind == Kind::Line {
            colours.truncate(1);
        } else if !legend && dice::chance(s, 50) {
            colours = vec![colours[0]; n];
        }
        Self {
            kind,
            background: Background::Plain(palette::pale(s)),
            labels: short_labels(s, n),
            values: dice::sample(s, &(1..=TOP).collect::<Vec<_>>(), n),
            colours,
            legend,
        }
    }

    /// Place of the largest value.
    pub fn largest(&self) -> usize {
        (0..self.values.len()).max_by_key(|&i| self.values[i]).unwrap_or(0)
    }

    /// Place of the smallest value.
    pub fn smallest(&self) -> usize {
        (0..self.values.len()).min_by_key(|&i| self.values[i]).unwrap_or(0)
    }

    /// Whether each mark has a colour of its own.
    pub fn coloured(&self) -> bool {
        self.colours.len() == self.values.len() && self.colours.windows(2).all(|w| w[0] != w[1])
    }

    /// The picture.
    pub fn render(&self) -> RgbImage {
        let mut canvas = Canvas::new(&self.background);
        if self.kind == Kind::Pie {
            self.pie(&mut canvas)
        } else {
            self.axes(&mut canvas)
        }
        canvas.finish()
    }

    fn pie(&self, canvas: &mut Canvas) {
        let (cx, cy, r) = (33.0, 48.0, 31.0);
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
            let colour = palette::rgb(self.colours[i]);
            if let Some(path) = b.finish() {
                canvas.shape(&path, colour);
                canvas.stroke(&path, 1.2, [255; 3]);
            }
            let mid = (from + to) / 2.0;
            let ink = if matches!(self.colours[i], 1 | 2) { [0; 3] } else { [255; 3] };
            canvas.text(
                &value.to_string(),
                cx + r * 0.68 * mid.cos(),
                cy + r * 0.68 * mid.sin() + 4.0,
                8.5,
                Anchor::Middle,
                ink,
            );
            from = to;
        }
        self.legend(canvas, 66.0, 20.0);
    }

    fn legend(&self, canvas: &mut Canvas, x: f32, y: f32) {
        for (i, label) in self.labels.iter().enumerate() {
            let top = y + 15.0 * i as f32;
            canvas.rect(x, top, 5.0, 8.0, palette::rgb(self.colours[i]));
            canvas.text(label, x + 6.5, top + 7.7, 7.0, Anchor::Left, [20; 3]);
        }
    }

    fn axes(&self, canvas: &mut Canvas) {
        let ink = [30, 30, 35];
        let (left, right) = (12.0, if self.legend { 64.0 } else { 94.0 });
        let (top, bottom) = (7.0, if self.legend { 88.0 } else { 79.0 });
        let y = |v: f32| bottom - (bottom - top) * v / f32::from(TOP);
        for tick in 1..=TOP {
            let strong = tick % 2 == 0;
            canvas.line(
                (left, y(f32::from(tick))),
                (right, y(f32::from(tick))),
                0.7,
                if strong { [150; 3] } else { [200; 3] },
            );
        }
        for tick in (0..=TOP).step_by(2) {
            canvas.text(&tick.to_string(), left - 3.0, y(f32::from(tick)) + 3.5, 7.0, Anchor::Right, ink);
        }
        let step = (right - left) / self.values.len() as f32;
        let middle = |i: usize| left + step * (i as f32 + 0.5);
        for (i, &value) in self.values.iter().enumerate() {
            let at = (middle(i), y(f32::from(value)));
            match self.kind {
                Kind::Line => {
                    let colour = palette::rgb(self.colours[0]);
                    if let Some(&next) = self.values.get(i + 1) {
                        canvas.line(at, (middle(i + 1), y(f32::from(next))), 2.0, colour);
                    }
                    canvas.disc(at.0, at.1, 3.2, colour);
                }
                _ => {
                    let wide = step * 0.64;
                    canvas.rect(at.0 - wide / 2.0, at.1, wide, bottom - at.1, palette::rgb(self.colours[i]));
                }
            }
            if !self.legend {
                canvas.text(&self.labels[i], middle(i), 91.0, 7.2, Anchor::Middle, ink);
            }
        }
        canvas.line((left, top), (left, bottom), 1.2, ink);
        canvas.line((left, bottom), (right, bottom), 1.2, ink);
        if self.legend {
            self.legend(canvas, 66.0, 20.0);
        }
    }
}
