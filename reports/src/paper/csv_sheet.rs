//! Parser of the paper's CSV files: plain cells, no quotes, as many in every row as in the header. Anything else is an
//! error with file, line and column.

use burgess_base::{Error, Result};
use serde::{Serialize, Serializer};

/// A number with the digits that were printed: 66.0 and 66.00 are different prints.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrintedNumber {
    /// The number that the cell states.
    pub value: f64,
    /// Number of digits after the decimal point.
    pub digits: usize,
}

impl PrintedNumber {
    /// Parses a number such as `-12.30`: only a sign, digits and one decimal point, so neither `NaN` nor `1e3`.
    pub fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |t: &str| !t.is_empty() && t.len() <= 12 && t.bytes().all(|b| b.is_ascii_digit());
        if !(digits(whole) && digits(fraction)) {
            return None;
        }
        let behind = unsigned.split_once('.').map_or(0, |(_, f)| f.len());
        Some(Self { value: text.parse().ok()?, digits: behind })
    }

    /// Returns the number as it was printed.
    pub fn text(&self) -> String {
        format!("{:.*}", self.digits, self.value)
    }

    /// Returns the maximum rounding error of the printed number.
    pub fn half_unit(&self) -> f64 {
        0.5 * 10f64.powi(-i32::try_from(self.digits).unwrap_or(0))
    }

    /// Compares with a number computed from other printed ones; `rounding_error` is the maximum error that their
    /// rounding causes.
    pub fn compare(&self, computed: f64, rounding_error: f64) -> PrintAgreement {
        if format!("{computed:.*}", self.digits) == self.text() {
            PrintAgreement::Same
        } else if (computed - self.value).abs() <= self.half_unit() + rounding_error + 1e-9 {
            PrintAgreement::WithinRounding
        } else {
            PrintAgreement::Differs
        }
    }
}

impl Serialize for PrintedNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.value)
    }
}

/// The agreement of a computed number with the printed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrintAgreement {
    /// Equal to the last printed digit.
    Same,
    /// Different, but by no more than the rounding of the printed numbers allows.
    WithinRounding,
    /// Different by more than rounding allows.
    Differs,
}

