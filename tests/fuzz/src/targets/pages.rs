//! Fuzz targets of the data engine: HTML, wikitext in dumps, structured contents, crawls, TFRecord, drawings.

use crate::mutate::MutationForm;
use crate::{FuzzInput, FuzzTarget};
use burgess_base::{Error, Result};
use burgess_engine::images::{ImagesOptions, convert};
use burgess_engine::{ReadOptions, html, sources};

const HTML: &[&str] = &[
    "<h2>",
    "</h2>",
    "<figure>",
    "<figcaption>",
    "<img src=\"a.png\">",
    "srcset=\"a 2x, b 3w\"",
    "<table>",
    "<p>",
    "</p>",
    "<template>",
    "<noscript>",
    "<!--",
    "<svg>",
    "<math>",
    "class=\"thumb\"",
    "class=\"gallerybox\"",
    "class=\"mw-heading\"",
    "<base href=\"//x\">",
    "&#x110000;",
    "<b><p>",
    "<select>",
    "<plaintext>",
    "<![CDATA[",
];
const WIKITEXT: &[&str] = &[
    "[[",
    "]]",
    "{{",
    "}}",
    "{|",
    "|}",
    "'''",
    "''",
    "==",
    "[[File:a.jpg|thumb|",
    "&lt;ref&gt;",
    "&lt;/ref&gt;",
    "&lt;gallery&gt;",
    "&lt;nowiki&gt;",
    "&lt;!--",
    "<page>",
    "</page>",
    "<text>",
    "</text>",
    "<![CDATA[",
    "&#xe000;",
    "|",
    "{{multiple image|image1=",
    "{{convert|",
    "__TOC__",
    "[https://x ",
    "\n*",
    "&amp;nbsp;",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "html-page",
        about: "HTML pages",
        corpus: &[],
        words: HTML,
        form: MutationForm::Text,
        share: 20,
        run: |input, _| {
            let text = html::decode(input.bytes, None);
            html::read(&text, "https://w.test/wiki/A", &every())?;
            html::read(&text, "a.html", &ReadOptions::default()).map(drop)
        },
    },
    FuzzTarget {
        name: "wiki-dump",
        about: "XML dumps of wikis, with wikitext",
        corpus: &[],
        words: WIKITEXT,
        form: MutationForm::Text,
        share: 40,
        run: |input, _| source("wiki-dump", input),
    },
    FuzzTarget {
        name: "structured-pages",
        about: "Wikimedia's structured contents",
        corpus: &[],
        words: &["\"has_parts\"", "\"type\":\"section\"", "\"content_url\"", "\"sections\"", "\"images\"", "\"value\""],
        form: MutationForm::Json,
        share: 40,
        run: |input, _| source("structured", input),
    },
    FuzzTarget {
        name: "warc",
        about: "crawls",
        corpus: &[],
        words: &[
            "WARC/1.0\r\n",
            "Content-Length: ",
            "Transfer-Encoding: chunked\r\n",
            "HTTP/1.1 200 OK\r\n",
            "\r\n\r\n",
        ],
        form: MutationForm::Binary,
        share: 40,
        run: |input, _| source("warc", input),
    },
    FuzzTarget {
        name: "wikiweb2m",
        about: "records of WikiWeb2M",
        corpus: &[],
        words: &["section_title", "section_image_url", "page_url"],
        form: MutationForm::Binary,
        share: 40,
        run: |input, _| match input.name().ends_with(".bin") {
            // A message by itself: a damaged one in a record fails at its checksum.
            true => sources::read_example(input.bytes).map(drop),
            false => source("wikiweb2m", input),
        },
    },
    FuzzTarget {
        name: "svg",
        about: "drawings",
        corpus: &[],
        words: &[
            "<use xlink:href='#a'/>",
            "<g id='a'>",
            "<pattern id='p'>",
            "<mask id='m'>",
            "url(#k)",
            "&c;",
            "1e30",
            "-1",
            "NaN",
            "<image/>",
            "transform='scale(1e9)'",
            "width='99999'",
        ],
        form: MutationForm::Text,
        share: 10,
        run: |input, _| {
            let options = ImagesOptions { min_side: 1, svg_width: 80, ..ImagesOptions::default() };
            convert(input.bytes, &options).map(drop).map_err(|(reason, why)| Error::failed(format!("{reason}: {why}")))
        },
    },
];

/// Options with which everything is read.
fn every() -> ReadOptions {
    ReadOptions { lead: true, skip_history: false, lists: true, formulas: true }
}

/// Reads a file of a source; what is left out is an error here, so that messages are checked.
fn source(kind: &str, input: &FuzzInput<'_>) -> Result<()> {
    let (_, skips) = sources::read_bytes(kind, input.bytes, &every())?;
    match skips.notes().first() {
        Some(note) => Err(Error::failed(note.clone())),
        None => Ok(()),
    }
}
