//! Kinds of objects, defined by the folders of the stamps; kinds are learned from some objects and tested on others.

/// A kind of object.
#[derive(Debug)]
pub struct ObjectKind {
    /// The stamps' folder that defines this kind.
    folder: &'static str,
    /// Name in the singular, such as "animal".
    pub name: &'static str,
    /// Name in the plural, such as "animals".
    pub plural: &'static str,
    /// Caption words that exclude a stamp in the folder from the kind.
    without: &'static [&'static str],
}

/// All kinds. They are disjoint, except that botanists and cooks disagree on fruits and vegetables, so these two never
/// occur in one image ([`may_meet`]).
pub const KINDS: [ObjectKind; 9] = [
    ObjectKind { folder: "animals", name: "animal", plural: "animals", without: &["wing"] },
    ObjectKind { folder: "food/fruit", name: "fruit", plural: "fruits", without: &["core", "slice", "sliced"] },
    ObjectKind { folder: "food/vegetables", name: "vegetable", plural: "vegetables", without: &[] },
    ObjectKind {
        folder: "clothes",
        name: "piece of clothing",
        plural: "pieces of clothing",
        without: &["button", "clothespin", "helmet"],
    },
    ObjectKind { folder: "hobbies/music", name: "musical instrument", plural: "musical instruments", without: &[] },
    ObjectKind { folder: "household/tools", name: "tool", plural: "tools", without: &["toolbox", "mixer"] },
    ObjectKind { folder: "plants/flowers", name: "flower", plural: "flowers", without: &[] },
    ObjectKind { folder: "town/houses", name: "building", plural: "buildings", without: &["tent", "city", "fishery"] },
    ObjectKind { folder: "vehicles", name: "vehicle", plural: "vehicles", without: &["wheel", "sign", "emblem"] },
];

/// Returns the kind of a stamp from its path in the stamps' folder and the words of its caption, see
/// [`bare_words`](crate::names::bare_words).
pub fn kind_of(path: &str, words: &[String]) -> Option<usize> {
    let inside = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let at = KINDS.iter().position(|k| inside(k.folder))?;
    let kind = KINDS.get(at)?;
    (!words.iter().any(|w| kind.without.contains(&w.as_str()))).then_some(at)
}

/// Returns whether two kinds may occur in one image.
pub fn may_meet(a: usize, b: usize) -> bool {
    let doubtful = |k: usize| KINDS.get(k).is_some_and(|k| k.folder.starts_with("food/"));
    a != b && !(doubtful(a) && doubtful(b))
}

/// Returns the indefinite article of a kind, "a" or "an".
pub fn article(kind: usize) -> &'static str {
    match KINDS.get(kind) {
        Some(k) if k.name.starts_with(['a', 'e', 'i', 'o', 'u']) => "an",
        _ => "a",
    }
}

/// Returns the name of a kind from [`kind_of`].
pub fn name(kind: usize) -> &'static str {
    KINDS.get(kind).map_or("thing", |k| k.name)
}

/// Returns the plural of a kind from [`kind_of`].
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
