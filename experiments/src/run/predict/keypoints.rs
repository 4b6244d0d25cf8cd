//! Pairs of images with corresponding points, of the nano world or in the layout of SPair-71k, and the C score.

use super::networks::ArmNetworks;
use crate::machine::progress::Bar;
use crate::machine::stop;
use burgess_base::{Context, Error, Result, atomic};
use burgess_encoders::preprocess::Orientation;
use burgess_encoders::probe::correspondence::{PatchGrid, correspond, pck};
use burgess_reports::predictors::ArmValue;
use image::RgbImage;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Seed of the pairs of the nano world.
const SEED: u64 = 0;
/// Side to which images of SPair-71k are padded and scaled, in pixels, as in the reference.
const SIDE: f64 = 840.0;
/// Number of pairs that are encoded at a time.
const CHUNK: usize = 32;
/// Thresholds as fractions of the longer side of the object; the first is the C score.
const ALPHAS: [f64; 3] = [0.10, 0.05, 0.01];

/// Pairs of images with corresponding points.
pub struct PointPairs {
    pairs: Vec<PointPair>,
    /// What the pairs are, as a sentence.
    pub about: String,
}

struct PointPair {
    images: PairImages,
    /// Side of the square images in which the points are given, in pixels.
    side: f64,
    source: Vec<[f64; 2]>,
    target: Vec<[f64; 2]>,
    extent: f64,
}

enum PairImages {
    Scenes(Box<[burgess_world::Scene; 2]>),
    Files([PathBuf; 2]),
}

/// A pair of SPair-71k; boxes are `[left, top, right, bottom]`, sizes `[width, height, …]`, in pixels.
#[derive(Deserialize)]
struct SpairPair {
    category: String,
    src_imname: String,
    trg_imname: String,
    src_imsize: Vec<f64>,
    trg_imsize: Vec<f64>,
    trg_bndbox: [f64; 4],
    src_kps: Vec<[f64; 2]>,
    trg_kps: Vec<[f64; 2]>,
}

impl PointPairs {
    /// Pairs of test scenes of the nano world that show the same things at other places.
    pub fn of_world(count: usize) -> Self {
        let side = f64::from(burgess_world::SIZE);
        let pairs = burgess_world::keypoint_pairs(SEED, count).into_iter().map(|p| PointPair {
            images: PairImages::Scenes(Box::new([p.source, p.target])),
            side,
            source: p.source_points,
            target: p.target_points,
            extent: p.extent,
        });
        let about = format!(
            "C score: {count} pairs of scenes of the nano world, version {}, with the same things at other places.",
            burgess_world::VERSION
        );
        Self { pairs: pairs.collect(), about }
    }

    /// Test pairs in the layout of SPair-71k (`PairAnnotation/test/*.json`, `JPEGImages/<category>/`), at most
    /// `count`, evenly over all.
    ///
    /// # Errors
    /// The folder has no such pairs, or one of them is malformed.
    pub fn of_spair(dir: &Path, count: usize) -> Result<Self> {
        let folder = dir.join("PairAnnotation").join("test");
        let step = || format!("reading the pairs in {}", folder.display());
        let expected = "--keypoints takes a directory in the layout of SPair-71k: PairAnnotation/test/*.json and \
                        JPEGImages/<category>/*.jpg";
        if !folder.is_dir() {
            return Err(Error::usage(format!("{} is no directory", folder.display())).hint(expected));
        }
        let read = std::fs::read_dir(&folder).with_context(step)?;
        let mut files = read.map(|entry| Ok(entry.with_context(step)?.path())).collect::<Result<Vec<_>>>()?;
        files.retain(|file| file.extension().is_some_and(|e| e == "json"));
        files.sort();
        if files.is_empty() {
            return Err(Error::usage(format!("{} has no pairs", folder.display())).hint(expected));
        }
        let all = files.len();
        let keep = |i: usize| all <= count || (i * count / all) != ((i + 1) * count / all);
        let kept = files.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, file)| file);
        let pairs = kept.map(|file| spair_pair(dir, file)).collect::<Result<Vec<_>>>()?;
        let about = format!("C score: {} of {all} test pairs of {}.", pairs.len(), dir.display());
        Ok(Self { pairs, about })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
}

