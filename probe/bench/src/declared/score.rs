//! How the verdicts on the questions of a benchmark file become its score and its further numbers.

use super::format::{NumberTable, OneOrMore, ScoreTable};
use super::template::Formula;
use crate::question::Question;
use crate::score::{ScoredItem, one_item_per_question};
use burgess_base::toml_error::WrongValue;
use burgess_base::{Error, Result};
use minijinja::value::{Serde, Value};
use std::collections::BTreeMap;

/// The aggregation of verdicts: grouping, weighting and selection.
#[derive(Debug)]
pub(super) struct Aggregation {
    all_right: Option<Formula>,
    size: Option<usize>,
    mean_of: Vec<Formula>,
    filter: Option<Formula>,
}

/// A further number beside the score.
#[derive(Debug)]
pub(super) struct FurtherNumber {
    name: String,
    aggregation: Aggregation,
    scale: Option<f64>,
    measure: Option<String>,
}

/// Returns the variables of expressions over a question.
pub(super) fn variables(q: &Question) -> Value {
    minijinja::context! {
        id => q.id.as_str(), unit => q.unit.as_str(), subtask => q.subtask.as_str(), image_id => q.image_id.as_str(),
        answer => q.answer.as_str(), row => q.row, facts => Value::from(Serde(&q.facts)),
        n_options => q.options.len(), n_images => q.images.len(),
    }
}

/// The names of these variables.
const VARIABLES: [&str; 9] = ["id", "unit", "subtask", "image_id", "answer", "row", "facts", "n_options", "n_images"];

/// Parses an expression over a question at `path` of the file.
pub(super) fn formula(path: &[&str], text: &str) -> Result<Formula, WrongValue> {
    let formula = Formula::expression(text).map_err(|e| WrongValue::new(path, e))?;
    match formula.variables().iter().find(|name| !VARIABLES.contains(&name.as_str())) {
        None => Ok(formula),
        Some(unknown) => Err(WrongValue::new(
            path,
            Error::failed(format!("the expression uses `{unknown}`, which is not known")).hint(format!(
                "the variables are {}; other values are `facts` of [columns.facts]",
                VARIABLES.join(", ")
            )),
        )),
    }
}

impl Aggregation {
    fn parse(
        path: &[&str],
        all_right: Option<&String>,
        mean_of: Option<&OneOrMore>,
        filter: Option<&String>,
    ) -> Result<Self, WrongValue> {
        let key = |name: &'static str| [path, &[name]].concat();
        Ok(Self {
            all_right: all_right.map(|text| formula(&key("all_right"), text)).transpose()?,
            size: None,
            mean_of: mean_of
                .map_or(&[][..], |texts| texts.texts())
                .iter()
                .map(|text| formula(&key("mean_of"), text))
                .collect::<Result<_, _>>()?,
            filter: filter.map(|text| formula(&key("where"), text)).transpose()?,
        })
    }

    /// Parses the table at `path` of the file.
    pub(super) fn of_score(path: &[&str], table: &ScoreTable) -> Result<Self, WrongValue> {
        if table.size.is_some() && table.all_right.is_none() {
            let message = "`size` is the number of questions of an `all_right` group, which is not given";
            return Err(WrongValue::new(&[path, &["size"]].concat(), Error::failed(message)));
        }
        if table.size == Some(0) {
            return Err(WrongValue::new(&[path, &["size"]].concat(), Error::failed("must be at least 1")));
        }
        let parsed = Self::parse(path, table.all_right.as_ref(), table.mean_of.as_ref(), table.filter.as_ref())?;
        Ok(Self { size: table.size, ..parsed })
    }

    /// Returns whether questions form groups that must be all right.
    pub(super) fn scores_groups(&self) -> bool {
        self.all_right.is_some()
    }

    /// Describes the aggregation in words, such as "accuracy over groups of questions".
    pub(super) fn describe(&self, what: &str) -> String {
        let mut text = match self.all_right {
            Some(_) => format!("{what}, all of a group"),
            None => what.to_string(),
        };
        if !self.mean_of.is_empty() {
            text += ", mean of groups";
        }
        text
    }

