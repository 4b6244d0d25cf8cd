//! `burgess rank`: runs a study and prints its ranking.

use crate::cli::study_args::StudyArgs;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json};
use crate::run::cost::time;
use crate::run::learning_curve;
use crate::run::plan;
use crate::run::ranking::{self, StudyOutcome};
use crate::run::stages::{self, StudyStage};
use crate::run::study_runs::StudyOptions;
use crate::study::StudyConfig;
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
  burgess rank nano --predict                    compare cheap predictors with the ranking
  burgess rank nano --dry-run                    the plan, without running anything

Stages, for schedulers (`burgess launch` makes these commands):
  burgess rank nano --stage encode --arm nano-sup
  burgess rank nano --stage train --arm nano-sup --seeds 0
  burgess rank nano --stage eval --arm nano-sup --seeds 0
  burgess rank nano --stage report               exit code 1 if runs have no results")]
pub struct Args {
    #[command(flatten)]
    study: StudyArgs,
    /// Only this arm of the study, by its name in tables; may be given several times. In the stage encode also one
    /// encoder of its arms
    #[arg(long = "arm", value_name = "NAME")]
    arms: Vec<String>,
    /// Do only one stage for the chosen arms and seeds: encode (features into the cache), train (up to the saved
    /// model), eval (answers and results.json) or report (ranking and page of the results that exist)
    #[arg(long, value_name = "STAGE", value_parser = ["encode", "train", "eval", "report"])]
    #[arg(conflicts_with_all = ["learning_curve", "dry_run"])]
    stage: Option<String>,
    /// With --stage encode: exit code 0 although encoders failed. Their failures are recorded in the runs that need
    /// them, whose training tries again
    #[arg(long, requires = "stage")]
    keep_going: bool,
    /// Number of parallel runs, over all devices [default: on GPUs one per device; on a CPU one per core, or all runs
    /// if there are at most 1.5 per core, as far as they fit into memory]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Also train the arms on these fractions of the align and tune samples (1 stands for the study's own runs), each
    /// in a directory below the study's; the report shows the score against the number of samples
    #[arg(long, value_name = "SHARES", value_delimiter = ',', conflicts_with = "dry_run")]
    learning_curve: Vec<f64>,
    /// After the ranking, test the claims of the study's [check] table; exit code 1 if a claim does not hold
    #[arg(long, conflicts_with = "dry_run")]
    check: bool,
    /// After the ranking, compute cheap predictors of the scores and compare them with it, as `burgess predict` does
    #[arg(long, conflicts_with_all = ["dry_run", "json"])]
    predict: bool,
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
    let mut study = args.study.open()?;
    let stage = args.stage.as_deref().map(str::parse::<StudyStage>).transpose()?;
    if stage.is_none() {
        stages::choose_arms(&mut study, &args.arms)?;
    }
    if args.jobs == Some(0) {
        return Err(Error::usage("--jobs must be at least 1").hint("leave it out for one run per core or GPU"));
    }
    if args.check && study.claims.is_empty() {
        return Err(Error::usage(format!("--check: the study {} has no claims", study.name))
            .hint("state its claims in a [check] table; `burgess rank nano --dry-run` shows one"));
    }
    let options = StudyOptions { out: args.study.out(), device: args.study.device(), jobs: args.jobs, stage: None };
    if args.predict && stage.is_some_and(|stage| stage != StudyStage::Report) {
        return Err(Error::usage("--predict: this stage makes no ranking").hint("use --predict with --stage report"));
    }
    let predicted = args.predict.then(|| (study.clone(), options.out.clone(), options.device.clone()));
    match stage {
        None => {}
        Some(StudyStage::Report) => {
            return with_predictors(report(study, &args.arms, &options, args.check, args.json), predicted);
        }
        Some(stage) => return part(&study, stage, &args, &options),
    }
    if args.dry_run {
        let stated = args.throughput.map(time::throughput).transpose()?;
        let plan = plan::plan_with_time(&study, &options, stated, &Progress::new())?;
        return if args.json { print_json(&plan) } else { print(&plan.text(terminal::list_width())?) };
    }
    let outcome = match args.learning_curve.is_empty() {
        true => ranking::rank_study(&study, &options, &Progress::new())?,
        false => learning_curve::rank_fractions(&study, &args.learning_curve, &options, &Progress::new())?,
    };
    with_predictors(show(&outcome, args.check, args.json), predicted)
}

