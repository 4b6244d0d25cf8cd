//! Images, drawn from their names: each looks different, and the same on every machine.

use crate::random::Stream;
use flate2::{Compression, Crc, write::ZlibEncoder};
use image::{Delay, ExtendedColorType, Frame, ImageEncoder, Rgb, RgbImage, codecs, imageops};
use std::io::Write;

/// What an image file is made of.
pub struct Drawing<'a> {
    /// Name of the file; its ending says the format.
    pub name: &'a str,
    /// Name from which the content is drawn: another one makes a duplicate.
    pub content: &'a str,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// What is added to every channel: a near-duplicate.
    pub brighter: i32,
}

impl Drawing<'_> {
    /// Encodes the image in the format of its name.
    ///
    /// # Panics
    /// The format is unknown.
    pub fn encode(&self) -> Vec<u8> {
        let ending = self.name.rsplit('.').next().unwrap_or_default();
        if ending == "svg" {
            return svg(self.content, self.size).into_bytes();
        }
        let pixels = self.pixels();
        match ending {
            "png" => png(&pixels),
            "jpg" => jpeg(&pixels),
            "webp" => webp(&pixels),
            "gif" => gif(&pixels),
            _ => panic!("{}: no known image format", self.name),
        }
    }

    /// The image as a PNG of this width, as a wiki makes thumbnails.
    pub fn thumbnail(&self, width: u32) -> Vec<u8> {
        let whole = self.pixels();
        let height = (u64::from(width) * u64::from(self.size.1) / u64::from(self.size.0)).max(1) as u32;
        png(&imageops::resize(&whole, width, height, imageops::FilterType::Triangle))
    }

    fn pixels(&self) -> RgbImage {
        let (width, height) = self.size;
        // Drawn at a fixed size, so that copies of another size show the same.
        let mut canvas = RgbImage::new(384, 288);
        paint(&mut canvas, self.content);
        for channel in canvas.iter_mut() {
            *channel = (i32::from(*channel) + self.brighter).clamp(0, 255) as u8;
        }
        if (width, height) == canvas.dimensions() {
            return canvas;
        }
        imageops::resize(&canvas, width, height, imageops::FilterType::Triangle)
    }
}

/// The benchmark's image that also stands on a page.
pub fn benchmark() -> RgbImage {
    let mut canvas = RgbImage::new(384, 288);
    paint(&mut canvas, "benchmark");
    canvas
}

fn colour(stream: &mut Stream) -> Rgb<u8> {
    let [red, green, blue, ..] = stream.next().to_le_bytes();
    Rgb([red, green, blue])
}

/// Paints a sky, a ground, and large shapes between them.
fn paint(canvas: &mut RgbImage, name: &str) {
    let mut stream = Stream::new(7, name);
    let (width, height) = canvas.dimensions();
    let (sky, ground) = (colour(&mut stream), colour(&mut stream));
    let horizon = height / 3 + stream.below(u64::from(height / 3)) as u32;
    for (x, y, pixel) in canvas.enumerate_pixels_mut() {
        let Rgb(base) = if y < horizon { sky } else { ground };
        // A gradient, so that no region is quite flat.
        let shade = (x * 40 / width + y * 40 / height) as u8;
        *pixel = Rgb(base.map(|c| (c / 2).saturating_add(shade)));
    }
    for shape in 0..9 {
        let ink = colour(&mut stream);
        let (x, y) = (stream.below(u64::from(width)) as i64, stream.below(u64::from(height)) as i64);
        let (across, down) = (20 + stream.below(70) as i64, 20 + stream.below(60) as i64);
        for py in (y - down).max(0)..(y + down).min(i64::from(height)) {
            for px in (x - across).max(0)..(x + across).min(i64::from(width)) {
                let (dx, dy) = ((px - x) as f64 / across as f64, (py - y) as f64 / down as f64);
                let inside = match shape % 3 {
                    0 => dx * dx + dy * dy <= 1.0,
                    1 => dx.abs() + dy.abs() <= 1.0,
                    _ => true,
                };
                if inside {
                    canvas.put_pixel(px as u32, py as u32, ink);
                }
            }
        }
    }
}

/// Encodes an image as PNG.
pub fn png(pixels: &RgbImage) -> Vec<u8> {
    let mut out = Vec::new();
    let (width, height) = pixels.dimensions();
    codecs::png::PngEncoder::new(&mut out).write_image(pixels, width, height, ExtendedColorType::Rgb8).expect("memory");
    out
}

