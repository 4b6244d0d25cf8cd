//! The text of the batch scripts.

use crate::launch::slurm::{SlurmOptions, script_path};
use crate::launch::tasks::{Task, TaskList};
use crate::launch::{Environment, path_text, shell_lines};
use crate::machine::{shell, stop};
use crate::run::stages::StudyStage;
use burgess_base::Result;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

/// Number of seconds before the time limit at which Slurm sends SIGUSR1: enough to save the state of a large model.
const SIGNAL_SECONDS: u32 = 120;

/// The first commands of a script: a signal before them would end the job, because Slurm's USR1 has no other handler.
const TRAPS: &str = "\n\
    # Slurm sends USR1 to this shell only: the traps forward the signals to the command, also those that come before it.\n\
    child= signal=\n\
    forward() { signal=$1; interrupted=1; [ -n \"$child\" ] && kill -s \"$1\" \"$child\" 2>/dev/null; }\n\
    trap 'forward USR1' USR1\n\
    trap 'forward TERM' TERM\n";

/// Writes the batch script of a stage; `dir` is the directory of the scripts.
///
/// # Errors
/// A path is not UTF-8.
pub fn script(
    list: &TaskList,
    stage: StudyStage,
    environment: &Environment,
    options: &SlurmOptions,
    dir: &Path,
) -> Result<String> {
    let tasks: Vec<&Task> = list.of_stage(stage).collect();
    let is_array = stage != StudyStage::Report;
    let logs = path_text(&dir.join("logs"))?.replace('%', "%%");
    let log = if is_array { format!("{logs}/{stage}-%A_%a.log") } else { format!("{logs}/{stage}-%j.log") };
    let mut text = format!(
        "#!/bin/bash\n\
         # {}\n\
         # Written by `burgess launch slurm`, which submits it with --array, --dependency and the options after --.\n\
         # {}\n\
         #SBATCH --job-name=burgess-{}-{stage}\n\
         #SBATCH --output={}\n\
         #SBATCH --open-mode=append\n\
         #SBATCH --requeue\n\
         #SBATCH --signal=B:USR1@{SIGNAL_SECONDS}\n",
        title(list, stage, tasks.len()),
        shell::quoted(script_path(dir, stage).as_os_str()),
        list.study,
        in_option(&log),
    );
    if is_array {
        // The report waits with afterany, which is always satisfied.
        text += "#SBATCH --kill-on-invalid-dep=yes\n";
    }
    text += dependencies(stage);
    text += TRAPS;
    let _ = writeln!(text, "\ncd {} || exit 1", quoted(&path_text(&environment.directory)?));
    for (name, value) in &environment.variables {
        let _ = writeln!(text, "export {name}={}", quoted(value));
    }
    text += "[ -n \"$SLURM_CPUS_PER_TASK\" ] && export RAYON_NUM_THREADS=\"$SLURM_CPUS_PER_TASK\"\n\n";
    text += &commands(&tasks, is_array);
    text += &run(options.max_restarts);
    text += ending(stage);
    Ok(text)
}

/// First line of the description.
fn title(list: &TaskList, stage: StudyStage, count: usize) -> String {
    let study = &list.study;
    match stage {
        StudyStage::Encode => {
            format!("Study {study}, stage encode: features of {count} encoders, one array task each.")
        }
        StudyStage::Train => format!("Study {study}, stage train: {count} runs (arms × seeds), one array task each."),
        StudyStage::Eval => {
            format!("Study {study}, stage eval: {count} runs; index i is the same run as index i of the stage train.")
        }
        StudyStage::Report => format!("Study {study}, stage report: ranking and page from the results that exist."),
    }
}

/// Describes on what the stage depends and why.
fn dependencies(stage: StudyStage) -> &'static str {
    match stage {
        StudyStage::Encode => {
            "#\n\
             # The training depends on this array by afterok, so one task that fails would stop all arms. Therefore\n\
             # an encoder that alone is at fault does not make its task fail: --keep-going records the failure in the\n\
             # runs that need the encoder, and a process that was killed is noted in the log. The training of these\n\
             # runs tries again and fails by itself. What makes a task fail is wrong for all arms: the study's data\n\
             # or its file. Slurm itself marks tasks that exceed their memory as failed: give more memory, or use\n\
             # --after-encode end.\n"
        }
        StudyStage::Train => {
            "#\n\
             # Depends on the stage encode by afterok and computes features that are missing. If the data of the\n\
             # study cannot be used, Slurm cancels this array (kill-on-invalid-dep) instead of keeping it pending.\n"
        }
        StudyStage::Eval => {
            "#\n\
             # Depends on the stage train by aftercorr: task i waits for task i only, so one failed arm stops no\n\
             # other. Slurm cancels task i if training i failed (kill-on-invalid-dep), so that the report can begin.\n"
        }
        StudyStage::Report => {
            "#\n\
             # Depends on all other jobs by afterany: it begins when they have ended, whatever their outcome. Its\n\
             # exit code is 1 if runs have no results; the ranking names them.\n"
        }
    }
}

