//! Training data of published studies, named by their repositories on the hub: where the files lie on this machine, and
//! the paper's limit on the number of conversations per source.

use crate::data::benchmarks;
use crate::data::directory::DataDir;
use burgess_base::{Error, Result, digest};
use burgess_encoders::hub;
use burgess_probe::data::conversation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};

/// The training data of a published study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Conversations of the align stage (adapter data).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<Corpus>,
    /// Conversations of the tune stage (instruction data).
    pub tune: Corpus,
    /// Directory of the images, unpacked as the dataset cards say, and of `bench/` with the benchmarks. Default:
    /// `published/` in the cache of Burgess.
    #[serde(default, alias = "pictures", skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
}

/// One file of conversations in a dataset repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// Repository of the dataset on the hub.
    pub repository: String,
    /// Path of the file in the repository.
    pub file: String,
    /// Number of conversations that are used, for estimates.
    pub samples: u64,
    /// Mean number of text tokens of a conversation, for estimates.
    pub text_tokens: usize,
    /// Largest number of conversations with an image per source, drawn with a fixed seed; conversations without an
    /// image are all used (the paper's threshold t, section 4.2). All are used if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_source: Option<usize>,
}

impl Corpus {
    /// Path of the file in the Hugging Face cache.
    ///
    /// # Errors
    /// The file is not in the cache, or `file` is no plain relative path.
    pub fn locate(&self) -> Result<PathBuf> {
        if !hub::is_plain(&self.file) {
            return Err(Error::usage(format!("`{}` cannot be a file of {}", self.file, self.repository))
                .hint("name a file of the dataset, relative to its folder"));
        }
        let folder = benchmarks::dataset(&self.repository)?;
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
            "hf download --repo-type dataset {} {}; or name files of your own with [evaluator.data.files]",
            self.repository, self.file
        )))
    }
}

/// Opens the data; conversations and images must be on this machine.
pub fn open(published: &Published) -> Result<DataDir> {
    let dir = match &published.images {
        Some(dir) => dir.clone(),
        None => crate::machine::paths::cache()?.join("published"),
    };
    let align = published.align.as_ref().map(Corpus::locate).transpose()?;
    let tune = published.tune.locate()?;
    if !dir.is_dir() {
        return Err(Error::failed(format!("the images should lie below {}, which is no directory", dir.display()))
            .hint("unpack the archives that the cards of the datasets name, or set `images` in [evaluator.data.published]"));
    }
    // The links of a snapshot resolve to files named by their digest, so the path identifies the contents.
    let name = |file: &PathBuf| std::fs::canonicalize(file).map(|f| f.display().to_string());
    let digest = digest::of_value(&(align.as_ref().map(name).transpose()?, name(&tune)?, published))?;
    Ok(DataDir { dir, align, tune, digest, earlier: None, drawn: false, per_source: published.tune.per_source })
}

/// The selection of conversations with an image when the number per source is limited.
#[derive(Debug)]
pub struct Thinned {
    /// Largest rank that is used, for each source.
    largest: BTreeMap<String, u64>,
}

impl Thinned {
    /// Reads the whole file once and ranks every conversation by its position and a fixed seed. Needs eight bytes of
    /// memory for each conversation that is used.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(file: &Path, per_source: usize) -> Result<Self> {
        let mut lowest: BTreeMap<String, BinaryHeap<u64>> = BTreeMap::new();
        let mut place = 0;
        conversation::read(file, |c| {
            if c.image.is_some() {
                let heap = lowest.entry(c.source).or_default();
                heap.push(rank(place));
                if heap.len() > per_source {
                    heap.pop();
                }
            }
            place += 1;
            Ok(())
        })?;
        Ok(Self { largest: lowest.into_iter().filter_map(|(s, h)| Some((s, *h.peek()?))).collect() })
    }

    /// Whether the conversation at this position of the file is used.
    pub fn keeps(&self, place: u64, source: &str, has_image: bool) -> bool {
        !has_image || self.largest.get(source).is_some_and(|largest| rank(place) <= *largest)
    }
}

/// Whether the conversation at this position of a file belongs to a fraction of it, 0 to 1. Smaller fractions are
/// subsets of larger ones; the draw differs from that of [`Thinned`].
pub fn is_within(place: u64, share: f64) -> bool {
    (rank(place.wrapping_add(1 << 40)) as f64) < share * 2f64.powi(64)
}

/// Pseudo-random rank of a position in a file, the same on every machine (SplitMix64).
fn rank(place: u64) -> u64 {
    let mut z = place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn each_source_keeps_so_many_and_text_all() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("c.jsonl");
        let mut text = String::new();
        let entry = |source: &str, image: &str| {
            format!(
                r#"{{"source": "{source}", {image}"conversations": [{{"from": "human", "value": "?"}}, {{"from": "gpt", "value": "a"}}]}}"#
            )
        };
        for i in 0..300 {
            let (source, image) = match i % 3 {
                0 => ("many", "\"image\": \"a.png\", "),
                1 if i < 20 => ("few", "\"image\": \"b.png\", "),
                _ => ("text", ""),
            };
            let _ = writeln!(text, "{}", entry(source, image));
        }
        std::fs::write(&file, text)?;
        let thinned = Thinned::of(&file, 25)?;
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        let mut place = 0;
        conversation::read(&file, |c| {
            *kept.entry(c.source.clone()).or_default() +=
                usize::from(thinned.keeps(place, &c.source, c.image.is_some()));
            place += 1;
            Ok(())
        })?;
        assert_eq!((kept["many"], kept["few"], kept["text"]), (25, 7, 193));
        Ok(())
    }

    #[test]
    fn shares_are_nested_and_about_as_large_as_they_say() {
        let of = |share: f64| -> Vec<u64> { (0..8000).filter(|place| is_within(*place, share)).collect() };
        let (small, large) = (of(0.125), of(0.5));
        assert!((900..1100).contains(&small.len()) && (3850..4150).contains(&large.len()));
        assert!(small.iter().all(|place| large.contains(place)) && of(1.0).len() == 8000 && of(0.0).is_empty());
    }

    #[test]
    fn what_is_not_here_says_how_to_get_it() {
        let corpus = Corpus {
            repository: "owner/data".into(),
            file: "a/b.jsonl".into(),
            samples: 1,
            text_tokens: 1,
            per_source: None,
        };
        let e = corpus.locate().unwrap_err();
        assert!(e.hint_text().is_some_and(|h| h.contains("owner/data a/b.jsonl")));
        assert!(Corpus { file: "../x".into(), ..corpus }.locate().is_err_and(|e| e.exit_code() == 2));
    }
}
