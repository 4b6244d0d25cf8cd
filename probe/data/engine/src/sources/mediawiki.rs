//! A MediaWiki wiki by its `api.php`: search, pages as HTML, and what it states about images.

use super::division::enter;
use super::page_source::Each;
use super::{PageSource, Part};
use crate::fetch::{Client, FailureReason, FetchFailure, FetchOptions, Fetched};
use crate::html;
use crate::outline::ReadOptions;
use crate::page::{Figure, Licence, Page, Topic};
use crate::skips::Skips;
use burgess_base::{Error, Result, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use url::Url;

/// Number of titles in one request, the limit of MediaWiki.
const TITLES: usize = 50;
/// Largest length of the titles in one request in bytes; servers limit addresses to about 8,000.
const TITLES_LENGTH: usize = 5000;
/// Number of times that an answer is continued.
const CONTINUED: usize = 20;
/// Number of pages in a row that fail for reasons that may pass, after which the work stops.
const GIVE_UP: usize = 8;
/// Codes of errors after which the request is repeated.
const BUSY: [&str; 4] = ["maxlag", "ratelimited", "readonly", "internal_api_error_DBConnectionError"];

/// A wiki whose pages are searched by topic.
#[derive(Debug)]
pub struct MediaWiki {
    api: Api,
    pages_per_topic: usize,
    options: ReadOptions,
    site: OnceLock<SiteInfo>,
    /// Pages in a row that failed for reasons that may pass.
    failing: AtomicUsize,
}

/// What a wiki states about itself.
#[derive(Debug, Clone, Default)]
struct SiteInfo {
    /// Address of a page, with `$1` for its title.
    article: String,
    language: Option<String>,
    licence: Option<Licence>,
}

impl MediaWiki {
    /// Opens a wiki by the address of its `api.php`.
    ///
    /// # Errors
    /// The address is wrong.
    pub fn new(client: Arc<Client>, api: &str, pages_per_topic: usize, options: ReadOptions) -> Result<Self> {
        Ok(Self {
            api: Api::new(client, api)?,
            pages_per_topic,
            options,
            site: OnceLock::new(),
            failing: AtomicUsize::new(0),
        })
    }

    /// Finds and reads the pages of one topic, best first.
    ///
    /// # Errors
    /// The search fails for a reason that may pass: without it the topic would count as finished. A page that fails is
    /// counted, up to 8 in a row.
    pub fn topic(&self, topic: &Topic, skips: &mut Skips) -> Result<Vec<Page>> {
        let titles = match self.search(&topic.topic) {
            Ok(titles) => titles,
            // An interface that the settings do not allow is none for any topic: the work is not finished, so that it
            // goes on once `allow_hosts` names it.
            Err(ApiError::Fetch(failure))
                if failure.reason.is_transient() || failure.reason == FailureReason::PrivateAddress =>
            {
                return Err(Error::from(failure).context(format!("searching for `{}`", topic.topic)));
            }
            Err(e) => {
                e.count(&format!("search for `{}`", topic.topic), skips)?;
                return Ok(Vec::new());
            }
        };
        if titles.is_empty() {
            skips.add("no page was found for a topic", &topic.topic);
        }
        let mut pages: Vec<Page> = Vec::new();
        for title in titles {
            match self.page(&title, skips) {
                // Two titles may lead to one page.
                Ok(page) if pages.iter().any(|other| other.url == page.url) => {}
                Ok(mut page) => {
                    self.failing.store(0, Ordering::Relaxed);
                    enter(&mut page, topic);
                    pages.push(page);
                }
                Err(e) => {
                    let passes = e.count(&title, skips)?;
                    if passes && self.failing.fetch_add(1, Ordering::Relaxed) + 1 >= GIVE_UP {
                        let why =
                            format!("{GIVE_UP} pages in a row of {} failed; the last was `{title}`", self.api.url);
                        return Err(Error::failed(why)
                            .hint("check the network and the server, then start again: what was received is kept"));
                    }
                }
            }
        }
        Ok(pages)
    }

    /// Returns the titles that a search finds.
    fn search(&self, topic: &str) -> Result<Vec<String>, ApiError> {
        let limit = self.pages_per_topic.to_string();
        let query = [
            ("action", "query"),
            ("list", "search"),
            ("srsearch", topic),
            ("srnamespace", "0"),
            ("srlimit", limit.as_str()),
            ("srinfo", ""),
            ("srprop", ""),
        ];
        let mut titles: Vec<String> = Vec::new();
        self.api.each_part(&query, |answer| {
            let found = answer["query"]["search"].as_array().map_or(&[][..], Vec::as_slice);
            for title in found.iter().filter_map(|hit| hit["title"].as_str()) {
                if titles.len() < self.pages_per_topic && !titles.iter().any(|known| known == title) {
                    titles.push(title.to_string());
                }
            }
            titles.len() < self.pages_per_topic && !found.is_empty()
        })?;
        Ok(titles)
    }

    /// Reads one page with its images.
    fn page(&self, title: &str, skips: &mut Skips) -> Result<Page, ApiError> {
        let query = [
            ("action", "parse"),
            ("page", title),
            ("prop", "text"),
            ("redirects", "1"),
            ("disableeditsection", "1"),
            ("disabletoc", "1"),
        ];
        let answer = self.api.get(&query)?;
        let parsed = &answer["parse"];
        let text = parsed["text"].as_str().or_else(|| parsed["text"]["*"].as_str());
        let text = text.ok_or_else(|| ApiError::Odd("the answer has no `parse.text`".into()))?;
        let title = parsed["title"].as_str().unwrap_or(title);
        let site = self.site()?;
        let url = site.article.replace("$1", &encoded(title));
        let read = html::read(text, &url, &self.options).map_err(|e| ApiError::Odd(e.to_string()))?;
        for _ in 0..read.unusable_images {
            skips.add(super::NO_ADDRESS, &url);
        }
        let mut page = Page {
            url,
            title: title.to_string(),
            language: site.language.clone().or(read.language),
            licence: read.licence.or_else(|| site.licence.clone()),
            sections: read.sections,
            ..Page::default()
        };
        ImageLookup { api: self.api.clone() }.fill(&mut page, skips)?;
        Ok(page)
    }

    /// Returns what the wiki states about itself; asked once. A wiki that does not answer gets the usual addresses.
    fn site(&self) -> Result<&SiteInfo, ApiError> {
        if let Some(site) = self.site.get() {
            return Ok(site);
        }
        let query = [("action", "query"), ("meta", "siteinfo"), ("siprop", "general|rightsinfo")];
        let answer = match self.api.get(&query) {
            Ok(answer) => answer,
            Err(ApiError::Refused(..)) => Value::Null,
            Err(e) => return Err(e),
        };
        let (general, rights) = (&answer["query"]["general"], &answer["query"]["rightsinfo"]);
        let text = |value: &Value| value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_string);
        let path = text(&general["articlepath"]).filter(|path| path.contains("$1"));
        let article = match (text(&general["server"]), path) {
            (Some(server), Some(path)) => html::absolute(Some(&self.api.url), &server)
                .map(|server| server.trim_end_matches('/').to_string() + &path),
            _ => None,
        };
        let article = article.unwrap_or_else(|| {
            let mut url = self.api.url.clone();
            url.set_path("/wiki/");
            format!("{url}$1")
        });
        let licence = text(&rights["text"]).map(|name| Licence { name, url: text(&rights["url"]) });
        Ok(self.site.get_or_init(|| SiteInfo { article, language: text(&general["lang"]), licence }))
    }
}

