//! A study as tasks of a scheduler, through the binary: stages by themselves, task lists, and a submission to commands
//! that stand in for Slurm's and record what they get.

#![cfg(unix)]

use burgess_tests::{TestDir, remove_measured, stderr, stdout};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A study of two arms, one of them combined, with a few images and steps.
const STUDY: &str = r#"
name = "tiny"
title = "A tiny study"
question = "Do tasks make the same as one process?"
seeds = [0]
[evaluator]
llm = "nano-lm"
connector = "mlp2x_gelu"
benchmarks = ["nano-mme", "nano-docvqa"]

[evaluator.data.world]
seed = 5
align = 8
tune = 8
turns = 2
per_benchmark = 4

[[arms]]
encoders = ["nano-sup"]
[[arms]]
name = "both"
encoders = ["nano-sup", "nano-random"]

[evaluator.recipe.align]
steps = 2
batch = 4
lr = 1e-3
trainable = ["connector"]

[evaluator.recipe.tune]
steps = 3
batch = 4
lr = 1e-3
trainable = ["connector", "llm"]
"#;

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}\n{}", stdout(output), stderr(output));
    stdout(output)
}

/// Reads the results of a run without times, dates and memory.
fn results(run: &Path) -> Value {
    let text = std::fs::read(run.join("results.json")).expect("results");
    let mut value: Value = serde_json::from_slice(&text).expect("JSON");
    remove_measured(&mut value);
    value
}

fn model(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("model/llm/model.safetensors")).expect("a model")
}

#[test]
fn stages_one_by_one_make_the_same_as_one_process() {
    let place = TestDir::new();
    place.file("my tiny.toml", STUDY);
    done(&place.run(&["rank", "my tiny.toml", "--out", "whole"]));

    // The lines of the list run from anywhere, in their order.
    let list =
        |more: &[&str]| done(&place.run(&[&["launch", "list", "my tiny.toml", "--out", "parts"], more].concat()));
    let lines = list(&[]);
    assert_eq!(lines.lines().count(), 2 + 2 + 2 + 1, "{lines}");
    assert!(
        lines.lines().all(|line| line.contains("/burgess' rank '/") || line.contains("/burgess rank '/")),
        "{lines}"
    );
    let cache = place.path().join("cache");
    for (number, line) in lines.lines().enumerate() {
        let run = || {
            let mut shell = Command::new("sh");
            let shell = shell.args(["-c", line]).current_dir("/").env("BURGESS_CACHE", &cache);
            shell.output().expect("sh starts")
        };
        let first = run();
        let told = done(&first);
        // Again: nothing is left to do, and nothing changes.
        if number < 6 {
            let again = done(&run());
            assert_eq!(again, told);
            assert!(!stderr(&run()).contains("step 1"), "{line}");
        }
    }
    for arm in ["nano-sup", "both"] {
        let dirs = ["whole", "parts"].map(|out| place.path().join(out).join("tiny").join(arm).join("seed-0"));
        assert_eq!(results(&dirs[0]), results(&dirs[1]), "{arm}");
        assert_eq!(model(&dirs[0]), model(&dirs[1]), "{arm}");
    }
    let ranking = |out: &str| {
        let mut value: Value = serde_json::from_slice(
            &std::fs::read(place.path().join(out).join("tiny/ranking.json")).expect("a ranking"),
        )
        .expect("JSON");
        value.as_object_mut().expect("an object").retain(|key, _| key == "arms");
        for arm in value["arms"].as_array_mut().expect("arms") {
            arm["cost"] = Value::Null;
        }
        value
    };
    assert_eq!(ranking("whole"), ranking("parts"));
    // The report names the command that makes the whole study.
    let made = std::fs::read_to_string(place.path().join("parts/tiny/made.json")).expect("made.json");
    assert!(made.contains("--out") && !made.contains("--stage"), "{made}");
    assert_eq!(list(&[]), "");
    assert_eq!(list(&["--all"]).lines().count(), 7);
    let status = done(&place.run(&["status", "my tiny.toml", "--out", "parts"]));
    assert!(status.contains("2 runs: 2 done; ranking: parts/tiny/ranking.json"), "{status}");
    let status: Value = serde_json::from_str(&done(&place.run(&["status", "parts/tiny", "--json"]))).expect("JSON");
    assert_eq!((&status["runs"][0]["arm"], &status["runs"][0]["state"]), (&"both".into(), &"done".into()));
}

