//! An independent answerer for tests: parses the English of a question and looks the answer up in the ground truth,
//! without using the code that made the question.

use super::{AnswerForm, Question};
use crate::diagram::{DiagramLayout, DiagramScene};
use crate::facts::{THINGS, Thing};
use crate::flat::{FlatItem, FlatScene};
use crate::palette;
use crate::scene::{Content, Scene};
use crate::solids::{Solid, SolidScene};

type Check = Result<(), String>;

/// Checks that the answer of `q` is right for `scene`, and the only right one among the options.
pub fn check(scene: &Scene, q: &Question) -> Check {
    let wrong = |why: &str| Err(format!("{why}: {q:?}"));
    let answer = match q.form {
        AnswerForm::YesNo => match q.answer.as_str() {
            "Yes" | "No" => q.answer.clone(),
            _ => return wrong("neither yes nor no"),
        },
        AnswerForm::Short => q.answer.clone(),
        AnswerForm::Choice | AnswerForm::Named => {
            let mut sorted = q.options.clone();
            sorted.sort();
            sorted.dedup();
            if sorted.len() != q.options.len() || !(2..=4).contains(&q.options.len()) {
                return wrong("options");
            }
            let at = "ABCD".find(&q.answer).unwrap_or(9);
            q.options.get(at).cloned().ok_or_else(|| format!("no such letter: {q:?}"))?
        }
        AnswerForm::Pair => match (q.answer.as_str(), q.options.as_slice()) {
            ("(a)", [a, b]) if a != b => a.clone(),
            ("(b)", [a, b]) if a != b => b.clone(),
            _ => return wrong("not a pair"),
        },
    };
    let truth = read(&scene.content, &q.text, q.subtask).ok_or_else(|| format!("not understood: {q:?}"))?;
    if truth != answer {
        return Err(format!("the truth is {truth:?}: {q:?} in {scene:?}"));
    }
    Ok(())
}

fn read(content: &Content, text: &str, subtask: &str) -> Option<String> {
    let words: Vec<&str> = text.trim_end_matches('?').split(' ').collect();
    let yes = |b: bool| Some(if b { "Yes" } else { "No" }.to_string());
    if let ["Is", "this", "a", kind @ ..] = words.as_slice() {
        let kind = kind.join(" ");
        return yes(match content {
            Content::Chart(c) => kind == c.kind.name(),
            Content::Table(_) => kind == "table",
            Content::Diagram(_) => kind == "diagram",
            _ => return None,
        });
    }
    match content {
        Content::Flat(f) => flat(f, &words, subtask),
        Content::Solids(c) => solids(c, &words),
        Content::Writing(w) => match words.as_slice() {
            ["Is", "the", _, word, "in", "the", "picture"] => yes(w.lines.iter().any(|l| l.text == *word)),
            ["What", what, "is", ..] => {
                let mut fit = w.lines.iter().filter(|l| l.text.parse::<u32>().is_ok() == (*what == "number"));
                let one = fit.next()?;
                fit.next().is_none().then(|| one.text.clone())
            }
            ["What", "does", "the", "top", ..] => w.lines.iter().min_by_key(|l| l.base).map(|l| l.text.clone()),
            ["What", "does", "the", "bottom", ..] => w.lines.iter().max_by_key(|l| l.base).map(|l| l.text.clone()),
            _ => None,
        },
        Content::Table(t) => match words.as_slice() {
            ["What", "is", "in", "row", row, "and", "column", column] => {
                let r = t.rows.iter().position(|x| x == row)?;
                let c = t.columns.iter().position(|x| x == column)?;
                Some(t.cells[r][c].to_string())
            }
            _ => None,
        },
        Content::Chart(c) => {
            let value = |label: &str| c.labels.iter().position(|l| l == label).map(|i| i32::from(c.values[i]));
            let extreme = |best: u8| c.values.iter().position(|v| *v == best).map(|i| c.labels[i].clone());
            match words.as_slice() {
                ["What", "is", "the", "value", "of", label] => value(label).map(|v| v.to_string()),
                ["Which", _, "is", "the", "largest"] => extreme(*c.values.iter().max()?),
                ["Which", _, "is", "the", "smallest"] => extreme(*c.values.iter().min()?),
                ["Which", _, "has", "the", "value", v] => extreme(v.parse().ok()?),
                ["What", "color", "is", label] => {
                    c.labels.iter().position(|l| l == label).map(|i| palette::name(c.colours[i]).to_string())
                }
                _ => None,
            }
        }
        Content::Diagram(d) => diagram(d, &words),
    }
}

