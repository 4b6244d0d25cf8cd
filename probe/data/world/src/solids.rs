//! Perspective images: lit spheres, boxes and cylinders on a ground plane, with exact depths and distances.

use burgess_base::stream::Stream;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::dice;
use crate::grid::SIZE;
use crate::palette::{self, Rgb};
use crate::raycast::{Body, RayScene};

pub use crate::raycast::SolidForm;

/// A solid that stands on the ground. Lengths are in centimetres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Solid {
    /// Form of the solid.
    pub form: SolidForm,
    /// Number of its colour, as in [`palette::COLOURS`].
    pub colour: u8,
    /// Half its width.
    pub radius: u16,
    /// Half its height; the radius for a sphere.
    pub rise: u16,
    /// Middle, to the right of the camera.
    pub x: i16,
    /// Middle, distance from the camera along the ground.
    pub z: i16,
    /// Rotation about the vertical axis in degrees, 0 to 89; 0 unless it is a box.
    pub turn: u8,
}

impl Solid {
    /// Returns colour and form, such as "red sphere".
    pub fn phrase(&self) -> String {
        format!("{} {}", palette::name(self.colour), self.form.name())
    }

    /// Returns its middle: right, up, away, in centimetres.
    pub fn centre(&self) -> [f32; 3] {
        [f32::from(self.x), f32::from(self.rise), f32::from(self.z)]
    }
}

/// The contents of a perspective image. The camera stands above the origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SolidScene {
    /// The solids, in no particular order.
    pub solids: Vec<Solid>,
    /// Height of the camera above the ground, in centimetres.
    pub height: u16,
    /// Angle by which the camera looks down, in degrees.
    pub pitch: u8,
    /// Direction of the light about the vertical axis, in degrees, −60 to 60.
    pub sun: i16,
    /// Colour of the ground.
    pub ground: Rgb,
    /// Colour of the sky.
    pub sky: Rgb,
}

impl SolidScene {
    /// Draws two or three solids that differ in colour or form, each completely inside the image and at least 60 %
    /// visible.
    pub fn draw(s: &mut Stream) -> Self {
        let n = dice::within(s, 2, 3) as usize;
        Self::of(s, n)
    }

    /// Draws `n` solids under the same conditions.
    pub fn of(s: &mut Stream, n: usize) -> Self {
        loop {
            let mut all: Vec<(SolidForm, u8)> =
                SolidForm::ALL.iter().flat_map(|f| (0..palette::COLOURS.len() as u8).map(move |c| (*f, c))).collect();
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
                let rise = if form == SolidForm::Sphere { radius } else { dice::within(s, 24, 52) as u16 };
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
                        turn: if form == SolidForm::Box { dice::within(s, 0, 89) as u8 } else { 0 },
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
                && scene.ray_scene().visibility().iter().all(|v| v.share >= 0.6 && v.pixels >= 60 && v.inside)
            {
                return scene;
            }
        }
    }

    /// Returns the description that the ray caster renders and measures.
    pub fn ray_scene(&self) -> RayScene {
        let body = |x: &Solid| {
            Body::new(x.form, x.centre(), f32::from(x.radius), f32::from(x.rise), f32::from(x.turn), x.colour)
        };
        let bodies = self.solids.iter().map(body).collect();
        let (height, pitch, sun) = (f32::from(self.height), f32::from(self.pitch), f32::from(self.sun));
        RayScene::new(bodies, height, pitch, sun, self.ground, self.sky)
    }

    /// Renders the image.
    pub fn render(&self) -> RgbImage {
        self.ray_scene().render(SIZE)
    }

    /// Returns the distance from the camera to the middle of a solid, in centimetres.
    pub fn depth(&self, index: usize) -> f32 {
        let c = self.solids[index].centre();
        let dy = c[1] - f32::from(self.height);
        (c[0] * c[0] + dy * dy + c[2] * c[2]).sqrt()
    }

    /// Returns the depth of a solid on a logarithmic scale of 1 (near) to 8 (far) with steps of 16 %, so that two
    /// solids of which one is clearly closer never have the same level.
    pub fn depth_level(&self, index: usize) -> u8 {
        (1.0 + (self.depth(index) / 230.0).ln() / 1.16_f32.ln()).round().clamp(1.0, 8.0) as u8
    }

    /// Returns the distance between the middles of two solids, in centimetres.
    pub fn distance(&self, a: usize, b: usize) -> f32 {
        let (a, b) = (self.solids[a].centre(), self.solids[b].centre());
        a.iter().zip(b).map(|(p, q)| (p - q) * (p - q)).sum::<f32>().sqrt()
    }

    /// Returns whether `a` is clearly closer to the camera than `b`: by 20 % at the middles and by 15 % at the nearest
    /// points.
    pub fn clearly_closer(&self, a: usize, b: usize) -> bool {
        let near = |i: usize| self.depth(i) - f32::from(self.solids[i].radius);
        self.depth(a) * 1.2 < self.depth(b) && near(a) * 1.15 < near(b)
    }

    /// Returns whether `a` is clearly closer to `to` than `b` is: by 40 %.
    pub fn clearly_nearer(&self, to: usize, a: usize, b: usize) -> bool {
        self.distance(to, a) * 1.4 < self.distance(to, b)
    }
}

#[cfg(test)]
mod tests {
    use burgess_base::stream::stream;

    use super::*;
    use crate::raycast::{SPREAD, V};

    /// At the projection of a solid's middle, the ray caster hits that solid at the stated distance, or a nearer one.
    #[test]
    fn the_image_agrees_with_the_stated_depths() {
        let mut met = 0;
        for i in 0..200 {
            let scene = SolidScene::draw(&mut stream("rays", i));
            let world = scene.ray_scene();
            for (k, solid) in scene.solids.iter().enumerate() {
                let (sin, cos) = f32::from(scene.pitch).to_radians().sin_cos();
                let p: V = std::array::from_fn(|q| solid.centre()[q] - world.eye[q]);
                // Camera axes: x to the right, `along` forward, `up` upward.
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
    fn visibility_accounts_for_occlusion_and_left_stays_left() {
        let ball = |colour: u8, z: i16, radius: u16| Solid {
            form: SolidForm::Sphere,
            colour,
            radius,
            rise: radius,
            x: 0,
            z,
            turn: 0,
        };
        let mut scene = SolidScene {
            solids: vec![ball(0, 300, 40), ball(4, 500, 30)],
            height: 60,
            pitch: 0,
            sun: 0,
            ground: [200; 3],
            sky: [230; 3],
        };
        let seen = scene.ray_scene().visibility();
        assert!(seen[0].share == 1.0 && seen[1].share < 0.3, "{seen:?}");
        scene.solids[0].x = -90;
        assert!(scene.ray_scene().visibility()[1].share == 1.0);
        // The left of the image is the left of the scene.
        let image = scene.render();
        let red = |x: u32| image.get_pixel(x, 48).0;
        assert!(
            (0..48).any(|x| red(x)[0] > 150 && red(x)[1] < 90) && !(48..96).any(|x| red(x)[0] > 150 && red(x)[1] < 90)
        );
    }
}
