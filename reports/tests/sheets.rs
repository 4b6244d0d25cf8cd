//! Rankings as CSV, Markdown and LaTeX.

mod fixture;

use burgess_reports::paper::{PaperTables, RecomputedPaper};
use burgess_reports::ranking::{RankOptions, Ranking, rank};
use burgess_reports::sheet::{latex, markdown, paper_csv, paper_sheets, ranking_csv, ranking_sheets};

fn ranking() -> Ranking {
    let options = RankOptions { study: "nano_1 & more|less".into(), replicates: 300, ..Default::default() };
    rank(&fixture::runs_with_oracle(1, 40), &[fixture::missing()], &options).unwrap()
}

#[test]
fn a_ranking_for_papers() {
    let sheets = ranking_sheets(&ranking());
    insta::assert_snapshot!("ranking_markdown", sheets.iter().map(markdown).collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!("ranking_latex", sheets.iter().map(latex).collect::<Vec<_>>().join("\n"));
    for sheet in &sheets {
        let cells = sheet.groups.iter().flatten().all(|row| row.cells.len() == sheet.header.len());
        assert!(cells, "{}", sheet.caption);
    }
}

#[test]
fn a_ranking_for_programs() {
    let ranking = ranking();
    let csv = ranking_csv(&[&ranking, &ranking]);
    let lines: Vec<&str> = csv.lines().collect();
    // Ten arms, of which each has an average, four categories and nine benchmarks, twice.
    assert_eq!(lines.len(), 1 + 2 * 10 * 14);
    let columns = lines[0].split(',').count();
    assert!(lines.iter().all(|l| l.split(',').count() == columns), "no cell needs quotes here");
    for role in ["trained", "random", "oracle"] {
        assert!(csv.contains(&format!(",{role},")), "{role}");
    }
    insta::assert_snapshot!("ranking_csv", lines[..16].join("\n"));
}

#[test]
fn the_papers_tables() {
    let paper = RecomputedPaper::of(&PaperTables::load().unwrap()).unwrap();
    let csv = paper_csv(&paper);
    let models: usize = paper.tables.iter().map(|t| t.models.len()).sum();
    assert_eq!(csv.lines().count(), 1 + 5 * models);
    assert!(csv.contains(",same\n") && csv.contains(",within rounding\n"));
    insta::assert_snapshot!("paper_csv", csv.lines().take(12).collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!("paper_markdown", paper_sheets(&paper).first().map(markdown).unwrap_or_default());
    assert!(paper_sheets(&paper).iter().map(latex).all(|t| t.matches("\\toprule").count() == 1));
}