fn named(name: &str) -> Option<&'static Thing> {
    THINGS.iter().find(|t| t.name == name)
}

fn flat(f: &FlatScene, words: &[&str], subtask: &str) -> Option<String> {
    let yes = |b: bool| Some(if b { "Yes" } else { "No" }.to_string());
    let all = |name: &str| f.items.iter().filter(|i| i.what().name == name).collect::<Vec<&FlatItem>>();
    let only = |name: &str| match all(name).as_slice() {
        [one] => Some((*one).clone()),
        _ => None,
    };
    let side = |a: &FlatItem, b: &FlatItem| {
        let (dx, dy) = (i32::from(a.x) - i32::from(b.x), i32::from(a.y) - i32::from(b.y));
        if dx.abs() > dy.abs() {
            if dx < 0 { "left" } else { "right" }
        } else if dy < 0 {
            "above"
        } else {
            "below"
        }
    };
    match words {
        ["Is", "there", middle @ .., "in", "the", "picture"] => yes(!all(middle.last()?).is_empty()),
        ["Are", "there", n, plural, "in", "the", "picture"] => {
            let n: usize = n.parse().ok()?;
            yes(f.items.iter().filter(|i| i.what().plural() == *plural).count() == n)
        }
        ["How", "many", plural, "are", ..] => {
            Some(f.items.iter().filter(|i| i.what().plural() == *plural).count().to_string())
        }
        ["Is" | "Are", "the", a, relation @ ("left" | "right" | "above" | "below"), .., "the", b] => {
            yes(side(&only(a)?, &only(b)?) == *relation)
        }
        ["Is" | "Are", "the", name, colour] => yes(palette::name(only(name)?.colour) == *colour),
        ["What", "is", "this"] => (f.items.len() == 1).then(|| f.items[0].what().name.clone()),
        ["What", "color", "is" | "are", "the", name] => Some(palette::name(only(name)?.colour).to_string()),
        ["What", "is", "the", colour, "thing"] => {
            let fit: Vec<&FlatItem> = f.items.iter().filter(|i| palette::name(i.colour) == *colour).collect();
            (fit.len() == 1).then(|| fit[0].what().name.clone())
        }
        ["What", "is", relation, .., "the", name] => {
            let r = only(name)?;
            let fit: Vec<&FlatItem> =
                f.items.iter().filter(|i| i.what().name != *name && side(i, &r) == *relation).collect();
            (fit.len() == 1).then(|| fit[0].what().name.clone())
        }
        ["Where", "is" | "are", "the", a, "relative", "to", "the", b]
        | ["Where", "is" | "are", "the", a, "seen", "from", "the", b] => Some(side(&only(a)?, &only(b)?).to_string()),
        ["Which", "way", "does", "the", name, "look"] => {
            let item = only(name)?;
            let at_left = matches!(item.what().faces?.name(), "left") != item.mirrored;
            Some(if at_left { "left" } else { "right" }.to_string())
        }
        ["Where", "does", "the", "arrow", "point"] => {
            // The tip of the unrotated arrow is above its middle.
            let (sin, cos) = f32::from(only("arrow")?.turn).to_radians().sin_cos();
            let (x, y) = (sin, -cos);
            Some(
                if x.abs() > y.abs() {
                    if x > 0.0 { "right" } else { "left" }
                } else if y > 0.0 {
                    "down"
                } else {
                    "up"
                }
                .to_string(),
            )
        }
        ["Which", "way", "up", ..] => {
            let cos = f32::from(f.items.first()?.turn).to_radians().cos();
            Some(if cos > 0.0 { "upright" } else { "upside down" }.to_string())
        }
        ["What", "pattern", "has", "the", name] => Some(only(name)?.texture.name().to_string()),
        _ => {
            // A question about a fact: "it" must refer to exactly one pictogram.
            let mut pictograms = f.items.iter().filter(|i| i.what().kind != "shape");
            let it = pictograms.next()?;
            if pictograms.next().is_some() {
                return None;
            }
            let thing = named(&it.what().name)?;
            if subtask == "kind" { Some(thing.kind.clone()) } else { thing.facts.get(subtask).cloned() }
        }
    }
}

