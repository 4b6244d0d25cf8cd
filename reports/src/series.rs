//! Series of arms: arms that differ in one thing, such as the number of training conversations per source, shown as a
//! curve or as points beside each other.
//!
//! The study's TOML says which arms form a series ([`ArmSeries`]). Each arm is compared with the first of its line by
//! the ranking's paired test ([`TestFamily::Series`]).

use crate::answer_style::QuestionGroup;
use crate::formatting;
use crate::ranking::{AVERAGE, RankedArm, Ranking, TestFamily};
use crate::stats::Estimate;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Arms that differ in one thing, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ArmSeries {
    /// Title of the figure.
    pub title: String,
    /// What varies from arm to arm, below the horizontal axis.
    pub axis: String,
    /// Whether the horizontal axis is logarithmic. Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub logarithmic: bool,
    /// The arms, from left to right; the others are compared with the first of their line.
    pub points: Vec<SeriesPoint>,
}

/// An arm of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SeriesPoint {
    /// Name of the arm.
    pub arm: String,
    /// Its place on the horizontal axis. Default: the arms of a line stand beside each other at equal distances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
    /// Its name below the axis. Default: the number `x`, or the name of the arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The line to which it belongs, for series with several. Default: all arms are one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

impl ArmSeries {
    /// Checks the series of a study with these arms.
    ///
    /// # Errors
    /// A series has fewer than two points, names an arm that the study does not have, or has places for some of its
    /// arms only; the error names the series and the key.
    pub fn check(&self, arms: &[String]) -> Result<()> {
        let place = |e: Error| e.context(format!("[[series]] `{}`", self.title));
        if self.title.trim().is_empty() {
            return Err(place(Error::usage("`title` is empty").hint("say what the figure shows")));
        }
        if self.points.len() < 2 {
            return Err(place(
                Error::usage(format!("`points` has {} arms, expected at least 2", self.points.len()))
                    .hint("points = [{ arm = \"a\", x = 1.0 }, { arm = \"b\", x = 2.0 }]"),
            ));
        }
        if let Some(unknown) = self.points.iter().find(|p| !arms.contains(&p.arm)) {
            return Err(place(
                Error::usage(format!("`points`: the study has no arm called `{}`", unknown.arm))
                    .hint(format!("its arms: {}", arms.join(", "))),
            ));
        }
        if let Some(twice) = self.points.iter().enumerate().find_map(|(i, p)| {
            self.points.iter().take(i).any(|q| (&q.arm, &q.line) == (&p.arm, &p.line)).then_some(&p.arm)
        }) {
            return Err(place(Error::usage(format!("`points`: the arm {twice} is listed twice")).hint("name it once")));
        }
        let placed = self.points.iter().filter(|p| p.x.is_some()).count();
        if placed != 0 && placed != self.points.len() {
            return Err(place(
                Error::usage(format!("`x` is given for {placed} of {} points", self.points.len()))
                    .hint("give it for all points, or for none"),
            ));
        }
        let wrong = |x: f64| !x.is_finite() || (self.logarithmic && x <= 0.0);
        if let Some((arm, x)) = self.points.iter().filter_map(|p| Some((&p.arm, p.x?))).find(|(_, x)| wrong(*x)) {
            return Err(place(
                Error::usage(format!("`x` of {arm} is {x}"))
                    .hint("a place is a finite number, on a logarithmic axis above 0"),
            ));
        }
        Ok(())
    }

    /// Returns the arms of each line, in order.
    pub fn lines(&self) -> Vec<Vec<String>> {
        let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for point in &self.points {
            lines.entry(point.line.as_deref().unwrap_or_default()).or_default().push(point.arm.clone());
        }
        lines.into_values().collect()
    }
}

