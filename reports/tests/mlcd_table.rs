//! The encoder table of MLCD's README: means, ranks, page and terminal text.

use burgess_reports::mlcd::{MLCD_SOURCE, MlcdTable, RecomputedMlcd};
use burgess_reports::page;
use burgess_reports::paper::PaperTables;
use burgess_reports::sheet::{markdown, mlcd_csv, mlcd_sheet};
use burgess_reports::table::mlcd_table;

fn outcome() -> RecomputedMlcd {
    RecomputedMlcd::of(&MlcdTable::load().unwrap(), &PaperTables::load().unwrap()).unwrap()
}

#[test]
fn means_and_ranks_are_those_of_the_columns() {
    let table = outcome();
    let models: Vec<&str> = table.models.iter().map(|m| m.model.as_str()).collect();
    assert_eq!(
        models,
        [
            "MLCD ViT-bigG/14@448",
            "MLCD ViT-bigG/14@336",
            "SigLIP ViT-SO400M/14@384",
            "MLCD ViT-L/14@336",
            "DFN5B ViT-H/14@378",
            "CLIP ViT-L/14@336"
        ]
    );
    // (69.28 + 76.71 + 41.38 + 55.40) / 4 = 60.6925, MMMU 46.78; both SigLIP and MLCD ViT-bigG/14@336 have this MMMU.
    let siglip = &table.models[2];
    let means = siglip.means.map(|m| (m * 1e4).round() / 1e4);
    assert_eq!((means, siglip.ranks), ([53.7363, 60.6925, 46.78], [Some(3), Some(3), Some(2)]));
    assert_eq!(table.models[1].ranks, [Some(2), Some(2), Some(2)]);
    assert_eq!(table.models[4].ranks, [Some(5), Some(6), Some(1)], "DFN5B is last in reading and first in MMMU");
}

#[test]
fn three_encoders_are_compared_with_cambrian_1() {
    let compared = outcome().cambrian;
    assert_eq!(compared.benchmarks, ["ChartQA", "DocVQA", "OCRBench", "MMMU"]);
    let ours: Vec<&str> = compared.encoders.iter().map(|e| e.model.as_str()).collect();
    assert_eq!(ours, ["SigLIP ViT-SO400M/14@384", "CLIP ViT-L/14@336", "DFN5B ViT-H/14@378"]);
    assert!(compared.encoders.iter().all(|e| e.here > e.cambrian + 15.0), "{compared:?}");
}

#[test]
fn the_file_is_described_where_it_lies() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/published");
    let about = std::fs::read_to_string(format!("{folder}/mlcd/README.md")).unwrap();
    let commit = MLCD_SOURCE.url.split('/').nth(6).unwrap();
    assert!(about.contains(commit) && about.contains(MLCD_SOURCE.file.trim_start_matches("mlcd/")));
    assert!(std::fs::read_to_string(format!("{folder}/README.md")).unwrap().contains(MLCD_SOURCE.file));
}

#[test]
fn the_table_in_a_terminal_and_for_papers() {
    let table = outcome();
    let text = mlcd_table(&table, 100, false);
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    insta::assert_snapshot!("mlcd", text);
    assert!(mlcd_csv(&table).contains("SigLIP ViT-SO400M/14@384,Knowledge,2,46.78,"));
    assert!(markdown(&mlcd_sheet(&table)).contains("| 1 | MLCD ViT-bigG/14@448 | 55.74 | 65.48 | 46.00 | 73.80 |"));
}

#[test]
fn the_table_becomes_one_self_contained_page() {
    // BURGESS_KEEP_PAGE=DIR keeps the written files for inspection.
    let dir = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("BURGESS_KEEP_PAGE").map(|d| std::path::PathBuf::from(d).join("published/mlcd"));
    let written = page::mlcd_page::write(kept.as_deref().unwrap_or(dir.path())).unwrap();
    let html = std::fs::read_to_string(&written.page).unwrap();
    for external in ["src=\"http", "@import", "url(", "<script"] {
        assert!(!html.contains(external), "{external}");
    }
    assert_eq!(html.matches("<svg xmlns").count(), 3);
    assert_eq!(html.matches("<svg xmlns").count(), html.matches("<desc").count(), "every figure is described");
    let data: serde_json::Value = burgess_base::atomic::read_json(&written.data).unwrap();
    assert_eq!(data["models"][0]["printed"][3], "582.00");
    assert_eq!(data["columns"][3]["highest"], 1000.0);
}
