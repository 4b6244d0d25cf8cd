//! `burgess data mix`: a training set from pools of conversations.

use crate::data::mix_page;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json};
use burgess_base::temporary::TemporaryPath;
use burgess_base::{Error, Result, output};
use burgess_mix::mix::BUILT_IN;
use burgess_mix::pool::PoolSpec;
use burgess_mix::{Mix, MixPlan, MixTable, OutputFormat, PoolProblems, Step, WriteOptions};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Make a training set from pools: thresholds, ratios, filters, system prompts
#[derive(clap::Args)]
#[command(
    after_help = "A mix is a TOML file with its pools, sources and rules (experiments/KEYS.md lists the keys), or one \
that is built in; without a mix the built-in ones are listed. The rules are applied in a fixed order: filters, take, \
threshold, ratios, system prompts, order. Without pools the counts are computed from the published counts of the \
sources alone.

The output directory gets the data, mix.toml with all rules, manifest.json with digests and counts, index.html and \
cumulative.svg. An interrupted command continues when it is run again, and gives the same bytes.

Examples:
  burgess data mix cambrian-10m-t250k --dry-run            the counts after each rule, beside the published ones
  burgess data mix cambrian-10m-t250k --pool Cambrian10M.jsonl --images images/ -o mixes/t250k
  burgess data mix my.toml --pool dvqa=dvqa.jsonl --pool finevision/ --format webdataset -o shards/
  burgess data mix cambrian-ratio-5 --toml > my.toml       a start for an own mix"
)]
pub struct MixArgs {
    /// A built-in mix or the path of a TOML file
    #[arg(value_name = "NAME|FILE.toml")]
    mix: Option<String>,
    /// A pool, beside those of the mix: a file, a directory or a pattern, with the source of entries that state none;
    /// may be repeated
    #[arg(long = "pool", value_name = "[SOURCE=]PATH")]
    pools: Vec<String>,
    /// Directory to which image paths are relative, in pools that state none
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Output directory
    #[arg(short = 'o', long = "out", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the counts after each rule, and write no data
    #[arg(long)]
    dry_run: bool,
    /// Format of the data
    #[arg(long, value_enum, default_value_t)]
    format: FormatArg,
    /// Largest number of entries in a webdataset shard
    #[arg(long, value_name = "N", default_value_t = WriteOptions::default().per_shard,
          value_parser = clap::value_parser!(u64).range(1..))]
    shard: u64,
    /// Random seed of draws and order, instead of the mix's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write the page and the curve also with --dry-run, to this directory
    #[arg(long, value_name = "DIR", requires = "dry_run")]
    page: Option<PathBuf>,
    /// Print the TOML of a built-in mix
    #[arg(long, conflicts_with_all = ["out", "dry_run", "json"])]
    toml: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum FormatArg {
    /// One file of JSON lines, mix.jsonl
    #[default]
    Jsonl,
    /// Tar shards with the images inside, and a parquet table of metadata beside each
    Webdataset,
}

/// The JSON of a dry run.
#[derive(Serialize)]
struct DryRun<'a> {
    mix: &'a str,
    table: &'a MixTable,
    problems: &'a PoolProblems,
}

/// A built-in mix in the list.
#[derive(Serialize)]
struct Listed {
    mix: &'static str,
    about: String,
}

