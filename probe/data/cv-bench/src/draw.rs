//! Draws boxes around objects: coloured, with a dark and a light border so that they are visible on any background, and
//! outside the object so that they cover none of it.

use image::{Rgb, RgbImage};

/// The box colours in the order in which questions name them: red, blue, green.
pub const COLOURS: [Rgb<u8>; 3] = [Rgb([230, 25, 25]), Rgb([30, 80, 255]), Rgb([20, 200, 60])];
const SEAMS: [Rgb<u8>; 2] = [Rgb([0; 3]), Rgb([255; 3])];

/// Returns the line width in pixels: 1/160 of the image's shorter side, at least 2.
fn line_width(image: &RgbImage) -> i64 {
    i64::from(image.width().min(image.height()).div_ceil(160).max(2))
}

/// Draws boxes (left, top, width, height in pixels) in the order of [`COLOURS`].
pub fn boxes(image: &mut RgbImage, boxes: &[[f64; 4]]) {
    let line = line_width(image);
    let seam = (line / 3).max(1);
    for (bbox, colour) in boxes.iter().zip(COLOURS) {
        let [x, y, w, h] = bbox.map(|v| v.clamp(-1e6, 1e6));
        let (left, top) = (x.floor() as i64 - 1, y.floor() as i64 - 1);
        let (right, bottom) = ((x + w).ceil() as i64, (y + h).ceil() as i64);
        // Rings are drawn from outside to inside, because a later ring covers an earlier one.
        for (grow, ink) in [(line + 2 * seam, SEAMS[0]), (line + seam, SEAMS[1]), (line, colour)] {
            ring(image, [left - grow, top - grow, right + grow, bottom + grow], grow, ink);
        }
    }
}

/// Draws a frame of `width` pixels inside the given corners, moved into the image where it extends beyond it.
fn ring(image: &mut RgbImage, [left, top, right, bottom]: [i64; 4], width: i64, ink: Rgb<u8>) {
    let (w, h) = (i64::from(image.width()), i64::from(image.height()));
    let (left, top) = (left.clamp(-width, w - 1), top.clamp(-width, h - 1));
    // A box that reaches the image border shows its line inside the image.
    let (left, top) = (left.max(0), top.max(0));
    let (right, bottom) = (right.min(w - 1), bottom.min(h - 1));
    for y in top..=bottom {
        for x in left..=right {
            let on = x < left + width || x > right - width || y < top + width || y > bottom - width;
            if on && let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) {
                image.put_pixel(x, y, ink);
            }
        }
    }
}
