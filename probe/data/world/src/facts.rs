//! Facts about the things, from `assets/facts.json`, one thing per line.
//!
//! A thing has no entry for an attribute if the answer would be debatable; it is then never asked for.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// A thing that a flat image can show: a pictogram or a plain shape.
#[derive(Debug, Deserialize)]
pub struct Thing {
    /// Name of the thing, one lower-case word.
    pub name: String,
    /// Irregular plural; absent if it is the name with an "s".
    #[serde(default)]
    plural: Option<String>,
    /// Whether the thing can be counted. "Bread" and "socks" cannot: they have no article and are never counted.
    #[serde(default = "yes")]
    pub countable: bool,
    /// Category of the thing: "animal", "fruit", "vehicle", …, "shape".
    pub kind: String,
    /// Values by the key of their attribute.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// The direction in which the unmirrored pictogram looks; `None` if that is unclear.
    #[serde(default)]
    pub faces: Option<Facing>,
    /// Whether an upside-down image of the thing is clearly recognisable as such.
    #[serde(default)]
    pub upright: bool,
}

fn yes() -> bool {
    true
}

/// The horizontal direction in which a thing looks in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Facing {
    /// To the left.
    Left,
    /// To the right.
    Right,
}

impl Facing {
    /// Returns "left" or "right".
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }

    /// Returns the opposite direction.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

impl Thing {
    /// Returns the plural: "dogs", "sheep", …
    pub fn plural(&self) -> String {
        self.plural.clone().unwrap_or_else(|| format!("{}s", self.name))
    }

    /// Returns the name with its article ("a dog", "an apple", "grapes"), and with the adjectives `before` if not empty
    /// ("a red dog").
    pub fn with_article(&self, before: &str) -> String {
        let phrase = if before.is_empty() { self.name.clone() } else { format!("{before} {}", self.name) };
        if self.countable { article(&phrase) } else { phrase }
    }

    /// Returns "is" or "are", as the name requires.
    pub fn is(&self) -> &'static str {
        if self.is_plural() { "are" } else { "is" }
    }

    /// Returns whether the name is a plural, as in "What color are the grapes?".
    pub fn is_plural(&self) -> bool {
        !self.countable && self.name.ends_with('s')
    }
}

/// Returns a phrase with "a" or "an" before it.
pub fn article(phrase: &str) -> String {
    let an = phrase.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) || phrase.starts_with("umbrella");
    format!("{} {phrase}", if an { "an" } else { "a" })
}

/// The plain shapes with their irregular plurals; their numbers follow those of the pictograms.
pub const SHAPES: [(&str, Option<&str>); 8] = [
    ("circle", None),
    ("square", None),
    ("triangle", None),
    ("star", None),
    ("cross", Some("crosses")),
    ("heart", None),
    ("diamond", None),
    ("arrow", None),
];

/// All things: the pictograms, then the shapes. A test checks that the embedded table parses, because an error would
/// leave only the shapes.
pub static THINGS: LazyLock<Vec<Thing>> = LazyLock::new(|| {
    let mut things: Vec<Thing> = serde_json::from_str(include_str!("../assets/facts.json")).unwrap_or_default();
    things.extend(SHAPES.iter().map(|(name, plural)| Thing {
        name: (*name).to_string(),
        plural: plural.map(str::to_string),
        countable: true,
        kind: "shape".to_string(),
        facts: BTreeMap::new(),
        faces: None,
        upright: false,
    }));
    things
});

/// Returns a thing by its number.
pub fn thing(id: u16) -> &'static Thing {
    &THINGS[id as usize % THINGS.len()]
}

/// Returns the number of pictograms; their numbers precede those of the shapes.
pub fn pictograms() -> usize {
    THINGS.len() - SHAPES.len()
}

/// Returns the number of a plain shape, given its index in [`SHAPES`].
pub fn shape(index: usize) -> u16 {
    (pictograms() + index) as u16
}

/// Returns the number of the arrow, the only shape with a direction.
pub fn arrow() -> u16 {
    shape(SHAPES.len() - 1)
}

/// An attribute of things, and the texts that ask for it and state it.
pub struct Attribute {
    /// Key of the attribute in the fact table.
    pub key: &'static str,
    /// The question, which does not name the thing.
    pub question: &'static str,
    /// The statement, with the placeholders `{thing}` and `{value}`.
    pub statement: &'static str,
    /// Pairs of values that are never options of the same question, because both could be considered true.
    pub too_near: &'static [(&'static str, &'static str)],
}

