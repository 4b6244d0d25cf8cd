//! The list of a zoo's encoders: files, patterns and names, expanded to the arms of a study.

use super::glob;
use super::tags::TagSource;
use crate::features::ArmCard;
use crate::machine::terminal;
use crate::study::{Arm, ArmEncoder, EvaluatorConfig, StudyConfig};
use burgess_base::{Context, Error, Result};
use burgess_encoders::card;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Prefix of patterns over timm's tags.
const TIMM: &str = "timm:";

/// Hint on how a list is written.
const HINT: &str = "a list is a file with one encoder per line, or names separated by commas: card ids, directories, \
    owner/name of the hub, patterns such as nano-*, ./models/* or timm:vit_base_*";

/// Arms as written in a list, with the folder to which their paths are relative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedArm {
    /// The arm as on the command line of `rank`.
    pub text: String,
    /// Folder of the file that lists it; `None` on the command line.
    folder: Option<PathBuf>,
}

/// The arms of a zoo, and the encoders that cannot be loaded.
#[derive(Debug, Default)]
pub struct ZooList {
    /// The arms whose encoders can be loaded.
    pub arms: Vec<Arm>,
    /// Encoders that cannot be loaded.
    pub failed: Vec<ZooFailure>,
}

/// An encoder without a score, and the cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ZooFailure {
    /// The encoder or the arm, as it was listed.
    pub encoder: String,
    /// Why it has no score.
    pub cause: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Expands a list: files to their lines, patterns to what they match. Arms that are listed twice are listed once.
///
/// # Errors
/// A file cannot be read, a pattern matches nothing, or the list is empty. What a line names is not opened yet.
pub fn expand(words: &[String], tags: &TagSource) -> Result<Vec<ListedArm>> {
    let mut arms: Vec<ListedArm> = Vec::new();
    for word in words {
        for (text, folder) in lines_of(word)? {
            for text in matches_of(&text, folder.as_deref(), tags)? {
                let arm = ListedArm { text, folder: folder.clone() };
                if !arms.contains(&arm) {
                    arms.push(arm);
                }
            }
        }
    }
    match arms.is_empty() {
        true => Err(Error::usage("the list names no encoder").hint(HINT)),
        false => Ok(arms),
    }
}

/// The entries of a word: the lines of a file, or the parts between commas.
fn lines_of(word: &str) -> Result<Vec<(String, Option<PathBuf>)>> {
    let path = Path::new(word);
    // A card is a file too, but an encoder.
    let is_list = path.is_file() && !word.ends_with(".toml");
    let parts = |text: &str, folder: Option<&PathBuf>| -> Vec<(String, Option<PathBuf>)> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| (part.into(), folder.cloned()))
            .collect()
    };
    if !is_list {
        return Ok(parts(word, None));
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading the list {word}"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_path_buf);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(before, _)| before));
    Ok(lines.flat_map(|line| parts(line, folder.as_ref())).collect())
}

/// What an entry stands for: itself, or what its pattern matches. Options behind `@` or `:` hold for each match.
fn matches_of(text: &str, folder: Option<&Path>, tags: &TagSource) -> Result<Vec<String>> {
    let (prefix, name) = match text.strip_prefix(TIMM) {
        Some(name) => (TIMM, name),
        None => ("", text),
    };
    let end = name.find(['@', ':']).unwrap_or(name.len());
    let (pattern, options) = name.split_at(end);
    if prefix.is_empty() && !glob::is_pattern(pattern) {
        return Ok(vec![text.to_string()]);
    }
    let (found, place) = match prefix {
        TIMM => (tags.timm(pattern)?, tags.place()),
        _ if pattern.contains('/') => {
            let beside = folder.map(|folder| glob::directories(&folder.join(pattern))).transpose()?.unwrap_or_default();
            let paths = if beside.is_empty() { glob::directories(Path::new(pattern))? } else { beside };
            let text = |path: &PathBuf| match path.is_absolute() || path.starts_with(".") || path.starts_with("..") {
                true => path.to_string_lossy().into_owned(),
                // `a/b` could be a repository of the hub.
                false => format!("./{}", path.display()),
            };
            (paths.iter().map(text).collect(), "no directory matches it".to_string())
        }
        _ => {
            let ids = card::zoo()?.into_iter().map(|card| card.id).filter(|id| glob::matches(pattern, id));
            (ids.collect::<Vec<_>>(), "no card id matches it; `burgess encoders` lists the cards".to_string())
        }
    };
    match found.is_empty() {
        true => Err(Error::usage(format!("the pattern `{text}` matches nothing: {place}")).hint(HINT)),
        false => Ok(found.into_iter().map(|name| name + options).collect()),
    }
}

/// Opens the cards and checks the weights of all arms. What cannot be loaded is no error but listed with its cause.
pub fn open_all(listed: &[ListedArm], evaluator: &EvaluatorConfig) -> ZooList {
    let mut list = ZooList::default();
    for arm in listed {
        match open(arm, evaluator) {
            Ok(mut opened) => {
                if let Some(known) = list.arms.iter().find(|known| known.encoders == opened.encoders)
                    && known.freeze == opened.freeze
                {
                    continue;
                }
                name_apart(&mut opened, &list.arms);
                list.arms.push(opened);
            }
            Err(e) => list.failed.push(ZooFailure::of(&arm.text, &e)),
        }
    }
    list
}

impl ZooFailure {
    /// The failure of an encoder by an error.
    pub fn of(encoder: &str, error: &Error) -> Self {
        Self { encoder: encoder.to_string(), cause: error.chain().join(": "), hint: terminal::hint(error) }
    }
}

