//! Short captions of images, and full descriptions that answer every question.

use burgess_base::stream::Stream;

use crate::canvas::Texture;
use crate::chart::ChartKind;
use crate::diagram::DiagramLayout;
use crate::facts::{article, thing};
use crate::flat::{FlatItem, FlatScene};
use crate::page::{TableScene, WritingScene};
use crate::scene::{Content, Scene};
use crate::solids::SolidScene;
use crate::{chart::ChartScene, diagram::DiagramScene, dice, palette};

impl Scene {
    /// Returns a caption of one or two short sentences.
    pub fn caption(&self, s: &mut Stream) -> String {
        match &self.content {
            Content::Flat(f) => flat(f, s, false),
            Content::Solids(c) => solids(c, s, false),
            Content::Writing(w) => writing(w),
            Content::Table(t) => table(t, s, false),
            Content::Chart(c) => chart(c, s, false),
            Content::Diagram(d) => diagram(d, s),
        }
    }

    /// Returns a caption for the pretraining of encoders: for half of the flat images the names alone, without colours
    /// and patterns; otherwise as [`Scene::caption`].
    ///
    /// If every caption named colours, a contrastive objective would separate the images of a batch by colour and learn
    /// little about things.
    pub fn pretraining_caption(&self, s: &mut Stream) -> String {
        let Content::Flat(f) = &self.content else { return self.caption(s) };
        if dice::chance(s, 50) {
            return self.caption(s);
        }
        let mut order: Vec<u16> = f.items.iter().map(|item| item.thing).collect();
        dice::shuffle(s, &mut order);
        let mut named: Vec<u16> = Vec::new();
        for thing in order {
            if !named.contains(&thing) {
                named.push(thing);
            }
        }
        let part = |&t: &u16| match f.count(t) {
            1 => thing(t).with_article(""),
            n => format!("{n} {}", thing(t).plural()),
        };
        format!("{}.", sentence(&list(&named.iter().map(part).collect::<Vec<_>>())))
    }

    /// Returns a single word for the image: the largest thing or the nearest solid of it, or else what kind of image it
    /// is.
    pub fn gist(&self) -> String {
        let word = match &self.content {
            Content::Flat(f) => {
                f.items.iter().max_by_key(|item| item.size).map_or("thing", |item| item.what().name.as_str())
            }
            Content::Solids(c) => {
                c.solids.iter().min_by_key(|solid| solid.z).map_or("thing", |solid| solid.form.name())
            }
            Content::Writing(w) if w.sign.is_some() => "sign",
            Content::Writing(w) if w.lines.first().is_some_and(|line| line.is_number()) => "number",
            Content::Writing(_) => "word",
            Content::Table(_) => "table",
            Content::Chart(_) => "chart",
            Content::Diagram(_) => "diagram",
        };
        word.to_string()
    }

    /// Returns a description in sentences that answers every question about the image.
    pub fn description(&self, s: &mut Stream) -> String {
        match &self.content {
            Content::Flat(f) => flat(f, s, true),
            Content::Solids(c) => solids(c, s, true),
            Content::Writing(w) => writing(w),
            Content::Table(t) => table(t, s, true),
            Content::Chart(c) => chart(c, s, true),
            Content::Diagram(d) => diagram(d, s),
        }
    }
}

/// The wordings that ask for a caption.
pub const REQUESTS: [&str; 4] = [
    "Describe the image.",
    "What is in the picture?",
    "Describe the picture in a few words.",
    "What does the image show?",
];

/// Draws one of the wordings that ask for a caption.
pub fn request(s: &mut Stream) -> &'static str {
    REQUESTS[dice::below(s, REQUESTS.len())]
}

/// Draws one of the requests that begin with "Describe".
pub fn describe_request(s: &mut Stream) -> &'static str {
    if dice::chance(s, 50) { REQUESTS[0] } else { REQUESTS[2] }
}