/// Encodes an image as JPEG.
pub fn jpeg(pixels: &RgbImage) -> Vec<u8> {
    let mut jpeg = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    jpeg.set_size(pixels.width() as usize, pixels.height() as usize);
    jpeg.set_quality(85.0);
    jpeg.set_fastest_defaults();
    let mut started = jpeg.start_compress(Vec::new()).expect("memory");
    started.write_scanlines(pixels.as_raw()).expect("memory");
    started.finish().expect("memory")
}

fn webp(pixels: &RgbImage) -> Vec<u8> {
    let mut out = Vec::new();
    let (width, height) = pixels.dimensions();
    let encoder = codecs::webp::WebPEncoder::new_lossless(&mut out);
    encoder.write_image(pixels, width, height, ExtendedColorType::Rgb8).expect("memory");
    out
}

/// Encodes an animation of two frames.
fn gif(pixels: &RgbImage) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = codecs::gif::GifEncoder::new_with_speed(&mut out, 30);
    let first = image::DynamicImage::ImageRgb8(pixels.clone()).to_rgba8();
    let second = imageops::flip_horizontal(&first);
    for frame in [first, second] {
        let delay = Delay::from_numer_denom_ms(500, 1);
        encoder.encode_frame(Frame::from_parts(frame, 0, 0, delay)).expect("memory");
    }
    drop(encoder);
    out
}

/// A drawing in SVG, without a background, and sometimes without width and height.
fn svg(name: &str, (width, height): (u32, u32)) -> String {
    let mut stream = Stream::new(11, name);
    let size = if stream.below(3) == 0 { String::new() } else { format!(" width=\"{width}\" height=\"{height}\"") };
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"{size} viewBox=\"0 0 400 300\">\n"
    );
    for shape in 0..8 {
        let Rgb([red, green, blue]) = colour(&mut stream);
        let fill = format!("fill=\"rgb({red},{green},{blue})\"");
        let (x, y, r) = (stream.below(360), stream.below(260), 20 + stream.below(80));
        text.push_str(&match shape % 2 {
            0 => format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\" {fill}/>\n"),
            _ => format!("<rect x=\"{x}\" y=\"{y}\" width=\"{r}\" height=\"{}\" {fill}/>\n", r / 2 + 10),
        });
    }
    text.push_str("</svg>\n");
    text
}

/// A PNG that declares a size in pixels which its data do not have.
pub fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut zeros = ZlibEncoder::new(Vec::new(), Compression::best());
    zeros.write_all(&vec![0; 1 << 20]).expect("memory");
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", zeros.finish().expect("memory")), (b"IEND", Vec::new())] {
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(&data);
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(kind);
        out.extend(&data);
        out.extend(crc.sum().to_be_bytes());
    }
    out
}

/// A GIF that declares a canvas of 60,000 × 60,000 pixels.
pub fn gif_bomb() -> Vec<u8> {
    let mut bytes = gif(&RgbImage::from_pixel(8, 8, Rgb([9, 9, 9])));
    bytes[6..10].copy_from_slice(&[0x60, 0xea, 0x60, 0xea]);
    bytes
}

/// A JPEG that declares 60,000 × 60,000 pixels.
pub fn jpeg_bomb() -> Vec<u8> {
    let mut bytes = jpeg(&RgbImage::from_pixel(64, 64, Rgb([200, 20, 20])));
    let frame = bytes.windows(2).position(|pair| matches!(pair, [0xff, 0xc0..=0xc2])).expect("a frame header");
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_drawn_the_same_twice_and_decode_in_every_format() {
        for ending in ["png", "jpg", "webp", "gif"] {
            let name = format!("A drawing.{ending}");
            let drawing = Drawing { name: &name, content: &name, size: (200, 150), brighter: 0 };
            assert_eq!(drawing.encode(), drawing.encode(), "{ending}");
            if ending != "jpg" {
                let decoded = image::load_from_memory(&drawing.encode()).expect(ending);
                assert_eq!((decoded.width(), decoded.height()), (200, 150), "{ending}");
            }
        }
        let drawing = Drawing { name: "A.svg", content: "A.svg", size: (400, 300), brighter: 0 };
        assert!(String::from_utf8(drawing.encode()).unwrap().contains("<circle"));
        let thumbnail = image::load_from_memory(&drawing.thumbnail(120)).unwrap();
        assert_eq!((thumbnail.width(), thumbnail.height()), (120, 90));
    }
}
