//! Rankings as terminal text: a study's, and those of the paper's tables.

use crate::answer_style::style_block;
use crate::check::ClaimVerdict;
use crate::formatting;
use crate::mlcd::{RecomputedMlcd, RecomputedMlcdModel};
use crate::paper::{RecomputedModel, RecomputedPaper, RecomputedTable, SCOPES, short};
use crate::ranking::{AVERAGE, ArmScore, NormalisedScore, RankedArm, Ranking};
use crate::stats;
use burgess_base::Category;
use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle};

/// Rules above, below and under the header, and none between rows.
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// Formats the ranking as a table of at most `width` columns, with chance, blind scores and the baselines at its foot,
/// normalised scores if the study has both baselines, and the conclusions below; then how the models answer open
/// questions, if some of them are asked without a request for a short answer.
///
/// Columns: confidence interval of the rank, arm, average with half the width of its interval (both ends if it is
/// asymmetric), published average if an arm has one, categories, percentage of unparsed answers, blind average,
/// probability of being best, encoder parameters and training time. Columns that do not fit are dropped from the right
/// and named below. `color` makes the first arm bold and dims the foot; without it the text has no escape codes,
/// whatever the results contain.
pub fn ranking_table(r: &Ranking, width: usize, color: bool) -> String {
    let mut columns = columns(r);
    let mut left_out = Vec::new();
    let mut table = table_of(r, &columns, None, color);
    for droppable in
        [TableColumn::Train, TableColumn::Params, TableColumn::PBest, TableColumn::Blind, TableColumn::Published]
    {
        if widest(&table) <= width {
            break;
        }
        if let Some(at) = columns.iter().position(|c| *c == droppable) {
            columns.remove(at);
            left_out.push(droppable.name().replace("-\n", "").replace('\n', " "));
            table = table_of(r, &columns, None, color);
        }
    }
    if widest(&table) > width {
        table = table_of(r, &columns, Some(width), color);
    }
    let mut text = table;
    text.push_str("\n\n");
    let mut paragraph =
        |first: &str, rest: &str, sentence: &str| paragraph_into(&mut text, width, first, rest, sentence);
    if !left_out.is_empty() {
        paragraph(
            "",
            "",
            &format!("Columns that do not fit this width: {} (the report shows them).", left_out.join(", ")),
        );
    }
    paragraph("", "", &r.uncertainty);
    if let Some(sentence) = average_of_own_categories(r) {
        paragraph("", "", &sentence);
    }
    if r.warnings.iter().chain(&r.conclusions).any(|s| s.contains("separabl")) {
        let alpha = 1.0 - r.confidence;
        paragraph(
            "",
            "",
            &format!(
                "Separable: the interval of the paired difference excludes 0 and the adjusted p of a paired test \
                 over the same images is below {alpha:.2}."
            ),
        );
    }
    if let Some(table) = normalised_table(r, width, color) {
        paragraph("", "", NORMALISED);
        text.push_str(&format!("\n{table}\n\n"));
    }
    let mut paragraph =
        |first: &str, rest: &str, sentence: &str| paragraph_into(&mut text, width, first, rest, sentence);
    for sentence in &r.warnings {
        paragraph("- ", "  ", &format!("Warning: {sentence}"));
    }
    for sentence in &r.conclusions {
        paragraph("- ", "  ", sentence);
    }
    // If every open question is asked for a short answer, its answers are short, and only the page shows them.
    if let Some(style) = r.answer_style.as_ref().filter(|style| style.questions.free > 0) {
        text.push_str(&format!("\n{}", style_block(style, &r.named_arms(), width, color)));
    }
    text
}

/// Appends a sentence, wrapped to `width`, with the prefix `first` on the first line and `rest` on the others.
pub(crate) fn paragraph_into(text: &mut String, width: usize, first: &str, rest: &str, sentence: &str) {
    for (i, line) in
        formatting::wrap(&formatting::escaped(sentence, false), width.saturating_sub(rest.len())).iter().enumerate()
    {
        text.push_str(&format!("{}{line}\n", if i == 0 { first } else { rest }));
    }
}

/// Name of the row with Kendall's τ.
const AGREEMENT: &str = "Kendall τ of seeds";

/// The line above the table of normalised scores.
const NORMALISED: &str = "Normalised scores in percent, from the random baseline (0) to the oracle baseline (100):";

/// Maximum length of an arm's name; longer ones are wrapped.
const LONGEST_NAME: usize = 28;

/// A column of the ranking table.
#[derive(Clone, PartialEq)]
enum TableColumn {
    Rank,
    Arm,
    Average,
    Published,
    Category(String),
    Unparsed,
    Blind,
    PBest,
    Params,
    Train,
}

