//! Derives names from captions: "A very small pumpkin." is a pumpkin, and pumpkins of any size are one family.

/// Articles with which the naming part of a caption begins.
const ARTICLES: [&str; 5] = ["a", "an", "some", "two", "the"];

/// Words that end the naming part; the words after them describe more than the object's name.
const ENDS: [&str; 18] = [
    "also", "as", "at", "by", "called", "covered", "dancing", "for", "from", "hatched", "in", "inside", "making", "on",
    "playing", "that", "used", "with",
];

/// Words that make the caption a sentence about the object instead of its name.
const SENTENCE: [&str; 15] = [
    "are",
    "carries",
    "carry",
    "is",
    "it",
    "lets",
    "means",
    "must",
    "resembles",
    "should",
    "stands",
    "this",
    "was",
    "we",
    "you",
];

/// Adjectives of size, mood or ripeness, which are not part of the name.
const REMARKS: [&str; 13] = [
    "big",
    "colorful",
    "happy",
    "huge",
    "large",
    "lit",
    "poisonous",
    "ripe",
    "singing",
    "sitting",
    "sleeping",
    "small",
    "very",
];

/// Maximum number of words in a name.
const LONGEST: usize = 4;

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Article of the name: `a`, `an`, `some`, `two` or `the`.
    article: &'static str,
    /// The name without article, such as `frog` or `pair of pliers`.
    pub words: String,
}

impl ObjectName {
    /// Returns the name in a caption whose first part is an article and up to four words: "A hedgehog.", "A ripe, red
    /// tomato!", "The blacksmith shop." The name ends at punctuation, a bracket or a word such as "with"; quotation
    /// marks and adjectives such as "very small" are omitted. "Eat your broccoli!" has no name.
    pub fn of(caption: &str) -> Option<Self> {
        let plain = caption.replace(['“', '”', '"'], "").replace('’', "'");
        let part = plain.split(['.', '!', '?', ';', ':', '(', '—', '–']).next()?;
        // A comma may separate two adjectives, but before "also called" or "from the Hawaiian islands" it ends the
        // name.
        let mut words = part.split_whitespace().map(|w| (w.trim_end_matches(','), w.ends_with(',')));
        let first = words.next()?.0.to_lowercase();
        let article = *ARTICLES.iter().find(|a| **a == first)?;
        let mut name: Vec<&str> = Vec::new();
        for (word, comma) in words {
            if ENDS.contains(&word) {
                break;
            }
            let remark = name.is_empty() && REMARKS.contains(&word);
            if !remark {
                name.push(word);
            }
            if comma && !remark {
                break;
            }
        }
        let is_word = |w: &&str| {
            w.starts_with(|c: char| c.is_ascii_alphabetic())
                && w.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '\'' | '-'))
        };
        let fine = (1..=LONGEST).contains(&name.len())
            && name.iter().all(is_word)
            && !name.iter().any(|w| SENTENCE.contains(&w.to_lowercase().as_str()));
        let words = fine.then(|| name.join(" "))?;
        let article = match article {
            "a" | "an" if words.to_lowercase().starts_with(['a', 'e', 'i', 'o', 'u']) && !words.starts_with("UK") => {
                "an"
            }
            "a" | "an" => "a",
            other => other,
        };
        Some(Self { article, words })
    }

    /// Returns the name with its article: "a frog", "an owl", "some cherries".
    pub fn phrase(&self) -> String {
        format!("{} {}", self.article, self.words)
    }

    /// Returns the question for its presence: "Is there a frog in the image?"
    pub fn is_there(&self) -> String {
        let name = self.phrase();
        match self.article {
            "the" => format!("Is {name} in the picture?"),
            "some" | "two" => format!("Are there {name} in the picture?"),
            _ => format!("Is there {name} in the picture?"),
        }
    }

    /// Returns the last word, in the singular and in lower case, which a red and a green apple share.
    pub fn head(&self) -> String {
        self.words.split(' ').next_back().map(singular).unwrap_or_default()
    }

    /// Returns whether the name can be counted: neither "pair of pliers" nor "the Sun" can.
    pub fn is_countable(&self) -> bool {
        matches!(self.article, "a" | "an") && !self.words.contains(" of ")
    }

    /// Returns the plural, such as "frogs" or "electric guitars".
    pub fn plural(&self) -> String {
        let (before, last) = self.words.rsplit_once(' ').map_or(("", self.words.as_str()), |(b, l)| (b, l));
        let plural = plural(last);
        if before.is_empty() { plural } else { format!("{before} {plural}") }
    }
}

