//! The sources and kinds that occur in pools, by number.

use crate::mix::{Mix, StatedKinds, split_name};
use crate::names::source_key;
use crate::pool::{Entry, ImageRef};
use crate::table::UNKNOWN;
use burgess_base::Result;
use std::collections::HashMap;

/// Largest number of groups that are told apart; all further sources are counted as one, so that a pool with millions
/// of sources does not exhaust the memory.
pub const MOST_GROUPS: usize = 60_000;
const OTHER_SOURCES: &str = "other sources";

/// A source of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name: that of the mix, else that of the pool.
    pub name: String,
    /// Published number of entries.
    pub published: Option<u64>,
    /// Largest number of entries in the mix.
    pub take: Option<u64>,
    /// Whether the mix lists it.
    pub listed: bool,
}

/// A source with one kind of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Index of the source.
    pub source: usize,
    /// The kind.
    pub kind: String,
}

/// What a pool says of an entry's origin: source, first folders of its image, kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    source: String,
    folder: Option<String>,
    kind: Option<String>,
}

/// Finds the source and the kind of entries.
pub struct Registry {
    /// All sources: first those of the mix, then others in the order in which they occur.
    pub sources: Vec<Source>,
    /// Pairs of source and kind that occur.
    pub groups: Vec<Group>,
    /// Kind of each source, if the mix or the catalogue states one.
    kinds: Vec<Option<String>>,
    /// The sources by the key of a name; several if they are told apart by folders.
    by_key: HashMap<String, Vec<(Option<String>, usize)>>,
    stated: StatedKinds,
    group_numbers: HashMap<(usize, String), u16>,
    known: HashMap<Origin, u16>,
    /// Whether a name is told apart by the folder of its image.
    by_folder: bool,
}

impl Registry {
    /// Registers the sources of a mix.
    ///
    /// # Errors
    /// The catalogue does not exist.
    pub fn new(mix: &Mix) -> Result<Self> {
        let listed = mix.listed_sources()?;
        let mut registry = Self {
            sources: Vec::new(),
            groups: Vec::new(),
            kinds: Vec::new(),
            by_key: HashMap::new(),
            stated: StatedKinds::new(mix)?,
            group_numbers: HashMap::new(),
            known: HashMap::new(),
            by_folder: false,
        };
        for source in listed {
            let at = registry.sources.len();
            for name in std::iter::once(&source.name).chain(&source.from) {
                let (key, folder) = split_name(name);
                registry.by_folder |= folder.is_some();
                registry.by_key.entry(key).or_default().push((folder, at));
            }
            registry.kinds.push(registry.stated.of_listed(&source));
            registry.sources.push(Source {
                name: source.name,
                published: source.count,
                take: source.take,
                listed: true,
            });
        }
        // Longer folders first: `a/b` before `a`, and a name with any folder last.
        for named in registry.by_key.values_mut() {
            named.sort_by_key(|(folder, at)| (std::cmp::Reverse(folder.as_ref().map(String::len)), *at));
        }
        Ok(registry)
    }

    /// Returns the kind that the mix or the catalogue states for a source.
    pub fn kind_of(&self, source: usize) -> Option<&str> {
        self.kinds.get(source)?.as_deref()
    }

    /// Returns the group of an entry, if its origin occurred before.
    pub fn known(&self, entry: &Entry<'_>) -> Result<u16, Origin> {
        let origin = Origin {
            source: entry.source.to_string(),
            folder: self.by_folder.then(|| folder_of(entry)).flatten(),
            kind: entry.kind.map(String::from),
        };
        self.known.get(&origin).copied().ok_or(origin)
    }

    /// Returns the group of an origin, which is registered if it is new.
    pub fn register(&mut self, origin: Origin) -> u16 {
        if let Some(known) = self.known.get(&origin) {
            return *known;
        }
        let key = source_key(&origin.source);
        let folder = origin.folder.as_deref();
        let fits = |stated: &Option<String>| match stated.as_deref() {
            None => true,
            Some("") => folder.is_none(),
            Some(stated) => folder.is_some_and(|folder| {
                folder.strip_prefix(stated).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
        };
        let named = self.by_key.get(&key).and_then(|named| named.iter().find(|(folder, _)| fits(folder)));
        let full = self.groups.len() >= MOST_GROUPS;
        let source = match named.map(|(_, at)| *at) {
            Some(at) => at,
            None => self.other(if full { OTHER_SOURCES } else { &origin.source }),
        };
        let kind = match self.kinds.get(source).and_then(Option::as_ref) {
            Some(kind) => kind.clone(),
            None => match self.stated.of_key(&key) {
                Some(kind) => kind.clone(),
                None => origin.kind.clone().filter(|_| !full).unwrap_or_else(|| UNKNOWN.into()),
            },
        };
        let next = u16::try_from(self.groups.len()).unwrap_or(u16::MAX);
        let groups = &mut self.groups;
        let number = *self.group_numbers.entry((source, kind.clone())).or_insert_with(|| {
            groups.push(Group { source, kind });
            next
        });
        if self.known.len() < 4 * MOST_GROUPS {
            self.known.insert(origin, number);
        }
        number
    }

    /// Returns the number of a source that the mix does not list.
    fn other(&mut self, name: &str) -> usize {
        let key = format!("\0{name}");
        if let Some((_, at)) = self.by_key.get(&key).and_then(|named| named.first()) {
            return *at;
        }
        let at = self.sources.len();
        let shown = if name.is_empty() { "(no source)" } else { name };
        self.sources.push(Source { name: shown.to_string(), published: None, take: None, listed: false });
        self.kinds.push(None);
        self.by_key.insert(key, vec![(None, at)]);
        at
    }
}

/// Returns the folders of the first image's path: without the file name, at most two parts; `None` without an image.
fn folder_of(entry: &Entry<'_>) -> Option<String> {
    match entry.images.first()? {
        ImageRef::Path(path) => {
            let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
            Some(folders.split('/').take(2).collect::<Vec<_>>().join("/"))
        }
        // Only paths have folders that tell sources apart.
        ImageRef::Cell { .. } | ImageRef::Member { .. } => Some(String::new()),
    }
}
