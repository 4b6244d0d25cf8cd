//! Contact sheets for visual inspection, run by hand: `WORLD_SHEETS=DIR cargo test -p burgess-world --release
//! contact_sheets -- --ignored`.

use std::path::PathBuf;

use burgess_base::Result;
use burgess_base::stream::stream;
use image::{RgbImage, imageops};

use crate::canvas::{Background, Canvas, Texture};
use crate::facts::THINGS;
use crate::flat::{FlatItem, FlatScene};
use crate::grid::SIZE;
use crate::questions::BENCHMARKS;
use crate::scene::{Scene, SceneSplit};

fn sheet(name: &str, images: &[RgbImage], columns: u32) -> Result<()> {
    let Some(dir) = std::env::var_os("WORLD_SHEETS").map(PathBuf::from) else { return Ok(()) };
    let step = SIZE + 4;
    let rows = (images.len() as u32).div_ceil(columns);
    let mut out = RgbImage::from_pixel(columns * step, rows * step, image::Rgb([0; 3]));
    for (i, p) in images.iter().enumerate() {
        imageops::replace(&mut out, p, i64::from(i as u32 % columns * step), i64::from(i as u32 / columns * step));
    }
    out.save(dir.join(name)).map_err(|e| burgess_base::Error::failed(e.to_string()))
}

#[test]
#[ignore = "makes images to look at"]
fn contact_sheets() -> Result<()> {
    let things: Vec<RgbImage> = (0..THINGS.len() as u16)
        .map(|t| {
            let item = FlatItem {
                thing: t,
                colour: 7,
                texture: Texture::Plain,
                size: 64,
                x: 48,
                y: 40,
                turn: 0,
                mirrored: false,
            };
            let flat = FlatScene { background: Background::Plain([255; 3]), items: vec![item], bar: None };
            let mut label = Canvas::new(&Background::Plain([255; 3]));
            label.text(&THINGS[t as usize].name, 48.0, 91.0, 9.0, [0; 3]);
            let (a, b) = (flat.render(), label.finish());
            RgbImage::from_fn(SIZE, SIZE, |x, y| if y < 76 { *a.get_pixel(x, y) } else { *b.get_pixel(x, y) })
        })
        .collect();
    sheet("things.png", &things, 14)?;
    let scenes: Vec<Scene> = (0..144).map(|i| Scene::draw(SceneSplit::Pretrain, 1, i)).collect();
    sheet("scenes.png", &scenes.iter().map(Scene::render).collect::<Vec<_>>(), 12)?;
    for (i, scene) in scenes.iter().enumerate() {
        let mut s = stream("sheet", i as u64);
        println!("--- {i} {}\n    {}\n    {:?}", scene.caption(&mut s), scene.description(&mut s), scene.classes());
        for t in scene.turns(6, &mut s) {
            println!("    {:?} -> {}", t.question, t.answer);
        }
    }
    for b in &BENCHMARKS {
        let mut images = Vec::new();
        for i in 0..24 {
            let unit = (b.unit)(&mut stream(b.name, i as u64), i);
            for (scene, questions) in &unit.images {
                println!("{} {i}", b.name);
                questions
                    .iter()
                    .for_each(|q| println!("    {} | {} | {:?} | {}", q.subtask, q.text, q.options, q.answer));
                images.push(scene.render());
            }
        }
        sheet(&format!("{}.png", b.name), &images, 8)?;
    }
    for d in crate::corpus(3, crate::LessonCounts::default()).take(60) {
        println!("{d:?}");
    }
    Ok(())
}
