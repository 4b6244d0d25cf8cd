//! Valid ranges of the numbers of a finished run, which are checked on reading so that no report contains invalid
//! numbers.

use super::records::{Sample, TrainStep};
use serde_json::Value;

/// Maximum plausible cost, loss or rate.
const MOST: f64 = 1e15;
/// Tolerance for the rounding of weighted sums.
const SLACK: f64 = 1e-6;

/// Formats a number for a message, in scientific notation if it is very small or large.
fn plain(n: f64) -> String {
    if n == 0.0 || (1e-4..1e7).contains(&n.abs()) { n.to_string() } else { format!("{n:e}") }
}

/// Describes the first number of a `results.json` that is out of range: key, value and valid range. Fields that are
/// missing or of another type are left to the deserialiser; `null` for a score is out of range.
pub(crate) fn out_of_range(results: &Value) -> Option<String> {
    let number = |path: &str, value: Option<&Value>, low: f64, high: f64, optional: bool| -> Option<String> {
        let value = value?;
        match value {
            Value::Null if optional => None,
            // NaN is written as null by Burgess and Python's JSON converters.
            Value::Null => Some(format!("{path} is not a number, expected 0 to {}", plain(high.round()))),
            other => {
                let n = other.as_f64()?;
                (!(low..=high).contains(&n))
                    .then(|| format!("{path} is {}, expected 0 to {}", plain(n), plain(high.round())))
            }
        }
    };
    let percent = |path: String, value: Option<&Value>| number(&path, value, -SLACK, 100.0 + SLACK, false);
    let percent_if = |path: String, value: Option<&Value>| number(&path, value, -SLACK, 100.0 + SLACK, true);
    let measured = |path: String, value: Option<&Value>| number(&path, value, 0.0, MOST, true);

    let fields = |key: &str| results.get(key).and_then(Value::as_object).into_iter().flatten();
    for (name, r) in fields("results") {
        let at = |key: &str| format!("results.{name}.{key}");
        for key in ["score", "stderr", "blind"] {
            if let Some(problem) = percent(at(key), r.get(key)) {
                return Some(problem);
            }
        }
        if let Some(problem) = percent_if(at("chance"), r.get("chance"))
            .or_else(|| percent_if(at("likelihood"), r.get("likelihood")))
            .or_else(|| measured(at("judge.relative"), r.pointer("/judge/relative")))
            .or_else(|| measured(at("seconds"), r.get("seconds")))
            .or_else(|| number(&at("constant.share"), r.pointer("/constant/share"), 0.0, 1.0, false))
        {
            return Some(problem);
        }
        let count = |key: &str| r.get(key).and_then(Value::as_u64);
        if let (Some(n), Some(unparsed)) = (count("n"), count("n_unparsed"))
            && unparsed > n
        {
            return Some(format!("{} is {unparsed}, but there are {n} questions", at("n_unparsed")));
        }
        if let Some(problem) = units(r).map(|(i, what)| format!("{}[{i}] {what}", at("units"))) {
            return Some(problem);
        }
    }
    for (name, mean) in fields("categories") {
        if let Some(problem) = percent(format!("categories.{name}"), Some(mean)) {
            return Some(problem);
        }
    }
    let cost = |key: &str| measured(format!("cost.{key}"), results.get("cost").and_then(|c| c.get(key)));
    percent("average".into(), results.get("average"))
        .or_else(|| percent_if("run.published".into(), results.pointer("/run/published")))
        .or_else(|| cost("gflops_per_image"))
        .or_else(|| cost("train_seconds"))
        .or_else(|| cost("images_per_second"))
}

