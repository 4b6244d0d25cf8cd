//! Formulates what can and what cannot be concluded from a ranking, in short sentences.

use super::content::{AVERAGE, AnswerStats, ArmScore, PairTest, RankedArm, Ranking, TestFamily};
use crate::formatting::{count, list, p_value, percent, probability, short_list, signed};

/// Maximum number of names that are listed; further ones are counted.
pub(super) const MOST_NAMES: usize = 4;

pub(super) fn conclusions(r: &Ranking) -> Vec<String> {
    let mut said = Vec::new();
    if r.trained().next().is_none() {
        said.push("No trained arm was run, only baselines: there is nothing to rank.".to_string());
        said.extend(r.left_out.iter().map(|why| format!("{why}.")));
        said.extend(missing(r));
        return said;
    }
    said.extend(best_on_average(r));
    said.extend(best_by_category(r));
    said.extend(random(r));
    said.extend(no_range(r));
    said.extend(unfreezing(r));
    said.extend(blind(r));
    said.extend(chance(r));
    said.extend(below_chance(r));
    said.extend(stability(r));
    said.extend(r.left_out.iter().map(|why| format!("{why}.")));
    said.extend(missing(r));
    said.extend(limits(r));
    said
}

pub(super) fn label(r: &Ranking, arm: &str) -> String {
    r.arm(arm).map_or_else(|| arm.to_string(), |a| a.label.clone())
}

/// Returns the arms that are not separable from the leader of a scope.
fn tied_with_leader(r: &Ranking, scope: &str) -> Vec<String> {
    r.tests(TestFamily::Leader, scope).filter(|t| !t.separable).map(|t| label(r, &t.b)).collect()
}

fn best_on_average(r: &Ranking) -> Option<String> {
    let best = r.trained().next()?;
    let arms = r.trained().count();
    if arms == 1 {
        let only = if r.arms.len() == 1 { "the only arm" } else { "the only trained arm" };
        return Some(format!("{} is {only}: there is nothing to rank.", best.label));
    }
    if let Some(why) = no_order(r, AVERAGE) {
        return Some(format!("On average {why}."));
    }
    let tied = tied_with_leader(r, AVERAGE);
    let p_best = probability(best.place.map_or(0.0, |p| p.p_best));
    Some(if tied.is_empty() {
        format!("{} is best on average and separable from all other arms (p(best) {p_best}).", best.label)
    } else if tied.len() + 1 == arms {
        format!("{} leads on average (p(best) {p_best}), but no arm is separable from it.", best.label)
    } else {
        let (tied, n) = (short_list(&tied, MOST_NAMES), tied.len());
        let verb = if n == 1 { "is" } else { "are" };
        format!("{} leads on average (p(best) {p_best}), but {tied} {verb} not separable from it.", best.label)
    })
}

/// Returns why a scope gives no order: all arms have the same score, or none is separably above chance.
fn no_order(r: &Ranking, scope: &str) -> Option<String> {
    if r.all_equal(scope) {
        let score = r.trained().next().and_then(|a| a.score(scope)).map_or(0.0, |s| s.score);
        return Some(format!("all arms score {score:.1}, so they have no order"));
    }
    (r.beats_chance(scope) == Some(false))
        .then(|| "no arm is separably above chance, so the order of the arms has no meaning".to_string())
}

/// Formulates one sentence per category; categories with a clear winner are combined and come first.
fn best_by_category(r: &Ranking) -> Vec<String> {
    let arms = r.trained().count();
    if arms < 2 {
        return Vec::new();
    }
    let (mut clear, mut said) = (Vec::new(), Vec::new());
    for category in &r.categories {
        let Some(best) = r.order(category).first().map(|a| a.label.clone()) else { continue };
        if let Some(why) = no_order(r, category) {
            said.push(format!("On {category} {why}."));
            continue;
        }
        let tied = tied_with_leader(r, category);
        if tied.is_empty() {
            clear.push(format!("{best} on {category}"));
        } else if tied.len() + 1 == arms {
            said.push(format!("On {category} no arm is separable from the first, {best}."));
        } else if let [other] = tied.as_slice() {
            said.push(format!("{best} and {other} are not separable on {category}."));
        } else {
            let tied = short_list(&tied, MOST_NAMES);
            said.push(format!("{best} leads on {category}, but is not separable from {tied}."));
        }
    }
    if !clear.is_empty() {
        said.insert(0, format!("Best and separable from all other arms: {}.", list(&clear)));
    }
    said
}

