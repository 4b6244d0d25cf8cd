//! Opens files in untrusted directories: a path that is not a regular file is an error and never blocks, and rows have
//! a maximum length.
//!
//! Downloaded data directories can contain FIFOs (opening one without a writer blocks), devices (which never end) and
//! dangling links.

use std::cell::Cell;
use std::fs::{File, FileType};
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

/// Opens a regular file, or a file descriptor that the process inherited: `/dev/stdin`, or `/dev/fd/63`, which the
/// shell passes for `<(zcat …)`.
///
/// # Errors
/// The file does not exist, is a dangling link, or is a directory, FIFO, socket or device: the error says which.
pub fn open(path: &Path) -> io::Result<File> {
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) => {
            return Err(match (e.kind(), std::fs::read_link(path)) {
                (io::ErrorKind::NotFound, Ok(target)) => {
                    io::Error::new(e.kind(), format!("it is a link to {}, which does not exist", target.display()))
                }
                _ => e,
            });
        }
    };
    if kind.is_file() || (!kind.is_dir() && is_file_descriptor(path)) {
        return File::open(path);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a file", kind_name(kind))))
}

/// Reads the whole contents of a file, which [`open`] must accept.
///
/// # Errors
/// As [`open`]; or the file has more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_long = |found: u64| {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has {}, must be at most {}", format_bytes(found), format_bytes(most)),
        )
    };
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_long(length));
    }
    let mut content = Vec::with_capacity(length as usize);
    file.take(most.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(too_long(content.len() as u64));
    }
    Ok(content)
}

/// Whether a path is a regular file or a link to one.
pub fn is_regular(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file())
}

/// Formats a number of bytes for messages: `3 bytes`, `12 MiB`.
pub fn format_bytes(count: u64) -> String {
    match count {
        0..0x400 => format!("{count} bytes"),
        0x400..0x10_0000 => format!("{} KiB", count >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", count >> 20),
        _ => format!("{:.1} GiB", count as f64 / f64::from(1 << 30)),
    }
}

/// Whether a path names an open file descriptor of this process.
fn is_file_descriptor(path: &Path) -> bool {
    ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|start| path.starts_with(start))
}

fn kind_name(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a directory" } else { "of an unknown type" }
}

/// A reader that fails if one row has more than a given number of bytes; [`RowBudget::renew`] begins the next row.
///
/// Parsers hold a whole row in memory. Without a limit, a file without line ends, or a few kilobytes that decompress to
/// gigabytes, would exhaust it.
#[derive(Debug)]
pub struct RowLimitedReader<R> {
    inner: R,
    budget: RowBudget,
}

/// The number of bytes that a [`RowLimitedReader`] may still return for the current row.
#[derive(Debug, Clone)]
pub struct RowBudget {
    left: Rc<Cell<u64>>,
    most: u64,
}

impl RowBudget {
    /// Begins the next row, which may have the full number of bytes again.
    pub fn renew(&self) {
        self.left.set(self.most);
    }
}

impl<R: Read> RowLimitedReader<R> {
    /// Builds a reader for rows of at most `most` bytes, and the budget to renew after each row. A row may be
    /// longer by the number of bytes that the parser reads ahead.
    pub fn new(inner: R, most: u64) -> (Self, RowBudget) {
        let budget = RowBudget { left: Rc::new(Cell::new(most)), most };
        (Self { inner, budget: budget.clone() }, budget)
    }
}

impl<R: Read> Read for RowLimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.left.get();
        if left == 0 && !buffer.is_empty() {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("one row is longer than {}", format_bytes(self.budget.most)),
                )),
            };
        }
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..room])?;
        self.budget.left.set(left - count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Checked = Result<(), Box<dyn std::error::Error>>;

    #[cfg(unix)]
    #[test]
    fn directories_and_fifos_are_rejected_without_blocking() -> Checked {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir()?;
        let fifo = dir.path().join("fifo.json");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status()?.success());
        symlink("nowhere.json", dir.path().join("link.json"))?;
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket.json"))?;
        let error = |name: &str| open(&dir.path().join(name)).map(drop).unwrap_err().to_string();
        assert_eq!(error("fifo.json"), "it is a FIFO, not a file");
        assert_eq!(error("socket.json"), "it is a socket, not a file");
        assert_eq!(error("link.json"), "it is a link to nowhere.json, which does not exist");
        assert_eq!(error(""), "it is a directory, not a file");
        assert!(error("absent").contains("No such file"));
        assert_eq!(open(Path::new("/dev/zero")).map(drop).unwrap_err().to_string(), "it is a device, not a file");
        std::fs::write(dir.path().join("good"), "1234")?;
        symlink("good", dir.path().join("to-good"))?;
        assert_eq!(read(&dir.path().join("to-good"), 4)?, b"1234");
        let long = read(&dir.path().join("good"), 3).unwrap_err().to_string();
        assert_eq!(long, "it has 4 bytes, must be at most 3 bytes");
        Ok(())
    }

    #[test]
    fn the_budget_is_per_row() -> Checked {
        let (mut reader, budget) = RowLimitedReader::new(&b"0123456789"[..], 5);
        let mut five = [0; 5];
        reader.read_exact(&mut five)?;
        budget.renew();
        reader.read_exact(&mut five)?;
        assert_eq!(reader.read(&mut five)?, 0, "the end of the file is not an error");
        let (mut reader, _) = RowLimitedReader::new(&b"0123456789"[..], 5);
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "one row is longer than 5 bytes");
        Ok(())
    }
}
