//! The stage `topics`: topics of subfields, by a language model or from a file.
//!
//! A reply is read in whatever form it comes ([`parse()`]), and checked: empty names, absurd lengths and duplicates
//! within the shard are left out and counted. If too few topics of a subfield remain, the model is asked again with
//! what is missing, a limited number of times; the topics of all replies count.

mod input;
mod parse;
mod prompt;
#[cfg(test)]
mod tests;

pub use input::{ShardInput, Subfield, TopicInput, from_lines, from_toml, topics as topics_of_text};
pub use parse::{ParsedTopics, parse};
pub(crate) use prompt::instruction;

use crate::config::{EngineConfig, TopicsConfig};
use crate::fold::folded;
use crate::llm::{ChatRequest, Endpoint, FinishReason};
use crate::page::Topic;
use crate::pipeline::{Asking, DoneMarker, ReplyStore, ShardContext, StoredReply, budget::Purse, key_of, shard_name};
use burgess_base::{Result, atomic};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

/// What is left out, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Rejection {
    /// What it belongs to.
    pub item: String,
    /// Why, in a few words that are the same for all of its kind.
    pub reason: String,
    /// Details.
    pub detail: String,
    /// Number of those for which this line stands.
    #[serde(skip_serializing_if = "is_one")]
    pub count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

/// The settings that determine the topics.
pub(crate) fn settings(config: &EngineConfig, input: &TopicInput) -> Result<Value> {
    Ok(match input {
        TopicInput::Topics(..) => json!({"from": "file"}),
        TopicInput::Nothing(_) => json!({"from": "nothing"}),
        TopicInput::Subfields(..) => {
            let TopicsConfig { prompt, per_subfield, asks, max_tokens, temperature, seed, .. } = &config.topics;
            json!({
                "endpoint": config.endpoint.as_ref().map(Endpoint::identity),
                "topics": {
                    "prompt": prompt, "per_subfield": per_subfield, "at_least": config.topics.least(), "asks": asks,
                    "max_tokens": max_tokens, "temperature": temperature, "seed": seed,
                },
            })
        }
    })
}

/// Does a shard.
pub(crate) fn work(context: &ShardContext<'_>) -> Result<DoneMarker> {
    let shard = context.task.shard;
    match context.workspace.input().of_shard(shard) {
        ShardInput::Topics(topics) => {
            let mut marker = context.marker()?;
            marker.items = topics.len() as u64;
            finish(context, marker, topics.iter().cloned(), &[])
        }
        ShardInput::Subfields(subfields) => ask(context, subfields),
        ShardInput::Nothing(..) => finish(context, context.marker()?, std::iter::empty::<Topic>(), &[]),
    }
}

