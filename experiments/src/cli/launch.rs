//! `burgess launch`: a study as the tasks of a scheduler.

use crate::cli::study_args::StudyArgs;
use crate::launch::slurm::{self, AfterEncode, Slurm, SlurmOptions};
use crate::launch::tasks::{Task, TaskList, TaskSubject};
use crate::launch::{Environment, hyperqueue, path_text, shell_lines};
use crate::machine::terminal::{self, print, print_json, print_raw};
use crate::machine::{device, memory};
use crate::run::stages::StudyStage;
use crate::study::{Arm, Freeze, StudyConfig, benchmark_files};
use burgess_base::{Error, Result};
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// Submit a study to Slurm, or list its tasks for another scheduler
#[derive(clap::Args)]
#[command(after_help = "A task is one idempotent command: it does what is left of one encoder's features, one run's \
training or evaluation, or the report.

Examples:
  burgess launch slurm nano --out /shared/runs -- --partition=gpu --gres=gpu:1 --time=4:00:00
  burgess launch slurm nano --dry-run            the scripts and the sbatch commands
  burgess launch list nano | sh                  one task after the other
  for s in encode train eval report; do burgess launch list nano --stage $s | parallel -j 4; done
  burgess launch run nano --stage train --index 3   what a task of an indexed job does
  burgess launch hq nano --gpus 0.5 -o nano.toml && hq job submit-file nano.toml
  burgess status nano")]
pub struct Args {
    #[command(subcommand)]
    form: Form,
}

#[derive(Subcommand)]
enum Form {
    Slurm(SlurmArgs),
    List(ListArgs),
    Run(RunArgs),
    Hq(HqArgs),
}

/// What all forms have in common.
#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    study: StudyArgs,
    /// Path of burgess where the tasks run [default: this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// Write batch scripts and submit what is left, as job arrays that depend on one another
#[derive(clap::Args)]
#[command(after_help = "Writes OUT/<study>/slurm/{encode,train,eval,report}.sh and submits them: the training waits \
for the features, the evaluation of a run for its own training, the report for the end of all. Called again, it \
submits what is left and not queued. Options for sbatch come after `--` and hold for all arrays.

Examples:
  burgess launch slurm my-study.toml --max-parallel 8 -- -p gpu --gres=gpu:1 --time=8:00:00
  burgess launch slurm nano --device cuda:0 --seeds 0,1,2 -- -p gpu -A project --gres=gpu:1")]
struct SlurmArgs {
    #[command(flatten)]
    common: Common,
    /// Largest number of tasks of an array that run at the same time
    #[arg(long, value_name = "N")]
    max_parallel: Option<usize>,
    /// What the training waits for: the success or the end of the tasks that compute features. A task whose encoder
    /// alone is at fault counts as success, except if Slurm ends it for its memory
    #[arg(long, value_name = "EVENT", default_value = "success", value_parser = ["success", "end"])]
    after_encode: String,
    /// Number of times that a task whose time is over asks to be started again
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_restarts: u32,
    /// Write the scripts and print the commands that would submit them
    #[arg(long)]
    dry_run: bool,
    /// Options for sbatch
    #[arg(last = true, value_name = "SBATCH OPTIONS")]
    sbatch: Vec<String>,
}

/// Print one command per line, in an order in which each comes after those it needs
#[derive(clap::Args)]
#[command(after_help = "Prints what is left to do. Lines of one stage may run at the same time; a stage needs those \
before it. The lines hold absolute paths, but not the environment: set BURGESS_CACHE and HF_HOME where they run.

Examples:
  burgess launch list nano | sh
  burgess launch list nano --stage train | parallel --jobs 4 --joblog train.log
  burgess launch list nano --stage eval | xargs -d '\\n' -P 4 -n 1 sh -c
  burgess launch list nano --all --json | jq '.tasks[] | {id, state, depends_on}'")]
struct ListArgs {
    #[command(flatten)]
    common: Common,
    /// Only the tasks of this stage
    #[arg(long, value_name = "STAGE", value_parser = ["encode", "train", "eval", "report"])]
    stage: Option<String>,
    /// Also the tasks that are done
    #[arg(long)]
    all: bool,
    /// Print the tasks with ids, states, dependencies and outputs as JSON
    #[arg(long)]
    json: bool,
}

/// Run one task of a stage by its number, for indexed jobs
#[derive(clap::Args)]
#[command(
    after_help = "The numbers count all tasks of the stage from 0, done or not, so that they stay the same while \
a study runs: `burgess launch list --all --stage STAGE` shows them in this order. A task that is done succeeds at once.

