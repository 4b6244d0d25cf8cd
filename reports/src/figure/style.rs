//! Sizes, colour classes and legend texts shared by the figures.

use crate::ranking::{RankedArm, Ranking};
use crate::schema::ArmRole;
use burgess_base::Category;

/// Width of a panel in SVG units, about the width of a phone in CSS pixels.
pub(crate) const PANEL: f64 = 360.0;

/// The style sheet shared by all figures.
pub(crate) const STYLE: &str = include_str!("../../templates/figure.css");

/// Returns the colour class of a category; the four Cambrian-1 categories have their own, others share two.
pub(crate) fn category_class(category: &Category) -> String {
    let own = !Category::CAMBRIAN.contains(category);
    format!("c{}", category.rank() + if own { category.as_str().len() % 2 } else { 0 })
}

/// Returns the kind of an arm, which determines its colour, as CSS class and legend text.
pub(crate) fn kind(arm: &RankedArm) -> (&'static str, &'static str) {
    match arm.role {
        ArmRole::Random => return ("random", "random baseline"),
        ArmRole::Oracle => return ("oracle", "oracle baseline"),
        ArmRole::Trained => {}
    }
    if arm.freeze == "unfrozen" {
        ("unfrozen", "unfrozen")
    } else if arm.encoders.len() > 1 {
        ("combined", "combination")
    } else {
        ("frozen", "frozen")
    }
}

/// Returns the kinds that occur, in a fixed order, as (CSS class, name).
pub(crate) fn kinds(r: &Ranking) -> Vec<(&'static str, &'static str)> {
    let mut kinds: Vec<_> = r.arms.iter().map(|a| kind(a)).collect();
    let place = |k: &str| ["frozen", "combined", "unfrozen", "random", "oracle"].iter().position(|o| *o == k);
    kinds.sort_by_key(|(class, _)| place(class));
    kinds.dedup();
    kinds
}

/// Returns the CSS classes of the n-th line: eight colours solid, then dashed, then dotted.
pub(crate) fn line_class(n: usize) -> String {
    format!("line s{} d{}", n % 8, (n / 8) % 3)
}

/// Returns chance in a scope, which is the same for all arms.
pub(crate) fn chance(r: &Ranking, scope: &str) -> Option<f64> {
    r.arms.first().and_then(|a| a.score(scope)).map(|s| s.chance).filter(|c| c.is_finite())
}
