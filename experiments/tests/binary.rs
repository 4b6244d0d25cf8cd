//! Cargo builds a package's binary for its tests only where the package has integration tests. The end-to-end
//! tests of `burgess-tests` run that binary, so this file is what makes `cargo test` build it.

use std::process::Command;

#[test]
fn the_binary_says_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_burgess")).arg("--version").output().expect("burgess starts");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), concat!("burgess ", env!("CARGO_PKG_VERSION")));
}
