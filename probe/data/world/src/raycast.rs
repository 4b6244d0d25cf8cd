//! A small ray caster: one primary ray and one shadow ray a sample, more samples where the image changes.

use image::{Rgb, RgbImage};

use crate::palette;
use crate::solids::{Form, Solid, Solids};

type V = [f32; 3];

fn dot(a: V, b: V) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit(a: V) -> V {
    let l = dot(a, a).sqrt().max(1e-9);
    a.map(|c| c / l)
}

/// Half the field of view's width at distance 1.
const SPREAD: f32 = 0.5;

struct Body {
    form: Form,
    centre: V,
    radius: f32,
    rise: f32,
    /// Squared radius of a ball around it all.
    bound: f32,
    /// Cosine and sine of the turn.
    turn: (f32, f32),
    colour: V,
}

struct World {
    bodies: Vec<Body>,
    eye: V,
    /// Cosine and sine of the pitch.
    pitch: (f32, f32),
    light: V,
    ground: V,
    sky: V,
}

/// What a ray meets first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hit {
    at: f32,
    normal: V,
}

impl Body {
    fn new(solid: &Solid) -> Self {
        let (radius, rise) = (f32::from(solid.radius), f32::from(solid.rise));
        let bound = match solid.form {
            Form::Sphere => radius * radius,
            Form::Cylinder => radius * radius + rise * rise,
            Form::Box => 2.0 * radius * radius + rise * rise,
        };
        let (sin, cos) = f32::from(solid.turn).to_radians().sin_cos();
        let colour = palette::rgb(solid.colour).map(|c| f32::from(c) / 255.0);
        Self { form: solid.form, centre: solid.centre(), radius, rise, bound: bound * 1.001, turn: (cos, sin), colour }
    }

    /// The first point of the ray beyond a small distance; `direction` has length 1.
    fn hit(&self, from: V, direction: V) -> Option<Hit> {
        let o: V = std::array::from_fn(|i| from[i] - self.centre[i]);
        let b = dot(o, direction);
        let c = dot(o, o);
        // Far from the ball around the body, nothing else need be asked.
        if c - b * b > self.bound || (b > 0.0 && c > self.bound) {
            return None;
        }
        match self.form {
            Form::Sphere => {
                let d = b * b - c + self.radius * self.radius;
                let at = -b - d.max(0.0).sqrt();
                (d > 0.0 && at > 0.05)
                    .then(|| Hit { at, normal: std::array::from_fn(|i| (o[i] + direction[i] * at) / self.radius) })
            }
            Form::Cylinder => self.cylinder(o, direction),
            Form::Box => self.cuboid(o, direction),
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

impl World {
    fn new(scene: &Solids) -> Self {
        let (sin, cos) = f32::from(scene.pitch).to_radians().sin_cos();
        let (ls, lc) = f32::from(scene.sun).to_radians().sin_cos();
        Self {
            bodies: scene.solids.iter().map(Body::new).collect(),
            eye: [0.0, f32::from(scene.height), 0.0],
            pitch: (cos, sin),
            light: unit([ls * 0.8, 1.15, -lc * 0.8]),
            ground: scene.ground.map(|c| f32::from(c) / 255.0),
            sky: scene.sky.map(|c| f32::from(c) / 255.0),
        }
    }

    /// The ray through a point of the image, both coordinates from 0 to 1.
    fn ray(&self, u: f32, v: f32) -> V {
        let (x, y) = ((u * 2.0 - 1.0) * SPREAD, (1.0 - v * 2.0) * SPREAD);
        let (cos, sin) = self.pitch;
        unit([x, y * cos - sin, cos + y * sin])
    }

    fn first(&self, from: V, direction: V) -> Option<(usize, Hit)> {
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

    /// Colour from 0 to 1, and a tag that changes wherever an edge is.
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
            let face = if body.form == Form::Sphere {
                0
            } else {
                (hit.normal[1] > 0.5) as u16 + 2 * (body.form == Form::Box && hit.normal[0] > 0.0) as u16
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
        // The ground fades towards the horizon, as air does.
        let fade = (at / 2500.0).min(1.0);
        let lit = if dark { 0.58 } else { 1.0 };
        (std::array::from_fn(|k| self.ground[k] * lit * (1.0 - fade) + self.sky[k] * fade), 2000 + u16::from(dark))
    }
}

/// The image, `side` pixels square: one sample a pixel, nine where a neighbour shows something else.
pub fn render(scene: &Solids, side: u32) -> RgbImage {
    let world = World::new(scene);
    let n = side as usize;
    let centre = |i: usize| (i as f32 + 0.5) / side as f32;
    let first: Vec<(V, u16)> = (0..n * n).map(|p| world.sample(centre(p % n), centre(p / n))).collect();
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
                let (c, _) = world.sample(centre(i) + du / side as f32, centre(j) + dv / side as f32);
                sum = std::array::from_fn(|q| sum[q] + c[q]);
            }
            colour = sum.map(|c| c / 9.0);
        }
        Rgb(colour.map(|c| (c * 255.0).round().clamp(0.0, 255.0) as u8))
    })
}

