//! `burgess zoo`: scores many encoders under one evaluator, and compares two tables of such scores.

use crate::cli::study_args::StudyArgs;
use crate::cli::{launch, report};
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json, print_raw};
use crate::run::study_runs::StudyOptions;
use crate::run::zoo::{self, TagSource, ZooFailure, ZooList, ZooOptions, ZooOutcome};
use crate::study::{Arm, StudyConfig};
use burgess_base::{Context, Error, Result};
use burgess_encoders::download::{ModelFiles, request};
use burgess_hub::Repository;
use burgess_hub::download::{Client, Session, Settings};
use burgess_reports::racing::{RaceRules, race_text};
use burgess_reports::zoo::ZooDiff;
use clap::Subcommand;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Score many encoders under one evaluator, in full or by a race, or compare two tables of scores
#[derive(clap::Args)]
#[command(after_help = "Examples:
  burgess zoo score nano-siglip,nano-sup,nano-mae --study nano
  burgess zoo score 'nano-*' --study nano --racing k=3
  burgess zoo diff old/results-mllm.csv new/results-mllm.csv")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Score(Box<ScoreArgs>),
    Diff(DiffArgs),
}

/// Run any number of encoders as arms of one study's evaluator and write results-mllm.csv
#[derive(clap::Args)]
#[command(after_help = "OUT/<study>/results-mllm.csv has timm's columns and ours, sorted as timm sorts: by score, \
highest first, then by name. zoo.json beside it names the encoders without a score and why; such an encoder does not \
stop the others, but the exit code is 1. The command goes on where it stopped: finished runs are kept.

With --racing all encoders are trained on a small fraction of the study's training data first. Those that are \
improbable to belong to the best k are dropped, the others are trained on a larger fraction, and so on. Each fraction \
is a complete training with its own learning-rate schedule, in OUT/rung-<fraction>/<study>. The probability comes from \
the paired bootstrap over images and seeds; `level` bounds the probability of losing any of the best k, spent equally \
on the rungs. It says nothing about how the order may change with more data: `margin` (points) allows for that. A \
dropped encoder keeps its score and interval.

  k=3                    number of encoders to find
  level=0.05             probability of dropping any of them
  margin=0               points added to an encoder before it is judged
  rungs=0.125:0.25:0.5:1 fractions of the training data
  seeds=all:all:all:all  number of seeds at each rung, of those of the study
  finish=true            train the best k on all data once they are found
  replicates=10000       of the bootstrap

Examples:
  burgess zoo score encoders.txt --study my-study.toml
  burgess zoo score 'nano-*,nano-sup@-2,nano-sup+nano-siglip' --study nano --limit 50
  burgess zoo score './checkpoints/*' --study field --seeds 0,1 --dry-run
  burgess zoo score 'timm:vit_base_patch16_*' --study my-study.toml --fetch
  burgess zoo score 'nano-*' --racing k=2,rungs=0.25:1,level=0.1
  burgess zoo score encoders.txt --racing --tasks | sh    one rung; again for the next")]
