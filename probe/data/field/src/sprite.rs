//! Scales stamps to the size in which an image shows them, and alpha-blends them onto the background.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage, Rgba, Rgba32FImage, RgbaImage};

/// Minimum alpha of a pixel that belongs to the object, 0 to 255.
pub const OPAQUE: u8 = 128;

/// Resizes the stamp so that its longer side has `side` pixels. Colours are premultiplied by opacity while they are
/// resampled, so that the colour of transparent pixels does not bleed into the edges.
pub fn scaled(image: &RgbaImage, side: u32) -> RgbaImage {
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    let scale = f64::from(side) / width.max(height).max(1.0);
    let to = |n: f64| ((n * scale).round() as u32).max(1);
    let premultiplied = Rgba32FImage::from_fn(image.width(), image.height(), |x, y| {
        let Rgba([r, g, b, a]) = *image.get_pixel(x, y);
        let opacity = f32::from(a) / 255.0;
        Rgba(
            [r, g, b]
                .map(|c| f32::from(c) / 255.0 * opacity)
                .into_iter()
                .chain([opacity])
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or([0.0; 4]),
        )
    });
    let small = imageops::resize(&premultiplied, to(width), to(height), FilterType::CatmullRom);
    RgbaImage::from_fn(small.width(), small.height(), |x, y| {
        let Rgba([r, g, b, a]) = *small.get_pixel(x, y);
        let byte = |v: f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
        let opacity = a.clamp(0.0, 1.0);
        let colour = |c: f32| if opacity > 0.0 { byte(c / opacity) } else { 0 };
        Rgba([colour(r), colour(g), colour(b), byte(opacity)])
    })
}

/// The pixels of an image that an object covers, including those that other objects hide.
#[derive(Clone, Debug)]
pub struct Mask {
    width: u32,
    covered: Vec<bool>,
}

impl Mask {
    /// Returns the indices of the covered pixels, in row-major order.
    pub fn pixels(&self) -> impl Iterator<Item = usize> + '_ {
        self.covered.iter().enumerate().filter(|(_, on)| **on).map(|(i, _)| i)
    }

    /// Returns the number of covered pixels.
    pub fn area(&self) -> usize {
        self.pixels().count()
    }

    /// Returns the number of pixels that both masks cover.
    pub fn common(&self, other: &Self) -> usize {
        self.covered.iter().zip(&other.covered).filter(|(a, b)| **a && **b).count()
    }

    /// Returns the mean position of the covered pixels, (x, y).
    pub fn centre(&self) -> (f32, f32) {
        let (mut x, mut y, mut n) = (0u64, 0u64, 0u64);
        for i in self.pixels() {
            x += i as u64 % u64::from(self.width);
            y += i as u64 / u64::from(self.width);
            n += 1;
        }
        let n = n.max(1) as f32;
        (x as f32 / n, y as f32 / n)
    }
}

/// Blends `sprite` onto `image` with its upper left corner at a point. Returns the covered pixels and their mean
/// difference from the background over the three channels, 0 to 255.
pub fn lay(image: &mut RgbImage, sprite: &RgbaImage, left: i64, top: i64) -> (Mask, f32) {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let mut mask = Mask { width: image.width(), covered: vec![false; (width * height) as usize] };
    let (mut difference, mut covered) = (0u64, 0u64);
    for (x, y, Rgba([r, g, b, a])) in sprite.enumerate_pixels().map(|(x, y, p)| (x, y, *p)) {
        let (x, y) = (left + i64::from(x), top + i64::from(y));
        if a == 0 || x < 0 || y < 0 || x >= width || y >= height {
            continue;
        }
        let under = image.get_pixel_mut(x as u32, y as u32);
        let Rgb(before) = *under;
        if a >= OPAQUE {
            difference += before.iter().zip([r, g, b]).map(|(u, o)| u64::from(u.abs_diff(o))).sum::<u64>();
            covered += 3;
            if let Some(on) = mask.covered.get_mut((y * width + x) as usize) {
                *on = true;
            }
        }
        let mix = |under: u8, over: u8| {
            let (u, o, a) = (u32::from(under), u32::from(over), u32::from(a));
            ((u * (255 - a) + o * a + 127) / 255) as u8
        };
        *under = Rgb([mix(before[0], r), mix(before[1], g), mix(before[2], b)]);
    }
    (mask, difference as f32 / covered.max(1) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_colours_do_not_bleed_into_edges() {
        // Opaque red on the left, transparent green on the right: no pixel may become greenish.
        let image =
            RgbaImage::from_fn(40, 40, |x, _| if x < 20 { Rgba([255, 0, 0, 255]) } else { Rgba([0, 255, 0, 0]) });
        for side in [13, 97] {
            let small = scaled(&image, side);
            assert_eq!((small.width(), small.height()), (side, side));
            assert!(small.pixels().all(|p| p.0[3] == 0 || (p.0[0] >= 250 && p.0[1] <= 5)), "{side}");
        }
    }

    #[test]
    fn what_is_laid_over_is_counted_and_mixed() {
        let mut image = RgbImage::from_pixel(10, 10, Rgb([0; 3]));
        let sprite = RgbaImage::from_fn(4, 4, |x, _| Rgba([200, 200, 200, [0, 100, 128, 255][x as usize]]));
        let (mask, _) = lay(&mut image, &sprite, 8, -1);
        assert_eq!(mask.area(), 0, "columns 2 and 3 lie outside");
        let (mask, contrast) = lay(&mut image, &sprite, 2, 3);
        assert_eq!((mask.area(), mask.centre()), (8, (4.5, 4.5)));
        assert_eq!(
            (image.get_pixel(3, 3).0, image.get_pixel(4, 3).0, image.get_pixel(5, 3).0),
            ([78; 3], [100; 3], [200; 3])
        );
        assert!((contrast - 200.0).abs() < 1e-3);
    }
}
