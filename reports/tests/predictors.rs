//! Tests of the agreement of predictors with rankings: against SciPy and scikit-learn
//! (`tests/reference/predictors.py`), and on the published tables.

mod fixture;

use burgess_base::stream::stream;
use burgess_reports::figure::predictors_svg;
use burgess_reports::predictors::published::PublishedPrediction;
use burgess_reports::predictors::{
    Agreement, ArmValue, Better, LeastSquares, Predictor, PredictorFamily, PredictorReport, PredictorValues, agreement,
    fisher_interval, permutation_p, predictors_text, published_text,
};
use burgess_reports::ranking::{RankOptions, rank};
use burgess_reports::schema::RunResults;
use burgess_reports::sheet;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    x: Vec<f64>,
    y: Vec<f64>,
    z: Option<Vec<f64>>,
    pearson: f64,
    spearman: f64,
    kendall: f64,
    fisher: (f64, f64),
    r2: f64,
    loo_r2: f64,
    p_greater: Option<f64>,
    p_two_sided: Option<f64>,
    quadratic_r2: Option<f64>,
    quadratic_loo_r2: Option<f64>,
}

fn close(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() <= 1e-6, "{what}: {ours}, expected {theirs}");
}

fn agree(x: &[f64], y: &[f64], better: Better) -> Result<Agreement, String> {
    let names: Vec<String> = (0..x.len()).map(|i| format!("arm {i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    agreement(&names, x, y, better, "test", (0, 500, 0.95))
}

#[test]
fn statistics_are_those_of_scipy_and_scikit_learn() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/stats/predictors.json");
    let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in &cases {
        let n = case.x.len();
        let a = agree(&case.x, &case.y, Better::Higher).unwrap();
        close(a.spearman.value, case.spearman, "Spearman");
        close(a.kendall.value, case.kendall, "Kendall");
        close(a.loo_r2.unwrap(), case.loo_r2, "leave-one-out R²");
        let fit = LeastSquares::fit(std::slice::from_ref(&case.x), &case.y).unwrap();
        close(fit.r2, case.r2, "R²");
        let (low, high) = fisher_interval(case.pearson, n, 0.95).unwrap();
        close(low, case.fisher.0, "Fisher's lower end");
        close(high, case.fisher.1, "Fisher's upper end");
        for (two_sided, theirs) in [(false, case.p_greater), (true, case.p_two_sided)] {
            if let Some(theirs) = theirs {
                close(permutation_p(&case.x, &case.y, two_sided, &mut stream("p", 0)), theirs, "permutation p");
            }
        }
        if let Some(z) = &case.z {
            let x = &case.x;
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f64>>();
            let columns = [x.clone(), z.clone(), product(x, x), product(x, z), product(z, z)];
            let fit = LeastSquares::fit(&columns, &case.y).unwrap();
            close(fit.r2, case.quadratic_r2.unwrap(), "R² of the quadratic");
            close(fit.loo_r2.unwrap(), case.quadratic_loo_r2.unwrap(), "leave-one-out R² of the quadratic");
        }
        // A predictor whose lower values are better is the same with its sign changed.
        let negated: Vec<f64> = case.x.iter().map(|x| -x).collect();
        let b = agree(&negated, &case.y, Better::Lower).unwrap();
        assert_eq!((a.spearman.value, a.p, &a.pick), (b.spearman.value, b.p, &b.pick));
    }
    assert!(cases.iter().any(|c| c.p_two_sided.is_some()) && cases.iter().any(|c| c.z.is_some()));
}

#[test]
fn a_predictor_picks_its_best_arm_and_ties_are_shared() {
    let y = [40.0, 50.0, 45.0, 60.0];
    let pick = |x: &[f64], better| agree(x, &y, better).unwrap().pick;
    let right = pick(&[1.0, 2.0, 3.0, 4.0], Better::Higher).unwrap();
    assert_eq!((right.arms, right.winner.as_str(), right.regret), (vec!["arm 3".to_string()], "arm 3", 0.0));
    let lower = pick(&[1.0, 2.0, 3.0, 4.0], Better::Lower).unwrap();
    assert_eq!((lower.arms, lower.regret), (vec!["arm 0".to_string()], 20.0));
    let tied = pick(&[1.0, 4.0, 3.0, 4.0], Better::Higher).unwrap();
    assert_eq!((tied.arms.len(), tied.regret), (2, 5.0));
    assert_eq!(pick(&[1.0, 2.0, 3.0, 4.0], Better::Unstated), None);
    let a = agree(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0], Better::Higher).unwrap();
    assert_eq!((a.kendall.value, a.p), (1.0, 1.0 / 24.0));
    assert!(agree(&[1.0, 2.0], &[1.0, 2.0], Better::Higher).is_err_and(|e| e.contains("at least 3")));
    assert!(agree(&[1.0; 4], &y, Better::Higher).is_err_and(|e| e.contains("same value")));
    // The regression on a point that alone differs is not determined without it.
    assert_eq!(agree(&[1.0, 1.0, 1.0, 4.0], &y, Better::Higher).unwrap().loo_r2, None);
}

fn predictor(id: &str, better: Better, values: Vec<ArmValue>) -> PredictorValues {
    let predictor = Predictor {
        id: id.to_string(),
        name: id.replace('-', " "),
        family: PredictorFamily::Probe,
        better,
        about: String::new(),
    };
    PredictorValues { predictor, values }
}

