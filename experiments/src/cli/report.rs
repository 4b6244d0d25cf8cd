//! `burgess report`: makes tables, figures and the HTML page from results.

use crate::machine::terminal::{self, colours, print, print_foreign, print_json, print_raw};
use burgess_base::{Error, Result, atomic, output, temporary};
use burgess_reports::answers::ImageMode;
use burgess_reports::exchange;
use burgess_reports::load::StudyData;
use burgess_reports::page::WrittenReport;
use burgess_reports::ranking::Ranking;
use burgess_reports::sheet::{self, Sheet};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Make tables, figures and the HTML page from results
#[derive(clap::Args)]
#[command(after_help = "Examples:
  burgess report runs/nano                       into runs/nano/report
  burgess report runs/nano -o page               into another directory
  burgess report runs/nano --images copy         answers with all images, to be moved or published
  burgess report runs/nano --format latex > nano.tex        also md, csv and json; standard output has nothing else
  burgess report runs/nano runs/field --format csv > all.csv
  burgess report runs/nano --format eee -o records          Every Eval Ever, one file per run
  burgess report runs/nano --json | jq .arms[0]
  burgess report --published                     averages, ranks and figures of Cambrian-1
  burgess report --published mlcd                the encoder table of MLCD's README")]
pub struct Args {
    /// Study directories (OUT/<study>)
    #[arg(value_name = "DIR", required_unless_present = "published", conflicts_with = "published")]
    dirs: Vec<PathBuf>,
    /// Report on published tables instead, with averages, ranks and figures computed from them: those of the Cambrian-1
    /// paper, or the encoder table of MLCD's README
    #[arg(long, value_enum, value_name = "TABLES", num_args = 0..=1, default_missing_value = "cambrian-1")]
    published: Option<PublishedTables>,
    /// Output directory [default: DIR and DIR/report, or runs/published, or runs/published/mlcd]
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// How the answer browser shows images: not at all, by links to the files where they lie, or as copies; auto
    /// copies up to 32 MB
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto", conflicts_with = "published")]
    images: Images,
    /// What standard output holds: the ranking, or the numbers computed from published tables, in this format. eee:
    /// the runs as records of Every Eval Ever, one per line, or as files under OUT
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Table)]
    format: ReportFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Format of a report on standard output.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ReportFormat {
    /// Table and conclusions for the terminal, and the paths of the files
    Table,
    /// All numbers as JSON
    Json,
    /// One row per arm and benchmark, category and average
    Csv,
    /// Markdown
    Md,
    /// LaTeX with booktabs
    Latex,
    /// Every Eval Ever 0.3.0
    Eee,
}

/// Published tables of encoders.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PublishedTables {
    /// Tong et al. 2024, arXiv 2406.16860: up to 23 encoders, 16 benchmarks
    #[value(name = "cambrian-1")]
    Cambrian1,
    /// README of deepglint/unicom: six encoders under LLaVA-NeXT with Qwen2.5-7B, 5 benchmarks
    Mlcd,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Images {
    Auto,
    None,
    Link,
    Copy,
}

impl From<Images> for ImageMode {
    fn from(images: Images) -> Self {
        match images {
            Images::Auto => Self::Auto,
            Images::None => Self::None,
            Images::Link => Self::Link,
            Images::Copy => Self::Copy,
        }
    }
}

pub fn run(args: Args) -> Result<()> {
    let format = if args.json { ReportFormat::Json } else { args.format };
    if let Some(tables) = args.published {
        return published(tables, args.out.as_deref(), format);
    }
    if format == ReportFormat::Eee {
        return records(&args.dirs, args.out.as_deref());
    }
    if args.dirs.len() > 1 && args.out.is_some() {
        return Err(
            Error::usage("-o takes one study, but several are given").hint("give one study with -o, or leave -o out")
        );
    }
    if let Some(out) = &args.out {
        output::check_directory(out)?;
        temporary::remove_stale(out, 1);
    }
    let mut rankings = Vec::new();
    for dir in &args.dirs {
        let written = crate::run::ranking::report(dir, args.out.as_deref(), None, args.images.into())?.written;
        match format {
            ReportFormat::Table => show(&written, false)?,
            ReportFormat::Json => show(&written, true)?,
            _ => {
                note_problems(&written);
                rankings.push(written.ranking);
            }
        }
    }
    let rankings: Vec<&Ranking> = rankings.iter().collect();
    match format {
        ReportFormat::Csv => print_foreign(&sheet::ranking_csv(&rankings)),
        ReportFormat::Md | ReportFormat::Latex => {
            print_sheets(&rankings.iter().flat_map(|r| sheet::ranking_sheets(r)).collect::<Vec<_>>(), format)
        }
        ReportFormat::Table | ReportFormat::Json | ReportFormat::Eee => Ok(()),
    }
}

