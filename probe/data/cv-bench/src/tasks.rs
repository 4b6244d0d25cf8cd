//! Finds the questions about a scene whose answer is unambiguous.

use crate::annotations::AnnotationFormat;
use crate::annotations::{AnnotatedImage, AnnotatedObject};
use crate::options::CvBenchOptions;
pub use crate::task::CvBenchTask;
use crate::words::plural;
use burgess_base::stream::stream;
use rand::seq::SliceRandom;
use std::collections::{BTreeMap, BTreeSet};

/// The axis of a spatial relation in the image plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelationAxis {
    /// The horizontal axis: left or right.
    Across,
    /// The vertical axis: above or below.
    Upright,
}

/// A question about the objects of a scene, which are given by their indices.
#[derive(Debug, Clone, PartialEq)]
pub enum CvBenchQuestion {
    /// Number of objects of a class, which may be 0.
    Count {
        /// Class of the objects.
        class: String,
        /// Number of the objects.
        number: usize,
    },
    /// The first object is left of, or above, the second. Boxes are drawn if a class occurs more than once.
    Relation {
        /// Index of the object that is left of, or above, the other.
        first: usize,
        /// Index of the other object.
        second: usize,
        /// The axis along which the objects are compared.
        axis: RelationAxis,
        /// Whether boxes are drawn around the objects.
        boxes: bool,
    },
    /// Object `near` is nearer to the camera than `far`.
    Depth {
        /// Index of the nearer object.
        near: usize,
        /// Index of the farther object.
        far: usize,
    },
    /// Object `near` is nearer to the anchor than `far`.
    Distance {
        /// Index of the object that is nearer to the anchor.
        near: usize,
        /// Index of the object that is farther from the anchor.
        far: usize,
        /// Index of the anchor.
        anchor: usize,
    },
}

/// A question that can be asked about a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Index of the scene.
    pub scene: usize,
    /// The question and its answer.
    pub question: CvBenchQuestion,
}

impl Candidate {
    /// Returns the task of the question.
    pub fn task(&self) -> CvBenchTask {
        match self.question {
            CvBenchQuestion::Count { .. } => CvBenchTask::Count,
            CvBenchQuestion::Relation { .. } => CvBenchTask::Relation,
            CvBenchQuestion::Depth { .. } => CvBenchTask::Depth,
            CvBenchQuestion::Distance { .. } => CvBenchTask::Distance,
        }
    }
}

/// Maximum number of objects in an image that are compared in pairs, because the work grows with its square.
pub const MAX_PAIR_OBJECTS: usize = 500;

const MANY: &str = "more objects in the image than are compared in pairs (500)";

/// Maximum number of objects in an image that are compared in triples.
const MAX_TRIPLE_OBJECTS: usize = 128;

/// Number of refused candidates by task and reason.
pub type RefusedCounts = BTreeMap<String, BTreeMap<String, usize>>;

