//! Named colours, and pale tones for backgrounds.

use burgess_base::stream::Stream;

use crate::dice;

/// Red, green and blue, 0 to 255.
pub type Rgb = [u8; 3];

/// The named colours; a colour's number is its index. They are distinguishable at 96 pixels and dark enough for a pale
/// background.
pub const COLOURS: [(&str, Rgb); 8] = [
    ("red", [220, 30, 35]),
    ("orange", [250, 135, 10]),
    ("yellow", [240, 205, 0]),
    ("green", [25, 150, 50]),
    ("blue", [30, 80, 220]),
    ("purple", [145, 45, 185]),
    ("brown", [120, 70, 30]),
    ("black", [20, 20, 25]),
];

/// Returns the name of a colour by its number.
pub fn name(colour: u8) -> &'static str {
    COLOURS[colour as usize % COLOURS.len()].0
}

/// Returns the RGB value of a colour by its number.
pub fn rgb(colour: u8) -> Rgb {
    COLOURS[colour as usize % COLOURS.len()].1
}

/// Draws the number of a named colour.
pub fn draw(stream: &mut Stream) -> u8 {
    dice::below(stream, COLOURS.len()) as u8
}

/// Draws the numbers of `k` different named colours.
pub fn draw_different(stream: &mut Stream, k: usize) -> Vec<u8> {
    dice::sample(stream, &(0..COLOURS.len() as u8).collect::<Vec<_>>(), k)
}

/// Draws a pale tone, with channels of 201 to 255.
pub fn pale(stream: &mut Stream) -> Rgb {
    let base = dice::within(stream, 215, 250);
    let mut channel = || (base + dice::within(stream, -14, 5)).clamp(200, 255) as u8;
    [channel(), channel(), channel()]
}

/// Returns the mixture of two colours with the fraction `t` of `b`, 0 to 1.
pub fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    std::array::from_fn(|i| (f32::from(a[i]) * (1.0 - t) + f32::from(b[i]) * t).round() as u8)
}
