//! `burgess data leaks`: finds benchmark images in training data.

use crate::data::benchmarks;
use crate::machine::progress::Progress;
use crate::machine::terminal::{print, print_json};
use burgess_base::{Error, Result, output, temporary};
use burgess_leaks::{LeakOptions, NamedDataset, find};
use burgess_probe::bench;
use std::path::PathBuf;

/// Find benchmark images in training data, by difference hashes
#[derive(clap::Args)]
#[command(after_help = "A benchmark id stands for the published data of that benchmark; any other name stands for a \
directory of images. Training data are conversations in LLaVA's format (JSON or JSON lines, plain, gzip or zstd), \
parquet files that contain images, or directories with images and parquet files. The output directory gets \
leaks.json (counts by benchmark, set and source), matches.jsonl (one line per match) and unreadable.jsonl (images \
that could not be read, with the cause).

Hashes are those of Python's imagehash.dhash. Equal hashes do not prove that two images are equal: all blank images \
have the same hash.

Examples:
  burgess data leaks --benchmark mmvp --train llava_v1_5_mix665k.json --images llava/ --out leaks/
  burgess data leaks --benchmark mine=test-images/ --benchmark ai2d=lmms-lab_ai2d/ --train web=shards/ --distance 4 --out leaks/")]
pub struct LeaksArgs {
    /// A benchmark: its id if it is in the Hugging Face cache, else a name and a path; may be repeated
    #[arg(long = "benchmark", value_name = "NAME[=PATH]", required = true)]
    benchmarks: Vec<String>,
    /// Training data, with a name for the report; may be repeated
    #[arg(long = "train", value_name = "[NAME=]PATH", required = true)]
    training: Vec<String>,
    /// Directory to which the image paths in conversations are relative
    #[arg(long, alias = "pictures", value_name = "DIR")]
    images: Option<PathBuf>,
    /// Largest number of bits in which two hashes differ that still match
    #[arg(long, value_name = "N", default_value_t = LeakOptions::default().distance)]
    distance: u32,
    /// Side of the hash, in points
    #[arg(long, value_name = "N", default_value_t = LeakOptions::default().side)]
    hash_size: usize,
    /// Column of parquet files that contains images, instead of image and images; may be repeated
    #[arg(long = "column", value_name = "NAME")]
    columns: Vec<String>,
    /// Largest number of matches that are written per training image; others are only counted
    #[arg(long, value_name = "N", default_value_t = LeakOptions::default().matches)]
    matches: usize,
    /// Output directory
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

/// Parses a benchmark and its path; the path of an id alone is in the Hugging Face cache.
fn benchmark(text: &str) -> Result<NamedDataset> {
    match bench::all().iter().find(|b| b.id() == text) {
        Some(known) => Ok(NamedDataset { name: text.into(), path: benchmarks::locate_in(*known, None)? }),
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
