//! How the models answer: computed from the samples of a study on disk, of this version and of earlier ones.

mod fixture;

use burgess_base::{Result, atomic};
use burgess_reports::answer_style::{AnswerStyle, QuestionGroup, style_block};
use burgess_reports::load::StudyData;
use burgess_reports::page::{self, StudyInfo};
use burgess_reports::ranking::RankOptions;
use burgess_reports::sheet;
use burgess_reports::table::ranking_table;
use serde_json::{Value, json};
use std::path::Path;

const SHORT: &str = "\nAnswer the question using a single word or phrase.";

/// Writes the samples of a benchmark: question, what the prompt adds, target, and the answer.
fn samples(run: &Path, benchmark: &str, rows: &[(&str, &str, &str, &str)], recorded: bool) -> Result<()> {
    let mut text = String::new();
    for (i, (question, added, target, answer)) in rows.iter().enumerate() {
        let mut line = json!({
            "id": format!("q{i}"), "unit": format!("u{}", i / 2), "question": question,
            "prompt": format!("{question}{added}"), "image": "a.png", "target": target, "answer": answer,
            "parsed": answer, "score": 1.0, "blind_answer": "", "blind_score": 0.0,
        });
        if recorded {
            line["tokens"] = json!(answer.len());
            line["at_limit"] = json!(answer.len() > 60);
        }
        text += &format!("{line}\n");
    }
    atomic::write(&run.join(format!("samples/{benchmark}.jsonl")), text.as_bytes())
}

/// The fixture's study whose samples are replaced: every arm explains but `dinov2`, the answering machine.
fn study(dir: &Path) -> Result<()> {
    fixture::write_study(dir, 2, 20)?;
    for run in StudyData::load(dir)?.runs {
        std::fs::remove_dir_all(run.dir.join("samples")).map_err(burgess_base::Error::from)?;
        let arm = run.results.run.arm.clone();
        let machine = arm == "nano-dinov2";
        let say = |long: &'static str| if machine { "dog" } else { long };
        let recorded = arm != "nano-sup";
        let long = "The image shows a dog on a sofa. It sleeps beside a red cushion near the window of the room.";
        samples(
            &run.dir,
            "nano-mmvp",
            &[
                ("Describe the image.", "", "A dog sleeps on a sofa.", say(long)),
                ("Why is the dog on the sofa?", "", "It is tired.", say("Because it is tired and the sofa is soft.")),
                ("How many dogs are there?", "", "1", say("There is one dog.")),
                ("Explain the joke.", SHORT, "It is a pun.", "pun"),
                ("What is it?", SHORT, "dog", "dog"),
                ("What is it?", SHORT, "dog", "dog dog dog dog dog"),
                ("Is it a dog?", "", "Yes", "yes"),
                (
                    "Which is it?\nA. dog\nB. cat",
                    "\nAnswer with the option's letter from the given choices directly.",
                    "A",
                    "A",
                ),
            ],
            recorded,
        )?;
    }
    Ok(())
}