Examples:
  burgess launch run nano --stage train --index 3
  burgess launch run nano --stage train          in a Kubernetes job with completionMode: Indexed"
)]
struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// The stage
    #[arg(long, value_name = "STAGE", value_parser = ["encode", "train", "eval", "report"])]
    stage: String,
    /// Number of the task, from 0
    #[arg(long, value_name = "N", env = "JOB_COMPLETION_INDEX")]
    index: usize,
}

/// Write a HyperQueue job file with dependencies and resources
#[derive(clap::Args)]
#[command(after_help = "HyperQueue runs the tasks on its workers (`hq alloc add slurm` or `hq worker start`) and \
cancels what depends on a failed task. The report is made after the job: the file says how.

Examples:
  burgess launch hq nano -o nano.toml && hq job submit-file nano.toml
  burgess launch hq my-study.toml --device cuda:0 --gpus 0.5 -o jobs.toml    two tasks share a GPU")]
struct HqArgs {
    #[command(flatten)]
    common: Common,
    /// CPU cores of a task that computes features
    #[arg(long, value_name = "N", default_value_t = 1)]
    encode_cpus: u32,
    /// CPU cores of a training or an evaluation
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u32,
    /// GPUs of a task, such as 1 or 0.5 [default: 0 on flex, else 1]
    #[arg(long, value_name = "N")]
    gpus: Option<f64>,
    /// HyperQueue's name of the GPUs: gpus/nvidia or gpus/amd
    #[arg(long, value_name = "NAME", default_value = "gpus/nvidia")]
    gpu_name: String,
    /// How often a task may run on a worker that is lost
    #[arg(long, value_name = "N", default_value_t = 20)]
    crash_limit: u16,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    match args.form {
        Form::Slurm(args) => submit(&args),
        Form::List(args) => list(&args),
        Form::Run(args) => run_one(&args),
        Form::Hq(args) => job_file(&args),
    }
}

fn submit(args: &SlurmArgs) -> Result<()> {
    if args.max_parallel == Some(0) {
        return Err(Error::usage("--max-parallel must be at least 1").hint("leave it out for no limit"));
    }
    let launch = Launch::open(&args.common, &TaskFlags { keep_going: true, encode_jobs: cpus_per_task(&args.sbatch) })?;
    let options = SlurmOptions {
        sbatch: args.sbatch.clone(),
        max_parallel: args.max_parallel,
        after_encode: if args.after_encode == "end" { AfterEncode::End } else { AfterEncode::Success },
        max_restarts: args.max_restarts,
    };
    let note = |text: &str| terminal::eprint_line(text);
    let slurm = Slurm::default();
    let outcome = slurm::launch(&launch.list, &launch.environment, &options, &slurm, args.dry_run, &note)?;
    let dir = slurm::directory(&launch.list.directory);
    let queued = match outcome.queued {
        0 => String::new(),
        n => format!("{n} tasks that are left are queued already\n"),
    };
    if args.dry_run {
        let lines = outcome.submissions.iter().map(|s| s.shell_line(&options.sbatch, &outcome.submissions, &dir));
        let lines = lines.collect::<Result<Vec<_>>>()?;
        terminal::eprint_line(&format!("wrote the scripts in {}; nothing was submitted", dir.display()));
        if !queued.is_empty() {
            terminal::eprint_line(queued.trim_end());
        }
        return print(&lines.iter().map(|line| line.clone() + "\n").collect::<String>());
    }
    let tasks: usize = outcome.submissions.iter().map(|s| s.tasks.len()).sum();
    let told = match (outcome.jobs.len(), outcome.queued) {
        (0, 0) => format!("nothing is left to do of the study {}\n", launch.list.study),
        (0, _) => "nothing was submitted\n".to_string(),
        (jobs, _) => format!(
            "submitted {tasks} tasks as {jobs} jobs: {}\nscripts and logs: {}\n",
            outcome.jobs.join(", "),
            dir.display()
        ),
    };
    print(&(queued + &told))
}

fn list(args: &ListArgs) -> Result<()> {
    let mut launch = Launch::open(&args.common, &TaskFlags::default())?;
    let stage = args.stage.as_deref().map(str::parse::<StudyStage>).transpose()?;
    let wanted = |task: &Task| (args.all || task.is_left()) && stage.is_none_or(|stage| task.stage == stage);
    launch.list.tasks.retain(wanted);
    if args.json {
        return print_json(&launch.list);
    }
    if launch.list.tasks.is_empty() {
        terminal::eprint_line("nothing is left to do; --all also lists what is done");
    }
    print_raw(&shell_lines::lines(&launch.list.tasks))
}

