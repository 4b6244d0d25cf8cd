//! Who made an image, and under which licence: a line of `attribution.csv`.

use crate::qa::QaRecord;
use burgess_base::{Context, Error, Result};
use std::io::Write;

/// The columns.
const COLUMNS: [&str; 9] =
    ["id", "image", "image_url", "file_page", "page_title", "page", "author", "licence", "licence_url"];

/// Writes lines of attribution as CSV.
pub(super) struct AttributionWriter<W: Write>(csv::Writer<W>);

impl<W: Write> AttributionWriter<W> {
    /// Makes a writer, which begins with the names of the columns if there shall be a header.
    pub fn new(out: W, with_header: bool) -> Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        if with_header {
            writer.write_record(COLUMNS).map_err(failed)?;
        }
        Ok(Self(writer))
    }

    /// Writes the line of a record, whose image has this path in the data set.
    pub fn write(&mut self, record: &QaRecord, image: &str) -> Result<()> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let licence = record.licence.clone().unwrap_or_default();
        let row = [
            record.id.clone(),
            image.to_string(),
            record.image_url.clone(),
            text(&record.file_page),
            record.title.clone(),
            record.page.clone(),
            text(&record.author),
            licence.name,
            text(&licence.url),
        ];
        self.0.write_record(row).map_err(failed)
    }

    /// Writes what is buffered.
    pub fn finish(mut self) -> Result<()> {
        Ok(self.0.flush()?)
    }
}

fn failed(e: csv::Error) -> Error {
    Error::failed(e.to_string())
}

/// Calls `each` with the author of each line of a file.
pub(super) fn authors(path: &std::path::Path, each: &mut dyn FnMut(&str)) -> Result<()> {
    let step = || format!("reading {}", path.display());
    let file = std::fs::File::open(path).with_context(step)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(std::io::BufReader::new(file));
    let at = COLUMNS.iter().position(|name| *name == "author").unwrap_or_default();
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(failed).with_context(step)? {
        each(row.get(at).unwrap_or_default());
    }
    Ok(())
}