impl TableColumn {
    fn name(&self) -> String {
        match self {
            TableColumn::Rank => "rank".into(),
            TableColumn::Arm => "arm".into(),
            TableColumn::Average => "average".into(),
            TableColumn::Published => "pub-\nlished".into(),
            TableColumn::Category(category) => in_two_lines(&formatting::escaped(category, false)),
            TableColumn::Unparsed => "unpar-\nsed %".into(),
            TableColumn::Blind => "blind".into(),
            TableColumn::PBest => "p(best)".into(),
            TableColumn::Params => "params".into(),
            TableColumn::Train => "train\ns".into(),
        }
    }

    fn of(&self, r: &Ranking, arm: &RankedArm) -> String {
        match self {
            TableColumn::Rank => arm.place.map_or(String::new(), |p| formatting::range(p.rank_low, p.rank_high)),
            TableColumn::Arm => formatting::wrap(&formatting::escaped(&arm.row_name(), false), LONGEST_NAME).join("\n"),
            TableColumn::Average => format!("{:.1}{}", arm.average.score, interval(arm)),
            TableColumn::Published => arm.published.map_or(String::new(), |p| format!("{p:.2}")),
            TableColumn::Category(c) => arm.score(c).map_or(String::new(), |s| format!("{:.1}", s.score)),
            TableColumn::Unparsed => match arm.unparsed_share() {
                share if share > 0.0 && share < 0.0005 => "<0.1".into(),
                share => format!("{:.1}", 100.0 * share),
            },
            TableColumn::Blind => format!("{:.1}", arm.average.blind),
            TableColumn::PBest => arm.place.map_or(String::new(), |p| match r.all_equal(AVERAGE) {
                true => "–".into(),
                false => formatting::probability(p.p_best),
            }),
            TableColumn::Params => formatting::with_suffix(arm.cost.encoder_params as f64),
            TableColumn::Train => formatting::measured(arm.cost.train_seconds, |s| format!("{s:.0}")),
        }
    }

    /// Returns the mean of a value over the compared arms, for the average and category columns.
    fn foot(&self, r: &Ranking, of: fn(&ArmScore) -> f64) -> Option<String> {
        let scope = match self {
            TableColumn::Average => AVERAGE,
            TableColumn::Category(c) => c,
            _ => return None,
        };
        let values: Vec<f64> = r.compared().iter().filter_map(|a| a.score(scope)).map(of).collect();
        stats::mean(&values).map(formatting::score)
    }
}

fn columns(r: &Ranking) -> Vec<TableColumn> {
    let mut columns = vec![TableColumn::Rank, TableColumn::Arm, TableColumn::Average];
    columns.extend(r.has_published().then_some(TableColumn::Published));
    columns.extend(r.categories.iter().map(|c| TableColumn::Category(c.to_string())));
    columns.extend([
        TableColumn::Unparsed,
        TableColumn::Blind,
        TableColumn::PBest,
        TableColumn::Params,
        TableColumn::Train,
    ]);
    columns
}