/// Which solid is seen at a point of the image, both coordinates from 0 to 1.
pub fn first_met(scene: &Solids) -> impl Fn(f32, f32) -> Option<usize> {
    let world = World::new(scene);
    move |u, v| world.first(world.eye, world.ray(u, v)).map(|(i, _)| i)
}

/// The distance from the camera, in centimetres, of what is seen at a point of the image, both coordinates from 0 to
/// 1: of a solid or of the ground; none for the sky.
pub fn distances(scene: &Solids) -> impl Fn(f32, f32) -> Option<f32> {
    let world = World::new(scene);
    move |u, v| {
        let d = world.ray(u, v);
        match world.first(world.eye, d) {
            Some((_, hit)) => Some(hit.at),
            None => (d[1] < -1e-4).then(|| -world.eye[1] / d[1]),
        }
    }
}

/// How a solid is seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Share of its outline that nothing hides.
    pub share: f32,
    /// Visible pixels at 96×96.
    pub pixels: u32,
    /// Whether its outline ends before the image's edge.
    pub inside: bool,
}

/// How each solid is seen, on a grid of 48×48 rays.
pub fn visibility(scene: &Solids) -> Vec<Seen> {
    const N: usize = 48;
    let world = World::new(scene);
    let mut own = vec![0u32; world.bodies.len()];
    let mut seen = own.clone();
    let mut inside = vec![true; world.bodies.len()];
    for j in 0..N {
        for i in 0..N {
            let d = world.ray((i as f32 + 0.5) / N as f32, (j as f32 + 0.5) / N as f32);
            let mut best: Option<(usize, f32)> = None;
            for (k, body) in world.bodies.iter().enumerate() {
                if let Some(hit) = body.hit(world.eye, d) {
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
        .map(|k| Seen {
            share: seen[k] as f32 / own[k].max(1) as f32,
            pixels: seen[k] * 4,
            inside: inside[k] && own[k] > 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use burgess_base::stream::stream;

    use super::*;

    /// Where the stated middle of a solid appears, the ray caster meets that solid, at the stated distance, or
    /// something nearer.
    #[test]
    fn the_image_agrees_with_the_stated_depths() {
        let mut met = 0;
        for i in 0..200 {
            let scene = Solids::draw(&mut stream("rays", i));
            let world = World::new(&scene);
            for (k, solid) in scene.solids.iter().enumerate() {
                let (sin, cos) = f32::from(scene.pitch).to_radians().sin_cos();
                let p: V = std::array::from_fn(|q| solid.centre()[q] - world.eye[q]);
                // Camera axes: x right, along, up.
                let along = p[2] * cos - p[1] * sin;
                let up = p[1] * cos + p[2] * sin;
                let (u, v) = (0.5 + p[0] / along / SPREAD / 2.0, 0.5 - up / along / SPREAD / 2.0);
                assert!((0.0..1.0).contains(&u) && (0.0..1.0).contains(&v), "{scene:?}");
                let Some((first, hit)) = world.first(world.eye, world.ray(u, v)) else {
                    panic!("nothing met: {scene:?}")
                };
                let reach = world.bodies[k].bound.sqrt();
                if first == k {
                    met += 1;
                    assert!(
                        (scene.depth(k) - hit.at) <= reach && hit.at <= scene.depth(k),
                        "{hit:?} {}",
                        scene.depth(k)
                    );
                } else {
                    assert!(hit.at < scene.depth(k));
                }
            }
        }
        assert!(met > 450, "{met}");
    }

    #[test]
    fn what_hides_is_counted() {
        let ball = |colour: u8, z: i16, radius: u16| Solid {
            form: Form::Sphere,
            colour,
            radius,
            rise: radius,
            x: 0,
            z,
            turn: 0,
        };
        let mut scene = Solids {
            solids: vec![ball(0, 300, 40), ball(4, 500, 30)],
            height: 60,
            pitch: 0,
            sun: 0,
            ground: [200; 3],
            sky: [230; 3],
        };
        let seen = visibility(&scene);
        assert!(seen[0].share == 1.0 && seen[1].share < 0.3, "{seen:?}");
        scene.solids[0].x = -90;
        assert!(visibility(&scene)[1].share == 1.0);
        // The left of the image is the left of the world.
        let image = scene.render();
        let red = |x: u32| image.get_pixel(x, 48).0;
        assert!(
            (0..48).any(|x| red(x)[0] > 150 && red(x)[1] < 90) && !(48..96).any(|x| red(x)[0] > 150 && red(x)[1] < 90)
        );
    }
}