impl PageSource for MediaWiki {
    fn description(&self) -> String {
        self.api.url.to_string()
    }

    fn searches(&self) -> bool {
        true
    }

    fn check(&self) -> Result<()> {
        self.api.client.check(self.api.url.as_str())
    }

    fn read(&self, part: &Part<'_>, skips: &mut Skips, each: Each<'_>) -> Result<()> {
        part.topics.iter().try_for_each(|topic| self.topic(topic, skips)?.into_iter().try_for_each(&mut *each))
    }
}

/// What a wiki states about images: address of the original, licence, author.
#[derive(Debug, Clone)]
pub struct ImageLookup {
    api: Api,
}

impl ImageLookup {
    /// Opens a wiki by the address of its `api.php`.
    ///
    /// # Errors
    /// The address is wrong.
    pub fn new(client: Arc<Client>, api: &str) -> Result<Self> {
        Ok(Self { api: Api::new(client, api)? })
    }

    /// Checks before long work that the wiki may be asked.
    ///
    /// # Errors
    /// A contact is needed.
    pub fn check(&self) -> Result<()> {
        self.api.client.check(self.api.url.as_str())
    }

    /// Enters addresses, licences and authors of the images of a page. Images that the wiki does not know are counted
    /// and stay as they are.
    ///
    /// # Errors
    /// A request fails.
    fn fill(&self, page: &mut Page, skips: &mut Skips) -> Result<(), ApiError> {
        let name = |figure: &Figure| {
            figure.file_page.as_deref().and_then(html::file_name).or_else(|| html::file_name(&figure.image))
        };
        let mut names: Vec<String> = page.figures().filter_map(name).collect();
        names.sort();
        names.dedup();
        let mut known = BTreeMap::new();
        let mut rest = names.as_slice();
        while !rest.is_empty() {
            let mut length = 0;
            let fits = |name: &&String| {
                length += encoded(name).len() + 8;
                length <= TITLES_LENGTH
            };
            let count = rest.iter().take(TITLES).take_while(fits).count().max(1);
            let (batch, after) = rest.split_at(count);
            rest = after;
            self.ask(batch, &mut known)?;
        }
        let url = page.url.clone();
        for figure in page.figures_mut() {
            let Some(name) = name(figure) else { continue };
            match known.get(&name) {
                Some(info) => enter_info(figure, info),
                None => skips.add("nothing is known about licence and author of an image", format!("{name} in {url}")),
            }
        }
        Ok(())
    }

