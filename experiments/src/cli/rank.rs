//! `burgess rank`: runs a study and prints its ranking.

use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json};
use crate::run::cost::time;
use crate::run::learning_curve;
use crate::run::plan;
use crate::run::ranking;
use crate::run::ranking::StudyOptions;
use crate::study::{Arm, BUILT_IN, StudyConfig};
use burgess_base::{Error, Result};
use std::path::PathBuf;

/// Run a study or resume it, print the ranking, write the report
#[derive(clap::Args, Default)]
#[command(after_help = "Examples:
  burgess rank                                   the nano study, in minutes, on any CPU
  burgess rank nano --full                       all arms, three seeds: the study nano-full
  burgess rank nano --encoders nano-clip,nano-mae,nano-clip+nano-dinov2,nano-sup:unfrozen
  burgess rank field --encoders ./my-encoder@-2,./my-encoder@random@grid=8
  burgess rank my-study.toml --seeds 0,1,2 --out results
  burgess rank nano --learning-curve 0.125,0.25,0.5,1 --encoders nano-sup,nano-random
  burgess rank nano --full --check               test the claims of the study about its evaluator
  burgess rank nano --dry-run                    the plan, without running anything")]
pub struct Args {
    /// A built-in study or the path of a TOML file
    #[arg(value_name = "STUDY")]
    study: Option<String>,
    /// Run the full-length study: nano-full for nano, field-full for field
    #[arg(long)]
    full: bool,
    /// Arms instead of the study's: a, a+b (combined), a:unfrozen, separated by commas; an encoder is a card id, a
    /// directory or owner/name of the hub, with another tap as a@7 (also a@norm=false, a@grid=8), with random weights
    /// as a@random; oracle stands for the ground truth of the data
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    encoders: Vec<String>,
    /// Seeds instead of the study's, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Largest number of images (or pairs) of each benchmark, a fixed random sample
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Output directory [default: runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0; several of one kind as cuda:0,cuda:1 or cuda:all [default: flex]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Number of parallel runs, over all devices [default: on GPUs one per device; on a CPU one per core, or all runs if
    /// there are at most 1.5 per core, as far as they fit into memory]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Also train the arms on these fractions of the align and tune samples (1 stands for the study's own runs), each
    /// in a directory below the study's; the report shows the score against the number of samples
    #[arg(long, value_name = "SHARES", value_delimiter = ',', conflicts_with = "dry_run")]
    learning_curve: Vec<f64>,
    /// After the ranking, test the claims of the study's [check] table; exit code 1 if a claim does not hold
    #[arg(long, conflicts_with = "dry_run")]
    check: bool,
    /// Print the resolved study and the plan of its runs with estimates of memory and time, and stop
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: estimate the time from this training throughput of each device, in TFLOP/s, instead of a short
    /// measurement on this device
    #[arg(long, value_name = "TFLOPS", requires = "dry_run")]
    throughput: Option<f64>,
    /// Print the ranking as JSON; with --check, the ranking and the claims
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let name = args.study.unwrap_or_else(|| "nano".into());
    let mut study = StudyConfig::open(&if args.full { full_length(&name)? } else { name })?;
    if !args.encoders.is_empty() {
        study.arms = args.encoders.iter().map(|a| Arm::parse(a)).collect::<Result<_>>()?;
    }
    if !args.seeds.is_empty() {
        study.seeds = args.seeds;
    }
    if args.limit.is_some() {
        study.evaluator.limit = args.limit;
    }
    if args.jobs == Some(0) {
        return Err(Error::usage("--jobs must be at least 1").hint("leave it out for one run per core or GPU"));
    }
    study.check()?;
    if args.check && study.claims.is_empty() {
        return Err(Error::usage(format!("--check: the study {} has no claims", study.name))
            .hint("state its claims in a [check] table; `burgess rank nano --dry-run` shows one"));
    }
    let options = StudyOptions {
        out: args.out.unwrap_or_else(|| PathBuf::from("runs")),
        device: args.device.unwrap_or_else(|| "flex".into()),
        jobs: args.jobs,
    };
    if args.dry_run {
        let stated = args.throughput.map(time::throughput).transpose()?;
        let plan = plan::plan_with_time(&study, &options, stated, &Progress::new())?;
        return if args.json { print_json(&plan) } else { print(&plan.text(terminal::list_width())?) };
    }
    let outcome = match args.learning_curve.is_empty() {
        true => ranking::rank_study(&study, &options, &Progress::new())?,
        false => learning_curve::rank_fractions(&study, &args.learning_curve, &options, &Progress::new())?,
    };
    super::report::show_with(&outcome.written, args.check, args.json)?;
    let failing = outcome.written.verdicts.iter().filter(|v| !v.holds).count();
    match outcome.failed {
        0 if args.check && failing > 0 => {
            Err(Error::failed(format!("{failing} of {} claims do not hold", outcome.written.verdicts.len()))
                .hint("the table above shows which; the report shows where the evaluator falls short"))
        }
        0 => Ok(()),
        n => Err(Error::failed(format!("{n} of {} runs failed; the ranking names them", outcome.runs))
            .hint("remove the cause and run the same command again: finished runs are kept")),
    }
}

/// Name of the built-in full-length version of a study.
fn full_length(name: &str) -> Result<String> {
    let full = format!("{name}-full");
    match BUILT_IN.iter().any(|(built_in, _)| *built_in == full) {
        true => Ok(full),
        false => Err(Error::usage(format!("--full: there is no full-length version of the study {name}"))
            .hint("nano and field have one; for other studies, change the steps and sizes in their TOML file")),
    }
}
