//! Backgrounds of composed images: plain colours, gradients, and photographs blurred until nothing in them can be
//! named.

use burgess_base::stream::Stream;
use burgess_world::dice;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use crate::SIZE;

/// Width and height, in pixels, to which a photograph is reduced before it is enlarged again.
const BLUR: u32 = 7;

/// Draws a random background.
pub fn draw(s: &mut Stream, photographs: &[RgbImage]) -> RgbImage {
    let tone = tone(s);
    match dice::below(s, 10) {
        0..=2 => RgbImage::from_pixel(SIZE, SIZE, Rgb(tone)),
        3..=5 => gradient(s, tone),
        _ => match dice::try_pick(s, photographs) {
            Some(photograph) => blurred(s, photograph, tone),
            None => gradient(s, tone),
        },
    }
}

/// Crops a random square of a photograph and resizes it to [`SIZE`] pixels.
pub fn square(s: &mut Stream, photograph: &RgbImage) -> RgbImage {
    let (width, height) = (photograph.width(), photograph.height());
    let shorter = width.min(height) as i32;
    let side = dice::within(s, shorter * 6 / 10, shorter).max(1) as u32;
    let left = dice::within(s, 0, (width - side.min(width)) as i32) as u32;
    let top = dice::within(s, 0, (height - side.min(height)) as i32) as u32;
    let cut = imageops::crop_imm(photograph, left, top, side, side).to_image();
    imageops::resize(&cut, SIZE, SIZE, FilterType::Triangle)
}

fn blurred(s: &mut Stream, photograph: &RgbImage, tone: [u8; 3]) -> RgbImage {
    let small = imageops::resize(&square(s, photograph), BLUR, BLUR, FilterType::Triangle);
    let mut large = imageops::resize(&small, SIZE, SIZE, FilterType::CatmullRom);
    for pixel in large.pixels_mut() {
        pixel.0 = mix(pixel.0, tone, 0.25);
    }
    large
}

fn gradient(s: &mut Stream, tone: [u8; 3]) -> RgbImage {
    let shift = dice::within(s, 30, 60) * if dice::chance(s, 50) { 1 } else { -1 };
    let other = tone.map(|c| (i32::from(c) + shift).clamp(0, 255) as u8);
    let across = dice::chance(s, 50);
    RgbImage::from_fn(SIZE, SIZE, |x, y| Rgb(mix(tone, other, if across { x } else { y } as f32 / (SIZE - 1) as f32)))
}

/// Draws a muted colour, from dark to bright.
fn tone(s: &mut Stream) -> [u8; 3] {
    let base = dice::within(s, 60, 240);
    [0; 3].map(|_: u8| (base + dice::within(s, -30, 30)).clamp(0, 255) as u8)
}

fn mix(a: [u8; 3], b: [u8; 3], share: f32) -> [u8; 3] {
    let mut mixed = a;
    for (m, b) in mixed.iter_mut().zip(b) {
        *m = (f32::from(*m) * (1.0 - share) + f32::from(b) * share).round() as u8;
    }
    mixed
}
