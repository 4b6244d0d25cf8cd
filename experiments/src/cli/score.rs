//! `burgess score`: the official metric on anyone's predictions.

use super::{print, print_json};
use burgess_base::Result;
use burgess_probe::bench;
use std::path::PathBuf;

/// Score anyone's predictions with a benchmark's metric
#[derive(clap::Args)]
#[command(after_help = "A line of the predictions: {\"id\": \"…\", \"answer\": \"…\"}

Examples:
  burgess score nano-chartqa --data ~/.cache/burgess/worlds/* --predictions answers.jsonl
  burgess score nano-mme --data DIR --predictions answers.jsonl --json")]
pub struct Args {
    /// Benchmark id
    #[arg(value_name = "BENCHMARK")]
    benchmark: String,
    /// The benchmark's data directory
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// JSONL with `id` and `answer`
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let benchmark = bench::find(&args.benchmark)?;
    let questions = benchmark.read(&args.data)?;
    let predictions = bench::read_predictions(&args.predictions)?;
    let report = bench::score_predictions(benchmark, &questions, predictions)?;
    if args.json {
        return print_json(&report);
    }
    let outcome = &report.outcome;
    let mut text = format!(
        "{} ({}, version {})\n{:.2} ± {:.2} {}  chance {:.2}  best constant answer {:.2}\n{} questions, {} unparsed",
        report.benchmark,
        report.category,
        report.version,
        outcome.score,
        outcome.stderr,
        report.metric,
        report.chance,
        report.majority,
        outcome.n,
        outcome.n_unparsed
    );
    for (what, ids) in
        [("without prediction", &report.missing), ("unknown", &report.unknown), ("predicted twice", &report.duplicates)]
    {
        if ids.count > 0 {
            text += &format!(
                "\n{} {what}: {}{}",
                ids.count,
                ids.first.join(", "),
                if ids.count > ids.first.len() { " …" } else { "" }
            );
        }
    }
    for (subtask, score) in &outcome.subtasks {
        text += &format!("\n  {subtask:<24} {score:.2}");
    }
    print(&(text + "\n"))
}