/// The cells of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvSheet {
    file: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl CsvSheet {
    /// Splits `text` into cells; `file` is its name in errors.
    ///
    /// # Errors
    /// An error is returned for a missing header, a column without a name or with a repeated one, a row with more or
    /// fewer cells than the header, an empty line, or a quote.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let fail = |line: usize, column: usize, what: String| {
            Err(Error::failed(format!("{file}, line {line}, column {column}: {what}"))
                .hint("the cells of a published table are plain and separated by commas, one row a line"))
        };
        let cells = |line: &str| -> Vec<String> { line.split(',').map(|c| c.trim().to_string()).collect() };
        let mut lines = text.trim_end_matches(['\n', '\r']).split('\n').map(|l| l.trim_end_matches('\r'));
        let header = cells(lines.next().unwrap_or(""));
        for (i, name) in header.iter().enumerate() {
            if name.is_empty() {
                return fail(1, i + 1, "the column has no name".to_string());
            }
            if header.iter().take(i).any(|n| n == name) {
                return fail(1, i + 1, format!("a second column is called {name}"));
            }
        }
        let mut rows = Vec::new();
        for (i, line) in lines.enumerate() {
            let row = cells(line);
            if row.len() != header.len() {
                let what = format!("the row has {} cells, but the header has {}", row.len(), header.len());
                return fail(i + 2, row.len().min(header.len()), what);
            }
            if let Some(c) = row.iter().position(|c| c.contains('"')) {
                return fail(i + 2, c + 1, "quotes are not supported".to_string());
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return fail(2, 1, "no rows below the header".to_string());
        }
        Ok(Self { file: file.to_string(), header, rows })
    }

    /// Checks that the columns are these, in this order.
    ///
    /// # Errors
    /// An error names the first column that differs.
    pub fn expect(&self, columns: &[&str]) -> Result<()> {
        let differs = (0..columns.len().max(self.header.len()))
            .find(|i| self.header.get(*i).map(String::as_str) != columns.get(*i).copied());
        match differs {
            None => Ok(()),
            Some(i) => Err(Error::failed(format!(
                "{}, line 1, column {}: expected {}, found {}",
                self.file,
                i + 1,
                columns.get(i).copied().unwrap_or("nothing"),
                self.header.get(i).map_or("nothing", String::as_str)
            ))),
        }
    }

    /// Returns the number of rows below the header.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// Returns a cell's text; empty outside the sheet.
    pub fn text(&self, row: usize, column: usize) -> &str {
        self.rows.get(row).and_then(|r| r.get(column)).map_or("", String::as_str)
    }

    /// Returns a cell as a number; `None` if it is empty.
    ///
    /// # Errors
    /// An error is returned if the cell is neither empty nor a number.
    pub fn number(&self, row: usize, column: usize) -> Result<Option<PrintedNumber>> {
        match self.text(row, column) {
            "" => Ok(None),
            text => match PrintedNumber::parse(text) {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(row, column, &format!("`{text}` is not a number"))),
            },
        }
    }

    /// Returns a cell that must be a number.
    ///
    /// # Errors
    /// An error is returned if the cell is empty or not a number.
    pub fn needed(&self, row: usize, column: usize) -> Result<PrintedNumber> {
        self.number(row, column)?.ok_or_else(|| self.wrong(row, column, "a number is missing"))
    }

    /// Creates an error about a cell.
    pub fn wrong(&self, row: usize, column: usize, what: &str) -> Error {
        let name = self.header.get(column).map_or("", String::as_str);
        Error::failed(format!("{}, line {}, column {} ({name}): {what}", self.file, row + 2, column + 1))
    }

    /// Returns a column as names, which must be unique and not empty.
    ///
    /// # Errors
    /// An error is returned for a repeated name, or for a row without one.
    pub fn names(&self, column: usize) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::with_capacity(self.count());
        for row in 0..self.count() {
            let name = self.text(row, column);
            if name.is_empty() {
                return Err(self.wrong(row, column, "the row has no name"));
            }
            if names.iter().any(|n| n == name) {
                return Err(self.wrong(row, column, &format!("a second row is called {name}")));
            }
            names.push(name.to_string());
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_file_line_and_column() {
        let say = |text: &str| CsvSheet::parse("t.csv", text).unwrap_err().to_string();
        assert!(say("a,b\n1,2,3\n").contains("t.csv, line 2, column 2: the row has 3 cells, but the header has 2"));
        assert!(say("a,b\n1,2\n3\n").contains("line 3, column 1: the row has 1 cells"));
        assert!(say("a,b\n1,2\n\n3,4\n").contains("line 3"));
        assert!(say("a,a\n1,2\n").contains("line 1, column 2: a second column is called a"));
        assert!(say("a,\n1,2\n").contains("line 1, column 2: the column has no name"));
        assert!(say("a,b\n1,\"2\"\n").contains("line 2, column 2: quotes are not supported"));
        assert!(say("").contains("line 1, column 1"));
        assert!(say("a,b\n").contains("no rows"));
        let sheet = CsvSheet::parse("t.csv", "Model,b\nx,NaN\nx,1e3\ny,\n").unwrap();
        for row in [0, 1] {
            assert!(sheet.number(row, 1).unwrap_err().to_string().contains("column 2 (b)"));
        }
        assert_eq!(sheet.number(2, 1).unwrap(), None);
        assert!(
            sheet.needed(2, 1).unwrap_err().to_string().contains("t.csv, line 4, column 2 (b): a number is missing")
        );
        assert!(sheet.names(0).unwrap_err().to_string().contains("line 3, column 1 (Model): a second row is called x"));
        assert!(sheet.expect(&["Model", "c"]).unwrap_err().to_string().contains("expected c, found b"));
        assert!(sheet.expect(&["Model", "b", "c"]).unwrap_err().to_string().contains("expected c, found nothing"));
    }

    #[test]
    fn numbers_keep_their_digits() {
        for text in ["66.00", "-0.95", "7", "0.123456"] {
            assert_eq!(PrintedNumber::parse(text).unwrap().text(), text);
        }
        for text in ["", "-", ".5", "5.", "1.2.3", "1e3", "inf", "NaN", "+1", "1 2", "0x1"] {
            assert_eq!(PrintedNumber::parse(text), None, "{text}");
        }
        let printed = PrintedNumber::parse("1.50").unwrap();
        assert_eq!(printed.compare(1.5049, 0.0), PrintAgreement::Same);
        assert_eq!(printed.compare(1.5051, 0.001), PrintAgreement::WithinRounding);
        assert_eq!(printed.compare(1.52, 0.001), PrintAgreement::Differs);
    }
}
