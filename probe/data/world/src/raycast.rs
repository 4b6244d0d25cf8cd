//! A ray caster for a few lit bodies on a ground plane: one primary ray and one shadow ray per sample, nine samples per
//! pixel at edges and one elsewhere.
//!
//! World coordinates are in centimetres: x to the right, y up, z away from the camera, which stands above the origin.

use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::palette;

/// A vector: right, up, away.
pub type V = [f32; 3];

fn dot(a: V, b: V) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit(a: V) -> V {
    let l = dot(a, a).sqrt().max(1e-9);
    a.map(|c| c / l)
}

/// Half the width of the field of view at distance 1.
pub const SPREAD: f32 = 0.5;

/// The shape of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SolidForm {
    /// A sphere of the given radius.
    Sphere,
    /// A cuboid with a square base.
    Box,
    /// An upright circular cylinder.
    Cylinder,
}

impl SolidForm {
    /// Every form, in the order of the classes.
    pub const ALL: [Self; 3] = [Self::Sphere, Self::Box, Self::Cylinder];

    /// Returns "sphere", "box" or "cylinder".
    pub fn name(self) -> &'static str {
        match self {
            Self::Sphere => "sphere",
            Self::Box => "box",
            Self::Cylinder => "cylinder",
        }
    }
}

/// A body to be rendered. Lengths are in centimetres.
pub struct Body {
    form: SolidForm,
    centre: V,
    /// Half its width.
    radius: f32,
    /// Half its height.
    rise: f32,
    /// Squared radius of a sphere that contains the body.
    pub bound: f32,
    /// Cosine and sine of the rotation about the vertical axis.
    turn: (f32, f32),
    /// Red, green and blue, 0 to 1.
    colour: V,
}

/// Bodies, camera, light and background of one image.
pub struct RayScene {
    /// The bodies, by index.
    pub bodies: Vec<Body>,
    /// Position of the camera.
    pub eye: V,
    /// Cosine and sine of the angle by which the camera looks down.
    pitch: (f32, f32),
    /// Unit vector towards the light.
    light: V,
    /// Colour of the ground, 0 to 1.
    ground: V,
    /// Colour of the sky, 0 to 1.
    sky: V,
}

/// The first intersection of a ray with a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Distance along the ray, in centimetres.
    pub at: f32,
    /// Outward unit normal of the surface.
    normal: V,
}

/// How much of a body is visible.
#[derive(Clone, Copy, Debug)]
pub struct Visibility {
    /// Fraction of its outline that no other body hides, 0 to 1.
    pub share: f32,
    /// Number of its visible pixels at 96×96.
    pub pixels: u32,
    /// Whether its outline lies within the image and does not touch the border.
    pub inside: bool,
}

impl Body {
    /// Creates a body of half the width `radius` and half the height `rise`, rotated by `turn` degrees about the
    /// vertical axis, in a named colour.
    pub fn new(form: SolidForm, centre: V, radius: f32, rise: f32, turn: f32, colour: u8) -> Self {
        let bound = match form {
            SolidForm::Sphere => radius * radius,
            SolidForm::Cylinder => radius * radius + rise * rise,
            SolidForm::Box => 2.0 * radius * radius + rise * rise,
        };
        let (sin, cos) = turn.to_radians().sin_cos();
        let colour = palette::rgb(colour).map(|c| f32::from(c) / 255.0);
        Self { form, centre, radius, rise, bound: bound * 1.001, turn: (cos, sin), colour }
    }

    /// Returns the first intersection of a ray beyond 0.05 cm; `direction` has length 1.
    fn hit(&self, from: V, direction: V) -> Option<Hit> {
        let o: V = std::array::from_fn(|i| from[i] - self.centre[i]);
        let b = dot(o, direction);
        let c = dot(o, o);
        // A ray that misses the containing sphere misses the body.
        if c - b * b > self.bound || (b > 0.0 && c > self.bound) {
            return None;
        }
        match self.form {
            SolidForm::Sphere => {
                let d = b * b - c + self.radius * self.radius;
                let at = -b - d.max(0.0).sqrt();
                (d > 0.0 && at > 0.05)
                    .then(|| Hit { at, normal: std::array::from_fn(|i| (o[i] + direction[i] * at) / self.radius) })
            }
            SolidForm::Cylinder => self.cylinder(o, direction),
            SolidForm::Box => self.cuboid(o, direction),
        }
    }