/// Returns the words of a text, each in the singular and in lower case, without "of".
pub fn bare_words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '’' | '-'))
        .filter(|w| !w.is_empty() && *w != "of")
        .map(singular)
        .collect()
}

/// Irregular plural endings and their singular.
const IRREGULAR: [(&str, &str); 10] = [
    ("mice", "mouse"),
    ("lice", "louse"),
    ("teeth", "tooth"),
    ("geese", "goose"),
    ("men", "man"),
    ("scarves", "scarf"),
    ("knives", "knife"),
    ("leaves", "leaf"),
    ("mangoes", "mango"),
    ("potatoes", "potato"),
];

/// Endings of words whose plural equals the singular.
const UNCHANGED: [&str; 9] = ["fish", "sheep", "deer", "doe", "bison", "shrimp", "caribou", "wrasse", "trout"];

/// Groups of last words that could describe each other's images: synonyms, a general term, or kinds that only an expert
/// distinguishes. Two words of a group are never options of one question, and no question with the answer no asks for
/// one where another is shown.
const ALIKE: &[&[&str]] = &[
    &["duck", "drake"],
    &["gander", "goose"],
    &["chicken", "hen", "rooster", "chick", "fowl", "turkey"],
    &["gull", "seagull"],
    &["rosella", "lorikeet"],
    &["peacock", "peahen"],
    &["rhea", "ostrich"],
    &["fish", "trout", "wrasse", "groper", "clownfish", "butterflyfish", "dolphinfish", "lionfish", "moon"],
    &["bee", "hornet", "fly", "hoverfly", "wing"],
    &["camel", "dromedary"],
    &["deer", "doe", "wapiti", "caribou", "blackbuck"],
    &["bull", "cow", "zebu", "yak", "bison", "gnu"],
    &["sheep", "lamb", "ram", "goat", "mountaingoat"],
    &["pig", "boar"],
    &["rabbit", "bunny"],
    &["mouse", "rat"],
    &["dog", "dingo", "fox"],
    &["orange", "mandarin", "lemon", "lime", "apricot", "peach"],
    &["hat", "fedora", "sombrero", "cap", "helmet"],
    &["gravestone", "headstone", "marker", "stone", "tombstone", "graveyard"],
    &["flower", "rose", "daffodil", "iris", "marigold", "gazania", "petunia", "lavender", "anemone"],
    &["tree", "birch", "oak", "palm", "wreath"],
    &["fort", "fortress", "castle", "ruin", "tower", "city", "gate"],
    &[
        "house",
        "home",
        "cottage",
        "inn",
        "tavern",
        "farm",
        "stable",
        "warehouse",
        "shop",
        "hall",
        "monastery",
        "hunter",
        "jailhouse",
        "university",
        "fishery",
    ],
    &["truck", "dumper", "car", "beetle", "engine"],
    &["locomotive", "caboose", "carriage", "train"],
];

/// Returns whether two last words are too similar to be told apart reliably; see [`ALIKE`].
pub fn are_alike(a: &str, b: &str) -> bool {
    a == b || ALIKE.iter().any(|group| group.contains(&a) && group.contains(&b))
}

/// Endings after which the plural is formed with "es".
const SIBILANTS: [&str; 5] = ["ss", "x", "z", "ch", "sh"];

