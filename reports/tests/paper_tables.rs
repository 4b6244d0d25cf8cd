//! The paper's tables: the computed numbers are the printed ones.

use burgess_reports::analysis::{MeasuredAbility, analyse};
use burgess_reports::page;
use burgess_reports::paper::{COLUMNS, PaperTables, PrintAgreement, RecomputedPaper, ScoreTable, TABLES, short};
use burgess_reports::paper::{NumberCheck, NumberKind};
use burgess_reports::table::paper_tables;

fn checks(kind: NumberKind) -> Vec<NumberCheck> {
    PaperTables::load().unwrap().checks().unwrap().into_iter().filter(|c| c.kind == kind).collect()
}

fn not_same(checks: &[NumberCheck]) -> Vec<(&str, &str, &str, PrintAgreement)> {
    let other = checks.iter().filter(|c| c.agreement != PrintAgreement::Same);
    other.map(|c| (c.file.as_str(), c.row.as_str(), c.column.as_str(), c.agreement)).collect()
}

#[test]
fn every_average_is_the_printed_one() {
    let checks = checks(NumberKind::Average);
    assert_eq!(checks.len(), 92);
    // 89 are equal to the last digit. In three rows the mean of the rounded columns lies just across a rounding
    // boundary.
    let rounded = PrintAgreement::WithinRounding;
    assert_eq!(
        not_same(&checks),
        [
            ("adapter-0.5m-frozen.csv", "22 SupViT-L/16@224", "Avg", rounded),
            ("adapter-1.2m-instruct-5m.csv", "DINOv2-L@336 unfrozen", "Avg", rounded),
            ("balance-threshold.csv", "t=250k (5218k)", "Avg", rounded),
        ]
    );
}

#[test]
fn every_category_mean_is_the_printed_one() {
    let (paper, ours) = (checks(NumberKind::CategoryMean), checks(NumberKind::FileMean));
    assert_eq!(ours.len(), 92 * 4);
    assert_eq!(not_same(&ours), []);
    // The paper prints one digit, computed from columns of one digit: 37 are equal to the last digit.
    assert_eq!(paper.len(), 40);
    assert!(paper.iter().all(|c| c.agreement != PrintAgreement::Differs), "{:?}", not_same(&paper));
    assert_eq!(not_same(&paper).len(), 3);
}

#[test]
fn the_means_of_the_project_page_are_those_of_the_table() {
    let checks = checks(NumberKind::ExactMean);
    assert_eq!(checks.len(), 18 * 4);
    assert!(checks.iter().all(|c| c.agreement != PrintAgreement::Differs), "{:?}", not_same(&checks));
    assert_eq!(not_same(&checks).len(), 9, "the page rounds later than the table in nine of them");
}

#[test]
fn every_rank_is_the_printed_one_but_a_misprint() {
    let checks = checks(NumberKind::Rank);
    assert_eq!(checks.len(), 100);
    assert_eq!(not_same(&checks), [("ranks-1.2m-frozen.csv", "21 SD2.1/16@512", "K", PrintAgreement::Differs)]);
}

#[test]
fn unfreezing_changes_what_the_figure_says() {
    let checks = checks(NumberKind::PrintedChange);
    assert_eq!(checks.len(), 4 * 18);
    let file = "unfreezing-change.csv";
    assert_eq!(
        not_same(&checks),
        [
            (file, "All models", "CV", PrintAgreement::Differs),
            (file, "Language-supervised", "CV", PrintAgreement::Differs),
            (file, "Other", "MMMU", PrintAgreement::WithinRounding),
            (file, "Other", "TextV", PrintAgreement::WithinRounding),
        ]
    );
}

#[test]
fn what_differs_is_explained() {
    for check in PaperTables::load().unwrap().checks().unwrap() {
        assert_eq!(check.agreement != PrintAgreement::Same, check.why.is_some(), "{check:?}");
    }
}

#[test]
fn every_file_of_the_folder_is_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/published");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|f| f.ends_with(".csv"))
        .collect();
    files.sort();
    let mut read: Vec<String> = TABLES.iter().map(|t| t.file.to_string()).collect();
    read.extend(
        [
            "categories-1.2m-frozen",
            "correlation",
            "linear-probe",
            "ranks-1.2m-frozen",
            "unfreezing-change",
            "vision-disabled",
        ]
        .map(|f| format!("{f}.csv")),
    );
    read.sort();
    assert_eq!(files, read);
    let readme = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
    for file in files {
        assert!(readme.contains(&format!("`{file}`")), "{file} is not in the README");
    }
}

