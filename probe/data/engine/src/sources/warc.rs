//! Crawls in WARC files (ISO 28500): the HTML pages among the records `response` and `resource`.

use super::folder::{MAX_PAGE, read_page};
use super::page_source::{Each, Reading};
use super::records::{self, Counted, Next};
use super::{PageSource, Part};
use crate::fetch::Content;
use crate::outline::ReadOptions;
use crate::page::Page;
use crate::skips::Skips;
use burgess_base::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// Largest number of lines in the head of a record or of an answer.
const MAX_LINES: usize = 500;
/// Largest size of a record that is read; larger ones are passed over.
const MAX_CONTENT: u64 = 2 * MAX_PAGE;

/// WARC files.
#[derive(Debug)]
pub(super) struct WarcFiles {
    pub files: Vec<PathBuf>,
    pub options: ReadOptions,
}

impl PageSource for WarcFiles {
    fn description(&self) -> String {
        self.files.first().map_or_else(String::new, |file| file.display().to_string())
    }

    fn check(&self) -> Result<()> {
        records::check(&self.files)
    }

    fn read(&self, part: &Part<'_>, skips: &mut Skips, each: Each<'_>) -> Result<()> {
        let mut reading = Reading::new(part, self.files.len(), skips, each);
        let files: Vec<&PathBuf> = reading.division.files(&self.files).collect();
        for path in files {
            let mut file = Counted::new(records::open(path).map_err(|e| records::cannot_open(path, e))?);
            while let Some(record) = next(path, &mut file, reading.skips) {
                if !reading.division.is_next() {
                    continue;
                }
                match self.page(&record, reading.skips) {
                    Ok(Some(page)) => reading.page(page)?,
                    Ok(None) => {}
                    Err((reason, why)) => {
                        let place = records::place(path, record.at);
                        reading.skips.add(reason, format!("{place}: {}: {why}", record.url));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A record with a page.
struct WarcRecord {
    at: u64,
    url: String,
    /// Whether the contents are an HTTP answer.
    is_http: bool,
    content_type: String,
    bytes: Vec<u8>,
}

/// Reads the next record of a page; damage is counted. `None` at the end, and when the rest cannot be read.
fn next(path: &Path, file: &mut Counted<impl BufRead>, skips: &mut Skips) -> Option<WarcRecord> {
    let mut lost = false;
    loop {
        let at = file.at;
        let place = || records::place(path, at);
        let mut damaged = |why: String| skips.add("the WARC record is damaged", format!("{}: {why}", place()));
        let line = match file.line() {
            Ok(Next::End) => return None,
            Ok(Next::Record(record)) => record.bytes,
            Ok(Next::TooLarge(_)) => {
                damaged("a line is too long".into());
                continue;
            }
            Err(e) => {
                damaged(e.to_string());
                return None;
            }
        };
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if !line.starts_with(b"WARC/") {
            // After damage, lines are passed over up to the next record, and counted once.
            if !lost {
                damaged("expected `WARC/1.0` or `WARC/1.1`".into());
            }
            lost = true;
            continue;
        }
        lost = false;
        let head = match head(file) {
            Ok(head) => head,
            Err(why) => {
                damaged(why);
                continue;
            }
        };
        let value = |name: &str| head.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let Ok(length) = value("content-length").parse::<u64>() else {
            damaged("`Content-Length` is missing or no number".into());
            continue;
        };
        let (kind, content_type) = (value("warc-type").to_lowercase(), value("content-type").to_lowercase());
        let is_http = kind == "response" && content_type.starts_with("application/http");
        let is_page = kind == "resource" && content_type.contains("html");
        // Requests, metadata, and answers of other protocols are no pages; later parts of a record have no head.
        let wanted = is_http || is_page;
        let outcome = match wanted && length <= MAX_CONTENT {
            true => file.exactly(length as usize),
            false => file.skip(length).map(|()| Vec::new()),
        };
        let bytes = match outcome {
            Ok(bytes) => bytes,
            Err(e) => {
                damaged(format!("the record is cut: {e}"));
                return None;
            }
        };
        if wanted && length > MAX_CONTENT {
            skips.add("the record is too large", format!("{}: {length} bytes", place()));
            continue;
        }
        if wanted {
            let url = value("warc-target-uri").trim_matches(['<', '>']).to_string();
            return Some(WarcRecord { at, url, is_http, content_type, bytes });
        }
    }
}

/// Reads the lines of a head up to an empty line; names in lower case.
fn head(file: &mut Counted<impl BufRead>) -> std::result::Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for _ in 0..MAX_LINES {
        let line = match file.line().map_err(|e| e.to_string())? {
            Next::Record(record) => record.bytes,
            Next::TooLarge(_) => return Err("a line of its head is too long".into()),
            Next::End => return Err("the file ends in its head".into()),
        };
        let line = String::from_utf8_lossy(&line).trim_end().to_string();
        if line.is_empty() {
            return Ok(found);
        }
        if let Some((name, value)) = line.split_once(':') {
            found.push((name.trim().to_lowercase(), value.trim().to_string()));
        }
    }
    Err(format!("its head has more than {MAX_LINES} lines"))
}

/// A reason with details.
type Unread = (&'static str, String);

impl WarcFiles {
    /// Reads the page of a record; `None` if it is no page.
    fn page(&self, record: &WarcRecord, skips: &mut Skips) -> std::result::Result<Option<Page>, Unread> {
        let malformed = |why: String| ("the HTTP answer is malformed", why);
        let (mut content_type, mut body) = (Some(record.content_type.clone()), record.bytes.clone());
        if record.is_http {
            let mut answer = Counted::new(record.bytes.as_slice());
            let line = match answer.line() {
                Ok(Next::Record(line)) => String::from_utf8_lossy(&line.bytes).into_owned(),
                _ => return Err(malformed("it is empty".into())),
            };
            let status = line.split(' ').nth(1).unwrap_or_default();
            if !line.starts_with("HTTP/") {
                return Err(malformed("expected `HTTP/1.1 200 OK`".into()));
            }
            // Redirects and errors are no pages.
            if status != "200" {
                return Ok(None);
            }
            let head = head(&mut answer).map_err(malformed)?;
            let value = |name: &str| head.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_lowercase());
            content_type = value("content-type");
            if content_type.as_deref().is_some_and(|kind| !kind.contains("html") && !kind.is_empty()) {
                return Ok(None);
            }
            let at = usize::try_from(answer.at).unwrap_or(usize::MAX);
            body = record.bytes.get(at..).unwrap_or_default().to_vec();
            // Crawlers keep what was received, or decode it and say so under another name.
            if value("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked")) {
                body = without_chunks(&body).unwrap_or(body);
            }
            match value("content-encoding").as_deref() {
                None | Some("" | "identity") => {}
                Some("gzip" | "x-gzip") if !body.starts_with(&[0x1f, 0x8b]) => {}
                Some("gzip" | "x-gzip") => {
                    let mut plain = Vec::new();
                    let mut decoder = MultiGzDecoder::new(body.as_slice()).take(MAX_PAGE + 1);
                    decoder.read_to_end(&mut plain).map_err(|e| malformed(format!("its gzip data: {e}")))?;
                    body = plain;
                }
                Some(other) => return Err(("the page is encoded in another way", other.to_string())),
            }
        }
        if body.len() as u64 > MAX_PAGE {
            return Err(("the record is too large", format!("more than {MAX_PAGE} bytes")));
        }
        if !matches!(Content::of(&body), Content::Html | Content::Text | Content::Xml) {
            return Ok(None);
        }
        let unread = |e: Error| ("the page cannot be read", e.to_string());
        read_page(&body, content_type.as_deref(), &record.url, &self.options, skips).map(Some).map_err(unread)
    }
}

/// Joins the chunks of a body; `None` if it is not in chunks.
fn without_chunks(body: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::new();
    let mut rest = body;
    loop {
        let end = rest.iter().take(200).position(|b| *b == b'\n')?;
        let line = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(end + 1..)?;
        if size == 0 {
            return Some(joined);
        }
        joined.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?;
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n"))?;
    }
}
