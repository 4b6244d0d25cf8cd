//! Checks of the options that are passed on to `sbatch`.

use burgess_base::{Error, Result};

/// Options that the scripts and their dependencies need as they are, long and short, and why.
const OURS: [(&str, Option<&str>, &str); 11] = [
    ("--array", Some("-a"), "the arrays are arms × seeds; --max-parallel limits how many tasks run at once"),
    ("--dependency", Some("-d"), "the stages depend on one another"),
    ("--output", Some("-o"), "logs go to the directory slurm/logs of the study"),
    ("--error", Some("-e"), "logs go to the directory slurm/logs of the study"),
    ("--job-name", Some("-J"), "jobs are named after study and stage"),
    ("--chdir", Some("-D"), "tasks run in the present directory"),
    ("--wrap", None, "the commands are in the scripts"),
    ("--clusters", Some("-M"), "the jobs depend on one another, which is not possible between clusters"),
    ("--parsable", None, "it is set already"),
    ("--test-only", None, "use --dry-run of burgess"),
    ("--wait", Some("-W"), "the jobs depend on one another; `burgess status` tells how far they are"),
];

/// Checks options for `sbatch`.
///
/// # Errors
/// An option would change what the scripts rely on; the hint says what to use instead.
pub fn check_options(options: &[String]) -> Result<()> {
    for option in options {
        let name = option.split('=').next().unwrap_or_default();
        for (long, short, why) in OURS {
            // A short option may have its value without a space: -a0-3.
            let is_short = short.is_some_and(|short| option.starts_with(short) && !option.starts_with("--"));
            if name == long || is_short {
                return Err(Error::usage(format!("the option {option} of sbatch cannot be passed on: {why}"))
                    .hint("pass options on resources and accounting, such as --partition, --gres, --mem or --time"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_the_scripts_need_are_refused() {
        let check = |words: &[&str]| check_options(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(check(&["-p", "gpu", "--gres=gpu:1", "--time=4:00:00", "-A", "me", "--signal=B:USR1@300"]).is_ok());
        for words in [["--array=0-3"], ["-a0-3"], ["-d"], ["--dependency"], ["-oX"], ["--wait"], ["-W"], ["-Mall"]] {
            let e = check(&words).expect_err(words[0]);
            assert!(e.exit_code() == 2 && e.to_string().contains(words[0]) && e.hint_text().is_some(), "{e}");
        }
    }
}