/// The scores of one arm of a series, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointScores {
    /// Name of the arm.
    pub arm: String,
    /// Its name below the axis.
    pub label: String,
    /// Its place on the horizontal axis.
    pub x: f64,
    /// Line to which it belongs; empty if there is one only.
    pub line: String,
    /// Number of seeds over which the scores are means.
    pub seeds: usize,
    /// Scores by scope: [`AVERAGE`] and the categories.
    pub scores: BTreeMap<String, Estimate>,
    /// Answers of one word, in percent, by group of open questions without a response-format prompt.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub one_word: BTreeMap<QuestionGroup, Estimate>,
    /// Mean number of words of the answers to these groups.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<QuestionGroup, f64>,
}

/// The groups of questions for which a series shows how the arms answer.
pub const SHOWN_GROUPS: [QuestionGroup; 2] = [QuestionGroup::Explanation, QuestionGroup::Free];

/// A series with the scores of its arms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesScores {
    /// Title of the figure.
    pub title: String,
    /// What varies from arm to arm.
    pub axis: String,
    /// Whether the places of arms are numbers on the axis, or only their order.
    pub numeric: bool,
    /// Whether the axis is logarithmic.
    pub logarithmic: bool,
    /// The arms with results, in order.
    pub points: Vec<PointScores>,
    /// Comparisons, and what is missing, as sentences.
    pub said: Vec<String>,
}

impl SeriesScores {
    /// Takes the scores of the arms of a series from a ranking; `None` if fewer than two have results.
    pub fn of(series: &ArmSeries, ranking: &Ranking) -> Option<Self> {
        let numeric = series.points.iter().all(|p| p.x.is_some());
        let mut points = Vec::new();
        let mut in_line: BTreeMap<&str, usize> = BTreeMap::new();
        for point in &series.points {
            let line = point.line.as_deref().unwrap_or_default();
            let place = in_line.entry(line).or_default();
            *place += 1;
            let Some(arm) = ranking.arm(&point.arm) else { continue };
            let x = point.x.unwrap_or(*place as f64);
            let label = point.label.clone().unwrap_or_else(|| match point.x {
                Some(x) => format!("{x}"),
                None => arm.row_name(),
            });
            let shapes = ranking.answer_style.as_ref().and_then(|style| style.arms.get(&arm.arm));
            let shapes = || {
                let groups = shapes.iter().flat_map(|style| &style.groups);
                groups.filter(|(group, _)| SHOWN_GROUPS.contains(group)).map(|(group, shape)| (*group, shape))
            };
            points.push(PointScores {
                arm: arm.arm.clone(),
                label,
                x,
                line: line.to_string(),
                seeds: arm.seeds.len(),
                scores: scores(arm, ranking),
                one_word: shapes().map(|(group, shape)| (group, shape.one_word)).collect(),
                words: shapes().map(|(group, shape)| (group, shape.words.mean)).collect(),
            });
        }
        let said = said(series, ranking, &points);
        (points.len() > 1).then_some(Self {
            title: series.title.clone(),
            axis: series.axis.clone(),
            numeric,
            logarithmic: series.logarithmic && numeric,
            points,
            said,
        })
    }

    /// Returns the lines in the order of their first points; one without a name if there is one only.
    pub fn lines(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = Vec::new();
        for point in &self.points {
            if !lines.contains(&point.line.as_str()) {
                lines.push(&point.line);
            }
        }
        lines
    }
}

/// The scores of an arm: average and categories.
fn scores(arm: &RankedArm, ranking: &Ranking) -> BTreeMap<String, Estimate> {
    let scopes = std::iter::once(AVERAGE).chain(ranking.categories.iter().map(|c| c.as_str()));
    let score = |scope: &str| {
        let s = arm.score(scope)?;
        Some((scope.to_string(), Estimate { value: s.score, low: s.low, high: s.high }))
    };
    scopes.filter_map(score).collect()
}

