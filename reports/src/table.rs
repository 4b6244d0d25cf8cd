//! Rankings in a terminal: a study's, and those of the published tables.

use crate::published::{Outcome, SCOPES, Standing, Standings, short};
use crate::ranking::{AVERAGE, RankedArm, Ranking};
use crate::stats;
use crate::words;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// Lines above, below and under the header, none between rows.
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// The ranking as a table of at most `width` columns, with chance and blind at its foot, and the conclusions below.
///
/// Columns: the interval of the rank, the arm, its average with half the width of the interval, the categories, the
/// average without the image, the probability of being best, the encoder's parameters and the training time; after the
/// average the published one, where an arm has one. `color` sets the first arm in bold and dims the foot; without it the
/// text has no escape codes.
pub fn ranking_table(r: &Ranking, width: usize, color: bool) -> String {
    let mut table = ruled(width, color);
    table.set_header(header(r));
    for arm in &r.arms {
        let bold = color && arm.rank == 1;
        table.add_row(row(r, arm).into_iter().map(|text| styled(text, bold.then_some(Attribute::Bold))));
    }
    table.add_row([""]);
    let interval_width = r.arms.iter().map(|a| interval(a).chars().count()).max().unwrap_or(0);
    for (name, of) in [("chance", foot(r, |s| s.chance)), ("blind (mean of arms)", foot(r, |s| s.blind))] {
        let mut cells = vec![String::new(), name.to_string()];
        cells.extend(of);
        // The average stands below the averages, not below their intervals.
        if let Some(average) = cells.get_mut(2) {
            average.push_str(&" ".repeat(interval_width));
        }
        if r.has_published() {
            cells.insert(3, String::new());
        }
        table.add_row(cells.into_iter().map(|text| styled(text, color.then_some(Attribute::Dim))));
    }
    align(&mut table);
    let mut text = table.trim_fmt();
    text.push_str("\n\n");
    for line in words::wrap(&r.uncertainty, width) {
        text.push_str(&format!("{line}\n"));
    }
    for sentence in &r.conclusions {
        for (i, line) in words::wrap(sentence, width.saturating_sub(2)).iter().enumerate() {
            text.push_str(&format!("{} {line}\n", if i == 0 { "-" } else { " " }));
        }
    }
    text
}

/// Models of each published table that are shown.
const SHOWN: usize = 5;

/// The best models of every published table, with the printed average beside the computed one, and what of the printed
/// numbers was reproduced.
pub fn published_tables(o: &Outcome, width: usize, color: bool) -> String {
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
        let mut said = format!("{}: {} of {} the same to the last digit", t.kind.name(), t.same, t.numbers);
        if t.within_rounding > 0 {
            said += &format!(", {} within the rounding of the columns", t.within_rounding);
        }
        if t.differ > 0 {
            said += &format!(", {} different (see the page)", t.differ);
        }
        for (i, line) in words::wrap(&said, width.saturating_sub(2)).iter().enumerate() {
            text.push_str(&format!("{} {line}\n", if i == 0 { "-" } else { " " }));
        }
    }
    text
}

/// The first models of a table.
fn best(standings: &Standings, width: usize, color: bool) -> String {
    let mut table = ruled(width, color);
    let mut names: Vec<String> = ["rank", "model", "average", "printed"].map(String::from).to_vec();
    names.extend(SCOPES.iter().skip(1).map(|c| in_two_lines(c)));
    table.set_header(names);
    for m in standings.models.iter().take(SHOWN) {
        let bold = color && m.rank.first() == Some(&Some(1));
        table.add_row(standing_row(m).into_iter().map(|text| styled(text, bold.then_some(Attribute::Bold))));
    }
    align(&mut table);
    table.trim_fmt() + "\n"
}

fn standing_row(m: &Standing) -> Vec<String> {
    let [rank, ..] = m.rank;
    let [printed, ..] = &m.printed;
    let mut means = m.computed.iter().map(|v| v.map_or("–".to_string(), |v| format!("{v:.2}")));
    let mut cells = vec![rank.map_or("–".to_string(), |r| r.to_string()), short(&m.model).to_string()];
    cells.extend(means.next());
    cells.push(printed.clone().unwrap_or("–".to_string()));
    cells.extend(means);
    cells
}

/// A table with its rules and its width.
fn ruled(width: usize, color: bool) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

/// Numbers to the right, the second column, which names things, to the left.
fn align(table: &mut Table) {
    for (i, column) in table.column_iter_mut().enumerate() {
        // A column of space lies between two columns anyway; the one text column gets a second.
        column.set_padding((0, u16::from(i == 1)));
        column.set_cell_alignment(if i == 1 { CellAlignment::Left } else { CellAlignment::Right });
    }
}

fn styled(text: String, attribute: Option<Attribute>) -> Cell {
    match attribute {
        Some(a) => Cell::new(text).add_attribute(a),
        None => Cell::new(text),
    }
}

fn header(r: &Ranking) -> Vec<String> {
    let mut names: Vec<String> = ["rank", "arm", "average"].map(String::from).to_vec();
    names.extend(r.has_published().then(|| "pub-\nlished".to_string()));
    names.extend(r.categories.iter().map(|c| in_two_lines(c)));
    names.extend(["blind", "p(best)", "params", "train\ns"].map(String::from));
    names
}

/// A category's name over two lines, broken near its middle after a space or hyphen.
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

fn row(r: &Ranking, arm: &RankedArm) -> Vec<String> {
    let mut cells = vec![
        words::range(arm.rank_low, arm.rank_high),
        arm.label.clone(),
        format!("{:.1}{}", arm.average.score, interval(arm)),
    ];
    cells.extend(r.has_published().then(|| arm.published.map_or(String::new(), |p| format!("{p:.2}"))));
    cells.extend(r.categories.iter().map(|c| arm.score(c).map_or(String::new(), |s| format!("{:.1}", s.score))));
    cells.extend([
        format!("{:.1}", arm.average.blind),
        words::probability(arm.p_best),
        words::big(arm.cost.encoder_params as f64),
        format!("{:.0}", arm.cost.train_seconds),
    ]);
    cells
}

/// Half the width of the average's interval, as it follows the average.
fn interval(arm: &RankedArm) -> String {
    format!(" ±{:.1}", arm.average.half_width())
}

/// Mean over the arms of something in the average and in each category.
fn foot(r: &Ranking, of: fn(&crate::ranking::Score) -> f64) -> Vec<String> {
    let scopes = std::iter::once(AVERAGE).chain(r.categories.iter().map(String::as_str));
    let mean = |scope: &str| stats::mean(&r.arms.iter().filter_map(|a| a.score(scope)).map(of).collect::<Vec<_>>());
    scopes.map(|s| mean(s).map_or(String::new(), |m| format!("{m:.1}"))).collect()
}