    fn cylinder(&self, o: V, d: V) -> Option<Hit> {
        let mut best: Option<Hit> = None;
        let a = d[0] * d[0] + d[2] * d[2];
        let b = o[0] * d[0] + o[2] * d[2];
        let c = o[0] * o[0] + o[2] * o[2] - self.radius * self.radius;
        let root = b * b - a * c;
        if a > 1e-9 && root > 0.0 {
            let at = (-b - root.sqrt()) / a;
            if at > 0.05 && (o[1] + d[1] * at).abs() <= self.rise {
                best =
                    Some(Hit { at, normal: [(o[0] + d[0] * at) / self.radius, 0.0, (o[2] + d[2] * at) / self.radius] });
            }
        }
        if d[1].abs() > 1e-9 {
            let side = -d[1].signum();
            let at = (side * self.rise - o[1]) / d[1];
            let (x, z) = (o[0] + d[0] * at, o[2] + d[2] * at);
            if at > 0.05 && x * x + z * z <= self.radius * self.radius && best.is_none_or(|h| at < h.at) {
                best = Some(Hit { at, normal: [0.0, side, 0.0] });
            }
        }
        best
    }

    fn cuboid(&self, o: V, d: V) -> Option<Hit> {
        let (cos, sin) = self.turn;
        let o = [o[0] * cos + o[2] * sin, o[1], o[2] * cos - o[0] * sin];
        let d = [d[0] * cos + d[2] * sin, d[1], d[2] * cos - d[0] * sin];
        let half = [self.radius, self.rise, self.radius];
        let (mut near, mut far, mut axis) = (f32::NEG_INFINITY, f32::INFINITY, 0);
        for i in 0..3 {
            if d[i].abs() < 1e-9 {
                if o[i].abs() > half[i] {
                    return None;
                }
                continue;
            }
            let (a, b) = ((-half[i] - o[i]) / d[i], (half[i] - o[i]) / d[i]);
            if a.min(b) > near {
                (near, axis) = (a.min(b), i);
            }
            far = far.min(a.max(b));
        }
        if near > far || near < 0.05 {
            return None;
        }
        let mut n = [0.0; 3];
        n[axis] = -d[axis].signum();
        Some(Hit { at: near, normal: [n[0] * cos - n[2] * sin, n[1], n[2] * cos + n[0] * sin] })
    }
}

impl RayScene {
    /// Creates a scene whose camera stands `height` centimetres above the ground and looks down by `pitch` degrees,
    /// with the light from `sun` degrees about the vertical axis.
    pub fn new(bodies: Vec<Body>, height: f32, pitch: f32, sun: f32, ground: palette::Rgb, sky: palette::Rgb) -> Self {
        let (sin, cos) = pitch.to_radians().sin_cos();
        let (ls, lc) = sun.to_radians().sin_cos();
        Self {
            bodies,
            eye: [0.0, height, 0.0],
            pitch: (cos, sin),
            light: unit([ls * 0.8, 1.15, -lc * 0.8]),
            ground: ground.map(|c| f32::from(c) / 255.0),
            sky: sky.map(|c| f32::from(c) / 255.0),
        }
    }

    /// Returns the direction of the ray through a point of the image, both coordinates from 0 to 1.
    pub fn ray(&self, u: f32, v: f32) -> V {
        let (x, y) = ((u * 2.0 - 1.0) * SPREAD, (1.0 - v * 2.0) * SPREAD);
        let (cos, sin) = self.pitch;
        unit([x, y * cos - sin, cos + y * sin])
    }

    /// Returns the first body that a ray intersects, by its index.
    pub fn first(&self, from: V, direction: V) -> Option<(usize, Hit)> {
        let mut best: Option<(usize, Hit)> = None;
        for (i, body) in self.bodies.iter().enumerate() {
            if let Some(hit) = body.hit(from, direction)
                && best.is_none_or(|(_, b)| hit.at < b.at)
            {
                best = Some((i, hit));
            }
        }
        best
    }

    fn shaded(&self, point: V) -> bool {
        self.bodies.iter().any(|b| b.hit(point, self.light).is_some())
    }

