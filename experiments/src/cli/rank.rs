//! `burgess rank`: the main job.

use super::{print, print_json};
use crate::machine::progress::Progress;
use crate::machine::workers::Parallelism;
use crate::run::learning_curve;
use crate::run::plan;
use crate::run::ranking;
use crate::run::ranking::StudyOptions;
use crate::study::{Arm, BUILT_IN, StudyConfig};
use burgess_base::{Error, Result};
use std::path::PathBuf;

/// Run a study, resume what is done, print the ranking, write the report
#[derive(clap::Args, Default)]
#[command(after_help = "Examples:
  burgess rank                                   the nano study, in minutes, on any CPU
  burgess rank nano --full                       every arm, three seeds: the study nano-full
  burgess rank nano --encoders nano-clip,nano-mae,nano-clip+nano-dinov2,nano-sup:unfrozen
  burgess rank field --encoders ./my-encoder@-2,./my-encoder@random@grid=8
  burgess rank my-study.toml --seeds 0,1,2 --out results
  burgess rank nano --learning-curve 0.125,0.25,0.5,1 --encoders nano-sup,nano-random
  burgess rank nano --full --check               does the evaluator measure what the study claims?
  burgess rank nano --dry-run                    what would be done")]
pub struct Args {
    /// A built-in study or the path of a TOML file
    #[arg(value_name = "STUDY")]
    study: Option<String>,
    /// The study at full length: nano-full for nano, field-full for field
    #[arg(long)]
    full: bool,
    /// Arms instead of the study's: a, a+b (combined), a:unfrozen, separated by commas; an encoder is a card id, a directory
    /// or owner/name of the hub, tapped elsewhere as a@7 (also a@norm=false, a@grid=8), untrained as a@random; oracle is the
    /// ground truth of the data
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    encoders: Vec<String>,
    /// Seeds instead of the study's, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// At most N images (or pairs) of each benchmark, a fixed random sample
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Where results go [default: runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0 [default: flex]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Runs side by side [default: one a core on a CPU, all where there are up to half as many more]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Train the arms on these shares of the align and tune samples too, 1 being the study's own runs, each in a directory
    /// below the study's; the report shows the score against the number of samples
    #[arg(long, value_name = "SHARES", value_delimiter = ',', conflicts_with = "dry_run")]
    learning_curve: Vec<f64>,
    /// After the ranking, compare what was measured with what the study claims in [check]; exit code 1 if a claim does not hold
    #[arg(long, conflicts_with = "dry_run")]
    check: bool,
    /// Show the resolved study and what would be done, and stop
    #[arg(long)]
    dry_run: bool,
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
        return Err(Error::usage("--jobs must be at least 1").hint("leave it out for one run a core"));
    }
    study.check()?;
    if args.check && study.claims.is_empty() {
        return Err(Error::usage(format!("--check: the study {} claims nothing", study.name))
            .hint("state its claims in a [check] table; `burgess rank nano --dry-run` shows one"));
    }
    let options = StudyOptions {
        out: args.out.unwrap_or_else(|| PathBuf::from("runs")),
        device: args.device.unwrap_or_else(|| "flex".into()),
        parallelism: Parallelism::for_runs(args.jobs, study.arms.len() * study.seeds.len()),
    };
    if args.dry_run {
        let plan = plan::plan(&study, &options, &Progress::new())?;
        return if args.json { print_json(&plan) } else { print(&plan.text(super::list_width())?) };
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
                .hint("the table above says which; the report shows where the evaluator falls short"))
        }
        0 => Ok(()),
        n => Err(Error::failed(format!("{n} of {} runs failed; the ranking names them", outcome.runs))
            .hint("mend the cause and run the same command again: finished runs are kept")),
    }
}

/// The study that does the same at length, a built-in one of its own.
fn full_length(name: &str) -> Result<String> {
    let full = format!("{name}-full");
    match BUILT_IN.iter().any(|(built_in, _)| *built_in == full) {
        true => Ok(full),
        false => Err(Error::usage(format!("--full: {name} has no longer form"))
            .hint("nano and field have one; the steps and sizes of other studies are numbers in their TOML")),
    }
}