fn spair_pair(dir: &Path, file: &Path) -> Result<PointPair> {
    let pair: SpairPair = atomic::read_json(file)?;
    let malformed = |what: &str| Err(Error::failed(format!("{}: {what}", file.display())));
    let ([w, h, ..], [target_w, target_h, ..]) = (pair.src_imsize.as_slice(), pair.trg_imsize.as_slice()) else {
        return malformed("src_imsize and trg_imsize must have a width and a height");
    };
    if pair.src_kps.len() != pair.trg_kps.len() || pair.src_kps.is_empty() {
        return malformed("src_kps and trg_kps must have the same number of points, at least one");
    }
    let scale = |w: f64, h: f64| SIDE / w.max(h).max(1.0);
    let placed = |points: &[[f64; 2]], w: f64, h: f64| -> Vec<[f64; 2]> {
        let by = scale(w, h);
        let offset = |side: f64| ((SIDE - (side * by).round()) / 2.0).floor();
        points.iter().map(|[x, y]| [x * by + offset(w), y * by + offset(h)]).collect()
    };
    let [left, top, right, bottom] = pair.trg_bndbox;
    let image = |name: &str| dir.join("JPEGImages").join(&pair.category).join(name);
    Ok(PointPair {
        images: PairImages::Files([image(&pair.src_imname), image(&pair.trg_imname)]),
        side: SIDE,
        source: placed(&pair.src_kps, *w, *h),
        target: placed(&pair.trg_kps, *target_w, *target_h),
        extent: (right - left).max(bottom - top) * scale(*target_w, *target_h),
    })
}

impl PairImages {
    /// Opens both images; files are padded to squares with black, centred.
    fn open(&self) -> Result<[RgbImage; 2]> {
        match self {
            Self::Scenes(scenes) => Ok([scenes[0].render(), scenes[1].render()]),
            Self::Files([source, target]) => Ok([squared(source)?, squared(target)?]),
        }
    }
}

fn squared(path: &Path) -> Result<RgbImage> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::failed(format!("{} is no image file", path.display())));
    };
    let name = crate::data::image_files::encode_name(Path::new(name));
    let image = crate::data::image_files::open(dir, &name, Orientation::default())?;
    let (w, h) = image.dimensions();
    if w == h {
        return Ok(image);
    }
    let side = w.max(h);
    let mut out = RgbImage::new(side, side);
    image::imageops::replace(&mut out, &image, i64::from((side - w) / 2), i64::from((side - h) / 2));
    Ok(out)
}

/// Computes the C score of an arm: PCK@0.10 in percent, mean over pairs; the others are in its detail.
///
/// # Errors
/// An image cannot be read, a feature is not finite, or a signal asked to stop.
pub fn c_score(networks: &ArmNetworks, pairs: &PointPairs, bar: &Bar) -> Result<ArmValue> {
    let mut sums = [0.0; 3];
    for chunk in pairs.pairs.chunks(CHUNK) {
        stop::check()?;
        let opened = chunk.iter().map(|pair| pair.images.open()).collect::<Result<Vec<_>>>()?;
        let images: Vec<RgbImage> = opened.into_iter().flatten().collect();
        let encoded = networks.encode(&images)?;
        for (i, pair) in chunk.iter().enumerate() {
            let grid = |n: usize| PatchGrid { values: encoded.image(n).unwrap_or_default(), grid: encoded.grid };
            let found = correspond(grid(2 * i), grid(2 * i + 1), &pair.source, pair.side)?;
            for (sum, alpha) in sums.iter_mut().zip(ALPHAS) {
                *sum += pck(&found, &pair.target, pair.extent, alpha).unwrap_or(0.0);
            }
        }
        bar.add(images.len() as u64);
    }
    let [ten, five, one] = sums.map(|sum| 100.0 * sum / pairs.len().max(1) as f64);
    Ok(ArmValue::known(ten, format!("PCK@0.05 {five:.2}, PCK@0.01 {one:.2}")))
}
