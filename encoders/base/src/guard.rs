//! Other people's parsers behind a fence: a panic of theirs on a damaged file is an error of ours.

use crate::{Error, Result};
use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// How many guards this thread is inside of.
    static GUARDED: Cell<usize> = const { Cell::new(0) };
}
static HOOK: Once = Once::new();

/// Runs a third-party parser; if it panics, nothing is printed and the error says what it was reading.
///
/// `what` completes "reading …": the kind of file and its name. Wrap the call alone, so that nothing of ours is left in a
/// half-changed state. What aborts the process (a failed allocation, a stack that overflows) cannot be caught: sizes are
/// compared with the file before such a parser is called.
///
/// ```
/// use burgess_base::guard;
/// assert_eq!(guard::third_party("a.xlsx", || 1)?, 1);
/// let error = guard::third_party("b.xlsx", || -> u8 { panic!("offset -4") }).unwrap_err();
/// assert_eq!(error.to_string(), "reading b.xlsx: the file is damaged: its parser stopped at: offset -4");
/// # Ok::<(), burgess_base::Error>(())
/// ```
///
/// # Errors
/// The parser panicked.
pub fn third_party<T>(what: &str, parse: impl FnOnce() -> T) -> Result<T> {
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if GUARDED.get() == 0 {
                usual(info);
            }
        }));
    });
    GUARDED.set(GUARDED.get() + 1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(parse));
    GUARDED.set(GUARDED.get() - 1);
    outcome.map_err(|payload| {
        Error::failed(format!("the file is damaged: its parser stopped at: {}", message(payload.as_ref())))
            .context(format!("reading {what}"))
    })
}

/// What a panic says, on one line.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    crate::text::excerpt(text.unwrap_or("a panic without a message"), 200)
}
