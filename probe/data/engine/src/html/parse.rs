//! Parses HTML piece by piece within limits: the parser itself has none, and its work grows with the square of the
//! nesting.

use burgess_base::{Error, Result};
use html5ever::driver::{ParseOpts, parse_document};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::tree_builder::TreeBuilderOpts;
use scraper::{Html, HtmlTreeSink};
use std::time::{Duration, Instant};

/// Number of bytes that are parsed before the limits are checked.
const PIECE: usize = 1024;
/// Largest nesting; browsers have the same limit.
pub(super) const MAX_DEPTH: usize = 512;
/// Largest number of nodes, several times that of the longest articles.
const MAX_NODES: usize = 600_000;
/// Time limit, for pages that make the parser slow in other ways, such as a tag with 100,000 attributes.
const MAX_TIME: Duration = Duration::from_secs(6);

/// Parses a document.
pub(super) fn parse(html: &str) -> Result<Html> {
    // Without scripts, what lies in `noscript` is read, such as images that a script would load later.
    let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() };
    let options = ParseOpts { tree_builder, ..ParseOpts::default() };
    let mut parser = parse_document(HtmlTreeSink::new(Html::new_document()), options);
    let began = Instant::now();
    let (mut rest, mut nodes) = (html, 0);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
        rest = after;
        parser.process(StrTendril::from_slice(piece));
        // Errors of the markup are not used, and a hostile page has many.
        let mut sink = parser.tokenizer.sink.sink.0.borrow_mut();
        sink.errors.clear();
        let tree = &sink.tree;
        let now = tree.values().len();
        if now > MAX_NODES {
            return Err(limit(format!("the page has more than {MAX_NODES} elements")));
        }
        for node in tree.nodes().rev().take(now - nodes) {
            if node.ancestors().nth(MAX_DEPTH).is_some() {
                return Err(limit(format!("the page is nested more than {MAX_DEPTH} deep")));
            }
        }
        nodes = now;
        if began.elapsed() > MAX_TIME {
            return Err(limit(format!("parsing the page takes more than {} s", MAX_TIME.as_secs())));
        }
    }
    Ok(parser.finish())
}

fn limit(what: String) -> Error {
    Error::failed(what).hint("leave the page out: no article is like this")
}
