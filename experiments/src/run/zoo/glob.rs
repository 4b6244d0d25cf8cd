//! Patterns of names, as a shell writes them: `*`, `?`, and sets such as `[a-c]` or `[!0-9]`.

use burgess_base::{Context, Result};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// Whether a text has characters of a pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether the whole of a name matches a pattern. A `*` matches any number of characters, also none, and `/` as well.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    matches_from(&pattern, &name)
}

fn matches_from(pattern: &[char], name: &[char]) -> bool {
    // Place of the last `*` in the pattern, and the end of what it matches in the name; on a mismatch it matches one more
    // character.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match one(pattern, p, name.get(n).copied().unwrap_or_default()) {
            Some(next) => (p, n) = (next, n + 1),
            None if pattern.get(p) == Some(&'*') => {
                star = Some((p, n));
                p += 1;
            }
            None => match star {
                Some((at, matched)) => {
                    (p, n) = (at + 1, matched + 1);
                    star = Some((at, matched + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

/// Place in the pattern after the element at `p`, if that element matches the character; `*` is no such element.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern.get(p)? {
        '*' => None,
        '?' => Some(p + 1),
        '[' => match set(pattern, p) {
            Some((end, inside)) => inside(c).then_some(end),
            None => (c == '[').then_some(p + 1),
        },
        literal => (*literal == c).then_some(p + 1),
    }
}

/// Reads the set that opens at `p`: returns the place after its closing bracket, and whether a character is in it; `None`
/// if it is not closed.
fn set(pattern: &[char], p: usize) -> Option<(usize, impl Fn(char) -> bool + use<>)> {
    let negated = matches!(pattern.get(p + 1), Some('!' | '^'));
    let first = p + 1 + usize::from(negated);
    // A bracket at the first place is a member.
    let close = (first + 1..pattern.len()).find(|at| pattern.get(*at) == Some(&']'))?;
    let members: Vec<char> = pattern.get(first..close)?.to_vec();
    let inside = move |c: char| {
        let mut at = 0;
        let mut found = false;
        while let Some(low) = members.get(at) {
            match (members.get(at + 1), members.get(at + 2)) {
                (Some('-'), Some(high)) => {
                    found |= (*low..=*high).contains(&c);
                    at += 3;
                }
                _ => {
                    found |= *low == c;
                    at += 1;
                }
            }
        }
        found != negated
    };
    Some((close + 1, inside))
}

/// Returns the longest part of a pattern without wildcards and sets, which every name that matches contains.
pub fn longest_literal(pattern: &str) -> String {
    let pattern: Vec<char> = pattern.chars().collect();
    let (mut longest, mut part) = (String::new(), String::new());
    let mut at = 0;
    while let Some(&c) = pattern.get(at) {
        let set = if c == '[' { set(&pattern, at) } else { None };
        let wildcard = set.is_some() || c == '*' || c == '?';
        at = set.map_or(at + 1, |(end, _)| end);
        match wildcard {
            true => part.clear(),
            false => part.push(c),
        }
        if part.len() > longest.len() {
            longest.clone_from(&part);
        }
    }
    longest
}

/// Lists the directories that match a pattern of paths, sorted; each component is matched by itself, and hidden
/// directories only by a pattern that begins with a dot.
///
/// # Errors
/// A directory that may hold matches cannot be read.
pub fn directories(pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(part) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let part = part.to_string_lossy();
        if !is_pattern(&part) {
            found.iter_mut().for_each(|path| path.push(part.as_ref()));
            continue;
        }
        let wanted = |name: &str| (part.starts_with('.') || !name.starts_with('.')) && matches(&part, name);
        let mut inside = Vec::new();
        for path in &found {
            let mut names = names_in(path)?;
            names.retain(|name| wanted(&name.to_string_lossy()));
            names.sort();
            inside.extend(names.into_iter().map(|name| path.join(name)));
        }
        found = inside;
    }
    found.retain(|path| path.is_dir());
    Ok(found)
}

/// Names of what is in a directory; none if there is no such directory. The empty path is the current directory.
fn names_in(path: &Path) -> Result<Vec<OsString>> {
    let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let step = || format!("reading {}", here.display());
    match std::fs::read_dir(here) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        entries => entries.with_context(step)?.map(|entry| Ok(entry.with_context(step)?.file_name())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("vit_*", "vit_base_patch16_224.augreg", true),
            ("vit_*", "deit_base", false),
            ("*augreg*", "vit_base_patch16_224.augreg_in21k", true),
            ("*.augreg", "vit_base_patch16_224.augreg_in21k", false),
            ("vit_?ase*", "vit_base", true),
            ("vit_[a-c]ase", "vit_base", true),
            ("vit_[!a-c]ase", "vit_base", false),
            ("[]x]", "]", true),
            ("a[b", "a[b", true),
            ("a*b*c", "a__b_b__c", true),
            ("a*b*c", "a__b_b__", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_longest_literal_is_in_every_match() {
        for (pattern, expected) in [
            ("vit_*_patch16_224.aug*", "_patch16_224.aug"),
            ("*", ""),
            ("[!v]*", ""),
            ("vit_[abcdefgh]x", "vit_"),
            ("a[bc", "a[bc"),
        ] {
            assert_eq!(longest_literal(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn directories_are_listed_in_order() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for name in ["m/b", "m/a", "m/.hidden", "n/c"] {
            std::fs::create_dir_all(dir.path().join(name))?;
        }
        std::fs::write(dir.path().join("m/file"), "")?;
        let found = |pattern: &str| -> Result<Vec<String>> {
            let found = directories(&dir.path().join(pattern))?;
            let inside = |path: &PathBuf| path.strip_prefix(dir.path()).map(|p| p.display().to_string());
            Ok(found.iter().filter_map(|path| inside(path).ok()).collect())
        };
        assert_eq!(found("m/*")?, ["m/a", "m/b"]);
        assert_eq!(found("*/[b-c]")?, ["m/b", "n/c"]);
        assert_eq!(found("m/.h*")?, ["m/.hidden"]);
        assert!(found("away/*")?.is_empty() && found("m/file/*")?.is_empty());
        Ok(())
    }
}
