//! `burgess score`: scores given predictions with a benchmark's metric.

use crate::data::benchmarks;
use crate::machine::terminal::{self, print, print_json};
use crate::study::benchmark_files;
use burgess_base::text::escaped;
use burgess_base::{Error, Result, output};
use burgess_probe::bench::{self, Benchmark, Harness, Predictions, Question, Rules, ScoreReport};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Score predictions of any model with a benchmark's metric
#[derive(clap::Args)]
#[command(after_help = "Predictions: JSON lines {\"id\": \"…\", \"answer\": \"…\"}, one per question, the \
samples file of lmms-eval (…_samples_TASK.jsonl), the table of VLMEvalKit (MODEL_DATASET.xlsx, .tsv or .json), the \
answers of LLaVA's scripts (lines {\"question_id\": …, \"text\": \"…\"}), or any .csv or .tsv whose header names \
these columns. An answer that is null, empty or absent counts as unparsed; unusable rows of the data are skipped, \
counted and named.

Examples:
  burgess score mmbench-en --predictions answers.jsonl          questions from the Hugging Face cache
  burgess score textvqa --data lmms-lab_textvqa/ --predictions 20260101_samples_textvqa_val.jsonl
  burgess score mmbench-en --data MMBench_DEV_EN.tsv --predictions model_MMBench_DEV_EN.xlsx
  burgess score chartqa --predictions answers.jsonl --scoring cambrian-1 --json
  burgess score ai2d --predictions llava.jsonl --verdicts verdicts.jsonl    the score of each answer
  burgess score benchmarks/my-bench.toml --predictions answers.jsonl        a benchmark of your own")]
