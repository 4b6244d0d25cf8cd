//! Tasks as lines of a shell: one command each, for `sh`, GNU parallel, xargs, or any scheduler that runs lines.

use crate::launch::tasks::Task;
use crate::machine::shell;
use std::ffi::OsStr;

/// Formats a command as one line, each word quoted for a shell.
pub fn line(command: &[String]) -> String {
    command.iter().map(|word| shell::quoted(OsStr::new(word))).collect::<Vec<_>>().join(" ")
}

/// Formats tasks as lines in their order.
pub fn lines<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> String {
    tasks.into_iter().map(|task| line(&task.command) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted() {
        let words = ["/opt/my tools/burgess", "rank", "it's.toml", "--arm", "vit@7+b", "$HOME", ""].map(String::from);
        assert_eq!(line(&words), r"'/opt/my tools/burgess' rank 'it'\''s.toml' --arm vit@7+b '$HOME' ''");
    }
}
