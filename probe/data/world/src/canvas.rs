//! A square pixel buffer with anti-aliased paths and text over a background.

use burgess_base::stream::stream;
use image::RgbImage;
use resvg::tiny_skia::{
    Color, FillRule, FilterQuality, LineCap, Paint, Path, PathBuilder, Pattern, Pixmap, PremultipliedColorU8, Rect,
    SpreadMode, Stroke, Transform,
};
use serde::{Deserialize, Serialize};

use crate::grid::SIZE;
use crate::palette::{self, Rgb};
use crate::{dice, text};

/// The background of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Background {
    /// A single pale colour.
    Plain(Rgb),
    /// A linear gradient between two clearly different colours: from left to right if the flag is set, else from top to
    /// bottom.
    Gradient(Rgb, Rgb, bool),
    /// A colour with pixel noise of this seed.
    Noise(Rgb, u32),
    /// A colour with 8 to 14 thin strokes, drawn from this seed.
    Strokes(Rgb, u32),
}

impl Background {
    /// Draws a random background.
    pub fn draw(s: &mut burgess_base::stream::Stream) -> Self {
        let tone = palette::pale(s);
        match dice::below(s, 10) {
            0..=3 => Self::Plain(tone),
            4..=5 => Self::Gradient(tone, tone.map(|c| c - 35), dice::chance(s, 50)),
            6..=7 => Self::Noise(tone, dice::within(s, 0, i32::MAX) as u32),
            _ => Self::Strokes(tone, dice::within(s, 0, i32::MAX) as u32),
        }
    }
}

/// The pattern inside the outline of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Texture {
    /// One colour without a pattern.
    Plain,
    /// Stripes of the colour and a pale tint of it.
    Striped,
    /// Pale dots on the colour.
    Dotted,
    /// A checkerboard of the colour and a pale tint of it.
    Checked,
}

impl Texture {
    /// Every texture except [`Texture::Plain`]; only these are asked about.
    pub const PATTERNS: [Self; 3] = [Self::Striped, Self::Dotted, Self::Checked];

    /// Returns "plain", "striped", "dotted" or "checked".
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Striped => "striped",
            Self::Dotted => "dotted",
            Self::Checked => "checked",
        }
    }

    /// Renders one period of the pattern, 10×10 pixels.
    fn tile(self, colour: Rgb) -> Option<Pixmap> {
        let pale = palette::mix(colour, [255; 3], 0.75);
        let mut tile = Pixmap::new(10, 10)?;
        for (i, pixel) in tile.pixels_mut().iter_mut().enumerate() {
            let (x, y) = ((i % 10) as f32 - 4.5, (i / 10) as f32 - 4.5);
            let light = match self {
                Self::Plain => false,
                Self::Striped => x >= 0.0,
                Self::Dotted => x * x + y * y < 9.0,
                Self::Checked => (x >= 0.0) != (y >= 0.0),
            };
            let c = if light { pale } else { colour };
            *pixel = PremultipliedColorU8::from_rgba(c[0], c[1], c[2], 255)?;
        }
        Some(tile)
    }
}

/// An image under construction.
pub struct Canvas {
    pixmap: Option<Pixmap>,
}

fn paint(colour: Rgb) -> Paint<'static> {
    let mut p = Paint::default();
    p.set_color_rgba8(colour[0], colour[1], colour[2], 255);
    p.anti_alias = true;
    p
}

impl Canvas {
    /// Creates a canvas that is covered by `background`.
    pub fn new(background: &Background) -> Self {
        let mut canvas = Self { pixmap: Pixmap::new(SIZE, SIZE) };
        canvas.cover(background);
        canvas
    }

