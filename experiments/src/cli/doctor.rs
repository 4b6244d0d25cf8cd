//! `burgess doctor`: reports devices, caches, disk and weights, and how to fix what does not work.

use crate::features::cache;
use crate::machine::terminal::{self, print, print_json};
use crate::machine::text_table;
use crate::machine::text_table::Align;
use crate::machine::{device, paths};
use burgess_base::{Error, Result};
use burgess_encoders::card::{self, EncoderCard, WeightsLocation};
use burgess_encoders::hub;
use burgess_encoders::resolve;
use serde::Serialize;
use std::path::Path;

/// Show devices, caches, disk space and weights, and how to fix what does not work
#[derive(clap::Args)]
#[command(after_help = "Examples:
  burgess doctor
  burgess doctor --json")]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    what: String,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
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
    let mut lines = vec![machine()];
    lines.extend(device::BACKENDS.iter().map(backend));
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
    let memory = crate::machine::memory::available()
        .map_or("unknown memory".into(), |b| format!("{:.1} GiB memory free", b as f64 / (1u64 << 30) as f64));
    Line {
        what: "machine".into(),
        state: State::Ok,
        detail: format!("{} {}, {cores} cores, {memory}", std::env::consts::OS, std::env::consts::ARCH),
        fix: None,
    }
}

/// Tests a backend with a small matrix product.
fn backend(backend: &device::Backend) -> Line {
    let what = format!("device {}", backend.name);
    if !backend.compiled {
        return Line {
            what,
            state: State::Optional,
            detail: format!("{}; not built into this binary", backend.what),
            fix: Some(backend.fix.into()),
        };
    }
    let tried = crate::machine::workers::guarded(|| {
        let device = device::parse(backend.name)?;
        let x = burn::tensor::Tensor::<2>::ones([8, 8], &device);
        let sum = x.clone().matmul(x).sum().into_data().try_into_vec_as::<f32>();
        Ok(sum.ok().and_then(|v| v.first().copied()).unwrap_or(f32::NAN))
    });
    match tried {
        Ok(512.0) => Line { what, state: State::Ok, detail: backend.what.into(), fix: None },
        Ok(other) => Line {
            what,
            state: State::Broken,
            detail: format!("8×8 product sums to {other}, not 512"),
            fix: Some("update the driver".into()),
        },
        Err(e) => Line {
            what,
            state: State::Broken,
            detail: e.to_string(),
            fix: Some("check the driver and that the device exists".into()),
        },
    }
}

fn cache_line() -> Line {
    let what = "cache".to_string();
    let (dir, limit) = match (paths::cache(), paths::cache_limit()) {
        (Ok(dir), Ok(limit)) => (dir, limit),
        (Err(e), _) | (_, Err(e)) => return broken(what, &e),
    };
    match cache::FeatureCache::open(&dir, limit) {
        Err(e) => Line {
            what,
            state: State::Broken,
            detail: e.to_string(),
            fix: Some("set BURGESS_CACHE to a writable directory".into()),
        },
        Ok(cache) => Line {
            what,
            state: State::Ok,
            detail: format!(
                "{}: features {:.2} of {:.0} GiB",
                dir.display(),
                cache.size() as f64 / (1u64 << 30) as f64,
                limit as f64 / (1u64 << 30) as f64
            ),
            fix: None,
        },
    }
}

fn disk(what: &str, dir: &Path) -> Line {
    match fs4::available_space(dir) {
        Ok(bytes) if bytes < 1 << 30 => Line {
            what: what.into(),
            state: State::Broken,
            detail: format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64),
            fix: Some("free some disk space".into()),
        },
        Ok(bytes) => Line {
            what: what.into(),
            state: State::Ok,
            detail: format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
            fix: None,
        },
        Err(e) => Line { what: what.into(), state: State::Broken, detail: e.to_string(), fix: None },
    }
}

fn weights() -> Vec<Line> {
    match card::zoo() {
        Err(e) => vec![Line { what: "zoo".into(), state: State::Broken, detail: e.to_string(), fix: None }],
        Ok(cards) => {
            let (shipped, published): (Vec<&EncoderCard>, Vec<&EncoderCard>) =
                cards.iter().partition(|c| matches!(c.source.location, WeightsLocation::Shipped { .. }));
            let here = |cards: &[&EncoderCard]| cards.iter().filter(|c| resolve::is_available(c)).count();
            let mut lines = vec![
                Line {
                    what: "encoders of this project".into(),
                    state: State::Ok,
                    detail: format!("weights of {} of {} are on this machine", here(&shipped), shipped.len()),
                    fix: None,
                },
                Line {
                    what: "published encoders".into(),
                    state: State::Ok,
                    detail: format!("weights of {} of {} are on this machine", here(&published), published.len()),
                    fix: Some("burgess fetch ID; `burgess encoders` lists them".into())
                        .filter(|_| here(&published) < published.len()),
                },
            ];
            let missing: Vec<&str> =
                shipped.iter().filter(|c| !resolve::is_available(c)).map(|c| c.id.as_str()).collect();
            if !missing.is_empty() {
                lines.push(Line {
                    what: "encoder weights missing".into(),
                    state: State::Missing,
                    detail: missing.join(", "),
                    fix: Some("set BURGESS_ZOO to a checkout, or train them: burgess pretrain nano/<id>".into()),
                });
            }
            lines
        }
    }
}

fn hub() -> Vec<Line> {
    let cache = "Hugging Face cache".to_string();
    let cache = match hub::cache() {
        Ok(dir) if dir.is_dir() => Line { what: cache, state: State::Ok, detail: dir.display().to_string(), fix: None },
        Ok(dir) => Line {
            what: cache,
            state: State::Optional,
            detail: format!(
                "{} does not exist; `burgess fetch` creates it (the nano studies do not need it)",
                dir.display()
            ),
            fix: None,
        },
        Err(e) => broken(cache, &e),
    };
    let server = "Hugging Face hub".to_string();
    let server = match super::fetch::hub_summary() {
        Ok(detail) => Line { what: server, state: State::Ok, detail, fix: None },
        Err(e) => broken(server, &e),
    };
    vec![cache, server]
}

fn broken(what: String, error: &Error) -> Line {
    Line { what, state: State::Broken, detail: error.to_string(), fix: terminal::hint(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_that_are_not_built_in_are_optional_and_lines_fit_the_width() {
        let backends: Vec<Line> = device::BACKENDS.iter().filter(|b| !b.compiled).map(backend).collect();
        assert!(backends.iter().all(|line| line.state == State::Optional && line.fix.is_some()));
        let long =
            Line { what: "encoder weights missing".into(), state: State::Missing, detail: "a, ".repeat(80), fix: None };
        let lines: Vec<Line> = backends.into_iter().chain([long]).collect();
        for width in [80, 100, 200] {
            let text = table(&lines, width);
            assert!(text.lines().all(|l| l.chars().count() <= width), "{text}");
            assert!(text.contains("missing") && !text.contains("missing   device"), "{text}");
        }
    }
}
