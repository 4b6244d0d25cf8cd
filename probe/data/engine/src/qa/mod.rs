//! The stage `qa`: questions and answers about images, by a language model.
//!
//! Each image with a caption and a section text of more than 50 words is one item. The reply is read in whatever form
//! it comes and checked: its form, lengths, whether it mentions the caption or the text, whether its evidence is a
//! quotation, and whether every name, number and quotation of an answer stands in its source ([`grounding`]). A reply
//! that cannot be read is asked for again, a limited number of times; a pair that fails a check is rejected, and
//! counted by reason.

mod check;
pub mod grounding;
mod item;
mod parse;
mod prompt;

pub use item::{NoItem, QaItem, QaPair, QaRecord};
pub use parse::{ParsedPair, ParsedReply, kind_of, parse};
pub(crate) use prompt::instruction;

use crate::config::{EngineConfig, QaConfig};
use crate::fold::folded;
use crate::llm::{ChatRequest, Endpoint, FinishReason};
use crate::page::Page;
use crate::pipeline::budget::Purse;
use crate::pipeline::{Asking, DoneMarker, ShardContext, Stage, StoredReply, key_of, read_records, shard_name};
use crate::topics::{Rejection, count_reply, finish, open_store};
use burgess_base::text::excerpt;
use burgess_base::{Context, Result};
use grounding::Grounding;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The settings that determine questions and answers.
pub(crate) fn settings(config: &EngineConfig) -> Result<Value> {
    let mut qa = serde_json::to_value(&config.qa)?;
    if let Some(qa) = qa.as_object_mut() {
        qa.shift_remove("workers");
    }
    Ok(json!({"endpoint": config.endpoint.as_ref().map(Endpoint::identity), "qa": qa}))
}

/// Reads the items of a shard, and what gets no questions.
pub(crate) fn items(
    config: &QaConfig,
    shard: usize,
    directory: &Path,
    marker: &DoneMarker,
) -> Result<(Vec<QaItem>, Vec<Rejection>)> {
    let (mut items, mut rejected, mut index, mut seen) = (Vec::new(), Vec::new(), 0, HashSet::new());
    for page in read_records::<Page>(directory, marker, &(shard_name(shard) + ".jsonl"))? {
        for (at, section) in page.sections.iter().enumerate() {
            for figure in &section.figures {
                let item = QaItem::new(shard, index, &page, at, figure, config);
                index += 1;
                let reject = |reason: &str, detail: String| Rejection {
                    item: figure.image.clone(),
                    reason: reason.to_string(),
                    detail,
                    count: 1,
                };
                match item {
                    // A page that was found for two topics is asked about once.
                    Ok(item) => match seen.insert((page.url.clone(), figure.image.clone(), item.caption.clone())) {
                        true => items.push(item),
                        false => rejected.push(reject("image of a page that is there already", page.url.clone())),
                    },
                    // The stage `images` has counted it.
                    Err(NoItem::NoImage) => {}
                    Err(NoItem::NoCaption) => rejected.push(reject("no caption", page.url.clone())),
                    Err(NoItem::ShortText(words)) => {
                        rejected.push(reject("short text", format!("{words} words, {}", page.url)));
                    }
                }
            }
        }
    }
    Ok((items, rejected))
}

/// Makes the first request for an item; reads the image if it is sent.
pub(crate) fn first_request(config: &QaConfig, item: &QaItem, images: &Path) -> Result<ChatRequest> {
    if !config.send_image {
        return Ok(prompt::request(config, item, None));
    }
    let path: PathBuf = images.join(&item.image.path);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let media_type = match path.extension().and_then(|e| e.to_str()) {
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("gif") => "image/gif",
        _ => "image/png",
    };
    Ok(prompt::request(config, item, Some((media_type, &bytes))))
}

/// Returns the requests of a shard that have no reply yet, as far as they are known.
pub(crate) fn open_requests(
    workspace: &crate::pipeline::Workspace,
    shard: usize,
    source: &DoneMarker,
    kept: &crate::pipeline::KeptReplies,
) -> Result<Vec<ChatRequest>> {
    let (config, endpoint) = (&workspace.config().qa, workspace.config().endpoint()?);
    let images = workspace.stage_directory(Stage::Images);
    let reply_to = |request: &ChatRequest| Ok(kept.get(&key_of(endpoint, request)?).cloned());
    let mut open = Vec::new();
    for item in items(config, shard, &images, source)?.0 {
        open.extend(follow(config, &item, &images, &reply_to)?.next);
    }
    Ok(open)
}

