//! Hierarchical clustering of benchmarks by average linkage on 1 − r.
//!
//! The distance of two clusters is the mean distance of their members (Sokal and Michener 1958; SciPy's `linkage` with
//! `average`). The tree is cut into as many clusters as there are categories, four in the Cambrian-1 paper, and
//! compared with them: the adjusted Rand index (Hubert and Arabie 1985) is 1 if the clusters equal the categories and
//! about 0 for chance agreement. Ties of distance are broken by the alphabetical order of the clusters' first names, so
//! that the order of the benchmarks does not matter.

use super::correlation::CorrelationMatrix;
use super::score_matrix::{BenchmarkLabel, ScoreMatrix};
use crate::schema;
use serde::Serialize;

/// The tree of benchmarks and its clusters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchmarkClusters {
    /// The merges, nearest first. Nodes are numbered: first the benchmarks, then the merges.
    pub merges: Vec<ClusterMerge>,
    /// Benchmarks in the order in which the tree has no crossings.
    pub order: Vec<usize>,
    /// By benchmark, the index of its cluster; clusters are numbered from 0 in the order of `order`.
    pub group: Vec<usize>,
    /// Adjusted Rand index of clusters and categories, at most 1.
    pub agreement: f64,
}

/// The merge of two nodes into one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClusterMerge {
    pub a: usize,
    pub b: usize,
    /// Distance of the two nodes: the mean of 1 − r.
    pub distance: f64,
    /// Number of benchmarks in the merged node.
    pub size: usize,
}

impl BenchmarkClusters {
    /// Returns the number of clusters.
    pub fn count(&self) -> usize {
        self.group.iter().max().map_or(0, |m| m + 1)
    }

    /// Returns the benchmarks of a cluster, in the order of the tree.
    pub fn members(&self, group: usize) -> Vec<usize> {
        self.order.iter().copied().filter(|i| self.group.get(*i) == Some(&group)).collect()
    }
}

/// Clusters the benchmarks; `None`, with the reason in `left_out`, if a pair has no correlation.
pub(super) fn groups(
    matrix: &ScoreMatrix,
    r: &CorrelationMatrix,
    left_out: &mut Vec<String>,
) -> Option<BenchmarkClusters> {
    let benchmarks = matrix.benchmarks();
    let n = benchmarks.len();
    let mut distances = vec![vec![0.0; n]; n];
    for (i, row) in distances.iter_mut().enumerate() {
        for (j, slot) in row.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let Some(r) = r.at(i, j) else {
                let name = |i: usize| benchmarks.get(i).map_or("", |b| b.name.as_str());
                left_out.push(format!(
                    "no clusters: {} and {} have no correlation, because too few models have both scores",
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
    let categories = schema::in_display_order(benchmarks.iter().map(|b| &b.category));
    let (order, group) = cut(&merges, &names, categories.len().min(n));
    let place = |b: &BenchmarkLabel| categories.iter().position(|c| *c == b.category).unwrap_or(0);
    let agreement = adjusted_rand(&group, &benchmarks.iter().map(place).collect::<Vec<_>>());
    Some(BenchmarkClusters { merges, order, group, agreement })
}

/// A node that is not merged yet.
struct ClusterNode {
    /// Node number, as in [`ClusterMerge`].
    number: usize,
    /// Alphabetically first name of its members.
    first: String,
    size: usize,
    /// Distances to all nodes, by node number.
    to: Vec<f64>,
}

impl ClusterNode {
    fn distance(&self, other: &ClusterNode) -> f64 {
        self.to.get(other.number).copied().unwrap_or(f64::INFINITY)
    }
}

/// Returns the merges of average linkage; `names` break ties of distance.
pub fn average_linkage(distances: &[Vec<f64>], names: &[&str]) -> Vec<ClusterMerge> {
    let leaf = |(number, (to, name)): (usize, (&Vec<f64>, &&str))| ClusterNode {
        number,
        first: name.to_string(),
        size: 1,
        to: to.clone(),
    };
    let mut nodes: Vec<ClusterNode> = distances.iter().zip(names).enumerate().map(leaf).collect();
    let mut merges: Vec<ClusterMerge> = Vec::new();
    loop {
        // Nodes stay sorted by their first names, so the first of several nearest pairs is chosen in a tie.
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
        merges.push(ClusterMerge { a: a.number, b: b.number, distance, size: a.size + b.size });
        nodes.push(ClusterNode { number, first: a.first, size: a.size + b.size, to });
    }
}

/// Returns the order of the leaves, and the cluster of each leaf after undoing the last merges until `count` clusters
/// exist.
fn cut(merges: &[ClusterMerge], names: &[&str], count: usize) -> (Vec<usize>, Vec<usize>) {
    let n = names.len();
    // The leaves of every node, beginning with the half that has the first name.
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

/// Computes the adjusted Rand index of two partitions; 1 if both are trivial in the same way.
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
        // First 0 and 1 merge at 1, then 2 at (4 + 6) / 2, then 3 at (9 + 9 + 9) / 3.
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
