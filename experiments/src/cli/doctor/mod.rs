//! `burgess doctor`: reports devices, caches, disk and weights, and how to fix what does not work.

mod devices;

use crate::features::cache;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json};
use crate::machine::text_table;
use crate::machine::text_table::Align;
use crate::machine::{device, paths};
use burgess_base::{Context, Error, Result};
use burgess_encoders::card::{self, EncoderCard, WeightsLocation};
use burgess_encoders::hub;
use burgess_encoders::resolve;
use serde::Serialize;
use std::path::Path;
use std::process::Command;

/// Show devices, caches, disk space and weights, and how to fix what does not work
#[derive(clap::Args)]
#[command(after_help = "Examples:
  burgess doctor
  burgess doctor --quick
  burgess doctor --json")]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List adapters and devices, but do not test what they compute
    #[arg(long)]
    quick: bool,
    /// Print the adapters of this machine as JSON and nothing else
    #[arg(long, hide = true, conflicts_with = "self_test")]
    adapters: bool,
    /// Test one device in this process, whatever happens to it, and print the comparisons as JSON
    #[arg(long, value_name = "DEVICE", hide = true)]
    self_test: Option<String>,
}

/// The command that answers a request of [`device`] in a child process: this program with the hidden options.
pub fn child_command(request: &device::ChildRequest) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding the running program")?);
    match request {
        device::ChildRequest::Adapters => command.args(["doctor", "--adapters"]),
        device::ChildRequest::SelfTest(name) => command.args(["doctor", "--self-test", name]),
    };
    Ok(command)
}

#[derive(Serialize)]
struct Line {
    what: String,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    /// The adapter that the line describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<device::Adapter>,
    /// The self-test that the line describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<device::Verdict>,
}

