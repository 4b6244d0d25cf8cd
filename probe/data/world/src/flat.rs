//! Flat images: pictograms and plain shapes on a background, some of them partly occluded.

use burgess_base::stream::Stream;
use image::RgbImage;
use resvg::tiny_skia::Transform;
use serde::{Deserialize, Serialize};

use crate::canvas::{Background, Canvas, Texture};
use crate::facts::{self, Facing, Thing, pictograms, thing};
use crate::grid::{CELL_SIDE, CELLS, SIZE};
use crate::icons::{GRID, outline};
use crate::{dice, palette};

/// A thing in a flat image. Every field is visible, so images that look the same have the same fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlatItem {
    /// Number of the thing, as in [`thing`].
    pub thing: u16,
    /// Number of its colour, as in [`palette::COLOURS`].
    pub colour: u8,
    /// Texture inside its outline.
    pub texture: Texture,
    /// Length of its longer side, in pixels.
    pub size: u8,
    /// Middle, in pixels from the left.
    pub x: u8,
    /// Middle, in pixels from the top.
    pub y: u8,
    /// Clockwise rotation in degrees; 0 for circles and rings.
    pub turn: i16,
    /// Whether it is mirrored; only for things that look to one side.
    pub mirrored: bool,
}

impl FlatItem {
    /// Returns its entry in the fact table.
    pub fn what(&self) -> &'static Thing {
        thing(self.thing)
    }

    /// Returns the side to which it looks in this image; `None` if it has none or is upside down.
    pub fn faces(&self) -> Option<Facing> {
        let side = self.what().faces?;
        (!self.upside_down()).then_some(if self.mirrored { side.other() } else { side })
    }

    /// Returns whether its rotation is nearer than 60° to 180°.
    pub fn upside_down(&self) -> bool {
        self.turn.rem_euclid(360).abs_diff(180) < 60
    }

    /// Returns the direction of an arrow, one of [`DIRECTIONS`]; `None` for other things.
    pub fn points(&self) -> Option<&'static str> {
        (self.thing == facts::arrow()).then(|| DIRECTIONS[(self.turn.rem_euclid(360) as usize + 45) / 90 % 4])
    }

    /// Returns the transform from the unit outline to the image.
    fn place(&self) -> Transform {
        let s = f32::from(self.size);
        let flip = if self.mirrored { -1.0 } else { 1.0 };
        let (sin, cos) = f32::from(self.turn).to_radians().sin_cos();
        Transform::from_row(s * flip * cos, s * flip * sin, -s * sin, s * cos, f32::from(self.x), f32::from(self.y))
    }

    /// Returns the middles of the covered cells of its coarse mask, in image coordinates.
    fn cells(&self) -> impl Iterator<Item = (f32, f32)> + '_ {
        let at = self.place();
        let mask = &outline(self.thing).mask;
        mask.iter().enumerate().filter(|(_, on)| **on).map(move |(i, _)| {
            let (u, v) = (cell(i % GRID), cell(i / GRID));
            (at.sx * u + at.kx * v + at.tx, at.ky * u + at.sy * v + at.ty)
        })
    }

    /// Returns whether its coarse mask covers a point of the image.
    fn covers(&self, x: f32, y: f32) -> bool {
        let s = f32::from(self.size);
        let (dx, dy) = (x - f32::from(self.x), y - f32::from(self.y));
        if dx * dx + dy * dy > s * s * 0.55 {
            return false;
        }
        let (sin, cos) = f32::from(self.turn).to_radians().sin_cos();
        let u = (dx * cos + dy * sin) / s * if self.mirrored { -1.0 } else { 1.0 };
        let v = (dy * cos - dx * sin) / s;
        let (i, j) = (((u + 0.5) * GRID as f32) as usize, ((v + 0.5) * GRID as f32) as usize);
        u >= -0.5 && v >= -0.5 && i < GRID && j < GRID && outline(self.thing).mask.get(j * GRID + i) == Some(&true)
    }

    /// Half the longer side of its box, in pixels.
    pub(crate) fn reach(&self) -> f32 {
        let (w, h) = outline(self.thing).half;
        let (sin, cos) = f32::from(self.turn).to_radians().sin_cos();
        f32::from(self.size) * ((w * cos.abs() + h * sin.abs()).max(w * sin.abs() + h * cos.abs()))
    }
}

