//! What decoding a picture may cost: small files can ask for a lot.

use burgess_base::{Error, Result};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Pixels at which Pillow warns of a decompression bomb.
const PIXELS: u64 = 89_478_485;
/// Scans of a JPEG, each of which goes over the whole picture: as many times this as [`Limits::pixels`] together. Ordinary
/// progressive files have about ten.
const SCANS: u64 = 20;
/// Seconds.
const SECONDS: u64 = 60;

/// The environment variable that sets the largest number of pixels.
pub const MAX_PIXELS: &str = "BURGESS_MAX_PIXELS";
/// The environment variable that sets the longest time, in seconds.
pub const MAX_SECONDS: &str = "BURGESS_MAX_DECODE_SECONDS";

/// Limits of one picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Width times height.
    pub pixels: u64,
    /// After which reading of the file ends.
    pub time: Duration,
}

impl Limits {
    /// The defaults, or what the environment says.
    ///
    /// # Errors
    /// A variable is set to something else than a positive whole number.
    pub fn current() -> Result<Self> {
        static LIMITS: OnceLock<std::result::Result<Limits, String>> = OnceLock::new();
        let read = |name: &str, default: u64| match std::env::var(name) {
            Err(std::env::VarError::NotPresent) => Ok(default),
            Ok(text) => match text.trim().parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{name}={text:?} is not a positive whole number")),
            },
            Err(_) => Err(format!("{name} is not text")),
        };
        let limits = LIMITS.get_or_init(|| {
            Ok(Self { pixels: read(MAX_PIXELS, PIXELS)?, time: Duration::from_secs(read(MAX_SECONDS, SECONDS)?) })
        });
        limits.clone().map_err(|why| Error::usage(why).hint("unset it for the default"))
    }

    /// Refuses a picture that is too large, before memory is taken for it.
    ///
    /// # Errors
    /// It has more than [`Limits::pixels`].
    pub fn check_size(&self, width: u64, height: u64) -> Result<()> {
        let pixels = width.saturating_mul(height);
        if pixels > self.pixels {
            let message = format!("the picture has {width}×{height} pixels, the limit is {}", self.pixels);
            return Err(Error::failed(message).hint(format!("set {MAX_PIXELS}={pixels} to read it all the same")));
        }
        Ok(())
    }

    /// Refuses a JPEG whose scans together are too much work.
    ///
    /// # Errors
    /// `scans` times the pixels are more than 20 of the largest pictures.
    pub fn check_scans(&self, scans: u64, width: u64, height: u64) -> Result<()> {
        let work = scans.saturating_mul(width.saturating_mul(height));
        if work > self.pixels.saturating_mul(SCANS) {
            let message = format!("the JPEG has {scans} scans of {width}×{height} pixels");
            let needed = work.div_ceil(SCANS);
            return Err(Error::failed(format!("{message}, the limit is {} pixels together", self.pixels * SCANS))
                .hint(format!("set {MAX_PIXELS}={needed} to read it all the same")));
        }
        Ok(())
    }

    /// When a picture whose decoding starts now must be done.
    pub fn deadline(&self) -> Deadline {
        Deadline { end: Instant::now().checked_add(self.time), seconds: self.time.as_secs() }
    }
}

/// The end of the time that decoding may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Option<Instant>,
    seconds: u64,
}

impl Deadline {
    /// Fails once the time is over.
    ///
    /// # Errors
    /// It is over.
    pub fn check(&self) -> std::io::Result<()> {
        match self.end {
            Some(end) if Instant::now() > end => Err(std::io::Error::other(format!(
                "decoding takes longer than {} seconds, the limit ({MAX_SECONDS})",
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
        let limits = Limits { pixels: 100, time: Duration::ZERO };
        assert!(limits.check_size(10, 10).is_ok());
        let error = limits.check_size(10, 11).unwrap_err();
        assert!(error.to_string().contains("10×11") && error.hint_text().unwrap().contains("BURGESS_MAX_PIXELS=110"));
        assert!(limits.check_size(u64::MAX, u64::MAX).is_err());
        assert!(limits.check_scans(20, 10, 10).is_ok());
        assert!(limits.check_scans(21, 10, 10).unwrap_err().hint_text().unwrap().contains("BURGESS_MAX_PIXELS=105"));
        assert!(Deadline { end: Some(Instant::now()), seconds: 0 }.check().is_err() || cfg!(windows));
        assert!(Limits { pixels: 1, time: Duration::from_secs(u64::MAX) }.deadline().check().is_ok());
    }
}
