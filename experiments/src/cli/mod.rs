//! The command line: one file per verb. A verb's file parses, calls and prints; the logic lies elsewhere.
//! stdout carries results, stderr progress and errors; exit code 0 done, 1 failed, 2 wrong usage.

mod ask;
mod bench;
mod cv_bench;
mod data;
mod doctor;
mod encode;
mod encoders;
mod eval;
mod fetch;
mod leaks;
mod pretrain;
mod prompts;
mod rank;
mod report;
mod score;
mod train;

use burgess_base::{Error, Kind, Result};
use clap::{Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Which visual representation is best for a multimodal language model, at what, and how sure are we?
#[derive(Parser)]
#[command(
    name = "burgess",
    version,
    after_help = "Without a command, `burgess` does `burgess rank nano`.\n\nFiles: results go to runs/, pictures and features to ~/.cache/burgess (BURGESS_CACHE; limit BURGESS_CACHE_GB, default 20), published weights to the Hugging Face cache (HF_HOME).",
    subcommand_help_heading = "Commands",
    max_term_width = 100,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    // The main job.
    Rank(rank::Args),
    Report(report::Args),
    Data(data::Args),
    // Encoders.
    Encoders(encoders::Args),
    Fetch(fetch::Args),
    Encode(encode::Args),
    Pretrain(pretrain::Args),
    // The steps of a run by themselves.
    Train(train::Args),
    Ask(ask::Args),
    Eval(eval::Args),
    Score(score::Args),
    Prompts(prompts::Args),
    // This machine.
    Bench(bench::Args),
    Doctor(doctor::Args),
}

/// Parses the command line, does it, and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // clap's own errors: help and version go to stdout with 0, wrong usage to stderr with 2.
            let code = u8::try_from(e.exit_code()).unwrap_or(2);
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    let outcome = match cli.verb.unwrap_or_else(|| Verb::Rank(rank::Args::default())) {
        Verb::Rank(args) => rank::run(args),
        Verb::Report(args) => report::run(args),
        Verb::Data(args) => data::run(args),
        Verb::Encoders(args) => encoders::run(args),
        Verb::Fetch(args) => fetch::run(args),
        Verb::Encode(args) => encode::run(args),
        Verb::Pretrain(args) => pretrain::run(args),
        Verb::Train(args) => train::run(args),
        Verb::Ask(args) => ask::run(args),
        Verb::Eval(args) => eval::run(args),
        Verb::Score(args) => score::run(args),
        Verb::Prompts(args) => prompts::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Doctor(args) => doctor::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprint!("{}", render(&e));
            ExitCode::from(e.exit_code())
        }
    }
}

/// An error as the user sees it: the step, its causes, and what to do.
fn render(error: &Error) -> String {
    let mut text = String::new();
    for (i, part) in error.chain().iter().enumerate() {
        text += &if i == 0 { format!("error: {part}\n") } else { format!("  cause: {part}\n") };
    }
    if let Some(hint) = error.hint_text() {
        text += &format!("hint: {hint}\n");
    } else if error.kind() == Kind::Usage {
        text += "hint: see `burgess --help`\n";
    }
    text
}

/// Prints a result on stdout; a closed pipe (`| head`) is the reader's wish, not an error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Prints a value as JSON on stdout.
fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Columns to print tables in: `COLUMNS` where it is set, at most 100.
fn width() -> usize {
    let columns: Option<usize> = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    columns.unwrap_or(100).clamp(60, 100)
}

/// Whether stdout takes colours.
fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_show_their_chain_and_hint() {
        let e = Error::failed("disk full").context("writing results.json").hint("free some space");
        assert_eq!(render(&e), "error: writing results.json\n  cause: disk full\nhint: free some space\n");
    }
}