fn cell(i: usize) -> f32 {
    (i as f32 + 0.5) / GRID as f32 - 0.5
}

/// The directions of an arrow, by quarter turns.
pub const DIRECTIONS: [&str; 4] = ["up", "right", "down", "left"];

/// A grey bar in front of all things; coordinates and sizes in pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Left edge, in pixels from the left.
    pub x: u8,
    /// Upper edge, in pixels from the top.
    pub y: u8,
    /// Width in pixels.
    pub width: u8,
    /// Height in pixels.
    pub height: u8,
}

impl Bar {
    fn covers(&self, x: f32, y: f32) -> bool {
        let inside = |v: f32, from: u8, long: u8| v >= f32::from(from) && v < f32::from(from) + f32::from(long);
        inside(x, self.x, self.width) && inside(y, self.y, self.height)
    }
}

/// The contents of a flat image; later items lie in front of earlier ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlatScene {
    /// Background of the image.
    pub background: Background,
    /// Things, from back to front.
    pub items: Vec<FlatItem>,
    /// Bar in front of all things, if there is one.
    pub bar: Option<Bar>,
}

/// A thing that is to be placed in an image.
#[derive(Clone, Copy, Debug)]
pub struct ItemSpec {
    /// Number of the thing.
    pub thing: u16,
    /// Number of the colour.
    pub colour: u8,
    /// Texture inside the outline.
    pub texture: Texture,
}

impl ItemSpec {
    /// Draws a random colour for a thing, and for shapes sometimes a texture.
    pub fn of(s: &mut Stream, thing: u16) -> Self {
        let textured = usize::from(thing) >= pictograms() && dice::chance(s, 45);
        let texture = if textured { *dice::pick(s, &Texture::PATTERNS) } else { Texture::Plain };
        Self { thing, colour: palette::draw(s), texture }
    }
}

/// Draws a random thing; a shape with a probability of 20 %.
pub fn any_thing(s: &mut Stream) -> u16 {
    if dice::chance(s, 20) {
        facts::shape(dice::below(s, facts::SHAPES.len()))
    } else {
        dice::below(s, pictograms()) as u16
    }
}

/// Draws `k` different things.
pub fn different_things(s: &mut Stream, k: usize) -> Vec<u16> {
    let mut out: Vec<u16> = Vec::new();
    while out.len() < k {
        let t = any_thing(s);
        if !out.contains(&t) {
            out.push(t);
        }
    }
    out
}

impl FlatScene {
    /// Draws a random flat image: a single thing, a few different ones, or several of the same.
    pub fn draw(s: &mut Stream) -> Self {
        let specs = match dice::below(s, 100) {
            0..=34 => return Self::draw_one(s),
            35..=69 => {
                let k = dice::within(s, 2, 4) as usize;
                different_things(s, k).into_iter().map(|t| ItemSpec::of(s, t)).collect()
            }
            _ => {
                let n = dice::within(s, 1, 4) as usize;
                counting(s, n)
            }
        };
        Self::of(s, &specs)
    }

    /// Draws an image of eight to twelve different things, each in its own cell.
    pub fn crowd(s: &mut Stream) -> Self {
        let k = dice::within(s, 8, 12) as usize;
        let things = different_things(s, k);
        let cells = dice::sample(s, &(0..(CELLS * CELLS) as i32).collect::<Vec<_>>(), k);
        let items = things
            .into_iter()
            .zip(cells)
            .map(|(t, cell)| {
                let spec = ItemSpec::of(s, t);
                let (mut item, reach) = item(s, &spec, CROWDED, 1);
                put(s, &mut item, cell, reach, OFF / 2);
                item
            })
            .collect();
        Self { background: Background::draw(s), items, bar: None }
    }

    /// Draws an image of a single thing.
    pub fn draw_one(s: &mut Stream) -> Self {
        let t = any_thing(s);
        let spec = ItemSpec::of(s, t);
        Self::of(s, &[spec])
    }