/// Does a shard.
pub(crate) fn work(context: &ShardContext<'_>) -> Result<DoneMarker> {
    let (workspace, session, shard) = (context.workspace, context.session, context.task.shard);
    let config = &workspace.config().qa;
    let client = session.client(workspace)?;
    let images = workspace.stage_directory(Stage::Images);
    let source = context.marker_of(Stage::Images, shard)?;
    let (items, mut rejected) = items(config, shard, &images, &source)?;
    let store = open_store(context)?;
    let stopped = || (session.stopped)();
    let (directory, name) = (workspace.directory(), context.task.name());
    let purse = Purse::open(&workspace.config().budget, session.claims, &stopped, directory, &name, store.spent())?;
    let total = items.len() as u64;
    let endpoint = client.endpoint();
    let reply_to = |request: &ChatRequest| Ok(store.get(&key_of(endpoint, request)?));
    let asking = Asking {
        client: &client,
        purse: &purse,
        store: &store,
        claim: context.claim,
        workers: session.workers.unwrap_or(config.workers),
        stopped: &stopped,
        done: &|done| session.progress.items(context.task.stage, shard, done, total),
        note: &|text| session.progress.line(text),
    };
    let asked = asking.all(&items, &|item, _| Ok(follow(config, item, &images, &reply_to)?.next));
    purse.close()?;
    asked?;
    let mut marker = context.marker()?;
    marker.items = total + rejected.len() as u64;
    let (mut records, mut pairs) = (Vec::new(), 0);
    for item in &items {
        let followed = follow(config, item, &images, &reply_to)?;
        followed.replies.iter().for_each(|reply| count_reply(&mut marker, reply));
        let reject = |(reason, detail): (&str, String)| Rejection {
            item: item.id.clone(),
            reason: reason.to_string(),
            detail,
            count: 1,
        };
        let model = followed.replies.last().map(|reply| reply.model.clone()).unwrap_or_default();
        let kept = match followed.outcome {
            ItemOutcome::Parsed(parsed) => {
                let (kept, left_out) = checked(parsed, config, item);
                rejected.extend(left_out.into_iter().map(reject));
                kept
            }
            ItemOutcome::Rejected(reason, detail) => {
                rejected.push(reject((reason, detail)));
                Vec::new()
            }
        };
        for pair in &kept {
            marker.count(&format!("kind/{}", pair.kind.map_or("any", |kind| kind.as_str())), 1);
        }
        pairs += kept.len() as u64;
        if !kept.is_empty() {
            records.push(QaRecord::new(item, kept, model));
        }
    }
    marker.count("pairs", pairs);
    marker.count("asked", total);
    finish(context, marker, records.into_iter(), &rejected)
}

/// Checks the pairs of a reply; returns those that are kept and why the others are not.
fn checked(parsed: Vec<ParsedPair>, config: &QaConfig, item: &QaItem) -> (Vec<QaPair>, Vec<check::Reason>) {
    let grounding = Grounding::new([&item.caption, &item.text, &item.heading, &item.page.title].map(String::as_str));
    let kinds = prompt::kinds(config, item.index);
    let (mut kept, mut left_out): (Vec<QaPair>, Vec<check::Reason>) = (Vec::new(), Vec::new());
    if parsed.is_empty() {
        left_out.push(("nothing to ask", excerpt(&item.caption, 200)));
    }
    for pair in parsed {
        match check::check(pair, config, &kinds, &grounding) {
            Ok(pair) if kept.iter().any(|known| folded(&known.question) == folded(&pair.question)) => {
                left_out.push(("question is asked twice", excerpt(&pair.question, 200)));
            }
            Ok(pair) if kept.len() == config.per_image => {
                left_out.push(("more than asked for", excerpt(&pair.question, 200)));
            }
            Ok(pair) => kept.push(pair),
            Err(reason) => left_out.push(reason),
        }
    }
    (kept, left_out)
}

/// What the replies about an item give.
enum ItemOutcome {
    /// Pairs, not yet checked.
    Parsed(Vec<ParsedPair>),
    /// None, for a reason with details.
    Rejected(&'static str, String),
}

/// The conversation about an item, as far as its replies have come.
struct Followed {
    outcome: ItemOutcome,
    replies: Vec<Arc<StoredReply>>,
    next: Option<ChatRequest>,
}

fn follow(
    config: &QaConfig,
    item: &QaItem,
    images: &Path,
    reply_to: &dyn Fn(&ChatRequest) -> Result<Option<Arc<StoredReply>>>,
) -> Result<Followed> {
    let first = first_request(config, item, images)?;
    let mut now = first.clone();
    let mut followed =
        Followed { outcome: ItemOutcome::Rejected("no reply", String::new()), replies: Vec::new(), next: None };
    for ask in 1..=config.asks {
        let Some(reply) = reply_to(&now)? else {
            followed.next = Some(now);
            return Ok(followed);
        };
        let (outcome, again) = read(&reply);
        if let Some(why) = &again {
            now = prompt::again(config, &first, &reply.text, why, ask);
        }
        followed.outcome = outcome;
        followed.replies.push(reply);
        if again.is_none() {
            break;
        }
    }
    Ok(followed)
}

/// Reads a reply; the second value says why it should be asked for again.
fn read(reply: &StoredReply) -> (ItemOutcome, Option<String>) {
    if let Some(why) = &reply.error {
        return (ItemOutcome::Rejected("request without a reply", excerpt(why, 400)), None);
    }
    if let Some(why) = &reply.refusal {
        return (ItemOutcome::Rejected("refused", excerpt(why, 300)), None);
    }
    if reply.finish == FinishReason::ContentFilter {
        return (ItemOutcome::Rejected("removed by a filter of the server", excerpt(&reply.text, 300)), None);
    }
    let shown = excerpt(&reply.text, 300);
    match parse(&reply.text) {
        ParsedReply::Pairs(pairs) => (ItemOutcome::Parsed(pairs), None),
        ParsedReply::Refusal => (ItemOutcome::Rejected("refused", shown), None),
        ParsedReply::Malformed(_) if reply.finish == FinishReason::Length => {
            (ItemOutcome::Rejected("reply is cut off", shown), Some("it was too long and was cut off".into()))
        }
        ParsedReply::Malformed(why) => (ItemOutcome::Rejected("malformed reply", format!("{why}: {shown}")), Some(why)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
