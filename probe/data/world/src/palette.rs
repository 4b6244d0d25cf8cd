//! The colours that have names, and the pale tones behind everything.

use burgess_base::stream::Stream;

use crate::dice;

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// Named colours, far enough apart to be told apart at 96 pixels, and all dark enough for a pale background.
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

/// The name of a colour by its number.
pub fn name(colour: u8) -> &'static str {
    COLOURS[colour as usize % COLOURS.len()].0
}

/// Its value.
pub fn rgb(colour: u8) -> Rgb {
    COLOURS[colour as usize % COLOURS.len()].1
}

/// Any named colour.
pub fn draw(stream: &mut Stream) -> u8 {
    dice::below(stream, COLOURS.len()) as u8
}

/// `k` different named colours.
pub fn draw_different(stream: &mut Stream, k: usize) -> Vec<u8> {
    dice::sample(stream, &(0..COLOURS.len() as u8).collect::<Vec<_>>(), k)
}

/// A pale tone: every channel between 205 and 255.
pub fn pale(stream: &mut Stream) -> Rgb {
    let base = dice::within(stream, 215, 250);
    let mut channel = || (base + dice::within(stream, -14, 5)).clamp(200, 255) as u8;
    [channel(), channel(), channel()]
}

/// `a` and `b` mixed; `t` is the share of `b`.
pub fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    std::array::from_fn(|i| (f32::from(a[i]) * (1.0 - t) + f32::from(b[i]) * t).round() as u8)
}
