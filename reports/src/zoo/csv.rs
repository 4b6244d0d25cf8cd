//! Reader of CSV files as timm and pandas write them (RFC 4180): a header, quoted cells, equal numbers of cells.

use burgess_base::{Error, Result};

/// The cells of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CsvTable {
    /// Names of the columns.
    pub header: Vec<String>,
    /// The rows, each with as many cells as the header.
    pub rows: Vec<Vec<String>>,
    /// Name of the file in errors.
    pub file: String,
}

impl CsvTable {
    /// Splits a text into cells.
    ///
    /// # Errors
    /// A quote is not closed, a row has another number of cells than the header, or a column occurs twice.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut lines = records(text).map_err(|line| {
            Error::failed(format!("{file}, line {line}: a quoted cell is not closed")).hint("give a CSV file")
        })?;
        if lines.is_empty() {
            return Err(Error::failed(format!("{file} is empty")).hint("give a CSV file with a header"));
        }
        let (_, header) = lines.remove(0);
        if let Some((i, name)) = header.iter().enumerate().find(|(i, name)| header.iter().take(*i).any(|h| h == *name))
        {
            return Err(Error::failed(format!("{file}: the column `{name}` occurs twice, also as column {}", i + 1)));
        }
        if let Some((line, row)) = lines.iter().find(|(_, row)| row.len() != header.len()) {
            return Err(Error::failed(format!(
                "{file}, line {line}: {} cells, expected the {} of the header",
                row.len(),
                header.len()
            )));
        }
        Ok(Self { header, rows: lines.into_iter().map(|(_, row)| row).collect(), file: file.to_string() })
    }

    /// The number of a column.
    ///
    /// # Errors
    /// There is none of this name; the hint lists the columns.
    pub fn column(&self, name: &str) -> Result<usize> {
        self.find(name).ok_or_else(|| {
            Error::usage(format!("{} has no column `{name}`", self.file))
                .hint(format!("its columns: {}", self.header.join(", ")))
        })
    }

    /// The number of a column; `None` if there is none of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|h| h == name)
    }
}

/// A record with the number of its first line.
type Record = (usize, Vec<String>);

/// Splits a text into records; the error is the line of a quoted cell that is not closed.
fn records(text: &str) -> Result<Vec<Record>, usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut first, mut quoted, mut opened) = (1, 1, false, 1);
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        line += usize::from(c == '\n');
        match (c, quoted) {
            ('"', true) if letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            ('"', true) => quoted = false,
            (c, true) => cell.push(c),
            ('"', false) if cell.is_empty() => (quoted, opened) = (true, line),
            (',', false) => record.push(std::mem::take(&mut cell)),
            ('\n', false) => {
                record.push(std::mem::take(&mut cell));
                records.push((first, std::mem::take(&mut record)));
                first = line;
            }
            ('\r', false) => {}
            (c, false) => cell.push(c),
        }
    }
    if quoted {
        return Err(opened);
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        records.push((first, record));
    }
    records.retain(|(_, cells)| cells.iter().any(|cell| !cell.is_empty()));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_cells_are_read_as_pandas_writes_them() -> Result<()> {
        let table = CsvTable::parse("a.csv", "model,n\r\n\"x, \"\"y\"\"\",\"1,014.45\"\n\nz,\n")?;
        assert_eq!(table.rows, [["x, \"y\"", "1,014.45"], ["z", ""]]);
        for (text, expected) in [
            ("", "is empty"),
            ("a,b\n1\n", "line 2: 1 cells, expected the 2"),
            ("a\n\"x\n\n", "line 2: a quoted cell"),
            ("a,a\n", "occurs twice"),
        ] {
            let e = CsvTable::parse("a.csv", text).unwrap_err();
            assert!(e.to_string().contains(expected), "{e}");
        }
        Ok(())
    }
}