/// Formulates whether the random baseline is below all arms, and in which categories.
fn random(r: &Ranking) -> Option<String> {
    let random = &r.arm(r.random.as_deref()?)?.label;
    let beaten_by_all = |scope: &str| {
        let mut tests = r.tests(TestFamily::Random, scope).peekable();
        tests.peek().is_some() && tests.all(PairTest::above)
    };
    let worst = |scope: &str| r.tests(TestFamily::Random, scope).map(|t| t.p_adjusted).fold(0.0, f64::max);
    let not_beating = |scope: &str| -> Vec<String> {
        r.tests(TestFamily::Random, scope).filter(|t| !t.above()).map(|t| label(r, &t.a)).collect()
    };
    r.tests(TestFamily::Random, AVERAGE).next()?;
    let mut said = if beaten_by_all(AVERAGE) {
        format!(
            "Every trained frozen arm is separably above the random baseline {random} on average (adjusted {})",
            p_value(worst(AVERAGE))
        )
    } else {
        let others = not_beating(AVERAGE);
        let verb = if others.len() == 1 { "is" } else { "are" };
        let others = short_list(&others, MOST_NAMES);
        format!("On average {others} {verb} not separably above the random baseline {random}")
    };
    let all: Vec<String> = r.categories.iter().filter(|c| beaten_by_all(c)).map(|c| c.to_string()).collect();
    if all.len() == r.categories.len() {
        said.push_str(" and in every category");
    } else if !all.is_empty() {
        said.push_str(&format!("; every such arm is separably above it on {}", list(&all)));
    }
    Some(said + ".")
}

/// Formulates where normalised scores are missing, and why.
fn no_range(r: &Ranking) -> Option<String> {
    let scopes = std::iter::once(AVERAGE).chain(r.categories.iter().map(|c| c.as_str()));
    let scopes = scopes.chain(r.benchmarks.iter().map(|b| b.name.as_str()));
    let failing = scopes.filter_map(|s| r.range(s)).filter(|t| !t.above());
    let said: Vec<String> = failing
        .map(|t| format!("{} ({} [{}, {}])", t.scope, signed(t.difference), signed(t.low), signed(t.high)))
        .collect();
    (!said.is_empty()).then(|| {
        format!(
            "Normalised scores are missing where the oracle is not separably above the random baseline: {}.",
            short_list(&said, 2 * MOST_NAMES)
        )
    })
}

fn unfreezing(r: &Ranking) -> Option<String> {
    let change = |t: &PairTest| {
        let verdict = if t.separable { "" } else { ", not separable from 0" };
        format!("{} by {} [{}, {}]{verdict}", label(r, &t.b), signed(t.difference), signed(t.low), signed(t.high))
    };
    let changes: Vec<String> = r.tests(TestFamily::Unfreezing, AVERAGE).map(change).collect();
    (!changes.is_empty()).then(|| format!("Unfreezing changes the average of {}.", changes.join("; of ")))
}

/// Formulates which arms do not gain from the image.
fn blind(r: &Ranking) -> Option<String> {
    let failing = |scope: &str| failing(r, scope, ArmScore::beats_blind);
    let average = failing(AVERAGE);
    let mut said = match average.len() {
        0 => "On average every arm scores separably higher with the image than without it".to_string(),
        n if n == r.trained().count() => {
            "On average no arm scores separably higher with the image than without it".to_string()
        }
        n => format!(
            "On average {} {} not score separably higher with the image than without it",
            short_list(&average, MOST_NAMES),
            if n == 1 { "does" } else { "do" }
        ),
    };
    let exceptions: Vec<String> = r.categories.iter().filter_map(|c| exception(r, c, &failing(c))).collect();
    if !exceptions.is_empty() && average.len() < r.trained().count() {
        said.push_str(&format!("; exceptions by category: {}", exceptions.join(", ")));
    }
    Some(said + ".")
}

/// Formats "Knowledge (clip, mae)" or "Knowledge (all arms)"; `None` if no arm fails.
fn exception(r: &Ranking, scope: &str, failing: &[String]) -> Option<String> {
    match failing.len() {
        0 => None,
        n if n == r.trained().count() => Some(format!("{scope} (all arms)")),
        _ => Some(format!("{scope} ({})", failing_names(failing))),
    }
}

fn failing_names(names: &[String]) -> String {
    if names.len() > MOST_NAMES { count(names.len(), "arm") } else { names.join(", ") }
}

fn failing(r: &Ranking, scope: &str, passes: fn(&ArmScore) -> bool) -> Vec<String> {
    let fails = |a: &&RankedArm| a.score(scope).is_some_and(|s| !passes(s));
    r.trained().filter(fails).map(|a| a.label.clone()).collect()
}

