//! The error type of all crates, and the pattern of its messages.
//!
//! # How a message is written
//!
//! An error reads `WHERE: WHAT FOUND, EXPECTED`, and a hint says what to do next:
//!
//! ```text
//! error: reading card `my-vit`: `image_size` is 230, must be a multiple of the patch size 14
//!   hint: set image_size to 224 or 238
//! ```
//!
//! - **Where**: [`Error::context`] adds one step for each caller that knows more, as a present participle and its
//!   object ("reading weights.safetensors", "loading tensor `blocks.0.attn.qkv.weight`", "opening study a.toml").
//!   Together the steps name the file, the line or key, and the tensor.
//! - **What**: the innermost message is a clause in the present tense without a capital and without a full stop. Its
//!   subject is the thing that is wrong: "`depth` is 0, must be at least 1", "the header is 12 bytes long, the file
//!   only 4". Names from files and from users are put in backticks.
//! - **Found and expected**: a message about a value states both, the found one first: "tensor `head.weight` has shape
//!   [10, 64], expected [10, 32]". A message about a name lists what exists, or the nearest names ([`nearest`]).
//! - **Hint**: [`Error::hint`] starts with a verb in the imperative and says what to type, change or download next
//!   ("delete the file and download it again"). It may continue with a reason after a colon. A library names no flag of
//!   the command; the command adds such hints.
//! - [`Error::usage`] is for a request that cannot be fulfilled as it is written, [`Error::failed`] for everything
//!   else.

use std::fmt;

/// The result type of every fallible function in Burgess.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, which determines the exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line, a study or a card requests something that does not exist or makes no sense: exit code 2.
    Usage,
    /// The work could not be done (files, weights, devices, memory): exit code 1.
    Failed,
    /// A signal interrupted the command, and finished work is kept: exit code 130, or 128 + signal number in a program
    /// that knows the signal.
    Interrupted,
}

/// An error: its steps and its cause, outermost first, and an optional hint. The displayed text is safe for a terminal
/// even if it quotes an untrusted file: it has no control characters except line feeds, and long lines are shortened.
///
/// ```
/// use burgess_base::{Error, Context};
/// let e = Error::failed("the header is 12 bytes long, the file only 4")
///     .context("reading weights.safetensors")
///     .hint("delete the file and download it again: the download was cut off");
/// assert_eq!(e.to_string(), "reading weights.safetensors: the header is 12 bytes long, the file only 4");
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    chain: Vec<String>,
    hint: Option<String>,
    download: Option<String>,
}

impl Error {
    /// Builds an error of usage: the request names something that does not exist or makes no sense (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Usage, chain: vec![message.into()], hint: None, download: None }
    }

    /// Builds a failure: the work could not be done (exit code 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failed, chain: vec![message.into()], hint: None, download: None }
    }

    /// Builds an interruption by a signal, which is not a failure.
    pub fn interrupted() -> Self {
        Self { kind: ErrorKind::Interrupted, chain: vec!["interrupted".into()], hint: None, download: None }
    }

    /// Adds the enclosing step in which the error happened, such as "reading weights.safetensors".
    #[must_use]
    pub fn context(mut self, step: impl Into<String>) -> Self {
        self.chain.insert(0, step.into());
        self
    }

    /// Adds what to do next, in the imperative. If there is a hint already, it is kept: it is nearer to the cause.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds the name under which a missing file can be downloaded: the id of a card, `owner/name[@revision]` of the
    /// Hugging Face hub, or an address. A program appends its own download command to the hint, so the hint must end
    /// with the advice to download the file. A second call replaces the name, because the outermost caller knows the
    /// name that the user gave.
    #[must_use]
    pub fn downloadable(mut self, name: impl Into<String>) -> Self {
        self.download = Some(name.into());
        self
    }

    /// Returns the name under which a missing file can be downloaded, if there is one; see [`Error::downloadable`].
    pub fn download_name(&self) -> Option<&str> {
        self.download.as_deref()
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the hint: what to do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the steps and the cause, outermost first.
    pub fn chain(&self) -> &[String] {
        &self.chain
    }

    /// Returns the exit code: 2 for usage, 1 for a failure, 130 (that of Ctrl-C) for an interruption.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Usage => 2,
            ErrorKind::Failed => 1,
            ErrorKind::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.chain.join(": ");
        for (i, line) in crate::text::escaped_lines(&text).split('\n').enumerate() {
            f.write_str(if i > 0 { "\n" } else { "" })?;
            write_shortened(f, line)?;
        }
        Ok(())
    }
}

/// The maximum length of a line of an error, in characters; a longer line is shortened in the middle.
const MAX_LINE: usize = 2000;
/// Number of characters that are kept at the end of a shortened line.
const KEPT_TAIL: usize = 300;

