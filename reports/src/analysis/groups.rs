//! Benchmarks grouped by how alike they order and space the models: average linkage on 1 − r.
//!
//! Two groups are as far apart as their members are on average (Sokal and Michener 1958; SciPy's `linkage` with
//! `average`). The tree is cut into as many groups as there are categories, four in the study, and laid beside them:
//! Hubert and Arabie's adjusted Rand index (1985) is 1 where the groups are the categories and about 0 where they agree
//! no better than by chance. Where distances are equal the groups whose first names come first in the alphabet are joined,
//! so that the order of the benchmarks does not matter.

use super::{Benchmark, Correlations, Matrix};
use crate::schema;
use serde::Serialize;

/// The tree and its groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Groups {
    /// From the nearest to the furthest. Nodes are numbered: the benchmarks first, then the merges.
    pub merges: Vec<Merge>,
    /// Benchmarks in the order in which a tree is drawn without crossings.
    pub order: Vec<usize>,
    /// By benchmark, its group; groups are numbered from 0 in the order of `order`.
    pub group: Vec<usize>,
    /// Adjusted Rand index of groups and categories.
    pub agreement: f64,
}

/// Two nodes become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Merge {
    pub a: usize,
    pub b: usize,
    /// Their distance, 1 − r on average.
    pub distance: f64,
    /// Benchmarks in it.
    pub size: usize,
}

impl Groups {
    /// Number of groups.
    pub fn count(&self) -> usize {
        self.group.iter().max().map_or(0, |m| m + 1)
    }

    /// The benchmarks of a group, in the order of the tree.
    pub fn members(&self, group: usize) -> Vec<usize> {
        self.order.iter().copied().filter(|i| self.group.get(*i) == Some(&group)).collect()
    }
}

/// `None`, with the reason in `left_out`, where a pair has no correlation.
pub(super) fn groups(matrix: &Matrix, r: &Correlations, left_out: &mut Vec<String>) -> Option<Groups> {
    let benchmarks = matrix.benchmarks();
    let n = benchmarks.len();
    let mut distances = vec![vec![0.0; n]; n];
    for (i, row) in distances.iter_mut().enumerate() {
        for (j, slot) in row.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let Some(r) = r.at(i, j) else {
                let name = |i: usize| benchmarks.get(i).map_or("", |b| b.name.as_str());
                left_out.push(format!(
                    "no groups: {} and {} have no correlation, too few models have both",
                    name(i),
                    name(j)
                ));
                return None;
            };
            *slot = 1.0 - r;
        }
    }
    let names: Vec<&str> = benchmarks.iter().map(|b| b.name.as_str()).collect();
    let merges = average_linkage(&distances, &names);
    let categories = schema::in_display_order(benchmarks.iter().map(|b| b.category.as_str()));
    let (order, group) = cut(&merges, &names, categories.len().min(n));
    let place = |b: &Benchmark| categories.iter().position(|c| *c == b.category).unwrap_or(0);
    let agreement = adjusted_rand(&group, &benchmarks.iter().map(place).collect::<Vec<_>>());
    Some(Groups { merges, order, group, agreement })
}

/// A group on the way.
struct Node {
    /// As in [`Merge`].
    number: usize,
    /// First of its members' names.
    first: String,
    size: usize,
    /// To every node, by number.
    to: Vec<f64>,
}

impl Node {
    fn distance(&self, other: &Node) -> f64 {
        self.to.get(other.number).copied().unwrap_or(f64::INFINITY)
    }
}

/// The merges of average linkage; `names` decide between equal distances.
pub fn average_linkage(distances: &[Vec<f64>], names: &[&str]) -> Vec<Merge> {
    let leaf = |(number, (to, name)): (usize, (&Vec<f64>, &&str))| Node {
        number,
        first: name.to_string(),
        size: 1,
        to: to.clone(),
    };
    let mut nodes: Vec<Node> = distances.iter().zip(names).enumerate().map(leaf).collect();
    let mut merges: Vec<Merge> = Vec::new();
    loop {
        // The nearest pair; nodes stay sorted by their first names, so the first of several nearest is the one wanted.
        nodes.sort_by(|a, b| a.first.cmp(&b.first));
        let mut nearest: Option<(usize, usize, f64)> = None;
        for (i, a) in nodes.iter().enumerate() {
            for (j, b) in nodes.iter().enumerate().skip(i + 1) {
                let distance = a.distance(b);
                if nearest.is_none_or(|(.., least)| distance < least) {
                    nearest = Some((i, j, distance));
                }
            }
        }
        let Some((i, j, distance)) = nearest else { return merges };
        let (b, a) = (nodes.remove(j), nodes.remove(i));
        let (wa, wb) = (a.size as f64, b.size as f64);
        let mut to: Vec<f64> = a.to.iter().zip(&b.to).map(|(x, y)| (wa * x + wb * y) / (wa + wb)).collect();
        for node in &mut nodes {
            node.to.push(to.get(node.number).copied().unwrap_or(f64::INFINITY));
        }
        to.push(0.0);
        let number = names.len() + merges.len();
        merges.push(Merge { a: a.number, b: b.number, distance, size: a.size + b.size });
        nodes.push(Node { number, first: a.first, size: a.size + b.size, to });
    }
}

