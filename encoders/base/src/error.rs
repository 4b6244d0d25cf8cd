//! The error type of all crates: what happened, in which step, and what to do about it.

use std::fmt;

/// The result type of every fallible function in Burgess.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, which determines the exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line, a study or a card asks for something that does not exist: exit code 2.
    Usage,
    /// The work could not be done (files, weights, devices, memory): exit code 1.
    Failed,
    /// A signal interrupted the command, and finished work is kept: exit code 128 + signal number.
    Interrupted,
}

/// An error with its chain of causes, outermost first, and an optional hint. Its text has no control characters except
/// line feeds, and no line of excessive length, whatever it quotes from a file.
///
/// ```
/// use burgess_base::{Error, Context};
/// let e = Error::failed("the header is 12 bytes long, the file only 4")
///     .context("reading weights.safetensors")
///     .hint("the download was cut off: delete the file and fetch it again");
/// assert_eq!(e.to_string(), "reading weights.safetensors: the header is 12 bytes long, the file only 4");
/// ```
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    chain: Vec<String>,
    hint: Option<String>,
    download: Option<String>,
}

impl Error {
    /// An error of usage: a request that does not exist or makes no sense (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, chain: vec![message.into()], hint: None, download: None }
    }

    /// A failure: the work could not be done (exit code 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, chain: vec![message.into()], hint: None, download: None }
    }

    /// An interruption by a signal, which is not a failure.
    pub fn interrupted() -> Self {
        Self { kind: Kind::Interrupted, chain: vec!["interrupted".into()], hint: None, download: None }
    }

    /// Adds the larger step in which the error happened.
    #[must_use]
    pub fn context(mut self, step: impl Into<String>) -> Self {
        self.chain.insert(0, step.into());
        self
    }

    /// Adds what the user can do; of several hints, the innermost one is kept.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds the name under which what is missing can be downloaded: the id of a card, `owner/name[@revision]` of the
    /// Hugging Face hub, or an address. The hint then ends with advice to download it, so that a program can append the
    /// command that does so. Of several names, the outermost one is kept: it is what the user asked for.
    #[must_use]
    pub fn downloadable(mut self, name: impl Into<String>) -> Self {
        self.download = Some(name.into());
        self
    }

    /// The name under which what is missing can be downloaded; see [`Error::downloadable`].
    pub fn download_name(&self) -> Option<&str> {
        self.download.as_deref()
    }

    /// The kind of the error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the user can do, if there is a hint.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The steps and the cause, outermost first.
    pub fn chain(&self) -> &[String] {
        &self.chain
    }

    /// The exit code: 2 for usage, 1 for a failure, 130 (that of Ctrl-C) for an interruption.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            Kind::Failed => 1,
            Kind::Interrupted => 130,
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
const LONGEST: usize = 2000;
/// Number of characters that are kept at the end of a shortened line.
const END: usize = 300;

fn write_shortened(f: &mut fmt::Formatter<'_>, line: &str) -> fmt::Result {
    // A character has at least one byte.
    let count = if line.len() > LONGEST { line.chars().count() } else { 0 };
    if count <= LONGEST {
        return f.write_str(line);
    }
    let place = |nth: usize| line.char_indices().nth(nth).map_or(line.len(), |(at, _)| at);
    let (head, tail) = (place(LONGEST - END - 3), place(count - END));
    write!(f, "{} … {}", &line[..head], &line[tail..])
}

impl std::error::Error for Error {}

/// Adds the step in which an error of another library happened, and converts it to [`Error`].
pub trait Context<T> {
    /// Adds a step, which reads as "doing what to which file".
    fn context(self, step: impl Into<String>) -> Result<T>;
    /// Adds a step whose text is made only if there is an error.
    fn with_context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Cause>> Context<T> for std::result::Result<T, E> {
    fn context(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|e| e.into().0.context(step))
    }

    fn with_context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.into().0.context(step()))
    }
}

/// Any error that can be converted to [`Error`]; errors of other libraries become `Kind::Failed`.
#[doc(hidden)]
pub struct Cause(Error);

impl From<Error> for Cause {
    fn from(e: Error) -> Self {
        Self(e)
    }
}

macro_rules! foreign {
    ($($t:ty),*) => {$(
        impl From<$t> for Cause {
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
foreign!(serde_json::Error, std::num::ParseIntError, std::num::ParseFloatError, std::str::Utf8Error, std::fmt::Error);

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        let hint = match e.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => {
                Some("free some disk space and run the same command again: finished work is kept")
            }
            PermissionDenied | ReadOnlyFilesystem => Some("choose a directory you may write to"),
            _ => None,
        };
        let error = Error::failed(e.to_string());
        match hint {
            Some(h) => error.hint(h),
            None => error,
        }
    }
}

impl From<std::io::Error> for Cause {
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
    fn what_a_file_holds_cannot_steer_a_terminal() {
        let e = Error::failed("the key `\0\x1b[2J\u{202e}` is not known\nline two").context("reading a\tb");
        assert_eq!(e.to_string(), "reading a\\tb: the key `\\x00\\x1b[2J\\u{202e}` is not known\nline two");
    }

    #[test]
    fn what_a_file_holds_does_not_fill_the_screen() {
        let quoted = "ö\0".repeat(10_000);
        let text =
            Error::failed(format!("the key `{quoted}` is not known\nshort")).context("reading a.gguf").to_string();
        assert!(text.starts_with("reading a.gguf: the key `ö\\x00") && text.ends_with("` is not known\nshort"));
        assert_eq!(text.lines().map(|line| line.chars().count()).collect::<Vec<_>>(), [LONGEST, 5]);
        let whole = "x".repeat(LONGEST);
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
