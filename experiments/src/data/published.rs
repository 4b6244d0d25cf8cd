//! Training data of published studies: finds the files of their repositories in the Hugging Face cache.

use crate::data::benchmarks;
use crate::data::directory::DataDirectory;
use crate::machine::paths;
use crate::study::{PublishedCorpus, PublishedData};
use burgess_base::{Error, Result, digest};
use burgess_encoders::hub;
use std::path::PathBuf;

impl PublishedCorpus {
    /// Returns the path of the file in the Hugging Face cache.
    ///
    /// # Errors
    /// The file is not in the cache, or `file` is not a relative path below the dataset's folder.
    pub fn locate(&self) -> Result<PathBuf> {
        if !hub::is_plain(&self.file) {
            return Err(Error::usage(format!("`{}` is not a path inside the dataset {}", self.file, self.repository))
                .hint("give a relative path without `..`"));
        }
        let folder = benchmarks::cached_dataset(&self.repository)?;
        if let Some(file) = folder.map(|folder| folder.join(&self.file)).filter(|file| file.is_file()) {
            return Ok(file);
        }
        Err(Error::failed(format!(
            "{} of the dataset {} is not on this machine; looked in {}",
            self.file,
            self.repository,
            hub::cache()?.display()
        ))
        .hint(format!(
            "run `hf download --repo-type dataset {} {}`, or name your own files in [evaluator.data.files]",
            self.repository, self.file
        )))
    }
}

/// Opens the data; conversations and images must be on this machine.
pub fn open(published: &PublishedData) -> Result<DataDirectory> {
    let dir = match &published.images {
        Some(dir) => dir.clone(),
        None => paths::cache()?.join("published"),
    };
    let align = published.align.as_ref().map(PublishedCorpus::locate).transpose()?;
    let tune = published.tune.locate()?;
    if !dir.is_dir() {
        return Err(Error::failed(format!("the directory of images {} does not exist", dir.display()))
            .hint("unpack the datasets' archives there, or set `images` in [evaluator.data.published]"));
    }
    // The links of a snapshot resolve to files named by their digest, so the path identifies the contents.
    let name = |file: &PathBuf| std::fs::canonicalize(file).map(|f| f.display().to_string());
    let digest = digest::of_value(&(align.as_ref().map(name).transpose()?, name(&tune)?, published))?;
    Ok(DataDirectory {
        dir,
        align,
        tune,
        digest,
        earlier: None,
        generated: false,
        per_source: published.tune.per_source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_an_error_whose_hint_downloads_it() {
        let corpus = PublishedCorpus {
            repository: "owner/data".into(),
            file: "a/b.jsonl".into(),
            samples: 1,
            text_tokens: 1,
            per_source: None,
        };
        let e = corpus.locate().unwrap_err();
        assert!(e.hint_text().is_some_and(|h| h.contains("owner/data a/b.jsonl")));
        assert!(PublishedCorpus { file: "../x".into(), ..corpus }.locate().is_err_and(|e| e.exit_code() == 2));
    }
}
