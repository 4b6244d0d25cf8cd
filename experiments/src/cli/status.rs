//! `burgess status`: where a study stands.

use crate::cli::study_args::StudyArgs;
use crate::launch::slurm::{self, Slurm, SubmittedJobs};
use crate::launch::status::{self, StudyStatus, WantedRun};
use crate::machine::terminal::{self, print, print_json};
use burgess_base::Result;
use std::path::{Path, PathBuf};

/// Show the state of each run of a study: steps, loss, time left, failures, Slurm jobs
#[derive(clap::Args)]
#[command(after_help = "Reads the study's directory and can be called at any time, from any machine that sees it. A \
run is to do, encoding, starting, training, trained, answering, done, stopped (begun, and nobody continues it), \
failed, or has a stale owner (its process has not been heard of; the next call of the study takes over). Jobs of `burgess \
launch slurm` are asked from squeue.

Examples:
  burgess status nano
  burgess status my-study.toml --out /shared/runs
  burgess status runs/nano                       all runs in a study's directory
  watch -n 10 burgess status nano
  burgess status nano --json | jq '.runs[] | {arm, seed, state}'")]
pub struct Args {
    /// A built-in study, the path of a TOML file, or the directory of a study
    #[arg(value_name = "STUDY")]
    study: Option<String>,
    /// The full-length study: nano-full for nano, field-full for field
    #[arg(long)]
    full: bool,
    /// Only these arms, as for `burgess rank`
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    encoders: Vec<String>,
    /// Only these seeds, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Output directory [default: runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the status as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let given = args.study.as_deref().map(Path::new).filter(|path| path.is_dir());
    let (directory, wanted, benchmarks) = match given {
        Some(directory) => {
            let benchmarks = status::benchmarks_in(directory)?;
            (directory.to_path_buf(), status::runs_in(directory)?, benchmarks)
        }
        None => of_study(&args)?,
    };
    let record = SubmittedJobs::read(&slurm::directory(&directory))?;
    let queued = slurm::queued(&record, &Slurm::default()).unwrap_or_else(|e| {
        terminal::eprint_line(&format!("note: the jobs of this study are not shown: {e}"));
        Default::default()
    });
    let status = StudyStatus::read(&directory, &wanted, &benchmarks, &queued)?;
    match args.json {
        true => print_json(&status),
        false => print(&status.text(terminal::list_width())),
    }
}

/// Directory, runs and benchmarks of a study.
fn of_study(args: &Args) -> Result<(PathBuf, Vec<WantedRun>, Vec<String>)> {
    let study = StudyArgs {
        study: args.study.clone(),
        full: args.full,
        encoders: args.encoders.clone(),
        seeds: args.seeds.clone(),
        out: args.out.clone(),
        ..StudyArgs::default()
    };
    let out = study.out();
    let study = study.open_without_data()?;
    let directory = out.join(&study.name);
    let mut wanted: Vec<WantedRun> = study
        .runs()
        .into_iter()
        .map(|(arm, seed)| {
            let encoders = arm.encoders.iter().map(ToString::to_string).collect();
            WantedRun { arm: arm.name(), seed, encoders }
        })
        .collect();
    // Runs of other arms and seeds, which were chosen on the command line.
    if args.encoders.is_empty() && args.seeds.is_empty() && directory.is_dir() {
        let more = status::runs_in(&directory)?;
        wanted.extend(
            more.into_iter().filter(|run| !study.runs().iter().any(|(a, s)| a.name() == run.arm && *s == run.seed)),
        );
    }
    Ok((directory, wanted, study.evaluator.benchmarks))
}
