//! The chosen entries of the pools, in their order.

use super::OutputFormat;
use super::line::LineMaker;
use crate::manifest::PromptCount;
use crate::plan::MixPlan;
use crate::pool::PoolImage;
use burgess_base::{Error, Result};

/// An entry that is ready to be written, but for its images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Its JSON, without a line feed.
    pub line: Vec<u8>,
    /// Its id; only for shards.
    pub id: String,
    /// Its source in the mix.
    pub source: String,
    /// Its kind.
    pub kind: String,
    /// Number of its turns.
    pub turns: usize,
    /// The images that are copied into the output.
    pub images: Vec<PoolImage>,
    /// Where it stands; only if it has images or could not be edited.
    pub place: String,
    /// What happened to its questions, if its source has a system prompt.
    pub prompts: Option<PromptCount>,
    /// Whether the name of its source was added.
    pub source_added: bool,
    /// Why it cannot be written.
    pub failed: Option<String>,
}

/// Calls `each` with the samples of the plan from number `begin` on, in the order of the pools.
pub fn in_order(
    plan: &MixPlan,
    lines: &LineMaker<'_>,
    format: OutputFormat,
    begin: usize,
    each: &mut dyn FnMut(Sample) -> Result<()>,
) -> Result<()> {
    for (at, span) in plan.files.iter().enumerate() {
        let end = plan.files.get(at + 1).map_or(plan.entries.len(), |next| next.begin);
        let records = plan.entries.get(span.begin.max(begin)..end).unwrap_or_default();
        let (Some(pool), Some(_)) = (plan.pools.get(span.pool as usize), records.first()) else { continue };
        let offsets: Vec<u64> = records.iter().map(|record| record.offset).collect();
        let mut left = records.iter();
        pool.read_file_at(span.file, &offsets, &mut |entry| {
            let Some(record) = left.next().filter(|record| record.offset == entry.at.offset) else {
                return Err(Error::failed(format!("{} is not where it was", pool.place(&entry)))
                    .hint("run the same command again: the file changed while it was read"));
            };
            each(lines.sample(pool, &entry, record, format))
        })?;
    }
    Ok(())
}
