//! The command line, one file per verb, which parses the arguments, calls the library and prints.
//!
//! Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 128 + N after
//! signal N; after SIGUSR1 138, which asks to be started again.

mod ask;
mod bench;
mod compare;
mod completions;
mod cv_bench;
mod data;
mod data_show;
mod doctor;
mod encode;
mod encoders;
mod engine;
mod eval;
mod export;
mod fetch;
mod launch;
mod leaks;
mod listen;
mod man;
mod mix;
mod predict;
mod pretrain;
mod prompts;
mod rank;
mod report;
mod score;
mod serve;
mod status;
mod study;
mod study_args;
mod train;
mod view;
mod zoo;

use crate::machine::{device, heap, stop, terminal};
use burgess_base::{Error, ErrorKind};
use burgess_encoders::shipped::{self, EmbeddedFile};
use clap::{Parser, Subcommand};
use std::io::{self, Write};
use std::process::ExitCode;

/// Which visual representation is best for a multimodal language model, at what, and how sure are we?
#[derive(Parser)]
#[command(
    name = "burgess",
    version,
    after_help = "Without a command, `burgess` does `burgess rank nano`.\n\nFiles: results go to runs/, images and \
features to ~/.cache/burgess (BURGESS_CACHE; limit BURGESS_CACHE_GB, default 20), published weights to the Hugging \
Face cache (HF_HOME).",
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
    Launch(launch::Args),
    Status(status::Args),
    Report(report::Args),
    View(view::Args),
    Compare(compare::Args),
    Zoo(zoo::Args),
    Predict(Box<predict::Args>),
    Study(study::Args),
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
    Serve(serve::Args),
    Export(export::Args),
    Score(score::Args),
    Prompts(prompts::Args),
    // This machine.
    Bench(bench::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Verb {
    /// Name of the verb on the command line.
    fn name(&self) -> &'static str {
        match self {
            Verb::Rank(_) => "rank",
            Verb::Launch(_) => "launch",
            Verb::Status(_) => "status",
            Verb::Report(_) => "report",
            Verb::View(_) => "view",
            Verb::Compare(_) => "compare",
            Verb::Zoo(_) => "zoo",
            Verb::Predict(_) => "predict",
            Verb::Study(_) => "study",
            Verb::Data(_) => "data",
            Verb::Encoders(_) => "encoders",
            Verb::Fetch(_) => "fetch",
            Verb::Encode(_) => "encode",
            Verb::Pretrain(_) => "pretrain",
            Verb::Train(_) => "train",
            Verb::Ask(_) => "ask",
            Verb::Eval(_) => "eval",
            Verb::Serve(_) => "serve",
            Verb::Export(_) => "export",
            Verb::Score(_) => "score",
            Verb::Prompts(_) => "prompts",
            Verb::Bench(_) => "bench",
            Verb::Doctor(_) => "doctor",
            Verb::Completions(_) => "completions",
            Verb::Man(_) => "man",
        }
    }
}

/// The shipped weights, which are part of the program.
static ZOO: &[EmbeddedFile] = include!(concat!(env!("OUT_DIR"), "/zoo.rs"));

