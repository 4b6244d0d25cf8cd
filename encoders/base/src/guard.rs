//! Isolates third-party parsers and the requests of a service: a panic becomes an error.

use crate::{Error, Result};
use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Nesting depth of guarded calls on this thread.
    static GUARDED: Cell<usize> = const { Cell::new(0) };
}
static HOOK: Once = Once::new();

/// Runs a third-party parser; if it panics, nothing is printed and the error says which file was read.
///
/// `what` completes "reading …": the kind of file and its name. Guard only the call of the parser, so that a panic
/// leaves no half-changed state behind. An abort of the process (a failed allocation, a stack overflow) cannot be
/// caught: check sizes against the file before calling such a parser.
///
/// ```
/// use burgess_base::guard;
/// assert_eq!(guard::third_party("a.xlsx", || 1)?, 1);
/// let error = guard::third_party("b.xlsx", || -> u8 { panic!("offset -4") }).unwrap_err();
/// assert_eq!(error.to_string(), "reading b.xlsx: the file is damaged: its parser failed with: offset -4");
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
        Error::failed(format!("the file is damaged: its parser failed with: {}", message(payload.as_ref())))
            .context(format!("reading {what}"))
    })
}

/// Runs a part of the work of a long-lived service; a panic becomes an error, so that the service goes on. The panic is
/// still reported on stderr. The caller drops what `work` may have left half-changed.
///
/// # Errors
/// The errors of `work`, or that it panicked.
pub fn recovered<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        Err(Error::failed(format!("an internal error (a panic): {}", message(payload.as_ref())))
            .hint("report it with the request that caused it"))
    })
}

/// Returns the message of a panic on one line.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    crate::text::excerpt(text.unwrap_or("a panic without a message"), 200)
}
