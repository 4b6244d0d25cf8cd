//! The replies of a language model that a shard has received: kept for good, so that none is paid for twice.
//!
//! A reply is found by the digest of its request. If settings change and a shard is done again, requests that have not
//! changed find their replies here. Each request is noted before it is sent, so that replies which a killed process did
//! not receive are counted as lost.

use super::budget::Spending;
use super::journal::{Journal, JournalContents, read};
use crate::llm::{ChatReply, FinishReason, Usage};
use burgess_base::Result;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// A request is about to be sent, which may take this many tokens.
    Sent { key: String, most: Usage },
    /// A request got no reply and may be sent again.
    Failed { key: String, lost: Usage },
    /// A request was answered.
    Reply(StoredReply),
}

/// A reply, or the server's refusal of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredReply {
    /// Digest of the request.
    pub key: String,
    /// The text as it was received.
    pub text: String,
    /// Why it ends.
    pub finish: FinishReason,
    /// The model's refusal, or the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Why there is no reply, if the same request would not get one either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Name of the model as the server gives it.
    pub model: String,
    /// Tokens of the reply.
    pub usage: Usage,
    /// Estimated tokens of attempts whose reply was lost.
    #[serde(default)]
    pub lost: Usage,
}

impl StoredReply {
    /// Makes the form in which a reply is kept.
    pub fn of(key: &str, reply: ChatReply) -> Self {
        Self {
            key: key.to_string(),
            text: reply.text,
            finish: reply.finish,
            refusal: reply.refusal,
            error: None,
            model: reply.model,
            usage: reply.usage,
            lost: reply.lost,
        }
    }

    /// Makes the form in which a request without a reply is kept.
    pub fn without_reply(key: &str, why: String, lost: Usage) -> Self {
        Self {
            key: key.to_string(),
            text: String::new(),
            finish: FinishReason::Stop,
            refusal: None,
            error: Some(why),
            model: String::new(),
            usage: Usage::default(),
            lost,
        }
    }
}

/// The replies of a shard. Its owner must hold the claim on the shard.
#[derive(Debug)]
pub struct ReplyStore {
    journal: Mutex<Journal>,
    replies: RwLock<HashMap<String, Arc<StoredReply>>>,
    /// What the file says was spent when it was opened.
    spent: Spending,
    /// Number of damaged lines.
    damaged: usize,
}

/// What was spent, by the lines of a file.
fn spent(lines: &[Line]) -> Spending {
    let mut spending = Spending::default();
    let mut open: HashMap<&str, (u64, Usage)> = HashMap::new();
    for line in lines {
        let (key, used, lost) = match line {
            Line::Sent { key, most } => {
                let entry = open.entry(key).or_default();
                (entry.0, entry.1) = (entry.0 + 1, *most);
                continue;
            }
            Line::Failed { key, lost } => (key.as_str(), Usage::default(), *lost),
            Line::Reply(reply) => (reply.key.as_str(), reply.usage, reply.lost),
        };
        spending.used.add(used);
        spending.lost.add(lost);
        if let Some(entry) = open.get_mut(key) {
            entry.0 = entry.0.saturating_sub(1);
        }
    }
    for (count, most) in open.values() {
        (0..*count).for_each(|_| spending.lost.add(Usage { estimated: true, ..*most }));
    }
    spending
}

/// Returns what the reply file of a shard says was spent; nothing if there is none.
///
/// # Errors
/// The file cannot be read.
pub fn spent_in(path: &Path) -> Result<Spending> {
    Ok(spent(&read::<Line>(path)?.entries))
}

/// Replies by the digests of their requests.
pub type KeptReplies = HashMap<String, Arc<StoredReply>>;

/// Reads the replies of a shard without changing its file; none if there is no file.
///
/// # Errors
/// The file cannot be read.
pub fn kept_in(path: &Path) -> Result<KeptReplies> {
    Ok(by_key(read::<Line>(path)?.entries))
}

/// The first reply to each request, so that the same file always gives the same records.
fn by_key(lines: Vec<Line>) -> KeptReplies {
    let mut replies = HashMap::new();
    for line in lines {
        if let Line::Reply(reply) = line {
            replies.entry(reply.key.clone()).or_insert_with(|| Arc::new(reply));
        }
    }
    replies
}

impl ReplyStore {
    /// Opens the file of a shard, and creates it if needed.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self> {
        let (journal, JournalContents { entries, damaged }) = Journal::open::<Line>(path)?;
        let spent = spent(&entries);
        let replies = RwLock::new(by_key(entries));
        Ok(Self { journal: Mutex::new(journal), replies, spent, damaged })
    }

    /// Returns what the file says was spent when it was opened.
    pub fn spent(&self) -> Spending {
        self.spent
    }

    /// Returns the number of lines that were damaged when the file was opened.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Returns the number of replies.
    pub fn len(&self) -> usize {
        self.replies.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is no reply.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the reply to the request with this digest.
    pub fn get(&self, key: &str) -> Option<Arc<StoredReply>> {
        self.replies.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn append(&self, line: &Line) -> Result<()> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).append(line)
    }

    /// Notes that a request is about to be sent.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_sent(&self, key: &str, most: Usage) -> Result<()> {
        self.append(&Line::Sent { key: key.to_string(), most })
    }

    /// Notes that a request got no reply and may be sent again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_failed(&self, key: &str, lost: Usage) -> Result<()> {
        self.append(&Line::Failed { key: key.to_string(), lost })
    }

    /// Keeps a reply.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, reply: StoredReply) -> Result<()> {
        let line = Line::Reply(reply);
        self.append(&line)?;
        if let Line::Reply(reply) = line {
            let mut replies = self.replies.write().unwrap_or_else(PoisonError::into_inner);
            replies.entry(reply.key.clone()).or_insert_with(|| Arc::new(reply));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_kept_and_lost_ones_are_counted() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("qa/shard-00000.replies.jsonl");
        let most = Usage { prompt_tokens: 10, completion_tokens: 100, estimated: false };
        let used = Usage { prompt_tokens: 9, completion_tokens: 20, estimated: false };
        let reply = |text: &str| StoredReply {
            text: text.into(),
            error: None,
            usage: used,
            ..StoredReply::without_reply("a", String::new(), Usage::default())
        };
        let store = ReplyStore::open(&path)?;
        store.note_sent("a", most)?;
        store.note_failed("a", most)?;
        store.note_sent("a", most)?;
        store.keep(reply("first"))?;
        store.keep(reply("second"))?;
        store.note_sent("b", most)?;
        drop(store);
        let store = ReplyStore::open(&path)?;
        assert_eq!(store.get("a").map(|r| r.text.clone()).as_deref(), Some("first"));
        assert!(store.get("b").is_none() && store.len() == 1);
        let spent = store.spent();
        assert_eq!((spent.used.total(), spent.lost.total(), spent.lost.estimated), (58, 220, true));
        assert_eq!(spent_in(&path)?, spent);
        Ok(())
    }
}