/// A study with its output directory and device, whose predictors are computed.
type PredictedStudy = Option<(StudyConfig, PathBuf, String)>;

/// Prints the predictors after a ranking, also if runs failed or claims do not hold.
fn with_predictors(shown: Result<()>, study: PredictedStudy) -> Result<()> {
    match study {
        Some((study, out, device)) => super::predict::after_ranking(&study, out, device).and(shown),
        None => shown,
    }
}

/// Prints a ranking; the error names failed runs and claims that do not hold.
fn show(outcome: &StudyOutcome, check: bool, json: bool) -> Result<()> {
    super::report::show_with(&outcome.written, check, json)?;
    match outcome.failed {
        0 => show_claims(outcome, check),
        n => Err(Error::failed(format!("{n} of {} runs failed; the ranking names them", outcome.runs))
            .hint("remove the cause and run the same command again: finished runs are kept")),
    }
}

/// With `check`, an error if claims of the study do not hold.
fn show_claims(outcome: &StudyOutcome, check: bool) -> Result<()> {
    match outcome.written.verdicts.iter().filter(|v| !v.holds).count() {
        failing if check && failing > 0 => {
            Err(Error::failed(format!("{failing} of {} claims do not hold", outcome.written.verdicts.len()))
                .hint("the table above shows which; the report shows where the evaluator falls short"))
        }
        _ => Ok(()),
    }
}

/// Does the stage `report`. Runs without results make the exit code 1, so that the last task of a cluster does not
/// succeed silently on an incomplete ranking.
fn report(mut study: StudyConfig, arms: &[String], options: &StudyOptions, check: bool, json: bool) -> Result<()> {
    stages::choose_arms(&mut study, arms)?;
    let outcome = ranking::report_stage(&study, &options.out)?;
    for missing in &outcome.written.ranking.missing {
        terminal::eprint_line(&format!("no results: {} (seed {}): {}", missing.arm, missing.seed, missing.cause));
    }
    super::report::show_with(&outcome.written, check, json)?;
    match outcome.failed {
        0 => show_claims(&outcome, check),
        n => Err(Error::failed(format!(
            "{n} of {} runs have no results; the ranking was written without them and names them",
            outcome.runs
        ))
        .hint("remove the cause and run their stages again, then this one: finished runs are kept")),
    }
}

/// Does one of the other stages and prints a line, or JSON, about it.
fn part(study: &StudyConfig, stage: StudyStage, args: &Args, options: &StudyOptions) -> Result<()> {
    if args.check {
        return Err(Error::usage(format!("--check: the stage {stage} makes no ranking"))
            .hint("use --check with --stage report"));
    }
    if args.keep_going && stage != StudyStage::Encode {
        return Err(Error::usage(format!("--keep-going belongs to the stage encode, not to {stage}"))
            .hint("leave it out: each run is a task of its own"));
    }
    let outcome = stages::run_stage(study, stage, &args.arms, options, &Progress::new())?;
    let what = if stage == StudyStage::Encode { "encoders" } else { "runs" };
    let (total, failed) = (outcome.total, outcome.failed.len());
    match args.json {
        true => print_json(&outcome)?,
        false => print(&format!("{stage}: {} of {total} {what} are done\n", total - failed))?,
    }
    match (outcome.failed.first(), args.keep_going) {
        (None, _) => Ok(()),
        (Some(_), true) => {
            terminal::eprint_line(&format!(
                "note: {failed} of {total} {what} failed; the runs that need them record it, and their training tries again"
            ));
            Ok(())
        }
        (Some(first), false) => {
            let error = match failed {
                1 => Error::failed(format!("{}: {}", first.name, first.cause)),
                _ => Error::failed(format!("{failed} of {total} {what} failed; first {}: {}", first.name, first.cause)),
            };
            Err(error.hint(first.hint.clone().unwrap_or_else(|| {
                "remove the cause and run the same command again: finished work is kept".to_string()
            })))
        }
    }
}