/// A study of eight trained arms and the random baseline, with predictors of all sorts.
fn report(ranked: bool) -> PredictorReport {
    let runs: Vec<RunResults> = fixture::runs(1, 40);
    let options = RankOptions { study: "nano".into(), replicates: 200, ..RankOptions::default() };
    let ranking = rank(&runs, &[], &options).unwrap();
    let mut arms: Vec<_> = ranking.arms.iter().map(|a| (a.arm.clone(), a.row_name(), a.role)).collect();
    arms.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<String> = arms.iter().map(|(name, ..)| name.clone()).collect();
    let score = |name: &str| ranking.arms.iter().find(|a| a.arm == name).unwrap().average.score;
    let of = |f: &dyn Fn(&str, f64) -> ArmValue| names.iter().map(|name| f(name, score(name))).collect::<Vec<_>>();
    let predictors = vec![
        predictor("linear-probe", Better::Higher, of(&|_, s| ArmValue::known(0.5 * s + 3.0, "thing 41.0"))),
        predictor(
            "align-loss",
            Better::Lower,
            of(&|name, s| ArmValue::known((name.len() as f64) * 0.1 - s / 900.0, "")),
        ),
        predictor("feature-std", Better::Unstated, of(&|name, _| ArmValue::known(1.0 + name.len() as f64, ""))),
        predictor("a-score", Better::Higher, of(&|_, _| ArmValue::missing("the study has no CLIP arm as reference"))),
        predictor(
            "c-score",
            Better::Higher,
            of(&|name, s| match name {
                "nano-clip" | "nano-random" | "nano-sup" => ArmValue::known(s, ""),
                _ => ArmValue::missing("the weights are not on this machine"),
            }),
        ),
    ];
    let notes = vec!["Probes: 40 images.".to_string()];
    PredictorReport::new("nano", &arms, predictors, ranked.then_some(&ranking), notes)
}

#[test]
fn a_report_shows_agreement_values_and_what_is_missing() {
    let report = report(true);
    let again: PredictorReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again.arms, report.arms);
    let linear = report.predictors[0].agreement.as_ref().unwrap();
    assert_eq!((linear.n, linear.kendall.value, linear.pick.as_ref().unwrap().regret), (8, 1.0, 0.0));
    assert!(report.predictors[3].agreement.is_none());
    assert!(report.predictors[4].no_agreement.as_ref().is_some_and(|why| why.contains("only 2")));
    for width in [80, 100, 140] {
        let text = predictors_text(&report, width, false);
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
    }
    insta::assert_snapshot!("terminal", predictors_text(&report, 100, false));
    let sheets = sheet::predictors_sheets(&report);
    assert_eq!(sheets.len(), 2);
    insta::assert_snapshot!("markdown", sheets.iter().map(sheet::markdown).collect::<Vec<_>>().join("\n"));
    assert!(sheet::latex(&sheets[0]).contains("\\label{tab:nano-predictors}"));
    insta::assert_snapshot!("csv", sheet::predictors_csv(&report));
    let svg = predictors_svg(&report);
    for text in ["Kendall's τ-b with the ranking", "linear probe", "align loss", "lower is better", "nano-sup"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(!svg.contains("NaN") && svg.ends_with("</svg>"));
}

#[test]
fn without_results_a_report_has_values_only() {
    let report = report(false);
    assert!(report.predictors.iter().all(|p| p.agreement.is_none()));
    let text = predictors_text(&report, 100, false);
    assert!(text.contains("linear probe"), "{text}");
    assert!(report.conclusions[0].contains("run the study first"), "{:?}", report.conclusions);
    assert!(!text.contains("Agreement with the ranking"), "{text}");
    assert_eq!(sheet::predictors_sheets(&report).len(), 1);
}

#[test]
fn linear_probes_correlate_with_the_published_scores_to_the_last_digit() {
    let published = PublishedPrediction::compute().unwrap();
    let shown: Vec<String> = published
        .tables
        .iter()
        .map(|t| {
            t.scopes.iter().map(|s| format!("{:.2} ({:.2})", s.pearson, s.spearman)).collect::<Vec<_>>().join(" | ")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "0.71 (0.62) | 0.81 (0.67) | 0.78 (0.71) | 0.51 (0.76) | 0.60 (0.59)",
            "0.79 (0.62) | 0.87 (0.76) | 0.64 (0.59) | 0.64 (0.50) | 0.82 (0.82)",
            "0.77 (0.68) | 0.83 (0.84) | 0.60 (0.60) | 0.65 (0.52) | 0.81 (0.77)",
            "0.76 (0.73) | 0.85 (0.82) | 0.73 (0.62) | 0.61 (0.53) | 0.78 (0.75)",
        ]
    );
    let (low, high) = published.tables[2].scopes[0].interval;
    assert_eq!(format!("{low:.2} {high:.2}"), "0.26 0.94");
    insta::assert_snapshot!("published", published_text(&published, 100, false));
    let sheet = sheet::published_prediction_sheet(&published);
    assert_eq!((sheet.header.len(), sheet.groups[0].len()), (6, 4));
    assert_eq!(sheet::published_prediction_csv(&published).lines().count(), 21);
}