/// Formulates on which benchmarks arms are not shown to beat chance, without those below chance.
fn chance(r: &Ranking) -> Option<String> {
    let at_chance = |s: &ArmScore| s.beats_chance() || s.below_chance() || s.chance.is_nan();
    let parts: Vec<String> =
        r.benchmarks.iter().filter_map(|b| exception(r, &b.name, &failing(r, &b.name, at_chance))).collect();
    (!parts.is_empty()).then(|| format!("Not separably above chance: {}.", parts.join(", ")))
}

/// Formulates which scores are separably below chance, and what in the answers explains them.
fn below_chance(r: &Ranking) -> Option<String> {
    let below = |name: &str| -> Vec<(&RankedArm, Option<&AnswerStats>)> {
        let arms = r.trained().filter(|a| a.score(name).is_some_and(ArmScore::below_chance));
        arms.map(|a| (a, a.answers.get(name))).collect()
    };
    let part = |name: &str| -> Option<String> {
        let arms = below(name);
        if arms.is_empty() {
            return None;
        }
        if arms.len() > MOST_NAMES {
            let who = if arms.len() == r.trained().count() { "all arms".to_string() } else { count(arms.len(), "arm") };
            let answers = || arms.iter().filter_map(|(_, a)| *a);
            let unparsed = span(answers().map(AnswerStats::unparsed_share)).map(|s| format!(", {s} unparsed"));
            let most_frequent = span(answers().filter_map(|a| a.most_frequent.as_ref()).map(|c| c.share))
                .map(|s| format!(", {s} the same answer"));
            return Some(format!(
                "{name} ({who}{}{})",
                unparsed.unwrap_or_default(),
                most_frequent.unwrap_or_default()
            ));
        }
        let each = arms.iter().map(|(a, answers)| match answers {
            Some(answers) => format!("{}: {}", a.label, reasons(answers)),
            None => a.label.clone(),
        });
        Some(format!("{name} ({})", each.collect::<Vec<_>>().join("; ")))
    };
    let parts: Vec<String> = r.benchmarks.iter().filter_map(|b| part(&b.name)).collect();
    (!parts.is_empty())
        .then(|| format!("Separably below chance, with the answers that may explain it: {}.", parts.join(", ")))
}

/// Formats the explanation, such as "33.3 % unparsed, 61 % answer “B”".
fn reasons(answers: &AnswerStats) -> String {
    let unparsed = format!("{} unparsed", percent(answers.unparsed_share()));
    match &answers.most_frequent {
        Some(c) => format!("{unparsed}, {} answer “{}”", percent(c.share), burgess_base::text::excerpt(&c.answer, 24)),
        None => unparsed,
    }
}

/// Formats a range such as "7 %" or "3 to 7 %"; `None` for no values.
pub(super) fn span(shares: impl Iterator<Item = f64>) -> Option<String> {
    let (least, most) = shares.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), s| (l.min(s), m.max(s)));
    if least > most {
        return None;
    }
    let (least, most) = (percent(least), percent(most));
    Some(if least == most { most } else { format!("{least} to {most}") })
}

fn stability(r: &Ranking) -> Option<String> {
    let s = r.stability.as_ref()?;
    let seeds = r.arms.iter().map(|a| a.seeds.len()).max().unwrap_or(0);
    let first = if s.same_best { "the same arm is first with each" } else { "the first arm differs between them" };
    Some(format!(
        "Agreement of {} on the order of the arms: mean Kendall τ {:.2}; {first}.",
        count(seeds, "seed"),
        s.tau
    ))
}

fn missing(r: &Ranking) -> Option<String> {
    let each: Vec<String> =
        r.missing.iter().map(|m| format!("{} seed {} ({})", m.arm, m.seed, brief(&m.cause))).collect();
    (!each.is_empty()).then(|| format!("Missing runs, not part of this ranking: {}.", short_list(&each, 3)))
}

/// Returns the first line of a cause, shortened; the report has the whole text.
fn brief(cause: &str) -> String {
    let line = cause.lines().next().unwrap_or("").trim_end_matches('.');
    if line.chars().count() <= 60 {
        return line.to_string();
    }
    line.chars().take(57).collect::<String>() + "..."
}

/// Formulates the limits of the study's design.
fn limits(r: &Ranking) -> Option<String> {
    let once = r.arms.iter().filter(|a| a.seeds.len() < 2).count();
    if once == 0 {
        return None;
    }
    let who = if once == r.arms.len() {
        "Each arm has one seed".to_string()
    } else {
        format!("{} {} one seed", count(once, "arm"), if once == 1 { "has" } else { "have" })
    };
    Some(format!(
        "{who}: the intervals cover the choice of images, but not the randomness of training. Another seed may \
         change the order of close arms."
    ))
}
