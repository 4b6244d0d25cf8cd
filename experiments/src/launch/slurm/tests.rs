use super::*;
use crate::launch::tasks;

/// The example of the task list with paths that do not depend on the machine.
fn example(place: &tempfile::TempDir) -> Result<TaskList> {
    let mut list = tasks::tests::example(place.path())?;
    list.directory = "/data/runs/mine".into();
    Ok(list)
}

fn options() -> SlurmOptions {
    SlurmOptions {
        sbatch: vec!["--partition=gpu".into(), "--comment=two words".into()],
        max_parallel: Some(4),
        after_encode: AfterEncode::Success,
        max_restarts: 100,
    }
}

#[test]
fn scripts() -> Result<()> {
    let place = tempfile::tempdir()?;
    let list = example(&place)?;
    let environment = Environment {
        directory: "/home/a b".into(),
        variables: vec![("BURGESS_CACHE".into(), "/scratch/it's/cache".into()), ("HF_HUB_OFFLINE".into(), "1".into())],
    };
    let dir = directory(&list.directory);
    for stage in StudyStage::ALL {
        insta::assert_snapshot!(format!("script-{stage}"), script(&list, stage, &environment, &options(), &dir)?);
    }
    // Logs in a directory whose name Slurm would take for a pattern or for two words.
    let text = script(&list, StudyStage::Train, &environment, &options(), Path::new("/data/100 %A/slurm"))?;
    assert!(text.contains("#SBATCH --output=\"/data/100 %%A/slurm/logs/train-%A_%a.log\"\n"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 120 || !line.starts_with('#')), "{text}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn scripts_are_valid_for_bash() -> Result<()> {
    let place = tempfile::tempdir()?;
    let list = example(&place)?;
    let environment = Environment { directory: place.path().to_path_buf(), variables: Vec::new() };
    for stage in StudyStage::ALL {
        let text = script(&list, stage, &environment, &options(), &directory(&list.directory))?;
        let file = place.path().join("script.sh");
        std::fs::write(&file, text)?;
        match std::process::Command::new("bash").arg("-n").arg(&file).output() {
            // Without bash there is nothing to check.
            Err(_) => return Ok(()),
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    Ok(())
}

/// The printed commands of a plan.
fn commands(list: &TaskList, queued: &BTreeMap<String, QueuedTask>) -> Result<String> {
    let (options, dir) = (options(), directory(&list.directory));
    let plan = plan(list, queued, options.max_parallel, options.after_encode);
    let lines = plan.iter().map(|s| Ok(s.shell_line(&options.sbatch, &plan, &dir)? + "\n"));
    lines.collect()
}

#[test]
fn what_is_left_is_submitted() -> Result<()> {
    let place = tempfile::tempdir()?;
    let list = example(&place)?;
    insta::assert_snapshot!("commands", commands(&list, &BTreeMap::new())?);
    let queued = |job: &str, index: Option<usize>| QueuedTask {
        job: job.into(),
        index,
        state: "PENDING".into(),
        reason: "Dependency".into(),
    };
    // An earlier submission: features and some trainings are queued, and one evaluation of them was cancelled.
    let mut known = BTreeMap::new();
    for (number, task) in list.of_stage(StudyStage::Encode).filter(|task| task.is_left()).enumerate() {
        known.insert(task.id.clone(), queued("100", Some(number)));
    }
    for task in list.of_stage(StudyStage::Train).filter(|task| task.is_left() && task.id.ends_with("seed-7")) {
        known.insert(task.id.clone(), queued("101", Some(task.index)));
    }
    known.insert("train/nano-random-unfrozen/seed-0".into(), queued("102", Some(9)));
    known.insert("eval/nano-sup/seed-7".into(), queued("103", Some(4)));
    known.insert("report".into(), queued("104", None));
    insta::assert_snapshot!("commands-again", commands(&list, &known)?);
    // The features are there and all trainings are queued: no features are computed again.
    known.retain(|task, _| task.starts_with("eval/"));
    for task in list.left(Some(StudyStage::Train)) {
        known.insert(task.id.clone(), queued("101", Some(task.index)));
    }
    assert!(!commands(&list, &known)?.contains("encode"));
    // Everything that is left is queued: nothing to submit.
    let all = list.left(None).map(|task| (task.id.clone(), queued("9", Some(task.index)))).collect();
    assert_eq!(commands(&list, &all)?, "");
    Ok(())
}

#[test]
fn indices_are_ranges() {
    let submission = |indices: &[usize], most| Submission {
        variable: "x".into(),
        stage: StudyStage::Train,
        tasks: indices.iter().map(|i| (*i, format!("train/a/seed-{i}"))).collect(),
        max_parallel: most,
        after: Vec::new(),
    };
    assert_eq!(submission(&[0, 1, 2, 5, 7, 8], None).array(), "0-2,5,7-8");
    assert_eq!(submission(&[3], Some(2)).array(), "3%2");
}
