//! Exercises for single skills, in the corpus of the language model: looking up the value of a name, comparing numbers,
//! finding neighbours in a grid of cells, counting, following arrows, and looking up rows and columns.
//!
//! A description of an image needs several of these skills at once, and a small model that has none of them learns none
//! from it: after 2.7 million tokens of questions about charts, a model answered with a value of the chart, but not
//! with the value of the label that was asked for.

use std::sync::LazyLock;

use burgess_base::stream::Stream;

use crate::diagram::{DiagramLayout, DiagramScene};
use crate::dice;
use crate::document::Document;
use crate::facts::THINGS;
use crate::flat::Relation;
use crate::grid::{CELLS, cell_at};
use crate::palette;
use crate::questions::{QaPair, Question};

/// The names in exercises: letters and things.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let letters = ('A'..='Z').map(|c| c.to_string());
    letters.clone().chain(letters).chain(THINGS.iter().map(|t| t.name.clone())).collect()
});

/// Draws `n` different names.
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

fn turn(question: String, answer: &str) -> QaPair {
    QaPair { question, answer: answer.to_string() }
}

/// Turns a question into a multiple choice with the answer and up to three others of `all`, answered by letter or by
/// text.
fn choice(asked: QaPair, all: &[String], s: &mut Stream) -> QaPair {
    let others: Vec<String> = all.iter().filter(|o| **o != asked.answer).cloned().collect();
    let wrong = dice::sample(s, &others, 3);
    if wrong.is_empty() {
        return asked;
    }
    let lettered = dice::chance(s, 50);
    let question = Question::choice("lesson", asked.question, asked.answer, wrong, dice::below(s, 12));
    let question = if lettered { question } else { question.named() };
    question.turn(dice::chance(s, 30))
}

