//! Edit distance of ordered trees.

/// Computes the edit distance of two trees (Zhang and Shasha), where insertion and removal of a node cost 1, and
/// turning node i of `a` into node j of `b` costs `change(i, j)`. A tree is given by the leftmost leaf of every node,
/// in postorder.
pub(super) fn distance(a: &[usize], b: &[usize], change: impl Fn(usize, usize) -> f64) -> f64 {
    let columns = b.len() + 1;
    let mut trees = vec![0.0_f64; a.len() * b.len()];
    let mut forest = vec![0.0_f64; (a.len() + 1) * columns];
    for i in key_roots(a) {
        for j in key_roots(b) {
            let (Some(left_i), Some(left_j)) = (a.get(i), b.get(j)) else { continue };
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
                            let (Some(leaf), Some(other_leaf)) = (a.get(node), b.get(other)) else { continue };
                            let shift = (read(&forest, x - 1, y) + 1.0).min(read(&forest, x, y - 1) + 1.0);
                            let tree = node * b.len() + other;
                            if leaf == left_i && other_leaf == left_j {
                                let best = shift.min(read(&forest, x - 1, y - 1) + change(node, other));
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
fn key_roots(tree: &[usize]) -> Vec<usize> {
    let last = |at: &usize| !tree.iter().skip(at + 1).any(|leaf| Some(leaf) == tree.get(*at));
    (0..tree.len()).filter(last).collect()
}
