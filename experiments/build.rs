//! Lists the built-in studies from the folder `studies/`, so that adding one is adding a file.

use std::{env, fs, path::PathBuf};

fn main() {
    let studies = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("studies");
    println!("cargo::rerun-if-changed={}", studies.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&studies)
        .expect("the folder studies/ exists")
        .map(|entry| entry.expect("the folder studies/ is readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    let rows: String = files
        .iter()
        .map(|path| {
            let name = path.file_stem().expect("a file has a name").to_string_lossy();
            format!("    ({name:?}, include_str!({path:?})),\n")
        })
        .collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("studies.rs");
    fs::write(out, format!("&[\n{rows}]")).expect("OUT_DIR is writable");
}
