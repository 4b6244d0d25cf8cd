//! Plurals of class names.

/// Irregular plurals by their singular.
const IRREGULAR: [(&str, &str); 21] = [
    ("person", "people"),
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("mouse", "mice"),
    ("goose", "geese"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("sheep", "sheep"),
    ("fish", "fish"),
    ("deer", "deer"),
    ("aircraft", "aircraft"),
    ("skis", "skis"),
    ("scissors", "pairs of scissors"),
    ("knife", "knives"),
    ("leaf", "leaves"),
    ("shelf", "shelves"),
    ("bookshelf", "bookshelves"),
    ("loaf", "loaves"),
    ("potato", "potatoes"),
    ("tomato", "tomatoes"),
];

/// Returns the plural of a class name: of its last word, or of the word before "of" ("bag of chips").
pub fn plural(class: &str) -> String {
    if let Some((head, rest)) = class.split_once(" of ") {
        return format!("{} of {rest}", plural(head));
    }
    let (before, word) = class.rsplit_once(' ').map_or(("", class), |(b, w)| (b, w));
    let many = match IRREGULAR.iter().find(|(one, _)| *one == word) {
        Some((_, many)) => (*many).to_string(),
        None => regular(word),
    };
    if before.is_empty() { many } else { format!("{before} {many}") }
}

fn regular(word: &str) -> String {
    let mut back = word.chars().rev();
    let (last, before) = (back.next().unwrap_or_default(), back.next().unwrap_or_default());
    let vowel = |c: char| "aeiou".contains(c);
    if word.ends_with("man") && word.len() > 3 {
        return format!("{}men", word.strip_suffix("man").unwrap_or(word));
    }
    match last {
        'y' if !vowel(before) => format!("{}ies", word.strip_suffix('y').unwrap_or(word)),
        // "glasses" and "stairs" are plurals already; "bus", "glass" and "couch" are not.
        's' if before == 's' || before == 'u' => format!("{word}es"),
        's' => word.to_string(),
        'x' | 'z' => format!("{word}es"),
        'h' if before == 's' || before == 'c' => format!("{word}es"),
        _ => format!("{word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::plural;

    #[test]
    fn classes_have_plurals() {
        for (one, many) in [
            ("chair", "chairs"),
            ("bus", "buses"),
            ("wine glass", "wine glasses"),
            ("bench", "benches"),
            ("teddy bear", "teddy bears"),
            ("fire hydrant", "fire hydrants"),
            ("person", "people"),
            ("knife", "knives"),
            ("box", "boxes"),
            ("berry", "berries"),
            ("toy", "toys"),
            ("computer mouse", "computer mice"),
            ("stairs", "stairs"),
            ("bag of chips", "bags of chips"),
            ("fireman", "firemen"),
        ] {
            assert_eq!(plural(one), many);
        }
    }
}
