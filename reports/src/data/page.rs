//! The summary of training conversations as one self-contained HTML page: style sheet and images are embedded; no
//! script, no network. The text and its order are in `templates/data.html`.

use super::tables::{DataTable, facts, groups, languages, lengths, notes, percent, ratings, turns};
use super::{DataLengths, DataSample, DataSummary};
use crate::formatting::thousands;
use crate::page::template;
use base64::Engine;
use burgess_base::Result;
use serde::Serialize;

/// Number of sources that the page shows.
const SOURCES: usize = 300;

/// An image of a sample, or why it is not shown.
#[derive(Debug, Clone, PartialEq)]
pub struct DataImage {
    /// Size of the image in pixels: width, height.
    pub size: (u32, u32),
    /// A small JPEG of the image, or why there is none.
    pub jpeg: Result<Vec<u8>, String>,
}

#[derive(Serialize)]
struct PageValues<'a> {
    style: String,
    version: &'a str,
    title: &'a str,
    command: &'a str,
    facts: Vec<(String, String, String)>,
    notes: Vec<String>,
    charts: Vec<LengthChart>,
    tables: Vec<DataTable>,
    small: Vec<DataTable>,
    samples: Vec<ShownSample>,
}

/// Lengths of questions and answers side by side.
#[derive(Serialize)]
struct LengthChart {
    title: &'static str,
    bars: Vec<ChartBar>,
    none: &'static str,
}

#[derive(Serialize)]
struct ChartBar {
    label: String,
    count: String,
    share: String,
    /// Height in percent of the highest.
    height: f64,
    short: bool,
}

#[derive(Serialize)]
struct ShownSample {
    place: String,
    id: String,
    source: String,
    kind: String,
    images: Vec<ShownImage>,
    turns: Vec<ShownTurn>,
    left_out: (usize, usize),
}

#[derive(Serialize)]
struct ShownImage {
    name: String,
    data: String,
    size: String,
    problem: String,
}

#[derive(Serialize)]
struct ShownTurn {
    class: String,
    speaker: &'static str,
    text: String,
    /// Whether the text is long and first shown in part.
    long: bool,
    begin: String,
}

/// Renders the page. `images` are those of the samples: a list for each sample, in the order of its images.
///
/// # Errors
/// An error is returned if the template fails.
pub fn data_page(s: &DataSummary, title: &str, command: &str, images: &[Vec<DataImage>]) -> Result<String> {
    let style = format!("{}{}", template::style(), include_str!("../../templates/data.css"));
    let mut tables = vec![lengths(s)];
    if !s.kinds.is_empty() {
        tables.push(groups("Kinds of data", &s.kinds, s, SOURCES));
    }
    tables.push(groups("Sources", &s.sources, s, SOURCES));
    tables.extend(ratings(s));
    let none = Vec::new();
    let samples = s.samples.iter().enumerate();
    let values = PageValues {
        style,
        version: env!("CARGO_PKG_VERSION"),
        title,
        command,
        facts: facts(s),
        notes: notes(s),
        charts: vec![
            chart("Words in answers", "no answers", s.all.answer_words.as_ref()),
            chart("Words in questions", "no questions", s.all.question_words.as_ref()),
        ],
        tables,
        small: std::iter::once(turns(s)).chain(languages(s)).collect(),
        samples: samples.map(|(i, sample)| shown(sample, images.get(i).unwrap_or(&none))).collect(),
    };
    template::render("data.html", &values)
}

fn chart(title: &'static str, none: &'static str, lengths: Option<&DataLengths>) -> LengthChart {
    let bars = lengths.map(|l| l.bars.as_slice()).unwrap_or_default();
    let total: u64 = bars.iter().map(|b| b.count).sum();
    let highest = bars.iter().map(|b| b.count).max().unwrap_or(1).max(1);
    // Intervals without a text are shown too, so that the axis is that of the doublings.
    let last = bars.last().map_or(0, |b| b.from);
    let doublings = std::iter::successors(Some(1_u64), |from| Some(from * 2)).take_while(|from| *from <= last);
    let all = (last > 0 || bars.iter().any(|b| b.from == 0)).then_some(0).into_iter().chain(doublings);
    let bar = |from: u64| {
        let count = bars.iter().find(|b| b.from == from).map_or(0, |b| b.count);
        let to = (from * 2).saturating_sub(1);
        ChartBar {
            label: if to <= from { from.to_string() } else { format!("{from}–{to}") },
            count: thousands(count),
            share: percent(count, total),
            height: 100.0 * count as f64 / highest as f64,
            short: to <= 3,
        }
    };
    LengthChart {
        title,
        none,
        bars: all.filter(|from| *from > 0 || bars.iter().any(|b| b.from == 0)).map(bar).collect(),
    }
}

/// Number of characters from which a turn is first shown in part.
const LONG: usize = 700;

fn shown(sample: &DataSample, images: &[DataImage]) -> ShownSample {
    let image = |(i, name): (usize, &String)| {
        let read = images.get(i);
        let data = read.and_then(|image| image.jpeg.as_ref().ok());
        let data = data.map(|jpeg| base64::engine::general_purpose::STANDARD.encode(jpeg));
        let problem = match read.map(|image| &image.jpeg) {
            Some(Err(why)) => why.clone(),
            Some(Ok(_)) => String::new(),
            None => "not read".to_string(),
        };
        ShownImage {
            name: name.clone(),
            size: read.filter(|_| data.is_some()).map_or(String::new(), |i| format!("{} × {}", i.size.0, i.size.1)),
            data: data.map_or(String::new(), |data| format!("data:image/jpeg;base64,{data}")),
            problem,
        }
    };
    let turn = |(speaker, text): &(String, String)| {
        let end = text.char_indices().nth(LONG).map(|(at, _)| at);
        ShownTurn {
            class: speaker.clone(),
            speaker: match speaker.as_str() {
                "human" => "Question",
                "gpt" => "Answer",
                _ => "System",
            },
            text: text.clone(),
            long: end.is_some(),
            begin: end.and_then(|end| text.get(..end)).unwrap_or_default().to_string(),
        }
    };
    ShownSample {
        place: sample.place.clone(),
        id: sample.id.clone(),
        source: if sample.source.is_empty() { "no source stated".to_string() } else { sample.source.clone() },
        kind: sample.kind.clone().unwrap_or_default(),
        images: sample.images.iter().enumerate().map(image).collect(),
        turns: sample.turns.iter().map(turn).collect(),
        left_out: sample.left_out,
    }
}