pub struct Args {
    /// Benchmark id, or the path of a benchmark file
    #[arg(value_name = "BENCHMARK")]
    benchmark: String,
    /// Directory or file of the data [default: where the benchmark file says, or the dataset in the Hugging Face cache]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// File of the predictions
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// Scoring rules: official (those of the benchmark's authors, or the strict ones if there are none), strict,
    /// cambrian-1 (those of the paper's code) or lmms-eval (those of that harness, 0.7.3); `burgess prompts BENCHMARK`
    /// describes them
    #[arg(long, value_name = "RULES", default_value = "official")]
    scoring: Rules,
    /// Largest number of units (images, or pairs scored together) to score, a fixed random sample
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write the score of every question as JSON lines: id, row, unit, subtask, state, answer, parsed, target, score
    /// (`-`: to standard output, and the report to standard error)
    #[arg(long, value_name = "FILE", conflicts_with = "submission")]
    verdicts: Option<PathBuf>,
    /// Write the answers in the format of the benchmark's server, for benchmarks whose right answers are not published
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limit", "json"])]
    submission: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const LEFT_OUT: &str = "rows of the data left out";

pub fn run(args: Args) -> Result<()> {
    let benchmark = benchmark_files::find(&args.benchmark)?;
    benchmark.rules(args.scoring)?;
    let place = match args.data {
        Some(data) => data,
        None => benchmarks::locate_in(benchmark, None)?,
    };
    let read = benchmark.read(&place)?;
    let (all, rows) = (read.len(), read.len() + read.skipped_count());
    let bench::QuestionSet { mut questions, skipped } = read;
    let predictions = bench::read_predictions(&args.predictions)?;
    if let Some(file) = args.submission {
        output::check(&file)?;
        write_submission(benchmark, &questions, &predictions, &file)?;
        let left: String = skipped.iter().map(|left| format!("{}\n", escaped(&left.text(LEFT_OUT)))).collect();
        return print(&left);
    }
    if let Some(limit) = args.limit {
        if limit == 0 {
            return Err(Error::usage("--limit is 0, must be at least 1"));
        }
        let kept = bench::sample::sample(&questions, limit, benchmark.id());
        questions.retain(|q| kept.contains(&q.unit));
    }
    let (mut report, verdicts) = bench::judge_predictions(benchmark, &questions, predictions, args.scoring)?;
    report.skipped = skipped;
    let to_stdout = args.verdicts.as_deref() == Some(Path::new("-"));
    if to_stdout && args.json {
        return Err(Error::usage("--verdicts - and --json both write to standard output")
            .hint("give a file to --verdicts, or leave out --json"));
    }
    if let Some(file) = args.verdicts {
        let lines: Vec<String> = verdicts.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if to_stdout { print(&lines)? } else { output::write(&file, lines.as_bytes())? }
    }
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
    if let Some(published) =
        benchmark.card().source.map(|s| s.questions).filter(|published| *published > 0 && *published != rows)
    {
        notes.push(format!(
            "not the published version of the benchmark: it has {published} questions, the data have {rows}"
        ));
    }
    let text = text(&report, &notes);
    if to_stdout {
        // Results are already written: a closed standard error is not a failure.
        let _ = std::io::stderr().write_all(text.as_bytes());
        return Ok(());
    }
    print(&text)
}

/// Writes the submission file for the benchmark's server.
///
/// # Errors
/// A question has no answer, or the benchmark is scored locally.
fn write_submission(
    benchmark: &dyn Benchmark,
    questions: &[Question],
    predictions: &Predictions,
    file: &Path,
) -> Result<()> {
    let answer = |q: &Question| predictions.answers.get(&q.id).map(|a| a.text.clone());
    let answers: Vec<String> = questions.iter().filter_map(answer).collect();
    if answers.len() < questions.len() {
        let message =
            format!("{} of {} questions have no prediction", questions.len() - answers.len(), questions.len());
        return Err(Error::failed(message).hint(
            questions
                .first()
                .map_or_else(String::new, |q| format!("add a prediction for every question; ids look like `{}`", q.id)),
        ));
    }
    match (benchmark.submission(questions, &answers)?, benchmark.server()) {
        (Some(text), Some(server)) => {
            output::write(file, text.as_bytes())?;
            let line = format!("{}: {} answers for {server}", file.display(), answers.len());
            if output::is_stdout(file) {
                terminal::eprint_line(&line);
                return Ok(());
            }
            print(&(line + "\n"))
        }
        _ => Err(Error::usage(format!("{} is scored on this machine and has no server", benchmark.id()))
            .hint("leave out --submission")),
    }
}

fn text(report: &ScoreReport, notes: &[String]) -> String {
    let outcome = &report.outcome;
    let mut text = format!(
        "{} ({}, version {}, {} scoring)\n{:.2} ± {:.2} {}  chance {:.2}  best constant answer {:.2}\n\
         {} questions, {} unparsed",
        report.benchmark,
        report.category,
        report.version,
        report.scoring.as_str(),
        outcome.score,
        outcome.stderr,
        report.metric,
        report.chance,
        report.constant_baseline,
        outcome.n,
        outcome.n_unparsed
    );
    if report.n_reasoning > 0 {
        let removed = match report.scoring {
            Rules::Official | Rules::Strict => "reasoning removed before scoring",
            Rules::Cambrian1 | Rules::LmmsEval => "reasoning scored as part of the answer",
        };
        text += &format!("\nanswers with reasoning: {}, {removed}", report.n_reasoning);
        if report.n_unfinished > 0 {
            text += &format!("; answers that end within their reasoning: {}", report.n_unfinished);
        }
    }
    if !report.difference.is_empty() {
        text += &format!("\ndifference from the source of the rules: {}", report.difference);
    }
    if report.harness != Harness::Burgess {
        text += &format!("\nanswers written by {}", report.harness.as_str());
    }
    for note in notes {
        text += &format!("\n{note}");
    }
    for (what, ids) in [
        ("questions without a prediction", &report.missing),
        ("predictions with an unknown id", &report.unknown),
        ("ids predicted more than once", &report.duplicates),
        ("predictions whose question or right answer differs from the benchmark's", &report.mismatched),
    ] {
        if ids.count > 0 {
            let more = if ids.count > ids.first.len() { " …" } else { "" };
            text += &format!("\n{} {what}: {}{more}", ids.count, escaped(&ids.first.join(", ")));
        }
    }
    for (what, all) in [
        ("without an answer", &report.unanswered),
        ("entries that name no question", &report.unusable),
        (LEFT_OUT, &report.skipped),
    ] {
        for left in all {
            text += &format!("\n{}", escaped(&left.text(what)));
        }
    }
    for (subtask, score) in &outcome.subtasks {
        // The values of lmms-eval are not all percentages: fractions need more digits.
        let digits = if subtask.starts_with("lmms-eval ") { 5 } else { 2 };
        text += &format!("\n  {subtask:<32} {score:.digits$}");
    }
    text + "\n"
}