fn singular(word: &str) -> String {
    let word = word.to_lowercase();
    if let Some((many, one)) = IRREGULAR.iter().find(|(many, _)| word.ends_with(many)) {
        return word.strip_suffix(many).map(|stem| format!("{stem}{one}")).unwrap_or_default();
    }
    if let Some(stem) = word.strip_suffix("ies").filter(|s| s.len() > 1) {
        return format!("{stem}y");
    }
    if let Some(stem) = word.strip_suffix("es").filter(|s| SIBILANTS.iter().any(|h| s.ends_with(h))) {
        return stem.to_string();
    }
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with(['s', 'u', 'i', '\'']) => stem.to_string(),
        _ => word,
    }
}

fn plural(word: &str) -> String {
    if UNCHANGED.iter().any(|u| word.ends_with(u)) {
        return word.to_string();
    }
    if let Some((many, one)) = IRREGULAR.iter().find(|(_, one)| word.ends_with(one)) {
        return word.strip_suffix(one).map(|stem| format!("{stem}{many}")).unwrap_or_default();
    }
    let vowel = |c: char| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u');
    match word.strip_suffix('y') {
        Some(stem) if !stem.ends_with(vowel) => format!("{stem}ies"),
        _ if SIBILANTS.iter().any(|h| word.ends_with(h)) => format!("{word}es"),
        _ => format!("{word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrase(caption: &str) -> Option<String> {
        ObjectName::of(caption).map(|n| n.phrase())
    }

    #[test]
    fn captions_give_their_names() {
        for (caption, name) in [
            ("A frog.", "a frog"),
            ("An hippopotamus.", "a hippopotamus"),
            ("A “Granny Smith” apple.", "a Granny Smith apple"),
            ("A ripe, red tomato!", "a red tomato"),
            ("A Seville orange, also called a bitter orange.", "a Seville orange"),
            ("A peacock (a male peafowl).", "a peacock"),
            ("A very small pumpkin.", "a pumpkin"),
            ("A knight’s helmet.", "a knight's helmet"),
            ("A spider playing computer games.", "a spider"),
            ("Some cherries.", "some cherries"),
            ("A pair of pliers.", "a pair of pliers"),
            ("A UK post box. Put your letter in here!", "a UK post box"),
        ] {
            assert_eq!(phrase(caption).as_deref(), Some(name), "{caption}");
        }
        for caption in [
            "Eat your broccoli!",
            "A hoverfly resembles a honeybee drone.",
            "“Toilets”.",
            "",
            "A.",
            "The red light means you must stop now.",
        ] {
            assert_eq!(phrase(caption), None, "{caption}");
        }
    }

    #[test]
    fn names_that_could_be_said_of_each_other_are_known() {
        assert!(are_alike("duck", "drake") && are_alike("inn", "tavern") && are_alike("owl", "owl"));
        assert!(!are_alike("duck", "owl"));
        assert_eq!(ObjectName::of("The Sun.").map(|n| n.is_there()), Some("Is the Sun in the picture?".into()));
        assert_eq!(
            ObjectName::of("Two flowers.").map(|n| n.is_there()),
            Some("Are there two flowers in the picture?".into())
        );
    }

    #[test]
    fn plurals_come_and_go() {
        for (one, many) in [
            ("frog", "frogs"),
            ("mouse", "mice"),
            ("fox", "foxes"),
            ("cherry", "cherries"),
            ("key", "keys"),
            ("fireman", "firemen"),
            ("ostrich", "ostriches"),
        ] {
            assert_eq!((plural(one).as_str(), singular(many).as_str()), (many, one));
        }
        assert_eq!(
            (plural("clownfish"), singular("glass"), singular("cactus")),
            ("clownfish".into(), "glass".into(), "cactus".into())
        );
        let cherries = ObjectName::of("A pair of cherries.").map(|n| (n.head(), n.is_countable()));
        assert_eq!(cherries, Some(("cherry".into(), false)));
        assert_eq!(bare_words("Tux the penguin in farm tractors!"), ["tux", "the", "penguin", "in", "farm", "tractor"]);
    }
}