/// Returns the first unit whose points are out of range.
fn units(result: &Value) -> Option<(usize, String)> {
    let units = result.get("units").and_then(Value::as_array)?;
    units.iter().enumerate().find_map(|(i, unit)| {
        let number = |at: usize| unit.get(at).map(|v| v.as_f64().unwrap_or(f64::NAN));
        let [sum, weight, blind] = [number(1)?, number(2)?, number(3)?];
        if !(0.0..=MOST).contains(&weight) {
            return Some((i, format!("has weight {}, expected 0 to {MOST:e}", plain(weight))));
        }
        let fits = |points: f64| (-SLACK..=weight + SLACK * weight.max(1.0)).contains(&points);
        let wrong = [sum, blind].into_iter().find(|points| !fits(*points))?;
        Some((i, format!("has {} points, expected 0 to {weight}", plain(wrong))))
    })
}

/// Returns the problem in a line of `samples/*.jsonl`, if any.
pub(crate) fn sample_problem(sample: &Sample) -> Option<String> {
    let scores = [("score", sample.score), ("blind_score", sample.blind_score)];
    let fits = |score: f64| (-SLACK..=1.0 + SLACK).contains(&score);
    if let Some((key, score)) = scores.into_iter().find(|(_, score)| !fits(*score)) {
        return Some(format!("{key} is {}, expected 0 to 1", plain(score)));
    }
    let marks = sample.judge.as_ref()?.marks?;
    let mark = marks.into_iter().find(|mark| !(0.0..=10.0).contains(mark))?;
    Some(format!("judge.marks holds {}, expected 0 to 10", plain(mark)))
}

/// Returns the problem in a line of `train.jsonl`, if any.
pub(crate) fn step_problem(step: &TrainStep) -> Option<String> {
    let numbers = [("loss", step.loss), ("lr", step.lr), ("grad_norm", step.grad_norm), ("seconds", step.seconds)];
    let (key, value) = numbers.into_iter().find(|(_, v)| v.is_nan() || v.abs() > MOST)?;
    Some(format!("{key} is {value:e}, expected a number between -{MOST:e} and {MOST:e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absurd_numbers_are_named_by_their_key() {
        let good = json!({
            "results": {"mmvp": {"score": 10.0, "stderr": 1.0, "chance": 25.0, "blind": 0.0, "n": 4, "n_unparsed": 1,
                "seconds": null, "units": [["a", 1.0, 2.0, 0.0]]}},
            "categories": {"General": 3.0}, "average": 3.0, "run": {"published": 50.0},
            "cost": {"gflops_per_image": 1.0, "train_seconds": 3.0, "images_per_second": null}
        });
        assert_eq!(out_of_range(&good), None);
        for (pointer, value, said) in [
            ("/results/mmvp/score", json!(1e300), "results.mmvp.score is 1e300, expected 0 to 100"),
            ("/results/mmvp/score", json!(-1.0), "results.mmvp.score is -1"),
            ("/results/mmvp/blind", json!(null), "results.mmvp.blind is not a number"),
            ("/results/mmvp/chance", json!(101), "results.mmvp.chance is 101"),
            ("/results/mmvp/stderr", json!(1e9), "results.mmvp.stderr is"),
            ("/results/mmvp/seconds", json!(-3.0), "results.mmvp.seconds is -3"),
            ("/results/mmvp/n_unparsed", json!(5), "results.mmvp.n_unparsed is 5, but there are 4 questions"),
            ("/results/mmvp/units/0/1", json!(2.5), "results.mmvp.units[0] has 2.5 points, expected 0 to 2"),
            ("/results/mmvp/units/0/3", json!(null), "results.mmvp.units[0] has NaN points"),
            ("/results/mmvp/units/0/2", json!(-1.0), "results.mmvp.units[0] has weight -1"),
            ("/categories/General", json!(1e300), "categories.General is"),
            ("/average", json!(null), "average is not a number"),
            ("/run/published", json!(1e300), "run.published is"),
            ("/cost/train_seconds", json!(1e300), "cost.train_seconds is"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            let found = out_of_range(&bad).unwrap_or_default();
            assert!(found.starts_with(said), "{pointer}: {found}");
        }
    }
}
