//! `burgess prompts`: shows the prompts and scoring rules of a benchmark.

use crate::data::benchmarks;
use crate::machine::terminal::{self, print, print_json};
use crate::machine::text_table;
use crate::machine::text_table::Align;
use crate::study::benchmark_files;
use burgess_base::text::escaped;
use burgess_base::{Error, Result};
use burgess_probe::bench::{self, Benchmark, Question, Rules};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Show the prompts and scoring rules of a benchmark, or list the benchmarks
#[derive(clap::Args)]
#[command(after_help = "Without BENCHMARK, lists all benchmarks by category, with their rules and whether their data \
are on this machine.

Rules: `official` are those of the benchmark's authors, `strict` those of Burgess if the authors state none; \
`cambrian-1` are those of the paper's code, `lmms-eval` those of that harness (0.7.3). Rules are described even if \
the data are not on this machine.

Examples:
  burgess prompts
  burgess prompts mmbench-en                        all rules, questions from the Hugging Face cache
  burgess prompts textvqa --data DIR --prompts cambrian-1 --questions 3
  burgess prompts benchmarks/my-bench.toml          a benchmark of your own: checks its file and shows its prompts")]
pub struct Args {
    /// Benchmark id, or the path of a benchmark file
    #[arg(value_name = "BENCHMARK")]
    benchmark: Option<String>,
    /// Directory or file of the data [default: where the benchmark file says, or the dataset in the Hugging Face cache]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Rules to show: official, strict, cambrian-1 or lmms-eval [default: all that the benchmark has]
    #[arg(long, value_name = "RULES")]
    prompts: Option<Rules>,
    /// Number of questions to show, instead of one per form
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let Some(id) = &args.benchmark else {
        if args.prompts.is_some() || args.questions.is_some() {
            return Err(Error::usage("--prompts and --questions need a BENCHMARK")
                .hint("name one, as in `burgess prompts mme`"));
        }
        return list(args.data.as_deref(), args.json);
    };
    let benchmark = benchmark_files::find(id)?;
    let rules = match args.prompts {
        Some(asked) => vec![benchmark.rules(asked)?],
        None => benchmark.card().rule_sets(),
    };
    // Rules can be shown without data, questions cannot.
    let (questions, absent) = match benchmarks::path_or_default(benchmark, args.data.as_deref()) {
        Ok(path) => (benchmark.read(&path)?, None),
        // A benchmark file says where its questions are: without them it is not usable.
        Err(e) if args.questions.is_some() || benchmark.own_data().is_some() => return Err(e),
        Err(e) => (bench::QuestionSet::default(), Some(e)),
    };
    // One of each form: with and without choices, with and without a hint, with one and several images.
    let mut forms = BTreeSet::new();
    let mut fresh = |q: &Question| forms.insert((q.options.is_empty(), q.context.is_none(), q.images.len() > 1));
    let shown: Vec<&Question> = match args.questions {
        Some(n) => questions.iter().take(n).collect(),
        None => questions.iter().filter(|q| fresh(q)).collect(),
    };
    if args.json {
        return print_json(&page(benchmark, &rules, &shown));
    }
    let mut told = text(benchmark, &rules, &shown, absent.as_ref());
    for left in &questions.skipped {
        told += &format!("\nnot asked: {}\n", escaped(&left.text("rows")));
    }
    print(&told)
}

/// State of a benchmark's data, for the list.
fn state(benchmark: &dyn Benchmark, data: Option<&Path>) -> &'static str {
    match (benchmarks::is_available(benchmark, data), benchmark.card().source) {
        (true, _) => "here",
        (false, Some(_)) => "not here",
        (false, None) => "not made",
    }
}