#[test]
fn the_answering_machine_is_told_from_models_that_explain() -> Result<()> {
    let dir = tempfile::tempdir()?;
    study(dir.path())?;
    let before: Vec<Vec<u8>> =
        StudyData::load(dir.path())?.runs.iter().map(|r| std::fs::read(r.dir.join("results.json")).unwrap()).collect();
    let options = RankOptions { replicates: 50, ..RankOptions::default() };
    let written = page::write_with(dir.path(), &StudyInfo::default(), &options)?;
    let style = written.ranking.answer_style.clone().expect("there are open questions");
    let q = &style.questions;
    assert_eq!((q.all, q.open, q.explanation, q.explanation_short_form, q.free, q.short_form), (8, 6, 2, 1, 3, 3));
    let group = |arm: &str, group: QuestionGroup| style.arms[arm].groups[&group].clone();
    let (machine, other) =
        (group("nano-dinov2", QuestionGroup::Explanation), group("nano-mae", QuestionGroup::Explanation));
    assert_eq!((machine.questions, machine.answers, machine.one_word.value, machine.words.median), (2, 4, 100.0, 1.0));
    assert_eq!((other.one_word.value, other.words.p10 > 8.0, other.words.longest), (0.0, true, 20));
    assert!(other.one_word.high > 10.0, "two questions about one image say little: {:?}", other.one_word);
    let all = group("nano-mae", QuestionGroup::All);
    assert_eq!((all.loops.value, all.at_limit.map(|l| l.value)), (12.5, Some(12.5)));
    assert!(group("nano-sup", QuestionGroup::All).at_limit.is_none(), "an earlier version");
    assert_eq!(style.arms["nano-mae"].benchmarks["nano-mmvp"].questions, 6);
    let said = style.said.join("\n");
    for text in [
        "2 questions ask for an explanation: nano-dinov2 answers 100 % of them with one word",
        "1 question asks for an explanation and the prompt for a short answer: every arm answers 100 % of them with one word",
        "Answers that repeat themselves: ",
        "Runs of earlier versions did not record",
    ] {
        assert!(said.contains(text), "{text}\n{said}");
    }
    // The files of the runs are only read; the page, the terminal and the tables show the numbers.
    let after: Vec<Vec<u8>> =
        StudyData::load(dir.path())?.runs.iter().map(|r| std::fs::read(r.dir.join("results.json")).unwrap()).collect();
    assert_eq!(before, after);
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    assert!(html.contains("<section id=\"style\">") && html.contains("6 of the 8 questions are open"));
    let text = ranking_table(&written.ranking, 110, false);
    assert!(text.contains("How the models answer open questions") && text.contains("explain, short"), "{text}");
    let sheets = sheet::ranking_sheets(&written.ranking);
    assert!(sheets.iter().any(|s| s.caption.starts_with("How the models of the study")), "{sheets:?}");
    let stored: Value = atomic::read_json(&written.files.ranking)?;
    assert_eq!(stored["answer_style"]["arms"]["nano-dinov2"]["groups"]["explanation"]["one_word"]["value"], 100.0);
    let back: burgess_reports::ranking::Ranking = atomic::read_json(&written.files.ranking)?;
    assert_eq!(back.answer_style.as_ref(), Some(&style));
    for width in [40, 80, 200] {
        let block = style_block(&style, &written.ranking.named_arms(), width, false);
        let widest = block.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= width.max(60), "{width}: {widest}\n{block}");
    }
    Ok(())
}

#[test]
fn a_study_without_open_questions_has_no_section() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fixture::write_study(dir.path(), 1, 12)?;
    for run in StudyData::load(dir.path())?.runs {
        std::fs::remove_dir_all(run.dir.join("samples")).map_err(burgess_base::Error::from)?;
        samples(&run.dir, "nano-mmvp", &[("Is it a dog?", " Please answer yes or no.", "Yes", "yes")], false)?;
    }
    assert_eq!(AnswerStyle::of_study(&StudyData::load(dir.path())?, 0.95)?, None);
    let options = RankOptions { replicates: 50, ..RankOptions::default() };
    let written = page::write_with(dir.path(), &StudyInfo::default(), &options)?;
    let html = std::fs::read_to_string(&written.files.page).unwrap();
    assert!(!html.contains("How the models answer"));
    assert!(!std::fs::read_to_string(&written.files.ranking).unwrap().contains("answer_style"));
    Ok(())
}

#[test]
fn conversation_is_shown_and_not_averaged() {
    let mut runs = fixture::runs(1, 20);
    for run in &mut runs {
        let mmvp = run.results.get_mut("nano-mmvp").expect("a benchmark");
        mmvp.category = burgess_base::Category::CONVERSATION;
        run.summarise();
    }
    let options = RankOptions { study: "nano".into(), replicates: 50, ..RankOptions::default() };
    let ranking = burgess_reports::ranking::rank(&runs, &[], &options).expect("comparable runs");
    assert_eq!(ranking.categories.last().map(|c| c.as_str()), Some("Conversation"));
    for (run, arm) in runs.iter().map(|run| (run, ranking.arm(&run.run.arm).expect("ranked"))) {
        let four: Vec<f64> = burgess_base::Category::CAMBRIAN.iter().map(|c| run.categories[c]).collect();
        let mean = four.iter().sum::<f64>() / 4.0;
        assert!((run.average - mean).abs() < 1e-9 && (arm.average.score - mean).abs() < 1e-9, "{}", arm.arm);
        assert!((arm.categories["Conversation"].score - run.results["nano-mmvp"].score).abs() < 1e-9);
    }
    let text = ranking_table(&ranking, 140, false);
    assert!(text.contains("Conversation") || text.contains("Conver-"), "{text}");
}
