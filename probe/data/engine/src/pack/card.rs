//! The data card: Markdown with the front matter of the Hugging Face hub.

use super::attribution::authors;
use crate::config::{PackFormat, QaPrompt, TopicPrompt, thousands};
use crate::pipeline::budget::Ledger;
use crate::pipeline::{DoneMarker, Stage, Workspace, shard_name};
use burgess_base::{Result, text};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Number of authors that are listed; the others stand in `attribution.csv`.
const AUTHORS: usize = 50;

/// A table of counts, the largest first.
fn table(title: (&str, &str), counts: &BTreeMap<String, u64>, most: usize) -> String {
    let mut rows: Vec<(&String, &u64)> = counts.iter().collect();
    rows.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut out = format!("| {} | {} |\n|---|--:|\n", title.0, title.1);
    for (name, count) in rows.iter().take(most) {
        let _ = writeln!(out, "| {} | {} |", cell(name), thousands(**count));
    }
    if rows.len() > most {
        let rest: u64 = rows.iter().skip(most).map(|(_, count)| **count).sum();
        let _ = writeln!(out, "| {} others | {} |", rows.len() - most, thousands(rest));
    }
    out
}

/// A text of an untrusted page as the cell of a table.
fn cell(value: &str) -> String {
    let mut out = String::new();
    for c in text::excerpt(value, 120).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '|' | '[' | ']' | '*' | '_' | '`' | '\\' | '!' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A text of ours as a quotation.
fn quoted(text: &str) -> String {
    text.lines().map(|line| format!("> {line}\n")).collect()
}

/// The counts of all markers whose name begins with a prefix, by the rest of the name.
fn counts(markers: &[DoneMarker], prefix: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, count) in markers.iter().flat_map(|marker| &marker.counts) {
        if let Some(rest) = name.strip_prefix(prefix) {
            *sums.entry(rest.to_string()).or_default() += count;
        }
    }
    sums
}

fn rejected(markers: &[DoneMarker]) -> BTreeMap<String, u64> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in markers.iter().flat_map(|marker| &marker.rejected) {
        *sums.entry(reason.clone()).or_default() += count;
    }
    sums
}

/// The hub's name of a number of entries.
fn size_category(entries: u64) -> &'static str {
    match entries {
        0..1000 => "n<1K",
        1000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        _ => "10M<n<100M",
    }
}

