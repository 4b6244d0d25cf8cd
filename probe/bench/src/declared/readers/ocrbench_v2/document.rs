//! Document parsing: similarity of the trees of titles and lines of two Markdown texts.

use super::tree;
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

    /// Returns for every node in postorder the index of its leftmost leaf, and whether its label is blank.
    fn postorder(&self) -> (Vec<usize>, Vec<bool>) {
        let (mut leaves, mut blanks) = (Vec::new(), Vec::new());
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
                    let leaf = leaf.unwrap_or(leaves.len());
                    leaves.push(leaf);
                    blanks.push(self.labels.get(node).is_none_or(|label| trimmed(label).is_empty()));
                    if let Some(parent) = stack.last_mut() {
                        parent.2.get_or_insert(leaf);
                    }
                }
            }
        }
        (leaves, blanks)
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

/// Computes the similarity of two texts: 1 − tree edit distance / number of nodes of the larger tree.
pub(super) fn similarity(said: &str, right: &str) -> f64 {
    let ((said, said_blank), (right, right_blank)) = (Tree::of(said).postorder(), Tree::of(right).postorder());
    let blank = |blanks: &[bool], node: usize| blanks.get(node).copied().unwrap_or(true);
    // A change from or to a blank label costs 1, other changes nothing.
    let change = |a, b| f64::from(u8::from(blank(&said_blank, a) || blank(&right_blank, b)));
    1.0 - tree::distance(&said, &right, change) / said.len().max(right.len()) as f64
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
