//! `burgess data leaks`: benchmarks' images in training data.

use super::{print, print_json};
use crate::data::benchmarks;
use crate::machine::progress::Progress;
use burgess_base::{Error, Result, output, temporary};
use burgess_leaks::{LeakOptions, NamedDataset, find};
use burgess_probe::bench;
use std::path::PathBuf;

/// Benchmarks' images in training data, by difference hashes
#[derive(clap::Args)]
#[command(after_help = "A benchmark that is called by its id is read as it is published; any other name stands for a \
directory of images. Training data are conversations in LLaVA's format (JSON or JSON lines, \
plain, gzip or zstd), parquet files with images inside, or directories with images and parquet \
files. OUT gets leaks.json (counts by benchmark, set and source), matches.jsonl (a line for each \
match) and unreadable.jsonl (images that could not be read, with the cause).

Hashes are those of Python's imagehash.dhash. An equal hash is a hint, no proof: blank images \
share theirs.

Examples:
  burgess data leaks --benchmark mmvp --train llava_v1_5_mix665k.json --images llava/ --out leaks/
  burgess data leaks --benchmark mine=test-images/ --benchmark ai2d=lmms-lab_ai2d/ --train web=shards/ --distance 4 --out leaks/")]
pub struct LeaksArgs {
    /// A benchmark: its id if it is in the Hugging Face cache, or where it lies; again for more
    #[arg(long = "benchmark", value_name = "NAME[=PATH]", required = true)]
    benchmarks: Vec<String>,
    /// Training data, and what to call them; again for more
    #[arg(long = "train", value_name = "[NAME=]PATH", required = true)]
    training: Vec<String>,
    /// Where the paths of images in conversations begin
    #[arg(long, alias = "pictures", value_name = "DIR")]
    images: Option<PathBuf>,
    /// Bits in which hashes may differ
    #[arg(long, value_name = "N", default_value_t = LeakOptions::default().distance)]
    distance: u32,
    /// Points along a side of the hash
    #[arg(long, value_name = "N", default_value_t = LeakOptions::default().side)]
    hash_size: usize,
    /// A column with images in parquet files, instead of image and images; again for more
    #[arg(long = "column", value_name = "NAME")]
    columns: Vec<String>,
    /// Matches that are written of one training image; more are counted
    #[arg(long, value_name = "N", default_value_t = LeakOptions::default().matches)]
    matches: usize,
    /// Directory for the results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: LeaksArgs) -> Result<()> {
    let benchmarks: Vec<NamedDataset> = args.benchmarks.iter().map(|text| benchmark(text)).collect::<Result<_>>()?;
    let training: Vec<NamedDataset> =
        args.training.iter().map(|text| NamedDataset::parse(text)).collect::<Result<_>>()?;
    let mut options = LeakOptions {
        side: args.hash_size,
        distance: args.distance,
        images: args.images,
        matches: args.matches,
        ..LeakOptions::default()
    };
    if !args.columns.is_empty() {
        options.columns = args.columns;
    }
    output::check_directory(&args.out)?;
    temporary::remove_stale(&args.out, 0);
    let bar = Progress::new().bar("hashing", 0);
    let report = find(&benchmarks, &training, &options, &args.out, &mut |hashed, matched| {
        bar.set(hashed, hashed);
        bar.note(&format!("{matched} match "));
        bar.report(|| format!("{hashed} images hashed, {matched} match"));
    })
    .map_err(with_flag)?;
    drop(bar);
    if args.json { print_json(&report) } else { print(&report.text()) }
}

/// A benchmark with its place, which for an id alone is the Hugging Face cache.
fn benchmark(text: &str) -> Result<NamedDataset> {
    match bench::all().iter().find(|b| b.id() == text) {
        Some(known) => Ok(NamedDataset { name: text.into(), path: benchmarks::locate(*known, None)? }),
        None => NamedDataset::parse(text),
    }
}

/// Adds the flag that sets the option which the library's message names.
fn with_flag(e: Error) -> Error {
    let message = e.to_string();
    if message.contains("the option `images`") {
        return e.hint("--images DIR sets the directory to which image paths are relative");
    }
    if message.contains("the option `columns`") {
        return e.hint("--column NAME names a column with images; a file of conversations is given by its own name");
    }
    e
}
