//! Composes images from stamps, with ground truth for every pixel.

use burgess_base::stream::Stream;
use burgess_world::{Relation, dice};
use image::{RgbImage, imageops};

use crate::sprite::{self, Mask};
use crate::stamps::Stamp;
use crate::{SIZE, backdrop};

/// Minimum distance in pixels between objects that do not touch.
const GAP: i64 = 5;

/// Minimum contrast between an object and its background, 0 to 255; less would be invisible.
const CONTRAST: f32 = 30.0;

/// Fraction of an object that the object in front of it may hide: enough to be visible, but not so much that the hidden
/// object cannot be recognised.
const HIDDEN: std::ops::RangeInclusive<f32> = 0.12..=0.42;

/// Maximum number of positions that are tried before the image is given up.
const TRIES: usize = 60;

/// An object in a composed image.
#[derive(Clone, Debug)]
pub struct PlacedObject {
    /// Index of its stamp.
    pub stamp: usize,
    /// Bounding box in pixels: left, top, right, bottom, with right and bottom exclusive.
    pub place: [i64; 4],
    /// The pixels that it covers, including those that other objects hide.
    pub mask: Mask,
    /// Mean position of these pixels, (x, y).
    pub centre: (f32, f32),
}

/// A composed image; later items are in front of earlier ones.
#[derive(Clone, Debug)]
pub struct Composition {
    /// The pixels of the image.
    pub image: RgbImage,
    /// The objects in the image.
    pub items: Vec<PlacedObject>,
}

/// The arrangement of the objects in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// No object touches another.
    Apart,
    /// The second object hides a part of the first; only for two objects.
    Overlapping,
}

/// Returns the range of sizes, in pixels along the longer side, at which this number of objects fits.
fn sizes(things: usize) -> (i32, i32) {
    match things {
        0 | 1 => (100, 190),
        2 => (72, 104),
        3 => (60, 88),
        4 => (54, 76),
        5 | 6 => (46, 62),
        _ => (42, 54),
    }
}

impl Composition {
    /// Composes an image of the stamps `wanted` (indices into `stamps`); `None` if no position was found for one, or if
    /// it has too little contrast.
    pub fn draw(
        s: &mut Stream,
        stamps: &[Stamp],
        wanted: &[usize],
        layout: Arrangement,
        photographs: &[RgbImage],
    ) -> Option<Self> {
        let mut image = backdrop::draw(s, photographs);
        let (low, high) = if layout == Arrangement::Overlapping { (84, 120) } else { sizes(wanted.len()) };
        let mut items: Vec<PlacedObject> = Vec::new();
        for &number in wanted {
            let stamp = stamps.get(number)?;
            // A small stamp is enlarged at most to twice its size.
            let high = high.min(stamp.side() as i32 * 2);
            let mut sprite = sprite::scaled(&stamp.image, dice::within(s, low.min(high), high) as u32);
            if stamp.mirrors && dice::chance(s, 50) {
                imageops::flip_horizontal_in_place(&mut sprite);
            }
            let (width, height) = (i64::from(sprite.width()), i64::from(sprite.height()));
            let item = (0..TRIES).find_map(|_| {
                let [left, top] = match (layout, items.first()) {
                    (Arrangement::Overlapping, Some(behind)) => near(s, behind, width, height),
                    _ => [width, height].map(|n| i64::from(dice::within(s, 2, (i64::from(SIZE) - 2 - n) as i32))),
                };
                let place = [left, top, left + width, top + height];
                let apart = layout == Arrangement::Overlapping || items.iter().all(|i| are_apart(&i.place, &place));
                if !apart || !inside(&place) {
                    return None;
                }
                let mut with = image.clone();
                let (mask, contrast) = sprite::lay(&mut with, &sprite, left, top);
                let hides = items.iter().all(|i| {
                    layout == Arrangement::Apart
                        || HIDDEN.contains(&(i.mask.common(&mask) as f32 / i.mask.area().max(1) as f32))
                });
                (contrast >= CONTRAST && hides && mask.area() > 0).then(|| {
                    image = with;
                    PlacedObject { stamp: number, place, centre: mask.centre(), mask }
                })
            });
            items.push(item?);
        }
        Some(Self { image, items })
    }

    /// Returns the relation of item `a` to item `b`, if it is clear: their bounding boxes do not overlap along that
    /// axis, and the distance of the centres along it is at least twice that along the other axis.
    pub fn relation(&self, a: usize, b: usize) -> Option<Relation> {
        let (a, b) = (self.items.get(a)?, self.items.get(b)?);
        let (dx, dy) = (a.centre.0 - b.centre.0, a.centre.1 - b.centre.1);
        let [left, top, right, bottom] = a.place;
        Some(if dx.abs() >= 2.0 * dy.abs() {
            match () {
                () if right <= b.place[0] => Relation::Left,
                () if left >= b.place[2] => Relation::Right,
                () => return None,
            }
        } else if dy.abs() >= 2.0 * dx.abs() {
            match () {
                () if bottom <= b.place[1] => Relation::Above,
                () if top >= b.place[3] => Relation::Below,
                () => return None,
            }
        } else {
            return None;
        })
    }
}

/// Draws a position near another item, as left and top in pixels, so that both can overlap.
fn near(s: &mut Stream, other: &PlacedObject, width: i64, height: i64) -> [i64; 2] {
    let [left, top, right, bottom] = other.place;
    let mut along = |low: i64, high: i64, size: i64| {
        let reach = ((high - low + size) / 2) as i32;
        (low + high) / 2 + i64::from(dice::within(s, -reach, reach)) - size / 2
    };
    [along(left, right, width), along(top, bottom, height)]
}

fn inside(place: &[i64; 4]) -> bool {
    let side = i64::from(SIZE);
    place.iter().all(|v| (0..=side).contains(v))
}

fn are_apart(a: &[i64; 4], b: &[i64; 4]) -> bool {
    a[2] + GAP <= b[0] || b[2] + GAP <= a[0] || a[3] + GAP <= b[1] || b[3] + GAP <= a[1]
}
