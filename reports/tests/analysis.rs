//! The benchmark analysis compared with SciPy and scikit-learn (`tests/reference/analysis.py`), and its invariants.

mod fixture;

use burgess_base::Category;
use burgess_reports::analysis::{BenchmarkLabel, CorrelationAnalysis, ScoreMatrix, analyse};
use burgess_reports::analysis::{conclusions, of_runs};
use burgess_reports::ranking::{RankOptions, rank};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeSet;

#[derive(Deserialize)]
struct Case {
    name: String,
    models: Vec<String>,
    benchmarks: Vec<String>,
    categories: Vec<usize>,
    scores: Vec<Vec<Option<f64>>>,
    pearson: Vec<Vec<Option<f64>>>,
    spearman: Vec<Vec<Option<f64>>>,
    counts: Vec<Vec<usize>>,
    complete: Vec<String>,
    explained: Vec<f64>,
    loadings: Vec<Vec<f64>>,
    places: Vec<Vec<f64>>,
    heights: Option<Vec<f64>>,
    sizes: Option<Vec<usize>>,
    labels: Option<Vec<usize>>,
    agreement: Option<f64>,
}

fn cases() -> Vec<Case> {
    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/analysis/analysis.json");
    burgess_base::atomic::read_json::<Golden>(std::path::Path::new(path)).unwrap().cases
}

fn benchmarks(names: &[String], categories: &[usize]) -> Vec<BenchmarkLabel> {
    let of =
        |(name, c): (&String, &usize)| BenchmarkLabel { name: name.clone(), category: Category::CAMBRIAN[*c].clone() };
    names.iter().zip(categories).map(of).collect()
}

impl Case {
    fn analysis(&self) -> CorrelationAnalysis {
        let matrix =
            ScoreMatrix::new(self.models.clone(), benchmarks(&self.benchmarks, &self.categories), self.scores.clone());
        analyse(&matrix.unwrap()).unwrap()
    }
}

fn close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-9, "{what}: {a} is not {b}");
}

#[test]
fn correlations_are_scipys_over_the_models_that_have_both() {
    for case in cases() {
        let found = case.analysis();
        assert_eq!(found.pearson.models, case.counts, "{}", case.name);
        for (ours, expected) in [(&found.pearson, &case.pearson), (&found.spearman, &case.spearman)] {
            for (i, row) in expected.iter().enumerate() {
                for (j, r) in row.iter().enumerate() {
                    assert_eq!(ours.at(i, j).is_some(), r.is_some(), "{} {i} {j}", case.name);
                    close(ours.at(i, j).unwrap_or(0.0), r.unwrap_or(0.0), &case.name);
                }
            }
        }
    }
}

#[test]
fn components_are_scikit_learns() {
    for case in cases() {
        let found = case.analysis().components.unwrap();
        assert_eq!(found.models, case.complete, "{}", case.name);
        assert_eq!(found.explained.len(), case.explained.len(), "{}", case.name);
        for (k, explained) in case.explained.iter().enumerate() {
            let what = format!("{}, component {k}", case.name);
            close(found.explained[k], *explained, &what);
            found.loadings[k].iter().zip(&case.loadings[k]).for_each(|(a, b)| close(*a, *b, &what));
            found.scores[k].iter().zip(&case.places[k]).for_each(|(a, b)| close(*a, *b, &what));
        }
    }
}

#[test]
fn groups_are_scipys() {
    let mut compared = 0;
    for case in cases() {
        let found = case.analysis().groups;
        let (Some(heights), Some(sizes), Some(labels)) = (&case.heights, &case.sizes, &case.labels) else {
            assert!(found.is_none(), "{}", case.name);
            continue;
        };
        let found = found.unwrap();
        for ((merge, height), size) in found.merges.iter().zip(heights).zip(sizes) {
            close(merge.distance, *height, &case.name);
            assert_eq!(merge.size, *size, "{}", case.name);
        }
        for (i, a) in labels.iter().enumerate() {
            for (j, b) in labels.iter().enumerate() {
                assert_eq!(found.group[i] == found.group[j], a == b, "{} {i} {j}", case.name);
            }
        }
        close(found.agreement, case.agreement.unwrap(), &case.name);
        compared += 1;
    }
    assert!(compared >= 3);
}

fn matrix(scores: &[Vec<Option<f64>>]) -> burgess_base::Result<ScoreMatrix> {
    let width = scores.first().map_or(0, Vec::len);
    let names: Vec<String> = (0..width).map(|i| format!("b{i}")).collect();
    let categories: Vec<usize> = (0..width).map(|i| i % 4).collect();
    ScoreMatrix::new(
        (0..scores.len()).map(|i| format!("m{i}")).collect(),
        benchmarks(&names, &categories),
        scores.to_vec(),
    )
}