fn open(listed: &ListedArm, evaluator: &EvaluatorConfig) -> Result<Arm> {
    let mut arm = Arm::parse(&listed.text)?;
    for encoder in &mut arm.encoders {
        encoder.resolve_path(listed.folder.as_deref())?;
    }
    // The name of a directory may be none for an arm.
    if arm.check().is_err() {
        let name = plain(&arm.name());
        arm.label = Some(name).filter(|name| *name != arm.name());
    }
    arm.check()?;
    for encoder in &arm.encoders {
        check(encoder, evaluator).map_err(|e| match arm.encoders.len() {
            1 => e,
            _ => e.context(encoder.to_string()),
        })?;
    }
    Ok(arm)
}

/// Checks that an encoder can be loaded, without reading its weights.
fn check(encoder: &ArmEncoder, evaluator: &EvaluatorConfig) -> Result<()> {
    match ArmCard::planned(encoder, evaluator)? {
        ArmCard::Encoder(card) => {
            encoder.find(&card)?;
            encoder.check_weights(&card)
        }
        ArmCard::Oracle(_) => Ok(()),
    }
}

/// Gives an arm a name of its own if another arm has its name: directories of the same name differ in their parents.
fn name_apart(arm: &mut Arm, others: &[Arm]) {
    let is_taken = |name: &str| others.iter().any(|other| other.name().eq_ignore_ascii_case(name));
    if !is_taken(&arm.name()) {
        return;
    }
    let own = arm.name();
    let parents: Vec<String> = arm
        .encoders
        .iter()
        .filter_map(|e| Path::new(&e.source).parent()?.file_name().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    let with_parents = plain(&format!("{}-{own}", parents.join("-")));
    let numbered = (2..).map(|n| format!("{own}-{n}"));
    arm.label = std::iter::once(with_parents).filter(|_| !parents.is_empty()).chain(numbered).find(|n| !is_taken(n));
}

/// A name with the characters that names of arms may have; others become `_`.
fn plain(name: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || "-_.+@".contains(c) { c } else { '_' };
    name.chars().map(fine).collect::<String>().trim_matches(['.', '-']).to_string()
}

/// Replaces the arms of a study by those of a zoo.
///
/// # Errors
/// The study is not valid with these arms.
pub fn with_arms(study: &StudyConfig, arms: Vec<Arm>) -> Result<StudyConfig> {
    // Series are of the study's own arms.
    let study = StudyConfig { arms, series: Vec::new(), ..study.clone() };
    study.check()?;
    Ok(study)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Result<Vec<String>> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Ok(expand(&words, &TagSource::cache())?.into_iter().map(|arm| arm.text).collect())
    }

    #[test]
    fn lists_are_files_patterns_and_names() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::create_dir_all(dir.path().join("models/b"))?;
        fs::create_dir_all(dir.path().join("models/a"))?;
        let file = dir.path().join("zoo.txt");
        fs::write(&file, "# two encoders\nnano-sup\n\nnano-mae+nano-sup  # combined\nmodels/*@7\nnano-sup\n")?;
        let models = |name: &str| dir.path().join("models").join(name).display().to_string();
        assert_eq!(
            texts(&[&file.display().to_string(), "oracle,nano-clip"])?,
            [
                "nano-sup",
                "nano-mae+nano-sup",
                &format!("{}@7", models("a")),
                &format!("{}@7", models("b")),
                "oracle",
                "nano-clip"
            ]
        );
        let cards = texts(&["nano-s*@-2:unfrozen"])?;
        assert_eq!(cards, ["nano-sam@-2:unfrozen", "nano-siglip@-2:unfrozen", "nano-sup@-2:unfrozen"]);
        for wrong in ["nono-*", "./away/*", ","] {
            let e = texts(&[wrong]).unwrap_err();
            assert!(e.exit_code() == 2 && e.hint_text().is_some(), "{wrong}: {e}");
        }
        Ok(())
    }

    #[test]
    fn encoders_that_cannot_be_loaded_are_listed_with_their_cause() -> Result<()> {
        let study = StudyConfig::open("nano")?;
        let listed = ["nano-sup", "nano-spu", "nano-sup@99", "nano-mae+nowhere/none", "nano-sup@random"];
        let listed: Vec<ListedArm> =
            listed.iter().map(|text| ListedArm { text: text.to_string(), folder: None }).collect();
        let list = open_all(&listed, &study.evaluator);
        assert_eq!(list.arms.iter().map(Arm::name).collect::<Vec<_>>(), ["nano-sup", "nano-sup-random"]);
        let failed: Vec<&str> = list.failed.iter().map(|f| f.encoder.as_str()).collect();
        assert_eq!(failed, ["nano-spu", "nano-sup@99", "nano-mae+nowhere/none"]);
        assert!(list.failed.iter().all(|f| !f.cause.is_empty()), "{:?}", list.failed);
        assert!(list.failed[0].hint.as_ref().is_some_and(|h| h.contains("nano-sup")), "{:?}", list.failed[0]);
        Ok(())
    }

    #[test]
    fn arms_of_the_same_name_are_told_apart() -> Result<()> {
        let arm = |source: &str| Arm::new(vec![ArmEncoder::plain(source)], crate::study::Freeze::Frozen);
        let others = [arm("/models/a/vit"), arm("/models/b-vit")];
        let mut same = arm("/models/b/vit");
        name_apart(&mut same, &others);
        assert_eq!(same.name(), "vit-2", "b-vit is taken");
        let mut same = arm("/models/c/vit");
        name_apart(&mut same, &others);
        assert_eq!(same.name(), "c-vit");
        let mut other = arm("/models/c/resnet");
        name_apart(&mut other, &others);
        assert_eq!((other.name(), other.label), ("resnet".to_string(), None));
        assert_eq!(plain("my model (1).v2"), "my_model__1_.v2");
        Ok(())
    }
}
