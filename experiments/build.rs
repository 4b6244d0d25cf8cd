//! Generates three lists: the built-in studies (all files of `studies/`), the shipped weights, and the versions of the
//! libraries on which results depend.

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
    versions();
    zoo();
}

/// Libraries whose versions results record: for computing, images, tokenizers and weights.
const LIBRARIES: [&str; 5] = ["burn", "burn-flex", "image", "safetensors", "tokenizers"];

/// Writes `versions.rs`: name and version of each library in `Cargo.lock` (the newest of several), and of the compiler.
fn versions() {
    let lock = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let text = fs::read_to_string(&lock).expect("the workspace has a Cargo.lock");
    let mut rows = String::new();
    for name in LIBRARIES {
        let entries = text.split("[[package]]").filter(|entry| entry.contains(&format!("\nname = \"{name}\"\n")));
        let versions = entries.filter_map(|entry| entry.split("\nversion = \"").nth(1)?.split('"').next());
        let number = |version: &&str| -> Vec<u64> { version.split(['.', '-']).map_while(|n| n.parse().ok()).collect() };
        if let Some(version) = versions.max_by_key(number) {
            rows += &format!("    ({name:?}, {version:?}),\n");
        }
    }
    let compiler = env::var_os("RUSTC").expect("cargo sets it");
    let version = std::process::Command::new(compiler).arg("--version").output().expect("the compiler runs");
    rows += &format!("    (\"rustc\", {:?}),\n", String::from_utf8_lossy(&version.stdout).trim());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("versions.rs");
    fs::write(out, format!("&[\n{rows}]")).expect("OUT_DIR is writable");
}

/// Lists the studies in a folder and its subfolders.
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

/// Writes `zoo.rs`: path in the zoo and contents of the shipped weights, so that the binary needs no other files.
fn zoo() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let mut rows = String::new();
    for (prefix, folder) in [("weights", "encoders/zoo/weights"), ("llm/nano-lm", "probe/zoo/nano-lm")] {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        let entries = fs::read_dir(&folder).expect("the folders of shipped weights are readable");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("they are readable").path()).collect();
        files.retain(|path| path.is_file());
        files.sort();
        for path in files {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            let path = fs::canonicalize(&path).expect("it was found there");
            rows += &format!("    ({:?}, include_bytes!({path:?})),\n", format!("{prefix}/{name}"));
        }
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("zoo.rs");
    fs::write(out, format!("&[\n{rows}]")).expect("OUT_DIR is writable");
}
