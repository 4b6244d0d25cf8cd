//! Damaged inputs, seeded, for every parser that reads files of other programs.
//!
//! ```sh
//! cargo run --release -p burgess-fuzz -- --inputs 1000000         # all targets, cheap ones get most
//! cargo run --release -p burgess-fuzz -- gguf torch --inputs 5000 --seed 7
//! cargo run --release -p burgess-fuzz -- gguf --file FAILURE      # one input again
//! ```
//!
//! Every input is made of files of the repository (`corpus/` here, the goldens) by a few seeded changes, so that target, seed
//! and number name it. Targets run in a process of their own, whose address space is limited. A target fails when an input
//!
//! - panics outside of [`burgess_base::guard`], or ends the process (stack overflow, failed allocation, abort);
//! - takes more than [`MEMORY`] of address space or more than [`SECONDS`] of processor time;
//! - is refused with a message longer than [`LONGEST`], or with control characters in it.
//!
//! The input is saved and the command that runs it again is printed. A failure that was mended leaves its input in
//! `corpus/TARGET/`.

pub mod child;
pub mod corpus;
pub mod mutate;
pub mod place;
pub mod run;
pub mod targets;

use burgess_base::Result;
use mutate::Form;
use place::Place;
use std::path::Path;

/// The most address space that a process may have, in bytes; inputs are below 1 MB. The binary itself, its stacks and the
/// corpus are part of it.
pub const MEMORY: u64 = 2 << 30;

/// The most processor time for one input, in seconds.
pub const SECONDS: u64 = 10;

/// The most characters of an error's text or hint, without the name of the directory in which the inputs lie. Each of
/// its lines has at most 2000; lists of tensors and of keys have several.
pub const LONGEST: usize = 8000;

/// One input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The file that it was made of; what belongs to it lies beside.
    pub origin: &'a Path,
}

impl Input<'_> {
    /// The name of the file that it was made of.
    pub fn name(&self) -> String {
        self.origin.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A parser, and how its inputs are made.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// Files of the repository to begin with, besides `corpus/NAME/*`; see [`corpus::load`].
    pub corpus: &'static [&'static str],
    /// Words of the format.
    pub words: &'static [&'static str],
    /// How inputs are damaged.
    pub form: Form,
    /// Its share of the inputs: about one over the time of one.
    pub share: u32,
    /// Reads an input; errors and what is told are checked.
    pub run: fn(&Input<'_>, &Place) -> Result<()>,
}

/// The targets of these names, or all.
///
/// # Errors
/// A name that is none, with the nearest ones.
pub fn find(names: &[String]) -> Result<Vec<&'static Target>> {
    let all = || targets::TABLES.iter().flat_map(|table| table.iter());
    if names.is_empty() {
        return Ok(all().collect());
    }
    let one = |name: &String| {
        all().chain(targets::FAULTS).find(|t| t.name == name).ok_or_else(|| {
            let known: Vec<&str> = all().map(|t| t.name).collect();
            burgess_base::Error::usage(format!("no target is called `{name}`")).hint(known.join(", "))
        })
    };
    names.iter().map(one).collect()
}