#[test]
fn malformed_tables_are_told_by_their_place() {
    let header = format!("Model,Avg,{},G,K,O,V", COLUMNS.iter().map(|c| c.name).collect::<Vec<_>>().join(","));
    let row = |mme: &str| format!("x,,{mme},{},,,,", vec!["50"; 15].join(","));
    let say = |text: &str| ScoreTable::parse("t.csv", "Table 0", "", text).unwrap_err().to_string();
    let table = ScoreTable::parse("t.csv", "Table 0", "", &format!("{header}\n{}\n", row("1000"))).unwrap();
    assert_eq!(table.rows[0].mean(0), Some(50.0));
    assert_eq!(ScoreTable::parse("t.csv", "", "", &format!("{header}\n{}", row(""))).unwrap().rows[0].mean(0), None);
    assert!(say(&format!("{header}\n{}\n", row("NaN"))).contains("line 2, column 3 (MME): `NaN` is not a number"));
    assert!(say(&format!("{header}\n{}\n", row("2000.1"))).contains("2000.1 is not between 0 and 2000"));
    assert!(say(&format!("{header}\n{},\n", row("1"))).contains("line 2"));
    assert!(say(&format!("{header}\n{}\n{}\n", row("1"), row("2"))).contains("line 3, column 1 (Model)"));
    assert!(say(&header.replace("MMB", "MMBench")).contains("no rows"));
    assert!(say(&format!("{}\n{}\n", header.replace("MMB", "B"), row("1"))).contains("expected MMB, found B"));
}

#[test]
fn four_benchmarks_hardly_need_the_image() {
    // The paper states "less than 5 %". MMVP is below chance without the image. The digitised bars agree with the
    // table.
    let published = PaperTables::load().unwrap();
    let sights = published.vision_shares().unwrap();
    let of = |name: &str| sights.iter().find(|s| s.benchmark == name).unwrap();
    for name in ["ScienceQA", "MMMU", "MathVista", "AI2D"] {
        assert!(of(name).gain.unwrap().value < 5.0 && of(name).measures == MeasuredAbility::Language, "{name}");
    }
    // The mean with the image is below chance too, so vision contributes nothing measurable.
    assert!(of("MMVP").prior.unwrap().value < -20.0 && of("MMVP").measures == MeasuredAbility::Nothing);
    assert_eq!(of("CV-Bench 2D").measures, MeasuredAbility::Unknown, "nobody measured it blind");
    for bar in &published.disabled {
        let name = COLUMNS[bar.column].benchmark;
        assert!((of(name).gain.unwrap().value - bar.gain).abs() < 1.3, "{name}");
    }
    assert_eq!(short("6 SigLIP-SO400M/14@384"), "SigLIP-SO400M/14@384");
}

#[test]
fn the_tables_can_be_analysed() {
    let published = PaperTables::load().unwrap();
    for table in &published.tables {
        let analysis = analyse(&table.matrix().unwrap()).unwrap();
        let models = || analysis.pearson.models.iter().flatten().copied();
        let (low, high) = (models().min().unwrap(), models().max().unwrap());
        assert!(low >= 3 || table.file == "final-models.csv", "{}", table.file);
        assert!(high == table.rows.len() || table.file == "final-models.csv");
    }
    for beside in published.correlation_checks().unwrap() {
        assert!(beside.mean < 0.17, "{beside:?}");
        println!("{beside:?}");
    }
}

#[test]
fn the_tables_become_one_self_contained_page() {
    // BURGESS_KEEP_PAGE=DIR keeps the written files for inspection.
    let dir = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("BURGESS_KEEP_PAGE").map(|d| std::path::PathBuf::from(d).join("published"));
    let written = page::paper_page::write(kept.as_deref().unwrap_or(dir.path())).unwrap();
    let html = std::fs::read_to_string(&written.page).unwrap();
    for external in ["src=\"http", "@import", "url(", "<script"] {
        assert!(!html.contains(external), "{external}");
    }
    for table in TABLES {
        assert!(html.contains(table.about) && html.contains(table.file), "{}", table.file);
    }
    assert_eq!(html.matches("<svg xmlns").count(), html.matches("<desc").count(), "every figure is described");
    // Adapter data, categories with the average, unfreezing by group, vision by category, matrix, components, tree.
    assert_eq!(html.matches("<svg xmlns").count(), 2 + 5 + 4 + 4 + 2 + 2 + 2);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    let data: serde_json::Value = burgess_base::atomic::read_json(&written.data).unwrap();
    assert_eq!(data["tables"][2]["models"][0]["model"], "6 SigLIP-SO400M/14@384");
    assert_eq!(data["tables"][2]["models"][0]["rank"], serde_json::json!([1, 1, 1, 2, 1]));
    assert_eq!(data["checks"].as_array().unwrap().len(), written.outcome.checks.len());
}

#[test]
fn the_tables_in_a_terminal() {
    let outcome = RecomputedPaper::of(&PaperTables::load().unwrap()).unwrap();
    let text = paper_tables(&outcome, 100, false);
    assert!(text.lines().all(|l| l.chars().count() <= 100));
    insta::assert_snapshot!("paper", text);
}
