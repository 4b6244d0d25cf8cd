//! Fuzzing with seeded, damaged inputs of every parser that reads files of other programs.
//!
//! ```sh
//! cargo run --release -p burgess-fuzz -- --inputs 1000000         # all targets, cheap ones get most
//! cargo run --release -p burgess-fuzz -- gguf torch --inputs 5000 --seed 7
//! cargo run --release -p burgess-fuzz -- gguf --file FAILURE      # one input again
//! ```
//!
//! An input is made from files of the repository (`corpus/` here, and the goldens) by a few seeded changes, so that
//! target, seed and number determine it. Each target runs in its own process with limited address space. It fails when
//! an input
//!
//! - panics outside [`burgess_base::guard`], or ends the process (stack overflow, failed allocation, abort);
//! - takes more than [`MEMORY`] of address space or more than [`SECONDS`] of processor time;
//! - is rejected with a message that is longer than [`LONGEST`] or contains control characters.
//!
//! The input is saved, and the command that runs it again is printed. Inputs of fixed failures are kept in
//! `corpus/TARGET/`.

pub mod child;
pub mod corpus;
pub mod input_dir;
pub mod mutate;
pub mod run;
pub mod targets;

use burgess_base::Result;
use input_dir::InputDir;
use mutate::MutationForm;
use std::path::Path;

/// Limit of a process's address space in bytes, including the binary, its stacks and the corpus. Inputs are below 1 MB.
pub const MEMORY: u64 = 2 << 30;

/// Limit of processor time for one input, in seconds.
pub const SECONDS: u64 = 10;

/// Largest length of an error's text or hint in characters, without the path of the inputs' directory. Each of its
/// lines has at most 2000; lists of tensors and of keys have several lines.
pub const LONGEST: usize = 8000;

/// One input of a target.
#[derive(Debug, Clone, Copy)]
pub struct FuzzInput<'a> {
    /// Contents of the input.
    pub bytes: &'a [u8],
    /// Path of the file from which the input was made; files that belong to it lie beside it.
    pub origin: &'a Path,
}

impl FuzzInput<'_> {
    /// Name of the file from which the input was made.
    pub fn name(&self) -> String {
        self.origin.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A parser under test, and how its inputs are made.
pub struct FuzzTarget {
    /// Name on the command line.
    pub name: &'static str,
    /// Description of the files that the parser reads.
    pub about: &'static str,
    /// Patterns of seed files in the repository, besides `corpus/NAME/*`; see [`corpus::load`].
    pub corpus: &'static [&'static str],
    /// Dictionary of words of the format.
    pub words: &'static [&'static str],
    /// How inputs are damaged.
    pub form: MutationForm,
    /// Weight by which inputs are divided among targets: about inversely proportional to the time of one input.
    pub share: u32,
    /// Parses an input; its error, and what it tells the `InputDir`, are checked.
    pub run: fn(&FuzzInput<'_>, &InputDir) -> Result<()>,
}

/// Finds the targets with these names; all without names.
///
/// # Errors
/// There is no target of a name; the hint lists all.
pub fn find(names: &[String]) -> Result<Vec<&'static FuzzTarget>> {
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
