//! Facts, tables and notes about training conversations, as text for terminal and page.

use super::{DataGroup, DataLengths, DataSummary};
use crate::formatting::{count, thousands};
use burgess_base::files::format_bytes;
use burgess_base::skipped::SkippedEntries;
use serde::Serialize;

/// A table: a name and cells in each row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DataTable {
    pub title: String,
    pub note: String,
    pub columns: Vec<String>,
    pub rows: Vec<DataRow>,
    /// Number of rows that are left out.
    pub more: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DataRow {
    pub name: String,
    pub cells: Vec<String>,
    /// Length of the row's bar in percent of the longest.
    pub bar: f64,
}

/// Formats a share as a percentage.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_string();
    }
    let share = 100.0 * part as f64 / whole as f64;
    match share {
        _ if part == 0 => "0".to_string(),
        s if s < 0.05 => "<0.1".to_string(),
        s if part < whole && s > 99.95 => ">99.9".to_string(),
        s => format!("{s:.1}"),
    }
}

/// Formats a length; quantiles beyond 128 are not exact, so they have three digits.
pub(super) fn length(value: f64) -> String {
    if value < 128.0 {
        return format!("{value:.0}");
    }
    let digits = value.log10().floor() as i32 - 2;
    let unit = 10_f64.powi(digits.max(0));
    thousands(((value / unit).round() * unit) as u64)
}

/// Returns label and value of the main facts.
pub(super) fn facts(s: &DataSummary) -> Vec<(String, String, String)> {
    let (all, mut facts) = (&s.all, Vec::new());
    let mut fact = |label: &str, value: String, note: String| facts.push((label.to_string(), value, note));
    let files = count(usize::try_from(s.files).unwrap_or(usize::MAX), "file");
    fact("conversations", thousands(all.conversations), format!("{files}, {}", format_bytes(s.stored)));
    let pairs = all.questions() as f64 / all.conversations.max(1) as f64;
    fact("questions", thousands(all.questions()), format!("{pairs:.1} per conversation"));
    fact("sources", thousands(s.sources.len() as u64), String::new());
    let missing = match (s.images_checked, all.missing) {
        (false, _) => String::new(),
        (true, 0) => ", none missing".to_string(),
        (true, n) => format!(", {} missing ({} %)", thousands(n), percent(n, all.images)),
    };
    let several = match all.several_images {
        0 => String::new(),
        n => format!(", {} % with several", percent(n, all.conversations)),
    };
    let shown = format!("{} % text only{several}{missing}", percent(all.text_only, all.conversations));
    fact("images", thousands(all.images), shown);
    let short = percent(all.short_answers, all.answers());
    fact("short answers", format!("{short} %"), format!("{} % one word", percent(all.one_word_answers, all.answers())));
    if let Some(words) = &all.answer_words {
        fact(
            "answer, median",
            format!("{} word{}", length(words.median), if words.median == 1.0 { "" } else { "s" }),
            format!("95 % up to {}", length(words.p95)),
        );
    }
    if let (Some(q), Some(a)) = (&all.question_tokens, &all.answer_tokens) {
        let supervised = percent(a.total, q.total + a.total);
        fact("tokens", thousands(q.total + a.total), format!("{supervised} % in answers"));
    }
    if s.system > 0 {
        let share = percent(s.system, all.conversations);
        fact("system turns", thousands(s.system), format!("{share} % of the conversations"));
    }
    facts
}

/// Makes the table of sources or kinds.
pub(super) fn groups(title: &str, groups: &[DataGroup], s: &DataSummary, most: usize) -> DataTable {
    let tokens = s.all.answer_tokens.is_some();
    let mut columns: Vec<&str> = vec!["conver-\nsations", "%", "short\nanswers %", "answer\nmedian"];
    columns.extend(["answer\n95 %", "question\nmedian", "questions\neach", "text\nonly %"]);
    if s.images_checked {
        columns.insert(2, "images\nmissing");
    }
    if tokens {
        columns.push("answer\ntokens");
    }
    let total = s.all.conversations;
    let longest = groups.iter().map(|g| g.conversations).max().unwrap_or(1).max(1);
    let median = |l: &Option<DataLengths>| l.as_ref().map_or("–".to_string(), |l| length(l.median));
    let row = |g: &DataGroup| {
        let mut cells = vec![
            thousands(g.conversations),
            percent(g.conversations, total),
            percent(g.short_answers, g.answers()),
            median(&g.answer_words),
            g.answer_words.as_ref().map_or("–".to_string(), |l| length(l.p95)),
            median(&g.question_words),
            match g.questions() {
                0 => "–".to_string(),
                questions => format!("{:.1}", questions as f64 / g.conversations.max(1) as f64),
            },
            percent(g.text_only, g.conversations),
        ];
        // Of entries whose kind is not stated, only the number is counted.
        if let (0, Some(text_only)) = (g.answers(), cells.last_mut()) {
            *text_only = "–".to_string();
        }
        if s.images_checked {
            cells.insert(2, if g.answers() == 0 { "–".to_string() } else { thousands(g.missing) });
        }
        if tokens {
            cells.push(g.answer_tokens.as_ref().map_or("–".to_string(), |t| thousands(t.total)));
        }
        let name = if g.name.is_empty() { "(not stated)" } else { &g.name };
        let bar = 100.0 * g.conversations as f64 / longest as f64;
        DataRow { name: burgess_base::text::excerpt(name, 60), cells, bar }
    };
    DataTable {
        title: title.to_string(),
        note: "Lengths are in words. A short answer has at most three.".to_string(),
        columns: columns.into_iter().map(String::from).collect(),
        rows: groups.iter().take(most).map(row).collect(),
        more: groups.len().saturating_sub(most),
    }
}

