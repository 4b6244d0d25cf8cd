//! A comparison as CSV, and as tables for Markdown and LaTeX.

use super::conclusion::about;
use super::content::{ArmComparison, Comparison, ScopeComparison, ScopeKind};
use super::questions::{AnswersOfSide, DifferingQuestion};
use crate::formatting::{self, signed};
use crate::sheet::{Sheet, SheetCell, SheetRow, csv_number, csv_text};

/// Columns of [`comparison_csv`].
const COLUMNS: &str = "a,b,scope,kind,category,score_a,score_b,difference,low,high,p,p_adjusted,separable,blind_a,blind_b,\
    blind_difference,blind_low,blind_high,won,lost,tied,both_right,only_a,only_b,both_wrong,mcnemar_p,questions,units,\
    seeds_a,seeds_b,standard_error,detectable,detect,power,questions_needed,seeds_needed";

/// Formats a comparison as CSV: one row per pair of arms and scope, scores and differences in percent.
pub fn comparison_csv(c: &Comparison) -> String {
    let mut text = format!("{COLUMNS}\n");
    for pair in &c.pairs {
        for s in &pair.scopes {
            text += &(csv_row(pair, s).join(",") + "\n");
        }
    }
    text
}

fn csv_row(pair: &ArmComparison, s: &ScopeComparison) -> Vec<String> {
    let number = |x: Option<f64>| x.map_or(String::new(), csv_number);
    let whole = |x: Option<u64>| x.map_or(String::new(), |n| n.to_string());
    let count = |n: Option<usize>| n.map_or(String::new(), |n| n.to_string());
    let binary = s.outcomes.binary;
    let power = s.power.as_ref();
    let mut cells = vec![
        csv_text(&pair.labels[0]),
        csv_text(&pair.labels[1]),
        csv_text(&s.scope),
        s.kind.as_str().to_string(),
        csv_text(s.category.as_ref().map_or("", |c| c.as_str())),
    ];
    cells.extend([s.a, s.b, s.difference, s.low, s.high, s.p, s.p_adjusted].map(csv_number));
    cells.push(s.separable.to_string());
    cells.extend([
        number(s.blind.map(|b| b.a)),
        number(s.blind.map(|b| b.b)),
        number(s.blind.map(|b| b.difference)),
        number(s.blind.map(|b| b.low)),
        number(s.blind.map(|b| b.high)),
    ]);
    cells.extend([s.outcomes.won, s.outcomes.lost, s.outcomes.tied].map(|n| n.to_string()));
    cells.extend([
        count(binary.map(|b| b.both_right)),
        count(binary.map(|b| b.only_a)),
        count(binary.map(|b| b.only_b)),
        count(binary.map(|b| b.both_wrong)),
        number(binary.and_then(|b| b.mcnemar_p)),
    ]);
    cells.extend([s.questions, s.units, pair.seeds[0].len(), pair.seeds[1].len()].map(|n| n.to_string()));
    cells.extend([
        number(power.map(|p| p.standard_error)),
        number(power.and_then(|p| p.detectable)),
        number(power.map(|p| p.detect)),
        number(power.and_then(|p| p.power)),
        whole(power.and_then(|p| p.questions_needed)),
        whole(power.and_then(|p| p.seeds_needed)),
    ]);
    cells
}

/// Formats the differing questions as CSV; several answers of several seeds are separated by line breaks.
pub fn questions_csv(c: &Comparison) -> String {
    let mut text =
        "a,b,benchmark,id,subtask,difference,score_a,score_b,question,target,answer_a,answer_b,blind_a,blind_b,\
        image\n"
            .to_string();
    for pair in &c.pairs {
        for q in &pair.questions {
            let answers = |side: &AnswersOfSide| csv_text(&side.answers.join("\n"));
            let blind = |side: &AnswersOfSide| csv_text(&side.blind_answers.join("\n"));
            let cells = [
                csv_text(&pair.labels[0]),
                csv_text(&pair.labels[1]),
                csv_text(&q.benchmark),
                csv_text(&q.id),
                csv_text(&q.subtask),
                csv_number(q.difference),
                csv_number(q.a.score),
                csv_number(q.b.score),
                csv_text(&q.question),
                csv_text(&q.target),
                answers(&q.a),
                answers(&q.b),
                blind(&q.a),
                blind(&q.b),
                csv_text(&q.image),
            ];
            text += &(cells.join(",") + "\n");
        }
    }
    text
}

/// Returns a comparison as tables for a paper: one per pair of arms and, if there are several, one of their averages
/// first; then the differing questions.
pub fn comparison_sheets(c: &Comparison) -> Vec<Sheet> {
    let mut sheets = Vec::new();
    if !c.is_single() {
        sheets.push(overview(c));
    }
    for pair in &c.pairs {
        sheets.push(of_pair(c, pair));
        if !pair.questions.is_empty() {
            sheets.push(of_questions(pair));
        }
    }
    sheets
}

