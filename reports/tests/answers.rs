//! The folder of the answer browser: what is in it, and what happens when it is written again.

mod fixture;

use burgess_reports::answers::{AnswerOptions, ImageMode};
use burgess_reports::load::StudyData;
use burgess_reports::page::{ReportFiles, StudyInfo, WrittenReport, write_study};
use burgess_reports::ranking::RankOptions;
use std::path::Path;

fn write(dir: &Path, images: ImageMode) -> WrittenReport {
    let options = RankOptions { replicates: 50, ..Default::default() };
    let browser = AnswerOptions { images, ..Default::default() };
    let study = StudyData::load(dir).unwrap();
    write_study(study, &StudyInfo::default(), &options, &browser, ReportFiles::of_study(dir)).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn equal_results_give_equal_packs_and_old_ones_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 1, 12).unwrap();
    let file = dir.path().join("nano-mae/seed-0/samples/nano-gqa.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let harm = text.replace("I think", "</script>\\u202e I think");
    std::fs::write(&file, format!("{harm}{}\nnot json\n", harm.lines().next().unwrap())).unwrap();
    let first = write(dir.path(), ImageMode::Auto).answers;
    assert_eq!((first.mode, first.questions, first.answers), (ImageMode::Copy, 9 * 12, 9 * 9 * 12));
    assert_eq!((first.images.all, first.images.shown), (9 * 12, 9 * 12));
    assert!(first.problems.iter().any(|p| p.starts_with("nano-mae/seed-0/samples/nano-gqa.jsonl:14: ")), "{first:?}");
    assert!(first.problems.iter().any(|p| p.contains("answers to questions that it answered before")), "{first:?}");
    let folder = dir.path().join("report/answers");
    let data = format!("data-{}", first.generation);
    assert_eq!(names(&folder), [data.as_str(), "images", "index.html"]);
    for pack in names(&folder.join(&data)) {
        let text = std::fs::read_to_string(folder.join(&data).join(&pack)).unwrap();
        assert!(pack == "app.js" || !text.contains(['<', '\u{202e}']), "{pack}");
        assert!(!text.contains("http"), "{pack} names another machine");
    }
    // Again: the same name. Without images: other packs, and no copies.
    assert_eq!(write(dir.path(), ImageMode::Copy).answers.generation, first.generation);
    let none = write(dir.path(), ImageMode::None).answers;
    assert_ne!(none.generation, first.generation);
    assert_eq!(names(&folder), [format!("data-{}", none.generation), "index.html".into()]);
    assert_eq!(none.images_in_words(), "without images");
    let served = write(dir.path(), ImageMode::Served).answers;
    assert_eq!(served.served.iter().flatten().count(), 9 * 12);
}
