use super::*;
use burgess_reports::schema::{MissingRun, Sample};
use serde_json::json;

#[test]
fn a_directory_of_another_configuration_is_refused_and_left_alone() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    drop(StudyStore::open(tmp.path(), &json!({"steps": 1}))?);
    let e = StudyStore::open(tmp.path(), &json!({"steps": 2})).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains("steps: 1 stored, 2 now"), "{e}");
    assert!(StudyStore::open(tmp.path(), &json!({"steps": 1})).is_ok());
    Ok(())
}

#[test]
fn a_study_is_shared_and_a_run_has_one_owner() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let first = StudyStore::open(tmp.path(), &json!({}))?;
    let second = StudyStore::open(tmp.path(), &json!({}))?;
    let Claim::Owned(owned) = first.run("vit", 0).claim()? else { panic!("a free run") };
    let run = second.run("vit", 0);
    let Claim::Busy(owner) = run.claim()? else { panic!("a run with two owners") };
    assert_eq!(owner.process, std::process::id());
    assert_eq!(run.owner()?.map(|o| o.process), Some(std::process::id()));
    let e = run.claim_alone().map(drop).unwrap_err();
    assert!(e.to_string().contains("another burgess is working in") && e.hint_text().is_some(), "{e}");
    // Seeds are runs of their own, and copies of a store share its claim.
    assert!(matches!(second.run("vit", 1).claim()?, Claim::Owned(_)));
    let copy = owned.clone();
    drop(owned);
    copy.check_owned()?;
    assert!(matches!(run.claim()?, Claim::Busy(_)));
    drop(copy);
    assert!(run.owner()?.is_none() && matches!(run.claim()?, Claim::Owned(_)));
    Ok(())
}

#[test]
fn a_lost_run_is_not_written_any_more() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let Claim::Owned(run) = RunStore::at(tmp.path()).claim()? else { panic!("a free run") };
    run.write_or_compare_config(&json!({"seed": 1}))?;
    // Another process takes it over.
    fs::rename(tmp.path().join(".lease-1"), tmp.path().join(".lease-2"))?;
    let failure = MissingRun { arm: "a".into(), seed: 0, cause: "?".into(), hint: None };
    let written = [
        run.write_samples("b", &[sample(1.0)]),
        run.write_partial("b", &PartialAnswers::default()),
        run.train_log(&[]).map(drop),
        run.remove_states(),
        run.write_failure(&failure),
    ];
    for outcome in written {
        let e = outcome.unwrap_err();
        assert!(e.to_string().contains("was taken over"), "{e}");
    }
    assert!(run.is_lost() && !tmp.path().join("samples").exists() && !tmp.path().join("failed.json").exists());
    // What is there is still compared, as by any other process.
    run.write_or_compare_config(&json!({"seed": 1}))?;
    Ok(())
}

#[test]
fn only_a_finished_run_may_be_of_another_device() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let run = RunStore::at(tmp.path());
    assert!(!run.compare_config(&json!({"device": "flex"}), None)?);
    run.write_or_compare_config(&json!({"device": "flex", "seed": 1}))?;
    let (other, both) = (json!({"device": "wgpu WGSL", "seed": 1}), json!({"device": "wgpu WGSL", "seed": 2}));
    let e = run.compare_config(&other, None).unwrap_err();
    assert!(e.to_string().contains("device: \"flex\" stored, \"wgpu WGSL\" now"), "{e}");
    assert!(e.hint_text().is_some_and(|hint| hint.contains("the device where it began")), "{e}");
    let told = std::cell::RefCell::new(Vec::new());
    let note = |text: &str| told.borrow_mut().push(text.to_string());
    assert!(run.compare_config(&other, Some(&note))?);
    assert!(told.borrow().len() == 1 && told.borrow()[0].contains("finished on another device"), "{told:?}");
    let e = run.compare_config(&both, Some(&note)).unwrap_err();
    assert!(e.to_string().contains("seed: 1 stored, 2 now"), "{e}");
    Ok(())
}

fn sample(score: f64) -> Sample {
    Sample {
        id: "a".into(),
        unit: "a".into(),
        subtask: String::new(),
        question: "?".into(),
        prompt: "?".into(),
        image: String::new(),
        target: "b".into(),
        answer: "b".into(),
        parsed: None,
        score,
        blind_answer: String::new(),
        blind_score: 0.0,
        options: Vec::new(),
        likelihoods: None,
        tokens: None,
        at_limit: false,
        judge: None,
    }
}

#[test]
fn damaged_samples_are_none_and_a_note_says_why() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let run = RunStore::at(tmp.path());
    let told = std::cell::RefCell::new(Vec::new());
    let note = |text: &str| told.borrow_mut().push(text.to_string());
    assert_eq!(run.read_samples("b", &note), None);
    run.write_samples("b", &[sample(1.0), sample(0.5)])?;
    assert_eq!(run.read_samples("b", &note).map(|s| s.len()), Some(2));
    assert!(told.borrow().is_empty());
    let text = fs::read_to_string(run.samples("b"))?;
    fs::write(run.samples("b"), text.replacen("1.0", "0.0", 1))?;
    assert_eq!(run.read_samples("b", &note), None);
    assert!(told.borrow()[0].contains("b.jsonl is not what was written"), "{told:?}");
    // Without checksums, as in runs of earlier versions, the range of the numbers is still checked.
    fs::remove_file(tmp.path().join(checksums::FILE))?;
    for bad in ["1e300", "-0.5", "1.5"] {
        fs::write(run.samples("b"), text.replacen("0.5", bad, 1))?;
        assert_eq!(run.read_samples("b", &note), None, "{bad}");
        assert!(told.borrow().last().is_some_and(|t| t.contains("line 2: `score` of `a`")), "{told:?}");
    }
    Ok(())
}

#[test]
fn answers_on_the_way_are_those_of_the_same_questions() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let run = RunStore::at(tmp.path());
    let kept = PartialAnswers { of: "x".into(), answers: [(3, vec![1, 2])].into(), ..PartialAnswers::default() };
    run.write_partial("b", &kept)?;
    assert_eq!(run.read_partial("b", "x"), kept);
    assert!(run.read_partial("b", "y").answers.is_empty());
    let file = tmp.path().join("samples/b.part.json");
    fs::write(&file, fs::read_to_string(&file)?.replace("[1,2]", "[1,3]"))?;
    assert!(run.read_partial("b", "x").answers.is_empty());
    run.remove_partial("b")?;
    assert!(!file.exists() && checksums::check(tmp.path(), "samples/b.part.json")? == Verification::NoChecksum);
    Ok(())
}

#[test]
fn steps_whose_outcome_was_lost_are_dropped_from_the_log() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let run = RunStore::at(tmp.path());
    let line = |stage: &str, step: usize| {
        format!(
            "{{\"stage\":\"{stage}\",\"step\":{step},\"loss\":1.0,\"lr\":0.1,\"grad_norm\":1.0,\"tokens\":1,\"seconds\":0.1}}\n"
        )
    };
    let all: String = [("align", 1), ("tune", 1), ("tune", 2), ("tune", 3)].map(|(s, n)| line(s, n)).concat();
    let path = tmp.path().join("train.jsonl");
    fs::write(&path, format!("{all}{{\"sta"))?;
    drop(run.train_log(&[("align", usize::MAX), ("tune", 2)])?);
    assert_eq!(fs::read_to_string(&path)?, format!("{}{}{}", line("align", 1), line("tune", 1), line("tune", 2)));
    drop(run.train_log(&[("align", 0)])?);
    assert_eq!(fs::read_to_string(&path)?, "");
    Ok(())
}
