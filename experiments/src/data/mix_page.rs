//! The page and the curve of a training mix, from its table.

use burgess_base::{Result, atomic};
use burgess_mix::{Basis, Manifest, Mix, MixTable, PoolProblems, TableRow};
use burgess_reports::figure::{CumulativeCounts, cumulative_counts_svg};
use burgess_reports::page::mix_page::{MixPage, MixPageRow, MixPageShare, mix_page};
use std::path::Path;

/// Names of the page and of the curve in the directory of a mix.
pub const FILES: [&str; 2] = ["index.html", "cumulative.svg"];
/// Thresholds to which a mix is compared in the curve: those of the paper.
const THRESHOLDS: [u64; 4] = [150_000, 250_000, 350_000, 450_000];

/// Writes the page of a mix and its curve to a directory.
///
/// # Errors
/// The files cannot be written.
pub fn write(
    dir: &Path,
    name: &str,
    mix: &Mix,
    table: &MixTable,
    problems: &PoolProblems,
    manifest: Option<&Manifest>,
) -> Result<()> {
    let page = values(name, mix, table, problems, manifest);
    let [html, svg] = FILES.map(|name| dir.join(name));
    atomic::write(&html, mix_page(&page)?.as_bytes())?;
    atomic::write(&svg, cumulative_counts_svg(&page.curve_sources, &page.curves).as_bytes())
}

fn values(name: &str, mix: &Mix, table: &MixTable, problems: &PoolProblems, manifest: Option<&Manifest>) -> MixPage {
    let row = |row: &TableRow, kind: &str| MixPageRow {
        name: row.source.clone(),
        kind: kind.to_string(),
        published: row.published,
        counts: std::iter::once(row.before).chain(row.after.iter().copied()).collect(),
    };
    let first = match table.basis {
        Basis::Pools => "in pools",
        Basis::PublishedCounts => "published",
    };
    let share = |kind: &burgess_mix::select::KindCount| MixPageShare {
        kind: kind.kind.clone(),
        share: kind.share,
        wanted: kind.wanted,
        available: kind.available,
        taken: kind.taken,
    };
    let (curve_sources, curves) = curves(table);
    let mut facts = vec![("seed".to_string(), mix.seed.to_string())];
    for file in manifest.iter().flat_map(|manifest| &manifest.outputs).take(20) {
        facts.push((file.file.clone(), format!("{} entries, {} bytes, {}", file.entries, file.bytes, file.digest)));
    }
    for input in manifest.iter().flat_map(|manifest| &manifest.inputs).take(20) {
        facts.push((input.path.display().to_string(), format!("{} bytes, {}", input.bytes, input.digest)));
    }
    if let Some(manifest) = manifest {
        facts.push(("burgess".into(), manifest.version.clone()));
    }
    let mut said = problems.lines();
    for left_out in manifest.iter().flat_map(|manifest| &manifest.counts.left_out) {
        said.push(format!(
            "{} of {} left out while writing: {} ({})",
            left_out.count,
            left_out.source,
            left_out.reason,
            left_out.first.join(", ")
        ));
    }
    MixPage {
        name: name.to_string(),
        about: mix.about.as_deref().unwrap_or_default().trim().to_string(),
        columns: std::iter::once(first.to_string()).chain(table.rules.iter().cloned()).collect(),
        sources: table.sources.iter().map(|source| row(source, &source.kind)).collect(),
        kinds: table.kinds().iter().map(|kind| row(kind, "")).collect(),
        total: row(&table.total(), ""),
        shares: table.ratios.iter().flat_map(|plan| &plan.kinds).map(share).collect(),
        notes: table.notes.clone(),
        problems: said,
        curve_sources,
        curves,
        facts,
    }
}

/// Returns the sources from the smallest to the largest, and their cumulative counts: before the rules, in the mix, and
/// with the paper's thresholds where they would cut.
fn curves(table: &MixTable) -> (Vec<String>, Vec<CumulativeCounts>) {
    let mut rows: Vec<&TableRow> = table.sources.iter().filter(|row| row.before > 0).collect();
    rows.sort_by(|a, b| a.before.cmp(&b.before).then(a.source.cmp(&b.source)));
    let line = |name: &str, count: &dyn Fn(&TableRow) -> u64, is_reference: bool| {
        let mut sum = 0;
        let counts = rows.iter().map(|row| {
            sum += count(row);
            sum
        });
        CumulativeCounts { name: name.to_string(), counts: counts.collect(), is_reference }
    };
    let first = if table.basis == Basis::Pools { "pools" } else { "published" };
    let mut curves = vec![line(first, &|row| row.before, false)];
    if !table.rules.is_empty() {
        curves.push(line("mix", &TableRow::taken, false));
    }
    let largest = rows.last().map_or(0, |row| row.before);
    for t in THRESHOLDS.into_iter().filter(|t| *t < largest) {
        let cut = line(&format!("t = {}k", t / 1000), &|row| row.before.min(t), true);
        if curves.iter().all(|known| known.counts != cut.counts) {
            curves.push(cut);
        }
    }
    (rows.iter().map(|row| row.source.clone()).collect(), curves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_a_built_in_mix_has_its_table_and_curve() -> Result<()> {
        let mix = Mix::builtin("cambrian-10m-t250k")?;
        let table = MixTable::from_published(&mix)?;
        let page = values("cambrian-10m-t250k", &mix, &table, &PoolProblems::default(), None);
        let names: Vec<&str> = page.curves.iter().map(|line| line.name.as_str()).collect();
        // The mix is the threshold at 250k itself.
        assert_eq!(names, ["published", "mix", "t = 150k", "t = 350k", "t = 450k"]);
        let last: Vec<u64> = page.curves.iter().filter_map(|line| line.counts.last().copied()).collect();
        assert_eq!(last, [9_745_500, 5_012_500, 3_861_500, 5_776_500, 6_426_500]);
        let dir = tempfile::tempdir()?;
        write(dir.path(), "cambrian-10m-t250k", &mix, &table, &PoolProblems::default(), None)?;
        let html = std::fs::read_to_string(dir.path().join("index.html"))?;
        assert!(html.contains("5,012,500") && html.contains("5,218,000"));
        assert!(std::fs::read_to_string(dir.path().join("cumulative.svg"))?.starts_with("<svg"));
        Ok(())
    }
}
