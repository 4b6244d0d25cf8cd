//! Outlines of the things: pictograms parsed once from the embedded set, and plain shapes.

use std::collections::BTreeMap;
use std::f32::consts::PI;
use std::sync::LazyLock;

use resvg::tiny_skia::{FillRule, Mask, Path, PathBuilder, Rect, Transform};
use resvg::usvg;

use crate::facts::{self, THINGS};

/// Number of cells along each side of a coarse mask.
pub const GRID: usize = 24;

/// The outline of a thing, normalised so that its longer side is 1 and its middle is the origin.
pub struct Outline {
    /// Paths with their fill rules, filled in this order.
    pub parts: Vec<(Path, FillRule)>,
    /// Coarse mask: which of [`GRID`]×[`GRID`] cells of the square from −0.5 to 0.5 are covered, row by row.
    pub mask: Vec<bool>,
    /// Half the width and half the height.
    pub half: (f32, f32),
}

static OUTLINES: LazyLock<Vec<Outline>> = LazyLock::new(|| {
    let bodies: BTreeMap<String, String> =
        serde_json::from_str(include_str!("../assets/icons.json")).unwrap_or_default();
    let icons =
        THINGS.iter().take(facts::pictograms()).map(|t| bodies.get(&t.name).map(|b| parse(b)).unwrap_or_default());
    icons.chain((0..facts::SHAPES.len()).map(plain_shape)).map(normalise).collect()
});

/// Returns the outline of a thing.
pub fn outline(thing: u16) -> &'static Outline {
    &OUTLINES[thing as usize % OUTLINES.len()]
}

type Parts = Vec<(Path, FillRule)>;

/// Parses the paths of an SVG body with a view box of 32×32. A test checks that every embedded body parses.
fn parse(body: &str) -> Parts {
    let svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32">{}</svg>"#,
        body.replace("currentColor", "#000")
    );
    let mut parts = Vec::new();
    if let Ok(tree) = usvg::Tree::from_str(&svg, &usvg::Options::default()) {
        collect(tree.root(), &mut parts);
    }
    parts
}

/// Collects the filled paths. Clips and masks of the set only repeat the view box, so they are ignored.
fn collect(group: &usvg::Group, parts: &mut Parts) {
    for node in group.children() {
        match node {
            usvg::Node::Group(inner) => collect(inner, parts),
            usvg::Node::Path(path) => {
                if let (Some(fill), Some(data)) = (path.fill(), path.data().clone().transform(path.abs_transform())) {
                    let rule = match fill.rule() {
                        usvg::FillRule::NonZero => FillRule::Winding,
                        usvg::FillRule::EvenOdd => FillRule::EvenOdd,
                    };
                    parts.push((data, rule));
                }
            }
            _ => {}
        }
    }
}

fn polygon(points: &[(f32, f32)]) -> Option<Path> {
    let mut b = PathBuilder::new();
    for (i, &(x, y)) in points.iter().enumerate() {
        if i == 0 { b.move_to(x, y) } else { b.line_to(x, y) }
    }
    b.close();
    b.finish()
}

fn around(n: usize, radius: impl Fn(usize) -> f32, start: f32) -> Vec<(f32, f32)> {
    (0..n)
        .map(|i| {
            let angle = start + 2.0 * PI * i as f32 / n as f32;
            (radius(i) * angle.cos(), radius(i) * angle.sin())
        })
        .collect()
}

/// Returns the outline of a plain shape, given its index in [`facts::SHAPES`].
fn plain_shape(index: usize) -> Parts {
    let path = match index {
        0 => PathBuilder::from_circle(0.0, 0.0, 1.0),
        1 => Rect::from_xywh(-1.0, -1.0, 2.0, 2.0).map(PathBuilder::from_rect),
        2 => polygon(&around(3, |_| 1.0, -PI / 2.0)),
        3 => polygon(&around(10, |i| if i % 2 == 0 { 1.0 } else { 0.42 }, -PI / 2.0)),
        4 => {
            let (a, w) = (1.0, 0.34);
            polygon(&[
                (-w, -a),
                (w, -a),
                (w, -w),
                (a, -w),
                (a, w),
                (w, w),
                (w, a),
                (-w, a),
                (-w, w),
                (-a, w),
                (-a, -w),
                (-w, -w),
            ])
        }
        5 => {
            let mut b = PathBuilder::new();
            b.move_to(0.0, 0.95);
            b.cubic_to(-1.5, -0.15, -0.8, -1.25, 0.0, -0.5);
            b.cubic_to(0.8, -1.25, 1.5, -0.15, 0.0, 0.95);
            b.close();
            b.finish()
        }
        6 => polygon(&[(0.0, -1.0), (0.7, 0.0), (0.0, 1.0), (-0.7, 0.0)]),
        _ => polygon(&[(0.0, -1.0), (0.75, -0.1), (0.3, -0.1), (0.3, 1.0), (-0.3, 1.0), (-0.3, -0.1), (-0.75, -0.1)]),
    };
    path.map(|p| (p, FillRule::EvenOdd)).into_iter().collect()
}

fn normalise(parts: Parts) -> Outline {
    let mut bounds: Option<(f32, f32, f32, f32)> = None;
    for (path, _) in &parts {
        let b = path.compute_tight_bounds().unwrap_or_else(|| path.bounds());
        let (l, t, r, d) = bounds.unwrap_or((b.left(), b.top(), b.right(), b.bottom()));
        bounds = Some((l.min(b.left()), t.min(b.top()), r.max(b.right()), d.max(b.bottom())));
    }
    let (l, t, r, d) = bounds.unwrap_or((-0.5, -0.5, 0.5, 0.5));
    let scale = 1.0 / (r - l).max(d - t).max(1e-3);
    let at = Transform::from_translate(-(l + r) / 2.0, -(t + d) / 2.0).post_scale(scale, scale);
    let parts: Parts = parts.into_iter().filter_map(|(p, rule)| p.transform(at).map(|p| (p, rule))).collect();
    let mask = coarse(&parts);
    Outline { parts, mask, half: ((r - l) * scale / 2.0, (d - t) * scale / 2.0) }
}

fn coarse(parts: &Parts) -> Vec<bool> {
    let Some(mut mask) = Mask::new(GRID as u32, GRID as u32) else { return Vec::new() };
    let side = GRID as f32;
    for (path, rule) in parts {
        mask.fill_path(path, *rule, true, Transform::from_row(side, 0.0, 0.0, side, side / 2.0, side / 2.0));
    }
    mask.data().iter().map(|&a| a > 100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thing_has_an_outline_that_fills_its_square() {
        for (id, thing) in THINGS.iter().enumerate() {
            let o = outline(id as u16);
            assert!(!o.parts.is_empty(), "{}", thing.name);
            let (w, h) = o.half;
            assert!((w.max(h) - 0.5).abs() < 1e-3 && w.min(h) > 0.08, "{} {w} {h}", thing.name);
            assert!(o.mask.iter().filter(|m| **m).count() > 35, "{}", thing.name);
        }
    }
}
