//! Parallel execution of independent tasks, each in a thread pool of its own.
//!
//! Small models gain little from several threads in one matrix product and much from several models at once. A pool per
//! worker also fixes the number of threads of each computation, so that results do not depend on what else runs.

use burgess_base::{Context, Error, Result};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Number of workers and number of threads of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parallelism {
    /// Number of workers.
    pub workers: usize,
    /// Number of threads of each worker.
    pub threads: usize,
}

impl Parallelism {
    /// One worker per core, or `jobs` workers, with one thread each. The thread count is always one, because results
    /// depend on it.
    pub fn of_this_machine(jobs: Option<usize>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Parallelism { workers: jobs.unwrap_or(cores).max(1), threads: 1 }
    }

    /// As [`of_this_machine`](Self::of_this_machine), but with one worker per run if there are at most 1.5 runs per
    /// core: on two cores, three runs at once take the time of 1.5 runs, but two runs and then one take that of two.
    pub fn for_runs(jobs: Option<usize>, runs: usize) -> Self {
        let share = Self::of_this_machine(jobs);
        let beside = jobs.is_none() && runs > share.workers && 2 * runs <= 3 * share.workers;
        if beside { Parallelism { workers: runs, ..share } } else { share }
    }
}

/// Workers that belong to devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Index of each worker's device; in turn over the devices, so that the first workers use different ones.
    pub devices: Vec<usize>,
    /// Number of CPU threads of each worker.
    pub threads: usize,
}

impl Workers {
    /// `workers` workers in turn over `devices` devices; at least one of each.
    pub fn over(devices: usize, workers: usize, threads: usize) -> Self {
        let devices = (0..workers.max(1)).map(|worker| worker % devices.max(1)).collect();
        Workers { devices, threads }
    }

    /// Largest number of workers of one device.
    pub fn per_device(&self) -> usize {
        // The workers are dealt out in turn, so the first device has the most.
        self.devices.iter().filter(|device| **device == 0).count()
    }
}

impl From<Parallelism> for Workers {
    fn from(share: Parallelism) -> Self {
        Workers::over(1, share.workers, share.threads)
    }
}

/// Does `work` for every task and returns the results in the order of the tasks. A panic of `work` becomes an error of
/// its task and does not affect the others.
pub fn each<T: Send, R: Send>(
    share: Parallelism,
    tasks: Vec<T>,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<Result<R>>> {
    each_on(&share.into(), tasks, |_, task| work(task))
}

/// As [`each`], with workers that belong to devices: `work` gets the index of its worker's device. Each worker takes
/// the next task as soon as it has done its last, so a faster device does more tasks.
pub fn each_on<T: Send, R: Send>(
    workers: &Workers,
    tasks: Vec<T>,
    work: impl Fn(usize, T) -> Result<R> + Sync,
) -> Result<Vec<Result<R>>> {
    let count = tasks.len();
    let queue: Mutex<VecDeque<(usize, T)>> = Mutex::new(tasks.into_iter().enumerate().collect());
    let outcomes: Mutex<Vec<Option<Result<R>>>> = Mutex::new((0..count).map(|_| None).collect());
    let pool = |device: &usize| {
        rayon::ThreadPoolBuilder::new().num_threads(workers.threads).build().map(|pool| (*device, pool))
    };
    let pools: Vec<(usize, rayon::ThreadPool)> = (workers.devices.iter().take(count).map(pool))
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::failed(e.to_string()))
        .context("starting worker threads")?;
    std::thread::scope(|scope| {
        let (queue, outcomes, work) = (&queue, &outcomes, &work);
        for (device, pool) in &pools {
            scope.spawn(move || {
                pool.install(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some((index, task)) = next else { break };
                        let outcome = guarded(|| work(*device, task));
                        outcomes.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(outcome);
                    }
                });
            });
        }
    });
    Ok(outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .map(|o| o.unwrap_or_else(|| Err(Error::failed("the worker ended before this task"))))
        .collect())
}

/// Runs `work` and turns a panic, for instance of a library, into an error.
pub fn guarded<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::failed(format!("internal error: {text}"))
            .hint("this is a bug of Burgess or of a library that it uses: please report it with the command you ran"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_runs_too_many_run_beside_the_others() {
        let cores = Parallelism::of_this_machine(None).workers;
        let half_more = cores + cores / 2;
        assert_eq!(Parallelism::for_runs(None, half_more).workers, half_more);
        assert_eq!(Parallelism::for_runs(None, half_more + 1).workers, cores);
        assert_eq!(Parallelism::for_runs(None, 1).workers, cores);
        assert_eq!(Parallelism::for_runs(Some(2), 3).workers, 2);
    }

    #[test]
    fn workers_are_dealt_out_over_the_devices() -> Result<()> {
        let workers = Workers::over(2, 3, 1);
        assert_eq!((workers.devices.as_slice(), workers.per_device()), (&[0, 1, 0][..], 2));
        assert_eq!(Workers::over(4, 2, 1).devices, [0, 1]);
        assert_eq!(Workers::over(1, 0, 1).devices, [0]);
        let both = std::sync::Barrier::new(2);
        // Two tasks that wait for each other are done only by two workers.
        let devices = each_on(&Workers::over(2, 2, 1), vec![(), ()], |device, ()| {
            both.wait();
            Ok(device)
        })?;
        let mut devices = devices.into_iter().collect::<Result<Vec<_>>>()?;
        devices.sort_unstable();
        assert_eq!(devices, [0, 1]);
        Ok(())
    }

    #[test]
    fn outcomes_keep_their_order_and_a_panic_stays_alone() -> Result<()> {
        let share = Parallelism { workers: 3, threads: 1 };
        let outcomes = each(share, (0..20).collect(), |i: i32| {
            assert_eq!(rayon::current_num_threads(), 1);
            if i == 7 {
                panic!("seven")
            }
            Ok(i * i)
        })?;
        assert_eq!(outcomes.len(), 20);
        for (i, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(v) => assert_eq!(v as usize, i * i),
                Err(e) => assert!(i == 7 && e.to_string().contains("seven"), "{e}"),
            }
        }
        Ok(())
    }
}
