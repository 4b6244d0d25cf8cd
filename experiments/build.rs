//! Lists the built-in studies from the folder `studies/`, so that adding one is adding a file, the shipped weights, and the versions of the
//! libraries that results depend on.

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

/// What computes, reads images, splits text and reads weights.
const LIBRARIES: [&str; 5] = ["burn", "burn-flex", "image", "safetensors", "tokenizers"];

/// `versions.rs`: name and version of each library that `Cargo.lock` has, the newest where it has several, and of the
/// compiler.
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

/// `zoo.rs`: path in the zoo and contents of the shipped weights, so that the program works wherever it is copied.
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
