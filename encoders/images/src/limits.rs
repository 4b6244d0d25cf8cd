//! Limits on memory and time for decoding an image, because a small file can decompress to a huge image.

use burgess_base::{Error, Result};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Default maximum number of pixels: above it, Pillow warns of a decompression bomb.
const DEFAULT_MAX_PIXELS: u64 = 89_478_485;
/// Maximum work of all scans of a JPEG, in multiples of [`DecodeLimits::pixels`], because each scan covers the whole
/// image. Ordinary progressive files have about ten scans.
const MAX_SCANS: u64 = 20;
/// Default time limit in seconds.
const DEFAULT_MAX_SECONDS: u64 = 60;

/// Environment variable that sets the maximum number of pixels.
const MAX_PIXELS_VARIABLE: &str = "BURGESS_MAX_PIXELS";
/// Environment variable that sets the maximum decoding time in seconds.
const MAX_SECONDS_VARIABLE: &str = "BURGESS_MAX_DECODE_SECONDS";

/// Limits for decoding one image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeLimits {
    /// Maximum number of pixels, width times height.
    pub pixels: u64,
    /// Time after which reading of the file is aborted.
    pub time: Duration,
}

impl DecodeLimits {
    /// Returns the limits from the environment variables, or the defaults.
    ///
    /// # Errors
    /// A variable is not a positive integer.
    pub fn current() -> Result<Self> {
        static LIMITS: OnceLock<std::result::Result<DecodeLimits, String>> = OnceLock::new();
        let read = |name: &str, default: u64| match std::env::var(name) {
            Err(std::env::VarError::NotPresent) => Ok(default),
            Ok(text) => match text.trim().parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{name} is {text:?}, must be an integer of at least 1")),
            },
            Err(_) => Err(format!("{name} is not valid UTF-8, must be an integer of at least 1")),
        };
        let limits = LIMITS.get_or_init(|| {
            Ok(Self {
                pixels: read(MAX_PIXELS_VARIABLE, DEFAULT_MAX_PIXELS)?,
                time: Duration::from_secs(read(MAX_SECONDS_VARIABLE, DEFAULT_MAX_SECONDS)?),
            })
        });
        limits
            .clone()
            .map_err(|why| Error::usage(why).hint("correct the environment variable, or unset it to use the default"))
    }

    /// Rejects an image that is too large, before memory is allocated for it.
    ///
    /// # Errors
    /// The image has more than [`DecodeLimits::pixels`].
    pub fn check_size(&self, width: u64, height: u64) -> Result<()> {
        let pixels = width.saturating_mul(height);
        if pixels > self.pixels {
            let message = format!("the image has {width}×{height} pixels, the limit is {}", self.pixels);
            return Err(Error::failed(message)
                .hint(format!("set {MAX_PIXELS_VARIABLE}={pixels} in the environment to accept the image")));
        }
        Ok(())
    }

    /// Rejects a JPEG whose scans together are too much work.
    ///
    /// # Errors
    /// `scans` times the number of pixels exceeds 20 times [`DecodeLimits::pixels`].
    pub fn check_scans(&self, scans: u64, width: u64, height: u64) -> Result<()> {
        let work = scans.saturating_mul(width.saturating_mul(height));
        if work > self.pixels.saturating_mul(MAX_SCANS) {
            let message = format!("the JPEG has {scans} scans of {width}×{height} pixels");
            let needed = work.div_ceil(MAX_SCANS);
            return Err(Error::failed(format!(
                "{message}, the limit is {} pixels over all scans",
                self.pixels * MAX_SCANS
            ))
            .hint(format!("set {MAX_PIXELS_VARIABLE}={needed} in the environment to accept the image")));
        }
        Ok(())
    }

    /// Returns the deadline of an image whose decoding starts now.
    pub fn deadline(&self) -> Deadline {
        Deadline { end: Instant::now().checked_add(self.time), seconds: self.time.as_secs() }
    }
}

/// The time at which decoding must be finished.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Option<Instant>,
    seconds: u64,
}

impl Deadline {
    /// Checks that the deadline has not passed.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn check(&self) -> std::io::Result<()> {
        match self.end {
            Some(end) if Instant::now() > end => Err(std::io::Error::other(format!(
                "decoding takes longer than the limit of {} seconds, which {MAX_SECONDS_VARIABLE} sets",
                self.seconds
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_name_what_was_found_and_what_to_set() {
        let limits = DecodeLimits { pixels: 100, time: Duration::ZERO };
        assert!(limits.check_size(10, 10).is_ok());
        let error = limits.check_size(10, 11).unwrap_err();
        assert!(error.to_string().contains("10×11") && error.hint_text().unwrap().contains("BURGESS_MAX_PIXELS=110"));
        assert!(limits.check_size(u64::MAX, u64::MAX).is_err());
        assert!(limits.check_scans(20, 10, 10).is_ok());
        assert!(limits.check_scans(21, 10, 10).unwrap_err().hint_text().unwrap().contains("BURGESS_MAX_PIXELS=105"));
        assert!(Deadline { end: Some(Instant::now()), seconds: 0 }.check().is_err() || cfg!(windows));
        assert!(DecodeLimits { pixels: 1, time: Duration::from_secs(u64::MAX) }.deadline().check().is_ok());
    }
}
