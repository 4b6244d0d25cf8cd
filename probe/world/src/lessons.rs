//! Exercises in single skills, for the language model's corpus: to find what belongs to a name, to compare numbers, to
//! find what lies beside what in a grid of cells, and to count.
//!
//! A description of a picture asks for several of them at once, and a small model that can do none of them learns none
//! from it: after 2.7 million tokens of questions about charts it answered with the values of the chart, but not with the
//! one of the label asked for.

use std::sync::LazyLock;

use burgess_base::stream::Stream;

use crate::corpus::Document;
use crate::dice;
use crate::facts::THINGS;
use crate::flat::Relation;
use crate::palette;
use crate::questions::Turn;
use crate::truth::CELLS;

/// Names that something can have: letters and things.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let letters = ('A'..='Z').map(|c| c.to_string());
    letters.clone().chain(letters).chain(THINGS.iter().map(|t| t.name.clone())).collect()
});

/// `n` different names.
fn names(s: &mut Stream, n: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    while out.len() < n {
        let name = dice::pick(s, &NAMES).clone();
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

fn turn(question: String, answer: &str) -> Turn {
    Turn { question, answer: answer.to_string() }
}

/// Names and what each is, then questions both ways; of numbers also which is larger, largest and smallest.
pub fn recall(s: &mut Stream) -> Document {
    let n = dice::within(s, 2, 5) as usize;
    let keys = names(s, n);
    let numbers = dice::chance(s, 60);
    let values: Vec<String> = if numbers {
        dice::sample(s, &(1..=9).collect::<Vec<u8>>(), n).iter().map(u8::to_string).collect()
    } else if dice::chance(s, 50) {
        palette::draw_different(s, n).into_iter().map(|c| palette::name(c).to_string()).collect()
    } else {
        loop {
            let values = names(s, n);
            if values.iter().all(|v| !keys.contains(v)) {
                break values;
            }
        }
    };
    let parts: Vec<String> = keys.iter().zip(&values).map(|(k, v)| format!("{k} is {v}")).collect();
    let mut turns = Vec::new();
    for _ in 0..dice::within(s, 5, 9) {
        let i = dice::below(s, n);
        turns.push(match dice::below(s, if numbers { 10 } else { 5 }) {
            0..=2 => turn(format!("What is {}?", keys[i]), &values[i]),
            3..=4 => turn(format!("Which is {}?", values[i]), &keys[i]),
            5..=6 => {
                let j = (i + 1 + dice::below(s, n - 1)) % n;
                let larger = if values[i] > values[j] { i } else { j };
                let farther = dice::chance(s, 50);
                let (word, answer) = if farther { ("larger", larger) } else { ("smaller", i + j - larger) };
                turn(format!("Which is {word}, {} or {}?", keys[i], keys[j]), &keys[answer])
            }
            k => {
                let by = |i: &usize| values[*i].clone();
                let best = if k == 7 { (0..n).min_by_key(by) } else { (0..n).max_by_key(by) };
                let word = if k == 7 { "smallest" } else { "largest" };
                turn(format!("Which is the {word}?"), &keys[best.unwrap_or(0)])
            }
        });
    }
    if let Some(first) = turns.first_mut() {
        first.question = format!("{}.\n{}", parts.join(", "), first.question);
    }
    Document::Chat(turns)
}

/// Names in cells, then questions about what lies next to what, what belongs to a name in the same cell, how many there
/// are of one, and whether one is there.
pub fn grid(s: &mut Stream) -> Document {
    let mut cells = vec![Vec::new(); CELLS * CELLS];
    let n = dice::within(s, 4, 9) as usize;
    let all = names(s, n + 1);
    let (absent, keys) = (all[n].clone(), &all[..n]);
    let mut places = dice::sample(s, &(0..CELLS * CELLS).collect::<Vec<_>>(), n + 5);
    let extra = places.split_off(n);
    let colours: Vec<&str> = keys.iter().map(|_| palette::name(palette::draw(s))).collect();
    let coloured = dice::chance(s, 60);
    for ((key, colour), &place) in keys.iter().zip(&colours).zip(&places) {
        cells[place].push(key.clone());
        if coloured {
            cells[place].push((*colour).to_string());
        }
    }
    // One of the names several times, to be counted; nothing is asked about where it lies.
    let copies = dice::below(s, extra.len() + 1);
    for &place in extra.iter().take(copies) {
        cells[place].push(keys[0].clone());
    }
    let mut turns = Vec::new();
    for attempt in 0.. {
        if turns.len() >= 6 || (attempt > 60 && !turns.is_empty()) {
            break;
        }
        let i = dice::below(s, n);
        let asked = match dice::below(s, 10) {
            0..=5 => {
                let relation = *dice::pick(s, &Relation::ALL);
                beside(&cells, places[i], relation)
                    .and_then(|found| places.iter().position(|&p| p == found))
                    .filter(|&found| i != 0 && found != 0)
                    .map(|found| turn(format!("What is {} {}?", relation.words(), keys[i]), &keys[found]))
            }
            6..=7 if coloured && i != 0 => Some(turn(format!("What color is {}?", keys[i]), colours[i])),
            8 => Some(turn(format!("How many {} are there?", keys[0]), &(copies + 1).to_string())),
            _ if dice::chance(s, 50) => Some(turn(format!("Is there {}?", keys[i]), "Yes")),
            _ => Some(turn(format!("Is there {absent}?"), "No")),
        };
        if let Some(asked) = asked
            && turns.iter().all(|t: &Turn| t.question != asked.question)
        {
            turns.push(asked);
        }
    }
    Document::Cells(cells, turns)
}

/// The nearest cell with something in it, in one direction along the row or the column.
fn beside(cells: &[Vec<String>], from: usize, relation: Relation) -> Option<usize> {
    let (row, column) = ((from / CELLS) as i32, (from % CELLS) as i32);
    // "What is left of X" lies to the left.
    let (down, right) = match relation {
        Relation::Left => (0, -1),
        Relation::Right => (0, 1),
        Relation::Above => (-1, 0),
        Relation::Below => (1, 0),
    };
    let inside = 0..CELLS as i32;
    (1..CELLS as i32)
        .map(|k| (row + k * down, column + k * right))
        .take_while(|(r, c)| inside.contains(r) && inside.contains(c))
        .map(|(r, c)| r as usize * CELLS + c as usize)
        .find(|&cell| !cells[cell].is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    #[test]
    fn what_is_recalled_was_told() {
        for i in 0..400 {
            let Document::Chat(turns) = recall(&mut stream("recall", i)) else { panic!("a conversation") };
            let (told, _) = turns[0].question.split_once(".\n").unwrap_or_default();
            assert!(turns.len() >= 5 && told.contains(" is "), "{turns:?}");
            assert!(turns.iter().all(|t| told.split([' ', ',']).any(|w| w == t.answer)), "{turns:?}");
        }
    }

    #[test]
    fn what_lies_beside_lies_there() {
        let mut cells = vec![Vec::new(); CELLS * CELLS];
        for (place, word) in [(0, "a"), (3, "b"), (18, "c")] {
            cells[place] = vec![word.to_string()];
        }
        assert_eq!(beside(&cells, 0, Relation::Right), Some(3));
        assert_eq!(beside(&cells, 3, Relation::Left), Some(0));
        assert_eq!(beside(&cells, 0, Relation::Below), Some(18));
        assert_eq!(beside(&cells, 18, Relation::Above), Some(0));
        assert_eq!(beside(&cells, 18, Relation::Right), None);
        for i in 0..300 {
            let Document::Cells(cells, turns) = grid(&mut stream("grid", i)) else { panic!("cells") };
            assert!(cells.len() == CELLS * CELLS && !turns.is_empty());
            let count = turns.iter().find(|t| t.question.starts_with("How many"));
            if let Some((name, t)) = count.and_then(|t| Some((t.question.split(' ').nth(2)?, t))) {
                let n = cells.iter().filter(|c| c.first().is_some_and(|w| w == name)).count();
                assert_eq!(t.answer, n.to_string());
            }
        }
    }
}