struct ScoreArgs {
    /// Encoders: files with one per line, or names separated by commas: card ids, directories, owner/name of the hub,
    /// a+b, a:unfrozen, a@7 as in `burgess rank --encoders`; patterns over card ids (nano-*), directories (./models/*)
    /// and timm's tags (timm:vit_*)
    #[arg(value_name = "LIST|GLOB|timm:PATTERN", required = true)]
    list: Vec<String>,
    /// The study whose evaluator, recipe and benchmarks are used: a built-in study or the path of a TOML file
    #[arg(long, value_name = "STUDY", default_value = "nano")]
    study: String,
    /// Seeds instead of the study's, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// A benchmark file, or an id, besides the benchmarks of the study; may be given several times
    #[arg(long, value_name = "FILE")]
    benchmark: Vec<String>,
    /// Largest number of images (or pairs) of each benchmark, a fixed random sample
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Drop encoders early; RULES as described below, all of them optional
    #[arg(long, value_name = "RULES", num_args = 0..=1, default_missing_value = "")]
    racing: Option<String>,
    /// Output directory [default: runs/zoo]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0; several of one kind as cuda:0,cuda:1 or cuda:all [default: flex]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Number of parallel runs, over all devices [default: as for `burgess rank`]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Look for timm's tags on the hub too, and download encoders of the hub that are not on this machine
    #[arg(long)]
    fetch: bool,
    /// Print what would be run and what cannot be loaded, and stop
    #[arg(long)]
    dry_run: bool,
    /// Print what is left to do as tasks, one command per line as `burgess launch list`, and stop; of a race the next
    /// rung
    #[arg(long, conflicts_with = "dry_run")]
    tasks: bool,
    /// Exit code 0 although encoders have no score
    #[arg(long)]
    keep_going: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Compare two tables of results: new and missing models, changes of rank and score
#[derive(clap::Args)]
#[command(
    after_help = "Models are matched by name and image size, and ranked in each table by score, as in timm's result \
files. A difference is beyond the intervals if Newcombe's interval of the difference, from the intervals of both \
scores, excludes 0. Tables of timm have no intervals; ranks and differences are the same as in its files.

Examples:
  burgess zoo diff old/results-mllm.csv new/results-mllm.csv
  burgess zoo diff old.csv new.csv --column knowledge --json
  burgess zoo diff results-imagenet.csv results-imagenet-real.csv --column top1 --csv"
)]
struct DiffArgs {
    /// The first table
    #[arg(value_name = "A.csv")]
    base: PathBuf,
    /// The second table
    #[arg(value_name = "B.csv")]
    test: PathBuf,
    /// The compared column [default: average, or top1 in tables of timm]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Print the second table with the columns <NAME>_diff and rank_diff, as timm writes it
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whether the command goes on where it was interrupted.
    pub fn resumes(&self) -> bool {
        matches!(self.verb, Verb::Score(_))
    }
}

pub fn run(args: Args) -> Result<()> {
    match args.verb {
        Verb::Score(args) => score(&args),
        Verb::Diff(args) => diff(&args),
    }
}

fn score(args: &ScoreArgs) -> Result<()> {
    if args.jobs == Some(0) {
        return Err(Error::usage("--jobs must be at least 1").hint("leave it out for one run per core or GPU"));
    }
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs/zoo"));
    let chosen = StudyArgs {
        study: Some(args.study.clone()),
        seeds: args.seeds.clone(),
        benchmark: args.benchmark.clone(),
        limit: args.limit,
        out: Some(out.clone()),
        device: args.device.clone(),
        ..StudyArgs::default()
    };
    let study = chosen.open()?;
    let list = open_list(args, &study)?;
    let device = chosen.device();
    let race = args.racing.as_deref().map(str::parse::<RaceRules>).transpose()?;
    let options = ZooOptions { study: StudyOptions { out, device, jobs: args.jobs, stage: None }, race };
    if args.dry_run {
        let text = zoo::plan_text(&study, &list, &options, terminal::list_width(), &Progress::new())?;
        return match args.json {
            true => print_json(&json!({"arms": zoo::names(&list.arms), "failed": list.failed, "race": options.race})),
            false => print(&text),
        };
    }
    if args.tasks {
        return tasks(&study, &list, &options, args);
    }
    let outcome = zoo::score(&study, &list, &options, &Progress::new())?;
    show(&outcome, args)
}