/// Prints the tasks of a study as `launch list` does, for commands that make the study.
pub(super) fn list_of(study: StudyArgs, json: bool) -> Result<()> {
    let common = Common { study, binary: None };
    list(&ListArgs { common, stage: None, all: false, json })
}

fn run_one(args: &RunArgs) -> Result<()> {
    let launch = Launch::open(&args.common, &TaskFlags::default())?;
    let stage: StudyStage = args.stage.parse()?;
    let count = launch.list.of_stage(stage).count();
    let task = launch.list.of_stage(stage).find(|task| task.index == args.index).ok_or_else(|| {
        Error::usage(format!("--index {}: the stage {stage} has {count} tasks", args.index)).hint(match count {
            0 => "with features = \"computed\" there is nothing to encode".to_string(),
            n => format!("give 0 to {}; an indexed job needs completions: {n}", n - 1),
        })
    })?;
    terminal::eprint_line(&format!("{}: {}", task.id, shell_lines::line(&task.command)));
    replace(&task.command)
}

fn job_file(args: &HqArgs) -> Result<()> {
    let encode_jobs = (args.encode_cpus > 1).then_some(args.encode_cpus as usize);
    let launch = Launch::open(&args.common, &TaskFlags { keep_going: false, encode_jobs })?;
    let on_cpu = device::is_cpu(&args.common.study.device());
    let resources = hyperqueue::Resources {
        encode_cpus: args.encode_cpus,
        run_cpus: args.cpus,
        gpus: args.gpus.unwrap_or(if on_cpu { 0.0 } else { 1.0 }),
        gpu_name: args.gpu_name.clone(),
        crash_limit: args.crash_limit,
    };
    let logs = launch.list.directory.join("hq");
    let report = launch.list.of_stage(StudyStage::Report).next().map(|task| task.command.clone()).unwrap_or_default();
    let text = hyperqueue::job_file(&launch.list, &launch.environment, &resources, &logs, &report)?;
    match &args.output {
        None => print_raw(&text),
        Some(file) => {
            burgess_base::output::check(file)?;
            burgess_base::atomic::write(file, text.as_bytes())?;
            terminal::eprint_line(&format!("wrote {}; submit it: hq job submit-file {0}", file.display()));
            Ok(())
        }
    }
}

/// What differs between the commands of the forms.
#[derive(Default)]
struct TaskFlags {
    /// Whether the failure of an encoder leaves the exit code 0.
    keep_going: bool,
    /// Number of parallel forward passes while features are computed; `None` for one per core.
    encode_jobs: Option<usize>,
}

/// The tasks of a study, and where they run.
struct Launch {
    list: TaskList,
    environment: Environment,
}

impl Launch {
    fn open(common: &Common, flags: &TaskFlags) -> Result<Self> {
        let study = common.study.open()?;
        let here = std::env::current_dir().map_err(|e| Error::from(e).context("finding the working directory"))?;
        let out = here.join(common.study.out());
        let commands = Commands::new(common, &study, &here, &out)?;
        let command = |stage: StudyStage, subject: &TaskSubject| Ok(commands.of(stage, subject, flags));
        let list = TaskList::of(&study, &out.join(&study.name), &command)?;
        let environment = Environment { variables: variables(&here)?, directory: here };
        Ok(Self { list, environment })
    }
}

/// Makes the command lines of tasks.
struct Commands {
    /// The program and the arguments that all tasks share.
    base: Vec<String>,
    /// The seeds of the study, if they were given.
    seeds: Vec<String>,
}

impl Commands {
    fn new(common: &Common, study: &StudyConfig, here: &Path, out: &Path) -> Result<Self> {
        let args = &common.study;
        let binary = match &common.binary {
            // The path may exist only where the tasks run.
            Some(binary) => here.join(binary),
            None => std::env::current_exe().map_err(|e| Error::from(e).context("finding the path of this program"))?,
        };
        let name = args.name()?;
        let file = here.join(&name);
        // A built-in study precedes a file of the same name.
        let is_built_in = StudyConfig::built_in(&name).is_ok();
        let name = if is_built_in { name } else { path_text(&file)? };
        let mut base = vec![path_text(&binary)?, "rank".into(), name];
        if !args.encoders.is_empty() {
            let arms = study.arms.iter().map(|arm| arm_text(arm, here)).collect::<Result<Vec<_>>>()?;
            base.extend(["--encoders".into(), arms.join(",")]);
        }
        for name in &args.benchmark {
            // A benchmark that is named by its id is known everywhere.
            let named = benchmark_files::find(name)?.definition().map(|file| path_text(file.path)).transpose()?;
            base.extend(["--benchmark".into(), named.unwrap_or_else(|| name.clone())]);
        }
        if let Some(limit) = args.limit {
            base.extend(["--limit".into(), limit.to_string()]);
        }
        base.extend(["--out".into(), path_text(out)?]);
        if let Some(device) = &args.device {
            base.extend(["--device".into(), device.clone()]);
        }
        Ok(Self { base, seeds: args.seeds.iter().map(u64::to_string).collect() })
    }

