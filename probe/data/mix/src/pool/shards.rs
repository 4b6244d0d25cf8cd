//! Reads webdataset shards: tar archives in which the members that share a key are one entry.
//!
//! The key of a member is its path up to the first dot of its file name. One member of each key is the JSON
//! (`<key>.json`, an object in LLaVA's format); its images are the members with the ending of an image, in the order of
//! the archive. If there are any, the paths in the JSON are not read. The bytes of images are passed over.

use super::batch::{BatchSender, BesideImage};
use super::split::LONGEST;
use burgess_base::{Context, Error, Result, compressed, text::excerpt};
use std::cell::Cell;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use tar::{Archive, EntryType};

/// Endings of images.
const IMAGES: [&str; 9] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif"];

/// Maximum length of a member's name.
const LONGEST_NAME: u64 = 64 << 10;

/// The members of one key so far.
#[derive(Default)]
struct Group {
    key: String,
    offset: u64,
    json: Option<std::result::Result<String, (&'static str, String)>>,
    images: Vec<BesideImage>,
}

/// Reads a shard.
///
/// # Errors
/// An error is returned if the archive is damaged, or if the receiver stops.
pub(super) fn read(file: &Path, out: &mut BatchSender<'_>) -> Result<()> {
    let read = Rc::new(Cell::new(0));
    let mut archive = Archive::new(CountedReader { inner: compressed::open(file)?, read: read.clone() });
    let mut group: Option<Group> = None;
    let mut number = 0;
    let mut long_name: Option<Vec<u8>> = None;
    let mut last = 0;
    // Extension headers are read here and not by the library, which would read one of any length into memory.
    for member in archive.entries()?.raw(true) {
        let at = || format!("after {number} entries");
        let mut member = match member {
            Ok(member) => member,
            // Images of the last key may be missing, so it is not handed on.
            Err(e) => return Err(Error::from(e).context(at())),
        };
        last = member.raw_file_position() + member.size().checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX / 2);
        let kind = member.header().entry_type();
        let mut content = |most: u64| -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            (&mut member).take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match kind {
            EntryType::GNULongName => {
                let mut name = content(LONGEST_NAME).with_context(at)?;
                name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
                long_name = Some(name);
                continue;
            }
            EntryType::XHeader => {
                long_name = pax_path(&content(LONGEST_NAME).with_context(at)?).or(long_name);
                continue;
            }
            EntryType::Regular | EntryType::Continuous => {}
            // Directories, links and comments are no data.
            _ => {
                long_name = None;
                continue;
            }
        }
        let name = long_name.take().unwrap_or_else(|| member.path_bytes().into_owned());
        let name = String::from_utf8_lossy(&name).into_owned();
        let (key, ending) = split_name(&name);
        if group.as_ref().is_none_or(|group| group.key != key) {
            hand_on(group.take(), &mut number, out)?;
            let offset = member.raw_header_position();
            group = Some(Group { key: key.to_string(), offset, ..Group::default() });
        }
        let Some(group) = &mut group else { continue };
        let last = ending.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        if last == "json" {
            group.json = Some(match member.size() {
                size if size > LONGEST as u64 => Err(("longer than 16 MiB", format!("{size} bytes"))),
                _ if !out.wants(group.offset) => Ok(String::new()),
                _ => {
                    let mut bytes = Vec::new();
                    member.read_to_end(&mut bytes).with_context(|| format!("reading `{}`", excerpt(&name, 200)))?;
                    String::from_utf8(bytes).map_err(|_| ("not UTF-8", excerpt(&name, 200)))
                }
            });
        } else if IMAGES.contains(&last.as_str()) {
            let (offset, size) = (member.raw_file_position(), member.size());
            group.images.push(BesideImage::Member { name, offset, size });
        }
    }
    hand_on(group, &mut number, out)?;
    // The end of an archive is a block of zeros.
    match read.get() > last {
        true => Ok(()),
        false => Err(Error::failed(format!("the archive does not end after {number} entries: it is truncated"))),
    }
}

/// Size of a tar archive's blocks in bytes.
const BLOCK: u64 = 512;

/// A reader that counts the bytes.
struct CountedReader<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for CountedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

/// Hands a complete group on.
fn hand_on(group: Option<Group>, number: &mut u64, out: &mut BatchSender<'_>) -> Result<()> {
    let Some(group) = group else { return Ok(()) };
    *number += 1;
    if !out.wants(group.offset) {
        return Ok(());
    }
    match group.json {
        Some(Ok(json)) => out.entry(group.offset, *number, json.trim(), group.images),
        Some(Err((reason, detail))) => out.skip(*number, reason, detail),
        None => out.skip(*number, "no JSON beside the members", format!("key `{}`", excerpt(&group.key, 200))),
    }
}

/// Splits the name of a member into its key and its ending.
fn split_name(name: &str) -> (&str, &str) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    match name.get(base..).and_then(|file| file.find('.')) {
        Some(dot) => name.split_at(base + dot),
        None => (name, ""),
    }
}

/// Returns the path in a pax extension header, which consists of records `LENGTH KEY=VALUE\n`.
fn pax_path(header: &[u8]) -> Option<Vec<u8>> {
    let mut rest = header;
    let mut path = None;
    while let Some(space) = memchr::memchr(b' ', rest) {
        let length: usize = std::str::from_utf8(rest.get(..space)?).ok()?.parse().ok()?;
        let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
        path = record.strip_prefix(b"path=").map(<[u8]>::to_vec).or(path);
        rest = rest.get(length..)?;
    }
    path
}

/// Maximum size of an encoded image, in bytes.
const LARGEST_IMAGE: u64 = 1 << 30;

/// Reads a member of a shard.
///
/// # Errors
/// An error is returned if the shard cannot be read, or ends before the member does.
pub(super) fn member(file: &Path, offset: u64, size: u64) -> Result<Vec<u8>> {
    if size > LARGEST_IMAGE {
        return Err(Error::failed(format!("it has {size} bytes, must be at most {LARGEST_IMAGE}")));
    }
    let mut bytes = Vec::new();
    let mut plain = burgess_base::files::open(file)?;
    let mut magic = [0; 2];
    let read = plain.read(&mut magic)?;
    let is_plain = !matches!((read, magic), (2, [0x1f, 0x8b] | [0x28, 0xb5]));
    if is_plain {
        plain.seek(SeekFrom::Start(offset))?;
        read_part(&mut plain, size, &mut bytes)?;
    } else {
        let mut reader = compressed::open(file)?;
        std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink())?;
        read_part(&mut reader, size, &mut bytes)?;
    }
    Ok(bytes)
}

fn read_part(reader: &mut dyn Read, size: u64, bytes: &mut Vec<u8>) -> Result<()> {
    reader.take(size).read_to_end(bytes)?;
    match bytes.len() as u64 == size {
        true => Ok(()),
        false => Err(Error::failed(format!("the file ends after {} of its {size} bytes", bytes.len()))),
    }
}
