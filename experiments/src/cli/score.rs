//! `burgess score`: a benchmark's metric on anyone's predictions.

use super::{print, print_json};
use crate::benchmarks;
use burgess_base::{Error, Result, atomic};
use burgess_probe::bench::{self, Benchmark, Predictions, Question, Rules, ScoreReport, predictions::Harness};
use std::path::{Path, PathBuf};

/// Score anyone's predictions with a benchmark's metric
#[derive(clap::Args)]
#[command(
    after_help = "Predictions: JSONL with a line {\"id\": \"…\", \"answer\": \"…\"} for each question, the samples \
file of lmms-eval (…_samples_TASK.jsonl), or the table of VLMEvalKit (MODEL_DATASET.xlsx, .tsv or \
.json).

Examples:
  burgess score mmbench-en --predictions answers.jsonl          questions from the Hugging Face cache
  burgess score textvqa --data lmms-lab_textvqa/ --predictions 20260101_samples_textvqa_val.jsonl
  burgess score mmbench-en --data MMBench_DEV_EN.tsv --predictions model_MMBench_DEV_EN.xlsx
  burgess score chartqa --predictions answers.jsonl --scoring cambrian-1 --json"
)]
pub struct Args {
    /// Benchmark id
    #[arg(value_name = "BENCHMARK")]
    benchmark: String,
    /// The benchmark's data as published: a folder or a file [default: the dataset in the Hugging Face cache]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// File with the answers
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// Whose rules judge: official (the benchmark's authors') or cambrian-1 (the study's code)
    #[arg(long, value_name = "RULES", default_value = "official")]
    scoring: Rules,
    /// Score only a fixed random sample of this many units (pictures, or pairs scored together)
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write the answers as the benchmark's server takes them, for benchmarks whose right answers are secret
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limit", "json"])]
    submission: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let benchmark = bench::find(&args.benchmark)?;
    let place = match args.data {
        Some(data) => data,
        None => benchmarks::locate(benchmark, None)?,
    };
    let mut questions = benchmark.read(&place)?;
    let all = questions.len();
    let predictions = bench::read_predictions(&args.predictions)?;
    if let Some(file) = args.submission {
        return submit(benchmark, &questions, &predictions, &file);
    }
    if let Some(limit) = args.limit {
        if limit == 0 {
            return Err(Error::usage("--limit 0 leaves no questions"));
        }
        let kept = bench::sample::sample(&questions, limit, benchmark.id());
        questions.retain(|q| kept.contains(&q.unit));
    }
    let report = bench::score_predictions(benchmark, &questions, predictions, args.scoring)?;
    if args.json {
        let mut value = serde_json::to_value(&report)?;
        if let (Some(fields), true) = (value.as_object_mut(), questions.len() < all) {
            fields.insert("sample_of".into(), all.into());
        }
        return print_json(&value);
    }
    let mut notes = Vec::new();
    if questions.len() < all {
        notes.push(format!("a sample: {} of {all} questions", questions.len()));
    }
    if let Some(published) = benchmark.card().source.map(|s| s.questions).filter(|published| *published != all) {
        notes.push(format!("another edition: the published one has {published} questions, these are {all}"));
    }
    print(&text(&report, &notes))
}

/// Writes the file for the server. Every question has to be answered.
fn submit(benchmark: &dyn Benchmark, questions: &[Question], predictions: &Predictions, file: &Path) -> Result<()> {
    let answer = |q: &Question| predictions.answers.get(&q.id).map(|a| a.text.clone());
    let answers: Vec<String> = questions.iter().filter_map(answer).collect();
    if answers.len() < questions.len() {
        let message =
            format!("{} of {} questions have no answer by their id", questions.len() - answers.len(), questions.len());
        return Err(Error::failed(message)
            .hint(questions.first().map_or_else(String::new, |q| format!("ids look like `{}`", q.id))));
    }
    match (benchmark.submission(questions, &answers)?, benchmark.server()) {
        (Some(text), Some(server)) => {
            atomic::write(file, text.as_bytes())?;
            print(&format!("{}: {} answers for {server}\n", file.display(), answers.len()))
        }
        _ => Err(Error::usage(format!("{} is scored here: leave out --submission", benchmark.id()))),
    }
}

fn text(report: &ScoreReport, notes: &[String]) -> String {
    let outcome = &report.outcome;
    let mut text = format!(
        "{} ({}, version {}, {} scoring)\n{:.2} ± {:.2} {}  chance {:.2}  best constant answer {:.2}\n{} questions, {} unparsed",
        report.benchmark,
        report.category,
        report.version,
        report.scoring.as_str(),
        outcome.score,
        outcome.stderr,
        report.metric,
        report.chance,
        report.majority,
        outcome.n,
        outcome.n_unparsed
    );
    if report.harness != Harness::Burgess {
        text += &format!("\nanswers written by {}", report.harness.as_str());
    }
    for note in notes {
        text += &format!("\n{note}");
    }
    for (what, ids) in [
        ("without prediction", &report.missing),
        ("unknown", &report.unknown),
        ("predicted twice", &report.duplicates),
        ("for another question than is there", &report.mismatched),
    ] {
        if ids.count > 0 {
            let more = if ids.count > ids.first.len() { " …" } else { "" };
            text += &format!("\n{} {what}: {}{more}", ids.count, ids.first.join(", "));
        }
    }
    for (subtask, score) in &outcome.subtasks {
        text += &format!("\n  {subtask:<24} {score:.2}");
    }
    text + "\n"
}
