//! `burgess compare`: the paired comparison of two studies, arms, models or files of answers.

use crate::machine::terminal::{self, colours, print, print_foreign, print_raw};
use crate::run::compared_sides::{AnswerScoring, open_sides};
use crate::study::benchmark_files;
use burgess_base::{Error, Result, output};
use burgess_probe::bench::Rules;
use burgess_reports::compare::{
    CompareOptions, Comparison, compare, comparison_csv, comparison_sheets, comparison_text, questions_csv,
};
use burgess_reports::sheet;
use std::path::PathBuf;

/// Compare two studies, arms, models or files of answers, question by question
#[derive(clap::Args)]
#[command(after_help = "A and B: studies (runs/nano; arms are paired by name), arms (runs/nano/nano-siglip), runs \
(…/seed-0), evaluated models (runs/eval/cambrian-8b), or files of answers. Only questions that both answered are \
compared; everything else is counted and named. A difference is separable if its paired interval excludes 0 and p of a \
sign-flip test over images, adjusted by Holm's method, is below 1 − confidence.

Files of answers: with --benchmark they are scored by the rules of that benchmark, as `burgess score` does (JSON lines \
{\"id\": …, \"answer\": …}, the samples of lmms-eval, the tables of VLMEvalKit, the answers of LLaVA's scripts). Without \
it the scores in the files are used: those of the samples of lmms-eval and lm-evaluation-harness, the column `hit` of \
VLMEvalKit's judged tables, and `score` of `burgess score --verdicts` and of samples/BENCHMARK.jsonl.

Power: the smallest true difference that would be found in 80 % of such comparisons, and how many questions or seeds \
would be needed for --detect points; the variance comes from the data, and with one seed per side nothing is known of \
the variance between seeds.

Examples:
  burgess compare runs/nano/nano-siglip runs/nano/nano-sup
  burgess compare runs/nano runs-old/nano --format csv -o nano.csv        all arms, paired by name
  burgess compare runs/eval/cambrian-8b runs/eval/llava-7b --questions 10
  burgess compare a.xlsx b.xlsx --benchmark mmbench-en --data MMBench_DEV_EN.tsv
  burgess compare x_samples_gqa.jsonl y_samples_gqa.jsonl --format latex
  burgess compare runs/nano/nano-siglip runs/nano/nano-sup --detect 0.5 --format json | jq .conclusion")]
pub struct Args {
    /// First study, arm, run, model or file of answers
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Second one; differences are A minus B
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Benchmarks to compare [default: all that both have]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    benchmarks: Vec<String>,
    /// Benchmark by whose rules files of answers are scored: an id (`burgess prompts` lists them), or a benchmark file
    #[arg(long, value_name = "ID", conflicts_with_all = ["benchmarks", "metric"])]
    benchmark: Option<String>,
    /// Directory or file of the data of --benchmark [default: in the Hugging Face cache]
    #[arg(long, value_name = "PATH", requires = "benchmark")]
    data: Option<PathBuf>,
    /// Scoring rules of --benchmark: official (those of the benchmark's authors, or the strict ones if there are none),
    /// strict, cambrian-1 or lmms-eval
    #[arg(long, value_name = "RULES", default_value = "official", requires = "benchmark")]
    scoring: Rules,
    /// Metric to compare, for files that record several [default: the one that most questions have]
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// True difference in points for which power, questions and seeds are computed
    #[arg(long, value_name = "POINTS", default_value_t = 1.0)]
    detect: f64,
    /// Confidence level of the intervals; tests use 1 − confidence
    #[arg(long, value_name = "LEVEL", default_value_t = 0.95)]
    confidence: f64,
    /// Number of bootstrap replicates and of sign flips; a ranking uses 2000
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    replicates: usize,
    /// Also list the N questions on either side where the other answers worse; with csv only these
    #[arg(long, value_name = "N", default_value_t = 0)]
    questions: usize,
    /// Format of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = CompareFormat::Table)]
    format: CompareFormat,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Output format of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CompareFormat {
    /// A table for the terminal, with what limits it
    Table,
    /// All numbers as JSON
    Json,
    /// One row per scope
    Csv,
    /// Markdown
    Md,
    /// LaTeX with booktabs
    Latex,
}

pub fn run(args: Args) -> Result<()> {
    if let Some(out) = &args.out {
        output::check(out)?;
    }
    let benchmark = args.benchmark.as_deref().map(benchmark_files::find).transpose()?.map(|b| b.id().to_string());
    let options = CompareOptions {
        confidence: args.confidence,
        replicates: args.replicates,
        detect: args.detect,
        questions: args.questions,
        benchmarks: benchmark.iter().cloned().chain(args.benchmarks).collect(),
        ..CompareOptions::default()
    };
    options.check()?;
    if args.questions > 1000 {
        return Err(Error::usage(format!("--questions is {}, must be at most 1000", args.questions))
            .hint("the answers of all questions are in samples/BENCHMARK.jsonl of a run"));
    }
    let scoring = AnswerScoring { benchmark, data: args.data, rules: args.scoring, metric: args.metric };
    let [a, b] = open_sides(&args.a, &args.b, &scoring)?;
    let comparison = compare(&a, &b, &options)?;
    let to_file = args.out.as_deref().is_some_and(|out| !output::is_stdout(out));
    let text = formatted(&comparison, args.format, to_file)?;
    match args.out {
        Some(out) => output::write(&out, text.as_bytes()),
        None if args.format == CompareFormat::Table => print(&text),
        // JSON is already escaped; answers in CSV are escaped on a terminal.
        None if args.format == CompareFormat::Json => print_raw(&text),
        None => print_foreign(&text),
    }
}

fn formatted(comparison: &Comparison, format: CompareFormat, to_file: bool) -> Result<String> {
    let join = |write: fn(&sheet::Sheet) -> String| {
        comparison_sheets(comparison).iter().map(write).collect::<Vec<_>>().join("\n")
    };
    Ok(match format {
        CompareFormat::Table => comparison_text(comparison, terminal::width(), colours() && !to_file),
        CompareFormat::Json => terminal::json_text(comparison)?,
        CompareFormat::Csv if comparison.options.questions > 0 => questions_csv(comparison),
        CompareFormat::Csv => comparison_csv(comparison),
        CompareFormat::Md => join(sheet::markdown),
        CompareFormat::Latex => join(sheet::latex),
    })
}