    /// Returns the colour of a point, 0 to 1, and a tag that differs on the two sides of every visible edge.
    fn sample(&self, u: f32, v: f32) -> (V, u16) {
        let d = self.ray(u, v);
        if let Some((i, hit)) = self.first(self.eye, d) {
            let body = &self.bodies[i];
            let point: V = std::array::from_fn(|k| self.eye[k] + d[k] * hit.at + hit.normal[k] * 0.2);
            let towards = dot(hit.normal, self.light);
            let dark = towards <= 0.0 || self.shaded(point);
            let direct = if dark { 0.0 } else { towards };
            let shade = 0.42 + 0.14 * hit.normal[1].max(0.0) + 0.55 * direct;
            let half = unit(std::array::from_fn(|k| self.light[k] - d[k]));
            let gloss = if dark { 0.0 } else { 0.35 * dot(half, hit.normal).max(0.0).powi(32) };
            // The tag holds the face, so that a box's edges are smooth too.
            let face = if body.form == SolidForm::Sphere {
                0
            } else {
                (hit.normal[1] > 0.5) as u16 + 2 * (body.form == SolidForm::Box && hit.normal[0] > 0.0) as u16
            };
            return (
                body.colour.map(|c| (c * shade + gloss).min(1.0)),
                1 + (i as u16) * 16 + face * 2 + u16::from(dark),
            );
        }
        if d[1] > -1e-4 {
            return (self.sky, 0);
        }
        let at = -self.eye[1] / d[1];
        let point: V = std::array::from_fn(|k| self.eye[k] + d[k] * at);
        let dark = at < 3000.0 && self.shaded([point[0], 0.1, point[2]]);
        // The ground fades into the sky towards the horizon, as in haze.
        let fade = (at / 2500.0).min(1.0);
        let lit = if dark { 0.58 } else { 1.0 };
        (std::array::from_fn(|k| self.ground[k] * lit * (1.0 - fade) + self.sky[k] * fade), 2000 + u16::from(dark))
    }

    /// Renders an image of `side`×`side` pixels: one sample per pixel, nine where a neighbour has another tag.
    pub fn render(&self, side: u32) -> RgbImage {
        let n = side as usize;
        let centre = |i: usize| (i as f32 + 0.5) / side as f32;
        let first: Vec<(V, u16)> = (0..n * n).map(|p| self.sample(centre(p % n), centre(p / n))).collect();
        RgbImage::from_fn(side, side, |x, y| {
            let (i, j) = (x as usize, y as usize);
            let (mut colour, tag) = first[j * n + i];
            let differs = |i: usize, j: usize| first.get(j * n + i).is_some_and(|(_, t)| *t != tag);
            if (i > 0 && differs(i - 1, j))
                || (i + 1 < n && differs(i + 1, j))
                || (j > 0 && differs(i, j - 1))
                || differs(i, j + 1)
            {
                let mut sum = [0.0; 3];
                for k in 0..9 {
                    let (du, dv) = ((k % 3) as f32 / 3.0 - 1.0 / 3.0, (k / 3) as f32 / 3.0 - 1.0 / 3.0);
                    let (c, _) = self.sample(centre(i) + du / side as f32, centre(j) + dv / side as f32);
                    sum = std::array::from_fn(|q| sum[q] + c[q]);
                }
                colour = sum.map(|c| c / 9.0);
            }
            Rgb(colour.map(|c| (c * 255.0).round().clamp(0.0, 255.0) as u8))
        })
    }

    /// Returns the index of the body that is visible at a point of the image, both coordinates from 0 to 1.
    pub fn body_at(&self, u: f32, v: f32) -> Option<usize> {
        self.first(self.eye, self.ray(u, v)).map(|(i, _)| i)
    }

    /// Returns the distance in centimetres from the camera to the body or the ground that is visible at a point of the
    /// image, both coordinates from 0 to 1; `None` for the sky.
    pub fn distance_at(&self, u: f32, v: f32) -> Option<f32> {
        let d = self.ray(u, v);
        match self.first(self.eye, d) {
            Some((_, hit)) => Some(hit.at),
            None => (d[1] < -1e-4).then(|| -self.eye[1] / d[1]),
        }
    }

    /// Returns the visibility of each body, measured on a grid of 48×48 rays.
    pub fn visibility(&self) -> Vec<Visibility> {
        const N: usize = 48;
        let mut own = vec![0u32; self.bodies.len()];
        let mut seen = own.clone();
        let mut inside = vec![true; self.bodies.len()];
        for j in 0..N {
            for i in 0..N {
                let d = self.ray((i as f32 + 0.5) / N as f32, (j as f32 + 0.5) / N as f32);
                let mut best: Option<(usize, f32)> = None;
                for (k, body) in self.bodies.iter().enumerate() {
                    if let Some(hit) = body.hit(self.eye, d) {
                        own[k] += 1;
                        if i == 0 || j == 0 || i == N - 1 || j == N - 1 {
                            inside[k] = false;
                        }
                        if best.is_none_or(|(_, at)| hit.at < at) {
                            best = Some((k, hit.at));
                        }
                    }
                }
                if let Some((k, _)) = best {
                    seen[k] += 1;
                }
            }
        }
        (0..own.len())
            .map(|k| Visibility {
                share: seen[k] as f32 / own[k].max(1) as f32,
                pixels: seen[k] * 4,
                inside: inside[k] && own[k] > 0,
            })
            .collect()
    }
}
