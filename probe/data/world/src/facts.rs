//! What is true of the things: `assets/facts.json`, one thing a line.
//!
//! A thing without an entry for an attribute is one for which the answer would be open to argument; it is never asked.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// A thing that a flat image can show: a pictogram or a plain shape.
#[derive(Debug, Deserialize)]
pub struct Thing {
    /// One lower-case word.
    pub name: String,
    #[serde(default)]
    plural: Option<String>,
    /// False for stuff and pairs ("bread", "socks"), which are named without article and never counted.
    #[serde(default = "yes")]
    pub countable: bool,
    /// "animal", "fruit", "vehicle", …, "shape".
    pub kind: String,
    /// Attribute → value.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// The side an unmirrored image of it looks to; absent where that is unclear.
    #[serde(default)]
    pub faces: Option<Facing>,
    /// Whether upright and upside down are plain to see.
    #[serde(default)]
    pub upright: bool,
}

fn yes() -> bool {
    true
}

/// Left or right in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Facing {
    Left,
    Right,
}

impl Facing {
    /// "left" or "right".
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

impl Thing {
    /// "dogs", "sheep", …
    pub fn plural(&self) -> String {
        self.plural.clone().unwrap_or_else(|| format!("{}s", self.name))
    }

    /// "a dog", "an apple", "grapes"; with `before`, "a red dog".
    pub fn with_article(&self, before: &str) -> String {
        let phrase = if before.is_empty() { self.name.clone() } else { format!("{before} {}", self.name) };
        if self.countable { article(&phrase) } else { phrase }
    }

    /// "is" or "are".
    pub fn is(&self) -> &'static str {
        if self.is_plural() { "are" } else { "is" }
    }

    /// Whether its name is a plural, as in "What color are the grapes?".
    pub fn is_plural(&self) -> bool {
        !self.countable && self.name.ends_with('s')
    }
}

/// "a" or "an" before a phrase.
pub fn article(phrase: &str) -> String {
    let an = phrase.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) || phrase.starts_with("umbrella");
    format!("{} {phrase}", if an { "an" } else { "a" })
}

/// Plain shapes come after the pictograms.
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

/// All things: the pictograms, then the shapes. A table that did not parse would be empty; a test holds that it is not.
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

/// A thing by its number.
pub fn thing(id: u16) -> &'static Thing {
    &THINGS[id as usize % THINGS.len()]
}

/// How many of the things are pictograms; their numbers come first.
pub fn pictograms() -> usize {
    THINGS.len() - SHAPES.len()
}

/// The number of a plain shape, by its place in [`SHAPES`].
pub fn shape(index: usize) -> u16 {
    (pictograms() + index) as u16
}

/// The number of the arrow, the one shape that points somewhere.
pub fn arrow() -> u16 {
    shape(SHAPES.len() - 1)
}

/// An attribute and how it is asked about.
pub struct Attribute {
    /// Key in the fact table.
    pub key: &'static str,
    /// The question, which must not name the thing.
    pub question: &'static str,
    /// The statement; `{thing}` and `{value}` are filled in.
    pub statement: &'static str,
    /// Pairs of values that are never options of the same question, because both may be held true.
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
    /// The value for a thing, if the table has one.
    pub fn of(&self, thing: &'static Thing) -> Option<&'static str> {
        if self.key == "kind" {
            return (thing.kind != "shape").then_some(thing.kind.as_str());
        }
        thing.facts.get(self.key).map(String::as_str)
    }

    /// Every value that occurs, in the order of the alphabet.
    pub fn values(&self) -> Vec<&'static str> {
        let mut all: Vec<_> = THINGS.iter().filter_map(|t| self.of(t)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether two values may be options of one question.
    pub fn apart(&self, a: &str, b: &str) -> bool {
        a != b && !self.too_near.iter().any(|&(x, y)| (x == a && y == b) || (x == b && y == a))
    }

    /// The fact as a sentence.
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