pub fn run(args: MixArgs) -> Result<()> {
    let Some(named) = args.mix.clone() else { return list(args.json) };
    if args.toml {
        return match Mix::builtin_text(&named) {
            Some(text) => print(text),
            None => Mix::builtin(&named).map(drop),
        };
    }
    let mix = mix(&named, &args)?;
    let name = mix_name(&named);
    if mix.pools.is_empty() {
        return from_counts(&name, &mix, &args);
    }
    if args.out.is_none() && !args.dry_run {
        return Err(Error::usage("no output directory is given")
            .hint("-o DIR writes the mix there; --dry-run only prints its counts"));
    }
    let plan_only = TemporaryPath::beside(&std::env::temp_dir().join("burgess-mix"));
    let scratch = match &args.out {
        Some(out) if !args.dry_run => {
            output::check_directory(out)?;
            MixPlan::work_directory(out)
        }
        _ => plan_only.path().to_path_buf(),
    };
    let bar = Progress::new().bar("reading pools", 0);
    let mut step = |step: Step| match step {
        Step::Reading { entries, bytes } => {
            bar.set(entries, entries);
            bar.note(&format!("{} ", burgess_base::files::format_bytes(bytes)));
        }
        Step::Writing { entries, of } => {
            bar.message("writing the mix");
            bar.set(entries, of);
        }
    };
    let plan = mix.plan(&scratch, &mut step)?;
    if args.dry_run {
        drop(bar);
        return show(&name, plan.mix(), plan.table(), plan.problems(), &args);
    }
    let out = args.out.as_deref().unwrap_or(Path::new("."));
    let format = match args.format {
        FormatArg::Jsonl => OutputFormat::Jsonl,
        FormatArg::Webdataset => OutputFormat::WebDataset,
    };
    let options = WriteOptions { name: name.clone(), format, per_shard: args.shard };
    if plan.is_empty() {
        // What could not be read may be why.
        plan.problems().lines().iter().for_each(|line| terminal::eprint_line(&format!("note: {line}")));
    }
    let written = plan.write(out, &options, &mut step)?;
    drop(bar);
    let manifest = &written.manifest;
    mix_page::write(out, &name, &manifest.mix, &manifest.table, &manifest.problems, Some(manifest))?;
    for line in manifest.problems.lines().into_iter().chain(manifest.counts.lines()) {
        terminal::eprint_line(&format!("note: {line}"));
    }
    if args.json {
        return print_json(manifest);
    }
    let there = if written.was_there { " (was there already)" } else { "" };
    let table = manifest.table.text();
    print(&format!("{}\n\n{} entries in {}{there}\n", table.trim_end(), manifest.entries, out.display()))
}

/// Returns the mix with the pools and the seed of the command line.
fn mix(named: &str, args: &MixArgs) -> Result<Mix> {
    let mut mix = match BUILT_IN.iter().any(|(known, _)| *known == named) {
        true => Mix::builtin(named)?,
        false if Path::new(named).extension().is_some() || Path::new(named).exists() => Mix::open(Path::new(named))?,
        false => Mix::builtin(named)?,
    };
    for text in &args.pools {
        let (source, path) = match text.split_once('=') {
            Some((source, path)) if !Path::new(text).exists() && !source.is_empty() => (Some(source), path),
            _ => (None, text.as_str()),
        };
        mix.pools.push(PoolSpec { source: source.map(String::from), ..PoolSpec::new(path) });
    }
    for pool in mix.pools.iter_mut().filter(|pool| pool.images.is_none()) {
        pool.images.clone_from(&args.images);
    }
    mix.seed = args.seed.unwrap_or(mix.seed);
    Ok(mix)
}

/// The name of a mix: a built-in one's, or its file's without the extension.
fn mix_name(named: &str) -> String {
    Path::new(named).file_stem().map_or_else(|| named.to_string(), |stem| stem.to_string_lossy().into_owned())
}

/// Prints the counts of a mix without pools.
fn from_counts(name: &str, mix: &Mix, args: &MixArgs) -> Result<()> {
    if args.out.is_some() {
        return Err(Error::usage(format!("the mix {name} has no pools"))
            .hint("--pool PATH names the data; --dry-run computes the counts from the published ones"));
    }
    show(name, mix, &MixTable::from_published(mix)?, &PoolProblems::default(), args)
}

fn show(name: &str, mix: &Mix, table: &MixTable, problems: &PoolProblems, args: &MixArgs) -> Result<()> {
    if let Some(dir) = &args.page {
        mix_page::write(dir, name, mix, table, problems, None)?;
    }
    for line in problems.lines() {
        terminal::eprint_line(&format!("note: {line}"));
    }
    if args.json { print_json(&DryRun { mix: name, table, problems }) } else { print(&table.text()) }
}

/// Lists the built-in mixes.
fn list(json: bool) -> Result<()> {
    let mut all = Vec::new();
    for (name, _) in BUILT_IN {
        let about = Mix::builtin(name)?.about.unwrap_or_default();
        all.push(Listed { mix: name, about: about.split_whitespace().collect::<Vec<_>>().join(" ") });
    }
    if json {
        return print_json(&all);
    }
    let width = all.iter().map(|listed| listed.mix.len()).max().unwrap_or(0);
    let line = |listed: &Listed| {
        let first = listed.about.split_inclusive(". ").next().unwrap_or_default().trim_end();
        format!("{:width$}  {first}\n", listed.mix)
    };
    print(&all.iter().map(line).collect::<String>())
}
