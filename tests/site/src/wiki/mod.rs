//! A small MediaWiki-shaped server.

mod api;
mod article;
mod drawing;
mod dumps;
mod files;
mod hostile;
mod html;

pub use hostile::Hostile;

use crate::fault::{Fault, FaultPlan, Faults};
use crate::http::{Reply, Request, RequestRecord, Server};
use crate::random;
use article::Article;
use files::WikiFiles;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When all pages were changed last.
const MODIFIED: Duration = Duration::from_secs(1_709_290_800);

/// What `/robots.txt` is.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Robots {
    /// Everything is allowed except `/private/`, and `/w/` apart from `api.php`.
    #[default]
    Ordinary,
    /// As the ordinary one, and clients wait this many seconds between two requests.
    CrawlDelay(f64),
    /// This text.
    Text(String),
    /// An answer with this status.
    Status(u16),
    /// Two million lines (60 MB), of which the last forbids everything.
    Huge,
}

/// Options of a [`WikiSite`].
#[derive(Debug, Clone)]
pub struct WikiOptions {
    /// Port; 0 takes any free one.
    pub port: u16,
    /// Faults of all addresses.
    pub plan: Option<FaultPlan>,
    /// Rules for robots.
    pub robots: Robots,
    /// Whether the hostile pages are found by a search.
    pub hostile: bool,
    /// Number of articles, at most 12; fewer make a smaller wiki.
    pub articles: usize,
    /// Time before every answer.
    pub delay: Duration,
    /// Whether images are on a second host (another port), as those of Wikipedia are.
    pub uploads_elsewhere: bool,
    /// Whether requests without a `User-Agent` that names a contact are answered; Wikimedia refuses them.
    pub allow_anonymous: bool,
}

impl Default for WikiOptions {
    fn default() -> Self {
        Self {
            port: 0,
            plan: None,
            robots: Robots::Ordinary,
            hostile: false,
            articles: 12,
            delay: Duration::ZERO,
            uploads_elsewhere: false,
            allow_anonymous: false,
        }
    }
}

/// What the threads of the servers share.
struct Wiki {
    options: WikiOptions,
    articles: Vec<Article>,
    files: &'static WikiFiles,
    faults: Mutex<Faults>,
    /// Addresses of the site, of its images and of the private service: scheme, host and port.
    base: OnceLock<String>,
    uploads: OnceLock<String>,
    secret: OnceLock<String>,
}

/// What a section of an article says, for comparison with what a reader makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WikiSection {
    /// Heading; empty for the lead section.
    pub title: String,
    /// Level of the heading; 0 for the lead section.
    pub level: usize,
    /// Paragraphs, separated by a line feed; empty for a list of references or links.
    pub text: String,
    /// File names and captions of the images outside of tables, in the order of the source.
    pub figures: Vec<(String, String)>,
}

/// A running wiki.
///
/// | address | is |
/// |---|---|
/// | `/w/api.php` | `action=query` with `list=search`, `prop=images`, `prop=imageinfo`, `generator=images`; `action=parse` |
/// | `/wiki/TITLE`, `/wiki/File:NAME` | a page, the page of a file |
/// | `/images/…`, `/images/thumb/…` | an image file, a thumbnail |
/// | `/robots.txt` | see [`Robots`] |
/// | `/private/…` | pages that `robots.txt` forbids |
/// | `/redirect?to=ADDRESS`, `/chain/N`, `/loop/1` | a redirect, N redirects to an article, redirects without end |
/// | `/elsewhere` | a redirect to the same server under the name `localhost` |
pub struct WikiSite {
    server: Server,
    uploads: Option<Server>,
    secret: Server,
    wiki: Arc<Wiki>,
}

/// The name of a title in addresses.
fn http_name(title: &str) -> String {
    crate::http::encoded(title)
}

impl WikiSite {
    /// Starts a wiki.
    ///
    /// # Panics
    /// The port is taken.
    pub fn start(options: WikiOptions) -> Self {
        // Drawn once per process.
        static FILES: OnceLock<WikiFiles> = OnceLock::new();
        let all = Article::all();
        let files = FILES.get_or_init(|| WikiFiles::new(&all));
        let articles = all.into_iter().take(options.articles).collect();
        let (port, elsewhere) = (options.port, options.uploads_elsewhere);
        let faults = Mutex::new(Faults::new(options.plan.clone()));
        let wiki = Arc::new(Wiki {
            options,
            articles,
            files,
            faults,
            base: OnceLock::new(),
            uploads: OnceLock::new(),
            secret: OnceLock::new(),
        });
        let start = |host, port| {
            let wiki = Arc::clone(&wiki);
            Server::start(host, port, Box::new(move |request: &Request| wiki.reply(request)))
        };
        let server = start("127.0.0.1", port);
        let uploads = elsewhere.then(|| start("127.0.0.1", 0));
        let page = Reply::text(200, "image/png", "a secret of the local network");
        let secret = Server::start("127.0.0.2", 0, Box::new(move |_| (page.clone(), false)));
        let address = |server: &Server| format!("http://{}", server.authority());
        wiki.base.get_or_init(|| address(&server));
        wiki.uploads.get_or_init(|| address(uploads.as_ref().unwrap_or(&server)));
        wiki.secret.get_or_init(|| secret.authority());
        Self { server, uploads, secret, wiki }
    }