/// Parses the command line, runs the verb, prints errors and returns the exit code.
pub fn main() -> ExitCode {
    heap::keep_freed_memory();
    shipped::embed(ZOO);
    device::register_program(doctor::child_command);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return answered(&e),
    };
    let verb = cli.verb.unwrap_or_else(|| Verb::Rank(rank::Args::default()));
    let name = verb.name();
    let resumes = match &verb {
        Verb::Data(args) => args.resumes(),
        Verb::Zoo(args) => args.resumes(),
        other => matches!(other, Verb::Rank(_) | Verb::Train(_) | Verb::Eval(_) | Verb::Fetch(_)),
    };
    stop::listen(resumes);
    let outcome = match verb {
        Verb::Rank(args) => rank::run(args),
        Verb::Launch(args) => launch::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Report(args) => report::run(args),
        Verb::View(args) => view::run(args),
        Verb::Compare(args) => compare::run(args),
        Verb::Zoo(args) => zoo::run(args),
        Verb::Predict(args) => predict::run(*args),
        Verb::Study(args) => study::run(args),
        Verb::Data(args) => data::run(args),
        Verb::Encoders(args) => encoders::run(args),
        Verb::Fetch(args) => fetch::run(args),
        Verb::Encode(args) => encode::run(args),
        Verb::Pretrain(args) => pretrain::run(args),
        Verb::Train(args) => train::run(args),
        Verb::Ask(args) => ask::run(args),
        Verb::Eval(args) => eval::run(args),
        Verb::Serve(args) => serve::run(args),
        Verb::Export(args) => export::run(args),
        Verb::Score(args) => score::run(args),
        Verb::Prompts(args) => prompts::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.kind() == ErrorKind::Interrupted => {
            terminal::eprint_line(&stop::message());
            ExitCode::from(stop::exit_code().unwrap_or_else(|| e.exit_code()))
        }
        Err(e) => {
            terminal::eprint_line(render(&e, name).trim_end());
            ExitCode::from(e.exit_code())
        }
    }
}

/// Prints clap's own messages: help and version to stdout with exit code 0, wrong usage to stderr with 2.
fn answered(answer: &clap::Error) -> ExitCode {
    let code = u8::try_from(answer.exit_code()).unwrap_or(2);
    let plain = answer.render().to_string();
    if code != 0 && terminal::message(&plain) != plain.trim_end() {
        // The message quotes the arguments, whose control characters must not reach the terminal.
        terminal::eprint_line(&terminal::message(&plain));
        return ExitCode::from(code);
    }
    match answer.print().and_then(|()| io::stdout().flush()) {
        Err(e) if code == 0 && e.kind() != io::ErrorKind::BrokenPipe => {
            terminal::eprint_line(&format!("error: writing to standard output\n  cause: {e}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(code),
    }
}

/// Formats an error for the terminal: the failed step, its causes, and a hint.
fn render(error: &Error, verb: &str) -> String {
    let mut text = String::new();
    for (i, part) in error.chain().iter().enumerate() {
        let part = terminal::message(part);
        text += &if i == 0 { format!("error: {part}\n") } else { format!("  cause: {part}\n") };
    }
    if let Some(hint) = terminal::hint(error) {
        text += &format!(
            "hint: {}
",
            terminal::message(&hint)
        );
    } else if error.kind() == ErrorKind::Usage {
        text += &format!("hint: `burgess {verb} --help` describes the arguments, with examples\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// clap wraps paragraphs to the terminal's width; a line feed inside a paragraph would wrap it twice.
    #[test]
    fn help_is_folded_once() {
        fn paragraphs(command: &clap::Command, found: &mut Vec<String>) {
            for text in [command.get_after_help(), command.get_after_long_help(), command.get_long_about()] {
                found.extend(
                    text.into_iter().flat_map(|t| t.to_string().split("\n\n").map(String::from).collect::<Vec<_>>()),
                );
            }
            command.get_subcommands().for_each(|sub| paragraphs(sub, found));
        }
        let mut found = Vec::new();
        paragraphs(&Cli::command(), &mut found);
        assert!(found.len() > 20);
        for paragraph in found {
            // Prose, not an indented list of commands or a file.
            let prose = !paragraph.contains("\n  ") && !paragraph.starts_with("  ");
            assert!(!prose || paragraph.lines().count() == 1, "folded by hand: {paragraph}");
        }
    }

    #[test]
    fn errors_show_their_chain_and_hint() {
        let e = Error::failed("disk full").context("writing results.json").hint("free some space");
        let bare = render(&Error::usage("--batch 0"), "encode");
        assert_eq!(bare, "error: --batch 0\nhint: `burgess encode --help` describes the arguments, with examples\n");
        assert_eq!(render(&e, "rank"), "error: writing results.json\n  cause: disk full\nhint: free some space\n");
        let long = render(&Error::failed(format!("\x1b[2J{}", "x".repeat(1 << 20))).hint("cut"), "rank");
        assert!(long.len() < 1000 && long.starts_with("error: \\x1b[2Jxx") && long.ends_with("hint: cut\n"), "{long}");
    }
}
