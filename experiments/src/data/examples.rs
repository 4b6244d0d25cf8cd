//! The tokenised training conversations of a study, and the check that their images can be decoded.

use crate::data::directory::{DataDirectory, check_file};
use crate::data::image_files;
use crate::data::image_index::ImageIndex;
use crate::data::response_prompts::PromptAppender;
use crate::data::subset::{PerSourceLimit, is_in_fraction};
use crate::machine::progress::Progress;
use crate::machine::{paths, workers};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result, atomic, digest};
use burgess_encoders::preprocess::Orientation;
use burgess_probe::data::{Example, ExamplePacker, Examples, PackedExamples, conversation};
use burgess_probe::llm::{ChatTemplate, Tokenizer};
use burgess_probe::response_prompts::ResponsePrompts;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The examples of one training stage.
pub struct ExampleSet {
    /// Tokenised examples of the conversations that are used.
    pub examples: PackedExamples,
    file: PathBuf,
    /// Number of conversations in the file; `left_out` says why some are not among the examples.
    all: usize,
    left_out: Vec<String>,
    /// Notes on prompts that were appended to questions, by source.
    appended: Vec<String>,
}

/// Numbers of text tokens of a set of conversations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenCounts {
    /// Mean length of a conversation.
    pub mean: f64,
    /// Length of the longest conversation.
    pub longest: usize,
    /// Mean number of supervised tokens of a conversation.
    pub supervised: f64,
}

/// Number of conversations whose supervised tokens are counted.
const COUNTED: usize = 1000;

impl ExampleSet {
    /// Counts the tokens: lengths of all conversations, supervised tokens of at most a thousand of them.
    ///
    /// # Errors
    /// The file of tokenised conversations cannot be read.
    pub fn token_counts(&self) -> Result<TokenCounts> {
        let count = self.examples.len();
        let lengths = || (0..count).map(|i| self.examples.length(i));
        let (mut supervised, mut counted) = (0usize, 0usize);
        for i in (0..count).step_by(count.div_ceil(COUNTED).max(1)) {
            supervised += self.examples.get(i)?.loss_mask.iter().filter(|supervised| **supervised).count();
            counted += 1;
        }
        Ok(TokenCounts {
            mean: lengths().sum::<usize>() as f64 / count.max(1) as f64,
            longest: lengths().max().unwrap_or(0),
            supervised: supervised as f64 / counted.max(1) as f64,
        })
    }

    /// Notes on the conversations that are left out, by reason, and on appended prompts, by source.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let file = self.file.display();
        self.appended.iter().chain(&self.left_out).map(move |reason| format!("{file}: {reason}"))
    }

    /// Path of the file of conversations.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Checks that a stage has examples with supervised tokens.
    ///
    /// # Errors
    /// The stage has no such examples; the error lists the reasons with their counts.
    pub fn check(&self, stage: &str) -> Result<()> {
        let reasons = if self.left_out.is_empty() { String::new() } else { format!(": {}", self.left_out.join("; ")) };
        let (file, hint) = (
            self.file.display(),
            "expected LLaVA conversations: {\"id\", \"image\", \"conversations\": \
             [{\"from\": \"human\", \"value\"}, {\"from\": \"gpt\", \"value\"}]}",
        );
        if self.examples.is_empty() {
            let of = if self.all == 0 { "it is empty".into() } else { format!("none of {} can be used", self.all) };
            return Err(
                Error::failed(format!("stage {stage}: {file} has no usable conversations: {of}{reasons}")).hint(hint)
            );
        }
        if !self.examples.has_supervised_tokens() {
            return Err(Error::failed(format!(
                "stage {stage}: no conversation of {file} has supervised tokens{reasons}"
            ))
            .hint(hint));
        }
        Ok(())
    }
}

/// Which conversations of a file are used, and what is appended to their questions.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions<'a> {
    /// Largest number of conversations with an image per source.
    pub per_source: Option<usize>,
    /// Fraction of the conversations that is used.
    pub share: Option<f64>,
    /// Response-format prompts that are appended to the questions of their sources.
    pub prompts: &'a ResponsePrompts,
    /// Whether the conversations are a selection, in which a source that `prompts` name may be missing.
    pub is_selection: bool,
}