/// The part of the script that makes the command: the words that all tasks have in common, and a table of the others.
fn commands(tasks: &[&Task], is_array: bool) -> String {
    let line = |words: &[String]| shell_lines::line(words);
    let Some(first) = tasks.first() else { return String::new() };
    if !is_array {
        return format!("command=({})\n", line(&first.command));
    }
    let in_common = |at: &usize| tasks.iter().all(|task| task.command.get(*at) == first.command.get(*at));
    let common = match tasks.len() {
        1 => 0,
        _ => (0..first.command.len()).take_while(in_common).count(),
    };
    // The name of an option stays with its value.
    let common = match common.checked_sub(1).and_then(|last| first.command.get(last)) {
        Some(word) if word.starts_with("--") => common - 1,
        _ => common,
    };
    let mut text = String::new();
    if common > 0 {
        let _ = writeln!(text, "command=({})", line(&first.command[..common]));
    }
    text += "case $SLURM_ARRAY_TASK_ID in\n";
    for task in tasks {
        let own = line(task.command.get(common..).unwrap_or_default());
        let assign = if common > 0 { format!("command+=({own})") } else { format!("command=({own})") };
        let _ = writeln!(text, "{}) {assign} ;;", task.index);
    }
    text += "*) echo \"this script has no task $SLURM_ARRAY_TASK_ID\" >&2; exit 2 ;;\nesac\n";
    text
}

/// The part of the script that runs the command, forwards signals, and asks for the requeue.
fn run(max_restarts: u32) -> String {
    let requeue = stop::REQUEUE;
    format!(
        "\n\
         # Bash runs a trap only between commands: so the command runs in the background. A trap interrupts `wait`,\n\
         # which then begins again.\n\
         \"${{command[@]}}\" &\n\
         child=$!\n\
         [ -n \"$signal\" ] && kill -s \"$signal\" \"$child\" 2>/dev/null\n\
         interrupted=1\n\
         while [ -n \"$interrupted\" ]; do\n\
         \x20   interrupted=\n\
         \x20   wait \"$child\"\n\
         \x20   code=$?\n\
         done\n\
         \n\
         # Exit code {requeue}: the time is nearly over, the state is saved, the next start of this task goes on.\n\
         # After SIGTERM (exit code 143) Slurm itself requeues the task after a preemption, and ends it after scancel.\n\
         if [ \"$code\" -eq {requeue} ]; then\n\
         \x20   if [ \"${{SLURM_RESTART_COUNT:-0}}\" -ge {max_restarts} ]; then\n\
         \x20       echo \"not requeued: restarted ${{SLURM_RESTART_COUNT}} times already (--max-restarts)\" >&2\n\
         \x20       exit \"$code\"\n\
         \x20   fi\n\
         \x20   # The last task of an array has the id of the whole array, so the id would requeue all its tasks.\n\
         \x20   task=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}\n\
         \x20   scontrol requeue \"$task\" && exit 0\n\
         \x20   echo \"scontrol requeue failed: submit what is left with burgess launch slurm\" >&2\n\
         \x20   exit \"$code\"\n\
         fi\n"
    )
}

/// The end of the script: the exit code.
fn ending(stage: StudyStage) -> &'static str {
    match stage {
        StudyStage::Encode => {
            "\n\
             # Killed by a signal (out of memory, a crash in a driver): the fault of this encoder alone, see above.\n\
             if [ \"$code\" -gt 128 ] && [ \"$code\" -ne 143 ]; then\n\
             \x20   echo \"note: killed (exit code $code); the training of the runs that need it tries again\" >&2\n\
             \x20   exit 0\n\
             fi\n\
             exit \"$code\"\n"
        }
        StudyStage::Train | StudyStage::Eval | StudyStage::Report => "exit \"$code\"\n",
    }
}

/// A value as an option of an #SBATCH line, in double quotes if it has spaces or other special characters.
fn in_option(value: &str) -> String {
    match value.chars().all(|c| c.is_alphanumeric() || "_%+=:,./-@".contains(c)) {
        true => value.to_string(),
        false => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

fn quoted(text: &str) -> String {
    shell::quoted(OsStr::new(text))
}