impl Line {
    fn new(what: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Line { what: what.into(), state, detail: detail.into(), fix: None, adapter: None, verdict: None }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Absent, but not needed.
    Optional,
    Missing,
    Broken,
}

pub fn run(args: Args) -> Result<()> {
    if args.adapters {
        return print_json(&device::adapters_here());
    }
    if let Some(name) = &args.self_test {
        return print_json(&device::self_test(name, &|what| terminal::eprint_line(&format!("self-test: {what}")))?);
    }
    let mut lines = vec![machine()];
    lines.extend(devices::lines(args.quick, &Progress::new()));
    lines.push(cache_line());
    lines.push(disk("free disk for results (runs/)", Path::new(".")));
    lines.extend(weights());
    lines.extend(hub());
    if args.json {
        return print_json(&lines);
    }
    print(&table(&lines, terminal::list_width()))
}

fn table(lines: &[Line], width: usize) -> String {
    let mut rows = Vec::new();
    for line in lines {
        let mark = match line.state {
            State::Ok => "ok",
            State::Optional => "optional",
            State::Missing => "missing",
            State::Broken => "BROKEN",
        };
        rows.push(vec![mark.to_string(), line.what.clone(), line.detail.clone()]);
        if let Some(fix) = &line.fix {
            let way = if line.state == State::Optional { "to enable" } else { "fix" };
            rows.push(vec![String::new(), String::new(), format!("{way}: {fix}")]);
        }
    }
    text_table::table(&rows, &[Align::Left; 3], "", width)
}

fn machine() -> Line {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory =
        crate::machine::memory::available().map_or("unknown memory".into(), |b| format!("{} memory free", gib(b)));
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    Line::new("machine", State::Ok, format!("{system} {processor}, {cores} cores, {memory}"))
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

fn cache_line() -> Line {
    let (dir, limit) = match (paths::cache(), paths::cache_limit()) {
        (Ok(dir), Ok(limit)) => (dir, limit),
        (Err(e), _) | (_, Err(e)) => return broken("cache", &e),
    };
    match cache::FeatureCache::open(&dir, limit) {
        Err(e) => Line::new("cache", State::Broken, e.to_string()).fix("set BURGESS_CACHE to a writable directory"),
        Ok(cache) => {
            let (size, limit) = (cache.size() as f64 / (1u64 << 30) as f64, limit as f64 / (1u64 << 30) as f64);
            Line::new("cache", State::Ok, format!("{}: features {size:.2} of {limit:.0} GiB", dir.display()))
        }
    }
}

fn disk(what: &str, dir: &Path) -> Line {
    match fs4::available_space(dir) {
        Ok(bytes) if bytes < 1 << 30 => {
            let detail = format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
            Line::new(what, State::Broken, detail).fix("free some disk space")
        }
        Ok(bytes) => Line::new(what, State::Ok, gib(bytes)),
        Err(e) => Line::new(what, State::Broken, e.to_string()),
    }
}

fn weights() -> Vec<Line> {
    let cards = match card::zoo() {
        Err(e) => return vec![Line::new("zoo", State::Broken, e.to_string())],
        Ok(cards) => cards,
    };
    let (shipped, published): (Vec<&EncoderCard>, Vec<&EncoderCard>) =
        cards.iter().partition(|c| matches!(c.source.location, WeightsLocation::Shipped { .. }));
    let here = |cards: &[&EncoderCard]| cards.iter().filter(|c| resolve::is_available(c)).count();
    let on_this_machine =
        |cards: &[&EncoderCard]| format!("weights of {} of {} are on this machine", here(cards), cards.len());
    let mut of_others = Line::new("published encoders", State::Ok, on_this_machine(&published));
    if here(&published) < published.len() {
        of_others = of_others.fix("burgess fetch ID; `burgess encoders` lists them");
    }
    let mut lines = vec![Line::new("encoders of this project", State::Ok, on_this_machine(&shipped)), of_others];
    let missing: Vec<&str> = shipped.iter().filter(|c| !resolve::is_available(c)).map(|c| c.id.as_str()).collect();
    if !missing.is_empty() {
        lines.push(
            Line::new("encoder weights missing", State::Missing, missing.join(", "))
                .fix("set BURGESS_ZOO to a checkout, or train them: burgess pretrain nano/<id>"),
        );
    }
    lines
}

fn hub() -> Vec<Line> {
    let cache = match hub::cache() {
        Ok(dir) if dir.is_dir() => Line::new("Hugging Face cache", State::Ok, dir.display().to_string()),
        Ok(dir) => Line::new(
            "Hugging Face cache",
            State::Optional,
            format!("{} does not exist; `burgess fetch` creates it (the nano studies do not need it)", dir.display()),
        ),
        Err(e) => broken("Hugging Face cache", &e),
    };
    let server = match super::fetch::hub_summary() {
        Ok(detail) => Line::new("Hugging Face hub", State::Ok, detail),
        Err(e) => broken("Hugging Face hub", &e),
    };
    vec![cache, server]
}

fn broken(what: &str, error: &Error) -> Line {
    Line { fix: terminal::hint(error), ..Line::new(what, State::Broken, error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_that_are_not_built_in_are_optional_and_lines_fit_the_width() {
        let absent = device::BACKENDS.iter().filter(|b| !b.compiled).map(devices::absent);
        let mut lines: Vec<Line> = absent.collect();
        assert!(lines.iter().all(|line| line.state == State::Optional && line.fix.is_some()));
        lines.push(Line::new("encoder weights missing", State::Missing, "a, ".repeat(80)));
        for width in [80, 100, 200] {
            let text = table(&lines, width);
            assert!(text.lines().all(|l| l.chars().count() <= width), "{text}");
            assert!(text.contains("missing") && !text.contains("missing   device"), "{text}");
        }
    }

    #[test]
    fn a_child_is_asked_with_options_that_this_command_has() -> Result<()> {
        use clap::{CommandFactory, Parser};
        #[derive(Parser)]
        struct Doctor {
            #[command(flatten)]
            args: Args,
        }
        Doctor::command().debug_assert();
        for request in [device::ChildRequest::Adapters, device::ChildRequest::SelfTest("wgpu:0".into())] {
            let command = child_command(&request)?;
            let parsed = Doctor::try_parse_from(command.get_args()).map_err(|e| Error::failed(e.to_string()))?;
            assert_eq!(parsed.args.adapters, request == device::ChildRequest::Adapters);
        }
        Ok(())
    }
}