/// Makes the table of quantiles of lengths.
pub(super) fn lengths(s: &DataSummary) -> DataTable {
    let rows = [
        ("questions, words", &s.all.question_words),
        ("answers, words", &s.all.answer_words),
        ("questions, tokens", &s.all.question_tokens),
        ("answers, tokens", &s.all.answer_tokens),
    ];
    let row = |(name, of): (&str, &Option<DataLengths>)| {
        let l = of.as_ref()?;
        let mut cells = vec![format!("{:.1}", l.mean)];
        cells.extend([l.p5, l.p25, l.median, l.p75, l.p95, l.p99].map(length));
        cells.push(thousands(u64::from(l.largest)));
        Some(DataRow { name: name.to_string(), cells, bar: 0.0 })
    };
    DataTable {
        title: "Quantiles of lengths".to_string(),
        note: "Quantiles are exact up to 128, beyond within 0.8 %. A character of Chinese, Japanese or Thai counts as a word."
            .to_string(),
        columns: ["mean", "5 %", "25 %", "median", "75 %", "95 %", "99 %", "longest"].map(String::from).to_vec(),
        rows: rows.into_iter().filter_map(row).collect(),
        more: 0,
    }
}

/// Makes the table of turns.
pub(super) fn turns(s: &DataSummary) -> DataTable {
    let longest = s.turns.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
    let row = |(turns, n): &(u64, u64)| DataRow {
        name: if *turns >= 20 { "20 and more".to_string() } else { turns.to_string() },
        cells: vec![thousands(*n), percent(*n, s.all.conversations)],
        bar: 100.0 * *n as f64 / longest as f64,
    };
    let columns = ["conver-\nsations", "%"].map(String::from).to_vec();
    let title = "Questions per conversation".to_string();
    DataTable { title, note: String::new(), columns, rows: s.turns.iter().map(row).collect(), more: 0 }
}

/// Makes the table of languages; `None` if none was recognised.
pub(super) fn languages(s: &DataSummary) -> Option<DataTable> {
    const SHOWN: usize = 12;
    let longest = s.languages.iter().map(|(_, n)| *n).max()?.max(1);
    let row = |(name, n): &(String, u64)| DataRow {
        name: name.clone(),
        cells: vec![percent(*n, s.languages_of)],
        bar: 100.0 * *n as f64 / longest as f64,
    };
    Some(DataTable {
        title: "Languages".to_string(),
        note: format!(
            "Recognised from trigrams in a random sample of {} conversations; texts of fewer than 20 letters and mixed \
             ones are not certain.",
            thousands(s.languages_of)
        ),
        columns: vec!["%".to_string()],
        rows: s.languages.iter().take(SHOWN).map(row).collect(),
        more: s.languages.len().saturating_sub(SHOWN),
    })
}

/// Makes the table of ratings; `None` if there are none.
pub(super) fn ratings(s: &DataSummary) -> Option<DataTable> {
    let columns = ["rated", "mean", "1 (%)", "2", "3", "4", "5"].map(String::from).to_vec();
    let row = |r: &super::DataRating| {
        let mut cells = vec![thousands(r.rated), format!("{:.2}", r.mean)];
        cells.extend(r.counts.map(|n| percent(n, r.rated)));
        DataRow { name: r.name.replace('_', " "), cells, bar: 0.0 }
    };
    (!s.ratings.is_empty()).then(|| DataTable {
        title: "Quality ratings".to_string(),
        note: "The lowest rating of each conversation, from 1 to 5.".to_string(),
        columns,
        rows: s.ratings.iter().map(row).collect(),
        more: 0,
    })
}

/// Returns what is wrong with the data, as sentences: damaged files, unusable and odd entries, missing images.
pub(super) fn notes(s: &DataSummary) -> Vec<String> {
    const SHOWN: usize = 20;
    let mut notes: Vec<String> =
        s.damaged.iter().map(|(file, what)| format!("{file} could not be read to its end: {what}.")).collect();
    let line = |l: &SkippedEntries, what: &str| {
        let of = if l.source.is_empty() { String::new() } else { format!(" of {}", l.source) };
        let more = if l.count > l.first.len() { ", …" } else { "" };
        let many = if l.count == 1 { "conversation" } else { "conversations" };
        let (n, first) = (thousands(l.count as u64), l.first.join(", "));
        format!("{n} {many}{of} {what}: {} ({first}{more}).", l.reason)
    };
    notes.extend(s.skipped.iter().map(|l| line(l, "cannot be used")));
    notes.extend(s.odd.iter().map(|l| line(l, "can be used but are odd")));
    if s.other_files > 0 {
        notes.insert(
            0,
            format!("Data files of another format in the same folders that are not read: {}.", s.other_files),
        );
    }
    if notes.len() > SHOWN + 1 {
        let more = notes.len() - SHOWN;
        notes.truncate(SHOWN);
        notes.push(format!("{more} more reasons and sources (--json prints all)."));
    }
    if s.all.missing > s.outside {
        let names: Vec<&str> = s.missing.iter().take(3).map(String::as_str).collect();
        let missing = thousands(s.all.missing - s.outside);
        notes.push(format!("{missing} images do not exist, the first: {}.", names.join(", ")));
    }
    if s.outside > 0 {
        notes.push(format!("{} image paths lead out of the directory of images.", thousands(s.outside)));
    }
    if s.not_encoded > 0 {
        notes.push(format!("{} texts cannot be encoded by the tokenizer.", thousands(s.not_encoded)));
    }
    notes
}
