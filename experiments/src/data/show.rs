//! What is in a pool of training conversations: the summary, and its page.

use burgess_base::{Error, Result, atomic};
use burgess_mix::pool::{Pool, PoolSpec};
use burgess_mix::summary::{PoolSummary, PublishedKinds, SummaryOptions, summarise, thumbnails};
use burgess_probe::llm::{Tokenizer, weights};
use burgess_reports::data::{DataImage, DataSummary, data_page};
use std::path::Path;

/// Width and height of the largest thumbnail, twice that on the page for screens with small pixels.
const SIDE: u32 = 640;

/// What is counted in a pool.
pub struct ShowRequest<'a> {
    /// The pool.
    pub spec: &'a PoolSpec,
    /// Name of a language model, its directory, or its tokenizer file; tokens are counted only with it.
    pub tokenizer: Option<&'a str>,
    /// Number of entries in the sample.
    pub samples: usize,
    /// Seed of the samples.
    pub seed: u64,
}

/// Reads a pool and counts what is in it. `progress` is called with the number of entries so far.
///
/// # Errors
/// The pool or the tokenizer cannot be read, or no entry can be used.
pub fn summary(request: &ShowRequest<'_>, progress: &mut dyn FnMut(u64)) -> Result<PoolSummary> {
    let pool = Pool::open(request.spec)?;
    let tokenizer = request.tokenizer.map(tokenizer).transpose()?;
    let kinds = PublishedKinds::load()?;
    let count = tokenizer.map(|tokenizer| {
        move |text: &str| tokenizer.encode(text).ok().map(|ids| u32::try_from(ids.len()).unwrap_or(u32::MAX))
    });
    let options = SummaryOptions {
        images: request.spec.images.as_deref(),
        samples: request.samples,
        seed: request.seed,
        tokens: count.as_ref().map(|count| count as &(dyn Fn(&str) -> Option<u32> + Sync)),
        kind_of: &|source| kinds.kind_of(source),
        ..SummaryOptions::default()
    };
    summarise(&pool, &options, progress)
}

/// Opens the tokenizer of a language model, or a tokenizer file.
fn tokenizer(name: &str) -> Result<Tokenizer> {
    let path = weights::locate(name)?;
    match path.extension().and_then(|e| e.to_str()) {
        _ if path.is_dir() => Tokenizer::open(&path),
        Some("json" | "model") => Tokenizer::from_file(&path),
        _ => Tokenizer::of_model(&weights::Weights::open(name)?),
    }
}

/// Converts a summary to what reports show.
///
/// # Errors
/// The two do not fit, which is an error of this program.
pub fn shown(summary: &PoolSummary) -> Result<DataSummary> {
    let value = serde_json::to_value(summary)?;
    serde_json::from_value(value).map_err(|e| Error::failed(format!("the summary cannot be shown: {e}")))
}

/// Writes the page with the images of the samples.
///
/// # Errors
/// The file cannot be written.
pub fn write_page(path: &Path, title: &str, command: &str, summary: &PoolSummary) -> Result<()> {
    let image = |thumbnail: Result<burgess_mix::summary::Thumbnail>| match thumbnail {
        Ok(thumbnail) => DataImage { size: thumbnail.size, jpeg: Ok(thumbnail.jpeg) },
        Err(e) => DataImage { size: (0, 0), jpeg: Err(e.to_string()) },
    };
    let images: Vec<Vec<DataImage>> =
        thumbnails(&summary.samples, SIDE).into_iter().map(|all| all.into_iter().map(image).collect()).collect();
    atomic::write(path, data_page(&shown(summary)?, title, command, &images)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_every_published_form() -> Result<()> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/train/pools");
        let dir = tempfile::tempdir()?;
        let spec = PoolSpec {
            path: vec![golden.join("*.parquet").display().to_string(), golden.join("*.tar").display().to_string()],
            ..PoolSpec::default()
        };
        let request = ShowRequest { spec: &spec, tokenizer: None, samples: 30, seed: 0 };
        let summary = summary(&request, &mut |_| {})?;
        assert_eq!((summary.all.conversations, summary.files, summary.samples.len()), (17, 6, 17));
        let file = dir.path().join("page.html");
        write_page(&file, "pools", "burgess data show", &summary)?;
        let page = std::fs::read_to_string(&file)?;
        assert_eq!(page.matches("data:image/jpeg;base64,").count(), 12);
        // Those that are paths, without a directory of images.
        assert_eq!(page.matches("no directory of images is given").count(), 2);
        let shown = shown(&summary)?;
        assert_eq!((shown.ratings.len(), shown.sources.len()), (4, summary.sources.len()));
        Ok(())
    }
}