/// Expands the list and opens the encoders; with `--fetch` those of the hub are downloaded first.
fn open_list(args: &ScoreArgs, study: &StudyConfig) -> Result<ZooList> {
    if !args.fetch {
        return Ok(zoo::open_all(&zoo::expand(&args.list, &TagSource::cache())?, &study.evaluator));
    }
    let session = || -> Result<Session> {
        let client = Client::new(Settings::from_environment()?, Progress::new())?;
        Ok(Session { client, dry_run: args.dry_run, update: false })
    };
    let lister = session()?;
    let listed = zoo::expand(&args.list, &TagSource::hub(move |part| lister.models_of("timm", part)))?;
    let session = session()?;
    for arm in &listed {
        // What cannot be parsed or downloaded is reported with the encoders that cannot be loaded.
        let sources = Arm::parse(&arm.text).map(|arm| arm.encoders).unwrap_or_default();
        for source in sources.into_iter().map(|encoder| encoder.source) {
            let is_absent = Repository::parse(&source).is_some_and(|hub| hub.snapshot().is_err());
            if !is_absent || Path::new(&source).is_dir() {
                continue;
            }
            terminal::eprint_line(&format!("downloading {source}"));
            let fetched = request(&source).and_then(|what| session.download(&what, &ModelFiles, &mut |_| Ok(())));
            if let Err(e) = fetched {
                terminal::eprint_line(&format!("{source} was not downloaded: {}", e.chain().join(": ")));
            }
        }
    }
    Ok(zoo::open_all(&listed, &study.evaluator))
}

fn tasks(study: &StudyConfig, list: &ZooList, options: &ZooOptions, args: &ScoreArgs) -> Result<()> {
    for failure in &list.failed {
        terminal::eprint_line(&format!("{} cannot be loaded: {}", failure.encoder, failure.cause));
    }
    let Some(next) = zoo::next_tasks(study, list, options)? else {
        terminal::eprint_line("the race is over; the command without --tasks writes the results");
        return if args.json { print_json(&json!({"study": study.name, "tasks": []})) } else { Ok(()) };
    };
    let file = zoo::study_file(&next.study, &next.out);
    let study = StudyArgs {
        study: Some(file.to_string_lossy().into_owned()),
        out: Some(next.out),
        device: args.device.clone(),
        ..StudyArgs::default()
    };
    launch::list_of(study, args.json)
}

/// Prints race, ranking and encoders without a score; these are an error unless `--keep-going` is given.
fn show(outcome: &ZooOutcome, args: &ScoreArgs) -> Result<()> {
    let ZooOutcome { results, written, race, scored, failed } = outcome;
    if args.json {
        let ranking = &written.ranking;
        print_json(&json!({"results": results, "scored": scored, "failed": failed, "race": race, "ranking": ranking}))?;
    } else {
        if let Some(race) = race {
            print(&format!("{}\n", race_text(race, terminal::width())))?;
        }
        report::show_with(written, false, false)?;
        print(&format!("results  {}\n", results.display()))?;
        print(&failures(failed))?;
    }
    match failed.len() {
        0 => Ok(()),
        _ if args.keep_going => Ok(()),
        n => Err(Error::failed(format!("{n} of {} encoders have no score or not all seeds", scored + n))
            .hint("remove the cause and run the same command again: finished runs are kept")),
    }
}

/// Formats the encoders without a score with their causes.
fn failures(failed: &[ZooFailure]) -> String {
    let mut text = match failed.len() {
        0 => return String::new(),
        1 => "\n1 encoder has no score:\n".to_string(),
        n => format!("\n{n} encoders have no score:\n"),
    };
    for failure in failed {
        text += &format!("  {}: {}\n", failure.encoder, failure.cause);
        if let Some(hint) = &failure.hint {
            text += &format!("    hint: {hint}\n");
        }
    }
    text
}

fn diff(args: &DiffArgs) -> Result<()> {
    let read = |path: &Path| -> Result<(String, String)> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Ok((path.display().to_string(), text))
    };
    let (base, test) = (read(&args.base)?, read(&args.test)?);
    let diff = ZooDiff::of((&base.0, &base.1), (&test.0, &test.1), args.column.as_deref())?;
    match (args.json, args.csv) {
        (true, _) => print_json(&diff),
        (_, true) => print_raw(&diff.csv(&test.1)?),
        _ => print(&diff.text()),
    }
}
