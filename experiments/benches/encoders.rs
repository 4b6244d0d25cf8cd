//! Every kind of published encoder at its true size, batch 1 and 8: `cargo bench -p burgess`, which is
//! `burgess bench encoders`. A large ConvNeXt takes minutes.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match Command::new(env!("CARGO_BIN_EXE_burgess")).args(["bench", "encoders"]).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: starting burgess\n  cause: {e}");
            ExitCode::FAILURE
        }
    }
}
