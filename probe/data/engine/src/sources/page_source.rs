//! The trait of all sources, and their table in a configuration.

use super::division::{Division, TitleFilter};
use super::{ImageLookup, MediaWiki, folder, structured, warc, wikiweb2m, xml_dump};
use crate::fetch::Client;
use crate::outline::ReadOptions;
use crate::page::{Page, Topic};
use crate::skips::Skips;
use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The part of a source that one shard reads.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The topics of this shard. A source that searches looks for each; one that does not keeps the pages whose title
    /// is one of them, or all pages if there are none.
    pub topics: &'a [Topic],
    /// Number of the shard, from 0. Only sources without search divide their pages by it, and only without topics.
    pub shard: usize,
    /// Number of shards.
    pub shards: usize,
}

/// Receives the pages one by one.
pub(super) type Each<'a> = &'a mut dyn FnMut(Page) -> Result<()>;

/// Where pages come from.
pub trait PageSource: Send + Sync + fmt::Debug {
    /// Returns a short description for messages: the address of the interface, or the first file.
    fn description(&self) -> String;

    /// Whether pages are searched by topic, so that topics are needed.
    fn searches(&self) -> bool {
        false
    }

    /// Checks before long work that files exist and a contact is given.
    ///
    /// # Errors
    /// What is missing.
    fn check(&self) -> Result<()>;

    /// Reads the pages of a part, in the same order each time. What cannot be read is counted with its place.
    ///
    /// # Errors
    /// The source fails as a whole, or `each` does.
    fn read(&self, part: &Part<'_>, skips: &mut Skips, each: Each<'_>) -> Result<()>;
}

/// A source in a configuration: its kind and its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceConfig {
    /// The search of a MediaWiki wiki, by its `api.php`.
    Mediawiki {
        /// Address of the interface, such as `https://en.wikipedia.org/w/api.php`.
        api: String,
        /// Number of pages for each topic.
        #[serde(default = "default_pages")]
        pages_per_topic: usize,
    },
    /// XML dumps of a wiki (`…-pages-articles.xml`), plain or compressed by bzip2, gzip or zstd.
    WikiDump {
        /// The files.
        files: Vec<PathBuf>,
        /// Address of the wiki's `api.php`, which states address, licence and author of each image. Without it images
        /// have the address `Special:FilePath/NAME`, and neither licence nor author.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(!skip_serializing_if)]
        api: Option<String>,
    },
    /// Wikimedia's structured contents, one JSON object per line (`wikimedia/structured-wikipedia`).
    Structured {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A folder of HTML pages.
    HtmlFolder {
        /// The folder, which is searched with its subfolders for `.html`, `.htm` and `.xhtml`.
        folder: PathBuf,
        /// Address that stands for the folder, for pages that do not state their own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(!skip_serializing_if)]
        base_url: Option<String>,
    },
    /// Crawls in WARC files, plain or compressed.
    Warc {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// WikiWeb2M's TFRecord files.
    Wikiweb2m {
        /// The files.
        files: Vec<PathBuf>,
    },
}

/// The default number of pages for each topic.
fn default_pages() -> usize {
    3
}

impl SourceConfig {
    /// Returns the source with relative paths joined to `dir`, the directory of the file that states them.
    #[must_use]
    pub fn below(&self, dir: &Path) -> Self {
        let mut source = self.clone();
        match &mut source {
            Self::Mediawiki { .. } => {}
            Self::HtmlFolder { folder, .. } => *folder = dir.join(&*folder),
            Self::WikiDump { files, .. }
            | Self::Structured { files }
            | Self::Warc { files }
            | Self::Wikiweb2m { files } => files.iter_mut().for_each(|file| *file = dir.join(&*file)),
        }
        source
    }

    /// Opens the source. `client` asks wikis; sources on this machine need none, except for images of a dump.
    ///
    /// # Errors
    /// An option is wrong, or a client is needed.
    pub fn open(&self, options: &ReadOptions, client: Option<&Arc<Client>>) -> Result<Box<dyn PageSource>> {
        let client = || {
            let hint = "give options of fetching, or remove `api`";
            client.cloned().ok_or_else(|| Error::usage("the source asks a server, but there is no client").hint(hint))
        };
        let options = *options;
        Ok(match self {
            Self::Mediawiki { api, pages_per_topic } => {
                if !(1..=500).contains(pages_per_topic) {
                    let found = format!("`pages_per_topic` is {pages_per_topic}, must be from 1 to 500");
                    return Err(Error::usage(found));
                }
                Box::new(MediaWiki::new(client()?, api, *pages_per_topic, options)?)
            }
            Self::WikiDump { files, api } => {
                let lookup = api.as_ref().map(|api| ImageLookup::new(client()?, api)).transpose()?;
                Box::new(xml_dump::XmlDump { files: files.clone(), lookup, options })
            }
            Self::Structured { files } => Box::new(structured::Structured { files: files.clone(), options }),
            Self::HtmlFolder { folder, base_url } => {
                Box::new(folder::HtmlFolder { folder: folder.clone(), base_url: base_url.clone(), options })
            }
            Self::Warc { files } => Box::new(warc::WarcFiles { files: files.clone(), options }),
            Self::Wikiweb2m { files } => Box::new(wikiweb2m::WikiWeb2m { files: files.clone(), options }),
        })
    }
}

/// What the readers of files share: which records a shard reads, and where pages go.
pub(super) struct Reading<'a, 'b> {
    pub division: Division,
    pub titles: TitleFilter<'a>,
    pub skips: &'b mut Skips,
    pub each: Each<'b>,
}

impl<'a, 'b> Reading<'a, 'b> {
    pub fn new(part: &Part<'a>, files: usize, skips: &'b mut Skips, each: Each<'b>) -> Self {
        // The topics of a shard already divide the pages.
        let whole = Part { shard: 0, shards: 1, ..*part };
        let division = Division::new(if part.topics.is_empty() { part } else { &whole }, files);
        Self { division, titles: TitleFilter::new(part.topics), skips, each }
    }

    /// Gives a page on, if its title is wanted.
    pub fn page(&mut self, mut page: Page) -> Result<()> {
        if !self.titles.wants(&page.title) {
            return Ok(());
        }
        self.titles.enter(&mut page);
        (self.each)(page)
    }
}

/// Reads a file of this kind in memory.
pub(super) fn read_bytes(kind: &str, bytes: &[u8], options: &ReadOptions) -> Result<(Vec<Page>, Skips)> {
    let dir = burgess_base::temporary::TemporaryPath::beside(&std::env::temp_dir().join("burgess-source"));
    std::fs::create_dir_all(dir.path())?;
    let file = dir.path().join("input.html");
    std::fs::write(&file, bytes)?;
    let files = vec![file];
    let config = match kind {
        "wiki-dump" => SourceConfig::WikiDump { files, api: None },
        "structured" => SourceConfig::Structured { files },
        "html-folder" => SourceConfig::HtmlFolder { folder: dir.path().to_path_buf(), base_url: None },
        "warc" => SourceConfig::Warc { files },
        "wikiweb2m" => SourceConfig::Wikiweb2m { files },
        other => return Err(Error::usage(format!("there is no source `{other}` of files"))),
    };
    let (mut pages, mut skips) = (Vec::new(), Skips::default());
    let part = Part { topics: &[], shard: 0, shards: 1 };
    config.open(options, None)?.read(&part, &mut skips, &mut |page| {
        pages.push(page);
        Ok(())
    })?;
    Ok((pages, skips))
}