fn page(benchmark: &dyn Benchmark, rules: &[Rules], shown: &[&Question]) -> serde_json::Value {
    let told = |rules: &Rules| {
        let told = benchmark.explain(*rules);
        json!({
            "rules": rules, "metric": benchmark.metric(*rules), "asked": told.prompt, "judged": told.scoring,
            "source": told.source, "unlike": told.difference,
        })
    };
    let prompts = |q: &&Question| {
        let prompt = |r: &Rules| json!({"id": q.id, "prompts": r, "prompt": benchmark.prompt(q, *r)});
        rules.iter().map(prompt).collect::<Vec<_>>()
    };
    json!({
        "id": benchmark.id(), "category": benchmark.category(), "version": benchmark.version(),
        "citation": benchmark.citation(), "max_new_tokens": benchmark.max_new_tokens(),
        "rules": rules.iter().map(told).collect::<Vec<_>>(),
        "questions": shown.iter().flat_map(prompts).collect::<Vec<_>>(),
    })
}

fn text(benchmark: &dyn Benchmark, rules: &[Rules], shown: &[&Question], absent: Option<&Error>) -> String {
    let width = terminal::width();
    let file = benchmark.definition().map_or_else(String::new, |file| file.path.display().to_string());
    let mut rows: Vec<Vec<String>> = [
        ("category", benchmark.category().to_string()),
        ("paper", benchmark.citation().to_string()),
        ("file", file),
        ("data", data_of(benchmark)),
        ("answers", format!("at most {} new tokens", benchmark.max_new_tokens())),
    ]
    .into_iter()
    .filter(|(_, said)| !said.is_empty())
    .map(|(what, said)| vec![what.to_string(), said])
    .collect();
    if rules.iter().any(|r| matches!(r, Rules::Official | Rules::Strict)) {
        rows.push(["reasoning".to_string(), bench::REASONING.to_string()].to_vec());
    }
    let mut text = format!("{} (version {})\n", benchmark.id(), benchmark.version());
    text += &text_table::table(&rows, &[Align::Left; 2], "  ", width);
    for r in rules {
        let told = benchmark.explain(*r);
        let metric = benchmark.metric(*r);
        let lines = [
            ("asked", told.prompt),
            ("judged", told.scoring),
            ("score", metric),
            ("source", told.source),
            ("unlike it", told.difference),
        ];
        let rows: Vec<Vec<String>> = lines
            .into_iter()
            .filter(|(_, line)| !line.is_empty())
            .map(|(what, line)| [format!("{what:<9}"), line.to_string()].to_vec())
            .collect();
        text += &format!("\nrules {}\n", r.as_str());
        text += &text_table::table(&rows, &[Align::Left; 2], "  ", width);
    }
    if let Some(absent) = absent {
        text += &format!("\n{}\n", text_table::wrap(&format!("no questions to show: {absent}"), width).join("\n"));
        // The hint may be a command, which must not be wrapped.
        text += &terminal::hint(absent).map_or_else(String::new, |hint| format!("hint: {hint}\n"));
    }
    for q in shown {
        let images: Vec<String> = q.images.iter().map(ToString::to_string).collect();
        text += &format!("\nquestion {} about {}\nright answer: {}\n", q.id, images.join(", "), q.answer);
        for r in rules {
            text += &format!("--- {}\n{}\n", r.as_str(), benchmark.prompt(q, *r));
        }
    }
    text
}

/// Says where a benchmark's questions are.
fn data_of(benchmark: &dyn Benchmark) -> String {
    match (benchmark.card().source, benchmark.own_data()) {
        (Some(source), _) => {
            let names: Vec<&str> = std::iter::once(source.repository).chain(source.alias).collect();
            let count = if source.questions > 0 { format!("{} questions", source.questions) } else { String::new() };
            let parts = [format!("{} ({})", names.join(" or "), source.split), count, source.licence.to_string()];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
        }
        (None, Some(path)) => path.display().to_string(),
        (None, None) => "questions made on this machine".to_string(),
    }
}