/// Returns every question that can be asked, in random order.
pub fn candidates(scenes: &[AnnotatedImage], options: &CvBenchOptions, refused: &mut RefusedCounts) -> Vec<Candidate> {
    // Only classes that these annotations contain can be asked for as absent.
    let mut classes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for scene in scenes {
        classes.entry(scene.format.source()).or_default().extend(scene.objects.iter().map(|o| o.class.as_str()));
    }
    let mut all = Vec::new();
    for (number, scene) in scenes.iter().enumerate() {
        let mut add = |question| all.push(Candidate { scene: number, question });
        let mut refuse = |task: CvBenchTask, why: &str| {
            *refused.entry(format!("{task:?}")).or_default().entry(why.to_string()).or_default() += 1;
        };
        match scene.format {
            AnnotationFormat::Omni3d => in_space(scene, options, &mut add, &mut refuse),
            AnnotationFormat::Coco | AnnotationFormat::Ade20k => {
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

fn by_class(scene: &AnnotatedImage) -> BTreeMap<&str, Vec<usize>> {
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, object) in scene.objects.iter().enumerate() {
        classes.entry(&object.class).or_default().push(i);
    }
    classes
}

fn small(object: &AnnotatedObject, options: &CvBenchOptions) -> bool {
    object.bbox[2].min(object.bbox[3]) < options.min_side
}

fn count(
    scene: &AnnotatedImage,
    options: &CvBenchOptions,
    add: &mut dyn FnMut(CvBenchQuestion),
    refuse: &mut dyn FnMut(CvBenchTask, &str),
) {
    let boxed: BTreeSet<&str> = scene.objects.iter().map(|o| o.class.as_str()).collect();
    for _ in scene.unclear.iter().filter(|class| !boxed.contains(class.as_str())) {
        refuse(CvBenchTask::Count, "one of them has no usable box in the image");
    }
    for (class, members) in by_class(scene) {
        if scene.crowds.contains(class) {
            refuse(CvBenchTask::Count, "a crowd that is not boxed one by one");
        } else if scene.unclear.contains(class) {
            refuse(CvBenchTask::Count, "one of them has no usable box in the image");
        } else if members.len() > options.max_count {
            refuse(CvBenchTask::Count, "more than max_count");
        } else if members.iter().filter_map(|i| scene.objects.get(*i)).any(|o| small(o, options)) {
            refuse(CvBenchTask::Count, "one of them is smaller than min_side");
        } else {
            add(CvBenchQuestion::Count { class: class.into(), number: members.len() });
        }
    }
}

/// Adds a counting question for a class that is not in the image, drawn from the classes of the annotations.
fn absent(
    scene: &AnnotatedImage,
    number: usize,
    known: &BTreeSet<&str>,
    options: &CvBenchOptions,
    add: &mut dyn FnMut(CvBenchQuestion),
) {
    let there: BTreeSet<&str> = scene.objects.iter().map(|o| o.class.as_str()).collect();
    let free: Vec<&&str> = known
        .iter()
        .filter(|c| !there.contains(**c) && !scene.crowds.contains(**c) && !scene.unclear.contains(**c))
        .collect();
    let draw = burgess_base::stream::uniform(&mut stream(&format!("cv-bench/absent/{number}"), options.seed));
    if let Some(class) = free.get((draw * free.len() as f64) as usize).filter(|_| options.absent > 0.0) {
        add(CvBenchQuestion::Count { class: (**class).to_string(), number: 0 });
    }
}

fn relation(
    scene: &AnnotatedImage,
    options: &CvBenchOptions,
    add: &mut dyn FnMut(CvBenchQuestion),
    refuse: &mut dyn FnMut(CvBenchTask, &str),
) {
    if scene.objects.len() > MAX_PAIR_OBJECTS {
        refuse(CvBenchTask::Relation, MANY);
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
                refuse(CvBenchTask::Relation, "a crowd that is not boxed one by one");
                continue;
            }
            if unclear && !boxes {
                refuse(CvBenchTask::Relation, "one of them has no usable box in the image");
                continue;
            }
            for (&i, &j) in firsts.iter().flat_map(|i| seconds.iter().map(move |j| (i, j))) {
                let (Some(x), Some(y)) = (scene.objects.get(i), scene.objects.get(j)) else { continue };
                if small(x, options) || small(y, options) {
                    refuse(CvBenchTask::Relation, "smaller than min_side");
                    continue;
                }
                let mut clear = false;
                for (axis, side, at) in [(RelationAxis::Across, width, 0), (RelationAxis::Upright, height, 1)] {
                    let apart = |p: &AnnotatedObject, q: &AnnotatedObject| {
                        q.bbox[at] - (p.bbox[at] + p.bbox[at + 2]) >= options.gap * side
                    };
                    if apart(x, y) {
                        add(CvBenchQuestion::Relation { first: i, second: j, axis, boxes });
                        clear = true;
                    } else if apart(y, x) {
                        add(CvBenchQuestion::Relation { first: j, second: i, axis, boxes });
                        clear = true;
                    }
                }
                if !clear {
                    refuse(CvBenchTask::Relation, "not apart along either axis");
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

fn in_space(
    scene: &AnnotatedImage,
    options: &CvBenchOptions,
    add: &mut dyn FnMut(CvBenchQuestion),
    refuse: &mut dyn FnMut(CvBenchTask, &str),
) {
    let mut seen: Vec<(usize, &AnnotatedObject, &[[f64; 3]; 8])> = Vec::new();
    for (i, object) in scene.objects.iter().enumerate() {
        match &object.corners {
            Some(_) if small(object, options) => refuse(CvBenchTask::Depth, "smaller than min_side"),
            Some(_) if object.visible < options.visible => refuse(CvBenchTask::Depth, "too little of it is seen"),
            Some(corners) => seen.push((i, object, corners)),
            None => {}
        }
    }
    if seen.len() > MAX_PAIR_OBJECTS {
        refuse(CvBenchTask::Depth, MANY);
        refuse(CvBenchTask::Distance, MANY);
        return;
    }
    let anchors = seen.len() <= MAX_TRIPLE_OBJECTS;
    if !anchors {
        refuse(CvBenchTask::Distance, "more objects in the image than are compared in threes (128)");
    }
    let apart =
        |a: &AnnotatedObject, b: &AnnotatedObject| a.class != b.class && overlap(&a.bbox, &b.bbox) <= options.overlap;
    for (n, (i, a, ca)) in seen.iter().enumerate() {
        for (j, b, cb) in seen.iter().skip(n + 1) {
            if !apart(a, b) {
                refuse(CvBenchTask::Depth, "the same class, or boxes that cover each other");
                continue;
            }
            let camera = [[0.0; 3]];
            match nearer(span(*ca, &camera), span(*cb, &camera), options.offset) {
                Some(true) => add(CvBenchQuestion::Depth { near: *i, far: *j }),
                Some(false) => add(CvBenchQuestion::Depth { near: *j, far: *i }),
                None => refuse(CvBenchTask::Depth, "not nearer by offset"),
            }
            for (k, _, cc) in
                seen.iter().filter(|_| anchors).filter(|(k, c, _)| k != i && k != j && apart(a, c) && apart(b, c))
            {
                match nearer(span(*ca, *cc), span(*cb, *cc), options.offset) {
                    Some(true) => add(CvBenchQuestion::Distance { near: *i, far: *j, anchor: *k }),
                    Some(false) => add(CvBenchQuestion::Distance { near: *j, far: *i, anchor: *k }),
                    None => refuse(CvBenchTask::Distance, "not nearer by offset"),
                }
            }
        }
    }
}

/// The text of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct QuestionText {
    /// The question's text, without choices.
    pub question: String,
    /// The choices before they are ordered; the first is right.
    pub choices: Vec<String>,
    /// Indices of the objects to draw boxes around, in the order of the box colours red, blue, green.
    pub boxes: Vec<usize>,
}

/// Formulates a candidate as text. `swapped` swaps the two objects of a question (left for right, or the order in which
/// the nearer and the farther object are named); `low` is the smallest number among the choices of a counting question.
pub fn word(scene: &AnnotatedImage, question: &CvBenchQuestion, swapped: bool, low: usize) -> QuestionText {
    let class = |i: usize| scene.objects.get(i).map_or("object", |o| o.class.as_str());
    match question {
        CvBenchQuestion::Count { class, number } => {
            let others = (low..low + 5).filter(|n| n != number);
            QuestionText {
                question: format!("How many {} are in the image?", plural(class)),
                choices: std::iter::once(*number).chain(others).map(|n| n.to_string()).collect(),
                boxes: Vec::new(),
            }
        }
        CvBenchQuestion::Relation { first, second, axis, boxes } => {
            let (asked, other) = if swapped { (second, first) } else { (first, second) };
            let mark = |i: usize, colour: &str| match boxes {
                true => format!("{} (annotated by the {colour} box)", class(i)),
                false => class(i).to_string(),
            };
            let (x, y) = (mark(*asked, "red"), mark(*other, "blue"));
            let mut choices = match axis {
                RelationAxis::Across => ["left", "right"],
                RelationAxis::Upright => ["above", "below"],
            };
            if swapped {
                choices.reverse();
            }
            QuestionText {
                question: format!(
                    "Considering the relative positions of the {x} and the {y} in the image provided, where is the {x} located with respect to the {y}?"
                ),
                choices: choices.map(String::from).into(),
                boxes: if *boxes { vec![*asked, *other] } else { Vec::new() },
            }
        }
        CvBenchQuestion::Depth { near, far } => {
            let (x, y) = if swapped { (far, near) } else { (near, far) };
            QuestionText {
                question: format!(
                    "Which object is closer to the camera taking this photo, the {} (highlighted by a red box) or the {} (highlighted by a blue box)?",
                    class(*x),
                    class(*y)
                ),
                choices: vec![class(*near).into(), class(*far).into()],
                boxes: vec![*x, *y],
            }
        }
        CvBenchQuestion::Distance { near, far, anchor } => {
            let (x, y) = if swapped { (far, near) } else { (near, far) };
            QuestionText {
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