    /// Draws an image of the given things, each at least 60 % visible.
    pub fn of(s: &mut Stream, specs: &[ItemSpec]) -> Self {
        let background = Background::draw(s);
        for attempt in 0.. {
            let apart = attempt > 4 || dice::chance(s, 75);
            let Some(items) = place(s, specs, if apart { 1.0 } else { 0.8 }, attempt) else { continue };
            let bar = (attempt < 6 && dice::chance(s, 15)).then(|| {
                let long = dice::within(s, 30, 90) as u8;
                let short = dice::within(s, 4, 9) as u8;
                let (width, height) = if dice::chance(s, 50) { (long, short) } else { (short, long) };
                Bar {
                    x: dice::within(s, 0, 90 - i32::from(width).min(90)) as u8,
                    y: dice::within(s, 0, 90 - i32::from(height).min(90)) as u8,
                    width,
                    height,
                }
            });
            let flat = Self { background: background.clone(), items, bar };
            if (0..flat.items.len()).all(|i| flat.visible(i) >= 0.6) {
                return flat;
            }
        }
        Self { background, items: Vec::new(), bar: None }
    }

    /// Returns the visible fraction of an item, 0 to 1, measured on coarse masks.
    pub fn visible(&self, index: usize) -> f32 {
        let Some(item) = self.items.get(index) else { return 0.0 };
        let above = &self.items[index + 1..];
        let (mut all, mut seen) = (0u32, 0u32);
        for (x, y) in item.cells() {
            all += 1;
            let barred = self.bar.as_ref().is_some_and(|b| b.covers(x, y));
            seen += u32::from(!barred && !above.iter().any(|o| o.covers(x, y)));
        }
        seen as f32 / all.max(1) as f32
    }

    /// Returns the index of the item that is visible at a point of the image.
    pub fn at(&self, x: f32, y: f32) -> Option<usize> {
        let barred = self.bar.as_ref().is_some_and(|b| b.covers(x, y));
        if barred { None } else { (0..self.items.len()).rev().find(|&i| self.items[i].covers(x, y)) }
    }

    /// Renders the image.
    pub fn render(&self) -> RgbImage {
        let mut canvas = Canvas::new(&self.background);
        for item in &self.items {
            for (path, rule) in &outline(item.thing).parts {
                canvas.fill(path, *rule, item.place(), palette::rgb(item.colour), item.texture);
            }
        }
        if let Some(b) = &self.bar {
            canvas.rect(f32::from(b.x), f32::from(b.y), f32::from(b.width), f32::from(b.height), [150, 150, 155]);
        }
        canvas.finish()
    }

    /// Returns the number of items of a thing, in any colour.
    pub fn count(&self, thing: u16) -> usize {
        self.items.iter().filter(|i| i.thing == thing).count()
    }

    /// Returns the indices of the items whose thing occurs once, so that its name is unambiguous.
    pub fn unique(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|&i| self.count(self.items[i].thing) == 1).collect()
    }

    /// Returns the spatial relation of item `a` to item `b` if it is clear: the distance along the axis is at least
    /// [`APART`] and twice that along the other axis.
    pub fn relation(&self, a: usize, b: usize) -> Option<Relation> {
        let (a, b) = (self.items.get(a)?, self.items.get(b)?);
        let (dx, dy) = (i32::from(a.x) - i32::from(b.x), i32::from(a.y) - i32::from(b.y));
        if dx.abs() >= APART && dx.abs() >= dy.abs() * 2 {
            Some(if dx < 0 { Relation::Left } else { Relation::Right })
        } else if dy.abs() >= APART && dy.abs() >= dx.abs() * 2 {
            Some(if dy < 0 { Relation::Above } else { Relation::Below })
        } else {
            None
        }
    }
}

/// Minimum distance in pixels between the middles of two things in a relation. It exceeds the side of a cell, so that
/// the two never share the row or column of cells along which they are compared.
const APART: i32 = 28;

/// The spatial relation of one thing to another in the image plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// Above, towards the upper edge.
    Above,
    /// Below, towards the lower edge.
    Below,
}

impl Relation {
    /// All four relations.
    pub const ALL: [Self; 4] = [Self::Left, Self::Right, Self::Above, Self::Below];

