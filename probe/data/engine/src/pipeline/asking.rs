//! Items whose outcome is a function of replies: threads ask for the replies that are missing, until none is.

use super::budget::{self, Purse};
use super::claims::Claim;
use super::replies::{ReplyStore, StoredReply};
use crate::llm::{ChatClient, ChatError, ChatErrorKind, ChatRequest, Usage};
use burgess_base::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Number of items in a row without a reply after which the server counts as gone.
const GIVE_UP: usize = 8;

/// What the threads need to ask.
pub(crate) struct Asking<'a> {
    pub client: &'a ChatClient,
    pub purse: &'a Purse<'a>,
    pub store: &'a ReplyStore,
    pub claim: &'a dyn Claim,
    pub workers: usize,
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// Told the number of items that are done.
    pub done: &'a (dyn Fn(u64) + Sync),
    /// Told what the user should know.
    pub note: &'a (dyn Fn(&str) + Sync),
}

/// Returns the digest of a request, by which its reply is found. The way in which JSON is asked for is not part of it.
pub(crate) fn key_of(client: &crate::llm::Endpoint, request: &ChatRequest) -> Result<String> {
    burgess_base::digest::of_value(&request.canonical(client))
}

/// Returns what a request may take at most: a token per byte of text, which no tokenizer exceeds but for the few tokens
/// of its chat template.
pub(crate) fn most_of(client: &crate::llm::Endpoint, request: &ChatRequest) -> Usage {
    Usage {
        prompt_tokens: request.estimated_prompt_tokens().saturating_mul(4),
        completion_tokens: u64::from(request.reply_limit(client).unwrap_or(4096)),
        estimated: true,
    }
}

/// State that the threads share.
struct Shared {
    next: AtomicUsize,
    finished: AtomicU64,
    /// Items in a row that got no reply.
    failing: AtomicUsize,
    failed: AtomicUsize,
    halted: AtomicBool,
    /// The error that ended the work, or the first item's without a reply.
    error: Mutex<Option<Error>>,
}

/// What became of an item.
enum ItemFate {
    /// It needs no further reply.
    Finished,
    /// A request of it got no reply, and may be sent again later.
    NoReply,
    /// The work was ended for another reason.
    Halted,
}

impl Asking<'_> {
    /// Asks until each item needs no further reply. `next` returns the next request of an item, as a function of the
    /// replies so far; `None` if it is finished.
    ///
    /// # Errors
    /// The work cannot go on (the key, the model, the budget, the disk), a signal asked to stop, or items got no reply.
    pub fn all<I: Sync>(
        &self,
        items: &[I],
        next: &(dyn Fn(&I, &ReplyStore) -> Result<Option<ChatRequest>> + Sync),
    ) -> Result<()> {
        let shared = Shared {
            next: AtomicUsize::new(0),
            finished: AtomicU64::new(0),
            failing: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            halted: AtomicBool::new(false),
            error: Mutex::new(None),
        };
        std::thread::scope(|scope| {
            for _ in 0..self.workers.min(items.len()).max(1) {
                scope.spawn(|| self.work(items, next, &shared));
            }
        });
        let error = shared.error.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = shared.failed.into_inner();
        match error {
            None => Ok(()),
            Some(e) if shared.halted.into_inner() => Err(e),
            Some(e) => {
                let hint = e.hint_text().unwrap_or("look at the server's log").to_string();
                Err(e
                    .context(format!("{failed} of {} items got no reply; the first one", items.len()))
                    .hint(format!("{hint}; start again: only these items are asked for")))
            }
        }
    }

    fn work<I: Sync>(
        &self,
        items: &[I],
        next: &(dyn Fn(&I, &ReplyStore) -> Result<Option<ChatRequest>> + Sync),
        shared: &Shared,
    ) {
        while !shared.halted.load(Ordering::SeqCst) {
            let Some(item) = items.get(shared.next.fetch_add(1, Ordering::SeqCst)) else { return };
            match self.one(item, next, shared) {
                Ok(ItemFate::Finished) => {
                    shared.failing.store(0, Ordering::SeqCst);
                    (self.done)(shared.finished.fetch_add(1, Ordering::SeqCst) + 1);
                }
                Ok(ItemFate::NoReply) => {}
                Ok(ItemFate::Halted) => return,
                Err(e) => self.halt(e, shared),
            }
        }
    }

    fn halt(&self, e: Error, shared: &Shared) {
        let mut error = shared.error.lock().unwrap_or_else(PoisonError::into_inner);
        // The first reason counts; those of other threads follow from it.
        if !shared.halted.swap(true, Ordering::SeqCst) {
            *error = Some(e);
        }
    }

    /// Asks for all replies of an item.
    fn one<I: Sync>(
        &self,
        item: &I,
        next: &(dyn Fn(&I, &ReplyStore) -> Result<Option<ChatRequest>> + Sync),
        shared: &Shared,
    ) -> Result<ItemFate> {
        let endpoint = self.client.endpoint();
        while let Some(request) = next(item, self.store)? {
            if (self.stopped)() {
                return Err(Error::interrupted());
            }
            if shared.halted.load(Ordering::SeqCst) {
                return Ok(ItemFate::Halted);
            }
            let (key, most) = (key_of(endpoint, &request)?, most_of(endpoint, &request));
            let reservation = self.purse.reserve(most)?;
            self.claim.check()?;
            self.store.note_sent(&key, most)?;
            let reply = self.client.chat(&request);
            self.client.take_notes().iter().for_each(|note| (self.note)(note));
            let kept = match reply {
                Ok(reply) => {
                    self.purse.settle(reservation, reply.usage, reply.lost);
                    self.store.keep(StoredReply::of(&key, reply))
                }
                Err(e) => {
                    self.purse.settle(reservation, Usage::default(), e.lost);
                    match is_final(e.kind) {
                        true => self.store.keep(StoredReply::without_reply(&key, e.to_string(), e.lost)),
                        false => {
                            self.store.note_failed(&key, e.lost)?;
                            return self.without_reply(e, shared);
                        }
                    }
                }
            };
            kept?;
        }
        Ok(ItemFate::Finished)
    }

    /// Decides what a request without a reply means for the others.
    fn without_reply(&self, e: ChatError, shared: &Shared) -> Result<ItemFate> {
        if !e.may_retry() {
            return Err(e.into());
        }
        shared.failed.fetch_add(1, Ordering::SeqCst);
        if shared.failing.fetch_add(1, Ordering::SeqCst) + 1 >= GIVE_UP {
            let e = Error::from(e).context(format!("{GIVE_UP} items in a row got no reply; the last one"));
            return Err(e.hint("check that the server runs, then start again: all replies are kept"));
        }
        let mut error = shared.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.get_or_insert_with(|| e.into());
        Ok(ItemFate::NoReply)
    }
}

/// Whether the same request would not get a reply either, so that its item is rejected.
fn is_final(kind: ChatErrorKind) -> bool {
    kind.is_of_request() || kind == ChatErrorKind::Malformed
}

/// Whether an error ends the work on all shards.
pub(crate) fn ends_all(error: &Error) -> bool {
    use burgess_base::ErrorKind;
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Usage)
        || budget::is_spent(error)
        || error.chain().iter().any(|step| step.contains("items in a row got no reply"))
}
