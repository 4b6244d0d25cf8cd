//! `made.json`, which a study's directory holds for its report: the last command and the directories of its images.
//! Unlike `study.json`, it may change from one call to the next.

use crate::machine::shell;
use crate::run::store;
use crate::study::StudyConfig;
use burgess_base::{Result, atomic};
use burgess_reports::check::Claims;
use burgess_reports::series::ArmSeries;
use burgess_reports::validity::ProbePair;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The contents of `made.json`.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Last command that worked on the study, as it can be typed again in the same working directory.
    pub command: String,
    /// Directories in which the study's images lie.
    #[serde(default)]
    pub images: Vec<PathBuf>,
    /// Claims of the study about its evaluator.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub claims: Claims,
    /// Pairs of a direct probe and questions about the same attribute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validity: Vec<ProbePair>,
    /// Series of arms that differ in one thing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<ArmSeries>,
}

impl Provenance {
    /// Reads `made.json` of a study's directory; `None` if an earlier version made the directory without it.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("made.json");
        if path.is_file() { atomic::read_json(&path).map(Some) } else { Ok(None) }
    }

    /// Records a command (without one, that of before stays), a directory of images if there is one, and the present
    /// claims and pairs of `study`.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn record(
        dir: &Path,
        images: Option<&Path>,
        study: Option<&StudyConfig>,
        command: Option<String>,
    ) -> Result<()> {
        // Read and written again by one process at a time.
        let _lease = store::claim_study(dir, "made", &|_| ())?;
        let before = Self::read(dir)?.unwrap_or_default();
        let command = command.unwrap_or_else(|| before.command.clone());
        let stated = study.map(|s| (s.claims.clone(), s.validity.clone(), s.series.clone()));
        let (claims, validity, series) = stated.unwrap_or_default();
        let mut provenance = Self { command, images: before.images.clone(), claims, validity, series };
        // For images from the hub's cache `images` is empty, which `absolute` rejects: nothing is recorded then.
        if let Some(Ok(images)) = images.map(std::path::absolute)
            && !provenance.images.contains(&images)
        {
            provenance.images.push(images);
        }
        if provenance == before { Ok(()) } else { atomic::write_json(&dir.join("made.json"), &provenance) }
    }

    /// Records further directories of images.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn record_images(dir: &Path, images: impl IntoIterator<Item = PathBuf>) -> Result<()> {
        let _lease = store::claim_study(dir, "made", &|_| ())?;
        let before = Self::read(dir)?.unwrap_or_default();
        let mut provenance = before.clone();
        for images in images {
            if !provenance.images.contains(&images) {
                provenance.images.push(images);
            }
        }
        if provenance == before { Ok(()) } else { atomic::write_json(&dir.join("made.json"), &provenance) }
    }
}

/// The command line of this process, as it makes the whole study: without the choice of a stage.
pub fn command() -> String {
    command_line(without_stage(std::env::args_os().skip(1)).into_iter())
}

/// Removes `--stage NAME` and `--stage=NAME` from arguments.
fn without_stage(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--stage") => drop(arguments.next()),
            Some(text) if text.starts_with("--stage=") => {}
            _ => kept.push(argument),
        }
    }
    kept
}

/// Formats the command with these arguments for a shell.
fn command_line(arguments: impl Iterator<Item = OsString>) -> String {
    let mut words: Vec<String> = arguments.map(|a| shell::quoted(&a)).collect();
    if words.is_empty() {
        words = vec!["rank".into(), "nano".into()];
    }
    format!("burgess {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_typed_again() {
        let of = |words: &[&str]| command_line(words.iter().map(OsString::from));
        assert_eq!(of(&[]), "burgess rank nano");
        assert_eq!(
            of(&["rank", "./my study.toml", "--out", "it's"]),
            r"burgess rank './my study.toml' --out 'it'\''s'"
        );
        assert_eq!(
            of(&["rank", "a.toml", "--encoders", "x@7,y:unfrozen", ""]),
            "burgess rank a.toml --encoders x@7,y:unfrozen ''"
        );
        assert_eq!(of(&["$HOME;`x`", "größe", "~", "a\nb'"]), r"burgess '$HOME;`x`' größe '~' $'a\x0ab\''");
    }

    #[test]
    fn the_command_of_a_stage_is_recorded_as_that_of_the_study() {
        let of = |words: &[&str]| command_line(without_stage(words.iter().map(OsString::from)).into_iter());
        assert_eq!(of(&["rank", "nano", "--stage", "report", "--out", "x"]), "burgess rank nano --out x");
        assert_eq!(of(&["rank", "nano", "--stage=report"]), "burgess rank nano");
    }

    #[test]
    fn a_study_remembers_its_images() -> Result<()> {
        let dir = tempfile::tempdir()?;
        assert_eq!(Provenance::read(dir.path())?, None);
        for images in ["/data/a", "/data/b", "/data/a"] {
            Provenance::record(dir.path(), Some(Path::new(images)), None, Some(command()))?;
        }
        Provenance::record(dir.path(), None, None, None)?;
        let provenance = Provenance::read(dir.path())?.unwrap_or_default();
        assert_eq!(provenance.images, ["/data/a", "/data/b"].map(PathBuf::from));
        assert!(provenance.command.starts_with("burgess "), "{}", provenance.command);
        Ok(())
    }
}