    fn of(&self, stage: StudyStage, subject: &TaskSubject, flags: &TaskFlags) -> Vec<String> {
        let mut words = self.base.clone();
        let mut add = |more: &[&str]| words.extend(more.iter().map(ToString::to_string));
        let seeds = self.seeds.join(",");
        match subject {
            TaskSubject::Run { .. } => {}
            _ if seeds.is_empty() => {}
            _ => add(&["--seeds", &seeds]),
        }
        add(&["--stage", stage.as_str()]);
        if stage == StudyStage::Encode {
            if flags.keep_going {
                add(&["--keep-going"]);
            }
            if let Some(jobs) = flags.encode_jobs {
                add(&["--jobs", &jobs.to_string()]);
            }
        }
        match subject {
            TaskSubject::Encoder(encoder) => add(&["--arm", encoder]),
            TaskSubject::Run { arm, seed } => add(&["--arm", arm, "--seeds", &seed.to_string()]),
            TaskSubject::Study => {}
        }
        words
    }
}

/// Writes an arm as on the command line, with absolute paths of directories.
fn arm_text(arm: &Arm, here: &Path) -> Result<String> {
    let encoder = |encoder: &crate::study::ArmEncoder| {
        let mut encoder = encoder.clone();
        let path = here.join(&encoder.source);
        if encoder.source.contains('/') && path.is_dir() {
            encoder.source = path_text(&std::path::absolute(&path).unwrap_or(path))?;
        }
        Ok(encoder.to_string())
    };
    let text = arm.encoders.iter().map(encoder).collect::<Result<Vec<_>>>()?.join("+");
    let text = if arm.freeze == Freeze::Unfrozen { text + ":unfrozen" } else { text };
    match Arm::parse(&text) {
        Ok(read) if read.encoders.len() == arm.encoders.len() && !text.contains(',') => Ok(text),
        _ => Err(Error::usage(format!("the arm {} cannot be written on a command line: {text}", arm.name()))
            .hint("write the study as a TOML file, whose arms may have any paths")),
    }
}

/// Environment variables that change what a task reads and writes. Secrets are not among them: they do not belong into
/// files.
fn variables(here: &Path) -> Result<Vec<(String, String)>> {
    let paths = ["BURGESS_CACHE", "BURGESS_ZOO", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"];
    let plain = [
        "BURGESS_CACHE_GB",
        memory::LIMIT_VARIABLE,
        "BURGESS_MAX_PIXELS",
        "BURGESS_MAX_DECODE_SECONDS",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
    ];
    let mut found = Vec::new();
    for name in paths.into_iter().chain(plain) {
        let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { continue };
        // The hub's variables may begin with `~`, which is resolved where they are read.
        let is_relative = paths.contains(&name) && !Path::new(&value).starts_with("~");
        let value = if is_relative { path_text(&here.join(value))? } else { path_text(Path::new(&value))? };
        found.push((name.to_string(), value));
    }
    Ok(found)
}

/// Number of cores of a task among the options for sbatch: `-c 4`, `-c4`, `--cpus-per-task=4`, `--cpus-per-task 4`.
fn cpus_per_task(options: &[String]) -> Option<usize> {
    let after = |option: &String| {
        let value = option.strip_prefix("--cpus-per-task=").or_else(|| option.strip_prefix("-c"))?;
        value.parse().ok()
    };
    let apart = |pair: &[String]| match pair {
        [name, value] if name == "-c" || name == "--cpus-per-task" => value.parse().ok(),
        _ => None,
    };
    options.iter().find_map(after).or_else(|| options.windows(2).find_map(apart))
}

/// Runs a command in place of this process.
#[cfg(unix)]
fn replace(command: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let Some((program, arguments)) = command.split_first() else { return Err(Error::failed("an empty command")) };
    let e = std::process::Command::new(program).args(arguments).exec();
    Err(Error::from(e).context(format!("running {program}")))
}

/// Runs a command and ends with its exit code.
#[cfg(not(unix))]
fn replace(command: &[String]) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Err(Error::failed("an empty command")) };
    let status = std::process::Command::new(program).args(arguments).status();
    let status = status.map_err(|e| Error::from(e).context(format!("running {program}")))?;
    std::process::exit(status.code().unwrap_or(1))
}
