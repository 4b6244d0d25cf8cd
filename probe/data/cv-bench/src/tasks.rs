//! Finds the questions about a scene whose answer is unambiguous.

use crate::annotations::{Object, Scene};
use crate::words::plural;
use crate::{Options, annotations::Format};
use burgess_base::stream::stream;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The four tasks of CV-Bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Task {
    /// Counting: how many objects of a class are in the image?
    Count,
    /// Spatial relation: on which side of an object is another?
    Relation,
    /// Depth order: which of two objects is nearer to the camera?
    Depth,
    /// Relative distance: which of two objects is nearer to a third?
    Distance,
}

impl Task {
    /// Returns the half of the benchmark, `2D` or `3D`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Count | Self::Relation => "2D",
            Self::Depth | Self::Distance => "3D",
        }
    }
}

/// The axis of a spatial relation in the image plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Axis {
    /// The horizontal axis: left or right.
    Across,
    /// The vertical axis: above or below.
    Upright,
}

/// A question about the objects of a scene, which are given by their indices.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Number of objects of a class, which may be 0.
    Count { class: String, number: usize },
    /// The first object is left of, or above, the second; boxes are drawn if a class occurs more than once.
    Relation { first: usize, second: usize, axis: Axis, boxes: bool },
    /// Object `near` is nearer to the camera than `far`.
    Depth { near: usize, far: usize },
    /// Object `near` is nearer to the anchor than `far`.
    Distance { near: usize, far: usize, anchor: usize },
}

/// A question that can be asked about a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Index of the scene.
    pub scene: usize,
    /// The question and its answer.
    pub ask: Ask,
}

impl Candidate {
    /// Returns the task of the question.
    pub fn task(&self) -> Task {
        match self.ask {
            Ask::Count { .. } => Task::Count,
            Ask::Relation { .. } => Task::Relation,
            Ask::Depth { .. } => Task::Depth,
            Ask::Distance { .. } => Task::Distance,
        }
    }
}

/// Maximum number of objects in an image that are compared in pairs, because the work grows with its square.
pub const MOST_OBJECTS: usize = 500;

const MANY: &str = "more objects in the image than are compared in pairs (500)";

/// Maximum number of objects in an image that are compared in triples.
pub const MOST_ANCHORS: usize = 128;

/// Number of refused candidates by task and reason.
pub type Refused = BTreeMap<String, BTreeMap<String, usize>>;

/// Returns every question that can be asked, in random order.
pub fn candidates(scenes: &[Scene], options: &Options, refused: &mut Refused) -> Vec<Candidate> {
    // Only classes that these annotations contain can be asked for as absent.
    let mut classes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for scene in scenes {
        classes.entry(scene.format.source()).or_default().extend(scene.objects.iter().map(|o| o.class.as_str()));
    }
    let mut all = Vec::new();
    for (number, scene) in scenes.iter().enumerate() {
        let mut add = |ask| all.push(Candidate { scene: number, ask });
        let mut refuse = |task: Task, why: &str| {
            *refused.entry(format!("{task:?}")).or_default().entry(why.to_string()).or_default() += 1;
        };
        match scene.format {
            Format::Omni3d => in_space(scene, options, &mut add, &mut refuse),
            Format::Coco | Format::Ade20k => {
                count(scene, options, &mut add, &mut refuse);
                if let Some(known) = classes.get(scene.format.source()) {
                    absent(scene, number, known, options, &mut add);
                }
                relation(scene, options, &mut add, &mut refuse);
            }
        }
    }
    all.shuffle(&mut stream("cv-bench/candidates", options.seed));
    all
}

fn by_class(scene: &Scene) -> BTreeMap<&str, Vec<usize>> {
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, object) in scene.objects.iter().enumerate() {
        classes.entry(&object.class).or_default().push(i);
    }
    classes
}

fn small(object: &Object, options: &Options) -> bool {
    object.bbox[2].min(object.bbox[3]) < options.min_side
}

fn count(scene: &Scene, options: &Options, add: &mut dyn FnMut(Ask), refuse: &mut dyn FnMut(Task, &str)) {
    let boxed: BTreeSet<&str> = scene.objects.iter().map(|o| o.class.as_str()).collect();
    for _ in scene.unclear.iter().filter(|class| !boxed.contains(class.as_str())) {
        refuse(Task::Count, "one of them has no usable box in the image");
    }
    for (class, members) in by_class(scene) {
        if scene.crowds.contains(class) {
            refuse(Task::Count, "a crowd that is not boxed one by one");
        } else if scene.unclear.contains(class) {
            refuse(Task::Count, "one of them has no usable box in the image");
        } else if members.len() > options.max_count {
            refuse(Task::Count, "more than max_count");
        } else if members.iter().filter_map(|i| scene.objects.get(*i)).any(|o| small(o, options)) {
            refuse(Task::Count, "one of them is smaller than min_side");
        } else {
            add(Ask::Count { class: class.into(), number: members.len() });
        }
    }
}