    /// As [`ImageLookup::fill`], for sources whose pages stand without it: failures are counted.
    ///
    /// # Errors
    /// A request fails for a reason that stops the work.
    pub(super) fn fill_or_count(&self, page: &mut Page, skips: &mut Skips) -> Result<()> {
        match self.fill(page, skips) {
            Ok(()) => Ok(()),
            Err(e) => e.count(&format!("images of {}", page.url), skips).map(drop),
        }
    }

    /// Asks about files by their names, which are unique.
    fn ask(&self, names: &[String], known: &mut BTreeMap<String, Value>) -> Result<(), ApiError> {
        let titles = names.iter().map(|name| format!("File:{name}")).collect::<Vec<_>>().join("|");
        let query = [
            ("action", "query"),
            ("titles", titles.as_str()),
            ("prop", "imageinfo"),
            ("iiprop", "url|size|mime|extmetadata"),
            ("iiextmetadatafilter", "LicenseShortName|LicenseUrl|UsageTerms|Artist|Attribution|Credit"),
        ];
        self.api.each_part(&query, |answer| {
            // In the old format pages are an object by their number.
            let pages: Vec<&Value> = match &answer["query"]["pages"] {
                Value::Array(pages) => pages.iter().collect(),
                Value::Object(pages) => pages.values().collect(),
                _ => Vec::new(),
            };
            let renamed: BTreeMap<&str, &str> = answer["query"]["normalized"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|entry| Some((entry["to"].as_str()?, entry["from"].as_str()?)))
                .collect();
            for page in pages {
                let Some(title) = page["title"].as_str() else { continue };
                let info = &page["imageinfo"][0];
                for title in [Some(title), renamed.get(title).copied()].into_iter().flatten() {
                    if let Some((_, name)) = title.split_once(':').filter(|_| info.is_object()) {
                        known.insert(name.to_string(), info.clone());
                    }
                }
            }
            true
        })
    }
}

/// Enters what a wiki states about an image.
fn enter_info(figure: &mut Figure, info: &Value) {
    let web = |value: &Value| value.as_str().and_then(|url| html::absolute(None, url));
    // The original of a video or document is no image: its thumbnail stays.
    if info["mime"].as_str().is_none_or(|mime| mime.starts_with("image/"))
        && let Some(url) = web(&info["url"])
    {
        figure.image = url;
    }
    if let Some(page) = web(&info["descriptionurl"]) {
        figure.file_page = Some(page);
    }
    let metadata = |name: &str| {
        let value = info["extmetadata"][name]["value"].as_str()?;
        // Authors and licences are written in HTML.
        Some(html::plain_text(value)).filter(|text| !text.is_empty())
    };
    if let Some(name) = metadata("LicenseShortName").or_else(|| metadata("UsageTerms")) {
        figure.licence = Some(Licence { name, url: metadata("LicenseUrl") });
    }
    figure.author = metadata("Artist").or_else(|| metadata("Attribution")).or_else(|| metadata("Credit"));
}

