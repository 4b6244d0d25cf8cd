//! Where pages come from: a wiki's search, dumps, crawls, folders. All are read one record at a time, so that memory
//! does not grow with their size; a damaged record is counted with its place and does not stop the others.

mod division;
mod folder;
mod mediawiki;
mod page_source;
mod records;
mod structured;
#[cfg(test)]
mod tests;
mod tfrecord;
mod warc;
mod wikitext;
mod wikiweb2m;
mod xml_dump;

pub use mediawiki::{ImageLookup, MediaWiki};
pub use page_source::{PageSource, Part, SourceConfig};
pub use wikitext::{WikiNames, read_wikitext};

use crate::outline::ReadOptions;
use crate::page::Page;
use crate::skips::Skips;
use burgess_base::Result;

/// The reason for images with an address such as `data:`.
const NO_ADDRESS: &str = "the image has no address that can be fetched";

/// Reads a file of this kind in memory, as a test of its reader does: all pages, and what was left out.
///
/// # Errors
/// The file is none of this kind from its beginning.
#[doc(hidden)]
pub fn read_bytes(kind: &str, bytes: &[u8], options: &ReadOptions) -> Result<(Vec<Page>, Skips)> {
    page_source::read_bytes(kind, bytes, options)
}

/// Parses a `tf.train.SequenceExample`, as a test of the reader of WikiWeb2M does; returns the number of its features
/// and lists.
///
/// # Errors
/// The bytes are no such message.
#[doc(hidden)]
pub fn read_example(bytes: &[u8]) -> Result<usize> {
    tfrecord::Example::parse(bytes).map(|example| example.features.len() + example.lists.len())
}