/// Adds a counting question for a class that is not in the image, drawn from the classes of the annotations.
fn absent(scene: &Scene, number: usize, known: &BTreeSet<&str>, options: &Options, add: &mut dyn FnMut(Ask)) {
    let there: BTreeSet<&str> = scene.objects.iter().map(|o| o.class.as_str()).collect();
    let free: Vec<&&str> = known
        .iter()
        .filter(|c| !there.contains(**c) && !scene.crowds.contains(**c) && !scene.unclear.contains(**c))
        .collect();
    let draw = burgess_base::stream::uniform(&mut stream(&format!("cv-bench/absent/{number}"), options.seed));
    if let Some(class) = free.get((draw * free.len() as f64) as usize).filter(|_| options.absent > 0.0) {
        add(Ask::Count { class: (**class).to_string(), number: 0 });
    }
}

fn relation(scene: &Scene, options: &Options, add: &mut dyn FnMut(Ask), refuse: &mut dyn FnMut(Task, &str)) {
    if scene.objects.len() > MOST_OBJECTS {
        refuse(Task::Relation, MANY);
        return;
    }
    let classes = by_class(scene);
    let [width, height] = scene.size;
    for (a, firsts) in &classes {
        for (b, seconds) in classes.range(*a..).filter(|(b, _)| *b != a) {
            let crowd = scene.crowds.contains(*a) || scene.crowds.contains(*b);
            let unclear = scene.unclear.contains(*a) || scene.unclear.contains(*b);
            let boxes = firsts.len() > 1 || seconds.len() > 1;
            if crowd && !boxes {
                refuse(Task::Relation, "a crowd that is not boxed one by one");
                continue;
            }
            if unclear && !boxes {
                refuse(Task::Relation, "one of them has no usable box in the image");
                continue;
            }
            for (&i, &j) in firsts.iter().flat_map(|i| seconds.iter().map(move |j| (i, j))) {
                let (Some(x), Some(y)) = (scene.objects.get(i), scene.objects.get(j)) else { continue };
                if small(x, options) || small(y, options) {
                    refuse(Task::Relation, "smaller than min_side");
                    continue;
                }
                let mut clear = false;
                for (axis, side, at) in [(Axis::Across, width, 0), (Axis::Upright, height, 1)] {
                    let apart =
                        |p: &Object, q: &Object| q.bbox[at] - (p.bbox[at] + p.bbox[at + 2]) >= options.gap * side;
                    if apart(x, y) {
                        add(Ask::Relation { first: i, second: j, axis, boxes });
                        clear = true;
                    } else if apart(y, x) {
                        add(Ask::Relation { first: j, second: i, axis, boxes });
                        clear = true;
                    }
                }
                if !clear {
                    refuse(Task::Relation, "not apart along either axis");
                }
            }
        }
    }
}

/// Returns the minimum and maximum distance between two sets of corners.
fn span(a: &[[f64; 3]], b: &[[f64; 3]]) -> (f64, f64) {
    let mut span = (f64::INFINITY, 0.0_f64);
    for (p, q) in a.iter().flat_map(|p| b.iter().map(move |q| (p, q))) {
        let d = p.iter().zip(q).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt();
        span = (span.0.min(d), span.1.max(d));
    }
    span
}

/// Returns whether `a` (`true`) or `b` is nearer: the maximum of one, plus `offset`, must be below the minimum of the
/// other.
fn nearer(a: (f64, f64), b: (f64, f64), offset: f64) -> Option<bool> {
    match (a.1 + offset < b.0, b.1 + offset < a.0) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |at: usize| ((a[at] + a[at + 2]).min(b[at] + b[at + 2]) - a[at].max(b[at])).max(0.0);
    let both = side(0) * side(1);
    both / (a[2] * a[3] + b[2] * b[3] - both)
}

