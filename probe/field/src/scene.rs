//! Pictures composed of stamps, with the truth about every pixel.

use burgess_base::stream::Stream;
use burgess_world::{Relation, dice};
use image::{RgbImage, imageops};

use crate::sprite::{self, Mask};
use crate::stamps::Stamp;
use crate::{SIZE, backdrop};

/// Pixels between things that do not touch.
const GAP: i64 = 5;

/// How much a thing must differ from what is behind it, 0 to 255: less could not be seen.
const CONTRAST: f32 = 30.0;

/// The share of a thing that the one in front hides, where one lies in front of another: enough to be seen, and not so much
/// that what is behind cannot be recognised.
const HIDDEN: std::ops::RangeInclusive<f32> = 0.12..=0.42;

/// How many times a place is looked for before the picture is given up.
const TRIES: usize = 60;

/// A thing in a picture.
#[derive(Clone, Debug)]
pub struct Item {
    /// Number of its stamp.
    pub stamp: usize,
    /// Left, top, right, bottom of the place it takes, right and bottom excluded.
    pub place: [i64; 4],
    /// The pixels it covers or would cover if nothing hid it.
    pub mask: Mask,
    /// Middle of these pixels.
    pub centre: (f32, f32),
}

/// A picture; later items lie in front of earlier ones.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Its pixels.
    pub picture: RgbImage,
    /// What is in it.
    pub items: Vec<Item>,
}

/// How the things of a picture lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// None touches another.
    Apart,
    /// The second lies in front of a part of the first; only for two.
    Overlapping,
}

/// Sizes, in pixels along the longer side, with which so many things fit.
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

impl Scene {
    /// The stamps `wanted` (numbers into `stamps`) in one picture; nothing if no place was found, or something could not be
    /// told from what is behind it.
    pub fn draw(
        s: &mut Stream,
        stamps: &[Stamp],
        wanted: &[usize],
        layout: Layout,
        photographs: &[RgbImage],
    ) -> Option<Self> {
        let mut picture = backdrop::draw(s, photographs);
        let (low, high) = if layout == Layout::Overlapping { (84, 120) } else { sizes(wanted.len()) };
        let mut items: Vec<Item> = Vec::new();
        for &number in wanted {
            let stamp = stamps.get(number)?;
            // A small stamp is not blown up beyond twice its size.
            let high = high.min(stamp.side() as i32 * 2);
            let mut sprite = sprite::scaled(&stamp.picture, dice::within(s, low.min(high), high) as u32);
            if stamp.mirrors && dice::chance(s, 50) {
                imageops::flip_horizontal_in_place(&mut sprite);
            }
            let (width, height) = (i64::from(sprite.width()), i64::from(sprite.height()));
            let item = (0..TRIES).find_map(|_| {
                let [left, top] = match (layout, items.first()) {
                    (Layout::Overlapping, Some(behind)) => near(s, behind, width, height),
                    _ => [width, height].map(|n| i64::from(dice::within(s, 2, (i64::from(SIZE) - 2 - n) as i32))),
                };
                let place = [left, top, left + width, top + height];
                let apart = layout == Layout::Overlapping || items.iter().all(|i| are_apart(&i.place, &place));
                if !apart || !inside(&place) {
                    return None;
                }
                let mut with = picture.clone();
                let (mask, contrast) = sprite::lay(&mut with, &sprite, left, top);
                let hides = items.iter().all(|i| {
                    layout == Layout::Apart
                        || HIDDEN.contains(&(i.mask.common(&mask) as f32 / i.mask.area().max(1) as f32))
                });
                (contrast >= CONTRAST && hides && mask.area() > 0).then(|| {
                    picture = with;
                    Item { stamp: number, place, centre: mask.centre(), mask }
                })
            });
            items.push(item?);
        }
        Some(Self { picture, items })
    }

    /// The clear relation of item `a` to item `b`, if there is one: nothing of `a` reaches as far as `b` in that direction, and
    /// the way from middle to middle goes at least twice as far in it as across.
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

/// A place whose middle lies near that of another thing.
fn near(s: &mut Stream, other: &Item, width: i64, height: i64) -> [i64; 2] {
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