    /// Address of the site without a slash at its end, such as `http://127.0.0.1:8080`.
    pub fn base_url(&self) -> String {
        self.wiki.base().into()
    }

    /// Address of a path of the site.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.wiki.base())
    }

    /// Address of `api.php`.
    pub fn api_url(&self) -> String {
        self.url("/w/api.php")
    }

    /// Address of the host that has the images; the site itself unless they are elsewhere.
    pub fn uploads_url(&self) -> String {
        self.wiki.uploads().into()
    }

    /// Requests so far, of both hosts, in the order of their times.
    pub fn requests(&self) -> Vec<RequestRecord> {
        let mut log = self.server.log();
        log.extend(self.uploads.iter().flat_map(Server::log));
        log.sort_by_key(|record| record.at);
        log
    }

    /// Empties the log of requests.
    pub fn clear_requests(&self) {
        self.server.clear_log();
        self.uploads.iter().for_each(Server::clear_log);
    }

    /// Requests to a private service at 127.0.0.2, to which hostile pages and redirects lead. There must be none.
    pub fn secret_requests(&self) -> Vec<RequestRecord> {
        self.secret.log()
    }

    /// Host and port of the private service.
    pub fn secret_authority(&self) -> String {
        self.secret.authority()
    }

    /// Applies a fault to the next `times` requests for which `METHOD path?query` contains `part`.
    pub fn fail(&self, part: &str, times: usize, fault: Fault) {
        self.wiki.faults.lock().expect("no thread panicked").add(part, times, fault);
    }

    /// Removes all faults, and the plan.
    pub fn recover(&self) {
        self.wiki.faults.lock().expect("no thread panicked").clear();
    }

    /// Titles of the articles.
    pub fn titles(&self) -> Vec<String> {
        self.wiki.articles.iter().map(|article| article.title.clone()).collect()
    }

    /// The sections of an article as they were written; empty if there is no article of this title.
    pub fn sections(&self, title: &str) -> Vec<WikiSection> {
        let sections = self.wiki.article(title).map_or(&[][..], |article| &article.sections);
        let section = |section: &article::ArticleSection| {
            let (first, second) = section.paragraphs();
            let text = if second.is_empty() { first.to_string() } else { format!("{first}\n{second}") };
            let figures = section.figures.iter().filter(|figure| figure.style != article::FigureStyle::Infobox);
            let figures = figures.map(|figure| (figure.file.clone(), figure.caption.clone())).collect();
            WikiSection { title: section.title.clone(), level: section.level, text, figures }
        };
        sections.iter().map(section).collect()
    }

    /// The content of a hostile page, which need not be UTF-8.
    pub fn hostile_page(&self, page: Hostile) -> Vec<u8> {
        page.html(self.wiki.uploads(), self.wiki.secret())
    }

    /// Bytes of an image file, such as `Lamp room.png`.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.wiki.files.get(name).map(|file| file.bytes().to_vec())
    }

    /// Address of an image file.
    pub fn file_url(&self, name: &str) -> String {
        format!("{}/images/{}/{}", self.wiki.uploads(), files::directory(name), http_name(name))
    }

    /// The benchmark image, as PNG, that is also `Chart on the wall.png` of the article on windmills.
    pub fn benchmark_image() -> Vec<u8> {
        files::benchmark()
    }
}

impl Wiki {
    fn base(&self) -> &str {
        self.base.get().map_or("", String::as_str)
    }

    fn uploads(&self) -> &str {
        self.uploads.get().map_or("", String::as_str)
    }

    fn secret(&self) -> &str {
        self.secret.get().map_or("", String::as_str)
    }

    /// The article or redirect of a title, with the title it was found under.
    fn article(&self, title: &str) -> Option<&Article> {
        let title = title.replace('_', " ");
        let same = |known: &str| {
            // The first letter of a title is always a capital.
            let mut letters = title.chars();
            let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            known == first + letters.as_str()
        };
        self.articles.iter().find(|article| same(&article.title) || article.redirects.iter().any(|r| same(r)))
    }

    fn hostile(&self, title: &str) -> Option<Hostile> {
        let title = title.replace('_', " ");
        Hostile::ALL.into_iter().find(|page| page.title() == title)
    }

    /// The content of a page as HTML, with its canonical title.
    fn content(&self, title: &str) -> Option<(String, Vec<u8>)> {
        let scheme_relative = self.uploads().trim_start_matches("http:");
        if let Some(article) = self.article(title) {
            return Some((article.title.clone(), html::content(article, self.files, scheme_relative).into_bytes()));
        }
        let page = self.hostile(title)?;
        Some((page.title().into(), page.html(self.uploads(), self.secret())))
    }

