//! Glyph outlines of the embedded font, and the words that images show.

use std::collections::HashMap;
use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, OutlineCurve};
use resvg::tiny_skia::{Path, PathBuilder, Transform};

/// DejaVu Sans Condensed Bold, unmodified; its licence is in `assets/LICENSES`.
static FONT: &[u8] = include_bytes!("../assets/DejaVuSansCondensed-Bold.ttf");

/// The outline of a character, in units of the capital height, y downwards from the base line.
struct Glyph {
    path: Option<Path>,
    advance: f32,
}

/// Glyphs of the printable ASCII characters. A test checks that the embedded font parses, because an error would leave
/// this empty.
static GLYPHS: LazyLock<HashMap<char, Glyph>> = LazyLock::new(|| {
    let mut glyphs = HashMap::new();
    let Ok(font) = FontRef::try_from_slice(FONT) else { return glyphs };
    let capital = font.outline(font.glyph_id('H')).map_or(1.0, |o| o.bounds.height().abs().max(1.0));
    for c in ' '..='~' {
        let id = font.glyph_id(c);
        let mut b = PathBuilder::new();
        let mut last = None;
        for curve in font.outline(id).map(|o| o.curves).unwrap_or_default() {
            let p = |p: ab_glyph::Point| (p.x / capital, -p.y / capital);
            let (from, to) = match curve {
                OutlineCurve::Line(a, z) | OutlineCurve::Quad(a, _, z) | OutlineCurve::Cubic(a, _, _, z) => {
                    (p(a), p(z))
                }
            };
            if last != Some(from) {
                if last.is_some() {
                    b.close();
                }
                b.move_to(from.0, from.1);
            }
            match curve {
                OutlineCurve::Line(..) => b.line_to(to.0, to.1),
                OutlineCurve::Quad(_, m, _) => b.quad_to(p(m).0, p(m).1, to.0, to.1),
                OutlineCurve::Cubic(_, m, n, _) => b.cubic_to(p(m).0, p(m).1, p(n).0, p(n).1, to.0, to.1),
            }
            last = Some(to);
        }
        b.close();
        glyphs.insert(c, Glyph { path: b.finish(), advance: font.h_advance_unscaled(id) / capital });
    }
    glyphs
});

/// Returns the width in pixels of a text whose capitals are `height` pixels high.
pub fn width(words: &str, height: f32) -> f32 {
    words.chars().filter_map(|c| GLYPHS.get(&c)).map(|g| g.advance * height).sum()
}

/// Calls `draw` with the path of every glyph and its transform to the image; the text begins at `left` on the base line
/// `base`, in pixels.
pub fn outline(words: &str, left: f32, base: f32, height: f32, mut draw: impl FnMut(&Path, Transform)) {
    let mut x = left;
    for glyph in words.chars().filter_map(|c| GLYPHS.get(&c)) {
        if let Some(path) = &glyph.path {
            draw(path, Transform::from_row(height, 0.0, 0.0, height, x, base));
        }
        x += glyph.advance * height;
    }
}

/// The words that images show, two to five lower-case letters each.
pub static WORDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("../assets/words.txt").split_whitespace().collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_parses_and_has_every_letter() {
        for c in ('!'..='~').filter(|c| c.is_ascii_alphanumeric()) {
            assert!(GLYPHS[&c].path.is_some(), "{c}");
            assert!(GLYPHS[&c].advance > 0.2, "{c}");
        }
    }

    #[test]
    fn words_are_short_different_and_fit_an_image() {
        let mut words = WORDS.clone();
        assert!(words.len() >= 200);
        assert!(words.iter().all(|w| (2..=5).contains(&w.len()) && w.bytes().all(|b| b.is_ascii_lowercase())));
        assert!(words.iter().all(|w| width(&w.to_uppercase(), 14.0) < 86.0));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), WORDS.len());
    }
}