    fn cover(&mut self, background: &Background) {
        let side = SIZE as f32;
        let tone = match background {
            Background::Plain(t)
            | Background::Gradient(t, ..)
            | Background::Noise(t, _)
            | Background::Strokes(t, _) => *t,
        };
        let Some(pixmap) = &mut self.pixmap else { return };
        pixmap.fill(Color::from_rgba8(tone[0], tone[1], tone[2], 255));
        match background {
            Background::Plain(_) => {}
            Background::Gradient(a, b, across) => {
                let width = SIZE as usize;
                for (i, pixel) in pixmap.pixels_mut().iter_mut().enumerate() {
                    let at = if *across { i % width } else { i / width };
                    let c = palette::mix(*a, *b, at as f32 / (side - 1.0));
                    if let Some(value) = PremultipliedColorU8::from_rgba(c[0], c[1], c[2], 255) {
                        *pixel = value;
                    }
                }
            }
            Background::Noise(_, seed) => {
                // Xorshift instead of the named stream, because one draw per pixel from that would cost more than the
                // image.
                let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345) | 1;
                for pixel in pixmap.pixels_mut() {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    let grain = (state >> 24) as i32 % 33 - 24;
                    let c = tone.map(|v| (i32::from(v) + grain).clamp(0, 255) as u8);
                    if let Some(value) = PremultipliedColorU8::from_rgba(c[0], c[1], c[2], 255) {
                        *pixel = value;
                    }
                }
            }
            Background::Strokes(_, seed) => {
                let mut s = stream("strokes", u64::from(*seed));
                for _ in 0..dice::within(&mut s, 8, 14) {
                    let mut point = || dice::within(&mut s, 0, SIZE as i32) as f32;
                    let (x0, y0, x1, y1) = (point(), point(), point(), point());
                    let colour = palette::mix(tone, palette::rgb(palette::draw(&mut s)), 0.3);
                    self.line((x0, y0), (x1, y1), 1.2, colour);
                }
            }
        }
    }

    /// Fills a path under a transform with a colour and a texture.
    pub fn fill(&mut self, path: &Path, rule: FillRule, at: Transform, colour: Rgb, texture: Texture) {
        let Some(pixmap) = &mut self.pixmap else { return };
        if texture == Texture::Plain {
            pixmap.fill_path(path, &paint(colour), rule, at, None);
            return;
        }
        let Some(tile) = texture.tile(colour) else { return };
        // The inverse transform keeps the period of the pattern at 10 pixels whatever the scale of the path.
        let Some(back) = at.invert() else { return };
        let shader = Pattern::new(tile.as_ref(), SpreadMode::Repeat, FilterQuality::Nearest, 1.0, back);
        let p = Paint { shader, anti_alias: true, ..Paint::default() };
        pixmap.fill_path(path, &p, rule, at, None);
    }

    /// Fills a path in image coordinates with one colour.
    pub fn shape(&mut self, path: &Path, colour: Rgb) {
        self.fill(path, FillRule::Winding, Transform::identity(), colour, Texture::Plain);
    }

    /// Fills an axis-parallel rectangle; coordinates in pixels.
    pub fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, colour: Rgb) {
        if let Some(r) = Rect::from_xywh(x, y, width.max(0.01), height.max(0.01)) {
            self.shape(&PathBuilder::from_rect(r), colour);
        }
    }

    /// Fills a disc; coordinates in pixels.
    pub fn disc(&mut self, x: f32, y: f32, radius: f32, colour: Rgb) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.shape(&path, colour);
        }
    }

    /// Draws a straight line with round ends; coordinates in pixels.
    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, colour: Rgb) {
        let mut b = PathBuilder::new();
        b.move_to(from.0, from.1);
        b.line_to(to.0, to.1);
        if let Some(path) = b.finish() {
            self.stroke(&path, width, colour);
        }
    }

    /// Draws the outline of a path in image coordinates, with round line ends.
    pub fn stroke(&mut self, path: &Path, width: f32, colour: Rgb) {
        let Some(pixmap) = &mut self.pixmap else { return };
        let stroke = Stroke { width, line_cap: LineCap::Round, ..Stroke::default() };
        pixmap.stroke_path(path, &paint(colour), &stroke, Transform::identity(), None);
    }

    /// Draws a line with an arrow head at `to`.
    pub fn arrow(&mut self, from: (f32, f32), to: (f32, f32), width: f32, colour: Rgb) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = (dx * dx + dy * dy).sqrt().max(1e-3);
        let (ux, uy) = (dx / length, dy / length);
        let head = (width * 3.0).min(length);
        let neck = (to.0 - ux * head, to.1 - uy * head);
        self.line(from, neck, width, colour);
        let mut b = PathBuilder::new();
        b.move_to(to.0, to.1);
        b.line_to(neck.0 - uy * head * 0.6, neck.1 + ux * head * 0.6);
        b.line_to(neck.0 + uy * head * 0.6, neck.1 - ux * head * 0.6);
        b.close();
        if let Some(path) = b.finish() {
            self.shape(&path, colour);
        }
    }

    /// Draws text on the base line `base`, horizontally centred at `x`; `height` is that of a capital letter in pixels.
    pub fn text(&mut self, words: &str, x: f32, base: f32, height: f32, colour: Rgb) {
        let left = x - text::width(words, height) / 2.0;
        text::outline(words, left, base, height, |path, at| {
            self.fill(path, FillRule::Winding, at, colour, Texture::Plain);
        });
    }

    /// Returns the finished image, [`SIZE`]×[`SIZE`] pixels.
    pub fn finish(self) -> RgbImage {
        let mut out = RgbImage::new(SIZE, SIZE);
        if let Some(pixmap) = &self.pixmap {
            for (to, from) in out.pixels_mut().zip(pixmap.pixels()) {
                to.0 = [from.red(), from.green(), from.blue()];
            }
        }
        out
    }
}