/// Returns all benchmarks, sorted by category and id.
fn sorted() -> Vec<&'static dyn Benchmark> {
    let mut all = bench::all().to_vec();
    all.sort_by_key(|b| (b.category().rank(), b.category().as_str(), b.id()));
    all
}

fn list(data: Option<&Path>, json: bool) -> Result<()> {
    if json {
        let line = |b: &&dyn Benchmark| {
            let source = b.card().source;
            json!({
                "id": b.id(), "category": b.category(), "metric": b.metric(Rules::Official), "version": b.version(),
                "rules": b.card().rule_sets(), "data": state(*b, data),
                "citation": b.citation(), "repository": source.map(|s| s.repository), "split": source.map(|s| s.split),
                "questions": source.map(|s| s.questions).filter(|n| *n > 0), "licence": source.map(|s| s.licence),
            })
        };
        return print_json(&sorted().iter().map(line).collect::<Vec<_>>());
    }
    print(&table(data, terminal::width()))
}

/// Formats the list of benchmarks by category; the names of the datasets are shown from a width of 140.
fn table(data: Option<&Path>, width: usize) -> String {
    const WIDE: usize = 140;
    let head = ["benchmark", "data", "n", "rules", "metric", "dataset"];
    let kept = if width >= WIDE { head.len() } else { head.len() - 1 };
    let mut rows = vec![head.map(String::from).into_iter().take(kept).collect::<Vec<_>>()];
    let mut category = None;
    for b in sorted() {
        if category.replace(b.category()) != Some(b.category()) {
            rows.extend([vec![String::new()], vec![b.category().to_string()]]);
        }
        let rules: Vec<&str> = b.card().rule_sets().into_iter().map(Rules::as_str).collect();
        let source = b.card().source;
        let row = [
            b.id().to_string(),
            state(b, data).to_string(),
            // 0: the number of published questions is not known.
            source.map_or_else(String::new, |s| if s.questions > 0 { s.questions.to_string() } else { String::new() }),
            rules.join(", "),
            b.metric(Rules::Official).to_string(),
            source.map_or_else(String::new, |s| format!("{} ({})", s.repository, s.split)),
        ];
        rows.push(row.into_iter().take(kept).collect());
    }
    let mut sides = [Align::Left; 6];
    if let Some(side) = sides.get_mut(2) {
        *side = Align::Right;
    }
    text_table::table(&rows, &sides, "", width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::Category;

    #[test]
    fn the_list_keeps_within_its_width_and_its_order() {
        let ids: Vec<&str> = sorted().iter().map(|b| b.id()).collect();
        for width in [80, 100, 139, 140, 200] {
            let text = table(None, width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert_eq!(text.lines().next().is_some_and(|l| l.contains("dataset")), width >= 140, "{text}");
            let first = |line: &&str| line.split_whitespace().next().filter(|w| ids.contains(w)).map(String::from);
            let listed: Vec<String> = text.lines().filter_map(|line| first(&line)).collect();
            assert_eq!(listed, ids, "{width}:\n{text}");
            assert!(Category::CAMBRIAN.iter().all(|c| text.contains(c.as_str())), "{text}");
        }
        for part in sorted().windows(2) {
            let place = |b: &dyn Benchmark| (b.category().rank(), b.id().to_string());
            assert!(place(part[0]) < place(part[1]));
        }
    }

    /// Rules are told in words without any data, every line within the width (but a prompt's own).
    #[test]
    fn rules_are_told_without_data() {
        for b in bench::all() {
            let rules = b.card().rule_sets();
            let told = text(*b, &rules, &[], Some(&Error::failed("not here").hint("get it")));
            for r in &rules {
                assert!(told.contains(&format!("\nrules {}\n  asked ", r.as_str())), "{told}");
            }
            assert!(told.lines().all(|line| line.chars().count() <= terminal::width()), "{told}");
            assert!(told.ends_with("no questions to show: not here\nhint: get it\n"), "{told}");
        }
    }
}
