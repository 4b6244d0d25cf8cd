//! Checks of the names of studies, runs and arms, which must be valid directory names on every system.

use burgess_base::{Error, Result, text};
use std::collections::BTreeMap;

/// Largest length of a name in bytes: file systems allow 255, and temporary files add a suffix.
const LONGEST: usize = 200;
/// Device names of Windows, which are reserved with any extension.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
/// Names of a study's own files and directories, which no arm may have.
const TAKEN: [&str; 7] = ["report", "ranking.json", "study.json", "samples", "benchmarks", "slurm", "hq"];

/// Rule for names, for hints.
const RULE: &str = "a name is at most 200 letters, digits, - and _, with dots inside";
const ARM_RULE: &str = "an arm's name is at most 200 letters, digits, -, _, + and @, with dots inside";

/// Checks the name of a study, a run or an evaluated model.
pub fn check(name: &str) -> Result<()> {
    match reason(name, "-_.") {
        None => Ok(()),
        Some(why) => Err(refused(name, &why).hint(RULE)),
    }
}

/// Checks the name of an arm.
pub fn check_arm(name: &str) -> Result<()> {
    let taken = || TAKEN.contains(&name.to_lowercase().as_str()).then(|| "the study's directory has this file".into());
    match reason(name, "-_.+@").or_else(taken) {
        None => Ok(()),
        Some(why) => {
            Err(refused(name, &why).context("an arm").hint(format!("{ARM_RULE}; give it one: [[arms]] name = \"…\"")))
        }
    }
}

fn refused(name: &str, why: &str) -> Error {
    Error::usage(format!("the name \"{}\" cannot name a directory: {why}", text::excerpt(name, 80)))
}

/// Reason why a name is invalid; `None` if it is valid.
fn reason(name: &str, signs: &str) -> Option<String> {
    let base = name.split('.').next().unwrap_or_default().to_lowercase();
    let port = base.strip_prefix("com").or_else(|| base.strip_prefix("lpt"));
    let reserved =
        DEVICES.contains(&base.as_str()) || port.is_some_and(|n| n.len() == 1 && n.chars().all(|c| c.is_ascii_digit()));
    if name.is_empty() {
        Some("it is empty".into())
    } else if name.len() > LONGEST {
        Some(format!("it has {} bytes", name.len()))
    } else if let Some(c) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !signs.contains(*c)) {
        Some(format!("it has the character `{}`", text::escaped(&c.to_string())))
    } else if name.starts_with(['.', '-']) {
        Some("it begins with a dot or a dash".into())
    } else if name.ends_with('.') {
        Some("it ends in a dot".into())
    } else if name.to_lowercase().ends_with(".tmp") {
        Some("`.tmp` is the ending of temporary files".into())
    } else if reserved {
        Some(format!("`{base}` is a device on Windows"))
    } else {
        None
    }
}

/// Checks that names differ and stay different on file systems that ignore case.
pub fn check_distinct<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        match seen.insert(name.to_lowercase(), name) {
            Some(before) if before == name => {
                return Err(Error::usage(format!("the arm {name} is listed twice"))
                    .hint("leave one out, or give it another name: [[arms]] name = \"…\""));
            }
            Some(before) => {
                return Err(Error::usage(format!("the arms {before} and {name} differ only in upper and lower case"))
                    .hint("some file systems ignore case: give one of them another name"));
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_portable_are_refused_with_the_rule() {
        for name in ["nano", "a", "my-run_2.1", "v1.2", "console", "com", "com12", "nul1", &"x".repeat(200)] {
            assert!(check(name).is_ok(), "{name}");
        }
        let long = "x".repeat(201);
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "-rf",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\x1b[31m",
            "x.tmp",
            "X.TMP",
            "CON",
            "nul",
            "Nul.txt",
            "COM1",
            "lpt9.log",
            "end.",
            "end ",
            "a b",
            "größe",
            "a:b",
            "a*",
            "a+b",
            &long,
        ] {
            let e = check(name).expect_err(name);
            assert_eq!((e.exit_code(), e.hint_text()), (2, Some(RULE)), "{name:?}");
            assert!(!e.to_string().chars().any(char::is_control), "{name:?}");
        }
        assert!(check_arm("a+b@-2").is_ok());
        for name in ["report", "Report", "study.json", "x.tmp", "..", "aux"] {
            assert!(check_arm(name).is_err_and(|e| e.hint_text().is_some_and(|h| h.contains("[[arms]]"))), "{name}");
        }
    }

    #[test]
    fn names_that_some_file_systems_take_for_one_are_refused() {
        assert!(check_distinct(["a", "b"]).is_ok());
        assert!(check_distinct(["a", "b", "a"]).unwrap_err().to_string().contains("twice"));
        assert!(check_distinct(["Clip", "clip"]).unwrap_err().to_string().contains("upper and lower case"));
    }
}
