//! Embeds every benchmark file in `benchmarks/` into the library, so that adding a declared benchmark is adding a file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=benchmarks");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut files: Vec<PathBuf> = Vec::new();
    for item in fs::read_dir(root.join("benchmarks"))? {
        let path = item?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    // The order of a directory differs between machines, that of the list must not.
    files.sort_by(|a, b| a.file_stem().cmp(&b.file_stem()));
    let mut code =
        String::from("/// Name and text of every benchmark file, sorted.\nstatic FILES: &[(&str, &str)] = &[\n");
    for path in &files {
        let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let _ = writeln!(code, "    ({name:?}, include_str!({:?})),", path.display().to_string());
    }
    code.push_str("];\n");
    fs::write(Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("benchmarks.rs"), code)
}