fn print_sheets(sheets: &[Sheet], format: ReportFormat) -> Result<()> {
    let write = if format == ReportFormat::Latex { sheet::latex } else { sheet::markdown };
    print_foreign(&sheets.iter().map(write).collect::<Vec<_>>().join("\n"))
}

fn published(tables: PublishedTables, out: Option<&Path>, format: ReportFormat) -> Result<()> {
    if format == ReportFormat::Eee {
        return Err(Error::usage("--format eee needs the runs of a study, which published tables do not have")
            .hint("give the directory of a study, or choose csv, md, latex or json"));
    }
    let out = out.unwrap_or(Path::new(match tables {
        PublishedTables::Cambrian1 => "runs/published",
        PublishedTables::Mlcd => "runs/published/mlcd",
    }));
    output::check_directory(out)?;
    match tables {
        PublishedTables::Cambrian1 => cambrian_1(out, format),
        PublishedTables::Mlcd => mlcd(out, format),
    }
}

fn cambrian_1(out: &Path, format: ReportFormat) -> Result<()> {
    let written = burgess_reports::page::paper_page::write(out)?;
    match format {
        ReportFormat::Json => print_json(&written.outcome),
        ReportFormat::Csv => print_foreign(&sheet::paper_csv(&written.outcome)),
        ReportFormat::Md | ReportFormat::Latex => print_sheets(&sheet::paper_sheets(&written.outcome), format),
        ReportFormat::Table | ReportFormat::Eee => {
            print(&burgess_reports::table::paper_tables(&written.outcome, terminal::width(), colours()))?;
            print(&format!("\nnumbers  {}\nreport   {}\n", written.data.display(), written.page.display()))
        }
    }
}

fn mlcd(out: &Path, format: ReportFormat) -> Result<()> {
    let written = burgess_reports::page::mlcd_page::write(out)?;
    match format {
        ReportFormat::Json => print_json(&written.outcome),
        ReportFormat::Csv => print_foreign(&sheet::mlcd_csv(&written.outcome)),
        ReportFormat::Md | ReportFormat::Latex => print_sheets(&[sheet::mlcd_sheet(&written.outcome)], format),
        ReportFormat::Table | ReportFormat::Eee => {
            print(&burgess_reports::table::mlcd_table(&written.outcome, terminal::width(), colours()))?;
            print(&format!("\nnumbers  {}\nreport   {}\n", written.data.display(), written.page.display()))
        }
    }
}

/// Prints the runs of studies as records of Every Eval Ever, or writes each to its file under `out`.
fn records(dirs: &[PathBuf], out: Option<&Path>) -> Result<()> {
    if let Some(out) = out {
        output::check_directory(out)?;
    }
    for dir in dirs {
        let study = StudyData::load(dir)?;
        for missing in &study.missing {
            terminal::eprint_line(&format!(
                "note: {} (seed {}) is left out: {}",
                missing.arm, missing.seed, missing.cause
            ));
        }
        if study.runs.is_empty() {
            return Err(Error::failed(format!("no run in {} is finished", dir.display()))
                .hint("run `burgess rank` on this study first"));
        }
        for run in &study.runs {
            let about = crate::run::published_facts::publication(&run.results);
            let record = exchange::every_eval_ever(&run.results, &about)?;
            match out {
                None => print_raw(&terminal::json_line(&record)?)?,
                Some(out) => {
                    let path = out.join(exchange::datastore_path(&record)?);
                    atomic::write_json(&path, &record)?;
                    print(&format!("{}\n", path.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// Prints a ranking and the paths of its files; a note on unreadable log lines goes to stderr.
fn show(written: &WrittenReport, json: bool) -> Result<()> {
    show_with(written, false, json)
}

/// As [`show`]; with `check`, also prints the verdicts on the study's claims.
pub(super) fn show_with(written: &WrittenReport, check: bool, json: bool) -> Result<()> {
    note_problems(written);
    if json && check {
        return print_json(&json!({"ranking": written.ranking, "check": written.verdicts}));
    }
    if json {
        return print_json(&written.ranking);
    }
    print(&burgess_reports::table::ranking_table(&written.ranking, terminal::width(), colours()))?;
    if check {
        print(&format!("\n{}", burgess_reports::table::check_table(&written.verdicts, terminal::width(), colours())))?;
    }
    let files = &written.files;
    let answers = &written.answers;
    print(&format!(
        "\nranking  {}\nreport   {}\nanswers  {} ({})\n",
        files.ranking.display(),
        files.page.display(),
        answers.page.display(),
        answers.images_in_words()
    ))
}

/// Says on stderr that lines of logs could not be read.
fn note_problems(written: &WrittenReport) {
    if let Some(first) = written.problems.first() {
        terminal::eprint_line(&format!(
            "note: {} lines of logs could not be read (first: {first})",
            written.problems.len()
        ));
    }
}
