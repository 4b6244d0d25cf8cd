//! Progress display on stderr: bars on a terminal, lines elsewhere, with the estimated time left.
//!
//! Without a terminal, each long step prints a line at least every [`LINE_INTERVAL`], even while it works on a single
//! item; a background thread checks the steps once a second. It also shows when the device compiles kernels, during
//! which the first step of a training or the first batch of images takes much longer than the following ones.

use crate::machine::{kernels, terminal};
use burgess_base::text::{escaped, escaped_lines};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Longest time between two lines of a step without a terminal.
pub const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// The progress display of a command.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
    shared: Arc<Shared>,
}

/// State that the display shares with the background thread.
struct Shared {
    form: DisplayForm,
    /// Returns the time since the display was created.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    /// Prints a line where there is no terminal.
    lines: Box<dyn Fn(&str) + Send + Sync>,
    steps: Mutex<Vec<Weak<Step>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum DisplayForm {
    Bars,
    Lines,
    #[cfg(test)]
    Nothing,
}

/// A step that is in progress.
struct Step {
    state: Mutex<State>,
    /// Number of items done, and their total (0 if unknown).
    done: AtomicU64,
    total: AtomicU64,
}

#[derive(Clone)]
struct State {
    what: String,
    /// When the present piece of work began, and how many of its items were done before.
    begun: Duration,
    before: u64,
    /// When the last line was printed.
    reported: Duration,
}

impl Progress {
    /// Makes a display: bars if stderr is a terminal, otherwise lines.
    pub fn new() -> Self {
        let shown = std::io::stderr().is_terminal();
        let started = Instant::now();
        let form = if shown { DisplayForm::Bars } else { DisplayForm::Lines };
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let lines = terminal::eprint_line;
        let this = Self::with(form, target, move || started.elapsed(), lines);
        if !shown || kernels::RUN_TIME {
            watch(&this);
        }
        this
    }

    /// Makes a display that shows nothing.
    #[cfg(test)]
    pub fn silent() -> Self {
        Self::with(DisplayForm::Nothing, ProgressDrawTarget::hidden(), || Duration::ZERO, |_| {})
    }

    fn with(
        form: DisplayForm,
        target: ProgressDrawTarget,
        clock: impl Fn() -> Duration + Send + Sync + 'static,
        lines: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let (clock, lines) = (Box::new(clock), Box::new(lines));
        let shared = Shared { form, clock, lines, steps: Mutex::default() };
        Self { bars: MultiProgress::with_draw_target(target), shared: Arc::new(shared) }
    }