/// The order of the leaves, and the group of each leaf when the last merges are undone until there are `count` groups.
fn cut(merges: &[Merge], names: &[&str], count: usize) -> (Vec<usize>, Vec<usize>) {
    let n = names.len();
    // Leaves of every node, those of the half with the first name first.
    let mut leaves: Vec<Vec<usize>> = (0..n).map(|i| vec![i]).collect();
    for merge in merges {
        let of = |node: usize| leaves.get(node).cloned().unwrap_or_default();
        leaves.push([of(merge.a), of(merge.b)].concat());
    }
    let order = leaves.last().cloned().unwrap_or_default();
    let mut root: Vec<usize> = (0..n).collect();
    for (number, merge) in (n..).zip(merges.iter().take(n.saturating_sub(count))) {
        for slot in root.iter_mut().filter(|r| [merge.a, merge.b].contains(r)) {
            *slot = number;
        }
    }
    let mut seen: Vec<usize> = Vec::new();
    for leaf in &order {
        match root.get(*leaf) {
            Some(r) if !seen.contains(r) => seen.push(*r),
            _ => {}
        }
    }
    let group = root.iter().map(|r| seen.iter().position(|s| s == r).unwrap_or(0)).collect();
    (order, group)
}

/// Agreement of two partitions of the same things, corrected for chance; 1 where both are trivial in the same way.
pub fn adjusted_rand(a: &[usize], b: &[usize]) -> f64 {
    let pairs = |n: usize| (n * n.saturating_sub(1)) as f64 / 2.0;
    let sizes = |labels: &[(usize, usize)]| -> f64 {
        let mut counts = std::collections::BTreeMap::new();
        labels.iter().for_each(|l| *counts.entry(*l).or_insert(0usize) += 1);
        counts.into_values().map(pairs).sum()
    };
    let both: Vec<(usize, usize)> = a.iter().copied().zip(b.iter().copied()).collect();
    let together = sizes(&both);
    let in_a = sizes(&a.iter().map(|x| (*x, 0)).collect::<Vec<_>>());
    let in_b = sizes(&b.iter().map(|x| (*x, 0)).collect::<Vec<_>>());
    let all = pairs(both.len());
    let expected = if all > 0.0 { in_a * in_b / all } else { 0.0 };
    let most = (in_a + in_b) / 2.0;
    if most == expected { 1.0 } else { (together - expected) / (most - expected) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linkage_by_hand() {
        // 0 and 1 at 1, then 2 at (4 + 6) / 2, then 3 at (9 + 9 + 9) / 3.
        let d = vec![
            vec![0.0, 1.0, 4.0, 9.0],
            vec![1.0, 0.0, 6.0, 9.0],
            vec![4.0, 6.0, 0.0, 9.0],
            vec![9.0, 9.0, 9.0, 0.0],
        ];
        let merges = average_linkage(&d, &["d", "c", "b", "a"]);
        assert_eq!(merges.iter().map(|m| (m.distance, m.size)).collect::<Vec<_>>(), [(1.0, 2), (5.0, 3), (9.0, 4)]);
        let (order, group) = cut(&merges, &["d", "c", "b", "a"], 2);
        assert_eq!((order, group), (vec![3, 2, 1, 0], vec![1, 1, 1, 0]));
        assert!(average_linkage(&[], &[]).is_empty());
    }

    #[test]
    fn agreement_of_partitions() {
        assert_eq!(adjusted_rand(&[0, 0, 1, 1], &[5, 5, 2, 2]), 1.0);
        assert_eq!(adjusted_rand(&[0, 0, 0, 0], &[1, 1, 1, 1]), 1.0);
        assert_eq!(adjusted_rand(&[], &[]), 1.0);
        assert!(adjusted_rand(&[0, 0, 1, 1], &[0, 1, 0, 1]) < 0.0);
    }
}