/// The interface of a wiki.
#[derive(Debug, Clone)]
struct Api {
    client: Arc<Client>,
    url: Url,
}

/// Why a request to a wiki gave no answer that can be used.
enum ApiError {
    /// It could not be fetched.
    Fetch(FetchFailure),
    /// The wiki answered with an error: its code and its text.
    Refused(String, String),
    /// The answer is not what it should be.
    Odd(String),
}

impl ApiError {
    /// Counts the error; returns whether the same request may succeed later.
    ///
    /// # Errors
    /// Further requests would fail too.
    fn count(self, place: &str, skips: &mut Skips) -> Result<bool> {
        match self {
            Self::Fetch(failure) if failure.reason.is_fatal() => Err(failure.into()),
            Self::Fetch(failure) => {
                skips.add(failure.reason.name(), format!("{place}: {failure}"));
                Ok(failure.reason.is_transient())
            }
            Self::Refused(code, info) => {
                skips.add("the wiki answers with an error", format!("{place}: {code}: {info}"));
                Ok(false)
            }
            Self::Odd(why) => {
                skips.add("the page cannot be read", format!("{place}: {why}"));
                Ok(false)
            }
        }
    }
}

impl Api {
    fn new(client: Arc<Client>, api: &str) -> Result<Self> {
        let url = Url::parse(api).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.filter(|url| url.query().is_none() && url.fragment().is_none()).ok_or_else(|| {
            let found = text::excerpt(api, 200);
            Error::usage(format!("`api` is `{found}`, which is not the address of an api.php"))
                .hint("write the address without a query: https://en.wikipedia.org/w/api.php")
        })?;
        Ok(Self { client, url })
    }

    /// Sends a request.
    fn get(&self, query: &[(&str, &str)]) -> Result<Value, ApiError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(query).extend_pairs([
            ("format", "json"),
            ("formatversion", "2"),
            // The server refuses while its replicas lag, so that crawlers wait first.
            ("maxlag", "5"),
        ]);
        // robots.txt of Wikimedia disallows the folder of api.php to crawlers of pages; its rules for programs are the
        // contact, the rate and maxlag.
        let options = FetchOptions {
            accept: "application/json",
            robots: false,
            is_busy: Some(is_busy),
            ..FetchOptions::default()
        };
        let Fetched { bytes, .. } = self.client.get_with(url.as_str(), &options).map_err(ApiError::Fetch)?;
        // A page may hold bytes that are no UTF-8.
        let answer: Value = serde_json::from_str(&String::from_utf8_lossy(&bytes))
            .map_err(|e| ApiError::Odd(format!("the answer is no JSON: {e}")))?;
        let error = &answer["error"];
        if let Some(code) = error["code"].as_str() {
            let info = error["info"].as_str().unwrap_or_default();
            return Err(ApiError::Refused(text::excerpt(code, 100), text::excerpt(info, 200)));
        }
        match answer.is_object() {
            true => Ok(answer),
            false => Err(ApiError::Odd("the answer is no object".into())),
        }
    }

    /// Sends a request and its continuations, while `each` wants more.
    fn each_part(&self, query: &[(&str, &str)], mut each: impl FnMut(&Value) -> bool) -> Result<(), ApiError> {
        let mut continued: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..CONTINUED {
            let mut whole: Vec<(&str, &str)> = query.to_vec();
            whole.extend(continued.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            let answer = self.get(&whole)?;
            let next: BTreeMap<String, String> = answer["continue"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_string)))
                .collect();
            // A wiki that repeats itself has no more.
            if !each(&answer) || next.is_empty() || next == continued {
                return Ok(());
            }
            continued = next;
        }
        Ok(())
    }
}

/// Whether an answer says that the wiki is busy.
fn is_busy(body: &[u8]) -> bool {
    // An answer with an error is short; a page is long.
    let parsed = || serde_json::from_slice::<Value>(body).ok();
    body.len() < 64 << 10
        && body.windows(7).take(200).any(|window| window == b"\"error\"")
        && parsed().is_some_and(|answer| answer["error"]["code"].as_str().is_some_and(|code| BUSY.contains(&code)))
}

/// Encodes a title for the path of an address, as MediaWiki does: spaces as underscores.
pub(super) fn encoded(title: &str) -> String {
    let mut out = String::with_capacity(title.len());
    for byte in title.trim().replace(' ', "_").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b'(' | b')' | b',' | b';' | b'@' | b'!' | b'*' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