    /// Adds a bar for `what` with `total` items (0 if unknown).
    pub fn bar(&self, what: &str, total: u64) -> Bar {
        let bar = self.bars.add(ProgressBar::new(total));
        let style = ProgressStyle::with_template("{msg:44!} {bar:24} {pos}/{len} {prefix}{elapsed}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_message(escaped(what).into_owned());
        let now = (self.shared.clock)();
        let state = State { what: what.to_string(), begun: now, before: 0, reported: now };
        let step = Arc::new(Step { state: Mutex::new(state), done: AtomicU64::new(0), total: AtomicU64::new(total) });
        if self.shared.form == DisplayForm::Lines {
            locked(&self.shared.steps).push(Arc::downgrade(&step));
        }
        Bar { bar, progress: self.clone(), started: now, step }
    }

    /// Adds a bar for a file of `total` bytes (0 if unknown).
    pub fn bytes(&self, what: &str, total: u64) -> Bar {
        let bar = self.bar(what, total);
        let style = ProgressStyle::with_template(
            "{msg:36!} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left",
        );
        bar.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar
    }

    /// Prints a line that stays on the screen.
    pub fn line(&self, text: &str) {
        match self.shared.form {
            // An error means that stderr is closed, which does not affect the results.
            DisplayForm::Bars => drop(self.bars.println(escaped_lines(text))),
            DisplayForm::Lines => self.shared.line(text),
            #[cfg(test)]
            DisplayForm::Nothing => {}
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the background thread, which runs as long as the display is in use.
fn watch(progress: &Progress) {
    let (shared, bars) = (Arc::downgrade(&progress.shared), progress.bars.clone());
    let watcher = move || {
        let mut compilation = Compilation::default();
        while let Some(shared) = shared.upgrade() {
            shared.report_due();
            let event = compilation.observe(kernels::compiled(), (shared.clock)());
            shared.report_kernels(event, kernels::device().unwrap_or("the device"), &bars, &mut compilation.bar);
            drop(shared);
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    // Without the thread, `Bar::report` still prints lines.
    let _ = std::thread::Builder::new().name("progress".into()).spawn(watcher);
}

impl Shared {
    fn line(&self, text: &str) {
        (self.lines)(&format!("[{:>6.1} s] {text}", (self.clock)().as_secs_f64()));
    }

    /// Prints a line for every step without a recent line.
    fn report_due(&self) {
        let steps: Vec<Arc<Step>> = {
            let mut steps = locked(&self.steps);
            steps.retain(|step| step.strong_count() > 0);
            steps.iter().filter_map(Weak::upgrade).collect()
        };
        for step in steps {
            step.report_due(self);
        }
    }

    /// Shows an event of the compilation of kernels: on a terminal in a bar of its own, elsewhere in a line at its
    /// beginning and its end.
    fn report_kernels(&self, event: Event, device: &str, bars: &MultiProgress, bar: &mut Option<ProgressBar>) {
        match (event, self.form) {
            (Event::Nothing, _) => {}
            (Event::Begun, DisplayForm::Lines) => {
                self.line(&format!("compiling kernels for {device}, each on its first use"));
            }
            (Event::Compiled { kernels, seconds }, DisplayForm::Lines) => {
                self.line(&format!("compiled {kernels} kernels for {device} within {seconds} s"));
            }
            (Event::Compiling { .. }, DisplayForm::Lines) => {}
            (Event::Begun, DisplayForm::Bars) => {
                let added = bars.add(ProgressBar::new_spinner());
                added.set_message(format!("compiling kernels for {device}, each on its first use"));
                *bar = Some(added);
            }
            (Event::Compiling { kernels }, DisplayForm::Bars) => {
                if let Some(bar) = bar {
                    bar.set_message(format!("compiling kernels for {device}: {kernels} so far"));
                }
            }
            (Event::Compiled { .. }, DisplayForm::Bars) => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
            #[cfg(test)]
            (_, DisplayForm::Nothing) => {}
        }
    }
}

/// Time without a new kernel after which their compilation counts as finished.
const QUIET: Duration = Duration::from_secs(3);
/// Duration of a compilation from which it is shown: kernels that the driver finds in its cache take less.
const NOTICEABLE: Duration = Duration::from_secs(3);

/// Observes the number of kernels compiled so far, to tell when compilation keeps a step waiting.
#[derive(Default)]
struct Compilation {
    /// Number of kernels at the last observation.
    seen: u64,
    /// The kernels compiled one after another at present.
    series: Option<Series>,
    /// The bar that shows the series on a terminal.
    bar: Option<ProgressBar>,
}

/// Kernels compiled one after another.
struct Series {
    /// When the first and the last of them were observed.
    begun: Duration,
    last: Duration,
    /// Number of kernels before them.
    before: u64,
    /// Whether [`Event::Begun`] was returned.
    shown: bool,
}

/// What an observation of the number of kernels shows.
#[derive(Debug, PartialEq)]
enum Event {
    /// Nothing that is worth showing.
    Nothing,
    /// Kernels have been compiled for [`NOTICEABLE`].
    Begun,
    /// Their compilation goes on; this many were compiled so far.
    Compiling { kernels: u64 },
    /// No kernel was compiled for [`QUIET`]; this many were within this time.
    Compiled { kernels: u64, seconds: u64 },
}

impl Compilation {
    /// Takes the number of kernels compiled so far, at the time `now`.
    fn observe(&mut self, count: u64, now: Duration) -> Event {
        let before = std::mem::replace(&mut self.seen, count);
        let fresh = count > before;
        let Some(series) = &mut self.series else {
            self.series = fresh.then_some(Series { begun: now, last: now, before, shown: false });
            return Event::Nothing;
        };
        let kernels = count - series.before;
        if fresh {
            series.last = now;
            if series.shown {
                return Event::Compiling { kernels };
            }
            series.shown = now.saturating_sub(series.begun) >= NOTICEABLE;
            return if series.shown { Event::Begun } else { Event::Nothing };
        }
        if now.saturating_sub(series.last) < QUIET {
            return Event::Nothing;
        }
        let (shown, seconds) = (series.shown, series.last.saturating_sub(series.begun).as_secs());
        self.series = None;
        if shown { Event::Compiled { kernels, seconds } } else { Event::Nothing }
    }
}

impl Step {
    /// Prints a line if the last one is older than [`LINE_INTERVAL`].
    fn report_due(&self, shared: &Shared) {
        let now = (shared.clock)();
        let Some(state) = self.due(now) else { return };
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        shared.line(&format!("{}: {}", state.what, progress_text(&state, done, total, now)));
    }

    /// Returns the state and marks it as reported if the last line is older than [`LINE_INTERVAL`].
    fn due(&self, now: Duration) -> Option<State> {
        let mut state = locked(&self.state);
        if now.saturating_sub(state.reported) < LINE_INTERVAL {
            return None;
        }
        state.reported = now;
        Some(state.clone())
    }
}

/// Formats the progress: `1200 of 5000, 1m 5s left`; without a total `1200 done`; without any number the elapsed time.
fn progress_text(state: &State, done: u64, total: u64, now: Duration) -> String {
    let spent = now.saturating_sub(state.begun);
    let whole = |d: Duration| humantime::format_duration(Duration::from_secs(d.as_secs())).to_string();
    match (done, total) {
        (0, 0) => format!("{} so far", whole(spent)),
        (_, 0) => format!("{done} done in {}", whole(spent)),
        _ => {
            let fresh = done.saturating_sub(state.before);
            let left = total.saturating_sub(done);
            // Estimates of about 30 years or more carry no information.
            let seconds = spent.as_secs_f64() / fresh as f64 * left as f64;
            match fresh > 0 && seconds < 1e9 {
                true => format!("{done} of {total}, {} left", whole(Duration::from_secs_f64(seconds))),
                false => format!("{done} of {total}, {} so far", whole(spent)),
            }
        }
    }
}

/// A progress bar; it is removed when dropped.
pub struct Bar {
    bar: ProgressBar,
    progress: Progress,
    started: Duration,
    step: Arc<Step>,
}

impl Bar {
    /// Starts another piece of work, of which `done` of `total` items were done before.
    pub fn begin(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        // Items done before this process say nothing about the time left.
        self.bar.reset_eta();
        self.step.done.store(done, Ordering::Relaxed);
        self.step.total.store(total, Ordering::Relaxed);
        let mut state = locked(&self.step.state);
        (state.begun, state.before) = ((self.progress.shared.clock)(), done);
    }

    /// Shows a text beside the bar.
    pub fn note(&self, text: &str) {
        self.bar.set_prefix(escaped(text).into_owned());
    }

    /// Prints a line that stays on the screen.
    pub fn line(&self, text: &str) {
        self.progress.line(text);
    }

    /// Prints this line instead of the usual one, where there is no terminal and a line is due.
    pub fn report(&self, text: impl FnOnce() -> String) {
        let shared = &self.progress.shared;
        if shared.form == DisplayForm::Lines && self.step.due((shared.clock)()).is_some() {
            shared.line(&text());
        }
    }

    /// Sets the number of items done and their total.
    pub fn set(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        self.step.done.store(done, Ordering::Relaxed);
        self.step.total.store(total, Ordering::Relaxed);
    }

    /// Adds to the number of items done.
    pub fn add(&self, steps: u64) {
        self.bar.inc(steps);
        self.step.done.fetch_add(steps, Ordering::Relaxed);
    }

    /// Sets the description of the current work.
    pub fn message(&self, text: &str) {
        self.bar.set_message(escaped(text).into_owned());
        locked(&self.step.state).what = text.to_string();
    }

    /// Replaces the bar by a line with the elapsed time.
    pub fn done(self, text: &str) {
        self.bar.finish_and_clear();
        let seconds = (self.progress.shared.clock)().saturating_sub(self.started).as_secs_f64();
        self.progress.line(&format!("{text} in {seconds:.1} s"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a display whose lines are recorded and whose clock is set in seconds.
    fn kept() -> (Progress, Arc<AtomicU64>, Arc<Mutex<Vec<String>>>) {
        let (clock, lines) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (time, take) = (clock.clone(), lines.clone());
        let now = move || Duration::from_secs(time.load(Ordering::Relaxed));
        let keep = move |text: &str| locked(&take).push(text.to_string());
        (Progress::with(DisplayForm::Lines, ProgressDrawTarget::hidden(), now, keep), clock, lines)
    }

    #[test]
    fn a_long_step_is_never_silent_for_long() {
        let (progress, clock, lines) = kept();
        let bar = progress.bar("encoding images", 400);
        for second in 0..=100 {
            clock.store(second, Ordering::Relaxed);
            if second > 0 {
                bar.add(2);
            }
            progress.shared.report_due();
        }
        assert_eq!(
            *locked(&lines),
            [
                "[  30.0 s] encoding images: 60 of 400, 2m 50s left",
                "[  60.0 s] encoding images: 120 of 400, 2m 20s left",
                "[  90.0 s] encoding images: 180 of 400, 1m 50s left",
            ]
        );
        drop(bar);
        clock.store(500, Ordering::Relaxed);
        progress.shared.report_due();
        assert_eq!(locked(&lines).len(), 3, "what has ended says nothing");
    }

    #[test]
    fn a_single_long_piece_speaks_too_and_what_was_done_before_does_not_count() {
        let (progress, clock, lines) = kept();
        let loading = progress.bar("loading", 0);
        let bar = progress.bar("a", 10);
        clock.store(31, Ordering::Relaxed);
        progress.shared.report_due();
        drop(loading);
        bar.begin(50, 100);
        bar.message("b: tune");
        clock.store(71, Ordering::Relaxed);
        bar.set(60, 100);
        // A step's own line replaces the usual one.
        bar.report(|| "step 60".into());
        progress.shared.report_due();
        clock.store(110, Ordering::Relaxed);
        bar.report(|| "step 70".into());
        bar.report(|| "step 71 comes too soon".into());
        clock.store(150, Ordering::Relaxed);
        progress.shared.report_due();
        assert_eq!(
            *locked(&lines),
            [
                "[  31.0 s] loading: 31s so far",
                "[  31.0 s] a: 0 of 10, 31s so far",
                "[  71.0 s] step 60",
                "[ 110.0 s] step 70",
                "[ 150.0 s] b: tune: 60 of 100, 7m 56s left",
            ]
        );
    }

    #[test]
    fn a_long_compilation_of_kernels_is_shown() {
        let (progress, _, lines) = kept();
        let mut compilation = Compilation::default();
        let counts = [0, 0, 5, 20, 30, 40, 45, 45, 45, 45, 46, 47, 47, 47, 47, 47];
        let mut events = Vec::new();
        for (second, count) in (0..).zip(counts) {
            let event = compilation.observe(count, Duration::from_secs(second));
            if event != Event::Nothing {
                events.push(format!("{second}: {event:?}"));
            }
            progress.shared.report_kernels(event, "wgpu", &progress.bars, &mut compilation.bar);
        }
        // The two kernels from second 10 on are not worth a line.
        let found = ["5: Begun", "6: Compiling { kernels: 45 }", "9: Compiled { kernels: 45, seconds: 4 }"];
        assert_eq!(events, found);
        assert_eq!(
            *locked(&lines),
            [
                "[   0.0 s] compiling kernels for wgpu, each on its first use",
                "[   0.0 s] compiled 45 kernels for wgpu within 4 s",
            ]
        );
    }

    #[test]
    fn numbers_that_say_nothing_are_left_out() {
        let state = State { what: String::new(), begun: Duration::ZERO, before: 0, reported: Duration::ZERO };
        let hour = Duration::from_secs(3600);
        assert_eq!(progress_text(&state, 7, 0, hour), "7 done in 1h");
        assert_eq!(progress_text(&state, 1, u64::MAX, hour), format!("1 of {}, 1h so far", u64::MAX));
        assert_eq!(progress_text(&state, 9, 5, hour), "9 of 5, 0s left");
    }
}
