//! Image prefixes that are kept for later questions about the same images.

use super::ImagePrefix;
use std::collections::HashMap;
use std::sync::Arc;

/// Image prefixes by the digest of the image and the token ids before it. When their size exceeds a limit, those that
/// were not used for the longest time are dropped.
#[derive(Debug)]
pub struct PrefixCache {
    limit: usize,
    bytes: usize,
    /// Counts uses; the entry with the smallest count was not used for the longest time.
    clock: u64,
    entries: HashMap<PrefixKey, Entry>,
}

/// Digest of an image, and the token ids before it.
type PrefixKey = (String, Vec<u32>);

#[derive(Debug)]
struct Entry {
    prefix: Arc<ImagePrefix>,
    bytes: usize,
    used: u64,
}

impl PrefixCache {
    /// Makes an empty cache of at most `limit` bytes; with 0 nothing is kept.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, clock: 0, entries: HashMap::new() }
    }

    /// Returns a prefix if it is kept.
    pub fn get(&mut self, image: &str, before: &[u32]) -> Option<Arc<ImagePrefix>> {
        let entry = self.entries.get_mut(&(image.to_string(), before.to_vec()))?;
        self.clock += 1;
        entry.used = self.clock;
        Some(Arc::clone(&entry.prefix))
    }

    /// Returns whether a prefix is kept, without counting this as a use.
    pub fn contains(&self, image: &str, before: &[u32]) -> bool {
        self.entries.contains_key(&(image.to_string(), before.to_vec()))
    }

    /// Keeps a prefix, and drops others if the limit is exceeded. A prefix above the limit is not kept.
    pub fn insert(&mut self, image: &str, before: &[u32], prefix: Arc<ImagePrefix>) {
        let bytes = prefix.bytes();
        if bytes > self.limit {
            return;
        }
        self.clock += 1;
        let entry = Entry { prefix, bytes, used: self.clock };
        if let Some(old) = self.entries.insert((image.to_string(), before.to_vec()), entry) {
            self.bytes -= old.bytes;
        }
        self.bytes += bytes;
        while self.bytes > self.limit {
            let Some(oldest) = self.entries.iter().min_by_key(|(_, e)| e.used).map(|(key, _)| key.clone()) else {
                break;
            };
            if let Some(dropped) = self.entries.remove(&oldest) {
                self.bytes -= dropped.bytes;
            }
        }
    }

    /// Returns the size of all prefixes that are kept, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops all prefixes.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}
