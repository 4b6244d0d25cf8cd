//! The page of a training mix: its sources before and after each rule, its kinds, and the curve of cumulative counts.

use super::template;
use crate::figure::{CumulativeCounts, PANEL, cumulative_counts};
use burgess_base::Result;
use serde::Serialize;

/// The numbers of one source or one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MixPageRow {
    /// Name of the source or kind.
    pub name: String,
    /// Its kind; empty in a row of a kind.
    pub kind: String,
    /// Published number of entries.
    pub published: Option<u64>,
    /// Numbers before the rules, and after each of them.
    pub counts: Vec<u64>,
}

/// The numbers of a kind's share.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MixPageShare {
    /// The kind.
    pub kind: String,
    /// Its share as it is written.
    pub share: f64,
    /// Number of entries that this share of the total is.
    pub wanted: u64,
    /// Number of entries that there are.
    pub available: u64,
    /// Number of entries that are taken.
    pub taken: u64,
}

/// What the page of a mix shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MixPage {
    /// Name of the mix.
    pub name: String,
    /// What the mix is; may be empty.
    pub about: String,
    /// Names of the columns of counts: before the rules, then each rule.
    pub columns: Vec<String>,
    /// The sources, ordered by kind.
    pub sources: Vec<MixPageRow>,
    /// Sums of the kinds.
    pub kinds: Vec<MixPageRow>,
    /// Sums of all sources.
    pub total: MixPageRow,
    /// Shares of kinds, if the mix has a rule about them.
    pub shares: Vec<MixPageShare>,
    /// Sentences about the numbers.
    pub notes: Vec<String>,
    /// What could not be read, one line each.
    pub problems: Vec<String>,
    /// Names of the sources of the curve, from the smallest to the largest.
    pub curve_sources: Vec<String>,
    /// Lines of the curve.
    pub curves: Vec<CumulativeCounts>,
    /// Facts about the output: its files, digests, seed.
    pub facts: Vec<(String, String)>,
}

#[derive(Serialize)]
struct PageValues<'a> {
    style: String,
    page: &'a MixPage,
    broad: String,
    narrow: String,
    kinds: Vec<KindBar>,
    version: &'a str,
}

/// A kind with its share of the mix and of the pools, in percent.
#[derive(Serialize)]
struct KindBar {
    name: String,
    before: f64,
    after: f64,
    /// Lengths of the bars in percent of the largest.
    before_width: f64,
    after_width: f64,
    count: u64,
}

/// Renders the page of a mix as one self-contained HTML file.
///
/// # Errors
/// The template cannot be filled.
pub fn mix_page(page: &MixPage) -> Result<String> {
    let style = format!("{}{}", template::style(), include_str!("../../templates/mix.css"));
    let share = |count: u64, all: u64| if all == 0 { 0.0 } else { 100.0 * count as f64 / all as f64 };
    let ends = |row: &MixPageRow| (row.counts.first().copied().unwrap_or(0), row.counts.last().copied().unwrap_or(0));
    let (before, after) = ends(&page.total);
    let shares = |kind: &MixPageRow| {
        let (own_before, own_after) = ends(kind);
        (share(own_before, before), share(own_after, after))
    };
    let largest = page.kinds.iter().map(shares).map(|(a, b)| a.max(b)).fold(1e-9, f64::max);
    let kinds = page.kinds.iter().map(|kind| {
        let (before, after) = shares(kind);
        KindBar {
            name: kind.name.clone(),
            before,
            after,
            before_width: 100.0 * before / largest,
            after_width: 100.0 * after / largest,
            count: ends(kind).1,
        }
    });
    let values = PageValues {
        style,
        page,
        broad: cumulative_counts(&page.curve_sources, &page.curves, 2.0 * PANEL + 80.0),
        narrow: cumulative_counts(&page.curve_sources, &page.curves, PANEL),
        kinds: kinds.collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    template::render("mix.html", &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_all_numbers_and_escapes_names() -> Result<()> {
        let row = |name: &str, kind: &str, counts: Vec<u64>| MixPageRow {
            name: name.into(),
            kind: kind.into(),
            published: Some(1_234_567),
            counts,
        };
        let page = MixPage {
            name: "my <mix>".into(),
            columns: vec!["in pools".into(), "threshold".into()],
            sources: vec![row("<b>dvqa</b>", "ocr", vec![2_325_000, 150_000])],
            kinds: vec![row("ocr", "", vec![2_325_000, 150_000])],
            total: row("total", "", vec![2_325_000, 150_000]),
            shares: vec![MixPageShare { kind: "ocr".into(), share: 27.22, wanted: 5, available: 4, taken: 4 }],
            notes: vec!["one note".into()],
            problems: vec!["3 skipped\u{202e}".into()],
            curve_sources: vec!["dvqa".into()],
            curves: vec![CumulativeCounts { name: "pools".into(), counts: vec![2_325_000], is_reference: false }],
            facts: vec![("seed".into(), "0".into())],
            ..MixPage::default()
        };
        let html = mix_page(&page)?;
        for part in
            ["my &lt;mix&gt;", "&lt;b&gt;dvqa", "2,325,000", "1,234,567", "27.22", "one note", "3 skipped", "seed"]
        {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains('\u{202e}') && !html.contains("<b>dvqa"));
        assert!(mix_page(&MixPage::default())?.contains("<html"));
        Ok(())
    }
}