fn caption(c: &Comparison, what: &str) -> String {
    let percent = 100.0 * c.options.confidence;
    format!(
        "{what} Differences in points with paired {percent:.0} % intervals; bold: separable (the interval excludes 0 and \
         Holm's adjusted p is below {:.2}).",
        1.0 - c.options.confidence
    )
}

fn overview(c: &Comparison) -> Sheet {
    let rows = c.pairs.iter().filter_map(|pair| {
        let s = pair.summary()?;
        let mut row = vec![SheetCell::from(super::terminal::arm_of(pair))];
        row.extend(score_cells(s));
        Some(row.into_iter().collect::<SheetRow>())
    });
    let header = ["arm", &c.a.name, &c.b.name, "difference", "interval", "p"].map(String::from).to_vec();
    Sheet {
        caption: caption(c, &format!("Average of every arm in {} and {}.", c.a.name, c.b.name)),
        label: format!("compare-{}-{}", c.a.name, c.b.name),
        header,
        texts: 1,
        groups: vec![rows.collect()],
        notes: vec![c.conclusion.clone()],
    }
}

/// Both scores, difference, interval and adjusted p.
fn score_cells(s: &ScopeComparison) -> Vec<SheetCell> {
    let difference = SheetCell { text: signed(s.difference), bold: s.separable };
    vec![
        formatting::score(s.a).into(),
        formatting::score(s.b).into(),
        difference,
        format!("{} to {}", signed(s.low), signed(s.high)).into(),
        p_cell(s.p_adjusted).into(),
    ]
}

/// Formats an adjusted p for a table.
pub(super) fn p_cell(p: f64) -> String {
    if p < 0.001 { "<0.001".to_string() } else { format!("{p:.3}") }
}

/// Formats what follows from the power in a scope: the detectable difference and the needed questions.
pub(super) fn power_cells(s: &ScopeComparison) -> [String; 2] {
    let power = s.power.as_ref();
    let detectable = power.and_then(|p| p.detectable).map_or("–".to_string(), |d| format!("{d:.1}"));
    [detectable, power.and_then(|p| p.questions_needed).map_or("–".to_string(), about)]
}

fn of_pair(c: &Comparison, pair: &ArmComparison) -> Sheet {
    let blind = pair.scopes.iter().any(|s| s.blind.is_some());
    let [a, b] = &pair.labels;
    let mut header =
        ["benchmark", a, b, "difference", "interval", "p", "won", "lost", "tied"].map(String::from).to_vec();
    header.extend(blind.then(|| "blind difference".to_string()));
    let detect = c.options.detect;
    header.extend(["detectable".to_string(), format!("questions for {detect}")]);
    let row = |s: &ScopeComparison| -> SheetRow {
        let mut row = vec![SheetCell::from(s.scope.clone())];
        row.extend(score_cells(s));
        row.extend([s.outcomes.won, s.outcomes.lost, s.outcomes.tied].map(|n| SheetCell::from(n.to_string())));
        row.extend(blind.then(|| SheetCell::from(s.blind.map_or("–".to_string(), |b| signed(b.difference)))));
        row.extend(power_cells(s).map(SheetCell::from));
        row.into_iter().collect()
    };
    let group = |kind: ScopeKind| pair.of_kind(kind).map(row).collect::<Vec<_>>();
    let what = format!("{a} compared with {b} on the same questions.");
    let mut notes = vec![pair.conclusion.clone(), pair.uncertainty.clone(), pair.power_note.clone()];
    notes.extend(pair.warnings.iter().map(|w| format!("Warning: {w}")));
    notes.extend(pair.not_compared.iter().map(|w| format!("Not compared: {w}.")));
    Sheet {
        caption: caption(c, &what),
        label: format!("compare-{a}-{b}"),
        header,
        texts: 1,
        groups: [ScopeKind::Average, ScopeKind::Category, ScopeKind::Benchmark].map(group).into(),
        notes: notes.into_iter().filter(|n| !n.is_empty()).collect(),
    }
}

fn of_questions(pair: &ArmComparison) -> Sheet {
    let [a, b] = &pair.labels;
    let row = |q: &DifferingQuestion| -> SheetRow {
        let answer = |side: &AnswersOfSide| excerpt(&side.answers.join(" / "), 60);
        [
            q.benchmark.clone(),
            q.id.clone(),
            excerpt(&q.question, 120),
            excerpt(&q.right(), 60),
            answer(&q.a),
            answer(&q.b),
        ]
        .into_iter()
        .map(SheetCell::from)
        .collect()
    };
    let group = |won: bool| pair.questions.iter().filter(|q| (q.difference > 0.0) == won).map(row).collect();
    Sheet {
        caption: format!("Questions on which {a} and {b} differ most."),
        label: format!("questions-{a}-{b}"),
        header: ["benchmark", "id", "question", "right", a, b].map(String::from).to_vec(),
        texts: 6,
        groups: vec![group(true), group(false)],
        notes: Vec::new(),
    }
}

/// Returns a text on one line, cut to some length.
pub(super) fn excerpt(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}
