//! How downloads report their progress.

/// Receives messages and the progress of downloads.
pub trait DownloadProgress: Send + Sync {
    /// Receives a message about something unusual, such as a damaged file that is downloaded again.
    fn message(&self, text: &str);

    /// Begins the download of the file `name` with `total` bytes (0 if unknown).
    fn start(&self, name: &str, total: u64) -> Box<dyn FileProgress>;
}

/// Receives the progress of one file.
pub trait FileProgress {
    /// Sets the number of bytes that are on this machine, and the total (0 if unknown).
    fn set(&self, done: u64, total: u64);

    /// Adds bytes that were received.
    fn add(&self, bytes: u64);
}

/// Reports nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl DownloadProgress for Silent {
    fn message(&self, _text: &str) {}

    fn start(&self, _name: &str, _total: u64) -> Box<dyn FileProgress> {
        Box::new(Self)
    }
}

impl FileProgress for Silent {
    fn set(&self, _done: u64, _total: u64) {}

    fn add(&self, _bytes: u64) {}
}
