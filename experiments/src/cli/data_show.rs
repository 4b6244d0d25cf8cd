//! `burgess data show`: what is in a file of training conversations.

use crate::data::show::{self, ShowRequest};
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json};
use crate::run::provenance;
use burgess_base::{Result, output};
use burgess_mix::pool::{Format, PoolSpec};
use burgess_reports::data::data_text;
use std::path::PathBuf;

/// Show what is in training data: sources, lengths, short answers, images, languages, samples
#[derive(clap::Args)]
#[command(
    after_help = "Data are conversations in LLaVA's format (JSON or JSON lines, plain, gzip or zstd), parquet tables of \
LLaVA-OneVision, FineVision and The Cauldron, webdataset shards, directories of these, or the output of `burgess data \
mix`. They are read once and never held in memory. Entries that cannot be used are counted by reason, with file and \
line.

Examples:
  burgess data show llava_v1_5_mix665k.json --images llava/ -o mix.html     with ten samples and their images
  burgess data show Cambrian10M.jsonl --tokenizer smollm2-135m-instruct     lengths in tokens too
  burgess data show FineVision/ --json                                      185 sources with their ratings"
)]
pub struct ShowArgs {
    /// Files, directories, or patterns in quotation marks; several are read as one
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Directory to which image paths are relative; missing images are counted
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Count tokens with the tokenizer of a language model: its name, directory, or tokenizer.json
    #[arg(long, value_name = "MODEL")]
    tokenizer: Option<String>,
    /// Format of the files, instead of the one recognised by their content
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,
    /// Number of random samples on the page
    #[arg(long, value_name = "N", default_value_t = 10)]
    samples: usize,
    /// Random seed of the samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write an HTML page with samples and their images
    #[arg(short, long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Parses the name of a format.
fn format(name: &str) -> Result<Format, String> {
    let known = [Format::JsonLines, Format::JsonArray, Format::Parquet, Format::WebDataset];
    known.into_iter().find(|format| format.name() == name).ok_or_else(|| {
        let names = known.map(Format::name).join(", ");
        format!("expected one of {names}")
    })
}

pub fn run(args: ShowArgs) -> Result<()> {
    if let Some(out) = &args.out {
        output::check(out)?;
    }
    let title = args.files.join(", ");
    let spec = PoolSpec { path: args.files, format: args.format, images: args.images, ..PoolSpec::default() };
    let bar = Progress::new().bar("reading", 0);
    let request =
        ShowRequest { spec: &spec, tokenizer: args.tokenizer.as_deref(), samples: args.samples, seed: args.seed };
    let summary = show::summary(&request, &mut |entries| bar.set(entries, entries))?;
    drop(bar);
    if let Some(out) = &args.out {
        show::write_page(out, &title, &provenance::command(), &summary)?;
        terminal::eprint_line(&format!("page: {}", out.display()));
    }
    if args.json {
        return print_json(&summary);
    }
    print(&data_text(&show::shown(&summary)?, terminal::width(), terminal::colours()))
}