/// Returns the requests of a shard that have no reply yet, as far as they are known.
pub(crate) fn open_requests(
    workspace: &crate::pipeline::Workspace,
    shard: usize,
    kept: &crate::pipeline::KeptReplies,
) -> Result<Vec<ChatRequest>> {
    let ShardInput::Subfields(subfields) = workspace.input().of_shard(shard) else { return Ok(Vec::new()) };
    let (config, endpoint) = (&workspace.config().topics, workspace.config().endpoint()?);
    let reply_to = |request: &ChatRequest| Ok(kept.get(&key_of(endpoint, request)?).cloned());
    let next = |group: &&[Subfield]| Ok(Conversation::follow(config, group, &reply_to)?.next);
    let all: Vec<Option<ChatRequest>> = prompt::groups(config, subfields).iter().map(next).collect::<Result<_>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// Asks the language model.
fn ask(context: &ShardContext<'_>, subfields: &[Subfield]) -> Result<DoneMarker> {
    let (workspace, session) = (context.workspace, context.session);
    let (config, client) = (&workspace.config().topics, session.client(workspace)?);
    let store = open_store(context)?;
    let groups = prompt::groups(config, subfields);
    let stopped = || (session.stopped)();
    let purse = Purse::open(
        &workspace.config().budget,
        session.claims,
        &stopped,
        workspace.directory(),
        &context.task.name(),
        store.spent(),
    )?;
    let total = groups.len() as u64;
    let asking = Asking {
        client: &client,
        purse: &purse,
        store: &store,
        claim: context.claim,
        workers: session.workers.unwrap_or(config.workers),
        stopped: &stopped,
        done: &|done| session.progress.items(context.task.stage, context.task.shard, done, total),
        note: &|text| session.progress.line(text),
    };
    let endpoint = client.endpoint();
    let asked = asking.all(&groups, &|group, store| {
        let conversation = Conversation::follow(config, group, &|request| Ok(store.get(&key_of(endpoint, request)?)))?;
        Ok(conversation.next)
    });
    purse.close()?;
    asked?;
    let mut marker = context.marker()?;
    marker.items = subfields.len() as u64;
    let (mut topics, mut rejected, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for group in groups {
        let followed = Conversation::follow(config, group, &|request| Ok(store.get(&key_of(endpoint, request)?)))?;
        for reply in &followed.replies {
            count_reply(&mut marker, reply);
        }
        for (subfield, found) in group.iter().zip(&followed.found) {
            let item = format!("{}: {}", subfield.field, subfield.subfield);
            let reject = |reason: &str, detail: &str| Rejection {
                item: item.clone(),
                reason: reason.to_string(),
                detail: detail.to_string(),
                count: 1,
            };
            rejected.extend(found.rejected.iter().map(|(text, reason)| reject(reason, text)));
            let mut kept = 0;
            for topic in &found.topics {
                // The same article is of use once, whatever subfield it belongs to.
                if kept == config.per_subfield {
                    rejected.push(reject("more than asked for", topic));
                } else if seen.insert(folded(topic)) {
                    kept += 1;
                    let (field, subfield) = (subfield.field.clone(), subfield.subfield.clone());
                    topics.push(Topic { field, subfield, topic: topic.clone() });
                } else {
                    rejected.push(reject("duplicate in the shard", topic));
                }
            }
            if kept == 0 {
                let last = followed.replies.last().map(|reply| why_no_topics(reply)).unwrap_or_default();
                rejected.push(reject("a subfield without topics", &last));
            } else if kept < config.least() {
                marker.count("subfields_with_too_few_topics", 1);
            }
        }
    }
    finish(context, marker, topics.into_iter(), &rejected)
}

/// Says what a reply without topics is.
fn why_no_topics(reply: &StoredReply) -> String {
    let text = reply.error.as_deref().or(reply.refusal.as_deref()).unwrap_or(&reply.text);
    let cut = if reply.finish == FinishReason::Length { "cut off at `max_tokens`: " } else { "" };
    format!("{cut}{}", burgess_base::text::excerpt(text, 300))
}

/// Opens the reply file of a shard; says so if lines of it are damaged.
pub(crate) fn open_store(context: &ShardContext<'_>) -> Result<ReplyStore> {
    let path = context.workspace.path(context.task.stage, context.task.shard, ".replies.jsonl");
    let store = ReplyStore::open(&path)?;
    if store.damaged() > 0 {
        context.session.progress.line(&format!(
            "{}: {} lines are damaged or cut off; their requests are sent again",
            path.display(),
            store.damaged()
        ));
    }
    Ok(store)
}

/// Adds a reply to the counts of a marker.
pub(crate) fn count_reply(marker: &mut DoneMarker, reply: &StoredReply) {
    marker.count("replies", 1);
    let mut usage = marker.usage.unwrap_or_default();
    usage.add(reply.usage);
    marker.usage = Some(usage);
    if !reply.model.is_empty() {
        *marker.models.entry(reply.model.clone()).or_default() += 1;
    }
}

/// Writes the records and the rejections of a shard, and completes its marker.
pub(crate) fn finish<T: Serialize>(
    context: &ShardContext<'_>,
    mut marker: DoneMarker,
    records: impl Iterator<Item = T>,
    rejected: &[Rejection],
) -> Result<DoneMarker> {
    let (stage, shard) = (context.task.stage, context.task.shard);
    context.claim.check()?;
    let path = context.workspace.path(stage, shard, ".jsonl");
    let mut count = 0;
    atomic::write_with(&path, |w| {
        for record in records {
            serde_json::to_writer(&mut *w, &record)?;
            w.write_all(b"\n")?;
            count += 1;
        }
        Ok(())
    })?;
    marker.records = count;
    atomic::write_with(&context.workspace.path(stage, shard, stage.rejected_ending()), |w| {
        for rejection in rejected {
            serde_json::to_writer(&mut *w, rejection)?;
            w.write_all(b"\n")?;
        }
        Ok(())
    })?;
    rejected.iter().for_each(|rejection| marker.reject(&rejection.reason, rejection.count));
    let directory = context.workspace.stage_directory(stage);
    for ending in [".jsonl", stage.rejected_ending()] {
        marker.add_file(&directory, &(shard_name(shard) + ending))?;
    }
    Ok(marker)
}

/// The conversation about a group of subfields, as far as its replies have come.
pub(crate) struct Conversation {
    /// What the replies give for each subfield.
    found: Vec<ParsedTopics>,
    /// The replies so far.
    replies: Vec<Arc<StoredReply>>,
    /// The next request; `None` at the end.
    next: Option<ChatRequest>,
}

impl Conversation {
    /// Follows the conversation through the replies that are there.
    fn follow(
        config: &TopicsConfig,
        group: &[Subfield],
        reply_to: &dyn Fn(&ChatRequest) -> Result<Option<Arc<StoredReply>>>,
    ) -> Result<Self> {
        let names: Vec<&str> = group.iter().map(|s| s.subfield.as_str()).collect();
        let first = prompt::request(config, group);
        let mut now = first.clone();
        let mut conversation =
            Self { found: vec![ParsedTopics::default(); group.len()], replies: Vec::new(), next: None };
        for ask in 1..=config.asks {
            let Some(reply) = reply_to(&now)? else {
                conversation.next = Some(now);
                break;
            };
            for (found, parsed) in conversation.found.iter_mut().zip(parse(&reply.text, &names)) {
                let Some(parsed) = parsed else { continue };
                found.rejected.extend(parsed.rejected);
                for topic in parsed.topics {
                    match found.topics.iter().any(|known| folded(known) == folded(&topic)) {
                        true => found.rejected.push((topic, "duplicate in the subfield")),
                        false => found.topics.push(topic),
                    }
                }
            }
            let (text, is_final) = (reply.text.clone(), reply.error.is_some());
            conversation.replies.push(reply);
            let lacks = |(name, found): (&&'_ str, &ParsedTopics)| {
                let count = found.topics.len();
                (count < config.least()).then(|| ((*name).to_string(), config.per_subfield - count))
            };
            let missing: Vec<(String, usize)> = names.iter().zip(&conversation.found).filter_map(lacks).collect();
            if missing.is_empty() || is_final {
                break;
            }
            let missing: Vec<(&str, usize)> = missing.iter().map(|(name, n)| (name.as_str(), *n)).collect();
            now = prompt::again(&first, &text, &missing, ask);
        }
        Ok(conversation)
    }
}