fn full(rows: &[&[f64]]) -> Vec<Vec<Option<f64>>> {
    rows.iter().map(|r| r.iter().map(|v| Some(*v)).collect()).collect()
}

#[test]
fn too_little_is_said_and_not_computed() {
    let say = |rows: &[&[f64]]| analyse(&matrix(&full(rows)).unwrap()).unwrap_err();
    let error = say(&[&[1.0, 2.0], &[2.0, 1.0]]);
    assert!(error.to_string().contains("at least 3 models and 2 benchmarks that vary; found 2 and 2"), "{error}");
    assert!(error.hint_text().is_some());
    let error = say(&[&[1.0], &[2.0], &[3.0]]);
    assert!(error.to_string().contains("found 3 and 1"), "{error}");
    let error = say(&[&[1.0, 5.0], &[2.0, 5.0], &[3.0, 5.0]]);
    assert!(error.to_string().contains("found 3 and 1 (b1 has no variance"), "{error}");
    assert!(analyse(&matrix(&[]).unwrap()).is_err());
}

#[test]
fn hostile_matrices_are_refused() {
    let nan = vec![vec![Some(1.0), Some(f64::NAN)]];
    assert!(matrix(&nan).unwrap_err().to_string().contains("m0 on b1 is not finite"));
    let ragged = vec![vec![Some(1.0), Some(2.0)], vec![Some(1.0)]];
    assert!(matrix(&ragged).unwrap_err().to_string().contains("m1 has 1 score, but there are 2 benchmarks"));
    let twice = ScoreMatrix::new(vec!["m".into(), "m".into()], vec![], vec![vec![], vec![]]);
    assert!(twice.unwrap_err().to_string().contains("two models are called m"));
    let same = benchmarks(&["b".into(), "b".into()], &[0, 1]);
    assert!(ScoreMatrix::new(vec![], same, vec![]).unwrap_err().to_string().contains("two benchmarks are called b"));
    assert!(ScoreMatrix::new(vec!["m".into()], vec![], vec![]).is_err());
}

#[test]
fn a_benchmark_without_variance_is_left_out_by_name() {
    let rows = full(&[&[1.0, 7.0, 3.0], &[2.0, 7.0, 1.0], &[4.0, 7.0, 2.0]]);
    let found = analyse(&matrix(&rows).unwrap()).unwrap();
    assert_eq!(found.benchmarks.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["b0", "b2"]);
    assert_eq!(
        found.left_out,
        ["b1 has no variance over the models and correlates with no other benchmark".to_string()]
    );
}

#[test]
fn what_is_missing_is_counted() {
    let mut rows = full(&[&[1.0, 7.0, 3.0], &[2.0, 6.0, 1.0], &[4.0, 9.0, 2.0], &[3.0, 1.0, 8.0], &[5.0, 2.0, 4.0]]);
    rows[0][1] = None;
    rows[1][2] = None;
    rows[2][2] = None;
    let found = analyse(&matrix(&rows).unwrap()).unwrap();
    assert_eq!(found.pearson.models, [[5, 4, 3], [4, 4, 2], [3, 2, 3]]);
    assert_eq!(found.pearson.at(1, 2), None, "two models have both");
    assert!(found.components.is_none() && found.groups.is_none());
    assert!(found.left_out.iter().any(|w| w.contains("2 of 5 have them")), "{:?}", found.left_out);
    assert!(
        found
            .left_out
            .iter()
            .any(|w| w.starts_with("no clusters: b1 and b2 have no correlation, because too few models have both"))
    );
}

#[test]
fn runs_say_what_their_benchmarks_measure() {
    let runs = fixture::runs(2, 80);
    let ranking = rank(&runs, &[], &RankOptions { replicates: 50, ..Default::default() }).unwrap();
    let sights = of_runs(&runs, &ranking).unwrap();
    assert_eq!(sights.len(), ranking.benchmarks.len());
    for s in &sights {
        let mean = |of: fn(&burgess_reports::ranking::ArmScore) -> f64| {
            let arms = ranking.compared();
            arms.iter().map(|a| of(&a.benchmarks[&s.benchmark])).sum::<f64>() / arms.len() as f64
        };
        close(s.enabled, mean(|s| s.score), &s.benchmark);
        close(s.blind.unwrap(), mean(|s| s.blind), &s.benchmark);
        let (gain, prior) = (s.gain.unwrap(), s.prior.unwrap());
        close(gain.value, mean(|s| s.score - s.blind), &s.benchmark);
        close(prior.value, mean(|s| s.blind - s.chance), &s.benchmark);
        assert!(gain.se.unwrap() > 0.0 && prior.se.unwrap() > 0.0 && s.above_chance.is_some());
    }
    assert!(!conclusions(&sights).is_empty());
}

