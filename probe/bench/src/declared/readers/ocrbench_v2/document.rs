//! Document parsing: similarity of the trees of titles and lines of two Markdown texts.

use crate::lmms::trimmed;
use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// Replacements that are made in every line, in this order.
const CLEANED: [(&str, &str); 9] = [
    (r"<bos>|<eos>|<pad>|<unk>", ""),
    (r"[\s\x1c-\x1f]##([^\s\x1c-\x1f])", "$1"),
    (r"\\[\s\x1c-\x1f]", r"\"),
    (r"[\s\x1c-\x1f]\*[\s\x1c-\x1f]\*[\s\x1c-\x1f]", "**"),
    (r"\{[\s\x1c-\x1f]", "{"),
    (r"[\s\x1c-\x1f]\}", "}"),
    (r"[\s\x1c-\x1f]\}", "}"),
    (r"\\begin[\s\x1c-\x1f]", r"\begin"),
    (r"\\end[\s\x1c-\x1f]", r"\end"),
];

static CLEANERS: LazyLock<Vec<(Regex, &str)>> =
    LazyLock::new(|| CLEANED.iter().filter_map(|(pattern, by)| Some((Regex::new(pattern).ok()?, *by))).collect());

/// A tree of labels: node 0 is the root.
struct Tree {
    labels: Vec<String>,
    children: Vec<Vec<usize>>,
}

impl Tree {
    fn add(&mut self, parent: usize, label: String) {
        let node = self.labels.len();
        self.labels.push(label);
        self.children.push(Vec::new());
        if let Some(children) = self.children.get_mut(parent) {
            children.push(node);
        }
    }

    /// Returns the first node with the label, parents before children.
    fn find(&self, label: &str) -> usize {
        let mut stack = vec![0];
        while let Some(node) = stack.pop() {
            if self.labels.get(node).is_some_and(|l| l == label) {
                return node;
            }
            stack.extend(self.children.get(node).into_iter().flatten().rev());
        }
        0
    }

    /// Builds the tree of a text: lines that begin with `#` are below the root, other lines below the last of them, or
    /// below a node called `TITLE` before the first.
    fn of(text: &str) -> Self {
        let mut tree = Self { labels: vec!["ROOT".into()], children: vec![Vec::new()] };
        tree.add(0, "TITLE".into());
        let mut title = String::new();
        for line in text.split('\n') {
            let line = cleaned(line);
            if line.starts_with('#') {
                title = line.replace('#', "");
                tree.add(0, title.clone());
            } else {
                let parent = tree.find(if title.is_empty() { "TITLE" } else { &title });
                tree.add(parent, line);
            }
        }
        tree
    }

    /// Returns for every node in postorder the index of its leftmost leaf and whether its label is blank.
    fn postorder(&self) -> Vec<(usize, bool)> {
        let mut out = Vec::with_capacity(self.labels.len());
        // Each entry is a node, the next of its children, and the place of its leftmost leaf, if known.
        let mut stack: Vec<(usize, usize, Option<usize>)> = vec![(0, 0, None)];
        while let Some((node, next, leaf)) = stack.pop() {
            let child = self.children.get(node).and_then(|children| children.get(next)).copied();
            match child {
                Some(child) => {
                    stack.push((node, next + 1, leaf));
                    stack.push((child, 0, None));
                }
                None => {
                    let place = out.len();
                    let leaf = leaf.unwrap_or(place);
                    let blank = self.labels.get(node).is_none_or(|label| trimmed(label).is_empty());
                    out.push((leaf, blank));
                    if let Some(parent) = stack.last_mut() {
                        parent.2.get_or_insert(leaf);
                    }
                }
            }
        }
        out
    }
}

fn cleaned(line: &str) -> String {
    let mut text = Cow::Borrowed(line);
    for (pattern, by) in CLEANERS.iter() {
        // In a replacement `$` marks a group; a backslash stands for itself.
        if let Cow::Owned(changed) = pattern.replace_all(&text, *by) {
            text = Cow::Owned(changed);
        }
    }
    text.replace("\\end{table}", "\\end{table}   ").replace(['*', '_'], " ")
}

/// Computes the edit distance of two trees (Zhang and Shasha), where insertion, removal and a change from or to a blank
/// label cost 1, and other changes nothing.
fn distance(a: &[(usize, bool)], b: &[(usize, bool)]) -> f64 {
    let columns = b.len() + 1;
    let mut trees = vec![0.0_f64; a.len() * b.len()];
    let mut forest = vec![0.0_f64; (a.len() + 1) * columns];
    for i in key_roots(a) {
        for j in key_roots(b) {
            let (Some((left_i, _)), Some((left_j, _))) = (a.get(i), b.get(j)) else { continue };
            let cell = |x: usize, y: usize| x * columns + y;
            let (rows, cols) = (i - left_i + 2, j - left_j + 2);
            let read = |forest: &[f64], x: usize, y: usize| forest.get(cell(x, y)).copied().unwrap_or(f64::INFINITY);
            for x in 0..rows {
                for y in 0..cols {
                    let best = match (x, y) {
                        (0, 0) => 0.0,
                        (_, 0) => read(&forest, x - 1, 0) + 1.0,
                        (0, _) => read(&forest, 0, y - 1) + 1.0,
                        _ => {
                            let (node, other) = (left_i + x - 1, left_j + y - 1);
                            let ((leaf, blank), (other_leaf, other_blank)) = match (a.get(node), b.get(other)) {
                                (Some(n), Some(o)) => (*n, *o),
                                _ => continue,
                            };
                            let shift = (read(&forest, x - 1, y) + 1.0).min(read(&forest, x, y - 1) + 1.0);
                            let tree = node * b.len() + other;
                            if leaf == *left_i && other_leaf == *left_j {
                                let change = f64::from(u8::from(blank || other_blank));
                                let best = shift.min(read(&forest, x - 1, y - 1) + change);
                                if let Some(place) = trees.get_mut(tree) {
                                    *place = best;
                                }
                                best
                            } else {
                                let before = read(&forest, leaf - left_i, other_leaf - left_j);
                                shift.min(before + trees.get(tree).copied().unwrap_or(f64::INFINITY))
                            }
                        }
                    };
                    if let Some(place) = forest.get_mut(cell(x, y)) {
                        *place = best;
                    }
                }
            }
        }
    }
    trees.last().copied().unwrap_or(0.0)
}

/// Returns the nodes, in postorder, that no later node shares its leftmost leaf with.
fn key_roots(tree: &[(usize, bool)]) -> Vec<usize> {
    let last = |at: &usize| {
        let leaf = tree.get(*at).map(|n| n.0);
        !tree.iter().skip(at + 1).any(|n| Some(n.0) == leaf)
    };
    (0..tree.len()).filter(last).collect()
}

/// Computes the similarity of two texts: 1 − tree edit distance / number of nodes of the larger tree.
pub(super) fn similarity(said: &str, right: &str) -> f64 {
    let (said, right) = (Tree::of(said).postorder(), Tree::of(right).postorder());
    1.0 - distance(&said, &right) / said.len().max(right.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cleaner_is_a_regular_expression() {
        assert_eq!(CLEANERS.len(), CLEANED.len());
    }

    #[test]
    fn trees_of_the_same_form_are_equal() {
        assert_eq!(similarity("# A\nx\ny", "# B\nu\nv"), 1.0);
        assert_eq!(similarity("# A\nx\ny", "# B\nu"), 1.0 - 1.0 / 5.0);
        assert_eq!(similarity("", ""), 1.0 - 1.0 / 3.0);
    }
}
