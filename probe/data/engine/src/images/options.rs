//! Which images are kept.

use burgess_base::{Error, Result};
use burgess_leaks::NamedDataset;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Limits and comparisons of the stage `images`. Every key is optional in TOML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesOptions {
    /// Smallest width and height in pixels.
    pub min_side: u32,
    /// Largest ratio of the longer to the shorter side.
    pub max_aspect: f64,
    /// Largest number of pixels, checked before the image is decoded.
    pub max_pixels: u64,
    /// Largest size of a fetched file in bytes.
    pub max_bytes: u64,
    /// Width in pixels of a drawing (SVG) that states none.
    pub svg_width: u32,
    /// Largest number of bits in which the difference hashes (64 bits) of two images of a shard may differ for the
    /// second to be left out as a repetition.
    pub duplicate_distance: u32,
    /// Files of this stage (`images/shard-….jsonl`) with whose images those of the shard are compared too.
    pub known: Vec<PathBuf>,
    /// Benchmarks whose images are left out, each as `ID=PATH` of its published data or `NAME=FOLDER` of images.
    pub benchmarks: Vec<String>,
    /// Largest number of bits in which the hash of an image may differ from that of a benchmark's.
    pub leak_distance: u32,
    /// Whether images without a known licence are left out.
    pub require_licence: bool,
    /// Folder in which images with a relative address lie, for pages of a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub folder: Option<PathBuf>,
}

impl Default for ImagesOptions {
    fn default() -> Self {
        Self {
            min_side: 64,
            max_aspect: 8.0,
            max_pixels: 89_478_485,
            max_bytes: 64 << 20,
            svg_width: 800,
            duplicate_distance: 2,
            known: Vec::new(),
            benchmarks: Vec::new(),
            leak_distance: 0,
            require_licence: false,
            folder: None,
        }
    }
}

impl ImagesOptions {
    /// Returns the options with relative paths joined to `dir`, the directory of the file that states them.
    #[must_use]
    pub fn below(mut self, dir: &Path) -> Self {
        self.known.iter_mut().for_each(|file| *file = dir.join(&*file));
        self.folder = self.folder.map(|folder| dir.join(folder));
        for benchmark in &mut self.benchmarks {
            if let Some((name, path)) = benchmark.split_once('=') {
                *benchmark = format!("{name}={}", dir.join(path).display());
            }
        }
        self
    }

    /// Checks the options.
    ///
    /// # Errors
    /// A number is out of its range, or a benchmark has no name or path.
    pub fn check(&self) -> Result<()> {
        let number = |name: &str, value: f64, least: f64, most: f64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(Error::usage(format!("`{name}` is {value}, must be from {least} to {most}"))),
        };
        number("min_side", f64::from(self.min_side), 1.0, 65_535.0)?;
        number("max_aspect", self.max_aspect, 1.0, 1e6)?;
        number("max_pixels", self.max_pixels as f64, 1.0, 1e10)?;
        number("max_bytes", self.max_bytes as f64, 1.0, f64::from(1u32 << 31))?;
        number("svg_width", f64::from(self.svg_width), 1.0, 8192.0)?;
        number("duplicate_distance", f64::from(self.duplicate_distance), 0.0, 63.0)?;
        number("leak_distance", f64::from(self.leak_distance), 0.0, 63.0)?;
        self.named_benchmarks().map(drop)
    }

    /// Returns the benchmarks with their names.
    ///
    /// # Errors
    /// One has no name or path.
    pub(super) fn named_benchmarks(&self) -> Result<Vec<NamedDataset>> {
        let parse = |text: &String| NamedDataset::parse(text).map_err(|e| e.context("reading `benchmarks`"));
        self.benchmarks.iter().map(parse).collect()
    }
}