/// Writes the card.
pub(super) fn card(
    workspace: &Workspace,
    packed: &[DoneMarker],
    stages: &[(Stage, Vec<DoneMarker>)],
    ledger: &Ledger,
) -> Result<String> {
    let config = workspace.config();
    let pack = &config.pack;
    let entries: u64 = packed.iter().map(|marker| marker.records).sum();
    let pairs: u64 = packed.iter().filter_map(|marker| marker.counts.get("pairs")).sum();
    let files = match pack.format {
        PackFormat::Llava => "shard-*.jsonl",
        PackFormat::Webdataset => "shard-*/*.tar",
    };
    let mut out = format!(
        "---\npretty_name: {name}\nlicense: {licence}\ntask_categories:\n- visual-question-answering\n- image-text-to-text\n\
         size_categories:\n- {size}\ntags:\n- burgess\n- {source}\n- synthetic\nconfigs:\n- config_name: default\n  \
         data_files: \"{files}\"\n---\n\n# {name}\n\n{entries} images with {pairs} questions and answers, written by a \
         language model from the captions and texts of pages.\n\n",
        name = pack.name,
        licence = pack.licence,
        source = pack.source,
        size = size_category(entries),
        entries = thousands(entries),
        pairs = thousands(pairs),
    );
    out += match pack.format {
        PackFormat::Llava => {
            "Each line of `shard-*.jsonl` is a conversation in LLaVA's form; `image` is a path in this directory.\n"
        }
        PackFormat::Webdataset => {
            "Each archive has a conversation (`.json`, LLaVA's form) and its image under the same key; the tables beside \
             the archives list ids, sources and sizes.\n"
        }
    };
    out += "`attribution.csv` names the address, the page, the author and the licence of every image; `manifest.json` \
            has the digests of all files.\n\n## Contents\n\n";
    out += &table(("field", "images"), &counts(packed, "field/"), 100);
    out += "\n";
    out += &table(("kind of question", "questions"), &counts(packed, "kind/"), 20);
    out += "\n## Licences and authors\n\nThe licence above is that of questions and answers. Each image has the licence \
            that its source states; captions and texts from which the answers were written belong to their pages.\n\n";
    out += &table(("licence of images", "images"), &counts(packed, "licence/"), 100);
    out += match pack.require_licence {
        true => "\nImages without a stated licence are left out.\n\n",
        false => "\nImages without a stated licence are among them, as `unknown`.\n\n",
    };
    let mut by: BTreeMap<String, u64> = BTreeMap::new();
    for marker in packed {
        let path = workspace.stage_directory(Stage::Pack).join(shard_name(marker.shard) + ".attribution.csv");
        authors(&path, &mut |author| {
            let name = if author.trim().is_empty() { "(not stated)" } else { author };
            *by.entry(name.to_string()).or_default() += 1;
        })?;
    }
    out += &table(("author", "images"), &by, AUTHORS);
    out += "\n## How it was made\n\n";
    for (stage, markers) in stages.iter().map(|(s, m)| (*s, m.as_slice())).chain([(Stage::Pack, packed)]) {
        let sum = |of: &dyn Fn(&DoneMarker) -> u64| thousands(markers.iter().map(of).sum());
        let _ = writeln!(out, "### {stage}\n\n{} in, {} out.", sum(&|m| m.items), sum(&|m| m.records));
        let left_out = rejected(markers);
        if !left_out.is_empty() {
            let _ = writeln!(out, "\n{}", table(("left out because", "number"), &left_out, 50).trim_end());
        }
        out += "\n";
    }
    out += "### Models and prompts\n\n";
    let topics = match config.topics.prompt {
        TopicPrompt::Structured => "one request per subfield, JSON of a schema",
        TopicPrompt::Paper => "that of Cambrian-1",
    };
    let qa = match config.qa.prompt {
        QaPrompt::Structured => "questions of given kinds with answers and evidence, JSON of a schema",
        QaPrompt::Paper => "that of Cambrian-1",
    };
    if workspace.input().asks() {
        let _ =
            writeln!(out, "Prompt for topics ({topics}):\n\n{}", quoted(&crate::topics::instruction(&config.topics)));
    }
    let _ = writeln!(out, "Prompt for questions ({qa}):\n\n{}", quoted(&crate::qa::instruction(&config.qa)));
    for (stage, markers) in stages {
        let mut models: BTreeMap<&str, u64> = BTreeMap::new();
        for (model, count) in markers.iter().flat_map(|marker| &marker.models) {
            *models.entry(model).or_default() += count;
        }
        for (model, count) in models {
            let spent = config.budget.amount(ledger.total(Some(*stage)).spent());
            let _ = writeln!(out, "- {stage}: {} replies of `{}`, {spent}", thousands(count), cell(model));
        }
    }
    if config.qa.grounded {
        out += "- names, numbers and quotations of answers stand in the caption, the text, the heading or the title\n";
    }
    out += "\n### Settings\n\n```json\n";
    let settings: BTreeMap<&str, serde_json::Value> =
        Stage::ALL.into_iter().map(|stage| Ok((stage.as_str(), workspace.settings(stage)?))).collect::<Result<_>>()?;
    out += &serde_json::to_string_pretty(&settings)?;
    out += "\n```\n\n### Digests (BLAKE3)\n\n| file | bytes | digest |\n|---|--:|---|\n";
    for (name, file) in packed.iter().flat_map(|marker| &marker.files) {
        let _ = writeln!(out, "| `{name}` | {} | `{}` |", thousands(file.bytes), file.digest);
    }
    Ok(out)
}
