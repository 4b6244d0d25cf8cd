//! `burgess data engine`: visual instruction data from topics, pages and images.

use crate::data::engine::{EngineBars, LeaseClaims, open_tasks, session};
use crate::launch::{path_text, shell_lines};
use crate::machine::progress::Progress;
use crate::machine::stop;
use crate::machine::terminal::{self, print, print_json, print_raw};
use crate::machine::text_table::{Align, table};
use burgess_base::{Error, ErrorKind, Result, temporary};
use burgess_engine::config::{Budget, thousands};
use burgess_engine::pipeline::{self, RunReport, ShardTask, Stage, StageEstimate, Workspace, WorkspaceStatus};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Make visual instruction data from topics, pages and images with a language model
#[derive(Args)]
#[command(
    after_help = "The engine works in a directory with engine.toml: topics of fields (by a language model or from \
a file), pages about them, their images, questions and answers (by a language model), and training data with their card \
and attribution. Each stage works through shards and writes files that can be read in between. Any number of processes \
may work on the same directory; what is finished is never done twice, and no reply is paid for twice.

Examples:
  burgess data engine init my-data                 writes engine.toml and fields.toml with comments
  burgess data engine run my-data --dry-run        what is left to ask, and what it may cost
  burgess data engine run my-data                  all stages
  burgess data engine qa my-data --shard 3         one shard of one stage
  burgess data engine status my-data
  burgess data engine list my-data --stage qa | parallel -j 4
  burgess data show my-data/pack --images my-data/pack -o pack.html"
)]
pub struct EngineArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Init(InitArgs),
    /// Topics of all subfields, by the language model or from a file
    Topics(StageArgs),
    /// Pages about the topics
    Pages(StageArgs),
    /// The images of the pages
    Images(StageArgs),
    /// Questions and answers about the images, by the language model
    Qa(StageArgs),
    /// Training data, their card and their attribution
    Pack(StageArgs),
    /// All stages, one after the other
    Run(StageArgs),
    Status(StatusArgs),
    List(ListArgs),
}

