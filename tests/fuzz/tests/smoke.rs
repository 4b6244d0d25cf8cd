//! Runs a few seeded inputs of every target, as a regression test.

use burgess_fuzz::{find, run};
use std::path::Path;

/// Number of inputs of all targets together, by their weights; each target has at least [`LEAST`] and its corpus.
const INPUTS: u64 = 40_000;
const LEAST: u64 = 30;

#[test]
fn no_target_fails() {
    let program = Path::new(env!("CARGO_BIN_EXE_burgess-fuzz"));
    let targets = find(&[]).unwrap();
    let shares: u64 = targets.iter().map(|t| u64::from(t.share)).sum();
    let mut failed = Vec::new();
    for target in targets {
        let corpus = burgess_fuzz::corpus::load(target.name, target.corpus).unwrap().len() as u64;
        let count = corpus + (INPUTS * u64::from(target.share) / shares).max(LEAST);
        let outcome = run::target(program, target, 0, count).unwrap();
        println!("{}: {} inputs, {} read, {:.2} s", target.name, outcome.inputs, outcome.read, outcome.seconds);
        failed.extend(outcome.failures.iter().map(|f| format!("{}: {}\n  {}", target.name, f.what, f.command)));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Panics, failed allocations, stack overflows, bad messages and endless inputs are detected, the input is saved, and
/// the inputs after it are run.
#[cfg(target_os = "linux")]
#[test]
fn failures_are_seen() {
    let program = Path::new(env!("CARGO_BIN_EXE_burgess-fuzz"));
    for (name, what) in [
        ("fault-panic", "panic: "),
        ("fault-memory", "memory allocation of 3221225472 bytes failed"),
        ("fault-stack", "overflowed its stack"),
        ("fault-message", "control characters"),
        ("fault-time", "more processor time"),
    ] {
        let target = find(&[name.to_string()]).unwrap()[0];
        let outcome = run::target(program, target, 0, 20).unwrap();
        let [failure] = outcome.failures.as_slice() else { panic!("{name}: {:?}", outcome.failures) };
        assert!(failure.what.contains(what) && failure.number == 0, "{name}: {failure:?}");
        // A few of the twenty inputs equal the seed file, and fail like it.
        let lost = outcome.lost as u64;
        assert!((1..5).contains(&lost), "{name}: {lost}");
        assert_eq!((outcome.inputs, outcome.read + outcome.refused), (20, 20 - lost), "{name}");
        assert!(failure.saved.is_file() && failure.command.contains(name), "{failure:?}");
        // The printed command reproduces the failure.
        let again = run::file(program, target, &failure.saved, None).unwrap();
        assert!(again.is_err_and(|again| again.contains(what)), "{name}");
    }
}
