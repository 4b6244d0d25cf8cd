//! `cargo run --release -p burgess-fuzz -- [TARGET…] --inputs N --seed S`; see the crate's documentation.

use burgess_base::{Error, Result};
use burgess_fuzz::{FuzzTarget, child, find, run};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs damaged inputs through the parsers of foreign files.
#[derive(Parser)]
#[command(name = "burgess-fuzz", max_term_width = 100)]
struct Args {
    /// Names of targets; all targets if none is given.
    targets: Vec<String>,
    /// Total number of inputs, divided among the targets.
    #[arg(long, default_value_t = 100_000)]
    inputs: u64,
    /// Seed of the inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Lists the targets.
    #[arg(long)]
    list: bool,
    /// Runs this one input of one target.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The file from which the input was made; files that belong to the input lie beside it.
    #[arg(long)]
    beside: Option<PathBuf>,
    #[arg(long, hide = true)]
    child: bool,
    #[arg(long, hide = true, default_value_t = 0)]
    from: u64,
    #[arg(long, hide = true)]
    scratch: Option<PathBuf>,
}

fn main() -> ExitCode {
    match work(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            e.hint_text().into_iter().for_each(|hint| eprintln!("hint: {hint}"));
            ExitCode::from(e.exit_code())
        }
    }
}

fn work(args: &Args) -> Result<bool> {
    let targets = find(&args.targets)?;
    if args.list {
        targets.iter().for_each(|t| println!("{:24} {}", t.name, t.about));
        return Ok(true);
    }
    if args.child {
        return as_child(args, &targets).map(|()| true);
    }
    let program = std::env::current_exe()?;
    if let Some(file) = &args.file {
        let [target] = targets.as_slice() else { return Err(Error::usage("name one target for a file")) };
        let ended = run::file(&program, target, file, args.beside.as_deref())?;
        println!("{}", ended.as_ref().map_or_else(|what| format!("FAILED: {what}"), |said| said.trim().to_string()));
        return Ok(ended.is_ok());
    }
    let shares: u64 = targets.iter().map(|t| u64::from(t.share)).sum();
    let (mut inputs, mut failures) = (0, 0);
    for target in targets {
        let count = args.inputs * u64::from(target.share) / shares.max(1) + 1;
        let outcome = run::target(&program, target, args.seed, count)?;
        println!(
            "{:24} {:>8} inputs, {:>8} read, {:>8} refused, {} failures, {:.1} s",
            target.name,
            outcome.inputs,
            outcome.read,
            outcome.refused,
            outcome.failures.len(),
            outcome.seconds
        );
        for failure in &outcome.failures {
            println!("FAILED {} {}: {}\n    {}", target.name, failure.number, failure.what, failure.command);
        }
        inputs += outcome.inputs;
        failures += outcome.failures.len();
    }
    println!("{inputs} inputs under seed {}, {failures} failures", args.seed);
    Ok(failures == 0)
}

/// Runs a child's inputs in a thread with the default stack size of threads, which is smaller than the main thread's.
fn as_child(args: &Args, targets: &[&'static FuzzTarget]) -> Result<()> {
    let [target] = targets else { return Err(Error::usage("a child has one target")) };
    let target = *target;
    let scratch = args.scratch.clone().ok_or_else(|| Error::usage("a child has a place"))?;
    let (seed, numbers) = (args.seed, args.from..args.from.saturating_add(args.inputs));
    let (path, beside) = (args.file.clone(), args.beside.clone());
    let work = move || match (path, beside) {
        (Some(path), Some(beside)) => {
            match child::file(target, &path, &beside, &scratch) {
                Ok(()) => println!("read"),
                Err(e) => println!("refused: {e}\nhint: {}", e.hint_text().unwrap_or("none")),
            }
            Ok(())
        }
        _ => child::inputs(target, seed, numbers, &scratch),
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work)?;
    thread.join().unwrap_or_else(|_| Err(Error::failed("the thread ended")))
}
