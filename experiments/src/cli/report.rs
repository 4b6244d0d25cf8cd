//! `burgess report`: tables, figures and the page from results.

use super::{colours, print, print_json};
use burgess_base::{Error, Result};
use std::path::PathBuf;

/// Make tables, figures and the HTML page from results
#[derive(clap::Args)]
#[command(after_help = "Examples:
  burgess report runs/nano                       again into runs/nano/report
  burgess report runs/nano -o page               elsewhere
  burgess report runs/nano --json | jq .arms[0]")]
pub struct Args {
    /// Study directories (OUT/<study>)
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// Where ranking.json and index.html go [default: DIR and DIR/report]
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Print the rankings as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    if args.dirs.len() > 1 && args.out.is_some() {
        return Err(
            Error::usage("one output directory for several studies").hint("give one study with -o, or leave -o out")
        );
    }
    for dir in &args.dirs {
        let written = crate::rank::report(dir, args.out.as_deref(), None)?;
        if args.json {
            print_json(&written.ranking)?;
        } else {
            print(&burgess_reports::table::ranking_table(&written.ranking, super::width(), colours()))?;
            print(&format!(
                "\nranking  {}\nreport   {}\n",
                written.ranking_path.display(),
                written.report_path.display()
            ))?;
        }
    }
    Ok(())
}
