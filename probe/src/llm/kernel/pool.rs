//! Decoding on the threads of rayon's pool, which wait for each other without going to sleep.

use burgess_encoders::transfer;
use burn::tensor::Device;
use rayon::Yield;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest pause of a waiting thread before it looks for work again, in turns of an empty loop: some microseconds.
const LONGEST_PAUSE: usize = 128;
/// The longest time that a thread waits for work in this way: about a millisecond.
const LONGEST_WAIT: usize = 400 * LONGEST_PAUSE;

/// Runs `work`, a pass through the decoder, on a thread of rayon's pool if `device` is the CPU backend.
///
/// A pass is a few hundred short parallel loops. Outside the pool, each of them wakes a thread of the pool, and a thread
/// without work falls asleep between two of them; either takes as long as a small product. Here all threads stay awake
/// while the pass has work for them. Passes that run beside another one, or in a parallel loop, let their threads sleep.
pub(in crate::llm) fn in_pool<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    static IS_AWAKE: AtomicBool = AtomicBool::new(false);
    if !transfer::is_host(device) || rayon::current_thread_index().is_some() {
        return work();
    }
    if IS_AWAKE.swap(true, Ordering::Acquire) {
        return rayon::scope(|_| work());
    }
    let _awake = SetOnDrop { flag: &IS_AWAKE, to: false };
    let is_done = AtomicBool::new(false);
    rayon::scope(|scope| {
        let (owner, is_done) = (rayon::current_thread_index(), &is_done);
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(move |_| {
                // The thread of `work` takes this task when it waits and finds no other: it must not stay here.
                if rayon::current_thread_index() != owner {
                    stay_awake(is_done);
                }
            });
        }
        let _done = SetOnDrop { flag: is_done, to: true };
        work()
    })
}

/// Executes tasks of the pool until `is_done`, or until there was none for about a millisecond. The limit also keeps two
/// passes from waiting for each other: a thread may have started this amid another pass's task.
fn stay_awake(is_done: &AtomicBool) {
    let (mut pause, mut waited) = (1, 0);
    while !is_done.load(Ordering::Acquire) && waited < LONGEST_WAIT {
        if rayon::yield_now() == Some(Yield::Executed) {
            (pause, waited) = (1, 0);
            continue;
        }
        for _ in 0..pause {
            spin_loop();
        }
        waited += pause;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

/// Sets a flag when it is dropped, also by a panic.
struct SetOnDrop<'a> {
    flag: &'a AtomicBool,
    to: bool,
}

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.flag.store(self.to, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn pass(n: usize) -> usize {
        in_pool(&Device::flex(), || {
            let sums = (0..50).map(|_| (0..n).into_par_iter().sum::<usize>());
            sums.sum::<usize>() + in_pool(&Device::flex(), || (0..n).into_par_iter().sum::<usize>())
        })
    }

    #[test]
    fn passes_side_by_side_nested_and_after_a_panic_end() {
        let caught = catch_unwind(AssertUnwindSafe(|| in_pool(&Device::flex(), || -> usize { panic!("in the pass") })));
        assert!(caught.is_err());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..20).for_each(|_| assert_eq!(pass(1000), 51 * 499_500)));
            }
        });
        let in_a_loop: Vec<usize> = (0..20).into_par_iter().map(|_| pass(1000)).collect();
        assert_eq!(in_a_loop, [51 * 499_500; 20]);
    }
}
