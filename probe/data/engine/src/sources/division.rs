//! Which records of a source belong to a shard, and to which topic.

use super::Part;
use crate::page::{Page, Topic};
use std::collections::HashMap;
use std::path::PathBuf;

/// The records of one shard: whole files if there are at least as many as shards, or else every n-th record of every
/// file.
#[derive(Debug)]
pub(super) struct Division {
    shard: u64,
    shards: u64,
    by_file: bool,
    record: u64,
}

impl Division {
    pub fn new(part: &Part<'_>, files: usize) -> Self {
        let shards = part.shards.max(1) as u64;
        Self { shard: part.shard as u64, shards, by_file: files as u64 >= shards, record: 0 }
    }

    /// Returns the files that this shard reads.
    pub fn files<'a>(&self, files: &'a [PathBuf]) -> impl Iterator<Item = &'a PathBuf> {
        let (shard, shards, by_file) = (self.shard, self.shards, self.by_file);
        let mine = move |at: u64| !by_file || at % shards == shard;
        files.iter().enumerate().filter(move |(at, _)| mine(*at as u64)).map(|(_, file)| file)
    }

    /// Whether the next record belongs to this shard; to be asked once for each record.
    pub fn is_next(&mut self) -> bool {
        let at = self.record;
        self.record += 1;
        self.by_file || at % self.shards == self.shard
    }
}

/// The topics by which pages are chosen by their titles; all pages without any.
#[derive(Debug)]
pub(super) struct TitleFilter<'a>(HashMap<String, &'a Topic>);

impl<'a> TitleFilter<'a> {
    pub fn new(topics: &'a [Topic]) -> Self {
        // The first of equal topics, so that the outcome does not depend on the order of a map.
        let mut by_title = HashMap::new();
        for topic in topics {
            by_title.entry(normalised(&topic.topic)).or_insert(topic);
        }
        Self(by_title)
    }

    /// Whether a page with this title is wanted.
    pub fn wants(&self, title: &str) -> bool {
        self.0.is_empty() || self.0.contains_key(&normalised(title))
    }

    /// Enters the topic of a page.
    pub fn enter(&self, page: &mut Page) {
        if let Some(topic) = self.0.get(&normalised(&page.title)) {
            enter(page, topic);
        }
    }
}

/// Enters a topic in a page.
pub(super) fn enter(page: &mut Page, topic: &Topic) {
    page.topic.clone_from(&topic.topic);
    page.field.clone_from(&topic.field);
    page.subfield.clone_from(&topic.subfield);
}

/// A title without differences of case, underscores and repeated spaces.
fn normalised(title: &str) -> String {
    title.replace('_', " ").split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_belongs_to_one_shard() {
        let files: Vec<PathBuf> = ["a", "b", "c"].map(PathBuf::from).to_vec();
        for shards in [1, 2, 3, 5] {
            let mut seen = vec![0; 12];
            for shard in 0..shards {
                let part = Part { topics: &[], shard, shards };
                let mut division = Division::new(&part, files.len());
                let mine: Vec<usize> =
                    division.files(&files).map(|f| files.iter().position(|g| g == f).unwrap()).collect();
                for file in mine {
                    (0..4).filter(|_| division.is_next()).count();
                    // Count again by number, for the check below.
                    let mut again = Division::new(&part, files.len());
                    for (record, count) in seen.iter_mut().enumerate() {
                        if again.is_next() && record / 4 == file {
                            *count += 1;
                        }
                    }
                }
            }
            assert!(seen.iter().all(|count| *count == 1), "{shards}: {seen:?}");
        }
        let topic = |name: &str, field: &str| Topic { topic: name.into(), field: field.into(), ..Topic::default() };
        let topics = [topic("Oak  tree", "A"), topic("oak_Tree", "B")];
        let filter = TitleFilter::new(&topics);
        let mut page = Page { title: "Oak tree".into(), ..Page::default() };
        filter.enter(&mut page);
        assert_eq!((page.field.as_str(), filter.wants("OAK TREE"), filter.wants("Elm")), ("A", true, false));
        assert!(TitleFilter::new(&[]).wants("Elm"));
    }
}
