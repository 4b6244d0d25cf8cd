//! `burgess study`: lists and prints the built-in studies, all TOML keys, and JSON schemas.

use crate::keys::{self, FileKind};
use crate::machine::terminal::{self, print, print_json, print_raw};
use crate::machine::text_table::{self, Align};
use crate::study::{BUILT_IN, StudyConfig};
use burgess_base::{Context, Result};

/// List or print the built-in studies, all keys of TOML files, or a JSON schema
#[derive(clap::Args)]
#[command(
    after_help = "Without arguments, lists the built-in studies. A study of your own is a TOML file: start from a \
built-in one, and give its path to `burgess rank`.

--keys describes the keys of studies, runs, benchmarks, encoder cards, and language-model cards and recipes, with type, default \
and unit. PREFIX is the beginning of a key (`lr`) or of its path (`evaluator.recipe`), or the name of an architecture \
or objective (`vit`). Without a terminal, each key is one line.

--schema prints a JSON schema (draft 7). Editors complete and check keys with it: a TOML file whose first line is \
`#:schema ./burgess.schema.json` uses the schema beside it.

Examples:
  burgess study                                  the built-in studies
  burgess study nano > mine.toml                 a copy to start from; then `burgess rank mine.toml`
  burgess study --keys                           all keys
  burgess study --keys evaluator.recipe          the keys of the training recipe
  burgess study --schema > burgess.schema.json   for studies; --schema run for `burgess train`
  burgess study --schema benchmark > benchmark.schema.json"
)]
pub struct Args {
    /// Name of a built-in study, whose TOML text is printed
    #[arg(value_name = "STUDY", conflicts_with_all = ["keys", "schema"])]
    study: Option<String>,
    /// Print the reference of all keys, or of those that begin with PREFIX
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, conflicts_with = "schema")]
    keys: Option<Option<String>>,
    /// Print the JSON schema of a kind of file: study (default), run, benchmark, card, llm-card, llm-recipe, mix or
    /// engine
    #[arg(long, value_name = "KIND", num_args = 0..=1)]
    schema: Option<Option<String>>,
    /// Print the reference of all keys as Markdown
    #[arg(long, hide = true, requires = "keys")]
    markdown: bool,
}

pub fn run(args: Args) -> Result<()> {
    if let Some(kind) = args.schema {
        let kind = kind.map_or(Ok(FileKind::Study), |name| name.parse())?;
        return print_json(&kind.schema());
    }
    if args.markdown {
        return print(&keys::markdown(&keys::sections()));
    }
    match (args.keys, args.study) {
        (Some(prefix), _) => print(&keys::text(&keys::sections(), prefix.as_deref(), terminal::list_width())?),
        (None, Some(name)) => print_raw(StudyConfig::built_in(&name)?),
        (None, None) => list(),
    }
}

fn list() -> Result<()> {
    let mut rows = vec![["study", "arms", "seeds", "title"].map(String::from).to_vec()];
    for (name, text) in BUILT_IN {
        let study = StudyConfig::parse(text).context(format!("reading the built-in study {name}"))?;
        let [arms, seeds] = [study.arms.len(), study.seeds.len()].map(|n| n.to_string());
        rows.push(vec![(*name).to_string(), arms, seeds, study.title]);
    }
    print(&text_table::table(
        &rows,
        &[Align::Left, Align::Right, Align::Right, Align::Left],
        "",
        terminal::list_width(),
    ))
}