    fn reply(&self, request: &Request) -> (Reply, bool) {
        let fault = self.faults.lock().expect("no thread panicked").choose(request);
        let agent = request.header("user-agent");
        let mut reply = if !(self.options.allow_anonymous || agent.contains('@') || agent.contains("http")) {
            let text = "Please set a user-agent and respect our robot policy https://w.wiki/4wJS. See also T400119.\n";
            Reply::text(403, "text/plain; charset=utf-8", text)
        } else {
            self.ordinary(request)
        };
        reply.delay = self.options.delay;
        match fault {
            Some(fault) => (fault.apply(reply), true),
            None => (reply, false),
        }
    }

    fn ordinary(&self, request: &Request) -> Reply {
        let html = "text/html; charset=UTF-8";
        let moved = |to: &str| Reply::text(302, "text/plain", "moved").with("Location", to);
        let path = request.path.as_str();
        if path == "/w/api.php" {
            return api::reply(self, request);
        }
        if path == "/robots.txt" {
            let robots = self.robots();
            // The tag of a huge one would take longer than a client waits.
            return if self.options.robots == Robots::Huge { robots } else { cached(request, robots) };
        }
        if path == "/redirect" {
            return moved(request.parameter("to"));
        }
        if path == "/elsewhere" {
            let port = self.base().rsplit(':').next().unwrap_or_default();
            return moved(&format!("http://localhost:{port}/wiki/Lighthouse"));
        }
        if let Some(left) = path.strip_prefix("/chain/").and_then(|n| n.parse::<usize>().ok()) {
            return if left == 0 { moved("/wiki/Lighthouse") } else { moved(&format!("/chain/{}", left - 1)) };
        }
        if let Some(number) = path.strip_prefix("/loop/") {
            return moved(if number.starts_with('1') { "/loop/2" } else { "/loop/1" });
        }
        if let Some(name) = path.strip_prefix("/wiki/File:") {
            return match self.files.get(name) {
                Some(file) => Reply::text(200, html, &html::page(&format!("File:{}", file.name), "<p>A file.</p>")),
                None => Reply::text(404, html, "<!DOCTYPE html><title>Not found</title>"),
            };
        }
        if let Some(title) = path.strip_prefix("/wiki/") {
            let Some((title, content)) = self.content(title) else {
                return Reply::text(404, html, &html::page(title, "<p>There is no page with this title.</p>"));
            };
            // Put around the content as bytes, because a hostile page is not UTF-8.
            let page = html::page(&title, "\u{1}");
            let (before, after) = page.split_once('\u{1}').unwrap_or((&page, ""));
            return cached(request, Reply::bytes(200, html, [before.as_bytes(), &content, after.as_bytes()].concat()));
        }
        if path.starts_with("/private/") {
            return Reply::text(200, html, &html::page("Private", "<p>Robots must not read this.</p>"));
        }
        self.image(path).map_or_else(|| Reply::text(404, html, "not found"), |reply| cached(request, reply))
    }

    /// An image file or a thumbnail.
    fn image(&self, path: &str) -> Option<Reply> {
        if let Some(rest) = path.strip_prefix("/images/thumb/") {
            let mut parts = rest.split('/').skip(2);
            let (name, thumbnail) = (parts.next()?, parts.next()?);
            let width = thumbnail.split_once("px-")?.0.parse().ok()?;
            return Some(Reply::bytes(200, "image/png", self.files.thumbnail(name, width)?));
        }
        let file = self.files.get(path.strip_prefix("/images/")?.splitn(3, '/').nth(2)?)?;
        Some(Reply::bytes(200, file.mime, file.bytes().to_vec()))
    }

    fn robots(&self) -> Reply {
        let ordinary = "# Test wiki\nUser-agent: *\nAllow: /w/api.php\nDisallow: /w/\nDisallow: /private/\n";
        let text = match &self.options.robots {
            Robots::Ordinary => ordinary.to_string(),
            Robots::CrawlDelay(seconds) => format!("{ordinary}Crawl-delay: {seconds}\n"),
            Robots::Text(text) => text.clone(),
            Robots::Status(status) => return Reply::text(*status, "text/plain", "no robots.txt"),
            Robots::Huge => {
                static HUGE: OnceLock<String> = OnceLock::new();
                let text = || "Disallow: /a/path/that/is/long\n".repeat(2_000_000) + "User-agent: *\nDisallow: /\n";
                return Reply::text(200, "text/plain; charset=utf-8", HUGE.get_or_init(text));
            }
        };
        Reply::text(200, "text/plain; charset=utf-8", &text)
    }
}

/// Adds `ETag` and `Last-Modified` to an answer, which is 304 if the client already has it.
fn cached(request: &Request, reply: Reply) -> Reply {
    let tag = format!("\"{:016x}\"", random::hash(9, reply.body.bytes()));
    let modified = UNIX_EPOCH + MODIFIED;
    let since = httpdate::parse_http_date(request.header("if-modified-since")).ok();
    let known = match request.header("if-none-match") {
        "" => since.is_some_and(|since: SystemTime| since >= modified),
        tags => tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag || known.trim() == "*"),
    };
    let reply = if known && reply.status == 200 { Reply::bytes(304, "text/plain", Vec::new()) } else { reply };
    reply.with("ETag", &tag).with("Last-Modified", &httpdate::fmt_http_date(modified))
}
