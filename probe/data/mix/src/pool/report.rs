//! What a scan of a pool counted.

use burgess_base::skipped::SkippedReport;
use std::path::PathBuf;

/// A file of a pool that could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// The file.
    pub file: PathBuf,
    /// Number of entries of the file that were handed on.
    pub entries: u64,
    /// Number of bytes that could be read, after decompression; for a table, of rows.
    pub read: u64,
    /// What was wrong, and where.
    pub what: String,
}

/// The counts of one scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Number of files that were read.
    pub files: u64,
    /// Number of entries that were handed on.
    pub entries: u64,
    /// Number of bytes of JSON that were parsed, after decompression; those of tables count as the JSON of their rows.
    pub bytes: u64,
    /// Entries that cannot be used, by reason and source, with the places of the first.
    pub skipped: SkippedReport,
    /// Entries that were handed on but are odd, by reason and source, with the places of the first.
    pub odd: SkippedReport,
    /// Files that could not be read to their end; what stood before the damage was handed on.
    pub damaged: Vec<DamagedFile>,
}

impl ScanReport {
    /// Adds the counts of files that were read later.
    pub fn append(&mut self, later: Self) {
        self.files += later.files;
        self.entries += later.entries;
        self.bytes += later.bytes;
        self.skipped.append(later.skipped);
        self.odd.append(later.odd);
        self.damaged.extend(later.damaged);
    }

    /// Returns one line for each damaged file and each reason for which entries were skipped, for the user.
    pub fn notes(&self) -> Vec<String> {
        let damage =
            |d: &DamagedFile| format!("{} is damaged after {} conversations: {}", d.file.display(), d.entries, d.what);
        let mut notes: Vec<String> = self.damaged.iter().map(damage).collect();
        notes.extend(self.skipped.notes());
        notes.extend(self.odd.notes().into_iter().map(|n| n.replace(" left out: ", " kept though odd: ")));
        notes
    }
}
