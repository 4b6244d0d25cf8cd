//! Lists the built-in studies from the folder `studies/`, so that adding one is adding a file.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let studies = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("studies");
    let mut files = Vec::new();
    list(&studies, &mut files);
    files.sort();
    let rows: String = files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&studies).expect("it was found there").with_extension("");
            let name = name.to_string_lossy().replace('\\', "/");
            format!("    ({name:?}, include_str!({path:?})),\n")
        })
        .collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("studies.rs");
    fs::write(out, format!("&[\n{rows}]")).expect("OUT_DIR is writable");
}

/// Studies in a folder and the folders in it.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder).expect("the folder studies/ is readable") {
        let path = entry.expect("the folder studies/ is readable").path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
}