/// Compares the arms with the first of their line, by average and by category.
fn said(series: &ArmSeries, ranking: &Ranking, points: &[PointScores]) -> Vec<String> {
    let label = |arm: &str| points.iter().find(|p| p.arm == arm).map_or(arm, |p| p.label.as_str()).to_string();
    let mut said = Vec::new();
    let scopes = std::iter::once(AVERAGE).chain(ranking.categories.iter().map(|c| c.as_str()));
    for scope in scopes {
        for line in series.lines() {
            let Some(first) = line.first() else { continue };
            let tests = ranking.tests(TestFamily::Series, scope);
            let tests: Vec<_> = tests.filter(|t| t.b == *first && line.contains(&t.a)).collect();
            let separable: Vec<String> = tests
                .iter()
                .filter(|t| t.separable)
                .map(|t| {
                    let difference = formatting::signed(t.difference);
                    format!("{} by {difference} [{:.1}, {:.1}]", label(&t.a), t.low, t.high)
                })
                .collect();
            if tests.is_empty() {
                continue;
            }
            let what = if scope == AVERAGE { "On average" } else { scope };
            said.push(match separable.is_empty() {
                true => format!("{what}: no arm differs separably from {}.", label(first)),
                false => format!("{what}: separable from {}: {}.", label(first), formatting::list(&separable)),
            });
        }
    }
    for group in SHOWN_GROUPS {
        let answer = |p: &PointScores| {
            let (share, words) = (p.one_word.get(&group)?, p.words.get(&group)?);
            let PointScores { label, .. } = p;
            let Estimate { value, low, high } = share;
            Some(format!("{label} {value:.0} % [{low:.0}, {high:.0}], {words:.1} words"))
        };
        let answers: Vec<String> = points.iter().filter_map(answer).collect();
        if !answers.is_empty() {
            said.push(format!(
                "Answers of one word, and mean length ({}): {}.",
                group.name(),
                formatting::list(&answers)
            ));
        }
    }
    let missing: Vec<String> =
        series.points.iter().filter(|p| ranking.arm(&p.arm).is_none()).map(|p| p.arm.clone()).collect();
    if !missing.is_empty() {
        said.push(format!("Not shown, because no run of them is finished: {}.", formatting::list(&missing)));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(&str, Option<f64>)]) -> ArmSeries {
        let points =
            points.iter().map(|(arm, x)| SeriesPoint { arm: (*arm).to_string(), x: *x, label: None, line: None });
        ArmSeries { title: "T".into(), axis: "t".into(), logarithmic: true, points: points.collect() }
    }

    #[test]
    fn series_that_cannot_be_drawn_are_refused_with_their_key() {
        let arms = ["a", "b", "c"].map(String::from);
        assert!(series(&[("a", Some(1.0)), ("b", Some(2.0))]).check(&arms).is_ok());
        assert!(series(&[("a", None), ("b", None)]).check(&arms).is_ok());
        for (points, said) in [
            (vec![("a", None)], "`points` has 1 arms"),
            (vec![("a", None), ("d", None)], "no arm called `d`"),
            (vec![("a", None), ("a", None)], "listed twice"),
            (vec![("a", Some(1.0)), ("b", None)], "`x` is given for 1 of 2 points"),
            (vec![("a", Some(1.0)), ("b", Some(0.0))], "`x` of b is 0"),
            (vec![("a", Some(1.0)), ("b", Some(f64::NAN))], "`x` of b is NaN"),
        ] {
            let e = series(&points).check(&arms).expect_err(said);
            let told = e.chain().join(": ");
            assert!(e.exit_code() == 2 && e.hint_text().is_some(), "{told}");
            assert!(told.contains(said) && told.contains("[[series]] `T`"), "{told}");
        }
    }

    #[test]
    fn lines_keep_the_order_of_their_points() {
        let mut two = series(&[("a", None), ("b", None), ("c", None)]);
        two.points[1].line = Some("other".into());
        assert_eq!(two.lines(), [vec!["a", "c"], vec!["b"]]);
    }
}
