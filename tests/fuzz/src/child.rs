//! The child process that runs a target's inputs. Before each input it writes the input's number to a file, so that the
//! parent process knows which input ended it.

use crate::input_dir::InputDir;
use crate::{FuzzInput, FuzzTarget, LONGEST, corpus, mutate};
use burgess_base::stream::stream;
use burgess_base::{Error, Result};
use rand::Rng;
use std::fs::File;
use std::io::{Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Exit code after a panic.
pub const PANIC: i32 = 101;
/// Exit code after a message that is too long or contains control characters.
pub const MESSAGE: i32 = 3;

/// Name of the file with the number of the present input, and how many before it were parsed and rejected.
pub const NUMBER: &str = "number";

/// The inputs of a target under a seed: first the corpus files themselves, then damaged ones.
pub struct Inputs {
    target: &'static FuzzTarget,
    seeds: Vec<corpus::SeedFile>,
    seed: u64,
}

impl Inputs {
    /// Reads the corpus of a target.
    ///
    /// # Errors
    /// The corpus cannot be read or is empty.
    pub fn new(target: &'static FuzzTarget, seed: u64) -> Result<Self> {
        let seeds = corpus::load(target.name, target.corpus)?;
        match seeds.is_empty() {
            true => Err(Error::failed(format!("the target {} has no corpus", target.name))),
            false => Ok(Self { target, seeds, seed }),
        }
    }

    /// Returns an input's contents and the path of the file from which it was made.
    pub fn get(&self, number: u64) -> (Vec<u8>, PathBuf) {
        let plain = usize::try_from(number).ok().and_then(|n| self.seeds.get(n));
        if let Some(plain) = plain {
            return (plain.bytes.clone(), plain.origin.clone());
        }
        let mut random = stream(&format!("fuzz/{}/{number}", self.target.name), self.seed);
        let mut one = || (random.next_u64() % self.seeds.len() as u64) as usize;
        let (Some(first), Some(other)) = (self.seeds.get(one()), self.seeds.get(one())) else {
            return Default::default();
        };
        let form = self.target.form;
        let bytes = mutate::mutated(&mut random, form, &first.bytes, &other.bytes, self.target.words);
        (bytes, first.origin.clone())
    }
}

/// Runs a range of inputs one after the other, and counts the parsed and the rejected ones. An unguarded panic ends the
/// process.
///
/// # Errors
/// The corpus cannot be read, or `dir` cannot be written.
pub fn inputs(target: &'static FuzzTarget, seed: u64, numbers: Range<u64>, dir: &Path) -> Result<()> {
    end_on_panic();
    let inputs = Inputs::new(target, seed)?;
    let mut number_file = File::create(dir.join(NUMBER))?;
    let place = InputDir::new(dir);
    let (mut read, mut refused) = (0u64, 0u64);
    for number in numbers {
        number_file.rewind()?;
        number_file.write_all(&[number, read, refused].map(u64::to_le_bytes).concat())?;
        let (bytes, origin) = inputs.get(number);
        match one(target, &bytes, &origin, &place) {
            Ok(()) => read += 1,
            Err(_) => refused += 1,
        }
    }
    number_file.rewind()?;
    number_file.write_all(&[u64::MAX, read, refused].map(u64::to_le_bytes).concat())?;
    Ok(())
}

/// Runs one input from a file.
///
/// # Errors
/// The parser rejects the input.
pub fn file(target: &'static FuzzTarget, path: &Path, origin: &Path, dir: &Path) -> Result<()> {
    end_on_panic();
    one(target, &std::fs::read(path)?, origin, &InputDir::new(dir))
}

fn one(target: &FuzzTarget, bytes: &[u8], origin: &Path, place: &InputDir) -> Result<()> {
    let outcome = (target.run)(&FuzzInput { bytes, origin }, place);
    if let Err(e) = &outcome {
        place.tell(e.to_string());
        place.tell(e.hint_text().unwrap_or_default());
    }
    let here = place.dir().display().to_string();
    for text in place.told() {
        let text = text.replace(&here, "");
        let length = text.chars().count();
        let steers = text.split('\n').any(|line| burgess_base::text::escaped(line) != line);
        if length > LONGEST || steers {
            let what = if steers { "control characters" } else { "too long" };
            // The excerpt of the message distinguishes kinds of failures.
            eprintln!("message: {what}, {length} characters: {}", burgess_base::text::excerpt(&text, 300));
            std::process::exit(MESSAGE);
        }
    }
    outcome
}

/// Installs a panic hook that ends the process. It must come before the hook of [`burgess_base::guard`], which calls
/// this one for panics that it does not catch.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        eprintln!("{}", std::backtrace::Backtrace::capture());
        std::process::exit(PANIC);
    }));
}
