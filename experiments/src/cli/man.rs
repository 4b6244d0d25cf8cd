//! `burgess man`: the manual pages, one per command, made from the same descriptions as `--help`.

use super::Cli;
use crate::machine::terminal::{print, print_raw};
use burgess_base::{Context, Error, Result, atomic, output};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use std::path::PathBuf;

/// Print the manual page, or write those of all commands into a directory
#[derive(clap::Args)]
#[command(after_help = "Examples:
  burgess man | man -l -                               read the page of burgess
  burgess man rank | man -l -                          that of one command
  burgess man -o ~/.local/share/man/man1               all pages, for `man burgess-rank`")]
pub struct Args {
    /// The command whose page is printed, such as `rank` or `launch slurm` [default: burgess itself]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
    /// Write the pages of all commands into this directory
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let mut root = Cli::command();
    root.build();
    let Some(dir) = args.out else {
        return print_raw(&page(find(&root, &args.command)?)?);
    };
    output::check_directory(&dir)?;
    let mut pages = Vec::new();
    collect(&root, &mut pages);
    for command in &pages {
        atomic::write(&dir.join(format!("{}.1", name(command))), page(command)?.as_bytes())?;
    }
    print(&format!("{} pages in {}\n", pages.len(), dir.display()))
}

/// Finds a command by its names, as in `launch slurm`.
fn find<'a>(root: &'a Command, path: &[String]) -> Result<&'a Command> {
    path.iter().try_fold(root, |command, word| {
        command.find_subcommand(word).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            let error = Error::usage(format!("{} has no command `{word}`", name(command)));
            match known.is_empty() {
                true => error.hint(format!("leave `{word}` out")),
                false => error.hint(format!("known: {}", known.join(", "))),
            }
        })
    })
}

/// Collects a command and all commands below it, apart from hidden ones.
fn collect<'a>(command: &'a Command, pages: &mut Vec<&'a Command>) {
    pages.push(command);
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).for_each(|sub| collect(sub, pages));
}

/// Name of a command's page: `burgess-launch-slurm`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// Returns the page of a command in roff.
fn page(command: &Command) -> Result<String> {
    let man = Man::new(command.clone()).source(format!("burgess {}", env!("CARGO_PKG_VERSION"))).manual("Burgess");
    let mut text = Vec::new();
    let mut sections = || -> std::io::Result<()> {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut text)?;
        }
        Ok(())
    };
    sections().with_context(|| format!("making the page {}", name(command)))?;
    let text = String::from_utf8(text).map_err(|e| Error::failed(e.to_string()))?;
    Ok(text + &command.get_after_help().map_or_else(String::new, |help| notes(&help.to_string())))
}

/// Formats the text after the options: paragraphs of prose, and lists whose lines are kept.
fn notes(help: &str) -> String {
    let (mut text, mut heading) = (String::new(), "");
    for paragraph in help.split("\n\n").filter(|p| !p.trim().is_empty()) {
        let (title, body) = match paragraph.split_once('\n') {
            Some((first, body)) if first.trim_end().ends_with(':') && body.starts_with("  ") => (first.trim(), body),
            _ => ("", paragraph),
        };
        let section = if title == "Examples:" { "EXAMPLES" } else { "NOTES" };
        if section != heading {
            text += &format!(".SH {section}\n");
            heading = section;
        } else {
            text += ".PP\n";
        }
        if !title.is_empty() && section == "NOTES" {
            text += &format!("{}\n.PP\n", escaped(title));
        }
        let listed = body.lines().any(|line| line.starts_with("  "));
        let lines: String = body.lines().map(|line| escaped(line) + "\n").collect();
        text += &if listed { format!(".nf\n{lines}.fi\n") } else { lines };
    }
    text
}

/// Escapes a line of text for roff.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() -> Result<()> {
        let mut root = Cli::command();
        root.build();
        let mut pages = Vec::new();
        collect(&root, &mut pages);
        assert!(pages.len() > 25, "{}", pages.len());
        for command in pages {
            let text = page(command)?;
            assert!(text.contains(".SH NAME") && text.contains(".SH OPTIONS"), "{}", name(command));
            // What is after the options is in the page.
            let examples = command.get_after_help().is_some_and(|help| help.to_string().contains("Examples:\n"));
            assert_eq!(text.contains(".SH EXAMPLES"), examples, "{}", name(command));
        }
        assert_eq!(name(find(&root, &["launch".into(), "slurm".into()])?), "burgess-launch-slurm");
        assert!(find(&root, &["lunch".into()]).is_err_and(|e| e.hint_text().is_some_and(|h| h.contains("launch"))));
        Ok(())
    }

    #[test]
    fn lines_cannot_be_mistaken_for_requests() {
        assert_eq!(notes("a\n\nExamples:\n  x --y\n.z"), ".SH NOTES\na\n.SH EXAMPLES\n.nf\n  x \\-\\-y\n\\&.z\n.fi\n");
        assert_eq!(escaped("'a\\b"), "\\&'a\\eb");
    }
}