/// Draws one of the requests that begin with "What", which a single word answers as well.
pub fn what_request(s: &mut Stream) -> &'static str {
    if dice::chance(s, 50) { REQUESTS[1] } else { REQUESTS[3] }
}

/// Capitalises the first letter.
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Joins the parts of an enumeration: "a", "a and b", "a, b and c".
fn list(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Returns the adjectives of an item, such as "red" or "red striped".
fn adjectives(item: &FlatItem) -> String {
    let pattern = if item.texture == Texture::Plain { String::new() } else { format!(" {}", item.texture.name()) };
    format!("{}{pattern}", palette::name(item.colour))
}

fn flat(f: &FlatScene, s: &mut Stream, all: bool) -> String {
    let mut order: Vec<usize> = (0..f.items.len()).collect();
    dice::shuffle(s, &mut order);
    let mut groups: Vec<(String, u16, usize)> = Vec::new();
    for &i in &order {
        let item = &f.items[i];
        let key = adjectives(item);
        match groups.iter_mut().find(|g| g.0 == key && g.1 == item.thing) {
            Some(g) => g.2 += 1,
            None => groups.push((key, item.thing, 1)),
        }
    }
    let parts: Vec<String> = groups
        .iter()
        .map(|(key, t, n)| {
            let what = thing(*t);
            if *n == 1 { what.with_article(key) } else { format!("{} {key} {}", n, what.plural()) }
        })
        .collect();
    let mut out = vec![format!("{}.", sentence(&list(&parts)))];
    // Total counts, where the things of one name have several colours.
    let mut counted: Vec<u16> = Vec::new();
    for &i in &order {
        let t = f.items[i].thing;
        if f.count(t) > 1 && groups.iter().filter(|g| g.1 == t).count() > 1 && !counted.contains(&t) {
            counted.push(t);
            out.push(format!("There are {} {}.", f.count(t), thing(t).plural()));
        }
    }
    let unique = f.unique();
    let mut extra = Vec::new();
    for &i in &unique {
        let item = &f.items[i];
        let name = &item.what().name;
        if let Some(side) = item.faces() {
            extra.push(format!("The {name} looks to the {}.", side.name()));
        }
        if item.upside_down() && item.what().upright {
            extra.push(format!("The {name} is upside down."));
        } else if item.what().upright && all && f.items.len() == 1 {
            extra.push(format!("The {name} is upright."));
        }
        if let Some(way) = item.points() {
            extra.push(format!("The arrow points {way}."));
        }
    }
    let mut relations = Vec::new();
    for (k, &a) in unique.iter().enumerate() {
        for &b in &unique[k + 1..] {
            let (a, b) = if dice::chance(s, 50) { (a, b) } else { (b, a) };
            if let Some(r) = f.relation(a, b) {
                relations.push(format!(
                    "The {} {} {} the {}.",
                    f.items[a].what().name,
                    f.items[a].what().is(),
                    r.words(),
                    f.items[b].what().name
                ));
            }
        }
    }
    dice::shuffle(s, &mut extra);
    dice::shuffle(s, &mut relations);
    if all {
        out.extend(extra);
        out.extend(relations);
    } else if !relations.is_empty() && (extra.is_empty() || dice::chance(s, 60)) {
        out.extend(relations.into_iter().take(1));
    } else {
        out.extend(extra.into_iter().take(1));
    }
    out.join(" ")
}

fn solids(c: &SolidScene, s: &mut Stream, all: bool) -> String {
    let mut order: Vec<usize> = (0..c.solids.len()).collect();
    dice::shuffle(s, &mut order);
    let parts: Vec<String> =
        order.iter().map(|&i| format!("{} at depth {}", article(&c.solids[i].phrase()), c.depth_level(i))).collect();
    let mut out = vec![format!("{} on the ground.", sentence(&list(&parts)))];
    let mut nearest = Vec::new();
    for to in 0..c.solids.len() {
        let others: Vec<usize> = (0..c.solids.len()).filter(|&i| i != to).collect();
        let clear = |a: usize| others.len() > 1 && others.iter().all(|&b| b == a || c.clearly_nearer(to, a, b));
        if let Some(&a) = others.iter().find(|&&a| clear(a)) {
            nearest.push(format!("Closest to the {} is the {}.", c.solids[to].phrase(), c.solids[a].phrase()));
        }
    }
    dice::shuffle(s, &mut nearest);
    nearest.truncate(if all { nearest.len() } else { 1 });
    out.extend(nearest);
    out.join(" ")
}

fn writing(w: &WritingScene) -> String {
    let what = |i: usize| if w.lines[i].is_number() { "number" } else { "word" };
    match w.lines.len() {
        0 => String::new(),
        1 => match w.sign {
            Some(board) => {
                format!("{} sign with the {} {}.", sentence(&article(palette::name(board))), what(0), w.lines[0].text)
            }
            None => format!("The {} {} in {}.", what(0), w.lines[0].text, palette::name(w.lines[0].colour)),
        },
        _ => format!("The top line says {}. The bottom line says {}.", w.lines[0].text, w.lines[1].text),
    }
}

fn table(t: &TableScene, s: &mut Stream, all: bool) -> String {
    let mut cells = Vec::new();
    for (r, row) in t.rows.iter().enumerate() {
        for (c, column) in t.columns.iter().enumerate() {
            cells.push(format!("In row {row} and column {column} is {}.", t.cells[r][c]));
        }
    }
    let first = format!("A table with rows {} and columns {}.", list(&t.rows), list(&t.columns));
    if !all {
        cells = vec![dice::pick(s, &cells).clone()];
    }
    format!("{first} {}", cells.join(" "))
}

fn chart(c: &ChartScene, s: &mut Stream, all: bool) -> String {
    let mut parts: Vec<String> = c.labels.iter().zip(&c.values).map(|(l, v)| format!("{l} is {v}")).collect();
    let mut text = format!("{} with {} {}s", sentence(&article(c.kind.name())), c.values.len(), c.kind.mark());
    if !all && dice::chance(s, 25) {
        parts = vec![format!("{} is the largest", c.labels[c.largest()])];
    }
    text = format!("{text}: {}.", list(&parts));
    if all {
        let (largest, smallest) = (&c.labels[c.largest()], &c.labels[c.smallest()]);
        text = format!("{text} The largest is {largest}. The smallest is {smallest}.");
    }
    if all && c.coloured() {
        let colours: Vec<String> =
            c.labels.iter().zip(&c.colours).map(|(l, k)| format!("{l} is {}", palette::name(*k))).collect();
        text = format!("{text} {}.", sentence(&list(&colours)));
    } else if all && c.kind == ChartKind::Line {
        text = format!("{text} The line is {}.", palette::name(c.colours[0]));
    }
    text
}

fn diagram(d: &DiagramScene, s: &mut Stream) -> String {
    let name = |i: usize| thing(d.things[i]).name.as_str();
    match d.layout {
        DiagramLayout::Labelled => {
            let mut order: Vec<usize> = (0..d.things.len()).collect();
            dice::shuffle(s, &mut order);
            let parts: Vec<String> =
                order.iter().map(|&i| format!("{} is {}", d.letters[i], thing(d.things[i]).with_article(""))).collect();
            format!("A diagram with labels: {}.", list(&parts))
        }
        DiagramLayout::Chain { .. } => {
            let mut at = (0..d.things.len()).find(|&i| d.before(i).is_none()).unwrap_or(0);
            let mut links = Vec::new();
            while let Some(next) = d.next(at) {
                links.push(format!("the {} leads to the {}", name(at), name(next)));
                at = next;
            }
            format!("A chain with arrows: {}.", list(&links))
        }
    }
}
