//! Perspective images: lit spheres, boxes and cylinders on a ground plane, with true depths and distances.

use burgess_base::stream::Stream;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::palette::{self, Rgb};
use crate::{SIZE, dice, raycast};

/// The kinds of solids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    Sphere,
    Box,
    Cylinder,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sphere, Self::Box, Self::Cylinder];

    /// "sphere", "box", "cylinder".
    pub fn name(self) -> &'static str {
        match self {
            Self::Sphere => "sphere",
            Self::Box => "box",
            Self::Cylinder => "cylinder",
        }
    }
}

/// One solid standing on the ground. Lengths in centimetres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Solid {
    pub form: Form,
    /// Number of its colour.
    pub colour: u8,
    /// Half its width.
    pub radius: u16,
    /// Half its height; the radius for a sphere.
    pub rise: u16,
    /// Middle, to the right of the camera's axis.
    pub x: i16,
    /// Middle, away from the camera along the ground.
    pub z: i16,
    /// Turn about the vertical in degrees; 0 unless a box.
    pub turn: u8,
}

impl Solid {
    /// "red sphere".
    pub fn phrase(&self) -> String {
        format!("{} {}", palette::name(self.colour), self.form.name())
    }

    /// Its middle: right, up, away.
    pub fn centre(&self) -> [f32; 3] {
        [f32::from(self.x), f32::from(self.rise), f32::from(self.z)]
    }
}

/// A whole perspective image. The camera stands at the origin, `height` above the ground, and looks down by `pitch` degrees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Solids {
    pub solids: Vec<Solid>,
    pub height: u16,
    pub pitch: u8,
    /// Where the light comes from, degrees about the vertical.
    pub sun: i16,
    pub ground: Rgb,
    pub sky: Rgb,
}

impl Solids {
    /// Two or three solids, each of its own description, each in full view and at least 60 % visible.
    pub fn draw(s: &mut Stream) -> Self {
        let n = dice::within(s, 2, 3) as usize;
        Self::of(s, n)
    }

    /// `n` solids.
    pub fn of(s: &mut Stream, n: usize) -> Self {
        loop {
            let mut all: Vec<(Form, u8)> =
                Form::ALL.iter().flat_map(|f| (0..palette::COLOURS.len() as u8).map(move |c| (*f, c))).collect();
            dice::shuffle(s, &mut all);
            all.truncate(n);
            let mut scene = Self {
                solids: Vec::new(),
                height: dice::within(s, 120, 200) as u16,
                pitch: dice::within(s, 18, 28) as u8,
                sun: dice::within(s, -60, 60) as i16,
                ground: palette::pale(s).map(|c| c - 40),
                sky: palette::pale(s),
            };
            for (form, colour) in all {
                let radius = dice::within(s, 26, 48) as u16;
                let rise = if form == Form::Sphere { radius } else { dice::within(s, 24, 52) as u16 };
                for _ in 0..30 {
                    let z = dice::within(s, 190, 640) as i16;
                    let half = i32::from(z) * 42 / 100;
                    let solid = Solid {
                        form,
                        colour,
                        radius,
                        rise,
                        x: dice::within(s, -half, half) as i16,
                        z,
                        turn: if form == Form::Box { dice::within(s, 0, 89) as u8 } else { 0 },
                    };
                    let free = scene.solids.iter().all(|o| {
                        let (dx, dz) = (f32::from(o.x - solid.x), f32::from(o.z - solid.z));
                        dx.hypot(dz) > f32::from(o.radius + solid.radius) * 1.45
                    });
                    if free {
                        scene.solids.push(solid);
                        break;
                    }
                }
            }
            if scene.solids.len() == n
                && raycast::visibility(&scene).iter().all(|v| v.share >= 0.6 && v.pixels >= 60 && v.inside)
            {
                return scene;
            }
        }
    }

    /// The image.
    pub fn render(&self) -> RgbImage {
        raycast::render(self, SIZE)
    }

    /// Distance from the camera to the middle of a solid.
    pub fn depth(&self, index: usize) -> f32 {
        let c = self.solids[index].centre();
        let dy = c[1] - f32::from(self.height);
        (c[0] * c[0] + dy * dy + c[2] * c[2]).sqrt()
    }

    /// The depth of a solid on a scale of 1 (near) to 8 (far), whose steps are 16 %: two solids of which one is clearly
    /// closer never have the same.
    pub fn depth_level(&self, index: usize) -> u8 {
        (1.0 + (self.depth(index) / 230.0).ln() / 1.16_f32.ln()).round().clamp(1.0, 8.0) as u8
    }

    /// Distance between the middles of two solids.
    pub fn distance(&self, a: usize, b: usize) -> f32 {
        let (a, b) = (self.solids[a].centre(), self.solids[b].centre());
        a.iter().zip(b).map(|(p, q)| (p - q) * (p - q)).sum::<f32>().sqrt()
    }

    /// Whether `a` is clearly closer to the camera than `b`: by a fifth, for the middles and for the nearest points.
    pub fn clearly_closer(&self, a: usize, b: usize) -> bool {
        let near = |i: usize| self.depth(i) - f32::from(self.solids[i].radius);
        self.depth(a) * 1.2 < self.depth(b) && near(a) * 1.15 < near(b)
    }

    /// Whether `a` is clearly nearer to `to` than `b` is: by 40 %.
    pub fn clearly_nearer(&self, to: usize, a: usize, b: usize) -> bool {
        self.distance(to, a) * 1.4 < self.distance(to, b)
    }
}