fn in_space(scene: &Scene, options: &Options, add: &mut dyn FnMut(Ask), refuse: &mut dyn FnMut(Task, &str)) {
    let mut seen: Vec<(usize, &Object, &[[f64; 3]; 8])> = Vec::new();
    for (i, object) in scene.objects.iter().enumerate() {
        match &object.corners {
            Some(_) if small(object, options) => refuse(Task::Depth, "smaller than min_side"),
            Some(_) if object.visible < options.visible => refuse(Task::Depth, "too little of it is seen"),
            Some(corners) => seen.push((i, object, corners)),
            None => {}
        }
    }
    if seen.len() > MOST_OBJECTS {
        refuse(Task::Depth, MANY);
        refuse(Task::Distance, MANY);
        return;
    }
    let anchors = seen.len() <= MOST_ANCHORS;
    if !anchors {
        refuse(Task::Distance, "more objects in the image than are compared in threes (128)");
    }
    let apart = |a: &Object, b: &Object| a.class != b.class && overlap(&a.bbox, &b.bbox) <= options.overlap;
    for (n, (i, a, ca)) in seen.iter().enumerate() {
        for (j, b, cb) in seen.iter().skip(n + 1) {
            if !apart(a, b) {
                refuse(Task::Depth, "the same class, or boxes that cover each other");
                continue;
            }
            let camera = [[0.0; 3]];
            match nearer(span(*ca, &camera), span(*cb, &camera), options.offset) {
                Some(true) => add(Ask::Depth { near: *i, far: *j }),
                Some(false) => add(Ask::Depth { near: *j, far: *i }),
                None => refuse(Task::Depth, "not nearer by offset"),
            }
            for (k, _, cc) in
                seen.iter().filter(|_| anchors).filter(|(k, c, _)| k != i && k != j && apart(a, c) && apart(b, c))
            {
                match nearer(span(*ca, *cc), span(*cb, *cc), options.offset) {
                    Some(true) => add(Ask::Distance { near: *i, far: *j, anchor: *k }),
                    Some(false) => add(Ask::Distance { near: *j, far: *i, anchor: *k }),
                    None => refuse(Task::Distance, "not nearer by offset"),
                }
            }
        }
    }
}

/// The text of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Worded {
    /// The question's text, without choices.
    pub question: String,
    /// The choices before they are ordered; the first is right.
    pub choices: Vec<String>,
    /// Indices of the objects to draw boxes around, in the order of [`crate::draw::COLOURS`].
    pub boxes: Vec<usize>,
}

/// Formulates a candidate as text. `turned` swaps the two objects of a question (left for right, or the order in which
/// the nearer and the farther object are named); `low` is the smallest number among the choices of a counting question.
pub fn word(scene: &Scene, ask: &Ask, turned: bool, low: usize) -> Worded {
    let class = |i: usize| scene.objects.get(i).map_or("object", |o| o.class.as_str());
    match ask {
        Ask::Count { class, number } => {
            let others = (low..low + 5).filter(|n| n != number);
            Worded {
                question: format!("How many {} are in the image?", plural(class)),
                choices: std::iter::once(*number).chain(others).map(|n| n.to_string()).collect(),
                boxes: Vec::new(),
            }
        }
        Ask::Relation { first, second, axis, boxes } => {
            let (asked, other) = if turned { (second, first) } else { (first, second) };
            let mark = |i: usize, colour: &str| match boxes {
                true => format!("{} (annotated by the {colour} box)", class(i)),
                false => class(i).to_string(),
            };
            let (x, y) = (mark(*asked, "red"), mark(*other, "blue"));
            let mut choices = match axis {
                Axis::Across => ["left", "right"],
                Axis::Upright => ["above", "below"],
            };
            if turned {
                choices.reverse();
            }
            Worded {
                question: format!(
                    "Considering the relative positions of the {x} and the {y} in the image provided, where is the {x} located with respect to the {y}?"
                ),
                choices: choices.map(String::from).into(),
                boxes: if *boxes { vec![*asked, *other] } else { Vec::new() },
            }
        }
        Ask::Depth { near, far } => {
            let (x, y) = if turned { (far, near) } else { (near, far) };
            Worded {
                question: format!(
                    "Which object is closer to the camera taking this photo, the {} (highlighted by a red box) or the {} (highlighted by a blue box)?",
                    class(*x),
                    class(*y)
                ),
                choices: vec![class(*near).into(), class(*far).into()],
                boxes: vec![*x, *y],
            }
        }
        Ask::Distance { near, far, anchor } => {
            let (x, y) = if turned { (far, near) } else { (near, far) };
            Worded {
                question: format!(
                    "Estimate the real-world distances between objects in this image. Which object is closer to the {} (highlighted by a red box), the {} (highlighted by a blue box) or the {} (highlighted by a green box)?",
                    class(*anchor),
                    class(*x),
                    class(*y)
                ),
                choices: vec![class(*near).into(), class(*far).into()],
                boxes: vec![*anchor, *x, *y],
            }
        }
    }
}