/// Matrices of 3 to 9 models and 2 to 7 benchmarks, some scores equal, some missing.
fn some_matrix() -> impl Strategy<Value = Vec<Vec<Option<f64>>>> {
    (3..10usize, 2..8usize).prop_flat_map(|(models, benchmarks)| {
        let score = prop_oneof![8 => (0..60u8).prop_map(|s| Some(f64::from(s) / 3.0)), 1 => Just(None)];
        prop::collection::vec(prop::collection::vec(score, benchmarks), models)
    })
}

proptest! {
    #[test]
    fn whatever_the_scores_nothing_is_out_of_range(scores in some_matrix()) {
        if let Ok(found) = analyse(&matrix(&scores).unwrap()) {
            for r in found.pearson.values.iter().chain(&found.spearman.values).flatten().flatten() {
                prop_assert!((-1.0..=1.0).contains(r));
            }
            for (i, row) in found.pearson.values.iter().enumerate() {
                for (j, r) in row.iter().enumerate() {
                    prop_assert_eq!(*r, found.pearson.at(j, i));
                    prop_assert!(i != j || r.is_none_or(|r| (r - 1.0).abs() < 1e-12));
                }
            }
            if let Some(c) = &found.components {
                prop_assert!((c.explained.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                prop_assert!(c.loadings.iter().flatten().all(|l| l.abs() <= 1.0 + 1e-9));
                for i in 0..c.benchmarks.len() {
                    let communality: f64 = c.loadings.iter().map(|l| l[i] * l[i]).sum();
                    prop_assert!((communality - 1.0).abs() < 1e-9);
                }
            }
            if let Some(g) = &found.groups {
                let categories: BTreeSet<&Category> = found.benchmarks.iter().map(|b| &b.category).collect();
                prop_assert_eq!(g.count(), categories.len());
                prop_assert!(g.agreement <= 1.0 && g.agreement >= -1.0);
                prop_assert!(g.merges.windows(2).all(|w| w[0].distance <= w[1].distance + 1e-12));
                let mut order = g.order.clone();
                order.sort_unstable();
                prop_assert_eq!(order, (0..found.benchmarks.len()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_order_of_models_does_not_matter(scores in some_matrix(), turn in 1..9usize) {
        let mut turned = scores.clone();
        turned.rotate_left(turn % scores.len());
        if let (Ok(a), Ok(b)) = (analyse(&matrix(&scores).unwrap()), analyse(&matrix(&turned).unwrap())) {
            for (x, y) in a.pearson.values.iter().flatten().zip(b.pearson.values.iter().flatten()) {
                prop_assert_eq!(x.is_some(), y.is_some());
                prop_assert!((x.unwrap_or(0.0) - y.unwrap_or(0.0)).abs() < 1e-9);
            }
            let explained =
                |a: &CorrelationAnalysis| a.components.as_ref().map(|c| c.explained.clone()).unwrap_or_default();
            for (x, y) in explained(&a).iter().zip(explained(&b)) {
                prop_assert!((x - y).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn the_order_of_benchmarks_does_not_matter(scores in some_matrix(), turn in 1..7usize) {
        let m = matrix(&scores).unwrap();
        let mut names = m.benchmarks().to_vec();
        let turn = turn % names.len();
        names.rotate_left(turn);
        let mut turned = scores.clone();
        turned.iter_mut().for_each(|row| row.rotate_left(turn));
        let turned = ScoreMatrix::new(m.models().to_vec(), names, turned).unwrap();
        if let (Ok(a), Ok(b)) = (analyse(&m), analyse(&turned)) {
            // Compared by name: the clusters of the benchmarks, the distances of the merges, and the Rand index.
            let of = |a: &CorrelationAnalysis| a.groups.as_ref().map(|g| {
                let name = |i: &usize| a.benchmarks[*i].name.clone();
                let members = |k: usize| g.members(k).iter().map(name).collect();
                let groups: Vec<Vec<String>> = (0..g.count()).map(members).collect();
                (groups, g.merges.iter().map(|m| m.distance).collect::<Vec<_>>(), g.agreement)
            });
            prop_assert_eq!(of(&a), of(&b));
        }
    }
}
