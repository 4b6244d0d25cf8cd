//! The statements of table and page agree with the results: intervals near 0 and 100 %, what a benchmark measures,
//! scores below chance, unparsed answers, arms without an order.

mod fixture;

use burgess_base::stream::stream;
use burgess_reports::analysis::{self, MeasuredAbility, StudyAnalysis};
use burgess_reports::figure::ranking_svg;
use burgess_reports::ranking::{AVERAGE, RankOptions, Ranking, rank};
use burgess_reports::schema::{MostFrequentAnswer, RunResults};
use burgess_reports::stats;
use burgess_reports::table::ranking_table;
use fixture::{Made, made, yes_no};
use rand::RngExt;

fn ranked(runs: &[RunResults]) -> Ranking {
    rank(runs, &[], &RankOptions { study: "claims".into(), replicates: 400, ..Default::default() }).unwrap()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 0.01, "{a} is not {b}");
}

#[test]
fn wilsons_interval_is_that_of_the_tables() {
    // Brown, Cai and DasGupta 2001 and statsmodels' proportion_confint(method="wilson").
    for (p, n, low, high) in [
        (0.0, 60.0, 0.0, 0.060_172),
        (1.0, 20.0, 0.838_875, 1.0),
        (0.1, 10.0, 0.017_876, 0.404_150),
        (0.5, 40.0, 0.351_994, 0.648_006),
    ] {
        let (l, h) = stats::wilson(p, n, 0.95);
        assert!((l - low).abs() < 1e-5 && (h - high).abs() < 1e-5, "{p} {n}: {l} {h}");
    }
    assert!((stats::normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-8);
    assert!((stats::normal_quantile(0.001) + 3.090_232_306_167_813).abs() < 1e-8);
    assert_eq!(stats::wilson(0.3, 0.0, 0.95), (0.0, 1.0));
    assert_eq!(stats::effective_units(&[1.0; 60]), 60.0);
    assert_eq!(stats::effective_units(&[]), 0.0);
}

#[test]
fn the_interval_of_a_difference_of_shares_is_newcombes() {
    // Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10.
    for (a, m, b, n, low, high) in [(56.0, 70.0, 48.0, 80.0, 0.0524, 0.3339), (9.0, 10.0, 3.0, 10.0, 0.1705, 0.8090)] {
        let share = |correct: f64, n: f64| {
            let (low, high) = stats::wilson(correct / n, n, 0.95);
            (correct / n, low, high)
        };
        let (l, h) = stats::newcombe(share(a, m), share(b, n));
        assert!((l - low).abs() < 5e-5 && (h - high).abs() < 5e-5, "{l} {h}");
    }
}

#[test]
fn nothing_right_and_everything_right_are_not_certain() {
    let benchmarks: [Made; 2] = [("none", 0, 0.0, yes_no(60, 0, 0)), ("all", 3, 25.0, yes_no(20, 20, 0))];
    let r = ranked(&[made("a", 0, &benchmarks), made("b", 0, &benchmarks)]);
    let (none, all) = (r.arms[0].benchmarks["none"], r.arms[0].benchmarks["all"]);
    close(none.low, 0.0);
    close(none.high, 6.02);
    close(none.blind_high, 6.02);
    close(all.low, 83.89);
    close(all.high, 100.0);
    // 20 of 20 with the image and none without it: Wilson's interval bounds the share of images with another result.
    assert!(all.gain_low > 60.0 && all.gain_high == 100.0, "{all:?}");
    assert!(none.gain_low < -5.0 && none.gain_high > 5.0, "{none:?}");
    // The interval of the mean combines the halved distances of both benchmarks as a root of summed squares.
    let average = r.arms[0].average;
    close(average.score, 50.0);
    close(average.low, 50.0 - 16.11 / 2.0);
    close(average.high, 50.0 + 6.02 / 2.0);
    assert!(r.arms[0].categories["General"].high > 6.0);
    for test in &r.tests {
        assert!(test.low < 0.0 && test.high > 0.0 && !test.separable && test.p == 1.0, "{test:?}");
    }
    let table = ranking_table(&r, 100, false);
    assert!(!table.contains("±0.0"), "{table}");
    // Units that all have half of the points, and a single unit, have intervals of positive width too.
    for units in [vec![(0.5, 1.0, 0.0); 60], vec![(1.0, 1.0, 1.0)]] {
        let s = ranked(&[made("a", 0, &[("b", 0, 0.0, units)])]).arms[0].average;
        assert!(s.high - s.low > 5.0 && s.low >= 0.0 && s.high <= 100.0, "{s:?}");
    }
    // A second seed does not increase the number of images.
    let s = ranked(&[made("a", 0, &benchmarks), made("a", 1, &benchmarks)]).arms[0].benchmarks["none"];
    close(s.high, 6.02);
}

#[test]
fn away_from_the_edge_the_bootstrap_stays() {
    let r = ranked(&[made("a", 0, &[("b", 0, 0.0, yes_no(60, 30, 10))])]);
    let s = r.arms[0].benchmarks["b"];
    let column: Vec<f64> = yes_no(60, 30, 0).iter().map(|u| u.0).collect();
    let replicates = stats::bootstrap_ratio(&column, &[1.0; 60], 400, "bootstrap/units/b", 0).unwrap();
    let (low, high) = stats::interval(&replicates, 0.95);
    assert!((s.low - 100.0 * low).abs() < 1e-9 && (s.high - 100.0 * high).abs() < 1e-9);
}

/// Synthetic benchmarks with known truth: 95 % intervals cover it in at least 91 % of the cases, also near 0 and 100 %,
/// for independent questions and for correlated questions about one image.
#[test]
fn intervals_cover_the_truth_at_the_edge_too() {
    const WORLDS: u64 = 300;
    for (n, questions, together) in [(60, 1, 0.0), (20, 1, 0.0), (40, 3, 0.7), (250, 2, 0.5)] {
        for p in [0.0, 0.01, 0.5, 0.99, 1.0] {
            let covered = (0..WORLDS)
                .filter(|world| {
                    let mut rng = stream(&format!("edge/{n}/{questions}/{p}"), *world);
                    let units: Vec<(f64, f64, f64)> = (0..n)
                        .map(|_| {
                            let shared = rng.random::<f64>() < together;
                            let first = rng.random::<f64>() < p;
                            let right = (0..questions).filter(|_| if shared { first } else { rng.random::<f64>() < p });
                            (right.count() as f64, f64::from(questions), 0.0)
                        })
                        .collect();
                    let runs = [made("a", 0, &[("b", 0, 0.0, units)])];
                    let options = RankOptions { replicates: 200, seed: *world, ..Default::default() };
                    let s = rank(&runs, &[], &options).unwrap().arms[0].benchmarks["b"];
                    s.low <= 100.0 * p + 1e-9 && 100.0 * p - 1e-9 <= s.high
                })
                .count();
            let coverage = covered as f64 / WORLDS as f64;
            assert!(coverage >= 0.91, "p = {p}, {n} units of {questions}: {coverage}");
        }
    }
}

fn measures(runs: &[RunResults]) -> Vec<(String, MeasuredAbility)> {
    let sights = analysis::of_runs(runs, &ranked(runs)).unwrap();
    let said = analysis::conclusions(&sights);
    for s in &sights {
        let lists = said.iter().filter(|sentence| {
            let names = sentence.split(" measure").next().unwrap_or_default().split(" is ").next().unwrap_or_default();
            let names = names.split(" are ").next().unwrap_or_default().replace(" and ", ", ");
            names.split(", ").any(|name| name == s.benchmark)
        });
        assert_eq!(lists.count(), 1, "{} in exactly one of {said:#?}", s.benchmark);
    }
    sights.into_iter().map(|s| (s.benchmark, s.measures)).collect()
}

#[test]
fn a_benchmark_that_no_arm_beats_measures_nothing() {
    let arm = |name: &str, mmvp: usize, gqa: usize, sqa: (usize, usize), ocr: usize| {
        let benchmarks: [Made; 4] = [
            ("mmvp", 3, 25.0, yes_no(100, mmvp, 0)),
            ("gqa", 0, 0.0, yes_no(200, gqa, 5)),
            ("sqa", 1, 30.0, yes_no(300, sqa.0, sqa.1)),
            ("ocr", 2, 0.0, yes_no(100, ocr, 0)),
        ];
        made(name, 0, &benchmarks)
    };
    let of = |runs: &[RunResults]| -> Vec<MeasuredAbility> { measures(runs).into_iter().map(|(_, m)| m).collect() };
    // In the order of categories: gqa, sqa, ocr, mmvp. Every arm is below chance on mmvp, and has 1 % on ocr.
    let all_below = [arm("a", 4, 100, (200, 195), 1), arm("b", 14, 90, (190, 185), 1)];
    assert_eq!(
        of(&all_below),
        [MeasuredAbility::Vision, MeasuredAbility::Language, MeasuredAbility::Nothing, MeasuredAbility::Nothing]
    );
    // One arm above chance is enough; the share is computed from this arm.
    let one_above = [arm("a", 60, 100, (200, 195), 30), arm("b", 4, 0, (90, 90), 0), arm("c", 4, 0, (80, 90), 0)];
    assert_eq!(
        of(&one_above),
        [MeasuredAbility::Vision, MeasuredAbility::Language, MeasuredAbility::Vision, MeasuredAbility::Vision]
    );
    // Ties, a single arm, only wrong answers, and a negative gain from the image.
    assert_eq!(of(&[arm("a", 25, 0, (90, 90), 0), arm("b", 25, 0, (90, 90), 0)]), [MeasuredAbility::Nothing; 4]);
    assert_eq!(
        of(&[arm("a", 100, 0, (200, 250), 100)])[1..],
        [MeasuredAbility::Language, MeasuredAbility::Vision, MeasuredAbility::Vision]
    );
    // If chance of one benchmark is unknown, there is no statement about it, and the others are unaffected.
    let unknown = [made("a", 0, &[("b", 0, f64::NAN, yes_no(60, 30, 3)), ("c", 3, 25.0, yes_no(60, 50, 3))])];
    assert_eq!(of(&unknown), [MeasuredAbility::Unknown, MeasuredAbility::Vision]);
    let r = ranked(&unknown);
    let text = serde_json::to_string(&r).unwrap();
    assert!(text.contains("\"chance\":null") && serde_json::from_str::<Ranking>(&text).is_ok());
    let said = format!("{}{}", ranking_table(&r, 100, false), ranking_svg(&r));
    assert!(!said.contains("NaN") && !said.contains("Not separably above chance"), "{said}");
    assert_eq!(r.arms[0].categories["Vision-centric"].chance, 25.0);
    // With one unit, no standard error can be estimated.
    let one_unit = [made("a", 0, &[("b", 0, 0.0, vec![(1.0, 1.0, 0.0)])])];
    assert_eq!(measures(&one_unit)[0].1, MeasuredAbility::Unclear);
}

#[test]
fn scores_below_chance_say_why_and_are_not_merely_unproven() {
    let arm = |name: &str, right: usize, unparsed: usize, constant: Option<(&str, f64)>| {
        let benchmarks: [Made; 2] = [("mmvp", 3, 25.0, yes_no(100, right, 0)), ("gqa", 0, 0.0, yes_no(100, 50, 0))];
        let mut run = made(name, 0, &benchmarks);
        let result = run.results.get_mut("mmvp").unwrap();
        result.n_unparsed = unparsed;
        result.most_frequent_answer =
            constant.map(|(answer, share)| MostFrequentAnswer { answer: answer.into(), share });
        run
    };
    let runs = [
        arm("low", 4, 7, Some(("(a)", 0.93))),
        arm("old", 10, 0, None),
        arm("chance", 26, 5, None),
        arm("high", 60, 0, None),
    ];
    let r = ranked(&runs);
    let said = r.conclusions.join("\n");
    assert!(said.contains("Not separably above chance: mmvp (chance)."), "{said}");
    assert!(
        said.contains(
            "Separably below chance, with the answers that may explain it: mmvp (old: 0 % unparsed; low: 7 % unparsed, 93 % answer “(a)”)."
        ),
        "{said}"
    );
    // The warning applies above 5 %, not at 5 %.
    assert!(
        r.warnings
            .contains(&"more than 5 % of the answers could not be parsed and count as wrong: mmvp (low 7 %).".into()),
        "{:?}",
        r.warnings
    );
    let table = ranking_table(&r, 120, false);
    let row = |arm: &str| table.lines().find(|l| l.contains(arm)).unwrap().to_string();
    assert!(row(" low ").contains(" 3.5 ") && row(" high ").contains(" 0.0 "), "{table}");
}

#[test]
fn arms_that_are_all_equal_have_no_order() {
    let arm = |name: &str, ocr: usize, mmvp: usize| {
        let benchmarks: [Made; 3] = [
            ("ocr", 2, 0.0, yes_no(60, ocr, 0)),
            ("mmvp", 3, 25.0, yes_no(60, mmvp, 0)),
            ("gqa", 0, 0.0, yes_no(60, 30, 0)),
        ];
        made(name, 0, &benchmarks)
    };
    let said = ranked(&[arm("a", 0, 14), arm("b", 0, 15)]).conclusions.join("\n");
    assert!(said.contains("On OCR & Chart all arms score 0.0, so they have no order."), "{said}");
    assert!(said.contains("On General all arms score 50.0, so they have no order"), "{said}");
    assert!(
        said.contains("On Vision-centric no arm is separably above chance, so the order of the arms has no meaning."),
        "{said}"
    );
    assert!(!said.contains("On OCR & Chart no arm is separable"), "{said}");
    let same = ranked(&[arm("a", 0, 14), arm("b", 0, 14)]);
    assert!(same.conclusions[0].starts_with("On average all arms score"), "{:?}", same.conclusions);
    assert!(!same.conclusions.iter().any(|c| c.contains("leads") || c.contains("separable from")));
    assert!(same.all_equal(AVERAGE));
    let table = ranking_table(&same, 100, false);
    assert!(!table.contains("0.50"), "no probability of being best where nothing is: {table}");
}

#[test]
fn few_arms_say_nothing_of_how_benchmarks_agree() {
    let all = fixture::runs(1, 40);
    for (arms, shown) in [(1, false), (4, false), (7, false), (8, true)] {
        let runs = &all[..arms];
        let found = StudyAnalysis::of(runs, &ranked(runs)).unwrap();
        assert_eq!(found.analysis.is_some(), shown, "{arms}");
        let missing = found.missing.unwrap_or_default();
        assert_eq!(missing.contains("at least 8 arms"), !shown, "{missing}");
    }
}

/// Returns the x coordinate of the chance line of the first panel, and the ticks as (value, x).
fn chance_line(svg: &str) -> (f64, Vec<(f64, f64)>) {
    let number = |line: &str, key: &str| -> f64 {
        let rest = line.split(&format!("{key}=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let panel = svg.split("<g transform").nth(1).unwrap();
    let line = panel.lines().find(|l| l.contains("class=\"chance\"")).unwrap();
    let ticks = panel.lines().filter(|l| l.contains("class=\"soft small mid\"")).map(|l| {
        let text = l.split('>').nth(1).unwrap().split('<').next().unwrap();
        (text.replace('−', "-").parse().unwrap(), number(l, "x"))
    });
    (number(line, "x1"), ticks.collect())
}

#[test]
fn the_chance_line_is_at_chance() {
    for (right, chance) in [(4, 25.0), (14, 92.5), (95, 2.5), (0, 0.0), (60, 100.0)] {
        let r = ranked(&[made("a", 0, &[("mmvp", 3, chance, yes_no(100, right, 0))])]);
        let (x, ticks) = chance_line(&ranking_svg(&r));
        let ((v0, x0), (v1, x1)) = (ticks[0], ticks[ticks.len() - 1]);
        let expected = x0 + (chance - v0) / (v1 - v0) * (x1 - x0);
        assert!((x - expected).abs() < 0.2, "chance {chance} of {right} is drawn at {x}, not {expected}");
        assert!(v1 >= chance - 20.0 && ticks.iter().all(|(_, x)| *x <= 712.0));
    }
}

#[test]
fn a_table_is_no_wider_than_the_terminal() {
    let mut runs = fixture::runs(1, 30);
    runs[0].run.published = Some(44.25);
    runs[1].run.arm = "an-encoder-with-a-name-that-is-longer-than-any-terminal-line-and-has-no-space-anywhere".into();
    runs[2].run.arm = "日本語のエンコーダーの名前が長い場合".into();
    let r = ranked(&runs);
    for width in [60, 80, 90, 100, 120, 160, 200] {
        let text = ranking_table(&r, width, false);
        for line in text.lines() {
            let columns: usize = line.chars().map(|c| if ('\u{2e80}'..'\u{a4d0}').contains(&c) { 2 } else { 1 }).sum();
            assert!(columns <= width, "{columns} of {width}: {line}\n{text}");
        }
        for column in ["rank", "average", "General", "Knowledge", "unpar-"] {
            assert!(text.contains(column), "{column} at {width}:\n{text}");
        }
        let header: String = text.lines().take(3).collect();
        assert_eq!(text.contains("Columns that do not fit this width"), !header.contains("train"), "{text}");
    }
}

#[test]
fn nothing_in_a_name_steers_the_terminal_or_breaks_the_figure() {
    let name = "a\u{1b}[2J\u{202e}b\u{0}<&>\u{fffe}\n\u{9b}";
    let runs = [
        made(name, 0, &[("q\u{7}", 0, 25.0, yes_no(40, 5, 0))]),
        made("b", 0, &[("q\u{7}", 0, 25.0, yes_no(40, 30, 0))]),
    ];
    let r = ranked(&runs);
    let steers = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202e}' | '\u{fffe}'));
    let table = ranking_table(&r, 200, false);
    assert!(!table.contains(steers) && table.contains(r"a\x1b[2J\u{202e}b\x00<&>\u{fffe}\n\x9b"), "{table}");
    let svg = ranking_svg(&r);
    assert!(!svg.contains(steers) && svg.contains(r"a\x1b[2J\u{202e}b\x00&lt;&amp;&gt;"), "{svg}");
}
