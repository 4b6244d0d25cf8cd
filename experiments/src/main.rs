//! The `burgess` command. See `burgess --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    burgess::cli::main()
}
