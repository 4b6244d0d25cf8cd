//! `burgess report`: makes tables, figures and the HTML page from results.

use crate::machine::terminal::{self, colours, print, print_json};
use burgess_base::{Error, Result, output, temporary};
use burgess_reports::answers::ImageMode;
use burgess_reports::page::WrittenReport;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Make tables, figures and the HTML page from results
#[derive(clap::Args)]
#[command(after_help = "Examples:
  burgess report runs/nano                       into runs/nano/report
  burgess report runs/nano -o page               into another directory
  burgess report runs/nano --images copy         answers with all images, to be moved or published
  burgess report runs/nano --json | jq .arms[0]
  burgess report --published                     averages, ranks and figures of Cambrian-1")]
pub struct Args {
    /// Study directories (OUT/<study>)
    #[arg(value_name = "DIR", required_unless_present = "published", conflicts_with = "published")]
    dirs: Vec<PathBuf>,
    /// Report on the tables of the Cambrian-1 paper instead, with averages, ranks and figures computed from them
    #[arg(long)]
    published: bool,
    /// Output directory [default: DIR and DIR/report, or runs/published]
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// How the answer browser shows images: not at all, by links to the files where they lie, or as copies; auto
    /// copies up to 32 MB
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto", conflicts_with = "published")]
    images: Images,
    /// Print the rankings, or the numbers computed from the paper's tables, as JSON
    #[arg(long)]
    json: bool,
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
    if args.published {
        return published(args.out.as_deref().unwrap_or(Path::new("runs/published")), args.json);
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
    for dir in &args.dirs {
        show(&crate::run::ranking::report(dir, args.out.as_deref(), None, args.images.into())?.written, args.json)?;
    }
    Ok(())
}

fn published(out: &Path, json: bool) -> Result<()> {
    output::check_directory(out)?;
    let written = burgess_reports::page::paper_page::write(out)?;
    if json {
        return print_json(&written.outcome);
    }
    print(&burgess_reports::table::paper_tables(&written.outcome, terminal::width(), colours()))?;
    print(&format!("\nnumbers  {}\nreport   {}\n", written.data.display(), written.page.display()))
}

/// Prints a ranking and the paths of its files; a note on unreadable log lines goes to stderr.
fn show(written: &WrittenReport, json: bool) -> Result<()> {
    show_with(written, false, json)
}

/// As [`show`]; with `check`, also prints the verdicts on the study's claims.
pub(super) fn show_with(written: &WrittenReport, check: bool, json: bool) -> Result<()> {
    if let Some(first) = written.problems.first() {
        terminal::eprint_line(&format!(
            "note: {} lines of logs could not be read (first: {first})",
            written.problems.len()
        ));
    }
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