    /// Returns the relation as it stands in a sentence: "left of", "right of", "above" or "below".
    pub fn words(self) -> &'static str {
        match self {
            Self::Left => "left of",
            Self::Right => "right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// Returns the relation as an answer of one word: "left", "right", "above" or "below".
    pub fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// Returns the inverse relation.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }
}

/// Draws `n` items of one countable thing, followed by up to two other kinds of things.
pub fn counting(s: &mut Stream, n: usize) -> Vec<ItemSpec> {
    let mut kinds = different_things(s, 8);
    kinds.retain(|t| thing(*t).countable);
    if kinds.is_empty() {
        kinds.push(facts::shape(0));
    }
    let colour = palette::draw(s);
    let same = dice::chance(s, 50);
    let mut specs = Vec::new();
    for _ in 0..n {
        let mut spec = ItemSpec { thing: kinds[0], colour, texture: Texture::Plain };
        if !same {
            spec.colour = palette::draw(s);
        }
        specs.push(spec);
    }
    for &other in kinds.iter().skip(1).take(dice::below(s, 3)) {
        for _ in 0..dice::within(s, 1, 2) {
            if specs.len() < 5 {
                specs.push(ItemSpec { thing: other, colour: palette::draw(s), texture: Texture::Plain });
            }
        }
    }
    specs
}

/// Returns the range of sizes in pixels at which `k` things fit into the image.
fn sizes(k: usize) -> (i32, i32) {
    match k {
        0..=1 => (24, 32),
        2..=3 => (22, 29),
        _ => (21, 26),
    }
}

/// Range of sizes in pixels of the things of a crowd, which hardly overlap.
const CROWDED: (i32, i32) = (20, 24);

/// Maximum offset in pixels of a thing's middle from the middle of its cell, per axis.
const OFF: i32 = 4;

/// Places every item in its own cell, near the middle of the cell; `gap` below 1 allows overlaps. Returns `None` if an
/// item does not fit.
fn place(s: &mut Stream, specs: &[ItemSpec], gap: f32, attempt: usize) -> Option<Vec<FlatItem>> {
    let (low, high) = sizes(specs.len());
    let high = (high - attempt as i32).max(low);
    let mut items: Vec<FlatItem> = Vec::new();
    let mut cells: Vec<i32> = (0..(CELLS * CELLS) as i32).collect();
    dice::shuffle(s, &mut cells);
    for spec in specs {
        let (mut item, reach) = item(s, spec, (low, high), specs.len());
        let mut found = false;
        while let Some(cell) = cells.pop() {
            put(s, &mut item, cell, reach, OFF);
            found = items.iter().all(|o| {
                let (dx, dy) = (f32::from(o.x) - f32::from(item.x), f32::from(o.y) - f32::from(item.y));
                let need = (o.reach() + item.reach()) * gap;
                dx.abs().max(dy.abs()) >= need || dx * dx + dy * dy >= need * need
            });
            if found {
                break;
            }
        }
        if !found {
            return None;
        }
        items.push(item);
    }
    Some(items)
}

/// Draws an item without a position, for an image of `among` things, and returns it with its half extent in pixels.
fn item(s: &mut Stream, spec: &ItemSpec, (low, high): (i32, i32), among: usize) -> (FlatItem, i32) {
    let what = thing(spec.thing);
    let item = FlatItem {
        thing: spec.thing,
        colour: spec.colour,
        texture: spec.texture,
        size: dice::within(s, low, high) as u8,
        x: 0,
        y: 0,
        turn: turn(s, spec.thing, what, among),
        mirrored: what.faces.is_some() && dice::chance(s, 50),
    };
    let reach = item.reach().ceil() as i32 + 1;
    (item, reach)
}

/// Places an item at most `off` pixels per axis from the middle of a cell, and completely inside the image.
fn put(s: &mut Stream, item: &mut FlatItem, cell: i32, reach: i32, off: i32) {
    let (side, count) = (i32::from(CELL_SIDE), CELLS as i32);
    let mut near = |at: i32| {
        let middle = at * side + side / 2 + dice::within(s, -off, off);
        middle.clamp(reach, SIZE as i32 - 1 - reach) as u8
    };
    (item.x, item.y) = (near(cell % count), near(cell / count));
}

fn turn(s: &mut Stream, id: u16, what: &Thing, among: usize) -> i16 {
    if id == facts::arrow() {
        return (dice::below(s, 4) * 90) as i16 + dice::within(s, -10, 10) as i16;
    }
    match what.name.as_str() {
        "circle" | "ring" => 0,
        _ if what.upright && among == 1 && dice::chance(s, 15) => 180 + dice::within(s, -10, 10) as i16,
        _ => dice::within(s, -9, 9) as i16,
    }
}
