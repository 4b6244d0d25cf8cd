//! Prepares the next item on a second thread while the present one is used.

use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;

/// Calls `run` with an iterator over `make(input)` for all inputs, in their order.
///
/// If `concurrent`, a second thread takes the inputs and makes the items: while `run` uses one item, the next is made,
/// and at most one waits. Otherwise each item is made on this thread when `run` asks for it. Both give the same items.
///
/// A panic of `make` ends the iterator early and is passed on when `run` returns.
pub fn prefetch<I, T: Send, R>(
    concurrent: bool,
    inputs: impl IntoIterator<Item = I, IntoIter: Send>,
    make: impl Fn(I) -> T + Send,
    run: impl FnOnce(&mut dyn Iterator<Item = T>) -> R,
) -> R {
    let mut items = inputs.into_iter().map(make);
    if !concurrent {
        return run(&mut items);
    }
    std::thread::scope(|scope| {
        // Without a buffer, the thread waits with one finished item.
        let (send, receive) = sync_channel(0);
        let maker = scope.spawn(move || {
            for item in items {
                // The receiver is gone when `run` has ended early.
                if send.send(item).is_err() {
                    break;
                }
            }
        });
        let outcome = run(&mut receive.iter());
        drop(receive);
        match maker.join() {
            Ok(()) => outcome,
            Err(panic) => resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn items_come_in_order_and_at_most_one_waits() {
        for concurrent in [false, true] {
            let (made, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let make = |i: usize| {
                // One is used, one waits, and one is being made.
                assert!(made.fetch_add(1, Ordering::SeqCst) < used.load(Ordering::SeqCst) + 2);
                i * i
            };
            let found: Vec<usize> = prefetch(concurrent, 0..20, make, |items| {
                items
                    .inspect(|_| {
                        used.fetch_add(1, Ordering::SeqCst);
                    })
                    .collect()
            });
            assert_eq!(found, (0..20).map(|i| i * i).collect::<Vec<_>>());
        }
    }

    #[test]
    fn ending_early_and_panics_do_not_block() {
        for concurrent in [false, true] {
            assert_eq!(prefetch(concurrent, 0.., |i| i, |items| items.take(3).sum::<u64>()), 3);
            let panic = catch_unwind(|| {
                let make = |i: i32| if i == 2 { panic!("two") } else { i };
                prefetch(concurrent, 0..5, make, |items| items.count())
            });
            assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"two"));
        }
    }
}