#[test]
fn failures_stay_with_their_arm_and_are_not_hidden() {
    let place = TestDir::new();
    // The second encoder has no weights on this machine.
    place.file("tiny.toml", &STUDY.replace("\"nano-random\"", "\"openai-clip-l14-336\""));
    let stage = |more: &[&str]| place.run(&[&["rank", "tiny.toml", "--stage"], more].concat());
    let code = |output: &Output| output.status.code().unwrap_or(-1);

    let encode = stage(&["encode"]);
    assert_eq!(code(&encode), 1, "{}", stderr(&encode));
    assert!(
        stderr(&encode).contains("openai-clip-l14-336") && stderr(&encode).contains("hint: "),
        "{}",
        stderr(&encode)
    );
    let going = stage(&["encode", "--keep-going"]);
    assert_eq!(code(&going), 0);
    assert!(stderr(&going).contains("note: 1 of 2 encoders failed"), "{}", stderr(&going));
    done(&stage(&["encode", "--arm", "nano-sup"]));
    let status = done(&place.run(&["status", "tiny.toml"]));
    assert!(status.contains("both (seed 0): ") && status.contains("openai-clip-l14-336"), "{status}");

    // No model yet: the evaluation says so and leaves the cause.
    let eval = stage(&["eval", "--arm", "nano-sup"]);
    assert!(code(&eval) == 1 && stderr(&eval).contains("no trained model"), "{}", stderr(&eval));
    let report = stage(&["report"]);
    assert!(code(&report) == 1 && stderr(&report).contains("no run in"), "{}", stderr(&report));

    let train = stage(&["train"]);
    assert_eq!(code(&train), 1, "{}", stderr(&train));
    assert!(stdout(&train).contains("train: 1 of 2 runs are done"), "{}", stdout(&train));
    done(&stage(&["train", "--arm", "nano-sup", "--seeds", "0"]));
    done(&stage(&["eval", "--arm", "nano-sup", "--json"]));
    let report = stage(&["report"]);
    assert_eq!(code(&report), 1, "{}", stderr(&report));
    assert!(stderr(&report).contains("no results: both (seed 0): "), "{}", stderr(&report));
    assert!(place.path().join("runs/tiny/ranking.json").is_file());
    let failed = std::fs::read_to_string(place.path().join("runs/tiny/both/seed-0/failed.json")).expect("failed.json");
    assert!(failed.contains("openai-clip-l14-336"), "{failed}");

    for (args, expected) in [
        (["train", "--arm", "nano-mae"], "its arms: nano-sup, both"),
        (["encode", "--arm", "nano-mae"], "it has: nano-sup, openai-clip-l14-336, both"),
        (["train", "--keep-going", "--json"], "--keep-going belongs to the stage encode"),
        (["eval", "--check", "--json"], "--check"),
    ] {
        let output = stage(&args);
        assert!(code(&output) == 2 && stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
}

/// Writes commands that stand in for Slurm's. `sbatch` records its arguments and answers with ids from 100 on, `squeue`
/// prints the file `queue`.
fn fake_slurm(place: &TestDir) -> PathBuf {
    let bin = place.path().join("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    let scripts = BTreeMap::from([
        (
            "sbatch",
            "here=$(dirname \"$0\")/..\n\
             if [ -f \"$here/full\" ]; then echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1; fi\n\
             id=$((100 + $(cat \"$here/submitted\" 2>/dev/null | wc -l)))\necho \"$*\" >> \"$here/submitted\"\n\
             echo $id",
        ),
        ("squeue", "cat \"$(dirname \"$0\")/../queue\" 2>/dev/null || exit 0"),
        ("scontrol", "echo \"$*\" >> \"$(dirname \"$0\")/../requeued\""),
    ]);
    for (name, text) in scripts {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    bin
}

/// Runs burgess with the commands in `bin` before all others.
fn with_slurm(place: &TestDir, bin: &Path, args: &[&str]) -> Output {
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    place.burgess(args).env("PATH", path).env("COLUMNS", "200").output().expect("burgess starts")
}

#[test]
fn a_study_is_submitted_once() {
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    let bin = fake_slurm(&place);
    let submitted = || std::fs::read_to_string(place.path().join("submitted")).unwrap_or_default();
    let slurm = place.path().join("runs/tiny/slurm");
    let launch = |more: &[&str]| with_slurm(&place, &bin, &[&["launch", "slurm", "tiny.toml"], more].concat());

    // Only the scripts, and the commands that would submit them.
    let shown = done(&launch(&["--dry-run", "--max-parallel", "2", "--", "--partition=gpu"]));
    let shown = shown.replace(&slurm.display().to_string(), "SLURM");
    let expected = "encode_job=$(sbatch --parsable --partition=gpu --array=0-1%2 SLURM/encode.sh)\n\
        train_job=$(sbatch --parsable --partition=gpu --array=0-1%2 --dependency=afterok:${encode_job} \
        SLURM/train.sh)\n\
        eval_job=$(sbatch --parsable --partition=gpu --array=0-1%2 --dependency=aftercorr:${train_job} SLURM/eval.sh)\n\
        report_job=$(sbatch --parsable --partition=gpu \
        --dependency=afterany:${encode_job}:${train_job}:${eval_job} SLURM/report.sh)\n";
    assert_eq!(shown, expected);
    assert_eq!(submitted(), "");

    // A rejected job is an error with Slurm's own words; what was submitted before is known to the next call.
    place.file("full", "");
    let output = launch(&[]);
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("QOSMaxSubmitJobPerUserLimit"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("hint: options for sbatch"), "{}", stderr(&output));
    std::fs::remove_file(place.path().join("full")).expect("removed");

    done(&launch(&["--", "--partition=gpu", "--comment=two words"]));
    let all = submitted().replace(&slurm.display().to_string(), "SLURM");
    let common = "--parsable --partition=gpu --comment=two words";
    assert_eq!(
        all.lines().collect::<Vec<_>>(),
        [
            format!("{common} --array=0-1 SLURM/encode.sh"),
            format!("{common} --array=0-1 --dependency=afterok:100 SLURM/train.sh"),
            format!("{common} --array=0-1 --dependency=aftercorr:101 SLURM/eval.sh"),
            format!("{common} --dependency=afterany:100:101:102 SLURM/report.sh"),
        ]
    );

    // All of it is queued: nothing is submitted twice.
    let queue = "100_0|RUNNING|None\n100_1|RUNNING|None\n101_0|PENDING|Dependency\n101_1|PENDING|Dependency\n\
        102_0|PENDING|Dependency\n102_1|PENDING|Dependency\n103|PENDING|Dependency\n";
    place.file("queue", queue);
    let told = done(&launch(&[]));
    assert!(
        told.contains("7 tasks that are left are queued already") && told.contains("nothing was submitted"),
        "{told}"
    );
    let status = done(&with_slurm(&place, &bin, &["status", "tiny.toml"]));
    assert!(status.contains("encoding") && status.contains("encode 100_0 running"), "{status}");
    assert!(status.contains("train 101_1 pending (Dependency)"), "{status}");

    // One run was trained and evaluated, the other's tasks were cancelled: only these are submitted.
    done(&place.run(&["rank", "tiny.toml", "--arm", "nano-sup"]));
    place.file("queue", "999_0|RUNNING|None\n");
    done(&launch(&[]));
    let last: Vec<String> =
        submitted().lines().skip(4).map(|line| line.replace(&slurm.display().to_string(), "SLURM")).collect();
    assert_eq!(
        last,
        [
            "--parsable --array=0-1 SLURM/encode.sh",
            "--parsable --array=1 --dependency=afterok:104 SLURM/train.sh",
            "--parsable --array=1 --dependency=aftercorr:105 SLURM/eval.sh",
            "--parsable --dependency=afterany:104:105:106 SLURM/report.sh",
        ]
    );

    // Options that the scripts rely on, and a machine without Slurm.
    let output = launch(&["--", "--array=0-3"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("--max-parallel"), "{}", stderr(&output));
    let output =
        place.burgess(&["launch", "slurm", "tiny.toml"]).env("PATH", "/nowhere").output().expect("burgess starts");
    assert!(output.status.code() == Some(1) && stderr(&output).contains("not on the PATH"), "{}", stderr(&output));
    let status = place.burgess(&["status", "tiny.toml"]).env("PATH", "/nowhere").output().expect("burgess starts");
    assert!(status.status.success() && stderr(&status).contains("note: the jobs of this study are not shown"));
}

/// Runs a batch script like Slurm: as a task of an array.
fn run_script(place: &TestDir, bin: &Path, stage: &str, index: usize, restarts: Option<u32>) -> Command {
    let mut command = Command::new("bash");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    command.arg(place.path().join(format!("runs/tiny/slurm/{stage}.sh"))).current_dir("/").env("PATH", path);
    command.env("SLURM_ARRAY_TASK_ID", index.to_string()).env("SLURM_JOB_ID", "555");
    command.env("SLURM_ARRAY_JOB_ID", "500").env_remove("SLURM_CPUS_PER_TASK");
    if let Some(restarts) = restarts {
        command.env("SLURM_RESTART_COUNT", restarts.to_string());
    }
    command
}

#[test]
fn batch_scripts_do_their_task_and_ask_to_be_requeued() {
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    let bin = fake_slurm(&place);
    // Stands in for burgess: the exit code is that of the file `code`; USR1 gives 138 after a moment of saving.
    let fake = place.path().join("fake burgess");
    let text = "#!/bin/bash\ntrap 'sleep 0.1; exit 138' USR1\ntrap 'sleep 0.1; exit 143' TERM\n\
        echo \"$*\" >> \"${0%/*}/calls\"\n\
        [ -f \"${0%/*}/code\" ] && exit \"$(cat \"${0%/*}/code\")\"\ntouch \"${0%/*}/waiting\"\n\
        for i in $(seq 400); do sleep 0.05; done\n";
    std::fs::write(&fake, text).expect("a script");
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let binary = fake.display().to_string();
    done(&with_slurm(&place, &bin, &["launch", "slurm", "tiny.toml", "--dry-run", "--binary", &binary]));
    let requeued = || std::fs::read_to_string(place.path().join("requeued")).unwrap_or_default();

    // The exit code is that of the command, except where an encoder alone is at fault.
    for (stage, code, expected) in
        [("train", 0, 0), ("train", 1, 1), ("encode", 0, 0), ("encode", 1, 1), ("encode", 137, 0), ("report", 1, 1)]
    {
        place.file("code", &code.to_string());
        let output = run_script(&place, &bin, stage, 1, None).output().expect("bash starts");
        assert_eq!(output.status.code(), Some(expected), "{stage} {code}: {}", stderr(&output));
    }
    let calls = std::fs::read_to_string(place.path().join("calls")).expect("calls");
    let (study, out) = (place.path().join("tiny.toml"), place.path().join("runs"));
    let base = format!("rank {} --out {} --stage", study.display(), out.display());
    assert_eq!(calls.lines().next(), Some(format!("{base} train --arm both --seeds 0").as_str()), "{calls}");
    assert!(calls.contains(&format!("{base} encode --keep-going --arm nano-random\n")), "{calls}");
    assert!(calls.ends_with(&format!("{base} report\n")), "{calls}");
    let unknown = run_script(&place, &bin, "train", 7, None).output().expect("bash starts");
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));

    // A signal to the shell reaches the command; only USR1 asks for a requeue, and not without end.
    std::fs::remove_file(place.path().join("code")).expect("removed");
    for (signal, restarts, code, told) in
        [("-USR1", None, 0, "requeue 500_0\n"), ("-TERM", None, 143, ""), ("-USR1", Some(100), 138, "")]
    {
        let _ = std::fs::remove_file(place.path().join("requeued"));
        let _ = std::fs::remove_file(place.path().join("waiting"));
        let child = run_script(&place, &bin, "train", 0, restarts).spawn().expect("bash starts");
        let started = std::time::Instant::now();
        while !place.path().join("waiting").exists() && started.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        let output = child.wait_with_output().expect("a child");
        assert_eq!((output.status.code(), requeued().as_str()), (Some(code), told), "{signal} {restarts:?}");
    }
}

#[test]
fn job_files_and_indices() {
    let place = TestDir::new();
    place.file("tiny.toml", STUDY);
    let text =
        done(&place.run(&["launch", "hq", "tiny.toml", "--seeds", "3,4", "--gpus", "0.5", "--encode-cpus", "4"]));
    assert!(text.contains("\"gpus/nvidia\" = \"0.5\"") && text.contains("cpus = \"4\""), "{text}");
    assert!(text.contains("\"--jobs\", \"4\"") && text.contains("BURGESS_CACHE"), "{text}");
    assert_eq!(text.matches("[[task]]").count(), 2 + 4 + 4, "{text}");
    let list = done(&place.run(&["launch", "list", "tiny.toml", "--seeds", "3,4", "--stage", "train", "--json"]));
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["tasks"][2]["id"], "train/nano-sup/seed-4");
    assert_eq!(list["tasks"][3]["depends_on"], serde_json::json!(["encode/nano-sup", "encode/nano-random"]));
    // What a pod of an indexed job does.
    let mut run = place.burgess(&["launch", "run", "tiny.toml", "--stage", "train"]);
    let output = run.env("JOB_COMPLETION_INDEX", "0").output().expect("burgess starts");
    assert!(done(&output).contains("train: 1 of 1 runs are done"), "{}", stdout(&output));
    assert!(place.path().join("runs/tiny/nano-sup/seed-0/model").is_dir());
    let output = place.run(&["launch", "run", "tiny.toml", "--stage", "train", "--index", "2"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("give 0 to 1"), "{}", stderr(&output));
}
