//! The page sections on correlations between benchmarks and on what benchmarks measure.

use crate::analysis::{self, BenchmarkClusters, CorrelationAnalysis, PrincipalComponents, VisionShare};
use crate::figure::{self, Point, category_class};
use crate::formatting;
use crate::ranking::Ranking;
use crate::schema::in_display_order;
use burgess_base::Category;
use serde::Serialize;

/// The values that fill `templates/analysis.html`.
#[derive(Serialize)]
pub(super) struct AnalysisSection {
    /// Number of models in words, such as "9 arms".
    over: String,
    map_broad: String,
    map_narrow: String,
    planes: Vec<String>,
    /// A phrase such as "the first two explain 70 % and 12 % of the variance"; empty without components.
    explained: String,
    groups: Option<ClusterSection>,
    /// Categories as (CSS class, name).
    categories: Vec<(String, Category)>,
    /// Kinds of models as (CSS class, name).
    kinds: Vec<(String, String)>,
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct ClusterSection {
    tree_broad: String,
    tree_narrow: String,
    agreement: String,
    /// The benchmarks of each cluster as (CSS class of the category, name).
    members: Vec<Vec<(String, String)>>,
}

/// Creates the section's content. `thing` is the word for a model, `kinds` are the CSS classes of models with their
/// names, and `class` returns that of one model.
pub(super) fn analysed(
    a: &CorrelationAnalysis,
    thing: &str,
    kinds: &[(&str, &str)],
    class: impl Fn(&str) -> String,
) -> AnalysisSection {
    let over = formatting::count(a.models.len(), thing);
    let map = |width: f64, where_: &str| {
        let title = format!("Correlations of the benchmarks over {over}{where_}");
        figure::correlation_map(a, width).inline(&title, &extremes(a))
    };
    let categories = in_display_order(a.benchmarks.iter().map(|b| &b.category));
    AnalysisSection {
        map_broad: map(860.0, ""),
        map_narrow: map(figure::PANEL, ", narrow"),
        planes: a.components.as_ref().map(|c| planes(c, thing, class)).unwrap_or_default(),
        explained: a.components.as_ref().map(explained).unwrap_or_default(),
        groups: a.groups.as_ref().map(|g| groups(a, g)),
        categories: categories.into_iter().map(|c| (category_class(&c), c)).collect(),
        kinds: kinds.iter().map(|(class, name)| (class.to_string(), name.to_string())).collect(),
        left_out: a.left_out.iter().map(|why| format!("{}.", formatting::capitalised(why))).collect(),
        over,
    }
}

/// Creates the section for the arms of a ranking.
pub(super) fn of_arms(a: &CorrelationAnalysis, r: &Ranking) -> AnalysisSection {
    let class = |label: &str| r.arms.iter().find(|a| a.label == label).map_or("random", |a| figure::kind(a).0);
    analysed(a, "arm", &figure::kinds(r), |label| class(label).to_string())
}

/// Describes the correlation map in words: the pairs with the highest and the lowest correlation.
fn extremes(a: &CorrelationAnalysis) -> String {
    let mut pairs: Vec<(f64, &str, &str)> = Vec::new();
    for (i, x) in a.benchmarks.iter().enumerate() {
        for (j, y) in a.benchmarks.iter().enumerate().skip(i + 1) {
            pairs.extend(a.pearson.at(i, j).map(|r| (r, x.name.as_str(), y.name.as_str())));
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let say = |p: Option<&(f64, &str, &str)>| p.map_or(String::new(), |(r, x, y)| format!("{x} and {y} ({r:.2})"));
    format!("Pearson's r is highest for {}, lowest for {}.", say(pairs.first()), say(pairs.last()))
}

fn explained(c: &PrincipalComponents) -> String {
    let shares: Vec<String> = c.explained.iter().take(2).map(|e| format!("{:.0} %", 100.0 * e)).collect();
    match shares.len() {
        0 => String::new(),
        1 => format!("the first explains {} of the variance", formatting::list(&shares)),
        _ => format!("the first two explain {} of the variance", formatting::list(&shares)),
    }
}

/// Draws the benchmarks by their loadings and the models by their scores; empty if there is only one component.
fn planes(c: &PrincipalComponents, thing: &str, class: impl Fn(&str) -> String) -> Vec<String> {
    let ([x, y, ..], [across, up, ..]) = (c.loadings.as_slice(), c.scores.as_slice()) else { return Vec::new() };
    let share = |i: usize| c.explained.get(i).map_or(String::new(), |e| format!(" ({:.0} %)", 100.0 * e));
    let (first, second) = (format!("component 1{}", share(0)), format!("component 2{}", share(1)));
    let about = [first.as_str(), second.as_str()];
    let points = |names: &mut dyn Iterator<Item = (String, String)>, x: &[f64], y: &[f64]| -> Vec<Point> {
        names.zip(x.iter().zip(y)).map(|((name, class), (x, y))| Point { name, class, x: *x, y: *y }).collect()
    };
    let benchmarks = points(&mut c.benchmarks.iter().map(|b| (b.name.clone(), category_class(&b.category))), x, y);
    let models = points(&mut c.models.iter().map(|m| (m.clone(), class(m))), across, up);
    let (of_benchmarks, of_models) = (
        "Benchmarks: correlation with the components",
        format!("{}s: scores on the components", formatting::capitalised(thing)),
    );
    [(of_benchmarks, benchmarks), (of_models.as_str(), models)]
        .into_iter()
        .map(|(title, points)| {
            let said: Vec<String> = points.iter().map(|p| format!("{} {:.2}, {:.2}", p.name, p.x, p.y)).collect();
            figure::plane(title, &points, about, figure::PANEL).inline(title, &said.join("; "))
        })
        .collect()
}

fn groups(a: &CorrelationAnalysis, g: &BenchmarkClusters) -> ClusterSection {
    let members = |group: usize| -> Vec<(String, String)> {
        let of = g.members(group).into_iter().filter_map(|i| a.benchmarks.get(i));
        of.map(|b| (category_class(&b.category), b.name.clone())).collect()
    };
    let members: Vec<Vec<(String, String)>> = (0..g.count()).map(members).collect();
    let said: Vec<String> = (1..)
        .zip(&members)
        .map(|(i, m)| {
            let names: Vec<String> = m.iter().map(|(_, name)| name.clone()).collect();
            format!("cluster {i}: {}", formatting::list(&names))
        })
        .collect();
    let tree = |width: f64, where_: &str| {
        figure::tree(a, g, width).inline(&format!("Tree of the benchmarks{where_}"), &said.join("; "))
    };
    ClusterSection {
        tree_broad: tree(700.0, ""),
        tree_narrow: tree(figure::PANEL, ", narrow"),
        agreement: format!("{:.2}", g.agreement).replace('-', "−"),
        members,
    }
}

/// The section on scores with the image, without it and at chance.
#[derive(Serialize)]
pub(super) struct VisionSection {
    said: Vec<String>,
    /// One panel per category.
    panels: Vec<String>,
}

/// Creates the sentences and panels.
pub(super) fn measured(sights: &[VisionShare]) -> VisionSection {
    let range = figure::vision_axis_range(sights);
    let panel = |category: Category| {
        let of: Vec<&VisionShare> = sights.iter().filter(|s| s.category == category).collect();
        let number = |n: Option<f64>| n.map_or("unknown".to_string(), |n| format!("{n:.1}"));
        let said: Vec<String> = of
            .iter()
            .map(|s| {
                format!(
                    "{} {:.1}, without the image {}, chance {}",
                    s.benchmark,
                    s.enabled,
                    number(s.blind),
                    number(s.chance)
                )
            })
            .collect();
        let title = format!("{category} with and without the image");
        figure::vision_panel(&category, &of, range).inline(&title, &said.join("; "))
    };
    let categories = in_display_order(sights.iter().map(|s| &s.category));
    VisionSection { said: analysis::conclusions(sights), panels: categories.into_iter().map(panel).collect() }
}