/// Reads and tokenises a file of conversations.
pub fn read(
    file: &Path,
    options: ReadOptions<'_>,
    chat: &ChatTemplate,
    tokenizer: &Tokenizer,
    images: &mut ImageIndex,
    progress: &Progress,
) -> Result<ExampleSet> {
    check_file(file)?;
    let ReadOptions { per_source, share, prompts, is_selection } = options;
    let bar = progress.bar(&format!("reading {}", file.display()), 0);
    let source_limit = per_source.map(|n| PerSourceLimit::of(file, n)).transpose()?;
    let mut position = 0;
    let mut packing = ExamplePacker::new(&paths::cache()?.join("examples"))?;
    let mut unsupervised: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    // Conversations that the template rejects, by reason, with their number and the first id; and the first error.
    let (mut rejected, mut first): (BTreeMap<String, (usize, String)>, Option<Error>) = Default::default();
    let mut appender = PromptAppender::new(prompts)?;
    let problems = conversation::read(file, |mut c| {
        position += 1;
        bar.add(1);
        if source_limit.as_ref().is_some_and(|t| !t.keeps(position - 1, &c.source, c.image.is_some())) {
            return Ok(());
        }
        if let Some(appender) = &mut appender {
            appender.apply(&c.source, &mut c.turns);
        }
        let encoded = match chat.encode(tokenizer, &c.turns, c.image.is_some()) {
            Ok(encoded) => encoded,
            Err(e) => {
                let id = excerpt(&c.id, 80);
                let reason = excerpt(e.chain().last().map_or("", String::as_str), 200);
                rejected.entry(reason).or_insert_with(|| (0, id)).0 += 1;
                first.get_or_insert(e);
                return Ok(());
            }
        };
        if let Some(problem) = &encoded.problem {
            unsupervised.entry(problem.what()).or_insert_with(|| (0, format!("{}: {problem}", c.id))).0 += 1;
        }
        let image = c.image.as_ref().map(|i| images.number_from(&image_files::encode_name(Path::new(i)), &c.source));
        // Images get their indices before the fraction is applied, so that all fractions use the same cached features.
        if share.is_some_and(|share| !is_in_fraction(position - 1, share)) {
            return Ok(());
        }
        match Example::new(encoded, image) {
            Some(example) => packing.push(&example),
            None => Ok(()),
        }
    })?;
    drop(bar);
    let rejections: usize = rejected.values().map(|(count, _)| count).sum();
    if let Some(e) = first.filter(|_| rejections == position as usize) {
        return Err(e.context(format!("{}: the chat template rejects all {rejections} conversations", file.display())));
    }
    let appended = appender.map_or(Ok(Vec::new()), |appender| appender.finish(file, is_selection))?;
    let mut left_out = Vec::new();
    for (why, (count, first)) in rejected {
        left_out
            .push(format!("{count} conversations left out: the chat template rejects them: {why} (first: {first})"));
    }
    for (what, count, first) in problems.iter() {
        left_out.push(format!("{count} conversations left out: {what} (first: {first})"));
    }
    for (what, (count, first)) in unsupervised {
        left_out
            .push(format!("{count} conversations without supervised tokens: {what} (first: {})", excerpt(&first, 200)));
    }
    let all = position as usize + problems.total();
    Ok(ExampleSet { examples: packing.finish()?, file: file.to_path_buf(), all, left_out, appended })
}

/// Removes the conversations whose image is missing or cannot be decoded, and reports their number by source.
/// `contents` is a digest that changes with the image files.
pub fn drop_unreadable(
    sets: &mut [&mut ExampleSet],
    images: &mut ImageIndex,
    data: &DataDirectory,
    contents: &str,
    progress: &Progress,
) -> Result<()> {
    let bad = unreadable(&images.names, data, contents, progress)?;
    if bad.is_empty() {
        return Ok(());
    }
    let mut new = Vec::with_capacity(images.names.len());
    let mut kept = ImageIndex::default();
    for name in &images.names {
        new.push((!bad.contains_key(name)).then(|| kept.number(name)));
    }
    for set in sets {
        let before = set.examples.len();
        let lost = set.examples.renumber(|i| new.get(i).copied().flatten());
        let mut by_source: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for image in &lost {
            let name = images.names.get(*image).map_or("", String::as_str);
            by_source.entry(images.source(*image)).or_insert((0, name)).0 += 1;
        }
        for (source, (count, first)) in by_source {
            let of = if source.is_empty() { String::new() } else { format!(" of {source}") };
            let cause = bad.get(first).map_or("", String::as_str);
            progress.line(&format!(
                "note: {}: {count} conversations{of} left out: their images cannot be read (first: {cause})",
                set.file.display()
            ));
        }
        if set.examples.is_empty() && before > 0 {
            let first = lost.first().and_then(|i| images.names.get(*i)).map_or("", String::as_str);
            return Err(Error::failed(format!(
                "none of the images of the {before} conversations in {} can be read: {}",
                set.file.display(),
                bad.get(first).map_or("", String::as_str)
            ))
            .hint(format!("images are looked for under {}", data.dir.display())));
        }
    }
    *images = kept;
    Ok(())
}

/// Returns the images that cannot be decoded, with the cause. All images are decoded once and the result is cached for
/// the same data; encoding takes about a hundred times as long.
pub fn unreadable(
    names: &[String],
    data: &DataDirectory,
    contents: &str,
    progress: &Progress,
) -> Result<BTreeMap<String, String>> {
    // Rendered images can always be decoded.
    if data.generated || names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let key = digest::of_value(&(contents, names))?;
    let known = paths::cache()?.join("pictures").join(format!("{key}.json"));
    if known.exists() {
        return atomic::read_json(&known);
    }
    let bar = progress.bar("reading images", names.len() as u64);
    let bad: BTreeMap<String, String> = names
        .par_iter()
        .filter_map(|name| {
            let outcome = workers::guarded(|| image_files::open(&data.dir, name, Orientation::AsStored));
            bar.add(1);
            outcome.err().map(|e| (name.clone(), e.to_string()))
        })
        .collect();
    bar.done(&format!("read {} images", names.len()));
    atomic::write_json(&known, &bad)?;
    Ok(bad)
}