    /// Returns the scored items: one per question, or one per group that must be all right, weighted so that groups of
    /// a mean count equally. Items in `where`'s complement are reported only by subtask.
    ///
    /// # Errors
    /// An error is returned if a group has not as many questions as the file says, or if an expression fails.
    pub(super) fn items(&self, qs: &[Question], p: &[f64]) -> Result<Vec<ScoredItem>> {
        // Baselines aggregate all questions many times: most files need no expression for it.
        if self.all_right.is_none() && self.filter.is_none() && self.mean_of.is_empty() {
            return Ok(one_item_per_question(qs, p));
        }
        let mut items: Vec<(ScoredItem, Vec<String>)> = Vec::new();
        let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (q, p) in qs.iter().zip(p) {
            let variables = variables(q);
            if let Some(all_right) = &self.all_right {
                let key = all_right.render(&variables).map_err(|e| e.context("score.all_right"))?;
                if let Some((item, n)) = groups.get_mut(&key) {
                    *n += 1;
                    if let Some((item, _)) = items.get_mut(*item) {
                        item.score *= p;
                    }
                    continue;
                }
                groups.insert(key, (items.len(), 1));
            }
            let counted = match &self.filter {
                None => true,
                Some(filter) => filter.is_true(&variables).map_err(|e| e.context("score.where"))?,
            };
            let mut means = Vec::with_capacity(self.mean_of.len());
            for mean in &self.mean_of {
                means.push(mean.render(&variables).map_err(|e| e.context("score.mean_of"))?);
            }
            items.push((ScoredItem { counted, ..ScoredItem::new(q, *p) }, means));
        }
        if let Some(size) = self.size
            && let Some((key, (item, n))) = groups.iter().find(|(_, (_, n))| *n != size)
        {
            let unit = items.get(*item).map_or("", |(item, _)| item.unit.as_str());
            return Err(Error::failed(format!(
                "the group `{key}` (unit `{unit}`) has {n} question(s) instead of {size}"
            ))
            .hint("keep or drop all questions of a group; `score.all_right` in the benchmark file defines groups"));
        }
        Ok(weighted(items))
    }

    /// Returns the weighted mean of the counted items, 0 to 1; `None` if nothing counts.
    fn mean(&self, qs: &[Question], p: &[f64]) -> Result<Option<f64>> {
        let items = self.items(qs, p)?;
        // Floating-point sums depend on the order, so the terms are sorted first.
        let sum = |term: &dyn Fn(&ScoredItem) -> f64| {
            let mut terms: Vec<f64> = items.iter().filter(|item| item.counted).map(term).collect();
            terms.sort_by(f64::total_cmp);
            terms.into_iter().sum::<f64>()
        };
        let weight = sum(&|item| item.weight);
        Ok((weight > 0.0).then(|| sum(&|item| item.weight * item.score) / weight))
    }
}

/// Sets the weights of items so that at every level of the nested groups each group counts equally. Items that do not
/// count keep the weight 1.
fn weighted(items: Vec<(ScoredItem, Vec<String>)>) -> Vec<ScoredItem> {
    let counted: Vec<&Vec<String>> = items.iter().filter(|(item, _)| item.counted).map(|(_, means)| means).collect();
    // Number of distinct groups directly below each prefix of groups, and of items in each whole path.
    let mut below: BTreeMap<&[String], std::collections::BTreeSet<&str>> = BTreeMap::new();
    let mut leaves: BTreeMap<&[String], usize> = BTreeMap::new();
    for means in &counted {
        for (level, name) in means.iter().enumerate() {
            below.entry(means.get(..level).unwrap_or_default()).or_default().insert(name);
        }
        *leaves.entry(means.as_slice()).or_default() += 1;
    }
    let total = counted.len() as f64;
    let weight = |means: &Vec<String>| {
        let groups = |level| below.get(means.get(..level).unwrap_or_default()).map_or(1, |names| names.len()) as f64;
        let share: f64 = (0..means.len()).map(groups).product();
        total / share / leaves.get(means.as_slice()).copied().unwrap_or(1) as f64
    };
    let weights: Vec<f64> =
        items.iter().map(|(item, means)| if item.counted && !means.is_empty() { weight(means) } else { 1.0 }).collect();
    items.into_iter().zip(weights).map(|((item, _), weight)| ScoredItem { weight, ..item }).collect()
}

impl FurtherNumber {
    /// Parses number `index` of the list at `path`.
    pub(super) fn parse(path: &[&str], index: usize, table: &NumberTable) -> Result<Self, WrongValue> {
        let index = index.to_string();
        let path = [path, &["numbers", &index]].concat();
        if table.name.trim().is_empty() {
            return Err(WrongValue::new(&[&path[..], &["name"]].concat(), Error::failed("the name is empty")));
        }
        let aggregation =
            Aggregation::parse(&path, table.all_right.as_ref(), table.mean_of.as_ref(), table.filter.as_ref())?;
        Ok(Self { name: table.name.clone(), aggregation, scale: table.scale, measure: table.measure.clone() })
    }

    /// Returns the name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what is averaged instead of the score.
    pub(super) fn measure(&self) -> Option<&str> {
        self.measure.as_deref()
    }

    /// Computes the number; `default_scale` is what a perfect result is where the file does not say. Nothing is
    /// returned if no question counts.
    pub(super) fn value(&self, qs: &[Question], p: &[f64], default_scale: f64) -> Option<(String, f64)> {
        let mean = self.aggregation.mean(qs, p).ok()??;
        Some((self.name.clone(), mean * self.scale.unwrap_or(default_scale)))
    }
}