/// Draws a list of names and their values, with questions in both directions; for numbers also comparisons.
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
    for _ in 0..dice::within(s, 7, 12) {
        let i = dice::below(s, n);
        let options = dice::chance(s, 60);
        turns.push(match dice::below(s, if numbers { 10 } else { 5 }) {
            0..=2 if options => choice(turn(format!("What is {}?", keys[i]), &values[i]), &values, s),
            3..=4 if options => choice(turn(format!("Which is {}?", values[i]), &keys[i]), &keys, s),
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

/// Draws names in cells, with questions about neighbours, colours, counts and presence.
pub fn grid(s: &mut Stream) -> Document {
    let mut cells = vec![Vec::new(); CELLS * CELLS];
    let n = dice::within(s, 3, 7) as usize;
    let all = names(s, n + 1);
    let (absent, keys) = (all[n].clone(), &all[..n]);
    let mut places = dice::sample(s, &(0..CELLS * CELLS).collect::<Vec<_>>(), n + 3);
    let extra = places.split_off(n);
    let colours: Vec<&str> = keys.iter().map(|_| palette::name(palette::draw(s))).collect();
    let coloured = dice::chance(s, 60);
    for ((key, colour), &place) in keys.iter().zip(&colours).zip(&places) {
        cells[place].push(key.clone());
        if coloured {
            cells[place].push((*colour).to_string());
        }
    }
    // The first name may occur several times, to be counted; its position is never asked for.
    let copies = dice::below(s, extra.len() + 1);
    for &place in extra.iter().take(copies) {
        cells[place].push(keys[0].clone());
    }
    if dice::chance(s, 50) {
        spread(&mut cells, s);
    }
    let mut turns = Vec::new();
    for attempt in 0.. {
        if turns.len() >= 9 || (attempt > 60 && !turns.is_empty()) {
            break;
        }
        let i = dice::below(s, n);
        let asked = match dice::below(s, 12) {
            0..=3 => {
                let relation = *dice::pick(s, &Relation::ALL);
                beside(&cells, places[i], relation)
                    .and_then(|found| places.iter().position(|&p| p == found))
                    .filter(|&found| i != 0 && found != 0)
                    .map(|found| turn(format!("What is {} {}?", relation.words(), keys[i]), &keys[found]))
                    .map(|asked| if dice::chance(s, 50) { choice(asked, keys, s) } else { asked })
            }
            4 | 5 | 10 => {
                let j = (i + 1 + dice::below(s, n - 1)) % n;
                lies(places[i], places[j]).filter(|_| i != 0 && j != 0).map(|relation| {
                    let text = match dice::chance(s, 50) {
                        true => format!("Where is the {} relative to the {}?", keys[i], keys[j]),
                        false => format!("Where is {} relative to {}?", keys[i], keys[j]),
                    };
                    if dice::chance(s, 40) {
                        return turn(text, relation.word());
                    }
                    let all = [relation, relation.opposite()].map(|r| r.word().to_string());
                    choice(turn(text, relation.word()), &all, s)
                })
            }
            6..=7 if coloured && i != 0 => Some(turn(format!("What color is {}?", keys[i]), colours[i])),
            8 | 11 => {
                let asked = turn(how_many(&keys[0]), &(copies + 1).to_string());
                let all: Vec<String> = (1..=4).map(|n| n.to_string()).collect();
                Some(if dice::chance(s, 40) { choice(asked, &all, s) } else { asked })
            }
            _ if dice::chance(s, 50) => Some(turn(format!("Is there {}?", keys[i]), "Yes")),
            _ => Some(turn(format!("Is there {absent}?"), "No")),
        };
        if let Some(asked) = asked
            && turns.iter().all(|t: &QaPair| t.question != asked.question)
        {
            turns.push(asked);
        }
    }
    Document::Cells(cells, turns)
}

/// Draws names in cells, with many short questions about positions and counts: rows, columns, relations and numbers.
/// Comparing two positions takes two steps, finding both and comparing them; the questions about rows and columns teach
/// the first step.
pub fn places(s: &mut Stream) -> Document {
    let mut cells = vec![Vec::new(); CELLS * CELLS];
    let n = dice::within(s, 3, 5) as usize;
    let keys = names(s, n);
    let mut free = dice::sample(s, &(0..CELLS * CELLS).collect::<Vec<_>>(), CELLS * CELLS);
    let (coloured, marked) = (dice::chance(s, 60), dice::chance(s, 70));
    // The first two or three names occur in one cell each, the others in up to four.
    let alone = dice::within(s, 2, 3) as usize;
    let mut at = Vec::new();
    for (k, key) in keys.iter().enumerate() {
        let copies = if k < alone { 1 } else { dice::within(s, 1, 4) as usize };
        let own = free.split_off(free.len() - copies);
        for &cell in &own {
            cells[cell].push(key.clone());
            if coloured {
                cells[cell].push(palette::name(palette::draw(s)).to_string());
            }
            if marked {
                cells[cell].push("center".to_string());
            }
        }
        at.push(own);
    }
    let numbers: Vec<String> = (1..=CELLS).map(|n| n.to_string()).collect();
    let turns = different(s, 12, 60, |s| {
        let (i, j) = (dice::below(s, alone), dice::below(s, alone));
        let (key, cell) = (&keys[i], at[i][0]);
        match dice::below(s, 10) {
            0 => Some(turn(format!("In which row is the {key}?"), &numbers[cell / CELLS])),
            1 => Some(turn(format!("In which column is the {key}?"), &numbers[cell % CELLS])),
            2..=3 => lies(cell, at[j][0]).map(|relation| {
                let asked = turn(format!("Where is the {key} relative to the {}?", keys[j]), relation.word());
                let all = [relation, relation.opposite()].map(|r| r.word().to_string());
                if dice::chance(s, 50) { choice(asked, &all, s) } else { asked }
            }),
            4..=5 => lies(cell, at[j][0]).map(|relation| {
                let so = dice::chance(s, 50);
                let claimed = if so { relation } else { relation.opposite() };
                yes_no(format!("Is the {key} {} the {}?", claimed.words(), keys[j]), so, s)
            }),
            6..=7 => {
                let k = dice::below(s, n);
                let asked = turn(how_many(&keys[k]), &numbers[at[k].len() - 1]);
                Some(if dice::chance(s, 50) { choice(asked, &numbers, s) } else { asked })
            }
            _ => {
                let k = dice::below(s, n);
                let (count, so) = (at[k].len(), dice::chance(s, 50));
                let claimed = if so { count } else { 1 + (count + dice::below(s, CELLS - 1)) % CELLS };
                Some(yes_no(are_there(claimed, &keys[k]), so, s))
            }
        }
    });
    Document::Cells(cells, turns)
}

/// Draws a chain of names with arrows around a corner, as in diagrams, with questions about predecessors and
/// successors, open and with options.
pub fn chain(s: &mut Stream) -> Document {
    let layout = DiagramLayout::chain(s);
    let diagram = DiagramScene::of(s, layout);
    let mut cells = vec![Vec::new(); CELLS * CELLS];
    // The name "arrow" could be confused with the arrows.
    let keys = loop {
        let keys = names(s, diagram.things.len());
        if keys.iter().all(|k| k != "arrow") {
            break keys;
        }
    };
    let coloured = dice::chance(s, 70);
    for (i, key) in keys.iter().enumerate() {
        let (x, y, _) = diagram.spot(i);
        let cell = &mut cells[cell_at(x, y)];
        if coloured {
            cell.push(palette::name(palette::draw(s)).to_string());
        }
        cell.push(key.clone());
        if coloured {
            cell.push("center".to_string());
        }
    }
    for (x, y, points) in diagram.arrows() {
        cells[cell_at(x, y)].extend(["arrow".to_string(), points.to_string()]);
    }
    let turns = different(s, 8, 60, |s| {
        let i = dice::below(s, keys.len());
        let (word, to) = if dice::chance(s, 50) { ("after", diagram.next(i)) } else { ("before", diagram.before(i)) };
        let others: Vec<String> = keys.iter().filter(|k| **k != keys[i]).cloned().collect();
        Some(match (to, dice::below(s, 10)) {
            (Some(to), 0..=2) => turn(format!("What comes {word} the {}?", keys[i]), &keys[to]),
            (Some(to), 3..=7) => choice(turn(format!("What comes {word} the {}?", keys[i]), &keys[to]), &others, s),
            (None, 0..=4) => turn(format!("What comes {word} the {}?", keys[i]), "nothing"),
            (_, 8) => {
                let first = (0..keys.len()).find(|&k| diagram.before(k).is_none()).unwrap_or(0);
                turn("What comes first?".to_string(), &keys[first])
            }
            (_, 9) => {
                let last = (0..keys.len()).find(|&k| diagram.next(k).is_none()).unwrap_or(0);
                turn("What comes last?".to_string(), &keys[last])
            }
            _ => return None,
        })
    });
    Document::Cells(cells, turns)
}

/// Draws a small table of digits with letters as headers, with questions about rows, columns and cells.
pub fn table(s: &mut Stream) -> Document {
    let (rows, columns) = (dice::within(s, 2, 3) as usize, dice::within(s, 2, 3) as usize);
    let (top, left) = (dice::below(s, CELLS - rows), dice::below(s, CELLS - columns));
    let heads = dice::sample(s, &('E'..='Z').map(|c| c.to_string()).collect::<Vec<_>>(), rows + columns);
    let (down, across) = heads.split_at(rows);
    let mut cells = vec![Vec::new(); CELLS * CELLS];
    for (c, head) in across.iter().enumerate() {
        cells[top * CELLS + left + c + 1].push(head.clone());
    }
    let mut values = vec![vec![String::new(); columns]; rows];
    for (r, head) in down.iter().enumerate() {
        cells[(top + r + 1) * CELLS + left].push(head.clone());
        for (c, value) in values[r].iter_mut().enumerate() {
            *value = dice::within(s, 1, 9).to_string();
            cells[(top + r + 1) * CELLS + left + c + 1].push(value.clone());
        }
    }
    let turns = different(s, 9, 40, |s| {
        let (r, c) = (dice::below(s, rows), dice::below(s, columns));
        let (row, column) = (&down[r], &across[c]);
        Some(match dice::below(s, 10) {
            0 => turn(format!("In which row is {row}?"), &(top + r + 2).to_string()),
            1 => turn(format!("In which column is {column}?"), &(left + c + 2).to_string()),
            2 => turn(format!("What is in row {row}?"), &values[r].join(" ")),
            3 => {
                let all: Vec<&str> = values.iter().map(|row| row[c].as_str()).collect();
                turn(format!("What is in column {column}?"), &all.join(" "))
            }
            _ => turn(format!("What is in row {row} and column {column}?"), &values[r][c]),
        })
    });
    Document::Cells(cells, turns)
}

/// Collects up to `most` different questions from at most `attempts` calls of `ask`.
fn different(
    s: &mut Stream,
    most: usize,
    attempts: usize,
    mut ask: impl FnMut(&mut Stream) -> Option<QaPair>,
) -> Vec<QaPair> {
    let mut turns: Vec<QaPair> = Vec::new();
    for _ in 0..attempts {
        if turns.len() >= most {
            break;
        }
        if let Some(asked) = ask(s)
            && turns.iter().all(|t| t.question != asked.question)
        {
            turns.push(asked);
        }
    }
    turns
}

/// Creates a yes/no question; half of them end with the line that says how to answer.
fn yes_no(text: String, so: bool, s: &mut Stream) -> QaPair {
    Question::yes_no("lesson", text, so).turn(dice::chance(s, 50))
}

/// Returns the question whether there are `n` of a name; for a countable thing in the wording of questions about
/// images.
fn are_there(n: usize, name: &str) -> String {
    match plural(name) {
        Some(things) => format!("Are there {n} {things} in the picture?"),
        None => format!("Are there {n} {name}?"),
    }
}

/// Returns the question how many there are of a name; for a countable thing in the wording of questions about images.
fn how_many(name: &str) -> String {
    match plural(name) {
        Some(things) => format!("How many {things} are in the picture?"),
        None => format!("How many {name} are there?"),
    }
}

/// Returns the plural of a name, if it is that of a countable thing.
fn plural(name: &str) -> Option<String> {
    THINGS.iter().find(|t| t.name == name && t.countable).map(|t| t.plural())
}

/// Adds "center" to every cell with words, and copies the words of some cells without it into an empty neighbour.
/// Things in images cover several cells too, so that the model learns to count centres.
fn spread(cells: &mut [Vec<String>], s: &mut Stream) {
    let full: Vec<usize> = (0..cells.len()).filter(|&c| !cells[c].is_empty()).collect();
    for &cell in &full {
        let words = cells[cell].clone();
        cells[cell].push("center".to_string());
        let (row, column) = ((cell / CELLS) as i32, (cell % CELLS) as i32);
        let (down, right) = *dice::pick(s, &[(0, 1), (0, -1), (1, 0), (-1, 0)]);
        let inside = |v: i32| (0..CELLS as i32).contains(&v).then_some(v as usize);
        if let (Some(row), Some(column)) = (inside(row + down), inside(column + right))
            && dice::chance(s, 40)
            && let Some(beside) = cells.get_mut(row * CELLS + column).filter(|c| c.is_empty())
        {
            *beside = words;
        }
    }
}

/// Returns the relation of one cell to another if it is clear: at least one column or row apart, and twice as far as
/// along the other axis.
fn lies(a: usize, b: usize) -> Option<Relation> {
    let (dx, dy) = ((a % CELLS) as i32 - (b % CELLS) as i32, (a / CELLS) as i32 - (b / CELLS) as i32);
    if dx.abs() >= (2 * dy.abs()).max(1) {
        Some(if dx < 0 { Relation::Left } else { Relation::Right })
    } else if dy.abs() >= (2 * dx.abs()).max(1) {
        Some(if dy < 0 { Relation::Above } else { Relation::Below })
    } else {
        None
    }
}

/// Returns the nearest cell with words from a cell, in one direction along its row or column.
fn beside(cells: &[Vec<String>], from: usize, relation: Relation) -> Option<usize> {
    let (row, column) = ((from / CELLS) as i32, (from % CELLS) as i32);
    // The answer to "What is left of X?" lies to the left of X.
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
    fn answers_of_recall_occur_in_the_statement() {
        for i in 0..400 {
            let Document::Chat(turns) = recall(&mut stream("recall", i)) else { panic!("a conversation") };
            let (told, _) = turns[0].question.split_once(".\n").unwrap_or_default();
            assert!(turns.len() >= 5 && told.contains(" is "), "{turns:?}");
            let lettered = |t: &QaPair| t.question.contains("\nA. ");
            assert!(turns.iter().all(|t| lettered(t) || told.split([' ', ',']).any(|w| w == t.answer)), "{turns:?}");
        }
    }

    #[test]
    fn answers_about_rows_and_columns_match_the_cells() {
        for i in 0..300 {
            let Document::Cells(cells, turns) = places(&mut stream("places", i)) else { panic!("cells") };
            assert!(cells.len() == CELLS * CELLS && turns.len() >= 4, "{turns:?}");
            for t in turns.iter().filter(|t| t.question.starts_with("In which")) {
                let name = t.question.trim_end_matches('?').rsplit(' ').next().unwrap_or_default();
                let cell = cells.iter().position(|c| c.first().is_some_and(|w| w == name)).unwrap_or(99);
                let expected = if t.question.contains("which row") { cell / CELLS } else { cell % CELLS } + 1;
                assert_eq!(t.answer, expected.to_string(), "{cells:?} {t:?}");
            }
        }
    }

    #[test]
    fn answers_about_before_and_after_agree() {
        for i in 0..300 {
            let Document::Cells(cells, turns) = chain(&mut stream("chain", i)) else { panic!("cells") };
            assert_eq!(cells.iter().filter(|c| c.iter().any(|w| w == "arrow")).count(), 2, "{cells:?}");
            assert!(turns.len() >= 4, "{turns:?}");
            let open = |word: &str| -> Vec<(String, String)> {
                let start = format!("What comes {word} the ");
                let asked = |t: &QaPair| {
                    Some((t.question.strip_prefix(&start)?.strip_suffix('?')?.to_string(), t.answer.clone()))
                };
                turns.iter().filter_map(asked).filter(|(_, answer)| answer != "nothing").collect()
            };
            let before = open("before");
            for (name, next) in open("after") {
                assert!(before.iter().all(|(n, b)| (*n == next) == (*b == name)), "{turns:?}");
            }
        }
    }

    #[test]
    fn answers_about_tables_match_the_cells() {
        for i in 0..300 {
            let Document::Cells(cells, turns) = table(&mut stream("table", i)) else { panic!("cells") };
            assert!(turns.len() >= 5, "{turns:?}");
            let at = |name: &str| cells.iter().position(|c| c.first().is_some_and(|w| w == name)).unwrap_or(99);
            for t in turns.iter().filter(|t| t.question.contains("and column")) {
                let names: Vec<&str> = t.question.trim_end_matches('?').split(' ').collect();
                let cell = at(names[4]) / CELLS * CELLS + at(names[7]) % CELLS;
                assert_eq!(cells[cell].join(" "), t.answer, "{cells:?} {t:?}");
            }
        }
    }

    #[test]
    fn neighbours_and_counts_match_the_cells() {
        let mut cells = vec![Vec::new(); CELLS * CELLS];
        for (place, word) in [(0, "a"), (3, "b"), (8, "c")] {
            cells[place] = vec![word.to_string()];
        }
        assert_eq!(beside(&cells, 0, Relation::Right), Some(3));
        assert_eq!(beside(&cells, 3, Relation::Left), Some(0));
        assert_eq!(beside(&cells, 0, Relation::Below), Some(8));
        assert_eq!(beside(&cells, 8, Relation::Above), Some(0));
        assert_eq!(beside(&cells, 8, Relation::Right), None);
        assert_eq!((lies(0, 3), lies(8, 0)), (Some(Relation::Left), Some(Relation::Below)));
        assert_eq!((lies(5, 5), lies(0, 5)), (None, None));
        for i in 0..300 {
            let Document::Cells(cells, turns) = grid(&mut stream("grid", i)) else { panic!("cells") };
            assert!(cells.len() == CELLS * CELLS && !turns.is_empty());
            let count = turns.iter().find(|t| t.question.starts_with("How many"));
            if let Some((name, t)) = count.and_then(|t| Some((t.question.split(' ').nth(2)?, t))) {
                let name = THINGS.iter().find(|t| t.plural() == name).map_or(name, |t| t.name.as_str());
                let marked = cells.iter().any(|c| c.iter().any(|w| w == "center"));
                let counts = |c: &&Vec<String>| {
                    c.first().is_some_and(|w| w == name) && (!marked || c.iter().any(|w| w == "center"))
                };
                let n = cells.iter().filter(counts).count();
                assert!(t.question.contains("\nA. ") || t.answer == n.to_string());
            }
        }
    }
}
