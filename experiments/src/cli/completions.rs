//! `burgess completions`: scripts that complete the command line in shells.

use super::Cli;
use crate::machine::terminal::print_raw;
use crate::study::BUILT_IN;
use burgess_base::{Error, Result};
use burgess_encoders::card;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;

/// Print a script that completes commands, options, encoders and studies in a shell
#[derive(clap::Args)]
#[command(after_help = "The script names the encoders and studies of this version: write it again after an update.

Examples:
  burgess completions bash > ~/.local/share/bash-completion/completions/burgess
  burgess completions zsh > ~/.zfunc/_burgess          a directory of $fpath
  burgess completions fish > ~/.config/fish/completions/burgess.fish
  eval \"$(burgess completions bash)\"                   in this shell only")]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub fn run(args: Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut with_values(Cli::command(), args.shell)?, "burgess", &mut script);
    let text = String::from_utf8(script)
        .map_err(|e| Error::failed(format!("the completion script is not UTF-8: {e}")).hint("report this as a bug"))?;
    print_raw(&text)
}

/// Returns the command line with the names that its arguments take: encoders of the zoo and built-in studies. The
/// program itself also accepts paths there, so these values are only for the scripts.
fn with_values(command: Command, shell: Shell) -> Result<Command> {
    let encoders: Vec<(String, String)> = card::zoo()?.into_iter().map(|card| (card.id, card.title)).collect();
    let studies: Vec<(String, String)> =
        BUILT_IN.iter().map(|(name, _)| ((*name).to_string(), "built-in study".to_string())).collect();
    Ok(valued(command, &encoders, &studies, shell))
}

fn valued(command: Command, encoders: &[(String, String)], studies: &[(String, String)], shell: Shell) -> Command {
    // clap keeps names for the time of the program, which ends after the script is printed.
    let value = |(name, help): &(String, String)| PossibleValue::new(&*name.clone().leak()).help(help.clone());
    let parser = |values: &[(String, String)]| PossibleValuesParser::new(values.iter().map(value));
    command
        .mut_args(|arg| match names(&arg, shell) {
            Some(Names::Encoders) => arg.value_parser(parser(encoders)),
            Some(Names::Studies) => arg.value_parser(parser(studies)),
            None => arg,
        })
        .mut_subcommands(|sub| valued(sub, encoders, studies, shell))
}

/// What the values of an argument name.
#[derive(Clone, Copy)]
enum Names {
    Encoders,
    Studies,
}

/// Returns what the values of an argument name; `None` if they are neither encoders nor studies.
fn names(arg: &Arg, shell: Shell) -> Option<Names> {
    // A default value, as of `data field --study`, must be among the values, which is true of studies only.
    let named = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match (arg.get_id().as_str(), named) {
        ("encoder" | "encoders", _) | (_, "ID") => Some(Names::Encoders),
        ("id" | "ids", "ID|DIR") => Some(Names::Encoders),
        // Other shells complete files where no name matches; zsh would offer only the names.
        (_, "STUDY") if shell != Shell::Zsh => Some(Names::Studies),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn scripts_name_commands_encoders_and_studies() -> Result<()> {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut with_values(Cli::command(), *shell)?, "burgess", &mut script);
            let text = String::from_utf8_lossy(&script);
            assert!(text.contains("doctor") && text.contains("--dry-run"), "{shell}");
            if matches!(shell, Shell::Bash | Shell::Fish | Shell::Zsh) {
                assert!(text.contains("dinov2-l14-518"), "{shell}");
            }
            if *shell == Shell::Bash {
                assert!(text.contains("field-full"), "{shell}");
            }
        }
        Ok(())
    }
}
