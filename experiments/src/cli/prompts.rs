//! `burgess prompts`: what a benchmark asks, word by word.

use super::{print, print_json};
use crate::benchmarks;
use burgess_base::Result;
use burgess_base::text::escaped;
use burgess_probe::bench::{self, Benchmark, Question, Rules};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Show a benchmark's prompts, or list the benchmarks
#[derive(clap::Args)]
#[command(after_help = "Without BENCHMARK, lists all with their category, metric and source.

Examples:
  burgess prompts
  burgess prompts mmbench-en                        both sets of rules, questions from the Hugging Face cache
  burgess prompts textvqa --data DIR --prompts cambrian-1 --questions 3")]
pub struct Args {
    /// Benchmark id
    #[arg(value_name = "BENCHMARK")]
    benchmark: Option<String>,
    /// The benchmark's data as published: a folder or a file [default: the dataset in the Hugging Face cache]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Whose prompts: official or cambrian-1 [default: both]
    #[arg(long, value_name = "RULES")]
    prompts: Option<Rules>,
    /// Show this many questions instead of one of each form
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let Some(id) = &args.benchmark else { return list(args.json) };
    let benchmark = bench::find(id)?;
    let place = match args.data {
        Some(data) => data,
        None => benchmarks::locate(benchmark, None)?,
    };
    let questions = benchmark.read(&place)?;
    // One of each form: with and without choices, with and without a hint, with one and several pictures.
    let mut forms = BTreeSet::new();
    let mut fresh = |q: &Question| forms.insert((q.options.is_empty(), q.context.is_none(), q.images.len() > 1));
    let shown: Vec<&Question> = match args.questions {
        Some(n) => questions.iter().take(n).collect(),
        None => questions.iter().filter(|q| fresh(q)).collect(),
    };
    let rules = match args.prompts {
        Some(rules) => vec![rules],
        // The study did not ask those that are made here.
        None if benchmark.card().source.is_none() => vec![Rules::Official],
        None => vec![Rules::Official, Rules::Cambrian1],
    };
    if args.json {
        let page: Vec<_> = shown
            .iter()
            .flat_map(|q| rules.iter().map(|r| json!({"id": q.id, "prompts": r, "prompt": benchmark.prompt(q, *r)})))
            .collect();
        return print_json(&page);
    }
    let mut text =
        format!("{}: at most {} new tokens, {}\n", benchmark.id(), benchmark.max_new_tokens(), benchmark.citation());
    for q in shown {
        let pictures: Vec<String> = q.images.iter().map(ToString::to_string).collect();
        text += &format!("\nquestion {} about {}\nright answer: {}\n", q.id, pictures.join(", "), q.answer);
        for r in &rules {
            text += &format!("--- {}\n{}\n", r.as_str(), benchmark.prompt(q, *r));
        }
    }
    for left in &questions.left_out {
        text += &format!("\nnot asked: {}\n", escaped(&left.text("rows")));
    }
    print(&text)
}

fn list(json: bool) -> Result<()> {
    if json {
        let line = |b: &&dyn Benchmark| {
            let source = b.card().source;
            json!({
                "id": b.id(), "category": b.category(), "metric": b.metric(Rules::Official), "version": b.version(),
                "citation": b.citation(), "repository": source.map(|s| s.repository), "split": source.map(|s| s.split),
                "questions": source.map(|s| s.questions), "licence": source.map(|s| s.licence),
            })
        };
        return print_json(&bench::all().iter().map(line).collect::<Vec<_>>());
    }
    let mut text = String::new();
    for b in bench::all() {
        let source = b.card().source.map_or_else(
            || "made on this machine".to_string(),
            |s| format!("{} ({}), {} questions, {}", s.repository, s.split, s.questions, s.licence),
        );
        text +=
            &format!("{:<16} {:<15} {:<34} {source}\n", b.id(), b.category().to_string(), b.metric(Rules::Official));
    }
    print(&text)
}
