//! Models that are split into several GGUF files of one directory, `NAME-00001-of-00003.gguf` and so on. The first file
//! contains the model's metadata and may contain no tensors. Source: `gguf-split` of llama.cpp.

use super::metadata::Metadata;
use burgess_base::{Error, Result};
use std::path::Path;

/// Parses the file name of a part: `NAME-00001-of-00003.gguf` gives `NAME`, 1 and 3.
fn numbered(name: &str) -> Option<(&str, usize, usize)> {
    let (front, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = front.rsplit_once('-')?;
    let parsed = |digits: &str| {
        (digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
    };
    let (number, count): (usize, usize) = (parsed(number)?, parsed(count)?);
    (1..=count).contains(&number).then_some((stem, number, count))
}

/// Whether a file of this name is the first part of a model or a whole model.
pub(in crate::checkpoint) fn is_first(name: &str) -> bool {
    numbered(name).is_none_or(|(_, number, _)| number == 1)
}

/// Returns the names of all files of the model whose first file has this name; usually only this one.
pub fn gguf_parts(name: &str) -> Vec<String> {
    match numbered(name) {
        Some((stem, 1, count)) => (1..=count).map(|i| format!("{stem}-{i:05}-of-{count:05}.gguf")).collect(),
        _ => vec![name.to_string()],
    }
}

/// Returns the names of the other files of the model, whose number is in the metadata of the first file.
///
/// # Errors
/// The file is not the first one, or its name does not match the number of files in its metadata.
pub(in crate::checkpoint) fn other_parts(metadata: Metadata, path: &Path) -> Result<Vec<String>> {
    let count = metadata.size("split.count")?.unwrap_or(1);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = metadata.size("split.no")?.unwrap_or(0).saturating_add(1);
    match numbered(&name) {
        Some((_, 1, named)) if named == count && number == 1 => Ok(gguf_parts(&name).into_iter().skip(1).collect()),
        Some((stem, _, named)) if number != 1 => {
            Err(Error::failed(format!("the file is part {number} of a model in {count} files"))
                .hint(format!("open the first of them: {stem}-00001-of-{named:05}.gguf")))
        }
        _ => Err(Error::failed(format!(
            "the file is part {number} of a model in {count} files, but its name states another number"
        ))
        .hint(format!("rename the files to their original names, NAME-00001-of-{count:05}.gguf and so on"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_from_one() {
        assert_eq!(gguf_parts("a-b-00001-of-00002.gguf"), ["a-b-00001-of-00002.gguf", "a-b-00002-of-00002.gguf"]);
        assert_eq!(gguf_parts("a.gguf"), ["a.gguf"]);
        assert!(is_first("a.gguf") && is_first("a-00001-of-00002.gguf") && !is_first("a-00002-of-00002.gguf"));
        for odd in ["a-0001-of-00002.gguf", "a-00003-of-00002.gguf", "a-00000-of-00002.gguf", "a-+0001-of-00002.gguf"] {
            assert_eq!(numbered(odd), None, "{odd}");
        }
    }
}
