//! Tables for papers and for other programs: Markdown, LaTeX and CSV.

mod csv;
mod latex;
mod markdown;
mod mlcd;
mod paper;
mod predictors;
mod ranking;

pub(crate) use csv::{csv_number, csv_text};
pub use latex::latex;
pub use markdown::markdown;
pub use mlcd::{mlcd_csv, mlcd_sheet};
pub use paper::{paper_csv, paper_sheets};
pub use predictors::{predictors_csv, predictors_sheets, published_prediction_csv, published_prediction_sheet};
pub use ranking::{ranking_csv, ranking_sheets};

/// A table for a paper or a page: caption, header, groups of rows, and notes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sheet {
    /// What the table shows, in one or a few sentences.
    pub caption: String,
    /// Label for references, without blanks, such as `nano-average`.
    pub label: String,
    /// Names of the columns; the first ones hold texts.
    pub header: Vec<String>,
    /// Number of columns of text at the left; all others hold numbers.
    pub texts: usize,
    /// Groups of rows, which are separated by rules.
    pub groups: Vec<Vec<SheetRow>>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

/// A row of a [`Sheet`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SheetRow {
    /// The cells, as many as the header has.
    pub cells: Vec<SheetCell>,
}

/// A cell of a [`Sheet`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SheetCell {
    /// The text.
    pub text: String,
    /// Whether the text is bold.
    pub bold: bool,
}

impl From<String> for SheetCell {
    fn from(text: String) -> Self {
        Self { text, bold: false }
    }
}

impl From<&str> for SheetCell {
    fn from(text: &str) -> Self {
        Self::from(text.to_string())
    }
}

impl FromIterator<SheetCell> for SheetRow {
    fn from_iter<T: IntoIterator<Item = SheetCell>>(cells: T) -> Self {
        Self { cells: cells.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let cell = |text: &str, bold: bool| SheetCell { text: text.into(), bold };
        Sheet {
            caption: "A | B & 50 % of C_1".into(),
            label: "a b".into(),
            header: vec!["arm".into(), "average\n(%)".into()],
            texts: 1,
            groups: vec![
                vec![[cell("x|y_<b>\\{}~^#$", true), cell("46.5 ± 1.2", true)].into_iter().collect()],
                vec![[cell("line\nbreak\u{1b}[31m", false), cell("−0.3", false)].into_iter().collect()],
            ],
            notes: vec!["Note: 5–6 > 4.".into()],
        }
    }

    #[test]
    fn markdown_escapes_what_it_reads() {
        let expected = "**A \\| B & 50 % of C\\_1**\n\n| arm | average (%) |\n| :-- | --: |\n\
            | **x\\|y\\_\\<b\\>\\\\{}\\~^#$** | **46.5 ± 1.2** |\n| line break\\\\x1b\\[31m | −0.3 |\n\n\
            Note: 5–6 \\> 4.\n";
        assert_eq!(markdown(&sheet()), expected);
    }

    #[test]
    fn latex_escapes_what_it_reads() {
        let text = latex(&sheet());
        for part in [
            "\\caption{A | B \\& 50 \\% of C\\_1}",
            "\\label{tab:a-b}",
            "\\begin{tabular}{lr}",
            "arm & average (\\%) \\\\",
            "\\textbf{x|y\\_<b>\\textbackslash{}\\{\\}\\textasciitilde{}\\textasciicircum{}\\#\\$} & \
             \\textbf{46.5 $\\pm$ 1.2} \\\\",
            "line break\\textbackslash{}x1b[31m & $-$0.3 \\\\",
            "Note: 5--6 > 4.",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.matches("\\midrule").count(), 2);
    }

    #[test]
    fn csv_quotes_what_it_must() {
        assert_eq!(csv_text("plain name"), "plain name");
        assert_eq!(csv_text("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(csv_number(1.0 / 3.0), "0.333333");
        assert_eq!(
            (csv_number(f64::NAN), csv_number(-0.0), csv_number(12.5)),
            (String::new(), "0".into(), "12.5".into())
        );
    }
}
