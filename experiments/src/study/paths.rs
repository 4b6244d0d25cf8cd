//! Paths in a TOML file: they are relative to the file or, if nothing exists there, to the working directory, like
//! paths on the command line.

use crate::data::field;
use crate::study::arm::ArmEncoder;
use crate::study::{Data, Evaluator};
use burgess_base::{Error, Result};
use std::path::{Path, PathBuf};

/// Whether a string can only be a path: `./a`, `../a`, `/a`, `~/a`, `a/`, `a/b/c`, `C:\a`.
pub fn is_path(text: &str) -> bool {
    let named = text.starts_with(['.', '/', '~']) || text.ends_with('/') || text.contains('\\');
    // The revision or file of a repository may contain more slashes.
    named || text.split(['@', ':']).next().is_some_and(|name| name.matches('/').count() > 1)
}

/// Directory of a TOML file; `None` if it is the working directory.
pub fn folder(file: &Path) -> Option<PathBuf> {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty())?;
    let whole = parent.canonicalize().ok()?;
    let here = std::env::current_dir().and_then(|d| d.canonicalize()).ok();
    (here.as_ref() != Some(&whole)).then_some(whole)
}

/// Resolves `path`: below `folder` if it exists there, else as it is written, relative to the working directory.
///
/// # Errors
/// It exists at neither place; the error names both.
pub fn locate(folder: Option<&Path>, path: &Path, what: &str) -> Result<PathBuf> {
    let beside = folder.map(|folder| folder.join(path));
    if let Some(found) = beside.iter().find(|p| p.exists()) {
        return Ok(found.clone());
    }
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    Err(absent(folder, path, what))
}

/// Makes the error for a path that does not exist, with the places where it was looked for.
fn absent(folder: Option<&Path>, path: &Path, what: &str) -> Error {
    let shown = burgess_base::text::excerpt(&path.display().to_string(), 200);
    if path.starts_with("~") {
        return Error::usage(format!("{what} {shown} does not exist"))
            .hint("~ stands for the home directory only in a shell: write the whole path");
    }
    let here = std::env::current_dir().map(|d| d.join(path).display().to_string()).unwrap_or_default();
    let beside = folder.map(|f| f.join(path).display().to_string()).filter(|p| *p != here);
    let tried = match beside {
        _ if path.is_absolute() => String::new(),
        Some(beside) => format!(": there is neither {beside} nor {here}"),
        None => format!(": there is no {here}"),
    };
    Error::usage(format!("{what} {shown} does not exist{tried}"))
        .hint("paths in a study or run are relative to its file, or else to the working directory")
}

/// Resolves the paths of an evaluator.
///
/// # Errors
/// A path does not exist.
pub fn evaluator(folder: Option<&Path>, evaluator: &mut Evaluator) -> Result<()> {
    if !field::is_inside(&evaluator.llm) {
        let path = Path::new(&evaluator.llm);
        let beside = folder.is_some_and(|f| f.join(path).exists());
        if beside || is_path(&evaluator.llm) {
            evaluator.llm = text(&locate(folder, path, "the language model")?);
        }
    }
    match &mut evaluator.data {
        Data::World(_) | Data::Field(_) => {}
        Data::Directory(dir) => *dir = locate(folder, dir, "the data directory")?,
        Data::Files(files) => {
            if let Some(align) = &mut files.align {
                *align = locate(folder, align, "the file of conversations `align` =")?;
            }
            files.tune = locate(folder, &files.tune, "the file of conversations `tune` =")?;
            files.images = locate(folder, &files.images, "the directory of images `images` =")?;
        }
        Data::Published(published) => {
            if let Some(dir) = &mut published.images {
                // Missing published data are reported with everything else that must be fetched.
                *dir = locate(folder, dir, "").unwrap_or_else(|_| dir.clone());
            }
        }
    }
    Ok(())
}

/// Resolves the path of an encoder: a directory beside the TOML file precedes a card or repository of the same name.
///
/// # Errors
/// The source is written as a path, and the path does not exist or is no directory.
pub fn encoder(folder: Option<&Path>, encoder: &mut ArmEncoder) -> Result<()> {
    if field::is_inside(&encoder.source) || encoder.is_oracle() {
        return Ok(());
    }
    let path = Path::new(&encoder.source);
    if is_path(&encoder.source) || folder.is_some_and(|f| f.join(path).is_dir()) {
        let found = locate(folder, path, "the encoder")?;
        if !found.is_dir() {
            return Err(Error::usage(format!("the encoder {} is no directory", found.display())).hint(
                "an arm's encoder is a directory with weights and config.json; \
                 `burgess encode --encoder ID --weights FILE` takes a file",
            ));
        }
        encoder.source = text(&found);
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_looked_for_beside_the_file_and_then_here() -> Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("data"))?;
        let folder = Some(dir.path());
        assert_eq!(locate(folder, Path::new("data"), "x")?, dir.path().join("data"));
        // Tests run in the crate's directory.
        assert_eq!(locate(folder, Path::new("Cargo.toml"), "x")?, Path::new("Cargo.toml"));
        let e = locate(folder, Path::new("away"), "the data directory").unwrap_err();
        let here = std::env::current_dir()?.join("away");
        for place in [dir.path().join("away"), here] {
            assert!(e.to_string().contains(&place.display().to_string()), "{e}");
        }
        assert!(e.exit_code() == 2 && e.hint_text().is_some());
        assert!(locate(None, Path::new("~/x"), "x").unwrap_err().hint_text().is_some_and(|h| h.contains("whole path")));
        Ok(())
    }

    #[test]
    fn an_encoder_that_is_written_as_a_path_is_one() -> Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("vit"))?;
        std::fs::write(dir.path().join("f.safetensors"), "")?;
        let read = |text: &str| -> Result<String> {
            let mut e: ArmEncoder = text.parse()?;
            encoder(Some(dir.path()), &mut e)?;
            Ok(e.source)
        };
        assert_eq!(read("vit@7")?, dir.path().join("vit").display().to_string());
        assert_eq!(read("./vit")?, dir.path().join("./vit").display().to_string());
        assert_eq!((read("nano-clip")?, read("owner/name@main")?), ("nano-clip".into(), "owner/name@main".into()));
        assert_eq!(read("{field}/vit")?, "{field}/vit");
        for text in ["./vit-tiny", "../a/b", "/no/such", "a/b/c", "vits/"] {
            assert!(read(text).is_err_and(|e| e.to_string().contains("does not exist")), "{text}");
        }
        assert!(read("./f.safetensors").is_err_and(|e| e.to_string().contains("is no directory")));
        Ok(())
    }

    #[test]
    fn what_can_only_be_a_path() {
        for text in ["./a", "../a", "/a", "~/a", "a/", "a/b/c", "a\\b"] {
            assert!(is_path(text), "{text}");
        }
        for text in ["a", "owner/name", "nano-clip", "a.gguf", "owner/name@refs/pr/1", "owner/name:sub/a.gguf"] {
            assert!(!is_path(text), "{text}");
        }
    }
}
