//! What is being done, how far, how long still: on stderr, as bars in a terminal, as lines elsewhere.

use crate::terminal;
use burgess_base::text::{escaped, escaped_lines};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The progress display of a command.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
    terminal: bool,
    started: Instant,
}

impl Progress {
    /// Bars when stderr is a terminal, otherwise a line for every finished step.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), terminal, started: Instant::now() }
    }

    /// A silent display, for tests and machine-read output.
    pub fn silent() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self { bars, terminal: true, started: Instant::now() }
    }

    /// A bar for `what` with `total` steps (0: not known yet).
    pub fn bar(&self, what: &str, total: u64) -> Bar {
        let bar = self.bars.add(ProgressBar::new(total));
        let style = ProgressStyle::with_template("{msg:44!} {bar:24} {pos}/{len} {prefix}{elapsed}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_message(escaped(what).into_owned());
        let reported = Mutex::new(Instant::now());
        Bar { bar, progress: self.clone(), started: Instant::now(), reported }
    }

    /// A bar for a file of `total` bytes (0: not known).
    pub fn bytes(&self, what: &str, total: u64) -> Bar {
        let bar = self.bar(what, total);
        let style = ProgressStyle::with_template(
            "{msg:36!} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left",
        );
        bar.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        if self.terminal {
            // An error here means that stderr is gone; the results do not depend on it.
            let _ = self.bars.println(escaped_lines(text));
        } else {
            terminal::say(&format!("[{:>6.1} s] {text}", self.started.elapsed().as_secs_f64()));
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// One bar; it disappears when dropped.
pub struct Bar {
    bar: ProgressBar,
    progress: Progress,
    started: Instant,
    /// When the last line went where there is no terminal.
    reported: Mutex<Instant>,
}

/// Time between the lines of a long piece of work where there is no terminal.
const REPORT: Duration = Duration::from_secs(60);

impl Bar {
    /// Another piece of work, of which `done` of `total` steps were done before.
    pub fn begin(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        // What was done before says nothing about the time that is left.
        self.bar.reset_eta();
    }

    /// Numbers beside the bar.
    pub fn note(&self, text: &str) {
        self.bar.set_prefix(escaped(text).into_owned());
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        self.progress.line(text);
    }

    /// Where there is no terminal: a line once a minute.
    pub fn report(&self, text: impl FnOnce() -> String) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.progress.terminal && reported.elapsed() >= REPORT {
            *reported = Instant::now();
            self.progress.line(&text());
        }
    }

    /// `done` of `total` steps.
    pub fn set(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    /// Some steps more.
    pub fn add(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// What is being done now.
    pub fn message(&self, text: &str) {
        self.bar.set_message(escaped(text).into_owned());
    }

    /// Replaces the bar by a line with the time it took.
    pub fn done(self, text: &str) {
        self.bar.finish_and_clear();
        self.progress.line(&format!("{text} in {:.1} s", self.started.elapsed().as_secs_f64()));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