fn solids(c: &SolidScene, words: &[&str]) -> Option<String> {
    let yes = |b: bool| Some(if b { "Yes" } else { "No" }.to_string());
    let find = |colour: &str, form: &str| {
        c.solids.iter().filter(|x| palette::name(x.colour) == colour && x.form.name() == form).collect::<Vec<&Solid>>()
    };
    match words {
        ["Is", "there", _, colour, form, "in", ..] => yes(!find(colour, form).is_empty()),
        ["Is", "the", form, colour] => {
            yes(c.solids.iter().any(|x| x.form.name() == *form && palette::name(x.colour) == *colour))
        }
        ["What", "color", "is", "the", form] => {
            let fit: Vec<&Solid> = c.solids.iter().filter(|x| x.form.name() == *form).collect();
            (fit.len() == 1).then(|| palette::name(fit[0].colour).to_string())
        }
        ["What", "is", "the", colour, "thing"] => {
            let fit: Vec<&Solid> = c.solids.iter().filter(|x| palette::name(x.colour) == *colour).collect();
            (fit.len() == 1).then(|| fit[0].form.name().to_string())
        }
        _ => None,
    }
}

/// Returns the option that is clearly closer to the camera or to a third solid, from the coordinates; `None` without a
/// clear margin.
pub fn closer(c: &SolidScene, text: &str, options: &[String]) -> Option<String> {
    let find =
        |phrase: &str| c.solids.iter().find(|x| format!("{} {}", palette::name(x.colour), x.form.name()) == phrase);
    let place = |x: &Solid| (f64::from(x.x), f64::from(x.rise), f64::from(x.z));
    let target = text.strip_prefix("Which is closer to the ")?.strip_suffix('?')?;
    let from = if target == "camera" { (0.0, f64::from(c.height), 0.0) } else { place(find(target)?) };
    let far = |phrase: &String| {
        find(phrase).map(|x| {
            ((place(x).0 - from.0).powi(2) + (place(x).1 - from.1).powi(2) + (place(x).2 - from.2).powi(2)).sqrt()
        })
    };
    let [a, b] = options else { return None };
    let (da, db) = (far(a)?, far(b)?);
    (da.max(db) / da.min(db) > 1.19).then(|| if da < db { a.clone() } else { b.clone() })
}

fn diagram(d: &DiagramScene, words: &[&str]) -> Option<String> {
    let name = |i: usize| THINGS[d.things[i] as usize].name.clone();
    let at = |n: &str| (0..d.things.len()).find(|&i| name(i) == n);
    // The arrows, as pairs of indices.
    let n = d.things.len();
    let arrows: Vec<(usize, usize)> = match d.layout {
        DiagramLayout::Labelled => Vec::new(),
        DiagramLayout::Chain { reversed, .. } => {
            (1..n).map(|i| if reversed { (i, i - 1) } else { (i - 1, i) }).collect()
        }
    };
    match words {
        ["Which", "letter", "is", "at", "the", thing] => d.letters.get(at(thing)?).map(char::to_string),
        ["What", "is", "at", "the", "letter", letter] => {
            d.letters.iter().position(|l| l.to_string() == *letter).map(name)
        }
        ["What", "comes", "after", "the", thing] => {
            arrows.iter().find(|(a, _)| Some(*a) == at(thing)).map(|(_, b)| name(*b))
        }
        ["What", "comes", "before", "the", thing] => {
            arrows.iter().find(|(_, b)| Some(*b) == at(thing)).map(|(a, _)| name(*a))
        }
        _ => None,
    }
}