fn write_shortened(f: &mut fmt::Formatter<'_>, line: &str) -> fmt::Result {
    // A line has at most as many characters as bytes, so the characters of a short line need not be counted.
    let count = if line.len() > MAX_LINE { line.chars().count() } else { 0 };
    if count <= MAX_LINE {
        return f.write_str(line);
    }
    let offset = |nth: usize| line.char_indices().nth(nth).map_or(line.len(), |(at, _)| at);
    let (head, tail) = (offset(MAX_LINE - KEPT_TAIL - 3), offset(count - KEPT_TAIL));
    write!(f, "{} … {}", &line[..head], &line[tail..])
}

impl std::error::Error for Error {}

/// Adds the step in which an error happened; an error of another library is converted to [`Error`].
pub trait Context<T> {
    /// Adds a step, written as a present participle and its object: "reading a.json".
    fn context(self, step: impl Into<String>) -> Result<T>;
    /// Adds a step whose text is built only if there is an error.
    fn with_context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<ForeignError>> Context<T> for std::result::Result<T, E> {
    fn context(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|e| e.into().0.context(step))
    }

    fn with_context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.into().0.context(step()))
    }
}

/// Any error that [`Context`] accepts: an [`Error`], or an error of another library, which becomes
/// [`ErrorKind::Failed`].
#[doc(hidden)]
pub struct ForeignError(Error);

impl From<Error> for ForeignError {
    fn from(e: Error) -> Self {
        Self(e)
    }
}

macro_rules! foreign {
    ($($t:ty),*) => {$(
        impl From<$t> for ForeignError {
            fn from(e: $t) -> Self {
                Self(e.into())
            }
        }
        impl From<$t> for Error {
            fn from(e: $t) -> Self {
                Error::failed(e.to_string())
            }
        }
    )*};
}
foreign!(serde_json::Error, std::num::ParseIntError, std::num::ParseFloatError, std::str::Utf8Error, fmt::Error);

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let hint = match e.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => {
                Some("free some disk space and run the same command again: finished work is kept")
            }
            PermissionDenied | ReadOnlyFilesystem => Some("choose a directory with write permission"),
            _ => None,
        };
        let error = Error::failed(e.to_string());
        match hint {
            Some(h) => error.hint(h),
            None => error,
        }
    }
}

impl From<std::io::Error> for ForeignError {
    fn from(e: std::io::Error) -> Self {
        Self(e.into())
    }
}

/// Returns up to three of `known` that are similar to `wanted`, nearest first, for "did you mean".
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|k| {
            let lower = k.to_lowercase();
            let contained = !wanted.is_empty() && (lower.contains(&wanted) || wanted.contains(&lower));
            (strsim::jaro_winkler(&wanted, &lower) + if contained { 0.4 } else { 0.0 }, k)
        })
        .filter(|(score, _)| *score > 0.7)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, k)| k).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_nearest_to_the_cause_is_kept() {
        let e = Error::failed("a").hint("inner").context("b").hint("outer");
        assert_eq!(e.to_string(), "b: a");
        assert_eq!(e.hint_text(), Some("inner"));
    }

    #[test]
    fn control_characters_of_quoted_text_are_escaped() {
        let e = Error::failed("the key `\0\x1b[2J\u{202e}` is not known\nline two").context("reading a\tb");
        assert_eq!(e.to_string(), "reading a\\tb: the key `\\x00\\x1b[2J\\u{202e}` is not known\nline two");
    }

    #[test]
    fn long_lines_are_shortened_in_the_middle() {
        let quoted = "ö\0".repeat(10_000);
        let text =
            Error::failed(format!("the key `{quoted}` is not known\nshort")).context("reading a.gguf").to_string();
        assert!(text.starts_with("reading a.gguf: the key `ö\\x00") && text.ends_with("` is not known\nshort"));
        assert_eq!(text.lines().map(|line| line.chars().count()).collect::<Vec<_>>(), [MAX_LINE, 5]);
        let whole = "x".repeat(MAX_LINE);
        assert_eq!(Error::failed(whole.as_str()).to_string(), whole);
    }

    #[test]
    fn foreign_errors_gain_a_step() {
        let r: std::result::Result<u8, _> = "x".parse::<u8>();
        assert_eq!(r.context("reading seed").unwrap_err().to_string(), "reading seed: invalid digit found in string");
    }

    #[test]
    fn nearest_finds_typos_and_parts() {
        let ids = ["nano-clip", "nano-siglip", "nano-mae"];
        assert_eq!(nearest("nano-clp", ids)[0], "nano-clip");
        assert_eq!(nearest("mae", ids), ["nano-mae"]);
        assert!(nearest("zzz", ids).is_empty());
    }
}
