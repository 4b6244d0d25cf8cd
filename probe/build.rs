//! Lists the cards of language models in the folder `zoo/llms/`, so that a new card is only a new file.

use std::{env, fs, path::PathBuf};

fn main() {
    let zoo = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("zoo/llms");
    println!("cargo::rerun-if-changed={}", zoo.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&zoo)
        .expect("the folder zoo/llms/ exists")
        .map(|entry| entry.expect("the folder zoo/llms/ is readable").path())
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
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("llms.rs");
    fs::write(out, format!("&[\n{rows}]")).expect("OUT_DIR is writable");
}
