//! Kinds of things, told by the folders of the stamps: words that are learned from some things and asked of others.

/// A kind of thing.
#[derive(Debug)]
pub struct Kind {
    /// The folder whose stamps are of this kind.
    folder: &'static str,
    /// "animal".
    pub name: &'static str,
    /// "animals".
    pub plural: &'static str,
    /// Words of captions whose things are not of the kind although they lie in its folder.
    without: &'static [&'static str],
}

/// All kinds. No thing is of two, with one doubt: what is a fruit to a botanist may be a vegetable to a cook, so these two are
/// never asked about in one picture ([`may_meet`]).
pub const KINDS: [Kind; 9] = [
    Kind { folder: "animals", name: "animal", plural: "animals", without: &["wing"] },
    Kind { folder: "food/fruit", name: "fruit", plural: "fruits", without: &["core", "slice", "sliced"] },
    Kind { folder: "food/vegetables", name: "vegetable", plural: "vegetables", without: &[] },
    Kind {
        folder: "clothes",
        name: "piece of clothing",
        plural: "pieces of clothing",
        without: &["button", "clothespin", "helmet"],
    },
    Kind { folder: "hobbies/music", name: "musical instrument", plural: "musical instruments", without: &[] },
    Kind { folder: "household/tools", name: "tool", plural: "tools", without: &["toolbox", "mixer"] },
    Kind { folder: "plants/flowers", name: "flower", plural: "flowers", without: &[] },
    Kind { folder: "town/houses", name: "building", plural: "buildings", without: &["tent", "city", "fishery"] },
    Kind { folder: "vehicles", name: "vehicle", plural: "vehicles", without: &["wheel", "sign", "emblem"] },
];

/// The kind of a stamp by its path below the stamps' folder and the words of its caption, see
/// [`bare_words`](crate::names::bare_words).
pub fn kind_of(path: &str, words: &[String]) -> Option<usize> {
    let inside = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let at = KINDS.iter().position(|k| inside(k.folder))?;
    let kind = KINDS.get(at)?;
    (!words.iter().any(|w| kind.without.contains(&w.as_str()))).then_some(at)
}

/// Whether two kinds may be asked about in one picture.
pub fn may_meet(a: usize, b: usize) -> bool {
    let doubtful = |k: usize| KINDS.get(k).is_some_and(|k| k.folder.starts_with("food/"));
    a != b && !(doubtful(a) && doubtful(b))
}

/// "a" or "an" before a kind.
pub fn article(kind: usize) -> &'static str {
    match KINDS.get(kind) {
        Some(k) if k.name.starts_with(['a', 'e', 'i', 'o', 'u']) => "an",
        _ => "a",
    }
}

/// Its name; kinds come from [`kind_of`], so there is always one.
pub fn name(kind: usize) -> &'static str {
    KINDS.get(kind).map_or("thing", |k| k.name)
}

/// Its plural.
pub fn plural(kind: usize) -> &'static str {
    KINDS.get(kind).map_or("things", |k| k.plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_tell_kinds() {
        let of = |path, caption| kind_of(path, &crate::names::bare_words(caption)).map(name);
        assert_eq!(of("animals/birds/owl.png", "An owl."), Some("animal"));
        assert_eq!(of("food/fruit/cartoon/pear.png", "A pear."), Some("fruit"));
        assert_eq!(of("food/pizza.png", "A quarter of pizza."), None);
        assert_eq!(of("vehicles/7spoke256.png", "A wheel! Put the brake calipers toward the rear."), None);
        assert_eq!(of("animals2/owl.png", "An owl."), None);
        assert!(may_meet(0, 1) && !may_meet(1, 2) && !may_meet(3, 3));
    }
}
