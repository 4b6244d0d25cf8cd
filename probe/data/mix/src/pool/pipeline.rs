//! Reads a file in stretches that several threads parse, and hands their entries on in the order of the file.
//!
//! Each worker takes a free buffer, then the next stretch, and parses it while others read on. The number of buffers
//! bounds the memory; numbers of stretches keep the order.

use super::block::{Block, FileDefaults};
use super::split::{Splitter, Stretch, parse};
use burgess_base::{Result, guard};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A buffer for a stretch and what is parsed from it.
#[derive(Default)]
struct Job {
    stretch: Stretch,
    block: Block,
}

/// What a worker sends.
enum Message<T> {
    /// A parsed stretch with its number.
    Parsed(u64, Box<Job>, Result<T>),
    /// The number of stretches of the file.
    End(u64),
}

/// The splitter with the number of the next stretch.
struct Source<'s> {
    splitter: &'s mut dyn Splitter,
    next: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is done with the parsed blocks of a file.
pub(super) struct Handling<'h, T> {
    pub defaults: &'h FileDefaults,
    /// Offsets of the wanted entries, sorted; `None` for all.
    pub wanted: Option<&'h [u64]>,
    /// Called on the threads that parse.
    pub work: &'h (dyn Fn(&Block) -> T + Sync),
    /// Called with the results in the order of the file.
    pub each: &'h mut dyn FnMut(&Block, T) -> Result<()>,
}

impl<T: Send> Handling<'_, T> {
    /// Parses a stretch and works on it. Both call code of others (parsers, the caller's function): a panic there must
    /// not leave the other threads waiting.
    fn handle(&self, job: &mut Job) -> Result<T> {
        guarded(self.defaults, self.wanted, self.work, job)
    }

    /// Reads a whole file on `threads` threads.
    ///
    /// # Errors
    /// Any error of `each`, which ends the reading; or a panic in `work`.
    pub fn run(self, splitter: &mut dyn Splitter, threads: usize) -> Result<()> {
        if threads < 2 {
            let mut job = Job::default();
            while splitter.next(&mut job.stretch) {
                let out = self.handle(&mut job)?;
                (self.each)(&job.block, out)?;
                job.recycle();
            }
            return Ok(());
        }
        let source = Mutex::new(Source { splitter, next: 0 });
        let (give, free) = channel::<Box<Job>>();
        for _ in 0..2 * threads + 2 {
            // The receiver lives until the threads end.
            let _ = give.send(Box::default());
        }
        let free = Mutex::new(free);
        let (defaults, wanted, work) = (self.defaults, self.wanted, self.work);
        std::thread::scope(|scope| {
            let (done, parsed) = channel::<Message<T>>();
            for _ in 0..threads {
                let (source, free, done) = (&source, &free, done.clone());
                scope.spawn(move || {
                    loop {
                        let Ok(mut job) = lock(free).recv() else { break };
                        let mut from = lock(source);
                        let number = from.next;
                        if !from.splitter.next(&mut job.stretch) {
                            drop(from);
                            let _ = done.send(Message::End(number));
                            break;
                        }
                        from.next += 1;
                        drop(from);
                        let out = guarded(defaults, wanted, work, &mut job);
                        if done.send(Message::Parsed(number, job, out)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(done);
            // Both ends are dropped when this returns, so that the workers end.
            let give = give;
            in_order(&parsed, |mut job, out| {
                (self.each)(&job.block, out?)?;
                job.recycle();
                let _ = give.send(job);
                Ok(())
            })
        })
    }
}

fn guarded<T>(
    defaults: &FileDefaults,
    wanted: Option<&[u64]>,
    work: &(dyn Fn(&Block) -> T + Sync),
    job: &mut Job,
) -> Result<T> {
    guard::third_party(&defaults.name, || {
        parse(&mut job.stretch, &mut job.block, defaults, wanted);
        work(&job.block)
    })
}

impl Job {
    /// Gives the memory of the block's text back to the stretch.
    fn recycle(&mut self) {
        let text = std::mem::take(&mut self.block.text).into_bytes();
        self.block.clear();
        if text.capacity() <= 8 * super::split::BLOCK {
            self.stretch.bytes = text;
        }
    }
}

/// Takes the parsed stretches in the order of their numbers.
fn in_order<T>(parsed: &Receiver<Message<T>>, mut each: impl FnMut(Box<Job>, Result<T>) -> Result<()>) -> Result<()> {
    let mut waiting: BTreeMap<u64, (Box<Job>, Result<T>)> = BTreeMap::new();
    let (mut next, mut end) = (0, None);
    while end != Some(next) {
        // Without a message, every worker has ended.
        let Ok(message) = parsed.recv() else { break };
        match message {
            Message::Parsed(number, job, out) => {
                waiting.insert(number, (job, out));
            }
            Message::End(number) => end = Some(number),
        }
        while let Some((job, out)) = waiting.remove(&next) {
            next += 1;
            each(job, out)?;
        }
    }
    Ok(())
}
