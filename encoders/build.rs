//! Embeds every card in `zoo/` into the library, so that adding an encoder is adding a file.
//!
//! The whole folder is watched, because Cargo notices new files only so; new weights in `zoo/weights` therefore rebuild
//! the library too, which is rare.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=zoo");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut cards: Vec<PathBuf> = Vec::new();
    for item in fs::read_dir(root.join("zoo"))? {
        let path = item?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            cards.push(path);
        }
    }
    // The order of a directory differs between machines, that of the list must not: by id, which is the file name
    // without its extension.
    cards.sort_by(|a, b| a.file_stem().cmp(&b.file_stem()));
    let mut code = String::from("/// File name and text of every card, sorted.\nstatic CARDS: &[(&str, &str)] = &[\n");
    for path in &cards {
        let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let _ = writeln!(code, "    ({name:?}, include_str!({:?})),", path.display().to_string());
    }
    code.push_str("];\n");
    fs::write(Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("zoo.rs"), code)
}
