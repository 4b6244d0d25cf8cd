//! Renders words and numbers onto photographs.

use burgess_base::stream::Stream;
use burgess_world::{dice, text};
use image::{Rgb, RgbImage};
use resvg::tiny_skia::{FillRule, LineJoin, Paint, Path, Pixmap, Stroke, Transform};

use crate::question::{self, ExpectedAnswer, FieldQuestion};
use crate::{SIZE, backdrop};

/// A photograph with rendered text.
pub struct TextImage {
    /// The pixels of the image.
    pub image: RgbImage,
    /// The rendered text, in lower case.
    pub text: String,
    /// Whether the text is a word; otherwise it is a number.
    pub is_word: bool,
}

/// Draws a word of the built-in list, or a number of two or three digits.
fn draw_text(s: &mut Stream, word: bool) -> String {
    match word {
        true => (*dice::pick(s, &text::WORDS)).to_string(),
        false => dice::within(s, 10, 999).to_string(),
    }
}

impl TextImage {
    /// Draws a photograph with a word or a number; `None` if there are no photographs.
    pub fn draw(s: &mut Stream, photographs: &[RgbImage]) -> Option<Self> {
        let photograph = dice::try_pick(s, photographs)?;
        let mut image = backdrop::square(s, photograph);
        let is_word = dice::chance(s, 60);
        let text = draw_text(s, is_word);
        let shown = if is_word && dice::chance(s, 50) { text.to_uppercase() } else { text.clone() };
        write(s, &mut image, &shown)?;
        Some(Self { image, text, is_word })
    }

    /// Asks for the text, without options.
    pub fn open(&self) -> FieldQuestion {
        let what = if self.is_word { "word" } else { "number" };
        FieldQuestion {
            about: "text",
            text: format!("Which {what} is written in the picture?"),
            answer: ExpectedAnswer::Open(self.text.clone()),
        }
    }

    /// Asks for the text, with three others of the same sort as options.
    pub fn choice(&self, s: &mut Stream, place: usize) -> FieldQuestion {
        let mut wrong: Vec<String> = Vec::new();
        while wrong.len() < 3 {
            let other = draw_text(s, self.is_word);
            if other != self.text && !wrong.contains(&other) {
                wrong.push(other);
            }
        }
        let what = if self.is_word { "word" } else { "number" };
        question::choice("text", format!("Which {what} is written in the picture?"), self.text.clone(), wrong, place)
    }
}

/// Renders the text at a random position, slightly rotated, light with a dark outline or dark with a light one, so that
/// it is legible on any background. `None` if no pixel buffer can be created.
fn write(s: &mut Stream, image: &mut RgbImage, shown: &str) -> Option<()> {
    let side = SIZE as f32;
    let height = (dice::within(s, 24, 44) as f32).min(height_that_fits(shown));
    let (width, turn) = (text::width(shown, height), dice::within(s, -8, 8) as f32);
    let free = |size: f32| ((side - size) / 2.0 - 8.0).max(0.0) as i32;
    let reach = turn.to_radians().abs().sin() * width;
    let mut at = |size: f32| side / 2.0 + dice::within(s, -free(size), free(size)) as f32;
    let (x, y) = (at(width), at(height + reach));
    let place = Transform::from_rotate_at(turn, x, y);
    let (ink, rim) = if dice::chance(s, 50) { ([245; 3], [15; 3]) } else { ([15; 3], [245; 3]) };
    let mut pixmap = Pixmap::new(SIZE, SIZE)?;
    let mut glyphs: Vec<(Path, Transform)> = Vec::new();
    text::outline(shown, x - width / 2.0, y + height / 2.0, height, |path, glyph| {
        glyphs.push((path.clone(), place.pre_concat(glyph)));
    });
    let paint = |c: [u8; 3]| {
        let mut paint = Paint::default();
        paint.set_color_rgba8(c[0], c[1], c[2], 255);
        paint.anti_alias = true;
        paint
    };
    // Path units are fractions of the capital height, so the outline is scaled to be equally wide at every size.
    let stroke = Stroke { width: 5.0 / height, line_join: LineJoin::Round, ..Stroke::default() };
    for (path, at) in &glyphs {
        pixmap.stroke_path(path, &paint(rim), &stroke, *at, None);
    }
    for (path, at) in &glyphs {
        pixmap.fill_path(path, &paint(ink), FillRule::Winding, *at, None);
    }
    for (under, over) in image.pixels_mut().zip(pixmap.pixels()) {
        // Pixels are premultiplied, so the colours add up.
        let through = 255 - u32::from(over.alpha());
        let mix = |u: u8, o: u8| (u32::from(o) + (u32::from(u) * through + 127) / 255).min(255) as u8;
        *under = Rgb([mix(under.0[0], over.red()), mix(under.0[1], over.green()), mix(under.0[2], over.blue())]);
    }
    Some(())
}

/// Returns the largest text height, in pixels, at which the text fits the image's width.
fn height_that_fits(shown: &str) -> f32 {
    (SIZE as f32 - 28.0) / text::width(shown, 1.0).max(1.0)
}