/// Write engine.toml and fields.toml with comments into a new directory
#[derive(Args)]
struct InitArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Args)]
struct StageArgs {
    /// The directory with engine.toml
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Only this shard, from 0
    #[arg(long, value_name = "N")]
    shard: Option<usize>,
    /// Number of requests at the same time, instead of engine.toml's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Do shards again that were made with other settings or of other data. Replies to requests that have not changed
    /// are used again; others are paid for
    #[arg(long)]
    redo: bool,
    /// Print what is left to ask and what it may cost, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Print where the stages stand: shards, records, rejections, cost
#[derive(Args)]
struct StatusArgs {
    /// The directory with engine.toml
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Print one command per line for what is left to do, in an order in which each comes after those it needs
#[derive(Args)]
#[command(after_help = "Lines of one stage may run at the same time; a stage needs those before it. The lines hold \
absolute paths, but not the environment: set BURGESS_CACHE and the variable with the key where they run.

Examples:
  burgess data engine list my-data | sh
  for s in topics pages images qa pack; do burgess data engine list my-data --stage $s | parallel -j 4; done
  burgess data engine list my-data --stage qa | xargs -d '\\n' -P 4 -n 1 sh -c")]
struct ListArgs {
    /// The directory with engine.toml
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Only the tasks of this stage
    #[arg(long, value_name = "STAGE", value_parser = ["topics", "pages", "images", "qa", "pack"])]
    stage: Option<String>,
    /// Path of burgess where the tasks run [default: this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl EngineArgs {
    /// Whether the command resumes its work when it is started again.
    pub fn resumes(&self) -> bool {
        !matches!(self.what, What::Init(_) | What::Status(_) | What::List(_))
    }
}

pub fn run(args: EngineArgs) -> Result<()> {
    let done = match args.what {
        What::Init(args) => init(&args),
        What::Topics(args) => work(&args, &[Stage::Topics]),
        What::Pages(args) => work(&args, &[Stage::Pages]),
        What::Images(args) => work(&args, &[Stage::Images]),
        What::Qa(args) => work(&args, &[Stage::Qa]),
        What::Pack(args) => work(&args, &[Stage::Pack]),
        What::Run(args) => work(&args, &Stage::ALL),
        What::Status(args) => status(&args),
        What::List(args) => list(&args),
    };
    done.map_err(with_flag)
}

/// Adds the flag or the command that the library's message is about.
fn with_flag(e: Error) -> Error {
    let message = e.to_string();
    match () {
        () if message.contains("made with other settings") || message.contains("left over from other settings") => {
            let kind = if e.kind() == ErrorKind::Usage { Error::usage } else { Error::failed };
            kind(message).hint(
                "restore the settings, or give --redo: replies to requests that have not changed are used again, the \
                 others are paid for",
            )
        }
        () if message.contains("has no engine.toml") => {
            Error::usage(message).hint("`burgess data engine init DIR` writes a new one")
        }
        () => e,
    }
}

fn init(args: &InitArgs) -> Result<()> {
    let files = burgess_engine::init::init(&args.directory)?;
    let mut text = String::new();
    for file in files {
        text += &format!("wrote {}\n", file.display());
    }
    text += "next: name the language model in [endpoint] and a contact in [fetch], then: burgess data engine run DIR \
             --dry-run\n";
    print(&text)
}

fn work(args: &StageArgs, stages: &[Stage]) -> Result<()> {
    let workspace = Workspace::open(&args.directory)?;
    let budget = &workspace.config().budget;
    let estimates = pipeline::estimate(&workspace, stages, args.shard)?;
    if args.dry_run {
        let spent = pipeline::ledger_of(&workspace)?.total(None).spent();
        if args.json {
            let cost = budget.cost(spent);
            return print_json(&json!({"estimates": estimates, "spent": spent, "cost": cost, "budget": budget}));
        }
        let note = format!("spent so far: {}\nbudget: {}\n", budget.amount(spent), budget.limits());
        return print(&(estimate_text(&estimates, budget) + &note));
    }
    for stage in &estimates {
        if stage.requests > 0 {
            terminal::eprint_line(&estimate_line(stage, budget));
        }
    }
    temporary::remove_stale(&args.directory, 3);
    let (claims, bars) = (LeaseClaims, EngineBars::new(Progress::new()));
    let mut session = session(&claims, &bars)?;
    (session.workers, session.redo) = (args.workers.map(|n| n as usize), args.redo);
    stop::announce("the requests in flight");
    let section = stop::section()?;
    let report = pipeline::run(&workspace, &session, stages, args.shard);
    drop(session);
    drop(bars);
    drop(section);
    let report = report?;
    let status = pipeline::status(&workspace)?;
    if args.json {
        print_json(&json!({
            "finished": report.finished,
            "finished_before": report.finished_before,
            "failed": report.failed.iter().map(|f| json!({"task": f.task, "error": f.error.to_string()})).collect::<Vec<_>>(),
            "waiting": report.waiting,
            "published": report.published.as_ref().map(|p| json!({"entries": p.entries, "pairs": p.pairs})),
            "cost": status.cost,
        }))?;
    } else {
        let mut text = status_text(&status, stages, budget);
        if let Some(published) = &report.published {
            let directory = workspace.stage_directory(Stage::Pack);
            let (entries, pairs) = (thousands(published.entries), thousands(published.pairs));
            text +=
                &format!("{}: {entries} images with {pairs} questions; README.md is the card\n", directory.display());
        }
        print(&text)?;
    }
    unfinished(&report)
}

/// An error if a task is not finished.
fn unfinished(report: &RunReport) -> Result<()> {
    let names = |tasks: &mut dyn Iterator<Item = ShardTask>| {
        let all: Vec<String> = tasks.map(ShardTask::name).collect();
        match all.len() {
            0..=5 => all.join(", "),
            n => format!("{} and {} more", all.iter().take(4).cloned().collect::<Vec<_>>().join(", "), n - 4),
        }
    };
    if let Some(first) = report.failed.first() {
        let failed = names(&mut report.failed.iter().map(|f| f.task));
        let hint = first.error.hint_text().unwrap_or("start the command again: what is finished is kept").to_string();
        return Err(Error::failed(format!("{failed} failed; the first one: {}", first.error)).hint(hint));
    }
    if !report.waiting.is_empty() {
        let stage = report.waiting.first().and_then(|task| task.stage.previous()).unwrap_or(Stage::Topics);
        return Err(Error::failed(format!(
            "{} wait for the stage {stage}, which has not finished them",
            names(&mut report.waiting.iter().copied())
        ))
        .hint(format!("do that stage first: burgess data engine {stage} DIR")));
    }
    Ok(())
}

fn estimate_line(estimate: &StageEstimate, budget: &Budget) -> String {
    format!(
        "{}: {} requests are left, about {}, at most {}",
        estimate.stage,
        thousands(estimate.requests),
        budget.amount(estimate.expected).trim_start_matches("about "),
        budget.amount(estimate.most).trim_start_matches("about "),
    )
}

fn estimate_text(estimates: &[StageEstimate], budget: &Budget) -> String {
    let head = ["stage", "open shards", "not known yet", "requests", "kept", "expected", "at most"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for one in estimates {
        rows.push(vec![
            one.stage.to_string(),
            one.open_shards.to_string(),
            one.unknown_shards.to_string(),
            thousands(one.requests),
            thousands(one.kept),
            budget.amount(one.expected),
            budget.amount(one.most),
        ]);
    }
    let sides = [Align::Left, Align::Right, Align::Right, Align::Right, Align::Right, Align::Right, Align::Right];
    let mut text = table(&rows, &sides, "", terminal::width());
    for one in estimates {
        let basis = if one.assumed { "assumed" } else { "the mean of the replies so far" };
        text += &format!("{}: {:.0} tokens per reply ({basis})\n", one.stage, one.tokens_per_reply);
        if one.unknown_shards > 0 {
            text += &format!(
                "{}: {} shards wait for an earlier stage, so that their requests are not counted\n",
                one.stage, one.unknown_shards
            );
        }
    }
    text
}

fn status(args: &StatusArgs) -> Result<()> {
    let workspace = Workspace::open(&args.directory)?;
    let status = pipeline::status(&workspace)?;
    match args.json {
        true => print_json(&status),
        false => print(&status_text(&status, &Stage::ALL, &workspace.config().budget)),
    }
}

/// Number of reasons of rejections that are printed per stage.
const REASONS: usize = 12;

fn status_text(status: &WorkspaceStatus, stages: &[Stage], budget: &Budget) -> String {
    let head = ["stage", "done", "in part", "open", "waiting", "stale", "in", "out", "rejected", "spent"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let shown = || status.stages.iter().filter(|stage| stages.contains(&stage.stage));
    for one in shown() {
        let spent = one.spent.spent();
        rows.push(vec![
            one.stage.to_string(),
            format!("{}/{}", one.done, status.shards),
            one.partial.len().to_string(),
            one.open.to_string(),
            one.waiting.to_string(),
            one.stale.len().to_string(),
            thousands(one.items),
            thousands(one.records),
            thousands(one.rejected.values().sum()),
            if spent.total() == 0 { "-".into() } else { budget.amount(spent) },
        ]);
    }
    let mut sides = [Align::Right; 10];
    sides[0] = Align::Left;
    let mut text = table(&rows, &sides, "", terminal::width());
    for one in shown() {
        let mut reasons: Vec<(&String, &u64)> = one.rejected.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        for (reason, count) in reasons.iter().take(REASONS) {
            text += &format!("{}: {} rejected: {reason}\n", one.stage, thousands(**count));
        }
        if reasons.len() > REASONS {
            text += &format!("{}: {} further reasons, see --json\n", one.stage, reasons.len() - REASONS);
        }
        for (shard, why) in one.stale.iter().take(3) {
            text += &format!("{}: shard {shard} is stale: {}\n", one.stage, why.join("; "));
        }
    }
    let mut all = burgess_engine::llm::Usage::default();
    status.stages.iter().for_each(|stage| all.add(stage.spent.spent()));
    text + &format!("spent: {}; budget: {}\n", budget.amount(all), budget.limits())
}

fn list(args: &ListArgs) -> Result<()> {
    let workspace = Workspace::open(&args.directory)?;
    let stage = args.stage.as_deref().map(str::parse::<Stage>).transpose()?;
    let tasks = open_tasks(&workspace, stage)?;
    let here = std::env::current_dir().map_err(|e| Error::from(e).context("finding the working directory"))?;
    let binary = match &args.binary {
        // The path may exist only where the tasks run.
        Some(binary) => here.join(binary),
        None => std::env::current_exe().map_err(|e| Error::from(e).context("finding the path of this program"))?,
    };
    let directory = here.join(&args.directory);
    if args.json {
        let rows: Result<Vec<_>> = tasks
            .iter()
            .map(|task| Ok(json!({"task": task.name(), "command": command(&binary, &directory, *task)?})))
            .collect();
        return print_json(&rows?);
    }
    if tasks.is_empty() {
        terminal::eprint_line("nothing is left to do");
    }
    let lines: Result<Vec<String>> =
        tasks.iter().map(|task| Ok(shell_lines::line(&command(&binary, &directory, *task)?) + "\n")).collect();
    print_raw(&lines?.concat())
}

/// The command that does a task.
fn command(binary: &Path, directory: &Path, task: ShardTask) -> Result<Vec<String>> {
    let words = ["data".to_string(), "engine".into(), task.stage.to_string(), path_text(directory)?];
    let shard = ["--shard".to_string(), task.shard.to_string()];
    Ok([path_text(binary)?].into_iter().chain(words).chain(shard).collect())
}