/// Every attribute of the table.
pub const ATTRIBUTES: [Attribute; 17] = [
    Attribute {
        key: "home",
        question: "Where does it live?",
        statement: "{thing} lives in the {value}.",
        too_near: &[("pond", "farm"), ("sea", "ice"), ("savanna", "desert")],
    },
    Attribute {
        key: "legs",
        question: "How many legs does it have?",
        statement: "{thing} has {value} legs.",
        too_near: &[],
    },
    Attribute {
        key: "eats",
        question: "What does it eat?",
        statement: "{thing} eats {value}.",
        too_near: &[("meat", "fish"), ("meat", "insects"), ("fish", "insects")],
    },
    Attribute {
        key: "cover",
        question: "What covers its body?",
        statement: "The body of {thing} has {value}.",
        too_near: &[("scales", "shell")],
    },
    Attribute {
        key: "sound",
        question: "What sound does it make?",
        statement: "{thing} says {value}.",
        too_near: &[("roar", "hiss")],
    },
    Attribute {
        key: "group",
        question: "What group of animals is it?",
        statement: "{thing} is {a value}.",
        too_near: &[],
    },
    Attribute {
        key: "grows",
        question: "Where does it grow?",
        statement: "{thing} grows {value}.",
        too_near: &[("under the ground", "in a field"), ("on a vine", "in a field")],
    },
    Attribute { key: "taste", question: "How does it taste?", statement: "{thing} tastes {value}.", too_near: &[] },
    Attribute {
        key: "from",
        question: "Where does it come from?",
        statement: "{thing} comes from {value}.",
        too_near: &[],
    },
    Attribute {
        key: "moves",
        question: "Where does it move?",
        statement: "{thing} moves {value}.",
        too_near: &[("in the air", "in space")],
    },
    Attribute {
        key: "wheels",
        question: "How many wheels does it have?",
        statement: "{thing} has {value} wheels.",
        too_near: &[],
    },
    Attribute {
        key: "use",
        question: "What is it used for?",
        statement: "{thing} is used to {value}.",
        too_near: &[("cut wood", "cut paper")],
    },
    Attribute {
        key: "place",
        question: "Where is it kept?",
        statement: "{thing} is kept in the {value}.",
        too_near: &[("bedroom", "closet")],
    },
    Attribute {
        key: "worn",
        question: "Where is it worn?",
        statement: "{thing} is worn on the {value}.",
        too_near: &[],
    },
    Attribute { key: "played", question: "How is it played?", statement: "{thing} is played {value}.", too_near: &[] },
    Attribute {
        key: "seen",
        question: "When is it seen best?",
        statement: "{thing} is seen best {value}.",
        too_near: &[],
    },
    Attribute {
        key: "kind",
        question: "What kind of thing is it?",
        statement: "{thing} is of the kind {value}.",
        too_near: &[
            ("tool", "household"),
            ("fruit", "vegetable"),
            ("fruit", "food"),
            ("vegetable", "food"),
            ("fruit", "plant"),
            ("vegetable", "plant"),
        ],
    },
];

impl Attribute {
    /// Returns the value for a thing, if the table has one.
    pub fn of(&self, thing: &'static Thing) -> Option<&'static str> {
        if self.key == "kind" {
            return (thing.kind != "shape").then_some(thing.kind.as_str());
        }
        thing.facts.get(self.key).map(String::as_str)
    }

    /// Returns every value that occurs, in alphabetical order.
    pub fn values(&self) -> Vec<&'static str> {
        let mut all: Vec<_> = THINGS.iter().filter_map(|t| self.of(t)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Returns whether two values may be options of the same question.
    pub fn apart(&self, a: &str, b: &str) -> bool {
        a != b && !self.too_near.iter().any(|&(x, y)| (x == a && y == b) || (x == b && y == a))
    }

    /// Returns the fact about a thing as a sentence, if the table has one.
    pub fn sentence(&self, thing: &'static Thing) -> Option<String> {
        let value = self.of(thing)?;
        let mut text = self
            .statement
            .replace("{thing}", &thing.with_article(""))
            .replace("{a value}", &article(value))
            .replace("{value}", value);
        if thing.is_plural() {
            for (one, many) in [(" is ", " are "), (" has ", " have "), (" comes ", " come "), (" grows ", " grow ")] {
                text = text.replace(one, many);
            }
        }
        if let Some(first) = text.get(..1) {
            text = format!("{}{}", first.to_uppercase(), &text[1..]);
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_parses_and_every_thing_is_one_word() {
        assert!(pictograms() >= 50);
        let mut names: Vec<_> = THINGS.iter().map(|t| t.name.as_str()).collect();
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase())));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), THINGS.len());
    }

    #[test]
    fn every_fact_has_an_attribute_with_enough_values() {
        for thing in THINGS.iter() {
            for key in thing.facts.keys() {
                assert!(ATTRIBUTES.iter().any(|a| a.key == key), "{key}");
            }
        }
        for a in &ATTRIBUTES {
            assert!(a.values().len() >= 2, "{}", a.key);
            for &(x, y) in a.too_near {
                assert!(a.values().contains(&x) && a.values().contains(&y), "{} {x} {y}", a.key);
            }
        }
    }
}