/// Formats the table alone, as wide as its content or, if `width` is given, with wrapped arm names.
fn table_of(r: &Ranking, columns: &[TableColumn], width: Option<usize>, color: bool) -> String {
    let mut table = ruled(width, color);
    table.set_header(columns.iter().map(TableColumn::name));
    for arm in r.trained() {
        let bold = color && arm.place.is_some_and(|p| p.rank == 1);
        table.add_row(columns.iter().map(|c| styled(c.of(r, arm), bold.then_some(Attribute::Bold))));
    }
    table.add_row([""]);
    let interval_width = r.arms.iter().map(|a| interval(a).chars().count()).max().unwrap_or(0);
    type Foot = (&'static str, fn(&ArmScore) -> f64);
    let feet: [Foot; 2] = [("chance", |s| s.chance), ("blind (mean of arms)", |s| s.blind)];
    for (name, of) in feet {
        let cell = |c: &TableColumn| match c {
            TableColumn::Arm => name.to_string(),
            // The value is aligned with the averages, not with their intervals.
            TableColumn::Average => c.foot(r, of).unwrap_or_default() + &" ".repeat(interval_width),
            _ => c.foot(r, of).unwrap_or_default(),
        };
        table.add_row(columns.iter().map(|c| styled(cell(c), color.then_some(Attribute::Dim))));
    }
    for arm in r.baselines() {
        table.add_row(columns.iter().map(|c| styled(c.of(r, arm), color.then_some(Attribute::Dim))));
    }
    if let Some(stability) = &r.stability {
        let cell = |c: &TableColumn| match c {
            TableColumn::Arm => AGREEMENT.to_string(),
            TableColumn::Average => formatting::correlation(stability.tau_in(AVERAGE)) + &" ".repeat(interval_width),
            TableColumn::Category(c) => formatting::correlation(stability.tau_in(c)),
            _ => String::new(),
        };
        table.add_row(columns.iter().map(|c| styled(cell(c), color.then_some(Attribute::Dim))));
    }
    align(&mut table, 1);
    if width.is_some() {
        // Only names are wrapped, never numbers.
        for (_, column) in table.column_iter_mut().enumerate().filter(|(i, _)| *i != 1) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt()
}

/// Formats the normalised scores with half the width of their intervals, for the average and the categories, with a
/// dash if missing. `None` for a study without both baselines.
fn normalised_table(r: &Ranking, width: usize, color: bool) -> Option<String> {
    if !r.has_range() || r.trained().next().is_none() {
        return None;
    }
    let scopes: Vec<&str> = std::iter::once(AVERAGE).chain(r.categories.iter().map(|c| c.as_str())).collect();
    let mut table = ruled(Some(width), color);
    let heads = scopes.iter().map(|s| in_two_lines(&formatting::escaped(s, false)));
    table.set_header(std::iter::once("arm".to_string()).chain(heads));
    for arm in r.trained() {
        let name = formatting::wrap(&formatting::escaped(&arm.label, false), LONGEST_NAME).join("\n");
        let score = |s: &&str| arm.score(s).and_then(|s| s.normalised).map_or("–".to_string(), |n| share(&n));
        table.add_row(std::iter::once(name).chain(scopes.iter().map(score)));
    }
    align(&mut table, 0);
    Some(table.trim_fmt())
}

/// Formats a normalised score as "41 ±4", or with both ends if the interval is asymmetric (one side more than twice
/// the other).
fn share(n: &NormalisedScore) -> String {
    let (below, above) = (n.value - n.low, n.high - n.value);
    if above.max(below) > 2.0 * above.min(below) + 1.0 {
        return format!(
            "{} {}–{}",
            formatting::integer(n.value),
            formatting::integer(n.low),
            formatting::integer(n.high)
        );
    }
    format!("{} ±{}", formatting::integer(n.value), formatting::integer((n.high - n.low) / 2.0))
}

/// Returns the terminal columns of the widest line, without escape codes.
pub(crate) fn widest(table: &str) -> usize {
    let mut widest = 0;
    for line in table.lines() {
        let (mut columns, mut escape) = (0, false);
        for c in line.chars() {
            match c {
                '\u{1b}' => escape = true,
                'm' if escape => escape = false,
                _ if escape => {}
                _ => columns += formatting::column_width(c),
            }
        }
        widest = widest.max(columns);
    }
    widest
}

/// Formats the verdicts on the claims of a study, one per row: claim, measurement, threshold, and whether it holds.
pub fn check_table(verdicts: &[ClaimVerdict], width: usize, color: bool) -> String {
    let mut table = ruled(Some(width), color);
    table.set_header(["claim", "measured", "threshold", "result"]);
    for v in verdicts {
        let state = if v.holds { "ok" } else { "FAILED" };
        let bold = (color && !v.holds).then_some(Attribute::Bold);
        let cells = [v.claim.as_str(), v.measured.as_str(), v.wanted.as_str(), state];
        table.add_row(cells.map(|text| styled(formatting::escaped(text, false).into_owned(), bold)));
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if i < 3 { 2 } else { 0 }));
        if i > 1 {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt() + "\n"
}

/// Says of which categories the average is the mean, if one of them is not a category of the Cambrian-1 paper.
fn average_of_own_categories(r: &Ranking) -> Option<String> {
    let averaged: Vec<&str> = r.categories.iter().filter(|c| c.is_averaged()).map(|c| c.as_str()).collect();
    let own = r.categories.iter().any(|c| c.is_averaged() && !Category::CAMBRIAN.contains(c));
    own.then(|| match averaged.as_slice() {
        [only] => format!("The average is the score of the category {only}."),
        several => format!("The average is the mean of the categories {}.", several.join(", ")),
    })
}

/// Number of models shown of each of the paper's tables.
const SHOWN: usize = 5;

/// Formats the best models of each of the paper's tables, with printed and computed averages, and how many printed
/// numbers were reproduced.
pub fn paper_tables(o: &RecomputedPaper, width: usize, color: bool) -> String {
    let mut text = String::new();
    for standings in &o.tables {
        text.push_str(&format!("{} ({}, {})\n", standings.about, standings.number, standings.file));
        text.push_str(&best(standings, width, color));
        match standings.models.len().saturating_sub(SHOWN) {
            0 => text.push('\n'),
            more => text.push_str(&format!("\n   and {more} more\n\n")),
        }
    }
    for t in &o.tallies {
        let mut said = format!("{}: {} of {} equal to the last printed digit", t.kind.name(), t.same, t.numbers);
        if t.within_rounding > 0 {
            said += &format!(", {} equal within the rounding of the columns", t.within_rounding);
        }
        if t.differ > 0 {
            said += &format!(", {} different (see the page)", t.differ);
        }
        for (i, line) in formatting::wrap(&said, width.saturating_sub(2)).iter().enumerate() {
            text.push_str(&format!("{} {line}\n", if i == 0 { "-" } else { " " }));
        }
    }
    text
}

/// Formats the first models of a table.
fn best(standings: &RecomputedTable, width: usize, color: bool) -> String {
    let mut table = ruled(Some(width), color);
    let mut names: Vec<String> = ["rank", "model", "average", "printed"].map(String::from).to_vec();
    names.extend(SCOPES.iter().skip(1).map(|c| in_two_lines(c)));
    table.set_header(names);
    for m in standings.models.iter().take(SHOWN) {
        let bold = color && m.rank.first() == Some(&Some(1));
        table.add_row(standing_row(m).into_iter().map(|text| styled(text, bold.then_some(Attribute::Bold))));
    }
    align(&mut table, 1);
    table.trim_fmt() + "\n"
}

fn standing_row(m: &RecomputedModel) -> Vec<String> {
    let [rank, ..] = m.rank;
    let [printed, ..] = &m.printed;
    let mut means = m.computed.iter().map(|v| v.map_or("–".to_string(), |v| format!("{v:.2}")));
    let mut cells = vec![rank.map_or("–".to_string(), |r| r.to_string()), short(&m.model).to_string()];
    cells.extend(means.next());
    cells.push(printed.clone().unwrap_or("–".to_string()));
    cells.extend(means);
    cells
}

/// Formats the encoder table of MLCD's README: means with the ranks of all encoders, printed scores, and what they can
/// show.
pub fn mlcd_table(o: &RecomputedMlcd, width: usize, color: bool) -> String {
    let mut table = ruled(Some(width), color);
    let mut names: Vec<String> = ["rank", "encoder"].map(String::from).to_vec();
    names.extend(o.scopes.iter().enumerate().map(|(i, s)| if i == 0 { "average".into() } else { in_two_lines(s) }));
    names.extend(o.columns.iter().map(|c| c.name.to_string()));
    table.set_header(names);
    for m in &o.models {
        let bold = color && m.ranks.first() == Some(&Some(1));
        table.add_row(mlcd_row(m).into_iter().map(|text| styled(text, bold.then_some(Attribute::Bold))));
    }
    align(&mut table, 1);
    let mut text = format!("{}\n\n", table.trim_fmt());
    for sentence in o.sentences() {
        for (i, line) in formatting::wrap(&sentence, width.saturating_sub(2)).iter().enumerate() {
            text.push_str(&format!("{} {line}\n", if i == 0 { "-" } else { " " }));
        }
    }
    text
}

fn mlcd_row(m: &RecomputedMlcdModel) -> Vec<String> {
    let [rank, ..] = m.ranks;
    let mut cells = vec![rank.map_or("–".to_string(), |r| r.to_string()), m.model.clone()];
    cells.extend(m.means.iter().map(|v| format!("{v:.2}")));
    cells.extend(m.printed.iter().cloned());
    cells
}

/// Creates a table with its rules; without a width it is as wide as its content.
pub(crate) fn ruled(width: Option<usize>, color: bool) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

/// Aligns numbers right and the column of names left.
pub(crate) fn align(table: &mut Table, names: usize) {
    for (i, column) in table.column_iter_mut().enumerate() {
        // Columns are already separated by a space; the column of names gets a second one.
        column.set_padding((0, u16::from(i == names)));
        column.set_cell_alignment(if i == names { CellAlignment::Left } else { CellAlignment::Right });
    }
}

pub(crate) fn styled(text: String, attribute: Option<Attribute>) -> Cell {
    match attribute {
        Some(a) => Cell::new(text).add_attribute(a),
        None => Cell::new(text),
    }
}

/// Breaks a category's name into two lines, near its middle after a space or hyphen.
fn in_two_lines(name: &str) -> String {
    if name.chars().count() < 10 {
        return name.to_string();
    }
    let places = name.char_indices().filter(|(_, c)| matches!(c, ' ' | '-')).map(|(i, _)| i + 1);
    match places.min_by_key(|i| i.abs_diff(name.len() / 2)) {
        Some(i) => format!("{}\n{}", name.get(..i).unwrap_or(name).trim_end(), name.get(i..).unwrap_or("")),
        None => name.to_string(),
    }
}

/// Formats the interval that follows the average: ± half its width, or both ends if it is asymmetric (one side more
/// than twice the other), as near 0.
fn interval(arm: &RankedArm) -> String {
    let a = &arm.average;
    let (below, above) = (a.score - a.low, a.high - a.score);
    if above.max(below) > 2.0 * above.min(below) + 0.1 {
        return format!(" {:.1}–{:.1}", a.low, a.high);
    }
    format!(" ±{:.1}", a.half_width())
}
