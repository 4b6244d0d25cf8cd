//! Throughput (`cargo bench -p burgess-leaks`): hashes per second of photographs of 640 × 480 (JPEG), on one core and
//! on all; hashes looked up per second among those of 50,000 images.

use burgess_base::stream::stream;
use burgess_images::{DifferenceHash, decode_bytes, dhash};
use burgess_leaks::{HashIndex, LeakOptions, NamedDataset, find};
use divan::Bencher;
use divan::counter::ItemsCount;
use image::{Rgb, RgbImage};
use rand::Rng;

fn main() {
    divan::main();
}

/// Returns an image of waves and noise as a JPEG of quality 85, about 100 KB.
fn photograph(seed: u64) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut stream = stream("photograph", seed);
    let phase = f64::from(stream.next_u32() % 1000);
    let image = RgbImage::from_fn(640, 480, |x, y| {
        let wave = 90.0 * (phase + f64::from(x) / 37.0).sin() * (phase + f64::from(y) / 53.0).cos();
        Rgb([110.0, 120.0, 140.0].map(|level| (level + wave) as u8 + (stream.next_u32() % 24) as u8))
    });
    let mut jpeg = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    jpeg.set_size(640, 480);
    jpeg.set_quality(85.0);
    jpeg.set_fastest_defaults();
    let mut jpeg = jpeg.start_compress(Vec::new())?;
    jpeg.write_scanlines(image.as_raw())?;
    Ok(jpeg.finish()?)
}

/// Measures decoding and hashing on one core.
#[divan::bench]
fn photograph_to_hash(bencher: Bencher) {
    let bytes = photograph(1).unwrap();
    bencher.counter(ItemsCount::new(1usize)).bench(|| dhash(&decode_bytes(&bytes).unwrap(), 8).unwrap());
}

/// Measures hashing without decoding.
#[divan::bench]
fn pixels_to_hash(bencher: Bencher) {
    let image = decode_bytes(&photograph(1).unwrap()).unwrap();
    bencher.counter(ItemsCount::new(1usize)).bench(|| dhash(&image, 8).unwrap());
}

/// Measures a search in a directory of 512 photographs on all cores, including files and report.
#[divan::bench(sample_count = 5)]
fn directory(bencher: Bencher) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("test")).unwrap();
    std::fs::create_dir_all(dir.path().join("train")).unwrap();
    std::fs::write(dir.path().join("test/0.jpg"), photograph(0).unwrap()).unwrap();
    for i in 0..512 {
        std::fs::write(dir.path().join(format!("train/{i}.jpg")), photograph(i % 32).unwrap()).unwrap();
    }
    let named = |name: &str| [NamedDataset { name: name.into(), path: dir.path().join(name) }];
    bencher.counter(ItemsCount::new(512usize)).bench(|| {
        find(&named("test"), &named("train"), &LeakOptions::default(), &dir.path().join("out"), &mut |_, _| {}).unwrap()
    });
}

/// Measures lookups among 50,000 hashes within a distance in bits.
#[divan::bench(args = [0, 2, 4, 8, 12])]
fn lookup(bencher: Bencher, distance: u32) {
    let mut stream = stream("hashes", 0);
    let mut image = RgbImage::new(9, 8);
    let mut draw = || {
        stream.fill_bytes(&mut image);
        dhash(&image, 8).unwrap()
    };
    let tests: Vec<(DifferenceHash, u32)> = (0..50_000).map(|i| (draw(), i)).collect();
    let wanted: Vec<DifferenceHash> = (0..1000).map(|_| draw()).collect();
    let index = HashIndex::new(tests, distance);
    bencher
        .counter(ItemsCount::new(1000usize))
        .bench(|| wanted.iter().map(|hash| index.near(hash).len()).sum::<usize>());
}
